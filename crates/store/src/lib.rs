//! Revisioned key-value store with watch: the contract and its engines.

pub mod contract;
pub use contract::*;
