//! StatefulSet.

use super::{columns, persistentvolumeclaim, pod};
use crate::strategy::{Column, NAME, NameRule, Now, ScalePaths, Strategy, column};
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
            fill_zero(u, "type", "RollingUpdate");
            if text(u, "type") == "RollingUpdate"
                && let Some(r) = ensure_object(u, "rollingUpdate")
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
        let (spec, path) = (field(obj, "spec"), Path::new("spec"));
        match text(spec, "podManagementPolicy") {
            "" => errors.required(path.child("podManagementPolicy"), ""),
            "OrderedReady" | "Parallel" => {}
            other => errors.invalid(path.child("podManagementPolicy"), other, "must be 'OrderedReady' or 'Parallel'"),
        }
        update_strategy(field(spec, "updateStrategy"), &path.child("updateStrategy"), errors);
        let retention = field(spec, "persistentVolumeClaimRetentionPolicy");
        for key in ["whenDeleted", "whenScaled"] {
            if has(retention, key) {
                let p = path.child("persistentVolumeClaimRetentionPolicy").child(key);
                values::one_of(text(retention, key), &["Retain", "Delete"], p, errors);
            }
        }
        workload::non_negative(spec, &["replicas", "minReadySeconds", "revisionHistoryLimit"], &path, errors);
        workload::non_negative(field(spec, "ordinals"), &["start"], &path.child("ordinals"), errors);
        workload::required_selector(spec, "statefulset", &path, errors);
        workload::template_without_spec(spec, "StatefulSet", &path, errors);
        let service = text(spec, "serviceName");
        if !service.is_empty() {
            values::dns_subdomain(service, &path.child("serviceName"), errors);
        }
    }

    fn validate_update(&self, new: &Value, old: &Value, errors: &mut Errors) {
        self.validate_create(new, errors);
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
        let (s, p) = (field(new, "status"), Path::new("status"));
        let counts = [
            "replicas",
            "readyReplicas",
            "currentReplicas",
            "updatedReplicas",
            "availableReplicas",
            "observedGeneration",
            "collisionCount",
        ];
        workload::non_negative(s, &counts, &p, errors);
        for key in ["readyReplicas", "currentReplicas", "updatedReplicas", "availableReplicas"] {
            workload::not_greater(s, key, "replicas", "cannot be greater than status.replicas", &p, errors);
        }
        workload::not_greater(
            s,
            "availableReplicas",
            "readyReplicas",
            "cannot be greater than status.readyReplicas",
            &p,
            errors,
        );
        workload::collision_count(new, old, errors);
    }

    fn warnings(&self, new: &Value, _old: Option<&Value>) -> Vec<String> {
        let mut out = pod::warnings::of(at(new, &["spec", "template"]), &Path::new("spec.template"));
        for (i, claim) in list_at(new, &["spec", "volumeClaimTemplates"]).iter().enumerate() {
            let p = Path::new("spec.volumeClaimTemplates").index(i);
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
            column("Ready", "string", 0),
            column("Age", "string", 0),
            column("Containers", "string", 1),
            column("Images", "string", 1),
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

fn update_strategy(u: &Value, path: &Path, errors: &mut Errors) {
    let rolling = field(u, "rollingUpdate");
    let p = path.child("rollingUpdate");
    match text(u, "type") {
        "" => errors.required(path.clone(), ""),
        "OnDelete" => {
            if !rolling.is_null() {
                errors.invalid(p, rolling.clone(), "only allowed for updateStrategy 'RollingUpdate'");
            }
        }
        "RollingUpdate" => {
            values::non_negative(field(rolling, "partition"), p.child("partition"), errors);
            let max = field(rolling, "maxUnavailable");
            if !max.is_null() {
                let p = p.child("maxUnavailable");
                values::int_or_percent(max, &p, errors);
                if max.as_i64().or(values::percent(max)) == Some(0) {
                    errors.invalid(p.clone(), max.clone(), "cannot be 0");
                }
                values::not_more_than_100_percent(max, &p, errors);
            }
        }
        _ => errors.invalid(path.clone(), u.clone(), "must be 'RollingUpdate' or 'OnDelete'"),
    }
}
