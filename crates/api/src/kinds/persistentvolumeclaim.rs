//! PersistentVolumeClaim.

use super::pod::update::difference;
use super::pod::warnings::fractional;
use super::{columns, pod};
use crate::strategy::{AGE, Column, NAME, Now, Strategy, column, column_of};
use crate::validation::access::*;
use crate::validation::podspec::parse_quantity;
use crate::validation::{selector, values};
use meta::field::{Errors, Path};
use serde_json::{Value, json};

pub struct PersistentVolumeClaim;

const OLD_CLASS: &str = "volume.beta.kubernetes.io/storage-class";

pub const ACCESS_MODES: &[&str] = &["ReadOnlyMany", "ReadWriteMany", "ReadWriteOnce", "ReadWriteOncePod"];

/// Also for templates in StatefulSets.
pub fn defaults(obj: &mut Value) {
    if let Some(spec) = ensure_object(obj, "spec") {
        spec_defaults(spec);
    }
    if let Some(status) = ensure_object(obj, "status") {
        fill_zero(status, "phase", "Pending");
        pod::defaults::amounts(status, &["capacity", "allocatedResources"]);
    }
}

/// Also for templates in pods.
pub fn spec_defaults(spec: &mut Value) {
    fill(spec, "volumeMode", "Filesystem");
    pod::defaults::resources(spec);
}

/// `dataSource` and `dataSourceRef` mirror each other. The older one alone may name only claims and snapshots:
/// whatever else it names is dropped, unless there was a source before.
fn mirror_sources(claim: &mut Value, old: &Value) {
    let Some(spec) = object_mut(claim, "spec") else {
        return;
    };
    // Sources in other namespaces are alpha: upstream's gate keeps them off, and drops the whole reference.
    if !text_at(spec, &["dataSourceRef", "namespace"]).is_empty() && !has(field(old, "spec"), "dataSourceRef") {
        remove(spec, "dataSourceRef");
    }
    let (source, reference) = (field(spec, "dataSource").clone(), field(spec, "dataSourceRef").clone());
    if reference.is_null() {
        let known = matches!(
            (text(&source, "apiGroup"), text(&source, "kind")),
            ("snapshot.storage.k8s.io", "VolumeSnapshot") | ("", "PersistentVolumeClaim")
        );
        let was = field(old, "spec");
        if source.is_null() {
        } else if known || has(was, "dataSource") || has(was, "dataSourceRef") {
            set(spec, "dataSourceRef", source);
        } else {
            remove(spec, "dataSource");
        }
    } else if source.is_null() && text(&reference, "namespace").is_empty() {
        let mut source = reference;
        remove(&mut source, "namespace");
        set(spec, "dataSource", source);
    }
}

impl Strategy for PersistentVolumeClaim {
    fn defaults(&self, obj: &mut Value) {
        defaults(obj);
    }

    fn prepare_create(&self, obj: &mut Value, _has_status: bool) {
        set(obj, "status", json!({"phase": "Pending"}));
        mirror_sources(obj, &Value::Null);
    }

    fn prepare_update(&self, new: &mut Value, old: &Value, _has_status: bool) {
        copy_field(new, old, "status");
        mirror_sources(new, old);
    }

    fn validate_create(&self, obj: &Value, errors: &mut Errors) {
        spec(field(obj, "spec"), &Value::Null, &Path::new("spec"), errors);
    }

    fn validate_update(&self, new: &Value, old: &Value, errors: &mut Errors) {
        let (n, o, p) = (field(new, "spec"), field(old, "spec"), Path::new("spec"));
        spec(n, o, &p, errors);
        let bound = text_at(new, &["status", "phase"]) == "Bound";
        let mut munged = n.clone();
        // The binder names the volume; a class once given by annotation may move to its field.
        if text(o, "volumeName").is_empty() {
            copy_field(&mut munged, o, "volumeName");
        }
        let annotation = |c: &Value| at(c, &["metadata", "annotations", OLD_CLASS]).as_str().map(str::to_string);
        let (was, is, class) = (annotation(old), annotation(new), field(n, "storageClassName").as_str());
        let moved = was.is_some() && !has(o, "storageClassName") && class == was.as_deref();
        if moved && (is.is_none() || is == was) {
            remove(&mut munged, "storageClassName");
        } else {
            if was.as_deref().unwrap_or("") != is.as_deref().unwrap_or("") {
                let p = Path::new("metadata.annotations").child(OLD_CLASS);
                errors.invalid(p, is.unwrap_or_default(), values::IMMUTABLE);
            }
            if class.is_some() && !has(o, "storageClassName") && was.as_deref().is_none_or(|w| Some(w) == class) {
                copy_field(&mut munged, o, "storageClassName");
            }
        }
        if bound {
            let before = at(o, &["resources", "requests", "storage"]);
            if let Some(r) = object_at_mut(&mut munged, &["resources", "requests"]) {
                set(r, "storage", before.clone());
            }
            copy_field(&mut munged, o, "volumeAttributesClassName");
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
        let amount = |v: &Value, keys: &[&str]| parse_quantity(at(v, keys));
        let request = ["resources", "requests", "storage"];
        if let (Some(is), Some(was)) = (amount(n, &request), amount(o, &request))
            && is < was
            && amount(old, &["status", "capacity", "storage"]).is_some_and(|c| is <= c)
        {
            let text = "field can not be less than status.capacity";
            errors.forbidden(p.child("resources.requests.storage"), text);
        }
        values::immutable(field(n, "volumeMode"), field(o, "volumeMode"), Path::new("volumeMode"), errors);
        const CLASS: &str = "volumeAttributesClassName";
        if field(n, CLASS) != field(o, CLASS) && has(field(old, "status"), "currentVolumeAttributesClassName") {
            let to = match field(n, CLASS).as_str() {
                None => "nil",
                Some("") => "empty string",
                Some(_) => "",
            };
            if !to.is_empty() {
                let text =
                    format!("update to {to} is forbidden when status.currentVolumeAttributesClassName is not nil");
                errors.forbidden(p.child(CLASS), text);
            }
        }
    }

    fn warnings(&self, new: &Value, _old: Option<&Value>) -> Vec<String> {
        let mut out = Vec::new();
        if has(at(new, &["metadata", "annotations"]), OLD_CLASS) {
            let p = Path::new("metadata.annotations").key(OLD_CLASS);
            out.push(format!("{p}: deprecated since v1.8; use \"storageClassName\" attribute instead"));
        }
        spec_warnings(field(new, "spec"), &Path::new("spec"), &mut out);
        out
    }

    fn validate_status_update(&self, new: &Value, _old: &Value, errors: &mut Errors) {
        let (status, path) = (field(new, "status"), Path::new("status"));
        if list_at(new, &["spec", "accessModes"]).is_empty() {
            errors.required(Path::new("Spec.accessModes"), "");
        }
        for (name, q) in entries(status, "capacity") {
            basic_resource(q, &path.child("capacity").key(name), errors);
        }
        const STATES: &[&str] = &[
            "ControllerResizeInProgress",
            "ControllerResizeInfeasible",
            "NodeResizePending",
            "NodeResizeInProgress",
            "NodeResizeInfeasible",
        ];
        let p = path.child("allocatedResourceStatuses");
        for (name, state) in pairs(status, "allocatedResourceStatuses") {
            resource_key(name, &p, errors);
            if !STATES.contains(&state) {
                let mut sorted = STATES.to_vec();
                sorted.sort_unstable();
                errors.not_supported(p.clone(), name, &sorted);
            }
        }
        let p = path.child("allocatedResources");
        for (name, q) in entries(status, "allocatedResources") {
            let before = errors.0.len();
            resource_key(name, &p, errors);
            if errors.0.len() == before {
                basic_resource(q, &p.key(name), errors);
            }
        }
    }

    fn columns(&self) -> &'static [Column] {
        const COLUMNS: &[Column] = &[
            NAME,
            column_of("Status", "string", 0, "api.core.v1.PersistentVolumeClaimStatus.phase"),
            column_of("Volume", "string", 0, "api.core.v1.PersistentVolumeClaimSpec.volumeName"),
            column_of("Capacity", "string", 0, "api.core.v1.PersistentVolumeClaimStatus.capacity"),
            column_of("Access Modes", "string", 0, "api.core.v1.PersistentVolumeClaimStatus.accessModes"),
            column("StorageClass", "string", 0, "StorageClass of the claim."),
            column("VolumeAttributesClass", "string", 0, "VolumeAttributesClass of the claim."),
            AGE,
            column_of("VolumeMode", "string", 1, "api.core.v1.PersistentVolumeClaimSpec.volumeMode"),
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
    parse_quantity(v).map_or_else(|| "0".to_string(), |q| q.canonical())
}

/// The class by field or by the annotation of old.
pub fn class(obj: &Value) -> &str {
    match text_at(obj, &["metadata", "annotations", OLD_CLASS]) {
        "" => text_at(obj, &["spec", "storageClassName"]),
        old => old,
    }
}

/// A negative amount is none.
pub fn basic_resource(v: &Value, path: &Path, errors: &mut Errors) {
    if let Some(q) = parse_quantity(v)
        && q.value() < 0
    {
        errors.invalid(path.clone(), q.value(), "must be a valid resource quantity");
    }
}

/// Of Kubernetes' own resources a claim knows storage alone.
fn resource_key(name: &str, path: &Path, errors: &mut Errors) {
    let messages = meta::names::qualified_name(name);
    let native = !name.contains('/') || name.contains("kubernetes.io/");
    if messages.is_empty() && native && name != "storage" {
        errors.not_supported(path.clone(), name, &["storage"]);
    }
    values::each(errors, path, name, messages);
}

/// A claim's spec; also in ephemeral volumes. `old` is the older version's, whose oddities may stay.
pub fn spec(spec: &Value, old: &Value, path: &Path, errors: &mut Errors) {
    if list(spec, "accessModes").is_empty() {
        errors.required(path.child("accessModes"), "at least 1 access mode is required");
    }
    if has(spec, "selector") {
        let p = path.child("selector");
        let mut before = Errors::default();
        selector::label_selector(field(old, "selector"), &p, &mut before);
        // Values that no label can have were allowed once.
        selector::label_selector_with(field(spec, "selector"), !before.is_empty(), &p, errors);
    }
    if !list(spec, "accessModes").is_empty() {
        access_modes(spec, "", path, errors);
    }
    let storage = at(spec, &["resources", "requests", "storage"]);
    let p = path.child("resources").key("storage");
    match parse_quantity(storage) {
        None if storage.is_null() => errors.required(p, ""),
        None => errors.invalid(p, storage.clone(), "must be a quantity"),
        Some(q) if q.sign() <= 0 => errors.invalid(p, q.canonical(), "must be greater than zero"),
        Some(_) => {}
    }
    let class = text(spec, "storageClassName");
    if !class.is_empty() {
        values::dns_subdomain(class, &path.child("storageClassName"), errors);
    }
    if has(spec, "volumeMode") {
        values::one_of(text(spec, "volumeMode"), &["Block", "Filesystem"], path.child("volumeMode"), errors);
    }
    data_sources(spec, old, path, errors);
    let class = text(spec, "volumeAttributesClassName");
    if !class.is_empty() {
        values::dns_subdomain(class, &path.child("volumeAttributesClassName"), errors);
    }
}

fn data_sources(spec: &Value, old: &Value, path: &Path, errors: &mut Errors) {
    let any_group = ["dataSource", "dataSourceRef"].iter().any(|k| has(field(old, k), "apiGroup"));
    let (source, reference) = (field(spec, "dataSource"), field(spec, "dataSourceRef"));
    for (key, d) in [("dataSource", source), ("dataSourceRef", reference)] {
        if d.is_null() {
            continue;
        }
        let p = path.child(key);
        for k in ["name", "kind"] {
            if text(d, k).is_empty() {
                errors.required(p.child(k), "");
            }
        }
        let group = text(d, "apiGroup");
        if group.is_empty() && text(d, "kind") != "PersistentVolumeClaim" {
            let text = "must be 'PersistentVolumeClaim' when referencing the default apiGroup";
            errors.invalid(p.clone(), self::text(d, "kind"), text);
        }
        if !group.is_empty() && !any_group {
            values::dns_subdomain(group, &p.child("apiGroup"), errors);
        }
        if key == "dataSourceRef" && !text(d, "namespace").is_empty() {
            values::dns_label(text(d, "namespace"), &p.child("namespace"), errors);
        }
    }
    // Upstream shows the other field's path where the value goes.
    let shown = json!({});
    if !text(reference, "namespace").is_empty() {
        if !source.is_null() {
            errors.invalid(path.clone(), shown, "may not be specified when dataSourceRef.namespace is specified");
        }
    } else if !source.is_null()
        && !reference.is_null()
        && ["apiGroup", "kind", "name"].iter().any(|k| field(source, k) != field(reference, k))
    {
        errors.invalid(path.clone(), shown, "must match dataSourceRef");
    }
}

/// `missing`: what is said when there is none.
pub fn access_modes(spec: &Value, missing: &str, path: &Path, errors: &mut Errors) {
    let modes = texts(spec, "accessModes");
    let p = path.child("accessModes");
    if modes.is_empty() {
        errors.required(p.clone(), missing);
    }
    for m in &modes {
        values::one_of(m, ACCESS_MODES, p.clone(), errors);
    }
    let others = modes.iter().any(|m| *m != "ReadWriteOncePod" && ACCESS_MODES.contains(m));
    if others && modes.contains(&"ReadWriteOncePod") {
        errors.forbidden(p, "may not use ReadWriteOncePod with other access modes");
    }
}
