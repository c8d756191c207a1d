//! Who asks. Each authenticator is a file; [`Chain`] asks them in order.

use async_trait::async_trait;
use std::collections::BTreeMap;

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
    /// The client's certificate (DER), verified against the cluster's client CA by the TLS layer.
    pub client_certificate: Option<std::sync::Arc<Vec<u8>>>,
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
