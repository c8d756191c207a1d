//! Objects as the server's own parts (authorizers, admission plugins) read them: from memory, without a request.

use meta::status::Status;
use serde_json::Value;
use std::sync::Arc;
use store::{Entry, ListOptions, Store};

/// `/registry/<resource>[.<group>]/[<namespace>/]<name>`
pub fn key(group: &str, resource: &str, namespace: &str, name: &str) -> String {
    let mut k = prefix(group, resource, namespace);
    k.push_str(name);
    k
}

/// The `/`-ended prefix of a resource's keys, in one namespace or (empty) in all.
pub fn prefix(group: &str, resource: &str, namespace: &str) -> String {
    let mut k = format!("/registry/{}/", meta::status::qualified(resource, group));
    if !namespace.is_empty() {
        k.push_str(namespace);
        k.push('/');
    }
    k
}

/// Reads stored objects from memory, without a request.
#[derive(Clone)]
pub struct Reader {
    store: Arc<dyn Store>,
}

impl Reader {
    pub fn new(store: Arc<dyn Store>) -> Reader {
        Reader { store }
    }

    pub fn store(&self) -> &Arc<dyn Store> {
        &self.store
    }

    pub fn get(&self, group: &str, resource: &str, namespace: &str, name: &str) -> Option<Object> {
        self.store.get(&key(group, resource, namespace, name)).map(Object)
    }

    pub fn list(&self, group: &str, resource: &str, namespace: &str) -> Result<Vec<Object>, Status> {
        let page =
            self.store.list(&prefix(group, resource, namespace), &ListOptions::default()).map_err(Status::internal)?;
        Ok(page.entries.into_iter().map(Object).collect())
    }
}

/// A stored object; [`Object::value`] decodes it on first use.
#[derive(Clone)]
pub struct Object(pub Entry);

impl Object {
    /// Without `metadata.resourceVersion`, which is the entry's revision.
    pub fn value(&self) -> Arc<Value> {
        // The memo belongs to the resource engine's facets; parsing here is cheap for the few kinds that use it.
        Arc::new(serde_json::from_slice(&self.0.value).unwrap_or(Value::Null))
    }
}
