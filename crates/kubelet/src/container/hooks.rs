//! Lifecycle hooks: postStart and preStop, by exec, HTTP, TCP or sleep.

use crate::probes::{http, resolve_port, tcp};
use cri::RuntimeService;
use k8s_openapi::api::core::v1::{Container, LifecycleHandler};
use std::time::Duration;

/// Hooks have no deadline of their own; the caller's grace period ends them.
const EXEC_TIMEOUT: Duration = Duration::from_secs(3600);

/// The text goes behind `PostStartHookError: ` or `PreStopHook failed`.
pub async fn run(
    runtime: &dyn RuntimeService,
    container_id: &str,
    container: &Container,
    pod_ip: &str,
    handler: &LifecycleHandler,
) -> Result<(), String> {
    if let Some(exec) = &handler.exec {
        let command = exec.command.clone().unwrap_or_default();
        let result = runtime.exec_sync(container_id, &command, EXEC_TIMEOUT).await.map_err(|e| e.to_string())?;
        if result.exit_code != 0 {
            let output = String::from_utf8_lossy(&[result.stdout, result.stderr].concat()).trim().to_owned();
            return Err(format!("command '{}' exited with {}: {output}", command.join(" "), result.exit_code));
        }
        Ok(())
    } else if let Some(get) = &handler.http_get {
        match http::get(get, container, pod_ip, Duration::from_secs(60)).await {
            crate::probes::Outcome::Success => Ok(()),
            crate::probes::Outcome::Failure(message) => Err(message),
        }
    } else if let Some(socket) = &handler.tcp_socket {
        let port = resolve_port(&socket.port, container).ok_or("unknown port")?;
        match tcp::connect(
            socket.host.as_deref().filter(|h| !h.is_empty()).unwrap_or(pod_ip),
            port,
            Duration::from_secs(60),
        )
        .await
        {
            crate::probes::Outcome::Success => Ok(()),
            crate::probes::Outcome::Failure(message) => Err(message),
        }
    } else if let Some(sleep) = &handler.sleep {
        tokio::time::sleep(Duration::from_secs(u64::try_from(sleep.seconds).unwrap_or(0))).await;
        Ok(())
    } else {
        Ok(())
    }
}
