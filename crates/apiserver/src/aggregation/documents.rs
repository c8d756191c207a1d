//! Discovery and OpenAPI of extension servers: read from each, and put among our own.

use super::availability::kube_aggregator;
use super::{Aggregator, Remote, identify};
use crate::outbound::Answer;
use crate::{discovery, openapi};
use axum::body::Body;
use http::{HeaderValue, Request, header};
use serde_json::{Map, Value, json};
use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

const AGGREGATED: &str = "application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList";
/// For one document.
const TIMEOUT: Duration = Duration::from_secs(10);

/// What one server publishes about its group version.
#[derive(Clone, Default)]
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

/// Reads anew what a server publishes. What it can't say now stays as `known`; why is the second part.
pub async fn read(aggregator: &Aggregator, remote: &Remote, known: &Documents) -> (Documents, Result<(), String>) {
    let target = match &remote.target {
        Ok(t) => t,
        Err(e) => return (Documents::default(), Err(e.clone())),
    };
    let get = async |path: &str, accept: &'static str| {
        let mut request = Request::new(Body::empty());
        identify(request.headers_mut(), &kube_aggregator());
        request.headers_mut().insert(header::ACCEPT, HeaderValue::from_static(accept));
        let answer = aggregator.outbound.fetch(target, path, "", request, TIMEOUT).await;
        found(answer.map_err(|e| e.to_string())?).map_err(|e| format!("{path}: {e}"))
    };
    let mut documents = known.clone();
    let mut failed = None;
    let discovery = match get("/apis", AGGREGATED).await {
        Ok(Some(list)) if let Some(own) = from_aggregated(remote, &list) => Ok(Some(own)),
        // Servers before 1.27 have the plain form only.
        _ => get(&remote.root(), "application/json").await.map(|l| l.map(|list| from_resource_list(remote, &list))),
    };
    match discovery {
        Ok(own) => documents.discovery = own,
        Err(e) => failed = Some(e),
    }
    let index = get("/openapi/v3", "application/json").await;
    if let Ok(index) = &index {
        let path = remote.root().trim_start_matches('/').to_string();
        documents.v3_url =
            index.as_ref().and_then(|i| i["paths"][&path]["serverRelativeURL"].as_str()).map(String::from);
    }
    match get("/openapi/v2", "application/json").await {
        Ok(v2) => {
            let cut = v2.map(|v2| cut(&v2, &format!("{}/", remote.root())));
            documents.v2_etag = cut.as_ref().map(|c| openapi::etag(c.to_string().as_bytes())).unwrap_or_default();
            documents.v2 = cut.map(Arc::new);
        }
        Err(e) => failed = Some(e),
    }
    match index {
        // Of this group version it has v2 alone, perhaps.
        Ok(_) if documents.v3_url.is_none() => documents.v3 = documents.v2.as_deref().and_then(v3_of),
        Ok(_) => documents.v3 = None,
        Err(e) => failed = Some(e),
    }
    (documents, failed.map_or(Ok(()), Err))
}

/// The document that an answer holds; `None`: the server has none. All else but a success is trouble that passes.
/// Source: upstream's OpenAPI `Downloader`.
fn found(answer: Answer) -> Result<Option<Value>, String> {
    match answer.code {
        404 => Ok(None),
        _ => answer.json().map(Some),
    }
}

/// The v3 document of a server that has v2 alone.
fn v3_of(v2: &Value) -> Option<openapi::Document> {
    v2["paths"].as_object().filter(|p| !p.is_empty())?;
    Some(openapi::Document::new("application/json", openapi::v2_to_v3(v2).to_string().into_bytes()))
}

/// The group version in the aggregated form of `/apis`.
fn from_aggregated(remote: &Remote, list: &Value) -> Option<Value> {
    let groups = list["items"].as_array().filter(|_| list["kind"] == "APIGroupDiscoveryList")?;
    groups
        .iter()
        .filter(|g| g["metadata"]["name"] == remote.group.as_str())
        .flat_map(|g| g["versions"].as_array().into_iter().flatten())
        .find(|v| v["version"] == remote.version.as_str())
        .cloned()
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

/// Of an OpenAPI v2 document, what is below `prefix`, and the definitions that this refers to. Parameters and responses
/// that the document keeps elsewhere (servers since 1.27 do) are put where they are used: those of several servers have
/// the same names.
fn cut(v2: &Value, prefix: &str) -> Value {
    let mut paths = Map::new();
    for (path, item) in v2["paths"].as_object().into_iter().flatten() {
        if path.starts_with(prefix) {
            let mut item = item.clone();
            put_in_place(v2, &mut item);
            for operation in item.as_object_mut().into_iter().flat_map(|o| o.values_mut()) {
                put_in_place(v2, operation);
            }
            paths.insert(path.clone(), item);
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

/// Has a path or an operation hold its parameters and responses itself. References to what isn't there go.
fn put_in_place(v2: &Value, at: &mut Value) {
    let resolve = |v: &mut Value, section: &str| {
        let Some(reference) = v["$ref"].as_str() else { return true };
        let named = reference.strip_prefix("#/").and_then(|r| r.strip_prefix(section)?.strip_prefix('/'));
        let there = named.and_then(|name| v2[section].get(name.replace("~1", "/").replace("~0", "~")));
        let there = there.filter(|t| t.is_object() && t.get("$ref").is_none()).cloned();
        let is_there = there.is_some();
        *v = there.unwrap_or_default();
        is_there
    };
    let Some(at) = at.as_object_mut() else { return };
    if let Some(parameters) = at.get_mut("parameters").and_then(Value::as_array_mut) {
        parameters.retain_mut(|p| resolve(p, "parameters"));
    }
    if let Some(responses) = at.get_mut("responses").and_then(Value::as_object_mut) {
        responses.retain(|_, r| resolve(r, "responses"));
    }
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
    }

    /// What an extension server answers at each path, read by a kube-aggregator that knew something before.
    async fn read_from(answers: &[(&'static str, u16, Value)], known: &Documents) -> (Documents, Result<(), String>) {
        use crate::outbound::testing::{Peer, certificate, json as answer};
        let answers = answers.to_vec();
        let peer = Peer::start(&["127.0.0.1"], move |r: Request<bytes::Bytes>| {
            let found = answers.iter().find(|(path, ..)| *path == r.uri().path());
            let response = found.map_or_else(|| answer(404, &json!({})), |(_, code, body)| answer(*code, body));
            async move { response }
        })
        .await;
        let reader = crate::testing::reader(&[]).await;
        let identity = Arc::new(certificate(&["x"], 0).0);
        let object = json!({"metadata": {"name": "v1.x.test"}, "spec": {
            "group": "x.test", "version": "v1", "service": {"namespace": "n", "name": "s", "port": 443}}});
        let mut remote = Remote::new(&object, &identity).unwrap();
        remote.target = Ok(peer.target("/"));
        let aggregator = Aggregator::new(reader.clone(), crate::outbound::Client::new(reader), identity);
        read(&aggregator, &remote, known).await
    }

    #[tokio::test]
    async fn only_a_server_that_has_no_v3_counts_as_v2_alone() {
        let resources =
            ("/apis/x.test/v1", 200, json!({"resources": [{"name": "foos", "kind": "Foo", "verbs": ["get"]}]}));
        let v2 = ("/openapi/v2", 200, json!({"paths": {"/apis/x.test/v1/foos": {}}, "definitions": {}}));
        let url = "/openapi/v3/apis/x.test/v1?hash=1";
        let v3 = ("/openapi/v3", 200, json!({"paths": {"apis/x.test/v1": {"serverRelativeURL": url}}}));
        let none = Documents::default();

        // It has both.
        let (both, done) = read_from(&[resources.clone(), v2.clone(), v3.clone()], &none).await;
        assert_eq!(done, Ok(()));
        assert_eq!((both.v3_url.as_deref(), both.has_v3(), both.v2.is_some()), (Some(url), false, true));
        assert!(both.discovery.is_some());
        // It has v2 alone.
        let (v2_alone, done) = read_from(&[resources.clone(), v2.clone()], &none).await;
        assert_eq!(done, Ok(()));
        assert!(v2_alone.v3_url.is_none() && v2_alone.has_v3());
        // It has none at all any more.
        let (empty, done) = read_from(std::slice::from_ref(&resources), &both).await;
        assert_eq!(done, Ok(()));
        assert!(empty.v3_url.is_none() && !empty.has_v3() && empty.v2.is_none() && empty.v2_etag.is_empty());

        // What it doesn't answer now is an error, and what was known stays.
        for code in [401, 403, 429, 500, 503] {
            let trouble = |path: &'static str| (path, code, json!({"message": "not now"}));
            let (read, done) = read_from(&[resources.clone(), v2.clone(), trouble("/openapi/v3")], &none).await;
            assert!(done.is_err() && read.v3_url.is_none() && !read.has_v3() && read.v2.is_some(), "{code} {done:?}");
            let all = [trouble("/apis/x.test/v1"), trouble("/openapi/v2"), trouble("/openapi/v3")];
            let (read, done) = read_from(&all, &both).await;
            assert_eq!(read.v3_url.as_deref(), Some(url), "{code}");
            assert!(
                done.is_err() && !read.has_v3() && read.v2.is_some() && read.discovery.is_some(),
                "{code} {done:?}"
            );
            let (read, _) = read_from(&all, &v2_alone).await;
            assert!(read.has_v3(), "{code}");
        }
    }

    #[test]
    fn parameters_and_responses_kept_elsewhere_are_put_where_they_are_used() {
        let theirs = json!({
            "paths": {"/apis/x.test/v1/foos": {
                "parameters": [{"$ref": "#/parameters/pretty-1"}, {"name": "own", "in": "query", "type": "string"},
                    {"$ref": "#/parameters/nowhere"}, {"$ref": "#/parameters/again"}, {"$ref": "elsewhere.json"}],
                "post": {
                    "parameters": [{"$ref": "#/parameters/a~1body"}],
                    "responses": {"200": {"$ref": "#/responses/ok"}, "401": {"description": "Unauthorized"},
                        "500": {"$ref": "#/responses/nowhere"}}},
                // Properties may be called so.
                "x-odd": {"parameters": 7, "responses": []}}},
            "parameters": {"pretty-1": {"name": "pretty", "in": "query", "type": "string"},
                "a/body": {"name": "body", "in": "body", "schema": {"$ref": "#/definitions/Foo"}},
                "again": {"$ref": "#/parameters/again"}},
            "responses": {"ok": {"description": "OK", "schema": {"$ref": "#/definitions/Bar"}}},
            "definitions": {"Foo": {}, "Bar": {}, "Other": {}},
        });
        let part = cut(&theirs, "/apis/x.test/v1/");
        let item = &part["paths"]["/apis/x.test/v1/foos"];
        assert_eq!(
            item["parameters"],
            json!([theirs["parameters"]["pretty-1"], {"name": "own", "in": "query", "type": "string"}])
        );
        assert_eq!(item["post"]["parameters"], json!([theirs["parameters"]["a/body"]]));
        assert_eq!(
            item["post"]["responses"],
            json!({"200": theirs["responses"]["ok"], "401": {"description": "Unauthorized"}})
        );
        assert_eq!(part["definitions"], json!({"Foo": {}, "Bar": {}}), "what they refer to comes along");
        let v3 = openapi::v2_to_v3(&part);
        let post = &v3["paths"]["/apis/x.test/v1/foos"]["post"];
        assert_eq!(post["requestBody"]["content"]["*/*"]["schema"], json!({"$ref": "#/components/schemas/Foo"}));
        assert_eq!(post["responses"]["200"]["content"]["*/*"]["schema"], json!({"$ref": "#/components/schemas/Bar"}));
    }
}
