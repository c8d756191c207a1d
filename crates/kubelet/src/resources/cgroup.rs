//! The pod's cgroup, which the kubelet makes before the sandbox and removes after it:
//! `<root>/kubepods[/burstable|/besteffort]/pod<uid>`.

use super::qos::QosClass;
use cri::LinuxResources;
use sys::cgroup::{Manager, Resources, Result};

/// `root` like `/skiff`; upstream's names below it.
pub fn pod_path(root: &str, class: QosClass, uid: &str) -> String {
    let root = root.trim_end_matches('/');
    match class {
        QosClass::Guaranteed => format!("{root}/kubepods/pod{uid}"),
        QosClass::Burstable => format!("{root}/kubepods/burstable/pod{uid}"),
        QosClass::BestEffort => format!("{root}/kubepods/besteffort/pod{uid}"),
    }
}

/// Makes the group and sets what is set. Also how a resize reaches the pod's level.
pub fn ensure(manager: &Manager, path: &str, resources: &LinuxResources) -> Result<()> {
    manager.create(path)?;
    manager.set(
        path,
        &Resources {
            cpu_shares: u64::try_from(resources.cpu_shares).ok().filter(|s| *s > 0),
            cpu_quota_us: Some(resources.cpu_quota).filter(|q| *q != 0),
            cpu_period_us: u64::try_from(resources.cpu_period).ok().filter(|p| *p > 0),
            memory_limit: Some(resources.memory_limit_bytes).filter(|m| *m > 0),
            pids_limit: Some(resources.pids_limit).filter(|p| *p > 0),
            ..Default::default()
        },
    )
}

/// Pod cgroups that exist below `root`, as (path, pod uid): after a crash some belong to nobody.
pub fn pods(manager: &Manager, root: &str) -> Vec<(String, String)> {
    let controller = if manager.controllers().contains(&"memory") { "memory" } else { "" };
    let root = root.trim_end_matches('/');
    let mut out = Vec::new();
    for below in ["kubepods", "kubepods/burstable", "kubepods/besteffort"] {
        let path = format!("{root}/{below}");
        let Some(dir) = manager.directory(controller, &path) else {
            continue;
        };
        for entry in std::fs::read_dir(dir).into_iter().flatten().flatten() {
            if let Some((name, uid)) =
                entry.file_name().to_str().and_then(|n| Some((n.to_owned(), n.strip_prefix("pod")?.to_owned())))
            {
                out.push((format!("{path}/{name}"), uid));
            }
        }
    }
    out
}
