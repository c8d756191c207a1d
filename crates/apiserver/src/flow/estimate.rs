//! How many seats a request takes: a large list more than one, a write that many watch goes on costing after its answer.
//! Source: "API Priority and Fairness", "Seats Occupied by a Request".

use super::queue_set::Work;
use crate::request_info::{RequestInfo, first_pairs};
use parking_lot::RwLock;
use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;
use store::Store;

/// No request takes more, and none more than [`LEVEL_PART`] of its level.
const SEATS_MAX: u32 = 10;
const LEVEL_PART: f64 = 0.15;
/// Objects that a list handles for one seat.
const OBJECTS_PER_SEAT: u64 = 100;
const WATCHES_PER_SEAT: u32 = 10;
/// What telling [`WATCHES_PER_SEAT`] watchers of one event takes.
const EVENT_LATENCY: Duration = Duration::from_millis(5);

/// Open watches by what they watch.
#[derive(Default)]
pub struct Watches {
    open: RwLock<HashMap<Scope, Arc<AtomicU32>>>,
}

/// Empty namespace: all of them. Empty name: every object.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Scope {
    group: String,
    resource: String,
    namespace: String,
    name: String,
}

/// Counts while it lives.
pub struct Watching(Arc<AtomicU32>);

impl Drop for Watching {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Scope {
    fn of(info: &RequestInfo, namespace: &str, name: &str) -> Scope {
        Scope {
            group: info.group.clone(),
            resource: info.resource.clone(),
            namespace: namespace.to_string(),
            name: name.to_string(),
        }
    }
}

impl Watches {
    /// `None` where a write can't know whether it concerns the watch: those of one node's pods.
    pub fn opened(&self, info: &RequestInfo) -> Option<Watching> {
        let field = |f| crate::authz::exact_field(&info.field_selector, f);
        if field("spec.nodeName").is_some() {
            return None;
        }
        let name = match info.name.as_str() {
            "" => field("metadata.name").unwrap_or_default(),
            n => n.to_string(),
        };
        let scope = Scope::of(info, &info.namespace, &name);
        let mut open = self.open.write();
        if open.len() > 10_000 {
            open.retain(|_, n| n.load(Ordering::Relaxed) > 0);
        }
        let counter = open.entry(scope).or_default().clone();
        counter.fetch_add(1, Ordering::Relaxed);
        Some(Watching(counter))
    }

    /// How many hear of a write.
    pub fn concerned(&self, info: &RequestInfo) -> u32 {
        let open = self.open.read();
        if open.is_empty() {
            return 0;
        }
        let count = |namespace: &str, name: &str| {
            open.get(&Scope::of(info, namespace, name)).map_or(0, |n| n.load(Ordering::Relaxed))
        };
        let mut n = count("", "");
        let namespaced = !info.namespace.is_empty() && info.resource != "namespaces";
        if namespaced {
            n += count(&info.namespace, "");
        }
        if !info.name.is_empty() {
            n += count(if namespaced { &info.namespace } else { "" }, &info.name);
        }
        n
    }
}

/// `nominal`: the level's seats.
pub fn work(info: &RequestInfo, query: &str, nominal: u32, store: &dyn Store, watches: &Watches) -> Work {
    if !info.is_resource {
        return Work::seats(1);
    }
    let max = ((f64::from(nominal) * LEVEL_PART).ceil() as u32).clamp(1, SEATS_MAX);
    match info.verb.as_str() {
        "list" | "watch" | "deletecollection" => {
            if max == 1
                || !info.name.is_empty()
                || crate::authz::exact_field(&info.field_selector, "metadata.name").is_some()
            {
                return Work::seats(1);
            }
            let (mut limit, mut initial) = (0, true);
            let mut version = None;
            for (k, v) in first_pairs(query) {
                match k.as_str() {
                    "limit" => limit = v.parse().unwrap_or(0),
                    "sendInitialEvents" => version = (v != "false").then(String::new).or(Some("1".into())),
                    "resourceVersion" if version.is_none() => version = Some(v),
                    _ => {}
                }
            }
            if info.verb == "watch" {
                initial = version.is_none_or(|v| v.is_empty() || v == "0");
                limit = 0;
            }
            let stored = match initial {
                true => store.count(&crate::reader::prefix(&info.group, &info.resource, &info.namespace)),
                false => 0,
            };
            // Everything is in memory, and sorted: a page costs what it holds, unless a selector has to look at all.
            let selects = !info.field_selector.is_empty() || !info.label_selector.is_empty();
            let handled = if limit > 0 && !selects { stored.min(limit) } else { stored };
            Work::seats((handled.div_ceil(OBJECTS_PER_SEAT)).clamp(1, u64::from(max)) as u32)
        }
        "create" | "update" | "patch" | "delete" if info.subresource != "token" => {
            let concerned = watches.concerned(info);
            if concerned < WATCHES_PER_SEAT {
                return Work::seats(1);
            }
            let seats = concerned.div_ceil(WATCHES_PER_SEAT);
            let final_seats = seats.min(max);
            Work {
                initial_seats: 1,
                final_seats,
                additional_latency: EVENT_LATENCY.mul_f64(f64::from(seats) / f64::from(final_seats)),
            }
        }
        _ => Work::seats(1),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use http::Method;

    fn info(method: Method, path: &str, query: &str) -> RequestInfo {
        RequestInfo::parse(&method, path, query)
    }

    #[tokio::test]
    async fn lists_cost_by_what_they_handle() {
        let store = store::memory::open();
        for i in 0..450 {
            let key = crate::reader::key("", "pods", "d", &format!("p{i}"));
            store.create(&key, "{}".into(), None).await.unwrap();
        }
        let watches = Watches::default();
        let seats = |path: &str, query: &str, nominal: u32| {
            work(&info(Method::GET, path, query), query, nominal, store.as_ref(), &watches).seats_max()
        };
        let pods = "/api/v1/namespaces/d/pods";
        assert_eq!(seats(pods, "", 200), 5);
        assert_eq!(seats("/api/v1/pods", "", 200), 5);
        assert_eq!(seats(pods, "limit=150", 200), 2);
        assert_eq!(seats(pods, "limit=150&labelSelector=a%3Db", 200), 5);
        assert_eq!(seats(pods, "fieldSelector=metadata.name%3Dp1", 200), 1);
        assert_eq!(seats(pods, "", 10), 2, "no more than a part of the level");
        assert_eq!(seats(pods, "", 1), 1);
        assert_eq!(seats("/api/v1/namespaces/other/pods", "", 200), 1);
        assert_eq!(seats(pods, "watch=1", 200), 5);
        assert_eq!(seats(pods, "watch=1&resourceVersion=7", 200), 1);
        assert_eq!(seats(pods, "watch=1&resourceVersion=7&sendInitialEvents=true", 200), 5);
        assert_eq!(seats("/api/v1/namespaces/d/pods/p1", "", 200), 1);
    }

    #[test]
    fn writes_cost_by_who_hears_of_them() {
        let store = store::memory::open();
        let watches = Watches::default();
        let pods = |path: &str, q: &str| watches.opened(&info(Method::GET, path, q));
        let mut open: Vec<_> = (0..12).map(|_| pods("/api/v1/pods", "watch=1")).collect();
        open.extend((0..13).map(|_| pods("/api/v1/namespaces/d/pods", "watch=1")));
        open.push(pods("/api/v1/namespaces/d/pods", "watch=1&fieldSelector=metadata.name%3Dp"));
        assert!(pods("/api/v1/pods", "watch=1&fieldSelector=spec.nodeName%3Dn1").is_none());
        let cost = |path: &str| work(&info(Method::PUT, path, ""), "", 200, store.as_ref(), &watches);
        let w = cost("/api/v1/namespaces/d/pods/p");
        assert_eq!((w.initial_seats, w.final_seats, w.additional_latency), (1, 3, Duration::from_millis(5)));
        assert_eq!(cost("/api/v1/namespaces/other/pods/p").final_seats, 2);
        assert_eq!(cost("/api/v1/namespaces/d/secrets/p"), Work::seats(1));
        drop(open);
        assert_eq!(cost("/api/v1/namespaces/d/pods/p"), Work::seats(1));
    }
}
