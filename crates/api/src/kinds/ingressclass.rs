//! IngressClass (networking.k8s.io).

use super::columns;
use crate::strategy::{AGE, Column, NAME, Now, Strategy, column};
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
        values::domain_prefixed_path(controller, &path.child("controller"), errors);
        let parameters = field(spec, "parameters");
        if parameters.is_object() {
            let path = path.child("parameters");
            super::ingress::typed_reference(parameters, &path, errors);
            if !has(parameters, "scope") {
                return errors.required(path.child("scope"), "");
            }
            let p = path.child("namespace");
            match (text(parameters, "scope"), field(parameters, "namespace").as_str()) {
                ("Namespace", None) => errors.required(p, "`parameters.scope` is set to 'Namespace'"),
                ("Namespace", Some(n)) => values::dns_label(n, &p, errors),
                ("Cluster", Some(_)) => errors.forbidden(p, "`parameters.scope` is set to 'Cluster'"),
                ("Cluster", None) => {}
                (other, _) => errors.not_supported(path.child("scope"), other, &["Cluster", "Namespace"]),
            }
        }
    }

    fn validate_update(&self, new: &Value, old: &Value, errors: &mut Errors) {
        let of = |v| at(v, &["spec", "controller"]);
        values::immutable(of(new), of(old), Path::new("spec.controller"), errors);
        self.validate_create(new, errors);
    }

    fn has_generation(&self) -> bool {
        true
    }

    fn columns(&self) -> &'static [Column] {
        const COLUMNS: &[Column] = &[
            NAME,
            column("Controller", "string", 0, "Controller that serves the class."),
            column("Parameters", "string", 0, "Object with more settings of the class."),
            AGE,
        ];
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
