//! Rules that Deployments, ReplicaSets, StatefulSets, DaemonSets and ReplicationControllers share.

use super::access::*;
use super::{podspec, selector, values};
use meta::field::{Errors, Path};
use serde_json::Value;

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
    // No selector at all selects nothing, so it doesn't match either.
    if s.is_null() || !selector::is_empty(s) {
        matches_template(selector::matches(s, at(spec, &["template", "metadata", "labels"])), spec, path, errors);
    }
    podspec::pod_template(field(spec, "template"), &path.child("template"), errors);
    always_restarted(spec, owner, path, errors);
}

/// A StatefulSet's template: upstream leaves its pod spec unchecked, since volumes may come from
/// `volumeClaimTemplates`; the pods themselves are checked when they are created.
pub fn template_without_spec(spec: &Value, owner: &str, path: &Path, errors: &mut Errors) {
    let s = field(spec, "selector");
    // No selector at all selects nothing, so it doesn't match either.
    if s.is_null() || !selector::is_empty(s) {
        matches_template(selector::matches(s, at(spec, &["template", "metadata", "labels"])), spec, path, errors);
    }
    super::objectmeta::template_meta(field(spec, "template"), &path.child("template"), errors);
    always_restarted(spec, owner, path, errors);
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
