//! Figures that parts of the server count where they work, under upstream's names, with upstream's labels and bounds.
//!
//! A figure is a static and a row of [`render`]. Series appear with the first thing that they count.

use parking_lot::Mutex;
use sha2::{Digest, Sha256};
use std::collections::BTreeMap;
use std::fmt::Write;
use std::sync::OnceLock;

/// Series of one figure; more aren't told apart, so that made-up names can't fill the memory.
const SERIES_MAX: usize = 2048;

/// By their labels, as they are shown (`a="b",c="d"`).
type Series<T> = Mutex<BTreeMap<String, T>>;

fn at<T: Default>(series: &Series<T>, labels: String, change: impl FnOnce(&mut T)) {
    let mut series = series.lock();
    if series.len() < SERIES_MAX || series.contains_key(&labels) {
        change(series.entry(labels).or_default());
    }
}

fn head(out: &mut String, name: &str, kind: &str, help: &str) {
    let _ = writeln!(out, "# HELP {name} {help}\n# TYPE {name} {kind}");
}

fn line(out: &mut String, name: &str, labels: &str, value: impl std::fmt::Display) {
    let _ = match labels {
        "" => writeln!(out, "{name} {value}"),
        labels => writeln!(out, "{name}{{{labels}}} {value}"),
    };
}

pub struct Counter {
    name: &'static str,
    help: &'static str,
    series: Series<u64>,
}

impl Counter {
    const fn new(name: &'static str, help: &'static str) -> Counter {
        Counter { name, help, series: Mutex::new(BTreeMap::new()) }
    }

    pub fn add(&self, labels: String) {
        at(&self.series, labels, |n| *n += 1);
    }

    fn render(&self, out: &mut String) {
        head(out, self.name, "counter", self.help);
        for (labels, n) in self.series.lock().iter() {
            line(out, self.name, labels, n);
        }
    }
}

pub struct Gauge {
    name: &'static str,
    help: &'static str,
    series: Series<i64>,
}

/// One that counts in a gauge, as long as it is held.
pub struct Held(&'static Gauge, String);

impl Drop for Held {
    fn drop(&mut self) {
        at(&self.0.series, std::mem::take(&mut self.1), |n| *n -= 1);
    }
}

impl Gauge {
    const fn new(name: &'static str, help: &'static str) -> Gauge {
        Gauge { name, help, series: Mutex::new(BTreeMap::new()) }
    }

    pub fn hold(&'static self, labels: String) -> Held {
        at(&self.series, labels.clone(), |n| *n += 1);
        Held(self, labels)
    }

    pub fn set(&self, labels: String, value: i64) {
        at(&self.series, labels, |n| *n = value);
    }

    fn render(&self, out: &mut String) {
        head(out, self.name, "gauge", self.help);
        for (labels, n) in self.series.lock().iter() {
            line(out, self.name, labels, n);
        }
    }
}

pub struct Histogram<const N: usize> {
    name: &'static str,
    help: &'static str,
    bounds: [f64; N],
    series: Series<Values<N>>,
}

struct Values<const N: usize> {
    /// Each counts its own range; rendering adds them up.
    buckets: [u64; N],
    sum: f64,
    count: u64,
}

impl<const N: usize> Default for Values<N> {
    fn default() -> Values<N> {
        Values { buckets: [0; N], sum: 0.0, count: 0 }
    }
}

impl<const N: usize> Histogram<N> {
    const fn new(name: &'static str, help: &'static str, bounds: [f64; N]) -> Histogram<N> {
        Histogram { name, help, bounds, series: Mutex::new(BTreeMap::new()) }
    }

    pub fn observe(&self, labels: String, value: f64) {
        at(&self.series, labels, |v| {
            if let Some(i) = self.bounds.iter().position(|b| value <= *b) {
                v.buckets[i] += 1;
            }
            v.sum += value;
            v.count += 1;
        });
    }

    fn render(&self, out: &mut String) {
        let name = self.name;
        head(out, name, "histogram", self.help);
        for (labels, v) in self.series.lock().iter() {
            let comma = if labels.is_empty() { "" } else { "," };
            let mut sum = 0;
            for (bound, bucket) in self.bounds.iter().zip(v.buckets) {
                sum += bucket;
                let _ = writeln!(out, "{name}_bucket{{{labels}{comma}le=\"{bound}\"}} {sum}");
            }
            let _ = writeln!(out, "{name}_bucket{{{labels}{comma}le=\"+Inf\"}} {}", v.count);
            line(out, &format!("{name}_sum"), labels, v.sum);
            line(out, &format!("{name}_count"), labels, v.count);
        }
    }
}

/// Reloads of a configuration file that is followed, and which content of it holds.
pub struct Reloads {
    name: &'static str,
    /// By outcome: how many, and when the last was.
    done: Mutex<BTreeMap<&'static str, (u64, i64)>>,
    /// The hash of the content.
    holds: Mutex<Option<String>>,
}

/// `sha256:…` of this server's identity, once it is known.
static SERVER: OnceLock<String> = OnceLock::new();

/// Under which identity reloads are counted.
pub fn serving_as(id: &str) {
    let _ = SERVER.set(hash(id));
}

fn hash(text: &str) -> String {
    format!("sha256:{}", hex::encode(Sha256::digest(text.as_bytes())))
}

impl Reloads {
    const fn new(name: &'static str) -> Reloads {
        Reloads { name, done: Mutex::new(BTreeMap::new()), holds: Mutex::new(None) }
    }

    /// This is the content that holds.
    pub fn hold(&self, content: &str) {
        *self.holds.lock() = Some(hash(content));
    }

    pub fn succeeded(&self, content: &str) {
        self.count("success");
        self.hold(content);
    }

    pub fn failed(&self) {
        self.count("failure");
    }

    fn count(&self, outcome: &'static str) {
        let mut done = self.done.lock();
        let (count, last) = done.entry(outcome).or_default();
        (*count, *last) = (*count + 1, jiff::Timestamp::now().as_second());
    }

    fn render(&self, out: &mut String) {
        let id = SERVER.get().map_or("", String::as_str);
        let (total, last) = (
            format!("{}_automatic_reloads_total", self.name),
            format!("{}_automatic_reload_last_timestamp_seconds", self.name),
        );
        let done = self.done.lock();
        head(out, &total, "counter", "Changes of the file, by whether they were taken.");
        for (outcome, (count, _)) in done.iter() {
            line(out, &total, &format!("status=\"{outcome}\",apiserver_id_hash=\"{id}\""), count);
        }
        head(out, &last, "gauge", "When the last change was, by whether it was taken.");
        for (outcome, (_, at)) in done.iter() {
            line(out, &last, &format!("status=\"{outcome}\",apiserver_id_hash=\"{id}\""), at);
        }
        if let Some(holds) = self.holds.lock().as_ref() {
            let info = format!("{}_last_config_info", self.name);
            head(out, &info, "gauge", "The content of the file that holds, as a hash.");
            line(out, &info, &format!("apiserver_id_hash=\"{id}\",hash=\"{holds}\""), 1);
        }
    }
}

pub static AUTHENTICATION_RELOADS: Reloads = Reloads::new("apiserver_authentication_config_controller");
pub static AUTHORIZATION_RELOADS: Reloads = Reloads::new("apiserver_authorization_config_controller");

const ADMISSION_BOUNDS_SECONDS: [f64; 6] = [0.005, 0.025, 0.1, 0.5, 1.0, 2.5];
/// What Prometheus' own clients have by default.
const DEFAULT_BOUNDS_SECONDS: [f64; 11] = [0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0];
/// Each twice the one before.
const WHO_BOUNDS_SECONDS: [f64; 15] =
    [0.001, 0.002, 0.004, 0.008, 0.016, 0.032, 0.064, 0.128, 0.256, 0.512, 1.024, 2.048, 4.096, 8.192, 16.384];
const DAY_SECONDS: f64 = 86_400.0;
const EXPRESSION_BOUNDS_SECONDS: [f64; 5] = [0.0000005, 0.001, 0.01, 0.1, 1.0];

pub static VALIDATING_POLICIES: Counter = Counter::new(
    "apiserver_validating_admission_policy_check_total",
    "What validating policies didn't let pass as it is, by policy, binding and what was done about it.",
);
pub static VALIDATING_POLICY_DURATIONS: Histogram<5> = Histogram::new(
    "apiserver_validating_admission_policy_check_duration_seconds",
    "Time that each such validation took.",
    EXPRESSION_BOUNDS_SECONDS,
);
pub static MUTATING_POLICIES: Counter = Counter::new(
    "apiserver_mutating_admission_policy_check_total",
    "Mutations of mutating policies, by policy and binding.",
);
pub static MUTATING_POLICY_DURATIONS: Histogram<5> = Histogram::new(
    "apiserver_mutating_admission_policy_check_duration_seconds",
    "Time that each mutation took.",
    EXPRESSION_BOUNDS_SECONDS,
);

pub static ADMISSION_CONTROLLERS: Histogram<6> = Histogram::new(
    "apiserver_admission_controller_admission_duration_seconds",
    "Time that each admission plugin took.",
    ADMISSION_BOUNDS_SECONDS,
);
pub static ADMISSION_STEPS: Histogram<6> = Histogram::new(
    "apiserver_admission_step_admission_duration_seconds",
    "Time that all admission plugins together took.",
    ADMISSION_BOUNDS_SECONDS,
);
pub static RESPONSE_SIZES: Histogram<7> = Histogram::new(
    "apiserver_response_sizes",
    "Bytes of what was read, as they were sent.",
    [1e3, 1e4, 1e5, 1e6, 1e7, 1e8, 1e9],
);
pub static LONG_RUNNING: Gauge = Gauge::new("apiserver_longrunning_requests", "Watches and streams that are open.");
pub static DEPRECATED: Gauge =
    Gauge::new("apiserver_requested_deprecated_apis", "Deprecated APIs that were asked for.");
pub static HEALTH_CHECKS: Counter = Counter::new("kubernetes_healthchecks_total", "Health checks, by their outcome.");
pub static STORE_DURATIONS: Histogram<23> = Histogram::new(
    "etcd_request_duration_seconds",
    "Time that the store took for a write, whichever store it is; by operation alone.",
    super::BOUNDS_SECONDS,
);
pub static STORE_REQUESTS: Counter = Counter::new("etcd_requests_total", "Writes to the store, whichever store it is.");
pub static AUTHENTICATIONS: Counter =
    Counter::new("authentication_attempts", "Requests, by whether somebody vouched for them.");
pub static AUTHENTICATED_USERS: Counter =
    Counter::new("authenticated_user_requests", "Requests of users who were authenticated.");
pub static AUTHORIZATIONS: Counter = Counter::new("authorization_attempts_total", "Decisions about requests.");
pub static AUTHENTICATION_DURATIONS: Histogram<15> = Histogram::new(
    "authentication_duration_seconds",
    "Time that it took to find out who sent a request.",
    WHO_BOUNDS_SECONDS,
);
pub static AUTHORIZATION_DURATIONS: Histogram<15> =
    Histogram::new("authorization_duration_seconds", "Time that each decision took.", WHO_BOUNDS_SECONDS);
pub static AUTHORIZATION_DECISIONS: Counter =
    Counter::new("apiserver_authorization_decisions_total", "What authorizers allowed and denied.");
pub static IMPERSONATIONS: Counter = Counter::new(
    "apiserver_impersonation_attempts_total",
    "Requests to act as another user, by the mode that allowed it.",
);
pub static IMPERSONATION_DURATIONS: Histogram<15> = Histogram::new(
    "apiserver_impersonation_attempts_duration_seconds",
    "Time that it took to decide about each.",
    WHO_BOUNDS_SECONDS,
);
pub static IMPERSONATION_CHECKS: Counter = Counter::new(
    "apiserver_impersonation_authorization_attempts_total",
    "What was asked of authorizers about acting as another user.",
);
pub static IMPERSONATION_CHECK_DURATIONS: Histogram<15> = Histogram::new(
    "apiserver_impersonation_authorization_attempts_duration_seconds",
    "Time that each such answer took.",
    WHO_BOUNDS_SECONDS,
);
pub static AUTHORIZATION_CONDITION_ERRORS: Counter = Counter::new(
    "apiserver_authorization_match_condition_evaluation_errors_total",
    "Questions for which match conditions of an authorization webhook failed.",
);
pub static AUTHORIZATION_CONDITION_EXCLUSIONS: Counter = Counter::new(
    "apiserver_authorization_match_condition_exclusions_total",
    "Questions that an authorization webhook's match conditions kept from it.",
);
pub static AUTHORIZATION_CONDITION_DURATIONS: Histogram<7> = Histogram::new(
    "apiserver_authorization_match_condition_evaluation_seconds",
    "Time that the match conditions of an authorization webhook took.",
    [0.001, 0.005, 0.01, 0.025, 0.1, 0.2, 0.25],
);
pub static AUTHORIZATION_WEBHOOKS: Counter =
    Counter::new("apiserver_authorization_webhook_evaluations_total", "Questions to authorization webhooks.");
pub static AUTHORIZATION_WEBHOOK_DURATIONS: Histogram<11> = Histogram::new(
    "apiserver_authorization_webhook_duration_seconds",
    "Time that authorization webhooks took for an answer.",
    DEFAULT_BOUNDS_SECONDS,
);
pub static AUTHORIZATION_WEBHOOKS_FAILED_OPEN: Counter = Counter::new(
    "apiserver_authorization_webhook_evaluations_fail_open_total",
    "Questions that went on to the next authorizer because a webhook gave no answer.",
);
pub static CALLS: Counter =
    Counter::new("rest_client_requests_total", "Calls of webhooks and of other servers' reviews.");
pub static CALL_DURATIONS: Histogram<12> = Histogram::new(
    "rest_client_request_duration_seconds",
    "Time that such calls took.",
    [0.005, 0.025, 0.1, 0.25, 0.5, 1.0, 2.0, 4.0, 8.0, 15.0, 30.0, 60.0],
);
pub static VALID_TOKENS: Counter = Counter::new(
    "serviceaccount_valid_tokens_total",
    "Tokens of longer life than was asked for that were used within the time that was.",
);
pub static STALE_TOKENS: Counter = Counter::new(
    "serviceaccount_stale_tokens_total",
    "Tokens of longer life than was asked for that were used after it.",
);
pub static LEGACY_TOKENS: Counter =
    Counter::new("serviceaccount_legacy_tokens_total", "Uses of service-account tokens that are kept in Secrets.");
pub static LEGACY_AUTOGENERATED_TOKENS: Counter =
    Counter::new("serviceaccount_legacy_auto_token_uses_total", "Those of Secrets that were made by themselves.");
pub static LEGACY_MANUAL_TOKENS: Counter =
    Counter::new("serviceaccount_legacy_manual_token_uses_total", "Those of Secrets that somebody made.");
pub static CERTIFICATE_EXPIRATIONS: Histogram<14> = Histogram::new(
    "apiserver_client_certificate_expiration_seconds",
    "How much life client certificates had left when they were used.",
    [
        0.0,
        1_800.0,
        3_600.0,
        7_200.0,
        21_600.0,
        43_200.0,
        DAY_SECONDS,
        2.0 * DAY_SECONDS,
        4.0 * DAY_SECONDS,
        7.0 * DAY_SECONDS,
        30.0 * DAY_SECONDS,
        90.0 * DAY_SECONDS,
        180.0 * DAY_SECONDS,
        360.0 * DAY_SECONDS,
    ],
);
pub static AUDIT_EVENTS: Counter = Counter::new("apiserver_audit_event_total", "Audit events that were made.");
pub static AUDIT_LEVELS: Counter =
    Counter::new("apiserver_audit_level_total", "Requests, by how much of them is recorded.");
pub static AUDIT_REJECTIONS: Counter = Counter::new(
    "apiserver_audit_requests_rejected_total",
    "Requests that were refused because they could not be recorded.",
);

pub fn render(out: &mut String) {
    ADMISSION_CONTROLLERS.render(out);
    ADMISSION_STEPS.render(out);
    VALIDATING_POLICIES.render(out);
    VALIDATING_POLICY_DURATIONS.render(out);
    MUTATING_POLICIES.render(out);
    MUTATING_POLICY_DURATIONS.render(out);
    RESPONSE_SIZES.render(out);
    LONG_RUNNING.render(out);
    DEPRECATED.render(out);
    STORE_DURATIONS.render(out);
    STORE_REQUESTS.render(out);
    AUTHENTICATIONS.render(out);
    AUTHENTICATED_USERS.render(out);
    AUTHORIZATIONS.render(out);
    AUTHENTICATION_RELOADS.render(out);
    AUTHORIZATION_RELOADS.render(out);
    CALLS.render(out);
    CALL_DURATIONS.render(out);
    AUTHENTICATION_DURATIONS.render(out);
    AUTHORIZATION_DURATIONS.render(out);
    AUTHORIZATION_DECISIONS.render(out);
    IMPERSONATIONS.render(out);
    IMPERSONATION_DURATIONS.render(out);
    IMPERSONATION_CHECKS.render(out);
    IMPERSONATION_CHECK_DURATIONS.render(out);
    AUTHORIZATION_CONDITION_ERRORS.render(out);
    AUTHORIZATION_CONDITION_EXCLUSIONS.render(out);
    AUTHORIZATION_CONDITION_DURATIONS.render(out);
    AUTHORIZATION_WEBHOOKS.render(out);
    AUTHORIZATION_WEBHOOK_DURATIONS.render(out);
    AUTHORIZATION_WEBHOOKS_FAILED_OPEN.render(out);
    VALID_TOKENS.render(out);
    STALE_TOKENS.render(out);
    LEGACY_TOKENS.render(out);
    LEGACY_AUTOGENERATED_TOKENS.render(out);
    LEGACY_MANUAL_TOKENS.render(out);
    CERTIFICATE_EXPIRATIONS.render(out);
    AUDIT_EVENTS.render(out);
    AUDIT_LEVELS.render(out);
    AUDIT_REJECTIONS.render(out);
}

/// Beside the present state of the checks, under `/metrics/slis`.
pub fn render_slis(out: &mut String) {
    HEALTH_CHECKS.render(out);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reloads_are_counted_by_outcome() {
        static RELOADS: Reloads = Reloads::new("a_controller");
        let shown = || {
            let mut out = String::new();
            RELOADS.render(&mut out);
            out
        };
        assert!(!shown().contains("last_config_info"));
        RELOADS.hold("one");
        RELOADS.failed();
        assert!(
            shown().contains("a_controller_automatic_reloads_total{status=\"failure\",apiserver_id_hash="),
            "{}",
            shown()
        );
        let held = shown();
        RELOADS.succeeded("two");
        let info = |text: &str| {
            text.lines().filter(|l| l.starts_with("a_controller_last_config_info{")).collect::<Vec<_>>().join("")
        };
        assert!(info(&held).contains("hash=\"sha256:") && info(&held) != info(&shown()));
        assert_eq!(shown().matches("_automatic_reload_last_timestamp_seconds{").count(), 2);
    }

    #[test]
    fn series_appear_with_what_they_count() {
        let text = |render: &dyn Fn(&mut String)| {
            let mut out = String::new();
            render(&mut out);
            out
        };
        let counter = Counter::new("c", "Help.");
        assert_eq!(text(&|o| counter.render(o)), "# HELP c Help.\n# TYPE c counter\n");
        counter.add(String::new());
        counter.add("a=\"b\"".into());
        counter.add("a=\"b\"".into());
        assert_eq!(text(&|o| counter.render(o)), "# HELP c Help.\n# TYPE c counter\nc 1\nc{a=\"b\"} 2\n");

        static GAUGE: Gauge = Gauge::new("g", "Help.");
        let (one, two) = (GAUGE.hold("a=\"b\"".into()), GAUGE.hold("a=\"b\"".into()));
        assert!(text(&|o| GAUGE.render(o)).ends_with("\ng{a=\"b\"} 2\n"));
        drop((one, two));
        assert!(text(&|o| GAUGE.render(o)).ends_with("\ng{a=\"b\"} 0\n"));

        let histogram = Histogram::new("h", "Help.", [1.0, 2.5]);
        for value in [0.5, 1.0, 2.0, 9.0] {
            histogram.observe("a=\"b\"".into(), value);
        }
        histogram.observe(String::new(), 2.0);
        let expected = "# HELP h Help.\n# TYPE h histogram\n\
            h_bucket{le=\"1\"} 0\nh_bucket{le=\"2.5\"} 1\nh_bucket{le=\"+Inf\"} 1\nh_sum 2\nh_count 1\n\
            h_bucket{a=\"b\",le=\"1\"} 2\nh_bucket{a=\"b\",le=\"2.5\"} 3\nh_bucket{a=\"b\",le=\"+Inf\"} 4\n\
            h_sum{a=\"b\"} 12.5\nh_count{a=\"b\"} 4\n";
        assert_eq!(text(&|o| histogram.render(o)), expected);
    }

    #[test]
    fn names_that_anybody_makes_up_fill_no_memory() {
        let counter = Counter::new("c", "Help.");
        (0..SERIES_MAX + 10).for_each(|i| counter.add(format!("a=\"{i}\"")));
        counter.add("a=\"0\"".into());
        let series = counter.series.lock();
        assert_eq!((series.len(), series["a=\"0\""]), (SERIES_MAX, 2));
    }
}
