//! Certificates made from signing requests.
//!
//! In: a request (PEM) or a key and its owner, what was granted ([`Grant`]), the authority. Out: a certificate (PEM). The subject and the
//! alternative names are taken over byte for byte, so that every organization (a user's groups) survives; nothing
//! else that the request asks for is. Source: RFC 5280, 2986.

use super::{Authority, Facts};
use api::validation::pem;
use rcgen::SigningKey;
use rustls::pki_types::{CertificateDer, pem::PemObject};
use x509_parser::prelude::{FromDer, ParsedExtension, X509Certificate, X509CertificationRequest};
use x509_parser::x509::SubjectPublicKeyInfo;

/// What goes into the certificate beside the request's names and key.
#[derive(Clone, Debug, PartialEq)]
pub struct Grant {
    /// `KeyUsage`s and extended ones, by the names of the certificates API (`client auth`).
    pub usages: Vec<String>,
    /// Unix seconds.
    pub not_before: i64,
    pub not_after: i64,
}

const KEY_USAGES: [(&str, u32); 10] = [
    ("signing", 0),
    ("digital signature", 0),
    ("content commitment", 1),
    ("key encipherment", 2),
    ("data encipherment", 3),
    ("key agreement", 4),
    ("cert sign", 5),
    ("crl sign", 6),
    ("encipher only", 7),
    ("decipher only", 8),
];

const EXTENDED_KEY_USAGES: [(&str, &[u64]); 13] = [
    ("any", &[2, 5, 29, 37, 0]),
    ("server auth", &[1, 3, 6, 1, 5, 5, 7, 3, 1]),
    ("client auth", &[1, 3, 6, 1, 5, 5, 7, 3, 2]),
    ("code signing", &[1, 3, 6, 1, 5, 5, 7, 3, 3]),
    ("email protection", &[1, 3, 6, 1, 5, 5, 7, 3, 4]),
    ("s/mime", &[1, 3, 6, 1, 5, 5, 7, 3, 4]),
    ("ipsec end system", &[1, 3, 6, 1, 5, 5, 7, 3, 5]),
    ("ipsec tunnel", &[1, 3, 6, 1, 5, 5, 7, 3, 6]),
    ("ipsec user", &[1, 3, 6, 1, 5, 5, 7, 3, 7]),
    ("timestamping", &[1, 3, 6, 1, 5, 5, 7, 3, 8]),
    ("ocsp signing", &[1, 3, 6, 1, 5, 5, 7, 3, 9]),
    ("microsoft sgc", &[1, 3, 6, 1, 4, 1, 311, 10, 3, 3]),
    ("netscape sgc", &[2, 16, 840, 1, 113730, 4, 1]),
];

impl Authority {
    /// A certificate for the key and names of a request. The end is never later than the authority's own.
    pub fn sign_request(&self, request_pem: &str, grant: &Grant) -> Result<String, String> {
        let block = pem::blocks(request_pem).next().ok_or("there is no PEM block")?;
        let (_, request) = X509CertificationRequest::from_der(&block.der).map_err(|e| e.to_string())?;
        let info = &request.certification_request_info;
        let names = info.attributes().iter().find_map(|a| match a.parsed_attribute() {
            x509_parser::cri_attributes::ParsedCriAttribute::ExtensionRequest(asked) => asked
                .extensions
                .iter()
                .find(|e| matches!(e.parsed_extension(), ParsedExtension::SubjectAlternativeName(_)))
                .map(|e| e.value),
            _ => None,
        });
        self.certify(info.subject.as_raw(), names, info.subject_pki.raw, grant)
    }

    /// A certificate for a key (`SubjectPublicKeyInfo`) whose owner is known from elsewhere.
    pub fn sign_key(&self, key: &[u8], subject: &Subject, grant: &Grant) -> Result<String, String> {
        let (rest, _) = SubjectPublicKeyInfo::from_der(key).map_err(|e| e.to_string())?;
        // All of it would be written into the certificate, whose next fields are the extensions.
        if !rest.is_empty() {
            return Err("there is trailing data after the public key".into());
        }
        self.certify(&subject.encoded(), None, key, grant)
    }

    /// `names`: the alternative ones, if there are any. All as they are encoded.
    fn certify(&self, subject: &[u8], names: Option<&[u8]>, key: &[u8], grant: &Grant) -> Result<String, String> {
        let own = CertificateDer::from_pem_slice(self.cert_pem.as_bytes()).map_err(|e| e.to_string())?;
        let (_, own_cert) = X509Certificate::from_der(&own).map_err(|e| e.to_string())?;
        let own_facts = Facts::read(&own).ok_or("the authority's certificate can't be read")?;

        let mut extensions = key_usages(&grant.usages)?;
        // Basic constraints: no authority.
        extensions.push(extension(&[2, 5, 29, 19], true, &sequence(&[])));
        let authority_key_id = der(0x80, &own_facts.subject_key_id);
        extensions.push(extension(&[2, 5, 29, 35], false, &sequence(&authority_key_id)));
        if let Some(names) = names {
            // Without a subject, the names are all there is to know the owner by.
            extensions.push(extension(&[2, 5, 29, 17], subject == sequence(&[]), names));
        }

        let mut serial: [u8; 16] = rand::random();
        serial[0] &= 0x7f;
        serial[0] |= 0x40;
        let own_key = self.issuer.key();
        let algorithm = signature_algorithm(own_key)?;
        let validity = sequence(&[time(grant.not_before)?, time(grant.not_after.min(own_facts.not_after))?].concat());
        let to_be_signed = sequence(
            &[
                der(0xa0, &der(0x02, &[2])),
                der(0x02, &serial),
                algorithm.clone(),
                own_cert.subject().as_raw().to_vec(),
                validity,
                subject.to_vec(),
                key.to_vec(),
                der(0xa3, &sequence(&extensions.concat())),
            ]
            .concat(),
        );
        let signature = own_key.sign(&to_be_signed).map_err(|e| e.to_string())?;
        let signature = der(0x03, &[&[0][..], &signature].concat());
        Ok(pem("CERTIFICATE", &sequence(&[to_be_signed, algorithm, signature].concat())))
    }
}

/// A user, as client certificates name them.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Subject {
    pub common_name: String,
    /// Groups.
    pub organizations: Vec<String>,
    /// Left out where empty.
    pub uid: String,
}

impl Subject {
    fn encoded(&self) -> Vec<u8> {
        let part = |oid: &[u64], value: &str| {
            const SET: u8 = 0x31;
            const UTF8: u8 = 0x0c;
            der(SET, &sequence(&[der(0x06, &object_id(oid)), der(UTF8, value.as_bytes())].concat()))
        };
        let mut parts: Vec<Vec<u8>> = self.organizations.iter().map(|o| part(&[2, 5, 4, 10], o)).collect();
        parts.push(part(&[2, 5, 4, 3], &self.common_name));
        if !self.uid.is_empty() {
            // Upstream's own object identifier of a user's UID.
            parts.push(part(&[1, 3, 6, 1, 4, 1, 57683, 2], &self.uid));
        }
        sequence(&parts.concat())
    }
}

fn key_usages(usages: &[String]) -> Result<Vec<Vec<u8>>, String> {
    let (mut bits, mut extended) = (0u16, Vec::new());
    for usage in usages {
        let bit = KEY_USAGES.iter().find(|(name, _)| name == usage);
        let oid = EXTENDED_KEY_USAGES.iter().find(|(name, _)| name == usage);
        match (bit, oid) {
            (Some((_, bit)), _) => bits |= 0x8000 >> bit,
            (_, Some((_, oid))) => extended.push(der(0x06, &object_id(oid))),
            _ => return Err(format!("unrecognized usage {usage:?}")),
        }
    }
    let mut out = Vec::new();
    if bits != 0 {
        let bytes = bits.to_be_bytes();
        let used = if bytes[1] == 0 { &bytes[..1] } else { &bytes[..] };
        let unused = used.last().map_or(0, |b| b.trailing_zeros() as u8);
        out.push(extension(&[2, 5, 29, 15], true, &der(0x03, &[&[unused], used].concat())));
    }
    if !extended.is_empty() {
        extended.dedup();
        out.push(extension(&[2, 5, 29, 37], false, &sequence(&extended.concat())));
    }
    Ok(out)
}

fn signature_algorithm(key: &rcgen::KeyPair) -> Result<Vec<u8>, String> {
    let oid = |arcs: &[u64]| der(0x06, &object_id(arcs));
    let ecdsa = |last: u64| Ok(sequence(&oid(&[1, 2, 840, 10045, 4, 3, last])));
    let algorithm = key.algorithm();
    if *algorithm == rcgen::PKCS_ECDSA_P256_SHA256 {
        ecdsa(2)
    } else if *algorithm == rcgen::PKCS_ECDSA_P384_SHA384 {
        ecdsa(3)
    } else if *algorithm == rcgen::PKCS_ED25519 {
        Ok(sequence(&oid(&[1, 3, 101, 112])))
    } else if *algorithm == rcgen::PKCS_RSA_SHA256 {
        Ok(sequence(&[oid(&[1, 2, 840, 113549, 1, 1, 11]), der(0x05, &[])].concat()))
    } else {
        Err(format!("the authority's key of type {algorithm:?} can't sign requests"))
    }
}

fn extension(oid: &[u64], critical: bool, value: &[u8]) -> Vec<u8> {
    let mut content = der(0x06, &object_id(oid));
    if critical {
        content.extend(der(0x01, &[0xff]));
    }
    content.extend(der(0x04, value));
    sequence(&content)
}

/// UTCTime until 2049, GeneralizedTime after (RFC 5280, 4.1.2.5).
fn time(unix_seconds: i64) -> Result<Vec<u8>, String> {
    let at = jiff::Timestamp::from_second(unix_seconds).map_err(|e| e.to_string())?.to_zoned(jiff::tz::TimeZone::UTC);
    Ok(match (1950..2050).contains(&at.year()) {
        true => der(0x17, at.strftime("%y%m%d%H%M%SZ").to_string().as_bytes()),
        false => der(0x18, at.strftime("%Y%m%d%H%M%SZ").to_string().as_bytes()),
    })
}

fn object_id(arcs: &[u64]) -> Vec<u8> {
    let mut out = vec![(arcs[0] * 40 + arcs[1]) as u8];
    for arc in &arcs[2..] {
        let mut bytes = vec![(arc & 0x7f) as u8];
        let mut rest = arc >> 7;
        while rest > 0 {
            bytes.push((rest & 0x7f) as u8 | 0x80);
            rest >>= 7;
        }
        bytes.reverse();
        out.extend(bytes);
    }
    out
}

fn sequence(content: &[u8]) -> Vec<u8> {
    der(0x30, content)
}

use crate::jwt::der;

fn pem(label: &str, der: &[u8]) -> String {
    use base64::{Engine, engine::general_purpose::STANDARD};
    let encoded = STANDARD.encode(der);
    let mut out = format!("-----BEGIN {label}-----\n");
    for line in encoded.as_bytes().chunks(64) {
        out.push_str(&String::from_utf8_lossy(line));
        out.push('\n');
    }
    out.push_str(&format!("-----END {label}-----\n"));
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::authn::x509::Verifier;
    use crate::pki::{AUTHORITY_DAYS, DAY_SECONDS};
    use std::sync::Arc;

    const NOW: i64 = 1_800_000_000;

    fn grant(usages: &[&str], not_after: i64) -> Grant {
        Grant { usages: usages.iter().map(|u| u.to_string()).collect(), not_before: NOW - 300, not_after }
    }

    #[test]
    fn a_signed_request_names_its_user_with_all_groups() {
        let ca = Authority::create("test", NOW).unwrap();
        // Two organizations: made with openssl, as rcgen can't.
        let request = include_str!("jane.csr");
        let cert = ca.sign_request(request, &grant(&["client auth", "digital signature"], NOW + 3600)).unwrap();
        let der = Arc::new(CertificateDer::from_pem_slice(cert.as_bytes()).unwrap().to_vec());
        let verifier = Verifier::new(&ca.cert_pem).unwrap();
        let user = verifier.user(&der, NOW).unwrap();
        assert_eq!((user.name.as_str(), user.groups), ("jane", vec!["dev".to_string(), "ops".to_string()]));
        assert!(verifier.user(&der, NOW + 3601).is_err());
        let (_, parsed) = X509Certificate::from_der(&der).unwrap();
        assert!(!parsed.is_ca());
        let usage = parsed.key_usage().unwrap().unwrap();
        assert!(usage.critical && usage.value.digital_signature() && !usage.value.key_encipherment());
        let names = parsed.subject_alternative_name().unwrap().unwrap();
        assert_eq!(names.value.general_names.len(), 3, "{names:?}");
        assert_eq!(parsed.validity().not_before.timestamp(), NOW - 300);

        // Another authority doesn't vouch for it, and a serving certificate is no user.
        assert!(Verifier::new(&Authority::create("test", NOW).unwrap().cert_pem).unwrap().user(&der, NOW).is_err());
        let serving = ca.sign_request(request, &grant(&["server auth"], NOW + 3600)).unwrap();
        let der = Arc::new(CertificateDer::from_pem_slice(serving.as_bytes()).unwrap().to_vec());
        assert!(verifier.user(&der, NOW).is_err());
    }

    #[test]
    fn a_key_is_signed_for_whom_it_is_said_to_belong_to() {
        let ca = Authority::create("test", NOW).unwrap();
        let key = rcgen::KeyPair::generate().unwrap();
        use rcgen::PublicKeyData;
        let subject = Subject {
            common_name: "system:serviceaccount:d:s".into(),
            organizations: vec!["system:serviceaccounts".into(), "system:serviceaccounts:d".into()],
            uid: "su".into(),
        };
        let cert = ca
            .sign_key(
                &key.subject_public_key_info(),
                &subject,
                &grant(&["client auth", "digital signature"], NOW + 3600),
            )
            .unwrap();
        let der = Arc::new(CertificateDer::from_pem_slice(cert.as_bytes()).unwrap().to_vec());
        let user = Verifier::new(&ca.cert_pem).unwrap().user(&der, NOW).unwrap();
        assert_eq!(
            (user.name, user.uid, user.groups),
            (subject.common_name.clone(), subject.uid.clone(), subject.organizations.clone())
        );
        assert!(ca.sign_key(b"junk", &subject, &grant(&[], NOW)).is_err());
        // Something that would be read as extensions, from whoever chose the key.
        let followed = [key.subject_public_key_info(), super::der(0xa3, &sequence(&[]))].concat();
        let why = ca.sign_key(&followed, &subject, &grant(&["client auth"], NOW + 3600)).unwrap_err();
        assert_eq!(why, "there is trailing data after the public key");
    }

    #[test]
    fn nothing_outlives_its_authority() {
        let ca = Authority::create("test", NOW).unwrap();
        let end = NOW + AUTHORITY_DAYS * DAY_SECONDS;
        let cert = ca.sign_request(include_str!("jane.csr"), &grant(&["any"], end + 5)).unwrap();
        let der = CertificateDer::from_pem_slice(cert.as_bytes()).unwrap();
        assert_eq!(Facts::read(&der).unwrap().not_after, end);
        assert!(ca.sign_request("junk", &grant(&[], end)).is_err());
        assert!(ca.sign_request(include_str!("jane.csr"), &grant(&["fun"], end)).is_err());
    }

    #[test]
    fn times_and_numbers_are_encoded_as_they_must() {
        assert_eq!(time(2_524_607_999).unwrap(), [b"\x17\x0d".as_slice(), b"491231235959Z"].concat());
        assert_eq!(time(2_524_608_000).unwrap(), [b"\x18\x0f".as_slice(), b"20500101000000Z"].concat());
        assert_eq!(object_id(&[2, 16, 840, 1, 113730, 4, 1]), [0x60, 0x86, 0x48, 1, 0x86, 0xf8, 0x42, 4, 1]);
    }
}
