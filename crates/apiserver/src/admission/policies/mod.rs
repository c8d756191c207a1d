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
//! | `type_checking` | warnings in a policy's status |

mod definition;
pub mod input;
mod mutating;
mod params;
#[cfg(test)]
mod tests;
pub mod type_checking;
mod validating;

pub use mutating::Mutating;
pub use validating::Validating;

use super::{Attributes, matching, webhooks};
use crate::authz::Authorizer;
use crate::authz::followed::Followed;
use crate::pipeline::is_review;
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

/// A policy that a write is subject to, and as which resource.
struct Subject {
    policy: Arc<Policy>,
    bindings: Vec<Arc<Binding>>,
    row: Arc<Resource>,
}

impl Policies {
    pub fn new(reader: &Reader, authorizer: &Arc<dyn Authorizer>) -> Policies {
        Policies { definitions: Followed::new(reader.clone()), reader: reader.clone(), authorizer: authorizer.clone() }
    }

    /// Policies that match the write, with the bindings that do; and those where that can't be known, with the reason.
    fn subjects(&self, a: &Attributes<'_>, mutating: bool) -> (Vec<Subject>, Vec<Trouble>) {
        let (mut subjects, mut troubles) = (Vec::new(), Vec::new());
        // A policy about reviews could keep everybody, itself included, from learning who may do what.
        if matching::is_exempt(a) || is_review(a.resource) {
            return (subjects, troubles);
        }
        let bound = self.definitions.get().bound(mutating);
        for (policy, bindings) in bound.iter() {
            let row = match policy.criteria.matches(a, &self.reader) {
                Ok(Some(row)) => row,
                Ok(None) => continue,
                Err(s) => {
                    troubles.push(Trouble::new(policy, None, s.message));
                    continue;
                }
            };
            let mut matching = Vec::new();
            for binding in bindings {
                match binding.criteria.as_ref().map_or(Ok(true), |c| c.admits(a, &self.reader)) {
                    Ok(true) => matching.push(binding.clone()),
                    Ok(false) => {}
                    Err(s) => troubles.push(Trouble::new(policy, Some(binding), s.message)),
                }
            }
            if !matching.is_empty() {
                subjects.push(Subject { policy: policy.clone(), bindings: matching, row });
            }
        }
        (subjects, troubles)
    }
}

/// Something that keeps a policy from being applied.
struct Trouble {
    policy: Arc<Policy>,
    binding: Option<String>,
    message: String,
}

impl Trouble {
    fn new(policy: &Arc<Policy>, binding: Option<&Arc<Binding>>, message: String) -> Trouble {
        Trouble { policy: policy.clone(), binding: binding.map(|b| b.name.clone()), message }
    }

    /// As upstream tells it: of what it is that wasn't configured well.
    fn configuration(&self) -> String {
        match self.binding {
            None => format!("failed to configure policy: {}", self.message),
            Some(_) => format!("failed to configure binding: {}", self.message),
        }
    }
}

/// The written object and the stored one in the version that a policy asked for.
async fn versioned(a: &Attributes<'_>, row: &Arc<Resource>) -> Result<(Value, Value)> {
    let (object, old) = webhooks::versioned(a, row).await?;
    Ok((object, old.unwrap_or(Value::Null)))
}
