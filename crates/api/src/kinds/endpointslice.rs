//! EndpointSlice (discovery.k8s.io).

use super::columns;
use crate::strategy::{AGE, Column, NAME, Now, Strategy, column_of};
use crate::validation::access::*;
use crate::validation::seen::Seen;
use crate::validation::values;
use meta::field::{Errors, Path};
use meta::names;
use serde_json::{Value, json};

pub struct EndpointSlice;

const ENDPOINTS_MAX: usize = 1000;
const ADDRESSES_MAX: usize = 100;
const PORTS_MAX: usize = 20_000;
const HINTS_MAX: usize = 8;

impl Strategy for EndpointSlice {
    fn defaults(&self, obj: &mut Value) {
        for p in items_mut(obj, "ports") {
            fill(p, "name", "");
            fill(p, "protocol", "TCP");
        }
    }

    fn prepare_create(&self, obj: &mut Value, _has_status: bool) {
        drop_topology(obj);
    }

    fn prepare_update(&self, new: &mut Value, old: &Value, _has_status: bool) {
        if !same(field(new, "endpoints"), field(old, "endpoints")) {
            drop_topology(new);
        }
    }

    fn validate_create(&self, obj: &Value, errors: &mut Errors) {
        frame(obj, errors);
        endpoints(obj, errors);
    }

    // What was accepted once may stay, as long as none of it changes.
    fn validate_update(&self, new: &Value, old: &Value, errors: &mut Errors) {
        frame(new, errors);
        if !same(field(new, "endpoints"), field(old, "endpoints")) {
            endpoints(new, errors);
        }
        values::immutable(field(new, "addressType"), field(old, "addressType"), Path::new("addressType"), errors);
    }

    fn warnings(&self, new: &Value, old: Option<&Value>) -> Vec<String> {
        let mut out = Vec::new();
        if old.is_none() && text(new, "addressType") == "FQDN" {
            out.push("spec.addressType: FQDN endpoints are deprecated".to_string());
        }
        // Slices that a controller made from something else are no person's to mend.
        let manager = text_at(new, &["metadata", "labels", "endpointslice.kubernetes.io/managed-by"]);
        let own = ["endpointslice-controller.k8s.io", "endpointslicemirroring-controller.k8s.io"].contains(&manager);
        if own || text(new, "addressType") == "FQDN" {
            return out;
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
            column_of("AddressType", "string", 0, "api.discovery.v1.EndpointSlice.addressType"),
            column_of("Ports", "string", 0, "api.discovery.v1.EndpointSlice.ports"),
            column_of("Endpoints", "string", 0, "api.discovery.v1.EndpointSlice.endpoints"),
            AGE,
        ];
        COLUMNS
    }

    fn row(&self, obj: &Value, now: Now) -> Vec<Value> {
        let ports: Vec<String> = list(obj, "ports")
            .iter()
            .map(|p| match (int(p, "port"), field(p, "name").as_str()) {
                (Some(n), _) => n.to_string(),
                (None, name) => name.unwrap_or("*").to_string(),
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

    // A slice has no spec: any of its own fields counts, and so do labels.
    fn bumps_generation(&self, new: &Value, old: &Value) -> bool {
        ["addressType", "endpoints", "ports"].iter().any(|k| !same(field(new, k), field(old, k)))
            || !same(at(new, &["metadata", "labels"]), at(old, &["metadata", "labels"]))
    }
}

/// Only the beta could write it.
fn drop_topology(slice: &mut Value) {
    for e in items_mut(slice, "endpoints") {
        remove(e, "deprecatedTopology");
    }
}

/// All but the endpoints: the kind of addresses and the ports.
fn frame(obj: &Value, errors: &mut Errors) {
    let kind = text(obj, "addressType");
    values::required_one_of(kind, &["FQDN", "IPv4", "IPv6"], Path::new("addressType"), errors);
    let ports = list(obj, "ports");
    if ports.len() > PORTS_MAX {
        errors.too_many(Path::new("ports"), ports.len(), PORTS_MAX);
        return;
    }
    let mut seen = Seen::default();
    for (i, port) in ports.iter().enumerate() {
        let p = Path::new("ports").index(i);
        let name = text(port, "name");
        if !name.is_empty() {
            values::dns_label(name, &p.child("name"), errors);
        }
        if seen.again(name) {
            errors.duplicate(p.child("name"), name);
        }
        let protocols = ["SCTP", "TCP", "UDP"];
        if has(port, "protocol") {
            values::one_of(text(port, "protocol"), &protocols, p.child("protocol"), errors);
        } else {
            errors.required(p.child("protocol"), "");
        }
        if has(port, "appProtocol") {
            values::qualified_name(text(port, "appProtocol"), &p.child("appProtocol"), errors);
        }
    }
}

fn endpoints(obj: &Value, errors: &mut Errors) {
    let endpoints = list(obj, "endpoints");
    if endpoints.len() > ENDPOINTS_MAX {
        errors.too_many(Path::new("endpoints"), endpoints.len(), ENDPOINTS_MAX);
        return;
    }
    for (i, e) in endpoints.iter().enumerate() {
        endpoint(e, text(obj, "addressType"), &Path::new("endpoints").index(i), errors);
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
        let one = p.index(i);
        if kind == "FQDN" {
            domain_name(a, &one, errors);
            continue;
        }
        let faults = errors.0.len();
        match kind {
            "IPv4" => values::ip(a, &one, errors),
            "IPv6" => values::canonical_ip(a, &one, errors),
            _ => continue,
        }
        if errors.0.len() > faults {
            continue;
        }
        // Upstream names the list here, not the address.
        match (kind, a.contains(':')) {
            ("IPv4", true) => errors.invalid(p.clone(), *a, "must be an IPv4 address"),
            ("IPv6", false) => errors.invalid(p.clone(), *a, "must be an IPv6 address"),
            _ => {}
        }
        values::non_special_ip(a, &one, errors);
    }
    if has(e, "nodeName") {
        values::dns_subdomain(text(e, "nodeName"), &path.child("nodeName"), errors);
    }
    if has(e, "hostname") {
        values::dns_label(text(e, "hostname"), &path.child("hostname"), errors);
    }
    let rules: [(&str, fn(&str) -> Vec<String>); 2] =
        [("forZones", names::label_value), ("forNodes", names::dns1123_subdomain)];
    for (key, rule) in rules {
        let (hints, p) = (list(field(e, "hints"), key), path.child("hints").child(key));
        if hints.len() > HINTS_MAX {
            errors.too_many(p, hints.len(), HINTS_MAX);
            return;
        }
        let mut seen = Seen::default();
        for (i, h) in hints.iter().enumerate() {
            let (name, p) = (text(h, "name"), p.index(i).child("name"));
            if seen.again(name) {
                errors.duplicate(p.clone(), name);
            }
            values::each(errors, &p, name, rule(name));
        }
    }
}

/// A domain of two segments or more; a dot may end it.
fn domain_name(name: &str, path: &Path, errors: &mut Errors) {
    if name.is_empty() {
        return errors.required(path.clone(), "");
    }
    let name = name.strip_suffix('.').unwrap_or(name);
    let faults = names::dns1123_subdomain(name);
    if !faults.is_empty() {
        errors.invalid(path.clone(), name, faults.join(","));
    } else if !name.contains('.') {
        errors.invalid(path.clone(), name, "should be a domain with at least two segments separated by dots");
    } else if let Some(label) = name.split('.').find(|l| !names::dns1123_label(l).is_empty()) {
        errors.invalid(path.clone(), label, names::dns1123_label(label).join(","));
    }
}
