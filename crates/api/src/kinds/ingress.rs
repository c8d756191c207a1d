//! Ingress (networking.k8s.io).

use super::columns;
use crate::strategy::{Column, NAME, Now, Strategy, column};
use crate::validation::access::*;
use crate::validation::values;
use meta::field::{Errors, Path};
use meta::names;
use serde_json::{Value, json};

pub struct Ingress;

impl Strategy for Ingress {
    fn validate_create(&self, obj: &Value, errors: &mut Errors) {
        let annotation = text_at(obj, &["metadata", "annotations", "kubernetes.io/ingress.class"]);
        let class = text_at(obj, &["spec", "ingressClassName"]);
        if !annotation.is_empty() && !class.is_empty() && annotation != class {
            let p = Path::new("annotations.kubernetes.io/ingress.class");
            errors.invalid(p, annotation, "must match `ingressClassName` when both are specified");
        }
        spec(field(obj, "spec"), errors);
    }

    fn validate_update(&self, new: &Value, _old: &Value, errors: &mut Errors) {
        spec(field(new, "spec"), errors);
    }

    fn validate_status_update(&self, new: &Value, _old: &Value, errors: &mut Errors) {
        for (i, entry) in list_at(new, &["status", "loadBalancer", "ingress"]).iter().enumerate() {
            let p = Path::new("status.loadBalancer.ingress").index(i);
            let (ip, name) = (text(entry, "ip"), text(entry, "hostname"));
            if !ip.is_empty() {
                values::ip(ip, &p.child("ip"), errors);
            }
            if !name.is_empty() {
                values::dns_subdomain(name, &p.child("hostname"), errors);
                if name.parse::<std::net::IpAddr>().is_ok() {
                    errors.invalid(p.child("hostname"), name, "must be a DNS name, not an IP address");
                }
            }
        }
    }

    fn warnings(&self, new: &Value, old: Option<&Value>) -> Vec<String> {
        let annotation = "kubernetes.io/ingress.class";
        if old.is_none() && has(at(new, &["metadata", "annotations"]), annotation) {
            let text = format!("annotation {annotation:?} is deprecated, please use 'spec.ingressClassName' instead");
            return vec![text];
        }
        Vec::new()
    }

    fn columns(&self) -> &'static [Column] {
        const COLUMNS: &[Column] = &[
            NAME,
            column("Class", "string", 0),
            column("Hosts", "string", 0),
            column("Address", "string", 0),
            column("Ports", "string", 0),
            column("Age", "string", 0),
        ];
        COLUMNS
    }

    fn row(&self, obj: &Value, now: Now) -> Vec<Value> {
        let spec = field(obj, "spec");
        let hosts: Vec<String> =
            list(spec, "rules").iter().map(|r| text(r, "host")).filter(|h| !h.is_empty()).map(str::to_string).collect();
        let addresses: Vec<&str> = list_at(obj, &["status", "loadBalancer", "ingress"])
            .iter()
            .map(|i| if text(i, "ip").is_empty() { text(i, "hostname") } else { text(i, "ip") })
            .collect();
        vec![
            columns::name(obj),
            columns::or_none(text(spec, "ingressClassName")),
            json!(columns::at_most(&hosts, 3, "*")),
            json!(addresses.join(",")),
            json!(if list(spec, "tls").is_empty() { "80" } else { "80, 443" }),
            columns::age_cell(obj, now),
        ]
    }

    fn has_generation(&self) -> bool {
        true
    }
}

fn spec(spec: &Value, errors: &mut Errors) {
    let path = Path::new("spec");
    if list(spec, "rules").is_empty() && !has(spec, "defaultBackend") {
        let text = "either `defaultBackend` or `rules` must be specified";
        errors.invalid(path.clone(), spec.clone(), text);
    }
    if has(spec, "defaultBackend") {
        backend(field(spec, "defaultBackend"), &path.child("defaultBackend"), errors);
    }
    for (i, r) in list(spec, "rules").iter().enumerate() {
        let p = path.child("rules").index(i);
        host(text(r, "host"), &p.child("host"), errors);
        let http = field(r, "http");
        if http.is_null() {
            continue;
        }
        let p = p.child("http").child("paths");
        if list(http, "paths").is_empty() {
            errors.required(p.clone(), "");
        }
        for (j, entry) in list(http, "paths").iter().enumerate() {
            http_path(entry, &p.index(j), errors);
        }
    }
    for (i, t) in list(spec, "tls").iter().enumerate() {
        let p = path.child("tls").index(i);
        for (j, h) in texts(t, "hosts").iter().enumerate() {
            host(h, &p.child("hosts").index(j), errors);
        }
        let secret = text(t, "secretName");
        if !secret.is_empty() {
            values::dns_subdomain(secret, &p.child("secretName"), errors);
        }
    }
    if has(spec, "ingressClassName") {
        values::dns_subdomain(text(spec, "ingressClassName"), &path.child("ingressClassName"), errors);
    }
}

fn host(host: &str, path: &Path, errors: &mut Errors) {
    if host.is_empty() {
        return;
    }
    if host.parse::<std::net::IpAddr>().is_ok() {
        errors.invalid(path.clone(), host, "must be a DNS name, not an IP address");
    } else if host.contains('*') {
        values::each(errors, path, host, names::wildcard_dns1123_subdomain(host));
    } else {
        values::dns_subdomain(host, path, errors);
    }
}

fn http_path(entry: &Value, path: &Path, errors: &mut Errors) {
    let at = text(entry, "path");
    match text(entry, "pathType") {
        "" => errors.required(path.child("pathType"), "pathType must be specified"),
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
        (true, true) => errors.required(path.clone(), "resource or service backend is required"),
        (true, false) => {
            for key in ["kind", "name"] {
                if text(resource, key).is_empty() {
                    errors.required(path.child("resource").child(key), "");
                }
            }
        }
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
