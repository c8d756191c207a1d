//! For unit tests alone: one write, put together in a line and sent through one plugin.

use super::{Attributes, Operation, Plugin, Reinvocation};
use crate::audit::event::Event;
use crate::audit::{Arrival, Audit, Policy, Record, Remarks, Sink};
use crate::authn::{Connection, User};
use crate::registry::Catalogue;
use crate::request_info::RequestInfo;
use api::catalogue::{Resource, Typed};
use api::strategy::Strategy;
use bytes::Bytes;
use http::HeaderMap;
use meta::schema::{Shape, Struct, Type, Types};
use meta::status::Status;
use parking_lot::Mutex;
use serde_json::Value;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

struct Nowhere;
impl Sink for Nowhere {
    fn take(&self, _: &Event, _: &Bytes) -> bool {
        true
    }
}

struct Plain;
impl Strategy for Plain {}

fn resource(group: &str, plural: &str, namespaced: bool, kind: &str) -> Arc<Resource> {
    let mut types = Types::default();
    let type_id = types.push(Type { name: String::new(), shape: Shape::Struct(Struct::default()) });
    Arc::new(Resource {
        group: group.to_string(),
        version: "v1".to_string(),
        plural: plural.to_string(),
        singular: String::new(),
        kind: kind.to_string(),
        list_kind: format!("{kind}List"),
        namespaced,
        short_names: Vec::new(),
        categories: Vec::new(),
        verbs: Vec::new(),
        subresources: Vec::new(),
        typed: Typed::As(Arc::new(types), type_id),
        strategy: Arc::new(Plain),
        storage: (group.to_string(), "v1".to_string()),
        custom: None,
    })
}

pub struct Write {
    operation: Operation,
    verb: &'static str,
    resource: Arc<Resource>,
    subresource: String,
    namespace: String,
    name: String,
    user: User,
    object: Value,
    old: Option<Value>,
    warnings: Vec<String>,
    told: Mutex<Vec<String>>,
    catalogue: Arc<Catalogue>,
    reinvocation: Reinvocation,
    dry_run: bool,
    options: Value,
    ends: Option<Instant>,
    audit: Record,
}

impl Write {
    fn new(operation: Operation, group: &str, plural: &str, ns: &str, object: Value, old: Option<Value>) -> Write {
        let shown = if object.is_null() { old.as_ref().unwrap_or(&Value::Null) } else { &object };
        let text = |v: &Value| v.as_str().unwrap_or_default().to_string();
        let verb = match operation {
            Operation::Create => "create",
            Operation::Update => "update",
            Operation::Delete => "delete",
            Operation::Connect => "get",
        };
        Write {
            operation,
            verb,
            resource: resource(group, plural, !ns.is_empty(), &text(&shown["kind"])),
            subresource: String::new(),
            namespace: ns.to_string(),
            name: text(&shown["metadata"]["name"]),
            user: User::default(),
            object,
            old,
            warnings: Vec::new(),
            told: Mutex::default(),
            catalogue: Arc::default(),
            reinvocation: Reinvocation::default(),
            dry_run: false,
            options: Value::Null,
            ends: None,
            audit: Record::OFF,
        }
    }

    /// The resource as it is really served, with its types, versions and defaults.
    pub fn served(mut self) -> Write {
        self.catalogue = Arc::new(Catalogue::new(api::catalogue::builtin()));
        let r = &self.resource;
        self.resource = self.catalogue.find(&r.group, &r.version, &r.plural).unwrap();
        self
    }

    /// The request's time is up in so long.
    pub fn within(mut self, time: Duration) -> Write {
        self.ends = Some(Instant::now() + time);
        self
    }

    /// Audited, requests' contents too.
    pub fn audited(mut self) -> Write {
        let policy = r#"{"apiVersion": "audit.k8s.io/v1", "kind": "Policy", "rules": [{"level": "Request"}]}"#;
        let audit = Audit::new(Policy::parse(policy).unwrap(), vec![Arc::new(Nowhere)]);
        let (uri, headers, connection) = (http::Uri::from_static("/"), HeaderMap::new(), Connection::default());
        let info = RequestInfo::parse(&http::Method::POST, "/", "");
        let arrival = Arrival { id: "", uri: &uri, headers: &headers, info: &info, connection: &connection };
        self.audit = audit.begin(&arrival, &self.user, Remarks::new()).unwrap();
        self
    }

    /// Of its audit event, but for those of authentication.
    pub fn annotations(&self) -> BTreeMap<String, String> {
        self.audit.annotations()
    }

    pub fn dry_run(mut self) -> Write {
        self.dry_run = true;
        self
    }

    pub fn look<R>(&mut self, at: impl FnOnce(&Attributes<'_>) -> R) -> R {
        at(&self.attributes())
    }

    /// Texts for `Warning` headers so far.
    pub fn warned(&self) -> Vec<String> {
        self.told.lock().clone()
    }

    /// Sends it through both halves of several plugins, as the engine does.
    pub async fn through(&mut self, plugins: &[Arc<dyn Plugin>]) -> Result<Value, Status> {
        super::admit(plugins, &mut self.attributes()).await?;
        for p in plugins {
            p.validate(&self.attributes()).await?;
        }
        Ok(self.object.clone())
    }

    pub fn create(group: &str, plural: &str, namespace: &str, object: Value) -> Write {
        Write::new(Operation::Create, group, plural, namespace, object, None)
    }

    /// From `old` to `new`.
    pub fn update(group: &str, plural: &str, namespace: &str, old: Value, new: Value) -> Write {
        Write::new(Operation::Update, group, plural, namespace, new, Some(old))
    }

    pub fn delete(group: &str, plural: &str, namespace: &str, old: Value) -> Write {
        Write::new(Operation::Delete, group, plural, namespace, Value::Null, Some(old))
    }

    pub fn by(mut self, user: &User) -> Write {
        self.user = user.clone();
        self
    }

    /// By PATCH.
    pub fn patch(mut self) -> Write {
        self.verb = "patch";
        self
    }

    /// A write to `name`'s subresource.
    pub fn sub(mut self, subresource: &str, name: &str) -> Write {
        self.subresource = subresource.to_string();
        self.name = name.to_string();
        self
    }

    fn attributes(&mut self) -> Attributes<'_> {
        Attributes {
            operation: self.operation,
            verb: self.verb,
            resource: &self.resource,
            subresource: &self.subresource,
            namespace: &self.namespace,
            name: &self.name,
            user: &self.user,
            dry_run: self.dry_run,
            object: &mut self.object,
            old: self.old.as_ref(),
            options: &self.options,
            warnings: &mut self.warnings,
            told: &self.told,
            catalogue: self.catalogue.clone(),
            custom: None,
            reinvocation: &self.reinvocation,
            audit: &self.audit,
            ends: self.ends,
        }
    }

    /// The object after the plugin changed it.
    pub async fn admit(mut self, plugin: &dyn Plugin) -> Result<Value, Status> {
        plugin.admit(&mut self.attributes()).await?;
        Ok(self.object)
    }

    pub async fn validate(mut self, plugin: &dyn Plugin) -> Result<(), Status> {
        plugin.validate(&self.attributes()).await
    }

    /// The write was not made.
    pub async fn release(mut self, plugin: &dyn Plugin) {
        plugin.release(&self.attributes()).await;
    }

    pub fn warnings(mut self, plugin: &dyn Plugin) -> Vec<String> {
        plugin.warnings(&self.attributes())
    }

    /// Both, as the pipeline runs them.
    pub async fn run(mut self, plugin: &dyn Plugin) -> Result<Value, Status> {
        plugin.admit(&mut self.attributes()).await?;
        plugin.validate(&self.attributes()).await?;
        Ok(self.object)
    }
}
