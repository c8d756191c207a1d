//! What people type: the real kubectl's commands, one after another, and what each must say.
//!
//! A scenario is mostly a script of [`Step`]s in a namespace of its own. Where a command's output isn't the point, the
//! object that it left behind is looked at.

mod live;
mod permit;
mod read;
mod write;

pub use live::*;
pub use permit::*;
pub use read::*;
pub use write::*;

use super::namespace::Namespace;
use anyhow::{Result, ensure};
use std::time::Duration;

const PATIENCE: Duration = Duration::from_secs(30);

/// A command line without `kubectl`, and texts that must be in what it prints. One that starts with `!` must fail.
type Step<'a> = (&'a str, &'a [&'a str]);

const APP: &str = include_str!("../../testdata/app.yaml");

fn run(ns: &Namespace<'_>, steps: &[Step<'_>]) -> Result<()> {
    for (line, wants) in steps {
        let (must_fail, command) = match line.strip_prefix('!') {
            Some(rest) => (true, rest),
            None => (false, *line),
        };
        let args = words(command);
        let args: Vec<&str> = args.iter().map(String::as_str).collect();
        let d = ns.kubectl(&args)?;
        let said = format!("{}{}", d.stdout, d.stderr);
        ensure!(
            d.ok != must_fail,
            "kubectl {command}: {}:\n{said}",
            if d.ok { "should have failed" } else { "failed" }
        );
        for want in *wants {
            ensure!(said.contains(want), "kubectl {command}: no {want:?} in:\n{said}");
        }
    }
    Ok(())
}

/// Splits as a shell does, with single quotes only.
pub fn words(line: &str) -> Vec<String> {
    let (mut out, mut word, mut quoted, mut any) = (Vec::new(), String::new(), false, false);
    for c in line.chars() {
        match c {
            '\'' => (quoted, any) = (!quoted, true),
            ' ' if !quoted => {
                if any || !word.is_empty() {
                    out.push(std::mem::take(&mut word));
                }
                any = false;
            }
            c => word.push(c),
        }
    }
    if any || !word.is_empty() {
        out.push(word);
    }
    out
}

#[cfg(test)]
mod tests {
    use super::words;

    #[test]
    fn quotes_keep_words_together() {
        assert_eq!(words("a  'b c' d='e f' ''"), ["a", "b c", "d=e f", ""]);
    }
}
