//! fsGroup: gives a volume's files to the group, readable (and writable) by it; new files inherit it (setgid).

use super::{VolumeError, io};
use nix::unistd::{Gid, fchownat};
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::Path;

const RW: u32 = 0o660;
const RO: u32 = 0o440;
const DIRECTORY: u32 = 0o2110;

/// `policy` is `Always` or `OnRootMismatch` (which skips everything when the root directory is right already).
pub fn apply(root: &Path, group: i64, read_only: bool, policy: &str) -> Result<(), VolumeError> {
    let gid = u32::try_from(group).map_err(|_| VolumeError::Path(group.to_string()))?;
    let want = if read_only { RO } else { RW };
    let meta = std::fs::symlink_metadata(root).map_err(io("stat", root))?;
    if policy == "OnRootMismatch" && meta.gid() == gid && meta.mode() & (want | DIRECTORY) == want | DIRECTORY {
        return Ok(());
    }
    change(root, gid, want)
}

fn change(path: &Path, gid: u32, want: u32) -> Result<(), VolumeError> {
    let meta = std::fs::symlink_metadata(path).map_err(io("stat", path))?;
    fchownat(nix::fcntl::AT_FDCWD, path, None, Some(Gid::from_raw(gid)), nix::fcntl::AtFlags::AT_SYMLINK_NOFOLLOW)
        .map_err(|e| io("chown", path)(e.into()))?;
    if meta.is_symlink() {
        return Ok(());
    }
    let mut mode = (meta.mode() & 0o7777) | want;
    if meta.is_dir() {
        mode |= DIRECTORY;
    }
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode)).map_err(io("chmod", path))?;
    if meta.is_dir() {
        for entry in std::fs::read_dir(path).map_err(io("list", path))?.flatten() {
            change(&entry.path(), gid, want)?;
        }
    }
    Ok(())
}
