//! Deployments: rolling from one ReplicaSet to the next.
//!
//! In: Deployments, their ReplicaSets, and (for `Recreate`) the pods of the old ones. Out: ReplicaSets made, scaled and
//! cleaned up, and the Deployment's status. The template's ReplicaSets are the history that `kubectl rollout` reads.
//!
//! - [`rollout`]: how many replicas which set gets;
//! - [`revision`]: which set belongs to the template, and its number;
//! - [`status`]: counts and conditions.

pub mod revision;
pub mod rollout;
pub mod status;

use crate::{Context, ownership, pods};
use client::{Change, Client, Informer, Queue, Recorder};
use k8s_openapi::api::apps::v1::{Deployment, ReplicaSet};
use k8s_openapi::api::core::v1::Pod;
use k8s_openapi::jiff::Timestamp;
use kube::ResourceExt;
use kube::api::{Api, DeleteParams, PostParams, Preconditions};
use std::sync::Arc;
use std::time::Duration;

const NAME: &str = "deployment-controller";
const WORKERS: usize = 8;

/// What is known when a Deployment is looked at.
#[derive(Clone, Debug)]
pub struct Observed {
    pub deployment: Deployment,
    /// The sets that it controls.
    pub sets: Vec<ReplicaSet>,
    /// Pods of its sets that still run, finished ones left out.
    pub pods: Vec<Arc<Pod>>,
}

#[derive(Clone, Debug, PartialEq)]
pub enum Action {
    /// Make the set of the present template.
    Create(Box<ReplicaSet>),
    /// Write a set whose size or annotations changed.
    Update(Box<ReplicaSet>),
    /// Remove a set that is beyond the history limit.
    Delete(Box<ReplicaSet>),
    /// Write the Deployment's status and revision annotation.
    Status(Box<Deployment>),
    /// Tell the user; only once what came before it worked.
    Event { warning: bool, reason: &'static str, message: String },
}

/// What to do, in order, and when to look again if nothing happens until then.
pub fn plan(now: Timestamp, observed: &Observed) -> (Vec<Action>, Option<Duration>) {
    let d = &observed.deployment;
    if d.spec.as_ref().is_none_or(|s| s.selector.match_labels.is_none() && s.selector.match_expressions.is_none()) {
        let message = "This deployment is selecting all pods. A non-empty selector is required.".to_string();
        return (vec![Action::Event { warning: true, reason: "SelectingAll", message }], None);
    }
    let mut work = rollout::Work::new(now, observed);
    if d.metadata.deletion_timestamp.is_some() {
        work.find_new(false);
        work.sync_status();
    } else if revision::is_paused(d) {
        work.note_pause();
        work.find_new(false);
        work.scale();
        work.clean_up();
        work.sync_status();
    } else {
        work.note_pause();
        if work.was_resized() {
            work.find_new(false);
            work.scale();
            work.sync_status();
        } else if revision::recreates(d) {
            work.recreate();
            work.sync_rollout_status();
        } else {
            work.roll();
            work.sync_rollout_status();
        }
    }
    work.finish()
}

pub async fn run(context: Context) {
    let queue = Queue::new();
    let driver = Driver {
        client: context.client(NAME),
        recorder: context.recorder(NAME),
        deployments: context.informers.of(),
        sets: context.informers.of(),
        pods: context.informers.of(),
    };
    driver.watch(&queue);
    driver.deployments.wait_synced().await;
    driver.sets.wait_synced().await;
    driver.pods.wait_synced().await;
    let driver = Arc::new(driver);
    queue
        .run("deployment", WORKERS, context.shutdown.clone(), move |key| {
            let driver = driver.clone();
            async move { driver.sync(&key).await }
        })
        .await;
}

struct Driver {
    client: Client,
    recorder: Recorder,
    deployments: Arc<Informer<Deployment>>,
    sets: Arc<Informer<ReplicaSet>>,
    pods: Arc<Informer<Pod>>,
}

impl Driver {
    fn watch(&self, queue: &Queue) {
        let q = queue.clone();
        self.deployments.on_change(move |c| q.add(client::informer::key_of(&**c.object())));

        let (q, deployments) = (queue.clone(), self.deployments.clone());
        self.sets.on_change(move |change| {
            let set = change.object();
            for meta in change.old().map(|o| &o.metadata).into_iter().chain([&set.metadata]) {
                if let Some(key) = ownership::owner_key(meta, "apps", "Deployment") {
                    q.add(key);
                }
            }
            if ownership::controller_of(&set.metadata).is_none() && !matches!(change, Change::Deleted(_)) {
                for d in deployments.in_namespace(&set.namespace().unwrap_or_default()) {
                    let selector = ownership::selector(d.spec.as_ref().map(|s| &s.selector));
                    if selector.is_some_and(|s| ownership::selects(&s, set.metadata.labels.as_ref())) {
                        q.add(client::informer::key_of(&*d));
                    }
                }
            }
        });

        // A pod that ends matters only to those who wait for all old pods to end.
        let (q, deployments, sets) = (queue.clone(), self.deployments.clone(), self.sets.clone());
        self.pods.on_change(move |change| {
            let pod = change.object();
            let ended = matches!(change, Change::Deleted(_))
                || (pods::is_finished(pod) && change.old().is_some_and(|o| !pods::is_finished(o)));
            if !ended {
                return;
            }
            let owner = ownership::owner_key(&pod.metadata, "apps", "ReplicaSet")
                .and_then(|k| sets.get(&k))
                .and_then(|s| ownership::owner_key(&s.metadata, "apps", "Deployment"))
                .and_then(|k| deployments.get(&k));
            if let Some(d) = owner.filter(|d| revision::recreates(d)) {
                q.add(client::informer::key_of(&*d));
            }
        });
    }

    async fn sync(&self, key: &str) -> Result<Option<Duration>, kube::Error> {
        let Some(deployment) = self.deployments.get(key) else { return Ok(None) };
        let namespace = deployment.namespace().unwrap_or_default();
        let Some(selector) = ownership::selector(deployment.spec.as_ref().map(|s| &s.selector)) else {
            return Ok(None);
        };
        let candidates = self.sets.in_namespace(&namespace);
        let sets = ownership::claim_all(&self.client, &*deployment, &selector, candidates).await?;
        let pods = if revision::recreates(&deployment) {
            let pods = self.pods.in_namespace(&namespace).into_iter();
            pods.filter(|p| sets.iter().any(|s| ownership::is_controlled_by(&p.metadata, &s.metadata))).collect()
        } else {
            Vec::new()
        };
        let observed =
            Observed { deployment: (*deployment).clone(), sets: sets.iter().map(|s| (**s).clone()).collect(), pods };
        let (actions, again) = plan(Timestamp::now(), &observed);
        for action in actions {
            self.act(&deployment, &namespace, action).await?;
        }
        Ok(again)
    }

    async fn act(&self, deployment: &Deployment, namespace: &str, action: Action) -> Result<(), kube::Error> {
        let sets: Api<ReplicaSet> = Api::namespaced(self.client.clone(), namespace);
        match action {
            Action::Create(set) => self.create(deployment, &sets, &set).await,
            Action::Update(set) => match sets.replace(&set.name_any(), &PostParams::default(), &set).await {
                Ok(written) => {
                    self.sets.remember(written);
                    Ok(())
                }
                Err(e) => Err(e),
            },
            Action::Delete(set) => {
                let same = DeleteParams::default()
                    .preconditions(Preconditions { uid: set.uid(), resource_version: set.resource_version() });
                match sets.delete(&set.name_any(), &same).await {
                    Ok(_) => Ok(()),
                    Err(e) if ownership::gone(&e) => Ok(()),
                    Err(e) => Err(e),
                }
            }
            Action::Status(new) => self.write_status(namespace, &new).await,
            Action::Event { warning, reason, message } => {
                let about = client::events::reference(deployment);
                match warning {
                    true => self.recorder.warning(&about, reason, message),
                    false => self.recorder.normal(&about, reason, message),
                }
                Ok(())
            }
        }
    }

    async fn write_status(&self, namespace: &str, new: &Deployment) -> Result<(), kube::Error> {
        let api: Api<Deployment> = Api::namespaced(self.client.clone(), namespace);
        match api.replace_status(&new.name_any(), &PostParams::default(), new).await {
            Ok(written) => {
                self.deployments.remember(written);
                Ok(())
            }
            Err(e) if ownership::gone(&e) => Ok(()),
            Err(e) => Err(e),
        }
    }

    async fn create(
        &self,
        deployment: &Deployment,
        sets: &Api<ReplicaSet>,
        set: &ReplicaSet,
    ) -> Result<(), kube::Error> {
        let error = match sets.create(&PostParams::default(), set).await {
            Ok(_) => return Ok(()),
            Err(e) => e,
        };
        let mut new = deployment.clone();
        let status = new.status.get_or_insert_default();
        if ownership::code(&error) == Some(409) {
            let Some(present) = sets.get_opt(&set.name_any()).await? else { return Err(error) };
            let mine = ownership::is_controlled_by(&present.metadata, &deployment.metadata);
            if mine && revision::same_template(deployment, &present) {
                // Made by a sync whose result the cache has not shown yet.
                return Ok(());
            }
            // Another template has this hash: the count of collisions makes the next one differ.
            status.collision_count = Some(status.collision_count.unwrap_or(0) + 1);
        } else {
            let message =
                format!("Failed to create new replica set {:?}: {}", set.name_any(), ownership::message(&error));
            if status::has_deadline(deployment) {
                status::set_condition(
                    status,
                    status::condition(Timestamp::now(), "Progressing", "False", "ReplicaSetCreateError", &message),
                );
            }
            self.recorder.warning(&client::events::reference(deployment), "ReplicaSetCreateError", message);
        }
        self.write_status(&deployment.namespace().unwrap_or_default(), &new).await?;
        if ownership::namespace_terminates(&error) { Ok(()) } else { Err(error) }
    }
}

#[cfg(test)]
mod tests {
    use super::revision::{max_surge, max_unavailable, replicas, same_template, size};
    use super::*;
    use serde_json::json;

    fn deployment(want: i32, image: &str, strategy: serde_json::Value) -> Deployment {
        serde_json::from_value(json!({
            "metadata": {"name": "web", "namespace": "n", "uid": "d", "generation": 1},
            "spec": {"replicas": want, "selector": {"matchLabels": {"a": "b"}}, "strategy": strategy,
                "progressDeadlineSeconds": 600, "revisionHistoryLimit": 2,
                "template": {"metadata": {"labels": {"a": "b"}}, "spec": {"containers": [{"name": "c", "image": image}]}}},
        }))
        .unwrap()
    }

    /// Does what plans say, with pods that come up one per round, until nothing is left to do. `check` sees each step.
    fn settle(o: &mut Observed, check: impl Fn(&Observed)) -> Vec<String> {
        let now: Timestamp = "2026-01-01T00:00:00Z".parse().unwrap();
        let mut told = Vec::new();
        for _ in 0..500 {
            let (actions, _) = plan(now, o);
            let idle = actions.is_empty();
            for action in actions {
                match action {
                    Action::Create(mut s) => {
                        s.metadata.uid = s.metadata.name.clone();
                        s.metadata.generation = Some(1);
                        o.sets.push(*s);
                    }
                    Action::Update(s) => {
                        let at = o.sets.iter().position(|x| x.metadata.name == s.metadata.name).unwrap();
                        o.sets[at] = *s;
                    }
                    Action::Delete(s) => o.sets.retain(|x| x.metadata.name != s.metadata.name),
                    Action::Status(d) => {
                        o.deployment.status = d.status;
                        o.deployment.metadata.annotations = d.metadata.annotations;
                    }
                    Action::Event { message, .. } => told.push(message),
                }
            }
            check(o);
            let mut moved = false;
            for s in &mut o.sets {
                let want = size(s);
                let status = s.status.get_or_insert_default();
                let up = status.available_replicas.unwrap_or(0);
                let next = if up > want { want } else { (up + 1).min(want) };
                moved |= next != up || status.replicas != want || status.observed_generation.is_none();
                status.replicas = want;
                status.ready_replicas = Some(next);
                status.available_replicas = Some(next);
                status.observed_generation = Some(1);
            }
            if idle && !moved {
                return told;
            }
        }
        panic!("does not settle: {o:?}");
    }

    #[test]
    fn a_rollout_keeps_its_bounds_converges_and_is_idempotent() {
        for (want, surge, unavailable) in
            [(1, "25%", "25%"), (3, "1", "0"), (10, "25%", "25%"), (10, "0", "1"), (7, "100%", "100%"), (30, "0", "0")]
        {
            let number = |s: &str| s.parse::<i32>().map_or(json!(s), |n| json!(n));
            let strategy = json!({"type": "RollingUpdate",
                "rollingUpdate": {"maxSurge": number(surge), "maxUnavailable": number(unavailable)}});
            let mut o = Observed { deployment: deployment(want, "v1", strategy.clone()), sets: vec![], pods: vec![] };
            settle(&mut o, |_| {});
            for (n, image) in ["v2", "v3", "v1", "v4", "v5", "v6"].into_iter().enumerate() {
                let kept = (o.deployment.status.clone(), o.deployment.metadata.annotations.clone());
                o.deployment = deployment(want, image, strategy.clone());
                (o.deployment.status, o.deployment.metadata.annotations) = kept;
                o.deployment.metadata.generation = Some(n as i64 + 2);
                settle(&mut o, |o| {
                    let total: i32 = o.sets.iter().map(size).sum();
                    let up: i32 = o.sets.iter().map(|s| status::available(s).min(size(s))).sum();
                    let (d, most) = (&o.deployment, want + max_surge(&o.deployment));
                    assert!(total <= most, "{total} pods, at most {most}");
                    assert!(up >= replicas(d) - max_unavailable(d), "{up} up of {want} at {surge} {unavailable}");
                });
                let active: Vec<_> = o.sets.iter().filter(|s| size(s) > 0).collect();
                assert_eq!(active.len(), 1);
                assert!(same_template(&o.deployment, active[0]) && size(active[0]) == want);
                let s = o.deployment.status.as_ref().unwrap();
                let c = status::find(s, "Progressing").unwrap();
                assert_eq!(c.reason.as_deref(), Some("NewReplicaSetAvailable"));
                assert_eq!(o.deployment.annotations()[revision::REVISION], (n + 2).to_string());
            }
            assert_eq!(o.sets.len(), 3, "the new one and two of history");
        }
    }

    #[test]
    fn recreate_waits_for_the_old_pods() {
        let strategy = json!({"type": "Recreate"});
        let mut o = Observed { deployment: deployment(2, "v1", strategy.clone()), sets: vec![], pods: vec![] };
        settle(&mut o, |_| {});
        let old = o.sets[0].metadata.clone();
        let status = o.deployment.status.clone();
        o.deployment = deployment(2, "v2", strategy);
        o.deployment.status = status;
        o.pods = vec![Arc::new(
            serde_json::from_value(json!({"metadata": {"name": "p", "ownerReferences": [{"apiVersion": "apps/v1",
                "kind": "ReplicaSet", "name": old.name, "uid": old.uid, "controller": true}]}}))
            .unwrap(),
        )];
        settle(&mut o, |_| {});
        assert_eq!(o.sets.iter().map(size).sum::<i32>(), 0, "nothing runs beside the old pod");
        o.pods.clear();
        settle(&mut o, |o| assert!(o.sets.iter().filter(|s| size(s) > 0).count() <= 1));
        assert_eq!(o.sets.iter().map(size).sum::<i32>(), 2);
    }
}
