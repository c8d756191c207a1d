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
        assert_eq!((schemas.len(), all.len()), (11, 19));
        for s in schemas {
            assert!(has(&s["spec"]["priorityLevelConfiguration"]["name"]), "{s}");
        }
    }

    fn joined(list: &Value) -> String {
        let words: Vec<&str> = list.as_array().into_iter().flatten().filter_map(Value::as_str).collect();
        words.join(",")
    }

    fn schema_line(o: &Value) -> String {
        let (spec, rules) = (&o["spec"], o["spec"]["rules"].as_array().unwrap());
        assert_eq!(rules.len(), 1);
        let subject = |s: &Value| match s["kind"].as_str().unwrap() {
            "Group" => format!("group {}", s["group"]["name"].as_str().unwrap()),
            "User" => format!("user {}", s["user"]["name"].as_str().unwrap()),
            _ => {
                let a = &s["serviceAccount"];
                format!("account {}/{}", a["namespace"].as_str().unwrap(), a["name"].as_str().unwrap())
            }
        };
        let subjects: Vec<String> = rules[0]["subjects"].as_array().unwrap().iter().map(subject).collect();
        let mut about: Vec<String> = Vec::new();
        for r in rules[0]["resourceRules"].as_array().into_iter().flatten() {
            let groups = joined(&r["apiGroups"]);
            let scope = if r["clusterScope"] == true { "+cluster" } else { "" };
            let (verbs, resources) = (joined(&r["verbs"]), joined(&r["resources"]));
            about.push(format!("{verbs} {groups}/{resources} in {}{scope}", joined(&r["namespaces"])));
        }
        for r in rules[0]["nonResourceRules"].as_array().into_iter().flatten() {
            about.push(format!("{} {}", joined(&r["verbs"]), joined(&r["nonResourceURLs"])));
        }
        format!(
            "{} {} {} {} | {} | {}",
            spec["matchingPrecedence"],
            o["metadata"]["name"].as_str().unwrap(),
            spec["priorityLevelConfiguration"]["name"].as_str().unwrap(),
            spec["distinguisherMethod"]["type"].as_str().unwrap_or("-"),
            subjects.join(", "),
            about.join("; "),
        )
    }

    fn level_line(o: &Value) -> String {
        let spec = &o["spec"];
        let kind = spec["type"].as_str().unwrap();
        let of = &spec[kind.to_lowercase()];
        let q = &of["limitResponse"]["queuing"];
        format!(
            "{} {kind} shares={} lendable={} {} queues={} hand={} length={} borrowing={}",
            o["metadata"]["name"].as_str().unwrap(),
            of["nominalConcurrencyShares"],
            of["lendablePercent"],
            of["limitResponse"]["type"].as_str().unwrap_or("-"),
            q["queues"],
            q["handSize"],
            q["queueLengthLimit"],
            of["borrowingLimitPercent"],
        )
    }

    /// Upstream's mandatory and suggested objects of 1.36, a line each.
    #[test]
    #[rustfmt::skip] // A table reads better with a row a line.
    fn everything_is_as_upstream_has_it() {
        let all = objects();
        let lines = |kind: &str, line: fn(&Value) -> String| {
            let mut lines: Vec<String> = all.iter().filter(|o| o["kind"] == kind).map(line).collect();
            lines.sort_by_cached_key(|l| (l.split(' ').next().and_then(|n| n.parse::<u32>().ok()), l.clone()));
            lines
        };
        let expected = [
            "1 exempt exempt - | group system:masters | * */* in *+cluster; * *",
            "2 probes exempt - | group system:unauthenticated, group system:authenticated | get /healthz,/readyz,/livez",
            "100 system-leader-election leader-election ByUser | user system:kube-controller-manager, user system:kube-scheduler, account kube-system/* | get,create,update coordination.k8s.io/leases in *",
            "400 system-node-high node-high ByUser | group system:nodes | * /nodes,nodes/status in *+cluster; * coordination.k8s.io/leases in *",
            "500 system-nodes system ByUser | group system:nodes | * */* in *+cluster; * *",
            "800 kube-controller-manager workload-high ByNamespace | user system:kube-controller-manager | * */* in *+cluster; * *",
            "800 kube-scheduler workload-high ByNamespace | user system:kube-scheduler | * */* in *+cluster; * *",
            "900 kube-system-service-accounts workload-high ByNamespace | account kube-system/* | * */* in *+cluster; * *",
            "9000 service-accounts workload-low ByUser | group system:serviceaccounts | * */* in *+cluster; * *",
            "9900 global-default global-default ByUser | group system:unauthenticated, group system:authenticated | * */* in *+cluster; * *",
            "10000 catch-all catch-all ByUser | group system:unauthenticated, group system:authenticated | * */* in *+cluster; * *",
        ];
        assert_eq!(lines("FlowSchema", schema_line), expected);
        let expected = [
            "catch-all Limited shares=5 lendable=0 Reject queues=null hand=null length=null borrowing=null",
            "exempt Exempt shares=0 lendable=0 - queues=null hand=null length=null borrowing=null",
            "global-default Limited shares=20 lendable=50 Queue queues=128 hand=6 length=50 borrowing=null",
            "leader-election Limited shares=10 lendable=0 Queue queues=16 hand=4 length=50 borrowing=null",
            "node-high Limited shares=40 lendable=25 Queue queues=64 hand=6 length=50 borrowing=null",
            "system Limited shares=30 lendable=33 Queue queues=64 hand=6 length=50 borrowing=null",
            "workload-high Limited shares=40 lendable=50 Queue queues=128 hand=6 length=50 borrowing=null",
            "workload-low Limited shares=100 lendable=90 Queue queues=128 hand=6 length=50 borrowing=null",
        ];
        assert_eq!(lines("PriorityLevelConfiguration", level_line), expected);
    }
}
