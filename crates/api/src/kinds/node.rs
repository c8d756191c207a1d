//! Node.

use super::columns;
use crate::strategy::{Column, NAME, Now, Strategy, column};
use crate::validation::access::*;
use crate::validation::{podspec, values};
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
        let capacity = field(status, "capacity").clone();
        if !is_zero(&capacity) {
            fill_zero(status, "allocatable", capacity);
        }
    }

    // A kubelet registers with its status, so create keeps it.
    fn prepare_create(&self, _obj: &mut Value, _has_status: bool) {}

    fn validate_create(&self, obj: &Value, errors: &mut Errors) {
        taints(list_at(obj, &["spec", "taints"]), &Path::new("spec.taints"), errors);
        let cidrs = texts(field(obj, "spec"), "podCIDRs");
        for (i, c) in cidrs.iter().enumerate() {
            values::cidr(c, &Path::new("spec.podCIDRs").index(i), errors);
        }
        if cidrs.len() > 2 {
            let text = "may specify no more than one CIDR for each IP family";
            errors.invalid(Path::new("spec.podCIDRs"), at(obj, &["spec", "podCIDRs"]).clone(), text);
        }
        status(obj, errors);
    }

    fn validate_update(&self, new: &Value, old: &Value, errors: &mut Errors) {
        let (n, o) = (field(new, "spec"), field(old, "spec"));
        let p = Path::new("spec");
        if !list(o, "podCIDRs").is_empty() && field(n, "podCIDRs") != field(o, "podCIDRs") {
            let text = "node updates may not change podCIDR except from \"\" to valid";
            errors.forbidden(p.child("podCIDRs"), text);
        } else {
            for (i, c) in texts(n, "podCIDRs").iter().enumerate() {
                values::cidr(c, &p.child("podCIDRs").index(i), errors);
            }
        }
        if !text(o, "providerID").is_empty() && text(n, "providerID") != text(o, "providerID") {
            let text = "node updates may not change providerID except from \"\" to valid";
            errors.forbidden(p.child("providerID"), text);
        }
        taints(list(n, "taints"), &p.child("taints"), errors);
        // What is left of the spec may not change.
        let rest = |s: &Value| {
            let mut s = s.clone();
            for key in ["podCIDR", "podCIDRs", "providerID", "taints", "unschedulable", "configSource"] {
                remove(&mut s, key);
            }
            s
        };
        if !same(&rest(n), &rest(o)) {
            errors.forbidden(
                Path::new("[]"),
                "node updates may only change labels, taints, or capacity (or configSource, if the DynamicKubeletConfig feature gate is enabled)",
            );
        }
    }

    fn validate_status_update(&self, new: &Value, _old: &Value, errors: &mut Errors) {
        status(new, errors);
    }

    fn selectable_fields(&self, obj: &Value) -> Vec<(&'static str, String)> {
        vec![("spec.unschedulable", flag(field(obj, "spec"), "unschedulable").to_string())]
    }

    fn columns(&self) -> &'static [Column] {
        const COLUMNS: &[Column] = &[
            NAME,
            column("Status", "string", 0),
            column("Roles", "string", 0),
            column("Age", "string", 0),
            column("Version", "string", 0),
            column("Internal-IP", "string", 1),
            column("External-IP", "string", 1),
            column("OS-Image", "string", 1),
            column("Kernel-Version", "string", 1),
            column("Container-Runtime", "string", 1),
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
    let ready = list_at(node, &["status", "conditions"]).iter().find(|c| text(c, "type") == "Ready");
    let mut out = match ready {
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

fn taints(taints: &[Value], path: &Path, errors: &mut Errors) {
    for (i, t) in taints.iter().enumerate() {
        let p = path.index(i);
        values::qualified_name(text(t, "key"), &p.child("key"), errors);
        let bad = meta::names::label_value(text(t, "value"));
        if !bad.is_empty() {
            errors.invalid(p.child("value"), text(t, "value"), bad.join(";"));
        }
        let supported = ["NoSchedule", "PreferNoSchedule", "NoExecute"];
        values::required_one_of(text(t, "effect"), &supported, p.child("effect"), errors);
        let key = |t: &Value| (text(t, "key").to_string(), text(t, "effect").to_string());
        if taints.iter().take(i).any(|o| key(o) == key(t)) {
            values::push(errors, Reason::Duplicate, p, t.clone(), "taints must be unique by key and effect pair");
        }
    }
}

fn status(node: &Value, errors: &mut Errors) {
    for key in ["capacity", "allocatable"] {
        podspec::resource_list(at(node, &["status", key]), &Path::new("status").child(key), errors);
    }
    let addresses = list_at(node, &["status", "addresses"]);
    for (i, a) in addresses.iter().enumerate() {
        if addresses.iter().take(i).any(|o| o == a) {
            errors.duplicate(Path::new("status.addresses").index(i), a.clone());
        }
    }
}
