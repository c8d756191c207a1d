//! Admission: an ordered list of plugins, a file each. Mutating ones run first, then defaults and validation,
//! then validating ones.

use crate::audit::Record;
use crate::authn::User;
use crate::authz::Authorizer;
use crate::authz::escalation::EscalationCheck;
use crate::authz::rbac::Rbac;
use crate::metrics::figures::{ADMISSION_CONTROLLERS, ADMISSION_STEPS};
use crate::reader::Reader;
use crate::registry::Catalogue;
use api::catalogue::Resource;
use async_trait::async_trait;
use meta::status::Status;
use parking_lot::Mutex;
use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

pub mod always_pull_images;
pub mod certificate_approval;
pub mod certificate_signing;
pub mod certificate_subject_restriction;
pub mod cluster_trust_bundle_attest;
pub mod config;
pub mod default_ingress_class;
pub mod default_storage_class;
pub mod default_toleration_seconds;
pub mod event_rate_limit;
pub mod image_policy_webhook;
pub mod limit_ranger;
pub mod matching;
pub mod namespace_auto_provision;
pub mod namespace_lifecycle;
pub mod node_restriction;
pub mod owner_references_permission_enforcement;
pub mod persistent_volume_claim_resize;
pub mod pod_certificate_signing;
pub mod pod_node_selector;
pub mod pod_security;
pub mod pod_toleration_restriction;
pub mod pod_topology_labels;
pub mod policies;
pub mod priority;
pub mod resource_claim_status;
pub mod resource_quota;
pub mod runtime_class;
pub mod service_account;
pub mod simple;
pub mod storage_object_in_use_protection;
pub mod taint_nodes_by_condition;
#[cfg(test)]
pub mod testing;
pub mod webhooks;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Operation {
    Create,
    Update,
    Delete,
    Connect,
}

/// One write on its way in.
pub struct Attributes<'a> {
    pub operation: Operation,
    /// The request's, as authorizers were asked: `update` or `patch` where the operation is an update.
    pub verb: &'a str,
    pub resource: &'a Arc<Resource>,
    /// Empty for the main resource.
    pub subresource: &'a str,
    pub namespace: &'a str,
    /// May be empty on create with generateName before the name is made.
    pub name: &'a str,
    pub user: &'a User,
    pub dry_run: bool,
    /// The object as it would be stored; `Null` on delete. For subresources with a kind of their own
    /// (Binding, Eviction, TokenRequest, exec options) it is that object.
    pub object: &'a mut Value,
    /// The stored object, on update and delete.
    pub old: Option<&'a Value>,
    /// CreateOptions, UpdateOptions, DeleteOptions.
    pub options: &'a Value,
    /// Texts for `Warning` headers.
    pub warnings: &'a mut Vec<String>,
    /// As `warnings`, for those who only look; sent with refusals, too.
    pub told: &'a Mutex<Vec<String>>,
    /// Annotations of the request's audit events: `a.audit.annotate(key, value)`. A no-op where nothing is audited.
    pub audit: &'a Record,
    /// When the request's time is up; streams have no end.
    pub ends: Option<Instant>,
    /// What is served: the versions in which the object can be shown to others.
    pub catalogue: Arc<Catalogue>,
    /// Converts custom resources between their versions.
    pub custom: Option<&'a crate::custom::Custom>,
    /// For plugins that change objects by others' rules, and must look again when somebody else changed them after.
    pub reinvocation: &'a Reinvocation,
}

#[async_trait]
pub trait Plugin: Send + Sync + 'static {
    /// Upstream's name, for example `NamespaceLifecycle`.
    fn name(&self) -> &'static str;
    /// May change `a.object`.
    async fn admit(&self, _a: &mut Attributes<'_>) -> Result<(), Status> {
        Ok(())
    }
    /// Sees the final object.
    async fn validate(&self, _a: &Attributes<'_>) -> Result<(), Status> {
        Ok(())
    }
    /// The write that `validate` let pass was not made after all: takes back what `validate` did elsewhere.
    async fn release(&self, _a: &Attributes<'_>) {}
    /// Texts for `Warning` headers about the final object; asked after every plugin's `validate` has passed.
    fn warnings(&self, _a: &Attributes<'_>) -> Vec<String> {
        Vec::new()
    }
}

/// Runs the mutating halves in order; a second time when a webhook or policy changed the object, so that every plugin
/// sees what others made of it (upstream's reinvocation).
pub async fn admit(plugins: &[Arc<dyn Plugin>], a: &mut Attributes<'_>) -> Result<(), Status> {
    let started = Instant::now();
    let result = async {
        admit_once(plugins, a).await?;
        if a.reinvocation.begin_second() { admit_once(plugins, a).await } else { Ok(()) }
    };
    let result = result.await;
    let labels = timed(a.operation, result.is_err(), "admit");
    ADMISSION_STEPS.observe(labels, started.elapsed().as_secs_f64());
    result
}

async fn admit_once(plugins: &[Arc<dyn Plugin>], a: &mut Attributes<'_>) -> Result<(), Status> {
    for plugin in plugins {
        let started = Instant::now();
        let result = plugin.admit(a).await;
        tell(plugin.name(), a.operation, &result, "admit", started);
        result?;
    }
    Ok(())
}

/// Runs the validating half of the plugins in order.
pub async fn validate(plugins: &[Arc<dyn Plugin>], a: &Attributes<'_>) -> Result<(), Status> {
    let began = Instant::now();
    let mut whole = Ok(());
    for plugin in plugins {
        let started = Instant::now();
        let result = plugin.validate(a).await;
        tell(plugin.name(), a.operation, &result, "validate", started);
        if result.is_err() {
            whole = result;
            break;
        }
    }
    let labels = timed(a.operation, whole.is_err(), "validate");
    ADMISSION_STEPS.observe(labels, began.elapsed().as_secs_f64());
    whole
}

fn timed(operation: Operation, rejected: bool, kind: &str) -> String {
    format!("operation=\"{}\",rejected=\"{rejected}\",type=\"{kind}\"", operation.word())
}

/// Counts what a plugin did. Most plugins pass most requests by; upstream doesn't ask them then, and so they aren't
/// counted here.
fn tell(plugin: &str, operation: Operation, result: &Result<(), Status>, kind: &str, started: Instant) {
    /// Nobody looks at an object in less.
    const PASSED_BY: Duration = Duration::from_micros(2);
    let took = started.elapsed();
    if result.is_ok() && took < PASSED_BY {
        return;
    }
    let labels = format!("name=\"{plugin}\",{}", timed(operation, result.is_err(), kind));
    ADMISSION_CONTROLLERS.observe(labels, took.as_secs_f64());
}

/// What the plugins that are reinvoked remember between the two rounds of one request.
#[derive(Default)]
pub struct Reinvocation {
    second: AtomicBool,
    wanted: AtomicBool,
    memories: Mutex<BTreeMap<&'static str, Memory>>,
}

/// One plugin's webhooks or policies, by an id of their own.
#[derive(Default)]
struct Memory {
    invoked: BTreeSet<String>,
    again: BTreeSet<String>,
    last_output: Value,
}

impl Reinvocation {
    fn begin_second(&self) -> bool {
        let wanted = self.wanted.load(Ordering::Acquire);
        if wanted {
            self.second.store(true, Ordering::Release);
        }
        wanted
    }

    pub fn is_second(&self) -> bool {
        self.second.load(Ordering::Acquire)
    }

    /// A plugin's round begins: in the second, whoever was invoked before somebody else changed the object is due.
    pub fn begin(&self, plugin: &'static str, object: &Value) {
        if self.is_second() {
            let mut memories = self.memories.lock();
            let memory = memories.entry(plugin).or_default();
            if memory.last_output != *object {
                memory.require();
            }
        }
    }

    /// Whether `id` runs in this round: all in the first, only those that are due in the second.
    pub fn is_due(&self, plugin: &'static str, id: &str) -> bool {
        !self.is_second() || self.memories.lock().get(plugin).is_some_and(|m| m.again.contains(id))
    }

    /// `id` changed the object: those before it want to see that.
    pub fn changed(&self, plugin: &'static str) {
        self.memories.lock().entry(plugin).or_default().require();
        self.wanted.store(true, Ordering::Release);
    }

    /// `id` ran, and wants to run again when the object changes after it (`reinvocationPolicy: IfNeeded`).
    pub fn invoked(&self, plugin: &'static str, id: &str) {
        self.memories.lock().entry(plugin).or_default().invoked.insert(id.to_string());
    }

    /// A plugin's round is over.
    pub fn end(&self, plugin: &'static str, object: &Value) {
        self.memories.lock().entry(plugin).or_default().last_output = object.clone();
    }
}

impl Memory {
    fn require(&mut self) {
        self.again.append(&mut self.invoked);
    }
}

/// What plugins are made of.
pub struct Parts<'a> {
    pub reader: &'a Reader,
    pub authorizer: &'a Arc<dyn Authorizer>,
    pub rbac: &'a Arc<Rbac>,
    /// Which plugins run, and their own configuration.
    pub config: &'a config::Config,
    /// For webhooks.
    pub outbound: &'a crate::outbound::Client,
    pub webhook_metrics: &'a Arc<webhooks::Metrics>,
}

/// The plugins that the configuration leaves or turns on, in upstream's order. Webhooks and policies run between
/// `DefaultIngressClass` and `ResourceQuota`, which is last so that it charges only what all others let through.
pub fn chain(parts: &Parts<'_>) -> Result<Vec<Arc<dyn Plugin>>, config::ConfigError> {
    let Parts { reader, authorizer, rbac, outbound, webhook_metrics, config } = parts;
    let bad = |plugin: &'static str| move |error: String| config::ConfigError::Plugin { plugin, error };
    let policies = Arc::new(policies::Policies::new(reader, authorizer));
    let credentials = |plugin| webhooks::config::auth_infos(config.of(plugin)).map_err(bad(plugin));
    let credentials = [credentials("MutatingAdmissionWebhook")?, credentials("ValidatingAdmissionWebhook")?];
    let hooks = Arc::new(webhooks::Webhooks::new(reader, authorizer, outbound, webhook_metrics, credentials));
    let mut all: Vec<Arc<dyn Plugin>> = vec![
        Arc::new(simple::AlwaysAdmit),
        Arc::new(namespace_auto_provision::NamespaceAutoProvision { reader: Reader::clone(reader) }),
        Arc::new(namespace_lifecycle::NamespaceLifecycle::new(Reader::clone(reader))),
        Arc::new(simple::NamespaceExists { reader: Reader::clone(reader) }),
        Arc::new(simple::LimitPodHardAntiAffinityTopology),
        Arc::new(limit_ranger::LimitRanger::new(Reader::clone(reader))),
        Arc::new(service_account::ServiceAccount::new(Reader::clone(reader))),
        Arc::new(node_restriction::NodeRestriction::new(Reader::clone(reader), Arc::clone(authorizer))),
        Arc::new(taint_nodes_by_condition::TaintNodesByCondition),
        Arc::new(always_pull_images::AlwaysPullImages),
        Arc::new(
            pod_security::PodSecurity::new(Reader::clone(reader), config.of("PodSecurity"))
                .map_err(bad("PodSecurity"))?,
        ),
        Arc::new(
            pod_node_selector::PodNodeSelector::new(Reader::clone(reader), config.of("PodNodeSelector"))
                .map_err(bad("PodNodeSelector"))?,
        ),
        Arc::new(priority::Priority::new(Reader::clone(reader))),
        Arc::new(default_toleration_seconds::DefaultTolerationSeconds),
        Arc::new(pod_toleration_restriction::PodTolerationRestriction::new(
            Reader::clone(reader),
            config.of("PodTolerationRestriction"),
        )),
        Arc::new(simple::ExtendedResourceToleration),
        Arc::new(default_storage_class::DefaultStorageClass::new(Reader::clone(reader))),
        // What it adds is taken away by the controllers in `controllers/src/storage_protection.rs`.
        Arc::new(storage_object_in_use_protection::StorageObjectInUseProtection),
        Arc::new(owner_references_permission_enforcement::OwnerReferencesPermissionEnforcement::new(Arc::clone(
            authorizer,
        ))),
        Arc::new(persistent_volume_claim_resize::PersistentVolumeClaimResize::new(Reader::clone(reader))),
        Arc::new(runtime_class::RuntimeClass::new(Reader::clone(reader))),
        Arc::new(certificate_approval::CertificateApproval::new(Arc::clone(authorizer))),
        Arc::new(certificate_signing::CertificateSigning::new(Arc::clone(authorizer))),
        Arc::new(cluster_trust_bundle_attest::ClusterTrustBundleAttest::new(Arc::clone(authorizer))),
        Arc::new(certificate_subject_restriction::CertificateSubjectRestriction),
        Arc::new(default_ingress_class::DefaultIngressClass::new(Reader::clone(reader))),
        Arc::new(simple::DenyServiceExternalIPs),
        Arc::new(pod_topology_labels::PodTopologyLabels { reader: Reader::clone(reader) }),
        // Upstream has these checks in the storage of the kinds.
        Arc::new(EscalationCheck::new(Arc::clone(rbac), Arc::clone(authorizer))),
        Arc::new(policies::ParamAccess::new(reader, authorizer)),
        Arc::new(pod_certificate_signing::PodCertificateSigning::new(Arc::clone(authorizer))),
        Arc::new(resource_claim_status::ResourceClaimStatus::new(Arc::clone(authorizer))),
        Arc::new(policies::Mutating(policies.clone())),
        Arc::new(webhooks::Mutating(hooks.clone())),
        Arc::new(policies::Validating(policies)),
        Arc::new(webhooks::Validating(hooks)),
        Arc::new(resource_quota::ResourceQuota::new(Reader::clone(reader)).limited(config.of("ResourceQuota"))),
        Arc::new(simple::AlwaysDeny),
    ];
    if config.is_on("EventRateLimit") {
        let limit = event_rate_limit::EventRateLimit::new(config.of("EventRateLimit"));
        // It refuses Events alone, which no other plugin changes, so its place doesn't matter.
        all.push(Arc::new(limit.map_err(bad("EventRateLimit"))?));
    }
    if config.is_on("ImagePolicyWebhook") {
        let webhook = image_policy_webhook::ImagePolicyWebhook::new(
            config.of("ImagePolicyWebhook"),
            crate::outbound::Client::clone(outbound),
        )
        .map_err(bad("ImagePolicyWebhook"))?;
        // It looks at what has become of the pod, and comes before those who look at the pod's security, as upstream.
        let place = all.iter().position(|p| p.name() == "PodSecurity").unwrap_or(all.len());
        all.insert(place, Arc::new(webhook));
    }
    all.retain(|p| config.is_on(p.name()));
    Ok(all)
}

/// The 403 of a plugin, about the object that is written (upstream's `admission.NewForbidden`).
pub fn forbidden(a: &Attributes<'_>, why: impl std::fmt::Display) -> Status {
    Status::forbidden(&a.resource.group, &a.resource.plural, &shown_name(a), why)
}

/// A name for error texts: that of the request, of the object, or what its name will begin with.
fn shown_name(a: &Attributes<'_>) -> String {
    let meta = |key: &str| a.object["metadata"][key].as_str().filter(|s| !s.is_empty());
    if !a.name.is_empty() {
        return a.name.to_string();
    }
    meta("name").or_else(|| meta("generateName")).unwrap_or("Unknown").to_string()
}

impl Attributes<'_> {
    /// An annotation whose key somebody else chose: one that is no qualified name is left out.
    pub fn annotate(&self, key: String, value: &str) {
        if key.contains('/') && meta::names::qualified_name(&key).is_empty() {
            self.audit.annotate(key, value);
        } else {
            tracing::warn!(key, "admission annotation key has invalid format, the annotation is left out");
        }
    }

    /// The write is to this resource itself, not to a subresource.
    pub fn is_main(&self, group: &str, plural: &str) -> bool {
        self.is(group, plural, "")
    }

    pub fn is(&self, group: &str, plural: &str, subresource: &str) -> bool {
        self.resource.group == group && self.resource.plural == plural && self.subresource == subresource
    }
}
