//! What every object has in its metadata, read and written on plain JSON.
//!
//! In: a `Value` that claims to be an object. Out: parts of it, never a panic: where the JSON has another type
//! than Kubernetes says, the part counts as absent.

use crate::apply;
use jiff::Timestamp;
use serde_json::{Map, Value};

/// The value at a path of field names.
pub fn get<'a>(obj: &'a Value, path: &[&str]) -> Option<&'a Value> {
    path.iter().try_fold(obj, |v, name| v.get(name))
}

/// The string at a path; empty when absent or no string, as Go's zero value.
pub fn get_str<'a>(obj: &'a Value, path: &[&str]) -> &'a str {
    get(obj, path).and_then(Value::as_str).unwrap_or("")
}

pub fn get_bool(obj: &Value, path: &[&str]) -> bool {
    get(obj, path).and_then(Value::as_bool).unwrap_or(false)
}

/// The items of a list at a path; none when absent.
pub fn get_list<'a>(obj: &'a Value, path: &[&str]) -> &'a [Value] {
    get(obj, path).and_then(Value::as_array).map(Vec::as_slice).unwrap_or(&[])
}

pub fn get_map<'a>(obj: &'a Value, path: &[&str]) -> Option<&'a Map<String, Value>> {
    get(obj, path).and_then(Value::as_object)
}

/// The map at a path, made where it is missing. Whatever else stands in the way is replaced.
pub fn ensure_map<'a>(obj: &'a mut Value, path: &[&str]) -> &'a mut Map<String, Value> {
    let mut map = as_map(obj);
    for name in path {
        map = as_map(map.entry(*name).or_insert(Value::Null));
    }
    map
}

fn as_map(v: &mut Value) -> &mut Map<String, Value> {
    if !v.is_object() {
        *v = Value::Object(Map::new());
    }
    match v {
        Value::Object(map) => map,
        _ => unreachable!("made an object just above"),
    }
}

/// Sets the value at a path, making the maps on the way.
pub fn set(obj: &mut Value, path: &[&str], value: impl Into<Value>) {
    if let Some((last, parents)) = path.split_last() {
        ensure_map(obj, parents).insert(last.to_string(), value.into());
    }
}

/// Removes the value at a path and returns it. Parents stay, even when they are empty now.
pub fn remove(obj: &mut Value, path: &[&str]) -> Option<Value> {
    let (last, parents) = path.split_last()?;
    let parent = parents.iter().try_fold(obj, |v, name| v.get_mut(name))?;
    parent.as_object_mut()?.remove(*last)
}

/// Removes a map at a path when it has no entries left.
pub fn remove_if_empty(obj: &mut Value, path: &[&str]) {
    let empty = match get(obj, path) {
        Some(Value::Object(m)) => m.is_empty(),
        Some(Value::Array(a)) => a.is_empty(),
        Some(Value::Null) => true,
        _ => false,
    };
    if empty {
        remove(obj, path);
    }
}

pub fn name(obj: &Value) -> &str {
    get_str(obj, &["metadata", "name"])
}

pub fn namespace(obj: &Value) -> &str {
    get_str(obj, &["metadata", "namespace"])
}

pub fn uid(obj: &Value) -> &str {
    get_str(obj, &["metadata", "uid"])
}

pub fn resource_version(obj: &Value) -> &str {
    get_str(obj, &["metadata", "resourceVersion"])
}

pub fn kind(obj: &Value) -> &str {
    get_str(obj, &["kind"])
}

pub fn api_version(obj: &Value) -> &str {
    get_str(obj, &["apiVersion"])
}

/// Group and version of an `apiVersion`: `apps/v1` is (`apps`, `v1`), `v1` is (empty, `v1`).
pub fn split_api_version(api_version: &str) -> (&str, &str) {
    api_version.split_once('/').unwrap_or(("", api_version))
}

pub fn labels(obj: &Value) -> Option<&Map<String, Value>> {
    get_map(obj, &["metadata", "labels"])
}

pub fn annotation<'a>(obj: &'a Value, key: &str) -> Option<&'a str> {
    get_map(obj, &["metadata", "annotations"])?.get(key)?.as_str()
}

pub fn label<'a>(obj: &'a Value, key: &str) -> Option<&'a str> {
    labels(obj)?.get(key)?.as_str()
}

pub fn set_annotation(obj: &mut Value, key: &str, value: impl Into<String>) {
    ensure_map(obj, &["metadata", "annotations"]).insert(key.to_string(), Value::String(value.into()));
}

pub fn finalizers(obj: &Value) -> impl Iterator<Item = &str> {
    get_list(obj, &["metadata", "finalizers"]).iter().filter_map(Value::as_str)
}

pub fn has_finalizer(obj: &Value, finalizer: &str) -> bool {
    finalizers(obj).any(|f| f == finalizer)
}

/// Adds a finalizer; false when it was there.
pub fn add_finalizer(obj: &mut Value, finalizer: &str) -> bool {
    if has_finalizer(obj, finalizer) {
        return false;
    }
    let list = ensure_map(obj, &["metadata"]).entry("finalizers").or_insert(Value::Null);
    match list {
        Value::Array(a) => a.push(Value::from(finalizer)),
        other => *other = Value::from(vec![finalizer]),
    }
    true
}

/// Removes a finalizer, and the list with the last one; false when it was not there.
pub fn remove_finalizer(obj: &mut Value, finalizer: &str) -> bool {
    let had = has_finalizer(obj, finalizer);
    if had {
        if let Some(Value::Array(list)) = ensure_map(obj, &["metadata"]).get_mut("finalizers") {
            list.retain(|f| f.as_str() != Some(finalizer));
        }
        remove_if_empty(obj, &["metadata", "finalizers"]);
    }
    had
}

/// `metadata.ownerReferences[]`, borrowed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct OwnerReference<'a> {
    pub api_version: &'a str,
    pub kind: &'a str,
    pub name: &'a str,
    pub uid: &'a str,
    pub controller: bool,
    pub block_owner_deletion: bool,
}

impl<'a> OwnerReference<'a> {
    fn of(v: &'a Value) -> OwnerReference<'a> {
        OwnerReference {
            api_version: get_str(v, &["apiVersion"]),
            kind: get_str(v, &["kind"]),
            name: get_str(v, &["name"]),
            uid: get_str(v, &["uid"]),
            controller: get_bool(v, &["controller"]),
            block_owner_deletion: get_bool(v, &["blockOwnerDeletion"]),
        }
    }
}

pub fn owner_references(obj: &Value) -> impl Iterator<Item = OwnerReference<'_>> {
    get_list(obj, &["metadata", "ownerReferences"]).iter().map(OwnerReference::of)
}

/// The one owner that manages the object (`controller: true`).
pub fn controller_of(obj: &Value) -> Option<OwnerReference<'_>> {
    owner_references(obj).find(|o| o.controller)
}

/// An ownerReference that makes `owner` the controller of whatever carries it (upstream: `NewControllerRef`).
pub fn controller_ref(owner: &Value) -> Value {
    serde_json::json!({
        "apiVersion": api_version(owner),
        "kind": kind(owner),
        "name": name(owner),
        "uid": uid(owner),
        "controller": true,
        "blockOwnerDeletion": true,
    })
}

/// Whether two values say the same: absent, null and empty maps and lists are one, and so are `1` and `1.0`
/// (upstream: `equality.Semantic.DeepEqual` after decoding).
pub fn semantic_eq(a: &Value, b: &Value) -> bool {
    match (a, b) {
        (Value::Object(x), Value::Object(y)) => {
            x.iter().all(|(k, v)| semantic_eq(v, y.get(k).unwrap_or(&Value::Null)))
                && y.iter().all(|(k, v)| x.contains_key(k) || is_empty(v))
        }
        (Value::Array(x), Value::Array(y)) => x.len() == y.len() && x.iter().zip(y).all(|(a, b)| semantic_eq(a, b)),
        (Value::Number(_), Value::Number(_)) => apply::value_eq(a, b),
        _ => a == b || (is_empty(a) && is_empty(b)),
    }
}

fn is_empty(v: &Value) -> bool {
    match v {
        Value::Null => true,
        Value::Array(a) => a.is_empty(),
        Value::Object(o) => o.values().all(is_empty),
        _ => false,
    }
}

/// Whether a write would change nothing but bookkeeping of the server (`metadata.managedFields`,
/// `resourceVersion`, `generation`, `selfLink`).
pub fn eq_but_bookkeeping(a: &Value, b: &Value) -> bool {
    without(a, &["managedFields", "resourceVersion", "generation", "selfLink"])
        == without(b, &["managedFields", "resourceVersion", "generation", "selfLink"])
}

fn without(obj: &Value, metadata: &[&str]) -> Value {
    let mut copy = obj.clone();
    for field in metadata {
        remove(&mut copy, &["metadata", field]);
    }
    copy
}

/// `metav1.Time`: RFC 3339 in whole seconds, UTC, for example `2026-01-02T03:04:05Z`.
pub fn time(at: Timestamp) -> String {
    at.strftime("%Y-%m-%dT%H:%M:%SZ").to_string()
}

/// `metav1.MicroTime`: RFC 3339 with six digits of a second, for example `2026-01-02T03:04:05.000006Z`.
pub fn micro_time(at: Timestamp) -> String {
    at.strftime("%Y-%m-%dT%H:%M:%S.%6fZ").to_string()
}

/// Reads either form of time, in any offset.
pub fn parse_time(text: &str) -> Option<Timestamp> {
    text.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn paths_are_made_on_the_way() {
        let mut o = json!({"spec": "odd"});
        set(&mut o, &["spec", "template", "x"], 1);
        assert_eq!(o, json!({"spec": {"template": {"x": 1}}}));
        assert_eq!(remove(&mut o, &["spec", "template", "x"]), Some(json!(1)));
        remove_if_empty(&mut o, &["spec", "template"]);
        assert_eq!(o, json!({"spec": {}}));
        assert_eq!(get_str(&o, &["spec", "a", "b"]), "");
    }

    #[test]
    fn finalizers_come_and_go() {
        let mut o = json!({});
        assert!(add_finalizer(&mut o, "a/b"));
        assert!(!add_finalizer(&mut o, "a/b"));
        assert_eq!(o, json!({"metadata": {"finalizers": ["a/b"]}}));
        assert!(!remove_finalizer(&mut o, "c"));
        assert!(remove_finalizer(&mut o, "a/b"));
        assert_eq!(o, json!({"metadata": {}}));
    }

    #[test]
    fn the_controller_is_the_marked_owner() {
        let rs = json!({"apiVersion": "apps/v1", "kind": "ReplicaSet", "metadata": {"name": "a", "uid": "1"}});
        let pod = json!({"metadata": {"ownerReferences": [{"kind": "X", "uid": "0"}, controller_ref(&rs)]}});
        let c = controller_of(&pod).map(|c| (c.kind, c.uid, c.block_owner_deletion));
        assert_eq!(c, Some(("ReplicaSet", "1", true)));
        assert_eq!(controller_of(&rs), None);
    }

    #[test]
    fn equality_sees_meaning_only() {
        for (a, b, same) in [
            (json!({"a": null}), json!({}), true),
            (json!({"a": {"b": []}}), json!({}), true),
            (json!({"a": 1}), json!({"a": 1.0}), true),
            (json!({"a": ""}), json!({}), false),
            (json!({"a": [1, 2]}), json!({"a": [2, 1]}), false),
            (json!({}), json!({"b": 1}), false),
        ] {
            assert_eq!(semantic_eq(&a, &b), same, "{a} {b}");
            assert_eq!(semantic_eq(&b, &a), same, "{b} {a}");
        }
        let a = json!({"metadata": {"name": "x", "resourceVersion": "1", "managedFields": [1]}});
        let b = json!({"metadata": {"name": "x", "resourceVersion": "2"}});
        assert!(eq_but_bookkeeping(&a, &b));
        assert!(!eq_but_bookkeeping(&a, &json!({"metadata": {"name": "y"}})));
    }

    #[test]
    fn times_have_fixed_widths() {
        let t: Timestamp = "2026-01-02T03:04:05.000006789Z".parse().expect("a time");
        assert_eq!(time(t), "2026-01-02T03:04:05Z");
        assert_eq!(micro_time(t), "2026-01-02T03:04:05.000006Z");
        assert_eq!(parse_time("2026-01-02T04:04:05+01:00").map(time).as_deref(), Some("2026-01-02T03:04:05Z"));
        assert_eq!(parse_time("yesterday"), None);
    }
}
