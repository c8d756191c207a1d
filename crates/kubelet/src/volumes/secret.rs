//! `secret` volumes, and the same source within projected volumes.

use super::{Payload, VolumeError, config_map::select};
use crate::objects::Resolved;
use k8s_openapi::api::core::v1::{KeyToPath, SecretVolumeSource};

const DEFAULT_MODE: i32 = 0o644;

pub fn payload(source: &SecretVolumeSource, objects: &Resolved) -> Result<Payload, VolumeError> {
    project(
        source.secret_name.as_deref().unwrap_or_default(),
        source.items.as_deref(),
        source.default_mode,
        source.optional == Some(true),
        objects,
    )
}

pub fn project(
    name: &str,
    items: Option<&[KeyToPath]>,
    default_mode: Option<i32>,
    optional: bool,
    objects: &Resolved,
) -> Result<Payload, VolumeError> {
    let Some(secret) = objects.secrets.get(name) else {
        return if optional { Ok(Payload::new()) } else { Err(VolumeError::SecretMissing(name.to_owned())) };
    };
    let get = |key: &str| secret.data.as_ref().and_then(|d| d.get(key)).map(|v| v.0.clone());
    select(
        secret.data.iter().flat_map(|d| d.keys()),
        items,
        default_mode.unwrap_or(DEFAULT_MODE),
        optional,
        get,
        VolumeError::SecretKeyMissing,
    )
}
