//! JSON Web Tokens and the public keys that verify them. Pure: no I/O, no clock.
//!
//! In: compact tokens, PEM files, JSON Web Keys. Out: [`Token`] taken apart, [`Key`]s, and whether one verifies the
//! other. An algorithm is never chosen by what a token says of itself: the key's type must allow it, so neither `none`
//! nor an HMAC "signed" with a public key gets through. Source: RFC 7515, 7517, 7518, 7519.

use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use ring::signature::{
    self, ECDSA_P256_SHA256_FIXED, ECDSA_P256_SHA256_FIXED_SIGNING, ECDSA_P384_SHA384_FIXED,
    ECDSA_P384_SHA384_FIXED_SIGNING, EcdsaKeyPair, KeyPair, RsaKeyPair, RsaPublicKeyComponents, UnparsedPublicKey,
};
use serde_json::{Value, json};
use sha2::{Digest, Sha256};
use x509_parser::pem::Pem;
use x509_parser::prelude::{FromDer, X509Certificate};
use x509_parser::public_key::PublicKey;
use x509_parser::x509::SubjectPublicKeyInfo;

/// Longer tokens aren't looked at.
pub const TOKEN_BYTES_MAX: usize = 64 * 1024;
/// RSA keys below 2048 bits are refused, as `ring` has it; above 8192 verification would be a burden.
const RSA_MODULUS_BYTES: std::ops::RangeInclusive<usize> = 256..=1024;

#[derive(Debug, thiserror::Error, PartialEq)]
pub enum Error {
    #[error("token is malformed")]
    Malformed,
    #[error("unsupported signing algorithm {0:?}")]
    Algorithm(String),
    #[error("key is unusable: {0}")]
    Key(String),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Algorithm {
    Rs256,
    Rs384,
    Rs512,
    Es256,
    Es384,
    Es512,
    Ps256,
    Ps384,
    Ps512,
}

impl Algorithm {
    pub const ALL: [Algorithm; 9] = [
        Algorithm::Rs256,
        Algorithm::Rs384,
        Algorithm::Rs512,
        Algorithm::Es256,
        Algorithm::Es384,
        Algorithm::Es512,
        Algorithm::Ps256,
        Algorithm::Ps384,
        Algorithm::Ps512,
    ];

    /// The registered name: `RS256`.
    pub fn name(self) -> &'static str {
        match self {
            Algorithm::Rs256 => "RS256",
            Algorithm::Rs384 => "RS384",
            Algorithm::Rs512 => "RS512",
            Algorithm::Es256 => "ES256",
            Algorithm::Es384 => "ES384",
            Algorithm::Es512 => "ES512",
            Algorithm::Ps256 => "PS256",
            Algorithm::Ps384 => "PS384",
            Algorithm::Ps512 => "PS512",
        }
    }

    pub fn from_name(name: &str) -> Option<Algorithm> {
        Algorithm::ALL.into_iter().find(|a| a.name() == name)
    }
}

/// A compact token, taken apart but not yet believed.
#[derive(Debug)]
pub struct Token<'a> {
    /// `alg` as written; only [`Token::algorithm`] gives it meaning.
    alg: String,
    /// An opaque hint for finding the key; never a file name, URL or query.
    pub key_id: Option<String>,
    pub payload: Value,
    signed: &'a str,
    signature: Vec<u8>,
}

impl<'a> Token<'a> {
    pub fn parse(compact: &'a str) -> Result<Token<'a>, Error> {
        if compact.len() > TOKEN_BYTES_MAX {
            return Err(Error::Malformed);
        }
        let (signed, signature) = compact.rsplit_once('.').ok_or(Error::Malformed)?;
        let (header, payload) = signed.split_once('.').ok_or(Error::Malformed)?;
        let decode = |part: &str| URL_SAFE_NO_PAD.decode(part).map_err(|_| Error::Malformed);
        let object = |part: &str| -> Result<Value, Error> {
            let v: Value = serde_json::from_slice(&decode(part)?).map_err(|_| Error::Malformed)?;
            if v.is_object() { Ok(v) } else { Err(Error::Malformed) }
        };
        let header = object(header)?;
        // `crit` names extensions that must be understood (RFC 7515, 4.1.11); none is known here.
        if header.get("crit").is_some() {
            return Err(Error::Malformed);
        }
        let alg = header["alg"].as_str().ok_or(Error::Malformed)?.to_string();
        Ok(Token {
            alg,
            key_id: header["kid"].as_str().filter(|k| !k.is_empty()).map(str::to_string),
            payload: object(payload)?,
            signed,
            signature: decode(signature)?,
        })
    }

    /// `iss`, for finding out who should judge the token.
    pub fn issuer(&self) -> &str {
        self.payload["iss"].as_str().unwrap_or_default()
    }

    /// The algorithm, when it is one that is ever accepted.
    pub fn algorithm(&self) -> Result<Algorithm, Error> {
        Algorithm::from_name(&self.alg).ok_or_else(|| Error::Algorithm(self.alg.clone()))
    }

    /// Some of `keys` signed this. A key with the token's `kid` is enough when there is one; else all are tried.
    pub fn verified_by<'k>(&self, keys: impl IntoIterator<Item = &'k Key> + Clone) -> Result<bool, Error> {
        let algorithm = self.algorithm()?;
        let named = |k: &Key| self.key_id.is_none() || k.id.is_none() || k.id.as_deref() == self.key_id.as_deref();
        let good =
            keys.into_iter().filter(|k| named(k)).any(|k| k.verify(algorithm, self.signed.as_bytes(), &self.signature));
        Ok(good)
    }
}

/// A public key.
#[derive(Clone, Debug, PartialEq)]
pub struct Key {
    pub id: Option<String>,
    /// When the key's owner said so, only this algorithm.
    pub algorithm: Option<Algorithm>,
    material: Material,
}

#[derive(Clone, Debug, PartialEq)]
enum Material {
    /// Modulus and exponent, big-endian without leading zeros.
    Rsa { n: Vec<u8>, e: Vec<u8> },
    /// An uncompressed point: 0x04, then both coordinates.
    Ec { curve: Curve, point: Vec<u8> },
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum Curve {
    P256,
    P384,
    P521,
}

impl Curve {
    const ALL: [Curve; 3] = [Curve::P256, Curve::P384, Curve::P521];

    fn name(self) -> &'static str {
        match self {
            Curve::P256 => "P-256",
            Curve::P384 => "P-384",
            Curve::P521 => "P-521",
        }
    }

    fn coordinate_bytes(self) -> usize {
        match self {
            Curve::P256 => 32,
            Curve::P384 => 48,
            Curve::P521 => 66,
        }
    }

    /// The DER of the curve's object identifier.
    fn oid(self) -> &'static [u8] {
        match self {
            Curve::P256 => &[0x06, 0x08, 0x2a, 0x86, 0x48, 0xce, 0x3d, 0x03, 0x01, 0x07],
            Curve::P384 => &[0x06, 0x05, 0x2b, 0x81, 0x04, 0x00, 0x22],
            Curve::P521 => &[0x06, 0x05, 0x2b, 0x81, 0x04, 0x00, 0x23],
        }
    }
}

impl Key {
    /// A JSON Web Key. `None`: a key that isn't for verifying signatures, or of a type that nobody may use here, as a
    /// set of keys may well hold.
    pub fn from_jwk(jwk: &Value) -> Option<Key> {
        if jwk["use"].as_str().is_some_and(|u| u != "sig") {
            return None;
        }
        let algorithm = match jwk["alg"].as_str().filter(|a| !a.is_empty()) {
            Some(name) => Some(Algorithm::from_name(name)?),
            None => None,
        };
        let bytes = |name: &str| jwk[name].as_str().and_then(|s| URL_SAFE_NO_PAD.decode(s.trim_end_matches('=')).ok());
        let material = match jwk["kty"].as_str()? {
            "RSA" => rsa(&bytes("n")?, &bytes("e")?)?,
            "EC" => {
                let curve = Curve::ALL.into_iter().find(|c| jwk["crv"] == c.name())?;
                let (x, y) = (bytes("x")?, bytes("y")?);
                let size = curve.coordinate_bytes();
                if x.len() != size || y.len() != size {
                    return None;
                }
                Material::Ec { curve, point: [&[4][..], &x, &y].concat() }
            }
            _ => return None,
        };
        Some(Key { id: jwk["kid"].as_str().map(str::to_string), algorithm, material })
    }

    /// All usable keys of a JSON Web Key Set.
    pub fn set_from(jwks: &Value) -> Vec<Key> {
        jwks["keys"].as_array().map(|keys| keys.iter().filter_map(Key::from_jwk).collect()).unwrap_or_default()
    }

    /// All keys of a PEM file: public keys, certificates, and private keys, whose public half is taken.
    pub fn all_from_pem(pem: &str) -> Result<Vec<Key>, Error> {
        let mut keys = Vec::new();
        for block in Pem::iter_from_buffer(pem.as_bytes()) {
            let block = block.map_err(|e| Error::Key(e.to_string()))?;
            let unusable = |e: &dyn std::fmt::Display| Error::Key(format!("PEM block {:?}: {e}", block.label));
            let material = match block.label.as_str() {
                "PUBLIC KEY" => {
                    let (_, info) = SubjectPublicKeyInfo::from_der(&block.contents).map_err(|e| unusable(&e))?;
                    material(&info)
                }
                "CERTIFICATE" => {
                    let (_, cert) = X509Certificate::from_der(&block.contents).map_err(|e| unusable(&e))?;
                    material(cert.public_key())
                }
                "RSA PUBLIC KEY" => rsa_from_der(&block.contents),
                "PRIVATE KEY" | "RSA PRIVATE KEY" | "EC PRIVATE KEY" => {
                    Some(SigningKey::from_block(&block.label, &block.contents)?.public().material)
                }
                // `openssl ecparam -genkey` writes these in front of the key.
                "EC PARAMETERS" => continue,
                _ => None,
            };
            let material = material.ok_or_else(|| {
                unusable(&"only RSA keys of at least 2048 bits and P-256, P-384 and P-521 keys are supported")
            })?;
            keys.push(Key { id: None, algorithm: None, material }.identified());
        }
        if keys.is_empty() {
            return Err(Error::Key("no PEM block with a key in it".to_string()));
        }
        Ok(keys)
    }

    /// A public key in DER (`SubjectPublicKeyInfo`), with the id that its owner gives it.
    pub fn from_spki(id: &str, der: &[u8]) -> Result<Key, Error> {
        let refused = |why: &dyn std::fmt::Display| Error::Key(why.to_string());
        let (rest, info) = SubjectPublicKeyInfo::from_der(der).map_err(|e| refused(&e))?;
        if !rest.is_empty() {
            return Err(refused(&"trailing data after the public key"));
        }
        let material = material(&info).ok_or_else(|| {
            refused(&"only RSA keys of at least 2048 bits and P-256, P-384 and P-521 keys are supported")
        })?;
        Ok(Key { id: Some(id.to_string()), algorithm: None, material })
    }

    /// With the id that upstream gives to the keys of service accounts: the hash of the public key's DER.
    fn identified(mut self) -> Key {
        self.id = Some(URL_SAFE_NO_PAD.encode(Sha256::digest(self.der())));
        self
    }

    /// The algorithms that upstream lists for a service-account key of this type.
    pub fn default_algorithm(&self) -> Algorithm {
        match &self.material {
            Material::Rsa { .. } => Algorithm::Rs256,
            Material::Ec { curve: Curve::P256, .. } => Algorithm::Es256,
            Material::Ec { curve: Curve::P384, .. } => Algorithm::Es384,
            Material::Ec { curve: Curve::P521, .. } => Algorithm::Es512,
        }
    }

    pub fn to_jwk(&self) -> Value {
        let b64 = |bytes: &[u8]| URL_SAFE_NO_PAD.encode(bytes);
        let mut jwk = json!({"use": "sig", "alg": self.default_algorithm().name()});
        if let Some(id) = &self.id {
            jwk["kid"] = id.as_str().into();
        }
        match &self.material {
            Material::Rsa { n, e } => {
                jwk["kty"] = "RSA".into();
                jwk["n"] = b64(n).into();
                jwk["e"] = b64(e).into();
            }
            Material::Ec { curve, point } => {
                let (x, y) = point.get(1..).unwrap_or_default().split_at(curve.coordinate_bytes());
                jwk["kty"] = "EC".into();
                jwk["crv"] = curve.name().into();
                jwk["x"] = b64(x).into();
                jwk["y"] = b64(y).into();
            }
        }
        jwk
    }

    /// `SubjectPublicKeyInfo`
    fn der(&self) -> Vec<u8> {
        const RSA_OID: &[u8] = &[0x06, 0x09, 0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x01, 0x01, 0x05, 0x00];
        const EC_OID: &[u8] = &[0x06, 0x07, 0x2a, 0x86, 0x48, 0xce, 0x3d, 0x02, 0x01];
        let (algorithm, key) = match &self.material {
            Material::Rsa { n, e } => (RSA_OID.to_vec(), der(0x30, &[der_unsigned(n), der_unsigned(e)].concat())),
            Material::Ec { curve, point } => ([EC_OID, curve.oid()].concat(), point.clone()),
        };
        let bits = der(0x03, &[&[0][..], &key].concat());
        der(0x30, &[der(0x30, &algorithm), bits].concat())
    }

    fn verify(&self, algorithm: Algorithm, message: &[u8], signature: &[u8]) -> bool {
        if self.algorithm.is_some_and(|only| only != algorithm) {
            return false;
        }
        match &self.material {
            Material::Rsa { n, e } => {
                let parameters: &signature::RsaParameters = match algorithm {
                    Algorithm::Rs256 => &signature::RSA_PKCS1_2048_8192_SHA256,
                    Algorithm::Rs384 => &signature::RSA_PKCS1_2048_8192_SHA384,
                    Algorithm::Rs512 => &signature::RSA_PKCS1_2048_8192_SHA512,
                    Algorithm::Ps256 => &signature::RSA_PSS_2048_8192_SHA256,
                    Algorithm::Ps384 => &signature::RSA_PSS_2048_8192_SHA384,
                    Algorithm::Ps512 => &signature::RSA_PSS_2048_8192_SHA512,
                    _ => return false,
                };
                RsaPublicKeyComponents { n, e }.verify(parameters, message, signature).is_ok()
            }
            Material::Ec { curve, point } => match (curve, algorithm) {
                (Curve::P256, Algorithm::Es256) => {
                    UnparsedPublicKey::new(&ECDSA_P256_SHA256_FIXED, point).verify(message, signature).is_ok()
                }
                (Curve::P384, Algorithm::Es384) => {
                    UnparsedPublicKey::new(&ECDSA_P384_SHA384_FIXED, point).verify(message, signature).is_ok()
                }
                (Curve::P521, Algorithm::Es512) => {
                    use p521::ecdsa::{Signature, VerifyingKey, signature::Verifier};
                    let key = VerifyingKey::from_sec1_bytes(point);
                    let signature = Signature::from_slice(signature);
                    matches!((key, signature), (Ok(k), Ok(s)) if k.verify(message, &s).is_ok())
                }
                _ => false,
            },
        }
    }
}

fn rsa(n: &[u8], e: &[u8]) -> Option<Material> {
    let trimmed = |b: &[u8]| b.iter().copied().skip_while(|b| *b == 0).collect::<Vec<u8>>();
    let (n, e) = (trimmed(n), trimmed(e));
    (RSA_MODULUS_BYTES.contains(&n.len()) && !e.is_empty() && e.len() <= 8).then_some(Material::Rsa { n, e })
}

/// PKCS#1 `RSAPublicKey`
fn rsa_from_der(bytes: &[u8]) -> Option<Material> {
    use x509_parser::der_parser::ber::BerObjectContent;
    let (_, parsed) = x509_parser::der_parser::der::parse_der_sequence(bytes).ok()?;
    let integer = |i: usize| match &parsed.as_sequence().ok()?.get(i)?.content {
        BerObjectContent::Integer(bytes) => Some(bytes.to_vec()),
        _ => None,
    };
    rsa(&integer(0)?, &integer(1)?)
}

fn material(info: &SubjectPublicKeyInfo<'_>) -> Option<Material> {
    match info.parsed().ok()? {
        PublicKey::RSA(key) => rsa(key.modulus, key.exponent),
        PublicKey::EC(point) => {
            let parameters = info.algorithm.parameters.as_ref()?;
            let oid = parameters.as_oid().ok()?.to_id_string();
            let curve = match oid.as_str() {
                "1.2.840.10045.3.1.7" => Curve::P256,
                "1.3.132.0.34" => Curve::P384,
                "1.3.132.0.35" => Curve::P521,
                _ => return None,
            };
            let point = point.data().to_vec();
            (point.len() == 1 + 2 * curve.coordinate_bytes() && point[0] == 4).then_some(Material::Ec { curve, point })
        }
        _ => None,
    }
}

/// Tag, length, content.
pub(crate) fn der(tag: u8, content: &[u8]) -> Vec<u8> {
    let mut out = vec![tag];
    let length = content.len();
    if length < 0x80 {
        out.push(length as u8);
    } else {
        let bytes: Vec<u8> = length.to_be_bytes().into_iter().skip_while(|b| *b == 0).collect();
        out.push(0x80 | bytes.len() as u8);
        out.extend(bytes);
    }
    out.extend_from_slice(content);
    out
}

/// INTEGER of a number that isn't negative.
fn der_unsigned(big_endian: &[u8]) -> Vec<u8> {
    let sign = big_endian.first().is_none_or(|b| *b >= 0x80);
    der(0x02, &if sign { [&[0][..], big_endian].concat() } else { big_endian.to_vec() })
}

/// A private key that signs tokens: RSA (RS256), P-256 (ES256) or P-384 (ES384).
pub struct SigningKey {
    pair: Pair,
    public: Key,
    random: ring::rand::SystemRandom,
}

enum Pair {
    Rsa(Box<RsaKeyPair>),
    Ec(EcdsaKeyPair),
}

impl SigningKey {
    /// The first private key of a PEM file.
    pub fn from_pem(pem: &str) -> Result<SigningKey, Error> {
        for block in Pem::iter_from_buffer(pem.as_bytes()) {
            let block = block.map_err(|e| Error::Key(e.to_string()))?;
            if block.label.ends_with("PRIVATE KEY") {
                return SigningKey::from_block(&block.label, &block.contents);
            }
        }
        Err(Error::Key("no PEM block with a private key in it".to_string()))
    }

    fn from_block(label: &str, bytes: &[u8]) -> Result<SigningKey, Error> {
        let refused = |e: &dyn std::fmt::Display| Error::Key(format!("PEM block {label:?}: {e}"));
        let random = ring::rand::SystemRandom::new();
        let rsa_pair = |pair: RsaKeyPair| {
            let material = rsa_from_der(pair.public().as_ref())?;
            Some((Pair::Rsa(Box::new(pair)), material))
        };
        // SEC 1's format names the curve only sometimes, so both are tried, each wrapped as PKCS#8.
        let wrapped = |curve: Curve| {
            let ec = [0x06, 0x07, 0x2a, 0x86, 0x48, 0xce, 0x3d, 0x02, 0x01];
            let algorithm = der(0x30, &[&ec[..], curve.oid()].concat());
            der(0x30, &[der_unsigned(&[0]), algorithm, der(0x04, bytes)].concat())
        };
        let ec_pair = |curve: Curve, pkcs8: &[u8]| {
            let algorithm = match curve {
                Curve::P256 => &ECDSA_P256_SHA256_FIXED_SIGNING,
                _ => &ECDSA_P384_SHA384_FIXED_SIGNING,
            };
            let pair = EcdsaKeyPair::from_pkcs8(algorithm, pkcs8, &random).ok()?;
            let point = pair.public_key().as_ref().to_vec();
            Some((Pair::Ec(pair), Material::Ec { curve, point }))
        };
        let found = match label {
            "RSA PRIVATE KEY" => rsa_pair(RsaKeyPair::from_der(bytes).map_err(|e| refused(&e))?),
            "EC PRIVATE KEY" => {
                [Curve::P256, Curve::P384].into_iter().find_map(|curve| ec_pair(curve, &wrapped(curve)))
            }
            "PRIVATE KEY" => [Curve::P256, Curve::P384]
                .into_iter()
                .find_map(|curve| ec_pair(curve, bytes))
                .or_else(|| RsaKeyPair::from_pkcs8(bytes).ok().and_then(rsa_pair)),
            _ => None,
        };
        let (pair, material) =
            found.ok_or_else(|| refused(&"only RSA keys of at least 2048 bits, P-256 and P-384 keys can sign"))?;
        let public = Key { id: None, algorithm: None, material }.identified();
        Ok(SigningKey { pair, public, random })
    }

    pub fn public(&self) -> Key {
        self.public.clone()
    }

    /// A compact token with these claims.
    pub fn sign(&self, claims: &[u8]) -> Result<String, Error> {
        let algorithm = self.public.default_algorithm();
        let header = json!({"alg": algorithm.name(), "kid": self.public.id});
        let mut token = format!("{}.{}", URL_SAFE_NO_PAD.encode(header.to_string()), URL_SAFE_NO_PAD.encode(claims));
        let failed = |_| Error::Key("signing failed".to_string());
        let signature = match &self.pair {
            Pair::Rsa(pair) => {
                let mut signature = vec![0; pair.public().modulus_len()];
                pair.sign(&signature::RSA_PKCS1_SHA256, &self.random, token.as_bytes(), &mut signature)
                    .map_err(failed)?;
                signature
            }
            Pair::Ec(pair) => pair.sign(&self.random, token.as_bytes()).map_err(failed)?.as_ref().to_vec(),
        };
        token.push('.');
        token.push_str(&URL_SAFE_NO_PAD.encode(signature));
        Ok(token)
    }
}

#[cfg(test)]
mod tests;
