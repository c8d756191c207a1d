//! Netlink without a library: the message codec, a blocking socket, routing (`route`) and connection tracking (`conntrack`).
//!
//! In: plain Rust values (names, addresses). Out: kernel state, or an [`Error`] that says what was asked and what the
//! kernel answered. Everything here blocks for as long as the kernel takes (a veth pair: about 10 ms); async callers
//! use a blocking thread. Knows nothing of pods or Services.

pub mod conntrack;
pub mod message;
pub mod route;
mod socket;

pub use message::{Attribute, Attributes, Message};
pub use route::Route;
pub use socket::{Socket, in_netns};

/// A failed netlink exchange.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A system call failed before the kernel saw the request.
    #[error("{what}: {source}")]
    Socket { what: &'static str, source: std::io::Error },
    /// The kernel refused the request; `detail` is its extended error text where it gave one.
    #[error("{what}: {source}{}{detail}", if detail.is_empty() { "" } else { ": " })]
    Kernel { what: String, source: std::io::Error, detail: String },
    /// The answer could not be decoded.
    #[error("{what}: malformed netlink answer")]
    Malformed { what: String },
    #[error("{what}: not found")]
    NotFound { what: String },
}

impl Error {
    /// The errno of the kernel's refusal.
    pub fn errno(&self) -> Option<i32> {
        match self {
            Error::Kernel { source, .. } | Error::Socket { source, .. } => source.raw_os_error(),
            _ => None,
        }
    }
    /// The thing named in the request does not exist (any more).
    pub fn is_not_found(&self) -> bool {
        matches!(self, Error::NotFound { .. })
            || matches!(self.errno(), Some(libc::ENOENT | libc::ENODEV | libc::ESRCH | libc::EADDRNOTAVAIL))
    }
    pub fn is_exists(&self) -> bool {
        self.errno() == Some(libc::EEXIST)
    }
}

pub type Result<T> = std::result::Result<T, Error>;
