//! What Kubernetes needs of its database, and nothing more.
//!
//! Every engine (memory, embedded, etcd) keeps *all live keys and the retained history in memory*, in the
//! one multi-version [`crate::index`]; engines differ in how a write becomes durable and ordered. So reads
//! and watches are synchronous, cost no I/O, and are the same code for each engine: the index *is* the
//! watch cache. The etcd engine mirrors etcd into it through an etcd watch.
//!
//! Revisions are one sequence for the whole store, as in etcd: each successful write takes the next one.
//! Keys are `/`-separated paths: `/registry/<resource>[.<group>]/[<namespace>/]<name>`.

use async_trait::async_trait;
use bytes::Bytes;
use std::any::Any;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

/// The store's integer. The API's string is `resource_version`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Revision(pub u64);

/// One version of one key.
#[derive(Debug)]
pub struct KeyValue {
    pub key: Arc<str>,
    pub value: Bytes,
    pub create_revision: Revision,
    pub mod_revision: Revision,
    /// A place for what a reader derived from `value` (decoded labels, encoded frames), made at most once
    /// and shared by all. The store never looks at it.
    pub memo: OnceLock<Arc<dyn Any + Send + Sync>>,
}

pub type Entry = Arc<KeyValue>;

#[derive(Clone, Debug)]
pub enum Change {
    /// `prev` is `None` on creation.
    Put { entry: Entry, prev: Option<Entry> },
    /// `prev` is the last version before deletion.
    Delete { prev: Entry },
}

#[derive(Clone, Debug)]
pub struct Event {
    pub revision: Revision,
    pub change: Change,
}

impl Event {
    /// Bytes of the object that it is about.
    pub fn size(&self) -> usize {
        match &self.change {
            Change::Put { entry, .. } => entry.value.len(),
            Change::Delete { prev } => prev.value.len(),
        }
    }
}

/// A page of a listing, in key order, all as of `revision`.
#[derive(Debug)]
pub struct Page {
    pub entries: Vec<Entry>,
    pub revision: Revision,
    /// Keys after the last entry that the limit left out; 0 when the page is the last.
    pub remaining: u64,
}

#[derive(Clone, Debug, Default)]
pub struct ListOptions {
    /// Continue strictly after this key.
    pub start_after: Option<String>,
    /// 0 is unlimited.
    pub limit: usize,
    /// As of this revision; `None` is the latest that is visible.
    pub revision: Option<Revision>,
}

#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The asked revision is gone. `compacted`: the oldest that can still be asked is one after it.
    #[error("revision {asked:?} has been compacted (up to {compacted:?})")]
    Compacted { asked: Revision, compacted: Revision },
    /// The asked revision has not happened yet.
    #[error("revision {asked:?} is in the future (current is {current:?})")]
    Future { asked: Revision, current: Revision },
    /// A write was refused because the disk is full or broken. Nothing was acknowledged; reads go on.
    #[error("failed to make the write durable: {0}")]
    Unavailable(String),
    /// It is unknown whether the write happened (connection to etcd lost).
    #[error("outcome of the write is unknown: {0}")]
    Unknown(String),
    #[error("store is shut down")]
    Closed,
    #[error("store is damaged: {0}")]
    Corrupt(String),
    /// Another process holds the data directory.
    #[error("data directory is in use: {0}")]
    InUse(String),
    /// Written by a newer version of Skiff.
    #[error("data directory has format {found}, this program knows up to {known}; use a newer skiff")]
    NewerFormat { found: u32, known: u32 },
}

pub type Result<T> = std::result::Result<T, Error>;

/// Outcome of a conditional write.
#[derive(Clone, Debug)]
pub enum Cas {
    /// Durable and visible. For a delete, `entry` is the version that was deleted.
    Done { entry: Entry, revision: Revision },
    /// The condition didn't hold; the key's present version, `None` where it doesn't exist.
    Conflict(Option<Entry>),
}

#[async_trait]
pub trait Store: Send + Sync + 'static {
    /// Returns when every write that was acknowledged to anyone before this call is visible to reads here;
    /// gives the revision that reads now have at least. Immediate in the embedded engine.
    async fn barrier(&self) -> Result<Revision>;

    /// The latest visible revision.
    fn revision(&self) -> Revision;
    /// Revisions up to and including this one can't be listed or watched from any more.
    fn compacted(&self) -> Revision;

    fn get(&self, key: &str) -> Option<Entry>;
    fn get_at(&self, key: &str, revision: Revision) -> Result<Option<Entry>>;
    /// Keys that start with `prefix`. `prefix` ends in `/`.
    fn list(&self, prefix: &str, options: &ListOptions) -> Result<Page>;
    /// Number of live keys under `prefix`.
    fn count(&self, prefix: &str) -> u64;
    /// Changes after (excluding) `after` of keys that start with `prefix`, which is a `/`-ended prefix or a
    /// whole key. A watcher is a cursor over the shared history: a slow one costs no memory and slows
    /// nobody; it ends with [`Error::Compacted`] when history passes it by. It may begin before the compacted
    /// revision as long as no change of its resource is missing.
    fn watch(&self, prefix: &str, after: Revision) -> Result<Box<dyn Watcher>>;

    /// Put when the key doesn't exist. `ttl`: the key is deleted (with an event) that long after this write.
    async fn create(&self, key: &str, value: Bytes, ttl: Option<Duration>) -> Result<Cas>;
    /// Put when the key's mod_revision is `expected`.
    async fn update(&self, key: &str, value: Bytes, expected: Revision, ttl: Option<Duration>) -> Result<Cas>;
    /// Delete when the key's mod_revision is `expected`; `None` deletes any version.
    async fn delete(&self, key: &str, expected: Option<Revision>) -> Result<Cas>;

    /// Drop history up to and including `revision`.
    async fn compact(&self, revision: Revision) -> Result<()>;
    /// Write all that this process keeps on disk anew, as [`Transformer`] now has it, and remove what lay there before:
    /// older forms of values, and history, which is compacted to the latest revision. False: nothing happened, in an
    /// engine that has no disk or whose disk is another program's (etcd).
    async fn reseal(&self) -> Result<bool>;
    /// Try again to open what [`Transformer::open`] couldn't, where it is the latest of its key. How many could be opened.
    /// Watchers of their resources end with [`Error::Compacted`] and so begin anew: what they saw has become another
    /// thing, without a revision of its own.
    fn reopen(&self) -> usize;
    /// Bytes on disk (0 where it has none), for metrics.
    fn disk_bytes(&self) -> u64;
    /// Stop taking writes, make all durable, end watchers with [`Error::Closed`].
    async fn shutdown(&self);
}

/// What a value that couldn't be opened begins with; no object does.
pub const SEALED: &[u8] = b"k8s:enc:";

/// How values lie where they are durable (encryption at rest). The index, and so every read and watch, has them plain.
pub trait Transformer: Send + Sync + std::fmt::Debug + 'static {
    /// The bytes to make durable for `value` of `key`; `None`: as they are. An error refuses the write.
    fn seal(&self, key: &str, value: &Bytes) -> std::result::Result<Option<Bytes>, String>;
    /// The reverse. Bytes that can't be opened are returned as they are, and known by [`KeyValue::is_sealed`].
    fn open(&self, key: &str, stored: Bytes) -> Bytes;
    /// What was sealed last for the key is durable, or the key's deletion is: what was opened before counts no more.
    /// Not told of puts in etcd, which come back through `open`. Called by the one thread that writes, so it must be
    /// quick.
    fn settled(&self, _key: &str) {}
}

impl KeyValue {
    /// Nobody here has the key to this value.
    pub fn is_sealed(&self) -> bool {
        self.value.starts_with(SEALED)
    }
}

/// Revisions that [`Watcher::take`] goes through at once, and as many changes at most.
pub const STRIDE: u64 = 256;

/// A cursor over changes. Dropping it ends the watch.
#[async_trait]
pub trait Watcher: Send {
    /// Waits until there is at least one change or until the visible revision moved on without one, then
    /// returns up to `max` changes in revision order. An empty vector says: nothing for you up to
    /// [`Watcher::position`]. Cancel safe.
    async fn next(&mut self, max: usize) -> Result<Vec<Event>>;
    /// Waits until there may be changes to [`Watcher::take`], and sleeps through what doesn't concern it. Cancel safe.
    async fn ready(&self) -> Result<()>;
    /// The next changes, until their objects have `bytes_max` bytes. Doesn't wait: empty when there are none. Ends at
    /// revisions that are the same for all watchers of a prefix, multiples of [`STRIDE`], so that those who are behind
    /// come to the same places wherever they began.
    fn take(&mut self, bytes_max: usize) -> Result<Vec<Event>>;
    /// The changes up to and including `to` were had from another watcher of the same prefix.
    fn pass(&mut self, to: Revision);
    /// As [`Watcher::next`], but sleeps through what doesn't concern it: never empty. Cancel safe.
    async fn changes(&mut self) -> Result<Vec<Event>> {
        loop {
            self.ready().await?;
            let events = self.take(usize::MAX)?;
            if !events.is_empty() {
                return Ok(events);
            }
        }
    }
    /// All changes up to and including this revision have been returned.
    fn position(&self) -> Revision;
}
