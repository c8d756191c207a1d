//! The contract between kubelet and container runtime: the Container Runtime Interface v1, as Rust traits.
//!
//! Names and meaning are CRI's own (source: cri-api `runtime.v1`). The embedded runtime implements the traits
//! directly; a remote one (containerd, CRI-O) is reached by a gRPC client that implements the same traits.
//! Knows nothing of Kubernetes objects.

pub mod image;
pub mod network;
pub mod runtime;

pub use image::*;
pub use network::*;
pub use runtime::*;

/// Failures of a runtime call. The text is what a user reads in a pod's events and status.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("{0}")]
    NotFound(String),
    #[error("{0}")]
    AlreadyExists(String),
    #[error("{0}")]
    InvalidArgument(String),
    #[error("{0}")]
    DeadlineExceeded(String),
    /// Pulling an image failed; `reason` is the kubelet's word (`ErrImagePull`, `RegistryUnavailable`, `SignatureValidationFailed`).
    #[error("{message}")]
    Pull { reason: String, message: String },
    /// The container's process could not be started; becomes `StartError`/`ContainerCannotRun` and exit code 128.
    #[error("{0}")]
    Start(String),
    #[error("{0}")]
    Unavailable(String),
    #[error("{0}")]
    Internal(String),
}

pub type Result<T> = std::result::Result<T, Error>;
