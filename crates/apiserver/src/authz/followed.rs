//! An index in memory over a few resources that is never behind the store.
//!
//! In: the store's history of some prefixes. Out: the index, brought up to date by whoever reads it next. So a
//! right that was just granted counts for the very next request, without a task, a timer or a rebuild.

use crate::reader::{Reader, prefix};
use futures::FutureExt;
use parking_lot::{Mutex, RwLock, RwLockReadGuard};
use std::sync::atomic::{AtomicU64, Ordering};
use store::{Change, Entry, ListOptions, Revision, Watcher};

/// Changes that are taken from the store at a time.
const BATCH: usize = 256;

pub trait Index: Default + Send + Sync + 'static {
    /// (group, resource) of what it is made of.
    const RESOURCES: &'static [(&'static str, &'static str)];
    /// `which`: position in `RESOURCES`.
    fn put(&mut self, which: usize, entry: &Entry);
    fn delete(&mut self, which: usize, entry: &Entry);
}

pub struct Followed<I: Index> {
    reader: Reader,
    index: RwLock<I>,
    /// The store's revision that `index` has seen.
    seen: AtomicU64,
    watchers: Mutex<Vec<Box<dyn Watcher>>>,
}

impl<I: Index> Followed<I> {
    pub fn new(reader: Reader) -> Followed<I> {
        Followed { reader, index: RwLock::default(), seen: AtomicU64::new(u64::MAX), watchers: Mutex::default() }
    }

    pub fn reader(&self) -> &Reader {
        &self.reader
    }

    /// The index as of everything that the store shows now.
    pub fn get(&self) -> RwLockReadGuard<'_, I> {
        let now = self.reader.store().revision().0;
        let seen = self.seen.load(Ordering::Acquire);
        if seen == u64::MAX || seen < now {
            self.catch_up();
        }
        self.index.read()
    }

    fn catch_up(&self) {
        let mut watchers = self.watchers.lock();
        let now = self.reader.store().revision().0;
        let seen = self.seen.load(Ordering::Acquire);
        if seen != u64::MAX && seen >= now {
            return;
        }
        if seen != u64::MAX && self.follow(&mut watchers, Revision(now)) {
            self.seen.store(now, Ordering::Release);
            return;
        }
        match self.rebuild() {
            Ok((index, fresh, revision)) => {
                *self.index.write() = index;
                *watchers = fresh;
                self.seen.store(revision.0, Ordering::Release);
            }
            // Rights that were revoked must not live on because the store can't be read.
            Err(error) => {
                tracing::error!(%error, "index could not be rebuilt from the store; it is empty until it can");
                *self.index.write() = I::default();
                watchers.clear();
                self.seen.store(u64::MAX, Ordering::Release);
            }
        }
    }

    /// Applies what the watchers have up to `target`. False: some watcher fell behind the kept history.
    fn follow(&self, watchers: &mut [Box<dyn Watcher>], target: Revision) -> bool {
        for (which, watcher) in watchers.iter_mut().enumerate() {
            while watcher.position() < target {
                // History up to `target` is in memory, so the future is ready; if it isn't, a rebuild is right.
                match watcher.next(BATCH).now_or_never() {
                    Some(Ok(events)) if events.is_empty() => {}
                    Some(Ok(events)) => {
                        let mut index = self.index.write();
                        for event in &events {
                            match &event.change {
                                Change::Put { entry, prev } => {
                                    if let Some(prev) = prev {
                                        index.delete(which, prev);
                                    }
                                    index.put(which, entry);
                                }
                                Change::Delete { prev } => index.delete(which, prev),
                            }
                        }
                    }
                    Some(Err(_)) | None => return false,
                }
            }
        }
        true
    }

    #[expect(clippy::type_complexity, reason = "used once")]
    fn rebuild(&self) -> Result<(I, Vec<Box<dyn Watcher>>, Revision), store::Error> {
        let store = self.reader.store();
        let revision = store.revision();
        let mut index = I::default();
        let mut watchers = Vec::new();
        for (which, (group, resource)) in I::RESOURCES.iter().enumerate() {
            let prefix = prefix(group, resource, "");
            let options = ListOptions { revision: Some(revision), ..ListOptions::default() };
            for entry in &store.list(&prefix, &options)?.entries {
                index.put(which, entry);
            }
            watchers.push(store.watch(&prefix, revision)?);
        }
        Ok((index, watchers, revision))
    }
}

/// The last one or two segments of an entry's key: namespace (empty at cluster scope) and name.
pub fn names(entry: &Entry, namespaced: bool) -> (&str, &str) {
    let (rest, name) = entry.key.rsplit_once('/').unwrap_or(("", &entry.key));
    let namespace = if namespaced { rest.rsplit_once('/').map_or("", |(_, n)| n) } else { "" };
    (namespace, name)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{put, reader, remove};
    use serde_json::json;
    use std::collections::BTreeSet;

    #[derive(Default)]
    struct Names(BTreeSet<String>);

    impl Index for Names {
        const RESOURCES: &'static [(&'static str, &'static str)] = &[("", "pods"), ("", "secrets")];
        fn put(&mut self, which: usize, entry: &Entry) {
            self.0.insert(format!("{which}:{}", names(entry, true).1));
        }
        fn delete(&mut self, which: usize, entry: &Entry) {
            self.0.remove(&format!("{which}:{}", names(entry, true).1));
        }
    }

    #[tokio::test]
    async fn each_read_sees_every_write_before_it() {
        let object =
            |kind: &str, name: &str| json!({"apiVersion":"v1","kind":kind,"metadata":{"namespace":"d","name":name}});
        let r = reader(&[object("Pod", "a")]).await;
        let followed = Followed::<Names>::new(r.clone());
        let now = || followed.get().0.iter().cloned().collect::<Vec<_>>().join(" ");
        assert_eq!(now(), "0:a");
        put(&r, &object("Secret", "s")).await;
        assert_eq!(now(), "0:a 1:s");
        put(&r, &object("ConfigMap", "other")).await;
        assert_eq!(now(), "0:a 1:s");
        for i in 0..600 {
            put(&r, &object("Pod", &format!("p{i}"))).await;
        }
        assert_eq!(followed.get().0.len(), 602);
        for i in 0..600 {
            remove(&r, &object("Pod", &format!("p{i}"))).await;
        }
        remove(&r, &object("Pod", "a")).await;
        assert_eq!(now(), "1:s");
        // Falling behind a compaction costs a rebuild, not correctness.
        put(&r, &object("Pod", "b")).await;
        put(&r, &object("Pod", "c")).await;
        r.store().compact(r.store().revision()).await.unwrap();
        put(&r, &object("Pod", "d")).await;
        assert_eq!(now(), "0:b 0:c 0:d 1:s");
    }
}
