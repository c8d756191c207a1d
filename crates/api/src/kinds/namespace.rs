//! Namespace.

use super::columns;
use crate::strategy::{AGE, Column, NAME, NameRule, Now, Strategy, column};
use crate::validation::access::*;
use crate::validation::values;
use meta::field::{Errors, Path};
use serde_json::{Value, json};

pub struct Namespace;

/// Lets selectors match a namespace by its name.
const NAME_LABEL: &str = "kubernetes.io/metadata.name";

impl Strategy for Namespace {
    fn defaults(&self, obj: &mut Value) {
        let name = text_at(obj, &["metadata", "name"]).to_string();
        // With `generateName` the name comes later; the defaults run again then.
        if !name.is_empty()
            && let Some(labels) = ensure_object(obj, "metadata").and_then(|m| ensure_object(m, "labels"))
        {
            set(labels, NAME_LABEL, name);
        }
        if let Some(status) = ensure_object(obj, "status") {
            fill_zero(status, "phase", "Active");
        }
    }

    fn prepare_create(&self, obj: &mut Value, _has_status: bool) {
        set(obj, "status", json!({"phase": "Active"}));
        let Some(spec) = ensure_object(obj, "spec") else {
            return;
        };
        fill(spec, "finalizers", json!([]));
        if let Some(list) = spec.get_mut("finalizers").and_then(Value::as_array_mut)
            && !list.iter().any(|f| f == "kubernetes")
        {
            list.push(json!("kubernetes"));
        }
    }

    fn prepare_update(&self, new: &mut Value, old: &Value, _has_status: bool) {
        // Finalizers of the spec change through `namespaces/finalize` alone.
        copy_field(new, old, "spec");
        copy_field(new, old, "status");
    }

    fn validate_create(&self, obj: &Value, errors: &mut Errors) {
        for f in texts(field(obj, "spec"), "finalizers") {
            finalizer(f, &Path::new("spec.finalizers"), errors);
        }
    }

    fn validate_update(&self, _new: &Value, _old: &Value, _errors: &mut Errors) {}

    fn validate_status_update(&self, new: &Value, old: &Value, errors: &mut Errors) {
        let phase = text_at(new, &["status", "phase"]);
        // Upstream writes it with a capital.
        let p = Path::new("status.Phase");
        if has(field(old, "metadata"), "deletionTimestamp") {
            if phase != "Terminating" {
                errors.invalid(p, phase, "may only be 'Terminating' if `deletionTimestamp` is not empty");
            }
        } else if phase != "Active" {
            errors.invalid(p, phase, "may only be 'Active' if `deletionTimestamp` is empty");
        }
    }

    fn validate_subresource_update(&self, subresource: &str, new: &Value, _old: &Value, errors: &mut Errors) {
        if subresource == "finalize" {
            finalize(new, errors);
        }
    }

    fn selectable_fields(&self, obj: &Value) -> Vec<(&'static str, String)> {
        vec![("status.phase", text_at(obj, &["status", "phase"]).to_string())]
    }

    fn columns(&self) -> &'static [Column] {
        const COLUMNS: &[Column] =
            &[NAME, column("Status", "string", 0, "Whether the namespace is active, or going."), AGE];
        COLUMNS
    }

    fn row(&self, obj: &Value, now: Now) -> Vec<Value> {
        vec![columns::name(obj), json!(text_at(obj, &["status", "phase"])), columns::age_cell(obj, now)]
    }

    fn name_rule(&self) -> NameRule {
        NameRule::Label
    }
}

/// `namespaces/finalize`
fn finalize(new: &Value, errors: &mut Errors) {
    for (i, f) in texts(field(new, "spec"), "finalizers").iter().enumerate() {
        finalizer(f, &Path::new("spec.finalizers").index(i), errors);
    }
}

fn finalizer(f: &str, path: &Path, errors: &mut Errors) {
    values::qualified_name(f, path, errors);
    if !f.contains('/') && !["kubernetes", "orphan", "foregroundDeletion"].contains(&f) {
        errors.invalid(path.clone(), f, "name is neither a standard finalizer name nor is it fully qualified");
    }
}
