//! `metadata` of every object (upstream: `ValidateObjectMeta` and `ValidateObjectMetaUpdate`).

use super::access::{at, field, flag, has, list, text, texts};
use super::seen::Seen;
use super::{labels, values};
use crate::strategy::NameRule;
use meta::field::{Errors, Path};
use meta::names;
use serde_json::Value;
use std::collections::BTreeSet;

const STANDARD_FINALIZERS: [&str; 3] = ["kubernetes", "orphan", "foregroundDeletion"];

/// Rules for a new object. The name must be there already (made from `generateName` by the engine).
pub fn object_meta(obj: &Value, namespaced: bool, rule: NameRule, errors: &mut Errors) {
    let m = field(obj, "metadata");
    let path = Path::new("metadata");
    let generate = text(m, "generateName");
    if !generate.is_empty() {
        values::each(errors, &path.child("generateName"), generate, names::prefix_of(rule_fn(rule), generate));
    }
    let name = text(m, "name");
    if name.is_empty() {
        errors.required(path.child("name"), "name or generateName is required");
    } else {
        values::each(errors, &path.child("name"), name, name_messages(rule, name));
    }
    let namespace = text(m, "namespace");
    if namespaced {
        if namespace.is_empty() {
            errors.required(path.child("namespace"), "");
        } else {
            values::dns_label(namespace, &path.child("namespace"), errors);
        }
    } else if !namespace.is_empty() {
        errors.forbidden(path.child("namespace"), "not allowed on this type");
    }
    shared(m, &path, errors);
    finalizers(m, &path.child("finalizers"), errors);
}

/// Rules for the metadata of an object inside another: what is there must be sound, whatever kind it is of.
pub fn embedded_meta(m: &Value, path: &Path, errors: &mut Errors) {
    for (key, segment) in
        [("generateName", names::path_segment_prefix as fn(&str) -> Vec<String>), ("name", names::path_segment)]
    {
        let name = text(m, key);
        if !name.is_empty() {
            values::each(errors, &path.child(key), name, segment(name));
        }
    }
    let namespace = text(m, "namespace");
    if !namespace.is_empty() {
        values::dns_label(namespace, &path.child("namespace"), errors);
    }
    shared(m, path, errors);
    finalizers(m, &path.child("finalizers"), errors);
}

/// Rules for a write over an existing object.
pub fn object_meta_update(new: &Value, old: &Value, errors: &mut Errors) {
    let (n, o) = (field(new, "metadata"), field(old, "metadata"));
    let path = Path::new("metadata");
    finalizers(n, &path.child("finalizers"), errors);
    if has(o, "deletionTimestamp") {
        let before: Seen<&str> = texts(o, "finalizers").into_iter().collect();
        let added: Vec<&str> = texts(n, "finalizers").into_iter().filter(|f| !before.has(f)).collect();
        if !added.is_empty() {
            let quoted: Vec<String> = added.iter().map(|f| format!("{f:?}")).collect();
            errors.forbidden(
                path.child("finalizers"),
                format!(
                    "no new finalizers can be added if the object is being deleted, found new finalizers []string{{{}}}",
                    quoted.join(", ")
                ),
            );
        }
    }
    let (gn, go) = (field(n, "generation").as_i64().unwrap_or(0), field(o, "generation").as_i64().unwrap_or(0));
    if gn < go {
        errors.invalid(path.child("generation"), gn, "must not be decremented");
    }
    // A client that leaves these out (or replays an old creationTimestamp) gets the stored values from the engine.
    for key in ["name", "namespace", "uid", "deletionTimestamp", "deletionGracePeriodSeconds"] {
        if has(n, key) {
            values::immutable(field(n, key), field(o, key), path.child(key), errors);
        }
    }
    shared(n, &path, errors);
}

/// What is tested on every write.
fn shared(m: &Value, path: &Path, errors: &mut Errors) {
    values::non_negative(field(m, "generation"), path.child("generation"), errors);
    labels::labels(field(m, "labels"), &path.child("labels"), errors);
    labels::annotations(field(m, "annotations"), &path.child("annotations"), errors);
    owner_references(field(m, "ownerReferences"), &path.child("ownerReferences"), errors);
    managed_fields(list(m, "managedFields"), &path.child("managedFields"), errors);
}

/// Labels and annotations of a pod template, whose name is free.
pub fn template_meta(template: &Value, path: &Path, errors: &mut Errors) {
    labels::labels(at(template, &["metadata", "labels"]), &path.child("labels"), errors);
    labels::annotations(at(template, &["metadata", "annotations"]), &path.child("annotations"), errors);
}

fn owner_references(refs: &Value, path: &Path, errors: &mut Errors) {
    let mut controller = String::new();
    for r in refs.as_array().into_iter().flatten() {
        let (version, kind) = (text(r, "apiVersion"), text(r, "kind"));
        if version.rsplit('/').next().unwrap_or("").is_empty() {
            errors.invalid(path.child("apiVersion"), version, "version must not be empty");
        }
        for key in ["kind", "name", "uid"] {
            if text(r, key).is_empty() {
                errors.invalid(path.child(key), text(r, key), "must not be empty");
            }
        }
        if version == "v1" && kind == "Event" {
            errors.invalid(path.clone(), r.clone(), "/v1, Kind=Event is disallowed from being an owner");
        }
        if flag(r, "controller") {
            let this = format!("{kind}/{}", text(r, "name"));
            if controller.is_empty() {
                controller = this;
            } else {
                errors.invalid(
                    path.clone(),
                    refs.clone(),
                    format!(
                        "Only one reference can have Controller set to true. Found \"true\" in references for {controller} and {this}"
                    ),
                );
            }
        }
    }
}

fn finalizers(m: &Value, path: &Path, errors: &mut Errors) {
    let all = texts(m, "finalizers");
    for f in &all {
        values::each(errors, path, f, names::qualified_name(f));
    }
    if all.contains(&"orphan") && all.contains(&"foregroundDeletion") {
        let text = "finalizer orphan and foregroundDeletion cannot be both set";
        errors.invalid(path.clone(), field(m, "finalizers").clone(), text);
    }
}

/// Finalizers without a prefix are for those that Kubernetes itself has. Asked of built-in kinds only: custom
/// resources have others in the wild (Argo CD's `resources-finalizer.argocd.argoproj.io`).
pub fn standard_finalizers(obj: &Value, errors: &mut Errors) {
    for (i, f) in texts(field(obj, "metadata"), "finalizers").into_iter().enumerate() {
        if !f.contains('/') && !STANDARD_FINALIZERS.contains(&f) {
            let text = "name is neither a standard finalizer name nor is it fully qualified";
            errors.invalid(Path::new("metadata.finalizers").index(i), f, text);
        }
    }
}

/// What to tell of finalizers that this write adds, where any name may be given.
pub fn finalizer_warnings(new: &Value, old: Option<&Value>) -> Vec<String> {
    let before = old.map(|o| texts(field(o, "metadata"), "finalizers")).unwrap_or_default();
    let added: BTreeSet<&str> =
        texts(field(new, "metadata"), "finalizers").into_iter().filter(|f| !before.contains(f)).collect();
    let mut out = Vec::new();
    for f in added {
        let head = format!("metadata.finalizers: {f:?}");
        out.extend(names::qualified_name(f).into_iter().map(|why| format!("{head}: {why}")));
        if !f.contains('/') && !STANDARD_FINALIZERS.contains(&f) {
            let path = if f.contains('.') { " including a path (/)" } else { "" };
            out.push(format!(
                "{head}: prefer a domain-qualified finalizer name{path} to avoid accidental conflicts with other finalizer writers"
            ));
        }
    }
    out
}

fn managed_fields(entries: &[Value], path: &Path, errors: &mut Errors) {
    for (i, e) in entries.iter().enumerate() {
        let path = path.index(i);
        let operation = text(e, "operation");
        if operation != "Apply" && operation != "Update" {
            errors.invalid(path.child("operation"), operation, "must be `Apply` or `Update`");
        }
        let fields_type = text(e, "fieldsType");
        if !fields_type.is_empty() && fields_type != "FieldsV1" {
            errors.invalid(path.child("fieldsType"), fields_type, "must be `FieldsV1`");
        }
        if text(e, "manager").len() > 128 {
            errors.too_long(path.child("manager"), 128);
        }
        if text(e, "subresource").len() > 256 {
            errors.too_long(path.child("subresource"), 256);
        }
    }
}

/// What is wrong with a name of this kind, in upstream's words.
pub fn name_messages(rule: NameRule, name: &str) -> Vec<String> {
    rule_fn(rule)(name)
}

fn rule_fn(rule: NameRule) -> fn(&str) -> Vec<String> {
    match rule {
        NameRule::Subdomain => names::dns1123_subdomain,
        NameRule::Label => names::dns1123_label,
        NameRule::PathSegment => names::path_segment,
    }
}
