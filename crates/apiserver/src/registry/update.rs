//! UPDATE: every write to an existing object, whichever verb it came with.

use super::{Answer, Call, create, devices, give_way, managed, parse_version, store_error};
use crate::admission::Operation;
use crate::options::Write;
use crate::subresources::scale;
use api::catalogue::Resource;
use api::strategy::METADATA;
use api::validation::access::reset_metadata;
use api::validation::objectmeta;
use create::{metadata, text};
use meta::field::{Errors, Path};
use meta::status::{Result, Status};
use serde_json::{Value, json};
use store::Cas;

/// Makes the new object from the present one.
pub type Transform<'a> = dyn Fn(&Call<'_>, &Value) -> Result<Value> + Send + Sync + 'a;

/// PUT.
pub async fn update(mut call: Call<'_>, subresource: &str, object: Value) -> Result<(Answer, Vec<String>)> {
    let row = call.row.clone();
    create::check_body(&row, &object)?;
    call.options.check_write(Write::Update)?;
    create::check_name(call.info, &object)?;
    let name = call.info.name.clone();
    let exists = call.registry.store.get(&call.key(&name)).is_some();
    if !exists && row.strategy.allow_create_on_update() && subresource.is_empty() {
        let uid = text(&object, "uid");
        if !uid.is_empty() {
            // The client means an object that is gone.
            return Err(uid_conflict(&call, &name, &uid, ""));
        }
        let mut object = object;
        metadata(&mut object).remove("resourceVersion");
        let value = create::insert(&mut call, object, managed::By::Update).await?;
        return Ok((Answer::Object { code: 201, value }, std::mem::take(&mut call.warnings)));
    }
    let mut object = object;
    create::dedup_owners(&mut object, &mut call.warnings, false);
    let value = write(&mut call, &name, subresource, managed::By::Update, &|_, _| Ok(object.clone())).await?;
    Ok((Answer::ok(value), std::mem::take(&mut call.warnings)))
}

/// The transaction: read, transform, prepare, admit, validate, compare and swap.
pub async fn write(
    call: &mut Call<'_>,
    name: &str,
    subresource: &str,
    by: managed::By,
    transform: &Transform<'_>,
) -> Result<Value> {
    let row = call.row.clone();
    let key = call.key(name);
    let store = call.registry.store.clone();
    store.barrier().await.map_err(store_error)?;
    for lost in 0.. {
        give_way(lost).await;
        let entry = store.get(&key).ok_or_else(|| call.not_found(name))?;
        let old = call.see(&entry).await?.object();
        let mut new = managed::answered(call, || transform(call, &old)).await??;
        check_preconditions(call, name, &new, &old, subresource)?;
        keep_server_owned(&mut new, &old);
        restrict_to_subresource(&row, subresource, &mut new, &old);

        if row.kind == "CertificateSigningRequest" {
            date_conditions(&mut new, &old);
        }

        // Ownership is of what the client asked for, before admission and the kind add to it.
        managed::track(call, &mut new, Some(&old), by, subresource).await;
        let options = call.write_options("UpdateOptions");
        admit(call, subresource, name, &mut new, &old, &options).await?;
        create::dedup_owners(&mut new, &mut call.warnings, true);
        row.strategy.defaults(&mut new);
        devices::date_taints(call, &mut new);

        if subresource == "status" {
            // Plugins change no more than clients do.
            reset_metadata(&mut new, &old, row.strategy.status_keeps());
            row.strategy.prepare_status_update(&mut new, &old);
            date_phase(&row, &mut new, &old);
        } else {
            if subresource.is_empty() {
                row.strategy.prepare_update(&mut new, &old, row.has_status());
            }
            if row.strategy.has_generation() && row.strategy.bumps_generation(&new, &old) {
                let g = old["metadata"]["generation"].as_i64().unwrap_or(0) + 1;
                metadata(&mut new).insert("generation".into(), g.into());
            }
        }
        let claim = match subresource {
            "" => call.registry.addresses.claim(&row, &mut new, Some(&old), call.options.dry_run).await?,
            _ => call.registry.addresses.no_claim(),
        };
        match check_and_store(call, subresource, name, &mut new, &old, &entry, &options).await {
            Ok(Some(value)) => {
                claim.keep();
                return Ok(value);
            }
            // Somebody was faster. The next round reads their object: a patch is applied to it, and a client's own
            // resourceVersion no longer matches.
            Ok(None) => claim.release().await,
            Err(s) => {
                claim.release().await;
                return Err(s);
            }
        }
    }
    unreachable!("the loop ends by returning")
}

/// The last steps of a changed object. `None`: it is no longer what it was.
async fn check_and_store(
    call: &mut Call<'_>,
    subresource: &str,
    name: &str,
    new: &mut Value,
    old: &Value,
    entry: &store::Entry,
    options: &Value,
) -> Result<Option<Value>> {
    let (row, key, store) = (call.row.clone(), call.key(name), call.registry.store.clone());
    let mut errors = Errors::default();
    objectmeta::object_meta_update(new, old, &mut errors);
    if !row.strategy.free_finalizers() {
        objectmeta::standard_finalizers(new, &mut errors);
    }
    match subresource {
        "" => row.strategy.validate_update(new, old, &mut errors),
        "status" => {
            devices::check_admin_access(call, new, Some(old), &mut errors);
            row.strategy.validate_status_update(new, old, &mut errors);
        }
        other => row.strategy.validate_subresource_update(other, new, old, &mut errors),
    }
    call.warnings.extend(errors.warnings());
    if !errors.is_empty() {
        return Err(Status::invalid(&row.group, &row.kind, name, &errors));
    }
    match subresource {
        "" => call.warnings.extend(row.strategy.warnings(new, Some(old))),
        "status" => call.warnings.extend(row.strategy.status_warnings(new, old)),
        _ => {}
    }
    admit_final(call, subresource, name, new, old, options).await?;

    // A write that changes nothing makes no revision, as in upstream; that somebody wrote it again is no change.
    // Unless it brings the object's stored form up to date: a rotated key, encryption that was just turned on,
    // another storage version. That is how storage is migrated.
    if new == old || managed::differ_in_time_only(new, old) {
        let stale = call.registry.encryption.as_ref().is_some_and(|e| e.is_stale(entry));
        if !stale && *call.encode(old).await? == *entry.value {
            return Ok(Some(old.clone()));
        }
    }
    if call.options.dry_run {
        return Ok(Some(new.take()));
    }
    if finished(&row, new) {
        // The last finalizer of a deleted object went away: the write is its removal.
        let span = super::storing("Delete etcd3", &key, &row);
        let removal = store.delete(&key, Some(entry.mod_revision)).await;
        drop(span);
        if !matches!(removal, Ok(Cas::Done { .. }) | Err(store::Error::Unknown(_))) {
            call.release(Operation::Update, subresource, name, new, Some(old)).await;
        }
        return match removal.map_err(store_error)? {
            Cas::Done { .. } => {
                call.registry.addresses.release(&row, old).await;
                call.registry.addresses.release(&row, new).await;
                Ok(Some(new.take()))
            }
            Cas::Conflict(_) => Ok(None),
        };
    }
    let bytes = match call.encode(new).await {
        Ok(b) => b,
        Err(s) => {
            call.release(Operation::Update, subresource, name, new, Some(old)).await;
            return Err(s);
        }
    };
    let span = super::storing("GuaranteedUpdate etcd3", &key, &row);
    let written = store.update(&key, bytes, entry.mod_revision, call.ttl()).await;
    drop(span);
    match written {
        Ok(Cas::Done { entry, .. }) => {
            call.registry.addresses.release_unused(&row, old, new).await;
            Ok(Some(call.see(&entry).await?.object()))
        }
        Ok(Cas::Conflict(_)) => {
            call.release(Operation::Update, subresource, name, new, Some(old)).await;
            Ok(None)
        }
        Err(e) => {
            if !matches!(e, store::Error::Unknown(_)) {
                call.release(Operation::Update, subresource, name, new, Some(old)).await;
            }
            Err(store_error(e))
        }
    }
}

/// Mutating admission of a write. Subresources with a kind of their own are shown as that kind.
async fn admit(
    call: &mut Call<'_>,
    subresource: &str,
    name: &str,
    new: &mut Value,
    old: &Value,
    options: &Value,
) -> Result<()> {
    match (subresource, call.row.strategy.scale()) {
        ("scale", Some(paths)) => {
            let (mut shown, before) = (scale::of(new, &paths), scale::of(old, &paths));
            call.admit(Operation::Update, subresource, name, &mut shown, Some(&before), options).await?;
            scale::set(new, &paths, &shown);
        }
        // A binding was admitted as a Binding.
        ("binding", _) => {}
        _ => {
            call.admit(Operation::Update, subresource, name, new, Some(old), options).await?;
            check_still_same(call, name, new, old)?;
            // Webhooks may have changed anything; what isn't theirs stays.
            keep_server_owned(new, old);
            restrict_to_subresource(&call.row, subresource, new, old);
        }
    }
    Ok(())
}

/// No webhook makes another object of it, or writes over what it hasn't seen.
fn check_still_same(call: &Call<'_>, name: &str, new: &Value, old: &Value) -> Result<()> {
    let row = &call.row;
    if row.namespaced && text(new, "namespace") != text(old, "namespace") {
        return Err(Status::bad_request(
            "the namespace of the provided object does not match the namespace sent on the request",
        ));
    }
    let given = text(new, "name");
    if given != text(old, "name") {
        let mut errors = Errors::default();
        errors.invalid(Path::new("metadata.name"), given, "field is immutable");
        return Err(Status::invalid(&row.group, &row.kind, name, &errors));
    }
    let version = text(new, "resourceVersion");
    if !version.is_empty() && version != "0" && version != text(old, "resourceVersion") {
        return Err(call.modified(name));
    }
    Ok(())
}

async fn admit_final(
    call: &mut Call<'_>,
    subresource: &str,
    name: &str,
    new: &mut Value,
    old: &Value,
    options: &Value,
) -> Result<()> {
    match (subresource, call.row.strategy.scale()) {
        ("scale", Some(paths)) => {
            let (mut shown, before) = (scale::of(new, &paths), scale::of(old, &paths));
            call.admit_final(Operation::Update, subresource, name, &mut shown, Some(&before), options).await
        }
        ("binding", _) => Ok(()),
        _ => call.admit_final(Operation::Update, subresource, name, new, Some(old), options).await,
    }
}

/// Checks uid and resourceVersion of the new object against the stored one.
fn check_preconditions(call: &Call<'_>, name: &str, new: &Value, old: &Value, subresource: &str) -> Result<()> {
    let row = &call.row;
    let uid = text(new, "uid");
    // A patch that gives another one makes an invalid object, which validation finds.
    if !uid.is_empty() && uid != text(old, "uid") && call.info.verb != "patch" {
        return Err(uid_conflict(call, name, &uid, &text(old, "uid")));
    }
    let given = text(new, "resourceVersion");
    match parse_version(&given)? {
        None | Some(0) => {
            if !row.strategy.allow_unconditional_update() && matches!(subresource, "" | "status") {
                let mut errors = Errors::default();
                errors.invalid(Path::new("metadata.resourceVersion"), 0, "must be specified for an update");
                // Upstream names the resource here, where others have the kind.
                return Err(Status::invalid(&row.group, &row.plural, name, &errors));
            }
            Ok(())
        }
        Some(_) if given != text(old, "resourceVersion") => Err(call.modified(name)),
        Some(_) => Ok(()),
    }
}

/// The conflict of a write that means another object of the same name.
pub fn uid_conflict(call: &Call<'_>, name: &str, asked: &str, actual: &str) -> Status {
    precondition_failed(call, name, ["UID", asked, actual])
}

/// The conflict of a write that means another version of the object.
pub fn version_conflict(call: &Call<'_>, name: &str, asked: &str, actual: &str) -> Status {
    precondition_failed(call, name, ["ResourceVersion", asked, actual])
}

fn precondition_failed(call: &Call<'_>, name: &str, [what, asked, actual]: [&str; 3]) -> Status {
    let row = &call.row;
    let key = upstream_key(row, &call.key(name));
    let why = format!(
        "StorageError: invalid object, Code: 4, Key: {key}, ResourceVersion: 0, AdditionalErrorMsg: Precondition failed: {what} in precondition: {asked}, {what} in object meta: {actual}"
    );
    Status::conflict(&row.group, &row.plural, name, why)
}

/// The key under which upstream has an object, as it tells clients in errors.
fn upstream_key(row: &Resource, key: &str) -> String {
    let (group, plural) = (row.group.as_str(), row.plural.as_str());
    let own = crate::reader::prefix(group, plural, "");
    let rest = key.strip_prefix(&own).unwrap_or(key);
    let place = match (group, plural) {
        ("", "services") => "services/specs",
        ("", "endpoints") => "services/endpoints",
        ("", "nodes") => "minions",
        ("", "replicationcontrollers") => "controllers",
        ("networking.k8s.io", "ingresses") => "ingress",
        ("apiextensions.k8s.io" | "apiregistration.k8s.io", _) => return format!("/registry/{group}/{plural}/{rest}"),
        _ if row.custom.is_some() => return format!("/registry/{group}/{plural}/{rest}"),
        _ => plural,
    };
    format!("/registry/{place}/{rest}")
}

fn keep_server_owned(new: &mut Value, old: &Value) {
    let meta = metadata(new);
    for field in [
        "uid",
        "creationTimestamp",
        "deletionTimestamp",
        "deletionGracePeriodSeconds",
        "generation",
        "selfLink",
        "resourceVersion",
        "namespace",
        "name",
    ] {
        match old["metadata"].get(field) {
            // Another object or grace period is a fault, which validation finds.
            Some(_) if field == "uid" && meta.get(field).is_some_and(|u| u != "") => None,
            Some(_) if field == "deletionGracePeriodSeconds" && meta.get(field).is_some_and(Value::is_number) => None,
            Some(v) => meta.insert(field.into(), v.clone()),
            // So is the wish to be deleted.
            None if field.starts_with("deletion") => None,
            None => meta.remove(field),
        };
    }
    for field in ["apiVersion", "kind"] {
        new[field] = old[field].clone();
    }
}

/// Conditions of signing requests come without times from clients such as kubectl; the server adds them.
fn date_conditions(new: &mut Value, old: &Value) {
    let now = Value::from(super::create::now_seconds());
    let before = old["status"]["conditions"].as_array().cloned().unwrap_or_default();
    let Some(conditions) = new["status"]["conditions"].as_array_mut() else { return };
    for c in conditions.iter_mut().filter(|c| c.is_object()) {
        if c["lastTransitionTime"].is_null() {
            let same = before.iter().find(|b| b["type"] == c["type"] && b["status"] == c["status"]);
            let since = same.map(|b| b["lastTransitionTime"].clone()).filter(|t| !t.is_null());
            c["lastTransitionTime"] = since.unwrap_or_else(|| now.clone());
        }
        if c["lastUpdateTime"].is_null() {
            c["lastUpdateTime"] = now.clone();
        }
    }
}

/// Since when a volume is in its phase: whoever writes its status may say so.
pub fn date_phase(row: &Resource, new: &mut Value, old: &Value) {
    const SINCE: &str = "lastPhaseTransitionTime";
    if row.kind != "PersistentVolume" {
        return;
    }
    let (is, was) = (&new["status"], &old["status"]);
    let said = !is[SINCE].is_null();
    let since = match is["phase"] == was["phase"] {
        true if said => return,
        true => was[SINCE].clone(),
        false if said && is[SINCE] != was[SINCE] => return,
        false => super::create::now_seconds().into(),
    };
    if !since.is_null() {
        new["status"][SINCE] = since;
    }
}

/// A subresource changes only its part of the object; everything else stays as it is.
fn restrict_to_subresource(row: &Resource, subresource: &str, new: &mut Value, old: &Value) {
    let keep = |paths: &[&[&str]], metadata: &[&str], new: &Value| {
        let mut out = old.clone();
        for p in paths {
            copy_path(&mut out, new, p);
        }
        // Clients that go through a subresource are tracked like all others.
        for key in metadata.iter().chain(&["managedFields"]) {
            copy_path(&mut out, new, &["metadata", key]);
        }
        out
    };
    *new = match subresource {
        "" => return,
        "status" => {
            let mut out = keep(&[&["status"]], METADATA, new);
            reset_metadata(&mut out, old, row.strategy.status_keeps());
            out
        }
        "finalize" => keep(&[&["spec", "finalizers"]], METADATA, new),
        "approval" => keep(&[&["status", "conditions"]], METADATA, new),
        "ephemeralcontainers" => keep(&[&["spec", "ephemeralContainers"]], &[], new),
        "resize" => {
            let mut out = keep(&[], &[], new);
            for list in ["containers", "initContainers"] {
                let Some(now) = out["spec"][list].as_array_mut() else { continue };
                for c in now {
                    let wanted = new["spec"][list].as_array().into_iter().flatten().find(|n| n["name"] == c["name"]);
                    for field in ["resources", "resizePolicy"] {
                        if let Some(v) = wanted.and_then(|w| w.get(field)) {
                            c[field] = v.clone();
                        }
                    }
                }
            }
            copy_path(&mut out, new, &["spec", "resources"]);
            out
        }
        // Rows with subresources of their own (scale, binding, token) write through the main resource.
        _ => return,
    };
}

fn copy_path(to: &mut Value, from: &Value, path: &[&str]) {
    let mut source = from;
    for p in path {
        source = &source[*p];
    }
    let Some((last, parents)) = path.split_last() else { return };
    let mut target = to;
    for p in parents {
        if !target[*p].is_object() {
            if source.is_null() {
                return;
            }
            target[*p] = json!({});
        }
        target = &mut target[*p];
    }
    if let Some(o) = target.as_object_mut() {
        if source.is_null() {
            o.remove(*last)
        } else {
            o.insert((*last).to_string(), source.clone())
        };
    }
}

/// Deleted, and nothing holds it back any more.
pub fn finished(row: &api::catalogue::Resource, object: &Value) -> bool {
    let meta = &object["metadata"];
    !meta["deletionTimestamp"].is_null()
        && meta["deletionGracePeriodSeconds"].as_i64().unwrap_or(0) == 0
        && meta["finalizers"].as_array().is_none_or(|f| f.is_empty())
        && !(row.group.is_empty()
            && row.kind == "Namespace"
            && object["spec"]["finalizers"].as_array().is_some_and(|f| !f.is_empty()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_volume_says_since_when_it_is_in_its_phase() {
        let rows = api::catalogue::builtin();
        let row = |plural: &str| rows.iter().find(|r| r.plural == plural).unwrap();
        let (then, other) = ("2026-01-01T00:00:00Z", "2026-02-02T00:00:00Z");
        let status = |phase: &str, since: &str| match since {
            "" => json!({"status": {"phase": phase}}),
            since => json!({"status": {"phase": phase, "lastPhaseTransitionTime": since}}),
        };
        let since = |plural: &str, mut new: Value, old: Value| {
            date_phase(row(plural), &mut new, &old);
            let since = new["status"]["lastPhaseTransitionTime"].as_str().unwrap_or("").to_string();
            if ["", then, other].contains(&since.as_str()) { since } else { "now".into() }
        };
        for (new, old, want) in [
            (status("Pending", ""), Value::Null, "now"),
            (status("Bound", ""), status("Bound", then), then),
            (status("Bound", other), status("Bound", then), other),
            (status("Bound", ""), status("Bound", ""), ""),
            (status("Released", ""), status("Bound", then), "now"),
            (status("Released", then), status("Bound", then), "now"),
            (status("Released", other), status("Bound", then), other),
        ] {
            assert_eq!(since("persistentvolumes", new.clone(), old.clone()), want, "{new} {old}");
            assert_eq!(since("pods", status("Running", ""), old), "");
        }
    }

    #[test]
    fn keys_are_told_as_upstream_has_them() {
        let rows = api::catalogue::builtin();
        for (plural, want) in [
            ("deployments", "/registry/deployments/d/x"),
            ("services", "/registry/services/specs/d/x"),
            ("nodes", "/registry/minions/d/x"),
            ("ingresses", "/registry/ingress/d/x"),
            ("apiservices", "/registry/apiregistration.k8s.io/apiservices/d/x"),
        ] {
            let row = rows.iter().find(|r| r.plural == plural).unwrap();
            let key = crate::reader::key(&row.group, plural, "d", "x");
            assert_eq!(upstream_key(row, &key), want);
        }
    }
}
