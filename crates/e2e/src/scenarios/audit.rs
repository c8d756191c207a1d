//! Audit beyond the log file's lines: what each level tells, a webhook that is away for a while, rotation.

use crate::cluster::Cluster;
use crate::peer::Peer;
use crate::wire::Who;
use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};
use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

const PATIENCE: Duration = Duration::from_secs(20);

/// Only what the administrator asks for in namespace `default`, each resource at another level.
const POLICY: &str = "apiVersion: audit.k8s.io/v1\nkind: Policy\nomitStages: [RequestReceived]\nrules:\n\
    - {level: None, users: ['system:apiserver', 'system:kube-scheduler']}\n\
    - {level: None, userGroups: ['system:serviceaccounts', 'system:nodes']}\n\
    - {level: RequestResponse, resources: [{group: '', resources: [configmaps]}], namespaces: [default]}\n\
    - {level: Request, resources: [{group: '', resources: [services]}], namespaces: [default]}\n\
    - {level: Metadata, resources: [{group: '', resources: [secrets, serviceaccounts/token]}], namespaces: [default]}\n\
    - {level: None}\n";

fn flag(name: &str, path: &Path) -> String {
    format!("--{name}={}", path.display())
}

pub fn a_webhook_gets_what_happened(c: &Cluster) -> Result<()> {
    let (refuse, asked) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
    let got: Arc<Mutex<Vec<Value>>> = Arc::default();
    let (left, counter, kept) = (refuse.clone(), asked.clone(), got.clone());
    let peer = Peer::start(
        c.holder(),
        Arc::new(move |method: &str, path: &str, list: Value| {
            counter.fetch_add(1, Ordering::SeqCst);
            let busy = left.fetch_update(Ordering::SeqCst, Ordering::SeqCst, |n| n.checked_sub(1)).is_ok();
            if busy || method != "POST" || !path.starts_with("/audit") {
                return (503, json!({}));
            }
            if let Ok(mut all) = kept.lock() {
                all.push(list);
            }
            (200, json!({}))
        }),
    )?;
    let (policy, webhook) = (c.dir().join("policy.yaml"), c.dir().join("audit-webhook.yaml"));
    std::fs::write(&policy, POLICY)?;
    std::fs::write(&webhook, peer.kubeconfig("/audit"))?;
    c.serve(&[
        "--disable-agent",
        &flag("audit-policy-file", &policy),
        &flag("audit-webhook-config-file", &webhook),
        "--audit-webhook-batch-max-wait=1s",
        "--audit-webhook-initial-backoff=200ms",
    ])?;
    c.wait_api()?;
    let batches = || got.lock().map(|g| g.clone()).unwrap_or_default();
    let events = || -> Vec<Value> {
        batches().iter().flat_map(|b| b["items"].as_array().cloned().unwrap_or_default()).collect()
    };
    let named = |events: &[Value], name: &str| events.iter().filter(|e| e["objectRef"]["name"] == name).count();
    // Twenty at once come in few batches, in order, each once.
    let made: String = (0..20)
        .map(|i| format!("---\n{{apiVersion: v1, kind: ConfigMap, metadata: {{name: m{i}}}, data: {{a: b{i}}}}}\n"))
        .collect();
    c.kubectl_input(&["create", "--validate=false", "-f", "-"], &made)?;
    c.kubectl(&["create", "secret", "generic", "hidden", "--from-literal=a=very-secret"])?;
    c.wait(PATIENCE, "an account", || Ok(c.kubectl_run(&["create", "token", "default"])?.ok))?;
    c.kubectl(&["create", "service", "clusterip", "asked", "--tcp=80:80"])?;
    c.wait(PATIENCE, "all events", || {
        let e = events();
        Ok((0..20).all(|i| named(&e, &format!("m{i}")) > 0) && named(&e, "asked") > 0)
    })?;
    let first = batches().into_iter().next().context("no batch")?;
    ensure!(first["kind"] == "EventList" && first["apiVersion"] == "audit.k8s.io/v1", "{first}");
    let all = events();
    let creates: Vec<&Value> =
        all.iter().filter(|e| e["verb"] == "create" && e["objectRef"]["resource"] == "configmaps").collect();
    let order: Vec<&str> = creates.iter().filter_map(|e| e["objectRef"]["name"].as_str()).collect();
    let want: Vec<String> = (0..20).map(|i| format!("m{i}")).collect();
    ensure!(order == want, "{order:?}");
    ensure!(batches().len() < 15, "{} batches for {} events", batches().len(), all.len());
    for e in &creates {
        ensure!(
            e["level"] == "RequestResponse"
                && e["requestObject"]["data"]["a"].is_string()
                && e["responseObject"]["metadata"]["uid"].is_string()
                && e["stage"] == "ResponseComplete"
                && e["annotations"]["authorization.k8s.io/decision"] == "allow",
            "{e}"
        );
    }
    let one = |name: &str| all.iter().find(|e| e["objectRef"]["name"] == name).with_context(|| format!("no {name}"));
    let e = one("asked")?;
    ensure!(
        e["level"] == "Request" && e["requestObject"]["kind"] == "Service" && e.get("responseObject").is_none(),
        "{e}"
    );
    let is_issue = |e: &&Value| e["objectRef"]["subresource"] == "token" && e["responseStatus"]["code"] == 201;
    let issued = all.iter().find(is_issue).context("no token was issued")?;
    let id = issued["annotations"]["authentication.kubernetes.io/issued-credential-id"].as_str().unwrap_or_default();
    ensure!(id.starts_with("JTI="), "{issued}");
    let e = one("hidden")?;
    ensure!(
        e["level"] == "Metadata" && e.get("requestObject").is_none() && e["objectRef"]["resource"] == "secrets",
        "{e}"
    );
    ensure!(!serde_json::to_string(&all)?.contains("dmVyeS1zZWNyZXQ="), "a Secret's value was sent");
    ensure!(all.iter().all(|e| e["objectRef"]["resource"] != "namespaces"), "what the policy leaves out");

    // The receiver is away for three tries: nothing is lost, nothing comes twice.
    let before = asked.load(Ordering::SeqCst);
    refuse.store(3, Ordering::SeqCst);
    c.kubectl(&["create", "configmap", "while-away", "--from-literal=a=b"])?;
    c.wait(PATIENCE, "the event after the receiver came back", || Ok(named(&events(), "while-away") > 0))?;
    ensure!(asked.load(Ordering::SeqCst) - before >= 4, "it was tried again");
    ensure!(named(&events(), "while-away") == 1, "it came more than once");
    // What waits is sent before the server ends.
    c.access()?.inside(async |access| {
        let mut api = access.http1(&Who::Admin).await?;
        let r = api.get("/api/v1/namespaces/default/configmaps/at-the-end").await?;
        ensure!(r.code == 404, "{}", r.code);
        Ok(())
    })?;
    c.stop_server(libc::SIGTERM)?;
    ensure!(named(&events(), "at-the-end") == 1, "the last event was lost");
    Ok(())
}

pub fn logs_are_rotated(c: &Cluster) -> Result<()> {
    let (policy, dir) = (c.dir().join("policy.yaml"), c.dir().join("audit"));
    let log = dir.join("audit.log");
    std::fs::write(&policy, POLICY)?;
    c.serve(&[
        "--disable-agent",
        &flag("audit-policy-file", &policy),
        &flag("audit-log-path", &log),
        "--audit-log-maxsize=1",
        "--audit-log-maxbackup=2",
        "--audit-log-compress",
    ])?;
    c.wait_api()?;
    // Each event holds the object twice, so two of them don't fit into a megabyte.
    c.access()?.inside(async |access| {
        let mut api = access.http1(&Who::Admin).await?;
        for i in 0..12 {
            let object = json!({"metadata": {"name": format!("large-{i}")}, "data": {"a": "x".repeat(300_000)}});
            let r = api.json("POST", "/api/v1/namespaces/default/configmaps", &object).await?;
            ensure!(r.code == 201, "{} {}", r.code, r.text());
        }
        Ok(())
    })?;
    let files = || -> Result<Vec<String>> {
        let names = std::fs::read_dir(&dir)?.map(|e| Ok(e?.file_name().to_string_lossy().into_owned()));
        let mut names = names.collect::<Result<Vec<_>>>()?;
        names.sort();
        Ok(names)
    };
    let is_old = |n: &String| n.starts_with("audit-20") && n.ends_with(".log.gz");
    c.wait(PATIENCE, "two compressed files and the log", || {
        let f = files()?;
        Ok(f.len() == 3 && f.iter().filter(|n| is_old(n)).count() == 2)
    })?;
    ensure!(std::fs::metadata(&log)?.len() <= 1 << 20, "the log is larger than it may be");
    // What was put aside is whole.
    let newest = files()?.into_iter().filter(is_old).next_back().context("no old file")?;
    let text = c.must(&["gzip", "-dc", dir.join(&newest).to_str().context("path")?])?;
    for line in text.lines().chain(std::fs::read_to_string(&log)?.lines()) {
        let e: Value = serde_json::from_str(line)?;
        ensure!(e["kind"] == "Event" && e["auditID"].is_string(), "{line:.200}");
    }
    c.stop_server(libc::SIGTERM)
}
