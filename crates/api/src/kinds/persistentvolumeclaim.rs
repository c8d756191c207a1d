//! PersistentVolumeClaim.

use super::columns;
use super::pod::update::difference;
use super::pod::warnings::fractional;
use crate::strategy::{Column, NAME, Now, Strategy, column};
use crate::validation::access::*;
use crate::validation::podspec::{self, parse_quantity};
use crate::validation::{selector, values};
use meta::field::{Errors, Path};
use serde_json::{Value, json};

pub struct PersistentVolumeClaim;

pub const ACCESS_MODES: &[&str] = &["ReadOnlyMany", "ReadWriteMany", "ReadWriteOnce", "ReadWriteOncePod"];

/// Also for templates in StatefulSets.
pub fn defaults(obj: &mut Value) {
    if let Some(spec) = ensure_object(obj, "spec") {
        fill(spec, "volumeMode", "Filesystem");
        data_source(spec);
    }
    if let Some(status) = ensure_object(obj, "status") {
        fill_zero(status, "phase", "Pending");
    }
}

/// `dataSource` and `dataSourceRef` mirror each other where both kinds of reference can say it.
fn data_source(spec: &mut Value) {
    let (source, reference) = (field(spec, "dataSource").clone(), field(spec, "dataSourceRef").clone());
    if !source.is_null() && reference.is_null() {
        set(spec, "dataSourceRef", source);
    } else if source.is_null() && !reference.is_null() && text(&reference, "namespace").is_empty() {
        let known = matches!(
            (text(&reference, "apiGroup"), text(&reference, "kind")),
            ("snapshot.storage.k8s.io", "VolumeSnapshot") | ("", "PersistentVolumeClaim")
        );
        if known {
            set(spec, "dataSource", reference);
        }
    }
}

impl Strategy for PersistentVolumeClaim {
    fn defaults(&self, obj: &mut Value) {
        defaults(obj);
    }

    fn prepare_create(&self, obj: &mut Value, _has_status: bool) {
        set(obj, "status", json!({"phase": "Pending"}));
    }

    fn validate_create(&self, obj: &Value, errors: &mut Errors) {
        spec(field(obj, "spec"), &Path::new("spec"), errors);
    }

    fn validate_update(&self, new: &Value, old: &Value, errors: &mut Errors) {
        self.validate_create(new, errors);
        let (n, o, p) = (field(new, "spec"), field(old, "spec"), Path::new("spec"));
        let mut munged = n.clone();
        // The binder names the volume; size and class of attributes may change afterwards.
        if text(o, "volumeName").is_empty() {
            copy_field(&mut munged, o, "volumeName");
        }
        copy_field(&mut munged, o, "volumeAttributesClassName");
        let bound = text_at(old, &["status", "phase"]) == "Bound";
        let request = |s: &Value| parse_quantity(at(s, &["resources", "requests", "storage"]));
        if bound && has(o, "storageClassName") {
            if let Some(r) = ensure_object(&mut munged, "resources") {
                copy_field(r, field(o, "resources"), "requests");
            }
            let capacity = parse_quantity(at(old, &["status", "capacity", "storage"]));
            if let (Some(n), Some(was)) = (request(n), request(o))
                && n < was
                && capacity.is_none_or(|c| n < c)
            {
                let text = "field can not be less than status.capacity";
                errors.forbidden(p.child("resources.requests.storage"), text);
            }
        }
        if !same(&munged, o) {
            errors.forbidden(
                p.clone(),
                format!(
                    "spec is immutable after creation except resources.requests and volumeAttributesClassName for bound claims\n{}",
                    difference("core.PersistentVolumeClaimSpec", o, &munged)
                ),
            );
        }
        let class = "volumeAttributesClassName";
        if has(o, class) && !has(n, class) {
            errors.forbidden(p.child(class), "update from non-nil value to nil is forbidden");
        }
    }

    fn warnings(&self, new: &Value, _old: Option<&Value>) -> Vec<String> {
        let mut out = Vec::new();
        let old_class = "volume.beta.kubernetes.io/storage-class";
        if has(at(new, &["metadata", "annotations"]), old_class) {
            let p = Path::new("metadata.annotations").key(old_class);
            out.push(format!("{p}: deprecated since v1.8; use \"storageClassName\" attribute instead"));
        }
        spec_warnings(field(new, "spec"), &Path::new("spec"), &mut out);
        out
    }

    fn validate_status_update(&self, new: &Value, _old: &Value, errors: &mut Errors) {
        let (status, path) = (field(new, "status"), Path::new("status"));
        for key in ["capacity", "allocatedResources"] {
            for (name, q) in entries(status, key) {
                podspec::quantity_value(name, q, &path.child(key).key(name), errors);
            }
        }
        const STATES: &[&str] = &[
            "ControllerResizeInProgress",
            "ControllerResizeInfeasible",
            "NodeResizeInProgress",
            "NodeResizeInfeasible",
            "NodeResizePending",
        ];
        for (name, state) in pairs(status, "allocatedResourceStatuses") {
            values::one_of(state, STATES, path.child("allocatedResourceStatuses").key(name), errors);
        }
    }

    fn columns(&self) -> &'static [Column] {
        const COLUMNS: &[Column] = &[
            NAME,
            column("Status", "string", 0),
            column("Volume", "string", 0),
            column("Capacity", "string", 0),
            column("Access Modes", "string", 0),
            column("StorageClass", "string", 0),
            column("VolumeAttributesClass", "string", 0),
            column("Age", "string", 0),
            column("VolumeMode", "string", 1),
        ];
        COLUMNS
    }

    fn row(&self, obj: &Value, now: Now) -> Vec<Value> {
        let (spec, status) = (field(obj, "spec"), field(obj, "status"));
        let deleting = has(field(obj, "metadata"), "deletionTimestamp");
        let bound = !text(spec, "volumeName").is_empty();
        let (capacity, modes) = if bound {
            (quantity(at(status, &["capacity", "storage"])), columns::access_modes(&texts(status, "accessModes")))
        } else {
            (String::new(), String::new())
        };
        vec![
            columns::name(obj),
            json!(if deleting { "Terminating" } else { text(status, "phase") }),
            json!(text(spec, "volumeName")),
            json!(capacity),
            json!(modes),
            json!(class(obj)),
            columns::or_unset(field(spec, "volumeAttributesClassName")),
            columns::age_cell(obj, now),
            columns::or_unset(field(spec, "volumeMode")),
        ]
    }
}

/// Also of ephemeral volumes and of a StatefulSet's templates.
pub fn spec_warnings(spec: &Value, path: &Path, out: &mut Vec<String>) {
    for kind in ["requests", "limits"] {
        let p = path.child("resources").child(kind).key("storage");
        fractional(at(spec, &["resources", kind, "storage"]), &p, out);
    }
}

pub fn quantity(v: &Value) -> String {
    parse_quantity(v).map_or_else(String::new, |q| q.canonical())
}

/// The class by field or by the annotation of old.
fn class(obj: &Value) -> &str {
    match text_at(obj, &["metadata", "annotations", "volume.beta.kubernetes.io/storage-class"]) {
        "" => text_at(obj, &["spec", "storageClassName"]),
        old => old,
    }
}

/// A claim's spec; also in ephemeral volumes.
pub fn spec(spec: &Value, path: &Path, errors: &mut Errors) {
    access_modes(spec, path, errors);
    selector::label_selector(field(spec, "selector"), &path.child("selector"), errors);
    let storage = at(spec, &["resources", "requests", "storage"]);
    let p = path.child("resources").key("storage");
    match parse_quantity(storage) {
        None if storage.is_null() => errors.required(p, ""),
        None => errors.invalid(path.child("resources.requests").key("storage"), storage.clone(), "must be a quantity"),
        Some(q) if q.sign() <= 0 => {
            errors.invalid(path.child("resources").key("storage"), q.canonical(), "must be greater than zero")
        }
        Some(_) => {}
    }
    let class = text(spec, "storageClassName");
    if !class.is_empty() {
        values::dns_subdomain(class, &path.child("storageClassName"), errors);
    }
    if has(spec, "volumeMode") {
        values::one_of(text(spec, "volumeMode"), &["Block", "Filesystem"], path.child("volumeMode"), errors);
    }
    for key in ["dataSource", "dataSourceRef"] {
        let d = field(spec, key);
        if d.is_null() {
            continue;
        }
        let p = path.child(key);
        for k in ["name", "kind"] {
            if text(d, k).is_empty() {
                errors.required(p.child(k), "");
            }
        }
        if text(d, "apiGroup").is_empty() && text(d, "kind") != "PersistentVolumeClaim" {
            let text = "must be 'PersistentVolumeClaim' when referencing the default apiGroup";
            errors.invalid(p, d.clone(), text);
        }
    }
}

pub fn access_modes(spec: &Value, path: &Path, errors: &mut Errors) {
    let modes = texts(spec, "accessModes");
    let p = path.child("accessModes");
    if modes.is_empty() {
        errors.required(p.clone(), "at least 1 access mode is required");
    }
    for m in &modes {
        values::one_of(m, ACCESS_MODES, p.clone(), errors);
    }
    if modes.len() > 1 && modes.contains(&"ReadWriteOncePod") {
        errors.forbidden(p, "may not use ReadWriteOncePod with other access modes");
    }
}
