//! What a definition's schema may say: its form, what goes together, and the rules in it.
//! Upstream: `ValidateCustomResourceDefinitionOpenAPISchema`.

use super::required::Required;
use super::{defaults, structural};
use crate::validation::access::*;
use meta::field::{Errors, Path};
use serde_json::{Value, json};

pub(super) const TYPES: &[&str] = &["array", "boolean", "integer", "number", "object", "string"];

/// Keys of a schema that say nothing of a whole object with a status of its own, and so may not be at its root.
const NOT_AT_THE_ROOT: &[&str] = &[
    "nullable",
    "default",
    "enum",
    "maxProperties",
    "minProperties",
    "allOf",
    "oneOf",
    "anyOf",
    "not",
    "additionalProperties",
    "patternProperties",
    "dependencies",
    "additionalItems",
    "definitions",
    "x-kubernetes-embedded-resource",
    "x-kubernetes-int-or-string",
    "x-kubernetes-list-map-keys",
    "x-kubernetes-list-type",
    "x-kubernetes-map-type",
];
const AT_THE_ROOT: &str = "only [Description Type Format Title Maximum ExclusiveMaximum Minimum ExclusiveMinimum MaxLength MinLength Pattern MaxItems MinItems UniqueItems MultipleOf Required Items Properties ExternalDocs Example XPreserveUnknownFields XValidations] fields are allowed at the root of the schema if the status subresource is enabled";

/// All of one schema. `has_status`: objects have a status subresource. `lenient_cost`: single rules may cost any amount.
pub(super) fn validate(
    schema: &Value,
    path: &Path,
    has_status: bool,
    lenient_cost: bool,
    required: &Required,
    errors: &mut Errors,
) {
    let before = errors.0.len();
    if has_status {
        status_root(schema, path, errors);
    }
    if flag(schema, "nullable") {
        errors.forbidden(path.child("nullable"), "nullable cannot be true at the root");
    }
    let misfit = structural::misfit(schema).filter(|_| required.structural);
    let mut has_rules = false;
    if misfit.is_none() && required.structural {
        let found = structural::faults(schema, path);
        has_rules = found.is_empty();
        errors.0.extend(found.0);
        if has_rules {
            let before = errors.0.len();
            defaults::validate(schema, path, required.pruned_defaults, errors);
            has_rules = errors.0.len() == before;
        }
    }
    let mut walk = Walk { required, errors: Errors::default(), faulty: Vec::new() };
    walk.node(schema, path, true, &Place::default());
    let Walk { errors: found, faulty, .. } = walk;
    errors.0.extend(found.0);
    if has_rules {
        let is_sound = |at: &Path| !faulty.iter().any(|f| is_at_or_below(f.as_str(), at.as_str()));
        cel::rules::check(schema, path, &is_sound, lenient_cost, errors);
    }
    if let Some(why) = misfit.filter(|_| errors.0.len() == before) {
        errors.invalid(path.clone(), "", why);
    }
}

fn is_at_or_below(path: &str, above: &str) -> bool {
    path.strip_prefix(above).is_some_and(|rest| rest.is_empty() || rest.starts_with(['.', '[']))
}

/// Status is judged by `properties.status` alone, so nothing at the root may be about it.
fn status_root(schema: &Value, path: &Path, errors: &mut Errors) {
    let given = |key: &&&str| !is_zero(field(schema, key));
    let kind = text(schema, "type");
    if ["id", "$schema", "$ref"].iter().find(given).is_some() {
        errors.invalid(path.clone(), schema.clone(), AT_THE_ROOT);
    } else if !kind.is_empty() && kind != "object" {
        let text =
            "only \"object\" is allowed as the type at the root of the schema if the status subresource is enabled";
        errors.invalid(path.child("type"), kind, text);
    } else if NOT_AT_THE_ROOT.iter().find(given).is_some() {
        errors.invalid(path.clone(), schema.clone(), AT_THE_ROOT);
    }
}

/// What is around a node.
#[derive(Clone, Default)]
struct Place {
    /// Why there may be no defaults.
    no_defaults: Option<String>,
    inside_metadata: bool,
}

struct Walk<'r> {
    required: &'r Required,
    errors: Errors,
    /// Nodes with faults.
    faulty: Vec<Path>,
}

impl Walk<'_> {
    fn node(&mut self, s: &Value, path: &Path, root: bool, place: &Place) {
        let before = self.errors.0.len();
        self.form(s, path, place);
        if self.errors.0.len() > before {
            self.faulty.push(path.clone());
        }
        self.below(s, path, root, place);
        let before = self.errors.0.len();
        self.extensions(s, path);
        cel::rules::check_form(s, path, &mut self.errors);
        if self.errors.0.len() > before {
            self.faulty.push(path.clone());
        }
    }

    /// What there may be at all.
    fn form(&mut self, s: &Value, path: &Path, place: &Place) {
        let errors = &mut self.errors;
        let kind = text(s, "type");
        if self.required.types && !kind.is_empty() && !TYPES.contains(&kind) {
            errors.not_supported(path.child("type"), kind, TYPES);
        }
        if let Some(why) = place.no_defaults.as_ref().filter(|_| has(s, "default")) {
            errors.forbidden(path.child("default"), format!("must not be set {why}"));
        }
        for key in ["id", "additionalItems", "patternProperties", "definitions", "dependencies", "$ref"] {
            let v = field(s, key);
            let empty = match key {
                "id" => v == "",
                "patternProperties" | "definitions" => v.as_object().is_some_and(|o| o.is_empty()),
                _ => false,
            };
            if !v.is_null() && !empty {
                errors.forbidden(path.child(key), format!("{key} is not supported"));
            }
        }
        if kind == "null" {
            errors.forbidden(path.child("type"), "type cannot be set to null, use nullable as an alternative");
        }
        if field(s, "items").as_array().is_some_and(|i| !i.is_empty()) {
            errors.forbidden(path.child("items"), "items must be a schema object and not an array");
        }
        if place.inside_metadata && flag(s, "x-kubernetes-embedded-resource") {
            let text = "must not be used inside of resource meta";
            errors.forbidden(path.child("x-kubernetes-embedded-resource"), text);
        }
        if flag(s, "uniqueItems") {
            let text = "uniqueItems cannot be set to true since the runtime complexity becomes quadratic";
            errors.forbidden(path.child("uniqueItems"), text);
        }
        let additional = field(s, "additionalProperties");
        if !additional.is_null() && additional != &json!(true) && entries(s, "properties").next().is_some() {
            let text = "additionalProperties and properties are mutual exclusive";
            errors.forbidden(path.child("additionalProperties"), text);
        }
    }

    fn below(&mut self, s: &Value, path: &Path, root: bool, place: &Place) {
        let additional = field(s, "additionalProperties");
        if additional.is_object() {
            let mut place = place.clone();
            if place.inside_metadata {
                place.no_defaults = Some("inside additionalProperties applying to object metadata".into());
            }
            self.node(additional, &path.child("additionalProperties"), false, &place);
        }
        let resource = root || flag(s, "x-kubernetes-embedded-resource");
        for (name, p) in entries(s, "properties") {
            let mut place = place.clone();
            if resource && crate::custom::prune::META_FIELDS.contains(&name) {
                place.inside_metadata = true;
                if root {
                    place.no_defaults = Some(format!("in top-level {name}"));
                }
            }
            self.node(p, &path.child("properties").key(name), false, &place);
        }
        if field(s, "not").is_object() {
            self.node(field(s, "not"), &path.child("not"), false, place);
        }
        for key in ["allOf", "oneOf", "anyOf", "items"] {
            for (i, sub) in list(s, key).iter().enumerate() {
                self.node(sub, &path.child(key).index(i), false, place);
            }
        }
        for key in ["definitions", "dependencies"] {
            for (name, sub) in entries(s, key).filter(|(_, v)| v.is_object()) {
                self.node(sub, &path.child(key).key(name), false, place);
            }
        }
        if field(s, "items").is_object() {
            self.node(field(s, "items"), &path.child("items"), false, place);
        }
    }

    /// `x-kubernetes-…`
    fn extensions(&mut self, s: &Value, path: &Path) {
        let errors = &mut self.errors;
        let (kind, items) = (text(s, "type"), field(s, "items"));
        if s.get("x-kubernetes-preserve-unknown-fields") == Some(&Value::Bool(false)) {
            errors.invalid(path.child("x-kubernetes-preserve-unknown-fields"), false, "must be true or undefined");
        }
        let type_must_be = |wanted: &str, because: &str, errors: &mut Errors| {
            let text = format!("must be {wanted} if {because} is specified");
            match kind {
                "" => errors.required(path.child("type"), text),
                _ => errors.invalid(path.child("type"), kind, text),
            }
        };
        if let Some(map_type) = field(s, "x-kubernetes-map-type").as_str() {
            if kind != "object" {
                type_must_be("object", "x-kubernetes-map-type", errors);
            }
            if !matches!(map_type, "atomic" | "granular") {
                errors.not_supported(path.child("x-kubernetes-map-type"), map_type, &["atomic", "granular"]);
            }
        }
        let list_type = field(s, "x-kubernetes-list-type").as_str();
        if list_type.is_some() && kind != "array" {
            type_must_be("array", "x-kubernetes-list-type", errors);
        } else if self.required.atomic_sets
            && list_type == Some("set")
            && let Some((key, shown)) = granular_item(items)
        {
            let text = "must be atomic as item of a list with x-kubernetes-list-type=set";
            errors.invalid(path.child("items").child(key), shown, text);
        }
        if let Some(t) = list_type.filter(|t| !matches!(*t, "atomic" | "set" | "map")) {
            errors.not_supported(path.child("x-kubernetes-list-type"), t, &["atomic", "set", "map"]);
        }
        let keys = texts(s, "x-kubernetes-list-map-keys");
        if !keys.is_empty() && list_type != Some("map") {
            let text = "must be map if x-kubernetes-list-map-keys is non-empty";
            match list_type {
                None => errors.required(path.child("x-kubernetes-list-type"), text),
                Some(t) => errors.invalid(path.child("x-kubernetes-list-type"), t, text),
            }
        }
        if list_type == Some("map") {
            map_list(&keys, items, path, errors);
        }
        if self.required.map_lists {
            keyed_items(s, path, errors);
        }
    }
}

/// Where the items of a set can be changed in part, the extension that says so, and its value as upstream shows it.
pub(super) fn granular_item(items: &Value) -> Option<(&'static str, Value)> {
    let shown = field(items, "x-kubernetes-list-type").clone();
    match text(items, "type") {
        "array" if !matches!(text(items, "x-kubernetes-list-type"), "" | "atomic") => {
            Some(("x-kubernetes-list-type", shown))
        }
        "object" if text(items, "x-kubernetes-map-type") != "atomic" => Some(("x-kubernetes-map-type", shown)),
        _ => None,
    }
}

/// A list whose items are told apart by keys.
fn map_list(keys: &[&str], items: &Value, path: &Path, errors: &mut Errors) {
    let keys_path = path.child("x-kubernetes-list-map-keys");
    if keys.is_empty() {
        errors.required(keys_path.clone(), "must not be empty if x-kubernetes-list-type is map");
    }
    match items {
        Value::Null => {
            errors.required(path.child("items"), "must have a schema if x-kubernetes-list-type is map");
        }
        Value::Object(_) if text(items, "type") == "object" => {
            for (i, key) in keys.iter().enumerate() {
                let property = at(items, &["properties", key]);
                if !property.is_object() {
                    errors.invalid(keys_path.clone(), json!(keys), "entries must all be names of item properties");
                } else if matches!(text(property, "type"), "array" | "object") {
                    errors.invalid(
                        path.child("items.properties").key(key).child("type"),
                        text(items, "type"),
                        "must be a scalar type if parent array's x-kubernetes-list-type is map",
                    );
                }
                if keys[..i].contains(key) {
                    errors.invalid(keys_path.clone(), json!(keys), "must not contain duplicate entries");
                }
            }
        }
        Value::Object(_) => errors.invalid(
            path.child("items.type"),
            text(items, "type"),
            "must be object if parent array's x-kubernetes-list-type is map",
        ),
        other => {
            let text = "must only have a single schema if x-kubernetes-list-type is map";
            errors.invalid(path.child("items"), other.clone(), text);
        }
    }
}

/// Items that are told apart, and their keys, must be there.
pub(super) fn keyed_items(s: &Value, path: &Path, errors: &mut Errors) {
    let (items, list_type) = (field(s, "items"), text(s, "x-kubernetes-list-type"));
    if !items.is_object() || !matches!(list_type, "set" | "map") {
        return;
    }
    if flag(items, "nullable") {
        let text = format!("cannot be nullable when x-kubernetes-list-type is {list_type}");
        errors.forbidden(path.child("items.nullable"), text);
    }
    if list_type != "map" {
        return;
    }
    for key in texts(s, "x-kubernetes-list-map-keys") {
        let property = at(items, &["properties", key]);
        if !property.is_object() {
            continue;
        }
        let at = path.child("items.properties").key(key);
        if !texts(items, "required").contains(&key) && !has(property, "default") {
            errors.required(
                at.child("default"),
                "this property is in x-kubernetes-list-map-keys, so it must have a default or be a required property",
            );
        }
        if flag(property, "nullable") {
            errors.forbidden(
                at.child("nullable"),
                "this property is in x-kubernetes-list-map-keys, so it cannot be nullable",
            );
        }
    }
}
