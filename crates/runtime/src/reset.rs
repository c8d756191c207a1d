//! Leaves nothing behind: every shim, container, mount, namespace, control group and file.

use crate::container::{self, ContainerRecord};
use crate::sandbox::{self, SandboxPlaces};
use crate::state;
use std::collections::BTreeSet;
use std::fs;
use std::path::Path;
use std::time::Duration;

fn names(dir: &Path) -> Vec<String> {
    let Ok(entries) = fs::read_dir(dir) else {
        return Vec::new();
    };
    entries.flatten().map(|e| e.file_name().to_string_lossy().into_owned()).collect()
}

/// Undoes everything that a runtime with these directories has made. Blocking and idempotent; to be called when
/// no such runtime is open. Errors are of the last step: files that could not be deleted.
pub fn reset(root: &Path, state_dir: &Path) -> std::io::Result<()> {
    let sandboxes: BTreeSet<String> = [root.join("sandboxes"), state_dir.join("sandboxes"), state_dir.join("netns")]
        .iter()
        .flat_map(|d| names(d))
        .collect();
    let cgroups = sys::cgroup::Manager::detect("skiff").ok();
    for id in &sandboxes {
        sandbox::kill_shim(&SandboxPlaces::new(root, state_dir, id));
    }
    for id in names(&root.join("containers")) {
        let record: Option<ContainerRecord> =
            state::read(&root.join("containers").join(id).join(container::RECORD)).ok().flatten();
        if let (Some(record), Some(cgroups)) = (record, &cgroups) {
            let _ = cgroups.kill(&record.cgroup, Duration::from_secs(10));
            let _ = cgroups.remove(&record.cgroup);
        }
    }
    for id in &sandboxes {
        sandbox::clear_state(&SandboxPlaces::new(root, state_dir, id));
    }
    for dir in [root, &state_dir.join("sandboxes"), &state_dir.join("netns"), &state_dir.join("seccomp")] {
        match fs::remove_dir_all(dir) {
            Err(e) if e.kind() != std::io::ErrorKind::NotFound => return Err(e),
            _ => {}
        }
    }
    // Others may keep their own things there.
    let _ = fs::remove_dir(state_dir);
    Ok(())
}
