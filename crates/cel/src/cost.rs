//! What calls cost when they run (KEP-2876). A unit is about 50 ns of upstream's evaluator; walking over text costs
//! a tenth per character.

use crate::ast::op;
use crate::value::{List, Map, Value};

pub const STRING_FACTOR: f64 = 0.1;
pub const REGEX_FACTOR: f64 = 0.25;
/// Two questions to an authorizer per expression.
pub const CHECK: u64 = 350_000;

/// The longest regular expression behind a named format, as upstream assumes.
pub const NAMED_FORMAT_LENGTH_MAX: f64 = 128.0;

/// A traversal of `n` characters.
pub fn text(n: u64) -> u64 {
    (n as f64 * STRING_FACTOR).ceil() as u64
}

/// Of parsing a selector of `n` characters: a list, and a requirement for every two characters.
pub fn selector(n: u64) -> u64 {
    10u64.saturating_add(text(n)).saturating_add(n.div_ceil(2).saturating_mul(50))
}

/// The cost of a call that is about to be made.
pub fn of_call(function: &str, args: &[Value<'_>]) -> u64 {
    let size = |i: usize| args.get(i).map_or(1, Value::size);
    match function {
        "check" => CHECK,
        "fieldSelector" | "labelSelector" => selector(size(1)),
        "isSorted" | "sum" | "max" | "min" => args.first().map_or(0, traversal),
        "indexOf" | "lastIndexOf" => args.first().map_or(0, traversal),
        "url"
        | "lowerAscii"
        | "upperAscii"
        | "substring"
        | "trim"
        | "format"
        | "strings.quote"
        | "jsonpatch.escapeKey" => text(size(0)),
        "replace" | "split" => (size(0) as f64 * 2.0 * STRING_FACTOR).ceil() as u64,
        "join" => (joined(args) as f64 * 2.0 * STRING_FACTOR).ceil() as u64,
        "find" | "findAll" | "matches" => {
            let walk = ((1.0 + size(0) as f64) * STRING_FACTOR).ceil() as u64;
            walk.saturating_mul((size(1) as f64 * REGEX_FACTOR).ceil() as u64)
        }
        "cidr" | "isIP" | "isCIDR" | "quantity" | "isQuantity" | "semver" | "isSemver" | "validate" => text(size(0)),
        "ip" => match args.first() {
            Some(Value::Cidr(_)) => 1,
            _ => text(size(0)),
        },
        "ip.isCanonical" => (size(0) as f64 * 2.0 * STRING_FACTOR).ceil() as u64,
        "containsIP" | "containsCIDR" => {
            let mut cost = text(size(0) * 2);
            if function == "containsCIDR" {
                cost += text(size(0)) + 1;
            }
            if matches!(args.get(1), Some(Value::String(_))) {
                cost += text(size(1));
            }
            cost
        }
        "startsWith" | "endsWith" => text(size(0)),
        "string" | "bytes" => match args.first() {
            Some(Value::String(_) | Value::Bytes(_)) => text(size(0)),
            _ => 1,
        },
        op::IN => match args.get(1) {
            Some(Value::List(l)) => l.len() as u64,
            _ => 1,
        },
        "sets.contains" | "sets.intersects" => size(0).saturating_mul(size(1)),
        "sets.equivalent" => size(0).saturating_mul(size(1)).saturating_mul(2),
        op::EQUALS | op::NOT_EQUALS => text(size(0).min(size(1))),
        op::LESS | op::LESS_EQUALS | op::GREATER | op::GREATER_EQUALS => match args.first() {
            Some(Value::String(_) | Value::Bytes(_)) => text(size(0).min(size(1))),
            _ => 1,
        },
        op::ADD => match args.first() {
            Some(Value::String(_) | Value::Bytes(_)) => text(size(0) + size(1)),
            _ => 1,
        },
        "contains" => text(size(0)).saturating_mul(text(size(1))),
        _ => 1,
    }
}

fn joined(args: &[Value<'_>]) -> u64 {
    let Some(Value::List(list)) = args.first() else { return 0 };
    let separators = args.get(1).map_or(0, Value::size).saturating_mul((list.len() as u64).saturating_sub(1));
    list.iter().map(|v| v.size()).sum::<u64>().saturating_add(separators)
}

/// Walking over everything in a value.
fn traversal(v: &Value<'_>) -> u64 {
    // Shared parts can make a value endless to walk; what costs too much anyway needn't be known exactly.
    fn walk(v: &Value<'_>, total: &mut u64) {
        if *total > crate::eval::PER_CALL_LIMIT {
            return;
        }
        match v {
            Value::String(s) => *total += (s.len() as f64 * STRING_FACTOR) as u64,
            Value::Bytes(b) => *total += (b.len() as f64 * STRING_FACTOR) as u64,
            Value::List(l) => {
                *total += u64::from(matches!(l, List::Owned(items) if items.is_empty()));
                l.iter().for_each(|v| walk(&v, total));
            }
            Value::Map(m @ (Map::Owned(_) | Map::Json(..))) => {
                for key in m.keys() {
                    walk(&key.value(), total);
                    if let Some(v) = m.get(&key) {
                        walk(&v, total);
                    }
                    *total += 1;
                }
            }
            _ => *total += 1,
        }
    }
    let mut total = 0;
    walk(v, &mut total);
    total
}
