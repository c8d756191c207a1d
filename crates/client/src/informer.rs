//! Shared informers: one watch and one copy of each kind per process, whoever looks at it.
//!
//! An informer keeps objects by key, tells handlers of every change in order, and survives broken watches: after a
//! new list it tells what changed in between, deletions included.

use futures::StreamExt;
use kube::runtime::watcher;
use kube::{Api, Client, Resource, ResourceExt};
use parking_lot::{Mutex, RwLock};
use serde::de::DeserializeOwned;
use std::any::{Any, TypeId};
use std::collections::{BTreeMap, HashMap};
use std::fmt::Debug;
use std::sync::Arc;
use stdx::Shutdown;
use tokio::sync::watch;

/// `namespace/name`, or `name` for cluster-scoped kinds.
pub type Key = String;

/// What an informer can carry.
pub trait Object: Resource<DynamicType = ()> + Clone + DeserializeOwned + Debug + Send + Sync + 'static {}
impl<K: Resource<DynamicType = ()> + Clone + DeserializeOwned + Debug + Send + Sync + 'static> Object for K {}

pub fn key_of<K: Resource>(object: &K) -> Key {
    match object.meta().namespace.as_deref() {
        Some(ns) if !ns.is_empty() => {
            format!("{ns}/{}", object.meta().name.as_deref().unwrap_or_default())
        }
        _ => object.meta().name.clone().unwrap_or_default(),
    }
}

/// `(namespace, name)` of a key.
pub fn split_key(key: &str) -> (&str, &str) {
    key.split_once('/').unwrap_or(("", key))
}

/// One change of one object.
#[derive(Clone, Debug)]
pub enum Change<K> {
    Added(Arc<K>),
    Updated { old: Arc<K>, new: Arc<K> },
    Deleted(Arc<K>),
}

impl<K> Change<K> {
    /// The object as it is now, or as it was last.
    pub fn object(&self) -> &Arc<K> {
        match self {
            Change::Added(o) | Change::Deleted(o) => o,
            Change::Updated { new, .. } => new,
        }
    }

    pub fn old(&self) -> Option<&Arc<K>> {
        match self {
            Change::Updated { old, .. } => Some(old),
            _ => None,
        }
    }
}

struct Handler<K> {
    call: Box<dyn Fn(&Change<K>) + Send + Sync>,
    /// Whose handler it is; it is dropped when its owner has ended.
    owner: Option<Shutdown>,
}

tokio::task_local! {
    static OWNER: Shutdown;
}

/// Runs a component whose handlers end with it: those that it gives to informers are dropped once `life` is
/// cancelled, so that a component that is started again isn't heard twice.
pub async fn scoped<F: Future>(life: Shutdown, component: F) -> F::Output {
    OWNER.scope(life, component).await
}

fn tell<K>(handlers: &mut Vec<Handler<K>>, change: &Change<K>) {
    handlers.retain(|h| !h.owner.as_ref().is_some_and(Shutdown::is_cancelled));
    for handler in handlers {
        call(&*handler.call, change);
    }
}

/// One component's fault must not keep the others from hearing.
fn call<K>(handler: &(dyn Fn(&Change<K>) + Send + Sync), change: &Change<K>) {
    let call = std::panic::AssertUnwindSafe(|| handler(change));
    if let Err(panic) = std::panic::catch_unwind(call) {
        tracing::error!(panic = stdx::supervisor::payload_text(&*panic), "a handler of changes panicked");
    }
}

/// A live, read-only copy of all objects of a kind.
pub struct Informer<K> {
    objects: RwLock<BTreeMap<Key, Arc<K>>>,
    handlers: Mutex<Vec<Handler<K>>>,
    synced: watch::Sender<bool>,
}

impl<K: Object> Informer<K> {
    fn new() -> Arc<Informer<K>> {
        Arc::new(Informer { objects: RwLock::default(), handlers: Mutex::default(), synced: watch::Sender::new(false) })
    }

    pub fn get(&self, key: &str) -> Option<Arc<K>> {
        self.objects.read().get(key).cloned()
    }

    pub fn list(&self) -> Vec<Arc<K>> {
        self.objects.read().values().cloned().collect()
    }

    pub fn in_namespace(&self, namespace: &str) -> Vec<Arc<K>> {
        let start = format!("{namespace}/");
        self.objects
            .read()
            .range(start.clone()..)
            .take_while(|(k, _)| k.starts_with(&start))
            .map(|(_, v)| v.clone())
            .collect()
    }

    pub fn len(&self) -> usize {
        self.objects.read().len()
    }

    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Calls `handler` for every change from now on, and with `Added` for every object that is there already.
    /// Handlers must be quick and must not block; they usually put a key into a [`crate::Queue`].
    pub fn on_change(&self, handler: impl Fn(&Change<K>) + Send + Sync + 'static) {
        let mut handlers = self.handlers.lock();
        for object in self.objects.read().values() {
            call(&handler, &Change::Added(object.clone()));
        }
        handlers.push(Handler { call: Box::new(handler), owner: OWNER.try_with(Clone::clone).ok() });
    }

    /// Waits for the first complete list.
    pub async fn wait_synced(&self) {
        let _ = self.synced.subscribe().wait_for(|s| *s).await;
    }

    /// Makes a just-written object visible at once to those who read here, unless the watch has brought a newer one.
    pub fn remember(&self, object: K) {
        let newer = |o: &K| o.resource_version().and_then(|v| v.parse::<u64>().ok()).unwrap_or(0);
        let present = self.get(&key_of(&object));
        if present.is_some_and(|p| newer(&p) < newer(&object)) {
            self.apply(object);
        }
    }

    fn apply(&self, object: K) {
        let mut handlers = self.handlers.lock();
        let key = key_of(&object);
        let new = Arc::new(object);
        let old = self.objects.write().insert(key, new.clone());
        let change = match old {
            Some(old) if old.resource_version() == new.resource_version() => return,
            Some(old) if old.uid() != new.uid() => {
                tell(&mut handlers, &Change::Deleted(old));
                Change::Added(new)
            }
            Some(old) => Change::Updated { old, new },
            None => Change::Added(new),
        };
        tell(&mut handlers, &change);
    }

    fn delete(&self, key: &str) {
        let mut handlers = self.handlers.lock();
        let Some(old) = self.objects.write().remove(key) else {
            return;
        };
        tell(&mut handlers, &Change::Deleted(old));
    }

    async fn run(self: Arc<Self>, api: Api<K>, config: watcher::Config, shutdown: Shutdown) {
        // kube's watcher restarts broken watches; its backoff keeps a missing server from being hammered.
        let events = kube::runtime::WatchStreamExt::default_backoff(watcher(api, config));
        let mut events = std::pin::pin!(events);
        let mut listing: Option<HashMap<Key, K>> = None;
        loop {
            let event = tokio::select! {
                _ = shutdown.cancelled() => return,
                e = events.next() => match e {
                    Some(e) => e,
                    None => return,
                },
            };
            match event {
                Ok(watcher::Event::Init) => listing = Some(HashMap::new()),
                Ok(watcher::Event::InitApply(o)) => {
                    listing.get_or_insert_default().insert(key_of(&o), o);
                }
                Ok(watcher::Event::InitDone) => {
                    let now = listing.take().unwrap_or_default();
                    let gone: Vec<Key> =
                        self.objects.read().keys().filter(|k| !now.contains_key(*k)).cloned().collect();
                    gone.iter().for_each(|k| self.delete(k));
                    now.into_values().for_each(|o| self.apply(o));
                    self.synced.send_replace(true);
                }
                Ok(watcher::Event::Apply(o)) => self.apply(o),
                Ok(watcher::Event::Delete(o)) => self.delete(&key_of(&o)),
                Err(e) => {
                    tracing::debug!(kind = %K::kind(&()), error = %e, "watch broke; it will be started again")
                }
            }
        }
    }
}

/// The informers of a process.
#[derive(Clone)]
pub struct Informers {
    /// Reads for everybody who shares these informers.
    client: Client,
    writer: Client,
    shutdown: Shutdown,
    by_kind: Arc<Mutex<HashMap<(TypeId, String), Arc<dyn Any + Send + Sync>>>>,
}

impl Informers {
    pub fn new(client: Client, shutdown: Shutdown) -> Informers {
        Informers { writer: client.clone(), client, shutdown, by_kind: Arc::default() }
    }

    /// For writes.
    pub fn client(&self) -> &Client {
        &self.writer
    }

    /// The same informers, for a component that writes under another identity.
    pub fn with_client(&self, client: Client) -> Informers {
        Informers { writer: client, ..self.clone() }
    }

    /// The informer of all objects of a kind; started when first asked for.
    pub fn of<K: Object>(&self) -> Arc<Informer<K>> {
        self.selected("")
    }

    /// As [`Informers::of`], restricted by a field selector (a kubelet's own pods).
    pub fn selected<K: Object>(&self, field_selector: &str) -> Arc<Informer<K>> {
        let mut by_kind = self.by_kind.lock();
        let id = (TypeId::of::<K>(), field_selector.to_string());
        if let Some(i) = by_kind.get(&id).and_then(|i| i.clone().downcast::<Informer<K>>().ok()) {
            return i;
        }
        let informer = Informer::<K>::new();
        by_kind.insert(id, informer.clone());
        let mut config = watcher::Config::default();
        if !field_selector.is_empty() {
            config = config.fields(field_selector);
        }
        tokio::spawn(informer.clone().run(Api::all(self.client.clone()), config, self.shutdown.clone()));
        informer
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use k8s_openapi::api::core::v1::ConfigMap;

    fn object(name: &str, version: &str) -> ConfigMap {
        let mut c = ConfigMap::default();
        c.metadata.name = Some(name.into());
        c.metadata.resource_version = Some(version.into());
        c
    }

    #[tokio::test]
    async fn handlers_end_with_their_owner_and_dont_disturb_each_other() {
        let informer = Informer::<ConfigMap>::new();
        let heard: Arc<Mutex<Vec<String>>> = Arc::default();
        let listen = |who: &'static str| {
            let heard = heard.clone();
            let i = informer.clone();
            move || i.on_change(move |c| heard.lock().push(format!("{who} {}", key_of(c.object().as_ref()))))
        };
        informer.on_change(|_| panic!("always"));
        let life = Shutdown::new();
        let first = listen("first");
        scoped(life.clone(), async move { first() }).await;
        listen("other")();
        informer.apply(object("a", "1"));
        life.cancel();
        informer.apply(object("b", "2"));
        informer.delete("a");
        assert_eq!(*heard.lock(), ["first a", "other a", "other b", "other a"]);
        assert_eq!(informer.handlers.lock().len(), 2);
    }
}
