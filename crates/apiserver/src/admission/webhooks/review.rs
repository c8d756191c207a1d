//! `AdmissionReview`: what webhooks are asked, and how their answers are read. Pure.

use super::hook::ReviewVersion;
use crate::admission::Attributes;
use crate::admission::matching::{kind_of, namespace_of};
use crate::authn::User;
use crate::options::FieldValidation;
use api::catalogue::Resource;
use base64::{Engine, engine::general_purpose::STANDARD};
use meta::status::{Cause, Details, Status};
use serde_json::{Map, Value, json};

impl ReviewVersion {
    fn word(self) -> &'static str {
        match self {
            ReviewVersion::V1 => "v1",
            ReviewVersion::V1beta1 => "v1beta1",
        }
    }

    fn api_version(self) -> &'static str {
        match self {
            ReviewVersion::V1 => "admission.k8s.io/v1",
            ReviewVersion::V1beta1 => "admission.k8s.io/v1beta1",
        }
    }
}

/// The question. `row` is the resource as which the webhook asked to see the write; the objects are in its version.
pub fn request(
    a: &Attributes<'_>,
    row: &Resource,
    version: ReviewVersion,
    uid: &str,
    object: &Value,
    old: Option<&Value>,
) -> Value {
    let kind = |row: &Resource| {
        let (group, version, kind) = kind_of(row, a.subresource);
        json!({"group": group, "version": version, "kind": kind})
    };
    let resource = |row: &Resource| json!({"group": row.group, "version": row.version, "resource": row.plural});
    let mut request = json!({
        "uid": uid,
        "kind": kind(row),
        "resource": resource(row),
        "requestKind": kind(a.resource),
        "requestResource": resource(a.resource),
        "operation": a.operation.word(),
        "userInfo": user_info(a.user),
        "object": object,
        "oldObject": old,
        "dryRun": a.dry_run,
        "options": a.options,
    });
    if let Some(r) = request.as_object_mut() {
        let mut put = |key: &str, value: &str| {
            if !value.is_empty() {
                r.insert(key.into(), value.into());
            }
        };
        put("subResource", a.subresource);
        put("requestSubResource", a.subresource);
        put("name", a.name);
        put("namespace", &namespace_of(a));
    }
    json!({"kind": "AdmissionReview", "apiVersion": version.api_version(), "request": request})
}

/// `authentication.k8s.io/v1` `UserInfo`.
pub fn user_info(user: &User) -> Value {
    let mut out = Map::new();
    for (key, value, empty) in [
        ("username", json!(user.name), user.name.is_empty()),
        ("uid", json!(user.uid), user.uid.is_empty()),
        ("groups", json!(user.groups), user.groups.is_empty()),
        ("extra", json!(user.extra), user.extra.is_empty()),
    ] {
        if !empty {
            out.insert(key.into(), value);
        }
    }
    out.into()
}

/// What to change.
#[derive(Debug, PartialEq)]
pub struct Patch {
    pub kind: String,
    /// JSON, if the webhook keeps its word.
    pub text: Vec<u8>,
}

/// The answer.
#[derive(Debug)]
pub struct Response {
    /// The webhook's `status` when it said no.
    pub rejection: Option<Value>,
    pub patch: Option<Patch>,
    pub warnings: Vec<String>,
    pub audit_annotations: Vec<(String, String)>,
}

/// An answer that is no review at all is as good as none. Gives what is wrong with it.
pub fn unreadable(review: &Value, version: ReviewVersion) -> Option<String> {
    let other = match version {
        ReviewVersion::V1 => ReviewVersion::V1beta1,
        ReviewVersion::V1beta1 => ReviewVersion::V1,
    };
    if review["apiVersion"] == other.api_version() && review["kind"] == "AdmissionReview" {
        return Some(format!(
            "converting ({}.AdmissionReview) to ({}.AdmissionReview): unknown conversion",
            other.word(),
            version.word()
        ));
    }
    let broken = STANDARD.decode(review["response"]["patch"].as_str()?).err()?;
    let at = match broken {
        base64::DecodeError::InvalidByte(at, _) | base64::DecodeError::InvalidLastSymbol(at, _) => at,
        base64::DecodeError::InvalidLength(at) => at,
        base64::DecodeError::InvalidPadding => 0,
    };
    Some(format!("illegal base64 data at input byte {at}"))
}

impl Response {
    /// Errors are upstream's texts of `VerifyAdmissionResponse`.
    pub fn read(review: &Value, uid: &str, version: ReviewVersion, mutating: bool) -> Result<Response, String> {
        let v1 = version == ReviewVersion::V1;
        let response = &review["response"];
        if !response.is_object() {
            return Err("webhook response was absent".into());
        }
        let text = |v: &Value| v.as_str().unwrap_or("").to_string();
        if v1 {
            let got = text(&response["uid"]);
            if got != uid {
                return Err(format!("expected response.uid={uid:?}, got {got:?}"));
            }
            if review["apiVersion"] != version.api_version() || review["kind"] != "AdmissionReview" {
                let given = text(&review["apiVersion"]);
                let slash = if given.contains('/') { "" } else { "/" };
                return Err(format!(
                    "expected webhook response of {}, Kind=AdmissionReview, got {slash}{given}, Kind={}",
                    version.api_version(),
                    text(&review["kind"])
                ));
            }
        }
        let encoded = response["patch"].as_str().unwrap_or("");
        let kind = response["patchType"].as_str();
        let patch = match (encoded.is_empty(), kind) {
            _ if !mutating => {
                if v1 && !encoded.is_empty() {
                    return Err("validating webhook may not return response.patch".into());
                }
                if v1 && kind.is_some() {
                    return Err("validating webhook may not return response.patchType".into());
                }
                None
            }
            (true, None) => None,
            (true, Some(_)) if v1 => {
                return Err("webhook returned response.patchType but not response.patch".into());
            }
            (true, Some(_)) => None,
            (false, None) if v1 => return Err("webhook returned response.patch but not response.patchType".into()),
            (false, Some("")) if v1 => return Err("webhook returned invalid response.patchType of \"\"".into()),
            (false, kind) => {
                // The older version knows but one kind, whatever a webhook says.
                let kind = kind.filter(|_| v1).unwrap_or("JSONPatch").to_string();
                Some(Patch { kind, text: STANDARD.decode(encoded).unwrap_or_default() })
            }
        };
        let rejection = match response["allowed"].as_bool() {
            Some(true) => None,
            _ => Some(response["status"].clone()),
        };
        let warnings = response["warnings"].as_array().into_iter().flatten().map(text).collect();
        let annotations = response["auditAnnotations"].as_object().into_iter().flatten();
        let audit_annotations = annotations.map(|(k, v)| (k.clone(), text(v))).collect();
        Ok(Response { rejection, patch, warnings, audit_annotations })
    }
}

/// The refusal that the client gets: the webhook's own code, reason and details, and who said it.
pub fn denied(webhook: &str, result: &Value) -> Status {
    let by = format!("admission webhook {webhook:?} denied the request");
    let text = |v: &Value| v.as_str().unwrap_or("").to_string();
    let (message, reason) = (text(&result["message"]), text(&result["reason"]));
    let message = match (message.as_str(), reason.as_str()) {
        ("", "") => format!("{by} without explanation"),
        ("", reason) => format!("{by}: {reason}"),
        (message, _) => format!("{by}: {message}"),
    };
    // No answer of success along with a refusal.
    let code = result["code"].as_u64().and_then(|c| u16::try_from(c).ok()).filter(|c| (400..600).contains(c));
    let mut s = Status::new(code.unwrap_or(400), meta::status::reason(&reason), message);
    let details = &result["details"];
    if details.is_object() {
        let causes = details["causes"].as_array().into_iter().flatten();
        s.details = Some(Box::new(Details {
            name: text(&details["name"]),
            group: text(&details["group"]),
            kind: text(&details["kind"]),
            uid: text(&details["uid"]),
            causes: causes
                .map(|c| Cause { reason: text(&c["reason"]), message: text(&c["message"]), field: text(&c["field"]) })
                .collect(),
            retry_after_seconds: details["retryAfterSeconds"].as_u64().and_then(|n| n.try_into().ok()).unwrap_or(0),
        }));
    }
    s
}

/// A patched object as one of its type: what the type doesn't have is dropped, and defaults are filled in again. What
/// it is can't be changed. `strict`: what the type doesn't have is an error instead.
pub fn conform(
    row: &Resource,
    subresource: &str,
    before: &Value,
    mut patched: Value,
    strict: bool,
) -> Result<Value, String> {
    for key in ["apiVersion", "kind"] {
        if patched[key].is_null() && patched.is_object() {
            patched[key] = before[key].clone();
        }
        if patched[key] != before[key] {
            return Err(format!("the patch changes {key} from {} to {}", before[key], patched[key]));
        }
    }
    let (group, version, kind) = kind_of(row, subresource);
    if !subresource.is_empty() && kind != row.kind {
        // Objects of a subresource's own kind are built in; they have no defaults.
        let types = api::facts::types();
        let Some(ty) = api::facts::facts().kind(&group, &version, &kind) else { return Ok(patched) };
        let bytes = serde_json::to_vec(&patched).map_err(|e| e.to_string())?;
        let decoded = api::codec::json::decode(types, ty, &bytes).map_err(|e| e.to_string())?;
        return match decoded.strict_error().filter(|_| strict) {
            Some(e) => Err(e.to_string()),
            None => Ok(decoded.value),
        };
    }
    let mut new = match row.custom.is_some() {
        true => crate::wire::conform(row, patched, FieldValidation::Ignore).map_err(|s| s.message)?.0,
        false => {
            let validation = if strict { FieldValidation::Strict } else { FieldValidation::Ignore };
            crate::wire::patched(row, &patched, validation).map_err(|e| e.to_string())?.0
        }
    };
    row.strategy.defaults(&mut new);
    Ok(new)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_patch_makes_nothing_else_of_an_object() {
        let row = api::catalogue::builtin().into_iter().find(|r| r.kind == "ConfigMap").unwrap();
        let before = json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "a"}});
        for (key, value) in [("kind", json!("Secret")), ("apiVersion", json!("v2"))] {
            let mut patched = before.clone();
            patched[key] = value;
            let e = conform(&row, "", &before, patched, false).unwrap_err();
            assert!(e.starts_with(&format!("the patch changes {key} from ")), "{e}");
        }
        let mut patched = before.clone();
        patched["data"] = json!({"a": "b"});
        let mut untold = patched.clone();
        untold.as_object_mut().unwrap().remove("kind");
        assert_eq!(conform(&row, "", &before, untold, false).unwrap(), patched);
        assert_eq!(conform(&row, "", &before, patched.clone(), false).unwrap(), patched);
    }
}
