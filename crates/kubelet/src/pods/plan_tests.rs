//! Tables: a pod, what runs of it, what is remembered → the actions.

use super::super::memo::{ContainerMemo, Kill, Memo, Step, Termination};
use super::*;
use cri::{ContainerMetadata, Image, PodSandboxMetadata};
use serde_json::json;

const NOW: i64 = 1_000_000;

fn t(second: i64) -> Timestamp {
    Timestamp::from_second(second).unwrap()
}

fn container(name: &str, attempt: u32, state: ContainerState, exit_code: i32) -> ContainerStatus {
    ContainerStatus {
        id: format!("{name}-{attempt}"),
        sandbox_id: "s".into(),
        metadata: ContainerMetadata { name: name.into(), attempt },
        state,
        created_at_ns: i64::from(attempt),
        started_at_ns: 1,
        finished_at_ns: (NOW - 5) * 1_000_000_000,
        exit_code,
        signal: 0,
        image: String::new(),
        image_id: String::new(),
        reason: String::new(),
        message: String::new(),
        labels: Default::default(),
        annotations: Default::default(),
        mounts: vec![],
        log_path: String::new(),
        resources: LinuxResources::default(),
        pid: 0,
        user: None,
    }
}

fn up(name: &str) -> ContainerStatus {
    container(name, 0, ContainerState::Running, 0)
}

fn dead(name: &str, code: i32) -> ContainerStatus {
    container(name, 0, ContainerState::Exited, code)
}

/// Volumes and images are there; the sandbox too.
fn ready(names: &[&str]) -> Memo {
    let image = || ContainerMemo { image: Step::Done(Image::default()), ..Default::default() };
    Memo {
        volumes: Step::Done(()),
        containers: names.iter().map(|n| (n.to_string(), image())).collect(),
        ..Default::default()
    }
}

fn sandbox(state: SandboxState) -> PodSandboxStatus {
    PodSandboxStatus {
        id: "s".into(),
        metadata: PodSandboxMetadata::default(),
        state,
        created_at_ns: 0,
        ips: vec!["10.0.0.1".into()],
        namespaces: Default::default(),
        labels: Default::default(),
        annotations: Default::default(),
    }
}

fn run(
    spec: serde_json::Value,
    sandbox_state: Option<SandboxState>,
    containers: &[ContainerStatus],
    memo: &Memo,
) -> Plan {
    let pod: Pod =
        serde_json::from_value(json!({"metadata": {"name": "p", "namespace": "ns", "uid": "u"}, "spec": spec}))
            .unwrap();
    let sandbox = sandbox_state.map(sandbox);
    let specs = spec::containers(&pod);
    plan(&Observed {
        now: t(NOW),
        pod: &pod,
        specs: &specs,
        sandbox: sandbox.as_ref(),
        containers,
        memo,
        resources: &BTreeMap::new(),
        start_time: t(NOW - 100),
    })
}

fn check(
    spec: serde_json::Value,
    sandbox_state: Option<SandboxState>,
    containers: &[ContainerStatus],
    memo: &Memo,
    want: &[&str],
) {
    let got: Vec<String> = run(spec, sandbox_state, containers, memo)
        .actions
        .iter()
        .map(|a| match a {
            Action::SetUpVolumes => "volumes".into(),
            Action::RunSandbox { attempt } => format!("sandbox {attempt}"),
            Action::EnsureImage { container } => format!("image {container}"),
            Action::StartContainer { container, attempt } => format!("start {container} {attempt}"),
            Action::KillContainer { id, grace, hook, .. } => format!("kill {id} {grace} {hook}"),
            Action::ResizeContainer { id, .. } => format!("resize {id}"),
            Action::RemoveContainer { id } => format!("remove {id}"),
            Action::Fail { reason, .. } => format!("fail {reason}"),
            Action::StopSandbox { .. } => "stop sandbox".into(),
            Action::TearDown => "tear down".into(),
            Action::Terminated => "terminated".into(),
        })
        .collect();
    assert_eq!(got, want);
}

const UP: Option<SandboxState> = Some(SandboxState::Ready);
const DOWN: Option<SandboxState> = Some(SandboxState::NotReady);

#[test]
fn a_fresh_pod_prepares_everything_at_once() {
    let one = json!({"containers": [{"name": "a"}]});
    check(one.clone(), None, &[], &Memo::default(), &["volumes", "sandbox 0", "image a"]);
    check(one.clone(), UP, &[], &ready(&["a"]), &["start a 0"]);
    let mut waiting = ready(&["a"]);
    waiting.volumes = Step::Running;
    check(one.clone(), UP, &[], &waiting, &[]);
    // With an init container, only its image is needed yet.
    check(
        json!({"initContainers": [{"name": "i"}], "containers": [{"name": "a"}]}),
        None,
        &[],
        &Memo::default(),
        &["volumes", "sandbox 0", "image i"],
    );
    check(one, DOWN, &[], &ready(&["a"]), &["sandbox 1"]);
}

#[test]
fn restart_policies() {
    let pod = |policy: &str| json!({"restartPolicy": policy, "containers": [{"name": "a"}, {"name": "b"}]});
    let m = ready(&["a", "b"]);
    check(pod("Always"), UP, &[dead("a", 0), up("b")], &m, &["start a 1"]);
    check(pod("OnFailure"), UP, &[dead("a", 0), up("b")], &m, &[]);
    check(pod("OnFailure"), UP, &[dead("a", 1), up("b")], &m, &["start a 1"]);
    check(pod("Never"), UP, &[dead("a", 1), up("b")], &m, &[]);
    check(pod("Never"), UP, &[dead("a", 1), dead("b", 0)], &m, &["stop sandbox"]);
    check(pod("Never"), DOWN, &[dead("a", 1), dead("b", 0)], &m, &["tear down"]);
    let rules = json!({"restartPolicy": "Never", "containers": [{"name": "a", "restartPolicy": "Never", "restartPolicyRules": [{"action": "Restart", "exitCodes": {"operator": "In", "values": [42]}}]}, {"name": "b"}]});
    check(rules.clone(), UP, &[dead("a", 42), up("b")], &m, &["start a 1"]);
    check(rules, UP, &[dead("a", 41), up("b")], &m, &[]);
}

#[test]
fn init_containers_one_after_the_other() {
    let pod = |policy: &str| json!({"restartPolicy": policy, "initContainers": [{"name": "i"}, {"name": "j"}], "containers": [{"name": "a"}]});
    let m = ready(&["i", "j", "a"]);
    check(pod("Never"), UP, &[], &m, &["start i 0"]);
    check(pod("Never"), UP, &[up("i")], &m, &[]);
    check(pod("Never"), UP, &[dead("i", 0)], &m, &["start j 0"]);
    check(pod("Never"), UP, &[dead("i", 0), dead("j", 0)], &m, &["start a 0"]);
    check(pod("Always"), UP, &[dead("i", 1)], &m, &["start i 1"]);
    check(pod("Never"), UP, &[dead("i", 1)], &m, &["stop sandbox"]);
    // The records of init containers may be gone once a main container has begun.
    check(pod("Always"), UP, &[up("a")], &m, &[]);
}

#[test]
fn sidecars() {
    let pod = json!({"initContainers": [{"name": "s", "restartPolicy": "Always", "startupProbe": {}}, {"name": "i"}], "containers": [{"name": "a"}]});
    let mut m = ready(&["s", "i", "a"]);
    check(pod.clone(), UP, &[up("s")], &m, &[]);
    m.probes.insert("s-0".into(), crate::probes::ProbeResults { startup: Some(true), ..Default::default() });
    check(pod.clone(), UP, &[up("s")], &m, &["start i 0"]);
    check(pod.clone(), UP, &[dead("s", 0), dead("i", 0), up("a")], &m, &["start s 1"]);
    let never = json!({"restartPolicy": "Never", "initContainers": [{"name": "s", "restartPolicy": "Always"}], "containers": [{"name": "a"}]});
    check(never, UP, &[up("s"), dead("a", 0)], &m, &["kill s-0 30 true"]);
}

#[test]
fn crash_loop_waits_and_says_so() {
    let mut m = ready(&["a"]);
    m.container("a").backoff.restarted(t(NOW - 20), t(NOW - 20));
    let plan = run(json!({"containers": [{"name": "a"}]}), UP, &[dead("a", 1)], &m);
    assert!(plan.actions.is_empty());
    assert_eq!(plan.crash_loops["a"], "back-off 10s restarting failed container=a pod=p_ns(u)");
    assert_eq!(plan.wake_at, Some(t(NOW + 5)));
}

#[test]
fn deadline_and_probes() {
    let m = ready(&["a"]);
    check(
        json!({"activeDeadlineSeconds": 99, "containers": [{"name": "a"}]}),
        UP,
        &[up("a")],
        &m,
        &["fail DeadlineExceeded"],
    );
    assert_eq!(
        run(json!({"activeDeadlineSeconds": 160, "containers": [{"name": "a"}]}), UP, &[up("a")], &m).wake_at,
        Some(t(NOW + 60))
    );
    let mut failing = m.clone();
    failing.probes.insert("a-0".into(), crate::probes::ProbeResults { liveness: Some(false), ..Default::default() });
    let pod = json!({"containers": [{"name": "a", "livenessProbe": {"terminationGracePeriodSeconds": 7}}]});
    check(pod.clone(), UP, &[up("a")], &failing, &["kill a-0 7 true"]);
    failing.kills.insert("a-0".into(), Kill { deadline: t(NOW) });
    check(pod, UP, &[up("a")], &failing, &[]);
}

#[test]
fn termination_in_order() {
    let pod = json!({"initContainers": [{"name": "s", "restartPolicy": "Always"}, {"name": "r", "restartPolicy": "Always"}], "containers": [{"name": "a"}, {"name": "b"}]});
    let mut m = ready(&[]);
    m.termination = Some(Termination { since: t(NOW - 10), grace: 30 });
    check(pod.clone(), UP, &[up("s"), up("r"), up("a"), up("b")], &m, &["kill a-0 20 true", "kill b-0 20 true"]);
    check(pod.clone(), UP, &[up("s"), up("r"), dead("a", 0), dead("b", 0)], &m, &["kill r-0 20 true"]);
    check(pod.clone(), UP, &[up("s"), dead("r", 0), dead("a", 0), dead("b", 0)], &m, &["kill s-0 20 true"]);
    check(pod.clone(), UP, &[dead("s", 0), dead("r", 0), dead("a", 0), dead("b", 0)], &m, &["stop sandbox"]);
    check(pod.clone(), DOWN, &[dead("s", 0)], &m, &["tear down"]);
    m.teardown = Step::Done(());
    check(pod.clone(), DOWN, &[dead("s", 0)], &m, &["terminated"]);
    // A shortened grace period asks again, without a second hook; a container that is just starting is waited for.
    let one = json!({"containers": [{"name": "a"}]});
    m.kills.insert("a-0".into(), Kill { deadline: t(NOW + 300) });
    check(one.clone(), UP, &[up("a")], &m, &["kill a-0 20 false"]);
    m.container("a").start = Step::Running;
    check(one, UP, &[], &m, &[]);
}

#[test]
fn only_two_records_of_a_container_are_kept() {
    let records: Vec<_> = (0..4)
        .map(|n| container("a", n, if n == 3 { ContainerState::Running } else { ContainerState::Exited }, 1))
        .collect();
    check(json!({"containers": [{"name": "a"}]}), UP, &records, &ready(&["a"]), &["remove a-1", "remove a-0"]);
}

#[test]
fn a_changed_image_restarts_the_container() {
    let mut c = up("a");
    c.annotations.insert(labels::CONTAINER_HASH.into(), "other".into());
    check(json!({"containers": [{"name": "a", "image": "x:2"}]}), UP, &[c], &ready(&["a"]), &["kill a-0 30 true"]);
}
