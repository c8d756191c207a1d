//! A runtime under a temporary directory, with a busybox image and a network that has only `lo`.
#![allow(dead_code, reason = "each test file uses a part of this")]

use async_trait::async_trait;
use cri::{ContainerConfig, ContainerMetadata, PodSandboxConfig, PodSandboxMetadata, RuntimeService};
use runtime::{Runtime, RuntimeOptions};
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

pub struct Loopback;

#[async_trait]
impl cri::PodNetwork for Loopback {
    async fn setup(&self, _: &cri::PodNetworkRequest, netns: &Path) -> cri::Result<Vec<IpAddr>> {
        assert!(netns.exists(), "the namespace must be there before the network is set up");
        Ok(vec![IpAddr::from([10, 0, 0, 7])])
    }
    async fn teardown(&self, _: &str, _: &Path) -> cri::Result<()> {
        Ok(())
    }
    async fn ready(&self) -> Result<(), String> {
        Ok(())
    }
    async fn reconcile(&self, _: &[String]) -> cri::Result<()> {
        Ok(())
    }
}

pub struct Bed {
    pub dir: tempfile::TempDir,
    pub runtime: Option<Arc<Runtime>>,
    pub image: String,
    /// Of this bed's pods; removed at its end.
    pub cgroup: String,
}

pub fn options(dir: &Path) -> RuntimeOptions {
    let mut options = RuntimeOptions::new(dir.join("root"), dir.join("state"), Arc::new(Loopback), shim_exe());
    options.shim_args = Vec::new();
    options
}

pub fn is_root() -> bool {
    nix::unistd::geteuid().is_root()
}

/// `None` where there are no rights to run containers at all.
pub async fn bed() -> Option<Bed> {
    if !is_root() {
        eprintln!("skipped: needs root");
        return None;
    }
    let dir = tempfile::tempdir().unwrap();
    let runtime = Runtime::open(options(dir.path())).await.unwrap();
    let archive = dir.path().join("busybox.tar");
    std::fs::write(&archive, busybox_archive("busybox:latest", &[])).unwrap();
    let image = runtime.import(&archive).await.unwrap().remove(0).id;
    let cgroup = format!("/skiff-test-{}-{:x}", std::process::id(), rand::random::<u32>());
    Some(Bed { dir, runtime: Some(runtime), image, cgroup })
}

/// A `docker save` archive with busybox and its applets; `extra` are further files.
pub fn busybox_archive(name: &str, extra: &[(&str, &str)]) -> Vec<u8> {
    let mut layer = tar::Builder::new(Vec::new());
    let mut add = |path: &str, kind: tar::EntryType, mode: u32, content: &[u8], link: &str| {
        let mut header = tar::Header::new_gnu();
        header.set_entry_type(kind);
        header.set_mode(mode);
        header.set_uid(0);
        header.set_gid(0);
        header.set_mtime(1);
        header.set_size(content.len() as u64);
        if link.is_empty() {
            layer.append_data(&mut header, path, content).unwrap();
        } else {
            layer.append_link(&mut header, path, link).unwrap();
        }
    };
    use tar::EntryType::{Directory, Regular, Symlink};
    for dir in ["bin/", "etc/", "proc/", "tmp/"] {
        add(dir, Directory, if dir == "tmp/" { 0o1777 } else { 0o755 }, b"", "");
    }
    add("bin/busybox", Regular, 0o755, &std::fs::read("/bin/busybox").unwrap(), "");
    for applet in [
        "sh", "sleep", "cat", "echo", "id", "env", "ls", "true", "false", "grep", "mount", "hostname", "tail", "head",
        "dd", "stty", "tty", "nc", "ps", "touch", "mkdir", "kill", "unshare", "pwd", "wc", "seq", "printf",
    ] {
        add(&format!("bin/{applet}"), Symlink, 0o777, b"", "busybox");
    }
    add("etc/passwd", Regular, 0o644, b"root:x:0:0:root:/root:/bin/sh\nweb:x:33:34:web:/srv:/bin/sh\n", "");
    add("etc/group", Regular, 0o644, b"root:x:0:\nweb:x:34:\nlogs:x:44:web\n", "");
    for (path, content) in extra {
        add(path, Regular, 0o644, content.as_bytes(), "");
    }
    let layer = layer.into_inner().unwrap();
    let diff_id = format!("sha256:{}", hex::encode(<sha2::Sha256 as sha2::Digest>::digest(&layer)));
    let arch = runtime::image::architecture();
    let config = format!(
        r#"{{"architecture":"{arch}","os":"linux","config":{{"Env":["FROM=image"],"Cmd":["sh"]}},"rootfs":{{"type":"layers","diff_ids":["{diff_id}"]}}}}"#
    );
    let manifest = format!(r#"[{{"Config":"config.json","RepoTags":["{name}"],"Layers":["layer.tar"]}}]"#);
    let mut archive = tar::Builder::new(Vec::new());
    for (name, content) in
        [("layer.tar", layer.as_slice()), ("config.json", config.as_bytes()), ("manifest.json", manifest.as_bytes())]
    {
        let mut header = tar::Header::new_gnu();
        header.set_mode(0o644);
        header.set_size(content.len() as u64);
        archive.append_data(&mut header, name, content).unwrap();
    }
    archive.into_inner().unwrap()
}

pub fn words(text: &str) -> Vec<String> {
    text.split_whitespace().map(str::to_owned).collect()
}

impl Bed {
    pub fn rt(&self) -> &Arc<Runtime> {
        self.runtime.as_ref().unwrap()
    }

    pub fn pod(&self) -> PodSandboxConfig {
        PodSandboxConfig {
            metadata: PodSandboxMetadata {
                name: "pod".into(),
                uid: "uid".into(),
                namespace: "default".into(),
                attempt: 0,
            },
            hostname: "test-pod".into(),
            log_directory: self.dir.path().join("logs").to_string_lossy().into_owned(),
            cgroup_parent: format!("{}/pod", self.cgroup),
            namespaces: cri::NamespaceOptions { pid: cri::NamespaceMode::Container, ..Default::default() },
            ..Default::default()
        }
    }

    pub async fn sandbox(&self) -> String {
        self.rt().run_pod_sandbox(&self.pod(), "").await.unwrap()
    }

    /// `sh -c script`.
    pub fn shell(&self, script: &str) -> ContainerConfig {
        ContainerConfig {
            metadata: ContainerMetadata { name: "main".into(), attempt: 0 },
            image: self.image.clone(),
            command: vec!["sh".into(), "-c".into(), script.into()],
            log_path: format!("{:x}.log", rand::random::<u64>()),
            security: cri::SecurityContext {
                namespaces: cri::NamespaceOptions { pid: cri::NamespaceMode::Container, ..Default::default() },
                seccomp: cri::SecurityProfile::RuntimeDefault,
                ..Default::default()
            },
            ..Default::default()
        }
    }

    pub async fn start(&self, sandbox: &str, config: &ContainerConfig) -> String {
        let id = self.rt().create_container(sandbox, config).await.unwrap();
        self.rt().start_container(&id).await.unwrap();
        id
    }

    pub async fn wait(&self, id: &str) -> cri::ContainerStatus {
        let until = Instant::now() + Duration::from_secs(20);
        loop {
            let status = self.rt().container_status(id).await.unwrap();
            if status.state == cri::ContainerState::Exited {
                return status;
            }
            assert!(Instant::now() < until, "container still runs: {status:?}");
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }

    /// Runs to its end; the exit code and what it wrote (both streams, without the log's prefix).
    pub async fn run(&self, sandbox: &str, config: &ContainerConfig) -> (i32, String) {
        let id = self.start(sandbox, config).await;
        let status = self.wait(&id).await;
        let output = output(&status.log_path);
        self.rt().remove_container(&id).await.unwrap();
        (status.exit_code, output)
    }

    pub async fn exec(&self, id: &str, command: &str) -> (i32, String) {
        let result = self
            .rt()
            .exec_sync(id, &["sh".into(), "-c".into(), command.into()], Duration::from_secs(10))
            .await
            .unwrap();
        (result.exit_code, String::from_utf8_lossy(&[result.stdout, result.stderr].concat()).into_owned())
    }

    /// Removes everything and proves that nothing is left.
    pub async fn finish(mut self) {
        for sandbox in self.rt().list_pod_sandboxes().await.unwrap() {
            self.rt().stop_pod_sandbox(&sandbox.id).await.unwrap();
            self.rt().remove_pod_sandbox(&sandbox.id).await.unwrap();
        }
        assert!(self.rt().list_containers().await.unwrap().is_empty());
        drop(self.runtime.take());
        let dir = self.dir.path().to_string_lossy().into_owned();
        let mounts = std::fs::read_to_string("/proc/self/mountinfo").unwrap();
        let left: Vec<&str> = mounts.lines().filter(|l| l.contains(&dir)).collect();
        assert!(left.is_empty(), "mounts left: {left:?}");
        assert!(shims(self.dir.path()).is_empty(), "shims left");
        let cgroups = sys::cgroup::Manager::detect("skiff").unwrap();
        assert!(!cgroups.pids(&self.cgroup).is_ok_and(|p| !p.is_empty()), "processes left");
        cgroups.remove(&self.cgroup).unwrap();
    }
}

/// A failed test must not leave containers behind either.
impl Drop for Bed {
    fn drop(&mut self) {
        self.runtime = None;
        let _ = runtime::reset(&self.dir.path().join("root"), &self.dir.path().join("state"));
        if let Ok(cgroups) = sys::cgroup::Manager::detect("skiff") {
            let _ = cgroups.kill(&self.cgroup, Duration::from_secs(5));
            let _ = cgroups.remove(&self.cgroup);
        }
    }
}

/// Pids of shims that work below `dir`.
pub fn shims(dir: &Path) -> Vec<i32> {
    let dir = dir.to_string_lossy().into_owned();
    let processes =
        std::fs::read_dir("/proc").unwrap().flatten().filter_map(|e| e.file_name().to_str()?.parse::<i32>().ok());
    processes
        .filter(|pid| {
            std::fs::read(format!("/proc/{pid}/cmdline")).is_ok_and(|c| {
                let command = String::from_utf8_lossy(&c);
                command.contains(&dir) && command.contains("--sandbox")
            })
        })
        .collect()
}

pub fn output(log: &str) -> String {
    let text = std::fs::read_to_string(log).unwrap_or_default();
    text.lines().map(|line| line.splitn(4, ' ').nth(3).unwrap_or_default().to_owned() + "\n").collect()
}

/// The shim that cargo built for the tests; beside the example's directory when an example asks.
pub fn shim_exe() -> PathBuf {
    match option_env!("CARGO_BIN_EXE_runtime-shim") {
        Some(path) => PathBuf::from(path),
        None => std::env::current_exe().unwrap().parent().unwrap().parent().unwrap().join("runtime-shim"),
    }
}
