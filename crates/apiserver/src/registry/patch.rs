//! PATCH: JSON patch, merge patch, strategic merge patch, and server-side apply.

use super::{Answer, Call, create, managed, update};
use crate::options::{FieldValidation, Write};
use meta::field::{Errors, Path};
use meta::patch::json::json_type;
use meta::status::{Result, Status};
use serde_json::Value;
#[cfg(test)]
use serde_json::json;

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

fn unsupported(supported: &[&str]) -> Status {
    Status::unsupported_media_type(format!(
        "the body of the request was in an unknown format - accepted media types include: {}",
        supported.join(", ")
    ))
}

impl PatchType {
    /// Custom resources don't say how their lists merge, so they take no strategic patch.
    pub fn of(row: &api::catalogue::Resource, content_type: &str) -> Result<PatchType> {
        match content_type.split(';').next().unwrap_or("").trim() {
            "application/json-patch+json" => Ok(PatchType::Json),
            "application/merge-patch+json" => Ok(PatchType::Merge),
            "application/strategic-merge-patch+json" if row.custom.is_none() => Ok(PatchType::Strategic),
            "application/apply-patch+yaml" => Ok(PatchType::Apply),
            _ if row.custom.is_some() => Err(unsupported(&[SUPPORTED[0], SUPPORTED[1], SUPPORTED[3]])),
            _ => Err(unsupported(&SUPPORTED)),
        }
    }
}

/// A patch as it was sent.
#[derive(Debug)]
pub struct Document {
    pub value: Value,
    /// What strictness would complain of in the patch itself: keys that occur twice, members that no operation has.
    pub problems: Vec<String>,
}

impl Document {
    pub fn parse(kind: PatchType, bytes: &[u8]) -> Result<Document> {
        const MAP: &str = "map[string]interface {}";
        let wanted = match kind {
            PatchType::Json => "[]handlers.jsonPatchOp",
            PatchType::Merge | PatchType::Strategic | PatchType::Apply => MAP,
        };
        let failed = |why: String| {
            Status::bad_request(match kind {
                PatchType::Strategic => why,
                PatchType::Apply => format!("error decoding YAML: {why}"),
                PatchType::Json | PatchType::Merge => format!("error decoding patch: {why}"),
            })
        };
        let (value, mut problems) = if kind == PatchType::Apply {
            let document = api::codec::yaml::parse(bytes).map_err(|e| failed(e.to_string()))?;
            // Nothing at all is a configuration without a kind.
            let value = if document.value.is_null() { Value::Object(Default::default()) } else { document.value };
            (value, document.complaint.into_iter().collect())
        } else {
            api::codec::json::parse(bytes).map_err(|e| failed(e.to_string()))?
        };
        if value.is_array() != (kind == PatchType::Json) || !(value.is_array() || value.is_object()) {
            let got = json_type(&value);
            let yaml = if kind == PatchType::Apply { "error unmarshaling JSON: while decoding JSON: " } else { "" };
            return Err(failed(format!("{yaml}json: cannot unmarshal {got} into Go value of type {wanted}")));
        }
        if kind == PatchType::Json {
            for operation in value.as_array().into_iter().flatten().filter(|o| !o.is_null()) {
                is_operation(operation).map_err(&failed)?;
            }
            for (i, operation) in value.as_array().into_iter().flatten().enumerate() {
                let members = operation.as_object().into_iter().flat_map(serde_json::Map::keys);
                for member in members.filter(|m| !matches!(m.as_str(), "op" | "path" | "from" | "value")) {
                    problems.push(format!("unknown field \"[{i}].{member}\""));
                }
            }
            // One operation after the other.
            let operation =
                |problem: &String| -> Option<usize> { problem.split_once('[')?.1.split_once(']')?.0.parse().ok() };
            problems.sort_by_key(operation);
            problems.iter_mut().for_each(|p| p.insert_str(0, "json patch "));
        }
        Ok(Document { value, problems })
    }
}

/// Whether a JSON patch's item has an operation's form.
fn is_operation(item: &Value) -> std::result::Result<(), String> {
    let Value::Object(members) = item else {
        return Err(format!("json: cannot unmarshal {} into Go value of type handlers.jsonPatchOp", json_type(item)));
    };
    for name in ["op", "path", "from"] {
        if let Some(v) = members.get(name).filter(|v| !v.is_string() && !v.is_null()) {
            let got = json_type(v);
            return Err(format!("json: cannot unmarshal {got} into Go struct field jsonPatchOp.{name} of type string"));
        }
    }
    Ok(())
}

/// Upstream turns what a strategic patch has made into an object without JSON's decoder, and words misfits otherwise.
pub fn converted(why: &str) -> String {
    if why.starts_with("illegal base64 data") {
        return format!("error decoding from json: {why}");
    }
    // Types that decode themselves do so here, too, and name no field.
    let misfit = why.strip_prefix("json: cannot unmarshal ").and_then(|w| w.split_once(" into Go struct field "));
    let Some((got, field)) = misfit else { return why.to_string() };
    let wanted = field.rsplit(" of type ").next().unwrap_or_default();
    let got = match got {
        "object" => "map",
        "array" => "slice",
        other => match other.strip_prefix("number") {
            Some(n) if n.contains(['.', 'e', 'E']) => "float64",
            Some(_) => "int64",
            None => other,
        },
    };
    match (got, wanted) {
        ("int64", "int32" | "int64") => why.to_string(),
        ("int64", "string") | ("float64", "int32" | "int64") => format!("cannot convert {got} to {wanted}"),
        (_, "string" | "bool" | "int32" | "int64" | "float64") => format!("unrecognized type: {wanted}"),
        (_, list) if list.starts_with("[]") => format!("cannot restore slice from {got}"),
        (_, map) if map.starts_with("map[") => format!("cannot restore map from {got}"),
        _ => format!("cannot restore struct from: {got}"),
    }
}

/// A patch may not make another kind of an object. What it says is of another version of a built-in kind is decoded as
/// what it was.
fn same_kind(row: &api::catalogue::Resource, object: &Value) -> std::result::Result<(), String> {
    if row.custom.is_some() {
        return match object["kind"].as_str().unwrap_or("") {
            "" => Err(format!("Object 'Kind' is missing in '{object}'")),
            _ => Ok(()),
        };
    }
    let own = row.api_version();
    let api_version = object["apiVersion"].as_str().unwrap_or(&own);
    let kind = object["kind"].as_str().unwrap_or(&row.kind);
    let (group, version) = meta::object::split_api_version(api_version);
    let same = kind == row.kind && group == row.group;
    crate::wire::check_registered(api_version, kind)?;
    if !same {
        let short = row.group.split('.').next().filter(|g| !g.is_empty()).unwrap_or("core");
        return Err(format!("converting ({version}.{kind}) to ({short}.{}): unknown conversion", row.kind));
    }
    Ok(())
}

pub async fn patch(
    mut call: Call<'_>,
    subresource: &str,
    patch_type: PatchType,
    document: Document,
) -> Result<(Answer, Vec<String>)> {
    let name = call.info.name.clone();
    let kind = if patch_type == PatchType::Apply { Write::Apply } else { Write::Patch };
    call.options.check_write(kind)?;
    if patch_type == PatchType::Apply {
        return apply(call, subresource, &name, document).await;
    }
    let row = call.row.clone();
    let validation = call.options.field_validation;
    let notes = parking_lot::Mutex::new(Vec::new());
    let transform = |call: &Call<'_>, old: &Value| {
        let (new, found) = patched(&row, patch_type, old, &document, validation)?;
        create::check_name(call.info, &new)?;
        *notes.lock() = found;
        Ok(new)
    };
    let written = update::write(&mut call, &name, subresource, managed::By::Update, &transform).await;
    call.warnings.extend(notes.into_inner());
    Ok((Answer::ok(written?), std::mem::take(&mut call.warnings)))
}

/// The patched object, decoded against its type as a request body is, and warnings.
pub fn patched(
    row: &api::catalogue::Resource,
    patch_type: PatchType,
    old: &Value,
    document: &Document,
    validation: FieldValidation,
) -> Result<(Value, Vec<String>)> {
    let body = &document.value;
    let raw = match patch_type {
        PatchType::Json => meta::patch::json::apply(old, body)?,
        PatchType::Merge => meta::patch::merge::apply(old, body)?,
        PatchType::Strategic => {
            let (types, ty) = row.types();
            meta::patch::strategic::apply(&types, ty, old, body)?
        }
        PatchType::Apply => return Err(Status::internal("apply is no patch of bytes")),
    };
    // Upstream calls what can't be decoded an invalid patch, and shows the outcome, or a strategic patch itself.
    let invalid = |why: String| {
        let shown = if patch_type == PatchType::Strategic { meta::apply::go_text(body) } else { raw.to_string() };
        let mut errors = Errors::default();
        errors.invalid(Path::new("patch"), shown, why);
        Status::invalid("", "", "", &errors)
    };
    if patch_type != PatchType::Strategic {
        same_kind(row, &raw).map_err(&invalid)?;
    }
    let problems = match validation {
        FieldValidation::Ignore => Vec::new(),
        FieldValidation::Warn | FieldValidation::Strict => document.problems.clone(),
    };
    // Strictness is judged here, where both the patch's own problems and the outcome's are known.
    let lenient = if validation == FieldValidation::Ignore { validation } else { FieldValidation::Warn };
    let (mut new, mut found) = crate::wire::patched(row, &raw, lenient).map_err(|e| {
        let why = e.to_string();
        invalid(if patch_type == PatchType::Strategic { converted(&why) } else { why })
    })?;
    found.splice(0..0, problems);
    if validation == FieldValidation::Strict && !found.is_empty() {
        return Err(invalid(format!("strict decoding error: {}", found.join(", "))));
    }
    if row.custom.is_some() {
        create::check_custom_type(row, &new)?;
    }
    row.strategy.defaults(&mut new);
    Ok((new, found))
}

/// What is applied says which kind of which version it is.
pub fn is_kind(applied: &Value, api_version: &str, kind: &str) -> Result<()> {
    let (got_version, got_kind) = (meta::object::api_version(applied), applied["kind"].as_str().unwrap_or(""));
    if got_version == api_version && got_kind == kind {
        return Ok(());
    }
    let (group, version) = meta::object::split_api_version(got_version);
    Err(Status::bad_request(format!("invalid object type: {group}/{version}, Kind={got_kind}")))
}

/// Server-side apply: creates the object or merges the applied configuration into it.
///
/// The configuration is taken as it was sent: what its client wrote down is what it owns, also where the API would
/// leave it out, and what doesn't fit the structure is refused by the merge.
async fn apply(mut call: Call<'_>, subresource: &str, name: &str, document: Document) -> Result<(Answer, Vec<String>)> {
    let row = call.row.clone();
    let mut applied = document.value;
    is_kind(&applied, &row.api_version(), &row.kind)?;
    if !applied.get("metadata").is_none_or(|m| m.is_object() || m.is_null()) {
        return Err(Status::bad_request("error decoding patch: metadata is no map"));
    }
    if applied["metadata"].is_null() {
        meta::object::remove(&mut applied, &["metadata"]);
    }
    // An object that is there already has its name.
    if create::text(&applied, "name").is_empty() && call.registry.store.get(&call.key(name)).is_some() {
        create::check_namespace(call.info, &applied)?;
    } else {
        create::check_name(call.info, &applied)?;
    }
    let complaint = document.problems.into_iter().next();
    let judge = |call: &mut Call<'_>| match (&complaint, call.options.field_validation) {
        (Some(why), FieldValidation::Strict) => {
            Err(Status::bad_request(format!("error strict decoding YAML: error converting YAML to JSON: {why}")))
        }
        (Some(why), FieldValidation::Warn) => {
            call.warnings.extend(crate::wire::warnings_of(why));
            Ok(())
        }
        _ => Ok(()),
    };
    // Whether it fits is said before whether it is strict.
    if complaint.is_some() {
        managed::check(&row, &applied, subresource)?;
        judge(&mut call)?;
    }
    for _ in 0..CREATE_TRIES {
        if call.registry.store.get(&call.key(name)).is_some() {
            let merge = |call: &Call<'_>, old: &Value| managed::apply(call, Some(old), &applied, subresource);
            let value = update::write(&mut call, name, subresource, managed::By::Apply, &merge).await?;
            return Ok((Answer::ok(value), std::mem::take(&mut call.warnings)));
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
        let merge = || managed::apply(&call, None, &applied, subresource);
        let mut first = managed::answered(&call, merge).await??;
        if row.namespaced {
            create::metadata(&mut first).insert("namespace".into(), call.info.namespace.clone().into());
        }
        match create::insert(&mut call, first, managed::By::Apply).await {
            Err(s) if s.reason == "AlreadyExists" => continue,
            Err(s) => return Err(s),
            Ok(value) => return Ok((Answer::Object { code: 201, value }, std::mem::take(&mut call.warnings))),
        }
    }
    Err(call.modified(name))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn problems_of_a_json_patch_come_in_the_order_of_its_operations() {
        let patch = br#"[{"op":"add","path":"/a","value":1,"odd":1},{"op":"add","path":"/b","path":"/c","value":1}]"#;
        let document = Document::parse(PatchType::Json, patch).unwrap();
        let want = ["json patch unknown field \"[0].odd\"", "json patch duplicate field \"[1].path\""];
        assert_eq!(document.problems, want);
    }

    #[test]
    fn misfits_of_strategic_patches_are_worded_as_upstreams_converter_does() {
        let types = api::catalogue::builtin();
        let row = types.iter().find(|r| r.kind == "Deployment").unwrap();
        let container = |c: Value| json!({"spec": {"template": {"spec": {"containers": [c]}}}});
        for (patch, why) in [
            (json!({"spec": {"replicas": "a"}}), "unrecognized type: int32"),
            (json!({"spec": {"replicas": 1.5}}), "cannot convert float64 to int32"),
            (json!({"spec": {"paused": "true"}}), "unrecognized type: bool"),
            (json!({"metadata": {"labels": {"a": 1}}}), "cannot convert int64 to string"),
            (json!({"metadata": {"labels": {"a": true}}}), "unrecognized type: string"),
            (json!({"metadata": {"finalizers": "a"}}), "cannot restore slice from string"),
            (json!({"spec": {"selector": {"matchLabels": [1]}}}), "cannot restore map from slice"),
            (json!({"spec": {"strategy": 1}}), "cannot restore struct from: int64"),
            (
                container(json!({"name": "c", "resources": {"limits": {"cpu": "x"}}})),
                "quantities must match the regular expression '^([+-]?[0-9.]+)([eEinumkKMGTP]*[-+]?[0-9]*)$'",
            ),
        ] {
            let document = Document { value: patch.clone(), problems: Vec::new() };
            let old = json!({"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "d"}});
            let s = patched(row, PatchType::Strategic, &old, &document, FieldValidation::Warn).unwrap_err();
            let want = format!(
                " \"\" is invalid: patch: Invalid value: \"{}\": {why}",
                meta::apply::go_text(&patch).replace('"', "\\\"")
            );
            assert_eq!((s.code, s.message), (422, want));
        }
    }

    #[test]
    fn a_configuration_that_is_no_map_is_refused() {
        for (body, why) in [
            ("[]", "error unmarshaling JSON: while decoding JSON: json: cannot unmarshal array"),
            ("text", "error unmarshaling JSON: while decoding JSON: json: cannot unmarshal string"),
        ] {
            let s = Document::parse(PatchType::Apply, body.as_bytes()).unwrap_err();
            let want = format!("error decoding YAML: {why} into Go value of type map[string]interface {{}}");
            assert_eq!((s.code, s.message), (400, want));
        }
        assert_eq!(Document::parse(PatchType::Apply, b"").unwrap().value, json!({}));
    }
}
