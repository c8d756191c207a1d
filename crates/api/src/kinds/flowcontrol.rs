//! FlowSchema and PriorityLevelConfiguration (flowcontrol.apiserver.k8s.io).

use super::columns;
use crate::strategy::{Column, NAME, Now, Strategy, column};
use crate::validation::access::*;
use crate::validation::values;
use meta::field::{Errors, Path};
use serde_json::{Value, json};

pub struct FlowSchema;
pub struct PriorityLevelConfiguration;

const PRECEDENCE_DEFAULT: i64 = 1000;
const PRECEDENCE_MAX: i64 = 10_000;
const SHARES_DEFAULT: i64 = 30;
const QUEUES_DEFAULT: i64 = 64;
const HAND_SIZE_DEFAULT: i64 = 8;
const QUEUE_LENGTH_LIMIT_DEFAULT: i64 = 50;
const QUEUES_MAX: i64 = 10_000_000;

impl Strategy for FlowSchema {
    fn defaults(&self, obj: &mut Value) {
        if let Some(spec) = ensure_object(obj, "spec") {
            fill_zero(spec, "matchingPrecedence", PRECEDENCE_DEFAULT);
        }
    }

    fn validate_create(&self, obj: &Value, errors: &mut Errors) {
        let (spec, path) = (field(obj, "spec"), Path::new("spec"));
        let precedence = int(spec, "matchingPrecedence").unwrap_or(0);
        let exempt = text_at(obj, &["metadata", "name"]) == "exempt";
        if precedence <= 0 {
            errors.invalid(path.child("matchingPrecedence"), precedence, "must be a positive value");
        } else if precedence > PRECEDENCE_MAX {
            let detail = format!("must not be greater than {PRECEDENCE_MAX}");
            errors.invalid(path.child("matchingPrecedence"), precedence, detail);
        } else if precedence == 1 && !exempt {
            errors.invalid(
                path.child("matchingPrecedence"),
                1,
                "only the schema named 'exempt' may have matchingPrecedence 1",
            );
        }
        let level = text_at(spec, &["priorityLevelConfiguration", "name"]);
        let at = path.child("priorityLevelConfiguration").child("name");
        match level {
            "" => errors.required(at, "must reference a priority level"),
            name => values::dns_subdomain(name, &at, errors),
        }
        let method = field(spec, "distinguisherMethod");
        if method.is_object() {
            let supported = ["ByNamespace", "ByUser"];
            values::one_of(text(method, "type"), &supported, path.child("distinguisherMethod.type"), errors);
        }
        for (i, rule) in list(spec, "rules").iter().enumerate() {
            let path = path.child("rules").index(i);
            if list(rule, "subjects").is_empty() {
                errors.required(path.child("subjects"), "subjects must contain at least one value");
            }
            for (j, s) in list(rule, "subjects").iter().enumerate() {
                let path = path.child("subjects").index(j);
                let kind = text(s, "kind");
                let key = match kind {
                    "User" => "user",
                    "Group" => "group",
                    "ServiceAccount" => "serviceAccount",
                    _ => {
                        errors.not_supported(path.child("kind"), kind, &["Group", "ServiceAccount", "User"]);
                        continue;
                    }
                };
                if text_at(s, &[key, "name"]).is_empty() {
                    errors.required(path.child(key), format!("{key} is required when subject kind is '{kind}'"));
                }
            }
            if list(rule, "resourceRules").is_empty() && list(rule, "nonResourceRules").is_empty() {
                errors.required(path.clone(), "at least one of resourceRules and nonResourceRules has to be non-empty");
            }
            for (j, r) in list(rule, "resourceRules").iter().enumerate() {
                let path = path.child("resourceRules").index(j);
                for key in ["apiGroups", "resources", "verbs"] {
                    if list(r, key).is_empty() {
                        errors.required(path.child(key), "");
                    }
                }
                for (key, what) in [
                    ("verbs", "verbs"),
                    ("apiGroups", "api groups"),
                    ("resources", "resources"),
                    ("namespaces", "namespaces"),
                ] {
                    star_alone(r, key, what, &path, errors);
                }
                if list(r, "namespaces").is_empty() && !flag(r, "clusterScope") {
                    errors.required(
                        path.child("namespaces"),
                        "resource rules that are not cluster scoped must supply at least one namespace",
                    );
                }
            }
            for (j, r) in list(rule, "nonResourceRules").iter().enumerate() {
                let path = path.child("nonResourceRules").index(j);
                for (key, what) in [("nonResourceURLs", "non-resource URLs"), ("verbs", "verbs")] {
                    if list(r, key).is_empty() {
                        errors.required(path.child(key), "");
                    }
                    star_alone(r, key, what, &path, errors);
                }
            }
        }
    }

    fn validate_update(&self, new: &Value, _old: &Value, errors: &mut Errors) {
        self.validate_create(new, errors);
    }

    fn has_generation(&self) -> bool {
        true
    }

    fn columns(&self) -> &'static [Column] {
        const COLUMNS: &[Column] = &[
            NAME,
            column("PriorityLevel", "string", 0),
            column("MatchingPrecedence", "string", 0),
            column("DistinguisherMethod", "string", 0),
            column("Age", "string", 0),
            column("MissingPL", "string", 0),
        ];
        COLUMNS
    }

    fn row(&self, obj: &Value, now: Now) -> Vec<Value> {
        let spec = field(obj, "spec");
        let dangling = list_at(obj, &["status", "conditions"])
            .iter()
            .find(|c| text(c, "type") == "Dangling")
            .map_or("?", |c| text(c, "status"));
        vec![
            columns::name(obj),
            json!(text_at(spec, &["priorityLevelConfiguration", "name"])),
            columns::number(spec, "matchingPrecedence"),
            columns::or_none(text_at(spec, &["distinguisherMethod", "type"])),
            columns::age_cell(obj, now),
            json!(dangling),
        ]
    }
}

fn star_alone(r: &Value, key: &str, what: &str, path: &Path, errors: &mut Errors) {
    let all = texts(r, key);
    if all.len() > 1 && all.contains(&"*") {
        let text = format!("if '*' is present, must not specify other {what}");
        errors.invalid(path.child(key), field(r, key).clone(), text);
    }
}

impl Strategy for PriorityLevelConfiguration {
    fn defaults(&self, obj: &mut Value) {
        let Some(spec) = ensure_object(obj, "spec") else {
            return;
        };
        if let Some(exempt) = object_mut(spec, "exempt") {
            fill(exempt, "nominalConcurrencyShares", 0);
            fill(exempt, "lendablePercent", 0);
        }
        if let Some(limited) = object_mut(spec, "limited") {
            fill(limited, "nominalConcurrencyShares", SHARES_DEFAULT);
            fill(limited, "lendablePercent", 0);
            if let Some(queuing) = object_at_mut(limited, &["limitResponse", "queuing"]) {
                fill_zero(queuing, "queues", QUEUES_DEFAULT);
                fill_zero(queuing, "handSize", HAND_SIZE_DEFAULT);
                fill_zero(queuing, "queueLengthLimit", QUEUE_LENGTH_LIMIT_DEFAULT);
            }
        }
    }

    fn validate_create(&self, obj: &Value, errors: &mut Errors) {
        let (spec, path) = (field(obj, "spec"), Path::new("spec"));
        let kind = text(spec, "type");
        values::required_one_of(kind, &["Exempt", "Limited"], path.child("type"), errors);
        for (other, key) in [("Limited", "exempt"), ("Exempt", "limited")] {
            if kind == other && has(spec, key) {
                errors.forbidden(path.child(key), format!("must be nil if the type is {other}"));
            }
        }
        let limited = field(spec, "limited");
        if kind != "Limited" {
            return;
        }
        let path = path.child("limited");
        if !limited.is_object() {
            errors.required(path, "must not be empty when type is Limited");
            return;
        }
        values::non_negative(
            field(limited, "nominalConcurrencyShares"),
            path.child("nominalConcurrencyShares"),
            errors,
        );
        if let Some(percent) = int(limited, "lendablePercent")
            && !(0..=100).contains(&percent)
        {
            errors.invalid(path.child("lendablePercent"), percent, values::between(0, 100));
        }
        values::non_negative(field(limited, "borrowingLimitPercent"), path.child("borrowingLimitPercent"), errors);
        let (response, path) = (field(limited, "limitResponse"), path.child("limitResponse"));
        values::required_one_of(text(response, "type"), &["Queue", "Reject"], path.child("type"), errors);
        let queuing = field(response, "queuing");
        match (text(response, "type"), queuing.is_object()) {
            ("Reject", true) => {
                errors.forbidden(path.child("queuing"), "must be nil if limited.limitResponse.type is not Limited")
            }
            ("Queue", false) => {
                errors.required(path.child("queuing"), "must not be empty if limited.limitResponse.type is Limited");
            }
            ("Queue", true) => {
                let path = path.child("queuing");
                let (queues, hand) = (int(queuing, "queues").unwrap_or(0), int(queuing, "handSize").unwrap_or(0));
                if queues <= 0 {
                    errors.invalid(path.child("queues"), queues, "must be positive");
                } else if queues > QUEUES_MAX {
                    errors.invalid(path.child("queues"), queues, format!("must not be greater than {QUEUES_MAX}"));
                }
                if hand <= 0 {
                    errors.invalid(path.child("handSize"), hand, "must be positive");
                } else if hand > queues {
                    let detail = format!("should not be greater than queues ({queues})");
                    errors.invalid(path.child("handSize"), hand, detail);
                }
                let limit = int(queuing, "queueLengthLimit").unwrap_or(0);
                if limit <= 0 {
                    errors.invalid(path.child("queueLengthLimit"), limit, "must be positive");
                }
            }
            _ => {}
        }
    }

    fn validate_update(&self, new: &Value, _old: &Value, errors: &mut Errors) {
        self.validate_create(new, errors);
    }

    fn has_generation(&self) -> bool {
        true
    }

    fn columns(&self) -> &'static [Column] {
        const COLUMNS: &[Column] = &[
            NAME,
            column("Type", "string", 0),
            column("NominalConcurrencyShares", "string", 0),
            column("Queues", "string", 0),
            column("HandSize", "string", 0),
            column("QueueLengthLimit", "string", 0),
            column("Age", "string", 0),
        ];
        COLUMNS
    }

    fn row(&self, obj: &Value, now: Now) -> Vec<Value> {
        let spec = field(obj, "spec");
        let queuing = at(spec, &["limited", "limitResponse", "queuing"]);
        let cell = |v: &Value, key: &str| int(v, key).map_or(json!("<none>"), |n| json!(n));
        vec![
            columns::name(obj),
            json!(text(spec, "type")),
            cell(field(spec, "limited"), "nominalConcurrencyShares"),
            cell(queuing, "queues"),
            cell(queuing, "handSize"),
            cell(queuing, "queueLengthLimit"),
            columns::age_cell(obj, now),
        ]
    }
}

#[cfg(test)]
mod tests {
    use crate::kinds::checks::{check_create, created};
    use expect_test::expect;
    use serde_json::json;

    #[test]
    fn levels_get_defaults_and_schemas_are_checked() {
        let obj = created(
            r#"{"apiVersion":"flowcontrol.apiserver.k8s.io/v1","kind":"PriorityLevelConfiguration","metadata":{"name":"p"},
            "spec":{"type":"Limited","limited":{"limitResponse":{"type":"Queue","queuing":{"handSize":4}}}}}"#,
        );
        assert_eq!(
            obj["spec"]["limited"],
            json!({"nominalConcurrencyShares":30,"lendablePercent":0,
                "limitResponse":{"type":"Queue","queuing":{"queues":64,"handSize":4,"queueLengthLimit":50}}})
        );
        check_create(
            r#"{"apiVersion":"flowcontrol.apiserver.k8s.io/v1","kind":"PriorityLevelConfiguration","metadata":{"name":"p"},
            "spec":{"type":"Limited","limited":{"lendablePercent":101,"limitResponse":{"type":"Reject","queuing":{}}}}}"#,
            expect![[r#"
                spec.limited.lendablePercent: Invalid value: 101: must be between 0 and 100, inclusive
                spec.limited.limitResponse.queuing: Forbidden: must be nil if limited.limitResponse.type is not Limited
            "#]],
        );
        check_create(
            r#"{"apiVersion":"flowcontrol.apiserver.k8s.io/v1","kind":"FlowSchema","metadata":{"name":"f"},
            "spec":{"matchingPrecedence":1,"rules":[{"subjects":[{"kind":"User"}]}]}}"#,
            expect![[r#"
                spec.matchingPrecedence: Invalid value: 1: only the schema named 'exempt' may have matchingPrecedence 1
                spec.priorityLevelConfiguration.name: Required value: must reference a priority level
                spec.rules[0].subjects[0].user: Required value: user is required when subject kind is 'User'
                spec.rules[0]: Required value: at least one of resourceRules and nonResourceRules has to be non-empty
            "#]],
        );
    }
}
