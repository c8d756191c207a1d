//! `format` of strings in schemas: the ones that upstream checks. An unknown format says nothing.
//!
//! Source: CustomResourceDefinition reference, "format"; upstream's `strfmt` package.

use meta::names;
use regex::Regex;
use std::net::{Ipv4Addr, Ipv6Addr};
use std::sync::LazyLock;

/// Whether a text has the format. `None` where the format isn't one that is checked.
pub fn check(format: &str, text: &str) -> Option<bool> {
    let normalized: String = format.chars().filter(|c| *c != '-').collect();
    let check = CHECKS.iter().find(|(name, _)| *name == format || *name == normalized)?.1;
    Some(check(text))
}

/// Whether the server checks this format at all.
pub fn known(format: &str) -> bool {
    check(format, "").is_some()
}

type Check = fn(&str) -> bool;

/// Names without dashes where upstream's have some, but for those of Kubernetes' own.
const CHECKS: &[(&str, Check)] = &[
    ("bsonobjectid", |s| s.len() == 24 && s.bytes().all(|b| b.is_ascii_hexdigit())),
    ("byte", base64),
    ("cidr", |s| s.parse::<ipnet::IpNet>().is_ok()),
    ("creditcard", credit_card),
    ("date", date),
    ("datetime", date_time),
    ("duration", duration),
    ("email", email),
    ("hexcolor", |s| matches(&HEX_COLOR, s)),
    ("hostname", hostname),
    ("ipv4", |s| s.parse::<Ipv4Addr>().is_ok()),
    ("ipv6", |s| s.parse::<Ipv6Addr>().is_ok()),
    ("isbn", |s| isbn10(s) || isbn13(s)),
    ("isbn10", isbn10),
    ("isbn13", isbn13),
    ("k8s-long-name", |s| names::dns1123_subdomain(s).is_empty()),
    ("k8s-short-name", |s| names::dns1123_label(s).is_empty()),
    ("mac", mac),
    ("password", |_| true),
    ("rgbcolor", |s| matches(&RGB_COLOR, s)),
    ("ssn", |s| matches(&SSN, s)),
    ("uri", uri),
    ("uuid", |s| uuid(s, None)),
    ("uuid3", |s| uuid(s, Some('3'))),
    ("uuid4", |s| uuid(s, Some('4'))),
    ("uuid5", |s| uuid(s, Some('5'))),
];

type Pattern = LazyLock<Option<Regex>>;

fn matches(pattern: &Pattern, text: &str) -> bool {
    pattern.as_ref().is_some_and(|p| p.is_match(text))
}

static HEX_COLOR: Pattern = LazyLock::new(|| Regex::new("^#?([0-9a-fA-F]{3}|[0-9a-fA-F]{6})$").ok());
static RGB_COLOR: Pattern = LazyLock::new(|| {
    let n = r"(0|[1-9][0-9]?|1[0-9][0-9]?|2[0-4][0-9]|25[0-5])";
    Regex::new(&format!(r"^rgb\(\s*{n}\s*,\s*{n}\s*,\s*{n}\s*\)$")).ok()
});
static SSN: Pattern = LazyLock::new(|| Regex::new(r"^[0-9]{3}[- ]?[0-9]{2}[- ]?[0-9]{4}$").ok());
static DURATION: Pattern =
    LazyLock::new(|| Regex::new(r"^((([0-9]+(\.[0-9]+)?)|(\.[0-9]+))\s*([A-Za-zµμ]+)\s*)+$").ok());
static DURATION_PART: Pattern = LazyLock::new(|| Regex::new(r"(?:[0-9]+(?:\.[0-9]+)?|\.[0-9]+)\s*([A-Za-zµμ]+)").ok());

fn base64(s: &str) -> bool {
    use base64::Engine;
    base64::engine::general_purpose::STANDARD.decode(s).is_ok()
}

fn date(s: &str) -> bool {
    s.len() == 10 && s.parse::<jiff::civil::Date>().is_ok()
}

/// RFC 3339, also with a blank or a lower-case `t`, and without an offset, as upstream's lenient parser takes it.
fn date_time(s: &str) -> bool {
    let bytes = s.as_bytes();
    if bytes.len() < 11 || !date(s.get(..10).unwrap_or("")) || !matches!(bytes[10], b'T' | b't' | b' ') {
        return false;
    }
    let Some(rest) = s.get(11..) else { return false };
    let (clock, zone) = match rest.find(['Z', 'z', '+', '-']) {
        Some(i) => (&rest[..i], &rest[i..]),
        None => (rest, ""),
    };
    let two = |t: Option<&str>, max: u32| {
        t.is_some_and(|t| {
            t.len() == 2 && t.bytes().all(|b| b.is_ascii_digit()) && t.parse().is_ok_and(|n: u32| n <= max)
        })
    };
    let mut parts = clock.splitn(3, ':');
    let (hours, minutes, seconds) = (parts.next(), parts.next(), parts.next());
    let (whole, fraction) = match seconds.and_then(|s| s.split_once('.')) {
        Some((whole, fraction)) => (Some(whole), Some(fraction)),
        None => (seconds, None),
    };
    let zone_ok = match zone.strip_prefix(['+', '-']) {
        _ if matches!(zone, "" | "Z" | "z") => true,
        Some(offset) => {
            let mut p = offset.splitn(2, ':');
            two(p.next(), 23) && two(p.next(), 59)
        }
        None => false,
    };
    two(hours, 23)
        && two(minutes, 59)
        && two(whole, 59)
        && fraction.is_none_or(|f| !f.is_empty() && f.bytes().all(|b| b.is_ascii_digit()))
        && zone_ok
}

/// A Go duration, or a Scala one (`3 days`).
fn duration(s: &str) -> bool {
    const UNITS: [&str; 30] = [
        "ns",
        "nano",
        "nanos",
        "nanosecond",
        "nanoseconds",
        "us",
        "µs",
        "μs",
        "micro",
        "micros",
        "microsecond",
        "microseconds",
        "ms",
        "milli",
        "millis",
        "millisecond",
        "milliseconds",
        "s",
        "sec",
        "secs",
        "second",
        "seconds",
        "m",
        "min",
        "mins",
        "minute",
        "minutes",
        "h",
        "hr",
        "hour",
    ];
    const LONG: [&str; 7] = ["hours", "d", "day", "days", "w", "week", "weeks"];
    let s = s.trim().trim_start_matches(['-', '+']);
    if s == "0" {
        return true;
    }
    if !matches(&DURATION, s) {
        return false;
    }
    let Some(part) = DURATION_PART.as_ref() else { return false };
    part.captures_iter(s).all(|c| c.get(1).is_some_and(|u| UNITS.contains(&u.as_str()) || LONG.contains(&u.as_str())))
}

fn email(s: &str) -> bool {
    let address = match (s.rfind('<'), s.ends_with('>')) {
        (Some(i), true) => &s[i + 1..s.len() - 1],
        _ => s,
    };
    let Some((local, domain)) = address.rsplit_once('@') else { return false };
    let local_ok = !local.is_empty()
        && !local.starts_with('.')
        && !local.ends_with('.')
        && !local.contains("..")
        && local.chars().all(|c| c.is_alphanumeric() || "!#$%&'*+-/=?^_`{|}~.".contains(c) || !c.is_ascii());
    local_ok && !domain.is_empty() && domain.split('.').all(|l| !l.is_empty() && !l.contains([' ', '@', '<', '>', ',']))
}

fn hostname(s: &str) -> bool {
    let s = s.strip_suffix('.').unwrap_or(s);
    !s.is_empty()
        && s.len() <= 255
        && s.split('.').all(|label| {
            (1..=63).contains(&label.chars().count())
                && label.chars().all(|c| c.is_alphanumeric() || c == '-' || c == '_')
                && !label.starts_with('-')
                && !label.ends_with('-')
        })
}

fn digits(s: &str) -> String {
    s.chars().filter(|c| !matches!(c, '-' | ' ')).collect()
}

fn isbn10(s: &str) -> bool {
    let text = digits(s);
    let bytes = text.as_bytes();
    if bytes.len() != 10 || !bytes[..9].iter().all(u8::is_ascii_digit) {
        return false;
    }
    let mut sum: u32 = bytes[..9].iter().enumerate().map(|(i, b)| (i as u32 + 1) * u32::from(b - b'0')).sum();
    match bytes[9] {
        b'X' | b'x' => sum += 100,
        b if b.is_ascii_digit() => sum += 10 * u32::from(b - b'0'),
        _ => return false,
    }
    sum.is_multiple_of(11)
}

fn isbn13(s: &str) -> bool {
    let text = digits(s);
    let bytes = text.as_bytes();
    bytes.len() == 13
        && bytes.iter().all(u8::is_ascii_digit)
        && bytes
            .iter()
            .enumerate()
            .map(|(i, b)| u32::from(b - b'0') * if i % 2 == 0 { 1 } else { 3 })
            .sum::<u32>()
            .is_multiple_of(10)
}

/// Luhn's checksum over 13 to 19 digits.
fn credit_card(s: &str) -> bool {
    let text: String = s.chars().filter(char::is_ascii_digit).collect();
    if !(13..=19).contains(&text.len()) {
        return false;
    }
    let sum: u32 = text
        .bytes()
        .rev()
        .enumerate()
        .map(|(i, b)| {
            let d = u32::from(b - b'0') * if i % 2 == 1 { 2 } else { 1 };
            if d > 9 { d - 9 } else { d }
        })
        .sum();
    sum.is_multiple_of(10)
}

/// Six or eight (or twenty) bytes with `:` or `-`, or in groups of four digits with `.`, as Go's `net.ParseMAC`.
fn mac(s: &str) -> bool {
    let (separator, group) = match s {
        _ if s.contains(':') => (':', 2),
        _ if s.contains('-') => ('-', 2),
        _ if s.contains('.') => ('.', 4),
        _ => return false,
    };
    let parts: Vec<&str> = s.split(separator).collect();
    let bytes = parts.len() * group / 2;
    matches!(bytes, 6 | 8 | 20) && parts.iter().all(|p| p.len() == group && p.bytes().all(|b| b.is_ascii_hexdigit()))
}

fn uri(s: &str) -> bool {
    // Go's `url.ParseRequestURI`: absolute, or an absolute path.
    if s.is_empty() || s.bytes().any(|b| b < 0x20 || b == 0x7f || b == b' ') {
        return false;
    }
    if s.starts_with('/') {
        return true;
    }
    let Some((scheme, rest)) = s.split_once(':') else { return false };
    scheme.starts_with(|c: char| c.is_ascii_alphabetic())
        && scheme.chars().all(|c| c.is_ascii_alphanumeric() || "+-.".contains(c))
        && !rest.is_empty()
}

fn uuid(s: &str, version: Option<char>) -> bool {
    let text: String = match s.len() {
        36 if [8, 13, 18, 23].iter().all(|i| s.as_bytes()[*i] == b'-') => s.chars().filter(|c| *c != '-').collect(),
        32 => s.to_string(),
        _ => return false,
    };
    text.len() == 32
        && text.bytes().all(|b| b.is_ascii_hexdigit())
        && version.is_none_or(|v| {
            text.chars().nth(12) == Some(v)
                && (v == '3'
                    || text.chars().nth(16).is_some_and(|c| matches!(c.to_ascii_lowercase(), '8' | '9' | 'a' | 'b')))
        })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn formats_take_what_upstream_takes() {
        for (format, good, bad) in [
            ("bsonobjectid", "507f1f77bcf86cd799439011", "507f1f77bcf86cd79943901"),
            ("byte", "aGVsbG8=", "aGVsbG8"),
            ("cidr", "10.0.0.0/8", "10.0.0.0"),
            ("creditcard", "4111-1111-1111-1111", "4111-1111-1111-1112"),
            ("date", "2026-02-28", "2026-02-30"),
            ("date-time", "2026-01-01T10:00:00.5+02:00", "2026-01-01"),
            ("datetime", "2026-01-01T10:00:00Z", "2026-01-01T25:00:00Z"),
            ("duration", "1h30m", "1 parsec"),
            ("duration", "3 days", "3"),
            ("email", "a.b@example.com", "a.b.example.com"),
            ("hexcolor", "#FFaa00", "#FFaa0"),
            ("hostname", "a.example.com", "-a.example.com"),
            ("ipv4", "192.0.2.1", "192.0.2.256"),
            ("ipv6", "2001:db8::1", "192.0.2.1"),
            ("isbn", "978-3-16-148410-0", "978-3-16-148410-1"),
            ("isbn10", "0-306-40615-2", "0-306-40615-3"),
            ("k8s-short-name", "abc", "Abc"),
            ("k8s-long-name", "a.b.c", "a_b"),
            ("mac", "00:00:5e:00:53:01", "00:00:5e:00:53"),
            ("rgbcolor", "rgb(0, 12, 255)", "rgb(0,12,256)"),
            ("ssn", "111-11-1111", "111-11-111"),
            ("uri", "https://example.com/a", "example"),
            ("uuid", "a7b5a4b6-8f3e-4a3b-9b1a-0c5d6e7f8091", "a7b5a4b6-8f3e"),
            ("uuid3", "bcd02e22-68f0-3046-a512-327cca9def8f", "bcd02e22-68f0-4046-a512-327cca9def8f"),
            ("uuid4", "025b0d74-00a2-4048-bf57-227c5111bb34", "025b0d74-00a2-3048-bf57-227c5111bb34"),
        ] {
            assert_eq!(check(format, good), Some(true), "{format} {good}");
            assert_eq!(check(format, bad), Some(false), "{format} {bad}");
        }
        assert_eq!(check("password", "anything"), Some(true));
        assert_eq!(check("phone-number", "x"), None);
    }
}
