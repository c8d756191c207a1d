//! `apiVersion`, `kind` and `metadata` of a custom object and of the objects embedded in it.
//!
//! Metadata has a built-in type, so it is decoded by that: unknown fields go, values of a wrong type are refused in
//! requests and dropped from what is read from the store.

use super::schema::{Additional, Schema};
use crate::codec::json::decode_value;
use crate::facts;
use crate::validation::objectmeta;
use meta::field::{Error, Errors, Path, Reason};
use meta::names;
use serde_json::{Map, Value};
use std::fmt;

/// What to do with metadata that doesn't fit its type.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Malformed {
    /// Drop the field.
    Drop,
    /// Report it.
    Refuse,
}

/// What doesn't fit its type.
#[derive(Debug, PartialEq)]
pub struct Misfit {
    pub path: String,
    pub value: Value,
    pub why: String,
}

impl fmt::Display for Misfit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (path, value, detail) = (Path::new(&self.path), self.value.clone(), self.why.clone());
        write!(f, "{}", Error { reason: Reason::Invalid, path, value, detail })
    }
}

/// Brings the metadata of a whole object to its type. `unknown`: paths of dropped fields.
pub fn coerce_root(object: &mut Value, how: Malformed, unknown: &mut Vec<String>) -> Result<(), Misfit> {
    match object.get_mut("metadata") {
        Some(m) => metadata(m, "metadata", how, unknown),
        None => Ok(()),
    }
}

/// Brings the metadata of all objects inside another to their type. The error is the first misfit.
pub fn coerce(object: &mut Value, schema: &Schema, how: Malformed, unknown: &mut Vec<String>) -> Result<(), Misfit> {
    if !schema.has_embedded {
        return Ok(());
    }
    for (name, child) in object.as_object_mut().into_iter().flatten() {
        if super::prune::META_FIELDS.contains(&name.as_str()) {
            continue;
        }
        if let Some(s) = schema.member(name) {
            walk(child, s, name, how, unknown)?;
        }
    }
    Ok(())
}

/// As [`coerce`], of a value somewhere in an object.
pub fn coerce_value(value: &mut Value, s: &Schema, how: Malformed) -> Result<(), Misfit> {
    walk(value, s, "", how, &mut Vec::new())
}

fn walk(value: &mut Value, s: &Schema, path: &str, how: Malformed, unknown: &mut Vec<String>) -> Result<(), Misfit> {
    if !s.has_embedded {
        return Ok(());
    }
    let below = |name: &str| if path.is_empty() { name.to_string() } else { format!("{path}.{name}") };
    if s.embedded_resource
        && let Some(o) = value.as_object_mut()
    {
        for key in ["apiVersion", "kind"] {
            if let Some(wrong) = o.get(key).filter(|v| !v.is_string()) {
                if how == Malformed::Refuse {
                    return Err(Misfit { path: below(key), value: wrong.clone(), why: "must be a string".into() });
                }
                o.remove(key);
            }
        }
        if let Some(m) = o.get_mut("metadata") {
            metadata(m, &below("metadata"), how, unknown)?;
        }
    }
    match value {
        Value::Object(map) => {
            for (name, child) in map {
                if s.embedded_resource && super::prune::META_FIELDS.contains(&name.as_str()) {
                    continue;
                }
                if let Some(member) = s.member(name) {
                    walk(child, member, &below(name), how, unknown)?;
                }
            }
        }
        Value::Array(items) => {
            if let Some(below) = &s.items {
                for (i, item) in items.iter_mut().enumerate() {
                    walk(item, below, &format!("{path}[{i}]"), how, unknown)?;
                }
            }
        }
        _ => {}
    }
    Ok(())
}

fn metadata(value: &mut Value, path: &str, how: Malformed, unknown: &mut Vec<String>) -> Result<(), Misfit> {
    let types = facts::types();
    let Some(ty) = types.named(facts::OBJECT_META) else { return Ok(()) };
    match decode_value(types, ty, value) {
        Ok(decoded) => {
            unknown.extend(decoded.unknown.into_iter().map(|u| format!("{path}.{u}")));
            *value = decoded.value;
            Ok(())
        }
        Err(e) if how == Malformed::Refuse => {
            Err(Misfit { path: path.to_string(), value: value.clone(), why: e.to_string() })
        }
        Err(_) => {
            // Field by field: one that is broken goes as a whole.
            let mut kept = Map::new();
            for (key, v) in value.as_object().into_iter().flatten() {
                let one = Map::from_iter([(key.clone(), v.clone())]);
                if let Ok(d) = decode_value(types, ty, &Value::Object(one))
                    && let Value::Object(fields) = d.value
                {
                    kept.extend(fields);
                }
            }
            *value = Value::Object(kept);
            Ok(())
        }
    }
}

/// Takes from a schema's defaults what metadata has no place for.
pub fn prune_defaults(s: &mut Schema) {
    if !s.has_embedded || !s.has_defaults {
        return;
    }
    if s.embedded_resource
        && let Some((_, m)) = s.properties.iter_mut().find(|(name, _)| *name == "metadata")
    {
        prune_metadata_defaults(m, &mut Vec::new());
    }
    let additional = match &mut s.additional {
        Additional::Schema(s) => Some(s.as_mut()),
        _ => None,
    };
    s.properties.iter_mut().map(|(_, s)| s).chain(additional).chain(s.items.as_deref_mut()).for_each(prune_defaults);
}

/// `steps`: from the metadata to this node; none is the item of a list.
fn prune_metadata_defaults(s: &mut Schema, steps: &mut Vec<Option<String>>) {
    if let Some(d) = s.default.take() {
        let mut whole = steps.iter().rev().fold(*d, |v, step| match step {
            Some(name) => Value::Object(Map::from_iter([(name.clone(), v)])),
            None => Value::Array(vec![v]),
        });
        let _ = metadata(&mut whole, "", Malformed::Drop, &mut Vec::new());
        let kept = steps.iter().try_fold(&whole, |v, step| match step {
            Some(name) => v.get(name),
            None => v.get(0),
        });
        s.default = kept.cloned().map(Box::new);
    }
    for (name, p) in s.properties.iter_mut() {
        steps.push(Some(name.to_string()));
        prune_metadata_defaults(p, steps);
        steps.pop();
    }
    if let Some(items) = &mut s.items {
        steps.push(None);
        prune_metadata_defaults(items, steps);
        steps.pop();
    }
}

/// Rules for embedded objects: they say what they are, and their metadata is sound.
pub fn validate(schema: &Schema, object: &Value, errors: &mut Errors) {
    validate_value(schema, object, false, &Path::root(), errors);
}

/// As [`validate`], of a value that is a whole object itself where `resource`.
pub fn validate_value(s: &Schema, value: &Value, resource: bool, path: &Path, errors: &mut Errors) {
    if !resource && !s.has_embedded {
        return;
    }
    match value {
        Value::Object(map) => {
            if resource {
                embedded(map, path, errors);
            }
            for (name, child) in map {
                match (s.properties.get(name), &s.additional) {
                    (Some(p), _) => validate_value(p, child, p.embedded_resource, &path.child(name), errors),
                    (None, Additional::Schema(p)) => {
                        validate_value(p, child, p.embedded_resource, &path.key(name), errors);
                    }
                    _ => {}
                }
            }
        }
        Value::Array(items) => {
            if let Some(below) = &s.items {
                for (i, item) in items.iter().enumerate() {
                    validate_value(below, item, below.embedded_resource, &path.index(i), errors);
                }
            }
        }
        _ => {}
    }
}

fn embedded(object: &Map<String, Value>, path: &Path, errors: &mut Errors) {
    let mut said = |key: &str, faults: fn(&str) -> Option<String>| {
        let at = path.child(key);
        match object.get(key) {
            None => errors.required(at, ""),
            Some(Value::String(text)) if text.is_empty() => errors.invalid(at, "", "must not be empty"),
            Some(Value::String(text)) => {
                if let Some(why) = faults(text) {
                    errors.invalid(at, text.as_str(), why);
                }
            }
            Some(other) => errors.invalid(at, other.clone(), "must be a string"),
        }
    };
    said("apiVersion", |v| (v.matches('/').count() > 1).then(|| format!("unexpected GroupVersion string: {v}")));
    said("kind", |kind| {
        let why = names::dns1035_label(&kind.to_lowercase());
        (!why.is_empty()).then(|| format!("may have mixed case, but should otherwise match: {}", why.join(",")))
    });
    if let Some(m) = object.get("metadata") {
        objectmeta::embedded_meta(m, &path.child("metadata"), errors);
    }
}
