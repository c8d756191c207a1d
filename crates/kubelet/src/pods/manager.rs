//! Hears of the pods that are bound to this node, and of the runtime's events, and passes both to the pods' workers.

use super::context::Context;
use super::worker::{self, Found, Wake};
use super::{orphans, spec};
use crate::labels;
use futures::StreamExt;
use k8s_openapi::api::core::v1::Pod;
use kube::Api;
use kube::runtime::{WatchStreamExt, watcher};
use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;
use std::time::Duration;

/// Subscribes to the runtime, adopts what runs, and follows the API in tasks of its own. Returns once both are under way.
pub(crate) async fn run(context: Arc<Context>, tasks: &mut crate::Tasks) -> Result<(), crate::Error> {
    // Subscribed before listing, so that nothing falls in between.
    let events = context.runtime.events().await?;
    tasks.spawn("events of the runtime", forward_events(context.clone(), events));
    let found = find(&context).await?;
    tasks.spawn("watch of pods", follow_pods(context, found));
    Ok(())
}

/// What the runtime has, by pod.
pub(super) async fn find(context: &Context) -> Result<HashMap<String, Found>, cri::Error> {
    let mut found: HashMap<String, Found> = HashMap::new();
    let uid_of = |labels: &cri::Labels| labels.get(labels::POD_UID).cloned().unwrap_or_default();
    for s in context.runtime.list_pod_sandboxes().await? {
        let uid = if s.metadata.uid.is_empty() { uid_of(&s.labels) } else { s.metadata.uid.clone() };
        found.entry(uid).or_default().sandboxes.push(s);
    }
    for c in context.runtime.list_containers().await? {
        found.entry(uid_of(&c.labels)).or_default().containers.push(c);
    }
    Ok(found)
}

async fn forward_events(context: Arc<Context>, mut events: tokio::sync::mpsc::Receiver<cri::RuntimeEvent>) {
    loop {
        let event = tokio::select! {
            event = events.recv() => event,
            _ = context.shutdown.cancelled() => return,
        };
        match event {
            Some(event) => context.registry.runtime_event(event).await,
            None => {
                // The runtime went away: subscribe anew, and look at everything, since events may be lost.
                tokio::time::sleep(Duration::from_millis(500)).await;
                if let Ok(new) = context.runtime.events().await {
                    events = new;
                    context.registry.runtime_event(cri::RuntimeEvent::Resync).await;
                }
            }
        }
    }
}

async fn follow_pods(context: Arc<Context>, mut found: HashMap<String, Found>) {
    let api = Api::<Pod>::all(context.client.clone());
    let config = watcher::Config::default().fields(&format!("spec.nodeName={}", context.options.node_name));
    let mut events = std::pin::pin!(watcher(api, config).default_backoff());
    let mut listed: BTreeSet<String> = BTreeSet::new();
    let mut first_list = true;
    loop {
        let event = tokio::select! {
            event = events.next() => event,
            _ = context.shutdown.cancelled() => return,
        };
        match event {
            Some(Ok(watcher::Event::Init)) => listed.clear(),
            Some(Ok(watcher::Event::InitApply(pod))) => {
                listed.insert(spec::uid(&pod).to_owned());
                deliver(&context, pod, &mut found).await;
            }
            Some(Ok(watcher::Event::InitDone)) => {
                for uid in context.registry.uids().into_iter().filter(|u| !listed.contains(u)) {
                    removed(&context, &uid).await;
                }
                if std::mem::take(&mut first_list) {
                    // Whatever no pod of the list claimed was deleted while no kubelet ran.
                    tokio::spawn(orphans::clean(context.clone(), std::mem::take(&mut found), listed.clone()));
                }
            }
            Some(Ok(watcher::Event::Apply(pod))) => deliver(&context, pod, &mut found).await,
            Some(Ok(watcher::Event::Delete(pod))) => removed(&context, spec::uid(&pod)).await,
            Some(Err(error)) => tracing::debug!(%error, "watch of pods broke; it resumes"),
            None => return,
        }
    }
}

async fn deliver(context: &Arc<Context>, pod: Pod, found: &mut HashMap<String, Found>) {
    let uid = spec::uid(&pod).to_owned();
    match context.registry.sender(&uid) {
        Some(sender) => {
            let _ = sender.send(Wake::Pod(Arc::new(pod))).await;
        }
        None => worker::spawn(context.clone(), Arc::new(pod), found.remove(&uid).unwrap_or_default()),
    }
}

async fn removed(context: &Context, uid: &str) {
    if let Some(sender) = context.registry.sender(uid) {
        let _ = sender.send(Wake::Removed).await;
    }
}
