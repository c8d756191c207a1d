//! Server-side apply and the tracking of field managers (KEP-555, structured merge and diff).
//!
//! In: the structure of the kind, the object as stored, what a client sends, and who it is. Out: the object to
//! store with its `metadata.managedFields`, or the conflicts that forbid it. Times come in as arguments.
//!
//! - Every create and update ends with [`track_update`].
//! - A patch of type apply is [`apply`].
//! - [`merge`] and [`update`] are the two algorithms underneath, on decoded [`Managed`] fields.

mod compare;
mod last_applied;
mod managed;
mod merge;
mod paths;
mod prune;
mod schema_change;
mod structure;
mod track;
mod validate;

#[cfg(test)]
mod stories;
#[cfg(test)]
mod tests;

pub use compare::{Comparison, compare, value_eq};
pub use last_applied::LAST_APPLIED;
pub use managed::{Managed, Manager, Operation, Versioned, validate_field_manager, validate_managed_fields};
pub use merge::{Applied, check, merge};
pub use paths::{Elem, Path, Set};
pub use structure::{Structure, View};
pub use track::{apply, track_update, update};
pub use validate::{field_set, go_text};

use crate::status::{Cause, Details, Status};

/// Who writes, as what and when.
#[derive(Clone, Copy, Debug)]
pub struct Writer<'a> {
    /// `fieldManager` of the request, or the client's name from its User-Agent.
    pub manager: &'a str,
    /// The version that the request is made in, for example `apps/v1`.
    pub api_version: &'a str,
    /// Empty for the main resource.
    pub subresource: &'a str,
    pub now: jiff::Timestamp,
}

impl Writer<'_> {
    /// What its entry says of when. Upstream loses the time of writes through a Scale, so that they come before others.
    fn time(&self) -> Option<jiff::Timestamp> {
        (self.subresource != "scale").then_some(self.now)
    }
}

/// One field that another manager owns with another value.
#[derive(Clone, Debug, PartialEq)]
pub struct Conflict {
    pub manager: Manager,
    pub path: Path,
}

/// Why an apply was refused.
#[derive(Clone, Debug, PartialEq)]
pub enum Failure {
    Conflicts(Vec<Conflict>),
    /// The applied object doesn't fit its structure, or is no apply configuration at all.
    Status(Box<Status>),
}

impl From<Status> for Failure {
    fn from(s: Status) -> Failure {
        Failure::Status(Box::new(s))
    }
}

impl From<Failure> for Status {
    fn from(f: Failure) -> Status {
        match f {
            Failure::Status(s) => *s,
            Failure::Conflicts(conflicts) => conflict_status(&conflicts),
        }
    }
}

/// 409 with a `FieldManagerConflict` cause per field, worded as upstream.
fn conflict_status(conflicts: &[Conflict]) -> Status {
    let message = match conflicts {
        [one] => format!("Apply failed with 1 conflict: conflict with {}: {}", one.manager.shown(), one.path),
        many => {
            let mut managers: Vec<&Manager> = many.iter().map(|c| &c.manager).collect();
            managers.sort();
            managers.dedup();
            let mut lines = Vec::new();
            for manager in managers {
                lines.push(format!("conflicts with {}:", manager.shown()));
                lines.extend(many.iter().filter(|c| c.manager == *manager).map(|c| format!("- {}", c.path)));
            }
            format!("Apply failed with {} conflicts: {}", many.len(), lines.join("\n"))
        }
    };
    let causes = conflicts
        .iter()
        .map(|c| Cause {
            reason: "FieldManagerConflict".to_string(),
            message: format!("conflict with {}", c.manager.shown()),
            field: c.path.to_string(),
        })
        .collect();
    let mut status = Status::new(409, "Conflict", message);
    status.details = Some(Box::new(Details { causes, ..Details::default() }));
    status
}
