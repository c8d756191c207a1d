//! The bytes on disk. Pure: encodes to and decodes from byte slices.
//!
//! A log segment is a header and then frames; a snapshot is the same with another kind of header. A frame is what
//! one group commit wrote: its records are on disk all or none. All numbers are little-endian.
//!
//! ```text
//! header  magic[8] format:u32 kind:u32 number:u64 previous_len:u64 previous_last:u64 first:u64 salt:u32 crc:u32
//! frame   magic[4] payload_len:u32 last:u64 crc:u32 payload
//! payload a record after the other
//! record  1 put     revision create_revision expires_unix_ms(0: never) key value
//!         2 delete  revision key
//!         3 compact revision
//!         4 seal
//!         5 end     number of puts
//! ```
//! A frame's checksum is seeded with its file's salt. So bytes inside of a stored value that look like a frame, or
//! blocks of a deleted file, can't be taken for one.

use crate::contract::Revision;
use std::io::{self, Read};

/// The newest format that this program reads and writes.
pub(crate) const FORMAT: u32 = 1;
pub(crate) const HEADER_LEN: usize = 56;
pub(crate) const FRAME_HEADER_LEN: usize = 20;
const HEADER_MAGIC: [u8; 8] = *b"\xffSKIFFDB";
/// No valid UTF-8 contains it.
const FRAME_MAGIC: [u8; 4] = *b"\xffFr\xfe";

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    Segment = 1,
    Snapshot = 2,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Header {
    pub kind: Kind,
    /// Of the segment, in the file's name too. For a snapshot: the first segment that is needed with it.
    pub number: u64,
    /// How many bytes of the previous segment count. What lies behind was refused or torn and must be ignored.
    pub previous_len: u64,
    /// The last revision in those bytes.
    pub previous_last: Revision,
    /// The next revision to give out is at least this. For a snapshot: the revision that it shows.
    pub first: Revision,
    pub salt: u32,
}

impl Header {
    pub(crate) fn encode(&self) -> Vec<u8> {
        let mut out = HEADER_MAGIC.to_vec();
        out.extend(FORMAT.to_le_bytes());
        out.extend((self.kind as u32).to_le_bytes());
        for n in [self.number, self.previous_len, self.previous_last.0, self.first.0] {
            out.extend(n.to_le_bytes());
        }
        out.extend(self.salt.to_le_bytes());
        // The checksum's own four bytes follow.
        out.extend(crc32fast::hash(&out).to_le_bytes());
        out
    }

    /// `None`: not a header, or one that wasn't written to its end.
    pub(crate) fn decode(bytes: &[u8]) -> Option<Header> {
        let mut input = Input(bytes.get(..HEADER_LEN)?);
        let crc = crc32fast::hash(&bytes[..HEADER_LEN - 4]);
        if input.take(8)? != HEADER_MAGIC || input.u32()? != FORMAT {
            return None;
        }
        let kind = match input.u32()? {
            1 => Kind::Segment,
            2 => Kind::Snapshot,
            _ => return None,
        };
        let [number, previous_len, previous_last, first] = [input.u64()?, input.u64()?, input.u64()?, input.u64()?];
        let salt = input.u32()?;
        let header =
            Header { kind, number, previous_len, previous_last: Revision(previous_last), first: Revision(first), salt };
        (input.u32()? == crc).then_some(header)
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Record<'a> {
    Put {
        revision: Revision,
        create_revision: Revision,
        expires_unix_ms: u64,
        key: &'a str,
        value: &'a [u8],
    },
    Delete {
        revision: Revision,
        key: &'a str,
    },
    /// History up to and including this revision was dropped.
    Compact {
        revision: Revision,
    },
    /// The store was shut down in an orderly manner: nothing before this can be a torn write.
    Seal,
    /// A snapshot's last record.
    End {
        puts: u64,
    },
}

/// A frame under construction. Reused, so that committing allocates nothing.
#[derive(Default)]
pub(crate) struct FrameWriter {
    buffer: Vec<u8>,
}

impl FrameWriter {
    pub(crate) fn is_empty(&self) -> bool {
        self.buffer.len() <= FRAME_HEADER_LEN
    }

    pub(crate) fn len(&self) -> usize {
        self.buffer.len()
    }

    pub(crate) fn clear(&mut self) {
        self.buffer.clear();
        self.buffer.shrink_to(1 << 20);
    }

    pub(crate) fn push(&mut self, record: Record) {
        if self.buffer.is_empty() {
            self.buffer.resize(FRAME_HEADER_LEN, 0);
        }
        let out = &mut self.buffer;
        let text = |out: &mut Vec<u8>, bytes: &[u8]| {
            out.extend((bytes.len() as u32).to_le_bytes());
            out.extend(bytes);
        };
        match record {
            Record::Put { revision, create_revision, expires_unix_ms, key, value } => {
                out.push(1);
                for n in [revision.0, create_revision.0, expires_unix_ms] {
                    out.extend(n.to_le_bytes());
                }
                text(out, key.as_bytes());
                text(out, value);
            }
            Record::Delete { revision, key } => {
                out.push(2);
                out.extend(revision.0.to_le_bytes());
                text(out, key.as_bytes());
            }
            Record::Compact { revision } => {
                out.push(3);
                out.extend(revision.0.to_le_bytes());
            }
            Record::Seal => out.push(4),
            Record::End { puts } => {
                out.push(5);
                out.extend(puts.to_le_bytes());
            }
        }
    }

    /// The frame's bytes. `last`: the latest revision once this frame is applied.
    pub(crate) fn finish(&mut self, last: Revision, salt: u32) -> &[u8] {
        if self.buffer.is_empty() {
            self.buffer.resize(FRAME_HEADER_LEN, 0);
        }
        let payload = self.buffer.len() - FRAME_HEADER_LEN;
        self.buffer[..4].copy_from_slice(&FRAME_MAGIC);
        self.buffer[4..8].copy_from_slice(&(payload as u32).to_le_bytes());
        self.buffer[8..16].copy_from_slice(&last.0.to_le_bytes());
        let crc = frame_crc(salt, &self.buffer[4..16], &self.buffer[FRAME_HEADER_LEN..]);
        self.buffer[16..20].copy_from_slice(&crc.to_le_bytes());
        &self.buffer
    }
}

fn frame_crc(salt: u32, head: &[u8], payload: &[u8]) -> u32 {
    let mut hasher = crc32fast::Hasher::new_with_initial(salt);
    hasher.update(head);
    hasher.update(payload);
    hasher.finalize()
}

pub(crate) struct Frame<'a> {
    pub last: Revision,
    payload: &'a [u8],
    /// With its header.
    pub len: usize,
}

impl<'a> Frame<'a> {
    /// The intact frame that `bytes` begins with.
    pub(crate) fn decode(bytes: &'a [u8], salt: u32) -> Option<Frame<'a>> {
        let mut input = Input(bytes);
        if input.take(4)? != FRAME_MAGIC {
            return None;
        }
        let payload_len = input.u32()? as usize;
        let last = Revision(input.u64()?);
        let crc = input.u32()?;
        let payload = input.take(payload_len)?;
        let intact = frame_crc(salt, &bytes[4..16], payload) == crc;
        intact.then_some(Frame { last, payload, len: FRAME_HEADER_LEN + payload_len })
    }

    /// Appends one frame's bytes from `input` to `into`, not checked yet, and says how many (0 at the end).
    pub(crate) fn read<R: Read>(input: &mut R, into: &mut Vec<u8>) -> io::Result<usize> {
        let head = input.by_ref().take(FRAME_HEADER_LEN as u64).read_to_end(into)?;
        let Some(len) = into.get(4..8).and_then(|b| b.try_into().ok()).map(u32::from_le_bytes) else {
            return Ok(head);
        };
        // Grows with what is there, not with what a damaged length claims.
        Ok(head + input.by_ref().take(len as u64).read_to_end(into)?)
    }

    /// `None` in place of a record: the checksum holds but the content has no meaning, so a bug wrote it.
    pub(crate) fn records(&self) -> impl Iterator<Item = Option<Record<'a>>> {
        let mut input = Input(self.payload);
        std::iter::from_fn(move || {
            if input.0.is_empty() {
                return None;
            }
            let record = input.record();
            if record.is_none() {
                input.0 = &[];
            }
            Some(record)
        })
    }

    /// Where in `bytes` the first intact frame begins.
    pub(crate) fn find(bytes: &[u8], salt: u32) -> Option<usize> {
        let starts = bytes.windows(FRAME_MAGIC.len()).enumerate().filter(|(_, w)| *w == FRAME_MAGIC);
        starts.map(|(i, _)| i).find(|i| Frame::decode(&bytes[*i..], salt).is_some())
    }
}

struct Input<'a>(&'a [u8]);

impl<'a> Input<'a> {
    fn take(&mut self, n: usize) -> Option<&'a [u8]> {
        let (head, rest) = self.0.split_at_checked(n)?;
        self.0 = rest;
        Some(head)
    }
    fn u32(&mut self) -> Option<u32> {
        Some(u32::from_le_bytes(self.take(4)?.try_into().ok()?))
    }
    fn u64(&mut self) -> Option<u64> {
        Some(u64::from_le_bytes(self.take(8)?.try_into().ok()?))
    }
    fn bytes(&mut self) -> Option<&'a [u8]> {
        let n = self.u32()? as usize;
        self.take(n)
    }
    fn key(&mut self) -> Option<&'a str> {
        std::str::from_utf8(self.bytes()?).ok()
    }
    fn record(&mut self) -> Option<Record<'a>> {
        Some(match self.take(1)?[0] {
            1 => Record::Put {
                revision: Revision(self.u64()?),
                create_revision: Revision(self.u64()?),
                expires_unix_ms: self.u64()?,
                key: self.key()?,
                value: self.bytes()?,
            },
            2 => Record::Delete { revision: Revision(self.u64()?), key: self.key()? },
            3 => Record::Compact { revision: Revision(self.u64()?) },
            4 => Record::Seal,
            5 => Record::End { puts: self.u64()? },
            _ => return None,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn records() -> [Record<'static>; 5] {
        let revision = Revision(7);
        [
            Record::Put { revision, create_revision: Revision(3), expires_unix_ms: 9, key: "/a/b", value: b"v\xff" },
            Record::Delete { revision, key: "/a/c" },
            Record::Compact { revision },
            Record::Seal,
            Record::End { puts: 4 },
        ]
    }

    #[test]
    fn frames_round_trip() {
        let mut writer = FrameWriter::default();
        for record in records() {
            writer.push(record);
        }
        let bytes = writer.finish(Revision(7), 5).to_vec();
        let frame = Frame::decode(&bytes, 5).expect("intact");
        assert_eq!((frame.last, frame.len), (Revision(7), bytes.len()));
        assert_eq!(frame.records().map(|r| r.expect("known")).collect::<Vec<_>>(), records());
        assert!(Frame::decode(&bytes, 6).is_none(), "another file's salt");
    }

    #[test]
    fn any_flipped_bit_and_any_missing_tail_is_seen() {
        let mut writer = FrameWriter::default();
        records().into_iter().for_each(|r| writer.push(r));
        let bytes = writer.finish(Revision(7), 5).to_vec();
        for i in 0..bytes.len() {
            assert!(Frame::decode(&bytes[..i], 5).is_none(), "cut at {i}");
            for bit in 0..8 {
                let mut bad = bytes.clone();
                bad[i] ^= 1 << bit;
                assert!(Frame::decode(&bad, 5).is_none(), "bit {bit} of byte {i}");
            }
        }
    }

    #[test]
    fn headers_round_trip() {
        let header = Header {
            kind: Kind::Segment,
            number: 3,
            previous_len: 77,
            previous_last: Revision(8),
            first: Revision(10),
            salt: 0xdead_beef,
        };
        let bytes = header.encode();
        assert_eq!(bytes.len(), HEADER_LEN);
        assert_eq!(Header::decode(&bytes), Some(header));
        for i in 0..bytes.len() {
            let mut bad = bytes.clone();
            bad[i] ^= 1;
            assert_eq!(Header::decode(&bad), None, "byte {i}");
            assert_eq!(Header::decode(&bytes[..i]), None);
        }
    }

    #[test]
    fn finds_a_frame_behind_garbage() {
        let mut writer = FrameWriter::default();
        writer.push(Record::Seal);
        let mut bytes = b"garbage\xffFr\xfe more".to_vec();
        let at = bytes.len();
        bytes.extend(writer.finish(Revision(1), 1));
        assert_eq!(Frame::find(&bytes, 1), Some(at));
        assert_eq!(Frame::find(&bytes, 2), None);
    }
}
