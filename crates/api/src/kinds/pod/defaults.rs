//! Defaults of pod specs (core/v1 `SetDefaults_PodSpec` and friends), shared by every kind that holds a pod template.

use crate::kinds::persistentvolumeclaim;
use crate::validation::access::*;
use meta::quantity::Quantity;
use regex::Regex;
use serde_json::{Value, json};
use std::sync::LazyLock;

/// What a pod itself gets beyond what a template gets.
pub fn pod(obj: &mut Value) {
    if let Some(status) = object_mut(obj, "status") {
        remove(status, "nodeAllocatableResourceClaimStatuses");
        amounts(status, &["allocatedResources"]);
        resources(status);
        for list in ["initContainerStatuses", "containerStatuses", "ephemeralContainerStatuses"] {
            for c in items_mut(status, list) {
                amounts(c, &["allocatedResources"]);
                resources(c);
                remove(c, "stopSignal");
                items_mut(c, "volumeMounts").for_each(|m| remove(m, "volumeStatus"));
            }
        }
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
    pod_level_resources(spec);
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

/// Alpha fields, which upstream's gates keep off, are taken and dropped (`DropDisabledPodFields`).
pub fn pod_spec(spec: &mut Value) {
    remove(spec, "schedulingGroup");
    amounts(spec, &["overhead"]);
    resources(spec);
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
    resources(c);
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
    if let Some(lifecycle) = object_mut(c, "lifecycle")
        && has(lifecycle, "stopSignal")
    {
        remove(lifecycle, "stopSignal");
        if lifecycle.as_object().is_some_and(|l| l.is_empty()) {
            remove(c, "lifecycle");
        }
    }
    if let Some(lifecycle) = object_mut(c, "lifecycle") {
        for hook in ["postStart", "preStop"] {
            if let Some(h) = object_mut(lifecycle, hook) {
                handler(h);
            }
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

/// `Always` for an image by tag `latest` (also when neither tag nor digest is given), else `IfNotPresent`, also
/// for what is no name of an image at all.
pub fn pull_policy(image: &str) -> &'static str {
    let Some(parts) = IMAGE.as_ref().and_then(|r| r.captures(image)) else {
        return "IfNotPresent";
    };
    match (parts.name("tag").map(|t| t.as_str()), parts.name("digest")) {
        (Some("latest"), _) | (None, None) => "Always",
        _ => "IfNotPresent",
    }
}

/// A reference as registries read it; a registry's own name may have capitals, a repository's may not.
static IMAGE: LazyLock<Option<Regex>> = LazyLock::new(|| {
    const HOST: &str = r"(?:[a-zA-Z0-9](?:[a-zA-Z0-9-]*[a-zA-Z0-9])?(?:\.[a-zA-Z0-9](?:[a-zA-Z0-9-]*[a-zA-Z0-9])?)*|\[[a-fA-F0-9:]+\])(?::[0-9]+)?";
    const PART: &str = r"[a-z0-9]+(?:(?:[._]|__|-+)[a-z0-9]+)*";
    const TAG: &str = r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,127}";
    const DIGEST: &str = r"[A-Za-z][A-Za-z0-9]*(?:[-_+.][A-Za-z][A-Za-z0-9]*)*:[0-9a-fA-F]{32,}";
    Regex::new(&format!("^(?:{HOST}/)?{PART}(?:/{PART})*(?::(?<tag>{TAG}))?(?:@(?<digest>{DIGEST}))?$")).ok()
});

/// Amounts of resources under these keys: what is finer than thousandths is rounded up (upstream's
/// `SetDefaults_ResourceList`).
pub fn amounts(v: &mut Value, keys: &[&str]) {
    for key in keys {
        for amount in v.get_mut(*key).and_then(Value::as_object_mut).into_iter().flat_map(|m| m.values_mut()) {
            let Ok(exact) = Quantity::from_value(amount) else { continue };
            let rounded = exact.round_up_to_milli();
            if rounded != exact {
                *amount = rounded.canonical().into();
            }
        }
    }
}

/// As [`amounts`], for the two lists of `resources`.
pub fn resources(v: &mut Value) {
    if let Some(r) = object_mut(v, "resources") {
        amounts(r, &["limits", "requests"]);
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

/// Pod-level amounts that are left out come from those of the containers together, then from the pod's own limits.
fn pod_level_resources(spec: &mut Value) {
    let own = |spec: &Value, kind: &str| at(spec, &["resources", kind]).as_object().cloned().unwrap_or_default();
    if own(spec, "limits").is_empty() && own(spec, "requests").is_empty() {
        return;
    }
    let mut bare = spec.clone();
    remove(&mut bare, "resources");
    remove(&mut bare, "overhead");
    let requested = own(spec, "requests");
    for (name, amount) in crate::quota::pod_total(&bare, "limits") {
        if name.starts_with("hugepages-") && !requested.contains_key(&name) {
            fill_amount(spec, "limits", &name, amount.canonical().into());
        }
    }
    let limits = own(spec, "limits");
    if limits.is_empty() {
        return;
    }
    for (name, amount) in crate::quota::pod_total(&bare, "requests") {
        if name == "cpu" || name == "memory" {
            fill_amount(spec, "requests", &name, amount.canonical().into());
        }
    }
    for (name, amount) in limits {
        if name == "cpu" || name == "memory" || name.starts_with("hugepages-") {
            fill_amount(spec, "requests", &name, amount);
        }
    }
}

fn fill_amount(spec: &mut Value, kind: &str, name: &str, amount: Value) {
    if let Some(list) = object_mut(spec, "resources").and_then(|r| ensure_object(r, kind)) {
        fill(list, name, amount);
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
        persistentvolumeclaim::spec_defaults(spec);
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
