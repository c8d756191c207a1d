//! Runs the controllers against the server that `KUBECONFIG` names, each as its own service account by impersonation:
//! `skiff server --disable controllers` plus this is the short loop while writing a controller.

use client::{Client, Informers};
use kube::config::{KubeConfigOptions, Kubeconfig};
use std::sync::Arc;

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let config = kube::Config::from_custom_kubeconfig(Kubeconfig::read()?, &KubeConfigOptions::default()).await?;
    let client_as = move |user: String| {
        let mut config = config.clone();
        config.auth_info.impersonate = Some(user);
        Client::try_from(config)
    };
    let shutdown = stdx::Shutdown::new();
    let reader = client_as("system:kube-controller-manager".into())?;
    let context = controllers::Context {
        informers: Informers::new(reader.clone(), shutdown.clone()),
        client_for: Arc::new(move |name: &str| {
            client_as(format!("system:serviceaccount:kube-system:{name}")).unwrap_or_else(|e| {
                eprintln!("no client for {name}: {e}");
                reader.clone()
            })
        }),
        root_ca_pem: "standalone".into(),
        keys: Arc::new(NoKeys),
        shutdown: shutdown.clone(),
    };
    controllers::run(context, stdx::supervisor::Supervisor::new(shutdown)).await;
    Ok(())
}

/// The server's keys stay in the server.
struct NoKeys;

impl controllers::Keys for NoKeys {
    fn sign_certificate(&self, _: &str, _: &[String], _: i64, _: i64) -> Result<String, String> {
        Err("there is no authority outside the server".into())
    }

    fn sign_pod_certificate(&self, _: &[u8], _: &controllers::PodSubject, _: i64, _: i64) -> Result<String, String> {
        Err("there is no authority outside the server".into())
    }

    fn sign_account_token(&self, _: &str, _: &str, _: &str, _: &str) -> Result<String, String> {
        Err("there is no token key outside the server".into())
    }
}
