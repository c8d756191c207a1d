//! Private keys of pods, and the empty PKCS #10 request by which their node proves to have them.
//!
//! In: a key type of the API. Out: a PKCS #8 key (PEM) and a request (DER). Pure but for the random numbers, and slow
//! for RSA. Source: RFC 2986, 5208, 5480, 5915, 8410.

use base64::Engine;
use ring::rand::{SecureRandom, SystemRandom};
use ring::signature::{
    ECDSA_P256_SHA256_ASN1_SIGNING, ECDSA_P384_SHA384_ASN1_SIGNING, EcdsaKeyPair, EcdsaSigningAlgorithm,
    Ed25519KeyPair, KeyPair, RSA_PKCS1_SHA256, RsaKeyPair,
};

#[derive(Debug)]
pub struct Generated {
    /// `PRIVATE KEY`
    pub key_pem: String,
    pub request_der: Vec<u8>,
}

const RSA: &[u64] = &[1, 2, 840, 113549, 1, 1, 1];
const RSA_SHA256: &[u64] = &[1, 2, 840, 113549, 1, 1, 11];
const EC: &[u64] = &[1, 2, 840, 10045, 2, 1];
const P256: &[u64] = &[1, 2, 840, 10045, 3, 1, 7];
const P384: &[u64] = &[1, 3, 132, 0, 34];
const P521: &[u64] = &[1, 3, 132, 0, 35];
const ECDSA_SHA256: &[u64] = &[1, 2, 840, 10045, 4, 3, 2];
const ECDSA_SHA384: &[u64] = &[1, 2, 840, 10045, 4, 3, 3];
const ECDSA_SHA512: &[u64] = &[1, 2, 840, 10045, 4, 3, 4];
const ED25519: &[u64] = &[1, 3, 101, 112];
const P521_BYTES: usize = 66;

pub fn generate(key_type: &str) -> Result<Generated, String> {
    match key_type {
        "ED25519" => ed25519(),
        "ECDSAP256" => ecdsa(&ECDSA_P256_SHA256_ASN1_SIGNING, P256, ECDSA_SHA256),
        "ECDSAP384" => ecdsa(&ECDSA_P384_SHA384_ASN1_SIGNING, P384, ECDSA_SHA384),
        "ECDSAP521" => p521(),
        "RSA3072" => rsa(3072),
        "RSA4096" => rsa(4096),
        other => Err(format!("unknown key type {other:?}")),
    }
}

fn ed25519() -> Result<Generated, String> {
    let mut seed = [0u8; 32];
    SystemRandom::new().fill(&mut seed).map_err(|e| e.to_string())?;
    let pair = Ed25519KeyPair::from_seed_unchecked(&seed).map_err(|e| e.to_string())?;
    let algorithm = sequence(&[oid(ED25519)]);
    // The library's own form has the public key as well, which OpenSSL takes for broken.
    let key = sequence(&[der(0x02, &[0]), algorithm.clone(), der(0x04, &der(0x04, &seed))]);
    generated(key, &algorithm, pair.public_key().as_ref(), &algorithm, |m| Ok(pair.sign(m).as_ref().to_vec()))
}

fn ecdsa(kind: &'static EcdsaSigningAlgorithm, curve: &[u64], signature: &[u64]) -> Result<Generated, String> {
    let random = SystemRandom::new();
    let key = EcdsaKeyPair::generate_pkcs8(kind, &random).map_err(|e| e.to_string())?;
    let pair = EcdsaKeyPair::from_pkcs8(kind, key.as_ref(), &random).map_err(|e| e.to_string())?;
    let algorithm = sequence(&[oid(EC), oid(curve)]);
    generated(key.as_ref().to_vec(), &algorithm, pair.public_key().as_ref(), &sequence(&[oid(signature)]), |m| {
        pair.sign(&random, m).map(|s| s.as_ref().to_vec()).map_err(|e| e.to_string())
    })
}

fn p521() -> Result<Generated, String> {
    use p521::ecdsa::signature::Signer;
    let random = SystemRandom::new();
    let pair = loop {
        let mut scalar = [0u8; P521_BYTES];
        random.fill(&mut scalar).map_err(|e| e.to_string())?;
        scalar[0] &= 1;
        // Nearly every number of 521 bits is one of the curve's.
        if let Ok(pair) = p521::ecdsa::SigningKey::from_slice(&scalar) {
            break pair;
        }
    };
    let point = pair.verifying_key().to_sec1_point(false).as_bytes().to_vec();
    let algorithm = sequence(&[oid(EC), oid(P521)]);
    let inner = sequence(&[der(0x02, &[1]), der(0x04, &pair.to_bytes()), der(0xa1, &bit_string(&point))]);
    let key = sequence(&[der(0x02, &[0]), algorithm.clone(), der(0x04, &inner)]);
    generated(key, &algorithm, &point, &sequence(&[oid(ECDSA_SHA512)]), |m| {
        let signature: p521::ecdsa::Signature = pair.sign(m);
        Ok(signature.to_der().as_bytes().to_vec())
    })
}

fn rsa(bits: usize) -> Result<Generated, String> {
    use rsa::pkcs8::EncodePrivateKey;
    let made = rsa::PrivateKey::new(&mut Random(SystemRandom::new()), bits).map_err(|e| e.to_string())?;
    let key = made.to_pkcs8_der().map_err(|e| e.to_string())?.as_bytes().to_vec();
    let pair = RsaKeyPair::from_pkcs8(&key).map_err(|e| e.to_string())?;
    let null = der(0x05, &[]);
    let algorithm = sequence(&[oid(RSA), null.clone()]);
    generated(key, &algorithm, pair.public().as_ref(), &sequence(&[oid(RSA_SHA256), null]), |m| {
        let mut signature = vec![0; pair.public().modulus_len()];
        pair.sign(&RSA_PKCS1_SHA256, &SystemRandom::new(), m, &mut signature).map_err(|e| e.to_string())?;
        Ok(signature)
    })
}

/// The system's random numbers, for the `rsa` crate.
struct Random(SystemRandom);

impl rsa::rand_core::TryRng for Random {
    type Error = NoRandomness;

    fn try_next_u32(&mut self) -> Result<u32, NoRandomness> {
        let mut bytes = [0; 4];
        self.try_fill_bytes(&mut bytes)?;
        Ok(u32::from_ne_bytes(bytes))
    }

    fn try_next_u64(&mut self) -> Result<u64, NoRandomness> {
        let mut bytes = [0; 8];
        self.try_fill_bytes(&mut bytes)?;
        Ok(u64::from_ne_bytes(bytes))
    }

    fn try_fill_bytes(&mut self, out: &mut [u8]) -> Result<(), NoRandomness> {
        self.0.fill(out).map_err(|_| NoRandomness)
    }
}

impl rsa::rand_core::TryCryptoRng for Random {}

#[derive(Debug, thiserror::Error)]
#[error("the system gave no random numbers")]
struct NoRandomness;

/// `algorithm` is the key's, `signed_by` that of its signatures.
fn generated(
    key: Vec<u8>,
    algorithm: &[u8],
    public: &[u8],
    signed_by: &[u8],
    sign: impl FnOnce(&[u8]) -> Result<Vec<u8>, String>,
) -> Result<Generated, String> {
    let public = sequence(&[algorithm.to_vec(), bit_string(public)]);
    // Version, nobody's name, the key, and no attributes.
    let info = sequence(&[der(0x02, &[0]), sequence(&[]), public, der(0xa0, &[])]);
    let signature = bit_string(&sign(&info)?);
    let request_der = sequence(&[info, signed_by.to_vec(), signature]);
    Ok(Generated { key_pem: pem("PRIVATE KEY", &key), request_der })
}

pub fn pem(label: &str, der: &[u8]) -> String {
    let data = base64::engine::general_purpose::STANDARD.encode(der);
    let mut out = format!("-----BEGIN {label}-----\n");
    for line in data.as_bytes().chunks(64) {
        out.push_str(&String::from_utf8_lossy(line));
        out.push('\n');
    }
    out + &format!("-----END {label}-----\n")
}

fn der(tag: u8, content: &[u8]) -> Vec<u8> {
    let mut out = vec![tag];
    match content.len() {
        short @ ..0x80 => out.push(short as u8),
        long => {
            let bytes: Vec<u8> = long.to_be_bytes().into_iter().skip_while(|b| *b == 0).collect();
            out.push(0x80 | bytes.len() as u8);
            out.extend(bytes);
        }
    }
    out.extend(content);
    out
}

fn sequence(parts: &[Vec<u8>]) -> Vec<u8> {
    der(0x30, &parts.concat())
}

fn bit_string(bits: &[u8]) -> Vec<u8> {
    der(0x03, &[&[0], bits].concat())
}

fn oid(arcs: &[u64]) -> Vec<u8> {
    let first = arcs.iter().take(2).fold(0, |sum, arc| sum * 40 + arc);
    let mut out = Vec::new();
    for arc in std::iter::once(first).chain(arcs.iter().skip(2).copied()) {
        let groups = (1..).take_while(|n| arc >> (7 * n) != 0).count();
        for n in (1..=groups).rev() {
            out.push((arc >> (7 * n)) as u8 | 0x80);
        }
        out.push(arc as u8 & 0x7f);
    }
    der(0x06, &out)
}

#[cfg(test)]
mod tests {
    use super::*;
    use x509_parser::prelude::{FromDer, X509CertificationRequest};

    #[test]
    fn every_kind_of_key_signs_its_request() {
        // RSA is slow to make; one size shows it.
        for (kind, verifies) in
            [("ED25519", true), ("ECDSAP256", true), ("ECDSAP384", true), ("ECDSAP521", false), ("RSA3072", true)]
        {
            let made = generate(kind).unwrap();
            let (rest, request) = X509CertificationRequest::from_der(&made.request_der).unwrap();
            assert!(rest.is_empty() && request.certification_request_info.subject.iter().next().is_none(), "{kind}");
            assert_eq!(request.certification_request_info.attributes().len(), 0, "{kind}");
            if verifies {
                request.verify_signature().unwrap_or_else(|e| panic!("{kind}: {e}"));
            }
            let (_, key) = x509_parser::pem::parse_x509_pem(made.key_pem.as_bytes()).unwrap();
            assert_eq!(key.label, "PRIVATE KEY");
            // The key of the request is that of the file, as others read it.
            if kind != "ECDSAP521" {
                let pair = rcgen::KeyPair::from_pem(&made.key_pem).unwrap_or_else(|e| panic!("{kind}: {e}"));
                use rcgen::PublicKeyData;
                let public = request.certification_request_info.subject_pki.raw;
                assert_eq!(pair.subject_public_key_info(), public, "{kind}");
            }
        }
        assert!(generate("RSA1024").is_err());
    }

    #[test]
    fn p521_requests_are_signed_by_their_key() {
        use p521::ecdsa::{Signature, VerifyingKey, signature::Verifier};
        let made = generate("ECDSAP521").unwrap();
        let (_, request) = X509CertificationRequest::from_der(&made.request_der).unwrap();
        let info = &request.certification_request_info;
        let key = VerifyingKey::from_sec1_bytes(&info.subject_pki.subject_public_key.data).unwrap();
        key.verify(info.raw, &Signature::from_der(&request.signature_value.data).unwrap()).unwrap();
    }

    #[test]
    fn object_ids_are_encoded_as_they_must() {
        assert_eq!(oid(&[1, 2, 840, 113549, 1, 1, 1]), [6, 9, 0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 1, 1, 1]);
        assert_eq!(oid(ED25519), [6, 3, 0x2b, 0x65, 0x70]);
        assert_eq!(der(4, &[0; 200])[..3], [4, 0x81, 200]);
        assert_eq!(der(4, &[0; 300])[..4], [4, 0x82, 1, 44]);
    }
}
