//! CertificateSubjectRestriction: nobody becomes `system:masters` through a signing request.

use super::certificate_approval::{GROUP, RESOURCE};
use super::{Attributes, Operation, Plugin, forbidden};
use crate::authn::MASTERS;
use api::validation::pem;
use async_trait::async_trait;
use base64::{Engine, engine::general_purpose::STANDARD};
use meta::status::Status;
use x509_parser::prelude::{FromDer, X509CertificationRequest};

const SIGNER: &str = "kubernetes.io/kube-apiserver-client";

pub struct CertificateSubjectRestriction;

#[async_trait]
impl Plugin for CertificateSubjectRestriction {
    fn name(&self) -> &'static str {
        "CertificateSubjectRestriction"
    }

    async fn validate(&self, a: &Attributes<'_>) -> Result<(), Status> {
        let spec = &a.object["spec"];
        if a.operation != Operation::Create || !a.is_main(GROUP, RESOURCE) || spec["signerName"] != SIGNER {
            return Ok(());
        }
        let Some(groups) = spec["request"].as_str().and_then(organizations) else {
            return Err(forbidden(a, "unable to parse csr: PEM block type must be CERTIFICATE REQUEST"));
        };
        if groups.iter().any(|g| g == MASTERS) {
            return Err(forbidden(a, format!("use of {SIGNER} signer with {MASTERS} group is not allowed")));
        }
        Ok(())
    }
}

/// The organizations in the subject of a request (base64 of PEM).
fn organizations(encoded: &str) -> Option<Vec<String>> {
    let pem = STANDARD.decode(encoded).ok()?;
    let text = String::from_utf8_lossy(&pem);
    let block = pem::blocks(&text).next().filter(|b| b.label == "CERTIFICATE REQUEST")?;
    let (_, request) = X509CertificationRequest::from_der(&block.der).ok()?;
    let subject = &request.certification_request_info.subject;
    Some(subject.iter_organization().filter_map(|o| o.as_str().ok().map(str::to_string)).collect())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::admission::testing::Write;
    use serde_json::json;

    #[tokio::test]
    async fn masters_are_not_made_by_request() {
        for (group, signer, ok) in
            [("dev", SIGNER, true), (MASTERS, SIGNER, false), (MASTERS, "example.org/x", true), ("bad", SIGNER, false)]
        {
            let mut params = rcgen::CertificateParams::default();
            params.distinguished_name.push(rcgen::DnType::OrganizationName, group);
            let pem = params.serialize_request(&rcgen::KeyPair::generate().unwrap()).unwrap().pem().unwrap();
            let encoded = STANDARD.encode(if group == "bad" { "nonsense" } else { &pem });
            let csr = json!({"metadata":{"name":"c"},"spec":{"signerName":signer,"request":encoded}});
            let done = Write::create(GROUP, RESOURCE, "", csr).validate(&CertificateSubjectRestriction).await;
            assert_eq!(done.is_ok(), ok, "{group} {signer}");
        }
    }
}
