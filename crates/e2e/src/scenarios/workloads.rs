//! DaemonSets, ReplicationControllers and pods that nobody else removes, with kubectl.

use super::namespace::Namespace;
use super::pods::{PATIENCE, apply};
use crate::cluster::Cluster;
use anyhow::{Result, ensure};

const DAEMON: &str = r#"
apiVersion: apps/v1
kind: DaemonSet
metadata: {name: d}
spec:
  selector: {matchLabels: {app: d}}
  template:
    metadata: {labels: {app: d}}
    spec:
      terminationGracePeriodSeconds: 0
      containers:
      - {name: c, image: IMAGE, command: [sleep, "1000"]}
"#;

const CONTROLLER: &str = r#"
apiVersion: v1
kind: ReplicationController
metadata: {name: rc}
spec:
  replicas: 2
  selector: {app: rc}
  template:
    metadata: {labels: {app: rc}}
    spec:
      terminationGracePeriodSeconds: 0
      containers:
      - {name: c, image: IMAGE, command: [sleep, "1000"]}
"#;

const IMAGE: &str = "shop/backend:v1";

/// Waits until what kubectl says is as wanted; says what it was instead.
fn until(ns: &Namespace<'_>, ask: &str, want: &str) -> Result<()> {
    let mut last = String::new();
    let words: Vec<&str> = ask.split(' ').collect();
    let waited = ns.c.wait(PATIENCE, ask, || {
        last = ns.kubectl(&words)?.stdout;
        Ok(last == want)
    });
    waited.map_err(|e| e.context(format!("kubectl {ask}: {last:?}, not {want:?}")))
}

/// One pod on the node, replaced when it is deleted or fails, rolled out, undone, and gone when the node no longer fits.
pub fn daemons(c: &Cluster) -> Result<()> {
    let ns = Namespace::new(c, "daemons")?;
    apply(&ns, &DAEMON.replace("IMAGE", IMAGE))?;
    ns.must("rollout status ds/d --timeout=30s")?;
    let counts = "get ds d -o jsonpath={.status.desiredNumberScheduled}/{.status.currentNumberScheduled}/{.status.numberReady}/{.status.updatedNumberScheduled}/{.status.numberAvailable}";
    until(&ns, counts, "1/1/1/1/1")?;
    let first = ns.must("get pods -l app=d -o jsonpath={.items[*].metadata.name}")?;
    let affinity = ns.must(&format!("get pod {first} -o jsonpath={{.spec.affinity}}"))?;
    ensure!(affinity.contains("metadata.name") && affinity.contains("node1"), "affinity: {affinity}");

    ns.must(&format!("delete pod {first}"))?;
    ns.must("rollout status ds/d --timeout=30s")?;
    let second = ns.must("get pods -l app=d -o jsonpath={.items[*].metadata.name}")?;
    ensure!(first != second && !second.contains(' '), "{first} was replaced by {second}");

    ns.must("set env ds/d VERSION=2")?;
    ns.must("rollout status ds/d --timeout=30s")?;
    until(&ns, "get pods -l app=d -o jsonpath={.items[*].spec.containers[0].env[0].value}", "2")?;
    let history = ns.must("rollout history ds/d")?;
    ensure!(history.contains("\n1 ") && history.contains("\n2 "), "history: {history}");
    ns.must("rollout undo ds/d")?;
    ns.must("rollout status ds/d --timeout=30s")?;
    until(&ns, "get pods -l app=d -o jsonpath={.items[*].spec.containers[0].env[0].value}", "")?;

    let nowhere = r#"{"spec":{"template":{"spec":{"nodeSelector":{"no":"such"}}}}}"#;
    let d = ns.kubectl(&["patch", "ds", "d", "-p", nowhere])?;
    ensure!(d.ok, "patch: {}", d.stderr);
    until(&ns, "get pods -l app=d -o name", "")?;
    until(&ns, "get ds d -o jsonpath={.status.desiredNumberScheduled}", "0")?;
    ns.delete()
}

/// As many pods as asked for, up and down, and adoption by label.
pub fn replication_controllers(c: &Cluster) -> Result<()> {
    let ns = Namespace::new(c, "rc")?;
    apply(&ns, &CONTROLLER.replace("IMAGE", IMAGE))?;
    let counts = "get rc rc -o jsonpath={.status.replicas}/{.status.readyReplicas}/{.status.observedGeneration}";
    until(&ns, counts, "2/2/1")?;
    ns.must("scale rc rc --replicas=1")?;
    until(&ns, counts, "1/1/2")?;
    ns.must("scale rc rc --replicas=2 --current-replicas=1")?;
    until(&ns, counts, "2/2/3")?;
    ns.must("scale rc rc --replicas=1")?;
    until(&ns, counts, "1/1/4")?;
    let pod = ns.must("get pods -l app=rc -o jsonpath={.items[*].metadata.name}")?;
    ns.must(&format!("label pod {pod} app=other --overwrite"))?;
    until(&ns, &format!("get pod {pod} -o jsonpath={{.metadata.ownerReferences}}"), "")?;
    until(&ns, counts, "1/1/4")?;
    // A status that is settled is not written again.
    let before = ns.must("get rc rc -o jsonpath={.metadata.resourceVersion}")?;
    std::thread::sleep(std::time::Duration::from_secs(1));
    let after = ns.must("get rc rc -o jsonpath={.metadata.resourceVersion}")?;
    ensure!(before == after, "the status is written over and over: {before}, {after}");
    ns.delete()
}

/// A pod that was never bound has no node that could confirm its end.
pub fn garbage(c: &Cluster) -> Result<()> {
    let ns = Namespace::new(c, "podgc")?;
    apply(
        &ns,
        "apiVersion: v1\nkind: Pod\nmetadata: {name: lost}\nspec:\n  nodeName: no-such-node\n  containers: [{name: c, image: x}]\n",
    )?;
    // Its node isn't there for the quarantine's 40 seconds.
    let gone = ns.c.wait(std::time::Duration::from_secs(60), "the pod of a node that isn't there goes", || {
        Ok(ns.kubectl(&["get", "pod", "lost", "-o", "name"])?.stdout.is_empty())
    });
    gone?;
    ns.delete()
}
