//! Watchers: cursors over the history that the index holds.
//!
//! A cursor owns nothing but its position. It is woken when its scope (a prefix or a key) changes. While only
//! others change, one that is asked for its `next` answer wakes at most once per [`QUIET`] to say how far it got,
//! one that waits to be `ready` doesn't wake at all. Its position can be read at any time: when its scope's newest
//! change is behind the position, then the position is wherever the store is. When nothing changes, nothing wakes.

use super::{Index, Partition, Scope, is_within_one_partition, partition_name};
use crate::contract::*;
use async_trait::async_trait;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;
use tokio::sync::Notify;
use tokio::time::Instant;

/// The least time between two empty answers.
const QUIET: Duration = Duration::from_secs(1);
/// Changes looked at before the partition's writer may go on.
const VISITS_MAX: usize = 16 * 1024;

/// How much to take at once.
struct Share {
    changes: usize,
    bytes: usize,
    /// Changes are taken from one multiple of this to the next.
    stride: u64,
}

impl Share {
    fn is_full(&self, taken: &[Event], bytes: usize, next: Revision) -> bool {
        let strides = |revision: Revision| revision.0.saturating_sub(1) / self.stride;
        let beyond = taken.first().is_some_and(|first| strides(first.revision) < strides(next));
        beyond || taken.len() >= self.changes || bytes >= self.bytes
    }
}

struct Cursor {
    index: Arc<Index>,
    prefix: Box<str>,
    /// `None` above the resources; such a cursor merges all partitions and wakes on every change.
    scoped: Option<(Arc<Partition>, Arc<Scope>)>,
    position: Revision,
    /// How often values had become readable when it began: once more, and what it told is not what is there.
    reopened: u64,
    /// The position that the caller last got to know by an answer.
    told: Revision,
    told_at: Option<Instant>,
}

impl Index {
    pub fn watch(self: &Arc<Self>, prefix: &str, after: Revision) -> Result<Box<dyn Watcher>> {
        if self.is_closed() {
            return Err(Error::Closed);
        }
        let scoped = match is_within_one_partition(prefix) {
            false => None,
            true => {
                let partition = self.partition_or_new(partition_name(prefix));
                let scope = {
                    // The state's lock keeps changes out while the scope comes into being.
                    let state = partition.state.read();
                    let mut scopes = partition.scopes.lock();
                    let (watchers, scope) = scopes.entry(prefix.into()).or_insert_with(|| {
                        let newest = state.log.back().map_or(state.trimmed, |e| e.revision);
                        let (changed, trimmed) = (AtomicU64::new(newest.0), AtomicU64::new(state.trimmed.0));
                        (0, Arc::new(Scope { notify: Notify::new(), changed, trimmed }))
                    });
                    *watchers += 1;
                    let scope = scope.clone();
                    partition.scope_count.store(scopes.len(), Ordering::Relaxed);
                    scope
                };
                Some((partition, scope))
            }
        };
        let index = self.clone();
        let prefix = prefix.into();
        let partition = scoped.as_ref().map(|(partition, _): &(Arc<Partition>, _)| partition.clone());
        let mut cursor = Cursor { index, prefix, scoped, position: after, reopened: 0, told: after, told_at: None };
        cursor.reopened = cursor.reopened_now();
        // Only now, because compaction may have gone on meanwhile; from here on the cursor notices by itself.
        match partition {
            Some(p) => self.followable(after, p.state.read().trimmed)?,
            None => {
                self.readable(after)?;
                self.followable(after, Revision(0))?
            }
        }
        Ok(Box::new(cursor))
    }
}

impl Drop for Cursor {
    fn drop(&mut self) {
        let Some((partition, _)) = &self.scoped else {
            return;
        };
        let mut scopes = partition.scopes.lock();
        if let Some((watchers, _)) = scopes.get_mut(&self.prefix) {
            *watchers -= 1;
            if *watchers == 0 {
                scopes.remove(&self.prefix);
            }
        }
        partition.scope_count.store(scopes.len(), Ordering::Relaxed);
    }
}

impl Cursor {
    fn concerns(&self, key: &str) -> bool {
        match self.prefix.ends_with('/') {
            true => key.starts_with(&*self.prefix),
            false => key == &*self.prefix,
        }
    }

    fn reopened_now(&self) -> u64 {
        let of = |p: &Partition| p.reopened.load(Ordering::Acquire);
        match &self.scoped {
            Some((partition, _)) => of(partition),
            None => self.index.covering(&self.prefix).iter().map(|p| of(p)).sum(),
        }
    }

    /// Takes what is there. Moves the position; an empty answer means that it is now at the visible revision.
    fn collect(&mut self, share: &Share) -> Result<Vec<Event>> {
        if self.reopened_now() != self.reopened {
            return Err(self.overtaken());
        }
        let Some((partition, scope)) = &self.scoped else {
            return self.collect_from_all(share.changes);
        };
        let (partition, scope) = (partition.clone(), scope.clone());
        let (mut events, mut bytes) = (Vec::new(), 0);
        loop {
            self.position = self.position();
            if self.position >= self.index.revision() {
                return Ok(events);
            }
            let state = partition.state.read();
            // Read under the lock: all changes up to it are in the log.
            let visible = self.index.revision();
            // What compaction took from others is no loss: this cursor may have slept through their changes.
            if scope.trimmed.load(Ordering::Acquire) > self.position.0 {
                return Err(self.overtaken());
            }
            let start = state.log.partition_point(|e| e.revision <= self.position);
            let mut position = visible;
            for (visits, event) in state.log.range(start..).take_while(|e| e.revision <= visible).enumerate() {
                // Never between two changes of one revision: the position could not tell them apart.
                let whole = event.revision > self.position;
                if whole && (share.is_full(&events, bytes, event.revision) || visits >= VISITS_MAX) {
                    position = self.position;
                    break;
                }
                self.position = event.revision;
                if self.concerns(event.change.key()) {
                    bytes += event.size();
                    events.push(event.clone());
                }
            }
            self.position = position;
            if !events.is_empty() {
                return Ok(events);
            }
        }
    }

    /// Of many partitions, which only the program's own followers look at: all else of a share isn't counted.
    fn collect_from_all(&mut self, max: usize) -> Result<Vec<Event>> {
        let visible = self.index.revision();
        let mut events = Vec::new();
        for partition in self.index.covering(&self.prefix) {
            let state = partition.state.read();
            if state.trimmed > self.position {
                return Err(self.overtaken());
            }
            let start = state.log.partition_point(|e| e.revision <= self.position);
            let mine = state.log.range(start..).take_while(|e| e.revision <= visible);
            let mut taken: Vec<_> = mine.filter(|e| self.concerns(e.change.key())).take(max + 1).cloned().collect();
            if let Some(last) = taken.get(max).map(|e| e.revision) {
                // Whatever shares the last revision, so that the cut below can't fall inside of it.
                let more = state.log.partition_point(|e| e.revision <= last);
                let first = state.log.partition_point(|e| e.revision < last);
                taken.retain(|e| e.revision < last);
                taken.extend(state.log.range(first..more).filter(|e| self.concerns(e.change.key())).cloned());
            }
            events.extend(taken);
        }
        events.sort_by_key(|e| e.revision);
        self.position = visible;
        if let Some(last) = events.get(max.saturating_sub(1)).map(|e| e.revision) {
            let cut = events.partition_point(|e| e.revision <= last);
            if cut < events.len() {
                events.truncate(cut);
                self.position = last;
            }
        }
        Ok(events)
    }

    /// Whether there may be something to take.
    fn is_behind(&self) -> Result<bool> {
        match self.reopened_now() == self.reopened {
            true => Ok(self.position() < self.index.revision()),
            false => Err(self.overtaken()),
        }
    }

    fn overtaken(&self) -> Error {
        Error::Compacted { asked: self.position, compacted: self.index.compacted() }
    }
}

#[async_trait]
impl Watcher for Cursor {
    async fn next(&mut self, max: usize) -> Result<Vec<Event>> {
        let index = self.index.clone();
        let scope = self.scoped.as_ref().map(|(_, scope)| scope.clone());
        loop {
            // Both listen before the look, so that no change falls between look and wait.
            let progress = index.progress.notified();
            let change = async {
                match &scope {
                    Some(scope) => scope.notify.notified().await,
                    None => std::future::pending().await,
                }
            };
            tokio::pin!(progress, change);
            progress.as_mut().enable();
            if futures::poll!(change.as_mut()).is_ready() {
                continue;
            }
            let closed = index.is_closed();
            let events = self.collect(&Share { changes: max.max(1), bytes: usize::MAX, stride: u64::MAX })?;
            if !events.is_empty() {
                self.told = self.position;
                return Ok(events);
            }
            if closed {
                return Err(Error::Closed);
            }
            if self.position > self.told {
                let now = Instant::now();
                let due = self.told_at.map_or(now, |at| at + QUIET);
                if due <= now {
                    self.told_at = Some(now);
                    self.told = self.position;
                    return Ok(Vec::new());
                }
                match scope {
                    Some(_) => {
                        tokio::select! { () = change => {} () = tokio::time::sleep_until(due) => {} }
                    }
                    None => {
                        tokio::select! { () = progress => {} () = tokio::time::sleep_until(due) => {} }
                    }
                }
            } else {
                tokio::select! { () = change => {} () = progress => {} }
            }
        }
    }

    async fn ready(&self) -> Result<()> {
        let news = self.scoped.as_ref().map_or(&self.index.progress, |(_, scope)| &scope.notify);
        loop {
            // Whoever is behind needn't listen.
            if self.is_behind()? {
                return Ok(());
            }
            let change = news.notified();
            tokio::pin!(change);
            change.as_mut().enable();
            // Once more, so that no change falls between look and wait.
            let closed = self.index.is_closed();
            if self.is_behind()? {
                return Ok(());
            }
            if closed {
                return Err(Error::Closed);
            }
            change.await;
        }
    }

    fn take(&mut self, bytes_max: usize) -> Result<Vec<Event>> {
        let events = self.collect(&Share { changes: usize::MAX, bytes: bytes_max, stride: STRIDE })?;
        self.told = self.position;
        Ok(events)
    }

    fn pass(&mut self, to: Revision) {
        self.position = self.position.max(to);
        self.told = self.position;
    }

    fn position(&self) -> Revision {
        let Some((_, scope)) = &self.scoped else {
            return self.position;
        };
        // In this order: a change marks its scope before it becomes visible.
        let visible = self.index.revision();
        match scope.changed.load(Ordering::Acquire) <= self.position.0 {
            true => visible.max(self.position),
            false => self.position,
        }
    }
}
