//! Regular expressions as Go's RE2 reads them.
//!
//! The `regex` crate is RE2's sibling; what differs is that `\d`, `\w`, `\s` and `\b` mean ASCII in Go.

use regex::{Regex, RegexBuilder};

/// Bytes that a compiled pattern may take. Go bounds the pattern's repetition instead.
const SIZE_MAX: usize = 1 << 20;

/// What the regex crate finds, in Go's words.
const GO_WORDS: &[(&str, &str)] = &[
    ("unclosed group", "missing closing )"),
    ("unopened group", "unexpected )"),
    ("unclosed character class", "missing closing ]"),
    ("repetition operator missing expression", "missing argument to repetition operator"),
    ("look-around", "invalid or unsupported Perl syntax"),
    ("backreferences", "invalid escape sequence"),
];

pub fn compile(pattern: &str) -> Result<Regex, String> {
    compile_sized(pattern, SIZE_MAX)
}

/// As [`compile`], for patterns of somebody who is trusted with more memory.
pub fn compile_sized(pattern: &str, bytes_max: usize) -> Result<Regex, String> {
    RegexBuilder::new(&ascii_classes(pattern)).size_limit(bytes_max).build().map_err(|e| match e {
        regex::Error::Syntax(text) => {
            let why = text.lines().last().unwrap_or("").trim_start_matches("error: ");
            let told = GO_WORDS.iter().find(|(ours, _)| why.starts_with(ours)).map_or(why, |(_, go)| go);
            format!("{told}: `{pattern}`")
        }
        _ => format!("expression too large: `{pattern}`"),
    })
}

/// Writes classes out that would otherwise be Unicode's.
fn ascii_classes(pattern: &str) -> String {
    let mut out = String::with_capacity(pattern.len());
    let mut in_class = false;
    let mut chars = pattern.chars().peekable();
    while let Some(c) = chars.next() {
        match c {
            '\\' => {
                let next = chars.next();
                let (set, negated) = match next {
                    Some('d') => ("0-9", false),
                    Some('D') => ("0-9", true),
                    Some('w') => ("0-9A-Za-z_", false),
                    Some('W') => ("0-9A-Za-z_", true),
                    Some('s') => ("\\t\\n\\f\\r ", false),
                    Some('S') => ("\\t\\n\\f\\r ", true),
                    Some('b') if !in_class => {
                        out.push_str("(?-u:\\b)");
                        continue;
                    }
                    Some('Q') if !in_class => {
                        // Literal text up to \E.
                        let mut literal = String::new();
                        while let Some(c) = chars.next() {
                            if c == '\\' && chars.peek() == Some(&'E') {
                                chars.next();
                                break;
                            }
                            literal.push(c);
                        }
                        out.push_str(&regex::escape(&literal));
                        continue;
                    }
                    // The regex crate takes these for the ends of words.
                    Some(c @ ('<' | '>')) => {
                        out.push(c);
                        continue;
                    }
                    Some(other) => {
                        out.push('\\');
                        out.push(other);
                        continue;
                    }
                    None => {
                        out.push('\\');
                        continue;
                    }
                };
                match (in_class, negated) {
                    (true, false) => out.push_str(set),
                    (_, true) => out.push_str(&format!("[^{set}]")),
                    (false, false) => out.push_str(&format!("[{set}]")),
                }
            }
            '[' if !in_class => {
                in_class = true;
                out.push(c);
                // A bracket right at the start is a member.
                if chars.peek() == Some(&'^') {
                    out.push('^');
                    chars.next();
                }
                if chars.peek() == Some(&']') {
                    out.push_str("\\]");
                    chars.next();
                }
            }
            '[' => {
                // `[[:alpha:]]` stays; any other bracket inside is a member.
                if chars.peek() == Some(&':') {
                    out.push('[');
                    for c in chars.by_ref() {
                        out.push(c);
                        if c == ']' {
                            break;
                        }
                    }
                } else {
                    out.push_str("\\[");
                }
            }
            ']' if in_class => {
                in_class = false;
                out.push(c);
            }
            // A brace that begins no repetition is a brace.
            '{' if !in_class && !is_repetition(chars.clone()) => out.push_str("\\{"),
            // The regex crate has set operations that Go hasn't.
            '&' | '~' if in_class => {
                out.push('\\');
                out.push(c);
            }
            _ => out.push(c),
        }
    }
    out
}

/// Whether `2}`, `2,}` or `2,3}` follows.
fn is_repetition(rest: impl Iterator<Item = char>) -> bool {
    let inside: String = rest.take_while(|c| *c != '}').take(16).collect();
    let (from, to) = inside.split_once(',').unwrap_or((&inside, ""));
    !from.is_empty() && [from, to].iter().all(|n| n.bytes().all(|b| b.is_ascii_digit()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn classes_are_ascii() {
        for (pattern, text, matches) in [
            (r"^\d+$", "12", true),
            (r"^\d+$", "٣", false),
            (r"^[\w-]+$", "a-b_1", true),
            (r"^[\w-]+$", "é", false),
            (r"^\S+$", "a b", false),
            (r"^[^\s]$", "\t", false),
            (r"\bx\b", "a x b", true),
            (r"^[[:alpha:]]+$", "ab", true),
            (r"^[]a]+$", "]a", true),
            (r"^[a&&b]+$", "&", true),
            (r"^\Qa.b\E$", "a.b", true),
            (r"^a{2}$", "aa", true),
            (r"^{{[a-z]+}}$", "{{a}}", true),
            (r"^a{,2}$", "a{,2}", true),
            (r"^\<a\>$", "<a>", true),
            (r"(?i)ABC", "xabc", true),
        ] {
            assert_eq!(compile(pattern).unwrap().is_match(text), matches, "{pattern} {text}");
        }
        assert!(compile("(").is_err() && compile("a{1000}{1000}{1000}").is_err());
        assert!(compile(r"\").is_err() && compile("[").is_err() && compile(r"(?=a)").is_err());
    }
}
