//! PersistentVolume.

use super::{columns, persistentvolumeclaim, pod};
use crate::strategy::{AGE, Column, NAME, Now, Strategy, column, column_of};
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

/// The rules of a spec. `old`: the older version, whose oddities may stay.
fn validate(obj: &Value, old: &Value, errors: &mut Errors) {
    let (spec, path) = (field(obj, "spec"), Path::new("spec"));
    persistentvolumeclaim::access_modes(spec, "", &path, errors);
    let capacity = field(spec, "capacity");
    let p = path.child("capacity");
    if is_zero(capacity) {
        errors.required(p.clone(), "");
    }
    if entries(spec, "capacity").count() > 1 || !has(capacity, "storage") {
        let shown = if capacity.is_null() { json!({}) } else { capacity.clone() };
        errors.not_supported(p.clone(), shown, &["storage"]);
    }
    for (name, q) in entries(spec, "capacity") {
        persistentvolumeclaim::basic_resource(q, &p.key(name), errors);
        if let Some(q) = podspec::parse_quantity(q)
            && q.sign() <= 0
        {
            errors.invalid(p.key(name), q.canonical(), "must be greater than zero");
        }
    }
    let policy = text(spec, "persistentVolumeReclaimPolicy");
    let p = path.child("persistentVolumeReclaimPolicy");
    if !policy.is_empty() {
        values::one_of(policy, &["Delete", "Recycle", "Retain"], p.clone(), errors);
    }
    let affinity = field(spec, "nodeAffinity");
    if !affinity.is_null() {
        let required = path.child("nodeAffinity.required");
        if has(affinity, "required") {
            podspec::node_selector(field(affinity, "required"), &required, has_odd_labels(old), errors);
        } else {
            errors.required(required, "must specify required node constraints");
        }
    }
    podspec::persistent_source(spec, text_at(obj, &["metadata", "name"]), &path, errors);
    if policy == "Recycle" && is_root(text_at(spec, &["hostPath", "path"])) {
        errors.forbidden(p, "may not be 'recycle' for a hostPath mount of '/'");
    }
    let class = text(spec, "storageClassName");
    if !class.is_empty() {
        values::dns_subdomain(class, &path.child("storageClassName"), errors);
    }
    if has(spec, "volumeMode") {
        values::one_of(text(spec, "volumeMode"), &["Block", "Filesystem"], path.child("volumeMode"), errors);
    }
    if has(spec, "volumeAttributesClassName") {
        let p = path.child("volumeAttributesClassName");
        match text(spec, "volumeAttributesClassName") {
            "" => errors.required(p, "an empty string is disallowed"),
            class => values::dns_subdomain(class, &p, errors),
        }
        if !has(spec, "csi") {
            errors.required(path.child("csi"), "has to be specified when using volumeAttributesClassName");
        }
    }
}

/// However it is written.
fn is_root(path: &str) -> bool {
    let mut depth = 0_usize;
    for part in path.split('/') {
        depth = match part {
            "" | "." => depth,
            ".." => depth.saturating_sub(1),
            _ => depth + 1,
        };
    }
    path.starts_with('/') && depth == 0
}

/// Values that no label may have: allowed once, and kept.
fn has_odd_labels(pv: &Value) -> bool {
    list_at(pv, &["spec", "nodeAffinity", "required", "nodeSelectorTerms"])
        .iter()
        .flat_map(|t| list(t, "matchExpressions"))
        .flat_map(|e| texts(e, "values"))
        .any(|v| !meta::names::label_value(v).is_empty())
}

/// The same, but for keys that may move from the beta names of well-known labels to those of today.
fn same_affinity(new: &Value, old: &Value) -> bool {
    const MOVED: &[(&str, &str)] = &[
        ("failure-domain.beta.kubernetes.io/zone", "topology.kubernetes.io/zone"),
        ("failure-domain.beta.kubernetes.io/region", "topology.kubernetes.io/region"),
        ("beta.kubernetes.io/os", "kubernetes.io/os"),
        ("beta.kubernetes.io/arch", "kubernetes.io/arch"),
        ("beta.kubernetes.io/instance-type", "node.kubernetes.io/instance-type"),
    ];
    let mut old = old.clone();
    let Some(terms) = object_at_mut(&mut old, &["required"]) else {
        return same(new, &old);
    };
    let new_terms = list_at(new, &["required", "nodeSelectorTerms"]);
    for (term, n) in items_mut(terms, "nodeSelectorTerms").zip(new_terms) {
        for (e, n) in items_mut(term, "matchExpressions").zip(list(n, "matchExpressions")) {
            if MOVED.contains(&(text(e, "key"), text(n, "key"))) {
                copy_field(e, n, "key");
            }
        }
    }
    same(new, &old)
}

impl Strategy for PersistentVolume {
    fn defaults(&self, obj: &mut Value) {
        if let Some(spec) = ensure_object(obj, "spec") {
            fill_zero(spec, "persistentVolumeReclaimPolicy", "Retain");
            fill(spec, "volumeMode", "Filesystem");
            pod::defaults::amounts(spec, &["capacity"]);
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
        validate(obj, &Value::Null, errors);
    }

    fn validate_update(&self, new: &Value, old: &Value, errors: &mut Errors) {
        validate(new, old, errors);
        let (n, o, p) = (field(new, "spec"), field(old, "spec"), Path::new("spec"));
        let (mut a, b) = (source_of(n), source_of(o));
        // A secret for expansion may be given to a volume that had none.
        if has(&b, "csi")
            && !has(field(&b, "csi"), "controllerExpandSecretRef")
            && let Some(csi) = object_mut(&mut a, "csi")
        {
            remove(csi, "controllerExpandSecretRef");
        }
        if !same(&a, &b) {
            let text = format!(
                "spec.persistentvolumesource is immutable after creation\n{}",
                pod::update::difference("core.PersistentVolumeSource", &b, &a)
            );
            errors.forbidden(p.child("persistentvolumesource"), text);
        }
        values::immutable(field(n, "volumeMode"), field(o, "volumeMode"), Path::new("volumeMode"), errors);
        if has(o, "nodeAffinity") && !same_affinity(field(n, "nodeAffinity"), field(o, "nodeAffinity")) {
            let text = format!("{}, except for updating from beta label to GA", values::IMMUTABLE);
            errors.invalid(Path::new("nodeAffinity"), field(n, "nodeAffinity").clone(), text);
        }
        if has(o, "volumeAttributesClassName") && !has(n, "volumeAttributesClassName") {
            let text = "update from non-nil value to nil is forbidden";
            errors.forbidden(p.child("volumeAttributesClassName"), text);
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
            pod::warnings::node_selector_term(t, false, &p, &mut out);
        }
        for kind in ["cephfs", "photonPersistentDisk", "scaleIO", "storageos", "glusterfs", "rbd"] {
            pod::warnings::dead_volume(spec, kind, &path, &mut out);
        }
        out
    }

    fn columns(&self) -> &'static [Column] {
        const COLUMNS: &[Column] = &[
            NAME,
            column_of("Capacity", "string", 0, "api.core.v1.PersistentVolumeSpec.capacity"),
            column_of("Access Modes", "string", 0, "api.core.v1.PersistentVolumeSpec.accessModes"),
            column_of("Reclaim Policy", "string", 0, "api.core.v1.PersistentVolumeSpec.persistentVolumeReclaimPolicy"),
            column_of("Status", "string", 0, "api.core.v1.PersistentVolumeStatus.phase"),
            column_of("Claim", "string", 0, "api.core.v1.PersistentVolumeSpec.claimRef"),
            column("StorageClass", "string", 0, "StorageClass of the volume."),
            column("VolumeAttributesClass", "string", 0, "VolumeAttributesClass of the volume."),
            column_of("Reason", "string", 0, "api.core.v1.PersistentVolumeStatus.reason"),
            AGE,
            column_of("VolumeMode", "string", 1, "api.core.v1.PersistentVolumeSpec.volumeMode"),
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
            json!(persistentvolumeclaim::class(obj)),
            columns::or_unset(field(spec, "volumeAttributesClassName")),
            json!(text(status, "reason")),
            columns::age_cell(obj, now),
            columns::or_unset(field(spec, "volumeMode")),
        ]
    }
}
