//! The process that becomes a container's first process, or an exec'd one.
//!
//! It is a fork of the shim, so it has one thread and may allocate. In: a specification and its standard
//! streams. Out, over `sync`: who it became (and the terminal's master), or why it could not start; the end of
//! that stream without an error means that the program runs. Each step's failure is a text that reads after
//! "unable to start container process: ".

use crate::shim::user;
use crate::spec::{ContainerSpec, DeviceNode, MountSource, MountSpec, PidMode, ProcessSpec};
use nix::mount::{MntFlags, MsFlags, mount, umount2};
use nix::sched::{CloneFlags, setns, unshare};
use nix::sys::stat::{Mode, SFlag, makedev, mknod, umask};
use nix::unistd::{chdir, fchown, pivot_root, setsid};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::convert::Infallible;
use std::ffi::CString;
use std::fmt::Display;
use std::fs;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};
use sys::mount::{ATTR_RDONLY, Propagation, attach, clone_tree, set_attributes};

/// What the child tells the shim before its program runs.
#[derive(Debug, Serialize, Deserialize)]
pub enum Report {
    /// With the terminal's master, if there is one.
    Ready {
        uid: u32,
        gid: u32,
        groups: Vec<u32>,
    },
    Failed(String),
}

/// stdin, stdout, stderr; with a terminal all are `None` and the child makes one.
pub type Streams = [Option<OwnedFd>; 3];

type Step<T> = Result<T, String>;

const DEFAULT_PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

fn failed<E: Display>(what: impl Display) -> impl FnOnce(E) -> String {
    move |e| format!("{what}: {}", describe(&e.to_string()))
}

/// Errors as a user of other runtimes knows them: without Rust's `(os error 2)`, in lower case.
fn describe(text: &str) -> String {
    let text = text.split(" (os error").next().unwrap_or(text);
    let text = text
        .split_once(": ")
        .filter(|(code, _)| code.starts_with('E') && code.chars().all(|c| c.is_ascii_uppercase() || c.is_ascii_digit()))
        .map_or(text, |(_, rest)| rest);
    let mut chars = text.chars();
    chars.next().map_or_else(String::new, |first| first.to_lowercase().chain(chars).collect())
}

/// Never returns: either the program runs in this process, or the process ends. `filter` is a compiled seccomp
/// program, read by the shim while the host's file system is in sight.
pub fn container(
    spec: &ContainerSpec,
    cgroups: &sys::cgroup::Manager,
    filter: Option<&[u8]>,
    sync: OwnedFd,
    streams: Streams,
) -> ! {
    let error = match enter_new(spec, cgroups)
        .and_then(|()| run(&spec.process, filter, &sync, streams, spec.rootfs.readonly))
    {
        Ok(never) => match never {},
        Err(error) => error,
    };
    let _ = super::protocol::send(sync.as_fd(), &Report::Failed(error), &[]);
    sys::process::exit_now(128)
}

/// As [`container`], for a command inside a container that runs.
pub fn exec(
    process: &ProcessSpec,
    namespaces: &[(OwnedFd, CloneFlags)],
    cgroups: &sys::cgroup::Manager,
    filter: Option<&[u8]>,
    sync: OwnedFd,
    streams: Streams,
) -> ! {
    let error =
        match enter_existing(process, namespaces, cgroups).and_then(|()| run(process, filter, &sync, streams, false)) {
            Ok(never) => match never {},
            Err(error) => error,
        };
    let _ = super::protocol::send(sync.as_fd(), &Report::Failed(error), &[]);
    sys::process::exit_now(128)
}

fn join_cgroup(process: &ProcessSpec, cgroups: &sys::cgroup::Manager) -> Step<()> {
    if cgroups.version() == sys::cgroup::Version::V1 {
        cgroups.join(&process.cgroup).map_err(failed("unable to apply cgroup configuration"))?;
    }
    if let Some(adjustment) = process.oom_score_adj {
        // Lowering it needs CAP_SYS_RESOURCE, which a Skiff inside a container may lack.
        let _ = fs::write("/proc/self/oom_score_adj", adjustment.to_string());
    }
    Ok(())
}

fn enter_existing(
    process: &ProcessSpec,
    namespaces: &[(OwnedFd, CloneFlags)],
    cgroups: &sys::cgroup::Manager,
) -> Step<()> {
    join_cgroup(process, cgroups)?;
    setsid().map_err(failed("setsid"))?;
    for (namespace, kind) in namespaces {
        setns(namespace, *kind).map_err(failed("setns"))?;
    }
    umask(Mode::from_bits_truncate(0o022));
    Ok(())
}

/// From the host's view of the file system to the container's.
fn enter_new(spec: &ContainerSpec, cgroups: &sys::cgroup::Manager) -> Step<()> {
    join_cgroup(&spec.process, cgroups)?;
    setsid().map_err(failed("setsid"))?;
    let v2 = cgroups.version() == sys::cgroup::Version::V2;
    let mut flags = CloneFlags::CLONE_NEWNS;
    if v2 && !spec.privileged {
        flags |= CloneFlags::CLONE_NEWCGROUP;
    }
    unshare(flags).map_err(failed("unshare"))?;
    umask(Mode::empty());

    let trees = pick_up(spec)?;
    let own_cgroups = if v2 { Vec::new() } else { pick_up_cgroups(spec, cgroups)? };
    let shm_source = spec.shm.clone().unwrap_or_else(|| PathBuf::from("/dev/shm"));
    let shm = clone_tree(&shm_source, false).map_err(failed("clone /dev/shm"))?;

    mount_rootfs(spec)?;
    chdir(&spec.rootfs.target).map_err(failed("chdir to rootfs"))?;
    // Old and new root on the same directory: the old one ends up on top, and detaching it needs no place in the image.
    pivot_root(".", ".").map_err(failed("pivot_root"))?;
    umount2(".", MntFlags::MNT_DETACH).map_err(failed("unmount old root"))?;
    chdir("/").map_err(failed("chdir to /"))?;

    mount_system(spec, v2, own_cgroups)?;
    make_devices(&spec.devices)?;
    directory(Path::new("/dev/shm"), 0o755)?;
    attach(shm.as_fd(), Path::new("/dev/shm")).map_err(failed("mount /dev/shm"))?;
    for (mount, tree) in &trees {
        put_down(mount, tree)?;
    }
    if !spec.privileged && !spec.unmasked_proc {
        hide_proc()?;
    }
    Ok(())
}

// ---- from outside: picking up trees ---------------------------------------------------------------------------

/// Clones every source while the host's file system is still in sight. Shared ones before our own copy of the
/// mount table is made a slave of the host's, so that they stay its peers.
fn pick_up(spec: &ContainerSpec) -> Step<Vec<(MountSpec, OwnedFd)>> {
    let mut picked: Vec<Option<OwnedFd>> = Vec::new();
    for mount in &spec.mounts {
        let tree = match (&mount.source, mount.propagation) {
            (MountSource::Host(source), cri::MountPropagation::Bidirectional) => {
                Some(clone_tree(source, true).map_err(failed(format_args!("bind {}", source.display())))?)
            }
            _ => None,
        };
        picked.push(tree);
    }
    mount_raw(None, "/", None, MsFlags::MS_REC | MsFlags::MS_SLAVE, None)?;
    let mut trees = Vec::new();
    for (spec_mount, early) in spec.mounts.iter().zip(picked) {
        let tree = match (early, &spec_mount.source) {
            (Some(tree), _) => tree,
            (None, MountSource::Host(source)) => {
                clone_tree(source, true).map_err(failed(format_args!("bind {}", source.display())))?
            }
            (None, MountSource::Image { layers, lower, sub_path, target }) => {
                image_tree(layers, lower, sub_path, target)?
            }
        };
        let propagation = match spec_mount.propagation {
            cri::MountPropagation::Private => Propagation::Private,
            cri::MountPropagation::HostToContainer => Propagation::Slave,
            cri::MountPropagation::Bidirectional => Propagation::Shared,
        };
        let context = || format!("mount {}", spec_mount.target.display());
        set_attributes(tree.as_fd(), 0, 0, propagation, true).map_err(failed(context()))?;
        if spec_mount.readonly {
            set_attributes(tree.as_fd(), ATTR_RDONLY, 0, Propagation::Unchanged, spec_mount.recursive_readonly)
                .map_err(failed(context()))?;
        }
        trees.push((spec_mount.clone(), tree));
    }
    // Parents before children, whatever the order in the pod.
    trees.sort_by_key(|(mount, _)| mount.target.components().count());
    Ok(trees)
}

fn image_tree(layers: &Path, lower: &[String], sub_path: &Path, target: &Path) -> Step<OwnedFd> {
    let root = match lower {
        [only] => layers.join(only).join("fs"),
        _ => {
            chdir(layers).map_err(failed("chdir to layers"))?;
            fs::create_dir_all(target).map_err(failed("create image mount"))?;
            mount_raw(
                Some("overlay"),
                target,
                Some("overlay"),
                MsFlags::MS_RDONLY,
                Some(&format!("lowerdir={}", lower_option(lower))),
            )?;
            target.to_owned()
        }
    };
    let relative = sub_path.strip_prefix("/").unwrap_or(sub_path);
    if relative.as_os_str().is_empty() {
        return clone_tree(&root, true).map_err(failed("clone image"));
    }
    use nix::fcntl::{OFlag, OpenHow, ResolveFlag, openat2};
    let root_fd = fs::File::open(&root).map_err(failed("open image"))?;
    let how = OpenHow::new().flags(OFlag::O_PATH | OFlag::O_CLOEXEC).resolve(ResolveFlag::RESOLVE_IN_ROOT);
    let inside =
        openat2(&root_fd, relative, how).map_err(failed(format_args!("image has no {}", relative.display())))?;
    use std::os::fd::AsRawFd;
    clone_tree(Path::new(&format!("/proc/self/fd/{}", inside.as_raw_fd())), true).map_err(failed("clone image"))
}

/// Under v1 the container sees its own groups, each bound where the host has the controller.
fn pick_up_cgroups(spec: &ContainerSpec, cgroups: &sys::cgroup::Manager) -> Step<Vec<(String, OwnedFd)>> {
    let mut trees = BTreeMap::new();
    for controller in cgroups.controllers() {
        if let Some(dir) = cgroups.directory(controller, &spec.process.cgroup)
            && let Ok(tree) = clone_tree(&dir, false)
        {
            if !spec.privileged {
                set_attributes(tree.as_fd(), ATTR_RDONLY, 0, Propagation::Unchanged, false)
                    .map_err(failed("cgroup mount"))?;
            }
            trees.insert(controller.to_owned(), tree);
        }
    }
    Ok(trees.into_iter().collect())
}

fn lower_option(lower: &[String]) -> String {
    lower.iter().map(|name| format!("{name}/fs")).collect::<Vec<_>>().join(":")
}

/// A path as an overlayfs option: colons part layers and commas part options.
fn escaped(path: &Path) -> String {
    path.to_string_lossy().replace('\\', "\\\\").replace(':', "\\:").replace(',', "\\,")
}

fn mount_rootfs(spec: &ContainerSpec) -> Step<()> {
    let rootfs = &spec.rootfs;
    // Relative names keep 127 layers within the one page that mount(2) takes.
    chdir(&rootfs.layers).map_err(failed("chdir to layers"))?;
    let base = format!(
        "lowerdir={},upperdir={},workdir={}",
        lower_option(&rootfs.lower),
        escaped(&rootfs.upper),
        escaped(&rootfs.work)
    );
    // `volatile`: the writable layer ends with the container, so waiting for the disk at its end (a sync of the
    // whole file system) would buy nothing. Kernels before 5.10 don't know it.
    let volatile = format!("{base},volatile");
    mount_raw(Some("overlay"), &rootfs.target, Some("overlay"), MsFlags::empty(), Some(&volatile))
        .or_else(|_| mount_raw(Some("overlay"), &rootfs.target, Some("overlay"), MsFlags::empty(), Some(&base)))
}

// ---- inside: putting them down ----------------------------------------------------------------------------------

fn mount_raw(
    source: Option<&str>,
    target: impl AsRef<Path>,
    kind: Option<&str>,
    flags: MsFlags,
    data: Option<&str>,
) -> Step<()> {
    mount(source, target.as_ref(), kind, flags, data)
        .map_err(failed(format_args!("mount {}", target.as_ref().display())))
}

/// The directory must be one, not a symlink of the image's making.
fn system_directory(path: &str) -> Step<()> {
    match fs::symlink_metadata(path) {
        Ok(meta) if meta.is_dir() => Ok(()),
        Ok(_) => Err(format!("mount {path}: must be mounted on ordinary directory")),
        Err(_) => directory(Path::new(path), 0o755),
    }
}

fn mount_system(spec: &ContainerSpec, v2: bool, own_cgroups: Vec<(String, OwnedFd)>) -> Step<()> {
    let nosuid = MsFlags::MS_NOSUID;
    let closed = MsFlags::MS_NOSUID | MsFlags::MS_NOEXEC | MsFlags::MS_NODEV;
    let readonly = if spec.privileged { MsFlags::empty() } else { MsFlags::MS_RDONLY };
    system_directory("/proc")?;
    mount_raw(Some("proc"), "/proc", Some("proc"), closed, None)?;
    system_directory("/dev")?;
    mount_raw(Some("tmpfs"), "/dev", Some("tmpfs"), nosuid | MsFlags::MS_STRICTATIME, Some("mode=755,size=65536k"))?;
    system_directory("/dev/pts")?;
    let options = "newinstance,ptmxmode=0666,mode=0620,gid=5";
    mount_raw(Some("devpts"), "/dev/pts", Some("devpts"), nosuid | MsFlags::MS_NOEXEC, Some(options))?;
    system_directory("/dev/mqueue")?;
    mount_raw(Some("mqueue"), "/dev/mqueue", Some("mqueue"), closed, None)?;
    system_directory("/sys")?;
    mount_raw(Some("sysfs"), "/sys", Some("sysfs"), closed | readonly, None)?;
    if v2 {
        mount_raw(Some("cgroup"), "/sys/fs/cgroup", Some("cgroup2"), closed | MsFlags::MS_RELATIME | readonly, None)?;
    } else if Path::new("/sys/fs/cgroup").is_dir() {
        mount_raw(Some("tmpfs"), "/sys/fs/cgroup", Some("tmpfs"), closed, Some("mode=755"))?;
        for (controller, tree) in own_cgroups {
            let target = Path::new("/sys/fs/cgroup").join(&controller);
            directory(&target, 0o755)?;
            attach(tree.as_fd(), &target).map_err(failed(format_args!("mount cgroup {controller}")))?;
        }
        mount_raw(None, "/sys/fs/cgroup", None, MsFlags::MS_REMOUNT | MsFlags::MS_BIND | closed | readonly, None)?;
    }
    Ok(())
}

fn make_devices(extra: &[DeviceNode]) -> Step<()> {
    let standard = [("null", 1, 3), ("zero", 1, 5), ("full", 1, 7), ("random", 1, 8), ("urandom", 1, 9), ("tty", 5, 0)];
    for (name, major, minor) in standard {
        let path = format!("/dev/{name}");
        mknod(path.as_str(), SFlag::S_IFCHR, Mode::from_bits_truncate(0o666), makedev(major, minor))
            .map_err(failed(format_args!("create {path}")))?;
    }
    for (target, link) in [
        ("/proc/self/fd", "fd"),
        ("/proc/self/fd/0", "stdin"),
        ("/proc/self/fd/1", "stdout"),
        ("/proc/self/fd/2", "stderr"),
        ("/proc/kcore", "core"),
        ("pts/ptmx", "ptmx"),
    ] {
        std::os::unix::fs::symlink(target, format!("/dev/{link}"))
            .map_err(failed(format_args!("create /dev/{link}")))?;
    }
    for device in extra {
        if device.path.exists() {
            continue;
        }
        if let Some(parent) = device.path.parent() {
            directory(parent, 0o755)?;
        }
        let kind = if device.block { SFlag::S_IFBLK } else { SFlag::S_IFCHR };
        let context = || format!("create {}", device.path.display());
        mknod(
            &device.path,
            kind,
            Mode::from_bits_truncate(device.mode & 0o7777),
            makedev(device.major.into(), device.minor.into()),
        )
        .map_err(failed(context()))?;
        std::os::unix::fs::chown(&device.path, Some(device.uid), Some(device.gid)).map_err(failed(context()))?;
    }
    Ok(())
}

fn put_down(mount: &MountSpec, tree: &OwnedFd) -> Step<()> {
    let context = || format!("mount {}", mount.target.display());
    let is_dir = nix::sys::stat::fstat(tree).map_err(failed(context()))?.st_mode & libc::S_IFMT == libc::S_IFDIR;
    // Relative targets are below /.
    let target = Path::new("/").join(&mount.target);
    if is_dir {
        directory(&target, 0o755)?;
    } else {
        if let Some(parent) = target.parent() {
            directory(parent, 0o755)?;
        }
        if !target.exists() {
            fs::OpenOptions::new()
                .write(true)
                .create(true)
                .truncate(false)
                .mode(0o644)
                .open(&target)
                .map_err(failed(context()))?;
        }
    }
    attach(tree.as_fd(), &target).map_err(failed(context()))
}

fn directory(path: &Path, mode: u32) -> Step<()> {
    if path.is_dir() {
        return Ok(());
    }
    fs::DirBuilder::new()
        .recursive(true)
        .mode(mode)
        .create(path)
        .map_err(failed(format_args!("mkdir {}", path.display())))
}

/// The OCI runtimes' lists: what tells of the host, or changes it.
fn hide_proc() -> Step<()> {
    const MASKED: [&str; 11] = [
        "/proc/asound",
        "/proc/acpi",
        "/proc/kcore",
        "/proc/keys",
        "/proc/latency_stats",
        "/proc/timer_list",
        "/proc/timer_stats",
        "/proc/sched_debug",
        "/proc/scsi",
        "/sys/firmware",
        "/sys/devices/virtual/powercap",
    ];
    const READONLY: [&str; 5] = ["/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger"];
    for path in MASKED {
        match fs::symlink_metadata(path) {
            Ok(meta) if meta.is_dir() => {
                mount_raw(Some("tmpfs"), path, Some("tmpfs"), MsFlags::MS_RDONLY, Some("size=0k,nr_inodes=2"))?
            }
            Ok(_) => {
                let null = clone_tree(Path::new("/dev/null"), false).map_err(failed(format_args!("mask {path}")))?;
                attach(null.as_fd(), Path::new(path)).map_err(failed(format_args!("mask {path}")))?;
            }
            Err(_) => {}
        }
    }
    for path in READONLY {
        if Path::new(path).exists() {
            let tree = clone_tree(Path::new(path), true).map_err(failed(format_args!("protect {path}")))?;
            set_attributes(tree.as_fd(), ATTR_RDONLY, 0, Propagation::Unchanged, true)
                .map_err(failed(format_args!("protect {path}")))?;
            attach(tree.as_fd(), Path::new(path)).map_err(failed(format_args!("protect {path}")))?;
        }
    }
    Ok(())
}

// ---- becoming the program -------------------------------------------------------------------------------------

fn run(
    process: &ProcessSpec,
    filter: Option<&[u8]>,
    sync: &OwnedFd,
    streams: Streams,
    readonly_rootfs: bool,
) -> Step<Infallible> {
    let identity = user::resolve(
        &process.user,
        &fs::read_to_string("/etc/passwd").unwrap_or_default(),
        &fs::read_to_string("/etc/group").unwrap_or_default(),
    )?;

    let mut master = None;
    if process.tty {
        let (ours, slave, number) = sys::terminal::open(Path::new("/dev/pts/ptmx")).map_err(failed("open terminal"))?;
        fchown(&slave, Some(identity.uid.into()), None).map_err(failed("chown terminal"))?;
        if !Path::new("/dev/console").exists() && fs::File::create("/dev/console").is_ok() {
            let console =
                clone_tree(Path::new(&format!("/dev/pts/{number}")), false).map_err(failed("mount /dev/console"))?;
            attach(console.as_fd(), Path::new("/dev/console")).map_err(failed("mount /dev/console"))?;
        }
        sys::terminal::make_controlling(slave.as_fd()).map_err(failed("set controlling terminal"))?;
        for number in 0..3 {
            sys::terminal::become_standard(slave.as_fd(), number).map_err(failed("dup terminal"))?;
        }
        master = Some(ours);
    } else {
        let null = fs::OpenOptions::new().read(true).write(true).open("/dev/null").map_err(failed("open /dev/null"))?;
        for (number, stream) in streams.iter().enumerate() {
            if let Some(stream) = stream {
                // A program that is not root must be able to open /dev/stdout again.
                let _ = fchown(stream, Some(identity.uid.into()), None);
            }
            let fd: BorrowedFd<'_> = stream.as_ref().map_or(null.as_fd(), AsFd::as_fd);
            sys::terminal::become_standard(fd, number as u8).map_err(failed("dup stream"))?;
        }
    }

    let cwd = if process.cwd.is_empty() { "/" } else { &process.cwd };
    directory(Path::new(cwd), 0o755)?;
    if readonly_rootfs {
        mount_raw(None, "/", None, MsFlags::MS_REMOUNT | MsFlags::MS_BIND | MsFlags::MS_RDONLY, None)?;
    }
    let entered = chdir(cwd);

    let report = Report::Ready { uid: identity.uid, gid: identity.gid, groups: identity.groups.clone() };
    let riders: Vec<BorrowedFd<'_>> = master.iter().map(AsFd::as_fd).collect();
    super::protocol::send(sync.as_fd(), &report, &riders).map_err(failed("report"))?;
    drop(master);

    sys::process::close_on_exec_from(3).map_err(failed("close_range"))?;
    sys::process::reset_signals();
    umask(Mode::from_bits_truncate(0o022));

    let capabilities = sys::capability::Set(process.capabilities).and(sys::capability::bounding());
    sys::capability::limit_bounding(capabilities).map_err(failed("drop bounding capabilities"))?;
    if process.no_new_privs {
        nix::sys::prctl::set_no_new_privs().map_err(failed("set no_new_privs"))?;
    } else if let Some(filter) = filter {
        // Without no_new_privs only a process with CAP_SYS_ADMIN may load a filter, so now or never.
        sys::seccomp::load(filter).map_err(failed("load seccomp filter"))?;
    }
    sys::process::become_user(identity.uid, identity.gid, &identity.groups).map_err(failed("set user"))?;
    if identity.uid == 0 {
        sys::capability::set(capabilities).map_err(failed("set capabilities"))?;
    }
    if entered.is_err() {
        // A directory that root may not enter (NFS with root squashed) but the user may.
        chdir(cwd).map_err(failed(format_args!("chdir to cwd ({cwd:?}) set in config.json failed")))?;
    }

    let mut env = process.env.clone();
    if !env.iter().any(|(name, _)| name == "HOME") {
        env.push(("HOME".to_owned(), identity.home.clone()));
    }
    let path = env.iter().rev().find(|(name, _)| name == "PATH").map_or(DEFAULT_PATH, |(_, value)| value.as_str());
    let program = find_program(process.args.first().map_or("", String::as_str), path)?;
    let c_program = c_string(&program)?;
    let args = process.args.iter().map(|arg| c_string(arg)).collect::<Step<Vec<_>>>()?;
    let env = env.iter().map(|(name, value)| c_string(&format!("{name}={value}"))).collect::<Step<Vec<_>>>()?;
    if process.no_new_privs
        && let Some(filter) = filter
    {
        sys::seccomp::load(filter).map_err(failed("load seccomp filter"))?;
    }
    nix::unistd::execve(&c_program, &args, &env).map_err(failed(format_args!("exec {program}")))
}

fn c_string(text: &str) -> Step<CString> {
    CString::new(text).map_err(|_| "argument or environment contains a NUL byte".to_owned())
}

/// As Go's `exec.LookPath`, whose texts people search for.
fn find_program(name: &str, path: &str) -> Step<String> {
    if name.is_empty() {
        return Err("exec: \"\": no command specified".to_owned());
    }
    if name.contains('/') {
        return match fs::metadata(name) {
            Err(e) => Err(format!("exec: {name:?}: stat {name}: {}", describe(&e.to_string()))),
            Ok(meta) if meta.is_dir() => Err(format!("exec: {name:?}: is a directory")),
            Ok(meta) if meta.permissions().mode() & 0o111 == 0 => Err(format!("exec: {name:?}: permission denied")),
            Ok(_) => Ok(name.to_owned()),
        };
    }
    let mut denied = false;
    for dir in path.split(':') {
        let candidate = Path::new(if dir.is_empty() { "." } else { dir }).join(name);
        if let Ok(meta) = fs::metadata(&candidate)
            && meta.is_file()
        {
            if meta.mode() & 0o111 != 0 {
                return Ok(candidate.to_string_lossy().into_owned());
            }
            denied = true;
        }
    }
    Err(if denied {
        format!("exec: {name:?}: permission denied")
    } else {
        format!("exec: {name:?}: executable file not found in $PATH")
    })
}

/// Flags for the fork that makes a container's first process.
pub fn fork_flags(pid: PidMode) -> CloneFlags {
    match pid {
        PidMode::Own => CloneFlags::CLONE_NEWPID,
        PidMode::Pod | PidMode::Host | PidMode::Of(_) => CloneFlags::empty(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn errors_read_as_other_runtimes_write_them() {
        let error = std::io::Error::from_raw_os_error(libc::ENOENT);
        assert_eq!(describe(&error.to_string()), "no such file or directory");
        assert_eq!(describe(&nix::errno::Errno::EACCES.to_string()), "permission denied");
    }

    #[test]
    fn programs_are_found_as_go_finds_them() {
        let sh = find_program("sh", "/nonexistent:/bin").unwrap();
        assert_eq!(sh, "/bin/sh");
        for (name, error) in [
            ("nope", "exec: \"nope\": executable file not found in $PATH"),
            ("/nope", "exec: \"/nope\": stat /nope: no such file or directory"),
            ("/etc", "exec: \"/etc\": is a directory"),
            ("/etc/passwd", "exec: \"/etc/passwd\": permission denied"),
        ] {
            assert_eq!(find_program(name, "/bin").unwrap_err(), error);
        }
    }

    #[test]
    fn layer_options_survive_odd_paths() {
        assert_eq!(escaped(Path::new("/a:b/c,d")), "/a\\:b/c\\,d");
        assert_eq!(lower_option(&["x".into(), "y".into()]), "x/fs:y/fs");
    }
}
