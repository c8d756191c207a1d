//! What a pod's worker remembers between passes: steps in progress, failures with their next try, probe results.
//! All of it may be lost; after a restart it is built again from the runtime and the API.

use super::backoff::CrashBackoff;
use crate::probes::ProbeResults;
use cri::{Image, LinuxResources};
use jiff::Timestamp;
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
}
