//! Validation of objects against their schema, worded as upstream's OpenAPI validator words it.
//!
//! In: a schema, the new value, and on updates the old one. Out: field errors. What an update leaves as it was isn't
//! validated again (ratcheting, KEP-4008), so a stricter schema doesn't lock existing objects.

use super::formats;
use super::schema::{Additional, Kind, ListType, Schema};
use crate::validation::seen::repeats;
use meta::field::{Error, Errors, Path, Reason};
use serde_json::Value;
use std::collections::HashMap;

/// Checks a value. Field paths begin at `path`, which is empty for a whole object.
pub fn validate(schema: &Schema, value: &Value, old: Option<&Value>, path: &str, errors: &mut Errors) {
    errors.0.extend(check(schema, value, old, path).errors);
}

/// What one node found, and how far it got, by which the best of several alternatives is told.
#[derive(Default)]
struct Outcome {
    errors: Vec<Error>,
    matched: usize,
}

impl Outcome {
    fn merge(&mut self, other: Outcome) {
        self.errors.extend(other.errors);
        self.matched += other.matched;
    }

    fn push(&mut self, reason: Reason, path: &str, value: Value, detail: String) {
        let path = if path.is_empty() { Path::root() } else { Path::new(path.trim_start_matches('.')) };
        self.errors.push(Error { reason, path, value, detail });
    }

    fn invalid(&mut self, path: &str, value: Value, detail: String) {
        self.push(Reason::Invalid, path, value, detail);
    }

    /// Faults of `anyOf` and its like belong to no field.
    fn composite(&mut self, detail: String) {
        self.push(Reason::Invalid, "", "".into(), detail);
    }
}

/// The name of a value's JSON type as the validator prints it.
fn type_of(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "boolean",
        Value::Number(n) if n.is_f64() => "number",
        Value::Number(_) => "integer",
        Value::String(_) => "string",
        Value::Array(_) => "array",
        Value::Object(_) => "object",
    }
}

fn check(s: &Schema, value: &Value, old: Option<&Value>, path: &str) -> Outcome {
    let mut out = Outcome::default();
    if old.is_some_and(|o| unchanged(s, value, o)) {
        return out;
    }
    out.matched += 1;
    type_matches(s, value, path, &mut out);
    if value.is_null() {
        one_of_values(s, value, path, &mut out);
        return out;
    }
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
    out
}

/// Whether a value is what it was. Items of a list of type map may have changed places.
fn unchanged(s: &Schema, new: &Value, old: &Value) -> bool {
    if new == old {
        return true;
    }
    match (new, old) {
        (Value::Array(items), Value::Array(others)) => {
            let (ListType::Map(_), Some(item)) = (&s.list_type, &s.items) else { return false };
            let before = OldItems::of(s, Some(old));
            items.len() == others.len()
                && items.iter().all(|v| before.partner(v).is_some_and(|o| unchanged(item, v, o)))
        }
        (Value::Object(new), Value::Object(old)) => {
            let same = |name: &str, n, o| s.member(name).is_some_and(|m| unchanged(m, n, o));
            new.len() == old.len()
                && new.iter().all(|(name, n)| old.get(name).is_some_and(|o| n == o || same(name, n, o)))
        }
        _ => false,
    }
}

fn type_matches(s: &Schema, value: &Value, path: &str, out: &mut Outcome) {
    let got = type_of(value);
    if value.is_null() {
        if !s.nullable && (s.kind.is_some() || s.int_or_string) {
            let detail = format!("{path} in body must be of type {}: \"null\"", shown_type(s));
            out.push(Reason::TypeInvalid, path, "null".into(), detail);
        }
        return;
    }
    let fits = match s.kind {
        None if s.int_or_string => matches!(got, "integer" | "string") || is_whole(value),
        None => true,
        Some(Kind::Integer) => got == "integer" || is_whole(value),
        Some(Kind::Number) => matches!(got, "integer" | "number"),
        Some(kind) => kind.as_str() == got,
    };
    if !fits {
        let detail = format!("{path} in body must be of type {}: {got:?}", shown_type(s));
        out.push(Reason::TypeInvalid, path, got.into(), detail);
    }
}

fn shown_type(s: &Schema) -> &'static str {
    s.kind.map_or("integer,string", Kind::as_str)
}

/// `3.0` counts as an integer.
fn is_whole(value: &Value) -> bool {
    value.as_f64().is_some_and(|f| f.fract() == 0.0 && f.abs() <= 9_007_199_254_740_991.0)
}

/// A number as Go's `%v` prints it.
fn go_number(n: f64) -> String {
    if n.fract() == 0.0 && n.abs() < 1e21 { format!("{n:.0}") } else { n.to_string() }
}

fn string(s: &Schema, text: &str, path: &str, out: &mut Outcome) {
    out.matched += 1;
    let length = text.chars().count() as u64;
    if let Some(max) = s.max_length
        && length > max
    {
        out.push(Reason::TooLong, path, text.into(), format!("may not be more than {max} bytes"));
    } else if let Some(min) = s.min_length
        && length < min
    {
        out.invalid(path, text.into(), format!("{path} in body should be at least {min} chars long"));
    } else if let Some((pattern, regex)) = &s.pattern
        && !regex.is_match(text)
    {
        out.invalid(path, text.into(), format!("{path} in body should match '{pattern}'"));
    }
    if formats::check(&s.format, text) == Some(false) {
        let detail = format!("{path} in body must be of type {}: {}", s.format, Value::from(text));
        out.push(Reason::TypeInvalid, path, text.into(), detail);
    }
}

fn number(s: &Schema, value: &Value, path: &str, out: &mut Outcome) {
    out.matched += 1;
    let Some(n) = value.as_f64() else { return };
    let range = match s.format.as_str() {
        "int32" => Some((f64::from(i32::MIN), f64::from(i32::MAX))),
        "uint32" => Some((0.0, f64::from(u32::MAX))),
        "uint64" => Some((0.0, u64::MAX as f64)),
        "float" | "float32" => Some((f64::from(f32::MIN), f64::from(f32::MAX))),
        _ => None,
    };
    if let Some((min, max)) = range
        && (n < min || n > max)
    {
        let kind = s.kind.map_or("number", Kind::as_str);
        out.composite(format!("Checked value must be of type {kind} with format {} in {path}", s.format));
    }
    if let Some(factor) = s.multiple_of.filter(|f| *f > 0.0) {
        let quotient = n / factor;
        if (quotient - quotient.round()).abs() > 1e-9 * quotient.abs().max(1.0) {
            let detail = format!("{path} in body should be a multiple of {}", go_number(factor));
            out.invalid(path, value.clone(), detail);
        }
    }
    if let Some(max) = s.maximum
        && (n > max || (s.exclusive_maximum && n == max))
    {
        let words = if s.exclusive_maximum { "less than" } else { "less than or equal to" };
        out.invalid(path, value.clone(), format!("{path} in body should be {words} {}", go_number(max)));
    }
    if let Some(min) = s.minimum
        && (n < min || (s.exclusive_minimum && n == min))
    {
        let words = if s.exclusive_minimum { "greater than" } else { "greater than or equal to" };
        out.invalid(path, value.clone(), format!("{path} in body should be {words} {}", go_number(min)));
    }
}

fn list(s: &Schema, items: &[Value], old: Option<&Value>, path: &str, out: &mut Outcome) {
    out.matched += 1;
    if let Some(item) = &s.items {
        let before = OldItems::of(s, old);
        for (i, value) in items.iter().enumerate() {
            out.merge(check(item, value, before.partner(value), &format!("{path}[{i}]")));
        }
    }
    let size = items.len() as u64;
    if let Some(min) = s.min_items
        && size < min
    {
        out.invalid(path, size.into(), format!("{path} in body should have at least {min} items"));
    }
    if let Some(max) = s.max_items
        && size > max
    {
        out.push(Reason::TooMany, path, size.into(), format!("must have at most {max} items"));
    }
    if s.unique_items && repeats(items) {
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

fn one_of_values(s: &Schema, value: &Value, path: &str, out: &mut Outcome) {
    if s.values.is_empty() || s.values.contains(value) {
        return;
    }
    let texts: Vec<String> = s
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
    if let Some(min) = s.min_properties
        && size < min
    {
        return out.invalid(path, size.into(), format!("{path} in body should have at least {min} properties"));
    }
    if let Some(max) = s.max_properties
        && size > max
    {
        return out.invalid(path, size.into(), format!("{path} in body should have at most {max} properties"));
    }
    let below = |name: &str| if path.is_empty() { name.to_string() } else { format!("{path}.{name}") };
    for (name, child) in map {
        match s.member(name) {
            Some(p) => out.merge(check(p, child, old.and_then(|o| o.get(name)), &below(name))),
            None if matches!(s.additional, Additional::Allowed(false)) => {
                out.invalid(path, "".into(), format!("{} in body is a forbidden property", below(name)));
            }
            None => {}
        }
    }
    for name in &s.required {
        if !map.contains_key(name) {
            out.push(Reason::Required, &below(name), Value::Null, String::new());
        }
    }
}

fn alternatives(s: &Schema, value: &Value, path: &str, out: &mut Outcome) {
    if !s.any_of.is_empty() {
        match best(&s.any_of, value, path) {
            (0, failure) => {
                out.composite(format!("{path:?} must validate at least one schema (anyOf)"));
                out.merge(failure);
            }
            _ => out.matched += 1,
        }
    }
    if !s.one_of.is_empty() {
        match best(&s.one_of, value, path) {
            (1, _) => out.matched += 1,
            (0, failure) => {
                out.composite(format!("{path:?} must validate one and only one schema (oneOf). Found none valid"));
                out.merge(failure);
            }
            (n, _) => out.composite(format!(
                "{path:?} must validate one and only one schema (oneOf). Found {n} valid alternatives"
            )),
        }
    }
    if !s.all_of.is_empty() {
        let mut valid = 0;
        let mut found = Outcome::default();
        for sub in &s.all_of {
            let one = check(sub, value, None, path);
            valid += usize::from(one.errors.is_empty());
            found.merge(one);
        }
        let all = valid == s.all_of.len();
        out.merge(found);
        if !all {
            let none = if valid == 0 { ". None validated" } else { "" };
            out.composite(format!("{path:?} must validate all the schemas (allOf){none}"));
        }
    }
    if let Some(not) = &s.not
        && check(not, value, None, path).errors.is_empty()
    {
        out.composite(format!("{path:?} must not validate the schema (not)"));
    }
}

/// How many alternatives fit, and of the failures that which got furthest.
fn best(schemas: &[Schema], value: &Value, path: &str) -> (usize, Outcome) {
    let mut valid = 0;
    let mut best: Option<Outcome> = None;
    for s in schemas {
        let one = check(s, value, None, path);
        if one.errors.is_empty() {
            valid += 1;
        } else if best.as_ref().is_none_or(|b| one.matched > b.matched) {
            best = Some(one);
        }
    }
    (valid, best.unwrap_or_default())
}

/// Items of lists of type `set` and `map` are unique.
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
            let mut seen = std::collections::HashSet::new();
            for (i, item) in items.iter().enumerate() {
                let id = match &s.list_type {
                    ListType::Atomic => break,
                    ListType::Set => item.clone(),
                    ListType::Map(keys) => {
                        if !item.is_object() {
                            errors.invalid(
                                path.index(i),
                                item.clone(),
                                "must be an object for an array of list-type map",
                            );
                            continue;
                        }
                        identity(item, keys)
                    }
                };
                if !seen.insert(id.to_string()) {
                    errors.duplicate(path.index(i), id);
                }
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
