//! Providers whose keys are in the configuration file: aescbc, aesgcm, secretbox. One of each per key.

use super::Provider;
use aes::cipher::{BlockDecryptMut, BlockEncryptMut, KeyIvInit, block_padding::Pkcs7};
use crypto_secretbox::aead::AeadInPlace;
use crypto_secretbox::{KeyInit, XSalsa20Poly1305};
use ring::aead;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    AesCbc,
    AesGcm,
    Secretbox,
}

impl Kind {
    pub fn name(self) -> &'static str {
        match self {
            Kind::AesCbc => "aescbc",
            Kind::AesGcm => "aesgcm",
            Kind::Secretbox => "secretbox",
        }
    }

    /// Bytes that a key may have.
    pub fn sizes(self) -> &'static [usize] {
        match self {
            // Differs from upstream: ring has no AES-192 in this mode.
            Kind::AesGcm => &[16, 32],
            Kind::AesCbc => &[16, 24, 32],
            Kind::Secretbox => &[32],
        }
    }
}

pub struct Keyed {
    prefix: String,
    kind: Kind,
    secret: Vec<u8>,
}

const CBC_IV: usize = 16;
const SECRETBOX_NONCE: usize = 24;
const SECRETBOX_TAG: usize = 16;

impl Keyed {
    /// `secret` has one of [`Kind::sizes`].
    pub fn new(kind: Kind, name: &str, secret: &[u8]) -> Keyed {
        Keyed { prefix: format!("k8s:enc:{}:v1:{name}:", kind.name()), kind, secret: secret.to_vec() }
    }

    fn cbc_encrypt(&self, iv: &[u8], value: &[u8]) -> Result<Vec<u8>, String> {
        macro_rules! with {
            ($aes:ty) => {
                cbc::Encryptor::<$aes>::new_from_slices(&self.secret, iv)
                    .map(|c| c.encrypt_padded_vec_mut::<Pkcs7>(value))
                    .map_err(|e| e.to_string())
            };
        }
        match self.secret.len() {
            16 => with!(aes::Aes128),
            24 => with!(aes::Aes192),
            _ => with!(aes::Aes256),
        }
    }

    fn cbc_decrypt(&self, iv: &[u8], sealed: &[u8]) -> Result<Vec<u8>, String> {
        macro_rules! with {
            ($aes:ty) => {
                cbc::Decryptor::<$aes>::new_from_slices(&self.secret, iv)
                    .map_err(|e| e.to_string())?
                    .decrypt_padded_vec_mut::<Pkcs7>(sealed)
                    .map_err(|_| "invalid padding on input".to_string())
            };
        }
        match self.secret.len() {
            16 => with!(aes::Aes128),
            24 => with!(aes::Aes192),
            _ => with!(aes::Aes256),
        }
    }
}

impl Provider for Keyed {
    fn prefix(&self) -> &str {
        &self.prefix
    }

    fn seal(&self, key: &str, value: &[u8]) -> Result<Vec<u8>, String> {
        match self.kind {
            Kind::AesCbc => {
                let iv: [u8; CBC_IV] = rand::random();
                let sealed = self.cbc_encrypt(&iv, value)?;
                Ok([&iv[..], &sealed].concat())
            }
            Kind::AesGcm => gcm_seal(&self.secret, key.as_bytes(), value),
            Kind::Secretbox => {
                let nonce: [u8; SECRETBOX_NONCE] = rand::random();
                let cipher = XSalsa20Poly1305::new_from_slice(&self.secret).map_err(|e| e.to_string())?;
                let mut sealed = value.to_vec();
                let tag =
                    cipher.encrypt_in_place_detached((&nonce).into(), b"", &mut sealed).map_err(|e| e.to_string())?;
                Ok([&nonce[..], &tag[..], &sealed].concat())
            }
        }
    }

    fn open(&self, key: &str, rest: &[u8]) -> Result<(Vec<u8>, bool), String> {
        let short = || "the stored data was shorter than the required size".to_string();
        let value = match self.kind {
            Kind::AesCbc => {
                let (iv, sealed) = rest.split_at_checked(CBC_IV).ok_or_else(short)?;
                self.cbc_decrypt(iv, sealed)?
            }
            Kind::AesGcm => gcm_open(&self.secret, key.as_bytes(), rest)?,
            Kind::Secretbox => {
                let (nonce, rest) = rest.split_at_checked(SECRETBOX_NONCE).ok_or_else(short)?;
                let (tag, sealed) = rest.split_at_checked(SECRETBOX_TAG).ok_or_else(short)?;
                let cipher = XSalsa20Poly1305::new_from_slice(&self.secret).map_err(|e| e.to_string())?;
                let mut value = sealed.to_vec();
                cipher
                    .decrypt_in_place_detached(nonce.into(), b"", &mut value, tag.into())
                    .map_err(|_| "output array was not large enough for encryption".to_string())?;
                value
            }
        };
        Ok((value, false))
    }
}

fn gcm_key(secret: &[u8]) -> Result<aead::LessSafeKey, String> {
    let algorithm = if secret.len() == 16 { &aead::AES_128_GCM } else { &aead::AES_256_GCM };
    aead::UnboundKey::new(algorithm, secret).map(aead::LessSafeKey::new).map_err(|_| "bad key".into())
}

/// A random nonce, the ciphertext, the tag.
pub fn gcm_seal(secret: &[u8], bound_to: &[u8], value: &[u8]) -> Result<Vec<u8>, String> {
    let nonce: [u8; aead::NONCE_LEN] = rand::random();
    let mut sealed = value.to_vec();
    gcm_key(secret)?
        .seal_in_place_append_tag(aead::Nonce::assume_unique_for_key(nonce), aead::Aad::from(bound_to), &mut sealed)
        .map_err(|_| "encryption failed".to_string())?;
    Ok([&nonce[..], &sealed].concat())
}

pub fn gcm_open(secret: &[u8], bound_to: &[u8], sealed: &[u8]) -> Result<Vec<u8>, String> {
    let (nonce, sealed) = sealed
        .split_at_checked(aead::NONCE_LEN)
        .ok_or_else(|| "the stored data was shorter than the required size".to_string())?;
    let nonce = aead::Nonce::try_assume_unique_for_key(nonce).map_err(|_| "bad nonce".to_string())?;
    let mut value = sealed.to_vec();
    let len = gcm_key(secret)?
        .open_in_place(nonce, aead::Aad::from(bound_to), &mut value)
        .map_err(|_| "cipher: message authentication failed".to_string())?
        .len();
    value.truncate(len);
    Ok(value)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// NIST SP 800-38A, F.2.1: the first block of CBC-AES128.
    #[test]
    fn cbc_is_the_one_that_everybody_has() {
        let p = Keyed::new(Kind::AesCbc, "k", &hex::decode("2b7e151628aed2a6abf7158809cf4f3c").unwrap());
        let iv = hex::decode("000102030405060708090a0b0c0d0e0f").unwrap();
        let plain = hex::decode("6bc1bee22e409f96e93d7e117393172a").unwrap();
        let sealed = p.cbc_encrypt(&iv, &plain).unwrap();
        assert_eq!(hex::encode(&sealed[..16]), "7649abac8119b246cee98e9b12e9197d");
        assert_eq!(sealed.len(), 32, "a whole block of padding");
        assert_eq!(p.cbc_decrypt(&iv, &sealed).unwrap(), plain);
    }

    /// The vector of NaCl's own tests (secretbox.c): what Go's secretbox makes, too.
    #[test]
    fn secretbox_is_nacls() {
        let key = hex::decode("1b27556473e985d462cd51197a9a46c76009549eac6474f206c4ee0844f68389").unwrap();
        let nonce = hex::decode("69696ee955b62b73cd62bda875fc73d68219e0036b7a0b37").unwrap();
        let plain = hex::decode("be075fc53c81f2d5cf141316ebeb0c7b5228c52a4c62cbd44b66849b64244ffce5ecbaaf33bd751a1ac728d45e6c61296cdc3c01233561f41db66cce314adb310e3be8250c46f06dceea3a7fa1348057e2f6556ad6b1318a024a838f21af1fde048977eb48f59ffd4924ca1c60902e52f0a089bc76897040e082f937763848645e0705").unwrap();
        let p = Keyed::new(Kind::Secretbox, "k", &key);
        let tag_and_start = "f3ffc7703f9400e52a7dfb4b3d3305d98e993b9f48681273c29650ba32fc76ce48332ea7164d96a4476fb8c531a1186ac0dfc17c98dce87b4da7f011ec48c97271d2c20f9b928fe2270d6fb863d51738b48eeee314a7cc8ab932164548e526ae90224368517acfeabd6bb3732bc0e9da99832b61ca01b6de56244a9e88d5f9b37973f622a43d14a6599b1f654cb45a74e355a5";
        let stored = [nonce.as_slice(), &hex::decode(tag_and_start).unwrap()].concat();
        assert_eq!(p.open("", &stored).unwrap().0, plain);
    }
}
