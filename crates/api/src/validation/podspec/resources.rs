//! Resource names and amounts: requests, limits, overhead, quotas.

use crate::validation::access::*;
use crate::validation::values;
use meta::field::{Errors, Path};
use meta::names;
use meta::quantity::Quantity;
use serde_json::Value;

/// A quantity in JSON: a string, or a bare number.
pub fn parse(v: &Value) -> Option<Quantity> {
    if v.is_null() { None } else { Quantity::from_value(v).ok() }
}

/// Thousandths, rounded up; 0 for anything unreadable.
pub fn milli(v: &Value) -> i64 {
    parse(v).map_or(0, |q| q.milli_value())
}

fn shown(v: &Value) -> String {
    parse(v).map_or_else(|| v.to_string(), |q| q.canonical())
}

/// Kubernetes' own resources that nodes offer to containers.
fn is_standard_container(name: &str) -> bool {
    ["cpu", "memory", "ephemeral-storage"].contains(&name) || name.starts_with("hugepages-")
}

/// Names without a prefix that quotas and limit ranges know.
fn is_standard(name: &str) -> bool {
    is_standard_container(name)
        || name.starts_with("requests.hugepages-")
        || [
            "requests.cpu",
            "requests.memory",
            "requests.ephemeral-storage",
            "limits.cpu",
            "limits.memory",
            "limits.ephemeral-storage",
            "pods",
            "resourcequotas",
            "services",
            "replicationcontrollers",
            "secrets",
            "configmaps",
            "persistentvolumeclaims",
            "storage",
            "requests.storage",
            "services.nodeports",
            "services.loadbalancers",
        ]
        .contains(&name)
}

fn is_native(name: &str) -> bool {
    !name.contains('/') || name.contains("kubernetes.io/")
}

fn is_extended(name: &str) -> bool {
    !is_native(name) && !name.starts_with("requests.") && names::qualified_name(&format!("requests.{name}")).is_empty()
}

fn overcommit_allowed(name: &str) -> bool {
    is_native(name) && !name.starts_with("hugepages-")
}

pub fn resource_name(name: &str, path: &Path, errors: &mut Errors) {
    let messages = names::qualified_name(name);
    if !messages.is_empty() {
        values::each(errors, path, name, messages);
    } else if !name.contains('/') && !is_standard(name) {
        errors.invalid(path.clone(), name, "must be a standard resource type or fully qualified");
    }
}

pub fn container_resource_name(name: &str, path: &Path, errors: &mut Errors) {
    resource_name(name, path, errors);
    if !name.contains('/') {
        if !is_standard_container(name) {
            errors.invalid(path.clone(), name, "must be a standard resource for containers");
        }
    } else if !is_native(name) && !is_extended(name) {
        errors.invalid(path.clone(), name, "doesn't follow extended resource name standard");
    }
}

pub fn quantity_value(name: &str, v: &Value, path: &Path, errors: &mut Errors) {
    let Some(q) = parse(v) else {
        errors.invalid(
            path.clone(),
            v.clone(),
            "quantities must match the regular expression '^([+-]?[0-9.]+)([eEinumkKMGTP]*[-+]?[0-9]*)$'",
        );
        return;
    };
    if q.sign() < 0 {
        errors.invalid(path.clone(), shown(v), values::NEGATIVE);
    }
    let counted = is_extended(name)
        || [
            "pods",
            "services",
            "replicationcontrollers",
            "resourcequotas",
            "secrets",
            "configmaps",
            "persistentvolumeclaims",
            "services.nodeports",
            "services.loadbalancers",
        ]
        .contains(&name)
        || name.starts_with("count/");
    if counted && q.milli_value() % 1000 != 0 {
        errors.invalid(path.clone(), shown(v), "must be an integer");
    }
}

/// Amounts by name, where any standard or qualified name will do (nodes, quotas).
pub fn resource_list(v: &Value, path: &Path, errors: &mut Errors) {
    for (name, q) in v.as_object().into_iter().flatten() {
        let p = path.key(name);
        resource_name(name, &p, errors);
        quantity_value(name, q, &p, errors);
    }
}

/// `resources` of a container.
pub fn resource_requirements(r: &Value, claims: &[&str], path: &Path, errors: &mut Errors) {
    let (limits, requests) = (path.child("limits"), path.child("requests"));
    let (mut huge, mut base) = (false, false);
    for (name, q) in entries(r, "limits") {
        let p = limits.key(name);
        container_resource_name(name, &p, errors);
        quantity_value(name, q, &p, errors);
        huge |= name.starts_with("hugepages-");
        base |= name == "cpu" || name == "memory";
    }
    for (name, q) in entries(r, "requests") {
        let p = requests.key(name);
        container_resource_name(name, &p, errors);
        quantity_value(name, q, &p, errors);
        huge |= name.starts_with("hugepages-");
        base |= name == "cpu" || name == "memory";
        request_within_limit(name, q, field(field(r, "limits"), name), path, errors);
    }
    if huge && !base {
        errors.forbidden(path.clone(), "HugePages require cpu or memory");
    }
    let mut seen = Vec::new();
    for (i, c) in list(r, "claims").iter().enumerate() {
        let p = path.child("claims").index(i);
        let name = text(c, "name");
        if name.is_empty() {
            errors.required(p.child("name"), "");
        } else if seen.contains(&name) {
            errors.duplicate(p, c.clone());
        } else {
            if !claims.contains(&name) {
                errors.not_found(p.child("name"), name);
            }
            seen.push(name);
        }
    }
}

fn request_within_limit(name: &str, request: &Value, limit: &Value, path: &Path, errors: &mut Errors) {
    if limit.is_null() {
        if !overcommit_allowed(name) {
            errors.required(path.child("limits"), "Limit must be set for non overcommitable resources");
        }
        return;
    }
    let (Some(r), Some(l)) = (parse(request), parse(limit)) else {
        return;
    };
    if r != l && !overcommit_allowed(name) {
        errors.invalid(
            path.child("requests"),
            shown(request),
            format!("must be equal to {name} limit of {}", shown(limit)),
        );
    } else if r > l {
        errors.invalid(
            path.child("requests"),
            shown(request),
            format!("must be less than or equal to {name} limit of {}", shown(limit)),
        );
    }
}

/// `spec.resources` of a pod: cpu, memory and hugepages only.
pub fn pod_resources(spec: &Value, path: &Path, errors: &mut Errors) {
    let r = field(spec, "resources");
    for kind in ["limits", "requests"] {
        for (name, q) in entries(r, kind) {
            let p = path.child(kind).key(name);
            if !["cpu", "memory"].contains(&name) && !name.starts_with("hugepages-") {
                errors.not_supported(p.clone(), name, &["cpu", "hugepages-", "memory"]);
            }
            quantity_value(name, q, &p, errors);
            if kind == "requests" {
                request_within_limit(name, q, field(field(r, "limits"), name), path, errors);
            }
        }
    }
    containers_fit(spec, r, path, errors);
}

/// The pod's own amounts leave room for its containers.
fn containers_fit(spec: &Value, r: &Value, path: &Path, errors: &mut Errors) {
    let asked = crate::quota::pod_total(&without_pod_resources(spec), "requests");
    for (name, q) in entries(r, "requests") {
        if let (Some(pod), Some(sum)) = (parse(q), asked.get(name))
            && pod < *sum
        {
            let text = format!("must be greater than or equal to aggregate container requests of {sum}");
            errors.invalid(path.child("requests").key(name), shown(q), text);
        }
    }
    for kind in ["containers", "initContainers"] {
        for (i, c) in list(spec, kind).iter().enumerate() {
            for (name, q) in entries(field(c, "resources"), "limits") {
                if let (Some(own), Some(pod)) = (parse(q), parse(field(field(r, "limits"), name)))
                    && own > pod
                {
                    let p = Path::new("spec").child(kind).index(i).child("resources.limits").key(name);
                    errors.invalid(p, shown(q), format!("must be less than or equal to pod limits of {pod}"));
                }
            }
        }
    }
}

fn without_pod_resources(spec: &Value) -> Value {
    let mut spec = spec.clone();
    remove(&mut spec, "resources");
    remove(&mut spec, "overhead");
    spec
}
