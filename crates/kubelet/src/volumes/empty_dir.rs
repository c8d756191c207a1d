//! `emptyDir`: a directory of the pod's own, or a tmpfs for medium `Memory`.

use super::{Mounted, VolumeError, io, ownership};
use crate::quantity;
use k8s_openapi::api::core::v1::EmptyDirVolumeSource;
use nix::mount::{MsFlags, mount};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

pub fn set_up(dir: &Path, source: &EmptyDirVolumeSource, group: Option<i64>) -> Result<Mounted, VolumeError> {
    let fresh = !dir.exists();
    std::fs::create_dir_all(dir).map_err(io("mkdir", dir))?;
    let medium = source.medium.as_deref().unwrap_or("");
    if !medium.is_empty() && !super::teardown::is_mount_point(dir) {
        let size = source.size_limit.as_ref().map(quantity::value).filter(|s| *s > 0);
        let (fs, options) = match medium {
            "Memory" => ("tmpfs", size.map(|s| format!("size={s}")).unwrap_or_default()),
            // `HugePages` or `HugePages-2Mi`
            _ => (
                "hugetlbfs",
                medium
                    .strip_prefix("HugePages-")
                    .map(|s| format!("pagesize={}", s.trim_end_matches('i')))
                    .unwrap_or_default(),
            ),
        };
        mount(Some(fs), dir, Some(fs), MsFlags::empty(), Some(options.as_str()))
            .map_err(|e| io("mount", dir)(e.into()))?;
    }
    if fresh {
        // The umask must not narrow it: containers run as any user.
        std::fs::set_permissions(dir, std::fs::Permissions::from_mode(0o777)).map_err(io("chmod", dir))?;
    }
    if let Some(group) = group {
        ownership::apply(dir, group, false, "OnRootMismatch")?;
    }
    Ok(Mounted::Path { host_path: dir.to_owned(), read_only: false })
}
