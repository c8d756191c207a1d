//! PersistentVolume.

use super::{columns, persistentvolumeclaim, pod};
use crate::strategy::{Column, NAME, Now, Strategy, column};
use crate::validation::access::*;
use crate::validation::{podspec, values};
use meta::field::{Errors, Path};
use serde_json::{Value, json};

pub struct PersistentVolume;

/// Fields of the spec that are no volume source.
const OWN: &[&str] = &[
    "accessModes",
    "capacity",
    "claimRef",
    "mountOptions",
    "nodeAffinity",
    "persistentVolumeReclaimPolicy",
    "storageClassName",
    "volumeAttributesClassName",
    "volumeMode",
];

fn sources(spec: &Value) -> Vec<(&str, &Value)> {
    spec.as_object()
        .into_iter()
        .flatten()
        .filter(|(k, v)| !OWN.contains(&k.as_str()) && !v.is_null())
        .map(|(k, v)| (k.as_str(), v))
        .collect()
}

fn source_of(spec: &Value) -> Value {
    sources(spec).into_iter().map(|(k, v)| (k.to_string(), v.clone())).collect::<serde_json::Map<_, _>>().into()
}

fn csi_source(s: &Value, path: &Path, errors: &mut Errors) {
    if !text(s, "driver").is_empty() {
        super::csi::driver_name(text(s, "driver"), &path.child("driver"), errors);
    }
    for key in [
        "controllerPublishSecretRef",
        "controllerExpandSecretRef",
        "nodePublishSecretRef",
        "nodeStageSecretRef",
        "nodeExpandSecretRef",
    ] {
        if has(s, key) {
            for part in ["name", "namespace"] {
                if text(field(s, key), part).is_empty() {
                    errors.required(path.child(key).child(part), "");
                }
            }
        }
    }
}

impl Strategy for PersistentVolume {
    fn defaults(&self, obj: &mut Value) {
        if let Some(spec) = ensure_object(obj, "spec") {
            fill_zero(spec, "persistentVolumeReclaimPolicy", "Retain");
            fill(spec, "volumeMode", "Filesystem");
            pod::defaults::volume_source(spec);
        }
        if let Some(status) = ensure_object(obj, "status") {
            fill_zero(status, "phase", "Pending");
        }
    }

    fn prepare_create(&self, obj: &mut Value, _has_status: bool) {
        set(obj, "status", json!({"phase": "Pending"}));
    }

    fn validate_create(&self, obj: &Value, errors: &mut Errors) {
        let (spec, path) = (field(obj, "spec"), Path::new("spec"));
        persistentvolumeclaim::access_modes(spec, &path, errors);
        let capacity = field(spec, "capacity");
        if is_zero(capacity) {
            errors.required(path.child("capacity"), "");
        } else if entries(spec, "capacity").count() > 1 || !has(capacity, "storage") {
            errors.not_supported(path.child("capacity"), capacity.clone(), &["storage"]);
        }
        for (name, q) in entries(spec, "capacity") {
            let p = path.child("capacity").key(name);
            match podspec::parse_quantity(q) {
                Some(q) if q.sign() > 0 => {}
                Some(q) => errors.invalid(p, q.canonical(), "must be greater than zero"),
                None => errors.invalid(p, q.clone(), "must be a quantity"),
            }
        }
        let supported = ["Delete", "Recycle", "Retain"];
        let policy = text(spec, "persistentVolumeReclaimPolicy");
        values::one_of(policy, &supported, path.child("persistentVolumeReclaimPolicy"), errors);
        for (i, (kind, s)) in sources(spec).iter().enumerate() {
            let p = path.child(kind);
            if i > 0 {
                errors.forbidden(p, "may not specify more than 1 volume type");
                continue;
            }
            let needs: &[&str] = match *kind {
                "hostPath" | "local" => &["path"],
                "nfs" => &["server", "path"],
                "csi" => &["driver", "volumeHandle"],
                _ => &[],
            };
            for key in needs {
                if text(s, key).is_empty() {
                    errors.required(p.child(key), "");
                }
            }
            if *kind == "csi" {
                csi_source(s, &p, errors);
            }
            if *kind == "nfs" && !text(s, "path").starts_with('/') {
                errors.invalid(p.child("path"), text(s, "path"), "must be an absolute path");
            }
            if ["hostPath", "local"].contains(kind) {
                values::no_backsteps(text(s, "path"), &p.child("path"), errors);
            }
            if *kind == "local" && !has(spec, "nodeAffinity") {
                errors.required(Path::new("metadata.annotations"), "Local volume requires node affinity");
            }
            if *kind == "hostPath" && text(s, "path") == "/" && policy == "Recycle" {
                let text = "may not be 'recycle' for a hostPath mount of '/'";
                errors.forbidden(path.child("persistentVolumeReclaimPolicy"), text);
            }
        }
        if sources(spec).is_empty() {
            errors.required(path.clone(), "must specify a volume type");
        }
        let class = text(spec, "storageClassName");
        if !class.is_empty() {
            values::dns_subdomain(class, &path.child("storageClassName"), errors);
        }
        if has(spec, "volumeMode") {
            values::one_of(text(spec, "volumeMode"), &["Block", "Filesystem"], path.child("volumeMode"), errors);
        }
        let affinity = field(spec, "nodeAffinity");
        if !affinity.is_null() {
            let p = path.child("nodeAffinity.required");
            if has(affinity, "required") {
                podspec::node_selector(field(affinity, "required"), &p, errors);
            } else {
                errors.required(p, "must specify required node constraints");
            }
        }
    }

    fn validate_update(&self, new: &Value, old: &Value, errors: &mut Errors) {
        self.validate_create(new, errors);
        let (n, o, p) = (field(new, "spec"), field(old, "spec"), Path::new("spec"));
        let (a, b) = (sources(n), sources(o));
        if a.len() != b.len() || a.iter().zip(&b).any(|(x, y)| x.0 != y.0 || !same(x.1, y.1)) {
            let text = format!(
                "spec.persistentvolumesource is immutable after creation\n{}",
                pod::update::difference("core.PersistentVolumeSource", &source_of(o), &source_of(n))
            );
            errors.forbidden(p.child("persistentvolumesource"), text);
        }
        values::immutable(field(n, "volumeMode"), field(o, "volumeMode"), p.child("volumeMode"), errors);
        if has(o, "nodeAffinity") {
            values::immutable(field(n, "nodeAffinity"), field(o, "nodeAffinity"), p.child("nodeAffinity"), errors);
        }
    }

    fn warnings(&self, new: &Value, _old: Option<&Value>) -> Vec<String> {
        let (spec, path, mut out) = (field(new, "spec"), Path::new("spec"), Vec::new());
        for (key, why) in [
            (
                "volume.beta.kubernetes.io/storage-class",
                "deprecated since v1.8; use \"storageClassName\" attribute instead",
            ),
            (
                "volume.beta.kubernetes.io/mount-options",
                "deprecated since v1.31; use \"mountOptions\" attribute instead",
            ),
        ] {
            if has(at(new, &["metadata", "annotations"]), key) {
                out.push(format!("{}: {why}", Path::new("metadata.annotations").key(key)));
            }
        }
        if text(spec, "persistentVolumeReclaimPolicy") == "Recycle" {
            out.push(format!(
                "{}: The Recycle reclaim policy is deprecated. Instead, the recommended approach is to use dynamic provisioning.",
                path.child("persistentVolumeReclaimPolicy")
            ));
        }
        for (i, t) in list_at(spec, &["nodeAffinity", "required", "nodeSelectorTerms"]).iter().enumerate() {
            let p = path.child("nodeAffinity.required.nodeSelectorTerms").index(i);
            pod::warnings::node_selector_term(t, true, &p, &mut out);
        }
        pod::warnings::fractional(at(spec, &["capacity", "storage"]), &path.child("capacity").key("storage"), &mut out);
        for (kind, why) in pod::warnings::DEAD_VOLUMES {
            if has(spec, kind) {
                out.push(format!("{}: {why}", path.child(kind)));
            }
        }
        out
    }

    fn columns(&self) -> &'static [Column] {
        const COLUMNS: &[Column] = &[
            NAME,
            column("Capacity", "string", 0),
            column("Access Modes", "string", 0),
            column("Reclaim Policy", "string", 0),
            column("Status", "string", 0),
            column("Claim", "string", 0),
            column("StorageClass", "string", 0),
            column("VolumeAttributesClass", "string", 0),
            column("Reason", "string", 0),
            column("Age", "string", 0),
            column("VolumeMode", "string", 1),
        ];
        COLUMNS
    }

    fn row(&self, obj: &Value, now: Now) -> Vec<Value> {
        let (spec, status) = (field(obj, "spec"), field(obj, "status"));
        let claim = field(spec, "claimRef");
        let claim = if claim.is_null() {
            String::new()
        } else {
            format!("{}/{}", text(claim, "namespace"), text(claim, "name"))
        };
        let deleting = has(field(obj, "metadata"), "deletionTimestamp");
        vec![
            columns::name(obj),
            json!(persistentvolumeclaim::quantity(at(spec, &["capacity", "storage"]))),
            json!(columns::access_modes(&texts(spec, "accessModes"))),
            json!(text(spec, "persistentVolumeReclaimPolicy")),
            json!(if deleting { "Terminating" } else { text(status, "phase") }),
            json!(claim),
            json!(text(spec, "storageClassName")),
            columns::or_unset(field(spec, "volumeAttributesClassName")),
            json!(text(status, "reason")),
            columns::age_cell(obj, now),
            columns::or_unset(field(spec, "volumeMode")),
        ]
    }
}
