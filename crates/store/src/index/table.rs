//! A sorted table of keys, each with its retained versions.
//!
//! Keys lie in a vector of chunks of a few hundred slots. Against a `BTreeMap` this buys two things: 24 bytes a
//! key instead of about 60, and counting: a chunk knows how many of its keys live, so that the number of keys
//! behind a page of a listing is exact and costs a step per chunk, not per key.
//!
//! A set of the keys that live lies beside it: nearly all reads are of one key as it is now, and a search through the
//! chunks meets cold memory at each step.

use crate::contract::{Entry, Revision};
use std::borrow::Borrow;
use std::collections::HashSet;
use std::hash::{Hash, Hasher};
use std::sync::Arc;

const CHUNK_SLOTS_MAX: usize = 256;
const CHUNK_SLOTS_MERGE: usize = 64;

#[derive(Default)]
pub(super) struct Table {
    chunks: Vec<Chunk>,
    /// The latest version of each key, where that isn't a deletion.
    live: HashSet<ByKey>,
}

/// An entry that stands for its key.
struct ByKey(Entry);

impl Borrow<str> for ByKey {
    fn borrow(&self) -> &str {
        &self.0.key
    }
}

impl Hash for ByKey {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.0.key.hash(state);
    }
}

impl PartialEq for ByKey {
    fn eq(&self, other: &Self) -> bool {
        self.0.key == other.0.key
    }
}

impl Eq for ByKey {}

struct Chunk {
    slots: Vec<Slot>,
    /// Slots whose latest version is not a deletion.
    live: u64,
    /// The newest revision in this chunk: as of it or later, `live` holds.
    changed: Revision,
}

pub(super) struct Slot {
    latest: Version,
    /// Oldest first. Boxed, because nearly all keys have none.
    #[expect(clippy::box_collection, reason = "8 bytes a key instead of 24")]
    older: Option<Box<Vec<Version>>>,
}

pub(super) enum Version {
    Put(Entry),
    Deleted { revision: Revision, prev: Entry },
}

impl Version {
    fn revision(&self) -> Revision {
        match self {
            Version::Put(entry) => entry.mod_revision,
            Version::Deleted { revision, .. } => *revision,
        }
    }

    fn entry(&self) -> Option<&Entry> {
        match self {
            Version::Put(entry) => Some(entry),
            Version::Deleted { .. } => None,
        }
    }
}

impl Slot {
    fn key(&self) -> &str {
        match &self.latest {
            Version::Put(entry) | Version::Deleted { prev: entry, .. } => &entry.key,
        }
    }

    /// Any entry of this key: it holds the key's one string.
    pub(super) fn named(&self) -> &Entry {
        match &self.latest {
            Version::Put(entry) | Version::Deleted { prev: entry, .. } => entry,
        }
    }

    /// What the key was as of `revision`.
    pub(super) fn at(&self, revision: Revision) -> Option<&Entry> {
        if self.latest.revision() <= revision {
            return self.latest.entry();
        }
        let older = self.older.as_ref()?;
        older.iter().rev().find(|v| v.revision() <= revision)?.entry()
    }

    pub(super) fn latest(&self) -> Option<&Entry> {
        self.latest.entry()
    }

    /// Drops versions that no revision at or after `floor` shows; true when nothing is left of the key.
    fn prune(&mut self, floor: Revision) -> bool {
        if self.latest.revision() <= floor {
            self.older = None;
            return self.latest.entry().is_none();
        }
        if let Some(older) = &mut self.older {
            // The last version at or before the floor is what the floor shows; a deletion shows as nothing.
            let mut keep = older.iter().rposition(|v| v.revision() <= floor).unwrap_or(0);
            if older[keep].revision() <= floor && older[keep].entry().is_none() {
                keep += 1;
            }
            older.drain(..keep);
            match older.is_empty() {
                true => self.older = None,
                false => older.shrink_to_fit(),
            }
        }
        false
    }
}

impl Chunk {
    fn of(slots: Vec<Slot>) -> Chunk {
        let live = slots.iter().filter(|s| s.latest().is_some()).count() as u64;
        let changed = slots.iter().map(|s| s.latest.revision()).max().unwrap_or_default();
        Chunk { slots, live, changed }
    }

    fn live_at(&self, revision: Revision) -> u64 {
        match self.changed <= revision {
            true => self.live,
            false => self.slots.iter().filter(|s| s.at(revision).is_some()).count() as u64,
        }
    }

    fn last_key(&self) -> &str {
        self.slots.last().map_or("", Slot::key)
    }
}

/// Chunk and slot.
type Place = (usize, usize);

impl Table {
    /// The place of the first key for which `before` is false.
    fn seek(&self, before: impl Fn(&str) -> bool) -> Place {
        let chunk = self.chunks.partition_point(|c| before(c.last_key()));
        let slot = self.chunks.get(chunk).map_or(0, |c| c.slots.partition_point(|s| before(s.key())));
        (chunk, slot)
    }

    /// The latest version of a key.
    pub(super) fn latest(&self, key: &str) -> Option<&Entry> {
        self.live.get(key).map(|e| &e.0)
    }

    /// What a key was as of `revision`.
    pub(super) fn at(&self, key: &str, revision: Revision) -> Option<&Entry> {
        match self.latest(key) {
            Some(latest) if latest.mod_revision <= revision => Some(latest),
            _ => self.get(key)?.at(revision),
        }
    }

    fn get(&self, key: &str) -> Option<&Slot> {
        let (chunk, slot) = self.seek(|k| k < key);
        self.chunks.get(chunk)?.slots.get(slot).filter(|s| s.key() == key)
    }

    /// Adds a version newer than all others of its key.
    pub(super) fn push(&mut self, version: Version) {
        let key = match &version {
            Version::Put(entry) => {
                self.live.replace(ByKey(entry.clone()));
                entry.key.clone()
            }
            Version::Deleted { prev, .. } => {
                self.live.remove(&*prev.key);
                prev.key.clone()
            }
        };
        let (at, slot) = self.seek(|k| k < &*key);
        let revision = version.revision();
        let live = version.entry().is_some() as u64;
        if at == self.chunks.len() {
            // Behind all keys: fill the last chunk, then begin a fresh one, so that loading in order packs tightly.
            if self.chunks.last().is_none_or(|c| c.slots.len() >= CHUNK_SLOTS_MAX) {
                self.chunks.push(Chunk { slots: Vec::new(), live: 0, changed: Revision(0) });
            }
            if let Some(chunk) = self.chunks.last_mut() {
                chunk.slots.push(Slot { latest: version, older: None });
                chunk.live += live;
                chunk.changed = chunk.changed.max(revision);
            }
            return;
        }
        let chunk = &mut self.chunks[at];
        chunk.changed = chunk.changed.max(revision);
        match chunk.slots.get_mut(slot).filter(|s| *s.key() == *key) {
            Some(slot) => {
                let was = slot.latest().is_some() as u64;
                let previous = std::mem::replace(&mut slot.latest, version);
                slot.older.get_or_insert_default().push(previous);
                chunk.live = chunk.live + live - was;
            }
            None => {
                chunk.slots.insert(slot, Slot { latest: version, older: None });
                chunk.live += live;
                if chunk.slots.len() > CHUNK_SLOTS_MAX {
                    let tail = chunk.slots.split_off(CHUNK_SLOTS_MAX / 2);
                    let head = std::mem::take(&mut chunk.slots);
                    *chunk = Chunk::of(head);
                    self.chunks.insert(at + 1, Chunk::of(tail));
                }
            }
        }
    }

    /// Puts `new` in the place of `old`, where that is the latest version of its key. Both are of one revision.
    pub(super) fn replace(&mut self, old: &Entry, new: &Entry) -> bool {
        let (chunk, slot) = self.seek(|k| k < &*old.key);
        let found = self.chunks.get_mut(chunk).and_then(|c| c.slots.get_mut(slot));
        match found.map(|slot| &mut slot.latest) {
            Some(Version::Put(latest)) if Arc::ptr_eq(latest, old) => {
                *latest = new.clone();
                self.live.replace(ByKey(new.clone()));
                true
            }
            _ => false,
        }
    }

    /// Drops versions of `key` that no revision at or after `floor` shows.
    pub(super) fn prune(&mut self, key: &str, floor: Revision) {
        let (at, slot) = self.seek(|k| k < key);
        let Some(chunk) = self.chunks.get_mut(at) else {
            return;
        };
        let Some(found) = chunk.slots.get_mut(slot).filter(|s| s.key() == key) else {
            return;
        };
        if !found.prune(floor) {
            return;
        }
        chunk.slots.remove(slot);
        if chunk.slots.is_empty() {
            self.chunks.remove(at);
        } else if chunk.slots.len() < CHUNK_SLOTS_MERGE
            && self.chunks.get(at + 1).is_some_and(|next| next.slots.len() < CHUNK_SLOTS_MERGE)
        {
            let next = self.chunks.remove(at + 1);
            let chunk = &mut self.chunks[at];
            chunk.slots.extend(next.slots);
            chunk.live += next.live;
            chunk.changed = chunk.changed.max(next.changed);
        }
    }

    /// Slots with keys that start with `prefix`, strictly after `after`, in order.
    pub(super) fn range<'a>(
        &'a self,
        prefix: &'a str,
        after: Option<&str>,
    ) -> impl Iterator<Item = &'a Slot> + use<'a> {
        let (chunk, slot) = self.start(prefix, after);
        let mut skip = slot;
        self.chunks[chunk..]
            .iter()
            .flat_map(move |c| c.slots[std::mem::take(&mut skip)..].iter())
            .take_while(move |s| s.key().starts_with(prefix))
    }

    /// How many keys that start with `prefix`, strictly after `after`, lived as of `revision`.
    pub(super) fn count(&self, prefix: &str, after: Option<&str>, revision: Revision) -> u64 {
        let (first, slot) = self.start(prefix, after);
        let mut sum = 0;
        for (i, chunk) in self.chunks.iter().enumerate().skip(first) {
            let skip = if i == first { slot } else { 0 };
            if skip == 0 && chunk.last_key().starts_with(prefix) {
                if !chunk.slots[0].key().starts_with(prefix) {
                    break;
                }
                sum += chunk.live_at(revision);
                continue;
            }
            let within = chunk.slots[skip..].iter().take_while(|s| s.key().starts_with(prefix));
            sum += within.filter(|s| s.at(revision).is_some()).count() as u64;
            if !chunk.last_key().starts_with(prefix) {
                break;
            }
        }
        sum
    }

    fn start(&self, prefix: &str, after: Option<&str>) -> Place {
        match after {
            Some(after) if after >= prefix => self.seek(|k| k <= after),
            _ => self.seek(|k| k < prefix),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::contract::KeyValue;
    use std::collections::BTreeMap;
    use std::sync::OnceLock;

    fn entry(key: &str, create: u64, modified: u64) -> Entry {
        Arc::new(KeyValue {
            key: key.into(),
            value: Default::default(),
            create_revision: Revision(create),
            mod_revision: Revision(modified),
            memo: OnceLock::new(),
        })
    }

    #[test]
    fn a_slot_is_small() {
        assert_eq!(std::mem::size_of::<Slot>(), 24);
    }

    /// Against a list of maps, one per revision: every retained revision, prefix and start.
    #[test]
    fn agrees_with_one_map_per_revision() {
        let mut table = Table::default();
        let mut states: Vec<BTreeMap<String, Entry>> = vec![BTreeMap::new()];
        let mut seed = 7u64;
        let mut random = move |n: u64| {
            seed = seed.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
            (seed >> 33) % n
        };
        let mut touched = Vec::new();
        let mut floor = 0;
        for revision in 1..6000u64 {
            let mut state = states.last().unwrap().clone();
            let key = format!("/{}/{:03}", random(3), random(700));
            match state.get(&key).cloned() {
                Some(prev) if random(2) == 0 => {
                    state.remove(&key);
                    table.push(Version::Deleted { revision: Revision(revision), prev });
                }
                prev => {
                    let e = entry(&key, prev.map_or(revision, |p| p.create_revision.0), revision);
                    state.insert(key.clone(), e.clone());
                    table.push(Version::Put(e));
                }
            }
            touched.push(key);
            states.push(state);
            if revision % 500 == 0 {
                let to = revision - 200;
                for key in &touched[floor as usize..to as usize] {
                    table.prune(key, Revision(to));
                }
                floor = to;
            }
            if revision % 97 == 0 {
                let key = format!("/{}/{:03}", random(3), random(700));
                let at = floor.max(1) + random(revision - floor.max(1) + 1);
                let known = |e: &Entry| e.mod_revision;
                assert_eq!(
                    (table.latest(&key).map(known), table.at(&key, Revision(at)).map(known)),
                    (states[revision as usize].get(&key).map(known), states[at as usize].get(&key).map(known)),
                    "{key} at {at}"
                );
                let at = floor.max(1) + random(revision - floor.max(1) + 1);
                let prefix = ["/", "/1/", "/2/", "/1/3"][random(4) as usize];
                let after = (random(2) == 0).then(|| format!("/{}/{:03}", random(3), random(700)));
                let want: Vec<_> = states[at as usize]
                    .iter()
                    .filter(|(k, _)| k.starts_with(prefix) && after.as_ref().is_none_or(|a| *k > a))
                    .map(|(k, e)| (k.clone(), e.mod_revision))
                    .collect();
                let got: Vec<_> = table
                    .range(prefix, after.as_deref())
                    .filter_map(|s| s.at(Revision(at)))
                    .map(|e| (e.key.to_string(), e.mod_revision))
                    .collect();
                assert_eq!(got, want, "at {at}, prefix {prefix}, after {after:?}");
                assert_eq!(table.count(prefix, after.as_deref(), Revision(at)), want.len() as u64);
            }
        }
    }

    #[test]
    fn pruning_all_deleted_keys_leaves_nothing() {
        let mut table = Table::default();
        for i in 0..1000u64 {
            let e = entry(&format!("/a/{i:04}"), i + 1, i + 1);
            table.push(Version::Put(e));
        }
        for i in 0..1000u64 {
            let prev = table.latest(&format!("/a/{i:04}")).unwrap().clone();
            table.push(Version::Deleted { revision: Revision(2000 + i), prev });
        }
        assert_eq!(table.count("/a/", None, Revision(1500)), 1000);
        assert_eq!(table.count("/a/", None, Revision(3000)), 0);
        for i in 0..1000u64 {
            table.prune(&format!("/a/{i:04}"), Revision(2999));
        }
        assert!(table.chunks.is_empty() && table.live.is_empty());
    }
}
