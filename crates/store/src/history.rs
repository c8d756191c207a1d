//! When history is old enough, or large enough, to be forgotten, but never the last so many revisions. Pure; the
//! engines bring clock and thread.

use crate::contract::Revision;
use std::collections::VecDeque;
use std::time::{Duration, Instant};

/// History may take this many bytes of memory before its older part is forgotten early: about what upstream's watch
/// cache holds of a busy resource, for all resources together.
pub(crate) const BYTES_MAX: u64 = 128 << 20;

/// Which revision was current when, and how much history there was.
pub(crate) struct History {
    window: Duration,
    revisions_min: u64,
    bytes_max: u64,
    /// Taken at most every tenth of the window or eighth of `bytes_max`, while the revision moves.
    samples: VecDeque<Sample>,
    /// The newest sample taken, even when it has been used up.
    sampled: Option<Sample>,
}

#[derive(Clone, Copy)]
struct Sample {
    at: Instant,
    revision: Revision,
    bytes: u64,
}

pub(crate) struct Wake {
    pub compact_to: Option<Revision>,
    /// `None`: when the revision moves.
    pub next: Option<Instant>,
    /// Earlier, when so many bytes have been superseded.
    pub next_bytes: u64,
}

impl History {
    pub(crate) fn new(window: Duration, revisions_min: u64, bytes_max: u64) -> History {
        History { window, revisions_min, bytes_max, samples: VecDeque::new(), sampled: None }
    }

    fn step(&self) -> Duration {
        (self.window / 10).max(Duration::from_millis(1))
    }

    fn step_bytes(&self) -> u64 {
        (self.bytes_max / 8).max(1)
    }

    pub(crate) fn is_behind(&self, current: Revision) -> bool {
        self.sampled.is_none_or(|s| s.revision < current)
    }

    /// `bytes`: all that was ever superseded ([`Index::superseded_bytes`](crate::index::Index::superseded_bytes)).
    pub(crate) fn look(&mut self, now: Instant, current: Revision, bytes: u64) -> Wake {
        let due = |s: Sample| now >= s.at + self.step() || bytes >= s.bytes.saturating_add(self.step_bytes());
        if self.is_behind(current) && self.sampled.is_none_or(due) {
            let sample = Sample { at: now, revision: current, bytes };
            self.samples.push_back(sample);
            self.sampled = Some(sample);
        }
        let next_bytes = self.sampled.map_or(0, |s| s.bytes).saturating_add(self.step_bytes());
        if self.window.is_zero() {
            return Wake { compact_to: None, next: None, next_bytes: u64::MAX };
        }
        let mut compact_to = None;
        while let Some(s) = self.samples.front() {
            if now < s.at + self.window && bytes - s.bytes <= self.bytes_max {
                break;
            }
            compact_to = Some(Revision(s.revision.0.min(current.0.saturating_sub(self.revisions_min))));
            self.samples.pop_front();
        }
        let sample = self.sampled.filter(|_| self.is_behind(current)).map(|s| s.at + self.step());
        let expire = self.samples.front().map(|s| s.at + self.window);
        Wake { compact_to, next: sample.into_iter().chain(expire).min(), next_bytes }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn history_is_kept_for_the_window_and_then_the_thread_sleeps() {
        let start = Instant::now();
        let mut history = History::new(Duration::from_secs(300), 1000, u64::MAX);
        let mut compacted = Vec::new();
        let mut wakes = 0;
        // One change a second for ten minutes, then silence.
        let revision_at = |t: Duration| Revision(t.as_secs().min(600) * 10);
        let mut now = start;
        loop {
            let wake = history.look(now, revision_at(now - start), 0);
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

    #[test]
    fn a_flood_of_changes_is_forgotten_before_its_time() {
        let start = Instant::now();
        let mut history = History::new(Duration::from_secs(300), 10, 800);
        let (mut compacted, mut rung) = (0, 0);
        let mut next_bytes = 0;
        // Each change supersedes ten bytes; the bell rings when the history says.
        for revision in 1..=10_000u64 {
            let bytes = revision * 10;
            if bytes < next_bytes {
                continue;
            }
            rung += 1;
            let wake = history.look(start + Duration::from_millis(revision), Revision(revision), bytes);
            next_bytes = wake.next_bytes;
            compacted = wake.compact_to.map_or(compacted, |to| to.0);
            let kept = bytes - compacted * 10;
            assert!(kept <= 800 + 200, "{kept} bytes are kept at {revision}");
            assert!(compacted == 0 || kept >= 600, "only {kept} bytes are kept at {revision}");
        }
        assert!(rung <= 1 + 10_000 * 10 / 100, "{rung}");
    }
}
