//! The audit policy file: how much of which request is recorded. The first rule that matches decides.
//!
//! Pure. Source: API reference, audit.k8s.io/v1 Policy.

use crate::authn::User;
use crate::request_info::RequestInfo;
use serde::Deserialize;

/// How much is recorded, in rising order.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Deserialize)]
pub enum Level {
    None,
    Metadata,
    Request,
    RequestResponse,
}

impl Level {
    pub fn as_str(self) -> &'static str {
        match self {
            Level::None => "None",
            Level::Metadata => "Metadata",
            Level::Request => "Request",
            Level::RequestResponse => "RequestResponse",
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
pub enum Stage {
    RequestReceived,
    ResponseStarted,
    ResponseComplete,
    Panic,
}

impl Stage {
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

#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("audit policy is not valid YAML of an audit.k8s.io/v1 Policy: {0}")]
    Syntax(String),
    #[error("audit policy: {0}")]
    Content(String),
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Policy {
    api_version: String,
    kind: String,
    #[serde(default, rename = "metadata")]
    _metadata: serde_json::Value,
    rules: Vec<Rule>,
    #[serde(default)]
    omit_stages: Vec<Stage>,
    #[serde(default)]
    omit_managed_fields: bool,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Rule {
    level: Level,
    #[serde(default)]
    users: Vec<String>,
    #[serde(default)]
    user_groups: Vec<String>,
    #[serde(default)]
    verbs: Vec<String>,
    #[serde(default)]
    resources: Vec<GroupResources>,
    #[serde(default)]
    namespaces: Vec<String>,
    #[serde(default, rename = "nonResourceURLs")]
    non_resource_urls: Vec<String>,
    #[serde(default)]
    omit_stages: Vec<Stage>,
    omit_managed_fields: Option<bool>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct GroupResources {
    #[serde(default)]
    group: String,
    #[serde(default)]
    resources: Vec<String>,
    #[serde(default)]
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
    pub fn parse(text: &str) -> Result<Policy, Error> {
        let policy: Policy = serde_saphyr::from_str(text).map_err(|e| Error::Syntax(e.to_string()))?;
        let wrong = |why: String| Err(Error::Content(why));
        if policy.kind != "Policy" || policy.api_version != "audit.k8s.io/v1" {
            return wrong(format!("unknown kind {:?} of {:?}", policy.kind, policy.api_version));
        }
        if policy.rules.is_empty() {
            return wrong("loaded illegal policy with 0 rules".into());
        }
        for (i, r) in policy.rules.iter().enumerate() {
            if !r.non_resource_urls.is_empty() && !(r.resources.is_empty() && r.namespaces.is_empty()) {
                return wrong(format!(
                    "rules[{i}].nonResourceURLs: Invalid value: rules cannot apply to both regular resources and non-resource URLs"
                ));
            }
            for url in &r.non_resource_urls {
                if url != "*"
                    && (!url.starts_with('/') || url.trim_end_matches('*').contains('*') || url.ends_with("**"))
                {
                    return wrong(format!(
                        "rules[{i}].nonResourceURLs: Invalid value: {url:?}: non-resource URLs must start with '/' and may end in one '*'"
                    ));
                }
            }
            for g in &r.resources {
                if !g.resource_names.is_empty() && g.resources.is_empty() {
                    return wrong(format!(
                        "rules[{i}].resources.resourceNames: Invalid value: using resourceNames requires at least one resource"
                    ));
                }
                if g.group.contains('/') {
                    return wrong(format!(
                        "rules[{i}].resources.group: Invalid value: {:?}: an API group only, without a version",
                        g.group
                    ));
                }
            }
        }
        Ok(policy)
    }

    pub fn evaluate(&self, user: &User, info: &RequestInfo) -> Evaluated {
        let bits = |stages: &[Stage]| stages.iter().fold(0, |bits, s| bits | s.bit());
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

impl Rule {
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
        for (text, part) in [
            (with("- level: Everything\n"), "Everything"),
            (with("- level: None\n  user: [x]\n"), "unknown field"),
            (with("- level: None\n  nonResourceURLs: [version]\n"), "must start with '/'"),
            (with("- level: None\n  nonResourceURLs: [/x]\n  namespaces: [d]\n"), "cannot apply to both"),
            (with("- level: None\n  resources: [{group: apps/v1}]\n"), "without a version"),
            (with("- level: None\n  resources: [{resourceNames: [x]}]\n"), "requires at least one resource"),
            ("apiVersion: audit.k8s.io/v1\nkind: Policy\nrules: []\n".into(), "0 rules"),
            ("apiVersion: v1\nkind: Policy\nrules: [{level: None}]\n".into(), "unknown kind"),
        ] {
            let e = Policy::parse(&text).unwrap_err().to_string();
            assert!(e.contains(part), "{text}: {e}");
        }
    }
}
