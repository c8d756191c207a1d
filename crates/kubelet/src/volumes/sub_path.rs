//! `subPath`: one file or directory within a volume, found without ever following a symlink out of it.
//!
//! What was found is held open and bind-mounted by its descriptor, so that a container that swaps a directory for a
//! symlink between the check and the mount gains nothing (upstream's CVE-2017-1002101).

use super::{VolumeError, io};
use nix::fcntl::{OFlag, OpenHow, ResolveFlag, openat2};
use nix::mount::{MsFlags, mount};
use nix::sys::stat::{Mode, mkdirat};
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

/// Opens `sub` beneath `volume`; directories that are missing are made.
pub fn open(volume: &Path, sub: &str) -> Result<OwnedFd, VolumeError> {
    if sub.starts_with('/') || sub.split('/').any(|p| p == "..") {
        return Err(VolumeError::Path(sub.to_owned()));
    }
    let at = volume.join(sub);
    // RESOLVE_BENEATH lets symlinks be followed as long as they stay inside (ConfigMap volumes need that).
    let how = |flags: OFlag| {
        OpenHow::new()
            .flags(flags | OFlag::O_CLOEXEC)
            .resolve(ResolveFlag::RESOLVE_BENEATH | ResolveFlag::RESOLVE_NO_MAGICLINKS)
    };
    let root = nix::fcntl::open(volume, OFlag::O_PATH | OFlag::O_CLOEXEC, Mode::empty())
        .map_err(|e| io("open", volume)(e.into()))?;
    // As upstream: new directories are as open as the volume itself, so that any user of an emptyDir can write.
    let mode = std::fs::metadata(volume).map_err(io("stat", volume))?.permissions().mode() & 0o777;
    let mut so_far = PathBuf::new();
    let mut current = root.try_clone().map_err(io("open", volume))?;
    for part in sub.split('/').filter(|p| !p.is_empty() && *p != ".") {
        so_far.push(part);
        current = match openat2(&root, &so_far, how(OFlag::O_PATH)) {
            Ok(fd) => fd,
            Err(nix::Error::ENOENT) => {
                mkdirat(&current, part, Mode::from_bits_truncate(mode)).map_err(|e| io("mkdir", &at)(e.into()))?;
                let made = openat2(&root, &so_far, how(OFlag::O_PATH | OFlag::O_NOFOLLOW))
                    .map_err(|e| io("open", &at)(e.into()))?;
                // Past the umask.
                let path = format!("/proc/self/fd/{}", made.as_raw_fd());
                let _ = std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode));
                made
            }
            Err(nix::Error::EXDEV) => return Err(VolumeError::Path(sub.to_owned())),
            Err(e) => return Err(io("open", &at)(e.into())),
        };
    }
    Ok(current)
}

/// Binds what `sub` names to a stable path below the pod's directory and returns that path.
pub fn bind(
    pod_dir: &Path,
    volume: &str,
    volume_path: &Path,
    container: &str,
    index: usize,
    sub: &str,
) -> Result<PathBuf, VolumeError> {
    let fd = open(volume_path, sub)?;
    let source = PathBuf::from(format!("/proc/self/fd/{}", fd.as_raw_fd()));
    let is_dir = std::fs::metadata(&source).map_err(io("stat", &source))?.is_dir();
    let target = pod_dir.join("volume-subpaths").join(volume).join(container).join(index.to_string());
    // An earlier container's: bound anew, so that it shows what the path names today.
    let _ = nix::mount::umount2(&target, nix::mount::MntFlags::MNT_DETACH);
    if is_dir {
        if target.is_file() {
            let _ = std::fs::remove_file(&target);
        }
        std::fs::create_dir_all(&target).map_err(io("mkdir", &target))?;
    } else {
        if let Some(parent) = target.parent() {
            std::fs::create_dir_all(parent).map_err(io("mkdir", parent))?;
        }
        if target.is_dir() {
            let _ = std::fs::remove_dir(&target);
        }
        if !target.exists() {
            std::fs::write(&target, "").map_err(io("create", &target))?;
        }
    }
    mount(Some(&source), &target, None::<&str>, MsFlags::MS_BIND | MsFlags::MS_REC, None::<&str>)
        .map_err(|e| io("bind mount", &target)(e.into()))?;
    Ok(target)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn symlinks_may_not_leave_the_volume() {
        let tmp = tempfile::tempdir().unwrap();
        let volume = tmp.path().join("v");
        std::fs::create_dir_all(volume.join("d")).unwrap();
        std::fs::create_dir(tmp.path().join("secret")).unwrap();
        std::os::unix::fs::symlink("../secret", volume.join("out")).unwrap();
        std::os::unix::fs::symlink("/etc", volume.join("abs")).unwrap();
        std::os::unix::fs::symlink("d", volume.join("in")).unwrap();
        for (sub, fine) in [
            ("d", true),
            ("in", true),
            ("d/new/deep", true),
            ("out", false),
            ("abs", false),
            ("out/x", false),
            ("../secret", false),
            ("d/../../secret", false),
            ("/etc", false),
        ] {
            assert_eq!(open(&volume, sub).is_ok(), fine, "{sub}");
        }
        assert!(volume.join("d/new/deep").is_dir());
        assert!(!tmp.path().join("secret/x").exists());
    }
}
