//! NodePorts: two pods can't have the same host port on overlapping addresses.

use crate::framework::{Filter, Plugin, Unfit, WakeUp};
use crate::snapshot::{HostPort, Snapshot, host_ports};
use k8s_openapi::api::core::v1::Pod;
use std::sync::Arc;

pub struct NodePorts;

/// The wildcard address overlaps with every other.
pub fn conflict(a: &HostPort, b: &HostPort) -> bool {
    let any = |ip: &str| ip == "0.0.0.0" || ip == "::";
    a.1 == b.1 && a.2 == b.2 && (a.0 == b.0 || any(&a.0) || any(&b.0))
}

impl Plugin for NodePorts {
    fn name(&self) -> &'static str {
        "NodePorts"
    }

    fn filter<'a>(&self, pod: &'a Arc<Pod>, _: &'a Snapshot) -> Option<Filter<'a>> {
        let wanted = host_ports(pod);
        if wanted.is_empty() {
            return None;
        }
        Some(Box::new(move |node| {
            let taken = wanted.iter().any(|w| node.ports.keys().any(|p| conflict(p, w)));
            if taken { Err(Unfit::new("node(s) didn't have free ports for the requested pod ports")) } else { Ok(()) }
        }))
    }

    fn wakes_on(&self) -> &'static [WakeUp] {
        &[WakeUp::NodeChanged, WakeUp::PodGone]
    }
}
