//! Finds a node for every pod that has none.
//!
//! In: informers of Pods and Nodes. Out: Bindings, the `PodScheduled` condition, and events that say why a pod stays
//! pending. A pod goes: [`queue`] → [`cycle`] (filter, score: pure) → assumed in the [`snapshot`] → bound.
//! Plugins are one file each in [`plugins`]; the framework's contract is in [`framework`].

pub mod cycle;
pub mod driver;
pub mod framework;
pub mod plugins;
pub mod queue;
pub mod resources;
pub mod snapshot;

pub use driver::{Options, run};
