//! PodTopologySpread: keeps matching pods evenly spread over zones, nodes or any other label.
//!
//! Source: KEP-895; `minDomains` KEP-3022; node inclusion policies KEP-3094; `matchLabelKeys` KEP-3243.

use crate::framework::{Filter, Normalize, Plugin, Score, Unfit, WakeUp};
use crate::plugins::{node_affinity, taint_toleration};
use crate::snapshot::{NodeInfo, Snapshot};
use k8s_openapi::api::core::v1::{Pod, TopologySpreadConstraint};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::LabelSelector;
use std::collections::HashMap;
use std::sync::Arc;

pub struct PodTopologySpread;

/// Whether a pod's labels match a selector object; a missing selector matches nothing.
pub fn selects(selector: Option<&LabelSelector>, pod: &Pod) -> bool {
    let Some(selector) = selector else { return false };
    let value = |k: &str| pod.metadata.labels.as_ref().and_then(|l| l.get(k)).map(String::as_str);
    selector.match_labels.iter().flatten().all(|(k, v)| value(k) == Some(v))
        && selector.match_expressions.iter().flatten().all(|e| {
            let values = e.values.as_deref().unwrap_or_default();
            match e.operator.as_str() {
                "In" => value(&e.key).is_some_and(|v| values.iter().any(|x| x == v)),
                "NotIn" => !value(&e.key).is_some_and(|v| values.iter().any(|x| x == v)),
                "Exists" => value(&e.key).is_some(),
                "DoesNotExist" => value(&e.key).is_none(),
                _ => false,
            }
        })
}

fn counts_for(c: &TopologySpreadConstraint, incoming: &Pod, other: &Pod) -> bool {
    other.metadata.deletion_timestamp.is_none()
        && other.metadata.namespace == incoming.metadata.namespace
        && selects(c.label_selector.as_ref(), other)
        && c.match_label_keys.iter().flatten().all(|k| {
            let of = |p: &Pod| p.metadata.labels.as_ref().and_then(|l| l.get(k)).cloned();
            of(incoming).is_none() || of(incoming) == of(other)
        })
}

/// Whether a node's pods count for a constraint.
fn included(c: &TopologySpreadConstraint, pod: &Pod, node: &NodeInfo) -> bool {
    let affinity =
        c.node_affinity_policy.as_deref().unwrap_or("Honor") != "Honor" || node_affinity::required(pod, node);
    let taints = c.node_taints_policy.as_deref().unwrap_or("Ignore") != "Honor"
        || node.node.as_ref().and_then(|n| n.spec.as_ref()).and_then(|s| s.taints.as_ref()).is_none_or(|t| {
            t.iter().filter(|t| t.effect != "PreferNoSchedule").all(|t| {
                pod.spec
                    .as_ref()
                    .and_then(|s| s.tolerations.as_ref())
                    .is_some_and(|o| o.iter().any(|o| taint_toleration::tolerates(o, t)))
            })
        });
    affinity && taints
}

/// Matching pods per value of the constraint's topology key.
fn domains(c: &TopologySpreadConstraint, pod: &Pod, snapshot: &Snapshot) -> HashMap<String, i64> {
    let mut out: HashMap<String, i64> = HashMap::new();
    for node in snapshot.nodes().filter(|n| included(c, pod, n)) {
        let Some(value) = node.label(&c.topology_key) else { continue };
        let n = node.pods.values().filter(|p| counts_for(c, pod, p)).count() as i64;
        *out.entry(value.to_string()).or_default() += n;
    }
    out
}

fn constraints<'a>(pod: &'a Pod, when: &str) -> Vec<&'a TopologySpreadConstraint> {
    pod.spec
        .as_ref()
        .and_then(|s| s.topology_spread_constraints.as_ref())
        .into_iter()
        .flatten()
        .filter(|c| c.when_unsatisfiable == when)
        .collect()
}

impl Plugin for PodTopologySpread {
    fn name(&self) -> &'static str {
        "PodTopologySpread"
    }

    fn filter<'a>(&self, pod: &'a Arc<Pod>, snapshot: &'a Snapshot) -> Option<Filter<'a>> {
        let hard = constraints(pod, "DoNotSchedule");
        if hard.is_empty() {
            return None;
        }
        let prepared: Vec<_> = hard
            .into_iter()
            .map(|c| {
                let counts = domains(c, pod, snapshot);
                let enough = c.min_domains.is_none_or(|m| counts.len() as i64 >= i64::from(m));
                let min = if enough { counts.values().copied().min().unwrap_or(0) } else { 0 };
                let own = i64::from(selects(c.label_selector.as_ref(), pod));
                (c, counts, min, own)
            })
            .collect();
        Some(Box::new(move |node| {
            for (c, counts, min, own) in &prepared {
                let Some(value) = node.label(&c.topology_key) else {
                    return Err(Unfit::unresolvable(
                        "node(s) didn't match pod topology spread constraints (missing required label)",
                    ));
                };
                let here = counts.get(value).copied().unwrap_or(0);
                if here + own - min > i64::from(c.max_skew) {
                    return Err(Unfit::new("node(s) didn't match pod topology spread constraints"));
                }
            }
            Ok(())
        }))
    }

    fn score<'a>(&self, pod: &'a Arc<Pod>, snapshot: &'a Snapshot) -> Option<Score<'a>> {
        let soft = constraints(pod, "ScheduleAnyway");
        if soft.is_empty() {
            return None;
        }
        let prepared: Vec<_> = soft.into_iter().map(|c| (c, domains(c, pod, snapshot))).collect();
        Some(Box::new(move |node| {
            prepared
                .iter()
                .map(|(c, counts)| match node.label(&c.topology_key) {
                    Some(v) => counts.get(v).copied().unwrap_or(0) * 10,
                    None => 1000,
                })
                .sum()
        }))
    }

    fn weight(&self) -> i64 {
        2
    }

    fn normalize(&self) -> Normalize {
        Normalize::MaxReversed
    }

    fn wakes_on(&self) -> &'static [WakeUp] {
        &[WakeUp::NodeChanged, WakeUp::PodGone, WakeUp::PodChanged]
    }
}
