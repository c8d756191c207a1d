//! API priority and fairness: every request has a FlowSchema, the schema a priority level, the level seats and queues.
//!
//! In: requests, and the configuration as [`super::keeper`] reads it. Out: a [`Seat`], after a wait perhaps, or a refusal.
//! What decides is pure and elsewhere: [`super::config`] whose request it is, [`super::estimate`] what it costs,
//! [`super::queue_set`] whose turn it is, [`super::borrowing`] how many seats there are.

use super::borrowing::{self, Limits};
use super::config::{Config, Distinguisher, LevelConfig, Schema};
use super::estimate::{self, Watches};
use super::level::{Details, Level, Seat, Try};
use super::metrics::SchemaStats;
use super::queue_set::{Reason, Work};
use super::{Uids, sharding};
use crate::authn::User;
use crate::request_info::RequestInfo;
use arc_swap::ArcSwap;
use parking_lot::Mutex;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};
use store::Store;

/// Seats are dealt out anew this often while there is traffic, and at once (but not more often than
/// [`NEED_INTERVAL`]) when a request finds none.
///
/// Differs from upstream, which deals only every ten seconds: a burst needn't wait for seats that lie idle.
const PERIOD: Duration = Duration::from_secs(borrowing::PERIOD_SECONDS as u64);
const NEED_INTERVAL: Duration = Duration::from_millis(100);

type StatsKey = (String, String);

pub struct Fairness {
    /// Seats of the whole server.
    total: u32,
    /// How long a request waits at most.
    patience: Duration,
    store: Arc<dyn Store>,
    watches: Watches,
    epoch: Instant,
    current: ArcSwap<Current>,
    /// By level and schema; outlives both, as counters do.
    stats: Mutex<BTreeMap<StatsKey, Arc<SchemaStats>>>,
    /// When seats were last dealt out, nanoseconds since `epoch`; the lock keeps two from dealing at once.
    dealt: AtomicU64,
    dealing: Mutex<f64>,
}

#[derive(Default)]
struct Current {
    /// By precedence.
    schemas: Vec<Served>,
    /// By name.
    levels: BTreeMap<String, Arc<Level>>,
}

struct Served {
    schema: Schema,
    level: Arc<Level>,
    exempt: bool,
    nominal: u32,
    uids: Uids,
    stats: Arc<SchemaStats>,
}

impl Fairness {
    pub fn new(total: u32, patience: Duration, store: Arc<dyn Store>) -> Fairness {
        let fairness = Fairness {
            total,
            patience,
            store,
            watches: Watches::default(),
            epoch: Instant::now(),
            current: ArcSwap::from_pointee(Current::default()),
            stats: Mutex::default(),
            dealt: AtomicU64::new(0),
            dealing: Mutex::new(0.0),
        };
        fairness.configure(Config::new(&crate::bootstrap::flow_control::objects()));
        fairness
    }

    pub fn watches(&self) -> &Watches {
        &self.watches
    }

    /// Takes over a configuration. Requests that are in or wait keep their places.
    pub fn configure(&self, config: Config) {
        let _one = self.dealing.lock();
        let before = self.current.load();
        let sum: u64 = config.levels.iter().map(|l| u64::from(l.shares)).sum();
        let limits = |l: &LevelConfig| -> Limits {
            borrowing::limits(self.total, l.shares, sum, l.lendable_percent, l.borrowing_limit_percent, l.exempt)
        };
        let mut levels: BTreeMap<String, Arc<Level>> = BTreeMap::new();
        let mut known: BTreeMap<String, (LevelConfig, Limits)> = BTreeMap::new();
        for l in config.levels {
            let due = limits(&l);
            known.insert(l.name.clone(), (l.clone(), due));
            let level = match before.levels.get(&l.name) {
                Some(level) => {
                    level.configure(l.clone(), due);
                    level.clone()
                }
                None => Level::new(l.clone(), due, self.epoch),
            };
            levels.insert(l.name, level);
        }
        for (name, level) in &before.levels {
            let busy = || {
                let state = level.state.lock();
                state.queues.executing() > 0 || state.queues.waiting() > 0
            };
            if !levels.contains_key(name) && busy() {
                level.retire();
                levels.insert(name.clone(), level.clone());
            }
        }
        let mut stats = self.stats.lock();
        let schemas = config
            .schemas
            .into_iter()
            .filter_map(|schema| {
                let (level, (config, limits)) = (levels.get(&schema.level)?.clone(), known.get(&schema.level)?);
                let stats = stats.entry((schema.level.clone(), schema.name.clone())).or_default().clone();
                let uids = Uids { schema: schema.uid.clone(), level: config.uid.clone() };
                Some(Served { level, exempt: config.exempt, nominal: limits.nominal, uids, stats, schema })
            })
            .collect();
        drop(stats);
        self.current.store(Arc::new(Current { schemas, levels }));
    }

    /// Waits for the request's turn. The ids are of the schema and level that decided.
    pub async fn enter(&self, info: &RequestInfo, query: &str, user: &User) -> (Uids, Result<Seat, Reason>) {
        let current = self.current.load();
        let Some(served) = current.schemas.iter().find(|s| s.schema.matches(user, info)).or(current.schemas.last())
        else {
            // Can't be: `catch-all` is always there.
            return (Uids::default(), Err(Reason::ConcurrencyLimit));
        };
        let uids = served.uids.clone();
        if served.exempt {
            served.stats.started(1, Duration::ZERO);
            let seat = Seat { held: None, stats: served.stats.clone(), seats: 1, began: Instant::now() };
            return (uids, Ok(seat));
        }
        let work = estimate::work(info, query, served.nominal, self.store.as_ref(), &self.watches);
        let distinguisher = served.schema.distinguish(user, info);
        let flow = match served.schema.distinguisher {
            Distinguisher::None => sharding::flow_hash(&served.schema.name, ""),
            _ => sharding::flow_hash(&served.schema.name, distinguisher),
        };
        self.deal_if_due(PERIOD);
        let (stats, level) = (served.stats.clone(), served.level.clone());
        let details = || details(&served.schema, distinguisher, user, info);
        let mut attempt = level.arrive(flow, work, details);
        if !matches!(attempt, Try::Seat(_)) && self.deal_if_due(NEED_INTERVAL) && matches!(attempt, Try::Refused(_)) {
            attempt = level.arrive(flow, work, details);
        }
        drop(current);
        (uids, self.await_turn(attempt, work, stats).await)
    }

    async fn await_turn(&self, attempt: Try, work: Work, stats: Arc<SchemaStats>) -> Result<Seat, Reason> {
        let seats = work.seats_max();
        let (held, waited) = match attempt {
            Try::Seat(held) => (held, Duration::ZERO),
            Try::Refused(reason) => {
                stats.refused(reason, Duration::ZERO);
                return Err(reason);
            }
            Try::Wait(waiting) => {
                let mut counted = Counted { stats: stats.clone(), since: Instant::now(), outcome: Reason::Cancelled };
                let turn = waiting.turn(self.patience);
                tokio::pin!(turn);
                let held = loop {
                    tokio::select! {
                        held = &mut turn => break held,
                        // Others may have become idle without anybody arriving who would notice.
                        () = tokio::time::sleep(PERIOD) => { self.deal_if_due(PERIOD); }
                    }
                };
                let waited = counted.since.elapsed();
                let Some(held) = held else {
                    counted.outcome = Reason::TimeOut;
                    return Err(Reason::TimeOut);
                };
                counted.served();
                (held, waited)
            }
        };
        stats.started(seats, waited);
        let began = held.began();
        Ok(Seat { held: Some(held), stats, seats, began })
    }

    /// Deals out seats when that is longer ago than `interval`. True: it was done.
    fn deal_if_due(&self, interval: Duration) -> bool {
        let now = self.epoch.elapsed().as_nanos() as u64;
        let ago = Duration::from_nanos(now.saturating_sub(self.dealt.load(Ordering::Relaxed)));
        if ago < interval {
            return false;
        }
        let Some(mut fraction) = self.dealing.try_lock() else { return false };
        self.dealt.store(now, Ordering::Relaxed);
        let current = self.current.load();
        let mut wants = Vec::with_capacity(current.levels.len());
        for level in current.levels.values() {
            let mut state = level.state.lock();
            let demand = state.queues.take_demand(level.now());
            state.smoothed.update(demand, ago.as_secs_f64());
            let limits = if state.quiescing { Limits::default() } else { state.limits };
            wants.push((limits, state.smoothed));
        }
        let (seats, fair) = borrowing::allocate(&wants);
        for (level, seats) in current.levels.values().zip(seats) {
            level.set_seats(seats);
        }
        *fraction = fair;
        true
    }

    pub fn stats(&self) -> Vec<(StatsKey, Arc<SchemaStats>)> {
        self.stats.lock().iter().map(|(k, v)| (k.clone(), v.clone())).collect()
    }

    pub fn levels(&self) -> Vec<Arc<Level>> {
        self.current.load().levels.values().cloned().collect()
    }

    pub fn fair_fraction(&self) -> f64 {
        *self.dealing.lock()
    }
}

/// A request in a queue, for the gauges: however it ends.
struct Counted {
    stats: Arc<SchemaStats>,
    since: Instant,
    outcome: Reason,
}

impl Counted {
    fn served(self) {
        self.stats.unqueued();
        std::mem::forget(self);
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        self.stats.unqueued();
        self.stats.refused(self.outcome, self.since.elapsed());
    }
}

fn details(schema: &Schema, distinguisher: &str, user: &User, info: &RequestInfo) -> Details {
    Details {
        schema: schema.name.clone(),
        distinguisher: distinguisher.to_string(),
        arrived: jiff::Timestamp::now(),
        user: user.name.clone(),
        verb: info.verb.clone(),
        path: info.path.clone(),
        namespace: info.namespace.clone(),
        name: info.name.clone(),
        api_version: match info.group.as_str() {
            "" => info.version.clone(),
            g => format!("{g}/{}", info.version),
        },
        resource: info.resource.clone(),
        subresource: info.subresource.clone(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use http::Method;
    use serde_json::json;

    fn objects(seats_of_jane: u32, lendable: u32) -> Vec<serde_json::Value> {
        let level = |name: &str, shares: u32, lendable: u32, response: serde_json::Value| {
            json!({"kind": "PriorityLevelConfiguration", "metadata": {"name": name, "uid": name}, "spec": {"type": "Limited",
                "limited": {"nominalConcurrencyShares": shares, "lendablePercent": lendable, "limitResponse": response}}})
        };
        let schema = |name: &str, user: &str| {
            json!({"kind": "FlowSchema", "metadata": {"name": name, "uid": name}, "spec": {
                "matchingPrecedence": 500, "priorityLevelConfiguration": {"name": name},
                "distinguisherMethod": {"type": "ByUser"},
                "rules": [{"subjects": [{"kind": "User", "user": {"name": user}}],
                    "resourceRules": [{"verbs": ["*"], "apiGroups": ["*"], "resources": ["*"], "namespaces": ["*"],
                                       "clusterScope": true}]}]}})
        };
        let queue = json!({"type": "Queue", "queuing": {"queues": 4, "handSize": 1, "queueLengthLimit": 2}});
        vec![
            level("jane", seats_of_jane, 0, queue),
            level("idle", 10, lendable, json!({"type": "Reject"})),
            level("catch-all", 0, 0, json!({"type": "Reject"})),
            schema("jane", "jane"),
            schema("idle", "idle"),
        ]
    }

    fn pods() -> RequestInfo {
        RequestInfo::parse(&Method::GET, "/api/v1/namespaces/d/pods/p", "")
    }

    #[tokio::test]
    async fn a_level_borrows_what_another_lends_and_refuses_beyond() {
        let f = Fairness::new(12, Duration::from_millis(50), store::memory::open());
        f.configure(Config::new(&objects(2, 50)));
        let jane = User::new("jane", &["system:authenticated"]);
        tokio::time::sleep(NEED_INTERVAL).await;
        let mut seats = Vec::new();
        loop {
            let (uids, got) = f.enter(&pods(), "", &jane).await;
            assert_eq!(uids.schema, "jane");
            match got {
                Ok(seat) => seats.push(seat),
                Err(reason) => {
                    assert_eq!(reason, Reason::TimeOut);
                    if seats.len() >= 7 {
                        break;
                    }
                    tokio::time::sleep(NEED_INTERVAL).await;
                }
            }
        }
        // Its own two and half of the idle level's ten.
        assert_eq!(seats.len(), 7);
        // What was lent comes back as it is freed; the idle level never goes below what it keeps.
        let idle = User::new("idle", &["system:authenticated"]);
        let mut theirs = Vec::new();
        for _ in 0..5 {
            theirs.push(f.enter(&pods(), "", &idle).await.1.expect("kept seats"));
        }
        let text = crate::flow::metrics::render(&f);
        assert!(
            text.contains(
                "apiserver_flowcontrol_current_executing_seats{flow_schema=\"jane\",priority_level=\"jane\"} 7"
            )
        );
        assert!(text.contains("reason=\"time-out\""), "{text}");
        drop(seats);
        let state = f.levels().iter().find(|l| l.name == "jane").map(|l| l.state.lock().queues.seats_in_use());
        assert_eq!(state, Some(0));
    }

    #[tokio::test]
    async fn changes_take_effect_on_requests_that_wait() {
        let f = Arc::new(Fairness::new(12, Duration::from_secs(20), store::memory::open()));
        f.configure(Config::new(&objects(1, 0)));
        let jane = User::new("jane", &["system:authenticated"]);
        let nominal = f.levels().iter().find(|l| l.name == "jane").map(|l| l.state.lock().limits.nominal);
        let mut held = Vec::new();
        for _ in 0..nominal.unwrap() {
            held.push(f.enter(&pods(), "", &jane).await.1.unwrap());
        }
        let waits = tokio::spawn({
            let (f, jane) = (f.clone(), jane.clone());
            async move { f.enter(&pods(), "", &jane).await.1.is_ok() }
        });
        tokio::time::sleep(Duration::from_millis(150)).await;
        assert!(!waits.is_finished());
        f.configure(Config::new(&objects(30, 0)));
        assert!(tokio::time::timeout(Duration::from_secs(2), waits).await.unwrap().unwrap());
        // Somebody whom no schema names is caught, and refused where that level has nothing.
        // (One at a time is served even there, else nobody could ever repair anything.)
        let joe = User::new("joe", &[]);
        let (_, alone) = f.enter(&pods(), "", &joe).await;
        assert!(alone.is_ok());
        let (uids, got) = f.enter(&pods(), "", &joe).await;
        assert_eq!((uids.level.to_str().unwrap(), got.err()), ("catch-all", Some(Reason::ConcurrencyLimit)));
    }
}
