//! Ingress (networking.k8s.io).

use super::columns;
use crate::strategy::{AGE, Column, NAME, Now, Strategy, column};
use crate::validation::access::*;
use crate::validation::seen::Seen;
use crate::validation::values;
use meta::field::{Errors, Path};
use meta::names;
use serde_json::{Value, json};

pub struct Ingress;

/// The first three hosts. Rules beyond the third host count as more, whether they name a host or not.
fn hosts(rules: &[Value]) -> String {
    const MAX: usize = 3;
    let named: Vec<usize> = (0..rules.len()).filter(|i| !text(&rules[*i], "host").is_empty()).take(MAX).collect();
    let shown: Vec<&str> = named.iter().map(|i| text(&rules[*i], "host")).collect();
    match named.last() {
        None => "*".to_string(),
        Some(last) if named.len() == MAX && last + 1 < rules.len() => {
            format!("{} + {} more...", shown.join(","), rules.len() - MAX)
        }
        Some(_) => shown.join(","),
    }
}

impl Strategy for Ingress {
    fn validate_create(&self, obj: &Value, errors: &mut Errors) {
        spec(field(obj, "spec"), &Value::Null, errors);
        let annotation = at(obj, &["metadata", "annotations", "kubernetes.io/ingress.class"]);
        let class = at(obj, &["spec", "ingressClassName"]);
        if !annotation.is_null() && !class.is_null() && annotation != class {
            let p = Path::new("annotations.kubernetes.io/ingress.class");
            errors.invalid(p, annotation.clone(), "must match `ingressClassName` when both are specified");
        }
    }

    fn validate_update(&self, new: &Value, old: &Value, errors: &mut Errors) {
        spec(field(new, "spec"), field(old, "spec"), errors);
    }

    fn validate_status_update(&self, new: &Value, old: &Value, errors: &mut Errors) {
        let ingress = |o| list_at(o, &["status", "loadBalancer", "ingress"]);
        let before: Seen<&str> = ingress(old).iter().map(|e| text(e, "ip")).collect();
        for (i, entry) in ingress(new).iter().enumerate() {
            let p = Path::new("status.loadBalancer.ingress").index(i);
            let (ip, name) = (text(entry, "ip"), text(entry, "hostname"));
            if !ip.is_empty() {
                values::ip_or_old(ip, &before, &p.child("ip"), errors);
            }
            if !name.is_empty() {
                values::host_name(name, &p.child("hostname"), errors);
            }
        }
    }

    fn status_warnings(&self, new: &Value, _old: &Value) -> Vec<String> {
        let mut out = Vec::new();
        for (i, e) in list_at(new, &["status", "loadBalancer", "ingress"]).iter().enumerate() {
            let p = Path::new("status.loadBalancer.ingress").index(i).child("ip");
            values::ip_warnings(text(e, "ip"), &p, &mut out);
        }
        out
    }

    fn warnings(&self, new: &Value, old: Option<&Value>) -> Vec<String> {
        let annotation = "kubernetes.io/ingress.class";
        let classless = !has(field(new, "spec"), "ingressClassName");
        if old.is_none() && classless && has(at(new, &["metadata", "annotations"]), annotation) {
            let text = format!("annotation {annotation:?} is deprecated, please use 'spec.ingressClassName' instead");
            return vec![text];
        }
        Vec::new()
    }

    fn columns(&self) -> &'static [Column] {
        const COLUMNS: &[Column] = &[
            NAME,
            column("Class", "string", 0, "IngressClass that says who serves the ingress."),
            column("Hosts", "string", 0, "Hosts that the rules are about."),
            column("Address", "string", 0, "Where the load balancer takes requests."),
            column("Ports", "string", 0, "Ports that are open, those of TLS included."),
            AGE,
        ];
        COLUMNS
    }

    fn row(&self, obj: &Value, now: Now) -> Vec<Value> {
        let spec = field(obj, "spec");
        let mut addresses: Vec<&str> = list_at(obj, &["status", "loadBalancer", "ingress"])
            .iter()
            .map(|i| if text(i, "ip").is_empty() { text(i, "hostname") } else { text(i, "ip") })
            .filter(|a| !a.is_empty())
            .collect();
        addresses.sort_unstable();
        addresses.dedup();
        vec![
            columns::name(obj),
            columns::or_none(text(spec, "ingressClassName")),
            json!(hosts(list(spec, "rules"))),
            json!(addresses.join(",")),
            json!(if list(spec, "tls").is_empty() { "80" } else { "80, 443" }),
            columns::age_cell(obj, now),
        ]
    }

    fn has_generation(&self) -> bool {
        true
    }
}

/// `old`: the older version's, or null: what was allowed once of names of secrets and of rules for wildcard hosts
/// may stay.
fn spec(spec: &Value, old: &Value, errors: &mut Errors) {
    let path = Path::new("spec");
    let bad_secret = |t: &Value| {
        let name = text(t, "secretName");
        !name.is_empty() && !names::dns1123_subdomain(name).is_empty()
    };
    let any_secret = list(old, "tls").iter().any(bad_secret);
    let any_wildcard = list(old, "rules").iter().filter(|r| text(r, "host").contains('*')).any(|r| {
        let mut faults = Errors::default();
        rule(r, &path, &mut faults);
        !faults.is_empty()
    });
    if list(spec, "rules").is_empty() && !has(spec, "defaultBackend") {
        let text = "either `defaultBackend` or `rules` must be specified";
        errors.invalid(path.clone(), field(spec, "rules").clone(), text);
    }
    if has(spec, "defaultBackend") {
        backend(field(spec, "defaultBackend"), &path.child("defaultBackend"), errors);
    }
    for (i, r) in list(spec, "rules").iter().enumerate() {
        let (p, name) = (path.child("rules").index(i), text(r, "host"));
        if values::is_ip(name) {
            errors.invalid(p.child("host"), name, "must be a DNS name, not an IP address");
        }
        if !name.is_empty() {
            host(name, &p.child("host"), errors);
        }
        if !(any_wildcard && name.contains('*')) {
            rule(r, &p, errors);
        }
    }
    for (i, t) in list(spec, "tls").iter().enumerate() {
        let p = path.child("tls").index(i);
        for (j, h) in texts(t, "hosts").iter().enumerate() {
            host(h, &p.child("hosts").index(j), errors);
        }
        let secret = text(t, "secretName");
        if !secret.is_empty() && !any_secret {
            values::dns_subdomain(secret, &p.child("secretName"), errors);
        }
    }
    if has(spec, "ingressClassName") {
        values::dns_subdomain(text(spec, "ingressClassName"), &path.child("ingressClassName"), errors);
    }
}

fn rule(r: &Value, path: &Path, errors: &mut Errors) {
    let http = field(r, "http");
    if http.is_null() {
        return;
    }
    let p = path.child("http").child("paths");
    if list(http, "paths").is_empty() {
        errors.required(p.clone(), "");
    }
    for (j, entry) in list(http, "paths").iter().enumerate() {
        http_path(entry, &p.index(j), errors);
    }
}

fn host(host: &str, path: &Path, errors: &mut Errors) {
    if host.contains('*') {
        values::each(errors, path, host, names::wildcard_dns1123_subdomain(host));
    } else {
        values::dns_subdomain(host, path, errors);
    }
}

fn http_path(entry: &Value, path: &Path, errors: &mut Errors) {
    let at = text(entry, "path");
    match text(entry, "pathType") {
        "" if !has(entry, "pathType") => {
            return errors.required(path.child("pathType"), "pathType must be specified");
        }
        "Exact" | "Prefix" => {
            if !at.starts_with('/') {
                errors.invalid(path.child("path"), at, "must be an absolute path");
            }
            for bad in ["//", "/./", "/../", "%2f", "%2F"] {
                if at.contains(bad) {
                    errors.invalid(path.child("path"), at, format!("must not contain '{bad}'"));
                }
            }
            for bad in ["/..", "/."] {
                if at.ends_with(bad) {
                    errors.invalid(path.child("path"), at, format!("cannot end with '{bad}'"));
                }
            }
        }
        "ImplementationSpecific" => {
            if !at.is_empty() && !at.starts_with('/') {
                errors.invalid(path.child("path"), at, "must be an absolute path");
            }
        }
        other => {
            let supported = ["Exact", "ImplementationSpecific", "Prefix"];
            errors.not_supported(path.child("pathType"), other, &supported);
        }
    }
    backend(field(entry, "backend"), &path.child("backend"), errors);
}

fn backend(b: &Value, path: &Path, errors: &mut Errors) {
    let (service, resource) = (field(b, "service"), field(b, "resource"));
    match (service.is_null(), resource.is_null()) {
        (false, false) => errors.invalid(path.clone(), "", "cannot set both resource and service backends"),
        (true, true) => errors.invalid(path.clone(), "", "resource or service backend is required"),
        (true, false) => typed_reference(resource, &path.child("resource"), errors),
        (false, true) => {
            let p = path.child("service");
            match text(service, "name") {
                "" => errors.required(p.child("name"), ""),
                name => values::dns_label(name, &p.child("name"), errors),
            }
            let port = field(service, "port");
            let (name, number) = (text(port, "name"), int(port, "number").unwrap_or(0));
            if !name.is_empty() && number != 0 {
                errors.invalid(path.clone(), "", "cannot set both port name & port number");
            } else if !name.is_empty() {
                values::each(errors, &p.child("port.name"), name, names::port_name(name));
            } else if number != 0 {
                values::port_number(number, p.child("port.number"), errors);
            } else {
                errors.required(path.clone(), "port name or number is required");
            }
        }
    }
}

/// A group (optional), a kind and a name that fit into a URL.
pub fn typed_reference(r: &Value, path: &Path, errors: &mut Errors) {
    if has(r, "apiGroup") {
        values::dns_subdomain(text(r, "apiGroup"), &path.child("apiGroup"), errors);
    }
    for key in ["kind", "name"] {
        match text(r, key) {
            "" => errors.required(path.child(key), ""),
            v => values::path_segment(v, &path.child(key), errors),
        }
    }
}
