//! Every kind with every verb that discovery says it has: what the API operations tests of upstream's suite do by hand
//! for a kind each.

use super::namespace::Namespace;
use crate::cluster::Cluster;
use crate::wire::{Access, Connection, Reply, Who};
use anyhow::{Context, Result, ensure};
use http_body_util::BodyExt;
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::time::Duration;

const JSON: &str = "application/json";
const MERGE: &str = "application/merge-patch+json";
const LABEL: &str = "e2e-verbs";
const AGGREGATED: &str = "application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList";
/// Controllers write to objects, too: a write that lost to them is made again.
const TRIES: usize = 10;

/// What discovery says of a kind.
#[derive(Debug)]
struct Served {
    plural: String,
    namespaced: bool,
    verbs: Vec<String>,
    /// Of `status`.
    status: Vec<String>,
}

type Kinds = BTreeMap<(String, String), Served>;

pub fn every_kind_takes_every_verb(c: &Cluster) -> Result<()> {
    let ns = Namespace::new(c, "verbs")?;
    let name = ns.name().to_string();
    let text =
        format!("{}---\n{}", include_str!("../../testdata/kinds.yaml"), include_str!("../../testdata/verbs.yaml"))
            .replace("NAMESPACE", &name)
            .replace("REQUEST", super::security::CSR);
    let file = ns.file("verbs.yaml", &text)?;
    let list = ns.must(&format!("create --dry-run=client --validate=false -o json -f {file}"))?;
    let objects = objects(&list)?;
    ensure!(objects.len() > 55, "only {} objects", objects.len());
    let tried = c.access()?.inside(async |access| {
        let mut api = access.http1(&Who::Admin).await?;
        let kinds = discover(&mut api).await?;
        let mut tried = Vec::new();
        for object in objects {
            let kind = (text_of(&object, "apiVersion"), text_of(&object, "kind"));
            let served = kinds.get(&kind).with_context(|| format!("{kind:?} isn't in discovery"))?;
            lead_a_life(access, &mut api, served, &name, object)
                .await
                .with_context(|| format!("{} {}", kind.0, kind.1))?;
            tried.push(kind);
        }
        // Nothing that can be created is left out.
        let missed: Vec<_> = kinds
            .iter()
            .filter(|(k, s)| {
                s.verbs.iter().any(|v| v == "create")
                    && s.verbs.iter().any(|v| v == "list")
                    && !k.0.contains("example.com")
            })
            .map(|(k, _)| k.clone())
            .filter(|k| !tried.contains(k) && !OTHER_VERSIONS.contains(&(k.0.as_str(), k.1.as_str())))
            .collect();
        ensure!(missed.is_empty(), "no object was tried of {missed:?}");
        Ok(tried.len())
    })?;
    println!("     ({tried} kinds)");
    ns.delete()
}

/// The same objects by another name.
const OTHER_VERSIONS: &[(&str, &str)] =
    &[("autoscaling/v1", "HorizontalPodAutoscaler"), ("events.k8s.io/v1", "Event"), ("v1", "Event")];

/// kubectl prints documents one after another.
fn objects(text: &str) -> Result<Vec<Value>> {
    let mut out = Vec::new();
    for value in serde_json::Deserializer::from_str(text).into_iter::<Value>() {
        let value = value?;
        match value["items"].as_array() {
            Some(items) => out.extend(items.iter().cloned()),
            None => out.push(value),
        }
    }
    Ok(out)
}

fn text_of(object: &Value, field: &str) -> String {
    object[field].as_str().unwrap_or_default().to_string()
}

async fn discover(api: &mut Connection) -> Result<Kinds> {
    let mut out = Kinds::new();
    let words = |v: &Value| -> Vec<String> {
        v.as_array().into_iter().flatten().filter_map(|w| w.as_str().map(String::from)).collect()
    };
    for path in ["/api", "/apis"] {
        let r = api.send("GET", path, &[("accept", AGGREGATED)], "").await?;
        ensure!(r.code == 200, "{path}: {} {}", r.code, r.text());
        for group in r.json()["items"].as_array().into_iter().flatten() {
            let name = group["metadata"]["name"].as_str().unwrap_or_default();
            for version in group["versions"].as_array().into_iter().flatten() {
                let v = version["version"].as_str().unwrap_or_default();
                let api_version = if name.is_empty() { v.to_string() } else { format!("{name}/{v}") };
                for r in version["resources"].as_array().into_iter().flatten() {
                    let subresources = r["subresources"].as_array().cloned().unwrap_or_default();
                    let status = subresources.iter().find(|s| s["subresource"] == "status");
                    out.insert(
                        (api_version.clone(), text_of(&r["responseKind"], "kind")),
                        Served {
                            plural: text_of(r, "resource"),
                            namespaced: r["scope"] == "Namespaced",
                            verbs: words(&r["verbs"]),
                            status: status.map(|s| words(&s["verbs"])).unwrap_or_default(),
                        },
                    );
                }
            }
        }
    }
    Ok(out)
}

fn expect(r: &Reply, code: u16, what: &str) -> Result<Value> {
    ensure!(r.code == code, "{what}: {} instead of {code}: {}", r.code, r.text());
    Ok(r.json())
}

/// Create, get, list, patch, update, status, watch, delete by label.
async fn lead_a_life(
    access: &Access,
    api: &mut Connection,
    served: &Served,
    namespace: &str,
    mut object: Value,
) -> Result<()> {
    let has = |verb: &str| served.verbs.iter().any(|v| v == verb);
    for verb in ["create", "delete", "get", "list", "patch", "update", "watch"] {
        ensure!(has(verb), "discovery has no {verb}");
    }
    let api_version = text_of(&object, "apiVersion");
    let root = if api_version.contains('/') { format!("/apis/{api_version}") } else { format!("/api/{api_version}") };
    let everywhere = format!("{root}/{}", served.plural);
    let collection = match served.namespaced {
        true => format!("{root}/namespaces/{namespace}/{}", served.plural),
        false => everywhere.clone(),
    };
    let mine = format!("labelSelector={LABEL}%3D{namespace}");
    object["metadata"]["labels"][LABEL] = json!(namespace);

    let before = expect(&api.get(&format!("{collection}?limit=1")).await?, 200, "list")?;
    let since = text_of(&before["metadata"], "resourceVersion");
    let created = expect(&api.json("POST", &collection, &object).await?, 201, "create")?;
    let name = text_of(&created["metadata"], "name");
    let path = format!("{collection}/{name}");
    let found = expect(&api.get(&path).await?, 200, "get")?;
    ensure!(found["metadata"]["uid"] == created["metadata"]["uid"], "another object: {found}");
    for list in [&collection, &everywhere] {
        let listed = expect(&api.get(&format!("{list}?{mine}")).await?, 200, "list")?;
        let items = listed["items"].as_array().context("no items")?;
        ensure!(items.len() == 1 && items[0]["metadata"]["name"] == *name, "list by label: {listed}");
    }

    let note = |key: &str| json!({"metadata": {"annotations": {key: "yes"}}}).to_string();
    let r = api.send("PATCH", &path, &[("content-type", MERGE), ("accept", JSON)], note("patched")).await?;
    let patched = expect(&r, 200, "patch")?;
    ensure!(patched["metadata"]["annotations"]["patched"] == "yes", "patch: {patched}");
    put(api, &path, "updated").await.context("update")?;
    if !served.status.is_empty() {
        let status = format!("{path}/status");
        for verb in ["get", "patch", "update"] {
            ensure!(served.status.iter().any(|v| v == verb), "discovery has no {verb} of status");
        }
        expect(&api.get(&status).await?, 200, "get status")?;
        let r = api.send("PATCH", &status, &[("content-type", MERGE), ("accept", JSON)], note("by-status")).await?;
        expect(&r, 200, "patch status")?;
        put(api, &status, "by-status-put").await.context("update status")?;
    }

    let doomed = if has("deletecollection") { format!("{collection}?{mine}") } else { path.clone() };
    let r = api.send("DELETE", &doomed, &[("content-type", JSON)], "").await?;
    expect(&r, 200, "delete")?;
    let types = watch(access, &format!("{collection}?watch=1&{mine}&resourceVersion={since}")).await?;
    ensure!(
        types.first().is_some_and(|t| t == "ADDED") && types.iter().filter(|t| *t == "MODIFIED").count() >= 2,
        "watch: {types:?}"
    );
    let listed = expect(&api.get(&format!("{collection}?{mine}")).await?, 200, "list")?;
    ensure!(listed["items"].as_array().is_some_and(Vec::is_empty), "it is still listed: {listed}");
    expect(&api.get(&path).await?, 404, "get of what is gone").map(drop)
}

/// Reads, adds an annotation, writes.
async fn put(api: &mut Connection, path: &str, key: &str) -> Result<()> {
    for _ in 0..TRIES {
        let mut object = expect(&api.get(path).await?, 200, "get")?;
        object["metadata"]["annotations"][key] = json!("yes");
        let r = api.json("PUT", path, &object).await?;
        if r.code != 409 {
            return expect(&r, 200, "put").map(drop);
        }
    }
    anyhow::bail!("{TRIES} conflicts in a row")
}

/// The types of a watch's frames up to the first deletion.
async fn watch(access: &Access, path: &str) -> Result<Vec<String>> {
    let mut connection = access.http1(&Who::Admin).await?;
    let mut answer = connection.open("GET", path, &[("accept", JSON)], "").await?;
    ensure!(answer.status() == 200, "watch: {}", answer.status());
    let (mut text, mut types) = (String::new(), Vec::new());
    loop {
        let frame = tokio::time::timeout(Duration::from_secs(20), answer.body_mut().frame())
            .await
            .with_context(|| format!("no deletion after {types:?}"))?
            .with_context(|| format!("the watch ended after {types:?}"))??;
        text.push_str(&String::from_utf8_lossy(frame.data_ref().map(|d| d.as_ref()).unwrap_or_default()));
        while let Some(end) = text.find('\n') {
            let event: Value = serde_json::from_str(&text[..end])?;
            text.drain(..=end);
            types.push(text_of(&event, "type"));
            if event["type"] == "DELETED" {
                return Ok(types);
            }
        }
    }
}
