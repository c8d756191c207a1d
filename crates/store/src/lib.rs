//! Revisioned key-value store with watch: the contract and its engines.
//!
//! In: conditional writes of single keys. Out: listings at a revision, and every change in order.
//! [`contract`] is what the rest of Skiff knows; [`memory`], [`embedded`] and [`etcd`] open an engine.

pub mod contract;
pub mod embedded;
mod engine;
pub mod etcd;
mod expiry;
mod history;
mod index;
pub mod memory;

pub use contract::*;
