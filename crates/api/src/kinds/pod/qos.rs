//! The quality-of-service class of a pod, settled at creation: `Guaranteed`, `Burstable` or `BestEffort`.

use crate::validation::access::*;
use crate::validation::podspec::milli;
use serde_json::Value;

const COMPUTE: [&str; 2] = ["cpu", "memory"];

pub fn class(spec: &Value) -> &'static str {
    // Pod-level resources, where given, stand for all containers.
    if is_set(field(spec, "resources")) {
        return of(std::slice::from_ref(spec));
    }
    let all: Vec<Value> = ["containers", "initContainers"].iter().flat_map(|l| list(spec, l)).cloned().collect();
    of(&all)
}

fn is_set(resources: &Value) -> bool {
    ["requests", "limits"].iter().any(|k| COMPUTE.iter().any(|r| milli(at(resources, &[k, r])) > 0))
}

fn of(holders: &[Value]) -> &'static str {
    let amount = |h: &Value, kind: &str, name: &str| milli(at(h, &["resources", kind, name]));
    let sum = |kind: &str, name: &str| holders.iter().fold(0i64, |n, h| n.saturating_add(amount(h, kind, name)));
    let none = COMPUTE.iter().all(|r| sum("requests", r) == 0 && sum("limits", r) == 0);
    if none {
        return "BestEffort";
    }
    let limited = holders.iter().all(|h| COMPUTE.iter().all(|r| amount(h, "limits", r) > 0));
    if limited && COMPUTE.iter().all(|r| sum("requests", r) == sum("limits", r)) { "Guaranteed" } else { "Burstable" }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    #[test]
    fn classes() {
        for (resources, class) in [
            (json!({}), "BestEffort"),
            (json!({"requests": {"cpu": "100m"}}), "Burstable"),
            (json!({"limits": {"cpu": "1", "memory": "1Gi"}, "requests": {"cpu": "1", "memory": "1Gi"}}), "Guaranteed"),
            (
                json!({"limits": {"cpu": "1", "memory": "1Gi"}, "requests": {"cpu": "500m", "memory": "1Gi"}}),
                "Burstable",
            ),
            (json!({"limits": {"cpu": "1"}, "requests": {"cpu": "1"}}), "Burstable"),
            (json!({"limits": {"nvidia.com/gpu": "1"}}), "BestEffort"),
        ] {
            assert_eq!(super::class(&json!({"containers": [{"resources": resources}]})), class, "{resources}");
        }
    }
}
