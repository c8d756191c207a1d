//! Blocks of PEM, read as Go's `pem.Decode` does: text between blocks is no fault, and what looks like a block but is
//! broken is text, too. Source: RFC 1421, RFC 7468.

use base64::Engine;

#[derive(Clone, Debug, PartialEq)]
pub struct Block<'a> {
    /// `CERTIFICATE`
    pub label: &'a str,
    /// `Name: value` lines before the data.
    pub has_headers: bool,
    pub der: Vec<u8>,
}

const BEGIN: &str = "-----BEGIN ";
const DASHES: &str = "-----";

/// All blocks of a text, in order.
pub fn blocks(text: &str) -> impl Iterator<Item = Block<'_>> {
    let mut rest = text;
    std::iter::from_fn(move || {
        while let Some(at) = begin(rest) {
            let after = &rest[at + BEGIN.len()..];
            match block(after) {
                Some((block, end)) => {
                    rest = &after[end..];
                    return Some(block);
                }
                None => rest = after,
            }
        }
        None
    })
}

/// Where the next block may begin: at a line's start.
fn begin(text: &str) -> Option<usize> {
    if text.starts_with(BEGIN) {
        return Some(0);
    }
    text.find(&format!("\n{BEGIN}")).map(|i| i + 1)
}

/// The block whose first line goes on with this text, and where the text goes on after it.
fn block(text: &str) -> Option<(Block<'_>, usize)> {
    let (line, _) = text.split_once('\n')?;
    let label = line.trim_end().strip_suffix(DASHES)?;
    let start = line.len() + 1;
    let ending = format!("-----END {label}-----");
    let body_end = start + text[start..].find(&ending)?;
    if body_end > start && !text[..body_end].ends_with('\n') {
        return None;
    }
    let (mut has_headers, mut data) = (false, String::new());
    for line in text[start..body_end].lines().map(str::trim) {
        if data.is_empty() && line.contains(':') {
            has_headers = true;
        } else {
            data.push_str(line);
        }
    }
    let der = base64::engine::general_purpose::STANDARD.decode(data).ok()?;
    let end = body_end + ending.len();
    Some((Block { label, has_headers, der }, end))
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
        ] {
            check(broken, &[]);
            check(&format!("{broken}{good}"), &[("A", false, &[0, 1, 2])]);
        }
    }
}
