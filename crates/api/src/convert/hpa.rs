//! What `autoscaling/v1` keeps in annotations, in the form that upstream has there: metrics and their values as fields of
//! a source rather than a target (`targetAverageValue`), the behavior with Go's names of the internal type.

use serde_json::{Map, Value, json};

/// Of the processor's share, where an autoscaler says nothing at all.
pub const PERCENT_DEFAULT: i64 = 80;

const SOURCES: [(&str, &str); 5] = [
    ("ContainerResource", "containerResource"),
    ("External", "external"),
    ("Object", "object"),
    ("Pods", "pods"),
    ("Resource", "resource"),
];

pub fn processor(percent: Value) -> Value {
    let target = json!({"type": "Utilization", "averageUtilization": percent});
    json!({"type": "Resource", "resource": {"name": "cpu", "target": target}})
}

/// The metric that v1 has a number for.
pub fn is_processor(metric: &Value) -> bool {
    metric["type"] == "Resource" && metric["resource"]["name"] == "cpu"
}

pub fn utilization(metric: &Value) -> &Value {
    &metric["resource"]["target"]["averageUtilization"]
}

/// An annotation's list, each item in its new form.
pub fn list(annotation: Option<Value>, convert: fn(&Value) -> Value) -> Vec<Value> {
    match annotation {
        Some(Value::Array(items)) => items.iter().map(convert).collect(),
        _ => Vec::new(),
    }
}

/// Every source that is there, by `each`, which is told the source's kind.
fn sources(metric: &Value, each: impl Fn(&str, &Value) -> Value) -> Value {
    let mut out = json!({"type": metric["type"]});
    for (kind, key) in SOURCES {
        if let Some(source) = metric.get(key).filter(|s| s.is_object()) {
            out[key] = each(kind, source);
        }
    }
    out
}

/// Copies fields that are there, under other names.
fn copy(to: &mut Value, from: &Value, names: &[(&str, &str)]) {
    for (old, new) in names {
        if let Some(v) = from.get(*old).filter(|v| !v.is_null()) {
            to[*new] = v.clone();
        }
    }
}

fn metric_to_v1(out: &mut Value, kind: &str, source: &Value) {
    let selector = if kind == "External" { "metricSelector" } else { "selector" };
    copy(out, &source["metric"], &[("name", "metricName"), ("selector", selector)]);
    copy(out, source, &[("name", "name"), ("container", "container"), ("describedObject", "target")]);
}

fn metric_from_v1(out: &mut Value, kind: &str, source: &Value) {
    match kind {
        "Resource" | "ContainerResource" => copy(out, source, &[("name", "name"), ("container", "container")]),
        _ => {
            out["metric"] = json!({"name": source["metricName"].as_str().unwrap_or_default()});
            let selector = if kind == "External" { "metricSelector" } else { "selector" };
            copy(&mut out["metric"], source, &[(selector, "selector")]);
            if kind == "Object" {
                copy(out, source, &[("target", "describedObject")]);
            }
        }
    }
}

pub fn spec_to_v1(metric: &Value) -> Value {
    sources(metric, |kind, source| {
        let (mut out, target) = (json!({}), &source["target"]);
        metric_to_v1(&mut out, kind, source);
        let names: &[(&str, &str)] = match kind {
            "Object" => &[("value", "targetValue"), ("averageValue", "averageValue")],
            "Pods" => &[("averageValue", "targetAverageValue")],
            "External" => &[("value", "targetValue"), ("averageValue", "targetAverageValue")],
            _ => &[("averageUtilization", "targetAverageUtilization"), ("averageValue", "targetAverageValue")],
        };
        copy(&mut out, target, names);
        // Quantities that v1 can't leave out.
        for (of, field) in [("Object", "targetValue"), ("Pods", "targetAverageValue")] {
            if kind == of && out[field].is_null() {
                out[field] = "0".into();
            }
        }
        out
    })
}

pub fn spec_from_v1(metric: &Value) -> Value {
    sources(metric, |kind, source| {
        let (mut out, mut target) = (json!({}), json!({}));
        metric_from_v1(&mut out, kind, source);
        let has = |field: &str| source.get(field).is_some_and(|v| !v.is_null());
        let (sort, names): (&str, &[(&str, &str)]) = match kind {
            // A value of zero stands for none.
            "Object" if has("averageValue") && source["targetValue"] == "0" => {
                ("AverageValue", &[("averageValue", "averageValue")])
            }
            "Object" => (
                if has("averageValue") { "AverageValue" } else { "Value" },
                &[("targetValue", "value"), ("averageValue", "averageValue")],
            ),
            "Pods" => ("AverageValue", &[("targetAverageValue", "averageValue")]),
            "External" => (
                if has("targetValue") { "Value" } else { "AverageValue" },
                &[("targetValue", "value"), ("targetAverageValue", "averageValue")],
            ),
            _ => (
                if has("targetAverageUtilization") { "Utilization" } else { "AverageValue" },
                &[("targetAverageUtilization", "averageUtilization"), ("targetAverageValue", "averageValue")],
            ),
        };
        target["type"] = sort.into();
        copy(&mut target, source, names);
        out["target"] = target;
        out
    })
}

/// The names of a status' values, in v2 and in v1.
fn current(kind: &str) -> &'static [(&'static str, &'static str)] {
    match kind {
        "Object" => &[("value", "currentValue"), ("averageValue", "averageValue")],
        "Pods" => &[("averageValue", "currentAverageValue")],
        "External" => &[("value", "currentValue"), ("averageValue", "currentAverageValue")],
        _ => &[("averageUtilization", "currentAverageUtilization"), ("averageValue", "currentAverageValue")],
    }
}

pub fn status_to_v1(metric: &Value) -> Value {
    sources(metric, |kind, source| {
        let mut out = json!({});
        metric_to_v1(&mut out, kind, source);
        copy(&mut out, &source["current"], current(kind));
        // Quantities that v1 can't leave out.
        let field = if matches!(kind, "Object" | "External") { "currentValue" } else { "currentAverageValue" };
        if out[field].is_null() {
            out[field] = "0".into();
        }
        out
    })
}

pub fn status_from_v1(metric: &Value) -> Value {
    sources(metric, |kind, source| {
        let (mut out, mut values) = (json!({}), json!({}));
        metric_from_v1(&mut out, kind, source);
        let names: Vec<(&str, &str)> = current(kind).iter().map(|(new, old)| (*old, *new)).collect();
        copy(&mut values, source, &names);
        out["current"] = values;
        out
    })
}

const RULES: [&str; 2] = ["scaleUp", "scaleDown"];
const RULE_FIELDS: [&str; 4] = ["stabilizationWindowSeconds", "selectPolicy", "policies", "tolerance"];
const POLICY_FIELDS: [&str; 3] = ["type", "value", "periodSeconds"];

/// `scaleUp` as Go names a field.
fn exported(name: &str) -> String {
    let mut chars = name.chars();
    chars.next().map(|c| c.to_ascii_uppercase()).into_iter().chain(chars).collect()
}

/// All fields, those that aren't set as null.
fn fields_to_v1(from: &Value, fields: &[&str]) -> Value {
    Value::Object(fields.iter().map(|f| (exported(f), from[*f].clone())).collect())
}

pub fn behavior_to_v1(behavior: &Value) -> Value {
    let mut out = fields_to_v1(behavior, &RULES);
    for rules in RULES.map(|r| exported(r)) {
        if !out[&rules].is_object() {
            continue;
        }
        let mut shown = fields_to_v1(&out[&rules], &RULE_FIELDS);
        if let Value::Array(policies) = &mut shown["Policies"] {
            policies.iter_mut().for_each(|p| *p = fields_to_v1(p, &POLICY_FIELDS));
        }
        out[&rules] = shown;
    }
    out
}

/// Known fields however they are capitalized, without nulls.
fn fields_from_v1(from: &Value, fields: &[&str]) -> Map<String, Value> {
    let given = from.as_object().into_iter().flatten();
    given
        .filter(|(_, v)| !v.is_null())
        .filter_map(|(k, v)| Some((fields.iter().find(|f| f.eq_ignore_ascii_case(k))?.to_string(), v.clone())))
        .collect()
}

/// None where neither direction has rules.
pub fn behavior_from_v1(annotation: &Value) -> Option<Value> {
    let mut out = fields_from_v1(annotation, &RULES);
    for rules in out.values_mut() {
        let mut fields = fields_from_v1(rules, &RULE_FIELDS);
        if let Some(Value::Array(policies)) = fields.get_mut("policies") {
            policies.iter_mut().for_each(|p| *p = Value::Object(fields_from_v1(p, &POLICY_FIELDS)));
        }
        *rules = Value::Object(fields);
    }
    (!out.is_empty()).then_some(Value::Object(out))
}
