//! Audit: a record of who asked what, and what came of it (audit.k8s.io/v1).
//!
//! A request carries its [`Record`] through the pipeline; steps on the way annotate it. A record of a request that the
//! policy leaves out, or of any request while audit is off, is empty and costs a test of a pointer.

mod record;

pub use record::Record;
