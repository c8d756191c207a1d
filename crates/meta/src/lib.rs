//! Object metadata and the pure algorithms of the Kubernetes API: what every object has in common,
//! and what can be computed on any object when its structure is known.
//!
//! In: `serde_json::Value` objects and a [`schema::Types`] that describes them.
//! Out: other values, errors, decisions. No I/O, no clock, no particular resource.

pub mod apply;
pub mod duration;
pub mod field;
pub mod names;
pub mod object;
pub mod patch;
pub mod quantity;
pub mod schema;
pub mod selector;
pub mod status;

#[cfg(test)]
mod testing;
