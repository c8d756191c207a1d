//! Discovery and OpenAPI of extension servers: read from each, and put among our own.

use super::availability::kube_aggregator;
use super::{Aggregator, Remote, identify};
use crate::{discovery, openapi};
use axum::body::Body;
use http::{HeaderValue, Request, header};
use serde_json::{Map, Value, json};
use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

/// For one document.
const TIMEOUT: Duration = Duration::from_secs(10);

/// What one server publishes about its group version.
#[derive(Default)]
pub struct Documents {
    /// Of the aggregated form: `{"version": …, "resources": […]}`.
    discovery: Option<Value>,
    /// Where its OpenAPI v3 document is.
    v3_url: Option<String>,
    /// Its OpenAPI v3 document, made of v2 where it publishes that alone.
    v3: Option<openapi::Document>,
    /// OpenAPI v2, cut down to the group version.
    pub v2: Option<Arc<Value>>,
    pub v2_etag: String,
}

impl Documents {
    /// Whether its OpenAPI v3 document is kept here.
    pub fn has_v3(&self) -> bool {
        self.v3.is_some()
    }
}

pub async fn read(aggregator: &Aggregator, remote: &Remote) -> Documents {
    let Ok(target) = &remote.target else { return Documents::default() };
    let get = async |path: &str, accept: &'static str| {
        let mut request = Request::new(Body::empty());
        identify(request.headers_mut(), &kube_aggregator());
        request.headers_mut().insert(header::ACCEPT, HeaderValue::from_static(accept));
        let answer = aggregator.outbound.fetch(target, path, "", request, TIMEOUT).await.ok()?;
        answer.json().ok()
    };
    let aggregated = "application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList";
    let mut documents = Documents::default();
    if let Some(list) = get("/apis", aggregated).await
        && list["kind"] == "APIGroupDiscoveryList"
    {
        let groups = list["items"].as_array().into_iter().flatten();
        let versions = groups.filter(|g| g["metadata"]["name"] == remote.group.as_str());
        documents.discovery = versions
            .flat_map(|g| g["versions"].as_array().into_iter().flatten())
            .find(|v| v["version"] == remote.version.as_str())
            .cloned();
    }
    if documents.discovery.is_none() {
        // Servers before 1.27 have the plain form only.
        documents.discovery =
            get(&remote.root(), "application/json").await.map(|list| from_resource_list(remote, &list));
    }
    let path = remote.root().trim_start_matches('/').to_string();
    if let Some(index) = get("/openapi/v3", "application/json").await {
        documents.v3_url = index["paths"][&path]["serverRelativeURL"].as_str().map(String::from);
    }
    if let Some(v2) = get("/openapi/v2", "application/json").await {
        let cut = cut(&v2, &format!("{}/", remote.root()));
        documents.v2_etag = openapi::etag(cut.to_string().as_bytes());
        if documents.v3_url.is_none() && cut["paths"].as_object().is_some_and(|p| !p.is_empty()) {
            let v3 = openapi::v2_to_v3(&cut).to_string();
            documents.v3 = Some(openapi::Document::new("application/json", v3.into_bytes()));
        }
        documents.v2 = Some(Arc::new(cut));
    }
    documents
}

/// The aggregated form of an `APIResourceList`.
fn from_resource_list(remote: &Remote, list: &Value) -> Value {
    let all = list["resources"].as_array().map(Vec::as_slice).unwrap_or_default();
    let kind = |r: &Value| {
        json!({
            "group": r["group"].as_str().filter(|g| !g.is_empty()).unwrap_or(&remote.group),
            "version": r["version"].as_str().filter(|v| !v.is_empty()).unwrap_or(&remote.version),
            "kind": r["kind"],
        })
    };
    let name = |r: &Value| r["name"].as_str().unwrap_or("").to_string();
    let mut resources = Vec::new();
    for r in all.iter().filter(|r| !name(r).contains('/')) {
        let mut out = json!({
            "resource": r["name"], "responseKind": kind(r), "verbs": r["verbs"],
            "scope": if r["namespaced"] == true { "Namespaced" } else { "Cluster" },
            "singularResource": r["singularName"].as_str().unwrap_or(""),
        });
        for key in ["shortNames", "categories"] {
            if r[key].is_array() {
                out[key] = r[key].clone();
            }
        }
        let own = format!("{}/", name(r));
        let subresources: Vec<Value> = all
            .iter()
            .filter_map(|s| Some((s, name(s).strip_prefix(&own)?.to_string())))
            .map(|(s, sub)| json!({"subresource": sub, "responseKind": kind(s), "verbs": s["verbs"]}))
            .collect();
        if !subresources.is_empty() {
            out["subresources"] = subresources.into();
        }
        resources.push(out);
    }
    json!({"version": remote.version, "resources": resources})
}

/// Of an OpenAPI v2 document, what is below `prefix`, and the definitions that this refers to.
fn cut(v2: &Value, prefix: &str) -> Value {
    let mut paths = Map::new();
    for (path, item) in v2["paths"].as_object().into_iter().flatten() {
        if path.starts_with(prefix) {
            paths.insert(path.clone(), item.clone());
        }
    }
    let mut wanted = BTreeSet::new();
    let mut queue: Vec<String> = Vec::new();
    paths.values().for_each(|v| references(v, &mut queue));
    let mut definitions = Map::new();
    while let Some(name) = queue.pop() {
        if wanted.insert(name.clone())
            && let Some(d) = v2["definitions"].get(&name)
        {
            references(d, &mut queue);
            definitions.insert(name, d.clone());
        }
    }
    let mut out = json!({"paths": paths, "definitions": definitions});
    for key in ["info", "consumes", "produces"] {
        if let Some(v) = v2.get(key) {
            out[key] = v.clone();
        }
    }
    out
}

fn references(v: &Value, out: &mut Vec<String>) {
    match v {
        Value::Object(o) => {
            if let Some(name) = o.get("$ref").and_then(Value::as_str).and_then(|r| r.strip_prefix("#/definitions/")) {
                out.push(name.to_string());
            }
            o.values().for_each(|v| references(v, out));
        }
        Value::Array(a) => a.iter().for_each(|v| references(v, out)),
        _ => {}
    }
}

/// Adds a server's part to our OpenAPI v2 document. Definitions that both have stay as ours.
pub fn add_v2(ours: &mut Value, theirs: &Value) {
    for part in ["paths", "definitions"] {
        let Some(to) = ours[part].as_object_mut() else { continue };
        for (name, v) in theirs[part].as_object().into_iter().flatten() {
            to.entry(name).or_insert_with(|| v.clone());
        }
    }
}

impl Aggregator {
    /// `/apis` in the aggregated form. Servers that can't be reached are shown as last known, and stale.
    pub fn add_aggregated(&self, list: &mut Value) {
        for remote in self.remotes.load().iter() {
            let mut version = remote
                .documents()
                .discovery
                .clone()
                .unwrap_or_else(|| json!({"version": remote.version, "resources": []}));
            let fresh = remote.is_available() && remote.documents().discovery.is_some();
            version["freshness"] = if fresh { "Current" } else { "Stale" }.into();
            let Some(items) = list["items"].as_array_mut() else { return };
            let place = group_place(
                items,
                remote,
                |g| g["metadata"]["name"].as_str(),
                || json!({"metadata": {"name": remote.group}, "versions": []}),
            );
            insert_version(&mut items[place]["versions"], version);
        }
    }

    /// `/apis`
    pub fn add_groups(&self, list: &mut Value) {
        for remote in self.remotes.load().iter() {
            let Some(groups) = list["groups"].as_array_mut() else { return };
            let place = group_place(
                groups,
                remote,
                |g| g["name"].as_str(),
                || json!({"name": remote.group, "versions": [], "preferredVersion": null}),
            );
            add_version(&mut groups[place], remote);
        }
    }

    /// `/apis/G`, with what is known of it here.
    pub fn add_to_group(&self, name: &str, ours: Option<Value>) -> Option<Value> {
        let remotes = self.remotes.load();
        let mut group = ours;
        for remote in remotes.iter().filter(|r| r.group == name) {
            let g = group.get_or_insert_with(
                || json!({"kind": "APIGroup", "apiVersion": "v1", "name": name, "versions": [], "preferredVersion": null}),
            );
            add_version(g, remote);
        }
        group
    }

    /// `/openapi/v3`
    pub fn add_v3(&self, index: &mut Value) {
        for remote in self.remotes.load().iter() {
            let path = remote.root().trim_start_matches('/').to_string();
            let documents = remote.documents();
            let url = match &documents.v3 {
                Some(made) => Some(format!("/openapi/v3/{path}?hash={}", made.etag)),
                None => documents.v3_url.clone(),
            };
            if let Some(url) = url {
                index["paths"][path] = json!({"serverRelativeURL": url});
            }
        }
    }

    /// The OpenAPI v3 document of a group version (`apis/example.com/v1`) whose server publishes v2 alone.
    pub fn v3(&self, path: &str) -> Option<openapi::Document> {
        let path = path.trim_matches('/');
        let remotes = self.remotes.load();
        let remote = remotes.iter().find(|r| r.root().trim_start_matches('/') == path)?;
        remote.documents().v3.clone()
    }

    pub fn is_empty(&self) -> bool {
        self.remotes.load().is_empty()
    }

    /// Parts of the OpenAPI v2 document that others serve, and a text that changes when they do.
    pub fn v2_parts(&self) -> (String, Vec<Arc<Value>>) {
        let mut etag = String::new();
        let mut parts = Vec::new();
        for remote in self.remotes.load().iter() {
            let documents = remote.documents();
            if let Some(v2) = &documents.v2 {
                etag.push_str(&documents.v2_etag);
                parts.push(v2.clone());
            }
        }
        (etag, parts)
    }
}

/// Where a remote's group is in a list; it is put in by priority when it isn't there.
fn group_place(
    groups: &mut Vec<Value>,
    remote: &Remote,
    name: impl Fn(&Value) -> Option<&str>,
    new: impl FnOnce() -> Value,
) -> usize {
    if let Some(i) = groups.iter().position(|g| name(g) == Some(&remote.group)) {
        return i;
    }
    let lower = |g: &Value| i64::from(discovery::group_priority(name(g).unwrap_or(""))) < remote.group_priority;
    let place = groups.iter().position(lower).unwrap_or(groups.len());
    groups.insert(place, new());
    place
}

fn insert_version(versions: &mut Value, version: Value) {
    let Some(all) = versions.as_array_mut() else { return };
    match all.iter_mut().find(|v| v["version"] == version["version"]) {
        Some(v) => *v = version,
        None => all.push(version),
    }
}

fn add_version(group: &mut Value, remote: &Remote) {
    let version = json!({"groupVersion": format!("{}/{}", remote.group, remote.version), "version": remote.version});
    if group["preferredVersion"].is_null() {
        group["preferredVersion"] = version.clone();
    }
    insert_version(&mut group["versions"], version);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_group_versions_part_of_a_document_is_taken() {
        let theirs = json!({
            "paths": {"/apis/x.test/v1/foos": {"get": {"schema": {"$ref": "#/definitions/Foo"}}}, "/apis/": {}, "/version/": {}},
            "definitions": {"Foo": {"p": [{"$ref": "#/definitions/Meta"}]}, "Meta": {"theirs": 1}, "Other": {}},
        });
        let part = cut(&theirs, "/apis/x.test/v1/");
        let names = |v: &Value, k: &str| v[k].as_object().unwrap().keys().cloned().collect::<Vec<_>>().join(" ");
        assert_eq!(
            (names(&part, "paths"), names(&part, "definitions")),
            ("/apis/x.test/v1/foos".into(), "Foo Meta".into())
        );
        let mut ours = json!({"paths": {"/version/": {}}, "definitions": {"Meta": {"ours": 1}}});
        add_v2(&mut ours, &part);
        assert_eq!(ours["definitions"]["Meta"], json!({"ours": 1}));
        assert!(ours["definitions"]["Foo"].is_object() && ours["paths"]["/apis/x.test/v1/foos"].is_object());
    }
}
