//! Optional values.

use super::Row;
use crate::eval::{EvalError, Evaluated, Frame, no_overload};
use crate::value::{List, Value};

pub const ROWS: &[Row] = &[
    ("optional.of", &["(A) optional(A)"], |_, a| some(a)),
    ("optional.none", &["() optional(A)"], |_, _| Ok(Value::Optional(None))),
    ("optional.ofNonZeroValue", &["(A) optional(A)"], |_, a| of_non_zero(a)),
    ("hasValue", &["optional(A).() bool"], |_, a| has_value(a)),
    ("value", &["optional(A).() A"], value),
    ("or", &["optional(A).(optional(A)) optional(A)"], |_, _| no_overload()),
    ("orValue", &["optional(A).(A) A"], |_, _| no_overload()),
    ("optional.unwrap", &["(list(optional(A))) list(A)"], |_, a| unwrap(a)),
    ("unwrapOpt", &["list(optional(A)).() list(A)"], |_, a| unwrap(a)),
    ("first", &["list(A).() optional(A)"], |_, a| at_end(a, |l| l.iter().next())),
    ("last", &["list(A).() optional(A)"], |_, a| at_end(a, |l| l.iter().last())),
];

/// Those of a list of optionals that have a value.
fn unwrap<'v>(args: &[Value<'v>]) -> Evaluated<'v> {
    let [Value::List(list)] = args else { return no_overload() };
    let mut out = Vec::new();
    for v in list.iter() {
        match v {
            Value::Optional(Some(v)) => out.push(v.as_ref().clone()),
            Value::Optional(None) => {}
            _ => return no_overload(),
        }
    }
    Ok(Value::list(out))
}

fn at_end<'v>(args: &[Value<'v>], end: impl Fn(&List<'v>) -> Option<Value<'v>>) -> Evaluated<'v> {
    let [Value::List(list)] = args else { return no_overload() };
    Ok(end(list).map_or(Value::Optional(None), Value::some))
}

fn some<'v>(args: &[Value<'v>]) -> Evaluated<'v> {
    args.first().cloned().map(Value::some).ok_or(EvalError::new("no such overload"))
}

fn of_non_zero<'v>(args: &[Value<'v>]) -> Evaluated<'v> {
    let zero = match args {
        [Value::Null | Value::Bool(false) | Value::Int(0) | Value::Uint(0) | Value::Duration(0)] => true,
        [Value::Double(d)] => *d == 0.0,
        [v @ (Value::String(_) | Value::Bytes(_) | Value::List(_) | Value::Map(_))] => v.size() == 0,
        [Value::Optional(None)] => true,
        _ => false,
    };
    if zero { Ok(Value::Optional(None)) } else { some(args) }
}

fn has_value<'v>(args: &[Value<'v>]) -> Evaluated<'v> {
    match args {
        [Value::Optional(v)] => Ok(Value::Bool(v.is_some())),
        _ => no_overload(),
    }
}

fn value<'v>(_: &mut Frame<'_, 'v>, args: &[Value<'v>]) -> Evaluated<'v> {
    match args {
        [Value::Optional(Some(v))] => Ok(v.as_ref().clone()),
        [Value::Optional(None)] => Err(EvalError::new("optional.none() dereference")),
        [Value::Verdict(_)] => no_overload(),
        _ => no_overload(),
    }
}
