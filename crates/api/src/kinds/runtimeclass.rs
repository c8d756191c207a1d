//! RuntimeClass (node.k8s.io).

use super::{columns, pod};
use crate::strategy::{AGE, Column, NAME, Now, Strategy, column};
use crate::validation::access::*;
use crate::validation::seen::Seen;
use crate::validation::{labels, podspec, values};
use meta::field::{Errors, Path};
use serde_json::{Value, json};

pub struct RuntimeClass;

impl Strategy for RuntimeClass {
    fn defaults(&self, obj: &mut Value) {
        if let Some(overhead) = object_mut(obj, "overhead") {
            pod::defaults::amounts(overhead, &["podFixed"]);
        }
    }

    fn validate_create(&self, obj: &Value, errors: &mut Errors) {
        values::dns_label(text(obj, "handler"), &Path::new("handler"), errors);
        podspec::overhead(at(obj, &["overhead", "podFixed"]), &Path::new("overhead"), errors);
        labels::labels(at(obj, &["scheduling", "nodeSelector"]), &Path::new("scheduling.nodeSelector"), errors);
        let (tolerations, p) = (list_at(obj, &["scheduling", "tolerations"]), Path::new("scheduling.tolerations"));
        podspec::tolerations(tolerations, &p, errors);
        let mut seen = Seen::default();
        for (i, t) in tolerations.iter().enumerate() {
            if seen.again(["key", "operator", "value", "effect"].map(|k| text(t, k))) {
                errors.duplicate(p.index(i), t.clone());
            }
        }
    }

    fn validate_update(&self, new: &Value, old: &Value, errors: &mut Errors) {
        self.validate_create(new, errors);
        values::immutable(field(new, "handler"), field(old, "handler"), Path::new("handler"), errors);
    }

    fn warnings(&self, new: &Value, _old: Option<&Value>) -> Vec<String> {
        entries(at(new, &["scheduling"]), "nodeSelector")
            .filter_map(|(key, _)| super::pod::warnings::deprecated_node_label(key))
            .map(|why| format!("scheduling.nodeSelector: {why}"))
            .collect()
    }

    fn allow_unconditional_update(&self) -> bool {
        false
    }

    fn allow_create_on_update(&self) -> bool {
        true
    }

    fn columns(&self) -> &'static [Column] {
        const COLUMNS: &[Column] = &[NAME, column("Handler", "string", 0, ""), AGE];
        COLUMNS
    }

    fn row(&self, obj: &Value, now: Now) -> Vec<Value> {
        vec![columns::name(obj), json!(text(obj, "handler")), columns::age_cell(obj, now)]
    }
}
