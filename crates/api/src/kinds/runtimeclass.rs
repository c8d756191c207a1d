//! RuntimeClass (node.k8s.io).

use super::columns;
use crate::strategy::{Column, NAME, Now, Strategy, column};
use crate::validation::access::*;
use crate::validation::{labels, values};
use meta::field::{Errors, Path};
use serde_json::{Value, json};

pub struct RuntimeClass;

impl Strategy for RuntimeClass {
    fn validate_create(&self, obj: &Value, errors: &mut Errors) {
        values::dns_label(text(obj, "handler"), &Path::new("handler"), errors);
        for (name, quantity) in entries(at(obj, &["overhead"]), "podFixed") {
            let path = Path::new("overhead.podFixed").key(name);
            values::qualified_name(name, &path, errors);
            if meta::quantity::Quantity::from_value(quantity).is_ok_and(|q| q.sign() < 0) {
                errors.invalid(path, quantity.clone(), values::NEGATIVE);
            }
        }
        labels::labels(at(obj, &["scheduling", "nodeSelector"]), &Path::new("scheduling.nodeSelector"), errors);
    }

    fn validate_update(&self, new: &Value, old: &Value, errors: &mut Errors) {
        values::immutable(field(new, "handler"), field(old, "handler"), Path::new("handler"), errors);
    }

    fn warnings(&self, new: &Value, _old: Option<&Value>) -> Vec<String> {
        entries(at(new, &["scheduling"]), "nodeSelector")
            .filter_map(|(key, _)| super::pod::warnings::deprecated_node_label(key))
            .map(|why| format!("scheduling.nodeSelector: {why}"))
            .collect()
    }

    fn columns(&self) -> &'static [Column] {
        const COLUMNS: &[Column] = &[NAME, column("Handler", "string", 0), column("Age", "string", 0)];
        COLUMNS
    }

    fn row(&self, obj: &Value, now: Now) -> Vec<Value> {
        vec![columns::name(obj), json!(text(obj, "handler")), columns::age_cell(obj, now)]
    }
}
