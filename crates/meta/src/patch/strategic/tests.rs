//! What patches make of objects, by tables and by laws.

use super::*;
use crate::testing::{deployment, item, json_object};
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
    check(spec(&["a", "b"]), json!({"spec": {"$setElementOrder/containers": named(&["b", "a"])}}), spec(&["b", "a"]));
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
        json!({"metadata": {"labels": {}, "name": "x"}}),
    );
    check(
        json!({"spec": {"strategy": {"type": "RollingUpdate", "rollingUpdate": {"maxSurge": "1"}}}}),
        json!({"spec": {"strategy": {"$retainKeys": ["type"], "type": "Recreate"}}}),
        json!({"spec": {"strategy": {"type": "Recreate"}}}),
    );
}

#[test]
fn upstreams_examples() {
    let (types, ty) = item();
    let mut count = 0;
    for line in include_str!("examples.txt").lines().filter(|l| !l.is_empty() && !l.starts_with('#')) {
        let [what, original, patch, want] = line.split(" | ").collect::<Vec<_>>()[..] else { panic!("{line}") };
        let read = |text: &str| -> Value { serde_json::from_str(text).unwrap_or_else(|e| panic!("{e}: {text}")) };
        match (apply(&types, ty, &read(original), &read(patch)), want.strip_prefix("! ")) {
            (Ok(got), None) => assert_eq!(got, read(want), "{what}"),
            (Err(s), Some(why)) => {
                assert_eq!(s.code, 400, "{what}: {}", s.message);
                assert!(s.message.contains(&why.replace("\\n", "\n")), "{what}: {}", s.message);
            }
            (got, _) => panic!("{what}: {got:?}"),
        }
        count += 1;
    }
    assert!(count > 90, "{count}");
}

#[test]
fn nonsense_is_the_clients_fault() {
    let (types, ty) = item();
    let o = json!({"rows": [[1]], "tags": [[1]], "name": "a"});
    for (patch, code, why) in [
        (json!([]), 400, "invalid JSON document"),
        (json!({"tags": [[2]]}), 422, "the server rejected our request due to an error in our request"),
        (json!({"$patch": 1}), 400, "unknown patch type: 1 in map: map[$patch:1]"),
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
