//! The v1 files: one hierarchy for each controller (or for a few of them together).

use super::{Resources, Result, Stats, io_error, make_directory, read_keyed, read_number, write};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

/// Controllers in which groups are made. Others (blkio, net_cls, …) cost a migration each and limit nothing that we set.
pub(super) const CONTROLLERS: [&str; 8] =
    ["cpu", "cpuacct", "cpuset", "memory", "devices", "freezer", "pids", "hugetlb"];

/// Into which a process moves: the rest have no effect without a limit, and each move waits for the kernel.
const JOINED: [&str; 7] = ["cpu", "cpuacct", "cpuset", "memory", "devices", "pids", "hugetlb"];

type Mounts = BTreeMap<String, PathBuf>;

pub(super) fn create(mounts: &Mounts, path: &Path) -> Result<()> {
    for (controller, mount) in mounts {
        let mut dir = mount.clone();
        for part in path.components() {
            let parent = dir.clone();
            dir.push(part);
            if dir.is_dir() {
                continue;
            }
            make_directory(&dir)?;
            if controller == "cpuset" {
                // A new cpuset is empty and takes no process until it has processors and memory nodes.
                for file in ["cpuset.cpus", "cpuset.mems"] {
                    let inherited = std::fs::read_to_string(parent.join(file))
                        .map_err(|e| io_error("read", &parent.join(file), e))?;
                    write(&dir.join(file), inherited.trim())?;
                }
            }
            if controller == "memory" {
                // Children count against their parents; the default on new kernels, required for pod limits.
                let _ = write(&dir.join("memory.use_hierarchy"), "1");
            }
        }
    }
    Ok(())
}

pub(super) fn add_pid(mounts: &Mounts, path: &Path, pid: i32) -> Result<()> {
    write_to_all(mounts, path, "cgroup.procs", pid)
}

pub(super) fn join(mounts: &Mounts, path: &Path) -> Result<()> {
    // 0 in `tasks` is "this thread", the one case in which the kernel (5.4) takes no global lock.
    write_to_all(mounts, path, "tasks", 0)
}

fn write_to_all(mounts: &Mounts, path: &Path, file: &str, pid: i32) -> Result<()> {
    let mut done: Vec<&Path> = Vec::new();
    for (controller, mount) in mounts {
        if JOINED.contains(&controller.as_str()) && !done.contains(&mount.as_path()) {
            done.push(mount);
            write(&mount.join(path).join(file), &pid.to_string())?;
        }
    }
    Ok(())
}

pub(super) fn set(mounts: &Mounts, path: &Path, resources: &Resources) -> Result<()> {
    let dir = |controller: &str| mounts.get(controller).map(|mount| mount.join(path));
    if let Some(cpu) = dir("cpu") {
        if let Some(shares) = resources.cpu_shares {
            write(&cpu.join("cpu.shares"), &shares.clamp(2, 262_144).to_string())?;
        }
        if let Some(period) = resources.cpu_period_us {
            write(&cpu.join("cpu.cfs_period_us"), &period.to_string())?;
        }
        if let Some(quota) = resources.cpu_quota_us {
            write(&cpu.join("cpu.cfs_quota_us"), &quota.max(-1).to_string())?;
        }
    }
    if let Some(memory) = dir("memory") {
        set_memory(&memory, resources)?;
    }
    if let (Some(pids), Some(limit)) = (dir("pids"), resources.pids_limit) {
        let value = if limit > 0 { limit.to_string() } else { "max".to_owned() };
        write(&pids.join("pids.max"), &value)?;
    }
    if let Some(cpuset) = dir("cpuset") {
        for (file, value) in [("cpuset.cpus", &resources.cpuset_cpus), ("cpuset.mems", &resources.cpuset_mems)] {
            if let Some(value) = value.as_deref().filter(|v| !v.is_empty()) {
                write(&cpuset.join(file), value)?;
            }
        }
    }
    if let Some(hugetlb) = dir("hugetlb") {
        for (size, bytes) in &resources.hugepage_limits {
            write(&hugetlb.join(format!("hugetlb.{size}.limit_in_bytes")), &bytes.to_string())?;
        }
    }
    if let (Some(devices), Some(rules)) = (dir("devices"), &resources.devices) {
        write(&devices.join("devices.deny"), "a")?;
        for rule in rules {
            write(&devices.join("devices.allow"), &rule.to_v1())?;
        }
    }
    Ok(())
}

/// memory+swap must never be below memory, so growing sets it first and shrinking sets it last.
fn set_memory(dir: &Path, resources: &Resources) -> Result<()> {
    let limit_file = dir.join("memory.limit_in_bytes");
    let swap_file = dir.join("memory.memsw.limit_in_bytes");
    let Some(limit) = resources.memory_limit else {
        return match resources.memory_swap_limit {
            Some(swap) if swap_file.exists() => write(&swap_file, &swap.max(-1).to_string()),
            _ => Ok(()),
        };
    };
    let limit = limit.max(-1);
    let swap = match resources.memory_swap_limit {
        Some(swap) if swap_file.exists() => Some(swap.max(-1)),
        _ => None,
    };
    let grows = limit < 0 || read_number(&limit_file).is_some_and(|now| limit as u64 > now);
    if grows && swap_file.exists() {
        // With no swap limit asked for, an old one may still be too small for the new memory limit.
        let target = swap.or_else(|| {
            let too_small = read_number(&swap_file).is_some_and(|now| limit < 0 || now < limit as u64);
            too_small.then_some(limit)
        });
        if let Some(target) = target {
            write(&swap_file, &target.to_string())?;
        }
    }
    write(&limit_file, &limit.to_string())?;
    match swap {
        Some(swap) if !grows => write(&swap_file, &swap.to_string()),
        _ => Ok(()),
    }
}

pub(super) fn stats(mounts: &Mounts, path: &Path) -> Result<Stats> {
    let mut stats = Stats::default();
    if let Some(dir) = mounts.get("cpuacct").map(|mount| mount.join(path)) {
        let file = dir.join("cpuacct.usage");
        let text = std::fs::read_to_string(&file).map_err(|e| io_error("read", &file, e))?;
        stats.cpu_usage_ns = text.trim().parse().unwrap_or(0);
    }
    if let Some(dir) = mounts.get("memory").map(|mount| mount.join(path)) {
        stats.memory_usage_bytes = read_number(&dir.join("memory.usage_in_bytes")).unwrap_or(0);
        let [inactive, rss, faults, major] = read_keyed(
            &dir.join("memory.stat"),
            ["total_inactive_file", "total_rss", "total_pgfault", "total_pgmajfault"],
        );
        stats.memory_working_set_bytes = stats.memory_usage_bytes.saturating_sub(inactive);
        stats.memory_rss_bytes = rss;
        stats.page_faults = faults;
        stats.major_page_faults = major;
        // "Unlimited" is the largest page-aligned number of a signed 64-bit integer.
        stats.memory_limit_bytes =
            read_number(&dir.join("memory.limit_in_bytes")).filter(|v| *v < i64::MAX as u64 - (1 << 20)).unwrap_or(0);
        [stats.oom_kills] = read_keyed(&dir.join("memory.oom_control"), ["oom_kill"]);
    }
    if let Some(dir) = mounts.get("pids").map(|mount| mount.join(path)) {
        stats.pids = read_number(&dir.join("pids.current")).unwrap_or(0);
    }
    Ok(stats)
}
