//! The runtime: what it holds in memory, how it finds everything again when it opens, and CRI's two services.

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
    AuthConfig, ContainerConfig, ContainerStats, ContainerStatus, Duplex, Error, ExecOptions,
    ExecResult, FilesystemUsage, Image, ImageService, LinuxResources, PodNetworkRequest,
    PodSandboxConfig, PodSandboxStatus, Result, RuntimeEvent, RuntimeService, SandboxState,
    SecurityProfile, Session, Version,
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
    tokio::task::spawn_blocking(work)
        .await
        .map_err(|e| Error::Internal(e.to_string()))
}

/// Finishes `work` even if the caller goes away in the middle: half a sandbox helps nobody.
async fn to_the_end<T: Send + 'static>(
    work: impl Future<Output = Result<T>> + Send + 'static,
) -> Result<T> {
    tokio::spawn(work)
        .await
        .map_err(|e| Error::Internal(e.to_string()))?
}

impl Runtime {
    /// Opens the runtime's directories and finds every sandbox and container again.
    ///
    /// Errors: another process has them open; a record that can't be read names its file.
    pub async fn open(options: RuntimeOptions) -> Result<Arc<Runtime>> {
        for dir in [
            &options.root,
            &options.root.join("sandboxes"),
            &options.root.join("containers"),
            &options.state,
        ] {
            fs::create_dir_all(dir).map_err(internal("create runtime directory"))?;
        }
        let lock_path = options.root.join("lock");
        let file = fs::File::create(&lock_path).map_err(internal("open lock"))?;
        let lock = Flock::lock(file, FlockArg::LockExclusiveNonblock).map_err(|_| {
            Error::Unavailable(format!(
                "another process uses the runtime directory {}",
                options.root.display()
            ))
        })?;
        let store = Arc::new(Store::open(&options.root).map_err(image_error)?);
        store.sweep().map_err(image_error)?;
        let _ = fs::remove_dir_all(options.root.join("trash"));
        let cgroups =
            sys::cgroup::Manager::detect("skiff").map_err(|e| Error::Internal(e.to_string()))?;
        let shared = Arc::new(Shared {
            executable: readonly_executable(&options.shim_exe),
            options,
            store,
            cgroups,
            sandboxes: RwLock::default(),
            containers: RwLock::default(),
            events: Events::default(),
            pulls: Mutex::default(),
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
        let record = blocking(move || image::builtin::hello(&store, &exe))
            .await?
            .map_err(image_error)?;
        Ok(image_of(&record))
    }

    /// Imports an archive (OCI or `docker save`, also compressed) or an OCI layout directory.
    pub async fn import(&self, path: &Path) -> Result<Vec<Image>> {
        let (store, path) = (self.shared.store.clone(), path.to_owned());
        let records = blocking(move || image::archive::import(&store, &path))
            .await?
            .map_err(image_error)?;
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
        self.sandboxes.read().get(id).cloned().ok_or_else(|| {
            Error::NotFound(format!(
                "an error occurred when try to find sandbox: not found: {id}"
            ))
        })
    }

    fn container(&self, id: &str) -> Result<Arc<Container>> {
        self.containers.read().get(id).cloned().ok_or_else(|| {
            Error::NotFound(format!(
                "an error occurred when try to find container {id:?}: not found"
            ))
        })
    }

    fn containers_of(&self, sandbox: &str) -> Vec<Arc<Container>> {
        self.containers
            .read()
            .values()
            .filter(|c| c.record.lock().sandbox_id == sandbox)
            .cloned()
            .collect()
    }

    // ---- finding everything again -----------------------------------------------------------------------------

    async fn recover(self: Arc<Self>) -> Result<()> {
        let names = |dir: PathBuf| -> Vec<String> {
            fs::read_dir(dir)
                .map(|d| {
                    d.flatten()
                        .map(|e| e.file_name().to_string_lossy().into_owned())
                        .collect()
                })
                .unwrap_or_default()
        };
        for id in names(self.options.root.join("containers")) {
            let directory = self.options.root.join("containers").join(&id);
            let Some(record) = state::read::<ContainerRecord>(&directory.join(container::RECORD))
                .map_err(internal("read container"))?
            else {
                self.discard(&directory);
                continue;
            };
            let phase = match state::read::<Exit>(&directory.join(container::EXIT)) {
                Ok(Some(exit)) => Phase::Exited(exit),
                _ => Phase::Created,
            };
            let container = Container {
                directory,
                record: Mutex::new(record),
                phase: watch::Sender::new(phase),
                starting: tokio::sync::Mutex::default(),
            };
            self.containers.write().insert(id, Arc::new(container));
        }
        for id in names(self.options.root.join("sandboxes")) {
            let places = SandboxPlaces::new(&self.options.root, &self.options.state, &id);
            let record: Option<SandboxRecord> =
                state::read(&places.persistent.join(sandbox::RECORD))
                    .map_err(internal("read sandbox"))?;
            let Some(record) = record.filter(|r| r.life != Life::Creating) else {
                info!(sandbox = %id, "discarding a sandbox that was never finished");
                let _ = self.options.network.teardown(&id, &places.netns).await;
                sandbox::kill_shim(&places);
                sandbox::clear_state(&places);
                self.discard(&places.persistent);
                continue;
            };
            let was_ready = record.life == Life::Ready;
            let sandbox = Arc::new(Sandbox {
                places,
                record: Mutex::new(record),
                changing: tokio::sync::Mutex::default(),
                alive: watch::Sender::new(false),
            });
            self.sandboxes.write().insert(id.clone(), sandbox.clone());
            if was_ready {
                match self.subscribe(&sandbox).await {
                    Ok(connection) => self.clone().supervise(sandbox.clone(), connection),
                    Err(e) => {
                        info!(sandbox = %id, error = %e, "sandbox is gone");
                        sandbox::kill_shim(&sandbox.places);
                        self.shim_gone(&sandbox).await;
                    }
                }
            } else {
                self.shim_gone(&sandbox).await;
            }
        }
        let orphans: Vec<String> = {
            let sandboxes = self.sandboxes.read();
            self.containers
                .read()
                .iter()
                .filter(|(_, c)| !sandboxes.contains_key(&c.record.lock().sandbox_id))
                .map(|(id, _)| id.clone())
                .collect()
        };
        for id in orphans {
            if let Some(container) = self.containers.write().remove(&id) {
                let _ = self
                    .cgroups
                    .kill(&container.record.lock().cgroup, Duration::from_secs(5));
                self.discard(&container.directory);
            }
        }
        let live: Vec<String> = self.sandboxes.read().keys().cloned().collect();
        self.options.network.reconcile(&live).await
    }

    /// Out of sight at once, deleted in the background.
    fn discard(&self, directory: &Path) {
        let trash = self.options.root.join("trash");
        let target = trash.join(new_id());
        let _ = fs::create_dir_all(&trash);
        if fs::rename(directory, &target).is_ok() {
            tokio::task::spawn_blocking(move || fs::remove_dir_all(target));
        } else {
            let _ = fs::remove_dir_all(directory);
        }
    }

    // ---- hearing of ends --------------------------------------------------------------------------------------

    /// Connects to a shim and learns what runs.
    async fn subscribe(&self, sandbox: &Sandbox) -> Result<Connection> {
        let mut connection = Connection::open(&sandbox.places.state).map_err(lost)?;
        connection
            .send(&Request::Subscribe, &[])
            .await
            .map_err(lost)?;
        let (reply, _) = connection.receive().await.map_err(lost)?;
        let Reply::Running { containers, .. } = reply else {
            return Err(Error::Internal(
                "unexpected answer from the shim".to_owned(),
            ));
        };
        for started in containers {
            self.started(&started);
        }
        sandbox.alive.send_replace(true);
        Ok(connection)
    }

    fn supervise(self: Arc<Self>, sandbox: Arc<Sandbox>, mut connection: Connection) {
        // Weakly: a runtime that is dropped must let go of its directory, though the pods and this task live on.
        let shared = Arc::downgrade(&self);
        tokio::spawn(async move {
            loop {
                let message = connection.receive().await;
                let Some(shared) = shared.upgrade() else {
                    return;
                };
                match message {
                    Ok((Reply::Exited(exit), _)) => shared.exited(exit),
                    Ok((Reply::Started(started), _)) => shared.started(&started),
                    Ok(_) => {}
                    Err(_) => return shared.shim_gone(&sandbox).await,
                }
            }
        });
    }

    fn started(&self, started: &Started) {
        let Some(container) = self.containers.read().get(&started.container).cloned() else {
            return;
        };
        let changed = container.phase.send_if_modified(|phase| {
            let begins = matches!(phase, Phase::Created);
            if begins {
                *phase = Phase::Running(started.clone());
            }
            begins
        });
        if changed {
            let sandbox_id = container.record.lock().sandbox_id.clone();
            self.events.send(&RuntimeEvent::ContainerStarted {
                sandbox_id,
                container_id: started.container.clone(),
            });
        }
    }

    fn exited(&self, exit: Exit) {
        let Some(container) = self.containers.read().get(&exit.container).cloned() else {
            return;
        };
        let container_id = exit.container.clone();
        let changed = container.phase.send_if_modified(|phase| {
            let ends = !matches!(phase, Phase::Exited(_));
            if ends {
                *phase = Phase::Exited(exit);
            }
            ends
        });
        if changed {
            let sandbox_id = container.record.lock().sandbox_id.clone();
            self.events.send(&RuntimeEvent::ContainerExited {
                sandbox_id,
                container_id,
            });
        }
    }

    /// The shim has ended: by our wish, or killed. What it left running must not run without a keeper.
    async fn shim_gone(&self, sandbox: &Arc<Sandbox>) {
        let id = sandbox.record.lock().id.clone();
        for container in self.containers_of(&id) {
            if matches!(&*container.phase.borrow(), Phase::Exited(_)) {
                continue;
            }
            let record = container.record.lock().clone();
            let cgroup = record.cgroup.clone();
            let cgroups = self.cgroups.clone();
            let _ = blocking(move || {
                let _ = cgroups.kill(&cgroup, Duration::from_secs(10));
                let _ = cgroups.remove(&cgroup);
            })
            .await;
            let recorded = state::read::<Exit>(&container.directory.join(container::EXIT))
                .ok()
                .flatten();
            let exit = recorded.unwrap_or_else(|| {
                let started = match &*container.phase.borrow() {
                    Phase::Running(started) => started.clone(),
                    _ => Started {
                        container: record.id.clone(),
                        ..Started::default()
                    },
                };
                let failure = Some((
                    "Unknown".to_owned(),
                    "the container's sandbox ended, or the machine was restarted".to_owned(),
                ));
                // containerd's code for an end that nobody saw.
                let exit = Exit {
                    container: record.id.clone(),
                    exit_code: 255,
                    finished_at_ns: now_ns(),
                    started,
                    failure,
                    ..Exit::default()
                };
                let _ = state::write(
                    &container.directory.join(container::EXIT),
                    &exit,
                    Durability::Disk,
                );
                exit
            });
            self.exited(exit);
        }
        {
            let mut record = sandbox.record.lock();
            if record.life == Life::Ready {
                record.life = Life::Stopped;
                if let Err(e) = record.save(&sandbox.places) {
                    warn!(sandbox = %id, error = %e, "sandbox record not saved");
                }
            }
        }
        sandbox.alive.send_replace(false);
        self.events
            .send(&RuntimeEvent::SandboxStopped { sandbox_id: id });
    }

    // ---- sandboxes --------------------------------------------------------------------------------------------

    async fn run_sandbox(self: Arc<Self>, config: PodSandboxConfig) -> Result<String> {
        let id = new_id();
        let places = SandboxPlaces::new(&self.options.root, &self.options.state, &id);
        let record = SandboxRecord {
            id: id.clone(),
            config,
            created_at_ns: now_ns(),
            ips: Vec::new(),
            life: Life::Creating,
        };
        match self.make_sandbox(record, &places).await {
            Ok((sandbox, connection)) => {
                self.sandboxes.write().insert(id.clone(), sandbox.clone());
                self.supervise(sandbox, connection);
                Ok(id)
            }
            Err(e) => {
                let _ = self.options.network.teardown(&id, &places.netns).await;
                let _ = call(&places.state, &Request::Shutdown).await;
                let _ = blocking(move || {
                    sandbox::kill_shim(&places);
                    sandbox::clear_state(&places);
                    let _ = fs::remove_dir_all(&places.persistent);
                })
                .await;
                Err(e)
            }
        }
    }

    async fn make_sandbox(
        &self,
        mut record: SandboxRecord,
        places: &SandboxPlaces,
    ) -> Result<(Arc<Sandbox>, Connection)> {
        {
            let (record, places) = (record.clone(), places.clone());
            blocking(move || sandbox::prepare(&record, &places)).await??;
        }
        sandbox::start_shim(
            places,
            &self.options.shim_exe,
            &self.options.shim_args,
            self.executable.as_ref(),
        )
        .await?;
        if !record.host_network() {
            let metadata = &record.config.metadata;
            let bandwidth = |name: &str| {
                record
                    .config
                    .annotations
                    .get(name)
                    .and_then(|v| bits_per_second(v))
            };
            let request = PodNetworkRequest {
                sandbox_id: record.id.clone(),
                pod_namespace: metadata.namespace.clone(),
                pod_name: metadata.name.clone(),
                pod_uid: metadata.uid.clone(),
                port_mappings: record.config.port_mappings.clone(),
                ingress_bps: bandwidth("kubernetes.io/ingress-bandwidth"),
                egress_bps: bandwidth("kubernetes.io/egress-bandwidth"),
            };
            let ips = self
                .options
                .network
                .setup(&request, &places.netns)
                .await
                .map_err(|e| {
                    Error::Internal(format!(
                        "failed to setup network for sandbox {:?}: {e}",
                        record.id
                    ))
                })?;
            record.ips = ips.iter().map(ToString::to_string).collect();
        }
        record.life = Life::Ready;
        record.save(places)?;
        let sandbox = Arc::new(Sandbox {
            places: places.clone(),
            record: Mutex::new(record),
            changing: tokio::sync::Mutex::default(),
            alive: watch::Sender::new(false),
        });
        let connection = self.subscribe(&sandbox).await?;
        Ok((sandbox, connection))
    }

    async fn stop_sandbox(self: Arc<Self>, sandbox: Arc<Sandbox>) -> Result<()> {
        let _changing = sandbox.changing.lock().await;
        self.stop_sandbox_locked(&sandbox).await
    }

    async fn stop_sandbox_locked(self: &Arc<Self>, sandbox: &Arc<Sandbox>) -> Result<()> {
        let record = sandbox.record.lock().clone();
        let mut alive = sandbox.alive.subscribe();
        if *alive.borrow() {
            let shutdown = tokio::time::timeout(
                KILL_TIMEOUT,
                call(&sandbox.places.state, &Request::Shutdown),
            )
            .await;
            if !matches!(shutdown, Ok(Ok(_))) {
                let places = sandbox.places.clone();
                blocking(move || sandbox::kill_shim(&places)).await?;
            }
            // By then every container's end has been heard.
            let _ = tokio::time::timeout(KILL_TIMEOUT, alive.wait_for(|alive| !alive)).await;
        }
        if !record.host_network() {
            let failed = |e| {
                Error::Internal(format!(
                    "failed to destroy network for sandbox {:?}: {e}",
                    record.id
                ))
            };
            self.options
                .network
                .teardown(&record.id, &sandbox.places.netns)
                .await
                .map_err(failed)?;
        }
        let places = sandbox.places.clone();
        blocking(move || sandbox::clear_state(&places)).await?;
        let mut record = sandbox.record.lock();
        record.life = Life::Stopped;
        record.save(&sandbox.places)
    }

    async fn remove_sandbox(self: Arc<Self>, sandbox: Arc<Sandbox>) -> Result<()> {
        let _changing = sandbox.changing.lock().await;
        let id = sandbox.record.lock().id.clone();
        if !self.sandboxes.read().contains_key(&id) {
            return Ok(());
        }
        self.stop_sandbox_locked(&sandbox).await?;
        for container in self.containers_of(&id) {
            self.clone().remove_container(container).await?;
        }
        self.sandboxes.write().remove(&id);
        self.discard(&sandbox.places.persistent);
        Ok(())
    }

    fn sandbox_status(sandbox: &Sandbox) -> PodSandboxStatus {
        let record = sandbox.record.lock();
        let ready = record.life == Life::Ready && *sandbox.alive.borrow();
        PodSandboxStatus {
            id: record.id.clone(),
            metadata: record.config.metadata.clone(),
            state: if ready {
                SandboxState::Ready
            } else {
                SandboxState::NotReady
            },
            created_at_ns: record.created_at_ns,
            ips: record.ips.clone(),
            namespaces: record.config.namespaces.clone(),
            labels: record.config.labels.clone(),
            annotations: record.config.annotations.clone(),
        }
    }

    // ---- containers -------------------------------------------------------------------------------------------

    async fn create_container(
        self: Arc<Self>,
        sandbox_id: String,
        config: ContainerConfig,
    ) -> Result<String> {
        let sandbox = self.sandbox(&sandbox_id)?;
        if Self::sandbox_status(&sandbox).state != SandboxState::Ready {
            return Err(Error::Internal(format!(
                "sandbox {sandbox_id} is not running"
            )));
        }
        container::capabilities(&config).map_err(Error::InvalidArgument)?;
        let shared = self.clone();
        blocking(move || shared.create_container_blocking(&sandbox, config)).await?
    }

    fn create_container_blocking(
        &self,
        sandbox: &Sandbox,
        config: ContainerConfig,
    ) -> Result<String> {
        // No layer may go between looking the image up and writing down that we use it.
        let lease = self.store.lease().map_err(image_error)?;
        let find = |name: &str| {
            let found = self.store.find(name).map_err(image_error)?;
            found.ok_or_else(|| {
                Error::NotFound(format!("failed to resolve image {name:?}: not found"))
            })
        };
        let image = find(&config.image)?;
        let mut image_volumes = Vec::new();
        for mount in &config.mounts {
            if let Some(name) = &mount.image {
                image_volumes.push(self.store.lower(&find(name)?));
            } else if !Path::new(&mount.host_path).exists() {
                fs::create_dir_all(&mount.host_path).map_err(|e| {
                    Error::Internal(format!("failed to mkdir {:?}: {e}", mount.host_path))
                })?;
            }
        }
        let id = new_id();
        let (log_directory, parent, sandbox_id) = {
            let record = sandbox.record.lock();
            (
                record.config.log_directory.clone(),
                record.config.cgroup_parent.clone(),
                record.id.clone(),
            )
        };
        let log_path = if log_directory.is_empty() || config.log_path.is_empty() {
            String::new()
        } else {
            Path::new(&log_directory)
                .join(&config.log_path)
                .to_string_lossy()
                .into_owned()
        };
        let parent = if parent.trim_matches('/').is_empty() {
            "skiff"
        } else {
            parent.trim_matches('/')
        };
        let record = ContainerRecord {
            id: id.clone(),
            sandbox_id,
            created_at_ns: now_ns(),
            image_id: image.id.clone(),
            layers: self.store.lower(&image),
            image_volumes,
            image_config: image.config.clone(),
            log_path,
            cgroup: format!("/{parent}/{id}"),
            resources: config.resources.clone(),
            config,
        };
        let directory = self.options.root.join("containers").join(&id);
        for name in ["upper", "work", "rootfs"] {
            fs::create_dir_all(directory.join(name))
                .map_err(internal("create container directory"))?;
        }
        // The upper directory is the root directory that the container sees.
        if let Some(top) = record.layers.first() {
            copy_root_attributes(
                &self.store.layers_dir().join(top).join("fs"),
                &directory.join("upper"),
            );
        }
        state::write(
            &directory.join(container::RECORD),
            &record,
            Durability::Process,
        )
        .map_err(internal("save container"))?;
        drop(lease);
        let container = Container {
            directory,
            record: Mutex::new(record),
            phase: watch::Sender::new(Phase::Created),
            starting: tokio::sync::Mutex::default(),
        };
        self.containers
            .write()
            .insert(id.clone(), Arc::new(container));
        Ok(id)
    }

    /// The whole specification of a container, with its device rules. Blocking.
    fn spec(&self, container: &Container) -> Result<(ContainerSpec, Vec<sys::cgroup::DeviceRule>)> {
        let record = container.record.lock().clone();
        let sandbox = self.sandbox(&record.sandbox_id)?;
        let security = &record.config.security;
        let capabilities =
            container::capabilities(&record.config).map_err(Error::InvalidArgument)?;
        let filters = self.options.state.join("seccomp");
        let seccomp = match &security.seccomp {
            _ if security.privileged => None,
            SecurityProfile::Unconfined => None,
            SecurityProfile::RuntimeDefault => {
                Some(crate::seccomp::runtime_default(&filters, capabilities))
            }
            SecurityProfile::Localhost(path) => {
                Some(crate::seccomp::localhost(&filters, Path::new(path)))
            }
        };
        let seccomp = seccomp.transpose().map_err(Error::InvalidArgument)?;
        let (devices, rules) =
            container::devices(&record.config).map_err(Error::InvalidArgument)?;
        let target_pid = match &security.target_container_id {
            Some(id) => match &*self.container(id)?.phase.borrow() {
                Phase::Running(started) => Some(started.pid),
                _ => {
                    return Err(Error::InvalidArgument(format!(
                        "target container {id} is not running"
                    )));
                }
            },
            None => None,
        };
        let sandbox_record = sandbox.record.lock().clone();
        let shm = sandbox.places.shm();
        let places = Places {
            layers: &self.store.layers_dir(),
            container: &container.directory,
            sandbox: &sandbox.places.persistent,
            shm: (!sandbox_record.host_ipc()).then_some(shm.as_path()),
            seccomp,
            target_pid,
            host_hostname: &sandbox::host_hostname(),
            devices,
        };
        let spec =
            container::plan(&record, &sandbox_record, places).map_err(Error::InvalidArgument)?;
        Ok((spec, rules))
    }

    async fn start_container(self: Arc<Self>, container: Arc<Container>) -> Result<()> {
        let _starting = container.starting.lock().await;
        let record = container.record.lock().clone();
        if !matches!(&*container.phase.borrow(), Phase::Created) {
            return Err(Error::InvalidArgument(format!(
                "container {:?} is not in created state",
                record.id
            )));
        }
        let sandbox = self.sandbox(&record.sandbox_id)?;
        let (shared, same) = (self.clone(), container.clone());
        let prepared = blocking(move || {
            let (spec, rules) = shared.spec(&same)?;
            let record = same.record.lock().clone();
            let failed = |e: sys::cgroup::Error| {
                Error::Start(format!("failed to create container cgroup: {e}"))
            };
            shared.cgroups.create(&record.cgroup).map_err(failed)?;
            shared
                .cgroups
                .set(
                    &record.cgroup,
                    &container::cgroup_resources(&record.resources, Some(rules)),
                )
                .map_err(failed)?;
            Ok(spec)
        })
        .await?;
        let result = match prepared {
            Ok(spec) => match call(&sandbox.places.state, &Request::Start(Box::new(spec))).await {
                Ok((Reply::Started(started), _)) => Ok(started),
                Ok((Reply::Failed { message }, _)) => Err(Error::Start(format!(
                    "failed to create containerd task: unable to start container process: {message}"
                ))),
                Ok((other, _)) => Err(Error::Internal(format!(
                    "unexpected answer from the shim: {other:?}"
                ))),
                Err(e) => Err(lost(e)),
            },
            Err(e) => Err(e),
        };
        match result {
            Ok(started) => {
                self.started(&started);
                Ok(())
            }
            Err(e) => {
                let failure = Some(("StartError".to_owned(), e.to_string()));
                let exit = Exit {
                    container: record.id.clone(),
                    exit_code: 128,
                    finished_at_ns: now_ns(),
                    failure,
                    ..Exit::default()
                };
                let _ = state::write(
                    &container.directory.join(container::EXIT),
                    &exit,
                    Durability::Disk,
                );
                let (cgroups, cgroup) = (self.cgroups.clone(), record.cgroup.clone());
                let _ = blocking(move || cgroups.remove(&cgroup)).await;
                self.exited(exit);
                Err(e)
            }
        }
    }

    async fn signal(&self, container: &Container, signal: i32) -> Result<()> {
        let record = container.record.lock().clone();
        let sandbox = self.sandbox(&record.sandbox_id)?;
        // Not there any more is as good as signalled: its end is on its way to us.
        call(
            &sandbox.places.state,
            &Request::Signal {
                container: record.id,
                signal,
            },
        )
        .await
        .map(drop)
        .or_else(|e| {
            if *sandbox.alive.borrow() {
                Err(lost(e))
            } else {
                Ok(())
            }
        })
    }

    async fn stop_container(
        self: Arc<Self>,
        container: Arc<Container>,
        grace: Duration,
    ) -> Result<()> {
        let mut phase = container.phase.subscribe();
        if !matches!(&*phase.borrow(), Phase::Running(_)) {
            return Ok(());
        }
        let is_over = |phase: &Phase| matches!(phase, Phase::Exited(_));
        if !grace.is_zero() {
            let signal = container::stop_signal(&container.record.lock());
            self.signal(&container, signal).await?;
            if tokio::time::timeout(grace, phase.wait_for(is_over))
                .await
                .is_ok()
            {
                return Ok(());
            }
        }
        self.signal(&container, libc::SIGKILL).await?;
        if tokio::time::timeout(KILL_TIMEOUT, phase.wait_for(is_over))
            .await
            .is_ok()
        {
            return Ok(());
        }
        Err(Error::DeadlineExceeded(format!(
            "container {} does not die",
            container.record.lock().id
        )))
    }

    async fn remove_container(self: Arc<Self>, container: Arc<Container>) -> Result<()> {
        self.clone()
            .stop_container(container.clone(), Duration::ZERO)
            .await?;
        let record = container.record.lock().clone();
        let (cgroups, cgroup) = (self.cgroups.clone(), record.cgroup.clone());
        if let Err(e) = blocking(move || cgroups.remove(&cgroup)).await? {
            warn!(container = %record.id, error = %e, "cgroup not removed");
        }
        self.containers.write().remove(&record.id);
        self.discard(&container.directory);
        Ok(())
    }

    async fn exec_process(
        self: &Arc<Self>,
        id: &str,
        command: &[String],
        tty: bool,
    ) -> Result<(Arc<Sandbox>, crate::spec::ProcessSpec)> {
        let container = self.container(id)?;
        if !matches!(&*container.phase.borrow(), Phase::Running(_)) {
            return Err(Error::InvalidArgument(format!(
                "container {id} is in {} state",
                phase_name(&container.phase.borrow())
            )));
        }
        if command.is_empty() {
            return Err(Error::InvalidArgument("no command specified".to_owned()));
        }
        let sandbox_id = container.record.lock().sandbox_id.clone();
        let sandbox = self.sandbox(&sandbox_id)?;
        let shared = self.clone();
        let (spec, _) = blocking(move || shared.spec(&container)).await??;
        let mut process = spec.process;
        process.args = command.to_vec();
        process.tty = tty;
        if tty && !process.env.iter().any(|(name, _)| name == "TERM") {
            process.env.push(("TERM".to_owned(), "xterm".to_owned()));
        }
        Ok((sandbox, process))
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
    let at = text
        .find(|c: char| !c.is_ascii_digit())
        .unwrap_or(text.len());
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
    let user = record
        .config
        .user
        .as_deref()
        .unwrap_or_default()
        .split(':')
        .next()
        .unwrap_or_default();
    let uid = user.parse().ok();
    Image {
        id: record.id.clone(),
        repo_tags: record.tags.iter().cloned().collect(),
        repo_digests: record.digests.iter().cloned().collect(),
        size_bytes: record.size_bytes,
        uid,
        username: if uid.is_some() {
            String::new()
        } else {
            user.to_owned()
        },
        pinned: record.pinned,
    }
}

#[async_trait]
impl RuntimeService for Runtime {
    async fn version(&self) -> Result<Version> {
        Ok(Version {
            runtime_name: "skiff".to_owned(),
            runtime_version: env!("CARGO_PKG_VERSION").to_owned(),
        })
    }

    async fn ready(&self) -> std::result::Result<(), String> {
        Ok(())
    }

    async fn network_ready(&self) -> std::result::Result<(), String> {
        self.shared.options.network.ready().await
    }

    async fn run_pod_sandbox(
        &self,
        config: &PodSandboxConfig,
        runtime_handler: &str,
    ) -> Result<String> {
        if !runtime_handler.is_empty() {
            return Err(Error::InvalidArgument(format!(
                "no runtime for {runtime_handler:?} is configured"
            )));
        }
        to_the_end(self.shared.clone().run_sandbox(config.clone())).await
    }

    async fn stop_pod_sandbox(&self, id: &str) -> Result<()> {
        match self.shared.sandbox(id) {
            Ok(sandbox) => to_the_end(self.shared.clone().stop_sandbox(sandbox)).await,
            Err(_) => Ok(()),
        }
    }

    async fn remove_pod_sandbox(&self, id: &str) -> Result<()> {
        match self.shared.sandbox(id) {
            Ok(sandbox) => to_the_end(self.shared.clone().remove_sandbox(sandbox)).await,
            Err(_) => Ok(()),
        }
    }

    async fn pod_sandbox_status(&self, id: &str) -> Result<PodSandboxStatus> {
        Ok(Shared::sandbox_status(&*self.shared.sandbox(id)?))
    }

    async fn list_pod_sandboxes(&self) -> Result<Vec<PodSandboxStatus>> {
        Ok(self
            .shared
            .sandboxes
            .read()
            .values()
            .map(|s| Shared::sandbox_status(s))
            .collect())
    }

    async fn create_container(&self, sandbox_id: &str, config: &ContainerConfig) -> Result<String> {
        to_the_end(
            self.shared
                .clone()
                .create_container(sandbox_id.to_owned(), config.clone()),
        )
        .await
    }

    async fn start_container(&self, id: &str) -> Result<()> {
        let container = self.shared.container(id)?;
        to_the_end(self.shared.clone().start_container(container)).await
    }

    async fn stop_container(&self, id: &str, grace: Duration) -> Result<()> {
        match self.shared.container(id) {
            Ok(container) => self.shared.clone().stop_container(container, grace).await,
            Err(_) => Ok(()),
        }
    }

    async fn remove_container(&self, id: &str) -> Result<()> {
        match self.shared.container(id) {
            Ok(container) => to_the_end(self.shared.clone().remove_container(container)).await,
            Err(_) => Ok(()),
        }
    }

    async fn container_status(&self, id: &str) -> Result<ContainerStatus> {
        let container = self.shared.container(id)?;
        let record = container.record.lock();
        Ok(container::status(&record, &container.phase.borrow()))
    }

    async fn list_containers(&self) -> Result<Vec<ContainerStatus>> {
        let containers: Vec<Arc<Container>> =
            self.shared.containers.read().values().cloned().collect();
        Ok(containers
            .iter()
            .map(|c| container::status(&c.record.lock(), &c.phase.borrow()))
            .collect())
    }

    async fn update_container_resources(&self, id: &str, resources: &LinuxResources) -> Result<()> {
        let container = self.shared.container(id)?;
        let mut record = container.record.lock().clone();
        record.resources = container::merge_resources(&record.resources, resources);
        if matches!(&*container.phase.borrow(), Phase::Running(_)) {
            let (cgroups, cgroup, limits) = (
                self.shared.cgroups.clone(),
                record.cgroup.clone(),
                container::cgroup_resources(resources, None),
            );
            let result = blocking(move || cgroups.set(&cgroup, &limits)).await?;
            result.map_err(|e| Error::Internal(format!("failed to update resources: {e}")))?;
        }
        state::write(
            &container.directory.join(container::RECORD),
            &record,
            Durability::Process,
        )
        .map_err(internal("save container"))?;
        *container.record.lock() = record;
        Ok(())
    }

    async fn reopen_container_log(&self, id: &str) -> Result<()> {
        let container = self.shared.container(id)?;
        let sandbox_id = container.record.lock().sandbox_id.clone();
        let sandbox = self.shared.sandbox(&sandbox_id)?;
        match call(
            &sandbox.places.state,
            &Request::ReopenLog {
                container: id.to_owned(),
            },
        )
        .await
        .map_err(lost)?
        .0
        {
            Reply::Done => Ok(()),
            Reply::NotFound => Err(Error::NotFound(format!("container {id} is not running"))),
            Reply::Failed { message } => Err(Error::Internal(message)),
            other => Err(Error::Internal(format!(
                "unexpected answer from the shim: {other:?}"
            ))),
        }
    }

    async fn container_stats(&self, id: &str) -> Result<ContainerStats> {
        let container = self.shared.container(id)?;
        let shared = self.shared.clone();
        let id = id.to_owned();
        blocking(move || {
            let cgroup = container.record.lock().cgroup.clone();
            let used = shared.cgroups.stats(&cgroup).unwrap_or_default();
            ContainerStats {
                id,
                timestamp_ns: now_ns(),
                cpu_usage_ns: used.cpu_usage_ns,
                memory_usage_bytes: used.memory_usage_bytes,
                memory_working_set_bytes: used.memory_working_set_bytes,
                memory_rss_bytes: used.memory_rss_bytes,
                rootfs_used_bytes: disk_usage(&container.directory.join("upper")),
                pids: used.pids,
            }
        })
        .await
    }

    async fn exec_sync(
        &self,
        id: &str,
        command: &[String],
        timeout: Duration,
    ) -> Result<ExecResult> {
        let (sandbox, process) = self.shared.exec_process(id, command, false).await?;
        session::exec_sync(&sandbox.places.state, id, process, timeout).await
    }

    async fn exec(&self, id: &str, options: &ExecOptions) -> Result<Session> {
        let (sandbox, process) = self
            .shared
            .exec_process(id, &options.command, options.tty)
            .await?;
        session::exec(&sandbox.places.state, id, process, options).await
    }

    async fn attach(&self, id: &str, options: &ExecOptions) -> Result<Session> {
        let container = self.shared.container(id)?;
        let (sandbox_id, tty) = {
            let record = container.record.lock();
            (record.sandbox_id.clone(), record.config.tty)
        };
        let sandbox = self.shared.sandbox(&sandbox_id)?;
        session::attach(&sandbox.places.state, id, options, tty).await
    }

    async fn port_forward(&self, sandbox_id: &str, port: u16) -> Result<Box<dyn Duplex>> {
        let sandbox = self.shared.sandbox(sandbox_id)?;
        session::port_forward(&sandbox.places.state, sandbox_id, port).await
    }

    async fn events(&self) -> Result<mpsc::Receiver<RuntimeEvent>> {
        Ok(self.shared.events.subscribe())
    }
}

/// Blocks of all files below, each file once.
fn disk_usage(directory: &Path) -> u64 {
    use std::os::unix::fs::MetadataExt;
    let mut bytes = 0;
    let mut pending = vec![directory.to_owned()];
    while let Some(dir) = pending.pop() {
        for entry in fs::read_dir(dir).into_iter().flatten().flatten() {
            if let Ok(meta) = entry.metadata() {
                bytes += if meta.is_dir() {
                    meta.blocks() * 512
                } else {
                    meta.blocks() * 512 / meta.nlink().max(1)
                };
                if meta.is_dir() {
                    pending.push(entry.path());
                }
            }
        }
    }
    bytes
}

#[async_trait]
impl ImageService for Runtime {
    async fn list_images(&self) -> Result<Vec<Image>> {
        Ok(self
            .shared
            .store
            .list()
            .map_err(image_error)?
            .iter()
            .map(image_of)
            .collect())
    }

    async fn image_status(&self, image: &str) -> Result<Option<Image>> {
        Ok(self
            .shared
            .store
            .find(image)
            .map_err(image_error)?
            .as_ref()
            .map(image_of))
    }

    async fn pull_image(&self, image: &str, auth: &[AuthConfig]) -> Result<String> {
        let reference = Reference::parse(image).map_err(|e| Error::Pull {
            reason: "InvalidImageName".to_owned(),
            message: e.to_string(),
        })?;
        let failed = |e: image::Error| Error::Pull {
            reason: "ErrImagePull".to_owned(),
            message: format!("failed to pull and unpack image \"{reference}\": {e}"),
        };
        // Made here, not pulled: no registry has that name.
        if reference.domain == "skiff.local" {
            let found = self.shared.store.find(image).map_err(failed)?;
            return found.map(|r| r.id).ok_or_else(|| {
                failed(image::Error::Registry(format!(
                    "failed to resolve reference \"{reference}\": not found"
                )))
            });
        }
        let turn = self
            .shared
            .pulls
            .lock()
            .entry(reference.to_string())
            .or_default()
            .clone();
        let result = {
            let _turn = turn.lock().await;
            pull::pull(
                &self.shared.store,
                &self.shared.options.registries,
                &reference,
                auth,
            )
            .await
            .map_err(failed)
        };
        drop(turn);
        self.shared
            .pulls
            .lock()
            .retain(|_, turn| Arc::strong_count(turn) > 1);
        result
    }

    async fn remove_image(&self, image: &str) -> Result<()> {
        let (store, name) = (self.shared.store.clone(), image.to_owned());
        let removed = blocking(move || match store.find(&name)? {
            Some(record) => store.remove_id(&record.id),
            None => Ok(()),
        });
        removed.await?.map_err(image_error)
    }

    async fn image_fs_info(&self) -> Result<FilesystemUsage> {
        let path = self.shared.store.path().to_owned();
        let stat = nix::sys::statvfs::statvfs(&path)
            .map_err(|e| Error::Internal(format!("statvfs {}: {e}", path.display())))?;
        let used = self
            .shared
            .store
            .list()
            .map_err(image_error)?
            .iter()
            .map(|r| r.size_bytes)
            .sum();
        let block = stat.fragment_size();
        Ok(FilesystemUsage {
            mountpoint: path.to_string_lossy().into_owned(),
            used_bytes: used,
            inodes_used: stat.files().saturating_sub(stat.files_free()),
            capacity_bytes: stat.blocks() * block,
            available_bytes: stat.blocks_available() * block,
            inodes: stat.files(),
            inodes_free: stat.files_free(),
        })
    }
}
