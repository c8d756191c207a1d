//! Between versions of a kind that share one storage: `autoscaling/v1` and `v2`, core and `events.k8s.io` Events, the
//! `certificates.k8s.io` and `storagemigration.k8s.io` betas and what they became.
//!
//! Both ways lose nothing: what one version can't say travels in annotations.

use crate::catalogue::Resource;
use serde_json::{Map, Value, json};

const METRICS: &str = "autoscaling.alpha.kubernetes.io/metrics";
const CURRENT_METRICS: &str = "autoscaling.alpha.kubernetes.io/current-metrics";
const CONDITIONS: &str = "autoscaling.alpha.kubernetes.io/conditions";
const BEHAVIOR: &str = "autoscaling.alpha.kubernetes.io/behavior";

/// The same object as another version. Lists convert item by item. Versions of equal shape only change their
/// `apiVersion`.
pub fn to(object: &Value, from: &Resource, to: &Resource) -> Value {
    let mut out = object.clone();
    if from.group == to.group && from.version == to.version {
        return out;
    }
    let convert: fn(&mut Map<String, Value>) =
        match (&*from.kind, &*from.group, &*from.version, &*to.group, &*to.version) {
            ("Event", "", _, "events.k8s.io", _) => |o| {
                rename(o, EVENT, false);
                // Core writes these also where they are empty, the other version doesn't.
                o.retain(|k, v| !(EVENT_REPORTER.iter().any(|(_, new)| k == new) && *v == ""));
            },
            ("Event", "events.k8s.io", _, "", _) => |o| {
                rename(o, EVENT, true);
                for (core, _) in EVENT_REPORTER {
                    o.entry(*core).or_insert_with(|| "".into());
                }
            },
            ("HorizontalPodAutoscaler", "autoscaling", "v1", "autoscaling", "v2") => hpa_v1_to_v2,
            ("HorizontalPodAutoscaler", "autoscaling", "v2", "autoscaling", "v1") => hpa_v2_to_v1,
            ("PodCertificateRequest", _, "v1beta1", _, "v1") => |o| {
                for (field, name) in BARE_KEYS {
                    if let Some(Value::String(key)) = take(o, "spec", field)
                        && !key.is_empty()
                        && let Some(all) = annotations(o)
                    {
                        all.insert(name.to_string(), key.into());
                    }
                }
            },
            ("PodCertificateRequest", _, "v1", _, "v1beta1") => |o| {
                for (field, name) in BARE_KEYS {
                    if let Some(key) = remove_annotation(o, name) {
                        put(o, "spec", field, key);
                    }
                }
            },
            _ => |_| {},
        };
    let Value::Object(o) = &mut out else {
        return out;
    };
    o.insert("apiVersion".to_string(), to.api_version().into());
    match o.get_mut("items") {
        Some(Value::Array(items)) if object["kind"] == from.list_kind.as_str() => {
            for item in items.iter_mut().filter_map(Value::as_object_mut) {
                if item.contains_key("apiVersion") {
                    item.insert("apiVersion".to_string(), to.api_version().into());
                }
                convert(item);
            }
        }
        _ => convert(o),
    }
    out
}

/// Fields of Events: core's name and the name in `events.k8s.io`.
const EVENT: &[(&str, &str)] = &[
    ("involvedObject", "regarding"),
    ("message", "note"),
    ("reportingComponent", "reportingController"),
    ("source", "deprecatedSource"),
    ("count", "deprecatedCount"),
    ("firstTimestamp", "deprecatedFirstTimestamp"),
    ("lastTimestamp", "deprecatedLastTimestamp"),
];

/// How a PodCertificateRequest of the beta may bring a key, where v1 knows only PKCS #10 requests.
pub const BARE_KEYS: [(&str, &str); 2] = [
    ("pkixPublicKey", "certificates.k8s.io/initial-pkix-public-key"),
    ("proofOfPossession", "certificates.k8s.io/initial-proof-of-possession"),
];

const EVENT_REPORTER: &[(&str, &str)] =
    &[("reportingComponent", "reportingController"), ("reportingInstance", "reportingInstance")];

fn rename(o: &mut Map<String, Value>, names: &[(&str, &str)], backwards: bool) {
    for (a, b) in names {
        let (old, new) = if backwards { (b, a) } else { (a, b) };
        if let Some(v) = o.remove(*old) {
            o.insert(new.to_string(), v);
        }
    }
}

fn annotations(o: &mut Map<String, Value>) -> Option<&mut Map<String, Value>> {
    let metadata = o.entry("metadata").or_insert_with(|| json!({})).as_object_mut()?;
    metadata.entry("annotations").or_insert_with(|| json!({})).as_object_mut()
}

/// Takes a JSON value out of an annotation; a broken one is left alone.
fn take_annotation(o: &mut Map<String, Value>, name: &str) -> Option<Value> {
    let found = o.get("metadata")?.get("annotations")?.get(name)?;
    let value = serde_json::from_str(found.as_str()?).ok()?;
    remove_annotation(o, name)?;
    Some(value)
}

fn remove_annotation(o: &mut Map<String, Value>, name: &str) -> Option<Value> {
    o.get("metadata")?.get("annotations")?.get(name)?;
    let all = annotations(o)?;
    let value = all.remove(name);
    if all.is_empty()
        && let Some(m) = o.get_mut("metadata").and_then(Value::as_object_mut)
    {
        m.remove("annotations");
    }
    value
}

fn put_annotation(o: &mut Map<String, Value>, name: &str, value: &Value) {
    if let Some(all) = annotations(o) {
        all.insert(name.to_string(), value.to_string().into());
    }
}

/// A member of a member, removed.
fn take(o: &mut Map<String, Value>, outer: &str, inner: &str) -> Option<Value> {
    o.get_mut(outer)?.as_object_mut()?.remove(inner)
}

fn put(o: &mut Map<String, Value>, outer: &str, inner: &str, value: Value) {
    if let Some(m) = o.entry(outer).or_insert_with(|| json!({})).as_object_mut() {
        m.insert(inner.to_string(), value);
    }
}

fn hpa_v1_to_v2(o: &mut Map<String, Value>) {
    let mut metrics = Vec::new();
    if let Some(percent) = take(o, "spec", "targetCPUUtilizationPercentage") {
        metrics.push(json!({"type": "Resource", "resource": {"name": "cpu",
            "target": {"type": "Utilization", "averageUtilization": percent}}}));
    }
    if let Some(Value::Array(more)) = take_annotation(o, METRICS) {
        metrics.extend(more);
    }
    if !metrics.is_empty() {
        put(o, "spec", "metrics", metrics.into());
    }
    if let Some(behavior) = take_annotation(o, BEHAVIOR) {
        put(o, "spec", "behavior", behavior);
    }
    let mut current = Vec::new();
    if let Some(percent) = take(o, "status", "currentCPUUtilizationPercentage") {
        current.push(json!({"type": "Resource", "resource": {"name": "cpu",
            "current": {"averageUtilization": percent}}}));
    }
    match take_annotation(o, CURRENT_METRICS) {
        // The annotation holds them all, the percentage only one.
        Some(all @ Value::Array(_)) => put(o, "status", "currentMetrics", all),
        _ if !current.is_empty() => put(o, "status", "currentMetrics", current.into()),
        _ => {}
    }
    if let Some(conditions) = take_annotation(o, CONDITIONS) {
        put(o, "status", "conditions", conditions);
    }
}

fn hpa_v2_to_v1(o: &mut Map<String, Value>) {
    if let Some(Value::Array(mut metrics)) = take(o, "spec", "metrics") {
        let cpu = metrics.iter().position(|m| {
            m["type"] == "Resource"
                && m["resource"]["name"] == "cpu"
                && m["resource"]["target"]["averageUtilization"].is_i64()
        });
        if let Some(i) = cpu {
            let metric = metrics.remove(i);
            put(
                o,
                "spec",
                "targetCPUUtilizationPercentage",
                metric["resource"]["target"]["averageUtilization"].clone(),
            );
        }
        if !metrics.is_empty() {
            put_annotation(o, METRICS, &metrics.into());
        }
    }
    if let Some(behavior) = take(o, "spec", "behavior") {
        put_annotation(o, BEHAVIOR, &behavior);
    }
    if let Some(Value::Array(current)) = take(o, "status", "currentMetrics") {
        let percent = current
            .iter()
            .find(|m| m["type"] == "Resource" && m["resource"]["name"] == "cpu")
            .map(|m| m["resource"]["current"]["averageUtilization"].clone());
        if let Some(percent @ Value::Number(_)) = percent {
            put(o, "status", "currentCPUUtilizationPercentage", percent);
        }
        if !current.is_empty() {
            put_annotation(o, CURRENT_METRICS, &current.into());
        }
    }
    if let Some(conditions) = take(o, "status", "conditions") {
        put_annotation(o, CONDITIONS, &conditions);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::catalogue::{builtin, find};

    fn check(kind: (&str, &str, &str), other: (&str, &str), object: Value, expected: Value) {
        let rows = builtin();
        let a = find(&rows, kind.0, kind.1, kind.2).unwrap();
        let b = find(&rows, other.0, other.1, kind.2).unwrap();
        let there = to(&object, a, b);
        assert_eq!(there, expected);
        assert_eq!(to(&there, b, a), object, "and back");
    }

    #[test]
    fn events_of_both_groups_are_the_same_events() {
        check(
            ("", "v1", "events"),
            ("events.k8s.io", "v1"),
            json!({"apiVersion":"v1","kind":"Event","metadata":{"name":"e"},"involvedObject":{"kind":"Pod"},"message":"m",
                "reason":"r","count":2,"source":{"component":"c"},"lastTimestamp":"2026-01-01T00:00:00Z",
                "reportingComponent":"","reportingInstance":""}),
            json!({"apiVersion":"events.k8s.io/v1","kind":"Event","metadata":{"name":"e"},"regarding":{"kind":"Pod"},"note":"m",
                "reason":"r","deprecatedCount":2,"deprecatedSource":{"component":"c"},
                "deprecatedLastTimestamp":"2026-01-01T00:00:00Z"}),
        );
    }

    #[test]
    fn certificate_requests_of_the_beta_are_those_of_v1() {
        let object = |version: &str, annotations: Value, spec: Value| {
            json!({"apiVersion":format!("certificates.k8s.io/{version}"),"kind":"PodCertificateRequest",
                "metadata":{"annotations":annotations},"spec":spec})
        };
        let kind = ("certificates.k8s.io", "v1beta1", "podcertificaterequests");
        let same = |version| object(version, json!({"a":"b"}), json!({"stubPKCS10Request":"MAA="}));
        check(kind, ("certificates.k8s.io", "v1"), same("v1beta1"), same("v1"));
        check(
            kind,
            ("certificates.k8s.io", "v1"),
            object("v1beta1", json!({"a":"b"}), json!({"pkixPublicKey":"MAA=","proofOfPossession":"AAA="})),
            object("v1", json!({"a":"b",BARE_KEYS[0].1:"MAA=",BARE_KEYS[1].1:"AAA="}), json!({})),
        );
    }

    #[test]
    fn autoscalers_lose_nothing_on_the_way_through_v1() {
        check(
            ("autoscaling", "v2", "horizontalpodautoscalers"),
            ("autoscaling", "v1"),
            json!({"apiVersion":"autoscaling/v2","kind":"HorizontalPodAutoscaler","metadata":{"name":"h"},
                "spec":{"maxReplicas":3,"metrics":[
                    {"type":"Resource","resource":{"name":"cpu","target":{"type":"Utilization","averageUtilization":50}}},
                    {"type":"Resource","resource":{"name":"memory","target":{"type":"AverageValue","averageValue":"1Gi"}}}],
                    "behavior":{"scaleDown":{"stabilizationWindowSeconds":0}}},
                "status":{"conditions":[{"type":"AbleToScale"}],"currentMetrics":[
                    {"type":"Resource","resource":{"name":"cpu","current":{"averageUtilization":40,"averageValue":"4m"}}}]}}),
            json!({"apiVersion":"autoscaling/v1","kind":"HorizontalPodAutoscaler","metadata":{"name":"h","annotations":{
                    METRICS: r#"[{"resource":{"name":"memory","target":{"averageValue":"1Gi","type":"AverageValue"}},"type":"Resource"}]"#,
                    BEHAVIOR: r#"{"scaleDown":{"stabilizationWindowSeconds":0}}"#,
                    CONDITIONS: r#"[{"type":"AbleToScale"}]"#,
                    CURRENT_METRICS: r#"[{"resource":{"current":{"averageUtilization":40,"averageValue":"4m"},"name":"cpu"},"type":"Resource"}]"#}},
                "spec":{"maxReplicas":3,"targetCPUUtilizationPercentage":50},
                "status":{"currentCPUUtilizationPercentage":40}}),
        );
    }

    #[test]
    fn a_simple_v1_autoscaler_is_a_v2_one_with_a_cpu_metric() {
        let rows = builtin();
        let v1 = find(&rows, "autoscaling", "v1", "horizontalpodautoscalers").unwrap();
        let v2 = find(&rows, "autoscaling", "v2", "horizontalpodautoscalers").unwrap();
        let list = json!({"apiVersion":"autoscaling/v1","kind":"HorizontalPodAutoscalerList","items":[
            {"metadata":{"annotations":{METRICS:"{broken"}},"spec":{"targetCPUUtilizationPercentage":80}}]});
        let got = to(&list, v1, v2);
        assert_eq!(got["apiVersion"], "autoscaling/v2");
        assert_eq!(got["items"][0]["spec"]["metrics"][0]["resource"]["target"]["averageUtilization"], 80);
        assert_eq!(got["items"][0]["metadata"]["annotations"][METRICS], "{broken");
    }
}
