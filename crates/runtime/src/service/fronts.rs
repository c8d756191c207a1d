//! CRI's two services, as thin fronts of what the other files do.

use super::*;

/// How long the image of our own executable may take at a first start.
const BUILT_IN_PATIENCE: Duration = Duration::from_secs(10);

impl Runtime {
    /// At a first start pods may be there before the built-in image is, which is made beside everything else: a pod
    /// needn't back off for that.
    async fn built_in(&self, image: &str) -> image::Result<Option<image::Record>> {
        let found = self.shared.store.find(image)?;
        if found.is_some() || Reference::parse(image).ok() != Reference::parse(image::builtin::HELLO).ok() {
            return Ok(found);
        }
        let mut tried = self.shared.hello_tried.subscribe();
        let _ = tokio::time::timeout(BUILT_IN_PATIENCE, tried.wait_for(|t| *t)).await;
        self.shared.store.find(image)
    }
}

#[async_trait]
impl RuntimeService for Runtime {
    async fn version(&self) -> Result<Version> {
        Ok(Version { runtime_name: "skiff".to_owned(), runtime_version: env!("CARGO_PKG_VERSION").to_owned() })
    }

    async fn ready(&self) -> std::result::Result<(), String> {
        Ok(())
    }

    async fn network_ready(&self) -> std::result::Result<(), String> {
        self.shared.options.network.ready().await
    }

    async fn run_pod_sandbox(&self, config: &PodSandboxConfig, runtime_handler: &str) -> Result<String> {
        if !runtime_handler.is_empty() {
            return Err(Error::InvalidArgument(format!("no runtime for {runtime_handler:?} is configured")));
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
        Ok(self.shared.sandboxes.read().values().map(|s| Shared::sandbox_status(s)).collect())
    }

    async fn create_container(&self, sandbox_id: &str, config: &ContainerConfig) -> Result<String> {
        to_the_end(self.shared.clone().create_container(sandbox_id.to_owned(), config.clone())).await
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
        let containers: Vec<Arc<Container>> = self.shared.containers.read().values().cloned().collect();
        Ok(containers.iter().map(|c| container::status(&c.record.lock(), &c.phase.borrow())).collect())
    }

    async fn update_container_resources(&self, id: &str, resources: &LinuxResources) -> Result<()> {
        let container = self.shared.container(id)?;
        let mut record = container.record.lock().clone();
        record.resources = container::merge_resources(&record.resources, resources);
        if matches!(&*container.phase.borrow(), Phase::Running(_)) {
            let (cgroups, cgroup, limits) =
                (self.shared.cgroups.clone(), record.cgroup.clone(), container::cgroup_resources(resources, None));
            let result = blocking(move || cgroups.set(&cgroup, &limits)).await?;
            result.map_err(|e| Error::Internal(format!("failed to update resources: {e}")))?;
        }
        state::write(&container.directory.join(container::RECORD), &record, Durability::Process)
            .map_err(internal("save container"))?;
        *container.record.lock() = record;
        Ok(())
    }

    async fn reopen_container_log(&self, id: &str) -> Result<()> {
        let container = self.shared.container(id)?;
        let sandbox_id = container.record.lock().sandbox_id.clone();
        let sandbox = self.shared.sandbox(&sandbox_id)?;
        match call(&sandbox.places.state, &Request::ReopenLog { container: id.to_owned() }).await.map_err(lost)?.0 {
            Reply::Done => Ok(()),
            Reply::NotFound => Err(Error::NotFound(format!("container {id} is not running"))),
            Reply::Failed { message } => Err(Error::Internal(message)),
            other => Err(Error::Internal(format!("unexpected answer from the shim: {other:?}"))),
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

    async fn exec_sync(&self, id: &str, command: &[String], timeout: Duration) -> Result<ExecResult> {
        let (sandbox, process) = self.shared.exec_process(id, command, false).await?;
        session::exec_sync(&sandbox.places.state, id, process, timeout).await
    }

    async fn exec(&self, id: &str, options: &ExecOptions) -> Result<Session> {
        let (sandbox, process) = self.shared.exec_process(id, &options.command, options.tty).await?;
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
                bytes += if meta.is_dir() { meta.blocks() * 512 } else { meta.blocks() * 512 / meta.nlink().max(1) };
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
        Ok(self.shared.store.list().map_err(image_error)?.iter().map(image_of).collect())
    }

    async fn image_status(&self, image: &str) -> Result<Option<Image>> {
        Ok(self.shared.store.find(image).map_err(image_error)?.as_ref().map(image_of))
    }

    async fn pull_image(&self, image: &str, auth: &[AuthConfig]) -> Result<String> {
        let reference = Reference::parse(image)
            .map_err(|e| Error::Pull { reason: "InvalidImageName".to_owned(), message: e.to_string() })?;
        let failed = |e: image::Error| Error::Pull {
            reason: "ErrImagePull".to_owned(),
            message: format!("failed to pull and unpack image \"{reference}\": {e}"),
        };
        // Made here, not pulled: no registry has that name.
        if reference.domain == "skiff.local" {
            let found = self.built_in(image).await.map_err(failed)?;
            return found.map(|r| r.id).ok_or_else(|| {
                failed(image::Error::Registry(format!("failed to resolve reference \"{reference}\": not found")))
            });
        }
        let turn = self.shared.pulls.lock().entry(reference.to_string()).or_default().clone();
        let result = {
            let _turn = turn.lock().await;
            pull::pull(&self.shared.store, &self.shared.options.registries, &reference, auth).await.map_err(failed)
        };
        drop(turn);
        self.shared.pulls.lock().retain(|_, turn| Arc::strong_count(turn) > 1);
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
        let used = self.shared.store.list().map_err(image_error)?.iter().map(|r| r.size_bytes).sum();
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
