//! CertificateSigning: only who may `sign` for a signer writes certificates into its signing requests.

use super::certificate_approval::{GROUP, RESOURCE, authorized};
use super::{Attributes, Operation, Plugin, forbidden};
use crate::authz::Authorizer;
use async_trait::async_trait;
use meta::status::Status;
use serde_json::Value;
use std::sync::Arc;

pub struct CertificateSigning {
    authorizer: Arc<dyn Authorizer>,
}

impl CertificateSigning {
    pub fn new(authorizer: Arc<dyn Authorizer>) -> CertificateSigning {
        CertificateSigning { authorizer }
    }
}

#[async_trait]
impl Plugin for CertificateSigning {
    fn name(&self) -> &'static str {
        "CertificateSigning"
    }

    async fn validate(&self, a: &Attributes<'_>) -> Result<(), Status> {
        if a.operation != Operation::Update || !a.is(GROUP, RESOURCE, "status") {
            return Ok(());
        }
        let old = a.old.unwrap_or(&Value::Null);
        let same = |field: &str| old["status"][field] == a.object["status"][field];
        if same("certificate") && same("conditions") {
            return Ok(());
        }
        let signer = old["spec"]["signerName"].as_str().unwrap_or_default();
        if authorized(self.authorizer.as_ref(), a.user, "sign", signer).await {
            return Ok(());
        }
        Err(forbidden(a, format!("user not permitted to sign requests with signerName {signer:?}")))
    }
}

#[cfg(test)]
mod tests {
    use super::super::certificate_approval::CertificateApproval;
    use super::*;
    use crate::admission::testing::Write;
    use crate::authn::User;
    use crate::testing::reader;
    use serde_json::json;

    #[tokio::test]
    async fn signers_are_guarded_by_verb_and_domain() {
        let v = "rbac.authorization.k8s.io/v1";
        let rule = |verb: &str, name: &str| json!({"apiGroups":[GROUP],"resources":["signers"],"verbs":[verb],"resourceNames":[name]});
        let r = reader(&[
            json!({"apiVersion":v,"kind":"ClusterRole","metadata":{"name":"r"},
                   "rules":[rule("approve", "example.org/a"), rule("sign", "example.org/*")]}),
            json!({"apiVersion":v,"kind":"ClusterRoleBinding","metadata":{"name":"b"},
                   "roleRef":{"kind":"ClusterRole","name":"r"},"subjects":[{"kind":"User","name":"jane"}]}),
        ])
        .await;
        let authorizer: Arc<dyn Authorizer> = Arc::new(crate::authz::Chain::standard(r).0);
        let (approval, signing) = (CertificateApproval::new(authorizer.clone()), CertificateSigning::new(authorizer));
        let csr = |signer: &str, status: Value| json!({"kind":"CertificateSigningRequest","metadata":{"name":"c"},"spec":{"signerName":signer},"status":status});
        let write = |signer: &str, sub: &str| {
            let (old, new) = (csr(signer, json!({})), csr(signer, json!({"certificate":"x"})));
            Write::update(GROUP, RESOURCE, "", old, new).sub(sub, "c")
        };
        let jane = User::new("jane", &[]);
        for (signer, approves, signs) in
            [("example.org/a", true, true), ("example.org/b", false, true), ("other.org/a", false, false)]
        {
            let done = write(signer, "approval").by(&jane).validate(&approval).await;
            assert_eq!(done.is_ok(), approves, "approve {signer}");
            let done = write(signer, "status").by(&jane).validate(&signing).await;
            assert_eq!(done.is_ok(), signs, "sign {signer}");
        }
        let e = write("other.org/a", "approval").by(&jane).validate(&approval).await.unwrap_err();
        assert!(e.message.ends_with("user not permitted to approve requests with signerName \"other.org/a\""), "{e}");
    }
}
