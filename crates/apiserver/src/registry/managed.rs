//! Who owns which field: `metadata.managedFields` of every write.

use super::{Call, Catalogue};
use crate::options::FieldValidation;
use api::catalogue::Resource;
use meta::apply::{Structure, View, Writer};
use meta::schema::TypeId;
use meta::status::Result;
use serde_json::Value;

/// Of a manager's name.
const NAME_BYTES_MAX: usize = 128;

/// How ownership of a write's fields is found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum By {
    /// By comparing with what was there.
    Update,
    /// The merge of an apply has set it already.
    Apply,
}

/// Fields that an endpoint can't set, and so can't own.
const RESET_BY_MAIN: &[&[&str]] = &[&["status"]];
const RESET_BY_STATUS: &[&[&str]] = &[&["spec"]];

fn structure<'a>(row: &'a Resource, subresource: &str) -> Structure<'a> {
    let s = Structure::new(&row.types, row.type_id).with_key_default(&key_default);
    match subresource {
        "status" => s.with_reset(RESET_BY_STATUS),
        _ if row.has_status() => s.with_reset(RESET_BY_MAIN),
        _ => s,
    }
}

/// An object in another version of its kind, where that can be had without asking anybody.
fn view<'a>(catalogue: &'a Catalogue, row: &Resource, version: &str, object: &Value) -> Option<View<'a>> {
    let find = |api_version: &str| {
        let (group, version) = meta::object::split_api_version(api_version);
        catalogue.by_version(group, version, &row.plural).filter(|r| r.kind == row.kind)
    };
    let (from, to) = (find(meta::object::api_version(object))?, find(version)?);
    if let Some(definition) = &to.custom
        && definition.conversion != api::custom::Conversion::None
    {
        return None;
    }
    Some(View { types: &to.types, ty: to.type_id, object: api::convert::to(object, from, to) })
}

/// Keys of map lists that have a default, so that an applied item without the key finds its partner.
fn key_default(_: TypeId, key: &str) -> Option<Value> {
    (key == "protocol").then(|| "TCP".into())
}

/// The manager's name: `fieldManager`, else the client's program from its User-Agent.
fn manager(call: &Call<'_>) -> String {
    if !call.options.field_manager.is_empty() {
        return call.options.field_manager.clone();
    }
    let program = call.user_agent.split('/').next().unwrap_or("");
    let mut name = String::new();
    for c in program.chars().filter(|c| !c.is_control()) {
        if name.len() + c.len_utf8() > NAME_BYTES_MAX {
            break;
        }
        name.push(c);
    }
    name
}

/// Sets managedFields of an object that is about to be written.
pub fn track(call: &Call<'_>, new: &mut Value, old: Option<&Value>, by: By, subresource: &str) {
    if by == By::Apply {
        return;
    }
    let (manager, api_version) = (manager(call), call.row.api_version());
    let writer = Writer { manager: &manager, api_version: &api_version, subresource, now: jiff::Timestamp::now() };
    let catalogue = call.registry.catalogue.load();
    let convert = |version: &str, object: &Value| view(&catalogue, &call.row, version, object);
    let s = structure(&call.row, subresource).with_versions(&convert);
    meta::apply::track_update(&s, old.unwrap_or(&Value::Null), new, &writer);
}

/// Whether an applied configuration fits the structure of its kind.
pub fn check(row: &Resource, applied: &Value, subresource: &str) -> Result<()> {
    meta::apply::check(&structure(row, subresource), applied)
}

/// The object after an apply, with its managedFields. `live` is `None` when it doesn't exist yet.
pub fn apply(call: &Call<'_>, live: Option<&Value>, applied: &Value, subresource: &str) -> Result<Value> {
    let (manager, api_version) = (manager(call), call.row.api_version());
    let writer = Writer { manager: &manager, api_version: &api_version, subresource, now: jiff::Timestamp::now() };
    let catalogue = call.registry.catalogue.load();
    let convert = |version: &str, object: &Value| view(&catalogue, &call.row, version, object);
    let s = structure(&call.row, subresource).with_versions(&convert);
    let force = call.options.force == Some(true);
    let merged = meta::apply::apply(&s, live.unwrap_or(&Value::Null), applied, &writer, force)?;
    // The merge may hold nulls that were applied; decoding drops them.
    let (mut object, _) = crate::wire::conform(&call.row, merged, FieldValidation::Ignore)?;
    call.row.strategy.defaults(&mut object);
    Ok(object)
}

/// Whether two objects are the same but for when their managers wrote last.
pub fn differ_in_time_only(new: &Value, old: &Value) -> bool {
    let untimed = |o: &Value| -> Value {
        let mut o = o.clone();
        for entry in o["metadata"]["managedFields"].as_array_mut().into_iter().flatten() {
            if let Some(entry) = entry.as_object_mut() {
                entry.remove("time");
            }
        }
        o
    };
    let (a, b) = (&new["metadata"]["managedFields"], &old["metadata"]["managedFields"]);
    a.as_array().map(Vec::len) == b.as_array().map(Vec::len) && untimed(new) == untimed(old)
}
