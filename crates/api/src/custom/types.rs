//! A schema as an arena of types, by which server-side apply walks custom objects as it does built-in ones.

use super::prune::META_FIELDS;
use super::schema::{Additional, Kind, ListType, Schema};
use crate::facts;
use meta::schema::{Field, List, Shape, Struct, Topology, Type, TypeId, Types};
use std::collections::HashMap;
use std::mem::{Discriminant, discriminant};

/// The arena of one version of a custom resource, and its root.
pub fn types(schema: &Schema) -> (Types, TypeId) {
    let mut builder = Builder { types: Types::default(), leaves: HashMap::new(), copied: HashMap::new() };
    let root = builder.node(schema, true);
    builder.types.types.shrink_to_fit();
    (builder.types, root)
}

struct Builder {
    types: Types,
    /// Shapes with nothing below, one type of each for all fields: most fields are strings.
    leaves: HashMap<Discriminant<Shape>, TypeId>,
    /// Built-in types that were taken over (ObjectMeta and what it holds).
    copied: HashMap<TypeId, TypeId>,
}

impl Builder {
    fn push(&mut self, shape: Shape) -> TypeId {
        self.types.push(Type { name: String::new(), shape })
    }

    fn leaf(&mut self, shape: Shape) -> TypeId {
        let types = &mut self.types;
        let push = || types.push(Type { name: String::new(), shape: shape.clone() });
        *self.leaves.entry(discriminant(&shape)).or_insert_with(push)
    }

    fn node(&mut self, s: &Schema, root: bool) -> TypeId {
        if s.int_or_string {
            return self.leaf(Shape::IntOrString);
        }
        match s.kind {
            Some(Kind::Object) => self.object(s, root),
            Some(Kind::Array) => {
                let item = match &s.items {
                    Some(i) => self.node(i, false),
                    None => self.leaf(Shape::Any),
                };
                let topology = match &s.list_type {
                    ListType::Atomic => Topology::Atomic,
                    ListType::Set => Topology::Set,
                    ListType::Map(keys) => Topology::Map { keys: keys.to_vec() },
                };
                self.push(Shape::List(List { item, topology, patch_merge: false, merge_key: None }))
            }
            Some(Kind::String) => self.leaf(Shape::String),
            Some(Kind::Integer) => self.leaf(Shape::Int64),
            Some(Kind::Number) => self.leaf(Shape::Double),
            Some(Kind::Boolean) => self.leaf(Shape::Bool),
            None => self.leaf(Shape::Any),
        }
    }

    fn object(&mut self, s: &Schema, root: bool) -> TypeId {
        if let Additional::Schema(value) = &s.additional {
            let value = self.node(value, false);
            return self.push(Shape::Map { value, atomic: s.map_atomic });
        }
        if let Additional::Allowed(true) = s.additional {
            let value = self.leaf(Shape::Any);
            return self.push(Shape::Map { value, atomic: s.map_atomic });
        }
        if s.properties.is_empty() && s.preserve_unknown && !root && !s.embedded_resource && !s.map_atomic {
            // Structure is deduced from the values.
            return self.leaf(Shape::Any);
        }
        let mut out = Struct {
            atomic: s.map_atomic && !root,
            preserve_unknown: s.preserve_unknown,
            embedded_resource: s.embedded_resource,
            ..Struct::default()
        };
        if root || s.embedded_resource {
            let text = self.leaf(Shape::String);
            let metadata = match facts::types().named(facts::OBJECT_META) {
                Some(id) => self.copy(id),
                None => self.leaf(Shape::Any),
            };
            for (name, ty) in META_FIELDS.into_iter().zip([text, text, metadata]) {
                add(&mut out, name, ty, false);
            }
        }
        for (name, property) in s.properties.iter() {
            if (root || s.embedded_resource) && META_FIELDS.contains(&name) {
                continue;
            }
            let ty = self.node(property, false);
            add(&mut out, name, ty, s.required.iter().any(|r| r == name));
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
