//! Claims bound to `hostPath` and `local` volumes; generic ephemeral volumes are claims named after the pod.

use super::{Mounted, VolumeError, host_path, ownership};
use k8s_openapi::api::core::v1::{HostPathVolumeSource, PersistentVolume, PersistentVolumeClaim, Pod, Volume};
use kube::{Api, Client};
use std::collections::BTreeMap;
use std::path::Path;

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HostDirectory {
    pub path: String,
    pub host_path_type: Option<String>,
}

pub fn claim_name(pod: &Pod, volume: &Volume) -> Option<String> {
    if let Some(s) = &volume.persistent_volume_claim {
        return Some(s.claim_name.clone());
    }
    volume.ephemeral.as_ref().map(|_| format!("{}-{}", pod.metadata.name.as_deref().unwrap_or_default(), volume.name))
}

/// Looks up each claim and its volume.
pub async fn resolve(client: &Client, pod: &Pod) -> BTreeMap<String, Result<HostDirectory, String>> {
    let mut out = BTreeMap::new();
    for volume in pod.spec.iter().flat_map(|s| s.volumes.iter().flatten()) {
        let Some(claim) = claim_name(pod, volume) else {
            continue;
        };
        let found = lookup(client, pod, volume, &claim).await;
        out.insert(claim, found);
    }
    out
}

async fn lookup(client: &Client, pod: &Pod, volume: &Volume, claim: &str) -> Result<HostDirectory, String> {
    let namespace = pod.metadata.namespace.as_deref().unwrap_or("default");
    let claims = Api::<PersistentVolumeClaim>::namespaced(client.clone(), namespace);
    let object = claims.get_opt(claim).await.map_err(|e| crate::api_message(&e))?.ok_or("not found")?;
    if volume.ephemeral.is_some() {
        let uid = pod.metadata.uid.as_deref();
        if !object.metadata.owner_references.iter().flatten().any(|o| Some(o.uid.as_str()) == uid) {
            return Err("was not created for the pod (pod is not owner)".into());
        }
    }
    if object.status.as_ref().and_then(|s| s.phase.as_deref()) != Some("Bound") {
        return Err("is not bound yet".into());
    }
    let name = object.spec.and_then(|s| s.volume_name).filter(|n| !n.is_empty()).ok_or("is not bound yet")?;
    let volumes = Api::<PersistentVolume>::all(client.clone());
    let volume = volumes
        .get_opt(&name)
        .await
        .map_err(|e| crate::api_message(&e))?
        .ok_or_else(|| format!("persistentvolume \"{name}\" not found"))?;
    let spec = volume.spec.unwrap_or_default();
    if let Some(h) = spec.host_path {
        Ok(HostDirectory { path: h.path, host_path_type: h.type_ })
    } else if let Some(l) = spec.local {
        Ok(HostDirectory { path: l.path, host_path_type: Some("Directory".into()) })
    } else {
        Err(format!("persistentvolume \"{name}\" is of a kind that this node doesn't support"))
    }
}

pub fn set_up(directory: &HostDirectory, volume: &Volume, pod: &Pod) -> Result<Mounted, VolumeError> {
    let read_only = volume.persistent_volume_claim.as_ref().and_then(|c| c.read_only) == Some(true);
    let source = HostPathVolumeSource { path: directory.path.clone(), type_: directory.host_path_type.clone() };
    host_path::set_up(&source)?;
    let context = pod.spec.as_ref().and_then(|s| s.security_context.as_ref());
    if let (Some(group), false, Some("Directory")) =
        (context.and_then(|c| c.fs_group), read_only, directory.host_path_type.as_deref())
    {
        // Only local volumes: a hostPath keeps the owners that its administrator gave it.
        let policy = context.and_then(|c| c.fs_group_change_policy.as_deref()).unwrap_or("Always");
        ownership::apply(Path::new(&directory.path), group, false, policy)?;
    }
    Ok(Mounted::Path { host_path: directory.path.clone().into(), read_only })
}
