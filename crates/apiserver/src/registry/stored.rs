//! How objects lie in the store: canonical JSON without `metadata.resourceVersion`, which *is* the revision.
//!
//! An object's bytes are made once, at commit. `apiVersion`, `kind` and `metadata` come first, so the place where
//! a reader splices in the resourceVersion is the same for all objects of a kind, and a LIST or a watch frame is
//! a copy of byte slices, not an encoding.

use api::catalogue::Resource;
use bytes::Bytes;
use serde_json::Value;
use std::sync::Arc;
use store::{Entry, Revision};

/// The bytes to store for an object. They stay in memory for as long as the object lives, so there is no room left behind
/// them.
pub fn encode(object: &Value) -> Bytes {
    let mut bytes = match object["metadata"].get("resourceVersion") {
        None => api::codec::json::canonical(object),
        Some(_) => {
            let mut o = object.clone();
            if let Some(m) = o["metadata"].as_object_mut() {
                m.remove("resourceVersion");
            }
            api::codec::json::canonical(&o)
        }
    };
    bytes.shrink_to_fit();
    bytes.into()
}

/// The stored object with its resourceVersion, in the storage version.
pub fn decode(entry: &Entry) -> Value {
    decode_at(entry, entry.mod_revision)
}

pub fn decode_at(entry: &Entry, revision: Revision) -> Value {
    let mut v = parse(entry);
    set_version(&mut v, revision);
    v
}

/// The stored object as it lies there, without resourceVersion.
pub fn parse(entry: &Entry) -> Value {
    serde_json::from_slice(&entry.value).unwrap_or(Value::Null)
}

pub fn set_version(object: &mut Value, revision: Revision) {
    if let Some(m) = object.get_mut("metadata").and_then(Value::as_object_mut) {
        m.insert("resourceVersion".into(), revision.0.to_string().into());
    }
}

/// As [`decode`], in the version of `row`, which may differ from the one that is stored.
pub fn decode_as(row: &Resource, entry: &Entry, storage: &Resource) -> Value {
    let v = decode(entry);
    if is_storage(row) { v } else { api::convert::to(&v, storage, row) }
}

pub fn is_storage(row: &Resource) -> bool {
    row.storage.0 == row.group && row.storage.1 == row.version
}

/// Where the pieces of a stored object lie.
#[derive(Clone, Debug)]
pub struct Splice {
    /// Length of `{"apiVersion":"…","kind":"…","metadata":{`.
    head: usize,
    prefix: String,
    /// List items of built-in kinds carry no apiVersion and kind, those of custom resources do.
    typed_items: bool,
}

impl Splice {
    pub fn new(row: &Resource, typed_items: bool) -> Splice {
        let prefix = format!(
            "{{\"apiVersion\":{},\"kind\":{},\"metadata\":{{",
            Value::from(row.api_version()),
            Value::from(row.kind.as_str())
        );
        Splice { head: prefix.len(), prefix, typed_items }
    }

    /// Appends the whole object as JSON.
    pub fn object(&self, out: &mut Vec<u8>, entry: &Entry, revision: Revision) {
        let bytes = &entry.value;
        if !bytes.starts_with(self.prefix.as_bytes()) {
            // Stored by another version of the program in another order: encode it anew.
            out.extend_from_slice(decode_at(entry, revision).to_string().as_bytes());
            return;
        }
        out.extend_from_slice(self.prefix.as_bytes());
        self.tail(out, bytes, revision);
    }

    /// Appends the object as an item of a list.
    pub fn item(&self, out: &mut Vec<u8>, entry: &Entry) {
        if self.typed_items || !entry.value.starts_with(self.prefix.as_bytes()) {
            return self.object(out, entry, entry.mod_revision);
        }
        out.extend_from_slice(b"{\"metadata\":{");
        self.tail(out, &entry.value, entry.mod_revision);
    }

    /// Takes from an item of a list what such items don't carry.
    pub fn untyped(&self, object: &mut Value) {
        if !self.typed_items
            && let Some(o) = object.as_object_mut()
        {
            o.remove("kind");
            o.remove("apiVersion");
        }
    }

    fn tail(&self, out: &mut Vec<u8>, bytes: &Bytes, revision: Revision) {
        out.extend_from_slice(b"\"resourceVersion\":\"");
        out.extend_from_slice(revision.0.to_string().as_bytes());
        let rest = &bytes[self.head..];
        out.extend_from_slice(if rest.first() == Some(&b'}') { b"\"" } else { b"\"," });
        out.extend_from_slice(rest);
    }
}

/// What selectors look at.
#[derive(Debug, Default)]
pub struct Facets {
    pub labels: serde_json::Map<String, Value>,
    pub name: String,
    pub namespace: String,
    /// Values of the strategy's selectable fields, in its order.
    pub fields: Vec<String>,
}

impl Facets {
    pub fn of(row: &Resource, object: &Value) -> Facets {
        let meta = &object["metadata"];
        Facets {
            labels: meta["labels"].as_object().cloned().unwrap_or_default(),
            name: meta["name"].as_str().unwrap_or_default().to_string(),
            namespace: meta["namespace"].as_str().unwrap_or_default().to_string(),
            fields: row.strategy.selectable_fields(object).into_iter().map(|f| f.1).collect(),
        }
    }

    /// Of a stored version that is as its readers see it; computed once and kept with it.
    pub fn stored(row: &Resource, entry: &Entry) -> Arc<Facets> {
        let memo = entry.memo.get_or_init(|| Arc::new(Facets::of(row, &decode(entry))));
        match memo.clone().downcast::<Facets>() {
            Ok(f) => f,
            Err(_) => Arc::new(Facets::of(row, &decode(entry))),
        }
    }
}
