//! Service-account tokens that another program signs, with keys that never come here
//! (`--service-account-signing-endpoint`).
//!
//! In: a Unix socket on which the program serves `v1.ExternalJWTSigner`. Out: signatures, and the public keys by which
//! tokens are verified, fetched as often as the signer says and whenever a token names a key that isn't known.
//! Source: KEP-740.

use crate::grpc::Peer;
use crate::jwt::Key;
use arc_swap::ArcSwap;
use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use parking_lot::Mutex;
use prost::Message;
use serde::Deserialize;
use std::sync::Arc;
use std::time::Duration;
use stdx::Shutdown;
use tokio::time::Instant;

/// How long a signer is waited for that isn't there: at start, and by who wants a token.
const START_PATIENCE: Duration = Duration::from_secs(60);
const SIGN_PATIENCE: Duration = Duration::from_secs(10);
/// How long one fetch of keys may take while the server runs: requests wait for it.
const FETCH_PATIENCE: Duration = Duration::from_secs(2);
/// After a failed fetch of keys.
const RETRY: Duration = Duration::from_secs(10);
/// Tokens of strangers may name any key: the signer isn't asked more often than this because of them.
const REFRESH_PAUSE: Duration = Duration::from_millis(250);
const KEY_ID_BYTES_MAX: usize = 1024;
/// Upstream's shortest life of a token, seconds.
const EXPIRATION_SECONDS_MIN: i64 = 600;
const ALGORITHMS: [&str; 4] = ["RS256", "ES256", "ES384", "ES512"];

#[derive(Clone, PartialEq, Message)]
struct SignJwtRequest {
    #[prost(string, tag = "1")]
    claims: String,
}

#[derive(Clone, PartialEq, Message)]
struct SignJwtResponse {
    #[prost(string, tag = "1")]
    header: String,
    #[prost(string, tag = "2")]
    signature: String,
}

#[derive(Clone, PartialEq, Message)]
struct FetchKeysRequest {}

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

/// `google.protobuf.Timestamp`
#[derive(Clone, PartialEq, Message)]
struct Timestamp {
    #[prost(int64, tag = "1")]
    seconds: i64,
    #[prost(int32, tag = "2")]
    nanos: i32,
}

#[derive(Clone, PartialEq, Message)]
struct MetadataRequest {}

#[derive(Clone, PartialEq, Message)]
struct MetadataResponse {
    #[prost(int64, tag = "1")]
    max_token_expiration_seconds: i64,
}

/// What the signer last said of its keys, in the order of their ids.
#[derive(PartialEq)]
pub struct Keys {
    pub all: Vec<Key>,
    /// Good for tokens that exist, but told to nobody, and never signed with.
    excluded: Vec<String>,
}

impl Keys {
    pub fn knows(&self, id: &str) -> bool {
        self.all.iter().any(|k| k.id.as_deref() == Some(id))
    }

    /// Those that the discovery documents tell.
    pub fn published(&self) -> impl Iterator<Item = &Key> {
        self.all.iter().filter(|k| !self.excluded.iter().any(|id| Some(id.as_str()) == k.id.as_deref()))
    }
}

pub struct Signer {
    peer: Peer,
    /// The same [`Arc`] for as long as they don't change: who remembers what they verified goes by it.
    keys: ArcSwap<Keys>,
    refresh_at: Mutex<Instant>,
    /// One fetch at a time; when the last one began.
    fetching: tokio::sync::Mutex<Option<Instant>>,
    pub expiration_seconds_max: i64,
}

impl std::fmt::Debug for Signer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("external signer")
    }
}

impl Signer {
    /// Waits for the signer and asks for its keys and limits. Errors are upstream's texts.
    pub async fn connect(socket: &str) -> Result<Arc<Signer>, String> {
        Signer::connect_within(socket, START_PATIENCE).await
    }

    async fn connect_within(socket: &str, patience: Duration) -> Result<Arc<Signer>, String> {
        let peer = Peer::on_socket(socket);
        let failed = |e: String| format!("while setting up external-jwt-signer: {e}");
        let (keys, refresh_at) = fetch(&peer, patience).await.map_err(|e| {
            failed(format!("while initially filling key cache: while performing initial cache fill: {e}"))
        })?;
        let metadata: MetadataResponse = peer
            .call_when_ready("/v1.ExternalJWTSigner/Metadata", MetadataRequest {}, patience)
            .await
            .map_err(|e| failed(e.to_string()))?;
        let most = metadata.max_token_expiration_seconds;
        if most < EXPIRATION_SECONDS_MIN {
            return Err(format!(
                "max token life supported by external-jwt-signer ({most}s) is less than acceptable (min \
                 {EXPIRATION_SECONDS_MIN}s)"
            ));
        }
        Ok(Arc::new(Signer {
            peer,
            keys: ArcSwap::from_pointee(keys),
            refresh_at: Mutex::new(refresh_at),
            fetching: tokio::sync::Mutex::default(),
            expiration_seconds_max: most,
        }))
    }

    pub fn keys(&self) -> Arc<Keys> {
        self.keys.load_full()
    }

    /// For how long others may remember the keys.
    pub fn keys_seconds_left(&self) -> u64 {
        self.refresh_at.lock().saturating_duration_since(Instant::now()).as_secs()
    }

    /// A compact token with these claims.
    pub async fn sign(&self, claims: &[u8]) -> Result<String, String> {
        let claims = URL_SAFE_NO_PAD.encode(claims);
        let request = SignJwtRequest { claims: claims.clone() };
        let signed: SignJwtResponse = self
            .peer
            .call_when_ready("/v1.ExternalJWTSigner/Sign", request, SIGN_PATIENCE)
            .await
            .map_err(|e| format!("while signing jwt: {e}"))?;
        self.check_header(&signed.header).await.map_err(|e| format!("while validating header: {e}"))?;
        if signed.signature.is_empty() {
            return Err("empty signature returned".into());
        }
        Ok(format!("{}.{claims}.{}", signed.header, signed.signature))
    }

    async fn check_header(&self, header: &str) -> Result<(), String> {
        #[derive(Deserialize)]
        #[serde(deny_unknown_fields)]
        struct Header {
            #[serde(default)]
            alg: String,
            #[serde(default)]
            kid: String,
            #[serde(default)]
            typ: String,
        }
        let bytes = URL_SAFE_NO_PAD.decode(header).map_err(|e| format!("while unwrapping header: {e}"))?;
        let header: Header = serde_json::from_slice(&bytes).map_err(|e| format!("while parsing header JSON: {e}"))?;
        if header.typ != "JWT" {
            return Err("bad type".into());
        }
        if header.kid.is_empty() {
            return Err("key id missing".into());
        }
        if header.kid.len() > KEY_ID_BYTES_MAX {
            return Err("key id longer than 1 kb".into());
        }
        if !ALGORITHMS.contains(&header.alg.as_str()) {
            return Err(format!("bad signing algorithm {:?}", header.alg));
        }
        if !self.keys().knows(&header.kid) {
            self.refresh().await;
        }
        if self.keys().excluded.contains(&header.kid) {
            return Err(format!("key used for signing JWT (kid: {}) is excluded from OIDC discovery docs", header.kid));
        }
        Ok(())
    }

    /// Asks for the keys because one is named that isn't known. All who wait are served by one fetch, and the next one
    /// waits for a while.
    pub async fn refresh(&self) {
        let arrived = Instant::now();
        let mut last = self.fetching.lock().await;
        if last.is_some_and(|at| at >= arrived) {
            return;
        }
        if let Some(at) = *last {
            tokio::time::sleep_until(at + REFRESH_PAUSE).await;
        }
        self.fetch(&mut last).await;
    }

    /// Fetches keys as often as the signer says, until shutdown.
    pub async fn keep(self: Arc<Self>, shutdown: Shutdown) {
        let mut at = *self.refresh_at.lock();
        loop {
            tokio::select! {
                () = shutdown.cancelled() => return,
                () = tokio::time::sleep_until(at) => {}
            }
            at = match self.fetch(&mut *self.fetching.lock().await).await {
                true => *self.refresh_at.lock(),
                false => Instant::now() + RETRY,
            };
        }
    }

    /// Whether it could be done. Patience is short, since who holds the lock has others wait behind it, and since a
    /// signer that is away for longer is asked again soon anyway.
    async fn fetch(&self, last: &mut Option<Instant>) -> bool {
        *last = Some(Instant::now());
        match fetch(&self.peer, FETCH_PATIENCE).await {
            Ok((keys, refresh_at)) => {
                self.learn(keys, refresh_at);
                true
            }
            Err(error) => {
                tracing::error!(error, "the keys of the external signer can't be fetched; the old ones stay good");
                false
            }
        }
    }

    fn learn(&self, keys: Keys, refresh_at: Instant) {
        *self.refresh_at.lock() = refresh_at;
        // Anybody can have them fetched, with a token that names an unknown key; that must not make the server verify
        // everybody else's tokens anew.
        if **self.keys.load() != keys {
            self.keys.store(Arc::new(keys));
        }
    }
}

/// The keys, and when to ask for them again.
async fn fetch(peer: &Peer, patience: Duration) -> Result<(Keys, Instant), String> {
    let answer: FetchKeysResponse =
        peer.call_when_ready("/v1.ExternalJWTSigner/FetchKeys", FetchKeysRequest {}, patience).await.map_err(|e| {
            format!("while fetching token verification keys: while getting externally supported jwt signing keys: {e}")
        })?;
    understood(answer).map_err(|e| format!("while fetching token verification keys: {e}"))
}

fn understood(answer: FetchKeysResponse) -> Result<(Keys, Instant), String> {
    let hint = answer.refresh_hint_seconds;
    if hint <= 0 {
        return Err(format!("found invalid refresh hint ({hint}s)"));
    }
    if answer.keys.is_empty() {
        return Err("found no keys".into());
    }
    let stamp = answer.data_timestamp.ok_or("invalid data timestamp: proto: invalid nil Timestamp")?;
    let known =
        jiff::Timestamp::new(stamp.seconds, stamp.nanos).ok().filter(|_| (0..1_000_000_000).contains(&stamp.nanos));
    if known.is_none() {
        return Err(format!("invalid data timestamp: seconds:{} nanos:{}", stamp.seconds, stamp.nanos));
    }
    // A year is as good as for ever, and can be added to any clock.
    let refresh_at = Instant::now() + Duration::from_secs(hint.clamp(1, 365 * 24 * 3600) as u64);
    let mut keys = Keys { all: Vec::new(), excluded: Vec::new() };
    for key in answer.keys {
        if key.key_id.is_empty() || key.key_id.len() > KEY_ID_BYTES_MAX {
            return Err(format!("found invalid public key id {:?}", key.key_id));
        }
        if key.key.is_empty() {
            return Err("found empty public key".into());
        }
        let parsed =
            Key::from_spki(&key.key_id, &key.key).map_err(|e| format!("while parsing external public keys: {e}"))?;
        keys.all.push(parsed);
        if key.exclude_from_oidc_discovery {
            keys.excluded.push(key.key_id);
        }
    }
    // A signer may keep them in a map, and tell them in another order each time.
    keys.all.sort_by(|a, b| a.id.cmp(&b.id));
    keys.excluded.sort_unstable();
    Ok((keys, refresh_at))
}

#[cfg(test)]
mod tests {
    use super::*;
    use rcgen::PublicKeyData;

    fn key(id: &str, excluded: bool) -> PublicKey {
        let key = rcgen::KeyPair::generate().unwrap().subject_public_key_info();
        PublicKey { key_id: id.into(), key, exclude_from_oidc_discovery: excluded }
    }

    fn answer(keys: Vec<PublicKey>) -> FetchKeysResponse {
        FetchKeysResponse { keys, data_timestamp: Some(Timestamp { seconds: 1, nanos: 0 }), refresh_hint_seconds: 60 }
    }

    fn signer(keys: Vec<PublicKey>) -> Signer {
        let (keys, refresh_at) = understood(answer(keys)).unwrap();
        Signer {
            peer: Peer::on_socket("/nowhere/signer.sock"),
            keys: ArcSwap::from_pointee(keys),
            refresh_at: Mutex::new(refresh_at),
            fetching: tokio::sync::Mutex::default(),
            expiration_seconds_max: 3600,
        }
    }

    #[test]
    fn what_the_signer_says_of_its_keys_is_checked() {
        let (good, refresh_at) = understood(answer(vec![key("a", false), key("b", true)])).unwrap();
        assert!(good.knows("a") && good.knows("b") && !good.knows("c"));
        assert_eq!(good.published().filter_map(|k| k.id.as_deref()).collect::<Vec<_>>(), ["a"]);
        assert!((58..=60).contains(&refresh_at.saturating_duration_since(Instant::now()).as_secs()));
        let bad = |change: &dyn Fn(&mut FetchKeysResponse), want: &str| {
            let mut a = answer(vec![key("a", false)]);
            change(&mut a);
            let got = understood(a).err().unwrap();
            assert!(got.starts_with(want), "{got}");
        };
        bad(&|a| a.refresh_hint_seconds = 0, "found invalid refresh hint (0s)");
        bad(&|a| a.keys.clear(), "found no keys");
        bad(&|a| a.data_timestamp = None, "invalid data timestamp: ");
        bad(&|a| a.data_timestamp = Some(Timestamp { seconds: 1, nanos: -1 }), "invalid data timestamp: ");
        bad(&|a| a.keys[0].key_id.clear(), "found invalid public key id \"\"");
        bad(&|a| a.keys[0].key_id = "x".repeat(1025), "found invalid public key id ");
        bad(&|a| a.keys[0].key.clear(), "found empty public key");
        bad(&|a| a.keys[0].key.truncate(20), "while parsing external public keys: ");
    }

    #[tokio::test(start_paused = true)]
    async fn headers_that_the_signer_may_not_make_are_refused() {
        let s = signer(vec![key("a", false), key("old", true)]);
        for (header, want) in [
            (r#"{"alg":"ES256","kid":"a","typ":"JWT"}"#, Ok(())),
            (r#"{"alg":"ES256","kid":"a","typ":"JWE"}"#, Err("bad type")),
            (r#"{"alg":"ES256","kid":"a"}"#, Err("bad type")),
            (r#"{"alg":"ES256","typ":"JWT"}"#, Err("key id missing")),
            (r#"{"alg":"HS256","kid":"a","typ":"JWT"}"#, Err("bad signing algorithm \"HS256\"")),
            (r#"{"alg":"none","kid":"a","typ":"JWT"}"#, Err("bad signing algorithm \"none\"")),
            (r#"{"alg":"ES256","kid":"a","typ":"JWT","jku":"https://x"}"#, Err("while parsing header JSON: ")),
            (
                r#"{"alg":"ES256","kid":"old","typ":"JWT"}"#,
                Err("key used for signing JWT (kid: old) is excluded from OIDC discovery docs"),
            ),
        ] {
            let got = s.check_header(&URL_SAFE_NO_PAD.encode(header)).await;
            match want {
                Ok(()) => assert_eq!(got, Ok(()), "{header}"),
                Err(want) => assert!(got.clone().unwrap_err().starts_with(want), "{header}: {got:?}"),
            }
        }
        assert!(s.check_header("{}").await.unwrap_err().starts_with("while unwrapping header: "));
        assert!(s.sign(b"{}").await.unwrap_err().starts_with("while signing jwt: rpc error: code = "));
    }

    #[tokio::test(start_paused = true)]
    async fn keys_that_stay_the_same_are_not_replaced() {
        let (a, b) = (key("a", false), key("b", true));
        let s = signer(vec![a.clone(), b.clone()]);
        let learn = |keys: Vec<PublicKey>| {
            let (keys, refresh_at) = understood(answer(keys)).unwrap();
            s.learn(keys, refresh_at);
        };
        let before = s.keys();
        tokio::time::advance(Duration::from_secs(30)).await;
        learn(vec![b.clone(), a.clone()]);
        assert!(Arc::ptr_eq(&before, &s.keys()), "who verified with them needn't do it again");
        assert!(s.keys_seconds_left() >= 59, "but they were heard of anew");
        let published = PublicKey { exclude_from_oidc_discovery: false, ..b };
        for changed in [vec![a.clone(), published], vec![a.clone()], vec![a, key("c", false)]] {
            let before = s.keys();
            learn(changed);
            assert!(!Arc::ptr_eq(&before, &s.keys()));
        }
    }

    /// Neither their own fetches nor the one that is due hold up those who come with unknown keys.
    #[tokio::test(start_paused = true)]
    async fn a_signer_that_is_away_holds_nobody_up_for_long() {
        let s = Arc::new(signer(vec![key("a", false)]));
        *s.refresh_at.lock() = Instant::now();
        let shutdown = Shutdown::new();
        let keeping = tokio::spawn(s.clone().keep(shutdown.clone()));
        tokio::time::sleep(Duration::from_millis(500)).await;
        let began = Instant::now();
        futures::future::join_all((0..50).map(|_| s.refresh())).await;
        assert!(began.elapsed() < 3 * FETCH_PATIENCE, "{:?}", began.elapsed());
        assert!(s.keys().knows("a"));
        shutdown.cancel();
        keeping.await.unwrap();
    }

    #[tokio::test(start_paused = true)]
    async fn a_signer_that_never_comes_is_told() {
        let why = Signer::connect_within("/nowhere/signer.sock", Duration::from_secs(2)).await.err().unwrap();
        assert!(why.starts_with("while setting up external-jwt-signer: while initially filling key cache: "), "{why}");
    }
}
