//! A schema as an arena of types, by which server-side apply walks custom objects as it does built-in ones.

use super::prune::META_FIELDS;
use super::schema::{Additional, Kind, ListType, Schema};
use crate::facts;
use meta::schema::{Field, List, Shape, Struct, Topology, Type, TypeId, Types};
use std::collections::HashMap;

/// The arena of one version of a custom resource, and its root.
pub fn types(schema: &Schema) -> (Types, TypeId) {
    let mut builder = Builder { types: Types::default(), copied: HashMap::new() };
    let root = builder.node(schema, true);
    (builder.types, root)
}

struct Builder {
    types: Types,
    /// Built-in types that were taken over (ObjectMeta and what it holds).
    copied: HashMap<TypeId, TypeId>,
}

impl Builder {
    fn push(&mut self, shape: Shape) -> TypeId {
        self.types.push(Type { name: String::new(), shape })
    }

    fn node(&mut self, s: &Schema, root: bool) -> TypeId {
        if s.int_or_string {
            return self.push(Shape::IntOrString);
        }
        match s.kind {
            Some(Kind::Object) => self.object(s, root),
            Some(Kind::Array) => {
                let item = match &s.items {
                    Some(i) => self.node(i, false),
                    None => self.push(Shape::Any),
                };
                let topology = match &s.list_type {
                    ListType::Atomic => Topology::Atomic,
                    ListType::Set => Topology::Set,
                    ListType::Map(keys) => Topology::Map { keys: keys.clone() },
                };
                self.push(Shape::List(List { item, topology, patch_merge: false, merge_key: None }))
            }
            Some(Kind::String) => self.push(Shape::String),
            Some(Kind::Integer) => self.push(Shape::Int64),
            Some(Kind::Number) => self.push(Shape::Double),
            Some(Kind::Boolean) => self.push(Shape::Bool),
            None => self.push(Shape::Any),
        }
    }

    fn object(&mut self, s: &Schema, root: bool) -> TypeId {
        if let Additional::Schema(value) = &s.additional {
            let value = self.node(value, false);
            return self.push(Shape::Map { value, atomic: s.map_atomic });
        }
        if let Additional::Allowed(true) = s.additional {
            let value = self.push(Shape::Any);
            return self.push(Shape::Map { value, atomic: s.map_atomic });
        }
        if s.properties.is_empty() && s.preserve_unknown && !root && !s.embedded_resource && !s.map_atomic {
            // Structure is deduced from the values.
            return self.push(Shape::Any);
        }
        let mut out = Struct {
            atomic: s.map_atomic && !root,
            preserve_unknown: s.preserve_unknown,
            embedded_resource: s.embedded_resource,
            ..Struct::default()
        };
        if root || s.embedded_resource {
            let text = self.push(Shape::String);
            let metadata = match facts::types().named(facts::OBJECT_META) {
                Some(id) => self.copy(id),
                None => self.push(Shape::Any),
            };
            for (name, ty) in META_FIELDS.into_iter().zip([text, text, metadata]) {
                add(&mut out, name, ty, false);
            }
        }
        for (name, property) in &s.properties {
            if (root || s.embedded_resource) && META_FIELDS.contains(&name.as_str()) {
                continue;
            }
            let ty = self.node(property, false);
            add(&mut out, name, ty, s.required.contains(name));
        }
        self.push(Shape::Struct(out))
    }

    /// A built-in type with all that it refers to, without protobuf numbers: nothing is implied in custom objects.
    fn copy(&mut self, id: TypeId) -> TypeId {
        if let Some(done) = self.copied.get(&id) {
            return *done;
        }
        let source = facts::types().get(id).clone();
        let here = self.types.push(Type { name: source.name.clone(), shape: Shape::Any });
        self.copied.insert(id, here);
        let shape = match source.shape {
            Shape::Struct(mut s) => {
                for f in &mut s.fields {
                    f.ty = self.copy(f.ty);
                    f.proto = 0;
                }
                Shape::Struct(s)
            }
            Shape::List(l) => Shape::List(List { item: self.copy(l.item), ..l }),
            Shape::Map { value, atomic } => Shape::Map { value: self.copy(value), atomic },
            scalar => scalar,
        };
        self.types.types[here.0 as usize].shape = shape;
        here
    }
}

fn add(s: &mut Struct, name: &str, ty: TypeId, required: bool) {
    s.by_name.insert(name.to_string(), s.fields.len() as u32);
    s.fields.push(Field {
        name: name.to_string(),
        ty,
        required,
        pointer: true,
        omitempty: true,
        proto: 0,
        retain_keys: false,
        patch_replaces: false,
    });
}
