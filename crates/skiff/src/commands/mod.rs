//! The subcommands beside `server`, a file each.

pub mod bench;
pub mod hello;
pub mod images;
pub mod kubeconfig;
pub mod reset;
