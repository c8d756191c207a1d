//! Brings the store to what [`super::objects`] says, through the server's own pipeline.

use super::{Action, Options, indispensable, objects, plan};
use crate::authn::{Connection, User};
use crate::reader;
use crate::server::Server;
use api::catalogue::Resource;
use axum::body::Body;
use futures::StreamExt;
use http::{Method, Request, header};
use meta::status::{Result, Status};
use serde_json::{Value, json};
use std::sync::Arc;
use std::time::Duration;
use stdx::Shutdown;
use store::Watcher;

/// Writes under way at once; they share the store's fsyncs.
const PARALLEL: usize = 32;

/// Makes what is missing and mends what differs. Namespaces come first: the rest lives in them.
pub async fn ensure(server: &Arc<Server>, options: &Options) -> Result<()> {
    let (namespaces, rest): (Vec<Value>, Vec<Value>) =
        objects(options).into_iter().partition(|o| o["kind"] == "Namespace");
    for group in [namespaces, rest] {
        let mut writes = futures::stream::iter(group.into_iter().map(|o| one(server, o))).buffer_unordered(PARALLEL);
        while let Some(done) = writes.next().await {
            done?;
        }
    }
    let now = jiff::Timestamp::now();
    note_token_tracking(server, now).await?;
    service_cidr_is_ready(server, now).await
}

/// Since when uses of tokens in Secrets are noted; who cleans up unused ones goes by it.
async fn note_token_tracking(server: &Arc<Server>, now: jiff::Timestamp) -> Result<()> {
    let since = now.strftime("%Y-%m-%d").to_string();
    let map = json!({
        "apiVersion": "v1", "kind": "ConfigMap",
        "metadata": {"name": "kube-apiserver-legacy-service-account-token-tracking", "namespace": "kube-system"},
        "data": {"since": since},
    });
    match send(server, Method::POST, &collection(server, &map)?, Some(map)).await {
        Err(s) if s.code != 409 => Err(s),
        _ => Ok(()),
    }
}

/// The default range serves from the start, and says so.
async fn service_cidr_is_ready(server: &Arc<Server>, now: jiff::Timestamp) -> Result<()> {
    const PATH: &str = "/apis/networking.k8s.io/v1/servicecidrs/kubernetes";
    let mut cidr = send(server, Method::GET, PATH, None).await?;
    let known = cidr["status"]["conditions"].as_array().is_some_and(|c| c.iter().any(|c| c["type"] == "Ready"));
    if known {
        return Ok(());
    }
    cidr["status"]["conditions"] = json!([{
        "type": "Ready", "status": "True", "reason": "", "message": "Kubernetes default Service CIDR is ready",
        "lastTransitionTime": now.strftime("%Y-%m-%dT%H:%M:%SZ").to_string(),
    }]);
    send(server, Method::PUT, &format!("{PATH}/status"), Some(cidr)).await.map(drop)
}

/// Between two repairs, should somebody insist on a change.
const PAUSE: Duration = Duration::from_secs(1);
/// After a repair or a watch that failed.
const RETRY: Duration = Duration::from_secs(10);

/// Until shutdown: brings back what a cluster can't do without as soon as somebody deletes or changes it (`kubectl delete
/// all --all` takes the `kubernetes` Service along).
pub async fn keep(server: Arc<Server>, options: Options, shutdown: Shutdown) {
    let mut pace = tokio::time::interval(PAUSE);
    pace.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    let all = indispensable(&options);
    let work = async {
        loop {
            pace.tick().await;
            let changes = match watch(&server, &all) {
                Ok(watchers) => futures::future::select_all(watchers.into_iter().map(|w| Box::pin(changed(w)))),
                Err(error) => {
                    tracing::warn!(%error, "what every cluster has can't be watched; it is tried again");
                    tokio::time::sleep(RETRY).await;
                    continue;
                }
            };
            let mut wait = Duration::MAX;
            for object in &all {
                if let Err(error) = one(&server, object.clone()).await {
                    tracing::warn!(%error, "what every cluster has could not be mended; it is tried again");
                    wait = RETRY;
                }
            }
            let _ = tokio::time::timeout(wait, changes).await;
        }
    };
    tokio::select! {
        () = shutdown.cancelled() => {}
        () = work => {}
    }
}

/// A watcher of each object, from now on.
fn watch(server: &Server, objects: &[Value]) -> Result<Vec<Box<dyn Watcher>>> {
    let store = &server.registry.store;
    let now = store.revision();
    let watch_one = |object: &Value| {
        let (row, namespace) = place(server, object)?;
        let name = object["metadata"]["name"].as_str().unwrap_or_default();
        store.watch(&reader::key(&row.group, &row.plural, namespace, name), now).map_err(Status::internal)
    };
    objects.iter().map(watch_one).collect()
}

async fn changed(mut watcher: Box<dyn Watcher>) {
    // Compacted: it is looked at anew. Closed: the server is about to stop, don't spin until it has.
    if watcher.changes().await.is_err() {
        tokio::time::sleep(RETRY).await;
    }
}

/// Makes one object as `desired` says.
pub async fn one(server: &Arc<Server>, desired: Value) -> Result<()> {
    let path = collection(server, &desired)?;
    let name = desired["metadata"]["name"].as_str().unwrap_or_default().to_string();
    let object = format!("{path}/{name}");
    let existing = match send(server, Method::GET, &object, None).await {
        Ok(v) => Some(v),
        Err(s) if s.code == 404 => None,
        Err(s) => return Err(s),
    };
    match plan(existing.as_ref(), &desired) {
        Action::Nothing => Ok(()),
        Action::Create(v) => send(server, Method::POST, &path, Some(v)).await.map(drop),
        Action::Update(v) => send(server, Method::PUT, &object, Some(v)).await.map(drop),
        Action::Recreate(v) => {
            send(server, Method::DELETE, &object, None).await?;
            send(server, Method::POST, &path, Some(v)).await.map(drop)
        }
    }
}

/// The resource of an object, and the namespace that it lives in.
fn place<'a>(server: &Server, object: &'a Value) -> Result<(Arc<Resource>, &'a str)> {
    let (group, version) = api::facts::split_api_version(object["apiVersion"].as_str().unwrap_or_default());
    let kind = object["kind"].as_str().unwrap_or_default();
    let catalogue = server.registry.catalogue.load();
    let row = catalogue
        .rows
        .iter()
        .find(|r| r.group == group && r.version == version && r.kind == kind)
        .ok_or_else(|| Status::internal(format!("no resource for {group}/{version} {kind}")))?;
    let namespace = object["metadata"]["namespace"].as_str().filter(|_| row.namespaced).unwrap_or_default();
    Ok((row.clone(), namespace))
}

fn collection(server: &Server, object: &Value) -> Result<String> {
    let (row, namespace) = place(server, object)?;
    let root = match row.group.as_str() {
        "" => format!("/api/{}", row.version),
        group => format!("/apis/{group}/{}", row.version),
    };
    Ok(match namespace {
        "" => format!("{root}/{}", row.plural),
        ns => format!("{root}/namespaces/{ns}/{}", row.plural),
    })
}

/// A request of the server to itself.
pub async fn send(server: &Arc<Server>, method: Method, path: &str, body: Option<Value>) -> Result<Value> {
    let identity = Arc::new(User::new("system:apiserver", &["system:masters"]));
    let mut request = Request::builder()
        .method(method.clone())
        .uri(path)
        .header(header::CONTENT_TYPE, "application/json")
        .header(header::USER_AGENT, "skiff/bootstrap")
        .body(Body::from(body.map(|b| b.to_string()).unwrap_or_default()))
        .map_err(Status::internal)?;
    request.extensions_mut().insert(Connection { identity: Some(identity), ..Connection::default() });
    let response = server.handle(request).await;
    let code = response.status().as_u16();
    let bytes = crate::wire::read(response.into_body()).await?;
    let value: Value = serde_json::from_slice(&bytes).unwrap_or(Value::Null);
    if code < 400 {
        return Ok(value);
    }
    let why = value["message"].as_str().unwrap_or("no message");
    Err(Status::new(code, "", format!("{method} {path}: {why}")))
}
