//! What a version's parts must agree on beyond structure: defaults with their schema, lists with their items, columns
//! and selectable fields with what there is.

use crate::custom::schema::{Kind, Schema};
use crate::custom::{prune, validate};
use crate::validation::access::*;
use meta::field::{Errors, Path};
use serde_json::Value;
use std::collections::HashSet;

/// Upstream's bound on `selectableFields`.
const SELECTABLE_FIELDS_MAX: usize = 8;

/// One node that says what is there; `root` is the whole object.
pub(super) fn node(schema: &Value, root: bool, path: &Path, errors: &mut Errors) {
    if schema.get("x-kubernetes-preserve-unknown-fields") == Some(&Value::Bool(false)) {
        errors.invalid(path.child("x-kubernetes-preserve-unknown-fields"), false, "must be true or undefined");
    }
    default(schema, root, path, errors);
    keyed_list(schema, path, errors);
    if root {
        metadata(schema, path, errors);
    }
}

/// A node below `anyOf` and its like may only restrict.
pub(super) fn restriction(schema: &Value, int_or_string: bool, path: &Path, errors: &mut Errors) {
    for (key, detail) in [
        ("default", "must be undefined to be structural"),
        ("additionalProperties", "must be undefined to be structural"),
        ("title", "must be empty to be structural"),
        ("description", "must be empty to be structural"),
        ("x-kubernetes-preserve-unknown-fields", "must be false to be structural"),
        ("x-kubernetes-list-map-keys", "must be empty to be structural"),
        ("x-kubernetes-list-type", "must be undefined to be structural"),
        ("x-kubernetes-map-type", "must be undefined to be structural"),
    ] {
        let v = field(schema, key);
        if !v.is_null() && v != "" && v != &Value::Bool(false) {
            errors.forbidden(path.child(key), detail);
        }
    }
    for key in ["nullable", "x-kubernetes-embedded-resource", "x-kubernetes-int-or-string"] {
        if flag(schema, key) && !(int_or_string && key == "x-kubernetes-int-or-string") {
            errors.forbidden(path.child(key), "must be false to be structural");
        }
    }
}

/// A default must be a value that its own schema takes as it is.
fn default(schema: &Value, root: bool, path: &Path, errors: &mut Errors) {
    let Some(value) = schema.get("default").filter(|v| !v.is_null()) else { return };
    let path = path.child("default");
    if root {
        return errors.forbidden(path, "must not be set at the root");
    }
    let compiled = Schema::compile(schema);
    let (mut pruned, mut unknown) = (value.clone(), Vec::new());
    prune::prune_value(&mut pruned, &compiled, false, &mut unknown);
    if !unknown.is_empty() {
        return errors.invalid(path, value.clone(), "must not have unknown fields");
    }
    let mut found = Errors::default();
    // What nested defaults fill in needn't be there.
    let mut whole = value.clone();
    crate::custom::default::default(&mut whole, &compiled);
    validate::validate(&compiled, &whole, None, "", &mut found);
    validate::keyed_lists(&compiled, &whole, &Path::root(), &mut found);
    for mut e in found.0 {
        let inner = e.path.as_str().to_string();
        e.path = if inner.is_empty() { path.clone() } else { path.child(&inner) };
        errors.0.push(e);
    }
}

/// Items of sets are compared as a whole, those of maps by scalar keys.
fn keyed_list(schema: &Value, path: &Path, errors: &mut Errors) {
    let (items, list_type) = (field(schema, "items"), text(schema, "x-kubernetes-list-type"));
    let kind = text(items, "type");
    match list_type {
        "set" => {
            if flag(items, "nullable") {
                errors.forbidden(path.child("items.nullable"), "cannot be nullable when x-kubernetes-list-type is set");
            }
            let whole = match kind {
                "object" => text(items, "x-kubernetes-map-type") == "atomic",
                "array" => matches!(text(items, "x-kubernetes-list-type"), "" | "atomic"),
                _ => true,
            };
            if !whole {
                let key = if kind == "object" { "x-kubernetes-map-type" } else { "x-kubernetes-list-type" };
                errors.invalid(
                    path.child("items").child(key),
                    Value::Null,
                    "must be atomic as item of a list with x-kubernetes-list-type=set",
                );
            }
        }
        "map" => {
            if kind != "object" {
                errors.invalid(
                    path.child("items.type"),
                    kind,
                    "must be object if parent array's x-kubernetes-list-type is map",
                );
            }
            for key in texts(schema, "x-kubernetes-list-map-keys") {
                let property = at(items, &["properties", key]);
                if matches!(text(property, "type"), "object" | "array") {
                    errors.invalid(
                        path.child("items.properties").key(key).child("type"),
                        text(property, "type"),
                        "must be a scalar type if parent array's x-kubernetes-list-type is map",
                    );
                }
                if flag(property, "nullable") {
                    errors.forbidden(
                        path.child("items.properties").key(key).child("nullable"),
                        "this property is in x-kubernetes-list-map-keys, so it cannot be nullable",
                    );
                }
            }
        }
        _ => {}
    }
}

/// Of `metadata` a schema may restrict the name alone.
fn metadata(schema: &Value, path: &Path, errors: &mut Errors) {
    let m = at(schema, &["properties", "metadata"]);
    if !m.is_object() {
        return;
    }
    let path = path.child("properties").key("metadata");
    let other = entries(m, "properties").any(|(k, _)| !matches!(k, "name" | "generateName"));
    let more =
        m.as_object().into_iter().flatten().any(|(k, _)| !matches!(k.as_str(), "type" | "properties" | "description"));
    if other || more {
        errors.forbidden(
            path,
            "must not specify anything other than name and generateName, but metadata is implicitly specified",
        );
    }
}

/// `selectableFields`: simple paths to scalar fields of the schema.
pub(super) fn selectable_fields(version: &Value, path: &Path, errors: &mut Errors) {
    let fields = list(version, "selectableFields");
    let path = path.child("selectableFields");
    let schema = Schema::compile(at(version, &["schema", "openAPIV3Schema"]));
    let mut seen = HashSet::new();
    for (i, f) in fields.iter().enumerate() {
        let (path, json_path) = (path.index(i).child("jsonPath"), text(f, "jsonPath"));
        let at_path = path.clone();
        if json_path.is_empty() {
            errors.required(path, "");
            continue;
        }
        let Some(steps) = json_path.strip_prefix('.').filter(|p| !p.contains(['[', ']', '*'])) else {
            errors.invalid(path, json_path, "must be a simple json path starting with .");
            continue;
        };
        if steps == "metadata" || steps.starts_with("metadata.") {
            errors.invalid(path, json_path, "must not point to fields in metadata");
            continue;
        }
        let mut at = Some(&schema);
        for step in steps.split('.') {
            at = at.and_then(|s| s.properties.get(step));
        }
        match at {
            None => {
                errors.invalid(path, json_path, "is an invalid path: does not refer to a valid field");
                continue;
            }
            Some(s) => match s.kind {
                Some(Kind::String | Kind::Boolean | Kind::Integer) => {}
                _ => {
                    let text = "must point to a field of type string, boolean or integer. Enum string fields and strings with formats are allowed.";
                    errors.invalid(path, json_path, text);
                }
            },
        }
        if !seen.insert(json_path) {
            errors.duplicate(at_path, json_path);
        }
    }
    if seen.len() > SELECTABLE_FIELDS_MAX {
        errors.too_many(path, seen.len(), SELECTABLE_FIELDS_MAX);
    }
}

/// A printed column.
pub(super) fn column(column: &Value, path: &Path, errors: &mut Errors) {
    const TYPES: [&str; 5] = ["boolean", "date", "integer", "number", "string"];
    const FORMATS: [&str; 8] = ["byte", "date", "date-time", "double", "float", "int32", "int64", "password"];
    if text(column, "name").is_empty() {
        errors.required(path.child("name"), "");
    }
    let one_of = |all: &[&str]| format!("must be one of {}", all.join(","));
    match text(column, "type") {
        "" => errors.required(path.child("type"), one_of(&TYPES)),
        t if !TYPES.contains(&t) => errors.invalid(path.child("type"), t, one_of(&TYPES)),
        _ => {}
    }
    let format = text(column, "format");
    if !format.is_empty() && !FORMATS.contains(&format) {
        errors.invalid(path.child("format"), format, one_of(&FORMATS));
    }
    // The name that the field had first.
    let (json_path, at) = (text(column, "jsonPath"), path.child("JSONPath"));
    if json_path.is_empty() {
        errors.required(at, "");
    } else if !json_path.starts_with('.') {
        errors.invalid(at, json_path, "must be a simple json path starting with .");
    }
}
