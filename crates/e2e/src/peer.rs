//! An HTTPS server that a scenario runs inside the cluster's network: an identity provider, a webhook.

use anyhow::{Context, Result};
use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use hyper_util::rt::{TokioExecutor, TokioIo};
use hyper_util::server::conn::auto;
use rcgen::{CertificateParams, KeyPair};
use rustls::pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject};
use serde_json::Value;
use std::convert::Infallible;
use std::fs::File;
use std::sync::Arc;

/// Method, path with query, body as JSON → code and body.
pub type Answer = dyn Fn(&str, &str, Value) -> (u16, Value) + Send + Sync;

/// As [`Answer`], for who looks at the request's headers.
pub type AnswerWithHeaders = dyn Fn(&str, &str, &http::HeaderMap, Value) -> (u16, Value) + Send + Sync;

pub struct Peer {
    pub port: u16,
    /// Its certificate, which is its own authority.
    pub ca_pem: String,
    stop: Option<tokio::sync::oneshot::Sender<()>>,
    thread: Option<std::thread::JoinHandle<()>>,
}

impl Drop for Peer {
    fn drop(&mut self) {
        drop(self.stop.take());
        if let Some(t) = self.thread.take() {
            let _ = t.join();
        }
    }
}

impl Peer {
    /// Listens on a free port of 127.0.0.1 in the network namespace of this process.
    pub fn start(holder: u32, answer: Arc<Answer>) -> Result<Peer> {
        Peer::start_with_headers(
            holder,
            Arc::new(move |method: &str, path: &str, _: &http::HeaderMap, body| answer(method, path, body)),
        )
    }

    /// As [`Peer::start`].
    pub fn start_with_headers(holder: u32, answer: Arc<AnswerWithHeaders>) -> Result<Peer> {
        let key = KeyPair::generate()?;
        let cert = CertificateParams::new(vec!["127.0.0.1".to_string()])?.self_signed(&key)?;
        let (ca_pem, key_pem) = (cert.pem(), key.serialize_pem());
        let mut tls = rustls::ServerConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()))
            .with_safe_default_protocol_versions()?
            .with_no_client_auth()
            .with_single_cert(
                vec![CertificateDer::from_pem_slice(ca_pem.as_bytes())?],
                PrivateKeyDer::from_pem_slice(key_pem.as_bytes())?,
            )?;
        tls.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
        let tls = tokio_rustls::TlsAcceptor::from(Arc::new(tls));
        let net = File::open(format!("/proc/{holder}/ns/net")).context("failed to open the network namespace")?;
        let (stop, mut stopped) = tokio::sync::oneshot::channel();
        let (told, port) = std::sync::mpsc::channel();
        let thread = std::thread::spawn(move || {
            if nix::sched::setns(&net, nix::sched::CloneFlags::CLONE_NEWNET).is_err() {
                return;
            }
            let Ok(rt) = tokio::runtime::Builder::new_current_thread().enable_all().build() else { return };
            rt.block_on(async {
                let Ok(listener) = tokio::net::TcpListener::bind("127.0.0.1:0").await else { return };
                let _ = told.send(listener.local_addr().map(|a| a.port()).unwrap_or_default());
                loop {
                    let tcp = tokio::select! {
                        _ = &mut stopped => return,
                        accepted = listener.accept() => match accepted {
                            Ok((tcp, _)) => tcp,
                            Err(_) => continue,
                        },
                    };
                    let (tls, answer) = (tls.clone(), answer.clone());
                    tokio::spawn(async move {
                        let Ok(io) = tls.accept(tcp).await else { return };
                        let service = hyper::service::service_fn(move |r| serve(r, answer.clone()));
                        let _ =
                            auto::Builder::new(TokioExecutor::new()).serve_connection(TokioIo::new(io), service).await;
                    });
                }
            });
            rt.shutdown_background();
        });
        let port = port.recv().context("the peer didn't start")?;
        Ok(Peer { port, ca_pem, stop: Some(stop), thread: Some(thread) })
    }

    pub fn url(&self) -> String {
        format!("https://127.0.0.1:{}", self.port)
    }

    /// A kubeconfig by which the server finds it, as webhooks are named.
    pub fn kubeconfig(&self, path: &str) -> String {
        use base64::{Engine, engine::general_purpose::STANDARD};
        serde_json::json!({"apiVersion": "v1", "kind": "Config", "current-context": "c",
            "clusters": [{"name": "c", "cluster": {"server": format!("{}{path}", self.url()),
                          "certificate-authority-data": STANDARD.encode(&self.ca_pem)}}],
            "users": [{"name": "u", "user": {}}],
            "contexts": [{"name": "c", "context": {"cluster": "c", "user": "u"}}]})
        .to_string()
    }
}

async fn serve(
    request: http::Request<hyper::body::Incoming>,
    answer: Arc<AnswerWithHeaders>,
) -> Result<http::Response<Full<Bytes>>, Infallible> {
    let (parts, body) = request.into_parts();
    let bytes = body.collect().await.map(|b| b.to_bytes()).unwrap_or_default();
    let path = parts.uri.path_and_query().map_or("/", |p| p.as_str()).to_string();
    let (code, value) =
        answer(parts.method.as_str(), &path, &parts.headers, serde_json::from_slice(&bytes).unwrap_or_default());
    let mut response = http::Response::new(Full::new(Bytes::from(value.to_string())));
    *response.status_mut() = http::StatusCode::from_u16(code).unwrap_or(http::StatusCode::INTERNAL_SERVER_ERROR);
    response.headers_mut().insert(http::header::CONTENT_TYPE, http::HeaderValue::from_static("application/json"));
    Ok(response)
}
