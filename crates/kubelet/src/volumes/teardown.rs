//! The end of a pod's directory: unmounts all below it, then removes it. Never crosses into what is still mounted.

use super::{VolumeError, io};
use nix::mount::{MntFlags, umount2};
use std::path::{Path, PathBuf};

/// Mount points at or below `dir`, deepest first.
pub fn mounts_below(mountinfo: &str, dir: &Path) -> Vec<PathBuf> {
    let mut found: Vec<PathBuf> = mountinfo
        .lines()
        .filter_map(|l| l.split(' ').nth(4))
        .map(|p| PathBuf::from(p.replace("\\040", " ").replace("\\011", "\t").replace("\\134", "\\")))
        .filter(|p| p.starts_with(dir))
        .collect();
    found.reverse();
    found.sort_by_key(|p| std::cmp::Reverse(p.components().count()));
    found
}

pub fn is_mount_point(dir: &Path) -> bool {
    std::fs::read_to_string("/proc/self/mountinfo").is_ok_and(|info| mounts_below(&info, dir).iter().any(|p| p == dir))
}

/// Idempotent.
pub fn remove(pod_dir: &Path) -> Result<(), VolumeError> {
    let mountinfo = PathBuf::from("/proc/self/mountinfo");
    let info = std::fs::read_to_string(&mountinfo).map_err(io("read", &mountinfo))?;
    for mount in mounts_below(&info, pod_dir) {
        umount2(&mount, MntFlags::MNT_DETACH).map_err(|e| io("unmount", &mount)(e.into()))?;
    }
    match std::fs::remove_dir_all(pod_dir) {
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => Ok(()),
        other => other.map_err(io("remove", pod_dir)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn deepest_first_and_only_below() {
        let info = "1 0 0:1 / / rw - ext4 x rw\n2 1 0:2 / /p/a rw - tmpfs t rw\n3 2 0:3 / /p/a/b\\040c rw - tmpfs t rw\n4 1 0:4 / /pq rw - tmpfs t rw\n";
        assert_eq!(mounts_below(info, Path::new("/p")), [PathBuf::from("/p/a/b c"), PathBuf::from("/p/a")]);
    }
}
