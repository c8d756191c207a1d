//! Snapshots: all keys as of one revision, so that the log before it can go.
//!
//! Written aside, synced, renamed. A snapshot that has its name is whole; one that isn't whole is damage.

use super::disk::Disk;
use super::format::{Frame, FrameWriter, HEADER_LEN, Header, Kind, Record};
use super::log::{names, random_salt, unreadable};
use crate::contract::{Entry, Error, Result, Revision};
use crate::index::Index;
use bytes::Bytes;
use std::io::{BufReader, Read};

const TEMPORARY: &str = "snapshot.tmp";
const FRAME_BYTES: usize = 256 * 1024;
/// Synced this often, so that a commit's own sync never waits behind a large one.
const SYNC_BYTES: u64 = 4 << 20;

pub(crate) struct Snapshot {
    /// What it shows.
    pub revision: Revision,
    /// The first log segment that is needed on top.
    pub first_segment: u64,
    pub bytes: u64,
}

fn name(revision: Revision) -> String {
    format!("{:016x}.snapshot", revision.0)
}

fn revision_of(name: &str) -> Option<Revision> {
    u64::from_str_radix(name.strip_suffix(".snapshot")?, 16).ok().map(Revision)
}

/// Writes the state as of `revision`.
pub(crate) fn write(
    disk: &dyn Disk,
    index: &Index,
    revision: Revision,
    first_segment: u64,
    expires_unix_ms: impl Fn(Revision) -> u64,
    sealed: impl Fn(&Entry) -> Result<Option<Bytes>>,
) -> Result<Snapshot> {
    let result = write_aside(disk, index, revision, first_segment, expires_unix_ms, sealed);
    match &result {
        Ok(_) => {
            let finish = disk.rename(TEMPORARY, &name(revision)).and_then(|()| disk.sync_names());
            finish.map_err(|e| unreadable(&name(revision), e))?;
        }
        Err(_) => drop(disk.remove(TEMPORARY)),
    }
    result
}

fn write_aside(
    disk: &dyn Disk,
    index: &Index,
    revision: Revision,
    first_segment: u64,
    expires_unix_ms: impl Fn(Revision) -> u64,
    sealed: impl Fn(&Entry) -> Result<Option<Bytes>>,
) -> Result<Snapshot> {
    let failed = |e| unreadable(TEMPORARY, e);
    let salt = random_salt();
    let mut file = disk.create(TEMPORARY).map_err(failed)?;
    let header = Header {
        kind: Kind::Snapshot,
        number: first_segment,
        previous_len: 0,
        previous_last: Revision(0),
        first: revision,
        salt,
    };
    file.write_at(0, &header.encode()).map_err(failed)?;
    let mut bytes = HEADER_LEN as u64;
    let mut unsynced = 0;
    let mut puts = 0;
    let mut frame = FrameWriter::default();
    index.export(revision, |entries| {
        if index.is_closed() {
            return Err(Error::Closed);
        }
        for entry in entries {
            let sealed = sealed(&entry)?;
            frame.push(Record::Put {
                revision: entry.mod_revision,
                create_revision: entry.create_revision,
                expires_unix_ms: expires_unix_ms(entry.mod_revision),
                key: &entry.key,
                value: sealed.as_ref().unwrap_or(&entry.value),
            });
            puts += 1;
            if frame.len() >= FRAME_BYTES {
                let frame_bytes = frame.finish(revision, salt);
                file.write_at(bytes, frame_bytes).map_err(failed)?;
                bytes += frame_bytes.len() as u64;
                unsynced += frame_bytes.len() as u64;
                frame.clear();
                if unsynced >= SYNC_BYTES {
                    file.sync().map_err(failed)?;
                    unsynced = 0;
                }
            }
        }
        Ok::<(), Error>(())
    })?;
    frame.push(Record::End { puts });
    let frame_bytes = frame.finish(revision, salt);
    file.write_at(bytes, frame_bytes).map_err(failed)?;
    bytes += frame_bytes.len() as u64;
    file.sync().map_err(failed)?;
    Ok(Snapshot { revision, first_segment, bytes })
}

/// Reads the newest snapshot, if there is one, and gives its records to `load`.
pub(crate) fn read(disk: &dyn Disk, mut load: impl FnMut(Record)) -> Result<Option<Snapshot>> {
    let Some(revision) = names(disk)?.iter().filter_map(|n| revision_of(n)).max() else {
        return Ok(None);
    };
    let name = name(revision);
    let damaged = |what: &str| Error::Corrupt(format!("{name}: {what}"));
    let failed = |e| unreadable(&name, e);
    let mut file = BufReader::with_capacity(1 << 20, disk.read(&name).map_err(failed)?);
    let mut bytes = vec![0; HEADER_LEN];
    file.read_exact(&mut bytes).map_err(|_| damaged("the header is cut off"))?;
    let header = Header::decode(&bytes)
        .filter(|h| h.kind == Kind::Snapshot && h.first == revision)
        .ok_or_else(|| damaged("the header is damaged"))?;
    let mut total = HEADER_LEN as u64;
    let mut puts = 0;
    loop {
        bytes.clear();
        if Frame::read(&mut file, &mut bytes).map_err(failed)? == 0 {
            return Err(damaged("the end is missing"));
        }
        let frame = Frame::decode(&bytes, header.salt).ok_or_else(|| damaged("a frame is damaged"))?;
        total += frame.len as u64;
        for record in frame.records() {
            match record.ok_or_else(|| damaged("unknown record"))? {
                Record::End { puts: want } if want == puts => {
                    return Ok(Some(Snapshot { revision, first_segment: header.number, bytes: total }));
                }
                put @ Record::Put { .. } => {
                    puts += 1;
                    load(put);
                }
                _ => return Err(damaged("record out of place")),
            }
        }
    }
}

/// Removes older snapshots.
pub(crate) fn remove_superseded(disk: &dyn Disk, by: Revision) -> Result<()> {
    remove_where(disk, |name| revision_of(name).is_some_and(|r| r < by))
}

/// Removes what a crash left half done. Only while nothing else is at work.
pub(crate) fn remove_unfinished(disk: &dyn Disk) -> Result<()> {
    remove_where(disk, |name| name.ends_with(".tmp"))
}

fn remove_where(disk: &dyn Disk, unneeded: impl Fn(&str) -> bool) -> Result<()> {
    for name in names(disk)?.iter().filter(|n| unneeded(n)) {
        disk.remove(name).map_err(|e| unreadable(name, e))?;
    }
    Ok(())
}
