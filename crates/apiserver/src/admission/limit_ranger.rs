//! LimitRanger: a namespace's LimitRanges give containers default requests and limits, and bound what pods and
//! claims may ask for.

use super::{Attributes, Operation, Plugin, forbidden};
use crate::reader::Reader;
use api::quota::{Amounts, amounts, pod_total};
use async_trait::async_trait;
use meta::quantity::Quantity;
use meta::status::Status;
use serde_json::Value;

const ANNOTATION: &str = "kubernetes.io/limit-ranger";

pub struct LimitRanger {
    reader: Reader,
}

impl LimitRanger {
    pub fn new(reader: Reader) -> LimitRanger {
        LimitRanger { reader }
    }

    /// The limits of each LimitRange of the namespace.
    fn limits(&self, namespace: &str) -> Result<Vec<Vec<Value>>, Status> {
        let ranges = self.reader.list("", "limitranges", namespace)?;
        Ok(ranges.iter().map(|r| r.value()["spec"]["limits"].as_array().cloned().unwrap_or_default()).collect())
    }
}

/// Pods are judged when they are made or resized, claims whenever they are written; what is on its way out isn't.
fn applies(a: &Attributes<'_>) -> bool {
    if a.old.is_some_and(|old| !old["metadata"]["deletionTimestamp"].is_null()) {
        return false;
    }
    match a.operation {
        Operation::Create => a.is_main("", "pods") || a.is_main("", "persistentvolumeclaims"),
        Operation::Update => a.is_main("", "persistentvolumeclaims") || a.is("", "pods", "resize"),
        _ => false,
    }
}

#[async_trait]
impl Plugin for LimitRanger {
    fn name(&self) -> &'static str {
        "LimitRanger"
    }

    async fn admit(&self, a: &mut Attributes<'_>) -> Result<(), Status> {
        if applies(a) && a.resource.plural == "pods" {
            for limit in self.limits(a.namespace)?.iter().flatten().filter(|l| l["type"] == "Container") {
                set_defaults(a.object, limit);
            }
        }
        Ok(())
    }

    async fn validate(&self, a: &Attributes<'_>) -> Result<(), Status> {
        if !applies(a) {
            return Ok(());
        }
        for limits in &self.limits(a.namespace)? {
            let mut errors = Vec::new();
            for limit in limits {
                if a.resource.plural == "pods" {
                    check_pod(a.object, limit, &mut errors);
                } else {
                    check_claim(a.object, limit, &mut errors);
                }
            }
            // What is true of several containers is told once.
            let mut told: Vec<String> = Vec::new();
            for error in errors {
                if !told.contains(&error) {
                    told.push(error);
                }
            }
            match told.as_slice() {
                [] => {}
                [one] => return Err(forbidden(a, one)),
                many => return Err(forbidden(a, format!("[{}]", many.join(", ")))),
            }
        }
        Ok(())
    }
}

fn set_defaults(pod: &mut Value, limit: &Value) {
    let mut notes = Vec::new();
    for (list, what) in [("containers", "container"), ("initContainers", "init container")] {
        for container in pod["spec"].get_mut(list).and_then(Value::as_array_mut).into_iter().flatten() {
            let name = container["name"].as_str().unwrap_or_default().to_string();
            for (field, defaults, word) in
                [("requests", &limit["defaultRequest"], "request"), ("limits", &limit["default"], "limit")]
            {
                let set = fill(container, field, defaults);
                if !set.is_empty() {
                    notes.push(format!("{} {word} for {what} {name}", set.join(", ")));
                }
            }
        }
    }
    if !notes.is_empty() {
        let text = format!("LimitRanger plugin set: {}", notes.join("; "));
        pod["metadata"]["annotations"][ANNOTATION] = text.into();
    }
}

/// Sets the quantities that are missing; tells which.
fn fill(container: &mut Value, field: &str, defaults: &Value) -> Vec<String> {
    let Some(defaults) = defaults.as_object().filter(|d| !d.is_empty()) else { return Vec::new() };
    let mut set = Vec::new();
    for (resource, quantity) in defaults {
        if container["resources"][field].get(resource).is_none() {
            container["resources"][field][resource] = quantity.clone();
            set.push(resource.clone());
        }
    }
    set.sort();
    set
}

/// Limits in the order of resource names, so that texts are the same each time.
fn sorted(v: &Value) -> Vec<(String, Quantity)> {
    amounts(v).into_iter().collect()
}

fn check_pod(pod: &Value, limit: &Value, errors: &mut Vec<String>) {
    let spec = &pod["spec"];
    match limit["type"].as_str().unwrap_or_default() {
        "Container" => {
            for list in ["containers", "initContainers"] {
                for c in spec[list].as_array().into_iter().flatten() {
                    let (requests, limits) = (&c["resources"]["requests"], &c["resources"]["limits"]);
                    check("Container", limit, &amounts(requests), &amounts(limits), errors);
                }
            }
        }
        "Pod" => {
            check("Pod", limit, &pod_total(spec, "requests"), &pod_total(spec, "limits"), errors);
        }
        _ => {}
    }
}

fn check(kind: &str, limit: &Value, requests: &Amounts, limits: &Amounts, errors: &mut Vec<String>) {
    for (r, min) in sorted(&limit["min"]) {
        match (requests.get(&r), limits.get(&r)) {
            (None, _) => errors.push(format!("minimum {r} usage per {kind} is {min}.  No request is specified")),
            (Some(q), _) if *q < min => {
                errors.push(format!("minimum {r} usage per {kind} is {min}, but request is {q}"));
            }
            (_, Some(l)) if *l < min => {
                errors.push(format!("minimum {r} usage per {kind} is {min}, but limit is {l}"));
            }
            _ => {}
        }
    }
    for (r, max) in sorted(&limit["max"]) {
        match (requests.get(&r), limits.get(&r)) {
            (_, None) => errors.push(format!("maximum {r} usage per {kind} is {max}.  No limit is specified")),
            (_, Some(l)) if *l > max => {
                errors.push(format!("maximum {r} usage per {kind} is {max}, but limit is {l}"));
            }
            (Some(q), _) if *q > max => {
                errors.push(format!("maximum {r} usage per {kind} is {max}, but request is {q}"));
            }
            _ => {}
        }
    }
    for (r, max) in sorted(&limit["maxLimitRequestRatio"]) {
        let head = format!("{r} max limit to request ratio per {kind} is {max}, but");
        match (requests.get(&r), limits.get(&r)) {
            (None, _) => errors.push(format!("{head} no request is specified or request is 0")),
            (Some(q), _) if q.is_zero() => errors.push(format!("{head} no request is specified or request is 0")),
            (_, None) => errors.push(format!("{head} no limit is specified or limit is 0")),
            (_, Some(l)) if l.is_zero() => errors.push(format!("{head} no limit is specified or limit is 0")),
            (Some(q), Some(l)) => {
                let ratio = l.as_f64() / q.as_f64();
                if ratio > max.as_f64() {
                    errors.push(format!("{head} provided ratio is {ratio:.6}"));
                }
            }
        }
    }
}

fn check_claim(claim: &Value, limit: &Value, errors: &mut Vec<String>) {
    if limit["type"] != "PersistentVolumeClaim" {
        return;
    }
    let kind = "PersistentVolumeClaim";
    let requests = amounts(&claim["spec"]["resources"]["requests"]);
    for (r, min) in sorted(&limit["min"]) {
        match requests.get(&r) {
            None => errors.push(format!("minimum {r} usage per {kind} is {min}.  No request is specified")),
            Some(q) if *q < min => errors.push(format!("minimum {r} usage per {kind} is {min}, but request is {q}")),
            _ => {}
        }
    }
    for (r, max) in sorted(&limit["max"]) {
        match requests.get(&r) {
            None => errors.push(format!("maximum {r} usage per {kind} is {max}.  No request is specified")),
            Some(q) if *q > max => errors.push(format!("maximum {r} usage per {kind} is {max}, but request is {q}")),
            _ => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::admission::testing::Write;
    use crate::testing::reader;
    use serde_json::json;

    fn with(requests: Value, limits: Value) -> Value {
        let resources = json!({"requests": requests, "limits": limits});
        json!({"kind":"Pod","metadata":{"name":"p"},"spec":{"containers":[{"name":"c","resources":resources}]}})
    }

    async fn plugin(limits: Value) -> LimitRanger {
        LimitRanger::new(
            reader(&[json!({"apiVersion":"v1","kind":"LimitRange","metadata":{"namespace":"d","name":"l"},
                            "spec":{"limits":limits}})])
            .await,
        )
    }

    #[tokio::test]
    async fn missing_requests_and_limits_are_set() {
        let p = plugin(json!([{"type":"Container","default":{"cpu":"500m","memory":"500Mi"},"defaultRequest":{"cpu":"100m","memory":"200Mi"}}])).await;
        let got = Write::create("", "pods", "d", with(json!({"cpu":"50m"}), json!({}))).run(&p).await.unwrap();
        assert_eq!(
            got["spec"]["containers"][0]["resources"],
            json!({"requests":{"cpu":"50m","memory":"200Mi"},"limits":{"cpu":"500m","memory":"500Mi"}})
        );
        assert_eq!(
            got["metadata"]["annotations"][ANNOTATION],
            "LimitRanger plugin set: memory request for container c; cpu, memory limit for container c"
        );
        // Nothing is set in another namespace.
        let same = with(json!({}), json!({}));
        assert_eq!(Write::create("", "pods", "other", same.clone()).run(&p).await.unwrap(), same);
    }

    #[tokio::test]
    async fn pods_that_are_resized_are_judged_and_completed_like_new_ones() {
        let p = plugin(json!([{"type":"Container","default":{"memory":"500Mi"},"max":{"cpu":"1"}}])).await;
        let pod = |cpu: &str| with(json!({"cpu":cpu}), json!({"cpu":cpu}));
        let resize = |cpu: &str| Write::update("", "pods", "d", pod("1"), pod(cpu)).sub("resize", "p").run(&p);
        let resized = resize("500m").await.unwrap();
        assert_eq!(resized["spec"]["containers"][0]["resources"]["limits"], json!({"cpu":"500m","memory":"500Mi"}));
        assert!(resize("2").await.unwrap_err().message.ends_with("is 1, but limit is 2"));
        assert!(Write::update("", "pods", "d", pod("1"), pod("2")).run(&p).await.is_ok());
    }

    #[tokio::test]
    async fn bounds_are_kept_with_upstreams_texts() {
        let p = plugin(json!([
            {"type":"Container","min":{"cpu":"50m"},"max":{"cpu":"500m"},"maxLimitRequestRatio":{"cpu":"2"}},
            {"type":"Pod","max":{"memory":"1Gi"}}]))
        .await;
        let ok = "maximum memory usage per Pod is 1Gi.  No limit is specified";
        for (requests, limits, expected) in [
            (json!({"cpu":"250m"}), json!({"cpu":"500m","memory":"1Gi"}), ""),
            (
                json!({"cpu":"250m"}),
                json!({"cpu":"500m","memory":"2Gi"}),
                "maximum memory usage per Pod is 1Gi, but limit is 2Gi",
            ),
            (json!({"cpu":"250m"}), json!({"cpu":"500m"}), ok),
            (
                json!({"cpu":"25m"}),
                json!({"cpu":"50m","memory":"1Gi"}),
                "minimum cpu usage per Container is 50m, but request is 25m",
            ),
            (
                json!({"cpu":"400m"}),
                json!({"cpu":"600m","memory":"1Gi"}),
                "maximum cpu usage per Container is 500m, but limit is 600m",
            ),
            (
                json!({"cpu":"100m"}),
                json!({"cpu":"500m","memory":"1Gi"}),
                "cpu max limit to request ratio per Container is 2, but provided ratio is 5.000000",
            ),
            (
                json!({}),
                json!({"memory":"1Gi"}),
                "[minimum cpu usage per Container is 50m.  No request is specified, maximum cpu usage per Container \
                 is 500m.  No limit is specified, cpu max limit to request ratio per Container is 2, but no request is \
                 specified or request is 0]",
            ),
        ] {
            let done = Write::create("", "pods", "d", with(requests, limits)).run(&p).await;
            let text = done.err().map(|e| e.message).unwrap_or_default();
            let head = "pods \"p\" is forbidden: ";
            assert_eq!(text, if expected.is_empty() { String::new() } else { format!("{head}{expected}") });
        }
    }

    #[tokio::test]
    async fn the_first_range_that_is_exceeded_is_told_and_each_fault_once() {
        let range = |name: &str, resource: &str| {
            json!({"apiVersion":"v1","kind":"LimitRange","metadata":{"namespace":"d","name":name},
                "spec":{"limits":[{"type":"Container","min":{resource:"1"},"max":{"memory":"1Gi"}}]}})
        };
        let p = LimitRanger::new(reader(&[range("a", "cpu"), range("b", "memory")]).await);
        let mut pod = with(json!({}), json!({}));
        let same = pod["spec"]["containers"][0].clone();
        pod["spec"]["containers"] = json!([same, same]);
        let refused = Write::create("", "pods", "d", pod).run(&p).await.unwrap_err().message;
        assert_eq!(
            refused,
            "pods \"p\" is forbidden: [minimum cpu usage per Container is 1.  No request is specified, maximum memory \
             usage per Container is 1Gi.  No limit is specified]"
        );
    }

    #[tokio::test]
    async fn claims_are_bounded() {
        let p = plugin(json!([{"type":"PersistentVolumeClaim","min":{"storage":"1Gi"},"max":{"storage":"2Gi"}}])).await;
        for (size, expected) in [
            ("1Gi", ""),
            ("3Gi", "maximum storage usage per PersistentVolumeClaim is 2Gi, but request is 3Gi"),
            ("1Mi", "minimum storage usage per PersistentVolumeClaim is 1Gi, but request is 1Mi"),
        ] {
            let claim = json!({"metadata":{"name":"c"},"spec":{"resources":{"requests":{"storage":size}}}});
            let done = Write::create("", "persistentvolumeclaims", "d", claim).run(&p).await;
            let text = done.err().map(|e| e.message).unwrap_or_default();
            assert!(text.ends_with(expected) && text.is_empty() == expected.is_empty(), "{text}");
        }
        let claim = |deleted: Value| json!({"metadata":{"name":"c","deletionTimestamp":deleted},"spec":{"resources":{"requests":{"storage":"3Gi"}}}});
        for (deleted, passes) in [(Value::Null, false), (json!("2026-01-01T00:00:00Z"), true)] {
            let write = Write::update("", "persistentvolumeclaims", "d", claim(deleted.clone()), claim(deleted));
            assert_eq!(write.run(&p).await.is_ok(), passes);
        }
    }
}
