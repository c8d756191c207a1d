//! KMS v2: keys that a plugin keeps, asked over gRPC on a Unix socket.
//!
//! The plugin seals one seed (again whenever it names another key id), every value gets a key of its own derived from the
//! seed. So writing never asks the plugin, and reading asks once per seed. Source: "Using a KMS provider for data
//! encryption", and upstream's stored form `k8s:enc:kms:v2:<name>:` with an EncryptedObject.

use super::Provider;
use super::providers::{gcm_open, gcm_seal};
use crate::grpc::Peer;
use arc_swap::ArcSwapOption;
use parking_lot::Mutex;
use prost::Message;
use ring::hkdf;
use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant};
use stdx::Shutdown;

/// How often the plugin is asked how it is and which key it uses, and while it isn't well: what upstream's health check
/// remembers an answer for.
const STATUS_INTERVAL: Duration = Duration::from_secs(20);
const STATUS_INTERVAL_UNWELL: Duration = Duration::from_secs(3);
const SEED: usize = 32;
/// What makes each value's key its own, in front of the value.
const INFO: usize = 32;
/// Seeds that are remembered after reading.
const SEEDS_MAX: usize = 1000;
/// A seed that the plugin didn't open isn't asked for again before. Many values are under one seed, and each of them would
/// wait for a plugin that is away.
const REFUSED_FOR: Duration = Duration::from_secs(3);
/// Annotations that a plugin may leave with a seed, bytes.
const ANNOTATIONS_MAX: usize = 32 * 1024;

#[derive(Clone, PartialEq, Message)]
struct StatusRequest {}

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

/// What is stored behind the prefix.
#[derive(Clone, PartialEq, Message)]
struct EncryptedObject {
    #[prost(bytes = "vec", tag = "1")]
    encrypted_data: Vec<u8>,
    #[prost(string, tag = "2")]
    key_id: String,
    #[prost(bytes = "vec", tag = "3")]
    encrypted_dek_source: Vec<u8>,
    #[prost(map = "string, bytes", tag = "4")]
    annotations: HashMap<String, Vec<u8>>,
    /// 0: the DEK is an AES-GCM key; 1: it is the seed that keys are derived from.
    #[prost(int32, tag = "5")]
    encrypted_dek_source_type: i32,
}

const SEED_TYPE: i32 = 1;

pub struct Kms {
    name: String,
    prefix: String,
    peer: Peer,
    timeout: Duration,
    /// What values are sealed with now.
    current: ArcSwapOption<Current>,
    /// Opened seeds by their sealed form.
    seeds: Mutex<HashMap<Vec<u8>, Arc<Vec<u8>>>>,
    /// Those that couldn't be opened: when and why.
    refused: Mutex<HashMap<Vec<u8>, (Instant, String)>>,
    health: Mutex<Result<(), String>>,
}

struct Current {
    seed: Vec<u8>,
    sealed: EncryptResponse,
}

/// What a look at a plugin has found.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Look {
    /// Its key is another one: what was sealed before is old now.
    pub rotated: bool,
    /// It is well again.
    pub recovered: bool,
}

impl Kms {
    /// Connects when first asked.
    pub fn new(name: &str, socket: &str, timeout: Duration) -> Kms {
        Kms {
            name: name.to_string(),
            prefix: format!("k8s:enc:kms:v2:{name}:"),
            peer: Peer::on_socket(socket),
            timeout,
            current: ArcSwapOption::empty(),
            seeds: Mutex::default(),
            refused: Mutex::default(),
            health: Mutex::new(Err("the plugin has not answered yet".into())),
        }
    }

    pub fn name(&self) -> &str {
        &self.name
    }

    async fn call<Q, A>(&self, method: &'static str, request: Q) -> Result<A, String>
    where
        Q: Message + Send + Sync + 'static,
        A: Message + Default + Send + Sync + 'static,
    {
        let answer = self.peer.call(method, request, self.timeout).await;
        answer.map_err(|e| format!("KMS plugin {:?}: {e}", self.name))
    }

    /// Asks the plugin how it is and which key it uses, and makes a new seed when that is another one. True: it is, and
    /// what was sealed before is old now.
    pub async fn refresh(&self) -> Result<bool, String> {
        let done = self.look().await;
        *self.health.lock() = done.clone().map(drop);
        done
    }

    async fn look(&self) -> Result<bool, String> {
        let status = self.call("/v2.KeyManagementService/Status", StatusRequest {}).await?;
        let Some(key_id) = self.wanted(status)? else { return Ok(false) };
        let seed = rand::random::<[u8; SEED]>().to_vec();
        let request = EncryptRequest { plaintext: seed.clone(), uid: uuid::Uuid::new_v4().to_string() };
        let sealed = self.call("/v2.KeyManagementService/Encrypt", request).await?;
        self.adopt(&key_id, seed, sealed)
    }

    /// The key under which the plugin shall seal a new seed; `None`: the one that there is will do.
    fn wanted(&self, status: StatusResponse) -> Result<Option<String>, String> {
        if !matches!(status.version.as_str(), "v2" | "v2beta1") {
            return Err(format!("KMS plugin {:?} speaks version {:?}, not v2", self.name, status.version));
        }
        if status.healthz != "ok" {
            return Err(format!("KMS plugin {:?} says: {}", self.name, status.healthz));
        }
        if status.key_id.is_empty() || status.key_id.len() > 1024 {
            return Err(format!("KMS plugin {:?} has a bad key id", self.name));
        }
        let same = self.current.load().as_ref().is_some_and(|c| c.sealed.key_id == status.key_id);
        Ok((!same).then_some(status.key_id))
    }

    /// Uses a seed that the plugin has sealed, if it did so under the key that it had named. Else the old seed stays: a
    /// plugin whose answers contradict each other would have every value written anew at each look.
    fn adopt(&self, key_id: &str, seed: Vec<u8>, sealed: EncryptResponse) -> Result<bool, String> {
        let annotations: usize = sealed.annotations.iter().map(|(k, v)| k.len() + v.len()).sum();
        if sealed.ciphertext.is_empty() || sealed.ciphertext.len() > 1024 || annotations > ANNOTATIONS_MAX {
            return Err(format!("KMS plugin {:?} gave a bad answer to Encrypt", self.name));
        }
        if sealed.key_id != key_id {
            return Err(format!(
                "KMS plugin {:?} encrypted under the key {:?}, but its status names {key_id:?}",
                self.name, sealed.key_id
            ));
        }
        tracing::info!(plugin = self.name, key = sealed.key_id, "values are encrypted under a new key");
        self.remember(sealed.ciphertext.clone(), Arc::new(seed.clone()));
        let before = self.current.swap(Some(Arc::new(Current { seed, sealed })));
        Ok(before.is_some())
    }

    /// Looks again and again, until shutdown. Tells each time.
    pub async fn keep(self: Arc<Self>, looked: tokio::sync::mpsc::Sender<Look>, shutdown: Shutdown) {
        loop {
            let pause = if self.health().is_ok() { STATUS_INTERVAL } else { STATUS_INTERVAL_UNWELL };
            tokio::select! {
                () = shutdown.cancelled() => return,
                () = tokio::time::sleep(pause) => {}
            }
            let was_well = self.health().is_ok();
            let look = match self.refresh().await {
                Ok(rotated) => {
                    if !was_well {
                        tracing::info!(plugin = self.name, "the KMS plugin is well again");
                        self.refused.lock().clear();
                    }
                    Look { rotated, recovered: !was_well }
                }
                Err(error) => {
                    // Once, not every few seconds.
                    if was_well {
                        tracing::warn!(plugin = self.name, error, "the KMS plugin is not well");
                    }
                    Look { rotated: false, recovered: false }
                }
            };
            let _ = looked.send(look).await;
        }
    }

    fn remember(&self, sealed: Vec<u8>, seed: Arc<Vec<u8>>) {
        let mut seeds = self.seeds.lock();
        if seeds.len() >= SEEDS_MAX {
            seeds.clear();
        }
        seeds.insert(sealed, seed);
    }

    fn refuse(&self, sealed: &[u8], why: &str) {
        let mut refused = self.refused.lock();
        if refused.len() >= SEEDS_MAX {
            refused.clear();
        }
        refused.insert(sealed.to_vec(), (Instant::now(), why.to_string()));
    }

    fn seed(&self, object: &EncryptedObject) -> Result<Arc<Vec<u8>>, String> {
        if let Some(seed) = self.seeds.lock().get(&object.encrypted_dek_source) {
            return Ok(seed.clone());
        }
        let refused = self.refused.lock().get(&object.encrypted_dek_source).cloned();
        if let Some((_, why)) = refused.filter(|(at, _)| at.elapsed() < REFUSED_FOR) {
            return Err(why);
        }
        let request = DecryptRequest {
            ciphertext: object.encrypted_dek_source.clone(),
            uid: uuid::Uuid::new_v4().to_string(),
            key_id: object.key_id.clone(),
            annotations: object.annotations.clone(),
        };
        // Stores read at start and when etcd tells of changes, and seeds are few: waiting here is fine.
        let asked = self.call::<_, DecryptResponse>("/v2.KeyManagementService/Decrypt", request);
        let answer = tokio::task::block_in_place(|| tokio::runtime::Handle::current().block_on(asked));
        let answer = answer.inspect_err(|why| self.refuse(&object.encrypted_dek_source, why))?;
        let seed = Arc::new(answer.plaintext);
        self.remember(object.encrypted_dek_source.clone(), seed.clone());
        Ok(seed)
    }
}

impl Provider for Kms {
    fn prefix(&self) -> &str {
        &self.prefix
    }

    fn seal(&self, key: &str, value: &[u8]) -> Result<Vec<u8>, String> {
        let current = self.current.load_full().ok_or_else(|| match self.health() {
            Err(why) => why,
            Ok(()) => "the plugin has no key yet".to_string(),
        })?;
        let info: [u8; INFO] = rand::random();
        let data = gcm_seal(&derive(&current.seed, &info)?, key.as_bytes(), value)?;
        let object = EncryptedObject {
            encrypted_data: [&info[..], &data].concat(),
            key_id: current.sealed.key_id.clone(),
            encrypted_dek_source: current.sealed.ciphertext.clone(),
            annotations: current.sealed.annotations.clone(),
            encrypted_dek_source_type: SEED_TYPE,
        };
        Ok(object.encode_to_vec())
    }

    fn open(&self, key: &str, rest: &[u8]) -> Result<(Vec<u8>, bool), String> {
        let object = EncryptedObject::decode(rest).map_err(|e| format!("failed to decode the stored form: {e}"))?;
        let seed = self.seed(&object)?;
        let data = object.encrypted_data.as_slice();
        let value = match object.encrypted_dek_source_type {
            SEED_TYPE => {
                let (info, data) = data.split_at_checked(INFO).ok_or("the stored data is too short")?;
                gcm_open(&derive(&seed, info)?, key.as_bytes(), data)?
            }
            // What older versions stored.
            _ => gcm_open(&seed, key.as_bytes(), data)?,
        };
        let old = self.current.load().as_ref().is_some_and(|c| c.sealed.key_id != object.key_id);
        Ok((value, old || object.encrypted_dek_source_type != SEED_TYPE))
    }

    fn health(&self) -> Result<(), String> {
        self.health.lock().clone()
    }
}

/// HKDF-Expand with SHA-256: the value's own key.
fn derive(seed: &[u8], info: &[u8]) -> Result<[u8; 32], String> {
    let prk = hkdf::Prk::new_less_safe(hkdf::HKDF_SHA256, seed);
    let mut key = [0; 32];
    let parts = [info];
    prk.expand(&parts, hkdf::HKDF_SHA256)
        .and_then(|okm| okm.fill(&mut key))
        .map_err(|_| "the key can't be derived".to_string())?;
    Ok(key)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_are_derived_as_rfc_5869_says() {
        // A.1, its PRK and info; the first 32 of 42 bytes.
        let prk = hex::decode("077709362c2e32df0ddc3f0dc47bba6390b6c73bb50f9c3122ec844ad7c2b3e5").unwrap();
        let info = hex::decode("f0f1f2f3f4f5f6f7f8f9").unwrap();
        let key = derive(&prk, &info).unwrap();
        assert_eq!(hex::encode(key), "3cb25f25faacd57a90434f64d0362f2a2d2d0a90cf1a5a4c5db02d56ecc4c5bf");
    }

    #[tokio::test]
    async fn a_new_seed_is_used_when_the_plugin_agrees_with_itself() {
        let status = |version: &str, healthz: &str, key: &str| StatusResponse {
            version: version.into(),
            healthz: healthz.into(),
            key_id: key.into(),
        };
        let sealed = |text: &[u8], key: &str| EncryptResponse {
            ciphertext: text.to_vec(),
            key_id: key.into(),
            ..Default::default()
        };
        let kms = Kms::new("p", "/nowhere", Duration::from_millis(50));
        let mut seeds = 0;
        // The key in use before, the status, the answer to Encrypt, whether it is a rotation or what is wrong.
        for (before, status, answer, expected) in [
            (None, status("v2", "ok", "1"), sealed(b"s", "2"), Err("under the key \"2\", but its status names \"1\"")),
            (None, status("v2", "ok", "1"), sealed(b"s", "1"), Ok(Some(false))),
            (Some("1"), status("v2", "ok", "1"), sealed(b"unasked", "1"), Ok(None)),
            (
                Some("1"),
                status("v2", "ok", "2"),
                sealed(b"s", "1"),
                Err("under the key \"1\", but its status names \"2\""),
            ),
            (
                Some("1"),
                status("v2", "ok", "2"),
                sealed(b"s", ""),
                Err("under the key \"\", but its status names \"2\""),
            ),
            (Some("1"), status("v2", "ok", "2"), sealed(b"", "2"), Err("bad answer to Encrypt")),
            (Some("1"), status("v2", "ok", "2"), sealed(&[1; 1025], "2"), Err("bad answer to Encrypt")),
            (Some("1"), status("v2", "ok", ""), sealed(b"s", "2"), Err("bad key id")),
            (Some("1"), status("v1", "ok", "2"), sealed(b"s", "2"), Err("speaks version \"v1\"")),
            (Some("1"), status("v2", "on fire", "2"), sealed(b"s", "2"), Err("says: on fire")),
            (Some("1"), status("v2", "ok", "2"), sealed(b"s", "2"), Ok(Some(true))),
        ] {
            let used = || kms.current.load().as_ref().map(|c| (c.sealed.key_id.clone(), c.seed.clone()));
            let was = used();
            assert_eq!(was.as_ref().map(|(key, _)| key.as_str()), before);
            seeds += 1;
            let seed = vec![seeds; SEED];
            let got = kms
                .wanted(status.clone())
                .and_then(|wanted| wanted.map(|key| kms.adopt(&key, seed.clone(), answer.clone())).transpose());
            match expected {
                Ok(rotated) => assert_eq!(got, Ok(rotated), "{status:?}"),
                Err(part) => assert!(got.as_ref().is_err_and(|why| why.contains(part)), "{status:?}: {got:?}"),
            }
            let adopted = matches!(expected, Ok(Some(_)));
            assert_eq!(used(), if adopted { Some((status.key_id, seed)) } else { was });
        }
    }

    /// Many values are under one seed: they don't wait for it one by one.
    #[tokio::test(flavor = "multi_thread")]
    async fn a_plugin_that_is_away_is_waited_for_once() {
        let dir = tempfile::tempdir().unwrap();
        let socket = dir.path().join("kms.sock");
        // Somebody takes connections, and says nothing.
        let listener = tokio::net::UnixListener::bind(&socket).unwrap();
        let silent = tokio::spawn(async move {
            let mut taken = Vec::new();
            while let Ok((stream, _)) = listener.accept().await {
                taken.push(stream);
            }
        });
        let kms = Kms::new("p", socket.to_str().unwrap(), Duration::from_millis(300));
        let object = EncryptedObject {
            encrypted_dek_source: b"one".to_vec(),
            encrypted_dek_source_type: SEED_TYPE,
            ..Default::default()
        };
        let stored = object.encode_to_vec();
        let began = Instant::now();
        for _ in 0..100 {
            assert!(kms.open("/k", &stored).is_err());
        }
        assert!(began.elapsed() < Duration::from_secs(3), "{:?}", began.elapsed());
        kms.refused.lock().clear();
        kms.remember(b"one".to_vec(), Arc::new(vec![1; SEED]));
        assert!(kms.open("/k", &stored).unwrap_err().contains("too short"), "the seed is known now");
        silent.abort();
    }

    #[tokio::test]
    async fn values_are_sealed_under_the_plugins_seed_and_opened_again() {
        let kms = Kms::new("p", "/nowhere", Duration::from_millis(50));
        assert!(kms.seal("/k", b"x").unwrap_err().contains("not answered yet"));
        assert!(kms.refresh().await.is_err() && kms.health().is_err());
        let seed = vec![7u8; SEED];
        let sealed = EncryptResponse { ciphertext: b"sealed seed".to_vec(), key_id: "1".into(), ..Default::default() };
        kms.remember(sealed.ciphertext.clone(), Arc::new(seed.clone()));
        kms.current.store(Some(Arc::new(Current { seed: seed.clone(), sealed: sealed.clone() })));
        let stored = kms.seal("/registry/secrets/d/s", b"plain").unwrap();
        assert_eq!(kms.open("/registry/secrets/d/s", &stored), Ok((b"plain".to_vec(), false)));
        assert!(kms.open("/registry/secrets/d/other", &stored).is_err());
        // Under another key id it is read and known to be old.
        kms.current.store(Some(Arc::new(Current { seed, sealed: EncryptResponse { key_id: "2".into(), ..sealed } })));
        assert_eq!(kms.open("/registry/secrets/d/s", &stored), Ok((b"plain".to_vec(), true)));
    }
}
