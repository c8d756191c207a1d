//! Only who may `sign` for a signer answers what a node asks of it. Upstream has this check, and its answer (422), in
//! the storage of PodCertificateRequests; so it can't be turned off.

use super::certificate_approval::{GROUP, authorized};
use super::{Attributes, Operation, Plugin};
use crate::authz::Authorizer;
use async_trait::async_trait;
use meta::field::{Errors, Path};
use meta::status::Status;
use serde_json::Value;
use std::sync::Arc;

pub struct PodCertificateSigning {
    authorizer: Arc<dyn Authorizer>,
}

impl PodCertificateSigning {
    pub fn new(authorizer: Arc<dyn Authorizer>) -> PodCertificateSigning {
        PodCertificateSigning { authorizer }
    }
}

#[async_trait]
impl Plugin for PodCertificateSigning {
    fn name(&self) -> &'static str {
        "PodCertificateSigning"
    }

    async fn validate(&self, a: &Attributes<'_>) -> Result<(), Status> {
        if a.operation != Operation::Update || !a.is(GROUP, "podcertificaterequests", "status") {
            return Ok(());
        }
        let old = a.old.unwrap_or(&Value::Null);
        if api::validation::access::same(&old["status"], &a.object["status"]) {
            return Ok(());
        }
        let signer = old["spec"]["signerName"].as_str().unwrap_or_default();
        if authorized(self.authorizer.as_ref(), a.user, "sign", signer).await {
            return Ok(());
        }
        let mut errors = Errors::default();
        let why = format!("User {:?} is not permitted to \"sign\" for signer {signer:?}", a.user.name);
        errors.forbidden(Path::new("spec.signerName"), why);
        Err(Status::invalid(&a.resource.group, &a.resource.kind, a.name, &errors))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::admission::testing::Write;
    use crate::authn::User;
    use crate::testing::reader;
    use serde_json::json;

    #[tokio::test]
    async fn answers_come_from_those_who_sign() {
        let v = "rbac.authorization.k8s.io/v1";
        let r = reader(&[
            json!({"apiVersion":v,"kind":"ClusterRole","metadata":{"name":"r"},"rules":[
                {"apiGroups":[GROUP],"resources":["signers"],"verbs":["sign"],"resourceNames":["e.com/a"]}]}),
            json!({"apiVersion":v,"kind":"ClusterRoleBinding","metadata":{"name":"b"},
                   "roleRef":{"kind":"ClusterRole","name":"r"},"subjects":[{"kind":"User","name":"jane"}]}),
        ])
        .await;
        let plugin = PodCertificateSigning::new(Arc::new(crate::authz::Chain::standard(r).0));
        let request = |signer: &str, status: Value| json!({"kind":"PodCertificateRequest","metadata":{"name":"c"},"spec":{"signerName":signer},"status":status});
        let write = |signer: &str, status: Value| {
            let (old, new) = (request(signer, json!({})), request(signer, status));
            Write::update(GROUP, "podcertificaterequests", "d", old, new).sub("status", "c").by(&User::new("jane", &[]))
        };
        assert!(write("e.com/a", json!({"certificateChain":"x"})).validate(&plugin).await.is_ok());
        assert!(write("e.com/b", json!({"conditions":[]})).validate(&plugin).await.is_ok(), "no change");
        let e = write("e.com/b", json!({"certificateChain":"x"})).validate(&plugin).await.unwrap_err();
        assert_eq!(e.code, 422);
        assert!(
            e.message.ends_with(
                "spec.signerName: Forbidden: User \"jane\" is not permitted to \"sign\" for signer \"e.com/b\""
            ),
            "{e}"
        );
    }
}
