//! Pod and container security context, merged into what the runtime enforces.

use cri::{Image, NamespaceMode, NamespaceOptions, SecurityContext, SecurityProfile};
use k8s_openapi::api::core::v1::{Container, Pod, SeccompProfile};

/// Becomes the message of `CreateContainerConfigError`.
pub type Refused = String;

pub fn namespaces(pod: &Pod) -> NamespaceOptions {
    let spec = pod.spec.as_ref();
    let on = |f: fn(&k8s_openapi::api::core::v1::PodSpec) -> Option<bool>| spec.and_then(f) == Some(true);
    NamespaceOptions {
        network: if on(|s| s.host_network) { NamespaceMode::Node } else { NamespaceMode::Pod },
        ipc: if on(|s| s.host_ipc) { NamespaceMode::Node } else { NamespaceMode::Pod },
        pid: if on(|s| s.host_pid) {
            NamespaceMode::Node
        } else if on(|s| s.share_process_namespace) {
            NamespaceMode::Pod
        } else {
            NamespaceMode::Container
        },
    }
}

/// `extra_groups` come from volumes. `seccomp_root` holds `Localhost` profiles.
pub fn context(
    pod: &Pod,
    container: &Container,
    image: &Image,
    extra_groups: &[i64],
    seccomp_root: &str,
) -> Result<SecurityContext, Refused> {
    let p = pod.spec.as_ref().and_then(|s| s.security_context.as_ref());
    let c = container.security_context.as_ref();
    let privileged = c.and_then(|c| c.privileged) == Some(true);
    let caps = c.and_then(|c| c.capabilities.as_ref());
    let mut out = SecurityContext {
        privileged,
        add_capabilities: caps.and_then(|c| c.add.clone()).unwrap_or_default(),
        drop_capabilities: caps.and_then(|c| c.drop.clone()).unwrap_or_default(),
        namespaces: namespaces(pod),
        run_as_user: c.and_then(|c| c.run_as_user).or(p.and_then(|p| p.run_as_user)),
        run_as_group: c.and_then(|c| c.run_as_group).or(p.and_then(|p| p.run_as_group)),
        readonly_rootfs: c.and_then(|c| c.read_only_root_filesystem) == Some(true),
        no_new_privs: c.and_then(|c| c.allow_privilege_escalation) == Some(false),
        supplemental_groups_strict: p.and_then(|p| p.supplemental_groups_policy.as_deref()) == Some("Strict"),
        unmasked_proc: c.and_then(|c| c.proc_mount.as_deref()) == Some("Unmasked"),
        ..Default::default()
    };
    out.supplemental_groups.extend(p.and_then(|p| p.supplemental_groups.clone()).into_iter().flatten());
    out.supplemental_groups.extend(p.and_then(|p| p.fs_group));
    out.supplemental_groups.extend(extra_groups);

    let pod_name = || {
        format!(
            "{}_{}({})",
            pod.metadata.name.as_deref().unwrap_or(""),
            pod.metadata.namespace.as_deref().unwrap_or(""),
            pod.metadata.uid.as_deref().unwrap_or("")
        )
    };
    if c.and_then(|c| c.run_as_non_root).or(p.and_then(|p| p.run_as_non_root)) == Some(true) {
        match (out.run_as_user, image.uid, image.username.as_str()) {
            (Some(0), ..) => {
                return Err(format!(
                    "container's runAsUser breaks non-root policy (pod: \"{}\", container: {})",
                    pod_name(),
                    container.name
                ));
            }
            (Some(_), ..) => {}
            (None, Some(0), _) => {
                return Err(format!(
                    "container has runAsNonRoot and image will run as root (pod: \"{}\", container: {})",
                    pod_name(),
                    container.name
                ));
            }
            (None, Some(_), _) => {}
            (None, None, "") => {
                return Err(format!(
                    "container has runAsNonRoot and image will run as root (pod: \"{}\", container: {})",
                    pod_name(),
                    container.name
                ));
            }
            (None, None, name) => {
                return Err(format!(
                    "container has runAsNonRoot and image has non-numeric user ({name}), cannot verify user is non-root (pod: \"{}\", container: {})",
                    pod_name(),
                    container.name
                ));
            }
        }
    }
    if out.run_as_user.is_none() {
        match image.uid {
            Some(uid) => out.run_as_user = Some(uid),
            None => out.run_as_username = image.username.clone(),
        }
    }
    if !privileged {
        out.seccomp = seccomp(
            c.and_then(|c| c.seccomp_profile.as_ref()).or(p.and_then(|p| p.seccomp_profile.as_ref())),
            seccomp_root,
        );
        let apparmor = c.and_then(|c| c.app_armor_profile.as_ref()).or(p.and_then(|p| p.app_armor_profile.as_ref()));
        out.apparmor = match apparmor {
            None => SecurityProfile::RuntimeDefault,
            Some(a) => match a.type_.as_str() {
                "RuntimeDefault" => SecurityProfile::RuntimeDefault,
                "Localhost" => SecurityProfile::Localhost(a.localhost_profile.clone().unwrap_or_default()),
                _ => SecurityProfile::Unconfined,
            },
        };
    }
    Ok(out)
}

fn seccomp(profile: Option<&SeccompProfile>, root: &str) -> SecurityProfile {
    match profile.map(|p| p.type_.as_str()) {
        Some("RuntimeDefault") => SecurityProfile::RuntimeDefault,
        Some("Localhost") => SecurityProfile::Localhost(format!(
            "{root}/{}",
            profile.and_then(|p| p.localhost_profile.as_deref()).unwrap_or_default()
        )),
        _ => SecurityProfile::Unconfined,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn check(
        pod_context: serde_json::Value,
        container_context: serde_json::Value,
        image: Image,
    ) -> Result<SecurityContext, Refused> {
        let pod: Pod = serde_json::from_value(json!({
            "metadata": {"name": "p", "namespace": "ns", "uid": "u"},
            "spec": {"securityContext": pod_context, "containers": [{"name": "c", "securityContext": container_context}]}
        }))
        .unwrap();
        context(&pod, &pod.spec.as_ref().unwrap().containers[0], &image, &[9], "/seccomp")
    }

    #[test]
    fn merging() {
        let got = check(
            json!({"runAsUser": 1, "runAsGroup": 2, "fsGroup": 3, "supplementalGroups": [4], "seccompProfile": {"type": "RuntimeDefault"}}),
            json!({"runAsUser": 7, "allowPrivilegeEscalation": false, "capabilities": {"drop": ["ALL"]}, "seccompProfile": {"type": "Localhost", "localhostProfile": "x.json"}}),
            Image::default(),
        )
        .unwrap();
        assert_eq!(
            (got.run_as_user, got.run_as_group, got.supplemental_groups.as_slice()),
            (Some(7), Some(2), &[4, 3, 9][..])
        );
        assert!(got.no_new_privs && got.drop_capabilities == ["ALL"]);
        assert_eq!(got.seccomp, SecurityProfile::Localhost("/seccomp/x.json".into()));
        let got = check(json!({}), json!({}), Image { username: "nginx".into(), ..Default::default() }).unwrap();
        assert_eq!((got.run_as_user, got.run_as_username.as_str()), (None, "nginx"));
    }

    #[test]
    fn non_root() {
        let refused = |user: serde_json::Value, image: Image| {
            check(json!({"runAsNonRoot": true, "runAsUser": user}), json!({}), image).err()
        };
        assert_eq!(refused(json!(5), Image::default()), None);
        assert_eq!(
            refused(json!(0), Image::default()).unwrap(),
            "container's runAsUser breaks non-root policy (pod: \"p_ns(u)\", container: c)"
        );
        assert_eq!(
            refused(json!(null), Image::default()).unwrap(),
            "container has runAsNonRoot and image will run as root (pod: \"p_ns(u)\", container: c)"
        );
        assert!(
            refused(json!(null), Image { username: "web".into(), ..Default::default() })
                .unwrap()
                .contains("non-numeric user (web)")
        );
        assert_eq!(refused(json!(null), Image { uid: Some(33), ..Default::default() }), None);
    }
}
