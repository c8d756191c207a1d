//! Request bodies: bytes in any served encoding to an object of a row's type.

use crate::options::FieldValidation;
use api::catalogue::Resource;
use api::codec::json::DecodeError;
use bytes::Bytes;
use http_body_util::BodyExt;
use meta::schema::{TypeId, Types};
use meta::status::{Result, Status};
use serde_json::Value;

/// Upstream's limit for a request's body, bytes.
pub const BODY_MAX: usize = 3 * 1024 * 1024;

/// So much of a body that is too large is read and dropped, bytes: an HTTP/1.1 client that is still sending when the
/// connection closes never sees the answer.
const DRAIN_MAX: usize = 32 * 1024 * 1024;

/// Reads a whole body.
pub async fn read(mut body: axum::body::Body) -> Result<Bytes> {
    let too_large = || Status::too_large(format!("Request entity too large: limit is {BODY_MAX}"));
    let mut chunks: Vec<Bytes> = Vec::new();
    let mut total = 0usize;
    while let Some(frame) = body.frame().await {
        let frame = frame.map_err(|e| Status::bad_request(format!("the body could not be read: {e}")))?;
        let Ok(data) = frame.into_data() else { continue };
        total += data.len();
        if total > DRAIN_MAX {
            return Err(too_large());
        }
        if total > BODY_MAX {
            chunks.clear();
        } else {
            chunks.push(data);
        }
    }
    if total > BODY_MAX {
        return Err(too_large());
    }
    Ok(match chunks.len() {
        0 | 1 => chunks.pop().unwrap_or_default(),
        _ => chunks.concat().into(),
    })
}

/// Decodes a body against a type. Unknown and duplicate fields are dropped, and refused or told as `validation` says.
pub fn decode(
    types: &Types,
    ty: TypeId,
    kind: &str,
    version: &str,
    content_type: &str,
    bytes: &[u8],
    validation: FieldValidation,
) -> Result<(Value, Vec<String>)> {
    let media = content_type.split(';').next().unwrap_or("").trim();
    let decoded = match media {
        "" | "application/json" => api::codec::json::decode(types, ty, bytes),
        "application/yaml" | "application/x-yaml" | "text/yaml" => api::codec::yaml::decode(types, ty, bytes),
        // Custom resources have no protobuf form, as in upstream.
        "application/vnd.kubernetes.protobuf" if std::ptr::eq(types, api::facts::types().as_ref()) => {
            let value = api::codec::protobuf::decode(ty, bytes).map_err(|e| undecodable(&e, kind, version))?;
            return Ok((value, Vec::new()));
        }
        other => {
            return Err(Status::unsupported_media_type(format!(
                "the body of the request was in an unknown format ({other}) - accepted media types include: application/json, application/yaml, application/vnd.kubernetes.protobuf"
            )));
        }
    }
    .map_err(|e| undecodable(&e, kind, version))?;
    if validation == FieldValidation::Strict
        && let Some(e) = decoded.strict_error()
    {
        return Err(undecodable(&e, kind, version));
    }
    let warnings = if validation == FieldValidation::Warn { decoded.problems } else { Vec::new() };
    Ok((decoded.value, warnings))
}

fn undecodable(e: &DecodeError, kind: &str, version: &str) -> Status {
    Status::bad_request(e.cannot_handle(kind, version))
}

/// As [`decode`], of a value that is parsed already (the result of a patch, a converted YAML document).
pub fn conform(row: &Resource, raw: Value, validation: FieldValidation) -> Result<(Value, Vec<String>)> {
    let bytes = serde_json::to_vec(&raw).map_err(Status::internal)?;
    decode(&row.types, row.type_id, &row.kind, &row.version, "application/json", &bytes, validation)
}
