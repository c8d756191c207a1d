//! `"%s is %d".format([a, b])`, and numbers as text.

use super::Row;
use crate::eval::{EvalError, Evaluated, Frame, no_overload};
use crate::value::{Key, Map, Value};

pub const ROWS: &[Row] = &[("format", &["string.(list(dyn)) string"], format)];

/// Digits after the point that may be asked for.
const PRECISION_MAX: usize = 1_000;

/// The shortest text that reads back as the same number, with an exponent as Go's `%g` has it.
pub fn shortest(d: f64) -> String {
    if d.is_nan() {
        return "NaN".to_string();
    }
    if d.is_infinite() {
        return if d > 0.0 { "+Inf" } else { "-Inf" }.to_string();
    }
    let exponent = if d == 0.0 { 0 } else { d.abs().log10().floor() as i32 };
    if (-4..21).contains(&exponent) { format!("{d}") } else { go_exponent(&format!("{d:e}")) }
}

/// `1e21` as `1e+21`, `1e-7` as `1e-07`.
fn go_exponent(text: &str) -> String {
    let Some((mantissa, exponent)) = text.split_once('e') else { return text.to_string() };
    let (sign, digits) = match exponent.strip_prefix('-') {
        Some(d) => ('-', d),
        None => ('+', exponent),
    };
    format!("{mantissa}e{sign}{digits:0>2}")
}

fn format<'v>(f: &mut Frame<'_, 'v>, args: &[Value<'v>]) -> Evaluated<'v> {
    let [Value::String(template), Value::List(values)] = args else { return no_overload() };
    let fail = |why: String| Err(EvalError::new(why));
    let mut out = String::new();
    let mut next = 0;
    let mut chars = template.chars();
    while let Some(c) = chars.next() {
        if c != '%' {
            out.push(c);
            continue;
        }
        let mut precision = None;
        let mut verb = chars.next();
        if verb == Some('%') {
            out.push('%');
            continue;
        }
        if verb == Some('.') {
            let mut digits = String::new();
            verb = loop {
                match chars.next() {
                    Some(d) if d.is_ascii_digit() && digits.len() < 9 => digits.push(d),
                    other => break other,
                }
            };
            precision = match digits.parse::<usize>() {
                Ok(p) if p <= PRECISION_MAX => Some(p),
                _ => return fail(format!("error while parsing precision: precision {digits:?} is out of range")),
            };
        }
        let Some(verb) = verb else { return fail("unexpected end of format string".into()) };
        let Some(value) = values.get(next) else { return fail(format!("index {next} out of range")) };
        next += 1;
        let text = clause(f, verb, precision, &value).map_err(|e| match e {
            EvalError::Failed(why) => EvalError::new(format!("error during formatting: {why}")),
            e => e,
        })?;
        f.room((out.len() + text.len()) as u64)?;
        f.step(text.len() as u64)?;
        out.push_str(&text);
    }
    Ok(Value::string(out))
}

fn clause<'v>(f: &mut Frame<'_, 'v>, verb: char, precision: Option<usize>, v: &Value<'v>) -> Result<String, EvalError> {
    let wrong = |kinds: &str| {
        Err(EvalError::new(format!("{kinds} clause can only be used on matching types, was given {}", v.type_name())))
    };
    Ok(match (verb, v) {
        ('s', v) => {
            let mut out = String::new();
            plain(f, v, &mut out)?;
            out
        }
        ('d', Value::Int(i)) => i.to_string(),
        ('d', Value::Uint(u)) => u.to_string(),
        ('d', Value::Double(d)) if d.is_nan() || d.is_infinite() => {
            shortest(*d).replace("+Inf", "Infinity").replace("-Inf", "-Infinity")
        }
        ('d', _) => {
            return Err(EvalError::new(format!(
                "decimal clause can only be used on integers, was given {}",
                v.type_name()
            )));
        }
        ('f' | 'e', v) => {
            let d = match v {
                Value::Double(d) => *d,
                Value::Int(i) => *i as f64,
                Value::Uint(u) => *u as f64,
                _ => return wrong(if verb == 'f' { "fixed-point" } else { "scientific" }),
            };
            let precision = precision.unwrap_or(6);
            match verb {
                _ if !d.is_finite() => shortest(d).trim_start_matches('+').replace("Inf", "Infinity"),
                'f' => format!("{d:.precision$}"),
                _ => go_exponent(&format!("{d:.precision$e}")),
            }
        }
        ('b', Value::Int(i)) => radix(*i < 0, format!("{:b}", i.unsigned_abs())),
        ('b', Value::Uint(u)) => format!("{u:b}"),
        ('b', Value::Bool(b)) => u8::from(*b).to_string(),
        ('o', Value::Int(i)) => radix(*i < 0, format!("{:o}", i.unsigned_abs())),
        ('o', Value::Uint(u)) => format!("{u:o}"),
        ('x', Value::Int(i)) => radix(*i < 0, format!("{:x}", i.unsigned_abs())),
        ('X', Value::Int(i)) => radix(*i < 0, format!("{:X}", i.unsigned_abs())),
        ('x', Value::Uint(u)) => format!("{u:x}"),
        ('X', Value::Uint(u)) => format!("{u:X}"),
        ('x' | 'X', Value::String(s)) => hex(s.as_bytes(), verb),
        ('x' | 'X', Value::Bytes(b)) => hex(b, verb),
        ('b', _) => {
            return Err(EvalError::new(format!(
                "only integers and bools can be formatted as binary, was given {}",
                v.type_name()
            )));
        }
        ('o', _) => {
            return Err(EvalError::new(format!(
                "octal clause can only be used on integers, was given {}",
                v.type_name()
            )));
        }
        ('x' | 'X', _) => {
            return Err(EvalError::new(format!(
                "only integers, byte buffers, and strings can be formatted as hex, was given {}",
                v.type_name()
            )));
        }
        (other, _) => return Err(EvalError::new(format!("unrecognized formatting clause \"{other}\""))),
    })
}

fn radix(negative: bool, digits: String) -> String {
    if negative { format!("-{digits}") } else { digits }
}

fn hex(bytes: &[u8], verb: char) -> String {
    bytes.iter().map(|b| if verb == 'x' { format!("{b:02x}") } else { format!("{b:02X}") }).collect()
}

/// `%s`: any value as people read it.
fn plain<'v>(f: &mut Frame<'_, 'v>, v: &Value<'v>, out: &mut String) -> Result<(), EvalError> {
    f.step(1)?;
    f.room(out.len() as u64)?;
    match v {
        Value::Null => out.push_str("null"),
        Value::Bool(b) => out.push_str(&b.to_string()),
        Value::Int(i) => out.push_str(&i.to_string()),
        Value::Uint(u) => out.push_str(&u.to_string()),
        Value::Double(d) => out.push_str(&shortest(*d).replace("+Inf", "Infinity").replace("-Inf", "-Infinity")),
        Value::String(s) => {
            f.step(s.len() as u64 / 16)?;
            out.push_str(s);
        }
        Value::Bytes(b) => out.push_str(&String::from_utf8_lossy(b)),
        Value::Timestamp(t) => out.push_str(&crate::time::show_timestamp(*t)),
        Value::Duration(d) => out.push_str(&crate::time::show_duration(*d)),
        Value::Type(t) => out.push_str(t),
        Value::List(list) => {
            out.push('[');
            for (i, item) in list.iter().enumerate() {
                if i > 0 {
                    out.push_str(", ");
                }
                plain(f, &item, out)?;
            }
            out.push(']');
        }
        Value::Map(map @ (Map::Owned(_) | Map::Json(..))) => {
            out.push('{');
            for (i, key) in map.keys().into_iter().enumerate() {
                if i > 0 {
                    out.push_str(", ");
                }
                match &key {
                    Key::String(s) => out.push_str(s),
                    k => out.push_str(&k.text()),
                }
                out.push_str(": ");
                if let Some(value) = map.get(&key) {
                    plain(f, &value, out)?;
                }
            }
            out.push('}');
        }
        other => {
            let shown = other.to_json(&mut 10_000).and_then(|j| j.as_str().map(str::to_string));
            match shown {
                Some(text) => out.push_str(&text),
                None => {
                    return Err(EvalError::new(format!(
                        "string clause can only be used on strings, bools, bytes, ints, doubles, maps, lists, types, durations, and timestamps, was given {}",
                        other.type_name()
                    )));
                }
            }
        }
    }
    Ok(())
}
