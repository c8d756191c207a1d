//! PodDisruptionBudgets: how many of a budget's pods may be evicted now.
//!
//! In: budgets, pods, and the sizes of the sets that own them. Out: the budget's status, which the eviction subresource
//! spends from. Upstream: `disruption.go`.

use crate::discovery::{self, Found};
use crate::{Context, ownership, pods};
use client::{Change, Client, Informer, Queue, Recorder};
use k8s_openapi::api::apps::v1::{Deployment, ReplicaSet, StatefulSet};
use k8s_openapi::api::core::v1::{Pod, ReplicationController};
use k8s_openapi::api::policy::v1::{PodDisruptionBudget, PodDisruptionBudgetStatus};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, OwnerReference, Time};
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;
use k8s_openapi::jiff::{SignedDuration, Timestamp};
use kube::ResourceExt;
use kube::api::{Api, DynamicObject, PostParams};
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::RwLock;

const NAME: &str = "disruption-controller";
const WORKERS: usize = 4;
/// So long an evicted pod may take to show its deletion; then the eviction is taken as lost.
const DELETION_TIMEOUT_SECONDS: i64 = 120;

/// A number, or a share of `total` rounded up.
pub fn scaled(v: &IntOrString, total: i32) -> Result<i32, String> {
    match v {
        IntOrString::Int(n) => Ok(*n),
        IntOrString::String(s) => {
            let percent: i64 = s.strip_suffix('%').and_then(|p| p.parse().ok()).ok_or_else(|| {
                format!("invalid value for IntOrString: invalid type: string is not a percentage: {s:?}")
            })?;
            let n = (percent.saturating_mul(total.into()).saturating_add(99)).div_euclid(100);
            Ok(i32::try_from(n).unwrap_or(i32::MAX))
        }
    }
}

/// Whether the size of the owning sets matters, rather than the number of pods.
pub fn needs_scale(budget: &PodDisruptionBudget) -> bool {
    let spec = budget.spec.as_ref();
    spec.is_some_and(|s| s.max_unavailable.is_some() || matches!(s.min_available, Some(IntOrString::String(_))))
}

/// `(expected, desired healthy)`; `scale` is the size of the owning sets together.
pub fn expected(budget: &PodDisruptionBudget, pods: usize, scale: i32) -> Result<(i32, i32), String> {
    let Some(spec) = &budget.spec else { return Ok((0, 0)) };
    match (&spec.max_unavailable, &spec.min_available) {
        (Some(max), _) => Ok((scale, (scale - scaled(max, scale)?).max(0))),
        (None, Some(IntOrString::Int(n))) => Ok((i32::try_from(pods).unwrap_or(i32::MAX), *n)),
        (None, Some(share)) => Ok((scale, scaled(share, scale)?)),
        (None, None) => Ok((0, 0)),
    }
}

/// Pods that were evicted by the API and haven't shown it yet; and when to look again. Third: pods whose eviction got lost.
pub fn disrupted(
    now: Timestamp,
    budget: &PodDisruptionBudget,
    mine: &[Arc<Pod>],
) -> (BTreeMap<String, Time>, Option<Duration>, Vec<String>) {
    let noted = budget.status.as_ref().and_then(|s| s.disrupted_pods.as_ref());
    let (mut keep, mut again, mut lost) = (BTreeMap::new(), None::<Duration>, Vec::new());
    for pod in mine.iter().filter(|p| !pods::is_terminating(p)) {
        let Some(at) = noted.and_then(|n| n.get(&pod.name_any())) else { continue };
        let until = at.0.saturating_add(SignedDuration::from_secs(DELETION_TIMEOUT_SECONDS)).unwrap_or(at.0);
        if until < now {
            lost.push(pod.name_any());
            continue;
        }
        let left =
            Duration::from_secs_f64(until.duration_since(now).as_secs_f64().max(0.0)) + Duration::from_millis(10);
        again = Some(again.map_or(left, |a| a.min(left)));
        keep.insert(pod.name_any(), at.clone());
    }
    (keep, again, lost)
}

/// The status; `counted` is what [`expected`] said.
pub fn status(
    now: Timestamp,
    budget: &PodDisruptionBudget,
    mine: &[Arc<Pod>],
    disrupted: BTreeMap<String, Time>,
    counted: Result<(i32, i32), String>,
) -> PodDisruptionBudgetStatus {
    let old = budget.status.clone().unwrap_or_default();
    let (mut new, state) = match counted {
        Ok((expected, desired)) => {
            let healthy = mine
                .iter()
                .filter(|p| !pods::is_terminating(p) && pods::is_ready(p) && !disrupted.contains_key(&p.name_any()))
                .count();
            let healthy = i32::try_from(healthy).unwrap_or(i32::MAX);
            // A budget that matches nothing yet must not let its first pods be evicted.
            let allowed = if expected <= 0 { 0 } else { (healthy - desired).max(0) };
            let state = if allowed > 0 {
                ("True", "SufficientPods", String::new())
            } else {
                ("False", "InsufficientPods", String::new())
            };
            let new = PodDisruptionBudgetStatus {
                current_healthy: Some(healthy),
                desired_healthy: Some(desired),
                expected_pods: Some(expected),
                disruptions_allowed: Some(allowed),
                disrupted_pods: (!disrupted.is_empty()).then_some(disrupted),
                ..old.clone()
            };
            (new, state)
        }
        // When in doubt nothing may go.
        Err(e) => {
            let zero = |n: Option<i32>| Some(n.unwrap_or(0));
            let new = PodDisruptionBudgetStatus {
                disruptions_allowed: Some(0),
                current_healthy: zero(old.current_healthy),
                desired_healthy: zero(old.desired_healthy),
                expected_pods: zero(old.expected_pods),
                ..old.clone()
            };
            (new, ("False", "SyncFailed", e))
        }
    };
    new.observed_generation = budget.metadata.generation;
    let mut conditions = old.conditions.unwrap_or_default();
    let (status, reason, message) = state;
    let before = conditions.iter().find(|c| c.type_ == "DisruptionAllowed").cloned();
    conditions.retain(|c| c.type_ != "DisruptionAllowed");
    let since = before.filter(|c| c.status == status).map_or(Time(now), |c| c.last_transition_time);
    conditions.push(Condition {
        type_: "DisruptionAllowed".into(),
        status: status.into(),
        reason: reason.into(),
        message,
        observed_generation: budget.metadata.generation,
        last_transition_time: since,
    });
    new.conditions = Some(conditions);
    new
}

struct Driver {
    client: Client,
    recorder: Recorder,
    budgets: Arc<Informer<PodDisruptionBudget>>,
    pods: Arc<Informer<Pod>>,
    deployments: Arc<Informer<Deployment>>,
    replica_sets: Arc<Informer<ReplicaSet>>,
    stateful_sets: Arc<Informer<StatefulSet>>,
    controllers: Arc<Informer<ReplicationController>>,
    found: RwLock<Vec<Found>>,
}

pub async fn run(context: Context) {
    let i = &context.informers;
    let driver = Arc::new(Driver {
        client: context.client(NAME),
        recorder: context.recorder("controllermanager"),
        budgets: i.of(),
        pods: i.of(),
        deployments: i.of(),
        replica_sets: i.of(),
        stateful_sets: i.of(),
        controllers: i.of(),
        found: RwLock::default(),
    });
    driver.budgets.wait_synced().await;
    driver.pods.wait_synced().await;
    driver.deployments.wait_synced().await;
    driver.replica_sets.wait_synced().await;
    driver.stateful_sets.wait_synced().await;
    driver.controllers.wait_synced().await;
    let queue = Queue::new();
    let q = queue.clone();
    driver.budgets.on_change(move |c| {
        if !matches!(c, Change::Deleted(_)) {
            q.add(client::informer::key_of(&**c.object()));
        }
    });
    let (q, budgets) = (queue.clone(), driver.budgets.clone());
    driver.pods.on_change(move |c| {
        for pod in [Some(c.object()), c.old()].into_iter().flatten() {
            for budget in budgets.in_namespace(&pod.namespace().unwrap_or_default()) {
                if selects(&budget, pod) {
                    q.add(client::informer::key_of(&*budget));
                }
            }
        }
    });
    // A set's size counts for budgets that speak of shares.
    macro_rules! resized {
        ($informer:expr) => {
            let (q, budgets) = (queue.clone(), driver.budgets.clone());
            $informer.on_change(move |c| {
                let replicas = |o: &_| serde_json::to_value(o).ok().map(|v| v["spec"]["replicas"].clone());
                if c.old().is_some_and(|old| replicas(&**old) != replicas(&**c.object())) {
                    for budget in budgets.in_namespace(&c.object().namespace().unwrap_or_default()) {
                        q.add(client::informer::key_of(&*budget));
                    }
                }
            });
        };
    }
    resized!(driver.deployments);
    resized!(driver.replica_sets);
    resized!(driver.stateful_sets);
    resized!(driver.controllers);
    queue
        .run(NAME, WORKERS, context.shutdown.clone(), move |key| {
            let driver = driver.clone();
            async move { driver.sync(&key).await }
        })
        .await;
}

/// No selector selects nothing, an empty one everything.
fn selects(budget: &PodDisruptionBudget, pod: &Pod) -> bool {
    let selector = ownership::selector(budget.spec.as_ref().and_then(|s| s.selector.as_ref()));
    selector.is_some_and(|s| ownership::selects(&s, pod.metadata.labels.as_ref()))
}

impl Driver {
    async fn sync(&self, key: &str) -> Result<Option<Duration>, kube::Error> {
        let Some(budget) = self.budgets.get(key) else { return Ok(None) };
        let (namespace, name) = client::informer::split_key(key);
        let mine: Vec<Arc<Pod>> =
            self.pods.in_namespace(namespace).into_iter().filter(|p| selects(&budget, p)).collect();
        let about = client::events::reference(&*budget);
        if mine.is_empty() {
            self.recorder.normal(&about, "NoPods", "No matching pods found");
        }
        let scale = if needs_scale(&budget) { self.scale(&budget, namespace, &mine).await } else { Ok(0) };
        let counted = scale.and_then(|scale| expected(&budget, mine.len(), scale));
        if let Err(e) = &counted {
            let text = format!("Failed to calculate the number of expected pods: {e}");
            self.recorder.warning(&about, "CalculateExpectedPodCountFailed", text);
        }
        let now = Timestamp::now();
        let (disrupted, again, lost) = disrupted(now, &budget, &mine);
        for pod in lost {
            let text = format!("Pod was expected by PDB {namespace}/{name} to be deleted but it wasn't: {pod}");
            self.recorder.warning(&about, "NotDeleted", text);
        }
        let status = status(now, &budget, &mine, disrupted, counted);
        if budget.status.as_ref() == Some(&status) {
            return Ok(again);
        }
        let mut new = (*budget).clone();
        new.status = Some(status);
        let api: Api<PodDisruptionBudget> = Api::namespaced(self.client.clone(), namespace);
        match api.replace_status(name, &PostParams::default(), &new).await {
            Ok(written) => self.budgets.remember(written),
            Err(e) if ownership::gone(&e) => return Ok(None),
            Err(e) => return Err(e),
        }
        Ok(again)
    }

    /// The sizes of the sets that own the pods, each set once.
    async fn scale(&self, budget: &PodDisruptionBudget, namespace: &str, mine: &[Arc<Pod>]) -> Result<i32, String> {
        let mut sizes: BTreeMap<String, i32> = BTreeMap::new();
        let mut unmanaged = Vec::new();
        for pod in mine {
            let Some(owner) = ownership::controller_of(&pod.metadata) else {
                unmanaged.push(pod.name_any());
                continue;
            };
            if sizes.contains_key(&owner.uid) {
                continue;
            }
            match self.size_of(namespace, owner).await? {
                Some((uid, n)) => {
                    sizes.insert(owner.uid.clone(), 0);
                    sizes.insert(uid, n);
                }
                None => {
                    return Err(format!(
                        "found no controllers for pod {:?}",
                        format!("{namespace}/{}", pod.name_any())
                    ));
                }
            }
        }
        if !unmanaged.is_empty() {
            let text = format!(
                "Pods selected by this PodDisruptionBudget (selector: {:?}) were found to be unmanaged. As a result, the \
                 status of the PDB cannot be calculated correctly, which may result in undefined behavior. To account for \
                 these pods please set \".spec.minAvailable\" field of the PDB to an integer value.",
                budget.spec.as_ref().and_then(|s| s.selector.as_ref()).and_then(|s| s.match_labels.clone())
            );
            self.recorder.warning(&client::events::reference(budget), "UnmanagedPods", text);
        }
        Ok(sizes.values().fold(0i32, |a, b| a.saturating_add(*b)))
    }

    /// The set's uid and size; of a Deployment's ReplicaSet, the Deployment's.
    async fn size_of(&self, namespace: &str, owner: &OwnerReference) -> Result<Option<(String, i32)>, String> {
        let key = format!("{namespace}/{}", owner.name);
        let group = owner.api_version.split_once('/').map_or("", |(g, _)| g);
        let own = |uid: Option<String>, replicas: Option<i32>| {
            uid.filter(|u| *u == owner.uid).map(|u| (u, replicas.unwrap_or(1)))
        };
        match (group, owner.kind.as_str()) {
            ("", "ReplicationController") => {
                let set = self.controllers.get(&key);
                Ok(set.and_then(|s| own(s.uid(), s.spec.as_ref().and_then(|s| s.replicas))))
            }
            ("apps", "StatefulSet") => {
                let set = self.stateful_sets.get(&key);
                Ok(set.and_then(|s| own(s.uid(), s.spec.as_ref().and_then(|s| s.replicas))))
            }
            ("apps", "ReplicaSet") => {
                let Some(set) = self.replica_sets.get(&key).filter(|s| s.uid().as_ref() == Some(&owner.uid)) else {
                    return Ok(None);
                };
                let above = ownership::controller_of(&set.metadata).filter(|o| o.kind == "Deployment");
                let deployment = above.and_then(|o| self.deployments.get(&format!("{namespace}/{}", o.name)));
                match deployment {
                    Some(d) => Ok(d.uid().map(|u| (u, d.spec.as_ref().and_then(|s| s.replicas).unwrap_or(1)))),
                    None => Ok(own(set.uid(), set.spec.as_ref().and_then(|s| s.replicas))),
                }
            }
            _ => self.scale_subresource(namespace, owner, group).await,
        }
    }

    /// Any other kind says its size by its `scale` subresource.
    async fn scale_subresource(
        &self,
        namespace: &str,
        owner: &OwnerReference,
        group: &str,
    ) -> Result<Option<(String, i32)>, String> {
        let find = |all: &[Found]| {
            all.iter().find(|f| f.resource.group == group && f.resource.kind == owner.kind && f.namespaced).cloned()
        };
        let mut found = find(&self.found.read().await);
        if found.is_none() {
            let (all, _) = discovery::resources(&self.client).await;
            found = find(&all);
            *self.found.write().await = all;
        }
        let Some(found) = found else { return Ok(None) };
        let api: Api<DynamicObject> = Api::namespaced_with(self.client.clone(), namespace, &found.resource);
        match api.get_scale(&owner.name).await {
            Ok(scale) => {
                let n = scale.spec.and_then(|s| s.replicas).unwrap_or(0);
                Ok(Some((owner.uid.clone(), n)))
            }
            Err(e) if ownership::gone(&e) => Err(format!(
                "{}.{} does not implement the scale subresource",
                found.resource.plural, found.resource.group
            )),
            Err(e) => Err(ownership::message(&e)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    fn budget(spec: Value, status: Value) -> PodDisruptionBudget {
        serde_json::from_value(json!({"metadata": {"name": "b", "generation": 2}, "spec": spec, "status": status}))
            .unwrap()
    }

    fn pod(name: &str, ready: bool) -> Arc<Pod> {
        let status = if ready { "True" } else { "False" };
        Arc::new(
            serde_json::from_value(json!({"metadata": {"name": name},
                "status": {"phase": "Running", "conditions": [{"type": "Ready", "status": status}]}}))
            .unwrap(),
        )
    }

    fn now() -> Timestamp {
        "2026-01-01T01:00:00Z".parse().unwrap()
    }

    #[test]
    fn how_many_may_go() {
        let pods = [pod("a", true), pod("b", true), pod("c", false)];
        for (what, spec, scale, want) in [
            ("at least one", json!({"minAvailable": 1}), 0, (3, 1, 1)),
            ("at least three", json!({"minAvailable": 3}), 0, (3, 3, 0)),
            ("half, rounded up", json!({"minAvailable": "50%"}), 3, (3, 2, 0)),
            ("one at most", json!({"maxUnavailable": 1}), 3, (3, 2, 0)),
            ("two at most", json!({"maxUnavailable": 2}), 3, (3, 1, 1)),
            ("a third, rounded up", json!({"maxUnavailable": "34%"}), 3, (3, 1, 1)),
            ("nothing said", json!({}), 3, (0, 0, 0)),
        ] {
            let b = budget(spec, json!({}));
            let counted = expected(&b, pods.len(), scale);
            let s = status(now(), &b, &pods, BTreeMap::new(), counted);
            let got = (s.expected_pods.unwrap(), s.desired_healthy.unwrap(), s.disruptions_allowed.unwrap());
            assert_eq!(got, want, "{what}");
            assert_eq!((s.current_healthy, s.observed_generation), (Some(2), Some(2)));
            let condition = &s.conditions.unwrap()[0];
            let reason = if want.2 > 0 { "SufficientPods" } else { "InsufficientPods" };
            assert_eq!(condition.reason, reason, "{what}");
        }
    }

    #[test]
    fn an_evicted_pod_counts_as_gone_until_it_is_late() {
        let b = budget(
            json!({"minAvailable": 1}),
            json!({"disruptedPods": {"a": "2026-01-01T00:59:00Z", "b": "2026-01-01T00:00:00Z", "gone": "2026-01-01T00:59:59Z"}}),
        );
        let pods = [pod("a", true), pod("b", true)];
        let (kept, again, lost) = disrupted(now(), &b, &pods);
        assert_eq!((kept.keys().cloned().collect::<Vec<_>>(), lost), (vec!["a".to_string()], vec!["b".to_string()]));
        assert!(again.unwrap() > Duration::from_secs(59) && again.unwrap() < Duration::from_secs(61));
        let counted = expected(&b, 2, 0);
        assert_eq!(status(now(), &b, &pods, kept, counted).disruptions_allowed, Some(0));
    }

    #[test]
    fn what_cannot_be_counted_allows_nothing() {
        let b = budget(json!({"maxUnavailable": "x%"}), json!({"disruptionsAllowed": 4, "currentHealthy": 5}));
        let counted = expected(&b, 2, 2);
        assert!(counted.is_err());
        let s = status(now(), &b, &[], BTreeMap::new(), counted);
        assert_eq!((s.disruptions_allowed, s.current_healthy), (Some(0), Some(5)));
        assert_eq!(s.conditions.unwrap()[0].reason, "SyncFailed");
    }
}
