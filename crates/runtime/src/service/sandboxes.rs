//! Making, stopping and removing sandboxes.

use super::*;

impl Shared {
    pub(super) async fn run_sandbox(self: Arc<Self>, config: PodSandboxConfig) -> Result<String> {
        let id = new_id();
        let places = SandboxPlaces::new(&self.options.root, &self.options.state, &id);
        let record =
            SandboxRecord { id: id.clone(), config, created_at_ns: now_ns(), ips: Vec::new(), life: Life::Creating };
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

    pub(super) async fn make_sandbox(
        &self,
        mut record: SandboxRecord,
        places: &SandboxPlaces,
    ) -> Result<(Arc<Sandbox>, Connection)> {
        {
            let (record, places) = (record.clone(), places.clone());
            blocking(move || sandbox::prepare(&record, &places)).await??;
        }
        sandbox::start_shim(places, &self.options.shim_exe, &self.options.shim_args, self.executable.as_ref()).await?;
        if !record.host_network() {
            let metadata = &record.config.metadata;
            let bandwidth = |name: &str| record.config.annotations.get(name).and_then(|v| bits_per_second(v));
            let request = PodNetworkRequest {
                sandbox_id: record.id.clone(),
                pod_namespace: metadata.namespace.clone(),
                pod_name: metadata.name.clone(),
                pod_uid: metadata.uid.clone(),
                port_mappings: record.config.port_mappings.clone(),
                ingress_bps: bandwidth("kubernetes.io/ingress-bandwidth"),
                egress_bps: bandwidth("kubernetes.io/egress-bandwidth"),
            };
            let ips =
                self.options.network.setup(&request, &places.netns).await.map_err(|e| {
                    Error::Internal(format!("failed to setup network for sandbox {:?}: {e}", record.id))
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

    pub(super) async fn stop_sandbox(self: Arc<Self>, sandbox: Arc<Sandbox>) -> Result<()> {
        let _changing = sandbox.changing.lock().await;
        self.stop_sandbox_locked(&sandbox).await
    }

    pub(super) async fn stop_sandbox_locked(self: &Arc<Self>, sandbox: &Arc<Sandbox>) -> Result<()> {
        let record = sandbox.record.lock().clone();
        let mut alive = sandbox.alive.subscribe();
        if *alive.borrow() {
            let shutdown = tokio::time::timeout(KILL_TIMEOUT, call(&sandbox.places.state, &Request::Shutdown)).await;
            if !matches!(shutdown, Ok(Ok(_))) {
                let places = sandbox.places.clone();
                blocking(move || sandbox::kill_shim(&places)).await?;
            }
            // By then every container's end has been heard.
            let _ = tokio::time::timeout(KILL_TIMEOUT, alive.wait_for(|alive| !alive)).await;
        }
        if !record.host_network() {
            let failed = |e| Error::Internal(format!("failed to destroy network for sandbox {:?}: {e}", record.id));
            self.options.network.teardown(&record.id, &sandbox.places.netns).await.map_err(failed)?;
        }
        let places = sandbox.places.clone();
        blocking(move || sandbox::clear_state(&places)).await?;
        let mut record = sandbox.record.lock();
        record.life = Life::Stopped;
        record.save(&sandbox.places)
    }

    pub(super) async fn remove_sandbox(self: Arc<Self>, sandbox: Arc<Sandbox>) -> Result<()> {
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

    pub(super) fn sandbox_status(sandbox: &Sandbox) -> PodSandboxStatus {
        let record = sandbox.record.lock();
        let ready = record.life == Life::Ready && *sandbox.alive.borrow();
        PodSandboxStatus {
            id: record.id.clone(),
            metadata: record.config.metadata.clone(),
            state: if ready { SandboxState::Ready } else { SandboxState::NotReady },
            created_at_ns: record.created_at_ns,
            ips: record.ips.clone(),
            namespaces: record.config.namespaces.clone(),
            labels: record.config.labels.clone(),
            annotations: record.config.annotations.clone(),
        }
    }
}
