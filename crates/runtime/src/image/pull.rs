//! Pulling images from registries.
//!
//! A layer goes from the network through decompression into its directory as it arrives; nothing is stored
//! compressed. Mirrors are tried in order, then the registry itself; credentials in order, then none.

use super::archive::Verified;
use super::manifest::{self, Config, Manifest};
use super::store::Hashed;
use super::{Error, Reference, Result, Store};
use futures::StreamExt;
use oci_client::client::{Certificate, CertificateEncoding, ClientConfig, ClientProtocol};
use oci_client::secrets::RegistryAuth;
use oci_client::{Client, RegistryOperation};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use std::collections::BTreeMap;
use std::io::Read;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

/// How registries are reached; the form is that of k3s' `registries.yaml`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct Registries {
    /// By registry (`docker.io`, `*` for all).
    pub mirrors: BTreeMap<String, Mirror>,
    /// By host as it stands in an endpoint.
    pub configs: BTreeMap<String, RegistryConfig>,
}

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Mirror {
    /// `https://mirror.example:5000`, tried in order before the registry itself.
    #[serde(rename = "endpoint")]
    pub endpoints: Vec<String>,
}

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct RegistryConfig {
    pub auth: Option<Credentials>,
    pub tls: Option<Tls>,
}

#[derive(Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Credentials {
    pub username: String,
    pub password: String,
}

impl std::fmt::Debug for Credentials {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Credentials").field("username", &self.username).finish_non_exhaustive()
    }
}

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Tls {
    pub ca_file: Option<PathBuf>,
    pub insecure_skip_verify: bool,
}

/// One place to try.
#[derive(Clone, Debug, PartialEq)]
struct Endpoint {
    host: String,
    /// Put before the repository's path.
    prefix: String,
    plain_http: bool,
}

impl Registries {
    fn endpoints(&self, domain: &str) -> Vec<Endpoint> {
        let mirror = self.mirrors.get(domain).or_else(|| self.mirrors.get("*"));
        let mut endpoints: Vec<Endpoint> =
            mirror.map(|m| m.endpoints.iter().map(|e| endpoint(e)).collect()).unwrap_or_default();
        let own = endpoint(domain);
        if !endpoints.contains(&own) {
            endpoints.push(own);
        }
        endpoints
    }
}

/// A registry on this machine speaks plain HTTP unless its address says otherwise, as containerd has it.
fn endpoint(text: &str) -> Endpoint {
    let (scheme, rest) = match text.split_once("://") {
        Some((scheme, rest)) => (Some(scheme), rest),
        None => (None, text),
    };
    let (host, prefix) = rest.split_once('/').unwrap_or((rest, ""));
    let name = host.rsplit_once(':').map_or(host, |(name, _)| name);
    let local = name == "localhost"
        || name.trim_matches(['[', ']']).parse::<std::net::IpAddr>().is_ok_and(|ip| ip.is_loopback());
    Endpoint {
        host: host.to_owned(),
        prefix: prefix.trim_matches('/').trim_start_matches("v2").trim_matches('/').to_owned(),
        plain_http: scheme.map_or(local, |s| s == "http"),
    }
}

/// Pulls `reference`. Returns the image's id, or the text of what failed as containerd words it.
pub async fn pull(
    store: &Arc<Store>,
    registries: &Registries,
    reference: &Reference,
    auth: &[cri::AuthConfig],
) -> Result<String> {
    let mut errors = Vec::new();
    for endpoint in registries.endpoints(&reference.domain) {
        let mut candidates: Vec<RegistryAuth> = auth.iter().filter_map(credentials).collect();
        if let Some(own) = registries.configs.get(&endpoint.host).and_then(|c| c.auth.as_ref()) {
            candidates.push(RegistryAuth::Basic(own.username.clone(), own.password.clone()));
        }
        candidates.push(RegistryAuth::Anonymous);
        let tls = registries.configs.get(&endpoint.host).and_then(|c| c.tls.clone()).unwrap_or_default();
        for candidate in candidates {
            match pull_from(store, &endpoint, &tls, reference, &candidate).await {
                Ok(id) => return Ok(id),
                Err(Failure::Fatal(e)) => return Err(e),
                Err(Failure::Endpoint(text)) => {
                    errors.push(text);
                    break;
                }
                Err(Failure::Credentials(text)) => errors.push(text),
            }
        }
    }
    // The first one is the one that the user's own credentials met.
    Err(Error::Registry(errors.into_iter().next().unwrap_or_else(|| "no endpoint".to_owned())))
}

enum Failure {
    /// Other credentials may do better.
    Credentials(String),
    /// Another endpoint may do better.
    Endpoint(String),
    Fatal(Error),
}

fn credentials(auth: &cri::AuthConfig) -> Option<RegistryAuth> {
    if !auth.registry_token.is_empty() {
        return Some(RegistryAuth::Bearer(auth.registry_token.clone()));
    }
    if !auth.username.is_empty() {
        return Some(RegistryAuth::Basic(auth.username.clone(), auth.password.clone()));
    }
    if !auth.auth.is_empty() {
        use base64::Engine;
        let bytes = base64::engine::general_purpose::STANDARD.decode(auth.auth.trim()).ok()?;
        let text = String::from_utf8(bytes).ok()?;
        let (user, password) = text.split_once(':')?;
        return Some(RegistryAuth::Basic(user.to_owned(), password.trim_end_matches('\0').to_owned()));
    }
    None
}

fn client(endpoint: &Endpoint, tls: &Tls) -> Result<Client> {
    // The registry client takes whatever provider the process has; a second install is a no-op.
    let _ = rustls::crypto::ring::default_provider().install_default();
    let mut roots = Vec::new();
    if let Some(path) = &tls.ca_file {
        let data = std::fs::read(path).map_err(super::io("read", path.display()))?;
        roots.push(Certificate { encoding: CertificateEncoding::Pem, data });
    }
    Ok(Client::new(ClientConfig {
        protocol: if endpoint.plain_http { ClientProtocol::Http } else { ClientProtocol::Https },
        accept_invalid_certificates: tls.insecure_skip_verify,
        extra_root_certificates: roots,
        connect_timeout: Some(Duration::from_secs(15)),
        read_timeout: Some(Duration::from_secs(60)),
        user_agent: concat!("skiff/", env!("CARGO_PKG_VERSION")),
        ..ClientConfig::default()
    }))
}

async fn pull_from(
    store: &Arc<Store>,
    endpoint: &Endpoint,
    tls: &Tls,
    reference: &Reference,
    auth: &RegistryAuth,
) -> std::result::Result<String, Failure> {
    let client = client(endpoint, tls).map_err(Failure::Fatal)?;
    let path = if endpoint.prefix.is_empty() {
        reference.path.clone()
    } else {
        format!("{}/{}", endpoint.prefix, reference.path)
    };
    let remote = |version: &str| {
        if version.starts_with("sha256:") {
            oci_client::Reference::with_digest(endpoint.host.clone(), path.clone(), version.to_owned())
        } else {
            oci_client::Reference::with_tag(endpoint.host.clone(), path.clone(), version.to_owned())
        }
    };
    let version = reference.digest.as_deref().or(reference.tag.as_deref()).unwrap_or("latest");
    let top = remote(version);
    let resolve = |e: oci_client::errors::OciDistributionError| failure(e, reference, endpoint);
    client.auth(&top, auth, RegistryOperation::Pull).await.map_err(resolve)?;

    let accepted = [
        "application/vnd.oci.image.index.v1+json",
        "application/vnd.docker.distribution.manifest.list.v2+json",
        "application/vnd.oci.image.manifest.v1+json",
        "application/vnd.docker.distribution.manifest.v2+json",
    ];
    let (bytes, digest) = client.pull_manifest_raw(&top, auth, &accepted).await.map_err(resolve)?;
    let mut found: Manifest = manifest::parse("manifest", &bytes).map_err(Failure::Fatal)?;
    if found.config.is_none() {
        let chosen = manifest::choose(&reference.to_string(), &found.manifests).map_err(Failure::Fatal)?.digest.clone();
        let (bytes, _) = client.pull_manifest_raw(&remote(&chosen), auth, &accepted).await.map_err(resolve)?;
        found = manifest::parse("manifest", &bytes).map_err(Failure::Fatal)?;
    }
    let Some(config_descriptor) = found.config.clone() else {
        return Err(Failure::Fatal(Error::Corrupt("manifest has no config".to_owned())));
    };
    let fetch = |e: oci_client::errors::OciDistributionError| Failure::Endpoint(format!("failed to copy: {e}"));

    let mut config = Vec::new();
    let mut stream = client.pull_blob_stream(&top, config_descriptor.digest.as_str()).await.map_err(fetch)?.stream;
    while let Some(chunk) = stream.next().await {
        config.extend_from_slice(&chunk.map_err(|e| Failure::Endpoint(format!("failed to copy: {e}")))?);
        if config.len() > 32 << 20 {
            return Err(Failure::Fatal(Error::Corrupt("image config is too large".to_owned())));
        }
    }
    let config_digest = format!("sha256:{}", hex::encode(Sha256::digest(&config)));
    if config_digest != config_descriptor.digest {
        return Err(Failure::Fatal(Error::Corrupt(format!(
            "config has digest {config_digest}, expected {}",
            config_descriptor.digest
        ))));
    }
    let parsed: Config = manifest::parse("image config", &config).map_err(Failure::Fatal)?;
    parsed.fits().map_err(Failure::Fatal)?;
    if parsed.rootfs.diff_ids.len() != found.layers.len() {
        return Err(Failure::Fatal(Error::Corrupt("mismatched image rootfs and manifest layers".to_owned())));
    }

    let lease = store.lease().map_err(Failure::Fatal)?;
    let mut chains: Vec<String> = Vec::new();
    for (layer, diff_id) in found.layers.iter().zip(&parsed.rootfs.diff_ids) {
        let chain = Store::chain(chains.last().map(String::as_str), diff_id);
        if !store.has_layer(&chain) {
            let stream = client.pull_blob_stream(&top, layer.digest.as_str()).await.map_err(fetch)?.stream;
            receive_layer(store, &chains, &layer.digest, diff_id, stream).await?;
        }
        chains.push(chain);
    }
    let names = Reference { digest: None, ..reference.clone() };
    let by_digest = format!("{}@{digest}", reference.name());
    let store = store.clone();
    let commit = tokio::task::spawn_blocking(move || {
        let record = store.describe(&config, &chains, &[names], &[by_digest], false)?;
        let id = record.id.clone();
        store.commit(vec![record])?;
        drop(lease);
        Ok(id)
    });
    match commit.await {
        Ok(result) => result.map_err(Failure::Fatal),
        Err(e) => Err(Failure::Fatal(Error::Corrupt(e.to_string()))),
    }
}

/// Unpacks on a thread of its own what arrives here; the channel between is what bounds memory.
async fn receive_layer(
    store: &Arc<Store>,
    below: &[String],
    digest: &str,
    diff_id: &str,
    mut stream: impl futures::Stream<Item = std::io::Result<bytes::Bytes>> + Unpin,
) -> std::result::Result<(), Failure> {
    let (sender, receiver) = tokio::sync::mpsc::channel::<std::io::Result<bytes::Bytes>>(16);
    let unpacking = {
        let (store, below, digest, diff_id) = (store.clone(), below.to_vec(), digest.to_owned(), diff_id.to_owned());
        tokio::task::spawn_blocking(move || {
            let received = Received { receiver, chunk: bytes::Bytes::new() };
            let mut verified = Verified { inner: Hashed { inner: received, hash: Sha256::new() }, digest };
            store.add_layer(&below, &diff_id, &mut verified)
        })
    };
    while let Some(chunk) = stream.next().await {
        let broken = chunk.is_err();
        if sender.send(chunk).await.is_err() || broken {
            break;
        }
    }
    drop(sender);
    match unpacking.await {
        Ok(Ok(_)) => Ok(()),
        Ok(Err(e)) => Err(Failure::Endpoint(format!("failed to extract layer {diff_id}: {e}"))),
        Err(e) => Err(Failure::Fatal(Error::Corrupt(e.to_string()))),
    }
}

struct Received {
    receiver: tokio::sync::mpsc::Receiver<std::io::Result<bytes::Bytes>>,
    chunk: bytes::Bytes,
}

impl Read for Received {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        while self.chunk.is_empty() {
            match self.receiver.blocking_recv() {
                Some(chunk) => self.chunk = chunk?,
                None => return Ok(0),
            }
        }
        let n = self.chunk.len().min(buffer.len());
        let part = self.chunk.split_to(n);
        buffer.get_mut(..n).unwrap_or_default().copy_from_slice(&part);
        Ok(n)
    }
}

fn failure(error: oci_client::errors::OciDistributionError, reference: &Reference, endpoint: &Endpoint) -> Failure {
    use oci_client::errors::OciDistributionError as E;
    let resolving = |text: String| format!("failed to resolve reference \"{reference}\": {text}");
    let denied = || {
        resolving(format!(
            "pull access denied, repository does not exist or may require authorization: authorization failed: no basic auth credentials ({})",
            endpoint.host
        ))
    };
    match &error {
        E::UnauthorizedError { .. } | E::AuthenticationFailure(_) => Failure::Credentials(denied()),
        E::ServerError { code: 401 | 403, .. } => Failure::Credentials(denied()),
        E::ImageManifestNotFoundError(_) | E::ServerError { code: 404, .. } => {
            Failure::Endpoint(resolving(format!("{reference}: not found")))
        }
        E::RegistryError { envelope, .. } => {
            use oci_client::errors::OciErrorCode as Code;
            let has = |code: &Code| {
                envelope.errors.iter().any(|e| std::mem::discriminant(&e.code) == std::mem::discriminant(code))
            };
            if has(&Code::Unauthorized) || has(&Code::Denied) {
                Failure::Credentials(denied())
            } else if has(&Code::ManifestUnknown) || has(&Code::NameUnknown) || has(&Code::NotFound) {
                Failure::Endpoint(resolving(format!("{reference}: not found")))
            } else {
                Failure::Endpoint(resolving(error.to_string()))
            }
        }
        E::RequestError(e) => {
            // The innermost cause is what helps: "connection refused", "certificate unknown".
            let mut cause: &dyn std::error::Error = e;
            while let Some(inner) = cause.source() {
                cause = inner;
            }
            Failure::Endpoint(resolving(format!("failed to do request: {}: {cause}", endpoint.host)))
        }
        _ => Failure::Endpoint(resolving(error.to_string())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn endpoints_follow_scheme_and_place() {
        for (text, host, prefix, plain) in [
            ("127.0.0.1:5000", "127.0.0.1:5000", "", true),
            ("localhost:5000", "localhost:5000", "", true),
            ("quay.example", "quay.example", "", false),
            ("http://mirror.example:80", "mirror.example:80", "", true),
            ("https://127.0.0.1:5000/v2/cache", "127.0.0.1:5000", "cache", false),
        ] {
            assert_eq!(
                endpoint(text),
                Endpoint { host: host.into(), prefix: prefix.into(), plain_http: plain },
                "{text}"
            );
        }
    }

    #[test]
    fn mirrors_come_before_the_registry() {
        let mirror = Mirror { endpoints: vec!["http://m.example".to_owned()] };
        let registries = Registries { mirrors: [("docker.io".to_owned(), mirror)].into(), ..Registries::default() };
        let hosts: Vec<String> = registries.endpoints("docker.io").into_iter().map(|e| e.host).collect();
        assert_eq!(hosts, ["m.example", "docker.io"]);
        assert_eq!(registries.endpoints("other.example").len(), 1);
    }

    #[test]
    fn credentials_have_many_forms() {
        let encoded = cri::AuthConfig { auth: "dTpwOnc=".to_owned(), ..Default::default() };
        assert!(matches!(credentials(&encoded), Some(RegistryAuth::Basic(u, p)) if u == "u" && p == "p:w"));
        assert!(credentials(&cri::AuthConfig::default()).is_none());
    }
}
