//! The extended string library, and Kubernetes' regular expressions. Positions count code points.

use super::Row;
use crate::eval::{EvalError, Evaluated, Frame, no_overload};
use crate::value::{List, Value};

pub const ROWS: &[Row] = &[
    ("charAt", &["string.(int) string"], char_at),
    ("indexOf", &["string.(string) int", "string.(string, int) int", "list(A).(A) int"], |f, a| index_of(f, a, false)),
    ("lastIndexOf", &["string.(string) int", "string.(string, int) int", "list(A).(A) int"], |f, a| {
        index_of(f, a, true)
    }),
    ("lowerAscii", &["string.() string"], |_, a| changed(a, |s| s.to_ascii_lowercase())),
    ("upperAscii", &["string.() string"], |_, a| changed(a, |s| s.to_ascii_uppercase())),
    ("trim", &["string.() string"], |_, a| changed(a, |s| s.trim().to_string())),
    ("strings.quote", &["(string) string"], |_, a| changed(a, quote)),
    ("replace", &["string.(string, string) string", "string.(string, string, int) string"], replace),
    ("split", &["string.(string) list(string)", "string.(string, int) list(string)"], split),
    ("substring", &["string.(int) string", "string.(int, int) string"], substring),
    ("join", &["list(string).() string", "list(string).(string) string"], join),
    ("find", &["string.(string) string"], find),
    ("findAll", &["string.(string) list(string)", "string.(string, int) list(string)"], find_all),
    ("jsonpatch.escapeKey", &["(string) string"], |_, a| changed(a, |s| s.replace('~', "~0").replace('/', "~1"))),
];

fn changed<'v>(args: &[Value<'v>], change: impl Fn(&str) -> String) -> Evaluated<'v> {
    match args {
        [Value::String(s)] => Ok(Value::string(change(s))),
        _ => no_overload(),
    }
}

fn out_of_range<T>(i: i64) -> Result<T, EvalError> {
    Err(EvalError::new(format!("index out of range: {i}")))
}

fn char_at<'v>(_: &mut Frame<'_, 'v>, args: &[Value<'v>]) -> Evaluated<'v> {
    let [Value::String(s), Value::Int(i)] = args else { return no_overload() };
    let Ok(at) = usize::try_from(*i) else { return out_of_range(*i) };
    match s.chars().nth(at) {
        Some(c) => Ok(Value::string(c.to_string())),
        None if at == s.chars().count() => Ok(Value::string("")),
        None => out_of_range(*i),
    }
}

fn index_of<'v>(f: &mut Frame<'_, 'v>, args: &[Value<'v>], last: bool) -> Evaluated<'v> {
    let (text, wanted, offset) = match args {
        [Value::List(list), wanted] => {
            let mut found = -1;
            for (i, v) in list.iter().enumerate() {
                if f.equal(&v, wanted)? {
                    found = i as i64;
                    if !last {
                        break;
                    }
                }
            }
            return Ok(Value::Int(found));
        }
        [Value::String(s), Value::String(w)] => (s, w, None),
        [Value::String(s), Value::String(w), Value::Int(i)] => (s, w, Some(*i)),
        _ => return no_overload(),
    };
    let length = text.chars().count() as i64;
    let default = if last { length } else { 0 };
    let offset = offset.unwrap_or(default);
    if offset < 0 || offset > length && !(wanted.is_empty() && last) {
        return out_of_range(offset);
    }
    let at = byte_at(text, offset);
    let found = if last {
        // The match may begin at the offset, and reach beyond it.
        let end = (at + wanted.len()).min(text.len());
        let end = (end..=text.len()).find(|i| text.is_char_boundary(*i)).unwrap_or(text.len());
        text[..end].rfind(&**wanted).filter(|i| *i <= at)
    } else {
        text[at..].find(&**wanted).map(|i| i + at)
    };
    Ok(Value::Int(found.map_or(-1, |i| text[..i].chars().count() as i64)))
}

/// Byte position of a code point.
fn byte_at(text: &str, index: i64) -> usize {
    let index = usize::try_from(index).unwrap_or(0);
    text.char_indices().nth(index).map_or(text.len(), |(i, _)| i)
}

fn replace<'v>(f: &mut Frame<'_, 'v>, args: &[Value<'v>]) -> Evaluated<'v> {
    let (text, old, new, count) = match args {
        [Value::String(s), Value::String(o), Value::String(n)] => (s, o, n, -1),
        [Value::String(s), Value::String(o), Value::String(n), Value::Int(i)] => (s, o, n, *i),
        _ => return no_overload(),
    };
    let found = if old.is_empty() { text.chars().count() + 1 } else { text.matches(&**old).count() };
    let times = if count < 0 { found } else { found.min(count as usize) };
    f.room(text.len() as u64 + (times as u64).saturating_mul(new.len() as u64))?;
    Ok(Value::string(text.replacen(&**old, new, times)))
}

fn split<'v>(f: &mut Frame<'_, 'v>, args: &[Value<'v>]) -> Evaluated<'v> {
    let (text, separator, limit) = match args {
        [Value::String(s), Value::String(sep)] => (s, sep, -1),
        [Value::String(s), Value::String(sep), Value::Int(n)] => (s, sep, *n),
        _ => return no_overload(),
    };
    f.step(text.len() as u64)?;
    let limit = if limit < 0 { usize::MAX } else { limit as usize };
    let mut parts: Vec<&str> = Vec::new();
    if limit == 0 {
        return Ok(Value::list(Vec::new()));
    }
    if separator.is_empty() {
        let mut rest: &str = text;
        while let Some(c) = rest.chars().next() {
            if parts.len() + 1 == limit {
                parts.push(rest);
                break;
            }
            let (first, more) = rest.split_at(c.len_utf8());
            parts.push(first);
            rest = more;
        }
    } else {
        parts = text.splitn(limit, &**separator).collect();
    }
    Ok(Value::list(parts.into_iter().map(Value::string).collect()))
}

fn substring<'v>(_: &mut Frame<'_, 'v>, args: &[Value<'v>]) -> Evaluated<'v> {
    let (text, from, to) = match args {
        [Value::String(s), Value::Int(a)] => (s, *a, None),
        [Value::String(s), Value::Int(a), Value::Int(b)] => (s, *a, Some(*b)),
        _ => return no_overload(),
    };
    let length = text.chars().count() as i64;
    let to = to.unwrap_or(length);
    if from < 0 || from > length {
        return out_of_range(from);
    }
    if to < 0 || to > length {
        return out_of_range(to);
    }
    if from > to {
        return Err(EvalError::new(format!("invalid substring range. start: {from}, end: {to}")));
    }
    Ok(Value::string(&text[byte_at(text, from)..byte_at(text, to)]))
}

fn join<'v>(f: &mut Frame<'_, 'v>, args: &[Value<'v>]) -> Evaluated<'v> {
    let (list, separator) = match args {
        [Value::List(l)] => (l, ""),
        [Value::List(l), Value::String(s)] => (l, &**s),
        _ => return no_overload(),
    };
    let mut joined = String::new();
    for (i, v) in list.iter().enumerate() {
        let Value::String(s) = v else { return no_overload() };
        f.room((joined.len() + separator.len() + s.len()) as u64)?;
        if i > 0 {
            joined.push_str(separator);
        }
        joined.push_str(&s);
    }
    Ok(Value::string(joined))
}

fn find<'v>(f: &mut Frame<'_, 'v>, args: &[Value<'v>]) -> Evaluated<'v> {
    let [Value::String(text), Value::String(pattern)] = args else { return no_overload() };
    let regex = f.regex(pattern)?;
    Ok(Value::string(regex.find(text).map_or("", |m| m.as_str())))
}

fn find_all<'v>(f: &mut Frame<'_, 'v>, args: &[Value<'v>]) -> Evaluated<'v> {
    let (text, pattern, limit) = match args {
        [Value::String(t), Value::String(p)] => (t, p, -1),
        [Value::String(t), Value::String(p), Value::Int(n)] => (t, p, *n),
        _ => return no_overload(),
    };
    f.step(text.len() as u64)?;
    let limit = usize::try_from(limit).unwrap_or(usize::MAX);
    let regex = f.regex(pattern)?;
    let found: Vec<Value<'v>> = regex.find_iter(text).take(limit).map(|m| Value::string(m.as_str())).collect();
    Ok(Value::List(List::Owned(found.into())))
}

fn quote(text: &str) -> String {
    let mut out = String::from("\"");
    for c in text.chars() {
        match c {
            '\u{7}' => out.push_str("\\a"),
            '\u{8}' => out.push_str("\\b"),
            '\u{c}' => out.push_str("\\f"),
            '\n' => out.push_str("\\n"),
            '\r' => out.push_str("\\r"),
            '\t' => out.push_str("\\t"),
            '\u{b}' => out.push_str("\\v"),
            '\\' => out.push_str("\\\\"),
            '"' => out.push_str("\\\""),
            c => out.push(c),
        }
    }
    out.push('"');
    out
}
