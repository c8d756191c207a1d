//! Follows CustomResourceDefinitions: names, conditions, rows, and the end of all instances.
//!
//! In: the store's CRDs, each change at once. Out: the catalogue with a row per served version, and the CRDs' status.
//! Rows are there before `Established` is told. One task does it all in order, so that two CRDs never win the same
//! name; only the deletion of instances, which may have to wait for finalizers, has a task of its own.

use super::Custom;
use crate::reader::{key, prefix};
use crate::registry::delete::{self, DeleteOptions};
use crate::registry::{Catalogue, managed, stored};
use crate::server::Server;
use api::catalogue::Resource;
use api::custom::names::{self, FINALIZER, Taken};
use meta::status::Status;
use serde_json::Value;
use sha2::{Digest, Sha256};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;
use stdx::Shutdown;
use store::{Cas, Change, Entry, ListOptions, Store, Watcher};
use tokio::sync::watch;
use tracing::{debug, info, warn};

const GROUP: &str = "apiextensions.k8s.io";
const PLURAL: &str = "customresourcedefinitions";
/// Changes taken at a time. Each may bring a megabyte, which is a dozen megabytes while it is looked at.
const BATCH: usize = 16;
/// What was compiled of schemas is dropped when nobody has needed it for so long, or up to twice as long.
const FORGET: Duration = Duration::from_secs(300);
/// After a failure (a store that is away) everything is looked at anew.
const RETRY: Duration = Duration::from_secs(1);

/// A CRD as the controller knows it. Schemas are by far the largest part of it, so they stay in the store.
struct Known {
    entry: Entry,
    /// Without schemas.
    crd: Value,
    /// What was wrong with its schemas ([`names::structure`]).
    structure: Result<String, String>,
    /// Hash of the whole spec.
    spec: String,
    /// As it is stored, while it is being looked at.
    whole: Option<Value>,
    /// What rows are made of: spec, accepted names, whether it is going.
    made_of: Value,
    rows: Vec<Arc<Resource>>,
}

/// The controller's state.
pub struct Controller {
    server: Arc<Server>,
    known: BTreeMap<String, Known>,
    watcher: Box<dyn Watcher>,
    /// CRDs whose instances are being deleted.
    ending: BTreeSet<String>,
}

impl Controller {
    /// Reads all CRDs and serves those that are established. To be called before requests are.
    pub fn load(server: &Arc<Server>) -> store::Result<Controller> {
        let store = &server.registry.store;
        let page = store.list(&prefix(GROUP, PLURAL, ""), &ListOptions::default())?;
        let watcher = store.watch(&prefix(GROUP, PLURAL, ""), page.revision)?;
        let mut c = Controller { server: server.clone(), known: BTreeMap::new(), watcher, ending: BTreeSet::new() };
        for entry in page.entries {
            let name = c.take(entry);
            c.let_go(&name);
        }
        c.publish();
        custom(server).inner.settled.send_replace(page.revision.0);
        Ok(c)
    }

    /// Follows until `shutdown`.
    pub async fn run(mut self, shutdown: Shutdown) {
        info!(definitions = self.known.len(), "custom resources are served");
        // What the last run left unfinished.
        let all: Vec<String> = self.known.keys().cloned().collect();
        self.reconcile(&all).await;
        let mut forget = tokio::time::interval(FORGET);
        loop {
            let events = tokio::select! {
                _ = shutdown.cancelled() => return,
                _ = forget.tick() => {
                    self.forget_unused();
                    continue;
                }
                got = self.watcher.next(BATCH) => got,
            };
            let settled = custom(&self.server).inner.settled.clone();
            match events {
                Ok(events) => {
                    let changed: Vec<String> = events.into_iter().map(|e| self.observe(e.change)).collect();
                    if !changed.is_empty() {
                        self.reconcile(&changed).await;
                    }
                    settled.send_replace(self.watcher.position().0);
                }
                Err(store::Error::Closed) => return,
                Err(error) => {
                    warn!(%error, "CRDs are read anew");
                    tokio::select! {
                        _ = shutdown.cancelled() => return,
                        _ = tokio::time::sleep(RETRY) => {}
                    }
                    match Controller::load(&self.server) {
                        Ok(mut fresh) => {
                            fresh.ending = std::mem::take(&mut self.ending);
                            self = fresh;
                            let all: Vec<String> = self.known.keys().cloned().collect();
                            self.reconcile(&all).await;
                        }
                        Err(error) => warn!(%error, "CRDs can't be read"),
                    }
                }
            }
        }
    }

    /// Notes a change; answers the CRD's name.
    fn observe(&mut self, change: Change) -> String {
        match change {
            Change::Put { entry, .. } => {
                let name = name_of(&entry);
                match self.known.get(&name) {
                    // Written here.
                    Some(known) if known.entry.mod_revision == entry.mod_revision => name,
                    _ => self.take(entry),
                }
            }
            Change::Delete { prev } => {
                let name = name_of(&prev);
                self.known.remove(&name);
                self.ending.remove(&name);
                name
            }
        }
    }

    fn take(&mut self, entry: Entry) -> String {
        let name = name_of(&entry);
        let whole = stored::parse(&entry);
        let (made_of, rows) = self.known.remove(&name).map(|k| (k.made_of, k.rows)).unwrap_or_default();
        let structure = names::structure(&whole);
        let spec = hex::encode(Sha256::digest(whole["spec"].to_string()));
        let crd = without_schemas(&whole);
        let mut known = Known { entry, crd, structure, spec, whole: Some(whole), made_of, rows };
        known.refresh();
        self.known.insert(name.clone(), known);
        name
    }

    /// Nothing more is to be done with a CRD as it is now.
    fn let_go(&mut self, name: &str) {
        if let Some(known) = self.known.get_mut(name) {
            known.whole = None;
        }
    }

    fn forget_unused(&self) {
        let definitions = self.known.values().filter_map(|k| k.rows.first()?.custom.as_ref());
        let versions: usize = definitions.map(|d| d.forget_unused()).sum();
        debug!(versions, "schemas that nobody needs are no longer compiled");
    }

    /// Brings rows and status to what CRDs say now: those that changed, and whoever shares a group with them.
    async fn reconcile(&mut self, changed: &[String]) {
        let groups: BTreeSet<&str> = changed.iter().filter_map(|n| n.split_once('.')).map(|n| n.1).collect();
        let names: Vec<String> = self
            .known
            .iter()
            .filter(|(n, k)| changed.contains(n) || groups.contains(k.crd["spec"]["group"].as_str().unwrap_or("")))
            .map(|(n, _)| n.clone())
            .collect();
        let mut writes = Vec::new();
        for name in names {
            let taken = self.taken(&name);
            let Some(known) = self.known.get_mut(&name) else { continue };
            let now = meta::object::time(jiff::Timestamp::now());
            let mut status = names::status(&known.crd, &known.structure, &taken, &now);
            let going = !known.crd["metadata"]["deletionTimestamp"].is_null() && has_finalizer(&known.crd);
            if going {
                names::terminating(
                    &mut status,
                    "True",
                    "InstanceDeletionInProgress",
                    "CustomResource deletion is in progress",
                    &now,
                );
            }
            if status != known.crd["status"] {
                known.crd["status"] = status;
                known.refresh();
                writes.push(name.clone());
            }
            if going && self.ending.insert(name.clone()) {
                let server = self.server.clone();
                tokio::spawn(async move { end(server, name).await });
            }
        }
        // First served, then told.
        self.publish();
        for name in writes {
            let Some(known) = self.known.get_mut(&name) else { continue };
            let old = known.whole();
            let mut new = old.clone();
            new["status"] = known.crd["status"].clone();
            track(&mut new, &old);
            known.crd["metadata"] = new["metadata"].clone();
            let bytes = stored::encode(&new);
            match self.server.registry.store.update(&known.entry.key, bytes, known.entry.mod_revision, None).await {
                Ok(Cas::Done { entry, .. }) => known.entry = entry,
                // Somebody was faster: their change comes by the watch.
                Ok(Cas::Conflict(_)) => debug!(crd = name, "status not written, the CRD has changed"),
                Err(error) => warn!(crd = name, %error, "status could not be written"),
            }
            self.let_go(&name);
        }
        for name in changed {
            self.let_go(name);
        }
    }

    /// Names that others have in the CRD's group.
    fn taken(&self, name: &str) -> Taken {
        let mut taken = Taken::default();
        let Some(this) = self.known.get(name) else { return taken };
        let group = &this.crd["spec"]["group"];
        for (other, known) in &self.known {
            if other != name && known.crd["spec"]["group"] == *group {
                taken.add(&known.crd["status"]["acceptedNames"]);
            }
        }
        for row in api::catalogue::builtin().iter().filter(|r| group == r.group.as_str()) {
            taken.resources.extend([row.plural.clone(), row.singular.clone()]);
            taken.resources.extend(row.short_names.iter().cloned());
            taken.kinds.extend([row.kind.clone(), row.list_kind.clone()]);
        }
        taken
    }

    /// Swaps the catalogue where rows differ from what it holds, and ends watches of what was redefined.
    fn publish(&self) {
        let registry = &self.server.registry;
        let now = registry.catalogue.load_full();
        let custom_rows: Vec<Arc<Resource>> = self.known.values().flat_map(|k| k.rows.iter().cloned()).collect();
        let before: Vec<&Arc<Resource>> = now.rows.iter().filter(|r| r.custom.is_some()).collect();
        if before.len() == custom_rows.len() && before.iter().zip(&custom_rows).all(|(a, b)| Arc::ptr_eq(a, b)) {
            return;
        }
        let mut rows: Vec<Arc<Resource>> = now.rows.iter().filter(|r| r.custom.is_none()).cloned().collect();
        rows.extend(custom_rows.iter().cloned());
        registry.catalogue.store(Arc::new(Catalogue::new(rows)));
        registry.catalogue_changed.notify_one();
        let serials: BTreeSet<u64> = custom_rows.iter().filter_map(|r| r.custom.as_ref()).map(|d| d.serial).collect();
        let mut live = registry.custom.inner.live.lock();
        live.retain(|serial, gone| {
            let stays = serials.contains(serial);
            if !stays {
                gone.send_replace(1);
            }
            stays
        });
        for serial in serials {
            live.entry(serial).or_insert_with(|| watch::Sender::new(0));
        }
    }
}

impl Known {
    /// The CRD as it is stored.
    fn whole(&self) -> Value {
        self.whole.clone().unwrap_or_else(|| stored::parse(&self.entry))
    }

    /// Makes rows anew where what they are made of has changed.
    fn refresh(&mut self) {
        let crd = &self.crd;
        let made_of = match names::condition(crd, "Established") {
            true => serde_json::json!([
                crd["metadata"]["uid"],
                self.spec,
                crd["status"]["acceptedNames"],
                names::condition(crd, "Terminating")
            ]),
            false => Value::Null,
        };
        if made_of == self.made_of {
            return;
        }
        self.rows = match made_of.is_null() {
            true => Vec::new(),
            false => {
                let mut whole = self.whole();
                whole["status"] = self.crd["status"].clone();
                api::custom::rows(&whole)
            }
        };
        self.made_of = made_of;
    }
}

fn without_schemas(crd: &Value) -> Value {
    let without = |o: &Value, key: &str| -> Value {
        o.as_object().into_iter().flatten().filter(|(k, _)| *k != key).map(|(k, v)| (k.clone(), v.clone())).collect()
    };
    let mut light = without(crd, "spec");
    light["spec"] = without(&crd["spec"], "versions");
    let versions = crd["spec"]["versions"].as_array().into_iter().flatten();
    light["spec"]["versions"] = versions.map(|v| without(v, "schema")).collect();
    light
}

/// Notes in managedFields that the status is the server's.
fn track(crd: &mut Value, old: &Value) {
    if let Some(row) = api::catalogue::find(&api::catalogue::builtin(), GROUP, "v1", PLURAL) {
        managed::track_own_status(row, crd, old);
    }
}

fn custom(server: &Server) -> &Custom {
    &server.registry.custom
}

fn name_of(entry: &Entry) -> String {
    entry.key.rsplit('/').next().unwrap_or_default().to_string()
}

fn has_finalizer(crd: &Value) -> bool {
    crd["metadata"]["finalizers"].as_array().is_some_and(|f| f.iter().any(|f| f == FINALIZER))
}

/// Deletes all instances of a CRD, then takes its finalizer away. Tries until it is done or the server stops.
async fn end(server: Arc<Server>, name: String) {
    let store = server.registry.store.clone();
    loop {
        match delete_instances(&server, &name).await {
            Ok(()) => return info!(crd = name, "custom resource definition and its instances are gone"),
            Err(s) => {
                if store.get(&key(GROUP, PLURAL, "", &name)).is_none() {
                    return;
                }
                warn!(crd = name, error = s.message, "instances could not be deleted");
                tokio::time::sleep(RETRY).await;
            }
        }
    }
}

async fn delete_instances(server: &Arc<Server>, name: &str) -> Result<(), Status> {
    let store = &server.registry.store;
    let crd_key = key(GROUP, PLURAL, "", name);
    let Some(crd) = store.get(&crd_key) else { return Ok(()) };
    let crd = stored::parse(&crd);
    let accepted = &crd["status"]["acceptedNames"]["plural"];
    let (group, plural) = (crd["spec"]["group"].as_str().unwrap_or(""), accepted.as_str().unwrap_or(""));
    // Names that were never accepted belong to somebody else: there is nothing to delete.
    if !plural.is_empty() {
        let all = prefix(group, plural, "");
        // Any version will do; where none is served, one is made for the purpose.
        let row = instance_row(&crd);
        loop {
            let page = store.list(&all, &ListOptions::default()).map_err(crate::registry::store_error)?;
            if page.entries.is_empty() {
                break;
            }
            for entry in page.entries {
                remove(server, &row, &entry).await?;
            }
            // Those that are left have finalizers; somebody has to take them away.
            let mut changes = store.watch(&all, store.revision()).map_err(crate::registry::store_error)?;
            while store.count(&all) > 0 {
                changes.next(BATCH).await.map_err(crate::registry::store_error)?;
            }
        }
    }
    finish(store.as_ref(), &crd_key).await
}

fn instance_row(crd: &Value) -> Arc<Resource> {
    let mut all = crd.clone();
    for v in all["spec"]["versions"].as_array_mut().into_iter().flatten() {
        v["served"] = true.into();
    }
    let rows = api::custom::rows(&all);
    let storage = rows.iter().find(|r| stored::is_storage(r)).or(rows.first());
    storage.cloned().unwrap_or_else(|| api::catalogue::builtin()[0].clone())
}

/// Asks one instance to go, as it is stored: no admission, as upstream, and no conversion, which may be broken.
async fn remove(server: &Server, row: &Resource, entry: &Entry) -> Result<(), Status> {
    let store = &server.registry.store;
    let mut entry = entry.clone();
    loop {
        let old = stored::decode(&entry);
        let done = match delete::plan(row, &old, &DeleteOptions::default(), jiff::Timestamp::now()) {
            delete::Plan::Pending => return Ok(()),
            delete::Plan::Mark(new) => store.update(&entry.key, stored::encode(&new), entry.mod_revision, None).await,
            delete::Plan::Remove => store.delete(&entry.key, Some(entry.mod_revision)).await,
        };
        match done.map_err(crate::registry::store_error)? {
            Cas::Done { .. } | Cas::Conflict(None) => return Ok(()),
            Cas::Conflict(Some(now)) => entry = now,
        }
    }
}

/// Takes the finalizer away, and the CRD with it where no other holds it.
async fn finish(store: &dyn Store, crd_key: &str) -> Result<(), Status> {
    loop {
        let Some(entry) = store.get(crd_key) else { return Ok(()) };
        let old = stored::parse(&entry);
        let mut crd = old.clone();
        if let Some(f) = crd["metadata"]["finalizers"].as_array_mut() {
            f.retain(|f| f != FINALIZER);
        }
        let now = meta::object::time(jiff::Timestamp::now());
        let (reason, message) = match names::condition(&crd, "Established") {
            true => ("InstanceDeletionCompleted", "removed all instances"),
            false => ("NeverEstablished", "resource was never established"),
        };
        names::terminating(&mut crd["status"], "False", reason, message, &now);
        track(&mut crd, &old);
        let free = crd["metadata"]["finalizers"].as_array().is_none_or(Vec::is_empty);
        let done = match free {
            true => store.delete(crd_key, Some(entry.mod_revision)).await,
            false => store.update(crd_key, stored::encode(&crd), entry.mod_revision, None).await,
        };
        if let Cas::Done { .. } = done.map_err(crate::registry::store_error)? {
            return Ok(());
        }
    }
}
