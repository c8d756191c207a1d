//! Pod specs and pod templates (core `ValidatePodSpec`): the driver, and the rules of the spec's own fields.

pub mod annotations;
mod container;
mod os;
mod resources;
mod scheduling;
mod security;
mod volumes;

pub use container::init_resize_policies;
pub use resources::{
    container_resource_name, is_extended, milli, overcommit_allowed, overhead, parse as parse_quantity, quantity_value,
    resource_name, resource_requirements,
};
pub use scheduling::{added_tolerations_only, label_key, node_selector, taint_effect, tolerations};
pub use security::{apparmor, group_id, user_id};
pub use volumes::{csi_driver_name, persistent_source, volume_source_count};

use super::access::*;
use super::seen::Seen;
use super::{labels, values};
use meta::field::{Errors, Path};
use meta::names;
use serde_json::Value;
use std::collections::{BTreeSet, HashMap};

/// All containers of a pod, in the order in which upstream visits them.
pub const LISTS: [&str; 3] = ["initContainers", "containers", "ephemeralContainers"];

/// What rules about a part of a pod need to know of the whole.
pub struct Around<'a> {
    /// Metadata of the pod; of a template there is none.
    meta: Option<&'a Value>,
    volumes: HashMap<&'a str, &'a Value>,
    claims: BTreeSet<&'a str>,
    host_users: bool,
    grace_seconds: Option<i64>,
    restart_policy: &'a str,
}

impl<'a> Around<'a> {
    fn of(spec: &'a Value, meta: Option<&'a Value>) -> Around<'a> {
        Around {
            meta,
            volumes: HashMap::new(),
            claims: list(spec, "resourceClaims").iter().map(|c| text(c, "name")).filter(|n| !n.is_empty()).collect(),
            host_users: field(spec, "hostUsers").as_bool().unwrap_or(true),
            grace_seconds: int(spec, "terminationGracePeriodSeconds"),
            restart_policy: text(spec, "restartPolicy"),
        }
    }

    fn is_pod(&self) -> bool {
        self.meta.is_some()
    }

    fn pod_name(&self) -> &'a str {
        self.meta.map_or("", |m| text(m, "name"))
    }

    fn volume(&self, name: &str) -> Option<&'a Value> {
        self.volumes.get(name).copied()
    }
}

/// A `PodTemplateSpec`.
pub fn pod_template(template: &Value, path: &Path, errors: &mut Errors) {
    let (meta, spec) = (field(template, "metadata"), field(template, "spec"));
    labels::labels(field(meta, "labels"), &path.child("labels"), errors);
    labels::annotations(field(meta, "annotations"), &path.child("annotations"), errors);
    annotations::pod_specific(meta, spec, &path.child("annotations"), errors);
    pod_spec(spec, None, &path.child("spec"), errors);
    init_resize_policies(spec, &path.child("spec"), errors);
    annotations::match_fields(meta, spec, &path.child("spec"), errors);
    if !list(spec, "ephemeralContainers").is_empty() {
        let text = "ephemeral containers not allowed in pod template";
        errors.forbidden(path.child("spec.ephemeralContainers"), text);
    }
}

/// A pod itself: what upstream asks of it on every write that may change the spec, beyond `ObjectMeta`.
pub fn pod(pod: &Value, errors: &mut Errors) {
    let (meta, spec, path) = (field(pod, "metadata"), field(pod, "spec"), Path::new("spec"));
    annotations::pod_specific(meta, spec, &Path::new("metadata.annotations"), errors);
    pod_spec(spec, Some(meta), &path, errors);
    if text(spec, "serviceAccountName").is_empty() {
        for (i, v) in list(spec, "volumes").iter().enumerate() {
            for (j, s) in list_at(v, &["projected", "sources"]).iter().enumerate() {
                if has(s, "serviceAccountToken") {
                    let p = path.child("volumes").index(i).child("projected.sources").index(j);
                    let text = "must not be specified when serviceAccountName is not set";
                    errors.forbidden(p.child("serviceAccountToken"), text);
                }
            }
        }
    }
    for lists in ["containers", "initContainers"] {
        for (i, c) in list(spec, lists).iter().enumerate() {
            container::image_untrimmed(c, &path.child(lists).index(i), errors);
        }
    }
}

/// A `PodSpec`, after defaults. `meta` is the pod's; a template has none.
fn pod_spec(spec: &Value, meta: Option<&Value>, path: &Path, errors: &mut Errors) {
    if !has(spec, "terminationGracePeriodSeconds") {
        errors.required(path.child("terminationGracePeriodSeconds"), "");
    }
    let mut around = Around::of(spec, meta);
    around.volumes = volumes::volumes(spec, &around, &path.child("volumes"), errors);
    resource_claims(list(spec, "resourceClaims"), meta, &path.child("resourceClaims"), errors);
    container::containers(spec, &around, path, errors);
    container::ephemeral_containers(spec, &around, path, errors);
    if has(spec, "resources") {
        resources::pod_resources(spec, path, errors);
    }
    host_network_ports(spec, around.is_pod(), path, errors);
    values::required_one_of(
        text(spec, "restartPolicy"),
        &["Always", "OnFailure", "Never"],
        path.child("restartPolicy"),
        errors,
    );
    values::required_one_of(
        text(spec, "dnsPolicy"),
        &["ClusterFirstWithHostNet", "ClusterFirst", "Default", "None"],
        path.child("dnsPolicy"),
        errors,
    );
    labels::labels(field(spec, "nodeSelector"), &path.child("nodeSelector"), errors);
    security::pod(spec, path, errors);
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
    host_users(spec, path, errors);
    hostname_override(spec, path, errors);
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
        for (j, name) in texts(alias, "hostnames").iter().enumerate() {
            values::dns_subdomain(name, &p.child("hostnames").index(j), errors);
        }
    }
    subdomain("priorityClassName", errors);
    if has(spec, "runtimeClassName") {
        values::dns_subdomain(text(spec, "runtimeClassName"), &path.child("runtimeClassName"), errors);
    }
    if has(spec, "preemptionPolicy") {
        values::required_one_of(
            text(spec, "preemptionPolicy"),
            &["PreemptLowerPriority", "Never"],
            path.child("preemptionPolicy"),
            errors,
        );
    }
    resources::overhead(field(spec, "overhead"), &path.child("overhead"), errors);
    if has(spec, "os") {
        match text_at(spec, &["os", "name"]) {
            "" => errors.required(path.child("os.name"), ""),
            os @ ("linux" | "windows") => os::fields(spec, os, path, errors),
            other => errors.not_supported(path.child("os"), other, &["linux", "windows"]),
        }
    }
    container::file_key_volumes(spec, path, errors);
}

fn resource_claims(claims: &[Value], meta: Option<&Value>, path: &Path, errors: &mut Errors) {
    let mut seen = Seen::default();
    for (i, c) in claims.iter().enumerate() {
        let p = path.index(i);
        if meta.is_some_and(annotations::is_mirror) {
            errors.forbidden(Path::new("[]"), "static pods do not support resource claims");
            continue;
        }
        let name = text(c, "name");
        if name.is_empty() {
            errors.required(p.child("name"), "");
        } else if seen.again(name) {
            errors.duplicate(p.child("name"), name);
        } else {
            values::dns_label(name, &p.child("name"), errors);
        }
        let (by_name, by_template) = (has(c, "resourceClaimName"), has(c, "resourceClaimTemplateName"));
        if by_name && by_template {
            let text = "at most one of `resourceClaimName` or `resourceClaimTemplateName` may be specified";
            errors.invalid(p.clone(), c.clone(), text);
        }
        if !by_name && !by_template {
            let text = "must specify one of: `resourceClaimName`, `resourceClaimTemplateName`";
            errors.invalid(p.clone(), c.clone(), text);
        }
        for key in ["resourceClaimName", "resourceClaimTemplateName"] {
            if has(c, key) {
                values::dns_subdomain(text(c, key), &p.child(key), errors);
            }
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
            return;
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
        // A lone dot is the root. Underscores are in use in search paths.
        if *s != "." {
            let name = s.strip_suffix('.').unwrap_or(s);
            let p = path.child("searches").index(i);
            values::each(errors, &p, name, names::dns1123_subdomain_with_underscore(name));
        }
    }
    for (i, o) in list(config, "options").iter().enumerate() {
        if text(o, "name").is_empty() {
            errors.required(path.child("options").index(i), "must not be empty");
        }
    }
}

fn host_users(spec: &Value, path: &Path, errors: &mut Errors) {
    const TEXT: &str = "when `hostUsers` is false";
    if field(spec, "hostUsers").as_bool() != Some(false) {
        return;
    }
    // Upstream spells two of them with a capital.
    for (key, shown) in [("hostNetwork", "hostNetwork"), ("hostPID", "HostPID"), ("hostIPC", "HostIPC")] {
        if flag(spec, key) {
            errors.forbidden(path.child(shown), TEXT);
        }
    }
    for lists in LISTS {
        for (i, c) in list(spec, lists).iter().enumerate() {
            if !list(c, "volumeDevices").is_empty() {
                errors.forbidden(path.child(lists).index(i).child("volumeDevices"), TEXT);
            }
        }
    }
}

fn hostname_override(spec: &Value, path: &Path, errors: &mut Errors) {
    if !has(spec, "hostnameOverride") {
        return;
    }
    let p = path.child("hostnameOverride");
    if flag(spec, "setHostnameAsFQDN") {
        errors.forbidden(p.clone(), "may not be specified when setHostnameAsFQDN is true");
    }
    if flag(spec, "hostNetwork") {
        errors.forbidden(p.clone(), "may not be specified when hostNetwork is true");
    }
    let name = text(spec, "hostnameOverride");
    if name.len() > 64 {
        errors.too_long(p.clone(), 64);
    }
    values::dns_subdomain(name, &p, errors);
}

/// On the host's network a container's port is the host's; a template may still leave the latter to defaults.
fn host_network_ports(spec: &Value, is_pod: bool, path: &Path, errors: &mut Errors) {
    if !flag(spec, "hostNetwork") {
        return;
    }
    for (i, c) in list(spec, "containers").iter().enumerate() {
        for (j, p) in list(c, "ports").iter().enumerate() {
            let (port, host) = (int(p, "containerPort").unwrap_or(0), int(p, "hostPort").unwrap_or(0));
            if (is_pod || host != 0) && port != host {
                let p = path.child("containers").index(i).child("ports").index(j).child("hostPort");
                errors.invalid(p, host, "must match `containerPort` when `hostNetwork` is true");
            }
        }
    }
}
