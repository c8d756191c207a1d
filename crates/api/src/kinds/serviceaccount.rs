//! ServiceAccount.

use super::columns;
use crate::strategy::{AGE, Column, NAME, Now, Strategy};
use crate::validation::access::*;
use serde_json::Value;

pub struct ServiceAccount;

impl Strategy for ServiceAccount {
    fn columns(&self) -> &'static [Column] {
        const COLUMNS: &[Column] = &[NAME, AGE];
        COLUMNS
    }

    fn row(&self, obj: &Value, now: Now) -> Vec<Value> {
        vec![columns::name(obj), columns::age_cell(obj, now)]
    }

    fn warnings(&self, new: &Value, _old: Option<&Value>) -> Vec<String> {
        let annotations = at(new, &["metadata", "annotations"]);
        if has(annotations, "kubernetes.io/enforce-mountable-secrets") {
            return vec![
                "metadata.annotations[kubernetes.io/enforce-mountable-secrets]: deprecated in v1.32+; prefer separate namespaces to isolate access to mounted secrets"
                    .to_string(),
            ];
        }
        Vec::new()
    }
}
