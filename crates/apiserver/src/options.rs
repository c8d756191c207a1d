//! Query parameters of a request, parsed and checked once.

use crate::request_info::form_pairs;
use meta::status::{Result, Status};

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

/// ListOptions, and the write options that come in the query (CreateOptions, UpdateOptions, PatchOptions).
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Options {
    pub label_selector: String,
    pub field_selector: String,
    pub watch: bool,
    pub allow_watch_bookmarks: bool,
    pub send_initial_events: Option<bool>,
    pub resource_version: String,
    pub resource_version_match: Option<VersionMatch>,
    pub timeout_seconds: Option<u64>,
    pub limit: usize,
    pub continue_token: String,
    pub dry_run: bool,
    pub field_manager: String,
    pub field_validation: FieldValidation,
    pub force: Option<bool>,
    pub grace_period_seconds: Option<i64>,
    pub propagation_policy: Option<String>,
    pub orphan_dependents: Option<bool>,
    pub ignore_store_read_error: bool,
    /// `includeObject` of Table requests.
    pub include_object: String,
}

impl Options {
    pub fn parse(query: &str) -> Result<Options> {
        let mut o = Options::default();
        for (k, v) in form_pairs(query) {
            match k.as_str() {
                "labelSelector" => o.label_selector = v,
                "fieldSelector" => o.field_selector = v,
                "watch" => o.watch = flag(&v),
                "allowWatchBookmarks" => o.allow_watch_bookmarks = flag(&v),
                "sendInitialEvents" => o.send_initial_events = Some(flag(&v)),
                "resourceVersion" => o.resource_version = v,
                "resourceVersionMatch" => {
                    o.resource_version_match = match v.as_str() {
                        "" => None,
                        "Exact" => Some(VersionMatch::Exact),
                        "NotOlderThan" => Some(VersionMatch::NotOlderThan),
                        _ => {
                            return Err(invalid_list_option(format!(
                                "resourceVersionMatch: Unsupported value: {v:?}: supported values: \"Exact\", \"NotOlderThan\", \"\""
                            )));
                        }
                    }
                }
                "timeoutSeconds" => o.timeout_seconds = Some(number(&k, &v)?.max(0) as u64),
                "limit" => o.limit = number(&k, &v)?.max(0) as usize,
                "continue" => o.continue_token = v,
                "dryRun" => match v.as_str() {
                    "" => {}
                    "All" => o.dry_run = true,
                    _ => {
                        return Err(Status::new(
                            422,
                            "Invalid",
                            format!("dryRun: Unsupported value: {v:?}: supported values: \"All\""),
                        ));
                    }
                },
                "fieldManager" => {
                    if v.len() > 128 {
                        return Err(Status::new(
                            422,
                            "Invalid",
                            format!("fieldManager: Invalid value: {v:?}: may not be more than 128 bytes"),
                        ));
                    }
                    if !v.chars().all(|c| !c.is_control()) {
                        return Err(Status::new(
                            422,
                            "Invalid",
                            format!("fieldManager: Invalid value: {v:?}: should only contain printable characters"),
                        ));
                    }
                    o.field_manager = v;
                }
                "fieldValidation" => {
                    o.field_validation = match v.as_str() {
                        "" | "Warn" => FieldValidation::Warn,
                        "Ignore" => FieldValidation::Ignore,
                        "Strict" => FieldValidation::Strict,
                        _ => {
                            return Err(Status::new(
                                422,
                                "Invalid",
                                format!(
                                    "fieldValidation: Unsupported value: {v:?}: supported values: \"\", \"Ignore\", \"Strict\", \"Warn\""
                                ),
                            ));
                        }
                    }
                }
                "force" => o.force = Some(flag(&v)),
                "gracePeriodSeconds" => o.grace_period_seconds = Some(number(&k, &v)?),
                "propagationPolicy" => o.propagation_policy = Some(v),
                "orphanDependents" => o.orphan_dependents = Some(flag(&v)),
                "includeObject" => o.include_object = v,
                _ => {}
            }
        }
        Ok(o)
    }

    /// Rules between the parameters of a list or watch.
    pub fn check_list(&self) -> Result<()> {
        let forbid = |field: &str, why: &str| Err(invalid_list_option(format!("{field}: Forbidden: {why}")));
        if self.watch {
            if self.send_initial_events.is_some() {
                if self.resource_version_match.is_none() {
                    return forbid(
                        "resourceVersionMatch",
                        "sendInitialEvents requires setting resourceVersionMatch to NotOlderThan",
                    );
                }
                if self.resource_version_match != Some(VersionMatch::NotOlderThan) {
                    return Err(invalid_list_option(
                        "resourceVersionMatch: Unsupported value: \"Exact\": supported values: \"NotOlderThan\"".into(),
                    ));
                }
            } else if self.resource_version_match.is_some() {
                return forbid(
                    "resourceVersionMatch",
                    "resourceVersionMatch is forbidden for watch unless sendInitialEvents is provided",
                );
            }
            return Ok(());
        }
        if self.send_initial_events.is_some() {
            return forbid("sendInitialEvents", "sendInitialEvents is forbidden for list");
        }
        if let Some(m) = self.resource_version_match {
            if self.resource_version.is_empty() {
                return forbid(
                    "resourceVersionMatch",
                    "resourceVersionMatch is forbidden unless resourceVersion is provided",
                );
            }
            if !self.continue_token.is_empty() {
                return forbid("resourceVersionMatch", "resourceVersionMatch is forbidden when continue is provided");
            }
            if m == VersionMatch::Exact && self.resource_version == "0" {
                return forbid(
                    "resourceVersionMatch",
                    "resourceVersionMatch \"Exact\" is forbidden for resourceVersion \"0\"",
                );
            }
        }
        Ok(())
    }
}

fn invalid_list_option(message: String) -> Status {
    Status::new(422, "Invalid", format!("ListOptions.meta.k8s.io \"\" is invalid: {message}"))
}

/// Go's bool parameters: present without a value is true.
fn flag(v: &str) -> bool {
    !matches!(v.to_ascii_lowercase().as_str(), "false" | "0")
}

fn number(key: &str, v: &str) -> Result<i64> {
    v.parse().map_err(|_| {
        Status::bad_request(format!("unable to decode {key:?}: strconv.ParseInt: parsing {v:?}: invalid syntax"))
    })
}
