//! NetworkPolicy (networking.k8s.io).

use super::columns;
use crate::strategy::{Column, NAME, Now, Strategy, column};
use crate::validation::access::*;
use crate::validation::{selector, values};
use meta::field::{Errors, Path};
use serde_json::{Value, json};

pub struct NetworkPolicy;

impl Strategy for NetworkPolicy {
    fn defaults(&self, obj: &mut Value) {
        let Some(spec) = ensure_object(obj, "spec") else {
            return;
        };
        for key in ["ingress", "egress"] {
            for rule in items_mut(spec, key) {
                for p in items_mut(rule, "ports") {
                    fill(p, "protocol", "TCP");
                }
            }
        }
        if list(spec, "policyTypes").is_empty() {
            let both = !list(spec, "egress").is_empty();
            set(spec, "policyTypes", if both { json!(["Ingress", "Egress"]) } else { json!(["Ingress"]) });
        }
    }

    fn validate_create(&self, obj: &Value, errors: &mut Errors) {
        let (spec, path) = (field(obj, "spec"), Path::new("spec"));
        selector::label_selector(field(spec, "podSelector"), &path.child("podSelector"), errors);
        for (key, peers) in [("ingress", "from"), ("egress", "to")] {
            for (i, rule) in list(spec, key).iter().enumerate() {
                let p = path.child(key).index(i);
                for (j, port) in list(rule, "ports").iter().enumerate() {
                    policy_port(port, &p.child("ports").index(j), errors);
                }
                for (j, peer) in list(rule, peers).iter().enumerate() {
                    policy_peer(peer, &p.child(peers).index(j), errors);
                }
            }
        }
        let types = texts(spec, "policyTypes");
        if types.len() > 2 {
            let text = "may not specify more than two policyTypes";
            errors.invalid(path.child("policyTypes"), field(spec, "policyTypes").clone(), text);
            return;
        }
        for (i, t) in types.iter().enumerate() {
            values::one_of(t, &["Egress", "Ingress"], path.child("policyTypes").index(i), errors);
        }
    }

    fn validate_update(&self, new: &Value, _old: &Value, errors: &mut Errors) {
        self.validate_create(new, errors);
    }

    fn warnings(&self, new: &Value, _old: Option<&Value>) -> Vec<String> {
        let mut out = Vec::new();
        for (key, peers) in [("ingress", "from"), ("egress", "to")] {
            for (i, rule) in list_at(new, &["spec", key]).iter().enumerate() {
                for (j, peer) in list(rule, peers).iter().enumerate() {
                    let (block, p) = (field(peer, "ipBlock"), Path::new("spec").child(key).index(i));
                    let p = p.child(peers).index(j).child("ipBlock");
                    values::cidr_warnings(text(block, "cidr"), &p.child("cidr"), &mut out);
                    for (k, e) in texts(block, "except").iter().enumerate() {
                        values::cidr_warnings(e, &p.child("except").index(k), &mut out);
                    }
                }
            }
        }
        out
    }

    fn columns(&self) -> &'static [Column] {
        const COLUMNS: &[Column] = &[NAME, column("Pod-Selector", "string", 0), column("Age", "string", 0)];
        COLUMNS
    }

    fn row(&self, obj: &Value, now: Now) -> Vec<Value> {
        let shown = selector::shown(at(obj, &["spec", "podSelector"]));
        vec![columns::name(obj), json!(shown), columns::age_cell(obj, now)]
    }

    fn has_generation(&self) -> bool {
        true
    }
}

fn policy_port(port: &Value, path: &Path, errors: &mut Errors) {
    values::one_of(text(port, "protocol"), &["SCTP", "TCP", "UDP"], path.child("protocol"), errors);
    let (first, last) = (field(port, "port"), field(port, "endPort"));
    if first.is_null() {
        if !last.is_null() {
            errors.required(path.child("port"), "must be specified when `endPort` is specified");
        }
        return;
    }
    values::port_or_name(first, path.child("port"), errors);
    if let Some(end) = last.as_i64() {
        match first.as_i64() {
            None => errors.invalid(path.child("endPort"), end, "may not be specified when `port` is non-numeric"),
            Some(n) if end < n => errors.invalid(path.child("endPort"), end, "must be greater than or equal to `port`"),
            Some(_) => values::port_number(end, path.child("endPort"), errors),
        }
    }
}

fn policy_peer(peer: &Value, path: &Path, errors: &mut Errors) {
    let mut peers = 0;
    for key in ["podSelector", "namespaceSelector"] {
        if has(peer, key) {
            peers += 1;
            selector::label_selector(field(peer, key), &path.child(key), errors);
        }
    }
    let block = field(peer, "ipBlock");
    if !block.is_null() {
        let p = path.child("ipBlock");
        if peers > 0 {
            errors.forbidden(path.clone(), "may not specify both ipBlock and another peer");
        }
        peers += 1;
        let cidr = text(block, "cidr");
        if cidr.is_empty() {
            errors.required(p.child("cidr"), "");
        } else {
            values::cidr(cidr, &p.child("cidr"), errors);
        }
        for (i, e) in texts(block, "except").iter().enumerate() {
            let p = p.child("except").index(i);
            values::cidr(e, &p, errors);
            if let (Some(outer), Some(inner)) = (meta::names::parse_cidr(cidr), meta::names::parse_cidr(e))
                && (!outer.contains(&inner) || outer.prefix_len() >= inner.prefix_len())
            {
                errors.invalid(p, *e, format!("must be a strict subset of `{cidr}`"));
            }
        }
    }
    if peers == 0 {
        errors.required(path.clone(), "must specify a peer");
    }
}
