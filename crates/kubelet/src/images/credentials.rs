//! Pull secrets of a pod and of its service account, as credentials for the registry of an image.

use base64::Engine;
use cri::AuthConfig;
use k8s_openapi::api::core::v1::{Secret, ServiceAccount};
use kube::{Api, Client};
use std::collections::BTreeSet;
use std::sync::Arc;

/// Host of the registry and path, `docker.io/library/nginx`.
pub fn repository(image: &str) -> String {
    let name = image.split('@').next().unwrap_or(image);
    let name = match name.rsplit_once(':') {
        Some((n, tag)) if !tag.contains('/') => n,
        _ => name,
    };
    match name.split_once('/') {
        Some((host, _)) if host.contains(['.', ':']) || host == "localhost" => name.to_owned(),
        Some(_) => format!("docker.io/{name}"),
        None => format!("docker.io/library/{name}"),
    }
}

/// Entries of a secret that match, the most specific first.
pub fn matching(secret: &Secret, image: &str) -> Vec<AuthConfig> {
    let Some(data) = &secret.data else {
        return Vec::new();
    };
    let auths = if let Some(raw) = data.get(".dockerconfigjson") {
        serde_json::from_slice::<serde_json::Value>(&raw.0).ok().map(|v| v["auths"].clone())
    } else if let Some(raw) = data.get(".dockercfg") {
        serde_json::from_slice(&raw.0).ok()
    } else {
        None
    };
    let Some(serde_json::Value::Object(auths)) = auths else {
        return Vec::new();
    };
    let repository = repository(image);
    let mut found: Vec<(usize, AuthConfig)> = auths
        .iter()
        .filter_map(|(key, entry)| {
            let pattern = normalise(key);
            if !matches(&pattern, &repository) {
                return None;
            }
            let text = |field: &str| entry[field].as_str().unwrap_or_default().to_owned();
            let mut auth = AuthConfig {
                username: text("username"),
                password: text("password"),
                auth: text("auth"),
                identity_token: text("identitytoken"),
                registry_token: text("registrytoken"),
            };
            if auth.username.is_empty()
                && let Some((user, password)) =
                    base64::engine::general_purpose::STANDARD.decode(&auth.auth).ok().and_then(|b| {
                        let text = String::from_utf8(b).ok()?;
                        text.split_once(':').map(|(u, p)| (u.to_owned(), p.to_owned()))
                    })
            {
                auth.username = user;
                auth.password = password;
            }
            Some((pattern.len(), auth))
        })
        .collect();
    found.sort_by_key(|(len, _)| std::cmp::Reverse(*len));
    found.into_iter().map(|(_, a)| a).collect()
}

fn normalise(key: &str) -> String {
    let key = key.trim_start_matches("https://").trim_start_matches("http://").trim_end_matches('/');
    let key = key.strip_suffix("/v1").or_else(|| key.strip_suffix("/v2")).unwrap_or(key);
    match key.strip_prefix("index.docker.io").or_else(|| key.strip_prefix("registry-1.docker.io")) {
        Some(rest) => format!("docker.io{rest}"),
        None => key.to_owned(),
    }
}

/// `*` stands for one label of the host; a path must be a prefix by whole segments.
fn matches(pattern: &str, repository: &str) -> bool {
    let (p_host, p_path) = pattern.split_once('/').unwrap_or((pattern, ""));
    let (host, path) = repository.split_once('/').unwrap_or((repository, ""));
    let labels = |h: &str| h.split('.').map(str::to_owned).collect::<Vec<_>>();
    let (p, h) = (labels(p_host), labels(host));
    let host_ok = p.len() == h.len()
        && p.iter().zip(&h).all(|(p, h)| p == h || p == "*" || (p.starts_with("*") && h.ends_with(&p[1..])));
    host_ok && (p_path.is_empty() || path == p_path || path.strip_prefix(p_path).is_some_and(|r| r.starts_with('/')))
}

/// Secrets that the pod's service account names.
pub async fn of_service_account(
    client: &Client,
    namespace: &str,
    account: &str,
    already: &BTreeSet<String>,
) -> Vec<Arc<Secret>> {
    let Ok(Some(account)) = Api::<ServiceAccount>::namespaced(client.clone(), namespace).get_opt(account).await else {
        return Vec::new();
    };
    let secrets = Api::<Secret>::namespaced(client.clone(), namespace);
    let mut out = Vec::new();
    for reference in account.image_pull_secrets.into_iter().flatten().filter(|r| !already.contains(&r.name)) {
        if let Ok(Some(secret)) = secrets.get_opt(&reference.name).await {
            out.push(Arc::new(secret));
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_most_specific_entry_first() {
        let config = serde_json::json!({"auths": {
            "https://index.docker.io/v1/": {"auth": "dTpw"},
            "registry.example:5000": {"username": "a", "password": "b"},
            "registry.example:5000/team": {"username": "c", "password": "d"},
            "*.wild.example": {"username": "w", "password": "x"}
        }});
        let secret: Secret = serde_json::from_value(serde_json::json!({
            "metadata": {}, "data": {".dockerconfigjson": base64::engine::general_purpose::STANDARD.encode(config.to_string())}
        }))
        .unwrap();
        let users = |image: &str| {
            matching(&secret, image).into_iter().map(|a| format!("{}:{}", a.username, a.password)).collect::<Vec<_>>()
        };
        assert_eq!(users("nginx:1"), ["u:p"]);
        assert_eq!(users("registry.example:5000/team/app:2"), ["c:d", "a:b"]);
        assert_eq!(users("registry.example:5000/teamwork/app"), ["a:b"]);
        assert_eq!(users("r1.wild.example/x"), ["w:x"]);
        assert_eq!(users("wild.example/x"), Vec::<String>::new());
    }
}
