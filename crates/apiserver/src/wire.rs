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

/// Decodes a body as an object of a row's kind.
pub fn decode_object(
    row: &Resource,
    content_type: &str,
    bytes: &[u8],
    validation: FieldValidation,
) -> Result<(Value, Vec<String>)> {
    let Some(version) = version_of(row) else {
        let (types, ty) = row.types();
        return decode(&types, ty, &row.kind, &row.version, content_type, bytes, validation);
    };
    let media = media_type(content_type);
    let media = media.as_str();
    let decoded = match media {
        "" | "application/json" => version.decode(bytes, false),
        "application/yaml" | "application/x-yaml" | "text/yaml" => version.decode(bytes, true),
        _ => return Err(unknown_format("")),
    };
    let decoded = decoded.map_err(|e| undecodable(e, &row.kind, &row.version, media, bytes))?;
    // Unlike a built-in kind, it has to say what it is.
    if decoded.value["kind"].as_str().unwrap_or("").is_empty() {
        return Err(Status::bad_request(match validation {
            FieldValidation::Ignore => {
                let why = DecodeError::Type(format!("Object 'Kind' is missing in '{}'", decoded.value));
                why.cannot_handle(&row.kind, &row.version)
            }
            _ => "Object 'Kind' is missing in 'unstructured object has no kind'".to_string(),
        }));
    }
    judge(decoded, validation).map_err(|e| undecodable(e, &row.kind, &row.version, media, bytes))
}

/// The version of a custom resource that a row serves.
fn version_of(row: &Resource) -> Option<&api::custom::Version> {
    row.custom.as_ref()?.version(&row.version).map(|v| v.as_ref())
}

/// Without parameters; in small letters, since case means nothing here.
fn media_type(content_type: &str) -> String {
    content_type.split(';').next().unwrap_or("").trim().to_ascii_lowercase()
}

fn unknown_format(protobuf: &str) -> Status {
    Status::unsupported_media_type(format!(
        "the body of the request was in an unknown format - accepted media types include: application/json, application/yaml{protobuf}"
    ))
}

fn undecodable(e: DecodeError, kind: &str, version: &str, media: &str, bytes: &[u8]) -> Status {
    match e {
        // So wrong that there is no telling what it was meant to be.
        DecodeError::Syntax(why) => {
            let why = match media {
                "" | "application/json" => format!("couldn't get version/kind; json parse error: {why}"),
                _ => why,
            };
            Status::bad_request(format!(
                "the object provided is unrecognized (must be of type {kind}): {why} ({})",
                summary(bytes)
            ))
        }
        e => Status::bad_request(e.cannot_handle(kind, version)),
    }
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
    let media = media_type(content_type);
    let media = media.as_str();
    let failed = |e: DecodeError| undecodable(e, kind, version, media, bytes);
    let decoded = match media {
        "" | "application/json" => api::codec::json::decode(types, ty, bytes),
        "application/yaml" | "application/x-yaml" | "text/yaml" => api::codec::yaml::decode(types, ty, bytes),
        // Custom resources have no protobuf form, as in upstream.
        "application/vnd.kubernetes.protobuf" if is_builtin(types) => {
            return api::codec::protobuf::decode(ty, bytes).map(|value| (value, Vec::new())).map_err(failed);
        }
        _ => {
            let protobuf = if is_builtin(types) { ", application/vnd.kubernetes.protobuf" } else { "" };
            return Err(unknown_format(protobuf));
        }
    };
    decoded.and_then(|d| judge(d, validation)).map_err(failed)
}

fn is_builtin(types: &Types) -> bool {
    std::ptr::eq(types, api::facts::types().as_ref())
}

/// The object, and what its client is to be warned of.
fn judge(
    decoded: api::codec::json::Decoded,
    validation: FieldValidation,
) -> std::result::Result<(Value, Vec<String>), DecodeError> {
    match (validation, decoded.strict_error()) {
        (FieldValidation::Strict, Some(e)) => Err(e),
        (FieldValidation::Warn, _) => Ok((decoded.value, decoded.problems)),
        _ => Ok((decoded.value, Vec::new())),
    }
}

/// The beginning of a body that makes no sense: text that might be JSON as it is, all else in hexadecimal digits.
fn summary(bytes: &[u8]) -> String {
    const BYTES_MAX: usize = 30;
    let head = &bytes[..bytes.len().min(BYTES_MAX)];
    let more = if bytes.len() > BYTES_MAX { " ..." } else { "" };
    match head.first() {
        None => "<empty>".to_string(),
        Some(b'{') => format!("{}{more}", String::from_utf8_lossy(head)),
        Some(_) => format!("{}{more}", head.iter().map(|b| format!("{b:02x}")).collect::<String>()),
    }
}

/// As [`decode`], of a value that is parsed already (the result of an apply).
pub fn conform(row: &Resource, raw: Value, validation: FieldValidation) -> Result<(Value, Vec<String>)> {
    let decoded = match version_of(row) {
        Some(version) => version.decode_made(raw),
        None => {
            let (types, ty) = row.types();
            api::codec::json::decode_value(&types, ty, &raw)
        }
    };
    decoded
        .and_then(|d| judge(d, validation))
        .map_err(|e| Status::bad_request(e.cannot_handle(&row.kind, &row.version)))
}

/// As [`decode`], of the outcome of a patch, whose faults are worded otherwise.
pub fn patched(
    row: &Resource,
    raw: &Value,
    validation: FieldValidation,
) -> std::result::Result<(Value, Vec<String>), DecodeError> {
    let decoded = match version_of(row) {
        Some(version) => version.decode_value(raw.clone())?,
        None => {
            let (types, ty) = row.types();
            api::codec::json::decode_value(&types, ty, raw)?
        }
    };
    judge(decoded, validation)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bodies_that_make_no_sense_are_shown() {
        let types = api::facts::types();
        let ty = types.named("api.core.v1.ConfigMap").unwrap();
        let said = |content_type: &str, body: &[u8]| {
            decode(types, ty, "ConfigMap", "v1", content_type, body, FieldValidation::Strict).unwrap_err().message
        };
        let json = "couldn't get version/kind; json parse error: ";
        for (content_type, body, why) in [
            ("application/json", &b""[..], format!("{json}unexpected end of JSON input (<empty>)")),
            ("", b"{\"a\":", format!("{json}unexpected end of JSON input ({{\"a\":)")),
            ("", b"{bad", format!("{json}invalid character 'b' looking for beginning of object key string ({{bad)")),
            ("", b"{\"a\":1]", format!("{json}invalid character ']' after object key:value pair ({{\"a\":1])")),
            ("", b"{} x", format!("{json}invalid character 'x' after top-level value ({{}} x)")),
            (
                "application/vnd.kubernetes.protobuf",
                b"k8s",
                "provided data does not appear to be a protobuf message, expected prefix [107 56 115 0] (6b3873)"
                    .into(),
            ),
        ] {
            let want = format!("the object provided is unrecognized (must be of type ConfigMap): {why}");
            assert_eq!(said(content_type, body), want);
        }
        let long = said("", format!("{{{}", "\"".repeat(40)).as_bytes());
        assert!(long.ends_with(&format!("({{{} ...)", "\"".repeat(29))), "{long}");
        assert_eq!(
            said("", b"{\"data\":{\"a\":1}}"),
            "ConfigMap in version \"v1\" cannot be handled as a ConfigMap: json: cannot unmarshal number into Go struct field ConfigMap.data of type string"
        );
        assert_eq!(
            said("application/yaml", b"data:\n  a: p\n  a: q\nspec: 1\n"),
            "ConfigMap in version \"v1\" cannot be handled as a ConfigMap: strict decoding error: yaml: unmarshal errors:\n  line 3: key \"a\" already set in map, unknown field \"spec\""
        );
        assert_eq!(
            said("text/plain", b""),
            "the body of the request was in an unknown format - accepted media types include: application/json, application/yaml, application/vnd.kubernetes.protobuf"
        );
    }
}
