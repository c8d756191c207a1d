//! What objects use, as ResourceQuota counts it: shared by the admission plugin, which charges writes, and the
//! controller, which recounts. Pure.
//!
//! In: whole objects and a quota's spec. Out: amounts by the names that `spec.hard` knows.
//! Source: upstream's `pkg/quota/v1/evaluator/core`; KEP-753 for pods with side containers.

use meta::quantity::{Format, Quantity};
use meta::status::qualified;
use serde_json::{Value, json};
use std::collections::BTreeMap;

/// Amounts by name.
pub type Amounts = BTreeMap<String, Quantity>;

/// Devices that a claim for all of a node's may get. Upstream: `AllocationResultsMaxSize`.
const DEVICES_OF_ALL: i64 = 32;

pub fn amounts(v: &Value) -> Amounts {
    v.as_object()
        .map(|m| m.iter().filter_map(|(k, q)| Some((k.clone(), Quantity::from_value(q).ok()?))).collect())
        .unwrap_or_default()
}

pub fn add(into: &mut Amounts, more: &Amounts) {
    for (k, q) in more {
        let sum = into.get(k).copied().unwrap_or(Quantity::ZERO) + *q;
        into.insert(k.clone(), sum);
    }
}

/// `new` without `old`; negative where less is used now.
pub fn subtract(new: Amounts, old: &Amounts) -> Amounts {
    let mut out = new;
    for (k, q) in old {
        let rest = out.get(k).copied().unwrap_or(Quantity::ZERO) - *q;
        out.insert(k.clone(), rest);
    }
    out
}

fn items<'a>(v: &'a Value, key: &str) -> impl Iterator<Item = &'a Value> {
    v[key].as_array().into_iter().flatten()
}

fn number(n: i64) -> Quantity {
    Quantity::new(n, Format::DecimalSi)
}

/// What a pod takes at most: its containers and side containers together, or an init container with the side
/// containers that started before it; plus overhead. Source: KEP-753, "resource usage calculation".
pub fn pod_total(spec: &Value, field: &str) -> Amounts {
    let mut total = Amounts::new();
    let of = |c: &Value| amounts(&c["resources"][field]);
    for c in items(spec, "containers") {
        add(&mut total, &of(c));
    }
    let mut sidecars = Amounts::new();
    let mut peak = Amounts::new();
    for c in items(spec, "initContainers") {
        let mut now = of(c);
        if c["restartPolicy"] == "Always" {
            add(&mut total, &now);
            add(&mut sidecars, &now);
            now = sidecars.clone();
        } else {
            add(&mut now, &sidecars);
        }
        for (k, q) in now {
            if peak.get(&k).is_none_or(|p| q > *p) {
                peak.insert(k, q);
            }
        }
    }
    for (k, q) in peak {
        if total.get(&k).is_none_or(|t| q > *t) {
            total.insert(k, q);
        }
    }
    // Resources of the whole pod replace the sums.
    total.extend(amounts(&spec["resources"][field]));
    let overhead = amounts(&spec["overhead"]);
    if field == "requests" {
        add(&mut total, &overhead);
    } else {
        // A resource without a limit stays without one.
        let bounded: Amounts = overhead.into_iter().filter(|(k, _)| total.contains_key(k)).collect();
        add(&mut total, &bounded);
    }
    total
}

/// `count/deployments.apps`
pub fn count_name(group: &str, plural: &str) -> String {
    format!("count/{}", qualified(plural, group))
}

/// What one object uses, by quota resource name.
pub fn usage_of(group: &str, plural: &str, object: &Value) -> Amounts {
    let mut usage = Amounts::from([(count_name(group, plural), number(1))]);
    match (group, plural) {
        ("", "pods") => pod_usage(object, &mut usage),
        ("", "services") => service_usage(object, &mut usage),
        ("", "persistentvolumeclaims") => claim_usage(object, &mut usage),
        ("", "replicationcontrollers" | "resourcequotas" | "secrets" | "configmaps") => {
            usage.insert(plural.to_string(), number(1));
        }
        ("resource.k8s.io", "resourceclaims") => device_usage(object, &mut usage),
        _ => {}
    }
    usage
}

/// Which resource must be counted for a name in `spec.hard`: (group, plural). `None` for names that nothing is
/// charged to.
pub fn counted_by(name: &str) -> Option<(String, String)> {
    let core = |plural: &str| Some((String::new(), plural.to_string()));
    if let Some(of) = name.strip_prefix("count/") {
        let (plural, group) = of.split_once('.').unwrap_or((of, ""));
        return Some((group.to_string(), plural.to_string()));
    }
    if name.ends_with(".deviceclass.resource.k8s.io/devices") {
        return Some(("resource.k8s.io".to_string(), "resourceclaims".to_string()));
    }
    match name {
        "pods"
        | "services"
        | "persistentvolumeclaims"
        | "replicationcontrollers"
        | "resourcequotas"
        | "secrets"
        | "configmaps" => core(name),
        "services.nodeports" | "services.loadbalancers" => core("services"),
        "requests.storage" => core("persistentvolumeclaims"),
        n if n.contains(".storageclass.storage.k8s.io/") => core("persistentvolumeclaims"),
        "cpu" | "memory" | "ephemeral-storage" => core("pods"),
        n if ["requests.", "limits.", "hugepages-"].iter().any(|p| n.starts_with(p)) => core("pods"),
        _ => None,
    }
}

/// Only a count of objects is asked for, not what is in them.
pub fn counts_only(name: &str) -> bool {
    name.starts_with("count/") || matches!(name, "replicationcontrollers" | "resourcequotas" | "secrets" | "configmaps")
}

fn is_native(resource: &str) -> bool {
    resource.split_once('/').is_none_or(|(domain, _)| domain.ends_with("kubernetes.io"))
}

fn is_compute(resource: &str) -> bool {
    matches!(resource, "cpu" | "memory" | "ephemeral-storage")
}

fn pod_usage(pod: &Value, usage: &mut Amounts) {
    // A finished pod takes nothing but its place in the store.
    if matches!(pod["status"]["phase"].as_str(), Some("Succeeded" | "Failed")) {
        return;
    }
    usage.insert("pods".to_string(), number(1));
    for (resource, q) in pod_total(&pod["spec"], "requests") {
        let plain = is_compute(&resource) || resource.starts_with("hugepages-");
        if plain {
            usage.insert(resource.clone(), q);
        }
        if plain || !is_native(&resource) {
            usage.insert(format!("requests.{resource}"), q);
        }
    }
    for (resource, q) in pod_total(&pod["spec"], "limits") {
        if is_compute(&resource) {
            usage.insert(format!("limits.{resource}"), q);
        }
    }
}

fn service_usage(service: &Value, usage: &mut Amounts) {
    usage.insert("services".to_string(), number(1));
    let spec = &service["spec"];
    let ports = spec["ports"].as_array().map(Vec::as_slice).unwrap_or_default();
    let count = |n: usize| number(i64::try_from(n).unwrap_or(i64::MAX));
    match spec["type"].as_str() {
        Some("NodePort") => {
            usage.insert("services.nodeports".to_string(), count(ports.len()));
        }
        Some("LoadBalancer") => {
            usage.insert("services.loadbalancers".to_string(), number(1));
            let with_port = if spec["allocateLoadBalancerNodePorts"] == false {
                ports.iter().filter(|p| p["nodePort"].as_i64().unwrap_or(0) != 0).count()
            } else {
                ports.len()
            };
            usage.insert("services.nodeports".to_string(), count(with_port));
        }
        _ => {}
    }
}

fn claim_usage(claim: &Value, usage: &mut Amounts) {
    usage.insert("persistentvolumeclaims".to_string(), number(1));
    let storage = Quantity::from_value(&claim["spec"]["resources"]["requests"]["storage"]).ok();
    // While a claim grows, what it was promised counts if that is more (KEP-1790).
    let promised = Quantity::from_value(&claim["status"]["allocatedResources"]["storage"]).ok();
    let storage = match (storage, promised) {
        (Some(a), Some(b)) => Some(a.max(b)),
        (a, _) => a,
    };
    let class = claim["metadata"]["annotations"]["volume.beta.kubernetes.io/storage-class"]
        .as_str()
        .or(claim["spec"]["storageClassName"].as_str())
        .unwrap_or_default();
    let prefix = format!("{class}.storageclass.storage.k8s.io/");
    if !class.is_empty() {
        usage.insert(format!("{prefix}persistentvolumeclaims"), number(1));
    }
    if let Some(q) = storage {
        usage.insert("requests.storage".to_string(), q);
        if !class.is_empty() {
            usage.insert(format!("{prefix}requests.storage"), q);
        }
    }
}

/// Devices by class; of alternatives, the most that any would take of a class.
fn device_usage(claim: &Value, usage: &mut Amounts) {
    let devices = |request: &Value| {
        let class = request["deviceClassName"].as_str().unwrap_or_default();
        let n = match request["allocationMode"].as_str() {
            Some("All") => DEVICES_OF_ALL,
            _ => request["count"].as_i64().unwrap_or(1),
        };
        (format!("{class}.deviceclass.resource.k8s.io/devices"), number(n))
    };
    for request in items(&claim["spec"]["devices"], "requests") {
        let mut of_request = Amounts::new();
        for one in
            std::iter::once(&request["exactly"]).filter(|e| e.is_object()).chain(items(request, "firstAvailable"))
        {
            let (name, n) = devices(one);
            let most = of_request.get(&name).copied().unwrap_or(Quantity::ZERO).max(n);
            of_request.insert(name, most);
        }
        add(usage, &of_request);
    }
}

/// Whether the quota's scopes take in this object. Most scopes speak of pods, one of claims; a quota with scopes
/// pays for nothing else.
pub fn in_scope(spec: &Value, group: &str, plural: &str, object: &Value) -> bool {
    let scopes = spec["scopes"].as_array().map(Vec::as_slice).unwrap_or_default();
    let expressions = spec["scopeSelector"]["matchExpressions"].as_array().map(Vec::as_slice).unwrap_or_default();
    let exists = json!({"operator": "Exists"});
    scopes.iter().all(|s| has_scope(s.as_str().unwrap_or_default(), &exists, group, plural, object))
        && expressions.iter().all(|e| has_scope(e["scopeName"].as_str().unwrap_or_default(), e, group, plural, object))
}

/// Whether one scope takes in the object; `expression` is its row of a scope selector.
pub fn has_scope(scope: &str, expression: &Value, group: &str, plural: &str, object: &Value) -> bool {
    match (group, plural) {
        ("", "pods") => pod_has_scope(scope, expression, object),
        ("", "persistentvolumeclaims") if scope == "VolumeAttributesClass" => {
            let names = [
                &object["spec"]["volumeAttributesClassName"],
                &object["status"]["currentVolumeAttributesClassName"],
                &object["status"]["modifyVolumeStatus"]["targetVolumeAttributesClassName"],
            ];
            let names: Vec<&str> = names.iter().filter_map(|n| n.as_str()).filter(|n| !n.is_empty()).collect();
            names_match(&names, expression)
        }
        _ => false,
    }
}

fn names_match(names: &[&str], expression: &Value) -> bool {
    let listed = |n: &&str| items(expression, "values").any(|v| v == *n);
    match expression["operator"].as_str().unwrap_or_default() {
        "In" => names.iter().any(listed),
        "NotIn" => !names.iter().any(listed),
        "Exists" => !names.is_empty(),
        "DoesNotExist" => names.is_empty(),
        _ => false,
    }
}

fn pod_has_scope(scope: &str, expression: &Value, pod: &Value) -> bool {
    let spec = &pod["spec"];
    let ends = spec["activeDeadlineSeconds"].as_i64().is_some_and(|s| s >= 0);
    match scope {
        "Terminating" => ends,
        "NotTerminating" => !ends,
        "BestEffort" => best_effort(spec),
        "NotBestEffort" => !best_effort(spec),
        "CrossNamespacePodAffinity" => crosses_namespaces(spec),
        "PriorityClass" => {
            let class = spec["priorityClassName"].as_str().filter(|c| !c.is_empty());
            names_match(class.as_slice(), expression)
        }
        _ => false,
    }
}

fn best_effort(spec: &Value) -> bool {
    let says = |r: &Value| {
        ["requests", "limits"]
            .iter()
            .any(|f| ["cpu", "memory"].iter().any(|n| Quantity::from_value(&r[*f][*n]).is_ok_and(|q| q.sign() > 0)))
    };
    let mut containers = items(spec, "containers").chain(items(spec, "initContainers"));
    !says(&spec["resources"]) && !containers.any(|c| says(&c["resources"]))
}

fn crosses_namespaces(spec: &Value) -> bool {
    let crosses = |term: &Value| items(term, "namespaces").next().is_some() || !term["namespaceSelector"].is_null();
    ["podAffinity", "podAntiAffinity"].iter().any(|kind| {
        let affinity = &spec["affinity"][*kind];
        items(affinity, "requiredDuringSchedulingIgnoredDuringExecution").any(crosses)
            || items(affinity, "preferredDuringSchedulingIgnoredDuringExecution")
                .any(|t| crosses(&t["podAffinityTerm"]))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shown(a: &Amounts) -> String {
        a.iter().map(|(k, q)| format!("{k}={q}")).collect::<Vec<_>>().join(" ")
    }

    #[test]
    fn a_pod_takes_the_higher_of_starting_and_running() {
        let c = |cpu: &str| json!({"resources":{"requests":{"cpu":cpu}}});
        let mut sidecar = c("1");
        sidecar["restartPolicy"] = "Always".into();
        for (init, main, expected) in [
            (json!([]), json!([c("1"), c("2")]), "3"),
            (json!([c("5")]), json!([c("1"), c("2")]), "5"),
            (json!([sidecar, c("5")]), json!([c("1")]), "6"),
            (json!([c("5"), sidecar]), json!([c("1"), c("2")]), "5"),
            (json!([sidecar]), json!([c("1"), c("2")]), "4"),
        ] {
            let total = pod_total(&json!({"initContainers":init,"containers":main}), "requests");
            assert_eq!(total["cpu"].to_string(), expected, "{init} {main}");
        }
        let with_overhead = json!({"containers":[c("1")],"overhead":{"cpu":"500m"}});
        assert_eq!(pod_total(&with_overhead, "requests")["cpu"].to_string(), "1500m");
    }

    #[test]
    fn every_kind_of_usage() {
        let pod = json!({"spec":{"containers":[{"resources":{
            "requests":{"cpu":"1","nvidia.com/gpu":"2","ephemeral-storage":"1Gi"},"limits":{"memory":"1Gi"}}}]}});
        for (group, plural, object, expected) in [
            (
                "",
                "pods",
                pod.clone(),
                "count/pods=1 cpu=1 ephemeral-storage=1Gi limits.memory=1Gi pods=1 requests.cpu=1 \
                 requests.ephemeral-storage=1Gi requests.nvidia.com/gpu=2",
            ),
            ("", "pods", json!({"status":{"phase":"Failed"},"spec":pod["spec"]}), "count/pods=1"),
            (
                "",
                "services",
                json!({"spec":{"type":"LoadBalancer","ports":[{},{}]}}),
                "count/services=1 services=1 services.loadbalancers=1 services.nodeports=2",
            ),
            (
                "",
                "services",
                json!({"spec":{"type":"LoadBalancer","allocateLoadBalancerNodePorts":false,"ports":[{},{"nodePort":3}]}}),
                "count/services=1 services=1 services.loadbalancers=1 services.nodeports=1",
            ),
            (
                "",
                "persistentvolumeclaims",
                json!({"spec":{"storageClassName":"fast","resources":{"requests":{"storage":"1Gi"}}}}),
                "count/persistentvolumeclaims=1 fast.storageclass.storage.k8s.io/persistentvolumeclaims=1 \
                 fast.storageclass.storage.k8s.io/requests.storage=1Gi persistentvolumeclaims=1 requests.storage=1Gi",
            ),
            ("", "secrets", json!({}), "count/secrets=1 secrets=1"),
            ("apps", "deployments", json!({}), "count/deployments.apps=1"),
            ("example.com", "widgets", json!({}), "count/widgets.example.com=1"),
            (
                "resource.k8s.io",
                "resourceclaims",
                json!({"spec":{"devices":{"requests":[
                    {"exactly":{"deviceClassName":"gpu","count":2}},
                    {"firstAvailable":[{"deviceClassName":"gpu","count":1},{"deviceClassName":"tpu","allocationMode":"All"}]}]}}}),
                "count/resourceclaims.resource.k8s.io=1 gpu.deviceclass.resource.k8s.io/devices=3 \
                 tpu.deviceclass.resource.k8s.io/devices=32",
            ),
        ] {
            assert_eq!(shown(&usage_of(group, plural, &object)), expected);
            // The recount finds each name under the resource that it came from.
            for name in usage_of(group, plural, &object).keys() {
                assert_eq!(counted_by(name), Some((group.to_string(), plural.to_string())), "{name}");
            }
        }
        assert_eq!(counted_by("bananas"), None);
    }

    #[test]
    fn scopes() {
        let pod = |spec: Value| json!({"spec": spec});
        let limited = json!([{"resources":{"limits":{"cpu":"1"}}}]);
        let affine =
            |term: Value| json!({"affinity":{"podAffinity":{"requiredDuringSchedulingIgnoredDuringExecution":[term]}}});
        let by = |operator: &str, values: &[&str]| {
            json!({"scopeSelector":{"matchExpressions":[
            {"scopeName":"PriorityClass","operator":operator,"values":values}]}})
        };
        for (quota, spec, expected) in [
            (json!({}), json!({}), true),
            (json!({"scopes":["BestEffort"]}), json!({}), true),
            (json!({"scopes":["BestEffort"]}), json!({"containers":limited}), false),
            (json!({"scopes":["NotBestEffort"]}), json!({"containers":limited}), true),
            (json!({"scopes":["Terminating"]}), json!({"activeDeadlineSeconds":1}), true),
            (json!({"scopes":["NotTerminating"]}), json!({"activeDeadlineSeconds":1}), false),
            (json!({"scopes":["Terminating","BestEffort"]}), json!({"activeDeadlineSeconds":1}), true),
            (json!({"scopes":["CrossNamespacePodAffinity"]}), affine(json!({"namespaces":["a"]})), true),
            (json!({"scopes":["CrossNamespacePodAffinity"]}), affine(json!({"namespaceSelector":{}})), true),
            (json!({"scopes":["CrossNamespacePodAffinity"]}), affine(json!({})), false),
            (by("In", &["high"]), json!({"priorityClassName":"high"}), true),
            (by("In", &["high"]), json!({"priorityClassName":"low"}), false),
            (by("NotIn", &["high"]), json!({}), true),
            (by("Exists", &[]), json!({}), false),
            (by("DoesNotExist", &[]), json!({}), true),
        ] {
            assert_eq!(in_scope(&quota, "", "pods", &pod(spec.clone())), expected, "{quota} {spec}");
        }
        let vac = json!({"scopeSelector":{"matchExpressions":[
            {"scopeName":"VolumeAttributesClass","operator":"In","values":["gold"]}]}});
        let claim = json!({"spec":{"volumeAttributesClassName":"gold"}});
        assert!(in_scope(&vac, "", "persistentvolumeclaims", &claim));
        assert!(!in_scope(&vac, "", "persistentvolumeclaims", &json!({})));
        assert!(!in_scope(&vac, "", "pods", &claim));
        assert!(!in_scope(&json!({"scopes":["BestEffort"]}), "", "services", &json!({})));
    }
}
