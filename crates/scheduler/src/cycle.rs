//! One decision: which node for this pod. Pure: the same pod, snapshot and tie-break give the same answer.

use crate::framework::{Normalize, Plugin};
use crate::snapshot::{NodeInfo, Snapshot};
use k8s_openapi::api::core::v1::Pod;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

/// Why no node fits.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct FitError {
    pub nodes: usize,
    /// Nodes by reason.
    pub reasons: BTreeMap<String, usize>,
    /// The plugins that refused.
    pub plugins: BTreeSet<&'static str>,
    /// Nodes where preemption might help.
    pub resolvable: Vec<String>,
}

impl std::fmt::Display for FitError {
    /// `0/3 nodes are available: 1 Insufficient cpu, 2 node(s) had untolerated taint {a: b}.`
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "0/{} nodes are available", self.nodes)?;
        if self.nodes == 0 {
            return f.write_str(": no nodes available to schedule pods");
        }
        let mut parts: Vec<String> = self.reasons.iter().map(|(r, n)| format!("{n} {r}")).collect();
        parts.sort();
        if !parts.is_empty() {
            write!(f, ": {}", parts.join(", "))?;
        }
        f.write_str(".")
    }
}

/// Upstream's minimum of nodes that are looked at before the best of them is taken.
const FEASIBLE_MIN: usize = 100;

/// How many fitting nodes are enough in a cluster of so many (upstream's adaptive percentage).
fn enough(nodes: usize) -> usize {
    if nodes <= FEASIBLE_MIN {
        return nodes;
    }
    let percent = 50usize.saturating_sub(nodes / 125).max(5);
    (nodes * percent / 100).max(FEASIBLE_MIN)
}

/// Chooses a node's name. `tie` picks among equals; `start` is where the walk over nodes begins, so that successive
/// decisions in a large cluster don't all look at the same nodes.
pub fn decide(
    plugins: &[Arc<dyn Plugin>],
    pod: &Arc<Pod>,
    snapshot: &Snapshot,
    start: usize,
    tie: u64,
) -> Result<String, FitError> {
    let filters: Vec<_> = plugins.iter().filter_map(|p| Some((p.name(), p.filter(pod, snapshot)?))).collect();
    let nodes: Vec<&NodeInfo> = snapshot.nodes().collect();
    let mut error = FitError { nodes: nodes.len(), ..FitError::default() };
    let wanted = enough(nodes.len());
    let mut feasible: Vec<&NodeInfo> = Vec::new();
    for i in 0..nodes.len() {
        let node = nodes[(start + i) % nodes.len()];
        match filters.iter().find_map(|(name, f)| f(node).err().map(|u| (*name, u))) {
            None => {
                feasible.push(node);
                if feasible.len() >= wanted {
                    break;
                }
            }
            Some((plugin, unfit)) => {
                error.plugins.insert(plugin);
                *error.reasons.entry(unfit.reason).or_default() += 1;
                if !unfit.unresolvable {
                    error.resolvable.push(node.name().to_string());
                }
            }
        }
    }
    match feasible.as_slice() {
        [] => Err(error),
        [one] => Ok(one.name().to_string()),
        many => Ok(best(plugins, pod, snapshot, many, tie)),
    }
}

fn best(plugins: &[Arc<dyn Plugin>], pod: &Arc<Pod>, snapshot: &Snapshot, nodes: &[&NodeInfo], tie: u64) -> String {
    let mut totals = vec![0i64; nodes.len()];
    for plugin in plugins {
        let Some(score) = plugin.score(pod, snapshot) else { continue };
        let mut raw: Vec<i64> = nodes.iter().map(|n| score(n)).collect();
        let max = raw.iter().copied().max().unwrap_or(0);
        match plugin.normalize() {
            Normalize::No => {}
            Normalize::Max if max > 0 => raw.iter_mut().for_each(|s| *s = *s * 100 / max),
            Normalize::MaxReversed if max > 0 => raw.iter_mut().for_each(|s| *s = 100 - *s * 100 / max),
            Normalize::MaxReversed => raw.iter_mut().for_each(|s| *s = 100),
            Normalize::Max => {}
        }
        for (t, s) in totals.iter_mut().zip(raw) {
            *t += s * plugin.weight();
        }
    }
    let top = totals.iter().copied().max().unwrap_or(0);
    let equals: Vec<usize> = (0..nodes.len()).filter(|i| totals[*i] == top).collect();
    let chosen = equals[(tie % equals.len() as u64) as usize];
    nodes[chosen].name().to_string()
}
