//! Which pod is next: by priority, then by age; with a back-off after failures, and a rest for those that nothing
//! has changed for.

use crate::framework::WakeUp;
use std::collections::{BTreeMap, HashMap};
use std::time::Duration;
use tokio::time::Instant;

/// Upstream's `podInitialBackoffSeconds` and `podMaxBackoffSeconds`.
const BACKOFF_INITIAL: Duration = Duration::from_secs(1);
const BACKOFF_MAX: Duration = Duration::from_secs(10);
/// A pod that waits longer than this is tried again even if nothing happened.
const REST_MAX: Duration = Duration::from_secs(300);

/// Order in the active queue: high priority first, then old first.
type Rank = (std::cmp::Reverse<i32>, u64);

#[derive(Debug)]
enum Place {
    Active(Rank),
    Backoff(Instant),
    /// Since when, and what may help.
    Resting(Instant, Vec<WakeUp>),
    /// Being scheduled now; events that came meanwhile.
    Working(Vec<WakeUp>),
    Gated,
}

#[derive(Debug)]
struct Waiting {
    priority: i32,
    attempts: u32,
    place: Place,
}

impl Waiting {
    fn backoff(&self) -> Duration {
        BACKOFF_INITIAL.saturating_mul(1 << self.attempts.saturating_sub(1).min(8)).min(BACKOFF_MAX)
    }
}

/// The queue, on keys. Pure: time comes in.
#[derive(Debug, Default)]
pub struct Queue {
    pods: HashMap<String, Waiting>,
    active: BTreeMap<Rank, String>,
    next: u64,
}

impl Queue {
    /// A pod that is new or was changed by its user: it may be tried at once.
    pub fn add(&mut self, key: &str, priority: i32) {
        match self.pods.get_mut(key) {
            Some(w) if matches!(w.place, Place::Active(_)) => {}
            Some(Waiting { place: Place::Working(seen), .. }) => seen.push(WakeUp::PodChanged),
            _ => {
                let attempts = self.pods.get(key).map_or(0, |w| w.attempts);
                self.activate(key, priority, attempts);
            }
        }
    }

    /// A pod that may not be looked at yet.
    pub fn gate(&mut self, key: &str, priority: i32) {
        self.remove(key);
        self.pods.insert(key.to_string(), Waiting { priority, attempts: 0, place: Place::Gated });
    }

    pub fn remove(&mut self, key: &str) {
        if let Some(Waiting { place: Place::Active(rank), .. }) = self.pods.remove(key) {
            self.active.remove(&rank);
        }
    }

    fn activate(&mut self, key: &str, priority: i32, attempts: u32) {
        self.remove(key);
        self.next += 1;
        let rank = (std::cmp::Reverse(priority), self.next);
        self.active.insert(rank, key.to_string());
        self.pods.insert(key.to_string(), Waiting { priority, attempts, place: Place::Active(rank) });
    }

    /// The next pod to schedule; [`Queue::failed`] or [`Queue::remove`] must follow.
    pub fn pop(&mut self, now: Instant) -> Option<String> {
        self.wake_due(now);
        let (_, key) = self.active.pop_first()?;
        if let Some(w) = self.pods.get_mut(&key) {
            w.attempts += 1;
            w.place = Place::Working(Vec::new());
        }
        Some(key)
    }

    /// No node fits now. `helps`: which changes make another try worthwhile.
    pub fn failed(&mut self, key: &str, helps: Vec<WakeUp>, now: Instant) {
        let Some(w) = self.pods.get_mut(key) else { return };
        let seen = match &mut w.place {
            Place::Working(seen) => std::mem::take(seen),
            _ => return,
        };
        w.place = if seen.iter().any(|s| helps.contains(s)) {
            Place::Backoff(now + w.backoff())
        } else {
            Place::Resting(now, helps)
        };
    }

    /// The try itself went wrong, whatever nodes there are: another one follows after the back-off.
    pub fn errored(&mut self, key: &str, now: Instant) {
        if let Some(w) = self.pods.get_mut(key)
            && matches!(w.place, Place::Working(_))
        {
            w.place = Place::Backoff(now + w.backoff());
        }
    }

    /// Something changed: pods that it may help come back, after their back-off.
    pub fn event(&mut self, change: WakeUp, now: Instant) {
        for w in self.pods.values_mut() {
            let backoff = w.backoff();
            match &mut w.place {
                Place::Working(seen) => seen.push(change),
                Place::Resting(since, helps) if helps.contains(&change) => {
                    w.place = Place::Backoff((*since + backoff).max(now));
                }
                _ => {}
            }
        }
        self.wake_due(now);
    }

    fn wake_due(&mut self, now: Instant) {
        let due: Vec<(String, i32, u32)> = self
            .pods
            .iter()
            .filter(|(_, w)| match &w.place {
                Place::Backoff(at) => *at <= now,
                Place::Resting(since, _) => *since + REST_MAX <= now,
                _ => false,
            })
            .map(|(k, w)| (k.clone(), w.priority, w.attempts))
            .collect();
        for (key, priority, attempts) in due {
            self.activate(&key, priority, attempts);
        }
    }

    /// When [`Queue::pop`] may have something that it has not now.
    pub fn next_due(&self) -> Option<Instant> {
        self.pods
            .values()
            .filter_map(|w| match &w.place {
                Place::Backoff(at) => Some(*at),
                Place::Resting(since, _) => Some(*since + REST_MAX),
                _ => None,
            })
            .min()
    }

    pub fn contains(&self, key: &str) -> bool {
        self.pods.contains_key(key)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn priority_then_age() {
        let mut q = Queue::default();
        q.add("old", 0);
        q.add("new", 0);
        q.add("high", 10);
        let now = Instant::now();
        let order: Vec<String> = std::iter::from_fn(|| q.pop(now)).collect();
        assert_eq!(order, ["high", "old", "new"]);
    }

    #[test]
    fn a_refused_pod_waits_for_what_may_help_it_and_for_its_back_off() {
        let mut q = Queue::default();
        let t = Instant::now();
        q.add("p", 0);
        assert_eq!(q.pop(t).as_deref(), Some("p"));
        q.failed("p", vec![WakeUp::NodeChanged], t);
        q.event(WakeUp::PodGone, t + Duration::from_secs(5));
        assert_eq!(q.pop(t + Duration::from_secs(5)), None, "a pod's end doesn't help it");
        q.event(WakeUp::NodeChanged, t + Duration::from_secs(5));
        assert_eq!(q.pop(t + Duration::from_secs(5)).as_deref(), Some("p"));
        q.failed("p", vec![WakeUp::NodeChanged], t + Duration::from_secs(5));
        assert_eq!(q.next_due(), Some(t + Duration::from_secs(305)));
    }

    #[test]
    fn a_binding_that_failed_is_tried_again_by_itself() {
        let mut q = Queue::default();
        let mut t = Instant::now();
        q.add("p", 0);
        for seconds in [1, 2, 4, 8, 10, 10] {
            assert_eq!(q.pop(t).as_deref(), Some("p"));
            q.errored("p", t);
            assert_eq!(q.next_due(), Some(t + Duration::from_secs(seconds)));
            assert_eq!(q.pop(t), None);
            t += Duration::from_secs(seconds);
        }
        q.errored("p", t);
        assert_eq!(q.pop(t).as_deref(), Some("p"), "only what is being worked on can fail");
    }

    #[test]
    fn what_happens_during_a_cycle_is_not_missed() {
        let mut q = Queue::default();
        let t = Instant::now();
        q.add("p", 0);
        q.pop(t);
        q.event(WakeUp::PodGone, t);
        q.failed("p", vec![WakeUp::PodGone], t);
        assert_eq!(q.next_due(), Some(t + Duration::from_secs(1)));
    }
}
