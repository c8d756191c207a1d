//! The part of authentication that a file may change while the server runs: issuers of tokens, and who may come without
//! credentials.
//!
//! In: [`Compiled`] configurations. Out: a [`TokenAuthenticator`] over the issuers of the newest one that works. A file
//! with mistakes, or issuers that can't be reached within a minute, change nothing.

use super::anonymous::Anonymous;
use super::bearer::{TokenAuthenticator, TokenOutcome};
use super::config::{self, Compiled};
use super::oidc::Oidc;
use crate::metrics::figures::AUTHENTICATION_RELOADS;
use crate::outbound;
use arc_swap::ArcSwap;
use async_trait::async_trait;
use std::sync::Arc;
use std::time::Duration;
use stdx::Shutdown;
use stdx::file::WatchedFile;

/// How long new issuers may take to tell their keys.
const READY_WITHIN: Duration = Duration::from_secs(60);

pub struct Issuers {
    client: outbound::Client,
    /// Issuers that the file may not name: those of service-account tokens.
    own: Vec<String>,
    current: ArcSwap<Vec<Arc<Oidc>>>,
    anonymous: Arc<ArcSwap<Anonymous>>,
    /// Whether the file, not a flag, says who may be anonymous.
    anonymous_from_file: bool,
}

impl Issuers {
    /// Begins with `first`, whose issuers needn't answer yet. Must be called in a Tokio runtime.
    pub fn start(
        first: Compiled,
        own: &[String],
        client: outbound::Client,
        anonymous: Arc<ArcSwap<Anonymous>>,
        anonymous_from_file: bool,
    ) -> Result<Arc<Issuers>, String> {
        let issuers =
            Issuers { client, own: own.to_vec(), current: ArcSwap::default(), anonymous, anonymous_from_file };
        let begun = issuers.begin(&first)?;
        issuers.accept(first, begun);
        Ok(Arc::new(issuers))
    }

    fn begin(&self, config: &Compiled) -> Result<Vec<Arc<Oidc>>, String> {
        config.issuers.iter().map(|i| Oidc::start(i.clone(), &self.client).map(Arc::new)).collect()
    }

    fn accept(&self, config: Compiled, issuers: Vec<Arc<Oidc>>) {
        self.current.store(Arc::new(issuers));
        if self.anonymous_from_file {
            let anonymous = config.anonymous.as_ref().map(Anonymous::from_config).unwrap_or_default();
            self.anonymous.store(Arc::new(anonymous));
        }
    }

    /// Takes a new text of the file, if it is good.
    async fn replace(&self, text: &str) -> Result<(), String> {
        let config = config::load(text, &self.own)?;
        if config.anonymous.is_some() && !self.anonymous_from_file {
            return Err("anonymous: Forbidden: --anonymous-auth says who may be anonymous".to_string());
        }
        let issuers = self.begin(&config)?;
        for issuer in &issuers {
            if !issuer.is_ready_within(READY_WITHIN).await {
                return Err(format!("issuer {} doesn't tell its keys", issuer.url()));
            }
        }
        self.accept(config, issuers);
        Ok(())
    }

    /// Follows the file until shutdown.
    pub async fn follow(self: Arc<Self>, mut file: WatchedFile, shutdown: Shutdown) {
        loop {
            let content = tokio::select! {
                _ = shutdown.cancelled() => return,
                content = file.changed() => content,
            };
            let outcome = match std::str::from_utf8(&content) {
                Ok(text) => self.replace(text).await,
                Err(_) => Err("not valid UTF-8".to_string()),
            };
            let path = file.path().display();
            match outcome {
                Ok(()) => {
                    AUTHENTICATION_RELOADS.succeeded(&String::from_utf8_lossy(&content));
                    tracing::info!(%path, "authentication configuration was reloaded");
                }
                Err(error) => {
                    AUTHENTICATION_RELOADS.failed();
                    tracing::error!(%path, error, "authentication configuration has changed and isn't used; the last good one stays");
                }
            }
        }
    }
}

#[async_trait]
impl TokenAuthenticator for Issuers {
    async fn authenticate_token(&self, token: &str, audiences: &[String]) -> TokenOutcome {
        for issuer in self.current.load_full().iter() {
            match issuer.authenticate_token(token, audiences).await {
                TokenOutcome::Skip => {}
                decided => return decided,
            }
        }
        TokenOutcome::Skip
    }
}
