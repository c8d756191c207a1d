//! Streams between a client and a container: exec, attach and port-forward over WebSocket or SPDY/3.1.
//!
//! [`session`] knows nothing of the wire: it joins a runtime session to a [`session::ClientIo`], which the protocols
//! fill and drain.

pub mod port_forward;
pub mod session;
pub mod spdy;
pub mod websocket;
