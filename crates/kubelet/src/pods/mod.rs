//! Pods on this node. [`manager`] hears of them, a [`worker`] per pod brings each to where it should be: it observes,
//! [`plan`] decides (pure), the worker does, [`status`] tells (pure). `guard` starts a worker again that panicked.

pub mod backoff;
pub mod context;
mod guard;
pub mod kill;
pub mod manager;
pub mod memo;
pub mod orphans;
pub mod plan;
pub mod prepare;
pub mod registry;
pub mod spec;
pub mod start;
pub mod status;
pub mod status_patch;
pub mod worker;
