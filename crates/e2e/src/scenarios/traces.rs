//! Traces of requests, as a collector gets them.

use crate::cluster::Cluster;
use crate::collector::{Collector, Span};
use crate::grpc::Listen;
use crate::peer::Peer;
use crate::wire::Who;
use anyhow::{Context, Result, ensure};
use base64::{Engine, engine::general_purpose::STANDARD};
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

const PATIENCE: Duration = Duration::from_secs(20);
const TRACE: &str = "4bf92f3577b34da6a3ce929d0e0e4736";
const FAILING: &str = "7bf92f3577b34da6a3ce929d0e0e4736";
const CREATION: &str = "POST /api/v1/namespaces/{:namespace}/configmaps";

fn parent(trace: &str, flags: &str) -> String {
    format!("00-{trace}-00f067aa0ba902b7-{flags}")
}

fn configured(c: &Cluster, endpoint: &str, rate: u32) -> Result<String> {
    let file = c.dir().join("tracing.yaml");
    std::fs::write(
        &file,
        format!(
            "apiVersion: apiserver.config.k8s.io/v1\nkind: TracingConfiguration\nendpoint: {endpoint}\nsamplingRatePerMillion: {rate}\n"
        ),
    )?;
    Ok(file.to_str().context("path")?.to_string())
}

pub fn requests_are_traced(c: &Cluster) -> Result<()> {
    // A mistake is told, with the field.
    let file = configured(c, "localhost:4317", 2_000_000)?;
    let said = c.start_fails(&["--disable-agent", "--tracing-config-file", &file])?;
    ensure!(
        said.contains("samplingRatePerMillion: Invalid value: 2000000: sampling rate per million must be"),
        "{said}"
    );

    // Nothing is chosen by chance: only what an administrator's client says shall be traced.
    let collector = Collector::start(Listen::Port(c.holder(), 4317))?;
    let file = configured(c, "localhost:4317", 0)?;
    c.serve(&["--disable-agent", "--tracing-config-file", &file])?;
    c.wait_api()?;
    let asked: Arc<Mutex<Vec<String>>> = Arc::default();
    let headers = asked.clone();
    let webhook = Peer::start_with_headers(
        c.holder(),
        Arc::new(move |_: &str, _: &str, h: &http::HeaderMap, review: Value| {
            let context = h.get("traceparent").and_then(|v| v.to_str().ok()).unwrap_or_default().to_string();
            if let Ok(mut all) = headers.lock() {
                all.push(context);
            }
            if review["request"]["name"] == "refused" {
                return (500, json!({}));
            }
            let answer = json!({"uid": review["request"]["uid"], "allowed": true});
            (200, json!({"apiVersion": "admission.k8s.io/v1", "kind": "AdmissionReview", "response": answer}))
        }),
    )?;
    let hook = json!({"apiVersion": "admissionregistration.k8s.io/v1", "kind": "ValidatingWebhookConfiguration",
        "metadata": {"name": "traced"}, "webhooks": [{"name": "traced.example.org", "sideEffects": "None",
            "admissionReviewVersions": ["v1"], "failurePolicy": "Fail",
            "clientConfig": {"url": format!("{}/judge", webhook.url()), "caBundle": STANDARD.encode(&webhook.ca_pem)},
            "rules": [{"operations": ["CREATE"], "apiGroups": [""], "apiVersions": ["v1"], "resources": ["configmaps"]}]}]});
    let map = json!({"metadata": {"name": "traced"}});
    let maps = "/api/v1/namespaces/default/configmaps";
    let json = ("content-type", "application/json");
    c.access()?.inside(async |access| {
        let mut api = access.http1(&Who::Admin).await?;
        let r =
            api.json("POST", "/apis/admissionregistration.k8s.io/v1/validatingwebhookconfigurations", &hook).await?;
        ensure!(r.code == 201, "{}", r.text());
        // Until the webhook is asked.
        for i in 0.. {
            let mut probe = map.clone();
            probe["metadata"]["name"] = format!("probe-{i}").into();
            ensure!(api.json("POST", maps, &probe).await?.code == 201, "probe");
            if asked.lock().is_ok_and(|a| !a.is_empty()) {
                break;
            }
            ensure!(i < 100, "the webhook is never asked");
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        let sampled = parent(TRACE, "01");
        let told = [json, ("traceparent", sampled.as_str()), ("audit-id", "traced-one")];
        let r = api.send("POST", &format!("{maps}?pretty=false"), &told, map.to_string()).await?;
        ensure!(r.code == 201, "{}", r.text());
        // One that fails, and with it the call to the webhook.
        let sampled = parent(FAILING, "01");
        let refused = json!({"metadata": {"name": "refused"}}).to_string();
        ensure!(
            api.send("POST", maps, &[json, ("traceparent", &sampled)], refused).await?.code == 500,
            "the webhook broke"
        );
        // Not sampled, as the client says; and somebody whose word doesn't count.
        let unsampled = parent(&TRACE.replace("4b", "5b"), "00");
        ensure!(api.send("GET", maps, &[("traceparent", &unsampled)], "").await?.code == 200, "get");
        let mut nobody = access.http1(&Who::Nobody).await?;
        let stranger = parent(&TRACE.replace("4b", "6b"), "01");
        ensure!(nobody.send("GET", "/version", &[("traceparent", &stranger)], "").await?.code == 200, "version");
        Ok(())
    })?;
    let of = |trace: &str| collector.spans().into_iter().filter(|s| s.trace == trace).collect::<Vec<Span>>();
    c.wait(PATIENCE, "the spans", || Ok([TRACE, FAILING].iter().all(|t| of(t).iter().any(|s| s.kind == 2))))?;
    let failed: BTreeMap<String, bool> = of(FAILING).into_iter().map(|s| (s.name, s.failed)).collect();
    for (name, fails) in [(CREATION, true), ("HTTP POST", true), ("Create", false)] {
        ensure!(failed.get(name) == Some(&fails), "{name}: {failed:#?}");
    }
    let spans = of(TRACE);
    let one = |name: &str| spans.iter().find(|s| s.name == name).with_context(|| format!("no {name:?} in {spans:#?}"));
    ensure!(spans.iter().all(|s| !s.failed), "{spans:#?}");
    let root = one(CREATION)?;
    ensure!(root.scope == "go.opentelemetry.io/contrib/instrumentation/net/http/otelhttp", "{root:#?}");
    ensure!(root.parent == "00f067aa0ba902b7" && root.service == "apiserver" && root.nanoseconds > 0, "{root:#?}");
    for (key, value) in [
        ("http.request.method", "POST"),
        ("http.target", "/api/v1/namespaces/default/configmaps?pretty=false"),
        ("http.response.status_code", "201"),
        ("audit-id", "traced-one"),
    ] {
        ensure!(root.attributes.get(key).map(String::as_str) == Some(value), "{key}: {root:#?}");
    }
    let verb = one("Create")?;
    ensure!(verb.scope == "k8s.io/component-base/tracing", "{verb:#?}");
    ensure!(verb.parent == root.id && verb.attributes["resource"] == "configmaps", "{verb:#?}");
    ensure!(verb.attributes["namespace"] == "default" && verb.attributes["verb"] == "POST", "{verb:#?}");
    let store = one("Create etcd3")?;
    ensure!(store.parent == verb.id && store.attributes["key"] == "/registry/configmaps/default/traced", "{store:#?}");
    ensure!(store.attributes["audit-id"] == "traced-one" && store.nanoseconds <= root.nanoseconds, "{store:#?}");
    let hook = one("Call validating webhook")?;
    ensure!(
        hook.parent == verb.id
            && hook.attributes["configuration"] == "traced"
            && hook.attributes["webhook"] == "traced.example.org"
            && hook.attributes["operation"] == "CREATE",
        "{hook:#?}"
    );
    let call = one("HTTP POST")?;
    ensure!(call.parent == hook.id && call.kind == 3, "{call:#?}");
    let carried = format!("00-{TRACE}-{}-01", call.id);
    ensure!(asked.lock().is_ok_and(|a| a.contains(&carried)), "the webhook wasn't told: {carried}");
    c.stop_server(libc::SIGTERM)?;
    // Only now has everything been sent.
    let all = collector.spans();
    ensure!(all.iter().all(|s| [TRACE, FAILING].contains(&s.trace.as_str())), "something else was traced: {all:#?}");
    drop(collector);

    // All requests, to a socket; what ends with the server is sent before it ends.
    let socket = c.dir().join("otel.sock");
    let collector = Collector::start(Listen::Socket(socket.clone()))?;
    let file = configured(c, &format!("unix://{}", socket.display()), 1_000_000)?;
    c.serve(&["--disable-agent", "--tracing-config-file", &file])?;
    c.wait_api()?;
    c.access()?.inside(async |access| {
        let mut nobody = access.http1(&Who::Nobody).await?;
        let stranger = parent(&TRACE.replace("4b", "6b"), "01");
        nobody.send("GET", "/version", &[("traceparent", &stranger), ("user-agent", "last-one")], "").await?;
        Ok(())
    })?;
    c.stop_server(libc::SIGTERM)?;
    let spans = collector.spans();
    let last = spans.iter().find(|s| s.attributes.get("user_agent.original").is_some_and(|u| u == "last-one"));
    let last = last.with_context(|| format!("the last request isn't among {} spans", spans.len()))?;
    ensure!(last.name == "GET" && last.parent.is_empty(), "{last:#?}");
    ensure!(last.links == [TRACE.replace("4b", "6b")], "linked to what the client said: {last:#?}");
    ensure!(!spans.iter().any(|s| s.trace == TRACE.replace("4b", "6b")), "a stranger's trace was continued");
    Ok(())
}
