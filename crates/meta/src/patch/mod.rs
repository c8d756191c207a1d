//! The three patch languages of the API that need no managed fields. Each takes the object as stored and the
//! patch as sent, and gives the patched object, which the caller then decodes, defaults and validates.
//!
//! | content type | module |
//! |---|---|
//! | `application/json-patch+json` | [`json`] |
//! | `application/merge-patch+json` | [`merge`] |
//! | `application/strategic-merge-patch+json` | [`strategic`] |

pub mod json;
pub mod merge;
pub mod strategic;
