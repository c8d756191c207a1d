//! SchedulingGates: a pod with gates isn't looked at (KEP-3521).

use crate::framework::Plugin;
use k8s_openapi::api::core::v1::Pod;

pub struct SchedulingGates;

impl Plugin for SchedulingGates {
    fn name(&self) -> &'static str {
        "SchedulingGates"
    }

    fn gate(&self, pod: &Pod) -> Option<String> {
        let gates = pod.spec.as_ref()?.scheduling_gates.as_ref().filter(|g| !g.is_empty())?;
        let names: Vec<&str> = gates.iter().map(|g| g.name.as_str()).collect();
        Some(format!("Scheduling is blocked due to non-empty scheduling gates: {}", names.join(", ")))
    }
}
