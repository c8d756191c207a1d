//! Cluster DNS: the names of Services and pods from memory, everything else through the node's own resolvers.
//!
//! In: Services and EndpointSlices (shared informers) and queries over UDP and TCP. Out: answers as CoreDNS gives them
//! (source: the Kubernetes DNS specification 1.1.0).
//!
//! - [`wire`]: the packet format (RFC 1035, 6891); never trusts a length;
//! - [`index`]: names and their records; pure;
//! - [`zone`]: a query → a reply, or "ask upstream"; pure;
//! - `forward`: upstream resolvers, a cache, one question in flight at a time;
//! - `standing`: which of them answer, and so how long anybody waits; pure;
//! - `server`: sockets;
//! - [`publish`]: the Service `kube-dns` that leads to this server.
//!
//! Pods reach it as they reach any Service: the cluster DNS address is the ClusterIP of `kube-system/kube-dns`, whose
//! EndpointSlice names the bridge's address on this node and the port on which we listen. So NetworkPolicy, several
//! servers and `kubectl get svc` behave as everywhere, and port 53 of the machine stays free.

mod forward;
pub mod index;
mod publish;
mod server;
mod standing;
pub mod wire;
pub mod zone;

pub use publish::{Publication, publish};
pub use server::run;

use ipnet::IpNet;
use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;

#[derive(Clone, Debug)]
pub struct DnsOptions {
    /// UDP and TCP; usually the bridge's gateway address.
    pub listen: Vec<SocketAddr>,
    /// `cluster.local`, without dots at its ends.
    pub cluster_domain: String,
    /// The ClusterIP of the DNS Service: the address of `ns.dns.<domain>`, and never an upstream.
    pub cluster_dns: Option<IpAddr>,
    /// Pod and Service ranges: reverse names in them are never asked upstream.
    pub cluster_cidrs: Vec<IpNet>,
    pub upstream: Upstream,
    /// Seconds that clients may keep an answer about the cluster. CoreDNS's default is 5.
    pub ttl_seconds: u32,
}

#[derive(Clone, Debug)]
pub enum Upstream {
    /// `nameserver` lines of this file, read again when it changes.
    ResolvConf(PathBuf),
    Servers(Vec<SocketAddr>),
    /// Names outside of the cluster are refused.
    None,
}

#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("listen for DNS on {address}/{protocol}: {source}")]
    Listen { address: SocketAddr, protocol: &'static str, source: std::io::Error },
    #[error("cluster domain {0:?} is no DNS name")]
    Domain(String),
    #[error("serve DNS: {0}")]
    Serve(String),
    #[error("publish the DNS service: {0}")]
    Publish(#[from] Box<kube::Error>),
}
