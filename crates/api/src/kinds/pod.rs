//! Pod. Defaults are in `pod/defaults.rs`, what may change later in `pod/update.rs`, the printed row in `pod/table.rs`.

pub mod defaults;
pub mod qos;
mod table;
pub mod update;

use crate::strategy::{Column, Now, Strategy, column};
use crate::validation::access::*;
use crate::validation::podspec;
use meta::field::{Errors, Path};
use serde_json::{Value, json};

pub struct Pod;

impl Strategy for Pod {
    fn defaults(&self, obj: &mut Value) {
        defaults::pod(obj);
    }

    fn prepare_create(&self, obj: &mut Value, _has_status: bool) {
        let mut status = json!({"phase": "Pending", "qosClass": qos::class(field(obj, "spec"))});
        if !list_at(obj, &["spec", "schedulingGates"]).is_empty() {
            status["conditions"] = json!([{
                "type": "PodScheduled",
                "status": "False",
                "reason": "SchedulingGated",
                "message": "Scheduling is blocked due to non-empty scheduling gates",
            }]);
        }
        set(obj, "status", status);
        merge_match_label_keys(obj);
    }

    fn prepare_update(&self, new: &mut Value, old: &Value, _has_status: bool) {
        copy_field(new, old, "status");
    }

    fn prepare_status_update(&self, new: &mut Value, old: &Value) {
        // Deletion is not undone by a status write, and qosClass is settled at creation.
        let qos = text_at(old, &["status", "qosClass"]).to_string();
        if !qos.is_empty()
            && let Some(status) = ensure_object(new, "status")
        {
            fill(status, "qosClass", qos);
        }
    }

    fn validate_create(&self, obj: &Value, errors: &mut Errors) {
        let path = Path::new("spec");
        let spec = field(obj, "spec");
        podspec::pod_spec(spec, &path, errors);
        if !list(spec, "ephemeralContainers").is_empty() {
            errors.forbidden(path.child("ephemeralContainers"), "cannot be set on create");
        }
        if !list(spec, "schedulingGates").is_empty() && !text(spec, "nodeName").is_empty() {
            errors.forbidden(path.child("nodeName"), "cannot be set until all schedulingGates have been cleared");
        }
    }

    fn validate_update(&self, new: &Value, old: &Value, errors: &mut Errors) {
        update::pod(new, old, errors);
    }

    fn validate_status_update(&self, new: &Value, old: &Value, errors: &mut Errors) {
        update::status(new, old, errors);
    }

    fn validate_subresource_update(&self, subresource: &str, new: &Value, old: &Value, errors: &mut Errors) {
        match subresource {
            "resize" => update::resize(new, old, errors),
            "ephemeralcontainers" => update::ephemeral_containers(new, old, errors),
            _ => {}
        }
    }

    fn warnings(&self, new: &Value, _old: Option<&Value>) -> Vec<String> {
        spec_warnings(field(new, "spec"), &Path::new("spec"))
    }

    fn selectable_fields(&self, obj: &Value) -> Vec<(&'static str, String)> {
        let spec = |k| text_at(obj, &["spec", k]).to_string();
        let status = |k| text_at(obj, &["status", k]).to_string();
        let ip = match list_at(obj, &["status", "podIPs"]).first() {
            Some(first) => text(first, "ip").to_string(),
            None => status("podIP"),
        };
        vec![
            ("spec.nodeName", spec("nodeName")),
            ("spec.restartPolicy", spec("restartPolicy")),
            ("spec.schedulerName", spec("schedulerName")),
            ("spec.serviceAccountName", spec("serviceAccountName")),
            ("spec.hostNetwork", flag(field(obj, "spec"), "hostNetwork").to_string()),
            ("status.phase", status("phase")),
            ("status.podIP", ip),
            ("status.nominatedNodeName", status("nominatedNodeName")),
        ]
    }

    fn columns(&self) -> &'static [Column] {
        const COLUMNS: &[Column] = &[
            crate::strategy::NAME,
            column("Ready", "string", 0),
            column("Status", "string", 0),
            column("Restarts", "string", 0),
            column("Age", "string", 0),
            column("IP", "string", 1),
            column("Node", "string", 1),
            column("Nominated Node", "string", 1),
            column("Readiness Gates", "string", 1),
        ];
        COLUMNS
    }

    fn row(&self, obj: &Value, now: Now) -> Vec<Value> {
        table::row(obj, now)
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
            for f in found {
                if !list(selector, "matchExpressions").contains(&f) {
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

/// Warnings for a pod spec, alone or in a template (upstream: `pod.GetWarningsForPodTemplate`).
pub fn spec_warnings(spec: &Value, path: &Path) -> Vec<String> {
    let mut out = Vec::new();
    for (i, t) in list_at(
        spec,
        &["affinity", "nodeAffinity", "requiredDuringSchedulingIgnoredDuringExecution", "nodeSelectorTerms"],
    )
    .iter()
    .enumerate()
    {
        if list(t, "matchExpressions").is_empty() && list(t, "matchFields").is_empty() {
            let p = path
                .child("affinity.nodeAffinity.requiredDuringSchedulingIgnoredDuringExecution.nodeSelectorTerms")
                .index(i);
            out.push(format!("{p}: an empty node selector term matches no objects"));
        }
    }
    for key in entries(spec, "nodeSelector").map(|e| e.0).collect::<Vec<_>>() {
        let replacement = match key {
            "beta.kubernetes.io/arch" => "kubernetes.io/arch",
            "beta.kubernetes.io/os" => "kubernetes.io/os",
            "failure-domain.beta.kubernetes.io/region" => "topology.kubernetes.io/region",
            "failure-domain.beta.kubernetes.io/zone" => "topology.kubernetes.io/zone",
            "beta.kubernetes.io/instance-type" => "node.kubernetes.io/instance-type",
            _ => continue,
        };
        let p = path.child("nodeSelector").key(key);
        out.push(format!("{p}: deprecated since v1.14; use \"{replacement}\" instead"));
    }
    for (i, alias) in list(spec, "hostAliases").iter().enumerate() {
        let ip = text(alias, "ip");
        if list(spec, "hostAliases").iter().take(i).any(|o| text(o, "ip") == ip) {
            out.push(format!("{}: duplicate ip \"{ip}\"", path.child("hostAliases").index(i).child("ip")));
        }
    }
    let secrets = list(spec, "imagePullSecrets");
    for (i, s) in secrets.iter().enumerate() {
        let p = path.child("imagePullSecrets").index(i);
        let name = text(s, "name");
        if name.is_empty() {
            out.push(format!("{p}: invalid empty name \"\""));
        } else if secrets.iter().take(i).any(|o| text(o, "name") == name) {
            out.push(format!("{p}: duplicate name \"{name}\""));
        }
    }
    for (i, v) in list(spec, "volumes").iter().enumerate() {
        let p = path.child("volumes").index(i);
        for (kind, text) in [
            ("gitRepo", "deprecated in v1.11, and disabled by default in v1.33+"),
            ("glusterfs", "deprecated in v1.25, non-functional in v1.26+"),
            ("scaleIO", "deprecated in v1.16, non-functional in v1.22+"),
            ("flocker", "deprecated in v1.22, non-functional in v1.25+"),
            ("storageOS", "deprecated in v1.22, non-functional in v1.25+"),
            ("quobyte", "deprecated in v1.22, non-functional in v1.25+"),
            ("cephfs", "deprecated in v1.28, non-functional in v1.31+"),
            ("rbd", "deprecated in v1.28, non-functional in v1.31+"),
        ] {
            if has(v, kind) {
                out.push(format!("{}: {text}", p.child(kind)));
            }
        }
    }
    for lists in ["initContainers", "containers"] {
        for (i, c) in list(spec, lists).iter().enumerate() {
            container_warnings(c, &path.child(lists).index(i), &mut out);
        }
    }
    if int(spec, "terminationGracePeriodSeconds").is_some_and(|s| s < 0) {
        out.push(format!(
            "{}: must be >= 0; negative values are invalid and will be treated as 1",
            path.child("terminationGracePeriodSeconds")
        ));
    }
    out
}

fn container_warnings(c: &Value, path: &Path, out: &mut Vec<String>) {
    let env = list(c, "env");
    for (i, e) in env.iter().enumerate() {
        // Only a later value that does not build on the earlier one hides it.
        let name = text(e, "name");
        let hides = env.iter().take(i).any(|o| text(o, "name") == name);
        if hides && !text(e, "value").contains(&format!("$({name})")) {
            out.push(format!(
                "{}: hides previous definition of \"{name}\", which may be dropped when using apply",
                path.child("env").index(i)
            ));
        }
    }
    let ports = list(c, "ports");
    for (i, p) in ports.iter().enumerate() {
        let key = |p: &Value| (text(p, "protocol").to_string(), int(p, "containerPort"));
        if let Some(first) = ports.iter().take(i).position(|o| key(o) == key(p)) {
            let at = path.child("ports");
            if text(p, "hostIP") == text(&ports[first], "hostIP") {
                let (protocol, port) = key(p);
                out.push(format!(
                    "{}: duplicate port definition with {} (port {}/{protocol})",
                    at.index(i),
                    at.index(first),
                    port.unwrap_or(0)
                ));
            }
        }
    }
    for kind in ["limits", "requests"] {
        for name in ["memory", "ephemeral-storage"] {
            let q = at(c, &["resources", kind, name]);
            if !q.is_null() && podspec::milli(q) % 1000 != 0 {
                let p = path.child("resources").child(kind).key(name);
                out.push(format!(
                    "{p}: fractional byte value {} is invalid, must be an integer",
                    q.as_str().unwrap_or("")
                ));
            }
        }
    }
}
