//! Garbage collection: objects whose owners are gone follow them, in the background, in the foreground or not at all.
//!
//! In: the metadata of every object of every resource that discovery finds. Out: deletions, and owner references and
//! finalizers removed. [`graph`] decides; before anything is deleted the server is asked again, since caches of
//! different kinds are never of the same moment. Upstream: `garbagecollector.go` and `graph_builder.go`.

pub mod graph;

use crate::definition::Definition;
use crate::discovery::{self, Found};
use crate::{Context, ownership};
use client::{Change, Client, Queue, Recorder};
use futures::StreamExt;
use graph::{Decision, Graph, Node, Owner, Policy, Standing, Work};
use k8s_openapi::api::core::v1::ObjectReference;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube::api::{Api, DeleteParams, DynamicObject, PartialObjectMeta, Patch, PatchParams, Preconditions};
use kube::runtime::{WatchStreamExt, watcher};
use std::collections::{HashMap, HashSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use stdx::Shutdown;
use tokio::sync::{Notify, oneshot, watch};

const NAME: &str = "generic-garbage-collector";
const FOREGROUND: &str = "foregroundDeletion";
const ORPHAN: &str = "orphan";
const WORKERS: usize = 20;
/// How long the first lists of all resources may take before garbage is collected without the slowest.
const SYNC_PATIENCE: Duration = Duration::from_secs(30);
/// Until an owner that the server has shows up in its watch.
const UNSEEN_OWNER: Duration = Duration::from_secs(1);

pub async fn run(context: Context) {
    let collector = Arc::new(Collector {
        client: context.client(NAME),
        recorder: context.recorder(NAME),
        graph: Mutex::default(),
        resources: Mutex::default(),
        unserved: Mutex::default(),
        ended: Mutex::default(),
        queue: Queue::new(),
    });
    // Resources come and go with CustomResourceDefinitions.
    let changed = Arc::new(Notify::new());
    let (c, of_definitions) = (changed.clone(), collector.clone());
    context.informers.of::<Definition>().on_change(move |change| {
        if let Change::Deleted(d) = change {
            of_definitions.ended().insert((d.spec.group.clone(), d.spec.names.plural.clone()));
        }
        let now = change.object();
        if change.old().is_none_or(|o| (&o.spec, &o.status) != (&now.spec, &now.status)) {
            c.notify_one();
        }
    });
    let (send, synced) = oneshot::channel();
    let watching = tokio::spawn(collector.clone().keep_watching(changed, send, context.shutdown.clone()));
    // An owner is only let go when all its dependents are known.
    let _ = synced.await;
    let worker = collector.clone();
    collector
        .queue
        .run("garbage-collector", WORKERS, context.shutdown.clone(), move |key| {
            let collector = worker.clone();
            async move { collector.work(&key).await }
        })
        .await;
    watching.abort();
}

struct Collector {
    client: Client,
    recorder: Recorder,
    graph: Mutex<Graph>,
    /// Every resource that was ever found; the graph knows them by position.
    resources: Mutex<Vec<Found>>,
    /// Those of them that discovery no longer finds.
    unserved: Mutex<HashSet<u32>>,
    /// Group and plural of definitions that were deleted, and all their objects with them.
    ended: Mutex<HashSet<(String, String)>>,
    queue: Queue,
}

/// One resource's watch.
struct Watch {
    /// The version that is watched; another takes its place when it is no longer the preferred one.
    version: String,
    task: tokio::task::JoinHandle<()>,
    synced: watch::Receiver<bool>,
}

impl Collector {
    fn graph(&self) -> MutexGuard<'_, Graph> {
        self.graph.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn ended(&self) -> MutexGuard<'_, HashSet<(String, String)>> {
        self.ended.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn resource(&self, number: u32) -> Option<Found> {
        let resources = self.resources.lock().unwrap_or_else(PoisonError::into_inner);
        resources.get(number as usize).cloned()
    }

    /// The resource of an owner reference. A kind may have come back under another plural: what is served counts.
    fn resource_of(&self, api_version: &str, kind: &str) -> Option<(u32, Found)> {
        let group = api_version.split_once('/').map_or("", |(g, _)| g);
        let unserved = self.unserved.lock().unwrap_or_else(PoisonError::into_inner);
        let resources = self.resources.lock().unwrap_or_else(PoisonError::into_inner);
        let all = (0u32..).zip(resources.iter());
        let of_kind = all.filter(|(_, f)| f.resource.group == group && f.resource.kind == kind);
        of_kind.min_by_key(|(number, _)| unserved.contains(number)).map(|(number, f)| (number, f.clone()))
    }

    fn number(&self, found: &Found) -> u32 {
        let mut resources = self.resources.lock().unwrap_or_else(PoisonError::into_inner);
        let same = |f: &Found| f.resource.group == found.resource.group && f.resource.plural == found.resource.plural;
        let at = resources.iter().position(same).unwrap_or_else(|| {
            resources.push(found.clone());
            resources.len() - 1
        });
        resources[at] = found.clone();
        at as u32
    }

    fn api(&self, found: &Found, namespace: &str) -> Api<DynamicObject> {
        if found.namespaced {
            Api::namespaced_with(self.client.clone(), namespace, &found.resource)
        } else {
            Api::all_with(self.client.clone(), &found.resource)
        }
    }

    fn add(&self, work: Vec<Work>) {
        for w in work {
            match w {
                Work::Examine(uid) => self.queue.add(uid),
                Work::Orphan(uid) => self.queue.add(format!("{ORPHAN}/{uid}")),
            }
        }
    }

    /// Watches what discovery finds, and looks again when that may have changed.
    async fn keep_watching(self: Arc<Self>, changed: Arc<Notify>, all_synced: oneshot::Sender<()>, shutdown: Shutdown) {
        let mut all_synced = Some(all_synced);
        let mut watches: HashMap<(String, String), Watch> = HashMap::new();
        loop {
            let (found, failures) = discovery::resources(&self.client).await;
            let found: Vec<Found> = found
                .into_iter()
                .filter(|f| f.can("list") && f.can("watch") && f.can("delete") && f.resource.plural != "events")
                .collect();
            let mut present = HashSet::new();
            for f in found {
                let id = (f.resource.group.clone(), f.resource.plural.clone());
                present.insert(id.clone());
                let number = self.number(&f);
                // A version that is served no more would be asked for in vain.
                if watches.get(&id).is_some_and(|w| w.version != f.resource.version)
                    && let Some(old) = watches.remove(&id)
                {
                    old.task.abort();
                }
                watches.entry(id).or_insert_with(|| {
                    let (send, synced) = watch::channel(false);
                    let version = f.resource.version.clone();
                    Watch { version, task: tokio::spawn(self.clone().watch(f, number, send)), synced }
                });
            }
            if failures.is_empty() {
                watches.retain(|id, w| {
                    let stays = present.contains(id);
                    if !stays {
                        // What is known of its objects is kept: they may be there, in versions that aren't served.
                        w.task.abort();
                    }
                    stays
                });
                self.bury(&present);
                self.note_unserved(&present);
            }
            if let Some(tell) = all_synced.take() {
                let waits = watches.values_mut().map(|w| async { w.synced.wait_for(|s| *s).await.is_ok() });
                let _ = tokio::time::timeout(SYNC_PATIENCE, futures::future::join_all(waits)).await;
                let _ = tell.send(());
            }
            let retry = async {
                match failures.is_empty() {
                    true => futures::future::pending().await,
                    false => tokio::time::sleep(Duration::from_secs(5)).await,
                }
            };
            tokio::select! {
                _ = shutdown.cancelled() => break,
                _ = changed.notified() => {}
                _ = retry => {}
            }
        }
        watches.into_values().for_each(|w| w.task.abort());
    }

    fn note_unserved(&self, present: &HashSet<(String, String)>) {
        let resources = self.resources.lock().unwrap_or_else(PoisonError::into_inner);
        let is_lost = |f: &Found| !present.contains(&(f.resource.group.clone(), f.resource.plural.clone()));
        let lost = (0u32..).zip(resources.iter()).filter(|(_, f)| is_lost(f)).map(|(number, _)| number).collect();
        drop(resources);
        *self.unserved.lock().unwrap_or_else(PoisonError::into_inner) = lost;
    }

    /// Takes the objects of deleted definitions for gone, though no watch was left to say so. Where the resource is
    /// there again, its new watch knows better.
    fn bury(&self, present: &HashSet<(String, String)>) {
        let ended = std::mem::take(&mut *self.ended());
        for id in ended.into_iter().filter(|id| !present.contains(id)) {
            let resources = self.resources.lock().unwrap_or_else(PoisonError::into_inner);
            let at = resources.iter().position(|f| (&f.resource.group, &f.resource.plural) == (&id.0, &id.1));
            drop(resources);
            let uids = at.map(|n| self.graph().of_resource(n as u32)).unwrap_or_default();
            for uid in uids {
                let work = self.graph().gone(&uid);
                self.add(work);
            }
        }
    }

    async fn watch(self: Arc<Self>, found: Found, number: u32, synced: watch::Sender<bool>) {
        let api: Api<PartialObjectMeta<DynamicObject>> = Api::all_with(self.client.clone(), &found.resource);
        let events = watcher(api, watcher::Config::default()).default_backoff();
        let mut events = std::pin::pin!(events);
        let mut listed: HashSet<String> = HashSet::new();
        while let Some(event) = events.next().await {
            match event {
                Ok(watcher::Event::Init) => listed.clear(),
                Ok(watcher::Event::InitApply(o)) => {
                    listed.insert(o.metadata.uid.clone().unwrap_or_default());
                    self.see(number, o);
                }
                Ok(watcher::Event::InitDone) => {
                    let gone: Vec<String> =
                        self.graph().of_resource(number).into_iter().filter(|u| !listed.contains(u)).collect();
                    for uid in gone {
                        let work = self.graph().gone(&uid);
                        self.add(work);
                    }
                    listed = HashSet::new();
                    synced.send_replace(true);
                }
                Ok(watcher::Event::Apply(o)) => self.see(number, o),
                Ok(watcher::Event::Delete(o)) => {
                    let work = self.graph().gone(o.metadata.uid.as_deref().unwrap_or_default());
                    self.add(work);
                }
                Err(e) => {
                    tracing::debug!(resource = found.group_resource(), error = %e, "watch broke; it will be started again");
                }
            }
        }
    }

    fn see(&self, resource: u32, object: PartialObjectMeta<DynamicObject>) {
        if let Some(uid) = object.metadata.uid.clone() {
            let work = self.graph().observe(&uid, node(resource, object.metadata));
            self.add(work);
        }
    }

    async fn work(&self, key: &str) -> Result<Option<Duration>, kube::Error> {
        match key.strip_prefix("orphan/") {
            Some(uid) => self.orphan(uid).await.map(|()| None),
            None => self.examine(key).await,
        }
    }

    /// The object as the server has it; `None` once it is gone, which the graph is told.
    async fn live(&self, uid: &str, known: &Node) -> Result<Option<ObjectMeta>, kube::Error> {
        let Some(found) = self.resource(known.resource) else { return Ok(None) };
        let live = metadata(&self.api(&found, &known.namespace), &known.name).await?;
        let live = live.filter(|m| m.uid.as_deref() == Some(uid));
        if live.is_none() {
            let work = self.graph().gone(uid);
            self.add(work);
        }
        Ok(live)
    }

    async fn examine(&self, uid: &str) -> Result<Option<Duration>, kube::Error> {
        let Some(known) = self.graph().get(uid).cloned() else { return Ok(None) };
        if known.deleting && !known.foreground {
            // On its way; its end will be seen.
            return Ok(None);
        }
        let Some(live) = self.live(uid, &known).await? else { return Ok(None) };
        let Some(found) = self.resource(known.resource) else { return Ok(None) };
        let current = node(known.resource, live.clone());
        let api = self.api(&found, &known.namespace);
        let dependents = self.graph().dependents(uid);

        if current.waits() {
            let blocks = |d: &Node| d.owners.iter().any(|o| o.uid == uid && o.blocks);
            if !dependents.iter().any(|(_, d)| blocks(d)) {
                self.remove_finalizer(&api, &live, FOREGROUND).await?;
                return Ok(None);
            }
            self.add(dependents.into_iter().filter(|(_, d)| !d.waits()).map(|(u, _)| Work::Examine(u)).collect());
            return Ok(None);
        }
        if current.deleting || current.owners.is_empty() {
            return Ok(None);
        }

        let mut owners = Vec::new();
        let mut unseen = false;
        for owner in &current.owners {
            match self.standing(&found, &known, uid, owner, &mut unseen).await? {
                Some(standing) => owners.push((owner.clone(), standing)),
                // A kind that the server doesn't know, or an impossible owner: nothing can be said, so nothing is done.
                None => return Ok(None),
            }
        }
        match graph::decide(&current, &owners, &dependents) {
            Decision::Keep => return Ok(unseen.then_some(UNSEEN_OWNER)),
            Decision::DropReferences(gone) => {
                let mut refs = live.owner_references.clone().unwrap_or_default();
                refs.retain(|r| !gone.contains(&r.uid));
                self.patch(&api, &live, serde_json::json!({"ownerReferences": refs})).await?;
            }
            Decision::Delete { policy, unblock } => {
                let mut version = live.resource_version.clone();
                if unblock {
                    let mut refs = live.owner_references.clone().unwrap_or_default();
                    refs.iter_mut().for_each(|r| r.block_owner_deletion = Some(false));
                    self.patch(&api, &live, serde_json::json!({"ownerReferences": refs})).await?;
                    version = None;
                }
                let params = match policy {
                    Policy::Background => DeleteParams::background(),
                    Policy::Foreground => DeleteParams::foreground(),
                    Policy::Orphan => DeleteParams::orphan(),
                };
                let same = Preconditions { uid: Some(uid.to_string()), resource_version: version };
                match api.delete(&known.name, &params.preconditions(same)).await {
                    Err(e) if !ownership::gone(&e) => return Err(e),
                    _ => {}
                }
            }
        }
        Ok(None)
    }

    /// How an owner of a dependent stands, by the server's word. `None`: nobody can tell.
    async fn standing(
        &self,
        found: &Found,
        dependent: &Node,
        uid: &str,
        owner: &Owner,
        unseen: &mut bool,
    ) -> Result<Option<Standing>, kube::Error> {
        let seen = {
            let graph = self.graph();
            if graph.is_absent(&owner.uid) {
                return Ok(Some(Standing::Dangling));
            }
            graph.get(&owner.uid).cloned()
        };
        let Some((_, of_owner)) = self.resource_of(&owner.api_version, &owner.kind) else { return Ok(None) };
        if of_owner.namespaced && !found.namespaced {
            self.tell_invalid(found, dependent, uid, owner, "");
            return Ok(None);
        }
        if of_owner.namespaced && seen.is_some_and(|s| s.namespace != dependent.namespace) {
            self.tell_invalid(found, dependent, uid, owner, &dependent.namespace);
        }
        let live = metadata(&self.api(&of_owner, &dependent.namespace), &owner.name).await?;
        let Some(live) = live.filter(|m| m.uid.as_deref() == Some(&*owner.uid)) else {
            // Only in this namespace: an owner elsewhere lives on.
            let mut graph = self.graph();
            if graph.get(&owner.uid).is_none() {
                graph.note_absent(&owner.uid);
            }
            return Ok(Some(Standing::Dangling));
        };
        let owner_now = node(0, live);
        *unseen |= self.graph().get(&owner.uid).is_none();
        Ok(Some(if owner_now.waits() { Standing::Waiting } else { Standing::Solid }))
    }

    fn tell_invalid(&self, found: &Found, dependent: &Node, uid: &str, owner: &Owner, namespace: &str) {
        let about = ObjectReference {
            api_version: Some(found.resource.api_version.clone()),
            kind: Some(found.resource.kind.clone()),
            namespace: Some(dependent.namespace.to_string()),
            name: Some(dependent.name.to_string()),
            uid: Some(uid.to_string()),
            ..ObjectReference::default()
        };
        let message = format!(
            "ownerRef [{}/{}, namespace: {namespace}, name: {}, uid: {}] does not exist in namespace {namespace:?}",
            owner.api_version, owner.kind, owner.name, owner.uid
        );
        self.recorder.warning(&about, "OwnerRefInvalidNamespace", message);
    }

    /// Frees the dependents of an object that is deleted with the policy Orphan, then lets it go.
    async fn orphan(&self, uid: &str) -> Result<(), kube::Error> {
        let Some(known) = self.graph().get(uid).cloned() else { return Ok(()) };
        let Some(live) = self.live(uid, &known).await? else { return Ok(()) };
        let Some(found) = self.resource(known.resource) else { return Ok(()) };
        let dependents = self.graph().dependents(uid);
        let frees = dependents.iter().map(|(d, node)| self.free(uid, d, node));
        for result in futures::future::join_all(frees).await {
            result?;
        }
        self.remove_finalizer(&self.api(&found, &known.namespace), &live, ORPHAN).await
    }

    async fn free(&self, owner: &str, uid: &str, node: &Node) -> Result<(), kube::Error> {
        let Some(live) = self.live(uid, node).await? else { return Ok(()) };
        let Some(found) = self.resource(node.resource) else { return Ok(()) };
        let mut refs = live.owner_references.clone().unwrap_or_default();
        refs.retain(|r| r.uid != owner);
        self.patch(&self.api(&found, &node.namespace), &live, serde_json::json!({"ownerReferences": refs})).await
    }

    async fn remove_finalizer(
        &self,
        api: &Api<DynamicObject>,
        live: &ObjectMeta,
        finalizer: &str,
    ) -> Result<(), kube::Error> {
        let mut finalizers = live.finalizers.clone().unwrap_or_default();
        finalizers.retain(|f| f != finalizer);
        self.patch(api, live, serde_json::json!({"finalizers": finalizers})).await
    }

    /// A merge patch of metadata that only applies to the object as it was read.
    async fn patch(
        &self,
        api: &Api<DynamicObject>,
        live: &ObjectMeta,
        mut metadata: serde_json::Value,
    ) -> Result<(), kube::Error> {
        metadata["resourceVersion"] = live.resource_version.clone().into();
        metadata["uid"] = live.uid.clone().into();
        let patch = Patch::Merge(serde_json::json!({"metadata": metadata}));
        match api.patch_metadata(live.name.as_deref().unwrap_or_default(), &PatchParams::default(), &patch).await {
            Err(e) if !ownership::gone(&e) => Err(e),
            _ => Ok(()),
        }
    }
}

/// An object's metadata; `None` when there is no such object. That the resource isn't served, perhaps only in this
/// version, is an error: it says nothing about the object, and nothing may be deleted for it.
async fn metadata(api: &Api<DynamicObject>, name: &str) -> Result<Option<ObjectMeta>, kube::Error> {
    match api.get_metadata(name).await {
        Ok(o) => Ok(Some(o.metadata)),
        Err(e) if is_absent(&e) => Ok(None),
        Err(e) => Err(e),
    }
}

fn is_absent(e: &kube::Error) -> bool {
    let kube::Error::Api(status) = e else { return false };
    status.code == 404
        && status.reason == "NotFound"
        && !status.message.contains("could not find the requested resource")
}

fn node(resource: u32, meta: ObjectMeta) -> Node {
    let has = |f: &str| meta.finalizers.as_ref().is_some_and(|l| l.iter().any(|x| x == f));
    Node {
        resource,
        foreground: has(FOREGROUND),
        orphan: has(ORPHAN),
        deleting: meta.deletion_timestamp.is_some(),
        namespace: meta.namespace.unwrap_or_default().into(),
        name: meta.name.unwrap_or_default().into(),
        owners: meta
            .owner_references
            .unwrap_or_default()
            .into_iter()
            .map(|r| Owner {
                uid: r.uid,
                api_version: r.api_version,
                kind: r.kind,
                name: r.name,
                blocks: r.block_owner_deletion == Some(true),
            })
            .collect(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_resource_that_is_not_served_says_nothing_of_its_objects() {
        let answer = |code: u16, reason: &str, message: &str| {
            let body = serde_json::json!({"status": "Failure", "code": code, "reason": reason, "message": message});
            kube::Error::Api(Box::new(serde_json::from_value(body).unwrap()))
        };
        assert!(is_absent(&answer(404, "NotFound", "widgets.example.com \"a\" not found")));
        assert!(!is_absent(&answer(404, "NotFound", "the server could not find the requested resource")));
        assert!(!is_absent(&answer(404, "Failed to parse error data", "404 page not found")));
        assert!(!is_absent(&answer(503, "ServiceUnavailable", "service unavailable")));
    }
}
