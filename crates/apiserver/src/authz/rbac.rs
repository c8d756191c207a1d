//! RBAC: roles say what, bindings say who.
//!
//! In: Roles, ClusterRoles and their bindings from the store, through a [`Followed`] index that finds bindings by
//! subject. Out: decisions, and the rules of a user for reviews and escalation checks.

use super::followed::{Followed, Index, names};
use super::rules::PolicyRule;
use super::{Attributes, Authorizer, Decision, UserRules, aggregate};
use crate::authn::User;
use crate::reader::Reader;
use async_trait::async_trait;
use serde_json::Value;
use std::collections::HashMap;
use std::sync::Arc;
use store::Entry;

pub const GROUP: &str = "rbac.authorization.k8s.io";

/// Who a binding speaks of. Service accounts are the users that they act as.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
enum Subject {
    User(String),
    Group(String),
}

struct Binding {
    name: String,
    /// Empty for a ClusterRoleBinding.
    namespace: String,
    role_kind: String,
    role_name: String,
    /// With place in the list and description.
    subjects: HashMap<Subject, (usize, String)>,
}

impl Binding {
    fn read(entry: &Entry, namespaced: bool) -> Binding {
        let (namespace, name) = names(entry, namespaced);
        let value: Value = serde_json::from_slice(&entry.value).unwrap_or(Value::Null);
        let text = |v: &Value| v.as_str().unwrap_or_default().to_string();
        let mut subjects = HashMap::new();
        let list = value["subjects"].as_array().into_iter().flatten();
        for (place, (subject, described)) in list.filter_map(|s| subject(s, namespace)).enumerate() {
            subjects.entry(subject).or_insert((place, described));
        }
        Binding {
            name: name.to_string(),
            namespace: namespace.to_string(),
            role_kind: text(&value["roleRef"]["kind"]),
            role_name: text(&value["roleRef"]["name"]),
            subjects,
        }
    }

    /// The first of its subjects that is one of these.
    fn first<'s>(&self, of: &'s [Subject]) -> Option<(&'s Subject, &str)> {
        let found = of.iter().filter_map(|s| self.subjects.get(s).map(|(place, described)| (place, s, described)));
        found.min_by_key(|(place, ..)| *place).map(|(_, s, described)| (s, described.as_str()))
    }

    /// `ClusterRoleBinding "x" of ClusterRole "y" to Group "z"`
    fn describe(&self, subject: &str) -> String {
        let (kind, name) = if self.namespace.is_empty() {
            ("ClusterRoleBinding", self.name.clone())
        } else {
            ("RoleBinding", format!("{}/{}", self.name, self.namespace))
        };
        format!("{kind} {name:?} of {} {:?} to {subject}", self.role_kind, self.role_name)
    }
}

/// The subject and its description. A service account without a namespace is in that of its RoleBinding.
fn subject(v: &Value, binding_namespace: &str) -> Option<(Subject, String)> {
    let (kind, name) = (v["kind"].as_str()?, v["name"].as_str()?);
    match kind {
        "User" => Some((Subject::User(name.to_string()), format!("User {name:?}"))),
        "Group" => Some((Subject::Group(name.to_string()), format!("Group {name:?}"))),
        "ServiceAccount" => {
            let own = v["namespace"].as_str().filter(|n| !n.is_empty()).unwrap_or(binding_namespace);
            (!own.is_empty()).then(|| {
                let described = format!("ServiceAccount {:?}", format!("{name}/{own}"));
                (Subject::User(format!("system:serviceaccount:{own}:{name}")), described)
            })
        }
        _ => None,
    }
}

type BySubject = HashMap<Subject, Vec<Arc<Binding>>>;

/// Roles by namespace and name, bindings by namespace and subject; the empty namespace is the cluster.
#[derive(Default)]
pub struct RbacIndex {
    roles: HashMap<String, HashMap<String, Arc<Vec<PolicyRule>>>>,
    bindings: HashMap<String, BySubject>,
}

impl Index for RbacIndex {
    const RESOURCES: &'static [(&'static str, &'static str)] =
        &[(GROUP, "clusterroles"), (GROUP, "roles"), (GROUP, "clusterrolebindings"), (GROUP, "rolebindings")];

    fn put(&mut self, which: usize, entry: &Entry) {
        let namespaced = which % 2 == 1;
        let (namespace, name) = names(entry, namespaced);
        if which < 2 {
            let value: Value = serde_json::from_slice(&entry.value).unwrap_or(Value::Null);
            let rules = Arc::new(PolicyRule::list_from(&value));
            self.roles.entry(namespace.to_string()).or_default().insert(name.to_string(), rules);
        } else {
            let binding = Arc::new(Binding::read(entry, namespaced));
            let by_subject = self.bindings.entry(namespace.to_string()).or_default();
            for subject in binding.subjects.keys() {
                by_subject.entry(subject.clone()).or_default().push(binding.clone());
            }
        }
    }

    fn delete(&mut self, which: usize, entry: &Entry) {
        let namespaced = which % 2 == 1;
        let (namespace, name) = names(entry, namespaced);
        if which < 2 {
            if let Some(roles) = self.roles.get_mut(namespace) {
                roles.remove(name);
                if roles.is_empty() {
                    self.roles.remove(namespace);
                }
            }
        } else if let Some(by_subject) = self.bindings.get_mut(namespace) {
            for subject in Binding::read(entry, namespaced).subjects.keys() {
                if let Some(list) = by_subject.get_mut(subject) {
                    list.retain(|b| b.name != name);
                    if list.is_empty() {
                        by_subject.remove(subject);
                    }
                }
            }
            if by_subject.is_empty() {
                self.bindings.remove(namespace);
            }
        }
    }
}

impl RbacIndex {
    fn role(&self, kind: &str, namespace: &str, name: &str) -> Result<&Arc<Vec<PolicyRule>>, String> {
        let (scope, what) = match kind {
            "ClusterRole" => ("", "clusterrole"),
            "Role" => (namespace, "role"),
            other => return Err(format!("unsupported role reference kind: {other:?}")),
        };
        self.roles.get(scope).and_then(|r| r.get(name)).ok_or_else(|| format!("{what}.{GROUP} {name:?} not found"))
    }

    /// Calls `visit` once for every binding of the user, cluster-wide ones first, until it returns false.
    fn visit<'a>(
        &'a self,
        user: &User,
        namespace: &str,
        mut visit: impl FnMut(&'a Binding, &'a str, Result<&'a Arc<Vec<PolicyRule>>, String>) -> bool,
    ) {
        let mut subjects = vec![Subject::User(user.name.clone())];
        subjects.extend(user.groups.iter().map(|g| Subject::Group(g.clone())));
        let scopes: &[&str] = if namespace.is_empty() { &[""] } else { &["", namespace] };
        for scope in scopes {
            let Some(by_subject) = self.bindings.get(*scope) else { continue };
            let found = subjects.iter().filter_map(|s| by_subject.get(s).map(|bindings| (s, bindings)));
            for (subject, binding) in found.flat_map(|(s, bindings)| bindings.iter().map(move |b| (s, b))) {
                // Found by each of the user's subjects that it has, and visited for one.
                let Some((_, described)) = binding.first(&subjects).filter(|(first, _)| *first == subject) else {
                    continue;
                };
                let rules = self.role(&binding.role_kind, &binding.namespace, &binding.role_name);
                if !visit(binding, described, rules) {
                    return;
                }
            }
        }
    }
}

pub struct Rbac {
    followed: Followed<RbacIndex>,
}

impl Rbac {
    pub fn new(reader: Reader) -> Rbac {
        Rbac { followed: Followed::new(reader) }
    }

    /// The rules that a binding's `roleRef` stands for; the error is upstream's text.
    pub fn role_rules(&self, kind: &str, namespace: &str, name: &str) -> Result<Vec<PolicyRule>, String> {
        self.followed.get().role(kind, namespace, name).map(|r| r.as_ref().clone())
    }

    fn decide(&self, a: &Attributes) -> Decision {
        let mut allowed = None;
        let mut errors: Vec<String> = Vec::new();
        let index = self.followed.get();
        index.visit(&a.user, &a.namespace, |binding, subject, rules| match rules {
            Ok(rules) => {
                if rules.iter().any(|r| r.allows(a)) {
                    allowed = Some(format!("RBAC: allowed by {}", binding.describe(subject)));
                }
                allowed.is_none()
            }
            Err(e) => {
                errors.push(e);
                true
            }
        });
        match (allowed, errors.as_slice()) {
            (Some(reason), _) => Decision::Allow(reason),
            (None, []) => Decision::NoOpinion(String::new()),
            (None, errors) => Decision::NoOpinion(format!("RBAC: {}", aggregate(errors))),
        }
    }
}

#[async_trait]
impl Authorizer for Rbac {
    async fn authorize(&self, a: &Attributes) -> Decision {
        self.decide(a)
    }

    fn rules_for(&self, user: &User, namespace: &str) -> UserRules {
        let mut out = UserRules::default();
        let index = self.followed.get();
        index.visit(user, namespace, |_, _, rules| {
            match rules {
                Ok(rules) => out.rules.extend(rules.iter().cloned()),
                Err(e) => out.errors.push(e),
            }
            true
        });
        out
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{put, reader, remove};
    use serde_json::json;

    const V: &str = "rbac.authorization.k8s.io/v1";

    fn role(kind: &str, namespace: &str, name: &str, rules: Value) -> Value {
        let mut v = json!({"apiVersion":V,"kind":kind,"metadata":{"name":name},"rules":rules});
        if !namespace.is_empty() {
            v["metadata"]["namespace"] = namespace.into();
        }
        v
    }

    fn binding(kind: &str, namespace: &str, name: &str, role: (&str, &str), subjects: Value) -> Value {
        let mut v = json!({"apiVersion":V,"kind":kind,"metadata":{"name":name},"subjects":subjects,
                           "roleRef":{"apiGroup":GROUP,"kind":role.0,"name":role.1}});
        if !namespace.is_empty() {
            v["metadata"]["namespace"] = namespace.into();
        }
        v
    }

    async fn ask(rbac: &Rbac, user: &User, verb: &str, resource: &str, namespace: &str) -> String {
        match rbac.authorize(&Attributes::resource(user, verb, "", resource, namespace, "")).await {
            Decision::Allow(reason) => reason,
            Decision::NoOpinion(reason) => format!("no: {reason}"),
            Decision::Deny(_) | Decision::Failed { .. } => unreachable!(),
        }
    }

    #[tokio::test]
    async fn bindings_give_rights_where_they_are_and_changes_count_at_once() {
        let pods = json!([{"apiGroups":[""],"resources":["pods"],"verbs":["get","list"]}]);
        let r = reader(&[
            role("ClusterRole", "", "pod-reader", pods.clone()),
            role("Role", "a", "local", json!([{"apiGroups":[""],"resources":["secrets"],"verbs":["*"]}])),
            binding("RoleBinding", "a", "b1", ("ClusterRole", "pod-reader"), json!([{"kind":"User","name":"jane"}])),
            binding("RoleBinding", "a", "b2", ("Role", "local"), json!([{"kind":"ServiceAccount","name":"sa"}])),
        ])
        .await;
        let rbac = Rbac::new(r.clone());
        let jane = User::new("jane", &["dev"]);
        let sa = User::new("system:serviceaccount:a:sa", &[]);
        assert_eq!(
            ask(&rbac, &jane, "list", "pods", "a").await,
            r#"RBAC: allowed by RoleBinding "b1/a" of ClusterRole "pod-reader" to User "jane""#
        );
        assert_eq!(ask(&rbac, &jane, "list", "pods", "b").await, "no: ");
        assert_eq!(ask(&rbac, &jane, "list", "pods", "").await, "no: ");
        assert_eq!(ask(&rbac, &jane, "delete", "pods", "a").await, "no: ");
        assert_eq!(
            ask(&rbac, &sa, "delete", "secrets", "a").await,
            r#"RBAC: allowed by RoleBinding "b2/a" of Role "local" to ServiceAccount "sa/a""#
        );

        let everywhere = binding(
            "ClusterRoleBinding",
            "",
            "cb",
            ("ClusterRole", "pod-reader"),
            json!([{"kind":"Group","name":"dev"}]),
        );
        put(&r, &everywhere).await;
        assert_eq!(
            ask(&rbac, &jane, "list", "pods", "").await,
            r#"RBAC: allowed by ClusterRoleBinding "cb" of ClusterRole "pod-reader" to Group "dev""#
        );
        let mut other = everywhere.clone();
        other["subjects"] = json!([{"kind":"Group","name":"ops"}]);
        put(&r, &other).await;
        assert_eq!(ask(&rbac, &jane, "list", "pods", "").await, "no: ");
        put(&r, &everywhere).await;
        remove(&r, &role("ClusterRole", "", "pod-reader", pods)).await;
        assert_eq!(
            ask(&rbac, &jane, "list", "pods", "a").await,
            r#"no: RBAC: clusterrole.rbac.authorization.k8s.io "pod-reader" not found"#
        );
        remove(&r, &everywhere).await;
        assert_eq!(ask(&rbac, &jane, "list", "pods", "").await, "no: ");
        assert_eq!(rbac.rules_for(&sa, "a").rules.len(), 1);
        assert_eq!(rbac.rules_for(&sa, "b"), UserRules::default());
        assert_eq!(rbac.rules_for(&jane, "a").errors.len(), 1);
    }

    #[tokio::test]
    async fn a_cluster_role_binding_cannot_use_a_namespaced_role() {
        let r = reader(&[
            role("Role", "a", "x", json!([{"apiGroups":["*"],"resources":["*"],"verbs":["*"]}])),
            binding("ClusterRoleBinding", "", "cb", ("Role", "x"), json!([{"kind":"User","name":"jane"}])),
        ])
        .await;
        let rbac = Rbac::new(r);
        let answer = ask(&rbac, &User::new("jane", &[]), "get", "pods", "a").await;
        assert!(answer.starts_with("no: "), "{answer}");
    }
}
