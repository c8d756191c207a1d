//! What work queues count, in Prometheus' text format. Names are upstream's (`workqueue_…`).

use parking_lot::Mutex;
use std::collections::{BTreeMap, HashMap};
use std::fmt::Write;
use std::sync::{Arc, Weak};
use tokio::time::Instant;

/// Upstream's: from 10 ns on, tenfold each.
const BOUNDS_SECONDS: [f64; 12] = [1e-8, 1e-7, 1e-6, 1e-5, 1e-4, 1e-3, 0.01, 0.1, 1.0, 10.0, 100.0, 1000.0];

/// The queues that are being worked, by the name of who does. A part that was started again replaces its queue.
static QUEUES: Mutex<BTreeMap<&'static str, Weak<Stats>>> = Mutex::new(BTreeMap::new());

#[derive(Default)]
pub struct Stats(Mutex<Counts>);

#[derive(Default)]
struct Counts {
    adds: u64,
    retries: u64,
    /// Keys that wait, and keys that are worked on, each since when.
    waiting: HashMap<String, Instant>,
    working: HashMap<String, Instant>,
    waited: Histogram,
    worked: Histogram,
}

#[derive(Default)]
struct Histogram {
    /// Each counts its own range; rendering adds them up.
    buckets: [u64; BOUNDS_SECONDS.len()],
    seconds: f64,
    count: u64,
}

impl Histogram {
    fn observe(&mut self, since: Option<Instant>) {
        let Some(seconds) = since.map(|at| at.elapsed().as_secs_f64()) else { return };
        if let Some(i) = BOUNDS_SECONDS.iter().position(|b| seconds <= *b) {
            self.buckets[i] += 1;
        }
        self.seconds += seconds;
        self.count += 1;
    }

    fn render(&self, out: &mut String, metric: &str, name: &str) {
        let mut sum = 0;
        for (bound, bucket) in BOUNDS_SECONDS.iter().zip(self.buckets) {
            sum += bucket;
            let _ = writeln!(out, "{metric}_bucket{{name=\"{name}\",le=\"{bound:?}\"}} {sum}");
        }
        let _ = writeln!(out, "{metric}_bucket{{name=\"{name}\",le=\"+Inf\"}} {}", self.count);
        let _ = writeln!(out, "{metric}_sum{{name=\"{name}\"}} {}", self.seconds);
        let _ = writeln!(out, "{metric}_count{{name=\"{name}\"}} {}", self.count);
    }
}

impl Stats {
    pub fn publish(self: &Arc<Stats>, name: &'static str) {
        QUEUES.lock().insert(name, Arc::downgrade(self));
    }

    pub fn added(&self, key: &str) {
        let mut c = self.0.lock();
        c.adds += 1;
        c.waiting.insert(key.to_string(), Instant::now());
    }

    pub fn retried(&self) {
        self.0.lock().retries += 1;
    }

    pub fn started(&self, key: &str) {
        let mut c = self.0.lock();
        let since = c.waiting.remove(key);
        c.waited.observe(since);
        c.working.insert(key.to_string(), Instant::now());
    }

    pub fn done(&self, key: &str) {
        let mut c = self.0.lock();
        let since = c.working.remove(key);
        c.worked.observe(since);
    }
}

/// All queues of this process.
pub fn render(out: &mut String) {
    let queues: Vec<(&str, Arc<Stats>)> =
        QUEUES.lock().iter().filter_map(|(name, stats)| Some((*name, stats.upgrade()?))).collect();
    let mut family = |metric: &str, kind: &str, help: &str, each: &dyn Fn(&mut String, &str, &Counts)| {
        let _ = writeln!(out, "# HELP {metric} {help}\n# TYPE {metric} {kind}");
        for (name, stats) in &queues {
            each(out, name, &stats.0.lock());
        }
    };
    family("workqueue_adds_total", "counter", "Keys that were added.", &|out, name, c| {
        let _ = writeln!(out, "workqueue_adds_total{{name=\"{name}\"}} {}", c.adds);
    });
    family("workqueue_depth", "gauge", "Keys that wait.", &|out, name, c| {
        let _ = writeln!(out, "workqueue_depth{{name=\"{name}\"}} {}", c.waiting.len());
    });
    family("workqueue_retries_total", "counter", "Keys that were tried again.", &|out, name, c| {
        let _ = writeln!(out, "workqueue_retries_total{{name=\"{name}\"}} {}", c.retries);
    });
    family(
        "workqueue_unfinished_work_seconds",
        "gauge",
        "How long the work under way has taken, in sum.",
        &|out, name, c| {
            let seconds: f64 = c.working.values().map(|at| at.elapsed().as_secs_f64()).sum();
            let _ = writeln!(out, "workqueue_unfinished_work_seconds{{name=\"{name}\"}} {seconds}");
        },
    );
    family("workqueue_queue_duration_seconds", "histogram", "How long keys wait.", &|out, name, c| {
        c.waited.render(out, "workqueue_queue_duration_seconds", name);
    });
    family("workqueue_work_duration_seconds", "histogram", "How long a key is worked on.", &|out, name, c| {
        c.worked.render(out, "workqueue_work_duration_seconds", name);
    });
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Queue;
    use std::time::Duration;

    fn value(text: &str, series: &str) -> String {
        let line = text.lines().find_map(|l| l.strip_prefix(series));
        line.map(|l| l.trim().to_string()).unwrap_or_else(|| panic!("no {series} in {text}"))
    }

    #[tokio::test(start_paused = true)]
    async fn a_queue_tells_how_long_keys_wait_and_work() {
        let q = Queue::new();
        q.publish("test-of-metrics");
        q.add("a");
        q.add("a");
        q.add("b");
        tokio::time::sleep(Duration::from_secs(5)).await;
        let key = q.next().await;
        tokio::time::sleep(Duration::from_millis(50)).await;
        let shown = || {
            let mut text = String::new();
            render(&mut text);
            text
        };
        let text = shown();
        for (series, expected) in [
            ("workqueue_adds_total{name=\"test-of-metrics\"}", "2"),
            ("workqueue_depth{name=\"test-of-metrics\"}", "1"),
            ("workqueue_queue_duration_seconds_bucket{name=\"test-of-metrics\",le=\"1.0\"}", "0"),
            ("workqueue_queue_duration_seconds_bucket{name=\"test-of-metrics\",le=\"10.0\"}", "1"),
            ("workqueue_unfinished_work_seconds{name=\"test-of-metrics\"}", "0.05"),
            ("workqueue_work_duration_seconds_count{name=\"test-of-metrics\"}", "0"),
        ] {
            assert_eq!(value(&text, series), expected, "{series}");
        }
        q.retry(&key);
        q.done(&key);
        let text = shown();
        assert_eq!(value(&text, "workqueue_retries_total{name=\"test-of-metrics\"}"), "1");
        assert_eq!(value(&text, "workqueue_work_duration_seconds_count{name=\"test-of-metrics\"}"), "1");
        drop(q);
        assert!(!shown().contains("test-of-metrics"), "a queue that is gone isn't shown");
    }
}
