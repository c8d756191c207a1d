//! Resource names and amounts: requests, limits, overhead, quotas.

use crate::validation::access::*;
use crate::validation::seen::Seen;
use crate::validation::values;
use meta::field::{Errors, Path, Reason};
use meta::names;
use meta::quantity::Quantity;
use serde_json::{Value, json};
use std::collections::{BTreeSet, HashMap};

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

/// A resource of some vendor: `example.com/gpu`.
pub fn is_extended(name: &str) -> bool {
    !is_native(name) && !name.starts_with("requests.") && names::qualified_name(&format!("requests.{name}")).is_empty()
}

pub fn overcommit_allowed(name: &str) -> bool {
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
        .contains(&name);
    if counted && q.milli_value() % 1000 != 0 {
        errors.invalid(path.clone(), shown(v), "must be an integer");
    }
}

/// `resources` of a container.
pub fn resource_requirements(r: &Value, claims: &BTreeSet<&str>, path: &Path, errors: &mut Errors) {
    requirements(r, container_resource_name, path, errors);
    claim_names(list(r, "claims"), claims, &path.child("claims"), errors);
}

/// What a pod costs beyond its containers; upstream reads it as limits, which shows in the paths.
pub fn overhead(v: &Value, path: &Path, errors: &mut Errors) {
    if v.is_object() {
        requirements(&json!({"limits": v}), container_resource_name, path, errors);
    }
}

fn requirements(r: &Value, name_rule: fn(&str, &Path, &mut Errors), path: &Path, errors: &mut Errors) {
    let (limits, requests) = (path.child("limits"), path.child("requests"));
    let (mut huge, mut base) = (false, false);
    let mut amount = |name: &str, q: &Value, p: &Path, errors: &mut Errors| {
        name_rule(name, p, errors);
        quantity_value(name, q, p, errors);
        huge |= name.starts_with("hugepages-");
        base |= name == "cpu" || name == "memory";
    };
    for (name, q) in entries(r, "limits") {
        let p = limits.key(name);
        amount(name, q, &p, errors);
        whole_huge_pages(name, q, &p, errors);
    }
    for (name, q) in entries(r, "requests") {
        let p = requests.key(name);
        amount(name, q, &p, errors);
        request_within_limit(name, q, field(field(r, "limits"), name), path, errors);
        whole_huge_pages(name, q, &p, errors);
    }
    if huge && !base {
        errors.forbidden(path.clone(), "HugePages require cpu or memory");
    }
}

fn whole_huge_pages(name: &str, v: &Value, path: &Path, errors: &mut Errors) {
    let Some(size) = name.strip_prefix("hugepages-") else {
        return;
    };
    let page = Quantity::parse(size).ok().filter(|p| p.sign() > 0 && p.milli_value() % 1000 == 0);
    let whole = page.zip(parse(v)).is_some_and(|(page, q)| page.value() != 0 && q.value() % page.value() == 0);
    if !whole {
        errors.invalid(path.clone(), shown(v), format!("{} is not positive integer multiple of {name}", shown(v)));
    }
}

/// Claims of a container: each request of a claim once, and a claim as a whole only alone.
fn claim_names(claims: &[Value], of_pod: &BTreeSet<&str>, path: &Path, errors: &mut Errors) {
    // Claims with what is asked of them (empty: all), and how many different requests there were of each.
    let (mut seen, mut requests) = (Seen::default(), HashMap::new());
    for (i, c) in claims.iter().enumerate() {
        let p = path.index(i);
        let (name, request) = (text(c, "name"), text(c, "request"));
        if name.is_empty() {
            errors.required(p, "");
            continue;
        }
        let whole = request.is_empty();
        if !whole {
            values::dns_label(request, &p.child("request"), errors);
        }
        if seen.has(&(name, "")) {
            errors.duplicate(p.clone(), name);
        } else if seen.again((name, request)) {
            errors.duplicate(p.clone(), format!("{name}/{request}"));
        } else if whole {
            (0..requests.get(name).copied().unwrap_or(0)).for_each(|_| errors.duplicate(p.clone(), name));
        } else {
            *requests.entry(name).or_insert(0) += 1;
        }
        if !of_pod.contains(name) {
            let of = if of_pod.is_empty() { " which is empty".into() } else { format!(": {}", named(of_pod)) };
            let text = format!("must be one of the names in pod.spec.resourceClaims{of}");
            values::push(errors, Reason::NotFound, p, name, text);
        }
    }
}

// Differs from upstream: it names all, each time. Ten thousand wrong names of ten thousand claims would fill the memory.
fn named(all: &BTreeSet<&str>) -> String {
    const BYTES_MAX: usize = 1024;
    let mut out = String::new();
    for (i, name) in all.iter().enumerate() {
        if out.len() + name.len() > BYTES_MAX {
            out.push_str(", ...");
            break;
        }
        if i > 0 {
            out.push_str(", ");
        }
        out.push_str(name);
    }
    out
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

fn pod_resource_name(name: &str, path: &Path, errors: &mut Errors) {
    let before = errors.0.len();
    resource_name(name, path, errors);
    let supported = ["cpu", "memory"].contains(&name) || name.starts_with("hugepages-");
    if errors.0.len() == before && !supported {
        errors.not_supported(path.clone(), name, &["cpu", "hugepages-", "memory"]);
    }
}

/// `spec.resources` of a pod: cpu, memory and hugepages only, with room for all containers.
pub fn pod_resources(spec: &Value, spec_path: &Path, errors: &mut Errors) {
    let r = field(spec, "resources");
    let path = spec_path.child("resources");
    if text_at(spec, &["os", "name"]) == "windows" {
        return errors.forbidden(path, "may not be set for a windows pod");
    }
    if has(r, "claims") {
        errors.forbidden(path.child("claims"), "claims may not be set for Resources at pod-level");
    }
    requirements(r, pod_resource_name, &path, errors);
    containers_fit(spec, r, &path, errors);
}

/// The pod's own amounts leave room for its containers.
fn containers_fit(spec: &Value, r: &Value, path: &Path, errors: &mut Errors) {
    let bare = without_pod_resources(spec);
    let asked = crate::quota::pod_total(&bare, "requests");
    for (name, q) in entries(r, "requests") {
        if let (Some(pod), Some(sum)) = (parse(q), asked.get(name))
            && pod < *sum
        {
            let text = format!("must be greater than or equal to aggregate container requests of {sum}");
            errors.invalid(path.child("requests").key(name), shown(q), text);
        }
    }
    let limited = crate::quota::pod_total(&bare, "limits");
    for (name, q) in entries(r, "limits").filter(|(n, _)| n.starts_with("hugepages-")) {
        if let (Some(pod), Some(sum)) = (parse(q), limited.get(name))
            && pod < *sum
        {
            let text = format!("must be greater than or equal to aggregate container limits of {sum}");
            errors.invalid(path.child("limits").key(name), shown(q), text);
        }
    }
    for (i, c) in list(spec, "containers").iter().enumerate() {
        for (name, q) in entries(field(c, "resources"), "limits") {
            if let (Some(own), Some(pod)) = (parse(q), parse(field(field(r, "limits"), name)))
                && own > pod
            {
                let p = path.child("containers").index(i).key(name).child("limits");
                errors.invalid(p, shown(q), format!("must be less than or equal to pod limits of {pod}"));
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
