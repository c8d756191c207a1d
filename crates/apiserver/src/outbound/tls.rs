//! Whose certificates are believed, and why not, in the words of Go's crypto/x509.

use super::error::Cause;
use super::target::{Target, Trust};
use rustls::client::WebPkiServerVerifier;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime, pem::PemObject};
use rustls::server::ParsedCertificate;
use rustls::{CertificateError, DigitallySignedStruct, RootCertStore, SignatureScheme};
use std::sync::{Arc, OnceLock};
use x509_parser::prelude::{FromDer, X509Certificate};

fn provider() -> Arc<rustls::crypto::CryptoProvider> {
    static ONE: OnceLock<Arc<rustls::crypto::CryptoProvider>> = OnceLock::new();
    ONE.get_or_init(|| Arc::new(crate::pki::algorithms::provider())).clone()
}

/// TLS towards a target.
pub fn config(target: &Target, http1: bool) -> Result<rustls::ClientConfig, Cause> {
    let fail = |why: String| Cause::Tls(why);
    let verifier: Arc<dyn ServerCertVerifier> = match &target.trust {
        Trust::Anybody => Arc::new(Anybody),
        Trust::System => Arc::new(Pinning { inner: webpki(system_roots())?, pinned: Vec::new() }),
        Trust::Ca(pem) => {
            let pinned: Vec<CertificateDer<'static>> =
                CertificateDer::pem_slice_iter(pem).filter_map(std::result::Result::ok).collect();
            let mut roots = RootCertStore::empty();
            roots.add_parsable_certificates(pinned.iter().cloned());
            if roots.is_empty() {
                return Err(fail("unable to load root certificates: unable to parse bytes as PEM block".into()));
            }
            Arc::new(Pinning { inner: webpki(Arc::new(roots))?, pinned })
        }
    };
    let builder = rustls::ClientConfig::builder_with_provider(provider())
        .with_safe_default_protocol_versions()
        .map_err(|e| fail(e.to_string()))?
        .dangerous()
        .with_custom_certificate_verifier(verifier);
    let mut config = match &target.identity {
        None => builder.with_no_client_auth(),
        Some(i) => {
            let chain: Vec<_> =
                CertificateDer::pem_slice_iter(i.cert_pem.as_bytes()).filter_map(std::result::Result::ok).collect();
            let key = i.key_der().map_err(|e| fail(e.to_string()))?;
            builder.with_client_auth_cert(chain, key).map_err(|e| fail(e.to_string()))?
        }
    };
    config.alpn_protocols = match http1 {
        true => vec![b"http/1.1".to_vec()],
        false => vec![b"h2".to_vec(), b"http/1.1".to_vec()],
    };
    Ok(config)
}

fn webpki(roots: Arc<RootCertStore>) -> Result<Option<Arc<WebPkiServerVerifier>>, Cause> {
    if roots.is_empty() {
        return Ok(None);
    }
    WebPkiServerVerifier::builder_with_provider(roots, provider())
        .build()
        .map(Some)
        .map_err(|e| Cause::Tls(e.to_string()))
}

/// Read once: a change of the machine's trust counts from the next start.
fn system_roots() -> Arc<RootCertStore> {
    static ROOTS: OnceLock<Arc<RootCertStore>> = OnceLock::new();
    ROOTS
        .get_or_init(|| {
            let mut roots = RootCertStore::empty();
            roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
            Arc::new(roots)
        })
        .clone()
}

/// Webpki's verdict, and Go's two liberties: a certificate that is itself among the trusted ones needs no issuer, and
/// may be that of an authority (many webhooks show one self-signed certificate for both).
#[derive(Debug)]
struct Pinning {
    /// `None`: nobody is trusted.
    inner: Option<Arc<WebPkiServerVerifier>>,
    pinned: Vec<CertificateDer<'static>>,
}

impl ServerCertVerifier for Pinning {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        name: &ServerName<'_>,
        ocsp: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        if self.pinned.iter().any(|p| p == end_entity) {
            in_time(end_entity, now)?;
            rustls::client::verify_server_name(&ParsedCertificate::try_from(end_entity)?, name)?;
            return Ok(ServerCertVerified::assertion());
        }
        match &self.inner {
            Some(v) => v.verify_server_cert(end_entity, intermediates, name, ocsp, now),
            None => Err(CertificateError::UnknownIssuer.into()),
        }
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        rustls::crypto::verify_tls12_signature(message, cert, dss, &provider().signature_verification_algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        rustls::crypto::verify_tls13_signature(message, cert, dss, &provider().signature_verification_algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        provider().signature_verification_algorithms.supported_schemes()
    }
}

fn in_time(der: &CertificateDer<'_>, now: UnixTime) -> Result<(), rustls::Error> {
    let (_, cert) = X509Certificate::from_der(der).map_err(|_| CertificateError::BadEncoding)?;
    let seconds = |t: i64| UnixTime::since_unix_epoch(std::time::Duration::from_secs(t.max(0).unsigned_abs()));
    let (not_before, not_after) =
        (seconds(cert.validity().not_before.timestamp()), seconds(cert.validity().not_after.timestamp()));
    if now > not_after {
        return Err(CertificateError::ExpiredContext { time: now, not_after }.into());
    }
    if now < not_before {
        return Err(CertificateError::NotValidYetContext { time: now, not_before }.into());
    }
    Ok(())
}

/// `insecure-skip-tls-verify`.
#[derive(Debug)]
struct Anybody;

impl ServerCertVerifier for Anybody {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        rustls::crypto::verify_tls12_signature(message, cert, dss, &provider().signature_verification_algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        rustls::crypto::verify_tls13_signature(message, cert, dss, &provider().signature_verification_algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        provider().signature_verification_algorithms.supported_schemes()
    }
}

/// A failed handshake in Go's words.
pub fn explain(e: &rustls::Error) -> String {
    let x509 = match e {
        rustls::Error::InvalidCertificate(c) => c,
        rustls::Error::InvalidMessage(_) => return "tls: first record does not look like a TLS handshake".into(),
        rustls::Error::AlertReceived(a) => return format!("remote error: tls: {}", alert(*a)),
        other => return format!("tls: {other}"),
    };
    let shown = |t: &UnixTime| {
        jiff::Timestamp::from_second(t.as_secs().try_into().unwrap_or(i64::MAX))
            .unwrap_or(jiff::Timestamp::MAX)
            .to_string()
    };
    let why = match x509 {
        CertificateError::UnknownIssuer => "x509: certificate signed by unknown authority".to_string(),
        CertificateError::ExpiredContext { time, not_after } => format!(
            "x509: certificate has expired or is not yet valid: current time {} is after {}",
            shown(time),
            shown(not_after)
        ),
        CertificateError::NotValidYetContext { time, not_before } => format!(
            "x509: certificate has expired or is not yet valid: current time {} is before {}",
            shown(time),
            shown(not_before)
        ),
        CertificateError::Expired | CertificateError::NotValidYet => {
            "x509: certificate has expired or is not yet valid".to_string()
        }
        CertificateError::NotValidForNameContext { expected, presented } => {
            let names: Vec<&str> = presented.iter().map(|p| bare(p)).collect();
            let wanted = expected.to_str();
            match (names.is_empty(), expected) {
                (true, ServerName::IpAddress(_)) => {
                    format!("x509: cannot validate certificate for {wanted} because it doesn't contain any IP SANs")
                }
                (true, _) => format!("x509: certificate is not valid for any names, but wanted to match {wanted}"),
                (false, _) => format!("x509: certificate is valid for {}, not {wanted}", names.join(", ")),
            }
        }
        CertificateError::BadSignature => {
            "x509: certificate signed by unknown authority (possibly because of \"crypto: verification error\")".into()
        }
        CertificateError::InvalidPurpose | CertificateError::InvalidPurposeContext { .. } => {
            "x509: certificate specifies an incompatible key usage".into()
        }
        other => format!("x509: {other}"),
    };
    format!("tls: failed to verify certificate: {why}")
}

/// `DnsName("a.b")` to `a.b`.
fn bare(shown: &str) -> &str {
    let inner = shown.split_once('(').map_or(shown, |(_, r)| r.trim_end_matches(')'));
    inner.trim_matches('"')
}

fn alert(a: rustls::AlertDescription) -> &'static str {
    use rustls::AlertDescription as A;
    match a {
        A::BadCertificate => "bad certificate",
        A::UnknownCA => "unknown certificate authority",
        A::CertificateRequired => "certificate required",
        A::CertificateExpired => "expired certificate",
        A::CertificateUnknown => "unknown certificate",
        A::HandshakeFailure => "handshake failure",
        A::ProtocolVersion => "protocol version not supported",
        A::AccessDenied => "access denied",
        A::InternalError => "internal error",
        A::UnrecognisedName => "unrecognized name",
        A::NoApplicationProtocol => "no application protocol",
        _ => "handshake failure",
    }
}
