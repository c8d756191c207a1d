//! Endpoints (the older form; EndpointSlices carry the same).

use super::columns;
use crate::strategy::{AGE, Column, NAME, Now, Strategy, column_of};
use crate::validation::access::*;
use crate::validation::values;
use meta::field::{Errors, Path};
use serde_json::{Value, json};

pub struct Endpoints;

impl Strategy for Endpoints {
    fn deprecation(&self) -> Option<&'static str> {
        Some("v1 Endpoints is deprecated in v1.33+; use discovery.k8s.io/v1 EndpointSlice")
    }

    fn defaults(&self, obj: &mut Value) {
        for s in items_mut(obj, "subsets") {
            for p in items_mut(s, "ports") {
                fill_zero(p, "protocol", "TCP");
            }
        }
    }

    fn validate_create(&self, obj: &Value, errors: &mut Errors) {
        subsets(obj, errors);
    }

    // What was accepted once may stay, as long as none of it changes.
    fn validate_update(&self, new: &Value, old: &Value, errors: &mut Errors) {
        if !same(field(new, "subsets"), field(old, "subsets")) {
            subsets(new, errors);
        }
    }

    fn warnings(&self, new: &Value, _old: Option<&Value>) -> Vec<String> {
        let mut out = Vec::new();
        // Those that a controller made from a Service are no person's to mend.
        if text_at(new, &["metadata", "labels", "endpoints.kubernetes.io/managed-by"]) == "endpoint-controller" {
            return out;
        }
        for (i, s) in list(new, "subsets").iter().enumerate() {
            for key in ["addresses", "notReadyAddresses"] {
                for (j, a) in list(s, key).iter().enumerate() {
                    let p = Path::new("subsets").index(i).child(key).index(j).child("ip");
                    values::ip_warnings(text(a, "ip"), &p, &mut out);
                }
            }
        }
        out
    }

    fn columns(&self) -> &'static [Column] {
        const COLUMNS: &[Column] = &[NAME, column_of("Endpoints", "string", 0, "api.core.v1.Endpoints.subsets"), AGE];
        COLUMNS
    }

    fn row(&self, obj: &Value, now: Now) -> Vec<Value> {
        let mut all: Vec<String> = Vec::new();
        for s in list(obj, "subsets") {
            for a in list(s, "addresses") {
                let ip = text(a, "ip");
                if list(s, "ports").is_empty() {
                    all.push(ip.to_string());
                }
            }
            for p in list(s, "ports") {
                let port = int(p, "port").unwrap_or(0);
                for a in list(s, "addresses") {
                    let ip = text(a, "ip");
                    all.push(if ip.contains(':') { format!("[{ip}]:{port}") } else { format!("{ip}:{port}") });
                }
            }
        }
        let none = if list(obj, "subsets").is_empty() { "<none>" } else { "" };
        vec![columns::name(obj), json!(columns::at_most(&all, 3, none)), columns::age_cell(obj, now)]
    }

    fn allow_create_on_update(&self) -> bool {
        true
    }
}

fn subsets(obj: &Value, errors: &mut Errors) {
    for (i, s) in list(obj, "subsets").iter().enumerate() {
        let p = Path::new("subsets").index(i);
        if list(s, "addresses").is_empty() && list(s, "notReadyAddresses").is_empty() {
            errors.required(p.clone(), "must specify `addresses` or `notReadyAddresses`");
        }
        for key in ["addresses", "notReadyAddresses"] {
            for (j, a) in list(s, key).iter().enumerate() {
                address(a, &p.child(key).index(j), errors);
            }
        }
        let ports = list(s, "ports");
        for (j, port) in ports.iter().enumerate() {
            let p = p.child("ports").index(j);
            match text(port, "name") {
                "" if ports.len() > 1 => errors.required(p.child("name"), ""),
                "" => {}
                name => values::dns_label(name, &p.child("name"), errors),
            }
            values::port_number(int(port, "port").unwrap_or(0), p.child("port"), errors);
            let protocols = ["SCTP", "TCP", "UDP"];
            values::required_one_of(text(port, "protocol"), &protocols, p.child("protocol"), errors);
            if has(port, "appProtocol") {
                values::qualified_name(text(port, "appProtocol"), &p.child("appProtocol"), errors);
            }
        }
    }
}

fn address(a: &Value, path: &Path, errors: &mut Errors) {
    values::ip(text(a, "ip"), &path.child("ip"), errors);
    let host = text(a, "hostname");
    if !host.is_empty() {
        values::dns_label(host, &path.child("hostname"), errors);
    }
    if has(a, "nodeName") {
        values::dns_subdomain(text(a, "nodeName"), &path.child("nodeName"), errors);
    }
    if values::is_ip(text(a, "ip")) {
        values::non_special_ip(text(a, "ip"), &path.child("ip"), errors);
    } else {
        errors.invalid(path.child("ip"), text(a, "ip"), "must be a valid IP address");
    }
}
