//! The steps before a pod's first container: volumes and the sandbox.

use super::context::Context;
use super::spec;
use crate::container::env::Downward;
use crate::container::{dns, hostname, security};
use crate::labels;
use crate::resources::{cgroup, linux, qos};
use crate::volumes::{self, Credentials, Mounted, Sources, persistent_volume_claim, pod_certificate, token};
use cri::{PodSandboxConfig, PodSandboxMetadata, PodSandboxStatus, PortMapping, Protocol};
use jiff::Timestamp;
use k8s_openapi::api::core::v1::Pod;
use std::collections::BTreeMap;

pub fn downward(context: &Context, pod: &Pod, sandbox: Option<&PodSandboxStatus>) -> Downward {
    let pod_ips = if spec::is_host_network(pod) {
        context.host_ips.clone()
    } else {
        sandbox.map(|s| s.ips.clone()).unwrap_or_default()
    };
    Downward {
        node_name: context.options.node_name.clone(),
        host_ips: context.host_ips.clone(),
        pod_ips,
        allocatable: crate::node::allocatable(context),
    }
}

/// Also how changed objects, due tokens and due certificates reach running containers. Gives what could be set up, and
/// what stood in the way of the rest.
pub async fn volumes(
    context: &Context,
    pod: &Pod,
    credentials: &mut Credentials,
) -> (BTreeMap<String, Mounted>, Option<String>) {
    let uid = spec::uid(pod);
    // Each waits for the API; together they cost no more than the slowest.
    let Credentials { tokens, certificates } = credentials;
    let (client, now) = (&context.client, Timestamp::now());
    let (objects, token_result, certificate_result, claims) = tokio::join!(
        context.objects.snapshot(uid),
        token::refresh(client, pod, tokens, now),
        pod_certificate::refresh(client, &context.options.node_name, pod, certificates, now),
        persistent_volume_claim::resolve(client, pod),
    );
    let sources = Sources {
        objects,
        downward: downward(context, pod, None),
        tokens: tokens.iter().map(|(k, t)| (k.clone(), t.value.clone())).collect(),
        certificates: certificates.iter().filter_map(|(k, r)| Some((k.clone(), r.issued.clone()?))).collect(),
        claims,
    };
    let pod_dir = context.options.pod_dir(uid);
    let pod = pod.clone();
    let set_up = tokio::task::spawn_blocking(move || volumes::set_up_all(&pod, &pod_dir, &sources));
    let (made, failed) = match set_up.await {
        Ok(done) => done,
        Err(e) => return (BTreeMap::new(), Some(e.to_string())),
    };
    // Why something couldn't be had from the API says more than that its volume lacks it.
    let error = token_result.err().or(certificate_result.err()).or(failed);
    (made, error.map(|e| e.to_string()))
}

pub fn cgroup_path(context: &Context, pod: &Pod) -> String {
    context
        .options
        .cgroup_root
        .as_deref()
        .map(|root| cgroup::pod_path(root, qos::class(pod), spec::uid(pod)))
        .unwrap_or_default()
}

pub fn sandbox_config(context: &Context, pod: &Pod, attempt: u32) -> Result<PodSandboxConfig, String> {
    let m = &pod.metadata;
    let (name, namespace, uid) =
        (m.name.clone().unwrap_or_default(), m.namespace.clone().unwrap_or_default(), spec::uid(pod).to_owned());
    let host_network = spec::is_host_network(pod);
    let names = hostname::names(pod, &context.options.cluster_domain)?;
    let pod_spec = pod.spec.clone().unwrap_or_default();
    let containers = spec::containers(pod);
    let port_mappings = containers
        .iter()
        .filter(|_| !host_network)
        .flat_map(|c| c.container.ports.iter().flatten())
        .filter_map(|p| {
            Some(PortMapping {
                protocol: match p.protocol.as_deref() {
                    Some("UDP") => Protocol::Udp,
                    Some("SCTP") => Protocol::Sctp,
                    _ => Protocol::Tcp,
                },
                container_port: u16::try_from(p.container_port).ok()?,
                host_port: p.host_port.and_then(|p| u16::try_from(p).ok()).filter(|p| *p > 0)?,
                host_ip: p.host_ip.clone().unwrap_or_default(),
            })
        })
        .collect();
    let mut all_labels = m.labels.clone().unwrap_or_default();
    all_labels.extend([
        (labels::POD_NAME.to_owned(), name.clone()),
        (labels::POD_NAMESPACE.to_owned(), namespace.clone()),
        (labels::POD_UID.to_owned(), uid.clone()),
    ]);
    let mut annotations = m.annotations.clone().unwrap_or_default();
    annotations.insert(labels::TERMINATION_GRACE_PERIOD.to_owned(), spec::grace_period(pod).to_string());
    Ok(PodSandboxConfig {
        hostname: if host_network { String::new() } else { names.kernel },
        log_directory: context.options.pod_log_dir(&namespace, &name, &uid).to_string_lossy().into_owned(),
        dns_config: dns::for_pod(pod, &context.host_dns(), &context.cluster_dns, &context.options.cluster_domain),
        port_mappings,
        labels: all_labels,
        annotations,
        cgroup_parent: cgroup_path(context, pod),
        namespaces: security::namespaces(pod),
        sysctls: pod_spec
            .security_context
            .iter()
            .flat_map(|s| s.sysctls.iter().flatten())
            .map(|s| (s.name.clone(), s.value.clone()))
            .collect(),
        privileged: containers
            .iter()
            .any(|c| c.container.security_context.as_ref().and_then(|s| s.privileged) == Some(true)),
        metadata: PodSandboxMetadata { name, uid, namespace, attempt },
    })
}

/// Makes cgroup, log directory and sandbox. The handler of a RuntimeClass is looked up here.
pub async fn sandbox(context: &Context, pod: &Pod, attempt: u32) -> Result<PodSandboxStatus, String> {
    let config = sandbox_config(context, pod, attempt)?;
    let handler = match pod.spec.as_ref().and_then(|s| s.runtime_class_name.as_deref()).filter(|n| !n.is_empty()) {
        None => String::new(),
        Some(name) => {
            let api = kube::Api::<k8s_openapi::api::node::v1::RuntimeClass>::all(context.client.clone());
            api.get(name).await.map_err(|e| crate::api_message(&e))?.handler
        }
    };
    let log_dir = config.log_directory.clone();
    let cgroup = context
        .cgroups
        .clone()
        .map(|m| (m, config.cgroup_parent.clone(), linux::for_pod(pod, context.options.pod_pids_max)));
    let made = tokio::task::spawn_blocking(move || -> Result<(), String> {
        std::fs::create_dir_all(&log_dir).map_err(|e| format!("failed to create log directory {log_dir}: {e}"))?;
        if let Some((manager, path, resources)) = cgroup {
            cgroup::ensure(&manager, &path, &resources).map_err(|e| format!("failed to create pod cgroup: {e}"))?;
        }
        Ok(())
    });
    made.await.map_err(|e| e.to_string())??;
    let id = context.runtime.run_pod_sandbox(&config, &handler).await.map_err(|e| e.to_string())?;
    context.registry.own_sandbox(&id, spec::uid(pod));
    context.runtime.pod_sandbox_status(&id).await.map_err(|e| e.to_string())
}
