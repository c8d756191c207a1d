//! The in-memory multi-version index and history that every engine answers reads and watches from.
//!
//! In: durable changes, in revision order, from an engine's single writer ([`Index::apply`]); state read back at
//! start ([`Index::load`]); compactions. Out: gets, listings at any retained revision, counts, and cursors over
//! the history.
//!
//! Keys are partitioned by resource (`/registry/pods/`): each partition has its own lock, sorted table and log,
//! so that a watcher looks at nothing but its own resource's changes and a busy resource disturbs no other.
//! A change becomes visible when [`Index::revision`] passes it, which happens after all of its batch is in
//! place; reads hold to one revision and so never see half a batch.

mod cursor;
mod table;

use crate::contract::*;
use crate::engine::entry;
use bytes::Bytes;
use parking_lot::{Mutex, RwLock};
use std::collections::{HashMap, VecDeque};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use table::{Table, Version};
use tokio::sync::Notify;

/// Slots that a listing visits before it lets writers in.
const VISITS_MAX: usize = 4096;

#[derive(Default)]
pub struct Index {
    partitions: RwLock<HashMap<Box<str>, Arc<Partition>>>,
    visible: AtomicU64,
    compacted: AtomicU64,
    /// Changes up to and including this one were never seen here, only the state that they left.
    unseen: AtomicU64,
    /// See [`Index::superseded_bytes`].
    superseded: AtomicU64,
    closed: AtomicBool,
    /// Told on each visible change; heard by watchers that wait for the revision to move on.
    progress: Notify,
}

#[derive(Default)]
struct Partition {
    state: RwLock<State>,
    /// Watched prefixes and keys. Locked only inside or without `state`, never around it.
    scopes: Mutex<Scopes>,
    scope_count: AtomicUsize,
    /// How often values here became readable that had not been, see [`Index::reopen`].
    reopened: AtomicU64,
}

/// With the number of watchers.
type Scopes = HashMap<Box<str>, (usize, Arc<Scope>)>;

#[derive(Default)]
struct State {
    table: Table,
    /// In revision order.
    log: VecDeque<Event>,
    /// The newest change that compaction took out of the log.
    trimmed: Revision,
}

/// One watched prefix or key, shared by its watchers.
struct Scope {
    notify: Notify,
    /// The newest change within; may be too high, never too low.
    changed: AtomicU64,
    /// The newest change within that compaction took out of the log; may be too high, never too low.
    trimmed: AtomicU64,
}

impl Index {
    /// The latest visible revision.
    pub fn revision(&self) -> Revision {
        Revision(self.visible.load(Ordering::Acquire))
    }

    /// See [`Store::compacted`].
    pub fn compacted(&self) -> Revision {
        Revision(self.compacted.load(Ordering::Acquire))
    }

    /// Bytes of everything that changes have put out of date since the start, whether it is still kept or not: how it
    /// grows is how history grows.
    pub fn superseded_bytes(&self) -> u64 {
        self.superseded.load(Ordering::Relaxed)
    }

    pub fn get(&self, key: &str) -> Option<Entry> {
        let partition = self.partition(partition_name(key))?;
        let state = partition.state.read();
        // Read under the lock, so that compaction can't have passed it.
        let revision = self.revision();
        state.table.at(key, revision).cloned()
    }

    /// The newest version, visible or not yet: for the engine's writer.
    pub fn newest(&self, key: &str) -> Option<Entry> {
        let partition = self.partition(partition_name(key))?;
        let state = partition.state.read();
        state.table.latest(key).cloned()
    }

    pub fn get_at(&self, key: &str, revision: Revision) -> Result<Option<Entry>> {
        let Some(partition) = self.partition(partition_name(key)) else {
            return self.readable(revision).map(|()| None);
        };
        let state = partition.state.read();
        self.readable(revision)?;
        Ok(state.table.at(key, revision).cloned())
    }

    pub fn list(&self, prefix: &str, options: &ListOptions) -> Result<Page> {
        // A listing of the latest state that compaction overtook begins anew; at last without letting go of the lock.
        for visits_max in [VISITS_MAX, VISITS_MAX * 16] {
            match self.list_in_steps(prefix, options, visits_max) {
                Err(Error::Compacted { .. }) if options.revision.is_none() => continue,
                result => return result,
            }
        }
        self.list_in_steps(prefix, options, usize::MAX)
    }

    fn list_in_steps(&self, prefix: &str, options: &ListOptions, visits_max: usize) -> Result<Page> {
        let mut at = options.revision;
        let limit = if options.limit == 0 { usize::MAX } else { options.limit };
        let mut page = Page { entries: Vec::new(), revision: Revision(0), remaining: 0 };
        let partitions = self.covering(prefix);
        if partitions.is_empty() {
            page.revision = at.unwrap_or_else(|| self.revision());
            self.readable(page.revision)?;
            return Ok(page);
        }
        let several = partitions.len() > 1;
        for partition in partitions {
            let mut after = options.start_after.clone();
            'partition: loop {
                let state = partition.state.read();
                page.revision = match at {
                    // The latest can always be read while the lock keeps compaction out.
                    None => self.revision(),
                    Some(at) => self.readable(at).map(|()| at)?,
                };
                at = Some(page.revision);
                let mut visits = 0;
                let mut last = None;
                for slot in state.table.range(prefix, after.as_deref()) {
                    if page.entries.len() >= limit && !several {
                        break;
                    }
                    if visits == visits_max {
                        after = last;
                        continue 'partition;
                    }
                    visits += 1;
                    if visits == visits_max {
                        last = Some(slot.named().key.to_string());
                    }
                    page.entries.extend(slot.at(page.revision).cloned());
                }
                if page.entries.len() >= limit && !several {
                    let end = page.entries.last().map(|e| &*e.key);
                    page.remaining = state.table.count(prefix, end, page.revision);
                }
                break;
            }
        }
        if several {
            // Above the resources: rare (backup, whole-store tools), so gathered and sorted.
            page.entries.sort_by(|a, b| a.key.cmp(&b.key));
            page.remaining = page.entries.len().saturating_sub(limit) as u64;
            page.entries.truncate(limit);
        }
        Ok(page)
    }

    pub fn count(&self, prefix: &str) -> u64 {
        let one = |partition: Arc<Partition>| {
            let state = partition.state.read();
            state.table.count(prefix, None, self.revision())
        };
        self.covering(prefix).into_iter().map(one).sum()
    }

    /// Every key as of `revision`, a few thousand at a time. Writers go on meanwhile; compaction past `revision`
    /// must not.
    pub fn export<E: From<Error>>(
        &self,
        revision: Revision,
        mut each: impl FnMut(Vec<Entry>) -> std::result::Result<(), E>,
    ) -> std::result::Result<(), E> {
        let partitions: Vec<_> = self.partitions.read().values().cloned().collect();
        for partition in partitions {
            let mut after: Option<Arc<str>> = None;
            loop {
                let step: Vec<_> = {
                    let state = partition.state.read();
                    self.readable(revision)?;
                    let slots = state.table.range("", after.as_deref()).take(VISITS_MAX);
                    slots.map(|slot| (slot.named().key.clone(), slot.at(revision).cloned())).collect()
                };
                let Some((last, _)) = step.last() else { break };
                after = Some(last.clone());
                each(step.into_iter().filter_map(|(_, entry)| entry).collect())?;
            }
        }
        Ok(())
    }

    /// Puts a version in place that is not news: state read back at start. Newer than what the key had.
    pub fn load(&self, entry: Entry) {
        let partition = self.partition_or_new(partition_name(&entry.key));
        partition.state.write().table.push(Version::Put(entry));
    }

    /// See [`Store::reopen`].
    pub fn reopen(&self, open: impl Fn(&str, Bytes) -> Bytes) -> usize {
        let partitions: Vec<_> = self.partitions.read().values().cloned().collect();
        let opened: usize = partitions.iter().map(|partition| partition.reopen(&open)).sum();
        if opened > 0 {
            self.progress.notify_waiters();
        }
        opened
    }

    /// Adds changes in revision order and makes everything up to `visible` visible at once, then tells watchers.
    /// Only one caller at a time.
    pub fn apply(&self, events: Vec<Event>, visible: Revision) {
        self.announce(self.apply_quietly(events, visible));
    }

    /// As [`Index::apply`], leaving watchers to be told by [`Index::announce`], which may be done elsewhere and later.
    pub fn apply_quietly(&self, events: Vec<Event>, visible: Revision) -> News {
        let mut news = News { scopes: Vec::new(), moved: visible > self.revision() };
        self.superseded.fetch_add(events.iter().map(Event::superseded_bytes).sum(), Ordering::Relaxed);
        let mut events = events.into_iter().peekable();
        while let Some(first) = events.peek() {
            let name = partition_name(first.change.key()).to_owned();
            let partition = self.partition_or_new(&name);
            let mut state = partition.state.write();
            while let Some(event) = events.next_if(|e| partition_name(e.change.key()) == name) {
                if partition.scope_count.load(Ordering::Relaxed) > 0 {
                    partition.concerned(event.change.key(), event.revision, &mut news.scopes);
                }
                state.table.push(match &event.change {
                    Change::Put { entry, .. } => Version::Put(entry.clone()),
                    Change::Delete { prev } => Version::Deleted { revision: event.revision, prev: prev.clone() },
                });
                state.log.push_back(event);
            }
        }
        self.visible.fetch_max(visible.0, Ordering::AcqRel);
        news
    }

    pub fn announce(&self, news: News) {
        for scope in news.scopes {
            scope.notify.notify_waiters();
        }
        if news.moved {
            self.progress.notify_waiters();
        }
    }

    /// Drops history up to and including `revision`, but never so much that the latest revision couldn't be
    /// listed any more.
    pub fn compact(&self, revision: Revision) {
        let to = revision.0.min(self.revision().0.saturating_sub(1));
        if self.compacted.fetch_max(to, Ordering::AcqRel) >= to {
            return;
        }
        // The oldest revision that can still be asked.
        let floor = Revision(to + 1);
        let partitions: Vec<_> = self.partitions.read().values().cloned().collect();
        for partition in partitions {
            // In steps, so that readers and the writer wait for no more than a few hundred keys at a time.
            loop {
                let mut state = partition.state.write();
                let State { table, log, trimmed } = &mut *state;
                let due = log.iter().take(512).take_while(|e| e.revision.0 <= to).count();
                let watched = partition.scope_count.load(Ordering::Relaxed) > 0;
                for event in log.drain(..due) {
                    table.prune(event.change.key(), floor);
                    if watched {
                        partition
                            .each_scope(event.change.key(), |s| s.trimmed.store(event.revision.0, Ordering::Release));
                    }
                    *trimmed = event.revision;
                }
                if due < 512 {
                    // The change at the floor itself shows in listings, but what it replaced doesn't.
                    for event in log.iter().take_while(|e| e.revision == floor) {
                        table.prune(event.change.key(), floor);
                    }
                    if log.capacity() > 1024 && log.len() * 4 < log.capacity() {
                        log.shrink_to(log.len() * 2);
                    }
                    break;
                }
            }
        }
    }

    /// Says that `first` is the first revision of which anything is known, and of that one the state alone, without
    /// taking anything from cursors that are already past it.
    pub fn raise_floor(&self, first: Revision) {
        self.unseen.fetch_max(first.0, Ordering::AcqRel);
        self.compacted.fetch_max(first.0.saturating_sub(1), Ordering::AcqRel);
    }

    /// Ends all watchers with [`Error::Closed`], once they have seen everything.
    pub fn close(&self) {
        self.closed.store(true, Ordering::Release);
        let partitions: Vec<_> = self.partitions.read().values().cloned().collect();
        for partition in partitions {
            for (_, scope) in partition.scopes.lock().values() {
                scope.notify.notify_waiters();
            }
        }
        self.progress.notify_waiters();
    }

    pub fn is_closed(&self) -> bool {
        self.closed.load(Ordering::Acquire)
    }

    /// Waits until `revision` is visible, or the index is closed.
    pub async fn reached(&self, revision: Revision) -> Result<()> {
        loop {
            let progress = self.progress.notified();
            tokio::pin!(progress);
            progress.as_mut().enable();
            if self.revision() >= revision {
                return Ok(());
            }
            if self.is_closed() {
                return Err(Error::Closed);
            }
            progress.await;
        }
    }

    fn readable(&self, asked: Revision) -> Result<()> {
        let (current, compacted) = (self.revision(), self.compacted());
        if asked > current {
            return Err(Error::Future { asked, current });
        }
        if asked <= compacted && compacted.0 > 0 {
            return Err(Error::Compacted { asked, compacted });
        }
        Ok(())
    }

    /// Whether all changes after `after` of a partition are still there, whose newest forgotten one is `trimmed`. A
    /// resource that hasn't changed can be followed from far before the compacted revision.
    fn followable(&self, after: Revision, trimmed: Revision) -> Result<()> {
        let current = self.revision();
        if after > current {
            return Err(Error::Future { asked: after, current });
        }
        if after < trimmed || after.0 < self.unseen.load(Ordering::Acquire) {
            return Err(Error::Compacted { asked: after, compacted: self.compacted() });
        }
        Ok(())
    }

    fn partition(&self, name: &str) -> Option<Arc<Partition>> {
        self.partitions.read().get(name).cloned()
    }

    fn partition_or_new(&self, name: &str) -> Arc<Partition> {
        if let Some(found) = self.partition(name) {
            return found;
        }
        self.partitions.write().entry(name.into()).or_default().clone()
    }

    /// Partitions that may hold keys with `prefix`: one, unless it is shorter than a resource's.
    fn covering(&self, prefix: &str) -> Vec<Arc<Partition>> {
        if is_within_one_partition(prefix) {
            return self.partition(partition_name(prefix)).into_iter().collect();
        }
        let partitions = self.partitions.read();
        partitions
            .iter()
            .filter(|(name, _)| name.starts_with(prefix) || prefix.starts_with(&***name))
            .map(|(_, p)| p.clone())
            .collect()
    }
}

/// Watchers to be told.
#[must_use]
pub struct News {
    scopes: Vec<Arc<Scope>>,
    moved: bool,
}

fn push_once(scopes: &mut Vec<Arc<Scope>>, scope: &Arc<Scope>) {
    if !scopes.iter().any(|s| Arc::ptr_eq(s, scope)) {
        scopes.push(scope.clone());
    }
}

impl Partition {
    fn reopen(&self, open: impl Fn(&str, Bytes) -> Bytes) -> usize {
        let mut sealed: Vec<Entry> = Vec::new();
        let mut after: Option<Arc<str>> = None;
        loop {
            let state = self.state.read();
            let mut last = None;
            for slot in state.table.range("", after.as_deref()).take(VISITS_MAX) {
                last = Some(slot.named().key.clone());
                sealed.extend(slot.latest().filter(|e| e.is_sealed()).cloned());
            }
            match last {
                Some(last) => after = Some(last),
                None => break,
            }
        }
        // Without the lock, since whoever opens may ask others.
        let opened = sealed.into_iter().filter_map(|old| {
            let value = open(&old.key, old.value.clone());
            let new = entry(old.key.clone(), value, old.create_revision, old.mod_revision);
            (!new.is_sealed()).then_some((old, new))
        });
        let mut opened: Vec<(Entry, Entry)> = opened.collect();
        let mut state = self.state.write();
        let State { table, log, .. } = &mut *state;
        // One that was written meanwhile has a newer version, which was opened when it came.
        opened.retain(|(old, new)| table.replace(old, new));
        if opened.is_empty() {
            return 0;
        }
        let by_old: HashMap<*const KeyValue, &Entry> =
            opened.iter().map(|(old, new)| (Arc::as_ptr(old), new)).collect();
        let replace = |entry: &mut Entry| {
            if let Some(new) = by_old.get(&Arc::as_ptr(entry)) {
                *entry = Arc::clone(new);
            }
        };
        for event in log {
            match &mut event.change {
                Change::Put { entry, prev } => [Some(entry), prev.as_mut()].into_iter().flatten().for_each(replace),
                Change::Delete { prev } => replace(prev),
            }
        }
        self.reopened.fetch_add(1, Ordering::AcqRel);
        for (_, scope) in self.scopes.lock().values() {
            scope.notify.notify_waiters();
        }
        opened.len()
    }

    /// Marks and collects the scopes that a change of `key` concerns.
    fn concerned(&self, key: &str, revision: Revision, into: &mut Vec<Arc<Scope>>) {
        self.each_scope(key, |scope| {
            scope.changed.store(revision.0, Ordering::Release);
            push_once(into, scope);
        });
    }

    /// The watched scopes that `key` lies in: each prefix that ends in `/`, and the key.
    fn each_scope(&self, key: &str, mut each: impl FnMut(&Arc<Scope>)) {
        let scopes = self.scopes.lock();
        let ends = key.bytes().enumerate().filter(|(_, b)| *b == b'/').map(|(i, _)| i + 1);
        for end in ends.chain([key.len()]) {
            if let Some((_, scope)) = scopes.get(&key[..end]) {
                each(scope);
            }
        }
    }
}

impl Event {
    /// What history holds on behalf of this change alone, about.
    fn superseded_bytes(&self) -> u64 {
        /// The event and the version's slot.
        const OVERHEAD: usize = 256;
        let prev = match &self.change {
            Change::Put { prev, .. } => prev.as_ref(),
            Change::Delete { prev } => Some(prev),
        };
        (OVERHEAD + prev.map_or(0, |p| p.key.len() + p.value.len())) as u64
    }
}

impl Change {
    pub fn key(&self) -> &Arc<str> {
        match self {
            Change::Put { entry, .. } | Change::Delete { prev: entry } => &entry.key,
        }
    }
}

/// `/registry/pods/ns/name` → `/registry/pods/`. Keys above that (`/registry/x`) lie together with their siblings.
fn partition_name(key: &str) -> &str {
    let mut last = 0;
    for (n, (i, _)) in key.bytes().enumerate().filter(|(_, b)| *b == b'/').enumerate() {
        last = i + 1;
        if n == 2 {
            break;
        }
    }
    &key[..last]
}

fn is_within_one_partition(prefix: &str) -> bool {
    !prefix.ends_with('/') || prefix.bytes().filter(|b| *b == b'/').count() > 2
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn partition_names() {
        for (key, name) in [
            ("/registry/pods/default/web", "/registry/pods/"),
            ("/registry/pods/", "/registry/pods/"),
            ("/registry/foos.example.com/a/b/c", "/registry/foos.example.com/"),
            ("/registry/ready", "/registry/"),
            ("ready", ""),
            ("/", "/"),
        ] {
            assert_eq!(partition_name(key), name, "{key}");
        }
    }
}
