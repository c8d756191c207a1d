//! What a cluster holds before anybody has made anything: namespaces, default RBAC policy, priority classes, flow
//! control, the `kubernetes` Service. What counts time is apart: the server's own Lease (`identity.rs`), and what
//! `run.rs` notes once.
//!
//! In: [`Options`] of this cluster, and at every start the objects that exist. Out: [`objects`], what should be;
//! [`plan`], what to do about one of them. Pure: the server executes the actions.

pub mod flow_control;
pub mod identity;
pub mod policy;
pub mod rbac;
pub mod run;

pub use run::{ensure, keep};

use serde_json::{Value, json};
use std::net::IpAddr;

/// `false` on a default RBAC object tells the server to leave it alone.
pub const AUTOUPDATE: &str = "rbac.authorization.kubernetes.io/autoupdate";

#[derive(Clone, Debug)]
pub struct Options {
    /// Where clients reach this API server; becomes the endpoints of the `kubernetes` Service.
    pub advertise_addresses: Vec<IpAddr>,
    pub secure_port: u16,
    /// First address of the service CIDR.
    pub service_ip: IpAddr,
    /// One or (dual stack) two.
    pub service_cidrs: Vec<String>,
    /// PEM; clients that aggregated API servers may trust.
    pub client_ca_pem: String,
    /// PEM of the authority that signs the front proxy.
    pub front_proxy_ca_pem: String,
}

/// Everything that should exist, in an order in which it can be created.
pub fn objects(options: &Options) -> Vec<Value> {
    let mut out: Vec<Value> = namespaces().collect();
    out.extend(priority_classes());
    out.extend(flow_control::objects());
    out.extend(rbac::objects());
    out.push(extension_authentication(options));
    out.push(service_cidr(options));
    out.extend(kubernetes_service(options));
    out
}

/// What is kept while the server runs, too.
fn indispensable(options: &Options) -> Vec<Value> {
    namespaces().chain([service_cidr(options)]).chain(kubernetes_service(options)).collect()
}

/// Where Services get their addresses from, unless users add more.
fn service_cidr(options: &Options) -> Value {
    json!({
        "apiVersion": "networking.k8s.io/v1", "kind": "ServiceCIDR", "metadata": {"name": "kubernetes"},
        "spec": {"cidrs": options.service_cidrs},
    })
}

fn namespaces() -> impl Iterator<Item = Value> {
    ["default", "kube-system", "kube-public", "kube-node-lease"].into_iter().map(namespace)
}

fn namespace(name: &str) -> Value {
    json!({
        "apiVersion": "v1", "kind": "Namespace",
        "metadata": {"name": name, "labels": {"kubernetes.io/metadata.name": name}},
        "spec": {"finalizers": ["kubernetes"]},
    })
}

fn priority_classes() -> Vec<Value> {
    [
        (
            "system-node-critical",
            2_000_001_000,
            "Used for system critical pods that must not be moved from their current node.",
        ),
        (
            "system-cluster-critical",
            2_000_000_000,
            "Used for system critical pods that must run in the cluster, but can be moved to another node if necessary.",
        ),
    ]
    .iter()
    .map(|(name, value, description)| {
        json!({"apiVersion": "scheduling.k8s.io/v1", "kind": "PriorityClass", "metadata": {"name": name},
               "value": value, "description": description, "preemptionPolicy": "PreemptLowerPriority"})
    })
    .collect()
}

/// By which aggregated API servers learn whom to trust.
fn extension_authentication(o: &Options) -> Value {
    json!({
        "apiVersion": "v1", "kind": "ConfigMap",
        "metadata": {"namespace": "kube-system", "name": "extension-apiserver-authentication"},
        "data": {
            "client-ca-file": o.client_ca_pem,
            "requestheader-client-ca-file": o.front_proxy_ca_pem,
            "requestheader-allowed-names": "[\"front-proxy-client\"]",
            "requestheader-username-headers": "[\"X-Remote-User\"]",
            "requestheader-uid-headers": "[\"X-Remote-Uid\"]",
            "requestheader-group-headers": "[\"X-Remote-Group\"]",
            "requestheader-extra-headers-prefix": "[\"X-Remote-Extra-\"]",
        },
    })
}

/// The `kubernetes` Service in `default`, with Endpoints and an EndpointSlice that no controller makes.
fn kubernetes_service(o: &Options) -> Vec<Value> {
    let family = |ip: &IpAddr| if ip.is_ipv4() { "IPv4" } else { "IPv6" };
    let own = family(&o.service_ip);
    let addresses: Vec<&IpAddr> = o.advertise_addresses.iter().filter(|a| family(a) == own).collect();
    let mut out = vec![json!({
        "apiVersion": "v1", "kind": "Service",
        "metadata": {"namespace": "default", "name": "kubernetes",
                     "labels": {"component": "apiserver", "provider": "kubernetes"}},
        "spec": {
            "type": "ClusterIP", "clusterIP": o.service_ip.to_string(), "clusterIPs": [o.service_ip.to_string()],
            "ipFamilies": [own], "ipFamilyPolicy": "SingleStack",
            "internalTrafficPolicy": "Cluster", "sessionAffinity": "None",
            "ports": [{"name": "https", "protocol": "TCP", "port": 443, "targetPort": o.secure_port}],
        },
    })];
    if addresses.is_empty() {
        return out;
    }
    let port = json!([{"name": "https", "protocol": "TCP", "port": o.secure_port}]);
    out.push(json!({
        "apiVersion": "v1", "kind": "Endpoints",
        "metadata": {"namespace": "default", "name": "kubernetes",
                     "labels": {"endpointslice.kubernetes.io/skip-mirror": "true"}},
        "subsets": [{
            "addresses": addresses.iter().map(|a| json!({"ip": a.to_string()})).collect::<Vec<_>>(),
            "ports": port,
        }],
    }));
    out.push(json!({
        "apiVersion": "discovery.k8s.io/v1", "kind": "EndpointSlice",
        "metadata": {"namespace": "default", "name": "kubernetes",
                     "labels": {"kubernetes.io/service-name": "kubernetes"}},
        "addressType": own,
        "endpoints": addresses
            .iter()
            .map(|a| json!({"addresses": [a.to_string()], "conditions": {"ready": true}}))
            .collect::<Vec<_>>(),
        "ports": port,
    }));
    out
}

/// What to do about one object.
#[derive(Clone, Debug, PartialEq)]
pub enum Action {
    Nothing,
    Create(Value),
    /// The whole object, with the existing one's metadata.
    Update(Value),
    /// A binding's `roleRef` can't be changed in place.
    Recreate(Value),
}

/// Closes the gap between what exists and what should be, without taking away what users added.
pub fn plan(existing: Option<&Value>, desired: &Value) -> Action {
    let Some(existing) = existing else { return Action::Create(desired.clone()) };
    let mut merged = existing.clone();
    match desired["kind"].as_str().unwrap_or_default() {
        "ClusterRole" | "Role" => {
            if !updatable(existing) {
                return Action::Nothing;
            }
            merge_metadata(&mut merged, desired);
            // An aggregated role's rules belong to its aggregation.
            if desired["aggregationRule"].is_null() {
                append_missing_rules(&mut merged, desired);
            } else {
                merge_list(&mut merged, desired, &["aggregationRule", "clusterRoleSelectors"]);
            }
        }
        "ClusterRoleBinding" | "RoleBinding" => {
            if !updatable(existing) {
                return Action::Nothing;
            }
            merge_metadata(&mut merged, desired);
            merge_list(&mut merged, desired, &["subjects"]);
            if existing["roleRef"] != desired["roleRef"] {
                merged["roleRef"] = desired["roleRef"].clone();
                // A new object, so without the old one's identity.
                let mut fresh = desired.clone();
                for field in ["labels", "annotations"] {
                    fresh["metadata"][field] = merged["metadata"][field].clone();
                }
                if !merged["subjects"].is_null() {
                    fresh["subjects"] = merged["subjects"].clone();
                }
                return Action::Recreate(fresh);
            }
        }
        "FlowSchema" | "PriorityLevelConfiguration" => {
            flow_control::maintain(&mut merged, desired);
        }
        "ConfigMap" => merge_fields(&mut merged["data"], &desired["data"]),
        "Service" => {
            merge_metadata(&mut merged, desired);
            if existing["spec"]["ports"] != desired["spec"]["ports"] && !same_ports(existing, desired) {
                merged["spec"]["ports"] = desired["spec"]["ports"].clone();
            }
        }
        "Endpoints" => {
            merge_metadata(&mut merged, desired);
            merged["subsets"] = desired["subsets"].clone();
        }
        "EndpointSlice" => {
            merge_metadata(&mut merged, desired);
            merged["endpoints"] = desired["endpoints"].clone();
            merged["ports"] = desired["ports"].clone();
        }
        "Lease" => {
            merge_metadata(&mut merged, desired);
            merge_fields(&mut merged["spec"], &desired["spec"]);
        }
        // Made once; afterwards they are the users'.
        _ => return Action::Nothing,
    }
    if &merged == existing { Action::Nothing } else { Action::Update(merged) }
}

fn updatable(existing: &Value) -> bool {
    existing["metadata"]["annotations"][AUTOUPDATE] != "false"
}

/// Ports may have got a nodePort or other defaults since.
fn same_ports(existing: &Value, desired: &Value) -> bool {
    let key = |v: &Value| -> Vec<[Value; 3]> {
        v["spec"]["ports"]
            .as_array()
            .map(|a| a.iter().map(|p| ["name", "port", "targetPort"].map(|k| p[k].clone())).collect())
            .unwrap_or_default()
    };
    key(existing) == key(desired)
}

/// Labels and annotations that are missing; those that exist with another value are the user's.
fn merge_metadata(merged: &mut Value, desired: &Value) {
    for field in ["labels", "annotations"] {
        let Some(wanted) = desired["metadata"][field].as_object() else { continue };
        for (k, v) in wanted {
            if merged["metadata"][field].get(k).is_none() {
                merged["metadata"][field][k] = v.clone();
            }
        }
    }
}

/// Sets every field that `desired` names, and leaves others.
pub(crate) fn merge_fields(merged: &mut Value, desired: &Value) {
    match (merged.as_object_mut(), desired.as_object()) {
        (Some(have), Some(want)) => {
            for (k, v) in want {
                merge_fields(have.entry(k.clone()).or_insert(Value::Null), v);
            }
        }
        _ => *merged = desired.clone(),
    }
}

/// Appends the items that are missing.
fn merge_list(merged: &mut Value, desired: &Value, path: &[&str]) {
    let mut want = desired;
    for p in path {
        want = &want[*p];
    }
    let Some(want) = want.as_array().filter(|w| !w.is_empty()) else { return };
    let mut have = merged;
    for p in path {
        have = &mut have[*p];
    }
    if have.is_null() {
        *have = json!([]);
    }
    if let Some(have) = have.as_array_mut() {
        for item in want {
            if !have.contains(item) {
                have.push(item.clone());
            }
        }
    }
}

/// Only rights that the role doesn't hold yet in one form or another.
fn append_missing_rules(merged: &mut Value, desired: &Value) {
    use crate::authz::rules::{PolicyRule, compact, covers};
    let (have, want) = (PolicyRule::list_from(merged), PolicyRule::list_from(desired));
    if let Err(missing) = covers(&have, &want) {
        let mut rules = have;
        rules.extend(compact(&missing));
        merged["rules"] = rules.iter().map(PolicyRule::to_value).collect();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn options() -> Options {
        Options {
            advertise_addresses: vec!["192.0.2.7".parse().unwrap(), "2001:db8::7".parse().unwrap()],
            secure_port: 6443,
            service_ip: "10.43.0.1".parse().unwrap(),
            service_cidrs: vec!["10.43.0.0/16".into()],
            client_ca_pem: "CA".into(),
            front_proxy_ca_pem: "FP".into(),
        }
    }

    fn one(kind: &str, name: &str) -> Value {
        objects(&options()).into_iter().find(|o| o["kind"] == kind && o["metadata"]["name"] == name).unwrap()
    }

    #[test]
    fn a_second_start_has_nothing_to_do() {
        for desired in objects(&options()) {
            assert_eq!(plan(Some(&desired), &desired), Action::Nothing, "{desired}");
            assert_eq!(plan(None, &desired), Action::Create(desired.clone()));
            // As the server stores it: with metadata of its own.
            let mut stored = desired.clone();
            stored["metadata"]["uid"] = "u".into();
            assert_eq!(plan(Some(&stored), &desired), Action::Nothing, "{desired}");
        }
    }

    #[test]
    fn missing_rules_come_back_and_added_ones_stay() {
        let desired = one("ClusterRole", "system:kube-dns");
        let mut mine = desired.clone();
        mine["rules"] = json!([{"apiGroups":["x"],"resources":["y"],"verbs":["get"]},
                               {"apiGroups":[""],"resources":["services"],"verbs":["list","watch"]}]);
        mine["metadata"]["labels"]["mine"] = "1".into();
        let Action::Update(new) = plan(Some(&mine), &desired) else { panic!() };
        assert_eq!(
            new["rules"],
            json!([{"apiGroups":["x"],"resources":["y"],"verbs":["get"]},
                   {"apiGroups":[""],"resources":["services"],"verbs":["list","watch"]},
                   {"apiGroups":[""],"resources":["endpoints"],"verbs":["list","watch"]}])
        );
        assert_eq!(new["metadata"]["labels"]["mine"], "1");
        assert_eq!(plan(Some(&new), &desired), Action::Nothing);
        mine["metadata"]["annotations"][AUTOUPDATE] = "false".into();
        assert_eq!(plan(Some(&mine), &desired), Action::Nothing);
        // Wider rights need no repair.
        let mut wide = desired.clone();
        wide["rules"] = json!([{"apiGroups":["*"],"resources":["*"],"verbs":["*"]}]);
        assert_eq!(plan(Some(&wide), &desired), Action::Nothing);
    }

    #[test]
    fn bindings_keep_added_subjects_and_change_roles_by_recreation() {
        let desired = one("ClusterRoleBinding", "system:discovery");
        let mut mine = desired.clone();
        let extra = json!({"apiGroup":"rbac.authorization.k8s.io","kind":"User","name":"x"});
        mine["subjects"] = json!([extra]);
        let Action::Update(new) = plan(Some(&mine), &desired) else { panic!() };
        assert_eq!(new["subjects"], json!([extra, desired["subjects"][0]]));
        mine["roleRef"]["name"] = "other".into();
        mine["metadata"]["uid"] = "u".into();
        let Action::Recreate(new) = plan(Some(&mine), &desired) else { panic!() };
        assert_eq!((&new["roleRef"], new["subjects"].as_array().unwrap().len()), (&desired["roleRef"], 2));
        assert!(new["metadata"]["uid"].is_null());
    }

    #[test]
    fn a_moved_server_moves_its_endpoints_and_keeps_its_service() {
        let mut moved = options();
        moved.advertise_addresses = vec!["192.0.2.8".parse().unwrap()];
        for desired in objects(&moved) {
            let before = objects(&options()).into_iter().find(|o| {
                o["kind"] == desired["kind"]
                    && o["metadata"]["name"] == desired["metadata"]["name"]
                    && o["metadata"]["namespace"] == desired["metadata"]["namespace"]
            });
            let action = plan(before.as_ref(), &desired);
            match desired["kind"].as_str().unwrap() {
                "Endpoints" | "EndpointSlice" => {
                    let Action::Update(new) = action else { panic!("{desired}") };
                    assert!(new.to_string().contains("192.0.2.8") && !new.to_string().contains("192.0.2.7"));
                }
                _ => assert_eq!(action, Action::Nothing, "{desired}"),
            }
        }
        let slice = one("EndpointSlice", "kubernetes");
        assert_eq!(slice["endpoints"].as_array().unwrap().len(), 1);
    }

    #[test]
    fn flow_control_follows_the_server_until_a_user_takes_it_over() {
        let desired = one("PriorityLevelConfiguration", "workload-low");
        let mut mine = desired.clone();
        mine["spec"]["limited"]["nominalConcurrencyShares"] = 7.into();
        assert_eq!(plan(Some(&mine), &desired), Action::Update(desired.clone()));
        mine["metadata"]["annotations"]["apf.kubernetes.io/autoupdate-spec"] = "false".into();
        assert_eq!(plan(Some(&mine), &desired), Action::Nothing);
    }
}
