//! kubectl's move from client-side to server-side apply: the annotation that client-side apply leaves says what it
//! wrote, so that those fields need no force.

use super::Conflict;
use super::compare::compare;
use super::paths::Set;
use super::structure::Structure;
use super::validate::field_set_lenient;
use crate::object;
use serde_json::Value;

/// Where `kubectl apply` keeps the manifest that it applied.
pub const LAST_APPLIED: &str = "kubectl.kubernetes.io/last-applied-configuration";

/// All annotations of an object together, bytes.
const ANNOTATIONS_SIZE_MAX: usize = 256 * 1024;

pub(super) fn is_set(obj: &Value) -> bool {
    object::annotation(obj, LAST_APPLIED).is_some_and(|a| !a.is_empty())
}

/// Whether all conflicts are about fields that still are as client-side apply wrote them.
pub(super) fn allows(s: &Structure, live: &Value, conflicts: &[Conflict]) -> bool {
    let Some(own) = unchanged_fields(s, live) else {
        return false;
    };
    conflicts.iter().all(|c| own.has(&c.path.0))
}

fn unchanged_fields(s: &Structure, live: &Value) -> Option<Set> {
    let text = object::annotation(live, LAST_APPLIED)?;
    let manifest: Value = serde_json::from_str(text).ok()?;
    // Fields of another version can't be compared with those of the live object.
    if object::api_version(&manifest) != object::api_version(live) {
        return None;
    }
    let change = compare(s, &manifest, live);
    let own = field_set_lenient(s, &manifest);
    Some(own.difference(&change.modified).difference(&change.added).difference(&change.removed))
}

/// Writes the applied manifest into the annotation, as client-side apply would have.
pub(super) fn refresh(obj: &mut Value, applied: &Value) {
    let mut manifest = applied.clone();
    object::remove(&mut manifest, &["metadata", "annotations", LAST_APPLIED]);
    let mut text = format!("{manifest}\n");
    let others: usize = object::get_map(obj, &["metadata", "annotations"])
        .into_iter()
        .flatten()
        .filter(|(k, _)| *k != LAST_APPLIED)
        .map(|(k, v)| k.len() + v.as_str().map_or(0, str::len))
        .sum();
    if others + LAST_APPLIED.len() + text.len() > ANNOTATIONS_SIZE_MAX {
        text.clear();
    }
    object::set_annotation(obj, LAST_APPLIED, text);
}
