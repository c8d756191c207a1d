//! Encryption at rest: what is written to disk or etcd, and only that, is encrypted (`--encryption-provider-config`).
//!
//! In: an EncryptionConfiguration ([`config`]) and the store's values. Out: values in upstream's stored form, such as
//! `k8s:enc:aescbc:v1:key1:` and bytes, so that an etcd can be shared with or taken over from kube-apiserver. The first
//! provider of a resource writes, any of them reads. A value that nobody can open stays as it is: reading the object
//! fails, everything else goes on, and it is tried again ([`Encryption::reopen`]). Source: "Encrypting Confidential Data at
//! Rest".
//!
//! The embedded store's files follow the configuration by themselves ([`Encryption::renew`]), at a start as after a
//! reload, towards encryption as away from it. In etcd every value stays as it was written until it is written again.

pub mod config;
pub mod kms;
mod providers;

pub use config::{Config, ConfigError};

use arc_swap::ArcSwap;
use bytes::Bytes;
use parking_lot::Mutex;
use std::collections::HashSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use store::{KeyValue, SEALED, Transformer};

/// What a provider can do. `key` is the store's, and is bound to the value where the provider's cipher can do that.
pub trait Provider: Send + Sync + 'static {
    /// What its values begin with, up to the name of the key.
    fn prefix(&self) -> &str;
    fn seal(&self, key: &str, value: &[u8]) -> Result<Vec<u8>, String>;
    /// The part after the prefix. The flag: it was not sealed as this provider would seal it now.
    fn open(&self, key: &str, rest: &[u8]) -> Result<(Vec<u8>, bool), String>;
    /// Why it can't work at present.
    fn health(&self) -> Result<(), String> {
        Ok(())
    }
}

/// The store's transformer. Its configuration can be exchanged while it works.
pub struct Encryption {
    config: ArcSwap<Config>,
    /// Keys whose stored form isn't what would be written now.
    stale: Mutex<HashSet<Box<str>>>,
    /// The revision up to which everything that is covered counts as stale: what the store had when the configuration
    /// or a plugin's key changed.
    changed_at: AtomicU64,
    /// Something was found otherwise than it would be written now, be it an older version or deleted.
    outdated: AtomicBool,
    /// Keys whose value nobody could open.
    unreadable: Mutex<HashSet<Box<str>>>,
}

impl std::fmt::Debug for Encryption {
    /// Nothing of keys.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Encryption")
    }
}

impl Encryption {
    pub fn new(config: Config) -> Encryption {
        Encryption {
            config: ArcSwap::from_pointee(config),
            stale: Mutex::default(),
            changed_at: AtomicU64::new(0),
            outdated: AtomicBool::new(false),
            unreadable: Mutex::default(),
        }
    }

    /// Takes over a changed configuration.
    pub async fn configure(&self, config: Config, store: &dyn store::Store) {
        self.config.store(Arc::new(config));
        self.rotated(store).await;
    }

    /// What the store has was sealed under a key that isn't used any more, or not at all. Called when the change has
    /// happened already.
    pub async fn rotated(&self, store: &dyn store::Store) {
        self.outdated.store(true, Ordering::Release);
        // Nobody knows yet how far the old form reaches, and one write too many does no harm.
        self.changed_at.store(u64::MAX, Ordering::Release);
        // Asked after the change, and with etcd of etcd itself: what it has by now may have been opened before the change,
        // what comes later is opened and judged under the new configuration. Writes that were sealed before and come
        // later are dealt with by that, or by the embedded store's renewal, which waits for them.
        let now = store.barrier().await.unwrap_or_else(|_| store.revision());
        self.changed_at.store(now.0, Ordering::Release);
    }

    /// Whether the configuration in force is this text's.
    pub fn is_configured_by(&self, text: &str) -> bool {
        self.config.load().is_of(text)
    }

    /// Has the store write what it has on disk anew where that isn't as it would be written now; so that neither plain
    /// values nor such under withdrawn keys stay behind in its older files, nor sealed ones where `identity` is first.
    /// True: it did; with etcd it can't. After an error the next call tries again.
    pub async fn renew(&self, store: &dyn store::Store) -> Result<bool, store::Error> {
        if !self.outdated.swap(false, Ordering::AcqRel) {
            return Ok(false);
        }
        store.reseal().await.inspect_err(|_| self.outdated.store(true, Ordering::Release))
    }

    /// Has the store try again to open what couldn't be opened. How many values couldn't be even now.
    pub fn reopen(&self, store: &dyn store::Store) -> usize {
        if self.unreadable.lock().is_empty() {
            return 0;
        }
        let opened = store.reopen();
        if opened > 0 {
            tracing::info!(values = opened, "values that could not be decrypted can be now");
        }
        let keys: Vec<Box<str>> = self.unreadable.lock().iter().cloned().collect();
        // An older version in a log is told of as well, and never again.
        for key in keys.iter().filter(|key| !store.get(key).is_some_and(|e| e.is_sealed())) {
            self.unreadable.lock().remove(key);
        }
        self.unreadable.lock().len()
    }

    /// A write of the object as it is makes sense: it would be stored in another form.
    pub fn is_stale(&self, entry: &KeyValue) -> bool {
        let stale = self.stale.lock();
        if stale.contains(&*entry.key) {
            return true;
        }
        entry.mod_revision.0 <= self.changed_at.load(Ordering::Acquire)
            && resource_of(&entry.key).is_some_and(|r| self.config.load().providers(r).is_some())
    }

    /// Keys that should be written again.
    pub fn stale_keys(&self) -> usize {
        self.stale.lock().len()
    }

    pub fn plugins(&self) -> Vec<Arc<kms::Kms>> {
        self.config.load().kms.clone()
    }

    pub fn health(&self) -> Result<(), String> {
        self.config.load().health()
    }
}

impl Transformer for Encryption {
    fn seal(&self, key: &str, value: &Bytes) -> Result<Option<Bytes>, String> {
        let config = self.config.load();
        let providers = resource_of(key).and_then(|r| config.providers(r));
        let sealed = match providers.and_then(|p| p.first()) {
            Some(Some(provider)) => {
                let mut out = provider.prefix().as_bytes().to_vec();
                out.extend(provider.seal(key, value).map_err(|e| format!("failed to encrypt {key:?}: {e}"))?);
                Some(out.into())
            }
            // Not covered, or `identity` first.
            Some(None) | None => None,
        };
        Ok(sealed)
    }

    fn open(&self, key: &str, stored: Bytes) -> Bytes {
        let config = self.config.load();
        let providers = resource_of(key).and_then(|r| config.providers(r));
        if !stored.starts_with(SEALED) {
            let first_is_identity = providers.is_none_or(|p| p.first().is_some_and(Option::is_none));
            self.mark(key, !first_is_identity);
            return stored;
        }
        let mut why = "no matching prefix found".to_string();
        for (i, provider) in providers.into_iter().flatten().enumerate() {
            let Some(provider) = provider else { continue };
            let Some(rest) = stored.strip_prefix(provider.prefix().as_bytes()) else { continue };
            match provider.open(key, rest) {
                Ok((value, old)) => {
                    self.mark(key, old || i > 0);
                    return value.into();
                }
                Err(e) => why = e,
            }
        }
        // Once, however often it is tried again.
        if self.unreadable.lock().insert(key.into()) {
            tracing::error!(
                key,
                why,
                "a stored object can't be decrypted; is its key missing from the encryption configuration?"
            );
        }
        stored
    }

    fn settled(&self, key: &str) {
        // Told of every write, and mostly there is nothing to look for.
        for keys in [&self.stale, &self.unreadable] {
            let mut keys = keys.lock();
            if !keys.is_empty() {
                keys.remove(key);
            }
        }
    }
}

impl Encryption {
    /// What was read of a key: in the form that would be written now, or not.
    fn mark(&self, key: &str, stale: bool) {
        self.settled(key);
        if stale {
            self.stale.lock().insert(key.into());
            self.outdated.store(true, Ordering::Release);
        }
    }
}

/// `/registry/secrets/default/x` → `secrets`
fn resource_of(key: &str) -> Option<&str> {
    let (_, rest) = key.split_once("/registry/")?;
    rest.split_once('/').map(|(resource, _)| resource)
}

/// The error of an object that can't be read, in upstream's words.
pub fn unreadable(key: &str) -> meta::status::Status {
    meta::status::Status::internal(format!("unable to transform key {key:?}: no matching prefix found"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use base64::Engine;

    fn key(byte: u8) -> String {
        base64::engine::general_purpose::STANDARD.encode([byte; 32])
    }

    fn configuration(providers: &str) -> String {
        format!(
            "apiVersion: apiserver.config.k8s.io/v1\nkind: EncryptionConfiguration\nresources:\n- resources: [secrets]\n  providers:\n{providers}"
        )
    }

    fn encryption(providers: &str) -> Encryption {
        Encryption::new(Config::parse(&configuration(providers)).unwrap())
    }

    const KEY: &str = "/registry/secrets/default/s";

    fn entry(value: &Bytes, revision: u64) -> KeyValue {
        KeyValue {
            key: KEY.into(),
            value: value.clone(),
            create_revision: store::Revision(1),
            mod_revision: store::Revision(revision),
            memo: Default::default(),
        }
    }

    #[test]
    fn each_provider_opens_what_it_sealed_and_nothing_else() {
        let plain = Bytes::from_static(b"{\"kind\":\"Secret\",\"data\":\"very secret\"}");
        for kind in ["aescbc", "aesgcm", "secretbox"] {
            let with = |name: &str, byte| format!("  - {kind}: {{keys: [{{name: {name}, secret: {}}}]}}\n", key(byte));
            let e = encryption(&with("key1", 7));
            let sealed = e.seal(KEY, &plain).unwrap().unwrap();
            assert!(sealed.starts_with(format!("k8s:enc:{kind}:v1:key1:").as_bytes()), "{kind}");
            assert!(!sealed.windows(11).any(|w| w == b"very secret"));
            assert_ne!(sealed, e.seal(KEY, &plain).unwrap().unwrap(), "never the same twice");
            assert_eq!(e.open(KEY, sealed.clone()), plain);
            assert!(!e.is_stale(&entry(&plain, 5)));
            // Another key, another name, a flipped bit: it stays sealed.
            let mut flipped = sealed.to_vec();
            *flipped.last_mut().unwrap() ^= 1;
            for (other, bytes) in [
                (encryption(&with("key1", 8)), sealed.clone()),
                (encryption(&with("key2", 7)), sealed.clone()),
                (encryption("  - identity: {}\n"), sealed.clone()),
                (encryption(&with("key1", 7)), flipped.into()),
            ] {
                let got = other.open(KEY, bytes);
                assert!(entry(&got, 1).is_sealed() || (kind == "aescbc" && got != plain), "{kind}");
            }
            if kind == "aesgcm" {
                // Bound to its place: another object's value isn't taken for this one's.
                assert!(e.open("/registry/secrets/default/other", sealed.clone()).starts_with(SEALED));
            }
            // Other resources aren't touched.
            assert!(e.seal("/registry/configmaps/default/c", &plain).unwrap().is_none());
        }
    }

    #[tokio::test]
    async fn keys_rotate_and_what_is_old_is_known() {
        let plain = Bytes::from_static(b"{}");
        let keys = |names: &[(&str, u8)]| {
            let list: Vec<String> = names.iter().map(|(n, b)| format!("{{name: {n}, secret: {}}}", key(*b))).collect();
            format!("  - aescbc: {{keys: [{}]}}\n  - identity: {{}}\n", list.join(", "))
        };
        let old = encryption(&keys(&[("k1", 1)])).seal(KEY, &plain).unwrap().unwrap();
        let e = encryption(&keys(&[("k2", 2), ("k1", 1)]));
        assert_eq!(e.open(KEY, old.clone()), plain);
        assert!(e.is_stale(&entry(&plain, 5)) && e.stale_keys() == 1);
        let new = e.seal(KEY, &plain).unwrap().unwrap();
        assert!(new.starts_with(b"k8s:enc:aescbc:v1:k2:"));
        assert!(e.is_stale(&entry(&plain, 5)), "the write may still fail");
        e.settled(KEY);
        assert!(!e.is_stale(&entry(&plain, 6)) && e.stale_keys() == 0);
        // Plain values are read where identity is listed or nothing else was ever there, and are old.
        assert_eq!(e.open(KEY, plain.clone()), plain);
        assert!(e.is_stale(&entry(&plain, 5)));
        // A configuration that changes while running makes all that is older stale.
        e.settled(KEY);
        let store = store::memory::open();
        for i in 0..9 {
            store.create(&format!("/registry/secrets/default/{i}"), plain.clone(), None).await.unwrap();
        }
        let text = configuration(&keys(&[("k3", 3), ("k2", 2)]));
        assert!(!e.is_configured_by(&text));
        e.configure(Config::parse(&text).unwrap(), store.as_ref()).await;
        assert!(e.is_configured_by(&text) && !e.is_configured_by(&(text + "\n")));
        assert!(e.is_stale(&entry(&plain, 9)) && !e.is_stale(&entry(&plain, 10)));
    }

    #[tokio::test]
    async fn the_store_is_renewed_when_something_lies_there_otherwise_than_it_should() {
        let dir = tempfile::tempdir().unwrap();
        let store = store::embedded::open(store::embedded::Options::new(dir.path())).unwrap();
        let keyed = |name: &str, byte: u8| format!("  - aescbc: {{keys: [{{name: {name}, secret: {}}}]}}\n", key(byte));
        let plain = Bytes::from_static(b"{}");
        let (one, both) = (keyed("one", 1), keyed("two", 2) + &keyed("one", 1));
        let sealed = encryption(&one).seal(KEY, &plain).unwrap().unwrap();
        let identity = "  - identity: {}\n";
        for (what, providers, stored, renewed) in [
            ("as it should be", one.clone(), sealed.clone(), false),
            ("plain", one.clone() + identity, plain.clone(), true),
            ("under an older key", both, sealed.clone(), true),
            ("to be made plain", identity.to_string() + &one, sealed.clone(), true),
            ("plain and to be so", identity.to_string(), plain.clone(), false),
        ] {
            let e = encryption(&providers);
            assert_eq!(e.open(KEY, stored), plain, "{what}");
            assert_eq!(e.renew(store.as_ref()).await.unwrap(), renewed, "{what}");
            assert!(!e.renew(store.as_ref()).await.unwrap(), "{what}: once is enough");
            e.rotated(store.as_ref()).await;
            assert!(e.renew(store.as_ref()).await.unwrap(), "{what}: under a new key");
        }
        // Not the configuration's business.
        let e = encryption(&one);
        e.open("/registry/configmaps/default/c", plain);
        assert!(!e.renew(store.as_ref()).await.unwrap());
    }
}
