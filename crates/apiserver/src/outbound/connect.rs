//! Making connections: from a target to a stream, through TLS where the target says so.

use super::error::Cause;
use super::service::{Endpoint, ready_endpoint};
use super::target::Target;
use super::tls;
use crate::reader::Reader;
use futures::future::BoxFuture;
use http::Uri;
use hyper::rt::{Read, ReadBufCursor, Write};
use hyper_util::client::legacy::connect::{Connected, Connection};
use hyper_util::rt::TokioIo;
use rustls::pki_types::ServerName;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

/// Dials one target, whatever the URI says.
#[derive(Clone)]
pub struct Connector {
    target: Arc<Target>,
    tls: Option<Arc<rustls::ClientConfig>>,
    endpoint: Option<Endpoint>,
}

/// Where a Service's target is to be dialled this time; `None` for targets that aren't Services.
pub fn resolve(target: &Target, reader: &Reader) -> Result<Option<Endpoint>, Cause> {
    let Some((namespace, name, port)) = &target.service else { return Ok(None) };
    match ready_endpoint(reader, namespace, name, *port) {
        Ok(e) => Ok(Some(e)),
        Err(s) if s.code == 404 => Err(Cause::Dial(format!("service {name:?} not found"))),
        Err(s) => Err(Cause::Dial(s.message)),
    }
}

impl Connector {
    pub fn new(target: &Target, http1: bool, endpoint: Option<Endpoint>) -> Result<Connector, Cause> {
        let tls = match target.url.https {
            true => Some(Arc::new(tls::config(target, http1)?)),
            false => None,
        };
        Ok(Connector { target: Arc::new(target.clone()), tls, endpoint })
    }

    async fn dial(self) -> Result<Io, Cause> {
        let (host, port) = match self.endpoint {
            Some(e) => (e.host, e.port),
            None => (self.target.url.host.clone(), self.target.url.port),
        };
        let name = self.target.server_name.as_deref().unwrap_or(&self.target.url.host).to_string();
        let made = async {
            let tcp = TcpStream::connect((host.as_str(), port)).await.map_err(|e| dial_error(&host, port, &e))?;
            let _ = tcp.set_nodelay(true);
            let Some(config) = &self.tls else { return Ok(Io::Plain(TokioIo::new(tcp))) };
            let name = ServerName::try_from(name.clone())
                .map_err(|_| Cause::Tls(format!("tls: {name:?} is no name that a certificate can hold")))?;
            let stream =
                TlsConnector::from(config.clone()).connect(name, tcp).await.map_err(|e| handshake_error(&e))?;
            Ok(Io::Tls(Box::new(TokioIo::new(stream))))
        };
        match tokio::time::timeout(self.target.connect_timeout, made).await {
            Ok(done) => done,
            Err(_) => Err(Cause::Dial(format!("dial tcp {}: i/o timeout", shown(&host, port)))),
        }
    }
}

fn shown(host: &str, port: u16) -> String {
    if host.contains(':') { format!("[{host}]:{port}") } else { format!("{host}:{port}") }
}

fn dial_error(host: &str, port: u16, e: &io::Error) -> Cause {
    let why = match e.kind() {
        io::ErrorKind::ConnectionRefused => "connect: connection refused".to_string(),
        io::ErrorKind::HostUnreachable => "connect: no route to host".to_string(),
        io::ErrorKind::NetworkUnreachable => "connect: network is unreachable".to_string(),
        io::ErrorKind::TimedOut => "connect: connection timed out".to_string(),
        // A name that doesn't resolve has no number.
        _ if e.raw_os_error().is_none() => return Cause::Dial(format!("dial tcp: lookup {host}: no such host")),
        _ => format!("connect: {e}"),
    };
    Cause::Dial(format!("dial tcp {}: {why}", shown(host, port)))
}

fn handshake_error(e: &io::Error) -> Cause {
    if let Some(t) = e.get_ref().and_then(|inner| inner.downcast_ref::<rustls::Error>()) {
        // A plain HTTP server answers a handshake with an HTTP error.
        return match t {
            rustls::Error::InvalidMessage(_) => Cause::Tls("http: server gave HTTP response to HTTPS client".into()),
            other => Cause::Tls(tls::explain(other)),
        };
    }
    match e.kind() {
        io::ErrorKind::UnexpectedEof => Cause::Tls("EOF".into()),
        io::ErrorKind::ConnectionReset => Cause::Tls("read: connection reset by peer".into()),
        _ => Cause::Tls(e.to_string()),
    }
}

impl tower::Service<Uri> for Connector {
    type Response = Io;
    type Error = Cause;
    type Future = BoxFuture<'static, Result<Io, Cause>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Cause>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, _: Uri) -> Self::Future {
        Box::pin(self.clone().dial())
    }
}

pub enum Io {
    Plain(TokioIo<TcpStream>),
    Tls(Box<TokioIo<TlsStream<TcpStream>>>),
}

impl Connection for Io {
    fn connected(&self) -> Connected {
        let made = Connected::new();
        match self {
            Io::Tls(t) if t.inner().get_ref().1.alpn_protocol() == Some(b"h2") => made.negotiated_h2(),
            _ => made,
        }
    }
}

impl Read for Io {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: ReadBufCursor<'_>) -> Poll<io::Result<()>> {
        match &mut *self {
            Io::Plain(s) => Pin::new(s).poll_read(cx, buf),
            Io::Tls(s) => Pin::new(&mut **s).poll_read(cx, buf),
        }
    }
}

impl Write for Io {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        match &mut *self {
            Io::Plain(s) => Pin::new(s).poll_write(cx, buf),
            Io::Tls(s) => Pin::new(&mut **s).poll_write(cx, buf),
        }
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match &mut *self {
            Io::Plain(s) => Pin::new(s).poll_flush(cx),
            Io::Tls(s) => Pin::new(&mut **s).poll_flush(cx),
        }
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match &mut *self {
            Io::Plain(s) => Pin::new(s).poll_shutdown(cx),
            Io::Tls(s) => Pin::new(&mut **s).poll_shutdown(cx),
        }
    }
}
