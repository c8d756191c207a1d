//! NodeRestriction: a kubelet writes only its own Node, Lease and CSINode, and only pods that are bound to it, for which
//! it alone asks for certificates.
//!
//! The Node authorizer lets kubelets write these kinds; this plugin sees the objects and narrows it to their own.

use super::{Attributes, Operation, Plugin, certificate_subject_restriction, forbidden};
use crate::authz::node::{References, node_of};
use crate::authz::{Attributes as Question, Authorizer};
use crate::reader::{Object, Reader};
use api::kinds::pod::update::difference;
use async_trait::async_trait;
use meta::status::Status;
use serde_json::{Value, json};
use std::collections::BTreeSet;
use std::sync::Arc;

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

/// Signers of kubelets' own certificates.
const KUBELET_SIGNERS: [&str; 2] = ["kubernetes.io/kubelet-serving", "kubernetes.io/kube-apiserver-client-kubelet"];
/// Volumes of old drivers, and the CSI driver that serves them now.
const MIGRATED: &[(&str, &str)] = &[
    ("awsElasticBlockStore", "ebs.csi.aws.com"),
    ("azureDisk", "disk.csi.azure.com"),
    ("azureFile", "file.csi.azure.com"),
    ("cinder", "cinder.csi.openstack.org"),
    ("gcePersistentDisk", "pd.csi.storage.gke.io"),
    ("portworxVolume", "pxd.portworx.com"),
    ("vsphereVolume", "csi.vsphere.vmware.com"),
];

pub struct NodeRestriction {
    reader: Reader,
    authorizer: Arc<dyn Authorizer>,
}

impl NodeRestriction {
    pub fn new(reader: Reader, authorizer: Arc<dyn Authorizer>) -> NodeRestriction {
        NodeRestriction { reader, authorizer }
    }

    /// The object, or that it isn't there in the words of upstream's caches, which name kinds in the singular.
    fn get(&self, group: &str, kind: &str, namespace: &str, name: &str) -> Result<Object, Status> {
        let found = self.reader.get(group, &format!("{kind}s"), namespace, name);
        found.ok_or_else(|| Status::not_found(group, kind, name))
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
                    // Upstream's spelling.
                    return Err(forbidden(a, format!("node {node:?} cannot update resource claim statues")));
                }
                Ok(())
            }
            ("eviction", Operation::Create) => {
                let name =
                    if a.name.is_empty() { a.object["metadata"]["name"].as_str().unwrap_or_default() } else { a.name };
                if self.get("", "pod", a.namespace, name)?.value()["spec"]["nodeName"] != node {
                    return Err(forbidden(
                        a,
                        format!("node {node} can only evict pods with spec.nodeName set to itself"),
                    ));
                }
                Ok(())
            }
            ("", operation) => Err(forbidden(
                a,
                format!(
                    "unexpected operation {:?}, node {node:?} can only create and delete mirror pods",
                    shown(operation)
                ),
            )),
            ("status", operation) => Err(forbidden(a, format!("unexpected operation {:?}", shown(operation)))),
            ("eviction", operation) => Err(forbidden(a, format!("unexpected operation {}", shown(operation)))),
            (sub, _) => Err(forbidden(
                a,
                format!("unexpected pod subresource {sub:?}, only 'status' and 'eviction' are allowed"),
            )),
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
        let Some(owner) = owners.first() else {
            return refuse(format!("node {node:?} can only create pods with an owner reference set to itself"));
        };
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
        let own = self.get("", "node", "", node)?.value();
        let uid = |v: &Value| v["uid"].as_str().unwrap_or_default().to_string();
        let (expected, got) = (uid(owner), uid(&own["metadata"]));
        if expected != got {
            return refuse(format!("node {node} UID mismatch: expected {expected} got {got}"));
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

    async fn token(&self, a: &Attributes<'_>, node: &str) -> Result<(), Status> {
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
        let pod = self.get("", "pod", a.namespace, name)?.value();
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
        let audience = match spec["audiences"].as_array().map(Vec::as_slice).unwrap_or_default() {
            [] => "",
            [one] => one.as_str().unwrap_or_default(),
            _ => return Err(forbidden(a, "node may only request 0 or 1 audiences")),
        };
        match self.has_audience(&pod, audience) {
            Ok(true) => return Ok(()),
            Ok(false) => {}
            Err(why) => return Err(forbidden(a, format!("error validating audience {audience:?}: {why}"))),
        }
        let verb = "request-serviceaccounts-token-audience";
        let question = Question::resource(a.user, verb, "", audience, a.namespace, a.name);
        if self.authorizer.authorize(&question).await.allowed() {
            return Ok(());
        }
        Err(forbidden(
            a,
            format!(
                "audience {audience:?} not found in pod spec volume, {} is not authorized to request tokens for this \
                 audience",
                a.user.name
            ),
        ))
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
        let named = |what: &str, name: &str| {
            let what = format!("while retrieving {what} {name:?} named in the PodCertificateRequest");
            move |missing: Status| forbidden(a, format!("{what}: {}", missing.message))
        };
        let running = self.get("", "node", "", node).map_err(named("node", node))?;
        let uid_of_node = uid(&running.value());
        if uid_of_node != asked("nodeUID") {
            return refuse(format!(
                "PodCertificateRequest for pod {of_pod:?} names node UID {:?}, inconsistent with the running node \
                 ({uid_of_node:?})",
                asked("nodeUID")
            ));
        }
        let pod = self.get("", "pod", a.namespace, asked("podName")).map_err(named("pod", &of_pod))?.value();
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
        let of_account = format!("{}/{account}", a.namespace);
        let live =
            self.get("", "serviceaccount", a.namespace, account).map_err(named("service account", &of_account))?;
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

    /// Whether one of a pod's volumes asks tokens for the audience; the empty one is the API server.
    fn has_audience(&self, pod: &Value, audience: &str) -> Result<bool, String> {
        let mut errors = Vec::new();
        for volume in pod["spec"]["volumes"].as_array().into_iter().flatten() {
            let sources = volume["projected"]["sources"].as_array().into_iter().flatten();
            let mut tokens = sources.map(|s| &s["serviceAccountToken"]).filter(|t| !t.is_null());
            if tokens.any(|t| t["audience"].as_str().unwrap_or_default() == audience) {
                return Ok(true);
            }
            match self.driver(pod, volume).and_then(|driver| self.driver_asks(&driver, audience)) {
                Ok(true) => return Ok(true),
                Ok(false) => {}
                Err(missing) => errors.push(missing.message),
            }
        }
        match errors.as_slice() {
            [] => Ok(false),
            [one] => Err(one.clone()),
            many => Err(format!("[{}]", many.join(", "))),
        }
    }

    /// The CSI driver of a volume, empty if it has none.
    fn driver(&self, pod: &Value, volume: &Value) -> Result<String, Status> {
        let text = |v: &Value| v.as_str().unwrap_or_default().to_string();
        let migrated = |v: &Value| MIGRATED.iter().find(|(kind, _)| !v[*kind].is_null()).map(|(_, driver)| driver);
        let claim = if volume["ephemeral"].is_null() {
            text(&volume["persistentVolumeClaim"]["claimName"])
        } else {
            format!("{}-{}", text(&pod["metadata"]["name"]), text(&volume["name"]))
        };
        if !volume["csi"].is_null() {
            return Ok(text(&volume["csi"]["driver"]));
        }
        if claim.is_empty() {
            return Ok(migrated(volume).copied().unwrap_or_default().to_string());
        }
        let namespace = text(&pod["metadata"]["namespace"]);
        let claim = self.get("", "persistentvolumeclaim", &namespace, &claim)?.value();
        let volume = self.get("", "persistentvolume", "", &text(&claim["spec"]["volumeName"]))?.value();
        let spec = &volume["spec"];
        Ok(match spec["csi"].is_null() {
            false => text(&spec["csi"]["driver"]),
            true => migrated(spec).copied().unwrap_or_default().to_string(),
        })
    }

    fn driver_asks(&self, driver: &str, audience: &str) -> Result<bool, Status> {
        if driver.is_empty() {
            return Ok(false);
        }
        let driver = self.get("storage.k8s.io", "csidriver", "", driver)?.value();
        let mut requests = driver["spec"]["tokenRequests"].as_array().into_iter().flatten();
        Ok(requests.any(|r| r["audience"].as_str().unwrap_or_default() == audience))
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

/// Of a claim, a kubelet tells how large it is and how it grows.
fn claim_status(a: &Attributes<'_>, node: &str) -> Result<(), Status> {
    if a.subresource != "status" {
        return Err(forbidden(a, "may only update PVC status"));
    }
    if a.operation != Operation::Update {
        return Err(forbidden(a, format!("unexpected operation {:?}", shown(a.operation))));
    }
    let rest = |v: &Value| {
        let mut v = v.clone();
        for (at, keys) in [
            ("metadata", &["resourceVersion", "managedFields"][..]),
            ("status", &["capacity", "conditions", "allocatedResourceStatuses", "allocatedResources"]),
        ] {
            if let Some(map) = v.get_mut(at).and_then(Value::as_object_mut) {
                map.retain(|key, _| !keys.contains(&key.as_str()));
            }
        }
        if v["status"] == json!({})
            && let Some(map) = v.as_object_mut()
        {
            map.remove("status");
        }
        v
    };
    let (old, new) = (rest(a.old.unwrap_or(&Value::Null)), rest(a.object));
    if old == new {
        return Ok(());
    }
    let changed = difference("core.PersistentVolumeClaim", &old, &new);
    Err(forbidden(
        a,
        format!(
            "node {node:?} is not allowed to update fields other than status.quantity and status.conditions: {changed}"
        ),
    ))
}

/// A kubelet asks for certificates in its own name.
fn signing_request(a: &Attributes<'_>, node: &str) -> Result<(), Status> {
    let spec = &a.object["spec"];
    let signer = spec["signerName"].as_str().unwrap_or_default();
    if a.operation != Operation::Create || !KUBELET_SIGNERS.contains(&signer) {
        return Ok(());
    }
    let subject = certificate_subject_restriction::subject(spec["request"].as_str().unwrap_or_default())
        .map_err(|why| forbidden(a, format!("unable to parse csr: {why}")))?;
    if subject.common_name != format!("system:node:{node}") {
        return Err(forbidden(a, format!("can only create a node CSR with CN=system:node:{node}")));
    }
    Ok(())
}

/// The Node authorizer has seen to the slices that are there, but for those of a whole collection.
fn resource_slice(a: &Attributes<'_>, node: &str) -> Result<(), Status> {
    let (object, verb) = match a.operation {
        Operation::Create => (&*a.object, "create"),
        Operation::Delete => (a.old.unwrap_or(&Value::Null), "delete"),
        _ => return Ok(()),
    };
    if object["spec"]["nodeName"] == node {
        return Ok(());
    }
    Err(forbidden(a, format!("can only {verb} ResourceSlice with the same NodeName as the requesting node")))
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

    /// Before anything is filled in, as upstream: what kubelets say themselves is what counts.
    async fn admit(&self, a: &mut Attributes<'_>) -> Result<(), Status> {
        let a = &*a;
        let Some(node) = node_of(a.user) else { return Ok(()) };
        if node.is_empty() {
            return Err(forbidden(a, format!("could not determine node from user {:?}", a.user.name)));
        }
        match (a.resource.group.as_str(), a.resource.plural.as_str(), a.subresource) {
            ("", "pods", _) => self.pod(a, node),
            ("", "nodes", _) => node_object(a, node),
            ("", "serviceaccounts", "token") => self.token(a, node).await,
            ("certificates.k8s.io", "podcertificaterequests", _) => self.certificate(a, node),
            ("", "persistentvolumeclaims", _) => claim_status(a, node),
            ("coordination.k8s.io", "leases", _) => own_name(a, node, "kube-node-lease", "node lease"),
            ("storage.k8s.io", "csinodes", _) => own_name(a, node, "", "CSINode"),
            ("resource.k8s.io", "resourceslices", _) => resource_slice(a, node),
            ("certificates.k8s.io", "certificatesigningrequests", _) => signing_request(a, node),
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
        let audiences = json!({"apiVersion":"rbac.authorization.k8s.io/v1","kind":"Role","metadata":{"namespace":"d","name":"a"},
            "rules":[{"apiGroups":[""],"resources":["https://lent/x"],"verbs":["request-serviceaccounts-token-audience"],
                      "resourceNames":["s"]}]});
        let lent = json!({"apiVersion":"rbac.authorization.k8s.io/v1","kind":"RoleBinding","metadata":{"namespace":"d","name":"a"},
            "roleRef":{"kind":"Role","name":"a"},"subjects":[{"kind":"Group","name":"system:nodes"}]});
        let driver = |name: &str, audience: &str| {
            json!({"apiVersion":"storage.k8s.io/v1","kind":"CSIDriver","metadata":{"name":name},
                   "spec":{"tokenRequests":[{"audience":audience}]}})
        };
        let claim = |name: &str, volume: &str| {
            json!({"apiVersion":"v1","kind":"PersistentVolumeClaim","metadata":{"namespace":"d","name":name},
                   "spec":{"volumeName":volume}})
        };
        let volume = |name: &str, spec: Value| json!({"apiVersion":"v1","kind":"PersistentVolume","metadata":{"name":name},"spec":spec});
        let reader =
            reader(&[
                audiences,
                lent,
                driver("x.csi", "by-claim"),
                driver("y.csi", "by-ephemeral"),
                driver("file.csi.azure.com", "by-migration"),
                claim("c", "x"),
                claim("v-e", "y"),
                volume("x", json!({"csi":{"driver":"x.csi"}})),
                volume("y", json!({"csi":{"driver":"y.csi"}})),
                json!({"apiVersion":"v1","kind":"Pod","metadata":{"namespace":"d","name":"v","uid":"vu"},
                       "spec":{"nodeName":"n1","serviceAccountName":"s","volumes":[
                           {"name":"c","persistentVolumeClaim":{"claimName":"c"}},{"name":"e","ephemeral":{}},
                           {"name":"a","azureFile":{"secretName":"k"}}]}}),
                json!({"apiVersion":"v1","kind":"Pod","metadata":{"namespace":"d","name":"w","uid":"wu"},
                       "spec":{"nodeName":"n1","serviceAccountName":"s","volumes":[
                           {"name":"c","csi":{"driver":"z.csi"}},{"name":"e","persistentVolumeClaim":{"claimName":"gone"}}]}}),
                json!({"apiVersion":"v1","kind":"Node","metadata":{"name":"n1","uid":"nu"}}),
                json!({"apiVersion":"v1","kind":"Pod","metadata":{"namespace":"d","name":"p","uid":"pu"},
                       "spec":{"nodeName":"n1","serviceAccountName":"s","volumes":[{"name":"t","projected":{"sources":[{"serviceAccountToken":{"path":"t"}},{"serviceAccountToken":{"audience":"vault","path":"t"}}]}}]}}),
                json!({"apiVersion":"v1","kind":"ServiceAccount","metadata":{"namespace":"d","name":"s","uid":"su"}}),
                json!({"apiVersion":"v1","kind":"Pod","metadata":{"namespace":"d","name":"q","uid":"qu"},"spec":{"nodeName":"n2"}}),
            ])
            .await;
        let (chain, _) = crate::authz::Chain::standard(reader.clone());
        NodeRestriction::new(reader, Arc::new(chain))
    }

    async fn check(write: Write, expected: &str) {
        let done = write.by(&kubelet()).admit(&plugin().await).await;
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
        let mismatch = "node n1 UID mismatch: expected x got nu";
        check(mirror(|v| v["metadata"]["ownerReferences"][0]["uid"] = "x".into()), mismatch).await;
        let unowned = "can only create pods with an owner reference set to itself";
        check(mirror(|v| v["metadata"]["ownerReferences"] = json!([])), unowned).await;
        check(mirror(|v| v["spec"]["serviceAccountName"] = "s".into()), "reference a service account").await;
        check(mirror(|v| v["spec"]["volumes"] = json!([{"secret":{"secretName":"s"}}])), "reference secrets").await;
        for (source, named) in [("clusterTrustBundle", "clustertrustbundles"), ("podCertificate", "podcertificates")] {
            let mut v = mirror(|_| ()).look(|a| a.object.clone());
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
        let mut claiming = pod("n1");
        claiming["status"]["resourceClaimStatuses"] = json!([{"name":"c"}]);
        let statues = "node \"n1\" cannot update resource claim statues";
        check(Write::update("", "pods", "d", pod("n1"), claiming).sub("status", "p"), statues).await;
        let update = || Write::update("", "pods", "d", pod("n1"), pod("n1"));
        let only = "unexpected operation \"UPDATE\", node \"n1\" can only create and delete mirror pods";
        check(update(), only).await;
        let others = "unexpected pod subresource \"resize\", only 'status' and 'eviction' are allowed";
        check(update().sub("resize", "p"), others).await;
        let evict = |name: &str| {
            Write::create("", "pods", "d", json!({"kind":"Eviction","metadata":{"name":name}})).sub("eviction", name)
        };
        check(evict("p"), "").await;
        check(evict("q"), "node n1 can only evict pods with spec.nodeName set to itself").await;
        check(evict("none"), "pod \"none\" not found").await;
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
        let missing = "while retrieving pod \"d/none\" named in the PodCertificateRequest: pod \"none\" not found";
        check(request(&[("podName", "none")]), missing).await;
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
        for audience in ["by-claim", "by-ephemeral", "by-migration", "https://lent/x"] {
            check(token("v", "vu", audience), "").await;
        }
        let unmentioned = |audience: &str| {
            format!(
                "audience {audience:?} not found in pod spec volume, system:node:n1 is not authorized to request \
                 tokens for this audience"
            )
        };
        check(token("p", "pu", "bank"), &unmentioned("bank")).await;
        // A pod whose account isn't mounted needs no token for the API server either.
        check(token("v", "vu", ""), &unmentioned("")).await;
        let broken = "error validating audience \"bank\": [csidriver.storage.k8s.io \"z.csi\" not found, \
                      persistentvolumeclaim \"gone\" not found]";
        check(token("w", "wu", "bank"), broken).await;
        let mut two = token("p", "pu", "vault").look(|a| a.object.clone());
        two["spec"]["audiences"] = json!(["vault", "bank"]);
        let two = Write::create("", "serviceaccounts", "d", two).sub("token", "s");
        check(two, "node may only request 0 or 1 audiences").await;
        check(token("p", "old", ""), "does not match the UID in record").await;
        check(token("p", "", ""), "without a uid").await;
        check(token("q", "qu", ""), "scheduled on a different node").await;
        let unbound = Write::create("", "serviceaccounts", "d", json!({"spec":{}})).sub("token", "s");
        check(unbound, "not bound to a pod").await;
    }

    #[tokio::test]
    async fn kubelets_tell_of_claims_only_how_large_they_are() {
        let claim = |capacity: &str, phase: &str| {
            json!({"kind":"PersistentVolumeClaim","metadata":{"name":"c","resourceVersion":capacity},
                   "status":{"capacity":{"storage":capacity},"phase":phase}})
        };
        let update = |new: Value| Write::update("", "persistentvolumeclaims", "d", claim("1", "Bound"), new);
        check(update(claim("2", "Bound")).sub("status", "c"), "").await;
        let more = "node \"n1\" is not allowed to update fields other than status.quantity and status.conditions: ";
        check(update(claim("1", "Lost")).sub("status", "c"), more).await;
        let mut kept = claim("1", "Bound");
        kept["metadata"]["finalizers"] = json!(["a/b"]);
        check(update(kept).sub("status", "c"), more).await;
        check(update(claim("2", "Bound")), "may only update PVC status").await;
    }

    #[tokio::test]
    async fn kubelets_ask_for_certificates_in_their_own_name() {
        use base64::{Engine, engine::general_purpose::STANDARD};
        let request = |name: &str, signer: &str| {
            let mut params = rcgen::CertificateParams::default();
            params.distinguished_name.push(rcgen::DnType::CommonName, name);
            let pem = params.serialize_request(&rcgen::KeyPair::generate().unwrap()).unwrap().pem().unwrap();
            let spec = json!({"signerName":signer,"request":STANDARD.encode(pem)});
            let object = json!({"kind":"CertificateSigningRequest","metadata":{"name":"r"},"spec":spec});
            Write::create("certificates.k8s.io", "certificatesigningrequests", "", object)
        };
        for signer in KUBELET_SIGNERS {
            check(request("system:node:n1", signer), "").await;
            check(request("system:node:n2", signer), "can only create a node CSR with CN=system:node:n1").await;
        }
        check(request("anybody", "example.com/x"), "").await;
        let junk = json!({"kind":"CertificateSigningRequest","metadata":{"name":"r"},
                          "spec":{"signerName":KUBELET_SIGNERS[0],"request":"eA=="}});
        let junk = Write::create("certificates.k8s.io", "certificatesigningrequests", "", junk);
        check(junk, "unable to parse csr: PEM block type must be CERTIFICATE REQUEST").await;
        let slice = |node: &str| json!({"kind":"ResourceSlice","metadata":{"name":"s"},"spec":{"nodeName":node}});
        let group = "resource.k8s.io";
        check(Write::create(group, "resourceslices", "", slice("n1")), "").await;
        let theirs = "ResourceSlice with the same NodeName as the requesting node";
        let create = Write::create(group, "resourceslices", "", slice("n2"));
        check(create, &format!("can only create {theirs}")).await;
        let delete = Write::delete(group, "resourceslices", "", slice("n2"));
        check(delete, &format!("can only delete {theirs}")).await;
    }
}
