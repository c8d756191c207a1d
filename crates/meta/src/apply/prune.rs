//! What disappears when an applier no longer applies it.

use super::managed::{Managed, Versioned};
use super::paths::{Elem, Set};
use super::structure::{Form, Node, Structure};
use super::validate::field_set_lenient;
use crate::object;
use crate::schema::Shape;
use serde_json::{Map, Value};
use std::collections::BTreeMap;

/// Removes from `merged` what the manager applied last time (`last`), doesn't apply now, and nobody else owns.
/// `managed` holds all managers, with the applier's new fields; `s` is the structure of `version`, in which `merged` is.
pub(super) fn prune(s: &Structure, version: &str, merged: Value, managed: &Managed, last: &Versioned) -> Value {
    if last.set.is_empty() {
        return merged;
    }
    // In the version of the last apply its fields go; in the version of each owner, its fields come back.
    let at = |version_of: &str, object: &Value| match version_of == version && is_of(object, version) {
        true => (*s, object.clone()),
        false => s.view(version_of, object),
    };
    let (there, whole) = at(&last.api_version, &merged);
    let named_last = with_named_parents(&there, there.root(), &last.set);
    let mut left = remove(&there, &whole, &named_last, false);

    let mut by_version: BTreeMap<&str, Set> = BTreeMap::new();
    for owned in managed.0.values() {
        by_version.entry(&owned.api_version).or_default().add(&owned.set);
    }
    for (version, owned) in by_version {
        let ((there, whole), (_, present)) = (at(version, &merged), at(version, &left));
        let named = |set: &Set| with_named_parents(&there, there.root(), set);
        let everything = named(&field_set_lenient(&there, &whole));
        let mut keep = named(&field_set_lenient(&there, &present));
        keep.add(&named(&owned));
        left = remove(&there, &whole, &everything.difference(&keep), true);
    }

    // An item that went as a whole may have held fields that the applier never set. They go with it; but what is
    // gone for another reason than our last set comes back.
    let (_, present) = at(&last.api_version, &left);
    let named = |set: &Set| with_named_parents(&there, there.root(), set);
    let everything = named(&field_set_lenient(&there, &whole));
    let kept = named(&field_set_lenient(&there, &present));
    let out = remove(&there, &whole, &everything.difference(&kept).intersection(&named_last), true);
    at(version, &out).1
}

fn is_of(object: &Value, version: &str) -> bool {
    let own = object::api_version(object);
    own.is_empty() || own == version
}

/// The value without the members of `set`. Containers that this empties stay (see [`emptied`]) with `keep_empty`, else
/// they go, too: they go while we find out what is left, and stay when all that goes is named, because then somebody
/// owns them.
fn remove(s: &Structure, value: &Value, set: &Set, keep_empty: bool) -> Value {
    match remove_below(s, s.root(), value, set, keep_empty) {
        None | Some(Value::Null) => Value::Object(Map::new()),
        Some(left) => left,
    }
}

fn remove_below(s: &Structure, node: Node, value: &Value, set: &Set, keep_empty: bool) -> Option<Value> {
    match (s.form(node, value), value) {
        (Form::Struct(_) | Form::Map(_), Value::Object(map)) if !map.is_empty() => {
            let left: Map<String, Value> = map
                .iter()
                .filter_map(|(name, v)| {
                    let elem = Elem::field(name);
                    Some((name.clone(), keep_item(s, s.below(node, &elem), &elem, v, set, keep_empty)?))
                })
                .collect();
            if left.is_empty() { keep_empty.then(|| emptied(s, node)) } else { Some(Value::Object(left)) }
        }
        (Form::List(list), Value::Array(items)) if !items.is_empty() => {
            let left: Vec<Value> = items
                .iter()
                .filter_map(|item| match s.identify(list, item) {
                    Ok(elem) => keep_item(s, Node::Typed(list.item), &elem, item, set, keep_empty),
                    Err(_) => Some(item.clone()),
                })
                .collect();
            if left.is_empty() { keep_empty.then_some(Value::Null) } else { Some(Value::Array(left)) }
        }
        _ => Some(value.clone()),
    }
}

/// A container that lost all it held is null, but for a struct of Go's, which can't be.
fn emptied(s: &Structure, node: Node) -> Value {
    match node {
        Node::Typed(ty) => match s.types.shape(ty) {
            Shape::Struct(st) if st.fields.iter().any(|f| f.proto != 0) => Value::Object(Map::new()),
            _ => Value::Null,
        },
        Node::Deduced => Value::Null,
    }
}

fn keep_item(s: &Structure, node: Node, elem: &Elem, value: &Value, set: &Set, keep_empty: bool) -> Option<Value> {
    if set.members.contains(elem) {
        return None;
    }
    match set.below(elem) {
        Some(below) => remove_below(s, node, value, below, keep_empty),
        None => Some(value.clone()),
    }
}

/// Adds every struct field that has members below it as a member itself. Sets name structs only by what they hold,
/// but to remove a struct it has to be named.
fn with_named_parents(s: &Structure, node: Node, set: &Set) -> Set {
    let mut out = Set { members: set.members.clone(), children: Default::default() };
    for (elem, below) in &set.children {
        if let Elem::Field(name) = elem
            && s.is_named_field(node, name)
        {
            out.members.insert(elem.clone());
        }
        out.children.insert(elem.clone(), with_named_parents(s, s.below(node, elem), below));
    }
    out
}
