//! System calls with safe faces: control groups, namespaces, mounts, processes, terminals.
//!
//! The only crate that may hold `unsafe`. Knows nothing of images, containers or Kubernetes.

pub mod cgroup;
