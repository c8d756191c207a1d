//! The `default` ServiceAccount of every namespace.

use crate::{Context, ownership};
use client::{Change, Queue};
use k8s_openapi::api::core::v1::{Namespace, ServiceAccount};
use kube::ResourceExt;
use kube::api::{Api, ObjectMeta, PostParams};
use std::sync::Arc;

const NAME: &str = "default";

/// Whether the account is to be made.
pub fn plan(namespace: Option<&Namespace>, account_exists: bool) -> bool {
    namespace.is_some_and(is_active) && !account_exists
}

/// Nothing is made in a namespace that goes.
pub fn is_active(namespace: &Namespace) -> bool {
    namespace.metadata.deletion_timestamp.is_none()
        && namespace.status.as_ref().and_then(|s| s.phase.as_deref()) != Some("Terminating")
}

pub async fn run(context: Context) {
    let namespaces = context.informers.of::<Namespace>();
    let accounts = context.informers.of::<ServiceAccount>();
    let queue = Queue::new();
    let q = queue.clone();
    namespaces.on_change(move |c| q.add(c.object().name_any()));
    let q = queue.clone();
    accounts.on_change(move |c| {
        if let Change::Deleted(a) = c
            && a.name_any() == NAME
        {
            q.add(a.namespace().unwrap_or_default());
        }
    });
    namespaces.wait_synced().await;
    accounts.wait_synced().await;

    let client = context.client("service-account-controller");
    queue
        .run("serviceaccount", 1, context.shutdown.clone(), move |name| {
            let (client, namespaces, accounts) = (client.clone(), Arc::clone(&namespaces), Arc::clone(&accounts));
            async move {
                let exists = accounts.get(&format!("{name}/{NAME}")).is_some();
                if !plan(namespaces.get(&name).as_deref(), exists) {
                    return Ok::<_, kube::Error>(None);
                }
                let account = ServiceAccount {
                    metadata: ObjectMeta {
                        name: Some(NAME.into()),
                        namespace: Some(name.clone()),
                        ..ObjectMeta::default()
                    },
                    ..ServiceAccount::default()
                };
                match Api::<ServiceAccount>::namespaced(client, &name).create(&PostParams::default(), &account).await {
                    Ok(_) => Ok(None),
                    Err(e) if ownership::code(&e) == Some(409) || ownership::gone(&e) => Ok(None),
                    Err(e) if ownership::namespace_terminates(&e) => Ok(None),
                    Err(e) => Err(e),
                }
            }
        })
        .await;
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn only_in_living_namespaces_without_one() {
        let ns = |v| serde_json::from_value::<Namespace>(v).unwrap();
        let active = ns(json!({"metadata": {"name": "n"}, "status": {"phase": "Active"}}));
        let going = ns(json!({"metadata": {"name": "n", "deletionTimestamp": "2026-01-01T00:00:00Z"}}));
        let gone = ns(json!({"metadata": {"name": "n"}, "status": {"phase": "Terminating"}}));
        assert!(plan(Some(&active), false));
        assert!(!plan(Some(&active), true));
        assert!(!plan(Some(&going), false));
        assert!(!plan(Some(&gone), false));
        assert!(!plan(None, false));
    }
}
