//! What pods left behind that were deleted while no kubelet ran: sandboxes, directories, logs, cgroups.

use super::context::Context;
use super::worker::Found;
use crate::labels;
use crate::resources::cgroup;
use crate::volumes::teardown;
use cri::ContainerState;
use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;
use std::time::Duration;

/// Seconds, where a container doesn't say.
const GRACE_DEFAULT: u64 = 30;

/// `live` are the uids that the API knows.
pub async fn clean(context: Arc<Context>, orphans: HashMap<String, Found>, live: BTreeSet<String>) {
    for (uid, found) in orphans.into_iter().filter(|(uid, _)| !live.contains(uid)) {
        let is_pod = found.sandboxes.iter().any(|s| s.labels.contains_key(labels::POD_UID))
            || found.containers.iter().any(|c| c.labels.contains_key(labels::POD_UID));
        if !is_pod {
            // Not a kubelet's: somebody else uses the same runtime.
            continue;
        }
        tracing::info!(uid, "stopping a pod that no longer exists");
        let stops = found.containers.iter().filter(|c| c.state == ContainerState::Running).map(|c| {
            let grace = c
                .annotations
                .get(labels::TERMINATION_GRACE_PERIOD)
                .and_then(|g| g.parse().ok())
                .unwrap_or(GRACE_DEFAULT);
            context.runtime.stop_container(&c.id, Duration::from_secs(grace))
        });
        futures::future::join_all(stops).await;
        for s in &found.sandboxes {
            for result in
                [context.runtime.stop_pod_sandbox(&s.id).await, context.runtime.remove_pod_sandbox(&s.id).await]
            {
                if let Err(error) = result {
                    tracing::warn!(sandbox = s.id, %error, "cleaning up a sandbox failed");
                }
            }
        }
    }
    let _ = tokio::task::spawn_blocking(move || {
        // Pods may have come since the list was made; their workers have registered.
        let known = |uid: &str| live.contains(uid) || context.registry.sender(uid).is_some();
        let names = |dir: &std::path::Path| {
            std::fs::read_dir(dir)
                .into_iter()
                .flatten()
                .flatten()
                .filter_map(|e| e.file_name().into_string().ok())
                .collect::<Vec<_>>()
        };
        let pods = context.options.root_dir.join("pods");
        for uid in names(&pods).into_iter().filter(|uid| !known(uid)) {
            if let Err(error) = teardown::remove(&pods.join(&uid)) {
                tracing::warn!(uid, %error, "cleaning up a pod's directory failed");
            }
        }
        for name in names(&context.options.log_dir) {
            if name.rsplit('_').next().is_some_and(|uid| !known(uid)) {
                let _ = std::fs::remove_dir_all(context.options.log_dir.join(name));
            }
        }
        if let (Some(manager), Some(root)) = (&context.cgroups, &context.options.cgroup_root) {
            for (path, uid) in cgroup::pods(manager, root).into_iter().filter(|(_, uid)| !known(uid)) {
                if let Err(error) = manager.remove(&path) {
                    tracing::warn!(uid, %error, "cleaning up a pod's cgroup failed");
                }
            }
        }
    })
    .await;
}
