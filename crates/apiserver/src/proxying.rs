//! Passing a request on to a kubelet, a pod or a Service's endpoint, upgraded connections included.

use axum::body::Body;
use http::{HeaderMap, HeaderName, HeaderValue, Request, Response, StatusCode, header};
use hyper_util::rt::TokioIo;
use meta::status::{Result, Status};
use std::sync::Arc;
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::rustls::{self, pki_types::ServerName};

const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);

/// Where to.
#[derive(Clone, Debug)]
pub struct Target {
    pub host: String,
    pub port: u16,
    pub tls: bool,
    /// The cluster's own certificates are used both ways.
    pub kubelet: bool,
}

/// Connections on behalf of clients.
pub struct Proxy {
    /// Presents the API server's client certificate and trusts the cluster's CA.
    kubelet_tls: Arc<rustls::ClientConfig>,
    /// For `https:` proxies to pods and services, whose certificates nobody vouches for (as upstream).
    any_tls: Arc<rustls::ClientConfig>,
}

trait Stream: AsyncRead + AsyncWrite + Send + Unpin {}
impl<T: AsyncRead + AsyncWrite + Send + Unpin> Stream for T {}

impl Proxy {
    pub fn new(kubelet_tls: Arc<rustls::ClientConfig>) -> Proxy {
        let mut any = rustls::ClientConfig::builder()
            .with_root_certificates(rustls::RootCertStore::empty())
            .with_no_client_auth();
        any.dangerous().set_certificate_verifier(Arc::new(Unverified));
        Proxy { kubelet_tls, any_tls: Arc::new(any) }
    }

    async fn dial(&self, target: &Target) -> Result<Box<dyn Stream>> {
        let whom = format!("{}:{}", target.host, target.port);
        let failed = |e: &dyn std::fmt::Display| {
            Status::unavailable(format!("error trying to reach service: dial tcp {whom}: {e}"))
        };
        let tcp = tokio::time::timeout(CONNECT_TIMEOUT, TcpStream::connect((target.host.as_str(), target.port)))
            .await
            .map_err(|_| failed(&"i/o timeout"))?
            .map_err(|e| failed(&e))?;
        let _ = tcp.set_nodelay(true);
        if !target.tls {
            return Ok(Box::new(tcp));
        }
        let config = if target.kubelet { &self.kubelet_tls } else { &self.any_tls };
        let name = ServerName::try_from(target.host.clone()).map_err(|e| failed(&e))?;
        let tls = TlsConnector::from(config.clone()).connect(name, tcp).await.map_err(|e| failed(&e))?;
        Ok(Box::new(tls))
    }

    /// Sends the request to `path` at the target and passes the answer back; an upgraded connection is copied both
    /// ways until either side ends it.
    pub async fn forward(&self, mut request: Request<Body>, target: &Target, path: &str) -> Result<Response<Body>> {
        let io = self.dial(target).await?;
        let upgrade = request.headers().get(header::UPGRADE).cloned();
        let inbound = upgrade.is_some().then(|| hyper::upgrade::on(&mut request));

        let (parts, body) = request.into_parts();
        let mut out = Request::builder().method(parts.method).uri(path);
        if let Some(h) = out.headers_mut() {
            *h = end_to_end(&parts.headers);
            // Who asks is the API server's business; the client's credentials stop here.
            h.remove(header::AUTHORIZATION);
            h.insert(header::HOST, host_header(target)?);
            if let Some(u) = &upgrade {
                h.insert(header::CONNECTION, HeaderValue::from_static("Upgrade"));
                h.insert(header::UPGRADE, u.clone());
            }
        }
        let out = out.body(body).map_err(|e| Status::bad_request(format!("request can't be passed on: {e}")))?;

        let unreachable = |e: &dyn std::fmt::Display| {
            Status::unavailable(format!("error trying to reach service: {}:{}: {e}", target.host, target.port))
        };
        let (mut sender, connection) =
            hyper::client::conn::http1::handshake(TokioIo::new(io)).await.map_err(|e| unreachable(&e))?;
        tokio::spawn(connection.with_upgrades());
        let mut response = sender.send_request(out).await.map_err(|e| unreachable(&e))?;

        if response.status() == StatusCode::SWITCHING_PROTOCOLS
            && let Some(inbound) = inbound
        {
            let outbound = hyper::upgrade::on(&mut response);
            tokio::spawn(async move {
                if let (Ok(a), Ok(b)) = tokio::join!(inbound, outbound) {
                    let _ = tokio::io::copy_bidirectional(&mut TokioIo::new(a), &mut TokioIo::new(b)).await;
                }
            });
            let mut answer = Response::new(Body::empty());
            *answer.status_mut() = StatusCode::SWITCHING_PROTOCOLS;
            *answer.headers_mut() = response.headers().clone();
            return Ok(answer);
        }
        let (parts, body) = response.into_parts();
        let mut answer = Response::new(Body::new(body));
        *answer.status_mut() = parts.status;
        *answer.headers_mut() = end_to_end(&parts.headers);
        Ok(answer)
    }

    /// As [`Proxy::forward`], and absolute `Location`s of the backend lead back through the proxy path.
    pub async fn forward_rewriting(
        &self,
        request: Request<Body>,
        target: &Target,
        path: &str,
        prefix: &str,
    ) -> Result<Response<Body>> {
        let mut response = self.forward(request, target, path).await?;
        let rewritten = response.headers().get(header::LOCATION).and_then(|v| v.to_str().ok()).and_then(|l| {
            let own = format!("{}:{}", target.host, target.port);
            let rest = match l.split_once("://") {
                Some((_, r)) => r.strip_prefix(own.as_str())?,
                None => l,
            };
            rest.starts_with('/').then(|| format!("{prefix}{rest}"))
        });
        if let Some(v) = rewritten.and_then(|l| HeaderValue::try_from(l).ok()) {
            response.headers_mut().insert(header::LOCATION, v);
        }
        Ok(response)
    }
}

fn host_header(target: &Target) -> Result<HeaderValue> {
    let host = if target.host.contains(':') { format!("[{}]", target.host) } else { target.host.clone() };
    HeaderValue::try_from(format!("{host}:{}", target.port)).map_err(|e| Status::internal(e))
}

/// Headers that are not of this hop (RFC 9110, section 7.6.1).
fn end_to_end(headers: &HeaderMap) -> HeaderMap {
    let named: Vec<HeaderName> = headers
        .get_all(header::CONNECTION)
        .iter()
        .filter_map(|v| v.to_str().ok())
        .flat_map(|v| v.split(',').filter_map(|n| n.trim().parse().ok()).collect::<Vec<HeaderName>>())
        .collect();
    let hop = ["connection", "keep-alive", "proxy-connection", "te", "trailer", "transfer-encoding", "upgrade"];
    headers
        .iter()
        .filter(|(k, _)| !hop.contains(&k.as_str()) && !named.contains(k))
        .map(|(k, v)| (k.clone(), v.clone()))
        .collect()
}

/// Takes any certificate.
#[derive(Debug)]
struct Unverified;

impl rustls::client::danger::ServerCertVerifier for Unverified {
    fn verify_server_cert(
        &self,
        _end_entity: &rustls::pki_types::CertificateDer<'_>,
        _intermediates: &[rustls::pki_types::CertificateDer<'_>],
        _server_name: &ServerName<'_>,
        _ocsp_response: &[u8],
        _now: rustls::pki_types::UnixTime,
    ) -> std::result::Result<rustls::client::danger::ServerCertVerified, rustls::Error> {
        Ok(rustls::client::danger::ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &rustls::pki_types::CertificateDer<'_>,
        dss: &rustls::DigitallySignedStruct,
    ) -> std::result::Result<rustls::client::danger::HandshakeSignatureValid, rustls::Error> {
        rustls::crypto::verify_tls12_signature(message, cert, dss, &provider().signature_verification_algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &rustls::pki_types::CertificateDer<'_>,
        dss: &rustls::DigitallySignedStruct,
    ) -> std::result::Result<rustls::client::danger::HandshakeSignatureValid, rustls::Error> {
        rustls::crypto::verify_tls13_signature(message, cert, dss, &provider().signature_verification_algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<rustls::SignatureScheme> {
        provider().signature_verification_algorithms.supported_schemes()
    }
}

fn provider() -> rustls::crypto::CryptoProvider {
    rustls::crypto::ring::default_provider()
}
