//! Probes: a task per probe of a running container, a file per way to probe. Results go to the pod's worker, and only
//! when a threshold is crossed.

pub mod exec;
pub mod grpc;
pub mod http;
pub mod tcp;

use crate::events::{Recorder, Severity, pod_reference};
use crate::pods::spec::ContainerSpec;
use crate::pods::worker::Wake;
use cri::RuntimeService;
use jiff::Timestamp;
use k8s_openapi::api::core::v1::{Container, Pod, Probe};
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::mpsc;

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum ProbeKind {
    Startup,
    Liveness,
    Readiness,
}

/// `None`: no verdict yet.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ProbeResults {
    pub startup: Option<bool>,
    pub liveness: Option<bool>,
    pub readiness: Option<bool>,
}

impl ProbeResults {
    pub fn set(&mut self, kind: ProbeKind, success: bool) {
        match kind {
            ProbeKind::Startup => self.startup = Some(success),
            ProbeKind::Liveness => self.liveness = Some(success),
            ProbeKind::Readiness => self.readiness = Some(success),
        }
    }
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    Success,
    /// With what the event says about it.
    Failure(String),
}

pub fn resolve_port(port: &IntOrString, container: &Container) -> Option<u16> {
    match port {
        IntOrString::Int(n) => u16::try_from(*n).ok().filter(|p| *p > 0),
        IntOrString::String(name) => container
            .ports
            .iter()
            .flatten()
            .find(|p| p.name.as_deref() == Some(name))
            .and_then(|p| u16::try_from(p.container_port).ok())
            .or_else(|| name.parse().ok()),
    }
}

/// Counts results in a row and says when the verdict changes.
#[derive(Clone, Debug)]
pub struct Threshold {
    success: i32,
    failure: i32,
    last: Option<bool>,
    run: i32,
}

impl Threshold {
    pub fn new(kind: ProbeKind, probe: &Probe) -> Threshold {
        let success = if kind == ProbeKind::Readiness { probe.success_threshold.unwrap_or(1).max(1) } else { 1 };
        Threshold { success, failure: probe.failure_threshold.unwrap_or(3).max(1), last: None, run: 0 }
    }

    /// `Some` when this result makes enough in a row.
    pub fn push(&mut self, success: bool) -> Option<bool> {
        self.run = if self.last == Some(success) { self.run.saturating_add(1) } else { 1 };
        self.last = Some(success);
        (self.run >= if success { self.success } else { self.failure }).then_some(success)
    }
}

/// One probe of one container.
pub struct Prober {
    pub pod: Arc<Pod>,
    pub spec: ContainerSpec,
    pub kind: ProbeKind,
    pub probe: Probe,
    pub container_id: String,
    pub started_at: Timestamp,
    pub pod_ip: String,
    pub runtime: Arc<dyn RuntimeService>,
    pub recorder: Recorder,
    pub results: mpsc::Sender<Wake>,
    /// `true` at once where there is no startup probe; liveness and readiness wait for it.
    pub started: tokio::sync::watch::Receiver<bool>,
}

impl Prober {
    /// Until it is aborted, the worker is gone, or a startup probe has its verdict.
    pub async fn run(mut self) {
        let period = Duration::from_secs(self.probe.period_seconds.filter(|p| *p > 0).unwrap_or(10) as u64);
        let delay = Duration::from_secs(self.probe.initial_delay_seconds.unwrap_or(0).max(0) as u64);
        if self.kind != ProbeKind::Startup && self.started.wait_for(|s| *s).await.is_err() {
            return;
        }
        let age = Duration::try_from(Timestamp::now().duration_since(self.started_at)).unwrap_or_default();
        tokio::time::sleep(delay.saturating_sub(age)).await;
        let mut threshold = Threshold::new(self.kind, &self.probe);
        let mut ticks = tokio::time::interval(period);
        ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        let mut verdict = None;
        loop {
            ticks.tick().await;
            let outcome = self.once().await;
            if let Outcome::Failure(message) = &outcome {
                let word = match self.kind {
                    ProbeKind::Startup => "Startup",
                    ProbeKind::Liveness => "Liveness",
                    ProbeKind::Readiness => "Readiness",
                };
                let object = pod_reference(&self.pod, Some(self.spec.field_path()));
                self.recorder.record(object, Severity::Warning, "Unhealthy", format!("{word} probe failed: {message}"));
            }
            let Some(success) = threshold.push(outcome == Outcome::Success) else {
                continue;
            };
            if verdict != Some(success) {
                verdict = Some(success);
                let result = Wake::Probe { container_id: self.container_id.clone(), kind: self.kind, success };
                if self.results.send(result).await.is_err() {
                    return;
                }
            }
            if self.kind == ProbeKind::Startup || (self.kind == ProbeKind::Liveness && !success) {
                return;
            }
        }
    }

    async fn once(&self) -> Outcome {
        let timeout = Duration::from_secs(self.probe.timeout_seconds.filter(|t| *t > 0).unwrap_or(1) as u64);
        let container = &self.spec.container;
        if let Some(exec) = &self.probe.exec {
            exec::run(&*self.runtime, &self.container_id, exec.command.as_deref().unwrap_or_default(), timeout).await
        } else if let Some(get) = &self.probe.http_get {
            http::get(get, container, &self.pod_ip, timeout).await
        } else if let Some(socket) = &self.probe.tcp_socket {
            let host = socket.host.as_deref().filter(|h| !h.is_empty()).unwrap_or(&self.pod_ip);
            match resolve_port(&socket.port, container) {
                Some(port) => tcp::connect(host, port, timeout).await,
                None => Outcome::Failure("couldn't find port".into()),
            }
        } else if let Some(g) = &self.probe.grpc {
            grpc::check(&self.pod_ip, g.port, g.service.as_deref().unwrap_or(""), timeout).await
        } else {
            Outcome::Failure("missing probe handler".into())
        }
    }
}

pub fn of(container: &Container) -> Vec<(ProbeKind, Probe)> {
    [
        (ProbeKind::Startup, &container.startup_probe),
        (ProbeKind::Liveness, &container.liveness_probe),
        (ProbeKind::Readiness, &container.readiness_probe),
    ]
    .into_iter()
    .filter_map(|(kind, probe)| Some((kind, probe.clone()?)))
    .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn thresholds() {
        let probe = |s, f| Probe { success_threshold: Some(s), failure_threshold: Some(f), ..Default::default() };
        let mut t = Threshold::new(ProbeKind::Readiness, &probe(2, 3));
        let got: Vec<_> =
            [true, true, false, false, true, false, false, false, true].into_iter().map(|r| t.push(r)).collect();
        assert_eq!(got, [None, Some(true), None, None, None, None, None, Some(false), None]);
        let mut t = Threshold::new(ProbeKind::Liveness, &probe(5, 1));
        assert_eq!((t.push(true), t.push(false)), (Some(true), Some(false)));
    }
}
