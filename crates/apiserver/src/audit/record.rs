//! What one request's audit events will say. Filled by the steps that the request passes.

use parking_lot::Mutex;
use std::collections::BTreeMap;

/// Shared by all that handle the request; every method is a no-op where nothing is recorded.
#[derive(Default)]
pub struct Record(Option<Box<Inner>>);

#[derive(Default)]
struct Inner {
    annotations: Mutex<BTreeMap<String, String>>,
}

impl Record {
    /// Of a request that isn't audited.
    pub const OFF: Record = Record(None);

    /// Whether it is worth to put together what to record.
    pub fn is_on(&self) -> bool {
        self.0.is_some()
    }

    /// Adds an annotation. As upstream, the first value of a key stays.
    pub fn annotate(&self, key: impl Into<String>, value: impl Into<String>) {
        if let Some(inner) = &self.0 {
            inner.annotations.lock().entry(key.into()).or_insert_with(|| value.into());
        }
    }
}
