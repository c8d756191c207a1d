//! A pod's status as the API shows it: phase, conditions, container states. Pure.

use super::memo::{Memo, Step};
use super::plan::{self, Plan, is_started, latest, previous};
use super::spec::{self, ContainerSpec, Kind};
use crate::resources::qos;
use cri::{ContainerState as State, ContainerStatus as Runtime, LinuxResources, PodSandboxStatus, SandboxState};
use jiff::Timestamp;
use k8s_openapi::api::core::v1::{
    ContainerState, ContainerStateRunning, ContainerStateTerminated, ContainerStateWaiting, ContainerStatus,
    ContainerUser, HostIP, LinuxContainerUser, Pod, PodCondition, PodIP, PodStatus, ResourceRequirements,
    VolumeMountStatus,
};
use k8s_openapi::apimachinery::pkg::api::resource::Quantity;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;

#[derive(Debug)]
pub struct Input<'a> {
    pub now: Timestamp,
    pub pod: &'a Pod,
    pub specs: &'a [ContainerSpec],
    pub sandbox: Option<&'a PodSandboxStatus>,
    pub containers: &'a [Runtime],
    pub memo: &'a Memo,
    pub plan: &'a Plan,
    pub start_time: Timestamp,
    /// Scheme of container ids: `skiff`, `containerd`.
    pub runtime_name: &'a str,
    pub host_ips: &'a [String],
}

fn time(ns: i64) -> Option<Time> {
    (ns > 0).then(|| Timestamp::from_nanosecond(i128::from(ns)).ok().map(whole_seconds).map(Time)).flatten()
}

/// The API's times have no fractions; without cutting, every status would seem to differ from what was written.
pub fn whole_seconds(t: Timestamp) -> Timestamp {
    Timestamp::from_second(t.as_second()).unwrap_or(t)
}

pub fn compute(i: &Input) -> PodStatus {
    let old = i.pod.status.clone().unwrap_or_default();
    let of_kind = |kinds: &[Kind]| -> Vec<ContainerStatus> {
        i.specs.iter().filter(|s| kinds.contains(&s.kind)).map(|s| container_status(i, s, &old)).collect()
    };
    let init = of_kind(&[Kind::Init, Kind::Sidecar]);
    let main = of_kind(&[Kind::Main]);
    let ephemeral = of_kind(&[Kind::Ephemeral]);
    let phase = phase(i, &init, &main, &old);
    let mut status = PodStatus {
        phase: Some(phase.to_owned()),
        start_time: Some(Time(whole_seconds(i.start_time))),
        qos_class: Some(qos::class(i.pod).as_str().to_owned()),
        observed_generation: i.pod.metadata.generation,
        host_ip: i.host_ips.first().cloned(),
        host_ips: Some(i.host_ips.iter().map(|ip| HostIP { ip: ip.clone() }).collect()),
        // Set by others, kept.
        nominated_node_name: old.nominated_node_name.clone(),
        resource_claim_statuses: old.resource_claim_statuses.clone(),
        ..Default::default()
    };
    if let Some((reason, message)) = &i.memo.failed {
        status.reason = Some(reason.clone());
        status.message = Some(message.clone());
    } else if matches!(phase, "Failed") {
        // What ended it once explains it for ever.
        status.reason = old.reason.clone();
        status.message = old.message.clone();
    }
    let ips = pod_ips(i, &old);
    status.pod_ip = ips.first().cloned();
    status.pod_ips = (!ips.is_empty()).then(|| ips.iter().map(|ip| PodIP { ip: ip.clone() }).collect());
    status.conditions = Some(conditions(i, phase, &init, &main, &old));
    status.container_statuses = Some(main);
    status.init_container_statuses = (!init.is_empty()).then_some(init);
    status.ephemeral_container_statuses = (!ephemeral.is_empty()).then_some(ephemeral);
    status
}

fn pod_ips(i: &Input, old: &PodStatus) -> Vec<String> {
    if spec::is_host_network(i.pod) {
        return i.host_ips.to_vec();
    }
    let ready = i.sandbox.filter(|s| s.state == SandboxState::Ready && !s.ips.is_empty());
    match ready {
        Some(s) => s.ips.clone(),
        // A pod that has ended keeps telling which address it had.
        None => old.pod_ips.iter().flatten().map(|p| p.ip.clone()).collect(),
    }
}

fn quantities(r: &LinuxResources, spec: &ContainerSpec) -> Option<ResourceRequirements> {
    let mut out = spec.container.resources.clone()?;
    out.claims = None;
    // Shows what is in force, which during a resize isn't what the spec says.
    if let Some(limits) = &mut out.limits {
        if limits.contains_key("cpu") && r.cpu_quota > 0 && r.cpu_period > 0 {
            let milli = r.cpu_quota * 1000 / r.cpu_period;
            if crate::quantity::milli_of(Some(limits), "cpu") != milli {
                limits.insert("cpu".into(), Quantity(format!("{milli}m")));
            }
        }
        if limits.contains_key("memory")
            && r.memory_limit_bytes > 0
            && crate::quantity::value_of(Some(limits), "memory") != r.memory_limit_bytes
        {
            limits.insert("memory".into(), Quantity(r.memory_limit_bytes.to_string()));
        }
    }
    Some(out)
}

fn terminated(i: &Input, c: &Runtime) -> ContainerState {
    let mut reason = c.reason.clone();
    if reason.is_empty() {
        reason = if c.exit_code == 0 { "Completed" } else { "Error" }.into();
    }
    let message = i.memo.messages.get(&c.id).cloned().or_else(|| (!c.message.is_empty()).then(|| c.message.clone()));
    ContainerState {
        terminated: Some(ContainerStateTerminated {
            container_id: Some(format!("{}://{}", i.runtime_name, c.id)),
            exit_code: c.exit_code,
            signal: (c.signal != 0).then_some(c.signal),
            reason: Some(reason),
            message,
            started_at: time(if c.started_at_ns > 0 { c.started_at_ns } else { c.created_at_ns }),
            finished_at: time(c.finished_at_ns),
        }),
        ..Default::default()
    }
}

fn waiting(reason: &str, message: Option<String>) -> ContainerState {
    ContainerState {
        waiting: Some(ContainerStateWaiting { reason: Some(reason.to_owned()), message }),
        ..Default::default()
    }
}

/// Why it isn't running yet, if something stands in the way.
fn obstacle(i: &Input, name: &str) -> Option<ContainerState> {
    if let Some(message) = i.plan.crash_loops.get(name) {
        return Some(waiting("CrashLoopBackOff", Some(message.clone())));
    }
    let memo = i.memo.containers.get(name)?;
    if let Step::Failed { reason, message, .. } = &memo.image {
        return Some(waiting(reason, Some(message.clone())));
    }
    if let Step::Failed { reason, message, .. } = &memo.start {
        return Some(waiting(reason, Some(message.clone())));
    }
    None
}

fn container_status(i: &Input, spec: &ContainerSpec, old: &PodStatus) -> ContainerStatus {
    let name = spec.name();
    let newest = latest(i.containers, name);
    let old_own = [&old.container_statuses, &old.init_container_statuses, &old.ephemeral_container_statuses]
        .into_iter()
        .flat_map(|l| l.iter().flatten())
        .find(|c| c.name == name);
    let mut out = ContainerStatus {
        name: name.to_owned(),
        image: spec.container.image.clone().unwrap_or_default(),
        ready: false,
        started: Some(false),
        ..Default::default()
    };
    let over = i.memo.termination.is_some() || i.plan.finished || i.memo.terminated;
    let Some(c) = newest.filter(|c| c.state != State::Created) else {
        out.state = Some(match old_own.and_then(|o| o.state.clone()).filter(|s| over && s.terminated.is_some()) {
            // Its record is gone, its end was told before.
            Some(state) => state,
            None if i.memo.terminated
                && old_own.is_some_and(|o| o.state.as_ref().is_some_and(|s| s.running.is_some())) =>
            {
                ContainerState {
                    terminated: Some(ContainerStateTerminated {
                        exit_code: 137,
                        reason: Some("ContainerStatusUnknown".into()),
                        message: Some("The container could not be located when the pod was terminated".into()),
                        ..Default::default()
                    }),
                    ..Default::default()
                }
            }
            None => obstacle(i, name).unwrap_or_else(|| {
                let initializing =
                    spec.kind == Kind::Main && i.specs.iter().any(|s| matches!(s.kind, Kind::Init | Kind::Sidecar));
                waiting(if initializing { "PodInitializing" } else { "ContainerCreating" }, None)
            }),
        });
        out.restart_count = old_own.map_or(0, |o| o.restart_count);
        out.last_state = Some(old_own.and_then(|o| o.last_state.clone()).unwrap_or_default());
        return out;
    };
    out.container_id = Some(format!("{}://{}", i.runtime_name, c.id));
    out.restart_count = i32::try_from(c.metadata.attempt).unwrap_or(i32::MAX);
    if !c.image.is_empty() {
        out.image = c.image.clone();
    }
    out.image_id = i.memo.image_ids.get(&c.id).cloned().unwrap_or_else(|| c.image_id.clone());
    let earlier = previous(i.containers, name).filter(|p| p.state == State::Exited).map(|p| terminated(i, p));
    out.last_state = Some(earlier.clone().unwrap_or_default());
    match c.state {
        State::Running => {
            out.state = Some(ContainerState {
                running: Some(ContainerStateRunning { started_at: time(c.started_at_ns) }),
                ..Default::default()
            });
            let started = is_started(spec, c, i.memo);
            out.started = Some(started);
            out.ready = match spec.kind {
                Kind::Main | Kind::Sidecar => {
                    started
                        && (spec.container.readiness_probe.is_none()
                            || i.memo.probes.get(&c.id).is_some_and(|p| p.readiness == Some(true)))
                }
                Kind::Init | Kind::Ephemeral => false,
            };
            out.resources = i
                .memo
                .applied
                .get(&c.id)
                .and_then(|r| quantities(r, spec))
                .or_else(|| spec.container.resources.clone());
            out.allocated_resources =
                spec.container.resources.as_ref().and_then(|r| r.requests.clone()).filter(|r| !r.is_empty());
            out.user = c.user.as_ref().map(|(uid, gid, groups)| ContainerUser {
                linux: Some(LinuxContainerUser { uid: *uid, gid: *gid, supplemental_groups: Some(groups.clone()) }),
            });
        }
        State::Exited => {
            let end = terminated(i, c);
            let restarting = !over && (spec.kind == Kind::Sidecar || spec::restarts(i.pod, spec, c.exit_code));
            match restarting.then(|| obstacle(i, name)).flatten() {
                Some(wait) => {
                    out.state = Some(wait);
                    out.last_state = Some(end);
                }
                None => out.state = Some(end),
            }
            // An init container that has succeeded is ready.
            out.ready = spec.kind == Kind::Init && c.exit_code == 0;
        }
        State::Created | State::Unknown => {
            out.state = Some(obstacle(i, name).unwrap_or_else(|| waiting("ContainerCreating", None)));
        }
    }
    let mounts: Vec<VolumeMountStatus> = spec
        .container
        .volume_mounts
        .iter()
        .flatten()
        .map(|m| VolumeMountStatus {
            name: m.name.clone(),
            mount_path: m.mount_path.clone(),
            read_only: m.read_only.filter(|r| *r),
            recursive_read_only: m
                .read_only
                .filter(|r| *r)
                .map(|_| m.recursive_read_only.clone().unwrap_or_else(|| "Disabled".into())),
            volume_status: None,
        })
        .collect();
    out.volume_mounts = (!mounts.is_empty()).then_some(mounts);
    out
}

fn is_running(c: &ContainerStatus) -> bool {
    c.state.as_ref().is_some_and(|s| s.running.is_some())
}

fn end(c: &ContainerStatus) -> Option<&ContainerStateTerminated> {
    c.state.as_ref().and_then(|s| s.terminated.as_ref())
}

fn phase<'a>(i: &Input, init: &[ContainerStatus], main: &[ContainerStatus], old: &'a PodStatus) -> &'a str {
    if let Some(done @ ("Succeeded" | "Failed")) = old.phase.as_deref() {
        // What has ended never begins again.
        return done;
    }
    let sidecar = |name: &str| i.specs.iter().any(|s| s.kind == Kind::Sidecar && s.name() == name);
    let sidecar_runs = init.iter().any(|c| sidecar(&c.name) && is_running(c));
    let anything_runs = sidecar_runs || init.iter().chain(main).any(is_running);
    if i.memo.failed.is_some() {
        return if i.memo.terminated || !anything_runs { "Failed" } else { live_phase(i, init, main) };
    }
    if i.memo.terminated || i.plan.finished && !sidecar_runs {
        let all_well = !main.is_empty() && main.iter().all(|c| end(c).is_some_and(|t| t.exit_code == 0));
        return if all_well { "Succeeded" } else { "Failed" };
    }
    live_phase(i, init, main)
}

fn live_phase(i: &Input, init: &[ContainerStatus], main: &[ContainerStatus]) -> &'static str {
    let began = main.iter().any(|c| c.container_id.is_some());
    let init_open = init.iter().any(|c| {
        let is_sidecar = i.specs.iter().any(|s| s.kind == Kind::Sidecar && s.name() == c.name);
        if is_sidecar { c.started != Some(true) } else { end(c).is_none_or(|t| t.exit_code != 0) }
    });
    if init_open && !began {
        return "Pending";
    }
    // A container that waits without ever having run holds the pod back in Pending.
    let never_ran = main.iter().any(|c| {
        c.state.as_ref().is_none_or(|s| s.waiting.is_some())
            && c.last_state.as_ref().is_none_or(|s| s.terminated.is_none())
    });
    if never_ran { "Pending" } else { "Running" }
}

fn conditions(
    i: &Input,
    phase: &str,
    init: &[ContainerStatus],
    main: &[ContainerStatus],
    old: &PodStatus,
) -> Vec<PodCondition> {
    let old_conditions = old.conditions.clone().unwrap_or_default();
    let mut out: Vec<PodCondition> = Vec::new();
    let mut put = |kind: &str, status: bool, reason: Option<&str>, message: Option<String>| {
        let text = if status { "True" } else { "False" };
        let before = old_conditions.iter().find(|c| c.type_ == kind);
        let since = before.filter(|c| c.status == text).and_then(|c| c.last_transition_time.clone());
        out.push(PodCondition {
            type_: kind.to_owned(),
            status: text.to_owned(),
            reason: reason.map(str::to_owned),
            message,
            last_transition_time: Some(since.unwrap_or(Time(whole_seconds(i.now)))),
            last_probe_time: None,
            observed_generation: i.pod.metadata.generation,
        });
    };
    let sandbox_ready = i
        .sandbox
        .is_some_and(|s| s.state == SandboxState::Ready && (!s.ips.is_empty() || spec::is_host_network(i.pod)));
    put("PodReadyToStartContainers", sandbox_ready, None, None);

    let is_sidecar = |name: &str| i.specs.iter().any(|s| s.kind == Kind::Sidecar && s.name() == name);
    let main_began = main.iter().any(|c| c.container_id.is_some());
    let incomplete: Vec<&str> = init
        .iter()
        .filter(|c| if is_sidecar(&c.name) { c.started != Some(true) && !main_began } else { !c.ready && !main_began })
        .map(|c| c.name.as_str())
        .collect();
    match phase {
        "Succeeded" => put("Initialized", true, Some("PodCompleted"), None),
        _ if incomplete.is_empty() => put("Initialized", true, None, None),
        _ => put(
            "Initialized",
            false,
            Some("ContainersNotInitialized"),
            Some(format!("containers with incomplete status: [{}]", incomplete.join(" "))),
        ),
    }

    let unready: Vec<&str> =
        init.iter().filter(|c| is_sidecar(&c.name)).chain(main).filter(|c| !c.ready).map(|c| c.name.as_str()).collect();
    let containers_ready = phase != "Succeeded" && phase != "Failed" && unready.is_empty();
    let not_ready = || match phase {
        "Succeeded" => (Some("PodCompleted"), None),
        "Failed" => (Some("PodFailed"), None),
        _ => (Some("ContainersNotReady"), Some(format!("containers with unready status: [{}]", unready.join(" ")))),
    };
    let (reason, message) = if containers_ready { (None, None) } else { not_ready() };
    put("ContainersReady", containers_ready, reason, message.clone());

    let gates = i.pod.spec.iter().flat_map(|s| s.readiness_gates.iter().flatten());
    let closed: Vec<String> = gates
        .filter_map(|g| {
            let found = old_conditions.iter().find(|c| c.type_ == g.condition_type);
            match found {
                Some(c) if c.status == "True" => None,
                Some(_) => Some(format!(
                    "the status of pod readiness gate \"{}\" is not \"True\", but {}",
                    g.condition_type,
                    found.map_or("", |c| c.status.as_str())
                )),
                None => Some(format!(
                    "corresponding condition of pod readiness gate \"{}\" does not exist.",
                    g.condition_type
                )),
            }
        })
        .collect();
    if !containers_ready {
        put("Ready", false, reason, message);
    } else if closed.is_empty() {
        put("Ready", true, None, None);
    } else {
        put("Ready", false, Some("ReadinessGatesNotReady"), Some(closed.join(", ")));
    }
    match old_conditions.iter().find(|c| c.type_ == "PodScheduled") {
        Some(c) => out.push(c.clone()),
        None => put("PodScheduled", true, None, None),
    }
    // Conditions of others (readiness gates, disruption) stay as they are.
    for c in old_conditions {
        if !out.iter().any(|o| o.type_ == c.type_) {
            out.push(c);
        }
    }
    out
}

/// Every container that runs, for those who ask without knowing a plan.
pub fn running<'a>(
    specs: &'a [ContainerSpec],
    containers: &'a [Runtime],
) -> impl Iterator<Item = (&'a ContainerSpec, &'a Runtime)> {
    specs
        .iter()
        .filter_map(|s| plan::latest(containers, s.name()).filter(|c| c.state == State::Running).map(|c| (s, c)))
}

#[cfg(test)]
#[path = "status_tests.rs"]
mod tests;
