//! Records on disk: JSON files that are whole or absent, whenever the process dies.

use serde::{Serialize, de::DeserializeOwned};
use std::fs;
use std::io::{self, Write};
use std::path::Path;

/// Nanoseconds since the Unix epoch.
pub fn now_ns() -> i64 {
    std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).map_or(0, |d| d.as_nanos() as i64)
}

/// Whether a record must survive a loss of power (`Disk`) or only the death of this process (`Process`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Durability {
    Process,
    Disk,
}

/// Writes beside the file, then renames over it.
pub fn write(path: &Path, record: &impl Serialize, durability: Durability) -> io::Result<()> {
    let bytes = serde_json::to_vec(record).map_err(io::Error::other)?;
    write_bytes(path, &bytes, durability)
}

pub fn write_bytes(path: &Path, bytes: &[u8], durability: Durability) -> io::Result<()> {
    let name = path.file_name().and_then(|n| n.to_str()).ok_or_else(|| io::Error::other("record without a name"))?;
    let temporary = path.with_file_name(format!(".{name}.{}.tmp", std::process::id()));
    let mut file = fs::OpenOptions::new().write(true).create(true).truncate(true).open(&temporary)?;
    file.write_all(bytes)?;
    if durability == Durability::Disk {
        file.sync_data()?;
    }
    drop(file);
    fs::rename(&temporary, path)
}

/// `None` when there is none; an unreadable one is an error that names the file.
pub fn read<T: DeserializeOwned>(path: &Path) -> io::Result<Option<T>> {
    match fs::read(path) {
        Ok(bytes) => {
            serde_json::from_slice(&bytes).map(Some).map_err(|e| io::Error::other(format!("{}: {e}", path.display())))
        }
        Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(e) => Err(e),
    }
}

/// 64 hexadecimal digits, as containerd's ids look.
pub fn new_id() -> String {
    hex::encode(rand::random::<[u8; 32]>())
}
