//! Reading and filling in untyped objects without a panic: a missing or ill-typed field reads as empty.
//!
//! In: `serde_json::Value`s that are *meant* to follow a type. Out: borrowed parts. Decoding has usually
//! enforced the structure before, but no hook may rely on it for its own safety.

use serde_json::{Value, json};
use std::collections::HashMap;

static NULL: Value = Value::Null;

/// The field, or null.
pub fn field<'a>(v: &'a Value, key: &str) -> &'a Value {
    v.get(key).unwrap_or(&NULL)
}

/// Follows a chain of fields: `at(pod, &["spec", "nodeName"])`.
pub fn at<'a>(v: &'a Value, keys: &[&str]) -> &'a Value {
    keys.iter().fold(v, |v, k| field(v, k))
}

/// Present and not null.
pub fn has(v: &Value, key: &str) -> bool {
    !field(v, key).is_null()
}

/// A string field; missing is empty.
pub fn text<'a>(v: &'a Value, key: &str) -> &'a str {
    field(v, key).as_str().unwrap_or("")
}

pub fn text_at<'a>(v: &'a Value, keys: &[&str]) -> &'a str {
    at(v, keys).as_str().unwrap_or("")
}

pub fn list<'a>(v: &'a Value, key: &str) -> &'a [Value] {
    field(v, key).as_array().map(Vec::as_slice).unwrap_or(&[])
}

pub fn list_at<'a>(v: &'a Value, keys: &[&str]) -> &'a [Value] {
    at(v, keys).as_array().map(Vec::as_slice).unwrap_or(&[])
}

/// A list of strings; other items read as empty strings, so that positions stay right.
pub fn texts<'a>(v: &'a Value, key: &str) -> Vec<&'a str> {
    list(v, key).iter().map(|i| i.as_str().unwrap_or("")).collect()
}

/// The pairs of a map of strings, in key order.
pub fn pairs<'a>(v: &'a Value, key: &str) -> Vec<(&'a str, &'a str)> {
    entries(v, key).map(|(k, v)| (k, v.as_str().unwrap_or(""))).collect()
}

pub fn entries<'a>(v: &'a Value, key: &str) -> impl Iterator<Item = (&'a str, &'a Value)> {
    field(v, key).as_object().into_iter().flat_map(|m| m.iter().map(|(k, v)| (k.as_str(), v)))
}

/// Items by their `name`; of several with one name the first.
pub fn first_by_name<'a>(items: impl IntoIterator<Item = &'a Value>) -> HashMap<&'a str, &'a Value> {
    let mut out = HashMap::new();
    for item in items {
        out.entry(text(item, "name")).or_insert(item);
    }
    out
}

pub fn int(v: &Value, key: &str) -> Option<i64> {
    field(v, key).as_i64()
}

pub fn flag(v: &Value, key: &str) -> bool {
    field(v, key).as_bool().unwrap_or(false)
}

/// Absent, null, or the zero value of its type.
pub fn is_zero(v: &Value) -> bool {
    match v {
        Value::Null => true,
        Value::Bool(b) => !b,
        Value::Number(n) => n.as_f64() == Some(0.0),
        Value::String(s) => s.is_empty(),
        Value::Array(a) => a.is_empty(),
        Value::Object(o) => o.is_empty(),
    }
}

/// Equal, where a missing field and an empty one are the same (Go's semantic equality).
pub fn same(a: &Value, b: &Value) -> bool {
    match (a, b) {
        (Value::Object(x), Value::Object(y)) => {
            x.iter().all(|(k, v)| same(v, y.get(k).unwrap_or(&NULL)))
                && y.iter().all(|(k, v)| x.contains_key(k) || is_empty(v))
        }
        (Value::Array(x), Value::Array(y)) => x.len() == y.len() && x.iter().zip(y).all(|(a, b)| same(a, b)),
        _ => a == b || (is_empty(a) && is_empty(b)),
    }
}

/// Null, or an empty list, map or string. Numbers and booleans are never empty: a pointer to zero differs from none.
fn is_empty(v: &Value) -> bool {
    match v {
        Value::Null => true,
        Value::Array(a) => a.is_empty(),
        Value::Object(o) => o.values().all(is_empty),
        Value::String(s) => s.is_empty(),
        _ => false,
    }
}

/// Sets a field that is absent or null. Does nothing when `v` is no object.
pub fn fill(v: &mut Value, key: &str, value: impl Into<Value>) {
    if let Some(o) = v.as_object_mut()
        && o.get(key).is_none_or(Value::is_null)
    {
        o.insert(key.to_string(), value.into());
    }
}

/// As [`fill`], but also replaces the zero value: for fields that are no pointers.
pub fn fill_zero(v: &mut Value, key: &str, value: impl Into<Value>) {
    if let Some(o) = v.as_object_mut()
        && o.get(key).is_none_or(is_zero)
    {
        o.insert(key.to_string(), value.into());
    }
}

pub fn set(v: &mut Value, key: &str, value: impl Into<Value>) {
    if let Some(o) = v.as_object_mut() {
        o.insert(key.to_string(), value.into());
    }
}

pub fn remove(v: &mut Value, key: &str) {
    if let Some(o) = v.as_object_mut() {
        o.remove(key);
    }
}

/// Takes metadata back from the older version.
pub fn reset_metadata(new: &mut Value, old: &Value, keys: &[&str]) {
    let was = field(old, "metadata");
    if let Some(meta) = object_mut(new, "metadata") {
        for key in keys {
            match field(was, key) {
                Value::Null => remove(meta, key),
                value => set(meta, key, value.clone()),
            }
        }
    }
}

/// Keeps a field and the first item of its plural the same (`podIP` and `podIPs`). Where they differ, the
/// singular is right, since older clients know only that.
pub fn mirror_first(v: &mut Value, one: &str, many: &str, item: fn(&str) -> Value, of: fn(&Value) -> Option<&str>) {
    let single = text(v, one).to_string();
    let first = list(v, many).first().and_then(of).unwrap_or("").to_string();
    if single.is_empty() {
        if !first.is_empty() {
            set(v, one, first);
        }
    } else if single != first {
        set(v, many, json!([item(&single)]));
    }
}

/// Sets or removes: what `from` has under `key`, `to` has too.
pub fn copy_field(to: &mut Value, from: &Value, key: &str) {
    match from.get(key) {
        Some(v) => set(to, key, v.clone()),
        None => remove(to, key),
    }
}

/// The field when it is there and an object.
pub fn object_mut<'a>(v: &'a mut Value, key: &str) -> Option<&'a mut Value> {
    v.get_mut(key).filter(|v| v.is_object())
}

/// The field, made an empty object when absent. `None` when something else is there.
pub fn ensure_object<'a>(v: &'a mut Value, key: &str) -> Option<&'a mut Value> {
    fill(v, key, json!({}));
    object_mut(v, key)
}

pub fn object_at_mut<'a>(v: &'a mut Value, keys: &[&str]) -> Option<&'a mut Value> {
    keys.iter().try_fold(v, |v, k| object_mut(v, k))
}

pub fn items_mut<'a>(v: &'a mut Value, key: &str) -> impl Iterator<Item = &'a mut Value> {
    v.get_mut(key).and_then(Value::as_array_mut).into_iter().flatten().filter(|v| v.is_object())
}
