//! Client certificates: the common name is the user, the organizations are the groups.

use super::{Authenticator, Connection, Outcome, User};
use crate::metrics::figures::CERTIFICATE_EXPIRATIONS;
use async_trait::async_trait;
use parking_lot::Mutex;
use rustls::pki_types::{CertificateDer, UnixTime, pem::PemObject};
use rustls::server::{WebPkiClientVerifier, danger::ClientCertVerifier};
use sha2::{Digest, Sha256};
use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;
use x509_parser::prelude::{FromDer, X509Certificate};

/// Certificates whose verification is remembered, so that it isn't done again for each request.
const REMEMBERED_MAX: usize = 4096;
/// Carries the user's UID in a certificate's subject, as upstream assigned it.
const UID_OID: &str = "1.3.6.1.4.1.57683.2";

/// Verifies certificates against one authority.
pub struct Verifier {
    inner: Arc<dyn ClientCertVerifier>,
    /// By the whole certificate: who it names, and until when (Unix seconds) that holds.
    remembered: Mutex<HashMap<Arc<Vec<u8>>, (User, i64)>>,
}

impl Verifier {
    pub fn new(ca_pem: &str) -> Result<Verifier, String> {
        let mut roots = rustls::RootCertStore::empty();
        for der in CertificateDer::pem_slice_iter(ca_pem.as_bytes()) {
            roots.add(der.map_err(|e| e.to_string())?).map_err(|e| e.to_string())?;
        }
        let provider = Arc::new(crate::pki::algorithms::provider());
        let inner = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider)
            .build()
            .map_err(|e| e.to_string())?;
        Ok(Verifier { inner, remembered: Mutex::default() })
    }

    /// The user that a certificate names, when this authority issued it and it is valid at `now` (Unix seconds).
    pub fn user(&self, der: &Arc<Vec<u8>>, now: i64) -> Result<User, String> {
        let count = |until: i64| CERTIFICATE_EXPIRATIONS.observe(String::new(), (until - now) as f64);
        if let Some((user, until)) = self.remembered.lock().get(der)
            && now < *until
        {
            count(*until);
            return Ok(user.clone());
        }
        let at = UnixTime::since_unix_epoch(Duration::from_secs(now.max(0).unsigned_abs()));
        self.inner
            .verify_client_cert(&CertificateDer::from(der.as_slice()), &[], at)
            .map_err(|e| format!("verifying the client certificate failed: {e}"))?;
        let (user, until) = named_by(der)?;
        count(until);
        let mut remembered = self.remembered.lock();
        if remembered.len() >= REMEMBERED_MAX {
            remembered.clear();
        }
        remembered.insert(der.clone(), (user.clone(), until));
        Ok(user)
    }
}

/// The user in a certificate, and the end of its validity.
fn named_by(der: &[u8]) -> Result<(User, i64), String> {
    let (_, cert) = X509Certificate::from_der(der).map_err(|e| e.to_string())?;
    let subject = cert.subject();
    // Go keeps the last.
    let name = subject.iter_common_name().last().and_then(|n| n.as_str().ok()).unwrap_or_default().to_string();
    let groups = subject.iter_organization().filter_map(|o| o.as_str().ok().map(str::to_string)).collect();
    let uids = subject.iter_attributes().filter(|a| a.attr_type().to_id_string() == UID_OID);
    let uids: Result<Vec<&str>, _> = uids.map(|a| a.as_str()).collect();
    let uid = match uids.map_err(|_| "unable to parse UID into a string")?.as_slice() {
        [] => String::new(),
        [""] => return Err("UID cannot be an empty string".to_string()),
        [uid] => uid.to_string(),
        many => return Err(format!("expected 1 UID, but found multiple: [{}]", many.join(" "))),
    };
    let id = Sha256::digest(der).iter().map(|b| format!("{b:02x}")).collect::<String>();
    let extra = [("authentication.kubernetes.io/credential-id".to_string(), vec![format!("X509SHA256={id}")])].into();
    Ok((User { name, uid, groups, extra }, cert.validity().not_after.timestamp()))
}

/// Certificates of the cluster's own CA.
pub struct ClientCertificates {
    verifier: Verifier,
    clock: fn() -> jiff::Timestamp,
}

impl ClientCertificates {
    pub fn new(ca_pem: &str) -> Result<ClientCertificates, String> {
        Ok(ClientCertificates { verifier: Verifier::new(ca_pem)?, clock: jiff::Timestamp::now })
    }
}

#[async_trait]
impl Authenticator for ClientCertificates {
    async fn authenticate(&self, _headers: &http::HeaderMap, connection: &Connection) -> Outcome {
        let Some(der) = &connection.client_certificate else { return Outcome::Skip };
        match self.verifier.user(der, (self.clock)().as_second()) {
            // A certificate without a name is nobody's.
            Ok(user) if user.name.is_empty() => Outcome::Skip,
            Ok(user) => Outcome::Authenticated(user),
            Err(why) => Outcome::Invalid(why),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pki::{Identity, Pki, PkiOptions, Request};

    fn pki() -> (tempfile::TempDir, Pki) {
        let dir = tempfile::tempdir().unwrap();
        let options = PkiOptions {
            node_name: "n1".into(),
            node_ips: vec![],
            service_ip: "10.43.0.1".parse().unwrap(),
            cluster_domain: "cluster.local".into(),
            extra_sans: vec![],
        };
        let pki = Pki::load_or_create(dir.path(), &options).unwrap();
        (dir, pki)
    }

    async fn ask(a: &ClientCertificates, identity: &Identity) -> Outcome {
        let der = Arc::new(identity.cert_der().unwrap().to_vec());
        let connection = Connection { client_certificate: Some(der), ..Connection::default() };
        a.authenticate(&http::HeaderMap::new(), &connection).await
    }

    #[tokio::test]
    async fn certificates_of_the_cluster_name_users_and_others_are_refused() {
        let (_dir, pki) = pki();
        let a = ClientCertificates::new(&pki.ca.cert_pem).unwrap();
        for _ in 0..2 {
            let Outcome::Authenticated(user) = ask(&a, &pki.node).await else { panic!("node was refused") };
            assert_eq!(
                (user.name.as_str(), user.groups.as_slice()),
                ("system:node:n1", &["system:nodes".to_string()][..])
            );
            assert!(user.extra["authentication.kubernetes.io/credential-id"][0].starts_with("X509SHA256="));
        }
        // Serving certificates, the front proxy's and a stranger's are no users.
        assert!(matches!(ask(&a, &pki.kubelet_server).await, Outcome::Invalid(_)));
        assert!(matches!(ask(&a, &pki.front_proxy_client).await, Outcome::Invalid(_)));
        let (_other_dir, other) = self::pki();
        assert!(matches!(ask(&a, &other.admin).await, Outcome::Invalid(_)));
        let none = a.authenticate(&http::HeaderMap::new(), &Connection::default()).await;
        assert_eq!(none, Outcome::Skip);
    }

    #[tokio::test]
    async fn a_worn_certificate_is_refused_even_when_it_was_remembered() {
        let (_dir, pki) = pki();
        let now = jiff::Timestamp::now().as_second();
        let v = Verifier::new(&pki.ca.cert_pem).unwrap();
        let identity = pki.ca.issue(&Request::client("jane", Some("dev")), now).unwrap();
        let der = Arc::new(identity.cert_der().unwrap().to_vec());
        assert_eq!(v.user(&der, now).unwrap().groups, ["dev"]);
        assert!(v.user(&der, now + 366 * 24 * 3600).is_err());
    }

    #[tokio::test]
    async fn nobody_is_named_by_a_certificate_without_a_name_nor_by_an_empty_uid() {
        let (_dir, pki) = pki();
        let a = ClientCertificates::new(&pki.ca.cert_pem).unwrap();
        let identity = pki.ca.issue(&Request::client("", Some("dev")), jiff::Timestamp::now().as_second()).unwrap();
        assert_eq!(ask(&a, &identity).await, Outcome::Skip);
        for (uid, expected) in [("u1", Ok("u1")), ("", Err("UID cannot be an empty string"))] {
            let mut params = rcgen::CertificateParams::default();
            params.distinguished_name.push(rcgen::DnType::CommonName, "jane");
            params.distinguished_name.push(rcgen::DnType::CustomDnType(vec![1, 3, 6, 1, 4, 1, 57683, 2]), uid);
            let cert = params.self_signed(&rcgen::KeyPair::generate().unwrap()).unwrap();
            let got = named_by(cert.der()).map(|(user, _)| user.uid);
            assert_eq!(got.as_deref().map_err(String::as_str), expected);
        }
    }

    /// Made with openssl: an authority and, after it, a user's certificate, both on P-521.
    #[test]
    fn authorities_may_sign_on_p521() {
        const NOW: i64 = 1_800_000_000;
        let pem = include_str!("../pki/p521.pem");
        let user = CertificateDer::pem_slice_iter(pem.as_bytes()).nth(1).unwrap().unwrap();
        let authority = pem.split_inclusive("-----END CERTIFICATE-----\n").next().unwrap();
        let v = Verifier::new(authority).unwrap();
        let user_of = |der: &[u8]| v.user(&Arc::new(der.to_vec()), NOW);
        assert_eq!(user_of(&user).unwrap().groups, ["dev"]);
        let mut forged = user.to_vec();
        *forged.last_mut().unwrap() ^= 1;
        assert!(user_of(&forged).unwrap_err().contains("BadSignature"));
    }
}
