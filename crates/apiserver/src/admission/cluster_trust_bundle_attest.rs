//! ClusterTrustBundleAttest: only who may `attest` for a signer writes its trust bundles.

use super::certificate_approval::{GROUP, authorized};
use super::{Attributes, Operation, Plugin, forbidden};
use crate::authz::Authorizer;
use crate::authz::escalation::only_collection_fields_changed;
use async_trait::async_trait;
use meta::status::Status;
use std::sync::Arc;

pub struct ClusterTrustBundleAttest {
    authorizer: Arc<dyn Authorizer>,
}

impl ClusterTrustBundleAttest {
    pub fn new(authorizer: Arc<dyn Authorizer>) -> ClusterTrustBundleAttest {
        ClusterTrustBundleAttest { authorizer }
    }
}

#[async_trait]
impl Plugin for ClusterTrustBundleAttest {
    fn name(&self) -> &'static str {
        "ClusterTrustBundleAttest"
    }

    async fn validate(&self, a: &Attributes<'_>) -> Result<(), Status> {
        if !matches!(a.operation, Operation::Create | Operation::Update) || !a.is_main(GROUP, "clustertrustbundles") {
            return Ok(());
        }
        let signer = a.object["spec"]["signerName"].as_str().unwrap_or_default();
        // Storage migration and the garbage collector may go on.
        if signer.is_empty() || a.old.is_some_and(|old| only_collection_fields_changed(old, a.object)) {
            return Ok(());
        }
        if authorized(self.authorizer.as_ref(), a.user, "attest", signer).await {
            return Ok(());
        }
        Err(forbidden(a, format!("user not permitted to attest for signerName {signer:?}")))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::admission::testing::Write;
    use crate::authn::User;
    use crate::testing::reader;
    use serde_json::{Value, json};

    #[tokio::test]
    async fn bundles_of_a_signer_are_written_by_those_who_attest_for_it() {
        let v = "rbac.authorization.k8s.io/v1";
        let r = reader(&[
            json!({"apiVersion":v,"kind":"ClusterRole","metadata":{"name":"r"},"rules":[
                {"apiGroups":[GROUP],"resources":["signers"],"verbs":["attest"],"resourceNames":["e.com/a","f.com/*"]}]}),
            json!({"apiVersion":v,"kind":"ClusterRoleBinding","metadata":{"name":"b"},
                   "roleRef":{"kind":"ClusterRole","name":"r"},"subjects":[{"kind":"User","name":"jane"}]}),
        ])
        .await;
        let plugin = ClusterTrustBundleAttest::new(Arc::new(crate::authz::Chain::standard(r).0));
        let jane = User::new("jane", &[]);
        let bundle = |signer: &str, pem: &str| json!({"kind":"ClusterTrustBundle","metadata":{"name":"b"},"spec":{"signerName":signer,"trustBundle":pem}});
        let create = |object: Value| Write::create(GROUP, "clustertrustbundles", "", object).by(&jane);
        for (signer, allowed) in
            [("", true), ("e.com/a", true), ("e.com/b", false), ("f.com/any", true), ("g.com/a", false)]
        {
            assert_eq!(create(bundle(signer, "x")).validate(&plugin).await.is_ok(), allowed, "{signer}");
        }
        let update =
            |new: Value| Write::update(GROUP, "clustertrustbundles", "", bundle("g.com/a", "x"), new).by(&jane);
        let e = update(bundle("g.com/a", "y")).validate(&plugin).await.unwrap_err();
        assert!(e.message.ends_with("user not permitted to attest for signerName \"g.com/a\""), "{e}");
        // What changes nothing that matters is let through: it may only be stored anew.
        let mut owned = bundle("g.com/a", "x");
        owned["metadata"]["finalizers"] = json!(["a.b/c"]);
        assert!(update(owned).validate(&plugin).await.is_ok());
    }
}
