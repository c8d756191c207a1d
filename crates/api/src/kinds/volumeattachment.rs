//! VolumeAttachment (storage.k8s.io).

use super::{columns, csi};
use crate::strategy::{Column, NAME, Now, Strategy, column};
use crate::validation::access::*;
use crate::validation::values;
use meta::field::{Errors, Path};
use serde_json::{Value, json};

pub struct VolumeAttachment;

impl Strategy for VolumeAttachment {
    fn validate_create(&self, obj: &Value, errors: &mut Errors) {
        let (spec, path) = (field(obj, "spec"), Path::new("spec"));
        csi::driver_name(text(spec, "attacher"), &path.child("attacher"), errors);
        match text(spec, "nodeName") {
            "" => errors.required(path.child("nodeName"), ""),
            node => values::dns_subdomain(node, &path.child("nodeName"), errors),
        }
        let source = field(spec, "source");
        match (has(source, "inlineVolumeSpec"), has(source, "persistentVolumeName")) {
            (false, false) => errors.required(
                path.child("source"),
                "must specify exactly one of inlineVolumeSpec and persistentVolumeName",
            ),
            (true, true) => errors.forbidden(
                path.child("source"),
                "must specify exactly one of inlineVolumeSpec and persistentVolumeName",
            ),
            (false, true) if text(source, "persistentVolumeName").is_empty() => {
                errors
                    .required(path.child("source.persistentVolumeName"), "must specify non empty persistentVolumeName");
            }
            _ => {}
        }
    }

    fn validate_update(&self, new: &Value, old: &Value, errors: &mut Errors) {
        values::immutable(field(new, "spec"), field(old, "spec"), Path::new("spec"), errors);
    }

    fn columns(&self) -> &'static [Column] {
        const COLUMNS: &[Column] = &[
            NAME,
            column("Attacher", "string", 0),
            column("PV", "string", 0),
            column("Node", "string", 0),
            column("Attached", "boolean", 0),
            column("Age", "string", 0),
        ];
        COLUMNS
    }

    fn row(&self, obj: &Value, now: Now) -> Vec<Value> {
        let spec = field(obj, "spec");
        vec![
            columns::name(obj),
            json!(text(spec, "attacher")),
            json!(text_at(spec, &["source", "persistentVolumeName"])),
            json!(text(spec, "nodeName")),
            json!(flag(field(obj, "status"), "attached")),
            columns::age_cell(obj, now),
        ]
    }
}
