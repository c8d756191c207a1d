//! The API server: one pipeline, top to bottom, from a request to a committed change.

pub mod admission;
pub mod authn;
pub mod authz;
pub mod reader;
pub mod request_info;
