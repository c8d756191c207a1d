//! `metadata.managedFields`: who owns which fields, decoded and encoded.

use super::paths::Set;
use crate::field::{Errors, Path as FieldPath};
use crate::object::{self, get_str};
use jiff::Timestamp;
use serde_json::{Map, Value, json};
use std::collections::BTreeMap;

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Operation {
    Apply,
    Update,
}

impl Operation {
    pub fn as_str(self) -> &'static str {
        match self {
            Operation::Apply => "Apply",
            Operation::Update => "Update",
        }
    }
}

/// The identity of an entry. An applier is one manager in all versions, so its `api_version` is empty here.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Manager {
    pub name: String,
    pub operation: Operation,
    pub api_version: String,
    pub subresource: String,
}

impl Manager {
    pub fn new(name: &str, operation: Operation, api_version: &str, subresource: &str) -> Manager {
        let api_version = if operation == Operation::Apply { "" } else { api_version };
        Manager {
            name: name.to_string(),
            operation,
            api_version: api_version.to_string(),
            subresource: subresource.to_string(),
        }
    }

    /// As conflicts name it: `"kubectl" using apps/v1`.
    pub fn shown(&self) -> String {
        let mut out = format!("{:?}", self.name);
        if !self.subresource.is_empty() {
            out.push_str(&format!(" with subresource {:?}", self.subresource));
        }
        if self.operation == Operation::Update {
            out.push_str(&format!(" using {}", self.api_version));
        }
        out
    }
}

/// The fields of a manager, as paths in one version.
#[derive(Clone, Debug, PartialEq)]
pub struct Versioned {
    pub set: Set,
    pub api_version: String,
    /// When the manager last changed something; whole seconds.
    pub time: Option<Timestamp>,
}

/// All managers of one object.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Managed(pub BTreeMap<Manager, Versioned>);

impl Managed {
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// From an object's `metadata.managedFields`; absent is empty. Errors are in upstream's words.
    pub fn of(obj: &Value) -> Result<Managed, String> {
        Managed::decode(object::get(obj, &["metadata", "managedFields"]).unwrap_or(&Value::Null))
    }

    pub fn decode(list: &Value) -> Result<Managed, String> {
        let entries = match list {
            Value::Null => return Ok(Managed::default()),
            Value::Array(entries) => entries,
            other => return Err(format!("managedFields is no list: {other}")),
        };
        let mut out = Managed::default();
        for (i, e) in entries.iter().enumerate() {
            let operation = match get_str(e, &["operation"]) {
                "Apply" => Operation::Apply,
                "Update" => Operation::Update,
                _ => return Err("operation must be `Apply` or `Update`".to_string()),
            };
            let api_version = get_str(e, &["apiVersion"]);
            if api_version.is_empty() {
                return Err("apiVersion must not be empty".to_string());
            }
            match get_str(e, &["fieldsType"]) {
                "FieldsV1" => {}
                "" => return Err(format!("missing fieldsType in managed fields entry {i}")),
                other => return Err(format!("invalid fieldsType {other:?} in managed fields entry {i}")),
            }
            let set = Set::from_fields_v1(e.get("fieldsV1").unwrap_or(&Value::Null))
                .map_err(|why| format!("error decoding versioned set from {e}: error decoding set: {why}"))?;
            let manager = Manager::new(get_str(e, &["manager"]), operation, api_version, get_str(e, &["subresource"]));
            let time = object::parse_time(get_str(e, &["time"]));
            out.0.insert(manager, Versioned { set, api_version: api_version.to_string(), time });
        }
        Ok(out)
    }

    /// The list to store: appliers first, then by time, then by name. Null when there is nothing.
    pub fn encode(&self) -> Value {
        if self.0.is_empty() {
            return Value::Null;
        }
        let mut entries: Vec<(&Manager, &Versioned)> = self.0.iter().collect();
        entries.sort_by(|(m, v), (n, w)| {
            (m.operation, v.time.map(Timestamp::as_second), &m.name, &v.api_version, &m.subresource).cmp(&(
                n.operation,
                w.time.map(Timestamp::as_second),
                &n.name,
                &w.api_version,
                &n.subresource,
            ))
        });
        entries
            .into_iter()
            .map(|(m, v)| {
                let mut e = Map::new();
                e.insert("manager".into(), json!(m.name));
                e.insert("operation".into(), json!(m.operation.as_str()));
                e.insert("apiVersion".into(), json!(v.api_version));
                if let Some(t) = v.time {
                    e.insert("time".into(), json!(object::time(t)));
                }
                e.insert("fieldsType".into(), json!("FieldsV1"));
                e.insert("fieldsV1".into(), v.set.to_fields_v1());
                if !m.subresource.is_empty() {
                    e.insert("subresource".into(), json!(m.subresource));
                }
                Value::Object(e)
            })
            .collect()
    }

    /// Writes the list into an object, or takes it out when empty.
    pub fn store(&self, obj: &mut Value) {
        match self.encode() {
            Value::Null => {
                object::remove(obj, &["metadata", "managedFields"]);
            }
            list => object::set(obj, &["metadata", "managedFields"], list),
        }
    }

    pub(super) fn drop_empty(&mut self) {
        self.0.retain(|_, v| !v.set.is_empty());
    }
}

/// Whether a client asks to forget all ownership: an empty list, or one empty entry.
pub(super) fn is_reset(list: Option<&Value>) -> bool {
    match list {
        Some(Value::Array(entries)) => match entries.as_slice() {
            [] => true,
            [Value::Object(only)] => only.values().all(|v| v.is_null() || v.as_str() == Some("")),
            _ => false,
        },
        _ => false,
    }
}

/// Faults of a `fieldManager` name, of a request or an entry (upstream: `ValidateFieldManager`).
pub fn validate_field_manager(name: &str, path: &FieldPath, errors: &mut Errors) {
    if name.len() > 128 {
        errors.too_long(path.clone(), 128);
    }
    for (i, c) in name.char_indices() {
        if c.is_control() || (c.is_whitespace() && c != ' ') {
            errors.invalid(path.clone(), name, format!("invalid character U+{:04X} (at position {i})", u32::from(c)));
        }
    }
}

/// Faults of `metadata.managedFields` as a client sent it.
pub fn validate_managed_fields(list: &Value, path: &FieldPath, errors: &mut Errors) {
    for (i, e) in list.as_array().into_iter().flatten().enumerate() {
        let at = path.index(i);
        match get_str(e, &["operation"]) {
            "Apply" | "Update" => {}
            other => errors.invalid(at.child("operation"), other, "must be `Apply` or `Update`"),
        }
        let fields_type = get_str(e, &["fieldsType"]);
        if !fields_type.is_empty() && fields_type != "FieldsV1" {
            errors.invalid(at.child("fieldsType"), fields_type, "must be `FieldsV1`");
        }
        validate_field_manager(get_str(e, &["manager"]), &at.child("manager"), errors);
        if get_str(e, &["subresource"]).len() > 256 {
            errors.too_long(at.child("subresource"), 256);
        }
    }
}
