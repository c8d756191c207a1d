//! Bearer tokens: finds the token in a request and asks each kind of token whose it is.

use super::{Authenticator, Connection, Outcome, User};
use crate::warnings;
use async_trait::async_trait;
use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use std::sync::Arc;

const SPACE_WARNING: &str =
    "the provided Authorization header contains extra space before the bearer token, and is ignored";
/// Browsers can't set headers on WebSockets, so the token may come as a subprotocol.
const PROTOCOL_PREFIX: &str = "base64url.bearer.authorization.k8s.io.";

#[derive(Debug, PartialEq)]
pub enum TokenOutcome {
    /// `audiences`: those of the asked ones that the token is good for.
    Authenticated {
        user: User,
        audiences: Vec<String>,
    },
    Skip,
    Invalid(String),
}

#[async_trait]
pub trait TokenAuthenticator: Send + Sync + 'static {
    /// `audiences` empty: the API server's own.
    async fn authenticate_token(&self, token: &str, audiences: &[String]) -> TokenOutcome;
}

/// A kind of token that knows nothing of audiences: it is good for the API server, and for nobody else.
pub struct ForApiServer {
    kind: Arc<dyn TokenAuthenticator>,
    api_audiences: Vec<String>,
}

impl ForApiServer {
    pub fn new(kind: Arc<dyn TokenAuthenticator>, api_audiences: &[String]) -> ForApiServer {
        ForApiServer { kind, api_audiences: api_audiences.to_vec() }
    }
}

#[async_trait]
impl TokenAuthenticator for ForApiServer {
    async fn authenticate_token(&self, token: &str, audiences: &[String]) -> TokenOutcome {
        let own: Vec<String> = match audiences.is_empty() {
            true => self.api_audiences.clone(),
            false => audiences.iter().filter(|a| self.api_audiences.contains(a)).cloned().collect(),
        };
        if own.is_empty() && !audiences.is_empty() {
            return TokenOutcome::Skip;
        }
        match self.kind.authenticate_token(token, &own).await {
            TokenOutcome::Authenticated { user, .. } => TokenOutcome::Authenticated { user, audiences: own },
            other => other,
        }
    }
}

/// All kinds of tokens, as one authenticator.
pub struct Bearer {
    kinds: Vec<Arc<dyn TokenAuthenticator>>,
}

impl Bearer {
    pub fn new(kinds: Vec<Arc<dyn TokenAuthenticator>>) -> Bearer {
        Bearer { kinds }
    }

    pub async fn authenticate_token(&self, token: &str, audiences: &[String]) -> TokenOutcome {
        let mut refused = Vec::new();
        for kind in &self.kinds {
            match kind.authenticate_token(token, audiences).await {
                TokenOutcome::Skip => {}
                TokenOutcome::Invalid(why) => refused.push(why),
                authenticated => return authenticated,
            }
        }
        if refused.is_empty() { TokenOutcome::Skip } else { TokenOutcome::Invalid(refused.join(", ")) }
    }
}

#[async_trait]
impl Authenticator for Bearer {
    async fn authenticate(&self, headers: &http::HeaderMap, _connection: &Connection) -> Outcome {
        let token = match token_of(headers) {
            Ok(Some(token)) => token,
            Ok(None) => return Outcome::Skip,
            Err(why) => return Outcome::Invalid(why.to_string()),
        };
        match self.authenticate_token(&token, &[]).await {
            TokenOutcome::Authenticated { user, .. } => Outcome::Authenticated(user),
            TokenOutcome::Skip => Outcome::Invalid("invalid bearer token".to_string()),
            TokenOutcome::Invalid(why) => Outcome::Invalid(format!("invalid bearer token, {why}")),
        }
    }
}

/// The token that a request carries.
pub fn token_of(headers: &http::HeaderMap) -> Result<Option<String>, &'static str> {
    if let Some(value) = headers.get(http::header::AUTHORIZATION).and_then(|v| v.to_str().ok()) {
        // As upstream: one space, and nothing behind a second one is looked at.
        let words: Vec<&str> = value.trim().splitn(3, ' ').collect();
        match words.as_slice() {
            [scheme, ..] if !scheme.eq_ignore_ascii_case("bearer") => {}
            [_, "", _] => warnings::warn(SPACE_WARNING),
            [_, token, ..] => return Ok(Some(token.to_string())),
            _ => {}
        }
    }
    if !is_websocket(headers) {
        return Ok(None);
    }
    let (tokens, others): (Vec<&str>, Vec<&str>) = protocols(headers).partition(|p| p.starts_with(PROTOCOL_PREFIX));
    let encoded = match tokens.as_slice() {
        [] => return Ok(None),
        [one] => one.trim_start_matches(PROTOCOL_PREFIX),
        _ => return Err("multiple base64.bearer.authorization tokens specified"),
    };
    let decoded = URL_SAFE_NO_PAD.decode(encoded);
    let decoded = decoded.map_err(|_| "invalid base64.bearer.authorization token encoding")?;
    let token = String::from_utf8(decoded).map_err(|_| "invalid base64.bearer.authorization token")?;
    match (token.is_empty(), others.is_empty()) {
        (true, _) => Ok(None),
        // There must be one that can be agreed upon.
        (false, true) => Err("missing additional subprotocol"),
        (false, false) => Ok(Some(token)),
    }
}

/// Takes the token out of the headers of a request that is passed on.
pub fn remove_token(headers: &mut http::HeaderMap) {
    headers.remove(http::header::AUTHORIZATION);
    if protocols(headers).any(|p| p.starts_with(PROTOCOL_PREFIX)) {
        let others: Vec<&str> = protocols(headers).filter(|p| !p.starts_with(PROTOCOL_PREFIX)).collect();
        let others = others.join(",");
        headers.remove(http::header::SEC_WEBSOCKET_PROTOCOL);
        if let Ok(others) = http::HeaderValue::try_from(others)
            && !others.is_empty()
        {
            headers.insert(http::header::SEC_WEBSOCKET_PROTOCOL, others);
        }
    }
}

/// The protocols that a WebSocket may have, in the client's order.
pub fn protocols(headers: &http::HeaderMap) -> impl Iterator<Item = &str> {
    let all = headers.get_all(http::header::SEC_WEBSOCKET_PROTOCOL).iter();
    all.filter_map(|v| v.to_str().ok()).flat_map(|v| v.split(',')).map(str::trim)
}

pub fn is_websocket(headers: &http::HeaderMap) -> bool {
    let says = |name, word: &str| {
        headers.get_all(name).iter().any(|v| v.to_str().is_ok_and(|v| v.to_ascii_lowercase().contains(word)))
    };
    says(http::header::UPGRADE, "websocket") && says(http::header::CONNECTION, "upgrade")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tokens_are_found_where_clients_put_them() {
        const TOKEN: &str = "base64url.bearer.authorization.k8s.io.YWJj";
        let none = Ok(None);
        let abc = Ok(Some("abc".to_string()));
        for (value, expected) in [
            ("Bearer abc", &abc),
            ("bearer abc ", &abc),
            ("Bearer abc def", &abc),
            ("Bearer  abc", &none),
            ("Basic abc", &none),
            ("Bearer", &none),
        ] {
            let h = http::HeaderMap::from_iter([(http::header::AUTHORIZATION, value.parse().unwrap())]);
            assert_eq!(&token_of(&h), expected, "{value}");
        }
        for (value, expected) in [
            (format!("v4.channel.k8s.io, {TOKEN}"), abc.clone()),
            ("v4.channel.k8s.io".to_string(), none.clone()),
            (format!("v4, {PROTOCOL_PREFIX}"), none.clone()),
            (format!("v4, {PROTOCOL_PREFIX}!!"), Err("invalid base64.bearer.authorization token encoding")),
            (format!("v4, {PROTOCOL_PREFIX}_w"), Err("invalid base64.bearer.authorization token")),
            (format!("{TOKEN}, v4, {TOKEN}"), Err("multiple base64.bearer.authorization tokens specified")),
            (TOKEN.to_string(), Err("missing additional subprotocol")),
        ] {
            let mut h = http::HeaderMap::new();
            h.insert("sec-websocket-protocol", value.parse().unwrap());
            // Of no WebSocket it is no token.
            assert_eq!(token_of(&h), none, "{value}");
            h.insert("connection", "keep-alive, Upgrade".parse().unwrap());
            h.insert("upgrade", "WebSocket".parse().unwrap());
            assert_eq!(token_of(&h), expected, "{value}");
        }
        let mut h = http::HeaderMap::new();
        h.insert("authorization", "Bearer abc".parse().unwrap());
        h.append("sec-websocket-protocol", format!("v4, {TOKEN}").parse().unwrap());
        h.append("sec-websocket-protocol", "v5".parse().unwrap());
        remove_token(&mut h);
        let left: Vec<_> = h.iter().map(|(k, v)| (k.as_str(), v.to_str().unwrap())).collect();
        assert_eq!(left, [("sec-websocket-protocol", "v4,v5")]);
    }

    #[tokio::test]
    async fn a_space_too_many_is_warned_of() {
        for (value, expected) in [("Bearer  abc", &[SPACE_WARNING][..]), ("Bearer abc", &[]), ("Basic  abc", &[])] {
            let told = Arc::default();
            let h = http::HeaderMap::from_iter([(http::header::AUTHORIZATION, value.parse().unwrap())]);
            let _ = warnings::heard(Arc::clone(&told), async { token_of(&h) }).await;
            assert_eq!(*told.lock(), expected, "{value}");
        }
    }

    #[tokio::test]
    async fn plain_tokens_are_for_the_api_server_only() {
        struct Any;
        #[async_trait]
        impl TokenAuthenticator for Any {
            async fn authenticate_token(&self, _token: &str, _audiences: &[String]) -> TokenOutcome {
                TokenOutcome::Authenticated { user: User::new("jane", &[]), audiences: vec!["whatever".into()] }
            }
        }
        let own = ForApiServer::new(Arc::new(Any), &["https://k".to_string()]);
        for (asked, expected) in [
            (&[][..], Some(vec!["https://k"])),
            (&["https://k", "vault"][..], Some(vec!["https://k"])),
            (&["vault"][..], None),
        ] {
            let asked: Vec<String> = asked.iter().map(|a| a.to_string()).collect();
            let got = match own.authenticate_token("t", &asked).await {
                TokenOutcome::Authenticated { audiences, .. } => Some(audiences),
                _ => None,
            };
            assert_eq!(got, expected.map(|e| e.iter().map(|a| a.to_string()).collect()), "{asked:?}");
        }
    }

    #[tokio::test]
    async fn a_token_that_nobody_knows_is_bad_rather_than_anonymous() {
        let mut h = http::HeaderMap::new();
        h.insert("authorization", "Bearer abc".parse().unwrap());
        let outcome = Bearer::new(vec![]).authenticate(&h, &Connection::default()).await;
        assert!(matches!(outcome, Outcome::Invalid(_)));
    }
}
