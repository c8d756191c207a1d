//! The few file operations that the embedded engine needs, so that tests can put a disk under it that tears,
//! forgets and fills up.
//!
//! A disk is one flat directory; names have no slashes.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read};
use std::os::unix::fs::FileExt;
use std::path::PathBuf;

pub trait Disk: Send + Sync + 'static {
    fn names(&self) -> io::Result<Vec<String>>;
    fn read(&self, name: &str) -> io::Result<Box<dyn Read + Send>>;
    /// An empty file of that name, whatever was there before.
    fn create(&self, name: &str) -> io::Result<Box<dyn DiskFile>>;
    /// An existing file, to be written on.
    fn reopen(&self, name: &str) -> io::Result<Box<dyn DiskFile>>;
    /// Replaces `to`.
    fn rename(&self, from: &str, to: &str) -> io::Result<()>;
    fn remove(&self, name: &str) -> io::Result<()>;
    /// Makes creations, renames and removals durable.
    fn sync_names(&self) -> io::Result<()>;
}

pub trait DiskFile: Send {
    /// Writes at the byte `at`, which is within the file or its end. After an error, any part of `bytes` may have been
    /// written.
    fn write_at(&mut self, at: u64, bytes: &[u8]) -> io::Result<()>;
    /// Makes content and length durable. After an error nothing is known of what was written since the last success,
    /// and a second call that succeeds proves nothing.
    fn sync(&mut self) -> io::Result<()>;
    fn set_len(&mut self, len: u64) -> io::Result<()>;
}

/// A directory of the real file system.
pub struct Directory {
    pub path: PathBuf,
    /// Without it, a crash of the machine (not of the process) loses writes.
    pub fsync: bool,
}

struct RealFile {
    file: File,
    fsync: bool,
}

impl Directory {
    fn wrap(&self, file: File) -> Box<dyn DiskFile> {
        Box::new(RealFile { file, fsync: self.fsync })
    }
}

impl Disk for Directory {
    fn names(&self) -> io::Result<Vec<String>> {
        let mut names = Vec::new();
        for entry in fs::read_dir(&self.path)? {
            names.extend(entry?.file_name().into_string());
        }
        Ok(names)
    }

    fn read(&self, name: &str) -> io::Result<Box<dyn Read + Send>> {
        Ok(Box::new(File::open(self.path.join(name))?))
    }

    fn create(&self, name: &str) -> io::Result<Box<dyn DiskFile>> {
        let mut options = OpenOptions::new();
        options.write(true).create(true).truncate(true);
        #[cfg(unix)]
        std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
        Ok(self.wrap(options.open(self.path.join(name))?))
    }

    fn reopen(&self, name: &str) -> io::Result<Box<dyn DiskFile>> {
        Ok(self.wrap(OpenOptions::new().write(true).open(self.path.join(name))?))
    }

    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        fs::rename(self.path.join(from), self.path.join(to))
    }

    fn remove(&self, name: &str) -> io::Result<()> {
        fs::remove_file(self.path.join(name))
    }

    fn sync_names(&self) -> io::Result<()> {
        match self.fsync {
            true => File::open(&self.path)?.sync_all(),
            false => Ok(()),
        }
    }
}

impl DiskFile for RealFile {
    fn write_at(&mut self, at: u64, bytes: &[u8]) -> io::Result<()> {
        self.file.write_all_at(bytes, at)
    }

    fn sync(&mut self) -> io::Result<()> {
        match self.fsync {
            true => self.file.sync_data(),
            false => Ok(()),
        }
    }

    fn set_len(&mut self, len: u64) -> io::Result<()> {
        self.file.set_len(len)
    }
}
