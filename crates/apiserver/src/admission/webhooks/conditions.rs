//! `matchConditions`: CEL expressions that all must hold for a webhook to be asked.

use crate::admission::Attributes;
use crate::admission::policies::input;
use crate::authz::Authorizer;
use api::catalogue::Resource;
use cel::Answers;
use cel::admission::{Compiler, Failure, Input, Matched};
use serde_json::Value;
use std::sync::Arc;

pub struct Conditions(cel::admission::Conditions);

impl Conditions {
    pub fn new(conditions: &Value) -> Conditions {
        Conditions(cel::admission::Conditions::new(conditions, &Compiler::new()))
    }

    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Whether every condition is true. A false one counts more than one that can't be evaluated, as upstream's.
    pub async fn all_hold(
        &self,
        a: &Attributes<'_>,
        row: &Resource,
        object: &Value,
        old: Option<&Value>,
        authorizer: &Arc<dyn Authorizer>,
    ) -> Result<bool, String> {
        let (request, resource) = (input::request(a, row), input::request_resource(a));
        input::answered(authorizer, a.user, &mut Answers::new(), |answers| {
            let input = Input {
                object,
                old_object: old.unwrap_or(&Value::Null),
                request: &request,
                params: None,
                // Upstream gives webhooks' conditions no namespace.
                namespace: &Value::Null,
                answers,
                resource: &resource,
                variables: &[],
            };
            match self.0.evaluate(&input.vars()) {
                Ok(matched) => Ok(Ok(matched == Matched::Yes)),
                Err(Failure::Unanswered(check)) => Err(check),
                Err(f) => Ok(Err(f.text().unwrap_or_default())),
            }
        })
        .await
    }
}
