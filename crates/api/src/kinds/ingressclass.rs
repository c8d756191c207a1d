//! IngressClass (networking.k8s.io).

use super::columns;
use crate::strategy::{Column, NAME, Now, Strategy, column};
use crate::validation::access::*;
use crate::validation::values;
use meta::field::{Errors, Path};
use serde_json::{Value, json};

pub struct IngressClass;

const CONTROLLER_BYTES_MAX: usize = 250;

impl Strategy for IngressClass {
    fn defaults(&self, obj: &mut Value) {
        if let Some(parameters) = object_at_mut(obj, &["spec", "parameters"]) {
            fill(parameters, "scope", "Cluster");
        }
    }

    fn validate_create(&self, obj: &Value, errors: &mut Errors) {
        let (spec, path) = (field(obj, "spec"), Path::new("spec"));
        let controller = text(spec, "controller");
        if controller.len() > CONTROLLER_BYTES_MAX {
            errors.too_long(path.child("controller"), CONTROLLER_BYTES_MAX);
        }
        match controller.split_once('/') {
            _ if controller.is_empty() => errors.required(path.child("controller"), ""),
            Some((domain, rest)) if !domain.is_empty() && !rest.is_empty() => {
                values::dns_subdomain(domain, &path.child("controller"), errors);
            }
            _ => errors.invalid(
                path.child("controller"),
                controller,
                "must be a domain-prefixed path (such as \"acme.io/foo\")",
            ),
        }
        let parameters = field(spec, "parameters");
        if parameters.is_object() {
            let path = path.child("parameters");
            for key in ["kind", "name"] {
                match text(parameters, key) {
                    "" => errors.required(path.child(key), ""),
                    v => values::path_segment(v, &path.child(key), errors),
                }
            }
            let (scope, namespace) = (text(parameters, "scope"), text(parameters, "namespace"));
            values::required_one_of(scope, &["Cluster", "Namespace"], path.child("scope"), errors);
            match (scope, namespace) {
                ("Namespace", "") => {
                    errors.required(path.child("namespace"), "`parameters.scope` is set to 'Namespace'")
                }
                ("Cluster", n) if !n.is_empty() => {
                    errors.forbidden(path.child("namespace"), "`parameters.scope` is set to 'Cluster'")
                }
                _ => {}
            }
        }
    }

    fn validate_update(&self, new: &Value, old: &Value, errors: &mut Errors) {
        self.validate_create(new, errors);
        let of = |v| at(v, &["spec", "controller"]);
        values::immutable(of(new), of(old), Path::new("spec.controller"), errors);
    }

    fn has_generation(&self) -> bool {
        true
    }

    fn columns(&self) -> &'static [Column] {
        const COLUMNS: &[Column] =
            &[NAME, column("Controller", "string", 0), column("Parameters", "string", 0), column("Age", "string", 0)];
        COLUMNS
    }

    fn row(&self, obj: &Value, now: Now) -> Vec<Value> {
        let parameters = at(obj, &["spec", "parameters"]);
        let shown = match (text(parameters, "kind"), text(parameters, "apiGroup"), text(parameters, "name")) {
            ("", ..) => String::new(),
            (kind, "", name) => format!("{kind}/{name}"),
            (kind, group, name) => format!("{kind}.{group}/{name}"),
        };
        vec![
            columns::name(obj),
            json!(text_at(obj, &["spec", "controller"])),
            columns::or_none(&shown),
            columns::age_cell(obj, now),
        ]
    }
}
