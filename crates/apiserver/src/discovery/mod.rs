//! Discovery: which groups, versions and resources are served, in each of the forms that clients ask for.
//!
//! In: the rows of the catalogue, custom resources among them. Out: plain JSON. Pure; caching is the caller's.
//!
//! | path | function |
//! |---|---|
//! | `/api` | [`api_versions`], or [`aggregated`] of the core group |
//! | `/apis` | [`group_list`], or [`aggregated`] of all other groups |
//! | `/apis/G` | [`group`] |
//! | `/api/v1`, `/apis/G/V` | [`resource_list`] |

use api::catalogue::{Resource, Subresource};
use base64::Engine;
use meta::names::version_priority;
use serde_json::{Map, Value, json};
use sha2::{Digest, Sha256};
use std::cmp::Reverse;
use std::sync::Arc;

/// `Content-Type` of the aggregated form.
pub const AGGREGATED_V2: &str = "application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList";
/// `Content-Type` of the aggregated form that clients before 1.30 ask for.
pub const AGGREGATED_V2BETA1: &str = "application/json;g=apidiscovery.k8s.io;v=v2beta1;as=APIGroupDiscoveryList";

/// The aggregated form that an `Accept` header asks for, `v2` or `v2beta1`, if any: the first that we know, as
/// clients list them in the order of their wish.
pub fn wants_aggregated(accept: &str) -> Option<&'static str> {
    accept.split(',').find_map(|range| {
        let mut parts = range.split(';').map(str::trim);
        let media_type = parts.next()?;
        let parameters: Vec<(&str, &str)> = parts.filter_map(|p| p.split_once('=')).collect();
        let get = |name: &str| parameters.iter().find(|p| p.0 == name).map(|p| p.1);
        if !matches!(media_type, "application/json" | "*/*")
            || get("as") != Some("APIGroupDiscoveryList")
            || get("g") != Some("apidiscovery.k8s.io")
        {
            return None;
        }
        match get("v") {
            Some("v2") => Some("v2"),
            Some("v2beta1") => Some("v2beta1"),
            _ => None,
        }
    })
}

/// Upstream's order of groups (`groupPriorityMinimum`), which decides where `kubectl get NAME` looks first.
/// Groups of custom resources come last.
const GROUP_PRIORITY: &[(&str, i32)] = &[
    ("apiregistration.k8s.io", 20000),
    ("", 18000),
    ("apps", 17800),
    ("events.k8s.io", 17750),
    ("authentication.k8s.io", 17700),
    ("authorization.k8s.io", 17600),
    ("autoscaling", 17500),
    ("batch", 17400),
    ("certificates.k8s.io", 17300),
    ("networking.k8s.io", 17200),
    ("policy", 17100),
    ("rbac.authorization.k8s.io", 17000),
    ("storage.k8s.io", 16800),
    ("apiextensions.k8s.io", 16700),
    ("admissionregistration.k8s.io", 16700),
    ("scheduling.k8s.io", 16600),
    ("coordination.k8s.io", 16500),
    ("node.k8s.io", 16300),
    ("discovery.k8s.io", 16200),
    ("flowcontrol.apiserver.k8s.io", 16100),
    ("internal.apiserver.k8s.io", 16000),
    ("resource.k8s.io", 15900),
    ("storagemigration.k8s.io", 15800),
    ("metrics.k8s.io", 100),
];

/// `groupPriorityMinimum` of a group.
pub fn group_priority(group: &str) -> i32 {
    GROUP_PRIORITY.iter().find(|g| g.0 == group).map_or(1000, |g| g.1)
}

/// Names of all groups but core's, in order of priority.
fn group_names(rows: &[Arc<Resource>]) -> Vec<&str> {
    let mut names: Vec<&str> = rows.iter().map(|r| r.group.as_str()).filter(|g| !g.is_empty()).collect();
    names.sort_unstable_by_key(|g| (Reverse(group_priority(g)), *g));
    names.dedup();
    names
}

/// Versions of a group, the preferred one first.
fn versions<'a>(rows: &'a [Arc<Resource>], group: &str) -> Vec<&'a str> {
    let mut out: Vec<&str> = rows.iter().filter(|r| r.group == group).map(|r| r.version.as_str()).collect();
    out.sort_by_cached_key(|v| version_priority(v));
    out.dedup();
    out
}

/// `/api`. `server_address` is `host:port` as clients reach it.
pub fn api_versions(server_address: &str) -> Value {
    json!({
        "kind": "APIVersions",
        "versions": ["v1"],
        "serverAddressByClientCIDRs": [{"clientCIDR": "0.0.0.0/0", "serverAddress": server_address}],
    })
}

fn group_body(rows: &[Arc<Resource>], name: &str) -> Option<Map<String, Value>> {
    let versions: Vec<Value> = versions(rows, name)
        .into_iter()
        .map(|v| json!({"groupVersion": format!("{name}/{v}"), "version": v}))
        .collect();
    let preferred = versions.first()?.clone();
    let mut out = Map::new();
    out.insert("name".into(), name.into());
    out.insert("versions".into(), versions.into());
    out.insert("preferredVersion".into(), preferred);
    Some(out)
}

/// `/apis`
pub fn group_list(rows: &[Arc<Resource>]) -> Value {
    let groups: Vec<Map<String, Value>> = group_names(rows).into_iter().filter_map(|g| group_body(rows, g)).collect();
    json!({"kind": "APIGroupList", "apiVersion": "v1", "groups": groups})
}

/// `/apis/G`; `None` where nothing of the group is served.
pub fn group(rows: &[Arc<Resource>], name: &str) -> Option<Value> {
    let mut out = group_body(rows, name)?;
    out.insert("kind".into(), "APIGroup".into());
    out.insert("apiVersion".into(), "v1".into());
    Some(out.into())
}

/// `/api/v1` and `/apis/G/V`; `None` where nothing of the version is served.
pub fn resource_list(rows: &[Arc<Resource>], group: &str, version: &str) -> Option<Value> {
    let mut resources: Vec<(String, Value)> = Vec::new();
    let mut served = rows.iter().filter(|r| r.group == group && r.version == version).peekable();
    let group_version = served.peek()?.api_version();
    for r in served {
        resources.push((r.plural.clone(), resource(r)));
        for s in &r.subresources {
            let name = format!("{}/{}", r.plural, s.name);
            resources.push((name.clone(), subresource(r, s, &name)));
        }
    }
    resources.sort_by(|a, b| a.0.cmp(&b.0));
    let resources: Vec<Value> = resources.into_iter().map(|r| r.1).collect();
    let mut out = json!({"kind": "APIResourceList", "groupVersion": group_version, "resources": resources});
    if !group.is_empty() {
        out["apiVersion"] = "v1".into();
    }
    Some(out)
}

fn resource(r: &Resource) -> Value {
    let mut out = json!({
        "name": r.plural,
        "singularName": r.singular,
        "namespaced": r.namespaced,
        "kind": r.kind,
        "verbs": r.verbs,
    });
    if !r.short_names.is_empty() {
        out["shortNames"] = json!(r.short_names);
    }
    if !r.categories.is_empty() {
        out["categories"] = json!(r.categories);
    }
    if r.has_verb("create") && r.has_verb("get") {
        out["storageVersionHash"] = storage_version_hash(&r.storage.0, &r.storage.1, &r.kind).into();
    }
    out
}

fn subresource(r: &Resource, s: &Subresource, name: &str) -> Value {
    let mut out = json!({
        "name": name,
        "singularName": "",
        "namespaced": r.namespaced,
        "kind": s.kind,
        "verbs": s.verbs,
    });
    if (&s.group, &s.version) != (&r.group, &r.version) {
        if !s.group.is_empty() {
            out["group"] = json!(s.group);
        }
        out["version"] = json!(s.version);
    }
    out
}

/// By which storage migration sees that objects are stored as another version. Opaque to clients.
pub fn storage_version_hash(group: &str, version: &str, kind: &str) -> String {
    let digest = Sha256::digest(format!("{group}/{version}/{kind}"));
    base64::engine::general_purpose::STANDARD.encode(&digest[..8])
}

/// `/api` (`core`) and `/apis` in the aggregated form (`v2` or `v2beta1`): everything in one answer.
pub fn aggregated(rows: &[Arc<Resource>], core: bool, version: &str) -> Value {
    let names = if core { vec![""] } else { group_names(rows) };
    let items: Vec<Value> = names.into_iter().map(|g| aggregated_group(rows, g)).collect();
    json!({
        "kind": "APIGroupDiscoveryList",
        "apiVersion": format!("apidiscovery.k8s.io/{version}"),
        "metadata": {},
        "items": items,
    })
}

fn aggregated_group(rows: &[Arc<Resource>], group: &str) -> Value {
    let versions: Vec<Value> = versions(rows, group)
        .into_iter()
        .map(|v| {
            let mut resources: Vec<&Arc<Resource>> =
                rows.iter().filter(|r| r.group == group && r.version == v).collect();
            resources.sort_by(|a, b| a.plural.cmp(&b.plural));
            let resources: Vec<Value> = resources.into_iter().map(|r| aggregated_resource(r)).collect();
            json!({"version": v, "resources": resources, "freshness": "Current"})
        })
        .collect();
    let metadata = if group.is_empty() { json!({}) } else { json!({"name": group}) };
    json!({"metadata": metadata, "versions": versions})
}

fn aggregated_resource(r: &Resource) -> Value {
    let mut out = json!({
        "resource": r.plural,
        "responseKind": {"group": r.group, "version": r.version, "kind": r.kind},
        "scope": if r.namespaced { "Namespaced" } else { "Cluster" },
        "singularResource": r.singular,
        "verbs": r.verbs,
    });
    if !r.short_names.is_empty() {
        out["shortNames"] = json!(r.short_names);
    }
    if !r.categories.is_empty() {
        out["categories"] = json!(r.categories);
    }
    let mut subresources: Vec<&Subresource> = r.subresources.iter().collect();
    subresources.sort_by(|a, b| a.name.cmp(&b.name));
    if !subresources.is_empty() {
        out["subresources"] = subresources
            .into_iter()
            .map(|s| {
                json!({
                    "subresource": s.name,
                    "responseKind": {"group": s.group, "version": s.version, "kind": s.kind},
                    "verbs": s.verbs,
                })
            })
            .collect();
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use api::catalogue::builtin;

    /// `storageVersionHash` as upstream's own tests list them, a row a resource: none where nothing is stored.
    #[rustfmt::skip] // A table reads better with a row a line.
    const HASHES: &[(&str, &str)] = &[
        ("v1/bindings", ""), ("v1/componentstatuses", ""), ("authentication.k8s.io/v1/selfsubjectreviews", ""),
        ("authentication.k8s.io/v1/tokenreviews", ""), ("authorization.k8s.io/v1/localsubjectaccessreviews", ""),
        ("authorization.k8s.io/v1/selfsubjectaccessreviews", ""), ("authorization.k8s.io/v1/selfsubjectrulesreviews", ""),
        ("authorization.k8s.io/v1/subjectaccessreviews", ""),
        ("v1/configmaps", "qFsyl6wFWjQ="), ("v1/endpoints", "fWeeMqaN/OA="), ("v1/events", "r2yiGXH7wu8="),
        ("v1/limitranges", "EBKMFVe6cwo="), ("v1/namespaces", "Q3oi5N2YM8M="), ("v1/nodes", "XwShjMxG9Fs="),
        ("v1/persistentvolumeclaims", "QWTyNDq0dC4="), ("v1/persistentvolumes", "HN/zwEC+JgM="),
        ("v1/pods", "xPOwRZ+Yhw8="), ("v1/podtemplates", "LIXB2x4IFpk="),
        ("v1/replicationcontrollers", "Jond2If31h0="), ("v1/resourcequotas", "8uhSgffRX6w="),
        ("v1/secrets", "S6u1pOWzb84="), ("v1/serviceaccounts", "pbx9ZvyFpBE="), ("v1/services", "0/CO1lhkEBI="),
        ("autoscaling/v1/horizontalpodautoscalers", "qwQve8ut294="),
        ("autoscaling/v2/horizontalpodautoscalers", "qwQve8ut294="), ("batch/v1/jobs", "mudhfqk/qZY="),
        ("batch/v1/cronjobs", "sd5LIXh4Fjs="), ("certificates.k8s.io/v1/certificatesigningrequests", "95fRKMXA+00="),
        ("coordination.k8s.io/v1/leases", "gqkMMb/YqFM="), ("discovery.k8s.io/v1/endpointslices", "qgS0xkrxYAI="),
        ("networking.k8s.io/v1/networkpolicies", "YpfwF18m1G8="), ("networking.k8s.io/v1/ingresses", "39NQlfNR+bo="),
        ("networking.k8s.io/v1/ingressclasses", "l/iqIbDgFyQ="), ("node.k8s.io/v1/runtimeclasses", "WQTu1GL3T2Q="),
        ("policy/v1/poddisruptionbudgets", "EVWiDmWqyJw="),
        ("rbac.authorization.k8s.io/v1/clusterrolebindings", "48tpQ8gZHFc="),
        ("rbac.authorization.k8s.io/v1/clusterroles", "bYE5ZWDrJ44="),
        ("rbac.authorization.k8s.io/v1/rolebindings", "eGsCzGH6b1g="),
        ("rbac.authorization.k8s.io/v1/roles", "7FuwZcIIItM="), ("scheduling.k8s.io/v1/priorityclasses", "1QwjyaZjj3Y="),
        ("storage.k8s.io/v1/csidrivers", "hL6j/rwBV5w="), ("storage.k8s.io/v1/csinodes", "Pe62DkZtjuo="),
        ("storage.k8s.io/v1/storageclasses", "K+m6uJwbjGY="), ("storage.k8s.io/v1/csistoragecapacities", "xeVl+2Ly1kE="),
        ("storage.k8s.io/v1/volumeattachments", "tJx/ezt6UDU="), ("apps/v1/controllerrevisions", "85nkx63pcBU="),
        ("apps/v1/daemonsets", "dd7pWHUlMKQ="), ("apps/v1/deployments", "8aSe+NMegvE="),
        ("apps/v1/replicasets", "P1RzHs8/mWQ="), ("apps/v1/statefulsets", "H+vl74LkKdo="),
        ("admissionregistration.k8s.io/v1/mutatingwebhookconfigurations", "Sqi0GUgDaX0="),
        ("admissionregistration.k8s.io/v1/validatingwebhookconfigurations", "B0wHjQmsGNk="),
        ("admissionregistration.k8s.io/v1/validatingadmissionpolicies", "6OxvlMmQ6is="),
        ("admissionregistration.k8s.io/v1/validatingadmissionpolicybindings", "v9715VZqakg="),
        ("events.k8s.io/v1/events", "r2yiGXH7wu8="), ("flowcontrol.apiserver.k8s.io/v1/flowschemas", "GJVAJZSZBIw="),
        ("flowcontrol.apiserver.k8s.io/v1/prioritylevelconfigurations", "Kir5PVfvNeI="),
    ];

    #[test]
    fn storage_hashes_are_upstreams() {
        let rows = builtin();
        for (path, hash) in HASHES {
            let row = rows.iter().find(|r| format!("{}/{}", r.api_version(), r.plural) == *path);
            let shown = resource(row.unwrap_or_else(|| panic!("{path} isn't served")));
            assert_eq!(shown["storageVersionHash"].as_str().unwrap_or(""), *hash, "{path}");
        }
    }

    #[test]
    fn groups_come_in_upstreams_order_and_prefer_the_newest_stable_version() {
        let rows = builtin();
        let list = group_list(&rows);
        let names: Vec<&str> = list["groups"].as_array().unwrap().iter().filter_map(|g| g["name"].as_str()).collect();
        let upstreams = [
            "apiregistration.k8s.io",
            "apps",
            "events.k8s.io",
            "authentication.k8s.io",
            "authorization.k8s.io",
            "autoscaling",
            "batch",
            "certificates.k8s.io",
            "networking.k8s.io",
            "policy",
            "rbac.authorization.k8s.io",
            "storage.k8s.io",
            "admissionregistration.k8s.io",
            "apiextensions.k8s.io",
            "scheduling.k8s.io",
            "coordination.k8s.io",
            "node.k8s.io",
            "discovery.k8s.io",
            "flowcontrol.apiserver.k8s.io",
            "resource.k8s.io",
            "storagemigration.k8s.io",
        ];
        assert_eq!(names, upstreams);
        assert_eq!(group(&rows, "autoscaling").unwrap()["preferredVersion"]["groupVersion"], "autoscaling/v2");
        assert_eq!(group(&rows, "nope"), None);
        let mut v = vec!["v1", "foo", "v1alpha1", "v10", "v2", "v11alpha2", "v3beta1", "v10beta3", "v1b", "v11beta2"];
        v.sort_by_cached_key(|v| version_priority(v));
        assert_eq!(v, ["v10", "v2", "v1", "v11beta2", "v10beta3", "v3beta1", "v11alpha2", "v1alpha1", "foo", "v1b"]);
    }

    #[test]
    fn a_version_lists_resources_and_subresources() {
        let rows = builtin();
        let list = resource_list(&rows, "apps", "v1").unwrap();
        let names: Vec<&str> =
            list["resources"].as_array().unwrap().iter().filter_map(|r| r["name"].as_str()).collect();
        assert_eq!(names[..4], ["controllerrevisions", "daemonsets", "daemonsets/status", "deployments"]);
        let scale = list["resources"].as_array().unwrap().iter().find(|r| r["name"] == "deployments/scale").unwrap();
        assert_eq!(
            *scale,
            json!({"name":"deployments/scale","singularName":"","namespaced":true,"group":"autoscaling","version":"v1",
                "kind":"Scale","verbs":["get","patch","update"]})
        );
        let core = resource_list(&rows, "", "v1").unwrap();
        assert_eq!((&core["groupVersion"], core.get("apiVersion")), (&json!("v1"), None));
        let pod = core["resources"].as_array().unwrap().iter().find(|r| r["name"] == "pods").unwrap();
        assert_eq!(
            *pod,
            json!({"name":"pods","singularName":"pod","namespaced":true,"kind":"Pod","shortNames":["po"],
                "categories":["all"],"storageVersionHash":"xPOwRZ+Yhw8=",
                "verbs":["create","delete","deletecollection","get","list","patch","update","watch"]})
        );
        assert_eq!(resource_list(&rows, "apps", "v1beta1"), None);
    }

    #[test]
    fn the_aggregated_form_holds_everything() {
        let rows = builtin();
        let core = aggregated(&rows, true, "v2");
        assert_eq!(core["apiVersion"], "apidiscovery.k8s.io/v2");
        let pods = core["items"][0]["versions"][0]["resources"]
            .as_array()
            .unwrap()
            .iter()
            .find(|r| r["resource"] == "pods")
            .unwrap();
        assert_eq!(pods["scope"], "Namespaced");
        assert!(pods["subresources"].as_array().unwrap().iter().any(|s| s["subresource"] == "eviction"
            && s["responseKind"] == json!({"group":"policy","version":"v1","kind":"Eviction"})));
        let all = aggregated(&rows, false, "v2beta1");
        assert_eq!(all["items"][1]["metadata"]["name"], "apps");
    }

    #[test]
    fn clients_choose_the_form() {
        let kubectl = "application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList,\
                       application/json;g=apidiscovery.k8s.io;v=v2beta1;as=APIGroupDiscoveryList,application/json";
        assert_eq!(wants_aggregated(kubectl), Some("v2"));
        assert_eq!(wants_aggregated("application/json, */*"), None);
        assert_eq!(
            wants_aggregated("application/json; g=apidiscovery.k8s.io; v=v2beta1; as=APIGroupDiscoveryList"),
            Some("v2beta1")
        );
        assert_eq!(wants_aggregated("application/json;g=apidiscovery.k8s.io;v=v9;as=APIGroupDiscoveryList"), None);
    }
}
