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
use anyhow::{Result, bail, ensure};
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

/// Runs a kubectl that goes on by itself (`-w`, `-f`) while `work` is done, until `enough` is in what it prints; gives
/// that.
fn watching(ns: &Namespace<'_>, line: &str, work: impl FnOnce() -> Result<()>, enough: &[&str]) -> Result<String> {
    let file = std::path::PathBuf::from(ns.file("watched", "")?);
    let out = std::fs::File::create(&file)?;
    let all = ns.line(line);
    let mut child = std::process::Command::new(&all[0]).args(&all[1..]).stdout(out.try_clone()?).stderr(out).spawn()?;
    let said = || std::fs::read_to_string(&file).unwrap_or_default();
    let result = work().and_then(|()| {
        ns.c.wait(PATIENCE, &format!("kubectl {line} to say {enough:?}"), || {
            let said = said();
            match enough.iter().find(|w| !said.contains(**w)) {
                None => Ok(true),
                Some(w) => bail!("no {w:?} in:\n{said}"),
            }
        })
    });
    child.kill()?;
    child.wait()?;
    result.map(|()| said())
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
