//! Jobs and CronJobs with real pods.

use super::namespace::Namespace;
use crate::cluster::Cluster;
use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};
use std::time::Duration;

const PATIENCE: Duration = Duration::from_secs(60);

/// A Job whose container runs a line of shell.
fn job(name: &str, line: &str, mut spec: Value) -> String {
    spec["template"] = json!({"spec": {"restartPolicy": "Never", "terminationGracePeriodSeconds": 1,
        "containers": [{"name": "c", "image": "shop/backend:v1", "command": ["sh", "-c", line]}]}});
    json!({"apiVersion": "batch/v1", "kind": "Job", "metadata": {"name": name}, "spec": spec}).to_string()
}

fn apply(ns: &Namespace<'_>, manifest: &str) -> Result<()> {
    ns.c.kubectl_input(&["-n", ns.name(), "apply", "-f", "-"], manifest).map(drop)
}

fn status(ns: &Namespace<'_>, name: &str) -> Result<Value> {
    Ok(ns.c.json(&["-n", ns.name(), "get", "job", name])?["status"].clone())
}

/// Why the condition of this type is true.
fn reason(status: &Value, kind: &str) -> String {
    let all = status["conditions"].as_array().cloned().unwrap_or_default();
    let found = all.iter().find(|c| c["type"] == kind && c["status"] == "True");
    found.and_then(|c| c["reason"].as_str()).unwrap_or_default().to_string()
}

pub fn run_to_their_end(c: &Cluster) -> Result<()> {
    let ns = Namespace::new(c, "jobs")?;
    apply(
        &ns,
        &job("three", "echo done", json!({"completions": 3, "parallelism": 2, "ttlSecondsAfterFinished": 600})),
    )?;
    apply(&ns, &job("fails", "exit 3", json!({"backoffLimit": 0})))?;
    let indexed = json!({"completions": 3, "parallelism": 3, "completionMode": "Indexed"});
    apply(&ns, &job("indexed", "echo index $JOB_COMPLETION_INDEX of $(hostname)", indexed))?;
    let judged = json!({"podFailurePolicy": {"rules": [
        {"action": "FailJob", "onExitCodes": {"operator": "In", "values": [42]}}]}});
    apply(&ns, &job("judged", "exit 42", judged))?;
    let per_index = json!({"completions": 2, "parallelism": 2, "completionMode": "Indexed", "backoffLimitPerIndex": 0});
    apply(&ns, &job("per-index", "exit $JOB_COMPLETION_INDEX", per_index))?;
    let enough = json!({"completions": 3, "parallelism": 3, "completionMode": "Indexed",
        "successPolicy": {"rules": [{"succeededIndexes": "0"}]}});
    apply(&ns, &job("enough", "[ $JOB_COMPLETION_INDEX = 0 ] || sleep 1000", enough))?;

    ns.must("wait --for=condition=complete job/three job/indexed job/enough --timeout=60s")?;
    ns.must("wait --for=condition=failed job/fails job/judged job/per-index --timeout=60s")?;

    let s = status(&ns, "three")?;
    ensure!(s["succeeded"] == 3 && s["active"].is_null() && s["completionTime"].is_string(), "three: {s}");
    ensure!(s["uncountedTerminatedPods"] == json!({}), "three has counted all: {s}");
    let table = ns.must("get job three")?;
    ensure!(table.contains("Complete") && table.contains("3/3"), "{table}");
    let s = status(&ns, "fails")?;
    ensure!(s["failed"] == 1 && reason(&s, "Failed") == "BackoffLimitExceeded", "fails: {s}");
    let s = status(&ns, "indexed")?;
    ensure!(s["completedIndexes"] == "0-2", "indexed: {s}");
    let logs = ns.must("logs -l batch.kubernetes.io/job-name=indexed")?;
    for i in 0..3 {
        ensure!(logs.contains(&format!("index {i} of indexed-{i}")), "indexed said:\n{logs}");
    }
    let s = status(&ns, "judged")?;
    ensure!(reason(&s, "Failed") == "PodFailurePolicy", "judged: {s}");
    let s = status(&ns, "per-index")?;
    ensure!(s["completedIndexes"] == "0" && s["failedIndexes"] == "1", "per-index: {s}");
    ensure!(reason(&s, "Failed") == "FailedIndexes", "per-index: {s}");
    let s = status(&ns, "enough")?;
    ensure!(reason(&s, "Complete") == "SuccessPolicy" && s["completedIndexes"] == "0", "enough: {s}");
    let held = ns.must("get pods -o jsonpath={.items[*].metadata.finalizers}")?;
    ensure!(held.is_empty(), "pods of ended Jobs are held: {held}");

    // Time to live, and what is left of a Job that goes.
    ns.must("patch job three -p '{\"spec\":{\"ttlSecondsAfterFinished\":0}}'")?;
    ns.must("wait --for=delete job/three --timeout=30s")?;
    c.wait(PATIENCE, "the pods to go with their Job", || {
        Ok(ns.must("get pods -l batch.kubernetes.io/job-name=three -o name")?.is_empty())
    })?;
    ns.delete()
}

/// Suspended, resumed, scaled, cut short by its deadline, and deleted in the middle.
pub fn are_led_by_hand(c: &Cluster) -> Result<()> {
    let ns = Namespace::new(c, "jobs-led")?;
    let spec = json!({"completions": 4, "parallelism": 2, "suspend": true});
    apply(&ns, &job("led", "sleep 1000", spec))?;
    ns.must("wait --for=condition=suspended job/led --timeout=20s")?;
    ensure!(ns.must("get pods -o name")?.is_empty(), "a suspended Job has pods");
    ns.must("patch job led -p '{\"spec\":{\"suspend\":false}}'")?;
    ns.must("wait --for=jsonpath={.status.ready}=2 job/led --timeout=30s")?;
    ns.must("patch job led -p '{\"spec\":{\"parallelism\":1}}'")?;
    ns.must("wait --for=jsonpath={.status.ready}=1 job/led --timeout=30s")?;
    ns.must("patch job led -p '{\"spec\":{\"suspend\":true}}'")?;
    c.wait(PATIENCE, "a suspended Job to lose its pods", || Ok(ns.must("get pods -o name")?.is_empty()))?;
    let s = status(&ns, "led")?;
    ensure!(s["failed"].is_null(), "pods that the Job took away count as failed: {s}");
    ns.must("patch job led -p '{\"spec\":{\"suspend\":false,\"activeDeadlineSeconds\":2}}'")?;
    ns.must("wait --for=condition=failed job/led --timeout=30s")?;
    ensure!(reason(&status(&ns, "led")?, "Failed") == "DeadlineExceeded", "led: {}", status(&ns, "led")?);

    apply(&ns, &job("short", "sleep 1000", json!({})))?;
    ns.must("wait --for=jsonpath={.status.ready}=1 job/short --timeout=30s")?;
    ns.must("delete job short --cascade=foreground --timeout=30s")?;
    ensure!(ns.must("get pods -l batch.kubernetes.io/job-name=short -o name")?.is_empty(), "pods outlive their Job");
    ns.delete()
}

pub fn cron(c: &Cluster) -> Result<()> {
    let ns = Namespace::new(c, "cron")?;
    let template: Value = serde_json::from_str(&job("x", "echo tick", json!({})))?;
    let cronjob = |name: &str, extra: Value| {
        let mut spec = json!({"schedule": "@every 1s", "jobTemplate": {"spec": template["spec"]}});
        for (k, v) in extra.as_object().into_iter().flatten() {
            spec[k] = v.clone();
        }
        json!({"apiVersion": "batch/v1", "kind": "CronJob", "metadata": {"name": name}, "spec": spec}).to_string()
    };
    apply(&ns, &cronjob("idle", json!({"suspend": true})))?;
    apply(&ns, &cronjob("tick", json!({"timeZone": "Etc/UTC"})))?;
    c.wait(PATIENCE, "a Job that has ended well", || {
        Ok(!ns.must("get cronjob tick -o jsonpath={.status.lastSuccessfulTime}")?.is_empty())
    })?;
    let jobs = c.json(&["-n", ns.name(), "get", "jobs"])?;
    let made = jobs["items"].as_array().context("no jobs")?;
    ensure!(
        !made.is_empty() && made.iter().all(|j| j["metadata"]["name"].as_str().is_some_and(|n| n.starts_with("tick-"))),
        "{jobs}"
    );
    ensure!(
        made[0]["metadata"]["annotations"]["batch.kubernetes.io/cronjob-scheduled-timestamp"].is_string()
            && made[0]["metadata"]["ownerReferences"][0]["kind"] == "CronJob",
        "{jobs}"
    );
    let events = ns.must("get events --field-selector involvedObject.kind=CronJob")?;
    ensure!(events.contains("SuccessfulCreate") && events.contains("SawCompletedJob"), "{events}");
    ns.must("create job by-hand --from=cronjob/tick")?;
    ns.must("wait --for=condition=complete job/by-hand --timeout=30s")?;
    ns.must("delete cronjob tick idle --timeout=30s")?;
    c.wait(PATIENCE, "the Jobs to go with their CronJob", || Ok(ns.must("get jobs -o name")?.is_empty()))?;
    ns.delete()
}
