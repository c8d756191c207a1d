//! ConfigMap.

use super::columns;
use crate::strategy::{AGE, Column, NAME, Now, Strategy, column_of};
use crate::validation::access::*;
use crate::validation::values;
use meta::field::{Errors, Path};
use serde_json::{Value, json};

pub struct ConfigMap;

/// Bytes of all values of a ConfigMap or Secret together.
pub const SIZE_MAX: usize = 1024 * 1024;
const FROZEN: &str = "field is immutable when `immutable` is set";

impl Strategy for ConfigMap {
    fn validate_create(&self, obj: &Value, errors: &mut Errors) {
        let mut size = 0;
        for (k, v) in entries(obj, "data") {
            let p = Path::new("data").key(k);
            values::each(errors, &p, k, meta::names::config_map_key(k));
            if has(field(obj, "binaryData"), k) {
                errors.invalid(p, k, "duplicate of key present in binaryData");
            }
            size += v.as_str().map_or(0, str::len);
        }
        for (k, v) in entries(obj, "binaryData") {
            values::each(errors, &Path::new("binaryData").key(k), k, meta::names::config_map_key(k));
            size += decoded_len(v.as_str().unwrap_or(""));
        }
        if size > SIZE_MAX {
            // Upstream names no field here, which prints like this.
            errors.too_long(Path::new("[]"), SIZE_MAX);
        }
    }

    fn validate_update(&self, new: &Value, old: &Value, errors: &mut Errors) {
        frozen(new, old, &["data", "binaryData"], errors);
        self.validate_create(new, errors);
    }

    fn columns(&self) -> &'static [Column] {
        const COLUMNS: &[Column] = &[NAME, column_of("Data", "string", 0, "api.core.v1.ConfigMap.data"), AGE];
        COLUMNS
    }

    fn row(&self, obj: &Value, now: Now) -> Vec<Value> {
        let count = entries(obj, "data").count() + entries(obj, "binaryData").count();
        vec![columns::name(obj), json!(count), columns::age_cell(obj, now)]
    }
}

/// Bytes behind a base64 text.
pub fn decoded_len(base64: &str) -> usize {
    base64.trim_end_matches('=').len() * 3 / 4
}

/// `immutable: true` can't be taken back, and fixes the data.
pub fn frozen(new: &Value, old: &Value, data: &[&str], errors: &mut Errors) {
    if !flag(old, "immutable") {
        return;
    }
    if !flag(new, "immutable") {
        errors.forbidden(Path::new("immutable"), FROZEN);
    }
    for key in data {
        if !same(field(new, key), field(old, key)) {
            errors.forbidden(Path::new(key), FROZEN);
        }
    }
}
