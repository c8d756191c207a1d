//! Rules for names, keys and other short strings. Each gives the list of what is wrong, in upstream's words
//! (source: `apimachinery/pkg/util/validation` and `apimachinery/pkg/api/validation`); empty is valid.

use rand::Rng;
use regex::Regex;
use std::net::IpAddr;
use std::sync::LazyLock;

pub const LABEL_MAX: usize = 63;
pub const SUBDOMAIN_MAX: usize = 253;

const DNS1123_LABEL: &str = "[a-z0-9]([-a-z0-9]*[a-z0-9])?";
const DNS1123_SUBDOMAIN: &str = r"[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*";
const DNS1035_LABEL: &str = "[a-z]([-a-z0-9]*[a-z0-9])?";
const QUALIFIED_NAME: &str = "([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9]";
const LABEL_VALUE: &str = "(([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9])?";
const C_IDENTIFIER: &str = "[A-Za-z_][A-Za-z0-9_]*";
const CONFIG_MAP_KEY: &str = "[-._a-zA-Z0-9]+";
const ENV_VAR: &str = "[-._a-zA-Z][-._a-zA-Z0-9]*";
const HTTP_PATH: &str = r"[A-Za-z0-9/\-._~%!$&'()*+,;=:]+";
const HTTP_HEADER: &str = "[-A-Za-z0-9]+";
const PERCENT: &str = "[0-9]+%";
const CONDITION_REASON: &str = "[A-Za-z]([A-Za-z0-9_,:]*[A-Za-z0-9_])?";
const WILDCARD_SUBDOMAIN: &str = r"\*\.[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*";

const DNS1123_LABEL_WORDS: &str = "a lowercase RFC 1123 label must consist of lower case alphanumeric characters or '-', and must start and end with an alphanumeric character";
const DNS1123_SUBDOMAIN_WORDS: &str = "a lowercase RFC 1123 subdomain must consist of lower case alphanumeric characters, '-' or '.', and must start and end with an alphanumeric character";
const DNS1035_LABEL_WORDS: &str = "a DNS-1035 label must consist of lower case alphanumeric characters or '-', start with an alphabetic character, and end with an alphanumeric character";
const QUALIFIED_NAME_WORDS: &str =
    "must consist of alphanumeric characters, '-', '_' or '.', and must start and end with an alphanumeric character";
const LABEL_VALUE_WORDS: &str = "a valid label must be an empty string or consist of alphanumeric characters, '-', '_' or '.', and must start and end with an alphanumeric character";

fn matches(pattern: &'static str, text: &str) -> bool {
    /// Every pattern of this file, compiled once.
    static COMPILED: LazyLock<Vec<(&'static str, Regex)>> = LazyLock::new(|| {
        [
            DNS1123_LABEL,
            DNS1123_SUBDOMAIN,
            DNS1035_LABEL,
            QUALIFIED_NAME,
            LABEL_VALUE,
            C_IDENTIFIER,
            CONFIG_MAP_KEY,
            ENV_VAR,
            HTTP_PATH,
            HTTP_HEADER,
            PERCENT,
            CONDITION_REASON,
            WILDCARD_SUBDOMAIN,
        ]
        .into_iter()
        .filter_map(|p| Some((p, Regex::new(&format!("^(?:{p})$")).ok()?)))
        .collect()
    });
    // `$` also matches before a trailing newline in some engines, not in this one.
    COMPILED.iter().any(|(p, re)| *p == pattern && re.is_match(text))
}

/// `(e.g. 'x', or 'y', regex used for validation is '…')` after the words, as `RegexError` prints it.
fn regex_error(words: &str, pattern: &str, examples: &[&str]) -> String {
    let mut out = format!("{words} (");
    for (i, e) in examples.iter().enumerate() {
        if i == 0 {
            out.push_str("e.g. ");
        } else {
            out.push_str(" or ");
        }
        out.push_str(&format!("'{e}', "));
    }
    out.push_str(&format!("regex used for validation is '{pattern}')"));
    out
}

fn too_long(max: usize) -> String {
    format!("must be no more than {max} characters")
}

/// Name of a container, volume, namespace and the like.
pub fn dns1123_label(text: &str) -> Vec<String> {
    let mut errors = Vec::new();
    if text.len() > LABEL_MAX {
        errors.push(too_long(LABEL_MAX));
    }
    if !matches(DNS1123_LABEL, text) {
        // A subdomain with dots gets a hint that only the dots are wrong.
        if matches(DNS1123_SUBDOMAIN, text) {
            errors.push("must not contain dots".to_string());
        } else {
            errors.push(regex_error(DNS1123_LABEL_WORDS, DNS1123_LABEL, &["my-name", "123-abc"]));
        }
    }
    errors
}

/// Name of most objects.
pub fn dns1123_subdomain(text: &str) -> Vec<String> {
    let mut errors = Vec::new();
    if text.len() > SUBDOMAIN_MAX {
        errors.push(too_long(SUBDOMAIN_MAX));
    }
    if !matches(DNS1123_SUBDOMAIN, text) {
        errors.push(regex_error(DNS1123_SUBDOMAIN_WORDS, DNS1123_SUBDOMAIN, &["example.com"]));
    }
    errors
}

/// As [`dns1123_subdomain`], but each label may have underscores at its beginning (one) and inside (resolver searches).
pub fn dns1123_subdomain_with_underscore(text: &str) -> Vec<String> {
    let relaxed: Vec<&str> = text.split('.').map(|l| l.strip_prefix('_').unwrap_or(l)).collect();
    dns1123_subdomain(&relaxed.join(".").replace('_', "-"))
}

/// Name of a service (before relaxed validation).
pub fn dns1035_label(text: &str) -> Vec<String> {
    let mut errors = Vec::new();
    if text.len() > LABEL_MAX {
        errors.push(too_long(LABEL_MAX));
    }
    if !matches(DNS1035_LABEL, text) {
        errors.push(regex_error(DNS1035_LABEL_WORDS, DNS1035_LABEL, &["my-name", "abc-123"]));
    }
    errors
}

/// `*.example.com`, host of an Ingress rule.
pub fn wildcard_dns1123_subdomain(text: &str) -> Vec<String> {
    let mut errors = Vec::new();
    if text.len() > SUBDOMAIN_MAX {
        errors.push(too_long(SUBDOMAIN_MAX));
    }
    if !matches(WILDCARD_SUBDOMAIN, text) {
        errors.push(regex_error(
            "a wildcard DNS-1123 subdomain must start with '*.', followed by a valid DNS subdomain, which must consist of lower case alphanumeric characters, '-' or '.' and end with an alphanumeric character",
            WILDCARD_SUBDOMAIN,
            &["*.example.com"],
        ));
    }
    errors
}

/// Key of a label, annotation, taint, extended resource and the like: `name` or `prefix/name`.
pub fn qualified_name(text: &str) -> Vec<String> {
    let mut errors = Vec::new();
    let parts: Vec<&str> = text.split('/').collect();
    let name = match parts.as_slice() {
        [name] => *name,
        [prefix, name] => {
            if prefix.is_empty() {
                errors.push("prefix part must be non-empty".to_string());
            } else {
                errors.extend(dns1123_subdomain(prefix).into_iter().map(|m| format!("prefix part {m}")));
            }
            name
        }
        _ => {
            let words = regex_error(QUALIFIED_NAME_WORDS, QUALIFIED_NAME, &["MyName", "my.name", "123-abc"]);
            return vec![format!(
                "a qualified name {words} with an optional DNS subdomain prefix and '/' (e.g. 'example.com/MyName')"
            )];
        }
    };
    if name.is_empty() {
        errors.push("name part must be non-empty".to_string());
    } else if name.len() > LABEL_MAX {
        errors.push(format!("name part {}", too_long(LABEL_MAX)));
    }
    if !matches(QUALIFIED_NAME, name) {
        let words = regex_error(QUALIFIED_NAME_WORDS, QUALIFIED_NAME, &["MyName", "my.name", "123-abc"]);
        errors.push(format!("name part {words}"));
    }
    errors
}

pub fn label_value(text: &str) -> Vec<String> {
    let mut errors = Vec::new();
    if text.len() > LABEL_MAX {
        errors.push(too_long(LABEL_MAX));
    }
    if !matches(LABEL_VALUE, text) {
        errors.push(regex_error(LABEL_VALUE_WORDS, LABEL_VALUE, &["MyValue", "my_value", "12345"]));
    }
    errors
}

/// Name of an RBAC object and others that only have to fit into a URL.
pub fn path_segment(text: &str) -> Vec<String> {
    match text {
        "." | ".." => return vec![format!("may not be '{text}'")],
        _ => {}
    }
    path_segment_prefix(text)
}

/// As [`path_segment`], of the start of a name (`generateName`).
pub fn path_segment_prefix(text: &str) -> Vec<String> {
    ["/", "%"].iter().filter(|bad| text.contains(**bad)).map(|bad| format!("may not contain '{bad}'")).collect()
}

/// Name of a container's port (IANA service name, RFC 6335).
pub fn port_name(text: &str) -> Vec<String> {
    let mut errors = Vec::new();
    if text.len() > 15 {
        errors.push(too_long(15));
    }
    if text.is_empty() || !text.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-') {
        errors.push("must contain only alpha-numeric characters (a-z, 0-9), and hyphens (-)".to_string());
    }
    if !text.bytes().any(|b| b.is_ascii_lowercase()) {
        errors.push("must contain at least one letter (a-z)".to_string());
    }
    if text.contains("--") {
        errors.push("must not contain consecutive hyphens".to_string());
    }
    if text.starts_with('-') || text.ends_with('-') {
        errors.push("must not begin or end with a hyphen".to_string());
    }
    errors
}

pub fn port_number(port: i64) -> Vec<String> {
    if (1..=65535).contains(&port) { Vec::new() } else { vec![in_range(1, 65535)] }
}

pub fn in_range(lowest: i64, highest: i64) -> String {
    format!("must be between {lowest} and {highest}, inclusive")
}

/// Name of an environment variable, as before 1.30.
pub fn env_var_name(text: &str) -> Vec<String> {
    let mut errors = Vec::new();
    if !matches(ENV_VAR, text) {
        errors.push(regex_error(
            "a valid environment variable name must consist of alphabetic characters, digits, '_', '-', or '.', and must not start with a digit",
            ENV_VAR,
            &["my.env-name", "MY_ENV.NAME", "MyEnvName1"],
        ));
    }
    errors.extend(dotted_name(text));
    errors
}

/// Name of an environment variable: any printable ASCII but `=` (`RelaxedEnvironmentVariableValidation`).
pub fn relaxed_env_var_name(text: &str) -> Vec<String> {
    if text.is_empty() {
        return vec!["environment variable name must be non-empty".to_string()];
    }
    if text.chars().any(|c| !(' '..='~').contains(&c) || c == '=') {
        return vec![
            "a valid environment variable name must consist only of printable ASCII characters other than '='"
                .to_string(),
        ];
    }
    Vec::new()
}

pub fn c_identifier(text: &str) -> Vec<String> {
    if matches(C_IDENTIFIER, text) {
        return Vec::new();
    }
    vec![regex_error(
        "a valid C identifier must start with alphabetic character or '_', followed by a string of alphanumeric characters or '_'",
        C_IDENTIFIER,
        &["my_name", "MY_NAME", "MyName"],
    )]
}

/// Key of a ConfigMap or Secret.
pub fn config_map_key(text: &str) -> Vec<String> {
    let mut errors = Vec::new();
    if text.len() > SUBDOMAIN_MAX {
        errors.push(too_long(SUBDOMAIN_MAX));
    }
    if !matches(CONFIG_MAP_KEY, text) {
        errors.push(regex_error(
            "a valid config key must consist of alphanumeric characters, '-', '_' or '.'",
            CONFIG_MAP_KEY,
            &["key.name", "KEY_NAME", "key-name"],
        ));
    }
    errors.extend(dotted_name(text));
    errors
}

fn dotted_name(text: &str) -> Option<String> {
    match text {
        "." => Some("must not be '.'".to_string()),
        ".." => Some("must not be '..'".to_string()),
        t if t.starts_with("..") => Some("must not start with '..'".to_string()),
        _ => None,
    }
}

/// Name of a header in an HTTP probe.
pub fn http_header_name(text: &str) -> Vec<String> {
    if matches(HTTP_HEADER, text) {
        return Vec::new();
    }
    vec![regex_error(
        "a valid HTTP header must consist of alphanumeric characters or '-'",
        HTTP_HEADER,
        &["X-Header-Name"],
    )]
}

/// An address of either family, in canonical digits (no leading zeros).
pub fn ip(text: &str) -> Vec<String> {
    match parse_ip(text) {
        Some(_) => Vec::new(),
        None => vec!["must be a valid IP address, (e.g. 10.9.8.7 or 2001:db8::ffff)".to_string()],
    }
}

/// An address without a zone.
pub fn parse_ip(text: &str) -> Option<IpAddr> {
    text.parse().ok()
}

pub fn ipv4(text: &str) -> Vec<String> {
    match parse_ip(text) {
        Some(IpAddr::V4(_)) => Vec::new(),
        _ => vec!["must be a valid IPv4 address".to_string()],
    }
}

pub fn ipv6(text: &str) -> Vec<String> {
    match parse_ip(text) {
        Some(IpAddr::V6(_)) => Vec::new(),
        _ => vec!["must be a valid IPv6 address".to_string()],
    }
}

pub fn cidr(text: &str) -> Vec<String> {
    match parse_cidr(text) {
        Some(_) => Vec::new(),
        None => vec!["must be a valid CIDR value, (e.g. 10.9.8.0/24 or 2001:db8::/64)".to_string()],
    }
}

pub fn parse_cidr(text: &str) -> Option<ipnet::IpNet> {
    // Rust takes `10.0.0.0/08`; Go doesn't.
    let (_, bits) = text.split_once('/')?;
    if bits.is_empty() || !bits.bytes().all(|b| b.is_ascii_digit()) || (bits.len() > 1 && bits.starts_with('0')) {
        return None;
    }
    text.parse().ok()
}

/// Why a condition has its status, in one word.
pub fn condition_reason(text: &str) -> Vec<String> {
    if matches(CONDITION_REASON, text) {
        return Vec::new();
    }
    vec![regex_error(
        "a condition reason must start with alphabetic character, optionally followed by a string of alphanumeric \
         characters or '_,:', and must end with an alphanumeric character or '_'",
        CONDITION_REASON,
        &["my_name", "MY_NAME", "MyName", "ReasonA,ReasonB", "ReasonA:ReasonB"],
    )]
}

/// `50%`
pub fn percent(text: &str) -> Vec<String> {
    if matches(PERCENT, text) {
        return Vec::new();
    }
    vec![regex_error(
        "a valid percent string must be a numeric string followed by an ending '%'",
        PERCENT,
        &["1%", "93%"],
    )]
}

/// Name of a finalizer. Names without a prefix are for the finalizers that Kubernetes itself has.
pub fn finalizer(text: &str) -> Vec<String> {
    let errors = qualified_name(text);
    if !errors.is_empty() {
        return errors;
    }
    let own = ["kubernetes", "orphan", "foregroundDeletion"];
    if text.contains('/') || own.contains(&text) {
        Vec::new()
    } else {
        vec!["name is neither a standard finalizer name nor is it fully qualified".to_string()]
    }
}

/// The start of a generated name ends where characters are appended, so a trailing `-` is fine:
/// `rule` sees it replaced by a letter.
pub fn prefix_of(rule: fn(&str) -> Vec<String>, prefix: &str) -> Vec<String> {
    match prefix.strip_suffix('-') {
        Some(stem) if !stem.is_empty() => rule(&format!("{stem}a")),
        _ => rule(prefix),
    }
}

/// No vowels and nothing that looks like another character, so that no words arise.
const SUFFIX_ALPHABET: &[u8] = b"bcdfghjklmnpqrstvwxz2456789";
const SUFFIX_LEN: usize = 5;

/// A name from `generateName`: the base, cut so that all fits into 63 characters, and five random characters.
pub fn generate_name(base: &str, rng: &mut impl Rng) -> String {
    let mut end = base.len().min(LABEL_MAX - SUFFIX_LEN);
    while !base.is_char_boundary(end) {
        end -= 1;
    }
    format!("{}{}", &base[..end], random_suffix(SUFFIX_LEN, rng))
}

/// Random characters of the alphabet of generated names.
pub fn random_suffix(len: usize, rng: &mut impl Rng) -> String {
    (0..len).map(|_| char::from(SUFFIX_ALPHABET[rng.random_range(0..SUFFIX_ALPHABET.len())])).collect()
}

/// Sorts versions as Kubernetes does: `v10`, `v2`, `v1`, `v3beta1`, `v1alpha1`, then anything else by name.
/// Smaller is preferred.
pub fn version_priority(version: &str) -> impl Ord + use<> {
    fn parse(v: &str) -> Option<(u8, u32, u32)> {
        let rest = v.strip_prefix('v')?;
        let end = rest.find(|c: char| !c.is_ascii_digit()).unwrap_or(rest.len());
        let major = rest[..end].parse().ok()?;
        let rest = &rest[end..];
        let (stage, minor) = match (rest.strip_prefix("beta"), rest.strip_prefix("alpha")) {
            _ if rest.is_empty() => (2, 0),
            (Some(n), _) => (1, n.parse().ok()?),
            (_, Some(n)) => (0, n.parse().ok()?),
            _ => return None,
        };
        Some((stage, major, minor))
    }
    match parse(version) {
        Some(key) => (0, Some(std::cmp::Reverse(key)), String::new()),
        None => (1, None, version.to_string()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rand::SeedableRng;

    #[test]
    fn rules_accept_and_refuse() {
        type Rule = fn(&str) -> Vec<String>;
        let long_label = "a".repeat(64);
        let long_name = "a".repeat(254);
        let table: &[(Rule, &[&str], &[&str])] = &[
            (dns1123_label, &["a", "1-a", "my-name"], &["", "-a", "a-", "A", "a.b", "a_b", "a\n", &long_label]),
            (dns1123_subdomain, &["a", "a.b-c.1"], &["", "a..b", ".a", "a.", "A.b", "a_b", &long_name]),
            (dns1123_subdomain_with_underscore, &["_sip._tcp.abc_d.com", "a__b.c"], &["__a.b", "a_.b", "_"]),
            (dns1035_label, &["a", "a-1"], &["1a", "a.b", "", "a-", &long_label]),
            (wildcard_dns1123_subdomain, &["*.a.b"], &["*", "a.b", "*.", "*.*.a"]),
            (qualified_name, &["a", "a.B_c-1", "x.y/Z"], &["", "/a", "a/", "a/b/c", "X.y/a", "-a", "a b", &long_label]),
            (label_value, &["", "a", "A_b.c-1"], &["-a", "a ", "a/b", &long_label]),
            (path_segment, &["system:a", "a b"], &[".", "..", "a/b", "a%b"]),
            (port_name, &["http", "a-1", "1a"], &["", "1", "a--b", "-a", "a-", "A", "sixteen-letters-"]),
            (env_var_name, &["A", "a.b-c_1"], &["1a", "", ".", "..", "..a", "a=b"]),
            (relaxed_env_var_name, &["1a", "a b", "!"], &["", "a=b", "ä", "a\t"]),
            (c_identifier, &["_a1"], &["1", "a-b", ""]),
            (config_map_key, &["a", ".a", "A_b-c.d"], &["", ".", "..", "..a", "a/b", &long_name]),
            (ip, &["1.2.3.4", "::1"], &["", "1.2.3", "01.2.3.4", "1.2.3.4/8", "fe80::1%eth0"]),
            (ipv4, &["1.2.3.4"], &["::1"]),
            (cidr, &["10.0.0.0/8", "::/0"], &["10.0.0.0", "10.0.0.0/33", "10.0.0.0/08", "/8", "a/8"]),
            (percent, &["0%", "100%"], &["%", "1", "-1%", "1.5%"]),
            (finalizer, &["kubernetes", "orphan", "a.b/c"], &["mine", "a/b/c", ""]),
            (http_header_name, &["X-A"], &["", "X A", "X:"]),
        ];
        for (i, (rule, good, bad)) in table.iter().enumerate() {
            for g in *good {
                assert_eq!(rule(g), Vec::<String>::new(), "rule {i} refuses {g:?}");
            }
            for b in *bad {
                assert!(!rule(b).is_empty(), "rule {i} takes {b:?}");
            }
        }
    }

    #[test]
    fn messages_are_upstreams() {
        assert_eq!(
            dns1123_subdomain("A"),
            [
                "a lowercase RFC 1123 subdomain must consist of lower case alphanumeric characters, '-' or '.', and must start and end with an alphanumeric character (e.g. 'example.com', regex used for validation is '[a-z0-9]([-a-z0-9]*[a-z0-9])?(\\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*')"
            ]
        );
        assert_eq!(dns1123_label("a.b"), ["must not contain dots"]);
        assert_eq!(
            dns1123_label("A"),
            [
                "a lowercase RFC 1123 label must consist of lower case alphanumeric characters or '-', and must start and end with an alphanumeric character (e.g. 'my-name',  or '123-abc', regex used for validation is '[a-z0-9]([-a-z0-9]*[a-z0-9])?')"
            ]
        );
        assert_eq!(
            qualified_name("-"),
            [
                "name part must consist of alphanumeric characters, '-', '_' or '.', and must start and end with an alphanumeric character (e.g. 'MyName',  or 'my.name',  or '123-abc', regex used for validation is '([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9]')"
            ]
        );
        assert_eq!(label_value(&"a".repeat(64)), ["must be no more than 63 characters"]);
    }

    #[test]
    fn generated_names_fit_and_repeat_with_their_seed() {
        let mut a = rand::rngs::StdRng::seed_from_u64(1);
        let mut b = rand::rngs::StdRng::seed_from_u64(1);
        for base in ["web-", "", &"x".repeat(100), &"ä".repeat(60)] {
            let name = generate_name(base, &mut a);
            assert_eq!(name, generate_name(base, &mut b));
            assert!(name.len() <= 63, "{name}");
            let suffix = &name[name.len() - 5..];
            assert!(suffix.bytes().all(|c| SUFFIX_ALPHABET.contains(&c)), "{name}");
            assert!(base.starts_with(&name[..name.len() - 5]), "{name}");
        }
        assert_ne!(generate_name("a", &mut a), generate_name("a", &mut a));
    }

    #[test]
    fn prefixes_may_end_in_a_dash() {
        assert!(prefix_of(dns1123_subdomain, "web-").is_empty());
        assert!(!prefix_of(dns1123_subdomain, "Web-").is_empty());
        assert!(!prefix_of(dns1123_subdomain, "-").is_empty());
    }
}
