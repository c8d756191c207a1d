//! A structural schema, compiled: what a CustomResourceDefinition says about its objects, ready to walk.
//!
//! In: `openAPIV3Schema` as it is stored. Out: a tree of [`Schema`], which pruning, defaulting, validation and the
//! [`meta::schema::Types`] of server-side apply all go by. Nothing here fails: what the CRD's own validation let pass
//! is taken, anything odd in an old object says nothing.

use super::formats;
use regex::Regex;
use serde_json::Value;
use std::collections::BTreeMap;

/// JSON schema's `type`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    Object,
    Array,
    String,
    Integer,
    Number,
    Boolean,
}

impl Kind {
    pub fn parse(name: &str) -> Option<Kind> {
        Some(match name {
            "object" => Kind::Object,
            "array" => Kind::Array,
            "string" => Kind::String,
            "integer" => Kind::Integer,
            "number" => Kind::Number,
            "boolean" => Kind::Boolean,
            _ => return None,
        })
    }

    pub fn as_str(self) -> &'static str {
        match self {
            Kind::Object => "object",
            Kind::Array => "array",
            Kind::String => "string",
            Kind::Integer => "integer",
            Kind::Number => "number",
            Kind::Boolean => "boolean",
        }
    }
}

/// `additionalProperties`.
#[derive(Debug, Default)]
pub enum Additional {
    #[default]
    Unset,
    Allowed(bool),
    Schema(Box<Schema>),
}

/// `x-kubernetes-list-type`
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum ListType {
    #[default]
    Atomic,
    Set,
    Map(Vec<String>),
}

/// One node of a schema. Below `allOf` and its like, nodes only restrict.
#[derive(Debug, Default)]
pub struct Schema {
    pub kind: Option<Kind>,
    pub nullable: bool,
    pub int_or_string: bool,
    pub preserve_unknown: bool,
    pub embedded_resource: bool,
    pub properties: BTreeMap<String, Schema>,
    pub additional: Additional,
    pub items: Option<Box<Schema>>,
    pub default: Option<Value>,
    pub list_type: ListType,
    pub map_atomic: bool,

    /// Only one that values of this type are checked for.
    pub format: String,
    pub pattern: Option<(String, Regex)>,
    pub values: Vec<Value>,
    pub minimum: Option<f64>,
    pub exclusive_minimum: bool,
    pub maximum: Option<f64>,
    pub exclusive_maximum: bool,
    pub multiple_of: Option<f64>,
    pub min_length: Option<u64>,
    pub max_length: Option<u64>,
    pub min_items: Option<u64>,
    pub max_items: Option<u64>,
    pub unique_items: bool,
    pub min_properties: Option<u64>,
    pub max_properties: Option<u64>,
    pub required: Vec<String>,
    pub all_of: Vec<Schema>,
    pub any_of: Vec<Schema>,
    pub one_of: Vec<Schema>,
    pub not: Option<Box<Schema>>,

    /// Anything below has a default.
    pub has_defaults: bool,
    /// Anything below is an embedded object.
    pub has_embedded: bool,
    /// Anything below is a list of type set or map.
    pub has_keyed_lists: bool,
}

/// Compiles a `pattern` as Go's RE2 would.
pub fn pattern(text: &str) -> Result<Regex, String> {
    const BYTES_MAX: usize = 10 << 20;
    cel::pattern::compile_sized(text, BYTES_MAX)
}

impl Schema {
    pub fn compile(schema: &Value) -> Schema {
        let flag = |key: &str| schema[key].as_bool() == Some(true);
        let count = |key: &str| schema[key].as_u64();
        let many =
            |key: &str| -> Vec<Schema> { schema[key].as_array().into_iter().flatten().map(Schema::compile).collect() };
        let texts = |key: &str| -> Vec<String> {
            schema[key].as_array().into_iter().flatten().filter_map(|v| v.as_str().map(String::from)).collect()
        };
        let mut out = Schema {
            kind: schema["type"].as_str().and_then(Kind::parse),
            nullable: flag("nullable"),
            int_or_string: flag("x-kubernetes-int-or-string"),
            preserve_unknown: flag("x-kubernetes-preserve-unknown-fields"),
            embedded_resource: flag("x-kubernetes-embedded-resource"),
            properties: schema["properties"]
                .as_object()
                .into_iter()
                .flatten()
                .map(|(k, v)| (k.clone(), Schema::compile(v)))
                .collect(),
            additional: match &schema["additionalProperties"] {
                Value::Bool(b) => Additional::Allowed(*b),
                v @ Value::Object(_) => Additional::Schema(Box::new(Schema::compile(v))),
                _ => Additional::Unset,
            },
            items: schema["items"].is_object().then(|| Box::new(Schema::compile(&schema["items"]))),
            default: schema.get("default").filter(|d| !d.is_null()).cloned(),
            list_type: match schema["x-kubernetes-list-type"].as_str() {
                Some("set") => ListType::Set,
                Some("map") => ListType::Map(texts("x-kubernetes-list-map-keys")),
                _ => ListType::Atomic,
            },
            map_atomic: schema["x-kubernetes-map-type"] == "atomic",
            format: schema["format"]
                .as_str()
                .filter(|f| formats::known(schema["type"].as_str().unwrap_or(""), f))
                .unwrap_or("")
                .to_string(),
            pattern: schema["pattern"]
                .as_str()
                .filter(|p| !p.is_empty())
                .and_then(|p| pattern(p).ok().map(|r| (p.to_string(), r))),
            values: schema["enum"].as_array().cloned().unwrap_or_default(),
            minimum: schema["minimum"].as_f64(),
            exclusive_minimum: flag("exclusiveMinimum"),
            maximum: schema["maximum"].as_f64(),
            exclusive_maximum: flag("exclusiveMaximum"),
            multiple_of: schema["multipleOf"].as_f64(),
            min_length: count("minLength"),
            max_length: count("maxLength"),
            min_items: count("minItems"),
            max_items: count("maxItems"),
            unique_items: flag("uniqueItems"),
            min_properties: count("minProperties"),
            max_properties: count("maxProperties"),
            required: texts("required"),
            all_of: many("allOf"),
            any_of: many("anyOf"),
            one_of: many("oneOf"),
            not: schema["not"].is_object().then(|| Box::new(Schema::compile(&schema["not"]))),
            has_defaults: false,
            has_embedded: false,
            has_keyed_lists: false,
        };
        let (mut defaults, mut embedded, mut keyed) =
            (out.default.is_some(), out.embedded_resource, out.list_type != ListType::Atomic);
        for child in out.children() {
            defaults |= child.has_defaults;
            embedded |= child.has_embedded;
            keyed |= child.has_keyed_lists;
        }
        (out.has_defaults, out.has_embedded, out.has_keyed_lists) = (defaults, embedded, keyed);
        out
    }

    /// The nodes that describe structure one step down.
    fn children(&self) -> impl Iterator<Item = &Schema> {
        let additional = match &self.additional {
            Additional::Schema(s) => Some(s.as_ref()),
            _ => None,
        };
        self.properties.values().chain(additional).chain(self.items.as_deref())
    }

    /// What describes a member of an object, `None` where nothing does.
    pub fn member(&self, name: &str) -> Option<&Schema> {
        match (self.properties.get(name), &self.additional) {
            (Some(s), _) => Some(s),
            (None, Additional::Schema(s)) => Some(s),
            _ => None,
        }
    }
}
