//! EventRateLimit: so many Events a second, by server, namespace, user, or source and object. Off by default.
//! Configuration: `eventratelimit.admission.k8s.io/v1alpha1` Configuration.

use super::{Attributes, Operation, Plugin};
use async_trait::async_trait;
use meta::status::Status;
use parking_lot::Mutex;
use serde_json::Value;
use std::collections::HashMap;
use std::time::Instant;

/// Upstream's default size of the memory of namespaces, users, and so on.
const CACHE: usize = 4096;

#[derive(Clone, Copy, Debug, PartialEq)]
enum Kind {
    Server,
    Namespace,
    User,
    SourceAndObject,
}

struct Limit {
    kind: Kind,
    qps: f64,
    burst: f64,
    size: usize,
    /// Tokens left and when they were counted, by what the limit tells apart.
    buckets: Mutex<HashMap<String, (f64, Instant)>>,
}

pub struct EventRateLimit {
    limits: Vec<Limit>,
}

impl EventRateLimit {
    pub fn new(configuration: &Value) -> Result<EventRateLimit, String> {
        let given = configuration["limits"].as_array().map(Vec::as_slice).unwrap_or_default();
        if given.is_empty() {
            return Err("limits: Required value: must have at least one limit".into());
        }
        let mut limits = Vec::new();
        for (i, l) in given.iter().enumerate() {
            let kind = match l["type"].as_str().unwrap_or_default() {
                "Server" => Kind::Server,
                "Namespace" => Kind::Namespace,
                "User" => Kind::User,
                "SourceAndObject" => Kind::SourceAndObject,
                other => {
                    return Err(format!(
                        "limits[{i}].type: Unsupported value: {other:?}: supported values: \"Server\", \"Namespace\", \"User\", \"SourceAndObject\""
                    ));
                }
            };
            let number = |key: &str| match l[key].as_f64() {
                Some(n) if n > 0.0 => Ok(n),
                n => Err(format!("limits[{i}].{key}: Invalid value: {}: must be positive", n.unwrap_or(0.0))),
            };
            let size =
                l["cacheSize"].as_u64().filter(|n| *n > 0).map_or(CACHE, |n| usize::try_from(n).unwrap_or(CACHE));
            limits.push(Limit { kind, qps: number("qps")?, burst: number("burst")?, size, buckets: Mutex::default() });
        }
        Ok(EventRateLimit { limits })
    }
}

impl Limit {
    fn key(&self, a: &Attributes<'_>) -> String {
        let o = &a.object;
        let core = !o["involvedObject"].is_null();
        let (source, object) = if core { ("source", "involvedObject") } else { ("deprecatedSource", "regarding") };
        let text = |v: &Value| v.as_str().unwrap_or_default().to_string();
        match self.kind {
            Kind::Server => String::new(),
            Kind::Namespace => a.namespace.to_string(),
            Kind::User => a.user.name.clone(),
            Kind::SourceAndObject => {
                let s = [&o[source]["component"], &o[source]["host"]].map(text);
                let f = ["kind", "namespace", "name", "uid", "apiVersion"].map(|k| text(&o[object][k]));
                [s.join("/"), f.join("/")].join("|")
            }
        }
    }

    fn takes(&self, key: String, now: Instant) -> bool {
        let mut buckets = self.buckets.lock();
        if buckets.len() >= self.size && !buckets.contains_key(&key) {
            // Whoever hasn't been heard of for longest is forgotten.
            if let Some(oldest) = buckets.iter().min_by_key(|(_, b)| b.1).map(|(k, _)| k.clone()) {
                buckets.remove(&oldest);
            }
        }
        let (tokens, at) = buckets.entry(key).or_insert((self.burst, now));
        *tokens = (*tokens + now.duration_since(*at).as_secs_f64() * self.qps).min(self.burst);
        *at = now;
        if *tokens < 1.0 {
            return false;
        }
        *tokens -= 1.0;
        true
    }
}

#[async_trait]
impl Plugin for EventRateLimit {
    fn name(&self) -> &'static str {
        "EventRateLimit"
    }

    async fn validate(&self, a: &Attributes<'_>) -> Result<(), Status> {
        let event = a.is_main("", "events") || a.is_main("events.k8s.io", "events");
        if !event || a.dry_run || !matches!(a.operation, Operation::Create | Operation::Update) {
            return Ok(());
        }
        let now = Instant::now();
        // Each limit is charged, also when another has refused already.
        let refused: Vec<String> = self
            .limits
            .iter()
            .filter(|l| !l.takes(l.key(a), now))
            .map(|l| format!("limit reached on type {:?} for key {}", l.kind, l.key(a)))
            .collect();
        match refused.as_slice() {
            [] => Ok(()),
            all => Err(Status::too_many_requests(all.join(", "), 0)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::admission::testing::Write;
    use serde_json::json;

    #[tokio::test]
    async fn a_burst_passes_and_no_more() {
        let p = EventRateLimit::new(&json!({"limits":[{"type":"Namespace","qps":1,"burst":2}]})).unwrap();
        let one =
            |ns: &str| Write::create("", "events", ns, json!({"metadata":{"name":"e"},"involvedObject":{}})).run(&p);
        assert!(one("a").await.is_ok() && one("a").await.is_ok());
        let e = one("a").await.unwrap_err();
        assert_eq!((e.code, e.message.as_str()), (429, "limit reached on type Namespace for key a"));
        assert!(one("b").await.is_ok());
        assert!(Write::create("", "configmaps", "a", json!({})).run(&p).await.is_ok());
        for bad in
            [json!({}), json!({"limits":[{"type":"X"}]}), json!({"limits":[{"type":"Server","qps":0,"burst":1}]})]
        {
            assert!(EventRateLimit::new(&bad).is_err(), "{bad}");
        }
    }
}
