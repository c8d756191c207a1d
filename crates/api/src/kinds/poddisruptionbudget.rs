//! PodDisruptionBudget.

use super::columns;
use crate::strategy::{AGE, Column, NAME, Now, Strategy, column};
use crate::validation::access::*;
use crate::validation::{conditions, selector, values, workload};
use meta::field::{Errors, Path};
use serde_json::{Value, json};

pub struct PodDisruptionBudget;

impl Strategy for PodDisruptionBudget {
    fn validate_create(&self, obj: &Value, errors: &mut Errors) {
        validate(field(obj, "spec"), &Value::Null, errors);
    }

    fn validate_update(&self, new: &Value, old: &Value, errors: &mut Errors) {
        validate(field(new, "spec"), field(old, "spec"), errors);
    }

    fn validate_status_update(&self, new: &Value, _old: &Value, errors: &mut Errors) {
        let p = Path::new("status");
        conditions::conditions(list_at(new, &["status", "conditions"]), &p.child("conditions"), errors);
        let counts = ["disruptionsAllowed", "currentHealthy", "desiredHealthy", "expectedPods"];
        workload::non_negative(field(new, "status"), &counts, &p, errors);
    }

    fn columns(&self) -> &'static [Column] {
        const COLUMNS: &[Column] = &[
            NAME,
            column("Min Available", "string", 0, "How many pods must stay available."),
            column("Max Unavailable", "string", 0, "How many pods may be unavailable."),
            column("Allowed Disruptions", "integer", 0, "How many pods may be disrupted now."),
            AGE,
        ];
        COLUMNS
    }

    fn row(&self, obj: &Value, now: Now) -> Vec<Value> {
        let amount = |key| match at(obj, &["spec", key]) {
            Value::Null => json!("N/A"),
            Value::Number(n) => json!(n.to_string()),
            v => v.clone(),
        };
        vec![
            columns::name(obj),
            amount("minAvailable"),
            amount("maxUnavailable"),
            columns::number(field(obj, "status"), "disruptionsAllowed"),
            columns::age_cell(obj, now),
        ]
    }

    fn allow_unconditional_update(&self) -> bool {
        false
    }

    fn has_generation(&self) -> bool {
        true
    }
}

/// `old` is the older version's, or null: values in its selector that no label can have may stay.
fn validate(spec: &Value, old: &Value, errors: &mut Errors) {
    let path = Path::new("spec");
    if has(spec, "minAvailable") && has(spec, "maxUnavailable") {
        let text = "minAvailable and maxUnavailable cannot be both set";
        errors.invalid(path.clone(), spec.clone(), text);
    }
    for key in ["minAvailable", "maxUnavailable"] {
        if has(spec, key) {
            values::int_or_percent(field(spec, key), &path.child(key), errors);
            values::not_more_than_100_percent(field(spec, key), &path.child(key), errors);
        }
    }
    let mut before = Errors::default();
    selector::label_selector(field(old, "selector"), &path, &mut before);
    selector::label_selector_with(field(spec, "selector"), !before.is_empty(), &path.child("selector"), errors);
    let policy = "unhealthyPodEvictionPolicy";
    if has(spec, policy) {
        values::one_of(text(spec, policy), &["AlwaysAllow", "IfHealthyBudget"], path.child(policy), errors);
    }
}
