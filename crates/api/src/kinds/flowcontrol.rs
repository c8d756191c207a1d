//! FlowSchema and PriorityLevelConfiguration (flowcontrol.apiserver.k8s.io).

use super::columns;
use crate::strategy::{AGE, Column, METADATA, NAME, Now, Strategy, column, column_of};
use crate::validation::access::*;
use crate::validation::seen::Seen;
use crate::validation::{conditions, values};
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
    fn status_keeps(&self) -> &'static [&'static str] {
        METADATA
    }

    fn defaults(&self, obj: &mut Value) {
        if let Some(spec) = ensure_object(obj, "spec") {
            fill_zero(spec, "matchingPrecedence", PRECEDENCE_DEFAULT);
        }
    }

    fn validate_create(&self, obj: &Value, errors: &mut Errors) {
        let (name, spec, path) = (text_at(obj, &["metadata", "name"]), field(obj, "spec"), Path::new("spec"));
        schema(name, spec, &path, errors);
        if let Some(fixed) = fixed_schema(name)
            && !same(spec, &fixed)
        {
            errors.invalid(path, spec.clone(), format!("spec of '{name}' must equal the fixed value"));
        }
        conditions(obj, errors);
    }

    fn validate_update(&self, new: &Value, _old: &Value, errors: &mut Errors) {
        self.validate_create(new, errors);
    }

    fn validate_status_update(&self, new: &Value, _old: &Value, errors: &mut Errors) {
        conditions(new, errors);
    }

    fn has_generation(&self) -> bool {
        true
    }

    fn columns(&self) -> &'static [Column] {
        const COLUMNS: &[Column] = &[
            NAME,
            column_of("PriorityLevel", "string", 0, "api.flowcontrol.v1.PriorityLevelConfigurationReference.name"),
            column_of("MatchingPrecedence", "string", 0, "api.flowcontrol.v1.FlowSchemaSpec.matchingPrecedence"),
            column_of("DistinguisherMethod", "string", 0, "api.flowcontrol.v1.FlowSchemaSpec.distinguisherMethod"),
            AGE,
            column("MissingPL", "string", 0, "Whether there is no such priority level."),
        ];
        COLUMNS
    }

    fn row(&self, obj: &Value, now: Now) -> Vec<Value> {
        let spec = field(obj, "spec");
        let dangling = conditions::find(obj, "Dangling").map_or("?", |c| text(c, "status"));
        vec![
            columns::name(obj),
            json!(text_at(spec, &["priorityLevelConfiguration", "name"])),
            columns::number(spec, "matchingPrecedence"),
            columns::or_none(text_at(spec, &["distinguisherMethod", "type"])),
            columns::age_cell(obj, now),
            json!(dangling),
        ]
    }

    /// As they are asked in turn which one a request belongs to.
    fn row_order(&self, obj: &Value) -> i64 {
        int(field(obj, "spec"), "matchingPrecedence").unwrap_or(0)
    }
}

fn conditions(obj: &Value, errors: &mut Errors) {
    let mut seen = Seen::default();
    for (i, c) in list_at(obj, &["status", "conditions"]).iter().enumerate() {
        let (kind, path) = (text(c, "type"), Path::new("status.conditions").index(i).child("type"));
        if seen.again(kind) {
            errors.duplicate(path.clone(), kind);
        }
        if kind.is_empty() {
            errors.required(path, "");
        }
    }
}

fn schema(name: &str, spec: &Value, path: &Path, errors: &mut Errors) {
    let (precedence, at) = (int(spec, "matchingPrecedence").unwrap_or(0), path.child("matchingPrecedence"));
    if precedence <= 0 {
        errors.invalid(at, precedence, "must be a positive value");
    } else if precedence > PRECEDENCE_MAX {
        errors.invalid(at, precedence, format!("must not be greater than {PRECEDENCE_MAX}"));
    } else if precedence == 1 && name != "exempt" {
        errors.invalid(at, 1, "only the schema named 'exempt' may have matchingPrecedence 1");
    }
    let method = field(spec, "distinguisherMethod");
    if method.is_object() && !["ByNamespace", "ByUser"].contains(&text(method, "type")) {
        // Upstream quotes the whole struct.
        let shown = json!({"Type": text(method, "type")});
        errors.not_supported(path.child("distinguisherMethod.type"), shown, &["ByNamespace", "ByUser"]);
    }
    let at = path.child("priorityLevelConfiguration.name");
    match text_at(spec, &["priorityLevelConfiguration", "name"]) {
        "" => errors.required(at, "must reference a priority level"),
        name => values::dns_subdomain(name, &at, errors),
    }
    for (i, rule) in list(spec, "rules").iter().enumerate() {
        let path = path.child("rules").index(i);
        if list(rule, "subjects").is_empty() {
            errors.required(path.child("subjects"), "subjects must contain at least one value");
        }
        for (j, s) in list(rule, "subjects").iter().enumerate() {
            subject(s, &path.child("subjects").index(j), errors);
        }
        if list(rule, "resourceRules").is_empty() && list(rule, "nonResourceRules").is_empty() {
            errors.required(path.clone(), "at least one of resourceRules and nonResourceRules has to be non-empty");
        }
        for (j, r) in list(rule, "resourceRules").iter().enumerate() {
            resource_rule(r, &path.child("resourceRules").index(j), errors);
        }
        for (j, r) in list(rule, "nonResourceRules").iter().enumerate() {
            let path = path.child("nonResourceRules").index(j);
            verbs(r, &path, errors);
            let all = texts(r, "nonResourceURLs");
            let needed = "nonResourceURLs must contain at least one value";
            if some_or_star_alone(r, "nonResourceURLs", needed, "non-resource URLs", &path, errors) {
                for (k, url) in all.iter().enumerate() {
                    non_resource_url(url, path.child("nonResourceURLs").index(k), errors);
                }
            }
        }
    }
}

const SUBJECTS: [(&str, &str); 3] = [("Group", "group"), ("ServiceAccount", "serviceAccount"), ("User", "user")];

fn subject(s: &Value, path: &Path, errors: &mut Errors) {
    let kind = text(s, "kind");
    let Some((_, key)) = SUBJECTS.iter().find(|(k, _)| *k == kind) else {
        return errors.not_supported(path.child("kind"), kind, &SUBJECTS.map(|s| s.0));
    };
    let (who, at) = (field(s, key), path.child(key));
    if who.is_null() {
        errors.required(at, format!("{key} is required when subject kind is '{kind}'"));
    } else {
        match text(who, "name") {
            "" => errors.required(at.child("name"), ""),
            name if kind == "ServiceAccount" && name != "*" => values::dns_subdomain(name, &at.child("name"), errors),
            _ => {}
        }
        if kind == "ServiceAccount" {
            match text(who, "namespace") {
                "" => errors.required(at.child("namespace"), "must specify namespace for service account"),
                namespace => values::dns_label(namespace, &at.child("namespace"), errors),
            }
        }
    }
    for (other, key) in [SUBJECTS[1], SUBJECTS[2], SUBJECTS[0]] {
        if other != kind && has(s, key) {
            errors.forbidden(path.child(key), format!("{key} is forbidden when subject kind is not '{other}'"));
        }
    }
}

fn resource_rule(r: &Value, path: &Path, errors: &mut Errors) {
    verbs(r, path, errors);
    let needed = "resource rules must supply at least one api group";
    some_or_star_alone(r, "apiGroups", needed, "api groups", path, errors);
    some_or_star_alone(r, "resources", "resource rules must supply at least one resource", "resources", path, errors);
    let at = path.child("namespaces");
    let all = texts(r, "namespaces");
    if all.is_empty() && flag(r, "clusterScope") {
        return;
    }
    let needed = "resource rules that are not cluster scoped must supply at least one namespace";
    if some_or_star_alone(r, "namespaces", needed, "namespaces", path, errors) {
        for (i, namespace) in all.iter().enumerate() {
            for m in meta::names::dns1123_label(namespace) {
                let text = format!("each member of this list must be '*' or a DNS-1123 label; {m}");
                errors.invalid(at.index(i), *namespace, text);
            }
        }
    }
}

fn verbs(r: &Value, path: &Path, errors: &mut Errors) {
    const VERBS: &[&str] =
        &["create", "delete", "deletecollection", "get", "list", "patch", "proxy", "update", "watch"];
    if some_or_star_alone(r, "verbs", "verbs must contain at least one value", "verbs", path, errors)
        && !texts(r, "verbs").iter().all(|v| VERBS.contains(v))
    {
        errors.not_supported(path.child("verbs"), field(r, "verbs").clone(), VERBS);
    }
}

/// There is at least one, and a star stands alone. Whether there are some, none of which is a star.
fn some_or_star_alone(r: &Value, key: &str, needed: &str, what: &str, path: &Path, errors: &mut Errors) -> bool {
    let all = texts(r, key);
    let star = all.contains(&"*");
    if all.is_empty() {
        errors.required(path.child(key), needed);
    } else if star && all.len() > 1 {
        let text = format!("if '*' is present, must not specify other {what}");
        errors.invalid(path.child(key), field(r, key).clone(), text);
    }
    !all.is_empty() && !star
}

fn non_resource_url(url: &str, path: Path, errors: &mut Errors) {
    let fault = match url {
        "" => "must not be empty",
        "/" => return,
        u if !u.starts_with('/') => "must start with slash",
        u if u.contains(' ') => "must not contain white-space",
        u if u.contains("//") => "must not contain double slash",
        u => match u.matches('*').count() {
            0 => return,
            1 if u.ends_with("/*") => return,
            _ => "wildcard can only do suffix matching",
        },
    };
    errors.invalid(path, url, fault);
}

/// What the schemas without which a server can't work must be.
fn fixed_schema(name: &str) -> Option<Value> {
    let (precedence, groups): (i64, &[&str]) = match name {
        "exempt" => (1, &["system:masters"]),
        "catch-all" => (PRECEDENCE_MAX, &["system:unauthenticated", "system:authenticated"]),
        _ => return None,
    };
    let subjects: Vec<Value> = groups.iter().map(|g| json!({"kind": "Group", "group": {"name": g}})).collect();
    let all = json!(["*"]);
    let mut spec = json!({"matchingPrecedence": precedence, "priorityLevelConfiguration": {"name": name}, "rules": [{
        "subjects": subjects,
        "resourceRules": [{"verbs": all, "apiGroups": all, "resources": all, "namespaces": all, "clusterScope": true}],
        "nonResourceRules": [{"verbs": all, "nonResourceURLs": all}]}]});
    if name == "catch-all" {
        spec["distinguisherMethod"] = json!({"type": "ByUser"});
    }
    Some(spec)
}

fn fixed_level(name: &str) -> Option<Value> {
    match name {
        "exempt" => Some(json!({"type": "Exempt", "exempt": {"nominalConcurrencyShares": 0, "lendablePercent": 0}})),
        "catch-all" => Some(json!({"type": "Limited", "limited": {
            "nominalConcurrencyShares": 5, "lendablePercent": 0, "limitResponse": {"type": "Reject"}}})),
        _ => None,
    }
}

impl Strategy for PriorityLevelConfiguration {
    fn status_keeps(&self) -> &'static [&'static str] {
        METADATA
    }

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
        const PRESERVE_ZERO: &str = "flowcontrol.k8s.io/v1beta3-preserve-zero-concurrency-shares";
        if has(at(obj, &["metadata", "annotations"]), PRESERVE_ZERO) {
            let text = format!("annotation '{PRESERVE_ZERO}' is forbidden");
            errors.forbidden(Path::new("metadata.annotations"), text);
        }
        let (name, spec, path) = (text_at(obj, &["metadata", "name"]), field(obj, "spec"), Path::new("spec"));
        level(name, spec, &path, errors);
        if let Some(fixed) = fixed_level(name) {
            let (mut have, except) = (spec.clone(), name == "exempt");
            if except {
                copy_field(&mut have, &fixed, "exempt");
            }
            if !same(&have, &fixed) {
                let except = if except { " except the 'spec.exempt' field" } else { "" };
                errors.invalid(path, spec.clone(), format!("spec of '{name}'{except} must equal the fixed value"));
            }
        }
        conditions(obj, errors);
    }

    fn validate_update(&self, new: &Value, _old: &Value, errors: &mut Errors) {
        self.validate_create(new, errors);
    }

    fn validate_status_update(&self, new: &Value, _old: &Value, errors: &mut Errors) {
        conditions(new, errors);
    }

    fn has_generation(&self) -> bool {
        true
    }

    fn columns(&self) -> &'static [Column] {
        const COLUMNS: &[Column] = &[
            NAME,
            column_of("Type", "string", 0, "api.flowcontrol.v1.PriorityLevelConfigurationSpec.type"),
            column_of(
                "NominalConcurrencyShares",
                "string",
                0,
                "api.flowcontrol.v1.LimitedPriorityLevelConfiguration.nominalConcurrencyShares",
            ),
            column_of("Queues", "string", 0, "api.flowcontrol.v1.QueuingConfiguration.queues"),
            column_of("HandSize", "string", 0, "api.flowcontrol.v1.QueuingConfiguration.handSize"),
            column_of("QueueLengthLimit", "string", 0, "api.flowcontrol.v1.QueuingConfiguration.queueLengthLimit"),
            AGE,
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

fn level(name: &str, spec: &Value, path: &Path, errors: &mut Errors) {
    let kind = text(spec, "type");
    if (name == "exempt") != (kind == "Exempt") {
        errors.invalid(path.child("type"), kind, "must be 'Exempt' if and only if `name` is 'exempt'");
    }
    let (exempt, limited) = (field(spec, "exempt"), field(spec, "limited"));
    match kind {
        "Exempt" => {
            if !limited.is_null() {
                errors.forbidden(path.child("limited"), "must be nil if the type is not Limited");
            }
            shares(exempt, &path.child("exempt"), errors);
            lendable(exempt, &path.child("exempt"), errors);
        }
        "Limited" => {
            if !exempt.is_null() {
                errors.forbidden(path.child("exempt"), "must be nil if the type is Limited");
            }
            let path = path.child("limited");
            if limited.is_null() {
                return errors.required(path, "must not be empty when type is Limited");
            }
            shares(limited, &path, errors);
            response(field(limited, "limitResponse"), &path.child("limitResponse"), errors);
            lendable(limited, &path, errors);
            if let Some(percent) = int(limited, "borrowingLimitPercent").filter(|p| *p < 0) {
                let text = "if specified, must be a non-negative integer";
                errors.invalid(path.child("borrowingLimitPercent"), percent, text);
            }
        }
        _ => errors.not_supported(path.child("type"), kind, &["Exempt", "Limited"]),
    }
}

fn shares(level: &Value, path: &Path, errors: &mut Errors) {
    if let Some(n) = int(level, "nominalConcurrencyShares").filter(|n| *n < 0) {
        errors.invalid(path.child("nominalConcurrencyShares"), n, "must be a non-negative integer");
    }
}

fn lendable(level: &Value, path: &Path, errors: &mut Errors) {
    if let Some(percent) = int(level, "lendablePercent").filter(|p| !(0..=100).contains(p)) {
        errors.invalid(path.child("lendablePercent"), percent, values::between(0, 100));
    }
}

fn response(response: &Value, path: &Path, errors: &mut Errors) {
    let (kind, queuing, at) = (text(response, "type"), field(response, "queuing"), path.child("queuing"));
    match kind {
        "Reject" if !queuing.is_null() => {
            errors.forbidden(at, "must be nil if limited.limitResponse.type is not Limited");
        }
        "Reject" => {}
        "Queue" if queuing.is_null() => {
            errors.required(at, "must not be empty if limited.limitResponse.type is Limited");
        }
        "Queue" => queues(queuing, &at, errors),
        _ => errors.not_supported(path.child("type"), kind, &["Queue", "Reject"]),
    }
}

fn queues(queuing: &Value, path: &Path, errors: &mut Errors) {
    const HASH_BITS_MAX: u32 = 60;
    let number = |key| int(queuing, key).unwrap_or(0);
    let (limit, queues, hand) = (number("queueLengthLimit"), number("queues"), number("handSize"));
    if limit <= 0 {
        errors.invalid(path.child("queueLengthLimit"), limit, "must be positive");
    }
    if queues <= 0 {
        errors.invalid(path.child("queues"), queues, "must be positive");
    } else if queues > QUEUES_MAX {
        errors.invalid(path.child("queues"), queues, format!("must not be greater than {QUEUES_MAX}"));
    }
    if hand <= 0 {
        errors.invalid(path.child("handSize"), hand, "must be positive");
    } else if hand > queues {
        errors.invalid(path.child("handSize"), hand, format!("should not be greater than queues ({queues})"));
    } else if ((queues as f64).log2() * hand as f64).ceil() > f64::from(HASH_BITS_MAX) {
        let text = format!(
            "required entropy bits of deckSize {queues} and handSize {hand} should not be greater than {HASH_BITS_MAX}"
        );
        errors.invalid(path.child("handSize"), hand, text);
    }
}

#[cfg(test)]
mod tests {
    use super::{fixed_level, fixed_schema};
    use crate::kinds::checks::{check_create, created};
    use expect_test::expect;
    use serde_json::{Value, json};

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
                spec.limited.limitResponse.queuing: Forbidden: must be nil if limited.limitResponse.type is not Limited
                spec.limited.lendablePercent: Invalid value: 101: must be between 0 and 100, inclusive
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
        check_create(
            r#"{"apiVersion":"flowcontrol.apiserver.k8s.io/v1","kind":"FlowSchema","metadata":{"name":"f"},
            "spec":{"distinguisherMethod":{"type":"ByTime"},"priorityLevelConfiguration":{"name":"A"},"rules":[{
            "subjects":[{"kind":"ServiceAccount","user":{"name":"u"},"serviceAccount":{"name":"*"}},{"kind":"Group","group":{}},{"kind":"X"}],
            "resourceRules":[{"verbs":["*","get"],"apiGroups":[],"resources":["a","*"],"namespaces":["A_"]},{"verbs":["look"],"apiGroups":[""],"resources":["a"]}],
            "nonResourceRules":[{"verbs":[],"nonResourceURLs":["","x","/a b","//a","/a*","/a/*"]}]}]}}"#,
            expect![[r#"
                spec.distinguisherMethod.type: Unsupported value: {"Type":"ByTime"}: supported values: "ByNamespace", "ByUser"
                spec.priorityLevelConfiguration.name: Invalid value: "A": a lowercase RFC 1123 subdomain must consist of lower case alphanumeric characters, '-' or '.', and must start and end with an alphanumeric character (e.g. 'example.com', regex used for validation is '[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*')
                spec.rules[0].subjects[0].serviceAccount.namespace: Required value: must specify namespace for service account
                spec.rules[0].subjects[0].user: Forbidden: user is forbidden when subject kind is not 'User'
                spec.rules[0].subjects[1].group.name: Required value
                spec.rules[0].subjects[2].kind: Unsupported value: "X": supported values: "Group", "ServiceAccount", "User"
                spec.rules[0].resourceRules[0].verbs: Invalid value: ["*","get"]: if '*' is present, must not specify other verbs
                spec.rules[0].resourceRules[0].apiGroups: Required value: resource rules must supply at least one api group
                spec.rules[0].resourceRules[0].resources: Invalid value: ["a","*"]: if '*' is present, must not specify other resources
                spec.rules[0].resourceRules[0].namespaces[0]: Invalid value: "A_": each member of this list must be '*' or a DNS-1123 label; a lowercase RFC 1123 label must consist of lower case alphanumeric characters or '-', and must start and end with an alphanumeric character (e.g. 'my-name',  or '123-abc', regex used for validation is '[a-z0-9]([-a-z0-9]*[a-z0-9])?')
                spec.rules[0].resourceRules[1].verbs: Unsupported value: ["look"]: supported values: "create", "delete", "deletecollection", "get", "list", "patch", "proxy", "update", "watch"
                spec.rules[0].resourceRules[1].namespaces: Required value: resource rules that are not cluster scoped must supply at least one namespace
                spec.rules[0].nonResourceRules[0].verbs: Required value: verbs must contain at least one value
                spec.rules[0].nonResourceRules[0].nonResourceURLs[0]: Invalid value: "": must not be empty
                spec.rules[0].nonResourceRules[0].nonResourceURLs[1]: Invalid value: "x": must start with slash
                spec.rules[0].nonResourceRules[0].nonResourceURLs[2]: Invalid value: "/a b": must not contain white-space
                spec.rules[0].nonResourceRules[0].nonResourceURLs[3]: Invalid value: "//a": must not contain double slash
                spec.rules[0].nonResourceRules[0].nonResourceURLs[4]: Invalid value: "/a*": wildcard can only do suffix matching
            "#]],
        );
        let object = |kind: &str, name: &str, spec: Option<Value>| json!({"apiVersion": "flowcontrol.apiserver.k8s.io/v1", "kind": kind, "metadata": {"name": name}, "spec": spec});
        let mut all = object("FlowSchema", "catch-all", fixed_schema("catch-all"));
        check_create(&all.to_string(), expect![[""]]);
        all["spec"]["rules"] = json!([]);
        check_create(
            &all.to_string(),
            expect![[r#"
            spec: Invalid value: {"distinguisherMethod":{"type":"ByUser"},"matchingPrecedence":10000,"priorityLevelConfiguration":{"name":"catch-all"},"rules":[]}: spec of 'catch-all' must equal the fixed value
        "#]],
        );
        // How much of the server exempt requests are thought to take is the users' to say.
        let mut exempt = object("PriorityLevelConfiguration", "exempt", fixed_level("exempt"));
        exempt["spec"]["exempt"] = json!({"lendablePercent": 7});
        check_create(&exempt.to_string(), expect![[""]]);
        exempt["metadata"]["name"] = json!("other");
        check_create(
            &exempt.to_string(),
            expect![[r#"
            spec.type: Invalid value: "Exempt": must be 'Exempt' if and only if `name` is 'exempt'
        "#]],
        );
    }
}
