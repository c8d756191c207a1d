//! Who asks. Each authenticator is a file; [`Chain`] asks them in order.

use arc_swap::ArcSwap;
use async_trait::async_trait;
use std::collections::BTreeMap;
use std::sync::Arc;

pub mod anonymous;
pub mod bearer;
pub mod bootstrap_token;
pub mod config;
pub mod expressions;
pub mod impersonation;
pub mod oidc;
pub mod reload;
pub mod request_header;
pub mod service_account;
pub mod token_file;
pub mod webhook;
pub mod x509;

pub const AUTHENTICATED: &str = "system:authenticated";
pub const UNAUTHENTICATED: &str = "system:unauthenticated";
pub const ANONYMOUS: &str = "system:anonymous";
pub const MASTERS: &str = "system:masters";

/// An authenticated identity (`user.Info`).
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct User {
    pub name: String,
    pub uid: String,
    pub groups: Vec<String>,
    pub extra: BTreeMap<String, Vec<String>>,
}

impl User {
    pub fn new(name: &str, groups: &[&str]) -> User {
        User { name: name.to_string(), groups: groups.iter().map(|g| g.to_string()).collect(), ..User::default() }
    }

    pub fn in_group(&self, group: &str) -> bool {
        self.groups.iter().any(|g| g == group)
    }
}

/// What is known of the connection that a request came over. Stored in the request's extensions.
#[derive(Clone, Debug, Default)]
pub struct Connection {
    pub peer: Option<std::net::SocketAddr>,
    /// The client's certificate (DER). The TLS layer has proved that the client holds its key, *not* who issued
    /// it: each authenticator verifies it against its own CA, so that a certificate of the front proxy's CA
    /// is never taken for a user, and a foreign one is answered with 401 rather than a broken handshake.
    pub client_certificate: Option<Arc<Vec<u8>>>,
    /// Set only by code in this process for its own components (controllers, scheduler, node): they are who
    /// they say, without a certificate.
    pub identity: Option<Arc<User>>,
}

impl Connection {
    /// The one that this request came over; one of which nothing is known where nobody said.
    pub fn of<B>(request: &http::Request<B>) -> &Connection {
        static UNKNOWN: Connection = Connection { peer: None, client_certificate: None, identity: None };
        request.extensions().get().unwrap_or(&UNKNOWN)
    }
}

#[derive(Debug, PartialEq)]
pub enum Outcome {
    Authenticated(User),
    /// These credentials are not mine; ask the next.
    Skip,
    /// Mine, but bad: 401.
    Invalid(String),
}

#[async_trait]
pub trait Authenticator: Send + Sync + 'static {
    async fn authenticate(&self, headers: &http::HeaderMap, connection: &Connection) -> Outcome;
}

/// Why a request is answered with 401.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Unauthenticated {
    /// There were credentials, and nobody vouches for them.
    Bad,
    /// There were none.
    Nobody,
}

impl Unauthenticated {
    /// As metrics call it.
    pub fn result(self) -> &'static str {
        match self {
            Unauthenticated::Bad => "error",
            Unauthenticated::Nobody => "failure",
        }
    }
}

/// Asks the authenticators in order; then the anonymous one, for the few paths that need no identity.
pub struct Chain {
    authenticators: Vec<Arc<dyn Authenticator>>,
    tokens: Arc<bearer::Bearer>,
    /// May change while the server runs.
    anonymous: Arc<ArcSwap<anonymous::Anonymous>>,
    /// How users act as others.
    pub modes: impersonation::LastModes,
}

impl Chain {
    /// Upstream's order: front proxy, client certificate, bearer token, anonymous.
    pub fn new(
        before_tokens: Vec<Arc<dyn Authenticator>>,
        tokens: Arc<bearer::Bearer>,
        anonymous: Arc<ArcSwap<anonymous::Anonymous>>,
    ) -> Chain {
        let mut authenticators = before_tokens;
        authenticators.push(tokens.clone());
        Chain { authenticators, tokens, anonymous, modes: Default::default() }
    }

    /// Who sent this request. 401 when nobody vouches for the credentials, or when there are none and the path
    /// needs some.
    pub async fn authenticate(
        &self,
        path: &str,
        headers: &http::HeaderMap,
        connection: &Connection,
    ) -> Result<User, Unauthenticated> {
        if let Some(user) = &connection.identity {
            return Ok(with_authenticated(user.as_ref().clone()));
        }
        let mut refused = None;
        for authenticator in &self.authenticators {
            match authenticator.authenticate(headers, connection).await {
                Outcome::Authenticated(user) => return Ok(with_authenticated(user)),
                Outcome::Skip => {}
                Outcome::Invalid(why) => refused = Some(why),
            }
        }
        match refused {
            Some(why) => {
                tracing::debug!(path, why, "request was not authenticated");
                Err(Unauthenticated::Bad)
            }
            None => self.anonymous.load().user(path).ok_or(Unauthenticated::Nobody),
        }
    }

    /// For TokenReview: who a token belongs to and for which of the asked audiences it is good.
    pub async fn authenticate_token(&self, token: &str, audiences: &[String]) -> bearer::TokenOutcome {
        match self.tokens.authenticate_token(token, audiences).await {
            bearer::TokenOutcome::Authenticated { user, audiences } => {
                bearer::TokenOutcome::Authenticated { user: with_authenticated(user), audiences }
            }
            other => other,
        }
    }
}

/// A header's value as text. Names of users are not ASCII alone, and none may be taken for no name.
pub fn header_text(value: &http::HeaderValue) -> String {
    String::from_utf8_lossy(value.as_bytes()).into_owned()
}

/// Everybody but the anonymous user is in `system:authenticated`.
pub fn with_authenticated(mut user: User) -> User {
    if user.name != ANONYMOUS && !user.in_group(AUTHENTICATED) && !user.in_group(UNAUTHENTICATED) {
        user.groups.push(AUTHENTICATED.to_string());
    }
    user
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn bad_credentials_are_told_from_none() {
        let nowhere = Arc::new(ArcSwap::from_pointee(anonymous::Anonymous::Nowhere));
        let chain = Chain::new(vec![], Arc::new(bearer::Bearer::new(vec![])), nowhere);
        let mut headers = http::HeaderMap::new();
        let none = chain.authenticate("/api", &headers, &Connection::default()).await;
        assert_eq!(none, Err(Unauthenticated::Nobody));
        headers.insert("authorization", http::HeaderValue::from_static("Bearer x"));
        let bad = chain.authenticate("/api", &headers, &Connection::default()).await;
        assert_eq!(bad, Err(Unauthenticated::Bad));
    }
}
