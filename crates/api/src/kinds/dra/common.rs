//! Rules that several kinds of this group share.

use crate::validation::access::*;
use crate::validation::seen::Seen;
use crate::validation::{podspec, values};
use meta::field::{Errors, Path};
use serde_json::Value;

const POOL_NAME_BYTES_MAX: usize = 253;
pub const IDENTIFIER_BYTES_MAX: usize = 32;
const OPAQUE_BYTES_MAX: usize = 10 * 1024;
const BINDING_CONDITIONS_MAX: usize = 4;
const EFFECTS: &[&str] = &["NoExecute", "NoSchedule", "None"];

/// Checks every item, unless there are more than `max`.
pub fn each<'a>(
    all: &'a [Value],
    max: usize,
    path: &Path,
    errors: &mut Errors,
    mut check: impl FnMut(&'a Value, &Path, &mut Errors),
) {
    if all.len() > max {
        return errors.too_many(path.clone(), all.len(), max);
    }
    for (i, v) in all.iter().enumerate() {
        check(v, &path.index(i), errors);
    }
}

/// As `each`; then tells of every item whose key was there before.
pub fn set<'a>(
    all: &'a [Value],
    max: usize,
    key: impl Fn(&Value) -> String,
    path: &Path,
    errors: &mut Errors,
    check: impl FnMut(&'a Value, &Path, &mut Errors),
) {
    each(all, max, path, errors, check);
    if all.len() <= max {
        let mut seen = Seen::default();
        for (i, k) in all.iter().map(key).enumerate() {
            if seen.again(k.clone()) {
                errors.duplicate(path.index(i), k);
            }
        }
    }
}

pub fn name_of(v: &Value) -> String {
    text(v, "name").to_string()
}

pub fn itself(v: &Value) -> String {
    v.as_str().unwrap_or_default().to_string()
}

/// Checks every entry of a map, whose keys may be longer than an error should show.
pub fn map(
    owner: &Value,
    key: &str,
    key_bytes_max: usize,
    path: &Path,
    errors: &mut Errors,
    mut check: impl FnMut(&str, &Value, &Path, &mut Errors),
) {
    for (k, v) in entries(owner, key) {
        check(k, v, &path.child(key).key(&shortened(k, key_bytes_max.max(16))), errors);
    }
}

fn shortened(s: &str, max: usize) -> String {
    if s.len() <= max || !s.is_ascii() {
        return s.to_string();
    }
    let remaining = max - "...".len();
    format!("{}...{}", &s[..remaining.div_ceil(2)], &s[s.len() - remaining / 2..])
}

pub fn pool_name(name: &str, path: &Path, errors: &mut Errors) {
    if name.is_empty() {
        return errors.required(path.clone(), "");
    }
    if name.len() > POOL_NAME_BYTES_MAX {
        errors.too_long(path.clone(), POOL_NAME_BYTES_MAX);
    }
    for part in name.split('/') {
        values::dns_subdomain(part, path, errors);
    }
}

pub fn uid(uid: &str, path: &Path, errors: &mut Errors) {
    let dashes = |i: usize| matches!(i, 8 | 13 | 18 | 23);
    // Go reads shorter and longer forms, which are refused after that.
    let fault = if !matches!(uid.len(), 32 | 36 | 38 | 45) {
        format!("error validating uid: invalid UUID length: {}", uid.len())
    } else if uid.len() == 36
        && !uid.bytes().enumerate().all(|(i, b)| if dashes(i) { b == b'-' } else { b.is_ascii_hexdigit() })
    {
        "error validating uid: invalid UUID format".to_string()
    } else if uid.len() != 36 || uid.bytes().any(|b| b.is_ascii_uppercase()) {
        "uid must be in RFC 4122 normalized form, `xxxxxxxx-xxxx-xxxx-xxxx-xxxxxxxxxxxx` with lowercase hexadecimal characters"
            .to_string()
    } else {
        return;
    };
    errors.invalid(path.clone(), uid, fault);
}

fn identifier(id: &str, path: &Path, errors: &mut Errors) {
    if id.len() > IDENTIFIER_BYTES_MAX {
        errors.too_long(path.clone(), IDENTIFIER_BYTES_MAX);
    }
    values::each(errors, path, id, meta::names::c_identifier(id));
}

/// `name` or `domain/name`, of an attribute or a capacity.
pub fn qualified_name(name: &str, path: &Path, errors: &mut Errors) {
    match name.split('/').collect::<Vec<_>>().as_slice() {
        [id] => identifier(id, path, errors),
        [domain, id] => {
            if domain.is_empty() {
                errors.invalid(path.clone(), "", "the domain must not be empty");
            } else {
                podspec::csi_driver_name(domain, path, errors);
            }
            if id.is_empty() {
                errors.invalid(path.clone(), "", "the name must not be empty");
            } else {
                identifier(id, path, errors);
            }
        }
        _ => {}
    }
}

pub fn fully_qualified_name(name: &str, path: &Path, errors: &mut Errors) {
    qualified_name(name, path, errors);
    if !name.contains('/') {
        let text = "a fully qualified name must be a domain and a name separated by a slash";
        errors.invalid(path.clone(), name, text);
    }
}

/// What a driver reads: an object of any content.
pub fn raw(v: &Value, path: &Path, errors: &mut Errors) {
    match v {
        Value::Null => errors.required(path.clone(), ""),
        v if v.to_string().len() > OPAQUE_BYTES_MAX => errors.too_long(path.clone(), OPAQUE_BYTES_MAX),
        Value::Object(_) => {}
        _ => errors.invalid(path.clone(), "<value omitted>", "must be a valid JSON object"),
    }
}

/// A configuration, which so far is always opaque.
pub fn configuration(config: &Value, path: &Path, errors: &mut Errors) {
    let (opaque, path) = (field(config, "opaque"), path.child("opaque"));
    if opaque.is_null() {
        return errors.required(path, "");
    }
    podspec::csi_driver_name(text(opaque, "driver"), &path.child("driver"), errors);
    raw(field(opaque, "parameters"), &path.child("parameters"), errors);
}

pub fn taint(taint: &Value, path: &Path, errors: &mut Errors) {
    podspec::label_key(text(taint, "key"), &path.child("key"), errors);
    if !text(taint, "value").is_empty() {
        values::label_value(text(taint, "value"), &path.child("value"), errors);
    }
    values::required_one_of(text(taint, "effect"), EFFECTS, path.child("effect"), errors);
}

pub fn tolerations(owner: &Value, path: &Path, errors: &mut Errors) {
    for (i, t) in list(owner, "tolerations").iter().enumerate() {
        toleration(t, &path.child("tolerations").index(i), errors);
    }
}

fn toleration(toleration: &Value, path: &Path, errors: &mut Errors) {
    if !text(toleration, "key").is_empty() {
        podspec::label_key(text(toleration, "key"), &path.child("key"), errors);
    }
    let (value, at) = (text(toleration, "value"), path.child("value"));
    match text(toleration, "operator") {
        "Exists" if !value.is_empty() => errors.invalid(at, value, "must be empty for operator `Exists`"),
        "Exists" => {}
        "Equal" => values::label_value(value, &at, errors),
        "" => errors.required(path.child("operator"), ""),
        other => errors.not_supported(path.child("operator"), other, &["Equal", "Exists"]),
    }
    match text(toleration, "effect") {
        "" => {}
        effect => values::one_of(effect, EFFECTS, path.child("effect"), errors),
    }
}

/// What must be true of a device before a pod is bound, and what ends the wait for it.
pub fn binding_conditions(owner: &Value, path: &Path, errors: &mut Errors) {
    let (conditions, failures) = (list(owner, "bindingConditions"), list(owner, "bindingFailureConditions"));
    let (at, failures_at) = (path.child("bindingConditions"), path.child("bindingFailureConditions"));
    let key = |v: &Value, path: &Path, errors: &mut Errors| {
        podspec::label_key(v.as_str().unwrap_or_default(), path, errors);
    };
    each(conditions, BINDING_CONDITIONS_MAX, &at, errors, key);
    each(failures, BINDING_CONDITIONS_MAX, &failures_at, errors, key);
    let (mut needed, mut fatal) = (Seen::default(), Seen::default());
    for (i, c) in conditions.iter().enumerate() {
        if needed.again(c) {
            errors.duplicate(at.index(i), c.clone());
        }
    }
    for (i, c) in failures.iter().enumerate() {
        if fatal.again(c) {
            errors.duplicate(failures_at.index(i), c.clone());
        }
        if needed.has(&c) {
            let text = "bindingFailureConditions must not overlap with bindingConditions";
            errors.invalid(failures_at.index(i), c.clone(), text);
        }
    }
    match (conditions.is_empty(), failures.is_empty()) {
        (true, false) => {
            errors.invalid(at, Value::Null, "bindingConditions are required to use bindingFailureConditions");
        }
        (false, true) => {
            let text = "bindingFailureConditions are required to use bindingConditions";
            errors.invalid(failures_at, Value::Null, text);
        }
        _ => {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn uids_have_one_form() {
        let plain = "12345678-1234-1234-1234-1234567890ab";
        let told = |v: &str| {
            let mut errors = Errors::default();
            uid(v, &Path::new("u"), &mut errors);
            errors.joined()
        };
        assert_eq!(told(plain), "[]");
        for v in [plain.to_uppercase(), plain.replace('-', ""), format!("{{{plain}}}"), format!("urn:uuid:{plain}")] {
            assert!(told(&v).contains("uid must be in RFC 4122 normalized form"), "{v}");
        }
        assert!(told("1").contains("invalid UUID length: 1"));
        assert!(told(&plain.replace('-', "0")).contains("invalid UUID format"));
    }
}
