//! A KMS plugin (v2) as a cloud's would be: AES-GCM under keys that it keeps, by key id, on a Unix socket.

use crate::grpc::{Grpc, Listen};
use anyhow::Result;
use bytes::Bytes;
use prost::Message;
use ring::aead;
use std::collections::{BTreeMap, HashMap};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

#[derive(Clone, PartialEq, Message)]
struct StatusResponse {
    #[prost(string, tag = "1")]
    version: String,
    #[prost(string, tag = "2")]
    healthz: String,
    #[prost(string, tag = "3")]
    key_id: String,
}

#[derive(Clone, PartialEq, Message)]
struct EncryptRequest {
    #[prost(bytes = "vec", tag = "1")]
    plaintext: Vec<u8>,
    #[prost(string, tag = "2")]
    uid: String,
}

#[derive(Clone, PartialEq, Message)]
struct EncryptResponse {
    #[prost(bytes = "vec", tag = "1")]
    ciphertext: Vec<u8>,
    #[prost(string, tag = "2")]
    key_id: String,
    #[prost(map = "string, bytes", tag = "3")]
    annotations: HashMap<String, Vec<u8>>,
}

#[derive(Clone, PartialEq, Message)]
struct DecryptRequest {
    #[prost(bytes = "vec", tag = "1")]
    ciphertext: Vec<u8>,
    #[prost(string, tag = "2")]
    uid: String,
    #[prost(string, tag = "3")]
    key_id: String,
    #[prost(map = "string, bytes", tag = "4")]
    annotations: HashMap<String, Vec<u8>>,
}

#[derive(Clone, PartialEq, Message)]
struct DecryptResponse {
    #[prost(bytes = "vec", tag = "1")]
    plaintext: Vec<u8>,
}

/// What it annotates seeds with, and wants back.
const MARK: (&str, &[u8]) = ("version.kms.example.org", b"1");

#[derive(Default)]
pub struct State {
    /// The last is in use.
    keys: BTreeMap<String, [u8; 32]>,
    pub healthz: String,
    /// It opens nothing.
    pub refuses: bool,
    /// Calls by method.
    pub asked: BTreeMap<String, usize>,
}

pub struct Plugin {
    path: PathBuf,
    state: Arc<Mutex<State>>,
    serving: Option<Grpc>,
}

impl Plugin {
    /// Not serving yet, with one key.
    pub fn new(path: &Path) -> Plugin {
        let plugin = Plugin { path: path.to_path_buf(), state: Arc::default(), serving: None };
        plugin.state().healthz = "ok".into();
        plugin.add_key("key-one");
        plugin
    }

    pub fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// From now on the one in use, if its id is the greatest.
    pub fn add_key(&self, id: &str) {
        self.state().keys.insert(id.into(), rand::random());
    }

    pub fn forget_key(&self, id: &str) {
        self.state().keys.remove(id);
    }

    pub fn start(&mut self) -> Result<()> {
        let state = self.state.clone();
        let answer = move |method: &str, request: Bytes| {
            let mut state = state.lock().unwrap_or_else(PoisonError::into_inner);
            state.answer(method, request)
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
        let bad = |why: &str| (3, why.to_string());
        let name = method.rsplit('/').next().unwrap_or_default().to_string();
        *self.asked.entry(name.clone()).or_default() += 1;
        let (id, key) = self.keys.last_key_value().ok_or_else(|| bad("no key"))?;
        match name.as_str() {
            "Status" => Ok(StatusResponse { version: "v2".into(), healthz: self.healthz.clone(), key_id: id.clone() }
                .encode_to_vec()),
            "Encrypt" => {
                let request = EncryptRequest::decode(request).map_err(|e| bad(&e.to_string()))?;
                let nonce: [u8; aead::NONCE_LEN] = rand::random();
                let mut sealed = request.plaintext;
                opener(key)
                    .seal_in_place_append_tag(
                        aead::Nonce::assume_unique_for_key(nonce),
                        aead::Aad::from(id.as_bytes()),
                        &mut sealed,
                    )
                    .map_err(|_| bad("not sealed"))?;
                let ciphertext = [&nonce[..], &sealed].concat();
                let annotations = HashMap::from([(MARK.0.to_string(), MARK.1.to_vec())]);
                Ok(EncryptResponse { ciphertext, key_id: id.clone(), annotations }.encode_to_vec())
            }
            "Decrypt" if self.refuses => Err(bad("not now")),
            "Decrypt" => {
                let request = DecryptRequest::decode(request).map_err(|e| bad(&e.to_string()))?;
                if request.annotations.get(MARK.0).map(Vec::as_slice) != Some(MARK.1) {
                    return Err(bad("the annotations didn't come back"));
                }
                let key = self.keys.get(&request.key_id).ok_or_else(|| bad("no such key"))?;
                let (nonce, sealed) =
                    request.ciphertext.split_at_checked(aead::NONCE_LEN).ok_or_else(|| bad("too short"))?;
                let nonce = aead::Nonce::try_assume_unique_for_key(nonce).map_err(|_| bad("nonce"))?;
                let mut value = sealed.to_vec();
                let plain = opener(key)
                    .open_in_place(nonce, aead::Aad::from(request.key_id.as_bytes()), &mut value)
                    .map_err(|_| bad("not this key's"))?;
                Ok(DecryptResponse { plaintext: plain.to_vec() }.encode_to_vec())
            }
            _ => Err((12, "no such method".into())),
        }
    }
}

fn opener(key: &[u8; 32]) -> aead::LessSafeKey {
    // 32 bytes are a key of this algorithm, always.
    aead::LessSafeKey::new(aead::UnboundKey::new(&aead::AES_256_GCM, key).expect("a key of the right size"))
}
