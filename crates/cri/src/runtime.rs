//! CRI's RuntimeService.

use crate::Result;
use async_trait::async_trait;
use std::collections::BTreeMap;
use std::pin::Pin;
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::sync::{mpsc, oneshot};

pub type Labels = BTreeMap<String, String>;

// ---- sandboxes -------------------------------------------------------------------------------------------

#[derive(Clone, Debug, Default, PartialEq, serde::Serialize, serde::Deserialize)]
pub struct PodSandboxMetadata {
    pub name: String,
    pub uid: String,
    pub namespace: String,
    pub attempt: u32,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub enum Protocol {
    #[default]
    Tcp,
    Udp,
    Sctp,
}

#[derive(Clone, Debug, Default, PartialEq, serde::Serialize, serde::Deserialize)]
pub struct PortMapping {
    pub protocol: Protocol,
    pub container_port: u16,
    pub host_port: u16,
    /// Empty is all addresses.
    pub host_ip: String,
}

#[derive(Clone, Debug, Default, PartialEq, serde::Serialize, serde::Deserialize)]
pub struct DnsConfig {
    pub servers: Vec<String>,
    pub searches: Vec<String>,
    pub options: Vec<String>,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub enum NamespaceMode {
    /// One namespace for the pod.
    #[default]
    Pod,
    /// One for each container (only for pid).
    Container,
    /// The host's.
    Node,
}

#[derive(Clone, Debug, Default, PartialEq, serde::Serialize, serde::Deserialize)]
pub struct NamespaceOptions {
    pub network: NamespaceMode,
    pub pid: NamespaceMode,
    pub ipc: NamespaceMode,
}

#[derive(Clone, Debug, Default, PartialEq, serde::Serialize, serde::Deserialize)]
pub struct PodSandboxConfig {
    pub metadata: PodSandboxMetadata,
    /// Empty with host network: the host's own name is used.
    pub hostname: String,
    /// Directory for the containers' logs.
    pub log_directory: String,
    pub dns_config: DnsConfig,
    pub port_mappings: Vec<PortMapping>,
    pub labels: Labels,
    pub annotations: Labels,
    /// Path below the cgroup root, for example `/skiff/kubepods/burstable/pod<uid>`. The kubelet makes it
    /// and sets the pod's limits; the runtime makes the containers' cgroups below it.
    pub cgroup_parent: String,
    pub namespaces: NamespaceOptions,
    pub sysctls: Labels,
    /// Any container of the pod is privileged.
    pub privileged: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SandboxState {
    Ready,
    NotReady,
}

#[derive(Clone, Debug)]
pub struct PodSandboxStatus {
    pub id: String,
    pub metadata: PodSandboxMetadata,
    pub state: SandboxState,
    /// Nanoseconds since the Unix epoch.
    pub created_at_ns: i64,
    /// Primary first; empty with host network.
    pub ips: Vec<String>,
    pub namespaces: NamespaceOptions,
    pub labels: Labels,
    pub annotations: Labels,
}

// ---- containers ------------------------------------------------------------------------------------------

#[derive(Clone, Debug, Default, PartialEq, serde::Serialize, serde::Deserialize)]
pub struct ContainerMetadata {
    pub name: String,
    /// The restart count.
    pub attempt: u32,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub enum MountPropagation {
    #[default]
    Private,
    HostToContainer,
    Bidirectional,
}

#[derive(Clone, Debug, Default, PartialEq, serde::Serialize, serde::Deserialize)]
pub struct Mount {
    pub container_path: String,
    /// Empty when `image` is given.
    pub host_path: String,
    pub readonly: bool,
    pub recursive_read_only: bool,
    pub propagation: MountPropagation,
    /// An image volume: the image id whose root file system (or `image_sub_path` of it) is mounted read-only.
    pub image: Option<String>,
    pub image_sub_path: String,
}

#[derive(Clone, Debug, Default, PartialEq, serde::Serialize, serde::Deserialize)]
pub struct Device {
    pub container_path: String,
    pub host_path: String,
    /// Of `r`, `w`, `m`.
    pub permissions: String,
}

/// `None`/0: not set.
#[derive(Clone, Debug, Default, PartialEq, serde::Serialize, serde::Deserialize)]
pub struct LinuxResources {
    /// CFS period, microseconds.
    pub cpu_period: i64,
    /// CFS quota, microseconds; negative is unlimited.
    pub cpu_quota: i64,
    /// v1 shares; converted to a weight under v2.
    pub cpu_shares: i64,
    pub memory_limit_bytes: i64,
    pub memory_swap_limit_bytes: i64,
    pub oom_score_adj: i64,
    pub cpuset_cpus: String,
    pub cpuset_mems: String,
    pub pids_limit: i64,
    /// Raw cgroup v2 files.
    pub unified: BTreeMap<String, String>,
}

#[derive(Clone, Debug, Default, PartialEq, serde::Serialize, serde::Deserialize)]
pub enum SecurityProfile {
    #[default]
    Unconfined,
    RuntimeDefault,
    /// Absolute path of a profile on the node.
    Localhost(String),
}

#[derive(Clone, Debug, Default, PartialEq, serde::Serialize, serde::Deserialize)]
pub struct SecurityContext {
    pub privileged: bool,
    /// Names without `CAP_`; `ALL` is understood.
    pub add_capabilities: Vec<String>,
    pub drop_capabilities: Vec<String>,
    pub namespaces: NamespaceOptions,
    /// Of another container, for `pid: target` of ephemeral containers.
    pub target_container_id: Option<String>,
    pub run_as_user: Option<i64>,
    pub run_as_group: Option<i64>,
    /// Instead of `run_as_user`; looked up in the image's passwd file.
    pub run_as_username: String,
    pub supplemental_groups: Vec<i64>,
    /// `Strict`: groups of the image's group file are not added.
    pub supplemental_groups_strict: bool,
    pub readonly_rootfs: bool,
    pub no_new_privs: bool,
    pub seccomp: SecurityProfile,
    pub apparmor: SecurityProfile,
    /// Empty: the default lists of masked and read-only /proc paths are used when not privileged.
    pub unmasked_proc: bool,
}

#[derive(Clone, Debug, Default, PartialEq, serde::Serialize, serde::Deserialize)]
pub struct ContainerConfig {
    pub metadata: ContainerMetadata,
    /// Image id (`sha256:…`), present on the node.
    pub image: String,
    /// As the user wrote it, for status.
    pub user_specified_image: String,
    /// Replaces the image's ENTRYPOINT; when empty the image's is used.
    pub command: Vec<String>,
    /// Replaces the image's CMD; see CRI for the four combinations.
    pub args: Vec<String>,
    pub working_dir: String,
    pub envs: Vec<(String, String)>,
    pub mounts: Vec<Mount>,
    pub devices: Vec<Device>,
    pub labels: Labels,
    pub annotations: Labels,
    /// Below the sandbox's `log_directory`, for example `nginx/0.log`.
    pub log_path: String,
    pub stdin: bool,
    pub stdin_once: bool,
    pub tty: bool,
    pub resources: LinuxResources,
    pub security: SecurityContext,
    /// A signal name or number in place of the image's STOPSIGNAL.
    pub stop_signal: Option<String>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub enum ContainerState {
    Created,
    Running,
    Exited,
    Unknown,
}

#[derive(Clone, Debug)]
pub struct ContainerStatus {
    pub id: String,
    pub sandbox_id: String,
    pub metadata: ContainerMetadata,
    pub state: ContainerState,
    /// Nanoseconds since the Unix epoch; 0 is not yet.
    pub created_at_ns: i64,
    pub started_at_ns: i64,
    pub finished_at_ns: i64,
    pub exit_code: i32,
    /// The signal that ended it, 0 if none (exit_code is then 128+signal as well).
    pub signal: i32,
    /// As the user wrote it.
    pub image: String,
    /// `sha256:…` id.
    pub image_id: String,
    /// `Completed`, `Error`, `OOMKilled`, `StartError`, `ContainerCannotRun`.
    pub reason: String,
    pub message: String,
    pub labels: Labels,
    pub annotations: Labels,
    pub mounts: Vec<Mount>,
    /// Absolute.
    pub log_path: String,
    pub resources: LinuxResources,
    /// Of the process, while running.
    pub pid: i32,
    /// The identity that the first process really got: uid, gid, supplementary groups.
    pub user: Option<(i64, i64, Vec<i64>)>,
}

/// Memory and CPU of one container or sandbox at one instant.
#[derive(Clone, Debug, Default)]
pub struct ContainerStats {
    pub id: String,
    pub timestamp_ns: i64,
    /// Cumulative.
    pub cpu_usage_ns: u64,
    pub memory_usage_bytes: u64,
    pub memory_working_set_bytes: u64,
    pub memory_rss_bytes: u64,
    /// Of the writable layer.
    pub rootfs_used_bytes: u64,
    pub pids: u64,
}

#[derive(Clone, Debug)]
pub struct ExecResult {
    pub stdout: Vec<u8>,
    pub stderr: Vec<u8>,
    pub exit_code: i32,
}

#[derive(Clone, Debug, Default)]
pub struct ExecOptions {
    pub command: Vec<String>,
    pub stdin: bool,
    pub tty: bool,
}

#[derive(Clone, Copy, Debug)]
pub struct TerminalSize {
    pub width: u16,
    pub height: u16,
}

/// An exec or attach in progress. With a tty, output arrives on `stdout` only.
pub struct Session {
    pub stdin: Option<Pin<Box<dyn AsyncWrite + Send>>>,
    pub stdout: Option<Pin<Box<dyn AsyncRead + Send>>>,
    pub stderr: Option<Pin<Box<dyn AsyncRead + Send>>>,
    pub resize: Option<mpsc::Sender<TerminalSize>>,
    /// Exit code of the command (exec) or of the container (attach). Dropping the session kills an exec'd process.
    pub exit: oneshot::Receiver<Result<i32>>,
    /// The first attach that gives input: how many bytes of text the container's log had then, all of which came too
    /// early for this session. `None`: not the first, or the runtime doesn't say.
    pub logged: Option<u64>,
}

/// Something that happened to a container, so that nobody needs to poll.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum RuntimeEvent {
    ContainerStarted {
        sandbox_id: String,
        container_id: String,
    },
    ContainerExited {
        sandbox_id: String,
        container_id: String,
    },
    SandboxStopped {
        sandbox_id: String,
    },
    /// The subscriber was too slow or the connection broke: list everything again.
    Resync,
}

#[derive(Clone, Debug, Default)]
pub struct Version {
    pub runtime_name: String,
    pub runtime_version: String,
}

/// A bidirectional byte stream into a pod's network namespace.
pub trait Duplex: AsyncRead + AsyncWrite + Send + Unpin {}
impl<T: AsyncRead + AsyncWrite + Send + Unpin> Duplex for T {}

#[async_trait]
pub trait RuntimeService: Send + Sync + 'static {
    async fn version(&self) -> Result<Version>;
    /// `Err` with the reason when pods can't run yet.
    async fn ready(&self) -> std::result::Result<(), String>;
    /// As [`RuntimeService::ready`], for the network.
    async fn network_ready(&self) -> std::result::Result<(), String>;

    /// Makes the pod's namespaces and network. Returns the sandbox's id.
    async fn run_pod_sandbox(&self, config: &PodSandboxConfig, runtime_handler: &str) -> Result<String>;
    /// Kills what still runs in it and frees its network. Idempotent.
    async fn stop_pod_sandbox(&self, id: &str) -> Result<()>;
    /// Removes all traces, containers included. Idempotent.
    async fn remove_pod_sandbox(&self, id: &str) -> Result<()>;
    async fn pod_sandbox_status(&self, id: &str) -> Result<PodSandboxStatus>;
    async fn list_pod_sandboxes(&self) -> Result<Vec<PodSandboxStatus>>;

    async fn create_container(&self, sandbox_id: &str, config: &ContainerConfig) -> Result<String>;
    async fn start_container(&self, id: &str) -> Result<()>;
    /// Stop signal, then SIGKILL after `grace`. Returns when the process is gone. Idempotent.
    async fn stop_container(&self, id: &str, grace: Duration) -> Result<()>;
    async fn remove_container(&self, id: &str) -> Result<()>;
    async fn container_status(&self, id: &str) -> Result<ContainerStatus>;
    async fn list_containers(&self) -> Result<Vec<ContainerStatus>>;
    async fn update_container_resources(&self, id: &str, resources: &LinuxResources) -> Result<()>;
    /// The kubelet has renamed the log file; write to a new one from now on.
    async fn reopen_container_log(&self, id: &str) -> Result<()>;
    async fn container_stats(&self, id: &str) -> Result<ContainerStats>;

    /// Runs a command to its end; [`crate::Error::DeadlineExceeded`] (and the process is killed) after `timeout`.
    async fn exec_sync(&self, id: &str, command: &[String], timeout: Duration) -> Result<ExecResult>;
    async fn exec(&self, id: &str, options: &ExecOptions) -> Result<Session>;
    async fn attach(&self, id: &str, options: &ExecOptions) -> Result<Session>;
    /// Connects to `127.0.0.1:port` (then `[::1]`) inside the sandbox.
    async fn port_forward(&self, sandbox_id: &str, port: u16) -> Result<Box<dyn Duplex>>;

    async fn events(&self) -> Result<mpsc::Receiver<RuntimeEvent>>;
}
