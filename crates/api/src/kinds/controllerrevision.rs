//! ControllerRevision: an immutable snapshot of a StatefulSet's or DaemonSet's template.

use super::columns;
use crate::strategy::{AGE, Column, NAME, Now, Strategy, column, column_of};
use crate::validation::access::*;
use crate::validation::values;
use meta::field::{Errors, Path};
use serde_json::{Value, json};

pub struct ControllerRevision;

impl Strategy for ControllerRevision {
    fn validate_create(&self, obj: &Value, errors: &mut Errors) {
        values::non_negative(field(obj, "revision"), Path::new("revision"), errors);
        match field(obj, "data") {
            Value::Object(_) => {}
            Value::Null => errors.required(Path::new("data"), "data is mandatory"),
            _ => errors.required(Path::new("data"), "data must be a valid JSON object"),
        }
    }

    fn validate_update(&self, new: &Value, old: &Value, errors: &mut Errors) {
        values::non_negative(field(new, "revision"), Path::new("revision"), errors);
        values::immutable(field(new, "data"), field(old, "data"), Path::new("data"), errors);
    }

    fn columns(&self) -> &'static [Column] {
        const COLUMNS: &[Column] = &[
            NAME,
            column("Controller", "string", 0, "Controller that the revision belongs to."),
            column_of("Revision", "string", 0, "api.apps.v1.ControllerRevision.revision"),
            AGE,
        ];
        COLUMNS
    }

    fn row(&self, obj: &Value, now: Now) -> Vec<Value> {
        let owner = list_at(obj, &["metadata", "ownerReferences"]).iter().find(|r| flag(r, "controller"));
        let controller = owner.map_or(String::new(), |o| {
            let kind = text(o, "kind").to_lowercase();
            match text(o, "apiVersion").split_once('/') {
                Some((group, _)) => format!("{kind}.{group}/{}", text(o, "name")),
                None => format!("{kind}/{}", text(o, "name")),
            }
        });
        vec![
            columns::name(obj),
            columns::or_none(&controller),
            json!(int(obj, "revision").unwrap_or(0)),
            columns::age_cell(obj, now),
        ]
    }
}
