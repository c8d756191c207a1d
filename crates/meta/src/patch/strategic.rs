//! Strategic merge patch: a merge patch that knows which lists merge, and by which key.
//!
//! In: the structure of the kind. Directives: `$patch` (`replace`, `delete`, `merge`), `$retainKeys`,
//! `$deleteFromPrimitiveList/<list>` and `$setElementOrder/<list>`.
//! Source: upstream's `apimachinery/pkg/util/strategicpatch` and "Update API Objects in Place Using kubectl patch".

use crate::schema::{Shape, TypeId, Types};
use crate::status::{Result, Status};
use serde_json::{Map, Value};

const DIRECTIVE: &str = "$patch";
const RETAIN_KEYS: &str = "$retainKeys";
const DELETE_PRIMITIVES: &str = "$deleteFromPrimitiveList/";
const ORDER: &str = "$setElementOrder/";

/// Applies a patch to an object of type `ty`. Errors: 400 for a patch whose form or directives make no sense.
pub fn apply(types: &Types, ty: TypeId, original: &Value, patch: &Value) -> Result<Value> {
    let Value::Object(patch) = patch else {
        return Err(bad("invalid JSON document"));
    };
    let none = Map::new();
    merge_map(types, Some(ty), original.as_object().unwrap_or(&none), patch, 0).map(Value::Object)
}

fn bad(why: impl std::fmt::Display) -> Status {
    Status::bad_request(why.to_string())
}

fn unknown_directive(directive: &str, map: &Map<String, Value>) -> Status {
    bad(format!("Unknown patch type found: {directive} in map: {}", crate::apply::go_text(&Value::Object(map.clone()))))
}

/// What a field's type says about merging. Unknown fields merge as plain JSON.
#[derive(Clone, Copy, Default)]
struct Rule<'a> {
    ty: Option<TypeId>,
    item: Option<TypeId>,
    merge_list: bool,
    merge_key: Option<&'a str>,
}

fn rule<'a>(types: &'a Types, ty: Option<TypeId>, name: &str) -> Rule<'a> {
    let ty = match ty.map(|t| types.shape(t)) {
        Some(Shape::Struct(s)) => s.field(name).map(|f| f.ty),
        Some(Shape::Map { value, .. }) => Some(*value),
        _ => None,
    };
    match ty.map(|t| types.shape(t)) {
        Some(Shape::List(l)) => Rule {
            ty,
            item: Some(l.item),
            merge_list: l.patch_merge,
            merge_key: l.merge_key.as_deref().filter(|k| !k.is_empty()),
        },
        _ => Rule { ty, ..Rule::default() },
    }
}

const DEPTH_MAX: usize = 200;

fn merge_map(
    types: &Types,
    ty: Option<TypeId>,
    original: &Map<String, Value>,
    patch: &Map<String, Value>,
    depth: usize,
) -> Result<Map<String, Value>> {
    if depth > DEPTH_MAX {
        return Err(bad("patch is nested too deeply"));
    }
    match patch.get(DIRECTIVE) {
        None => {}
        Some(Value::String(d)) if d == "replace" => return Ok(clean_map(patch)),
        Some(Value::String(d)) if d == "delete" => return Ok(Map::new()),
        Some(Value::String(d)) if d == "merge" => {}
        Some(other) => return Err(unknown_directive(&text(other), patch)),
    }
    let mut out = original.clone();
    if let Some(keep) = patch.get(RETAIN_KEYS) {
        let Value::Array(keep) = keep else {
            return Err(bad("invalid patch format of retainKeys"));
        };
        for name in patch.keys().filter(|n| !n.starts_with('$') && !patch[*n].is_null()) {
            if !keep.iter().any(|k| k == name.as_str()) {
                // Upstream hides the reason: "patch content doesn't match retainKeys list".
                return Err(crate::patch::json::refused());
            }
        }
        out.retain(|name, _| keep.iter().any(|k| k == name.as_str()));
    }
    for (name, value) in patch {
        if let Some(list) = name.strip_prefix(DELETE_PRIMITIVES) {
            let Value::Array(gone) = value else {
                return Err(bad("invalid patch format of primitive list"));
            };
            if let Some(Value::Array(items)) = out.get_mut(list) {
                items.retain(|i| !gone.contains(i));
            }
            // A list of the same patch still has to merge into what is left.
            if !patch.contains_key(list)
                && !patch.contains_key(&format!("{ORDER}{list}"))
                && is_empty_list(out.get(list))
            {
                out.remove(list);
            }
            continue;
        }
        if let Some(list) = name.strip_prefix(ORDER) {
            let Value::Array(order) = value else {
                return Err(bad("invalid patch format of setElementOrder list"));
            };
            if !patch.contains_key(list) {
                let r = rule(types, ty, list);
                if let Some(Value::Array(items)) = out.get(list) {
                    let sorted = in_order(items.clone(), items, order, r.merge_key)?;
                    out.insert(list.to_string(), Value::Array(sorted));
                }
            }
            continue;
        }
        if name == DIRECTIVE || name == RETAIN_KEYS {
            continue;
        }
        let r = rule(types, ty, name);
        match (out.get(name), value) {
            (_, Value::Null) => {
                out.remove(name);
            }
            (Some(Value::Object(old)), Value::Object(new)) => {
                let deleted = new.get(DIRECTIVE).is_some_and(|d| d == "delete");
                let merged = merge_map(types, r.ty, old, new, depth + 1)?;
                if deleted {
                    out.remove(name);
                } else {
                    out.insert(name.clone(), Value::Object(merged));
                }
            }
            (Some(Value::Array(old)), Value::Array(new)) if r.merge_list => {
                let order = match patch.get(&format!("{ORDER}{name}")) {
                    Some(Value::Array(order)) => Some(order.as_slice()),
                    _ => None,
                };
                let merged = merge_list(types, &r, old, new, order, depth + 1)?;
                out.insert(name.clone(), Value::Array(merged));
            }
            (_, Value::Object(new)) => {
                if new.get(DIRECTIVE).is_none_or(|d| d != "delete") {
                    out.insert(name.clone(), Value::Object(merge_map(types, r.ty, &Map::new(), new, depth + 1)?));
                }
            }
            (_, Value::Array(new)) if r.merge_list => {
                let merged = merge_list(types, &r, &[], new, None, depth + 1)?;
                out.insert(name.clone(), Value::Array(merged));
            }
            (_, other) => {
                out.insert(name.clone(), clean(other));
            }
        }
    }
    Ok(out)
}

fn is_empty_list(v: Option<&Value>) -> bool {
    matches!(v, Some(Value::Array(a)) if a.is_empty())
}

/// A value that replaces: without directives and nulls, whatever it holds.
fn clean(v: &Value) -> Value {
    match v {
        Value::Object(map) => Value::Object(clean_map(map)),
        Value::Array(items) => Value::Array(items.iter().map(clean).collect()),
        other => other.clone(),
    }
}

fn clean_map(map: &Map<String, Value>) -> Map<String, Value> {
    map.iter()
        .filter(|(name, v)| !v.is_null() && !is_directive(name))
        .map(|(name, v)| (name.clone(), clean(v)))
        .collect()
}

fn is_directive(name: &str) -> bool {
    name == DIRECTIVE || name == RETAIN_KEYS || name.starts_with(DELETE_PRIMITIVES) || name.starts_with(ORDER)
}

fn merge_list(
    types: &Types,
    r: &Rule,
    original: &[Value],
    patch: &[Value],
    order: Option<&[Value]>,
    depth: usize,
) -> Result<Vec<Value>> {
    let mut out: Vec<Value> = original.to_vec();
    // Items that the patch names, in its order, for the order of the result.
    let mut patched: Vec<Value> = Vec::new();
    if patch.iter().any(Value::is_object) {
        let Some(key) = r.merge_key else {
            return Err(bad(format!(
                "cannot merge lists without merge key for {}",
                r.ty.map_or("", |t| types.get(t).name.as_str())
            )
            .trim_end_matches(" for ")));
        };
        let mut replace = false;
        for item in patch {
            let Value::Object(map) = item else {
                return Err(bad(format!("expected object, got {item}")));
            };
            match map.get(DIRECTIVE).map(text) {
                Some(d) if d == "replace" => replace = true,
                Some(d) if d == "delete" => {
                    let id = map.get(key).ok_or_else(|| bad(missing(item, key)))?;
                    out.retain(|o| o.get(key) != Some(id));
                }
                Some(d) if d != "merge" => {
                    return Err(unknown_directive(&d, map));
                }
                _ => patched.push(item.clone()),
            }
        }
        if replace {
            // The directive stands in an item of its own and makes the rest the whole list.
            return Ok(patched.iter().map(clean).collect());
        }
        for item in &patched {
            let Value::Object(new) = item else { continue };
            let id = new.get(key).ok_or_else(|| bad(missing(item, key)))?;
            match out.iter().position(|o| o.get(key) == Some(id)) {
                Some(i) => {
                    let none = Map::new();
                    let merged = merge_map(types, r.item, out[i].as_object().unwrap_or(&none), new, depth)?;
                    out[i] = Value::Object(merged);
                }
                None => out.push(Value::Object(merge_map(types, r.item, &Map::new(), new, depth)?)),
            }
        }
    } else {
        for item in patch {
            if !out.contains(item) {
                out.push(item.clone());
            }
            patched.push(item.clone());
        }
    }
    // Without an explicit order, the patch's own order holds for the items that it names; new ones come first, as
    // upstream puts them.
    in_order(out, original, order.unwrap_or(&patched), r.merge_key)
}

fn missing(item: &Value, key: &str) -> String {
    format!("map: {} does not contain declared merge key: {key}", crate::apply::go_text(item))
}

/// Sorts the items that `order` names as it names them; the others keep their place among their neighbours of the
/// server's list.
fn in_order(items: Vec<Value>, server: &[Value], order: &[Value], key: Option<&str>) -> Result<Vec<Value>> {
    let id = |v: &Value| -> Value {
        match (key, v) {
            (Some(k), Value::Object(m)) => m.get(k).cloned().unwrap_or(Value::Null),
            _ => v.clone(),
        }
    };
    let order: Vec<Value> = order.iter().map(&id).collect();
    let server: Vec<Value> = server.iter().map(&id).collect();
    let (mut named, others): (Vec<Value>, Vec<Value>) = items.into_iter().partition(|i| order.contains(&id(i)));
    named.sort_by_key(|i| order.iter().position(|o| *o == id(i)));
    let place = |v: &Value| server.iter().position(|s| *s == id(v));
    // Merge two sorted runs: one of the server's own items goes first where the server has it before.
    let mut out = Vec::with_capacity(named.len() + others.len());
    let mut others = others.into_iter().peekable();
    for item in named {
        if let Some(at) = place(&item) {
            while let Some(other) = others.next_if(|o| place(o).is_some_and(|p| p < at)) {
                out.push(other);
            }
        }
        out.push(item);
    }
    out.extend(others);
    Ok(out)
}

fn text(v: &Value) -> String {
    v.as_str().map_or_else(|| v.to_string(), str::to_string)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{deployment, json_object};
    use proptest::prelude::*;
    use serde_json::json;

    fn check(original: Value, patch: Value, want: Value) {
        let (types, ty) = deployment();
        let wrap = |containers: &Value| json!({"spec": {"containers": containers}});
        let (o, p, w) =
            if original.is_array() { (wrap(&original), wrap(&patch), wrap(&want)) } else { (original, patch, want) };
        assert_eq!(apply(&types, ty, &o, &p), Ok(w), "{o} + {p}");
    }

    #[test]
    fn lists_merge_by_key_or_replace() {
        let a = json!({"name": "a", "image": "1", "args": ["x"]});
        let b = json!({"name": "b"});
        check(
            json!([a, b]),
            json!([{"name": "a", "image": "2", "args": ["y", "z"]}]),
            json!([{"name": "a", "image": "2", "args": ["y", "z"]}, b]),
        );
        check(json!([a, b]), json!([{"name": "a", "$patch": "delete"}]), json!([b]));
        check(json!([a, b]), json!([{"name": "c"}, {"$patch": "replace"}]), json!([{"name": "c"}]));
        check(json!([a]), json!([{"name": "a", "image": null, "args": null}]), json!([{"name": "a"}]));
        check(json!([b]), json!([{"name": "c", "image": null}]), json!([{"name": "c"}, b]));
        check(
            json!([{"name": "a", "ports": [{"containerPort": 1}, {"containerPort": 2}]}]),
            json!([{"name": "a", "ports": [{"containerPort": 2, "name": "x"}]}]),
            json!([{"name": "a", "ports": [{"containerPort": 1}, {"containerPort": 2, "name": "x"}]}]),
        );
    }

    #[test]
    fn order_follows_the_patch() {
        let named = |names: &[&str]| -> Value { names.iter().map(|n| json!({"name": n})).collect() };
        let with = |order: &[&str], patch: &[&str]| json!({"spec": {"$setElementOrder/containers": named(order), "containers": named(patch)}});
        let spec = |names: &[&str]| json!({"spec": {"containers": named(names)}});
        check(spec(&["a", "b", "c"]), with(&["c", "b", "a"], &["a"]), spec(&["c", "b", "a"]));
        check(spec(&["a", "x", "b"]), with(&["a", "b", "n"], &["n"]), spec(&["a", "x", "b", "n"]));
        check(
            spec(&["a", "b"]),
            json!({"spec": {"$setElementOrder/containers": named(&["b", "a"])}}),
            spec(&["b", "a"]),
        );
        check(
            json!({"metadata": {"finalizers": ["a", "b", "c"]}}),
            json!({"metadata": {"$deleteFromPrimitiveList/finalizers": ["b"], "finalizers": ["d"],
                "$setElementOrder/finalizers": ["d", "c", "a"]}}),
            json!({"metadata": {"finalizers": ["d", "c", "a"]}}),
        );
    }

    #[test]
    fn maps_and_their_directives() {
        check(
            json!({"metadata": {"labels": {"a": "1", "b": "2"}}}),
            json!({"metadata": {"labels": {"a": null, "c": "3"}}}),
            json!({"metadata": {"labels": {"b": "2", "c": "3"}}}),
        );
        check(
            json!({"metadata": {"labels": {"a": "1"}}}),
            json!({"metadata": {"labels": {"$patch": "replace", "c": "3"}}}),
            json!({"metadata": {"labels": {"c": "3"}}}),
        );
        check(
            json!({"metadata": {"labels": {"a": "1"}, "name": "x"}}),
            json!({"metadata": {"labels": {"$patch": "delete"}}}),
            json!({"metadata": {"name": "x"}}),
        );
        check(
            json!({"spec": {"strategy": {"type": "RollingUpdate", "rollingUpdate": {"maxSurge": "1"}}}}),
            json!({"spec": {"strategy": {"$retainKeys": ["type"], "type": "Recreate"}}}),
            json!({"spec": {"strategy": {"type": "Recreate"}}}),
        );
    }

    #[test]
    fn nonsense_is_the_clients_fault() {
        let (types, ty) = deployment();
        let o = json!({"spec": {"containers": [{"name": "a"}], "strategy": {"type": "a"}}});
        for (patch, code, why) in [
            (json!([]), 400, "invalid JSON document"),
            (json!({"spec": {"$patch": "odd"}}), 400, "Unknown patch type found: odd in map: map[$patch:odd]"),
            (
                json!({"spec": {"containers": [{"image": "x"}]}}),
                400,
                "map: map[image:x] does not contain declared merge key: name",
            ),
            (json!({"spec": {"containers": [{"name": "a"}, 1]}}), 400, "expected object, got 1"),
            (
                json!({"spec": {"strategy": {"$retainKeys": ["a"], "type": "b"}}}),
                422,
                "the server rejected our request due to an error in our request",
            ),
            (json!({"spec": {"strategy": {"$retainKeys": 1}}}), 400, "invalid patch format of retainKeys"),
            (
                json!({"metadata": {"$deleteFromPrimitiveList/finalizers": 1}}),
                400,
                "invalid patch format of primitive list",
            ),
            (
                json!({"spec": {"$setElementOrder/containers": "x"}}),
                400,
                "invalid patch format of setElementOrder list",
            ),
        ] {
            let got = apply(&types, ty, &o, &patch).map_err(|s| (s.code, s.message));
            assert_eq!(got, Err((code, why.to_string())), "{patch}");
        }
    }

    /// A patch as kubectl would make it: changes by key, deletions by directive, and the order.
    fn diff(a: &Value, b: &Value) -> Value {
        let mut out = crate::patch::merge::diff(&without_lists(a), &without_lists(b));
        let list = |v: &Value| v["containers"].as_array().cloned().unwrap_or_default();
        let (old, new) = (list(a), list(b));
        let mut items: Vec<Value> = Vec::new();
        for n in &new {
            match old.iter().find(|o| o["name"] == n["name"]) {
                Some(o) if o == n => {}
                Some(o) => {
                    let mut change = crate::patch::merge::diff(o, n);
                    change["name"] = n["name"].clone();
                    items.push(change);
                }
                None => items.push(n.clone()),
            }
        }
        for gone in old.iter().filter(|o| !new.iter().any(|n| n["name"] == o["name"])) {
            items.push(json!({"name": gone["name"], "$patch": "delete"}));
        }
        if !items.is_empty() {
            out["containers"] = items.into();
        }
        out["$setElementOrder/containers"] = new.iter().map(|n| json!({"name": n["name"]})).collect();
        json!({"spec": out})
    }

    fn without_lists(v: &Value) -> Value {
        let mut v = v.clone();
        v.as_object_mut().map(|o| o.remove("containers"));
        v
    }

    fn spec() -> impl Strategy<Value = Value> {
        let container = ("[a-e]", prop::option::of("[x-z]"), prop::option::of(prop::collection::vec("[p-q]", 0..3)));
        (prop::option::of(1i64..4), prop::collection::vec(container, 0..5)).prop_map(|(replicas, containers)| {
            let mut list: Vec<Value> = Vec::new();
            for (name, image, args) in containers {
                if list.iter().all(|c| c["name"] != name.as_str()) {
                    let mut c = json!({"name": name});
                    image.into_iter().for_each(|i| c["image"] = json!(i));
                    args.into_iter().for_each(|a| c["args"] = json!(a));
                    list.push(c);
                }
            }
            let mut out = json!({"containers": list});
            replicas.into_iter().for_each(|r| out["replicas"] = json!(r));
            out
        })
    }

    proptest! {
        #[test]
        fn a_patch_makes_what_it_was_made_for(a in spec(), b in spec()) {
            let (types, ty) = deployment();
            let patch = diff(&a, &b);
            prop_assert_eq!(apply(&types, ty, &json!({"spec": a}), &patch), Ok(json!({"spec": b})), "{}", patch);
        }

        #[test]
        fn a_patch_twice_is_a_patch_once(a in spec(), b in spec()) {
            let (types, ty) = deployment();
            let patch = diff(&a, &b);
            let once = apply(&types, ty, &json!({"spec": a}), &patch).map_err(|s| TestCaseError::fail(s.message))?;
            prop_assert_eq!(apply(&types, ty, &once, &patch), Ok(once));
        }

        /// On a schema-less object, strategic merge is merge patch but for lists, which replace as well.
        #[test]
        fn without_a_structure_it_is_a_merge_patch(a in json_object(), p in json_object()) {
            let (types, ty) = deployment();
            prop_assert_eq!(apply(&types, ty, &a, &p), crate::patch::merge::apply(&a, &p));
        }
    }
}
