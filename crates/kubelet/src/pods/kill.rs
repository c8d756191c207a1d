//! Stopping one container: the preStop hook and the stop signal share one grace period.

use super::context::Context;
use super::spec::ContainerSpec;
use crate::container::hooks;
use crate::events::{Severity, pod_reference};
use k8s_openapi::api::core::v1::Pod;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// The stop signal gets at least this long after a hook that used everything up.
const AFTER_HOOK_MIN: Duration = Duration::from_secs(2);

pub struct Request {
    pub pod: Arc<Pod>,
    pub spec: Option<ContainerSpec>,
    pub id: String,
    pub message: String,
    pub grace: Duration,
    pub hook: bool,
    pub pod_ip: String,
}

pub async fn kill(context: &Context, r: &Request) -> Result<(), cri::Error> {
    let began = Instant::now();
    let object = pod_reference(&r.pod, r.spec.as_ref().map(ContainerSpec::field_path));
    if r.hook || r.spec.is_none() {
        context.recorder.record(object.clone(), Severity::Normal, "Killing", r.message.clone());
    }
    let mut left = r.grace;
    let hook = r
        .spec
        .as_ref()
        .filter(|_| r.hook && !r.grace.is_zero())
        .and_then(|s| s.container.lifecycle.as_ref()?.pre_stop.as_ref().map(|h| (s, h)));
    if let Some((spec, handler)) = hook {
        let run = hooks::run(&*context.runtime, &r.id, &spec.container, &r.pod_ip, handler);
        match tokio::time::timeout(r.grace, run).await {
            Ok(Ok(())) => {}
            Ok(Err(error)) => {
                tracing::debug!(container = spec.name(), error, "preStop hook failed");
                context.recorder.record(object, Severity::Warning, "FailedPreStopHook", "PreStopHook failed");
            }
            Err(_) => {
                context.recorder.record(
                    object,
                    Severity::Warning,
                    "FailedPreStopHook",
                    format!("PreStopHook didn't complete within the grace period of {}s", r.grace.as_secs()),
                );
            }
        }
        left = r.grace.saturating_sub(began.elapsed()).max(AFTER_HOOK_MIN);
    }
    context.runtime.stop_container(&r.id, left).await
}
