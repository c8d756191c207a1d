//! Values that expressions compute with.
//!
//! Objects of the API aren't copied into values: a [`Value`] refers to the JSON it was taken from and reads it when
//! it is asked, along a [`Decl`] (the schema) where there is one.

use crate::authorizer::{Check, Verdict};
use crate::schema::{Decl, DeclKind, escape_reserved};
use crate::time::Timestamp;
use base64::Engine;
use ipnet::IpNet;
use meta::quantity::Quantity;
use serde_json::Value as Json;
use std::cmp::Ordering;
use std::collections::BTreeMap;
use std::net::IpAddr;
use std::ops::Deref;
use std::sync::Arc;

#[derive(Clone, Debug)]
pub enum Value<'v> {
    Null,
    Bool(bool),
    Int(i64),
    Uint(u64),
    Double(f64),
    String(Str<'v>),
    Bytes(Arc<[u8]>),
    Timestamp(Timestamp),
    /// Nanoseconds.
    Duration(i64),
    List(List<'v>),
    Map(Map<'v>),
    /// A type, by its name.
    Type(Str<'v>),
    Optional(Option<Arc<Value<'v>>>),
    Struct(Arc<Struct<'v>>),
    Url(Arc<url::Url>),
    Ip(IpAddr),
    Cidr(IpNet),
    Quantity(Quantity),
    Semver(Arc<semver::Version>),
    /// A named format of `format.*()`.
    Format(&'static str),
    Check(Arc<Check>),
    Verdict(Arc<Verdict>),
    /// What `all` and `exists` hold after an item that gave an error; it never leaves the evaluator.
    Failed(Arc<str>),
}

#[derive(Clone, Debug)]
pub enum Str<'v> {
    Borrowed(&'v str),
    Shared(Arc<str>),
}

impl Deref for Str<'_> {
    type Target = str;
    fn deref(&self) -> &str {
        match self {
            Str::Borrowed(s) => s,
            Str::Shared(s) => s,
        }
    }
}

impl PartialEq for Str<'_> {
    fn eq(&self, other: &Self) -> bool {
        **self == **other
    }
}
impl Eq for Str<'_> {}
impl PartialOrd for Str<'_> {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}
impl Ord for Str<'_> {
    fn cmp(&self, other: &Self) -> Ordering {
        (**self).cmp(&**other)
    }
}

#[derive(Clone, Debug)]
pub enum List<'v> {
    Owned(Arc<Vec<Value<'v>>>),
    Json(&'v [Json], Option<&'v Decl>),
}

#[derive(Clone, Debug)]
pub enum Map<'v> {
    Owned(Arc<BTreeMap<Key<'v>, Value<'v>>>),
    Json(&'v serde_json::Map<String, Json>, Option<&'v Decl>),
    /// `variables`: its entries are computed by whoever evaluates.
    Lazy,
}

#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Key<'v> {
    Bool(bool),
    Int(i64),
    Uint(u64),
    String(Str<'v>),
}

/// `Object{...}` and `JSONPatch{...}` of mutations.
#[derive(Clone, Debug)]
pub struct Struct<'v> {
    pub name: Arc<str>,
    pub fields: BTreeMap<Arc<str>, Value<'v>>,
}

impl<'v> Value<'v> {
    pub fn string(text: impl Into<Arc<str>>) -> Value<'v> {
        Value::String(Str::Shared(text.into()))
    }

    pub fn list(items: Vec<Value<'v>>) -> Value<'v> {
        Value::List(List::Owned(Arc::new(items)))
    }

    pub fn map(entries: BTreeMap<Key<'v>, Value<'v>>) -> Value<'v> {
        Value::Map(Map::Owned(Arc::new(entries)))
    }

    pub fn some(value: Value<'v>) -> Value<'v> {
        Value::Optional(Some(Arc::new(value)))
    }

    /// JSON without a schema: whole numbers are ints, others doubles.
    pub fn json(json: &'v Json) -> Value<'v> {
        match json {
            Json::Null => Value::Null,
            Json::Bool(b) => Value::Bool(*b),
            Json::Number(n) => number(n),
            Json::String(s) => Value::String(Str::Borrowed(s)),
            Json::Array(items) => Value::List(List::Json(items, None)),
            Json::Object(entries) => Value::Map(Map::Json(entries, None)),
        }
    }

    /// JSON as its schema says. Text that doesn't have the form its format asks for stays text: validation of the
    /// schema refuses it anyway.
    pub fn typed(json: &'v Json, decl: &'v Decl) -> Value<'v> {
        match (json, &decl.kind) {
            (Json::Number(n), DeclKind::Double) => Value::Double(n.as_f64().unwrap_or(0.0)),
            (Json::String(s), DeclKind::Bytes) => match base64::engine::general_purpose::STANDARD.decode(s) {
                Ok(bytes) => Value::Bytes(bytes.into()),
                Err(_) => Value::json(json),
            },
            (Json::String(s), DeclKind::Duration) => match crate::time::parse_duration(s) {
                Ok(d) => Value::Duration(d),
                Err(_) => Value::json(json),
            },
            (Json::String(s), DeclKind::Timestamp { date }) => {
                let parsed = if *date { crate::time::parse_date(s) } else { crate::time::parse_timestamp(s) };
                parsed.map_or_else(|| Value::json(json), Value::Timestamp)
            }
            (Json::Array(items), DeclKind::List { .. }) => Value::List(List::Json(items, Some(decl))),
            (Json::Object(entries), DeclKind::Map { .. } | DeclKind::Object { .. }) => {
                Value::Map(Map::Json(entries, Some(decl)))
            }
            _ => Value::json(json),
        }
    }

    /// The name that `type(x)` shows.
    pub fn type_name(&self) -> &str {
        match self {
            Value::Null => "null_type",
            Value::Bool(_) => "bool",
            Value::Int(_) => "int",
            Value::Uint(_) => "uint",
            Value::Double(_) => "double",
            Value::String(_) => "string",
            Value::Bytes(_) => "bytes",
            Value::Timestamp(_) => "google.protobuf.Timestamp",
            Value::Duration(_) => "google.protobuf.Duration",
            Value::List(_) => "list",
            Value::Map(_) => "map",
            Value::Type(_) => "type",
            Value::Optional(_) => "optional_type",
            Value::Struct(s) => &s.name,
            Value::Url(_) => "kubernetes.URL",
            Value::Ip(_) => "net.IP",
            Value::Cidr(_) => "net.CIDR",
            Value::Quantity(_) => "kubernetes.Quantity",
            Value::Semver(_) => "kubernetes.Semver",
            Value::Format(_) => "kubernetes.NamedFormat",
            Value::Check(c) => c.type_name(),
            Value::Verdict(_) => "kubernetes.authorization.Decision",
            Value::Failed(_) => "error",
        }
    }

    pub fn as_str(&self) -> Option<&str> {
        match self {
            Value::String(s) => Some(s),
            _ => None,
        }
    }

    /// What `size()` says and costs go by; 1 for what has none.
    pub fn size(&self) -> u64 {
        match self {
            Value::String(s) => s.chars().count() as u64,
            Value::Bytes(b) => b.len() as u64,
            Value::List(l) => l.len() as u64,
            Value::Map(m) => m.len() as u64,
            Value::Ip(IpAddr::V4(_)) => 4,
            Value::Ip(IpAddr::V6(_)) => 16,
            Value::Cidr(c) => u64::from(c.prefix_len()).div_ceil(8),
            _ => 1,
        }
    }

    /// As JSON; None for what JSON has no form for. `steps` bounds the size of what is made.
    pub fn to_json(&self, steps: &mut u64) -> Option<Json> {
        *steps = steps.checked_sub(1)?;
        Some(match self {
            Value::Null => Json::Null,
            Value::Bool(b) => Json::Bool(*b),
            Value::Int(i) => Json::from(*i),
            Value::Uint(u) => Json::from(*u),
            // Whole numbers are written as such, as Go writes them.
            Value::Double(d) if d.fract() == 0.0 && d.abs() < 9e15 => Json::from(*d as i64),
            Value::Double(d) => serde_json::Number::from_f64(*d).map(Json::Number)?,
            Value::String(s) => {
                *steps = steps.checked_sub(s.len() as u64 / 16)?;
                Json::String(s.to_string())
            }
            Value::Bytes(b) => Json::String(base64::engine::general_purpose::STANDARD.encode(b)),
            Value::Timestamp(t) => Json::String(crate::time::show_timestamp(*t)),
            Value::Duration(d) => Json::String(crate::time::show_duration(*d)),
            Value::List(List::Json(items, _)) => {
                *steps = steps.checked_sub(weight_of_all(items.iter()))?;
                Json::Array(items.to_vec())
            }
            Value::List(List::Owned(items)) => {
                Json::Array(items.iter().map(|v| v.to_json(steps)).collect::<Option<_>>()?)
            }
            Value::Map(Map::Json(entries, _)) => {
                *steps = steps.checked_sub(weight_of_all(entries.values()))?;
                Json::Object((*entries).clone())
            }
            Value::Map(Map::Owned(entries)) => {
                let mut object = serde_json::Map::new();
                for (key, value) in entries.iter() {
                    object.insert(key.text(), value.to_json(steps)?);
                }
                Json::Object(object)
            }
            Value::Struct(s) => {
                let mut object = serde_json::Map::new();
                for (key, value) in &s.fields {
                    object.insert(key.to_string(), value.to_json(steps)?);
                }
                Json::Object(object)
            }
            Value::Quantity(q) => Json::String(q.canonical()),
            Value::Url(u) => Json::String(u.to_string()),
            Value::Ip(ip) => Json::String(ip.to_string()),
            Value::Cidr(c) => Json::String(c.to_string()),
            Value::Semver(v) => Json::String(v.to_string()),
            Value::Optional(Some(v)) => v.to_json(steps)?,
            Value::Optional(None) => Json::Null,
            Value::Map(Map::Lazy)
            | Value::Type(_)
            | Value::Format(_)
            | Value::Check(_)
            | Value::Failed(_)
            | Value::Verdict(_) => return None,
        })
    }
}

fn number<'v>(n: &serde_json::Number) -> Value<'v> {
    match n.as_i64() {
        Some(i) => Value::Int(i),
        None => Value::Double(n.as_f64().unwrap_or(0.0)),
    }
}

fn weight_of_all<'j>(items: impl Iterator<Item = &'j Json>) -> u64 {
    items.map(weight).sum()
}

fn weight(json: &Json) -> u64 {
    match json {
        Json::Array(items) => 1 + weight_of_all(items.iter()),
        Json::Object(entries) => 1 + weight_of_all(entries.values()),
        Json::String(s) => 1 + s.len() as u64 / 16,
        _ => 1,
    }
}

impl<'v> Key<'v> {
    pub fn of(value: &Value<'v>) -> Option<Key<'v>> {
        Some(match value {
            Value::Bool(b) => Key::Bool(*b),
            Value::Int(i) => Key::Int(*i),
            Value::Uint(u) => Key::Uint(*u),
            Value::String(s) => Key::String(s.clone()),
            Value::Double(d) if d.fract() == 0.0 && d.abs() < 9.2e18 => Key::Int(*d as i64),
            _ => return None,
        })
    }

    pub fn value(&self) -> Value<'v> {
        match self {
            Key::Bool(b) => Value::Bool(*b),
            Key::Int(i) => Value::Int(*i),
            Key::Uint(u) => Value::Uint(*u),
            Key::String(s) => Value::String(s.clone()),
        }
    }

    pub fn text(&self) -> String {
        match self {
            Key::Bool(b) => b.to_string(),
            Key::Int(i) => i.to_string(),
            Key::Uint(u) => u.to_string(),
            Key::String(s) => s.to_string(),
        }
    }

    /// The same number as the other kind of whole number.
    fn twin(&self) -> Option<Key<'v>> {
        match self {
            Key::Int(i) => u64::try_from(*i).ok().map(Key::Uint),
            Key::Uint(u) => i64::try_from(*u).ok().map(Key::Int),
            _ => None,
        }
    }
}

impl<'v> List<'v> {
    pub fn len(&self) -> usize {
        match self {
            List::Owned(items) => items.len(),
            List::Json(items, _) => items.len(),
        }
    }

    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    pub fn get(&self, i: usize) -> Option<Value<'v>> {
        match self {
            List::Owned(items) => items.get(i).cloned(),
            List::Json(items, decl) => items.get(i).map(|j| item(j, *decl)),
        }
    }

    pub fn iter(&self) -> impl Iterator<Item = Value<'v>> + '_ {
        (0..self.len()).filter_map(|i| self.get(i))
    }

    /// `set`, or the keys of a `map` list; None where order counts.
    pub fn topology(&self) -> Option<&'v crate::schema::ListType> {
        match self {
            List::Json(_, Some(Decl { kind: DeclKind::List { list_type, .. }, .. })) => {
                (!matches!(list_type, crate::schema::ListType::Atomic)).then_some(list_type)
            }
            _ => None,
        }
    }
}

fn item<'v>(json: &'v Json, list: Option<&'v Decl>) -> Value<'v> {
    match list.map(|d| &d.kind) {
        Some(DeclKind::List { item, .. }) => Value::typed(json, item),
        _ => Value::json(json),
    }
}

impl<'v> Map<'v> {
    pub fn len(&self) -> usize {
        match self {
            Map::Owned(entries) => entries.len(),
            Map::Json(entries, None) => entries.len(),
            Map::Json(..) => self.keys().len(),
            Map::Lazy => 0,
        }
    }

    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    pub fn get(&self, key: &Key<'v>) -> Option<Value<'v>> {
        match (self, key) {
            (Map::Owned(entries), key) => {
                entries.get(key).or_else(|| key.twin().and_then(|twin| entries.get(&twin))).cloned()
            }
            (Map::Json(..), Key::String(name)) => self.field(name),
            _ => None,
        }
    }

    /// By name; in objects with a schema the name is escaped, and only what the schema knows is seen.
    pub fn field(&self, name: &str) -> Option<Value<'v>> {
        match self {
            Map::Json(entries, None) => entries.get(name).map(Value::json),
            Map::Json(entries, Some(decl)) => match &decl.kind {
                DeclKind::Map { value } => entries.get(name).map(|j| Value::typed(j, value)),
                DeclKind::Object { fields, .. } => {
                    let field = fields.get(name).or_else(|| fields.get(&*escape_reserved(name)?))?;
                    entries.get(&*field.json_name).map(|j| Value::typed(j, &field.decl))
                }
                _ => entries.get(name).map(Value::json),
            },
            Map::Owned(entries) => entries.get(&Key::String(Str::Shared(name.into()))).cloned(),
            Map::Lazy => None,
        }
    }

    pub fn keys(&self) -> Vec<Key<'v>> {
        let borrowed = |s: &'v str| Key::String(Str::Borrowed(s));
        match self {
            Map::Owned(entries) => entries.keys().cloned().collect(),
            Map::Json(entries, decl) => match decl.map(|d| &d.kind) {
                Some(DeclKind::Object { fields, .. }) => fields
                    .iter()
                    .filter(|(_, f)| entries.contains_key(&*f.json_name))
                    .map(|(name, _)| borrowed(name))
                    .collect(),
                _ => entries.keys().map(|k| borrowed(k)).collect(),
            },
            Map::Lazy => Vec::new(),
        }
    }
}

/// A comparison walked over more than it may. Values can share parts, and so be endless to walk.
pub struct TooLarge;

/// `==`. Numbers of different kinds are equal when their values are.
pub fn equal<'v>(a: &Value<'v>, b: &Value<'v>, steps: &mut u64) -> Result<bool, TooLarge> {
    *steps = steps.checked_sub(1).ok_or(TooLarge)?;
    Ok(match (a, b) {
        (Value::Null, Value::Null) => true,
        (Value::Bool(x), Value::Bool(y)) => x == y,
        (Value::Int(_) | Value::Uint(_) | Value::Double(_), Value::Int(_) | Value::Uint(_) | Value::Double(_)) => {
            compare_numbers(a, b) == Some(Ordering::Equal)
        }
        (Value::String(x), Value::String(y)) | (Value::Type(x), Value::Type(y)) => x == y,
        (Value::Bytes(x), Value::Bytes(y)) => x == y,
        (Value::Timestamp(x), Value::Timestamp(y)) => x == y,
        (Value::Duration(x), Value::Duration(y)) => x == y,
        (Value::List(x), Value::List(y)) => return lists_equal(x, y, steps),
        (Value::Map(x), Value::Map(y)) => return maps_equal(x, y, steps),
        (Value::Struct(x), Value::Struct(y)) => {
            if x.name != y.name || x.fields.len() != y.fields.len() {
                return Ok(false);
            }
            for ((k, v), (l, w)) in x.fields.iter().zip(&y.fields) {
                if k != l || !equal(v, w, steps)? {
                    return Ok(false);
                }
            }
            true
        }
        (Value::Optional(x), Value::Optional(y)) => match (x, y) {
            (None, None) => true,
            (Some(x), Some(y)) => return equal(x, y, steps),
            _ => false,
        },
        (Value::Url(x), Value::Url(y)) => x == y,
        (Value::Ip(x), Value::Ip(y)) => x == y,
        (Value::Cidr(x), Value::Cidr(y)) => x == y,
        (Value::Quantity(x), Value::Quantity(y)) => x == y,
        (Value::Semver(x), Value::Semver(y)) => x.cmp_precedence(y) == Ordering::Equal,
        (Value::Format(x), Value::Format(y)) => x == y,
        (Value::Check(x), Value::Check(y)) => x == y,
        (Value::Verdict(x), Value::Verdict(y)) => x == y,
        _ => false,
    })
}

fn lists_equal<'v>(a: &List<'v>, b: &List<'v>, steps: &mut u64) -> Result<bool, TooLarge> {
    use crate::schema::ListType;
    if a.len() != b.len() {
        return Ok(false);
    }
    match a.topology().or(b.topology()) {
        None => {
            for i in 0..a.len() {
                match (a.get(i), b.get(i)) {
                    (Some(x), Some(y)) if equal(&x, &y, steps)? => {}
                    _ => return Ok(false),
                }
            }
            Ok(true)
        }
        Some(ListType::Map(keys)) => {
            for x in a.iter() {
                let mut found = false;
                for y in b.iter() {
                    if same_keys(&x, &y, keys, steps)? {
                        found = equal(&x, &y, steps)?;
                        break;
                    }
                }
                if !found {
                    return Ok(false);
                }
            }
            Ok(true)
        }
        Some(_) => {
            for (one, other) in [(a, b), (b, a)] {
                for x in one.iter() {
                    if !contains(other, &x, steps)? {
                        return Ok(false);
                    }
                }
            }
            Ok(true)
        }
    }
}

pub fn contains<'v>(list: &List<'v>, wanted: &Value<'v>, steps: &mut u64) -> Result<bool, TooLarge> {
    for x in list.iter() {
        if equal(&x, wanted, steps)? {
            return Ok(true);
        }
    }
    Ok(false)
}

/// Items of a list of type `map` that stand for the same thing. `keys` are escaped names.
pub fn same_keys<'v>(a: &Value<'v>, b: &Value<'v>, keys: &[Arc<str>], steps: &mut u64) -> Result<bool, TooLarge> {
    let (Value::Map(a), Value::Map(b)) = (a, b) else { return Ok(false) };
    for key in keys {
        let same = match (a.field(key), b.field(key)) {
            (Some(x), Some(y)) => equal(&x, &y, steps)?,
            (None, None) => true,
            _ => false,
        };
        if !same {
            return Ok(false);
        }
    }
    Ok(true)
}

fn maps_equal<'v>(a: &Map<'v>, b: &Map<'v>, steps: &mut u64) -> Result<bool, TooLarge> {
    let keys = a.keys();
    if keys.len() != b.len() {
        return Ok(false);
    }
    for key in keys {
        match (a.get(&key), b.get(&key)) {
            (Some(x), Some(y)) if equal(&x, &y, steps)? => {}
            _ => return Ok(false),
        }
    }
    Ok(true)
}

/// Of ints, uints and doubles by value; None when one is not a number.
pub fn compare_numbers(a: &Value<'_>, b: &Value<'_>) -> Option<Ordering> {
    match (a, b) {
        (Value::Int(x), Value::Int(y)) => Some(x.cmp(y)),
        (Value::Uint(x), Value::Uint(y)) => Some(x.cmp(y)),
        (Value::Double(x), Value::Double(y)) => x.partial_cmp(y),
        (Value::Int(x), Value::Uint(y)) => Some(i128::from(*x).cmp(&i128::from(*y))),
        (Value::Uint(x), Value::Int(y)) => Some(i128::from(*x).cmp(&i128::from(*y))),
        (Value::Double(x), Value::Int(y)) => double_to_whole(*x, i128::from(*y)),
        (Value::Double(x), Value::Uint(y)) => double_to_whole(*x, i128::from(*y)),
        (Value::Int(x), Value::Double(y)) => double_to_whole(*y, i128::from(*x)).map(Ordering::reverse),
        (Value::Uint(x), Value::Double(y)) => double_to_whole(*y, i128::from(*x)).map(Ordering::reverse),
        _ => None,
    }
}

fn double_to_whole(x: f64, y: i128) -> Option<Ordering> {
    if x.is_nan() {
        return None;
    }
    if x >= 2f64.powi(64) {
        return Some(Ordering::Greater);
    }
    if x < -(2f64.powi(63)) {
        return Some(Ordering::Less);
    }
    let whole = x.trunc() as i128;
    Some(whole.cmp(&y).then(x.fract().partial_cmp(&0.0)?))
}

/// Order of values that have one.
pub fn compare(a: &Value<'_>, b: &Value<'_>) -> Option<Ordering> {
    match (a, b) {
        (Value::Bool(x), Value::Bool(y)) => Some(x.cmp(y)),
        (Value::String(x), Value::String(y)) => Some((**x).cmp(&**y)),
        (Value::Bytes(x), Value::Bytes(y)) => Some(x.cmp(y)),
        (Value::Timestamp(x), Value::Timestamp(y)) => Some(x.cmp(y)),
        (Value::Duration(x), Value::Duration(y)) => Some(x.cmp(y)),
        _ => compare_numbers(a, b),
    }
}
