//! What a claim asks for: requests, their constraints, their configuration.

use super::common;
use crate::validation::access::*;
use crate::validation::{podspec, values};
use cel::types::{Objects, Type};
use meta::field::{Errors, Path};
use serde_json::Value;
use std::sync::{Arc, LazyLock};

pub const REQUESTS_MAX: usize = 32;
pub const CONFIGS_MAX: usize = 32;
const CONSTRAINTS_MAX: usize = 32;
const SELECTORS_MAX: usize = 32;
const ALTERNATIVES_MAX: usize = 8;
const EXPRESSION_BYTES_MAX: usize = 10 * 1024;

/// One device unless a request says otherwise.
pub fn defaults(spec: &mut Value) {
    fn exact(request: &mut Value) {
        fill_zero(request, "allocationMode", "ExactCount");
        if text(request, "allocationMode") == "ExactCount" {
            fill_zero(request, "count", 1);
        }
    }
    let Some(devices) = object_mut(spec, "devices") else {
        return;
    };
    for request in items_mut(devices, "requests") {
        if let Some(e) = object_mut(request, "exactly") {
            exact(e);
        }
        for sub in items_mut(request, "firstAvailable") {
            exact(sub);
        }
    }
}

pub fn spec(spec: &Value, path: &Path, errors: &mut Errors) {
    let (devices, path) = (field(spec, "devices"), path.child("devices"));
    let requests = list(devices, "requests");
    common::set(requests, REQUESTS_MAX, common::name_of, &path.child("requests"), errors, request);
    let at = path.child("constraints");
    common::each(list(devices, "constraints"), CONSTRAINTS_MAX, &at, errors, |c, path, errors| {
        request_names(c, devices, path, errors);
        match (field(c, "matchAttribute").as_str(), field(c, "distinctAttribute").as_str()) {
            (Some(name), _) => common::fully_qualified_name(name, &path.child("matchAttribute"), errors),
            (_, Some(name)) => common::fully_qualified_name(name, &path.child("distinctAttribute"), errors),
            _ => {
                let text = "exactly one of \"matchAttribute\" or \"distinctAttribute\" is required, but multiple fields are set";
                errors.required(path.clone(), text);
            }
        }
    });
    common::each(list(devices, "config"), CONFIGS_MAX, &path.child("config"), errors, |c, path, errors| {
        request_names(c, devices, path, errors);
        common::configuration(c, path, errors);
    });
}

/// `owner.requests` name requests of the claim.
pub fn request_names(owner: &Value, devices: &Value, path: &Path, errors: &mut Errors) {
    let at = path.child("requests");
    common::set(list(owner, "requests"), REQUESTS_MAX, common::itself, &at, errors, |name, path, errors| {
        request_name(name.as_str().unwrap_or_default(), devices, path, errors);
    });
}

/// A request, or one of its alternatives: `request/alternative`.
pub fn request_name(name: &str, devices: &Value, path: &Path, errors: &mut Errors) {
    const TEXT: &str =
        "must be the name of a request in the claim or the name of a request and a subrequest separated by '/'";
    let parts: Vec<&str> = name.split('/').collect();
    if parts.len() > 2 {
        return errors.invalid(path.clone(), name, TEXT);
    }
    for part in &parts {
        values::dns_label(part, path, errors);
    }
    let request = list(devices, "requests").iter().find(|r| text(r, "name") == parts[0]);
    let known = request.is_some_and(|r| {
        parts.get(1).is_none_or(|sub| list(r, "firstAvailable").iter().any(|s| text(s, "name") == *sub))
    });
    if !known {
        errors.invalid(path.clone(), name, TEXT);
    }
}

fn request(request: &Value, path: &Path, errors: &mut Errors) {
    values::dns_label(text(request, "name"), &path.child("name"), errors);
    let (exactly, first) = (field(request, "exactly"), list(request, "firstAvailable"));
    const NEEDED: &str = "exactly one of `exactly` or `firstAvailable` is required";
    match (exactly.is_object(), first.is_empty()) {
        (false, true) => errors.required(path.clone(), NEEDED),
        (true, false) => {
            errors.invalid(path.clone(), Value::Null, format!("{NEEDED}, but multiple fields are set"));
        }
        (true, true) => exact(exactly, &path.child("exactly"), errors),
        (false, false) => {
            let at = path.child("firstAvailable");
            common::set(first, ALTERNATIVES_MAX, common::name_of, &at, errors, |sub, path, errors| {
                values::dns_label(text(sub, "name"), &path.child("name"), errors);
                exact(sub, path, errors);
            });
        }
    }
}

fn exact(request: &Value, path: &Path, errors: &mut Errors) {
    match text(request, "deviceClassName") {
        "" => errors.required(path.child("deviceClassName"), ""),
        name => values::dns_subdomain(name, &path.child("deviceClassName"), errors),
    }
    selectors(request, path, errors);
    let (count, at) = (int(request, "count").unwrap_or(0), path.child("count"));
    match text(request, "allocationMode") {
        "ExactCount" if count <= 0 => errors.invalid(at, count, "must be greater than zero"),
        "ExactCount" => {}
        "All" if count != 0 => errors.invalid(at, count, "must not be specified when allocationMode is 'All'"),
        "All" => {}
        mode => errors.not_supported(path.child("allocationMode"), mode, &["All", "ExactCount"]),
    }
    for (i, t) in list(request, "tolerations").iter().enumerate() {
        common::toleration(t, &path.child("tolerations").index(i), errors);
    }
}

pub fn selectors(owner: &Value, path: &Path, errors: &mut Errors) {
    let all = list(owner, "selectors");
    common::each(all, SELECTORS_MAX, &path.child("selectors"), errors, |s, path, errors| {
        let path = path.child("cel");
        if field(s, "cel").is_null() {
            return errors.required(path, "");
        }
        let (expression, at) = (text_at(s, &["cel", "expression"]), path.child("expression"));
        if expression.len() > EXPRESSION_BYTES_MAX {
            return errors.too_long(at, EXPRESSION_BYTES_MAX);
        }
        match cel::compile(expression, &DEVICE, &[]) {
            Err(e) => errors.invalid(at, expression, e.to_string()),
            Ok(p) if matches!(p.result_type(), Type::Bool | Type::Dyn) => {}
            Ok(p) => {
                let text = format!("must evaluate to bool or the unknown type, not {}", p.result_type());
                errors.invalid(at, expression, text);
            }
        }
    });
}

/// What an expression may say about a device.
static DEVICE: LazyLock<cel::Env> = LazyLock::new(|| {
    const NAME: &str = "kubernetes.DRADevice";
    let mut types = Objects::default();
    types.add(
        NAME,
        &[
            ("driver", "string"),
            ("attributes", "map(string, map(string, dyn))"),
            ("capacity", "map(string, map(string, kubernetes.Quantity))"),
            ("allowMultipleAllocations", "bool"),
        ],
    );
    cel::Env::new().with_types(Arc::new(types)).with("device", Type::named(NAME))
});

/// A name by which pods may ask for devices as for any other resource.
pub fn extended_resource(name: &str, path: &Path, errors: &mut Errors) {
    if !podspec::is_extended(name) {
        errors.invalid(path.clone(), name, "must be a valid extended resource name");
    }
}
