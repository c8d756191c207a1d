//! Everything together: a container of the spec as the runtime's `ContainerConfig`. Pure.

use crate::labels;
use crate::pods::spec::{self, ContainerSpec};
use cri::{ContainerConfig, ContainerMetadata, Device, Image, LinuxResources, Mount, SecurityContext};
use k8s_openapi::api::core::v1::Pod;
use std::path::Path;

pub struct Parts {
    pub attempt: u32,
    /// See [`crate::pods::backoff::CrashBackoff::annotation`].
    pub crash_backoff: String,
    pub image: Image,
    pub env: Vec<(String, String)>,
    pub mounts: Vec<Mount>,
    pub devices: Vec<Device>,
    pub security: SecurityContext,
    pub resources: LinuxResources,
}

/// Below the pod's log directory.
pub fn log_path(container: &str, attempt: u32) -> String {
    format!("{container}/{attempt}.log")
}

pub fn build(pod: &Pod, spec: &ContainerSpec, parts: Parts) -> ContainerConfig {
    let c = &spec.container;
    let m = &pod.metadata;
    let name = spec.name().to_owned();
    let labels = [
        (labels::POD_NAME, m.name.clone()),
        (labels::POD_NAMESPACE, m.namespace.clone()),
        (labels::POD_UID, m.uid.clone()),
        (labels::CONTAINER_NAME, Some(name.clone())),
    ];
    let annotations = [
        (labels::CONTAINER_HASH, spec.hash()),
        (labels::RESTART_COUNT, parts.attempt.to_string()),
        (labels::CRASH_BACKOFF, parts.crash_backoff),
        (labels::TERMINATION_MESSAGE_PATH, message_path(spec).to_owned()),
        (labels::TERMINATION_MESSAGE_POLICY, c.termination_message_policy.clone().unwrap_or_else(|| "File".into())),
        (labels::TERMINATION_GRACE_PERIOD, spec::grace_period(pod).to_string()),
    ];
    ContainerConfig {
        metadata: ContainerMetadata { name: name.clone(), attempt: parts.attempt },
        image: parts.image.id,
        user_specified_image: c.image.clone().unwrap_or_default(),
        command: super::env::expand_all(c.command.as_ref(), &parts.env),
        args: super::env::expand_all(c.args.as_ref(), &parts.env),
        working_dir: c.working_dir.clone().unwrap_or_default(),
        envs: parts.env,
        mounts: parts.mounts,
        devices: parts.devices,
        labels: labels.into_iter().map(|(k, v)| (k.to_owned(), v.unwrap_or_default())).collect(),
        annotations: annotations.into_iter().map(|(k, v)| (k.to_owned(), v)).collect(),
        log_path: log_path(&name, parts.attempt),
        stdin: c.stdin == Some(true),
        stdin_once: c.stdin_once == Some(true),
        tty: c.tty == Some(true),
        resources: parts.resources,
        security: parts.security,
        stop_signal: c.lifecycle.as_ref().and_then(|l| l.stop_signal.clone()),
    }
}

pub fn message_path(spec: &ContainerSpec) -> &str {
    spec.container.termination_message_path.as_deref().filter(|p| !p.is_empty()).unwrap_or("/dev/termination-log")
}

/// Files that the kubelet itself gives every container: last words, and `/etc/hosts` unless the user mounts one there.
pub fn own_mounts(spec: &ContainerSpec, mounts: &mut Vec<Mount>, message_file: &Path, hosts_file: &Path) {
    let taken = |path: &str, mounts: &[Mount]| mounts.iter().any(|m| m.container_path.trim_end_matches('/') == path);
    let read_only_root =
        spec.container.security_context.as_ref().and_then(|s| s.read_only_root_filesystem) == Some(true);
    if !taken("/etc/hosts", mounts) {
        mounts.push(Mount {
            container_path: "/etc/hosts".into(),
            host_path: hosts_file.to_string_lossy().into_owned(),
            readonly: read_only_root,
            ..Default::default()
        });
    }
    let path = message_path(spec);
    if !taken(path, mounts) {
        mounts.push(Mount {
            container_path: path.to_owned(),
            host_path: message_file.to_string_lossy().into_owned(),
            ..Default::default()
        });
    }
}
