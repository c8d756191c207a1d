//! Does what the plan of a DaemonSet says.

use super::{Observed, Plan, min_ready, plan, pod_for, status, used};
use crate::expectations::Expectations;
use crate::{Context, history, ownership, pods, replicaset};
use client::{Change, Client, Informer, Queue, Recorder};
use k8s_openapi::api::apps::v1::{ControllerRevision, DaemonSet, DaemonSetStatus};
use k8s_openapi::api::core::v1::{Node, Pod};
use k8s_openapi::jiff::Timestamp;
use kube::ResourceExt;
use kube::api::{Api, DeleteParams, Patch, PatchParams, PostParams};
use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

const NAME: &str = "daemon-set-controller";
/// A finished pod is replaced after this long, then after twice as long, and so on.
const BACKOFF: Duration = Duration::from_secs(1);
const BACKOFF_MAX: Duration = Duration::from_secs(15 * 60);

/// When pods that end on a node may be replaced again.
#[derive(Default)]
struct Backoff {
    by_node: Mutex<HashMap<String, (Instant, Duration)>>,
}

impl Backoff {
    /// How long is still to be waited; if not at all, the next wait starts.
    fn take(&self, key: String) -> Option<Duration> {
        let now = Instant::now();
        let mut all = self.by_node.lock().unwrap_or_else(PoisonError::into_inner);
        // Who was well for twice the longest wait starts anew.
        all.retain(|_, (at, _)| now.duration_since(*at) < 2 * BACKOFF_MAX);
        let (last, wait) = all.get(&key).copied().unzip();
        if let (Some(last), Some(wait)) = (last, wait)
            && now < last + wait
        {
            return Some(last + wait - now);
        }
        all.insert(key, (now, wait.map_or(BACKOFF, |w| (w * 2).min(BACKOFF_MAX))));
        None
    }
}

struct Driver {
    client: Client,
    recorder: Recorder,
    sets: Arc<Informer<DaemonSet>>,
    pods: Arc<Informer<Pod>>,
    nodes: Arc<Informer<Node>>,
    revisions: Arc<Informer<ControllerRevision>>,
    expectations: Expectations,
    backoff: Backoff,
}

pub async fn run(context: Context) {
    let queue = Queue::new();
    let driver = Driver {
        client: context.client(NAME),
        recorder: context.recorder(NAME),
        sets: context.informers.of(),
        pods: context.informers.of(),
        nodes: context.informers.of(),
        revisions: context.informers.of(),
        expectations: Expectations::default(),
        backoff: Backoff::default(),
    };
    driver.watch(&queue);
    driver.sets.wait_synced().await;
    driver.pods.wait_synced().await;
    driver.nodes.wait_synced().await;
    driver.revisions.wait_synced().await;
    let driver = Arc::new(driver);
    queue
        .run(NAME, 2, context.shutdown.clone(), move |key| {
            let driver = driver.clone();
            async move { driver.sync(&key).await }
        })
        .await;
}

impl Driver {
    fn watch(&self, queue: &Queue) {
        let (q, e) = (queue.clone(), self.expectations.clone());
        self.sets.on_change(move |change| {
            let key = client::informer::key_of(&**change.object());
            if let Change::Deleted(_) = change {
                e.forget(&key);
            }
            q.add(key);
        });
        let (q, sets) = (queue.clone(), self.sets.clone());
        self.nodes.on_change(move |change| {
            let face = |n: &Node| {
                let spec = n.spec.clone().unwrap_or_default();
                (n.metadata.labels.clone(), spec.taints, spec.unschedulable)
            };
            let same = change.old().is_some_and(|old| face(old) == face(change.object()));
            if !same {
                sets.list().iter().for_each(|s| q.add(client::informer::key_of(&**s)));
            }
        });
        let q = queue.clone();
        self.revisions.on_change(move |change| {
            if let Some(key) = ownership::owner_key(&change.object().metadata, "apps", "DaemonSet") {
                q.add(key);
            }
        });
        let (q, e, sets) = (queue.clone(), self.expectations.clone(), self.sets.clone());
        self.pods.on_change(move |change| {
            let pod = change.object();
            let owner = ownership::owner_key(&pod.metadata, "apps", "DaemonSet");
            if let Some(former) = change.old().and_then(|o| ownership::owner_key(&o.metadata, "apps", "DaemonSet"))
                && Some(&former) != owner.as_ref()
            {
                q.add(former);
            }
            if let Some(key) = owner {
                let uid = pod.metadata.uid.as_deref().unwrap_or_default();
                match change {
                    Change::Added(_) if !pods::is_terminating(pod) => e.created(&key),
                    Change::Updated { .. } if !pods::is_terminating(pod) => {}
                    _ => e.deleted(&key, uid),
                }
                q.add(key);
            } else if ownership::controller_of(&pod.metadata).is_none() && !matches!(change, Change::Deleted(_)) {
                for set in sets.in_namespace(&pod.namespace().unwrap_or_default()) {
                    let selector = ownership::selector(set.spec.as_ref().map(|s| &s.selector));
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
        let Some(spec) = &set.spec else { return Ok(None) };
        let Some(selector) = ownership::selector(Some(&spec.selector)) else { return Ok(None) };
        let namespace = set.namespace().unwrap_or_default();
        let may_manage = self.expectations.satisfied(key);
        let own = ownership::claim_all(&self.client, &*set, &selector, self.pods.in_namespace(&namespace)).await?;
        if set.metadata.deletion_timestamp.is_some() {
            return Ok(None);
        }
        let mut revisions: Vec<ControllerRevision> =
            self.revisions.in_namespace(&namespace).iter().map(|r| (**r).clone()).collect();
        revisions.retain(|r| ownership::is_controlled_by(&r.metadata, &set.metadata));
        let Some(hash) = self.revise(&set, &namespace, &revisions).await? else { return Ok(None) };

        let observed = Observed { set: (*set).clone(), nodes: self.nodes.list(), pods: own, hash };
        let now = Timestamp::now();
        let mut again = replicaset::next_available(now, min_ready(&set), &observed.pods);
        let done = if may_manage {
            let (wait, result) = self.act(key, &observed, plan(now, &observed)).await;
            again = [again, wait].into_iter().flatten().min();
            result
        } else {
            Ok(())
        };
        let new = status(now, &observed);
        if set.status.as_ref() != Some(&new) {
            self.write_status(&set, &namespace, new).await?;
        }
        match done {
            Err(e) if ownership::namespace_terminates(&e) => return Ok(None),
            Err(e) => return Err(e),
            Ok(()) => {}
        }
        let limit = spec.revision_history_limit.unwrap_or(10);
        let used = used(&revisions, &observed.pods, &observed.hash);
        let api: Api<ControllerRevision> = Api::namespaced(self.client.clone(), &namespace);
        for old in history::surplus(&revisions, &used, limit) {
            match api.delete(&old.name_any(), &DeleteParams::default()).await {
                Err(e) if !ownership::gone(&e) => return Err(e),
                _ => {}
            }
        }
        Ok(again)
    }

    /// Keeps the present template as the newest revision. Returns its hash, or nothing if another object has its name
    /// and a new name will be tried.
    async fn revise(
        &self,
        set: &DaemonSet,
        namespace: &str,
        known: &[ControllerRevision],
    ) -> Result<Option<String>, kube::Error> {
        let Some(spec) = &set.spec else { return Ok(None) };
        let collisions = set.status.as_ref().and_then(|s| s.collision_count).unwrap_or(0);
        let labels = spec.template.metadata.as_ref().and_then(|m| m.labels.clone());
        let (present, step) = history::present(set, &spec.template, labels, collisions, known);
        let hash = present.labels().get(history::REVISION_HASH).cloned().unwrap_or_default();
        let api: Api<ControllerRevision> = Api::namespaced(self.client.clone(), namespace);
        match step {
            None => {}
            Some(history::Step::Create(mut r)) => {
                r.metadata.labels.get_or_insert_default().insert(history::HASH.into(), hash.clone());
                match api.create(&PostParams::default(), &r).await {
                    Ok(written) => self.revisions.remember(written),
                    Err(e) if ownership::code(&e) == Some(409) => {
                        let there = api.get_opt(&r.name_any()).await?;
                        let mine = there.is_some_and(|t| {
                            t.data == r.data && ownership::is_controlled_by(&t.metadata, &set.metadata)
                        });
                        if !mine {
                            let mut status = set.status.clone().unwrap_or_default();
                            status.collision_count = Some(collisions + 1);
                            self.write_status(set, namespace, status).await?;
                            return Ok(None);
                        }
                    }
                    Err(e) if ownership::namespace_terminates(&e) => return Ok(None),
                    Err(e) => return Err(e),
                }
            }
            Some(history::Step::Renumber(r)) => {
                let patch = serde_json::json!({"revision": r.revision});
                let written = api.patch(&r.name_any(), &PatchParams::default(), &Patch::Merge(&patch)).await?;
                self.revisions.remember(written);
            }
        }
        Ok(Some(hash))
    }

    async fn act(&self, key: &str, observed: &Observed, mut plan: Plan) -> (Option<Duration>, Result<(), kube::Error>) {
        let set = &observed.set;
        let about = client::events::reference(set);
        let mut again: Option<Duration> = None;
        for (node, pod) in std::mem::take(&mut plan.replace) {
            let which = format!("{}/{}/{node}", set.uid().unwrap_or_default(), set.metadata.generation.unwrap_or(0));
            if let Some(wait) = self.backoff.take(which) {
                again = Some(again.map_or(wait, |a| a.min(wait)));
                continue;
            }
            let name = client::informer::key_of(&*pod);
            if pods::phase(&pod) == "Failed" {
                let what = format!("Found failed daemon pod {name} on node {node}, will try to kill it");
                self.recorder.warning(&about, "FailedDaemonPod", what);
            } else {
                let what = format!("Found succeeded daemon pod {name} on node {node}, will try to delete it");
                self.recorder.normal(&about, "SucceededDaemonPod", what);
            }
            plan.delete.push(pod);
        }
        let uids: Vec<String> = plan.delete.iter().filter_map(|p| p.uid()).collect();
        if plan.create.is_empty() && uids.is_empty() {
            return (again, Ok(()));
        }
        self.expectations.expect(key, plan.create.len(), uids);
        let make = |i: usize| pod_for(set, plan.create.get(i).map_or("", |n| n), &observed.hash);
        let failed = || self.expectations.created(key);
        let count = plan.create.len();
        let (_, mut error) = pods::create_many(&self.client, &self.recorder, &about, make, count, failed).await;
        let deletions = plan.delete.iter().map(|p| pods::delete(&self.client, &self.recorder, &about, p));
        let results = futures::future::join_all(deletions).await;
        for (pod, result) in plan.delete.iter().zip(results) {
            if let Err(e) = result {
                self.expectations.deleted(key, pod.metadata.uid.as_deref().unwrap_or_default());
                if !ownership::gone(&e) && ownership::code(&e) != Some(409) {
                    error.get_or_insert(e);
                }
            }
        }
        (again, error.map_or(Ok(()), Err))
    }

    async fn write_status(&self, set: &DaemonSet, namespace: &str, status: DaemonSetStatus) -> Result<(), kube::Error> {
        let api: Api<DaemonSet> = Api::namespaced(self.client.clone(), namespace);
        let mut new = set.clone();
        new.status = Some(status);
        match api.replace_status(&new.name_any(), &PostParams::default(), &new).await {
            Ok(written) => {
                self.sets.remember(written);
                Ok(())
            }
            Err(e) if ownership::gone(&e) => Ok(()),
            Err(e) => Err(e),
        }
    }
}
