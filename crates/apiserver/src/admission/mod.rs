//! Admission: an ordered list of plugins, a file each. Mutating ones run first, then defaults and validation,
//! then validating ones.

use crate::audit::Record;
use crate::authn::User;
use crate::authz::Authorizer;
use crate::authz::escalation::EscalationCheck;
use crate::authz::rbac::Rbac;
use crate::reader::Reader;
use api::catalogue::Resource;
use async_trait::async_trait;
use meta::status::Status;
use serde_json::Value;
use std::sync::Arc;

pub mod certificate_approval;
pub mod certificate_signing;
pub mod certificate_subject_restriction;
pub mod default_ingress_class;
pub mod default_storage_class;
pub mod default_toleration_seconds;
pub mod limit_ranger;
pub mod namespace_lifecycle;
pub mod node_restriction;
pub mod owner_references_permission_enforcement;
pub mod persistent_volume_claim_resize;
pub mod pod_security;
pub mod priority;
pub mod resource_quota;
pub mod runtime_class;
pub mod service_account;
pub mod storage_object_in_use_protection;
pub mod taint_nodes_by_condition;
#[cfg(test)]
pub mod testing;

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
    /// Annotations of the request's audit events: `a.audit.annotate(key, value)`. A no-op where nothing is audited.
    pub audit: &'a Record,
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

/// The plugins that are on by default, in upstream's order. Webhooks and policies run between
/// `DefaultIngressClass` and `ResourceQuota`, which is last so that it charges only what all others let through.
pub fn default_chain(reader: &Reader, authorizer: &Arc<dyn Authorizer>, rbac: &Arc<Rbac>) -> Vec<Arc<dyn Plugin>> {
    vec![
        Arc::new(namespace_lifecycle::NamespaceLifecycle::new(reader.clone())),
        Arc::new(limit_ranger::LimitRanger::new(reader.clone())),
        Arc::new(service_account::ServiceAccount::new(reader.clone())),
        Arc::new(node_restriction::NodeRestriction::new(reader.clone())),
        Arc::new(taint_nodes_by_condition::TaintNodesByCondition),
        Arc::new(pod_security::PodSecurity::new(reader.clone())),
        Arc::new(priority::Priority::new(reader.clone())),
        Arc::new(default_toleration_seconds::DefaultTolerationSeconds),
        Arc::new(default_storage_class::DefaultStorageClass::new(reader.clone())),
        // What it adds is taken away by the controllers in `controllers/src/storage_protection.rs`.
        Arc::new(storage_object_in_use_protection::StorageObjectInUseProtection),
        Arc::new(persistent_volume_claim_resize::PersistentVolumeClaimResize::new(reader.clone())),
        Arc::new(runtime_class::RuntimeClass::new(reader.clone())),
        Arc::new(certificate_approval::CertificateApproval::new(authorizer.clone())),
        Arc::new(certificate_signing::CertificateSigning::new(authorizer.clone())),
        Arc::new(certificate_subject_restriction::CertificateSubjectRestriction),
        Arc::new(default_ingress_class::DefaultIngressClass::new(reader.clone())),
        // Upstream has this check in the storage of the RBAC kinds.
        Arc::new(EscalationCheck::new(rbac.clone(), authorizer.clone())),
        Arc::new(resource_quota::ResourceQuota::new(reader.clone())),
    ]
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
    /// The write is to this resource itself, not to a subresource.
    pub fn is_main(&self, group: &str, plural: &str) -> bool {
        self.is(group, plural, "")
    }

    pub fn is(&self, group: &str, plural: &str, subresource: &str) -> bool {
        self.resource.group == group && self.resource.plural == plural && self.subresource == subresource
    }
}
