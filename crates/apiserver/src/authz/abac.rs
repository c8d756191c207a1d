//! ABAC: a file of policies, a JSON object a line, read once.
//!
//! In: the file's text. Out: an authorizer that allows what some policy matches. Lines are `Policy` of
//! `abac.authorization.kubernetes.io/v1beta1`, or of the time before it had versions. Source: "Using ABAC Authorization".

use super::rules::PolicyRule;
use super::{Attributes, Authorizer, Decision, UserRules};
use crate::authn::{AUTHENTICATED, User};
use async_trait::async_trait;
use serde::Deserialize;
use serde_json::Value;

const GROUP: &str = "abac.authorization.kubernetes.io";

#[derive(Clone, Debug, Default, Deserialize, PartialEq)]
#[serde(rename_all = "camelCase", default)]
struct Policy {
    user: String,
    group: String,
    readonly: bool,
    api_group: String,
    resource: String,
    namespace: String,
    non_resource_path: String,
}

#[derive(Clone, Debug, Default)]
pub struct Abac(Vec<Policy>);

/// Reads a file's text; errors name the line.
pub fn load(text: &str) -> Result<Abac, String> {
    let mut policies = Vec::new();
    for (i, line) in text.lines().enumerate() {
        let line = line.trim();
        if line.is_empty() || line.starts_with('#') {
            continue;
        }
        policies.push(parse(line).map_err(|e| format!("line {}: {line}: {e}", i + 1))?);
    }
    Ok(Abac(policies))
}

fn parse(line: &str) -> Result<Policy, String> {
    let object: Value = serde_json::from_str(line).map_err(|e| e.to_string())?;
    let word = |key: &str| object[key].as_str().unwrap_or("");
    let (version, kind) = (word("apiVersion"), word("kind"));
    // A list would do for a policy that says nothing, and so allows much.
    let read = |v: &Value| match v.is_object() {
        true => serde_json::from_value::<Policy>(v.clone()).map_err(|e| e.to_string()),
        false => Err("not an object".to_string()),
    };
    let known = |v: &str| version.strip_prefix(GROUP).and_then(|rest| rest.strip_prefix('/')) == Some(v);
    match (version, kind) {
        (_, "Policy") if known("v1beta1") => {
            let mut policy = match &object["spec"] {
                Value::Null => Policy::default(),
                spec => read(spec)?,
            };
            if policy.user == "*" || policy.group == "*" {
                policy.user = String::new();
                policy.group = AUTHENTICATED.to_string();
            }
            Ok(policy)
        }
        ("", "") => read(&object).map(unversioned),
        (_, "Policy") if known("v0") => read(&object).map(unversioned),
        _ => Err(format!("no kind {kind:?} is registered for version {version:?}")),
    }
}

/// Before there were versions, what a policy didn't say it allowed, in every API group.
fn unversioned(mut policy: Policy) -> Policy {
    if policy.user == "*" || policy.group == "*" || (policy.user.is_empty() && policy.group.is_empty()) {
        policy.user = String::new();
        policy.group = AUTHENTICATED.to_string();
    }
    let paths = policy.namespace.is_empty() && policy.resource.is_empty();
    policy.non_resource_path = if paths { "*".to_string() } else { String::new() };
    for part in [&mut policy.namespace, &mut policy.resource] {
        if part.is_empty() {
            *part = "*".to_string();
        }
    }
    policy.api_group = "*".to_string();
    policy
}

fn is_read(verb: &str) -> bool {
    matches!(verb, "get" | "list" | "watch")
}

impl Policy {
    /// What names neither user nor group is nobody's.
    fn is_for(&self, user: &User) -> bool {
        let by_user = self.user.is_empty() || self.user == user.name;
        let by_group = self.group.is_empty() || user.in_group(&self.group);
        by_user && by_group && !(self.user.is_empty() && self.group.is_empty())
    }

    fn covers(&self, a: &Attributes) -> bool {
        let is = |pattern: &str, value: &str| pattern == "*" || pattern == value;
        if a.is_resource {
            return is(&self.namespace, &a.namespace)
                && is(&self.resource, &a.resource)
                && is(&self.api_group, &a.group);
        }
        let path = self.non_resource_path.as_str();
        is(path, &a.path) || (path.ends_with('*') && a.path.starts_with(path.trim_end_matches('*')))
    }

    fn verbs(&self) -> Vec<String> {
        let verbs: &[&str] = if self.readonly { &["get", "list", "watch"] } else { &["*"] };
        verbs.iter().map(|v| v.to_string()).collect()
    }
}

#[async_trait]
impl Authorizer for Abac {
    async fn authorize(&self, a: &Attributes) -> Decision {
        let matches = |p: &Policy| p.is_for(&a.user) && (!p.readonly || is_read(&a.verb)) && p.covers(a);
        match self.0.iter().any(matches) {
            true => Decision::Allow(String::new()),
            false => Decision::NoOpinion("No policy matched.".to_string()),
        }
    }

    fn rules_for(&self, user: &User, namespace: &str) -> UserRules {
        let mut out = UserRules::default();
        for p in self.0.iter().filter(|p| p.is_for(user) && (p.namespace == "*" || p.namespace == namespace)) {
            if !p.resource.is_empty() {
                out.rules.push(PolicyRule { verbs: p.verbs(), ..PolicyRule::on(&p.api_group, &p.resource, "") });
            }
            if !p.non_resource_path.is_empty() {
                let non_resource_urls = vec![p.non_resource_path.clone()];
                out.rules.push(PolicyRule { verbs: p.verbs(), non_resource_urls, ..PolicyRule::default() });
            }
        }
        out
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn user(name: &str) -> User {
        User::new(name, &[AUTHENTICATED])
    }

    /// `verb resource[.group] namespace`, or `verb /path`.
    async fn may(abac: &Abac, user: &User, request: &str) -> bool {
        let parts: Vec<&str> = request.split(' ').collect();
        let a = match parts.as_slice() {
            [verb, path] if path.starts_with('/') => Attributes {
                user: user.clone(),
                verb: verb.to_string(),
                path: path.to_string(),
                ..Attributes::default()
            },
            [verb, what, namespace @ ..] => {
                let (resource, group) = what.split_once('.').unwrap_or((what, ""));
                Attributes::resource(user, verb, group, resource, namespace.first().unwrap_or(&""), "")
            }
            _ => panic!("{request}"),
        };
        match abac.authorize(&a).await {
            Decision::Allow(_) => true,
            Decision::NoOpinion(why) if why == "No policy matched." => false,
            other => panic!("{other:?}"),
        }
    }

    #[tokio::test]
    async fn lines_without_a_version_allow_what_they_leave_out() {
        let abac = load(
            r#"
            # everybody reads events
            {"readonly": true, "resource": "events"}
            {"user":"scheduler", "readonly": true, "resource": "pods"}
            {"user":"scheduler", "resource": "bindings"}
            {"user":"alice", "namespace": "caribou"}
            {"user":"root"}
            {"group":"*", "readonly": true, "resource": "nodes"}
            {"group":"staff", "resource": "jobs"}"#,
        )
        .unwrap();
        for (name, request, expected) in [
            ("scheduler", "list pods n", true),
            ("scheduler", "list pods", true),
            ("scheduler", "create pods n", false),
            ("scheduler", "create bindings n", true),
            ("alice", "update foo.bar caribou", true),
            ("alice", "get pods n", false),
            ("alice", "get /", false),
            ("chuck", "get events n", true),
            ("chuck", "watch events", true),
            ("chuck", "update events n", false),
            ("chuck", "get nodes", true),
            ("chuck", "get jobs n", false),
            ("chuck", "get /", false),
            ("root", "delete secrets n", true),
            ("root", "post /anything", true),
        ] {
            assert_eq!(may(&abac, &user(name), request).await, expected, "{name} {request}");
        }
        assert!(may(&abac, &User::new("x", &["staff"]), "create jobs.batch n").await);
        // Not authenticated.
        assert!(!may(&abac, &User::new("system:anonymous", &["system:unauthenticated"]), "get events n").await);
    }

    #[tokio::test]
    async fn versioned_policies_say_all_they_allow() {
        let spec = |spec: &str| format!(r#"{{"apiVersion":"{GROUP}/v1beta1","kind":"Policy","spec":{{{spec}}}}}"#);
        let text = [
            r#""user":"*","readonly":true,"nonResourcePath":"/api""#,
            r#""user":"*","nonResourcePath":"/root/*""#,
            r#""user":"paths","nonResourcePath":"*""#,
            r#""user":"*","readonly":true,"resource":"events","namespace":"*""#,
            r#""user":"alice","resource":"*","namespace":"caribou""#,
            r#""user":"any","resource":"*","namespace":"p","apiGroup":"*""#,
            r#""user":"x","resource":"*","namespace":"p","apiGroup":"x""#,
            r#""user":"both","group":"staff","resource":"pods","namespace":"p""#,
            r#""resource":"*","namespace":"*","apiGroup":"*""#,
        ]
        .map(spec)
        .join("\n");
        let abac = load(&text).unwrap();
        for (name, request, expected) in [
            ("chuck", "get /api", true),
            ("chuck", "post /api", false),
            ("chuck", "get /api/v1", false),
            ("chuck", "post /root/", true),
            ("chuck", "post /root/a/b", true),
            ("chuck", "get /root", false),
            ("paths", "put /anything", true),
            ("paths", "get pods p", false),
            ("chuck", "list events n", true),
            ("chuck", "list events", true),
            ("chuck", "list events.events.k8s.io n", false),
            ("alice", "delete pods caribou", true),
            ("alice", "delete pods.x caribou", false),
            ("alice", "delete pods", false),
            ("any", "delete pods.y p", true),
            ("x", "delete pods.x p", true),
            ("x", "delete pods.y p", false),
            ("both", "get pods p", false),
        ] {
            assert_eq!(may(&abac, &user(name), request).await, expected, "{name} {request}");
        }
        assert!(may(&abac, &User::new("both", &["staff"]), "get pods p").await);
        let rules = abac.rules_for(&user("alice"), "caribou").rules;
        let shown: Vec<String> =
            rules.iter().map(|r| format!("{:?} {:?} {:?}", r.verbs, r.resources, r.non_resource_urls)).collect();
        assert_eq!(
            shown,
            [r#"["get", "list", "watch"] ["events"] []"#, r#"["*"] ["*"] []"#],
            "paths have no namespace, and so aren't told"
        );
    }

    #[test]
    fn mistakes_are_told_with_their_line() {
        for (text, expected) in [
            ("\n{\"user\":", "line 2: {\"user\":: "),
            ("{\"user\": 5}", "line 1: "),
            ("[]", "line 1: []: not an object"),
            ("null", "line 1: null: not an object"),
            ("{\"apiVersion\":\"v1\",\"kind\":\"Pod\"}", "no kind \"Pod\" is registered for version \"v1\""),
            ("{\"apiVersion\":\"abac.authorization.kubernetes.io/v2\",\"kind\":\"Policy\"}", "no kind \"Policy\""),
        ] {
            let e = load(text).unwrap_err();
            assert!(e.contains(expected), "{text}: {e}");
        }
        assert!(load("").unwrap().0.is_empty());
    }
}
