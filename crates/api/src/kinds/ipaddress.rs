//! IPAddress and ServiceCIDR (networking.k8s.io): which addresses Services have and may have.

use super::columns;
use crate::strategy::{AGE, Column, METADATA, NAME, NameRule, Now, Strategy, column_of};
use crate::validation::access::*;
use crate::validation::values;
use ipnet::IpNet;
use meta::field::{Errors, Path};
use serde_json::{Value, json};
use std::net::IpAddr;

pub struct IPAddress;
pub struct ServiceCIDR;

impl Strategy for IPAddress {
    /// The name is the address, which for IPv6 is no DNS name.
    fn name_rule(&self) -> NameRule {
        NameRule::PathSegment
    }

    fn validate_create(&self, obj: &Value, errors: &mut Errors) {
        let name = text_at(obj, &["metadata", "name"]);
        values::canonical_ip(name, &Path::new("metadata.name"), errors);
        let (parent, path) = (at(obj, &["spec", "parentRef"]), Path::new("spec.parentRef"));
        if !parent.is_object() {
            errors.required(path, "");
            return;
        }
        let group = text(parent, "group");
        if !group.is_empty() {
            values::dns_subdomain(group, &path.child("group"), errors);
        }
        for key in ["resource", "name"] {
            match text(parent, key) {
                "" => errors.required(path.child(key), ""),
                v => values::path_segment(v, &path.child(key), errors),
            }
        }
        values::path_segment(text(parent, "namespace"), &path.child("namespace"), errors);
    }

    fn validate_update(&self, new: &Value, old: &Value, errors: &mut Errors) {
        self.validate_create(new, errors);
        let parent = |v| at(v, &["spec", "parentRef"]);
        values::immutable(parent(new), parent(old), Path::new("spec").child("parentRef"), errors);
    }

    fn columns(&self) -> &'static [Column] {
        const COLUMNS: &[Column] =
            &[NAME, column_of("ParentRef", "string", 0, "api.networking.v1.IPAddressSpec.parentRef"), AGE];
        COLUMNS
    }

    fn row(&self, obj: &Value, now: Now) -> Vec<Value> {
        let parent = at(obj, &["spec", "parentRef"]);
        let (resource, group) = (text(parent, "resource"), text(parent, "group"));
        let mut shown = if group.is_empty() { resource.to_string() } else { format!("{resource}.{group}") };
        for part in [text(parent, "namespace"), text(parent, "name")] {
            if !part.is_empty() {
                shown = format!("{shown}/{part}");
            }
        }
        vec![columns::name(obj), json!(shown), columns::age_cell(obj, now)]
    }
}

/// Whether Services may get an address of a range: its own is nobody's, nor is its broadcast address.
pub fn gives_out(range: &IpNet, ip: IpAddr) -> bool {
    let broadcast = matches!(range, IpNet::V4(v4) if IpAddr::V4(v4.broadcast()) == ip);
    range.contains(&ip) && range.network() != ip && !broadcast
}

impl Strategy for ServiceCIDR {
    fn status_keeps(&self) -> &'static [&'static str] {
        METADATA
    }

    fn validate_create(&self, obj: &Value, errors: &mut Errors) {
        cidrs(obj, errors);
    }

    fn validate_update(&self, new: &Value, old: &Value, errors: &mut Errors) {
        let (n, o) = (list_at(new, &["spec", "cidrs"]), list_at(old, &["spec", "cidrs"]));
        let p = Path::new("spec.cidrs");
        // A second family may be added; what is there stays.
        if n.len() == o.len() || (o.len() == 1 && n.len() == 2) {
            for (i, (is, _)) in n.iter().zip(o).enumerate().filter(|(_, (a, b))| a != b) {
                errors.invalid(p.index(i), is.clone(), values::IMMUTABLE);
            }
            if n.len() != o.len() {
                cidrs(new, errors);
            }
        } else {
            errors.invalid(p, Value::Array(n.to_vec()), values::IMMUTABLE);
        }
    }

    fn columns(&self) -> &'static [Column] {
        const COLUMNS: &[Column] =
            &[NAME, column_of("CIDRs", "string", 0, "api.networking.v1.ServiceCIDRSpec.cidrs"), AGE];
        COLUMNS
    }

    fn row(&self, obj: &Value, now: Now) -> Vec<Value> {
        let cidrs = texts(field(obj, "spec"), "cidrs").join(",");
        vec![columns::name(obj), json!(cidrs), columns::age_cell(obj, now)]
    }
}

fn cidrs(obj: &Value, errors: &mut Errors) {
    let (cidrs, path) = (list_at(obj, &["spec", "cidrs"]), Path::new("spec.cidrs"));
    match cidrs.len() {
        0 => return errors.required(path, "at least one CIDR required"),
        1 | 2 => {}
        _ => return errors.invalid(path, json!({"CIDRs": cidrs}), "may only hold up to 2 values"),
    }
    let mut families = Vec::new();
    for (i, cidr) in cidrs.iter().enumerate() {
        let cidr = cidr.as_str().unwrap_or("");
        values::canonical_cidr(cidr, &path.index(i), errors);
        families.extend(meta::names::parse_cidr(cidr).map(|c| c.addr().is_ipv4()));
    }
    if matches!(families.as_slice(), [a, b] if a == b) {
        errors.invalid(
            path,
            Value::Array(cidrs.to_vec()),
            "may specify no more than one IP for each IP family, i.e 192.168.0.0/24 and 2001:db8::/64",
        );
    }
}
