//! The ConfigMap `kube-root-ca.crt` of every namespace, with which pods check the API server's certificate.

use crate::serviceaccount::is_active;
use crate::{Context, ownership};
use client::Queue;
use k8s_openapi::api::core::v1::{ConfigMap, Namespace};
use kube::ResourceExt;
use kube::api::{Api, ObjectMeta, PostParams};
use std::collections::BTreeMap;
use std::sync::Arc;

const NAME: &str = "kube-root-ca.crt";
const KEY: &str = "ca.crt";
const DESCRIPTION: &str = "kubernetes.io/description";
/// Upstream's words, which users see.
const DESCRIPTION_TEXT: &str = "Contains a CA bundle that can be used to verify the kube-apiserver when using internal \
    endpoints such as the internal service IP or kubernetes.default.svc. No other usage is guaranteed across \
    distributions of Kubernetes clusters.";

#[derive(Debug, PartialEq)]
pub enum Action {
    Create(ConfigMap),
    Update(ConfigMap),
}

pub fn plan(namespace: Option<&Namespace>, present: Option<&ConfigMap>, root_ca_pem: &str) -> Option<Action> {
    let namespace = namespace.filter(|n| is_active(n))?;
    let data = BTreeMap::from([(KEY.to_string(), root_ca_pem.to_string())]);
    let Some(present) = present else {
        return Some(Action::Create(ConfigMap {
            metadata: ObjectMeta {
                name: Some(NAME.into()),
                namespace: namespace.metadata.name.clone(),
                annotations: Some(BTreeMap::from([(DESCRIPTION.into(), DESCRIPTION_TEXT.into())])),
                ..ObjectMeta::default()
            },
            data: Some(data),
            ..ConfigMap::default()
        }));
    };
    let described = present.annotations().get(DESCRIPTION).is_some_and(|d| d == DESCRIPTION_TEXT);
    if described && present.data.as_ref() == Some(&data) {
        return None;
    }
    let mut new = present.clone();
    new.data = Some(data);
    new.annotations_mut().insert(DESCRIPTION.into(), DESCRIPTION_TEXT.into());
    Some(Action::Update(new))
}

pub async fn run(context: Context) {
    let namespaces = context.informers.of::<Namespace>();
    let maps = context.informers.selected::<ConfigMap>(&format!("metadata.name={NAME}"));
    let queue = Queue::new();
    let q = queue.clone();
    namespaces.on_change(move |c| q.add(c.object().name_any()));
    let q = queue.clone();
    maps.on_change(move |c| q.add(c.object().namespace().unwrap_or_default()));
    namespaces.wait_synced().await;
    maps.wait_synced().await;

    let client = context.client("root-ca-cert-publisher");
    let root_ca: Arc<str> = context.root_ca_pem.as_str().into();
    queue
        .run("root-ca-cert-publisher", 1, context.shutdown.clone(), move |name| {
            let (client, namespaces, maps) = (client.clone(), Arc::clone(&namespaces), Arc::clone(&maps));
            let root_ca = root_ca.clone();
            async move {
                let present = maps.get(&format!("{name}/{NAME}"));
                let api: Api<ConfigMap> = Api::namespaced(client, &name);
                let result = match plan(namespaces.get(&name).as_deref(), present.as_deref(), &root_ca) {
                    None => return Ok(None),
                    Some(Action::Create(map)) => api.create(&PostParams::default(), &map).await,
                    Some(Action::Update(map)) => api.replace(NAME, &PostParams::default(), &map).await,
                };
                match result {
                    Ok(_) => Ok(None),
                    Err(e) if ownership::gone(&e) || ownership::namespace_terminates(&e) => Ok(None),
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
    fn made_kept_and_put_right() {
        let ns: Namespace = serde_json::from_value(json!({"metadata": {"name": "n"}})).unwrap();
        let Some(Action::Create(map)) = plan(Some(&ns), None, "PEM") else { panic!("not created") };
        assert_eq!(plan(Some(&ns), Some(&map), "PEM"), None);
        let mut spoilt = map.clone();
        spoilt.data = Some(BTreeMap::from([("x".into(), "y".into())]));
        let Some(Action::Update(put_right)) = plan(Some(&ns), Some(&spoilt), "PEM") else { panic!("not updated") };
        assert_eq!(put_right, map);
        assert!(matches!(plan(Some(&ns), Some(&map), "NEW"), Some(Action::Update(_))));
        assert_eq!(plan(None, None, "PEM"), None);
    }
}
