//! The resource engine: one path for every kind, built-in or custom.
//!
//! In: a [`Call`] (who asks what of which resource). Out: an [`Answer`] that [`crate::respond`] writes.
//! A file per verb; what all of them share is here.

pub mod create;
pub mod delete;
mod devices;
pub mod get;
pub mod in_step;
pub mod list;
pub mod managed;
pub mod patch;
pub mod selection;
pub mod stored;
pub mod update;
pub mod view;
pub mod watch;

use crate::accept::Accept;
use crate::admission;
use crate::audit::Record;
use crate::authn::User;
use crate::metrics::figures::{STORE_DURATIONS, STORE_REQUESTS};
use crate::options::Options;
use crate::request_info::RequestInfo;
use crate::services::ServiceAddresses;
use crate::traces;
use api::catalogue::Resource;
use arc_swap::ArcSwap;
use meta::status::{Result, Status};
use parking_lot::Mutex;
use serde_json::{Value, json};
use std::collections::HashMap;
use std::sync::Arc;
use std::time::Instant;
use store::{Entry, Store};
use view::Item;

/// What there is to serve, indexed. Swapped as a whole when custom resources come and go.
#[derive(Default)]
pub struct Catalogue {
    pub rows: Vec<Arc<Resource>>,
    by_path: HashMap<(String, String, String), Arc<Resource>>,
}

impl Catalogue {
    pub fn new(rows: Vec<Arc<Resource>>) -> Catalogue {
        let by_path =
            rows.iter().map(|r| ((r.group.clone(), r.version.clone(), r.plural.clone()), r.clone())).collect();
        Catalogue { rows, by_path }
    }

    pub fn find(&self, group: &str, version: &str, plural: &str) -> Option<Arc<Resource>> {
        self.by_path.get(&(group.to_string(), version.to_string(), plural.to_string())).cloned()
    }

    /// The row that owns the stored form of `row`'s objects.
    pub fn storage_of(&self, row: &Arc<Resource>) -> Arc<Resource> {
        if stored::is_storage(row) {
            return row.clone();
        }
        self.rows
            .iter()
            .find(|r| (&r.group, &r.version) == (&row.storage.0, &row.storage.1) && r.kind == row.kind)
            .cloned()
            .unwrap_or_else(|| row.clone())
    }
}

/// The engine's state.
pub struct Registry {
    pub store: Arc<dyn Store>,
    /// Of what the store makes durable; `None`: there is none.
    pub encryption: Option<Arc<crate::encryption::Encryption>>,
    pub catalogue: ArcSwap<Catalogue>,
    /// Told whenever `catalogue` was swapped.
    pub catalogue_changed: tokio::sync::Notify,
    pub admission: Vec<Arc<dyn admission::Plugin>>,
    pub addresses: ServiceAddresses,
    pub custom: crate::custom::Custom,
    pub watching: in_step::Groups,
}

/// One request on its way through the engine.
pub struct Call<'a> {
    pub registry: &'a Registry,
    pub row: Arc<Resource>,
    pub info: &'a RequestInfo,
    pub user: &'a User,
    pub options: Options,
    pub accept: Accept,
    pub user_agent: &'a str,
    /// Handed over with the answer, or, when there is none, to `told`.
    pub warnings: Vec<String>,
    pub audit: &'a Record,
    /// Warnings that are sent whatever becomes of the request.
    pub told: Arc<Mutex<Vec<String>>>,
    /// A step of another request that was admitted already: admission isn't asked again.
    pub internal: bool,
    /// When the request's time is up.
    pub ends: Option<Instant>,
    /// What webhooks made of objects in other versions, for managed fields.
    pub conversions: managed::Conversions,
}

/// What the engine answers.
pub enum Answer {
    /// An object in the row's version; 200, or 201 when created.
    Object {
        code: u16,
        value: Value,
    },
    /// A stored object; its bytes are spliced, not encoded, where they can be.
    Item(Item),
    List(list::Listing),
    Watch(Box<watch::Stream>),
    Status(Status),
}

impl Answer {
    /// As one JSON value, for those who record answers. Watches have none.
    pub fn to_value(&self, row: &Resource) -> Value {
        match self {
            Answer::Object { value, .. } => value.clone(),
            Answer::Item(i) => i.object(),
            Answer::List(l) => {
                let items: Vec<Value> = l.items.iter().map(Item::object).collect();
                let metadata = serde_json::json!({"resourceVersion": l.revision.0.to_string()});
                serde_json::json!({"kind": row.list_kind, "apiVersion": row.api_version(), "metadata": metadata, "items": items})
            }
            Answer::Watch(_) => Value::Null,
            Answer::Status(s) => s.to_value(),
        }
    }

    pub fn ok(value: Value) -> Answer {
        Answer::Object { code: 200, value }
    }
}

/// What a request that fails has been warned of is told all the same.
impl Drop for Call<'_> {
    fn drop(&mut self) {
        if !self.warnings.is_empty() {
            self.told.lock().append(&mut self.warnings);
        }
    }
}

impl Call<'_> {
    pub fn storage_row(&self) -> Arc<Resource> {
        self.registry.catalogue.load().storage_of(&self.row)
    }

    /// The key of the named object.
    pub fn key(&self, name: &str) -> String {
        let row = &self.row;
        crate::reader::key(&row.storage.0, &row.plural, self.scope(), name)
    }

    /// The prefix of all objects in the request's scope.
    pub fn prefix(&self) -> String {
        let row = &self.row;
        crate::reader::prefix(&row.storage.0, &row.plural, self.scope())
    }

    pub fn scope(&self) -> &str {
        if self.row.namespaced { &self.info.namespace } else { "" }
    }

    pub fn not_found(&self, name: &str) -> Status {
        Status::not_found(&self.row.group, &self.row.plural, name)
    }

    pub fn modified(&self, name: &str) -> Status {
        Status::modified(&self.row.group, &self.row.plural, name)
    }

    /// The stored object of a built-in kind in the row's version. See [`Call::see`] for any kind.
    pub fn decode(&self, entry: &Entry) -> Value {
        stored::decode_as(&self.row, entry, &self.storage_row())
    }

    pub fn ttl(&self) -> Option<std::time::Duration> {
        self.row.strategy.ttl_seconds().map(std::time::Duration::from_secs)
    }

    /// The options of this write, as admission shows them: `CreateOptions`, `UpdateOptions`.
    pub fn write_options(&self, kind: &str) -> Value {
        let mut o = json!({"kind": kind, "apiVersion": "meta.k8s.io/v1"});
        if self.options.dry_run {
            o["dryRun"] = json!(["All"]);
        }
        if !self.options.field_manager.is_empty() {
            o["fieldManager"] = self.options.field_manager.as_str().into();
        }
        o
    }

    /// Runs the mutating plugins in order.
    pub async fn admit(
        &mut self,
        operation: admission::Operation,
        subresource: &str,
        name: &str,
        object: &mut Value,
        old: Option<&Value>,
        options: &Value,
    ) -> Result<()> {
        if self.internal {
            return Ok(());
        }
        if operation == admission::Operation::Create && self.row.custom.as_ref().is_some_and(|d| d.terminating) {
            let why = "create not allowed while custom resource definition is terminating";
            return Err(Status::forbidden(&self.row.group, &self.row.plural, name, why));
        }
        let owners = object["metadata"].get("managedFields").cloned();
        let reinvocation = admission::Reinvocation::default();
        let (plugins, mut a) = self.attributes(operation, subresource, name, object, old, options, &reinvocation);
        admission::admit(plugins, &mut a).await?;
        self.told.lock().extend(managed::mended(object, owners));
        Ok(())
    }

    /// Runs the validating plugins in order, then asks all for warnings.
    pub async fn admit_final(
        &mut self,
        operation: admission::Operation,
        subresource: &str,
        name: &str,
        object: &mut Value,
        old: Option<&Value>,
        options: &Value,
    ) -> Result<()> {
        if self.internal {
            return Ok(());
        }
        let reinvocation = admission::Reinvocation::default();
        let (plugins, a) = self.attributes(operation, subresource, name, object, old, options, &reinvocation);
        admission::validate(plugins, &a).await?;
        let told: Vec<String> = plugins.iter().flat_map(|p| p.warnings(&a)).collect();
        self.warnings.extend(told);
        Ok(())
    }

    /// Tells the plugins that a write which passed [`Call::admit_final`] was not made.
    pub async fn release(
        &mut self,
        operation: admission::Operation,
        subresource: &str,
        name: &str,
        object: &mut Value,
        old: Option<&Value>,
    ) {
        if self.options.dry_run || self.internal {
            return;
        }
        let reinvocation = admission::Reinvocation::default();
        let (plugins, a) = self.attributes(operation, subresource, name, object, old, &Value::Null, &reinvocation);
        for plugin in plugins {
            plugin.release(&a).await;
        }
    }

    /// The write as plugins see it, and the plugins.
    #[expect(clippy::too_many_arguments, reason = "they are the fields of what it makes")]
    fn attributes<'b>(
        &'b mut self,
        operation: admission::Operation,
        subresource: &'b str,
        name: &'b str,
        object: &'b mut Value,
        old: Option<&'b Value>,
        options: &'b Value,
        reinvocation: &'b admission::Reinvocation,
    ) -> (&'b [Arc<dyn admission::Plugin>], admission::Attributes<'b>) {
        let attributes = admission::Attributes {
            operation,
            verb: &self.info.verb,
            resource: &self.row,
            subresource,
            namespace: &self.info.namespace,
            name,
            user: self.user,
            dry_run: self.options.dry_run,
            object,
            old,
            options,
            warnings: &mut self.warnings,
            told: &self.told,
            audit: self.audit,
            ends: self.ends,
            catalogue: self.registry.catalogue.load_full(),
            custom: Some(&self.registry.custom),
            reinvocation,
        };
        (&self.registry.admission, attributes)
    }
}

/// Before a write that lost `lost` races tries again. Without end, as upstream's: the request's own time limit is the
/// bound, and a writer among many must not be told that the object was modified when it never said which one it saw.
pub async fn give_way(lost: u32) {
    use rand::Rng;
    /// The first few tries cost nothing but themselves.
    const AT_ONCE: u32 = 3;
    const PAUSE_MAX_MS: u64 = 40;
    if lost > AT_ONCE {
        let most = u64::from(lost - AT_ONCE).saturating_mul(2).min(PAUSE_MAX_MS);
        let pause = rand::rng().random_range(0..=most);
        tokio::time::sleep(std::time::Duration::from_millis(pause)).await;
    }
}

/// A write to the store under way: traced and timed until it is dropped.
pub struct Storing {
    _span: traces::Span,
    operation: &'static str,
    started: Instant,
}

/// `name`: upstream's for the write's span.
pub fn storing(name: &'static str, key: &str, row: &Resource) -> Storing {
    let operation = match name {
        "Create etcd3" => "create",
        "Delete etcd3" => "delete",
        _ => "update",
    };
    let (group, resource) = (&row.group, &row.plural);
    STORE_REQUESTS.add(format!("group=\"{group}\",operation=\"{operation}\",resource=\"{resource}\""));
    Storing { _span: traces::storing(name, key, &row.kind, resource), operation, started: Instant::now() }
}

impl Drop for Storing {
    fn drop(&mut self) {
        let labels = format!("operation=\"{}\"", self.operation);
        STORE_DURATIONS.observe(labels, self.started.elapsed().as_secs_f64());
    }
}

/// A store failure as a client sees it.
pub fn store_error(e: store::Error) -> Status {
    match e {
        store::Error::Compacted { .. } => Status::expired("The resourceVersion for the provided list is too old."),
        store::Error::Future { asked, current } => too_large_version(asked.0, current.0),
        store::Error::Unavailable(why) => Status::unavailable(format!("the server could not store the change: {why}")),
        store::Error::Unknown(why) => Status::timeout(format!("the outcome of the write is unknown: {why}"), 1),
        store::Error::Closed => Status::unavailable("the server is shutting down"),
        e => Status::internal(e),
    }
}

/// A resourceVersion from the future.
pub fn too_large_version(asked: u64, current: u64) -> Status {
    let mut s = Status::timeout(format!("Timeout: Too large resource version: {asked}, current: {current}"), 1);
    if let Some(d) = s.details.as_mut() {
        d.causes.push(meta::status::Cause {
            reason: "ResourceVersionTooLarge".into(),
            message: "Too large resource version".into(),
            field: String::new(),
        });
    }
    s
}

/// `metadata.resourceVersion` of an object or option: absent and empty are `None`.
pub fn parse_version(text: &str) -> Result<Option<u64>> {
    if text.is_empty() {
        return Ok(None);
    }
    let overflows = text.bytes().all(|b| b.is_ascii_digit());
    text.parse().ok().filter(|_| !text.starts_with('+')).map(Some).ok_or_else(|| {
        let why = if overflows { "value out of range" } else { "invalid syntax" };
        Status::bad_request(format!(
            "invalid resource version: resourceVersion: Invalid value: {text:?}: strconv.ParseUint: parsing {text:?}: {why}"
        ))
    })
}
