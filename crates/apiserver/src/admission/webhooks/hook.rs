//! Webhooks as they are stored, made ready for use once per change of their configuration.

use super::conditions::Conditions;
use crate::admission::matching::Criteria;
use crate::authz::followed::{Index, names};
use crate::outbound::Target;
use serde_json::Value;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;
use store::Entry;

/// One webhook of a configuration.
pub struct Hook {
    /// Unique: configuration, name, position.
    pub uid: String,
    pub configuration: String,
    pub name: String,
    pub mutating: bool,
    pub target: Result<Target, String>,
    pub criteria: Criteria,
    pub conditions: Conditions,
    /// `failurePolicy: Ignore`
    pub fails_open: bool,
    /// Its side effects don't forbid that it is asked about a dry run.
    pub dry_runs: bool,
    pub timeout: Duration,
    /// `reinvocationPolicy: IfNeeded`
    pub reinvoked: bool,
    /// None of its review versions may be known here.
    pub version: Option<ReviewVersion>,
}

/// Of `AdmissionReview`, the first of the webhook's that is known here.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum ReviewVersion {
    V1,
    V1beta1,
}

impl Hook {
    fn new(configuration: &str, index: usize, v: &Value, mutating: bool) -> Hook {
        let name = v["name"].as_str().unwrap_or("").to_string();
        let versions = v["admissionReviewVersions"].as_array().into_iter().flatten().filter_map(Value::as_str);
        let version = versions
            .filter_map(|v| match v {
                "v1" => Some(ReviewVersion::V1),
                "v1beta1" => Some(ReviewVersion::V1beta1),
                _ => None,
            })
            .next();
        Hook {
            uid: format!("{configuration}/{name}/{index}"),
            configuration: configuration.to_string(),
            mutating,
            target: Target::from_client_config(&v["clientConfig"]).map_err(|e| e.to_string()),
            criteria: Criteria::of_webhook(v),
            conditions: Conditions::new(&v["matchConditions"]),
            fails_open: v["failurePolicy"] == "Ignore",
            dry_runs: matches!(v["sideEffects"].as_str(), Some("None" | "NoneOnDryRun")),
            timeout: Duration::from_secs(v["timeoutSeconds"].as_u64().unwrap_or(10).clamp(1, 30)),
            reinvoked: v["reinvocationPolicy"] == "IfNeeded",
            version,
            name,
        }
    }
}

type Hooks = Arc<Vec<Arc<Hook>>>;

/// All configurations, by name.
#[derive(Default)]
pub struct Configurations {
    /// By kind, as in `RESOURCES`.
    by_name: [BTreeMap<String, Vec<Arc<Hook>>>; 2],
    /// In the order in which they are called.
    in_order: [Hooks; 2],
}

impl Configurations {
    pub fn mutating(&self) -> Hooks {
        self.in_order[0].clone()
    }

    pub fn validating(&self) -> Hooks {
        self.in_order[1].clone()
    }

    fn sort(&mut self, which: usize) {
        self.in_order[which] = Arc::new(self.by_name[which].values().flatten().cloned().collect());
    }
}

impl Index for Configurations {
    const RESOURCES: &'static [(&'static str, &'static str)] = &[
        ("admissionregistration.k8s.io", "mutatingwebhookconfigurations"),
        ("admissionregistration.k8s.io", "validatingwebhookconfigurations"),
    ];

    fn put(&mut self, which: usize, entry: &Entry) {
        let configuration: Value = serde_json::from_slice(&entry.value).unwrap_or(Value::Null);
        let name = names(entry, false).1;
        let hooks = configuration["webhooks"].as_array().into_iter().flatten();
        let hooks = hooks.enumerate().map(|(i, h)| Arc::new(Hook::new(name, i, h, which == 0))).collect();
        self.by_name[which].insert(name.to_string(), hooks);
        self.sort(which);
    }

    fn delete(&mut self, which: usize, entry: &Entry) {
        self.by_name[which].remove(names(entry, false).1);
        self.sort(which);
    }
}
