//! VolumeAttributesClass (storage.k8s.io).

use super::{columns, storageclass};
use crate::strategy::{AGE, Column, NAME, Now, Strategy, column_of};
use crate::validation::access::*;
use crate::validation::values;
use meta::field::{Errors, Path};
use serde_json::{Value, json};

pub struct VolumeAttributesClass;

impl Strategy for VolumeAttributesClass {
    fn validate_create(&self, obj: &Value, errors: &mut Errors) {
        let (driver, p) = (text(obj, "driverName"), Path::new("driverName"));
        match driver {
            "" => errors.required(p, ""),
            d => values::each(errors, &p, d, meta::names::qualified_name(&d.to_lowercase())),
        }
        storageclass::parameters(obj, false, errors);
    }

    fn validate_update(&self, new: &Value, old: &Value, errors: &mut Errors) {
        for key in ["driverName", "parameters"] {
            if !same(field(new, key), field(old, key)) {
                errors.forbidden(Path::new(key), format!("updates to {key} are forbidden."));
            }
        }
        self.validate_create(new, errors);
    }

    fn columns(&self) -> &'static [Column] {
        const COLUMNS: &[Column] =
            &[NAME, column_of("DriverName", "string", 0, "api.storage.v1.VolumeAttributesClass.driverName"), AGE];
        COLUMNS
    }

    fn row(&self, obj: &Value, now: Now) -> Vec<Value> {
        vec![columns::name(obj), json!(text(obj, "driverName")), columns::age_cell(obj, now)]
    }
}
