//! Rules for single values: numbers, names, ports, addresses, paths. Texts are upstream's
//! (apimachinery `util/validation` and core `validation`), because tools match on them.

use super::seen::Seen;
use meta::field::{Error, Errors, Path, Reason};
use meta::names;
use serde_json::Value;
use std::net::IpAddr;

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

/// Addresses as old Go versions read them: IPv4 parts may have leading zeros, which are ignored.
fn sloppy_ip(value: &str) -> Option<IpAddr> {
    if let Ok(ip) = value.parse() {
        return Some(ip);
    }
    let parts: Vec<&str> = value.split('.').collect();
    let number = |p: &&str| (!p.is_empty() && p.bytes().all(|b| b.is_ascii_digit())).then(|| p.parse::<u8>().ok())?;
    let numbers: Vec<u8> = parts.iter().map(number).collect::<Option<_>>()?;
    <[u8; 4]>::try_from(numbers).ok().map(IpAddr::from)
}

fn in_v6_clothes(ip: IpAddr) -> Option<IpAddr> {
    match ip {
        IpAddr::V6(v6) => v6.to_ipv4_mapped().map(IpAddr::V4),
        IpAddr::V4(_) => None,
    }
}

/// An IPv4 or IPv6 address in the strict reading (KEP-4858): no leading zeros, no IPv4 in IPv6 form.
pub fn ip(value: &str, path: &Path, errors: &mut Errors) {
    match (value.parse::<IpAddr>(), sloppy_ip(value)) {
        (Ok(ip), _) if in_v6_clothes(ip).is_some() => {
            errors.invalid(path.clone(), value, "must not be an IPv4-mapped IPv6 address");
        }
        (Ok(_), _) => {}
        (Err(_), Some(_)) => errors.invalid(path.clone(), value, "must not have leading 0s"),
        (Err(_), None) => {
            errors.invalid(path.clone(), value, "must be a valid IP address, (e.g. 10.9.8.7 or 2001:db8::ffff)");
        }
    }
}

/// As [`ip`], but whatever the older version of the field held may stay as it is.
pub fn ip_or_old(value: &str, old: &Seen<&str>, path: &Path, errors: &mut Errors) {
    if !old.has(&value) {
        ip(value, path, errors);
    }
}

/// As [`cidr`], but whatever the older version of the field held may stay as it is.
pub fn cidr_or_old(value: &str, old: &Seen<&str>, path: &Path, errors: &mut Errors) {
    if !old.has(&value) {
        cidr(value, path, errors);
    }
}

/// Whether an address is one at all, by the rules of before strict reading.
pub fn is_ip(value: &str) -> bool {
    sloppy_ip(value).is_some()
}

/// The host of a load balancer, which has another field for an address.
pub fn host_name(value: &str, path: &Path, errors: &mut Errors) {
    dns_subdomain(value, path, errors);
    if is_ip(value) {
        errors.invalid(path.clone(), value, "must be a DNS name, not an IP address");
    }
}

/// Seconds that a service account's token is asked for (upstream: `MinExpirationSeconds` and the rule beside it).
pub fn token_seconds(seconds: i64, path: Path, errors: &mut Errors) {
    if seconds < 600 {
        errors.invalid(path, seconds, "may not specify a duration less than 10 minutes");
    } else if seconds > 1 << 32 {
        errors.invalid(path, seconds, "may not specify a duration larger than 2^32 seconds");
    }
}

/// An address range by the rules of before strict reading.
pub fn sloppy_cidr(value: &str) -> Option<ipnet::IpNet> {
    let (address, bits) = value.split_once('/')?;
    ipnet::IpNet::new(sloppy_ip(address)?, bits.parse().ok()?).ok()
}

/// An address of a newer field: strict, and in canonical form.
pub fn canonical_ip(value: &str, path: &Path, errors: &mut Errors) {
    let before = errors.0.len();
    ip(value, path, errors);
    if errors.0.len() == before
        && let Some(ip) = sloppy_ip(value).map(|ip| ip.to_string()).filter(|ip| ip != value)
    {
        errors.invalid(path.clone(), value, format!("must be in canonical form ({ip:?})"));
    }
}

/// An address range of a newer field: strict, and in canonical form.
pub fn canonical_cidr(value: &str, path: &Path, errors: &mut Errors) {
    let before = errors.0.len();
    cidr(value, path, errors);
    if errors.0.len() == before
        && let Some(net) = sloppy_cidr(value)
        && net.to_string() != value
    {
        errors.invalid(path.clone(), value, format!("must be in canonical form ({:?})", net.to_string()));
    }
}

/// At most one address of each family: two at most, of different ones.
pub fn one_of_each_family(addresses: &[&str]) -> bool {
    let families: Vec<bool> = addresses.iter().filter_map(|a| sloppy_ip(a)).map(|a| a.is_ipv6()).collect();
    addresses.len() < 2 || (families.len() == 2 && families[0] != families[1] && addresses.len() == 2)
}

/// An address range in the strict reading.
pub fn cidr(value: &str, path: &Path, errors: &mut Errors) {
    const TEXT: &str = "must be a valid CIDR value, (e.g. 10.9.8.0/24 or 2001:db8::/64)";
    let Some((address, bits)) = value.split_once('/') else {
        return errors.invalid(path.clone(), value, TEXT);
    };
    let max = if address.contains(':') { 128 } else { 32 };
    let digits = !bits.is_empty() && bits.bytes().all(|b| b.is_ascii_digit());
    let (Some(ip), Some(n)) = (sloppy_ip(address), bits.parse::<u8>().ok().filter(|n| digits && *n <= max)) else {
        return errors.invalid(path.clone(), value, TEXT);
    };
    if address.parse::<IpAddr>().is_err() || bits.len() > 1 && bits.starts_with('0') {
        return errors.invalid(path.clone(), value, "must not have leading 0s in IP or prefix length");
    }
    if in_v6_clothes(ip).is_some() {
        return errors.invalid(path.clone(), value, "must not have an IPv4-mapped IPv6 address");
    }
    if ipnet::IpNet::new(ip, n).is_ok_and(|net| net.network() != ip) {
        errors.invalid(path.clone(), value, "must not have bits set beyond the prefix length");
    }
}

/// Of an address that is accepted: how it should be written.
pub fn ip_warnings(value: &str, path: &Path, out: &mut Vec<String>) {
    let Some(ip) = sloppy_ip(value) else { return };
    let mapped = in_v6_clothes(ip);
    if value.parse::<IpAddr>().is_err() || mapped.is_some() {
        let better = mapped.unwrap_or(ip);
        out.push(format!("{path}: non-standard IP address {value:?} is invalid: use {:?}", better.to_string()));
    } else if ip.is_ipv6() && ip.to_string() != value {
        out.push(format!(
            "{path}: IPv6 address {value:?} should be in RFC 5952 canonical format ({:?})",
            ip.to_string()
        ));
    }
}

pub fn cidr_warnings(value: &str, path: &Path, out: &mut Vec<String>) {
    let Some((address, bits)) = value.split_once('/') else { return };
    let (Some(ip), Ok(n)) = (sloppy_ip(address), bits.parse::<u8>()) else { return };
    let Ok(net) = ipnet::IpNet::new(ip, n) else { return };
    if net.network() != ip {
        let (whole, one) = (net.trunc().to_string(), format!("{ip}/{}", net.max_prefix_len()));
        out.push(format!(
            "{path}: CIDR value {value:?} is ambiguous in this context (should be {whole:?} or {one:?}?)"
        ));
    }
    let strict = address.parse::<IpAddr>().is_ok() && bits == n.to_string() && in_v6_clothes(ip).is_none();
    if !strict {
        out.push(format!("{path}: non-standard CIDR value {value:?} is invalid: use {:?}", net.trunc().to_string()));
    } else if ip.is_ipv6() && net.network() == ip && net.to_string() != value {
        out.push(format!(
            "{path}: IPv6 CIDR value {value:?} should be in RFC 5952 canonical format ({:?})",
            net.to_string()
        ));
    }
}

/// `example.com/path`: a domain, a slash and something after it.
pub fn domain_prefixed_path(value: &str, path: &Path, errors: &mut Errors) {
    if value.is_empty() {
        return errors.required(path.clone(), "");
    }
    let Some((domain, rest)) = value.split_once('/').filter(|(d, r)| !d.is_empty() && !r.is_empty()) else {
        let text = "must be a domain-prefixed path (such as \"acme.io/foo\")";
        return errors.invalid(path.clone(), value, text);
    };
    each(errors, path, domain, names::dns1123_subdomain(domain));
    let plain = |c: char| c.is_ascii_alphanumeric() || "/%:@._~!$&'()*+,;=-".contains(c);
    if !rest.chars().all(plain) {
        errors.invalid(
            path.clone(),
            rest,
            "Invalid path (regex used for validation is '[A-Za-z0-9/\\-._~%!$&'()*+,;=:]+')",
        );
    }
}

/// Names that are meant for pods' host names had better be labels.
pub fn name_as_label(obj: &Value, used_in: &str, out: &mut Vec<String>) {
    let messages = names::dns1123_label(super::access::text_at(obj, &["metadata", "name"]));
    if !messages.is_empty() {
        out.push(format!(
            "metadata.name: this is used in {used_in}, which can result in surprising behavior; a DNS label is recommended: [{}]",
            messages.join(" ")
        ));
    }
}

/// Endpoints' ban on addresses that would reach the node itself or the link.
pub fn non_special_ip(value: &str, path: &Path, errors: &mut Errors) {
    let Some(ip) = sloppy_ip(value) else {
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

/// The number of an int-or-percent field, of a percentage too; what is neither counts as 0.
pub fn int_or_percent_number(v: &Value) -> i64 {
    let text = || v.as_str().and_then(|s| s.strip_suffix('%').unwrap_or(s).parse().ok());
    v.as_i64().or_else(text).unwrap_or(0)
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
