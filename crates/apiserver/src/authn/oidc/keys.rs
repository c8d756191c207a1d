//! The keys of an identity provider: found by discovery, fetched again when a token names one that isn't known.
//!
//! In: the issuer's URL and whom to trust. Out: whether one of its keys signed a token. Discovery is tried until it
//! succeeds. An unknown key id leads to at most one fetch at a time and one a second, so that junk tokens can't be used
//! to flood the provider. Source: OpenID Connect Discovery 1.0, 4.

use crate::authn::config::IssuerConfig;
use crate::jwt::{Key, Token};
use crate::outbound::{self, Target, Trust, Url};
use arc_swap::ArcSwap;
use parking_lot::Mutex;
use serde_json::Value;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::watch;
use tokio::time::Instant;

/// Between attempts at discovery.
const RETRY: Duration = Duration::from_secs(10);
/// The first attempts follow each other faster: the provider may start at the same time as we do.
const RETRY_FIRST: Duration = Duration::from_millis(250);
const FETCH_TIMEOUT: Duration = Duration::from_secs(30);
/// Between fetches of keys.
const FETCH_EVERY: Duration = Duration::from_secs(1);
const DISCOVERY_PATH: &str = "/.well-known/openid-configuration";

pub struct Provider {
    issuer: String,
    /// Base URL of discovery, with the issuer's trust.
    discovery: Target,
    trust: Trust,
    client: outbound::Client,
    keys: ArcSwap<Vec<Key>>,
    /// Where the keys are, once discovery has told.
    jwks: Mutex<Option<Target>>,
    /// When keys were fetched last; held while they are.
    fetched: tokio::sync::Mutex<Option<Instant>>,
    ready: watch::Receiver<bool>,
    discoverer: Mutex<Option<tokio::task::JoinHandle<()>>>,
}

impl Drop for Provider {
    fn drop(&mut self) {
        if let Some(task) = self.discoverer.lock().take() {
            task.abort();
        }
    }
}

impl Provider {
    pub fn start(config: &IssuerConfig, client: outbound::Client) -> Result<Arc<Provider>, String> {
        let url = match config.discovery_url() {
            "" => format!("{}{DISCOVERY_PATH}", config.url.trim_end_matches('/')),
            // It is the whole address, whatever its path.
            url => url.to_string(),
        };
        let trust = match config.certificate_authority.as_str() {
            "" => Trust::System,
            pem => Trust::Ca(pem.as_bytes().into()),
        };
        let target = Target::new(Url::parse(&url).map_err(|e| format!("{url}: {e}"))?).trusting(trust.clone());
        let (ready, heard) = watch::channel(false);
        let provider = Arc::new(Provider {
            issuer: config.url.clone(),
            discovery: target,
            trust,
            client,
            keys: ArcSwap::default(),
            jwks: Mutex::default(),
            fetched: tokio::sync::Mutex::default(),
            ready: heard,
            discoverer: Mutex::default(),
        });
        let weak = Arc::downgrade(&provider);
        let task = tokio::spawn(async move {
            let mut wait = RETRY_FIRST;
            loop {
                let Some(provider) = weak.upgrade() else { return };
                match provider.discover().await {
                    Ok(()) => {
                        tracing::info!(issuer = provider.issuer, "the identity provider has told its keys");
                        ready.send_replace(true);
                        return;
                    }
                    Err(error) => {
                        tracing::warn!(
                            issuer = provider.issuer,
                            error,
                            "the identity provider can't be asked for its keys"
                        );
                    }
                }
                drop(provider);
                tokio::time::sleep(wait).await;
                wait = (wait * 2).min(RETRY);
            }
        });
        *provider.discoverer.lock() = Some(task);
        Ok(provider)
    }

    pub async fn is_ready_within(&self, limit: Duration) -> bool {
        let mut ready = self.ready.clone();
        tokio::time::timeout(limit, ready.wait_for(|r| *r)).await.is_ok_and(|r| r.is_ok())
    }

    async fn discover(&self) -> Result<(), String> {
        let document = self.get(&self.discovery).await?;
        let issuer = document["issuer"].as_str().unwrap_or_default();
        if issuer != self.issuer {
            return Err(format!(
                "oidc: issuer did not match the issuer returned by provider, expected {:?} got {issuer:?}",
                self.issuer
            ));
        }
        let uri = document["jwks_uri"].as_str().unwrap_or_default();
        let url = Url::parse(uri).map_err(|e| format!("jwks_uri {uri:?}: {e}"))?;
        if !url.https {
            return Err(format!("jwks_uri {uri:?}: URL scheme must be https"));
        }
        *self.jwks.lock() = Some(Target::new(url).trusting(self.trust.clone()));
        self.fetch().await
    }

    async fn get(&self, target: &Target) -> Result<Value, String> {
        let answer = self.client.get(target, &target.url.path, "", FETCH_TIMEOUT).await.map_err(|e| e.to_string())?;
        answer.json().map_err(|e| format!("{}: {e}", target.url.with(&target.url.path, "")))
    }

    async fn fetch(&self) -> Result<(), String> {
        let target = self.jwks.lock().clone().ok_or("oidc: authenticator not initialized")?;
        let keys = Key::set_from(&self.get(&target).await?);
        if keys.is_empty() {
            return Err("the provider's key set has no key that can be used".to_string());
        }
        self.keys.store(Arc::new(keys));
        Ok(())
    }

    /// Fails unless one of the provider's keys signed the token.
    pub async fn verify(&self, token: &Token<'_>) -> Result<(), String> {
        const BAD: &str = "oidc: verify token: failed to verify signature";
        let good = |keys: &[Key]| token.verified_by(keys).map_err(|e| format!("oidc: {e}"));
        let known = self.keys.load_full();
        if known.is_empty() && self.jwks.lock().is_none() {
            return Err("oidc: authenticator not initialized".to_string());
        }
        if good(&known)? {
            return Ok(());
        }
        // The provider may have a new key. A key that is known and didn't sign this never will.
        if token.key_id.is_some() && known.iter().any(|k| k.id == token.key_id) {
            return Err(BAD.to_string());
        }
        let mut fetched = self.fetched.lock().await;
        // Somebody else fetched while this one waited?
        let now_known = self.keys.load_full();
        if !Arc::ptr_eq(&known, &now_known) && good(&now_known)? {
            return Ok(());
        }
        if fetched.is_some_and(|at| at.elapsed() < FETCH_EVERY) {
            return Err(BAD.to_string());
        }
        let outcome = self.fetch().await;
        *fetched = Some(Instant::now());
        drop(fetched);
        outcome.map_err(|e| format!("oidc: fetching keys: {e}"))?;
        match good(&self.keys.load())? {
            true => Ok(()),
            false => Err(BAD.to_string()),
        }
    }
}
