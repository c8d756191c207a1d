//! `e2e operator GROUP NAMESPACE`: an operator as people write them with `kube`, for a scenario to watch at work.
//!
//! In: Greetings of the group. Out: for each a ConfigMap that it owns (server-side apply), a status, and a finalizer
//! which leaves a farewell when the Greeting goes.

use anyhow::{Context, Result};
use futures::StreamExt;
use kube::api::{Api, ApiResource, DynamicObject, GroupVersionKind, ObjectMeta, Patch, PatchParams, PostParams};
use kube::runtime::controller::{Action, Controller};
use kube::runtime::finalizer::{Event, finalizer};
use kube::runtime::watcher;
use kube::{Client, Resource, ResourceExt};
use serde_json::json;
use std::sync::Arc;
use std::time::Duration;

/// Field manager and finalizer's owner.
const NAME: &str = "kube-operator";

#[derive(Debug, thiserror::Error)]
enum Failure {
    #[error("{0}")]
    Api(#[from] kube::Error),
    #[error("{0}")]
    Finalizer(#[source] Box<kube::runtime::finalizer::Error<Failure>>),
}

struct Operator {
    client: Client,
    greetings: ApiResource,
    namespace: String,
}

/// Runs until it is killed.
pub fn run(group: &str, namespace: &str) -> Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        let client = Client::try_default().await.context("no kubeconfig")?;
        let greetings = ApiResource::from_gvk(&GroupVersionKind::gvk(group, "v1", "Greeting"));
        let api: Api<DynamicObject> = Api::namespaced_with(client.clone(), namespace, &greetings);
        let maps: Api<k8s_openapi::api::core::v1::ConfigMap> = Api::namespaced(client.clone(), namespace);
        let context = Arc::new(Operator { client, greetings: greetings.clone(), namespace: namespace.to_string() });
        Controller::new_with(api, watcher::Config::default(), greetings.clone())
            .owns_with(maps, (), watcher::Config::default())
            .run(reconcile, |_, _, _| Action::requeue(Duration::from_secs(1)), context)
            .for_each(|r| async move {
                if let Err(e) = r {
                    eprintln!("operator: {e}");
                }
            })
            .await;
        Ok(())
    })
}

async fn reconcile(greeting: Arc<DynamicObject>, context: Arc<Operator>) -> Result<Action, Failure> {
    let api: Api<DynamicObject> = Api::namespaced_with(context.client.clone(), &context.namespace, &context.greetings);
    finalizer(&api, "example.com/farewell", greeting, |event| async {
        match event {
            Event::Apply(g) => greet(&g, &context).await,
            Event::Cleanup(g) => farewell(&g, &context).await,
        }
    })
    .await
    .map_err(|e| Failure::Finalizer(Box::new(e)))
}

async fn greet(greeting: &DynamicObject, context: &Operator) -> Result<Action, Failure> {
    let text = format!("hello {}", greeting.data["spec"]["who"].as_str().unwrap_or("nobody"));
    let name = format!("greeting-{}", greeting.name_any());
    let maps: Api<k8s_openapi::api::core::v1::ConfigMap> = Api::namespaced(context.client.clone(), &context.namespace);
    let owner = greeting.controller_owner_ref(&context.greetings);
    let wanted = json!({
        "apiVersion": "v1", "kind": "ConfigMap",
        "metadata": {"name": name, "ownerReferences": owner.into_iter().collect::<Vec<_>>()},
        "data": {"text": text},
    });
    maps.patch(&name, &PatchParams::apply(NAME).force(), &Patch::Apply(&wanted)).await?;
    let api: Api<DynamicObject> = Api::namespaced_with(context.client.clone(), &context.namespace, &context.greetings);
    let status = json!({"status": {"said": text, "observedGeneration": greeting.metadata.generation}});
    api.patch_status(&greeting.name_any(), &PatchParams::default(), &Patch::Merge(&status)).await?;
    Ok(Action::await_change())
}

async fn farewell(greeting: &DynamicObject, context: &Operator) -> Result<Action, Failure> {
    let maps: Api<k8s_openapi::api::core::v1::ConfigMap> = Api::namespaced(context.client.clone(), &context.namespace);
    let note = k8s_openapi::api::core::v1::ConfigMap {
        metadata: ObjectMeta { name: Some(format!("farewell-{}", greeting.name_any())), ..ObjectMeta::default() },
        ..Default::default()
    };
    match maps.create(&PostParams::default(), &note).await {
        Err(kube::Error::Api(e)) if e.code == 409 => {}
        other => drop(other?),
    }
    Ok(Action::await_change())
}
