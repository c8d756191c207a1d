//! A CA for one test, and what it signs.

use anyhow::Result;
use rcgen::{BasicConstraints, CertificateParams, CertificateSigningRequestParams, DnType, IsCa, Issuer, KeyPair};
use std::path::Path;
use std::time::Duration;

pub struct Authority {
    pub cert_pem: String,
    issuer: Issuer<'static, KeyPair>,
}

impl Authority {
    pub fn new(name: &str) -> Result<Authority> {
        let key = KeyPair::generate()?;
        let mut params = CertificateParams::default();
        params.distinguished_name.push(DnType::CommonName, name);
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let cert_pem = params.self_signed(&key)?.pem();
        Ok(Authority { issuer: Issuer::from_ca_cert_pem(&cert_pem, key)?, cert_pem })
    }

    /// Certificate and key for these names, as PEM.
    pub fn issue(&self, sans: &[&str]) -> Result<(String, String)> {
        let key = KeyPair::generate()?;
        let params = CertificateParams::new(sans.iter().map(|s| s.to_string()).collect::<Vec<_>>())?;
        Ok((params.signed_by(&key, &self.issuer)?.pem(), key.serialize_pem()))
    }

    /// A certificate (PEM) for the key of a PKCS #10 request, from and until times in Unix seconds.
    pub fn sign(&self, request_der: &[u8], begin: u64, end: u64) -> Result<String> {
        let mut request = CertificateSigningRequestParams::from_der(&request_der.into())?;
        let epoch = rcgen::date_time_ymd(1970, 1, 1);
        request.params.not_before = epoch + Duration::from_secs(begin);
        request.params.not_after = epoch + Duration::from_secs(end);
        Ok(request.signed_by(&self.issuer)?.pem())
    }

    /// As [`Authority::issue`], into `tls.crt` and `tls.key` of a directory.
    pub fn issue_into(&self, dir: &Path, sans: &[&str]) -> Result<()> {
        let (cert, key) = self.issue(sans)?;
        std::fs::create_dir_all(dir)?;
        std::fs::write(dir.join("tls.crt"), cert)?;
        std::fs::write(dir.join("tls.key"), key)?;
        Ok(())
    }
}
