//! Ownership after every kind of write.

use super::compare::{Comparison, compare_as_go};
use super::last_applied;
use super::managed::{self, Managed, Manager, Operation, Versioned};
use super::merge::merge;
use super::paths::{Elem, Set};
use super::schema_change::reconciled;
use super::structure::Structure;
use super::{Failure, Writer};
use crate::object::{self, get_str};
use crate::status::Status;
use serde_json::{Value, json};
use std::collections::BTreeMap;

/// More entries of operation Update than this are merged into buckets, the oldest first.
const UPDATE_MANAGERS_MAX: usize = 10;
const BUCKET: &str = "ancient-changes";
/// Owner of what was there before an object without managed fields was first applied to.
const BEFORE_FIRST_APPLY: &str = "before-first-apply";

/// Sets `metadata.managedFields` of `new`, the object that a create (`old` is null), update or patch is about to
/// store. What `new` brings as `managedFields` counts as the client's: it replaces the old entries when it decodes,
/// and an empty list resets them; on a subresource it is ignored.
pub fn track_update(s: &Structure, old: &Value, new: &mut Value, writer: &Writer) {
    let managed = live_or_new(old, new, writer);
    object::remove(new, &["metadata", "managedFields"]);
    let untracked = managed.is_empty() && !object::uid(old).is_empty();
    // An object whose fields nobody tracks stays so until it is applied to.
    if !untracked {
        update(s, old, new, &managed, writer).store(new);
    }
}

fn live_or_new(old: &Value, new: &Value, writer: &Writer) -> Managed {
    let live = || Managed::of(old).unwrap_or_default();
    if !writer.subresource.is_empty() {
        return live();
    }
    if managed::is_reset(object::get(new, &["metadata", "managedFields"])) {
        return Managed::default();
    }
    match Managed::of(new) {
        Ok(managed) if !managed.is_empty() => managed,
        _ => live(),
    }
}

/// The ownership after a write that isn't apply: what it changes becomes the writer's, what it removes nobody's.
pub fn update(s: &Structure, old: &Value, new: &Value, managed: &Managed, writer: &Writer) -> Managed {
    let base;
    let old = if old.is_null() {
        base = json!({});
        &base
    } else {
        old
    };
    let mut managed = reconciled(s, writer.api_version, old, managed);
    let changes = Changes::new(s, writer.api_version, old, new, &managed);
    disown(&mut managed, &changes, None);

    let mine = strip(&changes.touched(writer.api_version));
    if !mine.is_empty() {
        let name = if writer.manager.is_empty() { "unknown" } else { writer.manager };
        let me = Manager::new(name, Operation::Update, writer.api_version, writer.subresource);
        let entry = managed.0.entry(me).or_insert_with(|| Versioned {
            set: Set::new(),
            api_version: writer.api_version.to_string(),
            time: None,
        });
        entry.set.add(&mine);
        entry.time = writer.time();
    }
    managed.drop_empty();
    cap(&mut managed);
    managed
}

/// A patch of type apply: the object to store, with its `metadata.managedFields`.
///
/// `live` is null when the object doesn't exist yet. `writer.api_version` is the version of the request.
/// kubectl's move from client-side apply is honoured: where the live object is as `kubectl apply` last wrote it
/// (by its annotation), a conflict with that writer is none, and the annotation is kept in step.
///
/// Errors: 409 with the conflicts, 400 for a patch that names another version, carries managed fields or doesn't fit
/// the structure.
pub fn apply(s: &Structure, live: &Value, applied: &Value, writer: &Writer, force: bool) -> Result<Value, Failure> {
    let version = object::api_version(applied);
    if version != writer.api_version {
        return Err(Status::bad_request(format!(
            "Incorrect version specified in apply patch. Specified patch version: {version}, expected: {}",
            writer.api_version
        ))
        .into());
    }
    if !matches!(object::get(applied, &["metadata", "managedFields"]), None | Some(Value::Null)) {
        return Err(Status::bad_request("metadata.managedFields must be nil").into());
    }
    let empty = json!({"apiVersion": version, "kind": get_str(applied, &["kind"]), "metadata": {}});
    let live = if live.is_null() { &empty } else { live };
    // Differs from upstream, which answers 500: ownership that can't be read (an older program's, or one that went
    // around the API) is as good as none.
    let mut managed = Managed::of(live).unwrap_or_default();
    if managed.is_empty() {
        let before = Writer { manager: BEFORE_FIRST_APPLY, ..*writer };
        managed = update(s, &empty, live, &managed, &before);
    }
    let mut done = match merge(s, live, applied, &managed, writer, force) {
        Err(Failure::Conflicts(conflicts))
            if writer.manager == "kubectl" && last_applied::allows(s, live, &conflicts) =>
        {
            merge(s, live, applied, &managed, writer, true)?
        }
        other => other?,
    };
    if writer.manager == "kubectl" && last_applied::is_set(&done.object) {
        last_applied::refresh(&mut done.object, applied);
    }
    done.managed.store(&mut done.object);
    Ok(done.object)
}

/// What a write changes, in each version that a manager of the object has written in: fields of one version can be
/// others, or none at all, in another.
pub(super) struct Changes(BTreeMap<String, Comparison>);

impl Changes {
    /// `s` is the structure of `version`, in which `old` and `new` are.
    pub(super) fn new(s: &Structure, version: &str, old: &Value, new: &Value, managed: &Managed) -> Changes {
        let own = compare_as_go(s, old, new).ownable(s);
        let mut all = BTreeMap::from([(version.to_string(), own)]);
        for v in managed.0.values() {
            if !all.contains_key(&v.api_version) {
                let (there, old) = s.view(&v.api_version, old);
                let (_, new) = s.view(&v.api_version, new);
                all.insert(v.api_version.clone(), compare_as_go(&there, &old, &new).ownable(&there));
            }
        }
        Changes(all)
    }

    /// Fields that appear or change.
    pub(super) fn touched(&self, version: &str) -> Set {
        self.0.get(version).map(|c| c.added.union(&c.modified)).unwrap_or_default()
    }

    fn all(&self, version: &str) -> Set {
        self.0.get(version).map(|c| c.added.union(&c.modified).union(&c.removed)).unwrap_or_default()
    }
}

/// Takes what a write changes from all managers but one.
pub(super) fn disown(managed: &mut Managed, changes: &Changes, but: Option<&Manager>) {
    let mut fields: BTreeMap<String, Set> = BTreeMap::new();
    for (manager, v) in &mut managed.0 {
        if Some(manager) != but {
            let gone = fields.entry(v.api_version.clone()).or_insert_with(|| changes.all(&v.api_version));
            v.set = v.set.difference(gone);
        }
    }
    managed.0.retain(|manager, v| Some(manager) == but || !v.set.is_empty());
}

/// Without the fields that identify an object or that only the server writes; nobody owns them.
pub(super) fn strip(set: &Set) -> Set {
    let mut never = Set::new();
    for name in ["apiVersion", "kind", "metadata"] {
        never.insert(&[Elem::field(name)]);
    }
    for name in [
        "name",
        "namespace",
        "creationTimestamp",
        "selfLink",
        "uid",
        "clusterName",
        "generation",
        "managedFields",
        "resourceVersion",
    ] {
        never.insert(&[Elem::field("metadata"), Elem::field(name)]);
    }
    set.difference(&never)
}

/// Merges the oldest updaters of a version into one bucket until few enough are left.
fn cap(managed: &mut Managed) {
    let mut updaters: Vec<Manager> = managed.0.keys().filter(|m| m.operation == Operation::Update).cloned().collect();
    let mut excess = updaters.len().saturating_sub(UPDATE_MANAGERS_MAX);
    if excess == 0 {
        return;
    }
    updaters.sort_by_cached_key(|m| (managed.0.get(m).and_then(|v| v.time).map(|t| t.as_second()), m.clone()));
    let mut first_of_version: BTreeMap<String, Manager> = BTreeMap::new();
    for manager in updaters {
        if excess == 0 {
            break;
        }
        let version = manager.api_version.clone();
        let Some(first) = first_of_version.get(&version) else {
            first_of_version.insert(version, manager);
            continue;
        };
        let bucket = Manager::new(BUCKET, Operation::Update, &version, "");
        if manager == bucket {
            continue;
        }
        if !managed.0.contains_key(&bucket)
            && let Some(v) = managed.0.remove(first)
        {
            managed.0.insert(bucket.clone(), v);
        }
        if let (Some(old), Some(into)) = (managed.0.remove(&manager), managed.0.get_mut(&bucket)) {
            into.set.add(&old.set);
            // The newer of the two, because they are walked from old to new.
            into.time = old.time;
            excess -= 1;
        }
    }
}
