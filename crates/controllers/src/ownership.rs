//! Who owns whom: controller references, and how an owner adopts and releases objects by its selector.
//!
//! Upstream: `controller_ref_manager.go`.

use client::Client;
use k8s_openapi::NamespaceResourceScope;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{LabelSelector, ObjectMeta, OwnerReference};
use kube::api::{Api, Patch, PatchParams};
use kube::core::{Selector, SelectorExt};
use kube::{Resource, ResourceExt};
use serde::de::DeserializeOwned;
use std::collections::BTreeMap;
use std::fmt::Debug;

/// The one owner that controls an object.
pub fn controller_of(meta: &ObjectMeta) -> Option<&OwnerReference> {
    meta.owner_references.as_deref()?.iter().find(|o| o.controller == Some(true))
}

pub fn is_controlled_by(meta: &ObjectMeta, owner: &ObjectMeta) -> bool {
    controller_of(meta).is_some_and(|o| Some(&o.uid) == owner.uid.as_ref())
}

/// The reference that makes `owner` the controller of what carries it.
pub fn controller_reference<K: Resource<DynamicType = ()>>(owner: &K) -> OwnerReference {
    OwnerReference {
        api_version: K::api_version(&()).into_owned(),
        kind: K::kind(&()).into_owned(),
        name: owner.name_any(),
        uid: owner.uid().unwrap_or_default(),
        controller: Some(true),
        block_owner_deletion: Some(true),
    }
}

/// The key of the controller of an object, when it is of this kind.
pub fn owner_key(meta: &ObjectMeta, api_group: &str, kind: &str) -> Option<String> {
    let owner = controller_of(meta)?;
    let group = owner.api_version.split_once('/').map_or("", |(g, _)| g);
    (owner.kind == kind && group == api_group)
        .then(|| format!("{}/{}", meta.namespace.as_deref().unwrap_or_default(), owner.name))
}

/// A selector that can be asked; one that can't be parsed, or that is absent, selects nothing.
pub fn selector(of: Option<&LabelSelector>) -> Option<Selector> {
    of.cloned().and_then(|s| Selector::try_from(s).ok())
}

pub fn selects(selector: &Selector, labels: Option<&BTreeMap<String, String>>) -> bool {
    static NONE: BTreeMap<String, String> = BTreeMap::new();
    selector.matches(labels.unwrap_or(&NONE))
}

/// What an owner does about one object that it may own.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Claim {
    Mine,
    /// Nobody's, and selected: take it.
    Adopt,
    /// Mine, but no longer selected: let it go.
    Release,
    NotMine,
}

pub fn claim(owner: &ObjectMeta, selector: &Selector, child: &ObjectMeta) -> Claim {
    let owner_goes = owner.deletion_timestamp.is_some();
    let selected = selects(selector, child.labels.as_ref());
    match controller_of(child) {
        Some(r) if Some(&r.uid) != owner.uid.as_ref() => Claim::NotMine,
        Some(_) if selected => Claim::Mine,
        Some(_) if owner_goes => Claim::NotMine,
        Some(_) => Claim::Release,
        None if selected && !owner_goes && child.deletion_timestamp.is_none() && owner.namespace == child.namespace => {
            Claim::Adopt
        }
        None => Claim::NotMine,
    }
}

/// Sorts `children` into those that `owner` has after adopting and releasing. Adoption asks the server first whether the
/// owner still lives, since a stale cache must not make orphans its own again.
pub async fn claim_all<O, K>(
    client: &Client,
    owner: &O,
    selector: &Selector,
    children: Vec<std::sync::Arc<K>>,
) -> Result<Vec<std::sync::Arc<K>>, kube::Error>
where
    O: Resource<DynamicType = (), Scope = NamespaceResourceScope> + Clone + DeserializeOwned + Debug,
    K: Resource<DynamicType = (), Scope = NamespaceResourceScope> + Clone + DeserializeOwned + Debug,
{
    let namespace = owner.namespace().unwrap_or_default();
    let api: Api<K> = Api::namespaced(client.clone(), &namespace);
    let mut lives = None;
    let mut mine = Vec::new();
    for child in children {
        match claim(owner.meta(), selector, child.meta()) {
            Claim::Mine => mine.push(child),
            Claim::NotMine => {}
            Claim::Adopt => {
                if lives.is_none() {
                    let owners: Api<O> = Api::namespaced(client.clone(), &namespace);
                    let now = owners.get_opt(&owner.name_any()).await?;
                    lives = Some(now.is_some_and(|o| o.uid() == owner.uid() && o.meta().deletion_timestamp.is_none()));
                }
                if lives != Some(true) {
                    continue;
                }
                let patch = serde_json::json!({"metadata": {
                    "uid": child.uid(),
                    "ownerReferences": [controller_reference(owner)],
                }});
                match api.patch(&child.name_any(), &PatchParams::default(), &Patch::Strategic(&patch)).await {
                    Ok(adopted) => mine.push(std::sync::Arc::new(adopted)),
                    Err(e) if gone(&e) => {}
                    Err(e) => return Err(e),
                }
            }
            Claim::Release => {
                let patch = serde_json::json!({"metadata": {
                    "uid": child.uid(),
                    "ownerReferences": [{"$patch": "delete", "uid": owner.uid()}],
                }});
                match api.patch(&child.name_any(), &PatchParams::default(), &Patch::Strategic(&patch)).await {
                    Ok(_) => {}
                    // 422: it has another uid now, so it is another object.
                    Err(e) if gone(&e) || code(&e) == Some(422) => {}
                    Err(e) => return Err(e),
                }
            }
        }
    }
    Ok(mine)
}

/// The HTTP code of an answer that is a `Status`.
pub fn code(e: &kube::Error) -> Option<u16> {
    match e {
        kube::Error::Api(s) => Some(s.code),
        _ => None,
    }
}

pub fn gone(e: &kube::Error) -> bool {
    code(e) == Some(404)
}

/// A write into a namespace that is being deleted; trying again is of no use.
pub fn namespace_terminates(e: &kube::Error) -> bool {
    match e {
        kube::Error::Api(s) => {
            s.code == 403
                && (s.message.contains("being terminated")
                    || s.details.as_ref().is_some_and(|d| d.causes.iter().any(|c| c.reason == "NamespaceTerminating")))
        }
        _ => false,
    }
}

/// The message of a `Status`, without the client's own words around it.
pub fn message(e: &kube::Error) -> String {
    match e {
        kube::Error::Api(s) => s.message.clone(),
        e => e.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn meta(v: serde_json::Value) -> ObjectMeta {
        serde_json::from_value(v).unwrap()
    }

    #[test]
    fn claims() {
        let s = selector(Some(&serde_json::from_value(json!({"matchLabels": {"a": "b"}})).unwrap())).unwrap();
        let owner = meta(json!({"namespace": "n", "name": "o", "uid": "1"}));
        let going =
            meta(json!({"namespace": "n", "name": "o", "uid": "1", "deletionTimestamp": "2026-01-01T00:00:00Z"}));
        let refs = |uid: &str| json!([{"apiVersion": "apps/v1", "kind": "ReplicaSet", "name": "o", "uid": uid, "controller": true}]);
        for (what, owner, child, want) in [
            ("owned and selected", &owner, json!({"labels": {"a": "b"}, "ownerReferences": refs("1")}), Claim::Mine),
            ("owned, label changed", &owner, json!({"ownerReferences": refs("1")}), Claim::Release),
            ("owned, label changed, owner goes", &going, json!({"ownerReferences": refs("1")}), Claim::NotMine),
            ("another's", &owner, json!({"labels": {"a": "b"}, "ownerReferences": refs("2")}), Claim::NotMine),
            ("orphan", &owner, json!({"labels": {"a": "b"}}), Claim::Adopt),
            ("orphan, owner goes", &going, json!({"labels": {"a": "b"}}), Claim::NotMine),
            (
                "orphan that goes",
                &owner,
                json!({"labels": {"a": "b"}, "deletionTimestamp": "2026-01-01T00:00:00Z"}),
                Claim::NotMine,
            ),
            ("stranger", &owner, json!({"labels": {"a": "c"}}), Claim::NotMine),
        ] {
            let mut child = meta(child);
            child.namespace = Some("n".into());
            assert_eq!(claim(owner, &s, &child), want, "{what}");
        }
    }
}
