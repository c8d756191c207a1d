//! The scheduler's picture of the cluster: nodes with what runs (or is about to run) on them.

use crate::resources::{Amounts, pod_requests};
use client::informer::key_of;
use k8s_openapi::api::core::v1::{Node, Pod};
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;

/// A host port that is taken: `(host IP, protocol, port)`.
pub type HostPort = (String, String, i32);

/// A node and its pods.
#[derive(Clone, Debug, Default)]
pub struct NodeInfo {
    pub node: Option<Arc<Node>>,
    pub allocatable: Amounts,
    pub requested: Amounts,
    pub pods: HashMap<String, Arc<Pod>>,
    pub ports: BTreeMap<HostPort, usize>,
}

impl NodeInfo {
    pub fn name(&self) -> &str {
        self.node.as_ref().and_then(|n| n.metadata.name.as_deref()).unwrap_or_default()
    }

    pub fn label(&self, key: &str) -> Option<&str> {
        self.node.as_ref()?.metadata.labels.as_ref()?.get(key).map(String::as_str)
    }

    fn add(&mut self, key: &str, pod: Arc<Pod>) {
        self.remove(key);
        if let Some(spec) = &pod.spec {
            self.requested.add(&pod_requests(spec));
            for p in host_ports(&pod) {
                *self.ports.entry(p).or_default() += 1;
            }
        }
        self.pods.insert(key.to_string(), pod);
    }

    fn remove(&mut self, key: &str) {
        let Some(pod) = self.pods.remove(key) else { return };
        if let Some(spec) = &pod.spec {
            self.requested.subtract(&pod_requests(spec));
            for p in host_ports(&pod) {
                if let Some(n) = self.ports.get_mut(&p) {
                    *n -= 1;
                    if *n == 0 {
                        self.ports.remove(&p);
                    }
                }
            }
        }
    }
}

/// The host ports that a pod asks for.
pub fn host_ports(pod: &Pod) -> BTreeSet<HostPort> {
    let Some(spec) = &pod.spec else { return BTreeSet::new() };
    let sidecars = spec.init_containers.iter().flatten().filter(|c| c.restart_policy.as_deref() == Some("Always"));
    spec.containers
        .iter()
        .chain(sidecars)
        .flat_map(|c| c.ports.iter().flatten())
        .filter_map(|p| {
            let port = p.host_port.filter(|p| *p > 0)?;
            let ip = p.host_ip.clone().filter(|i| !i.is_empty()).unwrap_or_else(|| "0.0.0.0".into());
            Some((ip, p.protocol.clone().unwrap_or_else(|| "TCP".into()), port))
        })
        .collect()
}

/// All nodes. Changed by events as they come, and by decisions that are not yet events ("assumed").
#[derive(Debug, Default)]
pub struct Snapshot {
    nodes: BTreeMap<String, NodeInfo>,
    /// Where each known pod is counted.
    placed: HashMap<String, String>,
    assumed: BTreeSet<String>,
}

impl Snapshot {
    pub fn nodes(&self) -> impl Iterator<Item = &NodeInfo> {
        self.nodes.values().filter(|n| n.node.is_some())
    }

    pub fn node(&self, name: &str) -> Option<&NodeInfo> {
        self.nodes.get(name).filter(|n| n.node.is_some())
    }

    pub fn len(&self) -> usize {
        self.nodes().count()
    }

    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    pub fn set_node(&mut self, node: Arc<Node>) {
        let name = node.metadata.name.clone().unwrap_or_default();
        let info = self.nodes.entry(name).or_default();
        info.allocatable = Amounts::of(node.status.as_ref().and_then(|s| s.allocatable.as_ref()));
        info.node = Some(node);
    }

    pub fn remove_node(&mut self, name: &str) {
        if let Some(info) = self.nodes.get_mut(name) {
            info.node = None;
            if info.pods.is_empty() {
                self.nodes.remove(name);
            }
        }
    }

    /// A pod as the API has it: counted on its node, unless it is finished.
    pub fn set_pod(&mut self, pod: Arc<Pod>) {
        let key = key_of(pod.as_ref());
        let node = pod.spec.as_ref().and_then(|s| s.node_name.clone()).unwrap_or_default();
        let phase = pod.status.as_ref().and_then(|s| s.phase.as_deref()).unwrap_or("");
        if phase == "Succeeded" || phase == "Failed" {
            return self.remove_pod(&key);
        }
        if node.is_empty() {
            // Not bound yet; an assumed place stays until the binding is seen or given up.
            if !self.assumed.contains(&key) {
                self.remove_pod(&key);
            }
            return;
        }
        self.assumed.remove(&key);
        self.place(&key, &node, pod);
    }

    pub fn remove_pod(&mut self, key: &str) {
        self.assumed.remove(key);
        if let Some(node) = self.placed.remove(key)
            && let Some(info) = self.nodes.get_mut(&node)
        {
            info.remove(key);
        }
    }

    /// Counts a pod on a node that it is being bound to.
    pub fn assume(&mut self, pod: Arc<Pod>, node: &str) {
        let key = key_of(pod.as_ref());
        self.assumed.insert(key.clone());
        self.place(&key, node, pod);
    }

    /// Takes back an assumption whose binding failed.
    pub fn forget(&mut self, key: &str) {
        if self.assumed.contains(key) {
            self.remove_pod(key);
        }
    }

    fn place(&mut self, key: &str, node: &str, pod: Arc<Pod>) {
        if let Some(before) = self.placed.get(key).filter(|b| *b != node).cloned()
            && let Some(info) = self.nodes.get_mut(&before)
        {
            info.remove(key);
        }
        self.nodes.entry(node.to_string()).or_default().add(key, pod);
        self.placed.insert(key.to_string(), node.to_string());
    }
}
