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
        return decode(&types, ty, &row.kind, &row.api_version(), content_type, bytes, validation);
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
                // Only apply, which reads YAML itself, says what it was about to do.
                _ => why.trim_start_matches("error converting YAML to JSON: ").to_string(),
            };
            Status::bad_request(format!(
                "the object provided is unrecognized (must be of type {kind}): {why} ({})",
                summary(bytes)
            ))
        }
        e => Status::bad_request(e.cannot_handle(kind, version)),
    }
}

/// Decodes a body against a built-in type. Unknown and duplicate fields are dropped, and refused or told as
/// `validation` says.
pub fn decode(
    types: &Types,
    ty: TypeId,
    kind: &str,
    api_version: &str,
    content_type: &str,
    bytes: &[u8],
    validation: FieldValidation,
) -> Result<(Value, Vec<String>)> {
    let media = media_type(content_type);
    let media = media.as_str();
    let (_, version) = meta::object::split_api_version(api_version);
    let failed = |e: DecodeError| undecodable(e, kind, version, media, bytes);
    let decoded = match media {
        "" | "application/json" => api::codec::json::decode(types, ty, bytes),
        "application/yaml" | "application/x-yaml" | "text/yaml" => api::codec::yaml::decode(types, ty, bytes),
        // Custom resources have no protobuf form, as in upstream.
        "application/vnd.kubernetes.protobuf" if is_builtin(types) => api::codec::protobuf::decode(ty, bytes)
            .map(|value| api::codec::json::Decoded { value, ..Default::default() }),
        _ => {
            let protobuf = if is_builtin(types) { ", application/vnd.kubernetes.protobuf" } else { "" };
            return Err(unknown_format(protobuf));
        }
    };
    // What a body says it is comes before what is wrong with it.
    let header = match &decoded {
        Ok(d) => Some(std::borrow::Cow::Borrowed(&d.value)),
        Err(DecodeError::Type(_)) => untyped(media, bytes).map(std::borrow::Cow::Owned),
        Err(_) => None,
    };
    if let Some(header) = header {
        check_kind(&header, api_version, kind)?;
    }
    decoded.and_then(|d| judge(d, validation)).map_err(failed)
}

/// A body whatever its type.
fn untyped(media: &str, bytes: &[u8]) -> Option<Value> {
    match media {
        "" | "application/json" => api::codec::json::parse(bytes).ok().map(|p| p.0),
        _ => api::codec::yaml::parse(bytes).ok().map(|d| d.value),
    }
}

/// Versions that are served no more; upstream still knows their types.
const RETIRED: &[&str] = &[
    "admissionregistration.k8s.io/v1alpha1",
    "admissionregistration.k8s.io/v1beta1",
    "apiextensions.k8s.io/v1beta1",
    "apiregistration.k8s.io/v1beta1",
    "apps/v1beta1",
    "apps/v1beta2",
    "authentication.k8s.io/v1alpha1",
    "authentication.k8s.io/v1beta1",
    "authorization.k8s.io/v1beta1",
    "batch/v1beta1",
    "certificates.k8s.io/v1alpha1",
    "coordination.k8s.io/v1alpha2",
    "coordination.k8s.io/v1beta1",
    "discovery.k8s.io/v1beta1",
    "events.k8s.io/v1beta1",
    "extensions/v1beta1",
    "flowcontrol.apiserver.k8s.io/v1beta1",
    "flowcontrol.apiserver.k8s.io/v1beta2",
    "flowcontrol.apiserver.k8s.io/v1beta3",
    "internal.apiserver.k8s.io/v1alpha1",
    "networking.k8s.io/v1beta1",
    "node.k8s.io/v1alpha1",
    "node.k8s.io/v1beta1",
    "policy/v1beta1",
    "rbac.authorization.k8s.io/v1alpha1",
    "rbac.authorization.k8s.io/v1beta1",
    "resource.k8s.io/v1alpha3",
    "resource.k8s.io/v1beta1",
    "resource.k8s.io/v1beta2",
    "scheduling.k8s.io/v1alpha2",
    "scheduling.k8s.io/v1beta1",
    "storage.k8s.io/v1alpha1",
    "storage.k8s.io/v1beta1",
];

/// `Err` with upstream's words where a kind is none that it knows.
pub fn check_registered(api_version: &str, kind: &str) -> std::result::Result<(), String> {
    let (group, version) = meta::object::split_api_version(api_version);
    if api::facts::facts().kind(group, version, kind).is_some() || RETIRED.contains(&api_version) {
        return Ok(());
    }
    Err(format!(
        "no kind {kind:?} is registered for version {api_version:?} in scheme \"k8s.io/kubernetes/pkg/api/legacyscheme/scheme.go:30\""
    ))
}

/// `apiVersion` and `kind` of a body, which may be absent.
fn check_kind(object: &Value, api_version: &str, kind: &str) -> Result<()> {
    // A part of every version of every group; whoever reads it looks for itself.
    if kind == "DeleteOptions" {
        return Ok(());
    }
    let given = |key: &str, wanted: &str| match object[key].as_str().unwrap_or("") {
        "" => wanted.to_string(),
        given => given.to_string(),
    };
    let (got_version, got_kind) = (given("apiVersion", api_version), given("kind", kind));
    // The one that upstream takes in an older version, too.
    let same_version = got_version == api_version || (kind == "Eviction" && got_version == "policy/v1beta1");
    if same_version && got_kind == kind {
        return Ok(());
    }
    let (group, _) = meta::object::split_api_version(api_version);
    let (_, version) = meta::object::split_api_version(&got_version);
    let why = match check_registered(&got_version, &got_kind) {
        Err(unknown) => unknown,
        Ok(()) if got_kind == kind => return Err(other_version(&got_version, api_version)),
        Ok(()) => {
            let short = group.split('.').next().filter(|g| !g.is_empty()).unwrap_or("core");
            format!("converting ({version}.{got_kind}) to ({short}.{kind}): unknown conversion")
        }
    };
    Err(Status::bad_request(format!("{got_kind} in version {version:?} cannot be handled as a {kind}: {why}")))
}

pub fn other_version(given: &str, wanted: &str) -> Status {
    Status::bad_request(format!(
        "the API version in the data ({given}) does not match the expected API version ({wanted})"
    ))
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
        (FieldValidation::Warn, _) => {
            let warnings = decoded.problems.iter().flat_map(|p| warnings_of(p)).collect();
            Ok((decoded.value, warnings))
        }
        _ => Ok((decoded.value, Vec::new())),
    }
}

/// What is warned of where `Strict` tells a problem: all that is wrong with YAML is one, its lines are warnings each.
pub fn warnings_of(problem: &str) -> Vec<String> {
    match problem.strip_prefix("yaml: unmarshal errors:\n") {
        Some(lines) => lines.lines().map(|l| l.trim().to_owned()).collect(),
        None => vec![problem.to_owned()],
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
    fn what_a_body_says_it_is_comes_before_what_is_wrong_with_it() {
        let types = api::facts::types();
        let ty = types.named("api.apps.v1.Deployment").unwrap();
        let said = |body: &str| {
            let strict = FieldValidation::Strict;
            decode(types, ty, "Deployment", "apps/v1", "", body.as_bytes(), strict).map_err(|s| s.message)
        };
        let scheme = "in scheme \"k8s.io/kubernetes/pkg/api/legacyscheme/scheme.go:30\"";
        let cannot = |version: &str| format!("Deployment in version {version:?} cannot be handled as a Deployment: ");
        let other = |version: &str| {
            format!("the API version in the data ({version}) does not match the expected API version (apps/v1)")
        };
        for (body, why) in [
            (
                r#"{"apiVersion":"foo/v2","kind":"Deployment","spec":1,"x":2}"#,
                format!("{}no kind \"Deployment\" is registered for version \"foo/v2\" {scheme}", cannot("v2")),
            ),
            (
                r#"{"kind":"Nothing"}"#,
                format!(
                    "Nothing in version \"v1\" cannot be handled as a Deployment: no kind \"Nothing\" is registered for version \"apps/v1\" {scheme}"
                ),
            ),
            (
                r#"{"apiVersion":"v1","kind":"Pod","x":1}"#,
                "Pod in version \"v1\" cannot be handled as a Deployment: converting (v1.Pod) to (apps.Deployment): unknown conversion"
                    .to_string(),
            ),
            (r#"{"apiVersion":"apps/v1beta1","spec":1}"#, other("apps/v1beta1")),
            (r#"{"apiVersion":"extensions/v1beta1","kind":"Deployment","x":1}"#, other("extensions/v1beta1")),
            (r#"{"kind":"Deployment","x":1}"#, format!("{}strict decoding error: unknown field \"x\"", cannot("v1"))),
        ] {
            assert_eq!(said(body), Err(why), "{body}");
        }
        assert!(said(r#"{"apiVersion":"apps/v1","kind":"Deployment"}"#).is_ok());
    }

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
                "application/yaml",
                b"a: b: c",
                "yaml: mapping values are not allowed in this context (613a20623a2063)".into(),
            ),
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

    #[test]
    fn each_line_of_yaml_is_a_warning_of_its_own() {
        let rows = api::catalogue::builtin();
        let row = api::catalogue::by_kind(&rows, "", "v1", "ConfigMap").unwrap();
        let body = b"data:\n  a: p\n  a: q\n  b: p\n  b: q\nspec: 1\n";
        let (_, warnings) = decode_object(row, "application/yaml", body, FieldValidation::Warn).unwrap();
        let want =
            ["line 3: key \"a\" already set in map", "line 5: key \"b\" already set in map", "unknown field \"spec\""];
        assert_eq!(warnings, want);
    }
}
