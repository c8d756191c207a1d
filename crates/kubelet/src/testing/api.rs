//! A small API server as a tower service: objects by path, list and watch with field selectors, merge of patches,
//! graceful deletion of pods, status as a subresource.

use bytes::Bytes;
use futures::StreamExt;
use http::{Method, Request, Response, StatusCode};
use http_body_util::{BodyExt, StreamBody, combinators::BoxBody};
use kube::client::Body;
use parking_lot::Mutex;
use serde_json::{Map, Value, json};
use std::collections::BTreeMap;
use std::convert::Infallible;
use std::sync::Arc;
use tokio::sync::broadcast;

type Answer = Response<BoxBody<Bytes, Infallible>>;

#[derive(Clone)]
pub struct FakeApi {
    state: Arc<Mutex<State>>,
    changes: broadcast::Sender<(u64, String, &'static str, Value)>,
}

#[derive(Default)]
struct State {
    revision: u64,
    /// Path of the object → object.
    objects: BTreeMap<String, Value>,
}

impl Default for FakeApi {
    fn default() -> FakeApi {
        FakeApi { state: Arc::default(), changes: broadcast::channel(4096).0 }
    }
}

/// (collection without namespace, namespace, name, subresource)
fn parse(path: &str) -> (String, Option<String>, Option<String>, Option<String>) {
    let mut parts: Vec<&str> = path.trim_matches('/').split('/').collect();
    let prefix: Vec<&str> = parts.drain(..if parts.first() == Some(&"api") { 2 } else { 3 }).collect();
    let namespace = (parts.first() == Some(&"namespaces") && parts.len() > 2)
        .then(|| parts.drain(..2).nth(1).unwrap_or_default().to_owned());
    let mut rest = parts.into_iter().map(str::to_owned);
    let resource = rest.next().unwrap_or_default();
    (format!("/{}/{resource}", prefix.join("/")), namespace, rest.next(), rest.next())
}

fn key(collection: &str, namespace: Option<&str>, name: &str) -> String {
    format!("{collection}/{}/{name}", namespace.unwrap_or_default())
}

fn matches(object: &Value, namespace: Option<&str>, selector: &str) -> bool {
    let at = |path: &str| path.split('.').fold(object, |v, p| &v[p]).as_str().unwrap_or_default().to_owned();
    namespace.is_none_or(|ns| object["metadata"]["namespace"] == ns)
        && selector.split(',').filter(|s| !s.is_empty()).all(|s| s.split_once('=').is_some_and(|(k, v)| at(k) == v))
}

fn merge(target: &mut Value, patch: &Value, strategic: bool) {
    let Value::Object(patch) = patch else {
        *target = patch.clone();
        return;
    };
    if !target.is_object() {
        *target = Value::Object(Map::new());
    }
    let Some(object) = target.as_object_mut() else {
        return;
    };
    for (k, v) in patch {
        let merge_key = match k.as_str() {
            "conditions" | "addresses" if strategic => Some("type"),
            "podIPs" | "hostIPs" if strategic => Some("ip"),
            _ => None,
        };
        match (v, merge_key) {
            (Value::Null, _) => {
                object.remove(k);
            }
            (Value::Array(items), Some(key)) => {
                let list = object.entry(k.clone()).or_insert(json!([]));
                let Some(list) = list.as_array_mut() else {
                    continue;
                };
                for item in items {
                    let at = list.iter().position(|o| o[key] == item[key]);
                    match (at, item["$patch"] == "delete") {
                        (Some(i), true) => {
                            list.remove(i);
                        }
                        (Some(i), false) => merge(&mut list[i], item, strategic),
                        (None, true) => {}
                        (None, false) => list.push(item.clone()),
                    }
                }
            }
            (Value::Object(_), _) => merge(object.entry(k.clone()).or_insert(Value::Null), v, strategic),
            _ => {
                object.insert(k.clone(), v.clone());
            }
        }
    }
}

impl FakeApi {
    pub fn client(&self) -> kube::Client {
        let this = self.clone();
        kube::Client::new(
            tower::service_fn(move |request: Request<Body>| {
                let this = this.clone();
                async move { Ok::<_, Infallible>(this.handle(request).await) }
            }),
            "default",
        )
    }

    /// Creates or replaces, as any client would; `path` is the collection's, with its namespace.
    pub fn put(&self, collection_path: &str, mut object: Value) -> Value {
        let (collection, namespace, ..) = parse(&format!("{collection_path}/x"));
        let name = object["metadata"]["name"].as_str().unwrap_or_default().to_owned();
        if let Some(ns) = &namespace {
            object["metadata"]["namespace"] = json!(ns);
        }
        let key = key(&collection, namespace.as_deref(), &name);
        let mut state = self.state.lock();
        if object["metadata"]["uid"].is_null() {
            let uid = state.objects.get(&key).map(|o| o["metadata"]["uid"].clone());
            object["metadata"]["uid"] = uid.unwrap_or_else(|| json!(format!("uid-{}", state.revision + 1)));
        }
        self.store(&mut state, &collection, key, object)
    }

    pub fn get(&self, path: &str) -> Option<Value> {
        let (collection, namespace, name, _) = parse(path);
        self.state.lock().objects.get(&key(&collection, namespace.as_deref(), &name?)).cloned()
    }

    /// All objects of a collection, of any namespace.
    pub fn list(&self, collection: &str) -> Vec<Value> {
        let prefix = format!("{collection}/");
        self.state.lock().objects.iter().filter(|(k, _)| k.starts_with(&prefix)).map(|(_, v)| v.clone()).collect()
    }

    /// As `kubectl delete` does; with 0 seconds the object goes at once.
    pub fn delete(&self, path: &str, grace: i64) {
        let (collection, namespace, name, _) = parse(path);
        let key = key(&collection, namespace.as_deref(), &name.unwrap_or_default());
        let mut state = self.state.lock();
        self.remove(&mut state, &collection, &key, Some(grace));
    }

    /// Waits until `check` likes the object (or its absence); panics after ten seconds.
    pub async fn wait(&self, path: &str, what: &str, check: impl Fn(Option<&Value>) -> bool) -> Option<Value> {
        let mut changes = self.changes.subscribe();
        let waiting = async {
            loop {
                let object = self.get(path);
                if check(object.as_ref()) {
                    return object;
                }
                let _ = tokio::time::timeout(std::time::Duration::from_millis(200), changes.recv()).await;
            }
        };
        match tokio::time::timeout(std::time::Duration::from_secs(10), waiting).await {
            Ok(object) => object,
            Err(_) => panic!("{path}: not {what}: {:#}", self.get(path).unwrap_or_default()["status"]),
        }
    }

    fn store(&self, state: &mut State, collection: &str, key: String, mut object: Value) -> Value {
        state.revision += 1;
        object["metadata"]["resourceVersion"] = json!(state.revision.to_string());
        let kind = if state.objects.contains_key(&key) { "MODIFIED" } else { "ADDED" };
        state.objects.insert(key, object.clone());
        let _ = self.changes.send((state.revision, collection.to_owned(), kind, object.clone()));
        object
    }

    fn remove(&self, state: &mut State, collection: &str, key: &str, grace: Option<i64>) -> Option<Value> {
        let mut object = state.objects.get(key)?.clone();
        let own = object["spec"]["terminationGracePeriodSeconds"].as_i64().unwrap_or(30);
        let grace = grace.unwrap_or(own);
        if collection == "/api/v1/pods" && grace > 0 {
            let at = jiff::Timestamp::now().checked_add(jiff::SignedDuration::from_secs(grace)).unwrap_or_default();
            object["metadata"]["deletionTimestamp"] = json!(crate::pods::status::whole_seconds(at).to_string());
            object["metadata"]["deletionGracePeriodSeconds"] = json!(grace);
            return Some(self.store(state, collection, key.to_owned(), object));
        }
        state.objects.remove(key);
        state.revision += 1;
        object["metadata"]["resourceVersion"] = json!(state.revision.to_string());
        let _ = self.changes.send((state.revision, collection.to_owned(), "DELETED", object.clone()));
        Some(object)
    }

    async fn handle(&self, request: Request<Body>) -> Answer {
        let (parts, body) = request.into_parts();
        let (collection, namespace, name, sub) = parse(parts.uri.path());
        let query: BTreeMap<String, String> = parts
            .uri
            .query()
            .unwrap_or_default()
            .split('&')
            .filter_map(|p| p.split_once('='))
            .map(|(k, v)| (k.to_owned(), v.replace("%3D", "=").replace("%2C", ",")))
            .collect();
        let body: Value = match body.collect().await {
            Ok(body) => serde_json::from_slice(&body.to_bytes()).unwrap_or_default(),
            Err(_) => Value::Null,
        };
        let selector = query.get("fieldSelector").cloned().unwrap_or_default();
        if query.get("watch").is_some_and(|w| w == "true" || w == "1") {
            return self.watch(
                collection,
                namespace,
                selector,
                query.get("resourceVersion").and_then(|v| v.parse().ok()).unwrap_or(0),
            );
        }
        let mut state = self.state.lock();
        let Some(name) = name else {
            if parts.method == Method::GET {
                let prefix = format!("{collection}/");
                let items: Vec<&Value> = state
                    .objects
                    .iter()
                    .filter(|(k, _)| k.starts_with(&prefix))
                    .map(|(_, v)| v)
                    .filter(|o| matches(o, namespace.as_deref(), &selector))
                    .collect();
                return answer(
                    StatusCode::OK,
                    &json!({"kind": "List", "apiVersion": "v1", "metadata": {"resourceVersion": state.revision.to_string()}, "items": items}),
                );
            }
            let mut body = body;
            if let Some(prefix) = body["metadata"]["generateName"].as_str() {
                body["metadata"]["name"] = json!(format!("{prefix}{}", state.revision + 1));
            }
            drop(state);
            let name = body["metadata"]["name"].as_str().unwrap_or_default();
            if self.state.lock().objects.contains_key(&key(&collection, namespace.as_deref(), name)) {
                return failure(StatusCode::CONFLICT, "AlreadyExists");
            }
            let path = match (&namespace, collection.rsplit_once('/')) {
                (Some(ns), Some((group, resource))) => format!("{group}/namespaces/{ns}/{resource}"),
                _ => collection,
            };
            return answer(StatusCode::CREATED, &self.put(&path, body));
        };
        let key = key(&collection, namespace.as_deref(), &name);
        if sub.as_deref() == Some("token") {
            let expires = jiff::Timestamp::now().checked_add(jiff::SignedDuration::from_secs(3600)).unwrap_or_default();
            return answer(
                StatusCode::CREATED,
                &json!({"metadata": {}, "spec": body["spec"], "status": {"token": format!("token-of-{name}"), "expirationTimestamp": expires.to_string()}}),
            );
        }
        let Some(old) = state.objects.get(&key).cloned() else {
            return failure(StatusCode::NOT_FOUND, "NotFound");
        };
        match parts.method {
            Method::GET => answer(StatusCode::OK, &old),
            Method::PUT => {
                let mut object = body;
                object["metadata"]["uid"] = old["metadata"]["uid"].clone();
                answer(StatusCode::OK, &self.store(&mut state, &collection, key, object))
            }
            Method::PATCH => {
                if body["metadata"]["uid"].as_str().is_some_and(|uid| old["metadata"]["uid"] != uid) {
                    return failure(StatusCode::CONFLICT, "Conflict");
                }
                let strategic =
                    parts.headers.get("content-type").is_some_and(|t| t == "application/strategic-merge-patch+json");
                let mut object = old;
                let patch = if sub.as_deref() == Some("status") { json!({"status": body["status"]}) } else { body };
                merge(&mut object, &patch, strategic);
                answer(StatusCode::OK, &self.store(&mut state, &collection, key, object))
            }
            Method::DELETE => {
                if body["preconditions"]["uid"].as_str().is_some_and(|uid| old["metadata"]["uid"] != uid) {
                    return failure(StatusCode::CONFLICT, "Conflict");
                }
                let gone = self.remove(&mut state, &collection, &key, body["gracePeriodSeconds"].as_i64());
                answer(StatusCode::OK, &gone.unwrap_or_default())
            }
            _ => failure(StatusCode::METHOD_NOT_ALLOWED, "MethodNotAllowed"),
        }
    }

    fn watch(&self, collection: String, namespace: Option<String>, selector: String, from: u64) -> Answer {
        // The newest versions of what changed since `from`; deletions in between aren't kept, so a watch must begin at
        // the revision of its list, which in these tests it does within microseconds.
        let state = self.state.lock();
        let receiver = self.changes.subscribe();
        let prefix = format!("{collection}/");
        let missed: Vec<Value> = state
            .objects
            .iter()
            .filter(|(k, o)| {
                k.starts_with(&prefix)
                    && o["metadata"]["resourceVersion"]
                        .as_str()
                        .and_then(|v| v.parse::<u64>().ok())
                        .is_some_and(|v| v > from)
            })
            .map(|(_, o)| o.clone())
            .filter(|o| matches(o, namespace.as_deref(), &selector))
            .map(|o| json!({"type": "ADDED", "object": o}))
            .collect();
        let at = state.revision;
        drop(state);
        let live = tokio_stream::wrappers::BroadcastStream::new(receiver).filter_map(move |change| {
            let event = match change {
                Ok((revision, c, kind, object))
                    if revision > at && c == collection && matches(&object, namespace.as_deref(), &selector) =>
                {
                    Some(json!({"type": kind, "object": object}))
                }
                _ => None,
            };
            async move { event }
        });
        let stream = futures::stream::iter(missed).chain(live).map(|event| {
            let mut line = event.to_string();
            line.push('\n');
            Ok::<_, Infallible>(http_body::Frame::data(Bytes::from(line)))
        });
        Response::new(BoxBody::new(StreamBody::new(stream)))
    }
}

fn answer(code: StatusCode, object: &Value) -> Answer {
    let body = http_body_util::Full::new(Bytes::from(object.to_string()));
    let mut response = Response::new(BoxBody::new(body));
    *response.status_mut() = code;
    response
}

fn failure(code: StatusCode, reason: &str) -> Answer {
    answer(
        code,
        &json!({"kind": "Status", "apiVersion": "v1", "status": "Failure", "code": code.as_u16(), "reason": reason, "message": reason}),
    )
}
