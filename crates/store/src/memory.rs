//! The engine without a disk: for tests, simulation, and clusters that nobody will miss.

use crate::contract::*;
use crate::engine::{Engine, Write};
use crate::expiry::Expiries;
use crate::index::Index;
use async_trait::async_trait;
use parking_lot::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Weak};
use tokio::sync::Notify;
use tokio::time::Instant;

#[derive(Clone, Debug)]
pub struct Options {
    /// History is cut back to this many revisions whenever it is twice as long.
    pub history_revisions: u64,
}

impl Default for Options {
    fn default() -> Self {
        Options { history_revisions: 50_000 }
    }
}

pub fn open() -> Arc<dyn Store> {
    open_with(Options::default())
}

pub fn open_with(options: Options) -> Arc<dyn Store> {
    Arc::new_cyclic(|this| Memory {
        this: this.clone(),
        options,
        index: Arc::default(),
        writer: Mutex::default(),
        earlier_expiry: Arc::default(),
        expiring: AtomicBool::new(false),
    })
}

struct Memory {
    this: Weak<Memory>,
    options: Options,
    index: Arc<Index>,
    writer: Mutex<Writer>,
    /// Told when a key came that is due before all others.
    earlier_expiry: Arc<Notify>,
    expiring: AtomicBool,
}

#[derive(Default)]
struct Writer {
    expiries: Expiries<Instant>,
}

impl Memory {
    fn write_now(&self, key: &str, write: Write) -> Result<Cas> {
        let mut writer = self.writer.lock();
        if self.index.is_closed() {
            return Err(Error::Closed);
        }
        let effect = match write.decide(self.index.newest(key)) {
            Ok(effect) => effect,
            Err(current) => return Ok(Cas::Conflict(current)),
        };
        let revision = Revision(self.index.revision().0 + 1);
        let due = effect.ttl().map(|ttl| Instant::now() + ttl);
        let (event, done) = effect.at(key, revision);
        if let Change::Put { prev: Some(prev), .. } | Change::Delete { prev } = &event.change {
            writer.expiries.remove(prev.mod_revision);
        }
        if let Some(due) = due {
            let first = writer.expiries.next();
            writer.expiries.insert(due, revision, event.change.key().clone());
            if first.is_none_or(|first| due < first) {
                self.earlier_expiry.notify_one();
            }
        }
        self.index.apply(vec![event], revision);
        if revision.0 - self.index.compacted().0 > 2 * self.options.history_revisions {
            self.index.compact(Revision(revision.0 - self.options.history_revisions));
        }
        Ok(done)
    }

    fn expire(&self) -> Option<Instant> {
        loop {
            let due = self.writer.lock().expiries.due(Instant::now(), 256);
            if due.is_empty() {
                return self.writer.lock().expiries.next();
            }
            for (key, revision) in due {
                // A conflict means that someone wrote the key just now, and took the timer along.
                let _ = self.write_now(&key, Write::Delete { expected: Some(revision) });
                self.writer.lock().expiries.remove(revision);
            }
        }
    }
}

/// Sleeps until the next key is due; ends with the store.
async fn expire_when_due(memory: Weak<Memory>, earlier: Arc<Notify>) {
    loop {
        let next = match memory.upgrade() {
            Some(memory) if !memory.index.is_closed() => memory.expire(),
            _ => return,
        };
        match next {
            Some(at) => {
                tokio::select! { () = tokio::time::sleep_until(at) => {} () = earlier.notified() => {} }
            }
            None => earlier.notified().await,
        }
    }
}

impl Drop for Memory {
    fn drop(&mut self) {
        self.earlier_expiry.notify_one();
    }
}

#[async_trait]
impl Engine for Memory {
    fn index(&self) -> &Arc<Index> {
        &self.index
    }

    async fn barrier(&self) -> Result<Revision> {
        Ok(self.index.revision())
    }

    async fn write(&self, key: &str, write: Write) -> Result<Cas> {
        let expires = matches!(&write, Write::Create { ttl: Some(_), .. } | Write::Update { ttl: Some(_), .. });
        if expires && !self.expiring.swap(true, Ordering::Relaxed) {
            tokio::spawn(expire_when_due(self.this.clone(), self.earlier_expiry.clone()));
        }
        self.write_now(key, write)
    }

    async fn compact(&self, revision: Revision) -> Result<()> {
        let current = self.index.revision();
        if revision > current {
            return Err(Error::Future { asked: revision, current });
        }
        self.index.compact(revision);
        Ok(())
    }

    fn disk_bytes(&self) -> u64 {
        0
    }

    async fn shutdown(&self) {
        let _writer = self.writer.lock();
        self.index.close();
        self.earlier_expiry.notify_one();
    }
}
