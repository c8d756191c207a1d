//! For unit tests alone: an HTTPS server with a CA of its own, which answers as a closure says.

use crate::pki::{Authority, Identity, Request as Certificate};
use bytes::Bytes;
use http::{Request, Response};
use http_body_util::{BodyExt, Full};
use hyper_util::rt::{TokioExecutor, TokioIo};
use hyper_util::server::conn::auto;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use tokio::net::TcpListener;

pub struct Peer {
    pub port: u16,
    pub ca_pem: String,
    /// TCP connections so far.
    pub connections: Arc<AtomicUsize>,
    task: tokio::task::JoinHandle<()>,
}

impl Drop for Peer {
    fn drop(&mut self) {
        self.task.abort();
    }
}

pub fn now() -> i64 {
    jiff::Timestamp::now().as_second()
}

/// A certificate for these names and its CA.
pub fn certificate(sans: &[&str], at: i64) -> (Identity, String) {
    let ca = Authority::create("test", at).unwrap();
    let request = Certificate::server("peer", sans.iter().map(|s| s.to_string()).collect());
    (ca.issue(&request, at).unwrap(), ca.cert_pem)
}

impl Peer {
    /// Answers on a free port of loopback under names that the certificate holds.
    pub async fn start<F, A>(sans: &[&str], answer: F) -> Peer
    where
        F: Fn(Request<Bytes>) -> A + Send + Sync + 'static,
        A: Future<Output = Response<Bytes>> + Send + 'static,
    {
        let (identity, ca_pem) = certificate(sans, now());
        Peer::with(identity, ca_pem, answer).await
    }

    pub async fn with<F, A>(identity: Identity, ca_pem: String, answer: F) -> Peer
    where
        F: Fn(Request<Bytes>) -> A + Send + Sync + 'static,
        A: Future<Output = Response<Bytes>> + Send + 'static,
    {
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let mut tls = rustls::ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(vec![identity.cert_der().unwrap()], identity.key_der().unwrap())
            .unwrap();
        tls.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
        let acceptor = tokio_rustls::TlsAcceptor::from(Arc::new(tls));
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let connections = Arc::new(AtomicUsize::new(0));
        let counted = connections.clone();
        let answer = Arc::new(answer);
        let task = tokio::spawn(async move {
            while let Ok((tcp, _)) = listener.accept().await {
                counted.fetch_add(1, Ordering::SeqCst);
                let (acceptor, answer) = (acceptor.clone(), answer.clone());
                tokio::spawn(async move {
                    let Ok(io) = acceptor.accept(tcp).await else { return };
                    let service = hyper::service::service_fn(move |r: Request<hyper::body::Incoming>| {
                        let answer = answer.clone();
                        async move {
                            let (parts, body) = r.into_parts();
                            let body = body.collect().await?.to_bytes();
                            let answered = answer(Request::from_parts(parts, body)).await;
                            Ok::<_, hyper::Error>(answered.map(Full::new))
                        }
                    });
                    let _ = auto::Builder::new(TokioExecutor::new()).serve_connection(TokioIo::new(io), service).await;
                });
            }
        });
        Peer { port, ca_pem, connections, task }
    }

    pub fn url(&self, path: &str) -> String {
        format!("https://127.0.0.1:{}{path}", self.port)
    }

    pub fn target(&self, path: &str) -> super::Target {
        let target = super::Target::parse(&self.url(path)).unwrap();
        target.trusting(super::Trust::Ca(self.ca_pem.as_bytes().into()))
    }
}

pub fn json(code: u16, body: &serde_json::Value) -> Response<Bytes> {
    Response::builder().status(code).body(Bytes::from(body.to_string())).unwrap()
}
