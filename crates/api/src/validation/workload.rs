//! Rules that Deployments, ReplicaSets, StatefulSets, DaemonSets and ReplicationControllers share.

use super::access::*;
use super::seen::Seen;
use super::{podspec, selector, values};
use meta::field::{Errors, Path};
use serde_json::{Value, json};

/// `spec.selector` must be given and select something. `owner` is the kind in upstream's text.
pub fn required_selector(spec: &Value, owner: &str, path: &Path, errors: &mut Errors) {
    let s = field(spec, "selector");
    let p = path.child("selector");
    if s.is_null() {
        errors.required(p, "");
        return;
    }
    selector::label_selector(s, &p, errors);
    if selector::is_empty(s) {
        errors.invalid(p, s.clone(), format!("empty selector is invalid for {owner}"));
    }
}

/// A template whose pods must be selected and run for ever.
pub fn template(spec: &Value, owner: &str, path: &Path, errors: &mut Errors) {
    let s = field(spec, "selector");
    if !selector::is_readable(s) {
        return errors.invalid(path.child("selector"), s.clone(), "invalid label selector");
    }
    // No selector at all selects nothing, so it doesn't match either.
    if s.is_null() || !selector::is_empty(s) {
        matches_template(selector::matches(s, at(spec, &["template", "metadata", "labels"])), spec, path, errors);
    }
    podspec::pod_template(field(spec, "template"), &path.child("template"), errors);
    always_restarted(spec, owner, path, errors);
}

/// A StatefulSet's template: as each pod gets its own name and claims, those of the template count for nothing.
pub fn stateful_template(spec: &Value, path: &Path, errors: &mut Errors) {
    let s = field(spec, "selector");
    if !selector::is_readable(s) {
        return errors.invalid(path.child("selector"), s.clone(), "");
    }
    // No selector at all selects nothing, so it doesn't match either.
    if s.is_null() || !selector::is_empty(s) {
        matches_template(selector::matches(s, at(spec, &["template", "metadata", "labels"])), spec, path, errors);
    }
    podspec::pod_template(&as_stateful(spec), &path.child("template"), errors);
}

fn as_stateful(spec: &Value) -> Value {
    let mut template = field(spec, "template").clone();
    let claims = list(spec, "volumeClaimTemplates");
    if let Some(pod) = object_mut(&mut template, "spec") {
        remove(pod, "subdomain");
        remove(pod, "hostname");
        if !claims.is_empty() {
            let names = || claims.iter().map(|c| text_at(c, &["metadata", "name"]));
            let mut volumes: Vec<Value> =
                names().map(|n| json!({"name": n, "persistentVolumeClaim": {"claimName": n}})).collect();
            let made: Seen<&str> = names().collect();
            volumes.extend(list(pod, "volumes").iter().filter(|v| !made.has(&text(v, "name"))).cloned());
            set(pod, "volumes", volumes);
        }
    }
    template
}

/// `spec.selector` names the pods that are a workload's own: it stays as it is.
pub fn immutable_selector(new: &Value, old: &Value, errors: &mut Errors) {
    let sel = |o| at(o, &["spec", "selector"]).clone();
    values::immutable(&sel(new), &sel(old), Path::new("spec.selector"), errors);
}

/// What authors of a template at `path` are told: on creation, and on updates that change the spec.
/// `named`: pods' names start with that of the object.
pub fn warnings(new: &Value, old: Option<&Value>, named: bool, path: &str) -> Vec<String> {
    let mut out = Vec::new();
    if old.is_none() && named {
        values::name_as_label(new, "Pod names and hostnames", &mut out);
    }
    let generation = |o: &Value| at(o, &["metadata", "generation"]).clone();
    if old.is_none_or(|old| generation(old) != generation(new)) {
        let keys: Vec<&str> = path.split('.').collect();
        out.extend(crate::kinds::pod::warnings::of(at(new, &keys), &Path::new(path)));
    }
    out
}

/// Replicas of a status: none negative, and no part bigger than the whole. `ready` is said of more available
/// ones than ready ones.
pub fn replica_counts(status: &Value, counts: &[&str], parts: &[&str], ready: &str, errors: &mut Errors) {
    let p = Path::new("status");
    non_negative(status, counts, &p, errors);
    for key in parts {
        not_greater(status, key, "replicas", "cannot be greater than status.replicas", &p, errors);
    }
    not_greater(status, "availableReplicas", "readyReplicas", &format!("cannot be greater than {ready}"), &p, errors);
}

pub fn matches_template(matches: bool, spec: &Value, path: &Path, errors: &mut Errors) {
    if !matches {
        let labels = at(spec, &["template", "metadata", "labels"]).clone();
        let text = "`selector` does not match template `labels`";
        errors.invalid(path.child("template.metadata.labels"), labels, text);
    }
}

pub fn always_restarted(spec: &Value, owner: &str, path: &Path, errors: &mut Errors) {
    let pod = at(spec, &["template", "spec"]);
    let policy = text(pod, "restartPolicy");
    if policy != "Always" && !policy.is_empty() {
        errors.not_supported(path.child("template.spec.restartPolicy"), policy, &["Always"]);
    }
    if has(pod, "activeDeadlineSeconds") {
        let text = format!("activeDeadlineSeconds in {owner} is not Supported");
        errors.forbidden(path.child("template.spec.activeDeadlineSeconds"), text);
    }
}

pub fn non_negative(v: &Value, keys: &[&str], path: &Path, errors: &mut Errors) {
    for k in keys {
        values::non_negative(field(v, k), path.child(k), errors);
    }
}

/// Counts in a status that may not exceed others: `(bigger than, what)`.
pub fn not_greater(status: &Value, key: &str, than: &str, text: &str, path: &Path, errors: &mut Errors) {
    let n = int(status, key).unwrap_or(0);
    if n > int(status, than).unwrap_or(0) {
        errors.invalid(path.child(key), n, text);
    }
}

pub fn collision_count(new: &Value, old: &Value, errors: &mut Errors) {
    let count = |o: &Value| int(field(o, "status"), "collisionCount");
    if let Some(was) = count(old)
        && count(new).is_none_or(|n| n < was)
    {
        let p = Path::new("status.collisionCount");
        errors.invalid(p, count(new).unwrap_or(0), "cannot be decremented");
    }
}
