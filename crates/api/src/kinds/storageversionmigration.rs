//! StorageVersionMigration (storagemigration.k8s.io): every object of a resource is to be stored anew.

use super::columns;
use crate::strategy::{Column, METADATA, NAME, Now, Strategy, column};
use crate::validation::access::*;
use crate::validation::conditions::{conditions, is_true};
use crate::validation::values;
use meta::field::{Errors, Path};
use meta::names;
use serde_json::{Value, json};

pub struct StorageVersionMigration;

fn resource(obj: &Value, errors: &mut Errors) {
    let (what, path) = (at(obj, &["spec", "resource"]), Path::new("spec.resource"));
    let (plural, group) = (text(what, "resource"), text(what, "group"));
    if plural.is_empty() {
        errors.required(path.child("resource"), "resource is required to be set");
    } else {
        let faults = names::dns1035_label(plural);
        if !faults.is_empty() {
            errors.invalid(path.child("resource"), plural, faults.join(","));
        }
    }
    let faults = names::dns1123_subdomain(group);
    if !group.is_empty() && !faults.is_empty() {
        errors.invalid(path.child("group"), group, faults.join(","));
    }
}

/// Why a resourceVersion is none, in upstream's words; an empty one is no version yet.
fn version_fault(version: &str) -> Option<String> {
    let fault = match version {
        "" => return None,
        v if v.starts_with('0') => "must not be empty or start with 0",
        v if !v.bytes().all(|b| b.is_ascii_digit()) => "must be a decimal number",
        _ => return None,
    };
    Some(format!("resource version {version:?} is not well formed: {fault}"))
}

impl Strategy for StorageVersionMigration {
    fn status_keeps(&self) -> &'static [&'static str] {
        METADATA
    }

    fn allow_unconditional_update(&self) -> bool {
        false
    }

    fn validate_create(&self, obj: &Value, errors: &mut Errors) {
        resource(obj, errors);
    }

    fn validate_update(&self, new: &Value, old: &Value, errors: &mut Errors) {
        resource(new, errors);
        values::immutable(field(new, "spec"), field(old, "spec"), Path::new("spec"), errors);
    }

    fn validate_status_update(&self, new: &Value, old: &Value, errors: &mut Errors) {
        let path = Path::new("status");
        let version = |v| text_at(v, &["status", "resourceVersion"]);
        if let Some(why) = version_fault(version(new)) {
            errors.invalid(path.child("resourceVersion"), version(new), why);
        }
        let all = list_at(new, &["status", "conditions"]);
        conditions(all, &path.child("conditions"), errors);
        if !version(old).is_empty() && version(new) != version(old) {
            errors.invalid(path.child("resourceVersion"), version(new), "field is immutable");
        }
        let (succeeded, failed, running) = (is_true(new, "Succeeded"), is_true(new, "Failed"), is_true(new, "Running"));
        for (bad, why) in [
            (succeeded && failed, "Both success and failed conditions cannot be true at the same time"),
            (succeeded && running, "Running condition cannot be true when success condition is true"),
            (failed && running, "Running condition cannot be true when failed condition is true"),
            (is_true(old, "Succeeded") && !succeeded, "Success condition cannot be set to false once it is true"),
            (is_true(old, "Failed") && !failed, "Failed condition cannot be set to false once it is true"),
        ] {
            if bad {
                errors.invalid(path.child("conditions"), json!(all), why);
            }
        }
    }

    fn columns(&self) -> &'static [Column] {
        const COLUMNS: &[Column] = &[NAME, column("Resource", "string", 0, "Resource whose objects are migrated.")];
        COLUMNS
    }

    fn row(&self, obj: &Value, _now: Now) -> Vec<Value> {
        let what = at(obj, &["spec", "resource"]);
        let name = match (text(what, "resource"), text(what, "group")) {
            (plural, "") => plural.to_string(),
            (plural, group) => format!("{plural}.{group}"),
        };
        vec![columns::name(obj), json!(name)]
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kinds::checks::{check_create, check_row, check_update};
    use expect_test::expect;

    fn migration(resource: &str) -> String {
        format!(
            "apiVersion: storagemigration.k8s.io/v1beta1\nkind: StorageVersionMigration\n\
             metadata: {{name: m, resourceVersion: '1'}}\nspec: {{resource: {resource}}}"
        )
    }

    #[test]
    fn a_migration_is_of_one_resource_for_ever() {
        check_create(&migration("{group: apps, resource: deployments}"), expect![[""]]);
        check_create(&migration("{group: '', resource: secrets}"), expect![[""]]);
        check_create(
            &migration("{group: A_b}"),
            expect![[r#"
                spec.resource.resource: Required value: resource is required to be set
                spec.resource.group: Invalid value: "A_b": a lowercase RFC 1123 subdomain must consist of lower case alphanumeric characters, '-' or '.', and must start and end with an alphanumeric character (e.g. 'example.com', regex used for validation is '[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*')
            "#]],
        );
        check_update(
            &migration("{group: apps, resource: deployments}"),
            &migration("{group: apps, resource: daemonsets}"),
            expect![[r#"
                spec: Invalid value: {"resource":{"group":"apps","resource":"daemonsets"}}: field is immutable
            "#]],
        );
        check_row(
            &migration("{group: apps, resource: deployments}"),
            expect![[r#"
                Name: m
                Resource: deployments.apps
            "#]],
        );
    }

    #[test]
    fn what_is_decided_stays_decided() {
        let status = |version: &str, kinds: &[&str]| {
            let conditions: Vec<Value> = kinds
                .iter()
                .map(|k| json!({"type": k, "status": "True", "reason": "R", "lastTransitionTime": "2026-01-01T00:00:00Z"}))
                .collect();
            json!({"status": {"resourceVersion": version, "conditions": conditions}})
        };
        let check = |old: &Value, new: &Value| {
            let mut errors = Errors::default();
            StorageVersionMigration.validate_status_update(new, old, &mut errors);
            errors.0.iter().map(|e| format!("{}: {}", e.path, e.detail)).collect::<Vec<_>>().join("; ")
        };
        for (old, new, expected) in [
            (status("", &[]), status("12", &["Running"]), ""),
            (status("12", &["Running"]), status("12", &["Succeeded"]), ""),
            (status("12", &[]), status("13", &[]), "status.resourceVersion: field is immutable"),
            (status("", &[]), status("x", &[]), "resource version \"x\" is not well formed: must be a decimal number"),
            (status("", &[]), status("0", &[]), "must not be empty or start with 0"),
            (status("", &[]), status("", &["Succeeded", "Failed"]), "Both success and failed conditions"),
            (status("", &[]), status("", &["Succeeded", "Running"]), "when success condition is true"),
            (status("", &[]), status("", &["Failed", "Running"]), "when failed condition is true"),
            (status("", &["Succeeded"]), status("", &[]), "Success condition cannot be set to false"),
            (status("", &["Failed"]), status("", &[]), "Failed condition cannot be set to false"),
        ] {
            let said = check(&old, &new);
            assert!(said.contains(expected) && said.is_empty() == expected.is_empty(), "{said:?} / {expected:?}");
        }
    }
}
