//! Labels and annotations: keys are qualified names, values are label values (annotations: any text, bounded in total).

use super::values;
use meta::field::{Errors, Path};
use meta::names;
use serde_json::Value;

/// Keys and values of all annotations of an object together, in bytes.
const ANNOTATIONS_BYTES_MAX: usize = 256 * 1024;

pub fn labels(map: &Value, path: &Path, errors: &mut Errors) {
    for (k, v) in map.as_object().into_iter().flatten() {
        values::qualified_name(k, path, errors);
        values::label_value(v.as_str().unwrap_or(""), path, errors);
    }
}

pub fn annotations(map: &Value, path: &Path, errors: &mut Errors) {
    let mut total = 0;
    for (k, v) in map.as_object().into_iter().flatten() {
        // Annotation keys may be in upper case, also in the prefix.
        values::each(errors, path, k, names::qualified_name(&k.to_lowercase()));
        total += k.len() + v.as_str().map_or(0, str::len);
    }
    if total > ANNOTATIONS_BYTES_MAX {
        errors.too_long(path.clone(), ANNOTATIONS_BYTES_MAX);
    }
}
