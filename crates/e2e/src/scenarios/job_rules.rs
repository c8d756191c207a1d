//! What Jobs do by their rules: indexes, limits, deadlines, policies, suspension, with kubectl.

use super::namespace::Namespace;
use super::pods::{PATIENCE, apply};
use crate::cluster::Cluster;
use anyhow::{Result, ensure};

fn until(ns: &Namespace<'_>, ask: &str, want: &str) -> Result<()> {
    let mut last = String::new();
    let words = super::kubectl::words(ask);
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    let waited = ns.c.wait(PATIENCE, ask, || {
        last = ns.kubectl(&words)?.stdout;
        Ok(last == want)
    });
    waited.map_err(|e| e.context(format!("kubectl {ask}: {last:?}, not {want:?}")))
}

/// A Job whose only container runs a shell script.
fn job(name: &str, spec: &str, script: &str) -> String {
    format!(
        "apiVersion: batch/v1\nkind: Job\nmetadata: {{name: {name}}}\nspec:\n  {spec}\n  template:\n    spec:\n      restartPolicy: Never\n      \
         terminationGracePeriodSeconds: 0\n      containers:\n      - {{name: c, image: shop/backend:v1, command: [sh, -c, '{script}']}}\n"
    )
}

/// Every index runs once, knows itself, and may fail on its own.
pub fn indexed(c: &Cluster) -> Result<()> {
    let ns = Namespace::new(c, "jobs-indexed")?;
    let spec = "completions: 3\n  parallelism: 3\n  completionMode: Indexed";
    apply(&ns, &job("i", spec, "echo index $JOB_COMPLETION_INDEX on $(hostname)"))?;
    ns.must("wait --for=condition=Complete job/i --timeout=30s")?;
    until(&ns, "get job i -o jsonpath={.status.completedIndexes}", "0-2")?;
    for i in 0..3 {
        let log =
            ns.must(&format!("logs -l batch.kubernetes.io/job-name=i,batch.kubernetes.io/job-completion-index={i}"))?;
        ensure!(log.trim() == format!("index {i} on i-{i}"), "{log}");
    }
    let names = ns.must("get pods -l batch.kubernetes.io/job-name=i -o name")?;
    ensure!((0..3).all(|i| names.contains(&format!("pod/i-{i}-"))), "{names}");

    // Index 1 fails, and is not tried again; the others are done.
    let spec = "completions: 3\n  parallelism: 3\n  completionMode: Indexed\n  backoffLimitPerIndex: 0";
    apply(&ns, &job("p", spec, "test $JOB_COMPLETION_INDEX != 1"))?;
    ns.must("wait --for=condition=Failed job/p --timeout=30s")?;
    let got = ns.must("get job p -o jsonpath={.status.completedIndexes}/{.status.failedIndexes}/{.status.failed}")?;
    ensure!(got == "0,2/1/1", "{got}");

    let spec = "completions: 3\n  parallelism: 3\n  completionMode: Indexed\n  successPolicy: {rules: [{succeededIndexes: \"0\"}]}";
    apply(&ns, &job("s", spec, "test $JOB_COMPLETION_INDEX = 0 || sleep 1000"))?;
    ns.must("wait --for=condition=Complete job/s --timeout=30s")?;
    let got = ns.must(
        "get job s -o jsonpath={.status.completedIndexes}/{.status.conditions[0].type}={.status.conditions[0].reason}",
    )?;
    ensure!(got == "0/SuccessCriteriaMet=SuccessPolicy", "{got}");
    ns.delete()
}

/// Limits, deadlines, policies.
pub fn fail(c: &Cluster) -> Result<()> {
    let ns = Namespace::new(c, "jobs-fail")?;
    apply(&ns, &job("bad", "backoffLimit: 0", "exit 3"))?;
    apply(&ns, &job("slow", "activeDeadlineSeconds: 1", "sleep 1000"))?;
    let policy =
        "backoffLimit: 5\n  podFailurePolicy: {rules: [{action: FailJob, onExitCodes: {operator: In, values: [42]}}]}";
    apply(&ns, &job("policy", policy, "exit 42"))?;
    for (name, reason) in
        [("bad", "BackoffLimitExceeded"), ("slow", "DeadlineExceeded"), ("policy", "PodFailurePolicy")]
    {
        ns.must(&format!("wait --for=condition=Failed job/{name} --timeout=30s"))?;
        let got = ns.must(&format!(
            "get job {name} -o jsonpath={{.status.conditions[*].type}}:{{.status.conditions[-1:].reason}}"
        ))?;
        ensure!(got == format!("FailureTarget Failed:{reason}"), "{name}: {got}");
    }
    let message = ns.must("get job policy -o jsonpath={.status.conditions[0].message}")?;
    ensure!(message.contains("failed with exit code 42 matching FailJob rule at index 0"), "{message}");
    until(&ns, "get pods -l batch.kubernetes.io/job-name=slow -o name", "")?;

    // With OnFailure the container is started again in its pod.
    let retry = job("retry", "backoffLimit: 6", "test -e /e/x || { touch /e/x; exit 1; }")
        .replace("restartPolicy: Never", "restartPolicy: OnFailure\n      volumes: [{name: e, emptyDir: {}}]")
        .replace("name: c,", "name: c, volumeMounts: [{name: e, mountPath: /e}],");
    apply(&ns, &retry)?;
    ns.must("wait --for=condition=Complete job/retry --timeout=60s")?;
    ns.delete()
}

/// Suspended, resumed, and gone after its time.
pub fn rest_and_go(c: &Cluster) -> Result<()> {
    let ns = Namespace::new(c, "jobs-rest")?;
    apply(&ns, &job("s", "suspend: true\n  ttlSecondsAfterFinished: 1", "true"))?;
    until(&ns, "get job s --no-headers -o jsonpath={.status.conditions[0].type}", "Suspended")?;
    let pods = ns.must("get pods -o name")?;
    ensure!(pods.is_empty(), "{pods}");
    ns.must(r#"patch job s --type=merge -p {"spec":{"suspend":false}}"#)?;
    ns.must("wait --for=delete job/s --timeout=30s")?;
    until(&ns, "get pods -o name", "")?;

    apply(&ns, &job("r", "parallelism: 1", "sleep 1000"))?;
    until(&ns, "get job r -o jsonpath={.status.active}", "1")?;
    ns.must(r#"patch job r --type=merge -p {"spec":{"suspend":true}}"#)?;
    until(&ns, "get pods -o name", "")?;
    let events = ns.must("get events --field-selector involvedObject.name=r -o jsonpath={.items[*].reason}")?;
    ensure!(events.contains("Suspended"), "{events}");
    ns.delete()
}
