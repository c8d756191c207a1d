//! The cluster's own certificates: two authorities, the service-account signing key, and a certificate for
//! every component.
//!
//! In: a directory and what the certificates must say ([`PkiOptions`]). Out: [`Pki`], loaded from the directory,
//! with everything that is missing, worn (less than a quarter of its life left), mismatched or differently named
//! made anew. Authorities and the signing key are made once and never replaced.
//! All keys are ECDSA P-256. Files are 0600 in a directory of 0700, and are replaced by rename.

use rcgen::{
    BasicConstraints, CertificateParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair,
    KeyUsagePurpose, SanType,
};
use rustls::pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject};
use std::collections::BTreeSet;
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;
use x509_parser::prelude::{FromDer, GeneralName, ParsedExtension, X509Certificate};

pub(crate) mod algorithms;
pub mod signing;

const DAY_SECONDS: i64 = 24 * 3600;
const AUTHORITY_DAYS: i64 = 3650;
const LEAF_SECONDS: i64 = 365 * DAY_SECONDS;
/// Certificates are valid from a little before they are made, for clocks that disagree.
const BACKDATE_SECONDS: i64 = 300;

#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("failed to read {path}: {source}")]
    Read { path: PathBuf, source: std::io::Error },
    #[error("failed to write {path}: {source}")]
    Write { path: PathBuf, source: std::io::Error },
    /// An authority or the signing key is damaged. It isn't replaced, because every certificate and token of
    /// the cluster hangs on it.
    #[error("{path} is damaged: {why}; restore it from a backup")]
    Damaged { path: PathBuf, why: String },
    #[error("failed to issue the certificate of {subject}: {source}")]
    Issue { subject: String, source: rcgen::Error },
    #[error("failed to set up TLS: {0}")]
    Tls(String),
}

type Result<T> = std::result::Result<T, Error>;

/// What the certificates must say.
#[derive(Clone, Debug)]
pub struct PkiOptions {
    pub node_name: String,
    pub node_ips: Vec<IpAddr>,
    /// The first address of the service CIDR, which the `kubernetes` Service has.
    pub service_ip: IpAddr,
    /// `cluster.local`
    pub cluster_domain: String,
    /// More names and addresses of the API server (`--tls-san`).
    pub extra_sans: Vec<String>,
}

/// A certificate and its key, as PEM.
#[derive(Clone, Debug, PartialEq)]
pub struct Identity {
    pub cert_pem: String,
    pub key_pem: String,
}

impl Identity {
    pub fn cert_der(&self) -> Result<CertificateDer<'static>> {
        CertificateDer::from_pem_slice(self.cert_pem.as_bytes()).map_err(|e| Error::Tls(e.to_string()))
    }

    pub fn key_der(&self) -> Result<PrivateKeyDer<'static>> {
        PrivateKeyDer::from_pem_slice(self.key_pem.as_bytes()).map_err(|e| Error::Tls(e.to_string()))
    }
}

/// What a certificate is for.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Usage {
    Server,
    Client,
}

/// One certificate, wanted.
#[derive(Clone, Debug)]
pub struct Request {
    /// CN: the user's name for clients.
    pub common_name: String,
    /// O: the user's group.
    pub organization: Option<String>,
    /// DNS names and addresses, for servers.
    pub sans: Vec<String>,
    pub usage: Usage,
}

impl Request {
    pub fn client(name: &str, group: Option<&str>) -> Request {
        Request {
            common_name: name.to_string(),
            organization: group.map(str::to_string),
            sans: Vec::new(),
            usage: Usage::Client,
        }
    }

    pub fn server(name: &str, sans: Vec<String>) -> Request {
        Request { common_name: name.to_string(), organization: None, sans, usage: Usage::Server }
    }
}

/// A certificate authority that this process can sign with.
pub struct Authority {
    pub cert_pem: String,
    pub key_pem: String,
    issuer: Issuer<'static, KeyPair>,
    subject_key_id: Vec<u8>,
}

impl Authority {
    pub(crate) fn create(common_name: &str, now: i64) -> std::result::Result<Authority, rcgen::Error> {
        let key = KeyPair::generate()?;
        let mut params = CertificateParams::default();
        params.distinguished_name = DistinguishedName::new();
        params.distinguished_name.push(DnType::CommonName, common_name);
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages =
            vec![KeyUsagePurpose::DigitalSignature, KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        set_validity(&mut params, now, AUTHORITY_DAYS * DAY_SECONDS);
        let cert_pem = params.self_signed(&key)?.pem();
        Authority::from_pem(cert_pem, key.serialize_pem())
    }

    fn from_pem(cert_pem: String, key_pem: String) -> std::result::Result<Authority, rcgen::Error> {
        let key = KeyPair::from_pem(&key_pem)?;
        let der =
            CertificateDer::from_pem_slice(cert_pem.as_bytes()).map_err(|_| rcgen::Error::CouldNotParseCertificate)?;
        let facts = Facts::read(&der).ok_or(rcgen::Error::CouldNotParseCertificate)?;
        if facts.public_key != key.public_key_raw() {
            return Err(rcgen::Error::CouldNotParseKeyPair);
        }
        let subject_key_id = facts.subject_key_id;
        let issuer = Issuer::from_ca_cert_pem(&cert_pem, key)?;
        Ok(Authority { cert_pem, key_pem, issuer, subject_key_id })
    }

    /// A new key and a certificate for it, valid for a year from `now` (Unix seconds).
    pub fn issue(&self, request: &Request, now: i64) -> Result<Identity> {
        self.issue_for(request, now, LEAF_SECONDS)
    }

    fn issue_for(&self, request: &Request, now: i64, life_seconds: i64) -> Result<Identity> {
        let fail = |source| Error::Issue { subject: request.common_name.clone(), source };
        let key = KeyPair::generate().map_err(fail)?;
        let mut params = CertificateParams::default();
        params.distinguished_name = DistinguishedName::new();
        if let Some(organization) = &request.organization {
            params.distinguished_name.push(DnType::OrganizationName, organization.as_str());
        }
        params.distinguished_name.push(DnType::CommonName, request.common_name.as_str());
        for san in &request.sans {
            params.subject_alt_names.push(match san.parse::<IpAddr>() {
                Ok(ip) => SanType::IpAddress(ip),
                Err(_) => SanType::DnsName(san.as_str().try_into().map_err(fail)?),
            });
        }
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature, KeyUsagePurpose::KeyEncipherment];
        params.extended_key_usages = vec![match request.usage {
            Usage::Server => ExtendedKeyUsagePurpose::ServerAuth,
            Usage::Client => ExtendedKeyUsagePurpose::ClientAuth,
        }];
        params.use_authority_key_identifier_extension = true;
        set_validity(&mut params, now, life_seconds);
        let cert = params.signed_by(&key, &self.issuer).map_err(fail)?;
        Ok(Identity { cert_pem: cert.pem(), key_pem: key.serialize_pem() })
    }

    /// Whether `identity` is still what `request` asks for, made by this authority, with its own key and enough
    /// life left.
    fn satisfied_by(&self, identity: &Identity, request: &Request, now: i64) -> bool {
        let (Ok(der), Ok(key)) = (identity.cert_der(), KeyPair::from_pem(&identity.key_pem)) else { return false };
        let Some(facts) = Facts::read(&der) else { return false };
        facts.public_key == key.public_key_raw()
            && facts.authority_key_id == self.subject_key_id
            && facts.common_name == request.common_name
            && facts.organizations == request.organization.iter().cloned().collect()
            && facts.sans == request.sans.iter().cloned().collect()
            && now >= facts.not_before
            && now < facts.renew_at()
    }
}

/// What is read of a certificate to decide whether it still fits.
struct Facts {
    common_name: String,
    organizations: BTreeSet<String>,
    sans: BTreeSet<String>,
    not_before: i64,
    not_after: i64,
    public_key: Vec<u8>,
    subject_key_id: Vec<u8>,
    authority_key_id: Vec<u8>,
}

impl Facts {
    /// When a quarter of the life is left, in Unix seconds.
    fn renew_at(&self) -> i64 {
        self.not_after - (self.not_after - self.not_before - BACKDATE_SECONDS).max(0) / 4
    }

    fn read(der: &[u8]) -> Option<Facts> {
        let (_, cert) = X509Certificate::from_der(der).ok()?;
        let mut facts = Facts {
            common_name: cert.subject().iter_common_name().next()?.as_str().ok()?.to_string(),
            organizations: cert
                .subject()
                .iter_organization()
                .filter_map(|o| o.as_str().ok().map(str::to_string))
                .collect(),
            sans: BTreeSet::new(),
            not_before: cert.validity().not_before.timestamp(),
            not_after: cert.validity().not_after.timestamp(),
            public_key: cert.public_key().subject_public_key.data.to_vec(),
            subject_key_id: Vec::new(),
            authority_key_id: Vec::new(),
        };
        for extension in cert.extensions() {
            match extension.parsed_extension() {
                ParsedExtension::SubjectAlternativeName(names) => {
                    for name in &names.general_names {
                        match name {
                            GeneralName::DNSName(d) => {
                                facts.sans.insert(d.to_string());
                            }
                            GeneralName::IPAddress(bytes) => {
                                facts.sans.insert(ip_from(bytes)?.to_string());
                            }
                            _ => {}
                        }
                    }
                }
                ParsedExtension::SubjectKeyIdentifier(id) => facts.subject_key_id = id.0.to_vec(),
                ParsedExtension::AuthorityKeyIdentifier(aki) => {
                    facts.authority_key_id = aki.key_identifier.as_ref().map(|k| k.0.to_vec()).unwrap_or_default();
                }
                _ => {}
            }
        }
        Some(facts)
    }
}

fn ip_from(bytes: &[u8]) -> Option<IpAddr> {
    match bytes.len() {
        4 => <[u8; 4]>::try_from(bytes).ok().map(IpAddr::from),
        16 => <[u8; 16]>::try_from(bytes).ok().map(IpAddr::from),
        _ => None,
    }
}

/// All keys and certificates of a cluster, as they are on disk.
pub struct Pki {
    pub dir: PathBuf,
    /// Signs servers and clients of the cluster.
    pub ca: Authority,
    /// Signs the front proxy (the aggregation layer) alone.
    pub front_proxy_ca: Authority,
    /// PKCS#8 PEM of the key that signs service-account tokens.
    pub service_account_key_pem: String,
    pub apiserver: Identity,
    pub kubelet_server: Identity,
    pub admin: Identity,
    pub controller_manager: Identity,
    pub scheduler: Identity,
    /// This machine's kubelet as a client.
    pub node: Identity,
    pub proxy: Identity,
    /// The API server as a client of kubelets.
    pub apiserver_kubelet_client: Identity,
    /// The API server as a client of aggregated API servers.
    pub front_proxy_client: Identity,
}

impl Pki {
    pub fn load_or_create(dir: &Path, options: &PkiOptions) -> Result<Pki> {
        Pki::load_or_create_at(dir, options, jiff::Timestamp::now().as_second())
    }

    /// As `load_or_create`, with the clock (Unix seconds) given.
    pub fn load_or_create_at(dir: &Path, options: &PkiOptions, now: i64) -> Result<Pki> {
        Pki::load_or_create_living(dir, options, LEAF_SECONDS, now)
    }

    /// As `load_or_create_at`; new certificates live for `life_seconds`.
    pub fn load_or_create_living(dir: &Path, options: &PkiOptions, life_seconds: i64, now: i64) -> Result<Pki> {
        make_private_dir(dir)?;
        let ca = authority(dir, "ca", "kubernetes", now)?;
        let front_proxy_ca = authority(dir, "front-proxy-ca", "front-proxy-ca", now)?;
        let service_account_key_pem = signing_key(dir)?;
        let node_user = format!("system:node:{}", options.node_name);
        let leaf = |name: &str, request: Request| leaf(dir, &ca, name, &request, now, life_seconds);
        Ok(Pki {
            apiserver: leaf("apiserver", Request::server("kube-apiserver", apiserver_sans(options)))?,
            kubelet_server: leaf("kubelet-server", Request::server(&node_user, kubelet_sans(options)))?,
            admin: leaf("admin", Request::client("kubernetes-admin", Some("system:masters")))?,
            controller_manager: leaf("controller-manager", Request::client("system:kube-controller-manager", None))?,
            scheduler: leaf("scheduler", Request::client("system:kube-scheduler", None))?,
            node: leaf("kubelet-client", Request::client(&node_user, Some("system:nodes")))?,
            proxy: leaf("kube-proxy", Request::client("system:kube-proxy", None))?,
            apiserver_kubelet_client: leaf(
                "apiserver-kubelet-client",
                Request::client("kube-apiserver-kubelet-client", Some("system:masters")),
            )?,
            front_proxy_client: self::leaf(
                dir,
                &front_proxy_ca,
                "front-proxy-client",
                &Request::client("front-proxy-client", None),
                now,
                life_seconds,
            )?,
            dir: dir.to_path_buf(),
            ca,
            front_proxy_ca,
            service_account_key_pem,
        })
    }

    /// When the first of the certificates is to be renewed, in Unix seconds.
    pub fn renew_at(&self) -> i64 {
        [
            &self.apiserver,
            &self.kubelet_server,
            &self.admin,
            &self.controller_manager,
            &self.scheduler,
            &self.node,
            &self.proxy,
            &self.apiserver_kubelet_client,
            &self.front_proxy_client,
        ]
        .into_iter()
        .map(|i| i.cert_der().ok().and_then(|der| Facts::read(&der)).map_or(0, |f| f.renew_at()))
        .min()
        .unwrap_or_default()
    }

    /// TLS for a server of this cluster: HTTP/2 and HTTP/1.1; asks clients for a certificate but needs none.
    pub fn server_config(&self, cert: Arc<ServingCert>) -> Result<rustls::ServerConfig> {
        let provider = Arc::new(crypto());
        let mut roots = rustls::RootCertStore::empty();
        for pem in [&self.ca.cert_pem, &self.front_proxy_ca.cert_pem] {
            let der = CertificateDer::from_pem_slice(pem.as_bytes()).map_err(|e| Error::Tls(e.to_string()))?;
            roots.add(der).map_err(|e| Error::Tls(e.to_string()))?;
        }
        let mut config = rustls::ServerConfig::builder_with_provider(provider.clone())
            .with_safe_default_protocol_versions()
            .map_err(|e| Error::Tls(e.to_string()))?
            .with_client_cert_verifier(Arc::new(AnyClientCertificate { subjects: roots.subjects(), provider }))
            .with_cert_resolver(cert);
        config.ignore_client_order = true;
        config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
        Ok(config)
    }
}

/// Ciphers in the order in which this machine is fastest, as Go's servers choose them: AES with 128 bits where the
/// processor knows AES (a third faster than with 256, and as safe for sessions), else ChaCha20.
fn crypto() -> rustls::crypto::CryptoProvider {
    #[cfg(target_arch = "x86_64")]
    let aes = std::arch::is_x86_feature_detected!("aes");
    #[cfg(target_arch = "aarch64")]
    let aes = std::arch::is_aarch64_feature_detected!("aes");
    #[cfg(not(any(target_arch = "x86_64", target_arch = "aarch64")))]
    let aes = false;
    let mut provider = algorithms::provider();
    provider.cipher_suites.sort_by_key(|s| {
        let name = format!("{:?}", s.suite());
        (aes == name.contains("CHACHA20"), name.contains("AES_256"))
    });
    provider
}

/// Every name by which the API server is called.
fn apiserver_sans(o: &PkiOptions) -> Vec<String> {
    let mut sans: BTreeSet<String> = [
        "kubernetes".to_string(),
        "kubernetes.default".to_string(),
        "kubernetes.default.svc".to_string(),
        format!("kubernetes.default.svc.{}", o.cluster_domain),
        "localhost".to_string(),
        "127.0.0.1".to_string(),
        "::1".to_string(),
        o.node_name.clone(),
        o.service_ip.to_string(),
    ]
    .into();
    sans.extend(o.node_ips.iter().map(IpAddr::to_string));
    // Addresses in their canonical spelling, so that `::0001` isn't taken for a change.
    sans.extend(o.extra_sans.iter().map(|s| s.parse::<IpAddr>().map_or_else(|_| s.clone(), |ip| ip.to_string())));
    sans.into_iter().collect()
}

fn kubelet_sans(o: &PkiOptions) -> Vec<String> {
    let mut sans: BTreeSet<String> =
        [o.node_name.clone(), "localhost".to_string(), "127.0.0.1".to_string(), "::1".to_string()].into();
    sans.extend(o.node_ips.iter().map(IpAddr::to_string));
    sans.into_iter().collect()
}

fn authority(dir: &Path, name: &str, common_name: &str, now: i64) -> Result<Authority> {
    let (cert_path, key_path) = (dir.join(format!("{name}.crt")), dir.join(format!("{name}.key")));
    match (read(&cert_path)?, read(&key_path)?) {
        (Some(cert), Some(key)) => {
            Authority::from_pem(cert, key).map_err(|e| Error::Damaged { path: cert_path.clone(), why: e.to_string() })
        }
        // The key is written first: a key alone is a creation that was cut short, and nothing hangs on it yet.
        (None, _) => {
            let made = Authority::create(common_name, now)
                .map_err(|source| Error::Issue { subject: common_name.to_string(), source })?;
            write(&key_path, &made.key_pem)?;
            write(&cert_path, &made.cert_pem)?;
            Ok(made)
        }
        (Some(_), None) => Err(Error::Damaged { path: key_path, why: "the key is missing".to_string() }),
    }
}

fn leaf(dir: &Path, ca: &Authority, name: &str, request: &Request, now: i64, life_seconds: i64) -> Result<Identity> {
    let (cert_path, key_path) = (dir.join(format!("{name}.crt")), dir.join(format!("{name}.key")));
    if let (Some(cert_pem), Some(key_pem)) = (read(&cert_path)?, read(&key_path)?) {
        let identity = Identity { cert_pem, key_pem };
        if ca.satisfied_by(&identity, request, now) {
            return Ok(identity);
        }
        tracing::info!(name, "certificate renewed");
    }
    let identity = ca.issue_for(request, now, life_seconds)?;
    write(&key_path, &identity.key_pem)?;
    write(&cert_path, &identity.cert_pem)?;
    Ok(identity)
}

fn signing_key(dir: &Path) -> Result<String> {
    let (path, public_path) = (dir.join("sa.key"), dir.join("sa.pub"));
    if let Some(pem) = read(&path)? {
        KeyPair::from_pem(&pem).map_err(|e| Error::Damaged { path, why: e.to_string() })?;
        return Ok(pem);
    }
    let key =
        KeyPair::generate().map_err(|source| Error::Issue { subject: "service-account key".to_string(), source })?;
    write(&public_path, &key.public_key_pem())?;
    write(&path, &key.serialize_pem())?;
    Ok(key.serialize_pem())
}

/// `now` in Unix seconds.
fn set_validity(params: &mut CertificateParams, now: i64, life_seconds: i64) {
    let after_epoch =
        |seconds: i64| rcgen::date_time_ymd(1970, 1, 1) + Duration::from_secs(seconds.max(0).unsigned_abs());
    params.not_before = after_epoch(now - BACKDATE_SECONDS);
    params.not_after = after_epoch(now + life_seconds);
}

fn make_private_dir(dir: &Path) -> Result<()> {
    use std::os::unix::fs::{DirBuilderExt, PermissionsExt};
    let fail = |source| Error::Write { path: dir.to_path_buf(), source };
    std::fs::DirBuilder::new().recursive(true).mode(0o700).create(dir).map_err(fail)?;
    std::fs::set_permissions(dir, std::fs::Permissions::from_mode(0o700)).map_err(fail)
}

fn read(path: &Path) -> Result<Option<String>> {
    match std::fs::read_to_string(path) {
        Ok(s) => Ok(Some(s)),
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => Ok(None),
        Err(source) => Err(Error::Read { path: path.to_path_buf(), source }),
    }
}

/// Replaces a file as a whole, readable by its owner alone, and durable when this returns.
pub fn write(path: &Path, content: &str) -> Result<()> {
    use std::io::Write;
    use std::os::unix::fs::OpenOptionsExt;
    let fail = |source| Error::Write { path: path.to_path_buf(), source };
    let mut temporary = path.as_os_str().to_owned();
    temporary.push(".new");
    let temporary = PathBuf::from(temporary);
    // A left-over of a crash may have other permissions.
    match std::fs::remove_file(&temporary) {
        Err(e) if e.kind() != std::io::ErrorKind::NotFound => return Err(fail(e)),
        _ => {}
    }
    let mut file =
        std::fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(&temporary).map_err(fail)?;
    file.write_all(content.as_bytes()).and_then(|()| file.sync_all()).map_err(fail)?;
    std::fs::rename(&temporary, path).map_err(fail)?;
    if let Some(parent) = path.parent() {
        std::fs::File::open(parent).and_then(|d| d.sync_all()).map_err(fail)?;
    }
    Ok(())
}

/// A kubeconfig for one user of one cluster.
pub fn kubeconfig(server_url: &str, ca_pem: &str, cert_pem: &str, key_pem: &str) -> String {
    use base64::{Engine, engine::general_purpose::STANDARD};
    let b64 = |s: &str| STANDARD.encode(s);
    format!(
        "apiVersion: v1\nkind: Config\nclusters:\n- name: default\n  cluster:\n    server: {}\n    \
         certificate-authority-data: {}\nusers:\n- name: default\n  user:\n    client-certificate-data: {}\n    \
         client-key-data: {}\ncontexts:\n- name: default\n  context:\n    cluster: default\n    user: default\n\
         current-context: default\npreferences: {{}}\n",
        serde_json::Value::from(server_url),
        b64(ca_pem),
        b64(cert_pem),
        b64(key_pem)
    )
}

/// The certificate that a server shows; it can be replaced while connections are open.
#[derive(Debug)]
pub struct ServingCert {
    current: arc_swap::ArcSwap<rustls::sign::CertifiedKey>,
}

impl ServingCert {
    pub fn new(identity: &Identity) -> Result<Arc<ServingCert>> {
        Ok(Arc::new(ServingCert { current: arc_swap::ArcSwap::from_pointee(certified(identity)?) }))
    }

    /// New handshakes see the new certificate.
    pub fn replace(&self, identity: &Identity) -> Result<()> {
        self.current.store(Arc::new(certified(identity)?));
        Ok(())
    }
}

fn certified(identity: &Identity) -> Result<rustls::sign::CertifiedKey> {
    rustls::sign::CertifiedKey::from_der(
        vec![identity.cert_der()?],
        identity.key_der()?,
        &rustls::crypto::ring::default_provider(),
    )
    .map_err(|e| Error::Tls(e.to_string()))
}

impl rustls::server::ResolvesServerCert for ServingCert {
    fn resolve(&self, _hello: rustls::server::ClientHello<'_>) -> Option<Arc<rustls::sign::CertifiedKey>> {
        Some(self.current.load_full())
    }
}

/// Takes any client certificate whose key the client proves to hold. Who issued it is for the authenticators to
/// judge, as upstream has it: a foreign certificate gets 401, not a broken handshake.
#[derive(Debug)]
struct AnyClientCertificate {
    subjects: Vec<rustls::DistinguishedName>,
    provider: Arc<rustls::crypto::CryptoProvider>,
}

impl rustls::server::danger::ClientCertVerifier for AnyClientCertificate {
    fn client_auth_mandatory(&self) -> bool {
        false
    }

    fn root_hint_subjects(&self) -> &[rustls::DistinguishedName] {
        &self.subjects
    }

    fn verify_client_cert(
        &self,
        _end_entity: &CertificateDer<'_>,
        _intermediates: &[CertificateDer<'_>],
        _now: rustls::pki_types::UnixTime,
    ) -> std::result::Result<rustls::server::danger::ClientCertVerified, rustls::Error> {
        Ok(rustls::server::danger::ClientCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &rustls::DigitallySignedStruct,
    ) -> std::result::Result<rustls::client::danger::HandshakeSignatureValid, rustls::Error> {
        rustls::crypto::verify_tls12_signature(message, cert, dss, &self.provider.signature_verification_algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &rustls::DigitallySignedStruct,
    ) -> std::result::Result<rustls::client::danger::HandshakeSignatureValid, rustls::Error> {
        rustls::crypto::verify_tls13_signature(message, cert, dss, &self.provider.signature_verification_algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<rustls::SignatureScheme> {
        self.provider.signature_verification_algorithms.supported_schemes()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt;

    const NOW: i64 = 1_800_000_000;

    fn options() -> PkiOptions {
        PkiOptions {
            node_name: "n1".into(),
            node_ips: vec!["192.0.2.7".parse().unwrap(), "2001:db8::7".parse().unwrap()],
            service_ip: "10.43.0.1".parse().unwrap(),
            cluster_domain: "cluster.local".into(),
            extra_sans: vec!["api.example.org".into(), "2001:DB8::0009".into()],
        }
    }

    fn facts(i: &Identity) -> Facts {
        Facts::read(&i.cert_der().unwrap()).unwrap()
    }

    #[test]
    fn certificates_say_who_their_owners_are() {
        let dir = tempfile::tempdir().unwrap();
        let pki = Pki::load_or_create_at(dir.path(), &options(), NOW).unwrap();
        let table: &[(&Identity, &str, &[&str])] = &[
            (&pki.admin, "kubernetes-admin", &["system:masters"]),
            (&pki.controller_manager, "system:kube-controller-manager", &[]),
            (&pki.scheduler, "system:kube-scheduler", &[]),
            (&pki.node, "system:node:n1", &["system:nodes"]),
            (&pki.front_proxy_client, "front-proxy-client", &[]),
        ];
        for (identity, name, groups) in table {
            let f = facts(identity);
            assert_eq!(f.common_name, *name);
            assert_eq!(f.organizations, groups.iter().map(|g| g.to_string()).collect());
        }
        let sans = facts(&pki.apiserver).sans;
        for san in [
            "kubernetes",
            "kubernetes.default",
            "kubernetes.default.svc",
            "kubernetes.default.svc.cluster.local",
            "localhost",
            "127.0.0.1",
            "::1",
            "192.0.2.7",
            "2001:db8::7",
            "10.43.0.1",
            "api.example.org",
            "2001:db8::9",
        ] {
            assert!(sans.contains(san), "{san} in {sans:?}");
        }
        assert_eq!(facts(&pki.front_proxy_client).authority_key_id, pki.front_proxy_ca.subject_key_id);
        assert_eq!(facts(&pki.node).authority_key_id, pki.ca.subject_key_id);
    }

    #[test]
    fn files_are_private() {
        let root = tempfile::tempdir().unwrap();
        let dir = root.path().join("pki");
        Pki::load_or_create_at(&dir, &options(), NOW).unwrap();
        assert_eq!(std::fs::metadata(&dir).unwrap().permissions().mode() & 0o777, 0o700);
        for file in std::fs::read_dir(&dir).unwrap() {
            let file = file.unwrap();
            assert_eq!(file.metadata().unwrap().permissions().mode() & 0o777, 0o600, "{:?}", file.path());
            assert!(!file.path().to_string_lossy().ends_with(".new"));
        }
    }

    #[test]
    fn a_restart_keeps_everything_and_wear_or_new_names_renew_only_what_they_must() {
        let dir = tempfile::tempdir().unwrap();
        let first = Pki::load_or_create_at(dir.path(), &options(), NOW).unwrap();
        let again = Pki::load_or_create_at(dir.path(), &options(), NOW + 200 * DAY_SECONDS).unwrap();
        assert_eq!(first.apiserver, again.apiserver);
        assert_eq!(first.admin, again.admin);

        let mut moved = options();
        moved.node_ips = vec!["192.0.2.8".parse().unwrap()];
        let after = Pki::load_or_create_at(dir.path(), &moved, NOW + 200 * DAY_SECONDS).unwrap();
        assert_ne!(after.apiserver, first.apiserver);
        assert_eq!(after.admin, first.admin);
        assert_eq!(after.ca.cert_pem, first.ca.cert_pem);

        // The same moment, as one who waits for it would find it.
        assert!(first.renew_at() > NOW + 273 * DAY_SECONDS && first.renew_at() < NOW + 275 * DAY_SECONDS);
        let short = tempfile::tempdir().unwrap();
        let brief = |now: i64| Pki::load_or_create_living(short.path(), &options(), 40, now).unwrap();
        let one = brief(NOW);
        assert_eq!((one.renew_at(), brief(NOW + 29).admin), (NOW + 30, one.admin.clone()));
        assert_ne!(brief(NOW + 30).admin, one.admin);

        let worn = Pki::load_or_create_at(dir.path(), &moved, NOW + 300 * DAY_SECONDS).unwrap();
        assert_ne!(worn.admin, first.admin);
        assert_eq!(worn.ca.cert_pem, first.ca.cert_pem);
        assert_eq!(worn.service_account_key_pem, first.service_account_key_pem);
    }

    #[test]
    fn a_leaf_with_a_foreign_key_is_replaced_and_a_damaged_authority_is_reported() {
        let dir = tempfile::tempdir().unwrap();
        let first = Pki::load_or_create_at(dir.path(), &options(), NOW).unwrap();
        write(&dir.path().join("admin.key"), &first.scheduler.key_pem).unwrap();
        let second = Pki::load_or_create_at(dir.path(), &options(), NOW).unwrap();
        assert_ne!(second.admin.cert_pem, first.admin.cert_pem);

        write(&dir.path().join("ca.key"), &first.scheduler.key_pem).unwrap();
        assert!(matches!(Pki::load_or_create_at(dir.path(), &options(), NOW), Err(Error::Damaged { .. })));
        write(&dir.path().join("ca.key"), "nonsense").unwrap();
        assert!(matches!(Pki::load_or_create_at(dir.path(), &options(), NOW), Err(Error::Damaged { .. })));
    }

    #[test]
    fn a_kubeconfig_is_yaml_that_kubectl_reads() {
        let text = kubeconfig("https://127.0.0.1:6443", "CA", "CERT", "KEY");
        let v: serde_json::Value = serde_saphyr::from_str(&text).unwrap();
        assert_eq!(v["clusters"][0]["cluster"]["server"], "https://127.0.0.1:6443");
        assert_eq!(v["clusters"][0]["cluster"]["certificate-authority-data"], "Q0E=");
        assert_eq!(v["users"][0]["user"]["client-key-data"], "S0VZ");
        assert_eq!(v["contexts"][0]["context"]["user"], "default");
        assert_eq!(v["current-context"], "default");
    }

    /// A client whose key is on P-521. `spoils`: it doesn't sign what it should.
    #[derive(Debug)]
    struct P521Client {
        key: p521::ecdsa::SigningKey,
        spoils: bool,
    }

    impl rustls::sign::SigningKey for P521Client {
        fn choose_scheme(&self, offered: &[rustls::SignatureScheme]) -> Option<Box<dyn rustls::sign::Signer>> {
            let scheme = rustls::SignatureScheme::ECDSA_NISTP521_SHA512;
            let signer = P521Client { key: self.key.clone(), spoils: self.spoils };
            offered.contains(&scheme).then(|| Box::new(signer) as Box<dyn rustls::sign::Signer>)
        }

        fn algorithm(&self) -> rustls::SignatureAlgorithm {
            rustls::SignatureAlgorithm::ECDSA
        }
    }

    impl rustls::sign::Signer for P521Client {
        fn sign(&self, message: &[u8]) -> std::result::Result<Vec<u8>, rustls::Error> {
            use p521::ecdsa::{DerSignature, signature::Signer};
            let message = [message, if self.spoils { b"?" } else { b"" }].concat();
            let signature: DerSignature = self.key.sign(&message);
            Ok(signature.as_bytes().to_vec())
        }

        fn scheme(&self) -> rustls::SignatureScheme {
            rustls::SignatureScheme::ECDSA_NISTP521_SHA512
        }
    }

    /// Both versions of TLS, and a key that isn't the certificate's.
    #[test]
    fn clients_may_have_keys_on_p521() {
        let dir = tempfile::tempdir().unwrap();
        let pki = Pki::load_or_create(dir.path(), &options()).unwrap();
        let config = Arc::new(pki.server_config(ServingCert::new(&pki.apiserver).unwrap()).unwrap());
        let mut roots = rustls::RootCertStore::empty();
        roots.add(CertificateDer::from_pem_slice(pki.ca.cert_pem.as_bytes()).unwrap()).unwrap();
        let key = p521::ecdsa::SigningKey::from_slice(&[1; 66]).unwrap();
        let point = key.verifying_key().to_sec1_point(false);
        // SubjectPublicKeyInfo: id-ecPublicKey, secp521r1, the point.
        let head = hex::decode("30819b301006072a8648ce3d020106052b8104002303818600").unwrap();
        let spki = [&head[..], point.as_bytes()].concat();
        let subject = signing::Subject { common_name: "pod".into(), ..Default::default() };
        let now = jiff::Timestamp::now().as_second();
        let usages = vec!["client auth".to_string(), "digital signature".to_string()];
        let grant = signing::Grant { usages, not_before: now - 60, not_after: now + 3600 };
        let cert = pki.ca.sign_key(&spki, &subject, &grant).unwrap();
        let cert = CertificateDer::from_pem_slice(cert.as_bytes()).unwrap();
        for (version, spoils) in [
            (&rustls::version::TLS13, false),
            (&rustls::version::TLS12, false),
            (&rustls::version::TLS13, true),
            (&rustls::version::TLS12, true),
        ] {
            let client = Arc::new(P521Client { key: key.clone(), spoils });
            let shown = Arc::new(rustls::sign::CertifiedKey::new(vec![cert.clone()], client));
            let client_config =
                rustls::ClientConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()))
                    .with_protocol_versions(&[version])
                    .unwrap()
                    .with_root_certificates(roots.clone())
                    .with_client_cert_resolver(Arc::new(rustls::sign::SingleCertAndKey::from(shown)));
            let got = handshake(&config, client_config);
            match spoils {
                false => assert_eq!(got.unwrap(), Some(cert.clone())),
                true => assert!(matches!(got, Err(rustls::Error::InvalidCertificate(_))), "{got:?}"),
            }
        }
        let der = Arc::new(cert.to_vec());
        let user = crate::authn::x509::Verifier::new(&pki.ca.cert_pem).unwrap().user(&der, now).unwrap();
        assert_eq!(user.name, "pod");
    }

    /// Over memory. What the server sees of the client.
    fn handshake(
        config: &Arc<rustls::ServerConfig>,
        client_config: rustls::ClientConfig,
    ) -> std::result::Result<Option<CertificateDer<'static>>, rustls::Error> {
        let mut server = rustls::ServerConnection::new(config.clone()).unwrap();
        let name = "kubernetes.default.svc".try_into().unwrap();
        let mut client = rustls::ClientConnection::new(Arc::new(client_config), name).unwrap();
        for _ in 0..8 {
            let mut wire = Vec::new();
            while client.wants_write() {
                client.write_tls(&mut wire).unwrap();
            }
            let mut input = wire.as_slice();
            while !input.is_empty() {
                server.read_tls(&mut input).unwrap();
                server.process_new_packets()?;
            }
            let mut wire = Vec::new();
            while server.wants_write() {
                server.write_tls(&mut wire).unwrap();
            }
            let mut input = wire.as_slice();
            while !input.is_empty() {
                client.read_tls(&mut input).unwrap();
                client.process_new_packets()?;
            }
        }
        assert!(!server.is_handshaking() && !client.is_handshaking());
        Ok(server.peer_certificates().and_then(|c| c.first().cloned()))
    }

    /// The server sees the client's certificate; without one it still serves.
    #[test]
    fn tls_asks_for_client_certificates_and_needs_none() {
        let dir = tempfile::tempdir().unwrap();
        let pki = Pki::load_or_create(dir.path(), &options()).unwrap();
        let config = Arc::new(pki.server_config(ServingCert::new(&pki.apiserver).unwrap()).unwrap());
        let mut roots = rustls::RootCertStore::empty();
        roots.add(CertificateDer::from_pem_slice(pki.ca.cert_pem.as_bytes()).unwrap()).unwrap();
        let builder = || {
            rustls::ClientConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()))
                .with_safe_default_protocol_versions()
                .unwrap()
                .with_root_certificates(roots.clone())
        };
        let mut with =
            builder().with_client_auth_cert(vec![pki.admin.cert_der().unwrap()], pki.admin.key_der().unwrap()).unwrap();
        with.alpn_protocols = vec![b"h2".to_vec()];
        for (client_config, expected) in
            [(with, Some(pki.admin.cert_der().unwrap())), (builder().with_no_client_auth(), None)]
        {
            assert_eq!(handshake(&config, client_config).unwrap(), expected);
        }
    }
}
