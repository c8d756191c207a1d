//! Bearer tokens: finds the token in a request and asks each kind of token whose it is.

use super::{Authenticator, Connection, Outcome, User};
use async_trait::async_trait;
use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use std::sync::Arc;

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
        let Some(token) = token_of(headers) else { return Outcome::Skip };
        match self.authenticate_token(&token, &[]).await {
            TokenOutcome::Authenticated { user, .. } => Outcome::Authenticated(user),
            TokenOutcome::Skip => Outcome::Invalid("invalid bearer token".to_string()),
            TokenOutcome::Invalid(why) => Outcome::Invalid(format!("invalid bearer token, {why}")),
        }
    }
}

/// The token that a request carries.
pub fn token_of(headers: &http::HeaderMap) -> Option<String> {
    if let Some(value) = headers.get(http::header::AUTHORIZATION).and_then(|v| v.to_str().ok()) {
        // As upstream: one space, and nothing behind a second one is looked at.
        let mut words = value.trim().splitn(3, ' ');
        let (scheme, token) = (words.next()?, words.next()?);
        return (scheme.eq_ignore_ascii_case("bearer") && !token.is_empty()).then(|| token.to_string());
    }
    headers
        .get_all(http::header::SEC_WEBSOCKET_PROTOCOL)
        .iter()
        .filter_map(|v| v.to_str().ok())
        .flat_map(|v| v.split(','))
        .find_map(|p| p.trim().strip_prefix(PROTOCOL_PREFIX))
        .and_then(|encoded| URL_SAFE_NO_PAD.decode(encoded).ok())
        .and_then(|bytes| String::from_utf8(bytes).ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tokens_are_found_where_clients_put_them() {
        for (name, value, expected) in [
            ("authorization", "Bearer abc", Some("abc")),
            ("authorization", "bearer abc ", Some("abc")),
            ("authorization", "Bearer abc def", Some("abc")),
            ("authorization", "Bearer  abc", None),
            ("authorization", "Basic abc", None),
            ("authorization", "Bearer", None),
            ("sec-websocket-protocol", "v4.channel.k8s.io, base64url.bearer.authorization.k8s.io.YWJj", Some("abc")),
            ("sec-websocket-protocol", "v4.channel.k8s.io", None),
            ("sec-websocket-protocol", "base64url.bearer.authorization.k8s.io.!!", None),
        ] {
            let mut h = http::HeaderMap::new();
            h.insert(http::HeaderName::from_static(name), value.parse().unwrap());
            assert_eq!(token_of(&h).as_deref(), expected, "{name}: {value}");
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
