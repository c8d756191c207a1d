//! Pruning: what the schema doesn't know is dropped, and told.

use super::schema::{Additional, Schema};
use serde_json::Value;

/// Members of every object, and of every embedded one, that have rules of their own.
pub const META_FIELDS: [&str; 3] = ["apiVersion", "kind", "metadata"];

/// Drops unknown fields from a whole object. Paths of the dropped ones are added to `unknown`, as
/// `spec.list[0].field`.
pub fn prune(object: &mut Value, schema: &Schema, unknown: &mut Vec<String>) {
    walk(object, Some(schema), true, false, &mut String::new(), unknown);
}

/// As [`prune`], of a value somewhere inside an object (a default).
pub fn prune_value(value: &mut Value, schema: &Schema, resource_root: bool, unknown: &mut Vec<String>) {
    walk(value, Some(schema), resource_root, false, &mut String::new(), unknown);
}

/// `keep`: what is around these items keeps what it doesn't know.
fn walk(
    value: &mut Value,
    schema: Option<&Schema>,
    resource: bool,
    keep: bool,
    path: &mut String,
    unknown: &mut Vec<String>,
) {
    let preserve = keep || schema.is_some_and(|s| s.preserve_unknown);
    let resource = resource || schema.is_some_and(|s| s.embedded_resource);
    match value {
        Value::Object(map) => {
            let mut drop = Vec::new();
            for (key, child) in map.iter_mut() {
                if resource && META_FIELDS.contains(&key.as_str()) {
                    continue;
                }
                let known = match schema {
                    None => None,
                    Some(s) => match (s.properties.get(key), &s.additional) {
                        (Some(p), _) => Some(Some(p)),
                        (None, Additional::Schema(a)) => Some(Some(a.as_ref())),
                        (None, Additional::Allowed(_)) => Some(None),
                        _ => None,
                    },
                };
                match known {
                    // `additionalProperties: true` knows the member, but nothing inside.
                    Some(below) => {
                        let before = path.len();
                        push_name(path, key);
                        walk(child, below, false, false, path, unknown);
                        path.truncate(before);
                    }
                    None if preserve => {}
                    None => drop.push(key.clone()),
                }
            }
            for key in drop {
                map.remove(&key);
                let before = path.len();
                push_name(path, &key);
                unknown.push(path.clone());
                path.truncate(before);
            }
        }
        Value::Array(items) => {
            let below = schema.and_then(|s| s.items.as_deref());
            if below.is_none() && preserve {
                return;
            }
            for (i, item) in items.iter_mut().enumerate() {
                let before = path.len();
                path.push_str(&format!("[{i}]"));
                walk(item, below, false, preserve, path, unknown);
                path.truncate(before);
            }
        }
        _ => {}
    }
}

fn push_name(path: &mut String, name: &str) {
    if !path.is_empty() {
        path.push('.');
    }
    path.push_str(name);
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn check(schema: Value, object: Value, expected: Value, dropped: &[&str]) {
        let schema = Schema::compile(&schema);
        let (mut got, mut unknown) = (object, Vec::new());
        prune(&mut got, &schema, &mut unknown);
        assert_eq!((got.clone(), unknown.iter().map(String::as_str).collect::<Vec<_>>()), (expected, dropped.to_vec()));
        let mut again = Vec::new();
        prune(&mut got, &schema, &mut again);
        assert_eq!(again, Vec::<String>::new(), "pruning twice drops nothing more");
    }

    #[test]
    fn corners() {
        for (schema, object, expected, dropped) in [
            // Without a schema for its values a map keeps scalars alone.
            (
                json!({"type":"object","additionalProperties":true}),
                json!({"a":1,"c":{"a":1,"c":{"a":1}},"l":[{"x":1},2]}),
                json!({"a":1,"c":{},"l":[{},2]}),
                &["m.c.a", "m.c.c", "m.l[0].x"][..],
            ),
            // What a list keeps, its items keep, but not what is below them.
            (
                json!({"type":"array","x-kubernetes-preserve-unknown-fields":true,"items":{"type":"object","properties":{
                    "a":{"type":"object","properties":{"b":{"type":"string"}}}}}}),
                json!([{"x":1,"a":{"b":"","y":1}}]),
                json!([{"x":1,"a":{"b":""}}]),
                &["m[0].a.y"],
            ),
            // What a map keeps, its values don't.
            (
                json!({"type":"object","x-kubernetes-preserve-unknown-fields":true,
                    "additionalProperties":{"type":"object","properties":{"a":{"type":"string"}}}}),
                json!({"k":{"a":"","x":1}}),
                json!({"k":{"a":""}}),
                &["m.k.x"],
            ),
            // apiVersion and kind are known in whole objects alone.
            (
                json!({"type":"object","properties":{}}),
                json!({"apiVersion":"v1","kind":"K","metadata":{}}),
                json!({}),
                &["m.apiVersion", "m.kind", "m.metadata"],
            ),
        ] {
            check(
                json!({"type":"object","properties":{"m":schema}}),
                json!({"m":object}),
                json!({"m":expected}),
                dropped,
            );
        }
    }

    #[test]
    fn what_the_schema_does_not_know_goes() {
        check(
            json!({"type":"object","properties":{
                "spec":{"type":"object","properties":{
                    "a":{"type":"string"},
                    "list":{"type":"array","items":{"type":"object","properties":{"x":{"type":"integer"}}}},
                    "map":{"type":"object","additionalProperties":{"type":"object","properties":{"y":{"type":"string"}}}},
                    "any":{"type":"object","x-kubernetes-preserve-unknown-fields":true,
                        "properties":{"typed":{"type":"object","properties":{"k":{"type":"string"}}}}},
                    "embedded":{"type":"object","x-kubernetes-embedded-resource":true,
                        "properties":{"spec":{"type":"object"}}}}}}}),
            json!({"apiVersion":"e/v1","kind":"K","metadata":{"name":"n"},"extra":1,
                "spec":{"a":"a","b":1,"list":[{"x":1,"z":2}],"map":{"m":{"y":"y","q":1}},
                    "any":{"free":{"deep":1},"typed":{"k":"v","gone":1}},
                    "embedded":{"apiVersion":"v1","kind":"Pod","metadata":{"anything":1},"spec":{"no":1},"status":{}}}}),
            json!({"apiVersion":"e/v1","kind":"K","metadata":{"name":"n"},
                "spec":{"a":"a","list":[{"x":1}],"map":{"m":{"y":"y"}},
                    "any":{"free":{"deep":1},"typed":{"k":"v"}},
                    "embedded":{"apiVersion":"v1","kind":"Pod","metadata":{"anything":1},"spec":{}}}}),
            &[
                "spec.any.typed.gone",
                "spec.embedded.spec.no",
                "spec.embedded.status",
                "spec.list[0].z",
                "spec.map.m.q",
                "spec.b",
                "extra",
            ],
        );
    }
}
