//! Pods as the workload controllers see them: which count, which are ready, which go first; and making many of them.

use crate::ownership;
use client::{Client, Recorder};
use k8s_openapi::api::core::v1::{ObjectReference, Pod, PodTemplateSpec};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, OwnerReference};
use k8s_openapi::jiff::{SignedDuration, Timestamp};
use kube::ResourceExt;
use kube::api::{Api, DeleteParams, PostParams, Preconditions};
use std::cmp::Ordering;
use std::sync::Arc;

/// The cost that a user puts on the deletion of a pod; lower goes first.
const DELETION_COST: &str = "controller.kubernetes.io/pod-deletion-cost";

/// How many pods one sync may create or delete.
pub const BURST: usize = 500;
/// How many pods of one owner may wait for a node. Who asks for a million replicas gets those that find room; the rest
/// would fill the machine's memory. Differs from upstream, which creates them all, 20 a second.
pub const WAITING_MAX: usize = 5_000;

pub fn phase(pod: &Pod) -> &str {
    pod.status.as_ref().and_then(|s| s.phase.as_deref()).unwrap_or_default()
}

pub fn is_finished(pod: &Pod) -> bool {
    matches!(phase(pod), "Succeeded" | "Failed")
}

pub fn is_terminating(pod: &Pod) -> bool {
    pod.metadata.deletion_timestamp.is_some()
}

/// Counts for its owner: neither finished nor on its way out.
pub fn is_active(pod: &Pod) -> bool {
    !is_finished(pod) && !is_terminating(pod)
}

/// Since when the pod is Ready.
pub fn ready_since(pod: &Pod) -> Option<Timestamp> {
    let conditions = pod.status.as_ref()?.conditions.as_deref()?;
    let ready = conditions.iter().find(|c| c.type_ == "Ready" && c.status == "True")?;
    Some(ready.last_transition_time.as_ref().map_or(Timestamp::UNIX_EPOCH, |t| t.0))
}

pub fn is_ready(pod: &Pod) -> bool {
    ready_since(pod).is_some()
}

/// Ready for at least `min_ready` seconds.
pub fn is_available(pod: &Pod, min_ready: i32, now: Timestamp) -> bool {
    match ready_since(pod) {
        None => false,
        Some(_) if min_ready <= 0 => true,
        Some(since) => now.duration_since(since) >= SignedDuration::from_secs(min_ready.into()),
    }
}

fn restarts(pod: &Pod) -> i32 {
    let statuses = pod.status.as_ref().and_then(|s| s.container_statuses.as_deref()).unwrap_or_default();
    statuses.iter().map(|c| c.restart_count).max().unwrap_or(0)
}

fn deletion_cost(pod: &Pod) -> i32 {
    pod.annotations().get(DELETION_COST).and_then(|c| c.parse().ok()).unwrap_or(0)
}

fn node(pod: &Pod) -> &str {
    pod.spec.as_ref().and_then(|s| s.node_name.as_deref()).unwrap_or_default()
}

/// A time at the exactness that upstream compares ages with, so that pods of about the same age are shuffled by uid.
fn magnitude(since: Timestamp, now: Timestamp) -> u32 {
    let seconds = now.duration_since(since).as_secs().max(0) as u64;
    u64::BITS - seconds.leading_zeros()
}

/// How many of `missing` pods an owner with these active ones creates now.
pub fn makeable(missing: usize, active: &[Arc<Pod>]) -> usize {
    let waiting = active.iter().filter(|p| node(p).is_empty()).count();
    missing.min(BURST).min(WAITING_MAX.saturating_sub(waiting))
}

/// Sorts so that the pods to delete first come first: unassigned, pending, not ready, cheap, many on one node, ready
/// for a short time, restarted often, young. Upstream: `ActivePodsWithRanks`.
pub fn rank_for_deletion(pods: &mut [Arc<Pod>], now: Timestamp) {
    let mut on_node = std::collections::HashMap::new();
    for pod in pods.iter() {
        *on_node.entry(node(pod).to_string()).or_insert(0) += 1;
    }
    let phase_rank = |p: &Pod| match phase(p) {
        "Pending" | "" => 0,
        "Unknown" => 1,
        _ => 2,
    };
    pods.sort_by(|a, b| {
        let by_age = |x: Option<Timestamp>, y: Option<Timestamp>| match (x, y) {
            // The younger, that is the one with the later time, goes first.
            (Some(x), Some(y)) => magnitude(x, now).cmp(&magnitude(y, now)),
            _ => Ordering::Equal,
        };
        (!node(a).is_empty())
            .cmp(&!node(b).is_empty())
            .then(phase_rank(a).cmp(&phase_rank(b)))
            .then(is_ready(a).cmp(&is_ready(b)))
            .then(deletion_cost(a).cmp(&deletion_cost(b)))
            .then_with(|| on_node.get(node(b)).cmp(&on_node.get(node(a))))
            .then_with(|| by_age(ready_since(a), ready_since(b)))
            .then_with(|| restarts(b).cmp(&restarts(a)))
            .then_with(|| by_age(a.creation_timestamp().map(|t| t.0), b.creation_timestamp().map(|t| t.0)))
            .then_with(|| a.metadata.uid.cmp(&b.metadata.uid))
    });
}

/// A short word that stands for a template: FNV-1a in letters that form no words.
// Differs from upstream: the hash is of the JSON form and not of Go's memory dump, so names differ, their shape doesn't.
pub fn template_hash(template: &PodTemplateSpec, collisions: i32) -> String {
    const LETTERS: &[u8] = b"bcdfghjklmnpqrstvwxz2456789";
    let mut text = serde_json::to_string(template).unwrap_or_default();
    if collisions > 0 {
        text.push_str(&collisions.to_string());
    }
    let sum = text.bytes().fold(0x811c_9dc5_u32, |h, b| (h ^ u32::from(b)).wrapping_mul(0x0100_0193));
    sum.to_string().bytes().map(|b| char::from(LETTERS[usize::from(b) % LETTERS.len()])).collect()
}

/// A pod of a template. Without a `name` the server makes one from the owner's.
pub fn from_template(template: &PodTemplateSpec, namespace: &str, owner: OwnerReference, name: Option<String>) -> Pod {
    let t = template.metadata.clone().unwrap_or_default();
    // Upstream cuts nothing here: the server shortens a prefix that is too long.
    let prefix = format!("{}-", owner.name);
    Pod {
        metadata: ObjectMeta {
            namespace: Some(namespace.to_string()),
            generate_name: name.is_none().then_some(prefix),
            name,
            labels: t.labels,
            annotations: t.annotations,
            finalizers: t.finalizers,
            owner_references: Some(vec![owner]),
            ..ObjectMeta::default()
        },
        spec: template.spec.clone(),
        status: None,
    }
}

/// Makes `count` pods in batches that double (1, 2, 4…), so that a quota or a broken template costs one request and not
/// five hundred. Returns how many were made, and the first error. `failed` is called for each pod that was not made,
/// those that were never tried included.
pub async fn create_many(
    client: &Client,
    recorder: &Recorder,
    about: &ObjectReference,
    make: impl Fn(usize) -> Pod,
    count: usize,
    failed: impl Fn(),
) -> (usize, Option<kube::Error>) {
    let namespace = about.namespace.clone().unwrap_or_default();
    let api: Api<Pod> = Api::namespaced(client.clone(), &namespace);
    let (mut made, mut tried) = (0, 0);
    let mut batch = 1;
    while tried < count {
        let size = batch.min(count - tried);
        let pods: Vec<Pod> = (tried..tried + size).map(&make).collect();
        tried += size;
        let params = PostParams::default();
        let results = futures::future::join_all(pods.iter().map(|p| api.create(&params, p))).await;
        let mut error = None;
        for result in results {
            match result {
                Ok(pod) => {
                    made += 1;
                    recorder.normal(about, "SuccessfulCreate", format!("Created pod: {}", pod.name_any()));
                }
                Err(e) => {
                    failed();
                    if !ownership::namespace_terminates(&e) {
                        recorder.warning(about, "FailedCreate", format!("Error creating: {}", ownership::message(&e)));
                    }
                    error.get_or_insert(e);
                }
            }
        }
        if error.is_some() {
            (tried..count).for_each(|_| failed());
            return (made, error);
        }
        batch *= 2;
    }
    (made, None)
}

/// Deletes one pod, and says so. A pod that is gone already counts as deleted.
pub async fn delete(
    client: &Client,
    recorder: &Recorder,
    about: &ObjectReference,
    pod: &Pod,
) -> Result<(), kube::Error> {
    let api: Api<Pod> = Api::namespaced(client.clone(), &pod.namespace().unwrap_or_default());
    let same = DeleteParams::default().preconditions(Preconditions { uid: pod.uid(), resource_version: None });
    match api.delete(&pod.name_any(), &same).await {
        Ok(_) => {
            recorder.normal(about, "SuccessfulDelete", format!("Deleted pod: {}", pod.name_any()));
            Ok(())
        }
        // 409: another pod of this name.
        Err(e) if ownership::gone(&e) || ownership::code(&e) == Some(409) => Err(e),
        Err(e) => {
            recorder.warning(about, "FailedDelete", format!("Error deleting: {}", ownership::message(&e)));
            Err(e)
        }
    }
}
