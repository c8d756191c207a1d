//! The server: its parts put together, the TLS listener, and the in-process entrance.

use crate::audit::Audit;
use crate::authn::{self, Connection, User};
use crate::draining::{Draining, Tidy};
use crate::flow::Flow;
use crate::health::Health;
use crate::metrics::Metrics;
use crate::proxying::Proxy;
use crate::registry::Registry;
use crate::tokens::TokenIssuer;
use crate::{authz, openapi, pipeline};
use axum::body::Body;
use futures::future::BoxFuture;
use http::{HeaderValue, Request, Response, header};
use hyper_util::rt::{TokioExecutor, TokioIo};
use hyper_util::server::conn::auto;
use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;
use stdx::Shutdown;
use tokio::net::TcpListener;
use tokio_rustls::{TlsAcceptor, rustls};
use tokio_util::task::TaskTracker;

/// How long a TLS handshake may take before the connection is dropped.
const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(10);
/// How long open requests may go on once draining began.
const DRAIN_TIMEOUT: Duration = Duration::from_secs(5);
/// Of a request's head, bytes; upstream's.
const HEADERS_MAX: u32 = 1 << 20;
/// Lines of an HTTP/1.1 request's head. Go counts none; a user's groups are a line each, behind a front proxy. Not more
/// than needed: room for as many is cleared for each request.
const HEADER_LINES_MAX: usize = 400;

pub struct Server {
    pub registry: Registry,
    pub authn: authn::Chain,
    pub authz: Arc<authz::Chain>,
    pub rbac: Arc<authz::rbac::Rbac>,
    pub tokens: Arc<TokenIssuer>,
    pub proxy: Proxy,
    /// Webhooks, aggregated servers and whatever else is called, is called through this.
    pub outbound: crate::outbound::Client,
    /// Group versions that other servers serve.
    pub aggregator: crate::aggregation::Aggregator,
    pub flow: Flow,
    pub audit: Audit,
    pub traces: crate::traces::Traces,
    pub draining: Draining,
    /// `--request-timeout`: no request but watches and streams takes longer.
    pub request_timeout: Duration,
    pub health: Health,
    pub metrics: Metrics,
    pub openapi: openapi::Cache,
    /// `/version`'s document.
    pub version: serde_json::Value,
    /// What `/statusz` and `/flagz` tell.
    pub about: crate::zpages::About,
    /// `host:port` that discovery tells clients.
    pub advertised: String,
}

impl Server {
    pub async fn handle(self: &Arc<Self>, request: Request<Body>) -> Response<Body> {
        pipeline::handle(self, request).await
    }

    /// The entrance for components of this process: the same pipeline, no TLS, and an identity that needs no proof.
    pub fn local(self: &Arc<Self>, user: User) -> Local {
        Local { server: self.clone(), identity: Arc::new(user) }
    }

    /// Webhooks that are this very server are called within the process, as the server itself.
    pub fn answer_own_webhooks(self: &Arc<Self>) {
        // The client is a part of the server.
        let server = Arc::downgrade(self);
        self.outbound.answered_by(Box::new(move |request| {
            let server = server.upgrade();
            Box::pin(async move {
                let Some(server) = server else {
                    return Response::builder().status(503).body(Body::empty()).expect("a code is a whole answer");
                };
                let mut own = server.local(User::new("system:apiserver", &[authn::MASTERS]));
                match tower::Service::call(&mut own, request).await {
                    Ok(response) => response,
                    Err(never) => match never {},
                }
            })
        }));
    }

    /// Serves until draining begins, then lets open requests finish for a while.
    pub async fn serve(self: Arc<Self>, listener: TcpListener, tls: Arc<rustls::ServerConfig>) {
        let shutdown = self.draining.token();
        let acceptor = TlsAcceptor::from(tls);
        let tasks = TaskTracker::new();
        loop {
            let (tcp, peer) = tokio::select! {
                _ = shutdown.cancelled() => break,
                accepted = listener.accept() => match accepted {
                    Ok(a) => a,
                    Err(e) => {
                        // Out of file descriptors, most likely: connections that end will free some.
                        tracing::warn!(error = %e, "accept failed");
                        tokio::time::sleep(Duration::from_millis(100)).await;
                        continue;
                    }
                },
            };
            let server = self.clone();
            let acceptor = acceptor.clone();
            let shutdown = shutdown.clone();
            tasks.spawn(async move {
                let _ = tcp.set_nodelay(true);
                let tls = match tokio::time::timeout(HANDSHAKE_TIMEOUT, acceptor.accept(tcp)).await {
                    Ok(Ok(t)) => t,
                    Ok(Err(e)) => return tracing::debug!(%peer, error = %e, "TLS handshake failed"),
                    Err(_) => return tracing::debug!(%peer, "TLS handshake timed out"),
                };
                let certificate =
                    tls.get_ref().1.peer_certificates().and_then(|c| c.first()).map(|c| Arc::new(c.as_ref().to_vec()));
                connection(server, tls, peer, certificate, shutdown).await;
            });
        }
        // Whoever comes now is refused, and not kept waiting for the end.
        drop(listener);
        tasks.close();
        if tokio::time::timeout(DRAIN_TIMEOUT, tasks.wait()).await.is_err() {
            tracing::debug!("open connections were cut at shutdown");
        }
    }
}

async fn connection(
    server: Arc<Server>,
    io: tokio_rustls::server::TlsStream<tokio::net::TcpStream>,
    peer: SocketAddr,
    client_certificate: Option<Arc<Vec<u8>>>,
    shutdown: Shutdown,
) {
    let service = hyper::service::service_fn(move |request: Request<hyper::body::Incoming>| {
        let server = server.clone();
        let connection =
            Connection { peer: Some(peer), client_certificate: client_certificate.clone(), identity: None };
        async move {
            // Of an upgrade nothing may be read but by who takes it over.
            let tidy = !request.headers().contains_key(header::UPGRADE);
            let mut request = request.map(Body::new);
            if tidy {
                request = request.map(Tidy::wrap);
            }
            request.extensions_mut().insert(connection);
            Ok::<_, Infallible>(server.handle(request).await)
        }
    });
    // What was negotiated is what is spoken: nobody is waited for to find out.
    let h2 = io.get_ref().1.alpn_protocol() == Some(b"h2");
    let mut builder = auto::Builder::new(TokioExecutor::new());
    builder = if h2 { builder.http2_only() } else { builder.http1_only() };
    builder
        .http2()
        .max_header_list_size(HEADERS_MAX)
        .max_concurrent_streams(250)
        .initial_stream_window_size(1 << 20)
        .initial_connection_window_size(1 << 22)
        .keep_alive_interval(Some(Duration::from_secs(30)))
        .timer(hyper_util::rt::TokioTimer::new());
    builder
        .http1()
        .max_buf_size(HEADERS_MAX as usize)
        .max_headers(HEADER_LINES_MAX)
        .timer(hyper_util::rt::TokioTimer::new())
        .header_read_timeout(Duration::from_secs(32));
    let conn = builder.serve_connection_with_upgrades(TokioIo::new(io), service);
    tokio::pin!(conn);
    tokio::select! {
        r = conn.as_mut() => {
            if let Err(e) = r {
                tracing::debug!(%peer, error = %e, "connection ended");
            }
            return;
        }
        _ = shutdown.cancelled() => conn.as_mut().graceful_shutdown(),
    }
    let _ = conn.await;
}

/// A `tower` service for `kube::Client::new`.
#[derive(Clone)]
pub struct Local {
    server: Arc<Server>,
    identity: Arc<User>,
}

impl<B> tower::Service<Request<B>> for Local
where
    B: http_body::Body<Data = bytes::Bytes> + Send + 'static,
    B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
{
    type Response = Response<Body>;
    type Error = Infallible;
    type Future = BoxFuture<'static, Result<Response<Body>, Infallible>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<B>) -> Self::Future {
        let server = self.server.clone();
        let identity = self.identity.clone();
        Box::pin(async move {
            let mut request = request.map(Body::new);
            if !request.headers().contains_key(header::USER_AGENT) {
                request.headers_mut().insert(header::USER_AGENT, HeaderValue::from_static(program(&identity.name)));
            }
            request.extensions_mut().insert(Connection { identity: Some(identity), ..Connection::default() });
            Ok(server.handle(request).await)
        })
    }
}

/// The program that upstream runs under a user's name: what a component without a User-Agent writes is tracked as
/// that program's.
fn program(user: &str) -> &'static str {
    match user {
        "system:kube-scheduler" => "kube-scheduler",
        "system:kube-controller-manager" => "kube-controller-manager",
        u if u.starts_with("system:serviceaccount:kube-system:") => "kube-controller-manager",
        u if u.starts_with("system:node:") => "kubelet",
        _ => "skiff",
    }
}

#[cfg(test)]
mod tests {
    use super::program;

    #[test]
    fn components_are_known_by_the_names_of_upstreams_programs() {
        for (user, want) in [
            ("system:node:n1", "kubelet"),
            ("system:serviceaccount:kube-system:deployment-controller", "kube-controller-manager"),
            ("system:serviceaccount:default:x", "skiff"),
            ("system:kube-scheduler", "kube-scheduler"),
        ] {
            assert_eq!(program(user), want, "{user}");
        }
    }
}
