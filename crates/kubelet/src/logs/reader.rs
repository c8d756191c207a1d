//! Reads a container's log for `kubectl logs`: from its rotated files on through the current one, and on as it grows.

use super::rotated;
use bytes::Bytes;
use jiff::Timestamp;
use std::collections::VecDeque;
use std::path::PathBuf;
use std::time::Duration;
use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::sync::mpsc;

/// How often a followed file is looked at for more. A file has no cheap way to tell; a session of a person is short.
const FOLLOW_LOOK: Duration = Duration::from_millis(100);

#[derive(Clone, Debug, Default)]
pub struct LogOptions {
    pub follow: bool,
    /// Lines from the end; `None` is all.
    pub tail: Option<usize>,
    pub since: Option<Timestamp>,
    pub timestamps: bool,
    pub limit_bytes: Option<u64>,
    /// `Stdout`, `Stderr`; `None` is both.
    pub stream: Option<String>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Line<'a> {
    pub time: &'a str,
    pub stream: &'a str,
    /// The text goes on in the next record.
    pub partial: bool,
    pub text: &'a [u8],
}

/// `record` without its newline.
pub fn parse(record: &[u8]) -> Option<Line<'_>> {
    let mut parts = record.splitn(4, |b| *b == b' ');
    let time = std::str::from_utf8(parts.next()?).ok()?;
    let stream = std::str::from_utf8(parts.next()?).ok()?;
    let tag = parts.next()?;
    // Tags are separated by colons; the first says whether the line is whole.
    Some(Line {
        time,
        stream,
        partial: tag.split(|b| *b == b':').next() == Some(b"P"),
        text: parts.next().unwrap_or_default(),
    })
}

struct Filter {
    options: LogOptions,
    sent: u64,
    at_line_start: bool,
}

impl Filter {
    /// What is sent for a record; `None` when the limit is reached.
    fn apply(&mut self, record: &[u8]) -> Option<Vec<u8>> {
        let mut out = Vec::new();
        let Some(line) = parse(record) else {
            return Some(out);
        };
        if self.options.stream.as_deref().is_some_and(|s| s != "All" && !s.eq_ignore_ascii_case(line.stream)) {
            return Some(out);
        }
        if let Some(since) = self.options.since
            && line.time.parse::<Timestamp>().is_ok_and(|t| t < since)
        {
            return Some(out);
        }
        if self.options.timestamps && self.at_line_start {
            out.extend_from_slice(line.time.as_bytes());
            out.push(b' ');
        }
        out.extend_from_slice(line.text);
        if !line.partial {
            out.push(b'\n');
        }
        self.at_line_start = !line.partial;
        if let Some(limit) = self.options.limit_bytes {
            let left = usize::try_from(limit.saturating_sub(self.sent)).unwrap_or(usize::MAX);
            if left == 0 {
                return None;
            }
            out.truncate(left);
        }
        self.sent += out.len() as u64;
        Some(out)
    }
}

/// Sends text to `out` until the end (or, following, until `ended` says that the container has ended and all is read,
/// or the reader goes away). `log` is the current file.
pub async fn read(
    log: PathBuf,
    options: LogOptions,
    ended: impl Fn() -> bool,
    out: mpsc::Sender<std::io::Result<Bytes>>,
) {
    let mut filter = Filter { options: options.clone(), sent: 0, at_line_start: true };
    // The current file is opened before older ones are listed: a rotation in between then loses nothing.
    let mut current = tokio::fs::File::open(&log).await.ok();
    let mut old = rotated(&log);
    if let Some(file) = &current {
        use std::os::unix::fs::MetadataExt;
        if let Ok(inode) = file.metadata().await.map(|m| m.ino()) {
            old.retain(|p| std::fs::metadata(p).is_ok_and(|m| m.ino() != inode));
        }
    }
    let mut tail: VecDeque<Vec<u8>> = VecDeque::new();
    let mut pending: Vec<u8> = Vec::new();
    macro_rules! send {
        ($record:expr) => {
            match filter.apply($record) {
                Some(text) if text.is_empty() => {}
                Some(text) => {
                    if out.send(Ok(Bytes::from(text))).await.is_err() {
                        return;
                    }
                }
                None => return,
            }
        };
    }
    // What is there now.
    let mut files: Vec<tokio::fs::File> = Vec::new();
    for path in old {
        files.extend(tokio::fs::File::open(path).await.ok());
    }
    let has_current = current.is_some();
    files.extend(current.take());
    let count = files.len();
    let mut following = None;
    for (i, file) in files.into_iter().enumerate() {
        let mut reader = BufReader::new(file);
        loop {
            match reader.read_until(b'\n', &mut pending).await {
                Ok(0) => break,
                Ok(_) if pending.last() == Some(&b'\n') => {
                    pending.pop();
                    let record = std::mem::take(&mut pending);
                    match options.tail {
                        Some(n) => {
                            // Lines are counted, and a line may be of several records.
                            tail.push_back(record);
                            while tail.iter().filter(|r| parse(r).is_some_and(|l| !l.partial)).count() > n
                                && !tail.is_empty()
                            {
                                while tail.pop_front().is_some_and(|r| parse(&r).is_some_and(|l| l.partial)) {}
                            }
                        }
                        None => send!(&record),
                    }
                }
                Ok(_) => {}
                Err(error) => {
                    let _ = out.send(Err(error)).await;
                    return;
                }
            }
        }
        if has_current && i + 1 == count {
            following = Some(reader);
        }
    }
    for record in std::mem::take(&mut tail) {
        send!(&record);
    }
    if !options.follow {
        return;
    }
    let mut next: Option<tokio::fs::File> = None;
    loop {
        let was_ended = ended();
        let mut progress = false;
        if let Some(reader) = &mut following {
            while let Ok(n) = reader.read_until(b'\n', &mut pending).await {
                if n == 0 {
                    break;
                }
                progress = true;
                if pending.last() == Some(&b'\n') {
                    pending.pop();
                    let record = std::mem::take(&mut pending);
                    send!(&record);
                }
            }
        }
        // All of the old file is read: has a new one taken its name?
        if !progress {
            if let Some(file) = next.take() {
                following = Some(BufReader::new(file));
                continue;
            }
            next = newer(&log, following.as_ref()).await;
            if next.is_some() {
                // One more look at the old one: its last lines may have come just before the new one.
                continue;
            }
            if was_ended || out.is_closed() {
                return;
            }
            tokio::select! {
                _ = tokio::time::sleep(FOLLOW_LOOK) => {}
                _ = out.closed() => return,
            }
        }
    }
}

async fn newer(log: &std::path::Path, open: Option<&BufReader<tokio::fs::File>>) -> Option<tokio::fs::File> {
    use std::os::unix::fs::MetadataExt;
    let at_path = tokio::fs::metadata(log).await.ok()?;
    if let Some(reader) = open
        && reader.get_ref().metadata().await.is_ok_and(|m| m.ino() == at_path.ino())
    {
        return None;
    }
    tokio::fs::File::open(log).await.ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::Arc;
    use std::sync::atomic::{AtomicBool, Ordering};

    const T: &str = "2024-01-01T00:00:0";

    async fn all(log: PathBuf, options: LogOptions) -> String {
        let (tx, mut rx) = mpsc::channel(10);
        tokio::spawn(read(log, options, || true, tx));
        let mut out = String::new();
        while let Some(Ok(bytes)) = rx.recv().await {
            out.push_str(&String::from_utf8_lossy(&bytes));
        }
        out
    }

    #[tokio::test]
    async fn options() {
        let dir = tempfile::tempdir().unwrap();
        let log = dir.path().join("0.log");
        std::fs::write(dir.path().join("0.log.20240101-000000-000000000"), format!("{T}0Z stdout F zero\n")).unwrap();
        std::fs::write(
            &log,
            format!("{T}1Z stdout F one\n{T}2Z stderr P tw\n{T}2Z stderr F o\n{T}3Z stdout F three\n"),
        )
        .unwrap();
        let check = async |o: LogOptions| all(log.clone(), o).await;
        assert_eq!(check(LogOptions::default()).await, "zero\none\ntwo\nthree\n");
        assert_eq!(check(LogOptions { tail: Some(2), ..Default::default() }).await, "two\nthree\n");
        assert_eq!(check(LogOptions { tail: Some(0), ..Default::default() }).await, "");
        assert_eq!(
            check(LogOptions { since: Some(format!("{T}2Z").parse().unwrap()), ..Default::default() }).await,
            "two\nthree\n"
        );
        assert_eq!(
            check(LogOptions { timestamps: true, tail: Some(2), ..Default::default() }).await,
            format!("{T}2Z two\n{T}3Z three\n")
        );
        assert_eq!(check(LogOptions { limit_bytes: Some(6), ..Default::default() }).await, "zero\no");
        assert_eq!(check(LogOptions { stream: Some("Stderr".into()), ..Default::default() }).await, "two\n");
    }

    #[tokio::test]
    async fn follows_through_a_rotation() {
        let dir = tempfile::tempdir().unwrap();
        let log = dir.path().join("0.log");
        std::fs::write(&log, format!("{T}1Z stdout F one\n")).unwrap();
        let (tx, mut rx) = mpsc::channel(10);
        let ended = Arc::new(AtomicBool::new(false));
        let e = ended.clone();
        tokio::spawn(read(
            log.clone(),
            LogOptions { follow: true, ..Default::default() },
            move || e.load(Ordering::SeqCst),
            tx,
        ));
        let mut next = async || rx.recv().await.map(|b| String::from_utf8_lossy(&b.unwrap()).into_owned());
        assert_eq!(next().await.unwrap(), "one\n");
        use std::io::Write;
        let mut f = std::fs::OpenOptions::new().append(true).open(&log).unwrap();
        crate::logs::rotate::rename(&log, 5, Timestamp::now()).unwrap();
        writeln!(f, "{T}2Z stdout F two").unwrap();
        assert_eq!(next().await.unwrap(), "two\n", "written to the renamed file");
        std::fs::write(&log, format!("{T}3Z stdout F three\n")).unwrap();
        assert_eq!(next().await.unwrap(), "three\n");
        ended.store(true, Ordering::SeqCst);
        assert_eq!(next().await, None);
    }
}
