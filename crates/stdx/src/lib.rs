//! What the standard library lacks for a server: backoff and shutdown. Knows nothing of Kubernetes.

pub mod backoff;

/// Shutdown is a token: clone it, `cancelled().await` it, `child_token()` it.
pub use tokio_util::sync::CancellationToken as Shutdown;
