//! The Node authorizer: a kubelet may read what its own pods refer to, and write about itself.
//!
//! In: pods from the store, through a [`Followed`] index from each node to what its pods refer to.
//! Out: decisions on requests by `system:node:<name>` in `system:nodes`. Source: "Using Node Authorization".

use super::followed::{Followed, Index, names};
use super::rules::PolicyRule;
use super::{Attributes, Authorizer, Decision, UserRules, exact_field};
use crate::authn::User;
use crate::reader::Reader;
use async_trait::async_trait;
use serde_json::Value;
use std::collections::{BTreeSet, HashMap};
use std::sync::LazyLock;
use store::Entry;

/// The node that a user is the kubelet of. `Some("")`: in the group, but with no node in its name.
pub fn node_of(user: &User) -> Option<&str> {
    let name = user.name.strip_prefix("system:node:")?;
    user.in_group("system:nodes").then_some(name)
}

/// What a pod needs from the API, by name in its namespace.
#[derive(Debug, Default, PartialEq)]
pub struct References {
    pub service_account: String,
    pub secrets: BTreeSet<String>,
    pub configmaps: BTreeSet<String>,
    pub claims: BTreeSet<String>,
    pub resource_claims: BTreeSet<String>,
}

impl References {
    pub fn of(pod: &Value) -> References {
        let mut r = References::default();
        let spec = &pod["spec"];
        let list = |v: &'_ Value| v.as_array().cloned().unwrap_or_default();
        let mut add = |set: fn(&mut References) -> &mut BTreeSet<String>, v: &Value| {
            if let Some(name) = v.as_str().filter(|n| !n.is_empty()) {
                set(&mut r).insert(name.to_string());
            }
        };
        let secrets: fn(&mut References) -> &mut BTreeSet<String> = |r| &mut r.secrets;
        let configmaps: fn(&mut References) -> &mut BTreeSet<String> = |r| &mut r.configmaps;
        for s in list(&spec["imagePullSecrets"]) {
            add(secrets, &s["name"]);
        }
        for containers in ["containers", "initContainers", "ephemeralContainers"] {
            for c in list(&spec[containers]) {
                for e in list(&c["env"]) {
                    add(secrets, &e["valueFrom"]["secretKeyRef"]["name"]);
                    add(configmaps, &e["valueFrom"]["configMapKeyRef"]["name"]);
                }
                for e in list(&c["envFrom"]) {
                    add(secrets, &e["secretRef"]["name"]);
                    add(configmaps, &e["configMapRef"]["name"]);
                }
            }
        }
        let pod_name = pod["metadata"]["name"].as_str().unwrap_or_default();
        for v in list(&spec["volumes"]) {
            add(secrets, &v["secret"]["secretName"]);
            add(secrets, &v["azureFile"]["secretName"]);
            add(secrets, &v["csi"]["nodePublishSecretRef"]["name"]);
            for kind in ["cephfs", "flexVolume", "rbd", "scaleIO", "iscsi", "storageos"] {
                add(secrets, &v[kind]["secretRef"]["name"]);
            }
            add(configmaps, &v["configMap"]["name"]);
            for s in list(&v["projected"]["sources"]) {
                add(secrets, &s["secret"]["name"]);
                add(configmaps, &s["configMap"]["name"]);
            }
            add(|r| &mut r.claims, &v["persistentVolumeClaim"]["claimName"]);
            if !v["ephemeral"].is_null() {
                let name = format!("{pod_name}-{}", v["name"].as_str().unwrap_or_default());
                add(|r| &mut r.claims, &name.into());
            }
        }
        for c in list(&spec["resourceClaims"]) {
            add(|r| &mut r.resource_claims, &c["resourceClaimName"]);
        }
        for c in list(&pod["status"]["resourceClaimStatuses"]) {
            add(|r| &mut r.resource_claims, &c["resourceClaimName"]);
        }
        r.service_account = spec["serviceAccountName"].as_str().unwrap_or_default().to_string();
        r
    }
}

/// Node → (namespace, pod) → what it refers to.
#[derive(Default)]
pub struct NodePods {
    nodes: HashMap<String, HashMap<(String, String), References>>,
}

impl Index for NodePods {
    const RESOURCES: &'static [(&'static str, &'static str)] = &[("", "pods")];

    fn put(&mut self, _which: usize, entry: &Entry) {
        let Ok(pod) = serde_json::from_slice::<Value>(&entry.value) else { return };
        let node = pod["spec"]["nodeName"].as_str().unwrap_or_default();
        if node.is_empty() {
            return;
        }
        let (namespace, name) = names(entry, true);
        // Mirror pods are written by the kubelet itself; they give it no rights.
        let mirror = pod["metadata"]["annotations"].get("kubernetes.io/config.mirror").is_some();
        let references = if mirror { References::default() } else { References::of(&pod) };
        self.nodes.entry(node.to_string()).or_default().insert((namespace.to_string(), name.to_string()), references);
    }

    fn delete(&mut self, _which: usize, entry: &Entry) {
        let Ok(pod) = serde_json::from_slice::<Value>(&entry.value) else { return };
        let node = pod["spec"]["nodeName"].as_str().unwrap_or_default();
        let (namespace, name) = names(entry, true);
        if let Some(pods) = self.nodes.get_mut(node) {
            pods.remove(&(namespace.to_string(), name.to_string()));
            if pods.is_empty() {
                self.nodes.remove(node);
            }
        }
    }
}

impl NodePods {
    fn any(&self, node: &str, namespace: &str, test: impl Fn(&References) -> bool) -> bool {
        self.nodes
            .get(node)
            .is_some_and(|pods| pods.iter().any(|((ns, _), references)| ns == namespace && test(references)))
    }
}

pub struct NodeAuthorizer {
    followed: Followed<NodePods>,
}

/// What every node may do, whatever runs on it; the `NodeRestriction` admission plugin narrows the writes.
pub static NODE_RULES: LazyLock<Vec<PolicyRule>> = LazyLock::new(|| {
    let on = PolicyRule::on;
    vec![
        on("authentication.k8s.io", "tokenreviews", "create"),
        on("authorization.k8s.io", "localsubjectaccessreviews,subjectaccessreviews", "create"),
        on("", "services", "get,list,watch"),
        on("", "nodes", "create,get,list,watch"),
        on("", "nodes/status", "patch,update"),
        on("", "nodes", "patch,update"),
        on(",events.k8s.io", "events", "create,patch,update"),
        on("", "pods", "get,list,watch"),
        on("", "pods", "create,delete"),
        on("", "pods/status", "patch,update"),
        on("", "pods/eviction", "create"),
        on("", "configmaps,secrets", "get,list,watch"),
        on("", "persistentvolumeclaims,persistentvolumes", "get"),
        on("", "endpoints", "get"),
        on("certificates.k8s.io", "certificatesigningrequests", "create,get,list,watch"),
        on("coordination.k8s.io", "leases", "create,delete,get,patch,update"),
        on("storage.k8s.io", "volumeattachments", "get"),
        on("", "serviceaccounts/token", "create"),
        on("", "persistentvolumeclaims/status", "get,patch,update"),
        on("storage.k8s.io", "csidrivers", "get,list,watch"),
        on("storage.k8s.io", "csinodes", "create,delete,get,patch,update"),
        on("node.k8s.io", "runtimeclasses", "get,list,watch"),
        on("resource.k8s.io", "resourceclaims", "get"),
        on("resource.k8s.io", "resourceslices", "deletecollection"),
        on("certificates.k8s.io", "clustertrustbundles", "get,list,watch"),
        on("", "serviceaccounts", "get"),
        on("certificates.k8s.io", "podcertificaterequests", "create,get,list,watch"),
    ]
});

impl NodeAuthorizer {
    pub fn new(reader: Reader) -> NodeAuthorizer {
        NodeAuthorizer { followed: Followed::new(reader) }
    }

    /// The bare decision: `Err` carries the reason of having no opinion.
    fn decide(&self, a: &Attributes, node: &str) -> Result<(), String> {
        if a.is_resource {
            match (a.group.as_str(), a.resource.as_str()) {
                ("", "secrets") => return self.read_namespaced(a, node, "secret"),
                ("", "configmaps") => return self.read_namespaced(a, node, "configmap"),
                ("", "persistentvolumeclaims") if a.subresource == "status" => {
                    return if matches!(a.verb.as_str(), "get" | "update" | "patch") {
                        self.related(a, node, "pvc")
                    } else {
                        Err("can only get/update/patch this type".to_string())
                    };
                }
                ("", "persistentvolumeclaims") => return self.get(a, node, "pvc"),
                ("", "persistentvolumes") => return self.get(a, node, "pv"),
                ("resource.k8s.io", "resourceclaims") => return self.get(a, node, "resourceclaim"),
                ("storage.k8s.io", "volumeattachments") => return self.get(a, node, "volumeattachment"),
                ("", "serviceaccounts") => return self.service_account(a, node),
                ("coordination.k8s.io", "leases") => return lease(a, node),
                ("storage.k8s.io", "csinodes") => return csi_node(a, node),
                ("resource.k8s.io", "resourceslices") => return self.resource_slice(a, node),
                ("certificates.k8s.io", "podcertificaterequests") => return self.pod_certificate_request(a, node),
                ("", "nodes") => read_node(a, node)?,
                ("", "pods") => self.pod(a, node)?,
                _ => {}
            }
        }
        if NODE_RULES.iter().any(|r| r.allows(a)) { Ok(()) } else { Err(String::new()) }
    }

    fn read_namespaced(&self, a: &Attributes, node: &str, kind: &str) -> Result<(), String> {
        if !matches!(a.verb.as_str(), "get" | "list" | "watch") {
            return Err("can only read resources of this type".to_string());
        }
        if !a.subresource.is_empty() {
            return Err("cannot read subresource".to_string());
        }
        if a.namespace.is_empty() {
            return Err("can only read namespaced object of this type".to_string());
        }
        self.related(a, node, kind)
    }

    fn get(&self, a: &Attributes, node: &str, kind: &str) -> Result<(), String> {
        if a.verb != "get" {
            return Err("can only get individual resources of this type".to_string());
        }
        if !a.subresource.is_empty() {
            return Err("cannot get subresource".to_string());
        }
        self.related(a, node, kind)
    }

    fn service_account(&self, a: &Attributes, node: &str) -> Result<(), String> {
        match (a.verb.as_str(), a.subresource.as_str()) {
            ("get", "") | ("create", "token") => {}
            ("get", _) => return Err("cannot get subresource".to_string()),
            _ => return Err("can only get or create tokens for individual service accounts".to_string()),
        }
        if a.name.is_empty() || a.namespace.is_empty() {
            return Err("can only get or create tokens for individual service accounts".to_string());
        }
        self.related(a, node, "serviceaccount")
    }

    fn pod_certificate_request(&self, a: &Attributes, node: &str) -> Result<(), String> {
        if !a.subresource.is_empty() {
            return Err("nodes may not access podcertificaterequests subresources".to_string());
        }
        match a.verb.as_str() {
            // Whose certificate it is for is looked at in admission.
            "create" => Ok(()),
            "get" => self.related(a, node, "podcertificaterequest"),
            "list" | "watch" if exact_field(&a.field_selector, "spec.nodeName").as_deref() == Some(node) => Ok(()),
            "list" | "watch" => {
                Err("can only list/watch podcertificaterequests with nodeName field selector".to_string())
            }
            _ => {
                Err("only the following verbs are allowed for podcertificaterequests: get, list, watch, create"
                    .to_string())
            }
        }
    }

    fn resource_slice(&self, a: &Attributes, node: &str) -> Result<(), String> {
        if !a.subresource.is_empty() {
            return Err("cannot authorize ResourceSlice subresources".to_string());
        }
        match a.verb.as_str() {
            // Whose a new one is is looked at in admission.
            "create" => Ok(()),
            "get" | "update" | "patch" | "delete" => self.related(a, node, "resourceslice"),
            "list" | "watch" | "deletecollection" => {
                if exact_field(&a.field_selector, "spec.nodeName").as_deref() == Some(node) {
                    Ok(())
                } else {
                    Err("can only list/watch/deletecollection resourceslices with nodeName field selector".to_string())
                }
            }
            _ => Err(
                "only the following verbs are allowed for a ResourceSlice: get, watch, list, create, update, patch, \
                      delete, deletecollection"
                    .to_string(),
            ),
        }
    }

    fn pod(&self, a: &Attributes, node: &str) -> Result<(), String> {
        match (a.verb.as_str(), a.subresource.as_str()) {
            ("get", "") => {
                let index = self.followed.get();
                let own =
                    index.nodes.get(node).is_some_and(|pods| pods.contains_key(&(a.namespace.clone(), a.name.clone())));
                if own { Ok(()) } else { Err(unrelated(node)) }
            }
            ("list" | "watch", "") if exact_field(&a.field_selector, "spec.nodeName").as_deref() != Some(node) => {
                Err("can only list/watch pods with spec.nodeName field selector".to_string())
            }
            _ => Ok(()),
        }
    }

    /// Some pod of the node leads to the object.
    fn related(&self, a: &Attributes, node: &str, kind: &str) -> Result<(), String> {
        if a.name.is_empty() {
            return Err("No Object name found".to_string());
        }
        let index = self.followed.get();
        let (ns, name) = (a.namespace.as_str(), a.name.as_str());
        let found = match kind {
            "secret" => index.any(node, ns, |r| r.secrets.contains(name)) || self.volume_secret(&index, node, ns, name),
            "configmap" => index.any(node, ns, |r| r.configmaps.contains(name)),
            "pvc" => index.any(node, ns, |r| r.claims.contains(name)),
            "resourceclaim" => index.any(node, ns, |r| r.resource_claims.contains(name)),
            "serviceaccount" => index.any(node, ns, |r| r.service_account == name),
            "pv" => self.followed.reader().get("", "persistentvolumes", "", name).is_some_and(|pv| {
                let pv = pv.value();
                let claim = &pv["spec"]["claimRef"];
                match (claim["namespace"].as_str(), claim["name"].as_str()) {
                    (Some(ns), Some(claim)) => index.any(node, ns, |r| r.claims.contains(claim)),
                    _ => false,
                }
            }),
            "podcertificaterequest" => self
                .followed
                .reader()
                .get("certificates.k8s.io", "podcertificaterequests", ns, name)
                .is_some_and(|r| r.value()["spec"]["nodeName"] == node),
            "resourceslice" => self
                .followed
                .reader()
                .get("resource.k8s.io", "resourceslices", "", name)
                .is_some_and(|slice| slice.value()["spec"]["nodeName"] == node),
            "volumeattachment" => self
                .followed
                .reader()
                .get("storage.k8s.io", "volumeattachments", "", name)
                .is_some_and(|va| va.value()["spec"]["nodeName"] == node),
            _ => false,
        };
        if found { Ok(()) } else { Err(unrelated(node)) }
    }

    /// The secret of a volume that a claim of one of the node's pods is bound to.
    fn volume_secret(&self, index: &NodePods, node: &str, ns: &str, name: &str) -> bool {
        let reader = self.followed.reader();
        let Some(pods) = index.nodes.get(node) else { return false };
        pods.iter().flat_map(|((pod_ns, _), r)| r.claims.iter().map(move |c| (pod_ns, c))).any(|(pod_ns, claim)| {
            let Some(pvc) = reader.get("", "persistentvolumeclaims", pod_ns, claim) else { return false };
            let pvc = pvc.value();
            let volume = pvc["spec"]["volumeName"].as_str().unwrap_or_default();
            let Some(pv) = reader.get("", "persistentvolumes", "", volume) else { return false };
            names_secret(&pv.value()["spec"], pod_ns, ns, name)
        })
    }
}

/// Whether any `…SecretRef`/`secretRef` in a volume's spec names the secret; one without a namespace is in the
/// claim's.
fn names_secret(v: &Value, claim_namespace: &str, ns: &str, name: &str) -> bool {
    let Some(map) = v.as_object() else { return false };
    map.iter().any(|(key, inner)| {
        let reference = key.to_lowercase().ends_with("secretref");
        (reference && inner["name"] == name && inner["namespace"].as_str().unwrap_or(claim_namespace) == ns)
            || (key == "azureFile"
                && inner["secretName"] == name
                && inner["secretNamespace"].as_str().unwrap_or(claim_namespace) == ns)
            || names_secret(inner, claim_namespace, ns, name)
    })
}

fn unrelated(node: &str) -> String {
    format!("no relationship found between node '{node}' and this object")
}

fn lease(a: &Attributes, node: &str) -> Result<(), String> {
    if !matches!(a.verb.as_str(), "get" | "create" | "update" | "patch" | "delete") {
        return Err("can only get, create, update, patch, or delete a node lease".to_string());
    }
    if a.namespace != "kube-node-lease" {
        return Err("can only access leases in the \"kube-node-lease\" system namespace".to_string());
    }
    // The name of a new object may only be known later; admission checks it.
    if a.verb != "create" && a.name != node {
        return Err("can only access node lease with the same name as the requesting node".to_string());
    }
    Ok(())
}

fn csi_node(a: &Attributes, node: &str) -> Result<(), String> {
    if !matches!(a.verb.as_str(), "get" | "create" | "update" | "patch" | "delete") {
        return Err("can only get, create, update, patch, or delete a CSINode".to_string());
    }
    if !a.subresource.is_empty() {
        return Err("cannot authorize CSINode subresources".to_string());
    }
    if a.verb != "create" && a.name != node {
        return Err("can only access CSINode with the same name as the requesting node".to_string());
    }
    Ok(())
}

fn read_node(a: &Attributes, node: &str) -> Result<(), String> {
    if a.subresource.is_empty() && matches!(a.verb.as_str(), "get" | "list" | "watch") && a.name != node {
        if a.name.is_empty() {
            return Err(format!("node '{node}' cannot read all nodes, only its own Node object"));
        }
        return Err(format!("node '{node}' cannot read '{}', only its own Node object", a.name));
    }
    Ok(())
}

#[async_trait]
impl Authorizer for NodeAuthorizer {
    async fn authorize(&self, a: &Attributes) -> Decision {
        let Some(node) = node_of(&a.user) else { return Decision::NoOpinion(String::new()) };
        if node.is_empty() {
            return Decision::NoOpinion(format!("unknown node for user {:?}", a.user.name));
        }
        match self.decide(a, node) {
            Ok(()) => Decision::Allow(String::new()),
            Err(reason) => Decision::NoOpinion(reason),
        }
    }

    fn rules_for(&self, user: &User, _namespace: &str) -> UserRules {
        if node_of(user).is_none() {
            return UserRules::default();
        }
        UserRules {
            incomplete: true,
            errors: vec!["node authorizer does not support user rule resolution".to_string()],
            ..UserRules::default()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{put, reader, remove};
    use serde_json::json;

    fn pod() -> Value {
        json!({"apiVersion":"v1","kind":"Pod","metadata":{"namespace":"d","name":"p"},"spec":{
            "nodeName":"n1","serviceAccountName":"sa","imagePullSecrets":[{"name":"pull"}],
            "containers":[{"name":"c","env":[{"name":"A","valueFrom":{"secretKeyRef":{"name":"env","key":"k"}}}],
                           "envFrom":[{"configMapRef":{"name":"cm"}}]}],
            "volumes":[{"name":"v","secret":{"secretName":"vol"}},
                       {"name":"w","persistentVolumeClaim":{"claimName":"claim"}},
                       {"name":"e","ephemeral":{}},
                       {"name":"x","projected":{"sources":[{"secret":{"name":"proj"}},{"configMap":{"name":"kube-root-ca.crt"}}]}}]}})
    }

    fn slice(name: &str, node: &str) -> Value {
        json!({"apiVersion":"resource.k8s.io/v1","kind":"ResourceSlice","metadata":{"name":name},"spec":{"nodeName":node}})
    }

    fn ask(verb: &str, group: &str, resource: &str, namespace: &str, name: &str) -> Attributes {
        let user = User::new("system:node:n1", &["system:nodes"]);
        let (r, s) = resource.split_once('/').unwrap_or((resource, ""));
        let mut a = Attributes::resource(&user, verb, group, r, namespace, name);
        a.subresource = s.to_string();
        a
    }

    #[tokio::test]
    async fn a_node_reaches_what_its_pods_refer_to() {
        let r = reader(&[
            pod(),
            json!({"apiVersion":"v1","kind":"PersistentVolumeClaim","metadata":{"namespace":"d","name":"claim"},
                   "spec":{"volumeName":"pv"}}),
            json!({"apiVersion":"v1","kind":"PersistentVolume","metadata":{"name":"pv"},
                   "spec":{"claimRef":{"namespace":"d","name":"claim"},
                           "csi":{"nodeStageSecretRef":{"namespace":"csi","name":"stage"}}}}),
            json!({"apiVersion":"storage.k8s.io/v1","kind":"VolumeAttachment","metadata":{"name":"va"},
                   "spec":{"nodeName":"n1"}}),
            slice("own", "n1"),
        ])
        .await;
        let node = NodeAuthorizer::new(r.clone());
        let mut own_pods = ask("list", "", "pods", "", "");
        own_pods.field_selector = "spec.nodeName=n1".into();
        let mut all = vec![
            own_pods,
            ask("get", "coordination.k8s.io", "leases", "kube-node-lease", "n1"),
            ask("create", "coordination.k8s.io", "leases", "kube-node-lease", ""),
            ask("create", "", "nodes", "", ""),
            ask("patch", "", "nodes/status", "", "n1"),
            ask("get", "", "nodes", "", "n1"),
            ask("patch", "", "pods/status", "d", "p"),
            ask("create", "", "events", "d", ""),
            ask("get", "storage.k8s.io", "volumeattachments", "", "va"),
            ask("create", "resource.k8s.io", "resourceslices", "", ""),
            ask("get", "resource.k8s.io", "resourceslices", "", "own"),
            ask("patch", "resource.k8s.io", "resourceslices", "", "own"),
            ask("get", "", "persistentvolumes", "", "pv"),
            ask("get", "", "secrets", "csi", "stage"),
            ask("create", "", "serviceaccounts/token", "d", "sa"),
        ];
        all.extend(["pull", "env", "vol", "proj"].map(|n| ask("watch", "", "secrets", "d", n)));
        all.extend(["cm", "kube-root-ca.crt"].map(|n| ask("list", "", "configmaps", "d", n)));
        all.extend(["claim", "p-e"].map(|n| ask("get", "", "persistentvolumeclaims", "d", n)));
        all.push(ask("get", "", "pods", "d", "p"));
        for a in &all {
            assert!(node.authorize(a).await.allowed(), "{a:?}");
        }
        remove(&r, &pod()).await;
        for a in &all[12..] {
            assert!(!node.authorize(a).await.allowed(), "{a:?}");
        }
    }

    #[tokio::test]
    async fn a_node_reaches_nothing_else() {
        let mut other = pod();
        other["metadata"]["name"] = "q".into();
        other["spec"]["nodeName"] = "n2".into();
        let mut mirror = pod();
        mirror["metadata"]["annotations"] = json!({"kubernetes.io/config.mirror": "x"});
        let r = reader(&[other, slice("theirs", "n2")]).await;
        let node = NodeAuthorizer::new(r.clone());
        put(&r, &mirror).await;
        let unrelated = "no relationship found between node 'n1' and this object";
        for (a, reason) in [
            (ask("get", "", "secrets", "d", "vol"), unrelated),
            (ask("get", "", "secrets", "other", "vol"), unrelated),
            (ask("list", "", "secrets", "d", ""), "No Object name found"),
            (ask("list", "", "secrets", "", ""), "can only read namespaced object of this type"),
            (ask("update", "", "secrets", "d", "vol"), "can only read resources of this type"),
            (ask("get", "", "pods", "d", "q"), unrelated),
            (ask("list", "", "pods", "", ""), "can only list/watch pods with spec.nodeName field selector"),
            (ask("get", "", "nodes", "", "n2"), "node 'n1' cannot read 'n2', only its own Node object"),
            (ask("list", "", "nodes", "", ""), "node 'n1' cannot read all nodes, only its own Node object"),
            (ask("delete", "", "nodes", "", "n1"), ""),
            (
                ask("get", "coordination.k8s.io", "leases", "kube-node-lease", "n2"),
                "can only access node lease with the same name as the requesting node",
            ),
            (
                ask("get", "coordination.k8s.io", "leases", "d", "n1"),
                "can only access leases in the \"kube-node-lease\" system namespace",
            ),
            (ask("create", "", "serviceaccounts/token", "d", "sa"), unrelated),
            (ask("get", "resource.k8s.io", "resourceslices", "", "theirs"), unrelated),
            (ask("delete", "resource.k8s.io", "resourceslices", "", "theirs"), unrelated),
            (ask("update", "resource.k8s.io", "resourceslices", "", "none"), unrelated),
            (ask("create", "", "pods/exec", "d", "p"), ""),
        ] {
            assert_eq!(node.authorize(&a).await, Decision::NoOpinion(reason.to_string()), "{a:?}");
        }
        // The name alone makes no node.
        let mut a = ask("get", "", "nodes", "", "n1");
        a.user.groups.clear();
        assert_eq!(node.authorize(&a).await, Decision::NoOpinion(String::new()));
    }
}
