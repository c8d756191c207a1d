//! HorizontalPodAutoscaler (autoscaling/v2; v1 is converted to it).

use super::columns;
use crate::convert;
use crate::strategy::{AGE, Column, NAME, Now, Strategy, column_of};
use crate::validation::access::*;
use crate::validation::podspec::{self, parse_quantity};
use crate::validation::values;
use meta::field::{Errors, Path};
use serde_json::{Value, json};
use std::borrow::Cow;

const V1: &str = "autoscaling/v1";

pub struct HorizontalPodAutoscaler;

impl Strategy for HorizontalPodAutoscaler {
    fn defaults(&self, obj: &mut Value) {
        // v1 has one number instead of the list, and its default comes with the conversion.
        let v1 = text(obj, "apiVersion") == V1;
        if !v1 && let Some(o) = obj.as_object_mut() {
            convert::drop_hpa_annotations(o);
        }
        let Some(spec) = ensure_object(obj, "spec") else {
            return;
        };
        fill(spec, "minReplicas", 1);
        if !v1 && list(spec, "metrics").is_empty() {
            let target = json!({"type": "Utilization", "averageUtilization": 80});
            set(spec, "metrics", json!([{"type": "Resource", "resource": {"name": "cpu", "target": target}}]));
        }
        if let Some(behavior) = object_mut(spec, "behavior") {
            behavior_defaults(behavior);
        }
    }

    fn validate_create(&self, obj: &Value, errors: &mut Errors) {
        validate(field(&as_v2(obj), "spec"), &Value::Null, errors);
    }

    fn validate_update(&self, new: &Value, old: &Value, errors: &mut Errors) {
        validate(field(&as_v2(new), "spec"), field(&as_v2(old), "spec"), errors);
    }

    fn validate_status_update(&self, new: &Value, _old: &Value, errors: &mut Errors) {
        let p = Path::new("status");
        for key in ["currentReplicas", "desiredReplicas"] {
            values::non_negative(at(new, &["status", key]), p.child(key), errors);
        }
    }

    fn columns(&self) -> &'static [Column] {
        const COLUMNS: &[Column] = &[
            NAME,
            column_of("Reference", "string", 0, "api.autoscaling.v2.HorizontalPodAutoscalerSpec.scaleTargetRef"),
            column_of("Targets", "string", 0, "api.autoscaling.v2.HorizontalPodAutoscalerSpec.metrics"),
            column_of("MinPods", "string", 0, "api.autoscaling.v2.HorizontalPodAutoscalerSpec.minReplicas"),
            column_of("MaxPods", "string", 0, "api.autoscaling.v2.HorizontalPodAutoscalerSpec.maxReplicas"),
            column_of("Replicas", "string", 0, "api.autoscaling.v2.HorizontalPodAutoscalerStatus.currentReplicas"),
            AGE,
        ];
        COLUMNS
    }

    fn row(&self, obj: &Value, now: Now) -> Vec<Value> {
        let obj = &*as_v2(obj);
        let (spec, status) = (field(obj, "spec"), field(obj, "status"));
        let target = field(spec, "scaleTargetRef");
        vec![
            columns::name(obj),
            json!(format!("{}/{}", text(target, "kind"), text(target, "name"))),
            json!(targets(spec, status)),
            match int(spec, "minReplicas") {
                Some(n) => json!(n.to_string()),
                None => json!("<unset>"),
            },
            columns::number(spec, "maxReplicas"),
            columns::number(status, "currentReplicas"),
            columns::age_cell(obj, now),
        ]
    }
}

/// Rules for both directions, as soon as there are any.
pub fn behavior_defaults(behavior: &mut Value) {
    let percent = json!({"type": "Percent", "value": 100, "periodSeconds": 15});
    if let Some(up) = ensure_object(behavior, "scaleUp") {
        fill(up, "stabilizationWindowSeconds", 0);
        fill(up, "selectPolicy", "Max");
        fill(up, "policies", json!([{"type": "Pods", "value": 4, "periodSeconds": 15}, percent.clone()]));
    }
    if let Some(down) = ensure_object(behavior, "scaleDown") {
        fill(down, "selectPolicy", "Max");
        fill(down, "policies", json!([percent]));
    }
}

/// Rules are those of v2, whichever version an object comes in.
fn as_v2(obj: &Value) -> Cow<'_, Value> {
    if text(obj, "apiVersion") != V1 {
        return Cow::Borrowed(obj);
    }
    let mut new = obj.clone();
    if let Some(o) = new.as_object_mut() {
        convert::hpa_v1_to_v2(o);
    }
    Cow::Owned(new)
}

/// One metric source and what it is to be held at.
const SOURCES: [(&str, &str); 5] = [
    ("Object", "object"),
    ("External", "external"),
    ("Pods", "pods"),
    ("Resource", "resource"),
    ("ContainerResource", "containerResource"),
];

/// `old`: the older version's spec, or null: what was allowed once of references may stay.
fn validate(spec: &Value, old: &Value, errors: &mut Errors) {
    let path = Path::new("spec");
    let (min, max) = (int(spec, "minReplicas"), int(spec, "maxReplicas").unwrap_or(0));
    let lowest = if int(old, "minReplicas") == Some(0) { 0 } else { 1 };
    if let Some(n) = min.filter(|n| *n < lowest) {
        let text = format!("must be greater than or equal to {lowest}");
        errors.invalid(path.child("minReplicas"), n, text);
    }
    if max < 1 {
        errors.invalid(path.child("maxReplicas"), max, "must be greater than 0");
    }
    if min.is_some_and(|min| max < min) {
        errors.invalid(path.child("maxReplicas"), max, "must be greater than or equal to `minReplicas`");
    }
    let (target, was) = (field(spec, "scaleTargetRef"), field(old, "scaleTargetRef"));
    let kept = !old.is_null() && ["apiVersion", "kind"].iter().all(|k| text(target, k) == text(was, k));
    // The only kind of the core group that can be scaled.
    let core = text(target, "kind") == "ReplicationController";
    reference(target, kept, core, &path.child("scaleTargetRef"), errors);
    let described = |m: &Value| at(m, &["object", "describedObject"]).clone();
    let metrics_odd = list(old, "metrics")
        .iter()
        .any(|m| text(m, "type") == "Object" && version_fault(&described(m), true).is_some());
    let p = path.child("metrics");
    for (i, m) in list(spec, "metrics").iter().enumerate() {
        metric_spec(m, metrics_odd, &p.index(i), errors);
    }
    let outside = list(spec, "metrics").iter().any(|m| ["Object", "External"].contains(&text(m, "type")));
    if min == Some(0) && !outside {
        let text = "must specify at least one Object or External metric to support scaling to zero replicas";
        errors.forbidden(p, text);
    }
    for key in ["scaleUp", "scaleDown"] {
        if has(field(spec, "behavior"), key) {
            scaling_rules(at(spec, &["behavior", key]), &path.child("behavior").child(key), errors);
        }
    }
}

fn version_fault(r: &Value, may_lack_group: bool) -> Option<String> {
    let version = text(r, "apiVersion");
    match version.split('/').count() {
        1 if may_lack_group => None,
        1 => Some("apiVersion must specify API group".to_string()),
        2 if may_lack_group || !version.starts_with('/') => None,
        2 => Some("apiVersion must specify API group".to_string()),
        _ => Some(format!("unexpected GroupVersion string: {version}")),
    }
}

fn reference(r: &Value, any_version: bool, may_lack_group: bool, p: &Path, errors: &mut Errors) {
    for key in ["kind", "name"] {
        match text(r, key) {
            "" => errors.required(p.child(key), ""),
            v => values::path_segment(v, &p.child(key), errors),
        }
    }
    if let Some(fault) = version_fault(r, may_lack_group).filter(|_| !any_version) {
        errors.invalid(p.child("apiVersion"), text(r, "apiVersion"), fault);
    }
}

fn metric_spec(m: &Value, any_version: bool, p: &Path, errors: &mut Errors) {
    const KINDS: [&str; 5] = ["ContainerResource", "External", "Object", "Pods", "Resource"];
    const POPULATE: &str = "must populate information for the given metric source";
    let kind = text(m, "type");
    if kind.is_empty() {
        errors.required(p.child("type"), "must specify a metric source type");
    }
    values::one_of(kind, &KINDS, p.child("type"), errors);
    let present: Vec<(&str, &str)> = SOURCES.into_iter().filter(|s| has(m, s.1)).collect();
    if let Some((source, key)) = present.first() {
        metric(source, field(m, key), any_version, &p.child(key), errors);
    }
    let expected = SOURCES.iter().find(|s| s.0 == kind).map(|s| s.1);
    match expected {
        Some(key) if !has(m, key) => errors.required(p.child(key), POPULATE),
        Some(_) => {}
        None => values::one_of(kind, &KINDS, p.child("type"), errors),
    }
    if present.len() != 1 {
        for (_, key) in present.iter().filter(|s| Some(s.1) != expected) {
            errors.forbidden(p.child(key), "must populate the given metric source only");
        }
    }
}

fn scaling_rules(rules: &Value, p: &Path, errors: &mut Errors) {
    if let Some(n) = int(rules, "stabilizationWindowSeconds") {
        let p = p.child("stabilizationWindowSeconds");
        if n < 0 {
            errors.invalid(p, n, "must be greater than or equal to zero");
        } else if n > 3600 {
            errors.invalid(p, n, "must be less than or equal to 3600");
        }
    }
    if has(rules, "selectPolicy") {
        values::one_of(text(rules, "selectPolicy"), &["Disabled", "Max", "Min"], p.child("selectPolicy"), errors);
    }
    if list(rules, "policies").is_empty() {
        errors.required(p.child("policies"), "must specify at least one Policy");
    }
    for (i, policy) in list(rules, "policies").iter().enumerate() {
        let p = p.child("policies").index(i);
        values::one_of(text(policy, "type"), &["Percent", "Pods"], p.child("type"), errors);
        for (key, max) in [("value", i64::MAX), ("periodSeconds", 1800)] {
            let n = int(policy, key).unwrap_or(0);
            if n <= 0 {
                errors.invalid(p.child(key), n, "must be greater than zero");
            } else if n > max {
                errors.invalid(p.child(key), n, format!("must be less than or equal to {max}"));
            }
        }
    }
    if let Some(q) = parse_quantity(field(rules, "tolerance")).filter(|q| q.sign() < 0) {
        errors.invalid(p.child("tolerance"), q.canonical(), values::NEGATIVE);
    }
}

fn metric(kind: &str, source: &Value, any_version: bool, path: &Path, errors: &mut Errors) {
    let (target, at) = (field(source, "target"), path.child("target"));
    let positive = |key: &str, text: &str, errors: &mut Errors| {
        let v = field(target, key);
        if !v.is_null() && parse_quantity(v).is_none_or(|q| q.sign() <= 0) {
            errors.invalid(at.child(key), v.clone(), text);
        }
    };
    match kind {
        "Resource" | "ContainerResource" => {
            let (name, p) = (text(source, "name"), path.child("name"));
            if name.is_empty() {
                errors.required(p, "must specify a resource name");
            } else if kind == "ContainerResource" {
                podspec::container_resource_name(name, &p, errors);
            }
            if kind == "ContainerResource" {
                match text(source, "container") {
                    "" => errors.required(path.child("container"), "must specify a container"),
                    name => values::dns_label(name, &path.child("container"), errors),
                }
            }
        }
        _ => {
            if kind == "Object" {
                let described = field(source, "describedObject");
                reference(described, any_version, true, &path.child("describedObject"), errors);
            }
            match text_at(source, &["metric", "name"]) {
                "" => errors.required(path.child("metric.name"), "must specify a metric name"),
                name => values::path_segment(name, &path.child("metric.name"), errors),
            }
        }
    }
    match text(target, "type") {
        "Utilization" | "Value" | "AverageValue" => {}
        other => {
            if other.is_empty() {
                errors.required(at.child("type"), "must specify a metric target type");
            }
            errors.invalid(at.child("type"), other, "must be either Utilization, Value, or AverageValue");
        }
    }
    positive("value", "must be positive", errors);
    positive("averageValue", "must be positive", errors);
    if let Some(n) = int(target, "averageUtilization").filter(|n| *n < 1) {
        errors.invalid(at.child("averageUtilization"), n, "must be greater than 0");
    }
    let (value, average, share) =
        (has(target, "value"), has(target, "averageValue"), has(target, "averageUtilization"));
    match kind {
        "Resource" | "ContainerResource" => {
            if share && average {
                let text = "may not set both a target raw value and a target utilization";
                errors.forbidden(at.child("averageValue"), text);
            } else if !share && !average {
                let text = "must set either a target raw value or a target utilization";
                errors.required(at.child("averageUtilization"), text);
            }
        }
        "Pods" => {
            if !average {
                errors.required(at.child("averageValue"), "must specify a positive target averageValue");
            }
        }
        "External" => {
            if value && average {
                let text = "may not set both a target value for metric and a per-pod target";
                errors.forbidden(at.child("value"), text);
            } else if !value && !average {
                let text = "must set either a target value for metric or a per-pod target";
                errors.required(at.child("averageValue"), text);
            }
        }
        _ => {
            if !value && !average {
                let text = "must set either a target value or averageValue";
                errors.required(at.child("averageValue"), text);
            }
        }
    }
}

fn targets(spec: &Value, status: &Value) -> String {
    let metrics = list(spec, "metrics");
    let shown: Vec<String> = metrics
        .iter()
        .enumerate()
        .map(|(i, m)| {
            let kind = text(m, "type");
            let key = match kind {
                "ContainerResource" => "containerResource",
                "External" => "external",
                "Object" => "object",
                "Pods" => "pods",
                _ => "resource",
            };
            let target = at(m, &[key, "target"]);
            let current = list(status, "currentMetrics").get(i).map_or(&Value::Null, |c| at(c, &[key, "current"]));
            let value = |v: &Value, key: &str| match field(v, key) {
                Value::Null => None,
                Value::String(s) => Some(s.clone()),
                n if key == "averageUtilization" => Some(format!("{n}%")),
                n => Some(n.to_string()),
            };
            let mode =
                ["averageUtilization", "averageValue", "value"].into_iter().find(|k| has(target, k)).unwrap_or("value");
            let prefix = match kind {
                "Resource" | "ContainerResource" => format!("{}: ", text(field(m, key), "name")),
                _ => String::new(),
            };
            let average = if mode == "averageValue" && !["Resource", "ContainerResource", "Pods"].contains(&kind) {
                " (avg)"
            } else {
                ""
            };
            format!(
                "{prefix}{}/{}{average}",
                value(current, mode).unwrap_or_else(|| "<unknown>".to_string()),
                value(target, mode).unwrap_or_else(|| "<auto>".to_string()),
            )
        })
        .collect();
    match shown.len() {
        0 => "<none>".to_string(),
        n if n > 2 => format!("{} + {} more...", shown[..2].join(", "), n - 2),
        _ => shown.join(", "),
    }
}
