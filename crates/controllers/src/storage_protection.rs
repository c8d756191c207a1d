//! Claims, volumes and volume attributes classes stay while they are in use: the finalizers that admission gave them
//! are taken away once nothing uses them any more.
//!
//! In: the three kinds and pods. Out: their finalizers, added where admission missed them. Upstream: `pvcprotection`,
//! `pvprotection`, `vacprotection`.

use crate::{Context, ownership};
use client::{Change, Client, Informer, Queue};
use k8s_openapi::api::core::v1::{PersistentVolume, PersistentVolumeClaim, Pod};
use k8s_openapi::api::storage::v1::VolumeAttributesClass;
use kube::ResourceExt;
use kube::api::{Api, ListParams, ObjectMeta, PostParams};
use serde::Serialize;
use serde::de::DeserializeOwned;
use std::fmt::Debug;
use std::sync::Arc;

pub const CLAIM: &str = "kubernetes.io/pvc-protection";
pub const VOLUME: &str = "kubernetes.io/pv-protection";
pub const CLASS: &str = "kubernetes.io/vac-protection";

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Action {
    /// It lives and lacks its finalizer.
    Add,
    /// It is to go, if nothing uses it.
    RemoveIfUnused,
}

pub fn plan(meta: &ObjectMeta, finalizer: &str) -> Option<Action> {
    let has = meta.finalizers.iter().flatten().any(|f| f == finalizer);
    match (meta.deletion_timestamp.is_some(), has) {
        (true, true) => Some(Action::RemoveIfUnused),
        (false, false) => Some(Action::Add),
        _ => None,
    }
}

/// The claims of a pod that count: a pod that has no node yet can be held back from starting, so it holds nothing.
pub fn claims_of(pod: &Pod) -> Vec<String> {
    let Some(spec) = pod.spec.as_ref().filter(|s| s.node_name.as_deref().is_some_and(|n| !n.is_empty())) else {
        return Vec::new();
    };
    // Deleted by force: its ephemeral claims have nobody to wait for.
    let shut_down = pod.metadata.deletion_timestamp.is_some() && pod.metadata.deletion_grace_period_seconds == Some(0);
    let volumes = spec.volumes.iter().flatten();
    volumes
        .filter_map(|v| match (&v.persistent_volume_claim, &v.ephemeral) {
            (Some(c), _) => Some(c.claim_name.clone()),
            (None, Some(_)) if !shut_down => Some(format!("{}-{}", pod.name_any(), v.name)),
            _ => None,
        })
        .collect()
}

/// A write of the object with its finalizer added or removed.
async fn write<K>(api: &Api<K>, object: &K, finalizer: &str, action: Action) -> Result<(), kube::Error>
where
    K: kube::Resource + Clone + Debug + Serialize + DeserializeOwned,
{
    let mut new = object.clone();
    let finalizers = new.meta_mut().finalizers.get_or_insert_default();
    match action {
        Action::Add => finalizers.push(finalizer.to_string()),
        Action::RemoveIfUnused => finalizers.retain(|f| f != finalizer),
    }
    match api.replace(&object.name_any(), &PostParams::default(), &new).await {
        Ok(_) => Ok(()),
        Err(e) if ownership::gone(&e) => Ok(()),
        Err(e) => Err(e),
    }
}

pub async fn run_claims(context: Context) {
    const NAME: &str = "pvc-protection-controller";
    let claims = context.informers.of::<PersistentVolumeClaim>();
    let pods = context.informers.of::<Pod>();
    claims.wait_synced().await;
    pods.wait_synced().await;
    let queue = Queue::new();
    let q = queue.clone();
    claims.on_change(move |c| {
        if !matches!(c, Change::Deleted(_)) && plan(&c.object().metadata, CLAIM).is_some() {
            q.add(client::informer::key_of(&**c.object()));
        }
    });
    let q = queue.clone();
    pods.on_change(move |c| {
        let pod = c.object();
        // Only a pod that is gone, or replaced by another of its name, can let a claim go.
        if matches!(c, Change::Deleted(_)) {
            let namespace = pod.namespace().unwrap_or_default();
            claims_of(pod).into_iter().for_each(|name| q.add(format!("{namespace}/{name}")));
        }
    });
    let client = context.client(NAME);
    queue
        .run(NAME, 2, context.shutdown.clone(), move |key| {
            let (client, claims, pods) = (client.clone(), claims.clone(), pods.clone());
            async move {
                let Some(claim) = claims.get(&key) else { return Ok::<_, kube::Error>(None) };
                let Some(action) = plan(&claim.metadata, CLAIM) else { return Ok(None) };
                let (namespace, name) = client::informer::split_key(&key);
                let uses = |p: &Pod| claims_of(p).iter().any(|c| c == name);
                if action == Action::RemoveIfUnused {
                    if pods.in_namespace(namespace).iter().any(|p| uses(p)) {
                        return Ok(None);
                    }
                    // The cache may be behind; the server knows.
                    let live = Api::<Pod>::namespaced(client.clone(), namespace).list(&ListParams::default()).await?;
                    if live.items.iter().any(uses) {
                        return Ok(None);
                    }
                }
                write(&Api::namespaced(client, namespace), &*claim, CLAIM, action).await?;
                Ok(None)
            }
        })
        .await;
}

pub async fn run_volumes(context: Context) {
    const NAME: &str = "pv-protection-controller";
    let bound = |v: &PersistentVolume| v.status.as_ref().and_then(|s| s.phase.as_deref()) == Some("Bound");
    cluster_scoped(context, NAME, VOLUME, move |v: &PersistentVolume| !bound(v), |_, _| ()).await;
}

pub async fn run_classes(context: Context) {
    const NAME: &str = "volumeattributesclass-protection-controller";
    let claims = context.informers.of::<PersistentVolumeClaim>();
    let volumes = context.informers.of::<PersistentVolume>();
    claims.wait_synced().await;
    volumes.wait_synced().await;
    let (c, v) = (claims.clone(), volumes.clone());
    let unused = move |class: &VolumeAttributesClass| {
        let name = class.name_any();
        !c.list().iter().any(|c| classes_of_claim(c).contains(&name))
            && !v.list().iter().any(|v| class_of_volume(v).as_ref() == Some(&name))
    };
    cluster_scoped(context, NAME, CLASS, unused, move |queue, _: &Arc<Informer<VolumeAttributesClass>>| {
        let q = queue.clone();
        claims.on_change(move |c| {
            let former = c.old().unwrap_or(c.object());
            classes_of_claim(former).into_iter().for_each(|n| q.add(n));
        });
        let q = queue.clone();
        volumes.on_change(move |c| {
            let former = c.old().unwrap_or(c.object());
            class_of_volume(former).into_iter().for_each(|n| q.add(n));
        });
    })
    .await;
}

fn classes_of_claim(claim: &PersistentVolumeClaim) -> Vec<String> {
    let status = claim.status.as_ref();
    [
        claim.spec.as_ref().and_then(|s| s.volume_attributes_class_name.clone()),
        status.and_then(|s| s.current_volume_attributes_class_name.clone()),
        status.and_then(|s| s.modify_volume_status.as_ref()?.target_volume_attributes_class_name.clone()),
    ]
    .into_iter()
    .flatten()
    .collect()
}

fn class_of_volume(volume: &PersistentVolume) -> Option<String> {
    volume.spec.as_ref()?.volume_attributes_class_name.clone()
}

/// `unused` decides whether an object that is to go may; `also` adds what else may free one.
async fn cluster_scoped<K>(
    context: Context,
    name: &'static str,
    finalizer: &'static str,
    unused: impl Fn(&K) -> bool + Clone + Send + Sync + 'static,
    also: impl FnOnce(&Queue, &Arc<Informer<K>>),
) where
    K: client::informer::Object + Serialize,
{
    let objects = context.informers.of::<K>();
    objects.wait_synced().await;
    let queue = Queue::new();
    let q = queue.clone();
    objects.on_change(move |c| {
        if !matches!(c, Change::Deleted(_)) && plan(c.object().meta(), finalizer).is_some() {
            q.add(client::informer::key_of(&**c.object()));
        }
    });
    also(&queue, &objects);
    let client: Client = context.client(name);
    queue
        .run(name, 1, context.shutdown.clone(), move |key| {
            let (client, objects, unused) = (client.clone(), objects.clone(), unused.clone());
            async move {
                let Some(object) = objects.get(&key) else { return Ok::<_, kube::Error>(None) };
                match plan(object.meta(), finalizer) {
                    Some(Action::RemoveIfUnused) if !unused(&object) => {}
                    Some(action) => write(&Api::all(client), &*object, finalizer, action).await?,
                    None => {}
                }
                Ok(None)
            }
        })
        .await;
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn finalizers_come_and_go() {
        let meta = |v: serde_json::Value| serde_json::from_value::<ObjectMeta>(v).unwrap();
        let gone = "2026-01-01T00:00:00Z";
        assert_eq!(plan(&meta(json!({})), CLAIM), Some(Action::Add));
        assert_eq!(plan(&meta(json!({"finalizers": [CLAIM]})), CLAIM), None);
        assert_eq!(plan(&meta(json!({"finalizers": ["a/b"], "deletionTimestamp": gone})), CLAIM), None);
        let going = meta(json!({"finalizers": [CLAIM], "deletionTimestamp": gone}));
        assert_eq!(plan(&going, CLAIM), Some(Action::RemoveIfUnused));
    }

    #[test]
    fn only_pods_on_nodes_hold_claims() {
        let pod = |node: &str, more: serde_json::Value| -> Pod {
            let mut meta = json!({"name": "p"});
            for (k, v) in more.as_object().unwrap() {
                meta[k] = v.clone();
            }
            serde_json::from_value(json!({"metadata": meta, "spec": {"nodeName": node, "containers": [], "volumes": [
                {"name": "a", "persistentVolumeClaim": {"claimName": "c"}}, {"name": "e", "ephemeral": {}}, {"name": "x", "emptyDir": {}}]}}))
            .unwrap()
        };
        assert_eq!(claims_of(&pod("", json!({}))), Vec::<String>::new());
        assert_eq!(claims_of(&pod("n", json!({}))), ["c", "p-e"]);
        let forced = json!({"deletionTimestamp": "2026-01-01T00:00:00Z", "deletionGracePeriodSeconds": 0});
        assert_eq!(claims_of(&pod("n", forced)), ["c"]);
    }
}
