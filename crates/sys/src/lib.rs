//! System calls with safe faces: control groups, namespaces, mounts, processes, terminals.
//!
//! The only crate that may hold `unsafe`. Knows nothing of images, containers or Kubernetes.

pub mod capability;
pub mod cgroup;
pub mod filesystem;
pub mod mount;
pub mod netlink;
pub mod nft;
pub mod passing;
pub mod process;
pub mod seccomp;
pub mod terminal;
