//! An API server and a container runtime in memory, for tests of a whole kubelet. They do as the contracts say, no more.

pub mod api;
pub mod runtime;
