//! Webhook configurations and admission policies with their bindings (admissionregistration.k8s.io).

mod matching;
mod webhook;

pub use webhook::client_config;

use super::columns;
use crate::custom::jsonpath::JsonPath;
use crate::strategy::{AGE, Column, METADATA, NAME, Now, Strategy, column};
use crate::validation::access::*;
use crate::validation::seen::Seen;
use crate::validation::{conditions, selector, values};
use cel::Type;
use cel::admission::{Compiler, Purpose};
use matching::{default_match, validate_match, validate_mutated_operations};
use meta::field::{Errors, Path};
use serde_json::{Value, json};

pub struct MutatingWebhookConfiguration;
pub struct ValidatingWebhookConfiguration;
pub struct ValidatingAdmissionPolicy;
pub struct MutatingAdmissionPolicy;
pub struct ValidatingAdmissionPolicyBinding;
pub struct MutatingAdmissionPolicyBinding;

const AUDIT_ANNOTATIONS_MAX: usize = 20;
/// Of an expression; its value may be twice as long.
const AUDIT_EXPRESSION_BYTES_MAX: usize = 5 * 1024;

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
    let mut names = Seen::default();
    for (i, c) in all.iter().enumerate() {
        let (path, name) = (path.child("matchConditions").index(i), text(c, "name"));
        match text(c, "expression").trim() {
            "" => errors.required(path.child("expression"), ""),
            e => validate_expression(&compiler(owner), e, Purpose::Condition, path.child("expression"), errors),
        }
        match name {
            "" => errors.required(path.child("name"), ""),
            n => values::qualified_name(n, &path.child("name"), errors),
        }
        if !name.is_empty() && names.again(name) {
            errors.duplicate(path.child("name"), name);
        }
    }
}

/// What both kinds of policy share: everything but the list of what they do. Gives what compiles the latter.
fn validate_policy(obj: &Value, old: Option<&Value>, mutating: bool, errors: &mut Errors) -> Compiler {
    let (spec, path) = (field(obj, "spec"), Path::new("spec"));
    let supported = ["Fail", "Ignore"];
    values::required_one_of(text(spec, "failurePolicy"), &supported, path.child("failurePolicy"), errors);
    let param = field(spec, "paramKind");
    if !param.is_null() {
        validate_param_kind(param, &path.child("paramKind"), errors);
    }
    let (constraints, at) = (field(spec, "matchConstraints"), path.child("matchConstraints"));
    if constraints.is_null() {
        errors.required(at, "");
    } else {
        validate_match(constraints, &at, errors);
        if list(constraints, "resourceRules").is_empty() {
            errors.required(at.child("resourceRules"), "");
        }
        if mutating {
            validate_mutated_operations(constraints, &at, errors);
        }
    }
    let kept = |key| old.is_some_and(|o| same(at_spec(o, key), field(spec, key)));
    if !kept("paramKind") || !kept("matchConditions") {
        validate_match_conditions(spec, &path, errors);
    }
    let mut compiler = compiler(spec);
    if !list(spec, "variables").is_empty() {
        compiler = compiler.with_variables();
    }
    for (i, v) in list(spec, "variables").iter().enumerate() {
        let (path, name) = (path.child("variables").index(i), text(v, "name"));
        if name.trim().is_empty() {
            errors.required(path.child("name"), "name is not specified");
        } else if !meta::names::c_identifier(name).is_empty() || cel::RESERVED_WORDS.contains(&name) {
            errors.invalid(path.child("name"), name, "must be a valid CEL identifier");
        }
        let expression = text(v, "expression");
        if expression.trim().is_empty() {
            errors.required(path.child("expression"), "expression is not specified");
        } else if let Err(e) = compiler.variable(name, expression) {
            errors.invalid(path.child("expression"), expression, e.to_string());
        }
    }
    compiler
}

fn at_spec<'a>(obj: &'a Value, key: &str) -> &'a Value {
    at(obj, &["spec", key])
}

fn validate_param_kind(param: &Value, path: &Path, errors: &mut Errors) {
    let (version, at) = (text(param, "apiVersion"), path.child("apiVersion"));
    if version.is_empty() {
        errors.required(at, "");
    } else if version.matches('/').count() > 1 {
        errors.invalid(at, version, format!("unexpected GroupVersion string: {version}"));
    } else {
        let (group, v) = version.split_once('/').unwrap_or(("", version));
        let faults = meta::names::dns1123_subdomain(group);
        if !group.is_empty() && !faults.is_empty() {
            errors.invalid(at.clone(), group, faults.join(","));
        }
        let faults = meta::names::dns1035_label(v);
        if v.is_empty() {
            errors.invalid(at, version, "version must be specified");
        } else if !faults.is_empty() {
            errors.invalid(at, v, faults.join(","));
        }
    }
    let (kind, at) = (text(param, "kind"), path.child("kind"));
    let faults = meta::names::dns1035_label(&kind.to_lowercase());
    if kind.is_empty() {
        errors.required(at, "");
    } else if !faults.is_empty() {
        let text = format!("may have mixed case, but should otherwise match: {}", faults.join(","));
        errors.invalid(at, kind, text);
    }
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
        errors.invalid(path.child("message"), message, "must be non-empty if specified");
    } else if has_newlines(message.trim()) {
        errors.invalid(path.child("message"), message, "must not contain line breaks");
    }
    if has(v, "reason") {
        let reasons = ["Forbidden", "Invalid", "RequestEntityTooLarge"];
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
    let mut keys = Seen::default();
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
        if keys.again(key) {
            errors.duplicate(path.child("key"), key);
        }
    }
}

/// Where in the policy a warning is about, as a JSONPath that may begin with a name: `spec.validations[0].expression`.
fn validate_field_ref(at: &str, path: Path, errors: &mut Errors) {
    let named = at.starts_with(|c: char| c.is_alphanumeric() || c == '_');
    let rooted = if named { format!(".{at}") } else { at.to_string() };
    if at.is_empty() {
        errors.required(path, "");
    } else if let Err(why) = JsonPath::parse(&rooted) {
        errors.invalid(path, at, format!("invalid JSONPath: {why}"));
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

fn validating_policy(obj: &Value, old: Option<&Value>, errors: &mut Errors) {
    let compiler = validate_policy(obj, old, false, errors);
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

impl Strategy for ValidatingAdmissionPolicy {
    fn status_keeps(&self) -> &'static [&'static str] {
        METADATA
    }

    fn defaults(&self, obj: &mut Value) {
        default_policy(obj);
    }

    fn validate_create(&self, obj: &Value, errors: &mut Errors) {
        validating_policy(obj, None, errors);
    }

    fn validate_update(&self, new: &Value, old: &Value, errors: &mut Errors) {
        validating_policy(new, Some(old), errors);
    }

    fn validate_status_update(&self, new: &Value, _old: &Value, errors: &mut Errors) {
        let (status, path) = (field(new, "status"), Path::new("status"));
        let at = path.child("typeChecking.expressionWarnings");
        for (i, w) in list_at(status, &["typeChecking", "expressionWarnings"]).iter().enumerate() {
            if text(w, "warning").is_empty() {
                errors.required(at.index(i).child("warning"), "");
            }
            validate_field_ref(text(w, "fieldRef").trim(), at.index(i).child("fieldRef"), errors);
        }
        conditions::conditions(list(status, "conditions"), &path.child("conditions"), errors);
    }

    fn has_generation(&self) -> bool {
        true
    }

    fn allow_unconditional_update(&self) -> bool {
        false
    }

    fn columns(&self) -> &'static [Column] {
        const COLUMNS: &[Column] = &[
            NAME,
            column("Validations", "integer", 0, "How many validations the policy has."),
            column("ParamKind", "string", 0, "Kind of the objects that the policy takes parameters from."),
            AGE,
        ];
        COLUMNS
    }

    fn row(&self, obj: &Value, now: Now) -> Vec<Value> {
        let count = list_at(obj, &["spec", "validations"]).len();
        vec![columns::name(obj), json!(count), param_kind(obj), columns::age_cell(obj, now)]
    }
}

fn mutating_policy(obj: &Value, old: Option<&Value>, errors: &mut Errors) {
    // Mutations may always be composed of variables.
    let compiler = validate_policy(obj, old, true, errors).with_variables();
    let (spec, path) = (field(obj, "spec"), Path::new("spec"));
    let mutations = list(spec, "mutations");
    if mutations.is_empty() {
        errors.required(path.child("mutations"), "mutations must contain at least one item");
    }
    for (i, m) in mutations.iter().enumerate() {
        let path = path.child("mutations").index(i);
        let kind = text(m, "patchType");
        const KINDS: [(&str, &str, Purpose); 2] = [
            ("ApplyConfiguration", "applyConfiguration", Purpose::ApplyConfiguration),
            ("JSONPatch", "jsonPatch", Purpose::JsonPatch),
        ];
        values::required_one_of(kind, &KINDS.map(|k| k.0), path.child("patchType"), errors);
        let Some(own) = KINDS.iter().position(|k| k.0 == kind) else { continue };
        let ((_, key, purpose), other) = (KINDS[own], KINDS[1 - own].1);
        let at = path.child(key).child("expression");
        match (field(m, key), text_at(m, &[key, "expression"]).trim()) {
            (Value::Null, _) => {
                errors.required(path.child(key), format!("must be specified when patchType is {kind}"));
            }
            (_, "") => errors.required(at, ""),
            (_, e) => validate_expression(&compiler, e, purpose, at, errors),
        }
        if has(m, other) {
            let text = format!("must not be specified when patchType is {kind}");
            errors.invalid(path.child(other), format!("{{{other}}}"), text);
        }
    }
    let supported = ["IfNeeded", "Never"];
    values::required_one_of(text(spec, "reinvocationPolicy"), &supported, path.child("reinvocationPolicy"), errors);
}

impl Strategy for MutatingAdmissionPolicy {
    fn defaults(&self, obj: &mut Value) {
        default_policy(obj);
    }

    fn validate_create(&self, obj: &Value, errors: &mut Errors) {
        mutating_policy(obj, None, errors);
    }

    fn validate_update(&self, new: &Value, old: &Value, errors: &mut Errors) {
        mutating_policy(new, Some(old), errors);
    }

    fn has_generation(&self) -> bool {
        true
    }

    fn allow_unconditional_update(&self) -> bool {
        false
    }

    fn columns(&self) -> &'static [Column] {
        const COLUMNS: &[Column] = &[
            NAME,
            column("Mutations", "integer", 0, "How many mutations the policy has."),
            column("ParamKind", "string", 0, "Kind of the objects that the policy takes parameters from."),
            AGE,
        ];
        COLUMNS
    }

    fn row(&self, obj: &Value, now: Now) -> Vec<Value> {
        let count = list_at(obj, &["spec", "mutations"]).len();
        vec![columns::name(obj), json!(count), param_kind(obj), columns::age_cell(obj, now)]
    }
}

fn validate_binding(obj: &Value, mutating: bool, errors: &mut Errors) {
    let (spec, path) = (field(obj, "spec"), Path::new("spec"));
    match text(spec, "policyName") {
        "" => errors.required(path.child("policyName"), ""),
        name => values::dns_subdomain(name, &path.child("policyName"), errors),
    }
    let param = field(spec, "paramRef");
    if !param.is_null() {
        validate_param_ref(param, &path.child("paramRef"), errors);
    }
    let (resources, at) = (field(spec, "matchResources"), path.child("matchResources"));
    if !resources.is_null() {
        validate_match(resources, &at, errors);
        if mutating {
            validate_mutated_operations(resources, &at, errors);
        }
    }
}

fn validate_param_ref(param: &Value, path: &Path, errors: &mut Errors) {
    const EXCLUSIVE: &str = "name and selector are mutually exclusive";
    let (name, selects) = (text(param, "name"), field(param, "selector"));
    if !name.is_empty() {
        values::path_segment(name, &path.child("name"), errors);
        if !selects.is_null() {
            errors.forbidden(path.child("name"), EXCLUSIVE);
        }
    }
    if !selects.is_null() {
        selector::label_selector(selects, &path.child("selector"), errors);
        if !name.is_empty() {
            errors.forbidden(path.child("selector"), EXCLUSIVE);
        }
    }
    if name.is_empty() && selects.is_null() {
        errors.required(path.clone(), "one of name or selector must be specified");
    }
    let at = path.child("parameterNotFoundAction");
    values::required_one_of(text(param, "parameterNotFoundAction"), &["Deny", "Allow"], at, errors);
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

const BINDING_COLUMNS: &[Column] = &[
    NAME,
    column("PolicyName", "string", 0, "Policy that is bound."),
    column("ParamRef", "string", 0, "Objects that the policy takes parameters from."),
    AGE,
];

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
        validate_binding(obj, false, errors);
        let (actions, path) = (texts(field(obj, "spec"), "validationActions"), Path::new("spec.validationActions"));
        let mut seen = Seen::default();
        for (i, action) in actions.iter().enumerate() {
            values::one_of(action, &["Audit", "Deny", "Warn"], path.index(i), errors);
            if seen.again(*action) {
                errors.duplicate(path.index(i), *action);
            }
        }
        if actions.contains(&"Deny") && actions.contains(&"Warn") {
            errors.invalid(path.clone(), json!(actions), "must not contain both Deny and Warn (repeating the same validation failure information in the API response and headers serves no purpose)");
        }
        if actions.is_empty() {
            errors.required(path, "at least one validation action is required");
        }
    }

    fn validate_update(&self, new: &Value, _old: &Value, errors: &mut Errors) {
        self.validate_create(new, errors);
    }

    fn has_generation(&self) -> bool {
        true
    }

    fn allow_unconditional_update(&self) -> bool {
        false
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
        validate_binding(obj, true, errors);
    }

    fn validate_update(&self, new: &Value, _old: &Value, errors: &mut Errors) {
        validate_binding(new, true, errors);
    }

    fn has_generation(&self) -> bool {
        true
    }

    fn allow_unconditional_update(&self) -> bool {
        false
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
    use super::*;
    use crate::kinds::checks::{check_create, created};
    use expect_test::expect;

    fn webhook(extra: &str) -> String {
        format!(
            r#"{{"apiVersion":"admissionregistration.k8s.io/v1","kind":"MutatingWebhookConfiguration","metadata":{{"name":"w"}},
            "webhooks":[{{"name":"a.example.com","sideEffects":"None","admissionReviewVersions":["v1"],
            "rules":[{{"apiGroups":["*"],"apiVersions":["*"],"operations":["*"],"resources":["pods"]}}]{extra}}}]}}"#
        )
    }

    #[test]
    fn warnings_say_where() {
        for (at, told) in [
            ("spec.validations[0].expression", ""),
            (" .spec['a'] ", ""),
            ("", "status.typeChecking.expressionWarnings[0].fieldRef: Required value"),
            ("  ", "status.typeChecking.expressionWarnings[0].fieldRef: Required value"),
            (
                "spec.validations[",
                "status.typeChecking.expressionWarnings[0].fieldRef: Invalid value: \"spec.validations[\": invalid JSONPath: ",
            ),
        ] {
            let warning = json!({"fieldRef": at, "warning": "w"});
            let policy = json!({"status": {"typeChecking": {"expressionWarnings": [warning]}}});
            let mut errors = Errors::default();
            ValidatingAdmissionPolicy.validate_status_update(&policy, &policy, &mut errors);
            let said = if errors.is_empty() { String::new() } else { errors.joined() };
            assert!(said.starts_with(told) && said.is_empty() == told.is_empty(), "{at}: {said}");
        }
    }

    #[test]
    fn mutating_policies_say_whether_they_run_again() {
        check_create(
            r#"{"apiVersion":"admissionregistration.k8s.io/v1","kind":"MutatingAdmissionPolicy","metadata":{"name":"p"},"spec":{
            "matchConstraints":{"resourceRules":[{"apiGroups":["*"],"apiVersions":["*"],"operations":["*"],"resources":["*"]}]},
            "mutations":[{"patchType":"JSONPatch","jsonPatch":{"expression":"[JSONPatch{op: 'remove', path: '/a'}]"}}]}}"#,
            expect![["spec.reinvocationPolicy: Required value\n"]],
        );
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
                webhooks[0].clientConfig.url: Invalid value: "http": 'https' is the only allowed URL scheme; desired format: https://host[/path]
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
                webhooks[0].sideEffects: Unsupported value: "Some": supported values: "None", "NoneOnDryRun"
                webhooks[0].clientConfig: Required value: exactly one of url or service is required
                webhooks[0].admissionReviewVersions: Invalid value: ["v2"]: must include at least one of v1, v1beta1
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
                spec.variables[0].name: Invalid value: "1x": must be a valid CEL identifier
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
                spec.paramRef.selector: Forbidden: name and selector are mutually exclusive
                spec.paramRef.parameterNotFoundAction: Required value
                spec.validationActions[2]: Duplicate value: "Deny"
                spec.validationActions: Invalid value: ["Deny","Warn","Deny"]: must not contain both Deny and Warn (repeating the same validation failure information in the API response and headers serves no purpose)
            "#]],
        );
    }
}
