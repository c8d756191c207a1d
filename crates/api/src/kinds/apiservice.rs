//! APIService (apiregistration.k8s.io).

use super::columns;
use super::configmap::decoded_len;
use crate::strategy::{AGE, Column, METADATA, NAME, NameRule, Now, Strategy, column};
use crate::validation::access::*;
use crate::validation::{conditions, values};
use meta::field::{Errors, Path};
use serde_json::{Value, json};

pub struct APIService;

impl Strategy for APIService {
    fn status_keeps(&self) -> &'static [&'static str] {
        METADATA
    }

    fn name_rule(&self) -> NameRule {
        NameRule::PathSegment
    }

    fn defaults(&self, obj: &mut Value) {
        if let Some(service) = object_at_mut(obj, &["spec", "service"]) {
            fill(service, "port", 443);
        }
    }

    fn prepare_create(&self, obj: &mut Value, _has_status: bool) {
        if let Some(o) = obj.as_object_mut() {
            o.remove("status");
        }
        // Who serves itself is there.
        if !at(obj, &["spec", "service"]).is_object() {
            let since = at(obj, &["metadata", "creationTimestamp"]).clone();
            obj["status"] = json!({"conditions": [{
                "type": "Available", "status": "True", "reason": "Local",
                "message": "Local APIServices are always available", "lastTransitionTime": since,
            }]});
        }
    }

    fn validate_create(&self, obj: &Value, errors: &mut Errors) {
        let (spec, path) = (field(obj, "spec"), Path::new("spec"));
        let (group, version) = (text(spec, "group"), text(spec, "version"));
        let name = text_at(obj, &["metadata", "name"]);
        let needed = format!("{version}.{group}");
        if name != needed && meta::names::path_segment(name).is_empty() {
            let text = format!("must be `spec.version+\".\"+spec.group`: {needed:?}");
            errors.invalid(Path::new("metadata.name"), name, text);
        }
        if !group.is_empty() {
            values::dns_subdomain(group, &path.child("group"), errors);
        } else if version != "v1" {
            errors.required(path.child("group"), "only v1 may have an empty group and it better be legacy kube");
        }
        values::dns1035_label(version, &path.child("version"), errors);
        for (key, max) in [("groupPriorityMinimum", 20_000), ("versionPriority", 1_000)] {
            let n = int(spec, key).unwrap_or(0);
            if n <= 0 || n > max {
                errors.invalid(path.child(key), n, format!("must be positive and less than {max}"));
            }
        }
        let service = field(spec, "service");
        let skip = flag(spec, "insecureSkipTLSVerify");
        if !service.is_object() {
            if !text(spec, "caBundle").is_empty() {
                let shown = format!("{} bytes", decoded_len(text(spec, "caBundle")));
                errors.invalid(path.child("caBundle"), shown, "local APIServices may not have a caBundle");
            }
            if skip {
                errors.invalid(
                    path.child("insecureSkipTLSVerify"),
                    true,
                    "local APIServices may not have insecureSkipTLSVerify",
                );
            }
            return;
        }
        let at = path.child("service");
        for key in ["namespace", "name"] {
            if text(service, key).is_empty() {
                errors.required(at.child(key), "");
            }
        }
        let port = int(service, "port").unwrap_or(0);
        let faults = meta::names::port_number(port);
        if !faults.is_empty() {
            errors.invalid(at.child("port"), port, format!("port is not valid: {}", faults.join(", ")));
        }
        if skip && !text(spec, "caBundle").is_empty() {
            errors.invalid(path.child("insecureSkipTLSVerify"), true, "may not be true if caBundle is present");
        }
    }

    fn validate_update(&self, new: &Value, _old: &Value, errors: &mut Errors) {
        self.validate_create(new, errors);
    }

    fn validate_status_update(&self, new: &Value, _old: &Value, errors: &mut Errors) {
        let path = Path::new("status.conditions");
        for (i, c) in list_at(new, &["status", "conditions"]).iter().enumerate() {
            values::one_of(text(c, "status"), &["True", "False", "Unknown"], path.index(i).child("status"), errors);
        }
    }

    fn allow_unconditional_update(&self) -> bool {
        false
    }

    fn free_finalizers(&self) -> bool {
        true
    }

    fn columns(&self) -> &'static [Column] {
        const COLUMNS: &[Column] = &[
            NAME,
            column("Service", "string", 0, "Service that the API comes from, or Local."),
            column("Available", "string", 0, "Whether the API can be used."),
            AGE,
        ];
        COLUMNS
    }

    fn row(&self, obj: &Value, now: Now) -> Vec<Value> {
        let service = at(obj, &["spec", "service"]);
        let shown = if service.is_object() {
            format!("{}/{}", text(service, "namespace"), text(service, "name"))
        } else {
            "Local".to_string()
        };
        let available = conditions::find(obj, "Available");
        let available = match available.map(|c| (text(c, "status"), text(c, "reason"))) {
            None => "Unknown".to_string(),
            Some(("True", _)) => "True".to_string(),
            Some((status, reason)) => format!("{status} ({reason})"),
        };
        vec![columns::name(obj), json!(shown), json!(available), columns::age_cell(obj, now)]
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kinds::checks::check_create;
    use expect_test::expect;

    #[test]
    fn services_are_checked_and_shown() {
        check_create(
            r#"{"apiVersion":"apiregistration.k8s.io/v1","kind":"APIService","metadata":{"name":"v1.metrics.k8s.io"},
            "spec":{"group":"metrics.k8s.io","version":"v1","groupPriorityMinimum":100,"versionPriority":100,
            "service":{"name":"m","namespace":"n"}}}"#,
            expect![[""]],
        );
        check_create(
            r#"{"apiVersion":"apiregistration.k8s.io/v1","kind":"APIService","metadata":{"name":"x"},
            "spec":{"group":"metrics.k8s.io","version":"v1","insecureSkipTLSVerify":true,"groupPriorityMinimum":30000}}"#,
            expect![[r#"
                metadata.name: Invalid value: "x": must be `spec.version+"."+spec.group`: "v1.metrics.k8s.io"
                spec.groupPriorityMinimum: Invalid value: 30000: must be positive and less than 20000
                spec.versionPriority: Invalid value: 0: must be positive and less than 1000
                spec.insecureSkipTLSVerify: Invalid value: true: local APIServices may not have insecureSkipTLSVerify
            "#]],
        );
        let row = APIService.row(
            &json!({"spec":{"service":{"name":"m","namespace":"n"}},
                "status":{"conditions":[{"type":"Available","status":"False","reason":"MissingEndpoints"}]}}),
            Now(jiff::Timestamp::UNIX_EPOCH),
        );
        assert_eq!((&row[1], &row[2]), (&json!("n/m"), &json!("False (MissingEndpoints)")));
    }
}
