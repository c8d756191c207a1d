//! What the server counts, in Prometheus' text format. Names are upstream's.

use crate::request_info::RequestInfo;
use parking_lot::Mutex;
use std::collections::BTreeMap;
use std::fmt::Write;
use std::time::Duration;

const BOUNDS_SECONDS: [f64; 12] = [0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 5.0, 30.0];

#[derive(Default)]
struct Histogram {
    buckets: [u64; BOUNDS_SECONDS.len()],
    sum: f64,
    count: u64,
}

#[derive(Default)]
pub struct Metrics {
    requests: Mutex<BTreeMap<(String, String, String, u16), u64>>,
    durations: Mutex<BTreeMap<(String, String), Histogram>>,
    /// Calls of admission webhooks.
    pub webhooks: std::sync::Arc<crate::admission::webhooks::Metrics>,
    others: Mutex<Vec<Source>>,
}

/// Writes figures of another part of the process, in Prometheus' text format.
type Source = Box<dyn Fn(&mut String) + Send + Sync>;

impl Metrics {
    pub fn request(&self, info: &RequestInfo, code: u16, took: Duration) {
        // Unknown paths must not grow the table: only resources are named.
        let resource = if info.is_resource && code != 404 { info.resource.clone() } else { String::new() };
        *self
            .requests
            .lock()
            .entry((
                info.verb.clone(),
                resource.clone(),
                if resource.is_empty() { String::new() } else { info.subresource.clone() },
                code,
            ))
            .or_default() += 1;
        if info.verb == "watch" {
            return;
        }
        let mut durations = self.durations.lock();
        let h = durations.entry((info.verb.clone(), resource)).or_default();
        let seconds = took.as_secs_f64();
        for (i, bound) in BOUNDS_SECONDS.iter().enumerate() {
            if seconds <= *bound {
                h.buckets[i] += 1;
            }
        }
        h.sum += seconds;
        h.count += 1;
    }

    /// Figures that `/metrics` shows too.
    pub fn add_source(&self, source: impl Fn(&mut String) + Send + Sync + 'static) {
        self.others.lock().push(Box::new(source));
    }

    pub fn render(&self, store: &dyn store::Store) -> String {
        let mut out = String::with_capacity(16 * 1024);
        out.push_str("# HELP apiserver_request_total Requests, by verb, resource and HTTP code.\n# TYPE apiserver_request_total counter\n");
        for ((verb, resource, sub, code), n) in self.requests.lock().iter() {
            let verb = verb.to_ascii_uppercase();
            let _ = writeln!(
                out,
                "apiserver_request_total{{verb=\"{verb}\",resource=\"{resource}\",subresource=\"{sub}\",code=\"{code}\"}} {n}"
            );
        }
        out.push_str("# HELP apiserver_request_duration_seconds Time to answer, watches left out.\n# TYPE apiserver_request_duration_seconds histogram\n");
        for ((verb, resource), h) in self.durations.lock().iter() {
            let verb = verb.to_ascii_uppercase();
            let labels = format!("verb=\"{verb}\",resource=\"{resource}\"");
            for (i, bound) in BOUNDS_SECONDS.iter().enumerate() {
                let _ = writeln!(
                    out,
                    "apiserver_request_duration_seconds_bucket{{{labels},le=\"{bound}\"}} {}",
                    h.buckets[i]
                );
            }
            let _ = writeln!(out, "apiserver_request_duration_seconds_bucket{{{labels},le=\"+Inf\"}} {}", h.count);
            let _ = writeln!(out, "apiserver_request_duration_seconds_sum{{{labels}}} {}", h.sum);
            let _ = writeln!(out, "apiserver_request_duration_seconds_count{{{labels}}} {}", h.count);
        }
        self.webhooks.render(&mut out);
        let _ = writeln!(
            out,
            "# HELP skiff_store_revision Latest revision.\n# TYPE skiff_store_revision gauge\nskiff_store_revision {}",
            store.revision().0
        );
        let _ = writeln!(
            out,
            "# HELP skiff_store_compacted_revision Oldest history dropped.\n# TYPE skiff_store_compacted_revision gauge\nskiff_store_compacted_revision {}",
            store.compacted().0
        );
        let _ = writeln!(
            out,
            "# HELP apiserver_storage_size_bytes Size of the store on disk.\n# TYPE apiserver_storage_size_bytes gauge\napiserver_storage_size_bytes {}",
            store.disk_bytes()
        );
        self.others.lock().iter().for_each(|source| source(&mut out));
        out
    }
}
