//! Calling out: the one HTTP client with which the server calls webhooks, aggregated servers, kubelets, pods and
//! identity providers.
//!
//! In: a [`Target`] (where, whom to trust, who to be) and a request. Out: the answer, or an [`Error`] in the words
//! that upstream's client has for it (`Post "https://…": context deadline exceeded`), since people search for them.
//! Connections are kept and shared between requests to the same target with the same credentials; HTTP/2 is used
//! where the peer offers it. Redirects are never followed: a target is what was configured.

mod connect;
mod error;
mod exec;
mod kubeconfig;
mod service;
mod target;
mod tls;

pub use error::{Cause, Error, refusal};
pub use kubeconfig::{AuthInfos, KubeconfigError};
pub use service::{Endpoint, proxied_pod};
pub use target::{Credentials, Target, TargetError, Trust, Url};

use crate::metrics::figures::{CALL_DURATIONS, CALLS};
use crate::reader::Reader;
use crate::traces;
use axum::body::Body;
use bytes::Bytes;
use futures::future::BoxFuture;
use http::{HeaderMap, HeaderValue, Method, Request, Response, header};
use http_body_util::{BodyExt, Limited};
use hyper::body::Incoming;
use hyper_util::client::legacy;
use hyper_util::rt::{TokioExecutor, TokioTimer};
use parking_lot::Mutex;
use serde_json::Value;
use std::borrow::Cow;
use std::collections::HashMap;
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

/// More of an answer isn't read, bytes: upstream's limit for what a webhook may send.
pub const ANSWER_MAX: usize = 16 * 1024 * 1024;
/// Idle connections are closed after so long.
const IDLE: Duration = Duration::from_secs(90);
/// Idle connections to one target.
const IDLE_MAX: usize = 16;
/// Targets whose connections are kept.
const POOLS_MAX: usize = 512;

type Pool = legacy::Client<connect::Connector, Body>;

/// The way into this very server, as the server itself.
pub type Own = Box<dyn Fn(Request<Body>) -> BoxFuture<'static, Response<Body>> + Send + Sync>;

/// Cheap to clone; clones share their connections.
#[derive(Clone)]
pub struct Client {
    inner: Arc<Inner>,
}

struct Inner {
    /// Where Services and their endpoints are looked up.
    reader: Reader,
    pools: Mutex<HashMap<PoolKey, (Pool, Instant)>>,
    own: OnceLock<Own>,
}

#[derive(Clone, PartialEq, Eq, Hash)]
struct PoolKey {
    target: [u8; 32],
    /// Upgrades (WebSocket, SPDY) exist in HTTP/1.1 only.
    http1: bool,
    /// Of a Service, chosen anew for each request: who is no endpoint any more gets none, though connections to it
    /// may be open still.
    endpoint: Option<Endpoint>,
}

/// A whole answer.
#[derive(Debug)]
pub struct Answer {
    pub code: u16,
    pub headers: HeaderMap,
    pub body: Bytes,
}

impl Answer {
    pub fn is_success(&self) -> bool {
        (200..300).contains(&self.code)
    }

    /// The body of a success as JSON; otherwise why not, in the words of upstream's client.
    pub fn json(&self) -> Result<Value, String> {
        if !self.is_success() {
            return Err(refusal(self.code, &self.body));
        }
        if self.body.is_empty() {
            let kind = self.headers.get(header::CONTENT_TYPE).and_then(|v| v.to_str().ok()).unwrap_or("");
            return Err(format!("0-length response with status code: {} and content type: {kind}", self.code));
        }
        let read = api::codec::json::parse(&self.body);
        read.map(|(v, _)| v).map_err(|e| format!("couldn't get version/kind; json parse error: {e}"))
    }
}

impl Client {
    pub fn new(reader: Reader) -> Client {
        Client { inner: Arc::new(Inner { reader, pools: Mutex::default(), own: OnceLock::new() }) }
    }

    /// From now on webhooks that are this server are called within the process. Only the first way in counts.
    pub fn answered_by(&self, own: Own) {
        let _ = self.inner.own.set(own);
    }

    /// POSTs JSON to the target's own path, with its `query` (empty for none), and reads the answer, all within
    /// `timeout`.
    pub async fn post(&self, target: &Target, query: &str, body: &Value, timeout: Duration) -> Result<Answer, Error> {
        let json = HeaderValue::from_static("application/json");
        let mut request = Request::new(Body::from(body.to_string()));
        *request.method_mut() = Method::POST;
        request.headers_mut().insert(header::CONTENT_TYPE, json.clone());
        request.headers_mut().insert(header::ACCEPT, json);
        let started = Instant::now();
        let answer = self.fetch(target, &target.url.path, query, request, timeout).await;
        let (host, code) =
            (target.url.authority(), answer.as_ref().map_or("<error>".to_string(), |a| a.code.to_string()));
        CALLS.add(format!("code=\"{code}\",host=\"{host}\",method=\"POST\""));
        CALL_DURATIONS.observe(format!("host=\"{host}\",verb=\"POST\""), started.elapsed().as_secs_f64());
        answer
    }

    /// GETs `path` (with its query) of the target.
    pub async fn get(&self, target: &Target, path: &str, query: &str, timeout: Duration) -> Result<Answer, Error> {
        self.fetch(target, path, query, Request::new(Body::empty()), timeout).await
    }

    /// Sends a request to `path` at the target and reads the whole answer, all within `timeout`.
    pub async fn fetch(
        &self,
        target: &Target,
        path: &str,
        query: &str,
        request: Request<Body>,
        timeout: Duration,
    ) -> Result<Answer, Error> {
        let method = request.method().clone();
        let fail = |cause| Error::new(&method, target, path, query, cause);
        let whole = async {
            let response = match self.inner.own.get().filter(|_| target.own) {
                Some(own) => {
                    let (mut parts, body) = request.into_parts();
                    parts.uri = target.url.with(path, query).parse().map_err(|e| fail(bad_url(e)))?;
                    own(Request::from_parts(parts, body)).await
                }
                None => self.send(target, path, query, request).await?.map(Body::new),
            };
            let (parts, body) = response.into_parts();
            let body = Limited::new(body, ANSWER_MAX).collect().await.map_err(|e| {
                fail(match e.downcast::<http_body_util::LengthLimitError>() {
                    Ok(_) => Cause::TooLarge,
                    Err(e) => Cause::Protocol(error::protocol(e.as_ref())),
                })
            })?;
            Ok(Answer { code: parts.status.as_u16(), headers: parts.headers, body: body.to_bytes() })
        };
        match tokio::time::timeout(timeout, whole).await {
            Ok(done) => done,
            Err(_) => {
                // The connection may be to an endpoint that is no more; the next call begins anew.
                self.forget(target);
                Err(fail(Cause::Timeout))
            }
        }
    }

    /// Sends a request to `path` at the target; the answer's body streams. Host, version and the target's own
    /// credentials are set here; every other header is the caller's.
    pub async fn send(
        &self,
        target: &Target,
        path: &str,
        query: &str,
        request: Request<Body>,
    ) -> Result<Response<Incoming>, Error> {
        let method = request.method().clone();
        let fail = |cause| Error::new(&method, target, path, query, cause);
        let http1 = target.http1 || request.headers().contains_key(header::UPGRADE);
        let unlent = target;
        let (target, lent) = match &unlent.credentials {
            Credentials::Exec(exec) => {
                let held = exec.credentials(unlent).await;
                let held = held.map_err(|e| fail(Cause::Credentials(format!("getting credentials: {e}"))))?;
                (Cow::Owned(held.lend(unlent.clone())), Some((exec, held)))
            }
            _ => (Cow::Borrowed(unlent), None),
        };
        let target = target.as_ref();
        let endpoint = connect::resolve(target, &self.inner.reader).map_err(fail)?;
        let pool = self.pool(target, http1, endpoint).map_err(fail)?;
        let (mut parts, body) = request.into_parts();
        parts.uri = target.url.with(path, query).parse().map_err(|e| fail(bad_url(e)))?;
        parts.version = http::Version::HTTP_11;
        parts.headers.remove(header::HOST);
        if let Some(host) = &target.host_header {
            let host = HeaderValue::try_from(host).map_err(|e| fail(Cause::Url(e.to_string())))?;
            parts.headers.insert(header::HOST, host);
        }
        if let Some(v) = target.credentials.header().await.map_err(|e| fail(Cause::Credentials(e)))? {
            parts.headers.insert(header::AUTHORIZATION, v);
        }
        if !parts.headers.contains_key("impersonate-user") {
            parts.headers.extend(target.impersonating.clone());
        }
        if !parts.headers.contains_key(header::USER_AGENT) {
            parts.headers.insert(header::USER_AGENT, HeaderValue::from_static("kube-apiserver-admission"));
        }
        let mut span = traces::calling(&method);
        if span.is_recording() {
            span.inject(&mut parts.headers);
            span.set("http.request.method", method.as_str());
            span.set("url.full", parts.uri.to_string());
            span.set("server.address", parts.uri.host().unwrap_or_default());
        }
        let answer = pool.request(Request::from_parts(parts, body)).await;
        match &answer {
            Ok(response) => {
                let code = response.status().as_u16();
                if let Some((exec, held)) = lent.filter(|_| code == 401) {
                    exec.refused(unlent, &held).await;
                }
                span.set("http.response.status_code", code);
                if code >= 400 {
                    span.fail("");
                }
            }
            Err(e) => span.fail(e.to_string()),
        }
        answer.map_err(|e| fail(error::cause(&e)))
    }

    fn pool(&self, target: &Target, http1: bool, endpoint: Option<Endpoint>) -> Result<Pool, Cause> {
        let connector = || connect::Connector::new(target, http1, endpoint.clone());
        let key = PoolKey { target: target.fingerprint, http1, endpoint: endpoint.clone() };
        let now = Instant::now();
        let mut pools = self.inner.pools.lock();
        if let Some((pool, used)) = pools.get_mut(&key) {
            *used = now;
            return Ok(pool.clone());
        }
        let connector = connector()?;
        if pools.len() >= POOLS_MAX
            && let Some(oldest) = pools.iter().min_by_key(|(_, (_, used))| *used).map(|(k, _)| k.clone())
        {
            pools.remove(&oldest);
        }
        let pool = legacy::Client::builder(TokioExecutor::new())
            .pool_timer(TokioTimer::new())
            .timer(TokioTimer::new())
            .pool_idle_timeout(IDLE)
            .pool_max_idle_per_host(IDLE_MAX)
            // As Go's: a reader that doesn't read must not hold up the others of its connection.
            .http2_initial_connection_window_size(1 << 30)
            .http2_initial_stream_window_size(4 << 20)
            .http2_keep_alive_interval(Duration::from_secs(30))
            .http2_keep_alive_timeout(Duration::from_secs(15))
            .build(connector);
        pools.insert(key, (pool.clone(), now));
        Ok(pool)
    }

    /// Drops the kept connections to a target; requests under way go on.
    pub fn forget(&self, target: &Target) {
        self.inner.pools.lock().retain(|key, _| key.target != target.fingerprint);
    }
}

fn bad_url(e: http::uri::InvalidUri) -> Cause {
    Cause::Url(e.to_string())
}

#[cfg(test)]
pub mod testing;
#[cfg(test)]
mod tests;
