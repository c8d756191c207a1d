//! A container runtime in memory. Containers run until a test ends them with [`FakeRuntime::exit`] or they are stopped.

use async_trait::async_trait;
use cri::*;
use parking_lot::Mutex;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;
use tokio::io::AsyncWriteExt;
use tokio::sync::{mpsc, oneshot};

#[derive(Default)]
struct State {
    next: u64,
    sandboxes: BTreeMap<String, (PodSandboxStatus, PodSandboxConfig)>,
    containers: BTreeMap<String, (ContainerStatus, ContainerConfig)>,
    images: Vec<Image>,
    subscribers: Vec<mpsc::Sender<RuntimeEvent>>,
    /// In order, for tests that care: `start NAME`, `stop NAME`.
    calls: Vec<String>,
    /// Containers at whose status the next reader panics.
    traps: Vec<String>,
}

#[derive(Clone, Default)]
pub struct FakeRuntime {
    state: Arc<Mutex<State>>,
}

fn now_ns() -> i64 {
    jiff::Timestamp::now().as_nanosecond() as i64
}

impl FakeRuntime {
    /// An image that is present already.
    pub fn add_image(&self, name: &str) {
        let id = format!("sha256:{}", crate::labels::hash(&[name]).repeat(4));
        self.state.lock().images.push(Image {
            id,
            repo_tags: vec![name.into()],
            repo_digests: vec![format!("{name}@sha256:d")],
            size_bytes: 1000,
            ..Default::default()
        });
    }

    /// Whoever asks for the status of that container next panics: a fault of ours.
    pub fn set_trap(&self, container: &str) {
        self.state.lock().traps.push(container.into());
    }

    pub fn calls(&self) -> Vec<String> {
        self.state.lock().calls.clone()
    }

    pub fn config(&self, container: &str) -> Option<ContainerConfig> {
        let state = self.state.lock();
        state
            .containers
            .values()
            .filter(|(s, _)| s.metadata.name == container)
            .max_by_key(|(s, _)| s.metadata.attempt)
            .map(|(_, c)| c.clone())
    }

    /// The running container of that name ends.
    pub fn exit(&self, container: &str, code: i32) {
        let id = self
            .state
            .lock()
            .containers
            .values()
            .find(|(s, _)| s.metadata.name == container && s.state == ContainerState::Running)
            .map(|(s, _)| s.id.clone());
        self.end(&id.unwrap_or_else(|| panic!("{container} isn't running")), code);
    }

    fn end(&self, id: &str, code: i32) {
        let mut state = self.state.lock();
        let Some((s, _)) = state.containers.get_mut(id) else {
            return;
        };
        if s.state != ContainerState::Running {
            return;
        }
        s.state = ContainerState::Exited;
        s.exit_code = code;
        s.finished_at_ns = now_ns();
        s.reason = if code == 0 { "Completed" } else { "Error" }.into();
        let event = RuntimeEvent::ContainerExited { sandbox_id: s.sandbox_id.clone(), container_id: id.to_owned() };
        for subscriber in &state.subscribers {
            let _ = subscriber.try_send(event.clone());
        }
    }
}

fn missing(id: &str) -> Error {
    Error::NotFound(format!("{id} not found"))
}

#[async_trait]
impl RuntimeService for FakeRuntime {
    async fn version(&self) -> Result<Version> {
        Ok(Version { runtime_name: "fake".into(), runtime_version: "1".into() })
    }
    async fn ready(&self) -> std::result::Result<(), String> {
        Ok(())
    }
    async fn network_ready(&self) -> std::result::Result<(), String> {
        Ok(())
    }

    async fn run_pod_sandbox(&self, config: &PodSandboxConfig, _: &str) -> Result<String> {
        let mut state = self.state.lock();
        state.next += 1;
        let id = format!("s{}", state.next);
        let status = PodSandboxStatus {
            id: id.clone(),
            metadata: config.metadata.clone(),
            state: SandboxState::Ready,
            created_at_ns: now_ns(),
            ips: vec![format!("10.42.0.{}", state.next)],
            namespaces: config.namespaces.clone(),
            labels: config.labels.clone(),
            annotations: config.annotations.clone(),
        };
        state.sandboxes.insert(id.clone(), (status, config.clone()));
        Ok(id)
    }
    async fn stop_pod_sandbox(&self, id: &str) -> Result<()> {
        let inside: Vec<String> = self
            .state
            .lock()
            .containers
            .values()
            .filter(|(s, _)| s.sandbox_id == id)
            .map(|(s, _)| s.id.clone())
            .collect();
        inside.iter().for_each(|c| self.end(c, 137));
        if let Some((s, _)) = self.state.lock().sandboxes.get_mut(id) {
            s.state = SandboxState::NotReady;
        }
        Ok(())
    }
    async fn remove_pod_sandbox(&self, id: &str) -> Result<()> {
        let mut state = self.state.lock();
        state.sandboxes.remove(id);
        state.containers.retain(|_, (s, _)| s.sandbox_id != id);
        Ok(())
    }
    async fn pod_sandbox_status(&self, id: &str) -> Result<PodSandboxStatus> {
        self.state.lock().sandboxes.get(id).map(|(s, _)| s.clone()).ok_or_else(|| missing(id))
    }
    async fn list_pod_sandboxes(&self) -> Result<Vec<PodSandboxStatus>> {
        Ok(self.state.lock().sandboxes.values().map(|(s, _)| s.clone()).collect())
    }

    async fn create_container(&self, sandbox_id: &str, config: &ContainerConfig) -> Result<String> {
        let mut state = self.state.lock();
        state.next += 1;
        let id = format!("c{}", state.next);
        let log_dir =
            state.sandboxes.get(sandbox_id).map(|(_, c)| c.log_directory.clone()).ok_or_else(|| missing(sandbox_id))?;
        let status = ContainerStatus {
            id: id.clone(),
            sandbox_id: sandbox_id.to_owned(),
            metadata: config.metadata.clone(),
            state: ContainerState::Created,
            created_at_ns: now_ns(),
            started_at_ns: 0,
            finished_at_ns: 0,
            exit_code: 0,
            signal: 0,
            image: config.user_specified_image.clone(),
            image_id: config.image.clone(),
            reason: String::new(),
            message: String::new(),
            labels: config.labels.clone(),
            annotations: config.annotations.clone(),
            mounts: config.mounts.clone(),
            log_path: format!("{log_dir}/{}", config.log_path),
            resources: config.resources.clone(),
            pid: 0,
            user: None,
        };
        state.containers.insert(id.clone(), (status, config.clone()));
        Ok(id)
    }
    async fn start_container(&self, id: &str) -> Result<()> {
        let mut state = self.state.lock();
        let (s, c) = state.containers.get_mut(id).ok_or_else(|| missing(id))?;
        if c.command.first().is_some_and(|w| w == "/missing") {
            s.state = ContainerState::Exited;
            s.exit_code = 128;
            s.reason = "StartError".into();
            s.finished_at_ns = now_ns();
            return Err(Error::Start("exec: \"/missing\": stat /missing: no such file or directory".into()));
        }
        s.state = ContainerState::Running;
        s.started_at_ns = now_ns();
        let (name, log) = (s.metadata.name.clone(), s.log_path.clone());
        if let Some(dir) = std::path::Path::new(&log).parent() {
            let _ = std::fs::create_dir_all(dir);
        }
        let _ = std::fs::write(&log, format!("2024-01-01T00:00:00.000000000Z stdout F hello from {name}\n"));
        state.calls.push(format!("start {name}"));
        Ok(())
    }
    async fn stop_container(&self, id: &str, _: Duration) -> Result<()> {
        let name = self.state.lock().containers.get(id).map(|(s, _)| s.metadata.name.clone());
        if let Some(name) = name {
            self.state.lock().calls.push(format!("stop {name}"));
        }
        self.end(id, 143);
        Ok(())
    }
    async fn remove_container(&self, id: &str) -> Result<()> {
        self.state.lock().containers.remove(id);
        Ok(())
    }
    async fn container_status(&self, id: &str) -> Result<ContainerStatus> {
        let mut state = self.state.lock();
        let status = state.containers.get(id).map(|(s, _)| s.clone()).ok_or_else(|| missing(id))?;
        if let Some(at) = state.traps.iter().position(|t| *t == status.metadata.name) {
            state.traps.remove(at);
            panic!("a trap at {}", status.metadata.name);
        }
        Ok(status)
    }
    async fn list_containers(&self) -> Result<Vec<ContainerStatus>> {
        Ok(self.state.lock().containers.values().map(|(s, _)| s.clone()).collect())
    }
    async fn update_container_resources(&self, id: &str, resources: &LinuxResources) -> Result<()> {
        let mut state = self.state.lock();
        state.containers.get_mut(id).ok_or_else(|| missing(id))?.0.resources = resources.clone();
        state.calls.push(format!("resize {id}"));
        Ok(())
    }
    async fn reopen_container_log(&self, _: &str) -> Result<()> {
        Ok(())
    }
    async fn container_stats(&self, id: &str) -> Result<ContainerStats> {
        Ok(ContainerStats {
            id: id.to_owned(),
            timestamp_ns: now_ns(),
            cpu_usage_ns: 1_500_000_000,
            memory_working_set_bytes: 4096,
            ..Default::default()
        })
    }

    /// `true` and `false` do as they are called; anything else is echoed.
    async fn exec_sync(&self, _: &str, command: &[String], _: Duration) -> Result<ExecResult> {
        self.state.lock().calls.push(format!("exec {}", command.join(" ")));
        let exit_code = i32::from(command.first().is_some_and(|c| c == "false"));
        Ok(ExecResult { stdout: command.join(" ").into_bytes(), stderr: Vec::new(), exit_code })
    }
    /// Echoes its command, then its input; the exit code is the last word, if that is a number.
    async fn exec(&self, _: &str, options: &ExecOptions) -> Result<Session> {
        let (client_in, server_in) = tokio::io::duplex(1 << 16);
        let (client_out, mut server_out) = tokio::io::duplex(1 << 16);
        let (exit_tx, exit) = oneshot::channel();
        let words = options.command.clone();
        let takes_input = options.stdin;
        tokio::spawn(async move {
            let _ = server_out.write_all(words.join(" ").as_bytes()).await;
            if takes_input {
                let (mut read, _) = tokio::io::split(server_in);
                let _ = tokio::io::copy(&mut read, &mut server_out).await;
            }
            drop(server_out);
            let _ = exit_tx.send(Ok(words.last().and_then(|w| w.parse().ok()).unwrap_or(0)));
        });
        Ok(Session {
            stdin: Some(Box::pin(client_in)),
            stdout: Some(Box::pin(client_out)),
            stderr: None,
            resize: None,
            exit,
            logged: None,
        })
    }
    async fn attach(&self, id: &str, options: &ExecOptions) -> Result<Session> {
        self.exec(id, options).await
    }
    /// An echo server on every port but 1.
    async fn port_forward(&self, _: &str, port: u16) -> Result<Box<dyn Duplex>> {
        if port == 1 {
            return Err(Error::Unavailable("connection refused".into()));
        }
        let (a, b) = tokio::io::duplex(1 << 16);
        tokio::spawn(async move {
            let (mut read, mut write) = tokio::io::split(b);
            let _ = tokio::io::copy(&mut read, &mut write).await;
        });
        Ok(Box::new(a))
    }

    async fn events(&self) -> Result<mpsc::Receiver<RuntimeEvent>> {
        let (tx, rx) = mpsc::channel(256);
        self.state.lock().subscribers.push(tx);
        Ok(rx)
    }
}

#[async_trait]
impl ImageService for FakeRuntime {
    async fn list_images(&self) -> Result<Vec<Image>> {
        Ok(self.state.lock().images.clone())
    }
    async fn image_status(&self, image: &str) -> Result<Option<Image>> {
        Ok(self.state.lock().images.iter().find(|i| i.id == image || i.repo_tags.iter().any(|t| t == image)).cloned())
    }
    /// Everything can be pulled but what is called `…nowhere…`.
    async fn pull_image(&self, image: &str, _: &[AuthConfig]) -> Result<String> {
        if image.contains("nowhere") {
            return Err(Error::Pull {
                reason: "ErrImagePull".into(),
                message: format!("failed to resolve reference \"{image}\": not found"),
            });
        }
        self.add_image(image);
        Ok(self.state.lock().images.last().map(|i| i.id.clone()).unwrap_or_default())
    }
    async fn remove_image(&self, image: &str) -> Result<()> {
        self.state.lock().images.retain(|i| i.id != image);
        Ok(())
    }
    async fn image_fs_info(&self) -> Result<FilesystemUsage> {
        Ok(FilesystemUsage::default())
    }
}
