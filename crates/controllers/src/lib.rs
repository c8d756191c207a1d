//! Controllers: each closes one gap between what is and what should be.

use client::{Client, Informers};
use std::sync::Arc;
use stdx::Shutdown;

/// What every controller gets.
#[derive(Clone)]
pub struct Context {
    /// Shared reads of the whole cluster.
    pub informers: Informers,
    /// A client that writes as the service account `kube-system/<name>`, for example `deployment-controller`,
    /// whose rights are the ClusterRole `system:controller:<name>`.
    pub client_for: Arc<dyn Fn(&str) -> Client + Send + Sync>,
    /// For the `kube-root-ca.crt` ConfigMaps.
    pub root_ca_pem: String,
    pub shutdown: Shutdown,
}

/// Runs all controllers until shutdown.
pub async fn run(context: Context) {
    context.shutdown.cancelled().await;
}
