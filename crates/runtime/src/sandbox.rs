//! A pod's sandbox: its record on disk, its files, and the start of its shim.

use crate::shim;
use crate::spec::ShimSpec;
use crate::state::{self, Durability};
use cri::{Error, NamespaceMode, PodSandboxConfig, Result};
use nix::mount::{MntFlags, MsFlags, mount, umount2};
use serde::{Deserialize, Serialize};
use std::fs;
use std::os::fd::AsRawFd;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Stdio;

pub const RECORD: &str = "sandbox.json";

/// Kubernetes' size of a pod's /dev/shm.
const SHM_OPTIONS: &str = "mode=1777,size=65536k";

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum Life {
    /// Being made; one that is found so at start was cut short.
    #[default]
    Creating,
    Ready,
    Stopped,
}

#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct SandboxRecord {
    pub id: String,
    pub config: PodSandboxConfig,
    pub created_at_ns: i64,
    pub ips: Vec<String>,
    pub life: Life,
}

/// Where a sandbox's things are.
#[derive(Clone, Debug)]
pub struct SandboxPlaces {
    /// Survives a reboot: record, resolv.conf, hostname.
    pub persistent: PathBuf,
    /// Does not: socket, shm.
    pub state: PathBuf,
    pub netns: PathBuf,
}

impl SandboxPlaces {
    pub fn new(root: &Path, state: &Path, id: &str) -> SandboxPlaces {
        SandboxPlaces {
            persistent: root.join("sandboxes").join(id),
            state: state.join("sandboxes").join(id),
            netns: state.join("netns").join(id),
        }
    }

    pub fn shm(&self) -> PathBuf {
        self.state.join("shm")
    }
}

fn internal(what: &str) -> impl FnOnce(std::io::Error) -> Error {
    let what = what.to_owned();
    move |e| Error::Internal(format!("failed to {what}: {e}"))
}

impl SandboxRecord {
    pub fn save(&self, places: &SandboxPlaces) -> Result<()> {
        state::write(&places.persistent.join(RECORD), self, Durability::Process).map_err(internal("save sandbox"))
    }

    pub fn host_network(&self) -> bool {
        self.config.namespaces.network == NamespaceMode::Node
    }

    pub fn host_ipc(&self) -> bool {
        self.config.namespaces.ipc == NamespaceMode::Node
    }
}

/// Directories, files and /dev/shm. Blocking, but only as long as a few system calls.
pub fn prepare(record: &SandboxRecord, places: &SandboxPlaces) -> Result<()> {
    let config = &record.config;
    for dir in [&places.persistent, &places.state] {
        fs::create_dir_all(dir).map_err(internal("create sandbox directory"))?;
        fs::set_permissions(dir, fs::Permissions::from_mode(0o700)).map_err(internal("protect sandbox directory"))?;
    }
    if let Some(parent) = places.netns.parent() {
        fs::create_dir_all(parent).map_err(internal("create netns directory"))?;
    }
    record.save(places)?;
    let hostname = if config.hostname.is_empty() { host_hostname() } else { config.hostname.clone() };
    let file = |name: &str, text: String| {
        let path = places.persistent.join(name);
        fs::write(&path, text).and_then(|()| fs::set_permissions(&path, fs::Permissions::from_mode(0o644)))
    };
    file("hostname", hostname + "\n").map_err(internal("write hostname"))?;
    file("resolv.conf", resolv_conf(config)).map_err(internal("write resolv.conf"))?;
    if !record.host_ipc() {
        fs::create_dir_all(places.shm()).map_err(internal("create shm"))?;
        let flags = MsFlags::MS_NOSUID | MsFlags::MS_NODEV | MsFlags::MS_NOEXEC;
        mount(Some("shm"), &places.shm(), Some("tmpfs"), flags, Some(SHM_OPTIONS))
            .map_err(|e| internal("mount /dev/shm")(e.into()))?;
    }
    let spec = ShimSpec {
        sandbox: record.id.clone(),
        // With the host's network the host's name is what resolves.
        hostname: (!record.host_network()).then(|| config.hostname.clone()).filter(|h| !h.is_empty()),
        netns: (!record.host_network()).then(|| places.netns.clone()),
        ipc: !record.host_ipc(),
        shared_pid: config.namespaces.pid == NamespaceMode::Pod,
        sysctls: config.sysctls.iter().map(|(n, v)| (n.clone(), v.clone())).collect(),
    };
    state::write(&places.state.join(shim::SPEC), &spec, Durability::Process).map_err(internal("write shim.json"))
}

pub fn host_hostname() -> String {
    nix::unistd::gethostname().map_or_else(|_| "localhost".to_owned(), |name| name.to_string_lossy().into_owned())
}

/// As CRI's runtimes write it; with nothing asked for, the host's own.
fn resolv_conf(config: &PodSandboxConfig) -> String {
    let dns = &config.dns_config;
    if dns.servers.is_empty() && dns.searches.is_empty() && dns.options.is_empty() {
        return fs::read_to_string("/etc/resolv.conf").unwrap_or_default();
    }
    let mut text = String::new();
    if !dns.searches.is_empty() {
        text += &format!("search {}\n", dns.searches.join(" "));
    }
    for server in &dns.servers {
        text += &format!("nameserver {server}\n");
    }
    if !dns.options.is_empty() {
        text += &format!("options {}\n", dns.options.join(" "));
    }
    text
}

/// Starts the shim and waits until it serves. `executable` is a read-only mount of it, if we could make one, so
/// that a container that gets hold of `/proc/<pid>/exe` can't write to it.
pub async fn start_shim(
    places: &SandboxPlaces,
    exe: &Path,
    args: &[String],
    executable: Option<&std::os::fd::OwnedFd>,
) -> Result<()> {
    let failed = |e: std::io::Error| Error::Internal(format!("failed to start sandbox shim: {e}"));
    let program =
        executable.map_or_else(|| exe.to_owned(), |fd| PathBuf::from(format!("/proc/self/fd/{}", fd.as_raw_fd())));
    let log = fs::File::create(places.state.join("shim.log")).map_err(failed)?;
    let mut command = tokio::process::Command::new(program);
    command
        .arg0(exe)
        .args(args)
        .arg("--sandbox")
        .arg(&places.state)
        .current_dir("/")
        .env_clear()
        // The shim allocates little and lives long: one arena, no caches.
        .env("_RJEM_MALLOC_CONF", "narenas:1,tcache:false,dirty_decay_ms:0,muzzy_decay_ms:0")
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(log);
    let mut child = command.spawn().map_err(failed)?;
    let mut answer = String::new();
    if let Some(mut stdout) = child.stdout.take() {
        // Ends when the shim, or whatever is left of it, closes the pipe.
        tokio::io::AsyncReadExt::read_to_string(&mut stdout, &mut answer).await.map_err(failed)?;
    }
    if answer == shim::READY {
        // Ours to reap for as long as we live, then init's.
        tokio::spawn(async move { child.wait().await });
        return Ok(());
    }
    let _ = child.wait().await;
    let detail =
        if answer.is_empty() { fs::read_to_string(places.state.join("shim.log")).unwrap_or_default() } else { answer };
    Err(Error::Internal(format!("failed to create sandbox: {}", detail.trim())))
}

/// Unmounts and deletes what a sandbox has outside of its record. Idempotent.
pub fn clear_state(places: &SandboxPlaces) {
    detach(&places.netns);
    let _ = fs::remove_file(&places.netns);
    detach(&places.shm());
    // Never through a mount that would not go: a shm is lost anyway, but a namespace file is not ours to follow.
    let _ = fs::remove_dir_all(&places.state);
}

pub(crate) fn detach(path: &Path) {
    // A killed start may have left more than one on top of each other.
    for _ in 0..8 {
        if umount2(path, MntFlags::MNT_DETACH | MntFlags::UMOUNT_NOFOLLOW).is_err() {
            return;
        }
    }
}

/// Kills a shim that does not answer, if its pid is still its own. Its containers die by their cgroups.
pub fn kill_shim(places: &SandboxPlaces) {
    let Some(pid) = fs::read_to_string(places.state.join(shim::PID)).ok().and_then(|t| t.trim().parse::<i32>().ok())
    else {
        return;
    };
    let Ok(pidfd) = sys::process::pidfd_open(pid) else {
        return;
    };
    let command = fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
    let ours = command.split(|b| *b == 0).any(|arg| arg == places.state.as_os_str().as_encoded_bytes());
    if ours {
        use std::os::fd::AsFd;
        let _ = sys::process::pidfd_send_signal(pidfd.as_fd(), libc::SIGKILL);
        let mut ready = [nix::poll::PollFd::new(pidfd.as_fd(), nix::poll::PollFlags::POLLIN)];
        let _ = nix::poll::poll(&mut ready, nix::poll::PollTimeout::from(5_000u16));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn resolv_conf_is_written_as_asked() {
        let mut config = PodSandboxConfig::default();
        config.dns_config.servers = vec!["10.43.0.10".into()];
        config.dns_config.searches = vec!["a.svc.cluster.local".into(), "cluster.local".into()];
        config.dns_config.options = vec!["ndots:5".into()];
        assert_eq!(
            resolv_conf(&config),
            "search a.svc.cluster.local cluster.local\nnameserver 10.43.0.10\noptions ndots:5\n"
        );
    }
}
