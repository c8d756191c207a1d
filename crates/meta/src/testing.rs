//! Generators that the property tests of this crate share.

use proptest::prelude::*;
use serde_json::{Map, Value};

/// Any JSON value without nulls, nested a few levels, over few keys so that two values meet.
pub fn json_value() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        any::<bool>().prop_map(Value::from),
        (-3i64..4).prop_map(Value::from),
        "[a-c]{0,2}".prop_map(Value::from),
    ];
    leaf.prop_recursive(4, 24, 4, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..4).prop_map(Value::Array),
            prop::collection::vec(("[a-d]", inner), 0..4)
                .prop_map(|fields| Value::Object(fields.into_iter().collect::<Map<String, Value>>())),
        ]
    })
}

pub fn json_object() -> impl Strategy<Value = Value> {
    prop::collection::vec(("[a-d]", json_value()), 0..4)
        .prop_map(|fields| Value::Object(fields.into_iter().collect::<Map<String, Value>>()))
}

use crate::schema::{Field, List, Shape, Struct, Topology, Type, TypeId, Types};

/// A kind like a Deployment, as far as patches and apply need it.
pub fn deployment() -> (Types, TypeId) {
    let mut t = Types::default();
    let string = scalar(&mut t, Shape::String);
    let int = scalar(&mut t, Shape::Int32);
    let labels = scalar(&mut t, Shape::Map { value: string, atomic: false });
    let strings = list(&mut t, string, Topology::Set, true, None);
    let args = list(&mut t, string, Topology::Atomic, false, None);
    let port = structure(&mut t, "Port", &[("containerPort", int), ("protocol", string), ("name", string)]);
    let port_keys = Topology::Map { keys: vec!["containerPort".into(), "protocol".into()] };
    let ports = list(&mut t, port, port_keys, true, Some("containerPort"));
    let resources = structure(&mut t, "Resources", &[("limits", labels)]);
    let container = structure(
        &mut t,
        "Container",
        &[("name", string), ("image", string), ("args", args), ("ports", ports), ("resources", resources)],
    );
    let by_name = Topology::Map { keys: vec!["name".into()] };
    let containers = list(&mut t, container, by_name, true, Some("name"));
    let selector = structure(&mut t, "Selector", &[("matchLabels", labels)]);
    if let Shape::Struct(s) = &mut t.types[selector.0 as usize].shape {
        s.atomic = true;
    }
    let strategy = structure(&mut t, "Strategy", &[("type", string), ("rollingUpdate", labels)]);
    let spec = structure(
        &mut t,
        "Spec",
        &[("replicas", int), ("selector", selector), ("strategy", strategy), ("containers", containers)],
    );
    let meta = structure(
        &mut t,
        "ObjectMeta",
        &[
            ("name", string),
            ("namespace", string),
            ("uid", string),
            ("resourceVersion", string),
            ("creationTimestamp", string),
            ("labels", labels),
            ("annotations", labels),
            ("finalizers", strings),
        ],
    );
    let status = structure(&mut t, "Status", &[("replicas", int)]);
    let root = structure(
        &mut t,
        "Deployment",
        &[("apiVersion", string), ("kind", string), ("metadata", meta), ("spec", spec), ("status", status)],
    );
    (t, root)
}

/// A type that has every patch strategy and every topology, and itself within most: lists that merge by name (`items`,
/// `kept`), by two keys (`ports`) or replace (`rows`), lists of scalars that merge (`tags`) or replace (`notes`), maps, a
/// map that patches replace (`whole`), one that is one unit (`unit`), and what has no schema (`free`).
pub fn item() -> (Types, TypeId) {
    let mut t = Types::default();
    let text = scalar(&mut t, Shape::String);
    let int = scalar(&mut t, Shape::Int64);
    let map = scalar(&mut t, Shape::Map { value: text, atomic: false });
    let tags = list(&mut t, int, Topology::Set, true, None);
    let notes = list(&mut t, int, Topology::Atomic, false, None);
    let unit = scalar(&mut t, Shape::Map { value: text, atomic: true });
    let free = scalar(&mut t, Shape::Any);
    let port = structure(&mut t, "Port", &[("port", int), ("protocol", text), ("name", text)]);
    let by_port = Topology::Map { keys: vec!["port".into(), "protocol".into()] };
    let ports = list(&mut t, port, by_port, true, Some("port"));
    let root = t.push(Type { name: "Item".into(), shape: Shape::Struct(Struct::default()) });
    let by_name = || Topology::Map { keys: vec!["name".into()] };
    let items = list(&mut t, root, by_name(), true, Some("name"));
    let rows = list(&mut t, root, Topology::Atomic, false, None);
    let fields = [
        ("name", text),
        ("value", text),
        ("other", text),
        ("items", items),
        ("kept", items),
        ("rows", rows),
        ("tags", tags),
        ("notes", notes),
        ("map", map),
        ("whole", map),
        ("unit", unit),
        ("free", free),
        ("ports", ports),
        ("child", root),
    ];
    let made = structure(&mut t, "", &fields);
    if let Shape::Struct(s) = &mut t.types[made.0 as usize].shape {
        // As in a custom resource: nothing is implied where nothing is written.
        s.fields.iter_mut().for_each(|f| (f.pointer, f.proto) = (true, 0));
    }
    t.types[root.0 as usize].shape = t.types[made.0 as usize].shape.clone();
    (t, root)
}

fn scalar(t: &mut Types, shape: Shape) -> TypeId {
    t.push(Type { name: String::new(), shape })
}

fn list(t: &mut Types, item: TypeId, topology: Topology, patch_merge: bool, key: Option<&str>) -> TypeId {
    let merge_key = key.map(str::to_string);
    scalar(t, Shape::List(List { item, topology, patch_merge, merge_key }))
}

/// All fields are as in Go structs with `omitempty`: embedded structs are no pointers.
fn structure(t: &mut Types, name: &str, fields: &[(&str, TypeId)]) -> TypeId {
    let mut s = Struct::default();
    for (i, (name, ty)) in fields.iter().enumerate() {
        s.by_name.insert(name.to_string(), i as u32);
        s.fields.push(Field {
            name: name.to_string(),
            ty: *ty,
            required: false,
            pointer: *name == "selector",
            omitempty: true,
            proto: i as u32 + 1,
            retain_keys: *name == "strategy",
            patch_replaces: *name == "whole",
        });
    }
    t.push(Type { name: name.to_string(), shape: Shape::Struct(s) })
}
