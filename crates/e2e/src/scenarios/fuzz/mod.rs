//! No request may make the server fail by what it contains.
//!
//! In: a seed, the server's discovery and OpenAPI documents, and sample objects. Out: requests of every verb to
//! every resource, whose bodies are mutated samples, hostile but well-typed objects, or no objects at all. The server
//! must answer each with something below 500 (503 and 504 tell of its state, not of the request), within the
//! client's patience, on a connection that stays open.

mod mutate;

use crate::cluster::Cluster;
use crate::wire::{Access, Connection, Who};
use anyhow::{Context, Result, bail, ensure};
use bytes::Bytes;
use mutate::Mutator;
use rand::Rng;
use serde_json::{Map, Value, json};
use std::collections::BTreeMap;
use std::time::{Duration, Instant};

const SECONDS: u64 = 25;
const WORKERS: u64 = 3;

/// One resource or subresource that is served.
struct Target {
    /// `/api/v1` or `/apis/G/V`
    base: String,
    api_version: String,
    /// `pods` or `pods/status`
    name: String,
    kind: String,
    namespaced: bool,
    verbs: Vec<String>,
    schemas: std::sync::Arc<Map<String, Value>>,
    schema: Value,
    samples: Vec<Value>,
}

/// What one seed did.
#[derive(Default)]
struct Tally {
    by_code: BTreeMap<u16, u64>,
    by_verb: BTreeMap<&'static str, u64>,
    failures: Vec<String>,
}

pub fn no_request_makes_a_5xx(c: &Cluster) -> Result<()> {
    c.serve(&["--disable-agent"])?;
    c.wait_api()?;
    c.kubectl(&["create", "namespace", "fuzz"])?;
    let seed = std::env::var("FUZZ_SEED").ok().and_then(|s| s.parse().ok()).unwrap_or(1);
    let seconds = std::env::var("FUZZ_SECONDS").ok().and_then(|s| s.parse().ok()).unwrap_or(SECONDS);
    let tally = c.access()?.inside(async |access| {
        let targets = targets(access).await?;
        ensure!(targets.len() > 100, "only {} resources were found", targets.len());
        let until = Instant::now() + Duration::from_secs(seconds);
        let mut total = Tally::default();
        let work = (0..WORKERS).map(|w| worker(access, &targets, seed * 1000 + w, until));
        for t in futures_join(work).await {
            let t = t?;
            t.by_code.into_iter().for_each(|(k, n)| *total.by_code.entry(k).or_default() += n);
            t.by_verb.into_iter().for_each(|(k, n)| *total.by_verb.entry(k).or_default() += n);
            total.failures.extend(t.failures);
        }
        Ok(total)
    })?;
    println!("     seed {seed}: answers {:?}, verbs {:?}", tally.by_code, tally.by_verb);
    let log = std::fs::read_to_string(c.log())?;
    let panics: Vec<&str> = log.lines().filter(|l| l.contains("panicked")).take(20).collect();
    if !tally.failures.is_empty() || !panics.is_empty() {
        let mut shown = tally.failures;
        shown.sort();
        let n = shown.len();
        shown.truncate(40);
        bail!("{n} requests failed the server:\n{}\npanics:\n{}", shown.join("\n"), panics.join("\n"));
    }
    // The fuzzer itself must get somewhere: objects were made, changed and deleted.
    ensure!(tally.by_code.get(&201).is_some_and(|n| *n > 50), "hardly anything was created: {:?}", tally.by_code);
    ensure!(c.kubectl(&["get", "namespace", "fuzz", "-o", "name"])?.contains("fuzz"), "the server lost its mind");
    Ok(())
}

/// All at once, on this thread.
async fn futures_join<T>(work: impl Iterator<Item = impl Future<Output = T>>) -> Vec<T> {
    let mut running: Vec<_> = work.map(|w| (Box::pin(w), None)).collect();
    std::future::poll_fn(|cx| {
        let mut pending = false;
        for (w, done) in &mut running {
            if done.is_none() {
                match w.as_mut().poll(cx) {
                    std::task::Poll::Ready(v) => *done = Some(v),
                    std::task::Poll::Pending => pending = true,
                }
            }
        }
        if pending { std::task::Poll::Pending } else { std::task::Poll::Ready(()) }
    })
    .await;
    running.into_iter().filter_map(|(_, done)| done).collect()
}

/// Everything in discovery, with its schema and samples.
async fn targets(access: &Access) -> Result<Vec<Target>> {
    let mut api = access.http1(&Who::Admin).await?;
    let samples: Vec<Value> = serde_json::from_str(include_str!("samples.json"))?;
    let index = api.get("/openapi/v3").await?.json();
    let mut out = Vec::new();
    for (path, entry) in index["paths"].as_object().context("/openapi/v3 has no paths")? {
        let base = format!("/{path}");
        let list = api.get(&base).await?.json();
        let Some(resources) = list["resources"].as_array() else { continue };
        let url = entry["serverRelativeURL"].as_str().unwrap_or_default();
        let document = api.get(url).await?.json();
        let schemas = std::sync::Arc::new(document["components"]["schemas"].as_object().cloned().unwrap_or_default());
        for r in resources {
            let text = |k: &str| r[k].as_str().unwrap_or_default().to_string();
            let version = list["groupVersion"].as_str().unwrap_or_default().to_string();
            // The kind of a subresource may be of another group.
            let api_version = match (text("group"), text("version")) {
                (_, v) if v.is_empty() => version.clone(),
                (g, v) if g.is_empty() => v,
                (g, v) => format!("{g}/{v}"),
            };
            let gvk = |s: &Value| {
                s["x-kubernetes-group-version-kind"].as_array().into_iter().flatten().any(|g| {
                    let gv = match g["group"].as_str().unwrap_or_default() {
                        "" => g["version"].as_str().unwrap_or_default().to_string(),
                        group => format!("{group}/{}", g["version"].as_str().unwrap_or_default()),
                    };
                    g["kind"] == r["kind"] && gv == api_version
                })
            };
            out.push(Target {
                base: base.clone(),
                name: text("name"),
                kind: text("kind"),
                namespaced: r["namespaced"] == true,
                verbs: r["verbs"]
                    .as_array()
                    .into_iter()
                    .flatten()
                    .filter_map(|v| Some(v.as_str()?.to_string()))
                    .collect(),
                schema: schemas.values().find(|s| gvk(s)).cloned().unwrap_or_default(),
                samples: samples
                    .iter()
                    .filter(|s| s["kind"] == r["kind"] && s["apiVersion"] == api_version.as_str())
                    .cloned()
                    .collect(),
                schemas: schemas.clone(),
                api_version,
            });
        }
    }
    Ok(out)
}

const REQUESTS_PER_CONNECTION: u64 = 500;

async fn worker(access: &Access, targets: &[Target], seed: u64, until: Instant) -> Result<Tally> {
    let mut m = Mutator::new(seed);
    let mut tally = Tally::default();
    let mut api = access.http2(&Who::Admin).await?;
    let mut round = 0u64;
    while Instant::now() < until {
        round += 1;
        // A server ends an HTTP/2 connection on which it has refused a thousand bodies unread (CVE-2023-44487).
        if round % REQUESTS_PER_CONNECTION == 0 {
            api = access.http2(&Who::Admin).await?;
        }
        // Kinds with samples get further in, so they get more.
        let target = loop {
            let t = m.pick(targets);
            if !t.samples.is_empty() || m.chance(50) {
                break t;
            }
        };
        let request = request(&mut m, target);
        *tally.by_verb.entry(request.verb).or_default() += 1;
        let headers: Vec<(&str, &str)> = request.headers.iter().map(|(k, v)| (*k, v.as_str())).collect();
        let answer = exchange(&mut api, &request, &headers).await;
        let told = match answer {
            Ok((code, body)) => {
                if code < 300 && body.starts_with(b"k8s\0") {
                    m.seen.insert(target.name.clone(), body.to_vec());
                }
                *tally.by_code.entry(code).or_default() += 1;
                match code {
                    500..503 | 505.. => Some(format!("{code}")),
                    _ => None,
                }
            }
            // Characters that HTTP forbids never leave the client.
            Err(e) if format!("{e:#}").contains("the client can't") => None,
            Err(e) => {
                api = access.http2(&Who::Admin).await.context("the server is gone")?;
                Some(format!("{e:#}"))
            }
        };
        if let Some(what) = told {
            let mut body = String::from_utf8_lossy(&request.body).into_owned();
            if body.len() > 1500 {
                body = format!("{}… ({} bytes)", body.chars().take(1500).collect::<String>(), body.len());
            }
            tally.failures.push(format!(
                "{} {} {}: {what} (seed {seed}, round {round}) {:?} {body}",
                request.method, target.name, request.path, request.headers
            ));
            if tally.failures.len() > 60 {
                break;
            }
        }
    }
    Ok(tally)
}

/// The code and the body, once all has been read; a watch is dropped after its first events.
async fn exchange(api: &mut Connection, r: &Request, headers: &[(&str, &str)]) -> Result<(u16, Bytes)> {
    if r.path.contains("watch") || r.path.contains("follow") {
        let (head, mut body) = api.open(r.method, &r.path, headers, r.body.clone()).await?.into_parts();
        // Some of what there is to tell; the stream is then dropped in the middle.
        let _ = tokio::time::timeout(Duration::from_millis(4), http_body_util::BodyExt::frame(&mut body)).await;
        return Ok((head.status.as_u16(), Bytes::new()));
    }
    let reply = api.send(r.method, &r.path, headers, r.body.clone()).await?;
    Ok((reply.code, reply.body))
}

struct Request {
    verb: &'static str,
    method: &'static str,
    path: String,
    headers: Vec<(&'static str, String)>,
    body: Bytes,
}

/// Kinds whose stored objects change how the server treats all requests; they are only tried, never kept.
fn dry_only(t: &Target) -> bool {
    ["admissionregistration.k8s.io", "apiregistration.k8s.io", "apiextensions.k8s.io", "flowcontrol.apiserver.k8s.io"]
        .iter()
        .any(|g| t.base.contains(g))
}

fn request(m: &mut Mutator, t: &Target) -> Request {
    let (resource, sub) = t.name.split_once('/').unwrap_or((&t.name, ""));
    let mut scope = match (t.namespaced, m.chance(97)) {
        (true, true) => format!("{}/namespaces/fuzz/{resource}", t.base),
        // In no namespace, or in one that can't be.
        (true, false) if m.chance(50) => format!("{}/namespaces/{}/{resource}", t.base, encode(&m.string())),
        _ => format!("{}/{resource}", t.base),
    };
    let name = match m.rng.random_range(0..12) {
        0 => m.string(),
        n => format!("fz-{}", n % 4),
    };
    let verb: &'static str = match m.chance(96) {
        true => *m.pick(&[
            "create",
            "create",
            "update",
            "update",
            "patch",
            "patch",
            "patch",
            "patch",
            "get",
            "list",
            "watch",
            "delete",
            "deletecollection",
        ]),
        false => *m.pick(&["head", "options", "connect"]),
    };
    // What the resource can't do is tried too, but not often.
    let verb = if !t.verbs.iter().any(|v| v == verb) && m.chance(80) {
        t.verbs.iter().find_map(|v| VERBS.iter().find(|k| *k == v)).copied().unwrap_or(verb)
    } else {
        verb
    };
    let object = object(m, t, &name);
    let mut query = m.query();
    let mut add = |what: &str| {
        query.push(if query.is_empty() { '?' } else { '&' });
        query.push_str(what);
    };
    // Nothing that the cluster made itself is deleted; dry runs go all the way but the last step.
    if dry_only(t)
        || (verb == "deletecollection" && !t.namespaced)
        || (verb == "delete" && !name.starts_with("fz-"))
        || (resource == "namespaces" && name == "fuzz")
    {
        query.clear();
        query.push_str("?dryRun=All");
    } else if verb == "watch" {
        add("watch=1");
    }
    const ACCEPT: &[&str] = &[
        "application/json",
        "application/json",
        "application/yaml",
        "application/vnd.kubernetes.protobuf",
        "*/*",
        "application/json;as=Table;v=v1;g=meta.k8s.io,application/json",
        "application/json;as=PartialObjectMetadata;v=v1;g=meta.k8s.io,application/json",
    ];
    const BAD_ACCEPT: &[&str] = &[
        "text/html",
        ";;;,,,",
        "application/json;as=APIGroupDiscoveryList;v=v2;g=apidiscovery.k8s.io",
        "application/json;as=Table;v=v1;g=meta.k8s.io",
    ];
    let accept = if m.chance(3) { *m.pick(BAD_ACCEPT) } else { *m.pick(ACCEPT) };
    let mut headers = vec![("accept", accept.to_string())];
    if m.chance(10) {
        headers.push(("accept-encoding", "gzip".into()));
    }
    let named = !matches!(verb, "create" | "list" | "watch" | "deletecollection") || !sub.is_empty();
    if named {
        scope = format!("{scope}/{}", encode(&name));
    }
    if !sub.is_empty() {
        scope = format!("{scope}/{sub}");
    }
    let mut body = Vec::new();
    let method = match verb {
        "create" | "update" => {
            let format = m.rng.random_range(0..20);
            let kind = match format {
                0 => "application/yaml",
                1 => "application/vnd.kubernetes.protobuf",
                2 => *m.pick(&["", "text/plain", "application/cbor", "application/json; charset=utf-16", "\u{e4}"]),
                _ => "application/json",
            };
            headers.push(("content-type", kind.to_string()));
            body = if format == 1 { m.protobuf(resource) } else { m.bytes(&object) };
            if verb == "create" { "POST" } else { "PUT" }
        }
        "patch" => {
            let (kind, document) = patch(m, &object);
            headers.push(("content-type", kind.to_string()));
            if kind.contains("apply") {
                if m.chance(95) {
                    query.push(if query.is_empty() { '?' } else { '&' });
                    query.push_str("fieldManager=fz");
                }
                if m.chance(50) {
                    query.push_str("&force=true");
                }
            }
            body = m.bytes(&document);
            "PATCH"
        }
        "delete" | "deletecollection" => {
            if m.chance(50) {
                let mut options = json!({"kind": "DeleteOptions", "apiVersion": "v1", "gracePeriodSeconds": *m.pick(&[0i64, 1, -1, i64::MAX, i64::MIN, 30]), "propagationPolicy": *m.pick(&["Background", "Foreground", "Orphan", "x"])});
                if m.chance(40) {
                    m.mutate(&mut options);
                }
                headers.push(("content-type", "application/json".into()));
                body = m.bytes(&options);
            }
            "DELETE"
        }
        "head" => "HEAD",
        "options" => "OPTIONS",
        "connect" => *m.pick(&["TRACE", "BREW", "POST"]),
        _ => "GET",
    };
    Request { verb, method, path: scope + &query, headers, body: body.into() }
}

const VERBS: &[&str] = &["create", "update", "patch", "get", "list", "watch", "delete", "deletecollection"];

/// A body for the target: a sample, or what its schema allows; mutated more often than not.
fn object(m: &mut Mutator, t: &Target, name: &str) -> Value {
    let mut object = match t.samples.is_empty() || m.chance(40) {
        true => m.of_schema(&t.schemas, &t.schema, 0),
        false => m.pick(&t.samples).clone(),
    };
    if !object.is_object() {
        object = json!({});
    }
    object["apiVersion"] = t.api_version.as_str().into();
    object["kind"] = t.kind.as_str().into();
    let mut meta = match object["metadata"].take() {
        Value::Object(o) if m.chance(30) => o,
        _ => Map::new(),
    };
    meta.remove("resourceVersion");
    meta.remove("uid");
    meta.insert("name".into(), name.into());
    if t.namespaced && m.chance(90) {
        meta.insert("namespace".into(), "fuzz".into());
    }
    if m.chance(10) {
        meta.insert("finalizers".into(), json!(["fuzz.example/x"]));
    }
    if m.chance(10) {
        meta.insert(
            "ownerReferences".into(),
            json!([{"apiVersion": "v1", "kind": "ConfigMap", "name": "fz-1", "uid": "u"}]),
        );
    }
    object["metadata"] = meta.into();
    if m.chance(60) {
        for _ in 0..m.rng.random_range(1..4) {
            m.mutate(&mut object);
        }
    }
    object
}

/// A patch of one of the four types, and its content type.
fn patch(m: &mut Mutator, object: &Value) -> (&'static str, Value) {
    let mut part = object.clone();
    if let Some(o) = part.as_object_mut()
        && m.chance(70)
    {
        o.remove("metadata");
        if m.chance(50) {
            o.remove("apiVersion");
            o.remove("kind");
        }
    }
    match m.rng.random_range(0..5) {
        0 => {
            const PATHS: &[&str] = &[
                "",
                "/",
                "/spec",
                "/metadata/labels",
                "/metadata/labels/a",
                "/metadata/name",
                "/metadata/finalizers/-",
                "/spec/containers/0",
                "/spec/containers/99999999999999999999",
                "/spec/containers/-1",
                "/spec/template/spec/containers/-",
                "/a~0b",
                "/a~1b",
                "/a~2",
                "spec",
                "/metadata/annotations/x",
                "/status",
                "/data/a",
                "/spec/replicas",
                "/spec/ports/0/port",
                "/metadata/managedFields",
                "/kind",
                "/metadata",
            ];
            let n = if m.chance(3) { 12_000 } else { m.rng.random_range(0..4) };
            let mut ops: Vec<Value> = (0..n)
                .map(|_| {
                    let op = *m.pick(&["add", "remove", "replace", "move", "copy", "test", "nope"]);
                    json!({"op": op, "path": *m.pick(PATHS), "from": *m.pick(PATHS), "value": if n > 100 { Value::Null } else { m.anything(1) }})
                })
                .collect();
            if m.chance(10) {
                // Each copy doubles what is there.
                ops = (0..40).map(|_| json!({"op": "copy", "from": "/metadata", "path": "/metadata/x"})).collect();
            }
            let mut ops = Value::Array(ops);
            if m.chance(20) {
                m.mutate(&mut ops);
            }
            ("application/json-patch+json", ops)
        }
        1 => ("application/merge-patch+json", part),
        2 | 3 => {
            for _ in 0..m.rng.random_range(0..3) {
                m.mutate(&mut part);
            }
            if m.chance(40)
                && let Some(o) = part.as_object_mut()
            {
                let directive = *m.pick(&[
                    "$patch",
                    "$retainKeys",
                    "$setElementOrder/finalizers",
                    "$deleteFromPrimitiveList/finalizers",
                ]);
                let value =
                    if m.chance(40) { m.anything(1) } else { json!(*m.pick(&["delete", "replace", "merge", "x"])) };
                let place = o.entry("spec").or_insert_with(|| json!({}));
                match place.as_object_mut() {
                    Some(p) => p.insert(directive.into(), value),
                    None => None,
                };
            }
            ("application/strategic-merge-patch+json", part)
        }
        _ => {
            let mut whole = object.clone();
            if m.chance(70)
                && let Some(meta) = whole.get_mut("metadata").and_then(Value::as_object_mut)
            {
                meta.remove("managedFields");
            }
            ("application/apply-patch+yaml", whole)
        }
    }
}

fn encode(text: &str) -> String {
    text.bytes()
        .map(|b| {
            if b.is_ascii_alphanumeric() || b"-.".contains(&b) { (b as char).to_string() } else { format!("%{b:02X}") }
        })
        .collect()
}
