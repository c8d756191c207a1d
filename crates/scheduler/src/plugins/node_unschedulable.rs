//! NodeUnschedulable: cordoned nodes take no new pods, but those that tolerate it.

use crate::framework::{Filter, Plugin, Unfit};
use crate::plugins::taint_toleration::tolerates;
use crate::snapshot::Snapshot;
use k8s_openapi::api::core::v1::{Pod, Taint};
use std::sync::Arc;

pub struct NodeUnschedulable;

impl Plugin for NodeUnschedulable {
    fn name(&self) -> &'static str {
        "NodeUnschedulable"
    }

    fn filter<'a>(&self, pod: &'a Arc<Pod>, _: &'a Snapshot) -> Option<Filter<'a>> {
        let taint =
            Taint { key: "node.kubernetes.io/unschedulable".into(), effect: "NoSchedule".into(), ..Taint::default() };
        let tolerated = pod
            .spec
            .as_ref()
            .and_then(|s| s.tolerations.as_ref())
            .is_some_and(|t| t.iter().any(|t| tolerates(t, &taint)));
        Some(Box::new(move |node| {
            let cordoned =
                node.node.as_ref().and_then(|n| n.spec.as_ref()).and_then(|s| s.unschedulable).unwrap_or(false);
            if cordoned && !tolerated { Err(Unfit::unresolvable("node(s) were unschedulable")) } else { Ok(()) }
        }))
    }
}
