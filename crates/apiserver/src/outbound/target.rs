//! Where to, whom to trust there, and who to be.

use super::exec::Exec;
use crate::pki::Identity;
use base64::{Engine, engine::general_purpose::STANDARD};
use http::{HeaderMap, HeaderValue};
use serde_json::Value;
use sha2::{Digest, Sha256};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

/// Upstream's limit for making a connection.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(30);

/// The Service of the API server.
const OWN: &str = "kubernetes.default.svc:443";

#[derive(Debug, thiserror::Error)]
pub enum TargetError {
    #[error("{url:?} is no URL that can be called: {why}")]
    Url { url: String, why: String },
    #[error("caBundle is no base64: {0}")]
    CaBundle(base64::DecodeError),
    #[error("a client configuration must have a url or a service")]
    Nothing,
}

/// A URL in its parts. Hosts are without brackets.
#[derive(Clone, Debug, PartialEq)]
pub struct Url {
    pub https: bool,
    pub host: String,
    pub port: u16,
    /// Whether the port was written: error texts show the URL as it was.
    port_shown: bool,
    /// Starts with `/`.
    pub path: String,
}

impl Url {
    pub fn parse(text: &str) -> Result<Url, TargetError> {
        let fail = |why: &str| TargetError::Url { url: text.to_string(), why: why.to_string() };
        let uri: http::Uri = text.parse().map_err(|e: http::uri::InvalidUri| fail(&e.to_string()))?;
        let https = match uri.scheme_str() {
            Some("https") => true,
            Some("http") => false,
            _ => return Err(fail("the scheme must be http or https")),
        };
        let host = uri.host().unwrap_or("").trim_start_matches('[').trim_end_matches(']').to_string();
        if host.is_empty() {
            return Err(fail("the host is missing"));
        }
        let path = match uri.path() {
            "" => "/".to_string(),
            p => p.to_string(),
        };
        let port = uri.port_u16();
        Ok(Url { https, host, port: port.unwrap_or(if https { 443 } else { 80 }), port_shown: port.is_some(), path })
    }

    pub fn new(https: bool, host: &str, port: u16, path: &str) -> Url {
        let path = if path.starts_with('/') { path.to_string() } else { format!("/{path}") };
        Url { https, host: host.to_string(), port, port_shown: true, path }
    }

    /// `host:port`, as written.
    pub fn authority(&self) -> String {
        let host = if self.host.contains(':') { format!("[{}]", self.host) } else { self.host.clone() };
        if self.port_shown { format!("{host}:{}", self.port) } else { host }
    }

    fn is_local(&self) -> bool {
        self.host.eq_ignore_ascii_case("localhost")
            || self.host.parse::<std::net::IpAddr>().is_ok_and(|ip| ip.is_loopback())
    }

    /// `host:port`; 443 where no port was written.
    pub fn host_and_port(&self) -> String {
        let authority = self.authority();
        if self.port_shown { authority } else { format!("{authority}:443") }
    }

    /// The whole URL of `path` with `query` there.
    pub fn with(&self, path: &str, query: &str) -> String {
        let scheme = if self.https { "https" } else { "http" };
        let mark = if query.is_empty() { "" } else { "?" };
        format!("{scheme}://{}{path}{mark}{query}", self.authority())
    }

    /// The URL's own path with `path` below it.
    pub fn below(&self, path: &str) -> String {
        format!("{}/{}", self.path.trim_end_matches('/'), path.trim_start_matches('/'))
    }
}

/// Whose certificates the peer may show.
#[derive(Clone, Debug)]
pub enum Trust {
    /// What this machine trusts.
    System,
    /// PEM certificates: authorities, or the peer's own certificate.
    Ca(Arc<[u8]>),
    Anybody,
}

/// What is sent as `Authorization`.
#[derive(Clone, Debug, Default)]
pub enum Credentials {
    #[default]
    None,
    Token(String),
    /// Read for each request, because such files are renewed.
    TokenFile(PathBuf),
    Basic {
        username: String,
        password: String,
    },
    /// What a program gives: [`Client::send`](super::Client::send) puts that in this one's place.
    Exec(Arc<Exec>),
}

impl Credentials {
    pub(super) async fn header(&self) -> Result<Option<HeaderValue>, String> {
        let text = match self {
            Credentials::None | Credentials::Exec(_) => return Ok(None),
            Credentials::Token(t) => format!("Bearer {t}"),
            Credentials::TokenFile(path) => {
                let token = tokio::fs::read_to_string(path)
                    .await
                    .map_err(|e| format!("failed to read token file {:?}: {e}", path.display().to_string()))?;
                format!("Bearer {}", token.trim())
            }
            Credentials::Basic { username, password } => {
                format!("Basic {}", STANDARD.encode(format!("{username}:{password}")))
            }
        };
        let mut v =
            HeaderValue::try_from(text).map_err(|_| "the token holds characters that no header may".to_string())?;
        v.set_sensitive(true);
        Ok(Some(v))
    }
}

/// A peer. Made once per configuration: equal targets share connections.
#[derive(Clone, Debug)]
pub struct Target {
    pub url: Url,
    /// The Service whose endpoints are dialled instead of the URL's host.
    pub(super) service: Option<(String, String, u16)>,
    pub(super) trust: Trust,
    /// The name in the peer's certificate where it isn't the URL's host.
    pub(super) server_name: Option<String>,
    pub(super) identity: Option<Arc<Identity>>,
    pub(super) credentials: Credentials,
    pub(super) host_header: Option<String>,
    /// Sent with every request: as whom it is made.
    pub(super) impersonating: HeaderMap,
    /// The webhook is this very server.
    pub(super) own: bool,
    pub(super) connect_timeout: Duration,
    pub(super) http1: bool,
    /// Of all that makes connections differ.
    pub(super) fingerprint: [u8; 32],
}

impl Target {
    /// A base URL that is trusted as this machine trusts.
    pub fn new(url: Url) -> Target {
        let mut t = Target {
            url,
            service: None,
            trust: Trust::System,
            server_name: None,
            identity: None,
            credentials: Credentials::None,
            host_header: None,
            impersonating: HeaderMap::new(),
            own: false,
            connect_timeout: CONNECT_TIMEOUT,
            http1: false,
            fingerprint: [0; 32],
        };
        t.seal();
        t
    }

    pub fn parse(url: &str) -> Result<Target, TargetError> {
        Ok(Target::new(Url::parse(url)?))
    }

    /// A Service of the cluster: its ready endpoints are dialled, its name in DNS is what certificate and `Host` say.
    pub fn service(namespace: &str, name: &str, port: u16, path: &str) -> Target {
        let mut t = Target::new(Url::new(true, &format!("{name}.{namespace}.svc"), port, path));
        t.service = Some((namespace.to_string(), name.to_string(), port));
        t.seal();
        t
    }

    /// A `clientConfig` as webhook configurations and conversions have it: `url` or `service`, and `caBundle`.
    pub fn from_client_config(config: &Value) -> Result<Target, TargetError> {
        let mut target = if let Some(url) = config["url"].as_str() {
            let target = Target::parse(url)?;
            // As upstream: requests that go one by one spread over what may be many servers behind an address.
            if target.url.is_local() { target } else { target.over_http1() }
        } else if let Some(service) = config["service"].as_object() {
            let text = |k: &str| service.get(k).and_then(Value::as_str).unwrap_or("");
            let port = service.get("port").and_then(Value::as_u64).and_then(|p| p.try_into().ok()).unwrap_or(443);
            Target::service(text("namespace"), text("name"), port, text("path")).over_http1()
        } else {
            return Err(TargetError::Nothing);
        };
        target.own = target.url.https && target.url.host_and_port() == OWN;
        match config["caBundle"].as_str().filter(|b| !b.is_empty()) {
            Some(b) => Ok(target.trusting(Trust::Ca(STANDARD.decode(b).map_err(TargetError::CaBundle)?.into()))),
            None => Ok(target),
        }
    }

    pub fn trusting(mut self, trust: Trust) -> Target {
        self.trust = trust;
        self.seal();
        self
    }

    /// Shows this certificate.
    pub fn identified_by(mut self, identity: Arc<Identity>) -> Target {
        self.identity = Some(identity);
        self.seal();
        self
    }

    pub fn named(mut self, server_name: &str) -> Target {
        self.server_name = (!server_name.is_empty()).then(|| server_name.to_string());
        self.seal();
        self
    }

    pub fn with(mut self, credentials: Credentials) -> Target {
        self.credentials = credentials;
        self
    }

    pub fn impersonating(mut self, headers: HeaderMap) -> Target {
        self.impersonating = headers;
        self
    }

    /// One request at a time on a connection: for streams of bytes that may stand still for long, and for peers that
    /// may be many.
    pub fn over_http1(mut self) -> Target {
        self.http1 = true;
        self
    }

    /// What `Host` says, where it isn't the URL's.
    pub fn with_host(mut self, host: &str) -> Target {
        self.host_header = Some(host.to_string());
        self
    }

    pub fn connecting_within(mut self, limit: Duration) -> Target {
        self.connect_timeout = limit;
        self
    }

    fn seal(&mut self) {
        let mut h = Sha256::new();
        let mut add = |part: &[u8]| {
            h.update((part.len() as u64).to_le_bytes());
            h.update(part);
        };
        add(&[u8::from(self.url.https)]);
        add(self.url.host.as_bytes());
        add(&self.url.port.to_le_bytes());
        match &self.service {
            Some((namespace, name, port)) => {
                add(namespace.as_bytes());
                add(name.as_bytes());
                add(format!("{port:?}").as_bytes());
            }
            None => add(b"-"),
        }
        match &self.trust {
            Trust::System => add(b"system"),
            Trust::Anybody => add(b"anybody"),
            Trust::Ca(pem) => add(pem),
        }
        add(self.server_name.as_deref().unwrap_or("").as_bytes());
        if let Some(i) = &self.identity {
            add(i.cert_pem.as_bytes());
            add(i.key_pem.as_bytes());
        }
        self.fingerprint = h.finalize().into();
    }
}
