//! Role, ClusterRole, RoleBinding, ClusterRoleBinding.

use super::columns;
use crate::strategy::{AGE, Column, NAME, NameRule, Now, Strategy, column, column_of};
use crate::validation::access::*;
use crate::validation::{selector, values};
use meta::field::{Errors, Path};
use serde_json::{Value, json};

pub struct Role;
pub struct ClusterRole;
pub struct RoleBinding;
pub struct ClusterRoleBinding;

const GROUP: &str = "rbac.authorization.k8s.io";
const BINDING_COLUMNS: &[Column] = &[
    NAME,
    column_of("Role", "string", 0, "api.rbac.v1.RoleBinding.roleRef"),
    AGE,
    column("Users", "string", 1, "Users that get the role."),
    column("Groups", "string", 1, "Groups that get the role."),
    column("ServiceAccounts", "string", 1, "Service accounts that get the role."),
];

macro_rules! role {
    ($kind:ident, $namespaced:literal) => {
        impl Strategy for $kind {
            fn validate_create(&self, obj: &Value, errors: &mut Errors) {
                for (i, rule) in list(obj, "rules").iter().enumerate() {
                    policy_rule(rule, $namespaced, &Path::new("rules").index(i), errors);
                }
                aggregation(obj, errors);
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

            fn name_rule(&self) -> NameRule {
                NameRule::PathSegment
            }

            fn allow_create_on_update(&self) -> bool {
                true
            }
        }
    };
}

role!(Role, true);
role!(ClusterRole, false);

macro_rules! binding {
    ($kind:ident, $namespaced:literal) => {
        impl Strategy for $kind {
            fn defaults(&self, obj: &mut Value) {
                binding_defaults(obj);
            }

            fn validate_create(&self, obj: &Value, errors: &mut Errors) {
                binding(obj, $namespaced, errors);
            }

            fn validate_update(&self, new: &Value, old: &Value, errors: &mut Errors) {
                binding(new, $namespaced, errors);
                if !same(field(new, "roleRef"), field(old, "roleRef")) {
                    let role = field(new, "roleRef");
                    let shown = json!({"APIGroup": text(role, "apiGroup"), "Kind": text(role, "kind"), "Name": text(role, "name")});
                    errors.invalid(Path::new("roleRef"), shown, "cannot change roleRef");
                }
            }

            fn columns(&self) -> &'static [Column] {
                BINDING_COLUMNS
            }

            fn row(&self, obj: &Value, now: Now) -> Vec<Value> {
                binding_row(obj, now)
            }

            fn name_rule(&self) -> NameRule {
                NameRule::PathSegment
            }

            fn allow_create_on_update(&self) -> bool {
                true
            }
        }
    };
}

binding!(RoleBinding, true);
binding!(ClusterRoleBinding, false);

/// One rule of a role; also what a SelfSubjectRulesReview would show.
pub fn policy_rule(rule: &Value, namespaced: bool, path: &Path, errors: &mut Errors) {
    if list(rule, "verbs").is_empty() {
        errors.required(path.child("verbs"), "verbs must contain at least one value");
    }
    let urls = field(rule, "nonResourceURLs");
    if !list(rule, "nonResourceURLs").is_empty() {
        let p = path.child("nonResourceURLs");
        if namespaced {
            errors.invalid(p.clone(), urls.clone(), "namespaced rules cannot apply to non-resource URLs");
        }
        if ["apiGroups", "resources", "resourceNames"].iter().any(|k| !list(rule, k).is_empty()) {
            let text = "rules cannot apply to both regular resources and non-resource URLs";
            errors.invalid(p, urls.clone(), text);
        }
        return;
    }
    if list(rule, "apiGroups").is_empty() {
        errors.required(path.child("apiGroups"), "resource rules must supply at least one api group");
    }
    if list(rule, "resources").is_empty() {
        errors.required(path.child("resources"), "resource rules must supply at least one resource");
    }
}

fn aggregation(obj: &Value, errors: &mut Errors) {
    let rule = field(obj, "aggregationRule");
    if rule.is_null() {
        return;
    }
    let p = Path::new("aggregationRule.clusterRoleSelectors");
    let selectors = list(rule, "clusterRoleSelectors");
    if selectors.is_empty() {
        errors.required(p.clone(), "at least one clusterRoleSelector required if aggregationRule is non-nil");
    }
    for (i, s) in selectors.iter().enumerate() {
        selector::label_selector(s, &p.index(i), errors);
        if !selector::is_readable(s) {
            errors.invalid(p.index(i), Value::Null, "invalid label selector.");
        }
    }
}

fn binding_defaults(obj: &mut Value) {
    if let Some(r) = ensure_object(obj, "roleRef") {
        fill_zero(r, "apiGroup", GROUP);
    }
    for s in items_mut(obj, "subjects") {
        if matches!(text(s, "kind"), "User" | "Group") {
            fill_zero(s, "apiGroup", GROUP);
        }
    }
}

fn binding(obj: &Value, namespaced: bool, errors: &mut Errors) {
    let role = field(obj, "roleRef");
    let p = Path::new("roleRef");
    values::one_of(text(role, "apiGroup"), &[GROUP], p.child("apiGroup"), errors);
    let kinds: &[&str] = if namespaced { &["Role", "ClusterRole"] } else { &["ClusterRole"] };
    values::one_of(text(role, "kind"), kinds, p.child("kind"), errors);
    match text(role, "name") {
        "" => errors.required(p.child("name"), ""),
        name => values::path_segment(name, &p.child("name"), errors),
    }
    for (i, s) in list(obj, "subjects").iter().enumerate() {
        subject(s, namespaced, &Path::new("subjects").index(i), errors);
    }
}

fn subject(s: &Value, namespaced: bool, path: &Path, errors: &mut Errors) {
    let (name, group) = (text(s, "name"), text(s, "apiGroup"));
    if name.is_empty() {
        errors.required(path.child("name"), "");
    }
    match text(s, "kind") {
        "ServiceAccount" => {
            if !name.is_empty() {
                values::dns_subdomain(name, &path.child("name"), errors);
            }
            values::one_of(group, &[""], path.child("apiGroup"), errors);
            if !namespaced && text(s, "namespace").is_empty() {
                errors.required(path.child("namespace"), "");
            }
        }
        "User" | "Group" => values::one_of(group, &[GROUP], path.child("apiGroup"), errors),
        other => errors.not_supported(path.child("kind"), other, &["ServiceAccount", "User", "Group"]),
    }
}

fn binding_row(obj: &Value, now: Now) -> Vec<Value> {
    let role = field(obj, "roleRef");
    let subjects = |kind: &str| {
        let found: Vec<String> = list(obj, "subjects")
            .iter()
            .filter(|s| text(s, "kind") == kind)
            .map(|s| match (kind, text(s, "namespace")) {
                ("ServiceAccount", ns) => format!("{ns}/{}", text(s, "name")),
                _ => text(s, "name").to_string(),
            })
            .collect();
        json!(found.join(", "))
    };
    vec![
        columns::name(obj),
        json!(format!("{}/{}", text(role, "kind"), text(role, "name"))),
        columns::age_cell(obj, now),
        subjects("User"),
        subjects("Group"),
        subjects("ServiceAccount"),
    ]
}
