//! For unit tests alone: a store in memory with given objects in it.

use crate::reader::{Reader, key};
use serde_json::Value;

/// Objects name their resource by `kind`; a namespace in their metadata makes them namespaced.
pub async fn reader(objects: &[Value]) -> Reader {
    let reader = Reader::new(store::memory::open());
    for object in objects {
        put(&reader, object).await;
    }
    reader
}

fn key_of(object: &Value) -> String {
    let (api_version, kind) = (object["apiVersion"].as_str().unwrap(), object["kind"].as_str().unwrap());
    let group = api_version.split_once('/').map_or("", |(g, _)| g);
    let kind = kind.to_lowercase();
    let plural = match kind.as_str() {
        k if k.ends_with('y') => format!("{}ies", &k[..k.len() - 1]),
        k if k.ends_with("class") || k.ends_with("ingress") => format!("{k}es"),
        k => format!("{k}s"),
    };
    let meta = &object["metadata"];
    key(group, &plural, meta["namespace"].as_str().unwrap_or_default(), meta["name"].as_str().unwrap())
}

/// Creates or replaces.
pub async fn put(reader: &Reader, object: &Value) {
    let (key, bytes) = (key_of(object), serde_json::to_vec(object).unwrap());
    let done = match reader.store().get(&key) {
        Some(old) => reader.store().update(&key, bytes.into(), old.mod_revision, None).await,
        None => reader.store().create(&key, bytes.into(), None).await,
    };
    assert!(matches!(done, Ok(store::Cas::Done { .. })));
}

pub async fn remove(reader: &Reader, object: &Value) {
    assert!(matches!(reader.store().delete(&key_of(object), None).await, Ok(store::Cas::Done { .. })));
}
