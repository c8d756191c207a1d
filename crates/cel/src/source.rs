//! Where in an expression something is, and errors that show it as upstream shows them:
//!
//! ```text
//! ERROR: <input>:1:7: undefined field 'foo'
//!  | object.foo > 1
//!  | ......^
//! ```

use std::fmt;

/// One thing that is wrong with an expression's text.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Issue {
    /// Byte offset in the text.
    pub offset: usize,
    pub message: String,
}

/// Why an expression can't be compiled: all that is wrong with it, in the order of its text.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Issues {
    pub source: String,
    pub issues: Vec<Issue>,
}

impl Issues {
    pub fn one(source: &str, offset: usize, message: impl Into<String>) -> Issues {
        Issues { source: source.to_string(), issues: vec![Issue { offset, message: message.into() }] }
    }
}

/// Line (from 1), column (from 0, in characters) and text of the line.
fn locate(source: &str, offset: usize) -> (usize, usize, &str) {
    let mut offset = offset.min(source.len());
    while !source.is_char_boundary(offset) {
        offset -= 1;
    }
    let before = &source[..offset];
    let start = before.rfind('\n').map_or(0, |i| i + 1);
    let line = before.matches('\n').count() + 1;
    let text = source[start..].split('\n').next().unwrap_or("");
    (line, source[start..offset].chars().count(), text)
}

impl fmt::Display for Issues {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (i, issue) in self.issues.iter().enumerate() {
            let (line, column, text) = locate(&self.source, issue.offset);
            if i > 0 {
                writeln!(f)?;
            }
            write!(f, "ERROR: <input>:{line}:{}: {}", column + 1, issue.message)?;
            // A picture of a very long line helps nobody and would blow up the answer.
            if text.len() <= 2_000 {
                write!(f, "\n | {text}\n | {}^", ".".repeat(column))?;
            }
        }
        Ok(())
    }
}

impl std::error::Error for Issues {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn errors_show_their_place() {
        assert_eq!(
            Issues::one("object.foo > 1", 6, "undefined field 'foo'").to_string(),
            "ERROR: <input>:1:7: undefined field 'foo'\n | object.foo > 1\n | ......^"
        );
        assert_eq!(
            Issues::one("é\n ü.x", 6, "m").to_string(),
            "ERROR: <input>:2:3: m\n |  ü.x\n | ..^",
            "columns are characters"
        );
        assert_eq!(Issues::one("", 9, "m").to_string(), "ERROR: <input>:1:1: m\n | \n | ^");
    }
}
