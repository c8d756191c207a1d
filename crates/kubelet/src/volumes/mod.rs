//! A pod's volumes: one file per kind. Each turns its part of the spec into a directory (or file, or image) on the
//! host, from which [`mounts`] makes the containers' mounts.
//!
//! In: the pod, the objects it refers to, tokens, resolved claims. Out: a host path for each volume. Setting up again
//! is how a change of a ConfigMap, Secret, label or token arrives in a running container: it writes only what differs.
//! A volume that fails holds up no other one: a running pod's token must not expire because a ConfigMap was deleted.

pub mod atomic_writer;
pub mod cluster_trust_bundle;
pub mod config_map;
pub mod downward_api;
pub mod empty_dir;
pub mod host_path;
pub mod mounts;
pub mod ownership;
pub mod persistent_volume_claim;
pub mod pod_certificate;
pub mod projected;
pub mod secret;
pub mod sub_path;
pub mod teardown;
pub mod token;

use crate::container::env::{Downward, EnvError};
use crate::objects::Resolved;
use k8s_openapi::api::core::v1::{Pod, Volume};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

/// The texts stand behind `MountVolume.SetUp failed for volume "x" : ` in an event.
#[derive(Debug, thiserror::Error)]
pub enum VolumeError {
    #[error("configmap \"{0}\" not found")]
    ConfigMapMissing(String),
    #[error("secret \"{0}\" not found")]
    SecretMissing(String),
    #[error("references non-existent config key: {0}")]
    ConfigKeyMissing(String),
    #[error("references non-existent secret key: {0}")]
    SecretKeyMissing(String),
    #[error(transparent)]
    Downward(#[from] EnvError),
    #[error("hostPath type check failed: {path} is not {wanted}")]
    HostPathType { path: String, wanted: &'static str },
    #[error("persistentvolumeclaim \"{claim}\": {reason}")]
    Claim { claim: String, reason: String },
    #[error("failed to fetch token: {0}")]
    Token(String),
    #[error("{0}")]
    TrustBundle(String),
    #[error("{0}")]
    Certificate(String),
    #[error("{0}")]
    Unanswered(String),
    #[error("invalid path {0:?}: must be relative and stay within the volume")]
    Path(String),
    #[error("volumes of this kind aren't supported by this node: {0}")]
    Unsupported(&'static str),
    #[error("{step} {path}: {source}")]
    Io { step: &'static str, path: PathBuf, source: std::io::Error },
}

pub(crate) fn io(step: &'static str, path: &Path) -> impl FnOnce(std::io::Error) -> VolumeError {
    let path = path.to_owned();
    move |source| VolumeError::Io { step, path, source }
}

/// What the volume's set-up made.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Mounted {
    Path {
        host_path: PathBuf,
        read_only: bool,
    },
    /// Mounted by the runtime; the id is resolved when the container starts.
    Image {
        reference: String,
    },
}

/// One file of a volume that is made of API data.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FileEntry {
    pub data: Vec<u8>,
    /// Permission bits.
    pub mode: u32,
}

/// Path within the volume → file.
pub type Payload = BTreeMap<String, FileEntry>;

/// What the API gave to a pod's volumes, for a time.
#[derive(Clone, Debug, Default)]
pub struct Credentials {
    pub tokens: token::Tokens,
    pub certificates: pod_certificate::Certificates,
}

impl Credentials {
    /// When the first of them is to be renewed.
    pub fn refresh_at(&self) -> Option<jiff::Timestamp> {
        let certificates = self.certificates.values().filter_map(|r| r.issued.as_ref()).map(|i| i.refresh_at);
        self.tokens.values().map(|t| t.refresh_at).chain(certificates).min()
    }
}

/// As much as those who check tokens forgive.
const CLOCKS_DIFFER: jiff::SignedDuration = jiff::SignedDuration::from_secs(60);

/// Whether to renew what was issued: by its age, or because the clock was set back. Nobody takes what comes from the
/// future.
fn is_due(issued_at: jiff::Timestamp, refresh_at: jiff::Timestamp, now: jiff::Timestamp) -> bool {
    refresh_at <= now || issued_at.duration_since(now) > CLOCKS_DIFFER
}

/// Everything that set-up reads, gathered beforehand, so that it needs no API call itself.
#[derive(Clone, Debug, Default)]
pub struct Sources {
    pub objects: Resolved,
    pub downward: Downward,
    /// (volume, path) → token.
    pub tokens: BTreeMap<(String, String), String>,
    /// (volume, index of the source) → key and chain.
    pub certificates: BTreeMap<(String, usize), pod_certificate::Issued>,
    /// Claim name → directory on the host, or why there is none.
    pub claims: BTreeMap<String, Result<persistent_volume_claim::HostDirectory, String>>,
}

pub fn directory(pod_dir: &Path, kind: &str, volume: &str) -> PathBuf {
    pod_dir.join("volumes").join(format!("kubernetes.io~{kind}")).join(volume)
}

/// Names the volume that failed.
#[derive(Debug, thiserror::Error)]
#[error("MountVolume.SetUp failed for volume \"{volume}\" : {source}")]
pub struct SetUpError {
    pub volume: String,
    pub source: VolumeError,
}

/// Sets up all that can be, and gives the first error beside it. Blocking. Idempotent.
pub fn set_up_all(pod: &Pod, pod_dir: &Path, sources: &Sources) -> (BTreeMap<String, Mounted>, Option<SetUpError>) {
    let (mut out, mut first) = (BTreeMap::new(), None);
    for volume in pod.spec.iter().flat_map(|s| s.volumes.iter().flatten()) {
        match set_up(pod, pod_dir, volume, sources) {
            Ok(mounted) => {
                out.insert(volume.name.clone(), mounted);
            }
            Err(source) => {
                first.get_or_insert(SetUpError { volume: volume.name.clone(), source });
            }
        }
    }
    (out, first)
}

/// Kinds of objects that the volume is made of, as [`Resolved::unknown`] names them.
fn kinds(volume: &Volume) -> impl Iterator<Item = &'static str> {
    let projected = || volume.projected.iter().flat_map(|p| p.sources.iter().flatten());
    let used = [
        ("configmap", volume.config_map.is_some() || projected().any(|s| s.config_map.is_some())),
        ("secret", volume.secret.is_some() || projected().any(|s| s.secret.is_some())),
        ("clustertrustbundle", projected().any(|s| s.cluster_trust_bundle.is_some())),
    ];
    used.into_iter().filter(|(_, used)| *used).map(|(kind, _)| kind)
}

fn set_up(pod: &Pod, pod_dir: &Path, volume: &Volume, sources: &Sources) -> Result<Mounted, VolumeError> {
    let group = pod.spec.as_ref().and_then(|s| s.security_context.as_ref()).and_then(|c| c.fs_group);
    let written = |kind: &str, payload: Payload| -> Result<Mounted, VolumeError> {
        let dir = directory(pod_dir, kind, &volume.name);
        atomic_writer::write(&dir, &payload, group)?;
        Ok(Mounted::Path { host_path: dir, read_only: true })
    };
    // What nobody has told of isn't absent: an optional object's files must not go for that.
    if let Some(kind) = kinds(volume).find(|k| sources.objects.unknown.contains(k)) {
        return Err(VolumeError::Unanswered(crate::objects::unanswered(kind)));
    }
    if let Some(s) = &volume.config_map {
        written("configmap", config_map::payload(s, &sources.objects)?)
    } else if let Some(s) = &volume.secret {
        written("secret", secret::payload(s, &sources.objects)?)
    } else if let Some(s) = &volume.downward_api {
        written(
            "downward-api",
            downward_api::payload(pod, s.items.as_deref().unwrap_or_default(), s.default_mode, &sources.downward)?,
        )
    } else if let Some(s) = &volume.projected {
        written("projected", projected::payload(pod, &volume.name, s, sources)?)
    } else if let Some(s) = &volume.empty_dir {
        empty_dir::set_up(&directory(pod_dir, "empty-dir", &volume.name), s, group)
    } else if let Some(s) = &volume.host_path {
        host_path::set_up(s)
    } else if let Some(s) = &volume.image {
        Ok(Mounted::Image { reference: s.reference.clone().unwrap_or_default() })
    } else if let Some(claim) = persistent_volume_claim::claim_name(pod, volume) {
        let directory = sources
            .claims
            .get(&claim)
            .cloned()
            .unwrap_or_else(|| Err("not resolved".into()))
            .map_err(|reason| VolumeError::Claim { claim, reason })?;
        persistent_volume_claim::set_up(&directory, volume, pod)
    } else if volume.csi.is_some() {
        Err(VolumeError::Unsupported("csi"))
    } else if volume.nfs.is_some() {
        Err(VolumeError::Unsupported("nfs"))
    } else {
        Err(VolumeError::Unsupported("unknown source"))
    }
}

/// Rejects what could leave the volume: absolute paths, `..`, names that the writer uses itself.
pub(crate) fn checked_path(path: &str) -> Result<&str, VolumeError> {
    let bad = path.is_empty()
        || path.starts_with('/')
        || path.starts_with("..")
        || path.split('/').any(|part| part == ".." || part.is_empty());
    if bad { Err(VolumeError::Path(path.to_owned())) } else { Ok(path) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use k8s_openapi::api::core::v1::ConfigMap;
    use serde_json::json;
    use std::sync::Arc;

    #[test]
    fn a_volume_that_fails_holds_up_no_other() {
        let pod: Pod = serde_json::from_value(json!({"spec": {"containers": [], "volumes": [
            {"name": "absent", "configMap": {"name": "none"}},
            {"name": "silent", "projected": {"sources": [{"secret": {"name": "s", "optional": true}}]}},
            {"name": "token", "projected": {"sources": [{"serviceAccountToken": {"path": "t"}}]}},
            {"name": "there", "configMap": {"name": "cm"}}]}}))
        .unwrap();
        let map: ConfigMap = serde_json::from_value(json!({"metadata": {"name": "cm"}, "data": {"k": "v"}})).unwrap();
        let mut sources = Sources::default();
        sources.objects.config_maps.insert("cm".into(), Arc::new(map));
        sources.objects.unknown.insert("secret");
        let dir = tempfile::tempdir().unwrap();
        let (made, error) = set_up_all(&pod, dir.path(), &sources);
        assert_eq!(made.keys().collect::<Vec<_>>(), ["there"]);
        assert_eq!(std::fs::read_to_string(directory(dir.path(), "configmap", "there").join("k")).unwrap(), "v");
        let text = |e: Option<SetUpError>| e.map(|e| e.to_string()).unwrap_or_default();
        assert_eq!(text(error), "MountVolume.SetUp failed for volume \"absent\" : configmap \"none\" not found");

        sources.objects.config_maps.insert("none".into(), Arc::default());
        let silent = "failed to sync secret cache: timed out waiting for the condition";
        let (_, error) = set_up_all(&pod, dir.path(), &sources);
        assert_eq!(text(error), format!("MountVolume.SetUp failed for volume \"silent\" : {silent}"));

        sources.objects.unknown.clear();
        sources.tokens.insert(("token".into(), "t".into()), "secret".into());
        let (made, error) = set_up_all(&pod, dir.path(), &sources);
        assert!(error.is_none(), "{error:?}");
        assert_eq!(made.len(), 4);
    }

    #[test]
    fn what_is_old_or_of_the_future_is_renewed() {
        let t = |s: i64| jiff::Timestamp::from_second(s).unwrap();
        for (now, due) in [(10_001, false), (9_990, false), (12_880, true), (6_400, true), (1_000_000, true)] {
            assert_eq!(is_due(t(10_000), t(12_880), t(now)), due, "at {now}");
        }
    }
}
