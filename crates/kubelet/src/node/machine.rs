//! Facts of the machine, from /proc and /sys.

use std::io;
use std::path::Path;

/// Those that don't change while it runs.
#[derive(Clone, Debug, Default)]
pub struct Machine {
    pub cpus: u64,
    pub memory_bytes: u64,
    /// Size in bytes → bytes of pages of that size.
    pub hugepages: Vec<(u64, u64)>,
    pub machine_id: String,
    pub system_uuid: String,
    pub boot_id: String,
    pub kernel: String,
    pub os_image: String,
    pub architecture: &'static str,
    pub hostname: String,
    pub ephemeral_bytes: u64,
}

#[derive(Clone, Copy, Debug, Default)]
pub struct Disk {
    pub total: u64,
    pub available: u64,
    pub inodes: u64,
    pub inodes_free: u64,
}

fn line(path: &str) -> String {
    std::fs::read_to_string(path).unwrap_or_default().trim().to_owned()
}

/// Bytes, of a `kB` line of /proc/meminfo.
pub fn meminfo(text: &str, key: &str) -> Option<u64> {
    let line = text.lines().find(|l| l.split(':').next() == Some(key))?;
    Some(line.split_whitespace().nth(1)?.parse::<u64>().ok()? * 1024)
}

impl Machine {
    pub fn read() -> io::Result<Machine> {
        let memory = std::fs::read_to_string("/proc/meminfo")?;
        let hugepages = std::fs::read_dir("/sys/kernel/mm/hugepages")
            .into_iter()
            .flatten()
            .flatten()
            .filter_map(|e| {
                let kb: u64 = e.file_name().to_str()?.strip_prefix("hugepages-")?.strip_suffix("kB")?.parse().ok()?;
                let count: u64 = std::fs::read_to_string(e.path().join("nr_hugepages")).ok()?.trim().parse().ok()?;
                Some((kb * 1024, count * kb * 1024))
            })
            .collect();
        let os_release = std::fs::read_to_string("/etc/os-release").unwrap_or_default();
        let os_image = os_release
            .lines()
            .find_map(|l| l.strip_prefix("PRETTY_NAME="))
            .map_or("Linux".into(), |n| n.trim_matches('"').to_owned());
        Ok(Machine {
            cpus: std::thread::available_parallelism()?.get() as u64,
            memory_bytes: meminfo(&memory, "MemTotal")
                .ok_or_else(|| io::Error::other("/proc/meminfo has no MemTotal"))?,
            hugepages,
            machine_id: line("/etc/machine-id"),
            system_uuid: match line("/sys/class/dmi/id/product_uuid") {
                uuid if uuid.is_empty() => line("/etc/machine-id"),
                uuid => uuid,
            },
            boot_id: line("/proc/sys/kernel/random/boot_id"),
            kernel: line("/proc/sys/kernel/osrelease"),
            os_image,
            architecture: match std::env::consts::ARCH {
                "x86_64" => "amd64",
                "aarch64" => "arm64",
                other => other,
            },
            hostname: line("/proc/sys/kernel/hostname"),
            ephemeral_bytes: disk(Path::new("/")).map_or(0, |d| d.total),
        })
    }
}

pub fn memory_available() -> Option<u64> {
    meminfo(&std::fs::read_to_string("/proc/meminfo").ok()?, "MemAvailable")
}

pub fn disk(path: &Path) -> Option<Disk> {
    let s = nix::sys::statvfs::statvfs(path).ok()?;
    let block = s.fragment_size();
    Some(Disk {
        total: s.blocks() * block,
        available: s.blocks_available() * block,
        inodes: s.files(),
        inodes_free: s.files_available(),
    })
}

/// Tasks that exist, and how many may.
pub fn pids() -> Option<(u64, u64)> {
    let load = std::fs::read_to_string("/proc/loadavg").ok()?;
    let running: u64 = load.split_whitespace().nth(3)?.split_once('/')?.1.parse().ok()?;
    let max: u64 = line("/proc/sys/kernel/pid_max").parse().ok()?;
    Some((running, max))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_machine_has_facts() {
        let m = Machine::read().unwrap();
        assert!(m.cpus >= 1 && m.memory_bytes > 1 << 20 && !m.kernel.is_empty() && m.ephemeral_bytes > 0);
        assert_eq!(meminfo("MemTotal:       16 kB\nMemFree: 1 kB\n", "MemTotal"), Some(16 * 1024));
    }
}
