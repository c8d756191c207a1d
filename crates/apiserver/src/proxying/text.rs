//! The text of a page as it arrives, gzipped or not, in steps whose work and memory are bounded: what comes from a pod
//! is anybody's, and a small body can inflate a thousandfold.

use bytes::{Buf, Bytes};
use flate2::bufread::MultiGzDecoder;
use std::io::{self, BufRead, ErrorKind, Read};

/// Compressed bytes that one step looks at.
const COMPRESSED_BYTES_MAX: usize = 4 * 1024;
/// Text that one step gives. As much as a step's input usually becomes, so that nothing waits inside the decoder for
/// more to arrive.
pub const TEXT_BYTES_MAX: usize = 64 * 1024;

/// What a step came to.
#[derive(Debug, PartialEq)]
pub enum Step {
    /// Perhaps none; there may be more in what has arrived.
    Text(Bytes),
    /// All that has arrived is used up.
    More,
    /// The page is complete.
    End,
}

/// A body on its way. [`Text::arrive`] and [`Text::end`] say what came of it, after each [`Step::More`].
pub enum Text {
    Plain(Arrived),
    Zipped(Box<MultiGzDecoder<Arrived>>),
}

/// Bytes that have arrived and wait for their step.
#[derive(Debug, Default)]
pub struct Arrived {
    bytes: Bytes,
    /// Nothing comes any more.
    ended: bool,
    /// Something has come. Without, a body is empty rather than cut off.
    any: bool,
    /// What this step may still look at.
    open: usize,
}

impl Text {
    pub fn new(zipped: bool) -> Text {
        match zipped {
            true => Text::Zipped(Box::new(MultiGzDecoder::new(Arrived::default()))),
            false => Text::Plain(Arrived::default()),
        }
    }

    fn arrived(&mut self) -> &mut Arrived {
        match self {
            Text::Plain(arrived) => arrived,
            Text::Zipped(decoder) => decoder.get_mut(),
        }
    }

    /// The next bytes of the body.
    pub fn arrive(&mut self, bytes: Bytes) {
        let arrived = self.arrived();
        arrived.any |= !bytes.is_empty();
        arrived.bytes = bytes;
    }

    /// The body has ended.
    pub fn end(&mut self) {
        self.arrived().ended = true;
    }

    /// A piece of text out of what has arrived. Errors: it is no gzip, is damaged, or ended too early.
    pub fn step(&mut self) -> io::Result<Step> {
        let decoder = match self {
            Text::Plain(arrived) => {
                return Ok(match (arrived.bytes.len(), arrived.ended) {
                    (0, true) => Step::End,
                    (0, false) => Step::More,
                    (some, _) => Step::Text(arrived.bytes.split_to(some.min(TEXT_BYTES_MAX))),
                });
            }
            Text::Zipped(decoder) => decoder,
        };
        let arrived = decoder.get_mut();
        if arrived.ended && !arrived.any {
            return Ok(Step::End);
        }
        if arrived.bytes.is_empty() && !arrived.ended {
            return Ok(Step::More);
        }
        arrived.open = COMPRESSED_BYTES_MAX;
        let mut text = vec![0; TEXT_BYTES_MAX];
        match decoder.read(&mut text) {
            Ok(0) => Ok(Step::End),
            Ok(n) => {
                text.truncate(n);
                Ok(Step::Text(text.into()))
            }
            // The step's share is used up, and no text came of it.
            Err(e) if e.kind() == ErrorKind::WouldBlock => Ok(Step::Text(Bytes::new())),
            Err(e) => Err(e),
        }
    }
}

/// The decoder is told to come back where there is nothing now, and goes on from there.
impl BufRead for Arrived {
    fn fill_buf(&mut self) -> io::Result<&[u8]> {
        let open = self.bytes.len().min(self.open);
        let at_the_end = self.ended && self.bytes.is_empty();
        if open == 0 && !at_the_end {
            return Err(ErrorKind::WouldBlock.into());
        }
        Ok(self.bytes.get(..open).unwrap_or_default())
    }

    fn consume(&mut self, n: usize) {
        let n = n.min(self.bytes.len());
        self.open = self.open.saturating_sub(n);
        self.bytes.advance(n);
    }
}

impl Read for Arrived {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        let from = self.fill_buf()?;
        let n = from.len().min(into.len());
        into[..n].copy_from_slice(&from[..n]);
        self.consume(n);
        Ok(n)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write;

    fn zip(text: &[u8]) -> Vec<u8> {
        let mut z = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::best());
        z.write_all(text).unwrap();
        z.finish().unwrap()
    }

    /// All text of a body that arrives in pieces, the largest piece of it, and in how many steps it came.
    fn all(zipped: bool, body: &[u8], piece: usize) -> io::Result<(Vec<u8>, usize, usize)> {
        let mut text = Text::new(zipped);
        let mut pieces = body.chunks(piece);
        let (mut out, mut largest, mut steps) = (Vec::new(), 0, 0);
        loop {
            match text.step()? {
                Step::Text(bytes) => {
                    steps += 1;
                    largest = largest.max(bytes.len());
                    out.extend_from_slice(&bytes);
                }
                Step::More => match pieces.next() {
                    Some(p) => text.arrive(Bytes::copy_from_slice(p)),
                    None => text.end(),
                },
                Step::End => return Ok((out, largest, steps)),
            }
        }
    }

    #[test]
    fn text_is_the_same_however_it_arrives() {
        let page: Vec<u8> = (0..3_000).flat_map(|i| format!("<a href=/{i}>{}</a>\n", i * i).into_bytes()).collect();
        let zipped = zip(&page);
        // As servers write that compress piece by piece: one file behind the other.
        let two = [zip(&page[..999]), zip(b""), zip(&page[999..])].concat();
        for piece in [1, 7, 4_096, 1 << 20] {
            assert!(all(false, &page, piece).unwrap().0 == page, "plain by {piece}");
            assert!(all(true, &zipped, piece).unwrap().0 == page, "zipped by {piece}");
            assert!(all(true, &two, piece).unwrap().0 == page, "two members by {piece}");
            assert!(all(true, &zipped[..zipped.len() - 1], piece).is_err(), "cut off by {piece}");
            assert!(all(true, b"<p>no gzip</p>", piece).is_err(), "by {piece}");
        }
        for zipped in [false, true] {
            assert_eq!(all(zipped, b"", 1).unwrap(), (Vec::new(), 0, 0), "an empty body");
        }
    }

    #[test]
    fn a_bomb_goes_off_in_small_pieces() {
        const SIZE: usize = 32 << 20;
        let bomb = zip(&vec![b'x'; SIZE]);
        assert!(bomb.len() < SIZE / 1_000);
        let (text, largest, steps) = all(true, &bomb, bomb.len()).unwrap();
        assert_eq!(text.len(), SIZE);
        assert!(largest <= TEXT_BYTES_MAX && steps >= SIZE / TEXT_BYTES_MAX, "{largest} {steps}");
        // One that gives nothing at all: a step ends all the same.
        let nothing = zip(b"").repeat(20_000);
        let (text, _, steps) = all(true, &nothing, nothing.len()).unwrap();
        assert!(text.is_empty() && steps >= nothing.len() / COMPRESSED_BYTES_MAX - 1, "{steps}");
    }
}
