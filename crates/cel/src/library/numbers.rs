//! Quantities (`1.5Gi`) and semantic versions.

use super::Row;
use crate::eval::{EvalError, Evaluated, Frame, no_overload};
use crate::value::Value;
use meta::quantity::Quantity;
use semver::Version;
use std::cmp::Ordering;
use std::sync::Arc;

const ORDERED: &[&str] =
    &["kubernetes.Quantity.(kubernetes.Quantity) bool", "kubernetes.Semver.(kubernetes.Semver) bool"];
const SUMS: &[&str] =
    &["kubernetes.Quantity.(kubernetes.Quantity) kubernetes.Quantity", "kubernetes.Quantity.(int) kubernetes.Quantity"];
const VERSION: &[&str] = &["(string) kubernetes.Semver", "(string, bool) kubernetes.Semver"];

pub const ROWS: &[Row] = &[
    ("quantity", &["(string) kubernetes.Quantity"], quantity),
    ("isQuantity", &["(string) bool"], is_quantity),
    ("sign", &["kubernetes.Quantity.() int"], |_, a| of_quantity(a, |q| Value::Int(i64::from(q.sign())))),
    ("isInteger", &["kubernetes.Quantity.() bool"], |_, a| of_quantity(a, |q| Value::Bool(whole(&q).is_some()))),
    ("asInteger", &["kubernetes.Quantity.() int"], as_integer),
    ("asApproximateFloat", &["kubernetes.Quantity.() double"], |_, a| of_quantity(a, |q| Value::Double(q.as_f64()))),
    ("add", SUMS, |_, a| combined(a, |x, y| x + y)),
    ("sub", SUMS, |_, a| combined(a, |x, y| x - y)),
    ("isGreaterThan", ORDERED, |_, a| ordered(a, |o| Value::Bool(o.is_gt()))),
    ("isLessThan", ORDERED, |_, a| ordered(a, |o| Value::Bool(o.is_lt()))),
    (
        "compareTo",
        &["kubernetes.Quantity.(kubernetes.Quantity) int", "kubernetes.Semver.(kubernetes.Semver) int"],
        |_, a| ordered(a, |o| Value::Int(o as i64)),
    ),
    ("semver", VERSION, semver),
    ("isSemver", &["(string) bool", "(string, bool) bool"], is_semver),
    ("major", &["kubernetes.Semver.() int"], |_, a| of_semver(a, |v| v.major)),
    ("minor", &["kubernetes.Semver.() int"], |_, a| of_semver(a, |v| v.minor)),
    ("patch", &["kubernetes.Semver.() int"], |_, a| of_semver(a, |v| v.patch)),
];

fn quantity<'v>(_: &mut Frame<'_, 'v>, args: &[Value<'v>]) -> Evaluated<'v> {
    match args {
        [Value::String(s)] => Quantity::parse(s).map(Value::Quantity).map_err(|e| EvalError::new(e.to_string())),
        _ => no_overload(),
    }
}

fn is_quantity<'v>(_: &mut Frame<'_, 'v>, args: &[Value<'v>]) -> Evaluated<'v> {
    match args {
        [Value::String(s)] => Ok(Value::Bool(Quantity::parse(s).is_ok())),
        _ => no_overload(),
    }
}

fn of_quantity<'v>(args: &[Value<'v>], part: fn(Quantity) -> Value<'static>) -> Evaluated<'v> {
    match args {
        [Value::Quantity(q)] => Ok(part(*q)),
        _ => no_overload(),
    }
}

/// The number, when it is a whole one that an int holds.
fn whole(q: &Quantity) -> Option<i64> {
    let value = q.value();
    (Quantity::new(value, q.format) == *q).then_some(value)
}

fn as_integer<'v>(_: &mut Frame<'_, 'v>, args: &[Value<'v>]) -> Evaluated<'v> {
    match args {
        [Value::Quantity(q)] => whole(q).map(Value::Int).ok_or(EvalError::new("cannot convert value to integer")),
        _ => no_overload(),
    }
}

fn combined<'v>(args: &[Value<'v>], with: fn(Quantity, Quantity) -> Quantity) -> Evaluated<'v> {
    match args {
        [Value::Quantity(a), Value::Quantity(b)] => Ok(Value::Quantity(with(*a, *b))),
        [Value::Quantity(a), Value::Int(b)] => Ok(Value::Quantity(with(*a, Quantity::new(*b, a.format)))),
        _ => no_overload(),
    }
}

fn ordered<'v>(args: &[Value<'v>], result: fn(Ordering) -> Value<'static>) -> Evaluated<'v> {
    match args {
        [Value::Quantity(a), Value::Quantity(b)] => Ok(result(a.cmp(b))),
        [Value::Semver(a), Value::Semver(b)] => Ok(result(a.cmp_precedence(b))),
        _ => no_overload(),
    }
}

/// `normalize`: a leading `v` is dropped, missing parts are zero, leading zeros are dropped.
fn parse_version(text: &str, normalize: bool) -> Result<Version, EvalError> {
    let wrong = |e: semver::Error| EvalError::new(format!("semver parse error during conversion from string: {e}"));
    if !normalize {
        return Version::parse(text).map_err(wrong);
    }
    let text = text.strip_prefix('v').unwrap_or(text);
    let end = text.find(['-', '+']).unwrap_or(text.len());
    let (numbers, rest) = text.split_at(end);
    let mut parts: Vec<String> = numbers
        .split('.')
        .map(|p| match p.trim_start_matches('0') {
            "" if !p.is_empty() => "0".to_string(),
            p => p.to_string(),
        })
        .collect();
    while parts.len() < 3 {
        parts.push("0".to_string());
    }
    Version::parse(&format!("{}{rest}", parts.join("."))).map_err(wrong)
}

fn version_of(args: &[Value<'_>]) -> Option<Result<Version, EvalError>> {
    match args {
        [Value::String(s)] => Some(parse_version(s, false)),
        [Value::String(s), Value::Bool(normalize)] => Some(parse_version(s, *normalize)),
        _ => None,
    }
}

fn semver<'v>(_: &mut Frame<'_, 'v>, args: &[Value<'v>]) -> Evaluated<'v> {
    match version_of(args) {
        Some(v) => Ok(Value::Semver(Arc::new(v?))),
        None => no_overload(),
    }
}

fn is_semver<'v>(_: &mut Frame<'_, 'v>, args: &[Value<'v>]) -> Evaluated<'v> {
    match version_of(args) {
        Some(v) => Ok(Value::Bool(v.is_ok())),
        None => no_overload(),
    }
}

fn of_semver<'v>(args: &[Value<'v>], part: fn(&Version) -> u64) -> Evaluated<'v> {
    match args {
        [Value::Semver(v)] => Ok(Value::Int(i64::try_from(part(v)).unwrap_or(i64::MAX))),
        _ => no_overload(),
    }
}
