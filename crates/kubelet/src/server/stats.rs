//! `GET /stats/summary`: memory, CPU and file systems of the node and of its pods.

use crate::node::machine;
use crate::pods::context::Context;
use axum::extract::State;
use axum::response::{IntoResponse, Response};
use cri::{ContainerState, ContainerStats};
use serde_json::{Value, json};
use std::sync::Arc;

/// Of each running container: pod view index, container name, stats.
pub async fn containers(context: &Context) -> Vec<(Arc<k8s_openapi::api::core::v1::Pod>, String, i64, ContainerStats)> {
    let views = context.registry.views();
    let running: Vec<_> = views
        .iter()
        .flat_map(|v| {
            v.containers
                .iter()
                .filter(|c| c.state == ContainerState::Running)
                .map(|c| (v.pod.clone(), c.metadata.name.clone(), c.started_at_ns, c.id.clone()))
        })
        .collect();
    let all = running.into_iter().map(async |(pod, name, started, id)| {
        Some((pod, name, started, context.runtime.container_stats(&id).await.ok()?))
    });
    futures::future::join_all(all).await.into_iter().flatten().collect()
}

fn time(ns: i64) -> String {
    jiff::Timestamp::from_nanosecond(i128::from(ns))
        .map(|t| crate::pods::status::whole_seconds(t).to_string())
        .unwrap_or_default()
}

fn memory(s: &ContainerStats) -> Value {
    json!({"time": time(s.timestamp_ns), "usageBytes": s.memory_usage_bytes, "workingSetBytes": s.memory_working_set_bytes, "rssBytes": s.memory_rss_bytes})
}

pub async fn summary(State(context): State<Arc<Context>>) -> Response {
    let stats = containers(&context).await;
    let now = jiff::Timestamp::now();
    let mut pods: Vec<Value> = Vec::new();
    for view in context.registry.views() {
        let uid = crate::pods::spec::uid(&view.pod);
        let own: Vec<_> = stats.iter().filter(|(p, ..)| crate::pods::spec::uid(p) == uid).collect();
        let total = |f: fn(&ContainerStats) -> u64| own.iter().map(|(.., s)| f(s)).sum::<u64>();
        let containers: Vec<Value> = own
            .iter()
            .map(|(_, name, started, s)| {
                json!({"name": name, "startTime": time(*started), "cpu": {"time": time(s.timestamp_ns), "usageCoreNanoSeconds": s.cpu_usage_ns},
                       "memory": memory(s), "rootfs": {"time": time(s.timestamp_ns), "usedBytes": s.rootfs_used_bytes}})
            })
            .collect();
        let m = &view.pod.metadata;
        pods.push(json!({
            "podRef": {"name": m.name, "namespace": m.namespace, "uid": m.uid},
            "startTime": view.status.start_time,
            "containers": containers,
            "cpu": {"time": time(now.as_nanosecond() as i64), "usageCoreNanoSeconds": total(|s| s.cpu_usage_ns)},
            "memory": {"time": time(now.as_nanosecond() as i64), "usageBytes": total(|s| s.memory_usage_bytes), "workingSetBytes": total(|s| s.memory_working_set_bytes), "rssBytes": total(|s| s.memory_rss_bytes)},
            "process_stats": {"process_count": total(|s| s.pids)},
        }));
    }
    let disk = machine::disk(&context.options.root_dir).unwrap_or_default();
    let used = |d: machine::Disk| d.total.saturating_sub(d.available);
    let available = machine::memory_available().unwrap_or(0);
    let images = context.images.service().image_fs_info().await.unwrap_or_default();
    let node = json!({
        "nodeName": context.options.node_name,
        "cpu": {"time": now.to_string(), "usageCoreNanoSeconds": node_cpu_ns()},
        "memory": {"time": now.to_string(), "availableBytes": available, "workingSetBytes": context.machine.memory_bytes.saturating_sub(available), "usageBytes": context.machine.memory_bytes.saturating_sub(available)},
        "fs": {"time": now.to_string(), "capacityBytes": disk.total, "availableBytes": disk.available, "usedBytes": used(disk), "inodes": disk.inodes, "inodesFree": disk.inodes_free},
        "runtime": {"imageFs": {"time": now.to_string(), "capacityBytes": images.capacity_bytes, "availableBytes": images.available_bytes, "usedBytes": images.used_bytes}},
    });
    axum::Json(json!({"node": node, "pods": pods})).into_response()
}

/// Since boot, all CPUs, without idle and I/O wait.
pub fn node_cpu_ns() -> u64 {
    let text = std::fs::read_to_string("/proc/stat").unwrap_or_default();
    let line = text.lines().next().unwrap_or_default();
    // Ticks are hundredths of a second on every Linux that we run on.
    line.split_whitespace()
        .skip(1)
        .take(8)
        .enumerate()
        .filter(|(i, _)| *i != 3 && *i != 4)
        .filter_map(|(_, v)| v.parse::<u64>().ok())
        .sum::<u64>()
        * 10_000_000
}
