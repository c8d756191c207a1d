//! The Service proxy of one node: ClusterIPs, NodePorts and external addresses, by nftables.
//!
//! In: Services and EndpointSlices, from shared informers. Out: one nftables table. Packets never touch this process.
//!
//! - [`plan`] (pure): one Service and its slices → its [`plan::Frontend`]s;
//! - [`ruleset`] (pure): frontends → elements of shared maps and a handful of shared chains; remembers what the kernel
//!   has, so that a change of one Service is a transaction of its own few elements, whatever the number of Services;
//! - [`driver`]: hears of changes, commits transactions, forgets stale UDP flows.
//!
//! There are no chains per Service: the kernel validates all chains whenever a chain changes, which is quadratic
//! (10,000 Services took 15 s). Knows nothing of the API server, and of the pod network only the ranges.

pub mod driver;
pub mod plan;
pub mod ruleset;

pub use driver::{Options, reset, run};

/// Failures of the proxy; all are the environment's, and retried by the driver.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("{0}")]
    Netlink(#[from] sys::netlink::Error),
    #[error("{0}")]
    Task(#[from] tokio::task::JoinError),
}
