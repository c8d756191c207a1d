//! Images: names, archives, registries, and the store of unpacked layers.
//!
//! In: archives, registries, our own executable. Out: for each image an id (the digest of its config) and the
//! directories of its layers, ready to be the lower layers of an overlay.

pub mod archive;
pub mod builtin;
pub mod manifest;
pub mod pull;
pub mod reference;
pub mod store;
mod unpack;

pub use reference::Reference;
pub use store::{ImageConfig, Record, Store};

/// A failed operation on images.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("couldn't parse image name {name:?}: {why}")]
    Name { name: String, why: &'static str },
    #[error("{what} {subject}: {source}")]
    Io { what: &'static str, subject: String, source: std::io::Error },
    /// Bytes that are not what their digest or form promises.
    #[error("{0}")]
    Corrupt(String),
    #[error("no match for platform in manifest: not found ({0})")]
    Platform(String),
    #[error("{0}")]
    Registry(String),
    #[error("no such image {0:?}")]
    NotFound(String),
}

pub type Result<T> = std::result::Result<T, Error>;

fn io(what: &'static str, subject: impl std::fmt::Display) -> impl FnOnce(std::io::Error) -> Error {
    let subject = subject.to_string();
    move |source| Error::Io { what, subject, source }
}

/// `amd64`, `arm64`: how images name this machine's architecture.
pub fn architecture() -> &'static str {
    match std::env::consts::ARCH {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        other => other,
    }
}
