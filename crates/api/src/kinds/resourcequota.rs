//! ResourceQuota.

use super::columns;
use crate::strategy::{Column, NAME, Now, Strategy, column};
use crate::validation::access::*;
use crate::validation::podspec::resource_list;
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

const FIXED: &str = "must be 'Exist' when scope is any of ResourceQuotaScopeTerminating, ResourceQuotaScopeNotTerminating, ResourceQuotaScopeBestEffort, ResourceQuotaScopeNotBestEffort or ResourceQuotaScopeCrossNamespacePodAffinity";

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
    fn validate_create(&self, obj: &Value, errors: &mut Errors) {
        let (spec, path) = (field(obj, "spec"), Path::new("spec"));
        resource_list(field(spec, "hard"), &path.child("hard"), errors);
        for (name, _) in entries(spec, "hard") {
            if !name.contains('/') && !is_standard(name) {
                errors.invalid(path.child("hard").key(name), name, "must be a standard resource for quota");
            }
        }
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
        for (i, e) in list_at(spec, &["scopeSelector", "matchExpressions"]).iter().enumerate() {
            let p = path.child("scopeSelector.matchExpressions").index(i);
            if !SCOPES.contains(&text(e, "scopeName")) {
                errors.invalid(p.child("scopeName"), text(e, "scopeName"), "unsupported scope");
            }
            let fixed = ["BestEffort", "NotBestEffort", "Terminating", "NotTerminating", "CrossNamespacePodAffinity"];
            if fixed.contains(&text(e, "scopeName")) && text(e, "operator") != "Exists" {
                errors.invalid(p.child("operator"), text(e, "operator"), FIXED);
            }
            match text(e, "operator") {
                "In" | "NotIn" if list(e, "values").is_empty() => {
                    let text = "must be at least one value when `operator` is 'In' or 'NotIn' for scope selector";
                    errors.required(p.child("values"), text);
                }
                "In" | "NotIn" => {}
                "Exists" | "DoesNotExist" => {
                    if !list(e, "values").is_empty() {
                        let text = "must be no value when `operator` is 'Exist' or 'DoesNotExist' for scope selector";
                        errors.invalid(p.child("values"), field(e, "values").clone(), text);
                    }
                }
                other => errors.invalid(p.child("operator"), other, "not a valid selector operator"),
            }
        }
    }

    fn validate_update(&self, new: &Value, old: &Value, errors: &mut Errors) {
        self.validate_create(new, errors);
        let scopes = |o| {
            let mut s: Vec<String> = texts(field(o, "spec"), "scopes").iter().map(|s| s.to_string()).collect();
            s.sort();
            s
        };
        if scopes(new) != scopes(old) {
            let value = at(new, &["spec", "scopes"]).clone();
            errors.invalid(Path::new("spec.scopes"), value, values::IMMUTABLE);
        }
    }

    fn validate_status_update(&self, new: &Value, _old: &Value, errors: &mut Errors) {
        for key in ["hard", "used"] {
            resource_list(at(new, &["status", key]), &Path::new("status").child(key), errors);
        }
    }

    fn columns(&self) -> &'static [Column] {
        const COLUMNS: &[Column] =
            &[NAME, column("Request", "string", 0), column("Limit", "string", 0), column("Age", "string", 0)];
        COLUMNS
    }

    fn row(&self, obj: &Value, now: Now) -> Vec<Value> {
        let status = field(obj, "status");
        let shown = |limits: bool| {
            let all: Vec<String> = entries(status, "hard")
                .filter(|(k, _)| k.contains("limits") == limits)
                .map(|(k, hard)| {
                    let q = super::persistentvolumeclaim::quantity;
                    let used = match q(field(field(status, "used"), k)) {
                        s if s.is_empty() => "0".to_string(),
                        s => s,
                    };
                    format!("{k}: {used}/{}", q(hard))
                })
                .collect();
            json!(all.join(", "))
        };
        vec![columns::name(obj), shown(false), shown(true), columns::age_cell(obj, now)]
    }
}
