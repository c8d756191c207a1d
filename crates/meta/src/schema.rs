//! Structure of objects as data: one arena of types that serves built-in and custom resources alike.
//!
//! Built-in types come from the fact table of the `api` crate, custom ones from a
//! CustomResourceDefinition's structural schema. Decoding, pruning, unknown-field detection, protobuf,
//! strategic merge patch, server-side apply and OpenAPI all walk this arena.
//!
//! List topology (`atomic`, `set`, `map`) and patch strategy belong to a *field's* type node, so two
//! fields with the same item type but other topology refer to two list nodes.

use std::collections::HashMap;

/// Index of a type in its [`Types`] arena.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct TypeId(pub u32);

/// An arena of types. Built-in kinds share one; each version of a custom resource owns one.
#[derive(Debug, Default)]
pub struct Types {
    pub types: Vec<Type>,
    /// Named types only, for example `api.core.v1.PodSpec`.
    pub by_name: HashMap<String, TypeId>,
}

#[derive(Debug, Clone)]
pub struct Type {
    /// The upstream name (`api.core.v1.PodSpec`); empty for anonymous lists, maps and scalars.
    pub name: String,
    pub shape: Shape,
}

#[derive(Debug, Clone)]
pub enum Shape {
    Struct(Struct),
    /// String keys, values of one type. `atomic`: replaced as a whole by apply (`map_type: atomic`).
    Map {
        value: TypeId,
        atomic: bool,
    },
    List(List),
    Bool,
    Int32,
    Int64,
    Double,
    String,
    /// Base64 in JSON, raw in protobuf.
    Bytes,
    Quantity,
    IntOrString,
    /// RFC 3339 in whole seconds.
    Time,
    /// RFC 3339 with microseconds.
    MicroTime,
    /// `metav1.Duration`, a Go duration string.
    Duration,
    /// A managedFields set; opaque JSON in JSON, `Raw` bytes in protobuf.
    FieldsV1,
    /// `runtime.RawExtension`: any embedded object.
    RawExtension,
    /// Any JSON value (`apiextensions.v1.JSON` and schema-less parts of custom resources).
    Any,
}

#[derive(Debug, Clone, Default)]
pub struct Struct {
    /// In Go's declaration order, which is the order of upstream's JSON.
    pub fields: Vec<Field>,
    /// Position in `fields` by JSON name.
    pub by_name: HashMap<String, u32>,
    /// The whole struct is one unit for apply (`map_type: atomic`, for example `LabelSelector`).
    pub atomic: bool,
    /// Keep fields that the schema doesn't know (`x-kubernetes-preserve-unknown-fields`).
    pub preserve_unknown: bool,
    /// JSON fields are embedded objects with TypeMeta and ObjectMeta (`x-kubernetes-embedded-resource`).
    pub embedded_resource: bool,
}

#[derive(Debug, Clone)]
pub struct Field {
    pub name: String,
    pub ty: TypeId,
    pub required: bool,
    /// Go pointer: absent and zero are different values.
    pub pointer: bool,
    /// Go `omitempty`: a zero value is left out of the JSON.
    pub omitempty: bool,
    /// Protobuf field number; 0 where there is none.
    pub proto: u32,
    /// `retainKeys` patch strategy of a struct field (for example Deployment's `strategy`).
    pub retain_keys: bool,
    /// `replace` patch strategy: strategic merge replaces the field's map as a whole (a PodDisruptionBudget's `selector`).
    pub patch_replaces: bool,
}

#[derive(Debug, Clone)]
pub struct List {
    pub item: TypeId,
    pub topology: Topology,
    /// Strategic merge patch: `patchStrategy: merge` on this list.
    pub patch_merge: bool,
    /// Strategic merge patch: the one key by which items of objects are matched.
    pub merge_key: Option<String>,
}

/// `x-kubernetes-list-type`, which server-side apply goes by.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Topology {
    Atomic,
    Set,
    Map { keys: Vec<String> },
}

impl Types {
    pub fn get(&self, id: TypeId) -> &Type {
        &self.types[id.0 as usize]
    }

    pub fn shape(&self, id: TypeId) -> &Shape {
        &self.types[id.0 as usize].shape
    }

    pub fn named(&self, name: &str) -> Option<TypeId> {
        self.by_name.get(name).copied()
    }

    pub fn push(&mut self, ty: Type) -> TypeId {
        let id = TypeId(self.types.len() as u32);
        if !ty.name.is_empty() {
            self.by_name.insert(ty.name.clone(), id);
        }
        self.types.push(ty);
        id
    }
}

impl Struct {
    pub fn field(&self, name: &str) -> Option<&Field> {
        self.by_name.get(name).map(|i| &self.fields[*i as usize])
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn types_are_found_by_name_and_fields_too() {
        let (types, root) = crate::testing::deployment();
        assert_eq!(types.named("Deployment"), Some(root));
        assert_eq!(types.named("Pod"), None);
        let Shape::Struct(s) = types.shape(root) else { panic!("no struct") };
        assert_eq!(s.field("spec").map(|f| types.get(f.ty).name.as_str()), Some("Spec"));
        assert!(s.field("sepc").is_none());
    }
}
