//! The one thread that writes: decides conditions, assigns revisions, makes a batch durable with one sync, shows
//! it, and answers, in this order.
//!
//! While one batch is being synced the next one gathers in the queue; that is all there is to group commit.

use super::Shared;
use super::format::{FrameWriter, Record};
use super::log::Log;
use crate::contract::*;
use crate::engine::Write;
use bytes::Bytes;
use std::collections::HashMap;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, RecvTimeoutError};
use std::time::{Duration, SystemTime, UNIX_EPOCH};
use tokio::sync::oneshot;

const BATCH_WRITES_MAX: usize = 2048;
const BATCH_BYTES_MAX: usize = 8 << 20;

pub(crate) enum Command {
    Write {
        key: String,
        write: Write,
        /// What is written in place of the value, where that is another thing.
        sealed: Option<Bytes>,
        reply: oneshot::Sender<Result<Cas>>,
    },
    /// Make it durable that history up to here is dropped.
    Compact {
        revision: Revision,
        reply: oneshot::Sender<Result<()>>,
    },
    /// Go on in a new log segment; tells the last revision that is in the old ones.
    Rotate {
        reply: oneshot::Sender<Result<Revision>>,
    },
    Shutdown,
}

pub(crate) struct Committer {
    pub shared: Arc<Shared>,
    pub log: Log,
    /// The next revision to assign. Never goes back, not even when a write failed.
    pub next: Revision,
    pub frame: FrameWriter,
    /// Whether anything was written since the last seal.
    pub unsealed: bool,
}

/// A batch under way.
#[derive(Default)]
struct Batch {
    events: Vec<Event>,
    /// What keys of this batch will be.
    pending: HashMap<Arc<str>, Option<Entry>>,
    timers: Vec<Timer>,
    replies: Vec<Reply>,
    rotate: Option<oneshot::Sender<Result<Revision>>>,
}

enum Timer {
    Set { at_unix_ms: u64, revision: Revision, key: Arc<str> },
    Clear(Revision),
}

enum Reply {
    Write(oneshot::Sender<Result<Cas>>, Cas),
    Compact(oneshot::Sender<Result<()>>),
}

impl Committer {
    pub(crate) fn run(mut self, commands: Receiver<Command>) {
        while let Some(first) = self.wait(&commands) {
            let mut batch = Batch::default();
            let mut stop = false;
            let mut command = first;
            loop {
                match command {
                    Some(Command::Shutdown) => stop = true,
                    Some(command) => self.take(command, &mut batch),
                    None => self.take_expired(&mut batch),
                }
                if stop
                    || batch.rotate.is_some()
                    || batch.replies.len() >= BATCH_WRITES_MAX
                    || self.frame.len() >= BATCH_BYTES_MAX
                {
                    break;
                }
                match commands.try_recv() {
                    Ok(next) => command = Some(next),
                    Err(_) => break,
                }
            }
            let rotate = batch.rotate.take();
            self.commit(batch);
            if let Some(reply) = rotate {
                let begun = self.log.rotate(self.next);
                drop(reply.send(begun.map(|()| self.shared.index.revision())));
            }
            if stop {
                break;
            }
        }
        self.seal();
        self.shared.index.close();
    }

    /// Waits for a command or (inner `None`) until a key expires. `None` when all senders are gone.
    fn wait(&self, commands: &Receiver<Command>) -> Option<Option<Command>> {
        let next = self.shared.expiries.lock().next();
        match next {
            None => commands.recv().ok().map(Some),
            Some(at) => match commands.recv_timeout(Duration::from_millis(at.saturating_sub(unix_ms()))) {
                Ok(command) => Some(Some(command)),
                Err(RecvTimeoutError::Timeout) => Some(None),
                Err(RecvTimeoutError::Disconnected) => None,
            },
        }
    }

    fn take(&mut self, command: Command, batch: &mut Batch) {
        match command {
            Command::Write { key, write, sealed, reply } => match self.stage(&key, write, sealed, batch) {
                // A conflict with the batch's own writes is true only once they are durable, so all wait alike.
                outcome if !batch.events.is_empty() => batch.replies.push(Reply::Write(reply, outcome)),
                outcome => drop(reply.send(Ok(outcome))),
            },
            Command::Compact { revision, reply } => {
                self.frame.push(Record::Compact { revision });
                batch.replies.push(Reply::Compact(reply));
            }
            Command::Rotate { reply } => batch.rotate = Some(reply),
            Command::Shutdown => {}
        }
    }

    /// Decides a write and gives it a revision and a record.
    fn stage(&mut self, key: &str, write: Write, sealed: Option<Bytes>, batch: &mut Batch) -> Cas {
        let current = match batch.pending.get(key) {
            Some(pending) => pending.clone(),
            None => self.shared.index.newest(key),
        };
        let effect = match write.decide(current) {
            Ok(effect) => effect,
            Err(current) => return Cas::Conflict(current),
        };
        let revision = self.next;
        self.next = Revision(revision.0 + 1);
        let expires_unix_ms = effect.ttl().map(|ttl| unix_ms().saturating_add(ttl.as_millis() as u64));
        let (event, done) = effect.at(key, revision);
        let (prev, now) = match &event.change {
            Change::Put { entry, prev } => {
                self.frame.push(Record::Put {
                    revision,
                    create_revision: entry.create_revision,
                    expires_unix_ms: expires_unix_ms.unwrap_or(0),
                    key: &entry.key,
                    value: sealed.as_ref().unwrap_or(&entry.value),
                });
                (prev.as_ref(), Some(entry.clone()))
            }
            Change::Delete { prev } => {
                self.frame.push(Record::Delete { revision, key: &prev.key });
                (Some(prev), None)
            }
        };
        batch.timers.extend(prev.map(|prev| Timer::Clear(prev.mod_revision)));
        let key = event.change.key().clone();
        batch.timers.extend(expires_unix_ms.map(|at_unix_ms| Timer::Set { at_unix_ms, revision, key: key.clone() }));
        batch.pending.insert(key, now);
        batch.events.push(event);
        done
    }

    fn take_expired(&mut self, batch: &mut Batch) {
        let due = self.shared.expiries.lock().due(unix_ms(), BATCH_WRITES_MAX);
        for (key, revision) in due {
            if let Cas::Conflict(_) = self.stage(&key, Write::Delete { expected: Some(revision) }, None, batch) {
                // Can't be: a later write takes the timer along. But a timer that stays would spin.
                self.shared.expiries.lock().remove(revision);
            }
        }
    }

    fn commit(&mut self, batch: Batch) {
        if self.frame.is_empty() {
            return;
        }
        let last = batch.events.last().map_or(self.shared.index.revision(), |e| e.revision);
        let first = batch.events.first().map_or(self.next, |e| e.revision);
        let result = self.log.append(&mut self.frame, last, first);
        self.frame.clear();
        if let Err(error) = result {
            for reply in batch.replies {
                let error = match &error {
                    Error::Unknown(why) => Error::Unknown(why.clone()),
                    other => Error::Unavailable(other.to_string()),
                };
                match reply {
                    Reply::Write(reply, _) => drop(reply.send(Err(error))),
                    Reply::Compact(reply) => drop(reply.send(Err(error))),
                }
            }
            if self.shared.expiries.lock().next().is_some_and(|at| at <= unix_ms()) {
                // Expiry goes on once the disk takes writes again; meanwhile it must not spin.
                std::thread::sleep(Duration::from_millis(100));
            }
            return;
        }
        self.unsealed = true;
        if !batch.timers.is_empty() {
            let mut expiries = self.shared.expiries.lock();
            for timer in batch.timers {
                match timer {
                    Timer::Set { at_unix_ms, revision, key } => expiries.insert(at_unix_ms, revision, key),
                    Timer::Clear(revision) => expiries.remove(revision),
                }
            }
        }
        self.shared.options.settled(&batch.events);
        let news = self.shared.index.apply_quietly(batch.events, last);
        for reply in batch.replies {
            match reply {
                Reply::Write(reply, cas) => drop(reply.send(Ok(cas))),
                Reply::Compact(reply) => drop(reply.send(Ok(()))),
            }
        }
        self.shared.index.announce(news);
        self.shared.maintenance.moved(self.shared.index.superseded_bytes());
    }

    /// Marks an orderly end. Without it the next start merely can't tell a torn end from a damaged one.
    fn seal(&mut self) {
        if self.unsealed {
            self.frame.clear();
            self.frame.push(Record::Seal);
            if let Err(error) = self.log.append(&mut self.frame, self.shared.index.revision(), self.next) {
                tracing::warn!(%error, "failed to seal the log");
            }
        }
    }
}

pub(crate) fn unix_ms() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |d| d.as_millis() as u64)
}
