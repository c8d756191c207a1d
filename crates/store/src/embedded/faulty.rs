//! A disk in memory that does what real disks may: forget what wasn't synced, tear writes into sectors, fail a sync
//! and then pretend, run full, lose power at any operation. One seed, one behaviour.
//!
//! For tests of the store and of whatever stands on it. Models Linux: after a failed sync the pages count as clean,
//! so that a later sync succeeds without them; creations, renames and removals survive a crash up to some point in
//! their order.

use super::disk::{Disk, DiskFile};
use parking_lot::Mutex;
use std::collections::BTreeMap;
use std::io::{self, Cursor, ErrorKind, Read};
use std::ops::Range;
use std::sync::Arc;

const SECTOR: usize = 512;

#[derive(Clone)]
pub struct FaultyDisk(Arc<Mutex<State>>);

/// What may go wrong while the power is on. Chances are in 1,000.
#[derive(Clone, Debug, Default)]
pub struct Faults {
    pub write_error_permille: u32,
    pub sync_error_permille: u32,
    pub name_error_permille: u32,
    /// Bytes that fit on the disk.
    pub capacity_bytes: Option<u64>,
}

struct State {
    random: u64,
    faults: Faults,
    files: Vec<FileState>,
    names: BTreeMap<String, usize>,
    durable_names: BTreeMap<String, usize>,
    /// Since the last sync of names.
    name_changes: Vec<NameChange>,
    /// Handles of earlier lives are dead.
    life: u64,
    /// Operations until the power goes.
    power_left: Option<u64>,
}

#[derive(Default)]
struct FileState {
    /// As the running system sees it.
    content: Vec<u8>,
    durable: Vec<u8>,
    /// What the next sync would write.
    dirty: Vec<Range<usize>>,
}

enum NameChange {
    Set(String, usize),
    Remove(String),
    Rename(String, String),
}

impl FaultyDisk {
    pub fn new(seed: u64) -> FaultyDisk {
        FaultyDisk(Arc::new(Mutex::new(State {
            random: seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1,
            faults: Faults::default(),
            files: Vec::new(),
            names: BTreeMap::new(),
            durable_names: BTreeMap::new(),
            name_changes: Vec::new(),
            life: 0,
            power_left: None,
        })))
    }

    pub fn set_faults(&self, faults: Faults) {
        self.0.lock().faults = faults;
    }

    /// The power goes after this many more operations that write or sync; everything fails from then on.
    pub fn cut_power_after(&self, operations: u64) {
        self.0.lock().power_left = Some(operations);
    }

    pub fn has_power(&self) -> bool {
        self.0.lock().power_left != Some(0)
    }

    /// The machine dies now, if it hasn't yet, and starts again: what survived is what is on disk. Open handles die.
    pub fn crash(&self) {
        let state = &mut *self.0.lock();
        state.life += 1;
        state.power_left = None;
        let survive = state.below(state.name_changes.len() as u64 + 1) as usize;
        for change in std::mem::take(&mut state.name_changes).into_iter().take(survive) {
            change.apply(&mut state.durable_names);
        }
        state.names = state.durable_names.clone();
        for i in 0..state.files.len() {
            state.write_some(i);
            let file = &mut state.files[i];
            file.content = file.durable.clone();
        }
    }

    /// The process dies, the machine doesn't: what was written is there, synced or not. Open handles die.
    pub fn kill_process(&self) {
        let state = &mut *self.0.lock();
        state.life += 1;
        state.power_left = None;
    }

    /// A copy of all that would be read now.
    pub fn files(&self) -> BTreeMap<String, Vec<u8>> {
        let state = self.0.lock();
        state.names.iter().map(|(name, id)| (name.clone(), state.files[*id].content.clone())).collect()
    }

    /// Replaces a file's durable content: damage.
    pub fn overwrite(&self, name: &str, content: Vec<u8>) {
        let state = &mut *self.0.lock();
        if let Some(id) = state.names.get(name) {
            state.files[*id] = FileState { content: content.clone(), durable: content, dirty: Vec::new() };
        }
    }

    fn handle(&self, state: &State, id: usize) -> Box<dyn DiskFile> {
        Box::new(Handle { disk: self.clone(), id, life: state.life })
    }
}

impl NameChange {
    fn apply(self, names: &mut BTreeMap<String, usize>) {
        match self {
            NameChange::Set(name, id) => drop(names.insert(name, id)),
            NameChange::Remove(name) => drop(names.remove(&name)),
            NameChange::Rename(from, to) => drop(names.remove(&from).map(|id| names.insert(to, id))),
        }
    }
}

impl State {
    fn below(&mut self, n: u64) -> u64 {
        // SplitMix64.
        self.random = self.random.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.random;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (z ^ (z >> 31)) % n.max(1)
    }

    fn chance(&mut self, permille: u32) -> bool {
        self.below(1000) < permille as u64
    }

    /// Counts an operation; an error when the power is gone.
    fn operate(&mut self) -> io::Result<()> {
        match &mut self.power_left {
            None => Ok(()),
            Some(0) => Err(error("no power")),
            Some(left) => {
                *left -= 1;
                match left {
                    0 => Err(error("no power")),
                    _ => Ok(()),
                }
            }
        }
    }

    fn powered(&self) -> io::Result<()> {
        match self.power_left {
            Some(0) => Err(error("no power")),
            _ => Ok(()),
        }
    }

    /// Some of the dirty sectors reach the disk, in no order.
    fn write_some(&mut self, id: usize) {
        let dirty = std::mem::take(&mut self.files[id].dirty);
        let (content_len, durable_len) = (self.files[id].content.len(), self.files[id].durable.len());
        let len = match self.below(3) {
            0 => durable_len,
            1 => content_len,
            _ => {
                let (low, high) = (durable_len.min(content_len), durable_len.max(content_len));
                low + self.below((high - low + 1) as u64) as usize
            }
        };
        self.files[id].durable.resize(len, 0);
        let all = self.below(3) == 0;
        for range in dirty {
            let mut at = range.start;
            while at < range.end {
                let end = ((at / SECTOR + 1) * SECTOR).min(range.end);
                let reaches = all || self.below(2) == 0;
                let file = &mut self.files[id];
                let end_there = end.min(file.durable.len()).min(file.content.len());
                if reaches && at < end_there {
                    file.durable[at..end_there].copy_from_slice(&file.content[at..end_there]);
                }
                at = end;
            }
        }
    }

    fn used(&self) -> u64 {
        self.names.values().map(|id| self.files[*id].content.len() as u64).sum()
    }

    fn change_name(&mut self, change: impl Fn() -> NameChange) -> io::Result<()> {
        self.operate()?;
        let permille = self.faults.name_error_permille;
        if self.chance(permille) {
            return Err(error("injected: directory"));
        }
        change().apply(&mut self.names);
        self.name_changes.push(change());
        Ok(())
    }

    fn id(&self, name: &str) -> io::Result<usize> {
        self.names.get(name).copied().ok_or_else(|| io::Error::new(ErrorKind::NotFound, name.to_owned()))
    }
}

fn error(what: &str) -> io::Error {
    io::Error::other(what.to_owned())
}

impl Disk for FaultyDisk {
    fn names(&self) -> io::Result<Vec<String>> {
        let state = self.0.lock();
        state.powered()?;
        Ok(state.names.keys().cloned().collect())
    }

    fn read(&self, name: &str) -> io::Result<Box<dyn Read + Send>> {
        let state = self.0.lock();
        state.powered()?;
        let id = state.id(name)?;
        Ok(Box::new(Cursor::new(state.files[id].content.clone())))
    }

    fn create(&self, name: &str) -> io::Result<Box<dyn DiskFile>> {
        let state = &mut *self.0.lock();
        if let Some(capacity) = state.faults.capacity_bytes
            && state.used() >= capacity
        {
            return Err(ErrorKind::StorageFull.into());
        }
        let id = match state.names.get(name) {
            Some(id) => {
                // Truncated in place, as the system call does it.
                let id = *id;
                state.operate()?;
                state.files[id].content.clear();
                state.files[id].dirty.clear();
                id
            }
            None => {
                let id = state.files.len();
                state.change_name(|| NameChange::Set(name.to_owned(), id))?;
                state.files.push(FileState::default());
                id
            }
        };
        Ok(self.handle(state, id))
    }

    fn reopen(&self, name: &str) -> io::Result<Box<dyn DiskFile>> {
        let state = self.0.lock();
        state.powered()?;
        let id = state.id(name)?;
        Ok(self.handle(&state, id))
    }

    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        let state = &mut *self.0.lock();
        state.id(from)?;
        state.change_name(|| NameChange::Rename(from.to_owned(), to.to_owned()))
    }

    fn remove(&self, name: &str) -> io::Result<()> {
        let state = &mut *self.0.lock();
        state.id(name)?;
        state.change_name(|| NameChange::Remove(name.to_owned()))
    }

    fn sync_names(&self) -> io::Result<()> {
        let state = &mut *self.0.lock();
        state.operate()?;
        let permille = state.faults.name_error_permille;
        if state.chance(permille) {
            return Err(error("injected: sync of directory"));
        }
        for change in std::mem::take(&mut state.name_changes) {
            change.apply(&mut state.durable_names);
        }
        Ok(())
    }
}

struct Handle {
    disk: FaultyDisk,
    id: usize,
    life: u64,
}

impl Handle {
    fn with<T>(&self, f: impl FnOnce(&mut State) -> io::Result<T>) -> io::Result<T> {
        let state = &mut *self.disk.0.lock();
        match state.life == self.life {
            true => f(state),
            false => Err(error("a handle from before the crash")),
        }
    }
}

impl DiskFile for Handle {
    fn write_at(&mut self, at: u64, bytes: &[u8]) -> io::Result<()> {
        self.with(|state| {
            let at = at as usize;
            let within = state.files[self.id].content.len().checked_sub(at).expect("no holes");
            let mut result = state.operate();
            let mut n = bytes.len();
            if result.is_err() && !state.files.is_empty() && state.power_left == Some(0) {
                // The moment of the cut is somewhere within: as with a real system call, an error means not all.
                n = state.below(n as u64) as usize;
            }
            let permille = state.faults.write_error_permille;
            if result.is_ok() && state.chance(permille) {
                n = state.below(n as u64) as usize;
                result = Err(error("injected: write"));
            }
            if let Some(capacity) = state.faults.capacity_bytes {
                let room = capacity.saturating_sub(state.used()) as usize + within;
                if n > room {
                    n = room;
                    result = Err(ErrorKind::StorageFull.into());
                }
            }
            let file = &mut state.files[self.id];
            file.content.resize(file.content.len().max(at + n), 0);
            file.content[at..at + n].copy_from_slice(&bytes[..n]);
            file.dirty.push(at..at + n);
            result
        })
    }

    fn sync(&mut self) -> io::Result<()> {
        self.with(|state| {
            state.operate()?;
            let permille = state.faults.sync_error_permille;
            if state.chance(permille) {
                state.write_some(self.id);
                return Err(error("injected: sync"));
            }
            let file = &mut state.files[self.id];
            file.durable.resize(file.content.len(), 0);
            for range in std::mem::take(&mut file.dirty) {
                let end = range.end.min(file.content.len());
                if range.start < end {
                    file.durable[range.start..end].copy_from_slice(&file.content[range.start..end]);
                }
            }
            Ok(())
        })
    }

    fn set_len(&mut self, len: u64) -> io::Result<()> {
        self.with(|state| {
            state.operate()?;
            state.files[self.id].content.resize(len as usize, 0);
            Ok(())
        })
    }
}
