//! What a claim asks for: requests, their constraints, their configuration.

use super::{common, slice};
use crate::validation::access::*;
use crate::validation::seen::Seen;
use crate::validation::{podspec, values};
use cel::estimate::estimate_by;
use cel::types::{Objects, Type};
use meta::field::{Errors, Path};
use serde_json::Value;
use std::collections::HashMap;
use std::sync::{Arc, LazyLock};

pub const REQUESTS_MAX: usize = 32;
pub const CONFIGS_MAX: usize = 32;
const CONSTRAINTS_MAX: usize = 32;
const SELECTORS_MAX: usize = 32;
const ALTERNATIVES_MAX: usize = 8;
const DRIVER_BYTES_MAX: u64 = 63;
const EXPRESSION_BYTES_MAX: usize = 10 * 1024;
const EXPRESSION_COST_MAX: u64 = 1_000_000;

/// One device unless a request says otherwise.
pub fn defaults(spec: &mut Value) {
    fn exact(request: &mut Value) {
        fill_zero(request, "allocationMode", "ExactCount");
        if text(request, "allocationMode") == "ExactCount" {
            fill_zero(request, "count", 1);
        }
        tolerations(request);
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

/// Those of a request, and of a result, which has a copy of them.
pub fn tolerations(owner: &mut Value) {
    for toleration in items_mut(owner, "tolerations") {
        fill_zero(toleration, "operator", "Equal");
    }
}

pub fn spec(spec: &Value, path: &Path, errors: &mut Errors) {
    let (devices, path) = (field(spec, "devices"), path.child("devices"));
    let (requests, names) = (list(devices, "requests"), names(devices));
    common::set(requests, REQUESTS_MAX, common::name_of, &path.child("requests"), errors, request);
    let at = path.child("constraints");
    common::each(list(devices, "constraints"), CONSTRAINTS_MAX, &at, errors, |c, path, errors| {
        request_names(c, &names, path, errors);
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
        request_names(c, &names, path, errors);
        common::configuration(c, path, errors);
    });
}

/// A DeviceClass. Selectors that stay as they were aren't judged again, however much they cost by today's estimate.
pub fn class_spec(spec: &Value, old: &Value, errors: &mut Errors) {
    let path = Path::new("spec");
    if old.is_null() || !same(field(spec, "selectors"), field(old, "selectors")) {
        selectors(spec, &path, errors);
    }
    common::each(list(spec, "config"), CONFIGS_MAX, &path.child("config"), errors, common::configuration);
    if let Some(name) = field(spec, "extendedResourceName").as_str() {
        extended_resource(name, &path.child("extendedResourceName"), errors);
    }
}

/// Requests of a claim, and their alternatives.
pub type Names<'a> = HashMap<&'a str, Seen<&'a str>>;

pub fn names(devices: &Value) -> Names<'_> {
    let alternatives = |r| list(r, "firstAvailable").iter().map(|s| text(s, "name")).collect();
    list(devices, "requests").iter().map(|r| (text(r, "name"), alternatives(r))).collect()
}

/// `owner.requests` name requests of the claim.
pub fn request_names(owner: &Value, names: &Names<'_>, path: &Path, errors: &mut Errors) {
    let at = path.child("requests");
    common::set(list(owner, "requests"), REQUESTS_MAX, common::itself, &at, errors, |name, path, errors| {
        request_name(name.as_str().unwrap_or_default(), names, path, errors);
    });
}

/// A request, or one of its alternatives: `request/alternative`.
pub fn request_name(name: &str, names: &Names<'_>, path: &Path, errors: &mut Errors) {
    const TEXT: &str =
        "must be the name of a request in the claim or the name of a request and a subrequest separated by '/'";
    let parts: Vec<&str> = name.split('/').collect();
    if parts.len() > 2 {
        return errors.invalid(path.clone(), name, TEXT);
    }
    for part in &parts {
        values::dns_label(part, path, errors);
    }
    let known = names.get(parts[0]).is_some_and(|alternatives| parts.get(1).is_none_or(|a| alternatives.has(a)));
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
    common::tolerations(request, path, errors);
}

fn selectors(owner: &Value, path: &Path, errors: &mut Errors) {
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
            Ok(p) if matches!(p.result_type(), Type::Bool | Type::Dyn) => {
                if estimate_by(&p, &size_max).max > EXPRESSION_COST_MAX {
                    errors.forbidden(at, "too complex, exceeds cost limit");
                }
            }
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

/// The largest value that a path from `device` can lead to.
fn size_max(path: &[Arc<str>]) -> Option<u64> {
    let path: Vec<&str> = path.iter().map(|step| &**step).collect();
    match path.as_slice() {
        ["device"] => Some(0),
        ["device", "driver"] => Some(DRIVER_BYTES_MAX),
        ["device", "allowMultipleAllocations"] => Some(1),
        ["device", "attributes" | "capacity", below @ ..] => match below {
            // By domain, then by name.
            [] | ["@values"] => Some(slice::ATTRIBUTES_AND_CAPACITIES_MAX as u64),
            ["@keys"] => Some(slice::DOMAIN_BYTES_MAX as u64),
            ["@values", "@keys"] => Some(common::IDENTIFIER_BYTES_MAX as u64),
            ["@values", "@values"] if path[1] == "capacity" => Some(0),
            ["@values", _] if path[1] == "attributes" => Some(slice::VALUE_BYTES_MAX as u64),
            _ => None,
        },
        _ => None,
    }
}

/// A name by which pods may ask for devices as for any other resource.
fn extended_resource(name: &str, path: &Path, errors: &mut Errors) {
    if !podspec::is_extended(name) {
        errors.invalid(path.clone(), name, "must be a valid extended resource name");
    }
}
