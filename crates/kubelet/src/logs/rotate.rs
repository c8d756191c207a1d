//! Keeps logs from filling the disk: a file that has grown too large is renamed and the runtime opens a new one.
//! Looks on a timer (as upstream does): nothing tells of a growing file without a watch on each.

use super::rotated;
use crate::pods::context::Context;
use cri::ContainerState;
use jiff::Timestamp;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

const LOOK: Duration = Duration::from_secs(10);

pub async fn run(context: Arc<Context>) {
    loop {
        tokio::select! {
            _ = tokio::time::sleep(LOOK) => {}
            _ = context.shutdown.cancelled() => return,
        }
        for c in context.registry.views().into_iter().flat_map(|v| v.containers) {
            let path = PathBuf::from(&c.log_path);
            let size = tokio::fs::metadata(&path).await.map_or(0, |m| m.len());
            if c.state != ContainerState::Running || size <= context.options.log_size_max {
                continue;
            }
            match rename(&path, context.options.log_files_max, Timestamp::now()) {
                Ok(renamed) => {
                    if let Err(error) = context.runtime.reopen_container_log(&c.id).await {
                        tracing::warn!(container = c.id, %error, "the runtime didn't reopen a rotated log");
                        // Still written to under its new name: give it its own back.
                        if !path.exists() {
                            let _ = std::fs::rename(&renamed, &path);
                        }
                    }
                }
                Err(error) => {
                    tracing::warn!(path = %path.display(), %error, "a log wasn't rotated")
                }
            }
        }
    }
}

/// Moves the log aside and drops the oldest, so that with the new one `files_max` remain.
pub fn rename(log: &Path, files_max: u32, now: Timestamp) -> io::Result<PathBuf> {
    let keep = (files_max.max(2) - 2) as usize;
    let old = rotated(log);
    for gone in old.iter().take(old.len().saturating_sub(keep)) {
        std::fs::remove_file(gone)?;
    }
    let mut target = log.as_os_str().to_owned();
    target.push(format!(".{}-{:09}", now.strftime("%Y%m%d-%H%M%S"), now.subsec_nanosecond()));
    let target = PathBuf::from(target);
    std::fs::rename(log, &target)?;
    Ok(target)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keeps_the_newest() {
        let dir = tempfile::tempdir().unwrap();
        let log = dir.path().join("0.log");
        for i in 0..7 {
            std::fs::write(&log, i.to_string()).unwrap();
            rename(&log, 5, Timestamp::from_second(1_700_000_000 + i).unwrap()).unwrap();
        }
        let kept: Vec<String> = rotated(&log).iter().map(|p| std::fs::read_to_string(p).unwrap()).collect();
        assert_eq!(kept, ["3", "4", "5", "6"]);
        assert!(!log.exists());
    }
}
