//! What the server counts, in Prometheus' text format. Names and labels are upstream's.

pub mod figures;

use crate::request_info::RequestInfo;
use api::catalogue::Resource;
use parking_lot::Mutex;
use std::collections::BTreeMap;
use std::fmt::Write;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering::Relaxed};
use std::time::Duration;

/// Upstream's, chosen for its service level objectives.
const BOUNDS_SECONDS: [f64; 23] = [
    0.005, 0.025, 0.05, 0.1, 0.2, 0.4, 0.6, 0.8, 1.0, 1.25, 1.5, 2.0, 3.0, 4.0, 5.0, 6.0, 8.0, 10.0, 15.0, 20.0, 30.0,
    45.0, 60.0,
];
/// The finest bound of `apiserver_request_sli_duration_seconds`.
const SLI_FIRST: usize = 2;
/// Kernel ABI: in what `/proc/self/stat` counts a second.
const TICKS_PER_SECOND: f64 = 100.0;

#[derive(Default)]
struct Histogram {
    /// Each counts its own range; rendering adds them up.
    buckets: [u64; BOUNDS_SECONDS.len()],
    sum: f64,
    count: u64,
}

impl Histogram {
    fn observe(&mut self, took: Duration) {
        let seconds = took.as_secs_f64();
        if let Some(i) = BOUNDS_SECONDS.iter().position(|b| seconds <= *b) {
            self.buckets[i] += 1;
        }
        self.sum += seconds;
        self.count += 1;
    }

    fn render(&self, out: &mut String, name: &str, labels: &str, first: usize) {
        let mut sum = 0;
        for (i, (bound, bucket)) in BOUNDS_SECONDS.iter().zip(self.buckets).enumerate() {
            sum += bucket;
            if i >= first {
                let _ = writeln!(out, "{name}_bucket{{{labels},le=\"{bound}\"}} {sum}");
            }
        }
        let _ = writeln!(out, "{name}_bucket{{{labels},le=\"+Inf\"}} {}", self.count);
        let _ = writeln!(out, "{name}_sum{{{labels}}} {}", self.sum);
        let _ = writeln!(out, "{name}_count{{{labels}}} {}", self.count);
    }
}

/// Requests with the same labels.
#[derive(Default)]
struct Series {
    codes: BTreeMap<u16, u64>,
    took: Histogram,
}

#[derive(Default)]
pub struct Metrics {
    /// By their labels, as they are shown.
    requests: Mutex<BTreeMap<String, Series>>,
    /// Under way, watches and streams left out: those that read, and those that write.
    in_flight: [AtomicI64; 2],
    /// Calls of admission webhooks.
    pub webhooks: Arc<crate::admission::webhooks::Metrics>,
    others: Mutex<Vec<Source>>,
}

/// Writes figures of another part of the process, in Prometheus' text format.
type Source = Box<dyn Fn(&mut String) + Send + Sync>;

/// A request that is under way, as long as it is held.
pub struct InFlight<'a>(&'a AtomicI64);

impl Drop for InFlight<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Relaxed);
    }
}

/// As [`labels`], of figures that don't tell dry runs apart.
fn plain_labels(info: &RequestInfo, row: Option<&Resource>) -> String {
    labels(info, row).replacen("dry_run=\"\",", "", 1)
}

/// Upstream tells only these apart: users are too many for series.
pub fn shown_user(name: &str) -> &'static str {
    match name {
        "admin" => "admin",
        "client" => "client",
        "kube_proxy" => "kube_proxy",
        "kubelet" => "kubelet",
        "system:serviceaccount:kube-system:default" => "system:serviceaccount:kube-system:default",
        name if name.contains('@') => "email_id",
        _ => "other",
    }
}

/// Counts a watch or stream while what is answered is held.
pub fn long_running(info: &RequestInfo, row: Option<&Resource>) -> figures::Held {
    figures::LONG_RUNNING.hold(plain_labels(info, row))
}

/// A request's labels. `row` is what serves it: a name that nothing serves must not grow the table.
fn labels(info: &RequestInfo, row: Option<&Resource>) -> String {
    let sub = row.and_then(|r| r.subresource(&info.subresource));
    let verb = match info.verb.as_str() {
        _ if sub.is_some_and(|s| s.connect) => "CONNECT",
        "get" => "GET",
        "list" => "LIST",
        "watch" => "WATCH",
        "create" | "post" => "POST",
        "update" | "put" => "PUT",
        "patch" => "PATCH",
        "delete" | "deletecollection" => "DELETE",
        "head" => "HEAD",
        "options" => "OPTIONS",
        _ => "other",
    };
    let scope = match (info.is_resource, info.name.is_empty() && info.verb != "create", info.namespace.is_empty()) {
        (false, ..) => "",
        (_, false, _) => "resource",
        (_, true, false) => "namespace",
        (_, true, true) => "cluster",
    };
    let sub = sub.map_or("", |s| &s.name);
    let (group, version, resource) = row.map_or(("", "", ""), |r| (&r.group, &r.version, &r.plural));
    let mut out = String::with_capacity(192);
    out.push_str("component=\"apiserver\",dry_run=\"\"");
    for (name, value) in [("group", group), ("resource", resource), ("scope", scope), ("subresource", sub)] {
        for part in [",", name, "=\"", value, "\""] {
            out.push_str(part);
        }
    }
    for part in [",verb=\"", verb, "\",version=\"", version, "\""] {
        out.push_str(part);
    }
    out
}

fn family(out: &mut String, name: &str, kind: &str, help: &str) {
    let _ = writeln!(out, "# HELP {name} {help}\n# TYPE {name} {kind}");
}

impl Metrics {
    /// `long`: a watch or a stream, whose end says nothing about the server. `size`: of the answer, where it is known.
    pub fn request(
        &self,
        info: &RequestInfo,
        row: Option<&Resource>,
        code: u16,
        took: Duration,
        long: bool,
        size: Option<u64>,
    ) {
        if let Some(bytes) = size.filter(|_| !long && matches!(info.verb.as_str(), "get" | "list")) {
            figures::RESPONSE_SIZES.observe(plain_labels(info, row), bytes as f64);
        }
        if let Some(row) = row.filter(|r| r.strategy.deprecation().is_some()) {
            let (group, version, resource) = (&row.group, &row.version, &row.plural);
            let sub = row.subresource(&info.subresource).map_or("", |s| &s.name);
            // None of them has a release without it.
            let labels = format!(
                "group=\"{group}\",removed_release=\"\",resource=\"{resource}\",subresource=\"{sub}\",version=\"{version}\""
            );
            figures::DEPRECATED.set(labels, 1);
        }
        let key = labels(info, row);
        let mut requests = self.requests.lock();
        let series = requests.entry(key).or_default();
        *series.codes.entry(code).or_default() += 1;
        if !long {
            series.took.observe(took);
        }
    }

    /// Counts a request while what is answered is held.
    pub fn in_flight(&self, info: &RequestInfo) -> InFlight<'_> {
        let reads = matches!(info.verb.as_str(), "get" | "head" | "list" | "watch");
        let count = &self.in_flight[usize::from(!reads)];
        count.fetch_add(1, Relaxed);
        InFlight(count)
    }

    /// Figures that `/metrics` shows too.
    pub fn add_source(&self, source: impl Fn(&mut String) + Send + Sync + 'static) {
        self.others.lock().push(Box::new(source));
    }

    pub fn render(&self, store: &dyn store::Store, rows: &[Arc<Resource>]) -> String {
        let mut out = String::with_capacity(64 * 1024);
        {
            let requests = self.requests.lock();
            family(&mut out, "apiserver_request_total", "counter", "Requests, by verb, resource and HTTP code.");
            for (labels, series) in requests.iter() {
                for (code, n) in &series.codes {
                    let _ = writeln!(out, "apiserver_request_total{{code=\"{code}\",{labels}}} {n}");
                }
            }
            let name = "apiserver_request_terminations_total";
            family(&mut out, name, "counter", "Requests that the server gave up or turned away to protect itself.");
            for (labels, series) in requests.iter() {
                for (code, n) in series.codes.iter().filter(|(code, _)| matches!(code, 429 | 504)) {
                    let _ = writeln!(out, "{name}{{code=\"{code}\",{labels}}} {n}");
                }
            }
            for (name, first) in
                [("apiserver_request_duration_seconds", 0), ("apiserver_request_sli_duration_seconds", SLI_FIRST)]
            {
                family(&mut out, name, "histogram", "Time to answer, watches and streams left out.");
                for (labels, series) in requests.iter().filter(|(_, s)| s.took.count > 0) {
                    series.took.render(&mut out, name, labels, first);
                }
            }
        }
        let name = "apiserver_current_inflight_requests";
        family(&mut out, name, "gauge", "Requests under way, watches and streams left out.");
        for (kind, count) in ["readOnly", "mutating"].iter().zip(&self.in_flight) {
            let _ = writeln!(out, "{name}{{request_kind=\"{kind}\"}} {}", count.load(Relaxed));
        }
        self.webhooks.render(&mut out);
        figures::render(&mut out);
        stored(&mut out, store, rows);
        process(&mut out);
        self.others.lock().iter().for_each(|source| source(&mut out));
        out
    }
}

/// Objects and bytes in the store.
fn stored(out: &mut String, store: &dyn store::Store, rows: &[Arc<Resource>]) {
    let own = rows.iter().filter(|r| r.has_verb("list") && r.storage == (r.group.clone(), r.version.clone()));
    let counts: Vec<(&Resource, u64)> =
        own.map(|r| (r.as_ref(), store.count(&crate::reader::prefix(&r.group, &r.plural, "")))).collect();
    family(out, "apiserver_resource_objects", "gauge", "Stored objects.");
    for (r, n) in &counts {
        let _ = writeln!(out, "apiserver_resource_objects{{group=\"{}\",resource=\"{}\"}} {n}", r.group, r.plural);
    }
    family(out, "apiserver_storage_objects", "gauge", "Stored objects, by the older name of the figure.");
    for (r, n) in &counts {
        let dot = if r.group.is_empty() { "" } else { "." };
        let _ = writeln!(out, "apiserver_storage_objects{{resource=\"{}{dot}{}\"}} {n}", r.plural, r.group);
    }
    for (name, help, value) in [
        ("skiff_store_revision", "Latest revision.", store.revision().0),
        ("skiff_store_compacted_revision", "Oldest history dropped.", store.compacted().0),
    ] {
        family(out, name, "gauge", help);
        let _ = writeln!(out, "{name} {value}");
    }
    let name = "apiserver_storage_size_bytes";
    family(out, name, "gauge", "Size of the store on disk.");
    // Upstream's name for the first server of the store.
    let _ = writeln!(out, "{name}{{storage_cluster_id=\"etcd-0\"}} {}", store.disk_bytes());
}

/// What Prometheus' client libraries tell of every process.
fn process(out: &mut String) {
    let read = |path: &str| std::fs::read_to_string(path).unwrap_or_default();
    // The name, in brackets, may hold anything; what follows is numbers.
    let stat = read("/proc/self/stat");
    let fields: Vec<f64> =
        stat.rsplit(')').next().unwrap_or("").split_whitespace().skip(1).filter_map(|f| f.parse().ok()).collect();
    let field = |i: usize| fields.get(i).copied().unwrap_or(0.0);
    let booted: f64 =
        read("/proc/stat").lines().find_map(|l| l.strip_prefix("btime ")?.trim().parse().ok()).unwrap_or(0.0);
    let status = read("/proc/self/status");
    let kilobytes = |key: &str| -> f64 {
        let line = status.lines().find_map(|l| l.strip_prefix(key));
        line.and_then(|l| l.trim().trim_end_matches(" kB").parse().ok()).unwrap_or(0.0)
    };
    let open = std::fs::read_dir("/proc/self/fd").map_or(0, Iterator::count) as f64;
    for (name, kind, help, value) in [
        ("process_cpu_seconds_total", "counter", "Processor time.", (field(10) + field(11)) / TICKS_PER_SECOND),
        ("process_start_time_seconds", "gauge", "When the process began.", booted + field(18) / TICKS_PER_SECOND),
        ("process_resident_memory_bytes", "gauge", "Memory in use.", kilobytes("VmRSS:") * 1024.0),
        ("process_virtual_memory_bytes", "gauge", "Memory mapped.", kilobytes("VmSize:") * 1024.0),
        ("process_open_fds", "gauge", "Open file descriptors.", open),
    ] {
        family(out, name, kind, help);
        let _ = writeln!(out, "{name} {value}");
    }
}

/// What each health check says, for those who count how often it fails.
pub fn slis(checks: &[(&str, Vec<(String, Result<(), String>)>)]) -> String {
    let mut out = String::new();
    family(&mut out, "kubernetes_healthcheck", "gauge", "1 for a check that passes.");
    for (kind, checks) in checks {
        for (name, result) in checks {
            let passes = u8::from(result.is_ok());
            let _ = writeln!(out, "kubernetes_healthcheck{{name={name:?},type=\"{kind}\"}} {passes}");
        }
    }
    figures::render_slis(&mut out);
    out
}

/// Which version serves, as a constant series that others can be joined with.
pub fn build_info(version: &serde_json::Value) -> String {
    let mut out = String::new();
    family(&mut out, "kubernetes_build_info", "gauge", "Always 1; the labels tell the version.");
    let labels: Vec<String> = [
        ("build_date", "buildDate"),
        ("compiler", "compiler"),
        ("git_commit", "gitCommit"),
        ("git_tree_state", "gitTreeState"),
        ("git_version", "gitVersion"),
        ("go_version", "goVersion"),
        ("major", "major"),
        ("minor", "minor"),
        ("platform", "platform"),
    ]
    .iter()
    .map(|(label, key)| format!("{label}={:?}", version[*key].as_str().unwrap_or("")))
    .collect();
    let _ = writeln!(out, "kubernetes_build_info{{{}}} 1", labels.join(","));
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use http::Method;

    #[test]
    fn labels_are_upstreams() {
        let rows = api::catalogue::builtin();
        for (method, path, query, expected) in [
            (Method::GET, "/api/v1/pods", "", "group= resource=pods scope=cluster subresource= verb=LIST version=v1"),
            (
                Method::GET,
                "/api/v1/namespaces/d/pods",
                "",
                "group= resource=pods scope=namespace subresource= verb=LIST version=v1",
            ),
            (
                Method::GET,
                "/api/v1/namespaces/d/pods",
                "watch=1",
                "group= resource=pods scope=namespace subresource= verb=WATCH version=v1",
            ),
            (
                Method::GET,
                "/api/v1/namespaces/d/pods/p/log",
                "",
                "group= resource=pods scope=resource subresource=log verb=GET version=v1",
            ),
            (
                Method::POST,
                "/apis/apps/v1/namespaces/d/deployments",
                "",
                "group=apps resource=deployments scope=resource subresource= verb=POST version=v1",
            ),
            (
                Method::PUT,
                "/apis/apps/v1/namespaces/d/deployments/w/scale",
                "",
                "group=apps resource=deployments scope=resource subresource=scale verb=PUT version=v1",
            ),
            (
                Method::PATCH,
                "/api/v1/nodes/n",
                "",
                "group= resource=nodes scope=resource subresource= verb=PATCH version=v1",
            ),
            (
                Method::DELETE,
                "/api/v1/namespaces/d/pods",
                "",
                "group= resource=pods scope=namespace subresource= verb=DELETE version=v1",
            ),
            (
                Method::GET,
                "/api/v1/namespaces/d/pods/p/exec",
                "",
                "group= resource=pods scope=resource subresource=exec verb=CONNECT version=v1",
            ),
            (Method::GET, "/healthz", "", "group= resource= scope= subresource= verb=GET version="),
            // Whatever clients make up.
            (
                Method::from_bytes(b"MADEUP").unwrap(),
                "/healthz",
                "",
                "group= resource= scope= subresource= verb=other version=",
            ),
            (
                Method::GET,
                "/apis/made.up/v9/things",
                "",
                "group= resource= scope=cluster subresource= verb=LIST version=",
            ),
            (
                Method::GET,
                "/api/v1/namespaces/d/pods/p/made-up",
                "",
                "group= resource=pods scope=resource subresource= verb=GET version=v1",
            ),
        ] {
            let info = RequestInfo::parse(&method, path, query);
            let row = api::catalogue::find(&rows, &info.group, &info.version, &info.resource);
            let shown = labels(&info, row.map(|r| r.as_ref())).replace("component=\"apiserver\",dry_run=\"\",", "");
            assert_eq!(shown.replace('"', "").replace(',', " "), expected, "{path}");
        }
    }

    #[test]
    fn health_checks_are_ones_and_zeros() {
        let checks = [("livez", vec![("ping".to_string(), Ok(())), ("etcd".to_string(), Err("gone".to_string()))])];
        let text = slis(&checks);
        assert!(text.contains("kubernetes_healthcheck{name=\"ping\",type=\"livez\"} 1\n"), "{text}");
        assert!(text.contains("kubernetes_healthcheck{name=\"etcd\",type=\"livez\"} 0\n"), "{text}");
    }

    #[test]
    fn figures_of_a_request_have_upstreams_names() {
        let metrics = Metrics::default();
        let rows = api::catalogue::builtin();
        let info = RequestInfo::parse(&Method::GET, "/api/v1/pods", "");
        let pods = api::catalogue::find(&rows, "", "v1", "pods").map(|r| r.as_ref());
        metrics.request(&info, pods, 200, Duration::from_millis(30), false, Some(20_000));
        metrics.request(&info, pods, 429, Duration::from_secs(90), false, None);
        let watch = RequestInfo::parse(&Method::GET, "/api/v1/pods", "watch=1");
        metrics.request(&watch, pods, 200, Duration::from_secs(600), true, Some(1));
        let under_way = metrics.in_flight(&info);
        let store = store::memory::open();
        let text = metrics.render(store.as_ref(), &rows);
        let of = "component=\"apiserver\",dry_run=\"\",group=\"\",resource=\"pods\",scope=\"cluster\",subresource=\"\",verb=\"LIST\",version=\"v1\"";
        let sized = of.replace("dry_run=\"\",", "");
        for line in [
            format!("apiserver_request_total{{code=\"200\",{of}}} 1"),
            format!("apiserver_request_terminations_total{{code=\"429\",{of}}} 1"),
            format!("apiserver_request_duration_seconds_bucket{{{of},le=\"0.025\"}} 0"),
            format!("apiserver_request_duration_seconds_bucket{{{of},le=\"0.05\"}} 1"),
            format!("apiserver_request_duration_seconds_bucket{{{of},le=\"60\"}} 1"),
            format!("apiserver_request_duration_seconds_bucket{{{of},le=\"+Inf\"}} 2"),
            format!("apiserver_request_sli_duration_seconds_bucket{{{of},le=\"1\"}} 1"),
            format!("apiserver_response_sizes_bucket{{{sized},le=\"10000\"}} 0"),
            format!("apiserver_response_sizes_bucket{{{sized},le=\"100000\"}} 1"),
            format!("apiserver_response_sizes_count{{{sized}}} 1"),
            "apiserver_current_inflight_requests{request_kind=\"readOnly\"} 1".into(),
            "apiserver_current_inflight_requests{request_kind=\"mutating\"} 0".into(),
            "apiserver_resource_objects{group=\"apps\",resource=\"deployments\"} 0".into(),
            "apiserver_storage_objects{resource=\"deployments.apps\"} 0".into(),
            "apiserver_storage_objects{resource=\"pods\"} 0".into(),
        ] {
            assert!(text.lines().any(|l| l == line), "{line}");
        }
        assert!(!text.contains("sli_duration_seconds_bucket{component=\"apiserver\",dry_run=\"\",group=\"\",resource=\"pods\",scope=\"cluster\",subresource=\"\",verb=\"LIST\",version=\"v1\",le=\"0.025\"}"));
        assert!(!text.contains("duration_seconds_count{component=\"apiserver\",dry_run=\"\",group=\"\",resource=\"pods\",scope=\"cluster\",subresource=\"\",verb=\"WATCH\""));
        drop(under_way);
        assert!(metrics.render(store.as_ref(), &rows).contains("request_kind=\"readOnly\"} 0"));
        let memory = text.lines().find_map(|l| l.strip_prefix("process_resident_memory_bytes ")).unwrap();
        assert!(memory.parse::<f64>().unwrap() > 1e6, "{memory}");
        let started = text.lines().find_map(|l| l.strip_prefix("process_start_time_seconds ")).unwrap();
        assert!(started.parse::<f64>().unwrap() > 1.6e9, "{started}");
    }
}
