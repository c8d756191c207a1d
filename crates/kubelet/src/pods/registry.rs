//! The pods that this node runs, as the node API, the log rotation and the runtime's events need to find them.

use super::worker::Wake;
use cri::{ContainerStatus, PodSandboxStatus, RuntimeEvent};
use k8s_openapi::api::core::v1::{Pod, PodStatus};
use parking_lot::RwLock;
use std::collections::HashMap;
use std::sync::Arc;
use tokio::sync::mpsc;

#[derive(Clone, Debug)]
pub struct PodView {
    pub pod: Arc<Pod>,
    pub status: PodStatus,
    pub sandbox: Option<PodSandboxStatus>,
    pub containers: Vec<ContainerStatus>,
}

struct Entry {
    wake: mpsc::Sender<Wake>,
    view: Option<PodView>,
    /// By container id: how many bytes of its log a reader of the whole of it has been given.
    told: HashMap<String, u64>,
}

#[derive(Default)]
pub struct Registry {
    pods: RwLock<HashMap<String, Entry>>,
    /// Sandbox id → pod uid.
    sandboxes: RwLock<HashMap<String, String>>,
}

impl Registry {
    pub fn add(&self, uid: &str, wake: mpsc::Sender<Wake>) {
        self.pods.write().insert(uid.to_owned(), Entry { wake, view: None, told: HashMap::new() });
    }

    pub fn remove(&self, uid: &str) {
        self.pods.write().remove(uid);
        self.sandboxes.write().retain(|_, u| u != uid);
    }

    pub fn publish(&self, uid: &str, view: PodView) {
        if let Some(entry) = self.pods.write().get_mut(uid) {
            entry.view = Some(view);
        }
    }

    pub fn told(&self, uid: &str, container: &str) -> u64 {
        self.pods.read().get(uid).and_then(|e| e.told.get(container).copied()).unwrap_or(0)
    }

    pub fn tell(&self, uid: &str, container: &str, bytes: u64) {
        if let Some(entry) = self.pods.write().get_mut(uid) {
            let told = entry.told.entry(container.to_owned()).or_default();
            *told = bytes.max(*told);
        }
    }

    pub fn own_sandbox(&self, sandbox: &str, uid: &str) {
        self.sandboxes.write().insert(sandbox.to_owned(), uid.to_owned());
    }

    pub fn uids(&self) -> Vec<String> {
        self.pods.read().keys().cloned().collect()
    }

    pub fn sender(&self, uid: &str) -> Option<mpsc::Sender<Wake>> {
        self.pods.read().get(uid).map(|e| e.wake.clone())
    }

    pub fn views(&self) -> Vec<PodView> {
        self.pods.read().values().filter_map(|e| e.view.clone()).collect()
    }

    /// Of pods with the same name the one that isn't ending.
    pub fn find(&self, namespace: &str, name: &str) -> Option<PodView> {
        let pods = self.pods.read();
        pods.values()
            .filter_map(|e| e.view.as_ref())
            .filter(|v| {
                v.pod.metadata.namespace.as_deref() == Some(namespace) && v.pod.metadata.name.as_deref() == Some(name)
            })
            .min_by_key(|v| v.pod.metadata.deletion_timestamp.is_some())
            .cloned()
    }

    /// A full mailbox may drop the news: a worker that is so far behind reads everything again anyway.
    pub fn objects_changed(&self, uids: &[String]) {
        let pods = self.pods.read();
        for entry in uids.iter().filter_map(|u| pods.get(u)) {
            let _ = entry.wake.try_send(Wake::Objects);
        }
    }

    pub async fn runtime_event(&self, event: RuntimeEvent) {
        let (sandbox, wake) = match event {
            RuntimeEvent::ContainerStarted { sandbox_id, container_id }
            | RuntimeEvent::ContainerExited { sandbox_id, container_id } => {
                (Some(sandbox_id), Wake::Container(container_id))
            }
            RuntimeEvent::SandboxStopped { sandbox_id } => (Some(sandbox_id.clone()), Wake::Sandbox(sandbox_id)),
            RuntimeEvent::Resync => (None, Wake::Resync),
        };
        let senders: Vec<mpsc::Sender<Wake>> = match &sandbox {
            Some(id) => self.sandboxes.read().get(id).and_then(|uid| self.sender(uid)).into_iter().collect(),
            None => self.pods.read().values().map(|e| e.wake.clone()).collect(),
        };
        for sender in senders {
            let _ = sender.send(wake.clone()).await;
        }
    }
}
