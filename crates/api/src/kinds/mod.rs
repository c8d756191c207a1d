//! What each kind means: a file per kind (or per family of kinds), a row per kind in the table below.
//!
//! To add a kind: write `kinds/<kind>.rs` with a unit struct that implements [`Strategy`], add its `mod` line,
//! and add its `row!`. A kind without a row gets [`Plain`], the generic behaviour.

use crate::strategy::Strategy;
use std::sync::Arc;

// One `pub mod` line per file, sorted.

/// The strategy of a kind that has nothing special about it.
#[derive(Debug, Clone, Copy, Default)]
pub struct Plain;

impl Strategy for Plain {}

/// One row of the table: the group, the kind and a constant expression that makes its strategy.
struct Row {
    group: &'static str,
    kind: &'static str,
    make: fn() -> Arc<dyn Strategy>,
}

macro_rules! row {
    ($group:literal, $kind:literal, $strategy:expr) => {
        Row { group: $group, kind: $kind, make: || Arc::new($strategy) }
    };
}

/// Every kind with a meaning of its own. Sorted by group, then kind.
const TABLE: &[Row] = &[
    // Like this: row!("", "Pod", pod::Pod),
];

/// The strategy for a kind of a built-in group; the version doesn't matter.
pub fn strategy(group: &str, kind: &str) -> Arc<dyn Strategy> {
    match TABLE.iter().find(|r| r.group == group && r.kind == kind) {
        Some(row) => (row.make)(),
        None => Arc::new(Plain),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_kind_has_two_rows() {
        let mut seen: Vec<(&str, &str)> = TABLE.iter().map(|r| (r.group, r.kind)).collect();
        seen.sort_unstable();
        let all = seen.len();
        seen.dedup();
        assert_eq!(seen.len(), all);
    }
}
