//! When the node is short of something: upstream's `evictionHard`, written as
//! `memory.available<100Mi,nodefs.available<5%`.

use crate::quantity;
use std::str::FromStr;

/// How little may be left.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Least {
    /// Bytes, or a count.
    Amount(u64),
    /// Of the whole.
    Percent(f64),
}

impl Least {
    /// As an amount.
    pub fn of(self, whole: u64) -> u64 {
        match self {
            Least::Amount(least) => least,
            Least::Percent(p) => (whole as f64 * p / 100.0) as u64,
        }
    }

    /// Whether less than that is left.
    pub fn undercut(self, left: u64, whole: u64) -> bool {
        left < self.of(whole)
    }
}

/// One per signal; a signal that is left out has no threshold, as upstream has it.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Thresholds {
    pub memory_available: Option<Least>,
    /// Of the file system that holds pods' files; images lie there, too.
    pub nodefs_available: Option<Least>,
    pub nodefs_inodes_free: Option<Least>,
    pub pid_available: Option<Least>,
}

impl Default for Thresholds {
    /// Upstream's, but for disks: a tenth of a large disk is much to be short of.
    fn default() -> Thresholds {
        Thresholds {
            memory_available: Some(Least::Amount(100 << 20)),
            nodefs_available: Some(Least::Percent(5.0)),
            nodefs_inodes_free: Some(Least::Percent(5.0)),
            pid_available: Some(Least::Percent(5.0)),
        }
    }
}

impl FromStr for Thresholds {
    type Err = String;

    fn from_str(text: &str) -> Result<Thresholds, String> {
        let mut out = Thresholds {
            memory_available: None,
            nodefs_available: None,
            nodefs_inodes_free: None,
            pid_available: None,
        };
        for part in text.split(',').map(str::trim).filter(|p| !p.is_empty()) {
            let (signal, least) = part
                .split_once('<')
                .ok_or_else(|| format!("{part:?}: expected signal<quantity or signal<percentage%"))?;
            let place = match signal.trim() {
                "memory.available" => &mut out.memory_available,
                "nodefs.available" => &mut out.nodefs_available,
                "nodefs.inodesFree" => &mut out.nodefs_inodes_free,
                "pid.available" => &mut out.pid_available,
                other => {
                    return Err(format!(
                        "{part:?}: unknown signal {other:?}: expected memory.available, nodefs.available, \
                         nodefs.inodesFree or pid.available"
                    ));
                }
            };
            *place = Some(parse(least.trim()).ok_or_else(|| format!("{part:?}: no quantity or percentage"))?);
        }
        Ok(out)
    }
}

fn parse(text: &str) -> Option<Least> {
    if let Some(percent) = text.strip_suffix('%') {
        return percent.parse().ok().filter(|p| (0.0..=100.0).contains(p)).map(Least::Percent);
    }
    let milli = quantity::parse_milli(text)?;
    u64::try_from(milli / 1000).ok().map(Least::Amount)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts() {
        let t: Thresholds = "memory.available<1Gi, nodefs.available<2.5%".parse().unwrap();
        assert_eq!(t.memory_available, Some(Least::Amount(1 << 30)));
        assert_eq!((t.nodefs_available, t.pid_available), (Some(Least::Percent(2.5)), None));
        assert_eq!("".parse::<Thresholds>().unwrap().memory_available, None);
        for (bad, want) in [
            ("memory.available", "expected signal<quantity"),
            ("swap.available<1Gi", "unknown signal \"swap.available\""),
            ("nodefs.available<x", "no quantity"),
            ("nodefs.available<101%", "no quantity"),
        ] {
            let e = bad.parse::<Thresholds>().unwrap_err();
            assert!(e.contains(want), "{bad}: {e}");
        }
    }

    #[test]
    fn borders() {
        assert!(Least::Percent(10.0).undercut(99, 1000) && !Least::Percent(10.0).undercut(100, 1000));
        assert!(Least::Amount(5).undercut(4, 0) && !Least::Amount(5).undercut(5, 0));
    }
}
