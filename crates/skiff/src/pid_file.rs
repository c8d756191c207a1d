//! `skiff.pid`: which process serves a data directory.
//!
//! The server holds a lock on the file for as long as it lives, so that a number that was left behind, and belongs to
//! another program by now, is never taken for a server.

use anyhow::{Context, Result};
use std::fs::{File, TryLockError};
use std::io::{Read, Seek, Write};
use std::path::{Path, PathBuf};

pub struct PidFile {
    path: PathBuf,
    _locked: File,
}

impl PidFile {
    pub fn write(path: &Path) -> Result<PidFile> {
        let failed = || format!("failed to write {}", path.display());
        let mut file =
            File::options().read(true).write(true).create(true).truncate(false).open(path).with_context(failed)?;
        file.try_lock().with_context(|| format!("another server holds {}", path.display()))?;
        file.set_len(0).and_then(|()| file.rewind()).with_context(failed)?;
        write!(file, "{}", std::process::id()).with_context(failed)?;
        Ok(PidFile { path: path.to_path_buf(), _locked: file })
    }
}

impl Drop for PidFile {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.path);
    }
}

/// The server that lives, if there is one.
pub fn holder(path: &Path) -> Result<Option<i32>> {
    let mut file = match File::open(path) {
        Ok(file) => file,
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Ok(None),
        Err(e) => return Err(e).with_context(|| format!("failed to open {}", path.display())),
    };
    match file.try_lock_shared() {
        Ok(()) => Ok(None),
        Err(TryLockError::Error(e)) => Err(e).with_context(|| format!("failed to lock {}", path.display())),
        Err(TryLockError::WouldBlock) => {
            let mut text = String::new();
            file.read_to_string(&mut text).with_context(|| format!("failed to read {}", path.display()))?;
            Ok(text.trim().parse().ok())
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_living_server_counts() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("skiff.pid");
        assert_eq!(holder(&path).unwrap(), None);
        // Left behind by one that was killed: the number is ours, and we are no server.
        std::fs::write(&path, std::process::id().to_string()).unwrap();
        assert_eq!(holder(&path).unwrap(), None);
        let held = PidFile::write(&path).unwrap();
        assert_eq!(holder(&path).unwrap(), Some(std::process::id() as i32));
        assert!(PidFile::write(&path).is_err());
        drop(held);
        assert!(!path.exists());
    }
}
