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
        let subject = subject(spec["request"].as_str().unwrap_or_default())
            .map_err(|why| forbidden(a, format!("unable to parse csr: {why}")))?;
        if subject.organizations.iter().any(|g| g == MASTERS) {
            return Err(forbidden(a, format!("use of {SIGNER} signer with {MASTERS} group is not allowed")));
        }
        Ok(())
    }
}

pub(super) struct Subject {
    pub common_name: String,
    pub organizations: Vec<String>,
}

/// The subject of a request (base64 of PEM).
pub(super) fn subject(encoded: &str) -> Result<Subject, String> {
    let pem = STANDARD.decode(encoded).unwrap_or_default();
    let text = String::from_utf8_lossy(&pem);
    let block = pem::blocks(&text).next().filter(|b| b.label == "CERTIFICATE REQUEST");
    let block = block.ok_or("PEM block type must be CERTIFICATE REQUEST")?;
    let (_, request) =
        X509CertificationRequest::from_der(&block.der).map_err(|e| format!("asn1: structure error: {e}"))?;
    let subject = &request.certification_request_info.subject;
    let text = |part: &x509_parser::x509::AttributeTypeAndValue<'_>| part.as_str().unwrap_or_default().to_string();
    Ok(Subject {
        // Go keeps the last.
        common_name: subject.iter_common_name().last().map(text).unwrap_or_default(),
        organizations: subject.iter_organization().map(text).collect(),
    })
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
