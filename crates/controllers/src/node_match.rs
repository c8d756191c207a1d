//! Whether a node is one that a pod template may run on: selector, required affinity, taints.
//!
//! The scheduler decides the same about pods in `scheduler::plugins`; here there is no pod yet.

use crate::taint_eviction::tolerates;
use k8s_openapi::api::core::v1::{Node, NodeSelectorRequirement, NodeSelectorTerm, PodSpec, Toleration};
use kube::ResourceExt;

fn requirement(r: &NodeSelectorRequirement, value: Option<&str>) -> bool {
    let values = r.values.as_deref().unwrap_or_default();
    let listed = value.is_some_and(|v| values.iter().any(|x| x == v));
    let numbers = || Some((value?.parse::<i64>().ok()?, values.first()?.parse::<i64>().ok()?));
    match r.operator.as_str() {
        "In" => listed,
        "NotIn" => !listed,
        "Exists" => value.is_some(),
        "DoesNotExist" => value.is_none(),
        "Gt" => numbers().is_some_and(|(have, bound)| have > bound),
        "Lt" => numbers().is_some_and(|(have, bound)| have < bound),
        _ => false,
    }
}

/// A term without requirements matches nothing.
fn term(t: &NodeSelectorTerm, node: &Node) -> bool {
    let expressions = t.match_expressions.as_deref().unwrap_or_default();
    let fields = t.match_fields.as_deref().unwrap_or_default();
    let name = node.name_any();
    (!expressions.is_empty() || !fields.is_empty())
        && expressions.iter().all(|r| requirement(r, node.labels().get(&r.key).map(String::as_str)))
        && fields.iter().all(|r| requirement(r, (r.key == "metadata.name").then_some(&*name)))
}

/// `nodeSelector` and the required node affinity.
pub fn selected(spec: &PodSpec, node: &Node) -> bool {
    let affinity = spec.affinity.as_ref().and_then(|a| a.node_affinity.as_ref());
    let required = affinity.and_then(|a| a.required_during_scheduling_ignored_during_execution.as_ref());
    spec.node_selector.iter().flatten().all(|(k, v)| node.labels().get(k) == Some(v))
        && required.is_none_or(|s| s.node_selector_terms.iter().any(|t| term(t, node)))
}

/// Whether all taints of these effects are tolerated.
pub fn tolerated(tolerations: &[Toleration], node: &Node, effects: &[&str]) -> bool {
    let taints = node.spec.as_ref().and_then(|s| s.taints.as_deref()).unwrap_or_default();
    taints.iter().filter(|t| effects.contains(&&*t.effect)).all(|taint| tolerations.iter().any(|t| tolerates(t, taint)))
}
