//! ReplicaSet.

use super::{columns, pod};
use crate::strategy::{AGE, Column, NAME, Now, ScalePaths, Strategy, column_of};
use crate::validation::access::*;
use crate::validation::{selector, workload};
use meta::field::{Errors, Path};
use serde_json::{Value, json};

pub struct ReplicaSet;

pub const COLUMNS: &[Column] = &[
    NAME,
    column_of("Desired", "integer", 0, "api.apps.v1.ReplicaSetSpec.replicas"),
    column_of("Current", "integer", 0, "api.apps.v1.ReplicaSetStatus.replicas"),
    column_of("Ready", "integer", 0, "api.apps.v1.ReplicaSetStatus.readyReplicas"),
    AGE,
    columns::CONTAINERS,
    columns::IMAGES,
    column_of("Selector", "string", 1, "api.apps.v1.ReplicaSetSpec.selector"),
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
        workload::immutable_selector(new, old, errors);
    }

    fn validate_status_update(&self, new: &Value, _old: &Value, errors: &mut Errors) {
        status(field(new, "status"), errors);
    }

    fn warnings(&self, new: &Value, old: Option<&Value>) -> Vec<String> {
        workload::warnings(new, old, true, "spec.template")
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
    let counts = [
        "replicas",
        "fullyLabeledReplicas",
        "readyReplicas",
        "availableReplicas",
        "observedGeneration",
        "terminatingReplicas",
    ];
    let parts = ["fullyLabeledReplicas", "readyReplicas", "availableReplicas"];
    workload::replica_counts(s, &counts, &parts, "readyReplicas", errors);
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
