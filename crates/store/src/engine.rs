//! What an engine has to bring: a way to make writes durable and ordered. Everything else is the index's.
//!
//! [`Engine`] is that small part; every engine is a [`Store`] by the blanket implementation below.

use crate::contract::*;
use crate::index::Index;
use async_trait::async_trait;
use bytes::Bytes;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

/// A conditional write of one key.
#[derive(Clone, Debug)]
pub(crate) enum Write {
    Create { value: Bytes, ttl: Option<Duration> },
    Update { value: Bytes, expected: Revision, ttl: Option<Duration> },
    Delete { expected: Option<Revision> },
}

/// What a write does to a key whose condition held.
#[derive(Debug)]
pub(crate) enum Effect {
    Put { value: Bytes, ttl: Option<Duration>, prev: Option<Entry> },
    Delete { prev: Entry },
}

impl Write {
    /// Does the condition hold for the key's present version? `Err` is the conflict.
    pub(crate) fn decide(self, current: Option<Entry>) -> std::result::Result<Effect, Option<Entry>> {
        match (self, current) {
            (Write::Create { value, ttl }, None) => Ok(Effect::Put { value, ttl, prev: None }),
            (Write::Update { value, expected, ttl }, Some(prev)) if prev.mod_revision == expected => {
                Ok(Effect::Put { value, ttl, prev: Some(prev) })
            }
            (Write::Delete { expected }, Some(prev)) if expected.is_none_or(|e| e == prev.mod_revision) => {
                Ok(Effect::Delete { prev })
            }
            (_, current) => Err(current),
        }
    }
}

impl Effect {
    pub(crate) fn ttl(&self) -> Option<Duration> {
        match self {
            Effect::Put { ttl, .. } => *ttl,
            Effect::Delete { .. } => None,
        }
    }

    /// The change that takes `revision`, and what the writer gets to see of it.
    pub(crate) fn at(self, key: &str, revision: Revision) -> (Event, Cas) {
        match self {
            Effect::Put { value, prev, .. } => {
                let (key, create_revision) = match &prev {
                    // The key's string is shared by all of its versions.
                    Some(prev) => (prev.key.clone(), prev.create_revision),
                    None => (key.into(), revision),
                };
                let entry = entry(key, value, create_revision, revision);
                let done = Cas::Done { entry: entry.clone(), revision };
                (Event { revision, change: Change::Put { entry, prev } }, done)
            }
            Effect::Delete { prev } => {
                let done = Cas::Done { entry: prev.clone(), revision };
                (Event { revision, change: Change::Delete { prev } }, done)
            }
        }
    }
}

pub(crate) fn entry(key: Arc<str>, value: Bytes, create_revision: Revision, mod_revision: Revision) -> Entry {
    Arc::new(KeyValue { key, value, create_revision, mod_revision, memo: OnceLock::new() })
}

#[async_trait]
pub(crate) trait Engine: Send + Sync + 'static {
    fn index(&self) -> &Arc<Index>;
    async fn barrier(&self) -> Result<Revision>;
    async fn write(&self, key: &str, write: Write) -> Result<Cas>;
    async fn compact(&self, revision: Revision) -> Result<()>;
    /// Nothing to do where what is durable lies elsewhere.
    async fn reseal(&self) -> Result<bool> {
        Ok(false)
    }
    /// A value as it was stored, made plain where it can be.
    fn opened(&self, _key: &str, stored: Bytes) -> Bytes {
        stored
    }
    fn disk_bytes(&self) -> u64;
    async fn shutdown(&self);
}

#[async_trait]
impl<E: Engine> Store for E {
    async fn barrier(&self) -> Result<Revision> {
        Engine::barrier(self).await
    }
    fn revision(&self) -> Revision {
        self.index().revision()
    }
    fn compacted(&self) -> Revision {
        self.index().compacted()
    }
    fn get(&self, key: &str) -> Option<Entry> {
        self.index().get(key)
    }
    fn get_at(&self, key: &str, revision: Revision) -> Result<Option<Entry>> {
        self.index().get_at(key, revision)
    }
    fn list(&self, prefix: &str, options: &ListOptions) -> Result<Page> {
        self.index().list(prefix, options)
    }
    fn count(&self, prefix: &str) -> u64 {
        self.index().count(prefix)
    }
    fn watch(&self, prefix: &str, after: Revision) -> Result<Box<dyn Watcher>> {
        self.index().watch(prefix, after)
    }
    async fn create(&self, key: &str, value: Bytes, ttl: Option<Duration>) -> Result<Cas> {
        self.write(key, Write::Create { value, ttl }).await
    }
    async fn update(&self, key: &str, value: Bytes, expected: Revision, ttl: Option<Duration>) -> Result<Cas> {
        self.write(key, Write::Update { value, expected, ttl }).await
    }
    async fn delete(&self, key: &str, expected: Option<Revision>) -> Result<Cas> {
        self.write(key, Write::Delete { expected }).await
    }
    async fn compact(&self, revision: Revision) -> Result<()> {
        Engine::compact(self, revision).await
    }
    async fn reseal(&self) -> Result<bool> {
        Engine::reseal(self).await
    }
    fn reopen(&self) -> usize {
        self.index().reopen(|key, stored| self.opened(key, stored))
    }
    fn disk_bytes(&self) -> u64 {
        Engine::disk_bytes(self)
    }
    async fn shutdown(&self) {
        Engine::shutdown(self).await
    }
}
