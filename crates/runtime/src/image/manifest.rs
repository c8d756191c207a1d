//! The JSON of the OCI image format (and Docker's schema 2, which has the same form): only the fields that we read.

use super::{Error, Result, architecture};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct Descriptor {
    #[serde(rename = "mediaType", default)]
    pub media_type: String,
    pub digest: String,
    #[serde(default)]
    pub size: i64,
    #[serde(default)]
    pub annotations: BTreeMap<String, String>,
    #[serde(default)]
    pub platform: Option<Platform>,
}

#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct Platform {
    #[serde(default)]
    pub architecture: String,
    #[serde(default)]
    pub os: String,
}

/// An image's manifest or an index of them: told apart by what they hold, since `mediaType` is optional.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct Manifest {
    #[serde(default)]
    pub config: Option<Descriptor>,
    #[serde(default)]
    pub layers: Vec<Descriptor>,
    #[serde(default)]
    pub manifests: Vec<Descriptor>,
}

/// One entry of `manifest.json` in `docker save`'s archives.
#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct DockerEntry {
    pub config: String,
    pub repo_tags: Option<Vec<String>>,
    pub layers: Option<Vec<String>>,
}

/// An image's config.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct Config {
    #[serde(default)]
    pub architecture: String,
    #[serde(default)]
    pub os: String,
    #[serde(default)]
    pub config: Option<Execution>,
    pub rootfs: RootFs,
}

impl Config {
    /// Whether it runs on this machine.
    pub fn fits(&self) -> Result<()> {
        if self.architecture.is_empty() || self.architecture == architecture() {
            return Ok(());
        }
        Err(Error::Platform(format!(
            "image is for {}/{}, this machine is linux/{}",
            self.os,
            self.architecture,
            architecture()
        )))
    }
}

#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct RootFs {
    #[serde(rename = "type", default)]
    pub kind: String,
    #[serde(default)]
    pub diff_ids: Vec<String>,
}

/// How to run it. `null` stands for empty everywhere.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct Execution {
    pub user: Option<String>,
    pub env: Option<Vec<String>>,
    pub entrypoint: Option<Vec<String>>,
    pub cmd: Option<Vec<String>>,
    pub working_dir: Option<String>,
    pub volumes: Option<BTreeMap<String, serde_json::Value>>,
    pub labels: Option<BTreeMap<String, String>>,
    pub stop_signal: Option<String>,
}

pub fn parse<T: for<'de> Deserialize<'de>>(what: &str, bytes: &[u8]) -> Result<T> {
    serde_json::from_slice(bytes).map_err(|e| Error::Corrupt(format!("invalid {what}: {e}")))
}

/// The entry of an index for this machine; attestations and foreign platforms are passed over.
pub fn choose<'a>(name: &str, entries: impl IntoIterator<Item = &'a Descriptor>) -> Result<&'a Descriptor> {
    let mut without_platform = None;
    for entry in entries {
        match &entry.platform {
            Some(p) if p.os == "linux" && p.architecture == architecture() => return Ok(entry),
            Some(_) => {}
            None => without_platform = without_platform.or(Some(entry)),
        }
    }
    without_platform.ok_or_else(|| Error::Platform(format!("{name} has none for linux/{}", architecture())))
}
