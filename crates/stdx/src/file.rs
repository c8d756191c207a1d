//! A file that is read again when it changes, whether it is written, replaced, or reached through links that move (as
//! mounted ConfigMaps are).
//!
//! The kernel tells of changes in the file's directory; once a minute the file is read without being told, for file
//! systems that tell nothing.

use nix::sys::inotify::{AddWatchFlags, InitFlags, Inotify};
use std::os::fd::{AsFd, AsRawFd, RawFd};
use std::path::{Path, PathBuf};
use std::time::Duration;
use tokio::io::unix::AsyncFd;

const READ_EVERY: Duration = Duration::from_secs(60);
/// Writers that truncate first and write then are waited for.
const SETTLE: Duration = Duration::from_millis(50);

struct Notifier(Inotify);

impl AsRawFd for Notifier {
    fn as_raw_fd(&self) -> RawFd {
        self.0.as_fd().as_raw_fd()
    }
}

pub struct WatchedFile {
    path: PathBuf,
    content: Vec<u8>,
    notifier: Option<AsyncFd<Notifier>>,
}

impl WatchedFile {
    /// `content`: what the caller has read already. Must be called in a Tokio runtime.
    pub fn new(path: &Path, content: &[u8]) -> WatchedFile {
        WatchedFile { path: path.to_path_buf(), content: content.to_vec(), notifier: notifier(path) }
    }

    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The file's next content that differs from the one before. A file that can't be read hasn't changed.
    pub async fn changed(&mut self) -> Vec<u8> {
        loop {
            if let Ok(content) = tokio::fs::read(&self.path).await
                && content != self.content
            {
                self.content = content;
                return self.content.clone();
            }
            match &self.notifier {
                Some(n) => {
                    let _ = tokio::time::timeout(READ_EVERY, told(n)).await;
                    tokio::time::sleep(SETTLE).await;
                }
                None => tokio::time::sleep(READ_EVERY).await,
            }
        }
    }
}

fn notifier(path: &Path) -> Option<AsyncFd<Notifier>> {
    let inotify = Inotify::init(InitFlags::IN_NONBLOCK | InitFlags::IN_CLOEXEC).ok()?;
    let flags = AddWatchFlags::IN_CLOSE_WRITE
        | AddWatchFlags::IN_MOVED_TO
        | AddWatchFlags::IN_CREATE
        | AddWatchFlags::IN_DELETE
        | AddWatchFlags::IN_MODIFY;
    let parent = path.parent().filter(|p| !p.as_os_str().is_empty()).unwrap_or(Path::new("."));
    inotify.add_watch(parent, flags).ok()?;
    #[expect(deprecated, reason = "its successor is unsafe to call; the descriptor is owned by what is registered")]
    AsyncFd::new(Notifier(inotify)).ok()
}

/// Returns when something happened in the directory.
async fn told(notifier: &AsyncFd<Notifier>) {
    let Ok(mut ready) = notifier.readable().await else { return };
    while notifier.get_ref().0.read_events().is_ok_and(|e| !e.is_empty()) {}
    ready.clear_ready();
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn writes_and_replacements_are_seen() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("f");
        std::fs::write(&path, "1").unwrap();
        let mut file = WatchedFile::new(&path, b"1");
        let next = async |file: &mut WatchedFile| {
            tokio::time::timeout(Duration::from_secs(10), file.changed()).await.map(|c| String::from_utf8(c).unwrap())
        };
        std::fs::write(&path, "2").unwrap();
        assert_eq!(next(&mut file).await.as_deref(), Ok("2"));
        let writer = async {
            tokio::time::sleep(Duration::from_millis(20)).await;
            std::fs::write(dir.path().join("g"), "3").unwrap();
            std::fs::rename(dir.path().join("g"), &path).unwrap();
        };
        assert_eq!(tokio::join!(next(&mut file), writer).0.as_deref(), Ok("3"));
        // The same content again, and a file that is gone, are no news.
        std::fs::write(&path, "3").unwrap();
        std::fs::remove_file(&path).unwrap();
        assert!(tokio::time::timeout(Duration::from_millis(200), file.changed()).await.is_err());
        std::fs::write(&path, "4").unwrap();
        assert_eq!(next(&mut file).await.as_deref(), Ok("4"));
    }
}
