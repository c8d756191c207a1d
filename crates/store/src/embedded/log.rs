//! The write-ahead log: numbered segments of frames, one frame per group commit.
//!
//! In: frames to append. Out: durable, refused, or unknown; and at start, all frames that count.
//!
//! What must hold: a segment is never appended to after anything about it failed, nor after the attempt to begin
//! its successor. The successor's header says how many bytes of it count. So a failed sync, a full disk and a torn
//! tail are all one case: go on in a new segment, whose header cuts the bad end off.

use super::disk::{Disk, DiskFile};
use super::format::{Frame, FrameWriter, HEADER_LEN, Header, Kind, Record};
use crate::contract::{Error, Result, Revision};
use parking_lot::Mutex;
use std::collections::VecDeque;
use std::hash::{BuildHasher, RandomState};
use std::io::{self, Read};
use std::sync::Arc;

pub(crate) struct Log {
    disk: Arc<dyn Disk>,
    segment_bytes_max: u64,
    active: Option<Active>,
    /// The end of the last segment that counts.
    good_len: u64,
    last: Revision,
    segments: Arc<Segments>,
    /// The last write failed.
    failing: bool,
}

struct Active {
    file: Box<dyn DiskFile>,
    salt: u32,
    /// The end of the file. What lies between the last frame and here is zeros.
    reserved: u64,
}

/// The last segment as it was found.
struct Tail {
    name: String,
    good: Vec<u8>,
    salt: u32,
    /// Bytes of the file.
    len: u64,
    /// What is behind the good end isn't just reserved.
    torn: bool,
    sealed: bool,
}

/// What lies on disk; shared with the checkpointer, which removes from the front.
#[derive(Default)]
pub(crate) struct Segments(pub Mutex<VecDeque<Segment>>);

#[derive(Clone, Debug)]
pub(crate) struct Segment {
    pub number: u64,
    pub bytes: u64,
    /// The last revision in it.
    pub last: Revision,
}

/// Zeros written behind a frame that comes to the end of its file. Frames that fit in there change neither the file's
/// length nor its place on the disk, which spares each sync the file system's own journal.
const RESERVE: [u8; 256 * 1024] = [0; 256 * 1024];

/// Where a segment is begun.
const TEMPORARY: &str = "segment.tmp";

pub(crate) fn segment_name(number: u64) -> String {
    format!("{number:016x}.log")
}

pub(crate) fn segment_number(name: &str) -> Option<u64> {
    u64::from_str_radix(name.strip_suffix(".log")?, 16).ok()
}

pub(crate) fn random_salt() -> u32 {
    RandomState::new().hash_one(0u8) as u32
}

impl Log {
    /// Reads all segments from `first` on, gives each frame's records to `replay`, and prepares for appending.
    /// Gives the log and the next revision to hand out.
    pub(crate) fn open(
        disk: Arc<dyn Disk>,
        segment_bytes_max: u64,
        first: u64,
        base: Revision,
        mut replay: impl FnMut(Vec<Record>) -> Result<()>,
    ) -> Result<(Log, Revision)> {
        let mut found: Vec<u64> = names(&*disk)?.iter().filter_map(|n| segment_number(n)).collect();
        found.sort_unstable();
        found.retain(|n| *n >= first);
        if found.iter().zip(first..).any(|(have, want)| *have != want) || (found.is_empty() && base > Revision(0)) {
            return Err(Error::Corrupt(format!("a log segment is missing; have {found:x?}, need all from {first:x}")));
        }
        let read = |name: &str, bytes_max: u64| {
            let mut bytes = Vec::new();
            let read = disk.read(name).and_then(|f| f.take(bytes_max).read_to_end(&mut bytes));
            read.map(|_| bytes).map_err(|e| unreadable(name, e))
        };
        // Headers first: each says how much of the segment before it counts.
        let mut headers = Vec::new();
        for number in &found {
            let name = segment_name(*number);
            match Header::decode(&read(&name, HEADER_LEN as u64)?) {
                Some(header) if header.kind == Kind::Segment && header.number == *number => headers.push(header),
                _ => return Err(Error::Corrupt(format!("{name}: the header is damaged"))),
            }
        }

        let mut next = Revision(base.0 + 1);
        let mut last = base;
        let mut segments = VecDeque::new();
        let mut tail = None;
        for (i, header) in headers.iter().enumerate() {
            let name = segment_name(header.number);
            let bytes = read(&name, u64::MAX)?;
            let successor = headers.get(i + 1);
            let mut at = HEADER_LEN;
            let mut segment_last = header.previous_last;
            let end = successor.map_or(bytes.len(), |s| s.previous_len as usize);
            let body = bytes.get(..end).ok_or_else(|| Error::Corrupt(format!("{name}: shorter than it was")))?;
            let mut torn = false;
            let mut sealed = false;
            while at < body.len() {
                let Some(frame) = Frame::decode(&body[at..], header.salt) else {
                    if successor.is_none() && body[at..].iter().all(|b| *b == 0) {
                        break;
                    }
                    // A write that a crash cut off is the last in the file. With an intact frame behind it, or a
                    // successor that counted on it, it is damage to what was acknowledged.
                    if successor.is_some() || Frame::find(&body[at..], header.salt).is_some() {
                        return Err(Error::Corrupt(format!("{name}: damaged at byte {at}")));
                    }
                    torn = true;
                    break;
                };
                let records: Option<Vec<Record>> = frame.records().collect();
                let records = records.ok_or_else(|| Error::Corrupt(format!("{name}: unknown record at byte {at}")))?;
                if frame.last < segment_last {
                    return Err(Error::Corrupt(format!("{name}: revisions go back at byte {at}")));
                }
                segment_last = frame.last;
                sealed = records.last() == Some(&Record::Seal);
                replay(records)?;
                at += frame.len;
            }
            if successor.is_some_and(|s| s.previous_last != segment_last) {
                return Err(Error::Corrupt(format!("{name}: ends at {segment_last:?}, which its successor denies")));
            }
            last = last.max(segment_last);
            next = next.max(header.first).max(Revision(last.0 + 1));
            segments.push_back(Segment { number: header.number, bytes: bytes.len() as u64, last: segment_last });
            if successor.is_none() {
                if torn {
                    tracing::warn!(segment = %name, good_len = at, "cut off a write that a crash left unfinished");
                }
                let (len, good) = (bytes.len() as u64, bytes[..at].to_vec());
                tail = Some(Tail { name, good, len, salt: header.salt, torn, sealed });
            }
        }

        let mut log = Log {
            disk,
            segment_bytes_max,
            active: None,
            good_len: 0,
            last,
            segments: Arc::new(Segments(Mutex::new(segments))),
            failing: false,
        };
        if let Some(tail) = tail {
            log.good_len = tail.good.len() as u64;
            log.active = log.resume(tail)?;
        }
        Ok((log, next))
    }

    /// The last segment, made ready for more.
    fn resume(&self, tail: Tail) -> Result<Option<Active>> {
        let Tail { name, good, len, salt, torn, sealed } = tail;
        if !sealed {
            // What a killed process wrote is readable, though its sync may have failed or not have happened: then it
            // is in memory only, and syncing it again may do nothing. Readers are about to see it; so write it anew.
            match self.rewrite(&name, &good) {
                Ok(file) => return Ok(Some(Active { file, salt, reserved: good.len() as u64 })),
                Err(error) => {
                    tracing::warn!(segment = %name, %error, "failed to rewrite; syncing what is there")
                }
            }
        }
        let synced = self.disk.reopen(&name).and_then(|mut file| {
            file.sync()?;
            self.disk.sync_names()?;
            Ok(file)
        });
        let file = synced.map_err(|e| unreadable(&name, e))?;
        // With bytes behind its good end, a segment has a successor that cuts them off.
        Ok((!torn).then_some(Active { file, salt, reserved: len }))
    }

    fn rewrite(&self, name: &str, bytes: &[u8]) -> io::Result<Box<dyn DiskFile>> {
        let mut file = self.disk.create(TEMPORARY)?;
        file.write_at(0, bytes)?;
        file.sync()?;
        self.disk.rename(TEMPORARY, name)?;
        self.disk.sync_names()?;
        Ok(file)
    }

    pub(crate) fn segments(&self) -> Arc<Segments> {
        self.segments.clone()
    }

    /// Makes a frame durable. `first`: its first revision (the next one to give out, when it has none); `last`: the
    /// latest revision once it is applied.
    ///
    /// Errors: [`Error::Unavailable`] when the frame is certain never to count, [`Error::Unknown`] otherwise.
    pub(crate) fn append(&mut self, frame: &mut FrameWriter, last: Revision, first: Revision) -> Result<()> {
        if self.active.is_some() && self.good_len >= self.segment_bytes_max {
            self.active = None;
        }
        if self.active.is_none() {
            self.begin_segment(first).map_err(|e| {
                self.fails(&e);
                Error::Unavailable(format!("begin a log segment: {e}"))
            })?;
        }
        let Some(active) = &mut self.active else {
            return Err(Error::Closed);
        };
        let bytes = frame.finish(last, active.salt);
        let written = active.file.write_at(self.good_len, bytes);
        let whole = written.is_ok();
        // Zeros at its end may stand there already, reserved.
        let may_count = whole || bytes.last() == Some(&0);
        let end = self.good_len + bytes.len() as u64;
        if whole && end > active.reserved {
            // Where there is no room for it, frames go without.
            let more = RESERVE.len().min(self.segment_bytes_max.saturating_sub(end) as usize);
            let reserved = active.file.write_at(end, &RESERVE[..more]).is_ok();
            active.reserved = if reserved { end + more as u64 } else { end };
        }
        let Err(error) = written.and_then(|()| active.file.sync()) else {
            self.good_len = end;
            self.last = last;
            if std::mem::take(&mut self.failing) {
                tracing::warn!("the disk takes writes again");
            }
            if let Some(segment) = self.segments.0.lock().back_mut() {
                segment.bytes = self.good_len;
                segment.last = last;
            }
            return Ok(());
        };
        // Room first: on a full disk the new segment may need what the failed write took.
        let cut = active.file.set_len(self.good_len).and_then(|()| active.file.sync()).is_ok();
        self.active = None;
        self.fails(&error);
        // Revisions of the failed frame are left out for good.
        let begun = self.begin_segment(Revision(first.0.max(last.0 + 1))).is_ok();
        // A frame that isn't there to its last byte can't count in any case.
        match !may_count || cut || begun {
            true => Err(Error::Unavailable(error.to_string())),
            false => Err(Error::Unknown(error.to_string())),
        }
    }

    /// Goes on in a new segment, whose first revision will be `next` at the earliest. One that nothing was written to
    /// yet is as good: who rotates again and again, because something else fails, leaves no trail of segments.
    pub(crate) fn rotate(&mut self, next: Revision) -> Result<()> {
        if self.active.is_some() && self.good_len == HEADER_LEN as u64 {
            return Ok(());
        }
        self.active = None;
        self.begin_segment(next).map_err(|e| {
            self.fails(&e);
            Error::Unavailable(format!("begin a log segment: {e}"))
        })
    }

    /// Said once, not for each of the writes that are refused meanwhile.
    fn fails(&mut self, error: &io::Error) {
        if !std::mem::replace(&mut self.failing, true) {
            tracing::error!(%error, "failed to make writes durable; refusing them until the disk takes them");
        }
    }

    fn begin_segment(&mut self, next: Revision) -> io::Result<()> {
        let (number, previous_last) = match self.segments.0.lock().back() {
            Some(segment) => (segment.number + 1, segment.last),
            None => (1, self.last),
        };
        let salt = random_salt();
        let header =
            Header { kind: Kind::Segment, number, previous_len: self.good_len, previous_last, first: next, salt };
        let name = segment_name(number);
        // Written aside, so that a segment that has its name has its header, and damage is never mistaken for a crash
        // in between.
        match self.rewrite(&name, &header.encode()) {
            Ok(file) => {
                self.good_len = HEADER_LEN as u64;
                self.active = Some(Active { file, salt, reserved: self.good_len });
                let segment = Segment { number, bytes: self.good_len, last: previous_last };
                self.segments.0.lock().push_back(segment);
                Ok(())
            }
            Err(error) => {
                let _ = self.disk.remove(TEMPORARY);
                let _ = self.disk.remove(&name);
                Err(error)
            }
        }
    }
}

pub(crate) fn names(disk: &dyn Disk) -> Result<Vec<String>> {
    disk.names().map_err(|e| unreadable("the data directory", e))
}

pub(crate) fn unreadable(what: &str, error: io::Error) -> Error {
    Error::Unavailable(format!("{what}: {error}"))
}
