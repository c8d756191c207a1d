//! Kubernetes' list functions and CEL's set functions.

use super::Row;
use crate::eval::{EvalError, Evaluated, Frame, no_overload};
use crate::value::{Value, compare};
use std::cmp::Ordering;

pub const ROWS: &[Row] = &[
    (
        "isSorted",
        &[
            "list(int).() bool",
            "list(uint).() bool",
            "list(double).() bool",
            "list(bool).() bool",
            "list(duration).() bool",
            "list(timestamp).() bool",
            "list(string).() bool",
            "list(bytes).() bool",
        ],
        is_sorted,
    ),
    ("sum", &["list(int).() int", "list(uint).() uint", "list(double).() double", "list(duration).() duration"], sum),
    ("min", EXTREMES, |_, a| extreme(a, Ordering::is_lt, "min")),
    ("max", EXTREMES, |_, a| extreme(a, Ordering::is_gt, "max")),
    ("sets.contains", &["(list(A), list(A)) bool"], |f, a| sets(f, a, true, false)),
    ("sets.equivalent", &["(list(A), list(A)) bool"], |f, a| sets(f, a, true, true)),
    ("sets.intersects", &["(list(A), list(A)) bool"], intersects),
];

const EXTREMES: &[&str] = &[
    "list(int).() int",
    "list(uint).() uint",
    "list(double).() double",
    "list(bool).() bool",
    "list(duration).() duration",
    "list(timestamp).() timestamp",
    "list(string).() string",
    "list(bytes).() bytes",
];

fn is_sorted<'v>(_: &mut Frame<'_, 'v>, args: &[Value<'v>]) -> Evaluated<'v> {
    let [Value::List(list)] = args else { return no_overload() };
    let items: Vec<Value<'v>> = list.iter().collect();
    for pair in items.windows(2) {
        match compare(&pair[0], &pair[1]) {
            Some(Ordering::Greater) => return Ok(Value::Bool(false)),
            Some(_) => {}
            None => return no_overload(),
        }
    }
    Ok(Value::Bool(true))
}

fn sum<'v>(_: &mut Frame<'_, 'v>, args: &[Value<'v>]) -> Evaluated<'v> {
    let [Value::List(list)] = args else { return no_overload() };
    let overflow = || EvalError::new("integer overflow");
    let mut total: Option<Value<'v>> = None;
    for v in list.iter() {
        total = Some(match (total, v) {
            (None, v @ (Value::Int(_) | Value::Uint(_) | Value::Double(_) | Value::Duration(_))) => v,
            (Some(Value::Int(a)), Value::Int(b)) => Value::Int(a.checked_add(b).ok_or_else(overflow)?),
            (Some(Value::Uint(a)), Value::Uint(b)) => Value::Uint(a.checked_add(b).ok_or_else(overflow)?),
            (Some(Value::Double(a)), Value::Double(b)) => Value::Double(a + b),
            (Some(Value::Duration(a)), Value::Duration(b)) => Value::Duration(a.checked_add(b).ok_or_else(overflow)?),
            _ => return no_overload(),
        });
    }
    Ok(total.unwrap_or(Value::Int(0)))
}

fn extreme<'v>(args: &[Value<'v>], better: fn(Ordering) -> bool, name: &str) -> Evaluated<'v> {
    let [Value::List(list)] = args else { return no_overload() };
    let mut best: Option<Value<'v>> = None;
    for v in list.iter() {
        best = Some(match best {
            None => v,
            Some(b) => match compare(&v, &b) {
                Some(order) if better(order) => v,
                Some(_) => b,
                None => return no_overload(),
            },
        });
    }
    best.ok_or(EvalError::new(format!("{name} called on empty list")))
}

/// The first list has all of the second; `both`: and the other way round.
fn sets<'v>(f: &mut Frame<'_, 'v>, args: &[Value<'v>], result: bool, both: bool) -> Evaluated<'v> {
    let [Value::List(a), Value::List(b)] = args else { return no_overload() };
    for v in b.iter() {
        if !f.contains(a, &v)? {
            return Ok(Value::Bool(!result));
        }
    }
    if both {
        for v in a.iter() {
            if !f.contains(b, &v)? {
                return Ok(Value::Bool(!result));
            }
        }
    }
    Ok(Value::Bool(result))
}

fn intersects<'v>(f: &mut Frame<'_, 'v>, args: &[Value<'v>]) -> Evaluated<'v> {
    let [Value::List(a), Value::List(b)] = args else { return no_overload() };
    for v in b.iter() {
        if f.contains(a, &v)? {
            return Ok(Value::Bool(true));
        }
    }
    Ok(Value::Bool(false))
}
