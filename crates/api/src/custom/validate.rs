//! Validation of objects against their schema, worded as upstream's OpenAPI validator words it.
//!
//! In: a schema, the new value, and on updates the old one. Out: field errors. What an update leaves as it was isn't
//! validated again (ratcheting, KEP-4008), so a stricter schema doesn't lock existing objects.

use super::formats;
use super::schema::{Additional, Kind, ListType, Schema};
use crate::validation::seen::repeats;
use meta::field::{Error, Errors, Path, Reason, go_float};
use serde_json::Value;
use std::collections::{HashMap, HashSet};

/// Checks a value that is at `at`. Texts name fields from there on, as upstream's do.
pub fn validate(schema: &Schema, value: &Value, old: Option<&Value>, at: &Path, errors: &mut Errors) {
    let mut told = HashSet::new();
    for mut e in check(schema, value, old, "").errors {
        if !told.insert(e.to_string()) {
            continue;
        }
        e.path = match (at.as_str(), e.path.as_str()) {
            (_, "") => at.clone(),
            (_, below) => at.child(below),
        };
        errors.0.push(e);
    }
}

/// What one node found, and how far it got, by which the best of several alternatives is told.
#[derive(Default)]
struct Outcome {
    errors: Vec<Error>,
    /// Upstream's count of what was tried, not of what fitted; all that matters is that ours is the same.
    matched: usize,
}

impl Outcome {
    fn merge(&mut self, other: Outcome) {
        self.errors.extend(other.errors);
        self.matched += other.matched;
    }

    fn push(&mut self, reason: Reason, path: &str, value: Value, detail: String) {
        self.errors.push(Error { reason, path: Path::new(path.trim_start_matches('.')), value, detail });
    }

    fn invalid(&mut self, path: &str, value: Value, detail: String) {
        self.push(Reason::Invalid, path, value, detail);
    }

    fn too_many(&mut self, path: &str, size: u64, max: u64) {
        let unit = if max == 1 { "item" } else { "items" };
        self.push(Reason::TooMany, path, size.into(), format!("must have at most {max} {unit}"));
    }

    /// Faults of `anyOf` and its like belong to no field.
    fn composite(&mut self, detail: String) {
        self.push(Reason::Invalid, "", "".into(), detail);
    }
}

/// The name of a value's JSON type, and of its format, as the validator prints them.
fn type_of(value: &Value) -> (&'static str, &'static str) {
    match value {
        Value::Null => ("null", ""),
        Value::Bool(_) => ("boolean", ""),
        Value::Number(n) if n.is_i64() => ("integer", "int64"),
        Value::Number(_) => ("number", "float64"),
        Value::String(_) => ("string", ""),
        Value::Array(_) => ("array", ""),
        Value::Object(_) => ("object", ""),
    }
}

fn check(s: &Schema, value: &Value, old: Option<&Value>, path: &str) -> Outcome {
    let mut out = Outcome::default();
    if old.is_some_and(|o| unchanged(s, value, o)) {
        return out;
    }
    if value.is_null() {
        type_matches(s, value, path, &mut out);
        one_of_values(s, value, path, &mut out);
        return out;
    }
    if s.kind.is_some() || s.int_or_string || !s.format.is_empty() {
        out.matched += 1;
        type_matches(s, value, path, &mut out);
    }
    out.matched += 2;
    alternatives(s, value, path, &mut out);
    match value {
        Value::String(text) => string(s, text, path, &mut out),
        Value::Number(_) => number(s, value, path, &mut out),
        Value::Array(items) => list(s, items, old, path, &mut out),
        _ => {}
    }
    one_of_values(s, value, path, &mut out);
    if value.is_object() {
        object(s, value, old, path, &mut out);
    }
    // Values that are allowed, and the node as such.
    out.matched += 2;
    out
}

/// Whether a value is what it was, as far as the schema says which part of it is which (upstream's
/// `CorrelatedObject`): items of a list of type map may have changed places; what the schema doesn't know can't be told
/// to be the same.
fn unchanged(s: &Schema, new: &Value, old: &Value) -> bool {
    match (new, old) {
        (Value::Array(items), Value::Array(others)) => {
            let (ListType::Map(_), Some(item)) = (&s.list_type, &s.items) else { return new == old };
            let before = OldItems::of(s, Some(old));
            items.len() == others.len()
                && items.iter().all(|v| before.partner(v).is_some_and(|o| unchanged(item, v, o)))
        }
        (Value::Object(new), Value::Object(old)) => {
            new.len() == old.len()
                && new.iter().all(|(name, n)| {
                    s.member(name).zip(old.get(name)).is_some_and(|(member, o)| unchanged(member, n, o))
                })
        }
        _ => new == old,
    }
}

fn type_matches(s: &Schema, value: &Value, path: &str, out: &mut Outcome) {
    let (got, got_format) = type_of(value);
    let is = |name: &str| match s.kind {
        Some(kind) => kind.as_str() == name,
        None => s.int_or_string && matches!(name, "integer" | "string"),
    };
    let fits = match got {
        "null" => s.nullable || !(s.kind.is_some() || s.int_or_string),
        "integer" => is("integer") || is("number"),
        "number" => is("number") || is("integer") && value.as_f64().is_some_and(is_whole),
        // Differs from upstream: there a list passes for a string, too, where a format is given.
        "array" if s.kind.is_none() && !s.int_or_string => true,
        "string" if !s.format.is_empty() => is("string") || !(is("integer") || is("number")),
        other => is(other),
    };
    if fits {
        out.matched += 1;
        return;
    }
    let mut wrong = |wanted: &str, got: &str| {
        let detail = format!("{path} in body must be of type {wanted}: {got:?}");
        out.push(Reason::TypeInvalid, path, got.into(), detail);
    };
    match got {
        "null" | "string" | "array" => wrong(shown_type(s), got),
        _ if s.format.is_empty() => wrong(shown_type(s), got),
        // Where a format is given, that is what upstream tells of.
        _ => wrong(&s.format, got_format),
    }
}

fn shown_type(s: &Schema) -> &'static str {
    s.kind.map_or(if s.int_or_string { "integer,string" } else { "" }, Kind::as_str)
}

/// `3.0` counts as an integer, and so does what is that but for rounding.
fn is_whole(n: f64) -> bool {
    const EXACT_MAX: f64 = 9_007_199_254_740_991.0;
    n.abs() <= EXACT_MAX && (n.fract() == 0.0 || n.fract().abs() / (n.abs() * 2.0) < 1e-9)
}

fn string(s: &Schema, text: &str, path: &str, out: &mut Outcome) {
    out.matched += 1;
    let length = text.chars().count() as u64;
    if let Some(max) = s.constraints.max_length
        && length > max
    {
        let unit = if max == 1 { "byte" } else { "bytes" };
        out.push(Reason::TooLong, path, text.into(), format!("may not be more than {max} {unit}"));
    } else if let Some(min) = s.constraints.min_length
        && length < min
    {
        out.invalid(path, text.into(), format!("{path} in body should be at least {min} chars long"));
    } else if let Some(pattern) = &s.constraints.pattern
        && !pattern.allows(text)
    {
        out.invalid(path, text.into(), format!("{path} in body should match '{}'", pattern.text));
    }
    let Some(fits) = formats::check(&s.format, text) else { return };
    out.matched += 1;
    if !fits {
        let detail = format!("{path} in body must be of type {}: {text:?}", s.format);
        out.push(Reason::TypeInvalid, path, text.into(), detail);
    }
}

/// Whether a type and format can hold a number.
fn out_of_range(s: &Schema, n: f64, what: &str, path: &str) -> Option<String> {
    let (kind, fits) = match s.kind {
        Some(Kind::Integer) if &*s.format == "int32" => {
            ("integer", n.fract() == 0.0 && (f64::from(i32::MIN)..=f64::from(i32::MAX)).contains(&n))
        }
        Some(Kind::Integer) => ("integer", n.fract() == 0.0 && n >= i64::MIN as f64 && n < i64::MAX as f64),
        Some(Kind::Number) if &*s.format == "float" => ("number", n.abs() <= f64::from(f32::MAX)),
        _ => return None,
    };
    let format = match &*s.format {
        "" => "(default format)".to_string(),
        format => format!("with format {format}"),
    };
    (!fits).then(|| format!("{what} value must be of type {kind} {format} in {path}"))
}

/// Integers are compared with limits as integers, whatever the schema calls itself: upstream cuts `0.5` to `0`.
fn number(s: &Schema, value: &Value, path: &str, out: &mut Outcome) {
    out.matched += 2;
    let Some(n) = value.as_f64() else { return };
    let whole = value.as_i64();
    if (whole.is_none() || &*s.format == "int32")
        && let Some(why) = out_of_range(s, n, "Checked", path)
    {
        out.composite(why);
    }
    if let Some(factor) = s.constraints.multiple_of {
        let wrong = out_of_range(s, factor, "MultipleOf", path);
        let as_integer = whole.filter(|_| wrong.is_none());
        if let Some(why) = wrong {
            out.composite(why);
        }
        let (shown, positive, is_multiple) = match as_integer {
            Some(i) => {
                let factor = factor as i64;
                (factor.to_string(), factor > 0, factor > 0 && i % factor == 0)
            }
            None => {
                let quotient = if factor < 1.0 { 1.0 / factor * n } else { n / factor };
                (go_float(factor), factor > 0.0, is_whole(quotient))
            }
        };
        if !positive {
            let given = if as_integer.is_some() { Value::from(factor as i64) } else { Value::from(factor) };
            out.invalid(path, given, format!("factor MultipleOf declared for {path} must be positive: {shown}"));
        } else if !is_multiple {
            out.invalid(path, value.clone(), format!("{path} in body should be a multiple of {shown}"));
        }
    }
    let mut limit =
        |limit: Option<f64>, what: &str, words: &str, crossed: fn(f64, f64) -> bool, int: fn(i64, i64) -> bool| {
            let Some(limit) = limit else { return };
            let wrong = out_of_range(s, limit, what, path);
            let (shown, crossed) = match whole.filter(|_| wrong.is_none()) {
                Some(i) => ((limit as i64).to_string(), int(i, limit as i64)),
                None => (go_float(limit), crossed(n, limit)),
            };
            if let Some(why) = wrong {
                out.composite(why);
            }
            if crossed {
                out.invalid(path, value.clone(), format!("{path} in body should be {words} {shown}"));
            }
        };
    match s.constraints.exclusive_minimum {
        true => limit(s.constraints.minimum, "Minimum boundary", "greater than", |n, min| n <= min, |n, min| n <= min),
        false => limit(
            s.constraints.minimum,
            "Minimum boundary",
            "greater than or equal to",
            |n, min| n < min,
            |n, min| n < min,
        ),
    }
    match s.constraints.exclusive_maximum {
        true => limit(s.constraints.maximum, "Maximum boundary", "less than", |n, max| n >= max, |n, max| n >= max),
        false => limit(
            s.constraints.maximum,
            "Maximum boundary",
            "less than or equal to",
            |n, max| n > max,
            |n, max| n > max,
        ),
    }
}

fn list(s: &Schema, items: &[Value], old: Option<&Value>, path: &str, out: &mut Outcome) {
    out.matched += 2;
    if let Some(item) = &s.items {
        let before = OldItems::of(s, old);
        for (i, value) in items.iter().enumerate() {
            out.merge(check(item, value, before.partner(value), &format!("{path}[{i}]")));
        }
    }
    let size = items.len() as u64;
    if let Some(min) = s.constraints.min_items
        && size < min
    {
        out.invalid(path, size.into(), format!("{path} in body should have at least {min} items"));
    }
    if let Some(max) = s.constraints.max_items
        && size > max
    {
        out.too_many(path, size, max);
    }
    if s.constraints.unique_items && repeats(items) {
        out.invalid(path, "".into(), format!("{path} in body shouldn't contain duplicates"));
    }
}

/// Items of the old list by their keys: only lists of type map say which item is which.
pub(super) struct OldItems<'a> {
    keys: &'a [String],
    items: HashMap<String, &'a Value>,
}

impl<'a> OldItems<'a> {
    pub(super) fn of(s: &'a Schema, old: Option<&'a Value>) -> OldItems<'a> {
        let (ListType::Map(keys), Some(Value::Array(items))) = (&s.list_type, old) else {
            return OldItems { keys: &[], items: HashMap::new() };
        };
        OldItems { keys, items: items.iter().map(|i| (identity(i, keys).to_string(), i)).collect() }
    }

    pub(super) fn partner(&self, item: &Value) -> Option<&'a Value> {
        if self.items.is_empty() { None } else { self.items.get(&identity(item, self.keys).to_string()).copied() }
    }
}

/// The keys of an item of a list of type map, as an object.
fn identity(item: &Value, keys: &[String]) -> Value {
    Value::Object(keys.iter().filter_map(|k| item.get(k).map(|v| (k.clone(), v.clone()))).collect())
}

/// Upstream never finds null among the values, even where it is one of them.
fn one_of_values(s: &Schema, value: &Value, path: &str, out: &mut Outcome) {
    let same = |v: &Value| v == value || value.as_f64().is_some_and(|n| v.as_f64() == Some(n));
    if s.constraints.values.is_empty() || !value.is_null() && s.constraints.values.iter().any(same) {
        return;
    }
    let texts: Vec<String> = s
        .constraints
        .values
        .iter()
        .map(|v| match v {
            Value::String(t) => format!("{t:?}"),
            other => format!("{:?}", other.to_string()),
        })
        .collect();
    out.push(Reason::NotSupported, path, value.clone(), format!("supported values: {}", texts.join(", ")));
}

fn object(s: &Schema, value: &Value, old: Option<&Value>, path: &str, out: &mut Outcome) {
    out.matched += 1;
    let Value::Object(map) = value else { return };
    let size = map.len() as u64;
    if let Some(min) = s.constraints.min_properties
        && size < min
    {
        out.invalid(path, size.into(), format!("{path} in body should have at least {min} properties"));
    }
    if let Some(max) = s.constraints.max_properties
        && size > max
    {
        out.too_many(path, size, max);
    }
    for (name, child) in map {
        let Some(member) = s.member(name) else {
            if matches!(s.additional, Additional::Allowed(false)) {
                out.invalid(path, name.as_str().into(), format!("{path}.{name} in body is a forbidden property"));
            }
            continue;
        };
        // A member that the schema names has no dot before it at the root.
        let below = match path {
            "" if s.properties.contains(name) => name.clone(),
            _ => format!("{path}.{name}"),
        };
        // Both were made of one version, so that changes of these can't be seen.
        let visible = !(path.is_empty() && matches!(name.as_str(), "apiVersion" | "kind"));
        let before = old.filter(|_| visible).and_then(|o| o.get(name));
        out.merge(check(member, child, before, &below));
    }
    for name in &s.required {
        if !map.contains_key(name) {
            out.push(Reason::Required, &format!("{path}.{name}"), Value::Null, String::new());
        }
    }
}

fn alternatives(s: &Schema, value: &Value, path: &str, out: &mut Outcome) {
    if !s.constraints.any_of.is_empty() {
        let (valid, kept) = best(&s.constraints.any_of, value, path, true);
        if valid == 0 {
            out.composite(format!("{path:?} must validate at least one schema (anyOf)"));
        }
        out.merge(kept);
    }
    if !s.constraints.one_of.is_empty() {
        match best(&s.constraints.one_of, value, path, false) {
            (1, kept) => out.merge(kept),
            (0, failure) => {
                out.composite(format!("{path:?} must validate one and only one schema (oneOf). Found none valid"));
                out.merge(failure);
            }
            (n, _) => out.composite(format!(
                "{path:?} must validate one and only one schema (oneOf). Found {n} valid alternatives"
            )),
        }
    }
    if !s.constraints.all_of.is_empty() {
        let mut valid = 0;
        for sub in &s.constraints.all_of {
            let one = check(sub, value, None, path);
            valid += usize::from(one.errors.is_empty());
            out.merge(one);
        }
        if valid != s.constraints.all_of.len() {
            let none = if valid == 0 { ". None validated" } else { "" };
            out.composite(format!("{path:?} must validate all the schemas (allOf){none}"));
        }
    }
    if let Some(not) = &s.constraints.not
        && check(not, value, None, path).errors.is_empty()
    {
        out.composite(format!("{path:?} must not validate the schema (not)"));
    }
}

/// How many alternatives fit, and the first that does or of the failures that which got furthest. `one`: more than one
/// needn't be found.
fn best(schemas: &[Schema], value: &Value, path: &str, one: bool) -> (usize, Outcome) {
    let mut valid = 0;
    let mut kept: Option<Outcome> = None;
    for s in schemas {
        let outcome = check(s, value, None, path);
        if outcome.errors.is_empty() {
            valid += 1;
            if valid == 1 {
                kept = Some(outcome);
            }
            if one {
                break;
            }
        } else if valid == 0 && kept.as_ref().is_none_or(|b| outcome.matched > b.matched) {
            kept = Some(outcome);
        }
    }
    (valid, kept.unwrap_or_default())
}

/// Items of lists of type `set` and `map` are unique. Of those that are there several times the second is told.
pub fn keyed_lists(s: &Schema, value: &Value, path: &Path, errors: &mut Errors) {
    if !s.has_keyed_lists {
        return;
    }
    match value {
        Value::Object(map) => {
            for (name, child) in map {
                match (s.properties.get(name), &s.additional) {
                    (Some(p), _) => keyed_lists(p, child, &path.child(name), errors),
                    (None, Additional::Schema(p)) => keyed_lists(p, child, &path.key(name), errors),
                    _ => {}
                }
            }
        }
        Value::Array(items) => {
            match &s.list_type {
                ListType::Atomic => {}
                ListType::Set => unique(items.iter().cloned(), path, errors),
                ListType::Map(keys) => match items.iter().position(|i| !i.is_object() && !i.is_null()) {
                    Some(i) => errors.invalid(
                        path.index(i),
                        items[i].clone(),
                        "must be an object for an array of list-type map",
                    ),
                    None => unique(items.iter().map(|i| identity(i, keys)), path, errors),
                },
            }
            if let Some(s) = &s.items {
                for (i, item) in items.iter().enumerate() {
                    keyed_lists(s, item, &path.index(i), errors);
                }
            }
        }
        _ => {}
    }
}

fn unique(items: impl Iterator<Item = Value>, path: &Path, errors: &mut Errors) {
    let mut seen: HashMap<String, usize> = HashMap::new();
    for (i, item) in items.enumerate() {
        let times = seen.entry(item.to_string()).or_default();
        *times += 1;
        if *times == 2 {
            errors.duplicate(path.index(i), item);
        }
    }
}
