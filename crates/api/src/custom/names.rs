//! Names of CRDs: which are accepted, and the conditions that say so (upstream's naming, establishing, API approval
//! and non-structural-schema controllers in one pure step).
//!
//! In: a CRD and what else has names in its group. Out: its new `status`.

use crate::kinds::customresourcedefinition::structural_errors;
use crate::validation::access::*;
use base64::{Engine, engine::general_purpose::STANDARD};
use serde_json::{Value, json};
use x509_parser::pem::Pem;

/// Deletes all instances before the CRD goes.
pub const FINALIZER: &str = "customresourcecleanup.apiextensions.k8s.io";

/// Whether a condition is `True`.
pub fn condition(crd: &Value, kind: &str) -> bool {
    list_at(crd, &["status", "conditions"]).iter().any(|c| c["type"] == kind && c["status"] == "True")
}

/// Names that are taken in a group by others: resources (plural, singular, short) and kinds (kind, list kind).
#[derive(Debug, Default)]
pub struct Taken {
    pub resources: Vec<String>,
    pub kinds: Vec<String>,
}

impl Taken {
    /// By another CRD's accepted names.
    pub fn add(&mut self, accepted: &Value) {
        for key in ["plural", "singular"] {
            self.resources.push(text(accepted, key).to_string());
        }
        self.resources.extend(texts(accepted, "shortNames").into_iter().map(String::from));
        for key in ["kind", "listKind"] {
            self.kinds.push(text(accepted, key).to_string());
        }
    }
}

/// What keeps a CRD's schemas from being structural, empty where nothing does; an error where that can't be told.
/// The one thing about its status that schemas have a say in.
pub fn structure(crd: &Value) -> Result<String, String> {
    structural_errors(crd).map(|faults| if faults.is_empty() { String::new() } else { faults.joined() })
}

/// The status that a CRD should have now: accepted names and conditions. `structure` is what [`structure`] said of it;
/// its schemas aren't looked at. `now` is RFC 3339.
pub fn status(crd: &Value, structure: &Result<String, String>, taken: &Taken, now: &str) -> Value {
    let (wanted, mut accepted) = (at(crd, &["spec", "names"]).clone(), at(crd, &["status", "acceptedNames"]).clone());
    if !accepted.is_object() {
        accepted = json!({});
    }
    let mut conflicts: Vec<(&str, String)> = Vec::new();
    let free = |all: &[String], name: &str| name.is_empty() || !all.iter().any(|t| t == name);
    let in_use = |name: &str| format!("{name:?} is already in use");
    for (key, all, reason) in [
        ("plural", &taken.resources, "PluralConflict"),
        ("singular", &taken.resources, "SingularConflict"),
        ("shortNames", &taken.resources, "ShortNamesConflict"),
        ("kind", &taken.kinds, "KindConflict"),
        ("listKind", &taken.kinds, "ListKindConflict"),
    ] {
        if key == "shortNames" {
            let mut bad: Vec<String> = texts(&wanted, key).into_iter().filter(|n| !free(all, n)).map(in_use).collect();
            match bad.len() {
                0 => copy(&mut accepted, &wanted, key),
                1 => conflicts.push((reason, bad.remove(0))),
                _ => conflicts.push((reason, format!("[{}]", bad.join(", ")))),
            }
            continue;
        }
        let name = text(&wanted, key);
        match free(all, name) {
            true => copy(&mut accepted, &wanted, key),
            false => conflicts.push((reason, in_use(name))),
        }
    }
    copy(&mut accepted, &wanted, "categories");

    let mut out = at(crd, &["status"]).clone();
    if !out.is_object() {
        out = json!({});
    }
    let mut conditions = list(&out, "conditions").to_vec();
    // The last conflict that was found is told, as upstream does.
    let names_ok = conflicts.is_empty();
    match conflicts.pop() {
        None => put(&mut conditions, "NamesAccepted", "True", "NoConflicts", "no conflicts found", now),
        Some((reason, message)) => put(&mut conditions, "NamesAccepted", "False", reason, &message, now),
    }
    let established = conditions.iter().any(|c| c["type"] == "Established" && c["status"] == "True");
    if !established {
        match names_ok {
            // Whoever puts the right one in (cert-manager does) makes the definition live.
            true if !has_sound_ca_bundle(crd) => put(
                &mut conditions,
                "Established",
                "False",
                "InvalidCABundle",
                "The conversion webhook CABundle is invalid",
                now,
            ),
            true => put(
                &mut conditions,
                "Established",
                "True",
                "InitialNamesAccepted",
                "the initial names have been accepted",
                now,
            ),
            false => put(&mut conditions, "Established", "False", "NotAccepted", "not all names are accepted", now),
        }
    }
    conform(crd, &mut conditions, now);
    const KIND: &str = "NonStructuralSchema";
    match structure {
        Ok(faults) if faults.is_empty() => conditions.retain(|c| c["type"] != KIND),
        Ok(faults) => put(&mut conditions, KIND, "True", "Violations", faults, now),
        Err(why) => put(&mut conditions, KIND, "Unknown", "StructuralError", why, now),
    }
    out["conditions"] = conditions.into();
    out["acceptedNames"] = accepted;
    out
}

/// Whether the conversion webhook's `caBundle` is absent, or has a certificate.
pub fn has_sound_ca_bundle(crd: &Value) -> bool {
    let bundle = text_at(crd, &["spec", "conversion", "webhook", "clientConfig", "caBundle"]);
    if bundle.is_empty() {
        return true;
    }
    let pem = STANDARD.decode(bundle).unwrap_or_default();
    Pem::iter_from_buffer(&pem).map_while(Result::ok).any(|p| p.label == "CERTIFICATE" && p.parse_x509().is_ok())
}

/// `Terminating`, once deletion was asked for.
pub fn terminating(status: &mut Value, state: &str, reason: &str, message: &str, now: &str) {
    let mut conditions = list(status, "conditions").to_vec();
    put(&mut conditions, "Terminating", state, reason, message, now);
    status["conditions"] = conditions.into();
}

fn copy(to: &mut Value, from: &Value, key: &str) {
    if let Some(o) = to.as_object_mut() {
        match from.get(key).filter(|v| !v.is_null()) {
            Some(v) => o.insert(key.to_string(), v.clone()),
            None => o.remove(key),
        };
    }
}

fn put(conditions: &mut Vec<Value>, kind: &str, status: &str, reason: &str, message: &str, now: &str) {
    let mut new = json!({
        "type": kind, "status": status, "reason": reason, "message": message, "lastTransitionTime": now,
    });
    match conditions.iter_mut().find(|c| c["type"] == kind) {
        Some(old) => {
            if old["status"] == new["status"] {
                new["lastTransitionTime"] = old["lastTransitionTime"].clone();
            }
            if *old != new {
                *old = new;
            }
        }
        None => conditions.push(new),
    }
}

/// Points to the approval of a definition in one of [`PROTECTED`] groups.
pub const APPROVED_ANNOTATION: &str = "api-approved.kubernetes.io";
/// Groups that only upstream may add to, and all below them.
const PROTECTED: [&str; 2] = ["k8s.io", "kubernetes.io"];

pub fn is_protected(crd: &Value) -> bool {
    let group = text_at(crd, &["spec", "group"]);
    PROTECTED.iter().any(|p| group.strip_suffix(p).is_some_and(|below| below.is_empty() || below.ends_with('.')))
}

/// Whether a definition's annotation says that upstream agreed to it.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Approval {
    Missing,
    Invalid,
    Given,
    Bypassed,
}

/// The state, and what to say of it.
pub fn approval(crd: &Value) -> (Approval, String) {
    let note = text(at(crd, &["metadata", "annotations"]), APPROVED_ANNOTATION);
    let is_url = note.split_once("://").is_some_and(|(scheme, rest)| {
        let host = rest.split(['/', '?', '#']).next().unwrap_or("");
        scheme.starts_with(|c: char| c.is_ascii_alphabetic()) && !host.is_empty() && !note.contains(' ')
    });
    let needed = format!("protected groups must have approval annotation {APPROVED_ANNOTATION:?}");
    let see = "see https://github.com/kubernetes/enhancements/pull/1111";
    match note {
        "" => (Approval::Missing, format!("{needed}, {see}")),
        n if n.starts_with("unapproved") => (Approval::Bypassed, format!("not approved: {n:?}")),
        n if is_url => (Approval::Given, format!("approved in {n}")),
        _ => (Approval::Invalid, format!("{needed} with either a URL or a reason starting with \"unapproved\", {see}")),
    }
}

/// `KubernetesAPIApprovalPolicyConformant`
fn conform(crd: &Value, conditions: &mut Vec<Value>, now: &str) {
    const KIND: &str = "KubernetesAPIApprovalPolicyConformant";
    if !is_protected(crd) {
        return conditions.retain(|c| c["type"] != KIND);
    }
    let (state, message) = approval(crd);
    let (status, reason) = match state {
        Approval::Missing => ("False", "MissingAnnotation"),
        Approval::Invalid => ("False", "InvalidAnnotation"),
        Approval::Bypassed => ("False", "UnapprovedAnnotation"),
        Approval::Given => ("True", "ApprovedAnnotation"),
    };
    put(conditions, KIND, status, reason, &message, now);
}
