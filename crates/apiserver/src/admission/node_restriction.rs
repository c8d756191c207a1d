//! NodeRestriction: a kubelet writes only its own Node, Lease and CSINode, and only pods that are bound to it, for which
//! it alone asks for certificates.
//!
//! The Node authorizer lets kubelets write these kinds; this plugin sees the objects and narrows it to their own.

use super::{Attributes, Operation, Plugin, forbidden};
use crate::authz::node::{References, node_of};
use crate::reader::Reader;
use async_trait::async_trait;
use meta::status::Status;
use serde_json::Value;
use std::collections::BTreeSet;

const MIRROR: &str = "kubernetes.io/config.mirror";
/// Labels with a Kubernetes prefix that a kubelet may set on its node.
const KUBELET_LABELS: &[&str] = &[
    "beta.kubernetes.io/arch",
    "beta.kubernetes.io/instance-type",
    "beta.kubernetes.io/os",
    "failure-domain.beta.kubernetes.io/region",
    "failure-domain.beta.kubernetes.io/zone",
    "failure-domain.kubernetes.io/region",
    "failure-domain.kubernetes.io/zone",
    "kubernetes.io/arch",
    "kubernetes.io/hostname",
    "kubernetes.io/os",
    "node.kubernetes.io/instance-type",
    "topology.kubernetes.io/region",
    "topology.kubernetes.io/zone",
];
const KUBELET_LABEL_PREFIXES: &[&str] = &["kubelet.kubernetes.io", "node.kubernetes.io"];

pub struct NodeRestriction {
    reader: Reader,
}

impl NodeRestriction {
    pub fn new(reader: Reader) -> NodeRestriction {
        NodeRestriction { reader }
    }

    fn pod(&self, a: &Attributes<'_>, node: &str) -> Result<(), Status> {
        let old = a.old.unwrap_or(&Value::Null);
        match (a.subresource, a.operation) {
            ("", Operation::Create) => self.new_pod(a, node),
            ("", Operation::Delete) => {
                if old["spec"]["nodeName"] != node {
                    return Err(forbidden(
                        a,
                        format!("node {node:?} can only delete pods with spec.nodeName set to itself"),
                    ));
                }
                Ok(())
            }
            ("status", Operation::Update) => {
                if old["spec"]["nodeName"] != node {
                    return Err(forbidden(
                        a,
                        format!("node {node:?} can only update pod status for pods with spec.nodeName set to itself"),
                    ));
                }
                if old["metadata"]["labels"] != a.object["metadata"]["labels"] {
                    return Err(forbidden(a, format!("node {node:?} cannot update labels through pod status")));
                }
                let claims = |v: &Value| v["status"]["resourceClaimStatuses"].clone();
                if claims(old) != claims(a.object) {
                    return Err(forbidden(a, format!("node {node:?} cannot update resource claim statuses")));
                }
                Ok(())
            }
            ("eviction", Operation::Create) => {
                let name =
                    if a.name.is_empty() { a.object["metadata"]["name"].as_str().unwrap_or_default() } else { a.name };
                let pod = self
                    .reader
                    .get("", "pods", a.namespace, name)
                    .ok_or_else(|| Status::not_found("", "pods", name))?;
                if pod.value()["spec"]["nodeName"] != node {
                    return Err(forbidden(
                        a,
                        format!("node {node:?} can only evict pods with spec.nodeName set to itself"),
                    ));
                }
                Ok(())
            }
            ("", operation) => Err(forbidden(a, format!("unexpected operation {:?}", shown(operation)))),
            (sub, _) => Err(forbidden(a, format!("unexpected pod subresource {sub:?}"))),
        }
    }

    fn new_pod(&self, a: &Attributes<'_>, node: &str) -> Result<(), Status> {
        let pod = &*a.object;
        let refuse = |why: String| Err(forbidden(a, why));
        if pod["metadata"]["annotations"].get(MIRROR).is_none() {
            return refuse(format!(
                "pod does not have {MIRROR:?} annotation, node {node:?} can only create mirror pods"
            ));
        }
        if pod["spec"]["nodeName"] != node {
            return refuse(format!("node {node:?} can only create pods with spec.nodeName set to itself"));
        }
        let owners = pod["metadata"]["ownerReferences"].as_array().map(Vec::as_slice).unwrap_or_default();
        if owners.len() > 1 {
            return refuse(format!("node {node:?} can only create pods with a single owner reference set to itself"));
        }
        if let Some(owner) = owners.first() {
            if owner["apiVersion"] != "v1" || owner["kind"] != "Node" || owner["name"] != node {
                return refuse(format!("node {node:?} can only create pods with an owner reference set to itself"));
            }
            if owner["controller"] != true {
                return refuse(format!(
                    "node {node:?} can only create pods with a controller owner reference set to itself"
                ));
            }
            if owner["blockOwnerDeletion"] == true {
                return refuse(format!("node {node:?} must not set blockOwnerDeletion on an owner reference"));
            }
            let uid = self.reader.get("", "nodes", "", node).map(|n| n.value()["metadata"]["uid"].clone());
            if uid.as_ref() != Some(&owner["uid"]) {
                return refuse(format!(
                    "node {node:?} UID mismatch: expected {} got {}",
                    uid.as_ref().and_then(Value::as_str).unwrap_or_default(),
                    owner["uid"].as_str().unwrap_or_default()
                ));
            }
        }
        let r = References::of(pod);
        for (what, any) in [
            ("a service account", !r.service_account.is_empty()),
            ("secrets", !r.secrets.is_empty()),
            ("configmaps", !r.configmaps.is_empty()),
            ("persistentvolumeclaims", !r.claims.is_empty()),
            ("resourceclaims", !r.resource_claims.is_empty()),
            ("clustertrustbundles", projects(pod, "clusterTrustBundle")),
            ("podcertificates", projects(pod, "podCertificate")),
        ] {
            if any {
                return refuse(format!("node {node:?} can not create pods that reference {what}"));
            }
        }
        Ok(())
    }

    fn token(&self, a: &Attributes<'_>, node: &str) -> Result<(), Status> {
        let spec = &a.object["spec"];
        let bound = &spec["boundObjectRef"];
        if bound["apiVersion"] != "v1"
            || bound["kind"] != "Pod"
            || bound["name"].as_str().unwrap_or_default().is_empty()
        {
            return Err(forbidden(a, "node requested token not bound to a pod"));
        }
        let uid = bound["uid"].as_str().unwrap_or_default();
        if uid.is_empty() {
            return Err(forbidden(a, "node requested token with a pod binding without a uid"));
        }
        let name = bound["name"].as_str().unwrap_or_default();
        let pod = self.reader.get("", "pods", a.namespace, name).ok_or_else(|| Status::not_found("", "pods", name))?;
        let pod = pod.value();
        if pod["metadata"]["uid"] != uid {
            return Err(forbidden(
                a,
                format!(
                    "the UID in the bound object reference ({uid}) does not match the UID in record. The object might \
                     have been deleted and then recreated"
                ),
            ));
        }
        if pod["spec"]["nodeName"] != node {
            return Err(forbidden(a, "node requested token bound to a pod scheduled on a different node"));
        }
        let allowed = self.audiences(&pod);
        for audience in spec["audiences"].as_array().into_iter().flatten().filter_map(Value::as_str) {
            if !allowed.contains(audience) {
                return Err(forbidden(a, format!("audience {audience:?} not found in pod spec volume")));
            }
        }
        Ok(())
    }

    /// A certificate is asked for by the node that the pod runs on, and in nobody else's name.
    fn certificate(&self, a: &Attributes<'_>, node: &str) -> Result<(), Status> {
        let refuse = |why: String| Err(forbidden(a, why));
        if a.operation != Operation::Create {
            return refuse(format!("unexpected operation {}", shown(a.operation)));
        }
        if !a.subresource.is_empty() {
            return refuse(format!("unexpected subresource {}", a.subresource));
        }
        let asked = |key: &str| a.object["spec"][key].as_str().unwrap_or_default();
        let uid = |v: &Value| v["metadata"]["uid"].as_str().unwrap_or_default().to_string();
        if asked("nodeName") != node {
            return refuse(format!(
                "PodCertificateRequest.Spec.NodeName={:?}, which is not the requesting node {node:?}",
                asked("nodeName")
            ));
        }
        let of_pod = format!("{}/{}", a.namespace, asked("podName"));
        let missing = |what: &str, name: &str, plural: &str, short: &str| {
            let found = format!("{plural} {short:?} not found");
            Err(forbidden(a, format!("while retrieving {what} {name:?} named in the PodCertificateRequest: {found}")))
        };
        let Some(running) = self.reader.get("", "nodes", "", node) else {
            return missing("node", node, "nodes", node);
        };
        let uid_of_node = uid(&running.value());
        if uid_of_node != asked("nodeUID") {
            return refuse(format!(
                "PodCertificateRequest for pod {of_pod:?} names node UID {:?}, inconsistent with the running node \
                 ({uid_of_node:?})",
                asked("nodeUID")
            ));
        }
        let Some(pod) = self.reader.get("", "pods", a.namespace, asked("podName")) else {
            return missing("pod", &of_pod, "pods", asked("podName"));
        };
        let pod = pod.value();
        if uid(&pod) != asked("podUID") {
            return refuse(format!(
                "PodCertificateRequest for pod {of_pod:?} contains pod UID ({:?}) which differs from running pod {:?}",
                asked("podUID"),
                uid(&pod)
            ));
        }
        if pod["spec"]["nodeName"] != node {
            return refuse(format!(
                "pod {of_pod:?} is not running on node {node:?} named in the PodCertificateRequest"
            ));
        }
        if pod["metadata"]["annotations"].get(MIRROR).is_some() {
            return refuse(format!("pod {of_pod:?} is a mirror pod"));
        }
        let account = pod["spec"]["serviceAccountName"].as_str().unwrap_or_default();
        if account != asked("serviceAccountName") {
            return refuse(format!(
                "PodCertificateRequest for pod {of_pod:?} contains serviceAccountName ({:?}) that differs from running \
                 pod ({account:?})",
                asked("serviceAccountName")
            ));
        }
        let Some(live) = self.reader.get("", "serviceaccounts", a.namespace, account) else {
            return missing("service account", &format!("{}/{account}", a.namespace), "serviceaccounts", account);
        };
        let uid_of_account = uid(&live.value());
        if uid_of_account != asked("serviceAccountUID") {
            return refuse(format!(
                "PodCertificateRequest for pod {of_pod:?} names service account UID {:?}, which differs from the running \
                 service account ({uid_of_account:?})",
                asked("serviceAccountUID")
            ));
        }
        Ok(())
    }

    /// For which audiences a pod's volumes ask tokens; the empty one is the API server.
    fn audiences(&self, pod: &Value) -> BTreeSet<String> {
        let mut out: BTreeSet<String> = [String::new()].into();
        for volume in pod["spec"]["volumes"].as_array().into_iter().flatten() {
            for source in volume["projected"]["sources"].as_array().into_iter().flatten() {
                if let Some(audience) = source["serviceAccountToken"]["audience"].as_str() {
                    out.insert(audience.to_string());
                }
            }
            if let Some(driver) = volume["csi"]["driver"].as_str()
                && let Some(driver) = self.reader.get("storage.k8s.io", "csidrivers", "", driver)
            {
                for request in driver.value()["spec"]["tokenRequests"].as_array().into_iter().flatten() {
                    out.insert(request["audience"].as_str().unwrap_or_default().to_string());
                }
            }
        }
        out
    }
}

/// Whether a projected volume has such a source.
fn projects(pod: &Value, source: &str) -> bool {
    let volumes = pod["spec"]["volumes"].as_array().into_iter().flatten();
    volumes.flat_map(|v| v["projected"]["sources"].as_array().into_iter().flatten()).any(|s| !s[source].is_null())
}

fn shown(operation: Operation) -> &'static str {
    match operation {
        Operation::Create => "CREATE",
        Operation::Update => "UPDATE",
        Operation::Delete => "DELETE",
        Operation::Connect => "CONNECT",
    }
}

fn node_object(a: &Attributes<'_>, node: &str) -> Result<(), Status> {
    let name = if a.name.is_empty() { a.object["metadata"]["name"].as_str().unwrap_or_default() } else { a.name };
    if name != node {
        return Err(forbidden(a, format!("node {node:?} is not allowed to modify node {name:?}")));
    }
    let empty = Value::Null;
    let old = a.old.unwrap_or(&empty);
    match a.operation {
        Operation::Create => {
            let bad = forbidden_labels(&changed_labels(&empty, a.object));
            if !bad.is_empty() {
                return Err(forbidden(
                    a,
                    format!("node {node:?} is not allowed to set the following labels: {}", bad.join(", ")),
                ));
            }
        }
        Operation::Update => {
            if old["spec"]["taints"] != a.object["spec"]["taints"] {
                return Err(forbidden(a, format!("node {node:?} is not allowed to modify taints")));
            }
            if old["metadata"]["ownerReferences"] != a.object["metadata"]["ownerReferences"] {
                return Err(forbidden(a, format!("node {node:?} is not allowed to modify ownerReferences")));
            }
            let bad = forbidden_labels(&changed_labels(old, a.object));
            if !bad.is_empty() {
                return Err(forbidden(a, format!("is not allowed to modify labels: {}", bad.join(", "))));
            }
        }
        _ => {}
    }
    Ok(())
}

/// Keys that differ between the two objects' labels.
fn changed_labels(old: &Value, new: &Value) -> BTreeSet<String> {
    let (old, new) = (&old["metadata"]["labels"], &new["metadata"]["labels"]);
    let keys = |v: &Value| v.as_object().map(|m| m.keys().cloned().collect::<BTreeSet<_>>()).unwrap_or_default();
    keys(old).union(&keys(new)).filter(|k| old.get(*k) != new.get(*k)).cloned().collect()
}

fn forbidden_labels(labels: &BTreeSet<String>) -> Vec<String> {
    let under = |namespace: &str, domain: &str| {
        namespace == domain || namespace.strip_suffix(domain).is_some_and(|rest| rest.ends_with('.'))
    };
    labels
        .iter()
        .filter(|label| {
            let namespace = label.split_once('/').map_or("", |(n, _)| n);
            if under(namespace, "node-restriction.kubernetes.io") {
                return true;
            }
            let reserved = under(namespace, "kubernetes.io") || under(namespace, "k8s.io");
            reserved
                && !KUBELET_LABELS.contains(&label.as_str())
                && !KUBELET_LABEL_PREFIXES.iter().any(|p| under(namespace, p))
        })
        .cloned()
        .collect()
}

/// An object that must have the node's own name, and be in this namespace.
fn own_name(a: &Attributes<'_>, node: &str, namespace: &str, what: &str) -> Result<(), Status> {
    if a.namespace != namespace {
        return Err(forbidden(a, format!("can only access leases in the {namespace:?} system namespace")));
    }
    let name = if a.operation == Operation::Create {
        a.object["metadata"]["name"].as_str().unwrap_or_default()
    } else {
        a.name
    };
    if name != node {
        return Err(forbidden(a, format!("can only access {what} with the same name as the requesting node")));
    }
    Ok(())
}

#[async_trait]
impl Plugin for NodeRestriction {
    fn name(&self) -> &'static str {
        "NodeRestriction"
    }

    async fn validate(&self, a: &Attributes<'_>) -> Result<(), Status> {
        let Some(node) = node_of(a.user) else { return Ok(()) };
        if node.is_empty() {
            return Err(forbidden(a, format!("could not determine node from user {:?}", a.user.name)));
        }
        match (a.resource.group.as_str(), a.resource.plural.as_str(), a.subresource) {
            ("", "pods", _) => self.pod(a, node),
            ("", "nodes", _) => node_object(a, node),
            ("", "serviceaccounts", "token") => self.token(a, node),
            ("certificates.k8s.io", "podcertificaterequests", _) => self.certificate(a, node),
            ("", "persistentvolumeclaims", sub) if sub != "status" => Err(forbidden(a, "may only update PVC status")),
            ("coordination.k8s.io", "leases", _) => own_name(a, node, "kube-node-lease", "node lease"),
            ("storage.k8s.io", "csinodes", _) => own_name(a, node, "", "CSINode"),
            ("resource.k8s.io", "resourceslices", _) => {
                let object = if a.operation == Operation::Delete { a.old.unwrap_or(&Value::Null) } else { &*a.object };
                if object["spec"]["nodeName"] != node {
                    let verb = if a.operation == Operation::Create { "create" } else { "modify" };
                    return Err(forbidden(
                        a,
                        format!("can only {verb} ResourceSlice with the same NodeName as the requesting node"),
                    ));
                }
                Ok(())
            }
            _ => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::admission::testing::Write;
    use crate::authn::User;
    use crate::testing::reader;
    use serde_json::json;

    fn kubelet() -> User {
        User::new("system:node:n1", &["system:nodes"])
    }

    async fn plugin() -> NodeRestriction {
        NodeRestriction::new(
            reader(&[
                json!({"apiVersion":"v1","kind":"Node","metadata":{"name":"n1","uid":"nu"}}),
                json!({"apiVersion":"v1","kind":"Pod","metadata":{"namespace":"d","name":"p","uid":"pu"},
                       "spec":{"nodeName":"n1","serviceAccountName":"s","volumes":[{"name":"t","projected":{"sources":[{"serviceAccountToken":{"audience":"vault","path":"t"}}]}}]}}),
                json!({"apiVersion":"v1","kind":"ServiceAccount","metadata":{"namespace":"d","name":"s","uid":"su"}}),
                json!({"apiVersion":"v1","kind":"Pod","metadata":{"namespace":"d","name":"q","uid":"qu"},"spec":{"nodeName":"n2"}}),
            ])
            .await,
        )
    }

    async fn check(write: Write, expected: &str) {
        let done = write.by(&kubelet()).validate(&plugin().await).await;
        let text = done.err().map(|e| e.message).unwrap_or_default();
        assert!(text.contains(expected) && text.is_empty() == expected.is_empty(), "{text:?} / {expected:?}");
    }

    #[tokio::test]
    async fn kubelets_make_only_mirror_pods_of_their_own() {
        let mirror = |more: fn(&mut Value)| {
            let mut v = json!({"kind":"Pod","metadata":{"name":"m","annotations":{MIRROR:"x"},
                "ownerReferences":[{"apiVersion":"v1","kind":"Node","name":"n1","uid":"nu","controller":true}]},
                "spec":{"nodeName":"n1","containers":[{"name":"c"}]}});
            more(&mut v);
            Write::create("", "pods", "d", v)
        };
        check(mirror(|_| ()), "").await;
        check(mirror(|v| v["metadata"]["annotations"] = json!({})), "can only create mirror pods").await;
        check(mirror(|v| v["spec"]["nodeName"] = "n2".into()), "spec.nodeName set to itself").await;
        check(mirror(|v| v["metadata"]["ownerReferences"][0]["uid"] = "x".into()), "UID mismatch").await;
        check(mirror(|v| v["spec"]["serviceAccountName"] = "s".into()), "reference a service account").await;
        check(mirror(|v| v["spec"]["volumes"] = json!([{"secret":{"secretName":"s"}}])), "reference secrets").await;
        for (source, named) in [("clusterTrustBundle", "clustertrustbundles"), ("podCertificate", "podcertificates")] {
            let mut v =
                json!({"kind":"Pod","metadata":{"name":"m","annotations":{MIRROR:"x"}},"spec":{"nodeName":"n1"}});
            v["spec"]["volumes"] = json!([{"projected":{"sources":[{source:{"path":"p"}}]}}]);
            check(Write::create("", "pods", "d", v), &format!("can not create pods that reference {named}")).await;
        }
    }

    #[tokio::test]
    async fn kubelets_touch_only_pods_bound_to_them() {
        let pod = |node: &str| json!({"kind":"Pod","metadata":{"name":"p"},"spec":{"nodeName":node}});
        check(Write::delete("", "pods", "d", pod("n1")), "").await;
        check(Write::delete("", "pods", "d", pod("n2")), "can only delete pods").await;
        check(Write::update("", "pods", "d", pod("n1"), pod("n1")).sub("status", "p"), "").await;
        check(Write::update("", "pods", "d", pod("n2"), pod("n2")).sub("status", "p"), "can only update pod status")
            .await;
        let mut labelled = pod("n1");
        labelled["metadata"]["labels"] = json!({"a":"b"});
        check(Write::update("", "pods", "d", pod("n1"), labelled).sub("status", "p"), "cannot update labels").await;
        check(Write::update("", "pods", "d", pod("n1"), pod("n1")), "unexpected operation \"UPDATE\"").await;
        let evict = |name: &str| {
            Write::create("", "pods", "d", json!({"kind":"Eviction","metadata":{"name":name}})).sub("eviction", name)
        };
        check(evict("p"), "").await;
        check(evict("q"), "can only evict pods").await;
        check(evict("none"), "not found").await;
    }

    #[tokio::test]
    async fn kubelets_write_only_their_own_node_without_privileged_labels() {
        let node = |name: &str, labels: Value| json!({"kind":"Node","metadata":{"name":name,"labels":labels}});
        let create = |labels: Value| Write::create("", "nodes", "", node("n1", labels));
        check(create(json!({"kubernetes.io/hostname":"n1","example.org/x":"y","node.kubernetes.io/foo":"1"})), "")
            .await;
        check(Write::create("", "nodes", "", node("n2", json!({}))), "not allowed to modify node \"n2\"").await;
        for label in ["node-restriction.kubernetes.io/a", "node-role.kubernetes.io/master", "x.k8s.io/a"] {
            check(create(json!({label:""})), &format!("not allowed to set the following labels: {label}")).await;
            let (old, new) = (node("n1", json!({})), node("n1", json!({label:""})));
            check(Write::update("", "nodes", "", old, new), &format!("is not allowed to modify labels: {label}")).await;
        }
        let mut tainted = node("n1", json!({}));
        tainted["spec"]["taints"] = json!([{"key":"a"}]);
        check(Write::update("", "nodes", "", tainted, node("n1", json!({}))), "not allowed to modify taints").await;
        let lease = |name: &str| json!({"kind":"Lease","metadata":{"name":name}});
        check(Write::create("coordination.k8s.io", "leases", "kube-node-lease", lease("n1")), "").await;
        check(Write::create("coordination.k8s.io", "leases", "kube-node-lease", lease("n2")), "same name").await;
        check(Write::create("coordination.k8s.io", "leases", "d", lease("n1")), "system namespace").await;
    }

    #[tokio::test]
    async fn kubelets_ask_for_certificates_of_their_own_pods_alone() {
        let request = |change: &[(&str, &str)]| {
            let mut v = json!({"kind":"PodCertificateRequest","metadata":{"name":"r"},"spec":{"podName":"p","podUID":"pu",
                "serviceAccountName":"s","serviceAccountUID":"su","nodeName":"n1","nodeUID":"nu"}});
            for (key, value) in change {
                v["spec"][*key] = (*value).into();
            }
            Write::create("certificates.k8s.io", "podcertificaterequests", "d", v)
        };
        check(request(&[]), "").await;
        check(request(&[("nodeName", "n2")]), "NodeName=\"n2\", which is not the requesting node \"n1\"").await;
        check(request(&[("nodeUID", "x")]), "inconsistent with the running node (\"nu\")").await;
        check(request(&[("podName", "none")]), "while retrieving pod \"d/none\" named in the PodCertificateRequest")
            .await;
        check(request(&[("podUID", "x")]), "contains pod UID (\"x\") which differs from running pod \"pu\"").await;
        check(request(&[("podName", "q"), ("podUID", "qu")]), "pod \"d/q\" is not running on node \"n1\"").await;
        check(request(&[("serviceAccountName", "t")]), "that differs from running pod (\"s\")").await;
        check(request(&[("serviceAccountUID", "x")]), "differs from the running service account (\"su\")").await;
        let object = json!({"kind":"PodCertificateRequest","metadata":{"name":"r"}});
        let update = Write::update("certificates.k8s.io", "podcertificaterequests", "d", object.clone(), object);
        check(update, "unexpected operation UPDATE").await;
    }

    #[tokio::test]
    async fn kubelets_get_tokens_only_for_their_pods() {
        let token = |name: &str, uid: &str, audience: &str| {
            let mut v = json!({"kind":"TokenRequest","spec":{"boundObjectRef":{"apiVersion":"v1","kind":"Pod","name":name,"uid":uid}}});
            if !audience.is_empty() {
                v["spec"]["audiences"] = json!([audience]);
            }
            Write::create("", "serviceaccounts", "d", v).sub("token", "s")
        };
        check(token("p", "pu", ""), "").await;
        check(token("p", "pu", "vault"), "").await;
        check(token("p", "pu", "bank"), "audience \"bank\" not found in pod spec volume").await;
        check(token("p", "old", ""), "does not match the UID in record").await;
        check(token("p", "", ""), "without a uid").await;
        check(token("q", "qu", ""), "scheduled on a different node").await;
        let unbound = Write::create("", "serviceaccounts", "d", json!({"spec":{}})).sub("token", "s");
        check(unbound, "not bound to a pod").await;
    }
}
