//! What a driver tells of its devices.

use super::common;
use crate::validation::access::*;
use crate::validation::podspec::{self, parse_quantity};
use crate::validation::values;
use meta::field::{Errors, Path};
use regex::Regex;
use serde_json::{Value, json};
use std::sync::LazyLock;

const DEVICES_MAX: usize = 128;
/// Where a device has taints or takes from shared counters.
const COMPLEX_DEVICES_MAX: usize = 64;
const COUNTER_SETS_MAX: usize = 8;
const COUNTERS_MAX: usize = 32;
const CONSUMPTIONS_MAX: usize = 2;
pub const ATTRIBUTES_AND_CAPACITIES_MAX: usize = 32;
pub const DOMAIN_BYTES_MAX: usize = 63;
/// A domain, a slash, an identifier.
const QUALIFIED_NAME_BYTES_MAX: usize = DOMAIN_BYTES_MAX + 1 + common::IDENTIFIER_BYTES_MAX;
const LABEL_BYTES_MAX: usize = 63;
pub const VALUE_BYTES_MAX: usize = 64;
const TAINTS_MAX: usize = 16;
const OPTIONS_MAX: usize = 10;

/// Taints count from when they were first told of.
pub fn date_taints(slice: &mut Value, now: &str) {
    let Some(spec) = object_mut(slice, "spec") else {
        return;
    };
    for device in items_mut(spec, "devices") {
        for taint in items_mut(device, "taints") {
            fill(taint, "timeAdded", now);
        }
    }
}

pub fn spec(spec: &Value, old: &Value, errors: &mut Errors) {
    let path = Path::new("spec");
    podspec::csi_driver_name(text(spec, "driver"), &path.child("driver"), errors);
    pool(field(spec, "pool"), &path.child("pool"), errors);
    if !old.is_null() {
        for keys in [["pool", "name"].as_slice(), &["driver"], &["nodeName"]] {
            values::immutable(at(spec, keys), at(old, keys), path.child(&keys.join(".")), errors);
        }
    }
    where_to(spec, &path, errors);
    let (devices, counters) = (list(spec, "devices"), list(spec, "sharedCounters"));
    if !field(spec, "sharedCounters").is_null() && !field(spec, "devices").is_null() {
        errors.invalid(path.clone(), "", "only one of `sharedCounters` or `devices` is allowed");
    }
    let complex = |d: &Value| !list(d, "taints").is_empty() || !list(d, "consumesCounters").is_empty();
    let max = if devices.iter().any(complex) { COMPLEX_DEVICES_MAX } else { DEVICES_MAX };
    let per_device = flag(spec, "perDeviceNodeSelection");
    common::set(devices, max, common::name_of, &path.child("devices"), errors, |d, path, errors| {
        let before = list(old, "devices").iter().find(|o| text(o, "name") == text(d, "name"));
        device(d, before, per_device, path, errors);
    });
    let at = path.child("sharedCounters");
    common::set(counters, COUNTER_SETS_MAX, common::name_of, &at, errors, |set, path, errors| {
        counters_of(set, "name", path, errors);
    });
}

fn pool(pool: &Value, path: &Path, errors: &mut Errors) {
    common::pool_name(text(pool, "name"), &path.child("name"), errors);
    let (slices, generation) = (int(pool, "resourceSliceCount").unwrap_or(0), int(pool, "generation").unwrap_or(0));
    if slices <= 0 {
        errors.invalid(path.child("resourceSliceCount"), slices, "must be greater than zero");
    }
    if generation < 0 {
        errors.invalid(path.child("generation"), generation, "must be greater than or equal to zero");
    }
}

/// The fields of `owner` that say on which nodes its devices are. A field that is there must say something.
fn nodes(owner: &Value, empty: &str, path: &Path, errors: &mut Errors) -> Vec<&'static str> {
    let mut given = Vec::new();
    if let Some(name) = field(owner, "nodeName").as_str() {
        if name.is_empty() {
            errors.invalid(path.child("nodeName"), name, empty);
        } else {
            given.push("`nodeName`");
            values::dns_subdomain(name, &path.child("nodeName"), errors);
        }
    }
    let selector = field(owner, "nodeSelector");
    if !selector.is_null() {
        given.push("`nodeSelector`");
        podspec::node_selector(selector, &path.child("nodeSelector"), false, errors);
    }
    given.extend(yes(owner, "allNodes", "`allNodes`", path, errors));
    given
}

fn yes(owner: &Value, key: &str, shown: &'static str, path: &Path, errors: &mut Errors) -> Option<&'static str> {
    match field(owner, key) {
        Value::Bool(true) => Some(shown),
        Value::Bool(false) => {
            errors.invalid(path.child(key), false, "must be either unset or set to true");
            None
        }
        _ => None,
    }
}

fn where_to(spec: &Value, path: &Path, errors: &mut Errors) {
    const NEEDED: &str = "exactly one of `nodeName`, `nodeSelector`, `allNodes`, `perDeviceNodeSelection` is required";
    let mut given = nodes(spec, "must be either unset or set to a non-empty string", path, errors);
    let terms = list_at(spec, &["nodeSelector", "nodeSelectorTerms"]);
    if !field(spec, "nodeSelector").is_null() && terms.len() != 1 {
        let at = path.child("nodeSelector.nodeSelectorTerms");
        errors.invalid(at, json!(terms), "must have exactly one node selector term");
    }
    given.extend(yes(spec, "perDeviceNodeSelection", "`perDeviceNodeSelection`", path, errors));
    match given.len() {
        0 => errors.required(path.clone(), NEEDED),
        1 => {}
        _ => {
            let shown = format!("{{{}}}", given.join(", "));
            errors.invalid(path.clone(), shown, format!("{NEEDED}, but multiple fields are set"));
        }
    }
}

fn device(d: &Value, old: Option<&Value>, per_device: bool, path: &Path, errors: &mut Errors) {
    values::dns_label(text(d, "name"), &path.child("name"), errors);
    let count = entries(d, "attributes").count() + entries(d, "capacity").count();
    if count > ATTRIBUTES_AND_CAPACITIES_MAX {
        let text =
            format!("the total number of attributes and capacities must not exceed {ATTRIBUTES_AND_CAPACITIES_MAX}");
        errors.invalid(path.clone(), count, text);
    }
    common::map(d, "attributes", QUALIFIED_NAME_BYTES_MAX, path, errors, |name, v, path, errors| {
        common::qualified_name(name, path, errors);
        attribute(v, path, errors);
    });
    let shared = flag(d, "allowMultipleAllocations");
    common::map(d, "capacity", QUALIFIED_NAME_BYTES_MAX, path, errors, |name, v, path, errors| {
        common::qualified_name(name, path, errors);
        let (policy, at) = (field(v, "requestPolicy"), path.child("requestPolicy"));
        if policy.is_null() {
        } else if shared {
            request_policy(field(v, "value"), policy, &at, errors);
        } else {
            errors.forbidden(at, "allowMultipleAllocations must be true");
        }
    });
    if old.is_none_or(|o| !same(field(o, "taints"), field(d, "taints"))) {
        common::each(list(d, "taints"), TAINTS_MAX, &path.child("taints"), errors, common::taint);
    }
    let consumed = list(d, "consumesCounters");
    let set = |v: &Value| text(v, "counterSet").to_string();
    let at = path.child("consumesCounters");
    common::set(consumed, CONSUMPTIONS_MAX, set, &at, errors, |c, path, errors| {
        counters_of(c, "counterSet", path, errors);
    });
    if per_device {
        const NEEDED: &str = "exactly one of `nodeName`, `nodeSelector`, or `allNodes` is required when `perDeviceNodeSelection` is set to true in the ResourceSlice spec";
        let given = nodes(d, "must not be empty", path, errors);
        match given.len() {
            0 => errors.required(path.clone(), NEEDED),
            1 => {}
            _ => errors.invalid(path.clone(), format!("{{{}}}", given.join(", ")), NEEDED),
        }
    } else if ["nodeName", "nodeSelector", "allNodes"].iter().any(|k| has(d, k)) {
        let text = "`nodeName`, `nodeSelector` and `allNodes` can only be set if `perDeviceNodeSelection` is set to true in the ResourceSlice spec";
        errors.invalid(path.clone(), Value::Null, text);
    }
    common::binding_conditions(d, path, errors);
}

/// A named set of counters; `name` is the key of its name.
fn counters_of(set: &Value, name: &str, path: &Path, errors: &mut Errors) {
    match text(set, name) {
        "" => errors.required(path.child(name), ""),
        n => values::dns_label(n, &path.child(name), errors),
    }
    match entries(set, "counters").count() {
        0 => errors.required(path.child("counters"), ""),
        n if n > COUNTERS_MAX => errors.too_many(path.child("counters"), n, COUNTERS_MAX),
        _ => common::map(set, "counters", LABEL_BYTES_MAX, path, errors, |name, _, path, errors| {
            values::dns_label(name, path, errors);
        }),
    }
}

static SEMVER: LazyLock<Option<Regex>> = LazyLock::new(|| {
    let (number, before, build) = (r"(0|[1-9]\d*)", r"(0|[1-9]\d*|\d*[a-zA-Z-][0-9a-zA-Z-]*)", "[0-9a-zA-Z-]+");
    Regex::new(&format!(r"^{number}\.{number}\.{number}(-{before}(\.{before})*)?(\+{build}(\.{build})*)?$")).ok()
});

fn attribute(v: &Value, path: &Path, errors: &mut Errors) {
    if text(v, "string").len() > VALUE_BYTES_MAX {
        errors.too_long(path.child("string"), VALUE_BYTES_MAX);
    }
    if let Some(version) = field(v, "version").as_str() {
        let at = path.child("version");
        if !SEMVER.as_ref().is_some_and(|r| r.is_match(version)) {
            errors.invalid(at.clone(), version, "must be a string compatible with semver.org spec 2.0.0");
        }
        if version.len() > VALUE_BYTES_MAX {
            errors.too_long(at, VALUE_BYTES_MAX);
        }
    }
    match ["bool", "int", "string", "version"].iter().filter(|k| has(v, k)).count() {
        0 => errors.invalid(path.clone(), "", "exactly one value must be specified"),
        1 => {}
        _ => errors.invalid(path.clone(), v.clone(), "exactly one value must be specified"),
    }
}

/// How much of a capacity a claim may ask for, where claims share the device.
fn request_policy(capacity: &Value, policy: &Value, path: &Path, errors: &mut Errors) {
    let (options, range) = (list(policy, "validValues"), field(policy, "validRange"));
    let default = field(policy, "default");
    match (options.is_empty(), range.is_null()) {
        (true, true) => {}
        (false, false) => {
            let text = "exactly one policy can be specified, cannot specify \"validValues\" and \"validRange\" at the same time";
            errors.forbidden(path.clone(), text);
        }
        (false, true) if default.is_null() => {
            errors.required(path.child("default"), "required when validValues is defined");
        }
        (true, false) if default.is_null() => {
            errors.required(path.child("default"), "required when validRange is defined");
        }
        (false, true) => valid_values(default, capacity, options, &path.child("validValues"), errors),
        (true, false) => valid_range(default, capacity, range, &path.child("validRange"), errors),
    }
}

fn shown(v: &Value) -> String {
    parse_quantity(v).map_or_else(|| "0".to_string(), |q| q.canonical())
}

fn less(a: &Value, b: &Value) -> bool {
    matches!((parse_quantity(a), parse_quantity(b)), (Some(a), Some(b)) if a < b)
}

fn valid_values(default: &Value, capacity: &Value, options: &[Value], path: &Path, errors: &mut Errors) {
    for (i, pair) in options.windows(2).enumerate().filter(|(_, p)| less(&p[1], &p[0])) {
        errors.invalid(path.index(i + 1), shown(&pair[1]), "values must be sorted in ascending order");
    }
    let number = |v: &Value| parse_quantity(v).map_or(0, |q| q.value()).to_string();
    common::set(options, OPTIONS_MAX, number, path, errors, |option, path, errors| {
        if less(capacity, option) {
            let text = format!("option is larger than capacity value: {}", shown(capacity));
            errors.invalid(path.clone(), shown(option), text);
        }
    });
    if options.len() > OPTIONS_MAX || !options.iter().any(|o| !less(o, default) && !less(default, o)) {
        errors.invalid(path.clone(), shown(default), "default value is not valid according to the requestPolicy");
    }
}

fn valid_range(default: &Value, capacity: &Value, range: &Value, path: &Path, errors: &mut Errors) {
    let (min, max, step) = (field(range, "min"), field(range, "max"), field(range, "step"));
    if min.is_null() {
        return errors.required(path.child("min"), "required when validRange is defined");
    }
    let mut larger = |key: &str, shown_value: &Value, limit: &Value, what: &str| {
        errors.invalid(path.child(key), shown(shown_value), format!("{what}: {}", shown(limit)));
    };
    if less(capacity, min) {
        larger("min", min, capacity, "min is larger than capacity value");
    }
    if less(default, min) {
        larger("min", default, min, "default is less than min");
    }
    if !max.is_null() {
        if less(max, min) {
            larger("max", min, max, "min is larger than max");
        }
        if less(capacity, max) {
            larger("max", max, capacity, "max is larger than capacity value");
        }
        if less(max, default) {
            larger("max", default, max, "default is more than max");
        }
    }
    if step.is_null() {
        return;
    }
    let number = |v: &Value| parse_quantity(v).map_or(0, |q| q.value());
    let one_step = json!(number(min).saturating_add(number(step)).to_string());
    if less(capacity, &one_step) {
        larger("step", step, capacity, &format!("one step {} is larger than capacity value", shown(&one_step)));
    }
    for v in [default, max].into_iter().filter(|v| !v.is_null()) {
        // A step of nothing divides nothing.
        if number(v).saturating_sub(number(min)).checked_rem(number(step)).is_some_and(|r| r != 0) {
            let text = format!("value is not a multiple of a given step ({}) from ({})", shown(step), shown(min));
            errors.invalid(path.child("step"), shown(v), text);
        }
    }
}
