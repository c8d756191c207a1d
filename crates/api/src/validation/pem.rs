//! Blocks of PEM, read as Go's `pem.Decode` does: text between blocks is no fault, and what looks like a block but is
//! broken is text, too. Source: RFC 1421, RFC 7468.

use base64::Engine;
use base64::engine::{GeneralPurpose, GeneralPurposeConfig};

#[derive(Clone, Debug, PartialEq)]
pub struct Block<'a> {
    /// `CERTIFICATE`
    pub label: &'a str,
    /// `Name: value` lines before the data.
    pub has_headers: bool,
    pub der: Vec<u8>,
}

const BEGIN: &str = "-----BEGIN ";
const END: &str = "\n-----END ";
const DASHES: &str = "-----";
/// Go minds padding, but not what the last bits say.
const BASE64: GeneralPurpose =
    GeneralPurpose::new(&base64::alphabet::STANDARD, GeneralPurposeConfig::new().with_decode_allow_trailing_bits(true));

/// All blocks of a text, in order. A block begins at the last `BEGIN` before an `END`, so each part of the text is
/// looked at once, however many of either it has.
pub fn blocks(text: &str) -> impl Iterator<Item = Block<'_>> {
    let mut rest = text;
    std::iter::from_fn(move || {
        while let Some(end) = rest.find(END) {
            let (before, after) = (&rest[..=end], &rest[end + END.len()..]);
            rest = after;
            let begin = before.rfind(BEGIN).filter(|at| *at == 0 || before[..*at].ends_with('\n'));
            if let Some(block) = begin.and_then(|at| block(&before[at + BEGIN.len()..], after)) {
                return Some(block);
            }
        }
        None
    })
}

/// The block whose first line goes on with `inside`, and whose last one with `after`.
fn block<'a>(inside: &'a str, after: &str) -> Option<Block<'a>> {
    let (line, body) = inside.split_once('\n')?;
    let label = line.trim_end().strip_suffix(DASHES)?;
    let behind = after.strip_prefix(label)?.strip_prefix(DASHES)?;
    if !behind.lines().next().unwrap_or_default().trim_end().is_empty() {
        return None;
    }
    let (mut has_headers, mut data) = (false, String::new());
    for line in body.lines() {
        if data.is_empty() && line.contains(':') {
            has_headers = true;
        } else {
            data.extend(line.split([' ', '\t', '\r']));
        }
    }
    let der = BASE64.decode(data).ok()?;
    Some(Block { label, has_headers, der })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(text: &str, expected: &[(&str, bool, &[u8])]) {
        let got: Vec<_> = blocks(text).collect();
        let got: Vec<_> = got.iter().map(|b| (b.label, b.has_headers, b.der.as_slice())).collect();
        assert_eq!(got, expected, "{text}");
    }

    #[test]
    fn blocks_are_found_between_text() {
        let block = "-----BEGIN A-----\nAAEC\nAwQ=\n-----END A-----\n";
        check(block, &[("A", false, &[0, 1, 2, 3, 4])]);
        let one: (&str, bool, &[u8]) = ("A", false, &[0, 1, 2, 3, 4]);
        check(&format!("# why\n{block}more\n{block}"), &[one, one]);
        check(&block.replace('\n', "\r\n"), &[("A", false, &[0, 1, 2, 3, 4])]);
        check("-----BEGIN B-----\nProc-Type: 4\n\nAAEC\n-----END B-----", &[("B", true, &[0, 1, 2])]);
        check("-----BEGIN E-----\n-----END E-----", &[("E", false, &[])]);
        check(&format!("-----BEGIN C-----\nAA\n{block}"), &[one]);
        check("-----BEGIN A-----\nAA EC\tAx==\n-----END A-----", &[("A", false, &[0, 1, 2, 3])]);
    }

    #[test]
    fn what_is_broken_is_text() {
        let good = "\n-----BEGIN A-----\nAAEC\n-----END A-----\n";
        for broken in [
            "",
            "x-----BEGIN A-----\nAAEC\n-----END A-----",
            "-----BEGIN A-----",
            "-----BEGIN A-----\n!\n-----END A-----",
            "-----BEGIN A-----\nAAEC\n-----END B-----",
            "-----BEGIN A\nAAEC\n-----END A-----",
            "-----BEGIN ",
            "-----BEGIN A-----\nAAEC\n-----END A----- x",
            "-----BEGIN A-----\nAAEC-----END A-----",
            "\n-----END A-----\n-----END A-----",
        ] {
            check(broken, &[]);
            check(&format!("{broken}{good}"), &[("A", false, &[0, 1, 2])]);
        }
    }

    #[test]
    fn beginnings_without_ends_are_passed_once() {
        for line in ["-----BEGIN A-----\n", "-----BEGIN A-----\nAAEC\n-----END B-----\n", "\n-----END A-----"] {
            let text = line.repeat(3 << 20 / line.len());
            assert_eq!(blocks(&text).count(), 0, "{line}");
        }
    }
}
