//! Lists of `metav1.Condition` (upstream: `metav1validation.ValidateConditions`).

use super::access::{int, list, list_at, text};
use super::seen::Seen;
use super::values;
use meta::field::{Errors, Path};
use meta::names;
use serde_json::Value;
use std::collections::HashMap;

const REASON_BYTES_MAX: usize = 1024;
const MESSAGE_BYTES_MAX: usize = 32 * 1024;

pub fn conditions(all: &[Value], path: &Path, errors: &mut Errors) {
    let mut seen = Seen::default();
    for (i, c) in all.iter().enumerate() {
        let (path, kind) = (path.index(i), text(c, "type"));
        if seen.again(kind) {
            errors.duplicate(path.child("type"), kind);
        }
        condition(c, &path, errors);
    }
}

fn condition(c: &Value, path: &Path, errors: &mut Errors) {
    values::qualified_name(text(c, "type"), &path.child("type"), errors);
    let status = text(c, "status");
    if !["False", "True", "Unknown"].contains(&status) {
        errors.not_supported(path.child("status"), status, &["False", "True", "Unknown"]);
    }
    if let Some(generation) = int(c, "observedGeneration").filter(|g| *g < 0) {
        errors.invalid(path.child("observedGeneration"), generation, "must be greater than or equal to zero");
    }
    if text(c, "lastTransitionTime").is_empty() {
        errors.required(path.child("lastTransitionTime"), "must be set");
    }
    let reason = text(c, "reason");
    if reason.is_empty() {
        errors.required(path.child("reason"), "must be set");
    } else {
        values::each(errors, &path.child("reason"), reason, names::condition_reason(reason));
        if reason.len() > REASON_BYTES_MAX {
            errors.too_long(path.child("reason"), REASON_BYTES_MAX);
        }
    }
    if text(c, "message").len() > MESSAGE_BYTES_MAX {
        errors.too_long(path.child("message"), MESSAGE_BYTES_MAX);
    }
}

/// The condition of this type in an object's status.
pub fn find<'a>(obj: &'a Value, kind: &str) -> Option<&'a Value> {
    list_at(obj, &["status", "conditions"]).iter().find(|c| text(c, "type") == kind)
}

/// `True`, `False` or `Unknown`, by the conditions' types; of several with one type the first counts.
pub fn states(status: &Value) -> HashMap<&str, &str> {
    let mut states = HashMap::new();
    for c in list(status, "conditions") {
        states.entry(text(c, "type")).or_insert(text(c, "status"));
    }
    states
}

/// Whether the object's status has the condition, and it is `True`.
pub fn is_true(obj: &Value, kind: &str) -> bool {
    find(obj, kind).is_some_and(|c| text(c, "status") == "True")
}

#[cfg(test)]
mod tests {
    use super::*;
    use expect_test::expect;
    use serde_json::json;

    #[test]
    fn each_fault_of_a_condition_is_named() {
        let good =
            json!({"type": "Ready", "status": "True", "reason": "Ok", "lastTransitionTime": "2026-01-01T00:00:00Z"});
        let all = [
            good.clone(),
            json!({"type": "Ready", "status": "yes", "reason": "not ok", "observedGeneration": -1}),
            json!({"type": "a b", "status": "False", "reason": "x".repeat(1025), "message": "y".repeat(32769), "lastTransitionTime": "2026-01-01T00:00:00Z"}),
        ];
        let mut errors = Errors::default();
        conditions(&all, &Path::new("c"), &mut errors);
        let said: String = errors.0.iter().map(|e| format!("{e}\n")).collect();
        expect![[r#"
            c[1].type: Duplicate value: "Ready"
            c[1].status: Unsupported value: "yes": supported values: "False", "True", "Unknown"
            c[1].observedGeneration: Invalid value: -1: must be greater than or equal to zero
            c[1].lastTransitionTime: Required value: must be set
            c[1].reason: Invalid value: "not ok": a condition reason must start with alphabetic character, optionally followed by a string of alphanumeric characters or '_,:', and must end with an alphanumeric character or '_' (e.g. 'my_name',  or 'MY_NAME',  or 'MyName',  or 'ReasonA,ReasonB',  or 'ReasonA:ReasonB', regex used for validation is '[A-Za-z]([A-Za-z0-9_,:]*[A-Za-z0-9_])?')
            c[2].type: Invalid value: "a b": name part must consist of alphanumeric characters, '-', '_' or '.', and must start and end with an alphanumeric character (e.g. 'MyName',  or 'my.name',  or '123-abc', regex used for validation is '([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9]')
            c[2].reason: Too long: may not be more than 1024 bytes
            c[2].message: Too long: may not be more than 32768 bytes
        "#]]
        .assert_eq(&said);
        let obj = json!({"status": {"conditions": [good]}});
        assert!(is_true(&obj, "Ready") && !is_true(&obj, "Other"));
    }
}
