//! A document in the making: each path and each definition is encoded as soon as it is known. Trees of JSON values are
//! ten times as large as their text, and hundreds of custom resources make documents of many megabytes.

use super::gnostic;
use serde_json::Value;
use std::collections::BTreeMap;

/// How a document is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Form {
    Json,
    /// gnostic's messages, of version 2 only.
    Protobuf,
}

/// Paths or definitions by name, encoded.
pub type Pieces = BTreeMap<String, Box<[u8]>>;

impl Form {
    pub fn path(self, item: &Value) -> Box<[u8]> {
        match self {
            Form::Json => json(item),
            Form::Protobuf => gnostic::path_item(item).into(),
        }
    }

    pub fn definition(self, schema: &Value) -> Box<[u8]> {
        match self {
            Form::Json => json(schema),
            Form::Protobuf => gnostic::schema(schema).into(),
        }
    }
}

fn json(value: &Value) -> Box<[u8]> {
    value.to_string().into_bytes().into()
}

/// Writes a JSON object of encoded members, and frees them on the way.
pub fn object(out: &mut Vec<u8>, members: Pieces) {
    out.push(b'{');
    for (i, (name, member)) in members.into_iter().enumerate() {
        if i > 0 {
            out.push(b',');
        }
        out.extend_from_slice(Value::from(name).to_string().as_bytes());
        out.push(b':');
        out.extend_from_slice(&member);
    }
    out.push(b'}');
}
