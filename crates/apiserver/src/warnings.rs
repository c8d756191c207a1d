//! `Warning` headers (RFC 7234, code 299), which kubectl shows to its user.

use http::{HeaderMap, HeaderName, HeaderValue};
use parking_lot::Mutex;
use std::collections::HashSet;
use std::sync::Arc;

const HEADER: HeaderName = HeaderName::from_static("warning");
/// What all texts of a response may have together, in characters, before each is cut.
const TOTAL_CHARS_MAX: usize = 4096;
/// What is left of each then.
const CUT_CHARS: usize = 256;

tokio::task_local! {
    static HEARD: Arc<Mutex<Vec<String>>>;
}

/// Does the work, and keeps what it has to [`warn`] of.
pub async fn heard<F: Future>(texts: Arc<Mutex<Vec<String>>>, work: F) -> F::Output {
    HEARD.scope(texts, work).await
}

/// Warns the client of the request that this task works for, where the work is far from the answer.
pub fn warn(text: &str) {
    let _ = HEARD.try_with(|heard| heard.lock().push(text.to_string()));
}

/// Writes each different text once. When there is too much of it, texts are cut, and the last are left out.
pub fn write(headers: &mut HeaderMap, texts: Vec<String>) {
    let mut seen = HashSet::new();
    // A header holds no line breaks.
    let texts: Vec<String> = texts
        .into_iter()
        .map(|t| t.chars().map(|c| if c == '\n' { ' ' } else { c }).filter(|c| !c.is_control()).collect())
        .filter(|t: &String| !t.is_empty() && seen.insert(t.clone()))
        .collect();
    let cut = texts.iter().map(|t| t.chars().count()).sum::<usize>() > TOTAL_CHARS_MAX;
    let mut written = 0;
    for text in texts {
        let shown: String = if cut { text.chars().take(CUT_CHARS).collect() } else { text };
        let quoted = shown.replace('\\', "\\\\").replace('"', "\\\"");
        let Ok(value) = HeaderValue::try_from(format!("299 - \"{quoted}\"")) else { continue };
        headers.append(HEADER, value);
        written += shown.chars().count();
        if cut && written >= TOTAL_CHARS_MAX {
            break;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn written(texts: &[&str]) -> Vec<String> {
        let mut headers = HeaderMap::new();
        write(&mut headers, texts.iter().map(|t| t.to_string()).collect());
        headers.get_all(HEADER).iter().map(|v| String::from_utf8_lossy(v.as_bytes()).into_owned()).collect()
    }

    #[test]
    fn texts_are_quoted_and_told_once() {
        assert_eq!(
            written(&["unknown field \"spec.a\"", "a\\b", "", "a\\b", "x\ny\u{7}", "é"]),
            ["299 - \"unknown field \\\"spec.a\\\"\"", "299 - \"a\\\\b\"", "299 - \"x y\"", "299 - \"é\"",]
        );
    }

    #[test]
    fn too_much_is_cut() {
        let fits: Vec<String> = (0..8).map(|i| format!("{i}{}", "x".repeat(511))).collect();
        let fits: Vec<&str> = fits.iter().map(String::as_str).collect();
        assert!(written(&fits).iter().all(|w| w.len() == 512 + 8));
        let more: Vec<String> = (0..100).map(|i| format!("{i:03}{}", "x".repeat(500))).collect();
        let more: Vec<&str> = more.iter().map(String::as_str).collect();
        let w = written(&more);
        assert_eq!((w.len(), w[0].len()), (TOTAL_CHARS_MAX / CUT_CHARS, CUT_CHARS + 8));
    }
}
