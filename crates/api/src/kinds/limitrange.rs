//! LimitRange.

use super::{columns, pod};
use crate::strategy::{Column, Now, Strategy};
use crate::validation::access::*;
use crate::validation::podspec::{self, parse_quantity};
use crate::validation::seen::Seen;
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
            pod::defaults::amounts(item, &["max", "min", "default", "defaultRequest", "maxLimitRequestRatio"]);
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

    // One without a name gets a random one, which its UID is.
    fn prepare_create(&self, obj: &mut Value, _has_status: bool) {
        if let Some(meta) = object_mut(obj, "metadata") {
            let uid = field(meta, "uid").clone();
            fill_zero(meta, "name", uid);
        }
    }

    fn validate_create(&self, obj: &Value, errors: &mut Errors) {
        let items = list_at(obj, &["spec", "limits"]);
        let mut seen = Seen::default();
        for (i, item) in items.iter().enumerate() {
            let p = Path::new("spec.limits").index(i);
            let kind = text(item, "type");
            let faults = errors.0.len();
            values::qualified_name(kind, &p.child("type"), errors);
            let known = ["Container", "PersistentVolumeClaim", "Pod"].contains(&kind) || kind.contains('/');
            if errors.0.len() == faults && !known {
                errors.invalid(p.child("type"), kind, "must be a standard limit type or fully qualified");
            }
            if seen.again(kind) {
                errors.duplicate(p.child("type"), kind);
            }
            let rule = match kind {
                "Pod" | "Container" => podspec::container_resource_name,
                _ => podspec::resource_name,
            };
            let names = |key: &str, errors: &mut Errors| {
                for (name, _) in entries(item, key) {
                    rule(name, &p.child(key).key(name), errors);
                }
            };
            names("max", errors);
            names("min", errors);
            for key in ["default", "defaultRequest"] {
                if kind != "Pod" {
                    names(key, errors);
                } else if !is_zero(field(item, key)) {
                    errors.forbidden(p.child(key), "may not be specified when `type` is 'Pod'");
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
            names("maxLimitRequestRatio", errors);
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

/// min <= defaultRequest <= default <= max, for each resource; and a ratio that the bounds leave room for.
fn ordered(item: &Value, path: &Path, errors: &mut Errors) {
    let get = |key: &str, name: &str| parse_quantity(field(field(item, key), name));
    let mut names: Vec<&str> = ["max", "min", "default", "defaultRequest", "maxLimitRequestRatio"]
        .iter()
        .flat_map(|key| entries(item, key))
        .map(|e| e.0)
        .collect();
    names.sort_unstable();
    names.dedup();
    for name in names {
        // (lower, higher, the field that is at fault, whether the lower amount is shown, words)
        for (low, high, at, shows_low, words) in [
            ("min", "max", "min", true, ("min value", "max value")),
            ("min", "defaultRequest", "defaultRequest", false, ("min value", "default request value")),
            ("defaultRequest", "max", "defaultRequest", true, ("default request value", "max value")),
            ("defaultRequest", "default", "defaultRequest", true, ("default request value", "default limit value")),
            ("min", "default", "default", true, ("min value", "default value")),
            ("default", "max", "default", false, ("default value", "max value")),
        ] {
            let (Some(a), Some(b)) = (get(low, name), get(high, name)) else { continue };
            if a > b {
                let text = format!("{} {} is greater than {} {}", words.0, a.canonical(), words.1, b.canonical());
                let shown = if shows_low { a } else { b };
                errors.invalid(path.child(at).key(name), shown.canonical(), text);
            }
        }
        if let (Some(limit), Some(request)) = (get("default", name), get("defaultRequest", name))
            && !podspec::overcommit_allowed(name)
            && limit != request
        {
            let text = format!(
                "default value {} must equal to defaultRequest value {} in {name}",
                limit.canonical(),
                request.canonical()
            );
            errors.invalid(path.child("defaultRequest").key(name), request.canonical(), text);
        }
        let Some(ratio) = get("maxLimitRequestRatio", name) else { continue };
        let p = path.child("maxLimitRequestRatio").key(name);
        if ratio.as_f64() < 1.0 {
            errors.invalid(p.clone(), ratio.canonical(), format!("ratio {} is less than 1", ratio.canonical()));
        }
        if let (Some(min), Some(max)) = (get("min", name), get("max", name))
            && !min.is_zero()
            && ratio.as_f64() > max.as_f64() / min.as_f64()
        {
            let most = max.as_f64() / min.as_f64();
            let text = format!("ratio {} is greater than max/min = {most:.6}", ratio.canonical());
            errors.invalid(p, ratio.canonical(), text);
        }
    }
}
