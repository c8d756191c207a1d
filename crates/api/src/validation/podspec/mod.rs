//! Pod specs and pod templates (core `ValidatePodSpec`): the driver, and the rules of the spec's own fields.

mod container;
mod os;
mod resources;
mod scheduling;
mod security;
mod volumes;

pub use container::ephemeral_containers;
pub use resources::{milli, parse as parse_quantity, quantity_value, resource_list, resource_requirements};
pub use scheduling::{added_tolerations_only, node_selector, tolerations};
pub use volumes::volume_source_count;

use super::access::*;
use super::{labels, objectmeta, values};
use meta::field::{Errors, Path};
use meta::names;
use serde_json::Value;

/// A `PodTemplateSpec`.
pub fn pod_template(template: &Value, path: &Path, errors: &mut Errors) {
    objectmeta::template_meta(template, path, errors);
    let spec = field(template, "spec");
    pod_spec(spec, &path.child("spec"), errors);
    if !list(spec, "ephemeralContainers").is_empty() {
        let text = "ephemeral containers not allowed in pod template";
        errors.forbidden(path.child("spec.ephemeralContainers"), text);
    }
}

/// A `PodSpec`, after defaults.
pub fn pod_spec(spec: &Value, path: &Path, errors: &mut Errors) {
    volumes::volumes(list(spec, "volumes"), &path.child("volumes"), errors);
    resource_claims(list(spec, "resourceClaims"), &path.child("resourceClaims"), errors);
    container::containers(spec, path, errors);
    ephemeral_containers(spec, path, errors);
    if has(spec, "resources") {
        resources::pod_resources(spec, &path.child("resources"), errors);
    }
    values::required_one_of(
        text(spec, "restartPolicy"),
        &["Always", "Never", "OnFailure"],
        path.child("restartPolicy"),
        errors,
    );
    values::required_one_of(
        text(spec, "dnsPolicy"),
        &["ClusterFirst", "ClusterFirstWithHostNet", "Default", "None"],
        path.child("dnsPolicy"),
        errors,
    );
    labels::labels(field(spec, "nodeSelector"), &path.child("nodeSelector"), errors);
    security::pod(spec, path, errors);
    host_namespaces(spec, path, errors);
    scheduling::affinity(field(spec, "affinity"), &path.child("affinity"), errors);
    dns_config(spec, path, errors);
    for (i, g) in list(spec, "readinessGates").iter().enumerate() {
        let p = path.child("readinessGates").index(i).child("conditionType");
        values::qualified_name(text(g, "conditionType"), &p, errors);
    }
    scheduling::scheduling_gates(list(spec, "schedulingGates"), &path.child("schedulingGates"), errors);
    scheduling::topology_spread(
        list(spec, "topologySpreadConstraints"),
        &path.child("topologySpreadConstraints"),
        errors,
    );
    os::host_process(spec, path, errors);
    let subdomain = |key: &str, errors: &mut Errors| {
        let value = text(spec, key);
        if !value.is_empty() {
            values::dns_subdomain(value, &path.child(key), errors);
        }
    };
    subdomain("serviceAccountName", errors);
    subdomain("nodeName", errors);
    if let Some(seconds) = int(spec, "activeDeadlineSeconds")
        && !(1..=i64::from(i32::MAX)).contains(&seconds)
    {
        errors.invalid(path.child("activeDeadlineSeconds"), seconds, values::between(1, i64::from(i32::MAX)));
    }
    for key in ["hostname", "subdomain"] {
        let value = text(spec, key);
        if !value.is_empty() {
            values::dns_label(value, &path.child(key), errors);
        }
    }
    tolerations(list(spec, "tolerations"), &path.child("tolerations"), errors);
    for (i, alias) in list(spec, "hostAliases").iter().enumerate() {
        let p = path.child("hostAliases").index(i);
        values::ip(text(alias, "ip"), &p.child("ip"), errors);
        for name in texts(alias, "hostnames") {
            values::dns_subdomain(name, &p.child("hostnames"), errors);
        }
    }
    subdomain("priorityClassName", errors);
    subdomain("runtimeClassName", errors);
    let preemption = text(spec, "preemptionPolicy");
    if !preemption.is_empty() {
        values::one_of(preemption, &["Never", "PreemptLowerPriority"], path.child("preemptionPolicy"), errors);
    }
    for (name, quantity) in entries(spec, "overhead") {
        let p = path.child("overhead").key(name);
        resources::container_resource_name(name, &p, errors);
        resources::quantity_value(name, quantity, &p, errors);
    }
    if has(spec, "os") {
        let os = text_at(spec, &["os", "name"]);
        values::required_one_of(os, &["linux", "windows"], path.child("os.name"), errors);
        os::fields(spec, os, path, errors);
    }
}

fn resource_claims(claims: &[Value], path: &Path, errors: &mut Errors) {
    for (i, c) in claims.iter().enumerate() {
        let p = path.index(i);
        let name = text(c, "name");
        if name.is_empty() {
            errors.required(p.child("name"), "");
        } else if claims.iter().take(i).any(|o| text(o, "name") == name) {
            errors.duplicate(p.child("name"), name);
        } else {
            values::dns_label(name, &p.child("name"), errors);
        }
        match (has(c, "resourceClaimName"), has(c, "resourceClaimTemplateName")) {
            (true, true) => errors.invalid(
                p,
                c.clone(),
                "at most one of `resourceClaimName` or `resourceClaimTemplateName` may be specified",
            ),
            (false, false) => {
                let text = "must specify one of: `resourceClaimName`, `resourceClaimTemplateName`";
                errors.invalid(p, c.clone(), text);
            }
            (true, false) => values::dns_subdomain(text(c, "resourceClaimName"), &p.child("resourceClaimName"), errors),
            (false, true) => values::dns_subdomain(
                text(c, "resourceClaimTemplateName"),
                &p.child("resourceClaimTemplateName"),
                errors,
            ),
        }
    }
}

fn dns_config(spec: &Value, path: &Path, errors: &mut Errors) {
    let policy = text(spec, "dnsPolicy");
    let config = field(spec, "dnsConfig");
    let path = path.child("dnsConfig");
    let servers = texts(config, "nameservers");
    if policy == "None" {
        if config.is_null() {
            errors.required(path.clone(), "must provide `dnsConfig` when `dnsPolicy` is None");
            return;
        }
        if servers.is_empty() {
            let text = "must provide at least one DNS nameserver when `dnsPolicy` is None";
            errors.required(path.child("nameservers"), text);
        }
    }
    if servers.len() > 3 {
        let value = field(config, "nameservers").clone();
        errors.invalid(path.child("nameservers"), value, "must not have more than 3 nameservers");
    }
    for (i, s) in servers.iter().enumerate() {
        values::ip(s, &path.child("nameservers").index(i), errors);
    }
    let searches = texts(config, "searches");
    if searches.len() > 32 {
        let value = field(config, "searches").clone();
        errors.invalid(path.child("searches"), value, "must not have more than 32 search paths");
    }
    if searches.join(" ").len() > 2048 {
        let text = "must not have more than 2048 characters (including spaces) in the search list";
        errors.invalid(path.child("searches"), field(config, "searches").clone(), text);
    }
    for (i, s) in searches.iter().enumerate() {
        let s = s.strip_suffix('.').unwrap_or(s);
        // Underscores are in use in search paths, and a lone dot is the root.
        if !s.is_empty() && !names::dns1123_subdomain(&s.replace('_', "a")).is_empty() {
            values::dns_subdomain(s, &path.child("searches").index(i), errors);
        }
    }
    for (i, o) in list(config, "options").iter().enumerate() {
        if text(o, "name").is_empty() {
            errors.required(path.child("options").index(i), "must not be empty");
        }
    }
}

fn host_namespaces(spec: &Value, path: &Path, errors: &mut Errors) {
    if flag(spec, "hostPID") && flag(spec, "shareProcessNamespace") {
        let text = "ShareProcessNamespace and HostPID cannot both be enabled";
        errors.invalid(path.child("shareProcessNamespace"), true, text);
    }
    if field(spec, "hostUsers").as_bool() == Some(false) {
        for key in ["hostNetwork", "hostPID", "hostIPC"] {
            if flag(spec, key) {
                errors.forbidden(path.child(key), "when `hostUsers` is false");
            }
        }
        for key in ["containers", "initContainers"] {
            for (i, c) in list(spec, key).iter().enumerate() {
                if !list(c, "volumeDevices").is_empty() {
                    errors.forbidden(path.child(key).index(i).child("volumeDevices"), "when `hostUsers` is false");
                }
            }
        }
    }
    if flag(spec, "hostNetwork") {
        for key in ["containers", "initContainers"] {
            for (i, c) in list(spec, key).iter().enumerate() {
                for (j, p) in list(c, "ports").iter().enumerate() {
                    let (port, host) = (int(p, "containerPort").unwrap_or(0), int(p, "hostPort").unwrap_or(0));
                    // 0 in a template: the pod made from it gets the default.
                    if host != 0 && port != host {
                        errors.invalid(
                            path.child(key).index(i).child("ports").index(j).child("hostPort"),
                            host,
                            "must match `containerPort` when `hostNetwork` is true",
                        );
                    }
                }
            }
        }
    }
}
