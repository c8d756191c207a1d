//! Public keys that pods get certificates for, and proofs that whoever asks has their private halves.
//!
//! In: keys and signatures as DER. Out: whether a key is of a kind that the API takes, and whether a signature is its.
//! Source: upstream's rules for PodCertificateRequests; RFC 5280, 8017, 8032, SEC 1.

use ring::digest::{Algorithm, SHA1_FOR_LEGACY_USE_ONLY, SHA256, SHA384, SHA512, digest};
use ring::signature::{ECDSA_P256_SHA256_ASN1, ECDSA_P384_SHA256_ASN1, ED25519, UnparsedPublicKey};
use serde_json::Value;
use x509_parser::prelude::{FromDer, X509CertificationRequest, X509Error};
use x509_parser::public_key::PublicKey;
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
const CURVES: [(&str, Kind); 3] =
    [("1.2.840.10045.3.1.7", Kind::P256), ("1.3.132.0.34", Kind::P384), ("1.3.132.0.35", Kind::P521)];
/// Readable, but not taken.
const P224: &str = "1.3.132.0.33";
/// Of signatures, which may use another hash than the curve's own.
const ECDSA_HASHES: [(&str, &Algorithm); 4] = [
    ("1.2.840.10045.4.1", &SHA1_FOR_LEGACY_USE_ONLY),
    ("1.2.840.10045.4.3.2", &SHA256),
    ("1.2.840.10045.4.3.3", &SHA384),
    ("1.2.840.10045.4.3.4", &SHA512),
];
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
        "1.2.840.113549.1.1.1" => {
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

/// The digest is a number; the library takes none that is short by half of the curve's.
fn p521_verifies(point: &[u8], hash: &'static Algorithm, message: &[u8], signature: &[u8]) -> bool {
    use p521::ecdsa::{Signature, VerifyingKey, signature::hazmat::PrehashVerifier};
    let (Ok(key), Ok(signature)) = (VerifyingKey::from_sec1_bytes(point), Signature::from_der(signature)) else {
        return false;
    };
    let (digest, mut padded) = (digest(hash, message), [0u8; 66]);
    padded[66 - digest.as_ref().len()..].copy_from_slice(digest.as_ref());
    key.verify_prehash(&padded, &signature).is_ok()
}

fn rsa_verifies(key: &SubjectPublicKeyInfo<'_>, message: &[u8], signature: &[u8]) -> bool {
    let Ok(PublicKey::RSA(parts)) = key.parsed() else { return false };
    let number = rsa::BoxedUint::from_be_slice_vartime;
    let Ok(key) = rsa::PublicKey::new(number(parts.modulus), number(parts.exponent)) else { return false };
    let scheme = rsa::Pss::<rsa::sha2::Sha256> { salt_len: None, ..rsa::Pss::new() };
    key.verify(scheme, digest(&SHA256, message).as_ref(), signature).is_ok()
}

/// Whether a PKCS #10 request is signed by the key that it brings; if not, in Go's words.
pub fn request_signature(request: &X509CertificationRequest<'_>) -> Result<(), &'static str> {
    const UNSUPPORTED: &str = "x509: cannot verify signature: algorithm unimplemented";
    let info = &request.certification_request_info;
    if kind(&info.subject_pki) != Ok(Kind::P521) {
        return request.verify_signature().map_err(|e| match e {
            X509Error::SignatureUnsupportedAlgorithm => UNSUPPORTED,
            _ => failure(&info.subject_pki),
        });
    }
    let id = request.signature_algorithm.algorithm.to_id_string();
    let hash = ECDSA_HASHES.iter().find(|(known, _)| *known == id).ok_or(UNSUPPORTED)?.1;
    match p521_verifies(&info.subject_pki.subject_public_key.data, hash, info.raw, &request.signature_value.data) {
        true => Ok(()),
        false => Err(failure(&info.subject_pki)),
    }
}

fn failure(key: &SubjectPublicKeyInfo<'_>) -> &'static str {
    match key.algorithm.algorithm.to_id_string().as_str() {
        ED25519_KEY => "x509: Ed25519 verification failure",
        EC_KEY => "x509: ECDSA verification failure",
        _ => "crypto/rsa: verification error",
    }
}
