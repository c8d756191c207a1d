//! Which requests a webhook or a policy is about.

use crate::validation::access::*;
use crate::validation::seen::Seen;
use crate::validation::{selector, values};
use meta::field::{Errors, Path};
use serde_json::{Value, json};

const OPERATIONS: &[&str] = &["*", "CONNECT", "CREATE", "DELETE", "UPDATE"];

/// A rule's scope is all unless it says otherwise.
pub(super) fn default_rules(owner: &mut Value, key: &str) {
    for rule in items_mut(owner, key) {
        fill(rule, "scope", "*");
    }
}

/// Defaults of a `matchResources`.
pub(super) fn default_match(m: &mut Value) {
    fill(m, "matchPolicy", "Equivalent");
    fill(m, "namespaceSelector", json!({}));
    fill(m, "objectSelector", json!({}));
    default_rules(m, "resourceRules");
    default_rules(m, "excludeResourceRules");
}

pub(super) fn validate_rules(rules: &[Value], path: &Path, errors: &mut Errors) {
    for (i, rule) in rules.iter().enumerate() {
        let path = path.index(i);
        let names = texts(rule, "resourceNames");
        let mut seen = Seen::default();
        for (j, name) in names.iter().enumerate() {
            let at = path.child("resourceNames").index(j);
            values::path_segment(name, &at, errors);
            if seen.again(*name) {
                errors.duplicate(at, *name);
            }
        }
        for (key, what) in [("operations", "operations"), ("apiGroups", "API groups"), ("apiVersions", "API versions")]
        {
            let (all, at) = (texts(rule, key), path.child(key));
            if all.is_empty() {
                errors.required(at.clone(), "");
            }
            if all.len() > 1 && all.contains(&"*") {
                errors.invalid(at.clone(), json!(all), format!("if '*' is present, must not specify other {what}"));
            }
            for (j, v) in all.iter().enumerate() {
                match (key, *v) {
                    ("operations", v) => values::one_of(v, OPERATIONS, at.index(j), errors),
                    ("apiVersions", "") => errors.required(at.index(j), ""),
                    _ => {}
                }
            }
        }
        validate_resources(&texts(rule, "resources"), &path.child("resources"), errors);
        if has(rule, "scope") {
            values::one_of(text(rule, "scope"), &["*", "Cluster", "Namespaced"], path.child("scope"), errors);
        }
    }
}

/// Resources and subresources; a star may stand for either, but not beside what it stands for.
fn validate_resources(all: &[&str], path: &Path, errors: &mut Errors) {
    if all.is_empty() {
        errors.required(path.clone(), "");
    }
    let (mut any_sub_of, mut sub_of_any) = (Seen::default(), Seen::default());
    let mut plain = false;
    for (i, r) in all.iter().enumerate() {
        if r.is_empty() {
            errors.required(path.index(i), "");
            continue;
        }
        let Some((resource, sub)) = r.split_once('/') else {
            // As upstream, where only the last one counts.
            plain = *r != "*";
            continue;
        };
        if any_sub_of.has(&resource) {
            errors.invalid(path.index(i), *r, format!("if '{resource}/*' is present, must not specify {r}"));
        }
        if sub_of_any.has(&sub) {
            errors.invalid(path.index(i), *r, format!("if '*/{sub}' is present, must not specify {r}"));
        }
        if sub == "*" {
            any_sub_of.again(resource);
        }
        if resource == "*" {
            sub_of_any.again(sub);
        }
    }
    if all.len() > 1 && all.contains(&"*/*") {
        errors.invalid(path.clone(), json!(all), "if '*/*' is present, must not specify other resources");
    }
    if all.contains(&"*") && plain {
        let text = "if '*' is present, must not specify other resources without subresources";
        errors.invalid(path.clone(), json!(all), text);
    }
}

pub(super) const SELECTORS: [&str; 2] = ["namespaceSelector", "objectSelector"];

/// `matchConstraints` of a policy, `matchResources` of a binding.
pub(super) fn validate_match(m: &Value, path: &Path, errors: &mut Errors) {
    let supported = ["Equivalent", "Exact"];
    values::required_one_of(text(m, "matchPolicy"), &supported, path.child("matchPolicy"), errors);
    for key in SELECTORS {
        match field(m, key) {
            Value::Null => errors.required(path.child(key), ""),
            s => selector::label_selector(s, &path.child(key), errors),
        }
    }
    for key in ["resourceRules", "excludeResourceRules"] {
        validate_rules(list(m, key), &path.child(key), errors);
    }
}

/// Nothing mutates what is deleted.
pub(super) fn validate_mutated_operations(m: &Value, path: &Path, errors: &mut Errors) {
    for operation in list(m, "resourceRules").iter().flat_map(|r| texts(r, "operations")) {
        let supported = ["*", "CONNECT", "CREATE", "UPDATE"];
        values::one_of(operation, &supported, path.child("resourceRules.operations"), errors);
    }
}
