//! What a version has beside its schema: selectable fields, scale, printed columns.

use super::SCHEMA;
use crate::validation::access::*;
use meta::field::{Errors, Path};
use serde_json::Value;
use std::collections::HashSet;

/// Upstream's bound on `selectableFields`.
pub(super) const SELECTABLE_FIELDS_MAX: usize = 8;

/// `selectableFields`: simple paths to scalar fields of the schema. `any_number`: there were as many before.
pub(super) fn selectable_fields(version: &Value, any_number: bool, path: &Path, errors: &mut Errors) {
    let path = path.child("selectableFields");
    let mut seen = HashSet::new();
    for (i, f) in list(version, "selectableFields").iter().enumerate() {
        let (path, json_path) = (path.index(i).child("jsonPath"), text(f, "jsonPath"));
        if json_path.is_empty() {
            errors.required(path, "");
            continue;
        }
        let (found, schema) = match cel::rules::field_path(json_path, at(version, SCHEMA), false) {
            Ok(found) => found,
            Err(why) => {
                errors.invalid(path, json_path, format!("is an invalid path: {why}"));
                continue;
            }
        };
        if found == "metadata" || found.starts_with("metadata.") {
            errors.invalid(path.clone(), json_path, "must not point to fields in metadata");
        }
        if !matches!(text(schema, "type"), "string" | "boolean" | "integer") {
            let text = "must point to a field of type string, boolean or integer. Enum string fields and strings with formats are allowed.";
            errors.invalid(path.clone(), json_path, text);
        }
        if !seen.insert(found) {
            errors.duplicate(path, json_path);
        }
    }
    if seen.len() > SELECTABLE_FIELDS_MAX && !any_number {
        errors.too_many(path, seen.len(), SELECTABLE_FIELDS_MAX);
    }
}

/// `subresources.scale`
pub(super) fn scale(scale: &Value, path: &Path, errors: &mut Errors) {
    if !scale.is_object() {
        return;
    }
    let rows: [(&str, &[&str], &str); 3] = [
        ("specReplicasPath", &[".spec."], "should be a json path under .spec"),
        ("statusReplicasPath", &[".status."], "should be a json path under .status"),
        ("labelSelectorPath", &[".spec.", ".status."], "should be a json path under either .spec or .status"),
    ];
    for (key, under, fault) in rows {
        let (value, at) = (text(scale, key), path.child(key));
        if value.is_empty() {
            if key != "labelSelectorPath" {
                errors.required(at, "");
            }
        } else if !value.starts_with('.') {
            errors.invalid(at, value, "must be a simple json path starting with .");
        } else if !under.iter().any(|u| value.starts_with(u)) {
            errors.invalid(at, value, fault);
        }
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
