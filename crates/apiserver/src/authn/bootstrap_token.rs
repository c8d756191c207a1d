//! Bootstrap tokens, `abcdef.0123456789abcdef`: Secrets in kube-system by which a new node first calls.
//! Source: "Authenticating with Bootstrap Tokens".

use super::User;
use super::bearer::{TokenAuthenticator, TokenOutcome};
use crate::reader::Reader;
use async_trait::async_trait;
use base64::{Engine, engine::general_purpose::STANDARD};
use serde_json::Value;

const GROUP: &str = "system:bootstrappers";

pub struct BootstrapTokens {
    reader: Reader,
    clock: fn() -> jiff::Timestamp,
}

impl BootstrapTokens {
    pub fn new(reader: Reader) -> BootstrapTokens {
        BootstrapTokens { reader, clock: jiff::Timestamp::now }
    }
}

/// `[a-z0-9]{6}.[a-z0-9]{16}`, split.
fn split(token: &str) -> Option<(&str, &str)> {
    let (id, secret) = token.split_once('.')?;
    let plain = |s: &str, n| s.len() == n && s.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit());
    (plain(id, 6) && plain(secret, 16)).then_some((id, secret))
}

#[async_trait]
impl TokenAuthenticator for BootstrapTokens {
    async fn authenticate_token(&self, token: &str, audiences: &[String]) -> TokenOutcome {
        let Some((id, secret)) = split(token) else { return TokenOutcome::Skip };
        let Some(object) = self.reader.get("", "secrets", "kube-system", &format!("bootstrap-token-{id}")) else {
            return TokenOutcome::Skip;
        };
        match judge(&object.value(), id, secret, (self.clock)()) {
            Ok(user) => TokenOutcome::Authenticated { user, audiences: audiences.to_vec() },
            Err(why) => {
                tracing::info!(id, why, "a bootstrap token wasn't accepted");
                TokenOutcome::Skip
            }
        }
    }
}

/// Whether this Secret makes `id.secret` good now, and for whom.
fn judge(object: &Value, id: &str, secret: &str, now: jiff::Timestamp) -> Result<User, &'static str> {
    let data = |key: &str| {
        object["data"][key]
            .as_str()
            .and_then(|s| STANDARD.decode(s).ok())
            .and_then(|b| String::from_utf8(b).ok())
            .unwrap_or_default()
    };
    if !object["metadata"]["deletionTimestamp"].is_null() {
        return Err("bootstrap token is deleted");
    }
    if object["type"] != "bootstrap.kubernetes.io/token" || data("token-id") != id {
        return Err("secret is no bootstrap token of this id");
    }
    if !same_secret(data("token-secret").as_bytes(), secret.as_bytes()) {
        return Err("bootstrap token's secret is wrong");
    }
    let expiration = data("expiration");
    if !expiration.is_empty() && expiration.parse::<jiff::Timestamp>().map_or(true, |t| now >= t) {
        return Err("bootstrap token has expired");
    }
    if data("usage-bootstrap-authentication") != "true" {
        return Err("bootstrap token is not for authentication");
    }
    let mut user = User::new(&format!("system:bootstrap:{id}"), &[]);
    let groups = data("auth-extra-groups");
    for group in groups.split(',').filter(|_| !groups.is_empty()) {
        let plain = group.strip_prefix("system:bootstrappers:").is_some_and(|rest| {
            (1..=256).contains(&rest.len())
                && rest.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || matches!(b, b':' | b'-'))
                && !rest.ends_with([':', '-'])
        });
        if !plain {
            return Err("bootstrap token names a group that it may not give");
        }
        user.groups.push(group.to_string());
    }
    user.groups.sort();
    user.groups.dedup();
    user.groups.insert(0, GROUP.to_string());
    Ok(user)
}

/// Takes as long whether the first byte differs or the last.
fn same_secret(a: &[u8], b: &[u8]) -> bool {
    a.len() == b.len() && a.iter().zip(b).fold(0, |acc, (x, y)| acc | (x ^ y)) == 0
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn only_a_live_token_meant_for_it_authenticates() {
        let now: jiff::Timestamp = "2026-01-01T00:00:00Z".parse().unwrap();
        let secret = |changes: &[(&str, &str)]| {
            let mut v = json!({"type": "bootstrap.kubernetes.io/token", "metadata": {}, "data": {}});
            let base = [
                ("token-id", "abcdef"),
                ("token-secret", "0123456789abcdef"),
                ("usage-bootstrap-authentication", "true"),
            ];
            for (k, val) in base.iter().chain(changes) {
                v["data"][*k] = STANDARD.encode(val).into();
            }
            v
        };
        let judge = |v: &Value| judge(v, "abcdef", "0123456789abcdef", now);
        let user = judge(&secret(&[("auth-extra-groups", "system:bootstrappers:z,system:bootstrappers:a")])).unwrap();
        assert_eq!(user.name, "system:bootstrap:abcdef");
        assert_eq!(user.groups, ["system:bootstrappers", "system:bootstrappers:a", "system:bootstrappers:z"]);
        assert!(judge(&secret(&[("expiration", "2026-01-01T00:00:01Z")])).is_ok());
        for bad in [
            [("expiration", "2025-12-31T23:59:59Z")],
            [("expiration", "soon")],
            [("token-secret", "0123456789abcdee")],
            [("token-id", "abcdee")],
            [("usage-bootstrap-authentication", "false")],
            [("auth-extra-groups", "system:masters")],
            [("auth-extra-groups", "system:bootstrappers:x-")],
            [("auth-extra-groups", "system:bootstrappers:x,")],
        ] {
            assert!(judge(&secret(&bad)).is_err(), "{bad:?}");
        }
    }

    #[tokio::test]
    async fn a_token_that_is_no_good_is_nobodys() {
        let tokens = BootstrapTokens::new(
            crate::testing::reader(&[json!({"apiVersion":"v1","kind":"Secret",
            "metadata":{"namespace":"kube-system","name":"bootstrap-token-abcdef"},"data":{}})])
            .await,
        );
        let outcome = tokens.authenticate_token("abcdef.0123456789abcdef", &[]).await;
        assert_eq!(outcome, TokenOutcome::Skip);
    }

    #[test]
    fn tokens_of_other_shapes_are_left_to_others() {
        assert!(split("abcdef.0123456789abcdef").is_some());
        for other in ["abcdef", "Abcdef.0123456789abcdef", "abcdef.0123456789abcde", "a.b.c", "eyJ.eyJ.sig"] {
            assert!(split(other).is_none(), "{other}");
        }
    }
}
