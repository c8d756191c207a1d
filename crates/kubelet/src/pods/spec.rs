//! Reading a pod's spec: its containers by kind and what each one's restart policy says.

use crate::objects::ephemeral_as_container;
use k8s_openapi::api::core::v1::{Container, Pod};

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Kind {
    Init,
    /// An init container with restartPolicy `Always`.
    Sidecar,
    Main,
    Ephemeral,
}

#[derive(Clone, Debug)]
pub struct ContainerSpec {
    pub kind: Kind,
    pub container: Container,
    /// Name of the container whose processes an ephemeral one wants to see.
    pub target: Option<String>,
}

impl ContainerSpec {
    pub fn name(&self) -> &str {
        &self.container.name
    }

    /// As events name it.
    pub fn field_path(&self) -> String {
        let list = match self.kind {
            Kind::Init | Kind::Sidecar => "initContainers",
            Kind::Main => "containers",
            Kind::Ephemeral => "ephemeralContainers",
        };
        format!("spec.{list}{{{}}}", self.container.name)
    }

    /// A change of it means a new container.
    pub fn hash(&self) -> String {
        crate::labels::hash(&[&self.container.name, self.container.image.as_deref().unwrap_or_default()])
    }
}

/// All containers: init (with sidecars, in order), main, ephemeral.
pub fn containers(pod: &Pod) -> Vec<ContainerSpec> {
    let Some(spec) = &pod.spec else {
        return Vec::new();
    };
    let init = spec.init_containers.iter().flatten().map(|c| ContainerSpec {
        kind: if c.restart_policy.as_deref() == Some("Always") { Kind::Sidecar } else { Kind::Init },
        container: c.clone(),
        target: None,
    });
    let main = spec.containers.iter().map(|c| ContainerSpec { kind: Kind::Main, container: c.clone(), target: None });
    let ephemeral = spec.ephemeral_containers.iter().flatten().map(|e| ContainerSpec {
        kind: Kind::Ephemeral,
        container: ephemeral_as_container(e),
        target: e.target_container_name.clone().filter(|n| !n.is_empty()),
    });
    init.chain(main).chain(ephemeral).collect()
}

pub fn restart_policy(pod: &Pod) -> &str {
    pod.spec.as_ref().and_then(|s| s.restart_policy.as_deref()).unwrap_or("Always")
}

/// Whether a container that ended with `exit_code` is to be started again. Rules of the container come first, then its
/// own policy, then the pod's.
pub fn restarts(pod: &Pod, spec: &ContainerSpec, exit_code: i32) -> bool {
    for rule in spec.container.restart_policy_rules.iter().flatten() {
        let Some(codes) = &rule.exit_codes else {
            continue;
        };
        let listed = codes.values.iter().flatten().any(|v| *v == exit_code);
        if rule.action == "Restart" && listed == (codes.operator == "In") {
            return true;
        }
    }
    let policy = match spec.kind {
        Kind::Ephemeral => "Never",
        Kind::Sidecar => "Always",
        // "Always" would repeat what has succeeded; a pod that restarts always retries a failed init container.
        Kind::Init => match spec.container.restart_policy.as_deref().unwrap_or(restart_policy(pod)) {
            "Never" => "Never",
            _ => "OnFailure",
        },
        Kind::Main => spec.container.restart_policy.as_deref().unwrap_or(restart_policy(pod)),
    };
    match policy {
        "Never" => false,
        "OnFailure" => exit_code != 0,
        _ => true,
    }
}

/// Seconds.
pub fn grace_period(pod: &Pod) -> i64 {
    let own = pod.spec.as_ref().and_then(|s| s.termination_grace_period_seconds).unwrap_or(30);
    match pod.metadata.deletion_timestamp {
        Some(_) => pod.metadata.deletion_grace_period_seconds.unwrap_or(own),
        None => own,
    }
}

pub fn is_host_network(pod: &Pod) -> bool {
    pod.spec.as_ref().and_then(|s| s.host_network) == Some(true)
}

/// `name_namespace(uid)`, as upstream's texts name a pod.
pub fn long_name(pod: &Pod) -> String {
    let m = &pod.metadata;
    format!(
        "{}_{}({})",
        m.name.as_deref().unwrap_or_default(),
        m.namespace.as_deref().unwrap_or_default(),
        m.uid.as_deref().unwrap_or_default()
    )
}

pub fn uid(pod: &Pod) -> &str {
    pod.metadata.uid.as_deref().unwrap_or_default()
}

pub fn phase(pod: &Pod) -> &str {
    pod.status.as_ref().and_then(|s| s.phase.as_deref()).unwrap_or("Pending")
}

pub fn is_terminal(pod: &Pod) -> bool {
    matches!(phase(pod), "Succeeded" | "Failed")
}
