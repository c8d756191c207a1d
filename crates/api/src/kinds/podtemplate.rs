//! PodTemplate.

use super::{columns, pod};
use crate::strategy::{Column, NAME, Now, Strategy, column};
use crate::validation::access::*;
use crate::validation::{podspec, workload};
use meta::field::{Errors, Path};
use serde_json::Value;

pub struct PodTemplate;

impl Strategy for PodTemplate {
    fn defaults(&self, obj: &mut Value) {
        pod::defaults::template(obj, "template");
    }

    fn validate_create(&self, obj: &Value, errors: &mut Errors) {
        podspec::pod_template(field(obj, "template"), &Path::new("template"), errors);
    }

    fn validate_update(&self, new: &Value, _old: &Value, errors: &mut Errors) {
        self.validate_create(new, errors);
    }

    fn warnings(&self, new: &Value, old: Option<&Value>) -> Vec<String> {
        workload::warnings(new, old, false, "template")
    }

    fn columns(&self) -> &'static [Column] {
        const COLUMNS: &[Column] = &[
            NAME,
            column("Containers", "string", 0, "Names of the template's containers."),
            column("Images", "string", 0, "Images of the template's containers."),
            column("Pod Labels", "string", 0, "Labels of the template."),
        ];
        COLUMNS
    }

    fn row(&self, obj: &Value, _now: Now) -> Vec<Value> {
        let [containers, images] = columns::containers_and_images(at(obj, &["template", "spec"]));
        let labels = columns::labels(at(obj, &["template", "metadata", "labels"]));
        vec![columns::name(obj), containers, images, labels]
    }

    fn has_generation(&self) -> bool {
        true
    }

    fn bumps_generation(&self, new: &Value, old: &Value) -> bool {
        field(new, "template") != field(old, "template")
    }
}
