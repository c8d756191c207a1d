//! What makes a schema structural (KEP-1693): every value has one node that says what it is, and `allOf` and its like
//! only restrict what is said already. Upstream: `ValidateStructural`.

use crate::custom::schema::pattern;
use crate::validation::access::*;
use meta::field::{Errors, Path};
use serde_json::Value;

/// Where in a schema a node is, for the messages.
#[derive(Clone, Copy, PartialEq)]
enum Level {
    Root,
    Property,
    Item,
}

/// What upstream's structural form has no place for, so that nothing else can be said of the schema. All of it is a
/// fault on its own, too.
pub(super) fn misfit(schema: &Value) -> Option<String> {
    for (key, shown) in [
        ("id", "id"),
        ("$schema", "schema"),
        ("$ref", "$ref"),
        ("patternProperties", "patternProperties"),
        ("dependencies", "dependencies"),
        ("additionalItems", "additionalItems"),
        ("definitions", "definitions"),
    ] {
        let v = field(schema, key);
        if !v.is_null() && v != "" && !v.as_object().is_some_and(|o| o.is_empty() && key != "additionalItems") {
            return Some(format!("OpenAPIV3Schema '{shown}' is not supported"));
        }
    }
    let own = if schema.get("x-kubernetes-preserve-unknown-fields") == Some(&Value::Bool(false)) {
        Some("internal error: 'x-kubernetes-preserve-unknown-fields' must be true or undefined".to_string())
    } else if field(schema, "items").as_array().is_some_and(|i| !i.is_empty()) {
        Some("OpenAPIV3Schema 'items' must be a schema, but is an array".to_string())
    } else {
        None
    };
    own.or_else(|| parts(schema).find_map(misfit))
}

/// All schemas one step down.
pub(super) fn parts(schema: &Value) -> impl Iterator<Item = &Value> {
    let maps = ["properties", "patternProperties", "definitions", "dependencies"];
    let lists = ["items", "allOf", "anyOf", "oneOf"];
    let single = ["items", "not", "additionalProperties", "additionalItems"];
    maps.into_iter()
        .flat_map(|k| entries(schema, k).map(|(_, v)| v))
        .chain(lists.into_iter().flat_map(|k| list(schema, k)))
        .chain(single.into_iter().map(|k| field(schema, k)))
        .filter(|v| v.is_object())
}

/// The faults of a schema that has no [`misfit`], in the order of their texts.
pub(super) fn faults(schema: &Value, path: &Path) -> Errors {
    let mut errors = Errors::default();
    node(schema, Level::Root, path, &mut errors);
    completeness(schema, Some(schema), path, path, &mut errors);
    errors.0.sort_by_cached_key(ToString::to_string);
    errors
}

fn node(s: &Value, level: Level, path: &Path, errors: &mut Errors) {
    let kind = text(s, "type");
    let (items, additional) = (field(s, "items"), field(s, "additionalProperties"));
    let int_or_string = flag(s, "x-kubernetes-int-or-string");
    let preserve = flag(s, "x-kubernetes-preserve-unknown-fields");
    let embedded = flag(s, "x-kubernetes-embedded-resource");
    if kind == "array" && !items.is_object() {
        errors.required(path.child("items"), "must be specified");
    }
    if items.is_object() {
        node(items, Level::Item, &path.child("items"), errors);
    }
    for (name, p) in entries(s, "properties") {
        node(p, Level::Property, &path.child("properties").key(name), errors);
    }
    if !additional.is_null() && level == Level::Root {
        errors.forbidden(path.child("additionalProperties"), "must not be used at the root");
    }
    if additional.is_object() {
        node(additional, Level::Property, &path.child("additionalProperties"), errors);
    }
    for (key, set) in [("x-kubernetes-preserve-unknown-fields", preserve), ("x-kubernetes-embedded-resource", embedded)]
    {
        if int_or_string && set {
            errors.invalid(path.child(key), true, "must be false if x-kubernetes-int-or-string is true");
        }
    }
    // The two forms in which both halves of an int-or-string may be named.
    let first_all_of = list(s, "allOf").first().is_some_and(is_int_or_string);
    values(s, is_int_or_string(s), first_all_of, path, errors);

    if embedded && kind != "object" {
        let text = "must be object if x-kubernetes-embedded-resource is true";
        match kind {
            "" => errors.required(path.child("type"), text),
            _ => errors.invalid(path.child("type"), kind, text),
        }
    } else if kind.is_empty() && !int_or_string && !preserve {
        let text = match level {
            Level::Root => "must not be empty at the root",
            Level::Property => "must not be empty for specified object fields",
            Level::Item => "must not be empty for specified array items",
        };
        errors.required(path.child("type"), text);
    }
    if embedded && !additional.is_null() {
        let text = "must not be used if x-kubernetes-embedded-resource is set";
        errors.forbidden(path.child("additionalProperties"), text);
    }
    if level == Level::Root && !kind.is_empty() && kind != "object" {
        errors.invalid(path.child("type"), kind, "must be object at the root");
    }
    metadata(s, level == Level::Root, level == Level::Root || embedded, path, errors);
    if embedded && !preserve && entries(s, "properties").next().is_none() {
        errors.required(
            path.child("properties"),
            "must not be empty if x-kubernetes-embedded-resource is true without x-kubernetes-preserve-unknown-fields",
        );
    }
}

fn is_int_or_string(s: &Value) -> bool {
    let halves: Vec<&Value> = list(s, "anyOf").iter().collect();
    let is = |v: &Value, kind: &str| v.as_object().is_some_and(|o| o.len() == 1) && text(v, "type") == kind;
    matches!(halves.as_slice(), [a, b] if is(a, "integer") && is(b, "string"))
}

/// What a schema may say of fields that every object has: of `metadata` at the root the name alone. `resource`: the
/// node describes whole objects.
fn metadata(s: &Value, root: bool, resource: bool, path: &Path, errors: &mut Errors) {
    let properties = field(s, "properties");
    let at = path.child("properties");
    for key in ["kind", "apiVersion"] {
        if let Some(p) = properties.get(key).filter(|p| resource && text(p, "type") != "string") {
            errors.invalid(at.key(key).child("type"), text(p, "type"), "must be string");
        }
    }
    let Some(m) = properties.get("metadata") else { return };
    if resource && text(m, "type") != "object" {
        errors.invalid(at.key("metadata").child("type"), text(m, "type"), "must be object");
    }
    let names_alone = entries(m, "properties").all(|(k, _)| matches!(k, "name" | "generateName"));
    let more = m.as_object().into_iter().flatten().any(|(k, v)| {
        !matches!(k.as_str(), "type" | "properties" | "default") && !v.is_null() && v != "" && v != &Value::Bool(false)
    });
    if root && (!names_alone || more) {
        let text = "must not specify anything other than name and generateName, but metadata is implicitly specified";
        errors.forbidden(at.key("metadata"), text);
    }
}

fn values(s: &Value, skip_any_of: bool, skip_first_all_of: bool, path: &Path, errors: &mut Errors) {
    for key in ["anyOf", "allOf", "oneOf"] {
        if key == "anyOf" && skip_any_of {
            continue;
        }
        for (i, v) in list(s, key).iter().enumerate() {
            restriction(v, key == "allOf" && i == 0 && skip_first_all_of, &path.child(key).index(i), errors);
        }
    }
    if field(s, "not").is_object() {
        restriction(field(s, "not"), false, &path.child("not"), errors);
    }
    let given = text(s, "pattern");
    if !given.is_empty()
        && let Err(why) = pattern(given)
    {
        let text = format!("must be a valid regular expression, but isn't: error parsing regexp: {why}");
        errors.invalid(path.child("pattern"), given, text);
    }
}

/// A node below `anyOf` and its like.
fn restriction(v: &Value, skip_any_of: bool, path: &Path, errors: &mut Errors) {
    values(v, skip_any_of, false, path, errors);
    if field(v, "items").is_object() {
        restriction(field(v, "items"), false, &path.child("items"), errors);
    }
    for (name, p) in entries(v, "properties") {
        restriction(p, false, &path.child("properties").key(name), errors);
    }
    for (key, state) in [
        ("type", "empty"),
        ("additionalProperties", "undefined"),
        ("default", "undefined"),
        ("title", "empty"),
        ("description", "empty"),
        ("nullable", "false"),
        ("x-kubernetes-preserve-unknown-fields", "false"),
        ("x-kubernetes-embedded-resource", "false"),
        ("x-kubernetes-int-or-string", "false"),
        ("x-kubernetes-list-map-keys", "empty"),
        ("x-kubernetes-list-type", "undefined"),
        ("x-kubernetes-map-type", "undefined"),
        ("x-kubernetes-validations", "empty"),
    ] {
        let given = match field(v, key) {
            Value::Null | Value::Bool(false) => false,
            Value::String(t) => state == "undefined" || !t.is_empty(),
            Value::Array(a) => state == "undefined" || !a.is_empty(),
            _ => true,
        };
        if given || key == "default" && field(v, key) == &Value::Bool(false) {
            errors.forbidden(path.child(key), format!("must be {state} to be structural"));
        }
    }
    // It would restrict what is the server's.
    if at(v, &["properties", "metadata"]).is_object() {
        errors.forbidden(path.child("properties").key("metadata"), "must not be specified in a nested context");
    }
}

/// What `allOf` and its like speak of must be there outside of them. `v`: what restricts; `s`: the node that it is
/// about, at `s_path`.
fn completeness(v: &Value, s: Option<&Value>, s_path: &Path, v_path: &Path, errors: &mut Errors) {
    let mut one = |v: &Value, path: Path| restricted(v, s, s_path, &path, errors);
    if field(v, "not").is_object() {
        one(field(v, "not"), v_path.child("not"));
    }
    for key in ["allOf", "anyOf", "oneOf"] {
        for (i, sub) in list(v, key).iter().enumerate() {
            one(sub, v_path.child(key).index(i));
        }
    }
}

fn restricted(v: &Value, s: Option<&Value>, s_path: &Path, v_path: &Path, errors: &mut Errors) {
    let Some(s) = s else {
        return errors.required(s_path.clone(), format!("because it is defined in {v_path}"));
    };
    completeness(v, Some(s), s_path, v_path, errors);
    let object = |v: &'_ Value, key: &str| v.get(key).is_some_and(Value::is_object);
    if object(v, "items") {
        let items = s.get("items").filter(|i| i.is_object());
        restricted(field(v, "items"), items, &s_path.child("items"), &v_path.child("items"), errors);
    }
    for (name, p) in entries(v, "properties") {
        let (s_path, v_path) = (s_path.child("properties").key(name), v_path.child("properties").key(name));
        restricted(p, field(s, "properties").get(name), &s_path, &v_path, errors);
    }
}
