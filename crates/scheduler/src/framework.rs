//! The contract between the scheduling cycle and its plugins (upstream's scheduling framework).

use crate::snapshot::{NodeInfo, Snapshot};
use k8s_openapi::api::core::v1::Pod;
use std::sync::Arc;

/// Why a node doesn't fit.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Unfit {
    /// In upstream's words, for the event: `Insufficient cpu`, `node(s) didn't match Pod's node affinity/selector`.
    pub reason: String,
    /// Preempting pods can't help.
    pub unresolvable: bool,
}

impl Unfit {
    pub fn new(reason: impl Into<String>) -> Unfit {
        Unfit { reason: reason.into(), unresolvable: false }
    }

    pub fn unresolvable(reason: impl Into<String>) -> Unfit {
        Unfit { reason: reason.into(), unresolvable: true }
    }
}

/// What may make a pod schedulable again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WakeUp {
    NodeChanged,
    PodGone,
    PodChanged,
}

/// A filter over one pod, made once per cycle so that it can prepare.
pub type Filter<'a> = Box<dyn Fn(&NodeInfo) -> Result<(), Unfit> + 'a>;
/// A score between 0 and 100 over one pod and a node; higher is better.
pub type Score<'a> = Box<dyn Fn(&NodeInfo) -> i64 + 'a>;

/// One concern of scheduling. `None` from a method: the plugin has no say about this pod.
pub trait Plugin: Send + Sync {
    /// Upstream's name, for example `NodeResourcesFit`.
    fn name(&self) -> &'static str;
    /// Keeps a pod out of the queue altogether (scheduling gates).
    fn gate(&self, _pod: &Pod) -> Option<String> {
        None
    }
    fn filter<'a>(&self, _pod: &'a Arc<Pod>, _snapshot: &'a Snapshot) -> Option<Filter<'a>> {
        None
    }
    fn score<'a>(&self, _pod: &'a Arc<Pod>, _snapshot: &'a Snapshot) -> Option<Score<'a>> {
        None
    }
    /// Upstream's default weight.
    fn weight(&self) -> i64 {
        1
    }
    /// Raw scores are spread over 0 to 100 by the cycle; `reverse`: the lowest raw score is best.
    fn normalize(&self) -> Normalize {
        Normalize::No
    }
    /// Changes after which a pod that this plugin refused is worth another try.
    fn wakes_on(&self) -> &'static [WakeUp] {
        &[WakeUp::NodeChanged]
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Normalize {
    No,
    /// Divide by the largest.
    Max,
    /// As `Max`, and turn around.
    MaxReversed,
}
