//! Containers' logs in CRI format (`<time> <stream> <P|F> <text>`): rotation and reading.
//!
//! A container writes `<name>/<attempt>.log`; rotation renames it to `<attempt>.log.<stamp>` and the runtime begins a new one.

pub mod reader;
pub mod rotate;

use std::path::{Path, PathBuf};

/// Rotated files of a log, the oldest first.
pub fn rotated(log: &Path) -> Vec<PathBuf> {
    let (Some(dir), Some(name)) = (log.parent(), log.file_name().and_then(|n| n.to_str())) else {
        return Vec::new();
    };
    let prefix = format!("{name}.");
    let entries = std::fs::read_dir(dir).into_iter().flatten().flatten();
    let mut found: Vec<PathBuf> = entries
        .filter(|e| e.file_name().to_str().is_some_and(|n| n.starts_with(&prefix) && !n.ends_with(".tmp")))
        .map(|e| e.path())
        .collect();
    found.sort();
    found
}
