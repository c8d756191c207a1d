//! CRI's ImageService.

use crate::Result;
use async_trait::async_trait;

#[derive(Clone, Debug, Default, PartialEq)]
pub struct Image {
    /// `sha256:…` of the image's config.
    pub id: String,
    /// Normalised names, `docker.io/library/nginx:1.25`.
    pub repo_tags: Vec<String>,
    /// `docker.io/library/nginx@sha256:…`.
    pub repo_digests: Vec<String>,
    pub size_bytes: u64,
    /// From the config's `User`, when numeric.
    pub uid: Option<i64>,
    /// From the config's `User`, when a name.
    pub username: String,
    /// Not removed by image garbage collection.
    pub pinned: bool,
}

#[derive(Clone, Debug, Default)]
pub struct AuthConfig {
    pub username: String,
    pub password: String,
    /// Base64 of `user:password`, as in a dockerconfigjson.
    pub auth: String,
    pub identity_token: String,
    pub registry_token: String,
}

#[derive(Clone, Debug, Default)]
pub struct FilesystemUsage {
    pub mountpoint: String,
    pub used_bytes: u64,
    pub inodes_used: u64,
    pub capacity_bytes: u64,
    pub available_bytes: u64,
    pub inodes: u64,
    pub inodes_free: u64,
}

#[async_trait]
pub trait ImageService: Send + Sync + 'static {
    async fn list_images(&self) -> Result<Vec<Image>>;
    /// By name, name@digest or id. `None` where it isn't present.
    async fn image_status(&self, image: &str) -> Result<Option<Image>>;
    /// Credentials are tried in order, then none. Returns the image's id.
    async fn pull_image(&self, image: &str, auth: &[AuthConfig]) -> Result<String>;
    async fn remove_image(&self, image: &str) -> Result<()>;
    async fn image_fs_info(&self) -> Result<FilesystemUsage>;
}
