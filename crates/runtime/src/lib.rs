//! The embedded container runtime: images, sandboxes, containers, exec.
//!
//! [`Runtime`] implements CRI's two services in-process. What must outlive Skiff is not in it: each pod has a
//! [`shim`] process, and everything that a restarted Skiff needs to know is on disk. In: CRI calls. Out: system
//! calls, files below the root and state directories, and [`cri::RuntimeEvent`]s. Knows no Kubernetes objects.

pub mod container;
mod events;
pub mod image;
mod options;
mod reset;
mod sandbox;
mod seccomp;
mod service;
mod session;
pub mod shim;
pub mod spec;
mod state;

pub use image::pull::Registries;
pub use options::RuntimeOptions;
pub use reset::reset;
pub use service::Runtime;
