//! `metav1.LabelSelector` objects: their rules, whether they match, and how they print.

use super::access::{entries, field, list, text, texts};
use super::values;
use meta::field::{Errors, Path};
use meta::names;
use serde_json::Value;

/// The structure of a selector. Values of labels are checked too, as for every new object.
pub fn label_selector(selector: &Value, path: &Path, errors: &mut Errors) {
    label_selector_with(selector, false, path, errors);
}

/// As [`label_selector`]; `any_value`: values of expressions need not be ones that labels can have.
pub fn label_selector_with(selector: &Value, any_value: bool, path: &Path, errors: &mut Errors) {
    super::labels::labels(field(selector, "matchLabels"), &path.child("matchLabels"), errors);
    for (i, e) in list(selector, "matchExpressions").iter().enumerate() {
        requirement(e, any_value, &path.child("matchExpressions").index(i), errors);
    }
}

fn requirement(e: &Value, any_value: bool, path: &Path, errors: &mut Errors) {
    let values_path = path.child("values");
    let values = texts(e, "values");
    match text(e, "operator") {
        "In" | "NotIn" => {
            if values.is_empty() {
                errors.required(values_path.clone(), "must be specified when `operator` is 'In' or 'NotIn'");
            }
        }
        "Exists" | "DoesNotExist" => {
            if !values.is_empty() {
                errors.forbidden(
                    values_path.clone(),
                    "may not be specified when `operator` is 'Exists' or 'DoesNotExist'",
                );
            }
        }
        other => errors.invalid(path.child("operator"), other, "not a valid selector operator"),
    }
    values::qualified_name(text(e, "key"), &path.child("key"), errors);
    for (i, v) in values.iter().enumerate().filter(|_| !any_value) {
        values::each(errors, &values_path.index(i), v, names::label_value(v));
    }
}

/// Whether a selector can be used at all; upstream gives up on what depends on one that can't.
pub fn is_readable(selector: &Value) -> bool {
    let mut faults = Errors::default();
    label_selector(selector, &Path::root(), &mut faults);
    faults.is_empty()
}

/// An empty selector: neither labels nor expressions.
pub fn is_empty(selector: &Value) -> bool {
    entries(selector, "matchLabels").next().is_none() && list(selector, "matchExpressions").is_empty()
}

/// Whether labels (a map) match. An empty selector matches everything, a null one nothing.
pub fn matches(selector: &Value, labels: &Value) -> bool {
    if !selector.is_object() {
        return false;
    }
    let value = |key: &str| labels.get(key).map(|v| v.as_str().unwrap_or(""));
    entries(selector, "matchLabels").all(|(k, v)| value(k) == Some(v.as_str().unwrap_or("")))
        && list(selector, "matchExpressions").iter().all(|e| {
            let (have, values) = (value(text(e, "key")), texts(e, "values"));
            match text(e, "operator") {
                "In" => have.is_some_and(|h| values.contains(&h)),
                "NotIn" => have.is_none_or(|h| !values.contains(&h)),
                "Exists" => have.is_some(),
                "DoesNotExist" => have.is_none(),
                _ => false,
            }
        })
}

/// As the SELECTOR column shows it: `a=b,c in (d,e),!f`, `<none>` when empty.
pub fn shown(selector: &Value) -> String {
    let mut parts: Vec<(String, String)> = entries(selector, "matchLabels")
        .map(|(k, v)| (k.to_string(), format!("{k}={}", v.as_str().unwrap_or(""))))
        .collect();
    for e in list(selector, "matchExpressions") {
        let key = text(e, "key");
        let mut values = texts(e, "values");
        values.sort_unstable();
        let values = values.join(",");
        parts.push((
            key.to_string(),
            match text(e, "operator") {
                "In" => format!("{key} in ({values})"),
                "NotIn" => format!("{key} notin ({values})"),
                "DoesNotExist" => format!("!{key}"),
                _ => key.to_string(),
            },
        ));
    }
    if parts.is_empty() {
        return "<none>".to_string();
    }
    parts.sort_by(|a, b| a.0.cmp(&b.0));
    parts.into_iter().map(|p| p.1).collect::<Vec<_>>().join(",")
}
