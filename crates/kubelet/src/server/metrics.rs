//! `GET /metrics` and `/metrics/resource` in Prometheus text.

use super::stats;
use crate::node::machine;
use crate::pods::context::Context;
use axum::extract::State;
use axum::response::{IntoResponse, Response};
use cri::ContainerState;
use std::fmt::Write;
use std::sync::Arc;

const TEXT: [(http::HeaderName, &str); 1] = [(http::header::CONTENT_TYPE, "text/plain; version=0.0.4; charset=utf-8")];

pub async fn resource(State(context): State<Arc<Context>>) -> Response {
    let stats = stats::containers(&context).await;
    let mut out = String::new();
    let mut series = |name: &str, kind: &str, help: &str, rows: Vec<(String, f64)>| {
        let _ = writeln!(out, "# HELP {name} {help}\n# TYPE {name} {kind}");
        for (labels, value) in rows {
            let _ = writeln!(out, "{name}{labels} {value}");
        }
    };
    let labels = |pod: &k8s_openapi::api::core::v1::Pod, container: Option<&str>| {
        let (ns, name) =
            (pod.metadata.namespace.as_deref().unwrap_or_default(), pod.metadata.name.as_deref().unwrap_or_default());
        match container {
            Some(c) => format!("{{container=\"{c}\",namespace=\"{ns}\",pod=\"{name}\"}}"),
            None => format!("{{namespace=\"{ns}\",pod=\"{name}\"}}"),
        }
    };
    let seconds = |ns: u64| ns as f64 / 1e9;
    let per_container = |f: &dyn Fn(i64, &cri::ContainerStats) -> f64| {
        stats.iter().map(|(p, n, started, s)| (labels(p, Some(n)), f(*started, s))).collect::<Vec<_>>()
    };
    let per_pod = |f: &dyn Fn(&cri::ContainerStats) -> f64| {
        let mut sums: std::collections::BTreeMap<String, f64> = Default::default();
        for (p, _, _, s) in &stats {
            *sums.entry(labels(p, None)).or_default() += f(s);
        }
        sums.into_iter().collect::<Vec<_>>()
    };
    series(
        "container_cpu_usage_seconds_total",
        "counter",
        "Cumulative cpu time consumed by the container in core-seconds",
        per_container(&|_, s| seconds(s.cpu_usage_ns)),
    );
    series(
        "container_memory_working_set_bytes",
        "gauge",
        "Current working set of the container in bytes",
        per_container(&|_, s| s.memory_working_set_bytes as f64),
    );
    series(
        "container_start_time_seconds",
        "gauge",
        "Start time of the container since unix epoch in seconds",
        per_container(&|started, _| started as f64 / 1e9),
    );
    series(
        "pod_cpu_usage_seconds_total",
        "counter",
        "Cumulative cpu time consumed by the pod in core-seconds",
        per_pod(&|s| seconds(s.cpu_usage_ns)),
    );
    series(
        "pod_memory_working_set_bytes",
        "gauge",
        "Current working set of the pod in bytes",
        per_pod(&|s| s.memory_working_set_bytes as f64),
    );
    series(
        "node_cpu_usage_seconds_total",
        "counter",
        "Cumulative cpu time consumed by the node in core-seconds",
        vec![(String::new(), seconds(stats::node_cpu_ns()))],
    );
    let used = context.machine.memory_bytes.saturating_sub(machine::memory_available().unwrap_or(0));
    series(
        "node_memory_working_set_bytes",
        "gauge",
        "Current working set of the node in bytes",
        vec![(String::new(), used as f64)],
    );
    series(
        "resource_scrape_error",
        "gauge",
        "1 if there was an error while getting container metrics, 0 otherwise",
        vec![(String::new(), 0.0)],
    );
    (TEXT, out).into_response()
}

pub async fn own(State(context): State<Arc<Context>>) -> Response {
    let views = context.registry.views();
    let count = |state: ContainerState| views.iter().flat_map(|v| &v.containers).filter(|c| c.state == state).count();
    let mut out = String::new();
    let _ = writeln!(
        out,
        "# HELP kubelet_running_pods Number of pods that have a running pod sandbox\n# TYPE kubelet_running_pods gauge"
    );
    let running =
        views.iter().filter(|v| v.sandbox.as_ref().is_some_and(|s| s.state == cri::SandboxState::Ready)).count();
    let _ = writeln!(out, "kubelet_running_pods {running}");
    let _ = writeln!(
        out,
        "# HELP kubelet_running_containers Number of containers currently running\n# TYPE kubelet_running_containers gauge"
    );
    for (name, state) in
        [("created", ContainerState::Created), ("running", ContainerState::Running), ("exited", ContainerState::Exited)]
    {
        let _ = writeln!(out, "kubelet_running_containers{{container_state=\"{name}\"}} {}", count(state));
    }
    let _ = writeln!(
        out,
        "# HELP kubelet_node_name The node's name. The count is always 1.\n# TYPE kubelet_node_name gauge\nkubelet_node_name{{node=\"{}\"}} 1",
        context.options.node_name
    );
    (TEXT, out).into_response()
}
