//! What to do next for a pod (upstream's `computePodActions`, and the order of termination). Pure: everything it looks
//! at comes in, actions and the time of the next look come out.

use super::backoff::go_duration;
use super::memo::{Memo, Step};
use super::spec::{self, ContainerSpec, Kind};
use crate::labels;
use cri::{ContainerState, ContainerStatus, LinuxResources, PodSandboxStatus, SandboxState};
use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::core::v1::Pod;
use std::collections::BTreeMap;

/// Seconds that a container gets at least once the pod's grace period is used up.
const GRACE_MIN: i64 = 2;

#[derive(Debug)]
pub struct Observed<'a> {
    pub now: Timestamp,
    pub pod: &'a Pod,
    pub specs: &'a [ContainerSpec],
    /// The newest.
    pub sandbox: Option<&'a PodSandboxStatus>,
    /// All attempts in all sandboxes.
    pub containers: &'a [ContainerStatus],
    pub memo: &'a Memo,
    /// What each container should use now, by name.
    pub resources: &'a BTreeMap<String, LinuxResources>,
    /// When the pod was first seen by this node.
    pub start_time: Timestamp,
}

#[derive(Clone, Debug, PartialEq)]
pub enum Action {
    SetUpVolumes,
    RunSandbox {
        attempt: u32,
    },
    EnsureImage {
        container: String,
    },
    StartContainer {
        container: String,
        attempt: u32,
    },
    /// Asks it to stop; `hook` runs preStop first. `grace` in seconds.
    KillContainer {
        container: String,
        id: String,
        message: String,
        grace: i64,
        hook: bool,
    },
    ResizeContainer {
        container: String,
        id: String,
    },
    RemoveContainer {
        id: String,
    },
    /// The pod is over: `Failed` with this reason.
    Fail {
        reason: String,
        message: String,
    },
    StopSandbox {
        id: String,
    },
    /// Unmount volumes, remove the cgroup.
    TearDown,
    /// Nothing runs and nothing is held any more.
    Terminated,
}

#[derive(Debug, Default)]
pub struct Plan {
    pub actions: Vec<Action>,
    pub wake_at: Option<Timestamp>,
    /// Containers that wait out a crash, with the message for their status.
    pub crash_loops: BTreeMap<String, String>,
    /// The pod has ended by itself: nothing will be started again.
    pub finished: bool,
}

impl Plan {
    fn wake(&mut self, at: Timestamp) {
        self.wake_at = Some(self.wake_at.map_or(at, |w| w.min(at)));
    }
}

/// The newest container of that name.
pub fn latest<'a>(containers: &'a [ContainerStatus], name: &str) -> Option<&'a ContainerStatus> {
    containers.iter().filter(|c| c.metadata.name == name).max_by_key(|c| (c.metadata.attempt, c.created_at_ns))
}

/// The newest one before [`latest`].
pub fn previous<'a>(containers: &'a [ContainerStatus], name: &str) -> Option<&'a ContainerStatus> {
    let newest = latest(containers, name)?;
    containers
        .iter()
        .filter(|c| c.metadata.name == name && c.id != newest.id)
        .max_by_key(|c| (c.metadata.attempt, c.created_at_ns))
}

pub fn finished_at(c: &ContainerStatus) -> Timestamp {
    Timestamp::from_nanosecond(i128::from(c.finished_at_ns)).unwrap_or_default()
}

/// Running, its hook done, and past its startup probe.
pub fn is_started(spec: &ContainerSpec, status: &ContainerStatus, memo: &Memo) -> bool {
    status.state == ContainerState::Running
        && !memo.hooks.contains(&status.id)
        && (spec.container.startup_probe.is_none()
            || memo.probes.get(&status.id).is_some_and(|p| p.startup == Some(true)))
}

pub fn plan(o: &Observed) -> Plan {
    let mut plan = Plan::default();
    if o.memo.termination.is_some() {
        terminate(o, &mut plan);
        return plan;
    }
    if let Some(seconds) = o.pod.spec.as_ref().and_then(|s| s.active_deadline_seconds) {
        let deadline = o.start_time.checked_add(SignedDuration::from_secs(seconds)).unwrap_or(Timestamp::MAX);
        if spec::is_terminal(o.pod) {
        } else if o.now >= deadline {
            plan.actions.push(Action::Fail {
                reason: "DeadlineExceeded".into(),
                message: "Pod was active on the node longer than the specified deadline".into(),
            });
            return plan;
        } else {
            plan.wake(deadline);
        }
    }
    plan.finished = spec::is_terminal(o.pod) || is_finished(o);
    if plan.finished {
        finish(o, &mut plan);
        return plan;
    }
    if o.memo.volumes.is_due(o.now) {
        plan.actions.push(Action::SetUpVolumes);
    } else if let Some(at) = o.memo.volumes.retry_at() {
        plan.wake(at);
    }
    let ready = o.sandbox.filter(|s| s.state == SandboxState::Ready);
    if ready.is_none() {
        if o.memo.sandbox.is_due(o.now) {
            plan.actions.push(Action::RunSandbox { attempt: o.sandbox.map_or(0, |s| s.metadata.attempt + 1) });
        } else if let Some(at) = o.memo.sandbox.retry_at() {
            plan.wake(at);
        }
    }
    let can_start = ready.is_some() && o.memo.volumes.done().is_some();
    run_containers(o, &mut plan, ready, can_start);
    remove_old(o, &mut plan);
    plan
}

/// Every main container has ended for good, or an init container failed for good.
fn is_finished(o: &Observed) -> bool {
    if o.memo.containers.values().any(|m| m.start.is_running()) {
        return false;
    }
    let ended_for_good = |spec: &ContainerSpec| {
        latest(o.containers, spec.name())
            .is_some_and(|s| s.state == ContainerState::Exited && !spec::restarts(o.pod, spec, s.exit_code))
    };
    let mut mains = o.specs.iter().filter(|s| s.kind == Kind::Main).peekable();
    let all_main = mains.peek().is_some() && mains.all(ended_for_good);
    let init_failed = o
        .specs
        .iter()
        .filter(|s| s.kind == Kind::Init)
        .any(|s| ended_for_good(s) && latest(o.containers, s.name()).is_some_and(|c| c.exit_code != 0));
    // A failed init container only ends a pod whose main containers never began.
    let main_began = o.specs.iter().any(|s| s.kind == Kind::Main && latest(o.containers, s.name()).is_some());
    all_main || (init_failed && !main_began)
}

/// Brings containers up, in order; keeps those up that are.
fn run_containers(o: &Observed, plan: &mut Plan, sandbox: Option<&PodSandboxStatus>, can_start: bool) {
    let in_sandbox = |name: &str| latest(o.containers, name).filter(|c| sandbox.is_none_or(|s| s.id == c.sandbox_id));
    let main_began = o.specs.iter().any(|s| s.kind == Kind::Main && in_sandbox(s.name()).is_some());
    let mut initialized = true;
    for spec in o.specs.iter().filter(|s| matches!(s.kind, Kind::Init | Kind::Sidecar)) {
        let status = in_sandbox(spec.name());
        if spec.kind == Kind::Sidecar {
            match status {
                Some(s) if s.state == ContainerState::Running => {
                    watch_running(o, plan, spec, s);
                    if !main_began && !is_started(spec, s, o.memo) {
                        initialized = false;
                        break;
                    }
                }
                _ => {
                    start(o, plan, spec, status, can_start);
                    if !main_began {
                        initialized = false;
                        break;
                    }
                }
            }
            continue;
        }
        // Once a main container has run, initialization is history (the records may even be gone).
        if main_began {
            continue;
        }
        match status {
            Some(s) if s.state == ContainerState::Exited && s.exit_code == 0 => {}
            Some(s) if s.state == ContainerState::Running => {
                initialized = false;
                break;
            }
            _ => {
                start(o, plan, spec, status, can_start);
                initialized = false;
                break;
            }
        }
    }
    if initialized {
        for spec in o.specs.iter().filter(|s| s.kind == Kind::Main) {
            match latest(o.containers, spec.name()) {
                Some(s) if s.state == ContainerState::Running => watch_running(o, plan, spec, s),
                Some(s) if s.state == ContainerState::Exited && !spec::restarts(o.pod, spec, s.exit_code) => {}
                status => start(o, plan, spec, status, can_start),
            }
        }
    }
    for spec in o.specs.iter().filter(|s| s.kind == Kind::Ephemeral) {
        if latest(o.containers, spec.name()).is_none() {
            start(o, plan, spec, None, can_start);
        }
    }
}

fn start(o: &Observed, plan: &mut Plan, spec: &ContainerSpec, status: Option<&ContainerStatus>, can_start: bool) {
    let name = spec.name();
    let memo = o.memo.containers.get(name).cloned().unwrap_or_default();
    if memo.start.is_running() {
        return;
    }
    let newest = latest(o.containers, name);
    if let Some(c) = newest.filter(|c| matches!(c.state, ContainerState::Created | ContainerState::Unknown)) {
        // Made but never started, by a kubelet that stopped in between. Its number is given again.
        if !o.memo.removing.contains(&c.id) {
            plan.actions.push(Action::RemoveContainer { id: c.id.clone() });
        }
        return;
    }
    if let Some(dead) = status.filter(|s| s.state == ContainerState::Exited)
        && let Some((until, delay)) = memo.backoff.wait(finished_at(dead), o.now)
    {
        let message = format!(
            "back-off {} restarting failed container={name} pod={}",
            go_duration(delay),
            spec::long_name(o.pod)
        );
        plan.crash_loops.insert(name.to_owned(), message);
        plan.wake(until);
        return;
    }
    // The image is looked for while sandbox and volumes are still being made.
    match &memo.image {
        Step::Done(_) => {}
        Step::Running => return,
        image => {
            if image.is_due(o.now) {
                plan.actions.push(Action::EnsureImage { container: name.to_owned() });
            } else if let Some(at) = image.retry_at() {
                plan.wake(at);
            }
            return;
        }
    }
    if !can_start {
        return;
    }
    if memo.start.is_due(o.now) || memo.start.done().is_some() {
        let attempt = newest.map_or(0, |s| s.metadata.attempt + 1);
        plan.actions.push(Action::StartContainer { container: name.to_owned(), attempt });
    } else if let Some(at) = memo.start.retry_at() {
        plan.wake(at);
    }
}

/// Reasons to stop or change a container that runs.
fn watch_running(o: &Observed, plan: &mut Plan, spec: &ContainerSpec, status: &ContainerStatus) {
    if o.memo.kills.contains_key(&status.id) {
        return;
    }
    let name = spec.name();
    let grace = spec::grace_period(o.pod);
    let mut kill = |message: String, grace: i64| {
        plan.actions.push(Action::KillContainer {
            container: name.to_owned(),
            id: status.id.clone(),
            message,
            grace,
            hook: true,
        });
    };
    let own_grace = |probe: Option<&k8s_openapi::api::core::v1::Probe>| {
        probe.and_then(|p| p.termination_grace_period_seconds).unwrap_or(grace)
    };
    let changed = status.annotations.get(labels::CONTAINER_HASH).is_some_and(|h| *h != spec.hash());
    let probes = o.memo.probes.get(&status.id);
    if changed {
        kill(format!("Container {name} definition changed, will be restarted"), grace);
    } else if probes.is_some_and(|p| p.liveness == Some(false)) {
        kill(
            format!("Container {name} failed liveness probe, will be restarted"),
            own_grace(spec.container.liveness_probe.as_ref()),
        );
    } else if probes.is_some_and(|p| p.startup == Some(false)) {
        kill(
            format!("Container {name} failed startup probe, will be restarted"),
            own_grace(spec.container.startup_probe.as_ref()),
        );
    } else if let (Some(want), Some(have)) = (o.resources.get(name), o.memo.applied.get(&status.id)) {
        if want == have || o.memo.resizing.contains(&status.id) {
            return;
        }
        let cpu_differs = (want.cpu_quota, want.cpu_shares) != (have.cpu_quota, have.cpu_shares);
        let memory_differs = want.memory_limit_bytes != have.memory_limit_bytes;
        let must_restart = spec.container.resize_policy.iter().flatten().any(|p| {
            p.restart_policy == "RestartContainer"
                && ((p.resource_name == "cpu" && cpu_differs) || (p.resource_name == "memory" && memory_differs))
        });
        if must_restart {
            kill(format!("Container {name} resize requires restart"), grace);
        } else if cpu_differs || memory_differs {
            plan.actions.push(Action::ResizeContainer { container: name.to_owned(), id: status.id.clone() });
        }
    }
}

/// The newest container stays, and the one before it (for `lastState` and `logs --previous`).
fn remove_old(o: &Observed, plan: &mut Plan) {
    for spec in o.specs {
        let mut ended: Vec<&ContainerStatus> = o
            .containers
            .iter()
            .filter(|c| c.metadata.name == spec.name() && c.state == ContainerState::Exited)
            .collect();
        ended.sort_by_key(|c| std::cmp::Reverse((c.metadata.attempt, c.created_at_ns)));
        let newest_ended = latest(o.containers, spec.name()).is_some_and(|c| c.state == ContainerState::Exited);
        let keep = if newest_ended { 2 } else { 1 };
        for c in ended.into_iter().skip(keep).filter(|c| !o.memo.removing.contains(&c.id)) {
            plan.actions.push(Action::RemoveContainer { id: c.id.clone() });
        }
    }
}

/// All main containers have ended: sidecars go, then what the pod holds.
fn finish(o: &Observed, plan: &mut Plan) {
    let deadline_grace = spec::grace_period(o.pod);
    let any = stop_in_order(o, plan, |_| (deadline_grace, None));
    release(o, plan, any);
}

fn terminate(o: &Observed, plan: &mut Plan) {
    let Some(t) = &o.memo.termination else { return };
    let deadline = t.since.checked_add(SignedDuration::from_secs(t.grace)).unwrap_or(Timestamp::MAX);
    let left = deadline.duration_since(o.now).as_secs();
    let any = stop_in_order(o, plan, |kind| {
        let min = if t.grace == 0 {
            0
        } else if kind == Kind::Sidecar {
            GRACE_MIN.min(t.grace)
        } else {
            1
        };
        (left.max(min), Some(deadline))
    });
    release(o, plan, any);
}

/// Main, init and ephemeral containers all at once; then sidecars, the last one first. Whether any still runs.
fn stop_in_order(o: &Observed, plan: &mut Plan, grace: impl Fn(Kind) -> (i64, Option<Timestamp>)) -> bool {
    let running =
        |s: &&ContainerSpec| latest(o.containers, s.name()).is_some_and(|c| c.state == ContainerState::Running);
    let mut to_stop: Vec<&ContainerSpec> = o.specs.iter().filter(|s| s.kind != Kind::Sidecar).filter(running).collect();
    let waiting_for_start = o.memo.containers.values().any(|m| m.start.is_running());
    let sidecars: Vec<&ContainerSpec> = o.specs.iter().filter(|s| s.kind == Kind::Sidecar).filter(running).collect();
    let mut any = waiting_for_start || !to_stop.is_empty() || !sidecars.is_empty();
    if to_stop.is_empty() && !waiting_for_start {
        to_stop.extend(sidecars.last());
    }
    for spec in to_stop {
        let Some(status) = latest(o.containers, spec.name()) else {
            continue;
        };
        let (grace, deadline) = grace(spec.kind);
        let again = match (o.memo.kills.get(&status.id), deadline) {
            (None, _) => false,
            // Somebody shortened the grace period: ask again, the hook has begun already.
            (Some(kill), Some(deadline))
                if deadline.checked_add(SignedDuration::from_secs(3)).is_ok_and(|d| d < kill.deadline) =>
            {
                true
            }
            _ => continue,
        };
        plan.actions.push(Action::KillContainer {
            container: spec.name().to_owned(),
            id: status.id.clone(),
            message: format!("Stopping container {}", spec.name()),
            grace,
            hook: !again,
        });
    }
    // Containers of an older sandbox, or of a spec that has changed, may not be left either.
    for c in o.containers.iter().filter(|c| c.state == ContainerState::Running) {
        let known = o.specs.iter().any(|s| latest(o.containers, s.name()).is_some_and(|l| l.id == c.id));
        if !known {
            any = true;
            if !o.memo.kills.contains_key(&c.id) {
                plan.actions.push(Action::KillContainer {
                    container: c.metadata.name.clone(),
                    id: c.id.clone(),
                    message: format!("Stopping container {}", c.metadata.name),
                    grace: 0,
                    hook: false,
                });
            }
        }
    }
    any
}

/// Nothing runs: network and sandbox first, then volumes and cgroup.
fn release(o: &Observed, plan: &mut Plan, any_running: bool) {
    let m = o.memo;
    if any_running || m.sandbox.is_running() || m.volumes.is_running() || m.terminated {
        return;
    }
    if let Some(s) = o.sandbox.filter(|s| s.state == SandboxState::Ready) {
        match m.sandbox_stop.retry_at() {
            _ if m.sandbox_stop.is_due(o.now) => plan.actions.push(Action::StopSandbox { id: s.id.clone() }),
            Some(at) => plan.wake(at),
            None => {}
        }
        return;
    }
    match &m.teardown {
        Step::Done(()) => plan.actions.push(Action::Terminated),
        t if t.is_due(o.now) => plan.actions.push(Action::TearDown),
        t => {
            if let Some(at) = t.retry_at() {
                plan.wake(at);
            }
        }
    }
}

#[cfg(test)]
#[path = "plan_tests.rs"]
mod tests;
