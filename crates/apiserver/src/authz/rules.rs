//! RBAC policy rules: what they match, what one set of them covers of another.
//!
//! Pure. Source: "Using RBAC Authorization" and, for coverage, upstream's escalation check.

use super::{Attributes, aggregate};
use serde_json::{Value, json};
use std::collections::BTreeSet;

/// `rbac.authorization.k8s.io/v1 PolicyRule`
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct PolicyRule {
    pub api_groups: Vec<String>,
    pub resources: Vec<String>,
    pub resource_names: Vec<String>,
    pub non_resource_urls: Vec<String>,
    pub verbs: Vec<String>,
}

fn strings(v: &Value) -> Vec<String> {
    v.as_array().map(|a| a.iter().filter_map(|s| s.as_str().map(str::to_string)).collect()).unwrap_or_default()
}

fn has(list: &[String], wanted: &str) -> bool {
    list.iter().any(|s| s == wanted)
}

impl PolicyRule {
    /// A rule on resources. Lists are separated by commas; the core group is the empty item.
    pub fn on(groups: &str, resources: &str, verbs: &str) -> PolicyRule {
        let split = |s: &str| s.split(',').map(str::to_string).collect();
        PolicyRule {
            api_groups: split(groups),
            resources: split(resources),
            verbs: split(verbs),
            ..PolicyRule::default()
        }
    }

    pub fn from_value(v: &Value) -> PolicyRule {
        PolicyRule {
            api_groups: strings(&v["apiGroups"]),
            resources: strings(&v["resources"]),
            resource_names: strings(&v["resourceNames"]),
            non_resource_urls: strings(&v["nonResourceURLs"]),
            verbs: strings(&v["verbs"]),
        }
    }

    /// The `rules` of a Role or ClusterRole.
    pub fn list_from(role: &Value) -> Vec<PolicyRule> {
        role["rules"].as_array().map(|a| a.iter().map(PolicyRule::from_value).collect()).unwrap_or_default()
    }

    pub fn to_value(&self) -> Value {
        let mut v = json!({});
        for (key, list) in [
            ("apiGroups", &self.api_groups),
            ("resources", &self.resources),
            ("resourceNames", &self.resource_names),
            ("nonResourceURLs", &self.non_resource_urls),
        ] {
            if !list.is_empty() {
                v[key] = list.clone().into();
            }
        }
        v["verbs"] = self.verbs.clone().into();
        v
    }

    pub fn allows(&self, a: &Attributes) -> bool {
        let verb = has(&self.verbs, "*") || has(&self.verbs, &a.verb);
        if !verb {
            return false;
        }
        if !a.is_resource {
            return self.non_resource_urls.iter().any(|pattern| url_matches(pattern, &a.path));
        }
        (has(&self.api_groups, "*") || has(&self.api_groups, &a.group))
            && self.resources.iter().any(|r| resource_matches(r, &a.resource, &a.subresource))
            && (self.resource_names.is_empty() || has(&self.resource_names, &a.name))
    }

    /// `{APIGroups:[""], Resources:["pods"], Verbs:["get"]}`, as upstream's escalation error shows rules.
    pub fn compact_text(&self) -> String {
        let parts: Vec<String> = [
            ("APIGroups", &self.api_groups),
            ("Resources", &self.resources),
            ("NonResourceURLs", &self.non_resource_urls),
            ("ResourceNames", &self.resource_names),
            ("Verbs", &self.verbs),
        ]
        .iter()
        .filter(|(_, list)| !list.is_empty())
        .map(|(name, list)| format!("{name}:{}", quoted(list)))
        .collect();
        format!("{{{}}}", parts.join(", "))
    }
}

/// As Go prints a list of strings with `%q`: `["a" "b"]`.
pub fn quoted(list: &[String]) -> String {
    let items: Vec<String> = list.iter().map(|s| format!("{s:?}")).collect();
    format!("[{}]", items.join(" "))
}

/// `*` matches all, `*/scale` that subresource of all, `pods/log` that one, `pods` only the main resource. What is no
/// resource at all, such as an audience, may have slashes of its own.
fn resource_matches(rule: &str, resource: &str, subresource: &str) -> bool {
    if subresource.is_empty() {
        return rule == "*" || rule == resource;
    }
    let named = |r: &str| r == "*" || r == resource;
    rule == "*" || rule.strip_suffix(subresource).and_then(|r| r.strip_suffix('/')).is_some_and(named)
}

/// A trailing `*` matches any rest.
fn url_matches(pattern: &str, path: &str) -> bool {
    pattern == path || pattern.strip_suffix('*').is_some_and(|prefix| path.starts_with(prefix))
}

/// Whether `owner` holds all that `servant` would give; else what is missing, one right each.
pub fn covers(owner: &[PolicyRule], servant: &[PolicyRule]) -> Result<(), Vec<PolicyRule>> {
    let missing: Vec<PolicyRule> =
        servant.iter().flat_map(break_down).filter(|sub| !owner.iter().any(|rule| rule_covers(rule, sub))).collect();
    if missing.is_empty() { Ok(()) } else { Err(missing) }
}

/// A rule as rules of a single verb on a single thing each.
fn break_down(rule: &PolicyRule) -> Vec<PolicyRule> {
    let mut out = Vec::new();
    for group in &rule.api_groups {
        for resource in &rule.resources {
            for verb in &rule.verbs {
                let one = PolicyRule {
                    api_groups: vec![group.clone()],
                    resources: vec![resource.clone()],
                    verbs: vec![verb.clone()],
                    ..PolicyRule::default()
                };
                if rule.resource_names.is_empty() {
                    out.push(one);
                } else {
                    out.extend(
                        rule.resource_names
                            .iter()
                            .map(|n| PolicyRule { resource_names: vec![n.clone()], ..one.clone() }),
                    );
                }
            }
        }
    }
    for url in &rule.non_resource_urls {
        out.extend(rule.verbs.iter().map(|verb| PolicyRule {
            non_resource_urls: vec![url.clone()],
            verbs: vec![verb.clone()],
            ..PolicyRule::default()
        }));
    }
    out
}

fn rule_covers(owner: &PolicyRule, sub: &PolicyRule) -> bool {
    let all = |owner: &[String], sub: &[String]| has(owner, "*") || sub.iter().all(|s| has(owner, s));
    let resource = |r: &String| {
        has(&owner.resources, "*")
            || has(&owner.resources, r)
            || r.split_once('/').is_some_and(|(_, s)| has(&owner.resources, &format!("*/{s}")))
    };
    let url = |u: &String| {
        owner.non_resource_urls.iter().any(|o| {
            // A pattern is covered by itself and by a wider pattern.
            o == u || o.strip_suffix('*').is_some_and(|prefix| u.strip_suffix('*').unwrap_or(u).starts_with(prefix))
        })
    };
    let names = if sub.resource_names.is_empty() {
        owner.resource_names.is_empty()
    } else {
        owner.resource_names.is_empty() || sub.resource_names.iter().all(|n| has(&owner.resource_names, n))
    };
    let verbs = all(&owner.verbs, &sub.verbs);
    if sub.non_resource_urls.is_empty() {
        verbs && all(&owner.api_groups, &sub.api_groups) && sub.resources.iter().all(resource) && names
    } else {
        verbs && sub.non_resource_urls.iter().all(url)
    }
}

/// Rules of one group and one resource each are merged by joining their verbs; others stay.
pub fn compact(rules: &[PolicyRule]) -> Vec<PolicyRule> {
    let mut out: Vec<PolicyRule> = Vec::new();
    for rule in rules {
        let simple = rule.api_groups.len() == 1
            && rule.resources.len() == 1
            && rule.resource_names.len() <= 1
            && rule.non_resource_urls.is_empty();
        let same = out.iter_mut().find(|o| {
            simple
                && o.api_groups == rule.api_groups
                && o.resources == rule.resources
                && o.resource_names == rule.resource_names
                && o.non_resource_urls.is_empty()
        });
        match same {
            Some(o) => {
                for verb in &rule.verbs {
                    if !has(&o.verbs, verb) {
                        o.verbs.push(verb.clone());
                    }
                }
            }
            None => out.push(rule.clone()),
        }
    }
    out
}

/// Upstream's text of a refused grant.
pub fn escalation_text(user: &crate::authn::User, missing: &[PolicyRule], resolution_errors: &[String]) -> String {
    let texts: BTreeSet<String> = compact(missing).iter().map(PolicyRule::compact_text).collect();
    let mut text = format!(
        "user {:?} (groups={}) is attempting to grant RBAC permissions not currently held:\n{}",
        user.name,
        quoted(&user.groups),
        texts.into_iter().collect::<Vec<_>>().join("\n")
    );
    if !resolution_errors.is_empty() {
        text.push_str(&format!("; resolution errors: [{}]", aggregate(resolution_errors)));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::authn::User;

    fn named(mut rule: PolicyRule, names: &[&str]) -> PolicyRule {
        rule.resource_names = names.iter().map(|n| n.to_string()).collect();
        rule
    }

    fn urls(urls: &[&str], verbs: &[&str]) -> PolicyRule {
        PolicyRule {
            non_resource_urls: urls.iter().map(|n| n.to_string()).collect(),
            verbs: verbs.iter().map(|n| n.to_string()).collect(),
            ..PolicyRule::default()
        }
    }

    #[test]
    fn rules_match_what_they_say_and_nothing_else() {
        let ask = |verb: &str, group: &str, resource: &str, name: &str| {
            let (r, s) = resource.split_once('/').unwrap_or((resource, ""));
            let mut a = Attributes::resource(&User::default(), verb, group, r, "", name);
            a.subresource = s.to_string();
            a
        };
        let table = [
            (PolicyRule::on("", "pods", "get,list"), ask("get", "", "pods", "a"), true),
            (PolicyRule::on("", "pods", "get,list"), ask("watch", "", "pods", ""), false),
            (PolicyRule::on("", "pods", "get"), ask("get", "", "pods/log", "a"), false),
            (PolicyRule::on("", "pods/log", "get"), ask("get", "", "pods/log", "a"), true),
            (PolicyRule::on("", "pods/log", "get"), ask("get", "", "pods", "a"), false),
            (PolicyRule::on("apps", "*/scale", "get"), ask("get", "apps", "deployments/scale", "a"), true),
            (PolicyRule::on("apps", "*/scale", "get"), ask("get", "apps", "deployments/status", "a"), false),
            (PolicyRule::on("apps", "deployments", "*"), ask("get", "", "deployments", "a"), false),
            (PolicyRule::on("*", "*", "*"), ask("get", "x.y", "foos/bar", "a"), true),
            (named(PolicyRule::on("", "secrets", "get"), &["a"]), ask("get", "", "secrets", "a"), true),
            (named(PolicyRule::on("", "secrets", "get"), &["a"]), ask("get", "", "secrets", "b"), false),
            (named(PolicyRule::on("", "secrets", "*"), &["a"]), ask("create", "", "secrets", ""), false),
        ];
        for (rule, attributes, expected) in table {
            assert_eq!(rule.allows(&attributes), expected, "{rule:?} {attributes:?}");
        }
        for (pattern, path, expected) in [
            ("/healthz", "/healthz", true),
            ("/healthz", "/healthz/ping", false),
            ("/healthz/*", "/healthz/ping", true),
            ("/healthz/*", "/healthz", false),
            ("*", "/anything", true),
        ] {
            let a = Attributes { verb: "get".into(), path: path.into(), ..Attributes::default() };
            assert_eq!(urls(&[pattern], &["get"]).allows(&a), expected, "{pattern} {path}");
            // Resource rules say nothing of paths.
            assert!(!PolicyRule::on("*", "*", "*").allows(&a));
        }
    }

    #[test]
    fn coverage_finds_exactly_what_is_missing() {
        let on = PolicyRule::on;
        let table = [
            (vec![on("", "pods", "get,list")], vec![on("", "pods", "get")], ""),
            (vec![on("", "pods", "get"), on("", "pods", "list")], vec![on("", "pods", "get,list")], ""),
            (
                vec![on("", "pods", "get")],
                vec![on("", "pods,secrets", "get")],
                r#"{APIGroups:[""], Resources:["secrets"], Verbs:["get"]}"#,
            ),
            (vec![on("*", "*", "*")], vec![on("a", "b/c", "d")], ""),
            (vec![on("", "*/log", "get")], vec![on("", "pods/log", "get")], ""),
            (
                vec![on("", "pods", "get")],
                vec![on("", "pods", "*")],
                r#"{APIGroups:[""], Resources:["pods"], Verbs:["*"]}"#,
            ),
            (
                vec![named(on("", "pods", "get"), &["a"])],
                vec![on("", "pods", "get")],
                r#"{APIGroups:[""], Resources:["pods"], Verbs:["get"]}"#,
            ),
            (vec![on("", "pods", "get")], vec![named(on("", "pods", "get"), &["a"])], ""),
            (vec![urls(&["/a/*"], &["get"])], vec![urls(&["/a/b/*"], &["get"])], ""),
            (
                vec![urls(&["/a/b"], &["get"])],
                vec![urls(&["/a/*"], &["get"])],
                r#"{NonResourceURLs:["/a/*"], Verbs:["get"]}"#,
            ),
        ];
        for (owner, servant, expected) in table {
            let missing = covers(&owner, &servant).err().unwrap_or_default();
            let text: Vec<String> = compact(&missing).iter().map(PolicyRule::compact_text).collect();
            assert_eq!(text.join("\n"), expected, "{owner:?} {servant:?}");
        }
    }

    #[test]
    fn the_text_of_a_refused_grant_is_upstreams() {
        let missing = covers(&[], &[PolicyRule::on("", "pods", "get,list")]).unwrap_err();
        assert_eq!(
            escalation_text(&User::new("jane", &["dev", "system:authenticated"]), &missing, &[]),
            "user \"jane\" (groups=[\"dev\" \"system:authenticated\"]) is attempting to grant RBAC permissions not \
             currently held:\n{APIGroups:[\"\"], Resources:[\"pods\"], Verbs:[\"get\" \"list\"]}"
        );
    }
}
