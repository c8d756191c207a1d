//! Secrets of type `kubernetes.io/service-account-token`: filled with a token, the CA and the namespace, and removed
//! with the account that they are for. Upstream's tokens controller.

use crate::{Context, ownership};
use client::{Change, Queue};
use k8s_openapi::ByteString;
use k8s_openapi::api::core::v1::{Secret, ServiceAccount};
use kube::ResourceExt;
use kube::api::{Api, DeleteParams, PostParams, Preconditions};
use std::sync::Arc;

const SECRET_TYPE: &str = "kubernetes.io/service-account-token";
const ACCOUNT: &str = "kubernetes.io/service-account.name";
const ACCOUNT_UID: &str = "kubernetes.io/service-account.uid";

#[derive(Debug, PartialEq)]
pub enum Action {
    Delete,
    Update(Secret),
}

fn key_of(secret: &Secret) -> String {
    format!("{}/{}", secret.namespace().unwrap_or_default(), secret.name_any())
}

/// `token_of`: a token for this account (name, uid), bound to the Secret's name.
pub fn plan(
    secret: &Secret,
    account: Option<&ServiceAccount>,
    root_ca_pem: &str,
    token_of: impl FnOnce(&str, &str) -> Result<String, String>,
) -> Result<Option<Action>, String> {
    if secret.metadata.deletion_timestamp.is_some() {
        return Ok(None);
    }
    let wanted_uid = secret.annotations().get(ACCOUNT_UID).filter(|u| !u.is_empty());
    let account = account.filter(|a| wanted_uid.is_none() || a.uid().as_ref() == wanted_uid);
    let Some(account) = account else { return Ok(Some(Action::Delete)) };
    let (name, uid) = (account.name_any(), account.uid().unwrap_or_default());
    let namespace = secret.namespace().unwrap_or_default();

    let has = |key: &str| secret.data.as_ref().and_then(|d| d.get(key)).is_some_and(|v| !v.0.is_empty());
    let same =
        |key: &str, value: &str| secret.data.as_ref().and_then(|d| d.get(key)).is_some_and(|v| v.0 == value.as_bytes());
    if has("token") && same("ca.crt", root_ca_pem) && has("namespace") && wanted_uid.is_some() {
        return Ok(None);
    }
    let mut new = secret.clone();
    let data = new.data.get_or_insert_default();
    data.insert("ca.crt".into(), ByteString(root_ca_pem.as_bytes().to_vec()));
    if !has("namespace") {
        data.insert("namespace".into(), ByteString(namespace.into_bytes()));
    }
    if !has("token") {
        data.insert("token".into(), ByteString(token_of(&name, &uid)?.into_bytes()));
    }
    new.annotations_mut().insert(ACCOUNT.into(), name);
    new.annotations_mut().insert(ACCOUNT_UID.into(), uid);
    Ok(Some(Action::Update(new)))
}

pub async fn run(context: Context) {
    let secrets = context.informers.selected::<Secret>(&format!("type={SECRET_TYPE}"));
    let accounts = context.informers.of::<ServiceAccount>();
    let queue = Queue::new();
    let q = queue.clone();
    secrets.on_change(move |c| {
        if !matches!(c, Change::Deleted(_)) {
            q.add(key_of(c.object()));
        }
    });
    let (q, s) = (queue.clone(), Arc::downgrade(&secrets));
    accounts.on_change(move |c| {
        let (Some(s), account) = (s.upgrade(), c.object()) else { return };
        let of_account = |s: &&Arc<Secret>| s.annotations().get(ACCOUNT) == account.metadata.name.as_ref();
        s.in_namespace(&account.namespace().unwrap_or_default())
            .iter()
            .filter(of_account)
            .for_each(|s| q.add(key_of(s)));
    });
    secrets.wait_synced().await;
    accounts.wait_synced().await;

    // Upstream's tokens controller has no service account of its own: it writes as the controller manager.
    let client = context.informers.client().clone();
    let keys = context.keys.clone();
    let root_ca: Arc<str> = context.root_ca_pem.as_str().into();
    queue
        .run("service-account-tokens", 1, context.shutdown.clone(), move |key| {
            let (client, secrets, accounts) = (client.clone(), Arc::clone(&secrets), Arc::clone(&accounts));
            let (keys, root_ca) = (keys.clone(), root_ca.clone());
            async move {
                let Some(secret) = secrets.get(&key) else { return Ok(None) };
                let (namespace, name) = (secret.namespace().unwrap_or_default(), secret.name_any());
                let Some(account) = secret.annotations().get(ACCOUNT).filter(|a| !a.is_empty()) else {
                    return Ok(None);
                };
                let api: Api<Secret> = Api::namespaced(client.clone(), &namespace);
                let mut account = accounts.get(&format!("{namespace}/{account}")).map(|a| (*a).clone());
                if account.is_none() {
                    // What is only just made may not have been heard of yet.
                    let live: Api<ServiceAccount> = Api::namespaced(client.clone(), &namespace);
                    account = live.get_opt(secret.annotations()[ACCOUNT].as_str()).await.map_err(|e| e.to_string())?;
                }
                let sign = |account: &str, uid: &str| keys.sign_account_token(&namespace, account, uid, &name);
                let result = match plan(&secret, account.as_ref(), &root_ca, sign)? {
                    None => return Ok(None),
                    Some(Action::Delete) => {
                        let preconditions =
                            Preconditions { uid: secret.uid(), resource_version: secret.resource_version() };
                        api.delete(&name, &DeleteParams::default().preconditions(preconditions)).await.map(drop)
                    }
                    Some(Action::Update(new)) => {
                        api.replace(&name, &PostParams::default(), &new).await.map(|s| secrets.remember(s))
                    }
                };
                match result {
                    Ok(()) => Ok(None),
                    Err(e) if ownership::gone(&e) || ownership::namespace_terminates(&e) => Ok(None),
                    Err(e) => Err(e.to_string()),
                }
            }
        })
        .await;
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    #[test]
    fn filled_once_kept_and_removed_with_the_account() {
        let account: ServiceAccount =
            serde_json::from_value(json!({"metadata": {"namespace": "d", "name": "s", "uid": "u1"}})).unwrap();
        let secret = |v: Value| serde_json::from_value::<Secret>(v).unwrap();
        let empty = secret(json!({"metadata": {"namespace": "d", "name": "t", "annotations": {ACCOUNT: "s"}}}));
        let sign = |account: &str, uid: &str| Ok(format!("token of {account} {uid}"));
        let Ok(Some(Action::Update(full))) = plan(&empty, Some(&account), "PEM", sign) else { panic!("not filled") };
        let text = |key: &str| String::from_utf8(full.data.as_ref().unwrap()[key].0.clone()).unwrap();
        assert_eq!(
            (text("token"), text("ca.crt"), text("namespace")),
            ("token of s u1".into(), "PEM".into(), "d".into())
        );
        assert_eq!(full.annotations()[ACCOUNT_UID], "u1");
        assert_eq!(plan(&full, Some(&account), "PEM", sign), Ok(None));

        // A new authority is told, and the token stays.
        let Ok(Some(Action::Update(new))) = plan(&full, Some(&account), "NEW", |_, _| Err("again".into())) else {
            panic!("not updated")
        };
        assert_eq!(new.data.as_ref().unwrap()["token"], full.data.as_ref().unwrap()["token"]);

        assert_eq!(plan(&full, None, "PEM", sign), Ok(Some(Action::Delete)));
        let mut reborn = account.clone();
        reborn.metadata.uid = Some("u2".into());
        assert_eq!(plan(&full, Some(&reborn), "PEM", sign), Ok(Some(Action::Delete)));
    }
}
