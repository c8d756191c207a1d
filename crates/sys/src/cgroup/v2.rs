//! The v2 files: one hierarchy, controllers handed down through `cgroup.subtree_control`.

use super::{Error, Resources, Result, Stats, device, make_directory, read_keyed, read_number, write};
use std::path::Path;

const CONTROLLERS: [&str; 6] = ["cpu", "cpuset", "memory", "pids", "io", "hugetlb"];

pub(super) fn create(mount: &Path, path: &Path) -> Result<()> {
    let mut dir = mount.to_owned();
    hand_down(&dir, true)?;
    let mut parts = path.components().peekable();
    while let Some(part) = parts.next() {
        dir.push(part);
        let is_new = !dir.is_dir();
        make_directory(&dir)?;
        if parts.peek().is_some() {
            hand_down(&dir, false)?;
        } else if is_new {
            // Nothing yet: the last one holds processes, and only its first child makes it a parent.
        }
    }
    Ok(())
}

/// Enables every controller that `dir` has for its children. A missing controller is no error: the limit that
/// needs it will name it.
fn hand_down(dir: &Path, is_mount: bool) -> Result<()> {
    let have = std::fs::read_to_string(dir.join("cgroup.controllers")).unwrap_or_default();
    let enabled = std::fs::read_to_string(dir.join("cgroup.subtree_control")).unwrap_or_default();
    for controller in have.split_whitespace().filter(|c| CONTROLLERS.contains(c)) {
        if enabled.split_whitespace().any(|c| c == controller) {
            continue;
        }
        let file = dir.join("cgroup.subtree_control");
        let result = write(&file, &format!("+{controller}"));
        if let Err(Error::Io { source, .. }) = &result
            && source.raw_os_error() == Some(libc::EBUSY)
            && is_mount
        {
            // We run in a cgroup namespace whose root holds processes (a container): they move to a leaf of their own.
            evacuate(dir)?;
            let _ = write(&file, &format!("+{controller}"));
        }
    }
    Ok(())
}

fn evacuate(dir: &Path) -> Result<()> {
    let leaf = dir.join("init");
    make_directory(&leaf)?;
    let text = std::fs::read_to_string(dir.join("cgroup.procs")).unwrap_or_default();
    for pid in text.lines() {
        let _ = write(&leaf.join("cgroup.procs"), pid);
    }
    Ok(())
}

/// The kubelet's conversion (KEP-2254): shares 2..=262144 onto weights 1..=10000.
fn weight(shares: u64) -> u64 {
    1 + (shares.clamp(2, 262_144) - 2) * 9_999 / 262_142
}

fn limit(value: i64) -> String {
    if value < 0 { "max".to_owned() } else { value.to_string() }
}

pub(super) fn set(dir: &Path, resources: &Resources) -> Result<()> {
    if let Some(shares) = resources.cpu_shares {
        write(&dir.join("cpu.weight"), &weight(shares).to_string())?;
    }
    if resources.cpu_quota_us.is_some() || resources.cpu_period_us.is_some() {
        let quota = resources.cpu_quota_us.map_or_else(|| "max".to_owned(), limit);
        let period = resources.cpu_period_us.unwrap_or(100_000);
        write(&dir.join("cpu.max"), &format!("{quota} {period}"))?;
    }
    if let Some(bytes) = resources.memory_limit {
        write(&dir.join("memory.max"), &limit(bytes))?;
    }
    if let Some(both) = resources.memory_swap_limit {
        let swap = match resources.memory_limit {
            Some(memory) if both >= 0 && memory >= 0 => limit((both - memory).max(0)),
            _ => limit(both),
        };
        let file = dir.join("memory.swap.max");
        if file.exists() {
            write(&file, &swap)?;
        }
    }
    if let Some(pids) = resources.pids_limit {
        write(&dir.join("pids.max"), &if pids > 0 { pids.to_string() } else { "max".to_owned() })?;
    }
    for (file, value) in [("cpuset.cpus", &resources.cpuset_cpus), ("cpuset.mems", &resources.cpuset_mems)] {
        if let Some(value) = value.as_deref().filter(|v| !v.is_empty()) {
            write(&dir.join(file), value)?;
        }
    }
    for (size, bytes) in &resources.hugepage_limits {
        write(&dir.join(format!("hugetlb.{size}.max")), &bytes.to_string())?;
    }
    for (file, value) in &resources.unified {
        if !file.contains('/') {
            write(&dir.join(file), value)?;
        }
    }
    match &resources.devices {
        Some(rules) => device::attach_filter(dir, rules),
        None => Ok(()),
    }
}

pub(super) fn stats(dir: &Path) -> Result<Stats> {
    let cpu = dir.join("cpu.stat");
    if !cpu.exists() {
        return Err(super::io_error("read", &cpu, std::io::ErrorKind::NotFound.into()));
    }
    let [usage_us] = read_keyed(&cpu, ["usage_usec"]);
    let usage = read_number(&dir.join("memory.current")).unwrap_or(0);
    let [inactive, anon, faults, major] =
        read_keyed(&dir.join("memory.stat"), ["inactive_file", "anon", "pgfault", "pgmajfault"]);
    let [oom_kills] = read_keyed(&dir.join("memory.events"), ["oom_kill"]);
    Ok(Stats {
        cpu_usage_ns: usage_us * 1_000,
        memory_usage_bytes: usage,
        memory_working_set_bytes: usage.saturating_sub(inactive),
        memory_rss_bytes: anon,
        memory_limit_bytes: read_number(&dir.join("memory.max")).unwrap_or(0),
        page_faults: faults,
        major_page_faults: major,
        pids: read_number(&dir.join("pids.current")).unwrap_or(0),
        oom_kills,
    })
}

#[cfg(test)]
mod tests {
    #[test]
    fn shares_become_weights_as_in_kep_2254() {
        for (shares, weight) in [(0, 1), (2, 1), (1024, 39), (262_144, 10_000), (500_000, 10_000)] {
            assert_eq!(super::weight(shares), weight, "{shares}");
        }
    }
}
