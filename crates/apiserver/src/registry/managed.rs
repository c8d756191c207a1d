//! Who owns which field: `metadata.managedFields` of every write.

use super::{Call, Catalogue};
use crate::custom::conversion;
use crate::options::FieldValidation;
use api::catalogue::Resource;
use meta::apply::{Managed, Structure, View, Writer};
use meta::schema::{TypeId, Types};
use meta::status::Result;
use parking_lot::Mutex;
use serde_json::{Value, json};
use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, OnceLock};

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
const RESET_BY_STATUS_ALONE: &[&[&str]] = &[&["spec"], &["metadata"]];
const RESET_BY_STATUS_OF_DEPLOYMENTS: &[&[&str]] = &[&["spec"], &["metadata", "labels"]];
/// Signing requests' spec never changes, and their conditions and certificates have endpoints of their own.
const RESET_OF_SIGNING_REQUESTS: &[(&str, &[&[&str]])] = &[
    ("", &[&["spec"], &["status"]]),
    ("status", &[&["spec"], &["status", "conditions"]]),
    ("approval", &[&["spec"], &["status", "certificate"]]),
];
const RESET_BY_STATUS_OF_PODS: &[&[&str]] =
    &[&["spec"], &["metadata", "deletionTimestamp"], &["metadata", "ownerReferences"]];
/// These endpoints of pods set a few fields and nothing else.
const ONLY_OF_PODS: &[(&str, &[&[&str]])] = &[
    ("ephemeralcontainers", &[&["spec", "ephemeralContainers"]]),
    (
        "resize",
        &[
            &["spec", "containers", "*", "resources"],
            &["spec", "containers", "*", "resizePolicy"],
            &["spec", "initContainers", "*", "resources"],
            &["spec", "initContainers", "*", "resizePolicy"],
        ],
    ),
];

fn structure<'a>(row: &Resource, (types, ty): &'a (Arc<Types>, TypeId), subresource: &str) -> Structure<'a> {
    let s = Structure::new(types, *ty).with_key_default(&key_default);
    let of_requests = RESET_OF_SIGNING_REQUESTS.iter().find(|r| r.0 == subresource);
    let of_pods = ONLY_OF_PODS.iter().find(|r| r.0 == subresource && row.kind == "Pod");
    match subresource {
        _ if of_pods.is_some() => s.with_only(of_pods.map_or(&[], |r| r.1)),
        _ if row.kind == "CertificateSigningRequest" => s.with_reset(of_requests.map_or(&[], |r| r.1)),
        "status" => s.with_reset(match row.strategy.status_keeps() {
            [] => RESET_BY_STATUS,
            ["labels"] => RESET_BY_STATUS_OF_DEPLOYMENTS,
            ["ownerReferences"] => RESET_BY_STATUS_OF_PODS,
            _ => RESET_BY_STATUS_ALONE,
        }),
        _ if row.has_status() => s.with_reset(RESET_BY_MAIN),
        _ => s,
    }
}

/// What webhooks made of objects, and what they have yet to be asked. The merge itself is pure: where it needs an
/// object in a version that only a webhook can give, it goes on without, says so here, and is done again.
#[derive(Default)]
pub struct Conversions {
    /// By version and object.
    known: Mutex<HashMap<(String, String), Value>>,
    asked: Mutex<Vec<(String, Value)>>,
}

impl Conversions {
    fn get(&self, version: &str, object: &Value) -> Option<Value> {
        let known = self.known.lock().get(&(version.to_string(), object.to_string())).cloned();
        if known.is_none() {
            self.asked.lock().push((version.to_string(), object.clone()));
        }
        known
    }
}

/// Rounds of questions; each version that wrote is asked for in the first.
const ROUNDS_MAX: usize = 8;

/// Does `work`, again where it lacked an object in another version, until it had all that it needs.
pub async fn answered<T>(call: &Call<'_>, mut work: impl FnMut() -> T) -> Result<T> {
    for _ in 0..ROUNDS_MAX {
        let done = work();
        let asked = std::mem::take(&mut *call.conversions.asked.lock());
        let Some(definition) = call.row.custom.as_ref().filter(|_| !asked.is_empty()) else { return Ok(done) };
        let mut by_version: BTreeMap<String, Vec<Value>> = BTreeMap::new();
        for (version, object) in asked {
            let objects = by_version.entry(version).or_default();
            if !objects.contains(&object) {
                objects.push(object);
            }
        }
        for (version, objects) in by_version {
            let (_, to) = meta::object::split_api_version(&version);
            let made = conversion::convert(&call.registry.custom, definition, objects.clone(), to).await?;
            let made = objects.iter().map(|o| (version.clone(), o.to_string())).zip(made);
            call.conversions.known.lock().extend(made);
        }
    }
    Ok(work())
}

/// The rows of a kind, each with its types once they were asked for.
struct Versions<'c>(Vec<(&'c Resource, OnceLock<(Arc<Types>, TypeId)>)>);

impl<'c> Versions<'c> {
    fn of(catalogue: &'c Catalogue, row: &Resource) -> Versions<'c> {
        let all = catalogue.rows.iter().filter(|r| r.plural == row.plural && r.kind == row.kind);
        Versions(all.map(|r| (&**r, OnceLock::new())).collect())
    }
}

/// An object in another version of its kind.
fn view<'a>(versions: &'a Versions<'_>, conversions: &Conversions, version: &str, object: &Value) -> Option<View<'a>> {
    let find = |api_version: &str| {
        let (group, version) = meta::object::split_api_version(api_version);
        versions.0.iter().find(|(r, _)| r.group == group && r.version == version)
    };
    let ((from, _), (to, types)) = (find(meta::object::api_version(object))?, find(version)?);
    let by_webhook = to.custom.as_ref().is_some_and(|d| d.conversion != api::custom::Conversion::None);
    let object = match by_webhook && from.version != to.version {
        true => conversions.get(version, object)?,
        false => api::convert::to(object, from, to),
    };
    let (types, ty) = types.get_or_init(|| to.types());
    Some(View { types, ty: *ty, object })
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

/// Takes back what admission made of managed fields where nobody can read them any more. Gives the warning.
pub fn mended(object: &mut Value, before: Option<Value>) -> Option<String> {
    let after = object["metadata"].get("managedFields");
    if after == before.as_ref() {
        return None;
    }
    let why = Managed::decode(after.unwrap_or(&Value::Null)).err()?;
    if let Some(meta) = object["metadata"].as_object_mut() {
        match before {
            Some(list) => meta.insert("managedFields".into(), list),
            None => meta.remove("managedFields"),
        };
    }
    Some(format!(
        ".metadata.managedFields was in an invalid state after admission; this could be caused by an outdated mutating admission controller; please fix your requests: {why}"
    ))
}

/// Sets managedFields of an object that is about to be written.
pub async fn track(call: &Call<'_>, new: &mut Value, old: Option<&Value>, by: By, subresource: &str) {
    if by == By::Apply {
        return;
    }
    let (manager, api_version) = (manager(call), call.row.api_version());
    let writer = Writer { manager: &manager, api_version: &api_version, subresource, now: jiff::Timestamp::now() };
    let catalogue = call.registry.catalogue.load_full();
    let (versions, types) = (Versions::of(&catalogue, &call.row), call.row.types());
    let convert = |version: &str, object: &Value| view(&versions, &call.conversions, version, object);
    let s = structure(&call.row, &types, subresource).with_versions(&convert);
    let old = old.unwrap_or(&Value::Null);
    let by_webhook = call.row.custom.as_ref().is_some_and(|d| d.conversion != api::custom::Conversion::None);
    if !by_webhook {
        return meta::apply::track_update(&s, old, new, &writer);
    }
    let work = || {
        let mut tracked = new.clone();
        meta::apply::track_update(&s, old, &mut tracked, &writer);
        tracked
    };
    match answered(call, work).await {
        Ok(tracked) => *new = tracked,
        // The write doesn't fail for it, as upstream; who owns what is no longer known.
        Err(status) => {
            tracing::warn!(error = status.message, resource = call.row.plural, "managed fields can't be converted");
            meta::object::remove(new, &["metadata", "managedFields"]);
        }
    }
}

/// As [`track`], of a status that the server itself writes.
pub fn track_own_status(row: &Resource, new: &mut Value, old: &Value) {
    let api_version = row.api_version();
    let writer = Writer {
        manager: "kube-apiserver",
        api_version: &api_version,
        subresource: "status",
        now: jiff::Timestamp::now(),
    };
    meta::apply::track_update(&structure(row, &row.types(), "status"), old, new, &writer);
}

/// As [`track`], of a new object that isn't of the row's own kind: what a subresource is sent.
pub fn track_sent(call: &Call<'_>, ty: TypeId, new: &mut Value) {
    let (manager, api_version) = (manager(call), meta::object::api_version(new).to_string());
    let subresource = &call.info.subresource;
    let writer = Writer { manager: &manager, api_version: &api_version, subresource, now: jiff::Timestamp::now() };
    let structure = Structure::new(api::facts::types(), ty).with_key_default(&key_default);
    meta::apply::track_update(&structure, &Value::Null, new, &writer);
}

/// The object with a status that a controller of the server applies, by force.
pub fn apply_own_status(row: &Resource, live: &Value, status: Value, manager: &str) -> Result<Value> {
    let api_version = row.api_version();
    let writer = Writer { manager, api_version: &api_version, subresource: "status", now: jiff::Timestamp::now() };
    let name = live["metadata"]["name"].clone();
    let applied = json!({"apiVersion": api_version, "kind": row.kind, "metadata": {"name": name}, "status": status});
    Ok(meta::apply::apply(&structure(row, &row.types(), "status"), live, &applied, &writer, true)?)
}

/// Whether an applied configuration fits the structure of its kind.
pub fn check(row: &Resource, applied: &Value, subresource: &str) -> Result<()> {
    meta::apply::check(&structure(row, &row.types(), subresource), applied)
}

/// The object after an apply, with its managedFields. `live` is `None` when it doesn't exist yet.
pub fn apply(call: &Call<'_>, live: Option<&Value>, applied: &Value, subresource: &str) -> Result<Value> {
    let (manager, api_version) = (manager(call), call.row.api_version());
    let writer = Writer { manager: &manager, api_version: &api_version, subresource, now: jiff::Timestamp::now() };
    let catalogue = call.registry.catalogue.load();
    let (versions, types) = (Versions::of(&catalogue, &call.row), call.row.types());
    let convert = |version: &str, object: &Value| view(&versions, &call.conversions, version, object);
    let s = structure(&call.row, &types, subresource).with_versions(&convert);
    let force = call.options.force == Some(true);
    let merged = meta::apply::apply(&s, live.unwrap_or(&Value::Null), applied, &writer, force)?;
    // The merge may hold nulls that were applied; decoding drops those of built-in kinds.
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_nobody_can_read_is_taken_back() {
        let entry = || {
            json!({"manager": "m", "operation": "Update", "apiVersion": "v1", "fieldsType": "FieldsV1",
                "fieldsV1": {"f:data": {}}})
        };
        let with = |key: &str, value: Value| {
            let mut e = entry();
            e[key] = value;
            json!([e])
        };
        let start = ".metadata.managedFields was in an invalid state after admission; this could be caused by an outdated mutating admission controller; please fix your requests: ";
        for (after, why) in [
            (json!([entry()]), None),
            (json!([]), None),
            (with("manager", json!("other")), None),
            (with("operation", json!("Delete")), Some("operation must be `Apply` or `Update`")),
            (with("apiVersion", json!("")), Some("apiVersion must not be empty")),
            (with("fieldsType", Value::Null), Some("missing fieldsType in managed fields entry 0")),
            (with("fieldsType", json!("V2")), Some("invalid fieldsType \"V2\" in managed fields entry 0")),
        ] {
            let mut object = json!({"metadata": {"name": "x", "managedFields": after}});
            let told = mended(&mut object, Some(json!([entry()])));
            assert_eq!(told, why.map(|why| format!("{start}{why}")), "{after}");
            let kept = if why.is_some() { json!([entry()]) } else { after };
            assert_eq!(object["metadata"]["managedFields"], kept);
        }
        let mut object = json!({"metadata": {"managedFields": with("apiVersion", json!(""))}});
        assert!(mended(&mut object, None).is_some());
        assert_eq!(object, json!({"metadata": {}}));
    }

    #[test]
    fn nobody_owns_what_an_endpoint_takes_back() {
        let rows = api::catalogue::builtin();
        let owned = |kind: &str, subresource: &str| {
            let row = rows.iter().find(|r| r.kind == kind).unwrap();
            let types = row.types();
            let status = match kind {
                "VolumeAttachment" => json!({"attached": true}),
                _ => json!({"conditions": [{"type": "X", "status": "True"}]}),
            };
            let applied = json!({
                "apiVersion": row.api_version(), "kind": kind,
                "metadata": {"name": "x", "labels": {"a": "b"}, "annotations": {"a": "b"}},
                "spec": {}, "status": status,
            });
            let writer =
                Writer { manager: "m", api_version: &row.api_version(), subresource, now: jiff::Timestamp::UNIX_EPOCH };
            let s = structure(row, &types, subresource);
            let live = json!({"apiVersion": row.api_version(), "kind": kind, "metadata": {"name": "x"}});
            let made = meta::apply::apply(&s, &live, &applied, &writer, false).unwrap();
            let fields = &made["metadata"]["managedFields"][0]["fieldsV1"];
            let mut names: Vec<String> = fields.as_object().unwrap().keys().cloned().collect();
            if let Some(m) = fields["f:metadata"].as_object() {
                names.extend(m.keys().cloned());
            }
            names.join(" ")
        };
        for (kind, subresource, want) in [
            ("Deployment", "", "f:metadata f:spec f:annotations f:labels"),
            ("Deployment", "status", "f:metadata f:status f:annotations"),
            ("Pod", "status", "f:metadata f:status f:annotations f:labels"),
            ("VolumeAttachment", "status", "f:status"),
            ("CertificateSigningRequest", "", "f:metadata f:annotations f:labels"),
            ("CertificateSigningRequest", "status", "f:metadata f:annotations f:labels"),
            ("CertificateSigningRequest", "approval", "f:metadata f:status f:annotations f:labels"),
        ] {
            assert_eq!(owned(kind, subresource), want, "{kind} {subresource}");
        }
    }

    #[test]
    fn resizing_owns_resources_alone() {
        let rows = api::catalogue::builtin();
        let row = api::catalogue::find(&rows, "", "v1", "pods").unwrap();
        let types = row.types();
        let pod = |cpu: &str| {
            json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "x", "labels": {"a": cpu}}, "spec": {
                "containers": [{"name": "a", "image": "i", "resources": {"limits": {"cpu": cpu}}}],
                "ephemeralContainers": [{"name": "e", "image": "i"}],
            }})
        };
        let owned = |subresource: &str, by: By| {
            let writer = Writer { manager: "m", api_version: "v1", subresource, now: jiff::Timestamp::UNIX_EPOCH };
            let (s, mut live) = (structure(row, &types, subresource), pod("1"));
            live["metadata"]["managedFields"] = json!([{"manager": "o", "operation": "Update", "apiVersion": "v1",
                "fieldsType": "FieldsV1", "fieldsV1": {"f:metadata": {"f:labels": {"f:a": {}}}}}]);
            let made = match by {
                By::Apply => meta::apply::apply(&s, &live, &pod("2"), &writer, true).unwrap(),
                By::Update => {
                    let mut new = pod("2");
                    new["spec"]["ephemeralContainers"] = json!([{"name": "e", "image": "other"}]);
                    meta::apply::track_update(&s, &live, &mut new, &writer);
                    new
                }
            };
            let mine = made["metadata"]["managedFields"].as_array().unwrap().iter().find(|e| e["manager"] == "m");
            mine.unwrap()["fieldsV1"].clone()
        };
        let (a, e) = ("k:{\"name\":\"a\"}", "k:{\"name\":\"e\"}");
        let resources = json!({"f:limits": {"f:cpu": {}}});
        assert_eq!(
            owned("resize", By::Apply),
            json!({"f:spec": {"f:containers": {a: {".": {}, "f:resources": resources}}}})
        );
        assert_eq!(owned("resize", By::Update), json!({"f:spec": {"f:containers": {a: {"f:resources": resources}}}}));
        assert_eq!(
            owned("ephemeralcontainers", By::Apply),
            json!({"f:spec": {"f:ephemeralContainers": {e: {".": {}, "f:image": {}, "f:name": {}}}}})
        );
        assert_eq!(
            owned("ephemeralcontainers", By::Update),
            json!({"f:spec": {"f:ephemeralContainers": {e: {"f:image": {}}}}})
        );
    }
}
