//! InterPodAffinity: near these pods, away from those; in both directions for required anti-affinity.

use super::pod_topology_spread::selects;
use crate::framework::{Filter, Normalize, Plugin, Score, Unfit, WakeUp};
use crate::snapshot::Snapshot;
use k8s_openapi::api::core::v1::{Pod, PodAffinityTerm};
use std::collections::{HashMap, HashSet};
use std::sync::Arc;

pub struct InterPodAffinity;

/// Whether `other` is what a term of `owner` speaks of.
fn term_matches(term: &PodAffinityTerm, owner: &Pod, other: &Pod) -> bool {
    let namespace = other.metadata.namespace.as_deref().unwrap_or("");
    let named = term.namespaces.as_deref().unwrap_or_default();
    // An empty namespace selector is every namespace; a non-empty one needs their labels, which upstream
    // resolves ahead: only the empty one is known here.
    let all = term.namespace_selector.as_ref().is_some_and(|s| {
        s.match_labels.as_ref().is_none_or(|m| m.is_empty())
            && s.match_expressions.as_ref().is_none_or(|m| m.is_empty())
    });
    let in_namespace = all
        || named.iter().any(|n| n == namespace)
        || (named.is_empty()
            && term.namespace_selector.is_none()
            && owner.metadata.namespace == other.metadata.namespace);
    let label = |p: &Pod, k: &str| p.metadata.labels.as_ref().and_then(|l| l.get(k)).cloned();
    in_namespace
        && selects(term.label_selector.as_ref(), other)
        && term
            .match_label_keys
            .iter()
            .flatten()
            .all(|k| label(owner, k).is_none() || label(owner, k) == label(other, k))
        && term
            .mismatch_label_keys
            .iter()
            .flatten()
            .all(|k| label(owner, k).is_none() || label(owner, k) != label(other, k))
}

fn required_affinity(pod: &Pod) -> &[PodAffinityTerm] {
    pod.spec
        .as_ref()
        .and_then(|s| s.affinity.as_ref())
        .and_then(|a| a.pod_affinity.as_ref())
        .and_then(|a| a.required_during_scheduling_ignored_during_execution.as_deref())
        .unwrap_or_default()
}

fn required_anti(pod: &Pod) -> &[PodAffinityTerm] {
    pod.spec
        .as_ref()
        .and_then(|s| s.affinity.as_ref())
        .and_then(|a| a.pod_anti_affinity.as_ref())
        .and_then(|a| a.required_during_scheduling_ignored_during_execution.as_deref())
        .unwrap_or_default()
}

type Topology = HashSet<(String, String)>;

impl Plugin for InterPodAffinity {
    fn name(&self) -> &'static str {
        "InterPodAffinity"
    }

    fn filter<'a>(&self, pod: &'a Arc<Pod>, snapshot: &'a Snapshot) -> Option<Filter<'a>> {
        let affinity = required_affinity(pod);
        let anti = required_anti(pod);
        // Where pods that want nobody like this one near run.
        let mut repelled: Topology = HashSet::new();
        // Where each of our terms finds a partner.
        let mut near: Vec<Topology> = vec![HashSet::new(); affinity.len()];
        let mut away: Vec<Topology> = vec![HashSet::new(); anti.len()];
        let mut any = !affinity.is_empty() || !anti.is_empty();
        for node in snapshot.nodes() {
            for other in node.pods.values() {
                for term in required_anti(other) {
                    any = true;
                    if term_matches(term, other, pod)
                        && let Some(v) = node.label(&term.topology_key)
                    {
                        repelled.insert((term.topology_key.clone(), v.to_string()));
                    }
                }
                for (terms, sets) in [(affinity, &mut near), (anti, &mut away)] {
                    for (term, set) in terms.iter().zip(sets.iter_mut()) {
                        if term_matches(term, pod, other)
                            && let Some(v) = node.label(&term.topology_key)
                        {
                            set.insert((term.topology_key.clone(), v.to_string()));
                        }
                    }
                }
            }
        }
        if !any {
            return None;
        }
        // The first of a group that wants to be together: nobody is there yet, and it matches its own terms.
        let first = near.iter().all(HashSet::is_empty) && affinity.iter().all(|t| term_matches(t, pod, pod));
        Some(Box::new(move |node| {
            for (term, set) in affinity.iter().zip(&near) {
                let Some(v) = node.label(&term.topology_key) else {
                    return Err(Unfit::unresolvable("node(s) didn't match pod affinity rules"));
                };
                if !first && !set.contains(&(term.topology_key.clone(), v.to_string())) {
                    return Err(Unfit::unresolvable("node(s) didn't match pod affinity rules"));
                }
            }
            for (term, set) in anti.iter().zip(&away) {
                if let Some(v) = node.label(&term.topology_key)
                    && set.contains(&(term.topology_key.clone(), v.to_string()))
                {
                    return Err(Unfit::new("node(s) didn't match pod anti-affinity rules"));
                }
            }
            if repelled.iter().any(|(k, v)| node.label(k) == Some(v)) {
                return Err(Unfit::new("node(s) didn't satisfy existing pods anti-affinity rules"));
            }
            Ok(())
        }))
    }

    fn score<'a>(&self, pod: &'a Arc<Pod>, snapshot: &'a Snapshot) -> Option<Score<'a>> {
        let spec = pod.spec.as_ref()?.affinity.as_ref()?;
        let mut terms: Vec<(&PodAffinityTerm, i64)> = Vec::new();
        for p in spec
            .pod_affinity
            .iter()
            .flat_map(|a| a.preferred_during_scheduling_ignored_during_execution.iter().flatten())
        {
            terms.push((&p.pod_affinity_term, i64::from(p.weight)));
        }
        for p in spec
            .pod_anti_affinity
            .iter()
            .flat_map(|a| a.preferred_during_scheduling_ignored_during_execution.iter().flatten())
        {
            terms.push((&p.pod_affinity_term, -i64::from(p.weight)));
        }
        if terms.is_empty() {
            return None;
        }
        let mut sums: HashMap<(String, String), i64> = HashMap::new();
        for node in snapshot.nodes() {
            for other in node.pods.values() {
                for (term, weight) in &terms {
                    if term_matches(term, pod, other)
                        && let Some(v) = node.label(&term.topology_key)
                    {
                        *sums.entry((term.topology_key.clone(), v.to_string())).or_default() += weight;
                    }
                }
            }
        }
        // Shifted so that the worst place scores 0.
        let worst: i64 = sums.values().filter(|v| **v < 0).sum();
        Some(Box::new(move |node| {
            sums.iter().filter(|((k, v), _)| node.label(k) == Some(v)).map(|(_, w)| *w).sum::<i64>() - worst
        }))
    }

    fn weight(&self) -> i64 {
        2
    }

    fn normalize(&self) -> Normalize {
        Normalize::Max
    }

    fn wakes_on(&self) -> &'static [WakeUp] {
        &[WakeUp::NodeChanged, WakeUp::PodGone, WakeUp::PodChanged]
    }
}
