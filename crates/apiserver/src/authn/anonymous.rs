//! Requests without credentials: only for paths that tell nothing but health and version.

use super::config::AnonymousConfig;
use super::{ANONYMOUS, UNAUTHENTICATED, User};

/// Differs from upstream: there, anonymous requests are taken for every path unless the configuration says otherwise, and
/// left to RBAC; here everything but the paths of health and version answers 401 at once, unless the configuration says
/// otherwise.
#[derive(Clone, Debug, PartialEq)]
pub enum Anonymous {
    Nowhere,
    Everywhere,
    /// Exactly these paths.
    Exactly(Vec<String>),
    /// These paths and what is below them (`/healthz/ping`).
    Below(Vec<String>),
}

impl Default for Anonymous {
    fn default() -> Anonymous {
        Anonymous::below(&["/livez", "/readyz", "/healthz", "/version"])
    }
}

impl Anonymous {
    pub fn below(paths: &[&str]) -> Anonymous {
        Anonymous::Below(paths.iter().map(|p| p.to_string()).collect())
    }

    /// As a configuration file has it.
    pub fn from_config(config: &AnonymousConfig) -> Anonymous {
        match (config.enabled, config.conditions.as_slice()) {
            (false, _) => Anonymous::Nowhere,
            (true, []) => Anonymous::Everywhere,
            (true, some) => Anonymous::Exactly(some.iter().map(|c| c.path.clone()).collect()),
        }
    }

    pub fn user(&self, path: &str) -> Option<User> {
        let below = |p: &String| path.strip_prefix(p.as_str()).is_some_and(|r| r.is_empty() || r.starts_with('/'));
        // A path with dots in it might mean another one to whoever serves it.
        let plain = !path.split('/').any(|s| s == "..");
        let taken = match self {
            Anonymous::Nowhere => false,
            Anonymous::Everywhere => true,
            Anonymous::Exactly(paths) => paths.iter().any(|p| p == path),
            Anonymous::Below(paths) => plain && paths.iter().any(below),
        };
        taken.then(|| User::new(ANONYMOUS, &[UNAUTHENTICATED]))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_health_and_version_need_no_identity() {
        let a = Anonymous::default();
        for path in ["/livez", "/readyz/ping", "/healthz", "/version", "/version/"] {
            assert_eq!(a.user(path).unwrap().name, "system:anonymous", "{path}");
        }
        for path in ["/", "/api", "/livezz", "/metrics", "/healthz/../api", "/api/v1/healthz"] {
            assert_eq!(a.user(path), None, "{path}");
        }
    }

    #[test]
    fn a_configuration_says_where() {
        let config = |text: &str| Anonymous::from_config(&serde_json::from_str(text).unwrap());
        let exact = config(r#"{"enabled":true,"conditions":[{"path":"/livez"}]}"#);
        for (anonymous, path, taken) in [
            (config(r#"{"enabled":false}"#), "/livez", false),
            (config(r#"{"enabled":true}"#), "/api", true),
            (exact.clone(), "/livez", true),
            (exact.clone(), "/livez/ping", false),
            (exact, "/readyz", false),
        ] {
            assert_eq!(anonymous.user(path).is_some(), taken, "{anonymous:?} {path}");
        }
    }
}
