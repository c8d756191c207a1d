//! Links in pages of a backend that is seen through a proxy: absolute ones must lead back through it.
//!
//! In: HTML as it arrives, in pieces. Out: the same with the values of attributes that hold a URL rewritten; all else
//! stays byte for byte. Only as much is held back as a tag that hasn't ended yet.
//! Source: upstream's `proxy.Transport.rewriteHTML`; WHATWG HTML, "Tokenization".

/// A tag that is longer is passed on as it is.
const TAG_BYTES_MAX: usize = 64 * 1024;

/// Elements with the attributes of theirs that hold a URL.
const URLS: &[(&str, &[&str])] = &[
    ("a", &["href"]),
    ("applet", &["codebase"]),
    ("area", &["href"]),
    ("audio", &["src"]),
    ("base", &["href"]),
    ("blockquote", &["cite"]),
    ("body", &["background"]),
    ("button", &["formaction"]),
    ("command", &["icon"]),
    ("del", &["cite"]),
    ("embed", &["src"]),
    ("form", &["action"]),
    ("frame", &["longdesc", "src"]),
    ("head", &["profile"]),
    ("html", &["manifest"]),
    ("iframe", &["longdesc", "src"]),
    ("img", &["longdesc", "src", "usemap"]),
    ("input", &["src", "usemap", "formaction"]),
    ("ins", &["cite"]),
    ("link", &["href"]),
    ("object", &["classid", "codebase", "data", "usemap"]),
    ("q", &["cite"]),
    ("script", &["src"]),
    ("source", &["src"]),
    ("video", &["poster", "src"]),
];

/// Elements whose content is text, whatever it looks like.
const RAW: &[&str] = &["script", "style", "textarea", "title", "iframe", "noembed", "noframes", "xmp"];

type Rewrite = dyn Fn(&str) -> String + Send + Sync;

/// A page on its way.
pub struct Page {
    rewrite: Box<Rewrite>,
    /// What can't be judged before more arrives.
    held: Vec<u8>,
    /// The element whose text this is.
    inside: Option<&'static str>,
}

impl Page {
    pub fn new(rewrite: impl Fn(&str) -> String + Send + Sync + 'static) -> Page {
        Page { rewrite: Box::new(rewrite), held: Vec::new(), inside: None }
    }

    /// What can be passed on, now that this has arrived.
    pub fn push(&mut self, bytes: &[u8]) -> Vec<u8> {
        self.held.extend_from_slice(bytes);
        let all = std::mem::take(&mut self.held);
        let mut out = Vec::with_capacity(all.len() + 64);
        let mut rest = all.as_slice();
        while !rest.is_empty() {
            let used = match self.inside {
                Some(element) => self.text_of(element, rest, &mut out),
                None => self.markup(rest, &mut out),
            };
            if used == 0 {
                break;
            }
            rest = rest.get(used..).unwrap_or_default();
        }
        if rest.len() > TAG_BYTES_MAX {
            out.extend_from_slice(rest);
        } else {
            self.held = rest.to_vec();
        }
        out
    }

    /// What is left when nothing more arrives.
    pub fn finish(self) -> Vec<u8> {
        self.held
    }

    /// Text up to the end tag of `element`. Gives how much was used; 0: more is needed.
    fn text_of(&mut self, element: &str, rest: &[u8], out: &mut Vec<u8>) -> usize {
        let end = format!("</{element}");
        let found = rest.windows(end.len()).position(|w| w.eq_ignore_ascii_case(end.as_bytes()));
        let used = match found {
            Some(at) => {
                self.inside = None;
                at
            }
            // The end tag may have begun.
            None => rest.len().saturating_sub(end.len() - 1),
        };
        out.extend_from_slice(&rest[..used]);
        // An end tag right here: it is markup.
        if used == 0 && found.is_some() { self.markup(rest, out) } else { used }
    }

    fn markup(&mut self, rest: &[u8], out: &mut Vec<u8>) -> usize {
        let Some(open) = rest.iter().position(|b| *b == b'<') else {
            out.extend_from_slice(rest);
            return rest.len();
        };
        if open > 0 {
            out.extend_from_slice(&rest[..open]);
            return open;
        }
        let used = match rest.get(1) {
            None => return 0,
            Some(b'!') if rest.starts_with(b"<!--") => match find(&rest[4..], b"-->") {
                Some(at) => 4 + at + 3,
                None => return 0,
            },
            Some(b'!') if b"<!--".starts_with(rest) => return 0,
            Some(b'!' | b'?' | b'/') => match rest.iter().position(|b| *b == b'>') {
                Some(at) => at + 1,
                None => return 0,
            },
            Some(b) if b.is_ascii_alphabetic() => match tag_end(rest) {
                Some(end) => {
                    self.tag(&rest[..end], out);
                    return end;
                }
                None => return 0,
            },
            Some(_) => 1,
        };
        out.extend_from_slice(&rest[..used]);
        used
    }

    /// A start tag, whole.
    fn tag(&mut self, tag: &[u8], out: &mut Vec<u8>) {
        let name_end = tag.iter().position(|b| is_space(*b) || matches!(b, b'/' | b'>')).unwrap_or(tag.len());
        let name = String::from_utf8_lossy(&tag[1..name_end]).to_ascii_lowercase();
        self.inside = RAW.iter().find(|r| **r == name).copied();
        let Some((_, urls)) = URLS.iter().find(|(element, _)| *element == name) else {
            return out.extend_from_slice(tag);
        };
        let mut copied = 0;
        for (attribute, value) in attributes(tag, name_end) {
            let is_url = urls.iter().any(|u| attribute.eq_ignore_ascii_case(u.as_bytes()));
            if let (true, Ok(text)) = (is_url, std::str::from_utf8(&tag[value.clone()])) {
                out.extend_from_slice(&tag[copied..value.start]);
                out.extend_from_slice((self.rewrite)(text).as_bytes());
                copied = value.end;
            }
        }
        out.extend_from_slice(&tag[copied..]);
    }
}

fn is_space(b: u8) -> bool {
    matches!(b, b' ' | b'\t' | b'\n' | b'\r' | 0x0c)
}

fn find(haystack: &[u8], needle: &[u8]) -> Option<usize> {
    haystack.windows(needle.len()).position(|w| w == needle)
}

/// Behind the `>` that ends a start tag: not one in quotes.
fn tag_end(rest: &[u8]) -> Option<usize> {
    let mut quote = None;
    let mut previous = b' ';
    for (i, b) in rest.iter().enumerate() {
        match (quote, b) {
            (Some(q), b) if q == *b => quote = None,
            (Some(_), _) => {}
            (None, b'>') => return Some(i + 1),
            // Quotes only open a value; elsewhere they are letters.
            (None, b'"' | b'\'') if previous == b'=' => quote = Some(*b),
            _ => {}
        }
        if !is_space(*b) {
            previous = *b;
        }
    }
    None
}

/// Names, and where their values are, without quotes.
fn attributes(tag: &[u8], mut at: usize) -> Vec<(&[u8], std::ops::Range<usize>)> {
    let mut out = Vec::new();
    let skip = |at: &mut usize, f: &dyn Fn(u8) -> bool| {
        while tag.get(*at).is_some_and(|b| f(*b)) {
            *at += 1;
        }
    };
    loop {
        skip(&mut at, &|b| is_space(b) || b == b'/');
        let start = at;
        skip(&mut at, &|b| !is_space(b) && !matches!(b, b'=' | b'>' | b'/'));
        let name = &tag[start..at];
        skip(&mut at, &is_space);
        if tag.get(at) == Some(&b'=') {
            at += 1;
            skip(&mut at, &is_space);
            let value = match tag.get(at) {
                Some(q @ (b'"' | b'\'')) => {
                    let begin = at + 1;
                    let end = begin + tag[begin..].iter().position(|b| b == q).unwrap_or(tag.len() - begin);
                    at = (end + 1).min(tag.len());
                    begin..end
                }
                _ => {
                    let begin = at;
                    skip(&mut at, &|b| !is_space(b) && b != b'>');
                    begin..at
                }
            };
            out.push((name, value));
        } else if name.is_empty() {
            // The end, or a letter that belongs nowhere.
            if at + 1 >= tag.len() {
                return out;
            }
            at += 1;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pieces(html: &str, size: usize) -> String {
        let mut page = Page::new(|link| if link.starts_with('/') { format!("/P{link}") } else { link.to_string() });
        let mut out = Vec::new();
        for piece in html.as_bytes().chunks(size) {
            out.extend(page.push(piece));
        }
        out.extend(page.finish());
        String::from_utf8_lossy(&out).into_owned()
    }

    #[test]
    fn links_are_rewritten_wherever_the_page_is_cut() {
        for (html, want) in [
            ("<a href=\"/x\">/x</a>", "<a href=\"/P/x\">/x</a>"),
            ("<A\n HREF = '/x' class=b>", "<A\n HREF = '/P/x' class=b>"),
            ("<img alt='>' src=/i.png><p title=/x>", "<img alt='>' src=/P/i.png><p title=/x>"),
            (
                "<script src=\"/s.js\">if (a<b) x='<a href=\"/no\">'</script><a href=/y>",
                "<script src=\"/P/s.js\">if (a<b) x='<a href=\"/no\">'</script><a href=/P/y>",
            ),
            (
                "<!-- <a href=\"/no\"> --><link rel=x href=\"/c.css\"/>",
                "<!-- <a href=\"/no\"> --><link rel=x href=\"/P/c.css\"/>",
            ),
            ("<!DOCTYPE html><a href=rel>1 < 2 <3</a >", "<!DOCTYPE html><a href=rel>1 < 2 <3</a >"),
            ("<style></style><form action='/go'", "<style></style><form action='/go'"),
            ("<video poster='/p' src='/v' controls>", "<video poster='/P/p' src='/P/v' controls>"),
            ("é<a href='/é'>ü", "é<a href='/P/é'>ü"),
            ("<", "<"),
            ("<a =x href=/y>", "<a =x href=/P/y>"),
            ("<!", "<!"),
        ] {
            for size in 1..=html.len() {
                assert_eq!(pieces(html, size), want, "in pieces of {size}");
            }
        }
    }

    #[test]
    fn no_bytes_hurt() {
        let letters = b"<>!-/='\" ascript\xff\n";
        let mut seed = 7u32;
        for _ in 0..2_000 {
            let mut page = Page::new(str::to_string);
            let mut all = Vec::new();
            let mut out = Vec::new();
            for _ in 0..40 {
                seed = seed.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
                let b = [letters[(seed >> 16) as usize % letters.len()]];
                all.extend_from_slice(&b);
                out.extend(page.push(&b));
            }
            out.extend(page.finish());
            assert_eq!(out, all, "a page without links to change stays as it is");
        }
        let mut page = Page::new(str::to_string);
        let long = vec![b'<'; 1].into_iter().chain(vec![b'a'; TAG_BYTES_MAX + 1]).collect::<Vec<u8>>();
        assert_eq!(page.push(&long), long, "no tag is waited for without end");
    }
}
