//! The kubelet: brings the pods that are bound to this node to life, keeps them so, and tells the API about it.
//!
//! In: pods from the API (one watch), events of the container runtime, results of probes, time. Out: calls of the
//! runtime, status of pods and of the node, events, and the node's own API on port 10250 (logs, exec, attach,
//! port-forward, metrics).
//!
//! Start reading at [`pods`]; the decisions are in [`pods::plan`] and [`pods::status`], both pure.

pub mod container;
pub mod events;
pub mod images;
pub mod labels;
pub mod logs;
pub mod node;
pub mod objects;
pub mod options;
pub mod pods;
pub mod probes;
pub mod quantity;
pub mod resources;
pub mod server;
pub mod services;
pub mod streaming;
pub mod testing;
pub mod volumes;

pub use options::{Identity, KubeletOptions, NodeAuth, NodeRequest};

use cri::{ImageService, RuntimeService};
use kube::Client;
use std::path::PathBuf;
use std::sync::Arc;
use stdx::Shutdown;

#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("create directory {path}: {source}")]
    Directory { path: PathBuf, source: std::io::Error },
    #[error("ask the container runtime: {0}")]
    Runtime(#[from] cri::Error),
    #[error("read the machine's facts: {0}")]
    Machine(std::io::Error),
    #[error("find the cgroup hierarchy: {0}")]
    Cgroup(#[from] sys::cgroup::Error),
    #[error("serve the node API: {0}")]
    Server(#[from] server::ServeError),
}

/// Runs until `shutdown`. Pods go on running afterwards: a kubelet that starts again finds them.
pub async fn run(
    client: Client,
    runtime: Arc<dyn RuntimeService>,
    images: Arc<dyn ImageService>,
    options: KubeletOptions,
    shutdown: Shutdown,
) -> Result<(), Error> {
    for dir in [&options.root_dir.join("pods"), &options.log_dir] {
        std::fs::create_dir_all(dir).map_err(|source| Error::Directory { path: dir.clone(), source })?;
    }
    let context = pods::context::Context::new(client, runtime, images, options, shutdown.clone()).await?;
    // Bound before the node says that it is Ready, so that nobody finds the port closed.
    let server = server::bind(context.clone()).await?;
    let node = tokio::spawn(node::run(context.clone()));
    let rotation = tokio::spawn(logs::rotate::run(context.clone()));
    let serving = tokio::spawn(server::serve(server, context.clone()));
    pods::manager::run(context.clone()).await?;
    shutdown.cancelled().await;
    for task in [node, rotation, serving] {
        let _ = task.await;
    }
    Ok(())
}

/// The text of an API failure as the server wrote it.
pub(crate) fn api_message(error: &kube::Error) -> String {
    match error {
        kube::Error::Api(status) => status.message.clone(),
        other => other.to_string(),
    }
}
