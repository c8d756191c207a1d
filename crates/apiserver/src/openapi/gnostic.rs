//! The v2 document in gnostic's protobuf (`openapi.v2.Document`), which kubectl reads rather than JSON.
//!
//! Table-driven: each message is a list of the JSON keys that it takes, with field number and kind. Whatever
//! starts with `x-` becomes a `NamedAny` with the value as YAML (JSON is YAML).

use super::pieces::Pieces;
use serde_json::{Map, Value, json};

/// How a JSON member is written.
#[derive(Clone, Copy)]
enum As {
    Text,
    Bool,
    Int,
    Double,
    /// A list of strings, each an occurrence of the field.
    Texts,
    /// Any value, as YAML.
    Any,
    /// A list of any values.
    Anys,
    Message(&'static [Member]),
    /// A list of schemas; schemas nest, which a constant can't.
    Schemas,
    /// A map of schemas, inside a message whose field 1 repeats name and schema.
    NamedSchemas,
    /// `type`: a string or a list of strings in a message.
    TypeItem,
    /// `additionalProperties`: a schema or a boolean.
    SchemaOrBool,
    /// `items`: one schema in a message.
    Items,
    /// Parameters, which are told apart by `in`.
    Parameters,
    /// Codes with responses.
    Responses,
}

struct Member {
    key: &'static str,
    number: u32,
    kind: As,
}

const fn m(key: &'static str, number: u32, kind: As) -> Member {
    Member { key, number, kind }
}

/// The field number of `vendor_extension` is kept under this key.
const EXTENSIONS: &str = "x-*";

/// Of the document, before its paths (8) and definitions (9).
const HEAD: &[Member] = &[m("swagger", 1, As::Text), m("info", 2, As::Message(INFO))];
const INFO: &[Member] = &[m("title", 1, As::Text), m("version", 2, As::Text), m("description", 3, As::Text)];
const PATH_ITEM: &[Member] = &[
    m("get", 2, As::Message(OPERATION)),
    m("put", 3, As::Message(OPERATION)),
    m("post", 4, As::Message(OPERATION)),
    m("delete", 5, As::Message(OPERATION)),
    m("options", 6, As::Message(OPERATION)),
    m("head", 7, As::Message(OPERATION)),
    m("patch", 8, As::Message(OPERATION)),
    m("parameters", 9, As::Parameters),
    m(EXTENSIONS, 10, As::Any),
];
const OPERATION: &[Member] = &[
    m("tags", 1, As::Texts),
    m("description", 3, As::Text),
    m("operationId", 5, As::Text),
    m("produces", 6, As::Texts),
    m("consumes", 7, As::Texts),
    m("parameters", 8, As::Parameters),
    m("responses", 9, As::Responses),
    m("schemes", 10, As::Texts),
    m(EXTENSIONS, 13, As::Any),
];
const BODY_PARAMETER: &[Member] = &[
    m("description", 1, As::Text),
    m("name", 2, As::Text),
    m("in", 3, As::Text),
    m("required", 4, As::Bool),
    m("schema", 5, As::Message(SCHEMA)),
];
const QUERY_PARAMETER: &[Member] = &[
    m("required", 1, As::Bool),
    m("in", 2, As::Text),
    m("description", 3, As::Text),
    m("name", 4, As::Text),
    m("type", 6, As::Text),
    m("format", 7, As::Text),
    m("uniqueItems", 20, As::Bool),
];
const PATH_PARAMETER: &[Member] = &[
    m("required", 1, As::Bool),
    m("in", 2, As::Text),
    m("description", 3, As::Text),
    m("name", 4, As::Text),
    m("type", 5, As::Text),
    m("format", 6, As::Text),
    m("uniqueItems", 19, As::Bool),
];
const SCHEMA: &[Member] = &[
    m("$ref", 1, As::Text),
    m("format", 2, As::Text),
    m("title", 3, As::Text),
    m("description", 4, As::Text),
    m("default", 5, As::Any),
    m("multipleOf", 6, As::Double),
    m("maximum", 7, As::Double),
    m("exclusiveMaximum", 8, As::Bool),
    m("minimum", 9, As::Double),
    m("exclusiveMinimum", 10, As::Bool),
    m("maxLength", 11, As::Int),
    m("minLength", 12, As::Int),
    m("pattern", 13, As::Text),
    m("maxItems", 14, As::Int),
    m("minItems", 15, As::Int),
    m("uniqueItems", 16, As::Bool),
    m("maxProperties", 17, As::Int),
    m("minProperties", 18, As::Int),
    m("required", 19, As::Texts),
    m("enum", 20, As::Anys),
    m("additionalProperties", 21, As::SchemaOrBool),
    m("type", 22, As::TypeItem),
    m("items", 23, As::Items),
    m("allOf", 24, As::Schemas),
    m("properties", 25, As::NamedSchemas),
    m("example", 30, As::Any),
    m(EXTENSIONS, 31, As::Any),
];

/// The document as protobuf, of paths and definitions that [`path_item`] and [`schema`] encoded.
pub fn document(info: &Value, paths: Pieces, definitions: Pieces) -> Vec<u8> {
    let mut out = Vec::new();
    message(HEAD, &json!({"swagger": "2.0", "info": info}), &mut out);
    for (number, pieces, inner) in [(8, paths, 2), (9, definitions, 1)] {
        nested(&mut out, number, |out| {
            for (name, piece) in pieces {
                named(out, inner, &name, |out| bytes(out, 2, &piece));
            }
        });
    }
    out
}

pub fn path_item(item: &Value) -> Vec<u8> {
    let mut out = Vec::new();
    message(PATH_ITEM, item, &mut out);
    out
}

pub fn schema(schema: &Value) -> Vec<u8> {
    let mut out = Vec::new();
    message(SCHEMA, schema, &mut out);
    out
}

fn varint(out: &mut Vec<u8>, mut n: u64) {
    while n >= 0x80 {
        out.push(n as u8 | 0x80);
        n >>= 7;
    }
    out.push(n as u8);
}

fn bytes(out: &mut Vec<u8>, number: u32, content: &[u8]) {
    varint(out, u64::from(number << 3 | 2));
    varint(out, content.len() as u64);
    out.extend_from_slice(content);
}

fn nested(out: &mut Vec<u8>, number: u32, write: impl FnOnce(&mut Vec<u8>)) {
    let mut content = Vec::new();
    write(&mut content);
    bytes(out, number, &content);
}

/// `Any`, whose field 2 is YAML.
fn any(out: &mut Vec<u8>, number: u32, value: &Value) {
    nested(out, number, |out| bytes(out, 2, format!("{value}\n").as_bytes()));
}

fn text(value: &Value) -> &str {
    value.as_str().unwrap_or_default()
}

fn message(members: &[Member], value: &Value, out: &mut Vec<u8>) {
    let Value::Object(object) = value else { return };
    for member in members {
        if member.key == EXTENSIONS {
            for (k, v) in object.iter().filter(|(k, _)| k.starts_with("x-")) {
                nested(out, member.number, |out| {
                    bytes(out, 1, k.as_bytes());
                    any(out, 2, v);
                });
            }
        } else if let Some(v) = object.get(member.key) {
            write(member, v, out);
        }
    }
}

fn write(member: &Member, value: &Value, out: &mut Vec<u8>) {
    let number = member.number;
    let items = || value.as_array().into_iter().flatten();
    match member.kind {
        As::Text => bytes(out, number, text(value).as_bytes()),
        // proto3 leaves false and zero out.
        As::Bool if value == &Value::Bool(true) => {
            varint(out, u64::from(number << 3));
            out.push(1);
        }
        As::Bool => {}
        As::Int => {
            varint(out, u64::from(number << 3));
            varint(out, value.as_i64().unwrap_or_default() as u64);
        }
        As::Double => {
            varint(out, u64::from(number << 3 | 1));
            out.extend_from_slice(&value.as_f64().unwrap_or_default().to_le_bytes());
        }
        As::Texts => items().for_each(|v| bytes(out, number, text(v).as_bytes())),
        As::Any => any(out, number, value),
        As::Anys => items().for_each(|v| any(out, number, v)),
        As::Message(members) => nested(out, number, |out| message(members, value, out)),
        As::Schemas => items().for_each(|v| nested(out, number, |out| message(SCHEMA, v, out))),
        As::NamedSchemas => nested(out, number, |out| {
            for (k, v) in value.as_object().into_iter().flatten() {
                named(out, 1, k, |out| nested(out, 2, |out| message(SCHEMA, v, out)));
            }
        }),
        As::TypeItem => nested(out, number, |out| match value {
            Value::String(s) => bytes(out, 1, s.as_bytes()),
            v => v.as_array().into_iter().flatten().for_each(|v| bytes(out, 1, text(v).as_bytes())),
        }),
        As::SchemaOrBool => nested(out, number, |out| match value {
            Value::Bool(b) => out.extend_from_slice(&[2 << 3, u8::from(*b)]),
            schema => nested(out, 1, |out| message(SCHEMA, schema, out)),
        }),
        As::Items => nested(out, number, |out| nested(out, 1, |out| message(SCHEMA, value, out))),
        As::Parameters => items().for_each(|p| nested(out, number, |out| parameter(p, out))),
        As::Responses => nested(out, number, |out| responses(value.as_object(), out)),
    }
}

fn named(out: &mut Vec<u8>, number: u32, name: &str, write: impl FnOnce(&mut Vec<u8>)) {
    nested(out, number, |out| {
        bytes(out, 1, name.as_bytes());
        write(out);
    });
}

/// `ParametersItem{parameter}` → `Parameter{body | non-body}` → the message of its place.
fn parameter(p: &Value, out: &mut Vec<u8>) {
    nested(out, 1, |out| match text(&p["in"]) {
        "body" => nested(out, 1, |out| message(BODY_PARAMETER, p, out)),
        "path" => nested(out, 2, |out| nested(out, 4, |out| message(PATH_PARAMETER, p, out))),
        _ => nested(out, 2, |out| nested(out, 3, |out| message(QUERY_PARAMETER, p, out))),
    });
}

fn responses(codes: Option<&Map<String, Value>>, out: &mut Vec<u8>) {
    for (code, response) in codes.into_iter().flatten() {
        named(out, 1, code, |out| {
            // `ResponseValue{response}`
            nested(out, 2, |out| {
                nested(out, 1, |out| {
                    bytes(out, 1, text(&response["description"]).as_bytes());
                    if let Some(schema) = response.get("schema") {
                        // `SchemaItem{schema}`
                        nested(out, 2, |out| nested(out, 1, |out| message(SCHEMA, schema, out)));
                    }
                });
            });
        });
    }
}
