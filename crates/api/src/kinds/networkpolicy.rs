//! NetworkPolicy (networking.k8s.io).

use super::columns;
use crate::strategy::{AGE, Column, NAME, Now, Strategy, column_of};
use crate::validation::access::*;
use crate::validation::seen::Seen;
use crate::validation::{selector, values};
use meta::field::{Errors, Path};
use serde_json::{Value, json};

pub struct NetworkPolicy;

impl Strategy for NetworkPolicy {
    fn defaults(&self, obj: &mut Value) {
        let Some(spec) = ensure_object(obj, "spec") else {
            return;
        };
        for (key, _) in DIRECTIONS {
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
        validate(field(obj, "spec"), &Value::Null, errors);
    }

    fn validate_update(&self, new: &Value, old: &Value, errors: &mut Errors) {
        validate(field(new, "spec"), field(old, "spec"), errors);
    }

    fn warnings(&self, new: &Value, _old: Option<&Value>) -> Vec<String> {
        let mut out = Vec::new();
        for (key, peers) in DIRECTIONS {
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
        const COLUMNS: &[Column] =
            &[NAME, column_of("Pod-Selector", "string", 0, "api.networking.v1.NetworkPolicySpec.podSelector"), AGE];
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

const DIRECTIONS: [(&str, &str); 2] = [("ingress", "from"), ("egress", "to")];

/// `old`: the older version's spec, whose address ranges may stay as they are, or null.
fn validate(spec: &Value, old: &Value, errors: &mut Errors) {
    let path = Path::new("spec");
    let mut before = Errors::default();
    selector::label_selector(field(old, "podSelector"), &path, &mut before);
    let any_value = !before.is_empty();
    let mut ranges: Seen<&str> = Seen::default();
    for (key, peers) in DIRECTIONS {
        for peer in list(old, key).iter().flat_map(|r| list(r, peers)) {
            let block = field(peer, "ipBlock");
            for range in texts(block, "except").into_iter().chain(field(block, "cidr").as_str()) {
                ranges.again(range);
            }
        }
    }
    selector::label_selector_with(field(spec, "podSelector"), any_value, &path.child("podSelector"), errors);
    for (key, peers) in DIRECTIONS {
        for (i, rule) in list(spec, key).iter().enumerate() {
            let p = path.child(key).index(i);
            for (j, port) in list(rule, "ports").iter().enumerate() {
                policy_port(port, &p.child("ports").index(j), errors);
            }
            for (j, peer) in list(rule, peers).iter().enumerate() {
                policy_peer(peer, any_value, &ranges, &p.child(peers).index(j), errors);
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
        values::one_of(t, &["Ingress", "Egress"], path.child("policyTypes").index(i), errors);
    }
}

fn policy_port(port: &Value, path: &Path, errors: &mut Errors) {
    if has(port, "protocol") {
        values::one_of(text(port, "protocol"), &["TCP", "UDP", "SCTP"], path.child("protocol"), errors);
    }
    let (first, last, p) = (field(port, "port"), field(port, "endPort"), path.child("endPort"));
    match first {
        Value::Null => {
            if !last.is_null() {
                errors.invalid(p, last.clone(), "may not be specified when `port` is not specified");
            }
        }
        Value::Number(n) => {
            let n = n.as_i64().unwrap_or(0);
            values::port_number(n, path.child("port"), errors);
            if let Some(end) = last.as_i64() {
                if end < n {
                    errors.invalid(p.clone(), n, "must be greater than or equal to `port`");
                }
                values::port_number(end, p, errors);
            }
        }
        name => {
            if !last.is_null() {
                errors.invalid(p, last.clone(), "may not be specified when `port` is non-numeric");
            }
            values::port_or_name(name, path.child("port"), errors);
        }
    }
}

fn policy_peer(peer: &Value, any_value: bool, ranges: &Seen<&str>, path: &Path, errors: &mut Errors) {
    let mut peers = 0;
    for key in ["podSelector", "namespaceSelector"] {
        if has(peer, key) {
            peers += 1;
            selector::label_selector_with(field(peer, key), any_value, &path.child(key), errors);
        }
    }
    let block = field(peer, "ipBlock");
    if !block.is_null() {
        ip_block(block, ranges, &path.child("ipBlock"), errors);
        if peers > 0 {
            errors.forbidden(path.clone(), "may not specify both ipBlock and another peer");
        }
    } else if peers == 0 {
        errors.required(path.clone(), "must specify a peer");
    }
}

fn ip_block(block: &Value, ranges: &Seen<&str>, p: &Path, errors: &mut Errors) {
    let cidr = text(block, "cidr");
    if cidr.is_empty() {
        return errors.required(p.child("cidr"), "");
    }
    values::cidr_or_old(cidr, ranges, &p.child("cidr"), errors);
    let Some(outer) = values::sloppy_cidr(cidr) else {
        return;
    };
    for (i, e) in texts(block, "except").iter().enumerate() {
        let p = p.child("except").index(i);
        values::cidr_or_old(e, ranges, &p, errors);
        if let Some(inner) = values::sloppy_cidr(e)
            && (!outer.contains(&inner.network()) || outer.prefix_len() >= inner.prefix_len())
        {
            errors.invalid(p, *e, "must be a strict subset of `cidr`");
        }
    }
}
