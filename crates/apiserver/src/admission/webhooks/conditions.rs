//! `matchConditions`: CEL expressions that all must hold for a webhook to be asked.

use crate::admission::Attributes;
use crate::authz::Authorizer;
use api::catalogue::Resource;
use serde_json::Value;
use std::sync::Arc;

pub struct Conditions {
    all: Vec<(String, String)>,
}

impl Conditions {
    pub fn new(conditions: &Value) -> Conditions {
        let text = |v: &Value| v.as_str().unwrap_or("").to_string();
        let all = conditions.as_array().into_iter().flatten();
        Conditions { all: all.map(|c| (text(&c["name"]), text(&c["expression"]))).collect() }
    }

    pub fn is_empty(&self) -> bool {
        self.all.is_empty()
    }

    /// Whether every condition is true. A false one counts more than one that can't be evaluated, as upstream's.
    pub async fn all_hold(
        &self,
        _a: &Attributes<'_>,
        _row: &Resource,
        _object: &Value,
        _old: Option<&Value>,
        _authorizer: &Arc<dyn Authorizer>,
    ) -> Result<bool, String> {
        Err("match conditions can't be evaluated yet".into())
    }
}
