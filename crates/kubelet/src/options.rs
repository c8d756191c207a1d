//! What a kubelet is told when it starts.

use async_trait::async_trait;
use k8s_openapi::api::core::v1::Taint;
use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::sync::Arc;

#[derive(Clone)]
pub struct KubeletOptions {
    pub node_name: String,
    /// Primary first.
    pub node_ips: Vec<IpAddr>,
    /// Pods' volumes and files; `/var/lib/skiff/kubelet`.
    pub root_dir: PathBuf,
    /// Pods' logs, upstream's `/var/log/pods`.
    pub log_dir: PathBuf,
    /// Cgroup below which pods live, like `/skiff`; `None` leaves cgroups alone (tests, unprivileged).
    pub cgroup_root: Option<String>,
    pub cluster_dns: Vec<IpAddr>,
    pub cluster_domain: String,
    /// The node's, read for pods with dnsPolicy `Default` and for upstream search domains.
    pub resolv_conf: PathBuf,
    /// Of the node API; `None` doesn't serve it.
    pub listen: Option<SocketAddr>,
    /// Serving certificate chain and key, PEM. Without them the node API isn't served.
    pub tls_cert_pem: Option<Vec<u8>>,
    pub tls_key_pem: Option<Vec<u8>>,
    /// Instead of those two: a certificate that may be replaced while the node API is served.
    pub tls_certificate: Option<std::sync::Arc<dyn rustls::server::ResolvesServerCert>>,
    /// Signs the client certificates that are let in, PEM.
    pub client_ca_pem: Option<Vec<u8>>,
    pub max_pods: u32,
    /// When the node says that it is under pressure.
    pub eviction_hard: crate::node::thresholds::Thresholds,
    /// Processes in one pod; `None` is no limit.
    pub pod_pids_max: Option<i64>,
    pub labels: BTreeMap<String, String>,
    pub taints: Vec<Taint>,
    pub provider_id: Option<String>,
    pub pod_cidrs: Vec<String>,
    /// `v1.36.0+skiff…`, in `nodeInfo`.
    pub version: String,
    /// `None` uses [`crate::server::auth::ApiAuth`]: client certificates, then TokenReview, then SubjectAccessReview.
    pub auth: Option<Arc<dyn NodeAuth>>,
    /// Bytes of one log file before it is rotated, and how many are kept.
    pub log_size_max: u64,
    pub log_files_max: u32,
    /// Bytes of memory held back from pods.
    pub reserved_memory: u64,
    /// CPU held back from pods, thousandths.
    pub reserved_cpu_milli: u64,
}

impl KubeletOptions {
    /// Upstream's defaults for everything but names and places.
    pub fn new(node_name: impl Into<String>, data_dir: impl Into<PathBuf>) -> KubeletOptions {
        let data_dir = data_dir.into();
        KubeletOptions {
            node_name: node_name.into(),
            node_ips: Vec::new(),
            root_dir: data_dir.join("kubelet"),
            log_dir: data_dir.join("logs/pods"),
            cgroup_root: Some("/skiff".into()),
            cluster_dns: Vec::new(),
            cluster_domain: "cluster.local".into(),
            resolv_conf: "/etc/resolv.conf".into(),
            listen: None,
            tls_cert_pem: None,
            tls_key_pem: None,
            tls_certificate: None,
            client_ca_pem: None,
            max_pods: 110,
            eviction_hard: Default::default(),
            pod_pids_max: None,
            labels: BTreeMap::new(),
            taints: Vec::new(),
            provider_id: None,
            pod_cidrs: Vec::new(),
            version: "v1.36.0".into(),
            auth: None,
            log_size_max: 10 << 20,
            log_files_max: 5,
            reserved_memory: 0,
            reserved_cpu_milli: 0,
        }
    }

    pub fn pod_dir(&self, uid: &str) -> PathBuf {
        self.root_dir.join("pods").join(uid)
    }

    pub fn pod_log_dir(&self, namespace: &str, name: &str, uid: &str) -> PathBuf {
        self.log_dir.join(format!("{namespace}_{name}_{uid}"))
    }
}

/// Who asks the node API.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Identity {
    pub user: String,
    pub uid: String,
    pub groups: Vec<String>,
}

/// What is asked of it: a subresource of this node (`nodes/proxy`, `nodes/log`, `nodes/stats`, `nodes/metrics`, …).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NodeRequest {
    /// `get`, `create`, …
    pub verb: String,
    /// Any one of these is enough; the fine-grained one first.
    pub subresources: Vec<String>,
    pub node: String,
}

#[async_trait]
pub trait NodeAuth: Send + Sync + 'static {
    /// `None`: not (or wrongly) authenticated.
    async fn authenticate_token(&self, token: &str) -> Option<Identity>;
    async fn authorize(&self, identity: &Identity, request: &NodeRequest) -> bool;
}
