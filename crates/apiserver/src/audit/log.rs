//! Audit events in a file, a line each, rotated by size and age (`--audit-log-*`).

use super::Sink;
use super::event::Event;
use bytes::Bytes;
use flate2::Compression;
use flate2::write::GzEncoder;
use parking_lot::Mutex;
use std::collections::BTreeMap;
use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

/// Where nothing is said, a file is rotated at this size: upstream's rotation has the same.
const MAX_MB_DEFAULT: u64 = 100;
/// Behind the name of a file that is being compressed.
const UNFINISHED: &str = ".gz.tmp";

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Format {
    #[default]
    Json,
    Legacy,
}

#[derive(Clone, Debug, Default)]
pub struct Options {
    /// `-` is standard output.
    pub path: PathBuf,
    /// Days; 0 keeps all.
    pub max_age: u64,
    /// Files; 0 keeps all.
    pub max_backup: usize,
    /// Megabytes; 0 is 100.
    pub max_size: u64,
    pub compress: bool,
    pub format: Format,
    pub strict: bool,
}

pub struct Log {
    options: Options,
    out: Mutex<Out>,
    /// Held by who compresses and removes: files that are put aside shortly after each other wait for their turn.
    tidying: Arc<Mutex<()>>,
}

enum Out {
    Stdout,
    File {
        file: File,
        bytes: u64,
    },
    /// Opening it again failed; each event tries.
    Closed,
}

impl Log {
    pub fn open(options: Options) -> io::Result<Log> {
        let out = match options.path.as_os_str() == "-" {
            true => Out::Stdout,
            false => open(&options.path)?,
        };
        Ok(Log { options, out: Mutex::new(out), tidying: Arc::default() })
    }

    /// Several lines at once.
    pub fn write(&self, lines: &[u8]) -> io::Result<()> {
        let mut out = self.out.lock();
        let max = match self.options.max_size {
            0 => MAX_MB_DEFAULT,
            n => n,
        } * 1024
            * 1024;
        if matches!(&*out, Out::File { bytes, .. } if *bytes > 0 && bytes + lines.len() as u64 > max) {
            *out = Out::Closed;
            self.rotate()?;
        }
        if matches!(*out, Out::Closed) {
            *out = open(&self.options.path)?;
        }
        match &mut *out {
            Out::Stdout => io::stdout().lock().write_all(lines),
            Out::File { file, bytes } => {
                file.write_all(lines)?;
                *bytes += lines.len() as u64;
                Ok(())
            }
            Out::Closed => Err(io::Error::other("the audit log is closed")),
        }
    }

    /// Puts the full file aside and drops what is too old or too much.
    fn rotate(&self) -> io::Result<()> {
        let path = &self.options.path;
        let time = jiff::Timestamp::now().strftime("%Y-%m-%dT%H-%M-%S%.3f").to_string();
        let (stem, extension) = names(path);
        let aside = path.with_file_name(format!("{stem}-{time}{extension}"));
        std::fs::rename(path, &aside)?;
        let (options, tidying) = (self.options.clone(), self.tidying.clone());
        // Compressing a hundred megabytes takes a while; nobody waits for it.
        std::thread::Builder::new().name("audit-rotate".into()).spawn(move || {
            let _turn = tidying.lock();
            if options.compress
                && let Err(error) = compress(&aside)
                // While it waited, it may have become one too many.
                && error.kind() != io::ErrorKind::NotFound
            {
                tracing::warn!(file = %aside.display(), %error, "an audit log could not be compressed");
            }
            if let Err(error) = prune(&options) {
                tracing::warn!(%error, "old audit logs could not be removed");
            }
        })?;
        Ok(())
    }
}

impl Sink for Log {
    fn take(&self, event: &Event, line: &Bytes) -> bool {
        let written = match self.options.format {
            Format::Json => self.write(line),
            Format::Legacy => self.write(event.legacy().as_bytes()),
        };
        if let Err(error) = &written {
            tracing::error!(%error, file = %self.options.path.display(), "an audit event could not be written");
        }
        written.is_ok()
    }

    fn is_strict(&self) -> bool {
        self.options.strict
    }
}

fn open(path: &Path) -> io::Result<Out> {
    if let Some(dir) = path.parent().filter(|d| !d.as_os_str().is_empty()) {
        std::fs::create_dir_all(dir)?;
    }
    let file = OpenOptions::new().create(true).append(true).mode(0o600).open(path)?;
    let bytes = file.metadata()?.len();
    Ok(Out::File { file, bytes })
}

fn names(path: &Path) -> (String, String) {
    let text = |o: Option<&std::ffi::OsStr>| o.map(|s| s.to_string_lossy().into_owned()).unwrap_or_default();
    let extension = path.extension().map(|e| format!(".{}", e.to_string_lossy())).unwrap_or_default();
    (text(path.file_stem()), extension)
}

fn compress(file: &Path) -> io::Result<()> {
    let named = |suffix: &str| {
        let mut name = file.as_os_str().to_owned();
        name.push(suffix);
        PathBuf::from(name)
    };
    let mut plain = File::open(file)?;
    // What has its name is whole.
    let unfinished = named(UNFINISHED);
    let out = OpenOptions::new().create(true).truncate(true).write(true).mode(0o600).open(&unfinished)?;
    let mut gz = GzEncoder::new(out, Compression::default());
    io::copy(&mut plain, &mut gz)?;
    gz.finish()?.sync_all()?;
    std::fs::rename(&unfinished, named(".gz"))?;
    std::fs::remove_file(file)
}

fn prune(options: &Options) -> io::Result<()> {
    let dir = options.path.parent().filter(|d| !d.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let (stem, extension) = names(&options.path);
    // By the time of their rotation: one that a crash left both plain and compressed counts once.
    let mut kept: BTreeMap<String, Vec<(PathBuf, SystemTime)>> = BTreeMap::new();
    for entry in std::fs::read_dir(dir)? {
        let entry = entry?;
        let name = entry.file_name().to_string_lossy().into_owned();
        let unfinished = name.strip_suffix(UNFINISHED);
        let plain = unfinished.or(name.strip_suffix(".gz")).unwrap_or(&name);
        let time = plain.strip_prefix(&format!("{stem}-")).and_then(|r| r.strip_suffix(&extension));
        // Only what rotation has named: `2026-01-02T03-04-05.678`.
        let Some(time) = time.filter(|t| t.len() == 23 && t.as_bytes()[10] == b'T') else { continue };
        if unfinished.is_some() {
            // Of an earlier start: nobody else is at work now.
            std::fs::remove_file(entry.path())?;
            continue;
        }
        kept.entry(time.to_string()).or_default().push((entry.path(), entry.metadata()?.modified()?));
    }
    let age = Duration::from_secs(options.max_age * 24 * 3600);
    for (i, files) in kept.values().rev().enumerate() {
        let too_many = options.max_backup > 0 && i >= options.max_backup;
        for (path, modified) in files {
            let too_old = options.max_age > 0 && SystemTime::now().duration_since(*modified).is_ok_and(|d| d > age);
            if too_many || too_old {
                std::fs::remove_file(path)?;
            }
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn files(dir: &Path) -> Vec<String> {
        let mut names: Vec<String> =
            std::fs::read_dir(dir).unwrap().map(|e| e.unwrap().file_name().to_string_lossy().into_owned()).collect();
        names.sort();
        names
    }

    #[test]
    fn files_are_rotated_compressed_and_forgotten() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("logs/audit.log");
        let options = Options { path: path.clone(), max_backup: 2, max_size: 1, compress: true, ..Options::default() };
        let log = Log::open(options.clone()).unwrap();
        std::fs::write(dir.path().join("logs/audit-notes.log"), "mine").unwrap();
        // What a crash left half done.
        std::fs::write(dir.path().join("logs/audit-2020-01-02T03-04-05.678.log.gz.tmp"), "half").unwrap();
        let line = vec![b'x'; 400 * 1024];
        for _ in 0..9 {
            log.write(&line).unwrap();
            // Names have milliseconds.
            std::thread::sleep(Duration::from_millis(3));
        }
        // Another start goes on in the same file.
        drop(log);
        let log = Log::open(options).unwrap();
        log.write(b"end\n").unwrap();
        let of_rotation = |n: &String| n.starts_with("audit-2");
        for _ in 0..200 {
            let names = files(&dir.path().join("logs"));
            if names.iter().filter(|n| of_rotation(n)).count() == 2
                && names.iter().filter(|n| of_rotation(n)).all(|n| n.ends_with(".gz"))
            {
                break;
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        let names = files(&dir.path().join("logs"));
        assert_eq!(names.iter().filter(|n| of_rotation(n)).count(), 2, "{names:?}");
        assert!(names.contains(&"audit-notes.log".to_string()) && names.contains(&"audit.log".to_string()));
        let live = std::fs::read(&path).unwrap();
        assert_eq!(live.len(), 400 * 1024 + 4);
        let packed = File::open(dir.path().join("logs").join(names.iter().find(|n| of_rotation(n)).unwrap())).unwrap();
        let mut text = Vec::new();
        io::Read::read_to_end(&mut flate2::read::GzDecoder::new(packed), &mut text).unwrap();
        assert_eq!(text.len(), 800 * 1024);
    }
}
