//! Header blocks: name-value pairs, compressed with zlib over the life of the connection, with SPDY/3's dictionary.

use super::frame::FrameError;
use flate2::{Compress, Compression, Decompress, FlushCompress, FlushDecompress, Status};
use std::collections::HashMap;
use std::sync::LazyLock;

const BLOCK_MAX: usize = 1 << 20;

/// Section 2.6.10.1 of the draft: words with their lengths, then text without.
static DICTIONARY: LazyLock<Vec<u8>> = LazyLock::new(|| {
    let words = "options head post put delete trace accept accept-charset accept-encoding accept-language accept-ranges age allow authorization cache-control connection content-base content-encoding \
        content-language content-length content-location content-md5 content-range content-type date etag expect expires from host if-match if-modified-since if-none-match if-range \
        if-unmodified-since last-modified location max-forwards pragma proxy-authenticate proxy-authorization range referer retry-after server te trailer transfer-encoding upgrade user-agent vary via \
        warning www-authenticate method get status 200_OK version HTTP/1.1 url public set-cookie keep-alive origin";
    let mut out = Vec::new();
    for word in words.split_whitespace() {
        let word = word.replace('_', " ");
        out.extend_from_slice(&(word.len() as u32).to_be_bytes());
        out.extend_from_slice(word.as_bytes());
    }
    out.extend_from_slice(
        b"100101201202205206300302303304305306307402405406407408409410411412413414415416417502504505203 Non-Authoritative Information204 No Content301 Moved Permanently400 Bad Request401 Unauthorized403 Forbidden404 Not Found500 Internal Server Error501 Not Implemented503 Service UnavailableJan Feb Mar Apr May Jun Jul Aug Sept Oct Nov Dec 00:00:00 Mon, Tue, Wed, Thu, Fri, Sat, Sun, GMTchunked,text/html,image/png,image/jpg,image/gif,application/xml,application/xhtml+xml,text/plain,text/javascript,publicprivatemax-age=gzip,deflate,sdchcharset=utf-8charset=iso-8859-1,utf-,*,enq=0.",
    );
    out
});

pub struct Packer(Compress, bool);

impl Default for Packer {
    fn default() -> Packer {
        Packer(Compress::new(Compression::fast(), true), false)
    }
}

impl Packer {
    pub fn pack(&mut self, headers: &HashMap<String, String>) -> Result<Vec<u8>, FrameError> {
        if !std::mem::replace(&mut self.1, true) {
            self.0.set_dictionary(&DICTIONARY).map_err(|_| FrameError::Headers("dictionary"))?;
        }
        let mut plain = (headers.len() as u32).to_be_bytes().to_vec();
        for (name, value) in headers {
            for text in [name.to_ascii_lowercase().as_bytes(), value.as_bytes()] {
                plain.extend_from_slice(&(text.len() as u32).to_be_bytes());
                plain.extend_from_slice(text);
            }
        }
        let mut out = Vec::with_capacity(plain.len() + 64);
        let begin = self.0.total_in();
        loop {
            let used = (self.0.total_in() - begin) as usize;
            self.0
                .compress_vec(&plain[used..], &mut out, FlushCompress::Sync)
                .map_err(|_| FrameError::Headers("compress"))?;
            // A flush is complete once it leaves room in the output.
            if out.len() < out.capacity() {
                return Ok(out);
            }
            out.reserve(256);
        }
    }
}

pub struct Unpacker(Decompress);

impl Default for Unpacker {
    fn default() -> Unpacker {
        Unpacker(Decompress::new(true))
    }
}

impl Unpacker {
    /// Names come in lower case.
    pub fn unpack(&mut self, block: &[u8]) -> Result<HashMap<String, String>, FrameError> {
        let mut plain = Vec::with_capacity(1024);
        let begin = self.0.total_in();
        loop {
            let used = (self.0.total_in() - begin) as usize;
            let before = plain.len();
            match self.0.decompress_vec(&block[used..], &mut plain, FlushDecompress::Sync) {
                Ok(Status::StreamEnd) => break,
                Ok(_) => {}
                Err(e) if e.needs_dictionary().is_some() => {
                    self.0
                        .set_dictionary(&DICTIONARY)
                        .map_err(|_| FrameError::Headers("another dictionary than SPDY/3's"))?;
                    continue;
                }
                Err(_) => return Err(FrameError::Headers("broken compression")),
            }
            let used_now = (self.0.total_in() - begin) as usize;
            if used_now >= block.len() && plain.len() < plain.capacity() {
                break;
            }
            if plain.len() == before && used_now == used && plain.len() < plain.capacity() {
                break;
            }
            if plain.len() > BLOCK_MAX {
                return Err(FrameError::Long);
            }
            plain.reserve(1024);
        }
        parse(&plain)
    }
}

fn parse(mut plain: &[u8]) -> Result<HashMap<String, String>, FrameError> {
    fn number(plain: &mut &[u8]) -> Result<usize, FrameError> {
        let (n, rest) = plain.split_first_chunk::<4>().ok_or(FrameError::Short)?;
        *plain = rest;
        Ok(u32::from_be_bytes(*n) as usize)
    }
    fn text(plain: &mut &[u8]) -> Result<String, FrameError> {
        let length = number(plain)?;
        let (text, rest) = plain.split_at_checked(length).ok_or(FrameError::Short)?;
        *plain = rest;
        Ok(String::from_utf8_lossy(text).into_owned())
    }
    let count = number(&mut plain)?;
    let mut out = HashMap::new();
    for _ in 0..count {
        let name = text(&mut plain)?.to_ascii_lowercase();
        out.insert(name, text(&mut plain)?);
    }
    Ok(out)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_dictionary_is_the_one_of_the_draft() {
        let (mut a, mut b) = (1u32, 0u32);
        for byte in DICTIONARY.iter() {
            a = (a + u32::from(*byte)) % 65_521;
            b = (b + a) % 65_521;
        }
        // As peers name it in the first bytes of a connection's first header block.
        assert_eq!((b << 16) | a, 0xe3c6_a7c2);
    }

    #[test]
    fn blocks_of_one_connection() {
        let (mut packer, mut unpacker) = (Packer::default(), Unpacker::default());
        for i in 0..50 {
            let headers =
                HashMap::from([("streamtype".to_owned(), "stdout".to_owned()), ("n".to_owned(), "x".repeat(i * 100))]);
            assert_eq!(unpacker.unpack(&packer.pack(&headers).unwrap()).unwrap(), headers);
        }
        assert!(Unpacker::default().unpack(b"garbage").is_err());
        assert!(parse(&[0xff; 12]).is_err());
    }
}
