//! The last words of a container: the file that it may write, or the tail of its log.

use std::path::{Path, PathBuf};

/// Bytes of message that a container's status carries.
const MESSAGE_MAX: usize = 4096;
/// With `FallbackToLogsOnError`: this much of the log's end.
const FALLBACK_LINES: usize = 80;
const FALLBACK_BYTES: usize = 2048;

/// On the host; mounted at the container's `terminationMessagePath`.
pub fn file(pod_dir: &Path, container: &str, attempt: u32) -> PathBuf {
    pod_dir.join("containers").join(container).join(attempt.to_string())
}

/// `policy` as in the spec; the log (CRI format) is only read after a failure that left no message.
pub fn read(file: &Path, policy: &str, exit_code: i32, log: &Path) -> Option<String> {
    let text = tail(file, MESSAGE_MAX);
    if !text.is_empty() {
        return Some(text);
    }
    if policy != "FallbackToLogsOnError" || exit_code == 0 {
        return None;
    }
    let log = tail(log, 64 * 1024);
    let lines: Vec<&str> = log.lines().filter_map(|l| l.splitn(4, ' ').nth(3)).collect();
    let mut text: String =
        lines[lines.len().saturating_sub(FALLBACK_LINES)..].iter().flat_map(|l| [*l, "\n"]).collect();
    if text.len() > FALLBACK_BYTES {
        let mut cut = text.len() - FALLBACK_BYTES;
        while !text.is_char_boundary(cut) {
            cut += 1;
        }
        text.drain(..cut);
    }
    (!text.is_empty()).then_some(text)
}

fn tail(path: &Path, bytes_max: usize) -> String {
    use std::io::{Read, Seek, SeekFrom};
    let read = || -> std::io::Result<Vec<u8>> {
        let mut f = std::fs::File::open(path)?;
        let len = f.metadata()?.len();
        f.seek(SeekFrom::Start(len.saturating_sub(bytes_max as u64)))?;
        let mut out = Vec::new();
        f.take(bytes_max as u64).read_to_end(&mut out)?;
        Ok(out)
    };
    String::from_utf8_lossy(&read().unwrap_or_default()).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn file_first_then_the_log_of_a_failure() {
        let dir = tempfile::tempdir().unwrap();
        let (message, log) = (dir.path().join("m"), dir.path().join("l"));
        std::fs::write(&log, "2024-01-01T00:00:00Z stdout F one\n2024-01-01T00:00:00Z stderr F two words\n").unwrap();
        assert_eq!(read(&message, "File", 1, &log), None);
        assert_eq!(read(&message, "FallbackToLogsOnError", 0, &log), None);
        assert_eq!(read(&message, "FallbackToLogsOnError", 1, &log).unwrap(), "one\ntwo words\n");
        std::fs::write(&message, "bye").unwrap();
        assert_eq!(read(&message, "FallbackToLogsOnError", 1, &log).unwrap(), "bye");
    }
}
