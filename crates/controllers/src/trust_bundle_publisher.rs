//! The ClusterTrustBundle of `kubernetes.io/kube-apiserver-serving`: what to trust when talking to the API server.
//!
//! In: the cluster's CA, and bundles of that signer. Out: one bundle, named after what is in it, and no other.

use crate::{Context, ownership};
use client::Queue;
use k8s_openapi::api::certificates::v1beta1::{ClusterTrustBundle, ClusterTrustBundleSpec};
use kube::ResourceExt;
use kube::api::{Api, DeleteParams, ObjectMeta, PostParams};
use sha2::{Digest, Sha256};
use std::sync::Arc;

const NAME: &str = "kube-apiserver-serving-clustertrustbundle-publisher";
const SIGNER: &str = "kubernetes.io/kube-apiserver-serving";
/// Of the digest of the bundle, in its name.
const DIGEST_BYTES: usize = 12;

#[derive(Debug, PartialEq)]
pub enum Action {
    Create(ClusterTrustBundle),
    Update(ClusterTrustBundle),
    Delete(String),
}

fn name_of(pem: &str) -> String {
    let digest: String = Sha256::digest(pem).iter().take(DIGEST_BYTES).map(|b| format!("{b:02x}")).collect();
    format!("{}:{digest}", SIGNER.replace('/', ":"))
}

/// The wanted bundle comes before those that are of no more use.
pub fn plan(present: &[Arc<ClusterTrustBundle>], pem: &str) -> Vec<Action> {
    let name = name_of(pem);
    let spec = ClusterTrustBundleSpec { signer_name: Some(SIGNER.into()), trust_bundle: pem.into() };
    let mut actions = match present.iter().find(|b| b.name_any() == name) {
        None => vec![Action::Create(ClusterTrustBundle {
            metadata: ObjectMeta { name: Some(name.clone()), ..ObjectMeta::default() },
            spec,
        })],
        Some(bundle) if bundle.spec.trust_bundle != pem => {
            vec![Action::Update(ClusterTrustBundle { spec, ..(**bundle).clone() })]
        }
        Some(_) => Vec::new(),
    };
    actions.extend(present.iter().map(|b| b.name_any()).filter(|n| *n != name).map(Action::Delete));
    actions
}

pub async fn run(context: Context) {
    let bundles = context.informers.selected::<ClusterTrustBundle>(&format!("spec.signerName={SIGNER}"));
    let queue = Queue::new();
    let q = queue.clone();
    bundles.on_change(move |_| q.add(SIGNER));
    bundles.wait_synced().await;
    queue.add(SIGNER);
    let client = context.client(NAME);
    let pem: Arc<str> = context.root_ca_pem.as_str().into();
    queue
        .run(NAME, 1, context.shutdown.clone(), move |_| {
            let (client, bundles, pem) = (client.clone(), bundles.clone(), pem.clone());
            async move {
                let api: Api<ClusterTrustBundle> = Api::all(client);
                for action in plan(&bundles.list(), &pem) {
                    let done = match action {
                        Action::Create(bundle) => api.create(&PostParams::default(), &bundle).await.map(drop),
                        Action::Update(bundle) => {
                            api.replace(&bundle.name_any(), &PostParams::default(), &bundle).await.map(drop)
                        }
                        Action::Delete(name) => api.delete(&name, &DeleteParams::default()).await.map(drop),
                    };
                    match done {
                        Err(e) if !ownership::gone(&e) => return Err(e),
                        _ => {}
                    }
                }
                Ok(None)
            }
        })
        .await;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_bundle_is_kept_as_it_should_be() {
        let made = plan(&[], "PEM");
        let [Action::Create(bundle)] = made.as_slice() else { panic!("{made:?}") };
        assert_eq!(bundle.name_any(), "kubernetes.io:kube-apiserver-serving:384fb9a44fabe158be2757b9");
        let present = [Arc::new(bundle.clone())];
        assert_eq!(plan(&present, "PEM"), []);
        let mut spoilt = bundle.clone();
        spoilt.spec.trust_bundle = "other".into();
        assert_eq!(plan(&[Arc::new(spoilt)], "PEM"), [Action::Update(bundle.clone())]);
        // A new authority: its bundle first, then the old one goes.
        let renewed = plan(&present, "NEW");
        assert!(matches!(renewed.as_slice(), [Action::Create(_), Action::Delete(old)] if *old == bundle.name_any()));
    }
}
