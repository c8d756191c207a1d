//! ResourceQuotas: recounts what a namespace uses and writes it to the quotas' `status`.
//!
//! The admission plugin raises `status.used` before each write; this controller sets it for new quotas, lowers it when
//! objects go, and repairs it after writes that failed half-way. In: quotas, deletions of what they count (a watch per
//! resource that some quota names, custom ones included), and lists of the namespace. Out: `status.hard` and `status.used`.
//! What one object uses is `api::quota`'s to say.

use crate::definition::Definition;
use crate::discovery::{self, Found};
use crate::{Context, ownership, pods};
use api::quota::{self, Amounts};
use client::{Change, Client, Informer, Queue};
use futures::StreamExt;
use k8s_openapi::api::core::v1::{Pod, ResourceQuota};
use k8s_openapi::jiff::{SignedDuration, Timestamp};
use kube::ResourceExt;
use kube::api::{Api, DynamicObject, ListParams, PostParams};
use kube::core::PartialObjectMeta;
use kube::runtime::{WatchStreamExt, watcher};
use meta::quantity::{Format, Quantity};
use serde_json::{Value, json};
use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tokio::sync::RwLock;

const NAME: &str = "resourcequota-controller";
const WORKERS: usize = 5;
/// Upstream: `--resource-quota-sync-period`.
const RESYNC: Duration = Duration::from_secs(300);
/// After something was made: whether it was also charged right is looked at soon, but not for each of a thousand.
const AFTER_CREATION: Duration = Duration::from_secs(2);
/// A charge precedes its object by a moment; usage that seems to have fallen is looked at again after this.
const SETTLE: Duration = Duration::from_millis(50);
const PAGE: u32 = 500;

/// Names in `hard`, by the resource (group, plural) that must be looked at for them.
pub fn by_resource(hard: &Value) -> BTreeMap<(String, String), Vec<String>> {
    let mut out: BTreeMap<(String, String), Vec<String>> = BTreeMap::new();
    for name in hard.as_object().into_iter().flat_map(|h| h.keys()) {
        if let Some(of) = quota::counted_by(name) {
            out.entry(of).or_default().push(name.clone());
        }
    }
    out
}

/// What the objects of one resource use of the names; zero where they use nothing.
pub fn used_by<'a>(
    spec: &Value,
    of: &(String, String),
    names: &[String],
    objects: impl Iterator<Item = &'a Value>,
) -> Amounts {
    let mut total = Amounts::new();
    for object in objects.filter(|o| quota::in_scope(spec, &of.0, &of.1, o)) {
        quota::add(&mut total, &quota::usage_of(&of.0, &of.1, object));
    }
    names.iter().map(|n| (n.clone(), total.get(n).copied().unwrap_or(Quantity::ZERO))).collect()
}

/// A pod that should be gone since as long as it had time to go.
fn is_overdue(pod: &Value, now: Timestamp) -> bool {
    let meta = &pod["metadata"];
    let deleted = meta["deletionTimestamp"].as_str().and_then(|t| t.parse::<Timestamp>().ok());
    let grace = meta["deletionGracePeriodSeconds"].as_i64();
    deleted.zip(grace).is_some_and(|(at, grace)| now.duration_since(at) > SignedDuration::from_secs(grace))
}

/// Names that are used less than the status says.
fn fallen(status: &Value, used: &Amounts) -> bool {
    let before = quota::amounts(&status["used"]);
    used.iter().any(|(k, q)| before.get(k).is_some_and(|b| q < b))
}

/// The status that belongs to the spec and to what was counted, or `None` where it says so already. What couldn't be
/// counted keeps its last number.
pub fn status(quota: &Value, used: &Amounts) -> Option<Value> {
    let (spec, old) = (&quota["spec"], &quota["status"]);
    let hard = spec["hard"].as_object().cloned().unwrap_or_default();
    let before = quota::amounts(&old["used"]);
    let mut all = serde_json::Map::new();
    for name in hard.keys() {
        if let Some(q) = used.get(name).or_else(|| before.get(name)) {
            all.insert(name.clone(), q.to_string().into());
        }
    }
    let same_hard = quota::amounts(&old["hard"]) == quota::amounts(&spec["hard"]);
    let same_used = before == quota::amounts(&Value::Object(all.clone()));
    let told = old["hard"].is_object() && old["used"].is_object() || hard.is_empty();
    (!(same_hard && same_used && told)).then(|| json!({"hard": hard, "used": all}))
}

struct Driver {
    client: Client,
    quotas: Arc<Informer<ResourceQuota>>,
    queue: Queue,
    found: RwLock<Vec<Found>>,
    watched: Mutex<HashSet<(String, String)>>,
    context: Context,
}

pub async fn run(context: Context) {
    let quotas = context.informers.of::<ResourceQuota>();
    let pods = context.informers.of::<Pod>();
    quotas.wait_synced().await;
    let driver = Arc::new(Driver {
        client: context.client(NAME),
        quotas: quotas.clone(),
        queue: Queue::new(),
        found: RwLock::default(),
        watched: Mutex::default(),
        context: context.clone(),
    });
    let q = driver.queue.clone();
    quotas.on_change(move |change| match change {
        Change::Deleted(_) => {}
        // The status is ours and the plugin's.
        Change::Updated { old, new } if old.spec == new.spec && new.status.is_some() => {}
        _ => q.add(client::informer::key_of(&**change.object())),
    });
    // Pods give back when they finish, too.
    let d = Arc::downgrade(&driver);
    pods.on_change(move |change| {
        let Some(d) = d.upgrade() else { return };
        let namespace = change.object().namespace().unwrap_or_default();
        match change {
            Change::Deleted(_) => d.recount(&namespace, Duration::ZERO),
            Change::Updated { old, new } if !pods::is_finished(old) && pods::is_finished(new) => {
                d.recount(&namespace, Duration::ZERO);
            }
            Change::Added(_) => d.recount(&namespace, AFTER_CREATION),
            Change::Updated { .. } => {}
        }
    });
    // A new kind may be one that a quota has been waiting for.
    let d = Arc::downgrade(&driver);
    context.informers.of::<Definition>().on_change(move |_| {
        let Some(d) = d.upgrade() else { return };
        for quota in d.quotas.list() {
            d.queue.add_after(client::informer::key_of(&*quota), AFTER_CREATION);
        }
    });
    let queue = driver.queue.clone();
    queue
        .run(NAME, WORKERS, context.shutdown.clone(), move |key| {
            let driver = driver.clone();
            async move { driver.sync(&key).await }
        })
        .await;
}

impl Driver {
    fn recount(&self, namespace: &str, delay: Duration) {
        for quota in self.quotas.in_namespace(namespace) {
            self.queue.add_after(client::informer::key_of(&*quota), delay);
        }
    }

    async fn sync(self: &Arc<Self>, key: &str) -> Result<Option<Duration>, kube::Error> {
        let (namespace, name) = client::informer::split_key(key);
        let api: Api<ResourceQuota> = Api::namespaced(self.client.clone(), namespace);
        let Some(quota) = self.read(&api, namespace, name).await? else { return Ok(None) };
        let mut used = self.count(namespace, &quota).await?;
        if fallen(&quota["status"], &used) {
            tokio::time::sleep(SETTLE).await;
            for (k, again) in self.count(namespace, &quota).await? {
                let higher = used.get(&k).copied().unwrap_or(Quantity::ZERO).max(again);
                used.insert(k, higher);
            }
        }
        let Some(status) = status(&quota, &used) else { return Ok(Some(RESYNC)) };
        let mut new = quota;
        new["status"] = status;
        let Ok(new) = serde_json::from_value::<ResourceQuota>(new) else { return Ok(None) };
        match api.replace_status(name, &PostParams::default(), &new).await {
            Ok(_) => Ok(Some(RESYNC)),
            Err(e) if ownership::gone(&e) => Ok(None),
            // Charged in between: count again.
            Err(e) => Err(e),
        }
    }

    /// As the server has it now: a write over an older one would lose charges.
    async fn read(&self, api: &Api<ResourceQuota>, namespace: &str, name: &str) -> Result<Option<Value>, kube::Error> {
        if self.quotas.get(&format!("{namespace}/{name}")).is_none() {
            return Ok(None);
        }
        // The controller's role may list and not get.
        let list = api.list(&ListParams::default().fields(&format!("metadata.name={name}"))).await?;
        Ok(list.items.into_iter().next().and_then(|q| serde_json::to_value(q).ok()))
    }

    async fn count(self: &Arc<Self>, namespace: &str, quota: &Value) -> Result<Amounts, kube::Error> {
        let spec = &quota["spec"];
        let unscoped = spec["scopes"].as_array().is_none_or(Vec::is_empty)
            && spec["scopeSelector"]["matchExpressions"].as_array().is_none_or(Vec::is_empty);
        let mut used = Amounts::new();
        for (of, names) in by_resource(&spec["hard"]) {
            let Some(found) = self.resource(&of).await else { continue };
            self.ensure_watched(&of, &found);
            let api: Api<DynamicObject> = Api::namespaced_with(self.client.clone(), namespace, &found.resource);
            if unscoped && names.iter().all(|n| quota::counts_only(n)) {
                let n = count_objects(&api).await?;
                used.extend(names.into_iter().map(|name| (name, Quantity::new(n, Format::DecimalSi))));
                continue;
            }
            let mut objects = list_objects(&api).await?;
            if of == (String::new(), "pods".to_string()) {
                // They take no more than finished ones, whatever became of their node.
                let now = Timestamp::now();
                objects.iter_mut().filter(|p| is_overdue(p, now)).for_each(|p| p["status"]["phase"] = "Failed".into());
            }
            used.extend(used_by(spec, &of, &names, objects.iter()));
        }
        Ok(used)
    }

    async fn resource(&self, of: &(String, String)) -> Option<Found> {
        let find = |all: &[Found]| {
            let is = |f: &&Found| f.resource.group == of.0 && f.resource.plural == of.1;
            all.iter().find(is).filter(|f| f.namespaced && f.can("list")).cloned()
        };
        if let Some(found) = find(&self.found.read().await) {
            return Some(found);
        }
        let (all, _) = discovery::resources(&self.client).await;
        let found = find(&all);
        *self.found.write().await = all;
        found
    }

    /// Deletions of a resource are watched from the first quota on that names it. Pods are watched anyway.
    fn ensure_watched(self: &Arc<Self>, of: &(String, String), found: &Found) {
        if *of == (String::new(), "pods".to_string()) || !found.can("watch") {
            return;
        }
        let new = self.watched.lock().unwrap_or_else(PoisonError::into_inner).insert(of.clone());
        if !new {
            return;
        }
        let api: Api<PartialObjectMeta<DynamicObject>> = Api::all_with(self.client.clone(), &found.resource);
        let (driver, shutdown) = (Arc::downgrade(self), self.context.shutdown.clone());
        tokio::spawn(async move {
            let events = watcher(api, watcher::Config::default()).default_backoff();
            let mut events = std::pin::pin!(events);
            // Namespaces seen in a list: one that was there before and isn't now may have lost objects.
            let mut again = BTreeSet::new();
            loop {
                let event = tokio::select! {
                    _ = shutdown.cancelled() => return,
                    e = events.next() => e,
                };
                let Some(d) = driver.upgrade() else { return };
                match event {
                    Some(Ok(watcher::Event::Apply(o))) => {
                        d.recount(&o.namespace().unwrap_or_default(), AFTER_CREATION);
                    }
                    Some(Ok(watcher::Event::Delete(o))) => {
                        d.recount(&o.namespace().unwrap_or_default(), Duration::ZERO);
                    }
                    Some(Ok(watcher::Event::InitApply(o))) => {
                        again.insert(o.namespace().unwrap_or_default());
                    }
                    Some(Ok(watcher::Event::InitDone)) => {
                        for quota in d.quotas.list() {
                            again.insert(quota.namespace().unwrap_or_default());
                        }
                        for namespace in std::mem::take(&mut again) {
                            d.recount(&namespace, AFTER_CREATION);
                        }
                    }
                    Some(Ok(watcher::Event::Init)) => {}
                    Some(Err(e)) => tracing::debug!(error = %e, "a quota's watch broke; it will be started again"),
                    None => return,
                }
            }
        });
    }
}

/// How many there are, without reading them where the server tells.
async fn count_objects(api: &Api<DynamicObject>) -> Result<i64, kube::Error> {
    let first = api.list_metadata(&ListParams::default().limit(1)).await?;
    let here = i64::try_from(first.items.len()).unwrap_or(i64::MAX);
    match (first.metadata.remaining_item_count, first.metadata.continue_.as_deref().unwrap_or_default()) {
        (Some(rest), _) => Ok(here + rest),
        (None, "") => Ok(here),
        (None, _) => Ok(i64::try_from(list_objects(api).await?.len()).unwrap_or(i64::MAX)),
    }
}

async fn list_objects(api: &Api<DynamicObject>) -> Result<Vec<Value>, kube::Error> {
    let mut out = Vec::new();
    let mut params = ListParams::default().limit(PAGE);
    loop {
        let page = api.list(&params).await?;
        out.extend(page.items.into_iter().filter_map(|o| serde_json::to_value(o).ok()));
        match page.metadata.continue_ {
            Some(token) if !token.is_empty() => params = params.continue_token(&token),
            _ => return Ok(out),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn quota(hard: Value, status: Value) -> Value {
        json!({"metadata": {"name": "q"}, "spec": {"hard": hard}, "status": status})
    }

    #[test]
    fn names_lead_to_resources() {
        let hard = json!({"pods": "1", "requests.cpu": "1", "count/widgets.example.com": "1", "bananas": "1"});
        let got = by_resource(&hard);
        let key = |g: &str, p: &str| (g.to_string(), p.to_string());
        assert_eq!(got.len(), 2);
        assert_eq!(got[&key("", "pods")], ["pods", "requests.cpu"]);
        assert_eq!(got[&key("example.com", "widgets")], ["count/widgets.example.com"]);
    }

    #[test]
    fn pods_that_should_be_gone_are_no_longer_counted() {
        let pod = |deleted: Value, grace: Value| json!({"metadata": {"deletionTimestamp": deleted, "deletionGracePeriodSeconds": grace}});
        let at = json!("2026-01-01T00:01:00Z");
        for (pod, second, expected) in [
            (pod(Value::Null, Value::Null), 59, false),
            (pod(at.clone(), json!(30)), 30, false),
            (pod(at.clone(), json!(30)), 31, true),
            (pod(at, Value::Null), 59, false),
        ] {
            let now = format!("2026-01-01T00:01:{second}Z").parse().unwrap();
            assert_eq!(is_overdue(&pod, now), expected, "{pod} {now}");
        }
    }

    #[test]
    fn usage_is_summed_and_zero_is_told() {
        let pods = [
            json!({"spec": {"containers": [{"resources": {"requests": {"cpu": "500m"}}}]}}),
            json!({"spec": {"containers": [{"resources": {"requests": {"cpu": "1"}}}]}}),
            json!({"spec": {"containers": []}, "status": {"phase": "Succeeded"}}),
        ];
        let names: Vec<String> = ["pods", "requests.cpu", "limits.cpu"].map(String::from).to_vec();
        let of = (String::new(), "pods".to_string());
        let got = used_by(&json!({}), &of, &names, pods.iter());
        let shown: Vec<String> = got.iter().map(|(k, q)| format!("{k}={q}")).collect();
        assert_eq!(shown, ["limits.cpu=0", "pods=2", "requests.cpu=1500m"]);
        let got = used_by(&json!({"scopes": ["BestEffort"]}), &of, &names, pods.iter());
        assert_eq!(got["pods"].to_string(), "0");
    }

    #[test]
    fn the_status_follows_spec_and_count() {
        let used = Amounts::from([("pods".to_string(), Quantity::new(1, Format::DecimalSi))]);
        let fresh = quota(json!({"pods": "3"}), Value::Null);
        let told = json!({"hard": {"pods": "3"}, "used": {"pods": "1"}});
        assert_eq!(status(&fresh, &used), Some(told.clone()));
        assert_eq!(status(&quota(json!({"pods": "3"}), told.clone()), &used), None);
        // Hard that was raised shows; a name that is no longer limited goes; what can't be counted keeps its number.
        let grown =
            quota(json!({"pods": "5", "count/x.y": "1"}), json!({"hard": {}, "used": {"count/x.y": "1", "z": "9"}}));
        let want = json!({"hard": {"pods": "5", "count/x.y": "1"}, "used": {"pods": "1", "count/x.y": "1"}});
        assert_eq!(status(&grown, &used), Some(want));
        assert!(fallen(&json!({"used": {"pods": "2"}}), &used));
        assert!(!fallen(&told, &used));
    }
}
