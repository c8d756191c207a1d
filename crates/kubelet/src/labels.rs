//! The labels and annotations by which sandboxes and containers are recognised as a pod's, after a restart too.
//! Names are upstream's own, so that other tools on the node recognise them as well.

pub const POD_NAME: &str = "io.kubernetes.pod.name";
pub const POD_NAMESPACE: &str = "io.kubernetes.pod.namespace";
pub const POD_UID: &str = "io.kubernetes.pod.uid";
pub const CONTAINER_NAME: &str = "io.kubernetes.container.name";
pub const CONTAINER_HASH: &str = "io.kubernetes.container.hash";
pub const RESTART_COUNT: &str = "io.kubernetes.container.restartCount";
/// Skiff's own: seconds that the next restart waits, so that a kubelet that starts again goes on where it was.
pub const CRASH_BACKOFF: &str = "skiff.container.crashBackoffSeconds";
pub const TERMINATION_MESSAGE_PATH: &str = "io.kubernetes.container.terminationMessagePath";
pub const TERMINATION_MESSAGE_POLICY: &str = "io.kubernetes.container.terminationMessagePolicy";
pub const TERMINATION_GRACE_PERIOD: &str = "io.kubernetes.pod.terminationGracePeriod";
/// `file` or `http` for static pods; `api` otherwise.
pub const CONFIG_SOURCE: &str = "kubernetes.io/config.source";

/// FNV-1a: small, stable over versions of Rust and of Skiff.
pub fn hash(parts: &[&str]) -> String {
    let mut h: u64 = 0xcbf2_9ce4_8422_2325;
    for byte in parts.iter().flat_map(|p| p.bytes().chain([0])) {
        h = (h ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3);
    }
    format!("{h:x}")
}
