//! The log file of a container, in CRI's format: `2024-01-02T03:04:05.123456789Z stdout F line`.
//!
//! A line longer than 16 KiB is cut into parts tagged `P`, the last one `F`.

use std::fs::File;
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::PathBuf;

/// containerd's limit; readers join parts, so any would do, but log shippers know this one.
pub const LINE_BYTES_MAX: usize = 16 * 1024;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stream {
    Stdout,
    Stderr,
}

/// What a stream has written since its last newline.
#[derive(Default)]
pub struct Partial(Vec<u8>);

impl Partial {
    pub fn bytes(&self) -> &[u8] {
        &self.0
    }
}

pub struct Log {
    path: PathBuf,
    file: File,
    /// How much text it holds, files that were rotated away included.
    text: u64,
}

impl Log {
    pub fn open(path: PathBuf) -> io::Result<Log> {
        if let Some(parent) = path.parent() {
            std::fs::create_dir_all(parent)?;
        }
        let file = open_append(&path)?;
        Ok(Log { path, file, text: 0 })
    }

    /// After the kubelet has renamed the file.
    pub fn reopen(&mut self) -> io::Result<()> {
        self.file = open_append(&self.path)?;
        Ok(())
    }

    pub fn text(&self) -> u64 {
        self.text
    }

    /// Takes what a container wrote; whole lines go to the file, in one write.
    pub fn write(&mut self, stream: Stream, partial: &mut Partial, bytes: &[u8], now: &str) {
        let before = partial.0.len() + bytes.len();
        let mut out = Vec::with_capacity(bytes.len() + 128);
        format(stream, partial, bytes, now, &mut out);
        self.append(&out, before - partial.0.len());
    }

    fn append(&mut self, lines: &[u8], text: usize) {
        // A full disk must not stop the container; its lines are lost, as with every runtime.
        if self.file.write_all(lines).is_ok() {
            self.text += text as u64;
        }
    }

    /// The stream has ended: what is left becomes a line.
    pub fn finish(&mut self, stream: Stream, partial: &mut Partial, now: &str) {
        if !partial.0.is_empty() {
            let rest = std::mem::take(&mut partial.0);
            let mut out = Vec::with_capacity(rest.len() + 64);
            line(stream, now, b'F', &[], &rest, &mut out);
            self.append(&out, rest.len() + 1);
        }
    }
}

fn open_append(path: &std::path::Path) -> io::Result<File> {
    std::fs::OpenOptions::new().append(true).create(true).mode(0o640).open(path)
}

fn line(stream: Stream, now: &str, tag: u8, head: &[u8], tail: &[u8], out: &mut Vec<u8>) {
    out.extend_from_slice(now.as_bytes());
    out.extend_from_slice(if stream == Stream::Stdout { b" stdout " } else { b" stderr " });
    out.push(tag);
    out.push(b' ');
    out.extend_from_slice(head);
    out.extend_from_slice(tail);
    out.push(b'\n');
}

fn format(stream: Stream, partial: &mut Partial, mut bytes: &[u8], now: &str, out: &mut Vec<u8>) {
    while !bytes.is_empty() {
        let room = LINE_BYTES_MAX - partial.0.len();
        let newline = bytes.iter().take(room + 1).position(|b| *b == b'\n');
        match newline {
            Some(at) => {
                line(stream, now, b'F', &partial.0, &bytes[..at], out);
                // Frees the buffer rather than keeping it: most containers write whole lines.
                partial.0 = Vec::new();
                bytes = &bytes[at + 1..];
            }
            None if bytes.len() >= room => {
                line(stream, now, b'P', &partial.0, &bytes[..room], out);
                partial.0.clear();
                bytes = &bytes[room..];
            }
            None => {
                partial.0.extend_from_slice(bytes);
                bytes = &[];
            }
        }
    }
}

/// Now, as the log format wants it.
pub fn timestamp() -> String {
    rfc3339_nanos(crate::state::now_ns())
}

/// Nanoseconds since the epoch as RFC 3339 in UTC with nine digits.
pub fn rfc3339_nanos(ns: i64) -> String {
    let (seconds, nanos) = (ns.div_euclid(1_000_000_000), ns.rem_euclid(1_000_000_000));
    let (days, second) = (seconds.div_euclid(86_400), seconds.rem_euclid(86_400));
    // Days to a civil date over 400-year eras that begin on 1 March, so that the leap day comes last.
    let shifted = days + 719_468;
    let era = shifted.div_euclid(146_097);
    let day_of_era = shifted.rem_euclid(146_097);
    let year_of_era = (day_of_era - day_of_era / 1_460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let march_month = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * march_month + 2) / 5 + 1;
    let month = if march_month < 10 { march_month + 3 } else { march_month - 9 };
    let year = year_of_era + era * 400 + i64::from(month <= 2);
    let (hour, minute, second) = (second / 3600, second / 60 % 60, second % 60);
    format!("{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}.{nanos:09}Z")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn formatted(chunks: &[&[u8]]) -> String {
        let mut partial = Partial::default();
        let mut out = Vec::new();
        for chunk in chunks {
            format(Stream::Stdout, &mut partial, chunk, "T", &mut out);
        }
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn lines_are_tagged_and_joined() {
        assert_eq!(formatted(&[b"a\nb\n"]), "T stdout F a\nT stdout F b\n");
        assert_eq!(formatted(&[b"a", b"b", b"\n\n"]), "T stdout F ab\nT stdout F \n");
        assert_eq!(formatted(&[b"open"]), "");
    }

    #[test]
    fn long_lines_come_in_parts() {
        let exact = vec![b'x'; LINE_BYTES_MAX];
        let with_newline = [exact.as_slice(), b"\n"].concat();
        assert_eq!(formatted(&[&with_newline]), format!("T stdout F {}\n", "x".repeat(LINE_BYTES_MAX)));
        let longer = [exact.as_slice(), b"yz\n"].concat();
        let expected = format!("T stdout P {}\nT stdout F yz\n", "x".repeat(LINE_BYTES_MAX));
        assert_eq!(formatted(&[&longer]), expected);
        let (head, tail) = longer.split_at(10_000);
        assert_eq!(formatted(&[head, tail]), expected);
    }

    #[test]
    fn dates() {
        for (ns, text) in [
            (0, "1970-01-01T00:00:00.000000000Z"),
            (951_782_400_000_000_001, "2000-02-29T00:00:00.000000001Z"),
            (1_709_251_199_999_999_999, "2024-02-29T23:59:59.999999999Z"),
            (1_735_689_600_500_000_000, "2025-01-01T00:00:00.500000000Z"),
            (-1, "1969-12-31T23:59:59.999999999Z"),
        ] {
            assert_eq!(rfc3339_nanos(ns), text);
        }
    }
}
