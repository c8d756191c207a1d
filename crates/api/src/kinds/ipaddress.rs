//! IPAddress and ServiceCIDR (networking.k8s.io): which addresses Services have and may have.

use super::columns;
use crate::strategy::{Column, NAME, NameRule, Now, Strategy, column};
use crate::validation::access::*;
use crate::validation::values;
use meta::field::{Errors, Path};
use serde_json::{Value, json};

pub struct IPAddress;
pub struct ServiceCIDR;

impl Strategy for IPAddress {
    /// The name is the address, which for IPv6 is no DNS name.
    fn name_rule(&self) -> NameRule {
        NameRule::PathSegment
    }

    fn validate_create(&self, obj: &Value, errors: &mut Errors) {
        let name = text_at(obj, &["metadata", "name"]);
        match meta::names::parse_ip(name) {
            Some(ip) if ip.to_string() == name => {}
            _ => errors.invalid(Path::new("metadata.name"), name, "must be a valid IP address in canonical form"),
        }
        let (parent, path) = (at(obj, &["spec", "parentRef"]), Path::new("spec.parentRef"));
        if !parent.is_object() {
            errors.required(path, "");
            return;
        }
        for key in ["resource", "name"] {
            match text(parent, key) {
                "" => errors.required(path.child(key), ""),
                v => values::path_segment(v, &path.child(key), errors),
            }
        }
        for key in ["group", "namespace"] {
            match text(parent, key) {
                "" => {}
                v => values::dns_subdomain(v, &path.child(key), errors),
            }
        }
    }

    fn validate_update(&self, new: &Value, old: &Value, errors: &mut Errors) {
        let parent = |v| at(v, &["spec", "parentRef"]);
        values::immutable(parent(new), parent(old), Path::new("spec").child("parentRef"), errors);
    }

    fn selectable_fields(&self, obj: &Value) -> Vec<(&'static str, String)> {
        let parent = at(obj, &["spec", "parentRef"]);
        vec![
            ("spec.parentRef.group", text(parent, "group").to_string()),
            ("spec.parentRef.resource", text(parent, "resource").to_string()),
            ("spec.parentRef.namespace", text(parent, "namespace").to_string()),
            ("spec.parentRef.name", text(parent, "name").to_string()),
        ]
    }

    fn columns(&self) -> &'static [Column] {
        const COLUMNS: &[Column] = &[NAME, column("ParentRef", "string", 0), column("Age", "string", 0)];
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

impl Strategy for ServiceCIDR {
    fn validate_create(&self, obj: &Value, errors: &mut Errors) {
        let (cidrs, path) = (list_at(obj, &["spec", "cidrs"]), Path::new("spec.cidrs"));
        match cidrs.len() {
            0 => errors.required(path.clone(), "at least one CIDR required"),
            1 | 2 => {}
            _ => errors.invalid(path.clone(), Value::Array(cidrs.to_vec()), "may only hold up to 2 values"),
        }
        let mut families = Vec::new();
        for (i, cidr) in cidrs.iter().enumerate() {
            let cidr = cidr.as_str().unwrap_or("");
            values::cidr(cidr, &path.index(i), errors);
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

    fn validate_update(&self, new: &Value, old: &Value, errors: &mut Errors) {
        self.validate_create(new, errors);
        let (n, o) = (list_at(new, &["spec", "cidrs"]), list_at(old, &["spec", "cidrs"]));
        // A second family may be added; what is there stays.
        if !n.starts_with(o) {
            errors.invalid(Path::new("spec.cidrs"), Value::Array(n.to_vec()), values::IMMUTABLE);
        }
    }

    fn columns(&self) -> &'static [Column] {
        const COLUMNS: &[Column] = &[NAME, column("CIDRs", "string", 0), column("Age", "string", 0)];
        COLUMNS
    }

    fn row(&self, obj: &Value, now: Now) -> Vec<Value> {
        let cidrs = texts(field(obj, "spec"), "cidrs").join(",");
        vec![columns::name(obj), json!(cidrs), columns::age_cell(obj, now)]
    }
}
