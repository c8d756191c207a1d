//! All Services, followed by one watch, for the environment variables of containers.

use futures::StreamExt;
use k8s_openapi::api::core::v1::Service;
use kube::runtime::{WatchStreamExt, watcher};
use kube::{Api, Client};
use parking_lot::RwLock;
use std::collections::HashMap;
use std::sync::Arc;
use tokio::sync::watch;

type Key = (String, String);

const FIRST_LIST: std::time::Duration = std::time::Duration::from_secs(10);

#[derive(Clone)]
pub struct Services {
    known: Arc<RwLock<HashMap<Key, Arc<Service>>>>,
    synced: watch::Receiver<bool>,
}

impl Services {
    pub fn start(client: Client, shutdown: stdx::Shutdown) -> Services {
        let known: Arc<RwLock<HashMap<Key, Arc<Service>>>> = Arc::default();
        let (tx, synced) = watch::channel(false);
        let store = known.clone();
        tokio::spawn(async move {
            let key = |s: &Service| {
                (s.metadata.namespace.clone().unwrap_or_default(), s.metadata.name.clone().unwrap_or_default())
            };
            let mut events =
                std::pin::pin!(watcher(Api::<Service>::all(client), watcher::Config::default()).default_backoff());
            let mut initial = HashMap::new();
            loop {
                let event = tokio::select! {
                    event = events.next() => event,
                    _ = shutdown.cancelled() => return,
                };
                match event {
                    Some(Ok(watcher::Event::Apply(s))) => {
                        store.write().insert(key(&s), Arc::new(s));
                    }
                    Some(Ok(watcher::Event::Delete(s))) => {
                        store.write().remove(&key(&s));
                    }
                    Some(Ok(watcher::Event::Init)) => initial.clear(),
                    Some(Ok(watcher::Event::InitApply(s))) => {
                        initial.insert(key(&s), Arc::new(s));
                    }
                    Some(Ok(watcher::Event::InitDone)) => {
                        *store.write() = std::mem::take(&mut initial);
                        tx.send_replace(true);
                    }
                    Some(Err(error)) => {
                        tracing::debug!(%error, "watch of services broke; it resumes")
                    }
                    None => return,
                }
            }
        });
        Services { known, synced }
    }

    /// Waits for the first list: a container without its Service variables would be wrong for its whole life.
    pub async fn all(&self) -> Result<Vec<Arc<Service>>, &'static str> {
        let mut synced = self.synced.clone();
        match tokio::time::timeout(FIRST_LIST, synced.wait_for(|s| *s)).await {
            Ok(Ok(_)) => Ok(self.known.read().values().cloned().collect()),
            _ => Err("services have not yet been read at least once, cannot construct envvars"),
        }
    }
}
