//! A worker that panics (a fault of ours) costs its pod a pause, not its care: the pod's state is read anew from the API
//! and the runtime, and a new worker adopts what runs, as after a restart of Skiff.

use super::context::Context;
use super::worker::{self, Found};
use super::{manager, orphans, spec};
use futures::FutureExt;
use k8s_openapi::api::core::v1::Pod;
use kube::Api;
use std::collections::{BTreeSet, HashMap};
use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::Duration;
use stdx::backoff::Backoff;

const PAUSE: Duration = Duration::from_secs(1);
const PAUSE_MAX: Duration = Duration::from_secs(60);

pub(super) struct Guard {
    context: Arc<Context>,
    uid: String,
    namespace: String,
    name: String,
    panics: u32,
}

impl Guard {
    pub(super) fn new(context: Arc<Context>, pod: &Pod, panics: u32) -> Guard {
        let meta = &pod.metadata;
        Guard {
            context,
            uid: spec::uid(pod).to_owned(),
            namespace: meta.namespace.clone().unwrap_or_default(),
            name: meta.name.clone().unwrap_or_default(),
            panics,
        }
    }

    pub(super) async fn run(self, worker: impl Future<Output = ()>) {
        let Err(panic) = AssertUnwindSafe(worker).catch_unwind().await else {
            return;
        };
        let mut backoff = Backoff::new(PAUSE, PAUSE_MAX);
        let mut pause = backoff.next_delay();
        (0..self.panics).for_each(|_| pause = backoff.next_delay());
        let why = stdx::supervisor::payload_text(&*panic);
        tracing::error!(
            pod = self.name,
            namespace = self.namespace,
            panic = why,
            ?pause,
            "a pod's worker panicked; it starts again"
        );
        // Its place in the registry stays taken meanwhile, so that nobody begins the pod from nothing beside it.
        loop {
            tokio::select! {
                () = tokio::time::sleep(pause) => {}
                () = self.context.shutdown.cancelled() => return,
            }
            match self.look().await {
                Ok((Some(pod), found)) => {
                    return worker::spawn_after(self.context.clone(), Arc::new(pod), found, self.panics + 1);
                }
                Ok((None, found)) => {
                    self.context.registry.remove(&self.uid);
                    let found = HashMap::from([(self.uid.clone(), found)]);
                    return orphans::clean(self.context.clone(), found, BTreeSet::new()).await;
                }
                Err(error) => {
                    tracing::debug!(pod = self.name, %error, "the pod's state could not be read");
                    pause = backoff.next_delay();
                }
            }
        }
    }

    /// The pod in the API, if it is still the same, and what the runtime has of it.
    async fn look(&self) -> Result<(Option<Pod>, Found), Box<dyn std::error::Error + Send + Sync>> {
        let api = Api::<Pod>::namespaced(self.context.client.clone(), &self.namespace);
        let pod = api.get_opt(&self.name).await?.filter(|p| spec::uid(p) == self.uid);
        let found = manager::find(&self.context).await?.remove(&self.uid).unwrap_or_default();
        Ok((pod, found))
    }
}
