//! The end of namespaces: their content is deleted, pods first, then the `kubernetes` finalizer is removed.
//!
//! In: namespaces that terminate, discovery, and what is left in them. Out: deletions, the namespace's conditions, and
//! at last its finalization. Upstream: `namespaced_resources_deleter.go` and KEP-5080 (ordered deletion).

use crate::discovery::{self, Found};
use crate::{Context, ownership};
use client::{Change, Client, Queue};
use futures::StreamExt;
use k8s_openapi::api::core::v1::{Namespace, NamespaceCondition, NamespaceStatus, Pod};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use k8s_openapi::jiff::Timestamp;
use kube::ResourceExt;
use kube::api::{Api, DeleteParams, DynamicObject, ListParams, PostParams};
use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

const NAME: &str = "namespace-controller";
const FINALIZER: &str = "kubernetes";
const WORKERS: usize = 10;
/// Between looks at content that waits for somebody's finalizer; doubles between these.
const RETRY_MIN: Duration = Duration::from_millis(50);
const RETRY_MAX: Duration = Duration::from_secs(10);

/// What a pass over a namespace's content found.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Content {
    pub discovery_failures: Vec<String>,
    pub deletion_failures: Vec<String>,
    /// Objects left, by `resource.group`.
    pub remaining: BTreeMap<String, usize>,
    /// Objects left, by finalizer.
    pub finalizers: BTreeMap<String, usize>,
}

impl Content {
    fn is_gone(&self) -> bool {
        self.discovery_failures.is_empty() && self.deletion_failures.is_empty() && self.remaining.is_empty()
    }

    fn add(&mut self, other: Content) {
        self.discovery_failures.extend(other.discovery_failures);
        self.deletion_failures.extend(other.deletion_failures);
        for (k, n) in other.remaining {
            *self.remaining.entry(k).or_default() += n;
        }
        for (k, n) in other.finalizers {
            *self.finalizers.entry(k).or_default() += n;
        }
    }
}

/// What is to be written once the content was looked at.
#[derive(Clone, Debug, PartialEq)]
pub struct Plan {
    /// When it differs from the present one.
    pub status: Option<NamespaceStatus>,
    /// Nothing is left: remove our finalizer.
    pub finalize: bool,
}

pub fn plan(now: Timestamp, namespace: &Namespace, content: &Content) -> Plan {
    let old = namespace.status.clone().unwrap_or_default();
    let mut status = old.clone();
    status.phase = Some("Terminating".into());
    let list = |v: &[String]| format!("[{}]", v.join(", "));
    let joined = |m: &BTreeMap<String, usize>, text: &str| {
        m.iter().map(|(k, n)| format!("{k} {text}{n} resource instances")).collect::<Vec<_>>().join(", ")
    };
    let verdicts: [(&str, Option<(&str, String)>, &str, &str); 5] = [
        (
            "NamespaceDeletionDiscoveryFailure",
            (!content.discovery_failures.is_empty()).then(|| {
                let n = content.discovery_failures.len();
                let failures = content.discovery_failures.join(", ");
                let text = "unable to retrieve the complete list of server APIs";
                ("DiscoveryFailed", format!("Discovery failed for some groups, {n} failing: {text}: {failures}"))
            }),
            "ResourcesDiscovered",
            "All resources successfully discovered",
        ),
        (
            "NamespaceDeletionGroupVersionParsingFailure",
            None,
            "ParsedGroupVersions",
            "All legacy kube types successfully parsed",
        ),
        (
            "NamespaceDeletionContentFailure",
            (!content.deletion_failures.is_empty()).then(|| {
                let n = content.deletion_failures.len();
                let failures = list(&content.deletion_failures);
                ("ContentDeletionFailed", format!("Failed to delete all resource types, {n} remaining: {failures}"))
            }),
            "ContentDeleted",
            "All content successfully deleted, may be waiting on finalization",
        ),
        (
            "NamespaceContentRemaining",
            (!content.remaining.is_empty()).then(|| {
                let what = joined(&content.remaining, "has ");
                ("SomeResourcesRemain", format!("Some resources are remaining: {what}"))
            }),
            "ContentRemoved",
            "All content successfully removed",
        ),
        (
            "NamespaceFinalizersRemaining",
            (!content.finalizers.is_empty()).then(|| {
                let what = joined(&content.finalizers, "in ");
                ("SomeFinalizersRemain", format!("Some content in the namespace has finalizers remaining: {what}"))
            }),
            "ContentHasNoFinalizers",
            "All content-preserving finalizers finished",
        ),
    ];
    let conditions = status.conditions.get_or_insert_default();
    for (kind, bad, good_reason, good_message) in verdicts {
        let (value, reason, message) = match bad {
            Some((reason, message)) => ("True", reason, message),
            None => ("False", good_reason, good_message.to_string()),
        };
        let new = NamespaceCondition {
            type_: kind.into(),
            status: value.into(),
            reason: Some(reason.into()),
            message: Some(message),
            last_transition_time: Some(Time(now)),
        };
        match conditions.iter_mut().find(|c| c.type_ == kind) {
            None => conditions.push(new),
            Some(c) if c.status == new.status && c.reason == new.reason && c.message == new.message => {}
            Some(c) => {
                let since = (c.status == new.status).then(|| c.last_transition_time.clone()).flatten();
                *c = NamespaceCondition {
                    last_transition_time: since.or_else(|| new.last_transition_time.clone()),
                    ..new
                };
            }
        }
    }
    let ours =
        namespace.spec.as_ref().and_then(|s| s.finalizers.as_ref()).is_some_and(|f| f.iter().any(|f| f == FINALIZER));
    Plan { status: (status != old).then_some(status), finalize: content.is_gone() && ours }
}

pub async fn run(context: Context) {
    let client = context.client(NAME);
    // Discovery is open to every authenticated user.
    let namespaces = context.informers.of::<Namespace>();
    let pods = context.informers.of::<Pod>();
    let queue = Queue::new();
    let q = queue.clone();
    namespaces.on_change(move |c| {
        if let Change::Added(n) | Change::Updated { new: n, .. } = c
            && n.metadata.deletion_timestamp.is_some()
        {
            q.add(n.name_any());
        }
    });
    let (q, n) = (queue.clone(), namespaces.clone());
    pods.on_change(move |c| {
        if let Change::Deleted(p) = c {
            let name = p.namespace().unwrap_or_default();
            if n.get(&name).is_some_and(|n| n.metadata.deletion_timestamp.is_some()) {
                q.add(name);
            }
        }
    });
    namespaces.wait_synced().await;

    let patience: Arc<Mutex<HashMap<String, Duration>>> = Arc::default();
    queue
        .run("namespace", WORKERS, context.shutdown.clone(), move |name| {
            let (client, namespaces, patience) = (client.clone(), namespaces.clone(), patience.clone());
            async move {
                let known = namespaces.get(&name).is_some_and(|n| n.metadata.deletion_timestamp.is_some());
                let again = if known { sync(&client, &name).await? } else { false };
                let mut patience = patience.lock().unwrap_or_else(PoisonError::into_inner);
                if !again {
                    patience.remove(&name);
                    return Ok::<_, kube::Error>(None);
                }
                let wait = patience.entry(name).or_insert(RETRY_MIN);
                let now = *wait;
                *wait = (now * 2).min(RETRY_MAX);
                Ok(Some(now))
            }
        })
        .await;
}

/// One pass. Returns whether something is left to wait for.
async fn sync(client: &Client, name: &str) -> Result<bool, kube::Error> {
    let api: Api<Namespace> = Api::all(client.clone());
    let Some(mut namespace) = api.get_opt(name).await? else { return Ok(false) };
    let finalizers = namespace.spec.as_ref().and_then(|s| s.finalizers.as_deref()).unwrap_or_default();
    if namespace.metadata.deletion_timestamp.is_none() || finalizers.is_empty() {
        return Ok(false);
    }
    let content = delete_content(client, name).await;
    let plan = plan(Timestamp::now(), &namespace, &content);
    if let Some(status) = plan.status {
        namespace.status = Some(status);
        namespace = match api.replace_status(name, &PostParams::default(), &namespace).await {
            Ok(n) => n,
            Err(e) if ownership::gone(&e) => return Ok(false),
            Err(e) => return Err(e),
        };
    }
    if !plan.finalize {
        return Ok(!content.is_gone());
    }
    if let Some(f) = namespace.spec.as_mut().and_then(|s| s.finalizers.as_mut()) {
        f.retain(|f| f != FINALIZER);
    }
    match api.replace_subresource("finalize", name, &PostParams::default(), &namespace).await {
        Ok(_) => Ok(false),
        Err(e) if ownership::gone(&e) => Ok(false),
        // Upstream's server answers the last finalize of an object that is then gone; anything else is an error.
        Err(e) => Err(e),
    }
}

async fn delete_content(client: &Client, namespace: &str) -> Content {
    let (found, discovery_failures) = discovery::resources(client).await;
    let mut content = Content { discovery_failures, ..Content::default() };
    let deletable = |f: &Found| f.namespaced && f.can("delete") && f.can("list");
    let (pods, others): (Vec<_>, Vec<_>) =
        found.into_iter().filter(deletable).partition(|f| f.resource.group.is_empty() && f.resource.plural == "pods");
    for f in &pods {
        content.add(delete_all(client, namespace, f).await);
    }
    // While pods run, what they use (NetworkPolicies, Secrets…) stays.
    if !content.remaining.is_empty() || !content.deletion_failures.is_empty() {
        return content;
    }
    let rest: Vec<Content> = futures::stream::iter(others)
        .map(|f| async move { delete_all(client, namespace, &f).await })
        .buffer_unordered(16)
        .collect()
        .await;
    rest.into_iter().for_each(|c| content.add(c));
    content
}

/// Deletes all objects of one resource and says what is left of them.
async fn delete_all(client: &Client, namespace: &str, found: &Found) -> Content {
    let mut content = Content::default();
    let api: Api<DynamicObject> = Api::namespaced_with(client.clone(), namespace, &found.resource);
    let result = async {
        let present = api.list_metadata(&ListParams::default()).await?;
        if present.items.is_empty() {
            return Ok(());
        }
        if found.can("deletecollection") {
            api.delete_collection(&DeleteParams::background(), &ListParams::default()).await?;
        } else {
            for object in &present.items {
                match api.delete(&object.name_any(), &DeleteParams::background()).await {
                    Err(e) if !ownership::gone(&e) => return Err(e),
                    _ => {}
                }
            }
        }
        let left = api.list_metadata(&ListParams::default()).await?;
        if !left.items.is_empty() {
            content.remaining.insert(found.group_resource(), left.items.len());
        }
        for finalizer in left.items.iter().flat_map(|o| o.finalizers()) {
            *content.finalizers.entry(finalizer.clone()).or_default() += 1;
        }
        Ok::<_, kube::Error>(())
    }
    .await;
    match result {
        // A CRD that went meanwhile, or one that serves only some verbs.
        Err(e) if ownership::gone(&e) || ownership::code(&e) == Some(405) => {}
        Err(e) => content.deletion_failures.push(ownership::message(&e)),
        Ok(()) => {}
    }
    content
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn conditions_say_what_is_left_and_then_it_is_finalized() {
        let now: Timestamp = "2026-01-01T00:00:00Z".parse().unwrap();
        let mut ns: Namespace = serde_json::from_value(json!({
            "metadata": {"name": "n", "deletionTimestamp": "2026-01-01T00:00:00Z"},
            "spec": {"finalizers": ["kubernetes"]}, "status": {"phase": "Terminating"},
        }))
        .unwrap();
        let mut content = Content::default();
        content.remaining.insert("pods.".into(), 2);
        content.finalizers.insert("example.com/x".into(), 1);
        let p = plan(now, &ns, &content);
        assert!(!p.finalize);
        ns.status = p.status;
        let message = |ns: &Namespace, kind: &str| {
            let conditions = ns.status.as_ref().unwrap().conditions.as_ref().unwrap();
            conditions.iter().find(|c| c.type_ == kind).unwrap().message.clone().unwrap()
        };
        assert_eq!(
            message(&ns, "NamespaceContentRemaining"),
            "Some resources are remaining: pods. has 2 resource instances"
        );
        assert_eq!(
            message(&ns, "NamespaceFinalizersRemaining"),
            "Some content in the namespace has finalizers remaining: example.com/x in 1 resource instances"
        );
        let again = plan(now, &ns, &content);
        assert_eq!(again.status, None, "nothing new, nothing written");
        let p = plan(now, &ns, &Content::default());
        assert!(p.finalize);
        ns.status = p.status;
        assert_eq!(message(&ns, "NamespaceContentRemaining"), "All content successfully removed");
        ns.spec.as_mut().unwrap().finalizers = Some(vec!["other".into()]);
        assert!(!plan(now, &ns, &Content::default()).finalize);
    }
}
