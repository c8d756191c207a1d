//! The node's lease in `kube-node-lease`: the cheap sign of life.

use crate::pods::context::Context;
use jiff::Timestamp;
use k8s_openapi::api::coordination::v1::{Lease, LeaseSpec};
use k8s_openapi::api::core::v1::Node;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{MicroTime, ObjectMeta, OwnerReference};
use kube::Api;
use kube::api::PostParams;
use std::sync::Arc;
use std::time::Duration;

const NAMESPACE: &str = "kube-node-lease";
const DURATION_SECONDS: i32 = 40;
const RENEW: Duration = Duration::from_secs(10);
const RETRY: Duration = Duration::from_secs(1);

pub async fn run(context: Arc<Context>) {
    let api = Api::<Lease>::namespaced(context.client.clone(), NAMESPACE);
    let mut known: Option<Lease> = None;
    loop {
        let wait = match renew(&context, &api, known.take()).await {
            Ok(lease) => {
                known = Some(lease);
                RENEW
            }
            Err(error) => {
                tracing::debug!(%error, "the node's lease wasn't renewed; it is tried again");
                RETRY
            }
        };
        tokio::select! {
            _ = tokio::time::sleep(wait) => {}
            _ = context.shutdown.cancelled() => return,
        }
    }
}

async fn renew(context: &Context, api: &Api<Lease>, known: Option<Lease>) -> kube::Result<Lease> {
    let name = &context.options.node_name;
    let now = MicroTime(Timestamp::now());
    let existing = match known {
        Some(lease) => Some(lease),
        None => api.get_opt(name).await?,
    };
    let Some(mut lease) = existing else {
        // Owned by the node, so that it goes with it.
        let node = Api::<Node>::all(context.client.clone()).get_opt(name).await?;
        let owner_references = node.and_then(|n| n.metadata.uid).map(|uid| {
            vec![OwnerReference {
                api_version: "v1".into(),
                kind: "Node".into(),
                name: name.clone(),
                uid,
                ..Default::default()
            }]
        });
        let lease = Lease {
            metadata: ObjectMeta {
                name: Some(name.clone()),
                namespace: Some(NAMESPACE.into()),
                owner_references,
                ..Default::default()
            },
            spec: Some(LeaseSpec {
                holder_identity: Some(name.clone()),
                lease_duration_seconds: Some(DURATION_SECONDS),
                renew_time: Some(now),
                ..Default::default()
            }),
        };
        return api.create(&PostParams::default(), &lease).await;
    };
    let spec = lease.spec.get_or_insert_default();
    spec.holder_identity = Some(name.clone());
    spec.lease_duration_seconds = Some(DURATION_SECONDS);
    spec.renew_time = Some(now);
    api.replace(name, &PostParams::default(), &lease).await
}
