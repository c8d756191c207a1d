//! What a version's schema becomes: made when it is first asked for, and forgotten when nobody has asked for a while.
//!
//! A cluster has hundreds of definitions, some with schemas of a megabyte, and of most of them few objects or none.
//! So a version keeps the text of its schema, compressed, and each form of it is made for whoever needs it: structure
//! for every reader, types for those who track owners, rules for writers, the text as it was for OpenAPI.

use super::schema::Schema;
use super::{embedded, types};
use meta::schema::{TypeId, Types};
use serde_json::Value;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

/// Schemas are much the same line after line: the fastest level makes a tenth of them.
const LEVEL: i32 = 1;

/// A schema, and what was made of it.
pub struct Source {
    text: Box<[u8]>,
    /// Of the text before it was compressed.
    bytes: usize,
    made: Mutex<Option<Arc<Compiled>>>,
    /// Since [`Source::forget_unused`] looked last.
    used: AtomicBool,
}

/// The forms of one schema.
pub struct Compiled {
    pub schema: Schema,
    types: OnceLock<(Arc<Types>, TypeId)>,
    rules: OnceLock<Option<cel::rules::Rules>>,
}

impl Source {
    pub fn new(schema: &Value) -> Source {
        let text = schema.to_string().into_bytes();
        let bytes = text.len();
        // Compression into memory doesn't fail; whatever it were, the text as it is will do.
        let (text, bytes) = match zstd::bulk::compress(&text, LEVEL) {
            Ok(small) => (small, bytes),
            Err(_) => (text, 0),
        };
        Source { text: text.into(), bytes, made: Mutex::default(), used: AtomicBool::default() }
    }

    /// The schema as it was written.
    pub fn value(&self) -> Value {
        let whole = match self.bytes {
            0 => self.text.to_vec(),
            n => zstd::bulk::decompress(&self.text, n).expect("it was compressed here"),
        };
        serde_json::from_slice(&whole).expect("it was a value")
    }

    pub fn compiled(&self) -> Arc<Compiled> {
        self.used.store(true, Ordering::Relaxed);
        let mut made = self.made.lock().unwrap_or_else(PoisonError::into_inner);
        let compile = || {
            let mut schema = Schema::compile(&self.value());
            embedded::prune_defaults(&mut schema);
            Arc::new(Compiled { schema, types: OnceLock::new(), rules: OnceLock::new() })
        };
        made.get_or_insert_with(compile).clone()
    }

    pub fn types(&self) -> (Arc<Types>, TypeId) {
        let compiled = self.compiled();
        let (types, root) = compiled.types.get_or_init(|| {
            let (types, root) = types::types(&compiled.schema);
            (Arc::new(types), root)
        });
        (types.clone(), *root)
    }

    /// `x-kubernetes-validations`, `None` where there are none.
    pub fn rules<'c>(&self, compiled: &'c Compiled) -> Option<&'c cel::rules::Rules> {
        compiled.rules.get_or_init(|| cel::rules::Rules::new(&self.value())).as_ref()
    }

    /// Drops what was made, unless somebody asked for it since this was called last; whether it did.
    pub fn forget_unused(&self) -> bool {
        !self.used.swap(false, Ordering::Relaxed)
            && self.made.lock().unwrap_or_else(PoisonError::into_inner).take().is_some()
    }
}
