//! Admission webhooks: a real HTTPS server with a CA of its own, called by URL and as a Service.

use super::namespace::Namespace;
use crate::cluster::{Cluster, Done};
use crate::extension::certificates::Authority;
use crate::extension::image;
use anyhow::{Context, Result, ensure};
use base64::{Engine, engine::general_purpose::STANDARD};
use serde_json::{Value, json};
use std::process::{Child, Stdio};
use std::sync::atomic::{AtomicU16, Ordering};
use std::time::{Duration, Instant};

static PORT: AtomicU16 = AtomicU16::new(18_500);

/// The server as a process in the cluster's network, and a namespace whose writes it is asked about.
struct World<'c> {
    ns: Namespace<'c>,
    server: Child,
    port: u16,
    ca_pem: String,
}

impl Drop for World<'_> {
    fn drop(&mut self) {
        let _ = self.server.kill();
        let _ = self.server.wait();
        for kind in ["mutatingwebhookconfigurations", "validatingwebhookconfigurations"] {
            let _ = self.ns.c.kubectl_run(&["delete", kind, "-l", &format!("e2e={}", self.ns.name())]);
        }
    }
}

impl<'c> World<'c> {
    fn new(c: &'c Cluster, base: &str) -> Result<World<'c>> {
        let ns = Namespace::new(c, base)?;
        let port = PORT.fetch_add(2, Ordering::Relaxed);
        let dir = c.dir().join(format!("{}-certs", ns.name()));
        let ca = Authority::new("e2e webhooks")?;
        ca.issue_into(&dir, &["127.0.0.1", "localhost"])?;
        let server = c
            .command(std::env::current_exe()?)
            .args(["extension", &port.to_string(), &dir.display().to_string()])
            .stdin(Stdio::null())
            .spawn()
            .context("failed to start the webhook server")?;
        let world = World { ns, server, port, ca_pem: ca.cert_pem };
        c.wait(Duration::from_secs(10), "the webhook server", || {
            Ok(c.run(&["curl", "-sk", "--max-time", "2", &format!("https://127.0.0.1:{port}/healthz")])?.stdout == "ok")
        })?;
        Ok(world)
    }

    fn url(&self, path: &str) -> String {
        format!("https://127.0.0.1:{}/webhook/{path}", self.port)
    }

    /// A webhook at `path` about `resource` (`group/plural`), in this namespace only.
    fn hook(&self, path: &str, operations: &[&str], resource: &str, more: Value) -> Value {
        let (group, plural) = resource.split_once('/').unwrap_or(("", resource));
        let (group, plural) = if group == "core" { ("", plural) } else { (group, plural) };
        let mut hook = json!({
            "name": format!("{path}.example.com"),
            "clientConfig": {"url": self.url(path), "caBundle": STANDARD.encode(&self.ca_pem)},
            "rules": [{"operations": operations, "apiGroups": [group], "apiVersions": ["*"], "resources": [plural]}],
            "namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": self.ns.name()}},
            "admissionReviewVersions": ["v1"], "sideEffects": "None", "timeoutSeconds": 5,
        });
        for (k, v) in more.as_object().into_iter().flatten() {
            hook[k] = v.clone();
        }
        hook
    }

    fn configuration(&self, kind: &str, name: &str, hooks: &[Value]) -> Value {
        json!({
            "apiVersion": "admissionregistration.k8s.io/v1", "kind": format!("{kind}WebhookConfiguration"),
            "metadata": {"name": name, "labels": {"e2e": self.ns.name()}}, "webhooks": hooks,
        })
    }

    fn configure(&self, kind: &str, hooks: &[Value]) -> Result<()> {
        self.ns.c.apply(&self.configuration(kind, self.ns.name(), hooks).to_string()).map(|_| ())
    }

    fn put(&self, object: &Value) -> Result<Done> {
        self.send(&["create", "-f"], object)
    }

    fn send(&self, verb: &[&str], object: &Value) -> Result<Done> {
        let name = format!("{}.json", object["metadata"]["name"].as_str().unwrap_or("x"));
        let file = self.ns.file(&name, &object.to_string())?;
        self.ns.kubectl(&[verb, &[file.as_str()]].concat())
    }

    /// What the server was asked at a path, the last time.
    fn asked(&self, path: &str) -> Result<Value> {
        let all = self.ns.c.must(&["curl", "-sk", &format!("https://127.0.0.1:{}/reviews", self.port)])?;
        let all: Vec<Value> = serde_json::from_str(&all)?;
        let path = format!("/webhook/{path}");
        all.into_iter().rfind(|r| r["path"] == path.as_str()).with_context(|| format!("{path} was never asked"))
    }

    fn finish(self) -> Result<()> {
        let c = self.ns.c;
        let name = self.ns.name().to_string();
        // Without its configurations first: the namespace must be able to go.
        drop(self);
        c.kubectl(&["delete", "namespace", &name, "--wait=false"]).map(|_| ())
    }
}

fn config_map(name: &str, data: Value) -> Value {
    json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name}, "data": data})
}

fn says(d: &Done, what: &str) -> Result<()> {
    ensure!(!d.ok && d.stderr.contains(what), "should have failed with {what:?}, but: {}{}", d.stdout, d.stderr);
    Ok(())
}

fn passes(d: &Done) -> Result<()> {
    ensure!(d.ok, "should have passed, but: {}", d.stderr);
    Ok(())
}

const UNWANTED: &str =
    "admission webhook \"deny-marked.example.com\" denied the request: the object contains unwanted key and value";

pub fn deny(c: &Cluster) -> Result<()> {
    let w = World::new(c, "webhook-deny")?;
    let marked = || json!({"webhook-e2e-test": "webhook-disallow"});
    w.configure(
        "Validating",
        &[
            w.hook("deny-marked", &["CREATE", "UPDATE", "DELETE"], "configmaps", json!({})),
            w.hook("deny-marked", &["CREATE"], "pods", json!({"name": "deny-marked.example.com.pods"})),
        ],
    )?;
    says(&w.put(&config_map("bad", marked()))?, UNWANTED)?;
    passes(&w.put(&config_map("good", json!({"a": "b"})))?)?;
    let patch = json!({"data": marked()}).to_string();
    says(&w.ns.kubectl(&["patch", "configmap", "good", "--type=merge", "-p", &patch])?, UNWANTED)?;
    says(&w.send(&["replace", "-f"], &config_map("good", marked()))?, UNWANTED)?;
    let apply = w.send(&["apply", "--server-side", "--force-conflicts", "-f"], &config_map("good", marked()))?;
    says(&apply, UNWANTED)?;
    let pod = json!({"apiVersion": "v1", "kind": "Pod",
        "metadata": {"name": "p", "labels": {"webhook-e2e-test": "webhook-disallow"}},
        "spec": {"containers": [{"name": "c", "image": "shop/backend:v1"}]}});
    says(&w.put(&pod)?, "the object contains unwanted key and value")?;
    // Elsewhere nobody asks; and what came to be while nobody asked can't be deleted here.
    c.kubectl(&[
        "-n",
        "default",
        "create",
        "configmap",
        "e2e-webhook-free",
        "--from-literal=webhook-e2e-test=webhook-disallow",
    ])?;
    c.kubectl(&["-n", "default", "delete", "configmap", "e2e-webhook-free"])?;
    w.configure("Validating", &[])?;
    passes(&w.put(&config_map("bad", marked()))?)?;
    w.configure("Validating", &[w.hook("deny-marked", &["DELETE"], "configmaps", json!({}))])?;
    says(&w.ns.kubectl(&["delete", "configmap", "bad"])?, UNWANTED)?;
    says(&w.ns.kubectl(&["delete", "configmaps", "--all"])?, UNWANTED)?;
    // Refusals pass on what the webhook says of them.
    w.configure("Validating", &[w.hook("forbid", &["CREATE"], "configmaps", json!({}))])?;
    let path = format!("/api/v1/namespaces/{}/configmaps", w.ns.name());
    let reply = c.access()?.inside(async |a| {
        a.http1(&crate::wire::Who::Admin).await?.json("POST", &path, &config_map("x", json!({}))).await
    })?;
    let status = reply.json();
    ensure!(
        reply.code == 403
            && status["reason"] == "Forbidden"
            && status["message"] == "admission webhook \"forbid.example.com\" denied the request: not today"
            && status["details"]["causes"][0]["message"] == "rain",
        "{status}"
    );
    w.finish()
}

pub fn time_out(c: &Cluster) -> Result<()> {
    let w = World::new(c, "webhook-time")?;
    let slow = |policy: &str, seconds: Value| {
        let mut h =
            w.hook("slow", &["CREATE"], "configmaps", json!({"failurePolicy": policy, "timeoutSeconds": seconds}));
        if seconds.is_null()
            && let Some(o) = h.as_object_mut()
        {
            o.remove("timeoutSeconds");
        }
        w.configure("Validating", &[h])
    };
    slow("Fail", 1.into())?;
    let want = format!(
        "failed calling webhook \"slow.example.com\": failed to call webhook: Post \"{}?timeout=1s\": context deadline exceeded",
        w.url("slow")
    );
    says(&w.put(&config_map("a", json!({})))?, &want)?;
    for (name, policy, seconds, at_least) in
        [("b", "Ignore", json!(1), 1), ("c", "Fail", json!(10), 3), ("d", "Fail", Value::Null, 3)]
    {
        slow(policy, seconds)?;
        let started = Instant::now();
        passes(&w.put(&config_map(name, json!({})))?)?;
        ensure!(started.elapsed().as_secs() >= at_least, "{name} didn't wait for the webhook");
    }
    w.finish()
}

pub fn fail_closed(c: &Cluster) -> Result<()> {
    let w = World::new(c, "webhook-closed")?;
    for (config, want) in [
        (json!({"url": w.url("allow")}), "x509: certificate signed by unknown authority"),
        (
            json!({"url": "https://127.0.0.1:1/x", "caBundle": STANDARD.encode(&w.ca_pem)}),
            "connect: connection refused",
        ),
        (
            json!({"service": {"namespace": w.ns.name(), "name": "none", "path": "/x"}, "caBundle": STANDARD.encode(&w.ca_pem)}),
            "service \"none\" not found",
        ),
        (
            json!({"url": w.url("missing"), "caBundle": STANDARD.encode(&w.ca_pem)}),
            "could not find the requested resource",
        ),
    ] {
        let fails = w.hook("allow", &["CREATE"], "configmaps", json!({"clientConfig": config}));
        w.configure("Validating", &[fails.clone()])?;
        says(&w.put(&config_map("x", json!({})))?, "failed calling webhook \"allow.example.com\"")?;
        says(&w.put(&config_map("x", json!({})))?, want)?;
        w.configure("Validating", &[])?;
        w.configure("Mutating", &[fails])?;
        says(&w.put(&config_map("x", json!({})))?, want)?;
        w.configure("Mutating", &[])?;
    }
    w.finish()
}

pub fn mutate(c: &Cluster) -> Result<()> {
    let w = World::new(c, "webhook-mutate")?;
    w.configure(
        "Mutating",
        &[
            w.hook("mutate-one", &["CREATE"], "configmaps", json!({})),
            w.hook("mutate-two", &["CREATE"], "configmaps", json!({})),
            w.hook("mutate-pod", &["CREATE"], "pods", json!({})),
        ],
    )?;
    passes(&w.put(&config_map("c", json!({"mutation-start": "yes"})))?)?;
    let data = c.json(&["-n", w.ns.name(), "get", "configmap", "c"])?["data"].clone();
    ensure!(data == json!({"mutation-start": "yes", "mutation-stage-1": "yes", "mutation-stage-2": "yes"}), "{data}");
    let pod = json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "p"},
        "spec": {"containers": [{"name": "c", "image": "shop/backend:v1"}]}});
    passes(&w.put(&pod)?)?;
    let pod = c.json(&["-n", w.ns.name(), "get", "pod", "p"])?;
    let init = &pod["spec"]["initContainers"][0];
    ensure!(init["name"] == "webhook-added-init-container", "{init}");
    ensure!(
        init["terminationMessagePolicy"] == "File" && init["imagePullPolicy"] == "IfNotPresent",
        "not defaulted: {init}"
    );
    // Plugins that ran before the webhook saw what it added.
    ensure!(
        init["volumeMounts"][0]["mountPath"] == "/var/run/secrets/kubernetes.io/serviceaccount",
        "no token in the added container: {init}"
    );
    // On an update it makes no other object of it, nor can it make unreadable whose fields they are.
    w.configure("Mutating", &[w.hook("rename", &["UPDATE"], "configmaps", json!({}))])?;
    let renamed = w.ns.kubectl(&["label", "configmap", "c", "a=b"])?;
    says(&renamed, "metadata.name: Invalid value: \"renamed\": field is immutable")?;
    w.configure("Mutating", &[w.hook("break-owners", &["UPDATE"], "configmaps", json!({}))])?;
    let broken = w.ns.kubectl(&["label", "configmap", "c", "a=b"])?;
    passes(&broken)?;
    let warning = "Warning: .metadata.managedFields was in an invalid state after admission; this could be caused by an outdated mutating admission controller; please fix your requests: apiVersion must not be empty";
    ensure!(broken.stderr.contains(warning), "{}", broken.stderr);
    let kept = c.json(&["-n", w.ns.name(), "get", "configmap", "c", "--show-managed-fields"])?;
    ensure!(kept["metadata"]["managedFields"][0]["apiVersion"] == "v1", "{kept}");
    w.finish()
}

pub fn live(c: &Cluster) -> Result<()> {
    let w = World::new(c, "webhook-live")?;
    for (kind, path, resource) in [
        ("Mutating", "mark", "mutatingwebhookconfigurations"),
        ("Validating", "deny", "validatingwebhookconfigurations"),
    ] {
        let works = |name: &str, on: bool| -> Result<()> {
            let d = w.put(&config_map(name, json!({})))?;
            if kind == "Validating" {
                return if on { says(&d, "this webhook denies all requests") } else { passes(&d) };
            }
            passes(&d)?;
            let marked = w.ns.must(&format!("get configmap {name} -o jsonpath={{.data.marked}}"))? == "yes";
            ensure!(marked == on, "{name}: marked is {marked}");
            Ok(())
        };
        // Ten of a label, listed and deleted together.
        for i in 0..10 {
            let mut config = w.configuration(
                kind,
                &format!("{}-{i}", w.ns.name()),
                &[w.hook(path, &["CREATE"], "configmaps", json!({}))],
            );
            config["metadata"]["labels"]["many"] = w.ns.name().into();
            c.apply(&config.to_string())?;
        }
        let selector = format!("many={}", w.ns.name());
        let listed = c.json(&["get", resource, "-l", &selector])?;
        ensure!(listed["items"].as_array().map(Vec::len) == Some(10), "{listed}");
        works(&format!("{path}-a"), true)?;
        let collection =
            format!("/apis/admissionregistration.k8s.io/v1/{resource}?labelSelector=many%3D{}", w.ns.name());
        let reply = c
            .access()?
            .inside(async |a| a.http1(&crate::wire::Who::Admin).await?.send("DELETE", &collection, &[], "").await)?;
        ensure!(reply.code == 200, "deletecollection: {}", reply.text());
        works(&format!("{path}-b"), false)?;
        // Off by PUT, on by PATCH.
        w.configure(kind, &[w.hook(path, &["CREATE"], "configmaps", json!({}))])?;
        works(&format!("{path}-c"), true)?;
        let mut off = c.json(&["get", resource, w.ns.name()])?;
        off["webhooks"][0]["rules"][0]["operations"] = json!(["UPDATE"]);
        passes(&w.send(&["replace", "-f"], &off)?)?;
        works(&format!("{path}-d"), false)?;
        let on = r#"[{"op":"replace","path":"/webhooks/0/rules/0/operations","value":["CREATE"]}]"#;
        c.kubectl(&["patch", resource, w.ns.name(), "--type=json", "-p", on])?;
        works(&format!("{path}-e"), true)?;
        c.kubectl(&["delete", resource, w.ns.name()])?;
    }
    w.finish()
}

pub fn custom(c: &Cluster) -> Result<()> {
    let w = World::new(c, "webhook-custom")?;
    let group = format!("{}.example.com", w.ns.name());
    let version = |name: &str, storage: bool| {
        json!({"name": name, "served": true, "storage": storage, "schema": {"openAPIV3Schema": {
            "type": "object", "properties": {"data": {"type": "object", "properties": {
                "mutation-start": {"type": "string"}, "mutation-stage-1": {"type": "string"},
                "webhook-e2e-test": {"type": "string"}}}}}}})
    };
    let crd = |v1_stored: bool| {
        json!({
            "apiVersion": "apiextensions.k8s.io/v1", "kind": "CustomResourceDefinition",
            "metadata": {"name": format!("marks.{group}")},
            "spec": {"group": group, "scope": "Namespaced",
                "names": {"plural": "marks", "singular": "mark", "kind": "Mark", "listKind": "MarkList"},
                "versions": [version("v1", v1_stored), version("v2", !v1_stored)]},
        })
    };
    // Definitions themselves may be refused.
    let mut refuse = w.hook("deny", &["CREATE"], "apiextensions.k8s.io/customresourcedefinitions", json!({}));
    refuse["objectSelector"] = json!({"matchLabels": {"e2e": w.ns.name()}});
    w.configure("Validating", &[refuse])?;
    let mut labelled = crd(true);
    labelled["metadata"]["labels"] = json!({"e2e": w.ns.name()});
    says(
        &w.put(&labelled)?,
        "admission webhook \"deny.example.com\" denied the request: this webhook denies all requests",
    )?;
    w.configure("Validating", &[])?;
    passes(&w.put(&crd(true))?)?;
    let done = (|| -> Result<()> {
        c.kubectl(&["wait", "--for=condition=Established", "crd", &format!("marks.{group}"), "--timeout=20s"])?;
        let mark = |name: &str, data: Value| json!({"apiVersion": format!("{group}/v1"), "kind": "Mark", "metadata": {"name": name}, "data": data});
        let resource = format!("{group}/marks");
        w.configure("Validating", &[w.hook("deny-marked", &["CREATE", "UPDATE", "DELETE"], &resource, json!({}))])?;
        says(&w.put(&mark("bad", json!({"webhook-e2e-test": "webhook-disallow"})))?, UNWANTED)?;
        passes(&w.put(&mark("good", json!({})))?)?;
        let patch = r#"{"data":{"webhook-e2e-test":"webhook-disallow"}}"#;
        let marks = format!("marks.{group}");
        says(&w.ns.kubectl(&["patch", &marks, "good", "--type=merge", "-p", patch])?, UNWANTED)?;
        w.configure("Validating", &[])?;
        passes(&w.ns.kubectl(&["patch", &marks, "good", "--type=merge", "-p", patch])?)?;
        w.configure("Validating", &[w.hook("deny-marked", &["DELETE"], &resource, json!({}))])?;
        says(&w.ns.kubectl(&["delete", &marks, "good"])?, UNWANTED)?;
        w.configure("Validating", &[])?;
        // Changed, and pruned to what the schema has.
        w.configure("Mutating", &[w.hook("mutate-custom", &["CREATE", "UPDATE"], &resource, json!({}))])?;
        passes(&w.put(&mark("m", json!({"mutation-start": "yes"})))?)?;
        let data = c.json(&["-n", w.ns.name(), "get", &marks, "m"])?["data"].clone();
        ensure!(data == json!({"mutation-start": "yes", "mutation-stage-1": "yes"}), "{data}");
        // The storage version moves; patches still go through the webhook.
        passes(&w.send(&["apply", "--server-side", "--force-conflicts", "-f"], &crd(false))?)?;
        let patch = r#"{"data":{"mutation-start":"again"}}"#;
        passes(&w.ns.kubectl(&["patch", &marks, "m", "--type=merge", "-p", patch])?)?;
        let data = c.json(&["-n", w.ns.name(), "get", &marks, "m"])?["data"].clone();
        ensure!(data == json!({"mutation-start": "again", "mutation-stage-1": "yes"}), "{data}");
        w.configure("Mutating", &[])
    })();
    c.kubectl_run(&["delete", "crd", &format!("marks.{group}"), "--wait=false"])?;
    done?;
    w.finish()
}

pub fn connect(c: &Cluster) -> Result<()> {
    let w = World::new(c, "webhook-connect")?;
    let pod = json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "p"},
        "spec": {"terminationGracePeriodSeconds": 0, "containers": [{"name": "c", "image": "shop/backend:v1"}]}});
    passes(&w.put(&pod)?)?;
    w.ns.must("wait --for=condition=Ready pod/p --timeout=30s")?;
    w.configure("Validating", &[w.hook("deny", &["CONNECT"], "core/pods/attach", json!({}))])?;
    // Were it not refused, it would stay attached.
    let attach = c.run(&["timeout", "15", &w.ns.kubectl_path(), "-n", w.ns.name(), "attach", "p", "-c", "c"])?;
    says(&attach, "this webhook denies all requests")?;
    let said = w.asked("deny")?;
    ensure!(
        said["operation"] == "CONNECT"
            && said["subResource"] == "attach"
            && said["name"] == "p"
            && said["kind"]["kind"] == "PodAttachOptions"
            && said["object"]["container"] == "c",
        "{said}"
    );
    // Nobody asks about exec; and a webhook may choose what is run.
    ensure!(w.ns.must("exec p -- echo mine")? == "mine\n", "exec");
    w.configure("Mutating", &[w.hook("command", &["CONNECT"], "core/pods/exec", json!({}))])?;
    ensure!(w.ns.must("exec p -- echo mine")? == "from the webhook\n", "a changed command");
    w.finish()
}

pub fn not_about_themselves(c: &Cluster) -> Result<()> {
    let w = World::new(c, "webhook-self")?;
    let everything = json!({
        "rules": [{"operations": ["*"], "apiGroups": ["admissionregistration.k8s.io"], "apiVersions": ["*"], "resources": ["*"]}],
        "namespaceSelector": {},
    });
    w.configure("Validating", &[w.hook("deny", &["*"], "x", everything.clone())])?;
    w.configure("Mutating", &[w.hook("mark", &["*"], "x", everything)])?;
    for kind in ["Validating", "Mutating"] {
        let name = format!("{}-other", w.ns.name());
        let other = w.configuration(kind, &name, &[]);
        c.apply(&other.to_string())?;
        let resource = format!("{}webhookconfigurations", kind.to_lowercase());
        let kept = c.json(&["get", &resource, &name])?;
        ensure!(kept.get("data").is_none(), "{kept}");
        c.kubectl(&["delete", &resource, &name])?;
    }
    w.finish()
}

pub fn conditions(c: &Cluster) -> Result<()> {
    let w = World::new(c, "webhook-match")?;
    let conditions = json!([
        {"name": "expression-1", "expression": "object.metadata.name != 'left-alone'"},
        {"name": "expression-2", "expression": "request.userInfo.username != 'nobody'"},
    ]);
    let with = |path: &str, conditions: &Value| {
        w.hook(path, &["CREATE"], "configmaps", json!({"matchConditions": conditions}))
    };
    w.configure("Mutating", &[with("mark", &conditions)])?;
    for (name, want) in [("left-alone", ""), ("another", "yes")] {
        passes(&w.put(&config_map(name, json!({"x": "y"})))?)?;
        let got = w.ns.must(&format!("get configmap {name} -o jsonpath={{.data.marked}}"))?;
        ensure!(got == want, "{name}: {got:?}");
    }
    w.configure("Mutating", &[])?;
    for (kind, path) in [("Mutating", "mark"), ("Validating", "allow")] {
        let resource = format!("{}webhookconfigurations", kind.to_lowercase());
        // Kept as written, through an update.
        w.configure(kind, &[with(path, &conditions)])?;
        let mut kept = c.json(&["get", &resource, w.ns.name()])?;
        ensure!(kept["webhooks"][0]["matchConditions"] == conditions, "{kept}");
        let fewer = json!([{"name": "expression-3", "expression": "request.userInfo.username == 'x'"}]);
        kept["webhooks"][0]["matchConditions"] = fewer.clone();
        passes(&w.send(&["replace", "-f"], &kept)?)?;
        ensure!(c.json(&["get", &resource, w.ns.name()])?["webhooks"][0]["matchConditions"] == fewer, "not updated");
        // What doesn't compile is refused.
        let bad = json!([{"name": "invalid-expression-1", "expression": "... [] bad expression"}, {"name": "ok", "expression": "true"}]);
        let mut refused = w.configuration(kind, &format!("{}-bad", w.ns.name()), &[with(path, &bad)]);
        refused["metadata"]["name"] = format!("{}-bad", w.ns.name()).into();
        says(&w.put(&refused)?, "compilation failed")?;
    }
    // A condition that fails is a failure of the webhook.
    let failing = json!([{"name": "fails", "expression": "object.metadata.labels['missing'] == 'x'"}]);
    // `replace` noted the resourceVersion as applied; the next `apply` would take it away.
    c.kubectl(&["delete", "validatingwebhookconfigurations", w.ns.name()])?;
    w.configure("Validating", &[with("allow", &failing)])?;
    says(&w.put(&config_map("x", json!({})))?, "no such key")?;
    w.finish()
}

pub fn details(c: &Cluster) -> Result<()> {
    let w = World::new(c, "webhook-details")?;
    // Discovery has them.
    let found = c.kubectl(&["api-resources", "--api-group=admissionregistration.k8s.io", "-o", "name"])?;
    for kind in ["mutatingwebhookconfigurations", "validatingwebhookconfigurations"] {
        ensure!(found.contains(kind), "{found}");
    }
    for path in ["/apis", "/apis/admissionregistration.k8s.io", "/apis/admissionregistration.k8s.io/v1"] {
        ensure!(c.kubectl(&["get", "--raw", path])?.contains("admissionregistration.k8s.io/v1"), "{path}");
    }
    // Warnings reach the user; dry runs only webhooks that can bear them.
    w.configure("Validating", &[w.hook("warn", &["CREATE"], "configmaps", json!({}))])?;
    let d = w.put(&config_map("w", json!({})))?;
    ensure!(d.ok && d.stderr.contains("Warning: mind the gap"), "{}{}", d.stdout, d.stderr);
    let d = w.send(&["create", "--dry-run=server", "-f"], &config_map("dry", json!({})))?;
    passes(&d)?;
    ensure!(w.asked("warn")?["dryRun"] == true, "dryRun isn't told");
    // Subresources are asked about as what they are.
    w.configure(
        "Validating",
        &[w.hook("allow", &["*"], "x", json!({"rules": [
            {"operations": ["*"], "apiGroups": ["", "apps"], "apiVersions": ["*"], "resources": ["deployments/scale", "pods/eviction", "pods/binding", "serviceaccounts/token"]}]}))],
    )?;
    w.ns.must("create deployment web --image=shop/backend:v1")?;
    w.ns.must("rollout status deployment web --timeout=60s")?;
    let bound = w.asked("allow")?;
    ensure!(
        bound["kind"]["kind"] == "Binding"
            && bound["operation"] == "CREATE"
            && bound["object"]["target"]["name"] == "node1"
            || bound["kind"]["kind"] == "TokenRequest",
        "{bound}"
    );
    w.ns.must("scale deployment web --replicas=0")?;
    let scaled = w.asked("allow")?;
    ensure!(
        scaled["kind"] == json!({"group": "autoscaling", "version": "v1", "kind": "Scale"})
            && scaled["subResource"] == "scale"
            && scaled["object"]["spec"]["replicas"].as_i64().unwrap_or(0) == 0
            && scaled["oldObject"]["spec"]["replicas"] == 1,
        "{scaled}"
    );
    w.ns.must("create token default")?;
    let asked = w.asked("allow")?;
    ensure!(asked["kind"]["kind"] == "TokenRequest" && asked["subResource"] == "token", "{asked}");
    // The API server as its own webhook is asked as itself, who may everything; what it is asked here it can't read.
    let own = json!({"service": {"namespace": "default", "name": "kubernetes", "path": "/apis/authorization.k8s.io/v1/subjectaccessreviews"}});
    w.configure("Validating", &[w.hook("own", &["CREATE"], "configmaps", json!({"clientConfig": own}))])?;
    says(&w.put(&config_map("own", json!({})))?, "cannot be handled as a SubjectAccessReview")?;
    let metrics = c.kubectl(&["get", "--raw", "/metrics"])?;
    ensure!(
        metrics.contains("apiserver_admission_webhook_admission_duration_seconds_count{name=\"warn.example.com\",operation=\"CREATE\",rejected=\"false\",type=\"validating\"}"),
        "no metrics of webhooks"
    );
    w.finish()
}

/// What webhooks see of writes that the server completes, or that nothing is stored of.
pub fn before_completion(c: &Cluster) -> Result<()> {
    let w = World::new(c, "webhook-before")?;
    let rule = |groups: &[&str], resources: &[&str]| json!({"rules": [{"operations": ["CREATE"], "apiGroups": groups, "apiVersions": ["*"], "resources": resources}]});
    let all = rule(&["", "policy"], &["configmaps", "bindings", "serviceaccounts/token", "pods/eviction"]);
    // Reviews are of the whole cluster: only this scenario's own.
    let mut reviews = rule(&["authentication.k8s.io", "authorization.k8s.io"], &["*"]);
    let own = format!("'{}' in [object.metadata.?name.orValue(''), object.?spec.?user.orValue('')]", w.ns.name());
    reviews["matchConditions"] = json!([{"name": "own", "expression": own}]);
    reviews["name"] = "reviews.example.com".into();
    reviews["failurePolicy"] = "Ignore".into();
    w.configure("Mutating", &[w.hook("allow", &[], "x", all.clone()), w.hook("warn", &[], "x", reviews)])?;
    w.configure("Validating", &[w.hook("deny", &[], "x", rule(&[""], &["configmaps"]))])?;

    // A name, uid and time are given after the mutating half; the validating half knows them.
    let mut generated = config_map("", json!({}));
    generated["metadata"] = json!({"generateName": "many-"});
    says(&w.put(&generated)?, "admission webhook \"deny.example.com\" denied the request")?;
    let (first, last) = (w.asked("allow")?, w.asked("deny")?);
    let meta = |review: &Value, field: &str| review["object"]["metadata"][field].as_str().unwrap_or("").to_string();
    ensure!(
        first.get("name").is_none() && ["name", "uid", "creationTimestamp"].iter().all(|f| meta(&first, f).is_empty()),
        "{first}"
    );
    let name = meta(&last, "name");
    ensure!(name.starts_with("many-") && last["name"] == name.as_str() && meta(&last, "uid").len() == 36, "{last}");

    w.ns.must("create token default")?;
    let token = w.asked("allow")?;
    ensure!(
        meta(&token, "namespace") == w.ns.name() && token["object"]["spec"]["expirationSeconds"] == 3600,
        "{token}"
    );
    let owner = &token["object"]["metadata"]["managedFields"][0];
    ensure!(
        owner["subresource"] == "token" && owner["apiVersion"] == "authentication.k8s.io/v1",
        "{owner} owns nothing"
    );
    let path = |of: &str| format!("/api/v1/namespaces/{}/{of}", w.ns.name());
    let post = |path: &str, object: Value| {
        let name = format!("{}.json", object["kind"].as_str().unwrap_or("x"));
        w.ns.kubectl(&["create", "--raw", path, "-f", &w.ns.file(&name, &object.to_string())?])
    };
    let nobody = json!({"name": "nobody"});
    let target = json!({"kind": "Node", "name": "node1"});
    let bound =
        post(&path("bindings"), json!({"apiVersion": "v1", "kind": "Binding", "metadata": nobody, "target": target}))?;
    says(&bound, "pods \"nobody\" not found")?;
    let binding = w.asked("allow")?;
    ensure!(binding["resource"]["resource"] == "bindings" && binding.get("subResource").is_none(), "{binding}");
    let evicted = post(
        &path("pods/nobody/eviction"),
        json!({"apiVersion": "policy/v1", "kind": "Eviction", "metadata": nobody}),
    )?;
    says(&evicted, "pods \"nobody\" not found")?;
    ensure!(meta(&w.asked("allow")?, "namespace") == w.ns.name());

    // Reviews are asked about, and warnings of theirs are told.
    let named = json!({"name": w.ns.name()});
    for (group, kind, metadata, spec) in [
        ("authentication.k8s.io", "TokenReview", &named, json!({"token": "x"})),
        ("authentication.k8s.io", "SelfSubjectReview", &named, json!({})),
        ("authorization.k8s.io", "SelfSubjectRulesReview", &named, json!({"namespace": "default"})),
        (
            "authorization.k8s.io",
            "SubjectAccessReview",
            &json!({}),
            json!({"user": w.ns.name(), "resourceAttributes": {"verb": "get", "resource": "pods"}}),
        ),
    ] {
        let mut review = json!({"apiVersion": format!("{group}/v1"), "kind": kind, "metadata": metadata});
        if spec != json!({}) {
            review["spec"] = spec;
        }
        let d = post(&format!("/apis/{group}/v1/{}s", kind.to_lowercase()), review)?;
        passes(&d)?;
        ensure!(w.asked("warn")?["kind"]["kind"] == kind, "{kind} wasn't asked about");
    }
    w.finish()
}

pub fn in_a_pod(c: &Cluster) -> Result<()> {
    image::import(c)?;
    let w = World::new(c, "webhook-pod")?;
    let ca = Authority::new("e2e webhooks")?;
    let (cert, key) = ca.issue(&[&format!("hook.{}.svc", w.ns.name())])?;
    let (cert, key) = (w.ns.file("tls.crt", &cert)?, w.ns.file("tls.key", &key)?);
    w.ns.must(&format!("create secret tls certs --cert={cert} --key={key}"))?;
    super::pods::apply(&w.ns, include_str!("../../testdata/extension.yaml"))?;
    w.ns.must("rollout status deployment hook --timeout=60s")?;
    let config = json!({
        "service": {"namespace": w.ns.name(), "name": "hook", "path": "/webhook/deny"}, "caBundle": STANDARD.encode(&ca.cert_pem),
    });
    w.configure("Validating", &[w.hook("deny", &["CREATE"], "configmaps", json!({"clientConfig": config}))])?;
    c.wait(Duration::from_secs(20), "the webhook's endpoint", || {
        Ok(w.put(&config_map("x", json!({})))?.stderr.contains("denied the request: this webhook denies all requests"))
    })?;
    // Its pod goes: the webhook fails, and its next pod is found.
    w.ns.must("scale deployment hook --replicas=0")?;
    c.wait(Duration::from_secs(20), "no endpoint", || {
        Ok(w.put(&config_map("x", json!({})))?.stderr.contains("no endpoints available for service \"hook\""))
    })?;
    w.ns.must("scale deployment hook --replicas=1")?;
    c.wait(Duration::from_secs(30), "the webhook's next endpoint", || {
        Ok(w.put(&config_map("x", json!({})))?.stderr.contains("this webhook denies all requests"))
    })?;
    w.finish()
}

/// Ports and proxies are opened only when webhooks agree, and they are told of what.
pub fn connect_to_ports(c: &Cluster) -> Result<()> {
    let w = World::new(c, "webhook-ports")?;
    let pod = json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "p", "labels": {"app": "p"}},
        "spec": {"terminationGracePeriodSeconds": 0, "containers": [{"name": "c", "image": "skiff.local/hello",
            "imagePullPolicy": "Never", "ports": [{"containerPort": 8080}]}]}});
    passes(&w.put(&pod)?)?;
    w.ns.must("create service clusterip p --tcp=80:8080")?;
    w.ns.must("label pod p app=p --overwrite")?;
    w.ns.must("wait --for=condition=Ready pod/p --timeout=30s")?;
    let paths = [("pods", "p:8080"), ("services", "p:80")];
    let get = |kind: &str, name: &str| {
        c.kubectl_run(&["get", "--raw", &format!("/api/v1/namespaces/{}/{kind}/{name}/proxy/some/path", w.ns.name())])
    };
    for (kind, name) in paths {
        c.wait(Duration::from_secs(20), "the proxy to answer", || Ok(get(kind, name)?.ok))?;
    }
    let resources = json!(["pods/portforward", "pods/proxy", "services/proxy"]);
    let rules = json!([{"operations": ["CONNECT"], "apiGroups": [""], "apiVersions": ["v1"], "resources": resources}]);
    w.configure("Validating", &[w.hook("deny", &["CONNECT"], "core/pods/proxy", json!({"rules": rules}))])?;
    let told = |subresource: &str, kind: &str, path: &str| -> Result<()> {
        let said = w.asked("deny")?;
        ensure!(
            said["operation"] == "CONNECT" && said["subResource"] == subresource && said["object"]["kind"] == kind,
            "{said}"
        );
        ensure!(path.is_empty() || said["object"]["path"] == path, "{said}");
        Ok(())
    };
    for (kind, name) in paths {
        says(&get(kind, name)?, "this webhook denies all requests")?;
        told("proxy", if kind == "pods" { "PodProxyOptions" } else { "ServiceProxyOptions" }, "/some/path")?;
    }
    let forward =
        c.run(&["timeout", "15", &w.ns.kubectl_path(), "-n", w.ns.name(), "port-forward", "p", "18099:8080"])?;
    says(&forward, "this webhook denies all requests")?;
    told("portforward", "PodPortForwardOptions", "")?;
    // kubectl names the port of each stream later; others do in the query.
    let path = format!("/api/v1/namespaces/{}/pods/p/portforward?ports=8080&ports=9090", w.ns.name());
    says(&c.kubectl_run(&["get", "--raw", &path])?, "this webhook denies all requests")?;
    told("portforward", "PodPortForwardOptions", "")?;
    let said = w.asked("deny")?;
    ensure!(said["object"]["ports"] == json!([8080, 9090]), "{said}");
    w.configure("Validating", &[])?;
    for (kind, name) in paths {
        c.wait(Duration::from_secs(10), "the proxy to answer again", || Ok(get(kind, name)?.ok))?;
    }
    w.finish()
}
