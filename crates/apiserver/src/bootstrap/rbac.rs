//! The default RBAC objects, made of the policy table.

use super::policy::{CLUSTER_BINDINGS, CLUSTER_ROLES, CONTROLLERS, NAMESPACE_BINDINGS, NAMESPACE_ROLES};
use crate::authz::node::NODE_RULES;
use crate::authz::rules::PolicyRule;
use serde_json::{Value, json};

const GROUP: &str = "rbac.authorization.k8s.io";
const AGGREGATE: &str = "rbac.authorization.k8s.io/aggregate-to-";

/// (role, what it gathers, what it is gathered into)
const AGGREGATED: &[(&str, &str, Option<&str>)] =
    &[("admin", "admin", None), ("edit", "edit", Some("admin")), ("view", "view", Some("edit"))];

pub fn objects() -> Vec<Value> {
    let mut out = Vec::new();
    for role in CLUSTER_ROLES {
        let mut v = cluster_role(role.name, parse_all(role.rules));
        if let Some(into) = role.name.strip_prefix("system:aggregate-to-") {
            v["metadata"]["labels"][format!("{AGGREGATE}{into}")] = "true".into();
        }
        out.push(v);
    }
    out.push(cluster_role("system:node", NODE_RULES.clone()));
    for (name, gathers, into) in AGGREGATED {
        let mut v = cluster_role(name, Vec::new());
        v["aggregationRule"] =
            json!({"clusterRoleSelectors": [{"matchLabels": {format!("{AGGREGATE}{gathers}"): "true"}}]});
        if let Some(into) = into {
            v["metadata"]["labels"][format!("{AGGREGATE}{into}")] = "true".into();
        }
        out.push(v);
    }
    for controller in CONTROLLERS {
        out.push(cluster_role(&format!("system:controller:{}", controller.name), parse_all(controller.rules)));
    }
    fill_aggregated(&mut out);
    for (role, users, groups, accounts) in CLUSTER_BINDINGS {
        out.push(binding("", role, ("ClusterRole", role), users, groups, accounts));
    }
    for controller in CONTROLLERS {
        let name = format!("system:controller:{}", controller.name);
        out.push(binding("", &name, ("ClusterRole", &name), &[], &[], &[controller.name]));
    }
    for (namespace, role) in NAMESPACE_ROLES {
        let mut v = object("Role", role.name);
        v["metadata"]["namespace"] = (*namespace).into();
        v["rules"] = parse_all(role.rules).iter().map(PolicyRule::to_value).collect();
        out.push(v);
    }
    for (namespace, name, role, users, accounts) in NAMESPACE_BINDINGS {
        out.push(binding(namespace, name, ("Role", role), users, &[], accounts));
    }
    out
}

/// Rules of roles with an `aggregationRule` are the rules of the roles that it selects. The aggregation controller
/// keeps them so; this makes them right from the first moment.
pub fn fill_aggregated(objects: &mut [Value]) {
    // edit gathers view, admin gathers edit: three rounds settle any chain of the default roles.
    for _ in 0..AGGREGATED.len() {
        let snapshot: Vec<Value> = objects.to_vec();
        for role in objects.iter_mut().filter(|o| o["kind"] == "ClusterRole" && !o["aggregationRule"].is_null()) {
            role["rules"] = aggregate(role, &snapshot).iter().map(PolicyRule::to_value).collect();
        }
    }
}

/// What an aggregated role's rules should be, given all cluster roles. Each rule once, in the order of the roles'
/// names.
pub fn aggregate(role: &Value, all: &[Value]) -> Vec<PolicyRule> {
    let selectors = role["aggregationRule"]["clusterRoleSelectors"].as_array().map(Vec::as_slice).unwrap_or_default();
    let mut chosen: Vec<&Value> = all
        .iter()
        .filter(|o| o["kind"] == "ClusterRole" && o["metadata"]["name"] != role["metadata"]["name"])
        .filter(|o| selectors.iter().any(|s| selects(s, &o["metadata"]["labels"])))
        .collect();
    chosen.sort_by_key(|o| o["metadata"]["name"].as_str().unwrap_or_default());
    let mut rules: Vec<PolicyRule> = Vec::new();
    for rule in chosen.iter().flat_map(|o| PolicyRule::list_from(o)) {
        if !rules.contains(&rule) {
            rules.push(rule);
        }
    }
    rules
}

/// The default roles select by labels alone.
fn selects(selector: &Value, labels: &Value) -> bool {
    selector["matchLabels"]
        .as_object()
        .is_some_and(|m| !m.is_empty() && m.iter().all(|(k, v)| labels.get(k) == Some(v)))
}

fn object(kind: &str, name: &str) -> Value {
    json!({
        "apiVersion": format!("{GROUP}/v1"), "kind": kind,
        "metadata": {
            "name": name,
            "labels": {"kubernetes.io/bootstrapping": "rbac-defaults"},
            "annotations": {super::AUTOUPDATE: "true"},
        },
    })
}

fn cluster_role(name: &str, rules: Vec<PolicyRule>) -> Value {
    let mut v = object("ClusterRole", name);
    v["rules"] = rules.iter().map(PolicyRule::to_value).collect();
    v
}

fn binding(
    namespace: &str,
    name: &str,
    role: (&str, &str),
    users: &[&str],
    groups: &[&str],
    accounts: &[&str],
) -> Value {
    let mut v = object(if namespace.is_empty() { "ClusterRoleBinding" } else { "RoleBinding" }, name);
    if !namespace.is_empty() {
        v["metadata"]["namespace"] = namespace.into();
    }
    v["roleRef"] = json!({"apiGroup": GROUP, "kind": role.0, "name": role.1});
    let plain = |kind: &'static str| move |n: &&str| json!({"apiGroup": GROUP, "kind": kind, "name": n});
    let mut subjects: Vec<Value> = users.iter().map(plain("User")).collect();
    subjects.extend(groups.iter().map(plain("Group")));
    subjects.extend(accounts.iter().map(|n| json!({"kind": "ServiceAccount", "name": n, "namespace": "kube-system"})));
    if !subjects.is_empty() {
        v["subjects"] = subjects.into();
    }
    v
}

fn parse_all(lines: &[&str]) -> Vec<PolicyRule> {
    lines.iter().map(|l| parse(l)).collect()
}

/// One line of the table.
fn parse(line: &str) -> PolicyRule {
    let parts: Vec<Vec<String>> = line
        .split('|')
        .map(|part| part.split(',').map(|s| s.trim().to_string()).filter(|s| !s.is_empty()).collect())
        .collect();
    let group = |g: &String| if g == "core" { String::new() } else { g.clone() };
    match parts.as_slice() {
        [urls, verbs] => PolicyRule { non_resource_urls: urls.clone(), verbs: verbs.clone(), ..PolicyRule::default() },
        [groups, resources, verbs, names @ ..] => PolicyRule {
            api_groups: groups.iter().map(group).collect(),
            resources: resources.clone(),
            verbs: verbs.clone(),
            resource_names: names.concat(),
            ..PolicyRule::default()
        },
        _ => PolicyRule::default(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::authz::Attributes;
    use std::collections::BTreeSet;

    fn named(name: &str) -> Value {
        objects().into_iter().find(|o| o["kind"] == "ClusterRole" && o["metadata"]["name"] == name).unwrap()
    }

    #[test]
    fn every_line_of_the_table_is_a_whole_rule() {
        let all = objects();
        for o in all.iter().filter(|o| o["kind"].as_str().unwrap().ends_with("Role")) {
            let rules = PolicyRule::list_from(o);
            assert!(!rules.is_empty(), "{o}");
            for r in rules {
                let resource = !r.api_groups.is_empty() && !r.resources.is_empty() && r.non_resource_urls.is_empty();
                let url = r.api_groups.is_empty()
                    && r.non_resource_urls.iter().all(|u| u.starts_with('/') || u == "*")
                    && !r.non_resource_urls.is_empty();
                assert!((resource || url) && !r.verbs.is_empty(), "{r:?}");
                for item in r.api_groups.iter().chain(&r.resources).chain(&r.verbs).chain(&r.resource_names) {
                    assert!(!item.contains([' ', '|']), "{r:?}");
                }
            }
        }
    }

    #[test]
    fn names_are_unique_and_bindings_find_their_roles() {
        let all = objects();
        let key = |o: &Value| {
            let m = &o["metadata"];
            (o["kind"].to_string(), m["namespace"].to_string(), m["name"].to_string())
        };
        let keys: BTreeSet<_> = all.iter().map(key).collect();
        assert_eq!(keys.len(), all.len());
        for b in all.iter().filter(|o| !o["roleRef"].is_null()) {
            let namespace =
                if b["roleRef"]["kind"] == "Role" { b["metadata"]["namespace"].clone() } else { Value::Null };
            let wanted = (b["roleRef"]["kind"].to_string(), namespace.to_string(), b["roleRef"]["name"].to_string());
            assert!(keys.contains(&wanted), "{b}");
            assert_eq!(b["metadata"]["annotations"][crate::bootstrap::AUTOUPDATE], "true");
        }
    }

    #[test]
    fn admin_holds_edit_holds_view() {
        use crate::authz::rules::covers;
        let (admin, edit, view) = (named("admin"), named("edit"), named("view"));
        let rules = |v: &Value| PolicyRule::list_from(v);
        assert_eq!(covers(&rules(&admin), &rules(&edit)), Ok(()));
        assert_eq!(covers(&rules(&edit), &rules(&view)), Ok(()));
        assert!(covers(&rules(&view), &rules(&edit)).is_err());
        // View must never show secrets.
        assert!(covers(&rules(&view), &[PolicyRule::on("", "secrets", "get")]).is_err());
        assert_eq!(covers(&rules(&edit), &[PolicyRule::on("", "secrets", "get")]), Ok(()));
        assert_eq!(edit["metadata"]["labels"]["rbac.authorization.k8s.io/aggregate-to-admin"], "true");
    }

    /// Every name of a cluster role upstream has by default in 1.36, apart from its controllers'.
    const CLUSTER_ROLE_NAMES: &str = "\
        admin cluster-admin edit system:aggregate-to-admin system:aggregate-to-edit system:aggregate-to-view \
        system:auth-delegator system:basic-user \
        system:certificates.k8s.io:certificatesigningrequests:nodeclient \
        system:certificates.k8s.io:certificatesigningrequests:selfnodeclient \
        system:certificates.k8s.io:kube-apiserver-client-approver \
        system:certificates.k8s.io:kube-apiserver-client-kubelet-approver \
        system:certificates.k8s.io:kubelet-serving-approver system:certificates.k8s.io:legacy-unknown-approver \
        system:cluster-trust-bundle-discovery system:discovery system:heapster system:kube-aggregator \
        system:kube-controller-manager system:kube-dns system:kube-scheduler system:kubelet-api-admin \
        system:monitoring system:node system:node-bootstrapper system:node-problem-detector system:node-proxier \
        system:persistent-volume-provisioner system:public-info-viewer \
        system:service-account-issuer-discovery system:volume-scheduler view";
    /// `system:controller:…`; Skiff has one more, `pod-certificate-signer`.
    const CONTROLLER_NAMES: &str = "\
        attachdetach-controller certificate-controller clusterrole-aggregation-controller cronjob-controller \
        daemon-set-controller deployment-controller device-taint-eviction-controller disruption-controller \
        endpoint-controller endpointslice-controller endpointslicemirroring-controller ephemeral-volume-controller \
        expand-controller generic-garbage-collector horizontal-pod-autoscaler job-controller \
        kube-apiserver-serving-clustertrustbundle-publisher legacy-service-account-token-cleaner \
        namespace-controller node-controller persistent-volume-binder pod-certificate-signer pod-garbage-collector \
        podcertificaterequestcleaner pv-protection-controller pvc-protection-controller replicaset-controller \
        replication-controller resource-claim-controller resourcequota-controller root-ca-cert-publisher \
        route-controller selinux-warning-controller service-account-controller service-cidrs-controller \
        service-controller statefulset-controller storage-version-migrator-controller \
        ttl-after-finished-controller ttl-controller validatingadmissionpolicy-status-controller \
        volumeattributesclass-protection-controller";

    #[test]
    fn there_are_upstreams_roles_and_no_others() {
        let all = objects();
        let names: BTreeSet<String> =
            all.iter().filter(|o| o["kind"] == "ClusterRole").map(|o| text(&o["metadata"]["name"])).collect();
        let controllers = CONTROLLER_NAMES.split_whitespace().map(|n| format!("system:controller:{n}"));
        let expected: BTreeSet<String> =
            CLUSTER_ROLE_NAMES.split_whitespace().map(String::from).chain(controllers).collect();
        assert_eq!(names, expected);
        for o in &all {
            assert_eq!(o["metadata"]["labels"]["kubernetes.io/bootstrapping"], "rbac-defaults", "{o}");
        }
    }

    fn text(v: &Value) -> String {
        v.as_str().unwrap_or_default().to_string()
    }

    /// Upstream's answers, a row each: a role (`namespace/name` of a Role), a verb and what it is about, whether it may.
    /// A resource is `group/resource` or `group/resource=name`, a path begins with a slash.
    #[rustfmt::skip] // A table reads better with a row a line.
    const RIGHTS: &[(&str, &str, &str, bool)] = &[
        ("system:aggregate-to-edit", "create", "events.k8s.io/events", true),
        ("system:aggregate-to-edit", "create", "core/endpoints", false),
        ("system:aggregate-to-edit", "create", "discovery.k8s.io/endpointslices", false),
        ("system:aggregate-to-edit", "create", "core/serviceaccounts/token", true),
        ("system:aggregate-to-edit", "update", "resource.k8s.io/resourceclaims", true),
        ("system:aggregate-to-edit", "create", "core/resourcequotas", false),
        ("system:aggregate-to-view", "list", "events.k8s.io/events", true),
        ("system:aggregate-to-view", "get", "core/pods/log", true),
        ("system:aggregate-to-view", "get", "core/secrets", false),
        ("system:aggregate-to-view", "get", "core/pods/exec", false),
        ("system:aggregate-to-view", "get", "rbac.authorization.k8s.io/roles", false),
        ("system:discovery", "get", "/openapi/v3/apis", true),
        ("system:discovery", "get", "/metrics", false),
        ("system:public-info-viewer", "get", "/version", true),
        ("system:public-info-viewer", "get", "/apis", false),
        ("system:monitoring", "get", "/metrics/slis", true),
        ("system:monitoring", "get", "/livez/etcd", true),
        ("system:monitoring", "get", "/statusz", true),
        ("system:monitoring", "get", "/flagz", true),
        ("system:monitoring", "get", "core/nodes/metrics", true),
        ("system:monitoring", "get", "core/nodes/stats", false),
        // The account of taint eviction too.
        ("system:controller:node-controller", "delete", "core/pods", true),
        ("system:basic-user", "create", "authentication.k8s.io/selfsubjectreviews", true),
        ("system:basic-user", "create", "authorization.k8s.io/subjectaccessreviews", false),
        ("system:service-account-issuer-discovery", "get", "/openid/v1/jwks/", true),
        ("system:kubelet-api-admin", "create", "core/nodes/proxy", true),
        ("system:kubelet-api-admin", "get", "core/nodes/configz", true),
        ("system:node", "create", "core/pods/eviction", true),
        ("system:node", "deletecollection", "resource.k8s.io/resourceslices", true),
        ("system:node", "create", "resource.k8s.io/resourceslices", false),
        ("system:node", "create", "certificates.k8s.io/podcertificaterequests", true),
        ("system:node", "update", "storage.k8s.io/csinodes/status", false),
        ("system:node-proxier", "list", "networking.k8s.io/servicecidrs", true),
        ("system:kube-scheduler", "create", "coordination.k8s.io/leases", true),
        ("system:kube-scheduler", "list", "coordination.k8s.io/leases=kube-scheduler", true),
        ("system:kube-scheduler", "list", "coordination.k8s.io/leases=other", false),
        ("system:kube-scheduler", "update", "resource.k8s.io/resourceclaims/binding", true),
        ("system:kube-scheduler", "delete", "resource.k8s.io/resourceclaims", true),
        ("system:kube-scheduler", "list", "resource.k8s.io/devicetaintrules", false),
        ("system:kube-scheduler", "list", "scheduling.k8s.io/podgroups", false),
        ("system:kube-controller-manager", "watch", "example.com/anything", true),
        ("system:kube-controller-manager", "get", "example.com/anything", false),
        ("system:controller:cronjob-controller", "watch", "core/pods", true),
        ("system:controller:endpoint-controller", "watch", "core/endpoints", true),
        ("system:controller:endpoint-controller", "create", "core/endpoints/restricted", true),
        ("system:controller:endpointslice-controller", "watch", "discovery.k8s.io/endpointslices", true),
        ("system:controller:endpointslice-controller", "create", "discovery.k8s.io/endpointslices/restricted", false),
        ("system:controller:disruption-controller", "get", "core/pods", false),
        ("system:controller:device-taint-eviction-controller", "list", "resource.k8s.io/devicetaintrules", false),
        ("system:controller:expand-controller", "get", "core/secrets", false),
        ("system:controller:horizontal-pod-autoscaler", "watch", "external.metrics.k8s.io/queue", true),
        ("system:controller:job-controller", "patch", "batch/jobs/status", false),
        ("system:controller:namespace-controller", "watch", "example.com/anything", true),
        ("system:controller:node-controller", "list", "coordination.k8s.io/leases", true),
        ("system:controller:persistent-volume-binder", "get", "core/secrets", false),
        ("system:controller:persistent-volume-binder", "create", "core/endpoints", false),
        ("system:controller:pod-garbage-collector", "watch", "core/nodes", true),
        ("system:controller:podcertificaterequestcleaner", "create", "core/events", false),
        ("system:controller:pvc-protection-controller", "update", "core/persistentvolumeclaims/status", true),
        ("system:controller:resource-claim-controller", "patch", "resource.k8s.io/resourceclaims/binding", true),
        ("system:controller:resource-claim-controller", "get", "resource.k8s.io/resourceclaimtemplates", false),
        ("system:controller:statefulset-controller", "update", "core/pods/finalizers", true),
        ("system:controller:storage-version-migrator-controller", "patch", "example.com/anything", true),
        ("system:controller:storage-version-migrator-controller", "update", "example.com/anything", false),
        ("kube-system/system:controller:cloud-provider", "update", "core/configmaps", false),
        ("kube-system/system::leader-locking-kube-scheduler", "update", "coordination.k8s.io/leases=kube-scheduler", true),
        ("kube-system/system::leader-locking-kube-scheduler", "create", "coordination.k8s.io/leasecandidates", true),
        ("kube-system/system::leader-locking-kube-scheduler", "update", "core/configmaps=kube-scheduler", false),
        ("kube-public/system:controller:bootstrap-signer", "update", "core/configmaps=cluster-info", true),
        ("kube-public/system:controller:bootstrap-signer", "update", "core/configmaps=other", false),
    ];

    fn attributes(verb: &str, what: &str) -> Attributes {
        let verb = verb.to_string();
        if what.starts_with('/') {
            return Attributes { verb, path: what.to_string(), ..Attributes::default() };
        }
        let (what, name) = what.split_once('=').unwrap_or((what, ""));
        let parts: Vec<&str> = what.split('/').collect();
        Attributes {
            verb,
            is_resource: true,
            group: parts[0].strip_prefix("core").unwrap_or(parts[0]).to_string(),
            resource: parts[1].to_string(),
            subresource: parts.get(2).unwrap_or(&"").to_string(),
            name: name.to_string(),
            ..Attributes::default()
        }
    }

    #[test]
    fn roles_may_what_upstreams_may() {
        let all = objects();
        for (role, verb, what, may) in RIGHTS {
            let (namespace, name) = role.split_once('/').unwrap_or(("", role));
            let found = all.iter().find(|o| {
                let m = &o["metadata"];
                o["roleRef"].is_null() && m["name"] == name && m["namespace"].as_str().unwrap_or_default() == namespace
            });
            let rules = PolicyRule::list_from(found.unwrap_or_else(|| panic!("no {role}")));
            let asked = attributes(verb, what);
            assert_eq!(rules.iter().any(|r| r.allows(&asked)), *may, "{role} {verb} {what}");
        }
    }
}
