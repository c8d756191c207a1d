//! LimitRange.

use super::columns;
use crate::strategy::{Column, Now, Strategy};
use crate::validation::access::*;
use crate::validation::podspec::{parse_quantity, resource_list};
use crate::validation::values;
use meta::field::{Errors, Path};
use serde_json::{Value, json};

pub struct LimitRange;

impl Strategy for LimitRange {
    fn defaults(&self, obj: &mut Value) {
        let Some(spec) = object_mut(obj, "spec") else {
            return;
        };
        for item in items_mut(spec, "limits") {
            if text(item, "type") != "Container" {
                continue;
            }
            // Downwards: max gives default, default gives the default request, min where neither does.
            for (to, from) in [("default", "max"), ("defaultRequest", "default"), ("defaultRequest", "min")] {
                let Some(source) = field(item, from).as_object().cloned() else {
                    continue;
                };
                if source.is_empty() {
                    continue;
                }
                fill(item, to, json!({}));
                if let Some(target) = object_mut(item, to) {
                    for (k, v) in source {
                        fill(target, &k, v);
                    }
                }
            }
        }
    }

    fn validate_create(&self, obj: &Value, errors: &mut Errors) {
        let items = list_at(obj, &["spec", "limits"]);
        for (i, item) in items.iter().enumerate() {
            let p = Path::new("spec.limits").index(i);
            let kind = text(item, "type");
            values::qualified_name(kind, &p.child("type"), errors);
            if items.iter().take(i).any(|o| text(o, "type") == kind) {
                errors.duplicate(p.child("type"), kind);
            }
            for key in ["max", "min", "default", "defaultRequest", "maxLimitRequestRatio"] {
                resource_list(field(item, key), &p.child(key), errors);
            }
            if kind == "Pod" {
                for key in ["default", "defaultRequest"] {
                    if !is_zero(field(item, key)) {
                        errors.forbidden(p.child(key), "may not be specified when `type` is 'Pod'");
                    }
                }
            }
            if kind == "PersistentVolumeClaim"
                && !has(field(item, "min"), "storage")
                && !has(field(item, "max"), "storage")
            {
                errors.required(
                    p.child("limits"),
                    "either minimum or maximum storage value is required, but neither was provided",
                );
            }
            ordered(item, &p, errors);
        }
    }

    fn validate_update(&self, new: &Value, _old: &Value, errors: &mut Errors) {
        self.validate_create(new, errors);
    }

    fn columns(&self) -> &'static [Column] {
        columns::NAME_AND_CREATED
    }

    fn row(&self, obj: &Value, _now: Now) -> Vec<Value> {
        columns::name_and_created(obj)
    }

    fn allow_create_on_update(&self) -> bool {
        true
    }
}

/// min <= defaultRequest <= default <= max, for each resource.
fn ordered(item: &Value, path: &Path, errors: &mut Errors) {
    for (low, high, words) in [
        ("min", "max", ("min value", "max value")),
        ("min", "defaultRequest", ("min value", "default request value")),
        ("defaultRequest", "max", ("default request value", "max value")),
        ("defaultRequest", "default", ("default request value", "default limit value")),
        ("min", "default", ("min value", "default value")),
        ("default", "max", ("default value", "max value")),
    ] {
        for (name, l) in entries(item, low) {
            let (Some(a), Some(b)) = (parse_quantity(l), parse_quantity(field(field(item, high), name))) else {
                continue;
            };
            if a > b {
                let text = format!("{} {} is greater than {} {}", words.0, a.canonical(), words.1, b.canonical());
                // Upstream files the fault under the lower bound, but for the default against max.
                errors.invalid(path.child(low).key(name), a.canonical(), text);
            }
        }
    }
}
