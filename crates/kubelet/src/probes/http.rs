//! Probing by an HTTP GET. With HTTPS the certificate isn't verified, as upstream has it.

use super::{Outcome, resolve_port, tcp};
use http_body_util::{BodyExt, Empty};
use hyper_util::rt::TokioIo;
use k8s_openapi::api::core::v1::{Container, HTTPGetAction};
use std::sync::Arc;
use std::time::Duration;
use tokio::net::TcpStream;

/// Redirects to the same host that are followed.
const REDIRECTS_MAX: usize = 10;
const BODY_MAX: usize = 10 * 1024;

pub async fn get(action: &HTTPGetAction, container: &Container, pod_ip: &str, timeout: Duration) -> Outcome {
    let Some(port) = resolve_port(&action.port, container) else {
        return Outcome::Failure("couldn't find port".into());
    };
    let https = action.scheme.as_deref().is_some_and(|s| s.eq_ignore_ascii_case("https"));
    let host = action.host.as_deref().filter(|h| !h.is_empty()).unwrap_or(pod_ip);
    let mut path = action.path.clone().unwrap_or_default();
    if !path.starts_with('/') {
        path.insert(0, '/');
    }
    let url = |path: &str| format!("{}://{}{path}", if https { "https" } else { "http" }, authority(host, port));
    let run = async {
        for _ in 0..=REDIRECTS_MAX {
            let (status, location, body) =
                request(host, port, https, &path, action).await.map_err(|e| format!("Get \"{}\": {e}", url(&path)))?;
            match status {
                200..=299 => return Ok(()),
                300..=399 => match location.as_deref().and_then(|l| same_host(l, host, port)) {
                    Some(next) => path = next,
                    // A redirect to elsewhere counts as an answer.
                    None => return Ok(()),
                },
                _ => {
                    tracing::trace!(body, "probe body");
                    return Err(format!("HTTP probe failed with statuscode: {status}"));
                }
            }
        }
        Err("stopped after 10 redirects".to_owned())
    };
    match tokio::time::timeout(timeout, run).await {
        Ok(Ok(())) => Outcome::Success,
        Ok(Err(message)) => Outcome::Failure(message),
        Err(_) => Outcome::Failure(format!(
            "Get \"{}\": context deadline exceeded (Client.Timeout exceeded while awaiting headers)",
            url(&path)
        )),
    }
}

fn authority(host: &str, port: u16) -> String {
    if host.contains(':') { format!("[{host}]:{port}") } else { format!("{host}:{port}") }
}

fn same_host(location: &str, host: &str, port: u16) -> Option<String> {
    if location.starts_with('/') && !location.starts_with("//") {
        return Some(location.to_owned());
    }
    let rest = location.split_once("://")?.1;
    let (to, path) = rest.find('/').map_or((rest, "/"), |i| rest.split_at(i));
    (to == authority(host, port) || to == host).then(|| path.to_owned())
}

async fn request(
    host: &str,
    port: u16,
    https: bool,
    path: &str,
    action: &HTTPGetAction,
) -> Result<(u16, Option<String>, String), String> {
    let tcp = TcpStream::connect((host, port))
        .await
        .map_err(|e| format!("dial tcp {}: connect: {}", authority(host, port), tcp::reason(&e)))?;
    let mut request = http::Request::get(path).body(Empty::<bytes::Bytes>::new()).map_err(|e| e.to_string())?;
    let headers = request.headers_mut();
    let set = |headers: &mut http::HeaderMap, name: &str, value: &str| {
        if let (Ok(name), Ok(value)) = (http::HeaderName::try_from(name), http::HeaderValue::try_from(value)) {
            headers.append(name, value);
        }
    };
    for h in action.http_headers.iter().flatten() {
        set(headers, &h.name, &h.value);
    }
    for (name, value) in [
        ("host", authority(host, port).as_str()),
        ("user-agent", "kube-probe/1.36"),
        ("accept", "*/*"),
        ("connection", "close"),
    ] {
        if !headers.contains_key(name) {
            set(headers, name, value);
        }
    }
    // An empty value takes a default header away.
    if headers.get("accept").is_some_and(|v| v.is_empty()) {
        headers.remove("accept");
    }
    if https {
        let name = rustls::pki_types::ServerName::try_from(host.to_owned()).map_err(|e| e.to_string())?;
        let tls = tokio_rustls::TlsConnector::from(unverified()).connect(name, tcp).await.map_err(|e| e.to_string())?;
        exchange(TokioIo::new(tls), request).await
    } else {
        exchange(TokioIo::new(tcp), request).await
    }
}

async fn exchange<T>(
    io: T,
    request: http::Request<Empty<bytes::Bytes>>,
) -> Result<(u16, Option<String>, String), String>
where
    T: hyper::rt::Read + hyper::rt::Write + Unpin + Send + 'static,
{
    let (mut sender, connection) = hyper::client::conn::http1::handshake(io).await.map_err(|e| e.to_string())?;
    let driver = tokio::spawn(connection);
    let answer = async {
        let response = sender.send_request(request).await.map_err(|e| e.to_string())?;
        let status = response.status().as_u16();
        let location = response.headers().get("location").and_then(|l| l.to_str().ok()).map(str::to_owned);
        let mut body = response.into_body();
        let mut text = Vec::new();
        while text.len() < BODY_MAX {
            match body.frame().await {
                Some(Ok(frame)) => text.extend_from_slice(frame.data_ref().map_or(&[][..], |d| d)),
                Some(Err(e)) => return Err(e.to_string()),
                None => break,
            }
        }
        Ok((status, location, String::from_utf8_lossy(&text).into_owned()))
    };
    let answer = answer.await;
    driver.abort();
    answer
}

#[derive(Debug)]
struct AnyCertificate(Arc<rustls::crypto::CryptoProvider>);

impl rustls::client::danger::ServerCertVerifier for AnyCertificate {
    fn verify_server_cert(
        &self,
        _: &rustls::pki_types::CertificateDer<'_>,
        _: &[rustls::pki_types::CertificateDer<'_>],
        _: &rustls::pki_types::ServerName<'_>,
        _: &[u8],
        _: rustls::pki_types::UnixTime,
    ) -> Result<rustls::client::danger::ServerCertVerified, rustls::Error> {
        Ok(rustls::client::danger::ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        m: &[u8],
        c: &rustls::pki_types::CertificateDer<'_>,
        d: &rustls::DigitallySignedStruct,
    ) -> Result<rustls::client::danger::HandshakeSignatureValid, rustls::Error> {
        rustls::crypto::verify_tls12_signature(m, c, d, &self.0.signature_verification_algorithms)
    }

    fn verify_tls13_signature(
        &self,
        m: &[u8],
        c: &rustls::pki_types::CertificateDer<'_>,
        d: &rustls::DigitallySignedStruct,
    ) -> Result<rustls::client::danger::HandshakeSignatureValid, rustls::Error> {
        rustls::crypto::verify_tls13_signature(m, c, d, &self.0.signature_verification_algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<rustls::SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}

fn unverified() -> Arc<rustls::ClientConfig> {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let builder = rustls::ClientConfig::builder_with_provider(provider.clone()).with_safe_default_protocol_versions();
    match builder {
        Ok(b) => Arc::new(
            b.dangerous().with_custom_certificate_verifier(Arc::new(AnyCertificate(provider))).with_no_client_auth(),
        ),
        Err(e) => unreachable!("ring supports the default protocol versions: {e}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    #[tokio::test]
    async fn codes_headers_and_refusals() {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        tokio::spawn(async move {
            while let Ok((mut s, _)) = listener.accept().await {
                let mut buf = vec![0; 4096];
                let n = s.read(&mut buf).await.unwrap_or(0);
                let text = String::from_utf8_lossy(&buf[..n]).to_lowercase();
                let answer = if text.starts_with("get /ok ") && text.contains("x-a: b") && text.contains("kube-probe/")
                {
                    "HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n"
                } else if text.starts_with("get /move ") {
                    "HTTP/1.1 302 Found\r\nlocation: /ok\r\ncontent-length: 0\r\n\r\n"
                } else {
                    "HTTP/1.1 503 No\r\ncontent-length: 4\r\n\r\nbusy"
                };
                let _ = s.write_all(answer.as_bytes()).await;
            }
        });
        let check = async |path: &str, port: u16| {
            let action: HTTPGetAction = serde_json::from_value(
                serde_json::json!({"path": path, "port": port, "httpHeaders": [{"name": "X-A", "value": "b"}]}),
            )
            .unwrap();
            get(&action, &Container::default(), "127.0.0.1", Duration::from_secs(5)).await
        };
        assert_eq!(check("/ok", port).await, Outcome::Success);
        assert_eq!(check("/move", port).await, Outcome::Success);
        assert_eq!(check("/no", port).await, Outcome::Failure("HTTP probe failed with statuscode: 503".into()));
        let Outcome::Failure(message) = check("/ok", 1).await else { panic!("port 1 answers") };
        assert_eq!(message, "Get \"http://127.0.0.1:1/ok\": dial tcp 127.0.0.1:1: connect: connection refused");
    }
}
