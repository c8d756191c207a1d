//! Wire formats, driven by the facts: bytes that clients send to clean JSON objects, and back.
//!
//! * [`json`]: typed decoding with upstream's strictness and messages; canonical and upstream-ordered encoding.
//! * [`yaml`]: YAML bodies, by way of JSON; YAML answers.
//! * [`protobuf`]: `application/vnd.kubernetes.protobuf`, for built-in kinds.

mod encode;
pub mod json;
pub mod protobuf;
pub mod scalar;
pub mod yaml;
