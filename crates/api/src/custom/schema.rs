//! A structural schema, compiled: what a CustomResourceDefinition says about its objects, ready to walk.
//!
//! In: `openAPIV3Schema` as it is stored. Out: a tree of [`Schema`], which pruning, defaulting, validation and the
//! [`meta::schema::Types`] of server-side apply all go by. Nothing here fails: what the CRD's own validation let pass
//! is taken, anything odd in an old object says nothing.

use super::formats;
use regex::Regex;
use serde_json::Value;
use std::ops::Deref;
use std::sync::OnceLock;

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
    Map(Box<[String]>),
}

/// One node of a schema. Below `allOf` and its like, nodes only restrict. There are hundreds of thousands of nodes in
/// a cluster with many definitions, so what few nodes have is apart.
#[derive(Debug, Default)]
pub struct Schema {
    pub kind: Option<Kind>,
    pub nullable: bool,
    pub int_or_string: bool,
    pub preserve_unknown: bool,
    pub embedded_resource: bool,
    pub map_atomic: bool,
    /// Anything below has a default.
    pub has_defaults: bool,
    /// Anything below is an embedded object.
    pub has_embedded: bool,
    /// Anything below is a list of type set or map.
    pub has_keyed_lists: bool,
    pub properties: Properties,
    pub additional: Additional,
    pub items: Option<Box<Schema>>,
    pub default: Option<Box<Value>>,
    pub list_type: ListType,
    /// Only one that values of this type are checked for.
    pub format: Box<str>,
    pub required: Box<[String]>,
    pub constraints: Constraints,
}

/// The members of an object that a schema names, in the order of their names.
#[derive(Debug, Default)]
pub struct Properties(Box<[(Box<str>, Schema)]>);

impl Properties {
    fn compile(schema: &Value) -> Properties {
        let all = schema.as_object().into_iter().flatten();
        let mut all: Vec<_> = all.map(|(k, v)| (k.as_str().into(), Schema::compile(v))).collect();
        all.sort_by(|(a, _): &(Box<str>, Schema), (b, _)| a.cmp(b));
        Properties(all.into())
    }

    pub fn get(&self, name: &str) -> Option<&Schema> {
        self.0.binary_search_by(|(n, _)| (**n).cmp(name)).ok().map(|i| &self.0[i].1)
    }

    pub fn contains(&self, name: &str) -> bool {
        self.get(name).is_some()
    }

    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub fn iter(&self) -> impl Iterator<Item = (&str, &Schema)> {
        self.0.iter().map(|(n, s)| (&**n, s))
    }

    pub fn iter_mut(&mut self) -> impl Iterator<Item = (&str, &mut Schema)> {
        self.0.iter_mut().map(|(n, s)| (&**n, s))
    }
}

/// What values must be beyond their structure. Most nodes have none.
#[derive(Debug, Default)]
pub struct Constraints(Option<Box<Limits>>);

impl Deref for Constraints {
    type Target = Limits;

    fn deref(&self) -> &Limits {
        static NONE: Limits = Limits::none();
        self.0.as_deref().unwrap_or(&NONE)
    }
}

#[derive(Debug)]
pub struct Limits {
    pub pattern: Option<Pattern>,
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
    pub all_of: Vec<Schema>,
    pub any_of: Vec<Schema>,
    pub one_of: Vec<Schema>,
    pub not: Option<Box<Schema>>,
}

/// The fields of [`Limits`] as schemas have them.
const LIMITS: [&str; 18] = [
    "pattern",
    "enum",
    "minimum",
    "exclusiveMinimum",
    "maximum",
    "exclusiveMaximum",
    "multipleOf",
    "minLength",
    "maxLength",
    "minItems",
    "maxItems",
    "uniqueItems",
    "minProperties",
    "maxProperties",
    "allOf",
    "anyOf",
    "oneOf",
    "not",
];

/// A regular expression, compiled for the first value that is held against it: the same few stand at hundreds of
/// fields, most of which no object has.
#[derive(Debug)]
pub struct Pattern {
    pub text: Box<str>,
    /// `None`: an old definition has one that can't be compiled.
    regex: OnceLock<Option<Regex>>,
}

impl Pattern {
    /// What can't be compiled says nothing.
    pub fn allows(&self, text: &str) -> bool {
        self.regex.get_or_init(|| pattern(&self.text).ok()).as_ref().is_none_or(|r| r.is_match(text))
    }
}

/// Compiles a `pattern` as Go's RE2 would.
pub fn pattern(text: &str) -> Result<Regex, String> {
    const BYTES_MAX: usize = 10 << 20;
    cel::pattern::compile_sized(text, BYTES_MAX)
}

fn flag(schema: &Value, key: &str) -> bool {
    schema[key].as_bool() == Some(true)
}

fn texts(schema: &Value, key: &str) -> Box<[String]> {
    schema[key].as_array().into_iter().flatten().filter_map(|v| v.as_str().map(String::from)).collect()
}

impl Limits {
    const fn none() -> Limits {
        Limits {
            pattern: None,
            values: Vec::new(),
            minimum: None,
            exclusive_minimum: false,
            maximum: None,
            exclusive_maximum: false,
            multiple_of: None,
            min_length: None,
            max_length: None,
            min_items: None,
            max_items: None,
            unique_items: false,
            min_properties: None,
            max_properties: None,
            all_of: Vec::new(),
            any_of: Vec::new(),
            one_of: Vec::new(),
            not: None,
        }
    }
}

impl Constraints {
    fn compile(schema: &Value) -> Constraints {
        if !LIMITS.iter().any(|key| schema.get(key).is_some()) {
            return Constraints(None);
        }
        let count = |key: &str| schema[key].as_u64();
        let many =
            |key: &str| -> Vec<Schema> { schema[key].as_array().into_iter().flatten().map(Schema::compile).collect() };
        Constraints(Some(Box::new(Limits {
            pattern: schema["pattern"]
                .as_str()
                .filter(|p| !p.is_empty())
                .map(|p| Pattern { text: p.into(), regex: OnceLock::new() }),
            values: schema["enum"].as_array().cloned().unwrap_or_default(),
            minimum: schema["minimum"].as_f64(),
            exclusive_minimum: flag(schema, "exclusiveMinimum"),
            maximum: schema["maximum"].as_f64(),
            exclusive_maximum: flag(schema, "exclusiveMaximum"),
            multiple_of: schema["multipleOf"].as_f64(),
            min_length: count("minLength"),
            max_length: count("maxLength"),
            min_items: count("minItems"),
            max_items: count("maxItems"),
            unique_items: flag(schema, "uniqueItems"),
            min_properties: count("minProperties"),
            max_properties: count("maxProperties"),
            all_of: many("allOf"),
            any_of: many("anyOf"),
            one_of: many("oneOf"),
            not: schema["not"].is_object().then(|| Box::new(Schema::compile(&schema["not"]))),
        })))
    }
}

impl Schema {
    pub fn compile(schema: &Value) -> Schema {
        let flag = |key: &str| flag(schema, key);
        let mut out = Schema {
            kind: schema["type"].as_str().and_then(Kind::parse),
            nullable: flag("nullable"),
            int_or_string: flag("x-kubernetes-int-or-string"),
            preserve_unknown: flag("x-kubernetes-preserve-unknown-fields"),
            embedded_resource: flag("x-kubernetes-embedded-resource"),
            map_atomic: schema["x-kubernetes-map-type"] == "atomic",
            has_defaults: false,
            has_embedded: false,
            has_keyed_lists: false,
            properties: Properties::compile(&schema["properties"]),
            additional: match &schema["additionalProperties"] {
                Value::Bool(b) => Additional::Allowed(*b),
                v @ Value::Object(_) => Additional::Schema(Box::new(Schema::compile(v))),
                _ => Additional::Unset,
            },
            items: schema["items"].is_object().then(|| Box::new(Schema::compile(&schema["items"]))),
            default: schema.get("default").filter(|d| !d.is_null()).cloned().map(Box::new),
            list_type: match schema["x-kubernetes-list-type"].as_str() {
                Some("set") => ListType::Set,
                Some("map") => ListType::Map(texts(schema, "x-kubernetes-list-map-keys")),
                _ => ListType::Atomic,
            },
            format: schema["format"]
                .as_str()
                .filter(|f| formats::known(schema["type"].as_str().unwrap_or(""), f))
                .unwrap_or("")
                .into(),
            required: texts(schema, "required"),
            constraints: Constraints::compile(schema),
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
        self.properties.iter().map(|(_, s)| s).chain(additional).chain(self.items.as_deref())
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

impl cel::rules::Structure for Schema {
    fn member(&self, name: &str) -> Option<&dyn cel::rules::Structure> {
        self.member(name).map(|s| s as _)
    }

    fn item(&self) -> Option<&dyn cel::rules::Structure> {
        self.items.as_deref().map(|s| s as _)
    }

    fn keys(&self) -> Option<&[String]> {
        match &self.list_type {
            ListType::Map(keys) => Some(keys),
            _ => None,
        }
    }
}
