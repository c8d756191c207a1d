//! JSON merge patch (RFC 7386): maps merge, null deletes, everything else replaces.
//!
//! As upstream's library does it, nulls go from maps inside new lists, too; the RFC would keep them.

use crate::status::{Result, Status};
use serde_json::{Map, Value};

/// Applies a merge patch to an object. Errors: 400 when the patch is no JSON object, as upstream.
pub fn apply(original: &Value, patch: &Value) -> Result<Value> {
    if !patch.is_object() {
        return Err(Status::bad_request("Invalid JSON Patch"));
    }
    let mut out = original.clone();
    merge(&mut out, patch);
    Ok(out)
}

fn merge(target: &mut Value, patch: &Value) {
    let Value::Object(patch) = patch else {
        // A list in place of a map stays as it is sent.
        *target = if target.is_object() { patch.clone() } else { without_nulls(patch) };
        return;
    };
    if !target.is_object() {
        *target = Value::Object(Map::new());
    }
    let Value::Object(target) = target else {
        return;
    };
    for (name, value) in patch {
        if value.is_null() {
            target.remove(name);
        } else {
            merge(target.entry(name.as_str()).or_insert(Value::Null), value);
        }
    }
}

/// Without the nulls of maps. Those that are items of lists stay.
fn without_nulls(v: &Value) -> Value {
    match v {
        Value::Object(map) => {
            map.iter().filter(|(_, v)| !v.is_null()).map(|(k, v)| (k.clone(), without_nulls(v))).collect()
        }
        Value::Array(items) => items.iter().map(without_nulls).collect(),
        other => other.clone(),
    }
}

/// The smallest merge patch that makes `to` of `from`. Nulls inside `to` can't be expressed and are left out.
pub fn diff(from: &Value, to: &Value) -> Value {
    let (Value::Object(a), Value::Object(b)) = (from, to) else {
        return to.clone();
    };
    let mut out = Map::new();
    for name in a.keys().filter(|name| !b.contains_key(*name)) {
        out.insert(name.clone(), Value::Null);
    }
    for (name, new) in b {
        match a.get(name) {
            Some(old) if old == new => {}
            // Replacing a map by a scalar or the reverse needs no nulls: the patch replaces as a whole.
            Some(old) if old.is_object() && new.is_object() => {
                out.insert(name.clone(), diff(old, new));
            }
            _ => {
                out.insert(name.clone(), new.clone());
            }
        }
    }
    Value::Object(out)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::json_object;
    use proptest::prelude::*;
    use serde_json::json;

    #[test]
    fn rfc_7386_examples() {
        for (original, patch, want) in [
            (json!({"a": "b"}), json!({"a": "c"}), json!({"a": "c"})),
            (json!({"a": "b"}), json!({"b": "c"}), json!({"a": "b", "b": "c"})),
            (json!({"a": "b"}), json!({"a": null}), json!({})),
            (json!({"a": "b", "b": "c"}), json!({"a": null}), json!({"b": "c"})),
            (json!({"a": ["b"]}), json!({"a": "c"}), json!({"a": "c"})),
            (json!({"a": "c"}), json!({"a": ["b"]}), json!({"a": ["b"]})),
            (json!({"a": {"b": "c"}}), json!({"a": {"b": "d", "c": null}}), json!({"a": {"b": "d"}})),
            (json!({"a": [{"b": "c"}]}), json!({"a": [1]}), json!({"a": [1]})),
            (json!({"e": null}), json!({"a": 1}), json!({"e": null, "a": 1})),
            (json!({}), json!({"a": {"bb": {"ccc": null}}}), json!({"a": {"bb": {}}})),
            (json!([1, 2]), json!({"a": "b", "c": null}), json!({"a": "b"})),
            (json!({"a": "foo"}), json!({"b": [{"c": null}, null]}), json!({"a": "foo", "b": [{}, null]})),
            (json!({"a": [1]}), json!({"a": [{"b": null, "c": [{"d": null}]}]}), json!({"a": [{"c": [{}]}]})),
            (json!({"a": {"b": 1}}), json!({"a": [{"c": null}]}), json!({"a": [{"c": null}]})),
            (json!({"a": null}), json!({"a": {"b": null, "c": 1}}), json!({"a": {"c": 1}})),
            (json!({"a": {"b": {"c": 1}}}), json!({"a": {"b": {}}}), json!({"a": {"b": {"c": 1}}})),
        ] {
            assert_eq!(apply(&original, &patch), Ok(want), "{original} + {patch}");
        }
        for bad in [json!([]), json!("x"), json!(null)] {
            assert_eq!(apply(&json!({}), &bad).map_err(|s| s.code), Err(400));
        }
    }

    proptest! {
        #[test]
        fn a_diff_reproduces_its_target(a in json_object(), b in json_object()) {
            prop_assert_eq!(apply(&a, &diff(&a, &b)), Ok(b));
        }

        #[test]
        fn a_patch_is_idempotent(a in json_object(), p in json_object()) {
            let once = apply(&a, &p);
            let twice = once.as_ref().ok().and_then(|o| apply(o, &p).ok());
            prop_assert_eq!(once.ok(), twice);
        }
    }
}
