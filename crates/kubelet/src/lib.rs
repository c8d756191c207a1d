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
use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;
use stdx::Shutdown;
use tokio::task::JoinSet;

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
    #[error("{task}: {why}")]
    Ended { task: &'static str, why: String },
}

/// Workers and tasks that were told to stop get this long.
const STOP_TIMEOUT: Duration = Duration::from_secs(5);

/// Runs until `shutdown`, or until one of its tasks ends, which is an error. Pods go on running afterwards: a kubelet
/// that starts again finds them.
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
    // Ends everything that this start has begun, whether all of Skiff stops or only this kubelet.
    let life = shutdown.child_token();
    let context = pods::context::Context::new(client, runtime, images, options, life.clone()).await?;
    // Bound before the node says that it is Ready, so that nobody finds the port closed.
    let server = server::bind(context.clone()).await?;
    let mut tasks = Tasks::default();
    tasks.spawn("node status", node::run(context.clone()));
    tasks.spawn("log rotation", logs::rotate::run(context.clone()));
    if let Some(server) = server {
        tasks.spawn("node API", server::serve(server, context.clone()));
    }
    let result = match pods::manager::run(context.clone(), &mut tasks).await {
        Ok(()) => tokio::select! {
            // Asked first: they end by it, too.
            biased;
            () = shutdown.cancelled() => Ok(()),
            error = tasks.ended() => Err(error),
        },
        Err(error) => Err(error),
    };
    life.cancel();
    context.workers.close();
    let all = async { tokio::join!(tasks.finish(), context.workers.wait()) };
    if tokio::time::timeout(STOP_TIMEOUT, all).await.is_err() {
        tracing::warn!("the kubelet's tasks were slow to stop");
    }
    result
}

/// The kubelet's own tasks, by name; none of them may end before the kubelet does.
#[derive(Default)]
pub(crate) struct Tasks {
    set: JoinSet<()>,
    names: HashMap<tokio::task::Id, &'static str>,
}

impl Tasks {
    pub(crate) fn spawn(&mut self, name: &'static str, work: impl Future<Output = ()> + Send + 'static) {
        let task = self.set.spawn(work);
        self.names.insert(task.id(), name);
    }

    /// Waits for the first that ends, and says which and why.
    async fn ended(&mut self) -> Error {
        let (id, why) = match self.set.join_next_with_id().await {
            Some(Ok((id, ()))) => (Some(id), "it ended by itself".to_string()),
            Some(Err(error)) => (Some(error.id()), stdx::supervisor::panic_text(error)),
            None => (None, "there is no task".to_string()),
        };
        let task = id.and_then(|id| self.names.get(&id).copied()).unwrap_or("kubelet");
        Error::Ended { task, why }
    }

    async fn finish(&mut self) {
        while self.set.join_next().await.is_some() {}
    }
}

/// The text of an API failure as the server wrote it.
pub(crate) fn api_message(error: &kube::Error) -> String {
    match error {
        kube::Error::Api(status) => status.message.clone(),
        other => other.to_string(),
    }
}
