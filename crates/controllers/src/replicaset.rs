//! ReplicaSets (and ReplicationControllers, which are the same with another selector): as many pods as asked for.
//!
//! In: sets and pods. Out: pods created and deleted, adopted and released, and the set's status.

use crate::Context;
use crate::expectations::Expectations;
use crate::{ownership, pods};
use client::{Change, Client, Informer, Queue, Recorder};
use k8s_openapi::NamespaceResourceScope;
use k8s_openapi::api::apps::v1::{ReplicaSet, ReplicaSetCondition, ReplicaSetStatus};
use k8s_openapi::api::core::v1::{Pod, PodTemplateSpec};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{LabelSelector, Time};
use k8s_openapi::jiff::Timestamp;
use kube::api::{Api, PostParams};
use kube::{Resource, ResourceExt};
use serde::Serialize;
use std::sync::Arc;
use std::time::Duration;

const WORKERS: usize = 8;

/// What makes a kind a replica set.
pub trait ReplicaKind: client::informer::Object + Resource<Scope = NamespaceResourceScope> + Serialize {
    const GROUP: &'static str;
    const KIND: &'static str;

    fn replicas(&self) -> i32;
    fn min_ready_seconds(&self) -> i32;
    fn selector(&self) -> Option<LabelSelector>;
    fn template(&self) -> Option<&PodTemplateSpec>;
    /// The status in the words of ReplicaSets.
    fn status(&self) -> ReplicaSetStatus;
    fn set_status(&mut self, status: ReplicaSetStatus);
}

impl ReplicaKind for ReplicaSet {
    const GROUP: &'static str = "apps";
    const KIND: &'static str = "ReplicaSet";

    fn replicas(&self) -> i32 {
        self.spec.as_ref().and_then(|s| s.replicas).unwrap_or(1)
    }
    fn min_ready_seconds(&self) -> i32 {
        self.spec.as_ref().and_then(|s| s.min_ready_seconds).unwrap_or(0)
    }
    fn selector(&self) -> Option<LabelSelector> {
        self.spec.as_ref().map(|s| s.selector.clone())
    }
    fn template(&self) -> Option<&PodTemplateSpec> {
        self.spec.as_ref()?.template.as_ref()
    }
    fn status(&self) -> ReplicaSetStatus {
        self.status.clone().unwrap_or_default()
    }
    fn set_status(&mut self, status: ReplicaSetStatus) {
        self.status = Some(status);
    }
}

/// What one sync does.
#[derive(Debug, Default, PartialEq)]
pub struct Plan {
    pub create: usize,
    pub delete: Vec<Arc<Pod>>,
}

enum Done {
    All,
    /// Pods are missing, but too many wait for a node.
    HeldBack,
}

/// Compares the set's own active pods with what it asks for.
pub fn plan(now: Timestamp, replicas: i32, active: &[Arc<Pod>]) -> Plan {
    let want = usize::try_from(replicas).unwrap_or(0);
    if active.len() < want {
        return Plan { create: pods::makeable(want - active.len(), active), delete: Vec::new() };
    }
    let surplus = (active.len() - want).min(pods::BURST);
    if surplus == 0 {
        return Plan::default();
    }
    let mut ranked = active.to_vec();
    pods::rank_for_deletion(&mut ranked, now);
    ranked.truncate(surplus);
    Plan { create: 0, delete: ranked }
}

/// The status that belongs to what was observed. `failure` is the error of this sync's creations or deletions, with the
/// number of pods that were missing (positive) or too many (negative).
pub fn status<K: ReplicaKind>(
    now: Timestamp,
    set: &K,
    mine: &[Arc<Pod>],
    failure: Option<(bool, String)>,
    managed: bool,
) -> ReplicaSetStatus {
    let empty = Default::default();
    let template_labels =
        set.template().and_then(|t| t.metadata.as_ref()).and_then(|m| m.labels.as_ref()).unwrap_or(&empty);
    let old = set.status();
    let active: Vec<_> = mine.iter().filter(|p| pods::is_active(p)).collect();
    let count = |f: &dyn Fn(&Pod) -> bool| active.iter().filter(|p| f(p)).count() as i32;
    let ready = count(&pods::is_ready);
    let available = count(&|p| pods::is_available(p, set.min_ready_seconds(), now));
    let labelled = count(&|p| template_labels.iter().all(|(k, v)| p.labels().get(k) == Some(v)));
    let terminating = mine.iter().filter(|p| pods::is_terminating(p) && !pods::is_finished(p)).count() as i32;

    let mut conditions = old.conditions.unwrap_or_default();
    let present = conditions.iter().any(|c| c.type_ == "ReplicaFailure");
    match failure {
        Some((creating, message)) if !present => conditions.push(ReplicaSetCondition {
            type_: "ReplicaFailure".into(),
            status: "True".into(),
            reason: Some(if creating { "FailedCreate" } else { "FailedDelete" }.into()),
            message: Some(message),
            last_transition_time: Some(Time(now)),
        }),
        Some(_) => {}
        None if managed => conditions.retain(|c| c.type_ != "ReplicaFailure"),
        None => {}
    }
    ReplicaSetStatus {
        replicas: active.len() as i32,
        fully_labeled_replicas: positive(labelled),
        ready_replicas: positive(ready),
        available_replicas: positive(available),
        terminating_replicas: Some(terminating),
        observed_generation: set.meta().generation,
        conditions: (!conditions.is_empty()).then_some(conditions),
    }
}

fn positive(n: i32) -> Option<i32> {
    (n != 0).then_some(n)
}

/// When a pod that is ready now will become available.
pub fn next_available(now: Timestamp, min_ready: i32, mine: &[Arc<Pod>]) -> Option<Duration> {
    mine.iter()
        .filter(|p| pods::is_active(p) && !pods::is_available(p, min_ready, now))
        .filter_map(|p| pods::ready_since(p))
        .map(|since| {
            let left = f64::from(min_ready) - now.duration_since(since).as_secs_f64();
            Duration::from_secs_f64(left.max(0.0)) + Duration::from_millis(10)
        })
        .min()
}

pub async fn run(context: Context) {
    run_kind::<ReplicaSet>(context, "replicaset-controller").await;
}

pub async fn run_kind<K: ReplicaKind>(context: Context, name: &'static str) {
    let queue = Queue::new();
    let driver = Driver {
        client: context.client(name),
        recorder: context.recorder(name),
        sets: context.informers.of::<K>(),
        pods: context.informers.of::<Pod>(),
        expectations: Expectations::default(),
    };
    driver.watch(&queue);
    driver.sets.wait_synced().await;
    driver.pods.wait_synced().await;
    let driver = Arc::new(driver);
    queue
        .run(name, WORKERS, context.shutdown.clone(), move |key| {
            let driver = driver.clone();
            async move { driver.sync(&key).await }
        })
        .await;
}

struct Driver<K> {
    client: Client,
    recorder: Recorder,
    sets: Arc<Informer<K>>,
    pods: Arc<Informer<Pod>>,
    expectations: Expectations,
}

impl<K: ReplicaKind> Driver<K> {
    fn watch(&self, queue: &Queue) {
        let (q, e) = (queue.clone(), self.expectations.clone());
        self.sets.on_change(move |change| {
            let key = client::informer::key_of(&**change.object());
            if let Change::Deleted(_) = change {
                e.forget(&key);
            }
            q.add(key);
        });
        let (q, e, sets) = (queue.clone(), self.expectations.clone(), self.sets.clone());
        self.pods.on_change(move |change| {
            let pod = change.object();
            let owner = ownership::owner_key(&pod.metadata, K::GROUP, K::KIND);
            if let Some(old) = change.old()
                && let Some(former) = ownership::owner_key(&old.metadata, K::GROUP, K::KIND)
                && Some(&former) != owner.as_ref()
            {
                q.add(former);
            }
            if let Some(key) = owner {
                let uid = pod.metadata.uid.as_deref().unwrap_or_default();
                match change {
                    Change::Deleted(_) => e.deleted(&key, uid),
                    _ if pods::is_terminating(pod) => e.deleted(&key, uid),
                    Change::Added(_) => e.created(&key),
                    Change::Updated { .. } => {}
                }
                q.add(key);
            } else if ownership::controller_of(&pod.metadata).is_none()
                && !matches!(change, Change::Deleted(_))
                && change.old().is_none_or(|old| {
                    old.metadata.labels != pod.metadata.labels || ownership::controller_of(&old.metadata).is_some()
                })
            {
                // An orphan: whoever selects it may adopt it.
                for set in sets.in_namespace(&pod.namespace().unwrap_or_default()) {
                    let selector = ownership::selector(set.selector().as_ref());
                    if selector.is_some_and(|s| ownership::selects(&s, pod.metadata.labels.as_ref())) {
                        q.add(client::informer::key_of(&*set));
                    }
                }
            }
        });
    }

    async fn sync(&self, key: &str) -> Result<Option<Duration>, kube::Error> {
        let Some(set) = self.sets.get(key) else {
            self.expectations.forget(key);
            return Ok(None);
        };
        let Some(selector) = ownership::selector(set.selector().as_ref()) else { return Ok(None) };
        // Asked before the pods are read, so that what it says holds for them.
        let may_manage = self.expectations.satisfied(key);
        let namespace = set.namespace().unwrap_or_default();
        let candidates = self
            .pods
            .in_namespace(&namespace)
            .into_iter()
            .filter(|p| !pods::is_finished(p) || pods::is_terminating(p))
            .collect();
        let mine = ownership::claim_all(&self.client, &*set, &selector, candidates).await?;
        let now = Timestamp::now();
        let managed = may_manage && set.meta().deletion_timestamp.is_none();
        let done = if managed { self.manage(key, &*set, &mine).await } else { Ok(Done::All) };

        let failure = match &done {
            Ok(Done::All) => None,
            Ok(Done::HeldBack) => {
                let max = pods::WAITING_MAX;
                Some((true, format!("{max} pods wait for a node; more are created as these find one")))
            }
            Err((creating, e)) => Some((*creating, ownership::message(e))),
        };
        let status = status(now, &*set, &mine, failure, managed);
        let mut new = (*set).clone();
        new.set_status(status);
        // Compared as the kind keeps it: some tell less.
        if new.status() != set.status() {
            let api: Api<K> = Api::namespaced(self.client.clone(), &namespace);
            match api.replace_status(&new.name_any(), &PostParams::default(), &new).await {
                Ok(written) => self.sets.remember(written),
                Err(e) if ownership::gone(&e) => {}
                Err(e) => return Err(e),
            }
        }
        match done {
            Err((_, e)) if ownership::namespace_terminates(&e) => Ok(None),
            Err((_, e)) => Err(e),
            Ok(_) => Ok(next_available(now, set.min_ready_seconds(), &mine)),
        }
    }

    /// Creates and deletes. Returns the first failure, and whether it was one of creation.
    async fn manage(&self, key: &str, set: &K, mine: &[Arc<Pod>]) -> Result<Done, (bool, kube::Error)> {
        let active: Vec<_> = mine.iter().filter(|p| pods::is_active(p)).cloned().collect();
        let plan = plan(Timestamp::now(), set.replicas(), &active);
        let about = client::events::reference(set);
        let namespace = set.namespace().unwrap_or_default();
        if plan.create > 0 {
            let Some(template) = set.template() else { return Ok(Done::All) };
            let owner = ownership::controller_reference(set);
            self.expectations.expect_creations(key, plan.create);
            let make = |_| pods::from_template(template, &namespace, owner.clone(), None);
            let failed = || self.expectations.created(key);
            let (_, error) = pods::create_many(&self.client, &self.recorder, &about, make, plan.create, failed).await;
            return error.map_or(Ok(Done::All), |e| Err((true, e)));
        }
        if plan.delete.is_empty() {
            let wanted = usize::try_from(set.replicas()).unwrap_or(0);
            return Ok(if active.len() < wanted { Done::HeldBack } else { Done::All });
        }
        self.expectations.expect_deletions(key, plan.delete.iter().filter_map(|p| p.uid()));
        let deletions = plan.delete.iter().map(|p| pods::delete(&self.client, &self.recorder, &about, p));
        let results = futures::future::join_all(deletions).await;
        let mut error = None;
        for (pod, result) in plan.delete.iter().zip(results) {
            if let Err(e) = result {
                self.expectations.deleted(key, pod.metadata.uid.as_deref().unwrap_or_default());
                if !ownership::gone(&e) && ownership::code(&e) != Some(409) {
                    error.get_or_insert(e);
                }
            }
        }
        error.map_or(Ok(Done::All), |e| Err((false, e)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn pod(name: &str, node: &str, phase: &str, ready: Option<&str>) -> Arc<Pod> {
        let conditions = ready.map(|t| json!([{"type": "Ready", "status": "True", "lastTransitionTime": t}]));
        Arc::new(
            serde_json::from_value(json!({
                "metadata": {"name": name, "uid": name, "labels": {"a": "b"}, "creationTimestamp": "2026-01-01T00:00:00Z"},
                "spec": {"nodeName": node, "containers": []},
                "status": {"phase": phase, "conditions": conditions},
            }))
            .unwrap(),
        )
    }

    fn now() -> Timestamp {
        "2026-01-01T01:00:00Z".parse().unwrap()
    }

    #[test]
    fn counts() {
        let three: Vec<_> = ["a", "b", "c"].iter().map(|n| pod(n, "n", "Running", None)).collect();
        assert_eq!(plan(now(), 5, &three).create, 2);
        assert_eq!(plan(now(), 3, &three), Plan::default());
        assert_eq!(plan(now(), 1, &three).delete.len(), 2);
        assert_eq!(plan(now(), -1, &three).delete.len(), 3);
        assert_eq!(plan(now(), 10_000, &[]).create, pods::BURST);
    }

    #[test]
    fn pods_that_find_no_node_hold_back_more() {
        let of = |nodes: &[(&str, usize)]| -> Vec<_> {
            nodes.iter().flat_map(|(node, n)| vec![pod("p", node, "Pending", None); *n]).collect()
        };
        let max = pods::WAITING_MAX;
        assert_eq!(plan(now(), i32::MAX, &of(&[("", max - 3)])).create, 3);
        assert_eq!(plan(now(), i32::MAX, &of(&[("", max)])), Plan::default());
        assert_eq!(plan(now(), i32::MAX, &of(&[("n", max), ("", 1)])).create, pods::BURST);
    }

    #[test]
    fn the_least_useful_pod_goes_first() {
        let early = Some("2026-01-01T00:00:00Z");
        let late = Some("2026-01-01T00:59:50Z");
        let cases = [
            ("unassigned", pod("x", "", "Pending", None), pod("y", "n", "Pending", None)),
            ("pending", pod("x", "n", "Pending", None), pod("y", "n", "Running", None)),
            ("not ready", pod("x", "n", "Running", None), pod("y", "n", "Running", early)),
            ("ready for less long", pod("x", "n", "Running", late), pod("y", "n", "Running", early)),
        ];
        for (what, first, second) in cases {
            for list in [vec![first.clone(), second.clone()], vec![second.clone(), first.clone()]] {
                let got = plan(now(), 1, &list).delete;
                assert_eq!(got[0].name_any(), first.name_any(), "{what}");
            }
        }
        let crowded = vec![
            pod("a", "one", "Running", early),
            pod("b", "two", "Running", early),
            pod("c", "two", "Running", early),
        ];
        assert_ne!(plan(now(), 2, &crowded).delete[0].name_any(), "a");
    }

    #[test]
    fn status_counts_and_conditions() {
        let set: ReplicaSet = serde_json::from_value(json!({
            "metadata": {"name": "s", "generation": 3},
            "spec": {"replicas": 3, "minReadySeconds": 30, "selector": {"matchLabels": {"a": "b"}},
                "template": {"metadata": {"labels": {"a": "b"}}}},
        }))
        .unwrap();
        let mine = vec![
            pod("a", "n", "Running", Some("2026-01-01T00:00:00Z")),
            pod("b", "n", "Running", Some("2026-01-01T00:59:50Z")),
            pod("c", "n", "Failed", None),
        ];
        let s = status(now(), &set, &mine, Some((true, "quota".into())), true);
        assert_eq!((s.replicas, s.ready_replicas, s.available_replicas), (2, Some(2), Some(1)));
        assert_eq!(s.observed_generation, Some(3));
        assert_eq!(s.conditions.as_ref().unwrap()[0].reason.as_deref(), Some("FailedCreate"));
        let wait = next_available(now(), 30, &mine).unwrap();
        assert!(wait > Duration::from_secs(20) && wait < Duration::from_secs(21));

        let mut failed = set.clone();
        failed.status = Some(s);
        let s = status(now(), &failed, &mine, None, false);
        assert!(s.conditions.is_some(), "a sync that did nothing does not know");
        let s = status(now(), &failed, &mine, None, true);
        assert!(s.conditions.is_none());
    }
}
