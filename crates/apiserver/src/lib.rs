//! The API server: one pipeline, top to bottom, from a request to a committed change.

pub mod accept;
pub mod admission;
pub mod aggregation;
pub mod audit;
pub mod authn;
pub mod authz;
pub mod bootstrap;
mod component_status;
pub mod config_file;
pub mod custom;
pub mod discovery;
pub mod draining;
pub mod encryption;
pub mod expiring;
pub mod flow;
pub mod grpc;
pub mod health;
pub mod jwt;
pub mod metrics;
pub mod openapi;
pub mod options;
pub mod outbound;
pub mod paths;
pub mod pipeline;
pub mod pki;
pub mod proxying;
pub mod reader;
pub mod registry;
pub mod request_info;
pub mod respond;
pub mod reviews;
pub mod server;
pub mod services;
pub mod subresources;
pub mod tokens;
pub mod traces;
mod warnings;
pub mod websocket;
pub mod wire;
pub mod zpages;

#[cfg(test)]
mod testing;
