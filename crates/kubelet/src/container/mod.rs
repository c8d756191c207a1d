//! From a container of the spec to what the runtime is asked to run.

pub mod config;
pub mod dns;
pub mod env;
pub mod expansion;
pub mod hooks;
pub mod hostname;
pub mod hosts;
pub mod security;
pub mod service_env;
pub mod termination_message;
