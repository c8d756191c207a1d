//! When history is old enough to be forgotten: by time, but never the last so many revisions. Pure; the engines
//! bring clock and thread.

use crate::contract::Revision;
use std::collections::VecDeque;
use std::time::{Duration, Instant};

/// Which revision was current when.
pub(crate) struct History {
    window: Duration,
    revisions_min: u64,
    /// Taken at most every tenth of the window, while the revision moves.
    samples: VecDeque<(Instant, Revision)>,
    /// Of the newest sample taken, even when it has been used up.
    sampled: Option<(Instant, Revision)>,
}

pub(crate) struct Wake {
    pub compact_to: Option<Revision>,
    /// `None`: when the revision moves.
    pub next: Option<Instant>,
}

impl History {
    pub(crate) fn new(window: Duration, revisions_min: u64) -> History {
        History { window, revisions_min, samples: VecDeque::new(), sampled: None }
    }

    fn step(&self) -> Duration {
        (self.window / 10).max(Duration::from_millis(1))
    }

    pub(crate) fn is_behind(&self, current: Revision) -> bool {
        self.sampled.is_none_or(|(_, revision)| revision < current)
    }

    pub(crate) fn look(&mut self, now: Instant, current: Revision) -> Wake {
        if self.is_behind(current) && self.sampled.is_none_or(|(at, _)| now >= at + self.step()) {
            self.samples.push_back((now, current));
            self.sampled = Some((now, current));
        }
        if self.window.is_zero() {
            return Wake { compact_to: None, next: None };
        }
        let mut compact_to = None;
        while let Some((at, revision)) = self.samples.front().copied() {
            if now < at + self.window {
                break;
            }
            compact_to = Some(Revision(revision.0.min(current.0.saturating_sub(self.revisions_min))));
            self.samples.pop_front();
        }
        let sample = self.sampled.filter(|_| self.is_behind(current)).map(|(at, _)| at + self.step());
        let expire = self.samples.front().map(|(at, _)| *at + self.window);
        Wake { compact_to, next: sample.into_iter().chain(expire).min() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn history_is_kept_for_the_window_and_then_the_thread_sleeps() {
        let start = Instant::now();
        let mut history = History::new(Duration::from_secs(300), 1000);
        let mut compacted = Vec::new();
        let mut wakes = 0;
        // One change a second for ten minutes, then silence.
        let revision_at = |t: Duration| Revision(t.as_secs().min(600) * 10);
        let mut now = start;
        loop {
            let wake = history.look(now, revision_at(now - start));
            wakes += 1;
            compacted.extend(wake.compact_to.map(|to| (now - start, to)));
            match wake.next {
                Some(next) => now = next.max(now + Duration::from_millis(1)),
                None if now - start < Duration::from_secs(600) => now += Duration::from_secs(1),
                None => break,
            }
            assert!(wakes < 1000, "wakes too often");
        }
        assert!(wakes < 80, "{wakes}");
        for (at, to) in &compacted {
            // Nothing younger than the window, nor of the last thousand, is dropped.
            assert!(to.0 <= revision_at(*at - Duration::from_secs(300)).0, "{at:?} {to:?}");
            assert!(to.0 + 1000 <= revision_at(*at).0.max(1000), "{at:?} {to:?}");
        }
        assert_eq!(compacted.last().map(|(_, to)| to.0), Some(5000), "all but the last thousand are gone in the end");
        assert!(now - start <= Duration::from_secs(600 + 300 + 31));
    }
}
