//! `metav1.Status`: the answer to every request that fails, and the one error type of the API server.
//!
//! Constructors carry upstream's codes, reasons and texts (source: API conventions, "Response Status Kind").

use crate::field;
use serde_json::{Value, json};
use std::collections::BTreeSet;
use std::fmt;
use std::sync::Mutex;

/// An API failure. `code` is the HTTP status.
#[derive(Clone, Debug, PartialEq)]
pub struct Status {
    pub code: u16,
    /// For example `NotFound`; empty where upstream leaves it out.
    pub reason: &'static str,
    pub message: String,
    pub details: Option<Box<Details>>,
    /// `metadata.continue` of an expired chunked list; else empty.
    pub continue_token: String,
}

#[derive(Clone, Debug, PartialEq, Default)]
pub struct Details {
    pub name: String,
    pub group: String,
    /// A *resource* (plural) for most errors, a *kind* for `Invalid`.
    pub kind: String,
    pub uid: String,
    pub causes: Vec<Cause>,
    /// Seconds; 0 is absent. Also sent as `Retry-After`.
    pub retry_after_seconds: u32,
}

#[derive(Clone, Debug, PartialEq)]
pub struct Cause {
    pub reason: String,
    pub message: String,
    pub field: String,
}

pub type Result<T> = std::result::Result<T, Status>;

/// `pods` or `deployments.apps`, as errors name resources and kinds.
pub fn qualified(name: &str, group: &str) -> String {
    if group.is_empty() { name.to_string() } else { format!("{name}.{group}") }
}

/// Reasons that others gave and this crate has no constructor for.
const REASONS_MAX: usize = 256;
/// Longer ones aren't kept, bytes.
const REASON_LEN_MAX: usize = 128;

/// A reason from outside (a webhook's, an aggregated server's) as one that a [`Status`] can carry. Each text is kept
/// once and for good, so there is a bound on how many: texts beyond it are left out.
pub fn reason(text: &str) -> &'static str {
    static KEPT: Mutex<BTreeSet<&'static str>> = Mutex::new(BTreeSet::new());
    if text.is_empty() || text.len() > REASON_LEN_MAX {
        return "";
    }
    let mut kept = KEPT.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
    if let Some(known) = kept.get(text) {
        return known;
    }
    if kept.len() >= REASONS_MAX {
        return "";
    }
    let text: &'static str = Box::leak(text.to_string().into_boxed_str());
    kept.insert(text);
    text
}

impl Status {
    pub fn new(code: u16, reason: &'static str, message: impl Into<String>) -> Status {
        Status { code, reason, message: message.into(), details: None, continue_token: String::new() }
    }

    /// One that says nothing of its object, as upstream's router gives it.
    pub fn of_router(code: u16, reason: &'static str, message: impl Into<String>) -> Status {
        Status::new(code, reason, message).about("", "", "")
    }

    fn about(mut self, group: &str, kind: &str, name: &str) -> Status {
        self.details = Some(Box::new(Details {
            group: group.to_string(),
            kind: kind.to_string(),
            name: name.to_string(),
            ..Details::default()
        }));
        self
    }

    pub fn not_found(group: &str, resource: &str, name: &str) -> Status {
        Status::new(404, "NotFound", format!("{} {name:?} not found", qualified(resource, group)))
            .about(group, resource, name)
    }

    pub fn already_exists(group: &str, resource: &str, name: &str) -> Status {
        Status::new(409, "AlreadyExists", format!("{} {name:?} already exists", qualified(resource, group)))
            .about(group, resource, name)
    }

    /// [`Status::already_exists`], when every name that was made was taken.
    pub fn generated_name_conflict(group: &str, resource: &str, name: &str) -> Status {
        let mut s = Status::already_exists(group, resource, name);
        s.message.push_str(", the server was not able to generate a unique name for the object");
        if let Some(d) = s.details.as_mut() {
            d.retry_after_seconds = 1;
        }
        s
    }

    pub fn conflict(group: &str, resource: &str, name: &str, why: impl fmt::Display) -> Status {
        Status::new(
            409,
            "Conflict",
            format!("Operation cannot be fulfilled on {} {name:?}: {why}", qualified(resource, group)),
        )
        .about(group, resource, name)
    }

    /// The conflict of a stale `resourceVersion`.
    pub fn modified(group: &str, resource: &str, name: &str) -> Status {
        Status::conflict(
            group,
            resource,
            name,
            "the object has been modified; please apply your changes to the latest version and try again",
        )
    }

    pub fn bad_request(message: impl Into<String>) -> Status {
        Status::new(400, "BadRequest", message)
    }

    pub fn unauthorized() -> Status {
        Status::new(401, "Unauthorized", "Unauthorized")
    }

    pub fn forbidden(group: &str, resource: &str, name: &str, why: impl fmt::Display) -> Status {
        let q = qualified(resource, group);
        let message = if q.is_empty() {
            format!("forbidden: {why}")
        } else if name.is_empty() {
            format!("{q} is forbidden: {why}")
        } else {
            format!("{q} {name:?} is forbidden: {why}")
        };
        Status::new(403, "Forbidden", message).about(group, resource, name)
    }

    /// Validation failed. `kind` is the object's kind, for example `Deployment`.
    pub fn invalid(group: &str, kind: &str, name: &str, errors: &field::Errors) -> Status {
        let mut s =
            Status::new(422, "Invalid", format!("{} {name:?} is invalid: {}", qualified(kind, group), errors.joined()))
                .about(group, kind, name);
        if let Some(d) = s.details.as_mut() {
            d.causes = errors
                .0
                .iter()
                .map(|e| Cause { reason: e.reason.as_str().to_string(), message: e.body(), field: e.path.to_string() })
                .collect();
        }
        s
    }

    pub fn method_not_supported(group: &str, resource: &str, action: &str) -> Status {
        Status::new(
            405,
            "MethodNotAllowed",
            format!("{action} is not supported on resources of kind {:?}", qualified(resource, group)),
        )
        .about(group, resource, "")
    }

    /// 410 `Expired`: the asked revision is no longer kept.
    pub fn expired(message: impl Into<String>) -> Status {
        Status::new(410, "Expired", message)
    }

    pub fn too_large(message: impl Into<String>) -> Status {
        Status::new(413, "RequestEntityTooLarge", message)
    }

    pub fn unsupported_media_type(message: impl Into<String>) -> Status {
        Status::new(415, "UnsupportedMediaType", message)
    }

    pub fn not_acceptable(message: impl Into<String>) -> Status {
        Status::new(406, "NotAcceptable", message)
    }

    pub fn too_many_requests(message: impl Into<String>, retry_after_seconds: u32) -> Status {
        let mut s = Status::new(429, "TooManyRequests", message);
        s.details = Some(Box::new(Details { retry_after_seconds, ..Details::default() }));
        s
    }

    pub fn timeout(message: impl Into<String>, retry_after_seconds: u32) -> Status {
        let mut s = Status::new(504, "Timeout", message);
        s.details = Some(Box::new(Details { retry_after_seconds, ..Details::default() }));
        s
    }

    pub fn unavailable(message: impl Into<String>) -> Status {
        Status::new(503, "ServiceUnavailable", message)
    }

    pub fn internal(err: impl fmt::Display) -> Status {
        let mut s = Status::new(500, "InternalError", format!("Internal error occurred: {err}"));
        s.details = Some(Box::new(Details {
            causes: vec![Cause { reason: String::new(), message: err.to_string(), field: String::new() }],
            ..Details::default()
        }));
        s
    }

    /// The JSON object that is sent.
    pub fn to_value(&self) -> Value {
        let mut v = json!({
            "kind": "Status", "apiVersion": "v1", "metadata": {},
            "status": if self.code < 400 { "Success" } else { "Failure" },
            "code": self.code,
        });
        if !self.continue_token.is_empty() {
            v["metadata"]["continue"] = json!(self.continue_token);
        }
        if !self.message.is_empty() {
            v["message"] = json!(self.message);
        }
        if !self.reason.is_empty() {
            v["reason"] = json!(self.reason);
        }
        if let Some(d) = &self.details {
            let mut out = json!({});
            for (k, s) in [("name", &d.name), ("group", &d.group), ("kind", &d.kind), ("uid", &d.uid)] {
                if !s.is_empty() {
                    out[k] = json!(s);
                }
            }
            if !d.causes.is_empty() {
                out["causes"] = d
                    .causes
                    .iter()
                    .map(|c| {
                        let mut o = json!({});
                        for (k, s) in [("reason", &c.reason), ("message", &c.message), ("field", &c.field)] {
                            if !s.is_empty() {
                                o[k] = json!(s);
                            }
                        }
                        o
                    })
                    .collect();
            }
            if d.retry_after_seconds > 0 {
                out["retryAfterSeconds"] = json!(d.retry_after_seconds);
            }
            v["details"] = out;
        }
        v
    }
}

impl fmt::Display for Status {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl std::error::Error for Status {}

#[cfg(test)]
mod tests {
    use super::*;
    use field::{Errors, Path};

    #[test]
    fn invalid_names_kind_and_causes() {
        let mut e = Errors::default();
        e.required(Path::new("spec.selector"), "");
        let v = Status::invalid("apps", "Deployment", "web", &e).to_value();
        assert_eq!(v["message"], "Deployment.apps \"web\" is invalid: spec.selector: Required value");
        assert_eq!((&v["code"], &v["reason"]), (&json!(422), &json!("Invalid")));
        assert_eq!(
            v["details"],
            json!({"name": "web", "group": "apps", "kind": "Deployment", "causes": [
                {"reason": "FieldValueRequired", "message": "Required value", "field": "spec.selector"}]})
        );
    }

    #[test]
    fn texts_and_codes() {
        for (s, code, message) in [
            (Status::not_found("", "pods", "a"), 404, "pods \"a\" not found"),
            (Status::already_exists("apps", "deployments", "a"), 409, "deployments.apps \"a\" already exists"),
            (Status::forbidden("", "pods", "", "no"), 403, "pods is forbidden: no"),
            (Status::unauthorized(), 401, "Unauthorized"),
        ] {
            assert_eq!((s.code, s.message.as_str()), (code, message));
        }
    }
}
