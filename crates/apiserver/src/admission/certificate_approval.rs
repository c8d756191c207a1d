//! CertificateApproval: only who may `approve` for a signer approves or denies its signing requests.

use super::{Attributes, Operation, Plugin, forbidden};
use crate::authn::User;
use crate::authz::{Attributes as Question, Authorizer};
use async_trait::async_trait;
use meta::status::Status;
use serde_json::Value;
use std::sync::Arc;

pub(super) const GROUP: &str = "certificates.k8s.io";
pub(super) const RESOURCE: &str = "certificatesigningrequests";

pub struct CertificateApproval {
    authorizer: Arc<dyn Authorizer>,
}

impl CertificateApproval {
    pub fn new(authorizer: Arc<dyn Authorizer>) -> CertificateApproval {
        CertificateApproval { authorizer }
    }
}

/// Whether the user has `verb` on the signer, by its name or by its whole domain (`example.org/*`).
pub(super) async fn authorized(authorizer: &dyn Authorizer, user: &User, verb: &str, signer: &str) -> bool {
    let wildcard = signer.split_once('/').map(|(domain, _)| format!("{domain}/*"));
    for name in [Some(signer.to_string()), wildcard].into_iter().flatten() {
        if authorizer.authorize(&Question::resource(user, verb, GROUP, "signers", "", &name)).await.allowed() {
            return true;
        }
    }
    false
}

#[async_trait]
impl Plugin for CertificateApproval {
    fn name(&self) -> &'static str {
        "CertificateApproval"
    }

    async fn validate(&self, a: &Attributes<'_>) -> Result<(), Status> {
        if a.operation != Operation::Update || !a.is(GROUP, RESOURCE, "approval") {
            return Ok(());
        }
        let signer = a.old.unwrap_or(&Value::Null)["spec"]["signerName"].as_str().unwrap_or_default();
        if authorized(self.authorizer.as_ref(), a.user, "approve", signer).await {
            return Ok(());
        }
        Err(forbidden(a, format!("user not permitted to approve requests with signerName {signer:?}")))
    }
}
