//! `downwardAPI` volumes: the pod's own fields as files.

use super::{FileEntry, Payload, VolumeError, checked_path};
use crate::container::env::{self, Downward, EnvError};
use k8s_openapi::api::core::v1::{DownwardAPIVolumeFile, Pod};

const DEFAULT_MODE: i32 = 0o644;

pub fn payload(
    pod: &Pod,
    items: &[DownwardAPIVolumeFile],
    default_mode: Option<i32>,
    downward: &Downward,
) -> Result<Payload, VolumeError> {
    let mut out = Payload::new();
    for item in items {
        let data = if let Some(field) = &item.field_ref {
            env::metadata_field(pod, &field.field_path)?
        } else if let Some(r) = &item.resource_field_ref {
            let name = r.container_name.as_deref().unwrap_or_default();
            let container = pod
                .spec
                .iter()
                .flat_map(|s| s.init_containers.iter().flatten().chain(&s.containers))
                .find(|c| c.name == name)
                .ok_or_else(|| EnvError::Resource(format!("container {name} not found")))?;
            env::resource(pod, container, r, downward)?
        } else {
            continue;
        };
        let mode = item.mode.or(default_mode).unwrap_or(DEFAULT_MODE) as u32;
        out.insert(checked_path(&item.path)?.to_owned(), FileEntry { data: data.into_bytes(), mode });
    }
    Ok(out)
}
