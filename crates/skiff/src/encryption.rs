//! Flags of encryption at rest. Names and meaning are kube-apiserver's, `--secrets-encryption` is k3s's.

use crate::layout::Layout;
use anyhow::{Context, Result, anyhow};
use apiserver::encryption::kms::Look;
use apiserver::encryption::{Config, Encryption, Provider};
use apiserver::server::Server;
use std::io::Write;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;
use stdx::Shutdown;
use stdx::backoff::Backoff;
use store::Store;
use tokio::sync::mpsc;
use tokio::time::Instant;

/// How long a start waits for KMS plugins, which may be starting themselves.
const PLUGIN_PATIENCE: Duration = Duration::from_secs(30);
/// How often the file is looked at where that was asked for.
const RELOAD_INTERVAL: Duration = Duration::from_secs(10);
/// Between two tries to have the store written anew, or values opened that couldn't be.
const RETRY_MIN: Duration = Duration::from_secs(10);
const RETRY_MAX: Duration = Duration::from_secs(600);

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
        let mut following = Following::default();
        let mut life = shutdown.child_token();
        let follows = self.encryption_provider_config_automatic_reload;
        let mut looks = watch_plugins(&encryption, &life);
        let mut tick = tokio::time::interval(RELOAD_INTERVAL);
        tick.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            self.tell_health(&encryption, &server);
            if following.follow(&encryption, store).await.is_err() {
                return;
            }
            tokio::select! {
                () = shutdown.cancelled() => return,
                Some(look) = looks.recv() => {
                    if look.rotated {
                        encryption.rotated(store).await;
                    }
                    if look.rotated || look.recovered {
                        following = Following::default();
                    }
                    continue;
                }
                () = following.due() => continue,
                _ = tick.tick(), if follows => {}
            }
            let text = std::fs::read_to_string(&path).map_err(|e| e.to_string());
            if text.as_ref().is_ok_and(|text| encryption.is_configured_by(text)) {
                refused = None;
                continue;
            }
            match reload(&path, &text).await {
                Ok(config) => {
                    tracing::info!(file = %path.display(), "took over the changed encryption configuration");
                    encryption.configure(config, store).await;
                    (refused, following) = (None, Following::default());
                    life.cancel();
                    life = shutdown.child_token();
                    looks = watch_plugins(&encryption, &life);
                }
                Err(error) if refused.as_ref() != Some(&text) => {
                    let error = format!("{error:#}");
                    tracing::error!(error, "the changed encryption configuration is not taken over");
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

/// What the store has, brought in line with the configuration in force. What fails is tried again: later and later, for it
/// may be that a disk is full, where each try writes a log segment and half a snapshot.
#[derive(Default)]
struct Following {
    writing: Retry,
    opening: Retry,
}

impl Following {
    /// Does what is due.
    async fn follow(&mut self, encryption: &Encryption, store: &dyn Store) -> Result<(), Closed> {
        if self.opening.is_due() {
            let left = encryption.reopen(store);
            self.opening.note(left == 0);
        }
        if self.writing.is_due() {
            let renewed = encryption.renew(store).await;
            self.writing.note(renewed.is_ok());
            match renewed {
                Ok(true) => tracing::info!("what lies on disk is encrypted as the configuration has it"),
                Ok(false) => {}
                Err(store::Error::Closed) => return Err(Closed),
                Err(error) => {
                    tracing::warn!(%error, "values lie on disk as an older encryption configuration had them");
                }
            }
        }
        Ok(())
    }

    /// When something is to be tried again; never, if nothing failed.
    async fn due(&self) {
        match [self.writing.at, self.opening.at].into_iter().flatten().min() {
            Some(at) => tokio::time::sleep_until(at).await,
            None => std::future::pending().await,
        }
    }
}

/// The store is.
#[derive(Debug)]
struct Closed;

struct Retry {
    backoff: Backoff,
    /// `None`: at any time.
    at: Option<Instant>,
}

impl Default for Retry {
    fn default() -> Retry {
        Retry { backoff: Backoff::new(RETRY_MIN, RETRY_MAX), at: None }
    }
}

impl Retry {
    fn is_due(&self) -> bool {
        self.at.is_none_or(|at| at <= Instant::now())
    }

    fn note(&mut self, done: bool) {
        match done {
            true => *self = Retry::default(),
            false => self.at = Some(Instant::now() + self.backoff.next_delay()),
        }
    }
}

async fn reload(path: &Path, text: &Result<String, String>) -> Result<Config> {
    let text = text.as_ref().map_err(|why| anyhow!("failed to read {}: {why}", path.display()))?;
    let config = parse(path, text)?;
    for plugin in &config.kms {
        plugin.refresh().await.map_err(|why| anyhow!(why))?;
    }
    Ok(config)
}

/// Starts a task for each plugin that is in use. They tell each time they looked at it.
fn watch_plugins(encryption: &Encryption, life: &Shutdown) -> mpsc::Receiver<Look> {
    let (looked, looks) = mpsc::channel(8);
    for plugin in encryption.plugins() {
        tokio::spawn(plugin.keep(looked.clone(), life.clone()));
    }
    looks
}

fn read(path: &Path) -> Result<Config> {
    let text = std::fs::read_to_string(path).with_context(|| format!("failed to read {}", path.display()))?;
    parse(path, &text)
}

fn parse(path: &Path, text: &str) -> Result<Config> {
    Config::parse(text).with_context(|| format!("--encryption-provider-config={}", path.display()))
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

#[cfg(test)]
mod tests {
    use super::*;
    use bytes::Bytes;
    use store::embedded::{Options, faulty, open_on};

    const KEY: &str = "/registry/secrets/default/s";

    fn config(keys: &[u8]) -> Config {
        use base64::Engine;
        let secret = |byte: &u8| base64::engine::general_purpose::STANDARD.encode([*byte; 32]);
        let keys = keys.iter().map(|k| format!("{{name: k{k}, secret: {}}}", secret(k))).collect::<Vec<_>>().join(", ");
        Config::parse(&format!(
            "apiVersion: apiserver.config.k8s.io/v1\nkind: EncryptionConfiguration\nresources:\n\
             - resources: [secrets]\n  providers:\n  - aescbc: {{keys: [{keys}]}}\n"
        ))
        .unwrap()
    }

    fn open(disk: &faulty::FaultyDisk, keys: &[u8]) -> (Arc<Encryption>, Arc<dyn Store>) {
        let encryption = Arc::new(Encryption::new(config(keys)));
        let options = Options { transformer: Some(encryption.clone()), ..Options::new("unused") };
        (encryption, open_on(Arc::new(disk.clone()), options).unwrap())
    }

    /// Goes on to when something is due, and does it. How many seconds that took.
    async fn next(following: &mut Following, encryption: &Encryption, store: &dyn Store) -> u64 {
        let began = Instant::now();
        following.due().await;
        following.follow(encryption, store).await.unwrap();
        began.elapsed().as_secs()
    }

    #[tokio::test(start_paused = true)]
    async fn a_full_disk_is_written_to_less_and_less_often() {
        let disk = faulty::FaultyDisk::new(1);
        let (encryption, store) = open(&disk, &[1]);
        store.create(KEY, Bytes::from_static(b"{}"), None).await.unwrap();
        let mut following = Following::default();
        encryption.configure(config(&[2, 1]), &*store).await;
        disk.set_faults(faulty::Faults { write_error_permille: 1000, ..Default::default() });
        following.follow(&encryption, &*store).await.unwrap();
        let mut pauses = Vec::new();
        for _ in 0..8 {
            // What others wake it for in between makes no difference.
            following.follow(&encryption, &*store).await.unwrap();
            pauses.push(next(&mut following, &encryption, &*store).await);
        }
        assert_eq!(pauses, [10, 20, 40, 80, 160, 320, 600, 600]);
        disk.set_faults(faulty::Faults::default());
        assert_eq!(next(&mut following, &encryption, &*store).await, 600);
        assert!(following.writing.at.is_none() && !encryption.renew(&*store).await.unwrap(), "it is done");
        store.shutdown().await;
        drop(store);
        let (_, store) = open(&disk, &[2]);
        assert_eq!(&store.get(KEY).unwrap().value[..], b"{}", "the old key can go");
        store.shutdown().await;
    }

    #[tokio::test(start_paused = true)]
    async fn what_cannot_be_read_is_tried_again_and_read_with_the_right_key() {
        let disk = faulty::FaultyDisk::new(1);
        let (_, store) = open(&disk, &[1]);
        store.create(KEY, Bytes::from_static(b"{}"), None).await.unwrap();
        store.shutdown().await;
        drop(store);
        let (encryption, store) = open(&disk, &[2]);
        let mut following = Following::default();
        following.follow(&encryption, &*store).await.unwrap();
        assert_eq!(next(&mut following, &encryption, &*store).await, 10);
        assert_eq!(next(&mut following, &encryption, &*store).await, 20);
        assert!(store.get(KEY).unwrap().is_sealed());
        encryption.configure(config(&[2, 1]), &*store).await;
        assert_eq!(next(&mut following, &encryption, &*store).await, 40);
        assert_eq!(&store.get(KEY).unwrap().value[..], b"{}");
        assert!(following.opening.at.is_none() && following.writing.at.is_none(), "nothing is left to do");
        store.shutdown().await;
        drop(store);
        let (_, store) = open(&disk, &[2]);
        assert_eq!(&store.get(KEY).unwrap().value[..], b"{}", "it was written anew, too");
        store.shutdown().await;
    }
}
