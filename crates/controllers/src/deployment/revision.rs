//! Which ReplicaSet belongs to a Deployment's template, how it is named, and the annotations that keep its number.

use crate::{ownership, pods};
use k8s_openapi::api::apps::v1::{Deployment, DeploymentSpec, ReplicaSet, ReplicaSetSpec};
use k8s_openapi::api::core::v1::PodTemplateSpec;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;
use kube::ResourceExt;
use std::collections::BTreeMap;

pub const REVISION: &str = "deployment.kubernetes.io/revision";
const REVISION_HISTORY: &str = "deployment.kubernetes.io/revision-history";
const DESIRED_REPLICAS: &str = "deployment.kubernetes.io/desired-replicas";
const MAX_REPLICAS: &str = "deployment.kubernetes.io/max-replicas";
/// Labels the pods and the set of one template.
pub const HASH: &str = "pod-template-hash";
/// Annotations of the Deployment that are its own and not copied to its sets.
const NOT_COPIED: [&str; 6] = [
    "kubectl.kubernetes.io/last-applied-configuration",
    REVISION,
    REVISION_HISTORY,
    DESIRED_REPLICAS,
    MAX_REPLICAS,
    "deprecated.deployment.rollback.to",
];

pub fn spec(d: &Deployment) -> DeploymentSpec {
    d.spec.clone().unwrap_or_default()
}

pub fn is_paused(d: &Deployment) -> bool {
    d.spec.as_ref().is_some_and(|s| s.paused == Some(true))
}

pub fn recreates(d: &Deployment) -> bool {
    strategy(d) == "Recreate"
}

fn strategy(d: &Deployment) -> &str {
    d.spec.as_ref().and_then(|s| s.strategy.as_ref()).and_then(|s| s.type_.as_deref()).unwrap_or("RollingUpdate")
}

pub fn replicas(d: &Deployment) -> i32 {
    d.spec.as_ref().and_then(|s| s.replicas).unwrap_or(1)
}

pub fn size(set: &ReplicaSet) -> i32 {
    set.spec.as_ref().and_then(|s| s.replicas).unwrap_or(1)
}

/// A number or a percentage of `total`.
pub fn resolve(value: Option<&IntOrString>, total: i32, round_up: bool) -> i32 {
    match value {
        None => 0,
        Some(IntOrString::Int(n)) => *n,
        Some(IntOrString::String(s)) => {
            let percent: i64 = s.trim_end_matches('%').parse().unwrap_or(0);
            let product = percent * i64::from(total);
            let n = if round_up { (product + 99).div_euclid(100) } else { product.div_euclid(100) };
            i32::try_from(n).unwrap_or(i32::MAX)
        }
    }
}

/// (surge, unavailable) in pods. Both zero would stop every rollout, so then one may be unavailable.
pub fn fenceposts(d: &Deployment) -> (i32, i32) {
    let rolling = d.spec.as_ref().and_then(|s| s.strategy.as_ref()).and_then(|s| s.rolling_update.as_ref());
    let surge = resolve(rolling.and_then(|r| r.max_surge.as_ref()), replicas(d), true);
    let unavailable = resolve(rolling.and_then(|r| r.max_unavailable.as_ref()), replicas(d), false);
    (surge, if surge == 0 && unavailable == 0 { 1 } else { unavailable })
}

pub fn max_surge(d: &Deployment) -> i32 {
    if recreates(d) { 0 } else { fenceposts(d).0 }
}

pub fn max_unavailable(d: &Deployment) -> i32 {
    if recreates(d) || replicas(d) == 0 { 0 } else { fenceposts(d).1.min(replicas(d)) }
}

fn without_hash(template: Option<&PodTemplateSpec>) -> PodTemplateSpec {
    let mut t = template.cloned().unwrap_or_default();
    let meta = t.metadata.get_or_insert_default();
    if let Some(labels) = &mut meta.labels {
        labels.remove(HASH);
    }
    if meta.labels.as_ref().is_some_and(BTreeMap::is_empty) {
        meta.labels = None;
    }
    meta.creation_timestamp = None;
    t
}

/// Whether the set was made of the Deployment's present template.
pub fn same_template(d: &Deployment, set: &ReplicaSet) -> bool {
    without_hash(d.spec.as_ref().map(|s| &s.template))
        == without_hash(set.spec.as_ref().and_then(|s| s.template.as_ref()))
}

/// The revision of a set; 0 when it has none.
pub fn revision(annotations: &BTreeMap<String, String>) -> i64 {
    annotations.get(REVISION).and_then(|r| r.parse().ok()).unwrap_or(0)
}

/// A set for the present template.
pub fn new_set(d: &Deployment, size: i32, revision: i64) -> ReplicaSet {
    let spec = spec(d);
    let collisions = d.status.as_ref().and_then(|s| s.collision_count).unwrap_or(0);
    let hash = pods::template_hash(&spec.template, collisions);
    let mut template = spec.template;
    let labels = template.metadata.get_or_insert_default().labels.get_or_insert_default();
    labels.insert(HASH.into(), hash.clone());
    let labels = labels.clone();
    let mut selector = spec.selector;
    selector.match_labels.get_or_insert_default().insert(HASH.into(), hash.clone());
    let mut set = ReplicaSet {
        metadata: ObjectMeta {
            name: Some(format!("{}-{hash}", d.name_any())),
            namespace: d.namespace(),
            labels: Some(labels),
            owner_references: Some(vec![ownership::controller_reference(d)]),
            ..ObjectMeta::default()
        },
        spec: Some(ReplicaSetSpec {
            replicas: Some(size),
            min_ready_seconds: spec.min_ready_seconds,
            selector,
            template: Some(template),
        }),
        status: None,
    };
    annotate(d, &mut set, revision);
    annotate_size(d, &mut set);
    set
}

/// Copies the Deployment's annotations and raises the set's revision. Returns whether anything changed.
pub fn annotate(d: &Deployment, set: &mut ReplicaSet, revision_now: i64) -> bool {
    let mut changed = false;
    let annotations = set.metadata.annotations.get_or_insert_default();
    for (k, v) in d.annotations() {
        if !NOT_COPIED.contains(&k.as_str()) && annotations.get(k) != Some(v) {
            annotations.insert(k.clone(), v.clone());
            changed = true;
        }
    }
    let old = annotations.get(REVISION).cloned();
    if revision(annotations) < revision_now {
        annotations.insert(REVISION.into(), revision_now.to_string());
        changed = true;
        if let Some(old) = old.filter(|o| !o.is_empty()) {
            let mut history: Vec<String> = annotations
                .get(REVISION_HISTORY)
                .map(|h| h.split(',').filter(|h| !h.is_empty()).map(String::from).collect())
                .unwrap_or_default();
            history.push(old);
            // Upstream keeps the text short.
            while history.len() > 1 && history.iter().map(|h| h.len() + 1).sum::<usize>() > 2000 {
                history.remove(0);
            }
            annotations.insert(REVISION_HISTORY.into(), history.join(","));
        }
    }
    changed
}

/// Notes for which size of the Deployment the set was last scaled. Returns whether anything changed.
pub fn annotate_size(d: &Deployment, set: &mut ReplicaSet) -> bool {
    let annotations = set.metadata.annotations.get_or_insert_default();
    let mut changed = false;
    for (key, value) in [(DESIRED_REPLICAS, replicas(d)), (MAX_REPLICAS, replicas(d) + max_surge(d))] {
        let value = value.to_string();
        if annotations.get(key) != Some(&value) {
            annotations.insert(key.into(), value);
            changed = true;
        }
    }
    changed
}

pub fn desired_then(set: &ReplicaSet) -> Option<i32> {
    set.annotations().get(DESIRED_REPLICAS)?.parse().ok()
}

pub fn max_then(set: &ReplicaSet) -> Option<i32> {
    set.annotations().get(MAX_REPLICAS)?.parse().ok()
}
