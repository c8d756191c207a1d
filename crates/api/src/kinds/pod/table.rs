//! The printed row of a pod: what `kubectl get pods` shows as READY, STATUS and RESTARTS.

use crate::strategy::{Now, age, since};
use crate::validation::access::*;
use crate::validation::conditions::states;
use crate::validation::seen::Seen;
use serde_json::{Value, json};

pub fn row(pod: &Value, now: Now) -> Vec<Value> {
    let (spec, status) = (field(pod, "spec"), field(pod, "status"));
    let s = summary(pod);
    let restarts = match &s.last_restart {
        Some(at) if s.restarts != 0 => format!("{} ({} ago)", s.restarts, since(&json!(at), now)),
        _ => s.restarts.to_string(),
    };
    let or_none = |s: &str| {
        if s.is_empty() { json!("<none>") } else { json!(s) }
    };
    let ip = list(status, "podIPs").first().map_or(text(status, "podIP"), |i| text(i, "ip"));
    let gates = list(spec, "readinessGates");
    let states = states(status);
    let passed = gates.iter().filter(|g| states.get(text(g, "conditionType")) == Some(&"True")).count();
    vec![
        json!(text_at(pod, &["metadata", "name"])),
        json!(format!("{}/{}", s.ready, s.total)),
        json!(s.reason),
        json!(restarts),
        json!(age(pod, now)),
        or_none(ip),
        or_none(text(spec, "nodeName")),
        or_none(text(status, "nominatedNodeName")),
        if gates.is_empty() { json!("<none>") } else { json!(format!("{passed}/{}", gates.len())) },
    ]
}

/// Says of a pod that is done how it ended.
pub fn conditions(pod: &Value) -> Option<Value> {
    let phase = text_at(pod, &["status", "phase"]);
    let message = match phase {
        "Succeeded" => "The pod has completed successfully.",
        "Failed" => "The pod failed.",
        _ => return None,
    };
    Some(json!([{"type": "Completed", "status": "True", "reason": phase, "message": message}]))
}

struct Summary {
    ready: usize,
    total: usize,
    reason: String,
    restarts: i64,
    last_restart: Option<String>,
}

/// Later of the two RFC 3339 instants; both are in UTC and whole seconds, so that text order is time order.
fn later(a: Option<String>, b: &str) -> Option<String> {
    match a {
        Some(a) if a.as_str() >= b => Some(a),
        a if b.is_empty() => a,
        _ => Some(b.to_string()),
    }
}

fn last_finished(status: &Value) -> &str {
    text_at(status, &["lastState", "terminated", "finishedAt"])
}

/// `Init:Error`, `ExitCode:1`, `Signal:9`: why a terminated container ended.
fn ended(terminated: &Value) -> String {
    let reason = text(terminated, "reason");
    if !reason.is_empty() {
        reason.to_string()
    } else if let Some(signal) = int(terminated, "signal").filter(|s| *s != 0) {
        format!("Signal:{signal}")
    } else {
        format!("ExitCode:{}", int(terminated, "exitCode").unwrap_or(0))
    }
}

/// Follows upstream's `printPod` step by step, since its corner cases are what people know.
fn summary(pod: &Value) -> Summary {
    let (spec, status) = (field(pod, "spec"), field(pod, "status"));
    let phase = text(status, "phase");
    let mut s = Summary {
        ready: 0,
        total: list(spec, "containers").len(),
        reason: phase.to_string(),
        restarts: 0,
        last_restart: None,
    };
    if !text(status, "reason").is_empty() {
        s.reason = text(status, "reason").to_string();
    }
    for c in list(status, "conditions") {
        if text(c, "type") == "PodScheduled" && text(c, "reason") == "SchedulingGated" {
            s.reason = "SchedulingGated".to_string();
        }
    }
    let inits = list(spec, "initContainers");
    let sidecars: Seen<&str> =
        inits.iter().filter(|c| text(c, "restartPolicy") == "Always").map(|c| text(c, "name")).collect();
    s.total += inits.iter().filter(|c| text(c, "restartPolicy") == "Always").count();

    let (mut sidecar_restarts, mut sidecar_last) = (0, None);
    let mut initializing = false;
    for (i, c) in list(status, "initContainerStatuses").iter().enumerate() {
        let restarts = int(c, "restartCount").unwrap_or(0);
        s.restarts += restarts;
        s.last_restart = later(s.last_restart.take(), last_finished(c));
        let sidecar = sidecars.has(&text(c, "name"));
        if sidecar {
            sidecar_restarts += restarts;
            sidecar_last = later(sidecar_last.take(), last_finished(c));
        }
        let terminated = at(c, &["state", "terminated"]);
        let waiting = text_at(c, &["state", "waiting", "reason"]);
        if !terminated.is_null() && int(terminated, "exitCode").unwrap_or(0) == 0 {
            continue;
        }
        if sidecar && flag(c, "started") {
            s.ready += usize::from(flag(c, "ready"));
            continue;
        }
        s.reason = if !terminated.is_null() {
            format!("Init:{}", ended(terminated))
        } else if !waiting.is_empty() && waiting != "PodInitializing" {
            format!("Init:{waiting}")
        } else {
            format!("Init:{i}/{}", inits.len())
        };
        initializing = true;
        break;
    }

    if !initializing || states(status).get("Initialized") == Some(&"True") {
        s.restarts = sidecar_restarts;
        s.last_restart = sidecar_last;
        let mut has_running = false;
        let mut failed = None;
        for c in list(status, "containerStatuses").iter().rev() {
            s.restarts += int(c, "restartCount").unwrap_or(0);
            s.last_restart = later(s.last_restart.take(), last_finished(c));
            let terminated = at(c, &["state", "terminated"]);
            let waiting = text_at(c, &["state", "waiting", "reason"]);
            if !waiting.is_empty() {
                s.reason = waiting.to_string();
            } else if !terminated.is_null() {
                s.reason = ended(terminated);
                if int(terminated, "exitCode").unwrap_or(0) != 0 {
                    failed = Some(s.reason.clone());
                }
            } else if flag(c, "ready") && has(field(c, "state"), "running") {
                has_running = true;
                s.ready += 1;
            }
        }
        if s.reason == "Completed" {
            s.reason = match failed {
                _ if has_running && states(status).get("Ready") == Some(&"True") => "Running".to_string(),
                Some(reason) => reason,
                None if has_running => "NotReady".to_string(),
                None => s.reason,
            };
        }
    }
    if has(field(pod, "metadata"), "deletionTimestamp") {
        if text(status, "reason") == "NodeLost" {
            s.reason = "Unknown".to_string();
        } else if phase != "Succeeded" && phase != "Failed" {
            s.reason = "Terminating".to_string();
        }
    }
    s
}
