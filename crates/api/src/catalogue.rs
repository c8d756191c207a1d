//! Every served resource, a row each.

use crate::strategy::Strategy;
use meta::schema::{TypeId, Types};
use std::sync::Arc;

/// A served resource in one version. Custom resources are rows too, made at run time.
#[derive(Clone)]
pub struct Resource {
    pub group: String,
    pub version: String,
    /// `deployments`
    pub plural: String,
    /// `deployment`
    pub singular: String,
    pub kind: String,
    /// `DeploymentList`; empty for virtual kinds that can't be listed.
    pub list_kind: String,
    pub namespaced: bool,
    pub short_names: Vec<String>,
    pub categories: Vec<String>,
    /// Of the main resource: `create`, `delete`, `deletecollection`, `get`, `list`, `patch`, `update`, `watch`.
    pub verbs: Vec<String>,
    pub subresources: Vec<Subresource>,
    pub types: Arc<Types>,
    pub type_id: TypeId,
    pub strategy: Arc<dyn Strategy>,
    /// Where objects are stored: (group, version) of the row that owns the storage; a row of another version or
    /// group (`events.k8s.io` Events, `autoscaling/v1`) converts to and from it.
    pub storage: (String, String),
}

#[derive(Clone, Debug, PartialEq)]
pub struct Subresource {
    /// `status`
    pub name: String,
    /// Of the object that is sent and answered, for `status` the parent's.
    pub group: String,
    pub version: String,
    pub kind: String,
    /// `get`, `patch`, `update`, `create`; for connect-style ones (exec, proxy) the HTTP verbs as upstream's discovery lists them.
    pub verbs: Vec<String>,
    pub connect: bool,
}

impl Resource {
    /// `apps/v1` or `v1`
    pub fn api_version(&self) -> String {
        if self.group.is_empty() { self.version.clone() } else { format!("{}/{}", self.group, self.version) }
    }

    pub fn has_verb(&self, verb: &str) -> bool {
        self.verbs.iter().any(|v| v == verb)
    }

    pub fn subresource(&self, name: &str) -> Option<&Subresource> {
        self.subresources.iter().find(|s| s.name == name)
    }

    pub fn has_status(&self) -> bool {
        self.subresource("status").is_some()
    }
}

impl std::fmt::Debug for Resource {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}.{}", self.plural, self.api_version())
    }
}
