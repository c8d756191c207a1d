//! FlowSchemas and PriorityLevelConfigurations as the server uses them: which schema a request belongs to, and what
//! its level is due.
//!
//! Pure. In: the objects. Out: [`Config`], in order of precedence. Source: API reference, flowcontrol.apiserver.k8s.io/v1.

use super::queue_set::Queuing;
use crate::authn::User;
use crate::request_info::RequestInfo;
use http::HeaderValue;
use serde_json::Value;
use std::collections::HashSet;

#[derive(Debug, Default)]
pub struct Config {
    /// By precedence, then name. Only those whose level exists.
    pub schemas: Vec<Schema>,
    pub levels: Vec<LevelConfig>,
    /// Whether each schema's level exists.
    pub dangling: Vec<Dangling>,
}

#[derive(Debug, PartialEq)]
pub struct Dangling {
    pub schema: String,
    pub level: String,
    pub missing: bool,
}

#[derive(Debug)]
pub struct Schema {
    pub name: String,
    pub uid: HeaderValue,
    pub level: String,
    pub distinguisher: Distinguisher,
    precedence: i64,
    rules: Vec<Rule>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Distinguisher {
    None,
    ByUser,
    ByNamespace,
}

#[derive(Debug)]
struct Rule {
    subjects: Vec<Subject>,
    resources: Vec<ResourceRule>,
    urls: Vec<UrlRule>,
}

#[derive(Debug)]
enum Subject {
    User(String),
    Group(String),
    ServiceAccount { namespace: String, name: String },
}

#[derive(Debug)]
struct ResourceRule {
    verbs: Vec<String>,
    groups: Vec<String>,
    resources: Vec<String>,
    cluster_scope: bool,
    namespaces: Vec<String>,
}

#[derive(Debug)]
struct UrlRule {
    verbs: Vec<String>,
    urls: Vec<String>,
}

#[derive(Clone, Debug, PartialEq)]
pub struct LevelConfig {
    pub name: String,
    pub uid: HeaderValue,
    pub exempt: bool,
    pub shares: u32,
    pub lendable_percent: u32,
    /// `None`: without limit.
    pub borrowing_limit_percent: Option<u32>,
    /// `None`: what doesn't fit is refused.
    pub queuing: Option<Queuing>,
}

/// The mandatory configuration, for the time before there are objects and for when somebody deletes them.
const EXEMPT: &str = "exempt";
const CATCH_ALL: &str = "catch-all";

impl Config {
    pub fn new(objects: &[Value]) -> Config {
        let kind = |kind: &'static str| objects.iter().filter(move |o| o["kind"] == kind);
        let mut levels: Vec<LevelConfig> = kind("PriorityLevelConfiguration").map(LevelConfig::of).collect();
        let mut schemas: Vec<Schema> = kind("FlowSchema").map(Schema::of).collect();
        // What must exist is there even where its object isn't.
        let mandatory = crate::bootstrap::flow_control::objects();
        for (name, of_kind) in [EXEMPT, CATCH_ALL].iter().flat_map(|n| [(n, "l"), (n, "s")]) {
            let find = |k: &str| mandatory.iter().find(|o| o["kind"] == k && o["metadata"]["name"] == **name);
            match of_kind {
                "l" if !levels.iter().any(|l| l.name == **name) => {
                    levels.extend(find("PriorityLevelConfiguration").map(LevelConfig::of));
                }
                "s" if !schemas.iter().any(|s| s.name == **name) => {
                    schemas.extend(find("FlowSchema").map(Schema::of));
                }
                _ => {}
            }
        }
        levels.sort_by(|a, b| a.name.cmp(&b.name));
        let known: HashSet<&str> = levels.iter().map(|l| l.name.as_str()).collect();
        let dangling = schemas
            .iter()
            .map(|s| Dangling {
                schema: s.name.clone(),
                level: s.level.clone(),
                missing: !known.contains(s.level.as_str()),
            })
            .collect();
        schemas.retain(|s| known.contains(s.level.as_str()));
        schemas.sort_by(|a, b| (a.precedence, &a.name).cmp(&(b.precedence, &b.name)));
        Config { schemas, levels, dangling }
    }

    /// The first schema that matches. Every request matches `catch-all`.
    #[cfg(test)]
    fn classify(&self, user: &User, info: &RequestInfo) -> Option<&Schema> {
        self.schemas
            .iter()
            .find(|s| s.matches(user, info))
            .or_else(|| self.schemas.iter().find(|s| s.name == CATCH_ALL))
    }
}

impl Schema {
    fn of(object: &Value) -> Schema {
        let spec = &object["spec"];
        Schema {
            name: text(&object["metadata"]["name"]),
            uid: uid(object),
            level: text(&spec["priorityLevelConfiguration"]["name"]),
            distinguisher: match spec["distinguisherMethod"]["type"].as_str() {
                Some("ByUser") => Distinguisher::ByUser,
                Some("ByNamespace") => Distinguisher::ByNamespace,
                _ => Distinguisher::None,
            },
            precedence: spec["matchingPrecedence"].as_i64().unwrap_or(1000),
            rules: items(&spec["rules"]).map(Rule::of).collect(),
        }
    }

    pub fn matches(&self, user: &User, info: &RequestInfo) -> bool {
        self.rules.iter().any(|r| {
            r.subjects.iter().any(|s| s.matches(user))
                && match info.is_resource {
                    true => r.resources.iter().any(|r| r.matches(info)),
                    false => r.urls.iter().any(|r| r.matches(info)),
                }
        })
    }

    /// What tells this request's flow from others of the schema.
    pub fn distinguish<'a>(&self, user: &'a User, info: &'a RequestInfo) -> &'a str {
        match self.distinguisher {
            Distinguisher::None => "",
            Distinguisher::ByUser => &user.name,
            Distinguisher::ByNamespace => &info.namespace,
        }
    }
}

impl Rule {
    fn of(rule: &Value) -> Rule {
        Rule {
            subjects: items(&rule["subjects"]).filter_map(Subject::of).collect(),
            resources: items(&rule["resourceRules"])
                .map(|r| ResourceRule {
                    verbs: strings(&r["verbs"]),
                    groups: strings(&r["apiGroups"]),
                    resources: strings(&r["resources"]),
                    cluster_scope: r["clusterScope"] == true,
                    namespaces: strings(&r["namespaces"]),
                })
                .collect(),
            urls: items(&rule["nonResourceRules"])
                .map(|r| UrlRule { verbs: strings(&r["verbs"]), urls: strings(&r["nonResourceURLs"]) })
                .collect(),
        }
    }
}

impl Subject {
    fn of(subject: &Value) -> Option<Subject> {
        Some(match subject["kind"].as_str()? {
            "User" => Subject::User(text(&subject["user"]["name"])),
            "Group" => Subject::Group(text(&subject["group"]["name"])),
            "ServiceAccount" => Subject::ServiceAccount {
                namespace: text(&subject["serviceAccount"]["namespace"]),
                name: text(&subject["serviceAccount"]["name"]),
            },
            _ => return None,
        })
    }

    fn matches(&self, user: &User) -> bool {
        match self {
            Subject::User(name) => name == "*" || *name == user.name,
            Subject::Group(name) => name == "*" || user.in_group(name),
            Subject::ServiceAccount { namespace, name } => {
                let account = user.name.strip_prefix("system:serviceaccount:").and_then(|r| r.split_once(':'));
                account.is_some_and(|(ns, n)| ns == namespace && (name == "*" || n == name))
            }
        }
    }
}

impl ResourceRule {
    fn matches(&self, info: &RequestInfo) -> bool {
        let scoped = match info.namespace.is_empty() {
            true => self.cluster_scope,
            false => has(&self.namespaces, &info.namespace),
        };
        scoped && has(&self.verbs, &info.verb) && has(&self.groups, &info.group) && self.names(info)
    }

    fn names(&self, info: &RequestInfo) -> bool {
        self.resources.iter().any(|r| {
            r == "*"
                || match info.subresource.is_empty() {
                    true => *r == info.resource,
                    false => r.split_once('/') == Some((&info.resource, &info.subresource)),
                }
        })
    }
}

impl UrlRule {
    fn matches(&self, info: &RequestInfo) -> bool {
        has(&self.verbs, &info.verb)
            && self.urls.iter().any(|u| {
                u == "*"
                    || *u == info.path
                    || u.strip_suffix('*').is_some_and(|p| p.ends_with('/') && info.path.starts_with(p))
            })
    }
}

impl LevelConfig {
    fn of(object: &Value) -> LevelConfig {
        let spec = &object["spec"];
        let exempt = spec["type"] == "Exempt";
        let of = if exempt { &spec["exempt"] } else { &spec["limited"] };
        let number = |v: &Value| v.as_u64().map(|n| n.min(u64::from(u32::MAX)) as u32);
        let queuing = &of["limitResponse"]["queuing"];
        let size = |key: &str, default: usize| queuing[key].as_u64().map_or(default, |n| n as usize);
        LevelConfig {
            name: text(&object["metadata"]["name"]),
            uid: uid(object),
            exempt,
            shares: number(&of["nominalConcurrencyShares"]).unwrap_or(if exempt { 0 } else { 30 }),
            lendable_percent: number(&of["lendablePercent"]).unwrap_or(0),
            borrowing_limit_percent: number(&of["borrowingLimitPercent"]),
            queuing: (!exempt && of["limitResponse"]["type"] == "Queue").then(|| Queuing {
                // A million queues would be a lot of memory for nothing: hands don't get any more different.
                queues: size("queues", 64).clamp(1, 65_536),
                hand_size: size("handSize", 8),
                queue_length_limit: size("queueLengthLimit", 50),
            }),
        }
    }
}

fn uid(object: &Value) -> HeaderValue {
    HeaderValue::from_str(object["metadata"]["uid"].as_str().unwrap_or("")).unwrap_or(HeaderValue::from_static(""))
}

fn text(v: &Value) -> String {
    v.as_str().unwrap_or_default().to_string()
}

fn items(v: &Value) -> impl Iterator<Item = &Value> {
    v.as_array().into_iter().flatten()
}

fn strings(v: &Value) -> Vec<String> {
    items(v).map(text).collect()
}

fn has(list: &[String], wanted: &str) -> bool {
    list.iter().any(|s| s == "*" || s == wanted)
}

#[cfg(test)]
mod tests {
    use super::*;
    use http::Method;
    use serde_json::json;

    fn user(name: &str, groups: &[&str]) -> User {
        let mut groups = groups.to_vec();
        groups.push("system:authenticated");
        User::new(name, &groups)
    }

    #[test]
    fn default_schemas_sort_requests_as_upstreams_do() {
        let config = Config::new(&crate::bootstrap::flow_control::objects());
        let node = user("system:node:n1", &["system:nodes"]);
        let account = |ns: &str, n: &str| user(&format!("system:serviceaccount:{ns}:{n}"), &["system:serviceaccounts"]);
        let leases = "/apis/coordination.k8s.io/v1/namespaces/kube-system/leases/x";
        for (who, method, path, schema, level) in [
            (user("admin", &["system:masters"]), "GET", "/api/v1/pods", "exempt", "exempt"),
            (user("x", &[]), "GET", "/healthz", "probes", "exempt"),
            (user("x", &[]), "GET", "/metrics", "global-default", "global-default"),
            (user("system:kube-scheduler", &[]), "PUT", leases, "system-leader-election", "leader-election"),
            (user("system:kube-scheduler", &[]), "GET", "/api/v1/pods", "kube-scheduler", "workload-high"),
            (node.clone(), "PATCH", "/api/v1/nodes/n1/status", "system-node-high", "node-high"),
            (
                node.clone(),
                "PUT",
                "/apis/coordination.k8s.io/v1/namespaces/kube-node-lease/leases/n1",
                "system-node-high",
                "node-high",
            ),
            (node, "GET", "/api/v1/namespaces/d/secrets/s", "system-nodes", "system"),
            (account("kube-system", "x"), "GET", leases, "system-leader-election", "leader-election"),
            (account("kube-system", "x"), "GET", "/api/v1/pods", "kube-system-service-accounts", "workload-high"),
            (account("default", "x"), "GET", "/api/v1/pods", "service-accounts", "workload-low"),
            (user("jane", &[]), "GET", "/api/v1/pods", "global-default", "global-default"),
        ] {
            let info = RequestInfo::parse(&Method::from_bytes(method.as_bytes()).unwrap(), path, "");
            let got = config.classify(&who, &info).unwrap();
            assert_eq!((got.name.as_str(), got.level.as_str()), (schema, level), "{} {path}", who.name);
        }
    }

    #[test]
    fn precedence_decides_and_dangling_schemas_match_nothing() {
        let schema = |name: &str, precedence: i64, level: &str, rule: Value| {
            json!({"kind": "FlowSchema", "metadata": {"name": name, "uid": name}, "spec": {
                "matchingPrecedence": precedence, "priorityLevelConfiguration": {"name": level}, "rules": [rule]}})
        };
        let rule = json!({"subjects": [{"kind": "User", "user": {"name": "jane"}}],
            "resourceRules": [{"verbs": ["list"], "apiGroups": [""], "resources": ["pods", "pods/log"], "namespaces": ["a"]}],
            "nonResourceRules": [{"verbs": ["*"], "nonResourceURLs": ["/logs/*", "/version"]}]});
        let config = Config::new(&[
            schema("b", 100, "catch-all", rule.clone()),
            schema("a", 100, "catch-all", rule.clone()),
            schema("first", 50, "gone", rule),
        ]);
        assert_eq!(config.dangling[2], Dangling { schema: "first".into(), level: "gone".into(), missing: true });
        for (path, want) in [
            ("/api/v1/namespaces/a/pods", "a"),
            ("/api/v1/namespaces/b/pods", "catch-all"),
            ("/api/v1/pods", "catch-all"),
            ("/api/v1/namespaces/a/secrets", "catch-all"),
            ("/logs/x", "a"),
            ("/logs", "catch-all"),
            ("/version", "a"),
            ("/versions", "catch-all"),
        ] {
            let info = RequestInfo::parse(&Method::GET, path, "");
            assert_eq!(config.classify(&user("jane", &[]), &info).unwrap().name, want, "{path}");
        }
        // Without any object, what is mandatory is there.
        let bare = Config::new(&[]);
        assert_eq!((bare.levels.len(), bare.schemas.len()), (2, 2));
    }
}
