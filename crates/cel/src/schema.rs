//! Schemas of custom resources as CEL sees them: types for the checker, a way to read values, and how large values
//! can get, which bounds what a rule can cost.
//!
//! In: an OpenAPI v3 schema as a CustomResourceDefinition has it (JSON). Out: a tree of [`Decl`].

use crate::types::{Objects, Type};
use serde_json::Value as Json;
use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

/// Upstream's limit on a request's size, which bounds what has no limit of its own.
const REQUEST_BYTES_MAX: i64 = 3 * 1024 * 1024;

/// A schema's node.
#[derive(Clone, Debug)]
pub struct Decl {
    pub kind: DeclKind,
    /// As the checker sees it.
    pub cel_type: Type,
    /// Most characters, items or entries; 0 where there is nothing to count.
    pub elements_max: i64,
    /// Fewest bytes of JSON.
    pub size_min: i64,
}

#[derive(Clone, Debug)]
pub enum DeclKind {
    IntOrString,
    Bool,
    Int,
    Double,
    String,
    Bytes,
    Duration,
    Timestamp {
        date: bool,
    },
    List {
        item: Box<Decl>,
        list_type: ListType,
    },
    Map {
        value: Box<Decl>,
    },
    /// By escaped name.
    Object {
        fields: BTreeMap<Arc<str>, FieldDecl>,
    },
}

#[derive(Clone, Debug)]
pub struct FieldDecl {
    pub json_name: Arc<str>,
    pub decl: Decl,
}

#[derive(Clone, Debug, PartialEq)]
pub enum ListType {
    Atomic,
    Set,
    /// Escaped names of the keys.
    Map(Vec<Arc<str>>),
}

/// A property's name as expressions write it; None when it can't be written.
pub fn escape(name: &str) -> Option<String> {
    let mut chars = name.chars();
    let first = chars.next()?;
    let starts = |c: char| c.is_ascii_alphabetic() || matches!(c, '_' | '.' | '-' | '/');
    if !starts(first) || !chars.all(|c| starts(c) || c.is_ascii_digit()) {
        return None;
    }
    if let Some(escaped) = escape_reserved(name) {
        return Some(escaped);
    }
    let name = name.replace("__", "__underscores__");
    Some(name.replace('.', "__dot__").replace('-', "__dash__").replace('/', "__slash__"))
}

/// A reserved word as an escaped name; None for other names. Upstream lets expressions select such a field by its plain
/// name too: `self.namespace`.
pub fn escape_reserved(name: &str) -> Option<String> {
    crate::RESERVED_WORDS.contains(&name).then(|| format!("__{name}__"))
}

impl Decl {
    /// Of a schema; None where values can't be seen by expressions. `root`: of a whole object, so that
    /// `apiVersion`, `kind`, `metadata.name` and `metadata.generateName` are seen whatever the schema says.
    pub fn of(schema: &Json, root: bool) -> Option<Decl> {
        let simple = |kind, cel_type, size_min| Decl { kind, cel_type, elements_max: 0, size_min };
        if flag(schema, "x-kubernetes-int-or-string") {
            let elements_max =
                number(schema, "maxLength").map_or(REQUEST_BYTES_MAX - 2, |n| n.max(0).saturating_mul(4));
            return Some(Decl { elements_max, ..simple(DeclKind::IntOrString, Type::Dyn, 1) });
        }
        match schema["type"].as_str()? {
            "array" => list(schema),
            "object" => object(schema, root),
            "string" => Some(string(schema)),
            "boolean" => Some(simple(DeclKind::Bool, Type::Bool, 4)),
            "number" => Some(simple(DeclKind::Double, Type::Double, 1)),
            "integer" => Some(simple(DeclKind::Int, Type::Int, 1)),
            _ => None,
        }
    }

    /// Gives objects names, `name` and below, and notes their fields.
    pub fn name(&mut self, name: &str, objects: &mut Objects) {
        match &mut self.kind {
            DeclKind::Object { fields } => {
                let mut types = HashMap::new();
                for (field, f) in fields {
                    f.decl.name(&format!("{name}.{field}"), objects);
                    types.insert(field.clone(), f.decl.cel_type.clone());
                }
                objects.0.insert(name.into(), types);
                self.cel_type = Type::named(name);
            }
            DeclKind::List { item, .. } => {
                item.name(&format!("{name}.@idx"), objects);
                self.cel_type = Type::list(item.cel_type.clone());
            }
            DeclKind::Map { value } => {
                value.name(&format!("{name}.@elem"), objects);
                self.cel_type = Type::map(Type::String, value.cel_type.clone());
            }
            _ => {}
        }
    }

    /// The node that a path leads to: names of fields, `@items`, `@values`; keys have no node.
    pub fn at(&self, path: &[Arc<str>]) -> Option<&Decl> {
        path.iter().try_fold(self, |decl, step| match (&decl.kind, &**step) {
            (DeclKind::List { item, .. }, "@items") => Some(item.as_ref()),
            (DeclKind::Map { value }, "@values") => Some(value.as_ref()),
            (DeclKind::Object { fields, .. }, name) => fields.get(name).map(|f| &f.decl),
            _ => None,
        })
    }
}

fn flag(schema: &Json, key: &str) -> bool {
    schema[key].as_bool() == Some(true)
}

fn number(schema: &Json, key: &str) -> Option<i64> {
    schema[key].as_i64()
}

fn list(schema: &Json) -> Option<Decl> {
    let items = &schema["items"];
    let item = Decl::of(items, flag(items, "x-kubernetes-embedded-resource"))?;
    let elements_max = number(schema, "maxItems").map_or((REQUEST_BYTES_MAX - 2) / (item.size_min + 1), |n| n.max(0));
    let list_type = match schema["x-kubernetes-list-type"].as_str() {
        Some("set") => ListType::Set,
        Some("map") => {
            let keys = schema["x-kubernetes-list-map-keys"].as_array().map(Vec::as_slice).unwrap_or_default();
            ListType::Map(keys.iter().filter_map(|k| escape(k.as_str()?)).map(Arc::from).collect())
        }
        _ => ListType::Atomic,
    };
    Some(Decl {
        cel_type: Type::list(item.cel_type.clone()),
        kind: DeclKind::List { item: Box::new(item), list_type },
        elements_max,
        size_min: 2,
    })
}

fn object(schema: &Json, root: bool) -> Option<Decl> {
    let additional = &schema["additionalProperties"];
    if additional.is_object() {
        let value = Decl::of(additional, flag(additional, "x-kubernetes-embedded-resource"))?;
        let elements_max =
            number(schema, "maxProperties").map_or((REQUEST_BYTES_MAX - 2) / (value.size_min + 6), |n| n.max(0));
        return Some(Decl {
            cel_type: Type::map(Type::String, value.cel_type.clone()),
            kind: DeclKind::Map { value: Box::new(value) },
            elements_max,
            size_min: 2,
        });
    }
    let required: Vec<&str> = schema["required"].as_array().into_iter().flatten().filter_map(Json::as_str).collect();
    let text = serde_json::json!({"type": "string"});
    let metadata = serde_json::json!({"type": "object", "properties": {"name": text, "generateName": text}});
    let mut properties: BTreeMap<&str, &Json> = BTreeMap::new();
    for (name, p) in schema["properties"].as_object().into_iter().flatten() {
        properties.insert(name, p);
    }
    if root {
        properties.insert("apiVersion", &text);
        properties.insert("kind", &text);
        properties.insert("metadata", &metadata);
    }
    let mut fields = BTreeMap::new();
    let mut size_min = 2;
    for (name, property) in properties {
        let Some(decl) = Decl::of(property, flag(property, "x-kubernetes-embedded-resource")) else { continue };
        if required.contains(&name) && property.get("default").is_none() {
            size_min += name.len() as i64 + decl.size_min + 4;
        }
        if let Some(escaped) = escape(name) {
            fields.insert(escaped.into(), FieldDecl { json_name: name.into(), decl });
        }
    }
    Some(Decl { kind: DeclKind::Object { fields }, cel_type: Type::named("object"), elements_max: 0, size_min })
}

fn string(schema: &Json) -> Decl {
    let (kind, cel_type, unbounded, size_min) = match schema["format"].as_str() {
        Some("byte") => (DeclKind::Bytes, Type::Bytes, REQUEST_BYTES_MAX - 2, 2),
        // Longest and shortest forms, with quotes.
        Some("duration") => (DeclKind::Duration, Type::Duration, 32, 2 + 2),
        Some("date") => (DeclKind::Timestamp { date: true }, Type::Timestamp, 12, 12),
        Some("date-time") => (DeclKind::Timestamp { date: false }, Type::Timestamp, 37, 22),
        _ => (DeclKind::String, Type::String, REQUEST_BYTES_MAX - 2, 2),
    };
    let elements_max = match (&kind, number(schema, "maxLength")) {
        (DeclKind::Bytes, Some(n)) => n.max(0),
        // Lengths are told in code points, which take up to four bytes.
        (DeclKind::String, Some(n)) => n.max(0).saturating_mul(4),
        (DeclKind::String, None) => match schema["enum"].as_array() {
            Some(values) if !values.is_empty() => {
                values.iter().filter_map(Json::as_str).map(|s| s.len() as i64).max().unwrap_or(0)
            }
            _ => unbounded,
        },
        _ => unbounded,
    };
    Decl { kind, cel_type, elements_max, size_min }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn names_are_escaped() {
        for (name, escaped) in [
            ("foo", Some("foo")),
            ("namespace", Some("__namespace__")),
            ("if", Some("__if__")),
            ("a-b", Some("a__dash__b")),
            ("a.b/c", Some("a__dot__b__slash__c")),
            ("a__b", Some("a__underscores__b")),
            ("int", Some("int")),
            ("1a", None),
            ("", None),
            ("a b", None),
        ] {
            assert_eq!(escape(name).as_deref(), escaped, "{name}");
        }
    }

    #[test]
    fn unseen_parts_are_left_out() {
        let decl = Decl::of(
            &json!({"type":"object","properties":{
                "any":{"x-kubernetes-preserve-unknown-fields":true},
                "port":{"x-kubernetes-int-or-string":true},
                "list":{"type":"array","items":{"x-kubernetes-preserve-unknown-fields":true}},
                "names":{"type":"array","maxItems":3,"items":{"type":"string","maxLength":5}}}}),
            true,
        )
        .unwrap();
        let DeclKind::Object { fields } = &decl.kind else { panic!() };
        assert_eq!(
            fields.keys().map(|k| k.to_string()).collect::<Vec<_>>(),
            ["apiVersion", "kind", "metadata", "names", "port"]
        );
        assert_eq!(fields["names"].decl.elements_max, 3);
        assert_eq!(decl.at(&["names".into(), "@items".into()]).unwrap().elements_max, 20);
    }
}
