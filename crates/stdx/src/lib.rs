//! What the standard library lacks for a server: backoff, shutdown, supervision, files that change. Knows nothing of
//! Kubernetes.

pub mod backoff;
pub mod file;
pub mod supervisor;

/// Shutdown is a token: clone it, `cancelled().await` it, `child_token()` it.
pub use tokio_util::sync::CancellationToken as Shutdown;
