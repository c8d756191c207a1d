//! Between versions of a kind that share one storage: `autoscaling/v1` and `v2`, core and `events.k8s.io` Events, the
//! `certificates.k8s.io` and `storagemigration.k8s.io` betas and what they became.
//!
//! Both ways lose nothing: what one version can't say travels in annotations.

mod hpa;

use crate::catalogue::Resource;
use crate::kinds::horizontalpodautoscaler::behavior_defaults;
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

/// Takes a JSON value out of an annotation; none if it isn't JSON.
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

/// As v1 says it: one number for the processor, all else in annotations. Without any of it, upstream's default.
pub fn hpa_v1_to_v2(o: &mut Map<String, Value>) {
    // Those of the annotation come first, as upstream puts them.
    let mut metrics = hpa::list(take_annotation(o, METRICS), hpa::spec_from_v1);
    if let Some(percent) = take(o, "spec", "targetCPUUtilizationPercentage") {
        metrics.push(hpa::processor(percent));
    }
    if metrics.is_empty() {
        metrics.push(hpa::processor(hpa::PERCENT_DEFAULT.into()));
    }
    put(o, "spec", "metrics", metrics.into());
    if let Some(mut behavior) = take_annotation(o, BEHAVIOR).as_ref().and_then(hpa::behavior_from_v1) {
        // Whoever reads it as v2 finds it whole.
        behavior_defaults(&mut behavior);
        put(o, "spec", "behavior", behavior);
    }
    let mut current = hpa::list(take_annotation(o, CURRENT_METRICS), hpa::status_from_v1);
    // The annotation holds them all, the percentage only one.
    if let Some(percent) = take(o, "status", "currentCPUUtilizationPercentage").filter(|_| current.is_empty()) {
        current
            .push(json!({"type": "Resource", "resource": {"name": "cpu", "current": {"averageUtilization": percent}}}));
    }
    if !current.is_empty() {
        put(o, "status", "currentMetrics", current.into());
    }
    if let Some(conditions @ Value::Array(_)) = take_annotation(o, CONDITIONS) {
        put(o, "status", "conditions", conditions);
    }
    drop_hpa_annotations(o);
}

/// What v1 keeps in annotations has fields in v2; upstream drops annotations of these names there.
pub fn drop_hpa_annotations(o: &mut Map<String, Value>) {
    for name in [METRICS, BEHAVIOR, CURRENT_METRICS, CONDITIONS] {
        remove_annotation(o, name);
    }
}

fn hpa_v2_to_v1(o: &mut Map<String, Value>) {
    drop_hpa_annotations(o);
    if let Some(Value::Array(mut metrics)) = take(o, "spec", "metrics") {
        if let Some(percent @ Value::Number(_)) = metrics.iter().find(|m| hpa::is_processor(m)).map(hpa::utilization) {
            put(o, "spec", "targetCPUUtilizationPercentage", percent.clone());
        }
        metrics.retain(|m| !(hpa::is_processor(m) && hpa::utilization(m).is_number()));
        if !metrics.is_empty() {
            put_annotation(o, METRICS, &metrics.iter().map(hpa::spec_to_v1).collect());
        }
    }
    if let Some(behavior) = take(o, "spec", "behavior") {
        put_annotation(o, BEHAVIOR, &hpa::behavior_to_v1(&behavior));
    }
    if let Some(Value::Array(current)) = take(o, "status", "currentMetrics") {
        let percents = current.iter().filter(|m| hpa::is_processor(m)).map(|m| &m["resource"]["current"]);
        if let Some(percent) = percents.map(|c| &c["averageUtilization"]).rfind(|p| p.is_number()) {
            put(o, "status", "currentCPUUtilizationPercentage", percent.clone());
        }
        if !current.is_empty() {
            put_annotation(o, CURRENT_METRICS, &current.iter().map(hpa::status_to_v1).collect());
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
                    {"type":"Resource","resource":{"name":"memory","target":{"type":"AverageValue","averageValue":"1Gi"}}},
                    {"type":"Resource","resource":{"name":"cpu","target":{"type":"Utilization","averageUtilization":50}}}],
                    "behavior":{"scaleDown":{"stabilizationWindowSeconds":0,"selectPolicy":"Max","policies":[
                        {"type":"Percent","value":100,"periodSeconds":15}]},
                        "scaleUp":{"stabilizationWindowSeconds":0,"selectPolicy":"Min","policies":[
                        {"type":"Pods","value":1,"periodSeconds":60}],"tolerance":"50m"}}},
                "status":{"conditions":[{"type":"AbleToScale"}],"currentMetrics":[
                    {"type":"Resource","resource":{"name":"cpu","current":{"averageUtilization":40,"averageValue":"4m"}}}]}}),
            json!({"apiVersion":"autoscaling/v1","kind":"HorizontalPodAutoscaler","metadata":{"name":"h","annotations":{
                    METRICS: r#"[{"resource":{"name":"memory","targetAverageValue":"1Gi"},"type":"Resource"}]"#,
                    BEHAVIOR: r#"{"ScaleDown":{"Policies":[{"PeriodSeconds":15,"Type":"Percent","Value":100}],"SelectPolicy":"Max","StabilizationWindowSeconds":0,"Tolerance":null},"ScaleUp":{"Policies":[{"PeriodSeconds":60,"Type":"Pods","Value":1}],"SelectPolicy":"Min","StabilizationWindowSeconds":0,"Tolerance":"50m"}}"#,
                    CONDITIONS: r#"[{"type":"AbleToScale"}]"#,
                    CURRENT_METRICS: r#"[{"resource":{"currentAverageUtilization":40,"currentAverageValue":"4m","name":"cpu"},"type":"Resource"}]"#}},
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
        assert!(got["items"][0]["metadata"]["annotations"].is_null(), "upstream drops what it can't read");
        let none = to(&json!({"kind":"HorizontalPodAutoscaler","metadata":{},"spec":{}}), v1, v2);
        let cpu = json!([{"type":"Resource","resource":{"name":"cpu","target":{"type":"Utilization","averageUtilization":80}}}]);
        assert_eq!(none["spec"]["metrics"], cpu);
    }

    /// Of each kind of source: as v2 has it, and what v1's annotations say.
    #[test]
    fn every_metric_goes_through_v1() {
        let selector = json!({"matchLabels": {"a": "b"}});
        let object = json!({"kind": "Service", "name": "s", "apiVersion": "v1"});
        for (kind, key, v2, v1) in [
            (
                "Resource",
                "resource",
                json!({"name":"memory","target":{"type":"Utilization","averageUtilization":5}}),
                json!({"name":"memory","targetAverageUtilization":5}),
            ),
            (
                "ContainerResource",
                "containerResource",
                json!({"name":"cpu","container":"c","target":{"type":"AverageValue","averageValue":"1"}}),
                json!({"name":"cpu","container":"c","targetAverageValue":"1"}),
            ),
            (
                "Pods",
                "pods",
                json!({"metric":{"name":"m","selector":selector},"target":{"type":"AverageValue","averageValue":"1"}}),
                json!({"metricName":"m","selector":selector,"targetAverageValue":"1"}),
            ),
            (
                "Object",
                "object",
                json!({"describedObject":object,"metric":{"name":"m"},"target":{"type":"Value","value":"1"}}),
                json!({"target":object,"metricName":"m","targetValue":"1"}),
            ),
            (
                "Object",
                "object",
                json!({"describedObject":object,"metric":{"name":"m"},"target":{"type":"AverageValue","averageValue":"1"}}),
                json!({"target":object,"metricName":"m","targetValue":"0","averageValue":"1"}),
            ),
            (
                "External",
                "external",
                json!({"metric":{"name":"m","selector":selector},"target":{"type":"Value","value":"1"}}),
                json!({"metricName":"m","metricSelector":selector,"targetValue":"1"}),
            ),
            (
                "External",
                "external",
                json!({"metric":{"name":"m"},"target":{"type":"AverageValue","averageValue":"1"}}),
                json!({"metricName":"m","targetAverageValue":"1"}),
            ),
        ] {
            let (new, old) = (json!({"type": kind, key: v2}), json!({"type": kind, key: v1}));
            assert_eq!(hpa::spec_to_v1(&new), old);
            assert_eq!(hpa::spec_from_v1(&old), new);
        }
        for (kind, key, v2, v1) in [
            (
                "ContainerResource",
                "containerResource",
                json!({"name":"cpu","container":"c","current":{"averageUtilization":3,"averageValue":"1"}}),
                json!({"name":"cpu","container":"c","currentAverageUtilization":3,"currentAverageValue":"1"}),
            ),
            (
                "Pods",
                "pods",
                json!({"metric":{"name":"m"},"current":{"averageValue":"1"}}),
                json!({"metricName":"m","currentAverageValue":"1"}),
            ),
            (
                "Object",
                "object",
                json!({"describedObject":object,"metric":{"name":"m"},"current":{"value":"1"}}),
                json!({"target":object,"metricName":"m","currentValue":"1"}),
            ),
            (
                "External",
                "external",
                json!({"metric":{"name":"m"},"current":{"value":"0","averageValue":"1"}}),
                json!({"metricName":"m","currentValue":"0","currentAverageValue":"1"}),
            ),
        ] {
            let (new, old) = (json!({"type": kind, key: v2}), json!({"type": kind, key: v1}));
            assert_eq!(hpa::status_to_v1(&new), old);
            assert_eq!(hpa::status_from_v1(&old), new);
        }
        // Readers of Go's kind don't mind how keys are capitalized, and an empty behavior is none.
        let rules = json!({"scaleup": {"selectPolicy": "Min", "policies": []}, "ScaleDown": null});
        assert_eq!(hpa::behavior_from_v1(&rules).unwrap()["scaleUp"]["selectPolicy"], "Min");
        assert_eq!(hpa::behavior_from_v1(&json!({"ScaleUp": null, "ScaleDown": null})), None);
    }
}
