//! ResourceQuota.

use super::{columns, pod};
use crate::strategy::{AGE, Column, NAME, Now, Strategy, column};
use crate::validation::access::*;
use crate::validation::podspec;
use crate::validation::values;
use meta::field::{Errors, Path};
use serde_json::{Value, json};

pub struct ResourceQuota;

const SCOPES: &[&str] = &[
    "BestEffort",
    "CrossNamespacePodAffinity",
    "NotBestEffort",
    "NotTerminating",
    "PriorityClass",
    "Terminating",
    "VolumeAttributesClass",
];

const FIXED: &str = "must be 'Exists' when scope is any of ResourceQuotaScopeTerminating, ResourceQuotaScopeNotTerminating, ResourceQuotaScopeBestEffort, ResourceQuotaScopeNotBestEffort or ResourceQuotaScopeCrossNamespacePodAffinity";

/// Names without a slash that quotas count.
fn is_standard(name: &str) -> bool {
    crate::quota::counted_by(name).is_some() && !name.contains('/')
}

/// Whether a quota with this scope can count this resource.
fn takes_scope(name: &str, scope: &str) -> bool {
    let compute = ["cpu", "memory", "limits.cpu", "limits.memory", "requests.cpu", "requests.memory"].contains(&name);
    match scope {
        "BestEffort" => name == "pods",
        "Terminating" | "NotTerminating" | "NotBestEffort" | "PriorityClass" | "CrossNamespacePodAffinity" => {
            name == "pods" || compute
        }
        "VolumeAttributesClass" => name == "persistentvolumeclaims" || name.ends_with("requests.storage"),
        _ => true,
    }
}

impl Strategy for ResourceQuota {
    fn defaults(&self, obj: &mut Value) {
        for part in ["spec", "status"] {
            if let Some(p) = object_mut(obj, part) {
                pod::defaults::amounts(p, &["hard", "used"]);
            }
        }
    }

    fn validate_create(&self, obj: &Value, errors: &mut Errors) {
        let (spec, path) = (field(obj, "spec"), Path::new("spec"));
        amounts(field(spec, "hard"), &path.child("hard"), errors);
        let scopes = texts(spec, "scopes");
        for s in &scopes {
            let shown = || field(spec, "scopes").clone();
            if !SCOPES.contains(s) {
                errors.invalid(path.child("scopes"), shown(), "unsupported scope");
            }
            for (name, _) in entries(spec, "hard").filter(|(name, _)| is_standard(name)) {
                if !takes_scope(name, s) {
                    errors.invalid(path.child("scopes"), shown(), "unsupported scope applied to resource");
                }
            }
        }
        for pair in [["BestEffort", "NotBestEffort"], ["Terminating", "NotTerminating"]] {
            if pair.iter().all(|p| scopes.contains(p)) {
                errors.invalid(path.child("scopes"), field(spec, "scopes").clone(), "conflicting scopes");
            }
        }
        scope_selector(spec, &path.child("scopeSelector.matchExpressions"), errors);
    }

    fn validate_update(&self, new: &Value, old: &Value, errors: &mut Errors) {
        self.validate_create(new, errors);
        let scopes = |o| {
            let mut s: Vec<String> = texts(field(o, "spec"), "scopes").iter().map(|s| s.to_string()).collect();
            s.sort();
            s.dedup();
            s
        };
        if scopes(new) != scopes(old) {
            let value = at(new, &["spec", "scopes"]).clone();
            errors.invalid(Path::new("spec.scopes"), value, values::IMMUTABLE);
        }
    }

    fn validate_status_update(&self, new: &Value, _old: &Value, errors: &mut Errors) {
        for key in ["hard", "used"] {
            amounts(at(new, &["status", key]), &Path::new("status").child(key), errors);
        }
    }

    fn columns(&self) -> &'static [Column] {
        const COLUMNS: &[Column] = &[
            NAME,
            column("Request", "string", 0, "What is requested, of how much that may be."),
            column("Limit", "string", 0, "What the limits add up to, of how much that may be."),
            AGE,
        ];
        COLUMNS
    }

    fn row(&self, obj: &Value, now: Now) -> Vec<Value> {
        let status = field(obj, "status");
        let shown = |limits: bool| {
            let all: Vec<String> = entries(status, "hard")
                .filter(|(k, _)| k.starts_with("limits.") == limits)
                .map(|(k, hard)| {
                    let q = super::persistentvolumeclaim::quantity;
                    format!("{k}: {}/{}", q(field(field(status, "used"), k)), q(hard))
                })
                .collect();
            json!(all.join(", "))
        };
        vec![columns::name(obj), shown(false), shown(true), columns::age_cell(obj, now)]
    }
}

fn amounts(amounts: &Value, path: &Path, errors: &mut Errors) {
    for (name, q) in amounts.as_object().into_iter().flatten() {
        let p = path.key(name);
        podspec::resource_name(name, &p, errors);
        if !name.contains('/') && !is_standard(name) {
            errors.invalid(p.clone(), name.as_str(), "must be a standard resource for quota");
        }
        podspec::quantity_value(name, q, &p, errors);
    }
}

/// Upstream doesn't say which of the expressions is at fault.
fn scope_selector(spec: &Value, p: &Path, errors: &mut Errors) {
    let expressions = list_at(spec, &["scopeSelector", "matchExpressions"]);
    let fixed = ["BestEffort", "NotBestEffort", "Terminating", "NotTerminating", "CrossNamespacePodAffinity"];
    for e in expressions {
        let (scope, operator) = (text(e, "scopeName"), text(e, "operator"));
        if !SCOPES.contains(&scope) {
            errors.invalid(p.child("scopeName"), scope, "unsupported scope");
        }
        for _ in entries(spec, "hard").filter(|(name, _)| is_standard(name) && !takes_scope(name, scope)) {
            let shown = field(spec, "scopeSelector").clone();
            errors.invalid(p.clone(), shown, "unsupported scope applied to resource");
        }
        if fixed.contains(&scope) && operator != "Exists" {
            errors.invalid(p.child("operator"), operator, FIXED);
        }
        match operator {
            "In" | "NotIn" => {
                if list(e, "values").is_empty() {
                    let text = "must be at least one value when `operator` is 'In' or 'NotIn' for scope selector";
                    errors.required(p.child("values"), text);
                }
            }
            "Exists" | "DoesNotExist" => {
                if !list(e, "values").is_empty() {
                    let text = "must be no value when `operator` is 'Exist' or 'DoesNotExist' for scope selector";
                    errors.invalid(p.child("values"), field(e, "values").clone(), text);
                }
            }
            other => errors.invalid(p.child("operator"), other, "not a valid selector operator"),
        }
    }
    for pair in [["BestEffort", "NotBestEffort"], ["Terminating", "NotTerminating"]] {
        if pair.iter().all(|s| expressions.iter().any(|e| text(e, "scopeName") == *s)) {
            errors.invalid(p.clone(), field(spec, "scopes").clone(), "conflicting scopes");
        }
    }
}
