//! Containers' logs in CRI format: rotation and reading.

pub mod rotate;
