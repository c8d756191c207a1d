//! Node.

use super::{columns, pod};
use crate::strategy::{AGE, Column, NAME, Now, Strategy, column, column_of};
use crate::validation::access::*;
use crate::validation::seen::Seen;
use crate::validation::{conditions, podspec, values};
use meta::field::{Errors, Path, Reason};
use serde_json::{Value, json};

pub struct Node;

impl Strategy for Node {
    fn defaults(&self, obj: &mut Value) {
        if let Some(spec) = object_mut(obj, "spec") {
            mirror_first(spec, "podCIDR", "podCIDRs", |one| json!(one), |first| first.as_str());
        }
        let Some(status) = object_mut(obj, "status") else {
            return;
        };
        pod::defaults::amounts(status, &["capacity", "allocatable"]);
        let capacity = field(status, "capacity").clone();
        if !is_zero(&capacity) {
            fill_zero(status, "allocatable", capacity);
        }
    }

    // A kubelet registers with its status, so create keeps it. Configuration by the API is long gone.
    fn prepare_create(&self, obj: &mut Value, _has_status: bool) {
        if let Some(spec) = object_mut(obj, "spec") {
            remove(spec, "configSource");
        }
        if let Some(status) = object_mut(obj, "status") {
            remove(status, "config");
        }
    }

    fn prepare_update(&self, new: &mut Value, old: &Value, _has_status: bool) {
        copy_field(new, old, "status");
        if !has(field(old, "spec"), "configSource")
            && let Some(spec) = object_mut(new, "spec")
        {
            remove(spec, "configSource");
        }
    }

    fn prepare_status_update(&self, new: &mut Value, old: &Value) {
        if !has(field(old, "status"), "config")
            && let Some(status) = object_mut(new, "status")
        {
            remove(status, "config");
        }
    }

    fn validate_create(&self, obj: &Value, errors: &mut Errors) {
        node(obj, &Value::Null, errors);
    }

    fn validate_update(&self, new: &Value, old: &Value, errors: &mut Errors) {
        node(new, old, errors);
        update(new, old, errors);
    }

    fn validate_status_update(&self, new: &Value, old: &Value, errors: &mut Errors) {
        update(new, old, errors);
    }

    fn warnings(&self, new: &Value, _old: Option<&Value>) -> Vec<String> {
        let (spec, mut out) = (field(new, "spec"), Vec::new());
        if has(spec, "configSource") {
            out.push("spec.configSource: the feature is removed".to_string());
        }
        if !text(spec, "externalID").is_empty() {
            out.push("spec.externalID: this field is deprecated, and is unused by Kubernetes".to_string());
        }
        for (i, c) in texts(spec, "podCIDRs").iter().enumerate() {
            values::cidr_warnings(c, &Path::new("spec.podCIDRs").index(i), &mut out);
        }
        out
    }

    fn selectable_fields(&self, obj: &Value) -> Vec<(&'static str, String)> {
        vec![("spec.unschedulable", flag(field(obj, "spec"), "unschedulable").to_string())]
    }

    fn columns(&self) -> &'static [Column] {
        const COLUMNS: &[Column] = &[
            NAME,
            column("Status", "string", 0, "Whether the node is ready, and takes pods."),
            column("Roles", "string", 0, "What the node is there for, by its labels."),
            AGE,
            column_of("Version", "string", 0, "api.core.v1.NodeSystemInfo.kubeletVersion"),
            column_of("Internal-IP", "string", 1, "api.core.v1.NodeStatus.addresses"),
            column_of("External-IP", "string", 1, "api.core.v1.NodeStatus.addresses"),
            column_of("OS-Image", "string", 1, "api.core.v1.NodeSystemInfo.osImage"),
            column_of("Kernel-Version", "string", 1, "api.core.v1.NodeSystemInfo.kernelVersion"),
            column_of("Container-Runtime", "string", 1, "api.core.v1.NodeSystemInfo.containerRuntimeVersion"),
        ];
        COLUMNS
    }

    fn row(&self, obj: &Value, now: Now) -> Vec<Value> {
        let info = at(obj, &["status", "nodeInfo"]);
        let address = |kind: &str| {
            let found = list_at(obj, &["status", "addresses"]).iter().find(|a| text(a, "type") == kind);
            columns::or_none(found.map_or("", |a| text(a, "address")))
        };
        let known = |key| match text(info, key) {
            "" => json!("<unknown>"),
            s => json!(s),
        };
        vec![
            columns::name(obj),
            json!(state(obj)),
            columns::or_none(&roles(obj).join(",")),
            columns::age_cell(obj, now),
            json!(text(info, "kubeletVersion")),
            address("InternalIP"),
            address("ExternalIP"),
            known("osImage"),
            known("kernelVersion"),
            known("containerRuntimeVersion"),
        ]
    }
}

fn state(node: &Value) -> String {
    let mut out = match conditions::find(node, "Ready") {
        None => "Unknown",
        Some(c) if text(c, "status") == "True" => "Ready",
        Some(_) => "NotReady",
    }
    .to_string();
    if flag(field(node, "spec"), "unschedulable") {
        out.push_str(",SchedulingDisabled");
    }
    out
}

fn roles(node: &Value) -> Vec<String> {
    let mut out: Vec<String> = pairs(field(node, "metadata"), "labels")
        .into_iter()
        .filter_map(|(k, v)| match k.strip_prefix("node-role.kubernetes.io/") {
            Some(role) if !role.is_empty() => Some(role.to_string()),
            _ if k == "kubernetes.io/role" && !v.is_empty() => Some(v.to_string()),
            _ => None,
        })
        .collect();
    out.sort();
    out.dedup();
    out
}

/// Annotations that had a meaning once (`ValidateNodeSpecificAnnotations`).
fn notes(node: &Value, errors: &mut Errors) {
    const TAINTS: &str = "scheduler.alpha.kubernetes.io/taints";
    const AVOID: &str = "scheduler.alpha.kubernetes.io/preferAvoidPods";
    let (path, notes) = (Path::new("metadata.annotations"), at(node, &["metadata", "annotations"]));
    match text(notes, TAINTS) {
        "" => {}
        note => match serde_json::from_str::<Vec<Value>>(note) {
            Ok(list) => taints(&list, &path.child(TAINTS), errors),
            Err(e) => errors.invalid(path.clone(), TAINTS, e.to_string()),
        },
    }
    match text(notes, AVOID) {
        "" => {}
        note => match serde_json::from_str::<Value>(note) {
            Ok(avoid) => {
                for (i, entry) in list(&avoid, "preferAvoidPods").iter().enumerate() {
                    let p = path.child(AVOID).index(i).child("PodSignature");
                    let controller = at(entry, &["podSignature", "podController"]);
                    if controller.is_null() {
                        errors.required(p, "");
                    } else if !flag(controller, "controller") {
                        errors.invalid(p.child("PodController.Controller"), false, "must point to a controller");
                    }
                }
            }
            Err(e) => errors.invalid(path.child("AvoidPods"), AVOID, e.to_string()),
        },
    }
}

/// Upstream's `ValidateNode`. `old`: the older version, whose address ranges may stay as they are, or null.
fn node(obj: &Value, old: &Value, errors: &mut Errors) {
    notes(obj, errors);
    // Upstream says `metadata` where it means `spec`.
    taints(list_at(obj, &["spec", "taints"]), &Path::new("metadata.taints"), errors);
    status(obj, errors);
    let swap = at(obj, &["status", "nodeInfo", "swap"]);
    if let Some(n) = int(swap, "capacity").filter(|n| *n <= 0) {
        let p = Path::new("metadata.nodeSwapStatus.capacity");
        errors.invalid(p, n, "must be greater than zero");
    }
    let (cidrs, p) = (texts(field(obj, "spec"), "podCIDRs"), Path::new("spec.podCIDRs"));
    let before: Seen<&str> = texts(field(old, "spec"), "podCIDRs").into_iter().collect();
    for (i, c) in cidrs.iter().enumerate() {
        values::cidr_or_old(c, &before, &p.index(i), errors);
    }
    let addresses: Vec<&str> = cidrs.iter().filter_map(|c| c.split('/').next()).collect();
    if !values::one_of_each_family(&addresses) {
        let text = "may specify no more than one CIDR for each IP family";
        errors.invalid(p, at(obj, &["spec", "podCIDRs"]).clone(), text);
    }
}

/// Upstream's `ValidateNodeUpdate`, for the node and for its status alike.
fn update(new: &Value, old: &Value, errors: &mut Errors) {
    notes(new, errors);
    status(new, errors);
    let addresses = list_at(new, &["status", "addresses"]);
    let mut seen = Seen::default();
    for (i, a) in addresses.iter().enumerate() {
        if seen.again(a) {
            errors.duplicate(Path::new("status.addresses").index(i), a.clone());
        }
    }
    let (n, o, p) = (field(new, "spec"), field(old, "spec"), Path::new("spec"));
    let (is, was) = (texts(n, "podCIDRs"), texts(o, "podCIDRs"));
    const CIDRS: &str = "node updates may not change podCIDR except from \"\" to valid";
    if !was.is_empty() {
        let changes = if is.len() == was.len() { is.iter().zip(&was).filter(|(a, b)| a != b).count() } else { 1 };
        (0..changes).for_each(|_| errors.forbidden(p.child("podCIDRs"), CIDRS));
    }
    if !text(o, "providerID").is_empty() && text(n, "providerID") != text(o, "providerID") {
        let text = "node updates may not change providerID except from \"\" to valid";
        errors.forbidden(p.child("providerID"), text);
    }
    config_source(field(n, "configSource"), &["uid", "resourceVersion"], &[], &p.child("configSource"), errors);
    for key in ["assigned", "active", "lastKnownGood"] {
        let p = Path::new("status.config").child(key);
        let source = at(new, &["status", "config", key]);
        config_source(source, &[], &["uid", "resourceVersion"], &p, errors);
    }
    taints(list(n, "taints"), &Path::new("metadata.taints"), errors);
    if text(n, "externalID") != text(o, "externalID") {
        errors.forbidden(p.child("externalID"), "may not be updated");
    }
}

/// Where a kubelet's configuration once came from. What must not and what must be there differs.
fn config_source(source: &Value, no: &[&str], yes: &[&str], path: &Path, errors: &mut Errors) {
    if source.is_null() {
        return;
    }
    let (map, p) = (field(source, "configMap"), path.child("configMap"));
    if map.is_null() {
        errors.invalid(path.clone(), source.clone(), "exactly one reference subfield must be non-nil");
        return;
    }
    for key in no.iter().filter(|k| !text(map, k).is_empty()) {
        errors.forbidden(p.child(key), format!("{key} must not be set in spec"));
    }
    for key in yes.iter().filter(|k| text(map, k).is_empty()) {
        errors.required(p.child(key), "");
    }
    let rules: [(&str, fn(&str) -> Vec<String>); 3] = [
        ("namespace", meta::names::dns1123_label),
        ("name", meta::names::dns1123_subdomain),
        ("kubeletConfigKey", meta::names::config_map_key),
    ];
    for (key, rule) in rules {
        match text(map, key) {
            "" => errors.required(p.child(key), ""),
            value => values::each(errors, &p.child(key), value, rule(value)),
        }
    }
}

fn taints(taints: &[Value], path: &Path, errors: &mut Errors) {
    let mut seen = Seen::default();
    for (i, t) in taints.iter().enumerate() {
        let p = path.index(i);
        values::qualified_name(text(t, "key"), &p.child("key"), errors);
        let bad = meta::names::label_value(text(t, "value"));
        if !bad.is_empty() {
            errors.invalid(p.child("value"), text(t, "value"), bad.join(";"));
        }
        podspec::taint_effect(text(t, "effect"), p.child("effect"), errors);
        if seen.again((text(t, "key"), text(t, "effect"))) {
            values::push(errors, Reason::Duplicate, p, t.clone(), "taints must be unique by key and effect pair");
        }
    }
}

fn status(node: &Value, errors: &mut Errors) {
    for key in ["capacity", "allocatable"] {
        for (name, q) in entries(field(node, "status"), key) {
            podspec::quantity_value(name, q, &Path::new("status").child(key).child(name), errors);
        }
    }
    let (features, p) = (texts(field(node, "status"), "declaredFeatures"), Path::new("status.declaredFeatures"));
    for (i, feature) in features.iter().enumerate() {
        if let Some(fault) = feature_name_fault(feature) {
            errors.invalid(p.index(i), *feature, fault);
        }
        match features.get(i + 1) {
            Some(next) if next == feature => errors.duplicate(p.index(i + 1), *next),
            Some(next) if next < feature => {
                errors.invalid(p.index(i + 1), *next, "list must be sorted alphabetically");
            }
            _ => {}
        }
    }
}

/// `MyFeature` or `MyFeature/part`.
fn feature_name_fault(name: &str) -> Option<String> {
    if name.len() > 253 {
        return Some(format!("invalid feature name {name:?}: must be no more than 253 characters"));
    }
    let part =
        |p: &str| p.starts_with(|c: char| c.is_ascii_alphabetic()) && p.chars().all(|c| c.is_ascii_alphanumeric());
    let right = name.starts_with(|c: char| c.is_ascii_uppercase()) && name.split('/').all(part);
    (!right).then(|| {
        format!(
            "invalid feature name {name:?}: must start with an UpperCamelCase segment, with subsequent segments separated by '/' (e.g., MyFeature or MyFeature/mySubFeature), and contain only alphanumeric characters and slashes"
        )
    })
}
