//! Credentials that a program gives: `exec` of a kubeconfig's user.
//!
//! In: the user's `exec`, and for whom. Out: a token or a certificate, kept until they end or the peer refuses them.
//! Source: "Authenticating", client-go credential plugins.

use super::target::{Credentials, Target, Trust};
use crate::pki::Identity;
use base64::{Engine, engine::general_purpose::STANDARD};
use jiff::Timestamp;
use serde_json::{Value, json};
use std::collections::HashMap;
use std::path::PathBuf;
use std::process::Stdio;
use std::sync::Arc;
use tokio::process::Command;
use tokio::sync::Mutex;

const GROUP: &str = "client.authentication.k8s.io";

#[derive(Debug)]
pub struct Exec {
    command: PathBuf,
    args: Vec<String>,
    env: Vec<(String, String)>,
    api_version: String,
    hint: String,
    /// The program is told of the peer.
    tells_cluster: bool,
    /// By what the program was told.
    held: Mutex<HashMap<String, Arc<Held>>>,
}

/// What the program gave.
#[derive(Debug)]
pub struct Held {
    token: Option<String>,
    identity: Option<Arc<Identity>>,
    expires: Option<Timestamp>,
}

impl Held {
    pub fn lend(&self, target: Target) -> Target {
        let target = target.with(self.token.clone().map_or(Credentials::None, Credentials::Token));
        match &self.identity {
            Some(i) => target.identified_by(i.clone()),
            None => target,
        }
    }
}

impl Exec {
    /// `user`: its name, for mistakes. `resolve`: where a relative path leads.
    pub fn read(user: &str, exec: &Value, resolve: impl Fn(&str) -> PathBuf) -> Result<Exec, String> {
        let text = |key: &str| exec[key].as_str().unwrap_or("");
        let needed = |key: &str| match text(key) {
            "" => Err(format!("{key} must be specified for {user} to use exec authentication plugin")),
            v => Ok(v),
        };
        let command = needed("command")?;
        let api_version = needed("apiVersion")?;
        if !["v1", "v1beta1"].iter().any(|v| api_version == format!("{GROUP}/{v}")) {
            return Err(format!("exec plugin: invalid apiVersion {api_version:?}"));
        }
        match text("interactiveMode") {
            "Never" | "IfAvailable" => {}
            "" if !api_version.ends_with("/v1") => {}
            "" => {
                return Err(format!("interactiveMode must be specified for {user} to use exec authentication plugin"));
            }
            "Always" => return Err("exec plugin cannot support interactive mode: standard input is no terminal".into()),
            mode => return Err(format!("invalid interactiveMode for {user}: {mode:?}")),
        }
        let pair = |e: &Value| match e["name"].as_str().filter(|n| !n.is_empty()) {
            Some(name) => Ok((name.to_string(), e["value"].as_str().unwrap_or("").to_string())),
            None => Err(format!("env variable name must be specified for {user} to use exec authentication plugin")),
        };
        let args = exec["args"].as_array().into_iter().flatten();
        Ok(Exec {
            command: if command.contains('/') { resolve(command) } else { command.into() },
            args: args.filter_map(|a| a.as_str().map(str::to_string)).collect(),
            env: exec["env"].as_array().into_iter().flatten().map(pair).collect::<Result<_, _>>()?,
            api_version: api_version.to_string(),
            hint: text("installHint").to_string(),
            tells_cluster: exec["provideClusterInfo"] == true,
            held: Mutex::default(),
        })
    }

    /// Credentials for this peer, from before if they are still good.
    pub async fn credentials(&self, target: &Target) -> Result<Arc<Held>, String> {
        let question = self.question(target);
        // Whoever else wants the same waits, and the program runs once.
        let mut held = self.held.lock().await;
        let good = |h: &&Arc<Held>| h.expires.is_none_or(|e| Timestamp::now() <= e);
        if let Some(known) = held.get(&question).filter(good) {
            return Ok(known.clone());
        }
        let fresh = Arc::new(self.read_answer(&self.run(&question).await?)?);
        held.insert(question, fresh.clone());
        Ok(fresh)
    }

    /// The peer didn't take them: the next call asks anew.
    pub async fn refused(&self, target: &Target, credentials: &Arc<Held>) {
        let mut held = self.held.lock().await;
        let question = self.question(target);
        if held.get(&question).is_some_and(|h| Arc::ptr_eq(h, credentials)) {
            held.remove(&question);
        }
    }

    /// An `ExecCredential` without an answer.
    fn question(&self, target: &Target) -> String {
        let mut spec = json!({"interactive": false});
        if self.tells_cluster {
            let mut cluster = json!({"server": target.url.with("", "")});
            if let Some(name) = &target.server_name {
                cluster["tls-server-name"] = name.clone().into();
            }
            match &target.trust {
                Trust::System => {}
                Trust::Anybody => cluster["insecure-skip-tls-verify"] = true.into(),
                Trust::Ca(pem) => cluster["certificate-authority-data"] = STANDARD.encode(pem).into(),
            }
            spec["cluster"] = cluster;
        }
        json!({"kind": "ExecCredential", "apiVersion": self.api_version, "spec": spec}).to_string()
    }

    async fn run(&self, question: &str) -> Result<Vec<u8>, String> {
        let mut command = Command::new(&self.command);
        command.args(&self.args).envs(self.env.iter().cloned()).env("KUBERNETES_EXEC_INFO", question);
        command.stdin(Stdio::null()).stderr(Stdio::inherit()).kill_on_drop(true);
        let shown = self.command.display();
        let failed = |why: String| match self.hint.as_str() {
            "" => format!("exec: {why}"),
            hint => format!("exec: {why}\n\n{hint}"),
        };
        let output = command.output().await.map_err(|e| match e.kind() {
            std::io::ErrorKind::NotFound => failed(format!("executable {shown} not found")),
            _ => failed(format!("executable {shown}: {e}")),
        })?;
        match output.status.code() {
            Some(0) => Ok(output.stdout),
            Some(code) => Err(failed(format!("executable {shown} failed with exit code {code}"))),
            None => Err(failed(format!("executable {shown}: {}", output.status))),
        }
    }

    fn read_answer(&self, answer: &[u8]) -> Result<Held, String> {
        let answer: Value = serde_json::from_slice(answer).map_err(|e| format!("decoding stdout: {e}"))?;
        let text = |v: &Value| v.as_str().unwrap_or("").to_string();
        let version = text(&answer["apiVersion"]);
        if answer["kind"] != "ExecCredential" {
            return Err(format!("decoding stdout: no kind {:?} is registered", text(&answer["kind"])));
        }
        if version != self.api_version {
            return Err(format!(
                "exec plugin is configured to use API version {}, plugin returned version {version}",
                self.api_version
            ));
        }
        let status = &answer["status"];
        if !status.is_object() {
            return Err("exec plugin didn't return a status field".into());
        }
        let given = |key: &str| Some(text(&status[key])).filter(|t| !t.is_empty());
        let token = given("token");
        let identity = match (given("clientCertificateData"), given("clientKeyData")) {
            (None, None) if token.is_none() => return Err("exec plugin didn't return a token or cert/key pair".into()),
            (None, None) => None,
            (Some(cert_pem), Some(key_pem)) => {
                let identity = Identity { cert_pem, key_pem };
                let checked = identity.cert_der().and_then(|_| identity.key_der());
                checked.map_err(|e| format!("failed parsing client key/certificate: {e}"))?;
                Some(Arc::new(identity))
            }
            _ => return Err("exec plugin returned only certificate or key, not both".into()),
        };
        let expires = given("expirationTimestamp").map(|t| t.parse::<Timestamp>());
        let expires = expires.transpose().map_err(|e| format!("decoding stdout: expirationTimestamp: {e}"))?;
        Ok(Held { token, identity, expires })
    }
}
