//! The runtime: what it holds in memory, how it finds everything again when it opens, and CRI's two services.

mod containers;
mod fronts;
mod recover;
mod sandboxes;

use crate::container::{self, ContainerRecord, Phase, Places};
use crate::events::Events;
use crate::image::{self, Reference, Store, pull};
use crate::options::RuntimeOptions;
use crate::sandbox::{self, Life, SandboxPlaces, SandboxRecord};
use crate::session;
use crate::shim::client::{Connection, call};
use crate::shim::protocol::{Exit, Reply, Request, Started};
use crate::spec::ContainerSpec;
use crate::state::{self, Durability, new_id, now_ns};
use async_trait::async_trait;
use cri::{
    AuthConfig, ContainerConfig, ContainerStats, ContainerStatus, Duplex, Error, ExecOptions, ExecResult,
    FilesystemUsage, Image, ImageService, LinuxResources, PodNetworkRequest, PodSandboxConfig, PodSandboxStatus,
    Result, RuntimeEvent, RuntimeService, SandboxState, SecurityProfile, Session, Version,
};
use nix::fcntl::{Flock, FlockArg};
use parking_lot::{Mutex, RwLock};
use std::collections::{BTreeMap, HashMap};
use std::fs;
use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::{mpsc, watch};
use tracing::{info, warn};

/// After SIGKILL, how long until a process that does not go is reported.
const KILL_TIMEOUT: Duration = Duration::from_secs(60);

/// The embedded runtime. Dropping it stops nothing: pods live on in their shims.
pub struct Runtime {
    shared: Arc<Shared>,
}

struct Shared {
    options: RuntimeOptions,
    store: Arc<Store>,
    cgroups: sys::cgroup::Manager,
    sandboxes: RwLock<BTreeMap<String, Arc<Sandbox>>>,
    containers: RwLock<BTreeMap<String, Arc<Container>>>,
    events: Events,
    /// The shim's executable on a read-only mount.
    executable: Option<OwnedFd>,
    /// One pull of an image at a time.
    pulls: Mutex<HashMap<String, Arc<tokio::sync::Mutex<()>>>>,
    /// Whether the built-in image has been made, or could not be.
    hello_tried: watch::Sender<bool>,
    _lock: Flock<fs::File>,
}

struct Sandbox {
    places: SandboxPlaces,
    record: Mutex<SandboxRecord>,
    /// Held while it is stopped or removed.
    changing: tokio::sync::Mutex<()>,
    /// Whether its shim serves.
    alive: watch::Sender<bool>,
}

struct Container {
    directory: PathBuf,
    record: Mutex<ContainerRecord>,
    phase: watch::Sender<Phase>,
    starting: tokio::sync::Mutex<()>,
}

fn internal(what: &'static str) -> impl FnOnce(std::io::Error) -> Error {
    move |e| Error::Internal(format!("failed to {what}: {e}"))
}

fn lost(e: std::io::Error) -> Error {
    Error::Unavailable(format!("sandbox shim does not answer: {e}"))
}

async fn blocking<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> Result<T> {
    tokio::task::spawn_blocking(work).await.map_err(|e| Error::Internal(e.to_string()))
}

/// Finishes `work` even if the caller goes away in the middle: half a sandbox helps nobody.
async fn to_the_end<T: Send + 'static>(work: impl Future<Output = Result<T>> + Send + 'static) -> Result<T> {
    tokio::spawn(work).await.map_err(|e| Error::Internal(e.to_string()))?
}

impl Runtime {
    /// Opens the runtime's directories and finds every sandbox and container again.
    ///
    /// Errors: another process has them open; a record that can't be read names its file.
    pub async fn open(options: RuntimeOptions) -> Result<Arc<Runtime>> {
        for dir in [&options.root, &options.root.join("sandboxes"), &options.root.join("containers"), &options.state] {
            fs::create_dir_all(dir).map_err(internal("create runtime directory"))?;
        }
        let lock_path = options.root.join("lock");
        let file = fs::File::create(&lock_path).map_err(internal("open lock"))?;
        let lock = Flock::lock(file, FlockArg::LockExclusiveNonblock).map_err(|_| {
            Error::Unavailable(format!("another process uses the runtime directory {}", options.root.display()))
        })?;
        let store = Arc::new(Store::open(&options.root).map_err(image_error)?);
        store.sweep().map_err(image_error)?;
        let _ = fs::remove_dir_all(options.root.join("trash"));
        let cgroups = sys::cgroup::Manager::detect("skiff").map_err(|e| Error::Internal(e.to_string()))?;
        let shared = Arc::new(Shared {
            executable: readonly_executable(&options.shim_exe),
            options,
            store,
            cgroups,
            sandboxes: RwLock::default(),
            containers: RwLock::default(),
            events: Events::default(),
            pulls: Mutex::default(),
            hello_tried: watch::Sender::new(false),
            _lock: lock,
        });
        shared.clone().recover().await?;
        Ok(Arc::new(Runtime { shared }))
    }

    /// The image store, for imports beside CRI.
    pub fn images(&self) -> Arc<Store> {
        self.shared.store.clone()
    }

    /// Makes `skiff.local/hello:latest` of `exe`, if it isn't there already.
    pub async fn ensure_hello(&self, exe: &Path) -> Result<Image> {
        let (store, exe) = (self.shared.store.clone(), exe.to_owned());
        let made = blocking(move || image::builtin::hello(&store, &exe)).await;
        self.shared.hello_tried.send_replace(true);
        Ok(image_of(&made?.map_err(image_error)?))
    }

    /// Imports an archive (OCI or `docker save`, also compressed) or an OCI layout directory.
    pub async fn import(&self, path: &Path) -> Result<Vec<Image>> {
        let (store, path) = (self.shared.store.clone(), path.to_owned());
        let records = blocking(move || image::archive::import(&store, &path)).await?.map_err(image_error)?;
        Ok(records.iter().map(image_of).collect())
    }
}

/// A clone of the mount that holds the executable, read-only. `None` where we may not mount.
fn readonly_executable(exe: &Path) -> Option<OwnedFd> {
    use sys::mount::{ATTR_RDONLY, Propagation, clone_tree, set_attributes};
    let tree = clone_tree(exe, false).ok()?;
    set_attributes(tree.as_fd(), ATTR_RDONLY, 0, Propagation::Private, false).ok()?;
    Some(tree)
}

impl Shared {
    fn sandbox(&self, id: &str) -> Result<Arc<Sandbox>> {
        self.sandboxes
            .read()
            .get(id)
            .cloned()
            .ok_or_else(|| Error::NotFound(format!("an error occurred when try to find sandbox: not found: {id}")))
    }

    fn container(&self, id: &str) -> Result<Arc<Container>> {
        self.containers
            .read()
            .get(id)
            .cloned()
            .ok_or_else(|| Error::NotFound(format!("an error occurred when try to find container {id:?}: not found")))
    }

    fn containers_of(&self, sandbox: &str) -> Vec<Arc<Container>> {
        self.containers.read().values().filter(|c| c.record.lock().sandbox_id == sandbox).cloned().collect()
    }
}

fn phase_name(phase: &Phase) -> &'static str {
    match phase {
        Phase::Created => "CONTAINER_CREATED",
        Phase::Running(_) => "CONTAINER_RUNNING",
        Phase::Exited(_) => "CONTAINER_EXITED",
    }
}

fn copy_root_attributes(from: &Path, to: &Path) {
    use std::os::unix::fs::MetadataExt;
    if let Ok(meta) = fs::metadata(from) {
        let _ = std::os::unix::fs::chown(to, Some(meta.uid()), Some(meta.gid()));
        let _ = fs::set_permissions(to, meta.permissions());
    }
}

/// A Kubernetes quantity of bits per second; only the forms that bandwidth annotations have.
fn bits_per_second(text: &str) -> Option<u64> {
    let at = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    let (number, unit) = text.split_at(at);
    let factor = match unit {
        "" => 1,
        "k" => 1_000,
        "M" => 1_000_000,
        "G" => 1_000_000_000,
        "Ki" => 1 << 10,
        "Mi" => 1 << 20,
        "Gi" => 1 << 30,
        _ => return None,
    };
    number.parse::<u64>().ok()?.checked_mul(factor)
}

fn image_error(e: image::Error) -> Error {
    match e {
        image::Error::NotFound(_) => Error::NotFound(e.to_string()),
        image::Error::Name { .. } => Error::InvalidArgument(e.to_string()),
        _ => Error::Internal(e.to_string()),
    }
}

fn image_of(record: &image::Record) -> Image {
    let user = record.config.user.as_deref().unwrap_or_default().split(':').next().unwrap_or_default();
    let uid = user.parse().ok();
    Image {
        id: record.id.clone(),
        repo_tags: record.tags.iter().cloned().collect(),
        repo_digests: record.digests.iter().cloned().collect(),
        size_bytes: record.size_bytes,
        uid,
        username: if uid.is_some() { String::new() } else { user.to_owned() },
        pinned: record.pinned,
    }
}
