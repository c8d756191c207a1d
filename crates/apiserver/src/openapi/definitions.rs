//! Types as JSON schemas, each named type once.

use super::custom::{self, Native};
use super::descriptions::Descriptions;
use super::pieces::{Form, Pieces};
use api::catalogue::Resource;
use api::facts::{facts, types as builtin_types};
use meta::schema::{Field, Shape, Struct, Topology, TypeId, Types};
use serde_json::{Map, Value, json};
use std::collections::HashMap;
use std::sync::Arc;

/// The two generations of OpenAPI differ in how they refer and in what a schema may say.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Flavor {
    V2,
    V3,
}

/// Collects the definitions that paths refer to, and what those refer to in turn.
pub struct Definitions {
    pub flavor: Flavor,
    pub form: Form,
    /// Empty while a definition is being written, so that types that contain themselves end.
    done: Pieces,
    /// Built-in types that are referred to and not yet written.
    queue: Vec<TypeId>,
    texts: Descriptions,
    enums: HashMap<&'static str, Vec<(&'static str, Vec<&'static str>)>>,
}

const META: &str = "apimachinery.pkg.apis.meta.v1.";
/// It has the metadata of lists, and words for it.
const STATUS: &str = "apimachinery.pkg.apis.meta.v1.Status";
const CONVENTIONS: &str = "https://git.k8s.io/community/contributors/devel/sig-architecture/api-conventions.md";

/// `api.apps.v1.Deployment` → `io.k8s.api.apps.v1.Deployment`
fn definition_name(type_name: &str) -> String {
    format!("io.k8s.{}", type_name.replace('_', "-"))
}

/// `stable.example.com`, `v1`, `CronTab` → `com.example.stable.v1.CronTab`
fn custom_name(group: &str, version: &str, kind: &str) -> String {
    let mut parts: Vec<&str> = group.rsplit('.').collect();
    parts.extend([version, kind]);
    parts.join(".")
}

impl Definitions {
    pub fn new(flavor: Flavor, form: Form) -> Self {
        let (texts, enums) = (Descriptions::unpack(), api::facts::enums());
        Definitions { flavor, form, done: Pieces::new(), queue: Vec::new(), texts, enums }
    }

    fn put(&mut self, name: String, schema: &Value) {
        self.done.insert(name, self.form.definition(schema));
    }

    fn reference(&self, name: &str) -> Value {
        match self.flavor {
            Flavor::V2 => json!({"$ref": format!("#/definitions/{name}")}),
            Flavor::V3 => json!({"$ref": format!("#/components/schemas/{name}")}),
        }
    }

    /// A reference to a built-in type by its name in the facts.
    pub fn named(&mut self, type_name: &str) -> Value {
        match builtin_types().named(type_name) {
            Some(ty) => self.refer(ty),
            None => json!({"type": "object"}),
        }
    }

    /// A reference to `metav1.NAME`.
    pub fn meta(&mut self, name: &str) -> Value {
        self.named(&format!("{META}{name}"))
    }

    /// A reference to a built-in kind.
    pub fn kind(&mut self, group: &str, version: &str, kind: &str) -> Option<Value> {
        let ty = facts().kind(group, version, kind)?;
        Some(self.refer(ty))
    }

    fn refer(&mut self, ty: TypeId) -> Value {
        let name = definition_name(&builtin_types().get(ty).name);
        if !self.done.contains_key(&name) {
            self.done.insert(name.clone(), Box::default());
            self.queue.push(ty);
        }
        self.reference(&name)
    }

    /// A reference to the body of a merge, JSON or apply patch.
    pub fn patch(&mut self) -> Value {
        let name = definition_name(&format!("{META}Patch"));
        self.put(name.clone(), &json!({"type": "object"}));
        self.reference(&name)
    }

    /// A reference to a row's objects.
    pub fn object(&mut self, r: &Resource) -> Value {
        if r.is_builtin() {
            return self.refer(r.types().1);
        }
        let name = custom_name(&r.group, &r.version, &r.kind);
        if !self.done.contains_key(&name) {
            self.done.insert(name.clone(), Box::default());
            let schema = self.custom(r);
            self.put(name.clone(), &schema);
        }
        self.reference(&name)
    }

    /// A reference to lists of a row's objects.
    pub fn list(&mut self, r: &Resource) -> Value {
        if r.is_builtin() {
            return self.kind(&r.group, &r.version, &r.list_kind).unwrap_or_else(|| json!({"type": "object"}));
        }
        let name = custom_name(&r.group, &r.version, &r.list_kind);
        if !self.done.contains_key(&name) {
            let item = self.object(r);
            let native = self.native("ListMeta", STATUS);
            let schema = json!({
                "description": format!("{} is a list of {}", r.list_kind, r.kind),
                "type": "object",
                "required": ["items"],
                "properties": {
                    "apiVersion": native.api_version,
                    "kind": native.kind,
                    "metadata": native.metadata,
                    "items": {"type": "array", "items": item,
                        "description": format!("List of {}. More info: {CONVENTIONS}", r.plural)},
                },
                "x-kubernetes-group-version-kind":
                    [{"group": r.group, "version": r.version, "kind": r.list_kind}],
            });
            self.put(name.clone(), &schema);
        }
        self.reference(&name)
    }

    /// The fields that every object has, in the words that built-in kinds have for them. `like`: whose words.
    fn native(&mut self, metadata: &str, like: &str) -> Native {
        let metadata = self.meta(metadata);
        let texts = self.texts.of(&definition_name(like));
        let text =
            |field: &str| json!({"type": "string", "description": texts.get(field).copied().unwrap_or_default()});
        let mut metadata = match self.flavor {
            Flavor::V2 => metadata,
            // Nothing may stand beside a reference in v3.
            Flavor::V3 => json!({"allOf": [metadata]}),
        };
        metadata["description"] = texts.get("metadata").copied().unwrap_or_default().into();
        Native { api_version: text("apiVersion"), kind: text("kind"), metadata }
    }

    /// A custom resource: its own schema where its strategy keeps one (with descriptions), else its type.
    fn custom(&mut self, r: &Resource) -> Value {
        let schema = match r.strategy.openapi_schema() {
            Some(schema) => schema,
            None => {
                let (types, id) = r.types();
                Arc::new(self.schema(&types, id, false))
            }
        };
        let native = self.native("ObjectMeta", "api.core.v1.ConfigMap");
        let mut schema = custom::publish(&schema, self.flavor, &native);
        schema["x-kubernetes-group-version-kind"] = json!([{"group": r.group, "version": r.version, "kind": r.kind}]);
        let selectable: Vec<Value> =
            r.strategy.selectable_fields(&Value::Null).iter().map(|(field, _)| json!({"fieldPath": field})).collect();
        if !selectable.is_empty() {
            schema["x-kubernetes-selectable-fields"] = selectable.into();
        }
        schema
    }

    /// Everything that was referred to.
    pub fn finish(mut self) -> Pieces {
        while let Some(ty) = self.queue.pop() {
            let types = builtin_types().clone();
            let name = definition_name(&types.get(ty).name);
            let mut schema = self.schema(&types, ty, true);
            self.enumerate(&types.get(ty).name, &mut schema);
            self.describe(&name, &mut schema);
            if let Some(gvk) = facts().gvk.get(&ty) {
                schema["x-kubernetes-group-version-kind"] =
                    json!([{"group": gvk.group, "version": gvk.version, "kind": gvk.kind}]);
            }
            self.put(name, &schema);
        }
        self.done
    }

    /// What a type of `metav1` and its fields are for.
    pub fn texts_of_meta(&self, name: &str) -> HashMap<&str, &str> {
        self.texts.of(&definition_name(&format!("{META}{name}")))
    }

    /// Adds the values that a built-in type's fields may have; those of a list or map are its items'.
    fn enumerate(&self, type_name: &str, schema: &mut Value) {
        for (field, values) in self.enums.get(type_name).into_iter().flatten() {
            let mut at = &mut schema["properties"][field];
            for inner in ["items", "additionalProperties"] {
                if at.get(inner).is_some() {
                    at = &mut at[inner];
                }
            }
            at["enum"] = json!(values);
        }
    }

    /// Adds what a built-in type and its fields are for.
    fn describe(&self, name: &str, schema: &mut Value) {
        let mut texts = self.texts.of(name);
        let item = schema["properties"]["items"]["items"]["$ref"].as_str();
        let item = item.and_then(|r| r.rsplit('/').next()).filter(|item| name.strip_suffix("List") == Some(item));
        // Of lists the data know nothing.
        let kind = item.and_then(|item| item.rsplit('.').next()).unwrap_or_default();
        let [what, items] = [format!("{kind}List is a list of {kind}."), format!("The objects, of kind {kind}.")];
        if item.is_some() {
            texts = self.texts.of(&definition_name(STATUS));
            texts.extend([("", what.as_str()), ("items", items.as_str())]);
        }
        if let Some(text) = texts.get("") {
            schema["description"] = (*text).into();
        }
        let Some(properties) = schema.get_mut("properties").and_then(Value::as_object_mut) else {
            return;
        };
        for (field, property) in properties {
            let Some(text) = texts.get(field.as_str()) else { continue };
            if property.get("$ref").is_some() && self.flavor == Flavor::V3 {
                // Nothing may stand beside a reference in v3.
                *property = json!({"allOf": [property.take()]});
            }
            property["description"] = (*text).into();
        }
    }

    /// The schema of a type. Named built-in types are written out only where they are the definition itself.
    fn schema(&mut self, types: &Types, ty: TypeId, definition: bool) -> Value {
        let t = types.get(ty);
        if !definition && !t.name.is_empty() && std::ptr::eq(types, &**builtin_types()) {
            return self.refer(ty);
        }
        match &t.shape {
            Shape::Struct(s) => self.structure(types, s),
            Shape::Map { value, atomic } => {
                let mut out = json!({"type": "object", "additionalProperties": self.schema(types, *value, false)});
                if *atomic {
                    out["x-kubernetes-map-type"] = "atomic".into();
                }
                out
            }
            Shape::List(l) => {
                let mut out = json!({"type": "array", "items": self.schema(types, l.item, false)});
                let (kind, keys) = match &l.topology {
                    Topology::Atomic => ("atomic", None),
                    Topology::Set => ("set", None),
                    Topology::Map { keys } => ("map", Some(keys)),
                };
                out["x-kubernetes-list-type"] = kind.into();
                if let Some(keys) = keys {
                    out["x-kubernetes-list-map-keys"] = json!(keys);
                }
                if l.patch_merge {
                    out["x-kubernetes-patch-strategy"] = "merge".into();
                }
                if let Some(key) = &l.merge_key {
                    out["x-kubernetes-patch-merge-key"] = json!(key);
                }
                out
            }
            Shape::Bool => json!({"type": "boolean"}),
            Shape::Int32 => json!({"type": "integer", "format": "int32"}),
            Shape::Int64 => json!({"type": "integer", "format": "int64"}),
            Shape::Double => json!({"type": "number", "format": "double"}),
            Shape::String | Shape::Duration => json!({"type": "string"}),
            Shape::Bytes => json!({"type": "string", "format": "byte"}),
            Shape::Quantity => match self.flavor {
                Flavor::V2 => json!({"type": "string"}),
                Flavor::V3 => json!({"oneOf": [{"type": "string"}, {"type": "number"}]}),
            },
            Shape::IntOrString => match self.flavor {
                Flavor::V2 => json!({"type": "string", "format": "int-or-string"}),
                Flavor::V3 => {
                    json!({"format": "int-or-string", "oneOf": [{"type": "integer"}, {"type": "string"}]})
                }
            },
            Shape::Time | Shape::MicroTime => json!({"type": "string", "format": "date-time"}),
            Shape::FieldsV1 | Shape::RawExtension => json!({"type": "object"}),
            Shape::Any if definition || !t.name.is_empty() => json!({}),
            Shape::Any => json!({"x-kubernetes-preserve-unknown-fields": true}),
        }
    }

    fn structure(&mut self, types: &Types, s: &Struct) -> Value {
        let mut properties = Map::new();
        for f in &s.fields {
            properties.insert(f.name.clone(), self.field(types, f));
        }
        let mut out = json!({"type": "object"});
        if !properties.is_empty() {
            out["properties"] = Value::Object(properties);
        }
        let mut required: Vec<&str> = s.fields.iter().filter(|f| f.required).map(|f| f.name.as_str()).collect();
        required.sort_unstable();
        if !required.is_empty() {
            out["required"] = json!(required);
        }
        if s.atomic {
            out["x-kubernetes-map-type"] = "atomic".into();
        }
        if s.preserve_unknown {
            out["x-kubernetes-preserve-unknown-fields"] = true.into();
        }
        if s.embedded_resource {
            out["x-kubernetes-embedded-resource"] = true.into();
        }
        out
    }

    fn field(&mut self, types: &Types, f: &Field) -> Value {
        let mut out = self.schema(types, f.ty, false);
        if f.retain_keys || f.patch_replaces {
            if out.get("$ref").is_some() && self.flavor == Flavor::V3 {
                // Nothing may stand beside a reference in v3.
                out = json!({"allOf": [out]});
            }
            let strategy = match (f.patch_replaces, out["x-kubernetes-patch-strategy"] == "merge") {
                (true, _) => "replace",
                (_, true) => "merge,retainKeys",
                _ => "retainKeys",
            };
            out["x-kubernetes-patch-strategy"] = strategy.into();
        }
        out
    }
}
