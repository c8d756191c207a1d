//! What a controller has asked for and not seen yet, so that it doesn't ask twice when its cache lags behind its writes.
//!
//! Upstream: `ControllerExpectations` and `UIDTrackingControllerExpectations`.

use std::collections::{HashMap, HashSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// After this long an event that was waited for is taken as lost.
const PATIENCE: Duration = Duration::from_secs(300);

/// By the owner's key: creations that are awaited by count, and deletions by uid.
#[derive(Clone, Default)]
pub struct Expectations {
    by_owner: Arc<Mutex<HashMap<String, Awaited>>>,
}

struct Awaited {
    creations: i64,
    deletions: HashSet<String>,
    since: Instant,
}

impl Expectations {
    fn lock(&self) -> MutexGuard<'_, HashMap<String, Awaited>> {
        self.by_owner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Nothing is awaited any more.
    pub fn satisfied(&self, owner: &str) -> bool {
        self.lock()
            .get(owner)
            .is_none_or(|a| (a.creations <= 0 && a.deletions.is_empty()) || a.since.elapsed() > PATIENCE)
    }

    pub fn expect_creations(&self, owner: &str, count: usize) {
        self.set(owner, count as i64, HashSet::new());
    }

    pub fn expect_deletions(&self, owner: &str, uids: impl IntoIterator<Item = String>) {
        self.set(owner, 0, uids.into_iter().collect());
    }

    /// Both at once.
    pub fn expect(&self, owner: &str, creations: usize, deletions: impl IntoIterator<Item = String>) {
        self.set(owner, creations as i64, deletions.into_iter().collect());
    }

    fn set(&self, owner: &str, creations: i64, deletions: HashSet<String>) {
        self.lock().insert(owner.to_string(), Awaited { creations, deletions, since: Instant::now() });
    }

    /// A creation was seen, or failed.
    pub fn created(&self, owner: &str) {
        if let Some(a) = self.lock().get_mut(owner) {
            a.creations -= 1;
        }
    }

    /// A deletion was seen, or failed.
    pub fn deleted(&self, owner: &str, uid: &str) {
        if let Some(a) = self.lock().get_mut(owner) {
            a.deletions.remove(uid);
        }
    }

    /// The owner is gone.
    pub fn forget(&self, owner: &str) {
        self.lock().remove(owner);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn satisfied_when_all_was_seen() {
        let e = Expectations::default();
        assert!(e.satisfied("a"));
        e.expect_creations("a", 2);
        e.created("a");
        assert!(!e.satisfied("a"));
        e.created("a");
        assert!(e.satisfied("a"));
        e.expect_deletions("a", ["u".to_string()]);
        e.deleted("a", "other");
        assert!(!e.satisfied("a"));
        e.deleted("a", "u");
        assert!(e.satisfied("a"));
    }
}
