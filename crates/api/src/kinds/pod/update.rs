//! What of a pod may change after creation, by the main resource and by its subresources.

use crate::validation::access::*;
use crate::validation::podspec::{self, annotations};
use crate::validation::seen::Seen;
use crate::validation::values;
use meta::field::{Errors, Path};
use serde_json::{Value, json};

const UPDATABLE: &str = "`spec.containers[*].image`,`spec.initContainers[*].image`,`spec.activeDeadlineSeconds`,`spec.tolerations` (only additions to existing tolerations),`spec.terminationGracePeriodSeconds` (allow it to be set to 1 if it was previously negative)";

/// A write to the main resource (upstream: `ValidatePodUpdate`).
pub fn pod(new: &Value, old: &Value, errors: &mut Errors) {
    let path = Path::new("spec");
    let (n, o) = (field(new, "spec"), field(old, "spec"));
    podspec::pod(new, errors);
    annotations::update(new, old, errors);
    for key in ["containers", "initContainers"] {
        let p = path.child(key);
        if list(n, key).len() != list(o, key).len() {
            errors.forbidden(p, "pod updates may not add or remove containers");
            return;
        }
        for (i, c) in list(n, key).iter().enumerate() {
            let (image, p) = (text(c, "image"), p.index(i).child("image"));
            if image.is_empty() {
                errors.required(p.clone(), "");
            }
            if image.trim() != image {
                errors.invalid(p, image, "must not have leading or trailing whitespace");
            }
        }
    }
    if !deadline(n, o, &path.child("activeDeadlineSeconds"), errors) {
        return;
    }
    podspec::added_tolerations_only(list(n, "tolerations"), list(o, "tolerations"), &path.child("tolerations"), errors);
    let old_gates: Seen<&str> = list(o, "schedulingGates").iter().map(|g| text(g, "name")).collect();
    for (i, gate) in list(n, "schedulingGates").iter().map(|g| text(g, "name")).enumerate() {
        if !old_gates.has(&gate) {
            let text = format!("only deletion is allowed, but found new scheduling gate '{gate}'");
            errors.forbidden(path.child("schedulingGates").index(i).child("name"), text);
        }
    }

    // Whatever may change is made equal; any difference left is forbidden.
    let mut munged = n.clone();
    for key in ["containers", "initContainers"] {
        for (i, c) in items_mut(&mut munged, key).enumerate() {
            if let Some(was) = list(o, key).get(i) {
                copy_field(c, was, "image");
            }
        }
    }
    for key in ["activeDeadlineSeconds", "tolerations", "schedulingGates"] {
        copy_field(&mut munged, o, key);
    }
    let negative = int(o, "terminationGracePeriodSeconds").is_some_and(|s| s < 0);
    if negative && int(n, "terminationGracePeriodSeconds") == Some(1) {
        copy_field(&mut munged, o, "terminationGracePeriodSeconds");
    }
    if !list(o, "schedulingGates").is_empty() {
        gated(n, o, &mut munged, &path, errors);
    }
    if !same(&munged, o) {
        let text = format!(
            "pod updates may not change fields other than {UPDATABLE}\n{}",
            difference("core.PodSpec", o, &munged)
        );
        errors.forbidden(path, text);
    }
}

/// While gates hold a pod back, its node selector and node affinity may become stricter.
fn gated(new: &Value, old: &Value, munged: &mut Value, path: &Path, errors: &mut Errors) {
    let kept = entries(old, "nodeSelector").all(|(k, v)| field(new, "nodeSelector").get(k) == Some(v));
    if !kept {
        let text = "only additions to spec.nodeSelector are allowed (no mutations or deletions)";
        errors.invalid(path.child("nodeSelector"), field(new, "nodeSelector").clone(), text);
    }
    copy_field(munged, old, "nodeSelector");
    let node = |s| at(s, &["affinity", "nodeAffinity"]).clone();
    if !same(&node(new), &node(old)) {
        let required = "requiredDuringSchedulingIgnoredDuringExecution";
        let terms = |s| list_at(s, &["affinity", "nodeAffinity", required, "nodeSelectorTerms"]).to_vec();
        let (n, o) = (terms(new), terms(old));
        let p = path.child("affinity.nodeAffinity").child(required).child("nodeSelectorTerms");
        if !o.is_empty() && n.len() != o.len() {
            let text = "no additions/deletions to non-empty NodeSelectorTerms list are allowed";
            errors.invalid(p, Value::Array(n), text);
        } else {
            for (i, (n, o)) in n.iter().zip(&o).enumerate() {
                if !only_adds(n, o) {
                    let text = "only additions are allowed (no mutations or deletions)";
                    errors.invalid(p.index(i), n.clone(), text);
                }
            }
        }
        if !has(munged, "affinity") && has(field(old, "affinity"), "nodeAffinity") {
            set(munged, "affinity", json!({}));
        }
        if let Some(a) = object_mut(munged, "affinity") {
            copy_field(a, field(old, "affinity"), "nodeAffinity");
        }
        if !has(old, "affinity") && is_zero(field(munged, "affinity")) {
            remove(munged, "affinity");
        }
    }
}

/// An empty term matches nothing; adding to it would make it match something.
fn only_adds(new: &Value, old: &Value) -> bool {
    const PARTS: [&str; 2] = ["matchExpressions", "matchFields"];
    let empty = |t: &Value| PARTS.iter().all(|p| list(t, p).is_empty());
    if empty(old) && !empty(new) {
        return false;
    }
    PARTS.iter().all(|p| list(new, p).starts_with(list(old, p)))
}

/// False where upstream looks no further.
fn deadline(new: &Value, old: &Value, path: &Path, errors: &mut Errors) -> bool {
    match (int(new, "activeDeadlineSeconds"), int(old, "activeDeadlineSeconds")) {
        (Some(n), _) if !(0..=i64::from(i32::MAX)).contains(&n) => {
            errors.invalid(path.clone(), n, values::between(0, i64::from(i32::MAX)));
            false
        }
        (Some(n), Some(o)) if n > o => {
            errors.invalid(path.clone(), n, "must be less than or equal to previous value");
            false
        }
        (None, Some(_)) => {
            errors.invalid(path.clone(), Value::Null, "must not update from a positive integer to nil value");
            true
        }
        _ => true,
    }
}

/// The changed fields, one line each for what was and what would be, in the manner of Go's `cmp.Diff`.
pub fn difference(what: &str, old: &Value, new: &Value) -> String {
    let mut out = format!("  {what}{{\n");
    walk(old, new, "", &mut out);
    out.push_str("  }\n");
    out
}

fn walk(old: &Value, new: &Value, at: &str, out: &mut String) {
    if same(old, new) {
        return;
    }
    match (old, new) {
        (Value::Object(a), Value::Object(b)) => {
            let mut keys: Vec<&String> = a.keys().chain(b.keys()).collect();
            keys.sort();
            keys.dedup();
            for k in keys {
                let name = if at.is_empty() { k.clone() } else { format!("{at}.{k}") };
                walk(a.get(k).unwrap_or(&Value::Null), b.get(k).unwrap_or(&Value::Null), &name, out);
            }
        }
        (Value::Array(a), Value::Array(b)) if a.len() == b.len() => {
            for (i, (a, b)) in a.iter().zip(b).enumerate() {
                walk(a, b, &format!("{at}[{i}]"), out);
            }
        }
        _ => {
            for (sign, v) in [('-', old), ('+', new)] {
                if !v.is_null() {
                    out.push_str(&format!("{sign} \t{at}: {v},\n"));
                }
            }
        }
    }
}

/// `pods/ephemeralcontainers`: they may be added, never removed or changed.
pub fn ephemeral_containers(new: &Value, old: &Value, errors: &mut Errors) {
    let path = Path::new("spec.ephemeralContainers");
    if annotations::is_mirror(field(old, "metadata")) {
        // Upstream forgets whatever else was wrong.
        *errors = Errors::default();
        errors.forbidden(Path::new("[]"), "static pods do not support ephemeral containers");
        return;
    }
    podspec::pod(new, errors);
    annotations::update(new, old, errors);
    let wanted = list_at(new, &["spec", "ephemeralContainers"]);
    for was in list_at(old, &["spec", "ephemeralContainers"]) {
        let name = text(was, "name");
        match wanted.iter().rposition(|c| text(c, "name") == name) {
            None => {
                errors.forbidden(path.clone(), format!("existing ephemeral containers \"{name}\" may not be removed\n"))
            }
            Some(i) if !same(&wanted[i], was) => {
                let mut diff = String::new();
                walk(was, &wanted[i], "", &mut diff);
                let text = format!("existing ephemeral containers \"{name}\" may not be changed\n{diff}");
                errors.forbidden(path.clone(), text);
            }
            Some(_) => {}
        }
    }
}

/// `pods/resize`: cpu and memory may change, and nothing that would change the QoS class.
pub fn resize(new: &Value, old: &Value, errors: &mut Errors) {
    let path = Path::new("spec");
    let (n, o) = (field(new, "spec"), field(old, "spec"));
    // Differs from upstream, where a newer gate lets pod-level amounts change: the kubelet here sizes containers.
    let refusal = if !same(field(n, "resources"), field(o, "resources")) {
        "resize of pods with pod-level resources is forbidden when InPlacePodLevelResourcesVerticalScalingEnabled feature gate is disabled"
    } else if annotations::is_mirror(field(old, "metadata")) {
        "static pods cannot be resized"
    } else if text_at(o, &["os", "name"]) == "windows" {
        "windows pods cannot be resized"
    } else {
        ""
    };
    if !refusal.is_empty() {
        *errors = Errors::default();
        errors.forbidden(Path::new("[]"), refusal);
        return;
    }
    podspec::pod(new, errors);
    let class = match text_at(old, &["status", "qosClass"]) {
        "" => super::qos::class(o),
        known => known,
    };
    if super::qos::class(n) != class {
        let text = "Pod QOS Class may not change as a result of resizing";
        errors.invalid(path.clone(), text_at(new, &["status", "qosClass"]), text);
    }
    // The first running container tells: a node that can resize reports what it has given.
    let running = list_at(old, &["status", "containerStatuses"]).iter().find(|c| has(field(c, "state"), "running"));
    if running.is_some_and(|c| !has(c, "resources")) {
        errors.forbidden(path.clone(), "Pod running on node without support for resize");
    }
    if !same_containers(n, o, &path, errors) {
        return;
    }
    for key in ["initContainers", "containers"] {
        for (i, (c, was)) in list(n, key).iter().zip(list(o, key)).enumerate() {
            let p = path.child(key).index(i).child("resources");
            for kind in ["requests", "limits"] {
                let given = at(c, &["resources", kind]);
                if entries(field(was, "resources"), kind).any(|(name, _)| !has(given, name)) {
                    let what = kind.trim_end_matches('s');
                    errors.forbidden(p.child(kind), format!("resource {what}s cannot be removed"));
                }
            }
        }
    }
    let mut munged = n.clone();
    for key in ["containers", "initContainers"] {
        for (i, (c, was)) in items_mut(&mut munged, key).zip(list(o, key)).enumerate() {
            let changed = !same(c, was);
            restore_compute(c, was);
            if key == "containers" {
                if !same(c, was) {
                    errors.forbidden(path.clone(), "only cpu and memory resources are mutable");
                }
                continue;
            }
            let p = path.child(key).index(i);
            if !same(c, was) {
                let text = "only cpu and memory resources for init or sidecar containers are mutable";
                errors.forbidden(p.clone(), text);
            }
            if changed && text(c, "restartPolicy") != "Always" {
                let text = "non-sidecar init containers with a resize policy of RestartContainer cannot be resized";
                let restarts = |r: &&Value| self::text(r, "restartPolicy") == "RestartContainer";
                list(c, "resizePolicy").iter().filter(restarts).for_each(|_| errors.forbidden(p.clone(), text));
            }
        }
    }
    if errors.is_empty() && !same(&munged, o) {
        errors.forbidden(path, "only cpu and memory resources are mutable");
    }
}

fn same_containers(new: &Value, old: &Value, path: &Path, errors: &mut Errors) -> bool {
    let before = errors.0.len();
    for key in ["containers", "initContainers"] {
        let (n, o, p) = (list(new, key), list(old, key), path.child(key));
        if n.len() != o.len() {
            errors.forbidden(p, format!("{key} may not be added or removed on resize"));
            continue;
        }
        for (i, (n, o)) in n.iter().zip(o).enumerate() {
            if text(n, "name") != text(o, "name") {
                let text = format!("{key} may not be renamed or reordered on resize");
                errors.forbidden(p.index(i).child("name"), text);
            }
        }
    }
    errors.0.len() == before
}

fn restore_compute(c: &mut Value, was: &Value) {
    let Some(resources) = ensure_object(c, "resources") else {
        return;
    };
    for kind in ["requests", "limits"] {
        if has(resources, kind) || has(at(was, &["resources"]), kind) {
            fill(resources, kind, json!({}));
        }
        if let Some(r) = object_mut(resources, kind) {
            for name in ["cpu", "memory"] {
                copy_field(r, at(was, &["resources", kind]), name);
            }
        }
    }
}
