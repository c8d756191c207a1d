//! The aggregation layer: group versions that other API servers serve, behind this server's address.
//!
//! In: APIService objects. Those without a service are the server's own and only describe it ([`registration`] makes
//! them); those with one hand a whole group version over to an extension server. Out: requests passed on with the
//! user's name in headers that the front proxy's certificate vouches for, the extension servers' discovery and
//! OpenAPI among our own, and a condition that says whether the server is there.
//!
//! * [`availability`]: is it there? Checked when something changes, and every half minute.
//! * [`documents`]: discovery and OpenAPI of all servers as one.
//!
//! Source: "Configure the Aggregation Layer"; API reference, `APIService`.

mod availability;
mod documents;
mod registration;
mod run;

pub use run::run;

use crate::authn::User;
use crate::outbound::{Client, Target, Trust};
use crate::pki::Identity;
use crate::proxying;
use crate::reader::Reader;
use crate::respond;
use arc_swap::ArcSwap;
use axum::body::Body;
use base64::{Engine, engine::general_purpose::STANDARD};
use documents::Documents;
use http::{HeaderMap, HeaderName, HeaderValue, Request, Response};
use parking_lot::Mutex;
use serde_json::Value;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use tokio::sync::Notify;

/// What the server knows of other servers.
pub struct Aggregator {
    remotes: ArcSwap<Vec<Arc<Remote>>>,
    outbound: Client,
    reader: Reader,
    /// The front proxy's certificate, which extension servers trust to say who asks.
    identity: ArcSwap<Identity>,
    identity_changed: Notify,
}

/// One group version that another server serves. Made anew when its APIService's spec changes.
pub struct Remote {
    /// `v1.example.com`
    pub name: String,
    pub group: String,
    pub version: String,
    pub group_priority: i64,
    pub version_priority: i64,
    pub namespace: String,
    pub service: String,
    pub port: u16,
    spec: Value,
    identity: Arc<Identity>,
    target: Result<Target, String>,
    available: AtomicBool,
    documents: Mutex<Arc<Documents>>,
    /// Something that the check looks at has changed.
    changed: Notify,
}

impl Remote {
    /// `None` for local ones.
    fn new(object: &Value, identity: &Arc<Identity>) -> Option<Remote> {
        let spec = &object["spec"];
        let service = spec["service"].as_object()?;
        let text = |v: Option<&Value>| v.and_then(Value::as_str).unwrap_or("").to_string();
        let (namespace, name) = (text(service.get("namespace")), text(service.get("name")));
        let port = service.get("port").and_then(Value::as_u64).and_then(|p| p.try_into().ok()).unwrap_or(443);
        let target = Target::service(&namespace, &name, port, "/").identified_by(identity.clone());
        let bundle = spec["caBundle"].as_str().filter(|b| !b.is_empty());
        let target = match (spec["insecureSkipTLSVerify"] == true, bundle) {
            (true, _) => Ok(target.trusting(Trust::Anybody)),
            (false, None) => Ok(target),
            (false, Some(b)) => match STANDARD.decode(b) {
                Ok(pem) => Ok(target.trusting(Trust::Ca(pem.into()))),
                Err(e) => Err(format!("caBundle is no base64: {e}")),
            },
        };
        let condition = condition(object);
        Some(Remote {
            name: object["metadata"]["name"].as_str()?.to_string(),
            group: text(spec.get("group")),
            version: text(spec.get("version")),
            group_priority: spec["groupPriorityMinimum"].as_i64().unwrap_or(0),
            version_priority: spec["versionPriority"].as_i64().unwrap_or(0),
            namespace,
            service: name,
            port,
            spec: spec.clone(),
            identity: identity.clone(),
            target,
            // What was last known holds until the first check is done.
            available: AtomicBool::new(condition.is_some_and(|c| c["status"] == "True")),
            documents: Mutex::default(),
            changed: Notify::new(),
        })
    }

    pub fn is_available(&self) -> bool {
        self.available.load(Ordering::Acquire)
    }

    fn documents(&self) -> Arc<Documents> {
        self.documents.lock().clone()
    }

    /// `/apis/example.com/v1`
    fn root(&self) -> String {
        match self.group.as_str() {
            "" => format!("/api/{}", self.version),
            g => format!("/apis/{g}/{}", self.version),
        }
    }
}

/// The condition `Available` of an APIService.
fn condition(object: &Value) -> Option<&Value> {
    object["status"]["conditions"].as_array()?.iter().find(|c| c["type"] == "Available")
}

impl Aggregator {
    pub fn new(reader: Reader, outbound: Client, identity: Arc<Identity>) -> Aggregator {
        Aggregator {
            remotes: ArcSwap::default(),
            outbound,
            reader,
            identity: ArcSwap::new(identity),
            identity_changed: Notify::new(),
        }
    }

    /// Extension servers are shown this certificate from now on.
    pub fn replace_identity(&self, front_proxy_client: &Identity) {
        self.identity.store(Arc::new(front_proxy_client.clone()));
        self.identity_changed.notify_one();
    }

    /// Who serves this path, where it isn't this server.
    pub fn route(&self, path: &str) -> Option<Arc<Remote>> {
        let remotes = self.remotes.load();
        if remotes.is_empty() {
            return None;
        }
        let document = path.strip_prefix("/openapi/v3");
        let mut segments = document.unwrap_or(path).split('/').filter(|s| !s.is_empty());
        if segments.next() != Some("apis") {
            return None;
        }
        let (group, version) = (segments.next()?, segments.next()?);
        let remote = remotes.iter().find(|r| r.group == group && r.version == version)?;
        // What was made of the server's v2 document is here.
        (document.is_none() || !remote.documents().has_v3()).then(|| remote.clone())
    }

    /// Passes a request on in the user's name. Failures are plain text, as upstream's.
    pub async fn forward(&self, remote: &Remote, user: &User, request: Request<Body>) -> Response<Body> {
        if !remote.is_available() {
            return plain(503, "service unavailable");
        }
        let target = match &remote.target {
            Ok(t) => t,
            Err(e) => return plain(503, e),
        };
        let path = request.uri().path().to_string();
        let query = request.uri().query().unwrap_or("").to_string();
        let name = |headers: &mut HeaderMap| identify(headers, user);
        match proxying::pass(&self.outbound, target, &path, &query, request, name).await {
            Ok(r) => r,
            Err(e) => {
                tracing::warn!(apiservice = remote.name, error = %e, "extension server can't be reached");
                remote.changed.notify_one();
                plain(503, &e.cause.to_string())
            }
        }
    }
}

fn plain(code: u16, text: &str) -> Response<Body> {
    respond::text(code, &format!("{text}\n"))
}

/// Says who asks, in the headers of the front proxy. What the client itself put there is gone by now.
fn identify(headers: &mut HeaderMap, user: &User) {
    let mut add = |name: &str, value: &str| {
        if let (Ok(n), Ok(v)) = (HeaderName::try_from(name), HeaderValue::from_bytes(value.as_bytes())) {
            headers.append(n, v);
        }
    };
    add("x-remote-user", &user.name);
    if !user.uid.is_empty() {
        add("x-remote-uid", &user.uid);
    }
    for g in &user.groups {
        add("x-remote-group", g);
    }
    for (key, values) in &user.extra {
        for v in values {
            add(&format!("x-remote-extra-{}", header_key(key)), v);
        }
    }
}

/// A key that may stand in a header's name: all else is percent-encoded, `%` too.
pub fn header_key(key: &str) -> String {
    use std::fmt::Write;
    let mut out = String::with_capacity(key.len());
    for b in key.bytes() {
        if b.is_ascii_alphanumeric() || b"!#$&'*+-.^_`|~".contains(&b) {
            out.push(b as char);
        } else {
            let _ = write!(out, "%{b:02X}");
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::authn::header_text;

    #[test]
    fn users_are_named_in_headers_that_clients_cant_forge() {
        let mut headers = HeaderMap::new();
        headers.insert("x-remote-user", HeaderValue::from_static("forged"));
        headers.insert("x-remote-extra-scopes", HeaderValue::from_static("forged"));
        headers.insert("impersonate-user", HeaderValue::from_static("x"));
        headers.insert("accept", HeaderValue::from_static("*/*"));
        let mut user = User::new("jane", &["a", "b"]);
        user.uid = "7".into();
        user.extra.insert("example.com/role".into(), vec!["x".into(), "größe".into()]);
        proxying::remove_identity(&mut headers);
        identify(&mut headers, &user);
        let all = |name: &str| headers.get_all(name).iter().map(header_text).collect::<Vec<_>>().join(",");
        assert_eq!(
            (
                all("x-remote-user"),
                all("x-remote-uid"),
                all("x-remote-group"),
                all("x-remote-extra-example.com%2frole")
            ),
            ("jane".into(), "7".into(), "a,b".into(), "x,größe".into())
        );
        assert_eq!(
            (headers.contains_key("impersonate-user"), all("x-remote-extra-scopes"), all("accept")),
            (false, String::new(), "*/*".into())
        );
    }
}
