//! ConfigMaps, Secrets and ClusterTrustBundles that pods of this node refer to, each followed by a watch of its own for as
//! long as a pod needs it. Nothing polls: a change wakes the pods that refer to the object.
//!
//! In: the references of the pods. Out: snapshots ([`Resolved`]) and a wake-up per change.

use crate::volumes::cluster_trust_bundle;
use futures::StreamExt;
use k8s_openapi::api::certificates::v1beta1::ClusterTrustBundle;
use k8s_openapi::api::core::v1::{ConfigMap, Container, EphemeralContainer, Pod, Secret};
use kube::runtime::{WatchStreamExt, watcher};
use kube::{Api, Client, ResourceExt};
use parking_lot::Mutex;
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;
use std::time::Duration;
use stdx::Shutdown;
use tokio::sync::watch;

/// The objects that a pod refers to, as of now; what is absent doesn't exist.
#[derive(Clone, Debug, Default)]
pub struct Resolved {
    pub config_maps: BTreeMap<String, Arc<ConfigMap>>,
    pub secrets: BTreeMap<String, Arc<Secret>>,
    /// In the order of their names.
    pub trust_bundles: BTreeMap<BundlesOf, Vec<Arc<ClusterTrustBundle>>>,
    /// Kinds of objects about which the API server has said nothing in time: neither there nor absent.
    pub unknown: BTreeSet<&'static str>,
}

/// For the first answer of a watch; upstream gives up as well, rather than to hold a pod back in silence.
const FIRST_ANSWER: Duration = Duration::from_secs(10);

impl Resolved {
    pub fn complete(&self) -> Result<(), String> {
        self.unknown.first().map_or(Ok(()), |kind| Err(unanswered(kind)))
    }
}

/// Upstream's words for an API server that doesn't answer (or refuses).
pub fn unanswered(kind: &str) -> String {
    format!("failed to sync {kind} cache: timed out waiting for the condition")
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Reference {
    ConfigMap(String),
    Secret(String),
    TrustBundles(BundlesOf),
}

/// One ClusterTrustBundle, or all of a signer.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum BundlesOf {
    Name(String),
    Signer(String),
}

/// Everything that environment, volumes and image pulls of the pod may read.
pub fn references(pod: &Pod) -> BTreeSet<Reference> {
    let mut out = BTreeSet::new();
    let Some(spec) = &pod.spec else { return out };
    let ephemeral: Vec<Container> = spec.ephemeral_containers.iter().flatten().map(ephemeral_as_container).collect();
    for c in spec.init_containers.iter().flatten().chain(&spec.containers).chain(&ephemeral) {
        for e in c.env_from.iter().flatten() {
            out.extend(e.config_map_ref.iter().map(|r| Reference::ConfigMap(r.name.clone())));
            out.extend(e.secret_ref.iter().map(|r| Reference::Secret(r.name.clone())));
        }
        for source in c.env.iter().flatten().filter_map(|e| e.value_from.as_ref()) {
            out.extend(source.config_map_key_ref.iter().map(|r| Reference::ConfigMap(r.name.clone())));
            out.extend(source.secret_key_ref.iter().map(|r| Reference::Secret(r.name.clone())));
        }
    }
    for v in spec.volumes.iter().flatten() {
        out.extend(v.config_map.iter().map(|s| Reference::ConfigMap(s.name.clone())));
        out.extend(v.secret.iter().filter_map(|s| s.secret_name.clone()).map(Reference::Secret));
        for p in v.projected.iter().flat_map(|p| p.sources.iter().flatten()) {
            out.extend(p.config_map.iter().map(|s| Reference::ConfigMap(s.name.clone())));
            out.extend(p.secret.iter().map(|s| Reference::Secret(s.name.clone())));
            let bundles = p.cluster_trust_bundle.iter().filter_map(cluster_trust_bundle::reference);
            out.extend(bundles.map(Reference::TrustBundles));
        }
    }
    out.extend(spec.image_pull_secrets.iter().flatten().map(|s| Reference::Secret(s.name.clone())));
    out.retain(|r| !matches!(r, Reference::ConfigMap(n) | Reference::Secret(n) if n.is_empty()));
    out
}

/// An ephemeral container has a container's fields, in a type of its own.
pub fn ephemeral_as_container(e: &EphemeralContainer) -> Container {
    Container {
        name: e.name.clone(),
        image: e.image.clone(),
        image_pull_policy: e.image_pull_policy.clone(),
        command: e.command.clone(),
        args: e.args.clone(),
        working_dir: e.working_dir.clone(),
        env: e.env.clone(),
        env_from: e.env_from.clone(),
        resources: e.resources.clone(),
        volume_mounts: e.volume_mounts.clone(),
        security_context: e.security_context.clone(),
        stdin: e.stdin,
        stdin_once: e.stdin_once,
        tty: e.tty,
        termination_message_path: e.termination_message_path.clone(),
        termination_message_policy: e.termination_message_policy.clone(),
        ..Default::default()
    }
}

#[derive(Clone)]
enum Object {
    ConfigMap(Option<Arc<ConfigMap>>),
    Secret(Option<Arc<Secret>>),
    TrustBundles(Vec<Arc<ClusterTrustBundle>>),
}

type Key = (String, Reference);

struct Followed {
    /// `None` until the first list has come.
    value: watch::Receiver<Option<Object>>,
    users: BTreeSet<String>,
    task: tokio::task::AbortHandle,
}

/// Called with the uids of the pods that refer to the changed object.
pub type OnChange = Arc<dyn Fn(&[String]) + Send + Sync>;

#[derive(Clone)]
pub struct Objects {
    client: Client,
    followed: Arc<Mutex<HashMap<Key, Followed>>>,
    on_change: OnChange,
    shutdown: Shutdown,
}

impl Objects {
    pub fn new(client: Client, on_change: OnChange, shutdown: Shutdown) -> Objects {
        Objects { client, followed: Arc::default(), on_change, shutdown }
    }

    /// Begins to follow what `wanted` names on behalf of the pod, and stops what it no longer needs.
    pub fn follow(&self, pod_uid: &str, namespace: &str, wanted: &BTreeSet<Reference>) {
        let mut followed = self.followed.lock();
        followed.retain(|(ns, reference), f| {
            if !(ns == namespace && wanted.contains(reference)) {
                f.users.remove(pod_uid);
            }
            if f.users.is_empty() {
                f.task.abort();
            }
            !f.users.is_empty()
        });
        for reference in wanted {
            let key = (namespace.to_owned(), reference.clone());
            followed.entry(key.clone()).or_insert_with(|| self.start(key)).users.insert(pod_uid.to_owned());
        }
    }

    pub fn forget(&self, pod_uid: &str) {
        self.follow(pod_uid, "", &BTreeSet::new());
    }

    fn start(&self, key: Key) -> Followed {
        let (tx, value) = watch::channel(None);
        let this = self.clone();
        let (namespace, reference) = key.clone();
        let task = tokio::spawn(self.shutdown.clone().run_until_cancelled_owned(async move {
            match &reference {
                Reference::ConfigMap(name) => {
                    let api = Api::<ConfigMap>::namespaced(this.client.clone(), &namespace);
                    let fields = format!("metadata.name={name}");
                    this.run(api, &fields, &key, |all| Object::ConfigMap(all.values().next().cloned()), tx).await;
                }
                Reference::Secret(name) => {
                    let api = Api::<Secret>::namespaced(this.client.clone(), &namespace);
                    let fields = format!("metadata.name={name}");
                    this.run(api, &fields, &key, |all| Object::Secret(all.values().next().cloned()), tx).await;
                }
                Reference::TrustBundles(of) => {
                    let api = Api::<ClusterTrustBundle>::all(this.client.clone());
                    let fields = match of {
                        BundlesOf::Name(name) => format!("metadata.name={name}"),
                        BundlesOf::Signer(signer) => format!("spec.signerName={signer}"),
                    };
                    this.run(api, &fields, &key, |all| Object::TrustBundles(all.values().cloned().collect()), tx).await;
                }
            }
        }));
        Followed { value, users: BTreeSet::new(), task: task.abort_handle() }
    }

    async fn run<K>(
        &self,
        api: Api<K>,
        fields: &str,
        key: &Key,
        wrap: impl Fn(&BTreeMap<String, Arc<K>>) -> Object,
        tx: watch::Sender<Option<Object>>,
    ) where
        K: kube::Resource<DynamicType = ()> + Clone + serde::de::DeserializeOwned + std::fmt::Debug + Send + 'static,
    {
        let config = watcher::Config::default().fields(fields);
        let mut events = std::pin::pin!(watcher(api, config).default_backoff());
        // By name; all but a trust bundle's signer select one at most.
        let (mut present, mut initial) = (BTreeMap::new(), BTreeMap::new());
        while let Some(event) = events.next().await {
            match event {
                Ok(watcher::Event::Apply(object)) => {
                    present.insert(object.name_any(), Arc::new(object));
                }
                Ok(watcher::Event::Delete(object)) => {
                    present.remove(&object.name_any());
                }
                Ok(watcher::Event::Init) => {
                    initial.clear();
                    continue;
                }
                Ok(watcher::Event::InitApply(object)) => {
                    initial.insert(object.name_any(), Arc::new(object));
                    continue;
                }
                Ok(watcher::Event::InitDone) => present = std::mem::take(&mut initial),
                Err(error) => {
                    tracing::debug!(%error, fields, "watch of a referenced object broke; it resumes");
                    continue;
                }
            }
            tx.send_replace(Some(wrap(&present)));
            let users: Vec<String> =
                self.followed.lock().get(key).map(|f| f.users.iter().cloned().collect()).unwrap_or_default();
            (self.on_change)(&users);
        }
    }

    /// The present values of all that the pod follows. Waits for the first answer of a fresh watch.
    pub async fn snapshot(&self, pod_uid: &str) -> Resolved {
        let receivers: Vec<(Reference, watch::Receiver<Option<Object>>)> = self
            .followed
            .lock()
            .iter()
            .filter(|(_, f)| f.users.contains(pod_uid))
            .map(|((_, r), f)| (r.clone(), f.value.clone()))
            .collect();
        let mut out = Resolved::default();
        for (reference, mut receiver) in receivers {
            let answer = tokio::time::timeout(FIRST_ANSWER, receiver.wait_for(Option::is_some)).await;
            let Ok(Ok(value)) = answer.map(|v| v.map(|v| (*v).clone())) else {
                out.unknown.insert(match reference {
                    Reference::ConfigMap(_) => "configmap",
                    Reference::Secret(_) => "secret",
                    Reference::TrustBundles(_) => "clustertrustbundle",
                });
                continue;
            };
            match (reference, value) {
                (Reference::ConfigMap(name), Some(Object::ConfigMap(Some(object)))) => {
                    out.config_maps.insert(name, object);
                }
                (Reference::Secret(name), Some(Object::Secret(Some(object)))) => {
                    out.secrets.insert(name, object);
                }
                (Reference::TrustBundles(of), Some(Object::TrustBundles(bundles))) => {
                    out.trust_bundles.insert(of, bundles);
                }
                _ => {}
            }
        }
        out
    }
}
