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

/// A page on its way. Every byte is looked at once, however the page is cut.
pub struct Page {
    rewrite: Box<Rewrite>,
    at: At,
    /// What can't be judged before more arrives: a few letters, or a start tag.
    held: Vec<u8>,
}

/// What the next bytes are part of.
enum At {
    /// Text and whatever opens behind it.
    Text,
    /// The text of an element of [`RAW`].
    Raw(&'static str),
    Comment,
    /// An end tag or a declaration.
    Markup,
    /// A start tag, which is held.
    Tag(TagEnd),
    /// One that became too long to be held, and the element of [`RAW`] that it starts.
    LongTag(TagEnd, Option<&'static str>),
}

impl Page {
    pub fn new(rewrite: impl Fn(&str) -> String + Send + Sync + 'static) -> Page {
        Page { rewrite: Box::new(rewrite), at: At::Text, held: Vec::new() }
    }

    /// What can be passed on, now that this has arrived.
    pub fn push(&mut self, bytes: &[u8]) -> Vec<u8> {
        let mut out = Vec::with_capacity(self.held.len() + bytes.len() + 64);
        let joined;
        let mut rest = match self.at {
            // How far a tag is known is in `at`.
            At::Tag(_) => bytes,
            _ => {
                let mut all = std::mem::take(&mut self.held);
                all.extend_from_slice(bytes);
                joined = all;
                joined.as_slice()
            }
        };
        while !rest.is_empty() {
            let used = self.step(rest, &mut out);
            if used == 0 {
                self.held.extend_from_slice(rest);
                break;
            }
            rest = rest.get(used..).unwrap_or_default();
        }
        out
    }

    /// What is left when nothing more arrives.
    pub fn finish(self) -> Vec<u8> {
        self.held
    }

    /// Goes on to where something else begins. Gives how much was used; 0: more is needed to tell, and only a few
    /// letters are left.
    fn step(&mut self, rest: &[u8], out: &mut Vec<u8>) -> usize {
        let used = match &mut self.at {
            At::Text => match rest.iter().position(|b| *b == b'<') {
                Some(0) => match opens(rest) {
                    Some(At::Text) => 1,
                    // Nothing is used yet, but what it is part of is known now.
                    Some(at) => {
                        self.at = at;
                        return self.step(rest, out);
                    }
                    None => 0,
                },
                Some(open) => open,
                None => rest.len(),
            },
            At::Raw(element) => {
                let end = format!("</{element}");
                match rest.windows(end.len()).position(|w| w.eq_ignore_ascii_case(end.as_bytes())) {
                    Some(at) => {
                        self.at = At::Markup;
                        at + end.len()
                    }
                    // The end tag may have begun.
                    None => rest.len().saturating_sub(end.len() - 1),
                }
            }
            At::Comment => match rest.windows(3).position(|w| w == b"-->") {
                Some(at) => {
                    self.at = At::Text;
                    at + 3
                }
                None => rest.len().saturating_sub(2),
            },
            At::Markup => match rest.iter().position(|b| *b == b'>') {
                Some(at) => {
                    self.at = At::Text;
                    at + 1
                }
                None => rest.len(),
            },
            At::Tag(end) => {
                let found = end.find(rest);
                let used = found.unwrap_or(rest.len());
                self.held.extend_from_slice(&rest[..used]);
                let held = self.held.len();
                if found.is_some() {
                    let tag = std::mem::take(&mut self.held);
                    self.at = raw(&tag).map_or(At::Text, At::Raw);
                    match held > TAG_BYTES_MAX {
                        true => out.extend_from_slice(&tag),
                        false => self.tag(&tag, out),
                    }
                } else if held > TAG_BYTES_MAX {
                    self.at = At::LongTag(end.clone(), raw(&self.held));
                    out.append(&mut self.held);
                }
                return used;
            }
            At::LongTag(end, element) => match end.find(rest) {
                Some(used) => {
                    self.at = element.map_or(At::Text, At::Raw);
                    used
                }
                None => rest.len(),
            },
        };
        out.extend_from_slice(&rest[..used]);
        used
    }

    /// A start tag, whole.
    fn tag(&self, tag: &[u8], out: &mut Vec<u8>) {
        let name = name(tag);
        let Some((_, urls)) = URLS.iter().find(|(element, _)| name.eq_ignore_ascii_case(element.as_bytes())) else {
            return out.extend_from_slice(tag);
        };
        let mut copied = 0;
        for (attribute, value) in attributes(tag, 1 + name.len()) {
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

/// What a `<` opens. `None`: more is needed to tell.
fn opens(rest: &[u8]) -> Option<At> {
    match rest.get(1)? {
        // Its dashes may be those that end it, too.
        b'!' if rest.starts_with(b"<!--") => Some(At::Comment),
        b'!' if b"<!--".starts_with(rest) => None,
        b'!' | b'?' | b'/' => Some(At::Markup),
        b if b.is_ascii_alphabetic() => Some(At::Tag(TagEnd::default())),
        _ => Some(At::Text),
    }
}

/// The element that a tag, or the beginning of one, starts.
fn name(tag: &[u8]) -> &[u8] {
    let end = tag.iter().position(|b| is_space(*b) || matches!(b, b'/' | b'>')).unwrap_or(tag.len());
    tag.get(1..end).unwrap_or_default()
}

fn raw(tag: &[u8]) -> Option<&'static str> {
    RAW.iter().find(|r| name(tag).eq_ignore_ascii_case(r.as_bytes())).copied()
}

/// Looks for the `>` that ends a start tag: not one in quotes.
#[derive(Clone, Default)]
struct TagEnd {
    quote: Option<u8>,
    /// The last letter that is no space.
    previous: u8,
}

impl TagEnd {
    /// Behind the end, if it is here.
    fn find(&mut self, bytes: &[u8]) -> Option<usize> {
        for (i, b) in bytes.iter().enumerate() {
            match (self.quote, b) {
                (Some(q), b) if q == *b => self.quote = None,
                (Some(_), _) => {}
                (None, b'>') => return Some(i + 1),
                // Quotes only open a value; elsewhere they are letters.
                (None, b'"' | b'\'') if self.previous == b'=' => self.quote = Some(*b),
                _ => {}
            }
            if !is_space(*b) {
                self.previous = *b;
            }
        }
        None
    }
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
            ("<!--><a href=/x>", "<!--><a href=/P/x>"),
            ("<!---><a href=/x>", "<!---><a href=/P/x>"),
            ("<!-- -- > <a href=/no>--><a href=/x>", "<!-- -- > <a href=/no>--><a href=/P/x>"),
            ("<!--", "<!--"),
            ("<title></TITLE\n><a href=/x>", "<title></TITLE\n><a href=/P/x>"),
            ("</a href='>'/x><a href=/x>", "</a href='>'/x><a href=/P/x>"),
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
    }

    #[test]
    fn little_is_held_back_and_nothing_is_looked_at_twice() {
        let page = || Page::new(|link| if link.starts_with('/') { format!("/P{link}") } else { link.to_string() });
        // Without an end, in small pieces: quadratic work would never be done.
        for (opening, held_max) in [
            ("<!-- ", 2),
            ("<!doctype ", 0),
            ("<script>", "</script".len() - 1),
            ("<p title='", TAG_BYTES_MAX),
            ("<img src=\"", TAG_BYTES_MAX),
            ("<a ", TAG_BYTES_MAX),
        ] {
            let mut page = page();
            let mut passed = page.push(opening.as_bytes()).len();
            for _ in 0..500_000 {
                passed += page.push(b"-=x").len();
                assert!(page.held.len() <= held_max, "{opening}: {}", page.held.len());
            }
            assert_eq!(passed + page.finish().len(), opening.len() + 1_500_000, "{opening}");
        }
        // A tag that was too long is passed on as it is, and what follows is seen for what it is.
        let data = "x>".repeat(TAG_BYTES_MAX);
        for size in [1, 1000, 1 << 20] {
            for (begin, end, want) in [
                (format!("<img src=\"/{data}"), "\"><a href=/x>", "\"><a href=/P/x>"),
                (
                    format!("<script src='/{data}"),
                    "'>\"<a href=/no>\"</script><a href=/x>",
                    "'>\"<a href=/no>\"</script><a href=/P/x>",
                ),
            ] {
                let mut page = page();
                let whole = format!("{begin}{end}");
                let mut out: Vec<u8> = whole.as_bytes().chunks(size).flat_map(|piece| page.push(piece)).collect();
                out.extend(page.finish());
                assert!(out == format!("{begin}{want}").into_bytes(), "in pieces of {size}: …{end}");
            }
        }
        let mut page = Page::new(str::to_string);
        let long = vec![b'<'; 1].into_iter().chain(vec![b'a'; TAG_BYTES_MAX + 1]).collect::<Vec<u8>>();
        assert_eq!(page.push(&long), long, "no tag is waited for without end");
    }
}
