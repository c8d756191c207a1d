//! Removes pods that nobody else will: of nodes that are gone or shut down for good, never scheduled but terminating,
//! and finished ones beyond a limit.
//!
//! In: pods and nodes. Out: deletions without grace. Upstream: `gc_controller.go`.

use crate::{Context, ownership, pods};
use client::{Change, Queue};
use k8s_openapi::api::core::v1::{Node, Pod};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use k8s_openapi::jiff::Timestamp;
use kube::ResourceExt;
use kube::api::{Api, DeleteParams, Patch, PatchParams, Preconditions};
use std::sync::Arc;
use std::time::Duration;

const NAME: &str = "pod-garbage-collector";
/// Finished pods that may stay. Upstream: `--terminated-pod-gc-threshold`.
const TERMINATED_MAX: usize = 12_500;
/// A node that went may come back, or be new to the cache, for so long. Upstream: `quarantineTime`.
const QUARANTINE: Duration = Duration::from_secs(40);
/// The queue's key for the count of finished pods; no pod has it.
const COUNT: &str = "";

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Why {
    /// Bound to a node that doesn't exist.
    Orphaned,
    /// Terminating on a node that was declared out of service.
    OutOfService,
    /// Terminating, and never had a node that could confirm its end.
    Unscheduled,
}

/// `node` is the pod's, where it exists.
pub fn why(pod: &Pod, node: Option<&Node>) -> Option<Why> {
    let bound = !node_of(pod).is_empty();
    match node {
        None if bound => Some(Why::Orphaned),
        Some(node) if pods::is_terminating(pod) && out_of_service(node) && !is_ready(node) => Some(Why::OutOfService),
        _ if pods::is_terminating(pod) && !bound => Some(Why::Unscheduled),
        _ => None,
    }
}

fn node_of(pod: &Pod) -> &str {
    pod.spec.as_ref().and_then(|s| s.node_name.as_deref()).unwrap_or_default()
}

fn out_of_service(node: &Node) -> bool {
    let taints = node.spec.as_ref().and_then(|s| s.taints.as_deref()).unwrap_or_default();
    taints.iter().any(|t| t.key == "node.kubernetes.io/out-of-service")
}

fn is_ready(node: &Node) -> bool {
    let conditions = node.status.as_ref().and_then(|s| s.conditions.as_deref()).unwrap_or_default();
    conditions.iter().any(|c| c.type_ == "Ready" && c.status == "True")
}

/// The finished pods beyond the limit: evicted ones first, then the oldest.
pub fn surplus(all: Vec<Arc<Pod>>, limit: usize) -> Vec<Arc<Pod>> {
    let mut done: Vec<_> = all.into_iter().filter(|p| pods::is_finished(p)).collect();
    let evicted = |p: &Pod| p.status.as_ref().and_then(|s| s.reason.as_deref()) == Some("Evicted");
    done.sort_by_key(|p| (!evicted(p), p.creation_timestamp().map(|t| t.0), p.name_any()));
    done.truncate(done.len().saturating_sub(limit));
    done
}

pub async fn run(context: Context) {
    let pods = context.informers.of::<Pod>();
    let nodes = context.informers.of::<Node>();
    pods.wait_synced().await;
    nodes.wait_synced().await;
    let queue = Queue::new();
    let (q, p) = (queue.clone(), pods.clone());
    nodes.on_change(move |change| {
        let wait = match change {
            Change::Deleted(_) => QUARANTINE,
            _ if out_of_service(change.object()) => Duration::ZERO,
            _ => return,
        };
        let name = change.object().name_any();
        for pod in p.list().iter().filter(|p| node_of(p) == name) {
            q.add_after(client::informer::key_of(&**pod), wait);
        }
    });
    let (q, n, p) = (queue.clone(), nodes.clone(), Arc::downgrade(&pods));
    pods.on_change(move |change| {
        let pod = change.object();
        if matches!(change, Change::Deleted(_)) {
            return;
        }
        let key = client::informer::key_of(&**pod);
        match why(pod, n.get(node_of(pod)).as_deref()) {
            Some(Why::Orphaned) => q.add_after(key, QUARANTINE),
            Some(_) => q.add(key),
            None => {}
        }
        if pods::is_finished(pod) && p.upgrade().is_some_and(|p| p.len() > TERMINATED_MAX) {
            q.add(COUNT);
        }
    });

    let client = context.client(NAME);
    queue
        .run("pod-gc", 2, context.shutdown.clone(), move |key| {
            let (client, nodes, pods) = (client.clone(), nodes.clone(), pods.clone());
            async move {
                if key == COUNT {
                    for pod in surplus(pods.list(), TERMINATED_MAX) {
                        remove(&client, &pod, None).await?;
                    }
                    return Ok::<_, kube::Error>(None);
                }
                let Some(pod) = pods.get(&key) else { return Ok(None) };
                let Some(why) = why(&pod, nodes.get(node_of(&pod)).as_deref()) else { return Ok(None) };
                let target = match why {
                    Why::Orphaned => {
                        // The cache may be behind; the server knows.
                        if Api::<Node>::all(client.clone()).get_opt(node_of(&pod)).await?.is_some() {
                            return Ok(None);
                        }
                        Some("PodGC: node no longer exists")
                    }
                    Why::OutOfService => Some("PodGC: node is out of service"),
                    Why::Unscheduled => None,
                };
                tracing::info!(pod = key, ?why, "removing a pod that nobody else will");
                remove(&client, &pod, target).await?;
                Ok(None)
            }
        })
        .await;
}

/// Deletes without grace. A pod that was still running ends as failed, for the controllers that count it.
async fn remove(client: &client::Client, pod: &Pod, disrupted: Option<&str>) -> Result<(), kube::Error> {
    let api: Api<Pod> = Api::namespaced(client.clone(), &pod.namespace().unwrap_or_default());
    let gone = |e: &kube::Error| ownership::gone(e) || ownership::code(e) == Some(409);
    if !pods::is_finished(pod) {
        let conditions = disrupted.map(|message| {
            serde_json::json!([{
                "type": "DisruptionTarget", "status": "True", "reason": "DeletionByPodGC", "message": message,
                "lastTransitionTime": Time(Timestamp::now()),
            }])
        });
        let mut patch = serde_json::json!({"metadata": {"uid": pod.uid()}, "status": {"phase": "Failed"}});
        if let Some(conditions) = conditions {
            patch["status"]["conditions"] = conditions;
        }
        match api.patch_status(&pod.name_any(), &PatchParams::default(), &Patch::Strategic(&patch)).await {
            Err(e) if gone(&e) => return Ok(()),
            Err(e) => return Err(e),
            Ok(_) => {}
        }
    }
    let now =
        DeleteParams::default().grace_period(0).preconditions(Preconditions { uid: pod.uid(), resource_version: None });
    match api.delete(&pod.name_any(), &now).await {
        Err(e) if !gone(&e) => Err(e),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn pod(v: serde_json::Value) -> Pod {
        serde_json::from_value(v).unwrap()
    }

    #[test]
    fn reasons() {
        let node = |taints: serde_json::Value, ready: &str| -> Node {
            let status = json!({"conditions": [{"type": "Ready", "status": ready}]});
            serde_json::from_value(json!({"spec": {"taints": taints}, "status": status})).unwrap()
        };
        let lost = json!([{"key": "node.kubernetes.io/out-of-service", "effect": "NoExecute"}]);
        let going = json!({"deletionTimestamp": "2026-01-01T00:00:00Z"});
        let bound =
            |meta: &serde_json::Value| pod(json!({"metadata": meta, "spec": {"nodeName": "n", "containers": []}}));
        let free = |meta: &serde_json::Value| pod(json!({"metadata": meta, "spec": {"containers": []}}));
        for (what, pod, node, want) in [
            ("runs", bound(&json!({})), Some(node(json!([]), "True")), None),
            ("terminates on its node", bound(&going), Some(node(json!([]), "False")), None),
            ("its node is gone", bound(&json!({})), None, Some(Why::Orphaned)),
            ("out of service", bound(&going), Some(node(lost.clone(), "Unknown")), Some(Why::OutOfService)),
            ("tainted but ready", bound(&going), Some(node(lost.clone(), "True")), None),
            ("waits for a node", free(&json!({})), None, None),
            ("terminates without a node", free(&going), None, Some(Why::Unscheduled)),
        ] {
            assert_eq!(why(&pod, node.as_ref()), want, "{what}");
        }
    }

    #[test]
    fn evicted_then_oldest_go() {
        let done = |name: &str, phase: &str, reason: &str, time: &str| {
            Arc::new(pod(json!({"metadata": {"name": name, "creationTimestamp": time}, "spec": {"containers": []},
                "status": {"phase": phase, "reason": reason}})))
        };
        let all = vec![
            done("new", "Succeeded", "", "2026-01-03T00:00:00Z"),
            done("old", "Failed", "", "2026-01-01T00:00:00Z"),
            done("evicted", "Failed", "Evicted", "2026-01-04T00:00:00Z"),
            done("running", "Running", "", "2025-01-01T00:00:00Z"),
        ];
        let names = |n| surplus(all.clone(), n).iter().map(|p| p.name_any()).collect::<Vec<_>>();
        assert_eq!(names(1), ["evicted", "old"]);
        assert_eq!(names(3), Vec::<String>::new());
    }
}
