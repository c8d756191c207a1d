//! What of a pod may change after creation, by the main resource and by its subresources.

use crate::validation::access::*;
use crate::validation::{podspec, values};
use meta::field::{Errors, Path};
use serde_json::{Value, json};

const UPDATABLE: &str = "`spec.containers[*].image`,`spec.initContainers[*].image`,`spec.activeDeadlineSeconds`,`spec.tolerations` (only additions to existing tolerations),`spec.terminationGracePeriodSeconds` (allow it to be set to 1 if it was previously negative)";

/// A write to the main resource (upstream: `ValidatePodUpdate`).
pub fn pod(new: &Value, old: &Value, errors: &mut Errors) {
    let path = Path::new("spec");
    let (n, o) = (field(new, "spec"), field(old, "spec"));
    podspec::pod_spec(n, &path, errors);
    for key in ["containers", "initContainers"] {
        if list(n, key).len() != list(o, key).len() {
            errors.forbidden(path.child(key), "pod updates may not add or remove containers");
            return;
        }
    }
    deadline(n, o, &path.child("activeDeadlineSeconds"), errors);
    podspec::added_tolerations_only(list(n, "tolerations"), list(o, "tolerations"), &path.child("tolerations"), errors);
    let gates = |s| list(s, "schedulingGates").iter().map(|g| text(g, "name").to_string()).collect::<Vec<_>>();
    let old_gates = gates(o);
    for gate in gates(n).iter().filter(|g| !old_gates.contains(g)) {
        let text = format!("only deletion is allowed, but found new scheduling gate '{gate}'");
        errors.forbidden(path.child("schedulingGates"), text);
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
    if !old_gates.is_empty() {
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
        let text = "only additions are allowed (no deletions or modifications to existing)";
        errors.invalid(path.child("nodeSelector"), field(new, "nodeSelector").clone(), text);
    }
    copy_field(munged, old, "nodeSelector");
    let node = |s| at(s, &["affinity", "nodeAffinity"]).clone();
    if !same(&node(new), &node(old)) {
        let required = "requiredDuringSchedulingIgnoredDuringExecution";
        let terms = |s| list_at(s, &["affinity", "nodeAffinity", required, "nodeSelectorTerms"]).to_vec();
        let (n, o) = (terms(new), terms(old));
        let p = path.child("affinity.nodeAffinity").child(required).child("nodeSelectorTerms");
        if !o.is_empty() {
            if n.len() != o.len() {
                errors.invalid(
                    p,
                    Value::Array(n),
                    "no additions/deletions to non-empty NodeSelectorTerms list are allowed",
                );
            } else {
                for (i, (n, o)) in n.iter().zip(&o).enumerate() {
                    for key in ["matchExpressions", "matchFields"] {
                        if !list(n, key).starts_with(list(o, key)) {
                            let text = "only additions are allowed (no deletions or modifications to existing)";
                            errors.invalid(p.index(i), n.clone(), text);
                        }
                    }
                }
            }
        }
        match (object_mut(munged, "affinity"), at(old, &["affinity", "nodeAffinity"])) {
            (Some(a), Value::Null) => remove(a, "nodeAffinity"),
            (Some(a), was) => set(a, "nodeAffinity", was.clone()),
            (None, _) => {}
        }
    }
}

fn deadline(new: &Value, old: &Value, path: &Path, errors: &mut Errors) {
    match (int(new, "activeDeadlineSeconds"), int(old, "activeDeadlineSeconds")) {
        (Some(n), Some(o)) if n > o => errors.invalid(path.clone(), n, "must be less than or equal to previous value"),
        (None, Some(_)) => {
            errors.invalid(path.clone(), Value::Null, "must not update from a positive integer to nil value")
        }
        _ => {}
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

/// A write to `status` (upstream: `ValidatePodStatusUpdate`).
pub fn status(new: &Value, old: &Value, errors: &mut Errors) {
    let path = Path::new("status");
    let (n, o) = (field(new, "status"), field(old, "status"));
    let nominated = text(n, "nominatedNodeName");
    if !nominated.is_empty() {
        values::dns_subdomain(nominated, &path.child("nominatedNodeName"), errors);
    }
    for (i, c) in list(n, "conditions").iter().enumerate() {
        if text(c, "type").is_empty() {
            errors.required(path.child("conditions").index(i).child("type"), "");
        }
    }
    for (list_name, ip) in [("podIPs", "ip"), ("hostIPs", "ip")] {
        for (i, v) in list(n, list_name).iter().enumerate() {
            values::ip(text(v, ip), &path.child(list_name).index(i), errors);
        }
    }
    let restart = text_at(old, &["spec", "restartPolicy"]);
    if restart == "Always" || restart.is_empty() {
        return;
    }
    for key in ["containerStatuses", "initContainerStatuses"] {
        for (i, was) in list(o, key).iter().enumerate() {
            let Some(code) = at(was, &["state", "terminated", "exitCode"]).as_i64().or_else(|| {
                // A terminated state without a code exited with 0.
                has(field(was, "state"), "terminated").then_some(0)
            }) else {
                continue;
            };
            let name = text(was, "name");
            let own = container_policy(old, name);
            if own == "Always" || own == "OnFailure" && code != 0 {
                continue;
            }
            if own.is_empty() && restart == "OnFailure" && code != 0 {
                continue;
            }
            let Some(is) = list(n, key).iter().find(|s| text(s, "name") == name) else {
                continue;
            };
            if !has(field(is, "state"), "terminated") {
                let p = path.child(key).index(i).child("state");
                errors.forbidden(p, "may not be transitioned to non-terminated state");
            }
        }
    }
}

fn container_policy(pod: &Value, name: &str) -> String {
    ["containers", "initContainers"]
        .iter()
        .flat_map(|l| list_at(pod, &["spec", l]))
        .find(|c| text(c, "name") == name)
        .map(|c| text(c, "restartPolicy").to_string())
        .unwrap_or_default()
}

/// `pods/ephemeralcontainers`: they may be added, never removed or changed.
pub fn ephemeral_containers(new: &Value, old: &Value, errors: &mut Errors) {
    let path = Path::new("spec.ephemeralContainers");
    podspec::pod_spec(field(new, "spec"), &Path::new("spec"), errors);
    if has(at(old, &["metadata", "annotations"]), "kubernetes.io/config.mirror") {
        let text = "static pods do not support ephemeral containers";
        errors.forbidden(Path::new("[]"), text);
    }
    let wanted = list_at(new, &["spec", "ephemeralContainers"]);
    for was in list_at(old, &["spec", "ephemeralContainers"]) {
        let name = text(was, "name");
        match wanted.iter().position(|c| text(c, "name") == name) {
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
    podspec::pod_spec(n, &path, errors);
    if has(at(old, &["metadata", "annotations"]), "kubernetes.io/config.mirror") {
        errors.forbidden(Path::new("[]"), "static pods cannot be resized");
    }
    if text_at(o, &["os", "name"]) == "windows" {
        errors.forbidden(Path::new("[]"), "windows pods cannot be resized");
    }
    if super::qos::class(n) != super::qos::class(o) {
        let p = Path::new("spec");
        errors.invalid(p, super::qos::class(n), "Pod QOS Class may not change as a result of resizing");
    }
    let mut munged = n.clone();
    for key in ["containers", "initContainers"] {
        for (i, c) in items_mut(&mut munged, key).enumerate() {
            let Some(was) = list(o, key).get(i) else {
                continue;
            };
            let p = path.child(key).index(i).child("resources");
            for kind in ["requests", "limits"] {
                for (name, _) in entries(at(was, &["resources"]), kind) {
                    let gone = !has(at(c, &["resources", kind]), name);
                    if gone && ["cpu", "memory"].contains(&name) {
                        errors.forbidden(p.child(kind), format!("resource {kind} cannot be removed"));
                    }
                }
            }
            // Only cpu and memory may move; what else differs shows below.
            let restarts = key == "containers" || text(was, "restartPolicy") == "Always";
            if restarts {
                restore_compute(c, was);
            }
        }
    }
    if !same(&munged, o) {
        let text = format!("only cpu and memory resources are mutable\n{}", difference("core.PodSpec", o, &munged));
        errors.forbidden(path, text);
    }
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
