//! Pods leave nodes that carry a NoExecute taint they don't tolerate, at once or after their `tolerationSeconds`.
//!
//! In: nodes and pods. Out: deletions, with the condition that says why. Upstream: `taint_eviction.go`.

use crate::{Context, ownership, pods};
use client::Queue;
use k8s_openapi::api::core::v1::{Node, Pod, Taint, Toleration};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use k8s_openapi::jiff::{SignedDuration, Timestamp};
use kube::ResourceExt;
use kube::api::{Api, DeleteParams, Patch, PatchParams, Preconditions};
use std::sync::Arc;
use std::time::Duration;

const NAME: &str = "taint-eviction-controller";
/// Whose rights it has, as upstream's.
const ACCOUNT: &str = "node-controller";

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Plan {
    Stay,
    Evict,
    EvictAfter(Duration),
}

pub fn plan(now: Timestamp, node: &Node, pod: &Pod) -> Plan {
    let taints = node.spec.as_ref().and_then(|s| s.taints.as_deref()).unwrap_or_default();
    let tolerations = pod.spec.as_ref().and_then(|s| s.tolerations.as_deref()).unwrap_or_default();
    if pods::is_terminating(pod) {
        return Plan::Stay;
    }
    let mut soonest: Option<SignedDuration> = None;
    for taint in taints.iter().filter(|t| t.effect == "NoExecute") {
        let mut tolerating = tolerations.iter().filter(|t| tolerates(t, taint)).peekable();
        if tolerating.peek().is_none() {
            return Plan::Evict;
        }
        // Of several tolerations the shortest counts; one without seconds sets no limit.
        if let Some(seconds) = tolerating.filter_map(|t| t.toleration_seconds).min() {
            let since = taint.time_added.as_ref().map_or(now, |t| t.0);
            let left = SignedDuration::from_secs(seconds.max(0)).saturating_sub(now.duration_since(since));
            soonest = Some(soonest.map_or(left, |s| s.min(left)));
        }
    }
    match soonest.map(Duration::try_from) {
        None => Plan::Stay,
        Some(Ok(left)) if !left.is_zero() => Plan::EvictAfter(left),
        Some(_) => Plan::Evict,
    }
}

pub fn tolerates(toleration: &Toleration, taint: &Taint) -> bool {
    let t = toleration;
    let some = |v: &Option<String>| v.as_deref().unwrap_or_default().to_string();
    let (effect, key) = (some(&t.effect), some(&t.key));
    if (!effect.is_empty() && effect != taint.effect) || (!key.is_empty() && key != taint.key) {
        return false;
    }
    match t.operator.as_deref().unwrap_or("Equal") {
        "Exists" => true,
        "Equal" | "" => !key.is_empty() && some(&t.value) == some(&taint.value),
        _ => false,
    }
}

pub async fn run(context: Context) {
    let nodes = context.informers.of::<Node>();
    let pods = context.informers.of::<Pod>();
    nodes.wait_synced().await;
    pods.wait_synced().await;
    let queue = Queue::new();
    let (q, p) = (queue.clone(), pods.clone());
    nodes.on_change(move |change| {
        let executing = |n: &Node| {
            let taints = n.spec.as_ref().and_then(|s| s.taints.clone()).unwrap_or_default();
            taints.into_iter().filter(|t| t.effect == "NoExecute").collect::<Vec<_>>()
        };
        let now = executing(change.object());
        if change.old().map(|o| executing(o)).unwrap_or_default() != now && !now.is_empty() {
            let name = change.object().name_any();
            let on_node = |p: &Pod| p.spec.as_ref().and_then(|s| s.node_name.as_deref()) == Some(&*name);
            p.list().iter().filter(|p| on_node(p)).for_each(|p| q.add(client::informer::key_of(&**p)));
        }
    });
    let q = queue.clone();
    pods.on_change(move |change| {
        let face = |p: &Pod| p.spec.as_ref().map(|s| (s.node_name.clone(), s.tolerations.clone()));
        let pod = change.object();
        if change.old().is_none_or(|o| face(o) != face(pod)) {
            q.add(client::informer::key_of(&**pod));
        }
    });

    let client = context.client(ACCOUNT);
    let recorder = client::Recorder::new(client.clone(), NAME, "");
    queue
        .run("taint-eviction", 4, context.shutdown.clone(), move |key| {
            let (client, recorder) = (client.clone(), recorder.clone());
            let (nodes, pods) = (Arc::clone(&nodes), Arc::clone(&pods));
            async move {
                let Some(pod) = pods.get(&key) else { return Ok::<_, kube::Error>(None) };
                let node = pod.spec.as_ref().and_then(|s| s.node_name.as_deref()).and_then(|n| nodes.get(n));
                let Some(node) = node else { return Ok(None) };
                match plan(Timestamp::now(), &node, &pod) {
                    Plan::Stay => return Ok(None),
                    Plan::EvictAfter(wait) => return Ok(Some(wait)),
                    Plan::Evict => {}
                }
                let about = client::events::reference(&*pod);
                recorder.normal(&about, "TaintManagerEviction", format!("Marking for deletion Pod {key}"));
                let message = "Taint manager: deleting due to NoExecute taint";
                disrupt(&client, &pod, "DeletionByTaintManager", message).await?;
                Ok(None)
            }
        })
        .await;
}

/// Deletes a pod through no fault of its own, after noting why.
pub async fn disrupt(client: &client::Client, pod: &Pod, reason: &str, message: &str) -> Result<(), kube::Error> {
    let api: Api<Pod> = Api::namespaced(client.clone(), &pod.namespace().unwrap_or_default());
    let patch = serde_json::json!({
        "metadata": {"uid": pod.uid()},
        "status": {"conditions": [{
            "type": "DisruptionTarget", "status": "True", "reason": reason, "message": message,
            "lastTransitionTime": Time(Timestamp::now()),
        }]},
    });
    let gone = |e: &kube::Error| ownership::gone(e) || ownership::code(e) == Some(409);
    match api.patch_status(&pod.name_any(), &PatchParams::default(), &Patch::Strategic(&patch)).await {
        Err(e) if gone(&e) => return Ok(()),
        Err(e) => return Err(e),
        Ok(_) => {}
    }
    let same = DeleteParams::default().preconditions(Preconditions { uid: pod.uid(), resource_version: None });
    match api.delete(&pod.name_any(), &same).await {
        Err(e) if !gone(&e) => Err(e),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn tolerance() {
        let now: Timestamp = "2026-01-01T00:01:00Z".parse().unwrap();
        let node: Node = serde_json::from_value(json!({"spec": {"taints": [
            {"key": "a", "value": "1", "effect": "NoExecute", "timeAdded": "2026-01-01T00:00:00Z"},
            {"key": "b", "effect": "NoSchedule"},
        ]}}))
        .unwrap();
        for (tolerations, want) in [
            (json!([]), Plan::Evict),
            (json!([{"operator": "Exists"}]), Plan::Stay),
            (json!([{"key": "a", "value": "2"}]), Plan::Evict),
            (json!([{"key": "a", "value": "1", "effect": "NoSchedule"}]), Plan::Evict),
            (
                json!([{"key": "a", "operator": "Exists", "effect": "NoExecute", "tolerationSeconds": 300}]),
                Plan::EvictAfter(Duration::from_secs(240)),
            ),
            (json!([{"key": "a", "operator": "Exists", "tolerationSeconds": 60}]), Plan::Evict),
            (
                json!([{"key": "a", "operator": "Exists", "tolerationSeconds": 90}, {"operator": "Exists"}]),
                Plan::EvictAfter(Duration::from_secs(30)),
            ),
        ] {
            let pod = serde_json::from_value(json!({"spec": {"containers": [], "tolerations": tolerations}})).unwrap();
            assert_eq!(plan(now, &node, &pod), want, "{tolerations}");
        }
    }
}
