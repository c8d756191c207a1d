//! VolumeAttachment (storage.k8s.io).

use super::{columns, persistentvolumeclaim};
use crate::strategy::{AGE, Column, METADATA, NAME, Now, Strategy, column_of, named};
use crate::validation::access::*;
use crate::validation::{podspec, values};
use meta::field::{Errors, Path};
use serde_json::{Value, json};

pub struct VolumeAttachment;

impl Strategy for VolumeAttachment {
    fn status_keeps(&self) -> &'static [&'static str] {
        METADATA
    }

    fn validate_create(&self, obj: &Value, errors: &mut Errors) {
        validate(obj, errors);
        // The rules of v1 beyond those of the beta: an object of before may break them.
        let spec = field(obj, "spec");
        podspec::csi_driver_name(text(spec, "attacher"), &Path::new("spec.attacher"), errors);
        if has(field(spec, "source"), "persistentVolumeName") {
            let p = Path::new("spec.source.persistentVolumeName");
            values::dns_subdomain(text_at(spec, &["source", "persistentVolumeName"]), &p, errors);
        }
    }

    fn validate_update(&self, new: &Value, old: &Value, errors: &mut Errors) {
        validate(new, errors);
        values::immutable(field(new, "spec"), field(old, "spec"), Path::new("spec"), errors);
    }

    fn validate_status_update(&self, new: &Value, _old: &Value, errors: &mut Errors) {
        status(field(new, "status"), errors);
    }

    fn allow_unconditional_update(&self) -> bool {
        false
    }

    fn columns(&self) -> &'static [Column] {
        const COLUMNS: &[Column] = &[
            NAME,
            // Formatted as a name, too.
            named("Attacher", 0, "api.storage.v1.VolumeAttachmentSpec.attacher"),
            column_of("PV", "string", 0, "api.storage.v1.VolumeAttachmentSource.persistentVolumeName"),
            column_of("Node", "string", 0, "api.storage.v1.VolumeAttachmentSpec.nodeName"),
            column_of("Attached", "boolean", 0, "api.storage.v1.VolumeAttachmentStatus.attached"),
            AGE,
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

fn validate(obj: &Value, errors: &mut Errors) {
    const ONE: &str = "must specify exactly one of inlineVolumeSpec and persistentVolumeName";
    let (spec, path) = (field(obj, "spec"), Path::new("spec"));
    if text(spec, "attacher").is_empty() {
        errors.required(path.child("attacher"), "");
    }
    let (source, p) = (field(spec, "source"), path.child("source"));
    match (has(source, "inlineVolumeSpec"), has(source, "persistentVolumeName")) {
        (false, false) => errors.required(p, ONE),
        (true, true) => errors.forbidden(p, ONE),
        (false, true) => {
            if text(source, "persistentVolumeName").is_empty() {
                errors.required(p.child("persistentVolumeName"), "must specify non empty persistentVolumeName");
            }
        }
        (true, false) => inline(field(source, "inlineVolumeSpec"), &p.child("inlineVolumeSpec"), errors),
    }
    values::dns_subdomain(text(spec, "nodeName"), &path.child("nodeName"), errors);
    status(field(obj, "status"), errors);
}

/// A volume that is no object of its own: what it says of its place among others means nothing.
fn inline(spec: &Value, path: &Path, errors: &mut Errors) {
    const NOT: &str = "may not be specified in the context of inline volumes";
    for key in ["claimRef", "capacity"] {
        if !is_zero(field(spec, key)) {
            errors.forbidden(path.child(key), NOT);
        }
    }
    if !has(spec, "csi") {
        errors.required(path.child("csi"), "has to be specified in the context of inline volumes");
    }
    persistentvolumeclaim::access_modes(spec, "", path, errors);
    let policy = text(spec, "persistentVolumeReclaimPolicy");
    if !policy.is_empty() && policy != "Retain" {
        let text = "may only be Retain in the context of inline volumes";
        errors.forbidden(path.child("persistentVolumeReclaimPolicy"), text);
    }
    if has(spec, "nodeAffinity") {
        errors.forbidden(path.child("nodeAffinity"), NOT);
    }
    podspec::persistent_source(spec, "", path, errors);
    if !text(spec, "storageClassName").is_empty() {
        errors.forbidden(path.child("storageClassName"), NOT);
    }
    if has(spec, "volumeMode") && text(spec, "volumeMode") != "Filesystem" {
        let text = "may not specify volumeMode other than Filesystem in the context of inline volumes";
        errors.forbidden(path.child("volumeMode"), text);
    }
}

fn status(status: &Value, errors: &mut Errors) {
    const METADATA_BYTES_MAX: usize = 256 * 1024;
    const MESSAGE_BYTES_MAX: usize = 1024;
    let path = Path::new("status");
    let size: usize = pairs(status, "attachmentMetadata").iter().map(|(k, v)| k.len() + v.len()).sum();
    if size > METADATA_BYTES_MAX {
        errors.too_long(path.child("attachmentMetadata"), METADATA_BYTES_MAX);
    }
    for key in ["attachError", "detachError"] {
        let (e, p) = (field(status, key), path.child(key));
        if text(e, "message").len() > MESSAGE_BYTES_MAX {
            // Upstream names the other limit.
            errors.too_long(p.child("message"), METADATA_BYTES_MAX);
        }
        if let Some(code) = int(e, "errorCode").filter(|c| *c < 0) {
            errors.invalid(p.child("errorCode"), code, values::between(0, i64::from(i32::MAX)));
        }
    }
}
