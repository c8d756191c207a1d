//! Functions that expressions can call: the standard ones and Kubernetes' libraries, a table per file.
//!
//! A row has the function's name, its signatures (`string.(string) bool` is called on a string) and what runs it.

use crate::eval::{Evaluated, Frame};
use crate::types::{Type, split};
use crate::value::Value;
use std::collections::HashMap;
use std::sync::LazyLock;

mod authz;
mod format;
mod lists;
mod named_format;
mod net;
mod numbers;
mod optional;
mod standard;
mod strings;
mod times;

pub type Run = for<'a, 'v> fn(&mut Frame<'a, 'v>, &[Value<'v>]) -> Evaluated<'v>;
type Row = (&'static str, &'static [&'static str], Run);

pub struct Function {
    pub name: &'static str,
    pub overloads: Vec<Overload>,
    pub run: Run,
}

#[derive(Debug, PartialEq)]
pub struct Overload {
    /// The first argument is the target.
    pub member: bool,
    pub args: Vec<Type>,
    pub result: Type,
}

impl std::fmt::Debug for Function {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.name)
    }
}

const TABLES: &[&[Row]] = &[
    standard::ROWS,
    times::ROWS,
    optional::ROWS,
    strings::ROWS,
    format::ROWS,
    lists::ROWS,
    net::ROWS,
    numbers::ROWS,
    named_format::ROWS,
    authz::ROWS,
];

/// A function by its name.
pub fn function(name: &str) -> Option<&'static Function> {
    static FUNCTIONS: LazyLock<HashMap<&'static str, Function>> = LazyLock::new(|| {
        let rows = TABLES.iter().flat_map(|t| t.iter());
        rows.map(|(name, signatures, run)| {
            (*name, Function { name, overloads: signatures.iter().map(|s| overload(s)).collect(), run: *run })
        })
        .collect()
    });
    FUNCTIONS.get(name)
}

/// All overloads of a function that needs no choice.
pub fn overloads(name: &str) -> Vec<&'static Overload> {
    function(name).map(|f| f.overloads.iter().collect()).unwrap_or_default()
}

/// `string.(int, int) string`, `(A, list(A)) bool`
fn overload(signature: &str) -> Overload {
    let (member, rest) = match signature.find(".(") {
        Some(at) => (Some(&signature[..at]), &signature[at + 1..]),
        None => (None, signature),
    };
    let (mut depth, mut end) = (0, rest.len());
    for (i, c) in rest.char_indices() {
        match c {
            '(' => depth += 1,
            ')' => {
                depth -= 1;
                if depth == 0 {
                    end = i;
                    break;
                }
            }
            _ => {}
        }
    }
    let args = split(&rest[1..end]).into_iter().map(Type::parse);
    Overload {
        member: member.is_some(),
        args: member.into_iter().map(Type::parse).chain(args).collect(),
        result: Type::parse(&rest[end + 1..]),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn signatures_are_read_and_names_are_distinct() {
        let o = overload("map(A, B).(list(A)) optional(B)");
        assert!(o.member);
        assert_eq!((o.args[0].to_string(), o.args[1].to_string()), ("map(A, B)".into(), "list(A)".into()));
        assert_eq!(o.result.to_string(), "optional_type(B)");
        assert_eq!(overload("() bool").args, []);
        let mut names = std::collections::HashSet::new();
        for (name, signatures, _) in TABLES.iter().flat_map(|t| t.iter()) {
            assert!(names.insert(name), "{name} twice");
            for s in *signatures {
                assert!(!overload(s).args.contains(&Type::Error) && overload(s).result != Type::Error, "{name} {s}");
            }
        }
        assert!(function(crate::ast::op::ADD).is_some());
    }
}
