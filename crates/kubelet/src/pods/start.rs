//! Starting one container: configuration, creation, start. Each failure has upstream's reason.

use super::context::Context;
use super::prepare;
use super::spec::{self, ContainerSpec};
use crate::container::{config, env, hostname, hosts, security, service_env, termination_message};
use crate::events::{Severity, pod_reference};
use crate::resources::linux;
use crate::volumes::{Mounted, mounts};
use cri::{ContainerStatus, Device, Image, PodSandboxStatus};
use k8s_openapi::api::core::v1::Pod;
use std::collections::BTreeMap;
use std::sync::Arc;

pub struct Request {
    pub pod: Arc<Pod>,
    pub spec: ContainerSpec,
    pub attempt: u32,
    pub crash_backoff: String,
    pub image: Image,
    pub sandbox: PodSandboxStatus,
    pub volumes: Arc<BTreeMap<String, Mounted>>,
    /// Of an ephemeral container.
    pub target_container_id: Option<String>,
}

#[derive(Clone, Debug)]
pub struct StartError {
    pub reason: &'static str,
    pub message: String,
    /// What the runtime kept of the attempt.
    pub container: Option<Box<ContainerStatus>>,
}

fn refused(reason: &'static str, message: impl ToString) -> StartError {
    StartError { reason, message: message.to_string(), container: None }
}

pub async fn start(context: &Context, r: &Request) -> Result<(ContainerStatus, cri::LinuxResources), StartError> {
    let result = try_start(context, r).await;
    if let Err(error) = &result {
        context.recorder.record(
            pod_reference(&r.pod, Some(r.spec.field_path())),
            Severity::Warning,
            "Failed",
            format!("Error: {}", error.message),
        );
    }
    result
}

async fn try_start(context: &Context, r: &Request) -> Result<(ContainerStatus, cri::LinuxResources), StartError> {
    const CONFIG: &str = "CreateContainerConfigError";
    let pod = &*r.pod;
    let uid = spec::uid(pod);
    let pod_dir = context.options.pod_dir(uid);
    let pod_spec = pod.spec.clone().unwrap_or_default();
    let namespace = pod.metadata.namespace.clone().unwrap_or_default();

    let objects = context.objects.snapshot(uid).await;
    objects.complete().map_err(|e| refused(CONFIG, e))?;
    let services = context.services.all().await.map_err(|e| refused(CONFIG, e))?;
    let services = service_env::variables(&services, &namespace, pod_spec.enable_service_links != Some(false));
    let downward = prepare::downward(context, pod, Some(&r.sandbox));
    let pod_ips = downward.pod_ips.clone();
    let env =
        env::environment(pod, &r.spec.container, &objects, &services, &downward).map_err(|e| refused(CONFIG, e))?;
    let seccomp_root = context.options.root_dir.join("seccomp");
    let mut security = security::context(pod, &r.spec.container, &r.image, &[], &seccomp_root.to_string_lossy())
        .map_err(|e| refused(CONFIG, e))?;
    security.target_container_id = r.target_container_id.clone();
    let names = hostname::names(pod, &context.options.cluster_domain).map_err(|e| refused(CONFIG, e))?;
    let images = image_volumes(context, pod, &r.volumes).await?;

    // The files that this container alone gets; on a blocking thread, since subPaths are mounted on the way.
    let (spec, volumes, attempt, env_of_mounts) = (r.spec.clone(), r.volumes.clone(), r.attempt, env.clone());
    let host_network = spec::is_host_network(pod);
    let aliases = pod_spec.host_aliases.clone().unwrap_or_default();
    let dir = pod_dir.clone();
    let files = tokio::task::spawn_blocking(move || -> Result<Vec<cri::Mount>, String> {
        let mut mounts = mounts::of_container(&spec.container, &volumes, &dir, &env_of_mounts, &images)
            .map_err(|e| e.to_string())?;
        let hosts_file = dir.join("etc-hosts");
        let text = if host_network {
            hosts::of_node(&std::fs::read_to_string("/etc/hosts").unwrap_or_default(), &aliases)
        } else {
            hosts::managed(&pod_ips, &names.hostname, &names.domain, &aliases)
        };
        std::fs::create_dir_all(&dir)
            .and_then(|()| write_if_changed(&hosts_file, &text))
            .map_err(|e| format!("write {}: {e}", hosts_file.display()))?;
        let message_file = termination_message::file(&dir, spec.name(), attempt);
        let make_message = || -> std::io::Result<()> {
            use std::os::unix::fs::PermissionsExt;
            if let Some(parent) = message_file.parent() {
                std::fs::create_dir_all(parent)?;
            }
            std::fs::write(&message_file, "")?;
            // Whatever user the container runs as must be able to write it.
            std::fs::set_permissions(&message_file, std::fs::Permissions::from_mode(0o666))
        };
        make_message().map_err(|e| format!("write {}: {e}", message_file.display()))?;
        config::own_mounts(&spec, &mut mounts, &message_file, &hosts_file);
        Ok(mounts)
    });
    let mounts = files.await.map_err(|e| refused("CreateContainerError", e))?.map_err(|e| refused(CONFIG, e))?;

    let resources = linux::for_container(pod, &r.spec.container, context.machine.memory_bytes);
    let parts = config::Parts {
        attempt: r.attempt,
        crash_backoff: r.crash_backoff.clone(),
        image: r.image.clone(),
        env,
        mounts,
        devices: Vec::<Device>::new(),
        security,
        resources: resources.clone(),
    };
    let config = config::build(pod, &r.spec, parts);
    let object = pod_reference(pod, Some(r.spec.field_path()));
    let id = context
        .runtime
        .create_container(&r.sandbox.id, &config)
        .await
        .map_err(|e| refused("CreateContainerError", e))?;
    context.recorder.record(
        object.clone(),
        Severity::Normal,
        "Created",
        format!("Created container: {}", r.spec.name()),
    );
    if let Err(error) = context.runtime.start_container(&id).await {
        let container = context.runtime.container_status(&id).await.ok().map(Box::new);
        return Err(StartError { reason: "RunContainerError", message: error.to_string(), container });
    }
    context.recorder.record(object, Severity::Normal, "Started", format!("Started container {}", r.spec.name()));
    let status = context.runtime.container_status(&id).await.map_err(|e| refused("RunContainerError", e))?;
    Ok((status, resources))
}

async fn image_volumes(
    context: &Context,
    pod: &Pod,
    volumes: &BTreeMap<String, Mounted>,
) -> Result<BTreeMap<String, String>, StartError> {
    let mut out = BTreeMap::new();
    for (name, mounted) in volumes {
        let Mounted::Image { reference } = mounted else {
            continue;
        };
        let source = pod
            .spec
            .iter()
            .flat_map(|s| s.volumes.iter().flatten())
            .find(|v| v.name == *name)
            .and_then(|v| v.image.as_ref());
        let policy = source.and_then(|s| s.pull_policy.clone());
        let object = pod_reference(pod, Some(format!("spec.volumes{{{name}}}")));
        let found = context
            .images
            .ensure(
                spec::uid(pod),
                reference,
                policy.as_deref(),
                async || credentials(context, pod, reference).await,
                &object,
            )
            .await;
        let image =
            found.map_err(|e| refused("CreateContainerError", format!("image volume \"{name}\": {}", e.message)))?;
        out.insert(reference.clone(), image.id);
    }
    Ok(out)
}

/// From the pod's pull secrets, then from those of its service account.
pub async fn credentials(context: &Context, pod: &Pod, image: &str) -> Vec<cri::AuthConfig> {
    let Some(pod_spec) = &pod.spec else {
        return Vec::new();
    };
    let objects = context.objects.snapshot(spec::uid(pod)).await;
    let names: std::collections::BTreeSet<String> =
        pod_spec.image_pull_secrets.iter().flatten().map(|r| r.name.clone()).collect();
    let missing: Vec<&str> = names.iter().filter(|n| !objects.secrets.contains_key(*n)).map(String::as_str).collect();
    if !missing.is_empty() {
        let message = format!(
            "Unable to retrieve some image pull secrets ({}); attempting to pull the image may not succeed.",
            missing.join(", ")
        );
        context.recorder.record(
            pod_reference(pod, None),
            Severity::Warning,
            "FailedToRetrieveImagePullSecret",
            message,
        );
    }
    let mut out: Vec<_> = names
        .iter()
        .filter_map(|n| objects.secrets.get(n))
        .flat_map(|s| crate::images::credentials::matching(s, image))
        .collect();
    // The service account's secrets are merged into the pod on admission; without that they are looked up here.
    if names.is_empty() {
        let account = pod_spec.service_account_name.as_deref().filter(|n| !n.is_empty()).unwrap_or("default");
        let namespace = pod.metadata.namespace.as_deref().unwrap_or("default");
        for secret in crate::images::credentials::of_service_account(&context.client, namespace, account, &names).await
        {
            out.extend(crate::images::credentials::matching(&secret, image));
        }
    }
    out
}

/// In place, because running containers have the file itself mounted.
fn write_if_changed(path: &std::path::Path, text: &str) -> std::io::Result<()> {
    if std::fs::read_to_string(path).is_ok_and(|old| old == text) { Ok(()) } else { std::fs::write(path, text) }
}
