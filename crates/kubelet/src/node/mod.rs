//! The node's own object: registered at start, its status kept up to date, its lease renewed.

pub mod lease;
pub mod machine;
pub mod status;
pub mod thresholds;

use crate::pods::context::Context;
use crate::quantity::ResourceMap;
use jiff::Timestamp;
use k8s_openapi::api::core::v1::{Node, NodeStatus};
use kube::Api;
use kube::api::{Patch, PatchParams, PostParams};
use std::sync::Arc;
use std::time::Duration;

/// How often the machine is looked at. Nothing is written unless something differs.
const LOOK: Duration = Duration::from_secs(10);
/// Until the runtime is ready: quickly, since everything waits for it.
const LOOK_STARTING: Duration = Duration::from_millis(100);
/// After a failed write.
const RETRY: Duration = Duration::from_millis(250);
/// Heartbeat times are written at least this often.
const WRITE_EVERY: Duration = Duration::from_secs(300);

pub fn allocatable(context: &Context) -> ResourceMap {
    status::allocatable(&context.machine, &context.options)
}

pub async fn run(context: Arc<Context>) {
    let lease = tokio::spawn(lease::run(context.clone()));
    let api = Api::<Node>::all(context.client.clone());
    let mut known: Option<Node> = None;
    let mut written_at = tokio::time::Instant::now();
    loop {
        let observed = observe(&context).await;
        let now = Timestamp::now();
        let result = match &known {
            None => register(&context, &api, &observed, now).await.map(Some),
            Some(node) => {
                let old = node.status.clone().unwrap_or_default();
                let new = status::compute(&context.machine, &context.options, &observed, &old, now);
                if status::differs(&old, &new) || written_at.elapsed() >= WRITE_EVERY {
                    write(&context, &api, &new).await.map(Some)
                } else {
                    Ok(None)
                }
            }
        };
        let mut wait = if observed.runtime.is_ok() && observed.network.is_ok() { LOOK } else { LOOK_STARTING };
        match result {
            Ok(Some(node)) => {
                known = Some(node);
                written_at = tokio::time::Instant::now();
            }
            Ok(None) => {}
            Err(error) => {
                tracing::warn!(%error, "the node's status wasn't written; it is tried again");
                // Deleted by somebody, or changed: begin from what the API has.
                known = None;
                wait = RETRY;
            }
        }
        tokio::select! {
            _ = tokio::time::sleep(wait) => {}
            _ = context.shutdown.cancelled() => break,
        }
    }
    let _ = lease.await;
}

async fn observe(context: &Context) -> status::Observed {
    status::Observed {
        runtime: context.runtime.ready().await,
        network: context.runtime.network_ready().await,
        runtime_version: format!("{}://{}", context.runtime_name, context.runtime_version),
        images: context.images.service().list_images().await.unwrap_or_default(),
        memory: machine::memory_available().map(|left| (left, context.machine.memory_bytes)),
        disk: machine::disk(&context.options.root_dir),
        pids: machine::pids(),
    }
}

/// Creates the node, or adopts one of the same name: own labels are put back, others are left.
async fn register(
    context: &Context,
    api: &Api<Node>,
    observed: &status::Observed,
    now: Timestamp,
) -> kube::Result<Node> {
    let name = &context.options.node_name;
    let node = status::node(&context.machine, &context.options);
    let existing = match api.get_opt(name).await? {
        Some(existing) => existing,
        None => {
            let mut node = node.clone();
            node.status =
                Some(status::compute(&context.machine, &context.options, observed, &NodeStatus::default(), now));
            match api.create(&PostParams::default(), &node).await {
                Ok(created) => {
                    tracing::info!(node = name, "registered");
                    created
                }
                Err(kube::Error::Api(s)) if s.code == 409 => api.get(name).await?,
                Err(error) => return Err(error),
            }
        }
    };
    let has = |k: &String, v: &String| existing.metadata.labels.as_ref().and_then(|l| l.get(k)) == Some(v);
    if node.metadata.labels.iter().flatten().any(|(k, v)| !has(k, v)) {
        let patch = serde_json::json!({"metadata": {"labels": node.metadata.labels}});
        api.patch(name, &PatchParams::default(), &Patch::Strategic(patch)).await?;
    }
    let old = existing.status.clone().unwrap_or_default();
    let new = status::compute(&context.machine, &context.options, observed, &old, now);
    write(context, api, &new).await
}

async fn write(context: &Context, api: &Api<Node>, new: &NodeStatus) -> kube::Result<Node> {
    // Conditions and addresses merge by type; the rest is replaced.
    let patch = serde_json::json!({"status": new});
    api.patch_status(&context.options.node_name, &PatchParams::default(), &Patch::Strategic(patch)).await
}
