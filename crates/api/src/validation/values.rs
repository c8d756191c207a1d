//! Rules for single values: numbers, names, ports, addresses, paths. Texts are upstream's
//! (apimachinery `util/validation` and core `validation`), because tools match on them.

use meta::field::{Error, Errors, Path, Reason};
use meta::names;
use serde_json::Value;

pub const NEGATIVE: &str = "must be greater than or equal to 0";
pub const IMMUTABLE: &str = "field is immutable";

pub fn between(low: i64, high: i64) -> String {
    format!("must be between {low} and {high}, inclusive")
}

/// Pushes one `Invalid value` per message.
pub fn each(errors: &mut Errors, path: &Path, value: &str, messages: Vec<String>) {
    for m in messages {
        errors.invalid(path.clone(), value, m);
    }
}

pub fn dns_label(value: &str, path: &Path, errors: &mut Errors) {
    each(errors, path, value, names::dns1123_label(value));
}

pub fn dns_subdomain(value: &str, path: &Path, errors: &mut Errors) {
    each(errors, path, value, names::dns1123_subdomain(value));
}

pub fn dns1035_label(value: &str, path: &Path, errors: &mut Errors) {
    each(errors, path, value, names::dns1035_label(value));
}

pub fn qualified_name(value: &str, path: &Path, errors: &mut Errors) {
    each(errors, path, value, names::qualified_name(value));
}

pub fn label_value(value: &str, path: &Path, errors: &mut Errors) {
    each(errors, path, value, names::label_value(value));
}

pub fn path_segment(value: &str, path: &Path, errors: &mut Errors) {
    each(errors, path, value, names::path_segment(value));
}

/// An integer that may not be negative; absent is fine.
pub fn non_negative(v: &Value, path: Path, errors: &mut Errors) {
    if let Some(n) = v.as_i64()
        && n < 0
    {
        errors.invalid(path, n, NEGATIVE);
    }
}

pub fn port_number(n: i64, path: Path, errors: &mut Errors) {
    if !(1..=65535).contains(&n) {
        errors.invalid(path, n, between(1, 65535));
    }
}

/// A port by number or by name (probes, targetPort).
pub fn port_or_name(v: &Value, path: Path, errors: &mut Errors) {
    match v {
        Value::String(s) => each(errors, &path, s, names::port_name(s)),
        Value::Number(n) => port_number(n.as_i64().unwrap_or(0), path, errors),
        Value::Null => port_number(0, path, errors),
        other => errors.type_invalid(path, other.clone(), "must be a number or a name"),
    }
}

/// One of a closed set. `supported` is listed in the order given (upstream sorts).
pub fn one_of(value: &str, supported: &[&str], path: Path, errors: &mut Errors) {
    if !supported.contains(&value) {
        errors.not_supported(path, value, supported);
    }
}

/// As [`one_of`], but an empty value is `Required`.
pub fn required_one_of(value: &str, supported: &[&str], path: Path, errors: &mut Errors) {
    if value.is_empty() {
        errors.required(path, "");
    } else {
        one_of(value, supported, path, errors);
    }
}

/// `field is immutable`, with the new value shown.
pub fn immutable(new: &Value, old: &Value, path: Path, errors: &mut Errors) {
    if !super::access::same(new, old) {
        errors.invalid(path, new.clone(), IMMUTABLE);
    }
}

/// A `Duplicate`/`Invalid`… with a detail that the short constructors lack.
pub fn push(errors: &mut Errors, reason: Reason, path: Path, value: impl Into<Value>, detail: impl Into<String>) {
    errors.0.push(Error { reason, path, value: value.into(), detail: detail.into() });
}

/// A path inside a volume: relative and without `..` elements.
pub fn descending_path(value: &str, path: &Path, errors: &mut Errors) {
    if value.starts_with('/') {
        errors.invalid(path.clone(), value, "must be a relative path");
    }
    no_backsteps(value, path, errors);
}

pub fn no_backsteps(value: &str, path: &Path, errors: &mut Errors) {
    if value.split('/').any(|p| p == "..") {
        errors.invalid(path.clone(), value, "must not contain '..'");
    }
}

/// A file to be made in a volume: descending, and not starting with `..`.
pub fn local_file_path(value: &str, path: &Path, errors: &mut Errors) {
    descending_path(value, path, errors);
    if value.starts_with("..") && !value.starts_with("../") {
        errors.invalid(path.clone(), value, "must not start with '..'");
    }
}

/// An IPv4 or IPv6 address in Go's reading (no leading zeros).
pub fn ip(value: &str, path: &Path, errors: &mut Errors) {
    if value.parse::<std::net::IpAddr>().is_err() {
        errors.invalid(path.clone(), value, "must be a valid IP address, (e.g. 10.9.8.7 or 2001:db8::ffff)");
    }
}

pub fn cidr(value: &str, path: &Path, errors: &mut Errors) {
    if value.parse::<ipnet::IpNet>().is_err() {
        errors.invalid(path.clone(), value, "must be a valid CIDR value, (e.g. 10.9.8.0/24 or 2001:db8::/64)");
    }
}

/// Endpoints' ban on addresses that would reach the node itself or the link.
pub fn non_special_ip(value: &str, path: &Path, errors: &mut Errors) {
    let Ok(ip) = value.parse::<std::net::IpAddr>() else {
        return;
    };
    if ip.is_unspecified() {
        errors.invalid(path.clone(), value, format!("may not be unspecified ({value})"));
    }
    if ip.is_loopback() {
        errors.invalid(path.clone(), value, "may not be in the loopback range (127.0.0.0/8, ::1/128)");
    }
    let (link_local, link_local_multicast) = match ip {
        std::net::IpAddr::V4(a) => (a.is_link_local(), a.octets()[..3] == [224, 0, 0]),
        std::net::IpAddr::V6(a) => (a.segments()[0] & 0xffc0 == 0xfe80, a.segments()[0] & 0xff0f == 0xff02),
    };
    if link_local {
        errors.invalid(path.clone(), value, "may not be in the link-local range (169.254.0.0/16, fe80::/10)");
    }
    if link_local_multicast {
        errors.invalid(path.clone(), value, "may not be in the link-local multicast range (224.0.0.0/24, ff02::/10)");
    }
}

/// The number of an int-or-percent field against `total`; `None` for anything else.
pub fn percent(v: &Value) -> Option<i64> {
    v.as_str()?.strip_suffix('%')?.parse().ok()
}

/// An int-or-string that must be a non-negative integer or a percentage.
pub fn int_or_percent(v: &Value, path: &Path, errors: &mut Errors) {
    match v {
        Value::String(s) => {
            let digits = s.strip_suffix('%').unwrap_or("");
            if digits.is_empty() || !digits.bytes().all(|b| b.is_ascii_digit()) {
                errors.invalid(
                    path.clone(),
                    s.as_str(),
                    "a valid percent string must be a numeric string followed by an ending '%' (e.g. '1%',  or '93%', regex used for validation is '[0-9]+%')",
                );
            }
        }
        Value::Number(_) => non_negative(v, path.clone(), errors),
        other => errors.invalid(path.clone(), other.clone(), "must be an integer or percentage (e.g '5%%')"),
    }
}

pub fn not_more_than_100_percent(v: &Value, path: &Path, errors: &mut Errors) {
    if percent(v).is_some_and(|p| p > 100) {
        errors.invalid(path.clone(), v.clone(), "must not be greater than 100%");
    }
}
