//! Defaults of pod specs (core/v1 `SetDefaults_PodSpec` and friends), shared by every kind that holds a pod template.

use crate::validation::access::*;
use serde_json::{Value, json};

/// What a pod itself gets beyond what a template gets.
pub fn pod(obj: &mut Value) {
    if let Some(status) = object_mut(obj, "status") {
        for (one, many) in [("podIP", "podIPs"), ("hostIP", "hostIPs")] {
            fn ip(i: &Value) -> Option<&str> {
                i.get("ip").and_then(Value::as_str)
            }
            mirror_first(status, one, many, |ip| json!({"ip": ip}), ip);
        }
    }
    let Some(spec) = ensure_object(obj, "spec") else {
        return;
    };
    fill(spec, "enableServiceLinks", true);
    for list in ["containers", "initContainers"] {
        for c in items_mut(spec, list) {
            requests_from_limits(c);
        }
    }
    pod_level_requests(spec);
    if flag(spec, "hostNetwork") {
        for list in ["containers", "initContainers"] {
            for c in items_mut(spec, list) {
                for p in items_mut(c, "ports") {
                    let port = field(p, "containerPort").clone();
                    if !is_zero(&port) {
                        fill_zero(p, "hostPort", port);
                    }
                }
            }
        }
    }
    pod_spec(spec);
}

/// A `PodTemplateSpec` under `key` of `parent`.
pub fn template(parent: &mut Value, key: &str) {
    if let Some(t) = ensure_object(parent, key) {
        if !has(t, "metadata") {
            set(t, "metadata", json!({}));
        }
        if let Some(spec) = ensure_object(t, "spec") {
            pod_spec(spec);
        }
    }
}

pub fn pod_spec(spec: &mut Value) {
    fill_zero(spec, "dnsPolicy", "ClusterFirst");
    fill_zero(spec, "restartPolicy", "Always");
    fill_zero(spec, "schedulerName", "default-scheduler");
    fill(spec, "securityContext", json!({}));
    fill(spec, "terminationGracePeriodSeconds", 30);
    // `serviceAccount` is the old name of `serviceAccountName`; both are always shown.
    let name = match text(spec, "serviceAccountName") {
        "" => text(spec, "serviceAccount"),
        name => name,
    }
    .to_string();
    if !name.is_empty() {
        set(spec, "serviceAccountName", name.as_str());
        set(spec, "serviceAccount", name);
    }
    for list in ["initContainers", "containers", "ephemeralContainers"] {
        for c in items_mut(spec, list) {
            container(c);
        }
    }
    for v in items_mut(spec, "volumes") {
        volume(v);
    }
}

pub fn container(c: &mut Value) {
    let policy = pull_policy(text(c, "image"));
    fill_zero(c, "imagePullPolicy", policy);
    fill_zero(c, "terminationMessagePath", "/dev/termination-log");
    fill_zero(c, "terminationMessagePolicy", "File");
    fill(c, "resources", json!({}));
    for p in items_mut(c, "ports") {
        fill_zero(p, "protocol", "TCP");
    }
    for e in items_mut(c, "env") {
        if let Some(from) = object_mut(e, "valueFrom") {
            field_source(from);
            if let Some(file) = object_mut(from, "fileKeyRef") {
                fill(file, "optional", false);
            }
        }
    }
    for probe in ["livenessProbe", "readinessProbe", "startupProbe"] {
        if let Some(p) = object_mut(c, probe) {
            fill_zero(p, "timeoutSeconds", 1);
            fill_zero(p, "periodSeconds", 10);
            fill_zero(p, "successThreshold", 1);
            fill_zero(p, "failureThreshold", 3);
            handler(p);
        }
    }
    for hook in ["postStart", "preStop"] {
        if let Some(h) = object_at_mut(c, &["lifecycle", hook]) {
            handler(h);
        }
    }
}

fn handler(h: &mut Value) {
    if let Some(get) = object_mut(h, "httpGet") {
        fill_zero(get, "path", "/");
        fill_zero(get, "scheme", "HTTP");
    }
    if let Some(grpc) = object_mut(h, "grpc") {
        fill(grpc, "service", "");
    }
}

fn field_source(v: &mut Value) {
    if let Some(f) = object_mut(v, "fieldRef") {
        fill_zero(f, "apiVersion", "v1");
    }
    if let Some(r) = object_mut(v, "resourceFieldRef") {
        fill(r, "divisor", "0");
    }
}

/// `Always` for an image by tag `latest` (also when neither tag nor digest is given), else `IfNotPresent`.
pub fn pull_policy(image: &str) -> &'static str {
    if image.contains('@') {
        // A digest pins the content; only an explicit `latest` beside it counts.
        let name = image.split('@').next().unwrap_or("");
        return if name.ends_with(":latest") { "Always" } else { "IfNotPresent" };
    }
    let last = image.rsplit('/').next().unwrap_or("");
    match last.split_once(':') {
        None | Some((_, "latest")) => "Always",
        Some(_) => "IfNotPresent",
    }
}

/// A limit without a request is a request, too.
fn requests_from_limits(container: &mut Value) {
    let Some(resources) = object_mut(container, "resources") else {
        return;
    };
    let Some(limits) = field(resources, "limits").as_object().cloned() else {
        return;
    };
    if limits.is_empty() {
        return;
    }
    if let Some(requests) = ensure_object(resources, "requests") {
        for (k, v) in limits {
            fill(requests, &k, v);
        }
    }
}

/// Pod-level requests come from pod-level limits where no container asks for the resource.
fn pod_level_requests(spec: &mut Value) {
    let Some(limits) = at(spec, &["resources", "limits"]).as_object().cloned() else {
        return;
    };
    let asked = |name: &str| {
        ["containers", "initContainers"]
            .iter()
            .any(|l| list(spec, l).iter().any(|c| has(at(c, &["resources", "requests"]), name)))
    };
    let missing: Vec<_> = limits.into_iter().filter(|(k, _)| !asked(k)).collect();
    if missing.is_empty() {
        return;
    }
    if let Some(requests) = object_mut(spec, "resources").and_then(|r| ensure_object(r, "requests")) {
        for (k, v) in missing {
            fill(requests, &k, v);
        }
    }
}

pub fn volume(v: &mut Value) {
    let sourceless = v.as_object().is_none_or(|o| o.iter().all(|(k, v)| k == "name" || v.is_null()));
    if sourceless {
        set(v, "emptyDir", json!({}));
    }
    for key in ["secret", "configMap", "downwardAPI", "projected"] {
        if let Some(s) = object_mut(v, key) {
            fill(s, "defaultMode", 420);
        }
    }
    if let Some(d) = object_mut(v, "downwardAPI") {
        items_mut(d, "items").for_each(field_source);
    }
    if let Some(p) = object_mut(v, "projected") {
        for s in items_mut(p, "sources") {
            if let Some(token) = object_mut(s, "serviceAccountToken") {
                fill(token, "expirationSeconds", 3600);
            }
            if let Some(d) = object_mut(s, "downwardAPI") {
                items_mut(d, "items").for_each(field_source);
            }
        }
    }
    if let Some(spec) = object_at_mut(v, &["ephemeral", "volumeClaimTemplate", "spec"]) {
        fill(spec, "volumeMode", "Filesystem");
    }
    if let Some(i) = object_mut(v, "image") {
        let policy = pull_policy(text(i, "reference"));
        fill_zero(i, "pullPolicy", policy);
    }
    volume_source(v);
}

/// Sources that pod volumes and persistent volumes share.
pub fn volume_source(v: &mut Value) {
    if let Some(h) = object_mut(v, "hostPath") {
        fill(h, "type", "");
    }
    if let Some(i) = object_mut(v, "iscsi") {
        fill_zero(i, "iscsiInterface", "default");
    }
    if let Some(r) = object_mut(v, "rbd") {
        fill_zero(r, "pool", "rbd");
        fill_zero(r, "user", "admin");
        fill_zero(r, "keyring", "/etc/ceph/keyring");
    }
    if let Some(a) = object_mut(v, "azureDisk") {
        fill(a, "cachingMode", "ReadWrite");
        fill(a, "kind", "Shared");
        fill(a, "fsType", "ext4");
        fill(a, "readOnly", false);
    }
    if let Some(s) = object_mut(v, "scaleIO") {
        fill_zero(s, "storageMode", "ThinProvisioned");
        fill_zero(s, "fsType", "xfs");
    }
}
