//! Public keys that pods get certificates for, and proofs that whoever asks has their private halves.
//!
//! In: keys and signatures as DER. Out: whether a key is of a kind that the API takes, and whether a signature is its.
//! Source: upstream's rules for PodCertificateRequests; RFC 5280, 8017, 8032, SEC 1.

use ring::digest::{Algorithm, SHA1_FOR_LEGACY_USE_ONLY, SHA256, SHA384, SHA512, digest};
use ring::signature::{ECDSA_P256_SHA256_ASN1, ECDSA_P384_SHA256_ASN1, ED25519, UnparsedPublicKey};
use serde_json::Value;
use x509_parser::prelude::{FromDer, X509CertificationRequest};
use x509_parser::public_key::PublicKey;
use x509_parser::signature_algorithm::SignatureAlgorithm;
use x509_parser::x509::SubjectPublicKeyInfo;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    Ed25519,
    P256,
    P384,
    P521,
    /// Of 3072 or 4096 bits.
    Rsa,
}

/// Why a key isn't taken.
#[derive(Clone, Debug, PartialEq)]
pub enum Refusal {
    /// Not a key, or none that could be read.
    Malformed,
    /// A key of another kind: what is shown of it (null: the field's own value), and why.
    Unsupported(Value, &'static str),
}

const ED25519_KEY: &str = "1.3.101.112";
const EC_KEY: &str = "1.2.840.10045.2.1";
const RSA_KEY: &str = "1.2.840.113549.1.1.1";
const CURVES: [(&str, Kind); 3] =
    [("1.2.840.10045.3.1.7", Kind::P256), ("1.3.132.0.34", Kind::P384), ("1.3.132.0.35", Kind::P521)];
/// Readable, but not taken.
const P224: &str = "1.3.132.0.33";
const RSA_BITS: [usize; 2] = [3072, 4096];

/// A `SubjectPublicKeyInfo`, whole.
pub fn parse(der: &[u8]) -> Option<SubjectPublicKeyInfo<'_>> {
    SubjectPublicKeyInfo::from_der(der).ok().filter(|(rest, _)| rest.is_empty()).map(|(_, key)| key)
}

pub fn kind(key: &SubjectPublicKeyInfo<'_>) -> Result<Kind, Refusal> {
    match key.algorithm.algorithm.to_id_string().as_str() {
        ED25519_KEY => Ok(Kind::Ed25519),
        EC_KEY => {
            let curve = curve(key).ok_or(Refusal::Malformed)?;
            match CURVES.iter().find(|c| c.0 == curve) {
                Some((_, kind)) => Ok(*kind),
                None if curve == P224 => Err(Refusal::Unsupported(
                    "curve P-224".into(),
                    "elliptic public keys must use curve P256, P384, or P521",
                )),
                None => Err(Refusal::Malformed),
            }
        }
        RSA_KEY => {
            let Ok(PublicKey::RSA(rsa)) = key.parsed() else { return Err(Refusal::Malformed) };
            let bits = rsa.key_size();
            match RSA_BITS.contains(&bits) {
                true => Ok(Kind::Rsa),
                false => Err(Refusal::Unsupported(
                    format!("{bits}-bit modulus").into(),
                    "RSA keys must have modulus size 3072 or 4096",
                )),
            }
        }
        // X25519: a key, but not to sign with.
        "1.3.101.110" => Err(Refusal::Unsupported(
            Value::Null,
            "unknown public key type; supported types are Ed25519, ECDSA, and RSA",
        )),
        _ => Err(Refusal::Malformed),
    }
}

fn curve(key: &SubjectPublicKeyInfo<'_>) -> Option<String> {
    Some(key.algorithm.parameters.as_ref()?.as_oid().ok()?.to_id_string())
}

/// Whether both are one key, however they were encoded.
pub fn same(a: &SubjectPublicKeyInfo<'_>, b: &SubjectPublicKeyInfo<'_>) -> bool {
    a.algorithm.algorithm == b.algorithm.algorithm
        && a.subject_public_key.data == b.subject_public_key.data
        && curve(a) == curve(b)
}

/// A signature over the SHA-256 digest of the message (Ed25519: the message), RSA by PSS with salt of any length.
pub fn verifies(key: &SubjectPublicKeyInfo<'_>, kind: Kind, message: &[u8], signature: &[u8]) -> bool {
    let bits = &*key.subject_public_key.data;
    match kind {
        Kind::Ed25519 => UnparsedPublicKey::new(&ED25519, bits).verify(message, signature).is_ok(),
        Kind::P256 => UnparsedPublicKey::new(&ECDSA_P256_SHA256_ASN1, bits).verify(message, signature).is_ok(),
        Kind::P384 => UnparsedPublicKey::new(&ECDSA_P384_SHA256_ASN1, bits).verify(message, signature).is_ok(),
        Kind::P521 => p521_verifies(bits, &SHA256, message, signature),
        Kind::Rsa => rsa_verifies(key, message, signature),
    }
}

/// An ECDSA signature by a digest of any length on the curve of the crate `$curve`. The digest is a number; the libraries
/// take none that is short by half of the curve's.
macro_rules! ecdsa_verifies {
    ($curve:ident, $bytes:literal, $point:expr, $digest:expr, $signature:expr) => {{
        use $curve::ecdsa::{Signature, VerifyingKey, signature::hazmat::PrehashVerifier};
        let mut padded = [0u8; if $bytes > DIGEST_BYTES_MAX { $bytes } else { DIGEST_BYTES_MAX }];
        let length = $digest.len().max($bytes);
        padded[length - $digest.len()..length].copy_from_slice($digest);
        match (VerifyingKey::from_sec1_bytes($point), Signature::from_der($signature)) {
            (Ok(key), Ok(signature)) => key.verify_prehash(&padded[..length], &signature).is_ok(),
            _ => false,
        }
    }};
}

const DIGEST_BYTES_MAX: usize = 64;

fn p521_verifies(point: &[u8], hash: &'static Algorithm, message: &[u8], signature: &[u8]) -> bool {
    ecdsa_verifies!(p521, 66, point, digest(hash, message).as_ref(), signature)
}

fn rsa_key(key: &SubjectPublicKeyInfo<'_>) -> Option<rsa::PublicKey> {
    let Ok(PublicKey::RSA(parts)) = key.parsed() else { return None };
    let number = rsa::BoxedUint::from_be_slice_vartime;
    rsa::PublicKey::new(number(parts.modulus), number(parts.exponent)).ok()
}

fn rsa_verifies(key: &SubjectPublicKeyInfo<'_>, message: &[u8], signature: &[u8]) -> bool {
    let Some(key) = rsa_key(key) else { return false };
    let scheme = rsa::Pss::<rsa::sha2::Sha256> { salt_len: None, ..rsa::Pss::new() };
    key.verify(scheme, digest(&SHA256, message).as_ref(), signature).is_ok()
}

/// How a request is signed.
#[derive(Clone, Copy, PartialEq)]
enum Scheme {
    RsaMd5,
    Rsa(&'static Algorithm),
    RsaPss,
    Ecdsa(&'static Algorithm),
    Ed25519,
}

/// Those that Go knows for requests, SHA-1 among them; DSA it doesn't verify any more.
const SCHEMES: [(&str, Scheme); 12] = [
    ("1.2.840.113549.1.1.4", Scheme::RsaMd5),
    ("1.2.840.113549.1.1.5", Scheme::Rsa(&SHA1_FOR_LEGACY_USE_ONLY)),
    ("1.3.14.3.2.29", Scheme::Rsa(&SHA1_FOR_LEGACY_USE_ONLY)),
    ("1.2.840.113549.1.1.11", Scheme::Rsa(&SHA256)),
    ("1.2.840.113549.1.1.12", Scheme::Rsa(&SHA384)),
    ("1.2.840.113549.1.1.13", Scheme::Rsa(&SHA512)),
    ("1.2.840.113549.1.1.10", Scheme::RsaPss),
    ("1.2.840.10045.4.1", Scheme::Ecdsa(&SHA1_FOR_LEGACY_USE_ONLY)),
    ("1.2.840.10045.4.3.2", Scheme::Ecdsa(&SHA256)),
    ("1.2.840.10045.4.3.3", Scheme::Ecdsa(&SHA384)),
    ("1.2.840.10045.4.3.4", Scheme::Ecdsa(&SHA512)),
    (ED25519_KEY, Scheme::Ed25519),
];
const UNSUPPORTED: &str = "x509: cannot verify signature: algorithm unimplemented";
/// Go takes no shorter keys.
const RSA_BITS_MIN: usize = 1024;

/// Whether a PKCS #10 request is signed by the key that it brings; if not, in the words of Go's
/// `CertificateRequest.CheckSignature`.
pub fn request_signature(request: &X509CertificationRequest<'_>) -> Result<(), String> {
    let key = &request.certification_request_info.subject_pki;
    let message = request.certification_request_info.raw;
    let signature = &*request.signature_value.data;
    let id = request.signature_algorithm.algorithm.to_id_string();
    let scheme = SCHEMES.iter().find(|(known, _)| *known == id).map(|s| s.1);
    let key_type = match key.algorithm.algorithm.to_id_string().as_str() {
        RSA_KEY => "*rsa.PublicKey",
        EC_KEY => "*ecdsa.PublicKey",
        ED25519_KEY => "ed25519.PublicKey",
        _ => return Err(UNSUPPORTED.to_string()),
    };
    let curve = curve(key).unwrap_or_default();
    if key_type == "*ecdsa.PublicKey" && curve != P224 && !CURVES.iter().any(|c| c.0 == curve) {
        return Err("x509: unsupported elliptic curve".to_string());
    }
    let of = |kind: &str, wanted: &str| match key_type == wanted {
        true => Ok(()),
        false => Err(format!(
            "x509: signature algorithm specifies an {kind} public key, but have public key of type {key_type}"
        )),
    };
    let point = &*key.subject_public_key.data;
    match scheme.ok_or(UNSUPPORTED)? {
        Scheme::RsaMd5 => Err("x509: cannot verify signature: insecure algorithm MD5-RSA".to_string()),
        Scheme::Rsa(hash) => {
            of("RSA", "*rsa.PublicKey")?;
            let scheme = rsa::Pkcs1v15Sign { hash_len: Some(hash.output_len()), prefix: digest_info(hash).into() };
            rsa_request(key, |key| key.verify(scheme, digest(hash, message).as_ref(), signature).is_ok())
        }
        Scheme::RsaPss => {
            let hash = pss_hash(request).ok_or(UNSUPPORTED)?;
            of("RSA", "*rsa.PublicKey")?;
            rsa_request(key, |key| pss_verifies(key, hash, digest(hash, message).as_ref(), signature))
        }
        Scheme::Ecdsa(hash) => {
            of("ECDSA", "*ecdsa.PublicKey")?;
            let digest = digest(hash, message);
            let good = match CURVES.iter().find(|c| c.0 == curve).map(|c| c.1) {
                Some(Kind::P256) => ecdsa_verifies!(p256, 32, point, digest.as_ref(), signature),
                Some(Kind::P384) => ecdsa_verifies!(p384, 48, point, digest.as_ref(), signature),
                Some(_) => ecdsa_verifies!(p521, 66, point, digest.as_ref(), signature),
                None => ecdsa_verifies!(p224, 28, point, digest.as_ref(), signature),
            };
            if good { Ok(()) } else { Err("x509: ECDSA verification failure".to_string()) }
        }
        Scheme::Ed25519 => {
            of("Ed25519", "ed25519.PublicKey")?;
            UnparsedPublicKey::new(&ED25519, point)
                .verify(message, signature)
                .map_err(|_| "x509: Ed25519 verification failure".to_string())
        }
    }
}

fn rsa_request(key: &SubjectPublicKeyInfo<'_>, verify: impl FnOnce(&rsa::PublicKey) -> bool) -> Result<(), String> {
    if let Ok(PublicKey::RSA(parts)) = key.parsed()
        && parts.key_size() < RSA_BITS_MIN
    {
        return Err(format!(
            "crypto/rsa: {}-bit keys are insecure (see https://go.dev/pkg/crypto/rsa#hdr-Minimum_key_size)",
            parts.key_size()
        ));
    }
    match rsa_key(key).is_some_and(|key| verify(&key)) {
        true => Ok(()),
        false => Err("crypto/rsa: verification error".to_string()),
    }
}

/// What stands before a digest in a signature by PKCS #1 v1.5: a DER `DigestInfo` up to the digest (RFC 8017, 9.2).
fn digest_info(hash: &'static Algorithm) -> Vec<u8> {
    let length = hash.output_len() as u8;
    if hash == &SHA1_FOR_LEGACY_USE_ONLY {
        return vec![0x30, 0x21, 0x30, 9, 6, 5, 0x2b, 0x0e, 3, 2, 0x1a, 5, 0, 4, length];
    }
    let last = match length {
        32 => 1,
        48 => 2,
        _ => 3,
    };
    vec![0x30, 17 + length, 0x30, 13, 6, 9, 0x60, 0x86, 0x48, 1, 0x65, 3, 4, 2, last, 5, 0, 4, length]
}

/// The hash of a signature by PSS, if its parameters are of the kind that Go knows: one hash for all, salt as long as it.
fn pss_hash(request: &X509CertificationRequest<'_>) -> Option<&'static Algorithm> {
    const HASHES: [(&str, &Algorithm); 3] =
        [("2.16.840.1.101.3.4.2.1", &SHA256), ("2.16.840.1.101.3.4.2.2", &SHA384), ("2.16.840.1.101.3.4.2.3", &SHA512)];
    let Ok(SignatureAlgorithm::RSASSA_PSS(p)) = SignatureAlgorithm::try_from(&request.signature_algorithm) else {
        return None;
    };
    let id = p.hash_algorithm_oid().to_id_string();
    let hash = HASHES.iter().find(|h| h.0 == id)?.1;
    let mask = p.mask_gen_algorithm().ok()?;
    let one = mask.mgf.to_id_string() == "1.2.840.113549.1.1.8" && mask.hash.to_id_string() == id;
    (one && p.salt_length() as usize == hash.output_len() && p.trailer_field() == 1).then_some(hash)
}

fn pss_verifies(key: &rsa::PublicKey, hash: &'static Algorithm, digest: &[u8], signature: &[u8]) -> bool {
    let salt_len = Some(hash.output_len());
    let verified = match hash.output_len() {
        32 => key.verify(rsa::Pss::<rsa::sha2::Sha256> { salt_len, ..rsa::Pss::new() }, digest, signature),
        48 => key.verify(rsa::Pss::<rsa::sha2::Sha384> { salt_len, ..rsa::Pss::new() }, digest, signature),
        _ => key.verify(rsa::Pss::<rsa::sha2::Sha512> { salt_len, ..rsa::Pss::new() }, digest, signature),
    };
    verified.is_ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use base64::Engine;

    /// Made by `openssl req -new`; a name says which key and which hash.
    const REQUESTS: &str = include_str!("../kinds/checks/certs/requests.txt");

    #[test]
    fn requests_may_be_signed_in_every_way_that_go_verifies() {
        let mut seen = 0;
        for line in REQUESTS.lines().filter(|l| !l.starts_with('#') && !l.is_empty()) {
            let (name, base64) = line.split_once(' ').unwrap();
            let mut der = base64::engine::general_purpose::STANDARD.decode(base64).unwrap();
            let check = |der: &[u8]| request_signature(&X509CertificationRequest::from_der(der).unwrap().1);
            seen += 1;
            let refusal = match name {
                "rsa2048-md5" => Some("x509: cannot verify signature: insecure algorithm MD5-RSA"),
                "rsa512-sha256" => Some(
                    "crypto/rsa: 512-bit keys are insecure (see https://go.dev/pkg/crypto/rsa#hdr-Minimum_key_size)",
                ),
                "rsa2048-sha224" | "rsa2048-pss-salt20" | "dsa-sha256" => Some(UNSUPPORTED),
                "secp256k1-sha256" => Some("x509: unsupported elliptic curve"),
                _ => None,
            };
            assert_eq!(check(&der), refusal.map_or(Ok(()), |r| Err(r.to_string())), "{name}");
            if refusal.is_some() {
                continue;
            }
            *der.last_mut().unwrap() ^= 1;
            let failure = if name.starts_with("rsa") {
                "crypto/rsa: verification error"
            } else {
                "x509: ECDSA verification failure"
            };
            assert_eq!(check(&der), Err(failure.to_string()), "{name}");
        }
        assert_eq!(seen, 28);
    }
}
