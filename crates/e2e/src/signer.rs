//! A program that signs service-account tokens, as one in front of an HSM would: `v1.ExternalJWTSigner` on a Unix socket.

use crate::grpc::{Grpc, Listen};
use anyhow::{Context, Result, anyhow};
use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD as B64};
use bytes::Bytes;
use prost::Message;
use rcgen::PublicKeyData;
use ring::signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

#[derive(Clone, PartialEq, Message)]
struct SignRequest {
    #[prost(string, tag = "1")]
    claims: String,
}

#[derive(Clone, PartialEq, Message)]
struct SignResponse {
    #[prost(string, tag = "1")]
    header: String,
    #[prost(string, tag = "2")]
    signature: String,
}

#[derive(Clone, PartialEq, Message)]
struct FetchKeysResponse {
    #[prost(message, repeated, tag = "1")]
    keys: Vec<PublicKey>,
    #[prost(message, optional, tag = "2")]
    data_timestamp: Option<Timestamp>,
    #[prost(int64, tag = "3")]
    refresh_hint_seconds: i64,
}

#[derive(Clone, PartialEq, Message)]
struct PublicKey {
    #[prost(string, tag = "1")]
    key_id: String,
    #[prost(bytes = "vec", tag = "2")]
    key: Vec<u8>,
    #[prost(bool, tag = "3")]
    exclude_from_oidc_discovery: bool,
}

#[derive(Clone, PartialEq, Message)]
struct Timestamp {
    #[prost(int64, tag = "1")]
    seconds: i64,
    #[prost(int32, tag = "2")]
    nanos: i32,
}

#[derive(Clone, PartialEq, Message)]
struct MetadataResponse {
    #[prost(int64, tag = "1")]
    max_token_expiration_seconds: i64,
}

pub struct Key {
    pub id: String,
    pair: EcdsaKeyPair,
    public_der: Vec<u8>,
    pub excluded: bool,
}

impl Key {
    pub fn new(id: &str, excluded: bool) -> Result<Key> {
        let key = rcgen::KeyPair::generate()?;
        let random = ring::rand::SystemRandom::new();
        let pair = EcdsaKeyPair::from_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, key.serialized_der(), &random)
            .map_err(|e| anyhow!("{e}"))?;
        Ok(Key { id: id.into(), pair, public_der: key.subject_public_key_info(), excluded })
    }

    fn header(&self) -> String {
        format!("{{\"alg\":\"ES256\",\"kid\":\"{}\",\"typ\":\"JWT\"}}", self.id)
    }

    /// `claims` as they stand in the token.
    fn signature(&self, header: &str, claims: &str) -> String {
        let signed = format!("{header}.{claims}");
        let random = ring::rand::SystemRandom::new();
        B64.encode(self.pair.sign(&random, signed.as_bytes()).map(|s| s.as_ref().to_vec()).unwrap_or_default())
    }

    /// A token with another one's claims.
    pub fn sign_again(&self, token: &str) -> Result<String> {
        let claims = token.split('.').nth(1).context("no token")?;
        let header = B64.encode(self.header());
        Ok(format!("{header}.{claims}.{}", self.signature(&header, claims)))
    }
}

#[derive(Default)]
pub struct State {
    pub keys: Vec<Key>,
    /// Index of the key that signs.
    pub signing: usize,
    pub seconds_max: i64,
    /// In place of the right one.
    pub header: Option<String>,
    pub fetched: usize,
}

pub struct Signer {
    path: PathBuf,
    state: Arc<Mutex<State>>,
    serving: Option<Grpc>,
}

impl Signer {
    pub fn new(path: &Path, keys: Vec<Key>, seconds_max: i64) -> Signer {
        let state = State { keys, seconds_max, ..State::default() };
        Signer { path: path.to_path_buf(), state: Arc::new(Mutex::new(state)), serving: None }
    }

    pub fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub fn start(&mut self) -> Result<()> {
        let state = self.state.clone();
        let answer = move |method: &str, request: Bytes| {
            state.lock().unwrap_or_else(PoisonError::into_inner).answer(method, request)
        };
        self.serving = Some(Grpc::start(Listen::Socket(self.path.clone()), Arc::new(answer))?);
        Ok(())
    }

    pub fn stop(&mut self) {
        self.serving = None;
    }
}

impl State {
    fn answer(&mut self, method: &str, request: Bytes) -> Result<Vec<u8>, (u32, String)> {
        match method {
            "/v1.ExternalJWTSigner/Sign" => {
                let request = SignRequest::decode(request).map_err(|e| (3, e.to_string()))?;
                let key = self.keys.get(self.signing).ok_or((9, "no key".to_string()))?;
                let header = B64.encode(self.header.clone().unwrap_or_else(|| key.header()));
                let signature = key.signature(&header, &request.claims);
                Ok(SignResponse { header, signature }.encode_to_vec())
            }
            "/v1.ExternalJWTSigner/FetchKeys" => {
                self.fetched += 1;
                let keys = self.keys.iter().map(|k| PublicKey {
                    key_id: k.id.clone(),
                    key: k.public_der.clone(),
                    exclude_from_oidc_discovery: k.excluded,
                });
                let now = Timestamp { seconds: 1_700_000_000, nanos: 0 };
                let answer =
                    FetchKeysResponse { keys: keys.collect(), data_timestamp: Some(now), refresh_hint_seconds: 3 };
                Ok(answer.encode_to_vec())
            }
            "/v1.ExternalJWTSigner/Metadata" => {
                Ok(MetadataResponse { max_token_expiration_seconds: self.seconds_max }.encode_to_vec())
            }
            _ => Err((12, "no such method".into())),
        }
    }
}
