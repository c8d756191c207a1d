//! The durable engine of a single server: everything in memory, every write in a log.
//!
//! In: writes, through one committer thread. Out: durable changes to the index, in revision order. On disk: a
//! write-ahead log in segments and a snapshot that lets old segments go ([`log`], [`snapshot`], [`format`]), all
//! through the [`Disk`] trait. Why not a database library: `docs/decisions/0002-store-engine.md`.
//!
//! What holds, also through `kill -9`, power loss, a full or failing disk:
//! - a write that was answered with success is there after any restart;
//! - what readers and watchers saw is there after any restart;
//! - no revision is given out twice;
//! - damage is reported as [`Error::Corrupt`], never skipped.

mod committer;
pub mod disk;
pub mod faulty;
mod format;
mod log;
mod maintenance;
mod snapshot;

use crate::contract::*;
use crate::engine::{Engine, Write, entry};
use crate::expiry::Expiries;
use crate::history::History;
use crate::index::Index;
use async_trait::async_trait;
use bytes::Bytes;
use committer::{Command, Committer};
use disk::{Directory, Disk};
use format::{FORMAT, FrameWriter, Record};
use log::{Log, Segments, names, segment_number, unreadable};
use maintenance::{Doorbell, Maintenance, Task};
use parking_lot::Mutex;
use std::fs::{File, TryLockError};
use std::io::{Read, Seek, Write as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Sender, SyncSender, channel, sync_channel};
use std::thread::JoinHandle;
use std::time::Duration;
use tokio::sync::{Semaphore, oneshot};

const LOCK_FILE: &str = "LOCK";
const FORMAT_FILE: &str = "FORMAT";
/// Writes in the queue; more wait outside.
const QUEUED_WRITES_MAX: usize = 8192;

#[derive(Clone, Debug)]
pub struct Options {
    /// Created when missing; only its owner can read it.
    pub dir: PathBuf,
    /// Off only where losing the last seconds to a power cut doesn't matter (tests).
    pub fsync: bool,
    /// How long history is kept. History that is older is dropped without being asked to; zero: never.
    pub history_window: Duration,
    /// History that takes more memory than this is dropped before its time, oldest first.
    pub history_bytes_max: u64,
    /// How many revisions of history are kept, at least.
    pub history_revisions_min: u64,
    /// A log segment is closed when it is larger.
    pub segment_bytes_max: u64,
    /// A snapshot is written when it makes this much of the log unnecessary (and at least its own size, so that
    /// no more than every other byte written is a snapshot's).
    pub checkpoint_bytes_min: u64,
    /// Encryption of what is written.
    pub transformer: Option<Arc<dyn Transformer>>,
}

impl Options {
    pub fn new(dir: impl Into<PathBuf>) -> Options {
        Options {
            dir: dir.into(),
            fsync: true,
            history_window: Duration::from_secs(300),
            history_bytes_max: crate::history::BYTES_MAX,
            history_revisions_min: 1,
            segment_bytes_max: 4 << 20,
            checkpoint_bytes_min: 8 << 20,
            transformer: None,
        }
    }
}

impl Options {
    fn opened(&self, key: &str, stored: Bytes) -> Bytes {
        match &self.transformer {
            Some(t) => t.open(key, stored),
            None => stored,
        }
    }

    /// What to write for a value; `None`: itself.
    fn sealed(&self, key: &str, value: &Bytes) -> Result<Option<Bytes>> {
        match &self.transformer {
            // What nobody could open is kept as it is.
            Some(t) if !value.starts_with(SEALED) => t.seal(key, value).map_err(Error::Unavailable),
            _ => Ok(None),
        }
    }

    /// Tells the transformer what is durable.
    fn settled(&self, events: &[Event]) {
        if let Some(t) = &self.transformer {
            events.iter().for_each(|e| t.settled(e.change.key()));
        }
    }
}

/// Opens the store in a directory, which it locks against other processes. Blocks while it reads.
///
/// Errors: [`Error::InUse`], [`Error::NewerFormat`], [`Error::Corrupt`]; [`Error::Unavailable`] when the directory
/// can't be read or written.
pub fn open(options: Options) -> Result<Arc<dyn Store>> {
    let failed = |e: std::io::Error| Error::Unavailable(format!("{}: {e}", options.dir.display()));
    let mut builder = std::fs::DirBuilder::new();
    std::os::unix::fs::DirBuilderExt::mode(&mut builder, 0o700);
    builder.recursive(true).create(&options.dir).map_err(failed)?;
    let lock = lock(&options.dir)?;
    let disk = Directory { path: options.dir.clone(), fsync: options.fsync };
    open_locked(Arc::new(disk), options, Some(lock))
}

/// As [`open`], on any disk and without a lock.
pub fn open_on(disk: Arc<dyn Disk>, options: Options) -> Result<Arc<dyn Store>> {
    open_locked(disk, options, None)
}

/// What both threads and the handle share.
struct Shared {
    options: Options,
    disk: Arc<dyn Disk>,
    index: Arc<Index>,
    /// In milliseconds of Unix time, as on disk.
    expiries: Mutex<Expiries<u64>>,
    segments: Arc<Segments>,
    snapshot_bytes: AtomicU64,
    maintenance: Doorbell,
}

struct Embedded {
    shared: Arc<Shared>,
    queue: Semaphore,
    commands: Sender<Command>,
    tasks: SyncSender<Task>,
    threads: Mutex<Vec<JoinHandle<()>>>,
    lock: Mutex<Option<File>>,
}

fn open_locked(disk: Arc<dyn Disk>, options: Options, lock: Option<File>) -> Result<Arc<dyn Store>> {
    check_format(&*disk)?;
    let index = Arc::new(Index::default());
    let mut expiries = Expiries::default();
    let base = snapshot::read(&*disk, |record| load(&index, &mut expiries, &options, record))?;
    let (first_segment, base_revision) = base.as_ref().map_or((1, Revision(0)), |s| (s.first_segment, s.revision));
    if let Some(base) = &base {
        index.apply(Vec::new(), base.revision);
        index.raise_floor(base.revision);
    }
    let segment_bytes_max = options.segment_bytes_max;
    let (log, next) = Log::open(disk.clone(), segment_bytes_max, first_segment, base_revision, |records| {
        replay(&index, &mut expiries, base_revision, &options, records)
    })?;
    // The snapshot's name may not be durable yet, if the process died right behind the renaming; what it replaces
    // may go only when it is.
    disk.sync_names().map_err(|e| unreadable("the data directory", e))?;
    for name in names(&*disk)? {
        if segment_number(&name).is_some_and(|n| n < first_segment) {
            disk.remove(&name).map_err(|e| unreadable(&name, e))?;
        }
    }
    snapshot::remove_superseded(&*disk, base_revision)?;
    snapshot::remove_unfinished(&*disk)?;

    let (commands, command_queue) = channel();
    // A bound for form's sake: compactions wait for their answers, and the bell rings once.
    let (tasks, task_queue) = sync_channel(64);
    let snapshot_bytes = base.map_or(0, |s| s.bytes);
    let history = History::new(options.history_window, options.history_revisions_min, options.history_bytes_max);
    let shared = Arc::new(Shared {
        options,
        disk,
        index,
        expiries: Mutex::new(expiries),
        segments: log.segments(),
        snapshot_bytes: AtomicU64::new(snapshot_bytes),
        maintenance: Doorbell::new(tasks.clone()),
    });
    let committer = Committer { shared: shared.clone(), log, next, frame: FrameWriter::default(), unsealed: false };
    let maintenance = Maintenance { shared: shared.clone(), commands: commands.clone(), history, snapshot_bytes };
    let spawn = |name: &str, run: Box<dyn FnOnce() + Send>| {
        let thread = std::thread::Builder::new().name(name.into()).spawn(run);
        thread.map_err(|e| Error::Unavailable(format!("start thread {name}: {e}")))
    };
    let threads = vec![
        spawn("store-commit", Box::new(move || committer.run(command_queue)))?,
        spawn("store-compact", Box::new(move || maintenance.run(task_queue)))?,
    ];
    Ok(Arc::new(Embedded {
        shared,
        queue: Semaphore::new(QUEUED_WRITES_MAX),
        commands,
        tasks,
        threads: Mutex::new(threads),
        lock: Mutex::new(lock),
    }))
}

/// Holds the directory for this process, until the file is dropped.
fn lock(dir: &Path) -> Result<File> {
    let path = dir.join(LOCK_FILE);
    let failed = |e: std::io::Error| Error::Unavailable(format!("{}: {e}", path.display()));
    let mut file = File::options().read(true).write(true).create(true).truncate(false).open(&path).map_err(failed)?;
    match file.try_lock() {
        Ok(()) => {}
        Err(TryLockError::WouldBlock) => {
            let mut holder = String::new();
            let _ = file.read_to_string(&mut holder);
            let holder = match holder.trim() {
                "" => "another process".to_owned(),
                pid => format!("process {pid}"),
            };
            return Err(Error::InUse(format!("{} is locked by {holder}", dir.display())));
        }
        Err(TryLockError::Error(error)) => return Err(failed(error)),
    }
    // Only for the message above: the lock itself goes with the process. So a full disk doesn't matter here.
    let _ = file.set_len(0).and_then(|()| file.rewind()).and_then(|()| writeln!(file, "{}", std::process::id()));
    Ok(file)
}

/// Checks the format's version, or writes it in an empty directory.
fn check_format(disk: &dyn Disk) -> Result<()> {
    let names = names(disk)?;
    let failed = |e| unreadable(FORMAT_FILE, e);
    if names.iter().any(|n| n == FORMAT_FILE) {
        let mut text = String::new();
        disk.read(FORMAT_FILE).and_then(|mut f| f.read_to_string(&mut text)).map_err(failed)?;
        let found = text.strip_prefix("skiff store format ").and_then(|n| n.trim().parse::<u32>().ok());
        return match found {
            Some(FORMAT) => Ok(()),
            Some(found) if found > FORMAT => Err(Error::NewerFormat { found, known: FORMAT }),
            _ => Err(Error::Corrupt(format!("{FORMAT_FILE} says {text:?}"))),
        };
    }
    if let Some(data) = names.iter().find(|n| segment_number(n).is_some() || n.ends_with(".snapshot")) {
        return Err(Error::Corrupt(format!("{FORMAT_FILE} is missing, but there is {data}")));
    }
    const TEMPORARY: &str = "FORMAT.tmp";
    let mut file = disk.create(TEMPORARY).map_err(failed)?;
    file.write_at(0, format!("skiff store format {FORMAT}\n").as_bytes()).map_err(failed)?;
    file.sync().and_then(|()| disk.rename(TEMPORARY, FORMAT_FILE)).and_then(|()| disk.sync_names()).map_err(failed)
}

/// Takes a snapshot's record into the index.
fn load(index: &Index, expiries: &mut Expiries<u64>, options: &Options, record: Record) {
    if let Record::Put { revision, create_revision, expires_unix_ms, key, value } = record {
        let entry = entry(key.into(), options.opened(key, Bytes::copy_from_slice(value)), create_revision, revision);
        if expires_unix_ms > 0 {
            expiries.insert(expires_unix_ms, revision, entry.key.clone());
        }
        index.load(entry);
    }
}

/// Takes a log frame's records into the index.
fn replay(
    index: &Index,
    expiries: &mut Expiries<u64>,
    base: Revision,
    options: &Options,
    records: Vec<Record>,
) -> Result<()> {
    let mut last = index.revision();
    for record in records {
        let (revision, key) = match &record {
            Record::Put { revision, key, .. } | Record::Delete { revision, key } => (*revision, *key),
            Record::Compact { revision } => {
                if *revision > index.compacted() {
                    index.compact(*revision);
                }
                continue;
            }
            Record::Seal => continue,
            Record::End { .. } => {
                return Err(Error::Corrupt("a snapshot's record in the log".into()));
            }
        };
        if revision <= base {
            if let (Some(t), Record::Put { key, value, .. }) = (&options.transformer, &record) {
                // Not needed, but it lies there: the transformer shall know in which form.
                t.open(key, Bytes::copy_from_slice(value));
            }
            continue;
        }
        if revision <= last {
            return Err(Error::Corrupt(format!("revision {} comes again in the log", revision.0)));
        }
        last = revision;
        let prev = index.newest(key);
        if let Some(prev) = &prev {
            expiries.remove(prev.mod_revision);
        }
        let change = match (record, prev) {
            (Record::Put { create_revision, expires_unix_ms, value, .. }, prev) => {
                let key = prev.as_ref().map_or_else(|| key.into(), |prev| prev.key.clone());
                if expires_unix_ms > 0 {
                    expiries.insert(expires_unix_ms, revision, Arc::clone(&key));
                }
                let value = options.opened(&key, Bytes::copy_from_slice(value));
                let entry = entry(key, value, create_revision, revision);
                Change::Put { entry, prev }
            }
            (_, Some(prev)) => {
                if let Some(t) = &options.transformer {
                    t.settled(key);
                }
                Change::Delete { prev }
            }
            (_, None) => {
                return Err(Error::Corrupt(format!("deletion of {key:?}, which doesn't exist")));
            }
        };
        // One by one, so that the next record of the same key finds it.
        index.apply(vec![Event { revision, change }], revision);
    }
    Ok(())
}

impl Embedded {
    /// Waits for both threads to end, then lets go of the directory.
    fn finish(&self) {
        let _ = self.commands.send(Command::Shutdown);
        let _ = self.tasks.send(Task::Stop);
        for thread in self.threads.lock().drain(..) {
            if thread.join().is_err() {
                tracing::error!("a thread of the store panicked");
            }
        }
        self.shared.index.close();
        self.lock.lock().take();
    }
}

impl Drop for Embedded {
    fn drop(&mut self) {
        self.finish();
    }
}

#[async_trait]
impl Engine for Embedded {
    fn index(&self) -> &Arc<Index> {
        &self.shared.index
    }

    async fn barrier(&self) -> Result<Revision> {
        Ok(self.shared.index.revision())
    }

    async fn write(&self, key: &str, write: Write) -> Result<Cas> {
        // Held from before the sealing until the outcome; a writer that is given up in between has sent its command or
        // never will. `reseal` relies on it.
        let _place = self.queue.acquire().await.map_err(|_| Error::Closed)?;
        let (reply, outcome) = oneshot::channel();
        let sealed = match &write {
            Write::Create { value, .. } | Write::Update { value, .. } => self.shared.options.sealed(key, value)?,
            Write::Delete { .. } => None,
        };
        let command = Command::Write { key: key.to_owned(), write, sealed, reply };
        self.commands.send(command).map_err(|_| Error::Closed)?;
        // The committer ended without an answer: it never looked at the write.
        outcome.await.map_err(|_| Error::Closed)?
    }

    async fn compact(&self, revision: Revision) -> Result<()> {
        let current = self.shared.index.revision();
        if revision > current {
            return Err(Error::Future { asked: revision, current });
        }
        let (reply, done) = oneshot::channel();
        match self.tasks.try_send(Task::Compact { revision, reply }) {
            Ok(()) => done.await.map_err(|_| Error::Closed)?,
            Err(std::sync::mpsc::TrySendError::Disconnected(_)) => Err(Error::Closed),
            Err(std::sync::mpsc::TrySendError::Full(_)) => {
                Err(Error::Unavailable("too many compactions at a time".into()))
            }
        }
    }

    async fn reseal(&self) -> Result<bool> {
        // Writers under way may have sealed before the transformer changed. Were they behind the rotation in the queue,
        // they would put the old form into the new segment. With all places at once in hand there is none.
        drop(self.queue.acquire_many(QUEUED_WRITES_MAX as u32).await.map_err(|_| Error::Closed)?);
        let (reply, done) = oneshot::channel();
        match self.tasks.try_send(Task::Reseal { reply }) {
            Ok(()) => done.await.map_err(|_| Error::Closed)?.map(|()| true),
            Err(std::sync::mpsc::TrySendError::Disconnected(_)) => Err(Error::Closed),
            Err(std::sync::mpsc::TrySendError::Full(_)) => {
                Err(Error::Unavailable("too many compactions at a time".into()))
            }
        }
    }

    fn opened(&self, key: &str, stored: Bytes) -> Bytes {
        self.shared.options.opened(key, stored)
    }

    fn disk_bytes(&self) -> u64 {
        let log: u64 = self.shared.segments.0.lock().iter().map(|s| s.bytes).sum();
        log + self.shared.snapshot_bytes.load(Ordering::Relaxed)
    }

    async fn shutdown(&self) {
        let _ = self.commands.send(Command::Shutdown);
        let _ = self.tasks.try_send(Task::Stop);
        let threads: Vec<_> = self.threads.lock().drain(..).collect();
        let joined = tokio::task::spawn_blocking(move || threads.into_iter().all(|t| t.join().is_ok()));
        if !joined.await.unwrap_or(false) {
            tracing::error!("a thread of the store panicked");
        }
        self.shared.index.close();
        self.lock.lock().take();
    }
}
