//! When keys with a time to live are due. Keyed by the version that was written with the time, so that a later
//! write of the key takes its timer along.

use crate::contract::Revision;
use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

pub(crate) struct Expiries<T> {
    queue: BTreeMap<(T, Revision), Arc<str>>,
    by_revision: HashMap<Revision, T>,
}

impl<T> Default for Expiries<T> {
    fn default() -> Self {
        Expiries { queue: BTreeMap::new(), by_revision: HashMap::new() }
    }
}

impl<T: Ord + Copy> Expiries<T> {
    pub(crate) fn insert(&mut self, at: T, revision: Revision, key: Arc<str>) {
        self.by_revision.insert(revision, at);
        self.queue.insert((at, revision), key);
    }

    /// The version is no longer the key's latest.
    pub(crate) fn remove(&mut self, revision: Revision) {
        if let Some(at) = self.by_revision.remove(&revision) {
            self.queue.remove(&(at, revision));
        }
    }

    pub(crate) fn at(&self, revision: Revision) -> Option<T> {
        self.by_revision.get(&revision).copied()
    }

    /// When the next one is due.
    pub(crate) fn next(&self) -> Option<T> {
        self.queue.first_key_value().map(|((at, _), _)| *at)
    }

    /// Up to `max` versions that are due, oldest first. They stay until [`Expiries::remove`].
    pub(crate) fn due(&self, now: T, max: usize) -> Vec<(Arc<str>, Revision)> {
        let due = self.queue.iter().take_while(|((at, _), _)| *at <= now).take(max);
        due.map(|((_, revision), key)| (key.clone(), *revision)).collect()
    }
}
