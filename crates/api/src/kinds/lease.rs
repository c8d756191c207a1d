//! Lease (coordination.k8s.io).

use super::columns;
use crate::strategy::{AGE, Column, NAME, Now, Strategy, column_of};
use crate::validation::access::*;
use crate::validation::values;
use meta::field::{Errors, Path};
use serde_json::{Value, json};

pub struct Lease;

impl Strategy for Lease {
    fn validate_create(&self, obj: &Value, errors: &mut Errors) {
        let (spec, p) = (field(obj, "spec"), Path::new("spec"));
        if let Some(n) = int(spec, "leaseDurationSeconds")
            && n <= 0
        {
            errors.invalid(p.child("leaseDurationSeconds"), n, "must be greater than 0");
        }
        values::non_negative(field(spec, "leaseTransitions"), p.child("leaseTransitions"), errors);
        if has(spec, "strategy") {
            let strategy = text(spec, "strategy");
            // Upstream names the field twice.
            let q = p.child("strategy.strategy");
            if strategy.contains('/') {
                values::qualified_name(strategy, &q, errors);
            } else {
                values::one_of(strategy, &["OldestEmulationVersion"], q, errors);
            }
        }
        if !text(spec, "preferredHolder").is_empty() && text(spec, "strategy").is_empty() {
            errors.forbidden(p.child("preferredHolder"), "may only be specified if `strategy` is defined");
        }
    }

    fn validate_update(&self, new: &Value, _old: &Value, errors: &mut Errors) {
        self.validate_create(new, errors);
    }

    fn columns(&self) -> &'static [Column] {
        const COLUMNS: &[Column] =
            &[NAME, column_of("Holder", "string", 0, "api.coordination.v1.LeaseSpec.holderIdentity"), AGE];
        COLUMNS
    }

    fn row(&self, obj: &Value, now: Now) -> Vec<Value> {
        vec![columns::name(obj), json!(text_at(obj, &["spec", "holderIdentity"])), columns::age_cell(obj, now)]
    }

    fn allow_create_on_update(&self) -> bool {
        true
    }

    fn allow_unconditional_update(&self) -> bool {
        false
    }
}
