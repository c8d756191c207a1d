//! ReplicaSet.

use super::{columns, pod};
use crate::strategy::{Column, NAME, Now, ScalePaths, Strategy, column};
use crate::validation::access::*;
use crate::validation::{selector, values, workload};
use meta::field::{Errors, Path};
use serde_json::{Value, json};

pub struct ReplicaSet;

pub const COLUMNS: &[Column] = &[
    NAME,
    column("Desired", "integer", 0),
    column("Current", "integer", 0),
    column("Ready", "integer", 0),
    column("Age", "string", 0),
    column("Containers", "string", 1),
    column("Images", "string", 1),
    column("Selector", "string", 1),
];

impl Strategy for ReplicaSet {
    fn defaults(&self, obj: &mut Value) {
        let Some(spec) = ensure_object(obj, "spec") else {
            return;
        };
        fill(spec, "replicas", 1);
        pod::defaults::template(spec, "template");
    }

    fn validate_create(&self, obj: &Value, errors: &mut Errors) {
        let (spec, path) = (field(obj, "spec"), Path::new("spec"));
        workload::non_negative(spec, &["replicas", "minReadySeconds"], &path, errors);
        workload::required_selector(spec, "deployment", &path, errors);
        workload::template(spec, "ReplicaSet", &path, errors);
    }

    fn validate_update(&self, new: &Value, old: &Value, errors: &mut Errors) {
        self.validate_create(new, errors);
        let sel = |o| at(o, &["spec", "selector"]).clone();
        values::immutable(&sel(new), &sel(old), Path::new("spec.selector"), errors);
    }

    fn validate_status_update(&self, new: &Value, _old: &Value, errors: &mut Errors) {
        status(field(new, "status"), errors);
    }

    fn warnings(&self, new: &Value, old: Option<&Value>) -> Vec<String> {
        let mut out = Vec::new();
        if old.is_none() {
            values::name_as_label(new, "Pod names and hostnames", &mut out);
        }
        out.extend(pod::warnings::of(at(new, &["spec", "template"]), &Path::new("spec.template")));
        out
    }

    fn selectable_fields(&self, obj: &Value) -> Vec<(&'static str, String)> {
        vec![("status.replicas", int(field(obj, "status"), "replicas").unwrap_or(0).to_string())]
    }

    fn columns(&self) -> &'static [Column] {
        COLUMNS
    }

    fn row(&self, obj: &Value, now: Now) -> Vec<Value> {
        row(obj, json!(selector::shown(at(obj, &["spec", "selector"]))), now)
    }

    fn has_generation(&self) -> bool {
        true
    }

    fn scale(&self) -> Option<ScalePaths> {
        Some(super::REPLICAS)
    }
}

/// Status rules of ReplicaSets and ReplicationControllers.
pub fn status(s: &Value, errors: &mut Errors) {
    let p = Path::new("status");
    let counts = [
        "replicas",
        "fullyLabeledReplicas",
        "readyReplicas",
        "availableReplicas",
        "terminatingReplicas",
        "observedGeneration",
    ];
    workload::non_negative(s, &counts, &p, errors);
    for key in ["fullyLabeledReplicas", "readyReplicas", "availableReplicas"] {
        workload::not_greater(s, key, "replicas", "cannot be greater than status.replicas", &p, errors);
    }
    workload::not_greater(s, "availableReplicas", "readyReplicas", "cannot be greater than readyReplicas", &p, errors);
}

pub fn row(obj: &Value, selector: Value, now: Now) -> Vec<Value> {
    let (spec, status) = (field(obj, "spec"), field(obj, "status"));
    let [containers, images] = columns::containers_and_images(at(spec, &["template", "spec"]));
    vec![
        columns::name(obj),
        columns::number(spec, "replicas"),
        columns::number(status, "replicas"),
        columns::number(status, "readyReplicas"),
        columns::age_cell(obj, now),
        containers,
        images,
        selector,
    ]
}
