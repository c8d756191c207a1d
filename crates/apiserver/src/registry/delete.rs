//! DELETE and deletecollection: grace periods, finalizers, propagation.
//!
//! Source: API concepts, "Resource deletion"; garbage collection, "Cascading deletion".

use super::update::finished;
use super::{Answer, Call, create, give_way, list, store_error, stored};
use crate::admission::Operation;
use crate::options::{Write, check_dry_run, invalid};
use create::{metadata, text};
use futures::StreamExt;
use meta::field::{Errors, Path};
use meta::status::{Result, Status};
use serde_json::{Value, json};
use std::sync::OnceLock;
use store::Cas;

const FOREGROUND: &str = "foregroundDeletion";
const ORPHAN: &str = "orphan";
/// How many objects of a collection are deleted at a time: they share the store's syncs.
const AT_ONCE: usize = 16;

/// What of DeleteOptions matters here.
#[derive(Clone, Debug, Default)]
pub struct DeleteOptions {
    pub grace_period_seconds: Option<i64>,
    pub propagation: Option<Propagation>,
    pub uid: Option<String>,
    pub resource_version: Option<String>,
    /// The client asked for its dependents to go, too: an object that stays for now is answered as accepted.
    cascades: bool,
    ignore_store_read_error: bool,
    raw: Value,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Propagation {
    Orphan,
    Background,
    Foreground,
}

impl DeleteOptions {
    /// From the body, or, without one, from the query.
    pub fn parse(body: &Value, call: &mut Call<'_>) -> Result<DeleteOptions> {
        call.options.check_write(Write::Delete)?;
        let query = &call.options;
        let text = |v: &Value| v.as_str().map(String::from);
        let mut o = DeleteOptions { raw: admission_options(body, call), ..DeleteOptions::default() };
        let (policy, orphan, ignore) = if body.is_null() {
            o.grace_period_seconds = query.grace_period_seconds;
            (query.propagation_policy.clone(), query.orphan_dependents, query.ignore_store_read_error)
        } else {
            o.grace_period_seconds = body["gracePeriodSeconds"].as_i64();
            o.uid = text(&body["preconditions"]["uid"]);
            o.resource_version = text(&body["preconditions"]["resourceVersion"]);
            (
                text(&body["propagationPolicy"]),
                body["orphanDependents"].as_bool(),
                body["ignoreStoreReadErrorWithClusterBreakingPotential"].as_bool(),
            )
        };
        let mut errors = Errors::default();
        let field = || Path::new("propagationPolicy");
        if let (Some(policy), Some(_)) = (&policy, orphan) {
            errors.invalid(field(), policy.as_str(), "orphanDependents and deletionPropagation cannot be both set");
        }
        o.propagation = match (policy.as_deref(), orphan) {
            (Some("Orphan"), _) | (None, Some(true)) => Some(Propagation::Orphan),
            (Some("Background"), _) | (None, Some(false)) => Some(Propagation::Background),
            (Some("Foreground"), _) => Some(Propagation::Foreground),
            (Some(other), _) => {
                errors.not_supported(field(), other, &["Foreground", "Background", "Orphan", "nil"]);
                None
            }
            (None, None) => None,
        };
        o.cascades = orphan == Some(false);
        let dry_run = body["dryRun"].as_array();
        check_dry_run(dry_run.into_iter().flatten().map(|v| v.as_str().unwrap_or_default()), &mut errors);
        // Differs from upstream, which doesn't look at the query when there is a body: who asks for a dry run
        // anywhere must not lose an object.
        call.options.dry_run |= dry_run.is_some_and(|d| d.iter().any(|v| v == "All"));
        if ignore == Some(true) {
            o.ignore_store_read_error = true;
            let field = Path::new("ignoreStoreReadErrorWithClusterBreakingPotential");
            let with = "cannot be set together with";
            for (set, other) in [
                (call.options.dry_run, ".dryRun"),
                (o.propagation.is_some() && policy.is_some(), ".propagationPolicy"),
                (orphan.is_some(), ".orphanDependents"),
                (o.grace_period_seconds.is_some(), ".gracePeriodSeconds"),
                (o.uid.is_some() || o.resource_version.is_some(), ".preconditions"),
            ] {
                if set {
                    errors.invalid(field.clone(), true, format!("{with} {other}"));
                }
            }
        }
        invalid("DeleteOptions", errors)?;
        if o.grace_period_seconds.is_some_and(|g| g < 0) {
            // As upstream: negative means "now".
            o.grace_period_seconds = Some(1);
        }
        Ok(o)
    }
}

/// The options as admission shows them.
fn admission_options(body: &Value, call: &Call<'_>) -> Value {
    let mut o = call.write_options("DeleteOptions");
    for (key, v) in [
        ("gracePeriodSeconds", json!(call.options.grace_period_seconds)),
        ("propagationPolicy", json!(call.options.propagation_policy)),
        ("orphanDependents", json!(call.options.orphan_dependents)),
    ] {
        if !v.is_null() && body.is_null() {
            o[key] = v;
        }
    }
    for (key, v) in body.as_object().into_iter().flatten() {
        if key != "kind" && key != "apiVersion" {
            o[key] = v.clone();
        }
    }
    o
}

pub async fn delete(mut call: Call<'_>, body: &Value) -> Result<(Answer, Vec<String>)> {
    let options = DeleteOptions::parse(body, &mut call)?;
    let name = call.info.name.clone();
    let answer = remove(&mut call, &name, &options).await?;
    Ok((answer, std::mem::take(&mut call.warnings)))
}

/// Deletes what a list selects. Answers the list as it was.
pub async fn delete_collection(mut call: Call<'_>, body: &Value) -> Result<(Answer, Vec<String>)> {
    let options = DeleteOptions::parse(body, &mut call)?;
    let listing = list::select(&call).await?;
    // One that can't be deleted ends the request; those that are being deleted by then are waited for.
    let failed: OnceLock<Status> = OnceLock::new();
    futures::stream::iter(&listing.items)
        .take_while(|_| std::future::ready(failed.get().is_none()))
        .for_each_concurrent(AT_ONCE, async |item| {
            if let Err(s) = remove_listed(&call, item, &options).await
                && s.code != 404
            {
                let _ = failed.set(s);
            }
        })
        .await;
    if let Some(s) = failed.into_inner() {
        return Err(s);
    }
    Ok((Answer::List(listing), std::mem::take(&mut call.warnings)))
}

async fn remove_listed(call: &Call<'_>, item: &super::Item, options: &DeleteOptions) -> Result<Answer> {
    let name = item.key().rsplit('/').next().unwrap_or_default();
    let mut info = call.info.clone();
    info.namespace = text(&stored::parse(&item.entry), "namespace");
    let mut one = Call {
        registry: call.registry,
        row: call.row.clone(),
        info: &info,
        user: call.user,
        options: call.options.clone(),
        accept: call.accept.clone(),
        user_agent: call.user_agent,
        warnings: Vec::new(),
        audit: call.audit,
        told: call.told.clone(),
        internal: call.internal,
        ends: call.ends,
        conversions: Default::default(),
    };
    remove(&mut one, name, options).await
}

/// What a deletion does to an object as it is now.
#[derive(Debug, PartialEq)]
pub enum Plan {
    /// Gone at once.
    Remove,
    /// Marked; somebody (kubelet, garbage collector, a finalizer's owner) finishes it.
    Mark(Value),
    /// Already as it should be.
    Pending,
}

/// Pure: from the object, the options, and the time to the next state.
pub fn plan(row: &api::catalogue::Resource, old: &Value, options: &DeleteOptions, now: jiff::Timestamp) -> Plan {
    let mut new = old.clone();
    if old["metadata"]["deletionTimestamp"].is_null() {
        row.strategy.prepare_delete(&mut new, now);
    }
    let is_pod = row.group.is_empty() && row.kind == "Pod";
    let is_namespace = row.group.is_empty() && row.kind == "Namespace";
    let deleted_at: Option<jiff::Timestamp> =
        old["metadata"]["deletionTimestamp"].as_str().and_then(|t| t.parse().ok());
    // A pod that is ending has time left. Only who gives it less changes anything, finalizers included.
    let left = deleted_at.and(old["metadata"]["deletionGracePeriodSeconds"].as_i64()).filter(|g| is_pod && *g != 0);
    if left.is_some_and(|left| options.grace_period_seconds.is_none_or(|asked| asked >= left)) {
        return Plan::Pending;
    }

    let mut finalizers: Vec<String> = new["metadata"]["finalizers"]
        .as_array()
        .map(|a| a.iter().filter_map(|v| v.as_str().map(String::from)).collect())
        .unwrap_or_default();
    let collected = row.strategy.is_collected();
    let orphan = match options.propagation {
        _ if !collected => false,
        Some(p) => p == Propagation::Orphan,
        None => finalizers.iter().any(|f| f == ORPHAN) || row.strategy.default_orphan(),
    };
    let foreground = match options.propagation {
        _ if !collected => false,
        Some(p) => p == Propagation::Foreground,
        None => finalizers.iter().any(|f| f == FOREGROUND),
    };
    finalizers.retain(|f| f != ORPHAN && f != FOREGROUND);
    if orphan {
        finalizers.push(ORPHAN.into());
    }
    if foreground {
        finalizers.push(FOREGROUND.into());
    }

    let meta = metadata(&mut new);
    if finalizers.is_empty() {
        meta.remove("finalizers");
    } else {
        meta.insert("finalizers".into(), json!(finalizers));
    }
    let (at, grace) = match (deleted_at, left) {
        (None, _) if is_pod => {
            let grace = pod_grace(old, options);
            (later(now, grace), grace)
        }
        (None, _) => (now, 0),
        (Some(at), Some(left)) => {
            let asked = options.grace_period_seconds.unwrap_or(0);
            match later(at, asked - left) {
                // What is asked for is over already; whoever ends the pod still gets to see that it was.
                at if at < now => (now, asked.min(1)),
                at => (at, asked),
            }
        }
        (Some(at), None) => (at.min(now), 0),
    };
    meta.insert("deletionTimestamp".into(), meta::object::time(at).into());
    meta.insert("deletionGracePeriodSeconds".into(), grace.into());
    if deleted_at.is_none() {
        bump_generation(row, &mut new, old);
    }
    if is_namespace {
        new["status"]["phase"] = "Terminating".into();
    }
    if finished(row, &new) {
        Plan::Remove
    } else if new == *old {
        Plan::Pending
    } else {
        Plan::Mark(new)
    }
}

/// The seconds that a pod gets to end.
fn pod_grace(pod: &Value, options: &DeleteOptions) -> i64 {
    let phase = pod["status"]["phase"].as_str().unwrap_or("");
    // Nothing runs, so nobody needs the time: not bound, or already at its end.
    if pod["spec"]["nodeName"].as_str().unwrap_or("").is_empty() || phase == "Succeeded" || phase == "Failed" {
        return 0;
    }
    let own = || pod["spec"]["terminationGracePeriodSeconds"].as_i64();
    match options.grace_period_seconds.or_else(own).unwrap_or(0) {
        ..0 => 1,
        grace => grace,
    }
}

/// Seconds after a time; the end of time for periods that outlast it.
fn later(now: jiff::Timestamp, seconds: i64) -> jiff::Timestamp {
    now.checked_add(jiff::SignedDuration::from_secs(seconds)).unwrap_or(jiff::Timestamp::MAX)
}

fn bump_generation(row: &api::catalogue::Resource, new: &mut Value, old: &Value) {
    if row.strategy.has_generation() {
        let g = old["metadata"]["generation"].as_i64().unwrap_or(0) + 1;
        metadata(new).insert("generation".into(), g.into());
    }
}

/// Removes an object that nobody can decrypt, without finalizers, preconditions or admission: none can be read.
///
/// Differs from upstream, where this needs a feature gate and a verb of its own: it is for administrators only.
async fn remove_unread(call: &Call<'_>, entry: &store::Entry, options: &DeleteOptions) -> Result<Answer> {
    let name = entry.key.rsplit('/').next().unwrap_or_default();
    if !call.user.in_group(crate::authn::MASTERS) {
        let why = "not permitted to do \"unsafe-delete-ignore-read-errors\"";
        return Err(Status::forbidden(&call.row.group, &call.row.plural, name, why));
    }
    if options.uid.is_some() || options.resource_version.is_some() {
        return Err(Status::bad_request("preconditions can't be checked on an object that can't be read"));
    }
    if !call.options.dry_run {
        call.registry.store.delete(&entry.key, Some(entry.mod_revision)).await.map_err(store_error)?;
        tracing::warn!(key = &*entry.key, user = call.user.name, "an object that can't be decrypted was deleted");
    }
    Ok(Answer::ok(json!({"kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Success",
        "details": {"name": name, "group": call.row.group, "kind": call.row.plural}})))
}

pub async fn remove(call: &mut Call<'_>, name: &str, options: &DeleteOptions) -> Result<Answer> {
    let row = call.row.clone();
    let key = call.key(name);
    let store = call.registry.store.clone();
    let kept = if options.cascades { 202 } else { 200 };
    store.barrier().await.map_err(store_error)?;
    for lost in 0.. {
        give_way(lost).await;
        let entry = store.get(&key).ok_or_else(|| call.not_found(name))?;
        if options.ignore_store_read_error && entry.is_sealed() {
            return remove_unread(call, &entry, options).await;
        }
        let old = call.see(&entry).await?.object();
        if options.ignore_store_read_error && old.is_object() {
            // It is for objects that can't be read; this one can.
            let mut errors = Errors::default();
            errors.invalid(
                Path::new("ignoreStoreReadErrorWithClusterBreakingPotential"),
                true,
                "is exclusively used to delete corrupt object(s), try again by removing this option",
            );
            return invalid("DeleteOptions", errors).map(|()| Answer::ok(old));
        }
        check_preconditions(&row, name, &old, options)?;
        // A request for all of them names none.
        let asked = call.info.name.clone();
        call.admit(Operation::Delete, "", &asked, &mut Value::Null, Some(&old), &options.raw).await?;
        call.admit_final(Operation::Delete, "", &asked, &mut Value::Null, Some(&old), &options.raw).await?;
        match plan(&row, &old, options, jiff::Timestamp::now()) {
            Plan::Pending => return Ok(Answer::Object { code: kept, value: old }),
            Plan::Mark(new) => {
                if call.options.dry_run {
                    return Ok(Answer::Object { code: kept, value: new });
                }
                match store
                    .update(&key, call.encode(&new).await?, entry.mod_revision, call.ttl())
                    .await
                    .map_err(store_error)?
                {
                    Cas::Done { entry, .. } => {
                        let item = call.see(&entry).await?;
                        return Ok(match kept {
                            200 => Answer::Item(item),
                            code => Answer::Object { code, value: item.object() },
                        });
                    }
                    Cas::Conflict(_) => continue,
                }
            }
            Plan::Remove => {
                if call.options.dry_run {
                    return Ok(removed(&row, &old));
                }
                let span = super::storing("Delete etcd3", &key, &row);
                let removal = store.delete(&key, Some(entry.mod_revision)).await.map_err(store_error)?;
                drop(span);
                match removal {
                    Cas::Done { revision, .. } => {
                        call.registry.addresses.release(&row, &old).await;
                        let mut last = old;
                        stored::set_version(&mut last, revision);
                        return Ok(removed(&row, &last));
                    }
                    Cas::Conflict(_) => continue,
                }
            }
        }
    }
    unreachable!("the loop ends by returning")
}

/// 409 when the client means another object, or another state of it.
fn check_preconditions(
    row: &api::catalogue::Resource,
    name: &str,
    object: &Value,
    options: &DeleteOptions,
) -> Result<()> {
    let conflict = |why: String| Err(Status::conflict(&row.group, &row.kind, name, why));
    if let Some(asked) = &options.uid
        && *asked != text(object, "uid")
    {
        return conflict(format!(
            "the UID in the precondition ({asked}) does not match the UID in record ({}). The object might have been deleted and then recreated",
            text(object, "uid")
        ));
    }
    if let Some(asked) = &options.resource_version
        && *asked != text(object, "resourceVersion")
    {
        return conflict(format!(
            "the ResourceVersion in the precondition ({asked}) does not match the ResourceVersion in record ({}). The object might have been modified",
            text(object, "resourceVersion")
        ));
    }
    Ok(())
}

/// A few kinds answer the object that is gone, the rest a Status.
fn removed(row: &api::catalogue::Resource, old: &Value) -> Answer {
    const ANSWER_THE_OBJECT: [&str; 7] = [
        "pods",
        "services",
        "persistentvolumes",
        "persistentvolumeclaims",
        "podtemplates",
        "serviceaccounts",
        "resourcequotas",
    ];
    if row.group.is_empty() && ANSWER_THE_OBJECT.contains(&row.plural.as_str()) {
        return Answer::ok(old.clone());
    }
    // Unlike other Statuses it has no code.
    let mut details = json!({"name": text(old, "name"), "kind": row.plural, "uid": text(old, "uid")});
    if !row.group.is_empty() {
        details["group"] = row.group.as_str().into();
    }
    Answer::ok(json!({
        "kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Success", "details": details,
    }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pod_that_ends_can_only_be_hurried() {
        let rows = api::catalogue::builtin();
        let row = api::catalogue::by_kind(&rows, "", "v1", "Pod").unwrap();
        let now: jiff::Timestamp = "2026-01-01T00:01:00Z".parse().unwrap();
        let pod = |meta: Value| json!({"metadata": meta, "spec": {"nodeName": "n", "terminationGracePeriodSeconds": 10}, "status": {"phase": "Running"}});
        let done = |pod: &Value, grace: Option<i64>, propagation: Option<Propagation>| {
            let options = DeleteOptions { grace_period_seconds: grace, propagation, ..DeleteOptions::default() };
            match plan(row, pod, &options, now) {
                Plan::Remove => "removed".to_owned(),
                Plan::Pending => "as before".to_owned(),
                Plan::Mark(new) => {
                    let m = &new["metadata"];
                    let finalizers = if m["finalizers"].is_null() { json!([]) } else { m["finalizers"].clone() };
                    format!(
                        "{} {} {finalizers} {}",
                        m["deletionTimestamp"].as_str().unwrap(),
                        m["deletionGracePeriodSeconds"],
                        m["generation"]
                    )
                }
            }
        };
        let alive = pod(json!({"generation": 1}));
        assert_eq!(done(&alive, None, None), "2026-01-01T00:01:10Z 10 [] 2");
        assert_eq!(done(&alive, Some(30), None), "2026-01-01T00:01:30Z 30 [] 2");
        assert_eq!(done(&alive, Some(0), None), "removed");
        let mut unbound = alive.clone();
        unbound["spec"]["nodeName"] = "".into();
        assert_eq!(done(&unbound, Some(30), None), "removed");

        let ending = pod(json!({"generation": 2, "finalizers": ["a/b"],
            "deletionTimestamp": "2026-01-01T00:01:20Z", "deletionGracePeriodSeconds": 30}));
        for grace in [None, Some(30), Some(31)] {
            for propagation in [None, Some(Propagation::Orphan), Some(Propagation::Foreground)] {
                assert_eq!(done(&ending, grace, propagation), "as before");
            }
        }
        assert_eq!(done(&ending, Some(15), None), "2026-01-01T00:01:05Z 15 [\"a/b\"] 2");
        assert_eq!(done(&ending, Some(5), None), "2026-01-01T00:01:00Z 1 [\"a/b\"] 2");
        assert_eq!(done(&ending, Some(0), Some(Propagation::Orphan)), "2026-01-01T00:01:00Z 0 [\"a/b\",\"orphan\"] 2");
        let mut over = ending.clone();
        over["status"]["phase"] = "Succeeded".into();
        assert_eq!(done(&over, None, None), "as before");
        over["metadata"]["finalizers"] = json!([]);
        assert_eq!(done(&over, Some(0), None), "removed");
    }
}
