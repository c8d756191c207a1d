//! What priority and fairness counts, in Prometheus' text format. Names are upstream's.

use super::fairness::Fairness;
use super::queue_set::Reason;
use std::fmt::Write;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering::Relaxed};
use std::time::Duration;

const BOUNDS_SECONDS: [f64; 12] = [0.005, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0, 15.0, 30.0];

/// Of one FlowSchema in one priority level.
#[derive(Default)]
pub struct SchemaStats {
    pub dispatched: AtomicU64,
    rejected: [AtomicU64; Reason::ALL.len()],
    in_queue: AtomicI64,
    executing: AtomicI64,
    executing_seats: AtomicI64,
    waited: Histogram,
    waited_in_vain: Histogram,
    served: Histogram,
}

#[derive(Default)]
struct Histogram {
    buckets: [AtomicU64; BOUNDS_SECONDS.len()],
    micros: AtomicU64,
    count: AtomicU64,
}

impl Histogram {
    fn observe(&self, took: Duration) {
        let seconds = took.as_secs_f64();
        // Each counts its own range; rendering adds them up.
        if let Some(i) = BOUNDS_SECONDS.iter().position(|b| seconds <= *b) {
            self.buckets[i].fetch_add(1, Relaxed);
        }
        self.micros.fetch_add(took.as_micros() as u64, Relaxed);
        self.count.fetch_add(1, Relaxed);
    }

    fn render(&self, out: &mut String, name: &str, labels: &str) {
        let count = self.count.load(Relaxed);
        if count == 0 {
            return;
        }
        let mut sum = 0;
        for (bound, bucket) in BOUNDS_SECONDS.iter().zip(&self.buckets) {
            sum += bucket.load(Relaxed);
            let _ = writeln!(out, "{name}_bucket{{{labels},le=\"{bound}\"}} {sum}");
        }
        let _ = writeln!(out, "{name}_bucket{{{labels},le=\"+Inf\"}} {count}");
        let _ = writeln!(out, "{name}_sum{{{labels}}} {}", self.micros.load(Relaxed) as f64 / 1e6);
        let _ = writeln!(out, "{name}_count{{{labels}}} {count}");
    }
}

impl SchemaStats {
    pub fn queued(&self) {
        self.in_queue.fetch_add(1, Relaxed);
    }

    pub fn unqueued(&self) {
        self.in_queue.fetch_sub(1, Relaxed);
    }

    pub fn started(&self, seats: u32, waited: Duration) {
        self.dispatched.fetch_add(1, Relaxed);
        self.executing.fetch_add(1, Relaxed);
        self.executing_seats.fetch_add(i64::from(seats), Relaxed);
        self.waited.observe(waited);
    }

    pub fn finished(&self, seats: u32, took: Duration) {
        self.executing.fetch_sub(1, Relaxed);
        self.executing_seats.fetch_sub(i64::from(seats), Relaxed);
        self.served.observe(took);
    }

    pub fn refused(&self, reason: Reason, waited: Duration) {
        self.rejected[reason as usize].fetch_add(1, Relaxed);
        self.waited_in_vain.observe(waited);
    }

    pub fn rejected(&self, reason: Reason) -> u64 {
        self.rejected[reason as usize].load(Relaxed)
    }
}

pub fn render(fairness: &Fairness) -> String {
    let mut out = String::with_capacity(16 * 1024);
    let stats = fairness.stats();
    let head = |out: &mut String, name: &str, kind: &str, help: &str| {
        let _ = writeln!(out, "# HELP apiserver_flowcontrol_{name} {help}\n# TYPE apiserver_flowcontrol_{name} {kind}");
    };
    let labels = |level: &str, schema: &str| format!("flow_schema=\"{schema}\",priority_level=\"{level}\"");
    head(&mut out, "dispatched_requests_total", "counter", "Requests that got their seats.");
    for ((level, schema), s) in &stats {
        let n = s.dispatched.load(Relaxed);
        let _ = writeln!(out, "apiserver_flowcontrol_dispatched_requests_total{{{}}} {n}", labels(level, schema));
    }
    head(&mut out, "rejected_requests_total", "counter", "Requests that were refused with 429.");
    for ((level, schema), s) in &stats {
        for reason in Reason::ALL {
            let n = s.rejected(reason);
            if n > 0 {
                let _ = writeln!(
                    out,
                    "apiserver_flowcontrol_rejected_requests_total{{{},reason=\"{}\"}} {n}",
                    labels(level, schema),
                    reason.as_str()
                );
            }
        }
    }
    type Gauge = fn(&SchemaStats) -> &AtomicI64;
    let gauges: [(&str, &str, Gauge); 3] = [
        ("current_inqueue_requests", "Requests that wait.", |s| &s.in_queue),
        ("current_executing_requests", "Requests that are served.", |s| &s.executing),
        ("current_executing_seats", "Seats of the requests that are served.", |s| &s.executing_seats),
    ];
    for (name, help, value) in gauges {
        head(&mut out, name, "gauge", help);
        for ((level, schema), s) in &stats {
            let n = value(s).load(Relaxed);
            let _ = writeln!(out, "apiserver_flowcontrol_{name}{{{}}} {n}", labels(level, schema));
        }
    }
    head(&mut out, "request_wait_duration_seconds", "histogram", "Time in a queue.");
    for ((level, schema), s) in &stats {
        for (histogram, executed) in [(&s.waited, true), (&s.waited_in_vain, false)] {
            let labels = format!("{},execute=\"{executed}\"", labels(level, schema));
            histogram.render(&mut out, "apiserver_flowcontrol_request_wait_duration_seconds", &labels);
        }
    }
    head(&mut out, "request_execution_seconds", "histogram", "Time with a seat.");
    for ((level, schema), s) in &stats {
        s.served.render(&mut out, "apiserver_flowcontrol_request_execution_seconds", &labels(level, schema));
    }
    let levels = fairness.levels();
    type Figure = fn(&super::level::State) -> f64;
    let figures: [(&str, &str, Figure); 9] = [
        ("nominal_limit_seats", "Seats that the level is due.", |s| s.limits.nominal.into()),
        ("lower_limit_seats", "Seats that it keeps.", |s| s.limits.min.into()),
        ("upper_limit_seats", "Seats that it may have with borrowed ones.", |s| s.limits.max.into()),
        ("current_limit_seats", "Seats that it has now.", |s| match s.limits.exempt {
            true => s.limits.nominal.into(),
            false => s.queues.limit().into(),
        }),
        ("demand_seats_high_watermark", "Seats that were wanted at most in the last period.", |s| {
            s.smoothed.latest.high
        }),
        ("demand_seats_average", "Seats that were wanted on average.", |s| s.smoothed.latest.average),
        ("demand_seats_stdev", "Their standard deviation.", |s| s.smoothed.latest.deviation),
        ("demand_seats_smoothed", "What the next period is thought to want.", |s| s.smoothed.smoothed),
        ("request_concurrency_in_use", "Seats taken.", |s| s.queues.seats_in_use().into()),
    ];
    for (name, help, value) in figures {
        head(&mut out, name, "gauge", help);
        for level in &levels {
            let v = value(&level.state.lock());
            let _ = writeln!(out, "apiserver_flowcontrol_{name}{{priority_level=\"{}\"}} {v}", level.name);
        }
    }
    head(&mut out, "seat_fair_frac", "gauge", "The fraction of what they want that all levels get.");
    let _ = writeln!(out, "apiserver_flowcontrol_seat_fair_frac {}", fairness.fair_fraction());
    out
}
