//! Calls of webhooks, counted under upstream's names.

use super::hook::Hook;
use crate::admission::Operation;
use parking_lot::Mutex;
use std::collections::BTreeMap;
use std::fmt::Write;
use std::time::Duration;

const BOUNDS_SECONDS: [f64; 8] = [0.005, 0.025, 0.1, 0.5, 1.0, 2.5, 10.0, 25.0];
/// Series of one metric; webhooks beyond that aren't told apart, so that made-up names can't fill the memory.
const SERIES_MAX: usize = 2048;

#[derive(Default)]
struct Histogram {
    buckets: [u64; BOUNDS_SECONDS.len()],
    sum: f64,
    count: u64,
}

/// A metric's series by their labels.
type Series<T> = Mutex<BTreeMap<String, T>>;

#[derive(Default)]
pub struct Metrics {
    durations: Series<Histogram>,
    requests: Series<u64>,
    rejections: Series<u64>,
    failed_open: Series<u64>,
    exclusions: Series<u64>,
    condition_errors: Series<u64>,
}

fn kind(hook: &Hook) -> &'static str {
    if hook.mutating { "admit" } else { "validating" }
}

fn bump<T: Default>(series: &Series<T>, labels: String, with: impl FnOnce(&mut T)) {
    let mut series = series.lock();
    if series.len() < SERIES_MAX || series.contains_key(&labels) {
        with(series.entry(labels).or_default());
    }
}

impl Metrics {
    pub(super) fn called(&self, hook: &Hook, operation: Operation, rejected: bool, took: Duration) {
        let labels = format!(
            "name=\"{}\",operation=\"{}\",rejected=\"{rejected}\",type=\"{}\"",
            hook.name,
            operation.word(),
            kind(hook)
        );
        bump(&self.durations, labels, |h| {
            let seconds = took.as_secs_f64();
            for (bucket, _) in h.buckets.iter_mut().zip(BOUNDS_SECONDS).filter(|(_, b)| seconds <= *b) {
                *bucket += 1;
            }
            h.sum += seconds;
            h.count += 1;
        });
    }

    /// `code` 0: no answer.
    pub(super) fn answered(&self, hook: &Hook, operation: Operation, code: u16) {
        let labels = format!(
            "code=\"{}\",name=\"{}\",operation=\"{}\",type=\"{}\"",
            code.min(600),
            hook.name,
            operation.word(),
            kind(hook)
        );
        bump(&self.requests, labels, |n| *n += 1);
    }

    pub(super) fn rejected(&self, hook: &Hook, operation: Operation, error: &str, code: u16) {
        let labels = format!(
            "error_type=\"{error}\",name=\"{}\",operation=\"{}\",rejection_code=\"{}\",type=\"{}\"",
            hook.name,
            operation.word(),
            code.min(600),
            kind(hook)
        );
        bump(&self.rejections, labels, |n| *n += 1);
    }

    pub(super) fn failed_open(&self, hook: &Hook) {
        bump(&self.failed_open, format!("name=\"{}\",type=\"{}\"", hook.name, kind(hook)), |n| *n += 1);
    }

    pub(super) fn excluded(&self, hook: &Hook, operation: Operation) {
        bump(&self.exclusions, condition_labels(hook, operation), |n| *n += 1);
    }

    pub(super) fn condition_failed(&self, hook: &Hook, operation: Operation) {
        bump(&self.condition_errors, condition_labels(hook, operation), |n| *n += 1);
    }

    pub fn render(&self, out: &mut String) {
        const DURATION: &str = "apiserver_admission_webhook_admission_duration_seconds";
        let _ = writeln!(out, "# HELP {DURATION} Time that webhooks took.\n# TYPE {DURATION} histogram");
        for (labels, h) in self.durations.lock().iter() {
            for (bound, n) in BOUNDS_SECONDS.iter().zip(h.buckets) {
                let _ = writeln!(out, "{DURATION}_bucket{{{labels},le=\"{bound}\"}} {n}");
            }
            let _ = writeln!(out, "{DURATION}_bucket{{{labels},le=\"+Inf\"}} {}", h.count);
            let _ = writeln!(out, "{DURATION}_sum{{{labels}}} {}", h.sum);
            let _ = writeln!(out, "{DURATION}_count{{{labels}}} {}", h.count);
        }
        for (name, help, series) in [
            ("apiserver_admission_webhook_request_total", "Calls of webhooks, by HTTP code.", &self.requests),
            ("apiserver_admission_webhook_rejection_count", "Writes that webhooks refused.", &self.rejections),
            (
                "apiserver_admission_webhook_fail_open_count",
                "Webhooks that failed and were ignored.",
                &self.failed_open,
            ),
            (
                "apiserver_admission_match_condition_exclusions_total",
                "Webhooks that match conditions left out.",
                &self.exclusions,
            ),
            (
                "apiserver_admission_match_condition_evaluation_errors_total",
                "Match conditions that failed.",
                &self.condition_errors,
            ),
        ] {
            let _ = writeln!(out, "# HELP {name} {help}\n# TYPE {name} counter");
            for (labels, n) in series.lock().iter() {
                let _ = writeln!(out, "{name}{{{labels}}} {n}");
            }
        }
    }
}

fn condition_labels(hook: &Hook, operation: Operation) -> String {
    format!("kind=\"webhook\",name=\"{}\",operation=\"{}\",type=\"{}\"", hook.name, operation.word(), kind(hook))
}
