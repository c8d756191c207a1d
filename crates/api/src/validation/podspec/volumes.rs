//! Volumes of a pod: one source each, and every source's own rules. PersistentVolumes share most sources.

mod persistent;
mod projected;
mod storage;

pub use persistent::persistent_source;

use super::Around;
use crate::kinds::persistentvolumeclaim;
use crate::validation::access::*;
use crate::validation::seen::Seen;
use crate::validation::{labels, values};
use meta::field::{Errors, Path};
use meta::names;
use serde_json::Value;
use std::collections::HashMap;

const ONE_TYPE: &str = "may not specify more than 1 volume type";

/// Upstream's order: the first source found counts, each later one is too many.
const SOURCES: &[&str] = &[
    "emptyDir",
    "hostPath",
    "gitRepo",
    "gcePersistentDisk",
    "awsElasticBlockStore",
    "secret",
    "nfs",
    "iscsi",
    "glusterfs",
    "flocker",
    "persistentVolumeClaim",
    "rbd",
    "cinder",
    "cephfs",
    "quobyte",
    "downwardAPI",
    "fc",
    "flexVolume",
    "configMap",
    "azureFile",
    "vsphereVolume",
    "photonPersistentDisk",
    "portworxVolume",
    "azureDisk",
    "storageos",
    "projected",
    "scaleIO",
    "csi",
    "ephemeral",
    "image",
];
/// The volumes that are right, by name: only those can be mounted.
pub fn volumes<'a>(spec: &'a Value, around: &Around, path: &Path, errors: &mut Errors) -> HashMap<&'a str, &'a Value> {
    let all = list(spec, "volumes");
    let pod = around.pod_name();
    let mut good = HashMap::new();
    let made: Seen<String> = match pod.is_empty() {
        true => Seen::default(),
        false => all.iter().filter(|v| has(v, "ephemeral")).map(|v| format!("{pod}-{}", text(v, "name"))).collect(),
    };
    for (i, v) in all.iter().enumerate() {
        let p = path.index(i);
        let name = text(v, "name");
        let before = errors.0.len();
        source(v, around, &p, errors);
        if name.is_empty() {
            errors.required(p.child("name"), "");
        } else {
            values::dns_label(name, &p.child("name"), errors);
        }
        if good.contains_key(name) {
            errors.duplicate(p.child("name"), name);
        }
        if errors.0.len() == before {
            good.insert(name, v);
        }
        let claim = text_at(v, &["persistentVolumeClaim", "claimName"]);
        if has(v, "persistentVolumeClaim") && made.has(&claim.to_string()) {
            let text = "must not reference a PVC that gets created for an ephemeral volume";
            errors.invalid(p.child("persistentVolumeClaim.claimName"), claim, text);
        }
    }
    good
}

/// How many sources a volume names.
pub fn volume_source_count(v: &Value) -> usize {
    v.as_object().map_or(0, |o| o.iter().filter(|(k, v)| *k != "name" && !v.is_null()).count())
}

fn source(v: &Value, around: &Around, path: &Path, errors: &mut Errors) {
    let mut count = 0;
    for kind in SOURCES {
        let s = field(v, kind);
        if s.is_null() {
            continue;
        }
        count += 1;
        if count > 1 {
            errors.forbidden(path.child(excess_name(kind)), ONE_TYPE);
        } else {
            pod_source(kind, s, around, path, errors);
        }
        let name = text(v, "name");
        let pod = around.pod_name();
        if *kind == "iscsi" && has(s, "initiatorName") && name.len() + 1 + text(s, "targetPortal").len() > 64 {
            errors.invalid(path.child("name"), name, storage::ISCSI_TOO_LONG);
        }
        if *kind == "ephemeral" && !pod.is_empty() && !name.is_empty() {
            let claim = format!("{pod}-{name}");
            for m in names::dns1123_subdomain(&claim) {
                errors.invalid(path.child("name"), name, format!("PVC name {claim:?}: {m}"));
            }
        }
    }
    if count == 0 {
        errors.required(path.clone(), "must specify a volume type");
    }
}

/// What upstream calls a source that is one too many; two of its names are misspelt, and clients see them.
fn excess_name(kind: &str) -> &str {
    match kind {
        "cephfs" => "cephFS",
        "downwardAPI" => "downwarAPI",
        other => other,
    }
}

/// The sources that only pods have.
fn pod_source(kind: &str, s: &Value, around: &Around, path: &Path, errors: &mut Errors) {
    let p = path.child(kind);
    match kind {
        "emptyDir" => {
            if super::resources::parse(field(s, "sizeLimit")).is_some_and(|q| q.sign() < 0) {
                errors.forbidden(p.child("sizeLimit"), "SizeLimit field must be a valid resource quantity");
            }
        }
        "secret" | "configMap" => {
            required(s, &[if kind == "secret" { "secretName" } else { "name" }], &p, errors);
            projected::mode(field(s, "defaultMode"), p.child("defaultMode"), errors);
            projected::items(s, &p, errors);
        }
        "downwardAPI" => {
            projected::mode(field(s, "defaultMode"), p.child("defaultMode"), errors);
            for item in list(s, "items") {
                projected::downward_item(item, &p, errors);
            }
        }
        "projected" => {
            projected::mode(field(s, "defaultMode"), p.child("defaultMode"), errors);
            projected::sources(s, &p, errors);
        }
        "persistentVolumeClaim" => required(s, &["claimName"], &p, errors),
        "csi" => {
            csi_driver_name(text(s, "driver"), &p.child("driver"), errors);
            if has(s, "nodePublishSecretRef") {
                let secret = text_at(s, &["nodePublishSecretRef", "name"]);
                if secret.is_empty() {
                    errors.required(p.child("nodePublishSecretRef.name"), "");
                } else {
                    values::dns_subdomain(secret, &p.child("name"), errors);
                }
            }
        }
        "ephemeral" => {
            let template = field(s, "volumeClaimTemplate");
            let p = p.child("volumeClaimTemplate");
            if template.is_null() {
                return errors.required(p, "");
            }
            let meta = p.child("metadata");
            labels::annotations(at(template, &["metadata", "annotations"]), &meta.child("annotations"), errors);
            labels::labels(at(template, &["metadata", "labels"]), &meta.child("labels"), errors);
            for (key, v) in entries(template, "metadata") {
                if key != "annotations" && key != "labels" && !is_zero(v) {
                    errors.forbidden(meta.child(key), "cannot be set");
                }
            }
            persistentvolumeclaim::spec(field(template, "spec"), &Value::Null, &p.child("spec"), errors);
        }
        "image" => {
            // A template may leave the reference to a mutating webhook.
            if around.is_pod() {
                required(s, &["reference"], &p, errors);
            }
            values::required_one_of(
                text(s, "pullPolicy"),
                &["Always", "IfNotPresent", "Never"],
                p.child("pullPolicy"),
                errors,
            );
        }
        "gitRepo" => {
            required(s, &["repository"], &p, errors);
            values::descending_path(text(s, "directory"), &p.child("directory"), errors);
        }
        "iscsi" => storage::iscsi(s, None, &p, errors),
        "glusterfs" => required(s, &["endpoints", "path"], &p, errors),
        "cinder" => {
            required(s, &["volumeID"], &p, errors);
            secret_name(s, &p, errors);
        }
        "azureFile" => required(s, &["secretName", "shareName"], &p, errors),
        "storageos" => storage::storageos(s, &["name"], &p, errors),
        _ => storage::source(kind, s, path, errors),
    }
}

/// A CSI driver goes by a DNS name; upper case is allowed.
pub fn csi_driver_name(name: &str, path: &Path, errors: &mut Errors) {
    if name.is_empty() {
        errors.required(path.clone(), "");
    }
    if name.len() > 63 {
        errors.too_long(path.clone(), 63);
    }
    values::each(errors, path, name, names::dns1123_subdomain(&name.to_lowercase()));
}

fn required(s: &Value, keys: &[&str], path: &Path, errors: &mut Errors) {
    for k in keys {
        if is_zero(field(s, k)) {
            errors.required(path.child(k), "");
        }
    }
}

fn secret_name(s: &Value, p: &Path, errors: &mut Errors) {
    if has(s, "secretRef") && text_at(s, &["secretRef", "name"]).is_empty() {
        errors.required(p.child("secretRef.name"), "");
    }
}
