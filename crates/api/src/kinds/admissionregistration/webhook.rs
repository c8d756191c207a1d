//! Webhook configurations, and where a webhook is.

use super::matching::{SELECTORS, default_rules, validate_rules};
use super::{MutatingWebhookConfiguration, ValidatingWebhookConfiguration, validate_match_conditions};
use crate::kinds::columns;
use crate::strategy::{AGE, Column, NAME, Now, Strategy, column};
use crate::validation::access::*;
use crate::validation::seen::{Seen, repeats};
use crate::validation::{selector, values};
use meta::field::{Errors, Path};
use serde_json::{Value, json};

const TIMEOUT_SECONDS_DEFAULT: i64 = 10;

/// Webhooks are named like `check.example.com`.
fn webhook_name(name: &str, path: &Path, errors: &mut Errors) {
    if name.is_empty() {
        return errors.required(path.clone(), "");
    }
    let faults = meta::names::dns1123_subdomain(name);
    if !faults.is_empty() {
        errors.invalid(path.clone(), name, faults.join(","));
    } else if name.split('.').count() < 3 {
        errors.invalid(path.clone(), name, "should be a domain with at least three segments separated by dots");
    }
}

/// What webhooks of old may still be, where all that were there needed it.
#[derive(Default)]
struct Lenient {
    side_effects: bool,
    review_versions: bool,
    repeated_names: bool,
    label_values: bool,
    /// The conditions are those that there were.
    conditions: bool,
}

const NO_SIDE_EFFECTS: &[&str] = &["None", "NoneOnDryRun"];

fn knows_a_review_version(hook: &Value) -> bool {
    texts(hook, "admissionReviewVersions").iter().any(|v| matches!(*v, "v1" | "v1beta1"))
}

impl Lenient {
    fn of(new: &Value, old: &Value) -> Lenient {
        let (new, old) = (list(new, "webhooks"), list(old, "webhooks"));
        let bad_selector = |s: &Value| {
            let mut faults = Errors::default();
            selector::label_selector(s, &Path::root(), &mut faults);
            !faults.is_empty()
        };
        Lenient {
            side_effects: old.iter().any(|h| !NO_SIDE_EFFECTS.contains(&text(h, "sideEffects"))),
            review_versions: old
                .iter()
                .any(|h| !list(h, "admissionReviewVersions").is_empty() && !knows_a_review_version(h)),
            repeated_names: repeats(old.iter().map(|h| text(h, "name"))),
            label_values: old.iter().any(|h| SELECTORS.iter().any(|k| bad_selector(field(h, k)))),
            conditions: new.len() == old.len()
                && new.iter().zip(old).all(|(n, o)| field(n, "matchConditions") == field(o, "matchConditions")),
        }
    }
}

fn validate_webhooks(obj: &Value, mutating: bool, lenient: &Lenient, errors: &mut Errors) {
    let mut names = Seen::default();
    for (i, hook) in list(obj, "webhooks").iter().enumerate() {
        let (path, name) = (Path::new("webhooks").index(i), text(hook, "name"));
        validate_webhook(hook, mutating, lenient, &path, errors);
        review_versions(hook, lenient, &path.child("admissionReviewVersions"), errors);
        if !lenient.repeated_names && !name.is_empty() && names.again(name) {
            errors.duplicate(path.child("name"), name);
        }
    }
}

fn review_versions(hook: &Value, lenient: &Lenient, path: &Path, errors: &mut Errors) {
    let versions = texts(hook, "admissionReviewVersions");
    if versions.is_empty() {
        return errors.required(path.clone(), "must specify one of v1, v1beta1");
    }
    let mut seen = Seen::default();
    for (i, v) in versions.iter().enumerate() {
        if seen.again(*v) {
            errors.invalid(path.index(i), *v, "duplicate version");
        } else {
            values::dns1035_label(v, &path.index(i), errors);
        }
    }
    if !lenient.review_versions && !knows_a_review_version(hook) {
        errors.invalid(path.clone(), json!(versions), "must include at least one of v1, v1beta1");
    }
}

fn validate_webhook(hook: &Value, mutating: bool, lenient: &Lenient, path: &Path, errors: &mut Errors) {
    webhook_name(text(hook, "name"), &path.child("name"), errors);
    validate_rules(list(hook, "rules"), &path.child("rules"), errors);
    for (key, supported) in [("failurePolicy", ["Fail", "Ignore"]), ("matchPolicy", ["Equivalent", "Exact"])] {
        if has(hook, key) {
            values::one_of(text(hook, key), &supported, path.child(key), errors);
        }
    }
    let supported = if lenient.side_effects { &["None", "NoneOnDryRun", "Some", "Unknown"] } else { NO_SIDE_EFFECTS };
    match field(hook, "sideEffects").as_str() {
        None => errors.required(path.child("sideEffects"), format!("must specify one of {}", supported.join(", "))),
        Some(effects) => values::one_of(effects, supported, path.child("sideEffects"), errors),
    }
    if let Some(seconds) = int(hook, "timeoutSeconds")
        && !(1..=30).contains(&seconds)
    {
        errors.invalid(path.child("timeoutSeconds"), seconds, "the timeout value must be between 1 and 30 seconds");
    }
    for key in SELECTORS {
        selector::label_selector_with(field(hook, key), lenient.label_values, &path.child(key), errors);
    }
    if mutating && has(hook, "reinvocationPolicy") {
        let supported = ["IfNeeded", "Never"];
        values::one_of(text(hook, "reinvocationPolicy"), &supported, path.child("reinvocationPolicy"), errors);
    }
    client_config(field(hook, "clientConfig"), &path.child("clientConfig"), errors);
    if !lenient.conditions {
        validate_match_conditions(hook, path, errors);
    }
}

/// Where a webhook is: a URL or a Service. Shared with conversion webhooks of custom resources.
pub fn client_config(config: &Value, path: &Path, errors: &mut Errors) {
    let (url, service) = (field(config, "url").as_str(), field(config, "service"));
    match (url, service.is_object()) {
        (Some(url), false) => webhook_url(url, &path.child("url"), errors),
        (None, true) => webhook_service(service, &path.child("service"), errors),
        _ => errors.required(path.clone(), "exactly one of url or service is required"),
    }
}

fn webhook_url(url: &str, path: &Path, errors: &mut Errors) {
    const FORM: &str = "; desired format: https://host[/path]";
    let (rest, fragment) = url.split_once('#').unwrap_or((url, ""));
    let is_scheme = |s: &str| {
        s.starts_with(|c: char| c.is_ascii_alphabetic())
            && s.chars().all(|c| c.is_ascii_alphanumeric() || "+-.".contains(c))
    };
    let (scheme, rest) = rest.split_once(':').filter(|(s, _)| is_scheme(s)).unwrap_or(("", rest));
    let (rest, query) = rest.split_once('?').unwrap_or((rest, ""));
    let authority = rest.strip_prefix("//").map_or("", |r| r.split('/').next().unwrap_or(""));
    let (user, host) = authority.rsplit_once('@').map_or((None, authority), |(u, h)| (Some(u), h));
    let scheme = scheme.to_lowercase();
    if scheme != "https" {
        errors.invalid(path.clone(), scheme, format!("'https' is the only allowed URL scheme{FORM}"));
    }
    if host.is_empty() {
        errors.invalid(path.clone(), "", format!("host must be specified{FORM}"));
    }
    if let Some(user) = user {
        errors.invalid(path.clone(), user, "user information is not permitted in the URL");
    }
    if !fragment.is_empty() {
        errors.invalid(path.clone(), fragment, "fragments are not permitted in the URL");
    }
    if !query.is_empty() {
        errors.invalid(path.clone(), query, "query parameters are not permitted in the URL");
    }
}

fn webhook_service(service: &Value, path: &Path, errors: &mut Errors) {
    // Upstream mistakes one for the other where only one of them is missing.
    for key in ["name", "namespace"] {
        if text(service, key).is_empty() {
            errors.required(path.child(key), "");
        }
    }
    let port = int(service, "port").unwrap_or(443);
    let faults = meta::names::port_number(port);
    if !faults.is_empty() {
        errors.invalid(path.child("port"), port, format!("port is not valid: {}", faults.join(", ")));
    }
    let (p, at) = (text(service, "path"), path.child("path"));
    match p {
        "" | "/" => return,
        "//" => return errors.invalid(at, p, "segment[0] may not be empty"),
        _ if !p.starts_with('/') => errors.invalid(at.clone(), p, "must start with a '/'"),
        _ => {}
    }
    let rest: String = p.chars().skip(1).collect();
    for (i, step) in rest.strip_suffix('/').unwrap_or(&rest).split('/').enumerate() {
        if step.is_empty() {
            errors.invalid(at.clone(), p, format!("segment[{i}] may not be empty"));
        } else {
            for fault in meta::names::dns1123_subdomain(step) {
                errors.invalid(at.clone(), p, format!("segment[{i}]: {fault}"));
            }
        }
    }
}

macro_rules! webhooks {
    ($kind:ident, $mutating:literal) => {
        impl Strategy for $kind {
            fn defaults(&self, obj: &mut Value) {
                for hook in items_mut(obj, "webhooks") {
                    fill(hook, "failurePolicy", "Fail");
                    fill(hook, "timeoutSeconds", TIMEOUT_SECONDS_DEFAULT);
                    fill(hook, "matchPolicy", "Equivalent");
                    fill(hook, "namespaceSelector", json!({}));
                    fill(hook, "objectSelector", json!({}));
                    if $mutating {
                        fill(hook, "reinvocationPolicy", "Never");
                    }
                    default_rules(hook, "rules");
                    if let Some(service) = object_at_mut(hook, &["clientConfig", "service"]) {
                        fill(service, "port", 443);
                    }
                }
            }

            fn validate_create(&self, obj: &Value, errors: &mut Errors) {
                validate_webhooks(obj, $mutating, &Lenient::default(), errors);
            }

            fn validate_update(&self, new: &Value, old: &Value, errors: &mut Errors) {
                validate_webhooks(new, $mutating, &Lenient::of(new, old), errors);
            }

            fn has_generation(&self) -> bool {
                true
            }

            fn bumps_generation(&self, new: &Value, old: &Value) -> bool {
                field(new, "webhooks") != field(old, "webhooks")
            }

            fn allow_unconditional_update(&self) -> bool {
                false
            }

            fn columns(&self) -> &'static [Column] {
                const COLUMNS: &[Column] =
                    &[NAME, column("Webhooks", "integer", 0, "How many webhooks the configuration has."), AGE];
                COLUMNS
            }

            fn row(&self, obj: &Value, now: Now) -> Vec<Value> {
                vec![columns::name(obj), json!(list(obj, "webhooks").len()), columns::age_cell(obj, now)]
            }
        }
    };
}

webhooks!(MutatingWebhookConfiguration, true);
webhooks!(ValidatingWebhookConfiguration, false);
