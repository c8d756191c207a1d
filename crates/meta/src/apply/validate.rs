//! The set of all fields of an object, and whether the object fits its structure.

use super::paths::{Elem, Path, Set};
use super::structure::{Form, Node, Structure};
use crate::schema::{List, Shape};
use serde_json::{Map, Value};
use std::collections::BTreeSet;

/// All fields that an applied object sets.
///
/// Errors: everything in which the object doesn't fit, worded as upstream's typed objects word it:
/// `.spec.replcas: field not declared in schema`.
pub fn field_set(s: &Structure, obj: &Value) -> Result<Set, String> {
    let mut walk = Walk { s, strict: true, path: Path::default(), set: Set::new(), errors: Vec::new() };
    walk.value(s.root(), obj);
    match walk.errors.as_slice() {
        [] => Ok(walk.set),
        [one] => Err(one.clone()),
        many => Err(format!("errors:\n  {}", many.join("\n  "))),
    }
}

/// All fields of an object that the server holds already; duplicates and unknown fields are no fault.
pub(super) fn field_set_lenient(s: &Structure, obj: &Value) -> Set {
    let mut walk = Walk { s, strict: false, path: Path::default(), set: Set::new(), errors: Vec::new() };
    walk.value(s.root(), obj);
    walk.set
}

struct Walk<'w, 'a> {
    s: &'w Structure<'a>,
    strict: bool,
    path: Path,
    set: Set,
    errors: Vec<String>,
}

impl Walk<'_, '_> {
    fn fault(&mut self, what: impl std::fmt::Display) {
        if self.path.0.is_empty() {
            self.errors.push(what.to_string());
        } else {
            self.errors.push(format!("{}: {what}", self.path));
        }
    }

    fn value(&mut self, node: Node, value: &Value) {
        match self.s.form(node, value) {
            Form::Leaf => {
                if self.strict {
                    self.check_leaf(node, value);
                }
                self.set.insert(&self.path.0);
            }
            form @ (Form::Struct(_) | Form::Map(_)) => match value {
                Value::Object(map) => self.map(form, node, map),
                Value::Null => {}
                other => self.fault(format_args!("expected map, got &{{{}}}", go_text(other))),
            },
            Form::List(list) => match value {
                Value::Array(items) => self.items(list, items),
                Value::Null => {}
                other => self.fault(format_args!("expected list, got &{{{}}}", go_text(other))),
            },
        }
    }

    fn map(&mut self, form: Form, node: Node, map: &Map<String, Value>) {
        for (name, value) in map {
            let elem = Elem::field(name);
            let below = self.s.below(node, &elem);
            self.path.0.push(elem);
            let named = self.s.is_named_field(node, name);
            if let (Form::Struct(st), true, false) = (form, self.strict, named)
                && !st.preserve_unknown
            {
                self.fault("field not declared in schema");
                self.path.0.pop();
                continue;
            }
            self.value(below, value);
            let empty = value.is_null() || value.as_object().is_some_and(Map::is_empty);
            // Keys of maps are owned as keys, too; fields of structs only by what they hold.
            if empty || !named {
                self.set.insert(&self.path.0);
            }
            self.path.0.pop();
        }
    }

    fn items(&mut self, list: &List, items: &[Value]) {
        let mut seen: BTreeSet<Elem> = BTreeSet::new();
        let doubles = if self.strict { BTreeSet::new() } else { self.doubles(list, items) };
        for (i, item) in items.iter().enumerate() {
            let elem = match self.s.identify(list, item) {
                Ok(elem) => elem,
                Err(why) => {
                    self.fault(format_args!("element {i}: {why}"));
                    continue;
                }
            };
            if !seen.insert(elem.clone()) && self.strict {
                self.fault(format_args!("duplicate entries for key {elem}"));
                continue;
            }
            let double = doubles.contains(&elem);
            self.path.0.push(elem);
            if !double {
                self.value(Node::Typed(list.item), item);
            }
            self.set.insert(&self.path.0);
            self.path.0.pop();
        }
    }

    /// Identities that several items have: they are one unit, without parts.
    fn doubles(&self, list: &List, items: &[Value]) -> BTreeSet<Elem> {
        let mut seen = BTreeSet::new();
        let ids = items.iter().filter_map(|item| self.s.identify(list, item).ok());
        ids.filter(|id| !seen.insert(id.clone())).collect()
    }

    fn check_leaf(&mut self, node: Node, value: &Value) {
        let Node::Typed(ty) = node else { return };
        if value.is_null() {
            return;
        }
        match self.s.types.shape(ty) {
            Shape::Bool if !value.is_boolean() => {
                self.fault(format_args!("expected boolean, got &{{{}}}", go_text(value)))
            }
            Shape::Int32 | Shape::Int64 | Shape::Double if !value.is_number() => {
                self.fault(format_args!("expected numeric (int or float), got {}", go_type(value)))
            }
            Shape::String | Shape::Bytes | Shape::Duration if !value.is_string() => {
                self.fault(format_args!("expected string, got &value.valueUnstructured{{Value:{}}}", go_syntax(value)));
            }
            Shape::Quantity | Shape::IntOrString | Shape::Time | Shape::MicroTime
                if value.is_object() || value.is_array() =>
            {
                self.fault(format_args!("expected any scalar, got &{{{}}}", go_text(value)))
            }
            Shape::Struct(_) | Shape::Map { .. } if !value.is_object() => {
                self.fault(format_args!("expected map, got &{{{}}}", go_text(value)))
            }
            Shape::List(_) if !value.is_array() => {
                self.fault(format_args!("expected list, got &{{{}}}", go_text(value)))
            }
            _ => {}
        }
    }
}

/// Go's `%v`.
pub fn go_text(v: &Value) -> String {
    match v {
        Value::Null => "<nil>".to_string(),
        Value::String(s) => s.clone(),
        Value::Array(items) => format!("[{}]", items.iter().map(go_text).collect::<Vec<_>>().join(" ")),
        Value::Object(map) => {
            let mut parts: Vec<String> = map.iter().map(|(k, v)| format!("{k}:{}", go_text(v))).collect();
            parts.sort();
            format!("map[{}]", parts.join(" "))
        }
        other => other.to_string(),
    }
}

/// Go's `%#v`.
fn go_syntax(v: &Value) -> String {
    match v {
        Value::Null => "interface {}(nil)".to_string(),
        Value::Array(items) => {
            format!("[]interface {{}}{{{}}}", items.iter().map(go_syntax).collect::<Vec<_>>().join(", "))
        }
        Value::Object(map) => {
            let mut parts: Vec<String> = map.iter().map(|(k, v)| format!("{k:?}:{}", go_syntax(v))).collect();
            parts.sort();
            format!("map[string]interface {{}}{{{}}}", parts.join(", "))
        }
        other => other.to_string(),
    }
}

/// Go's `%T`.
fn go_type(v: &Value) -> &'static str {
    match v {
        Value::Null => "<nil>",
        Value::Bool(_) => "bool",
        Value::Number(n) if n.is_f64() => "float64",
        Value::Number(_) => "int64",
        Value::String(_) => "string",
        Value::Array(_) => "[]interface {}",
        Value::Object(_) => "map[string]interface {}",
    }
}
