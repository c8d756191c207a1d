//! One task per pod: it observes, asks [`plan`](super::plan), carries out what it says, and reports status. Steps that
//! take time run beside it, so that news is never left waiting behind a pull or a stop.
//!
//! Nothing polls: it is woken by the API, the runtime's events, probes, finished steps, and the time that the plan names.

use super::backoff::CrashBackoff;
use super::context::Context;
use super::guard::Guard;
use super::memo::{ClockWatch, Kill, Memo, Step, Termination};
use super::plan::{self, Action, Observed, Plan, latest};
use super::registry::PodView;
use super::spec::{self, ContainerSpec, Kind};
use super::{kill, prepare, start, status, status_patch};
use crate::container::{hooks, termination_message};
use crate::events::{Severity, pod_reference};
use crate::images::ImageError;
use crate::labels;
use crate::probes::{self, ProbeKind, ProbeResults, Prober};
use crate::resources::{cgroup, linux};
use crate::volumes::{Credentials, Mounted, teardown};
use cri::{ContainerState, ContainerStatus, Image, LinuxResources, PodSandboxStatus, SandboxState};
use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::core::v1::{Pod, PodStatus};
use kube::Api;
use kube::api::{DeleteParams, Patch, PatchParams, Preconditions};
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::future::Future;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::{mpsc, watch};
use tokio::task::{AbortHandle, JoinError, JoinSet};

const MAILBOX_MAX: usize = 256;
const RETRY: SignedDuration = SignedDuration::from_secs(1);
const RETRY_MAX_SECONDS: i64 = 60;

mod outcome;

/// What wakes a worker.
#[derive(Clone, Debug)]
pub enum Wake {
    Pod(Arc<Pod>),
    /// Gone from the API.
    Removed,
    /// A ConfigMap or Secret that it refers to has changed.
    Objects,
    Container(String),
    Sandbox(String),
    /// Events were lost: look at everything again.
    Resync,
    Probe {
        container_id: String,
        kind: ProbeKind,
        success: bool,
    },
}

/// A step that has ended.
enum Done {
    /// What was set up, and what stood in the way of the rest.
    Volumes(BTreeMap<String, Mounted>, Option<String>, Credentials),
    Sandbox(Result<PodSandboxStatus, String>),
    Image(String, Result<Image, ImageError>),
    Started(String, Result<(ContainerStatus, LinuxResources), start::StartError>),
    Hook(String, Result<(), String>),
    Killed(String, Result<(), cri::Error>),
    Resized(String, LinuxResources, Result<(), String>),
    Removed(String, Result<(), cri::Error>),
    SandboxStopped(String, Result<(), cri::Error>),
    TornDown(Result<(), String>),
    StatusWritten(Result<Box<Pod>, kube::Error>),
    Deleted(Result<(), kube::Error>),
}

struct Probing {
    started: watch::Sender<bool>,
    tasks: Vec<AbortHandle>,
}

impl Drop for Probing {
    fn drop(&mut self) {
        self.tasks.iter().for_each(AbortHandle::abort);
    }
}

pub struct Worker {
    context: Arc<Context>,
    uid: String,
    pod: Arc<Pod>,
    specs: Vec<ContainerSpec>,
    memo: Memo,
    sandboxes: Vec<PodSandboxStatus>,
    containers: Vec<ContainerStatus>,
    volumes: Arc<BTreeMap<String, Mounted>>,
    volumes_stale: bool,
    /// When to try again what of a running pod's volumes couldn't be refreshed.
    volumes_retry_at: Option<Timestamp>,
    refreshing: bool,
    credentials: Credentials,
    steps: JoinSet<Done>,
    mailbox: mpsc::Receiver<Wake>,
    wake: mpsc::Sender<Wake>,
    probing: HashMap<String, Probing>,
    start_time: Timestamp,
    clock: ClockWatch,
    writing_status: bool,
    status_retry_at: Option<Timestamp>,
    status_failures: u32,
    /// The patch that was written last, if the API has since shown something else.
    last_patch: Option<serde_json::Value>,
    deleting: Step<()>,
    crash_looping: BTreeSet<String>,
}

/// What was found of the pod in the runtime, by a kubelet that has just started.
#[derive(Default)]
pub struct Found {
    pub sandboxes: Vec<PodSandboxStatus>,
    pub containers: Vec<ContainerStatus>,
}

pub fn spawn(context: Arc<Context>, pod: Arc<Pod>, found: Found) {
    spawn_after(context, pod, found, 0);
}

/// `panics`: how many workers of this pod have panicked before.
pub(super) fn spawn_after(context: Arc<Context>, pod: Arc<Pod>, found: Found, panics: u32) {
    let (wake, mailbox) = mpsc::channel(MAILBOX_MAX);
    let uid = spec::uid(&pod).to_owned();
    context.registry.add(&uid, wake.clone());
    let now = Timestamp::now();
    let start_time = pod.status.as_ref().and_then(|s| s.start_time.as_ref()).map_or(now, |t| t.0);
    let worker = Worker {
        specs: spec::containers(&pod),
        context,
        uid,
        pod,
        memo: Memo::default(),
        sandboxes: found.sandboxes,
        containers: Vec::new(),
        volumes: Arc::default(),
        volumes_stale: false,
        volumes_retry_at: None,
        refreshing: false,
        credentials: Credentials::default(),
        steps: JoinSet::new(),
        mailbox,
        wake,
        probing: HashMap::new(),
        start_time,
        clock: ClockWatch::new(now, std::time::Instant::now()),
        writing_status: false,
        status_retry_at: None,
        status_failures: 0,
        last_patch: None,
        deleting: Step::Idle,
        crash_looping: BTreeSet::new(),
    };
    let workers = worker.context.workers.clone();
    let guard = Guard::new(worker.context.clone(), &worker.pod, panics);
    workers.spawn(guard.run(worker.run(found.containers)));
}

/// A step that panicked would be waited for in vain: the worker goes down with it, and starts again.
fn ended(step: Result<Done, JoinError>) -> Done {
    let cancelled = |_| Box::new("a step was cancelled") as Box<dyn std::any::Any + Send>;
    step.unwrap_or_else(|error| std::panic::resume_unwind(error.try_into_panic().unwrap_or_else(cancelled)))
}

impl Worker {
    async fn run(mut self, found: Vec<ContainerStatus>) {
        self.adopt(found).await;
        self.follow_objects();
        self.note_deletion(true);
        let shutdown = self.context.shutdown.clone();
        loop {
            let wake_at = self.pass();
            if self.memo.removed && self.memo.terminated && self.steps.is_empty() {
                break self.clean_up().await;
            }
            let sleep = wake_at.map(|at| Duration::try_from(at.duration_since(Timestamp::now())).unwrap_or_default());
            let timer = async {
                match sleep {
                    Some(d) => tokio::time::sleep(d).await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                Some(wake) = self.mailbox.recv() => self.woken(wake).await,
                Some(done) = self.steps.join_next() => self.done(ended(done)).await,
                _ = timer => {}
                // Containers go on; the next kubelet finds them.
                _ = shutdown.cancelled() => return,
            }
            // Whatever else has come meanwhile belongs to the same pass.
            while let Ok(wake) = self.mailbox.try_recv() {
                self.woken(wake).await;
            }
            while let Some(done) = self.steps.try_join_next() {
                self.done(ended(done)).await;
            }
        }
    }

    /// Takes over what an earlier kubelet left running.
    async fn adopt(&mut self, found: Vec<ContainerStatus>) {
        for s in &self.sandboxes {
            self.context.registry.own_sandbox(&s.id, &self.uid);
        }
        let known = self.pod.status.clone().unwrap_or_default();
        let told: Vec<_> = [&known.container_statuses, &known.init_container_statuses]
            .into_iter()
            .flat_map(|l| l.iter().flatten())
            .collect();
        for c in found {
            self.memo.applied.insert(c.id.clone(), c.resources.clone());
            if latest(&self.containers, &c.metadata.name).is_none_or(|l| l.metadata.attempt < c.metadata.attempt)
                && let Some(delay) = c.annotations.get(labels::CRASH_BACKOFF)
            {
                let created = Timestamp::from_nanosecond(i128::from(c.created_at_ns)).unwrap_or_default();
                self.memo.container(&c.metadata.name).backoff = CrashBackoff::adopt(delay, created);
            }
            // Readiness goes on as it was, until a probe says otherwise: a restart of Skiff is no reason to lose traffic.
            let id = format!("{}://{}", self.context.runtime_name, c.id);
            if let Some(t) = told.iter().find(|t| t.container_id.as_deref() == Some(&id)) {
                let results = ProbeResults {
                    startup: (t.started == Some(true)).then_some(true),
                    liveness: None,
                    readiness: t.ready.then_some(true),
                };
                self.memo.probes.insert(c.id.clone(), results);
                if !t.image_id.is_empty() {
                    self.memo.image_ids.insert(c.id.clone(), t.image_id.clone());
                }
            }
            self.observe(c);
        }
    }

    fn follow_objects(&self) {
        self.context.objects.follow(
            &self.uid,
            self.pod.metadata.namespace.as_deref().unwrap_or_default(),
            &crate::objects::references(&self.pod),
        );
    }

    fn pod_dir(&self) -> PathBuf {
        self.context.options.pod_dir(&self.uid)
    }

    fn sandbox(&self) -> Option<&PodSandboxStatus> {
        self.sandboxes.iter().max_by_key(|s| (s.metadata.attempt, s.created_at_ns))
    }

    fn pod_ip(&self) -> String {
        let own = self.sandbox().and_then(|s| s.ips.first().cloned()).filter(|_| !spec::is_host_network(&self.pod));
        own.or_else(|| self.context.host_ips.first().cloned()).unwrap_or_default()
    }

    fn spec_of(&self, name: &str) -> Option<&ContainerSpec> {
        self.specs.iter().find(|s| s.name() == name)
    }

    // ---- observing ---------------------------------------------------------------------------------------

    /// Takes in the state of one container.
    fn observe(&mut self, c: ContainerStatus) {
        // What was asked for when it started may come in after the news of its end, and nothing lives twice.
        let ended = |o: &ContainerStatus| o.id == c.id && o.state == ContainerState::Exited;
        if c.state != ContainerState::Exited && self.containers.iter().any(ended) {
            return;
        }
        if c.state == ContainerState::Exited {
            self.memo.kills.remove(&c.id);
            self.memo.hooks.remove(&c.id);
            self.probing.remove(&c.id);
            if !self.memo.messages.contains_key(&c.id) {
                let file = termination_message::file(&self.pod_dir(), &c.metadata.name, c.metadata.attempt);
                let policy = c.annotations.get(labels::TERMINATION_MESSAGE_POLICY).map_or("File", String::as_str);
                if let Some(message) =
                    termination_message::read(&file, policy, c.exit_code, std::path::Path::new(&c.log_path))
                {
                    self.memo.messages.insert(c.id.clone(), message);
                }
            }
        }
        self.containers.retain(|o| o.id != c.id);
        self.containers.push(c);
    }

    async fn look_at(&mut self, id: &str) {
        match self.context.runtime.container_status(id).await {
            Ok(c) => self.observe(c),
            Err(cri::Error::NotFound(_)) => self.containers.retain(|c| c.id != id),
            Err(error) => {
                tracing::warn!(pod = spec::long_name(&self.pod), id, %error, "container status unknown")
            }
        }
    }

    async fn look_at_sandbox(&mut self, id: &str) {
        match self.context.runtime.pod_sandbox_status(id).await {
            Ok(s) => {
                self.sandboxes.retain(|o| o.id != id);
                self.sandboxes.push(s);
            }
            Err(cri::Error::NotFound(_)) => self.sandboxes.retain(|s| s.id != id),
            Err(error) => {
                tracing::warn!(pod = spec::long_name(&self.pod), id, %error, "sandbox status unknown")
            }
        }
    }

    async fn woken(&mut self, wake: Wake) {
        match wake {
            Wake::Pod(pod) => self.accept(pod),
            Wake::Removed => {
                self.memo.removed = true;
                if self.memo.termination.is_none() && !self.memo.terminated {
                    self.memo.termination =
                        Some(Termination { since: Timestamp::now(), grace: spec::grace_period(&self.pod).max(1) });
                }
            }
            Wake::Objects => {
                self.volumes_stale = true;
                // What failed for lack of an object is worth another try now.
                if let Step::Failed { .. } = self.memo.volumes {
                    self.memo.volumes = Step::Idle;
                }
                for c in self.memo.containers.values_mut() {
                    if matches!(&c.start, Step::Failed { reason, .. } if reason == "CreateContainerConfigError") {
                        c.start = Step::Idle;
                    }
                }
            }
            // The step that starts a container looks at it itself.
            Wake::Container(id) => self.look_at(&id).await,
            Wake::Sandbox(id) => {
                self.look_at_sandbox(&id).await;
                let inside: Vec<String> = self
                    .containers
                    .iter()
                    .filter(|c| c.sandbox_id == id && c.state != ContainerState::Exited)
                    .map(|c| c.id.clone())
                    .collect();
                for id in inside {
                    self.look_at(&id).await;
                }
            }
            Wake::Resync => {
                for id in self.sandboxes.iter().map(|s| s.id.clone()).collect::<Vec<_>>() {
                    self.look_at_sandbox(&id).await;
                }
                for id in self.containers.iter().map(|c| c.id.clone()).collect::<Vec<_>>() {
                    self.look_at(&id).await;
                }
            }
            Wake::Probe { container_id, kind, success } => {
                self.memo.probes.entry(container_id).or_default().set(kind, success)
            }
        }
    }

    /// A newer version of the pod. Answers to own writes may come before or after the watch's news of them.
    fn accept(&mut self, pod: Arc<Pod>) {
        let version = |p: &Pod| p.metadata.resource_version.as_deref().and_then(|v| v.parse::<u64>().ok());
        if version(&pod).zip(version(&self.pod)).is_some_and(|(new, old)| new < old) {
            return;
        }
        let spec_changed = pod.spec != self.pod.spec;
        if pod.metadata.labels != self.pod.metadata.labels || pod.metadata.annotations != self.pod.metadata.annotations
        {
            self.volumes_stale = true;
        }
        self.pod = pod;
        if spec_changed {
            self.specs = spec::containers(&self.pod);
            self.follow_objects();
        }
        self.note_deletion(false);
    }

    fn note_deletion(&mut self, adopted: bool) {
        let Some(at) = &self.pod.metadata.deletion_timestamp else {
            return;
        };
        let grace = spec::grace_period(&self.pod).max(0);
        let now = Timestamp::now();
        match &mut self.memo.termination {
            None => {
                // Asked for before this kubelet started: part of the grace period has passed.
                let asked = at.0.checked_sub(SignedDuration::from_secs(grace)).unwrap_or(now);
                self.memo.termination = Some(Termination { since: if adopted { asked.min(now) } else { now }, grace });
            }
            Some(t) if grace < t.grace => *t = Termination { since: now, grace },
            Some(_) => {}
        }
    }

    // ---- deciding ----------------------------------------------------------------------------------------

    /// Returns when to look again at the latest.
    fn pass(&mut self) -> Option<Timestamp> {
        let now = Timestamp::now();
        if let Some(jump) = self.clock.jump(now, std::time::Instant::now()) {
            self.memo.shift(jump);
            // Tokens and certificates of a future that hasn't come yet are good for nothing.
            self.volumes_stale = true;
            for retry_at in [&mut self.status_retry_at, &mut self.volumes_retry_at] {
                *retry_at = retry_at.and_then(|at| at.checked_add(jump).ok());
            }
        }
        let resources: BTreeMap<String, LinuxResources> = self
            .specs
            .iter()
            .map(|s| {
                (s.name().to_owned(), linux::for_container(&self.pod, &s.container, self.context.machine.memory_bytes))
            })
            .collect();
        let mut plan = Plan::default();
        // An action may make the next one possible at once (a failed pod begins to terminate).
        for _ in 0..4 {
            plan = plan::plan(&Observed {
                now,
                pod: &self.pod,
                specs: &self.specs,
                sandbox: self.sandbox(),
                containers: &self.containers,
                memo: &self.memo,
                resources: &resources,
                start_time: self.start_time,
            });
            let again = plan.actions.iter().any(|a| matches!(a, Action::Fail { .. } | Action::Terminated));
            for action in std::mem::take(&mut plan.actions) {
                self.act(action, now);
            }
            if !again {
                break;
            }
        }
        for name in plan.crash_loops.keys() {
            if self.crash_looping.insert(name.clone()) {
                let field = self.spec_of(name).map(ContainerSpec::field_path);
                let message =
                    format!("Back-off restarting failed container {name} in pod {}", spec::long_name(&self.pod));
                self.context.recorder.record(pod_reference(&self.pod, field), Severity::Warning, "BackOff", message);
            }
        }
        self.crash_looping.retain(|n| plan.crash_loops.contains_key(n));
        self.sync_probes();
        let mut wake_at = plan.wake_at;
        let mut wake = |at: Option<Timestamp>| wake_at = [wake_at, at].into_iter().flatten().min();
        wake(self.refresh_volumes(now));
        wake(self.report(&plan, now));
        wake_at
    }

    fn report(&mut self, plan: &Plan, now: Timestamp) -> Option<Timestamp> {
        let computed = status::compute(&status::Input {
            now,
            pod: &self.pod,
            specs: &self.specs,
            sandbox: self.sandbox(),
            containers: &self.containers,
            memo: &self.memo,
            plan,
            start_time: self.start_time,
            runtime_name: &self.context.runtime_name,
            host_ips: &self.context.host_ips,
        });
        let old = self.pod.status.clone().unwrap_or_default();
        let patch = status_patch::patch(&self.uid, &old, &computed);
        self.publish(computed);
        if self.memo.removed || self.writing_status {
            return None;
        }
        if let Some(at) = self.status_retry_at.filter(|at| *at > now) {
            return Some(at);
        }
        let api = Api::<Pod>::namespaced(
            self.context.client.clone(),
            self.pod.metadata.namespace.as_deref().unwrap_or("default"),
        );
        let name = self.pod.metadata.name.clone().unwrap_or_default();
        if patch.is_none() {
            self.last_patch = None;
        }
        // A server that keeps less of a status than it was given must not be written to for ever.
        let patch = patch.filter(|p| self.last_patch.as_ref() != Some(p));
        if let Some(patch) = patch {
            self.writing_status = true;
            self.last_patch = Some(patch.clone());
            self.steps.spawn(async move {
                Done::StatusWritten(
                    api.patch_status(&name, &PatchParams::default(), &Patch::Strategic(patch)).await.map(Box::new),
                )
            });
        } else if self.memo.terminated && self.pod.metadata.deletion_timestamp.is_some() {
            if self.deleting.is_due(now) {
                // Only now, with the last status told: whoever watches sees how it ended before it is gone.
                self.deleting = Step::Running;
                let params = DeleteParams {
                    grace_period_seconds: Some(0),
                    preconditions: Some(Preconditions { uid: Some(self.uid.clone()), resource_version: None }),
                    ..Default::default()
                };
                self.steps.spawn(async move { Done::Deleted(api.delete(&name, &params).await.map(drop)) });
            }
            return self.deleting.retry_at();
        }
        None
    }

    fn publish(&self, status: PodStatus) {
        let view = PodView {
            pod: self.pod.clone(),
            status,
            sandbox: self.sandbox().cloned(),
            containers: self.containers.clone(),
        };
        self.context.registry.publish(&self.uid, view);
    }

    /// Brings changed objects, labels, due tokens and certificates into running containers.
    fn refresh_volumes(&mut self, now: Timestamp) -> Option<Timestamp> {
        if self.memo.volumes.done().is_none() || self.memo.termination.is_some() || self.memo.terminated {
            return None;
        }
        let due = [self.credentials.refresh_at(), self.volumes_retry_at].into_iter().flatten().min();
        if (self.volumes_stale || due.is_some_and(|at| at <= now)) && !self.refreshing {
            self.refreshing = true;
            self.volumes_retry_at = None;
            self.set_up_volumes();
        }
        due.filter(|at| *at > now)
    }

    fn set_up_volumes(&mut self) {
        self.volumes_stale = false;
        let (context, pod, mut credentials) = (self.context.clone(), self.pod.clone(), self.credentials.clone());
        self.steps.spawn(async move {
            let (volumes, error) = prepare::volumes(&context, &pod, &mut credentials).await;
            Done::Volumes(volumes, error, credentials)
        });
    }

    fn sync_probes(&mut self) {
        let running: Vec<(ContainerSpec, ContainerStatus)> = status::running(&self.specs, &self.containers)
            .filter(|(s, _)| matches!(s.kind, Kind::Main | Kind::Sidecar))
            .map(|(s, c)| (s.clone(), c.clone()))
            .collect();
        self.probing.retain(|id, _| running.iter().any(|(_, c)| c.id == *id));
        let pod_ip = self.pod_ip();
        for (spec, c) in running {
            let is_started = plan::is_started(&spec, &c, &self.memo);
            if let Some(p) = self.probing.get(&c.id) {
                p.started.send_if_modified(|s| std::mem::replace(s, is_started) != is_started);
                continue;
            }
            let wanted = probes::of(&spec.container);
            if wanted.is_empty() {
                continue;
            }
            let (started, rx) = watch::channel(is_started);
            let known = self.memo.probes.get(&c.id).cloned().unwrap_or_default();
            let tasks = wanted
                .into_iter()
                .filter(|(kind, _)| !(*kind == ProbeKind::Startup && known.startup == Some(true)))
                .map(|(kind, probe)| {
                    let prober = Prober {
                        pod: self.pod.clone(),
                        spec: spec.clone(),
                        kind,
                        probe,
                        container_id: c.id.clone(),
                        started_at: Timestamp::from_nanosecond(i128::from(c.started_at_ns)).unwrap_or_default(),
                        pod_ip: pod_ip.clone(),
                        runtime: self.context.runtime.clone(),
                        recorder: self.context.recorder.clone(),
                        results: self.wake.clone(),
                        started: rx.clone(),
                    };
                    tokio::spawn(prober.run()).abort_handle()
                })
                .collect();
            self.probing.insert(c.id.clone(), Probing { started, tasks });
        }
    }

    // ---- doing -------------------------------------------------------------------------------------------

    fn step(&mut self, step: impl Future<Output = Done> + Send + 'static) {
        self.steps.spawn(step);
    }

    fn act(&mut self, action: Action, now: Timestamp) {
        let (context, pod) = (self.context.clone(), self.pod.clone());
        match action {
            Action::SetUpVolumes => {
                self.memo.volumes = Step::Running;
                self.set_up_volumes();
            }
            Action::RunSandbox { attempt } => {
                self.memo.sandbox = Step::Running;
                self.step(async move { Done::Sandbox(prepare::sandbox(&context, &pod, attempt).await) });
            }
            Action::EnsureImage { container } => {
                let Some(spec) = self.spec_of(&container).cloned() else {
                    return;
                };
                self.memo.container(&container).image = Step::Running;
                self.step(async move {
                    let image = spec.container.image.clone().unwrap_or_default();
                    let object = pod_reference(&pod, Some(spec.field_path()));
                    let policy = spec.container.image_pull_policy.as_deref();
                    let result = context
                        .images
                        .ensure(
                            spec::uid(&pod),
                            &image,
                            policy,
                            async || start::credentials(&context, &pod, &image).await,
                            &object,
                        )
                        .await;
                    Done::Image(container, result)
                });
            }
            Action::StartContainer { container, attempt } => {
                let dead = latest(&self.containers, &container)
                    .filter(|c| c.state == ContainerState::Exited)
                    .map(plan::finished_at);
                let (Some(spec), Some(sandbox)) = (self.spec_of(&container).cloned(), self.sandbox().cloned()) else {
                    return;
                };
                let target_container_id =
                    spec.target.as_ref().and_then(|t| latest(&self.containers, t)).map(|c| c.id.clone());
                let memo = self.memo.container(&container);
                let Step::Done(image) = std::mem::take(&mut memo.image) else {
                    return;
                };
                if let Some(finished) = dead {
                    memo.backoff.restarted(finished, now);
                }
                memo.start = Step::Running;
                let request = start::Request {
                    pod,
                    spec,
                    attempt,
                    crash_backoff: memo.backoff.annotation(),
                    image,
                    sandbox,
                    volumes: self.volumes.clone(),
                    target_container_id,
                };
                self.step(async move { Done::Started(container, start::start(&context, &request).await) });
            }
            Action::KillContainer { container, id, message, grace, hook } => {
                let grace = Duration::from_secs(u64::try_from(grace).unwrap_or(0));
                let deadline = now
                    .checked_add(SignedDuration::try_from(grace).unwrap_or(SignedDuration::MAX))
                    .unwrap_or(Timestamp::MAX);
                self.memo.kills.insert(id.clone(), Kill { deadline });
                let request = kill::Request {
                    pod,
                    spec: self.spec_of(&container).cloned(),
                    id: id.clone(),
                    message,
                    grace,
                    hook,
                    pod_ip: self.pod_ip(),
                };
                self.step(async move { Done::Killed(id, kill::kill(&context, &request).await) });
            }
            Action::ResizeContainer { container, id } => {
                let Some(spec) = self.spec_of(&container) else {
                    return;
                };
                let resources = linux::for_container(&pod, &spec.container, context.machine.memory_bytes);
                self.memo.resizing.insert(id.clone());
                self.step(async move {
                    let resize = async {
                        if let Some(manager) = context.cgroups.clone() {
                            let (path, limits) = (
                                prepare::cgroup_path(&context, &pod),
                                linux::for_pod(&pod, context.options.pod_pids_max),
                            );
                            tokio::task::spawn_blocking(move || cgroup::ensure(&manager, &path, &limits))
                                .await
                                .map_err(|e| e.to_string())?
                                .map_err(|e| e.to_string())?;
                        }
                        context.runtime.update_container_resources(&id, &resources).await.map_err(|e| e.to_string())
                    };
                    let result = resize.await;
                    Done::Resized(id, resources, result)
                });
            }
            Action::RemoveContainer { id } => {
                self.memo.removing.insert(id.clone());
                self.step(async move {
                    let result = context.runtime.remove_container(&id).await;
                    Done::Removed(id, result)
                });
            }
            Action::Fail { reason, message } => {
                context.recorder.record(pod_reference(&pod, None), Severity::Normal, &reason, message.clone());
                self.memo.failed = Some((reason, message));
                self.memo.termination = Some(Termination { since: now, grace: spec::grace_period(&pod) });
            }
            Action::StopSandbox { id } => {
                self.memo.sandbox_stop = Step::Running;
                self.step(async move {
                    let result = context.runtime.stop_pod_sandbox(&id).await;
                    Done::SandboxStopped(id, result)
                });
            }
            Action::TearDown => {
                self.memo.teardown = Step::Running;
                self.probing.clear();
                let dir = self.pod_dir();
                let cgroup = context.cgroups.clone().map(|m| (m, prepare::cgroup_path(&context, &pod)));
                self.step(async move {
                    let work = move || -> Result<(), String> {
                        for below in ["volume-subpaths", "volumes"] {
                            teardown::remove(&dir.join(below)).map_err(|e| e.to_string())?;
                        }
                        match cgroup {
                            Some((manager, path)) => manager.remove(&path).map_err(|e| e.to_string()),
                            None => Ok(()),
                        }
                    };
                    Done::TornDown(tokio::task::spawn_blocking(work).await.unwrap_or_else(|e| Err(e.to_string())))
                });
            }
            Action::Terminated => {
                self.memo.terminated = true;
                self.probing.clear();
                context.objects.forget(&self.uid);
            }
        }
    }
}
