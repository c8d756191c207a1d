//! The front proxy: a trusted proxy has authenticated the user and says so in headers.
//! Source: "Configure the Aggregation Layer".

use super::x509::Verifier;
use super::{Authenticator, Connection, Outcome, User, header_text};
use async_trait::async_trait;
use std::collections::BTreeMap;

/// Upstream's `--requestheader-…` flags. Header names are lower case.
#[derive(Clone, Debug)]
pub struct Options {
    /// Common names of proxies that are trusted; empty trusts all that the authority signed.
    pub allowed_names: Vec<String>,
    /// The first of these that is there counts.
    pub username_headers: Vec<String>,
    pub uid_headers: Vec<String>,
    pub group_headers: Vec<String>,
    pub extra_header_prefixes: Vec<String>,
}

impl Default for Options {
    fn default() -> Options {
        let one = |s: &str| vec![s.to_string()];
        Options {
            allowed_names: Vec::new(),
            username_headers: one("x-remote-user"),
            uid_headers: one("x-remote-uid"),
            group_headers: one("x-remote-group"),
            extra_header_prefixes: one("x-remote-extra-"),
        }
    }
}

pub struct RequestHeader {
    verifier: Verifier,
    options: Options,
}

impl RequestHeader {
    /// `ca_pem`: the authorities of trusted proxies.
    pub fn new(ca_pem: &str, options: Options) -> Result<RequestHeader, String> {
        Ok(RequestHeader { verifier: Verifier::new(ca_pem)?, options })
    }
}

#[async_trait]
impl Authenticator for RequestHeader {
    async fn authenticate(&self, headers: &http::HeaderMap, connection: &Connection) -> Outcome {
        let Some(der) = &connection.client_certificate else { return Outcome::Skip };
        // A certificate of another authority is simply not a proxy's, whatever the headers say.
        let Ok(proxy) = self.verifier.user(der, jiff::Timestamp::now().as_second()) else { return Outcome::Skip };
        let allowed = &self.options.allowed_names;
        if !allowed.is_empty() && !allowed.contains(&proxy.name) {
            return Outcome::Invalid(format!("x509: subject with cn={} is not in the allowed list", proxy.name));
        }
        match user_in(headers, &self.options) {
            Some(user) => Outcome::Authenticated(user),
            None => Outcome::Skip,
        }
    }
}

fn user_in(headers: &http::HeaderMap, options: &Options) -> Option<User> {
    let first = |names: &[String]| {
        names
            .iter()
            .find_map(|n| headers.get(n.as_str()).map(header_text).filter(|v| !v.is_empty()))
            .unwrap_or_default()
    };
    let name = first(&options.username_headers);
    if name.is_empty() {
        return None;
    }
    let groups = options
        .group_headers
        .iter()
        .flat_map(|n| headers.get_all(n.as_str()))
        .map(header_text)
        .filter(|v| !v.is_empty())
        .collect();
    let mut extra: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for (key, values) in options.extra_header_prefixes.iter().flat_map(|prefix| extra_in(headers, prefix)) {
        extra.entry(key).or_default().extend(values);
    }
    Some(User { name, uid: first(&options.uid_headers), groups, extra })
}

/// Headers `<prefix><key>: <value>`; keys are percent-encoded and lower case.
pub(super) fn extra_in(headers: &http::HeaderMap, prefix: &str) -> BTreeMap<String, Vec<String>> {
    let mut extra: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for (name, value) in headers {
        if let Some(key) = name.as_str().strip_prefix(prefix).filter(|key| !key.is_empty()) {
            extra.entry(decode_key(key)).or_default().push(header_text(value));
        }
    }
    extra
}

/// A bad escape leaves the key as it is, as upstream does.
fn decode_key(key: &str) -> String {
    let mut out = Vec::with_capacity(key.len());
    let mut rest = key.as_bytes();
    while let Some((&first, tail)) = rest.split_first() {
        if first == b'%' {
            let byte =
                tail.get(..2).and_then(|h| std::str::from_utf8(h).ok()).and_then(|h| u8::from_str_radix(h, 16).ok());
            match byte {
                Some(b) => out.push(b),
                None => return key.to_string(),
            }
            rest = &tail[2..];
        } else {
            out.push(first);
            rest = tail;
        }
    }
    String::from_utf8(out).unwrap_or_else(|_| key.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pki::{Pki, PkiOptions, Request};
    use std::sync::Arc;

    #[tokio::test]
    async fn headers_count_only_from_the_proxy() {
        let dir = tempfile::tempdir().unwrap();
        let options = PkiOptions {
            node_name: "n1".into(),
            node_ips: vec![],
            service_ip: "10.43.0.1".parse().unwrap(),
            cluster_domain: "cluster.local".into(),
            extra_sans: vec![],
        };
        let pki = Pki::load_or_create(dir.path(), &options).unwrap();
        let a = RequestHeader::new(
            &pki.front_proxy_ca.cert_pem,
            Options { allowed_names: vec!["front-proxy-client".into()], ..Options::default() },
        )
        .unwrap();
        let mut headers = http::HeaderMap::new();
        headers.insert("x-remote-user", "jane".parse().unwrap());
        headers.append("x-remote-group", "dev".parse().unwrap());
        headers.append("x-remote-group", "".parse().unwrap());
        headers.append("x-remote-group", http::HeaderValue::from_bytes("größe".as_bytes()).unwrap());
        headers.insert("x-remote-extra-example.org%2fscope", "all".parse().unwrap());
        let now = jiff::Timestamp::now().as_second();
        let other = pki.front_proxy_ca.issue(&Request::client("other", None), now).unwrap();
        for (identity, expected) in [
            (Some(&pki.front_proxy_client), "jane"),
            (Some(&pki.admin), "skip"),
            (Some(&other), "invalid"),
            (None, "skip"),
        ] {
            let connection = Connection {
                client_certificate: identity.map(|i| Arc::new(i.cert_der().unwrap().to_vec())),
                ..Connection::default()
            };
            let got = match a.authenticate(&headers, &connection).await {
                Outcome::Authenticated(u) => {
                    assert_eq!(u.groups, ["dev", "größe"]);
                    assert_eq!(u.extra["example.org/scope"], ["all"]);
                    u.name
                }
                Outcome::Skip => "skip".to_string(),
                Outcome::Invalid(_) => "invalid".to_string(),
            };
            assert_eq!(got, expected);
        }
    }

    #[test]
    fn keys_with_bad_escapes_stay() {
        for (key, expected) in [("a%2fb", "a/b"), ("a%", "a%"), ("a%2", "a%2"), ("a%zz", "a%zz"), ("%ff", "%ff")] {
            assert_eq!(decode_key(key), expected);
        }
    }
}
