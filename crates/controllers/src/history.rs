//! ControllerRevisions: the templates that a StatefulSet or DaemonSet had, so that it can roll back and forth.

use crate::{ownership, pods};
use k8s_openapi::NamespaceResourceScope;
use k8s_openapi::api::apps::v1::ControllerRevision;
use k8s_openapi::api::core::v1::PodTemplateSpec;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use k8s_openapi::apimachinery::pkg::runtime::RawExtension;
use kube::{Resource, ResourceExt};
use std::collections::BTreeMap;

/// Labels a pod and a revision with the template's hash.
pub const HASH: &str = "controller-revision-hash";
/// Labels a revision with the hash alone; its name has the owner's before it.
pub const REVISION_HASH: &str = "controller.kubernetes.io/hash";

/// What is to be done to the revisions of an owner.
#[derive(Clone, Debug, PartialEq)]
pub enum Step {
    Create(Box<ControllerRevision>),
    /// An old template is the present one again: it becomes the newest.
    Renumber(Box<ControllerRevision>),
}

/// A template as a revision keeps it: a patch of the owner that puts it back.
fn data(template: &PodTemplateSpec) -> serde_json::Value {
    let mut template = serde_json::to_value(template).unwrap_or_default();
    if let Some(t) = template.as_object_mut() {
        t.insert("$patch".into(), "replace".into());
    }
    serde_json::json!({"spec": {"template": template}})
}

/// The template that a revision keeps.
pub fn template(revision: &ControllerRevision) -> Option<PodTemplateSpec> {
    let mut template = revision.data.as_ref()?.0.get("spec")?.get("template")?.clone();
    template.as_object_mut()?.remove("$patch");
    serde_json::from_value(template).ok()
}

/// The revision of the present template, and the step that makes it so. `known` are the owner's.
pub fn present<O>(
    owner: &O,
    wanted: &PodTemplateSpec,
    labels: Option<BTreeMap<String, String>>,
    collisions: i32,
    known: &[ControllerRevision],
) -> (ControllerRevision, Option<Step>)
where
    O: Resource<DynamicType = (), Scope = NamespaceResourceScope>,
{
    let newest = known.iter().map(|r| r.revision).max().unwrap_or(0);
    let mut same: Vec<_> = known.iter().filter(|r| template(r).as_ref() == Some(wanted)).collect();
    same.sort_by_key(|r| r.revision);
    match same.last() {
        Some(r) if r.revision == newest => ((*r).clone(), None),
        Some(r) => {
            let mut r = (*r).clone();
            r.revision = newest + 1;
            (r.clone(), Some(Step::Renumber(Box::new(r))))
        }
        None => {
            let hash = pods::template_hash(wanted, collisions);
            let mut labels = labels.unwrap_or_default();
            labels.insert(REVISION_HASH.into(), hash.clone());
            let revision = ControllerRevision {
                metadata: ObjectMeta {
                    name: Some(format!("{}-{hash}", owner.name_any())),
                    namespace: owner.namespace(),
                    labels: Some(labels),
                    // Among them is the change's cause, which `kubectl rollout history` shows.
                    annotations: Some(owner.annotations().clone()).filter(|a| !a.is_empty()),
                    owner_references: Some(vec![ownership::controller_reference(owner)]),
                    ..ObjectMeta::default()
                },
                data: Some(RawExtension(data(wanted))),
                revision: newest + 1,
            };
            (revision.clone(), Some(Step::Create(Box::new(revision))))
        }
    }
}

/// The oldest revisions beyond the limit that nothing uses.
pub fn surplus(known: &[ControllerRevision], used: &[&str], limit: i32) -> Vec<ControllerRevision> {
    let mut idle: Vec<_> = known.iter().filter(|r| !used.contains(&&*r.name_any())).cloned().collect();
    idle.sort_by_key(|r| r.revision);
    let keep = usize::try_from(limit).unwrap_or(0);
    idle.truncate(idle.len().saturating_sub(keep));
    idle
}

#[cfg(test)]
mod tests {
    use super::*;
    use k8s_openapi::api::apps::v1::DaemonSet;
    use serde_json::json;

    #[test]
    fn a_revision_says_what_its_owner_said_when_it_was_made() {
        let mut set: DaemonSet = serde_json::from_value(json!({
            "metadata": {"name": "d", "namespace": "n", "uid": "u", "annotations": {"kubernetes.io/change-cause": "first"}},
            "spec": {"selector": {}, "template": {"spec": {"containers": [{"name": "c", "image": "1"}]}}},
        }))
        .unwrap();
        let of = |set: &DaemonSet, known: &[ControllerRevision]| {
            present(set, &set.spec.as_ref().unwrap().template, None, 0, known)
        };
        let (first, step) = of(&set, &[]);
        assert!(matches!(step, Some(Step::Create(_))));
        assert_eq!(first.annotations()["kubernetes.io/change-cause"], "first");
        set.annotations_mut().insert("kubernetes.io/change-cause".into(), "second".into());
        let (same, step) = of(&set, std::slice::from_ref(&first));
        assert_eq!((same, step), (first, None));
        set.metadata.annotations = None;
        assert_eq!(of(&set, &[]).0.metadata.annotations, None);
    }
}
