//! The catalogue of Kubernetes resources: facts, meaning, and wire formats. Knows neither storage nor HTTP.
//!
//! * `facts`: upstream's types as data, in one [`meta::schema::Types`] arena.
//! * `catalogue`: one row per served resource, pointing to its type and its [`strategy::Strategy`].
//! * `custom`: rows that are made at run time, from CustomResourceDefinitions.
//! * `kinds`: a file per kind: defaults, validation, strategy, printed columns.
//! * `codec`: JSON, YAML and protobuf, driven by the facts.
//! * `quota`: what objects use, as quotas count it.
//! * `convert`: between versions that share one storage.

pub mod catalogue;
pub mod codec;
pub mod convert;
pub mod custom;
pub mod facts;
pub mod kinds;
pub mod quota;
pub mod strategy;
pub mod validation;
