//! What lives on for a while: rollouts, deletions, drained nodes, charts.

use super::{APP, PATIENCE, run};
use crate::cluster::Cluster;
use crate::scenarios::namespace::Namespace;
use anyhow::{Context, Result, ensure};

/// `rollout`, `scale`, `set image`, with real pods.
pub fn rolls_out(c: &Cluster) -> Result<()> {
    let ns = Namespace::new(c, "rollout")?;
    let manifest = APP.replace("replicas: 0", "replicas: 2").replace("example.com/app:1", "shop/backend:v1");
    let app = ns.file("app.yaml", &manifest)?;
    run(
        &ns,
        &[
            (&format!("apply -f {app}"), &[]),
            ("rollout status deployment/app --timeout=60s", &["successfully rolled out"]),
            ("get pods -l app=app -o wide", &["READY   STATUS    RESTARTS   AGE   IP", "1/1     Running   0", "node1"]),
            ("get replicasets", &["DESIRED   CURRENT   READY   AGE", "2         2         2"]),
            ("wait --for=condition=Available deployment/app --timeout=30s", &["condition met"]),
            ("wait --for=jsonpath={.status.readyReplicas}=2 deployment/app --timeout=30s", &["condition met"]),
            ("set image deployment/app app=shop/backend:v2", &["image updated"]),
            ("annotate deployment/app kubernetes.io/change-cause=v2", &[]),
            ("rollout status deployment/app --timeout=60s", &["successfully rolled out"]),
            ("rollout history deployment/app", &["REVISION  CHANGE-CAUSE", "1         <none>", "2         v2"]),
            ("rollout history deployment/app --revision=2", &["shop/backend:v2"]),
            ("rollout undo deployment/app", &["rolled back"]),
            ("rollout status deployment/app --timeout=60s", &["successfully rolled out"]),
            ("get deployment app -o jsonpath={.spec.template.spec.containers[0].image}", &["shop/backend:v1"]),
            ("rollout pause deployment/app", &["paused"]),
            ("!rollout pause deployment/app", &["already paused"]),
            ("set env deployment/app PAUSED=yes", &["env updated"]),
            ("get deployment app -o jsonpath={.status.updatedReplicas}", &[]),
            ("!rollout undo deployment/app", &["cannot rollback a paused deployment"]),
            ("rollout resume deployment/app", &["resumed"]),
            ("rollout status deployment/app --timeout=60s", &["successfully rolled out"]),
            ("rollout restart deployment/app", &["restarted"]),
            ("rollout status deployment/app --timeout=60s", &["successfully rolled out"]),
            ("!rollout undo deployment/app --to-revision=99", &["unable to find specified revision 99 in history"]),
            ("scale deployment/app --replicas=3", &["deployment.apps/app scaled"]),
            ("!scale deployment/app --replicas=1 --current-replicas=7", &["Expected replicas to be 7, was 3"]),
            ("rollout status deployment/app --timeout=60s", &["successfully rolled out"]),
            ("scale deployment/app --replicas=1", &["scaled"]),
            ("describe deployment app", &["NewReplicaSetAvailable", "ScalingReplicaSet"]),
            ("events --for deployment/app", &["Scaled up replica set app-"]),
            (
                "get events --field-selector reason=ScalingReplicaSet",
                &["LAST SEEN   TYPE     REASON              OBJECT", "deployment/app"],
            ),
        ],
    )?;
    ns.c.wait(PATIENCE, "one pod to be left", || Ok(ns.must("get pods -o name")?.lines().count() == 1))?;
    // By name: the newest kubectl shows no events where many are described.
    let pod = ns.must("get pods -o name")?;
    run(
        &ns,
        &[(
            &format!("describe {}", pod.trim()),
            &[
                "Controlled By:  ReplicaSet/app-",
                "QoS Class:",
                "Scheduled",
                "Successfully assigned",
                "Started container app",
            ],
        )],
    )?;
    ns.delete()
}

/// `run`, `delete` with its ways of waiting, and what happens to dependents.
pub fn deletes(c: &Cluster) -> Result<()> {
    let ns = Namespace::new(c, "delete")?;
    let manifest = APP.replace("replicas: 0", "replicas: 1").replace("example.com/app:1", "shop/backend:v1");
    let app = ns.file("app.yaml", &manifest)?;
    run(
        &ns,
        &[
            ("run alone --image=shop/backend:v1 --port=8080 --env=A=b --labels=x=y", &["pod/alone created"]),
            ("wait --for=condition=Ready pod/alone --timeout=30s", &["condition met"]),
            ("expose pod alone --port=80", &["service/alone exposed"]),
            ("delete pod alone --dry-run=server", &["(server dry run)"]),
            ("delete pod alone --grace-period=1 --timeout=20s", &["deleted"]),
            ("!get pod alone", &["not found"]),
            ("run forced --image=shop/backend:v1", &["created"]),
            ("wait --for=condition=Ready pod/forced --timeout=30s", &[]),
            ("delete pod forced --force --grace-period=0", &["deleted"]),
            ("!get pod forced", &["not found"]),
            ("!delete pod nope", &["pods \"nope\" not found"]),
            ("delete pod nope --ignore-not-found", &[]),
            ("run later --image=shop/backend:v1", &["created"]),
            ("wait --for=condition=Ready pod/later --timeout=30s", &[]),
            ("delete pod later --grace-period=1 --wait=false", &["deleted"]),
            ("wait --for=delete pod/later --timeout=20s", &[]),
            // Foreground: gone only when its dependents are.
            (&format!("apply -f {app}"), &[]),
            ("rollout status deployment/app --timeout=60s", &[]),
            ("delete deployment app --cascade=foreground --timeout=40s", &["deleted"]),
        ],
    )?;
    let left = ns.must("get replicasets,pods -l app=app -o name")?;
    ensure!(left.is_empty(), "after a foreground deletion there are still {left}");
    run(
        &ns,
        &[
            // Orphan: dependents stay and have no owner.
            (&format!("apply -f {app}"), &[]),
            ("rollout status deployment/app --timeout=60s", &[]),
            ("delete deployment app --cascade=orphan --timeout=20s", &["deleted"]),
        ],
    )?;
    let owners = ns.must("get replicasets -l app=app -o jsonpath={.items[*].metadata.ownerReferences}")?;
    ensure!(owners.is_empty(), "orphans have owners: {owners}");
    ensure!(ns.must("get replicasets -l app=app -o name")?.lines().count() == 1, "the ReplicaSet should have stayed");
    // Background: the object is gone at once, dependents soon.
    run(&ns, &[("delete replicasets -l app=app --cascade=background --timeout=20s", &["deleted"])])?;
    ns.c.wait(PATIENCE, "the orphans' pods to be collected", || {
        Ok(ns.must("get pods -l app=app -o name")?.is_empty())
    })?;
    run(
        &ns,
        &[
            ("create configmap one", &[]),
            ("create configmap two", &[]),
            ("delete configmap --all", &["\"one\" deleted", "\"two\" deleted"]),
        ],
    )?;
    ns.delete()
}

/// `cordon`, `taint`, `drain`: for pods of our own only, the node is everybody's.
pub fn empties_a_node(c: &Cluster) -> Result<()> {
    let ns = Namespace::new(c, "drain")?;
    let manifest = APP.replace("replicas: 0", "replicas: 1").replace("example.com/app:1", "shop/backend:v1");
    let app = ns.file("app.yaml", &manifest)?;
    let n = ns.name().to_string();
    let result = run(
        &ns,
        &[
            (&format!("apply -f {app}"), &[]),
            ("rollout status deployment/app --timeout=60s", &[]),
            (&format!("label pods --all drain={n}"), &[]),
            ("cordon node1", &["node/node1 cordoned"]),
            ("get node node1", &["Ready,SchedulingDisabled"]),
            (&format!("drain node1 --pod-selector=drain={n} --timeout=40s"), &["evicted", "node/node1 drained"]),
            ("get pods -l app=app", &["Pending"]),
            ("uncordon node1", &["node/node1 uncordoned"]),
            ("rollout status deployment/app --timeout=60s", &["successfully rolled out"]),
            ("taint node node1 e2e=x:PreferNoSchedule", &["node/node1 tainted"]),
            ("!taint node node1 e2e=y:PreferNoSchedule", &["--overwrite is false"]),
            ("taint node node1 e2e-", &["node/node1 untainted"]),
        ],
    );
    if result.is_err() {
        let _ = ns.kubectl(&["uncordon", "node1"]);
        let _ = ns.kubectl(&["taint", "node", "node1", "e2e-"]);
    }
    result?;
    ns.delete()
}

/// Revisions of all that has them: told, shown whole, gone back to by number.
pub fn goes_back(c: &Cluster) -> Result<()> {
    let ns = Namespace::new(c, "revisions")?;
    ns.must("create service clusterip set --clusterip=None")?;
    for kind in ["Deployment", "StatefulSet", "DaemonSet"] {
        let what = format!("{}/app", kind.to_lowercase());
        let replicas = if kind == "DaemonSet" { "" } else { "replicas: 1, " };
        let service = if kind == "StatefulSet" { "serviceName: set, " } else { "" };
        let file = ns.file(
            "app.yaml",
            &format!(
                "apiVersion: apps/v1\nkind: {kind}\nmetadata: {{name: app, annotations: {{kubernetes.io/change-cause: made}}}}\nspec: {{{replicas}{service}selector: {{matchLabels: {{kind: {kind}}}}}, \
                 template: {{metadata: {{labels: {{kind: {kind}}}}}, spec: {{terminationGracePeriodSeconds: 1, containers: \
                 [{{name: app, image: \"shop/backend:v1\", env: [{{name: NUMBER, value: \"1\"}}]}}]}}}}}}\n"
            ),
        )?;
        run(
            &ns,
            &[
                (&format!("apply -f {file}"), &["created"]),
                (&format!("rollout status {what} --timeout=60s"), &[]),
                (&format!("set env {what} NUMBER=2"), &["env updated"]),
                (&format!("rollout status {what} --timeout=60s"), &[]),
                (&format!("set image {what} *=shop/backend:v2"), &["image updated"]),
                (&format!("rollout status {what} --timeout=60s"), &[]),
                (&format!("rollout history {what}"), &["REVISION  CHANGE-CAUSE\n1         made", "\n2 ", "\n3 "]),
                (
                    &format!("rollout history {what} --revision=1"),
                    &["with revision #1", "shop/backend:v1", "NUMBER:\t1"],
                ),
                (&format!("rollout history {what} --revision=3"), &["shop/backend:v2", "NUMBER:\t2"]),
                (&format!("!rollout history {what} --revision=9"), &["unable to find the specified revision"]),
                (&format!("rollout undo {what} --to-revision=1 --dry-run=server"), &["server dry run"]),
                (&format!("rollout undo {what} --to-revision=1"), &["rolled back"]),
                (&format!("rollout status {what} --timeout=60s"), &[]),
                (&format!("rollout history {what}"), &["\n2 ", "\n3 ", "\n4 "]),
                (&format!("get {what} -o jsonpath={{.spec.template.spec.containers[0].env[0].value}}"), &["1"]),
                (&format!("rollout restart {what}"), &["restarted"]),
                (&format!("rollout status {what} --timeout=60s --revision=0"), &[]),
                (&format!("get pods -l kind={kind} -o wide"), &["1/1     Running"]),
                (&format!("describe {what}"), &["shop/backend:v1", "kubectl.kubernetes.io/restartedAt"]),
            ],
        )?;
    }
    ns.delete()
}

/// A chart's life: install, upgrade, rollback, uninstall.
pub fn helm(c: &Cluster) -> Result<()> {
    let Some(helm) = c.tools.helm.as_ref().map(|p| p.display().to_string()) else {
        println!("     (no --helm was given)");
        return Ok(());
    };
    let ns = Namespace::new(c, "helm")?;
    let chart = c.dir().join("chart");
    for dir in ["templates/tests", "crds"] {
        std::fs::create_dir_all(chart.join(dir))?;
    }
    for (name, text) in [
        ("Chart.yaml", include_str!("../../../testdata/chart/Chart.yaml")),
        ("values.yaml", include_str!("../../../testdata/chart/values.yaml")),
        ("crds/gadgets.yaml", include_str!("../../../testdata/chart/crds/gadgets.yaml")),
        ("templates/all.yaml", include_str!("../../../testdata/chart/templates/all.yaml")),
        ("templates/gadget.yaml", include_str!("../../../testdata/chart/templates/gadget.yaml")),
        ("templates/hooks.yaml", include_str!("../../../testdata/chart/templates/hooks.yaml")),
        ("templates/rbac.yaml", include_str!("../../../testdata/chart/templates/rbac.yaml")),
        ("templates/tests/answers.yaml", include_str!("../../../testdata/chart/templates/tests/answers.yaml")),
    ] {
        std::fs::write(chart.join(name), text)?;
    }
    let chart = chart.display().to_string();
    let helm = |args: &[&str]| c.must(&[&[helm.as_str(), "--namespace", ns.name()], args].concat()).context("helm");
    helm(&["install", "greeter", &chart, "--wait", "--timeout", "60s"])?;
    run(
        &ns,
        &[
            ("get configmap greeter -o jsonpath={.data.greeting}", &["hello"]),
            ("get deployment greeter", &["1/1"]),
            ("get gadget greeter -o jsonpath={.spec.size}", &["1"]),
            ("get pod greeter-before", &["Completed"]),
            (&format!("auth can-i get gadgets --as=system:serviceaccount:{}:greeter", ns.name()), &["yes"]),
        ],
    )?;
    let told = helm(&["test", "greeter", "--timeout", "60s"])?;
    ensure!(told.contains("Succeeded"), "{told}");
    let refused = c.run(&[
        c.tools.helm.as_ref().map(|p| p.to_str().unwrap_or_default()).unwrap_or_default(),
        "--namespace",
        ns.name(),
        "upgrade",
        "greeter",
        &chart,
        "--set",
        "hook=exit 3",
        "--timeout",
        "30s",
    ])?;
    ensure!(!refused.ok && refused.stderr.contains("pre-upgrade hooks failed"), "{}", refused.stderr);
    helm(&["upgrade", "greeter", &chart, "--set", "greeting=welcome,replicas=2", "--wait", "--timeout", "60s"])?;
    run(
        &ns,
        &[("get configmap greeter -o jsonpath={.data.greeting}", &["welcome"]), ("get deployment greeter", &["2/2"])],
    )?;
    helm(&["rollback", "greeter", "1", "--wait", "--timeout", "60s"])?;
    run(&ns, &[("get configmap greeter -o jsonpath={.data.greeting}", &["hello"])])?;
    let history = helm(&["history", "greeter"])?;
    ensure!(history.contains("Rollback to 1") && history.lines().count() == 5, "{history}");
    helm(&["uninstall", "greeter", "--wait", "--timeout", "60s"])?;
    run(&ns, &[("!get deployment greeter", &["not found"])])?;
    ensure!(!ns.must("get secrets -o name")?.contains("sh.helm.release"), "helm left releases behind");
    // A post-delete hook has run; definitions stay, as Helm has it.
    run(&ns, &[("get configmap greeter-gone", &[]), ("delete crd gadgets.helm.example.com", &["deleted"])])?;
    ns.delete()
}
