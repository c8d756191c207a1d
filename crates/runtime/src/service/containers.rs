//! Making, starting, stopping and removing containers.

use super::*;

impl Shared {
    pub(super) async fn create_container(
        self: Arc<Self>,
        sandbox_id: String,
        config: ContainerConfig,
    ) -> Result<String> {
        let sandbox = self.sandbox(&sandbox_id)?;
        if Self::sandbox_status(&sandbox).state != SandboxState::Ready {
            return Err(Error::Internal(format!("sandbox {sandbox_id} is not running")));
        }
        container::capabilities(&config).map_err(Error::InvalidArgument)?;
        let shared = self.clone();
        blocking(move || shared.create_container_blocking(&sandbox, config)).await?
    }

    pub(super) fn create_container_blocking(&self, sandbox: &Sandbox, config: ContainerConfig) -> Result<String> {
        // No layer may go between looking the image up and writing down that we use it.
        let lease = self.store.lease().map_err(image_error)?;
        let find = |name: &str| {
            let found = self.store.find(name).map_err(image_error)?;
            found.ok_or_else(|| Error::NotFound(format!("failed to resolve image {name:?}: not found")))
        };
        let image = find(&config.image)?;
        let mut image_volumes = Vec::new();
        for mount in &config.mounts {
            if let Some(name) = &mount.image {
                image_volumes.push(self.store.lower(&find(name)?));
            } else if !Path::new(&mount.host_path).exists() {
                fs::create_dir_all(&mount.host_path)
                    .map_err(|e| Error::Internal(format!("failed to mkdir {:?}: {e}", mount.host_path)))?;
            }
        }
        let id = new_id();
        let (log_directory, parent, sandbox_id) = {
            let record = sandbox.record.lock();
            (record.config.log_directory.clone(), record.config.cgroup_parent.clone(), record.id.clone())
        };
        let log_path = if log_directory.is_empty() || config.log_path.is_empty() {
            String::new()
        } else {
            Path::new(&log_directory).join(&config.log_path).to_string_lossy().into_owned()
        };
        let parent = if parent.trim_matches('/').is_empty() { "skiff" } else { parent.trim_matches('/') };
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
            fs::create_dir_all(directory.join(name)).map_err(internal("create container directory"))?;
        }
        // The upper directory is the root directory that the container sees.
        if let Some(top) = record.layers.first() {
            copy_root_attributes(&self.store.layers_dir().join(top).join("fs"), &directory.join("upper"));
        }
        state::write(&directory.join(container::RECORD), &record, Durability::Process)
            .map_err(internal("save container"))?;
        drop(lease);
        let container = Container {
            directory,
            record: Mutex::new(record),
            phase: watch::Sender::new(Phase::Created),
            starting: tokio::sync::Mutex::default(),
        };
        self.containers.write().insert(id.clone(), Arc::new(container));
        Ok(id)
    }

    /// The whole specification of a container, with its device rules. Blocking.
    pub(super) fn spec(&self, container: &Container) -> Result<(ContainerSpec, Vec<sys::cgroup::DeviceRule>)> {
        let record = container.record.lock().clone();
        let sandbox = self.sandbox(&record.sandbox_id)?;
        let security = &record.config.security;
        let capabilities = container::capabilities(&record.config).map_err(Error::InvalidArgument)?;
        let filters = self.options.state.join("seccomp");
        let seccomp = match &security.seccomp {
            _ if security.privileged => None,
            SecurityProfile::Unconfined => None,
            SecurityProfile::RuntimeDefault => Some(crate::seccomp::runtime_default(&filters, capabilities)),
            SecurityProfile::Localhost(path) => Some(crate::seccomp::localhost(&filters, Path::new(path))),
        };
        let seccomp = seccomp.transpose().map_err(Error::InvalidArgument)?;
        let (devices, rules) = container::devices(&record.config).map_err(Error::InvalidArgument)?;
        let target_pid = match &security.target_container_id {
            Some(id) => match &*self.container(id)?.phase.borrow() {
                Phase::Running(started) => Some(started.pid),
                _ => {
                    return Err(Error::InvalidArgument(format!("target container {id} is not running")));
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
        let spec = container::plan(&record, &sandbox_record, places).map_err(Error::InvalidArgument)?;
        Ok((spec, rules))
    }

    pub(super) async fn start_container(self: Arc<Self>, container: Arc<Container>) -> Result<()> {
        let _starting = container.starting.lock().await;
        let record = container.record.lock().clone();
        if !matches!(&*container.phase.borrow(), Phase::Created) {
            return Err(Error::InvalidArgument(format!("container {:?} is not in created state", record.id)));
        }
        let sandbox = self.sandbox(&record.sandbox_id)?;
        let (shared, same) = (self.clone(), container.clone());
        let prepared = blocking(move || {
            let (spec, rules) = shared.spec(&same)?;
            let record = same.record.lock().clone();
            let failed = |e: sys::cgroup::Error| Error::Start(format!("failed to create container cgroup: {e}"));
            shared.cgroups.create(&record.cgroup).map_err(failed)?;
            shared
                .cgroups
                .set(&record.cgroup, &container::cgroup_resources(&record.resources, Some(rules)))
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
                Ok((other, _)) => Err(Error::Internal(format!("unexpected answer from the shim: {other:?}"))),
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
                let _ = state::write(&container.directory.join(container::EXIT), &exit, Durability::Disk);
                let (cgroups, cgroup) = (self.cgroups.clone(), record.cgroup.clone());
                let _ = blocking(move || cgroups.remove(&cgroup)).await;
                self.exited(exit);
                Err(e)
            }
        }
    }

    pub(super) async fn signal(&self, container: &Container, signal: i32) -> Result<()> {
        let record = container.record.lock().clone();
        let sandbox = self.sandbox(&record.sandbox_id)?;
        // Not there any more is as good as signalled: its end is on its way to us.
        call(&sandbox.places.state, &Request::Signal { container: record.id, signal })
            .await
            .map(drop)
            .or_else(|e| if *sandbox.alive.borrow() { Err(lost(e)) } else { Ok(()) })
    }

    pub(super) async fn stop_container(self: Arc<Self>, container: Arc<Container>, grace: Duration) -> Result<()> {
        let mut phase = container.phase.subscribe();
        if !matches!(&*phase.borrow(), Phase::Running(_)) {
            return Ok(());
        }
        let is_over = |phase: &Phase| matches!(phase, Phase::Exited(_));
        if !grace.is_zero() {
            let signal = container::stop_signal(&container.record.lock());
            self.signal(&container, signal).await?;
            if tokio::time::timeout(grace, phase.wait_for(is_over)).await.is_ok() {
                return Ok(());
            }
        }
        self.signal(&container, libc::SIGKILL).await?;
        if tokio::time::timeout(KILL_TIMEOUT, phase.wait_for(is_over)).await.is_ok() {
            return Ok(());
        }
        Err(Error::DeadlineExceeded(format!("container {} does not die", container.record.lock().id)))
    }

    pub(super) async fn remove_container(self: Arc<Self>, container: Arc<Container>) -> Result<()> {
        self.clone().stop_container(container.clone(), Duration::ZERO).await?;
        let record = container.record.lock().clone();
        let (cgroups, cgroup) = (self.cgroups.clone(), record.cgroup.clone());
        if let Err(e) = blocking(move || cgroups.remove(&cgroup)).await? {
            warn!(container = %record.id, error = %e, "cgroup not removed");
        }
        self.containers.write().remove(&record.id);
        self.discard(&container.directory);
        Ok(())
    }

    pub(super) async fn exec_process(
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
