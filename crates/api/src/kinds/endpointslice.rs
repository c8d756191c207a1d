//! EndpointSlice (discovery.k8s.io).

use super::columns;
use crate::strategy::{Column, NAME, Now, Strategy, column};
use crate::validation::access::*;
use crate::validation::values;
use meta::field::{Errors, Path};
use meta::names;
use serde_json::{Value, json};

pub struct EndpointSlice;

const ENDPOINTS_MAX: usize = 1000;
const ADDRESSES_MAX: usize = 100;
const PORTS_MAX: usize = 20_000;

impl Strategy for EndpointSlice {
    fn defaults(&self, obj: &mut Value) {
        for p in items_mut(obj, "ports") {
            fill(p, "name", "");
            fill(p, "protocol", "TCP");
        }
    }

    fn validate_create(&self, obj: &Value, errors: &mut Errors) {
        let kind = text(obj, "addressType");
        values::required_one_of(kind, &["FQDN", "IPv4", "IPv6"], Path::new("addressType"), errors);
        let endpoints = list(obj, "endpoints");
        if endpoints.len() > ENDPOINTS_MAX {
            errors.too_many(Path::new("endpoints"), endpoints.len(), ENDPOINTS_MAX);
            return;
        }
        for (i, e) in endpoints.iter().enumerate() {
            endpoint(e, kind, &Path::new("endpoints").index(i), errors);
        }
        let ports = list(obj, "ports");
        if ports.len() > PORTS_MAX {
            errors.too_many(Path::new("ports"), ports.len(), PORTS_MAX);
            return;
        }
        for (i, port) in ports.iter().enumerate() {
            let p = Path::new("ports").index(i);
            let name = text(port, "name");
            if !name.is_empty() {
                values::dns_label(name, &p.child("name"), errors);
            }
            if ports.iter().take(i).any(|o| text(o, "name") == name) {
                errors.duplicate(p.child("name"), name);
            }
            if let Some(n) = int(port, "port") {
                values::port_number(n, p.child("port"), errors);
            }
            let protocols = ["SCTP", "TCP", "UDP"];
            values::required_one_of(text(port, "protocol"), &protocols, p.child("protocol"), errors);
            if has(port, "appProtocol") {
                values::qualified_name(text(port, "appProtocol"), &p.child("appProtocol"), errors);
            }
        }
    }

    fn validate_update(&self, new: &Value, old: &Value, errors: &mut Errors) {
        self.validate_create(new, errors);
        values::immutable(field(new, "addressType"), field(old, "addressType"), Path::new("addressType"), errors);
    }

    fn warnings(&self, new: &Value, _old: Option<&Value>) -> Vec<String> {
        let mut out = Vec::new();
        if text(new, "addressType") == "FQDN" {
            return vec!["addressType: FQDN endpoints are deprecated".to_string()];
        }
        for (i, e) in list(new, "endpoints").iter().enumerate() {
            for (j, a) in texts(e, "addresses").iter().enumerate() {
                let p = Path::new("endpoints").index(i).child("addresses").index(j);
                values::ip_warnings(a, &p, &mut out);
            }
        }
        out
    }

    fn columns(&self) -> &'static [Column] {
        const COLUMNS: &[Column] = &[
            NAME,
            column("AddressType", "string", 0),
            column("Ports", "string", 0),
            column("Endpoints", "string", 0),
            column("Age", "string", 0),
        ];
        COLUMNS
    }

    fn row(&self, obj: &Value, now: Now) -> Vec<Value> {
        let ports: Vec<String> = list(obj, "ports")
            .iter()
            .map(|p| match (int(p, "port"), text(p, "name")) {
                (Some(n), _) => n.to_string(),
                (None, "") => "*".to_string(),
                (None, name) => name.to_string(),
            })
            .collect();
        let addresses: Vec<String> =
            list(obj, "endpoints").iter().flat_map(|e| texts(e, "addresses")).map(str::to_string).collect();
        vec![
            columns::name(obj),
            json!(text(obj, "addressType")),
            json!(columns::at_most(&ports, 3, "<unset>")),
            json!(columns::at_most(&addresses, 3, "<unset>")),
            columns::age_cell(obj, now),
        ]
    }

    fn has_generation(&self) -> bool {
        true
    }

    // A slice has no spec: any of its own fields counts, and so do labels and annotations.
    fn bumps_generation(&self, new: &Value, old: &Value) -> bool {
        ["addressType", "endpoints", "ports"].iter().any(|k| !same(field(new, k), field(old, k)))
            || ["labels", "annotations"].iter().any(|k| !same(at(new, &["metadata", k]), at(old, &["metadata", k])))
    }
}

fn endpoint(e: &Value, kind: &str, path: &Path, errors: &mut Errors) {
    let addresses = texts(e, "addresses");
    let p = path.child("addresses");
    if addresses.is_empty() {
        errors.required(p.clone(), "must contain at least 1 address");
    } else if addresses.len() > ADDRESSES_MAX {
        errors.too_many(p.clone(), addresses.len(), ADDRESSES_MAX);
    }
    for (i, a) in addresses.iter().enumerate() {
        let p = p.index(i);
        match kind {
            "IPv4" => values::each(errors, &p, a, names::ipv4(a)),
            "IPv6" => values::each(errors, &p, a, names::ipv6(a)),
            "FQDN" => values::each(errors, &p, a, names::fully_qualified_name(a)),
            _ => {}
        }
        if kind != "FQDN" {
            values::non_special_ip(a, &p, errors);
        }
    }
    if has(e, "hostname") {
        values::dns_label(text(e, "hostname"), &path.child("hostname"), errors);
    }
    if has(e, "nodeName") {
        values::dns_subdomain(text(e, "nodeName"), &path.child("nodeName"), errors);
    }
    if let Some(t) = field(e, "deprecatedTopology").as_object() {
        for key in t.keys() {
            values::qualified_name(key, &path.child("deprecatedTopology"), errors);
        }
    }
    for (key, max) in [("forZones", 8), ("forNodes", 8)] {
        let hints = list(field(e, "hints"), key);
        let p = path.child("hints").child(key);
        if hints.len() > max {
            errors.too_many(p.clone(), hints.len(), max);
        }
        for (i, h) in hints.iter().enumerate() {
            values::qualified_name(text(h, "name"), &p.index(i).child("name"), errors);
        }
    }
}
