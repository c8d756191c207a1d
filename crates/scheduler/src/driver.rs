//! The loop around the cycle: hears changes, decides, binds, tells why not.

use crate::cycle::{self, FitError};
use crate::framework::{Plugin, WakeUp};
use crate::plugins::default_plugins;
use crate::queue::Queue;
use crate::snapshot::Snapshot;
use client::informer::{key_of, split_key};
use client::{Change, Client, Informers, Recorder, events};
use futures::FutureExt;
use k8s_openapi::api::core::v1::{Node, Pod};
use kube::api::{Api, Patch, PatchParams, PostParams};
use parking_lot::Mutex;
use serde_json::json;
use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use stdx::Shutdown;
use tokio::sync::{Notify, Semaphore};
use tokio::time::Instant;

#[derive(Clone, Debug)]
pub struct Options {
    /// Pods with this `spec.schedulerName` are ours.
    pub scheduler_name: String,
    /// Bindings under way at once.
    pub parallel_binds: usize,
}

impl Default for Options {
    fn default() -> Options {
        Options { scheduler_name: "default-scheduler".into(), parallel_binds: 32 }
    }
}

#[derive(Default)]
struct World {
    snapshot: Snapshot,
    queue: Queue,
}

struct Scheduler {
    client: Client,
    options: Options,
    plugins: Vec<Arc<dyn Plugin>>,
    world: Mutex<World>,
    wake: Notify,
    recorder: Recorder,
    pods: Arc<client::Informer<Pod>>,
}

/// Schedules until shutdown.
pub async fn run(informers: Informers, options: Options, shutdown: Shutdown) {
    let pods = informers.of::<Pod>();
    let nodes = informers.of::<Node>();
    let scheduler = Arc::new(Scheduler {
        client: informers.client().clone(),
        recorder: Recorder::new(informers.client().clone(), &options.scheduler_name, ""),
        options,
        plugins: default_plugins(),
        world: Mutex::default(),
        wake: Notify::new(),
        pods: pods.clone(),
    });
    let s = scheduler.clone();
    nodes.on_change(move |c| s.node_changed(c));
    let s = scheduler.clone();
    pods.on_change(move |c| s.pod_changed(c));
    tokio::join!(pods.wait_synced(), nodes.wait_synced());

    let binds = Arc::new(Semaphore::new(scheduler.options.parallel_binds));
    let mut round = 0u64;
    loop {
        let (key, due) = {
            let mut w = scheduler.world.lock();
            (w.queue.pop(Instant::now()), w.queue.next_due())
        };
        let Some(key) = key else {
            tokio::select! {
                _ = shutdown.cancelled() => return,
                _ = scheduler.wake.notified() => {}
                _ = sleep_until(due) => {}
            }
            continue;
        };
        if shutdown.is_cancelled() {
            return;
        }
        round += 1;
        // A pod that makes a plugin panic waits like one that doesn't fit; the others go on.
        let one = AssertUnwindSafe(scheduler.clone().schedule(key.clone(), round, &binds));
        if let Err(panic) = one.catch_unwind().await {
            scheduler.panicked(&key, &*panic);
        }
    }
}

async fn sleep_until(at: Option<Instant>) {
    match at {
        Some(at) => tokio::time::sleep_until(at).await,
        None => std::future::pending().await,
    }
}

impl Scheduler {
    fn node_changed(&self, change: &Change<Node>) {
        let mut w = self.world.lock();
        match change {
            Change::Added(n) => w.snapshot.set_node(n.clone()),
            Change::Updated { old, new } => {
                // Heartbeats change conditions only; nothing to retry for.
                let same = old.spec == new.spec
                    && old.metadata.labels == new.metadata.labels
                    && old.status.as_ref().map(|s| &s.allocatable) == new.status.as_ref().map(|s| &s.allocatable);
                w.snapshot.set_node(new.clone());
                if same {
                    return;
                }
            }
            Change::Deleted(n) => return w.snapshot.remove_node(n.metadata.name.as_deref().unwrap_or("")),
        }
        w.queue.event(WakeUp::NodeChanged, Instant::now());
        drop(w);
        self.wake.notify_one();
    }

    fn pod_changed(&self, change: &Change<Pod>) {
        let mut w = self.world.lock();
        let pod = change.object();
        let key = key_of(pod.as_ref());
        let now = Instant::now();
        let gone = matches!(change, Change::Deleted(_)) || finished(pod);
        if gone {
            w.snapshot.remove_pod(&key);
            w.queue.remove(&key);
            w.queue.event(WakeUp::PodGone, now);
        } else {
            w.snapshot.set_pod(pod.clone());
            if is_bound(pod) {
                w.queue.remove(&key);
                w.queue.event(WakeUp::PodChanged, now);
            } else if self.is_ours(pod) {
                let changed =
                    change.old().is_none_or(|old| old.spec != pod.spec || old.metadata.labels != pod.metadata.labels);
                let priority = pod.spec.as_ref().and_then(|s| s.priority).unwrap_or(0);
                if self.plugins.iter().any(|p| p.gate(pod).is_some()) {
                    w.queue.gate(&key, priority);
                } else if changed || !w.queue.contains(&key) {
                    w.queue.add(&key, priority);
                }
            }
        }
        drop(w);
        self.wake.notify_one();
    }

    fn is_ours(&self, pod: &Pod) -> bool {
        pod.metadata.deletion_timestamp.is_none()
            && pod.spec.as_ref().and_then(|s| s.scheduler_name.as_deref()).unwrap_or("default-scheduler")
                == self.options.scheduler_name
    }

    async fn schedule(self: Arc<Self>, key: String, round: u64, binds: &Arc<Semaphore>) {
        let Some(pod) = self.pods.get(&key).filter(|p| self.is_ours(p) && !is_bound(p)) else {
            self.world.lock().queue.remove(&key);
            return;
        };
        let decision = {
            let mut w = self.world.lock();
            let decision = cycle::decide(&self.plugins, &pod, &w.snapshot, round as usize, rand::random());
            if let Ok(node) = &decision {
                w.snapshot.assume(pod.clone(), node);
            }
            decision
        };
        match decision {
            Ok(node) => {
                // The next decision needn't wait for this binding: its place is assumed.
                let Ok(permit) = binds.clone().acquire_owned().await else { return };
                tokio::spawn(async move {
                    if let Err(panic) = AssertUnwindSafe(self.bind(key.clone(), pod, node)).catch_unwind().await {
                        self.panicked(&key, &*panic);
                    }
                    drop(permit);
                });
            }
            Err(error) => self.refused(key, pod, error).await,
        }
    }

    fn panicked(&self, key: &str, panic: &(dyn std::any::Any + Send)) {
        let why = stdx::supervisor::payload_text(panic);
        tracing::error!(pod = key, panic = why, "scheduling panicked; the pod is tried again");
        let mut w = self.world.lock();
        w.snapshot.forget(key);
        w.queue.errored(key, Instant::now());
    }

    async fn bind(&self, key: String, pod: Arc<Pod>, node: String) {
        let (namespace, name) = split_key(&key);
        let binding = json!({
            "apiVersion": "v1", "kind": "Binding",
            "metadata": {"name": name, "namespace": namespace, "uid": pod.metadata.uid},
            "target": {"apiVersion": "v1", "kind": "Node", "name": node},
        });
        let api: Api<Pod> = Api::namespaced(self.client.clone(), namespace);

        let sent: Result<serde_json::Value, kube::Error> =
            api.create_subresource("binding", name, &PostParams::default(), &binding).await;
        let about = events::reference(pod.as_ref());
        match sent {
            Ok(_) => {
                self.world.lock().queue.remove(&key);
                self.recorder.normal(&about, "Scheduled", format!("Successfully assigned {key} to {node}"));
            }
            Err(e) => {
                let mut w = self.world.lock();
                w.snapshot.forget(&key);
                match &e {
                    // Deleted, or bound by somebody else.
                    kube::Error::Api(s) if s.code == 404 || s.code == 409 => w.queue.remove(&key),
                    _ => w.queue.errored(&key, Instant::now()),
                }
                drop(w);
                self.recorder.warning(
                    &about,
                    "FailedScheduling",
                    format!("running Bind plugin \"DefaultBinder\": {e}"),
                );
                self.wake.notify_one();
            }
        }
    }

    /// Tells why the pod stays pending, in its condition and by an event.
    async fn refused(&self, key: String, pod: Arc<Pod>, error: FitError) {
        let mut helps: Vec<WakeUp> = self
            .plugins
            .iter()
            .filter(|p| error.plugins.contains(p.name()))
            .flat_map(|p| p.wakes_on().iter().copied())
            .collect();
        helps.push(WakeUp::NodeChanged);
        let message = error.to_string();
        self.recorder.warning(&events::reference(pod.as_ref()), "FailedScheduling", message.clone());
        self.world.lock().queue.failed(&key, helps, Instant::now());
        let present = pod
            .status
            .as_ref()
            .and_then(|s| s.conditions.as_ref())
            .and_then(|c| c.iter().find(|c| c.type_ == "PodScheduled"));
        if present.is_some_and(|c| c.status == "False" && c.message.as_deref() == Some(&message)) {
            return;
        }
        let now = k8s_openapi::apimachinery::pkg::apis::meta::v1::Time(k8s_openapi::jiff::Timestamp::now());
        let since = present.filter(|c| c.status == "False").and_then(|c| c.last_transition_time.clone()).unwrap_or(now);
        let patch = json!({"status": {"conditions": [{
            "type": "PodScheduled", "status": "False", "reason": "Unschedulable", "message": message,
            "lastTransitionTime": since, "observedGeneration": pod.metadata.generation,
        }]}});
        let (namespace, name) = split_key(&key);
        let api: Api<Pod> = Api::namespaced(self.client.clone(), namespace);
        if let Err(e) = api.patch_status(name, &PatchParams::default(), &Patch::Strategic(patch)).await {
            tracing::debug!(pod = key, error = %e, "condition PodScheduled was not written");
        }
    }
}

fn is_bound(pod: &Pod) -> bool {
    pod.spec.as_ref().and_then(|s| s.node_name.as_deref()).is_some_and(|n| !n.is_empty())
}

fn finished(pod: &Pod) -> bool {
    matches!(pod.status.as_ref().and_then(|s| s.phase.as_deref()), Some("Succeeded" | "Failed"))
}
