//! CREATE.

use super::update::date_phase;
use super::{Answer, Call, devices, managed, store_error};
use crate::admission::Operation;
use crate::options::Write;
use crate::wire;
use api::catalogue::Resource;
use api::strategy::NameRule;
use api::validation::objectmeta;
use meta::field::{Errors, Path};
use meta::status::{Result, Status};
use serde_json::{Value, json};
use store::Cas;

/// How often a generated name is made anew when it is taken (KEP-4420).
const NAME_TRIES: usize = 8;

/// Of an object's metadata, given after admission; nobody else's word counts.
const OWNED_BY_SERVER: [&str; 5] =
    ["uid", "creationTimestamp", "resourceVersion", "deletionTimestamp", "deletionGracePeriodSeconds"];

pub async fn create(mut call: Call<'_>, object: Value) -> Result<(Answer, Vec<String>)> {
    call.options.check_write(Write::Create)?;
    let value = insert(&mut call, object, managed::By::Update).await?;
    Ok((Answer::Object { code: 201, value }, std::mem::take(&mut call.warnings)))
}

/// Puts a new object through every step up to the commit. Also the creating half of apply and of PUT.
pub async fn insert(call: &mut Call<'_>, mut object: Value, by: managed::By) -> Result<Value> {
    let row = call.row.clone();
    check_identity(call, &object)?;
    let options = call.write_options("CreateOptions");

    dedup_owners(&mut object, &mut call.warnings, false);
    let meta = metadata(&mut object);
    for owned_by_server in ["selfLink"].iter().chain(&OWNED_BY_SERVER) {
        meta.remove(*owned_by_server);
    }
    if row.namespaced {
        meta.insert("namespace".into(), call.info.namespace.clone().into());
    } else {
        meta.remove("namespace");
    }
    // Ownership is of what the client asked for, before admission and the kind add to it.
    managed::track(call, &mut object, None, by, "").await;
    let given_name = text(&object, "name");
    call.admit(Operation::Create, "", &given_name, &mut object, None, &options).await?;
    dedup_owners(&mut object, &mut call.warnings, true);
    row.strategy.defaults(&mut object);
    devices::date_taints(call, &mut object);
    // Webhooks may have changed anything. What the server owns is the server's; a new name is taken.
    let meta = metadata(&mut object);
    for owned_by_server in OWNED_BY_SERVER {
        meta.remove(owned_by_server);
    }
    meta.insert("uid".into(), uuid::Uuid::new_v4().to_string().into());
    meta.insert("creationTimestamp".into(), now_seconds().into());
    if row.namespaced && meta.get("namespace") != Some(&Value::from(call.info.namespace.as_str())) {
        return Err(Status::bad_request(
            "the namespace of the provided object does not match the namespace sent on the request",
        ));
    }
    let base = text(&object, "generateName");
    let generated = text(&object, "name").is_empty() && !base.is_empty();
    call.warnings.extend(row.strategy.arrival_warnings(&object));

    for attempt in 1.. {
        let mut new = if generated { object.clone() } else { std::mem::take(&mut object) };
        if generated {
            new["metadata"]["name"] = meta::names::generate_name(&base, &mut rand::rng()).into();
        }
        if row.strategy.has_generation() {
            metadata(&mut new).insert("generation".into(), 1.into());
        }
        row.strategy.prepare_create(&mut new, row.has_status());
        let name = text(&new, "name");
        if row.group == "certificates.k8s.io" && row.kind == "CertificateSigningRequest" {
            name_requester(&mut new, call.user);
        }
        date_phase(&row, &mut new, &Value::Null);
        if row.has_status() && row.always_has("status") && new["status"].is_null() {
            new["status"] = json!({});
        }

        let addresses = &call.registry.addresses;
        let claim = match name.as_str() {
            "" => addresses.no_claim(),
            _ => addresses.claim(&row, &mut new, None, call.options.dry_run).await?,
        };
        match check_and_store(call, &mut new, &name, &options).await {
            Ok(Some(made)) => {
                claim.keep();
                return Ok(made);
            }
            Ok(None) => claim.release().await,
            Err(s) => {
                claim.release().await;
                return Err(s);
            }
        }
        if !generated || call.options.dry_run {
            return Err(Status::already_exists(&row.group, &row.plural, &name));
        }
        if attempt >= NAME_TRIES {
            return Err(Status::generated_name_conflict(&row.group, &row.plural, &name));
        }
    }
    unreachable!("the loop ends by returning")
}

/// The last steps of a new object. `None`: the name is taken.
async fn check_and_store(call: &mut Call<'_>, new: &mut Value, name: &str, options: &Value) -> Result<Option<Value>> {
    let row = call.row.clone();
    let mut errors = Errors::default();
    let rule: NameRule = row.strategy.name_rule();
    objectmeta::object_meta(new, row.namespaced, rule, &mut errors);
    if !row.strategy.free_finalizers() {
        objectmeta::standard_finalizers(new, &mut errors);
    }
    devices::check_admin_access(call, new, None, &mut errors);
    row.strategy.validate_create(new, &mut errors);
    if !errors.is_empty() {
        return Err(Status::invalid(&row.group, &row.kind, name, &errors));
    }
    call.warnings.extend(row.strategy.warnings(new, None));
    call.admit_final(Operation::Create, "", name, new, None, options).await?;

    let key = call.key(name);
    if call.options.dry_run {
        return Ok(call.registry.store.get(&key).is_none().then(|| new.take()));
    }
    let bytes = match call.encode(new).await {
        Ok(b) => b,
        Err(s) => {
            call.release(Operation::Create, "", name, new, None).await;
            return Err(s);
        }
    };
    let span = super::storing("Create etcd3", &key, &row);
    let written = call.registry.store.create(&key, bytes, call.ttl()).await;
    drop(span);
    match written {
        Ok(Cas::Done { entry, .. }) => Ok(Some(call.see(&entry).await?.object())),
        Ok(Cas::Conflict(_)) => {
            call.release(Operation::Create, "", name, new, None).await;
            Ok(None)
        }
        Err(e) => {
            if !matches!(e, store::Error::Unknown(_)) {
                call.release(Operation::Create, "", name, new, None).await;
            }
            Err(store_error(e))
        }
    }
}

/// Who asks for a certificate is who made the request, whatever the body says.
fn name_requester(request: &mut Value, user: &crate::authn::User) {
    let spec = &mut request["spec"];
    if !spec.is_object() {
        *spec = json!({});
    }
    let Some(spec) = spec.as_object_mut() else { return };
    for (field, value, empty) in [
        ("username", json!(user.name), user.name.is_empty()),
        ("uid", json!(user.uid), user.uid.is_empty()),
        ("groups", json!(user.groups), user.groups.is_empty()),
        ("extra", json!(user.extra), user.extra.is_empty()),
    ] {
        match empty {
            true => spec.remove(field),
            false => spec.insert(field.to_string(), value),
        };
    }
}

/// The body must be of the kind, version, namespace and name that the path says.
pub fn check_identity(call: &Call<'_>, object: &Value) -> Result<()> {
    let row = &call.row;
    check_body(row, object)?;
    if !object["metadata"]["resourceVersion"].as_str().unwrap_or("").is_empty() {
        return Err(Status::bad_request("resourceVersion should not be set on objects to be created"));
    }
    if row.namespaced {
        check_namespace(call.info, object)?;
    }
    Ok(())
}

/// A body must be of the row's kind. Custom resources must say so, and a wrong kind is told as a field's fault.
pub fn check_body(row: &Resource, object: &Value) -> Result<()> {
    match object["apiVersion"].as_str().unwrap_or("") {
        // Decoding has looked at what others say of themselves.
        _ if row.custom.is_none() => Ok(()),
        given if given == row.api_version() => check_custom_type(row, object),
        given => Err(wire::other_version(given, &row.api_version())),
    }
}

/// Custom resources are decoded whatever they call themselves.
pub fn check_custom_type(row: &Resource, object: &Value) -> Result<()> {
    let (api_version, kind) = (object["apiVersion"].as_str().unwrap_or(""), object["kind"].as_str().unwrap_or(""));
    let mut errors = Errors::default();
    for (field, given, wanted) in [("kind", kind, row.kind.clone()), ("apiVersion", api_version, row.api_version())] {
        if given != wanted {
            errors.invalid(Path::new(field), given, format!("must be {wanted}"));
        }
    }
    if errors.is_empty() {
        return Ok(());
    }
    let (group, _) = meta::object::split_api_version(api_version);
    Err(Status::invalid(group, kind, &text(object, "name"), &errors))
}

/// `metadata.namespace` of a body must be what the path says, where both say something.
pub fn check_namespace(info: &crate::request_info::RequestInfo, object: &Value) -> Result<()> {
    let namespace = text(object, "namespace");
    if info.namespace.is_empty() || namespace.is_empty() || namespace == info.namespace {
        return Ok(());
    }
    Err(Status::bad_request("the namespace of the provided object does not match the namespace sent on the request"))
}

/// `metadata.name` and `metadata.namespace` of a body must be what the path says.
pub fn check_name(info: &crate::request_info::RequestInfo, object: &Value) -> Result<()> {
    let (url, name) = (&info.name, text(object, "name"));
    check_namespace(info, object)?;
    if name.is_empty() {
        return Err(Status::bad_request(format!(
            "the name of the object ({url} based on URL) was undeterminable: name must be provided"
        )));
    }
    if name != *url {
        return Err(Status::bad_request(format!(
            "the name of the object ({name}) does not match the name on the URL ({url})"
        )));
    }
    Ok(())
}

/// Drops owner references that occur twice, and warns of them.
pub fn dedup_owners(object: &mut Value, warnings: &mut Vec<String>, after_admission: bool) {
    let Some(owners) =
        object.get_mut("metadata").and_then(|m| m.get_mut("ownerReferences")).and_then(Value::as_array_mut)
    else {
        return;
    };
    let mut kept: Vec<Value> = Vec::with_capacity(owners.len());
    let mut twice: Vec<String> = Vec::new();
    for owner in std::mem::take(owners) {
        if kept.contains(&owner) {
            let uid = owner["uid"].as_str().unwrap_or_default().to_string();
            if !twice.contains(&uid) {
                twice.push(uid);
            }
        } else {
            kept.push(owner);
        }
    }
    *owners = kept;
    if !twice.is_empty() {
        let when = if after_admission { " after mutating admission happens" } else { "" };
        warnings.push(format!(
            ".metadata.ownerReferences contains duplicate entries{when}; API server dedups owner references in 1.20+, and may reject such requests as early as 1.24; please fix your requests; duplicate UID(s) observed: {}",
            twice.join(", ")
        ));
    }
}

pub fn text(object: &Value, field: &str) -> String {
    object["metadata"][field].as_str().unwrap_or_default().to_string()
}

/// The object's metadata, made where it is missing.
pub fn metadata(object: &mut Value) -> &mut serde_json::Map<String, Value> {
    if !object.is_object() {
        *object = json!({});
    }
    if !object["metadata"].is_object() {
        object["metadata"] = json!({});
    }
    match object["metadata"].as_object_mut() {
        Some(m) => m,
        None => unreachable!("made above"),
    }
}

/// Now, as `metav1.Time`.
pub fn now_seconds() -> String {
    meta::object::time(jiff::Timestamp::now())
}
