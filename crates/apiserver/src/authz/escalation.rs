//! Nobody gives away more than they have: writes of roles and bindings are refused when they would grant rights
//! that the writer doesn't hold, unless the writer may `escalate` (roles) or `bind` (bindings).
//!
//! An admission plugin that sees final objects. Upstream has these checks in the storage of the RBAC kinds.

use super::rbac::{GROUP, Rbac};
use super::rules::{PolicyRule, covers, escalation_text};
use super::{Attributes, Authorizer};
use crate::admission::{self, Operation, Plugin};
use crate::authn::MASTERS;
use async_trait::async_trait;
use meta::status::Status;
use serde_json::Value;
use std::sync::Arc;

pub struct EscalationCheck {
    rbac: Arc<Rbac>,
    authorizer: Arc<dyn Authorizer>,
}

impl EscalationCheck {
    pub fn new(rbac: Arc<Rbac>, authorizer: Arc<dyn Authorizer>) -> EscalationCheck {
        EscalationCheck { rbac, authorizer }
    }

    async fn may(&self, a: &admission::Attributes<'_>, verb: &str, resource: &str, name: &str) -> bool {
        let question = Attributes::resource(a.user, verb, GROUP, resource, a.namespace, name);
        self.authorizer.authorize(&question).await.allowed()
    }

    /// The writer holds all of `rules` in the namespace.
    fn confirm(&self, a: &admission::Attributes<'_>, rules: &[PolicyRule]) -> Result<(), String> {
        // Only rules that can be listed count; what a webhook would allow can't be given away.
        let own = self.rbac.rules_for(a.user, a.namespace);
        covers(&own.rules, rules).map_err(|missing| escalation_text(a.user, &missing, &own.errors))
    }
}

#[async_trait]
impl Plugin for EscalationCheck {
    fn name(&self) -> &'static str {
        "RBACEscalation"
    }

    async fn validate(&self, a: &admission::Attributes<'_>) -> Result<(), Status> {
        if a.resource.group != GROUP
            || !a.subresource.is_empty()
            || !matches!(a.operation, Operation::Create | Operation::Update)
            || a.user.in_group(MASTERS)
        {
            return Ok(());
        }
        let object: &Value = a.object;
        if a.old.is_some_and(|old| only_collection_fields_changed(old, object)) {
            return Ok(());
        }
        let resource = a.resource.plural.as_str();
        let name = object["metadata"]["name"].as_str().unwrap_or(a.name);
        let refuse = |why: String| Status::forbidden(GROUP, resource, name, why);
        match resource {
            "roles" | "clusterroles" => {
                // As upstream, where a name counts if the path has it.
                let of_path = if a.verb == "create" { "" } else { name };
                if self.may(a, "escalate", resource, of_path).await {
                    return Ok(());
                }
                self.confirm(a, &PolicyRule::list_from(object)).map_err(refuse)?;
                // It gathers anything, and is what takes away from a role that was gathered.
                let aggregates = |role: &Value| !role["aggregationRule"].is_null();
                if (aggregates(object) || a.old.is_some_and(aggregates)) && self.confirm(a, &everything()).is_err() {
                    return Err(refuse("must have cluster-admin privileges to use an aggregationRule".to_string()));
                }
                Ok(())
            }
            "rolebindings" | "clusterrolebindings" => {
                let role = &object["roleRef"];
                let (kind, role_name) =
                    (role["kind"].as_str().unwrap_or_default(), role["name"].as_str().unwrap_or_default());
                let role_resource = match kind {
                    "ClusterRole" => "clusterroles",
                    "Role" => "roles",
                    _ => "",
                };
                if !role_resource.is_empty() && self.may(a, "bind", role_resource, role_name).await {
                    return Ok(());
                }
                let rules = self
                    .rbac
                    .role_rules(kind, a.namespace, role_name)
                    .map_err(|_| Status::not_found(GROUP, &kind.to_lowercase(), role_name))?;
                self.confirm(a, &rules).map_err(refuse)
            }
            _ => Ok(()),
        }
    }
}

fn everything() -> [PolicyRule; 2] {
    let all =
        PolicyRule { non_resource_urls: vec!["*".to_string()], verbs: vec!["*".to_string()], ..PolicyRule::default() };
    [PolicyRule::on("*", "*", "*"), all]
}

/// The garbage collector must be able to take finalizers and owners off roles that it doesn't hold itself.
pub fn only_collection_fields_changed(old: &Value, new: &Value) -> bool {
    let without = |v: &Value| {
        let mut v = v.clone();
        if let Some(m) = v.get_mut("metadata").and_then(Value::as_object_mut) {
            for field in ["finalizers", "ownerReferences", "resourceVersion", "managedFields", "generation"] {
                m.remove(field);
            }
        }
        v
    };
    without(old) == without(new)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::admission::testing::Write;
    use crate::authn::User;
    use crate::authz::Chain;
    use crate::testing::{put, reader};
    use serde_json::json;

    const V: &str = "rbac.authorization.k8s.io/v1";

    #[tokio::test]
    async fn rights_that_one_lacks_cannot_be_granted() {
        let rule = |resource: &str, verbs: &[&str]| json!({"apiGroups":[""],"resources":[resource],"verbs":verbs});
        let r = reader(&[
            json!({"apiVersion":V,"kind":"Role","metadata":{"namespace":"d","name":"own"},"rules":[rule("pods", &["get","list"])]}),
            json!({"apiVersion":V,"kind":"RoleBinding","metadata":{"namespace":"d","name":"own"},
                   "roleRef":{"kind":"Role","name":"own"},"subjects":[{"kind":"User","name":"jane"}]}),
            json!({"apiVersion":V,"kind":"Role","metadata":{"namespace":"d","name":"big"},"rules":[rule("secrets", &["get"])]}),
            json!({"apiVersion":V,"kind":"Role","metadata":{"namespace":"d","name":"binder"},
                   "rules":[{"apiGroups":[GROUP],"resources":["roles"],"verbs":["bind","escalate"],"resourceNames":["big"]}]}),
            json!({"apiVersion":V,"kind":"RoleBinding","metadata":{"namespace":"d","name":"binder"},
                   "roleRef":{"kind":"Role","name":"binder"},"subjects":[{"kind":"User","name":"boss"}]}),
        ])
        .await;
        for (name, rules) in [
            ("all", json!([{"apiGroups":[GROUP],"resources":["roles"],"verbs":["escalate"]}])),
            ("whole", json!([{"apiGroups":["*"],"resources":["*"],"verbs":["get"]}])),
        ] {
            put(&r, &json!({"apiVersion":V,"kind":"ClusterRole","metadata":{"name":name},"rules":rules})).await;
            put(&r, &json!({"apiVersion":V,"kind":"ClusterRoleBinding","metadata":{"name":name},
                   "roleRef":{"kind":"ClusterRole","name":name},"subjects":[{"kind":"User","name":if name == "all" { "chief" } else { "gatherer" }}]})).await;
        }
        let (chain, rbac) = Chain::standard(r);
        let check = EscalationCheck::new(rbac, Arc::new(chain));
        let role = |name: &str, rules: Value| json!({"apiVersion":V,"kind":"Role","metadata":{"namespace":"d","name":name},"rules":rules});
        let bind = |role: &str| {
            json!({"apiVersion":V,"kind":"RoleBinding","metadata":{"namespace":"d","name":"x"},
                   "roleRef":{"apiGroup":GROUP,"kind":"Role","name":role},"subjects":[]})
        };
        let (jane, boss) = (User::new("jane", &["dev"]), User::new("boss", &[]));
        let (root, chief) = (User::new("root", &["system:masters"]), User::new("chief", &[]));
        let big = role("big", json!([rule("secrets", &["get"])]));
        let missing = "roles.rbac.authorization.k8s.io \"x\" is forbidden: user \"jane\" (groups=[\"dev\"]) is \
                       attempting to grant RBAC permissions not currently held:\n{APIGroups:[\"\"], \
                       Resources:[\"secrets\"], Verbs:[\"get\"]}";
        for (user, object, resource, expected) in [
            (&jane, role("x", json!([rule("pods", &["get"])])), "roles", Ok(())),
            (&jane, role("x", json!([rule("secrets", &["get"])])), "roles", Err(missing.to_string())),
            (&root, role("x", json!([rule("secrets", &["get"])])), "roles", Ok(())),
            (
                &boss,
                big.clone(),
                "roles",
                Err(missing.replace("\"x\"", "\"big\"").replace("\"jane\" (groups=[\"dev\"])", "\"boss\" (groups=[])")),
            ),
            (&chief, big.clone(), "roles", Ok(())),
            (&jane, bind("own"), "rolebindings", Ok(())),
            (&boss, bind("big"), "rolebindings", Ok(())),
            (&jane, bind("none"), "rolebindings", Err("role.rbac.authorization.k8s.io \"none\" not found".into())),
        ] {
            let got = Write::create(GROUP, resource, "d", object.clone()).by(user).validate(&check).await;
            assert_eq!(got.map_err(|e| e.message), expected, "{object}");
        }
        let refused = Write::create(GROUP, "rolebindings", "d", bind("big")).by(&jane).validate(&check).await;
        assert!(refused.unwrap_err().message.contains("not currently held:\n"));

        let update = Write::update(GROUP, "roles", "d", role("big", json!([])), big.clone());
        assert_eq!(update.by(&boss).validate(&check).await, Ok(()));

        // Whoever can't gather can't stop what was gathered either.
        let gathering = |rule: Value| json!({"apiVersion":V,"kind":"ClusterRole","metadata":{"name":"g"},"rules":[{"apiGroups":["*"],"resources":["*"],"verbs":["get"]}],"aggregationRule":rule});
        for (old, new) in [(Value::Null, json!({})), (json!({}), Value::Null)] {
            let write = Write::update(GROUP, "clusterroles", "", gathering(old), gathering(new));
            let e = write.by(&User::new("gatherer", &[])).validate(&check).await.unwrap_err();
            assert!(e.message.ends_with("must have cluster-admin privileges to use an aggregationRule"), "{e}");
        }

        // The collector may drop a finalizer of a role that it doesn't hold, and nothing else.
        let mut with = big.clone();
        with["metadata"]["finalizers"] = json!(["f"]);
        let write = || Write::update(GROUP, "roles", "d", with.clone(), big.clone());
        assert_eq!(write().by(&jane).validate(&check).await, Ok(()));
        let mut more = big.clone();
        more["rules"] = json!([rule("nodes", &["get"])]);
        let grown = Write::update(GROUP, "roles", "d", with.clone(), more).by(&jane).validate(&check).await;
        assert_eq!(grown.unwrap_err().code, 403);
    }
}
