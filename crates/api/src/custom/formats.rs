//! `format` of strings in schemas: the ones that upstream checks. An unknown format says nothing.
//!
//! Source: CustomResourceDefinition reference, "format"; upstream's `strfmt` package.

use meta::names;
use regex::Regex;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::sync::LazyLock;

/// Whether a text has the format. `None` where the format isn't one that is checked.
pub fn check(format: &str, text: &str) -> Option<bool> {
    let name: String = format.chars().filter(|c| *c != '-').collect();
    let check = CHECKS.iter().find(|(known, _)| *known == name)?.1;
    Some(check(text))
}

/// Whether values of a schema's type are checked for the format. `kind`: `type`, or empty.
pub fn known(kind: &str, format: &str) -> bool {
    match kind {
        "" | "string" => check(format, "").is_some(),
        "integer" => matches!(format, "int32" | "int64"),
        "number" => matches!(format, "float" | "double"),
        _ => false,
    }
}

type Check = fn(&str) -> bool;

/// Names without their dashes.
const CHECKS: &[(&str, Check)] = &[
    ("bsonobjectid", |s| s.len() == 24 && s.bytes().all(|b| b.is_ascii_hexdigit())),
    ("byte", |s| matches(&BASE64, s)),
    ("cidr", cidr),
    ("creditcard", credit_card),
    ("date", date),
    ("datetime", date_time),
    ("duration", |s| meta::duration::parse_go(s).is_ok() || scala_duration(s)),
    ("email", email),
    ("hexcolor", |s| matches(&HEX_COLOR, s)),
    ("hostname", hostname),
    ("ipv4", |s| s.contains('.') && ip(s).is_some()),
    ("ipv6", |s| s.parse::<Ipv6Addr>().is_ok()),
    ("isbn", |s| isbn10(s) || isbn13(s)),
    ("isbn10", isbn10),
    ("isbn13", isbn13),
    ("k8slongname", |s| names::dns1123_subdomain(s).is_empty()),
    ("k8sshortname", |s| names::dns1123_label(s).is_empty()),
    ("mac", mac),
    ("password", |_| true),
    ("rgbcolor", |s| matches(&RGB_COLOR, s)),
    ("ssn", |s| s.len() == 11 && matches(&SSN, s)),
    ("uri", uri),
    ("uuid", |s| matches(&UUID, s)),
    ("uuid3", |s| matches(&UUID3, s)),
    ("uuid4", |s| matches(&UUID4, s)),
    ("uuid5", |s| matches(&UUID5, s)),
];

type Pattern = LazyLock<Option<Regex>>;

fn matches(pattern: &Pattern, text: &str) -> bool {
    pattern.as_ref().is_some_and(|p| p.is_match(text))
}

static BASE64: Pattern = LazyLock::new(|| {
    Regex::new("^(?:[A-Za-z0-9+/]{4})*(?:[A-Za-z0-9+/]{2}==|[A-Za-z0-9+/]{3}=|[A-Za-z0-9+/]{4})$").ok()
});
static HEX_COLOR: Pattern = LazyLock::new(|| Regex::new("^#?([0-9a-fA-F]{3}|[0-9a-fA-F]{6})$").ok());
static RGB_COLOR: Pattern = LazyLock::new(|| {
    let n = r"(0|[1-9][0-9]?|1[0-9][0-9]?|2[0-4][0-9]|25[0-5])";
    Regex::new(&format!(r"^rgb\(\s*{n}\s*,\s*{n}\s*,\s*{n}\s*\)$")).ok()
});
static SSN: Pattern = LazyLock::new(|| Regex::new(r"^[0-9]{3}[- ]?[0-9]{2}[- ]?[0-9]{4}$").ok());
static CREDIT_CARD: Pattern = LazyLock::new(|| {
    Regex::new("^(?:4[0-9]{12}(?:[0-9]{3})?|5[1-5][0-9]{14}|6(?:011|5[0-9][0-9])[0-9]{12}|3[47][0-9]{13}|3(?:0[0-5]|[68][0-9])[0-9]{11}|(?:2131|1800|35[0-9]{3})[0-9]{11})$").ok()
});
static CLOCK: Pattern =
    LazyLock::new(|| Regex::new("^([0-9]{2}):([0-9]{2}):([0-9]{2})(?:.[0-9]+)?(?:z|[+-][0-9]{2}:[0-9]{2})$").ok());
static DURATION_PART: Pattern = LazyLock::new(|| Regex::new(r"([0-9]+)\s*([A-Za-zµ]+)").ok());
/// A letter, digit or symbol of a host name; a letter of its last part.
static HOST_CHARACTER: Pattern = LazyLock::new(|| Regex::new(r"^[a-zA-Z0-9\p{S}\p{L}]$").ok());
static HOST_LETTER: Pattern = LazyLock::new(|| Regex::new(r"^[a-zA-Z\p{L}]$").ok());

/// A UUID whose third and fourth parts begin as given; dashes may be left out.
fn uuid_pattern(version: &str, variant: &str) -> Option<Regex> {
    let hex = "[0-9a-f]";
    let part = |first: &str| if first.is_empty() { format!("{hex}{{4}}") } else { format!("{first}{hex}{{3}}") };
    Regex::new(&format!("(?i)^{hex}{{8}}-?{hex}{{4}}-?{}-?{}-?{hex}{{12}}$", part(version), part(variant))).ok()
}

static UUID: Pattern = LazyLock::new(|| uuid_pattern("", ""));
static UUID3: Pattern = LazyLock::new(|| uuid_pattern("3", ""));
static UUID4: Pattern = LazyLock::new(|| uuid_pattern("4", "[89ab]"));
static UUID5: Pattern = LazyLock::new(|| uuid_pattern("5", "[89ab]"));

/// An address as Go read it long ago: with leading zeros.
fn ip(s: &str) -> Option<IpAddr> {
    if s.contains(':') {
        return s.parse().ok().map(IpAddr::V6);
    }
    let octets: Option<Vec<u8>> = s
        .split('.')
        .map(|o| o.parse().ok().filter(|_| !o.is_empty() && o.bytes().all(|b| b.is_ascii_digit())))
        .collect();
    let octets: [u8; 4] = octets?.try_into().ok()?;
    Some(IpAddr::V4(Ipv4Addr::from(octets)))
}

fn cidr(s: &str) -> bool {
    let Some((address, bits)) = s.split_once('/') else { return false };
    let bits_max = match ip(address) {
        Some(IpAddr::V4(_)) => 32,
        Some(IpAddr::V6(_)) => 128,
        None => return false,
    };
    bits.bytes().all(|b| b.is_ascii_digit()) && bits.parse::<u32>().is_ok_and(|b| b <= bits_max)
}

fn date(s: &str) -> bool {
    s.len() == 10 && s.as_bytes()[0].is_ascii_digit() && s.parse::<jiff::civil::Date>().is_ok()
}

/// RFC 3339 in any case, with any character before the fraction, as upstream's pattern takes it.
fn date_time(s: &str) -> bool {
    let lower = s.to_lowercase();
    let mut parts = lower.split('t');
    let (Some(day), Some(clock)) = (parts.next(), parts.next()) else { return false };
    date(day)
        && CLOCK
            .as_ref()
            .and_then(|p| p.captures(clock))
            .is_some_and(|c| &c[1] <= "23" && &c[2] <= "59" && &c[3] <= "59")
}

/// `3 days`, as upstream takes Scala's: one amount with a known unit anywhere.
fn scala_duration(s: &str) -> bool {
    const UNITS: &[&[&str]] = &[
        &["ns", "nano"],
        &["us", "µs", "micro"],
        &["ms", "milli"],
        &["s", "sec"],
        &["m", "min"],
        &["h", "hr", "hour"],
        &["d", "day"],
        &["w", "wk", "week"],
    ];
    let Some(part) = DURATION_PART.as_ref() else { return false };
    let mut known = false;
    for c in part.captures_iter(s) {
        if c[1].parse::<i64>().is_err() {
            return false;
        }
        let unit = c[2].to_lowercase();
        known |=
            UNITS.iter().any(|u| u.contains(&unit.as_str()) || u.last().is_some_and(|long| unit.starts_with(long)));
    }
    known
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

/// One word with a dash after its first character at most, or words with dots whose last has letters alone: upstream's
/// pattern, which takes `my-host.example.com` but not `my-host`.
fn hostname(s: &str) -> bool {
    let is = |pattern: &Pattern, c: char| matches(pattern, c.encode_utf8(&mut [0; 4]));
    let word = |c: char| is(&HOST_CHARACTER, c);
    if s.len() > 255 || s.split('.').any(|part| part.len() > 63) {
        return false;
    }
    let Some((front, last)) = s.rsplit_once('.') else {
        let mut chars = s.chars();
        let first = chars.next();
        let rest = chars.as_str();
        return first.is_some_and(word) && rest.strip_prefix('-').unwrap_or(rest).chars().all(word);
    };
    (2..=63).contains(&last.chars().count())
        && last.chars().all(|c| is(&HOST_LETTER, c))
        && front
            .split('.')
            .all(|part| part.starts_with(word) && part.ends_with(word) && part.chars().all(|c| c == '-' || word(c)))
}

fn digits(s: &str) -> String {
    s.chars().filter(|c| !matches!(c, '-' | ' ' | '\t' | '\n' | '\r' | '\u{c}')).collect()
}

fn isbn10(s: &str) -> bool {
    let text = digits(s);
    let bytes = text.as_bytes();
    if bytes.len() != 10 || !bytes[..9].iter().all(u8::is_ascii_digit) {
        return false;
    }
    let mut sum: u32 = bytes[..9].iter().enumerate().map(|(i, b)| (i as u32 + 1) * u32::from(b - b'0')).sum();
    match bytes[9] {
        b'X' => sum += 100,
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

/// A number of one of the big issuers, with Luhn's checksum.
fn credit_card(s: &str) -> bool {
    let text: String = s.chars().filter(char::is_ascii_digit).collect();
    if !matches(&CREDIT_CARD, &text) {
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

/// Absolute, or an absolute path: Go's `url.ParseRequestURI`.
fn uri(s: &str) -> bool {
    if s.is_empty() || s.bytes().any(|b| b < 0x20 || b == 0x7f) || s.starts_with(':') {
        return false;
    }
    let is_scheme = |t: &str| {
        t.starts_with(|c: char| c.is_ascii_alphabetic())
            && t.chars().all(|c| c.is_ascii_alphanumeric() || "+-.".contains(c))
    };
    let (scheme, rest) = s.split_once(':').filter(|(t, _)| is_scheme(t)).unwrap_or(("", s));
    let rest = rest.split('?').next().unwrap_or("");
    if !rest.starts_with('/') {
        return !scheme.is_empty() || s == "*";
    }
    let (authority, path) = match rest.strip_prefix("//").filter(|_| !scheme.is_empty()) {
        Some(r) => r.split_at(r.find('/').unwrap_or(r.len())),
        None => ("", rest),
    };
    let host = authority.rsplit('@').next().unwrap_or("");
    let port = host.rsplit_once(':').filter(|(h, _)| !h.contains('[') || h.ends_with(']')).map_or("", |(_, p)| p);
    let host_ok =
        host.chars().all(|c| !c.is_ascii() || c.is_ascii_alphanumeric() || "-_.~!$&'()*+,;=:[]<>\"".contains(c))
            && host.starts_with('[') == host.contains(']')
            && port.bytes().all(|b| b.is_ascii_digit());
    let escapes_ok = path.split('%').skip(1).all(|p| p.len() >= 2 && p.bytes().take(2).all(|b| b.is_ascii_hexdigit()));
    host_ok && escapes_ok
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn formats_take_what_upstream_takes() {
        for (format, good, bad) in [
            ("bsonobjectid", "507f1f77bcf86cd799439011", "507f1f77bcf86cd79943901"),
            ("byte", "aGVsbG8=", "aGVsbG8"),
            ("byte", "aGVsbG9=", ""),
            ("cidr", "10.0.0.0/8", "10.0.0.0"),
            ("cidr", "010.0.0.0/08", "10.0.0.0/33"),
            ("cidr", "2001:db8::/64", "2001:db8::/129"),
            ("creditcard", "4111-1111-1111-1111", "4111-1111-1111-1112"),
            ("date", "2026-02-28", "2026-02-30"),
            ("date-time", "2026-01-01T10:00:00.5+02:00", "2026-01-01"),
            ("date-time", "2026-01-01t10:00:00z", "2026-01-01 10:00:00Z"),
            ("date-time", "2026-01-01T10:00:00,5Z", "2026-01-01T10:00:00"),
            ("datetime", "2026-01-01T10:00:00Z", "2026-01-01T25:00:00Z"),
            ("duration", "1h30m", "1 parsec"),
            ("duration", "3 days", "3"),
            ("duration", "-1.5h", "1.5"),
            ("duration", "0", "h"),
            ("duration", "2562047h", "1x"),
            ("duration", "3 Weeks and more", "99999999999999999999 days"),
            ("email", "a.b@example.com", "a.b.example.com"),
            ("hexcolor", "#FFaa00", "#FFaa0"),
            ("hostname", "a.example.com", "-a.example.com"),
            ("hostname", "my-host.example.com", "my-host"),
            ("hostname", "localhost", "local_host"),
            ("hostname", "ü.example", "192.0.2.1"),
            ("ipv4", "192.0.2.1", "192.0.2.256"),
            ("ipv4", "192.000.002.001", "::1"),
            ("ipv4", "::ffff:192.0.2.1", "192.0.2"),
            ("ipv6", "2001:db8::1", "192.0.2.1"),
            ("isbn", "978-3-16-148410-0", "978-3-16-148410-1"),
            ("isbn10", "0-306-40615-2", "0-306-40615-3"),
            ("isbn10", "080442957X", "080442957x"),
            ("k8s-short-name", "abc", "Abc"),
            ("k8s-longname", "a.b.c", "a_b"),
            ("mac", "00:00:5e:00:53:01", "00:00:5e:00:53"),
            ("rgbcolor", "rgb(0, 12, 255)", "rgb(0,12,256)"),
            ("ssn", "111-11-1111", "111-11-111"),
            ("ssn", "111 11 1111", "111111111"),
            ("uri", "https://example.com/a", "example"),
            ("uri", "https://[::1]:443/a b?c", "https://exa mple.com"),
            ("uri", "/a/b%20c", "/a/b%2"),
            ("uri", "mailto:me", "https://example.com:http/"),
            ("uuid", "a7b5a4b6-8f3e-4a3b-9b1a-0c5d6e7f8091", "a7b5a4b6-8f3e"),
            ("uuid", "A7B5A4B68F3E-4a3b9b1a0c5d6e7f8091", "a7b5a4b6-8f3e-4a3b-9b1a-0c5d6e7f809g"),
            ("uuid3", "bcd02e22-68f0-3046-a512-327cca9def8f", "bcd02e22-68f0-4046-a512-327cca9def8f"),
            ("uuid4", "025b0d74-00a2-4048-bf57-227c5111bb34", "025b0d74-00a2-3048-bf57-227c5111bb34"),
            ("uuid5", "025b0d74-00a2-5048-bf57-227c5111bb34", "025b0d74-00a2-5048-cf57-227c5111bb34"),
        ] {
            assert_eq!(check(format, good), Some(true), "{format} {good}");
            assert_eq!(check(format, bad), Some(false), "{format} {bad}");
        }
        assert_eq!(check("password", "anything"), Some(true));
        assert_eq!(check("phone-number", "x"), None);
    }
}
