//! Webhook configurations and admission policies with their bindings (admissionregistration.k8s.io).

use super::columns;
use crate::strategy::{Column, NAME, Now, Strategy, column};
use crate::validation::access::*;
use crate::validation::{selector, values};
use cel::Type;
use cel::admission::{Compiler, Purpose};
use meta::field::{Errors, Path};
use serde_json::{Value, json};

pub struct MutatingWebhookConfiguration;
pub struct ValidatingWebhookConfiguration;
pub struct ValidatingAdmissionPolicy;
pub struct MutatingAdmissionPolicy;
pub struct ValidatingAdmissionPolicyBinding;
pub struct MutatingAdmissionPolicyBinding;

const OPERATIONS: &[&str] = &["*", "CONNECT", "CREATE", "DELETE", "UPDATE"];
const TIMEOUT_SECONDS_DEFAULT: i64 = 10;
const AUDIT_ANNOTATIONS_MAX: usize = 20;
/// Of an expression; its value may be twice as long.
const AUDIT_EXPRESSION_BYTES_MAX: usize = 5 * 1024;

/// A rule's scope is all unless it says otherwise.
fn default_rules(owner: &mut Value, key: &str) {
    for rule in items_mut(owner, key) {
        fill(rule, "scope", "*");
    }
}

/// Defaults of a `matchResources`.
fn default_match(m: &mut Value) {
    fill(m, "matchPolicy", "Equivalent");
    fill(m, "namespaceSelector", json!({}));
    fill(m, "objectSelector", json!({}));
    default_rules(m, "resourceRules");
    default_rules(m, "excludeResourceRules");
}

fn validate_rules(rules: &[Value], path: &Path, errors: &mut Errors) {
    for (i, rule) in rules.iter().enumerate() {
        let path = path.index(i);
        for key in ["apiGroups", "apiVersions", "operations", "resources"] {
            let all = texts(rule, key);
            if all.is_empty() {
                errors.required(path.child(key), "");
            }
            if all.len() > 1 && all.contains(&"*") && key != "resources" {
                errors.invalid(path.child(key), json!(all), "if '*' is present, must not specify other values");
            }
            for (j, v) in all.into_iter().enumerate() {
                if key == "operations" {
                    values::one_of(v, OPERATIONS, path.child(key).index(j), errors);
                } else if v.is_empty() && key != "apiGroups" {
                    errors.required(path.child(key).index(j), "");
                }
            }
        }
        let scope = text(rule, "scope");
        if !scope.is_empty() {
            values::one_of(scope, &["*", "Cluster", "Namespaced"], path.child("scope"), errors);
        }
    }
}

fn validate_selectors(owner: &Value, path: &Path, errors: &mut Errors) {
    for key in ["namespaceSelector", "objectSelector"] {
        let s = field(owner, key);
        if s.is_object() {
            selector::label_selector(s, &path.child(key), errors);
        }
    }
}

/// An expression that doesn't compile is told in the compiler's words.
fn validate_expression(compiler: &Compiler, text: &str, purpose: Purpose, path: Path, errors: &mut Errors) {
    if let Err(e) = compiler.compile(text, purpose) {
        errors.invalid(path, text, e.to_string());
    }
}

/// What expressions of a policy may mention, but for its variables.
fn compiler(spec: &Value) -> Compiler {
    if field(spec, "paramKind").is_object() { Compiler::new().with_params(Type::Dyn) } else { Compiler::new() }
}

fn validate_match_conditions(owner: &Value, path: &Path, errors: &mut Errors) {
    let all = list(owner, "matchConditions");
    if all.len() > 64 {
        errors.too_many(path.child("matchConditions"), all.len(), 64);
    }
    let mut names = Vec::new();
    for (i, c) in all.iter().enumerate() {
        let (path, name) = (path.child("matchConditions").index(i), text(c, "name"));
        match name {
            "" => errors.required(path.child("name"), ""),
            n if names.contains(&n) => errors.duplicate(path.child("name"), n),
            n => values::qualified_name(n, &path.child("name"), errors),
        }
        names.push(name);
        match text(c, "expression").trim() {
            "" => errors.required(path.child("expression"), ""),
            e => validate_expression(&compiler(owner), e, Purpose::Condition, path.child("expression"), errors),
        }
    }
}

/// Webhooks are named like `check.example.com`.
fn webhook_name(name: &str, path: &Path, errors: &mut Errors) {
    if name.is_empty() {
        return errors.required(path.clone(), "");
    }
    values::dns_subdomain(name, path, errors);
    if name.split('.').count() < 3 {
        errors.invalid(path.clone(), name, "should be a domain with at least three segments separated by dots");
    }
}

fn validate_webhook(hook: &Value, mutating: bool, path: &Path, errors: &mut Errors) {
    webhook_name(text(hook, "name"), &path.child("name"), errors);
    let versions = texts(hook, "admissionReviewVersions");
    if versions.is_empty() {
        errors.required(path.child("admissionReviewVersions"), "must specify one of v1, v1beta1");
    } else if !versions.iter().any(|v| matches!(*v, "v1" | "v1beta1")) {
        errors.invalid(
            path.child("admissionReviewVersions"),
            json!(versions),
            "must include at least one of v1, v1beta1",
        );
    }
    validate_rules(list(hook, "rules"), &path.child("rules"), errors);
    for (key, supported) in [("failurePolicy", ["Fail", "Ignore"]), ("matchPolicy", ["Equivalent", "Exact"])] {
        if has(hook, key) {
            values::one_of(text(hook, key), &supported, path.child(key), errors);
        }
    }
    values::required_one_of(text(hook, "sideEffects"), &["None", "NoneOnDryRun"], path.child("sideEffects"), errors);
    if let Some(seconds) = int(hook, "timeoutSeconds")
        && !(1..=30).contains(&seconds)
    {
        errors.invalid(path.child("timeoutSeconds"), seconds, "the timeout value must be between 1 and 30 seconds");
    }
    if mutating && has(hook, "reinvocationPolicy") {
        let supported = ["IfNeeded", "Never"];
        values::one_of(text(hook, "reinvocationPolicy"), &supported, path.child("reinvocationPolicy"), errors);
    }
    validate_selectors(hook, path, errors);
    validate_match_conditions(hook, path, errors);
    client_config(field(hook, "clientConfig"), &path.child("clientConfig"), errors);
}

/// Where a webhook is: a URL or a Service. Shared with conversion webhooks of custom resources.
pub fn client_config(config: &Value, path: &Path, errors: &mut Errors) {
    let service = field(config, "service");
    match (has(config, "url"), service.is_object()) {
        (true, false) => {
            let url = text(config, "url");
            let rest = url.strip_prefix("https://");
            match rest.map(|r| r.split(['/', '?', '#']).next().unwrap_or("")) {
                None => errors.invalid(
                    path.child("url"),
                    url,
                    "'https' is the only allowed URL scheme; desired format: https://host[/path]",
                ),
                Some("") => errors.invalid(
                    path.child("url"),
                    url,
                    "host must be specified; desired format: https://host[/path]",
                ),
                Some(host) if host.contains('@') => {
                    errors.invalid(path.child("url"), url, "user information is not permitted in the URL")
                }
                Some(_) if url.contains('#') => {
                    errors.invalid(path.child("url"), url, "fragments are not permitted in the URL");
                }
                Some(_) if url.contains('?') => {
                    errors.invalid(path.child("url"), url, "query parameters are not permitted in the URL");
                }
                Some(_) => {}
            }
        }
        (false, true) => {
            let path = path.child("service");
            for key in ["name", "namespace"] {
                if text(service, key).is_empty() {
                    errors.required(path.child(key), format!("service {key} is required"));
                }
            }
            if let Some(port) = int(service, "port")
                && !(1..=65535).contains(&port)
            {
                errors.invalid(path.child("port"), port, "port is not valid: must be between 1 and 65535, inclusive");
            }
            let p = text(service, "path");
            if !p.is_empty() && !p.starts_with('/') {
                errors.invalid(path.child("path"), p, "must start with a '/'");
            }
        }
        _ => errors.required(path.clone(), "exactly one of url or service is required"),
    }
}

macro_rules! webhooks {
    ($kind:ident, $mutating:literal) => {
        impl Strategy for $kind {
            fn defaults(&self, obj: &mut Value) {
                for hook in items_mut(obj, "webhooks") {
                    fill(hook, "failurePolicy", "Fail");
                    fill(hook, "timeoutSeconds", TIMEOUT_SECONDS_DEFAULT);
                    fill(hook, "matchPolicy", "Equivalent");
                    fill(hook, "namespaceSelector", json!({}));
                    fill(hook, "objectSelector", json!({}));
                    if $mutating {
                        fill(hook, "reinvocationPolicy", "Never");
                    }
                    default_rules(hook, "rules");
                    if let Some(service) = object_at_mut(hook, &["clientConfig", "service"]) {
                        fill(service, "port", 443);
                    }
                }
            }

            fn validate_create(&self, obj: &Value, errors: &mut Errors) {
                let mut names = Vec::new();
                for (i, hook) in list(obj, "webhooks").iter().enumerate() {
                    let path = Path::new("webhooks").index(i);
                    validate_webhook(hook, $mutating, &path, errors);
                    let name = text(hook, "name");
                    if names.contains(&name) {
                        errors.duplicate(path.child("name"), name);
                    }
                    names.push(name);
                }
            }

            fn validate_update(&self, new: &Value, _old: &Value, errors: &mut Errors) {
                self.validate_create(new, errors);
            }

            fn has_generation(&self) -> bool {
                true
            }

            fn bumps_generation(&self, new: &Value, old: &Value) -> bool {
                field(new, "webhooks") != field(old, "webhooks")
            }

            fn columns(&self) -> &'static [Column] {
                const COLUMNS: &[Column] = &[NAME, column("Webhooks", "integer", 0), column("Age", "string", 0)];
                COLUMNS
            }

            fn row(&self, obj: &Value, now: Now) -> Vec<Value> {
                vec![columns::name(obj), json!(list(obj, "webhooks").len()), columns::age_cell(obj, now)]
            }
        }
    };
}

webhooks!(MutatingWebhookConfiguration, true);
webhooks!(ValidatingWebhookConfiguration, false);

/// What both kinds of policy share: everything but the list of what they do. Gives what compiles the latter.
fn validate_policy(obj: &Value, errors: &mut Errors) -> Compiler {
    let (spec, path) = (field(obj, "spec"), Path::new("spec"));
    if has(spec, "failurePolicy") {
        values::one_of(text(spec, "failurePolicy"), &["Fail", "Ignore"], path.child("failurePolicy"), errors);
    }
    let param = field(spec, "paramKind");
    if param.is_object() {
        for key in ["apiVersion", "kind"] {
            if text(param, key).is_empty() {
                errors.required(path.child("paramKind").child(key), "");
            }
        }
    }
    let constraints = field(spec, "matchConstraints");
    let at = path.child("matchConstraints");
    if !constraints.is_object() {
        errors.required(at, "");
    } else {
        if list(constraints, "resourceRules").is_empty() {
            errors.required(at.child("resourceRules"), "");
        }
        validate_rules(list(constraints, "resourceRules"), &at.child("resourceRules"), errors);
        validate_rules(list(constraints, "excludeResourceRules"), &at.child("excludeResourceRules"), errors);
        validate_selectors(constraints, &at, errors);
    }
    validate_match_conditions(spec, &path, errors);
    let mut compiler = compiler(spec);
    if !list(spec, "variables").is_empty() {
        compiler = compiler.with_variables();
    }
    let mut names = Vec::new();
    for (i, v) in list(spec, "variables").iter().enumerate() {
        let (path, name) = (path.child("variables").index(i), text(v, "name"));
        match name {
            "" => errors.required(path.child("name"), "name is not specified"),
            n if names.contains(&n) => errors.duplicate(path.child("name"), n),
            n if !meta::names::c_identifier(n).is_empty() => {
                errors.invalid(path.child("name"), n, "name is not a valid CEL identifier");
            }
            _ => {}
        }
        names.push(name);
        let expression = text(v, "expression");
        if expression.trim().is_empty() {
            errors.required(path.child("expression"), "expression is not specified");
        } else if let Err(e) = compiler.variable(name, expression) {
            errors.invalid(path.child("expression"), expression, e.to_string());
        }
    }
    compiler
}

fn has_newlines(text: &str) -> bool {
    text.contains(['\n', '\r'])
}

fn validate_validation(v: &Value, compiler: &Compiler, path: &Path, errors: &mut Errors) {
    match text(v, "expression") {
        e if e.trim().is_empty() => errors.required(path.child("expression"), "expression is not specified"),
        e => validate_expression(compiler, e, Purpose::Condition, path.child("expression"), errors),
    }
    match text(v, "messageExpression") {
        "" => {}
        e if e.trim().is_empty() => {
            errors.invalid(path.child("messageExpression"), e, "must be non-empty if specified");
        }
        e => validate_expression(compiler, e, Purpose::Message, path.child("messageExpression"), errors),
    }
    let message = text(v, "message");
    if !message.is_empty() && message.trim().is_empty() {
        errors.invalid(path.child("message"), message, "message must be non-empty if specified");
    } else if has_newlines(message.trim()) {
        errors.invalid(path.child("message"), message, "message must not contain line breaks");
    }
    if has(v, "reason") {
        let reasons = ["Forbidden", "Invalid", "RequestEntityTooLarge", "Unauthorized"];
        values::one_of(text(v, "reason"), &reasons, path.child("reason"), errors);
    }
}

fn validate_audit_annotations(obj: &Value, compiler: &Compiler, errors: &mut Errors) {
    let (all, path) = (list_at(obj, &["spec", "auditAnnotations"]), Path::new("spec.auditAnnotations"));
    if all.len() > AUDIT_ANNOTATIONS_MAX {
        errors.invalid(
            path.clone(),
            json!(all),
            format!("must not have more than {AUDIT_ANNOTATIONS_MAX} auditAnnotations"),
        );
    }
    let name = text_at(obj, &["metadata", "name"]);
    let mut keys = Vec::new();
    for (i, a) in all.iter().enumerate() {
        let (path, key) = (path.index(i), text(a, "key"));
        values::qualified_name(&format!("{name}/{key}"), &path.child("key"), errors);
        let (expression, at) = (text(a, "valueExpression"), path.child("valueExpression"));
        match expression.trim() {
            "" => errors.required(at, "valueExpression is not specified"),
            e if e.len() > AUDIT_EXPRESSION_BYTES_MAX => {
                errors.required(at, format!("must not exceed {AUDIT_EXPRESSION_BYTES_MAX} bytes in length"));
            }
            e => validate_expression(compiler, e, Purpose::AuditAnnotation, at, errors),
        }
        if keys.contains(&key) {
            errors.duplicate(path.child("key"), key);
        }
        keys.push(key);
    }
}

fn default_policy(obj: &mut Value) {
    if let Some(spec) = ensure_object(obj, "spec") {
        fill(spec, "failurePolicy", "Fail");
        if let Some(m) = object_mut(spec, "matchConstraints") {
            default_match(m);
        }
    }
}

fn param_kind(obj: &Value) -> Value {
    let param = at(obj, &["spec", "paramKind"]);
    if param.is_object() {
        json!(format!("{}/{}", text(param, "apiVersion"), text(param, "kind")))
    } else {
        json!("<unset>")
    }
}

impl Strategy for ValidatingAdmissionPolicy {
    fn defaults(&self, obj: &mut Value) {
        default_policy(obj);
    }

    fn validate_create(&self, obj: &Value, errors: &mut Errors) {
        let compiler = validate_policy(obj, errors);
        let (spec, path) = (field(obj, "spec"), Path::new("spec"));
        if list(spec, "validations").is_empty() && list(spec, "auditAnnotations").is_empty() {
            let text = "validations or auditAnnotations must contain at least one item";
            errors.required(path.child("validations"), text);
            errors.required(path.child("auditAnnotations"), text);
        }
        for (i, v) in list(spec, "validations").iter().enumerate() {
            validate_validation(v, &compiler, &path.child("validations").index(i), errors);
        }
        validate_audit_annotations(obj, &compiler, errors);
    }

    fn validate_update(&self, new: &Value, _old: &Value, errors: &mut Errors) {
        self.validate_create(new, errors);
    }

    fn has_generation(&self) -> bool {
        true
    }

    fn columns(&self) -> &'static [Column] {
        const COLUMNS: &[Column] =
            &[NAME, column("Validations", "integer", 0), column("ParamKind", "string", 0), column("Age", "string", 0)];
        COLUMNS
    }

    fn row(&self, obj: &Value, now: Now) -> Vec<Value> {
        let count = list_at(obj, &["spec", "validations"]).len();
        vec![columns::name(obj), json!(count), param_kind(obj), columns::age_cell(obj, now)]
    }
}

impl Strategy for MutatingAdmissionPolicy {
    fn defaults(&self, obj: &mut Value) {
        default_policy(obj);
        if let Some(spec) = object_mut(obj, "spec") {
            fill(spec, "reinvocationPolicy", "Never");
        }
    }

    fn validate_create(&self, obj: &Value, errors: &mut Errors) {
        let compiler = validate_policy(obj, errors);
        let (spec, path) = (field(obj, "spec"), Path::new("spec"));
        let mutations = list(spec, "mutations");
        if mutations.is_empty() {
            errors.required(path.child("mutations"), "mutations must contain at least one item");
        }
        for (i, m) in mutations.iter().enumerate() {
            let path = path.child("mutations").index(i);
            let kind = text(m, "patchType");
            values::required_one_of(kind, &["ApplyConfiguration", "JSONPatch"], path.child("patchType"), errors);
            let (key, purpose) = match kind {
                "ApplyConfiguration" => ("applyConfiguration", Purpose::ApplyConfiguration),
                "JSONPatch" => ("jsonPatch", Purpose::JsonPatch),
                _ => continue,
            };
            let at = path.child(key).child("expression");
            match text_at(m, &[key, "expression"]) {
                e if e.trim().is_empty() => errors.required(at, "expression is not specified"),
                e => validate_expression(&compiler, e, purpose, at, errors),
            }
        }
        let supported = ["IfNeeded", "Never"];
        values::required_one_of(text(spec, "reinvocationPolicy"), &supported, path.child("reinvocationPolicy"), errors);
    }

    fn validate_update(&self, new: &Value, _old: &Value, errors: &mut Errors) {
        self.validate_create(new, errors);
    }

    fn has_generation(&self) -> bool {
        true
    }

    fn columns(&self) -> &'static [Column] {
        const COLUMNS: &[Column] =
            &[NAME, column("Mutations", "integer", 0), column("ParamKind", "string", 0), column("Age", "string", 0)];
        COLUMNS
    }

    fn row(&self, obj: &Value, now: Now) -> Vec<Value> {
        let count = list_at(obj, &["spec", "mutations"]).len();
        vec![columns::name(obj), json!(count), param_kind(obj), columns::age_cell(obj, now)]
    }
}

fn validate_binding(obj: &Value, errors: &mut Errors) {
    let (spec, path) = (field(obj, "spec"), Path::new("spec"));
    match text(spec, "policyName") {
        "" => errors.required(path.child("policyName"), ""),
        name => values::dns_subdomain(name, &path.child("policyName"), errors),
    }
    let param = field(spec, "paramRef");
    if param.is_object() {
        let path = path.child("paramRef");
        match (text(param, "name").is_empty(), field(param, "selector").is_object()) {
            (false, true) => errors.forbidden(path.child("name"), "name and selector are mutually exclusive"),
            (true, false) => errors.required(path, "one of name or selector must be specified"),
            _ => {}
        }
        let action = text(param, "parameterNotFoundAction");
        let at = Path::new("spec.paramRef.parameterNotFoundAction");
        values::required_one_of(action, &["Allow", "Deny"], at, errors);
    }
    let resources = field(spec, "matchResources");
    let path = path.child("matchResources");
    validate_rules(list(resources, "resourceRules"), &path.child("resourceRules"), errors);
    validate_rules(list(resources, "excludeResourceRules"), &path.child("excludeResourceRules"), errors);
    validate_selectors(resources, &path, errors);
}

fn binding_row(obj: &Value, now: Now) -> Vec<Value> {
    let param = at(obj, &["spec", "paramRef"]);
    let shown = match (text(param, "namespace"), text(param, "name")) {
        _ if !param.is_object() => "<unset>".to_string(),
        (_, "") => selector::shown(field(param, "selector")),
        ("", name) => format!("*/{name}"),
        (namespace, name) => format!("{namespace}/{name}"),
    };
    vec![columns::name(obj), json!(text_at(obj, &["spec", "policyName"])), json!(shown), columns::age_cell(obj, now)]
}

const BINDING_COLUMNS: &[Column] =
    &[NAME, column("PolicyName", "string", 0), column("ParamRef", "string", 0), column("Age", "string", 0)];

fn default_binding(obj: &mut Value) {
    if let Some(m) = object_at_mut(obj, &["spec", "matchResources"]) {
        default_match(m);
    }
}

impl Strategy for ValidatingAdmissionPolicyBinding {
    fn defaults(&self, obj: &mut Value) {
        default_binding(obj);
    }

    fn validate_create(&self, obj: &Value, errors: &mut Errors) {
        validate_binding(obj, errors);
        let (actions, path) = (texts(field(obj, "spec"), "validationActions"), Path::new("spec.validationActions"));
        if actions.is_empty() {
            errors.required(path.clone(), "at least one validation action is required");
        }
        for (i, action) in actions.iter().enumerate() {
            values::one_of(action, &["Audit", "Deny", "Warn"], path.index(i), errors);
            if actions[..i].contains(action) {
                errors.duplicate(path.index(i), *action);
            }
        }
        if actions.contains(&"Deny") && actions.contains(&"Warn") {
            errors.invalid(path, json!(actions), "must not contain both Deny and Warn (repeating the same validation failure information in the API response and headers serves no purpose)");
        }
    }

    fn validate_update(&self, new: &Value, _old: &Value, errors: &mut Errors) {
        self.validate_create(new, errors);
    }

    fn has_generation(&self) -> bool {
        true
    }

    fn columns(&self) -> &'static [Column] {
        BINDING_COLUMNS
    }

    fn row(&self, obj: &Value, now: Now) -> Vec<Value> {
        binding_row(obj, now)
    }
}

impl Strategy for MutatingAdmissionPolicyBinding {
    fn defaults(&self, obj: &mut Value) {
        default_binding(obj);
    }

    fn validate_create(&self, obj: &Value, errors: &mut Errors) {
        validate_binding(obj, errors);
    }

    fn validate_update(&self, new: &Value, _old: &Value, errors: &mut Errors) {
        validate_binding(new, errors);
    }

    fn has_generation(&self) -> bool {
        true
    }

    fn columns(&self) -> &'static [Column] {
        BINDING_COLUMNS
    }

    fn row(&self, obj: &Value, now: Now) -> Vec<Value> {
        binding_row(obj, now)
    }
}

#[cfg(test)]
mod tests {
    use crate::kinds::checks::{check_create, created};
    use expect_test::expect;
    use serde_json::json;

    fn webhook(extra: &str) -> String {
        format!(
            r#"{{"apiVersion":"admissionregistration.k8s.io/v1","kind":"MutatingWebhookConfiguration","metadata":{{"name":"w"}},
            "webhooks":[{{"name":"a.example.com","sideEffects":"None","admissionReviewVersions":["v1"],
            "rules":[{{"apiGroups":["*"],"apiVersions":["*"],"operations":["*"],"resources":["pods"]}}]{extra}}}]}}"#
        )
    }

    #[test]
    fn webhooks_get_upstreams_defaults() {
        let obj = created(&webhook(r#","clientConfig":{"service":{"name":"s","namespace":"n"}}"#));
        assert_eq!(
            obj["webhooks"][0],
            json!({"name":"a.example.com","sideEffects":"None","admissionReviewVersions":["v1"],
                "rules":[{"apiGroups":["*"],"apiVersions":["*"],"operations":["*"],"resources":["pods"],"scope":"*"}],
                "clientConfig":{"service":{"name":"s","namespace":"n","port":443}},"failurePolicy":"Fail",
                "matchPolicy":"Equivalent","namespaceSelector":{},"objectSelector":{},"reinvocationPolicy":"Never",
                "timeoutSeconds":10})
        );
    }

    #[test]
    fn broken_webhooks_are_refused() {
        check_create(&webhook(r#","clientConfig":{"url":"https://h/p"}"#), expect![[""]]);
        check_create(
            &webhook(r#","clientConfig":{"url":"http://h"},"timeoutSeconds":31"#),
            expect![[r#"
            webhooks[0].timeoutSeconds: Invalid value: 31: the timeout value must be between 1 and 30 seconds
            webhooks[0].clientConfig.url: Invalid value: "http://h": 'https' is the only allowed URL scheme; desired format: https://host[/path]
        "#]],
        );
        check_create(
            &webhook(r#","clientConfig":{},"failurePolicy":"Maybe""#),
            expect![[r#"
            webhooks[0].failurePolicy: Unsupported value: "Maybe": supported values: "Fail", "Ignore"
            webhooks[0].clientConfig: Required value: exactly one of url or service is required
        "#]],
        );
        check_create(
            &webhook("").replace("a.example.com", "a").replace("None", "Some").replace("\"v1\"", "\"v2\""),
            expect![[r#"
            webhooks[0].name: Invalid value: "a": should be a domain with at least three segments separated by dots
            webhooks[0].admissionReviewVersions: Invalid value: ["v2"]: must include at least one of v1, v1beta1
            webhooks[0].sideEffects: Unsupported value: "Some": supported values: "None", "NoneOnDryRun"
            webhooks[0].clientConfig: Required value: exactly one of url or service is required
        "#]],
        );
    }

    #[test]
    fn policies_and_bindings() {
        check_create(
            r#"{"apiVersion":"admissionregistration.k8s.io/v1","kind":"ValidatingAdmissionPolicy","metadata":{"name":"p"},
            "spec":{"variables":[{"name":"1x","expression":""}]}}"#,
            expect![[r#"
                spec.matchConstraints: Required value
                spec.variables[0].name: Invalid value: "1x": name is not a valid CEL identifier
                spec.variables[0].expression: Required value: expression is not specified
                spec.validations: Required value: validations or auditAnnotations must contain at least one item
                spec.auditAnnotations: Required value: validations or auditAnnotations must contain at least one item
            "#]],
        );
        check_create(
            r#"{"apiVersion":"admissionregistration.k8s.io/v1","kind":"ValidatingAdmissionPolicyBinding","metadata":{"name":"p"},
            "spec":{"policyName":"p","validationActions":["Deny","Warn","Deny"],"paramRef":{"name":"x","selector":{}}}}"#,
            expect![[r#"
                spec.paramRef.name: Forbidden: name and selector are mutually exclusive
                spec.paramRef.parameterNotFoundAction: Required value
                spec.validationActions[2]: Duplicate value: "Deny"
                spec.validationActions: Invalid value: ["Deny","Warn","Deny"]: must not contain both Deny and Warn (repeating the same validation failure information in the API response and headers serves no purpose)
            "#]],
        );
    }
}
