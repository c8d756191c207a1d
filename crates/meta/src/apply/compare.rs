//! What differs between two objects, as sets of fields.

use super::paths::{Elem, Path, Set};
use super::structure::{Form, Node, Structure};
use crate::schema::List;
use serde_json::{Map, Value};
use std::collections::{BTreeMap, BTreeSet};

/// The difference of two objects. A field is in at most one of the sets (but for an item that gets a duplicate, or
/// loses its last); what appears or goes brings its parents that appear or go with it.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Comparison {
    pub added: Set,
    pub modified: Set,
    pub removed: Set,
}

impl Comparison {
    /// Without what a write to the endpoint never owns.
    pub(super) fn ownable(self, s: &Structure) -> Comparison {
        Comparison {
            added: s.ownable(&self.added),
            modified: s.ownable(&self.modified),
            removed: s.ownable(&self.removed),
        }
    }
}

/// Compares `old` with `new`.
pub fn compare(s: &Structure, old: &Value, new: &Value) -> Comparison {
    run(s, old, new, false)
}

/// As [`compare`], but with the fields that Go would have written on both sides.
pub(super) fn compare_as_go(s: &Structure, old: &Value, new: &Value) -> Comparison {
    run(s, old, new, true)
}

fn run(s: &Structure, old: &Value, new: &Value, go: bool) -> Comparison {
    let mut walk = Walk { s, go, path: Vec::new(), out: Comparison::default() };
    walk.value(s.root(), Some(old), Some(new));
    walk.out
}

/// Equality of JSON where `1` is `1.0`.
pub fn value_eq(a: &Value, b: &Value) -> bool {
    match (a, b) {
        (Value::Number(x), Value::Number(y)) => x == y || (x.as_f64() == y.as_f64() && (x.is_f64() || y.is_f64())),
        (Value::Array(x), Value::Array(y)) => x.len() == y.len() && x.iter().zip(y).all(|(a, b)| value_eq(a, b)),
        (Value::Object(x), Value::Object(y)) => {
            x.len() == y.len() && x.iter().all(|(k, v)| y.get(k).is_some_and(|w| value_eq(v, w)))
        }
        _ => a == b,
    }
}

struct Walk<'w, 'a> {
    s: &'w Structure<'a>,
    go: bool,
    path: Vec<Elem>,
    out: Comparison,
}

impl Walk<'_, '_> {
    fn value(&mut self, node: Node, old: Option<&Value>, new: Option<&Value>) {
        let Some(either) = new.filter(|v| !v.is_null()).or(old).or(new) else {
            return;
        };
        let form = self.s.form(node, either);
        // A deduced node can change its form; then both sides are walked on their own.
        if node_is_open(form, old, new) {
            self.out.modified.insert(&self.path);
            self.children(Form::Map(Node::Deduced), old.and_then(Value::as_object), new.and_then(Value::as_object));
            return;
        }
        match form {
            Form::Leaf => return self.leaf(old, new),
            Form::Struct(_) | Form::Map(_) => {
                let (a, b) = (old.and_then(Value::as_object), new.and_then(Value::as_object));
                if !self.has_children(form, a) && !self.has_children(form, b) {
                    return self.leaf(old, new);
                }
                self.children(form, a, b);
            }
            Form::List(list) => {
                let (a, b) = (old.and_then(Value::as_array), new.and_then(Value::as_array));
                if a.is_none_or(Vec::is_empty) && b.is_none_or(Vec::is_empty) {
                    return self.leaf(old, new);
                }
                if !self.items(list, a.map_or(&[], Vec::as_slice), b.map_or(&[], Vec::as_slice)) {
                    return self.leaf(old, new);
                }
            }
        }
        // A container that appears or goes is a change of its own, besides those of what it holds.
        if old.is_none() {
            self.out.added.insert(&self.path);
        } else if new.is_none() {
            self.out.removed.insert(&self.path);
        }
    }

    fn leaf(&mut self, old: Option<&Value>, new: Option<&Value>) {
        match (old, new) {
            (None, _) => self.out.added.insert(&self.path),
            (_, None) => self.out.removed.insert(&self.path),
            (Some(a), Some(b)) if !value_eq(a, b) => self.out.modified.insert(&self.path),
            _ => {}
        }
    }

    fn has_children(&self, form: Form, map: Option<&Map<String, Value>>) -> bool {
        let Some(map) = map else { return false };
        match form {
            Form::Struct(st) if self.go && map.is_empty() => st.fields.iter().any(|f| self.s.implied(f).is_some()),
            _ => !map.is_empty(),
        }
    }

    fn children(&mut self, form: Form, old: Option<&Map<String, Value>>, new: Option<&Map<String, Value>>) {
        let mut names: BTreeSet<&str> = old.into_iter().chain(new).flat_map(|m| m.keys()).map(String::as_str).collect();
        if let (true, Form::Struct(st)) = (self.go, form) {
            names.extend(st.fields.iter().filter(|f| self.s.implied(f).is_some()).map(|f| f.name.as_str()));
        }
        for name in names {
            let (node, implied) = match form {
                Form::Struct(st) => match st.field(name) {
                    Some(f) => (Node::Typed(f.ty), if self.go { self.s.implied(f) } else { None }),
                    None => (Node::Deduced, None),
                },
                Form::Map(node) => (node, None),
                Form::Leaf | Form::List(_) => return,
            };
            let a = old.and_then(|m| m.get(name).or(implied));
            let b = new.and_then(|m| m.get(name).or(implied));
            self.below(Elem::field(name), node, a, b);
        }
    }

    fn below(&mut self, elem: Elem, node: Node, old: Option<&Value>, new: Option<&Value>) {
        self.path.push(elem);
        self.value(node, old, new);
        self.path.pop();
    }

    /// False when items can't be told apart; then the list is to be treated as a leaf.
    fn items(&mut self, list: &List, old: &[Value], new: &[Value]) -> bool {
        let (Some(a), Some(b)) = (self.index(list, old), self.index(list, new)) else {
            return false;
        };
        let elems: BTreeSet<&Elem> = a.keys().chain(b.keys()).collect();
        for elem in elems {
            let (x, y) = (a.get(elem).map_or(&[][..], Vec::as_slice), b.get(elem).map_or(&[][..], Vec::as_slice));
            if x.len() <= 1 && y.len() <= 1 {
                self.below(elem.clone(), Node::Typed(list.item), x.first().copied(), y.first().copied());
                continue;
            }
            // Duplicates, which old objects may have: all items of one identity are one unit, without parts.
            let path = Path(self.path.clone()).join(elem.clone());
            match (x, y) {
                ([one], _) => {
                    self.below(elem.clone(), Node::Typed(list.item), Some(one), None);
                    self.out.added.insert(&path.0);
                }
                (_, [one]) => {
                    self.below(elem.clone(), Node::Typed(list.item), None, Some(one));
                    self.out.removed.insert(&path.0);
                }
                ([], _) => self.out.added.insert(&path.0),
                (_, []) => self.out.removed.insert(&path.0),
                _ if x.len() != y.len() || !x.iter().zip(y).all(|(a, b)| value_eq(a, b)) => {
                    self.out.modified.insert(&path.0);
                }
                _ => {}
            }
        }
        true
    }

    fn index<'v>(&self, list: &List, items: &'v [Value]) -> Option<BTreeMap<Elem, Vec<&'v Value>>> {
        let mut out: BTreeMap<Elem, Vec<&Value>> = BTreeMap::new();
        for item in items {
            out.entry(self.s.identify(list, item).ok()?).or_default().push(item);
        }
        Some(out)
    }
}

/// Whether one side is a map and the other neither map nor nothing, where the type allows both.
fn node_is_open(form: Form, old: Option<&Value>, new: Option<&Value>) -> bool {
    let (Some(a), Some(b)) = (old, new) else {
        return false;
    };
    let deduced = matches!(form, Form::Leaf | Form::Map(Node::Deduced));
    let mixed = a.is_object() != b.is_object() && !a.is_null() && !b.is_null();
    // An atomic struct holds maps on both sides, so a mix means a deduced node.
    deduced && mixed
}
