//! How apply sees a type: leaves that are replaced as a whole, maps, and lists whose items have an identity.

use super::paths::{Elem, Set};
use crate::schema::{Field, List, Shape, Struct, Topology, TypeId, Types};
use serde_json::{Map, Value};

/// The structure of one kind, and what apply must know beyond it.
#[derive(Clone, Copy)]
pub struct Structure<'a> {
    pub types: &'a Types,
    pub ty: TypeId,
    /// Default of an associative list's key that an item leaves out, by the item's type
    /// (`protocol` of a ContainerPort is `TCP`).
    pub key_default: &'a (dyn Fn(TypeId, &str) -> Option<Value> + Sync),
    /// Field paths that a write to this endpoint resets, and so never owns: `["status"]` on the main resource,
    /// `["spec"]` and most of metadata on `status` (upstream: `GetResetFields`).
    pub reset: &'a [&'a [&'a str]],
    /// Where there are any, paths outside of which such a write owns nothing; `*` stands for any element
    /// (upstream: `GetResetFieldsFilter`).
    pub only: &'a [&'a [&'a str]],
    /// An object of any version of the kind in another one, in which some manager has written. `None` where there is
    /// no such version, or no converting to it.
    pub convert: &'a (dyn Fn(&str, &Value) -> Option<View<'a>> + Sync),
}

/// An object in another version of its kind.
pub struct View<'a> {
    pub types: &'a Types,
    pub ty: TypeId,
    pub object: Value,
}

impl<'a> Structure<'a> {
    pub fn new(types: &'a Types, ty: TypeId) -> Structure<'a> {
        Structure { types, ty, key_default: &|_, _| None, reset: &[], only: &[], convert: &|_, _| None }
    }

    pub fn with_versions(self, f: &'a (dyn Fn(&str, &Value) -> Option<View<'a>> + Sync)) -> Structure<'a> {
        Structure { convert: f, ..self }
    }

    /// An object as `version` has it, and the structure of that version. Where it can't be had, the object is taken
    /// to be of that version.
    pub(super) fn view(&self, version: &str, object: &Value) -> (Structure<'a>, Value) {
        match (self.convert)(version, object) {
            Some(v) => (Structure { types: v.types, ty: v.ty, ..*self }, v.object),
            None => (*self, object.clone()),
        }
    }

    pub fn with_key_default(self, f: &'a (dyn Fn(TypeId, &str) -> Option<Value> + Sync)) -> Structure<'a> {
        Structure { key_default: f, ..self }
    }

    pub fn with_reset(self, reset: &'a [&'a [&'a str]]) -> Structure<'a> {
        Structure { reset, ..self }
    }

    pub fn with_only(self, only: &'a [&'a [&'a str]]) -> Structure<'a> {
        Structure { only, ..self }
    }

    pub(super) fn root(&self) -> Node {
        Node::Typed(self.ty)
    }

    /// Without what a write to this endpoint never owns.
    pub(super) fn ownable(&self, set: &Set) -> Set {
        let mut reset = Set::new();
        for path in self.reset {
            reset.insert(&path.iter().map(|name| Elem::field(*name)).collect::<Vec<_>>());
        }
        let left = set.recursive_difference(&reset);
        if self.only.is_empty() {
            return left;
        }
        self.only.iter().fold(Set::new(), |all, path| all.union(&left.within(path)))
    }

    /// How to treat a value of this node. The value matters only where the type says nothing.
    pub(super) fn form(&self, node: Node, value: &Value) -> Form<'a> {
        let Node::Typed(ty) = node else {
            return Form::deduced(value);
        };
        match self.types.shape(ty) {
            Shape::Struct(s) if s.atomic => Form::Leaf,
            Shape::Struct(s) => Form::Struct(s),
            Shape::Map { atomic: true, .. } => Form::Leaf,
            Shape::Map { value, .. } => Form::Map(Node::Typed(*value)),
            Shape::List(l) if l.topology == Topology::Atomic => Form::Leaf,
            Shape::List(l) => Form::List(l),
            // A named type of any JSON is a Go type, which upstream's OpenAPI leaves untyped and atomic;
            // a nameless one is a part of a custom resource whose structure is deduced.
            Shape::Any if self.types.get(ty).name.is_empty() => Form::deduced(value),
            _ => Form::Leaf,
        }
    }

    /// Whether `name` is a field of a struct here, rather than a key of a map.
    pub(super) fn is_named_field(&self, node: Node, name: &str) -> bool {
        match node {
            Node::Typed(ty) => {
                matches!(self.types.shape(ty), Shape::Struct(s) if s.field(name).is_some())
            }
            Node::Deduced => false,
        }
    }

    /// The node one step down.
    pub(super) fn below(&self, node: Node, elem: &Elem) -> Node {
        let Node::Typed(ty) = node else {
            return Node::Deduced;
        };
        match (self.types.shape(ty), elem) {
            (Shape::Struct(s), Elem::Field(name)) => s.field(name).map_or(Node::Deduced, |f| Node::Typed(f.ty)),
            (Shape::Map { value, .. }, Elem::Field(_)) => Node::Typed(*value),
            (Shape::List(l), _) => Node::Typed(l.item),
            _ => Node::Deduced,
        }
    }

    /// The identity of a list's item.
    pub(super) fn identify(&self, list: &List, item: &Value) -> Result<Elem, String> {
        match &list.topology {
            Topology::Atomic => Err("atomic list has no items with an identity".to_string()),
            Topology::Set => match item {
                Value::Null => Err("associative list without keys has an element that's explicitly null".to_string()),
                Value::Object(_) => Err("associative list without keys has an element that's a map type".to_string()),
                Value::Array(_) => Err("associative list without keys has an element that's a list type".to_string()),
                scalar => Ok(Elem::value(scalar)),
            },
            Topology::Map { keys } => {
                let Value::Object(fields) = item else {
                    return Err(match item {
                        Value::Null => "associative list with keys may not have a null element".to_string(),
                        _ => "associative list with keys may not have non-map elements".to_string(),
                    });
                };
                let found: Vec<(&str, Value)> = keys
                    .iter()
                    .filter_map(|key| {
                        let value = fields.get(key).cloned().or_else(|| (self.key_default)(list.item, key))?;
                        Some((key.as_str(), value))
                    })
                    .collect();
                if found.is_empty() && !keys.is_empty() {
                    let quoted: Vec<String> = keys.iter().map(|k| format!("{k:?}")).collect();
                    return Err(format!(
                        "associative list with keys has an element that omits all key fields [{}] (and doesn't have default values for any key fields)",
                        quoted.join(" ")
                    ));
                }
                Ok(Elem::key(found))
            }
        }
    }

    /// What a Go struct has in its JSON where ours has nothing: embedded structs are written even when empty, and
    /// nil lists without `omitempty` as null. Upstream compares such objects, and so must we.
    pub(super) fn implied(&self, field: &Field) -> Option<&'static Value> {
        static EMPTY: std::sync::LazyLock<Value> = std::sync::LazyLock::new(|| Value::Object(Map::new()));
        // Only types that come from Go have protobuf numbers; custom resources have no implied fields.
        if field.pointer || field.proto == 0 {
            return None;
        }
        match self.types.shape(field.ty) {
            Shape::Struct(_) => Some(&EMPTY),
            Shape::List(_) | Shape::Map { .. } if !field.omitempty => Some(&Value::Null),
            _ => None,
        }
    }
}

/// Where a walk stands.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Node {
    Typed(TypeId),
    /// Nothing is known: maps merge by key, lists are atomic.
    Deduced,
}

#[derive(Clone, Copy)]
pub(super) enum Form<'a> {
    Leaf,
    Struct(&'a Struct),
    Map(Node),
    List(&'a List),
}

impl Form<'_> {
    fn deduced(value: &Value) -> Form<'static> {
        if value.is_object() { Form::Map(Node::Deduced) } else { Form::Leaf }
    }
}
