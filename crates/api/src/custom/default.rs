//! Defaulting: what the schema gives where an object says nothing, or null where null is no value.
//!
//! Nulls that nothing replaces go from what is decoded, [`prune_nulls`]; those that apply or a webhook puts in stay, for
//! validation to refuse.

use super::schema::{Additional, Schema};
use serde_json::Value;

/// Drops members that are null where null is neither allowed nor replaced by a default.
pub fn prune_nulls(value: &mut Value, schema: &Schema) {
    match value {
        Value::Object(map) => {
            let is_nothing = |name: &str| schema.member(name).is_some_and(|s| !s.nullable && s.default.is_none());
            map.retain(|name, v| !v.is_null() || !is_nothing(name));
            for (name, child) in map.iter_mut() {
                if let Some(s) = schema.member(name) {
                    prune_nulls(child, s);
                }
            }
        }
        Value::Array(items) => {
            if let Some(s) = &schema.items {
                items.iter_mut().for_each(|item| prune_nulls(item, s));
            }
        }
        _ => {}
    }
}

/// Fills defaults in. Idempotent.
pub fn default(value: &mut Value, schema: &Schema) {
    match value {
        Value::Object(map) => {
            for (name, property) in schema.properties.iter() {
                if let Some(d) = &property.default
                    && map.get(name).is_none_or(|v| v.is_null() && !property.nullable)
                {
                    map.insert(name.to_string(), (**d).clone());
                }
            }
            for (name, child) in map.iter_mut() {
                if let Some(property) = schema.properties.get(name) {
                    default(child, property);
                } else if let Additional::Schema(s) = &schema.additional {
                    replace_null(child, s);
                    default(child, s);
                }
            }
        }
        Value::Array(items) => {
            if let Some(s) = &schema.items {
                for item in items {
                    replace_null(item, s);
                    default(item, s);
                }
            }
        }
        _ => {}
    }
}

fn replace_null(value: &mut Value, schema: &Schema) {
    if value.is_null()
        && !schema.nullable
        && let Some(d) = &schema.default
    {
        *value = (**d).clone();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn defaults_fill_gaps_and_nulls() {
        let schema = Schema::compile(
            &json!({"type":"object","properties":{"spec":{"type":"object","default":{},"properties":{
            "a":{"type":"string","default":"A"},
            "n":{"type":"string","default":"N","nullable":true},
            "gone":{"type":"string"},
            "kept":{"type":"string","nullable":true},
            "bare":{"type":"object","additionalProperties":{"type":"string"}},
            "null":{"type":"object","additionalProperties":{"type":"string","nullable":true}},
            "strings":{"type":"array","items":{"type":"string"}},
            "list":{"type":"array","items":{"type":"object","properties":{"port":{"type":"integer","default":80}}}},
            "map":{"type":"object","additionalProperties":{"type":"object","default":{"x":1},"properties":{"x":{"type":"integer","default":2}}}}}}}}),
        );
        for (object, expected) in [
            (json!({}), json!({"spec":{"a":"A","n":"N"}})),
            (
                json!({"spec":{"a":null,"n":null,"gone":null,"kept":null}}),
                json!({"spec":{"a":"A","n":null,"kept":null}}),
            ),
            // Values of maps are treated alike; items of lists stay, for validation to tell of.
            (
                json!({"spec":{"a":"b","n":"","bare":{"x":null,"y":"z"},"null":{"x":null},"strings":[null,"s"]}}),
                json!({"spec":{"a":"b","n":"","bare":{"y":"z"},"null":{"x":null},"strings":[null,"s"]}}),
            ),
            (
                json!({"spec":{"a":"b","list":[{},{"port":1}],"map":{"m":{},"n":null}}}),
                json!({"spec":{"a":"b","n":"N","list":[{"port":80},{"port":1}],"map":{"m":{"x":2},"n":{"x":1}}}}),
            ),
        ] {
            let mut got = object;
            prune_nulls(&mut got, &schema);
            default(&mut got, &schema);
            assert_eq!(got, expected);
            let once = got.clone();
            default(&mut got, &schema);
            assert_eq!(got, once, "defaulting twice changes nothing");
        }
    }
}
