//! Control groups, v1 (also the hybrid layout) and v2, behind one face.
//!
//! Paths are below the hierarchy's root (`/skiff/kubepods/burstable/pod…`), the same for every controller.
//! In: [`Resources`] as v1 names them (shares, quota, bytes); out: files of whichever version the machine has.

mod device;
mod v1;
mod v2;

pub use device::{DeviceKind, DeviceRule};

use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// A failed operation on a control group.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("no cgroup hierarchy is mounted on this machine")]
    NotMounted,
    #[error("{what} {path}: {source}")]
    Io { what: &'static str, path: PathBuf, source: io::Error },
    #[error("cgroup path {0:?} must be absolute and free of `..`")]
    BadPath(String),
}

pub type Result<T> = std::result::Result<T, Error>;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Version {
    V1,
    V2,
}

/// Limits to set; `None` leaves a value as it is.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Resources {
    /// v1 shares (2..=262144); converted to a weight under v2.
    pub cpu_shares: Option<u64>,
    /// Microseconds for each period; negative is unlimited.
    pub cpu_quota_us: Option<i64>,
    pub cpu_period_us: Option<u64>,
    /// Bytes; negative is unlimited.
    pub memory_limit: Option<i64>,
    /// Memory and swap together, bytes; negative is unlimited.
    pub memory_swap_limit: Option<i64>,
    /// Negative or 0 is unlimited.
    pub pids_limit: Option<i64>,
    pub cpuset_cpus: Option<String>,
    pub cpuset_mems: Option<String>,
    /// Page size as in the file names (`2MB`) and bytes.
    pub hugepage_limits: Vec<(String, u64)>,
    /// Devices that may be used, all others are refused; `None` leaves the group as it is.
    pub devices: Option<Vec<DeviceRule>>,
    /// Raw v2 files, ignored under v1.
    pub unified: BTreeMap<String, String>,
}

/// What a group has used.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Stats {
    /// Cumulative.
    pub cpu_usage_ns: u64,
    pub memory_usage_bytes: u64,
    /// Usage less the inactive file cache, as the kubelet computes it.
    pub memory_working_set_bytes: u64,
    pub memory_rss_bytes: u64,
    /// 0 is unlimited.
    pub memory_limit_bytes: u64,
    pub page_faults: u64,
    pub major_page_faults: u64,
    pub pids: u64,
    /// Processes of this group that the kernel's OOM killer killed.
    pub oom_kills: u64,
}

/// The machine's hierarchies, found once.
#[derive(Clone, Debug)]
pub struct Manager {
    root: String,
    kind: Kind,
}

#[derive(Clone, Debug)]
enum Kind {
    /// Controller name → mount point.
    V1(BTreeMap<String, PathBuf>),
    /// Mount point of the unified hierarchy.
    V2(PathBuf),
}

impl Manager {
    /// Finds the hierarchies from this process' mount table. `root_name` (`skiff`) is the group that [`Manager::root`] names.
    pub fn detect(root_name: &str) -> Result<Manager> {
        let path = Path::new("/proc/self/mountinfo");
        let table = std::fs::read_to_string(path).map_err(|e| io_error("read", path, e))?;
        let kind = kind_from_mountinfo(&table).ok_or(Error::NotMounted)?;
        Ok(Manager { root: format!("/{}", root_name.trim_matches('/')), kind })
    }

    pub fn version(&self) -> Version {
        match self.kind {
            Kind::V1(_) => Version::V1,
            Kind::V2(_) => Version::V2,
        }
    }

    /// `/<root_name>`, the group under which everything of this cluster lives.
    pub fn root(&self) -> &str {
        &self.root
    }

    /// Makes the group and its ancestors, in every controller that we use. Succeeds when it exists already.
    pub fn create(&self, path: &str) -> Result<()> {
        let path = relative(path)?;
        match &self.kind {
            Kind::V1(mounts) => v1::create(mounts, path),
            Kind::V2(mount) => v2::create(mount, path),
        }
    }

    /// Whether the group exists (in the controller that we ask first).
    pub fn exists(&self, path: &str) -> bool {
        self.main_directory(path).is_ok_and(|dir| dir.is_dir())
    }

    pub fn set(&self, path: &str, resources: &Resources) -> Result<()> {
        let path = relative(path)?;
        match &self.kind {
            Kind::V1(mounts) => v1::set(mounts, path, resources),
            Kind::V2(mount) => v2::set(&mount.join(path), resources),
        }
    }

    /// Moves a process; pid 0 is the caller.
    pub fn add_pid(&self, path: &str, pid: i32) -> Result<()> {
        let path = relative(path)?;
        match &self.kind {
            Kind::V1(mounts) => v1::add_pid(mounts, path, pid),
            Kind::V2(mount) => write(&mount.join(path).join("cgroup.procs"), &pid.to_string()),
        }
    }

    /// Moves the caller, which must have a single thread. Under v1 that is much faster than moving a process:
    /// the kernel need not stop all forks of the machine, which waits for an RCU grace period (10 to 20 ms).
    pub fn join(&self, path: &str) -> Result<()> {
        match &self.kind {
            Kind::V1(mounts) => v1::join(mounts, relative(path)?),
            Kind::V2(_) => self.add_pid(path, 0),
        }
    }

    /// Processes in this group and in all groups below it.
    pub fn pids(&self, path: &str) -> Result<Vec<i32>> {
        let mut pids = Vec::new();
        collect_pids(&self.main_directory(path)?, &mut pids);
        pids.sort_unstable();
        pids.dedup();
        Ok(pids)
    }

    pub fn stats(&self, path: &str) -> Result<Stats> {
        let path = relative(path)?;
        match &self.kind {
            Kind::V1(mounts) => v1::stats(mounts, path),
            Kind::V2(mount) => v2::stats(&mount.join(path)),
        }
    }

    /// Kills every process in the group and below it, and returns when none is left or after `timeout`.
    pub fn kill(&self, path: &str, timeout: Duration) -> Result<()> {
        let dir = self.main_directory(path)?;
        if !dir.is_dir() {
            return Ok(());
        }
        let until = std::time::Instant::now() + timeout;
        loop {
            if let Kind::V2(_) = self.kind {
                // Since Linux 5.14; older kernels take the loop below.
                let _ = std::fs::write(dir.join("cgroup.kill"), "1");
            }
            let pids = self.pids(path)?;
            if pids.is_empty() || std::time::Instant::now() >= until {
                return Ok(());
            }
            for pid in pids {
                let _ = nix::sys::signal::kill(nix::unistd::Pid::from_raw(pid), nix::sys::signal::Signal::SIGKILL);
            }
            std::thread::sleep(Duration::from_millis(1));
        }
    }

    /// Stops (or continues) every process of the group.
    pub fn freeze(&self, path: &str, frozen: bool) -> Result<()> {
        let path = relative(path)?;
        match &self.kind {
            Kind::V1(mounts) => match mounts.get("freezer") {
                Some(mount) => {
                    let dir = mount.join(path);
                    write(&dir.join("freezer.state"), if frozen { "FROZEN" } else { "THAWED" })
                }
                None => Ok(()),
            },
            Kind::V2(mount) => write(&mount.join(path).join("cgroup.freeze"), if frozen { "1" } else { "0" }),
        }
    }

    /// Removes the group and all below it, in every controller. Processes must be gone; the kernel may need a
    /// moment for the last of them, so busy groups are tried again for up to half a second.
    pub fn remove(&self, path: &str) -> Result<()> {
        let path = relative(path)?;
        match &self.kind {
            Kind::V1(mounts) => {
                let mut seen: Vec<PathBuf> = mounts.values().map(|mount| mount.join(path)).collect();
                seen.sort();
                seen.dedup();
                seen.iter().try_for_each(|dir| remove_tree(dir))
            }
            Kind::V2(mount) => remove_tree(&mount.join(path)),
        }
    }

    /// The group's directory in `controller`'s hierarchy (under v2 the only one), for bind mounts and watches.
    pub fn directory(&self, controller: &str, path: &str) -> Option<PathBuf> {
        let path = relative(path).ok()?;
        match &self.kind {
            Kind::V1(mounts) => mounts.get(controller).map(|mount| mount.join(path)),
            Kind::V2(mount) => Some(mount.join(path)),
        }
    }

    /// Names of the hierarchies in which groups are made; `[""]` under v2.
    pub fn controllers(&self) -> Vec<&str> {
        match &self.kind {
            Kind::V1(mounts) => mounts.keys().map(String::as_str).collect(),
            Kind::V2(_) => vec![""],
        }
    }

    fn main_directory(&self, path: &str) -> Result<PathBuf> {
        let path = relative(path)?;
        match &self.kind {
            Kind::V1(mounts) => {
                let mount =
                    ["memory", "pids", "cpu"].iter().find_map(|c| mounts.get(*c)).or_else(|| mounts.values().next());
                mount.map(|mount| mount.join(path)).ok_or(Error::NotMounted)
            }
            Kind::V2(mount) => Ok(mount.join(path)),
        }
    }
}

/// Reads the mount table: a cgroup2 at the usual place wins unless v1 controllers are mounted too (hybrid).
fn kind_from_mountinfo(table: &str) -> Option<Kind> {
    let mut v1 = BTreeMap::new();
    let mut unified = None;
    for line in table.lines() {
        let Some((left, right)) = line.split_once(" - ") else {
            continue;
        };
        let Some(mount_point) = left.split(' ').nth(4) else {
            continue;
        };
        let mut fields = right.split(' ');
        let kind = fields.next().unwrap_or_default();
        let options = fields.nth(1).unwrap_or_default();
        match kind {
            "cgroup" => {
                for option in options.split(',') {
                    if v1::CONTROLLERS.contains(&option) {
                        v1.entry(option.to_owned()).or_insert_with(|| PathBuf::from(mount_point));
                    }
                }
            }
            "cgroup2" if unified.is_none() => unified = Some(PathBuf::from(mount_point)),
            _ => {}
        }
    }
    match (v1.is_empty(), unified) {
        (false, _) => Some(Kind::V1(v1)),
        (true, Some(mount)) => Some(Kind::V2(mount)),
        (true, None) => None,
    }
}

fn relative(path: &str) -> Result<&Path> {
    let trimmed = path.trim_matches('/');
    let bad = trimmed.is_empty() || trimmed.split('/').any(|part| part.is_empty() || part == "." || part == "..");
    if bad { Err(Error::BadPath(path.to_owned())) } else { Ok(Path::new(trimmed)) }
}

fn io_error(what: &'static str, path: &Path, source: io::Error) -> Error {
    Error::Io { what, path: path.to_owned(), source }
}

fn write(path: &Path, value: &str) -> Result<()> {
    // Without O_CREAT, unlike `fs::write`: a control file that is missing must be an error that names it.
    let mut options = std::fs::OpenOptions::new();
    options
        .write(true)
        .open(path)
        .and_then(|mut file| io::Write::write_all(&mut file, value.as_bytes()))
        .map_err(|e| io_error("write", path, e))
}

fn make_directory(path: &Path) -> Result<()> {
    match std::fs::create_dir(path) {
        Err(e) if e.kind() != io::ErrorKind::AlreadyExists => Err(io_error("create", path, e)),
        _ => Ok(()),
    }
}

fn read_number(path: &Path) -> Option<u64> {
    std::fs::read_to_string(path).ok()?.trim().parse().ok()
}

/// Value of `key` in a file of `key value` lines.
fn read_keyed<const N: usize>(path: &Path, keys: [&str; N]) -> [u64; N] {
    let mut values = [0; N];
    let text = std::fs::read_to_string(path).unwrap_or_default();
    for line in text.lines() {
        if let Some((key, value)) = line.split_once(' ')
            && let Some(at) = keys.iter().position(|k| *k == key)
        {
            values[at] = value.trim().parse().unwrap_or(0);
        }
    }
    values
}

fn collect_pids(dir: &Path, pids: &mut Vec<i32>) {
    if let Ok(text) = std::fs::read_to_string(dir.join("cgroup.procs")) {
        pids.extend(text.lines().filter_map(|line| line.parse::<i32>().ok()).filter(|pid| *pid > 0));
    }
    for child in subgroups(dir) {
        collect_pids(&child, pids);
    }
}

fn subgroups(dir: &Path) -> Vec<PathBuf> {
    let Ok(entries) = std::fs::read_dir(dir) else {
        return Vec::new();
    };
    entries.flatten().filter(|e| e.file_type().is_ok_and(|t| t.is_dir())).map(|e| e.path()).collect()
}

fn remove_tree(dir: &Path) -> Result<()> {
    for child in subgroups(dir) {
        remove_tree(&child)?;
    }
    let mut wait = Duration::from_micros(200);
    let mut waited = Duration::ZERO;
    loop {
        match std::fs::remove_dir(dir) {
            Ok(()) => return Ok(()),
            Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(()),
            Err(e) if e.raw_os_error() == Some(libc::EBUSY) && waited < Duration::from_millis(500) => {
                std::thread::sleep(wait);
                waited += wait;
                wait = (wait * 2).min(Duration::from_millis(20));
            }
            Err(e) => return Err(io_error("remove", dir, e)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_mount_table_tells_the_version() {
        let v2 = "30 23 0:26 / /sys/fs/cgroup rw,nosuid shared:4 - cgroup2 cgroup2 rw,nsdelegate\n";
        assert!(matches!(kind_from_mountinfo(v2), Some(Kind::V2(p)) if p == Path::new("/sys/fs/cgroup")));
        let hybrid = "32 31 0:29 / /sys/fs/cgroup/cpu,cpuacct rw - cgroup cgroup rw,cpu,cpuacct\n\
                      40 31 0:37 / /sys/fs/cgroup/systemd rw - cgroup cgroup rw,name=systemd\n\
                      41 31 0:38 / /sys/fs/cgroup/unified rw - cgroup2 cgroup2 rw\n";
        let Some(Kind::V1(mounts)) = kind_from_mountinfo(hybrid) else { panic!("expected v1") };
        assert_eq!(mounts.keys().collect::<Vec<_>>(), ["cpu", "cpuacct"]);
        assert!(kind_from_mountinfo("27 1 254:0 / / rw - ext4 /dev/vda rw\n").is_none());
    }

    #[test]
    fn paths_cannot_leave_the_hierarchy() {
        for bad in ["", "/", "/a/../b", "a//b", "/./a"] {
            assert!(relative(bad).is_err(), "{bad}");
        }
        assert_eq!(relative("/skiff/pod1").unwrap(), Path::new("skiff/pod1"));
    }

    /// Runs on whatever hierarchy this machine has; skipped where there is none to write to.
    #[test]
    fn a_group_lives_and_dies() {
        let Ok(manager) = Manager::detect("skiff-test") else {
            return;
        };
        let path = format!("/skiff-test-{}/a/b", std::process::id());
        if manager.create(&path).is_err() {
            return;
        }
        let limits = Resources {
            memory_limit: Some(64 << 20),
            pids_limit: Some(50),
            cpu_shares: Some(512),
            cpu_quota_us: Some(50_000),
            cpu_period_us: Some(100_000),
            ..Resources::default()
        };
        manager.set(&path, &limits).unwrap();
        assert_eq!(manager.stats(&path).unwrap().memory_limit_bytes, 64 << 20);
        let mut child = std::process::Command::new("sleep").arg("60").spawn().unwrap();
        manager.add_pid(&path, child.id() as i32).unwrap();
        assert_eq!(manager.pids(&path).unwrap(), [child.id() as i32]);
        // Raising a limit needs the two memory files in the other order than lowering it.
        manager.set(&path, &Resources { memory_limit: Some(128 << 20), ..Resources::default() }).unwrap();
        let reaper = std::thread::spawn(move || child.wait().unwrap());
        manager.kill(&path, Duration::from_secs(5)).unwrap();
        assert!(!reaper.join().unwrap().success());
        let top = format!("/skiff-test-{}", std::process::id());
        manager.remove(&top).unwrap();
        manager.remove(&top).unwrap();
        assert!(!manager.exists(&path));
    }
}
