//! Finding every sandbox and container again when the runtime opens, and hearing of their ends while it is open.

use super::*;

impl Shared {
    pub(super) async fn recover(self: Arc<Self>) -> Result<()> {
        let names = |dir: PathBuf| -> Vec<String> {
            fs::read_dir(dir)
                .map(|d| d.flatten().map(|e| e.file_name().to_string_lossy().into_owned()).collect())
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
                state::read(&places.persistent.join(sandbox::RECORD)).map_err(internal("read sandbox"))?;
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
                let _ = self.cgroups.kill(&container.record.lock().cgroup, Duration::from_secs(5));
                self.discard(&container.directory);
            }
        }
        let live: Vec<String> = self.sandboxes.read().keys().cloned().collect();
        self.options.network.reconcile(&live).await
    }

    /// Out of sight at once, deleted in the background.
    pub(super) fn discard(&self, directory: &Path) {
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
    pub(super) async fn subscribe(&self, sandbox: &Sandbox) -> Result<Connection> {
        let mut connection = Connection::open(&sandbox.places.state).map_err(lost)?;
        connection.send(&Request::Subscribe, &[]).await.map_err(lost)?;
        let (reply, _) = connection.receive().await.map_err(lost)?;
        let Reply::Running { containers, .. } = reply else {
            return Err(Error::Internal("unexpected answer from the shim".to_owned()));
        };
        for started in containers {
            self.started(&started);
        }
        sandbox.alive.send_replace(true);
        Ok(connection)
    }

    pub(super) fn supervise(self: Arc<Self>, sandbox: Arc<Sandbox>, mut connection: Connection) {
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

    pub(super) fn started(&self, started: &Started) {
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
            self.events.send(&RuntimeEvent::ContainerStarted { sandbox_id, container_id: started.container.clone() });
        }
    }

    pub(super) fn exited(&self, exit: Exit) {
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
            self.events.send(&RuntimeEvent::ContainerExited { sandbox_id, container_id });
        }
    }

    /// The shim has ended: by our wish, or killed. What it left running must not run without a keeper.
    pub(super) async fn shim_gone(&self, sandbox: &Arc<Sandbox>) {
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
            let recorded = state::read::<Exit>(&container.directory.join(container::EXIT)).ok().flatten();
            let exit = recorded.unwrap_or_else(|| {
                let started = match &*container.phase.borrow() {
                    Phase::Running(started) => started.clone(),
                    _ => Started { container: record.id.clone(), ..Started::default() },
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
                let _ = state::write(&container.directory.join(container::EXIT), &exit, Durability::Disk);
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
        self.events.send(&RuntimeEvent::SandboxStopped { sandbox_id: id });
    }
}
