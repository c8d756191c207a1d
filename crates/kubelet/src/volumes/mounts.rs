//! A container's `volumeMounts` as mounts for the runtime.

use super::{Mounted, VolumeError, sub_path};
use crate::container::expansion::expand;
use cri::{Mount, MountPropagation};
use k8s_openapi::api::core::v1::Container;
use std::collections::BTreeMap;
use std::path::Path;

#[derive(Debug, thiserror::Error)]
pub enum MountError {
    #[error("volume \"{0}\" isn't set up")]
    NotSetUp(String),
    #[error("failed to prepare subPath for volumeMount \"{volume}\" of container \"{container}\": {source}")]
    SubPath { volume: String, container: String, source: VolumeError },
    #[error("image of volume \"{0}\" isn't present")]
    Image(String),
}

/// `images` maps references of image volumes to ids. Blocking: subPaths are bound on the way.
pub fn of_container(
    container: &Container,
    volumes: &BTreeMap<String, Mounted>,
    pod_dir: &Path,
    env: &[(String, String)],
    images: &BTreeMap<String, String>,
) -> Result<Vec<Mount>, MountError> {
    let mut out = Vec::new();
    for (index, m) in container.volume_mounts.iter().flatten().enumerate() {
        let mounted = volumes.get(&m.name).ok_or_else(|| MountError::NotSetUp(m.name.clone()))?;
        let sub = match m.sub_path_expr.as_deref().filter(|s| !s.is_empty()) {
            Some(expr) => expand(expr, |name| env.iter().find(|(n, _)| n == name).map(|(_, v)| v.clone())),
            None => m.sub_path.clone().unwrap_or_default(),
        };
        let container_path =
            if m.mount_path.starts_with('/') { m.mount_path.clone() } else { format!("/{}", m.mount_path) };
        let mut mount = Mount {
            container_path,
            readonly: m.read_only == Some(true),
            recursive_read_only: matches!(m.recursive_read_only.as_deref(), Some("Enabled" | "IfPossible")),
            propagation: match m.mount_propagation.as_deref() {
                Some("HostToContainer") => MountPropagation::HostToContainer,
                Some("Bidirectional") => MountPropagation::Bidirectional,
                _ => MountPropagation::Private,
            },
            ..Default::default()
        };
        match mounted {
            Mounted::Image { reference } => {
                mount.image = Some(images.get(reference).cloned().ok_or_else(|| MountError::Image(m.name.clone()))?);
                mount.image_sub_path = sub;
                mount.readonly = true;
            }
            Mounted::Path { host_path, read_only } => {
                mount.readonly |= read_only;
                let path = if sub.is_empty() {
                    host_path.clone()
                } else {
                    sub_path::bind(pod_dir, &m.name, host_path, &container.name, index, &sub).map_err(|source| {
                        MountError::SubPath { volume: m.name.clone(), container: container.name.clone(), source }
                    })?
                };
                mount.host_path = path.to_string_lossy().into_owned();
            }
        }
        out.push(mount);
    }
    Ok(out)
}
