//! HorizontalPodAutoscaler (autoscaling/v2; v1 is converted to it).

use super::columns;
use crate::strategy::{Column, NAME, Now, Strategy, column};
use crate::validation::access::*;
use crate::validation::podspec::parse_quantity;
use crate::validation::values;
use meta::field::{Errors, Path};
use serde_json::{Value, json};

pub struct HorizontalPodAutoscaler;

impl Strategy for HorizontalPodAutoscaler {
    fn defaults(&self, obj: &mut Value) {
        // v1 has one number instead of the list, and no default for it.
        let v1 = text(obj, "apiVersion") == "autoscaling/v1";
        let Some(spec) = ensure_object(obj, "spec") else {
            return;
        };
        fill(spec, "minReplicas", 1);
        if !v1 && list(spec, "metrics").is_empty() {
            let target = json!({"type": "Utilization", "averageUtilization": 80});
            set(spec, "metrics", json!([{"type": "Resource", "resource": {"name": "cpu", "target": target}}]));
        }
        let Some(behavior) = object_mut(spec, "behavior") else {
            return;
        };
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

    fn validate_create(&self, obj: &Value, errors: &mut Errors) {
        let (spec, path) = (field(obj, "spec"), Path::new("spec"));
        let (min, max) = (int(spec, "minReplicas").unwrap_or(1), int(spec, "maxReplicas").unwrap_or(0));
        if min < 1 {
            errors.invalid(path.child("minReplicas"), min, "must be greater than or equal to 1");
        }
        if max < 1 {
            errors.invalid(path.child("maxReplicas"), max, "must be greater than 0");
        }
        if has(spec, "minReplicas") && max < min {
            errors.invalid(path.child("maxReplicas"), max, "must be greater than or equal to `minReplicas`");
        }
        let target = field(spec, "scaleTargetRef");
        let p = path.child("scaleTargetRef");
        for key in ["kind", "name"] {
            match text(target, key) {
                "" => errors.required(p.child(key), ""),
                v => values::path_segment(v, &p.child(key), errors),
            }
        }
        let kinds = ["ContainerResource", "External", "Object", "Pods", "Resource"];
        for (i, m) in list(spec, "metrics").iter().enumerate() {
            let p = path.child("metrics").index(i);
            let kind = text(m, "type");
            if kind.is_empty() {
                errors.required(p.child("type"), "must specify a metric source type");
                continue;
            }
            values::one_of(kind, &kinds, p.child("type"), errors);
            if let Some(first) = kind.get(..1)
                && kinds.contains(&kind)
            {
                let key = format!("{}{}", first.to_lowercase(), &kind[1..]);
                if has(m, &key) {
                    metric(kind, field(m, &key), &p.child(&key), errors);
                } else {
                    let text = "must populate information for the given metric source";
                    errors.required(p.child(&key), text);
                }
                for other in ["containerResource", "external", "object", "pods", "resource"] {
                    if other != key && has(m, other) {
                        let text = "must populate the given metric source only";
                        errors.forbidden(p.child(other), text);
                    }
                }
            }
        }
        for key in ["scaleUp", "scaleDown"] {
            let rules = at(spec, &["behavior", key]);
            if rules.is_null() {
                continue;
            }
            let p = path.child("behavior").child(key);
            if let Some(n) = int(rules, "stabilizationWindowSeconds") {
                let p = p.child("stabilizationWindowSeconds");
                if n < 0 {
                    errors.invalid(p, n, "must be greater than or equal to zero");
                } else if n > 3600 {
                    errors.invalid(p, n, "must be less than or equal to 3600");
                }
            }
            values::one_of(text(rules, "selectPolicy"), &["Disabled", "Max", "Min"], p.child("selectPolicy"), errors);
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
        }
    }

    fn validate_update(&self, new: &Value, _old: &Value, errors: &mut Errors) {
        self.validate_create(new, errors);
    }

    fn columns(&self) -> &'static [Column] {
        const COLUMNS: &[Column] = &[
            NAME,
            column("Reference", "string", 0),
            column("Targets", "string", 0),
            column("MinPods", "string", 0),
            column("MaxPods", "string", 0),
            column("Replicas", "string", 0),
            column("Age", "string", 0),
        ];
        COLUMNS
    }

    fn row(&self, obj: &Value, now: Now) -> Vec<Value> {
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

/// One metric source and what it is to be held at.
fn metric(kind: &str, source: &Value, path: &Path, errors: &mut Errors) {
    let (target, at) = (field(source, "target"), path.child("target"));
    let positive = |key: &str, text: &str, errors: &mut Errors| {
        let v = field(target, key);
        if !v.is_null() && parse_quantity(v).is_none_or(|q| q.sign() <= 0) {
            errors.invalid(at.child(key), v.clone(), text);
        }
    };
    match kind {
        "Resource" | "ContainerResource" => {
            if text(source, "name").is_empty() {
                errors.required(path.child("name"), "must specify a resource name");
            }
            if kind == "ContainerResource" && text(source, "container").is_empty() {
                errors.required(path.child("container"), "must specify a container");
            }
        }
        _ => {
            if text_at(source, &["metric", "name"]).is_empty() {
                errors.required(path.child("metric.name"), "must specify a metric name");
            }
        }
    }
    if kind == "Object" {
        for key in ["kind", "name"] {
            match text_at(source, &["describedObject", key]) {
                "" => errors.required(path.child("describedObject").child(key), ""),
                v => values::path_segment(v, &path.child("describedObject").child(key), errors),
            }
        }
    }
    match text(target, "type") {
        "" => errors.required(at.child("type"), "must specify a metric target type"),
        "Utilization" | "Value" | "AverageValue" => {}
        other => errors.invalid(at.child("type"), other, "must be either Utilization, Value, or AverageValue"),
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
