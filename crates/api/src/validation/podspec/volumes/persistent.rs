//! The source of a PersistentVolume: of storage that outlives pods.

use super::{ONE_TYPE, csi_driver_name, excess_name, required, secret_name, storage};
use crate::validation::access::*;
use crate::validation::values;
use meta::field::{Errors, Path};
use serde_json::Value;

/// Upstream's order: the first source found counts, each later one is too many.
const PERSISTENT_SOURCES: &[&str] = &[
    "hostPath",
    "gcePersistentDisk",
    "awsElasticBlockStore",
    "glusterfs",
    "flocker",
    "nfs",
    "rbd",
    "quobyte",
    "cephfs",
    "iscsi",
    "cinder",
    "fc",
    "flexVolume",
    "azureFile",
    "vsphereVolume",
    "photonPersistentDisk",
    "portworxVolume",
    "azureDisk",
    "scaleIO",
    "local",
    "storageos",
    "csi",
];

/// The source of a PersistentVolume called `name`.
pub fn persistent_source(spec: &Value, name: &str, path: &Path, errors: &mut Errors) {
    let mut count = 0;
    for kind in PERSISTENT_SOURCES {
        let s = field(spec, kind);
        if s.is_null() {
            continue;
        }
        count += 1;
        // Upstream forgot to ask it of this one.
        if count > 1 && *kind != "flexVolume" {
            errors.forbidden(path.child(excess_name(kind)), ONE_TYPE);
            continue;
        }
        let p = path.child(kind);
        match *kind {
            "glusterfs" => {
                required(s, &["endpoints", "path"], &p, errors);
                if has(s, "endpointsNamespace") {
                    let p = p.child("endpointsNamespace");
                    match text(s, "endpointsNamespace") {
                        "" => {
                            let text = "if the endpointnamespace is set, it must be a valid namespace name";
                            errors.invalid(p, "", text);
                        }
                        namespace => values::dns_label(namespace, &p, errors),
                    }
                }
            }
            "iscsi" => {
                storage::iscsi(s, Some(name), &p, errors);
            }
            "cinder" => {
                required(s, &["volumeID"], &p, errors);
                secret_reference(s, &p, errors);
            }
            "azureFile" => {
                required(s, &["secretName", "shareName"], &p, errors);
                if has(s, "secretNamespace") {
                    required(s, &["secretNamespace"], &p, errors);
                }
            }
            "local" => {
                match text(s, "path") {
                    "" => errors.required(p.child("path"), ""),
                    at => values::no_backsteps(at, &p.child("path"), errors),
                }
                if !has(spec, "nodeAffinity") {
                    errors.required(path.child("nodeAffinity"), "Local volume requires node affinity");
                }
            }
            "storageos" => storage::storageos(s, &["name", "namespace"], &p, errors),
            "csi" => persistent_csi(s, &p, errors),
            _ => storage::source(kind, s, path, errors),
        }
    }
    if count == 0 {
        errors.required(path.clone(), "must specify a volume type");
    }
}

fn persistent_csi(s: &Value, p: &Path, errors: &mut Errors) {
    csi_driver_name(text(s, "driver"), &p.child("driver"), errors);
    required(s, &["volumeHandle"], p, errors);
    for key in
        ["controllerPublishSecretRef", "controllerExpandSecretRef", "nodePublishSecretRef", "nodeExpandSecretRef"]
    {
        if !has(s, key) {
            continue;
        }
        let p = p.child(key);
        match text_at(s, &[key, "name"]) {
            "" => errors.required(p.child("name"), ""),
            name => values::dns_subdomain(name, &p.child("name"), errors),
        }
        match text_at(s, &[key, "namespace"]) {
            "" => errors.required(p.child("namespace"), ""),
            namespace => values::dns_label(namespace, &p.child("namespace"), errors),
        }
    }
}

fn secret_reference(s: &Value, p: &Path, errors: &mut Errors) {
    secret_name(s, p, errors);
    if has(s, "secretRef") && text_at(s, &["secretRef", "namespace"]).is_empty() {
        errors.required(p.child("secretRef.namespace"), "");
    }
}
