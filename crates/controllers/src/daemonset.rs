//! DaemonSets: one pod on each node that fits.
//!
//! In: sets, pods, nodes, revisions. Out: pods bound by affinity to their nodes, revisions, and the set's status.
//! Upstream: `daemon_controller.go` and its `update.go`.

mod driver;

pub use driver::run;

use crate::{history, node_match, ownership, pods};
use k8s_openapi::api::apps::v1::{ControllerRevision, DaemonSet, DaemonSetStatus};
use k8s_openapi::api::core::v1::{
    Affinity, Node, NodeAffinity, NodeSelector, NodeSelectorRequirement, NodeSelectorTerm, Pod, PodSpec, Toleration,
};
use k8s_openapi::jiff::Timestamp;
use kube::ResourceExt;
use std::collections::BTreeMap;
use std::sync::Arc;

const BURST: usize = 250;
const TEMPLATE_GENERATION: &str = "deprecated.daemonset.template.generation";

/// All that a sync looks at.
pub struct Observed {
    pub set: DaemonSet,
    pub nodes: Vec<Arc<Node>>,
    /// The set's own.
    pub pods: Vec<Arc<Pod>>,
    /// The label that pods of the present template carry.
    pub hash: String,
}

/// What one sync does to pods.
#[derive(Debug, Default, PartialEq)]
pub struct Plan {
    /// Names of nodes that get a pod.
    pub create: Vec<String>,
    pub delete: Vec<Arc<Pod>>,
    /// Finished pods, to be replaced with backoff; with their node.
    pub replace: Vec<(String, Arc<Pod>)>,
}

/// Whether a node gets a pod, and whether one that is there may stay.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Fit {
    pub run: bool,
    pub stay: bool,
}

fn spec_of(set: &DaemonSet) -> PodSpec {
    set.spec.as_ref().and_then(|s| s.template.spec.clone()).unwrap_or_default()
}

fn min_ready(set: &DaemonSet) -> i32 {
    set.spec.as_ref().and_then(|s| s.min_ready_seconds).unwrap_or(0)
}

/// What daemons bear: the states of a node in which others leave or don't come.
pub fn tolerations(spec: &PodSpec) -> Vec<Toleration> {
    let mut out = spec.tolerations.clone().unwrap_or_default();
    let mut bear = |key: &str, effect: &str| {
        let key = format!("node.kubernetes.io/{key}");
        let same = |t: &Toleration| t.key.as_ref() == Some(&key) && t.effect.as_deref() == Some(effect);
        out.retain(|t| !same(t));
        out.push(Toleration {
            key: Some(key),
            operator: Some("Exists".into()),
            effect: Some(effect.into()),
            ..Toleration::default()
        });
    };
    bear("not-ready", "NoExecute");
    bear("unreachable", "NoExecute");
    for pressure in ["disk-pressure", "memory-pressure", "pid-pressure", "unschedulable"] {
        bear(pressure, "NoSchedule");
    }
    if spec.host_network == Some(true) {
        bear("network-unavailable", "NoSchedule");
    }
    out
}

pub fn fit(set: &DaemonSet, node: &Node) -> Fit {
    let spec = spec_of(set);
    let named = spec.node_name.as_deref().is_none_or(|n| n.is_empty() || n == node.name_any());
    if !named || !node_match::selected(&spec, node) {
        return Fit { run: false, stay: false };
    }
    let bears = tolerations(&spec);
    let stay = node_match::tolerated(&bears, node, &["NoExecute"]);
    Fit { run: stay && node_match::tolerated(&bears, node, &["NoSchedule"]), stay }
}

/// The node that a pod is on, or is meant for while it is unscheduled.
pub fn target(pod: &Pod) -> Option<&str> {
    let spec = pod.spec.as_ref()?;
    if let Some(name) = spec.node_name.as_deref().filter(|n| !n.is_empty()) {
        return Some(name);
    }
    let affinity = spec.affinity.as_ref()?.node_affinity.as_ref()?;
    let terms = &affinity.required_during_scheduling_ignored_during_execution.as_ref()?.node_selector_terms;
    let fields = terms.iter().flat_map(|t| t.match_fields.iter().flatten());
    fields.filter(|f| f.key == "metadata.name" && f.operator == "In").find_map(|f| match f.values.as_deref() {
        Some([one]) => Some(one.as_str()),
        _ => None,
    })
}

/// The pod for a node. The scheduler binds it: it may go nowhere else.
pub fn pod_for(set: &DaemonSet, node: &str, hash: &str) -> Pod {
    let template = set.spec.as_ref().map(|s| s.template.clone()).unwrap_or_default();
    let owner = ownership::controller_reference(set);
    let mut pod = pods::from_template(&template, &set.namespace().unwrap_or_default(), owner, None);
    let labels = pod.metadata.labels.get_or_insert_default();
    labels.insert(history::HASH.into(), hash.into());
    if let Some(generation) = set.annotations().get(TEMPLATE_GENERATION) {
        labels.insert("pod-template-generation".into(), generation.clone());
    }
    let spec = pod.spec.get_or_insert_default();
    spec.tolerations = Some(tolerations(spec));
    // The template's own terms were looked at when the node was chosen; this replaces them.
    let only = NodeSelectorTerm {
        match_fields: Some(vec![NodeSelectorRequirement {
            key: "metadata.name".into(),
            operator: "In".into(),
            values: Some(vec![node.into()]),
        }]),
        match_expressions: None,
    };
    let affinity: &mut Affinity = spec.affinity.get_or_insert_default();
    let affinity: &mut NodeAffinity = affinity.node_affinity.get_or_insert_default();
    affinity.required_during_scheduling_ignored_during_execution =
        Some(NodeSelector { node_selector_terms: vec![only] });
    pod
}

fn is_new(pod: &Pod, hash: &str) -> bool {
    pod.labels().get(history::HASH).is_some_and(|h| h == hash)
}

fn by_age(list: &mut [Arc<Pod>]) {
    list.sort_by_key(|p| (p.creation_timestamp().map(|t| t.0), p.name_any()));
}

fn per_node(observed: &Observed) -> BTreeMap<&str, Vec<Arc<Pod>>> {
    let mut out: BTreeMap<&str, Vec<Arc<Pod>>> = BTreeMap::new();
    for pod in &observed.pods {
        if let Some(node) = target(pod) {
            out.entry(node).or_default().push(pod.clone());
        }
    }
    out.values_mut().for_each(|list| by_age(list));
    out
}

/// `(maxSurge, maxUnavailable)` in pods. At least one of them is positive while a rollout is possible.
fn bounds(set: &DaemonSet, desired: i32) -> (usize, usize) {
    let rolling = set
        .spec
        .as_ref()
        .and_then(|s| s.update_strategy.as_ref())
        .filter(|s| s.type_.as_deref() != Some("OnDelete"))
        .and_then(|s| s.rolling_update.clone())
        .unwrap_or_default();
    let resolve =
        |v: Option<&_>, default| v.map_or(default, |v| crate::deployment::revision::resolve(Some(v), desired, true));
    let size = |n: i32| usize::try_from(n).unwrap_or(0);
    (size(resolve(rolling.max_surge.as_ref(), 0)), size(resolve(rolling.max_unavailable.as_ref(), 1)))
}

fn on_delete(set: &DaemonSet) -> bool {
    let strategy = set.spec.as_ref().and_then(|s| s.update_strategy.as_ref());
    strategy.and_then(|s| s.type_.as_deref()) == Some("OnDelete")
}

pub fn plan(now: Timestamp, observed: &Observed) -> Plan {
    let set = &observed.set;
    let fits: BTreeMap<String, Fit> = observed.nodes.iter().map(|n| (n.name_any(), fit(set, n))).collect();
    let desired = fits.values().filter(|f| f.run).count() as i32;
    let (surge, unavailable) = bounds(set, desired);
    let on = per_node(observed);
    let mut plan = place(now, observed, &fits, &on, surge > 0);
    // Rolling out starts where each node has what it should have.
    if plan == Plan::default() && !on_delete(set) {
        plan = if surge > 0 {
            roll_surging(now, observed, &fits, &on, surge)
        } else {
            roll(now, observed, &fits, &on, unavailable)
        };
    }
    plan.create.truncate(BURST);
    plan.delete.truncate(BURST);
    plan
}

/// Gives nodes that fit a pod, and takes those that are too many or in the wrong place.
fn place(
    now: Timestamp,
    observed: &Observed,
    fits: &BTreeMap<String, Fit>,
    on: &BTreeMap<&str, Vec<Arc<Pod>>>,
    surging: bool,
) -> Plan {
    let mut plan = Plan::default();
    for (node, fit) in fits {
        let Some(there) = on.get(node.as_str()) else {
            if fit.run {
                plan.create.push(node.clone());
            }
            continue;
        };
        let living = there.iter().filter(|p| !pods::is_terminating(p));
        if !fit.stay {
            plan.delete.extend(living.cloned());
            continue;
        }
        let (done, mut running): (Vec<_>, Vec<_>) = living.cloned().partition(|p| pods::is_finished(p));
        plan.replace.extend(done.into_iter().map(|p| (node.clone(), p)));
        if running.len() < 2 {
            continue;
        }
        if !surging {
            plan.delete.extend(running.split_off(1));
            continue;
        }
        let (mut new, mut old): (Vec<_>, Vec<_>) = running.into_iter().partition(|p| is_new(p, &observed.hash));
        plan.delete.extend(new.split_off(new.len().min(1)));
        plan.delete.extend(old.split_off(old.len().min(1)));
        if let (Some(new), Some(old)) = (new.first(), old.first())
            && (!pods::is_ready(old) || pods::is_available(new, min_ready(&observed.set), now))
        {
            plan.delete.push(old.clone());
        }
    }
    // Never bound, and their node is gone: nobody else would end them.
    let lost = |p: &&Arc<Pod>| {
        let bound = p.spec.as_ref().and_then(|s| s.node_name.as_deref()).is_some_and(|n| !n.is_empty());
        !bound && !pods::is_terminating(p) && target(p).is_some_and(|n| !fits.contains_key(n))
    };
    plan.delete.extend(observed.pods.iter().filter(lost).cloned());
    plan
}

/// The pods of the present and of a former template that a node has.
fn generations(there: Option<&Vec<Arc<Pod>>>, hash: &str) -> (Option<Arc<Pod>>, Option<Arc<Pod>>) {
    let living = || there.into_iter().flatten().filter(|p| pods::is_active(p));
    (living().find(|p| is_new(p, hash)).cloned(), living().find(|p| !is_new(p, hash)).cloned())
}

/// Deletes old pods; [`place`] puts new ones where they were.
fn roll(
    now: Timestamp,
    observed: &Observed,
    fits: &BTreeMap<String, Fit>,
    on: &BTreeMap<&str, Vec<Arc<Pod>>>,
    limit: usize,
) -> Plan {
    let available = |p: &Pod| pods::is_available(p, min_ready(&observed.set), now);
    let (mut away, mut free, mut candidates) = (0, Vec::new(), Vec::new());
    for (node, _) in fits.iter().filter(|(_, f)| f.run) {
        match generations(on.get(node.as_str()), &observed.hash) {
            (Some(new), None) if available(&new) => {}
            (None, Some(old)) if available(&old) => candidates.push(old),
            // It serves nobody, so that its replacement costs nothing.
            (None, Some(old)) => {
                away += 1;
                free.push(old);
            }
            _ => away += 1,
        }
    }
    candidates.truncate(limit.saturating_sub(away));
    free.extend(candidates);
    Plan { delete: free, ..Plan::default() }
}

/// Creates new pods beside old ones; [`place`] deletes the old when the new serve.
fn roll_surging(
    now: Timestamp,
    observed: &Observed,
    fits: &BTreeMap<String, Fit>,
    on: &BTreeMap<&str, Vec<Arc<Pod>>>,
    limit: usize,
) -> Plan {
    let available = |p: &Pod| pods::is_available(p, min_ready(&observed.set), now);
    let (mut more, mut free, mut candidates) = (0, Vec::new(), Vec::new());
    for (node, _) in fits.iter().filter(|(_, f)| f.run) {
        match generations(on.get(node.as_str()), &observed.hash) {
            (None, Some(old)) if available(&old) => candidates.push(node.clone()),
            (None, Some(_)) => free.push(node.clone()),
            (Some(_), Some(_)) => more += 1,
            _ => {}
        }
    }
    candidates.truncate(limit.saturating_sub(more));
    free.extend(candidates);
    Plan { create: free, ..Plan::default() }
}

/// The status that belongs to what was observed.
pub fn status(now: Timestamp, observed: &Observed) -> DaemonSetStatus {
    let set = &observed.set;
    let on = per_node(observed);
    let mut s = DaemonSetStatus {
        observed_generation: set.metadata.generation,
        collision_count: set.status.as_ref().and_then(|s| s.collision_count),
        ..DaemonSetStatus::default()
    };
    let (mut available, mut updated, mut desired) = (0, 0, 0);
    for node in &observed.nodes {
        let there = on.get(&*node.name_any());
        if !fit(set, node).run {
            s.number_misscheduled += i32::from(there.is_some());
            continue;
        }
        desired += 1;
        let Some(there) = there else { continue };
        s.current_number_scheduled += 1;
        s.number_ready += i32::from(there.iter().any(|p| pods::is_ready(p)));
        available += i32::from(there.iter().any(|p| pods::is_available(p, min_ready(set), now)));
        updated += i32::from(there.iter().any(|p| !pods::is_terminating(p) && is_new(p, &observed.hash)));
    }
    let positive = |n: i32| (n != 0).then_some(n);
    s.desired_number_scheduled = desired;
    s.number_available = positive(available);
    s.updated_number_scheduled = positive(updated);
    s.number_unavailable = positive(desired - available);
    s
}

/// The revisions that pods still come from.
fn used<'a>(revisions: &'a [ControllerRevision], own: &[Arc<Pod>], hash: &str) -> Vec<&'a str> {
    let of = |r: &ControllerRevision| r.labels().get(history::REVISION_HASH).cloned().unwrap_or_default();
    let in_use = |h: &str| h == hash || own.iter().any(|p| is_new(p, h));
    revisions.iter().filter(|r| in_use(&of(r))).filter_map(|r| r.metadata.name.as_deref()).collect()
}

#[cfg(test)]
mod tests;
