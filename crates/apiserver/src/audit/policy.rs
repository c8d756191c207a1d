//! The audit policy file: how much of which request is recorded. The first rule that matches decides.
//!
//! Pure. Source: API reference, audit.k8s.io/v1 Policy.

use crate::authn::User;
use crate::request_info::RequestInfo;
use api::codec::yaml;
use meta::field::{Errors, Path};
use meta::schema::Types;
use serde::Deserialize;
use std::sync::{Arc, LazyLock};

const VERSION: &str = "audit.k8s.io/v1";

static TYPES: LazyLock<Arc<Types>> = LazyLock::new(|| {
    api::facts::types_of(
        "Policy
 kind str o 0
 apiVersion str o 0
 metadata any o 1
 rules []PolicyRule - 2
 omitStages []str o 3
 omitManagedFields bool o 4
PolicyRule
 level str - 1
 users []str o 2
 userGroups []str o 3
 verbs []str o 4
 resources []GroupResources o 5
 namespaces []str o 6
 nonResourceURLs []str o 7
 omitStages []str o 8
 omitManagedFields bool po 9
GroupResources
 group str o 1
 resources []str o 2
 resourceNames []str o 3
",
    )
    .expect("the table is well formed")
});

/// How much is recorded, in rising order.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub enum Level {
    #[default]
    None,
    Metadata,
    Request,
    RequestResponse,
}

impl Level {
    const ALL: [Level; 4] = [Level::None, Level::Metadata, Level::Request, Level::RequestResponse];

    pub fn as_str(self) -> &'static str {
        match self {
            Level::None => "None",
            Level::Metadata => "Metadata",
            Level::Request => "Request",
            Level::RequestResponse => "RequestResponse",
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stage {
    RequestReceived,
    ResponseStarted,
    ResponseComplete,
    Panic,
}

impl Stage {
    const ALL: [Stage; 4] = [Stage::RequestReceived, Stage::ResponseStarted, Stage::ResponseComplete, Stage::Panic];

    pub fn as_str(self) -> &'static str {
        match self {
            Stage::RequestReceived => "RequestReceived",
            Stage::ResponseStarted => "ResponseStarted",
            Stage::ResponseComplete => "ResponseComplete",
            Stage::Panic => "Panic",
        }
    }

    fn bit(self) -> u8 {
        1 << self as u8
    }
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Policy {
    rules: Vec<Rule>,
    omit_stages: Vec<String>,
    omit_managed_fields: bool,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct Rule {
    #[serde(rename = "level")]
    level_name: String,
    /// `level_name`, once it is known to be one.
    #[serde(skip)]
    level: Level,
    users: Vec<String>,
    user_groups: Vec<String>,
    verbs: Vec<String>,
    resources: Vec<GroupResources>,
    namespaces: Vec<String>,
    #[serde(rename = "nonResourceURLs")]
    non_resource_urls: Vec<String>,
    omit_stages: Vec<String>,
    omit_managed_fields: Option<bool>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct GroupResources {
    group: String,
    resources: Vec<String>,
    resource_names: Vec<String>,
}

/// What the policy says of one request.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Evaluated {
    pub level: Level,
    omitted: u8,
    pub omit_managed_fields: bool,
}

impl Evaluated {
    pub fn records(&self, stage: Stage) -> bool {
        self.omitted & stage.bit() == 0
    }
}

impl Policy {
    /// Reads and checks a file. What it says beyond what is known is warned of, and has no effect.
    pub fn parse(text: &str) -> Result<Policy, String> {
        let undecoded = |e: &dyn std::fmt::Display| format!("failed decoding: {e}");
        let found = yaml::parse(text.as_bytes()).map_err(|e| undecoded(&e))?.value;
        let word = |key: &str| found[key].as_str().unwrap_or("");
        match (word("apiVersion"), word("kind")) {
            (VERSION, "" | "Policy") => {}
            ("", "" | "Policy") => {
                return Err("unknown group version field audit.k8s.io/__internal, Kind=Policy in policy".to_string());
            }
            (version, kind) => {
                return Err(undecoded(&format_args!("no kind {kind:?} is registered for version {version:?}")));
            }
        }
        let ty = TYPES.named("Policy").expect("in the table");
        let decoded = yaml::decode(&TYPES, ty, text.as_bytes()).map_err(|e| undecoded(&e))?;
        if !decoded.problems.is_empty() {
            let problems = decoded.problems.join(", ");
            tracing::warn!(problems, "audit policy contains errors, falling back to lenient decoding");
        }
        let mut policy: Policy = serde_json::from_value(decoded.value).map_err(|e| undecoded(&e))?;
        let mut errors = Errors::default();
        stages(&policy.omit_stages, &Path::new("omitStages"), &mut errors);
        for (i, rule) in policy.rules.iter_mut().enumerate() {
            rule.check(&Path::new("rules").index(i), &mut errors);
        }
        if !errors.is_empty() {
            return Err(errors.joined());
        }
        match policy.rules.is_empty() {
            true => Err("loaded illegal policy with 0 rules".to_string()),
            false => Ok(policy),
        }
    }

    pub fn evaluate(&self, user: &User, info: &RequestInfo) -> Evaluated {
        let bits = |names: &[String]| {
            let named = Stage::ALL.into_iter().filter(|s| names.iter().any(|n| n == s.as_str()));
            named.fold(0, |bits, s| bits | s.bit())
        };
        match self.rules.iter().find(|r| r.matches(user, info)) {
            Some(r) => Evaluated {
                level: r.level,
                omitted: bits(&self.omit_stages) | bits(&r.omit_stages),
                omit_managed_fields: r.omit_managed_fields.unwrap_or(self.omit_managed_fields),
            },
            None => Evaluated {
                level: Level::None,
                omitted: bits(&self.omit_stages),
                omit_managed_fields: self.omit_managed_fields,
            },
        }
    }
}

fn stages(names: &[String], at: &Path, errors: &mut Errors) {
    let known = Stage::ALL.map(Stage::as_str);
    for (i, name) in names.iter().enumerate().filter(|(_, name)| !known.contains(&name.as_str())) {
        errors.invalid(at.index(i), name.clone(), format!("allowed stages are {}", known.join(",")));
    }
}

impl Rule {
    fn check(&mut self, at: &Path, errors: &mut Errors) {
        match Level::ALL.into_iter().find(|l| l.as_str() == self.level_name) {
            Some(level) => self.level = level,
            None if self.level_name.is_empty() => errors.required(at.child("level"), ""),
            None => {
                errors.not_supported(at.child("level"), self.level_name.clone(), &Level::ALL.map(Level::as_str));
            }
        }
        let urls_at = at.child("nonResourceURLs");
        for (i, url) in self.non_resource_urls.iter().enumerate().filter(|(_, url)| *url != "*") {
            if !url.starts_with('/') {
                let why = "non-resource URL rules must begin with a '/' character";
                errors.invalid(urls_at.index(i), url.clone(), why);
            }
            if url.strip_suffix('*').unwrap_or(url).contains('*') {
                let why = "non-resource URL wildcards '*' must be the final character of the rule";
                errors.invalid(urls_at.index(i), url.clone(), why);
            }
        }
        // Upstream tells no index of these.
        let resources_at = at.child("resources");
        for r in &self.resources {
            if !r.group.is_empty() && r.group != "*" {
                let faults = meta::names::dns1123_subdomain(&r.group);
                if !faults.is_empty() {
                    errors.invalid(resources_at.child("group"), r.group.clone(), faults.join(","));
                }
            }
            if !r.resource_names.is_empty() && r.resources.is_empty() {
                let why = "using resourceNames requires at least one resource";
                errors.invalid(resources_at.child("resourceNames"), r.resource_names.clone(), why);
            }
        }
        stages(&self.omit_stages, &at.child("omitStages"), errors);
        let about_resources = !self.resources.is_empty() || !self.namespaces.is_empty();
        if about_resources && !self.non_resource_urls.is_empty() {
            let why = "rules cannot apply to both regular resources and non-resource URLs";
            errors.invalid(urls_at, self.non_resource_urls.clone(), why);
        }
    }

    fn matches(&self, user: &User, info: &RequestInfo) -> bool {
        let within = |list: &[String], value: &str| list.is_empty() || list.iter().any(|l| l == value);
        if !within(&self.users, &user.name) || !within(&self.verbs, &info.verb) {
            return false;
        }
        if !self.user_groups.is_empty() && !self.user_groups.iter().any(|g| user.in_group(g)) {
            return false;
        }
        if !self.namespaces.is_empty() || !self.resources.is_empty() {
            return info.is_resource
                && within(&self.namespaces, &info.namespace)
                && (self.resources.is_empty() || self.resources.iter().any(|g| g.matches(info)));
        }
        if !self.non_resource_urls.is_empty() {
            return !info.is_resource
                && self.non_resource_urls.iter().any(|u| {
                    u == "*" || *u == info.path || u.strip_suffix('*').is_some_and(|p| info.path.starts_with(p))
                });
        }
        true
    }
}

impl GroupResources {
    fn matches(&self, info: &RequestInfo) -> bool {
        if self.group != info.group && self.group != "*" {
            return false;
        }
        if self.resources.is_empty() {
            return true;
        }
        if !self.resource_names.is_empty() && !self.resource_names.contains(&info.name) {
            return false;
        }
        self.resources.iter().any(|r| match r.split_once('/') {
            None => r == "*" || (*r == info.resource && info.subresource.is_empty()),
            Some(("*", sub)) => sub == info.subresource,
            Some((resource, "*")) => resource == info.resource,
            Some((resource, sub)) => resource == info.resource && sub == info.subresource,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use http::Method;

    #[test]
    fn the_first_rule_that_matches_decides() {
        let policy = Policy::parse(
            "
apiVersion: audit.k8s.io/v1
kind: Policy
omitStages: [RequestReceived]
rules:
- level: RequestResponse
  resources:
  - group: ''
    resources: [pods]
- level: Metadata
  resources:
  - group: ''
    resources: [pods/log, '*/status']
- level: None
  users: ['system:kube-proxy']
  verbs: [watch]
  resources:
  - group: ''
    resources: [endpoints, services]
- level: None
  userGroups: ['system:authenticated']
  nonResourceURLs: ['/api*', /version]
- level: Request
  resources:
  - group: ''
    resources: [configmaps]
    resourceNames: [c1]
  namespaces: [kube-system]
- level: Metadata
  namespaces: ['']
  verbs: [delete]
- level: Request
  resources:
  - group: '*'
    resources: ['*/scale']
",
        )
        .unwrap();
        let user = User::new("jane", &["system:authenticated"]);
        let proxy = User::new("system:kube-proxy", &[]);
        for (who, method, path, want) in [
            (&user, Method::GET, "/api/v1/namespaces/d/pods/p", Level::RequestResponse),
            (&user, Method::GET, "/api/v1/namespaces/d/pods/p/log", Level::Metadata),
            (&user, Method::GET, "/api/v1/nodes/n/status", Level::Metadata),
            (&user, Method::GET, "/api/v1/namespaces/d/pods/p/exec", Level::None),
            (&proxy, Method::GET, "/api/v1/services?watch=1", Level::None),
            (&user, Method::GET, "/version", Level::None),
            (&user, Method::PUT, "/api/v1/namespaces/kube-system/configmaps/c1", Level::Request),
            (&user, Method::PUT, "/api/v1/namespaces/kube-system/configmaps/c2", Level::None),
            (&user, Method::PUT, "/api/v1/namespaces/default/configmaps/c1", Level::None),
            (&user, Method::DELETE, "/api/v1/nodes/n", Level::Metadata),
            (&user, Method::DELETE, "/api/v1/namespaces/d/secrets/s", Level::None),
            (&user, Method::GET, "/apis/apps/v1/namespaces/d/deployments/a/scale", Level::Request),
        ] {
            let (p, q) = path.split_once('?').unwrap_or((path, ""));
            let got = policy.evaluate(who, &RequestInfo::parse(&method, p, q));
            assert_eq!(got.level, want, "{method} {path}");
            assert!(!got.records(Stage::RequestReceived) && got.records(Stage::ResponseComplete));
        }
    }

    #[test]
    fn mistakes_are_named() {
        let with = |rules: &str| format!("apiVersion: audit.k8s.io/v1\nkind: Policy\nrules:\n{rules}");
        for (text, expected) in [
            (
                with("- level: Everything\n"),
                r#"rules[0].level: Unsupported value: "Everything": supported values: "None", "Metadata", "Request", "RequestResponse""#,
            ),
            (with("- verbs: [get]\n"), "rules[0].level: Required value"),
            (
                with("- level: None\n  nonResourceURLs: [version, /a*b*]\n"),
                "[rules[0].nonResourceURLs[0]: Invalid value: \"version\": non-resource URL rules must begin with a '/' character, \
                 rules[0].nonResourceURLs[1]: Invalid value: \"/a*b*\": non-resource URL wildcards '*' must be the final character of the rule]",
            ),
            (
                with("- level: None\n- level: None\n  nonResourceURLs: [/x]\n  namespaces: [d]\n"),
                r#"rules[1].nonResourceURLs: Invalid value: ["/x"]: rules cannot apply to both regular resources and non-resource URLs"#,
            ),
            (
                with("- level: None\n  resources: [{group: ''}, {resourceNames: [x]}]\n"),
                r#"rules[0].resources.resourceNames: Invalid value: ["x"]: using resourceNames requires at least one resource"#,
            ),
            (
                with("- {level: None, omitStages: [foo]}\n"),
                r#"rules[0].omitStages[0]: Invalid value: "foo": allowed stages are RequestReceived,ResponseStarted,ResponseComplete,Panic"#,
            ),
            (with("- level: 5\n"), "failed decoding: json: cannot unmarshal number into Go struct field"),
            (with("- {level: None\n"), "failed decoding: error converting YAML to JSON: yaml: "),
            (
                with("- level: None\n  resources: [{group: apps/v1}]\n"),
                "rules[0].resources.group: Invalid value: \"apps/v1\": a lowercase RFC 1123 subdomain",
            ),
            ("apiVersion: audit.k8s.io/v1\nkind: Policy\nrules: []\n".into(), "loaded illegal policy with 0 rules"),
            (
                "apiVersion: v1\nkind: Policy\nrules: [{level: None}]\n".into(),
                r#"failed decoding: no kind "Policy" is registered for version "v1""#,
            ),
            (String::new(), "unknown group version field audit.k8s.io/__internal, Kind=Policy in policy"),
        ] {
            let e = Policy::parse(&text).unwrap_err();
            assert!(e.starts_with(expected), "{text}: {e}");
        }
        // What is unknown is only warned of.
        let policy = Policy::parse(&with("- level: Metadata\n  resources: [{group: '', verbs: [get]}]\n")).unwrap();
        assert_eq!(policy.rules[0].level, Level::Metadata);
    }
}
