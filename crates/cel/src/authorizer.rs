//! The `authorizer` of admission expressions: `authorizer.group('').resource('pods').check('get').allowed()`.
//!
//! Evaluation is synchronous and does nothing but compute, asking an authorizer may need a call over the network.
//! So a `check` whose answer isn't known yet stops the evaluation with the question
//! ([`EvalError::Unanswered`](crate::EvalError)); whoever evaluates asks, notes the answer and evaluates again.

use std::collections::BTreeMap;

/// A question, or the beginning of one.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Check {
    pub stage: Stage,
    /// `namespace`, `name` of a service account to ask for, in place of the request's user.
    pub service_account: Option<(String, String)>,
    pub path: String,
    pub group: String,
    pub resource: String,
    pub subresource: String,
    pub namespace: String,
    pub name: String,
    pub field_selector: String,
    pub label_selector: String,
    pub verb: String,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub enum Stage {
    #[default]
    Authorizer,
    Path,
    Group,
    Resource,
}

impl Check {
    pub fn type_name(&self) -> &'static str {
        match self.stage {
            Stage::Authorizer => "kubernetes.authorization.Authorizer",
            Stage::Path => "kubernetes.authorization.PathCheck",
            Stage::Group => "kubernetes.authorization.GroupCheck",
            Stage::Resource => "kubernetes.authorization.ResourceCheck",
        }
    }
}

/// An authorizer's answer.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Verdict {
    pub allowed: bool,
    pub reason: String,
    pub error: String,
}

/// Answers known so far.
pub type Answers = BTreeMap<Check, Verdict>;
