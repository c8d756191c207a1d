//! Nodes that fall silent, and taints that follow a node's conditions.
//!
//! In: nodes and their leases. Out: conditions that become Unknown, taints, and pods marked not ready on a node that is
//! not. Pods are evicted by [`crate::taint_eviction`], because of the taints. Upstream: `node_lifecycle_controller.go`.

use crate::{Context, ownership, pods};
use client::{Change, Client, Informer, Queue, Recorder};
use k8s_openapi::api::coordination::v1::Lease;
use k8s_openapi::api::core::v1::{Node, NodeCondition, Pod, Taint};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use k8s_openapi::jiff::{SignedDuration, Timestamp};
use kube::ResourceExt;
use kube::api::{Api, Patch, PatchParams, PostParams};
use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

const NAME: &str = "node-controller";
/// A node that is silent for so long is no longer believed.
const GRACE: SignedDuration = SignedDuration::from_secs(50);
/// As [`GRACE`], for a node that never spoke.
const STARTUP_GRACE: SignedDuration = SignedDuration::from_secs(60);

pub const NOT_READY: &str = "node.kubernetes.io/not-ready";
pub const UNREACHABLE: &str = "node.kubernetes.io/unreachable";
const UNSCHEDULABLE: &str = "node.kubernetes.io/unschedulable";
/// (condition, taint while it is True)
const PRESSURES: [(&str, &str); 4] = [
    ("MemoryPressure", "node.kubernetes.io/memory-pressure"),
    ("DiskPressure", "node.kubernetes.io/disk-pressure"),
    ("PIDPressure", "node.kubernetes.io/pid-pressure"),
    ("NetworkUnavailable", "node.kubernetes.io/network-unavailable"),
];
/// Conditions that a kubelet keeps, and that become Unknown with it.
const KEPT_BY_KUBELET: [&str; 4] = ["Ready", "MemoryPressure", "DiskPressure", "PIDPressure"];

#[derive(Clone, Debug, Default, PartialEq)]
pub struct Plan {
    pub conditions: Option<Vec<NodeCondition>>,
    pub taints: Option<Vec<Taint>>,
    /// The node was Ready and isn't any more.
    pub lost: bool,
    /// When the node's silence will have lasted too long.
    pub again: Option<Duration>,
}

/// `silent` is for how long the node hasn't renewed its lease or status, by a clock of this process that nobody sets:
/// clocks may differ, and jump. `all_down` says that no node is Ready: then the fault is more likely here, and nobody is evicted.
pub fn plan(now: Timestamp, node: &Node, silent: SignedDuration, all_down: bool) -> Plan {
    let mut plan = Plan::default();
    let present = node.status.as_ref().and_then(|s| s.conditions.clone()).unwrap_or_default();
    let spoke = find(&present, "Ready").is_some();
    let grace = if spoke { GRACE } else { STARTUP_GRACE };
    let mut conditions = present.clone();
    if silent >= grace {
        for kind in KEPT_BY_KUBELET {
            match conditions.iter_mut().find(|c| c.type_ == kind) {
                Some(c) if c.status == "Unknown" => {}
                Some(c) => {
                    c.status = "Unknown".into();
                    c.reason = Some("NodeStatusUnknown".into());
                    c.message = Some("Kubelet stopped posting node status.".into());
                    c.last_transition_time = Some(Time(now));
                }
                None => conditions.push(NodeCondition {
                    type_: kind.into(),
                    status: "Unknown".into(),
                    reason: Some("NodeStatusNeverUpdated".into()),
                    message: Some("Kubelet never posted node status.".into()),
                    last_heartbeat_time: node.creation_timestamp(),
                    last_transition_time: Some(Time(now)),
                }),
            }
        }
    } else {
        plan.again = Duration::try_from(grace - silent).ok().map(|d| d + Duration::from_millis(10));
    }
    let was = find(&present, "Ready").map(|c| c.status.as_str());
    let is = find(&conditions, "Ready").map(|c| c.status.as_str());
    plan.lost = was == Some("True") && is != Some("True");
    let taints = taints(now, node, &conditions, all_down);
    if taints != node.spec.as_ref().and_then(|s| s.taints.clone()).unwrap_or_default() {
        plan.taints = Some(taints);
    }
    if conditions != present {
        plan.conditions = Some(conditions);
    }
    plan
}

fn find<'a>(conditions: &'a [NodeCondition], kind: &str) -> Option<&'a NodeCondition> {
    conditions.iter().find(|c| c.type_ == kind)
}

pub fn is_ready(node: &Node) -> bool {
    let conditions = node.status.as_ref().and_then(|s| s.conditions.as_deref()).unwrap_or_default();
    find(conditions, "Ready").is_some_and(|c| c.status == "True")
}

/// The taints that belong to these conditions, with everybody else's taints kept.
fn taints(now: Timestamp, node: &Node, conditions: &[NodeCondition], all_down: bool) -> Vec<Taint> {
    let spec = node.spec.clone().unwrap_or_default();
    let present = spec.taints.unwrap_or_default();
    let mut wanted: Vec<(&str, &str)> = Vec::new();
    match find(conditions, "Ready").map(|c| c.status.as_str()) {
        Some("True") => {}
        Some("Unknown") => wanted.push((UNREACHABLE, "NoSchedule")),
        Some(_) => wanted.push((NOT_READY, "NoSchedule")),
        // A node that has not spoken yet keeps the taint that it was born with.
        None => {
            wanted.extend(present.iter().any(|t| t.key == NOT_READY).then_some((NOT_READY, "NoSchedule")));
        }
    }
    if !all_down && let Some((key, _)) = wanted.first().copied().filter(|_| find(conditions, "Ready").is_some()) {
        wanted.push((key, "NoExecute"));
    }
    for (condition, taint) in PRESSURES {
        if find(conditions, condition).is_some_and(|c| c.status == "True") {
            wanted.push((taint, "NoSchedule"));
        }
    }
    if spec.unschedulable == Some(true) {
        wanted.push((UNSCHEDULABLE, "NoSchedule"));
    }
    let ours = |t: &Taint| {
        let by_condition = [NOT_READY, UNREACHABLE, UNSCHEDULABLE].contains(&t.key.as_str())
            || PRESSURES.iter().any(|(_, k)| t.key == *k);
        let executes = t.effect == "NoExecute" && [NOT_READY, UNREACHABLE].contains(&t.key.as_str());
        (by_condition && t.effect == "NoSchedule") || executes
    };
    let mut taints: Vec<Taint> =
        present.into_iter().filter(|t| !ours(t) || wanted.contains(&(t.key.as_str(), t.effect.as_str()))).collect();
    for (key, effect) in wanted {
        if !taints.iter().any(|t| t.key == key && t.effect == effect) {
            taints.push(Taint { key: key.into(), effect: effect.into(), value: None, time_added: Some(Time(now)) });
        }
    }
    taints
}

/// When each node was last heard.
type Heard = Arc<Mutex<HashMap<String, Instant>>>;

pub async fn run(context: Context) {
    let nodes = context.informers.of::<Node>();
    let leases = context.informers.selected::<Lease>("metadata.namespace=kube-node-lease");
    let queue = Queue::new();
    let heard: Heard = Arc::default();
    let hear = |heard: &Heard, name: &str| {
        heard.lock().unwrap_or_else(PoisonError::into_inner).insert(name.to_string(), Instant::now());
    };

    let h = heard.clone();
    leases.on_change(move |c| {
        if !matches!(c, Change::Deleted(_)) {
            hear(&h, &c.object().name_any());
        }
    });
    let (q, h, n) = (queue.clone(), heard.clone(), nodes.clone());
    nodes.on_change(move |change| {
        let node = change.object();
        let name = node.name_any();
        let heartbeat = |n: &Node| {
            let conditions = n.status.as_ref().and_then(|s| s.conditions.as_deref()).unwrap_or_default();
            find(conditions, "Ready").and_then(|c| c.last_heartbeat_time.clone())
        };
        match change {
            Change::Deleted(_) => {
                h.lock().unwrap_or_else(PoisonError::into_inner).remove(&name);
            }
            Change::Updated { old, new } if heartbeat(old) != heartbeat(new) => hear(&h, &name),
            Change::Added(_) => {
                h.lock().unwrap_or_else(PoisonError::into_inner).entry(name.clone()).or_insert_with(Instant::now);
            }
            Change::Updated { .. } => {}
        }
        // Whether all nodes are down matters to each of them.
        if change.old().is_none_or(|old| is_ready(old) != is_ready(node)) {
            n.list().iter().for_each(|n| q.add(n.name_any()));
        }
        q.add(name);
    });
    nodes.wait_synced().await;

    let driver = Arc::new(Driver {
        client: context.client(NAME),
        recorder: context.recorder(NAME),
        nodes,
        pods: context.informers.of(),
        heard,
    });
    queue
        .run("node-lifecycle", 4, context.shutdown.clone(), move |name| {
            let driver = driver.clone();
            async move { driver.sync(&name).await }
        })
        .await;
}

struct Driver {
    client: Client,
    recorder: Recorder,
    nodes: Arc<Informer<Node>>,
    pods: Arc<Informer<Pod>>,
    heard: Heard,
}

impl Driver {
    async fn sync(&self, name: &str) -> Result<Option<Duration>, kube::Error> {
        let Some(node) = self.nodes.get(name) else { return Ok(None) };
        let now = Timestamp::now();
        let heard = {
            let mut all = self.heard.lock().unwrap_or_else(PoisonError::into_inner);
            *all.entry(name.to_string()).or_insert_with(Instant::now)
        };
        let silent = SignedDuration::try_from(heard.elapsed()).unwrap_or(SignedDuration::MAX);
        let all_down = !self.nodes.list().iter().any(|n| is_ready(n));
        let plan = plan(now, &node, silent, all_down);
        let api: Api<Node> = Api::all(self.client.clone());
        let mut latest = (*node).clone();
        if let Some(conditions) = plan.conditions {
            latest.status.get_or_insert_default().conditions = Some(conditions);
            latest = api.replace_status(name, &PostParams::default(), &latest).await?;
        }
        if let Some(taints) = plan.taints {
            let patch = serde_json::json!({
                "metadata": {"resourceVersion": latest.resource_version()},
                "spec": {"taints": taints},
            });
            let written = api.patch(name, &PatchParams::default(), &Patch::Merge(&patch)).await?;
            self.nodes.remember(written);
        }
        if plan.lost {
            let message = format!("Node {name} status is now: NodeNotReady");
            self.recorder.normal(&client::events::reference(&*node), "NodeNotReady", message);
        }
        // Also when the node itself said so.
        if !is_ready(&latest) && latest.status.as_ref().is_some_and(|s| s.conditions.is_some()) {
            self.mark_pods(name, now).await?;
        }
        Ok(plan.again)
    }

    /// Takes the pods of a node that is not ready out of service.
    async fn mark_pods(&self, node: &str, now: Timestamp) -> Result<(), kube::Error> {
        self.pods.wait_synced().await;
        let on_node = |p: &Pod| p.spec.as_ref().and_then(|s| s.node_name.as_deref()) == Some(node);
        for pod in self.pods.list().iter().filter(|p| on_node(p) && pods::is_ready(p)) {
            let patch = serde_json::json!({
                "metadata": {"uid": pod.uid()},
                "status": {"conditions": [{"type": "Ready", "status": "False", "lastTransitionTime": Time(now)}]},
            });
            let api: Api<Pod> = Api::namespaced(self.client.clone(), &pod.namespace().unwrap_or_default());
            match api.patch_status(&pod.name_any(), &PatchParams::default(), &Patch::Strategic(&patch)).await {
                Ok(_) => {}
                Err(e) if ownership::gone(&e) || ownership::code(&e) == Some(409) => {}
                Err(e) => return Err(e),
            }
            let message = "Node is not ready";
            self.recorder.warning(&client::events::reference(&**pod), "NodeNotReady", message);
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn node(ready: Option<&str>, taints: serde_json::Value) -> Node {
        let conditions =
            ready.map(|r| json!([{"type": "Ready", "status": r}, {"type": "DiskPressure", "status": "False"}]));
        serde_json::from_value(json!({
            "metadata": {"name": "n", "creationTimestamp": "2026-01-01T00:00:00Z"},
            "spec": {"taints": taints}, "status": {"conditions": conditions},
        }))
        .unwrap()
    }

    fn shown(plan: &Plan) -> Option<Vec<String>> {
        let taints = plan.taints.as_ref()?.iter().map(|t| format!("{}:{}", t.key, t.effect));
        Some(taints.map(|t| t.replace("node.kubernetes.io/", "")).collect())
    }

    #[test]
    fn taints_follow_conditions() {
        let t: Timestamp = "2026-01-01T00:01:00Z".parse().unwrap();
        let born = json!([{"key": NOT_READY, "effect": "NoSchedule"}]);
        let own = json!([{"key": "mine", "effect": "NoSchedule"}, {"key": NOT_READY, "effect": "NoExecute"}]);
        for (what, node, all_down, want) in [
            ("born", node(None, born.clone()), true, None),
            ("becomes ready", node(Some("True"), born.clone()), false, Some(vec![])),
            ("others' taints stay", node(Some("True"), own.clone()), false, Some(vec!["mine:NoSchedule"])),
            (
                "not ready",
                node(Some("False"), born.clone()),
                false,
                Some(vec!["not-ready:NoSchedule", "not-ready:NoExecute"]),
            ),
            ("not ready like all", node(Some("False"), born.clone()), true, None),
            (
                "silent",
                node(Some("Unknown"), born),
                false,
                Some(vec!["unreachable:NoSchedule", "unreachable:NoExecute"]),
            ),
        ] {
            let p = plan(t, &node, SignedDuration::ZERO, all_down);
            assert_eq!(shown(&p), want.map(|w| w.into_iter().map(String::from).collect()), "{what}");
        }
    }

    #[test]
    fn silence_makes_unknown_once() {
        let heard: Timestamp = "2026-01-01T00:00:00Z".parse().unwrap();
        let mut n = node(Some("True"), json!([]));
        // The clock was set by a year, either way: that isn't silence.
        for hours in [-8760, 8760] {
            let p = plan(heard + SignedDuration::from_hours(hours), &n, SignedDuration::from_secs(1), false);
            assert_eq!((p.conditions, p.taints, p.lost), (None, None, false));
        }
        let p = plan(heard + SignedDuration::from_secs(30), &n, SignedDuration::from_secs(30), false);
        assert_eq!(p.conditions, None);
        assert_eq!(p.again.unwrap().as_secs(), 20);
        let late = heard + SignedDuration::from_secs(51);
        let silent = SignedDuration::from_secs(51);
        let p = plan(late, &n, silent, false);
        assert!(p.lost);
        let conditions = p.conditions.unwrap();
        assert_eq!(conditions.len(), 4);
        assert!(conditions.iter().all(|c| c.status == "Unknown"));
        assert_eq!(conditions[0].reason.as_deref(), Some("NodeStatusUnknown"));
        assert_eq!(conditions[3].reason.as_deref(), Some("NodeStatusNeverUpdated"));
        n.status.as_mut().unwrap().conditions = Some(conditions);
        n.spec.as_mut().unwrap().taints = p.taints;
        assert_eq!(plan(late, &n, silent, false), Plan::default(), "nothing to do twice");
    }
}
