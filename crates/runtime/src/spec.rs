//! What a shim needs to know to make a container: everything decided, nothing left to look up but users in the
//! container's own `/etc/passwd`.

use serde::{Deserialize, Serialize};
use std::path::PathBuf;

/// How the shim of a pod begins; `shim.json` in the sandbox's state directory.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct ShimSpec {
    pub sandbox: String,
    /// `None`: the host's UTS namespace.
    pub hostname: Option<String>,
    /// Where the network namespace is to be bind-mounted; `None`: the host's network.
    pub netns: Option<PathBuf>,
    /// An IPC namespace for the pod.
    pub ipc: bool,
    /// One pid namespace for the pod, with an init of its own.
    pub shared_pid: bool,
    /// Name (with dots or slashes) and value.
    pub sysctls: Vec<(String, String)>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum PidMode {
    /// A namespace for this container.
    Own,
    /// The pod's.
    Pod,
    /// The host's.
    Host,
    /// That of the process with this pid.
    Of(i32),
}

#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct ContainerSpec {
    pub id: String,
    pub rootfs: Rootfs,
    pub mounts: Vec<MountSpec>,
    pub devices: Vec<DeviceNode>,
    pub process: ProcessSpec,
    pub pid: PidMode,
    /// All of the host's devices, writable /sys and nothing masked.
    pub privileged: bool,
    /// Leave all of /proc visible and writable.
    pub unmasked_proc: bool,
    /// The pod shares the host's network, whose sysfs it may then see.
    pub host_network: bool,
    /// Directory to be /dev/shm; `None`: the host's own.
    pub shm: Option<PathBuf>,
    pub stdin: bool,
    pub stdin_once: bool,
    pub log_path: Option<PathBuf>,
    /// Where the shim persists how it ended.
    pub exit_path: PathBuf,
}

/// An overlay of layers.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Rootfs {
    /// Names below `layers`, topmost first.
    pub lower: Vec<String>,
    pub layers: PathBuf,
    /// Writable layer, with its work directory beside it; the root is mounted on `target`.
    pub upper: PathBuf,
    pub work: PathBuf,
    pub target: PathBuf,
    pub readonly: bool,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct MountSpec {
    pub source: MountSource,
    pub target: PathBuf,
    pub readonly: bool,
    /// Also what is mounted below.
    pub recursive_readonly: bool,
    pub propagation: cri::MountPropagation,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum MountSource {
    Host(PathBuf),
    /// An image's file system, read-only.
    Image {
        layers: PathBuf,
        lower: Vec<String>,
        sub_path: PathBuf,
        target: PathBuf,
    },
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct DeviceNode {
    pub path: PathBuf,
    pub block: bool,
    pub major: u32,
    pub minor: u32,
    pub mode: u32,
    pub uid: u32,
    pub gid: u32,
}

/// A process inside a container: its first one, or an exec'd one.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct ProcessSpec {
    pub args: Vec<String>,
    pub env: Vec<(String, String)>,
    pub cwd: String,
    pub user: UserSpec,
    /// Bits as the kernel numbers capabilities.
    pub capabilities: u64,
    pub no_new_privs: bool,
    /// A compiled filter on disk.
    pub seccomp: Option<PathBuf>,
    pub oom_score_adj: Option<i64>,
    pub tty: bool,
    /// Below the cgroup root.
    pub cgroup: String,
}

/// Who to be. Names are looked up in the container's files by the process itself.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct UserSpec {
    /// `user`, `uid`, `user:group` in any mixture; as in an image's config.
    pub name: String,
    pub gid: Option<u32>,
    pub supplemental: Vec<u32>,
    /// Don't add the groups of the image's group file.
    pub strict: bool,
}
