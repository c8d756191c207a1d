//! ServiceAccount.

use super::columns;
use crate::strategy::{AGE, Column, NAME, Now, Strategy};
use crate::validation::access::*;
use serde_json::{Value, json};

pub struct ServiceAccount;

/// Of Secrets an account names, the name is all that counts.
fn plain_secrets(account: &mut Value) {
    for secret in items_mut(account, "secrets") {
        *secret = field(secret, "name").as_str().map_or(json!({}), |name| json!({"name": name}));
    }
}

impl Strategy for ServiceAccount {
    fn prepare_create(&self, obj: &mut Value, _has_status: bool) {
        plain_secrets(obj);
    }

    fn prepare_update(&self, new: &mut Value, _old: &Value, _has_status: bool) {
        plain_secrets(new);
    }

    fn columns(&self) -> &'static [Column] {
        const COLUMNS: &[Column] = &[NAME, AGE];
        COLUMNS
    }

    fn row(&self, obj: &Value, now: Now) -> Vec<Value> {
        vec![columns::name(obj), columns::age_cell(obj, now)]
    }

    fn warnings(&self, new: &Value, old: Option<&Value>) -> Vec<String> {
        let told = |o: &Value| has(at(o, &["metadata", "annotations"]), "kubernetes.io/enforce-mountable-secrets");
        if told(new) && !old.is_some_and(told) {
            return vec![
                "metadata.annotations[kubernetes.io/enforce-mountable-secrets]: deprecated in v1.32+; prefer separate namespaces to isolate access to mounted secrets"
                    .to_string(),
            ];
        }
        Vec::new()
    }
}
