//! StatefulSets: pods with an ordinal, a name and storage of their own, one after another.
//!
//! In: sets, their pods and ControllerRevisions, and claims. Out: pods, claims and revisions made, pods deleted, and the
//! set's status. Upstream: `stateful_set_control.go`.

use crate::{Context, history, ownership, pods};
use client::{Change, Client, Informer, Queue, Recorder};
use k8s_openapi::api::apps::v1::{ControllerRevision, StatefulSet, StatefulSetSpec, StatefulSetStatus};
use k8s_openapi::api::core::v1::{
    PersistentVolumeClaim, PersistentVolumeClaimVolumeSource, Pod, PodTemplateSpec, Volume,
};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::OwnerReference;
use k8s_openapi::jiff::Timestamp;
use kube::ResourceExt;
use kube::api::{Api, DeleteParams, Patch, PatchParams, PostParams, Preconditions};
use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

const NAME: &str = "statefulset-controller";
const POD_NAME: &str = "statefulset.kubernetes.io/pod-name";
const POD_INDEX: &str = "apps.kubernetes.io/pod-index";
const WORKERS: usize = 4;

pub struct Observed {
    pub set: StatefulSet,
    pub pods: Vec<Arc<Pod>>,
    pub revisions: Vec<ControllerRevision>,
}

#[derive(Clone, Debug, PartialEq)]
pub enum Action {
    Revise(history::Step),
    /// Make the claims that are missing, then the pod.
    Create {
        pod: Box<Pod>,
        claims: Vec<PersistentVolumeClaim>,
    },
    /// Put a pod's identity right.
    Relabel(Box<Pod>),
    /// `claims` go with the pod, since the set was scaled down and says so.
    Delete {
        pod: Arc<Pod>,
        claims: Vec<String>,
    },
    Forget(Box<ControllerRevision>),
    Status(Box<StatefulSetStatus>),
}

fn spec(set: &StatefulSet) -> StatefulSetSpec {
    set.spec.clone().unwrap_or_default()
}

/// The ordinal that a pod's name ends in.
pub fn ordinal(set: &StatefulSet, pod: &Pod) -> Option<i32> {
    let name = pod.name_any();
    let digits = name.strip_prefix(&set.name_any())?.strip_prefix('-')?;
    digits.parse().ok().filter(|n: &i32| n.to_string() == digits)
}

fn revision_of(pod: &Pod) -> &str {
    pod.labels().get(history::HASH).map(String::as_str).unwrap_or_default()
}

fn claim_name(set: &StatefulSet, claim: &PersistentVolumeClaim, ordinal: i32) -> String {
    format!("{}-{}-{ordinal}", claim.name_any(), set.name_any())
}

/// The identity that a pod of the set has whatever its template says. Returns whether it lacked any of it.
fn identify(set: &StatefulSet, pod: &mut Pod, ordinal: i32) -> bool {
    let labels = pod.metadata.labels.get_or_insert_default();
    let mut changed = false;
    for (key, value) in [(POD_NAME, format!("{}-{ordinal}", set.name_any())), (POD_INDEX, ordinal.to_string())] {
        if labels.get(key) != Some(&value) {
            labels.insert(key.into(), value);
            changed = true;
        }
    }
    changed
}

fn new_pod(set: &StatefulSet, template: &PodTemplateSpec, revision: &str, ordinal: i32) -> Pod {
    let spec = spec(set);
    let name = format!("{}-{ordinal}", set.name_any());
    let owner = ownership::controller_reference(set);
    let namespace = set.namespace().unwrap_or_default();
    let mut pod = pods::from_template(template, &namespace, owner, Some(name.clone()));
    identify(set, &mut pod, ordinal);
    pod.labels_mut().insert(history::HASH.into(), revision.into());
    let pod_spec = pod.spec.get_or_insert_default();
    pod_spec.hostname = Some(name);
    pod_spec.subdomain = spec.service_name.clone().filter(|s| !s.is_empty());
    for claim in spec.volume_claim_templates.iter().flatten() {
        let volumes = pod_spec.volumes.get_or_insert_default();
        volumes.retain(|v| v.name != claim.name_any());
        volumes.push(Volume {
            name: claim.name_any(),
            persistent_volume_claim: Some(PersistentVolumeClaimVolumeSource {
                claim_name: claim_name(set, claim, ordinal),
                read_only: None,
            }),
            ..Volume::default()
        });
    }
    pod
}

fn claims(set: &StatefulSet, ordinal: i32) -> Vec<PersistentVolumeClaim> {
    let spec = spec(set);
    let policy = spec.persistent_volume_claim_retention_policy.clone().unwrap_or_default();
    let with_set = policy.when_deleted.as_deref() == Some("Delete");
    spec.volume_claim_templates
        .iter()
        .flatten()
        .map(|template| {
            let mut claim = template.clone();
            claim.metadata.name = Some(claim_name(set, template, ordinal));
            claim.metadata.namespace = set.namespace();
            let labels = claim.metadata.labels.get_or_insert_default();
            labels.extend(spec.selector.match_labels.clone().unwrap_or_default());
            if with_set {
                claim.metadata.owner_references = Some(vec![ownership::controller_reference(set)]);
            }
            claim.status = None;
            claim
        })
        .collect()
}

/// What to do now, and when to look again if nothing happens.
pub fn plan(now: Timestamp, observed: &Observed) -> (Vec<Action>, Option<Duration>) {
    let set = &observed.set;
    let spec = spec(set);
    let old = set.status.clone().unwrap_or_default();
    let mut actions = Vec::new();
    let (update, step) = history::present(
        set,
        &spec.template,
        spec.selector.match_labels.clone(),
        old.collision_count.unwrap_or(0),
        &observed.revisions,
    );
    actions.extend(step.map(Action::Revise));
    let update_name = update.name_any();
    let current = old.current_revision.as_ref();
    let current = observed.revisions.iter().find(|r| Some(&r.name_any()) == current).unwrap_or(&update);
    let current_name = current.name_any();
    let current_template = history::template(current).unwrap_or_else(|| spec.template.clone());

    let mut again = None;
    if set.metadata.deletion_timestamp.is_none() {
        let work = Work {
            now,
            set,
            spec: &spec,
            update: &update_name,
            current: (&current_name, &current_template),
            pods: observed.pods.iter().filter_map(|p| Some((ordinal(set, p)?, p.clone()))).collect(),
        };
        work.plan(&mut actions, &mut again);
    }

    let used: Vec<&str> = observed.pods.iter().map(|p| revision_of(p)).chain([&*update_name, &*current_name]).collect();
    let limit = spec.revision_history_limit.unwrap_or(10);
    actions
        .extend(history::surplus(&observed.revisions, &used, limit).into_iter().map(|r| Action::Forget(Box::new(r))));

    let status = status(now, observed, &update_name, &current_name);
    if status != old {
        actions.push(Action::Status(Box::new(status)));
    }
    (actions, again)
}

struct Work<'a> {
    now: Timestamp,
    set: &'a StatefulSet,
    spec: &'a StatefulSetSpec,
    update: &'a str,
    current: (&'a str, &'a PodTemplateSpec),
    pods: HashMap<i32, Arc<Pod>>,
}

impl Work<'_> {
    fn is_available(&self, pod: &Pod) -> bool {
        pods::phase(pod) == "Running" && pods::is_available(pod, self.spec.min_ready_seconds.unwrap_or(0), self.now)
    }

    fn is_healthy(&self, pod: &Pod) -> bool {
        self.is_available(pod) && !pods::is_terminating(pod)
    }

    fn partition(&self) -> i32 {
        let rolling = self.spec.update_strategy.as_ref().and_then(|s| s.rolling_update.as_ref());
        rolling.and_then(|r| r.partition).unwrap_or(0)
    }

    fn max_unavailable(&self, replicas: i32) -> i32 {
        let rolling = self.spec.update_strategy.as_ref().and_then(|s| s.rolling_update.as_ref());
        let value = rolling.and_then(|r| r.max_unavailable.as_ref());
        value.map_or(1, |v| crate::deployment::revision::resolve(Some(v), replicas, true)).max(1)
    }

    fn plan(&self, actions: &mut Vec<Action>, again: &mut Option<Duration>) {
        let replicas = self.spec.replicas.unwrap_or(1);
        let start = self.spec.ordinals.as_ref().and_then(|o| o.start).unwrap_or(0);
        let end = start.saturating_add(replicas);
        let one_by_one = self.spec.pod_management_policy.as_deref() != Some("Parallel");
        let rolls = self.spec.update_strategy.as_ref().and_then(|s| s.type_.as_deref()) != Some("OnDelete");

        for n in start..end {
            let Some(pod) = self.pods.get(&n) else {
                let (revision, template) = if rolls && n < start + self.partition() {
                    self.current
                } else {
                    (self.update, &self.spec.template)
                };
                let pod = new_pod(self.set, template, revision, n);
                actions.push(Action::Create { pod: Box::new(pod), claims: claims(self.set, n) });
                if one_by_one {
                    return;
                }
                continue;
            };
            if pods::is_finished(pod) {
                // Its name is free once it is gone.
                if !pods::is_terminating(pod) {
                    actions.push(Action::Delete { pod: pod.clone(), claims: Vec::new() });
                }
                if one_by_one {
                    return;
                }
                continue;
            }
            let mut right = (**pod).clone();
            if !pods::is_terminating(pod) && identify(self.set, &mut right, n) {
                actions.push(Action::Relabel(Box::new(right)));
            }
            if one_by_one && !self.is_healthy(pod) {
                self.wait_for(pod, again);
                // As upstream: not even a pod that can't become ready is replaced for a newer template; its user deletes it.
                return;
            }
        }

        let mut condemned: Vec<_> = self.pods.iter().filter(|(n, _)| !(start..end).contains(n)).collect();
        condemned.sort_by_key(|(n, _)| std::cmp::Reverse(**n));
        let policy = self.spec.persistent_volume_claim_retention_policy.clone().unwrap_or_default();
        let with_pod = policy.when_scaled.as_deref() == Some("Delete");
        for (n, pod) in condemned {
            if pods::is_terminating(pod) {
                if one_by_one {
                    return;
                }
                continue;
            }
            let names = self.spec.volume_claim_templates.iter().flatten().map(|c| claim_name(self.set, c, *n));
            let claims = if with_pod { names.collect() } else { Vec::new() };
            actions.push(Action::Delete { pod: pod.clone(), claims });
            if one_by_one {
                return;
            }
        }

        if !rolls || actions.iter().any(|a| matches!(a, Action::Create { .. } | Action::Delete { .. })) {
            return;
        }
        let all: Vec<_> = (start..end).filter_map(|n| Some((n, self.pods.get(&n)?))).collect();
        let down = all.iter().filter(|(_, p)| !self.is_healthy(p)).count() as i32;
        let mut may_go = self.max_unavailable(replicas) - down;
        for (n, pod) in all.into_iter().rev() {
            if n < start.saturating_add(self.partition()) {
                break;
            }
            let healthy = self.is_healthy(pod);
            if revision_of(pod) != self.update && !pods::is_terminating(pod) {
                // One that is down already costs nothing more.
                if healthy && may_go <= 0 {
                    break;
                }
                may_go -= i32::from(healthy);
                actions.push(Action::Delete { pod: pod.clone(), claims: Vec::new() });
                if one_by_one && self.max_unavailable(replicas) == 1 {
                    break;
                }
            } else if !healthy {
                self.wait_for(pod, again);
                if may_go <= 0 {
                    break;
                }
            }
        }
    }

    /// A ready pod becomes available by time alone.
    fn wait_for(&self, pod: &Arc<Pod>, again: &mut Option<Duration>) {
        let min_ready = self.spec.min_ready_seconds.unwrap_or(0);
        *again = crate::replicaset::next_available(self.now, min_ready, std::slice::from_ref(pod));
    }
}

fn status(now: Timestamp, observed: &Observed, update: &str, current: &str) -> StatefulSetStatus {
    let set = &observed.set;
    let spec = spec(set);
    let old = set.status.clone().unwrap_or_default();
    let live: Vec<_> = observed.pods.iter().filter(|p| !pods::is_finished(p)).collect();
    let count = |f: &dyn Fn(&Pod) -> bool| live.iter().filter(|p| f(p)).count() as i32;
    let running_ready = |p: &Pod| pods::phase(p) == "Running" && pods::is_ready(p);
    let min_ready = spec.min_ready_seconds.unwrap_or(0);
    let of = |revision: &str| count(&|p| revision_of(p) == revision && !pods::is_terminating(p));
    let nonzero = |n: i32| (n != 0).then_some(n);
    let (replicas, ready, updated) = (live.len() as i32, count(&running_ready), of(update));
    let rolls = spec.update_strategy.as_ref().and_then(|s| s.type_.as_deref()) != Some("OnDelete");
    let done = rolls && updated == replicas && ready == replicas && replicas == spec.replicas.unwrap_or(1);
    StatefulSetStatus {
        replicas,
        ready_replicas: nonzero(ready),
        available_replicas: Some(count(&|p| running_ready(p) && pods::is_available(p, min_ready, now))),
        current_replicas: nonzero(if done { updated } else { of(current) }),
        updated_replicas: nonzero(updated),
        current_revision: Some(if done { update } else { current }.to_string()),
        update_revision: Some(update.to_string()),
        collision_count: Some(old.collision_count.unwrap_or(0)),
        observed_generation: set.metadata.generation,
        conditions: old.conditions,
    }
}

pub async fn run(context: Context) {
    let driver = Arc::new(Driver {
        client: context.client(NAME),
        recorder: context.recorder(NAME),
        sets: context.informers.of(),
        pods: context.informers.of(),
        revisions: context.informers.of(),
    });
    let queue = Queue::new();
    driver.watch(&queue);
    driver.sets.wait_synced().await;
    driver.pods.wait_synced().await;
    driver.revisions.wait_synced().await;
    queue
        .run("statefulset", WORKERS, context.shutdown.clone(), move |key| {
            let driver = driver.clone();
            async move { driver.sync(&key).await }
        })
        .await;
}

struct Driver {
    client: Client,
    recorder: Recorder,
    sets: Arc<Informer<StatefulSet>>,
    pods: Arc<Informer<Pod>>,
    revisions: Arc<Informer<ControllerRevision>>,
}

impl Driver {
    fn watch(&self, queue: &Queue) {
        let q = queue.clone();
        self.sets.on_change(move |c| q.add(client::informer::key_of(&**c.object())));
        let (q, sets) = (queue.clone(), self.sets.clone());
        self.pods.on_change(move |change| {
            let pod = change.object();
            for meta in change.old().map(|o| &o.metadata).into_iter().chain([&pod.metadata]) {
                if let Some(key) = ownership::owner_key(meta, "apps", "StatefulSet") {
                    q.add(key);
                }
            }
            if ownership::controller_of(&pod.metadata).is_none() && !matches!(change, Change::Deleted(_)) {
                for set in sets.in_namespace(&pod.namespace().unwrap_or_default()) {
                    if ordinal(&set, pod).is_some() {
                        q.add(client::informer::key_of(&*set));
                    }
                }
            }
        });
        let q = queue.clone();
        self.revisions.on_change(move |c| {
            if let Some(key) = ownership::owner_key(&c.object().metadata, "apps", "StatefulSet") {
                q.add(key);
            }
        });
    }

    async fn sync(&self, key: &str) -> Result<Option<Duration>, kube::Error> {
        let Some(set) = self.sets.get(key) else { return Ok(None) };
        let Some(selector) = ownership::selector(set.spec.as_ref().map(|s| &s.selector)) else { return Ok(None) };
        let namespace = set.namespace().unwrap_or_default();
        let mut candidates = self.pods.in_namespace(&namespace);
        candidates.retain(|p| ordinal(&set, p).is_some());
        let pods = ownership::claim_all(&self.client, &*set, &selector, candidates).await?;
        let mut revisions: Vec<_> = self.revisions.in_namespace(&namespace).iter().map(|r| (**r).clone()).collect();
        revisions.retain(|r| ownership::is_controlled_by(&r.metadata, &set.metadata));
        let observed = Observed { set: (*set).clone(), pods, revisions };
        let (actions, again) = plan(Timestamp::now(), &observed);
        for action in actions {
            match self.act(&set, &namespace, action).await {
                Ok(()) => {}
                Err(e) if ownership::namespace_terminates(&e) => return Ok(None),
                Err(e) => return Err(e),
            }
        }
        Ok(again)
    }

    async fn act(&self, set: &StatefulSet, namespace: &str, action: Action) -> Result<(), kube::Error> {
        let revisions: Api<ControllerRevision> = Api::namespaced(self.client.clone(), namespace);
        let params = PostParams::default();
        match action {
            Action::Revise(history::Step::Create(r)) => match revisions.create(&params, &r).await {
                Err(e) if ownership::code(&e) == Some(409) => {
                    let present = revisions.get_opt(&r.name_any()).await?;
                    let mine = present
                        .is_some_and(|p| p.data == r.data && ownership::is_controlled_by(&p.metadata, &set.metadata));
                    if mine {
                        return Ok(());
                    }
                    let mut status = set.status.clone().unwrap_or_default();
                    status.collision_count = Some(status.collision_count.unwrap_or(0) + 1);
                    self.write_status(set, namespace, status).await?;
                    Err(e)
                }
                r => r.map(|_| ()),
            },
            Action::Revise(history::Step::Renumber(r)) => {
                revisions.replace(&r.name_any(), &params, &r).await.map(|w| self.revisions.remember(w))
            }
            Action::Forget(r) => match revisions.delete(&r.name_any(), &DeleteParams::default()).await {
                Err(e) if !ownership::gone(&e) => Err(e),
                _ => Ok(()),
            },
            Action::Create { pod, claims } => self.create(set, namespace, &pod, claims).await,
            Action::Relabel(pod) => {
                let api: Api<Pod> = Api::namespaced(self.client.clone(), namespace);
                api.replace(&pod.name_any(), &params, &pod).await.map(|w| self.pods.remember(w))
            }
            Action::Delete { pod, claims } => self.delete(set, namespace, &pod, claims).await,
            Action::Status(status) => self.write_status(set, namespace, *status).await,
        }
    }

    async fn write_status(
        &self,
        set: &StatefulSet,
        namespace: &str,
        status: StatefulSetStatus,
    ) -> Result<(), kube::Error> {
        let api: Api<StatefulSet> = Api::namespaced(self.client.clone(), namespace);
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

    async fn create(
        &self,
        set: &StatefulSet,
        namespace: &str,
        pod: &Pod,
        claims: Vec<PersistentVolumeClaim>,
    ) -> Result<(), kube::Error> {
        let about = client::events::reference(set);
        let (set_name, pod_name) = (set.name_any(), pod.name_any());
        let claims_api: Api<PersistentVolumeClaim> = Api::namespaced(self.client.clone(), namespace);
        for claim in claims {
            let name = claim.name_any();
            match claims_api.create(&PostParams::default(), &claim).await {
                Ok(_) => {
                    let what = format!("create Claim {name} Pod {pod_name} in StatefulSet {set_name} success");
                    self.recorder.normal(&about, "SuccessfulCreate", what);
                }
                Err(e) if ownership::code(&e) == Some(409) => {}
                Err(e) => {
                    let why = ownership::message(&e);
                    let what =
                        format!("create Claim {name} for Pod {pod_name} in StatefulSet {set_name} failed error: {why}");
                    self.recorder.warning(&about, "FailedCreate", what);
                    return Err(e);
                }
            }
        }
        match Api::<Pod>::namespaced(self.client.clone(), namespace).create(&PostParams::default(), pod).await {
            Ok(_) => {
                let what = format!("create Pod {pod_name} in StatefulSet {set_name} successful");
                self.recorder.normal(&about, "SuccessfulCreate", what);
                Ok(())
            }
            // The cache has not shown it yet, or another's pod has the name; its end will be seen.
            Err(e)
                if ownership::code(&e) == Some(409) && self.pods.get(&format!("{namespace}/{pod_name}")).is_none() =>
            {
                Ok(())
            }
            Err(e) => {
                let why = ownership::message(&e);
                let what = format!("create Pod {pod_name} in StatefulSet {set_name} failed error: {why}");
                self.recorder.warning(&about, "FailedCreate", what);
                Err(e)
            }
        }
    }

    async fn delete(
        &self,
        set: &StatefulSet,
        namespace: &str,
        pod: &Pod,
        claims: Vec<String>,
    ) -> Result<(), kube::Error> {
        let claims_api: Api<PersistentVolumeClaim> = Api::namespaced(self.client.clone(), namespace);
        for name in claims {
            let Some(claim) = claims_api.get_opt(&name).await? else { continue };
            let owner =
                OwnerReference { controller: None, block_owner_deletion: None, ..ownership::controller_reference(pod) };
            let mut owners = claim.owner_references().to_vec();
            if !owners.iter().any(|o| o.uid == owner.uid) {
                owners.push(owner);
                let patch = serde_json::json!({"metadata": {
                    "resourceVersion": claim.resource_version(), "ownerReferences": owners,
                }});
                claims_api.patch(&name, &PatchParams::default(), &Patch::Merge(&patch)).await?;
            }
        }
        let (set_name, pod_name) = (set.name_any(), pod.name_any());
        let same = DeleteParams::default().preconditions(Preconditions { uid: pod.uid(), resource_version: None });
        match Api::<Pod>::namespaced(self.client.clone(), namespace).delete(&pod_name, &same).await {
            Ok(answer) => {
                if let Some(going) = answer.left() {
                    self.pods.remember(going);
                }
                let what = format!("delete Pod {pod_name} in StatefulSet {set_name} successful");
                self.recorder.normal(&client::events::reference(set), "SuccessfulDelete", what);
                Ok(())
            }
            Err(e) if ownership::gone(&e) => Ok(()),
            Err(e) => Err(e),
        }
    }
}
