//! ReplicationController: the ReplicaSet of old, with a plain map as selector.

use super::{columns, pod, replicaset};
use crate::strategy::{AGE, Column, NAME, Now, ScalePaths, Strategy, column_of};
use crate::validation::access::*;
use crate::validation::{podspec, workload};
use meta::field::{Errors, Path};
use serde_json::Value;

pub struct ReplicationController;

impl Strategy for ReplicationController {
    fn defaults(&self, obj: &mut Value) {
        let labels = at(obj, &["spec", "template", "metadata", "labels"]).clone();
        if labels.as_object().is_some_and(|l| !l.is_empty()) {
            if let Some(m) = ensure_object(obj, "metadata") {
                fill_zero(m, "labels", labels.clone());
            }
            if let Some(spec) = ensure_object(obj, "spec") {
                fill_zero(spec, "selector", labels);
            }
        }
        let Some(spec) = ensure_object(obj, "spec") else {
            return;
        };
        fill(spec, "replicas", 1);
        if has(spec, "template") {
            pod::defaults::template(spec, "template");
        }
    }

    fn validate_create(&self, obj: &Value, errors: &mut Errors) {
        let (spec, path) = (field(obj, "spec"), Path::new("spec"));
        workload::non_negative(spec, &["minReadySeconds"], &path, errors);
        let selector = field(spec, "selector");
        if is_zero(selector) {
            errors.required(path.child("selector"), "");
        }
        if has(spec, "replicas") {
            workload::non_negative(spec, &["replicas"], &path, errors);
        } else {
            errors.required(path.child("replicas"), "");
        }
        if !has(spec, "template") {
            errors.required(path.child("template"), "");
            return;
        }
        let have = at(spec, &["template", "metadata", "labels"]);
        let matches = entries(spec, "selector").all(|(k, v)| have.get(k) == Some(v));
        if !is_zero(selector) {
            workload::matches_template(matches, spec, &path, errors);
        }
        podspec::pod_template(field(spec, "template"), &path.child("template"), errors);
        workload::always_restarted(spec, "ReplicationController", &path, errors);
    }

    fn validate_update(&self, new: &Value, _old: &Value, errors: &mut Errors) {
        self.validate_create(new, errors);
    }

    fn validate_status_update(&self, new: &Value, _old: &Value, errors: &mut Errors) {
        replicaset::status(field(new, "status"), errors);
    }

    fn warnings(&self, new: &Value, old: Option<&Value>) -> Vec<String> {
        workload::warnings(new, old, true, "spec.template")
    }

    fn selectable_fields(&self, obj: &Value) -> Vec<(&'static str, String)> {
        vec![("status.replicas", int(field(obj, "status"), "replicas").unwrap_or(0).to_string())]
    }

    fn columns(&self) -> &'static [Column] {
        const COLUMNS: &[Column] = &[
            NAME,
            column_of("Desired", "integer", 0, "api.core.v1.ReplicationControllerSpec.replicas"),
            column_of("Current", "integer", 0, "api.core.v1.ReplicationControllerStatus.replicas"),
            column_of("Ready", "integer", 0, "api.core.v1.ReplicationControllerStatus.readyReplicas"),
            AGE,
            columns::CONTAINERS,
            columns::IMAGES,
            column_of("Selector", "string", 1, "api.core.v1.ReplicationControllerSpec.selector"),
        ];
        COLUMNS
    }

    fn row(&self, obj: &Value, now: Now) -> Vec<Value> {
        replicaset::row(obj, columns::labels(at(obj, &["spec", "selector"])), now)
    }

    fn has_generation(&self) -> bool {
        true
    }

    fn scale(&self) -> Option<ScalePaths> {
        Some(super::REPLICAS)
    }

    fn default_orphan(&self) -> bool {
        true
    }
}
