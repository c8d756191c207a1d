//! What a worker makes of a step that has ended, and how it leaves.

use super::*;

impl Worker {
    pub(super) async fn done(&mut self, done: Done) {
        let now = Timestamp::now();
        let later = |d: SignedDuration| now.checked_add(d).unwrap_or(now);
        let warn = |this: &Self, reason: &str, message: String| {
            this.context.recorder.record(pod_reference(&this.pod, None), Severity::Warning, reason, message)
        };
        match done {
            Done::Volumes(volumes, error, credentials) => {
                self.credentials = credentials;
                // What failed keeps what was mounted of it before.
                Arc::make_mut(&mut self.volumes).extend(volumes);
                let refreshed = std::mem::take(&mut self.refreshing);
                let Some(message) = error else {
                    self.memo.volumes = Step::Done(());
                    return;
                };
                warn(self, "FailedMount", message.clone());
                if refreshed {
                    // The next change, or half a minute, brings another try; what else is due doesn't wait for it.
                    self.volumes_retry_at = Some(later(RETRY * 30));
                } else {
                    self.memo.volumes =
                        Step::Failed { reason: "FailedMount".into(), message, retry_at: later(RETRY * 2) };
                }
            }
            Done::Sandbox(Ok(sandbox)) => {
                self.memo.sandbox = Step::Idle;
                self.memo.sandbox_stop = Step::Idle;
                self.sandboxes.push(sandbox);
            }
            Done::Sandbox(Err(message)) => {
                warn(self, "FailedCreatePodSandBox", format!("Failed to create pod sandbox: {message}"));
                self.memo.sandbox =
                    Step::Failed { reason: "FailedCreatePodSandBox".into(), message, retry_at: later(RETRY) };
            }
            Done::Image(name, Ok(image)) => self.memo.container(&name).image = Step::Done(image),
            Done::Image(name, Err(e)) => {
                self.memo.container(&name).image =
                    Step::Failed { reason: e.reason, message: e.message, retry_at: e.retry_at }
            }
            Done::Started(name, Ok((status, resources))) => self.started(&name, status, resources).await,
            Done::Started(name, Err(error)) => {
                let memo = self.memo.container(&name);
                memo.start_failures = memo.start_failures.saturating_add(1);
                let wait = (1i64 << memo.start_failures.min(6)).min(RETRY_MAX_SECONDS);
                memo.start = Step::Failed {
                    reason: error.reason.to_owned(),
                    message: error.message.clone(),
                    retry_at: later(SignedDuration::from_secs(wait)),
                };
                if let Some(c) = error.container {
                    let exited = c.state == ContainerState::Exited;
                    self.observe(*c);
                    if exited {
                        // It counts as a container that has run and failed: restart policy and back-off apply.
                        let policy_restarts = self.spec_of(&name).is_some_and(|s| spec::restarts(&self.pod, s, 128));
                        if !policy_restarts {
                            self.memo.container(&name).start = Step::Idle;
                        }
                    }
                }
            }
            Done::Hook(id, result) => {
                self.memo.hooks.remove(&id);
                let Some(c) = self.containers.iter().find(|c| c.id == id) else {
                    return;
                };
                let name = c.metadata.name.clone();
                if let (Err(error), ContainerState::Running) = (result, c.state) {
                    tracing::debug!(container = name, error, "postStart hook failed");
                    let field = self.spec_of(&name).map(ContainerSpec::field_path);
                    self.context.recorder.record(
                        pod_reference(&self.pod, field),
                        Severity::Warning,
                        "FailedPostStartHook",
                        "PostStartHook failed",
                    );
                    if !self.memo.kills.contains_key(&id) {
                        let grace = spec::grace_period(&self.pod);
                        self.act(
                            Action::KillContainer {
                                container: name,
                                id,
                                message: "FailedPostStartHook".into(),
                                grace,
                                hook: true,
                            },
                            now,
                        );
                    }
                }
            }
            Done::Killed(id, result) => {
                if let Err(error) = result {
                    tracing::warn!(pod = spec::long_name(&self.pod), id, %error, "stopping a container failed; it is tried again");
                    tokio::time::sleep(Duration::from_millis(200)).await;
                }
                self.look_at(&id).await;
                self.memo.kills.remove(&id);
            }
            Done::Resized(id, resources, Ok(())) => {
                self.memo.resizing.remove(&id);
                self.memo.applied.insert(id, resources);
            }
            Done::Resized(id, resources, Err(error)) => {
                // Not tried again by itself: the kernel refuses a limit below what is in use.
                warn(self, "ResizeError", error);
                self.memo.resizing.remove(&id);
                self.memo.applied.insert(id, resources);
            }
            Done::Removed(id, result) => {
                self.memo.removing.remove(&id);
                if let Err(error) = result {
                    tracing::warn!(id, %error, "removing a container failed");
                }
                self.containers.retain(|c| c.id != id);
                for map in [&mut self.memo.messages, &mut self.memo.image_ids] {
                    map.remove(&id);
                }
                self.memo.applied.remove(&id);
                self.memo.probes.remove(&id);
            }
            Done::SandboxStopped(id, Ok(())) => {
                self.memo.sandbox_stop = Step::Idle;
                self.look_at_sandbox(&id).await;
                // A runtime that is slow to say so must not be asked for ever.
                self.sandboxes.iter_mut().filter(|s| s.id == id).for_each(|s| s.state = SandboxState::NotReady);
            }
            Done::SandboxStopped(_, Err(error)) => {
                warn(self, "FailedKillPod", format!("error killing pod: failed to stop sandbox: {error}"));
                self.memo.sandbox_stop =
                    Step::Failed { reason: "FailedKillPod".into(), message: error.to_string(), retry_at: later(RETRY) };
            }
            Done::TornDown(Ok(())) => self.memo.teardown = Step::Done(()),
            Done::TornDown(Err(message)) => {
                tracing::warn!(pod = spec::long_name(&self.pod), message, "teardown failed; it is tried again");
                self.memo.teardown = Step::Failed { reason: "FailedUnmount".into(), message, retry_at: later(RETRY) };
            }
            Done::StatusWritten(result) => {
                self.writing_status = false;
                self.status_retry_at = None;
                match result {
                    Ok(pod) => {
                        self.status_failures = 0;
                        self.accept(Arc::new(*pod));
                    }
                    // Gone, or another pod by now: the watch will say so.
                    Err(kube::Error::Api(s)) if s.code == 404 || s.code == 409 => {
                        self.status_retry_at = Some(later(RETRY * 10))
                    }
                    Err(error) => {
                        self.last_patch = None;
                        self.status_failures = self.status_failures.saturating_add(1);
                        let wait = (1i64 << self.status_failures.min(6)).min(RETRY_MAX_SECONDS) * 100;
                        tracing::warn!(pod = spec::long_name(&self.pod), %error, "status wasn't written");
                        self.status_retry_at = Some(later(SignedDuration::from_millis(wait)));
                    }
                }
            }
            Done::Deleted(Ok(())) => self.deleting = Step::Done(()),
            Done::Deleted(Err(kube::Error::Api(s))) if s.code == 404 || s.code == 409 => self.deleting = Step::Done(()),
            Done::Deleted(Err(error)) => {
                self.deleting =
                    Step::Failed { reason: String::new(), message: error.to_string(), retry_at: later(RETRY) }
            }
        }
    }

    async fn started(&mut self, name: &str, status: ContainerStatus, resources: LinuxResources) {
        let memo = self.memo.container(name);
        memo.start = Step::Done(());
        memo.start_failures = 0;
        let id = status.id.clone();
        self.memo.applied.insert(id.clone(), resources);
        let image = self.context.images.service().image_status(&status.image_id).await.ok().flatten();
        if let Some(digest) = image.and_then(|i| i.repo_digests.first().cloned()) {
            self.memo.image_ids.insert(id.clone(), digest);
        }
        let running = status.state == ContainerState::Running;
        self.observe(status);
        let Some(spec) = self.spec_of(name).cloned().filter(|_| running) else {
            return;
        };
        if let Some(handler) = spec.container.lifecycle.as_ref().and_then(|l| l.post_start.clone()) {
            self.memo.hooks.insert(id.clone());
            let (runtime, ip) = (self.context.runtime.clone(), self.pod_ip());
            self.step(async move {
                let result = hooks::run(&*runtime, &id, &spec.container, &ip, &handler).await;
                Done::Hook(id, result)
            });
        }
    }

    /// The pod is gone from the API and nothing of it runs: its records go too.
    pub(super) async fn clean_up(self) {
        for s in &self.sandboxes {
            if let Err(error) = self.context.runtime.remove_pod_sandbox(&s.id).await {
                tracing::warn!(sandbox = s.id, %error, "removing a sandbox failed; the next start cleans it up");
            }
        }
        let m = &self.pod.metadata;
        let logs = self.context.options.pod_log_dir(
            m.namespace.as_deref().unwrap_or_default(),
            m.name.as_deref().unwrap_or_default(),
            &self.uid,
        );
        let dir = self.pod_dir();
        let _ = tokio::task::spawn_blocking(move || {
            if let Err(error) = teardown::remove(&dir) {
                tracing::warn!(%error, "a pod's directory wasn't removed; the next start cleans it up");
            }
            let _ = std::fs::remove_dir_all(logs);
        })
        .await;
        self.context.objects.forget(&self.uid);
        self.context.images.forget(&self.uid);
        self.context.registry.remove(&self.uid);
    }
}
