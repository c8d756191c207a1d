//! What a pod's worker remembers between passes: steps in progress, failures with their next try, probe results.
//! All of it may be lost; after a restart it is built again from the runtime and the API.

use super::backoff::CrashBackoff;
use crate::probes::ProbeResults;
use cri::{Image, LinuxResources};
use jiff::{SignedDuration, Timestamp};
use std::collections::{BTreeMap, BTreeSet};

/// A step that runs once at a time.
#[derive(Clone, Debug, Default, PartialEq)]
pub enum Step<T> {
    #[default]
    Idle,
    Running,
    Done(T),
    Failed {
        /// As in `containerStatuses[].state.waiting`.
        reason: String,
        message: String,
        retry_at: Timestamp,
    },
}

impl<T> Step<T> {
    /// Whether it should be begun now.
    pub fn is_due(&self, now: Timestamp) -> bool {
        match self {
            Step::Idle => true,
            Step::Failed { retry_at, .. } => *retry_at <= now,
            _ => false,
        }
    }

    pub fn is_running(&self) -> bool {
        matches!(self, Step::Running)
    }

    pub fn done(&self) -> Option<&T> {
        match self {
            Step::Done(t) => Some(t),
            _ => None,
        }
    }

    pub fn retry_at(&self) -> Option<Timestamp> {
        match self {
            Step::Failed { retry_at, .. } => Some(*retry_at),
            _ => None,
        }
    }

    fn shift(&mut self, by: SignedDuration) {
        if let Step::Failed { retry_at, .. } = self {
            shift(retry_at, by);
        }
    }
}

fn shift(at: &mut Timestamp, by: SignedDuration) {
    *at = at.checked_add(by).unwrap_or(*at);
}

#[derive(Clone, Debug, Default)]
pub struct ContainerMemo {
    /// For the next start; used up by it.
    pub image: Step<Image>,
    pub start: Step<()>,
    /// Failed starts in a row, for the delay before the next.
    pub start_failures: u32,
    pub backoff: CrashBackoff,
}

/// A kill in progress.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Kill {
    pub deadline: Timestamp,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Termination {
    pub since: Timestamp,
    /// Seconds.
    pub grace: i64,
}

#[derive(Clone, Debug, Default)]
pub struct Memo {
    pub volumes: Step<()>,
    pub sandbox: Step<()>,
    pub containers: BTreeMap<String, ContainerMemo>,
    /// By container id.
    pub kills: BTreeMap<String, Kill>,
    pub probes: BTreeMap<String, ProbeResults>,
    /// Containers whose postStart hook hasn't ended.
    pub hooks: BTreeSet<String>,
    /// What the container was last told to use, by id.
    pub applied: BTreeMap<String, LinuxResources>,
    pub resizing: BTreeSet<String>,
    pub removing: BTreeSet<String>,
    /// Last words, by container id.
    pub messages: BTreeMap<String, String>,
    /// Image of each container id, for `imageID`.
    pub image_ids: BTreeMap<String, String>,
    /// Set by deletion, removal from the API, a deadline or an eviction.
    pub termination: Option<Termination>,
    /// The pod is over whatever its containers say: reason and message.
    pub failed: Option<(String, String)>,
    /// Gone from the API.
    pub removed: bool,
    pub sandbox_stop: Step<()>,
    pub teardown: Step<()>,
    /// Every container has ended for good and everything but the records is freed.
    pub terminated: bool,
}

impl Memo {
    pub fn container(&mut self, name: &str) -> &mut ContainerMemo {
        self.containers.entry(name.to_owned()).or_default()
    }

    /// The machine's clock was set: what was to happen after a while still does, neither at once nor hours later.
    pub fn shift(&mut self, by: SignedDuration) {
        self.volumes.shift(by);
        self.sandbox.shift(by);
        self.sandbox_stop.shift(by);
        self.teardown.shift(by);
        for c in self.containers.values_mut() {
            c.image.shift(by);
            c.start.shift(by);
        }
        self.kills.values_mut().for_each(|k| shift(&mut k.deadline, by));
        if let Some(t) = &mut self.termination {
            shift(&mut t.since, by);
        }
    }
}

/// Hears of a clock that was set, by a second one that never is.
#[derive(Clone, Copy, Debug)]
pub struct ClockWatch {
    wall: Timestamp,
    steady: std::time::Instant,
}

impl ClockWatch {
    /// Slewing is nothing to care about.
    const IGNORED: SignedDuration = SignedDuration::from_secs(1);

    pub fn new(wall: Timestamp, steady: std::time::Instant) -> ClockWatch {
        ClockWatch { wall, steady }
    }

    /// By how much the wall clock was set since the last look.
    pub fn jump(&mut self, wall: Timestamp, steady: std::time::Instant) -> Option<SignedDuration> {
        let passed = SignedDuration::try_from(steady.saturating_duration_since(self.steady)).ok()?;
        let jump = wall.duration_since(self.wall) - passed;
        *self = ClockWatch { wall, steady };
        (jump.abs() > Self::IGNORED).then_some(jump)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::{Duration, Instant};

    #[test]
    fn what_was_to_come_stays_as_far_away_when_the_clock_is_set() {
        let (start, steady) = (Timestamp::from_second(10_000).unwrap(), Instant::now());
        let mut clock = ClockWatch::new(start, steady);
        assert_eq!(clock.jump(start + SignedDuration::from_secs(5), steady + Duration::from_secs(5)), None);
        for hours in [-3, 2] {
            let set = SignedDuration::from_hours(hours);
            let mut memo = Memo {
                termination: Some(Termination { since: start, grace: 30 }),
                volumes: Step::Failed { reason: "".into(), message: "".into(), retry_at: start },
                ..Memo::default()
            };
            memo.kills.insert("a".into(), Kill { deadline: start });
            memo.container("c").start = memo.volumes.clone();
            let mut clock = ClockWatch::new(start, steady);
            let now = start + set + SignedDuration::from_secs(7);
            let jump = clock.jump(now, steady + Duration::from_secs(7)).unwrap();
            assert_eq!(jump, set);
            memo.shift(jump);
            let want = start + set;
            assert_eq!(memo.termination.as_ref().unwrap().since, want);
            assert_eq!(memo.volumes.retry_at(), Some(want));
            assert_eq!(memo.kills["a"].deadline, want);
            assert_eq!(memo.containers["c"].start.retry_at(), Some(want));
            assert_eq!(clock.jump(now, steady + Duration::from_secs(7)), None, "once");
        }
    }
}
