//! NodeName: a pod that names its node runs there or nowhere.

use crate::framework::{Filter, Plugin, Unfit};
use crate::snapshot::Snapshot;
use k8s_openapi::api::core::v1::Pod;
use std::sync::Arc;

pub struct NodeName;

impl Plugin for NodeName {
    fn name(&self) -> &'static str {
        "NodeName"
    }

    fn filter<'a>(&self, pod: &'a Arc<Pod>, _: &'a Snapshot) -> Option<Filter<'a>> {
        let wanted = pod.spec.as_ref()?.node_name.as_deref().filter(|n| !n.is_empty())?;
        Some(Box::new(move |node| {
            if node.name() == wanted {
                Ok(())
            } else {
                Err(Unfit::unresolvable("node(s) didn't match the requested node name"))
            }
        }))
    }
}
