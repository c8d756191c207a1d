//! What disappears when an applier no longer applies it.

use super::managed::Managed;
use super::paths::{Elem, Set};
use super::structure::{Form, Node, Structure};
use super::validate::field_set_lenient;
use serde_json::{Map, Value};

/// Removes from `merged` what the manager applied last time (`last`), doesn't apply now, and nobody else owns.
/// `managed` holds all managers, with the applier's new fields.
pub(super) fn prune(s: &Structure, merged: Value, managed: &Managed, last: &Set) -> Value {
    if last.is_empty() {
        return merged;
    }
    let named = |set: &Set| with_named_parents(s, s.root(), set);
    let last = named(last);
    let everything = named(&field_set_lenient(s, &merged));

    // First all of it goes, then comes back what anybody owns; that keeps parents of owned fields.
    let bare = remove(s, &merged, &last, false);
    let mut keep = named(&field_set_lenient(s, &bare));
    for owned in managed.0.values() {
        keep.add(&named(&owned.set));
    }
    let owned = remove(s, &merged, &everything.difference(&keep), true);

    // An item that went as a whole may have held fields that the applier never set. They go with it; but what is
    // gone for another reason than our last set comes back.
    let left = named(&field_set_lenient(s, &owned));
    remove(s, &merged, &everything.difference(&left).intersection(&last), true)
}

/// The value without the members of `set`. Containers that this empties stay with `keep_empty`, else they go, too:
/// they go while we find out what is left, and stay when all that goes is named, because then somebody owns them.
fn remove(s: &Structure, value: &Value, set: &Set, keep_empty: bool) -> Value {
    remove_below(s, s.root(), value, set, keep_empty).unwrap_or_else(|| Value::Object(Map::new()))
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
            (keep_empty || !left.is_empty()).then_some(Value::Object(left))
        }
        (Form::List(list), Value::Array(items)) if !items.is_empty() => {
            let left: Vec<Value> = items
                .iter()
                .filter_map(|item| match s.identify(list, item) {
                    Ok(elem) => keep_item(s, Node::Typed(list.item), &elem, item, set, keep_empty),
                    Err(_) => Some(item.clone()),
                })
                .collect();
            (keep_empty || !left.is_empty()).then_some(Value::Array(left))
        }
        _ => Some(value.clone()),
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
