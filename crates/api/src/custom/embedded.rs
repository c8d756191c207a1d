//! `apiVersion`, `kind` and `metadata` of a custom object and of the objects embedded in it.
//!
//! Metadata has a built-in type, so it is decoded by that: unknown fields go, values of a wrong type are refused in
//! requests and dropped from what is read from the store.

use super::schema::{Additional, Schema};
use crate::codec::json::decode_value;
use crate::facts;
use crate::validation::{labels, values};
use meta::field::{Errors, Path};
use meta::names;
use serde_json::{Map, Value};

/// What to do with metadata that doesn't fit its type.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Malformed {
    /// Drop the field.
    Drop,
    /// Report it.
    Refuse,
}

/// Brings the metadata of a whole object, and of all that are embedded, to their type.
/// `unknown`: paths of dropped fields. The error is the first misfit, as `metadata.labels: why`.
pub fn coerce(object: &mut Value, schema: &Schema, how: Malformed, unknown: &mut Vec<String>) -> Result<(), String> {
    if let Some(m) = object.get_mut("metadata") {
        metadata(m, "metadata", how, unknown)?;
    }
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

fn walk(value: &mut Value, s: &Schema, path: &str, how: Malformed, unknown: &mut Vec<String>) -> Result<(), String> {
    if !s.has_embedded {
        return Ok(());
    }
    if s.embedded_resource {
        if let Some(m) = value.get_mut("metadata") {
            metadata(m, &format!("{path}.metadata"), how, unknown)?;
        }
        if how == Malformed::Drop
            && let Some(o) = value.as_object_mut()
        {
            for key in ["apiVersion", "kind"] {
                if o.get(key).is_some_and(|v| !v.is_string()) {
                    o.remove(key);
                }
            }
        }
    }
    match value {
        Value::Object(map) => {
            for (name, child) in map {
                if s.embedded_resource && super::prune::META_FIELDS.contains(&name.as_str()) {
                    continue;
                }
                if let Some(below) = s.member(name) {
                    walk(child, below, &format!("{path}.{name}"), how, unknown)?;
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

fn metadata(value: &mut Value, path: &str, how: Malformed, unknown: &mut Vec<String>) -> Result<(), String> {
    let types = facts::types();
    let Some(ty) = types.named(facts::OBJECT_META) else { return Ok(()) };
    match decode_value(types, ty, value) {
        Ok(decoded) => {
            unknown.extend(decoded.unknown.into_iter().map(|u| format!("{path}.{u}")));
            *value = decoded.value;
            Ok(())
        }
        Err(e) if how == Malformed::Refuse => Err(format!("{path}: {e}")),
        Err(_) => {
            // Field by field, so that one broken label costs no more than itself.
            let mut kept = Map::new();
            for (key, v) in value.as_object().into_iter().flatten() {
                let mut one = Map::new();
                let candidate = match (key.as_str(), v) {
                    ("labels" | "annotations", Value::Object(pairs)) => Value::Object(
                        pairs.iter().filter(|p| p.1.is_string()).map(|(k, v)| (k.clone(), v.clone())).collect(),
                    ),
                    _ => v.clone(),
                };
                one.insert(key.clone(), candidate);
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

/// Rules for embedded objects: they say what they are, and their metadata is sound.
pub fn validate(schema: &Schema, object: &Value, errors: &mut Errors) {
    if schema.has_embedded {
        check(schema, object, true, &Path::root(), errors);
    }
}

fn check(s: &Schema, value: &Value, root: bool, path: &Path, errors: &mut Errors) {
    if !s.has_embedded {
        return;
    }
    if s.embedded_resource && !root && value.is_object() {
        embedded(value, path, errors);
    }
    match value {
        Value::Object(map) => {
            for (name, child) in map {
                if (root || s.embedded_resource) && super::prune::META_FIELDS.contains(&name.as_str()) {
                    continue;
                }
                match (s.properties.get(name), &s.additional) {
                    (Some(p), _) => check(p, child, false, &path.child(name), errors),
                    (None, Additional::Schema(p)) => check(p, child, false, &path.key(name), errors),
                    _ => {}
                }
            }
        }
        Value::Array(items) => {
            if let Some(below) = &s.items {
                for (i, item) in items.iter().enumerate() {
                    check(below, item, false, &path.index(i), errors);
                }
            }
        }
        _ => {}
    }
}

fn embedded(value: &Value, path: &Path, errors: &mut Errors) {
    let version = value["apiVersion"].as_str().unwrap_or("");
    if version.is_empty() {
        errors.required(path.child("apiVersion"), "must not be empty");
    } else {
        let (group, v) = facts::split_api_version(version);
        if version.matches('/').count() > 1 {
            errors.invalid(path.child("apiVersion"), version, format!("unexpected GroupVersion string: {version}"));
        } else if !group.is_empty() {
            values::each(errors, &path.child("apiVersion"), version, names::dns1123_subdomain(group));
            values::each(errors, &path.child("apiVersion"), version, names::dns1035_label(v));
        }
    }
    let kind = value["kind"].as_str().unwrap_or("");
    if kind.is_empty() {
        errors.required(path.child("kind"), "must not be empty");
    } else {
        let why: Vec<String> = names::dns1035_label(&kind.to_lowercase())
            .into_iter()
            .map(|m| format!("may have mixed case, but should otherwise match: {m}"))
            .collect();
        values::each(errors, &path.child("kind"), kind, why);
    }
    let (m, path) = (&value["metadata"], path.child("metadata"));
    if let Some(name) = m["name"].as_str().filter(|n| !n.is_empty()) {
        values::each(errors, &path.child("name"), name, names::path_segment(name));
    }
    labels::labels(&m["labels"], &path.child("labels"), errors);
    labels::annotations(&m["annotations"], &path.child("annotations"), errors);
}
