//! A server as users write them to extend a cluster: admission and conversion webhooks, an aggregated API, and pages
//! behind proxies.
//!
//! `e2e extension PORT DIR`: HTTPS with DIR/tls.crt and DIR/tls.key on PORT, plain HTTP on PORT+1. It runs as a process
//! beside the cluster, and in pods whose image holds this very program. In a pod it learns from the cluster whom to
//! trust (the ConfigMap `extension-apiserver-authentication`), as every extension server does.

pub mod aggregated;
pub mod certificates;
pub mod conversion;
pub mod image;
mod pages;
mod webhooks;

use anyhow::{Context, Result};
use bytes::Bytes;
use http::{Request, Response};
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper_util::rt::{TokioExecutor, TokioIo};
use hyper_util::server::conn::auto;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use serde_json::Value;
use std::convert::Infallible;
use std::path::Path;
use std::sync::{Arc, Mutex};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpListener;

pub type Body = UnsyncBoxBody<Bytes, Infallible>;

/// What the server remembers.
#[derive(Default)]
pub struct State {
    /// Every `AdmissionReview` request, with the path that it was sent to.
    reviews: Mutex<Vec<Value>>,
    aggregated: aggregated::State,
}

pub fn run(port: &str, dir: &str) -> Result<()> {
    let port: u16 = port.parse().context("the port is no number")?;
    tokio::runtime::Builder::new_current_thread().enable_all().build()?.block_on(serve(port, Path::new(dir)))
}

async fn serve(port: u16, dir: &Path) -> Result<()> {
    let state = Arc::new(State::default());
    if std::env::var("KUBERNETES_SERVICE_HOST").is_ok() {
        // Only the aggregated API needs it, and a webhook's account may not even read it.
        let learning = state.clone();
        tokio::spawn(async move {
            while let Err(e) = aggregated::trust_cluster(&learning.aggregated).await {
                eprintln!("don't know yet whom to trust: {e:#}");
                tokio::time::sleep(std::time::Duration::from_secs(1)).await;
            }
        });
    }
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let mut tls = rustls::ServerConfig::builder_with_provider(provider.clone())
        .with_safe_default_protocol_versions()?
        .with_client_cert_verifier(Arc::new(aggregated::AnyCertificate(provider)))
        .with_single_cert(
            CertificateDer::pem_file_iter(dir.join("tls.crt"))?.collect::<Result<_, _>>()?,
            PrivateKeyDer::from_pem_file(dir.join("tls.key"))?,
        )?;
    tls.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    let acceptor = tokio_rustls::TlsAcceptor::from(Arc::new(tls));
    let (secure, plain) =
        (TcpListener::bind(("0.0.0.0", port)).await?, TcpListener::bind(("0.0.0.0", port + 1)).await?);
    loop {
        tokio::select! {
            accepted = secure.accept() => {
                let (tcp, _) = accepted?;
                let (acceptor, state) = (acceptor.clone(), state.clone());
                tokio::spawn(async move {
                    let Ok(io) = acceptor.accept(tcp).await else { return };
                    let certificate = io.get_ref().1.peer_certificates().and_then(|c| c.first()).map(|c| c.to_vec());
                    connection(io, certificate, state).await;
                });
            }
            accepted = plain.accept() => {
                let (tcp, _) = accepted?;
                tokio::spawn(connection(tcp, None, state.clone()));
            }
        }
    }
}

async fn connection(
    io: impl AsyncRead + AsyncWrite + Unpin + Send + 'static,
    certificate: Option<Vec<u8>>,
    state: Arc<State>,
) {
    let service = hyper::service::service_fn(move |request: Request<Incoming>| {
        let (state, certificate) = (state.clone(), certificate.clone());
        async move { Ok::<_, Infallible>(answer(request, certificate, &state).await) }
    });
    let _ = auto::Builder::new(TokioExecutor::new()).serve_connection_with_upgrades(TokioIo::new(io), service).await;
}

async fn answer(request: Request<Incoming>, certificate: Option<Vec<u8>>, state: &Arc<State>) -> Response<Body> {
    let path = request.uri().path().to_string();
    if path.starts_with("/apis") || path.starts_with("/openapi") {
        return aggregated::answer(request, certificate, &state.aggregated).await;
    }
    if path.starts_with("/webhook/") || path == "/reviews" {
        let body = request.into_body().collect().await.map(|b| b.to_bytes()).unwrap_or_default();
        return webhooks::answer(&path, &body, &state.reviews).await;
    }
    if path == "/convert" {
        let body = request.into_body().collect().await.map(|b| b.to_bytes()).unwrap_or_default();
        return json(200, &conversion::convert(&serde_json::from_slice(&body).unwrap_or_default()));
    }
    pages::answer(request).await
}

pub fn json(code: u16, v: &Value) -> Response<Body> {
    typed(code, "application/json", v.to_string())
}

pub fn typed(code: u16, content_type: &str, body: impl Into<Bytes>) -> Response<Body> {
    let mut r = Response::new(Full::new(body.into()).boxed_unsync());
    *r.status_mut() = http::StatusCode::from_u16(code).unwrap_or_default();
    if let Ok(v) = content_type.parse() {
        r.headers_mut().insert("content-type", v);
    }
    r
}
