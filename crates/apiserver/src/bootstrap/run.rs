//! Brings the store to what [`super::objects`] says, through the server's own pipeline.

use super::{Action, Options, indispensable, objects, plan};
use crate::authn::{Connection, User};
use crate::server::Server;
use axum::body::Body;
use futures::StreamExt;
use http::{Method, Request, header};
use meta::status::{Result, Status};
use serde_json::{Value, json};
use std::sync::Arc;
use std::time::Duration;
use stdx::Shutdown;

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

/// Upstream's interval for the `kubernetes` Service.
const KEEP_EVERY: Duration = Duration::from_secs(10);

/// Until shutdown: brings back what a cluster can't do without, should somebody delete or change it (`kubectl delete
/// all --all` takes the `kubernetes` Service along).
pub async fn keep(server: Arc<Server>, options: Options, shutdown: Shutdown) {
    loop {
        tokio::select! {
            _ = shutdown.cancelled() => return,
            _ = tokio::time::sleep(KEEP_EVERY) => {}
        }
        for object in indispensable(&options) {
            if let Err(error) = one(&server, object).await {
                tracing::warn!(%error, "what every cluster has could not be mended; it is tried again");
            }
        }
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

fn collection(server: &Server, object: &Value) -> Result<String> {
    let (group, version) = api::facts::split_api_version(object["apiVersion"].as_str().unwrap_or_default());
    let kind = object["kind"].as_str().unwrap_or_default();
    let catalogue = server.registry.catalogue.load();
    let row = catalogue
        .rows
        .iter()
        .find(|r| r.group == group && r.version == version && r.kind == kind)
        .ok_or_else(|| Status::internal(format!("no resource for {group}/{version} {kind}")))?;
    let root = if group.is_empty() { format!("/api/{version}") } else { format!("/apis/{group}/{version}") };
    Ok(match object["metadata"]["namespace"].as_str() {
        Some(ns) if row.namespaced => format!("{root}/namespaces/{ns}/{}", row.plural),
        _ => format!("{root}/{}", row.plural),
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
