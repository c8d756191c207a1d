//! The merge of an applied configuration into the live object.

use super::compare::value_eq;
use super::managed::{Managed, Manager, Operation, Versioned};
use super::paths::Elem;
use super::prune::prune;
use super::schema_change::reconciled;
use super::structure::{Form, Node, Structure};
use super::track::{Changes, disown, strip};
use super::validate::field_set;
use super::{Conflict, Failure, Writer};
use crate::object::{self, get_str};
use crate::schema::List;
use crate::status::Status;
use serde_json::{Map, Value};
use std::collections::{BTreeMap, BTreeSet};

/// What an apply makes.
#[derive(Clone, Debug, PartialEq)]
pub struct Applied {
    /// Without `metadata.managedFields`. May hold nulls that the client applied, which decoding drops.
    pub object: Value,
    pub managed: Managed,
}

/// Merges `applied` into `live`.
///
/// Fields that `writer` applied before and left out now are removed unless someone else owns them. Without `force`,
/// changing a field that another manager owns is a conflict; with it, the field changes hands. On success the
/// entry's time changes only when the object or the set of fields does.
///
/// Source: KEP-555, "Server-side apply, merge and conflicts".
pub fn merge(
    s: &Structure,
    live: &Value,
    applied: &Value,
    managed: &Managed,
    writer: &Writer,
    force: bool,
) -> Result<Applied, Failure> {
    let mut live = live.clone();
    object::remove(&mut live, &["metadata", "managedFields"]);
    let mut applied = applied.clone();
    // Manifests made by Go programs carry this null; it never means to unset the time.
    if object::get(&applied, &["metadata", "creationTimestamp"]).is_some_and(Value::is_null) {
        object::remove(&mut applied, &["metadata", "creationTimestamp"]);
    }

    let me = Manager::new(writer.manager, Operation::Apply, "", writer.subresource);
    let set = s.ownable(&field_set(s, &applied).map_err(|why| untyped(&applied, &why))?);
    let mut managed = reconciled(s, writer.api_version, &live, managed);
    let last = managed.0.insert(me.clone(), Versioned { set, api_version: writer.api_version.to_string(), time: None });

    let merged = value(s, s.root(), Some(&live), Some(&applied)).unwrap_or(Value::Null);
    let merged = match &last {
        Some(last) => prune(s, writer.api_version, merged, &managed, last),
        None => merged,
    };

    let changes = Changes::new(s, writer.api_version, &live, &merged, &managed);
    if !force {
        let conflicts: Vec<Conflict> = managed
            .0
            .iter()
            .filter(|(manager, _)| **manager != me)
            .flat_map(|(manager, v)| {
                let paths = v.set.intersection(&changes.touched(&v.api_version)).paths();
                paths.into_iter().map(|path| Conflict { manager: manager.clone(), path })
            })
            .collect();
        if !conflicts.is_empty() {
            return Err(Failure::Conflicts(conflicts));
        }
    }
    disown(&mut managed, &changes, Some(&me));

    if let Some(mine) = managed.0.get_mut(&me) {
        mine.set = strip(&mine.set);
        mine.time = match &last {
            Some(l) if l.set == mine.set && l.api_version == mine.api_version && value_eq(&live, &merged) => l.time,
            _ => writer.time(),
        };
    }
    managed.drop_empty();
    Ok(Applied { object: merged, managed })
}

/// Whether an applied object fits its structure. Errors: as those of [`merge`].
pub fn check(s: &Structure, applied: &Value) -> crate::status::Result<()> {
    field_set(s, applied).map(|_| ()).map_err(|why| untyped(applied, &why).into())
}

/// The applied object doesn't fit its structure.
// Differs from upstream, which answers 500 without a reason: it's the client who is wrong, and a retry won't help.
fn untyped(applied: &Value, why: &str) -> Failure {
    let (group, version) = object::split_api_version(object::api_version(applied));
    let prefix = if group.is_empty() { "/".to_string() } else { format!("{group}/") };
    Status::bad_request(format!(
        "failed to create typed patch object ({}/{}; {prefix}{version}, Kind={}): {why}",
        object::namespace(applied),
        get_str(applied, &["metadata", "name"]),
        object::kind(applied),
    ))
    .into()
}

fn value(s: &Structure, node: Node, live: Option<&Value>, applied: Option<&Value>) -> Option<Value> {
    let (Some(l), Some(a)) = (live, applied) else {
        return applied.or(live).cloned();
    };
    // Null takes the form of the other side.
    let form = s.form(node, if a.is_null() { l } else { a });
    match form {
        Form::Leaf => Some(a.clone()),
        Form::Struct(_) | Form::Map(_) => {
            let (lm, am) = (l.as_object(), a.as_object());
            // Two empties are a leaf, so that the difference of null and {} survives.
            match (lm.filter(|m| !m.is_empty()), am.filter(|m| !m.is_empty())) {
                (None, None) => Some(a.clone()),
                (lm, am) => {
                    let none = Map::new();
                    Some(Value::Object(map(s, node, lm.unwrap_or(&none), am.unwrap_or(&none))))
                }
            }
        }
        Form::List(list) => {
            let (ll, al) = (l.as_array(), a.as_array());
            match (ll.filter(|v| !v.is_empty()), al.filter(|v| !v.is_empty())) {
                (None, None) => Some(a.clone()),
                (ll, al) => Some(Value::Array(
                    items(s, list, ll.map_or(&[], Vec::as_slice), al.map_or(&[], Vec::as_slice))
                        .unwrap_or_else(|| al.cloned().unwrap_or_default()),
                )),
            }
        }
    }
}

fn map(s: &Structure, node: Node, live: &Map<String, Value>, applied: &Map<String, Value>) -> Map<String, Value> {
    let names: BTreeSet<&String> = live.keys().chain(applied.keys()).collect();
    names
        .into_iter()
        .filter_map(|name| {
            let below = s.below(node, &Elem::field(name));
            Some((name.clone(), value(s, below, live.get(name), applied.get(name))?))
        })
        .collect()
}

/// Merges two lists whose items have an identity. Items that both have come in the applied order, the others keep
/// their place between their neighbours. None when an item has no identity.
fn items(s: &Structure, list: &List, live: &[Value], applied: &[Value]) -> Option<Vec<Value>> {
    let identities =
        |items: &[Value]| -> Option<Vec<Elem>> { items.iter().map(|item| s.identify(list, item).ok()).collect() };
    let (live_ids, applied_ids) = (identities(live)?, identities(applied)?);
    let in_live: BTreeMap<&Elem, &Value> = live_ids.iter().zip(live).rev().collect();
    let in_applied: BTreeSet<&Elem> = applied_ids.iter().collect();
    // Items of both, in the order in which they have to come out.
    let mut shared = applied_ids.iter().filter(|id| in_live.contains_key(id)).peekable();
    let mut done: BTreeSet<&Elem> = BTreeSet::new();
    let mut out = Vec::with_capacity(live.len() + applied.len());
    let (mut l, mut a) = (0, 0);

    while l < live.len() || a < applied.len() {
        let meet = live_ids.get(l).is_some_and(|id| applied_ids.get(a) == Some(id));
        if !meet && let Some(id) = live_ids.get(l) {
            if !in_applied.contains(id) {
                out.push(live[l].clone());
                l += 1;
                continue;
            }
            // Out of turn (it comes when the applied list reaches it) or come already.
            if done.contains(id) || (a < applied.len() && shared.peek().is_some_and(|next| *next != id)) {
                l += 1;
                continue;
            }
        }
        let Some(id) = applied_ids.get(a) else { break };
        out.extend(value(s, Node::Typed(list.item), in_live.get(id).copied(), Some(&applied[a])));
        done.insert(id);
        if shared.peek() == Some(&id) {
            shared.next();
        }
        a += 1;
        if meet {
            l += 1;
        }
    }
    Some(out)
}
