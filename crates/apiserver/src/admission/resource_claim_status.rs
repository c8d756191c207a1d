//! Who may write which part of a ResourceClaim's status, beyond the right to `resourceclaims/status`: `binding` for the
//! allocation and who it is reserved for, `driver` for what a driver says of its devices.
//!
//! Upstream has these checks, and their answer (422), in the storage of ResourceClaims (`AuthorizedForBinding`,
//! `AuthorizedForDeviceStatus`); so they can't be turned off. Source: KEP-4817.

use super::{Attributes, Operation, Plugin};
use crate::authn::impersonation::runs_on;
use crate::authz::{self, Authorizer};
use api::validation::access::{field, list, same, text};
use async_trait::async_trait;
use meta::field::{Errors, Path};
use meta::status::Status;
use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

const GROUP: &str = "resource.k8s.io";

pub struct ResourceClaimStatus {
    authorizer: Arc<dyn Authorizer>,
}

impl ResourceClaimStatus {
    pub fn new(authorizer: Arc<dyn Authorizer>) -> ResourceClaimStatus {
        ResourceClaimStatus { authorizer }
    }

    /// The refusal, when the user lacks `verb` on the subresource.
    async fn refused(
        &self,
        a: &Attributes<'_>,
        subresource: &str,
        verb: &str,
        namespace: &str,
        name: &str,
    ) -> Option<String> {
        let mut question = authz::Attributes::resource(a.user, verb, GROUP, "resourceclaims", namespace, name);
        question.version = a.resource.version.clone();
        question.subresource = subresource.to_string();
        let decision = self.authorizer.authorize(&question).await;
        (!decision.allowed()).then(|| authz::forbidden(&question, decision.reason()).message)
    }

    async fn binding(&self, a: &Attributes<'_>, new: &Value, old: &Value, errors: &mut Errors) {
        if ["allocation", "reservedFor"].iter().all(|f| same(field(new, f), field(old, f))) {
            return;
        }
        // In all namespaces: who binds claims schedules for the whole cluster.
        if let Some(why) = self.refused(a, "binding", a.verb, "", "").await {
            let what = "changing status.allocation or status.reservedFor requires resource=\"resourceclaims/binding\"";
            errors.forbidden(Path::new("status"), format!("{what}, verb=\"{}\" permission: {why}", a.verb));
        }
    }

    async fn drivers(&self, a: &Attributes<'_>, new: &Value, old: &Value, errors: &mut Errors) {
        let mut verbs = vec![format!("arbitrary-node:{}", a.verb)];
        if node_of(field(new, "allocation")).is_some_and(|node| runs_on(a.user, node)) {
            verbs.insert(0, format!("associated-node:{}", a.verb));
        }
        for driver in changed_drivers(new, old) {
            let mut why = None;
            let mut allowed = false;
            for verb in &verbs {
                match self.refused(a, "driver", verb, a.namespace, driver).await {
                    None => allowed = true,
                    Some(refusal) => why = why.or(Some(refusal)),
                }
                if allowed {
                    break;
                }
            }
            if let (false, Some(why)) = (allowed, why) {
                let what = "changing status.devices requires resource=\"resourceclaims/driver\"";
                let verbs = verbs.join(" ");
                errors.forbidden(Path::new("status.devices"), format!("{what}, verb=\"[{verbs}]\" permission: {why}"));
            }
        }
    }
}

/// The one node that an allocation is for, where its selector says so by name.
fn node_of(allocation: &Value) -> Option<&str> {
    let [term] = list(field(allocation, "nodeSelector"), "nodeSelectorTerms") else { return None };
    let [wanted] = list(term, "matchFields") else { return None };
    let [name] = list(wanted, "values") else { return None };
    let by_name = text(wanted, "key") == "metadata.name" && text(wanted, "operator") == "In";
    if by_name && list(term, "matchExpressions").is_empty() { name.as_str() } else { None }
}

/// Those of whom some device was added, changed or taken away.
fn changed_drivers<'a>(new: &'a Value, old: &'a Value) -> BTreeSet<&'a str> {
    let by_key = |status: &'a Value| -> BTreeMap<[&'a str; 4], &'a Value> {
        let key = |d: &'a Value| ["driver", "pool", "device", "shareID"].map(|f| text(d, f));
        list(status, "devices").iter().map(|d| (key(d), d)).collect()
    };
    let (new, old) = (by_key(new), by_key(old));
    let differs = |key: &&[&str; 4]| !new.get(*key).is_some_and(|d| old.get(*key).is_some_and(|o| same(d, o)));
    new.keys().chain(old.keys()).filter(differs).map(|key| key[0]).collect()
}

#[async_trait]
impl Plugin for ResourceClaimStatus {
    fn name(&self) -> &'static str {
        "ResourceClaimStatus"
    }

    async fn validate(&self, a: &Attributes<'_>) -> Result<(), Status> {
        if a.operation != Operation::Update || !a.is(GROUP, "resourceclaims", "status") {
            return Ok(());
        }
        let (new, old) = (field(a.object, "status"), field(a.old.unwrap_or(&Value::Null), "status"));
        let mut errors = Errors::default();
        self.binding(a, new, old, &mut errors).await;
        self.drivers(a, new, old, &mut errors).await;
        if errors.is_empty() {
            return Ok(());
        }
        Err(Status::invalid(&a.resource.group, &a.resource.kind, a.name, &errors))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::admission::testing::Write;
    use crate::authn::User;
    use crate::authn::impersonation::NODE_NAME;
    use crate::testing::reader;
    use serde_json::json;

    const BINDING: &str = "status: Forbidden: changing status.allocation or status.reservedFor requires resource=\"resourceclaims/binding\", verb=\"update\" permission: resourceclaims.resource.k8s.io is forbidden: User \"";
    const DRIVER: &str =
        "status.devices: Forbidden: changing status.devices requires resource=\"resourceclaims/driver\", verb=\"[";

    fn on(node: &str) -> Value {
        json!({"nodeSelector": {"nodeSelectorTerms": [{"matchFields": [{"key": "metadata.name", "operator": "In", "values": [node]}]}]}})
    }

    fn devices(drivers: &[(&str, &str)]) -> Value {
        drivers.iter().map(|(driver, device)| json!({"driver": driver, "pool": "p", "device": device})).collect()
    }

    #[tokio::test]
    async fn each_part_has_its_right() {
        let v = "rbac.authorization.k8s.io/v1";
        let account = "system:serviceaccount:d:driver";
        let rules = [
            ("binder", "binding", json!(["update"]), json!([])),
            ("patcher", "binding", json!(["patch"]), json!([])),
            ("anywhere", "driver", json!(["arbitrary-node:update"]), json!(["a"])),
            (account, "driver", json!(["associated-node:update"]), json!(["a"])),
        ];
        let mut objects = Vec::new();
        for (i, (user, sub, verbs, names)) in rules.iter().enumerate() {
            let name = format!("r{i}");
            objects.push(json!({"apiVersion":v,"kind":"ClusterRole","metadata":{"name":name},"rules":[
                {"apiGroups":[GROUP],"resources":[format!("resourceclaims/{sub}")],"verbs":verbs,"resourceNames":names}]}));
            objects.push(json!({"apiVersion":v,"kind":"ClusterRoleBinding","metadata":{"name":name},
                "roleRef":{"kind":"ClusterRole","name":name},"subjects":[{"kind":"User","name":user}]}));
        }
        let plugin = ResourceClaimStatus::new(Arc::new(crate::authz::Chain::standard(reader(&objects).await).0));
        let node = |user: &str, node: &str| User {
            extra: BTreeMap::from([(NODE_NAME.to_string(), vec![node.to_string()])]),
            ..User::new(user, &[])
        };
        let plain = |user: &str| User::new(user, &[]);
        let allocated = |d: Value| json!({"allocation": on("n"), "devices": d});
        let (none, one) = (json!({}), json!({"allocation": on("n")}));
        let reserved = json!({"allocation": on("n"), "reservedFor": [{"resource": "pods", "name": "p", "uid": "u"}]});
        let a = |device| allocated(devices(&[("a", device)]));
        // The status before and after, who writes, and what the answer holds; nothing: it is let pass.
        let cases: Vec<(&Value, &Value, User, &[&str])> = vec![
            (&none, &none, plain("eve"), &[]),
            (&none, &one, plain("binder"), &[]),
            (&one, &none, plain("binder"), &[]),
            (&one, &reserved, plain("binder"), &[]),
            (&one, &reserved, plain("patcher"), &[BINDING]),
            (&none, &one, plain("eve"), &[BINDING]),
        ];
        let more = [
            (one.clone(), a("x"), plain("anywhere"), vec![]),
            (a("x"), a("y"), plain("anywhere"), vec![]),
            (a("x"), one.clone(), plain("binder"), vec![DRIVER, "arbitrary-node:update]\""]),
            (
                one.clone(),
                allocated(devices(&[("a", "x"), ("b", "x")])),
                plain("anywhere"),
                vec![DRIVER, "\"b\" is forbidden"],
            ),
            (one.clone(), a("x"), node(account, "n"), vec![]),
            (one.clone(), a("x"), node(account, "m"), vec![DRIVER, "verb=\"[arbitrary-node:update]\""]),
            (one.clone(), a("x"), plain(account), vec![DRIVER]),
            (one.clone(), a("x"), node("binder", "n"), vec![DRIVER]),
            (
                one.clone(),
                allocated(devices(&[("c", "x")])),
                node(account, "n"),
                vec![
                    "verb=\"[associated-node:update arbitrary-node:update]\" permission: resourceclaims.resource.k8s.io \"c\" is forbidden: User \"system:serviceaccount:d:driver\" cannot associated-node:update resource \"resourceclaims/driver\" in API group \"resource.k8s.io\" in the namespace \"d\"",
                ],
            ),
        ];
        let cases = cases.into_iter().map(|(o, n, u, t)| (o.clone(), n.clone(), u, t.to_vec())).chain(more);
        let claim = |status: &Value| json!({"kind": "ResourceClaim", "metadata": {"name": "c"}, "status": status});
        for (old, new, user, expected) in cases {
            let write = Write::update(GROUP, "resourceclaims", "d", claim(&old), claim(&new));
            let answer = write.sub("status", "c").by(&user).validate(&plugin).await;
            let case = format!("{} {old} -> {new}", user.name);
            match answer {
                Ok(()) => assert!(expected.is_empty(), "{case}"),
                Err(e) => {
                    assert_eq!(e.code, 422, "{case}");
                    assert!(!expected.is_empty() && expected.iter().all(|t| e.message.contains(t)), "{case}: {e}");
                }
            }
        }
        let patch = Write::update(GROUP, "resourceclaims", "d", claim(&none), claim(&one)).sub("status", "c").patch();
        assert!(patch.by(&plain("patcher")).validate(&plugin).await.is_ok());
    }
}
