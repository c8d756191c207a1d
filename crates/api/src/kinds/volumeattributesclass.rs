//! VolumeAttributesClass (storage.k8s.io).

use super::{columns, csi};
use crate::strategy::{Column, NAME, Now, Strategy, column};
use crate::validation::access::*;
use meta::field::{Errors, Path};
use serde_json::{Value, json};

pub struct VolumeAttributesClass;

const DEFAULT_ANNOTATION: &str = "volumeattributesclass.alpha.kubernetes.io/is-default-class";

impl Strategy for VolumeAttributesClass {
    fn validate_create(&self, obj: &Value, errors: &mut Errors) {
        csi::driver_name(text(obj, "driverName"), &Path::new("driverName"), errors);
        let parameters = pairs(obj, "parameters");
        if parameters.is_empty() {
            errors.required(Path::new("parameters"), "must contain at least one key/value pair");
        }
        if parameters.iter().any(|p| p.0.is_empty()) {
            errors.invalid(Path::new("parameters"), "", "field can not be empty.");
        }
    }

    fn validate_update(&self, new: &Value, old: &Value, errors: &mut Errors) {
        for key in ["driverName", "parameters"] {
            if !same(field(new, key), field(old, key)) {
                errors.forbidden(Path::new(key), format!("updates to {key} are forbidden."));
            }
        }
    }

    fn columns(&self) -> &'static [Column] {
        const COLUMNS: &[Column] = &[NAME, column("DriverName", "string", 0), column("Age", "string", 0)];
        COLUMNS
    }

    fn row(&self, obj: &Value, now: Now) -> Vec<Value> {
        let name = text_at(obj, &["metadata", "name"]);
        let default = text(at(obj, &["metadata", "annotations"]), DEFAULT_ANNOTATION) == "true";
        let shown = if default { format!("{name} (default)") } else { name.to_string() };
        vec![json!(shown), json!(text(obj, "driverName")), columns::age_cell(obj, now)]
    }
}
