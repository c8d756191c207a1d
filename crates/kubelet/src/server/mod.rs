//! The node's own API on port 10250: logs, exec, attach, port-forward, health, metrics, the pods that run here.
//! Everything but health needs an identity and leave.

pub mod auth;
pub mod logs;
pub mod metrics;
pub mod remote;
pub mod stats;

use crate::pods::context::Context;
use crate::{Identity, NodeRequest};
use axum::Router;
use axum::extract::{Request, State};
use axum::middleware::{self, Next};
use axum::response::{IntoResponse, Response};
use axum::routing::{any, get};
use http::StatusCode;
use hyper_util::rt::{TokioExecutor, TokioIo};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use std::sync::Arc;
use tokio::net::TcpListener;
use tokio_rustls::TlsAcceptor;
use tower::ServiceExt;

#[derive(Debug, thiserror::Error)]
pub enum ServeError {
    #[error("listen on {address}: {source}")]
    Listen { address: std::net::SocketAddr, source: std::io::Error },
    #[error("read certificate or key: {0}")]
    Pem(#[from] rustls::pki_types::pem::Error),
    #[error("set up TLS: {0}")]
    Tls(#[from] rustls::Error),
    #[error("set up the client CA: {0}")]
    ClientCa(#[from] rustls::server::VerifierBuilderError),
}

pub struct Bound {
    listener: TcpListener,
    tls: TlsAcceptor,
}

/// `None` without an address or a certificate.
pub async fn bind(context: Arc<Context>) -> Result<Option<Bound>, ServeError> {
    let o = &context.options;
    let Some(address) = o.listen else { return Ok(None) };
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let builder =
        rustls::ServerConfig::builder_with_provider(provider.clone()).with_safe_default_protocol_versions()?;
    let builder = match &o.client_ca_pem {
        Some(ca) => {
            let mut roots = rustls::RootCertStore::empty();
            for cert in CertificateDer::pem_slice_iter(ca) {
                roots.add(cert?)?;
            }
            // Optional: others come with a bearer token.
            builder.with_client_cert_verifier(
                rustls::server::WebPkiClientVerifier::builder_with_provider(roots.into(), provider)
                    .allow_unauthenticated()
                    .build()?,
            )
        }
        None => builder.with_no_client_auth(),
    };
    let mut config = match (&o.tls_certificate, &o.tls_cert_pem, &o.tls_key_pem) {
        (Some(resolver), _, _) => builder.with_cert_resolver(resolver.clone()),
        (None, Some(cert), Some(key)) => {
            let certs = CertificateDer::pem_slice_iter(cert).collect::<Result<Vec<_>, _>>()?;
            builder.with_single_cert(certs, PrivateKeyDer::from_pem_slice(key)?)?
        }
        _ => return Ok(None),
    };
    // Upgrades (exec, attach, port-forward) exist in HTTP/1.1 only.
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    let listener = TcpListener::bind(address).await.map_err(|source| ServeError::Listen { address, source })?;
    Ok(Some(Bound { listener, tls: TlsAcceptor::from(Arc::new(config)) }))
}

pub async fn serve(bound: Bound, context: Arc<Context>) {
    let Bound { listener, tls } = bound;
    let router = router(context.clone());
    loop {
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            _ = context.shutdown.cancelled() => return,
        };
        let Ok((tcp, _)) = accepted else {
            // Out of descriptors, most likely: don't spin.
            tokio::time::sleep(std::time::Duration::from_millis(50)).await;
            continue;
        };
        let (tls, router) = (tls.clone(), router.clone());
        tokio::spawn(async move {
            let _ = tcp.set_nodelay(true);
            let handshake = tokio::time::timeout(std::time::Duration::from_secs(10), tls.accept(tcp)).await;
            let Ok(Ok(stream)) = handshake else { return };
            let identity = stream
                .get_ref()
                .1
                .peer_certificates()
                .and_then(|c| c.first())
                .and_then(|c| auth::identity_of_certificate(c));
            let service = hyper::service::service_fn(move |mut request: http::Request<hyper::body::Incoming>| {
                if let Some(identity) = identity.clone() {
                    request.extensions_mut().insert(identity);
                }
                router.clone().oneshot(request.map(axum::body::Body::new))
            });
            let _ = hyper_util::server::conn::auto::Builder::new(TokioExecutor::new())
                .serve_connection_with_upgrades(TokioIo::new(stream), service)
                .await;
        });
    }
}

/// Also for a control plane in the same process, which needs no TLS; identity then comes as an extension.
pub fn router(context: Arc<Context>) -> Router {
    Router::new()
        .route("/healthz", get(async || "ok"))
        .route("/healthz/{check}", get(async || "ok"))
        .route("/pods", get(pods))
        .route("/runningpods/", get(running_pods))
        .route("/runningpods", get(running_pods))
        .route("/containerLogs/{namespace}/{pod}/{container}", get(logs::container))
        .route("/exec/{namespace}/{pod}/{container}", any(remote::exec))
        .route("/exec/{namespace}/{pod}/{uid}/{container}", any(remote::exec))
        .route("/attach/{namespace}/{pod}/{container}", any(remote::attach))
        .route("/attach/{namespace}/{pod}/{uid}/{container}", any(remote::attach))
        .route("/portForward/{namespace}/{pod}", any(remote::port_forward))
        .route("/portForward/{namespace}/{pod}/{uid}", any(remote::port_forward))
        .route("/stats/summary", get(stats::summary))
        .route("/metrics", get(metrics::own))
        .route("/metrics/resource", get(metrics::resource))
        .layer(middleware::from_fn_with_state(context.clone(), guard))
        .with_state(context)
}

/// Who asks, and may they?
async fn guard(State(context): State<Arc<Context>>, request: Request, next: Next) -> Response {
    let path = request.uri().path().to_owned();
    if path == "/healthz" {
        return next.run(request).await;
    }
    let fallback = auth::ApiAuth::new(context.client.clone());
    let auth: &dyn crate::NodeAuth = match &context.options.auth {
        Some(auth) => &**auth,
        None => &fallback,
    };
    let identity = match request.extensions().get::<Identity>() {
        Some(identity) => Some(identity.clone()),
        None => {
            let token = request
                .headers()
                .get(http::header::AUTHORIZATION)
                .and_then(|v| v.to_str().ok())
                .and_then(|v| v.strip_prefix("Bearer "))
                .map(str::to_owned);
            match token {
                Some(token) => auth.authenticate_token(token.trim()).await,
                None => None,
            }
        }
    };
    let Some(identity) = identity else {
        return (StatusCode::UNAUTHORIZED, "Unauthorized").into_response();
    };
    let node_request = NodeRequest {
        verb: auth::verb(request.method()).to_owned(),
        subresources: auth::subresources(&path),
        node: context.options.node_name.clone(),
    };
    if !identity.groups.iter().any(|g| g == "system:masters") && !auth.authorize(&identity, &node_request).await {
        let message = format!(
            "Forbidden (user={}, verb={}, resource=nodes, subresource(s)={:?})",
            identity.user, node_request.verb, node_request.subresources
        );
        return (StatusCode::FORBIDDEN, message).into_response();
    }
    next.run(request).await
}

async fn pods(State(context): State<Arc<Context>>) -> Response {
    let items: Vec<_> = context
        .registry
        .views()
        .into_iter()
        .map(|v| {
            let mut pod = (*v.pod).clone();
            pod.status = Some(v.status);
            pod
        })
        .collect();
    axum::Json(serde_json::json!({"kind": "PodList", "apiVersion": "v1", "metadata": {}, "items": items}))
        .into_response()
}

async fn running_pods(State(context): State<Arc<Context>>) -> Response {
    let items: Vec<_> = context
        .registry
        .views()
        .into_iter()
        .filter(|v| v.containers.iter().any(|c| c.state == cri::ContainerState::Running))
        .map(|v| {
            let containers: Vec<_> =
                v.containers.iter().filter(|c| c.state == cri::ContainerState::Running).map(|c| serde_json::json!({"name": c.metadata.name, "image": c.image_id, "resources": {}})).collect();
            let m = &v.pod.metadata;
            serde_json::json!({"metadata": {"name": m.name, "namespace": m.namespace, "uid": m.uid}, "spec": {"containers": containers}, "status": {}})
        })
        .collect();
    axum::Json(serde_json::json!({"kind": "PodList", "apiVersion": "v1", "metadata": {}, "items": items}))
        .into_response()
}
