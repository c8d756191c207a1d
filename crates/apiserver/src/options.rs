//! Query parameters of a request, parsed and checked once, with upstream's texts.
//!
//! A parameter that can't be read at all is a 400; one that makes no sense where it is given, a 422 of
//! `ListOptions.meta.k8s.io` and its siblings, checked when it is known what the request does
//! ([`Options::check_list`], [`Options::check_write`]).

use crate::request_info::form_pairs;
use meta::apply::validate_field_manager;
use meta::field::{Errors, Path};
use meta::status::{Result, Status};
use serde_json::json;

/// `fieldValidation`: what happens to unknown and duplicate fields.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum FieldValidation {
    Ignore,
    #[default]
    Warn,
    Strict,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum VersionMatch {
    Exact,
    NotOlderThan,
}

/// ListOptions, and the write options that come in the query (CreateOptions, UpdateOptions, PatchOptions,
/// DeleteOptions).
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Options {
    pub label_selector: String,
    pub field_selector: String,
    pub watch: bool,
    pub allow_watch_bookmarks: bool,
    pub send_initial_events: Option<bool>,
    pub resource_version: String,
    /// `None` too where the text is none that exists; see [`Options::check_list`].
    pub resource_version_match: Option<VersionMatch>,
    resource_version_match_text: String,
    pub timeout_seconds: Option<i64>,
    pub limit: usize,
    pub continue_token: String,
    /// Any of the given values is `All`.
    pub dry_run: bool,
    dry_run_texts: Vec<String>,
    pub field_manager: String,
    pub field_validation: FieldValidation,
    field_validation_text: String,
    pub force: Option<bool>,
    pub grace_period_seconds: Option<i64>,
    pub propagation_policy: Option<String>,
    pub orphan_dependents: Option<bool>,
    pub ignore_store_read_error: Option<bool>,
    /// `includeObject` of Table requests.
    /// What old clients asked for, which is refused.
    pub export: bool,
    pub include_object: String,
    pub pretty: Option<bool>,
}

/// The options of a write, by the name that errors give them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Write {
    Create,
    Update,
    Patch,
    Apply,
    Delete,
}

impl Options {
    /// Of a parameter that is given several times, the first counts, as in upstream.
    pub fn parse(query: &str) -> Result<Options> {
        let mut o = Options::default();
        let mut seen: Vec<String> = Vec::new();
        for (k, v) in form_pairs(query) {
            if k == "dryRun" {
                o.dry_run |= v == "All";
                o.dry_run_texts.push(v);
                continue;
            }
            if seen.contains(&k) {
                continue;
            }
            match k.as_str() {
                "labelSelector" => o.label_selector = v,
                "fieldSelector" => o.field_selector = v,
                "watch" => o.watch = flag(&v),
                "allowWatchBookmarks" => o.allow_watch_bookmarks = flag(&v),
                "sendInitialEvents" => o.send_initial_events = Some(flag(&v)),
                "resourceVersion" => o.resource_version = v,
                "resourceVersionMatch" => {
                    o.resource_version_match = match v.as_str() {
                        "Exact" => Some(VersionMatch::Exact),
                        "NotOlderThan" => Some(VersionMatch::NotOlderThan),
                        _ => None,
                    };
                    o.resource_version_match_text = v;
                }
                "timeoutSeconds" => o.timeout_seconds = number(&v)?,
                "limit" => o.limit = number(&v)?.unwrap_or(0).max(0) as usize,
                "continue" => o.continue_token = v,
                "fieldManager" => o.field_manager = v,
                "fieldValidation" => {
                    o.field_validation = match v.as_str() {
                        "Ignore" => FieldValidation::Ignore,
                        "Strict" => FieldValidation::Strict,
                        _ => FieldValidation::Warn,
                    };
                    o.field_validation_text = v;
                }
                "force" => o.force = Some(flag(&v)),
                "gracePeriodSeconds" => o.grace_period_seconds = number(&v)?,
                "propagationPolicy" => o.propagation_policy = Some(v),
                "orphanDependents" => o.orphan_dependents = Some(flag(&v)),
                "ignoreStoreReadErrorWithClusterBreakingPotential" => o.ignore_store_read_error = Some(flag(&v)),
                "export" => o.export = flag(&v),
                "includeObject" => o.include_object = v,
                "pretty" => o.pretty = (!v.is_empty()).then(|| parse_bool(&v)),
                _ => continue,
            }
            seen.push(k);
        }
        Ok(o)
    }

    /// Rules between the parameters of a list or watch.
    pub fn check_list(&self) -> Result<()> {
        let mut errors = Errors::default();
        let field = || Path::new("resourceVersionMatch");
        let text = self.resource_version_match_text.as_str();
        let matching = self.resource_version_match;
        if self.watch {
            if self.send_initial_events.is_some() && matching != Some(VersionMatch::NotOlderThan) {
                errors.forbidden(field(), "sendInitialEvents requires setting resourceVersionMatch to NotOlderThan");
            }
            if !text.is_empty() {
                if self.send_initial_events.is_none() {
                    errors.forbidden(
                        field(),
                        "resourceVersionMatch is forbidden for watch unless sendInitialEvents is provided",
                    );
                }
                if matching != Some(VersionMatch::NotOlderThan) {
                    errors.not_supported(field(), text, &["NotOlderThan"]);
                }
                if !self.continue_token.is_empty() {
                    errors.forbidden(field(), "resourceVersionMatch is forbidden when continue is provided");
                }
            }
            return invalid("ListOptions", errors);
        }
        if !text.is_empty() {
            if self.resource_version.is_empty() {
                errors.forbidden(field(), "resourceVersionMatch is forbidden unless resourceVersion is provided");
            }
            if !self.continue_token.is_empty() {
                errors.forbidden(field(), "resourceVersionMatch is forbidden when continue is provided");
            }
            if matching.is_none() {
                errors.not_supported(field(), text, &["Exact", "NotOlderThan", ""]);
            }
            if matching == Some(VersionMatch::Exact) && self.resource_version == "0" {
                errors.forbidden(field(), "resourceVersionMatch \"exact\" is forbidden for resourceVersion \"0\"");
            }
        }
        if self.send_initial_events.is_some() {
            errors.forbidden(Path::new("sendInitialEvents"), "sendInitialEvents is forbidden for list");
        }
        invalid("ListOptions", errors)
    }

    /// The parameters of a write. Those of a deletion may also stand in its body: [`check_dry_run`].
    pub fn check_write(&self, write: Write) -> Result<()> {
        let mut errors = Errors::default();
        match write {
            Write::Patch if self.force.is_some() => {
                errors.forbidden(Path::new("force"), "may not be specified for non-apply patch");
            }
            Write::Apply if self.field_manager.is_empty() => {
                errors.required(Path::new("fieldManager"), "is required for apply patch");
            }
            _ => {}
        }
        if write != Write::Delete {
            validate_field_manager(&self.field_manager, &Path::new("fieldManager"), &mut errors);
        }
        check_dry_run(self.dry_run_texts.iter().map(String::as_str), &mut errors);
        if write != Write::Delete && !matches!(self.field_validation_text.as_str(), "" | "Ignore" | "Warn" | "Strict") {
            errors.not_supported(
                Path::new("fieldValidation"),
                self.field_validation_text.as_str(),
                &["", "Ignore", "Strict", "Warn"],
            );
        }
        let kind = match write {
            Write::Create => "CreateOptions",
            Write::Update => "UpdateOptions",
            Write::Patch | Write::Apply => "PatchOptions",
            Write::Delete => "DeleteOptions",
        };
        invalid(kind, errors)
    }

    /// What a Table request may ask to be included.
    pub fn check_table(&self) -> Result<()> {
        let mut errors = Errors::default();
        if !matches!(self.include_object.as_str(), "" | "None" | "Metadata" | "Object") {
            errors.invalid(
                Path::new("includeObject"),
                self.include_object.as_str(),
                "must be 'Metadata', 'Object', 'None', or empty",
            );
        }
        match errors.0.first() {
            None => Ok(()),
            Some(e) => Err(Status::bad_request(format!("Unable to convert to Table as requested: {e}"))),
        }
    }
}

/// Faults of `dryRun`, whose only value is `All`.
pub fn check_dry_run<'a>(values: impl Iterator<Item = &'a str>, errors: &mut Errors) {
    let values: Vec<&str> = values.collect();
    if values.iter().any(|v| *v != "All") && values != [""] {
        errors.not_supported(Path::new("dryRun"), json!(values), &["All"]);
    }
}

/// 422 when there is a fault. `kind` is a kind of options.
pub fn invalid(kind: &str, errors: Errors) -> Result<()> {
    if errors.is_empty() { Ok(()) } else { Err(Status::invalid("meta.k8s.io", kind, "", &errors)) }
}

/// Go's bool parameters: present without a value is true, and so is all that isn't plainly false.
pub(crate) fn flag(v: &str) -> bool {
    !matches!(v.to_ascii_lowercase().as_str(), "false" | "0")
}

/// `strconv.ParseBool`, where a fault is false.
fn parse_bool(v: &str) -> bool {
    matches!(v, "1" | "t" | "T" | "true" | "TRUE" | "True")
}

/// A number; absent where the text is empty.
pub fn number(v: &str) -> Result<Option<i64>> {
    use std::num::IntErrorKind::{NegOverflow, PosOverflow};
    match v.parse() {
        Ok(n) => Ok(Some(n)),
        Err(_) if v.is_empty() => Ok(None),
        Err(e) => {
            let e: std::num::ParseIntError = e;
            let why = match e.kind() {
                PosOverflow | NegOverflow => "value out of range",
                _ => "invalid syntax",
            };
            Err(Status::bad_request(format!("strconv.ParseInt: parsing {v:?}: {why}")))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn list(query: &str, want: &str) {
        let o = Options::parse(query).unwrap();
        let got = o.check_list().err().map(|s| {
            assert_eq!((s.code, s.reason), (422, "Invalid"), "{query}");
            assert!(!s.details.unwrap().causes.is_empty());
            s.message
        });
        let want = (!want.is_empty()).then(|| format!("ListOptions.meta.k8s.io \"\" is invalid: {want}"));
        assert_eq!(got, want, "{query}");
    }

    #[test]
    fn lists_and_watches_refuse_what_makes_no_sense() {
        for fine in [
            "",
            "resourceVersion=0",
            "resourceVersion=5&resourceVersionMatch=Exact",
            "resourceVersion=0&resourceVersionMatch=NotOlderThan",
            "limit=5&resourceVersion=5",
            "watch=1",
            "watch=1&sendInitialEvents=true&resourceVersionMatch=NotOlderThan",
            "watch=1&sendInitialEvents=false&resourceVersionMatch=NotOlderThan&resourceVersion=3",
        ] {
            list(fine, "");
        }
        let field = "resourceVersionMatch: Forbidden: resourceVersionMatch";
        list("resourceVersionMatch=Exact", &format!("{field} is forbidden unless resourceVersion is provided"));
        list(
            "resourceVersion=0&resourceVersionMatch=Exact",
            &format!("{field} \"exact\" is forbidden for resourceVersion \"0\""),
        );
        list(
            "resourceVersion=5&resourceVersionMatch=Exact&continue=x",
            &format!("{field} is forbidden when continue is provided"),
        );
        list(
            "resourceVersion=5&resourceVersionMatch=odd",
            "resourceVersionMatch: Unsupported value: \"odd\": supported values: \"Exact\", \"NotOlderThan\", \"\"",
        );
        list("sendInitialEvents=false", "sendInitialEvents: Forbidden: sendInitialEvents is forbidden for list");
        list(
            "watch=1&resourceVersionMatch=NotOlderThan",
            &format!("{field} is forbidden for watch unless sendInitialEvents is provided"),
        );
        let requires =
            "resourceVersionMatch: Forbidden: sendInitialEvents requires setting resourceVersionMatch to NotOlderThan";
        list("watch=1&sendInitialEvents=true", requires);
        list(
            "watch=1&sendInitialEvents=true&resourceVersionMatch=Exact",
            &format!(
                "[{requires}, resourceVersionMatch: Unsupported value: \"Exact\": supported values: \"NotOlderThan\"]"
            ),
        );
        list(
            "watch=1&sendInitialEvents=true&resourceVersionMatch=NotOlderThan&continue=x",
            &format!("{field} is forbidden when continue is provided"),
        );
    }

    #[test]
    fn writes_refuse_what_makes_no_sense() {
        use Write::*;
        let long = "x".repeat(129);
        for (write, query, want) in [
            (Create, "dryRun=All&fieldManager=me&fieldValidation=Strict".to_string(), ""),
            (Create, "dryRun=".to_string(), ""),
            (Create, "dryRun=Some".to_string(), "dryRun: Unsupported value: [\"Some\"]: supported values: \"All\""),
            (
                Update,
                "fieldValidation=odd".to_string(),
                "fieldValidation: Unsupported value: \"odd\": supported values: \"\", \"Ignore\", \"Strict\", \"Warn\"",
            ),
            (Update, format!("fieldManager={long}"), "fieldManager: Too long: may not be more than 128 bytes"),
            (
                Patch,
                "fieldManager=a%0Ab".to_string(),
                "fieldManager: Invalid value: \"a\\nb\": invalid character U+000A (at position 1)",
            ),
            (Patch, "force=true".to_string(), "force: Forbidden: may not be specified for non-apply patch"),
            (Apply, "force=true".to_string(), "fieldManager: Required value: is required for apply patch"),
            (
                Delete,
                "dryRun=x&fieldValidation=x".to_string(),
                "dryRun: Unsupported value: [\"x\"]: supported values: \"All\"",
            ),
        ] {
            let got = Options::parse(&query).unwrap().check_write(write).err().map(|s| s.message);
            let kind = if write == Apply { Patch } else { write };
            let want = (!want.is_empty()).then(|| format!("{kind:?}Options.meta.k8s.io \"\" is invalid: {want}"));
            assert_eq!(got, want, "{query}");
        }
    }

    #[test]
    fn values_read_as_go_reads_them() {
        let o = Options::parse("watch&allowWatchBookmarks=yes&force=False&limit=-3&limit=9&timeoutSeconds=").unwrap();
        assert!(o.watch && o.allow_watch_bookmarks);
        assert_eq!((o.force, o.limit, o.timeout_seconds), (Some(false), 0, None));
        for (query, why) in [
            ("limit=x", "strconv.ParseInt: parsing \"x\": invalid syntax"),
            (
                "timeoutSeconds=99999999999999999999",
                "strconv.ParseInt: parsing \"99999999999999999999\": value out of range",
            ),
        ] {
            let s = Options::parse(query).unwrap_err();
            assert_eq!((s.code, s.message.as_str()), (400, why));
        }
    }
}
