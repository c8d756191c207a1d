//! StatefulSet.

use super::{columns, persistentvolumeclaim, pod};
use crate::strategy::{AGE, Column, NAME, NameRule, Now, ScalePaths, Strategy, column};
use crate::validation::access::*;
use crate::validation::{values, workload};
use meta::field::{Errors, Path};
use serde_json::{Value, json};

pub struct StatefulSet;

/// Fields of the spec that may change; the text of the refusal names them.
const MUTABLE: &[&str] = &[
    "replicas",
    "ordinals",
    "template",
    "updateStrategy",
    "revisionHistoryLimit",
    "persistentVolumeClaimRetentionPolicy",
    "minReadySeconds",
];

impl Strategy for StatefulSet {
    fn defaults(&self, obj: &mut Value) {
        let Some(spec) = ensure_object(obj, "spec") else {
            return;
        };
        fill_zero(spec, "podManagementPolicy", "OrderedReady");
        fill(spec, "replicas", 1);
        fill(spec, "revisionHistoryLimit", 10);
        if let Some(u) = ensure_object(spec, "updateStrategy") {
            // Unlike in Deployments, who names the type gets no `rollingUpdate`.
            if text(u, "type").is_empty() {
                set(u, "type", "RollingUpdate");
                fill(u, "rollingUpdate", json!({}));
            }
            if text(u, "type") == "RollingUpdate"
                && let Some(r) = object_mut(u, "rollingUpdate")
            {
                fill(r, "partition", 0);
            }
        }
        if let Some(p) = ensure_object(spec, "persistentVolumeClaimRetentionPolicy") {
            fill_zero(p, "whenDeleted", "Retain");
            fill_zero(p, "whenScaled", "Retain");
        }
        for claim in items_mut(spec, "volumeClaimTemplates") {
            // Upstream prints the templates as whole objects.
            fill_zero(claim, "apiVersion", "v1");
            fill_zero(claim, "kind", "PersistentVolumeClaim");
            persistentvolumeclaim::defaults(claim);
        }
        pod::defaults::template(spec, "template");
    }

    fn validate_create(&self, obj: &Value, errors: &mut Errors) {
        validate(obj, true, true, errors);
    }

    fn validate_update(&self, new: &Value, old: &Value, errors: &mut Errors) {
        // A template that was wrong before (upstream once didn't look) may stay so.
        let mut before = Errors::default();
        validate(old, false, true, &mut before);
        validate(new, false, before.is_empty(), errors);
        let mut munged = field(new, "spec").clone();
        for key in MUTABLE {
            copy_field(&mut munged, field(old, "spec"), key);
        }
        if !same(&munged, field(old, "spec")) {
            errors.forbidden(
                Path::new("spec"),
                "updates to statefulset spec for fields other than 'replicas', 'ordinals', 'template', 'updateStrategy', 'revisionHistoryLimit', 'persistentVolumeClaimRetentionPolicy' and 'minReadySeconds' are forbidden",
            );
        }
    }

    fn validate_status_update(&self, new: &Value, old: &Value, errors: &mut Errors) {
        let counts = [
            "replicas",
            "readyReplicas",
            "currentReplicas",
            "updatedReplicas",
            "availableReplicas",
            "observedGeneration",
            "collisionCount",
        ];
        let parts = ["readyReplicas", "currentReplicas", "updatedReplicas", "availableReplicas"];
        workload::replica_counts(field(new, "status"), &counts, &parts, "status.readyReplicas", errors);
        workload::collision_count(new, old, errors);
    }

    fn warnings(&self, new: &Value, old: Option<&Value>) -> Vec<String> {
        let mut out = workload::warnings(new, old, false, "spec.template");
        for (i, claim) in list_at(new, &["spec", "volumeClaimTemplates"]).iter().enumerate() {
            let p = Path::new("spec.volumeClaimTemplates").index(i);
            let p = if old.is_some() { p.child("Spec") } else { p };
            persistentvolumeclaim::spec_warnings(field(claim, "spec"), &p, &mut out);
        }
        if int(field(new, "spec"), "revisionHistoryLimit").is_some_and(|n| n < 0) {
            out.push("spec.revisionHistoryLimit: a negative value retains all historical revisions; a value >= 0 is recommended".to_string());
        }
        out
    }

    fn columns(&self) -> &'static [Column] {
        const COLUMNS: &[Column] = &[
            NAME,
            column("Ready", "string", 0, "How many pods are ready, of how many that are wanted."),
            AGE,
            columns::CONTAINERS,
            columns::IMAGES,
        ];
        COLUMNS
    }

    fn row(&self, obj: &Value, now: Now) -> Vec<Value> {
        let (spec, status) = (field(obj, "spec"), field(obj, "status"));
        let [containers, images] = columns::containers_and_images(at(spec, &["template", "spec"]));
        vec![
            columns::name(obj),
            json!(format!("{}/{}", int(status, "readyReplicas").unwrap_or(0), int(spec, "replicas").unwrap_or(0))),
            columns::age_cell(obj, now),
            containers,
            images,
        ]
    }

    fn name_rule(&self) -> NameRule {
        NameRule::Label
    }

    fn has_generation(&self) -> bool {
        true
    }

    fn scale(&self) -> Option<ScalePaths> {
        Some(super::REPLICAS)
    }
}

/// `whole`: also what cannot change later; `template`: also the pods.
fn validate(obj: &Value, whole: bool, template: bool, errors: &mut Errors) {
    let (spec, path) = (field(obj, "spec"), Path::new("spec"));
    match text(spec, "podManagementPolicy") {
        "" => errors.required(path.child("podManagementPolicy"), ""),
        "OrderedReady" | "Parallel" => {}
        other => errors.invalid(path.child("podManagementPolicy"), other, "must be 'OrderedReady' or 'Parallel'"),
    }
    update_strategy(field(spec, "updateStrategy"), &path.child("updateStrategy"), errors);
    let retention = field(spec, "persistentVolumeClaimRetentionPolicy");
    for key in ["whenDeleted", "whenScaled"].iter().filter(|_| !retention.is_null()) {
        let p = path.child("persistentVolumeClaimRetentionPolicy").child(key);
        values::one_of(text(retention, key), &["Retain", "Delete"], p, errors);
    }
    for (i, claim) in list(spec, "volumeClaimTemplates").iter().enumerate().filter(|_| whole) {
        let p = path.child("volumeClaimTemplates").index(i).child("spec");
        persistentvolumeclaim::spec(field(claim, "spec"), &Value::Null, &p, errors);
    }
    workload::non_negative(spec, &["replicas", "minReadySeconds"], &path, errors);
    workload::non_negative(field(spec, "ordinals"), &["start"], &path.child("ordinals"), errors);
    let service = text(spec, "serviceName");
    if whole && !service.is_empty() {
        values::dns_label(service, &path.child("serviceName"), errors);
    }
    workload::required_selector(spec, "statefulset", &path, errors);
    if template {
        workload::stateful_template(spec, &path, errors);
    }
    workload::always_restarted(spec, "StatefulSet", &path, errors);
}

fn update_strategy(u: &Value, path: &Path, errors: &mut Errors) {
    let rolling = field(u, "rollingUpdate");
    let p = path.child("rollingUpdate");
    // Upstream shows its internal forms.
    let shown = match rolling {
        Value::Null => Value::Null,
        r => json!({"Partition": int(r, "partition").unwrap_or(0), "MaxUnavailable": field(r, "maxUnavailable")}),
    };
    match text(u, "type") {
        "" => errors.required(path.clone(), ""),
        "OnDelete" => {
            if !rolling.is_null() {
                errors.invalid(p, shown, "only allowed for updateStrategy 'RollingUpdate'");
            }
        }
        "RollingUpdate" => {
            values::non_negative(field(rolling, "partition"), p.child("partition"), errors);
            let max = field(rolling, "maxUnavailable");
            if !max.is_null() {
                let p = p.child("maxUnavailable");
                values::int_or_percent(max, &p, errors);
                if values::int_or_percent_number(max) == 0 {
                    errors.invalid(p.clone(), max.clone(), "cannot be 0");
                }
                values::not_more_than_100_percent(max, &p, errors);
            }
        }
        other => {
            let shown = json!({"Type": other, "RollingUpdate": shown});
            errors.invalid(path.clone(), shown, "must be 'RollingUpdate' or 'OnDelete'");
        }
    }
}
