//! PATCH: JSON patch, merge patch, strategic merge patch, and server-side apply.

use super::{Answer, Call, create, managed, update};
use crate::options::FieldValidation;
use meta::field::{Errors, Path};
use meta::status::{Result, Status};
use serde_json::Value;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PatchType {
    Json,
    Merge,
    Strategic,
    Apply,
}

/// Tries of an apply whose object comes and goes.
const CREATE_TRIES: usize = 5;

const SUPPORTED: [&str; 4] = [
    "application/json-patch+json",
    "application/merge-patch+json",
    "application/strategic-merge-patch+json",
    "application/apply-patch+yaml",
];

impl PatchType {
    pub fn from_content_type(content_type: &str) -> Result<PatchType> {
        match content_type.split(';').next().unwrap_or("").trim() {
            "application/json-patch+json" => Ok(PatchType::Json),
            "application/merge-patch+json" => Ok(PatchType::Merge),
            "application/strategic-merge-patch+json" => Ok(PatchType::Strategic),
            "application/apply-patch+yaml" | "application/apply-patch+cbor" => Ok(PatchType::Apply),
            other => Err(Status::unsupported_media_type(format!(
                "the body of the request was in an unknown format - accepted media types include: {}{}",
                SUPPORTED.join(", "),
                if other.is_empty() { " (Content-Type is missing)" } else { "" }
            ))),
        }
    }
}

/// `body` is YAML for apply, else JSON; it has been parsed, not yet looked at.
pub async fn patch(
    mut call: Call<'_>,
    subresource: &str,
    patch_type: PatchType,
    body: Value,
) -> Result<(Answer, Vec<String>)> {
    let name = call.info.name.clone();
    if patch_type == PatchType::Apply {
        return apply(call, subresource, &name, body).await;
    }
    if call.options.force.is_some() {
        let mut errors = Errors::default();
        errors.forbidden(Path::new("force"), "may not be specified for non-apply patch");
        return Err(Status::new(
            422,
            "Invalid",
            format!("PatchOptions.meta.k8s.io \"\" is invalid: {}", errors.joined()),
        ));
    }
    if patch_type == PatchType::Strategic && !std::sync::Arc::ptr_eq(&call.row.types, api::facts::types()) {
        // Custom resources don't say how their lists merge, as in upstream.
        return Err(Status::unsupported_media_type(format!(
            "the body of the request was in an unknown format - accepted media types include: {}, {}, {}",
            SUPPORTED[0], SUPPORTED[1], SUPPORTED[3]
        )));
    }
    if patch_type != PatchType::Json && !body.is_object() {
        return Err(Status::bad_request("the patch must be a JSON object"));
    }
    let row = call.row.clone();
    let validation = call.options.field_validation;
    let notes = parking_lot::Mutex::new(Vec::new());
    let transform = |_: &Call<'_>, old: &Value| {
        let (new, found) = patched(&row, patch_type, old, &body, validation)?;
        *notes.lock() = found;
        Ok(new)
    };
    let value = update::write(&mut call, &name, subresource, managed::By::Update, &transform).await?;
    call.warnings.extend(notes.into_inner());
    Ok((Answer::ok(value), call.warnings))
}

/// The patched object, decoded against its type as a request body is, and warnings.
pub fn patched(
    row: &api::catalogue::Resource,
    patch_type: PatchType,
    old: &Value,
    body: &Value,
    validation: FieldValidation,
) -> Result<(Value, Vec<String>)> {
    let raw = match patch_type {
        PatchType::Json => meta::patch::json::apply(old, body)?,
        PatchType::Merge => meta::patch::merge::apply(old, body)?,
        PatchType::Strategic => meta::patch::strategic::apply(&row.types, row.type_id, old, body)?,
        PatchType::Apply => return Err(Status::internal("apply is no patch of bytes")),
    };
    let (mut new, warnings) = crate::wire::conform(row, raw, validation)?;
    row.strategy.defaults(&mut new);
    Ok((new, warnings))
}

/// Server-side apply: creates the object or merges the applied configuration into it.
async fn apply(mut call: Call<'_>, subresource: &str, name: &str, body: Value) -> Result<(Answer, Vec<String>)> {
    if call.options.field_manager.is_empty() {
        let mut errors = Errors::default();
        errors.required(Path::new("fieldManager"), "is required for apply patch");
        return Err(Status::new(
            422,
            "Invalid",
            format!("PatchOptions.meta.k8s.io \"\" is invalid: {}", errors.joined()),
        ));
    }
    let row = call.row.clone();
    let (applied, warnings) = crate::wire::conform(&row, body, call.options.field_validation)?;
    call.warnings.extend(warnings);
    if applied["apiVersion"].as_str().is_none() || applied["kind"].as_str().is_none() {
        return Err(Status::bad_request(
            "error decoding patch: apiVersion and kind must be set in an applied configuration",
        ));
    }
    create::check_kind(&applied, &row.api_version(), &row.kind)?;
    let given = create::text(&applied, "name");
    if !given.is_empty() && given != name {
        return Err(Status::bad_request(format!(
            "the name of the object ({given}) does not match the name on the URL ({name})"
        )));
    }
    let mut applied = applied;
    create::metadata(&mut applied).insert("name".into(), name.into());
    if row.namespaced {
        let ns = create::text(&applied, "namespace");
        if !ns.is_empty() && ns != call.info.namespace {
            return Err(Status::bad_request(
                "the namespace of the provided object does not match the namespace sent on the request",
            ));
        }
        create::metadata(&mut applied).insert("namespace".into(), call.info.namespace.clone().into());
    }
    for _ in 0..CREATE_TRIES {
        if call.registry.store.get(&call.key(name)).is_some() {
            let merge = |call: &Call<'_>, old: &Value| managed::apply(call, Some(old), &applied, subresource);
            let value = update::write(&mut call, name, subresource, managed::By::Apply, &merge).await?;
            return Ok((Answer::ok(value), call.warnings));
        }
        if !subresource.is_empty() {
            return Err(call.not_found(name));
        }
        if !create::text(&applied, "uid").is_empty() {
            return Err(Status::conflict(
                &row.group,
                &row.plural,
                name,
                format!(
                    "uid mismatch: the provided object specified uid {}, and no existing object was found",
                    create::text(&applied, "uid")
                ),
            ));
        }
        let first = managed::apply(&call, None, &applied, subresource)?;
        match create::insert(&mut call, first, managed::By::Apply).await {
            Err(s) if s.reason == "AlreadyExists" => continue,
            Err(s) => return Err(s),
            Ok(value) => return Ok((Answer::Object { code: 201, value }, call.warnings)),
        }
    }
    Err(call.modified(name))
}
