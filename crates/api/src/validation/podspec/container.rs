//! Containers of a pod: regular, init (and sidecars), ephemeral.

use super::{resources, security};
use crate::validation::access::*;
use crate::validation::values;
use meta::field::{Errors, Path};
use meta::names;
use serde_json::Value;

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
    "spec.hostname",
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

/// The pod around a container.
struct Around<'a> {
    volumes: Vec<(&'a str, &'a Value)>,
    claims: Vec<&'a str>,
    host_users: bool,
    grace_seconds: Option<i64>,
}

impl<'a> Around<'a> {
    fn of(spec: &'a Value) -> Around<'a> {
        Around {
            volumes: list(spec, "volumes").iter().map(|v| (text(v, "name"), v)).collect(),
            claims: list(spec, "resourceClaims").iter().map(|c| text(c, "name")).collect(),
            host_users: field(spec, "hostUsers").as_bool().unwrap_or(true),
            grace_seconds: int(spec, "terminationGracePeriodSeconds"),
        }
    }
}

pub fn containers(spec: &Value, path: &Path, errors: &mut Errors) {
    let around = Around::of(spec);
    let regular = list(spec, "containers");
    let p = path.child("containers");
    if regular.is_empty() {
        errors.required(p.clone(), "");
    }
    let mut seen: Vec<&str> = Vec::new();
    for (i, c) in regular.iter().enumerate() {
        let p = p.index(i);
        common(c, &around, &p, errors);
        let name = text(c, "name");
        if !name.is_empty() && seen.contains(&name) {
            errors.duplicate(p.child("name"), name);
        }
        seen.push(name);
        lifecycle_and_probes(c, &around, &p, errors);
        restart_policy(c, &p, errors);
    }
    host_ports(regular, 0, &p, errors);

    let init = list(spec, "initContainers");
    let p = path.child("initContainers");
    for (i, c) in init.iter().enumerate() {
        let p = p.index(i);
        let sidecar = text(c, "restartPolicy") == "Always";
        common(c, &around, &p, errors);
        restart_policy(c, &p, errors);
        let name = text(c, "name");
        if !name.is_empty() && seen.contains(&name) {
            errors.duplicate(p.child("name"), name);
        }
        seen.push(name);
        if sidecar {
            lifecycle_and_probes(c, &around, &p, errors);
        } else {
            for key in ["lifecycle", "livenessProbe", "readinessProbe", "startupProbe"] {
                if has(c, key) {
                    errors.forbidden(p.child(key), INIT_ONLY_SIDECAR);
                }
            }
        }
        host_ports(std::slice::from_ref(c), i, &path.child("initContainers"), errors);
    }
}

/// `ephemeralContainers`: fewer fields, names unique over all containers.
pub fn ephemeral_containers(spec: &Value, path: &Path, errors: &mut Errors) {
    const ALLOWED: &[&str] = &[
        "name",
        "targetContainerName",
        "image",
        "command",
        "args",
        "workingDir",
        "envFrom",
        "env",
        "volumeMounts",
        "volumeDevices",
        "terminationMessagePath",
        "terminationMessagePolicy",
        "imagePullPolicy",
        "securityContext",
        "stdin",
        "stdinOnce",
        "tty",
    ];
    let ephemeral = list(spec, "ephemeralContainers");
    if ephemeral.is_empty() {
        return;
    }
    let around = Around::of(spec);
    let others: Vec<&str> =
        ["containers", "initContainers"].iter().flat_map(|l| list(spec, l)).map(|c| text(c, "name")).collect();
    let mut seen = others.clone();
    for (i, c) in ephemeral.iter().enumerate() {
        let p = path.child("ephemeralContainers").index(i);
        common(c, &around, &p, errors);
        let name = text(c, "name");
        if !name.is_empty() {
            if seen.contains(&name) {
                errors.duplicate(p.child("name"), name);
            } else {
                seen.push(name);
            }
        }
        let target = text(c, "targetContainerName");
        if !target.is_empty() && !others.contains(&target) {
            errors.not_found(p.child("targetContainerName"), target);
        }
        for (key, v) in c.as_object().into_iter().flatten() {
            if !ALLOWED.contains(&key.as_str()) && !is_zero(v) {
                errors.forbidden(p.child(key), "cannot be set for an Ephemeral Container");
            }
        }
        for (j, m) in list(c, "volumeMounts").iter().enumerate() {
            for key in ["subPath", "subPathExpr"] {
                if !text(m, key).is_empty() {
                    let p = p.child("volumeMounts").index(j).child(key);
                    errors.forbidden(p, "cannot be set for an Ephemeral Container");
                }
            }
        }
    }
}

fn restart_policy(c: &Value, p: &Path, errors: &mut Errors) {
    if has(c, "restartPolicy") {
        values::one_of(text(c, "restartPolicy"), &["Always", "Never", "OnFailure"], p.child("restartPolicy"), errors);
    } else if !list(c, "restartPolicyRules").is_empty() {
        errors.required(p.child("restartPolicy"), "must specify restartPolicy when restart rules are used");
    }
    let rules = list(c, "restartPolicyRules");
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
        values::required_one_of(text(codes, "operator"), &["In", "NotIn"], p.child("operator"), errors);
        if list(codes, "values").len() > 255 {
            errors.too_many(p.child("values"), list(codes, "values").len(), 255);
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
    let image = text(c, "image");
    if image.is_empty() {
        errors.required(p.child("image"), "");
    } else if image.trim() != image {
        errors.invalid(p.child("image"), image, "must not have leading or trailing whitespace");
    }
    let message = text(c, "terminationMessagePolicy");
    if message.is_empty() {
        errors.required(p.child("terminationMessagePolicy"), "");
    } else {
        let supported = &["FallbackToLogsOnError", "File"];
        values::one_of(message, supported, p.child("terminationMessagePolicy"), errors);
    }
    ports(list(c, "ports"), &p.child("ports"), errors);
    env(list(c, "env"), &p.child("env"), errors);
    env_from(list(c, "envFrom"), &p.child("envFrom"), errors);
    volume_mounts(c, around, p, errors);
    let policy = text(c, "imagePullPolicy");
    values::required_one_of(policy, &["Always", "IfNotPresent", "Never"], p.child("imagePullPolicy"), errors);
    resources::resource_requirements(field(c, "resources"), &around.claims, &p.child("resources"), errors);
    resize_policy(list(c, "resizePolicy"), &p.child("resizePolicy"), errors);
    security::container(field(c, "securityContext"), around.host_users, &p.child("securityContext"), errors);
}

fn resize_policy(policies: &[Value], path: &Path, errors: &mut Errors) {
    for (i, r) in policies.iter().enumerate() {
        let p = path.index(i);
        let name = text(r, "resourceName");
        if policies.iter().take(i).any(|o| text(o, "resourceName") == name) {
            errors.duplicate(p.clone(), name);
        }
        values::required_one_of(name, &["cpu", "memory"], path.clone(), errors);
        values::required_one_of(text(r, "restartPolicy"), &["NotRequired", "RestartContainer"], path.clone(), errors);
    }
}

fn ports(ports: &[Value], path: &Path, errors: &mut Errors) {
    let mut seen: Vec<&str> = Vec::new();
    for (i, port) in ports.iter().enumerate() {
        let p = path.index(i);
        let name = text(port, "name");
        if !name.is_empty() {
            let messages = names::port_name(name);
            let fine = messages.is_empty();
            values::each(errors, &p.child("name"), name, messages);
            if seen.contains(&name) {
                errors.duplicate(p.child("name"), name);
            } else if fine {
                seen.push(name);
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
        let host_ip = text(port, "hostIP");
        if !host_ip.is_empty() {
            values::ip(host_ip, &p.child("hostIP"), errors);
        }
    }
}

/// Host ports may be taken once. `first` is the position of the first container in its list.
fn host_ports(containers: &[Value], first: usize, path: &Path, errors: &mut Errors) {
    let mut seen: Vec<String> = Vec::new();
    for (i, c) in containers.iter().enumerate() {
        for (j, port) in list(c, "ports").iter().enumerate() {
            let n = int(port, "hostPort").unwrap_or(0);
            if n == 0 {
                continue;
            }
            let key = format!("{}/{}/{n}", text(port, "protocol"), text(port, "hostIP"));
            if seen.contains(&key) {
                errors.duplicate(path.index(first + i).child("ports").index(j).child("hostPort"), key);
            } else {
                seen.push(key);
            }
        }
    }
}

fn env(env: &[Value], path: &Path, errors: &mut Errors) {
    for (i, e) in env.iter().enumerate() {
        let p = path.index(i);
        match text(e, "name") {
            "" => errors.required(p.child("name"), ""),
            name => values::each(errors, &p.child("name"), name, env_name(name)),
        }
        if has(e, "valueFrom") {
            env_source(e, &p.child("valueFrom"), errors);
        }
    }
}

/// Since 1.34 any printable ASCII but `=` will do.
fn env_name(name: &str) -> Vec<String> {
    if name.chars().all(|c| (' '..='~').contains(&c) && c != '=') {
        Vec::new()
    } else {
        vec![
            "a valid environment variable name must consist only of printable ASCII characters other than '='"
                .to_string(),
        ]
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
            if text(r, "name").is_empty() {
                errors.required(p.child("name"), "");
            }
            config_key(text(r, "key"), &p.child("key"), errors);
        }
    }
    let file = field(from, "fileKeyRef");
    if !file.is_null() {
        count += 1;
        for key in ["volumeName", "path", "key"] {
            if text(file, key).is_empty() {
                errors.required(p.child("fileKeyRef").child(key), "");
            }
        }
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
    if let Some((base, rest)) = path.split_once("['")
        && let Some(key) = rest.strip_suffix("']")
    {
        match base {
            "metadata.annotations" => {
                values::each(errors, p, key, names::qualified_name(&key.to_lowercase()));
            }
            "metadata.labels" => values::qualified_name(key, p, errors),
            _ => errors.invalid(p.clone(), base, "does not support subscript"),
        }
        return;
    }
    if !KNOWN_FIELDS.contains(&path) {
        let text = format!("error converting fieldPath: field label not supported: {path}");
        errors.invalid(p.child("fieldPath"), path, text);
    } else if !supported.contains(&path) {
        errors.not_supported(p.child("fieldPath"), path, supported);
    }
}

pub fn resource_field_ref(r: &Value, volume: bool, p: &Path, errors: &mut Errors) {
    if volume && text(r, "containerName").is_empty() {
        errors.required(p.child("containerName"), "");
    }
    let resource = text(r, "resource");
    if resource.is_empty() {
        errors.required(p.child("resource"), "");
        return;
    }
    let huge = resource.starts_with("limits.hugepages-") || resource.starts_with("requests.hugepages-");
    if !CONTAINER_RESOURCES.contains(&resource) && !huge {
        errors.not_supported(p.child("resource"), resource, CONTAINER_RESOURCES);
    }
    let divisor = resources::parse(field(r, "divisor")).map_or_else(|| "0".to_string(), |q| q.canonical());
    let (allowed, what): (&[&str], &str) = if resource.ends_with(".cpu") {
        (&["0", "1m", "1"], "only divisor's values 1m and 1 are supported with the cpu resource")
    } else {
        (
            &["0", "1", "1k", "1M", "1G", "1T", "1P", "1E", "1Ki", "1Mi", "1Gi", "1Ti", "1Pi", "1Ei"],
            "only divisor's values 1, 1k, 1M, 1G, 1T, 1P, 1E, 1Ki, 1Mi, 1Gi, 1Ti, 1Pi, 1Ei are supported with the memory resource",
        )
    };
    if !allowed.contains(&divisor.as_str()) {
        errors.invalid(p.child("divisor"), resource, what);
    }
}

fn env_from(sources: &[Value], path: &Path, errors: &mut Errors) {
    for (i, s) in sources.iter().enumerate() {
        let p = path.index(i);
        let prefix = text(s, "prefix");
        if !prefix.is_empty() {
            values::each(errors, &p.child("prefix"), prefix, env_name(prefix));
        }
        let mut count = 0;
        for key in ["configMapRef", "secretRef"] {
            if has(s, key) {
                count += 1;
                if text_at(s, &[key, "name"]).is_empty() {
                    errors.required(p.child(key).child("name"), "");
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

fn volume_mounts(c: &Value, around: &Around, p: &Path, errors: &mut Errors) {
    let mut paths: Vec<&str> = Vec::new();
    for (i, m) in list(c, "volumeMounts").iter().enumerate() {
        let p = p.child("volumeMounts").index(i);
        let name = text(m, "name");
        if name.is_empty() {
            errors.required(p.child("name"), "");
        }
        let volume = around.volumes.iter().find(|v| v.0 == name);
        if volume.is_none() {
            errors.not_found(p.child("name"), name);
        }
        let path = text(m, "mountPath");
        if path.is_empty() {
            errors.required(p.child("mountPath"), "");
        }
        if paths.contains(&path) {
            errors.invalid(p.child("mountPath"), path, "must be unique");
        }
        paths.push(path);
        let (sub, expr) = (text(m, "subPath"), text(m, "subPathExpr"));
        if !sub.is_empty() {
            values::descending_path(sub, &p.child("subPath"), errors);
        }
        if !expr.is_empty() {
            if !sub.is_empty() {
                errors.invalid(p.child("subPathExpr"), expr, "subPathExpr and subPath are mutually exclusive");
            }
            values::descending_path(expr, &p.child("subPathExpr"), errors);
        }
        if has(m, "mountPropagation") {
            let mode = text(m, "mountPropagation");
            let p = p.child("mountPropagation");
            values::one_of(mode, &["Bidirectional", "HostToContainer", "None"], p.clone(), errors);
            if mode == "Bidirectional" && !flag(field(c, "securityContext"), "privileged") {
                let text = "Bidirectional mount propagation is available only to privileged containers";
                errors.forbidden(p, text);
            }
        }
        let recursive = text(m, "recursiveReadOnly");
        if !recursive.is_empty() {
            let p = p.child("recursiveReadOnly");
            values::one_of(recursive, &["Disabled", "Enabled", "IfPossible"], p.clone(), errors);
            if recursive != "Disabled" && !flag(m, "readOnly") {
                errors.forbidden(p.clone(), "may only be specified when readOnly is true");
            }
            if recursive != "Disabled" && !matches!(text(m, "mountPropagation"), "" | "None") {
                errors.forbidden(p, "may only be specified when mountPropagation is None or not specified");
            }
        }
    }
    let mut devices: Vec<&str> = Vec::new();
    for (i, d) in list(c, "volumeDevices").iter().enumerate() {
        let p = p.child("volumeDevices").index(i);
        let (name, path) = (text(d, "name"), text(d, "devicePath"));
        if name.is_empty() {
            errors.required(p.child("name"), "");
        }
        match around.volumes.iter().find(|v| v.0 == name) {
            None => errors.not_found(p.child("name"), name),
            Some((_, v)) if !has(v, "persistentVolumeClaim") && !has(v, "ephemeral") => errors.invalid(
                p.child("name"),
                name,
                "can only use volume source type of PersistentVolumeClaim or Ephemeral for block mode",
            ),
            Some(_) => {}
        }
        if path.is_empty() {
            errors.required(p.child("devicePath"), "");
        }
        if devices.contains(&path) {
            errors.invalid(p.child("devicePath"), path, "must be unique");
        } else if paths.contains(&path) {
            errors.invalid(p.child("devicePath"), path, "must not already exist in volumeMounts");
        }
        devices.push(path);
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
            if kind == "readinessProbe" {
                let text = "must not be set for readinessProbes";
                errors.invalid(p.child("terminationGracePeriodSeconds"), seconds, text);
            } else if seconds <= 0 {
                errors.invalid(p.child("terminationGracePeriodSeconds"), seconds, "must be greater than 0");
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
