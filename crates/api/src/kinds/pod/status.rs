//! Writes to a pod's `status`, by its kubelet above all (upstream: `podStatusStrategy`, `ValidatePodStatusUpdate`).

use crate::validation::access::*;
use crate::validation::podspec::{self, annotations};
use crate::validation::seen::Seen;
use crate::validation::values;
use meta::field::{Errors, Path};
use serde_json::{Value, json};
use std::collections::{HashMap, VecDeque};

/// What a status write may not undo, or leaves out because its writer is old.
pub fn prepare(new: &mut Value, old: &Value) {
    let was = field(old, "status");
    let Some(status) = ensure_object(new, "status") else {
        return;
    };
    if text(status, "qosClass").is_empty() {
        copy_field(status, was, "qosClass");
    }
    if int(status, "observedGeneration").unwrap_or(0) == 0 {
        copy_field(status, was, "observedGeneration");
    }
    // Conditions of one type may repeat: each takes over the generation of the next old one.
    let mut old_conditions: HashMap<&str, VecDeque<&Value>> = HashMap::new();
    for c in list(was, "conditions") {
        old_conditions.entry(text(c, "type")).or_default().push_back(c);
    }
    for c in items_mut(status, "conditions") {
        let Some(before) = old_conditions.get_mut(text(c, "type")).and_then(VecDeque::pop_front) else {
            continue;
        };
        if int(c, "observedGeneration").unwrap_or(0) == 0 {
            copy_field(c, before, "observedGeneration");
        }
    }
}

pub fn validate(new: &Value, old: &Value, errors: &mut Errors) {
    let path = Path::new("status");
    let (n, o) = (field(new, "status"), field(old, "status"));
    annotations::update(new, old, errors);
    conditions(list(n, "conditions"), &path.child("conditions"), errors);
    nominated(old, n, o, &path.child("nominatedNodeName"), errors);
    if let Some(g) = int(n, "observedGeneration").filter(|g| *g < 0) {
        errors.invalid(path.child("observedGeneration"), g, "must be a non-negative integer");
    }
    values::immutable(field(n, "qosClass"), field(o, "qosClass"), path.child("qosClass"), errors);
    transitions(old, n, o, &path, errors);
    claims(new, n, &path, errors);
    let addresses = |status: &Value, key: &str| {
        list(status, key).iter().map(|i| text(i, "ip").to_string()).collect::<Vec<String>>()
    };
    for key in ["podIPs", "hostIPs"] {
        let p = path.child(key);
        let (is, was) = (addresses(n, key), addresses(o, key));
        if key == "hostIPs" && !is.is_empty() && text(n, "hostIP") != is[0] {
            errors.invalid(p.index(0).child("ip"), is[0].as_str(), "must be equal to `hostIP`");
        }
        let was: Seen<&str> = was.iter().map(String::as_str).collect();
        for (i, ip) in is.iter().enumerate() {
            values::ip_or_old(ip, &was, &p.index(i), errors);
        }
        let is: Vec<&str> = is.iter().map(String::as_str).collect();
        if !values::one_of_each_family(&is) {
            let text = "may specify no more than one IP for each IP family";
            errors.invalid(p, field(n, key).clone(), text);
        }
    }
    const KINDS: [&str; 3] = ["containerStatuses", "initContainerStatuses", "ephemeralContainerStatuses"];
    for key in KINDS {
        users(new, list(n, key), &path.child(key), errors);
    }
    for (key, of) in KINDS.iter().zip(["containers", "initContainers"]) {
        allocated(list(n, key), list_at(new, &["spec", of]), &path.child(key), errors);
    }
    for (i, c) in list(n, KINDS[2]).iter().enumerate() {
        if !list(c, "allocatedResourcesStatus").is_empty() {
            let p = path.child(KINDS[2]).index(i).child("allocatedResourcesStatus");
            errors.forbidden(p, "must not be specified in container status");
        }
    }
}

fn conditions(conditions: &[Value], path: &Path, errors: &mut Errors) {
    for (i, c) in conditions.iter().enumerate() {
        let p = path.index(i);
        if let Some(g) = int(c, "observedGeneration").filter(|g| *g < 0) {
            errors.invalid(p.child("observedGeneration"), g, "must be a non-negative integer");
        }
        let kind = text(c, "type");
        if !["PodScheduled", "Ready", "Initialized"].contains(&kind) {
            values::qualified_name(kind, &p.child("Type"), errors);
        }
    }
}

fn nominated(old: &Value, n: &Value, o: &Value, p: &Path, errors: &mut Errors) {
    let name = text(n, "nominatedNodeName");
    if name.is_empty() || name == text(o, "nominatedNodeName") {
        return;
    }
    values::dns_subdomain(name, p, errors);
    if !text_at(old, &["spec", "nodeName"]).is_empty() {
        errors.forbidden(p.clone(), "may not be set on pods that are already bound to a node");
    }
}

/// A container that has ended runs again only where its policy restarts it.
fn transitions(old: &Value, n: &Value, o: &Value, path: &Path, errors: &mut Errors) {
    let spec = field(old, "spec");
    let policy = match text(spec, "restartPolicy") {
        "" => "Always",
        policy => policy,
    };
    let all_restart = ["containers", "initContainers"]
        .iter()
        .flat_map(|l| list(spec, l))
        .any(|c| list(c, "restartPolicyRules").iter().any(|r| text(r, "action") == "RestartAllContainers"));
    let (containers, inits) = (first_by_name(list(spec, "containers")), first_by_name(list(spec, "initContainers")));
    for key in ["containerStatuses", "initContainerStatuses", "ephemeralContainerStatuses"] {
        let now = first_by_name(list(n, key));
        for (i, was) in list(o, key).iter().enumerate() {
            let ended = at(was, &["state", "terminated"]);
            let name = text(was, "name");
            let is = now.get(name);
            if ended.is_null() || is.is_none_or(|is| has(field(is, "state"), "terminated")) {
                continue;
            }
            let code = int(ended, "exitCode").unwrap_or(0);
            let allowed = match key {
                "containerStatuses" => containers.get(name).is_some_and(|c| restarts(c, policy, code)),
                "initContainerStatuses" => inits.get(name).is_some_and(|c| restarts(c, policy, code)),
                _ => false,
            };
            if !allowed && !(all_restart && key != "ephemeralContainerStatuses") {
                let p = path.child(key).index(i).child("state");
                errors.forbidden(p, "may not be transitioned to non-terminated state");
            }
        }
    }
}

/// By the first of its rules that speaks of the code, else by its own policy, else by the pod's.
fn restarts(c: &Value, of_pod: &str, code: i64) -> bool {
    for rule in list(c, "restartPolicyRules") {
        let codes = field(rule, "exitCodes");
        let listed = list(codes, "values").iter().any(|v| v.as_i64() == Some(code));
        let matches = match text(codes, "operator") {
            "In" => listed,
            "NotIn" => !listed,
            _ => false,
        };
        if matches {
            return ["Restart", "RestartAllContainers"].contains(&text(rule, "action"));
        }
    }
    match if has(c, "restartPolicy") { text(c, "restartPolicy") } else { of_pod } {
        "Always" => true,
        "OnFailure" => code != 0,
        _ => false,
    }
}

fn claims(new: &Value, n: &Value, path: &Path, errors: &mut Errors) {
    let of_pod: Seen<&str> = list_at(new, &["spec", "resourceClaims"]).iter().map(|c| text(c, "name")).collect();
    let statuses = list(n, "resourceClaimStatuses");
    let mut seen = Seen::default();
    for (i, s) in statuses.iter().enumerate() {
        let p = path.child("resourceClaimStatuses").index(i);
        let name = text(s, "name");
        if !of_pod.has(&name) {
            errors.invalid(p.child("name"), name, "must match the name of an entry in `spec.resourceClaims`");
        }
        if seen.again(name) {
            errors.duplicate(p.child("name"), name);
        }
        if has(s, "resourceClaimName") {
            values::dns_subdomain(text(s, "resourceClaimName"), &p.child("resourceClaimName"), errors);
        }
    }
    let extended = field(n, "extendedResourceClaimStatus");
    if extended.is_null() {
        return;
    }
    let path = path.child("extendedResourceClaimStatus");
    let (mappings, list_path) = (list(extended, "requestMappings"), path.child("requestMappings"));
    if mappings.is_empty() {
        errors.required(list_path.clone(), "at least one request mapping is required");
    }
    // Of two containers of one name the first one tells.
    let mut containers: HashMap<&str, &Value> = HashMap::new();
    for c in ["containers", "initContainers"].iter().flat_map(|l| list_at(new, &["spec", l])) {
        containers.entry(text(c, "name")).or_insert(c);
    }
    let mut seen = Seen::default();
    for (i, m) in mappings.iter().enumerate() {
        let p = list_path.index(i);
        let [container, resource, request] = ["containerName", "resourceName", "requestName"].map(|k| text(m, k));
        match containers.get(container) {
            None => errors.invalid(
                p.child("containerName"),
                container,
                "must match the name of an entry in spec.initContainers.name or spec.containers.name",
            ),
            Some(c) if !has(at(c, &["resources", "requests"]), resource) => errors.invalid(
                p.child("resourceName"),
                resource,
                "must match the extended resource name of an entry in spec.initContainers.resources.requests or spec.containers.resources.requests",
            ),
            Some(_) => {}
        }
        values::dns_label(text(m, "requestName"), &path.child("requestName"), errors);
        if seen.again([container, resource, request]) {
            errors.duplicate(p.child("containerName"), container);
            errors.duplicate(p.child("resourceName"), resource);
            errors.duplicate(p.child("requestName"), request);
        }
    }
    match text(extended, "resourceClaimName") {
        "" => errors.required(path.child("resourceClaimName"), ""),
        name => values::dns_subdomain(name, &path.child("resourceClaimName"), errors),
    }
}

fn users(new: &Value, statuses: &[Value], path: &Path, errors: &mut Errors) {
    let windows = text_at(new, &["spec", "os", "name"]) == "windows";
    for (i, s) in statuses.iter().enumerate() {
        let user = at(s, &["user", "linux"]);
        let p = path.index(i).child("user.linux");
        if user.is_null() {
            continue;
        }
        if windows {
            errors.forbidden(p, "cannot be set for a windows pod");
            continue;
        }
        podspec::user_id(int(user, "uid").unwrap_or(0), p.child("uid"), errors);
        podspec::group_id(int(user, "gid").unwrap_or(0), p.child("gid"), errors);
        for (g, id) in list(user, "supplementalGroups").iter().enumerate() {
            podspec::group_id(id.as_i64().unwrap_or(0), p.child("supplementalGroups").index(g), errors);
        }
    }
}

/// Health of devices: of resources that the container asked for, each device once.
fn allocated(statuses: &[Value], containers: &[Value], path: &Path, errors: &mut Errors) {
    const HEALTH: &[&str] = &["Healthy", "Unhealthy", "Unknown"];
    const MESSAGE_BYTES_MAX: usize = 1024;
    let claim = |c: &Value| match text(c, "request") {
        "" => format!("claim:{}", text(c, "name")),
        request => format!("claim:{}/{request}", text(c, "name")),
    };
    let claims = |c| list(field(c, "resources"), "claims").iter().map(claim).collect();
    let asked: HashMap<&str, (&Value, Seen<String>)> =
        first_by_name(containers).into_iter().map(|(name, c)| (name, (c, claims(c)))).collect();
    for (i, s) in statuses.iter().enumerate() {
        let container = asked.get(text(s, "name"));
        for (j, a) in list(s, "allocatedResourcesStatus").iter().enumerate() {
            let p = path.index(i).child("allocatedResourcesStatus").index(j);
            let name = text(a, "name");
            if let Some((c, claims)) = container {
                let (found, text) = if name.starts_with("claim:") {
                    (
                        claims.has(&name.to_string()),
                        "must match one of the container's resource claims in a format 'claim:<claimName>/<request>' or 'claim:<claimName>' if request is empty",
                    )
                } else {
                    let requested = has(at(c, &["resources", "requests"]), name);
                    (requested, "must match one of the container's resource requests")
                };
                if !found {
                    errors.invalid(p.child("name"), name, text);
                }
            }
            let mut devices = Seen::default();
            for (k, r) in list(a, "resources").iter().enumerate() {
                let p = p.child("resources").index(k);
                values::one_of(text(r, "health"), HEALTH, p.child("health"), errors);
                if has(r, "message") {
                    match text(r, "message").len() {
                        0 => errors.required(p.child("message"), "must be non-empty if specified"),
                        n if n > MESSAGE_BYTES_MAX => errors.too_long(p.child("message"), MESSAGE_BYTES_MAX),
                        _ => {}
                    }
                }
                let id = text(r, "resourceID");
                if devices.again(id) {
                    errors.duplicate(p.child("resourceID"), id);
                }
            }
        }
    }
}

/// Addresses that are accepted, but had better be written otherwise.
pub fn warnings(new: &Value) -> Vec<String> {
    let mut out = Vec::new();
    for key in ["podIPs", "hostIPs"] {
        for (i, a) in list_at(new, &["status", key]).iter().enumerate() {
            values::ip_warnings(text(a, "ip"), &Path::new("status").child(key).index(i).child("ip"), &mut out);
        }
    }
    out
}

/// The status of a new pod.
pub fn initial(obj: &Value) -> Value {
    let mut status = json!({"phase": "Pending", "qosClass": super::qos::class(field(obj, "spec"))});
    if !list_at(obj, &["spec", "schedulingGates"]).is_empty() {
        status["conditions"] = json!([{
            "type": "PodScheduled",
            "status": "False",
            "reason": "SchedulingGated",
            "message": "Scheduling is blocked due to non-empty scheduling gates",
        }]);
    }
    status
}
