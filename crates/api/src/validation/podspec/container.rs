//! Containers of a pod: regular, init (and sidecars), ephemeral.

use super::{Around, resources, security};
use crate::validation::access::*;
use crate::validation::seen::Seen;
use crate::validation::values;
use meta::field::{Errors, Path};
use meta::names;
use serde_json::Value;
use std::collections::HashMap;

/// What `env` may read of a pod.
const ENV_FIELDS: &[&str] = &[
    "metadata.name",
    "metadata.namespace",
    "metadata.uid",
    "spec.nodeName",
    "spec.serviceAccountName",
    "status.hostIP",
    "status.hostIPs",
    "status.podIP",
    "status.podIPs",
];
/// What a downwardAPI volume may read of a pod.
pub const VOLUME_FIELDS: &[&str] =
    &["metadata.annotations", "metadata.labels", "metadata.name", "metadata.namespace", "metadata.uid"];
/// Pod fields that have a name in the downward API at all.
const KNOWN_FIELDS: &[&str] = &[
    "metadata.annotations",
    "metadata.labels",
    "metadata.name",
    "metadata.namespace",
    "metadata.uid",
    "spec.nodeName",
    "spec.restartPolicy",
    "spec.schedulerName",
    "spec.serviceAccountName",
    "status.hostIP",
    "status.hostIPs",
    "status.phase",
    "status.podIP",
    "status.podIPs",
];
const CONTAINER_RESOURCES: &[&str] = &[
    "limits.cpu",
    "limits.ephemeral-storage",
    "limits.memory",
    "requests.cpu",
    "requests.ephemeral-storage",
    "requests.memory",
];
const INIT_ONLY_SIDECAR: &str = "may not be set for init containers without restartPolicy=Always";

pub fn containers(spec: &Value, around: &Around, path: &Path, errors: &mut Errors) {
    let regular = list(spec, "containers");
    let p = path.child("containers");
    if regular.is_empty() {
        errors.required(p.clone(), "");
    }
    let mut seen: Seen<&str> = Seen::default();
    for (i, c) in regular.iter().enumerate() {
        let p = p.index(i);
        common(c, around, &p, errors);
        let name = text(c, "name");
        if seen.again(name) {
            errors.duplicate(p.child("name"), name);
        }
        lifecycle_and_probes(c, around, &p, errors);
        restart_policy(c, &p, errors);
    }
    host_ports(regular, &p, errors);

    let p = path.child("initContainers");
    for (i, c) in list(spec, "initContainers").iter().enumerate() {
        let at = p.index(i);
        let sidecar = text(c, "restartPolicy") == "Always";
        common(c, around, &at, errors);
        restart_policy(c, &at, errors);
        let name = text(c, "name");
        if if name.is_empty() { seen.has(&name) } else { seen.again(name) } {
            errors.duplicate(at.child("name"), name);
        }
        // Each init container alone: they run one after the other. Upstream counts them from 0 in the path, too.
        host_ports(std::slice::from_ref(c), &p, errors);
        if sidecar {
            lifecycle_and_probes(c, around, &at, errors);
        } else {
            for key in ["lifecycle", "livenessProbe", "readinessProbe", "startupProbe"] {
                if has(c, key) {
                    errors.forbidden(at.child(key), INIT_ONLY_SIDECAR);
                }
            }
        }
    }
}

/// What an ephemeral container may not have, in upstream's order.
const NOT_EPHEMERAL: &[&str] = &[
    "ports",
    "resources",
    "resizePolicy",
    "restartPolicy",
    "restartPolicyRules",
    "livenessProbe",
    "readinessProbe",
    "startupProbe",
    "lifecycle",
];

/// `ephemeralContainers`: fewer fields, names unique over all containers.
pub fn ephemeral_containers(spec: &Value, around: &Around, path: &Path, errors: &mut Errors) {
    const NO: &str = "cannot be set for an Ephemeral Container";
    let others = || ["containers", "initContainers"].iter().flat_map(|l| list(spec, l)).map(|c| text(c, "name"));
    let (targets, mut seen): (Seen<&str>, Seen<&str>) = (others().collect(), others().collect());
    for (i, c) in list(spec, "ephemeralContainers").iter().enumerate() {
        let p = path.child("ephemeralContainers").index(i);
        common(c, around, &p, errors);
        image_untrimmed(c, &p, errors);
        let name = text(c, "name");
        if seen.again(name) {
            errors.duplicate(p.child("name"), name);
        }
        let target = text(c, "targetContainerName");
        if !target.is_empty() && !targets.has(&target) {
            errors.not_found(p.child("targetContainerName"), target);
        }
        for key in NOT_EPHEMERAL {
            // Defaults put an empty one there.
            let set = if *key == "resources" { !is_zero(field(c, key)) } else { has(c, key) };
            if set {
                errors.forbidden(p.child(key), NO);
            }
        }
        for (j, m) in list(c, "volumeMounts").iter().enumerate() {
            for key in ["subPath", "subPathExpr"] {
                if !text(m, key).is_empty() {
                    errors.forbidden(p.child("volumeMounts").index(j).child(key), NO);
                }
            }
        }
    }
}

/// Of pods alone: templates may hold an image that a webhook still changes.
pub fn image_untrimmed(c: &Value, p: &Path, errors: &mut Errors) {
    let image = text(c, "image");
    if image.trim() != image {
        errors.invalid(p.child("image"), image, "must not have leading or trailing whitespace");
    }
}

fn restart_policy(c: &Value, p: &Path, errors: &mut Errors) {
    let rules = list(c, "restartPolicyRules");
    if has(c, "restartPolicy") {
        values::one_of(text(c, "restartPolicy"), &["Always", "Never", "OnFailure"], p.child("restartPolicy"), errors);
    } else if rules.is_empty() {
        return;
    } else {
        errors.required(p.child("restartPolicy"), "must specify restartPolicy when restart rules are used");
    }
    if rules.len() > 20 {
        errors.too_many(p.child("restartPolicyRules"), rules.len(), 20);
    }
    for (i, rule) in rules.iter().enumerate() {
        let p = p.child("restartPolicyRules").index(i);
        values::one_of(text(rule, "action"), &["Restart", "RestartAllContainers"], p.child("action"), errors);
        let codes = field(rule, "exitCodes");
        let p = p.child("exitCodes");
        if codes.is_null() {
            errors.required(p, "must be specified");
            continue;
        }
        values::one_of(text(codes, "operator"), &["In", "NotIn"], p.child("operator"), errors);
        let codes = list(codes, "values").len();
        if codes > 255 {
            errors.too_many(p.child("values"), codes, 255);
        }
    }
}

fn common(c: &Value, around: &Around, p: &Path, errors: &mut Errors) {
    let name = text(c, "name");
    if name.is_empty() {
        errors.required(p.child("name"), "");
    } else {
        values::dns_label(name, &p.child("name"), errors);
    }
    if text(c, "image").is_empty() {
        errors.required(p.child("image"), "");
    }
    let supported = &["File", "FallbackToLogsOnError"];
    let message = text(c, "terminationMessagePolicy");
    values::required_one_of(message, supported, p.child("terminationMessagePolicy"), errors);
    ports(list(c, "ports"), &p.child("ports"), errors);
    env(list(c, "env"), &p.child("env"), errors);
    env_from(list(c, "envFrom"), &p.child("envFrom"), errors);
    volume_mounts(c, around, &p.child("volumeMounts"), errors);
    volume_devices(c, around, &p.child("volumeDevices"), errors);
    let policy = text(c, "imagePullPolicy");
    values::required_one_of(policy, &["Always", "IfNotPresent", "Never"], p.child("imagePullPolicy"), errors);
    resources::resource_requirements(field(c, "resources"), &around.claims, &p.child("resources"), errors);
    resize_policy(list(c, "resizePolicy"), around, &p.child("resizePolicy"), errors);
    security::container(field(c, "securityContext"), around.host_users, &p.child("securityContext"), errors);
}

fn resize_policy(policies: &[Value], around: &Around, path: &Path, errors: &mut Errors) {
    let mut seen = Seen::default();
    for (i, r) in policies.iter().enumerate() {
        let name = text(r, "resourceName");
        if seen.again(name) {
            errors.duplicate(path.index(i), name);
        }
        values::required_one_of(name, &["cpu", "memory"], path.clone(), errors);
        let policy = text(r, "restartPolicy");
        values::required_one_of(policy, &["NotRequired", "RestartContainer"], path.clone(), errors);
        if around.restart_policy == "Never" && policy != "NotRequired" {
            errors.invalid(path.clone(), policy, "must be 'NotRequired' when pod `restartPolicy` is 'Never'");
        }
    }
}

/// An init container is gone before a restart of it could mean anything. Asked of new pods only, as older ones may say so.
pub fn init_resize_policies(spec: &Value, path: &Path, errors: &mut Errors) {
    for (i, c) in list(spec, "initContainers").iter().enumerate().filter(|(_, c)| text(c, "restartPolicy") != "Always")
    {
        for (j, r) in list(c, "resizePolicy").iter().enumerate() {
            let policy = text(r, "restartPolicy");
            if policy == "RestartContainer" {
                let p = path.child("initContainers").index(i).child("resizePolicy").index(j).child("restartPolicy");
                errors.invalid(p, policy, "must not be set to 'RestartContainer' for non-sidecar initContainers");
            }
        }
    }
}

fn ports(ports: &[Value], path: &Path, errors: &mut Errors) {
    let mut seen: Seen<&str> = Seen::default();
    for (i, port) in ports.iter().enumerate() {
        let p = path.index(i);
        let name = text(port, "name");
        if !name.is_empty() {
            let messages = names::port_name(name);
            if !messages.is_empty() {
                values::each(errors, &p.child("name"), name, messages);
            } else if seen.again(name) {
                errors.duplicate(p.child("name"), name);
            }
        }
        match int(port, "containerPort").unwrap_or(0) {
            0 => errors.required(p.child("containerPort"), ""),
            n => values::port_number(n, p.child("containerPort"), errors),
        }
        match int(port, "hostPort").unwrap_or(0) {
            0 => {}
            n => values::port_number(n, p.child("hostPort"), errors),
        }
        values::required_one_of(text(port, "protocol"), &["SCTP", "TCP", "UDP"], p.child("protocol"), errors);
    }
}

/// Host ports may be taken once.
fn host_ports(containers: &[Value], path: &Path, errors: &mut Errors) {
    let mut seen = Seen::default();
    for (i, c) in containers.iter().enumerate() {
        for (j, port) in list(c, "ports").iter().enumerate() {
            let n = int(port, "hostPort").unwrap_or(0);
            if n == 0 {
                continue;
            }
            let key = format!("{}/{}/{n}", text(port, "protocol"), text(port, "hostIP"));
            if seen.again(key.clone()) {
                errors.duplicate(path.index(i).child("ports").index(j).child("hostPort"), key);
            }
        }
    }
}

fn env(env: &[Value], path: &Path, errors: &mut Errors) {
    for (i, e) in env.iter().enumerate() {
        let p = path.index(i);
        match text(e, "name") {
            "" => errors.required(p.child("name"), ""),
            name => values::each(errors, &p.child("name"), name, names::relaxed_env_var_name(name)),
        }
        if has(e, "valueFrom") {
            env_source(e, &p.child("valueFrom"), errors);
        }
    }
}

fn env_source(e: &Value, p: &Path, errors: &mut Errors) {
    let from = field(e, "valueFrom");
    let mut count = 0;
    if has(from, "fieldRef") {
        count += 1;
        field_ref(field(from, "fieldRef"), ENV_FIELDS, &p.child("fieldRef"), errors);
    }
    if has(from, "resourceFieldRef") {
        count += 1;
        resource_field_ref(field(from, "resourceFieldRef"), false, &p.child("resourceFieldRef"), errors);
    }
    for key in ["configMapKeyRef", "secretKeyRef"] {
        let r = field(from, key);
        if !r.is_null() {
            count += 1;
            let p = p.child(key);
            values::dns_subdomain(text(r, "name"), &p.child("name"), errors);
            config_key(text(r, "key"), &p.child("key"), errors);
        }
    }
    let file = field(from, "fileKeyRef");
    if !file.is_null() {
        count += 1;
        file_key_ref(file, &p.child("fileKeyRef"), errors);
    }
    if count == 0 {
        errors.invalid(
            p.clone(),
            "",
            "must specify one of: `fieldRef`, `resourceFieldRef`, `configMapKeyRef`, `secretKeyRef` or `fileKeyRef`",
        );
    } else if !text(e, "value").is_empty() {
        errors.invalid(p.clone(), "", "may not be specified when `value` is not empty");
    } else if count > 1 {
        errors.invalid(p.clone(), "", "may not have more than one field specified at a time");
    }
}

fn file_key_ref(file: &Value, p: &Path, errors: &mut Errors) {
    match text(file, "key") {
        "" => errors.required(p.child("key"), ""),
        key => values::each(errors, &p.child("key"), key, names::relaxed_env_var_name(key)),
    }
    match text(file, "volumeName") {
        "" => errors.required(p.child("volumeName"), ""),
        name => values::dns_label(name, &p.child("volumeName"), errors),
    }
    match text(file, "path") {
        "" => errors.required(p.child("path"), ""),
        at => values::no_backsteps(at, &p.child("path"), errors),
    }
}

/// Files that variables are read from lie in an emptyDir of this pod. Said last, after all else about the spec.
pub fn file_key_volumes(spec: &Value, path: &Path, errors: &mut Errors) {
    // Of several volumes of one name the last one counts.
    let volumes: HashMap<&str, &Value> = list(spec, "volumes").iter().map(|v| (text(v, "name"), v)).collect();
    for lists in super::LISTS {
        for (i, c) in list(spec, lists).iter().enumerate() {
            for (j, e) in list(c, "env").iter().enumerate() {
                let file = at(e, &["valueFrom", "fileKeyRef"]);
                if file.is_null() {
                    continue;
                }
                let name = text(file, "volumeName");
                let p = path.child(lists).index(i).child("env").index(j).child("valueFrom.fileKeyRef.volumeName");
                match volumes.get(name) {
                    None => errors.not_found(p, name),
                    Some(v) if !has(v, "emptyDir") => {
                        errors.invalid(p, name, "referenced volume must be of type emptyDir");
                    }
                    Some(_) => {}
                }
            }
        }
    }
}

fn config_key(key: &str, path: &Path, errors: &mut Errors) {
    if key.is_empty() {
        errors.required(path.clone(), "");
    } else {
        values::each(errors, path, key, names::config_map_key(key));
    }
}

pub fn field_ref(f: &Value, supported: &[&str], p: &Path, errors: &mut Errors) {
    if text(f, "apiVersion").is_empty() {
        errors.required(p.child("apiVersion"), "");
        return;
    }
    let path = text(f, "fieldPath");
    if path.is_empty() {
        errors.required(p.child("fieldPath"), "");
        return;
    }
    let unknown = |why: &str, errors: &mut Errors| {
        errors.invalid(p.child("fieldPath"), path, format!("error converting fieldPath: {why}: {path}"));
    };
    if text(f, "apiVersion") != "v1" {
        let text = format!("error converting fieldPath: unsupported pod version: {}", text(f, "apiVersion"));
        errors.invalid(p.child("fieldPath"), path, text);
        return;
    }
    if let Some((base, rest)) = path.split_once("['")
        && let Some(key) = rest.strip_suffix("']")
        && !base.is_empty()
    {
        match base {
            "metadata.annotations" => values::qualified_name(&key.to_lowercase(), p, errors),
            "metadata.labels" => values::qualified_name(key, p, errors),
            _ => unknown("field label does not support subscript", errors),
        }
        return;
    }
    // The name that very old clients use.
    let path = if path == "spec.host" { "spec.nodeName" } else { path };
    if !KNOWN_FIELDS.contains(&path) {
        unknown("field label not supported", errors);
    } else if !supported.contains(&path) {
        errors.not_supported(p.child("fieldPath"), path, supported);
    }
}

pub fn resource_field_ref(r: &Value, volume: bool, p: &Path, errors: &mut Errors) {
    let resource = text(r, "resource");
    let huge = resource.starts_with("limits.hugepages-") || resource.starts_with("requests.hugepages-");
    if volume && text(r, "containerName").is_empty() {
        errors.required(p.child("containerName"), "");
    } else if resource.is_empty() {
        errors.required(p.child("resource"), "");
    } else if !CONTAINER_RESOURCES.contains(&resource) && !huge {
        errors.not_supported(p.child("resource"), resource, CONTAINER_RESOURCES);
    }
    let divisor = resources::parse(field(r, "divisor")).map_or_else(|| "0".to_string(), |q| q.canonical());
    let what = match resource.split_once('.').map_or("", |(_, r)| r) {
        _ if !huge && !CONTAINER_RESOURCES.contains(&resource) => return,
        "cpu" => {
            if !["0", "1m", "1"].contains(&divisor.as_str()) {
                let text = "only divisor's values 1m and 1 are supported with the cpu resource";
                errors.invalid(p.child("divisor"), resource, text);
            }
            return;
        }
        "memory" => "memory",
        "ephemeral-storage" => "local ephemeral storage",
        _ => "hugepages",
    };
    const SIZES: &[&str] = &["1", "1k", "1M", "1G", "1T", "1P", "1E", "1Ki", "1Mi", "1Gi", "1Ti", "1Pi", "1Ei"];
    if divisor != "0" && !SIZES.contains(&divisor.as_str()) {
        let text = format!("only divisor's values {} are supported with the {what} resource", SIZES.join(", "));
        errors.invalid(p.child("divisor"), resource, text);
    }
}

fn env_from(sources: &[Value], path: &Path, errors: &mut Errors) {
    for (i, s) in sources.iter().enumerate() {
        let p = path.index(i);
        let prefix = text(s, "prefix");
        if !prefix.is_empty() {
            values::each(errors, &p.child("prefix"), prefix, names::relaxed_env_var_name(prefix));
        }
        let mut count = 0;
        for key in ["configMapRef", "secretRef"] {
            if has(s, key) {
                count += 1;
                let p = p.child(key).child("name");
                match text_at(s, &[key, "name"]) {
                    "" => errors.required(p, ""),
                    // Upstream takes the name for a prefix here, so that it may end in a dash.
                    name => {
                        values::each(errors, &p, name, names::dns1123_subdomain(name.strip_suffix('-').unwrap_or(name)))
                    }
                }
            }
        }
        if count == 0 {
            errors.invalid(path.clone(), "", "must specify one of: `configMapRef` or `secretRef`");
        } else if count > 1 {
            errors.invalid(path.clone(), "", "may not have more than one field specified at a time");
        }
    }
}

/// Upstream names the list alone, not the item, in faults of sub-paths and of how a mount behaves.
fn volume_mounts(c: &Value, around: &Around, path: &Path, errors: &mut Errors) {
    let of_devices = |key: &str| list(c, "volumeDevices").iter().map(|d| text(d, key)).collect::<Seen<&str>>();
    let (device_names, device_paths) = (of_devices("name"), of_devices("devicePath"));
    let mut paths: Seen<&str> = Seen::default();
    for (i, m) in list(c, "volumeMounts").iter().enumerate() {
        let p = path.index(i);
        let name = text(m, "name");
        if name.is_empty() {
            errors.required(p.child("name"), "");
        }
        if around.volume(name).is_none() {
            errors.not_found(p.child("name"), name);
        }
        let at = text(m, "mountPath");
        if at.is_empty() {
            errors.required(p.child("mountPath"), "");
        }
        if paths.again(at) {
            errors.invalid(p.child("mountPath"), at, "must be unique");
        }
        if device_names.has(&name) {
            errors.invalid(p.child("name"), name, "must not already exist in volumeDevices");
        }
        if device_paths.has(&at) {
            errors.invalid(p.child("mountPath"), at, "must not already exist as a path in volumeDevices");
        }
        let (sub, expr) = (text(m, "subPath"), text(m, "subPathExpr"));
        if !sub.is_empty() {
            values::descending_path(sub, &path.child("subPath"), errors);
        }
        if !expr.is_empty() {
            if !sub.is_empty() {
                errors.invalid(p.child("subPathExpr"), expr, "subPathExpr and subPath are mutually exclusive");
            }
            values::descending_path(expr, &path.child("subPathExpr"), errors);
        }
        if has(m, "mountPropagation") {
            let mode = text(m, "mountPropagation");
            let p = path.child("mountPropagation");
            values::one_of(mode, &["Bidirectional", "HostToContainer", "None"], p.clone(), errors);
            if mode == "Bidirectional" && !flag(field(c, "securityContext"), "privileged") {
                let text = "Bidirectional mount propagation is available only to privileged containers";
                errors.forbidden(p, text);
            }
        }
        if has(m, "recursiveReadOnly") {
            recursive_read_only(m, &path.child("recursiveReadOnly"), errors);
        }
    }
}

fn recursive_read_only(m: &Value, p: &Path, errors: &mut Errors) {
    match text(m, "recursiveReadOnly") {
        "Disabled" => {}
        "Enabled" | "IfPossible" => {
            if !flag(m, "readOnly") {
                errors.forbidden(p.clone(), "may only be specified when readOnly is true");
            }
            if !matches!(text(m, "mountPropagation"), "" | "None") {
                errors.forbidden(p.clone(), "may only be specified when mountPropagation is None or not specified");
            }
        }
        other => errors.not_supported(p.clone(), other, &["Disabled", "Enabled", "IfPossible"]),
    }
}

fn volume_devices(c: &Value, around: &Around, path: &Path, errors: &mut Errors) {
    let of_mounts = |key: &str| list(c, "volumeMounts").iter().map(|m| text(m, key)).collect::<Seen<&str>>();
    let (mount_names, mount_paths) = (of_mounts("name"), of_mounts("mountPath"));
    let (mut paths, mut names): (Seen<&str>, Seen<&str>) = Default::default();
    for (i, d) in list(c, "volumeDevices").iter().enumerate() {
        let p = path.index(i);
        let (name, at) = (text(d, "name"), text(d, "devicePath"));
        if name.is_empty() {
            errors.required(p.child("name"), "");
        }
        if !name.is_empty() && names.again(name) {
            errors.invalid(p.child("name"), name, "must be unique");
        }
        match around.volume(name) {
            None => errors.not_found(p.child("name"), name),
            Some(v) if !has(v, "persistentVolumeClaim") && !has(v, "ephemeral") => {
                let text = "can only use volume source type of PersistentVolumeClaim or Ephemeral for block mode";
                errors.invalid(p.child("name"), name, text);
            }
            Some(_) => {}
        }
        if at.is_empty() {
            errors.required(p.child("devicePath"), "");
        }
        if at.split('/').any(|part| part == "..") {
            errors.invalid(p.child("devicePath"), at, "can not contain backsteps ('..')");
        } else if paths.again(at) {
            errors.invalid(p.child("devicePath"), at, "must be unique");
        }
        if mount_names.has(&name) {
            errors.invalid(p.child("name"), name, "must not already exist in volumeMounts");
        }
        if mount_paths.has(&at) {
            errors.invalid(p.child("devicePath"), at, "must not already exist as a path in volumeMounts");
        }
    }
}

fn lifecycle_and_probes(c: &Value, around: &Around, p: &Path, errors: &mut Errors) {
    for hook in ["postStart", "preStop"] {
        let h = at(c, &["lifecycle", hook]);
        if !h.is_null() {
            handler(h, &["exec", "httpGet", "tcpSocket", "sleep"], around, &p.child("lifecycle").child(hook), errors);
        }
    }
    for kind in ["livenessProbe", "readinessProbe", "startupProbe"] {
        let probe = field(c, kind);
        if probe.is_null() {
            continue;
        }
        let p = p.child(kind);
        handler(probe, &["exec", "httpGet", "tcpSocket", "grpc"], around, &p, errors);
        for key in ["initialDelaySeconds", "timeoutSeconds", "periodSeconds", "successThreshold", "failureThreshold"] {
            values::non_negative(field(probe, key), p.child(key), errors);
        }
        if let Some(seconds) = int(probe, "terminationGracePeriodSeconds") {
            let p = p.child("terminationGracePeriodSeconds");
            if seconds <= 0 {
                errors.invalid(p.clone(), seconds, "must be greater than 0");
            }
            if kind == "readinessProbe" {
                errors.invalid(p, seconds, "must not be set for readinessProbes");
            }
        }
        let success = int(probe, "successThreshold").unwrap_or(1);
        if kind != "readinessProbe" && success != 1 {
            errors.invalid(p.child("successThreshold"), success, "must be 1");
        }
    }
}

fn required_command(exec: &Value, path: &Path, errors: &mut Errors) {
    if list(exec, "command").is_empty() {
        errors.required(path.child("command"), "");
    }
}

fn handler(h: &Value, kinds: &[&str], around: &Around, path: &Path, errors: &mut Errors) {
    let mut count = 0;
    for kind in kinds {
        let action = field(h, kind);
        if action.is_null() {
            continue;
        }
        let p = path.child(kind);
        if count > 0 {
            errors.forbidden(p, "may not specify more than 1 handler type");
            continue;
        }
        count += 1;
        match *kind {
            "exec" => {
                required_command(action, &p, errors);
            }
            "httpGet" => {
                if text(action, "path").is_empty() {
                    errors.required(p.child("path"), "");
                }
                values::port_or_name(field(action, "port"), p.child("port"), errors);
                values::one_of(text(action, "scheme"), &["HTTP", "HTTPS"], p.child("scheme"), errors);
                for header in list(action, "httpHeaders") {
                    let name = text(header, "name");
                    values::each(errors, &p.child("httpHeaders"), name, names::http_header_name(name));
                }
            }
            "tcpSocket" => values::port_or_name(field(action, "port"), p.child("port"), errors),
            "grpc" => values::port_number(int(action, "port").unwrap_or(0), p.child("port"), errors),
            "sleep" => {
                let seconds = int(action, "seconds").unwrap_or(0);
                if let Some(grace) = around.grace_seconds
                    && !(0..=grace).contains(&seconds)
                {
                    let text = format!("must be non-negative and less than terminationGracePeriodSeconds ({grace})");
                    errors.invalid(p, seconds, text);
                }
            }
            _ => {}
        }
    }
    if count == 0 {
        errors.required(path.clone(), "must specify a handler type");
    }
}
