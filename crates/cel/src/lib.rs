//! Common Expression Language as Kubernetes has it: compile, check, estimate, evaluate over JSON.
//!
//! In: text of an expression, an [`Env`] of what it may mention, values. Out: a [`Value`], or errors in upstream's
//! words. Pure: no I/O, no clock. No text, however long or nested, makes it panic, overflow the stack or run beyond
//! its budget.
//!
//! Why own code: docs/decisions has the record. Sources: the CEL specification; KEP-2876 (rules of custom
//! resources), KEP-3488 (validating policies), KEP-3962 (mutating policies); the API reference, "CEL in Kubernetes".
//!
//! | a stranger wants | and opens |
//! |---|---|
//! | which functions there are | `library/`, a table per file |
//! | how text is read | `token.rs`, `parse.rs`, `macros.rs` |
//! | why it doesn't compile | `check.rs` |
//! | what runs | `eval.rs`; what it costs: `cost.rs` |
//! | how a schema types `self` | `schema.rs`; what rules do with it: `rules.rs`; what they can cost: `estimate.rs` |
//! | what policies see | `admission.rs` |

pub mod admission;
mod ast;
pub mod authorizer;
mod check;
mod cost;
mod env;
pub mod estimate;
mod eval;
mod library;
mod literals;
mod macros;
pub mod mutation;
mod parse;
pub mod pattern;
mod program;
pub mod rules;
pub mod schema;
mod source;
mod time;
mod token;
pub mod types;
mod value;

pub use authorizer::{Answers, Check, Verdict};
pub use env::Env;
pub use eval::{Budget, EvalError, Evaluated, PER_CALL_LIMIT, POLICY_BUDGET, RULES_BUDGET, Vars, eval};
pub use parse::RESERVED_WORDS;
pub use program::{CompileError, Program, compile};
pub use source::{Issue, Issues};
pub use time::parse_duration;
pub use types::Type;
pub use value::{Key, List, Map, Str, Struct, Value};
