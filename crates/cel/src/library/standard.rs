//! CEL's own operators, conversions and functions of text.

use super::Row;
use crate::ast::op;
use crate::eval::{EvalError, Evaluated, Frame, no_overload};
use crate::schema::ListType;
use crate::time;
use crate::value::*;
use std::cmp::Ordering;
use std::sync::Arc;

const ORDERED: &[&str] = &[
    "(bool, bool) bool",
    "(int, int) bool",
    "(int, double) bool",
    "(int, uint) bool",
    "(uint, uint) bool",
    "(uint, double) bool",
    "(uint, int) bool",
    "(double, double) bool",
    "(double, int) bool",
    "(double, uint) bool",
    "(string, string) bool",
    "(bytes, bytes) bool",
    "(timestamp, timestamp) bool",
    "(duration, duration) bool",
];

pub const ROWS: &[Row] = &[
    (op::CONDITIONAL, &["(bool, A, A) A"], never),
    (op::AND, &["(bool, bool) bool"], never),
    (op::OR, &["(bool, bool) bool"], never),
    (op::NOT_STRICTLY_FALSE, &["(bool) bool"], never),
    (
        op::INDEX,
        &[
            "(list(A), int) A",
            "(map(A, B), A) B",
            "(optional(list(A)), int) optional(A)",
            "(optional(map(A, B)), A) optional(B)",
        ],
        never,
    ),
    (
        op::OPT_INDEX,
        &[
            "(list(A), int) optional(A)",
            "(map(A, B), A) optional(B)",
            "(optional(list(A)), int) optional(A)",
            "(optional(map(A, B)), A) optional(B)",
        ],
        never,
    ),
    (op::OPT_SELECT, &["(dyn, string) optional(A)"], never),
    (op::MAP_INSERT, &["(map(A, B), A, B) map(A, B)", "(map(A, B), map(A, B)) map(A, B)"], never),
    (op::NOT, &["(bool) bool"], not),
    (op::NEGATE, &["(int) int", "(double) double"], negate),
    (op::EQUALS, &["(A, A) bool"], equals),
    (op::NOT_EQUALS, &["(A, A) bool"], not_equals),
    (op::LESS, ORDERED, less),
    (op::LESS_EQUALS, ORDERED, less_equals),
    (op::GREATER, ORDERED, greater),
    (op::GREATER_EQUALS, ORDERED, greater_equals),
    (op::IN, &["(A, list(A)) bool", "(A, map(A, B)) bool"], is_in),
    (
        op::ADD,
        &[
            "(int, int) int",
            "(uint, uint) uint",
            "(double, double) double",
            "(string, string) string",
            "(bytes, bytes) bytes",
            "(list(A), list(A)) list(A)",
            "(timestamp, duration) timestamp",
            "(duration, timestamp) timestamp",
            "(duration, duration) duration",
        ],
        add,
    ),
    (
        op::SUBTRACT,
        &[
            "(int, int) int",
            "(uint, uint) uint",
            "(double, double) double",
            "(timestamp, timestamp) duration",
            "(timestamp, duration) timestamp",
            "(duration, duration) duration",
        ],
        subtract,
    ),
    (op::MULTIPLY, &["(int, int) int", "(uint, uint) uint", "(double, double) double"], multiply),
    (op::DIVIDE, &["(int, int) int", "(uint, uint) uint", "(double, double) double"], divide),
    (op::MODULO, &["(int, int) int", "(uint, uint) uint"], modulo),
    (
        "size",
        &[
            "(string) int",
            "(bytes) int",
            "(list(A)) int",
            "(map(A, B)) int",
            "string.() int",
            "bytes.() int",
            "list(A).() int",
            "map(A, B).() int",
        ],
        size,
    ),
    ("contains", &["string.(string) bool"], contains),
    ("startsWith", &["string.(string) bool"], starts_with),
    ("endsWith", &["string.(string) bool"], ends_with),
    ("matches", &["(string, string) bool", "string.(string) bool"], matches),
    ("dyn", &["(A) dyn"], same),
    ("type", &["(A) type(A)"], type_of),
    ("bool", &["(bool) bool", "(string) bool"], to_bool),
    ("int", &["(int) int", "(uint) int", "(double) int", "(string) int", "(timestamp) int", "(duration) int"], to_int),
    ("uint", &["(uint) uint", "(int) uint", "(double) uint", "(string) uint"], to_uint),
    ("double", &["(double) double", "(int) double", "(uint) double", "(string) double"], to_double),
    (
        "string",
        &[
            "(string) string",
            "(bool) string",
            "(int) string",
            "(uint) string",
            "(double) string",
            "(bytes) string",
            "(timestamp) string",
            "(duration) string",
            "(net.IP) string",
            "(net.CIDR) string",
            "net.IP.() string",
            "net.CIDR.() string",
        ],
        to_string,
    ),
    ("bytes", &["(bytes) bytes", "(string) bytes"], to_bytes),
    ("timestamp", &["(timestamp) timestamp", "(string) timestamp", "(int) timestamp"], to_timestamp),
    ("duration", &["(duration) duration", "(string) duration", "(int) duration"], to_duration),
];

fn fail<T>(message: impl Into<String>) -> Result<T, EvalError> {
    Err(EvalError::new(message))
}

/// The evaluator does these itself.
fn never<'v>(_: &mut Frame<'_, 'v>, _: &[Value<'v>]) -> Evaluated<'v> {
    no_overload()
}

fn same<'v>(_: &mut Frame<'_, 'v>, args: &[Value<'v>]) -> Evaluated<'v> {
    args.first().cloned().ok_or(EvalError::new("no such overload"))
}

fn not<'v>(_: &mut Frame<'_, 'v>, args: &[Value<'v>]) -> Evaluated<'v> {
    match args {
        [Value::Bool(b)] => Ok(Value::Bool(!b)),
        _ => no_overload(),
    }
}

fn negate<'v>(_: &mut Frame<'_, 'v>, args: &[Value<'v>]) -> Evaluated<'v> {
    match args {
        [Value::Int(i)] => i.checked_neg().map(Value::Int).ok_or_else(int_overflow),
        [Value::Double(d)] => Ok(Value::Double(-d)),
        _ => no_overload(),
    }
}

fn int_overflow() -> EvalError {
    EvalError::new("integer overflow")
}

fn uint_overflow() -> EvalError {
    EvalError::new("unsigned integer overflow")
}

fn equals<'v>(f: &mut Frame<'_, 'v>, args: &[Value<'v>]) -> Evaluated<'v> {
    match args {
        [a, b] => f.equal(a, b).map(Value::Bool),
        _ => no_overload(),
    }
}

fn not_equals<'v>(f: &mut Frame<'_, 'v>, args: &[Value<'v>]) -> Evaluated<'v> {
    match args {
        [a, b] => f.equal(a, b).map(|same| Value::Bool(!same)),
        _ => no_overload(),
    }
}

fn ordered<'v>(args: &[Value<'v>], holds: fn(Ordering) -> bool) -> Evaluated<'v> {
    let [a, b] = args else { return no_overload() };
    match compare(a, b) {
        Some(order) => Ok(Value::Bool(holds(order))),
        None if matches!((a, b), (Value::Double(_), _) | (_, Value::Double(_)))
            && !matches!(a, Value::String(_))
            && !matches!(b, Value::String(_)) =>
        {
            Ok(Value::Bool(false))
        }
        None => no_overload(),
    }
}

fn less<'v>(_: &mut Frame<'_, 'v>, args: &[Value<'v>]) -> Evaluated<'v> {
    ordered(args, Ordering::is_lt)
}

fn less_equals<'v>(_: &mut Frame<'_, 'v>, args: &[Value<'v>]) -> Evaluated<'v> {
    ordered(args, Ordering::is_le)
}

fn greater<'v>(_: &mut Frame<'_, 'v>, args: &[Value<'v>]) -> Evaluated<'v> {
    ordered(args, Ordering::is_gt)
}

fn greater_equals<'v>(_: &mut Frame<'_, 'v>, args: &[Value<'v>]) -> Evaluated<'v> {
    ordered(args, Ordering::is_ge)
}

fn is_in<'v>(f: &mut Frame<'_, 'v>, args: &[Value<'v>]) -> Evaluated<'v> {
    match args {
        [wanted, Value::List(list)] => f.contains(list, wanted).map(Value::Bool),
        [wanted, Value::Map(map)] => Ok(Value::Bool(Key::of(wanted).is_some_and(|k| map.get(&k).is_some()))),
        _ => no_overload(),
    }
}

fn add<'v>(f: &mut Frame<'_, 'v>, args: &[Value<'v>]) -> Evaluated<'v> {
    Ok(match args {
        [Value::Int(a), Value::Int(b)] => Value::Int(a.checked_add(*b).ok_or_else(int_overflow)?),
        [Value::Uint(a), Value::Uint(b)] => Value::Uint(a.checked_add(*b).ok_or_else(uint_overflow)?),
        [Value::Double(a), Value::Double(b)] => Value::Double(a + b),
        [Value::String(a), Value::String(b)] => Value::string(format!("{}{}", &**a, &**b)),
        [Value::Bytes(a), Value::Bytes(b)] => Value::Bytes([&**a, &**b].concat().into()),
        [Value::List(a), Value::List(b)] => return add_lists(f, a, b),
        [Value::Timestamp(t), Value::Duration(d)] | [Value::Duration(d), Value::Timestamp(t)] => {
            moved(*t, i128::from(*d))?
        }
        [Value::Duration(a), Value::Duration(b)] => {
            Value::Duration(a.checked_add(*b).ok_or(EvalError::new("duration overflow"))?)
        }
        _ => return no_overload(),
    })
}

/// Concatenation; of lists that are sets or maps by their schema a union, as the API reference defines it.
fn add_lists<'v>(f: &mut Frame<'_, 'v>, a: &List<'v>, b: &List<'v>) -> Evaluated<'v> {
    f.step((a.len() + b.len()) as u64)?;
    f.room((a.len() + b.len()) as u64)?;
    let mut items: Vec<Value<'v>> = a.iter().collect();
    let before = items.len();
    match a.topology() {
        None => items.extend(b.iter()),
        Some(ListType::Map(keys)) => {
            'next: for y in b.iter() {
                for i in 0..before {
                    if f.same_keys(&items[i].clone(), &y, keys)? {
                        items[i] = y;
                        continue 'next;
                    }
                }
                items.push(y);
            }
        }
        Some(_) => {
            for y in b.iter() {
                if !f.contains(a, &y)? {
                    items.push(y);
                }
            }
        }
    }
    Ok(Value::list(items))
}

fn moved<'v>(t: time::Timestamp, nanos: i128) -> Evaluated<'v> {
    t.plus(nanos).map(Value::Timestamp).ok_or(EvalError::new("timestamp overflow"))
}

fn subtract<'v>(_: &mut Frame<'_, 'v>, args: &[Value<'v>]) -> Evaluated<'v> {
    Ok(match args {
        [Value::Int(a), Value::Int(b)] => Value::Int(a.checked_sub(*b).ok_or_else(int_overflow)?),
        [Value::Uint(a), Value::Uint(b)] => Value::Uint(a.checked_sub(*b).ok_or_else(uint_overflow)?),
        [Value::Double(a), Value::Double(b)] => Value::Double(a - b),
        [Value::Timestamp(a), Value::Timestamp(b)] => match i64::try_from(a.since(*b)) {
            Ok(d) => Value::Duration(d),
            Err(_) => return fail("timestamp overflow"),
        },
        [Value::Timestamp(t), Value::Duration(d)] => moved(*t, -i128::from(*d))?,
        [Value::Duration(a), Value::Duration(b)] => {
            Value::Duration(a.checked_sub(*b).ok_or(EvalError::new("duration overflow"))?)
        }
        _ => return no_overload(),
    })
}

fn multiply<'v>(_: &mut Frame<'_, 'v>, args: &[Value<'v>]) -> Evaluated<'v> {
    Ok(match args {
        [Value::Int(a), Value::Int(b)] => Value::Int(a.checked_mul(*b).ok_or_else(int_overflow)?),
        [Value::Uint(a), Value::Uint(b)] => Value::Uint(a.checked_mul(*b).ok_or_else(uint_overflow)?),
        [Value::Double(a), Value::Double(b)] => Value::Double(a * b),
        _ => return no_overload(),
    })
}

fn divide<'v>(_: &mut Frame<'_, 'v>, args: &[Value<'v>]) -> Evaluated<'v> {
    Ok(match args {
        [Value::Int(_), Value::Int(0)] | [Value::Uint(_), Value::Uint(0)] => return fail("division by zero"),
        [Value::Int(a), Value::Int(b)] => Value::Int(a.checked_div(*b).ok_or_else(int_overflow)?),
        [Value::Uint(a), Value::Uint(b)] => Value::Uint(a / b),
        [Value::Double(a), Value::Double(b)] => Value::Double(a / b),
        _ => return no_overload(),
    })
}

fn modulo<'v>(_: &mut Frame<'_, 'v>, args: &[Value<'v>]) -> Evaluated<'v> {
    Ok(match args {
        [Value::Int(_), Value::Int(0)] | [Value::Uint(_), Value::Uint(0)] => return fail("modulus by zero"),
        [Value::Int(a), Value::Int(b)] => Value::Int(a.checked_rem(*b).ok_or_else(int_overflow)?),
        [Value::Uint(a), Value::Uint(b)] => Value::Uint(a % b),
        _ => return no_overload(),
    })
}

fn size<'v>(_: &mut Frame<'_, 'v>, args: &[Value<'v>]) -> Evaluated<'v> {
    match args {
        [v @ (Value::String(_) | Value::Bytes(_) | Value::List(_) | Value::Map(_))] => Ok(Value::Int(v.size() as i64)),
        _ => no_overload(),
    }
}

fn contains<'v>(_: &mut Frame<'_, 'v>, args: &[Value<'v>]) -> Evaluated<'v> {
    texts(args, |a, b| a.contains(b))
}

fn starts_with<'v>(_: &mut Frame<'_, 'v>, args: &[Value<'v>]) -> Evaluated<'v> {
    texts(args, |a, b| a.starts_with(b))
}

fn ends_with<'v>(_: &mut Frame<'_, 'v>, args: &[Value<'v>]) -> Evaluated<'v> {
    texts(args, |a, b| a.ends_with(b))
}

fn texts<'v>(args: &[Value<'v>], holds: fn(&str, &str) -> bool) -> Evaluated<'v> {
    match args {
        [Value::String(a), Value::String(b)] => Ok(Value::Bool(holds(a, b))),
        _ => no_overload(),
    }
}

fn matches<'v>(f: &mut Frame<'_, 'v>, args: &[Value<'v>]) -> Evaluated<'v> {
    match args {
        [Value::String(text), Value::String(pattern)] => Ok(Value::Bool(f.regex(pattern)?.is_match(text))),
        _ => no_overload(),
    }
}

fn type_of<'v>(_: &mut Frame<'_, 'v>, args: &[Value<'v>]) -> Evaluated<'v> {
    match args {
        [v] => Ok(Value::Type(Str::Shared(v.type_name().into()))),
        _ => no_overload(),
    }
}

fn to_bool<'v>(_: &mut Frame<'_, 'v>, args: &[Value<'v>]) -> Evaluated<'v> {
    match args {
        [Value::Bool(b)] => Ok(Value::Bool(*b)),
        [Value::String(s)] => match &**s {
            "1" | "t" | "T" | "true" | "TRUE" | "True" => Ok(Value::Bool(true)),
            "0" | "f" | "F" | "false" | "FALSE" | "False" => Ok(Value::Bool(false)),
            _ => fail("type conversion error from 'string' to 'bool'"),
        },
        _ => no_overload(),
    }
}

fn to_int<'v>(_: &mut Frame<'_, 'v>, args: &[Value<'v>]) -> Evaluated<'v> {
    Ok(Value::Int(match args {
        [Value::Int(i)] => *i,
        [Value::Uint(u)] => i64::try_from(*u).map_err(|_| int_overflow())?,
        [Value::Double(d)] if d.is_finite() && d.abs() < 2f64.powi(63) => *d as i64,
        [Value::Double(_)] => return Err(int_overflow()),
        [Value::String(s)] => match s.parse() {
            Ok(i) => i,
            Err(_) => return fail("type conversion error from 'string' to 'int'"),
        },
        [Value::Timestamp(t)] => t.as_second(),
        [Value::Duration(d)] => *d,
        _ => return no_overload(),
    }))
}

fn to_uint<'v>(_: &mut Frame<'_, 'v>, args: &[Value<'v>]) -> Evaluated<'v> {
    Ok(Value::Uint(match args {
        [Value::Uint(u)] => *u,
        [Value::Int(i)] => u64::try_from(*i).map_err(|_| uint_overflow())?,
        [Value::Double(d)] if *d >= 0.0 && *d < 2f64.powi(64) => *d as u64,
        [Value::Double(_)] => return Err(uint_overflow()),
        [Value::String(s)] => match s.parse() {
            Ok(u) => u,
            Err(_) => return fail("type conversion error from 'string' to 'uint'"),
        },
        _ => return no_overload(),
    }))
}

fn to_double<'v>(_: &mut Frame<'_, 'v>, args: &[Value<'v>]) -> Evaluated<'v> {
    Ok(Value::Double(match args {
        [Value::Double(d)] => *d,
        [Value::Int(i)] => *i as f64,
        [Value::Uint(u)] => *u as f64,
        [Value::String(s)] => match s.parse() {
            Ok(d) => d,
            Err(_) => return fail("type conversion error from 'string' to 'double'"),
        },
        _ => return no_overload(),
    }))
}

fn to_string<'v>(_: &mut Frame<'_, 'v>, args: &[Value<'v>]) -> Evaluated<'v> {
    Ok(match args {
        [v @ Value::String(_)] => v.clone(),
        [Value::Bool(b)] => Value::string(b.to_string()),
        [Value::Int(i)] => Value::string(i.to_string()),
        [Value::Uint(u)] => Value::string(u.to_string()),
        [Value::Double(d)] => Value::string(super::format::shortest(*d)),
        [Value::Bytes(b)] => match std::str::from_utf8(b) {
            Ok(s) => Value::string(s),
            Err(_) => return fail("invalid UTF-8 in bytes, cannot convert to string"),
        },
        [Value::Timestamp(t)] => Value::string(time::show_timestamp(*t)),
        [Value::Duration(d)] => Value::string(time::show_duration(*d)),
        [Value::Ip(ip)] => Value::string(ip.to_string()),
        [Value::Cidr(c)] => Value::string(c.to_string()),
        [Value::Type(t)] => Value::String(t.clone()),
        _ => return no_overload(),
    })
}

fn to_bytes<'v>(_: &mut Frame<'_, 'v>, args: &[Value<'v>]) -> Evaluated<'v> {
    match args {
        [v @ Value::Bytes(_)] => Ok(v.clone()),
        [Value::String(s)] => Ok(Value::Bytes(Arc::from(s.as_bytes()))),
        _ => no_overload(),
    }
}

fn to_timestamp<'v>(_: &mut Frame<'_, 'v>, args: &[Value<'v>]) -> Evaluated<'v> {
    match args {
        [v @ Value::Timestamp(_)] => Ok(v.clone()),
        [Value::String(s)] => time::parse_timestamp(s)
            .map(Value::Timestamp)
            .ok_or(EvalError::new("type conversion error from 'string' to 'timestamp'")),
        [Value::Int(i)] => {
            time::Timestamp::from_second(*i).map(Value::Timestamp).ok_or(EvalError::new("timestamp overflow"))
        }
        _ => no_overload(),
    }
}

fn to_duration<'v>(_: &mut Frame<'_, 'v>, args: &[Value<'v>]) -> Evaluated<'v> {
    match args {
        [v @ Value::Duration(_)] => Ok(v.clone()),
        [Value::Int(i)] => Ok(Value::Duration(*i)),
        [Value::String(s)] => time::parse_duration(s).map(Value::Duration).map_err(EvalError::new),
        _ => no_overload(),
    }
}
