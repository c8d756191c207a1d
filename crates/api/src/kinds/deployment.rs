//! Deployment.

use super::{columns, pod};
use crate::strategy::{AGE, Column, NAME, Now, ScalePaths, Strategy, column, column_of};
use crate::validation::access::*;
use crate::validation::{selector, values, workload};
use meta::field::{Errors, Path};
use serde_json::{Value, json};

pub struct Deployment;

impl Strategy for Deployment {
    fn defaults(&self, obj: &mut Value) {
        let Some(spec) = ensure_object(obj, "spec") else {
            return;
        };
        fill(spec, "replicas", 1);
        fill(spec, "revisionHistoryLimit", 10);
        fill(spec, "progressDeadlineSeconds", 600);
        if let Some(strategy) = ensure_object(spec, "strategy") {
            fill_zero(strategy, "type", "RollingUpdate");
            if text(strategy, "type") == "RollingUpdate"
                && let Some(rolling) = ensure_object(strategy, "rollingUpdate")
            {
                fill(rolling, "maxUnavailable", "25%");
                fill(rolling, "maxSurge", "25%");
            }
        }
        pod::defaults::template(spec, "template");
    }

    fn validate_create(&self, obj: &Value, errors: &mut Errors) {
        let (spec, path) = (field(obj, "spec"), Path::new("spec"));
        workload::non_negative(spec, &["replicas"], &path, errors);
        workload::required_selector(spec, "deployment", &path, errors);
        workload::template(spec, "ReplicaSet", &path, errors);
        strategy(field(spec, "strategy"), &path.child("strategy"), errors);
        workload::non_negative(spec, &["minReadySeconds", "revisionHistoryLimit"], &path, errors);
        if let Some(deadline) = int(spec, "progressDeadlineSeconds") {
            let p = path.child("progressDeadlineSeconds");
            values::non_negative(field(spec, "progressDeadlineSeconds"), p.clone(), errors);
            if deadline <= int(spec, "minReadySeconds").unwrap_or(0) {
                errors.invalid(p, deadline, "must be greater than minReadySeconds");
            }
        }
    }

    fn validate_update(&self, new: &Value, old: &Value, errors: &mut Errors) {
        self.validate_create(new, errors);
        workload::immutable_selector(new, old, errors);
    }

    fn status_keeps(&self) -> &'static [&'static str] {
        &["labels"]
    }

    fn validate_status_update(&self, new: &Value, old: &Value, errors: &mut Errors) {
        let counts = [
            "observedGeneration",
            "replicas",
            "updatedReplicas",
            "readyReplicas",
            "availableReplicas",
            "unavailableReplicas",
            "terminatingReplicas",
            "collisionCount",
        ];
        let parts = ["updatedReplicas", "readyReplicas", "availableReplicas"];
        workload::replica_counts(field(new, "status"), &counts, &parts, "readyReplicas", errors);
        workload::collision_count(new, old, errors);
    }

    fn warnings(&self, new: &Value, old: Option<&Value>) -> Vec<String> {
        workload::warnings(new, old, true, "spec.template")
    }

    fn columns(&self) -> &'static [Column] {
        const COLUMNS: &[Column] = &[
            NAME,
            column("Ready", "string", 0, "How many pods are ready, of how many that are wanted."),
            column_of("Up-to-date", "string", 0, "api.apps.v1.DeploymentStatus.updatedReplicas"),
            column_of("Available", "string", 0, "api.apps.v1.DeploymentStatus.availableReplicas"),
            AGE,
            columns::CONTAINERS,
            columns::IMAGES,
            column_of("Selector", "string", 1, "api.apps.v1.DeploymentSpec.selector"),
        ];
        COLUMNS
    }

    fn row(&self, obj: &Value, now: Now) -> Vec<Value> {
        let (spec, status) = (field(obj, "spec"), field(obj, "status"));
        let [containers, images] = columns::containers_and_images(at(spec, &["template", "spec"]));
        vec![
            columns::name(obj),
            json!(format!("{}/{}", int(status, "readyReplicas").unwrap_or(0), int(spec, "replicas").unwrap_or(0))),
            columns::number(status, "updatedReplicas"),
            columns::number(status, "availableReplicas"),
            columns::age_cell(obj, now),
            containers,
            images,
            json!(selector::shown(field(spec, "selector"))),
        ]
    }

    fn has_generation(&self) -> bool {
        true
    }

    // Annotations carry what the rollout is about (pause, revision, change-cause), so they count.
    fn bumps_generation(&self, new: &Value, old: &Value) -> bool {
        !same(field(new, "spec"), field(old, "spec"))
            || !same(at(new, &["metadata", "annotations"]), at(old, &["metadata", "annotations"]))
    }

    fn scale(&self) -> Option<ScalePaths> {
        Some(super::REPLICAS)
    }
}

fn strategy(s: &Value, path: &Path, errors: &mut Errors) {
    let rolling = field(s, "rollingUpdate");
    let p = path.child("rollingUpdate");
    match text(s, "type") {
        "Recreate" => {
            if !rolling.is_null() {
                errors.forbidden(p, "may not be specified when strategy `type` is 'Recreate'");
            }
        }
        "RollingUpdate" => {
            if rolling.is_null() {
                errors.required(p, "this should be defaulted and never be nil");
                return;
            }
            let (unavailable, surge) = (field(rolling, "maxUnavailable"), field(rolling, "maxSurge"));
            values::int_or_percent(unavailable, &p.child("maxUnavailable"), errors);
            values::int_or_percent(surge, &p.child("maxSurge"), errors);
            let zero = |v: &Value| values::int_or_percent_number(v) == 0;
            if zero(unavailable) && zero(surge) {
                let text = "may not be 0 when `maxSurge` is 0";
                errors.invalid(p.child("maxUnavailable"), unavailable.clone(), text);
            }
            values::not_more_than_100_percent(unavailable, &p.child("maxUnavailable"), errors);
        }
        other => {
            // Upstream shows its internal form of the whole strategy.
            let shown = json!({"Type": other, "RollingUpdate": rolling});
            errors.not_supported(path.clone(), shown, &["Recreate", "RollingUpdate"]);
        }
    }
}
