//! The API server: one pipeline, top to bottom, from a request to a committed change.

pub mod admission;
pub mod authn;
pub mod authz;
pub mod reader;
pub mod request_info;
pub mod accept;
pub mod flow;
pub mod health;
pub mod metrics;
pub mod options;
pub mod paths;
pub mod pipeline;
pub mod proxying;
pub mod registry;
pub mod respond;
pub mod server;
pub mod services;
pub mod subresources;
pub mod wire;
pub mod discovery;
pub mod openapi;
pub mod reviews;
pub mod tokens;
pub mod pki;
pub mod bootstrap;

#[cfg(test)]
mod testing;
