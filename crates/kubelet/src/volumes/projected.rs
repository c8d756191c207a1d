//! `projected` volumes: several sources in one directory. A later source wins where paths meet.

use super::{
    FileEntry, Payload, Sources, VolumeError, checked_path, cluster_trust_bundle, config_map, downward_api, secret,
};
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
    for (i, s) in source.sources.iter().flatten().enumerate() {
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
        } else if let Some(s) = &s.cluster_trust_bundle {
            let mode = mode.unwrap_or(DEFAULT_MODE) as u32;
            out.extend(cluster_trust_bundle::payload(s, mode, &sources.objects)?);
        } else if let Some(s) = &s.pod_certificate {
            let issued = sources
                .certificates
                .get(&(volume.to_owned(), i))
                .ok_or_else(|| VolumeError::Certificate("credential bundle is not issued yet".into()))?;
            let mode = mode.unwrap_or(DEFAULT_MODE) as u32;
            let (key, chain) = (&issued.key_pem, &issued.chain_pem);
            for (path, data) in [
                (&s.credential_bundle_path, format!("{key}{chain}")),
                (&s.key_path, key.clone()),
                (&s.certificate_chain_path, chain.clone()),
            ] {
                if let Some(path) = path.as_deref().filter(|p| !p.is_empty()) {
                    out.insert(checked_path(path)?.to_owned(), FileEntry { data: data.into_bytes(), mode });
                }
            }
        }
    }
    Ok(out)
}
