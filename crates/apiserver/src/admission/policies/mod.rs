//! `ValidatingAdmissionPolicy` and `MutatingAdmissionPolicy`: expressions of users that refuse or change writes.
//!
//! In: stored policies and bindings, followed in memory so that a change counts for the very next write and none costs
//! nothing, and a write. Out: the write refused, changed, warned about or let through. Sources: KEP-3488, KEP-3962;
//! API reference, `admissionregistration.k8s.io/v1`.
//!
//! | file | holds |
//! |---|---|
//! | `definition` | policies and bindings, compiled once per change |
//! | `input` | what expressions see of a write, and how an authorizer is asked on their behalf |
//! | `params` | the objects that a binding brings |
//! | `validating`, `mutating` | the two plugins |
//! | `access` | who may let policies read parameters |
//! | `type_checking` | warnings in a policy's status |

mod access;
mod definition;
pub mod input;
mod mutating;
mod params;
#[cfg(test)]
mod tests;
pub mod type_checking;
mod validating;

pub use access::ParamAccess;
pub use mutating::Mutating;
pub use validating::Validating;

use super::{Attributes, webhooks};
use crate::authz::Authorizer;
use crate::authz::followed::Followed;
use crate::reader::Reader;
use api::catalogue::Resource;
use definition::{Binding, Definitions, Policy};
use meta::status::Result;
use serde_json::Value;
use std::sync::Arc;

/// What both plugins share.
pub struct Policies {
    definitions: Followed<Definitions>,
    reader: Reader,
    authorizer: Arc<dyn Authorizer>,
}

/// Policies aren't subject to policies, or nobody could undo a mistake; and reviews aren't, since everything stands
/// still without them.
fn is_exempt(row: &Resource) -> bool {
    match row.group.as_str() {
        "admissionregistration.k8s.io" => matches!(
            row.plural.as_str(),
            "validatingadmissionpolicies"
                | "validatingadmissionpolicybindings"
                | "mutatingadmissionpolicies"
                | "mutatingadmissionpolicybindings"
        ),
        "authentication.k8s.io" => matches!(row.plural.as_str(), "selfsubjectreviews" | "tokenreviews"),
        "authorization.k8s.io" => matches!(
            row.plural.as_str(),
            "localsubjectaccessreviews"
                | "selfsubjectaccessreviews"
                | "selfsubjectrulesreviews"
                | "subjectaccessreviews"
        ),
        _ => false,
    }
}

/// A policy that a write is subject to, or that may be: then why that can't be known.
struct Subject {
    policy: Arc<Policy>,
    matched: std::result::Result<Matched, String>,
}

/// As which resource, by which bindings.
struct Matched {
    row: Arc<Resource>,
    /// With what keeps one from being applied.
    bindings: Vec<(Arc<Binding>, std::result::Result<(), String>)>,
}

impl Policies {
    pub fn new(reader: &Reader, authorizer: &Arc<dyn Authorizer>) -> Policies {
        Policies { definitions: Followed::new(reader.clone()), reader: reader.clone(), authorizer: authorizer.clone() }
    }

    /// Policies that match the write, with the bindings that do; and those where that can't be known.
    fn subjects(&self, a: &Attributes<'_>, mutating: bool) -> Vec<Subject> {
        if is_exempt(a.resource) {
            return Vec::new();
        }
        let bound = self.definitions.get().bound(mutating);
        let subject = |(policy, bindings): &(Arc<Policy>, Vec<Arc<Binding>>)| {
            let row = match policy.criteria.matches(a, &self.reader) {
                Ok(row) => row?,
                Err(s) => return Some(Subject { policy: policy.clone(), matched: Err(s.message) }),
            };
            if let Err(why) = params::check(policy, &a.catalogue) {
                return Some(Subject { policy: policy.clone(), matched: Err(why) });
            }
            let admits = |b: &Arc<Binding>| match b.criteria.as_ref().map_or(Ok(true), |c| c.admits(a, &self.reader)) {
                Ok(admits) => admits.then(|| (b.clone(), Ok(()))),
                Err(s) => Some((b.clone(), Err(s.message))),
            };
            let bindings: Vec<_> = bindings.iter().filter_map(admits).collect();
            (!bindings.is_empty()).then(|| Subject { policy: policy.clone(), matched: Ok(Matched { row, bindings }) })
        };
        bound.iter().filter_map(subject).collect()
    }
}

/// Something that keeps a policy from being applied, as upstream tells it: of what it is that wasn't configured well.
fn misconfigured(binding: Option<&Arc<Binding>>, why: &str) -> String {
    format!("failed to configure {}: {why}", if binding.is_some() { "binding" } else { "policy" })
}

/// Of what kind an expression's error is, as figures tell it.
fn error_type(message: &str) -> &'static str {
    match message {
        m if m.starts_with("compilation") => "compile_error",
        m if m.starts_with("validation failed due to running out of cost budget") => "out_of_budget",
        _ => "invalid_error",
    }
}

/// The written object and the stored one in the version that a policy asked for.
async fn versioned(a: &Attributes<'_>, row: &Arc<Resource>) -> Result<(Value, Value)> {
    let (object, old) = webhooks::versioned(a, row).await?;
    Ok((object, old.unwrap_or(Value::Null)))
}
