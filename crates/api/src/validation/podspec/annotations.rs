//! Annotations that once were a pod's only way to say something, and fields that say it now: both must agree.

use super::{LISTS, scheduling};
use crate::validation::access::*;
use crate::validation::seen::Seen;
use crate::validation::values;
use meta::field::{Errors, Path};
use serde_json::{Value, json};

pub const APPARMOR: &str = "container.apparmor.security.beta.kubernetes.io/";
pub const SECCOMP_POD: &str = "seccomp.security.alpha.kubernetes.io/pod";
pub const SECCOMP_CONTAINER: &str = "container.seccomp.security.alpha.kubernetes.io/";
const MIRROR: &str = "kubernetes.io/config.mirror";
const DELETION_COST: &str = "controller.kubernetes.io/pod-deletion-cost";
const TOLERATIONS: &str = "scheduler.alpha.kubernetes.io/tolerations";

/// A pod that a kubelet reads from a file is mirrored by one in the API.
pub fn is_mirror(meta: &Value) -> bool {
    has(field(meta, "annotations"), MIRROR)
}

/// Upstream's `ValidatePodSpecificAnnotations`. `path` is that of the annotations.
pub fn pod_specific(meta: &Value, spec: &Value, path: &Path, errors: &mut Errors) {
    let notes = field(meta, "annotations");
    if has(notes, MIRROR) && text(spec, "nodeName").is_empty() {
        let text = "must set spec.nodeName if mirror pod annotation is set";
        errors.invalid(path.key(MIRROR), field(notes, MIRROR).clone(), text);
    }
    let tolerations = text(notes, TOLERATIONS);
    if !tolerations.is_empty() {
        match serde_json::from_str::<Vec<Value>>(tolerations) {
            Ok(list) => scheduling::tolerations(&list, &path.child(TOLERATIONS), errors),
            Err(e) => errors.invalid(path.clone(), TOLERATIONS, e.to_string()),
        }
    }
    if has(notes, DELETION_COST) && !is_deletion_cost(text(notes, DELETION_COST)) {
        errors.invalid(path.key(DELETION_COST), text(notes, DELETION_COST), "must be a 32bit integer");
    }
    for (key, value) in pairs(meta, "annotations") {
        if key == SECCOMP_POD || key.starts_with(SECCOMP_CONTAINER) {
            seccomp(value, &path.child(key), errors);
        }
    }
    let containers: Seen<&str> = LISTS.iter().flat_map(|l| list(spec, l)).map(|c| text(c, "name")).collect();
    for (key, value) in pairs(meta, "annotations") {
        let Some(container) = key.strip_prefix(APPARMOR) else { continue };
        if !containers.has(&container) {
            errors.invalid(path.key(key), container, "container not found");
        }
        if !value.is_empty() && !["runtime/default", "unconfined"].contains(&value) && !value.starts_with("localhost/")
        {
            errors.invalid(path.key(key), value, format!("invalid AppArmor profile name: {value:?}"));
        }
    }
}

/// An optional minus sign and digits without leading zeros or a plus, of 32 bits.
fn is_deletion_cost(value: &str) -> bool {
    let digits = value.strip_prefix('-').unwrap_or(value);
    (digits == "0" || !digits.starts_with('0')) && !value.starts_with('+') && value.parse::<i32>().is_ok()
}

fn seccomp(profile: &str, path: &Path, errors: &mut Errors) {
    if ["runtime/default", "docker/default", "unconfined"].contains(&profile) {
        return;
    }
    match profile.strip_prefix("localhost/") {
        Some(file) => values::descending_path(file, path, errors),
        None => errors.invalid(path.clone(), profile, "must be a valid seccomp profile"),
    }
}

/// Profiles that are given by annotation and by field must be the same ones. On creation only.
pub fn match_fields(meta: &Value, spec: &Value, path: &Path, errors: &mut Errors) {
    let notes = field(meta, "annotations");
    if notes.is_null() {
        return;
    }
    let own = |holder: &Value, kind: &str| at(holder, &["securityContext", kind]).clone();
    let p = path.child("securityContext.seccompProfile");
    matching("seccomp", field(notes, SECCOMP_POD), &own(spec, "seccompProfile"), &p, errors);
    for lists in LISTS {
        for (i, c) in list(spec, lists).iter().enumerate() {
            let note = field(notes, &format!("{SECCOMP_CONTAINER}{}", text(c, "name")));
            let p = path.child(lists).index(i).child("securityContext.seccompProfile");
            matching("seccomp", note, &own(c, "seccompProfile"), &p, errors);
        }
    }
    if text_at(spec, &["os", "name"]) == "windows" {
        return;
    }
    let pod = own(spec, "appArmorProfile");
    for lists in LISTS {
        for (i, c) in list(spec, lists).iter().enumerate() {
            let note = field(notes, &format!("{APPARMOR}{}", text(c, "name")));
            let container = own(c, "appArmorProfile");
            let profile = if container.is_null() { &pod } else { &container };
            let p = path.child(lists).index(i).child("securityContext.appArmorProfile");
            matching("apparmor", note, profile, &p, errors);
        }
    }
}

fn matching(what: &str, note: &Value, profile: &Value, p: &Path, errors: &mut Errors) {
    let (Some(note), true) = (note.as_str(), profile.is_object()) else {
        return;
    };
    let type_differs = match text(profile, "type") {
        "Unconfined" => note != "unconfined",
        "RuntimeDefault" => note != "runtime/default" && !(what == "seccomp" && note == "docker/default"),
        "Localhost" => match note.strip_prefix("localhost/") {
            None => true,
            Some(file) => {
                if !has(profile, "localhostProfile") || text(profile, "localhostProfile") != file {
                    let text = format!("{what} profile in annotation and field must match");
                    errors.forbidden(p.child("localhostProfile"), text);
                }
                false
            }
        },
        _ => false,
    };
    if type_differs {
        errors.forbidden(p.child("type"), format!("{what} type in annotation and field must match"));
    }
}

/// What may not change about annotations of a pod that exists (`ValidatePodSpecificAnnotationUpdates`).
pub fn update(new: &Value, old: &Value, errors: &mut Errors) {
    let path = Path::new("metadata.annotations");
    let (n, o) = (at(new, &["metadata", "annotations"]), at(old, &["metadata", "annotations"]));
    for (key, was) in pairs(field(old, "metadata"), "annotations") {
        if field(n, key).as_str() == Some(was) {
            continue;
        }
        if key.starts_with(APPARMOR) {
            errors.forbidden(path.key(key), "may not remove or update AppArmor annotations");
        }
        if key == MIRROR {
            errors.forbidden(path.key(key), "may not remove or update mirror pod annotation");
        }
    }
    for (key, _) in pairs(field(new, "metadata"), "annotations") {
        if has(o, key) {
            continue;
        }
        if key.starts_with(APPARMOR) {
            errors.forbidden(path.key(key), "may not add AppArmor annotations");
        }
        if key == MIRROR {
            errors.forbidden(path.key(key), "may not add mirror pod annotation");
        }
    }
    pod_specific(field(new, "metadata"), field(new, "spec"), &path, errors);
}

/// The field that an AppArmor annotation's value stands for.
pub fn apparmor_field(note: &str) -> Option<Value> {
    match note {
        "unconfined" => Some(json!({"type": "Unconfined"})),
        "runtime/default" => Some(json!({"type": "RuntimeDefault"})),
        _ => {
            let file = note.strip_prefix("localhost/")?;
            (!file.is_empty()).then(|| json!({"type": "Localhost", "localhostProfile": file}))
        }
    }
}
