//! Events about pods, by the recorder that all components share.

pub use client::events::{Kind as Severity, Recorder};
use k8s_openapi::api::core::v1::{ObjectReference, Pod};

/// What an event's source says.
pub const COMPONENT: &str = "kubelet";

/// `field_path`: the container that the event is about, as `spec.containers{name}`.
pub fn pod_reference(pod: &Pod, field_path: Option<String>) -> ObjectReference {
    ObjectReference { field_path, ..client::events::reference(pod) }
}
