//! Kubeconfig files that say how to reach a webhook (token review, access review, audit): the cluster is the webhook,
//! the user is this server. And those that say who to be towards many servers: their users are named like servers.

use super::exec::Exec;
use super::target::{Credentials, Target, TargetError, Trust};
use crate::aggregation::header_key;
use crate::pki::Identity;
use base64::{Engine, engine::general_purpose::STANDARD};
use http::{HeaderMap, HeaderName, HeaderValue};
use serde_json::Value;
use std::borrow::Cow;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

#[derive(Debug, thiserror::Error)]
pub enum KubeconfigError {
    #[error("failed to read {path}: {source}")]
    Read { path: PathBuf, source: std::io::Error },
    #[error("{path} is no YAML: {why}")]
    Syntax { path: PathBuf, why: String },
    #[error("{path}: {why}")]
    Content { path: PathBuf, why: String },
    #[error("{path}: {source}")]
    Target { path: PathBuf, source: TargetError },
}

impl Target {
    /// The target that the file's current context names. Files that it mentions are relative to it, and are read
    /// now, except for token files, which are read for every request.
    pub fn from_kubeconfig(path: &Path) -> Result<Target, KubeconfigError> {
        File { path, file: &read(path)? }.target()
    }
}

fn read(path: &Path) -> Result<Value, KubeconfigError> {
    let text =
        std::fs::read_to_string(path).map_err(|source| KubeconfigError::Read { path: path.to_path_buf(), source })?;
    serde_saphyr::from_str(&text).map_err(|e| KubeconfigError::Syntax { path: path.to_path_buf(), why: e.to_string() })
}

/// Who this server is towards others: by `host:port`, `*.domain` or `*`.
#[derive(Clone, Default)]
pub struct AuthInfos {
    /// A user that can't be had is told when a server is called.
    users: BTreeMap<String, Result<User, String>>,
    /// The user of the file's current context, where no name fits.
    current: String,
}

#[derive(Clone)]
struct User {
    identity: Option<Arc<Identity>>,
    credentials: Credentials,
    impersonating: HeaderMap,
}

impl AuthInfos {
    pub fn read(path: &Path) -> Result<AuthInfos, KubeconfigError> {
        let content = read(path)?;
        let file = File { path, file: &content };
        let users = content["users"].as_array().into_iter().flatten();
        let users = users.map(|u| {
            let name = u["name"].as_str().unwrap_or("").to_string();
            let user = file.user(&name, &u["user"]).map_err(|e| e.to_string());
            (name, user)
        });
        let context = file.named("contexts", "context", content["current-context"].as_str().unwrap_or(""));
        let current = context.and_then(|c| c["user"].as_str()).unwrap_or("").to_string();
        Ok(AuthInfos { users: users.collect(), current })
    }

    /// The target with the credentials for it, if there are any.
    pub fn lent_to<'t>(&self, target: &'t Target) -> Result<Cow<'t, Target>, String> {
        match self.find(&target.url.host_and_port()) {
            None => Ok(Cow::Borrowed(target)),
            Some(Ok(user)) => Ok(Cow::Owned(user.lend(target.clone()))),
            Some(Err(why)) => Err(why.clone()),
        }
    }

    fn find(&self, server: &str) -> Option<&Result<User, String>> {
        let by_name = |name: &str| {
            let domains = name.match_indices('.').map(|(dot, _)| format!("*{}", &name[dot..]));
            self.users.get(name).or_else(|| domains.filter_map(|d| self.users.get(&d)).next())
        };
        by_name(server)
            .or_else(|| server.strip_suffix(":443").and_then(by_name))
            .or_else(|| self.users.get("*"))
            .or_else(|| self.users.get(&self.current).filter(|_| !self.current.is_empty()))
    }
}

impl User {
    fn lend(&self, target: Target) -> Target {
        let target = target.with(self.credentials.clone()).impersonating(self.impersonating.clone());
        match &self.identity {
            Some(i) => target.identified_by(i.clone()),
            None => target,
        }
    }
}

struct File<'a> {
    path: &'a Path,
    file: &'a Value,
}

impl File<'_> {
    fn wrong(&self, why: impl Into<String>) -> KubeconfigError {
        KubeconfigError::Content { path: self.path.to_path_buf(), why: why.into() }
    }

    /// An entry of one of the three lists.
    fn named(&self, list: &str, inner: &str, name: &str) -> Option<&Value> {
        self.file[list].as_array()?.iter().find(|e| e["name"] == name).map(|e| &e[inner])
    }

    fn target(&self) -> Result<Target, KubeconfigError> {
        let current = self.file["current-context"].as_str().unwrap_or("");
        let (cluster_name, user_name) = if current.is_empty() {
            // As upstream's loader, which takes the only ones where nothing is chosen.
            let only = |list: &str| match self.file[list].as_array().map(Vec::as_slice) {
                Some([one]) => one["name"].as_str().unwrap_or("").to_string(),
                _ => String::new(),
            };
            (only("clusters"), only("users"))
        } else {
            let context = self
                .named("contexts", "context", current)
                .ok_or_else(|| self.wrong(format!("context {current:?} does not exist")))?;
            let text = |k: &str| context[k].as_str().unwrap_or("").to_string();
            (text("cluster"), text("user"))
        };
        let cluster = self
            .named("clusters", "cluster", &cluster_name)
            .ok_or_else(|| self.wrong(format!("cluster {cluster_name:?} does not exist")))?;
        let server = cluster["server"].as_str().unwrap_or("");
        if server.is_empty() {
            return Err(self.wrong(format!("cluster {cluster_name:?} has no server")));
        }
        if !cluster["proxy-url"].as_str().unwrap_or("").is_empty() {
            return Err(self.wrong("proxy-url is not supported"));
        }
        let mut target = Target::parse(server)
            .map_err(|source| KubeconfigError::Target { path: self.path.to_path_buf(), source })?;
        let ca = self.data_or_file(cluster, "certificate-authority")?;
        target = match (cluster["insecure-skip-tls-verify"] == true, ca) {
            (true, Some(_)) => {
                return Err(self.wrong("specifying a root certificates file with the insecure flag is not allowed"));
            }
            (true, None) => target.trusting(Trust::Anybody),
            (false, Some(pem)) => target.trusting(Trust::Ca(pem.into())),
            (false, None) => target,
        };
        target = target.named(cluster["tls-server-name"].as_str().unwrap_or(""));
        match self.named("users", "user", &user_name) {
            Some(user) => Ok(self.user(&user_name, user)?.lend(target)),
            None if user_name.is_empty() => Ok(target),
            None => Err(self.wrong(format!("user {user_name:?} does not exist"))),
        }
    }

    fn user(&self, name: &str, user: &Value) -> Result<User, KubeconfigError> {
        if !user["auth-provider"].is_null() {
            return Err(self.wrong("auth provider not supported"));
        }
        let pem = |field: &str| -> Result<Option<String>, KubeconfigError> {
            let bytes = self.data_or_file(user, field)?;
            bytes.map(|b| String::from_utf8(b).map_err(|_| self.wrong(format!("{field} is no PEM")))).transpose()
        };
        let identity = match (pem("client-certificate")?, pem("client-key")?) {
            (Some(cert_pem), Some(key_pem)) => {
                let identity = Identity { cert_pem, key_pem };
                identity
                    .cert_der()
                    .and_then(|_| identity.key_der())
                    .map_err(|e| self.wrong(format!("client certificate: {e}")))?;
                Some(Arc::new(identity))
            }
            (None, None) => None,
            _ => return Err(self.wrong("client-certificate and client-key must be given together")),
        };
        let text = |k: &str| user[k].as_str().filter(|s| !s.is_empty());
        let credentials = if let Some(t) = text("token") {
            Credentials::Token(t.to_string())
        } else if let Some(f) = text("tokenFile") {
            Credentials::TokenFile(self.relative(f))
        } else if let Some(username) = text("username") {
            let password = text("password").unwrap_or("").to_string();
            Credentials::Basic { username: username.to_string(), password }
        } else if user["exec"].is_object() {
            let exec = Exec::read(name, &user["exec"], |path| self.relative(path));
            Credentials::Exec(Arc::new(exec.map_err(|e| self.wrong(e))?))
        } else {
            Credentials::None
        };
        let impersonating = impersonation(user).ok_or_else(|| self.wrong("`as` names what no header can"))?;
        Ok(User { identity, credentials, impersonating })
    }

    fn relative(&self, file: &str) -> PathBuf {
        self.path.parent().unwrap_or(Path::new("")).join(file)
    }

    /// `<field>-data` in base64, or the file that `<field>` names.
    fn data_or_file(&self, at: &Value, field: &str) -> Result<Option<Vec<u8>>, KubeconfigError> {
        if let Some(data) = at[format!("{field}-data")].as_str().filter(|d| !d.is_empty()) {
            return STANDARD.decode(data).map(Some).map_err(|e| self.wrong(format!("{field}-data is no base64: {e}")));
        }
        let Some(file) = at[field].as_str().filter(|f| !f.is_empty()) else { return Ok(None) };
        let path = self.relative(file);
        std::fs::read(&path).map(Some).map_err(|source| KubeconfigError::Read { path, source })
    }
}

/// `as` and what belongs to it, as headers; `None` if no header can say it.
fn impersonation(user: &Value) -> Option<HeaderMap> {
    let mut headers = HeaderMap::new();
    let Some(name) = user["as"].as_str().filter(|n| !n.is_empty()) else { return Some(headers) };
    let mut add = |key: &str, value: &str| {
        let key = HeaderName::from_bytes(key.as_bytes()).ok()?;
        headers.append(key, HeaderValue::from_bytes(value.as_bytes()).ok()?);
        Some(())
    };
    add("impersonate-user", name)?;
    if let Some(uid) = user["as-uid"].as_str().filter(|u| !u.is_empty()) {
        add("impersonate-uid", uid)?;
    }
    let texts = |list: &Value| -> Vec<String> {
        list.as_array().into_iter().flatten().filter_map(|v| v.as_str().map(str::to_string)).collect()
    };
    for group in texts(&user["as-groups"]) {
        add("impersonate-group", &group)?;
    }
    for (key, values) in user["as-user-extra"].as_object().into_iter().flatten() {
        for value in texts(values) {
            add(&format!("impersonate-extra-{}", header_key(key)), &value)?;
        }
    }
    Some(headers)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn users_are_found_by_server() {
        let file = std::env::temp_dir().join(format!("skiff-auth-infos-{}", std::process::id()));
        let all = ["a.io:8443", "*.io:8443", "b.io", "*.svc", "other", "*.d.svc:8443", "[::1]:443"];
        let users = all.map(|n| format!("- {{name: '{n}', user: {{token: '{n}'}}}}\n")).concat();
        let broken = "- {name: broken.io, user: {auth-provider: {name: x}}}\n";
        let context = "contexts: [{name: c, context: {user: other}}]\ncurrent-context: c\n";
        std::fs::write(&file, format!("users:\n{users}{broken}{context}")).unwrap();
        let infos = AuthInfos::read(&file).unwrap();
        let token = |infos: &AuthInfos, target: &Target| match infos.lent_to(target) {
            Ok(t) => match &t.credentials {
                Credentials::Token(t) => t.clone(),
                _ => "nobody".to_string(),
            },
            Err(why) => why,
        };
        for (url, want) in [
            ("https://a.io:8443/x", "a.io:8443"),
            ("https://x.io:8443", "*.io:8443"),
            ("https://b.io", "b.io"),
            ("https://b.io:443", "b.io"),
            ("https://b.io:444", "other"),
            ("https://[::1]/", "[::1]:443"),
        ] {
            assert_eq!(token(&infos, &Target::parse(url).unwrap()), want, "{url}");
        }
        for (namespace, port, want) in [("d", 443, "*.svc"), ("d", 8443, "*.d.svc:8443"), ("e", 8443, "other")] {
            assert_eq!(token(&infos, &Target::service(namespace, "s", port, "/")), want, "{namespace} {port}");
        }
        assert!(token(&infos, &Target::parse("https://broken.io").unwrap()).ends_with("auth provider not supported"));
        std::fs::write(&file, format!("users:\n{users}- {{name: '*', user: {{token: any}}}}\n{context}")).unwrap();
        assert_eq!(token(&AuthInfos::read(&file).unwrap(), &Target::parse("https://z").unwrap()), "any");
        assert_eq!(token(&AuthInfos::default(), &Target::parse("https://z").unwrap()), "nobody");
        std::fs::remove_file(&file).unwrap();
    }
}
