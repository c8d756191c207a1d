//! OwnerReferencesPermissionEnforcement: to block an owner's deletion one must be allowed to hold up that owner; to
//! change an object's owners one must be allowed to delete the object.
//!
//! Off by default, as upstream's is.

use super::{Attributes, Operation, Plugin, forbidden};
use crate::authz::{Attributes as Question, Authorizer};
use async_trait::async_trait;
use meta::status::Status;
use serde_json::Value;
use std::sync::Arc;

pub struct OwnerReferencesPermissionEnforcement {
    authorizer: Arc<dyn Authorizer>,
}

impl OwnerReferencesPermissionEnforcement {
    pub fn new(authorizer: Arc<dyn Authorizer>) -> Self {
        OwnerReferencesPermissionEnforcement { authorizer }
    }
}

fn owners(v: &Value) -> &[Value] {
    v["metadata"]["ownerReferences"].as_array().map(Vec::as_slice).unwrap_or_default()
}

#[async_trait]
impl Plugin for OwnerReferencesPermissionEnforcement {
    fn name(&self) -> &'static str {
        "OwnerReferencesPermissionEnforcement"
    }

    async fn validate(&self, a: &Attributes<'_>) -> Result<(), Status> {
        let write = matches!(a.operation, Operation::Create | Operation::Update);
        // The kubelet owns its mirror pods by a rule of its own (NodeRestriction).
        let mirror =
            a.is_main("", "pods") && a.object["metadata"]["annotations"].get("kubernetes.io/config.mirror").is_some();
        let empty = Value::Null;
        let old = owners(a.old.unwrap_or(&empty));
        let new = owners(a.object);
        if !write || !a.subresource.is_empty() || mirror || old == new {
            return Ok(());
        }
        if a.operation == Operation::Update {
            let question =
                Question::resource(a.user, "delete", &a.resource.group, &a.resource.plural, a.namespace, a.name);
            let decision = self.authorizer.authorize(&question).await;
            if !decision.allowed() {
                let why = decision.reason();
                return Err(forbidden(
                    a,
                    format!("cannot set an ownerRef on a resource you can't delete: {why}, <nil>"),
                ));
            }
        }
        let blocks = |o: &&Value| o["blockOwnerDeletion"] == true;
        for owner in new.iter().filter(blocks) {
            let was = old.iter().filter(blocks).any(|o| o["uid"] == owner["uid"]);
            if was {
                continue;
            }
            let text = |k: &str| owner[k].as_str().unwrap_or_default();
            let served = a.catalogue.rows.iter();
            let mut served = served.filter(|r| r.kind == text("kind") && r.api_version() == text("apiVersion"));
            let Some(row) = served.next() else {
                return Err(forbidden(
                    a,
                    format!(
                        "cannot set blockOwnerDeletion in this case because cannot find RESTMapping for APIVersion {} \
                         Kind {}",
                        text("apiVersion"),
                        text("kind")
                    ),
                ));
            };
            let namespace = if row.namespaced { a.namespace } else { "" };
            let mut question = Question::resource(a.user, "update", &row.group, &row.plural, namespace, text("name"));
            question.subresource = "finalizers".to_string();
            let decision = self.authorizer.authorize(&question).await;
            if !decision.allowed() {
                return Err(forbidden(
                    a,
                    format!(
                        "cannot set blockOwnerDeletion if an ownerReference refers to a resource you can't set \
                         finalizers on: {}, <nil>",
                        decision.reason()
                    ),
                ));
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::admission::testing::Write;
    use crate::authz::Decision;
    use serde_json::json;

    struct Only(&'static str);

    #[async_trait]
    impl Authorizer for Only {
        async fn authorize(&self, q: &Question) -> Decision {
            let asked = format!("{} {}/{} {}", q.verb, q.resource, q.subresource, q.name);
            if self.0.split(';').any(|x| x == asked) {
                Decision::Allow(String::new())
            } else {
                Decision::NoOpinion(String::new())
            }
        }
    }

    #[tokio::test]
    async fn owners_that_one_may_not_hold_up_cannot_be_blocked() {
        let pod = |owners: Value| json!({"kind":"Pod","metadata":{"name":"p","ownerReferences":owners}});
        let owner = |block: bool| json!([{"apiVersion":"apps/v1","kind":"ReplicaSet","name":"r","uid":"u","blockOwnerDeletion":block}]);
        let with = |allowed| OwnerReferencesPermissionEnforcement::new(Arc::new(Only(allowed)));
        let create = |o: Value| Write::create("", "pods", "d", pod(o)).served();
        assert!(create(owner(false)).validate(&with("")).await.is_ok());
        assert_eq!(create(owner(true)).validate(&with("")).await.unwrap_err().code, 403);
        assert!(create(owner(true)).validate(&with("update replicasets/finalizers r")).await.is_ok());
        let update = || Write::update("", "pods", "d", pod(json!([])), pod(owner(false))).served();
        assert!(update().validate(&with("")).await.unwrap_err().message.contains("you can't delete"));
        assert!(update().validate(&with("delete pods/ p")).await.is_ok());
        let mut unknown = owner(true);
        unknown[0]["kind"] = "Nothing".into();
        let e = create(unknown).validate(&with("")).await.unwrap_err();
        assert!(e.message.contains("cannot find RESTMapping for APIVersion apps/v1 Kind Nothing"), "{e}");
    }
}
