//! NodeResourcesBalancedAllocation: prefers nodes whose CPU and memory fill up evenly.

use crate::framework::{Plugin, Score};
use crate::resources::pod_requests;
use crate::snapshot::Snapshot;
use k8s_openapi::api::core::v1::Pod;
use std::sync::Arc;

pub struct NodeResourcesBalancedAllocation;

impl Plugin for NodeResourcesBalancedAllocation {
    fn name(&self) -> &'static str {
        "NodeResourcesBalancedAllocation"
    }

    fn score<'a>(&self, pod: &'a Arc<Pod>, _: &'a Snapshot) -> Option<Score<'a>> {
        let wanted = pod_requests(pod.spec.as_ref()?);
        // A pod that asks for nothing unbalances nothing.
        if wanted.get("cpu") == 0 && wanted.get("memory") == 0 {
            return None;
        }
        Some(Box::new(move |node| {
            let fraction = |name: &str| {
                let total = node.allocatable.get(name);
                if total <= 0 {
                    return 1.0;
                }
                ((node.requested.get(name) + wanted.get(name)) as f64 / total as f64).min(1.0)
            };
            // The standard deviation of two values is half their distance.
            let deviation = (fraction("cpu") - fraction("memory")).abs() / 2.0;
            ((1.0 - deviation) * 100.0) as i64
        }))
    }
}
