//! URLs, IP addresses and CIDR ranges.

use super::Row;
use crate::eval::{EvalError, Evaluated, Frame, no_overload};
use crate::value::{Key, Str, Value};
use ipnet::IpNet;
use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::Arc;

pub const ROWS: &[Row] = &[
    ("url", &["(string) kubernetes.URL"], url),
    ("isURL", &["(string) bool"], |_, a| Ok(Value::Bool(text(a).is_some_and(|s| parse_url(s).is_ok())))),
    ("getScheme", &["kubernetes.URL.() string"], |_, a| of_url(a, |u| u.scheme().to_string())),
    ("getHost", &["kubernetes.URL.() string"], |_, a| of_url(a, host)),
    ("getHostname", &["kubernetes.URL.() string"], |_, a| of_url(a, hostname)),
    ("getPort", &["kubernetes.URL.() string"], |_, a| {
        of_url(a, |u| u.port().map(|p| p.to_string()).unwrap_or_default())
    }),
    ("getEscapedPath", &["kubernetes.URL.() string"], |_, a| of_url(a, path)),
    ("getQuery", &["kubernetes.URL.() map(string, list(string))"], query),
    ("ip", &["(string) net.IP", "net.CIDR.() net.IP"], ip),
    ("isIP", &["(string) bool"], |_, a| Ok(Value::Bool(text(a).is_some_and(|s| parse_ip(s).is_ok())))),
    ("ip.isCanonical", &["(string) bool"], is_canonical),
    ("family", &["net.IP.() int"], family),
    ("isUnspecified", &["net.IP.() bool"], |_, a| of_ip(a, IpAddr::is_unspecified)),
    ("isLoopback", &["net.IP.() bool"], |_, a| of_ip(a, IpAddr::is_loopback)),
    ("isLinkLocalMulticast", &["net.IP.() bool"], |_, a| of_ip(a, link_local_multicast)),
    ("isLinkLocalUnicast", &["net.IP.() bool"], |_, a| of_ip(a, link_local_unicast)),
    ("isGlobalUnicast", &["net.IP.() bool"], |_, a| of_ip(a, global_unicast)),
    ("cidr", &["(string) net.CIDR"], cidr),
    ("isCIDR", &["(string) bool"], |_, a| Ok(Value::Bool(text(a).is_some_and(|s| parse_cidr(s).is_ok())))),
    ("containsIP", &["net.CIDR.(net.IP) bool", "net.CIDR.(string) bool"], contains_ip),
    ("containsCIDR", &["net.CIDR.(net.CIDR) bool", "net.CIDR.(string) bool"], contains_cidr),
    ("prefixLength", &["net.CIDR.() int"], prefix_length),
    ("masked", &["net.CIDR.() net.CIDR"], masked),
];

fn text<'a>(args: &'a [Value<'_>]) -> Option<&'a str> {
    args.first()?.as_str()
}

/// Absolute URLs and absolute paths, as upstream's `isURL` takes them.
fn parse_url(text: &str) -> Result<url::Url, EvalError> {
    let bad =
        |why: &str| EvalError::new(format!("URL parse error during conversion from string: parse {text:?}: {why}"));
    if text.is_empty() {
        return Err(bad("empty url"));
    }
    if text.starts_with('/') {
        let base = url::Url::parse("path:///").map_err(|e| bad(&e.to_string()))?;
        return base.join(text).map_err(|e| bad(&e.to_string()));
    }
    url::Url::parse(text).map_err(|_| bad("invalid URI for request"))
}

fn url<'v>(_: &mut Frame<'_, 'v>, args: &[Value<'v>]) -> Evaluated<'v> {
    match args {
        [Value::String(s)] => Ok(Value::Url(Arc::new(parse_url(s)?))),
        _ => no_overload(),
    }
}

fn of_url<'v>(args: &[Value<'v>], part: impl Fn(&url::Url) -> String) -> Evaluated<'v> {
    match args {
        // A path alone has but a path.
        [Value::Url(u)] => Ok(Value::string(part(u).replace("path:", ""))),
        _ => no_overload(),
    }
}

fn hostname(u: &url::Url) -> String {
    u.host_str().unwrap_or("").trim_start_matches('[').trim_end_matches(']').to_string()
}

fn host(u: &url::Url) -> String {
    let host = u.host_str().unwrap_or("");
    match u.port() {
        Some(port) => format!("{host}:{port}"),
        None => host.to_string(),
    }
}

fn path(u: &url::Url) -> String {
    // The `url` crate puts the slash that a bare host leaves out.
    u.path().to_string()
}

fn query<'v>(_: &mut Frame<'_, 'v>, args: &[Value<'v>]) -> Evaluated<'v> {
    let [Value::Url(u)] = args else { return no_overload() };
    let mut all: BTreeMap<Key<'v>, Vec<Value<'v>>> = BTreeMap::new();
    for (name, value) in u.query_pairs() {
        all.entry(Key::String(Str::Shared(Arc::from(&*name)))).or_default().push(Value::string(&*value));
    }
    Ok(Value::map(all.into_iter().map(|(k, v)| (k, Value::list(v))).collect()))
}

fn parse_ip(text: &str) -> Result<IpAddr, EvalError> {
    let fail =
        |why: &str| EvalError::new(format!("IP Address {text:?} parse error during conversion from string: {why}"));
    let ip: IpAddr = text.parse().map_err(|_| fail(&format!("ParseAddr({text:?}): unable to parse IP")))?;
    match ip {
        IpAddr::V6(v6) if v6.to_ipv4_mapped().is_some() => Err(fail("IPv4-mapped IPv6 address is not allowed")),
        ip => Ok(ip),
    }
}

fn parse_cidr(text: &str) -> Result<IpNet, EvalError> {
    let fail = |why: &str| EvalError::new(format!("network address parse error during conversion from string: {why}"));
    let cidr: IpNet = text.parse().map_err(|_| fail(&format!("netip.ParsePrefix({text:?}): no such prefix")))?;
    match cidr.addr() {
        IpAddr::V6(v6) if v6.to_ipv4_mapped().is_some() => Err(fail("IPv4-mapped IPv6 address is not allowed")),
        _ => Ok(cidr),
    }
}

fn ip<'v>(_: &mut Frame<'_, 'v>, args: &[Value<'v>]) -> Evaluated<'v> {
    match args {
        [Value::String(s)] => parse_ip(s).map(Value::Ip),
        [Value::Cidr(c)] => Ok(Value::Ip(c.addr())),
        _ => no_overload(),
    }
}

fn is_canonical<'v>(_: &mut Frame<'_, 'v>, args: &[Value<'v>]) -> Evaluated<'v> {
    match args {
        [Value::String(s)] => Ok(Value::Bool(parse_ip(s)?.to_string() == **s)),
        _ => no_overload(),
    }
}

fn family<'v>(_: &mut Frame<'_, 'v>, args: &[Value<'v>]) -> Evaluated<'v> {
    match args {
        [Value::Ip(IpAddr::V4(_))] => Ok(Value::Int(4)),
        [Value::Ip(IpAddr::V6(_))] => Ok(Value::Int(6)),
        _ => no_overload(),
    }
}

fn of_ip<'v>(args: &[Value<'v>], holds: fn(&IpAddr) -> bool) -> Evaluated<'v> {
    match args {
        [Value::Ip(ip)] => Ok(Value::Bool(holds(ip))),
        _ => no_overload(),
    }
}

fn link_local_multicast(ip: &IpAddr) -> bool {
    match ip {
        IpAddr::V4(v4) => v4.octets()[..3] == [224, 0, 0],
        IpAddr::V6(v6) => v6.segments()[0] & 0xff0f == 0xff02,
    }
}

fn link_local_unicast(ip: &IpAddr) -> bool {
    match ip {
        IpAddr::V4(v4) => v4.is_link_local(),
        IpAddr::V6(v6) => v6.segments()[0] & 0xffc0 == 0xfe80,
    }
}

/// As Go's `netip.Addr.IsGlobalUnicast`: private ranges count.
fn global_unicast(ip: &IpAddr) -> bool {
    let special = ip.is_unspecified() || ip.is_loopback() || ip.is_multicast() || link_local_unicast(ip);
    !special && !matches!(ip, IpAddr::V4(v4) if v4.is_broadcast())
}

fn cidr<'v>(_: &mut Frame<'_, 'v>, args: &[Value<'v>]) -> Evaluated<'v> {
    match args {
        [Value::String(s)] => parse_cidr(s).map(Value::Cidr),
        _ => no_overload(),
    }
}

fn contains_ip<'v>(_: &mut Frame<'_, 'v>, args: &[Value<'v>]) -> Evaluated<'v> {
    let (range, ip) = match args {
        [Value::Cidr(c), Value::Ip(ip)] => (c, *ip),
        [Value::Cidr(c), Value::String(s)] => (c, parse_ip(s)?),
        _ => return no_overload(),
    };
    Ok(Value::Bool(range.contains(&ip)))
}

fn contains_cidr<'v>(_: &mut Frame<'_, 'v>, args: &[Value<'v>]) -> Evaluated<'v> {
    let (range, other) = match args {
        [Value::Cidr(c), Value::Cidr(other)] => (c, *other),
        [Value::Cidr(c), Value::String(s)] => (c, parse_cidr(s)?),
        _ => return no_overload(),
    };
    Ok(Value::Bool(range.contains(&other.trunc())))
}

fn prefix_length<'v>(_: &mut Frame<'_, 'v>, args: &[Value<'v>]) -> Evaluated<'v> {
    match args {
        [Value::Cidr(c)] => Ok(Value::Int(i64::from(c.prefix_len()))),
        _ => no_overload(),
    }
}

fn masked<'v>(_: &mut Frame<'_, 'v>, args: &[Value<'v>]) -> Evaluated<'v> {
    match args {
        [Value::Cidr(c)] => Ok(Value::Cidr(c.trunc())),
        _ => no_overload(),
    }
}
