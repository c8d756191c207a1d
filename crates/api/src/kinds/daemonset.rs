//! DaemonSet.

use super::{columns, pod};
use crate::strategy::{AGE, Column, NAME, Now, Strategy, column_of};
use crate::validation::access::*;
use crate::validation::{podspec, selector, values, workload};
use meta::field::{Errors, Path};
use serde_json::{Value, json};

pub struct DaemonSet;

/// Where apps/v1 keeps what was `spec.templateGeneration`; counts changes of the template.
const TEMPLATE_GENERATION: &str = "deprecated.daemonset.template.generation";

impl Strategy for DaemonSet {
    fn defaults(&self, obj: &mut Value) {
        let Some(spec) = ensure_object(obj, "spec") else {
            return;
        };
        fill(spec, "revisionHistoryLimit", 10);
        if let Some(u) = ensure_object(spec, "updateStrategy") {
            fill_zero(u, "type", "RollingUpdate");
            if text(u, "type") == "RollingUpdate"
                && let Some(r) = ensure_object(u, "rollingUpdate")
            {
                fill(r, "maxUnavailable", 1);
                fill(r, "maxSurge", 0);
            }
        }
        pod::defaults::template(spec, "template");
    }

    fn prepare_create(&self, obj: &mut Value, _has_status: bool) {
        remove(obj, "status");
        set_template_generation(obj, 1);
    }

    fn prepare_update(&self, new: &mut Value, old: &Value, _has_status: bool) {
        copy_field(new, old, "status");
        let was =
            at(old, &["metadata", "annotations", TEMPLATE_GENERATION]).as_str().and_then(|s| s.parse::<i64>().ok());
        let was = was.unwrap_or(0);
        let template = |o| at(o, &["spec", "template"]).clone();
        let changed = !same(&template(new), &template(old));
        set_template_generation(new, if changed { was.saturating_add(1) } else { was });
    }

    fn validate_create(&self, obj: &Value, errors: &mut Errors) {
        let (spec, path) = (field(obj, "spec"), Path::new("spec"));
        let sel = field(spec, "selector");
        selector::label_selector(sel, &path.child("selector"), errors);
        let labels = at(spec, &["template", "metadata", "labels"]);
        if (sel.is_null() || !selector::is_empty(sel)) && selector::is_readable(sel) {
            workload::matches_template(selector::matches(sel, labels), spec, &path, errors);
        }
        if sel.is_null() {
            errors.required(path.child("selector"), "");
        } else if selector::is_empty(sel) {
            let text = "empty selector is invalid for daemonset";
            errors.invalid(path.child("selector"), sel.clone(), text);
        }
        podspec::pod_template(field(spec, "template"), &path.child("template"), errors);
        workload::always_restarted(spec, "DaemonSet", &path, errors);
        workload::non_negative(spec, &["minReadySeconds", "revisionHistoryLimit"], &path, errors);
        update_strategy(field(spec, "updateStrategy"), &path.child("updateStrategy"), errors);
    }

    fn validate_update(&self, new: &Value, old: &Value, errors: &mut Errors) {
        self.validate_create(new, errors);
        workload::immutable_selector(new, old, errors);
    }

    fn validate_status_update(&self, new: &Value, old: &Value, errors: &mut Errors) {
        let counts = [
            "currentNumberScheduled",
            "numberMisscheduled",
            "desiredNumberScheduled",
            "numberReady",
            "observedGeneration",
            "updatedNumberScheduled",
            "numberAvailable",
            "numberUnavailable",
            "collisionCount",
        ];
        workload::non_negative(field(new, "status"), &counts, &Path::new("status"), errors);
        workload::collision_count(new, old, errors);
    }

    fn warnings(&self, new: &Value, old: Option<&Value>) -> Vec<String> {
        workload::warnings(new, old, false, "spec.template")
    }

    fn columns(&self) -> &'static [Column] {
        const COLUMNS: &[Column] = &[
            NAME,
            column_of("Desired", "integer", 0, "api.apps.v1.DaemonSetStatus.desiredNumberScheduled"),
            column_of("Current", "integer", 0, "api.apps.v1.DaemonSetStatus.currentNumberScheduled"),
            column_of("Ready", "integer", 0, "api.apps.v1.DaemonSetStatus.numberReady"),
            column_of("Up-to-date", "integer", 0, "api.apps.v1.DaemonSetStatus.updatedNumberScheduled"),
            column_of("Available", "integer", 0, "api.apps.v1.DaemonSetStatus.numberAvailable"),
            column_of("Node Selector", "string", 0, "api.core.v1.PodSpec.nodeSelector"),
            AGE,
            columns::CONTAINERS,
            columns::IMAGES,
            column_of("Selector", "string", 1, "api.apps.v1.DaemonSetSpec.selector"),
        ];
        COLUMNS
    }

    fn row(&self, obj: &Value, now: Now) -> Vec<Value> {
        let (spec, status) = (field(obj, "spec"), field(obj, "status"));
        let pod = at(spec, &["template", "spec"]);
        let [containers, images] = columns::containers_and_images(pod);
        vec![
            columns::name(obj),
            columns::number(status, "desiredNumberScheduled"),
            columns::number(status, "currentNumberScheduled"),
            columns::number(status, "numberReady"),
            columns::number(status, "updatedNumberScheduled"),
            columns::number(status, "numberAvailable"),
            columns::labels(field(pod, "nodeSelector")),
            columns::age_cell(obj, now),
            containers,
            images,
            json!(selector::shown(field(spec, "selector"))),
        ]
    }

    fn has_generation(&self) -> bool {
        true
    }
}

fn set_template_generation(obj: &mut Value, n: i64) {
    if let Some(a) = ensure_object(obj, "metadata").and_then(|m| ensure_object(m, "annotations")) {
        set(a, TEMPLATE_GENERATION, n.to_string());
    }
}

fn update_strategy(u: &Value, path: &Path, errors: &mut Errors) {
    match text(u, "type") {
        "OnDelete" => {}
        "RollingUpdate" => {
            let rolling = field(u, "rollingUpdate");
            let p = path.child("rollingUpdate");
            if rolling.is_null() {
                errors.required(p, "");
                return;
            }
            let (unavailable, surge) = (field(rolling, "maxUnavailable"), field(rolling, "maxSurge"));
            let zero = |v: &Value| values::int_or_percent_number(v) == 0;
            let both = [("maxUnavailable", unavailable), ("maxSurge", surge)];
            for (key, v) in both.iter().filter(|b| !b.1.is_null()) {
                values::int_or_percent(v, &p.child(key), errors);
            }
            for (key, v) in both.iter().filter(|b| !b.1.is_null()) {
                values::not_more_than_100_percent(v, &p.child(key), errors);
            }
            if zero(unavailable) && zero(surge) {
                errors.required(p.child("maxUnavailable"), "cannot be 0 when maxSurge is 0");
            } else if !zero(unavailable) && !zero(surge) {
                let text = "may not be set when maxUnavailable is non-zero";
                errors.invalid(p.child("maxSurge"), surge.clone(), text);
            }
        }
        other => {
            // Upstream shows its internal form of the whole strategy.
            let shown = json!({"Type": other, "RollingUpdate": field(u, "rollingUpdate")});
            errors.not_supported(path.clone(), shown, &["RollingUpdate", "OnDelete"]);
        }
    }
}
