//! What becomes known of parts that end, and of panics: checks of `/readyz`, figures in `/metrics`, events about the node.
//!
//! The parts themselves are kept alive by [`Supervisor`]; see `server.rs` for who they are.

use apiserver::server::Server;
use client::Recorder;
use k8s_openapi::api::core::v1::ObjectReference;
use std::fmt::Write;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use stdx::supervisor::{Supervisor, payload_text};

static PANICS: AtomicU64 = AtomicU64::new(0);

/// Panics are logged and counted, wherever they are caught. One in a thread of the store ends the process: what it
/// would acknowledge afterwards can't be trusted, and whoever keeps Skiff running starts it again; containers go on.
pub fn watch_panics() {
    let inherited = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |info| {
        PANICS.fetch_add(1, Ordering::Relaxed);
        let place = info.location().map(ToString::to_string).unwrap_or_default();
        tracing::error!(place, panic = payload_text(info.payload()), "panic");
        inherited(info);
        if std::thread::current().name().is_some_and(|n| n.starts_with("store-")) {
            std::process::abort();
        }
    }));
}

/// Lets `/readyz`, `/metrics` and the node's events tell of the parts.
pub fn publish(supervisor: &Supervisor, server: &Arc<Server>, recorder: Recorder, node_name: &str) {
    let node = ObjectReference {
        api_version: Some("v1".into()),
        kind: Some("Node".into()),
        name: Some(node_name.into()),
        // As the kubelet does it: `kubectl describe node` looks for events under the name.
        uid: Some(node_name.into()),
        ..Default::default()
    };
    let health = Arc::downgrade(server);
    supervisor.listen(move |name, part| {
        let Some(server) = health.upgrade() else { return };
        let result = match (&part.error, part.up) {
            (Some(why), false) => Err(why.clone()),
            _ => Ok(()),
        };
        if let Err(why) = &result {
            recorder.warning(&node, "ComponentFailed", format!("{name}: {why}"));
        }
        server.health.set_ready(&format!("component/{name}"), result);
    });
    server.metrics.add_source(client::queue_metrics::render);
    let parts = supervisor.clone();
    server.metrics.add_source(move |out| {
        let parts = parts.parts();
        out.push_str("# HELP skiff_component_up Whether a part of the process runs.\n# TYPE skiff_component_up gauge\n");
        for (name, part) in &parts {
            let _ = writeln!(out, "skiff_component_up{{component=\"{name}\"}} {}", u8::from(part.up));
        }
        out.push_str("# HELP skiff_component_restarts_total How often a part ended and was started again.\n# TYPE skiff_component_restarts_total counter\n");
        for (name, part) in &parts {
            let _ = writeln!(out, "skiff_component_restarts_total{{component=\"{name}\"}} {}", part.restarts);
        }
        let panics = PANICS.load(Ordering::Relaxed);
        let _ = writeln!(
            out,
            "# HELP skiff_panics_total Faults of Skiff's own that were caught.\n# TYPE skiff_panics_total counter\nskiff_panics_total {panics}"
        );
    });
}
