//! An HTTP client that sends what no real client would, from inside the cluster's network.
//!
//! A thread that has joined a network namespace makes all its sockets there, so [`Access::inside`] gives one to a
//! scenario, with a small async runtime. Certificates are those that the server made.

use anyhow::{Context, Result, anyhow, bail};
use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use hyper::client::conn::{http1, http2};
use hyper_util::rt::{TokioExecutor, TokioIo};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use std::fs::File;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;
use tokio::net::TcpStream;
use tokio_rustls::client::TlsStream;

/// A request is given up after so long: the server must answer, if only with an error.
pub const PATIENCE: Duration = Duration::from_secs(20);

/// Who a connection says it is.
#[derive(Clone, Debug)]
pub enum Who {
    /// `system:masters`.
    Admin,
    Nobody,
    /// A certificate of the server's own PKI directory, by its file's name.
    Certificate(&'static str),
    Token(String),
}

#[derive(Debug)]
pub struct Access {
    net: File,
    pki: PathBuf,
    port: u16,
}

pub struct Reply {
    pub code: u16,
    pub headers: http::HeaderMap,
    pub body: Bytes,
}

impl Reply {
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    pub fn json(&self) -> serde_json::Value {
        serde_json::from_slice(&self.body).unwrap_or_default()
    }
}

enum Sender {
    Http1(http1::SendRequest<Full<Bytes>>),
    Http2(http2::SendRequest<Full<Bytes>>),
}

pub struct Connection {
    sender: Sender,
    token: Option<String>,
}

impl Access {
    pub fn new(holder: u32, pki: &Path, port: u16) -> Result<Access> {
        let net = File::open(format!("/proc/{holder}/ns/net")).context("failed to open the network namespace")?;
        Ok(Access { net, pki: pki.to_path_buf(), port })
    }

    /// Runs `work` on a thread in the cluster's network.
    pub fn inside<T: Send>(&self, work: impl AsyncFnOnce(&Access) -> Result<T> + Send) -> Result<T> {
        std::thread::scope(|s| {
            s.spawn(|| {
                nix::sched::setns(&self.net, nix::sched::CloneFlags::CLONE_NEWNET)
                    .context("failed to join the network namespace")?;
                let rt = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
                let done = rt.block_on(work(self));
                rt.shutdown_background();
                done
            })
            .join()
            .map_err(|p| anyhow!("panicked: {:?}", p.downcast_ref::<String>()))?
        })
    }

    pub async fn tcp(&self) -> Result<TcpStream> {
        let tcp = TcpStream::connect(("127.0.0.1", self.port)).await.context("failed to connect")?;
        // Else the head of a request waits for the acknowledgement of what came before.
        tcp.set_nodelay(true)?;
        Ok(tcp)
    }

    pub async fn tls(&self, who: &Who, protocol: &str) -> Result<TlsStream<TcpStream>> {
        let pem = |name: &str| self.pki.join(name);
        let mut roots = rustls::RootCertStore::empty();
        roots.add(CertificateDer::from_pem_file(pem("ca.crt"))?)?;
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let builder = rustls::ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()?
            .with_root_certificates(roots);
        let certificate = match who {
            Who::Admin => Some("admin"),
            Who::Certificate(name) => Some(*name),
            Who::Nobody | Who::Token(_) => None,
        };
        let mut config = match certificate {
            Some(name) => builder.with_client_auth_cert(
                vec![CertificateDer::from_pem_file(pem(&format!("{name}.crt")))?],
                PrivateKeyDer::from_pem_file(pem(&format!("{name}.key")))?,
            )?,
            None => builder.with_no_client_auth(),
        };
        config.alpn_protocols = vec![protocol.as_bytes().to_vec()];
        let name = ServerName::try_from("127.0.0.1")?;
        let connector = tokio_rustls::TlsConnector::from(Arc::new(config));
        Ok(connector.connect(name, self.tcp().await?).await?)
    }

    pub async fn http1(&self, who: &Who) -> Result<Connection> {
        let (sender, conn) = http1::handshake(TokioIo::new(self.tls(who, "http/1.1").await?)).await?;
        tokio::spawn(conn);
        Ok(Connection { sender: Sender::Http1(sender), token: token(who) })
    }

    pub async fn http2(&self, who: &Who) -> Result<Connection> {
        let io = TokioIo::new(self.tls(who, "h2").await?);
        let (sender, conn) = http2::Builder::new(TokioExecutor::new())
            .initial_stream_window_size(1 << 20)
            .initial_connection_window_size(1 << 24)
            .handshake(io)
            .await?;
        tokio::spawn(conn);
        Ok(Connection { sender: Sender::Http2(sender), token: token(who) })
    }
}

fn token(who: &Who) -> Option<String> {
    match who {
        Who::Token(t) => Some(t.clone()),
        _ => None,
    }
}

impl Connection {
    /// The answer's head; the body is still to be read, or dropped.
    pub async fn open(
        &mut self,
        method: &str,
        path: &str,
        headers: &[(&str, &str)],
        body: impl Into<Bytes>,
    ) -> Result<http::Response<hyper::body::Incoming>> {
        let uri = match self.sender {
            Sender::Http1(_) => path.to_string(),
            Sender::Http2(_) => format!("https://127.0.0.1{path}"),
        };
        let mut request = http::Request::builder().method(method).uri(uri);
        if let Sender::Http1(_) = self.sender {
            request = request.header("host", "127.0.0.1");
        }
        if let Some(t) = &self.token {
            request = request.header("authorization", format!("Bearer {t}"));
        }
        for (k, v) in headers {
            request = request.header(*k, *v);
        }
        let request = request.body(Full::new(body.into())).context("the client can't make such a request")?;
        let answer = async {
            match &mut self.sender {
                Sender::Http1(s) => {
                    s.ready().await?;
                    s.send_request(request).await
                }
                Sender::Http2(s) => {
                    s.ready().await?;
                    s.send_request(request).await
                }
            }
        };
        match tokio::time::timeout(PATIENCE, answer).await {
            Ok(r) => r.with_context(|| format!("{method} {path}: no answer")),
            Err(_) => bail!("{method} {path}: no answer within {PATIENCE:?}"),
        }
    }

    pub async fn send(
        &mut self,
        method: &str,
        path: &str,
        headers: &[(&str, &str)],
        body: impl Into<Bytes>,
    ) -> Result<Reply> {
        let (head, body) = self.open(method, path, headers, body).await?.into_parts();
        let body = tokio::time::timeout(PATIENCE, body.collect())
            .await
            .with_context(|| format!("{method} {path}: the body doesn't end"))?
            .with_context(|| format!("{method} {path}: the body broke off"))?;
        Ok(Reply { code: head.status.as_u16(), headers: head.headers, body: body.to_bytes() })
    }

    pub async fn get(&mut self, path: &str) -> Result<Reply> {
        self.send("GET", path, &[], Bytes::new()).await
    }

    pub async fn json(&mut self, method: &str, path: &str, body: &serde_json::Value) -> Result<Reply> {
        self.send(method, path, &[("content-type", "application/json")], body.to_string()).await
    }
}
