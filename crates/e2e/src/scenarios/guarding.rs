//! The API server guards itself: fairness between its clients, limits, audit, encryption at rest, stops without harm.

use crate::cluster::Cluster;
use crate::scenarios::encryption::on_disk;
use crate::wire::{Access, Connection, Who};
use anyhow::{Context, Result, ensure};
use base64::Engine;
use serde_json::{Value, json};
use std::path::Path;
use std::time::{Duration, Instant};
use tokio::io::AsyncWriteExt;

const FLOW: &str = "/apis/flowcontrol.apiserver.k8s.io/v1";
const SCHEMA_UID: &str = "x-kubernetes-pf-flowschema-uid";
const LEVEL_UID: &str = "x-kubernetes-pf-prioritylevel-uid";

async fn must(api: &mut Connection, method: &str, path: &str, body: &Value) -> Result<Value> {
    let body = if body.is_null() { String::new() } else { body.to_string() };
    let r = api.send(method, path, &[("content-type", "application/json")], body).await?;
    ensure!(r.code < 300, "{method} {path}: {} {}", r.code, r.text());
    Ok(r.json())
}

/// Asks until the answer is as wished.
async fn until(what: &str, mut ask: impl AsyncFnMut() -> Result<bool>) -> Result<()> {
    let began = Instant::now();
    while !ask().await? {
        ensure!(began.elapsed() < Duration::from_secs(10), "{what}: not within ten seconds");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    Ok(())
}

/// A request that holds its seat: its body never comes.
async fn holds_a_seat(access: &Access, user: &str) -> Result<impl Sized + use<>> {
    let mut io = access.tls(&Who::Admin, "http/1.1").await?;
    let head = format!(
        "POST /api/v1/namespaces/guarding/configmaps HTTP/1.1\r\nhost: x\r\nimpersonate-user: {user}\r\n\
         content-type: application/json\r\ncontent-length: 100\r\n\r\n"
    );
    io.write_all(head.as_bytes()).await?;
    io.flush().await?;
    Ok(io)
}

fn level(name: &str, shares: u64, response: Value) -> Value {
    json!({"apiVersion": "flowcontrol.apiserver.k8s.io/v1", "kind": "PriorityLevelConfiguration",
        "metadata": {"name": name}, "spec": {"type": "Limited", "limited": {"nominalConcurrencyShares": shares,
        "lendablePercent": 0, "borrowingLimitPercent": 0, "limitResponse": response}}})
}

fn schema(name: &str, level: &str, user: &str) -> Value {
    json!({"apiVersion": "flowcontrol.apiserver.k8s.io/v1", "kind": "FlowSchema", "metadata": {"name": name},
        "spec": {"matchingPrecedence": 300, "priorityLevelConfiguration": {"name": level},
        "distinguisherMethod": {"type": "ByUser"},
        "rules": [{"subjects": [{"kind": "User", "user": {"name": user}}],
            "resourceRules": [{"verbs": ["*"], "apiGroups": ["*"], "resources": ["*"], "namespaces": ["*"],
                               "clusterScope": true}]}]}})
}

pub fn fairness_limits_who_asks_too_much(c: &Cluster) -> Result<()> {
    c.access()?.inside(async |access| {
        let mut api = access.http1(&Who::Admin).await?;
        let _ = api.json("POST", "/api/v1/namespaces", &json!({"metadata": {"name": "guarding"}})).await?;
        let rights = json!({"metadata": {"name": "guarding"}, "roleRef": {"apiGroup": "rbac.authorization.k8s.io",
            "kind": "ClusterRole", "name": "edit"}, "subjects": [{"kind": "User", "name": "guarded",
            "apiGroup": "rbac.authorization.k8s.io"}]});
        must(&mut api, "POST", "/apis/rbac.authorization.k8s.io/v1/namespaces/guarding/rolebindings", &rights).await?;
        // Whoever nobody has named belongs to global-default, and is told so.
        let as_guarded = [("impersonate-user", "guarded")];
        let pods = "/api/v1/namespaces/guarding/pods";
        let r = api.send("GET", pods, &as_guarded, "").await?;
        for (header, path) in [(SCHEMA_UID, "flowschemas"), (LEVEL_UID, "prioritylevelconfigurations")] {
            let object = must(&mut api, "GET", &format!("{FLOW}/{path}/global-default"), &Value::Null).await?;
            let told = r.headers.get(header).map(|v| v.as_bytes());
            ensure!(told == object["metadata"]["uid"].as_str().map(str::as_bytes), "{header}: {told:?}");
        }
        // A schema that names a level which doesn't exist says so, and matches nothing.
        let path = format!("{FLOW}/flowschemas/guarding");
        must(&mut api, "POST", &format!("{FLOW}/flowschemas"), &schema("guarding", "guarding", "guarded")).await?;
        let dangling = async |api: &mut Connection, status: &str| -> Result<bool> {
            let s = must(api, "GET", &path, &Value::Null).await?;
            Ok(s["status"]["conditions"].as_array().is_some_and(|c| {
                c.iter().any(|c| c["type"] == "Dangling" && c["status"] == status)
            }))
        };
        until("the schema is dangling", async || dangling(&mut api, "True").await).await?;
        let tiny = level("guarding", 0, json!({"type": "Reject"}));
        let made = must(&mut api, "POST", &format!("{FLOW}/prioritylevelconfigurations"), &tiny).await?;
        until("the schema isn't dangling any more", async || dangling(&mut api, "False").await).await?;
        let uid = made["metadata"]["uid"].as_str().context("no uid")?.to_string();
        until("the new schema takes effect", async || {
            let r = api.send("GET", pods, &as_guarded, "").await?;
            Ok(r.headers.get(LEVEL_UID).is_some_and(|v| v.as_bytes() == uid.as_bytes()))
        })
        .await?;
        // One request holds the level's only seat: the next is refused, and others notice nothing.
        let held = holds_a_seat(access, "guarded").await?;
        let mut refused = None;
        until("a second request is refused", async || {
            let r = api.send("GET", pods, &as_guarded, "").await?;
            let full = r.code == 429;
            refused = Some(r);
            Ok(full)
        })
        .await?;
        let refused = refused.context("no answer")?;
        ensure!(refused.text() == "Too many requests, please try again later.\n", "{}", refused.text());
        ensure!(refused.headers.get("retry-after").is_some_and(|v| v == "1"), "no Retry-After");
        ensure!(refused.headers.contains_key(LEVEL_UID), "the refused aren't told by whom");
        let r = api.send("GET", pods, &[("impersonate-user", "somebody")], "").await?;
        ensure!(r.code == 403, "others are served: {}", r.code);
        // With queues the request waits, and is served when the seat comes free. The change is live.
        let queue = json!({"type": "Queue", "queuing": {"queues": 2, "handSize": 1, "queueLengthLimit": 5}});
        let mut wide = must(&mut api, "GET", &format!("{FLOW}/prioritylevelconfigurations/guarding"), &Value::Null).await?;
        wide["spec"] = level("guarding", 0, queue)["spec"].clone();
        must(&mut api, "PUT", &format!("{FLOW}/prioritylevelconfigurations/guarding"), &wide).await?;
        let mut other = access.http1(&Who::Admin).await?;
        tokio::time::sleep(Duration::from_millis(300)).await;
        let waits = tokio::spawn(async move { other.send("GET", pods, &[("impersonate-user", "guarded")], "").await });
        until("a request waits in a queue", async || {
            let r = api.get("/debug/api_priority_and_fairness/dump_requests?includeRequestDetails=1").await?;
            Ok(r.text().lines().any(|l| l.starts_with("guarding,") && l.contains("guarded") && l.contains("pods")))
        })
        .await?;
        drop(held);
        let r = waits.await??;
        ensure!(r.code == 200, "the request that waited: {} {}", r.code, r.text());
        let dump = api.get("/debug/api_priority_and_fairness/dump_priority_levels").await?.text();
        ensure!(dump.starts_with("PriorityLevelName, ") && dump.contains("\nguarding, "), "{dump}");
        let metrics = api.get("/metrics").await?.text();
        for name in [
            "apiserver_flowcontrol_rejected_requests_total{flow_schema=\"guarding\",priority_level=\"guarding\",reason=\"concurrency-limit\"}",
            "apiserver_flowcontrol_dispatched_requests_total{flow_schema=\"guarding\"",
            "apiserver_flowcontrol_nominal_limit_seats{priority_level=\"workload-low\"} 2",
        ] {
            ensure!(metrics.contains(name), "metrics lack {name}");
        }
        for path in ["flowschemas", "prioritylevelconfigurations"] {
            must(&mut api, "DELETE", &format!("{FLOW}/{path}/guarding"), &Value::Null).await?;
        }
        must(&mut api, "DELETE", "/api/v1/namespaces/guarding", &Value::Null).await?;
        Ok(())
    })
}

pub fn flow_control_objects_are_kept(c: &Cluster) -> Result<()> {
    c.access()?.inside(async |access| {
        let mut api = access.http1(&Who::Admin).await?;
        for (kind, name) in [("flowschemas", "catch-all"), ("prioritylevelconfigurations", "leader-election")] {
            let path = format!("{FLOW}/{kind}/{name}");
            let before = must(&mut api, "GET", &path, &Value::Null).await?;
            must(&mut api, "DELETE", &path, &Value::Null).await?;
            until(&format!("{name} is made again"), async || {
                let r = api.get(&path).await?;
                Ok(r.code == 200 && r.json()["metadata"]["uid"] != before["metadata"]["uid"])
            })
            .await?;
        }
        // Suggested objects are the user's once their annotation says so; mandatory ones never are.
        for (name, stays) in [("workload-low", true), ("catch-all", false)] {
            let path = format!("{FLOW}/prioritylevelconfigurations/{name}");
            let patch = json!({"metadata": {"annotations": {"apf.kubernetes.io/autoupdate-spec": "false"}},
                "spec": {"limited": {"nominalConcurrencyShares": 77}}});
            let r = api
                .send("PATCH", &path, &[("content-type", "application/merge-patch+json")], patch.to_string())
                .await?;
            if !stays {
                let text = "spec of 'catch-all' must equal the fixed value";
                ensure!(r.code == 422 && r.text().contains(text), "{} {}", r.code, r.text());
                continue;
            }
            ensure!(r.code == 200, "{} {}", r.code, r.text());
            tokio::time::sleep(Duration::from_millis(500)).await;
            let now = must(&mut api, "GET", &path, &Value::Null).await?;
            ensure!(now["spec"]["limited"]["nominalConcurrencyShares"] == 77, "{name}: {now}");
        }
        let back = json!({"metadata": {"annotations": {"apf.kubernetes.io/autoupdate-spec": "true"}}});
        let path = format!("{FLOW}/prioritylevelconfigurations/workload-low");
        api.send("PATCH", &path, &[("content-type", "application/merge-patch+json")], back.to_string()).await?;
        until("workload-low follows the server again", async || {
            Ok(must(&mut api, "GET", &path, &Value::Null).await?["spec"]["limited"]["nominalConcurrencyShares"] == 100)
        })
        .await
    })
}

/// The conformance tests of both kinds: discovery, every verb, status, watch, deletecollection.
fn api_of(c: &Cluster, plural: &'static str, object: Value) -> Result<()> {
    c.access()?.inside(async |access| {
        let mut api = access.http1(&Who::Admin).await?;
        let group = must(&mut api, "GET", "/apis/flowcontrol.apiserver.k8s.io", &Value::Null).await?;
        ensure!(group["preferredVersion"]["version"] == "v1", "{group}");
        let list = must(&mut api, "GET", FLOW, &Value::Null).await?;
        for name in [plural.to_string(), format!("{plural}/status")] {
            ensure!(list["resources"].as_array().is_some_and(|r| r.iter().any(|r| r["name"] == *name)), "no {name}");
        }
        let all = format!("{FLOW}/{plural}");
        let selected = format!("{all}?labelSelector=guarding%3Dconformance");
        let mut object = object;
        object["metadata"] = json!({"name": format!("e2e-{plural}"), "labels": {"guarding": "conformance"}});
        let path = format!("{all}/e2e-{plural}");
        let made = must(&mut api, "POST", &all, &object).await?;
        ensure!(must(&mut api, "GET", &path, &Value::Null).await?["metadata"]["uid"] == made["metadata"]["uid"], "get");
        ensure!(
            must(&mut api, "GET", &selected, &Value::Null).await?["items"].as_array().map(Vec::len) == Some(1),
            "list"
        );
        let version = made["metadata"]["resourceVersion"].as_str().unwrap_or_default().to_string();
        let merge = [("content-type", "application/merge-patch+json")];
        let patch = json!({"metadata": {"annotations": {"patched": "true"}}}).to_string();
        ensure!(
            api.send("PATCH", &path, &merge, patch).await?.json()["metadata"]["annotations"]["patched"] == "true",
            "patch"
        );
        // Without a version: the server writes its own condition meanwhile.
        let mut now = must(&mut api, "GET", &path, &Value::Null).await?;
        now["metadata"]["resourceVersion"] = Value::Null;
        now["metadata"]["annotations"]["updated"] = "true".into();
        ensure!(must(&mut api, "PUT", &path, &now).await?["metadata"]["annotations"]["updated"] == "true", "update");
        let condition = json!({"status": {"conditions": [{"type": "PatchStatusFailed", "status": "False",
            "reason": "E2E", "message": "set by the test"}]}});
        let status = format!("{path}/status");
        let r = api.send("PATCH", &status, &merge, condition.to_string()).await?;
        ensure!(r.code == 200 && r.text().contains("PatchStatusFailed"), "status patch: {} {}", r.code, r.text());
        let mut now = must(&mut api, "GET", &status, &Value::Null).await?;
        now["metadata"]["resourceVersion"] = Value::Null;
        now["status"]["conditions"][0]["reason"] = "Updated".into();
        must(&mut api, "PUT", &status, &now).await?;
        let watched = format!("{selected}&watch=1&timeoutSeconds=1&resourceVersion={version}");
        let events = api.get(&watched).await?.text();
        ensure!(events.contains("MODIFIED") && events.contains("updated"), "watch: {events}");
        must(&mut api, "DELETE", &path, &Value::Null).await?;
        ensure!(api.get(&path).await?.code == 404, "deleted");
        must(&mut api, "POST", &all, &object).await?;
        must(&mut api, "DELETE", &selected, &Value::Null).await?;
        ensure!(
            must(&mut api, "GET", &selected, &Value::Null).await?["items"].as_array().map(Vec::len) == Some(0),
            "deletecollection"
        );
        Ok(())
    })
}

pub fn flow_schema_api(c: &Cluster) -> Result<()> {
    api_of(c, "flowschemas", schema("", "global-default", "e2e-nobody"))
}

pub fn priority_level_configuration_api(c: &Cluster) -> Result<()> {
    api_of(c, "prioritylevelconfigurations", level("", 2, json!({"type": "Reject"})))
}

pub fn requests_have_limits(c: &Cluster) -> Result<()> {
    c.access()?.inside(async |access| {
        let mut api = access.http1(&Who::Admin).await?;
        let r = api.get("/api/v1/namespaces?timeout=soon").await?;
        ensure!(r.code == 400 && r.text().contains("invalid timeout specified in the request URL"), "{}", r.text());
        ensure!(api.get("/api/v1/namespaces?timeout=5s").await?.code == 200, "a good timeout");
        let began = Instant::now();
        let mut slow = access.tls(&Who::Admin, "http/1.1").await?;
        slow.write_all(b"POST /api/v1/namespaces?timeout=300ms HTTP/1.1\r\nhost: x\r\ncontent-length: 10\r\n\r\n")
            .await?;
        let mut answer = [0u8; 12];
        tokio::time::timeout(Duration::from_secs(5), tokio::io::AsyncReadExt::read_exact(&mut slow, &mut answer))
            .await??;
        ensure!(&answer == b"HTTP/1.1 504" && began.elapsed() < Duration::from_secs(3), "{answer:?}");
        let large = format!("{{\"x\":\"{}\"}}", "x".repeat(3 << 20));
        let json = [("content-type", "application/json")];
        let r = api.send("POST", "/api/v1/namespaces", &json, large).await?;
        ensure!(r.code == 413 && r.json()["reason"] == "RequestEntityTooLarge", "{} {}", r.code, r.text());
        // More bodies than one connection may leave unread, had they been left unread.
        let mut h2 = access.http2(&Who::Nobody).await?;
        let body = "x".repeat(20_000);
        for i in 0..1500 {
            let r = h2
                .send("POST", "/api/v1/namespaces", &json, body.clone())
                .await
                .with_context(|| format!("request {i}"))?;
            ensure!(r.code == 401, "request {i}: {}", r.code);
        }
        // What is asked is known by a name, the client's or ours.
        let r = api.send("GET", "/version", &[("audit-id", "my-name")], "").await?;
        ensure!(r.headers.get("audit-id").is_some_and(|v| v == "my-name"), "{:?}", r.headers);
        ensure!(api.get("/version").await?.headers.get("audit-id").is_some_and(|v| v.len() == 36), "no Audit-Id");
        Ok(())
    })
}

pub fn health_is_told_by_name(c: &Cluster) -> Result<()> {
    c.access()?.inside(async |access| {
        let mut api = access.http1(&Who::Nobody).await?;
        let text = api.get("/readyz?verbose").await?.text();
        for line in [
            "[+]ping ok",
            "[+]etcd ok",
            "[+]etcd-readiness ok",
            "[+]informer-sync ok",
            "[+]shutdown ok",
            "readyz check passed",
        ] {
            ensure!(text.lines().any(|l| l == line), "{line} is missing:\n{text}");
        }
        let text = api.get("/livez?verbose&exclude=etcd&exclude=nothing").await?.text();
        for line in [
            "[+]etcd excluded: ok",
            "warn: some health checks cannot be excluded: no matches for \"nothing\"",
            "livez check passed",
        ] {
            ensure!(text.lines().any(|l| l == line), "{line} is missing:\n{text}");
        }
        ensure!(!text.contains("shutdown"), "livez isn't about shutdown:\n{text}");
        let mut api = access.http1(&Who::Admin).await?;
        ensure!(api.get("/readyz/ping").await?.text() == "ok", "one check by name");
        ensure!(api.get("/readyz/nothing").await?.code == 404, "no such check");
        Ok(())
    })
}

pub fn audit_records_what_the_policy_says(c: &Cluster) -> Result<()> {
    let (policy, log) = (c.dir().join("policy.yaml"), c.dir().join("audit/audit.log"));
    std::fs::write(
        &policy,
        "apiVersion: audit.k8s.io/v1\nkind: Policy\nomitStages: [RequestReceived]\nomitManagedFields: true\nrules:\n\
         - {level: None, userGroups: ['system:nodes', 'system:serviceaccounts']}\n\
         - {level: None, users: ['system:kube-scheduler', 'system:kube-controller-manager', 'system:apiserver']}\n\
         - {level: RequestResponse, resources: [{group: '', resources: [configmaps, pods]}], namespaces: [default]}\n\
         - {level: Metadata, resources: [{group: '', resources: [secrets]}]}\n\
         - {level: None, nonResourceURLs: ['*']}\n- {level: Metadata}\n",
    )?;
    let flag = |name: &str, p: &Path| format!("--{name}={}", p.display());
    c.serve(&["--disable-agent", &flag("audit-policy-file", &policy), &flag("audit-log-path", &log)])?;
    c.wait_api()?;
    c.kubectl(&["create", "configmap", "watched", "--from-literal=a=b"])?;
    c.kubectl(&["create", "secret", "generic", "hidden", "--from-literal=a=very-secret"])?;
    c.kubectl(&[
        "label",
        "namespace",
        "default",
        "pod-security.kubernetes.io/audit=restricted",
        "pod-security.kubernetes.io/enforce=baseline",
    ])?;
    c.wait(Duration::from_secs(20), "the default service account", || {
        Ok(c.kubectl_run(&["get", "sa", "default"])?.ok)
    })?;
    c.kubectl(&["run", "judged", "--image=x"])?;
    c.kubectl_run(&["get", "secrets", "--as=jane"])?;
    c.access()?.inside(async |access| {
        let mut api = access.http1(&Who::Token("nobody-knows".into())).await?;
        ensure!(api.get("/api/v1/secrets").await?.code == 401, "a bad token");
        let mut api = access.http1(&Who::Admin).await?;
        api.send("GET", "/api/v1/namespaces/default/configmaps/gone", &[("audit-id", "find-me")], "").await?;
        api.get("/api/v1/secrets?watch=1&timeoutSeconds=1").await?;
        Ok(())
    })?;
    let text = std::fs::read_to_string(&log)?;
    let events = text.lines().map(serde_json::from_str).collect::<Result<Vec<Value>, _>>()?;
    let one = |what: &str, f: &dyn Fn(&Value) -> bool| {
        events.iter().find(|e| f(e)).cloned().with_context(|| format!("no event of {what} in\n{text}"))
    };
    let e = one("the ConfigMap", &|e| {
        e["verb"] == "create" && e["objectRef"]["resource"] == "configmaps" && e["objectRef"]["name"] == "watched"
    })?;
    ensure!(e["kind"] == "Event" && e["apiVersion"] == "audit.k8s.io/v1" && e["level"] == "RequestResponse", "{e}");
    ensure!(e["stage"] == "ResponseComplete" && e["responseStatus"]["code"] == 201, "{e}");
    ensure!(e["requestObject"]["data"]["a"] == "b" && e["responseObject"]["metadata"]["uid"].is_string(), "{e}");
    ensure!(e["responseObject"]["metadata"]["managedFields"].is_null(), "managed fields are omitted: {e}");
    ensure!(e["annotations"]["authorization.k8s.io/decision"] == "allow", "{e}");
    ensure!(e["user"]["groups"].as_array().is_some_and(|g| g.contains(&json!("system:masters"))), "{e}");
    ensure!(
        e["sourceIPs"] == json!(["127.0.0.1"]) && e["userAgent"].as_str().is_some_and(|u| u.starts_with("kubectl")),
        "{e}"
    );
    let e = one("the Secret", &|e| e["verb"] == "create" && e["objectRef"]["resource"] == "secrets")?;
    ensure!(e["level"] == "Metadata" && e["requestObject"].is_null(), "{e}");
    ensure!(!text.contains("very-secret") && !text.contains("dmVyeS1zZWNyZXQ="), "the log holds a Secret");
    let e = one("the pod", &|e| e["verb"] == "create" && e["objectRef"]["resource"] == "pods")?;
    ensure!(e["annotations"]["pod-security.kubernetes.io/enforce-policy"] == "baseline:latest", "{e}");
    ensure!(
        e["annotations"]["pod-security.kubernetes.io/audit-violations"]
            .as_str()
            .is_some_and(|v| v.contains("would violate PodSecurity \"restricted:latest\"")),
        "{e}"
    );
    let e = one("the refused", &|e| {
        e["impersonatedUser"]["username"] == "jane" && e["objectRef"]["resource"] == "secrets"
    })?;
    ensure!(
        e["annotations"]["authorization.k8s.io/decision"] == "forbid" && e["responseStatus"]["reason"] == "Forbidden",
        "{e}"
    );
    let e = one("the bad token", &|e| e["responseStatus"]["code"] == 401)?;
    ensure!(e["responseStatus"]["message"] == "Authentication failed, attempted: bearer", "{e}");
    let e = one("a name of its own", &|e| e["auditID"] == "find-me")?;
    ensure!(e["responseStatus"]["code"] == 404 && e["responseStatus"]["status"] == "Failure", "{e}");
    let stages: Vec<&str> = events
        .iter()
        .filter(|e| {
            e["verb"] == "watch"
                && e["objectRef"]["resource"] == "secrets"
                && e["user"]["username"] != "system:apiserver"
        })
        .filter_map(|e| e["stage"].as_str())
        .collect();
    ensure!(
        stages.contains(&"ResponseStarted") && stages.contains(&"ResponseComplete"),
        "a watch's stages: {stages:?}"
    );
    Ok(())
}

pub fn secrets_are_encrypted_on_disk(c: &Cluster) -> Result<()> {
    const PLAIN: &str = "not-for-strangers";
    let stored = base64::engine::general_purpose::STANDARD.encode(PLAIN);
    let file = c.dir().join("encryption.yaml");
    let flags = format!("--encryption-provider-config={}", file.display());
    let serve = |providers: &str| -> Result<()> {
        c.stop_server(libc::SIGTERM)?;
        std::fs::write(
            &file,
            format!(
                "apiVersion: apiserver.config.k8s.io/v1\nkind: EncryptionConfiguration\nresources:\n- resources: [secrets]\n  providers:\n{providers}"
            ),
        )?;
        c.serve(&["--disable-agent", &flags])?;
        c.wait_api()
    };
    let key = |byte: u8| base64::engine::general_purpose::STANDARD.encode([byte; 32]);
    let (one, two) = (key(1), key(2));
    serve(&format!("  - aescbc: {{keys: [{{name: one, secret: {one}}}]}}\n"))?;
    c.kubectl(&["create", "secret", "generic", "hidden", &format!("--from-literal=a={PLAIN}")])?;
    c.kubectl(&["create", "configmap", "open", "--from-literal=a=for-everybody"])?;
    ensure!(!on_disk(c, stored.as_bytes())? && on_disk(c, b"k8s:enc:aescbc:v1:one:")?, "the Secret lies there plain");
    ensure!(on_disk(c, b"for-everybody")?, "what isn't named is stored as it is");
    // Another key first: both are read, the new one writes, and a replace that changes nothing brings it all over.
    serve(&format!(
        "  - secretbox: {{keys: [{{name: two, secret: {two}}}]}}\n  - aescbc: {{keys: [{{name: one, secret: {one}}}]}}\n"
    ))?;
    let read = || c.kubectl(&["get", "secret", "hidden", "-o", "jsonpath={.data.a}"]);
    ensure!(read()? == stored, "read under a rotated key");
    let all = c.kubectl(&["get", "secrets", "-A", "-o", "json"])?;
    c.kubectl_input(&["replace", "-f", "-"], &all)?;
    ensure!(on_disk(c, b"k8s:enc:secretbox:v1:two:")?, "nothing was written under the new key");
    // The old key isn't needed any more.
    serve(&format!("  - secretbox: {{keys: [{{name: two, secret: {two}}}]}}\n"))?;
    ensure!(read()? == stored, "read without the old key");
    // Without the key nobody can read it, which is said; everything else goes on.
    serve(&format!("  - aesgcm: {{keys: [{{name: other, secret: {one}}}]}}\n"))?;
    for args in [&["get", "secret", "hidden"][..], &["get", "secrets"][..], &["delete", "secret", "hidden"][..]] {
        let e = c.kubectl_fails(args)?;
        ensure!(
            e.contains("unable to transform key") && e.contains("/registry/secrets/default/hidden"),
            "{args:?}: {e}"
        );
    }
    ensure!(c.kubectl(&["get", "configmap", "open", "-o", "jsonpath={.data.a}"])? == "for-everybody", "others");
    let ignore =
        json!({"kind": "DeleteOptions", "apiVersion": "v1", "ignoreStoreReadErrorWithClusterBreakingPotential": true});
    c.access()?.inside(async |access| {
        let mut api = access.http1(&Who::Admin).await?;
        must(&mut api, "DELETE", "/api/v1/namespaces/default/secrets/hidden", &ignore).await.map(drop)
    })?;
    ensure!(c.kubectl_fails(&["get", "secret", "hidden"])?.contains("not found"), "deleted unread");
    c.stop_server(libc::SIGTERM)?;
    // A configuration that is wrong is told, with the field and without the key.
    std::fs::write(
        &file,
        format!(
            "apiVersion: apiserver.config.k8s.io/v1\nkind: EncryptionConfiguration\nresources:\n- resources: [secrets]\n  providers: [{{aescbc: {{keys: [{{name: a, secret: {}}}]}}}}]\n",
            &one[..12]
        ),
    )?;
    let done = c.run(&[
        &c.tools.skiff.display().to_string(),
        "server",
        "--disable-agent",
        "--data-dir",
        &c.data_dir().display().to_string(),
        &flags,
    ])?;
    ensure!(
        !done.ok
            && done.stderr.contains("resources[0].providers[0].aescbc.keys[0].secret")
            && !done.stderr.contains(&one[..12]),
        "{}",
        done.stderr
    );
    Ok(())
}

pub fn stops_break_nobodys_request(c: &Cluster) -> Result<()> {
    c.serve(&["--shutdown-delay-duration=2s"])?;
    c.wait_api()?;
    c.wait_ready()?;
    let pid = c.server_pid().context("no server")?;
    c.access()?.inside(async |access| {
        let mut watcher = access.http1(&Who::Admin).await?;
        let watch = tokio::spawn(async move { watcher.send("GET", "/api/v1/pods?watch=1", &[], "").await });
        let mut api = access.http1(&Who::Admin).await?;
        tokio::time::sleep(Duration::from_millis(200)).await;
        nix::sys::signal::kill(nix::unistd::Pid::from_raw(pid as i32), nix::sys::signal::Signal::SIGTERM)?;
        until("readiness fails", async || Ok(api.get("/readyz").await?.code == 500)).await?;
        let text = api.get("/readyz").await?.text();
        ensure!(text.contains("[-]shutdown failed: reason withheld") && text.contains("readyz check failed"), "{text}");
        ensure!(
            api.get("/livez").await?.code == 200 && api.get("/api/v1/namespaces").await?.code == 200,
            "still served"
        );
        ensure!(!watch.is_finished(), "watches go on during the delay");
        let r = watch.await?.context("the watch broke off")?;
        ensure!(r.code == 200, "the watch: {}", r.code);
        Ok(())
    })?;
    c.stop_server(libc::SIGTERM)?;
    let log = std::fs::read_to_string(c.log())?;
    let told: Vec<&str> = log.lines().skip_while(|l| !l.contains("stopping; containers")).collect();
    let bad: Vec<&&str> = told.iter().filter(|l| l.contains("WARN") || l.contains("ERROR")).collect();
    ensure!(told.iter().any(|l| l.contains("stopped")) && bad.is_empty(), "the log of the stop: {bad:#?}");
    Ok(())
}
