//! Rules that several kinds share: object metadata, labels, selectors, pod specs, single values.
//!
//! In: decoded objects and the path of the part under test. Out: faults in upstream's words, pushed to
//! [`meta::field::Errors`]. No state, no look at other objects.

pub mod access;
pub mod conditions;
pub mod cron;
pub mod labels;
pub mod objectmeta;
pub mod pem;
pub mod podspec;
pub mod proof;
pub mod seen;
pub mod selector;
pub mod signer;
pub mod values;
pub mod workload;
