//! A container: its record on disk, its phase, and the plan of how to run it.
//!
//! [`plan`] is pure: from what the kubelet asked, what the image says and what the sandbox has, to the
//! [`ContainerSpec`] that a shim carries out.

use crate::image::ImageConfig;
use crate::sandbox::SandboxRecord;
use crate::shim::protocol::{Exit, Started};
use crate::spec::{ContainerSpec, DeviceNode, MountSource, MountSpec, PidMode, ProcessSpec, Rootfs, UserSpec};
use crate::state;
use cri::{ContainerConfig, LinuxResources, NamespaceMode};
use serde::{Deserialize, Serialize};
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::{Path, PathBuf};
use sys::capability::Set;
use sys::cgroup::{DeviceKind, DeviceRule, Resources};

pub const RECORD: &str = "container.json";
pub const EXIT: &str = "exit.json";

/// What containerd gives a container that asks for nothing.
const DEFAULT_CAPABILITIES: [&str; 14] = [
    "CHOWN",
    "DAC_OVERRIDE",
    "FSETID",
    "FOWNER",
    "MKNOD",
    "NET_RAW",
    "SETGID",
    "SETUID",
    "SETFCAP",
    "SETPCAP",
    "NET_BIND_SERVICE",
    "SYS_CHROOT",
    "KILL",
    "AUDIT_WRITE",
];

#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct ContainerRecord {
    pub id: String,
    pub sandbox_id: String,
    pub config: ContainerConfig,
    pub created_at_ns: i64,
    pub image_id: String,
    /// Of the image, topmost first; they must not be collected.
    pub layers: Vec<String>,
    /// Of image volumes, in the order of the mounts that name one.
    pub image_volumes: Vec<Vec<String>>,
    pub image_config: ImageConfig,
    /// Absolute; empty when there is no log.
    pub log_path: String,
    pub cgroup: String,
    /// Replaced by an update.
    pub resources: LinuxResources,
}

/// Where a container is in its life.
#[derive(Clone, Debug)]
pub enum Phase {
    Created,
    Running(Started),
    Exited(Exit),
}

/// Layer directories that containers use, read from their records: also another process' ones.
pub fn layers_in_use(containers: &Path) -> Vec<String> {
    let Ok(entries) = std::fs::read_dir(containers) else {
        return Vec::new();
    };
    let records =
        entries.flatten().filter_map(|e| state::read::<ContainerRecord>(&e.path().join(RECORD)).ok().flatten());
    records.flat_map(|r| r.layers.into_iter().chain(r.image_volumes.into_iter().flatten())).collect()
}

/// Where things are on this machine, for [`plan`].
pub struct Places<'a> {
    pub layers: &'a Path,
    /// The container's own directory.
    pub container: &'a Path,
    /// The sandbox's files: resolv.conf, hostname.
    pub sandbox: &'a Path,
    /// The sandbox's /dev/shm, unless it uses the host's.
    pub shm: Option<&'a Path>,
    pub seccomp: Option<PathBuf>,
    /// Pid of the container whose pid namespace is to be shared.
    pub target_pid: Option<i32>,
    pub host_hostname: &'a str,
    pub devices: Vec<DeviceNode>,
}

pub fn plan(record: &ContainerRecord, sandbox: &SandboxRecord, places: Places<'_>) -> Result<ContainerSpec, String> {
    let config = &record.config;
    let security = &config.security;
    let process = ProcessSpec {
        args: arguments(config, &record.image_config)?,
        env: environment(config, &record.image_config, sandbox, places.host_hostname),
        cwd: working_dir(config, &record.image_config),
        user: user(config, &record.image_config),
        capabilities: capabilities(config)?.0,
        no_new_privs: security.no_new_privs,
        seccomp: places.seccomp,
        oom_score_adj: Some(record.resources.oom_score_adj).filter(|adj| *adj != 0),
        tty: config.tty,
        cgroup: record.cgroup.clone(),
    };
    let pid = match (security.namespaces.pid, places.target_pid) {
        (_, Some(pid)) => PidMode::Of(pid),
        (NamespaceMode::Node, None) => PidMode::Host,
        (NamespaceMode::Pod, None) if sandbox.config.namespaces.pid == NamespaceMode::Pod => PidMode::Pod,
        _ => PidMode::Own,
    };
    Ok(ContainerSpec {
        id: record.id.clone(),
        rootfs: Rootfs {
            lower: record.layers.clone(),
            layers: places.layers.to_owned(),
            upper: places.container.join("upper"),
            work: places.container.join("work"),
            target: places.container.join("rootfs"),
            readonly: security.readonly_rootfs,
        },
        mounts: mounts(record, places.layers, places.container, places.sandbox),
        devices: places.devices,
        process,
        pid,
        privileged: security.privileged,
        unmasked_proc: security.unmasked_proc,
        host_network: sandbox.config.namespaces.network == NamespaceMode::Node,
        shm: places.shm.map(Path::to_owned),
        stdin: config.stdin,
        stdin_once: config.stdin_once,
        log_path: Some(&record.log_path).filter(|p| !p.is_empty()).map(PathBuf::from),
        exit_path: places.container.join(EXIT),
    })
}

/// CRI's four combinations of command and args with the image's ENTRYPOINT and CMD.
fn arguments(config: &ContainerConfig, image: &ImageConfig) -> Result<Vec<String>, String> {
    let (mut command, mut args) = (config.command.clone(), config.args.clone());
    if command.is_empty() {
        if args.is_empty() {
            args = image.cmd.clone().unwrap_or_default();
        }
        command = image.entrypoint.clone().unwrap_or_default();
    }
    command.extend(args);
    if command.is_empty() { Err("no command specified".to_owned()) } else { Ok(command) }
}

fn environment(
    config: &ContainerConfig,
    image: &ImageConfig,
    sandbox: &SandboxRecord,
    host_hostname: &str,
) -> Vec<(String, String)> {
    let path = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";
    let hostname = if sandbox.config.hostname.is_empty() { host_hostname } else { &sandbox.config.hostname };
    let mut env: Vec<(String, String)> =
        vec![("PATH".to_owned(), path.to_owned()), ("HOSTNAME".to_owned(), hostname.to_owned())];
    if config.tty {
        env.push(("TERM".to_owned(), "xterm".to_owned()));
    }
    let of_image = image.env.iter().flatten().filter_map(|pair| pair.split_once('='));
    let all = of_image.chain(config.envs.iter().map(|(n, v)| (n.as_str(), v.as_str())));
    for (name, value) in all {
        match env.iter_mut().find(|(n, _)| n == name) {
            Some(known) => known.1 = value.to_owned(),
            None => env.push((name.to_owned(), value.to_owned())),
        }
    }
    env
}

fn working_dir(config: &ContainerConfig, image: &ImageConfig) -> String {
    let dir = Some(&config.working_dir).filter(|d| !d.is_empty()).or(image.working_dir.as_ref());
    dir.filter(|d| !d.is_empty())
        .map_or_else(|| "/".to_owned(), |d| Path::new("/").join(d).to_string_lossy().into_owned())
}

fn user(config: &ContainerConfig, image: &ImageConfig) -> UserSpec {
    let security = &config.security;
    let name = match security.run_as_user {
        Some(uid) => uid.to_string(),
        None if !security.run_as_username.is_empty() => security.run_as_username.clone(),
        None => image.user.clone().unwrap_or_default(),
    };
    UserSpec {
        name,
        gid: security.run_as_group.and_then(|gid| u32::try_from(gid).ok()),
        supplemental: security.supplemental_groups.iter().filter_map(|gid| u32::try_from(*gid).ok()).collect(),
        strict: security.supplemental_groups_strict,
    }
}

/// Additions and drops on top of the default; `ALL` in either comes first, single names refine it.
pub fn capabilities(config: &ContainerConfig) -> Result<Set, String> {
    let security = &config.security;
    if security.privileged {
        return Ok(Set::ALL);
    }
    let is_all = |name: &String| name.eq_ignore_ascii_case("ALL");
    let named = |names: &[String]| -> Result<Set, String> {
        let mut set = Set::default();
        for name in names.iter().filter(|n| !is_all(n)) {
            let number = sys::capability::number(name)
                .ok_or_else(|| format!("unknown capability \"CAP_{}\"", name.trim_start_matches("CAP_")))?;
            set = set.union(Set(1 << number));
        }
        Ok(set)
    };
    let mut set = Set::of(&DEFAULT_CAPABILITIES);
    if security.add_capabilities.iter().any(is_all) {
        set = Set::ALL;
    }
    if security.drop_capabilities.iter().any(is_all) {
        set = Set::default();
    }
    Ok(set.union(named(&security.add_capabilities)?).without(named(&security.drop_capabilities)?))
}

fn mounts(record: &ContainerRecord, layers: &Path, container: &Path, sandbox: &Path) -> Vec<MountSpec> {
    let config = &record.config;
    let mut volumes = record.image_volumes.iter();
    let mut mounts: Vec<MountSpec> = Vec::new();
    let given = |path: &str| config.mounts.iter().any(|m| m.container_path == path);
    for name in ["resolv.conf", "hostname"] {
        let target = format!("/etc/{name}");
        if !given(&target) {
            mounts.push(MountSpec {
                source: MountSource::Host(sandbox.join(name)),
                target: PathBuf::from(target),
                readonly: config.security.readonly_rootfs,
                recursive_readonly: false,
                propagation: cri::MountPropagation::Private,
            });
        }
    }
    for (index, mount) in config.mounts.iter().enumerate() {
        let source = match &mount.image {
            Some(_) => MountSource::Image {
                layers: layers.to_owned(),
                lower: volumes.next().cloned().unwrap_or_default(),
                sub_path: PathBuf::from(&mount.image_sub_path),
                target: container.join(format!("image-{index}")),
            },
            None => MountSource::Host(PathBuf::from(&mount.host_path)),
        };
        mounts.push(MountSpec {
            source,
            target: PathBuf::from(&mount.container_path),
            readonly: mount.readonly || mount.image.is_some(),
            recursive_readonly: mount.recursive_read_only,
            propagation: mount.propagation,
        });
    }
    mounts
}

/// The device nodes to make, and the rules for the devices cgroup.
pub fn devices(config: &ContainerConfig) -> Result<(Vec<DeviceNode>, Vec<DeviceRule>), String> {
    use DeviceKind::{All, Block, Char};
    if config.security.privileged {
        return Ok((host_devices(), vec![DeviceRule::new(All, None, None, "rwm")]));
    }
    let mut nodes = Vec::new();
    // Making any node is harmless as long as it can't be opened.
    let mut rules = vec![DeviceRule::new(Char, None, None, "m"), DeviceRule::new(Block, None, None, "m")];
    for (major, minor) in [(1, 3), (1, 5), (1, 7), (1, 8), (1, 9), (5, 0), (5, 1), (5, 2)] {
        rules.push(DeviceRule::new(Char, Some(major), Some(minor), "rwm"));
    }
    rules.push(DeviceRule::new(Char, Some(136), None, "rwm"));
    for device in &config.devices {
        let node = device_node(Path::new(&device.host_path), Path::new(&device.container_path)).ok_or_else(|| {
            format!(
                "error gathering device information while adding custom device {:?}: not a device node",
                device.host_path
            )
        })?;
        let kind = if node.block { Block } else { Char };
        rules.push(DeviceRule::new(kind, Some(node.major), Some(node.minor), &device.permissions));
        nodes.push(node);
    }
    Ok((nodes, rules))
}

fn device_node(host: &Path, container: &Path) -> Option<DeviceNode> {
    let meta = std::fs::metadata(host).ok()?;
    let block = meta.file_type().is_block_device();
    (block || meta.file_type().is_char_device()).then(|| DeviceNode {
        path: container.to_owned(),
        block,
        major: libc::major(meta.rdev()),
        minor: libc::minor(meta.rdev()),
        mode: meta.mode() & 0o7777,
        uid: meta.uid(),
        gid: meta.gid(),
    })
}

/// Everything in /dev but what a container gets of its own.
fn host_devices() -> Vec<DeviceNode> {
    let mut nodes = Vec::new();
    let mut pending = vec![PathBuf::from("/dev")];
    while let Some(dir) = pending.pop() {
        let Ok(entries) = std::fs::read_dir(&dir) else {
            continue;
        };
        for entry in entries.flatten() {
            let path = entry.path();
            let Ok(kind) = entry.file_type() else {
                continue;
            };
            if kind.is_dir() {
                let own = ["pts", "shm", "fd", "mqueue", ".lxc", ".lxd-mounts", ".udev"];
                if !own.iter().any(|name| path.ends_with(name)) {
                    pending.push(path);
                }
            } else if !path.ends_with("console")
                && !path.ends_with("ptmx")
                && (kind.is_block_device() || kind.is_char_device())
            {
                nodes.extend(device_node(&path, &path));
            }
        }
    }
    nodes
}

/// CRI's zeros mean "not set".
pub fn cgroup_resources(resources: &LinuxResources, devices: Option<Vec<DeviceRule>>) -> Resources {
    let set = |n: i64| (n != 0).then_some(n);
    let text = |t: &String| (!t.is_empty()).then(|| t.clone());
    Resources {
        cpu_shares: set(resources.cpu_shares).and_then(|n| u64::try_from(n).ok()),
        cpu_quota_us: set(resources.cpu_quota),
        cpu_period_us: set(resources.cpu_period).and_then(|n| u64::try_from(n).ok()),
        memory_limit: set(resources.memory_limit_bytes),
        memory_swap_limit: set(resources.memory_swap_limit_bytes),
        pids_limit: set(resources.pids_limit),
        cpuset_cpus: text(&resources.cpuset_cpus),
        cpuset_mems: text(&resources.cpuset_mems),
        hugepage_limits: Vec::new(),
        devices,
        unified: resources.unified.clone(),
    }
}

/// What an update leaves at zero keeps its value.
pub fn merge_resources(old: &LinuxResources, new: &LinuxResources) -> LinuxResources {
    let number = |new: i64, old: i64| if new != 0 { new } else { old };
    let text = |new: &str, old: &str| {
        if new.is_empty() { old.to_owned() } else { new.to_owned() }
    };
    LinuxResources {
        cpu_period: number(new.cpu_period, old.cpu_period),
        cpu_quota: number(new.cpu_quota, old.cpu_quota),
        cpu_shares: number(new.cpu_shares, old.cpu_shares),
        memory_limit_bytes: number(new.memory_limit_bytes, old.memory_limit_bytes),
        memory_swap_limit_bytes: number(new.memory_swap_limit_bytes, old.memory_swap_limit_bytes),
        oom_score_adj: number(new.oom_score_adj, old.oom_score_adj),
        cpuset_cpus: text(&new.cpuset_cpus, &old.cpuset_cpus),
        cpuset_mems: text(&new.cpuset_mems, &old.cpuset_mems),
        pids_limit: number(new.pids_limit, old.pids_limit),
        unified: old.unified.iter().chain(&new.unified).map(|(k, v)| (k.clone(), v.clone())).collect(),
    }
}

/// The signal that asks a container to end.
pub fn stop_signal(record: &ContainerRecord) -> i32 {
    let asked = record.config.stop_signal.as_deref().and_then(sys::process::signal_number);
    asked
        .or_else(|| record.image_config.stop_signal.as_deref().and_then(sys::process::signal_number))
        .unwrap_or(libc::SIGTERM)
}

/// CRI's view.
pub fn status(record: &ContainerRecord, phase: &Phase) -> cri::ContainerStatus {
    let mut status = cri::ContainerStatus {
        id: record.id.clone(),
        sandbox_id: record.sandbox_id.clone(),
        metadata: record.config.metadata.clone(),
        state: cri::ContainerState::Created,
        created_at_ns: record.created_at_ns,
        started_at_ns: 0,
        finished_at_ns: 0,
        exit_code: 0,
        signal: 0,
        image: record.config.user_specified_image.clone(),
        image_id: record.image_id.clone(),
        reason: String::new(),
        message: String::new(),
        labels: record.config.labels.clone(),
        annotations: record.config.annotations.clone(),
        mounts: record.config.mounts.clone(),
        log_path: record.log_path.clone(),
        resources: record.resources.clone(),
        pid: 0,
        user: None,
    };
    let started = match phase {
        Phase::Created => return status,
        Phase::Running(started) => {
            status.state = cri::ContainerState::Running;
            status.pid = started.pid;
            started
        }
        Phase::Exited(exit) => {
            status.state = cri::ContainerState::Exited;
            status.finished_at_ns = exit.finished_at_ns;
            status.exit_code = exit.exit_code;
            status.signal = exit.signal;
            (status.reason, status.message) = match &exit.failure {
                Some((reason, message)) => (reason.clone(), message.clone()),
                None if exit.oom_killed => ("OOMKilled".to_owned(), String::new()),
                None if exit.exit_code == 0 => ("Completed".to_owned(), String::new()),
                None => ("Error".to_owned(), String::new()),
            };
            &exit.started
        }
    };
    status.started_at_ns = started.started_at_ns;
    if started.started_at_ns != 0 {
        let groups = started.groups.iter().map(|g| i64::from(*g)).collect();
        status.user = Some((i64::from(started.uid), i64::from(started.gid), groups));
    }
    status
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words(text: &str) -> Vec<String> {
        text.split_whitespace().map(str::to_owned).collect()
    }

    #[test]
    fn command_and_args_against_the_image() {
        let image = ImageConfig { entrypoint: Some(words("/entry -x")), cmd: Some(words("cmd")), ..Default::default() };
        for (command, args, expected) in
            [("", "", "/entry -x cmd"), ("", "a b", "/entry -x a b"), ("/run", "", "/run"), ("/run", "a", "/run a")]
        {
            let config = ContainerConfig { command: words(command), args: words(args), ..Default::default() };
            assert_eq!(arguments(&config, &image).unwrap(), words(expected));
        }
        assert!(arguments(&ContainerConfig::default(), &ImageConfig::default()).is_err());
    }

    #[test]
    fn capabilities_are_added_and_dropped() {
        let check = |add: &str, drop: &str, expected: Set| {
            let mut config = ContainerConfig::default();
            config.security.add_capabilities = words(add);
            config.security.drop_capabilities = words(drop);
            assert_eq!(capabilities(&config).unwrap(), expected, "+{add} -{drop}");
        };
        let default = Set::of(&DEFAULT_CAPABILITIES);
        check("", "", default);
        check("NET_ADMIN", "CHOWN", default.union(Set::of(&["NET_ADMIN"])).without(Set::of(&["CHOWN"])));
        check("NET_BIND_SERVICE", "ALL", Set::of(&["NET_BIND_SERVICE"]));
        check("ALL", "SYS_ADMIN", Set::ALL.without(Set::of(&["SYS_ADMIN"])));
        let mut config = ContainerConfig::default();
        config.security.add_capabilities = words("FLY");
        assert!(capabilities(&config).is_err());
    }

    #[test]
    fn the_pods_environment_wins_over_the_images() {
        let image = ImageConfig { env: Some(words("PATH=/image A=image")), ..Default::default() };
        let config = ContainerConfig { envs: vec![("A".into(), "pod".into())], ..Default::default() };
        let env = environment(&config, &image, &SandboxRecord::default(), "host");
        let expected =
            [("PATH", "/image"), ("HOSTNAME", "host"), ("A", "pod")].map(|(n, v)| (n.to_owned(), v.to_owned()));
        assert_eq!(env, expected);
    }
}
