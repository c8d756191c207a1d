//! How a runtime asks for a pod's network (the part that CNI plays for a remote runtime).

use crate::{PortMapping, Result};
use async_trait::async_trait;
use std::net::IpAddr;
use std::path::Path;

#[derive(Clone, Debug, Default)]
pub struct PodNetworkRequest {
    pub sandbox_id: String,
    pub pod_namespace: String,
    pub pod_name: String,
    pub pod_uid: String,
    pub port_mappings: Vec<PortMapping>,
    /// `kubernetes.io/ingress-bandwidth` and `egress-bandwidth`, bits per second.
    pub ingress_bps: Option<u64>,
    pub egress_bps: Option<u64>,
}

#[async_trait]
pub trait PodNetwork: Send + Sync + 'static {
    /// Gives the network namespace at `netns` (a bind-mounted nsfs file) an interface `eth0`, addresses and
    /// routes; brings `lo` up. Idempotent for the same sandbox id: the same addresses come back.
    async fn setup(&self, request: &PodNetworkRequest, netns: &Path) -> Result<Vec<IpAddr>>;
    /// Frees addresses and host ports. Succeeds when there is nothing (any more) to free.
    async fn teardown(&self, sandbox_id: &str, netns: &Path) -> Result<()>;
    /// `Err` with the reason when pods can't get a network yet; becomes the `NetworkReady` condition.
    async fn ready(&self) -> std::result::Result<(), String>;
    /// Frees what belongs to no sandbox in `live`; called once after start.
    async fn reconcile(&self, live: &[String]) -> Result<()>;
}
