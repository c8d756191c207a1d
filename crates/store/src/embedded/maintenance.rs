//! The thread that forgets: drops history that is older than the window, and writes a snapshot when the log before
//! it is large enough to be worth it. While nothing changes it sleeps without a timer.

use super::committer::Command;
use super::log::segment_name;
use super::{Shared, snapshot};
use crate::contract::*;
use crate::history::History;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, SyncSender};
use std::time::Instant;
use tokio::sync::oneshot;

pub(crate) enum Task {
    /// Changes came after a quiet time.
    Moved,
    Compact {
        revision: Revision,
        reply: oneshot::Sender<Result<()>>,
    },
    /// Write everything anew, see [`Store::reseal`].
    Reseal {
        reply: oneshot::Sender<Result<()>>,
    },
    Stop,
}

/// The committer's handle.
pub(crate) struct Doorbell {
    tasks: SyncSender<Task>,
    asleep: AtomicBool,
    /// [`Index::superseded_bytes`] at which history is looked at before its time.
    ///
    /// [`Index::superseded_bytes`]: crate::index::Index::superseded_bytes
    due_bytes: AtomicU64,
}

impl Doorbell {
    pub(crate) fn new(tasks: SyncSender<Task>) -> Doorbell {
        Doorbell { tasks, asleep: AtomicBool::new(false), due_bytes: AtomicU64::new(u64::MAX) }
    }

    /// Wakes the thread if it sleeps without a timer, or if history has become large. Two atomic loads otherwise.
    pub(crate) fn moved(&self, superseded_bytes: u64) {
        let large = superseded_bytes >= self.due_bytes.load(Ordering::Relaxed);
        if large {
            self.due_bytes.store(u64::MAX, Ordering::Relaxed);
        }
        if large || self.asleep.load(Ordering::SeqCst) && self.asleep.swap(false, Ordering::SeqCst) {
            // Full means that it is about to wake anyway.
            let _ = self.tasks.try_send(Task::Moved);
        }
    }
}

pub(crate) struct Maintenance {
    pub shared: Arc<Shared>,
    pub commands: Sender<Command>,
    pub history: History,
    /// Size of the snapshot on disk.
    pub snapshot_bytes: u64,
}

impl Maintenance {
    pub(crate) fn run(mut self, tasks: Receiver<Task>) {
        loop {
            let index = &self.shared.index;
            let wake = self.history.look(Instant::now(), index.revision(), index.superseded_bytes());
            self.shared.maintenance.due_bytes.store(wake.next_bytes, Ordering::Relaxed);
            if let Some(to) = wake.compact_to.filter(|to| *to > self.shared.index.compacted()) {
                match self.compact(to) {
                    Ok(()) => tracing::debug!(revision = to.0, "compacted"),
                    Err(Error::Closed) => return,
                    Err(error) => tracing::warn!(%error, "failed to compact; history stays longer"),
                }
            }
            let task = match wake.next {
                Some(at) => tasks.recv_timeout(at.saturating_duration_since(Instant::now())),
                None => {
                    self.shared.maintenance.asleep.store(true, Ordering::SeqCst);
                    // A change between the look and the store rang no bell.
                    match self.history.is_behind(self.shared.index.revision()) {
                        true => Ok(Task::Moved),
                        false => tasks.recv().map_err(|_| RecvTimeoutError::Disconnected),
                    }
                }
            };
            self.shared.maintenance.asleep.store(false, Ordering::SeqCst);
            match task {
                Ok(Task::Moved) | Err(RecvTimeoutError::Timeout) => {}
                Ok(Task::Compact { revision, reply }) => drop(reply.send(self.compact(revision))),
                Ok(Task::Reseal { reply }) => drop(reply.send(self.reseal())),
                Ok(Task::Stop) | Err(RecvTimeoutError::Disconnected) => return,
            }
        }
    }

    fn compact(&mut self, revision: Revision) -> Result<()> {
        let index = &self.shared.index;
        // The latest state can always be listed.
        let revision = Revision(revision.0.min(index.revision().0.saturating_sub(1)));
        if revision <= index.compacted() {
            return Ok(());
        }
        self.forget(revision)?;
        if let Err(error) = self.snapshot_if_worth_it() {
            tracing::warn!(%error, "failed to write a snapshot; the log stays longer");
        }
        Ok(())
    }

    /// Drops history up to and including `revision`, which is later than what was dropped before.
    fn forget(&self, revision: Revision) -> Result<()> {
        let index = &self.shared.index;
        // Durable first, so that what was refused as compacted stays so after a restart.
        let (reply, done) = oneshot::channel();
        self.commands.send(Command::Compact { revision, reply }).map_err(|_| Error::Closed)?;
        done.blocking_recv().map_err(|_| Error::Closed)??;
        index.compact(revision);
        Ok(())
    }

    /// All that lies on disk is written anew, and what lay there before goes: the present state into a snapshot,
    /// what comes after it into a log segment that begins now. History goes too: it lies in the old segments.
    fn reseal(&mut self) -> Result<()> {
        let (reply, done) = oneshot::channel();
        self.commands.send(Command::Rotate { reply }).map_err(|_| Error::Closed)?;
        let rotated = done.blocking_recv().map_err(|_| Error::Closed)??;
        if rotated == Revision(0) {
            // Nothing was ever written.
            return Ok(());
        }
        if let Some((first_segment, _)) = self.reclaimable(rotated) {
            self.snapshot(rotated, first_segment)?;
        }
        // Last: where the disk has no room for the snapshot, readers and watchers keep their history. A crash in between
        // does no harm, for the next start has no more history than the snapshot and the segments behind it.
        let before = Revision(rotated.0 - 1);
        match before > self.shared.index.compacted() {
            true => self.forget(before),
            false => Ok(()),
        }
    }

    fn snapshot_if_worth_it(&mut self) -> Result<()> {
        // The oldest state that can still be asked, with all history since.
        let revision = Revision(self.shared.index.compacted().0 + 1);
        let Some((first_segment, reclaimable)) = self.reclaimable(revision) else { return Ok(()) };
        if reclaimable < self.shared.options.checkpoint_bytes_min.max(self.snapshot_bytes) || reclaimable == 0 {
            return Ok(());
        }
        self.snapshot(revision, first_segment)
    }

    /// The first segment that is needed on top of a snapshot of `revision`, and how many bytes of the log are not.
    fn reclaimable(&self, revision: Revision) -> Option<(u64, u64)> {
        let segments = self.shared.segments.0.lock();
        // The last one is being written to.
        let old = segments.iter().take(segments.len().saturating_sub(1)).take_while(|s| s.last <= revision);
        let (n, bytes) = old.fold((0, 0), |(n, bytes), s| (n + 1, bytes + s.bytes));
        segments.get(n).map(|first| (first.number, bytes))
    }

    fn snapshot(&mut self, revision: Revision, first_segment: u64) -> Result<()> {
        let shared = &self.shared;
        let started = Instant::now();
        let expires = |version| shared.expiries.lock().at(version).unwrap_or(0);
        let written = snapshot::write(&*shared.disk, &shared.index, revision, first_segment, expires, |e| {
            shared.options.sealed(&e.key, &e.value)
        })?;
        self.snapshot_bytes = written.bytes;
        shared.snapshot_bytes.store(written.bytes, Ordering::Relaxed);
        remove_before(shared, &written)?;
        tracing::info!(revision = revision.0, bytes = written.bytes, took = ?started.elapsed(), "snapshot");
        Ok(())
    }
}

/// Removes segments and snapshots that `snapshot` makes unnecessary.
pub(crate) fn remove_before(shared: &Shared, snapshot: &snapshot::Snapshot) -> Result<()> {
    loop {
        let number = match shared.segments.0.lock().front() {
            Some(first) if first.number < snapshot.first_segment => first.number,
            _ => break,
        };
        let name = segment_name(number);
        shared.disk.remove(&name).map_err(|e| super::log::unreadable(&name, e))?;
        shared.segments.0.lock().pop_front();
    }
    snapshot::remove_superseded(&*shared.disk, snapshot.revision)
}
