//! NodeAffinity: `nodeSelector` and node affinity, required and preferred.

use crate::framework::{Filter, Normalize, Plugin, Score, Unfit};
use crate::snapshot::{NodeInfo, Snapshot};
use k8s_openapi::api::core::v1::{NodeSelectorRequirement, NodeSelectorTerm, Pod};
use std::sync::Arc;

pub struct NodeAffinity;

fn requirement(r: &NodeSelectorRequirement, value: Option<&str>) -> bool {
    let values = r.values.as_deref().unwrap_or_default();
    let number = |s: &str| s.parse::<i64>().ok();
    match r.operator.as_str() {
        "In" => value.is_some_and(|v| values.iter().any(|x| x == v)),
        "NotIn" => !value.is_some_and(|v| values.iter().any(|x| x == v)),
        "Exists" => value.is_some(),
        "DoesNotExist" => value.is_none(),
        "Gt" | "Lt" => match (value.and_then(number), values.first().and_then(|s| number(s))) {
            (Some(have), Some(bound)) => (r.operator == "Gt" && have > bound) || (r.operator == "Lt" && have < bound),
            _ => false,
        },
        _ => false,
    }
}

/// A term without requirements matches nothing.
pub fn term_matches(term: &NodeSelectorTerm, node: &NodeInfo) -> bool {
    let expressions = term.match_expressions.as_deref().unwrap_or_default();
    let fields = term.match_fields.as_deref().unwrap_or_default();
    if expressions.is_empty() && fields.is_empty() {
        return false;
    }
    expressions.iter().all(|r| requirement(r, node.label(&r.key)))
        && fields.iter().all(|r| requirement(r, (r.key == "metadata.name").then(|| node.name())))
}

/// `nodeSelector` and the required affinity.
pub fn required(pod: &Pod, node: &NodeInfo) -> bool {
    let Some(spec) = &pod.spec else { return true };
    if let Some(selector) = &spec.node_selector
        && !selector.iter().all(|(k, v)| node.label(k) == Some(v))
    {
        return false;
    }
    let terms = spec
        .affinity
        .as_ref()
        .and_then(|a| a.node_affinity.as_ref())
        .and_then(|a| a.required_during_scheduling_ignored_during_execution.as_ref());
    terms.is_none_or(|s| s.node_selector_terms.iter().any(|t| term_matches(t, node)))
}

impl Plugin for NodeAffinity {
    fn name(&self) -> &'static str {
        "NodeAffinity"
    }

    fn filter<'a>(&self, pod: &'a Arc<Pod>, _: &'a Snapshot) -> Option<Filter<'a>> {
        Some(Box::new(move |node| {
            if required(pod, node) {
                Ok(())
            } else {
                Err(Unfit::unresolvable("node(s) didn't match Pod's node affinity/selector"))
            }
        }))
    }

    fn score<'a>(&self, pod: &'a Arc<Pod>, _: &'a Snapshot) -> Option<Score<'a>> {
        let preferred = pod
            .spec
            .as_ref()?
            .affinity
            .as_ref()?
            .node_affinity
            .as_ref()?
            .preferred_during_scheduling_ignored_during_execution
            .as_ref()?;
        Some(Box::new(move |node| {
            preferred.iter().filter(|p| term_matches(&p.preference, node)).map(|p| i64::from(p.weight)).sum()
        }))
    }

    fn weight(&self) -> i64 {
        2
    }

    fn normalize(&self) -> Normalize {
        Normalize::Max
    }
}
