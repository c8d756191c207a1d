//! A custom resource's schema as it is published: to readers of v3 whole, to those of v2 without what that can't say.
//!
//! In: `openAPIV3Schema`. Out: a definition with `apiVersion`, `kind` and `metadata` at the root and in every embedded
//! object. Where anything goes, v2 says nothing of fields at all, because kubectl refuses all that isn't mentioned.

use super::definitions::Flavor;
use serde_json::{Map, Value, json};

/// The three fields that every object has, as schemas.
pub struct Native {
    pub api_version: Value,
    pub kind: Value,
    pub metadata: Value,
}

impl Native {
    fn add(&self, schema: &mut Map<String, Value>) {
        let properties = schema.entry("properties").or_insert_with(|| json!({}));
        let Some(properties) = properties.as_object_mut() else { return };
        properties.insert("apiVersion".into(), self.api_version.clone());
        properties.insert("kind".into(), self.kind.clone());
        properties.insert("metadata".into(), self.metadata.clone());
    }
}

const PRESERVE: &str = "x-kubernetes-preserve-unknown-fields";
const EMBEDDED: &str = "x-kubernetes-embedded-resource";
const INT_OR_STRING: &str = "x-kubernetes-int-or-string";

fn flag(schema: &Map<String, Value>, name: &str) -> bool {
    schema.get(name) == Some(&Value::Bool(true))
}

/// The definition of a kind. `schema` is `Null` where the version has none.
pub fn publish(schema: &Value, flavor: Flavor, native: &Native) -> Value {
    let bare = || json!({"type": "object"});
    let Value::Object(schema) = schema else { return bare() };
    if flavor == Flavor::V2 && flag(schema, PRESERVE) {
        return bare();
    }
    let mut out = node(schema, flavor, native);
    native.add(&mut out);
    Value::Object(out)
}

/// One node of the structural part, and all below it.
fn node(schema: &Map<String, Value>, flavor: Flavor, native: &Native) -> Map<String, Value> {
    let below = |v: &Value| match v {
        Value::Object(o) => Value::Object(node(o, flavor, native)),
        other => other.clone(),
    };
    let mut out = schema.clone();
    if flavor == Flavor::V2 {
        to_v2(&mut out);
    } else if flag(schema, INT_OR_STRING) {
        unfold(&mut out);
    }
    // Not a part of structural schemas, and of no meaning to those who read them.
    out.remove("example");
    if let Some(Value::Object(all)) = out.get_mut("properties") {
        all.values_mut().for_each(|v| *v = below(v));
    }
    for key in ["items", "additionalProperties"] {
        if let Some(v) = out.get_mut(key) {
            *v = below(v);
        }
    }
    // Fields that are mentioned would be the only ones that kubectl lets pass.
    if flag(&out, EMBEDDED) && !(flavor == Flavor::V2 && flag(&out, PRESERVE)) {
        native.add(&mut out);
        let required = out.entry("required").or_insert_with(|| json!([]));
        if let Some(required) = required.as_array_mut() {
            for field in ["kind", "apiVersion"] {
                if !required.iter().any(|r| r == field) {
                    required.push(field.into());
                }
            }
        }
    }
    out
}

/// Takes away what a v2 reader would take for a refusal: of null, of unknown fields, of the other of two types.
fn to_v2(schema: &mut Map<String, Value>) {
    for key in ["oneOf", "anyOf", "allOf", "not"] {
        schema.remove(key);
    }
    let preserve = flag(schema, PRESERVE);
    let nullable = schema.remove("nullable") == Some(Value::Bool(true));
    if nullable {
        schema.remove("type");
    }
    if nullable || preserve {
        schema.remove("items");
        schema.remove("properties");
    }
    let is = |s: &Map<String, Value>, name: &str| s.get("type").is_some_and(|t| t == name);
    // kubectl's reader wants to know the items of every list.
    if (is(schema, "array") && !schema.contains_key("items")) || (is(schema, "object") && preserve) {
        schema.remove("type");
    }
    // What may be null may as well be absent.
    let absent: Vec<String> = match schema.get("properties") {
        Some(Value::Object(all)) => all.iter().filter(|p| p.1["nullable"] == true).map(|p| p.0.clone()).collect(),
        _ => Vec::new(),
    };
    if let Some(Value::Array(required)) = schema.get_mut("required") {
        required.retain(|r| !absent.iter().any(|a| r == a.as_str()));
        if required.is_empty() || schema.get("additionalProperties").is_some_and(|a| a["nullable"] == true) {
            schema.remove("required");
        }
    }
}

/// Says in plain JSON schema what the extension means, unless the author did.
fn unfold(schema: &mut Map<String, Value>) {
    let both = json!([{"type": "integer"}, {"type": "string"}]);
    let said = |v: Option<&Value>| v == Some(&both);
    if said(schema.get("anyOf")) || said(schema.get("allOf").and_then(|all| all.get(0)?.get("anyOf"))) {
        return;
    }
    if !schema.contains_key("anyOf") {
        schema.insert("anyOf".into(), both);
        return;
    }
    let all = schema.entry("allOf").or_insert_with(|| json!([]));
    if let Some(all) = all.as_array_mut() {
        all.insert(0, json!({"anyOf": both}));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn both(schema: Value) -> (Value, Value) {
        let native = Native { api_version: json!("A"), kind: json!("K"), metadata: json!("M") };
        let rooted = json!({"type": "object", "properties": {"x": schema}});
        let x = |flavor| publish(&rooted, flavor, &native)["properties"]["x"].clone();
        (x(Flavor::V2), x(Flavor::V3))
    }

    #[test]
    fn the_root_has_what_every_object_has_unless_kubectl_would_refuse_the_rest() {
        let native = Native { api_version: json!("A"), kind: json!("K"), metadata: json!("M") };
        let open =
            json!({"type": "object", PRESERVE: true, "description": "d", "properties": {"a": {"type": "string"}}});
        assert_eq!(publish(&open, Flavor::V2, &native), json!({"type": "object"}));
        assert_eq!(
            publish(&open, Flavor::V3, &native),
            json!({"type": "object", PRESERVE: true, "description": "d",
                "properties": {"a": {"type": "string"}, "apiVersion": "A", "kind": "K", "metadata": "M"}})
        );
        for flavor in [Flavor::V2, Flavor::V3] {
            assert_eq!(publish(&Value::Null, flavor, &native), json!({"type": "object"}));
            let plain = publish(&json!({"type": "object"}), flavor, &native);
            assert_eq!(plain["properties"]["metadata"], "M");
        }
    }

    #[test]
    fn nodes_are_told_to_each_reader_in_its_words() {
        for (schema, v2, v3) in [
            (
                json!({"type": "object", PRESERVE: true, "properties": {"a": {"type": "string"}}}),
                json!({PRESERVE: true}),
                json!({"type": "object", PRESERVE: true, "properties": {"a": {"type": "string"}}}),
            ),
            (
                json!({"type": "array", "nullable": true, "items": {"type": "string"}}),
                json!({}),
                json!({"type": "array", "nullable": true, "items": {"type": "string"}}),
            ),
            (
                json!({"type": "object", "required": ["a", "b"], "properties": {
                    "a": {"type": "string", "nullable": true}, "b": {"type": "string", "not": {"enum": ["x"]}}}}),
                json!({"type": "object", "required": ["b"], "properties": {"a": {}, "b": {"type": "string"}}}),
                json!({"type": "object", "required": ["a", "b"], "properties": {
                    "a": {"type": "string", "nullable": true}, "b": {"type": "string", "not": {"enum": ["x"]}}}}),
            ),
            (
                json!({INT_OR_STRING: true, "pattern": "x"}),
                json!({INT_OR_STRING: true, "pattern": "x"}),
                json!({INT_OR_STRING: true, "pattern": "x", "anyOf": [{"type": "integer"}, {"type": "string"}]}),
            ),
            (
                json!({INT_OR_STRING: true, "anyOf": [{"minimum": 1}]}),
                json!({INT_OR_STRING: true}),
                json!({INT_OR_STRING: true, "anyOf": [{"minimum": 1}],
                    "allOf": [{"anyOf": [{"type": "integer"}, {"type": "string"}]}]}),
            ),
            (
                json!({"type": "array", "items": {"type": "object", EMBEDDED: true, "required": ["kind"]}}),
                json!({"type": "array", "items": {"type": "object", EMBEDDED: true, "required": ["kind", "apiVersion"],
                    "properties": {"apiVersion": "A", "kind": "K", "metadata": "M"}}}),
                json!({"type": "array", "items": {"type": "object", EMBEDDED: true, "required": ["kind", "apiVersion"],
                    "properties": {"apiVersion": "A", "kind": "K", "metadata": "M"}}}),
            ),
            (
                json!({"type": "object", EMBEDDED: true, PRESERVE: true}),
                json!({EMBEDDED: true, PRESERVE: true}),
                json!({"type": "object", EMBEDDED: true, PRESERVE: true, "required": ["kind", "apiVersion"],
                    "properties": {"apiVersion": "A", "kind": "K", "metadata": "M"}}),
            ),
        ] {
            assert_eq!(both(schema.clone()), (v2, v3), "{schema}");
        }
    }
}
