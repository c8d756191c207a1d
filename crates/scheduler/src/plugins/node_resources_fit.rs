//! NodeResourcesFit: requests must fit into what is allocatable and not yet requested; the emptier node scores better.

use crate::framework::{Filter, Plugin, Score, Unfit, WakeUp};
use crate::resources::pod_requests;
use crate::snapshot::Snapshot;
use k8s_openapi::api::core::v1::Pod;
use std::sync::Arc;

pub struct NodeResourcesFit;

/// Requests that upstream assumes for scoring when none are given: 100 millicores, 200 MiB.
pub const DEFAULT_CPU: i64 = 100;
pub const DEFAULT_MEMORY: i64 = 200 * 1024 * 1024;

impl Plugin for NodeResourcesFit {
    fn name(&self) -> &'static str {
        "NodeResourcesFit"
    }

    fn filter<'a>(&self, pod: &'a Arc<Pod>, _: &'a Snapshot) -> Option<Filter<'a>> {
        let wanted = pod_requests(pod.spec.as_ref()?);
        Some(Box::new(move |node| {
            let room = node.allocatable.get("pods");
            if node.pods.len() as i64 + 1 > room {
                return Err(Unfit::new("Too many pods"));
            }
            for (name, amount) in &wanted.0 {
                if *amount == 0 {
                    continue;
                }
                let total = node.allocatable.get(name);
                if *amount > total - node.requested.get(name) {
                    let reason = format!("Insufficient {name}");
                    return Err(if *amount > total { Unfit::unresolvable(reason) } else { Unfit::new(reason) });
                }
            }
            Ok(())
        }))
    }

    /// LeastAllocated over CPU and memory.
    fn score<'a>(&self, pod: &'a Arc<Pod>, _: &'a Snapshot) -> Option<Score<'a>> {
        let wanted = pod_requests(pod.spec.as_ref()?);
        Some(Box::new(move |node| {
            let part = |name: &str, default: i64| {
                let total = node.allocatable.get(name);
                let asked = match wanted.get(name) {
                    0 => default,
                    n => n,
                };
                let used = node.requested.get(name) + asked;
                if total <= 0 || used > total { 0 } else { (total - used) * 100 / total }
            };
            (part("cpu", DEFAULT_CPU) + part("memory", DEFAULT_MEMORY)) / 2
        }))
    }

    fn wakes_on(&self) -> &'static [WakeUp] {
        &[WakeUp::NodeChanged, WakeUp::PodGone, WakeUp::PodChanged]
    }
}
