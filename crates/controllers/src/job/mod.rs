//! Jobs: pods that run to their end, as often as asked for.
//!
//! In: Jobs and their pods. Out: pods, and the Job's status. What a pod's end means is counted exactly once, also over
//! restarts: a pod carries a finalizer until the status has taken its uid (KEP-2307).
//!
//! * [`plan`]: what to do next, pure.
//! * [`policy`]: `podFailurePolicy` and `successPolicy`.
//! * [`indexes`]: sets of completion indexes.

pub mod indexes;
pub mod plan;
pub mod policy;

use crate::Context;
use crate::expectations::Expectations;
use crate::{ownership, pods};
use client::{Change, Client, Informer, Queue, Recorder};
use k8s_openapi::api::batch::v1::Job;
use k8s_openapi::api::core::v1::{EnvVar, EnvVarSource, ObjectFieldSelector, Pod};
use k8s_openapi::jiff::Timestamp;
use kube::ResourceExt;
use kube::api::{Api, Patch, PatchParams, PostParams};
use plan::{FAILURES, FINALIZER, INDEX, Make};
use std::sync::Arc;
use std::time::Duration;

const NAME: &str = "job-controller";
const WORKERS: usize = 5;
/// `spec.managedBy` of Jobs that are ours; others are another controller's.
const OURS: &str = "kubernetes.io/job-controller";

struct Driver {
    client: Client,
    recorder: Recorder,
    jobs: Arc<Informer<Job>>,
    pods: Arc<Informer<Pod>>,
    expectations: Expectations,
}

pub async fn run(context: Context) {
    let queue = Queue::new();
    let driver = Driver {
        client: context.client(NAME),
        recorder: context.recorder(NAME),
        jobs: context.informers.of::<Job>(),
        pods: context.informers.of::<Pod>(),
        expectations: Expectations::default(),
    };
    driver.watch(&queue);
    driver.jobs.wait_synced().await;
    driver.pods.wait_synced().await;
    let driver = Arc::new(driver);
    queue
        .run(NAME, WORKERS, context.shutdown.clone(), move |key| {
            let driver = driver.clone();
            async move { driver.sync(&key).await }
        })
        .await;
}

impl Driver {
    fn watch(&self, queue: &Queue) {
        let (q, e) = (queue.clone(), self.expectations.clone());
        self.jobs.on_change(move |change| {
            let key = client::informer::key_of(&**change.object());
            if let Change::Deleted(_) = change {
                e.forget(&key);
            }
            q.add(key);
        });
        let (q, e, jobs) = (queue.clone(), self.expectations.clone(), self.jobs.clone());
        self.pods.on_change(move |change| {
            let pod = change.object();
            let Some(key) = ownership::owner_key(&pod.metadata, "batch", "Job") else {
                // Nobody's: a Job that selects it may take it.
                if ownership::controller_of(&pod.metadata).is_none() && !matches!(change, Change::Deleted(_)) {
                    for job in jobs.in_namespace(&pod.namespace().unwrap_or_default()) {
                        let selector = job.spec.as_ref().and_then(|s| ownership::selector(s.selector.as_ref()));
                        if selector.is_some_and(|s| ownership::selects(&s, pod.metadata.labels.as_ref())) {
                            q.add(client::informer::key_of(&*job));
                        }
                    }
                }
                return;
            };
            let uid = pod.metadata.uid.as_deref().unwrap_or_default();
            match change {
                Change::Deleted(_) => e.deleted(&key, uid),
                _ if pods::is_terminating(pod) => e.deleted(&key, uid),
                Change::Added(_) => e.created(&key),
                Change::Updated { .. } => {}
            }
            q.add(key);
        });
    }

    async fn sync(&self, key: &str) -> Result<Option<Duration>, kube::Error> {
        let namespace = key.split('/').next().unwrap_or_default();
        self.let_orphans_go(key, namespace).await?;
        let Some(job) = self.jobs.get(key) else {
            self.expectations.forget(key);
            return Ok(None);
        };
        let Some(spec) = &job.spec else { return Ok(None) };
        if spec.managed_by.as_deref().is_some_and(|m| m != OURS) {
            return Ok(None);
        }
        let Some(selector) = ownership::selector(spec.selector.as_ref()) else { return Ok(None) };
        // Asked before the pods are read, so that what it says holds for them.
        let may_manage = self.expectations.satisfied(key);
        let mine = ownership::claim_all(&self.client, &*job, &selector, self.pods.in_namespace(namespace)).await?;
        let plan = plan::plan(Timestamp::now(), &job, &mine);

        let mut status = plan.status;
        let mut error = None;
        if may_manage {
            error = self.delete(key, &job, &plan.delete).await;
            if error.is_none() && !plan.make.is_empty() {
                let (made, e) = self.make(key, &job, &plan.make).await;
                status.active = Some(status.active.unwrap_or(0) + made as i32).filter(|n| *n != 0);
                error = e;
            }
        }
        if job.status.as_ref() != Some(&status) {
            let mut new = (*job).clone();
            new.status = Some(status);
            let api: Api<Job> = Api::namespaced(self.client.clone(), namespace);
            match api.replace_status(&job.name_any(), &PostParams::default(), &new).await {
                Ok(written) => self.jobs.remember(written),
                Err(e) if ownership::gone(&e) => return Ok(None),
                Err(e) => return Err(e),
            }
            let about = client::events::reference(&*job);
            for (warning, reason, message) in plan.tell {
                if warning {
                    self.recorder.warning(&about, reason, message);
                } else {
                    self.recorder.normal(&about, reason, message);
                }
            }
        }
        // Only now: the status holds their uids.
        let gone = futures::future::join_all(plan.count.iter().map(|p| self.let_go(p))).await;
        gone.into_iter().collect::<Result<Vec<_>, _>>()?;
        match error {
            Some(e) if ownership::namespace_terminates(&e) => Ok(None),
            Some(e) => Err(e),
            None => Ok(plan.again),
        }
    }

    /// Pods whose Job is gone have nobody who counts them.
    async fn let_orphans_go(&self, key: &str, namespace: &str) -> Result<(), kube::Error> {
        let lives = self.jobs.get(key).and_then(|j| j.uid());
        for pod in self.pods.in_namespace(namespace).into_iter().filter(|p| plan::is_tracked(p)) {
            let owner = ownership::controller_of(&pod.metadata);
            if ownership::owner_key(&pod.metadata, "batch", "Job").as_deref() == Some(key)
                && owner.map(|o| &o.uid) != lives.as_ref()
            {
                self.let_go(&pod).await?;
            }
        }
        Ok(())
    }

    /// Takes the finalizer from a pod.
    async fn let_go(&self, pod: &Pod) -> Result<(), kube::Error> {
        if !plan::is_tracked(pod) {
            return Ok(());
        }
        let patch = serde_json::json!({"metadata": {
            "uid": pod.uid(),
            "$deleteFromPrimitiveList/finalizers": [FINALIZER],
        }});
        let api: Api<Pod> = Api::namespaced(self.client.clone(), &pod.namespace().unwrap_or_default());
        match api.patch(&pod.name_any(), &PatchParams::default(), &Patch::Strategic(&patch)).await {
            Ok(free) => {
                self.pods.remember(free);
                Ok(())
            }
            // 409 and 422: another pod of this name.
            Err(e) if ownership::gone(&e) || matches!(ownership::code(&e), Some(409 | 422)) => Ok(()),
            Err(e) => Err(e),
        }
    }

    async fn delete(&self, key: &str, job: &Job, doomed: &[(Arc<Pod>, bool)]) -> Option<kube::Error> {
        if doomed.is_empty() {
            return None;
        }
        self.expectations.expect_deletions(key, doomed.iter().filter_map(|(p, _)| p.uid()));
        let about = client::events::reference(job);
        let deletions = doomed.iter().map(|(pod, let_go_first)| {
            let about = &about;
            async move {
                if *let_go_first {
                    self.let_go(pod).await?;
                }
                pods::delete(&self.client, &self.recorder, about, pod).await
            }
        });
        let results = futures::future::join_all(deletions).await;
        let mut error = None;
        for ((pod, _), result) in doomed.iter().zip(results) {
            if let Err(e) = result {
                self.expectations.deleted(key, pod.metadata.uid.as_deref().unwrap_or_default());
                if !ownership::gone(&e) && ownership::code(&e) != Some(409) {
                    error.get_or_insert(e);
                }
            }
        }
        error
    }

    /// Returns how many were made, and the first failure.
    async fn make(&self, key: &str, job: &Job, wanted: &[Make]) -> (usize, Option<kube::Error>) {
        self.expectations.expect_creations(key, wanted.len());
        let about = client::events::reference(job);
        let make = |i: usize| pod_of(job, wanted[i]);
        let failed = || self.expectations.created(key);
        pods::create_many(&self.client, &self.recorder, &about, make, wanted.len(), failed).await
    }
}

/// A pod of the Job's template.
fn pod_of(job: &Job, make: Make) -> Pod {
    let Some(spec) = &job.spec else { return Pod::default() };
    let namespace = job.namespace().unwrap_or_default();
    let mut pod = pods::from_template(&spec.template, &namespace, ownership::controller_reference(job), None);
    pod.metadata.finalizers.get_or_insert_default().push(FINALIZER.to_string());
    let Some(index) = make.index else { return pod };
    pod.metadata.generate_name = Some(format!("{}-{index}-", job.name_any()));
    let annotations = pod.metadata.annotations.get_or_insert_default();
    annotations.insert(INDEX.to_string(), index.to_string());
    if let Some(n) = make.failures {
        annotations.insert(FAILURES.to_string(), n.to_string());
    }
    pod.metadata.labels.get_or_insert_default().insert(INDEX.to_string(), index.to_string());
    if let Some(spec) = &mut pod.spec {
        spec.hostname = Some(format!("{}-{index}", job.name_any()));
        for container in spec.init_containers.iter_mut().flatten().chain(&mut spec.containers) {
            let env = container.env.get_or_insert_default();
            if env.iter().any(|e| e.name == "JOB_COMPLETION_INDEX") {
                continue;
            }
            env.push(EnvVar {
                name: "JOB_COMPLETION_INDEX".to_string(),
                value_from: Some(EnvVarSource {
                    field_ref: Some(ObjectFieldSelector {
                        field_path: format!("metadata.annotations['{INDEX}']"),
                        ..ObjectFieldSelector::default()
                    }),
                    ..EnvVarSource::default()
                }),
                ..EnvVar::default()
            });
        }
    }
    pod
}
