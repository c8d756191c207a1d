//! The embedded pod network of one node: a Linux bridge, an address for every pod, host ports and masquerading.
//!
//! In: a network namespace and a sandbox id from the runtime ([`cri::PodNetwork`]). Out: an `eth0` that reaches every
//! pod, Service and the world. State is one small file per address, so that a killed agent finds everything again.
//!
//! ```text
//!   pod netns                      node netns
//!   eth0 10.42.0.5/32 ──veth──► skiff0 10.42.0.1/24 ──routing, nftables──► everything else
//!   default via 10.42.0.1
//! ```
//!
//! Pods have a /32 and no on-link neighbours but the gateway: all traffic, also between pods of one node, passes the
//! node's IP layer, where translation for Services is undone and policy is enforced, with or without `br_netfilter`.
//! Knows nothing of HTTP or Kubernetes objects.

mod bridge;
mod ipam;
mod rules;

pub use bridge::{Bridge, BridgeOptions};
pub use ipam::{Allocation, HostPort, Ipam};

/// Failures of the pod network. All are the environment's; all but `Exhausted` and `PortTaken` may pass on retry.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("{0}")]
    Options(String),
    #[error("{0}")]
    Netlink(#[from] sys::netlink::Error),
    #[error("{what} {}: {source}", path.display())]
    File { what: &'static str, path: std::path::PathBuf, source: std::io::Error },
    #[error("no free address in {0}")]
    Exhausted(ipnet::IpNet),
    #[error("host port {port}/{protocol} is in use by sandbox {owner}")]
    PortTaken { port: u16, protocol: &'static str, owner: String },
}

pub type Result<T> = std::result::Result<T, Error>;

impl From<Error> for cri::Error {
    fn from(e: Error) -> cri::Error {
        match e {
            Error::Exhausted(_) => cri::Error::Unavailable(format!("failed to allocate for range: {e}")),
            Error::PortTaken { .. } => cri::Error::AlreadyExists(e.to_string()),
            Error::Options(_) => cri::Error::InvalidArgument(e.to_string()),
            _ => cri::Error::Internal(format!("failed to set up pod network: {e}")),
        }
    }
}
