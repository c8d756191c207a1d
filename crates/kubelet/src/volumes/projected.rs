//! `projected` volumes: several sources in one directory. A later source wins where paths meet.

use super::{FileEntry, Payload, Sources, VolumeError, checked_path, config_map, downward_api, secret};
use k8s_openapi::api::core::v1::{Pod, ProjectedVolumeSource};

const DEFAULT_MODE: i32 = 0o644;

pub fn payload(
    pod: &Pod,
    volume: &str,
    source: &ProjectedVolumeSource,
    sources: &Sources,
) -> Result<Payload, VolumeError> {
    let mode = source.default_mode.or(Some(DEFAULT_MODE));
    let mut out = Payload::new();
    for s in source.sources.iter().flatten() {
        if let Some(s) = &s.config_map {
            out.extend(config_map::project(
                &s.name,
                s.items.as_deref(),
                mode,
                s.optional == Some(true),
                &sources.objects,
            )?);
        } else if let Some(s) = &s.secret {
            out.extend(secret::project(&s.name, s.items.as_deref(), mode, s.optional == Some(true), &sources.objects)?);
        } else if let Some(s) = &s.downward_api {
            out.extend(downward_api::payload(pod, s.items.as_deref().unwrap_or_default(), mode, &sources.downward)?);
        } else if let Some(s) = &s.service_account_token {
            let key = (volume.to_owned(), s.path.clone());
            let token = sources.tokens.get(&key).ok_or_else(|| VolumeError::Token("no token was issued".into()))?;
            let mode = mode.unwrap_or(DEFAULT_MODE) as u32;
            out.insert(checked_path(&s.path)?.to_owned(), FileEntry { data: token.clone().into_bytes(), mode });
        } else if s.cluster_trust_bundle.is_some() {
            return Err(VolumeError::Unsupported("clusterTrustBundle"));
        } else if s.pod_certificate.is_some() {
            return Err(VolumeError::Unsupported("podCertificate"));
        }
    }
    Ok(out)
}
