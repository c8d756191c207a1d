//! What makes a schema structural (KEP-1693).

use super::consistency;
use crate::validation::access::*;
use crate::validation::values;
use meta::field::{Errors, Path};
use serde_json::{Value, json};

/// Schemas nest; a JSON body can't nest deeper than this anyway.
const DEPTH_MAX: usize = 128;
const TYPES: &[&str] = &["array", "boolean", "integer", "number", "object", "string"];

/// Where in a schema a node is, for the messages.
#[derive(Clone, Copy, PartialEq)]
enum Level {
    Root,
    Property,
    Item,
}

/// What keeps the schemas of a CRD from being structural.
pub fn structural_errors(crd: &Value, errors: &mut Errors) {
    for (i, v) in list_at(crd, &["spec", "versions"]).iter().enumerate() {
        let path = Path::new("spec.versions").index(i).child("schema.openAPIV3Schema");
        root(at(v, &["schema", "openAPIV3Schema"]), &path, errors);
    }
}

/// A whole schema.
pub(super) fn root(schema: &Value, path: &Path, errors: &mut Errors) {
    structural(schema, Some(Level::Root), path, 0, errors);
}

/// The rules of structural schemas (KEP-1693): every node says its type, and nothing is said twice.
/// `level` is `None` below `anyOf` and its like, where nodes may only restrict.
fn structural(schema: &Value, level: Option<Level>, path: &Path, depth: usize, errors: &mut Errors) {
    if depth > DEPTH_MAX {
        errors.invalid(path.clone(), Value::Null, "must not nest deeper");
        return;
    }
    let kind = text(schema, "type");
    let int_or_string = flag(schema, "x-kubernetes-int-or-string");
    let preserve = flag(schema, "x-kubernetes-preserve-unknown-fields");
    if !kind.is_empty() && !TYPES.contains(&kind) {
        errors.not_supported(path.child("type"), kind, TYPES);
    }
    match level {
        Some(level) if kind.is_empty() && !int_or_string && !preserve => errors.required(
            path.child("type"),
            match level {
                Level::Root => "must not be empty at the root",
                Level::Property => "must not be empty for specified object fields",
                Level::Item => "must not be empty for specified array items",
            },
        ),
        Some(_) if int_or_string && !kind.is_empty() => {
            errors.invalid(path.child("type"), kind, "must be empty if x-kubernetes-int-or-string is true");
        }
        None if !kind.is_empty() && !int_or_string => {
            errors.forbidden(path.child("type"), "must be empty to be structural")
        }
        _ => {}
    }
    for (key, allowed) in
        [("$ref", false), ("definitions", false), ("dependencies", false), ("patternProperties", false)]
    {
        if has(schema, key) && !allowed {
            errors.forbidden(path.child(key), format!("{key} is not supported"));
        }
    }
    if flag(schema, "uniqueItems") {
        errors.forbidden(
            path.child("uniqueItems"),
            "uniqueItems cannot be set to true since the runtime complexity becomes quadratic",
        );
    }
    match level {
        Some(level) => consistency::node(schema, level == Level::Root, path, errors),
        None => consistency::restriction(schema, int_or_string, path, errors),
    }
    let additional = field(schema, "additionalProperties");
    if additional == &json!(false) {
        errors.forbidden(path.child("additionalProperties"), "additionalProperties cannot be set to false");
    }
    if !additional.is_null() && entries(schema, "properties").next().is_some() {
        errors
            .forbidden(path.child("additionalProperties"), "additionalProperties and properties are mutual exclusive");
    }
    let items = field(schema, "items");
    if items.is_array() {
        errors.forbidden(path.child("items"), "items must be a schema object and not an array");
    }
    if kind == "array" && items.is_null() && level.is_some() {
        errors.required(path.child("items"), "must be specified");
    }
    if preserve && level.is_some() && !matches!(kind, "" | "object") {
        errors.invalid(path.child("type"), kind, "must be object if x-kubernetes-preserve-unknown-fields is true");
    }
    if flag(schema, "x-kubernetes-embedded-resource") {
        if kind != "object" {
            errors.invalid(path.child("type"), kind, "must be object if x-kubernetes-embedded-resource is true");
        }
        if entries(schema, "properties").next().is_none() && !preserve {
            errors.required(
                path.child("properties"),
                "must not be empty if x-kubernetes-embedded-resource is true without x-kubernetes-preserve-unknown-fields",
            );
        }
    }
    let pattern = text(schema, "pattern");
    if !pattern.is_empty()
        && let Err(e) = regex::Regex::new(pattern)
    {
        let why = e.to_string();
        let why = why.lines().last().unwrap_or_default().trim_start_matches("error: ");
        errors.invalid(path.child("pattern"), pattern, format!("must be a valid regular expression, but isn't: {why}"));
    }
    list_type(schema, kind, path, errors);

    for (name, child) in entries(schema, "properties") {
        let below = level.map(|_| Level::Property);
        structural(child, below, &path.child("properties").key(name), depth + 1, errors);
    }
    if additional.is_object() {
        structural(additional, level.map(|_| Level::Property), &path.child("additionalProperties"), depth + 1, errors);
    }
    if items.is_object() {
        structural(items, level.map(|_| Level::Item), &path.child("items"), depth + 1, errors);
    }
    for key in ["allOf", "anyOf", "oneOf"] {
        for (i, child) in list(schema, key).iter().enumerate() {
            let path = path.child(key).index(i);
            // The one place where a type is allowed there: both halves of an int-or-string.
            let half = int_or_string && matches!(text(child, "type"), "integer" | "string");
            if !half {
                structural(child, None, &path, depth + 1, errors);
            }
        }
    }
    if field(schema, "not").is_object() {
        structural(field(schema, "not"), None, &path.child("not"), depth + 1, errors);
    }
}

/// `x-kubernetes-list-type` and `x-kubernetes-map-type`, which server-side apply goes by.
fn list_type(schema: &Value, kind: &str, path: &Path, errors: &mut Errors) {
    let list_type = text(schema, "x-kubernetes-list-type");
    let keys = texts(schema, "x-kubernetes-list-map-keys");
    if !list_type.is_empty() {
        if kind != "array" {
            errors.invalid(path.child("type"), kind, "must be array if x-kubernetes-list-type is specified");
        }
        values::one_of(list_type, &["atomic", "map", "set"], path.child("x-kubernetes-list-type"), errors);
    }
    if list_type == "map" {
        if keys.is_empty() {
            errors.required(
                path.child("x-kubernetes-list-map-keys"),
                "must not be empty if x-kubernetes-list-type is map",
            );
        }
        let item = field(schema, "items");
        for (i, key) in keys.iter().enumerate() {
            let property = at(item, &["properties", key]);
            let at = path.child("x-kubernetes-list-map-keys").index(i);
            if !property.is_object() {
                errors.invalid(at, *key, "entries must all be names of item properties");
            } else if !texts(item, "required").contains(key) && field(property, "default").is_null() {
                errors.required(
                    path.child("items.properties").key(key).child("default"),
                    "this property is in x-kubernetes-list-map-keys, so it must have a default or be a required property",
                );
            }
        }
    } else if !keys.is_empty() {
        errors
            .forbidden(path.child("x-kubernetes-list-map-keys"), "must be empty if x-kubernetes-list-type is not map");
    }
    let map_type = text(schema, "x-kubernetes-map-type");
    if !map_type.is_empty() {
        if kind != "object" {
            errors.invalid(path.child("type"), kind, "must be object if x-kubernetes-map-type is specified");
        }
        values::one_of(map_type, &["atomic", "granular"], path.child("x-kubernetes-map-type"), errors);
    }
}
