//! Requests without credentials: only for paths that tell nothing but health and version.

use super::{ANONYMOUS, UNAUTHENTICATED, User};

/// Differs from upstream: there, anonymous requests are taken for every path and left to RBAC; here everything but
/// these paths answers 401 at once.
pub struct Anonymous {
    /// A path is allowed when it is one of these or below one (`/healthz/ping`).
    paths: Vec<String>,
}

impl Default for Anonymous {
    fn default() -> Anonymous {
        Anonymous::new(&["/livez", "/readyz", "/healthz", "/version"])
    }
}

impl Anonymous {
    pub fn new(paths: &[&str]) -> Anonymous {
        Anonymous { paths: paths.iter().map(|p| p.to_string()).collect() }
    }

    pub fn user(&self, path: &str) -> Option<User> {
        let below = |p: &String| path.strip_prefix(p.as_str()).is_some_and(|r| r.is_empty() || r.starts_with('/'));
        // A path with dots in it might mean another one to whoever serves it.
        let plain = !path.split('/').any(|s| s == "..");
        (plain && self.paths.iter().any(below)).then(|| User::new(ANONYMOUS, &[UNAUTHENTICATED]))
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
}
