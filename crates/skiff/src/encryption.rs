//! Flags of encryption at rest. Names and meaning are kube-apiserver's, `--secrets-encryption` is k3s's.

use crate::layout::Layout;
use anyhow::{Context, Result, anyhow};
use apiserver::encryption::Provider;
use apiserver::encryption::{Config, Encryption};
use apiserver::server::Server;
use std::io::Write;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};
use stdx::Shutdown;
use tokio::sync::mpsc;

/// How long a start waits for KMS plugins, which may be starting themselves.
const PLUGIN_PATIENCE: Duration = Duration::from_secs(30);
/// How often the file is looked at where that was asked for.
const RELOAD_INTERVAL: Duration = Duration::from_secs(10);

#[derive(Clone, Debug, clap::Args)]
pub struct EncryptionArgs {
    /// What is encrypted on disk or in etcd, and how (EncryptionConfiguration).
    #[arg(long, value_name = "FILE")]
    pub encryption_provider_config: Option<PathBuf>,
    /// Follow changes of that file while running.
    #[arg(long)]
    pub encryption_provider_config_automatic_reload: bool,
    /// Encrypt Secrets with a key that is made once and kept in the data directory.
    #[arg(long, conflicts_with = "encryption_provider_config")]
    pub secrets_encryption: bool,
}

impl EncryptionArgs {
    /// The transformer for the store, ready to open values. Asks KMS plugins, and waits for them.
    pub async fn open(&self, layout: &Layout) -> Result<Option<Arc<Encryption>>> {
        let Some(path) = self.path(layout)? else { return Ok(None) };
        let config = read(&path)?;
        let began = Instant::now();
        for plugin in &config.kms {
            while let Err(why) = plugin.refresh().await {
                if began.elapsed() > PLUGIN_PATIENCE {
                    return Err(anyhow!("{why}; without it nothing that it encrypted can be read"));
                }
                tokio::time::sleep(Duration::from_millis(500)).await;
            }
        }
        Ok(Some(Arc::new(Encryption::new(config))))
    }

    fn path(&self, layout: &Layout) -> Result<Option<PathBuf>> {
        if let Some(path) = &self.encryption_provider_config {
            return Ok(Some(path.clone()));
        }
        let own = layout.data_dir.join("encryption/config.yaml");
        // Once made it is needed, whatever the flags say: without it Secrets couldn't be read.
        if !self.secrets_encryption && !own.exists() {
            return Ok(None);
        }
        if !own.exists() {
            make(&own).with_context(|| format!("failed to write {}", own.display()))?;
        }
        Ok(Some(own))
    }

    /// Follows the file and asks KMS plugins how they are, until shutdown.
    pub async fn keep(self, layout: Layout, encryption: Arc<Encryption>, server: Arc<Server>, shutdown: Shutdown) {
        let Ok(Some(path)) = self.path(&layout) else { return };
        let store = server.registry.store.as_ref();
        // What was refused before, so that it is told once. It is tried again: a plugin may have been away.
        let mut refused = None;
        let mut life = shutdown.child_token();
        let follows = self.encryption_provider_config_automatic_reload;
        let mut looks = watch_plugins(&encryption, &life);
        let mut tick = tokio::time::interval(RELOAD_INTERVAL);
        tick.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            self.tell_health(&encryption, &server);
            let mut failed = false;
            match encryption.renew(store).await {
                Ok(true) => tracing::info!("what lies on disk is encrypted as the configuration has it"),
                Ok(false) => {}
                Err(store::Error::Closed) => return,
                Err(error) => {
                    failed = true;
                    tracing::warn!(%error, "values lie on disk as an older encryption configuration had them");
                }
            }
            tokio::select! {
                () = shutdown.cancelled() => return,
                Some(rotated) = looks.recv() => {
                    if rotated {
                        encryption.rotated(store).await;
                    }
                    continue;
                }
                _ = tick.tick(), if follows || failed => {}
            }
            if !follows {
                continue;
            }
            let text = std::fs::read_to_string(&path).map_err(|e| e.to_string());
            if text.as_ref().is_ok_and(|text| encryption.is_configured_by(text)) {
                refused = None;
                continue;
            }
            match reload(&path).await {
                Ok(config) => {
                    tracing::info!(file = %path.display(), "took over the changed encryption configuration");
                    encryption.configure(config, store).await;
                    refused = None;
                    life.cancel();
                    life = shutdown.child_token();
                    looks = watch_plugins(&encryption, &life);
                }
                Err(error) if refused.as_ref() != Some(&text) => {
                    tracing::error!(
                        error = format!("{error:#}"),
                        "the changed encryption configuration is not taken over"
                    );
                    refused = Some(text);
                }
                Err(_) => {}
            }
        }
    }

    /// Upstream's checks: one for all plugins where the file is followed, else one for each.
    fn tell_health(&self, encryption: &Encryption, server: &Server) {
        if self.encryption_provider_config_automatic_reload {
            return server.health.set_ready("kms-providers", encryption.health());
        }
        for (i, plugin) in encryption.plugins().iter().enumerate() {
            server.health.set_ready(&format!("kms-provider-{i}"), plugin.health());
        }
    }
}

async fn reload(path: &Path) -> Result<Config> {
    let config = read(path)?;
    for plugin in &config.kms {
        plugin.refresh().await.map_err(|why| anyhow!(why))?;
    }
    Ok(config)
}

/// Starts a task for each plugin that is in use. They tell each time they looked at it.
fn watch_plugins(encryption: &Encryption, life: &Shutdown) -> mpsc::Receiver<bool> {
    let (looked, looks) = mpsc::channel(8);
    for plugin in encryption.plugins() {
        tokio::spawn(plugin.keep(looked.clone(), life.clone()));
    }
    looks
}

fn read(path: &Path) -> Result<Config> {
    let text = std::fs::read_to_string(path).with_context(|| format!("failed to read {}", path.display()))?;
    Config::parse(&text).with_context(|| format!("--encryption-provider-config={}", path.display()))
}

/// A configuration with a new key, for its owner's eyes only.
fn make(path: &Path) -> Result<()> {
    use base64::Engine;
    let dir = path.parent().context("no directory")?;
    std::fs::DirBuilder::new().recursive(true).mode(0o700).create(dir)?;
    let secret = base64::engine::general_purpose::STANDARD.encode(rand::random::<[u8; 32]>());
    let text = format!(
        "apiVersion: apiserver.config.k8s.io/v1\nkind: EncryptionConfiguration\nresources:\n- resources: [secrets]\n  \
         providers:\n  - secretbox:\n      keys:\n      - name: key1\n        secret: {secret}\n  - identity: {{}}\n"
    );
    // Whole or not at all: with half a key nothing could be read.
    let aside = path.with_extension("tmp");
    let mut file = std::fs::OpenOptions::new().create(true).truncate(true).write(true).mode(0o600).open(&aside)?;
    file.write_all(text.as_bytes())?;
    file.sync_all()?;
    std::fs::rename(&aside, path)?;
    std::fs::File::open(dir)?.sync_all()?;
    Ok(())
}
