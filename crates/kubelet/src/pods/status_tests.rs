//! Tables: containers of a pod → phase, conditions, states.

use super::super::memo::{Memo, Step, Termination};
use super::*;
use cri::{ContainerMetadata, PodSandboxMetadata};
use serde_json::{Value, json};

fn t(second: i64) -> Timestamp {
    Timestamp::from_second(second).unwrap()
}

fn container(name: &str, state: State, exit_code: i32) -> Runtime {
    Runtime {
        id: format!("id-{name}"),
        sandbox_id: "s".into(),
        metadata: ContainerMetadata { name: name.into(), attempt: 2 },
        state,
        created_at_ns: 1_000_000_000,
        started_at_ns: 2_500_000_000,
        finished_at_ns: 3_000_000_000,
        exit_code,
        signal: 0,
        image: "i".into(),
        image_id: "sha256:x".into(),
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

fn compute_with(spec: Value, old: Value, containers: &[Runtime], memo: &Memo) -> PodStatus {
    let pod: Pod = serde_json::from_value(
        json!({"metadata": {"name": "p", "uid": "u", "generation": 4}, "spec": spec, "status": old}),
    )
    .unwrap();
    let specs = spec::containers(&pod);
    let sandbox = PodSandboxStatus {
        id: "s".into(),
        metadata: PodSandboxMetadata::default(),
        state: SandboxState::Ready,
        created_at_ns: 0,
        ips: vec!["10.0.0.1".into()],
        namespaces: Default::default(),
        labels: Default::default(),
        annotations: Default::default(),
    };
    let plan = plan::plan(&plan::Observed {
        now: t(100),
        pod: &pod,
        specs: &specs,
        sandbox: Some(&sandbox),
        containers,
        memo,
        resources: &Default::default(),
        start_time: t(1),
    });
    compute(&Input {
        now: t(100),
        pod: &pod,
        specs: &specs,
        sandbox: Some(&sandbox),
        containers,
        memo,
        plan: &plan,
        start_time: t(1),
        runtime_name: "skiff",
        host_ips: &["192.0.2.1".to_owned()],
    })
}

fn condition(s: &PodStatus, kind: &str) -> (String, String, i64) {
    let c = s.conditions.iter().flatten().find(|c| c.type_ == kind).unwrap();
    (
        c.status.clone(),
        c.message.clone().unwrap_or_default(),
        c.last_transition_time.as_ref().map_or(0, |t| t.0.as_second()),
    )
}

#[test]
fn phases() {
    let run = |n| container(n, State::Running, 0);
    let end = |n, code| container(n, State::Exited, code);
    let two = |policy: &str| json!({"restartPolicy": policy, "containers": [{"name": "a"}, {"name": "b"}]});
    for (policy, containers, phase) in [
        ("Always", vec![], "Pending"),
        ("Always", vec![run("a")], "Pending"),
        ("Always", vec![run("a"), run("b")], "Running"),
        ("Always", vec![end("a", 1), end("b", 1)], "Running"),
        ("OnFailure", vec![end("a", 0), end("b", 1)], "Running"),
        ("OnFailure", vec![end("a", 0), end("b", 0)], "Succeeded"),
        ("Never", vec![run("a"), end("b", 1)], "Running"),
        ("Never", vec![end("a", 0), end("b", 1)], "Failed"),
    ] {
        let got = compute_with(two(policy), json!({}), &containers, &Memo::default());
        assert_eq!(got.phase.as_deref(), Some(phase), "{policy} {containers:?}");
    }
    // What has ended stays ended.
    let got = compute_with(
        two("Always"),
        json!({"phase": "Failed", "reason": "Evicted"}),
        &[run("a"), run("b")],
        &Memo::default(),
    );
    assert_eq!((got.phase.as_deref(), got.reason.as_deref()), (Some("Failed"), Some("Evicted")));
    // A deleted pod whose containers have all ended well has succeeded, whatever its policy.
    let memo =
        Memo { termination: Some(Termination { since: t(90), grace: 5 }), terminated: true, ..Default::default() };
    assert_eq!(
        compute_with(two("Always"), json!({}), &[end("a", 0), end("b", 0)], &memo).phase.as_deref(),
        Some("Succeeded")
    );
}

#[test]
fn readiness_gates_and_conditions_of_others() {
    let spec = json!({"readinessGates": [{"conditionType": "lb"}], "containers": [{"name": "a"}]});
    let old = json!({"conditions": [{"type": "ContainersReady", "status": "True", "lastTransitionTime": "1970-01-01T00:00:07Z"}, {"type": "Mine", "status": "True"}]});
    let got = compute_with(spec.clone(), old, &[container("a", State::Running, 0)], &Memo::default());
    assert_eq!(condition(&got, "ContainersReady"), ("True".into(), String::new(), 7));
    assert_eq!(
        condition(&got, "Ready"),
        ("False".into(), "corresponding condition of pod readiness gate \"lb\" does not exist.".into(), 100)
    );
    assert_eq!(condition(&got, "Mine").0, "True");
    let open = compute_with(
        spec,
        json!({"conditions": [{"type": "lb", "status": "True"}]}),
        &[container("a", State::Running, 0)],
        &Memo::default(),
    );
    assert_eq!(condition(&open, "Ready").0, "True");
    assert_eq!(got.observed_generation, Some(4));
}

#[test]
fn container_states() {
    let spec = json!({"containers": [{"name": "a", "terminationMessagePath": "/x"}]});
    let mut memo = Memo::default();
    memo.messages.insert("id-a".into(), "bye".into());
    let got = compute_with(
        json!({"restartPolicy": "Never", "containers": [{"name": "a"}]}),
        json!({}),
        &[container("a", State::Exited, 9)],
        &memo,
    );
    let c = &got.container_statuses.unwrap()[0];
    let end = c.state.as_ref().unwrap().terminated.as_ref().unwrap();
    assert_eq!(
        (end.reason.as_deref(), end.message.as_deref(), end.exit_code, end.container_id.as_deref()),
        (Some("Error"), Some("bye"), 9, Some("skiff://id-a"))
    );
    assert_eq!((c.restart_count, c.ready, c.started), (2, false, Some(false)));
    // While the next start fails, the state says why and the last state how it ended.
    memo.container("a").start =
        Step::Failed { reason: "CreateContainerError".into(), message: "no".into(), retry_at: t(200) };
    let got = compute_with(spec, json!({}), &[container("a", State::Exited, 9)], &memo);
    let c = &got.container_statuses.unwrap()[0];
    assert_eq!(c.state.as_ref().unwrap().waiting.as_ref().unwrap().reason.as_deref(), Some("CreateContainerError"));
    assert_eq!(c.last_state.as_ref().unwrap().terminated.as_ref().unwrap().exit_code, 9);
}
