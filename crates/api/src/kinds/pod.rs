//! Pod. Defaults are in `pod/defaults.rs`, what may change later in `pod/update.rs`, the printed row in `pod/table.rs`.

pub mod defaults;
pub mod qos;
mod status;
mod table;
pub mod update;
pub mod warnings;

use crate::strategy::{AGE, Column, Now, Strategy, column, column_of};
use crate::validation::access::*;
use crate::validation::podspec;
use crate::validation::seen::Seen;
use meta::field::{Errors, Path};
use serde_json::{Value, json};

pub struct Pod;

impl Strategy for Pod {
    fn defaults(&self, obj: &mut Value) {
        defaults::pod(obj);
    }

    fn prepare_create(&self, obj: &mut Value, _has_status: bool) {
        let status = status::initial(obj);
        set(obj, "status", status);
        merge_match_label_keys(obj);
        apparmor_annotations(obj);
    }

    fn prepare_update(&self, new: &mut Value, old: &Value, _has_status: bool) {
        copy_field(new, old, "status");
    }

    fn prepare_status_update(&self, new: &mut Value, old: &Value) {
        status::prepare(new, old);
    }

    // Old kubelets spoil them.
    fn status_keeps(&self) -> &'static [&'static str] {
        &["ownerReferences"]
    }

    fn validate_create(&self, obj: &Value, errors: &mut Errors) {
        let path = Path::new("spec");
        let spec = field(obj, "spec");
        podspec::pod(obj, errors);
        podspec::init_resize_policies(spec, &path, errors);
        if !list(spec, "ephemeralContainers").is_empty() {
            errors.forbidden(path.child("ephemeralContainers"), "cannot be set on create");
        }
        if !list(spec, "schedulingGates").is_empty() && !text(spec, "nodeName").is_empty() {
            errors.forbidden(path.child("nodeName"), "cannot be set until all schedulingGates have been cleared");
        }
        podspec::annotations::match_fields(field(obj, "metadata"), spec, &path, errors);
    }

    fn validate_update(&self, new: &Value, old: &Value, errors: &mut Errors) {
        update::pod(new, old, errors);
    }

    fn validate_status_update(&self, new: &Value, old: &Value, errors: &mut Errors) {
        status::validate(new, old, errors);
    }

    fn validate_subresource_update(&self, subresource: &str, new: &Value, old: &Value, errors: &mut Errors) {
        match subresource {
            "resize" => update::resize(new, old, errors),
            "ephemeralcontainers" => update::ephemeral_containers(new, old, errors),
            _ => {}
        }
    }

    // None on updates: people rarely write to pods, and machines do it all the time.
    fn warnings(&self, new: &Value, old: Option<&Value>) -> Vec<String> {
        let mut out = Vec::new();
        if old.is_none() {
            crate::validation::values::name_as_label(new, "the Pod's hostname", &mut out);
            out.extend(warnings::of(new, &Path::root()));
        }
        out
    }

    // Later one couldn't tell an annotation that became a field from one that says the same as its field.
    fn arrival_warnings(&self, new: &Value) -> Vec<String> {
        let (notes, spec) = (at(new, &["metadata", "annotations"]), field(new, "spec"));
        if text_at(spec, &["os", "name"]) == "windows" {
            return Vec::new();
        }
        let of_pod = at(spec, &["securityContext", "appArmorProfile"]);
        let containers = podspec::LISTS.iter().flat_map(|lists| list(spec, lists));
        containers
            .filter_map(|c| apparmor_note(notes, c))
            .filter(|(_, profile)| profile.as_ref().is_none_or(|p| !same(p, of_pod)))
            .map(|(key, _)| warnings::old_apparmor(&key, &Path::root()))
            .collect()
    }

    fn status_warnings(&self, new: &Value, _old: &Value) -> Vec<String> {
        status::warnings(new)
    }

    fn selectable_fields(&self, obj: &Value) -> Vec<(&'static str, String)> {
        let spec = |k| text_at(obj, &["spec", k]).to_string();
        let status = |k| text_at(obj, &["status", k]).to_string();
        let ip = list_at(obj, &["status", "podIPs"]).first().map_or("", |first| text(first, "ip")).to_string();
        vec![
            ("spec.nodeName", spec("nodeName")),
            ("spec.restartPolicy", spec("restartPolicy")),
            ("spec.schedulerName", spec("schedulerName")),
            ("spec.serviceAccountName", spec("serviceAccountName")),
            ("spec.hostNetwork", flag(field(obj, "spec"), "hostNetwork").to_string()),
            ("status.phase", status("phase")),
            ("status.podIP", ip),
            // Upstream takes it, and looks at nothing.
            ("status.podIPs", String::new()),
            ("status.nominatedNodeName", status("nominatedNodeName")),
        ]
    }

    fn columns(&self) -> &'static [Column] {
        const COLUMNS: &[Column] = &[
            crate::strategy::NAME,
            column("Ready", "string", 0, "How many containers are ready, of how many."),
            column("Status", "string", 0, "What state the containers are in, in a word."),
            column("Restarts", "string", 0, "How often containers were restarted, and when last."),
            AGE,
            column_of("IP", "string", 1, "api.core.v1.PodStatus.podIP"),
            column_of("Node", "string", 1, "api.core.v1.PodSpec.nodeName"),
            column_of("Nominated Node", "string", 1, "api.core.v1.PodStatus.nominatedNodeName"),
            column_of("Readiness Gates", "string", 1, "api.core.v1.PodSpec.readinessGates"),
        ];
        COLUMNS
    }

    fn row(&self, obj: &Value, now: Now) -> Vec<Value> {
        table::row(obj, now)
    }

    fn row_conditions(&self, obj: &Value) -> Option<Value> {
        table::conditions(obj)
    }

    fn has_generation(&self) -> bool {
        true
    }

    // Binding to a node is the scheduler's doing, not a new wish of the user's (KEP-5067).
    fn bumps_generation(&self, new: &Value, old: &Value) -> bool {
        let mut wished = field(new, "spec").clone();
        copy_field(&mut wished, field(old, "spec"), "nodeName");
        !same(&wished, field(old, "spec"))
    }
}

/// The annotation that gives a container its profile, as before 1.30, where no field does; and the profile, if it is one.
fn apparmor_note(notes: &Value, container: &Value) -> Option<(String, Option<Value>)> {
    let key = format!("{}{}", podspec::annotations::APPARMOR, text(container, "name"));
    if !has(notes, &key) || has(field(container, "securityContext"), "appArmorProfile") {
        return None;
    }
    let profile = podspec::annotations::apparmor_field(text(notes, &key)).filter(|p| {
        let mut errors = Errors::default();
        podspec::apparmor(p, &Path::root(), &mut errors);
        errors.is_empty()
    });
    Some((key, profile))
}

/// Profiles given by annotation become fields, unless the pod as a whole says the same.
fn apparmor_annotations(obj: &mut Value) {
    let notes = at(obj, &["metadata", "annotations"]).clone();
    if notes.is_null() || text_at(obj, &["spec", "os", "name"]) == "windows" {
        return;
    }
    let of_pod = at(obj, &["spec", "securityContext", "appArmorProfile"]).clone();
    let Some(spec) = object_mut(obj, "spec") else {
        return;
    };
    for lists in podspec::LISTS {
        for c in items_mut(spec, lists) {
            if let Some((_, Some(profile))) = apparmor_note(&notes, c)
                && !same(&profile, &of_pod)
                && let Some(context) = ensure_object(c, "securityContext")
            {
                set(context, "appArmorProfile", profile);
            }
        }
    }
}

/// `matchLabelKeys` become requirements of the selector at creation, so that the scheduler needs no template.
fn merge_match_label_keys(obj: &mut Value) {
    let labels = at(obj, &["metadata", "labels"]).clone();
    let Some(spec) = object_mut(obj, "spec") else {
        return;
    };
    let merge = |t: &mut Value, keys: &str, operator: &str| {
        let mut found: Vec<Value> = Vec::new();
        for k in texts(t, keys) {
            if let Some(v) = labels.get(k).and_then(Value::as_str) {
                found.push(json!({"key": k, "operator": operator, "values": [v]}));
            }
        }
        if let Some(selector) = object_mut(t, "labelSelector") {
            let mut told: Seen<Value> = list(selector, "matchExpressions").iter().cloned().collect();
            for f in found {
                if !told.again(f.clone()) {
                    fill(selector, "matchExpressions", json!([]));
                    if let Some(l) = selector.get_mut("matchExpressions").and_then(Value::as_array_mut) {
                        l.push(f);
                    }
                }
            }
        }
    };
    for c in items_mut(spec, "topologySpreadConstraints") {
        merge(c, "matchLabelKeys", "In");
    }
    for kind in ["podAffinity", "podAntiAffinity"] {
        let Some(a) = object_at_mut(spec, &["affinity", kind]) else {
            continue;
        };
        for t in items_mut(a, "requiredDuringSchedulingIgnoredDuringExecution") {
            merge(t, "matchLabelKeys", "In");
            merge(t, "mismatchLabelKeys", "NotIn");
        }
        for w in items_mut(a, "preferredDuringSchedulingIgnoredDuringExecution") {
            if let Some(t) = object_mut(w, "podAffinityTerm") {
                merge(t, "matchLabelKeys", "In");
                merge(t, "mismatchLabelKeys", "NotIn");
            }
        }
    }
}
