//! Signatures that the API server verifies for TLS: those that `ring` does, and ECDSA on P-521, since clients and webhooks
//! may have such keys and pods may ask for them.

use p521::ecdsa::{DerSignature, VerifyingKey, signature::Verifier};
use rustls::SignatureScheme;
use rustls::crypto::{CryptoProvider, WebPkiSupportedAlgorithms};
use rustls::pki_types::{AlgorithmIdentifier, InvalidSignature, SignatureVerificationAlgorithm, alg_id};
use std::sync::LazyLock;

#[derive(Debug)]
struct P521Sha512;

static P521_SHA512: &[&dyn SignatureVerificationAlgorithm] = &[&P521Sha512];

impl SignatureVerificationAlgorithm for P521Sha512 {
    fn verify_signature(&self, public_key: &[u8], message: &[u8], signature: &[u8]) -> Result<(), InvalidSignature> {
        let key = VerifyingKey::from_sec1_bytes(public_key).map_err(|_| InvalidSignature)?;
        let signature = DerSignature::try_from(signature).map_err(|_| InvalidSignature)?;
        key.verify(message, &signature).map_err(|_| InvalidSignature)
    }

    fn public_key_alg_id(&self) -> AlgorithmIdentifier {
        alg_id::ECDSA_P521
    }

    fn signature_alg_id(&self) -> AlgorithmIdentifier {
        alg_id::ECDSA_SHA512
    }
}

type Schemes = Vec<(SignatureScheme, &'static [&'static dyn SignatureVerificationAlgorithm])>;

/// ring's, which verifies P-521 as well.
pub fn provider() -> CryptoProvider {
    static ALL: LazyLock<(Vec<&dyn SignatureVerificationAlgorithm>, Schemes)> = LazyLock::new(|| {
        let ring = rustls::crypto::ring::default_provider().signature_verification_algorithms;
        let own = [(SignatureScheme::ECDSA_NISTP521_SHA512, P521_SHA512)];
        ([ring.all, P521_SHA512].concat(), [ring.mapping, &own].concat())
    });
    CryptoProvider {
        signature_verification_algorithms: WebPkiSupportedAlgorithms { all: &ALL.0, mapping: &ALL.1 },
        ..rustls::crypto::ring::default_provider()
    }
}
