//! PriorityClass (scheduling.k8s.io).

use super::columns;
use crate::strategy::{AGE, Column, NAME, Now, Strategy, column_of};
use crate::validation::access::*;
use crate::validation::values;
use meta::field::{Errors, Path};
use serde_json::{Value, json};

pub struct PriorityClass;

/// The highest value that users may give; above are the system's own classes.
const USER_MAX: i64 = 1_000_000_000;
const SYSTEM: [(&str, i64); 2] =
    [("system-cluster-critical", 2 * USER_MAX), ("system-node-critical", 2 * USER_MAX + 1000)];

impl Strategy for PriorityClass {
    fn defaults(&self, obj: &mut Value) {
        fill(obj, "preemptionPolicy", "PreemptLowerPriority");
    }

    fn validate_create(&self, obj: &Value, errors: &mut Errors) {
        let name = text_at(obj, &["metadata", "name"]);
        let value = int(obj, "value").unwrap_or(0);
        if name.starts_with("system-") {
            let why = match SYSTEM.iter().find(|s| s.0 == name) {
                None => format!("{name} is not a known system priority class"),
                Some((_, v)) if *v != value => format!("value of {name} PriorityClass must be {v}"),
                Some(_) if flag(obj, "globalDefault") => {
                    format!("globalDefault of {name} PriorityClass must be false")
                }
                Some(_) => String::new(),
            };
            if !why.is_empty() {
                errors.forbidden(
                    Path::new("metadata.name"),
                    format!(
                        "priority class names with 'system-' prefix are reserved for system use only. error: {why}"
                    ),
                );
            }
        } else if value > USER_MAX {
            let text = format!("maximum allowed value of a user defined priority is {USER_MAX}");
            errors.forbidden(Path::new("value"), text);
        }
        if has(obj, "preemptionPolicy") {
            let supported = ["PreemptLowerPriority", "Never"];
            values::required_one_of(text(obj, "preemptionPolicy"), &supported, Path::new("preemptionPolicy"), errors);
        }
    }

    fn validate_update(&self, new: &Value, old: &Value, errors: &mut Errors) {
        if int(new, "value") != int(old, "value") {
            errors.forbidden(Path::new("value"), "may not be changed in an update.");
        }
        let key = "preemptionPolicy";
        values::immutable(field(new, key), field(old, key), Path::new(key), errors);
    }

    // It stays 1, whatever changes.
    fn has_generation(&self) -> bool {
        true
    }

    fn columns(&self) -> &'static [Column] {
        const COLUMNS: &[Column] = &[
            NAME,
            column_of("Value", "integer", 0, "api.scheduling.v1.PriorityClass.value"),
            column_of("Global-Default", "boolean", 0, "api.scheduling.v1.PriorityClass.globalDefault"),
            AGE,
            column_of("PreemptionPolicy", "string", 0, "api.scheduling.v1.PriorityClass.preemptionPolicy"),
        ];
        COLUMNS
    }

    fn row(&self, obj: &Value, now: Now) -> Vec<Value> {
        vec![
            columns::name(obj),
            columns::number(obj, "value"),
            json!(flag(obj, "globalDefault")),
            columns::age_cell(obj, now),
            json!(text(obj, "preemptionPolicy")),
        ]
    }
}
