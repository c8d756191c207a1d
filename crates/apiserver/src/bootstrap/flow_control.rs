//! The mandatory and suggested objects of API Priority and Fairness.
//! Source: "API Priority and Fairness", mandatory and suggested configuration objects.

use serde_json::{Value, json};

const AUTOUPDATE: &str = "apf.kubernetes.io/autoupdate-spec";

pub fn objects() -> Vec<Value> {
    let mut out: Vec<Value> = Vec::new();
    out.push(level(
        "exempt",
        json!({"type": "Exempt", "exempt": {"nominalConcurrencyShares": 0, "lendablePercent": 0}}),
    ));
    out.push(level("catch-all", limited(5, 0, None)));
    // (name, shares, lendable percent, (queues, hand size, queue length))
    for (name, shares, lendable, queues) in [
        ("system", 30, 33, (64, 6, 50)),
        ("node-high", 40, 25, (64, 6, 50)),
        ("leader-election", 10, 0, (16, 4, 50)),
        ("workload-high", 40, 50, (128, 6, 50)),
        ("workload-low", 100, 90, (128, 6, 50)),
        ("global-default", 20, 50, (128, 6, 50)),
    ] {
        out.push(level(name, limited(shares, lendable, Some(queues))));
    }
    let group = |name: &str| json!({"kind": "Group", "group": {"name": name}});
    let user = |name: &str| json!({"kind": "User", "user": {"name": name}});
    let account = |namespace: &str, name: &str| json!({"kind": "ServiceAccount", "serviceAccount": {"namespace": namespace, "name": name}});
    let everyone = || json!([group("system:unauthenticated"), group("system:authenticated")]);
    let any_path = || json!([{"verbs": ["*"], "nonResourceURLs": ["*"]}]);
    let anything =
        || json!([{"verbs": ["*"], "apiGroups": ["*"], "resources": ["*"], "clusterScope": true, "namespaces": ["*"]}]);
    let leases = || {
        json!([{"verbs": ["get", "create", "update"], "apiGroups": ["coordination.k8s.io"],
                            "resources": ["leases"], "namespaces": ["*"]}])
    };
    let system_leases = || {
        json!([{"verbs": ["get", "create", "update"], "apiGroups": ["coordination.k8s.io"],
                                   "resources": ["leases"], "namespaces": ["kube-system"]}])
    };
    let by_user = Some("ByUser");
    let rows = [
        ("exempt", "exempt", 1, None, json!([group("system:masters")]), anything(), any_path()),
        (
            "probes",
            "exempt",
            2,
            None,
            everyone(),
            Value::Null,
            json!([{"verbs": ["get"], "nonResourceURLs": ["/healthz", "/readyz", "/livez"]}]),
        ),
        (
            "system-leader-election",
            "leader-election",
            100,
            by_user,
            json!([user("system:kube-controller-manager"), user("system:kube-scheduler"), account("kube-system", "*")]),
            system_leases(),
            Value::Null,
        ),
        (
            "endpoint-controller",
            "workload-high",
            150,
            by_user,
            json!([
                user("system:kube-controller-manager"),
                account("kube-system", "endpoint-controller"),
                account("kube-system", "endpointslicemirroring-controller")
            ]),
            json!([{"verbs": ["get", "create", "update"], "apiGroups": [""], "resources": ["endpoints"],
                    "namespaces": ["*"]}]),
            Value::Null,
        ),
        (
            "workload-leader-election",
            "leader-election",
            200,
            by_user,
            json!([account("kube-system", "*")]),
            leases(),
            Value::Null,
        ),
        (
            "system-node-high",
            "node-high",
            400,
            by_user,
            json!([group("system:nodes")]),
            json!([
                {"verbs": ["*"], "apiGroups": [""], "resources": ["nodes", "nodes/status"], "clusterScope": true,
                 "namespaces": ["*"]},
                {"verbs": ["*"], "apiGroups": ["coordination.k8s.io"], "resources": ["leases"], "namespaces": ["*"]}
            ]),
            Value::Null,
        ),
        ("system-nodes", "system", 500, by_user, json!([group("system:nodes")]), anything(), any_path()),
        (
            "kube-controller-manager",
            "workload-high",
            800,
            Some("ByNamespace"),
            json!([user("system:kube-controller-manager")]),
            anything(),
            any_path(),
        ),
        (
            "kube-scheduler",
            "workload-high",
            800,
            Some("ByNamespace"),
            json!([user("system:kube-scheduler")]),
            anything(),
            any_path(),
        ),
        (
            "kube-system-service-accounts",
            "workload-high",
            900,
            Some("ByNamespace"),
            json!([account("kube-system", "*")]),
            anything(),
            any_path(),
        ),
        (
            "service-accounts",
            "workload-low",
            9000,
            by_user,
            json!([group("system:serviceaccounts")]),
            anything(),
            any_path(),
        ),
        ("global-default", "global-default", 9900, by_user, everyone(), anything(), any_path()),
        ("catch-all", "catch-all", 10000, by_user, everyone(), anything(), any_path()),
    ];
    for (name, level, precedence, distinguisher, subjects, resources, urls) in rows {
        let mut rule = json!({"subjects": subjects});
        if !resources.is_null() {
            rule["resourceRules"] = resources;
        }
        if !urls.is_null() {
            rule["nonResourceRules"] = urls;
        }
        let mut spec = json!({
            "priorityLevelConfiguration": {"name": level},
            "matchingPrecedence": precedence,
            "rules": [rule],
        });
        if let Some(kind) = distinguisher {
            spec["distinguisherMethod"] = json!({"type": kind});
        }
        out.push(object("FlowSchema", name, spec));
    }
    out
}

fn object(kind: &str, name: &str, spec: Value) -> Value {
    json!({"apiVersion": "flowcontrol.apiserver.k8s.io/v1", "kind": kind,
           "metadata": {"name": name, "annotations": {AUTOUPDATE: "true"}}, "spec": spec})
}

fn level(name: &str, spec: Value) -> Value {
    object("PriorityLevelConfiguration", name, spec)
}

fn limited(shares: i64, lendable: i64, queues: Option<(i64, i64, i64)>) -> Value {
    let response = match queues {
        Some((queues, hand, length)) => json!({"type": "Queue", "queuing": {
            "queues": queues, "handSize": hand, "queueLengthLimit": length}}),
        None => json!({"type": "Reject"}),
    };
    json!({"type": "Limited", "limited": {
        "nominalConcurrencyShares": shares, "lendablePercent": lendable, "limitResponse": response}})
}

/// The objects without which the server can't work. Users can't take them over.
const MANDATORY: [&str; 2] = ["exempt", "catch-all"];

/// An object whose `spec` the server keeps as above; users take it over by setting the annotation to `false`.
pub fn is_maintained(existing: &Value) -> bool {
    existing["metadata"]["annotations"][AUTOUPDATE] == "true"
}

/// Brings an existing object back to what it should be, as far as that is the server's to say.
pub fn maintain(existing: &mut Value, desired: &Value) {
    let mandatory = MANDATORY.iter().any(|n| desired["metadata"]["name"] == *n);
    let follows = match existing["metadata"]["annotations"][AUTOUPDATE].as_str() {
        _ if mandatory => true,
        Some(text) => text == "true",
        // Somebody removed the annotation: whether they also changed the object tells what they want.
        None => existing["metadata"]["generation"].as_i64().unwrap_or(1) <= 1,
    };
    existing["metadata"]["annotations"][AUTOUPDATE] = if follows { "true" } else { "false" }.into();
    if !follows {
        return;
    }
    // How much of the server exempt requests are thought to take is the users' to say.
    let exempt = existing["spec"]["exempt"].clone();
    super::merge_fields(&mut existing["spec"], &desired["spec"]);
    if mandatory && exempt.is_object() {
        existing["spec"]["exempt"] = exempt;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_schema_has_its_level() {
        let all = objects();
        let has = |name: &Value| {
            all.iter().any(|o| o["kind"] == "PriorityLevelConfiguration" && o["metadata"]["name"] == *name)
        };
        let schemas: Vec<_> = all.iter().filter(|o| o["kind"] == "FlowSchema").collect();
        assert_eq!((schemas.len(), all.len()), (13, 21));
        for s in schemas {
            assert!(has(&s["spec"]["priorityLevelConfiguration"]["name"]), "{s}");
        }
    }
}
