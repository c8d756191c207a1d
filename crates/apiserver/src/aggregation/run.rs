//! Keeps the aggregation layer true: registers what is served here, follows APIServices and what their servers stand
//! on, and has one task per extension server that checks it and reads its documents.

use super::availability::{conditions, kube_aggregator};
use super::registration::{self, Action};
use super::{Remote, documents};
use crate::authn::{Connection, User};
use crate::reader::prefix;
use crate::registry::create::now_seconds;
use crate::server::Server;
use axum::body::Body;
use http::{Method, Request, header};
use serde_json::{Value, json};
use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;
use stdx::Shutdown;
use store::{Change, Event};

const GROUP: &str = "apiregistration.k8s.io";
const PATH: &str = "/apis/apiregistration.k8s.io/v1/apiservices";
/// Servers that are fine are looked at so often (upstream's resync).
const RECHECK: Duration = Duration::from_secs(30);
/// Servers that aren't, sooner: from the first to the longest pause.
const RETRY_FIRST: Duration = Duration::from_millis(200);
const RETRY_MAX: Duration = Duration::from_secs(30);
/// Documents of servers that are fine are read anew so often.
const REREAD: Duration = Duration::from_secs(60);
/// Changes that are taken at a time.
const BATCH: usize = 256;

/// Until shutdown.
pub async fn run(server: Arc<Server>, shutdown: Shutdown) {
    let mut keepers = Keepers::new();
    let mut starting = true;
    loop {
        let store = server.registry.store.clone();
        let revision = store.revision();
        let watch = |group: &str, resource: &str| store.watch(&prefix(group, resource, ""), revision);
        let watchers =
            (watch(GROUP, "apiservices"), watch("", "services"), watch("discovery.k8s.io", "endpointslices"));
        let (Ok(mut own), Ok(mut services), Ok(mut slices)) = watchers else {
            tokio::select! {
                _ = shutdown.cancelled() => break,
                _ = tokio::time::sleep(RETRY_MAX) => continue,
            }
        };
        register(&server, starting).await;
        starting = false;
        keep(&server, &mut keepers, &shutdown);
        // Ends when a watcher has been passed by history: everything is then read anew.
        loop {
            tokio::select! {
                _ = shutdown.cancelled() => {
                    for (_, task) in keepers.into_values() {
                        task.abort();
                    }
                    return;
                }
                _ = server.registry.catalogue_changed.notified() => register(&server, false).await,
                _ = server.aggregator.identity_changed.notified() => keep(&server, &mut keepers, &shutdown),
                events = own.next(BATCH) => {
                    let Ok(events) = events else { break };
                    if events.is_empty() {
                        continue;
                    }
                    register(&server, false).await;
                    keep(&server, &mut keepers, &shutdown);
                }
                events = services.next(BATCH) => {
                    let Ok(events) = events else { break };
                    wake(&keepers, &events, |e| e.key.strip_prefix("/registry/services/").map(str::to_string));
                }
                events = slices.next(BATCH) => {
                    let Ok(events) = events else { break };
                    wake(&keepers, &events, |e| {
                        let slice: Value = serde_json::from_slice(&e.value).ok()?;
                        let name = slice["metadata"]["labels"]["kubernetes.io/service-name"].as_str()?;
                        Some(format!("{}/{name}", slice["metadata"]["namespace"].as_str()?))
                    });
                }
            }
        }
    }
}

/// Extension servers and who watches over them, by APIService.
type Keepers = HashMap<String, (Arc<Remote>, tokio::task::JoinHandle<()>)>;

/// Has the servers checked whose Service (`namespace/name`) an event is about.
fn wake(keepers: &Keepers, events: &[Event], service: impl Fn(&store::Entry) -> Option<String>) {
    if keepers.is_empty() {
        return;
    }
    for event in events {
        let entry = match &event.change {
            Change::Put { entry, .. } => entry,
            Change::Delete { prev } => prev,
        };
        let Some(about) = service(entry) else { continue };
        for (remote, _) in keepers.values() {
            if about == format!("{}/{}", remote.namespace, remote.service) {
                remote.changed.notify_one();
            }
        }
    }
}

/// Makes and removes APIServices of what is served here.
async fn register(server: &Arc<Server>, starting: bool) {
    let desired = registration::desired(&server.registry.catalogue.load().rows);
    let Ok(existing) = server.aggregator.reader.list(GROUP, "apiservices", "") else { return };
    let actions = registration::plan(&desired, &existing, starting);
    let work = actions.into_iter().map(|action| async move {
        let done = match &action {
            Action::Create(object) => send(server, Method::POST, PATH, object).await,
            Action::Delete(name) => send(server, Method::DELETE, &format!("{PATH}/{name}"), &Value::Null).await,
        };
        if let Err((code, why)) = done
            && !matches!(code, 404 | 409)
        {
            tracing::warn!(?action, error = why, "APIService could not be registered");
        }
    });
    futures::future::join_all(work).await;
}

/// One task per extension server, with the spec that it has now.
fn keep(server: &Arc<Server>, keepers: &mut Keepers, shutdown: &Shutdown) {
    let aggregator = &server.aggregator;
    let Ok(objects) = aggregator.reader.list(GROUP, "apiservices", "") else { return };
    let identity = aggregator.identity.load_full();
    let mut wanted: BTreeMap<String, Arc<Remote>> = BTreeMap::new();
    for object in objects {
        let object = object.value();
        let name = object["metadata"]["name"].as_str().unwrap_or("").to_string();
        match keepers.get(&name) {
            Some((remote, _)) if remote.spec == object["spec"] && Arc::ptr_eq(&remote.identity, &identity) => {
                wanted.insert(name, remote.clone());
            }
            _ => {
                if let Some(remote) = Remote::new(&object, &identity) {
                    wanted.insert(name, Arc::new(remote));
                }
            }
        }
    }
    keepers.retain(|name, (remote, task)| {
        let stays = wanted.get(name).is_some_and(|w| Arc::ptr_eq(w, remote));
        if !stays {
            task.abort();
        }
        stays
    });
    for (name, remote) in &wanted {
        if !keepers.contains_key(name) {
            let task = tokio::spawn(watch_over(server.clone(), remote.clone(), shutdown.clone()));
            keepers.insert(name.clone(), (remote.clone(), task));
        }
    }
    let mut remotes: Vec<Arc<Remote>> = wanted.into_values().collect();
    remotes.sort_by_key(|r| (-r.group_priority, r.group.clone(), -r.version_priority, r.version.clone()));
    aggregator.remotes.store(Arc::new(remotes));
}

/// Checks one server again and again, says what came of it, and reads its documents.
async fn watch_over(server: Arc<Server>, remote: Arc<Remote>, shutdown: Shutdown) {
    let mut pause = RETRY_FIRST;
    let mut read_at: Option<tokio::time::Instant> = None;
    let mut read_pause = RETRY_FIRST;
    loop {
        let verdict = server.aggregator.check(&remote).await;
        let was = remote.available.swap(verdict.available, Ordering::AcqRel);
        if was != verdict.available {
            tracing::info!(apiservice = remote.name, reason = verdict.reason, available = verdict.available, "checked");
        }
        let mut wait = if verdict.available { RECHECK } else { pause };
        if verdict.available && (!was || read_at.is_none_or(|t| t.elapsed() >= REREAD)) {
            let (read, done) = documents::read(&server.aggregator, &remote, &remote.documents()).await;
            *remote.documents.lock() = Arc::new(read);
            match done {
                Ok(()) => {
                    read_at = Some(tokio::time::Instant::now());
                    read_pause = RETRY_FIRST;
                }
                Err(error) => {
                    tracing::warn!(apiservice = remote.name, error, "documents could not be read; it is tried again");
                    read_at = None;
                    wait = read_pause;
                    read_pause = (read_pause * 2).min(RETRY_MAX);
                }
            }
        }
        if let Some(object) = server.aggregator.reader.get(GROUP, "apiservices", "", &remote.name)
            && let Some(conditions) = conditions(&object.value(), &verdict, &now_seconds())
        {
            let patch = json!({"status": {"conditions": conditions}});
            let path = format!("{PATH}/{}/status", remote.name);
            if let Err((code, why)) = send(&server, Method::PATCH, &path, &patch).await
                && code != 404
            {
                tracing::warn!(apiservice = remote.name, error = why, "condition could not be written");
            }
        }
        pause = if verdict.available { RETRY_FIRST } else { (pause * 2).min(RETRY_MAX) };
        tokio::select! {
            _ = shutdown.cancelled() => return,
            _ = tokio::time::sleep(wait) => {}
            _ = remote.changed.notified() => {}
        }
    }
}

/// A write through the server's own pipeline. Errors: code and message.
async fn send(server: &Arc<Server>, method: Method, path: &str, body: &Value) -> Result<(), (u16, String)> {
    let content_type = match method {
        Method::PATCH => "application/merge-patch+json",
        _ => "application/json",
    };
    let body = if body.is_null() { String::new() } else { body.to_string() };
    let request = Request::builder()
        .method(method)
        .uri(path)
        .header(header::CONTENT_TYPE, content_type)
        .header(header::USER_AGENT, "kube-aggregator")
        .body(Body::from(body));
    let mut request = request.map_err(|e| (0, e.to_string()))?;
    let identity = Arc::new(User { name: "system:apiserver".into(), ..kube_aggregator() });
    request.extensions_mut().insert(Connection { identity: Some(identity), ..Connection::default() });
    let response = server.handle(request).await;
    let code = response.status().as_u16();
    if code < 400 {
        return Ok(());
    }
    let bytes = crate::wire::read(response.into_body()).await.unwrap_or_default();
    Err((code, String::from_utf8_lossy(&bytes).into_owned()))
}
