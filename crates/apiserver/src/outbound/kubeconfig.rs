//! Kubeconfig files that say how to reach a webhook (token review, access review, audit): the cluster is the webhook,
//! the user is this server.

use super::target::{Credentials, Target, TargetError, Trust};
use crate::pki::Identity;
use base64::{Engine, engine::general_purpose::STANDARD};
use serde_json::Value;
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
        let text = std::fs::read_to_string(path)
            .map_err(|source| KubeconfigError::Read { path: path.to_path_buf(), source })?;
        let file: Value = serde_saphyr::from_str(&text)
            .map_err(|e| KubeconfigError::Syntax { path: path.to_path_buf(), why: e.to_string() })?;
        File { path, file: &file }.target()
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
            Some(user) => self.as_user(target, user),
            None if user_name.is_empty() => Ok(target),
            None => Err(self.wrong(format!("user {user_name:?} does not exist"))),
        }
    }

    fn as_user(&self, mut target: Target, user: &Value) -> Result<Target, KubeconfigError> {
        for unsupported in ["exec", "auth-provider"] {
            if !user[unsupported].is_null() {
                return Err(self.wrong(format!("{unsupported} is not supported")));
            }
        }
        let pem = |field: &str| -> Result<Option<String>, KubeconfigError> {
            let bytes = self.data_or_file(user, field)?;
            bytes.map(|b| String::from_utf8(b).map_err(|_| self.wrong(format!("{field} is no PEM")))).transpose()
        };
        match (pem("client-certificate")?, pem("client-key")?) {
            (Some(cert_pem), Some(key_pem)) => {
                let identity = Identity { cert_pem, key_pem };
                identity
                    .cert_der()
                    .and_then(|_| identity.key_der())
                    .map_err(|e| self.wrong(format!("client certificate: {e}")))?;
                target = target.identified_by(Arc::new(identity));
            }
            (None, None) => {}
            _ => return Err(self.wrong("client-certificate and client-key must be given together")),
        }
        let text = |k: &str| user[k].as_str().filter(|s| !s.is_empty());
        Ok(if let Some(t) = text("token") {
            target.with(Credentials::Token(t.to_string()))
        } else if let Some(f) = text("tokenFile") {
            target.with(Credentials::TokenFile(self.relative(f)))
        } else if let Some(username) = text("username") {
            let password = text("password").unwrap_or("").to_string();
            target.with(Credentials::Basic { username: username.to_string(), password })
        } else {
            target
        })
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
