//! Admission: an ordered list of plugins, a file each. Mutating ones run first, then defaults and validation,
//! then validating ones.

use crate::authn::User;
use api::catalogue::Resource;
use async_trait::async_trait;
use meta::status::Status;
use serde_json::Value;
use std::sync::Arc;

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
