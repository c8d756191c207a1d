use super::*;
use serde_json::{Value, json};

fn now() -> Timestamp {
    "2026-01-01T01:00:00Z".parse().unwrap()
}

fn set(strategy: Value) -> DaemonSet {
    serde_json::from_value(json!({
        "metadata": {"name": "d", "namespace": "n", "uid": "u"},
        "spec": {"selector": {"matchLabels": {"a": "b"}}, "updateStrategy": strategy,
            "template": {"metadata": {"labels": {"a": "b"}}, "spec": {"containers": [], "nodeSelector": {"disk": "ssd"}}}},
    }))
    .unwrap()
}

fn node(name: &str, disk: &str, taints: Value) -> Arc<Node> {
    Arc::new(
        serde_json::from_value(
            json!({"metadata": {"name": name, "labels": {"disk": disk}}, "spec": {"taints": taints}}),
        )
        .unwrap(),
    )
}

fn pod(name: &str, node: &str, hash: &str, phase: &str, ready: bool) -> Arc<Pod> {
    let ready = if ready { "True" } else { "False" };
    Arc::new(
        serde_json::from_value(json!({
            "metadata": {"name": name, "uid": name, "labels": {"a": "b", "controller-revision-hash": hash}},
            "spec": {"nodeName": node, "containers": []},
            "status": {"phase": phase, "conditions": [
                {"type": "Ready", "status": ready, "lastTransitionTime": "2026-01-01T00:00:00Z"}]},
        }))
        .unwrap(),
    )
}

fn nodes(n: usize) -> Vec<Arc<Node>> {
    (0..n).map(|i| node(&format!("n{i}"), "ssd", json!([]))).collect()
}

fn observed(strategy: Value, nodes: Vec<Arc<Node>>, pods: Vec<Arc<Pod>>) -> Observed {
    Observed { set: set(strategy), nodes, pods, hash: "new".into() }
}

fn names(list: &[Arc<Pod>]) -> Vec<String> {
    list.iter().map(|p| p.name_any()).collect()
}

#[test]
fn fits() {
    let taint = |key: &str, effect: &str| json!([{"key": key, "effect": effect}]);
    for (what, disk, taints, run, stay) in [
        ("plain", "ssd", json!([]), true, true),
        ("not selected", "hdd", json!([]), false, false),
        ("cordoned", "ssd", taint("node.kubernetes.io/unschedulable", "NoSchedule"), true, true),
        ("not ready", "ssd", taint("node.kubernetes.io/not-ready", "NoExecute"), true, true),
        ("tainted", "ssd", taint("x", "NoSchedule"), false, true),
        ("emptied", "ssd", taint("x", "NoExecute"), false, false),
        ("disliked", "ssd", taint("x", "PreferNoSchedule"), true, true),
    ] {
        assert_eq!(fit(&set(json!(null)), &node("n", disk, taints)), Fit { run, stay }, "{what}");
    }
}

#[test]
fn a_pod_is_meant_for_its_node_and_bears_its_states() {
    let pod = pod_for(&set(json!(null)), "n7", "h");
    assert_eq!(target(&pod), Some("n7"));
    assert_eq!(pod.labels()[history::HASH], "h");
    let bears = pod.spec.unwrap().tolerations.unwrap();
    assert!(bears.iter().any(|t| t.key.as_deref() == Some("node.kubernetes.io/disk-pressure")));
    assert!(!bears.iter().any(|t| t.key.as_deref() == Some("node.kubernetes.io/network-unavailable")));
}

#[test]
fn places_one_on_each_node() {
    let list = vec![
        pod("ok", "n0", "new", "Running", true),
        pod("twice", "n0", "new", "Running", true),
        pod("failed", "n1", "new", "Failed", false),
        pod("wrong", "n3", "new", "Running", true),
    ];
    let mut all = nodes(3);
    all.push(node("n3", "hdd", json!([])));
    let o = observed(json!(null), all, list);
    let p = plan(now(), &o);
    assert_eq!(p.create, ["n2"]);
    assert_eq!(names(&p.delete), ["twice", "wrong"]);
    assert_eq!(
        p.replace.iter().map(|(n, p)| (n.clone(), p.name_any())).collect::<Vec<_>>(),
        [("n1".to_string(), "failed".to_string())]
    );
    let s = status(now(), &o);
    assert_eq!((s.desired_number_scheduled, s.current_number_scheduled, s.number_misscheduled), (3, 2, 1));
    assert_eq!((s.number_ready, s.number_available, s.number_unavailable), (1, Some(1), Some(2)));
}

#[test]
fn rolls_within_bounds() {
    let old = |i: usize, ready| pod(&format!("p{i}"), &format!("n{i}"), "old", "Running", ready);
    let rolling =
        |u: Value, s: Value| json!({"type": "RollingUpdate", "rollingUpdate": {"maxUnavailable": u, "maxSurge": s}});
    let well: Vec<_> = (0..4).map(|i| old(i, true)).collect();
    let count = |strategy: Value, list: &[Arc<Pod>]| {
        let p = plan(now(), &observed(strategy, nodes(4), list.to_vec()));
        (p.create.len(), names(&p.delete))
    };
    assert_eq!(count(rolling(json!(1), json!(0)), &well), (0, vec!["p0".into()]));
    assert_eq!(count(rolling(json!("30%"), json!(0)), &well).1.len(), 2, "a share is rounded up");
    assert_eq!(count(json!({"type": "OnDelete"}), &well), (0, vec![]));
    // One that doesn't serve is replaced first, and uses up the bound.
    let mut ill = well.clone();
    ill[2] = old(2, false);
    assert_eq!(count(rolling(json!(1), json!(0)), &ill), (0, vec!["p2".into()]));
    // A new one that doesn't serve yet stops the rollout.
    let mut part = well.clone();
    part[0] = pod("q", "n0", "new", "Running", false);
    assert_eq!(count(rolling(json!(1), json!(0)), &part), (0, vec![]));
    // Surging: the new one first, the old one when the new serves.
    assert_eq!(count(rolling(json!(0), json!(1)), &well), (1, vec![]));
    let mut both = well.clone();
    both.push(pod("q", "n0", "new", "Running", false));
    assert_eq!(count(rolling(json!(0), json!(1)), &both), (0, vec![]));
    both[4] = pod("q", "n0", "new", "Running", true);
    assert_eq!(count(rolling(json!(0), json!(1)), &both), (0, vec!["p0".into()]));
}
