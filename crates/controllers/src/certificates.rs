//! Certificate signing requests: kubelets' own are approved, approved ones of the built-in signers are signed, old
//! ones are removed.
//!
//! In: CertificateSigningRequests, the answers to "may they?" for nodes, and [`Keys`](crate::Keys), who signs.
//! Out: approvals, certificates, `Failed` conditions, deletions. Upstream has three controllers for this
//! (csrapproving, csrsigning, csrcleaner) under one service account; here they are three outcomes of one [`plan`].

pub mod request;

use crate::{Context, ownership};
use api::validation::pem;
use client::{Change, Client, Queue};
use jiff::Timestamp;
use k8s_openapi::api::authorization::v1::{ResourceAttributes, SubjectAccessReview, SubjectAccessReviewSpec};
use k8s_openapi::api::certificates::v1::{CertificateSigningRequest, CertificateSigningRequestCondition};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use kube::ResourceExt;
use kube::api::{Api, DeleteParams, PostParams, Preconditions};
use request::{KUBELET_CLIENT, Request};
use std::sync::Arc;
use std::time::Duration;
use x509_parser::prelude::{FromDer, X509Certificate};

const NAME: &str = "certificate-controller";
const HOUR_SECONDS: i64 = 3600;
/// Requests that were answered are kept for an hour, those that nobody answered for a day.
const ANSWERED_SECONDS: i64 = HOUR_SECONDS;
const PENDING_SECONDS: i64 = 24 * HOUR_SECONDS;

/// Upstream's `--cluster-signing-duration`, and what no certificate is shorter than.
const LIFE_SECONDS_MAX: i64 = 365 * 24 * HOUR_SECONDS;
const LIFE_SECONDS_MIN: i64 = 600;
/// Certificates start a little before they are made, for clocks that disagree. Those that live shorter than
/// `SHORT_SECONDS` don't lose that time at their end.
const BACKDATE_SECONDS: i64 = 300;
const SHORT_SECONDS: i64 = 8 * HOUR_SECONDS;

#[derive(Debug, PartialEq)]
pub enum Step {
    /// Nothing until somebody changes it, or until this time (Unix seconds).
    Wait(Option<i64>),
    /// Approve, if its requester may `create` one of these subresources.
    Ask(Vec<Approval>),
    Sign {
        not_before: i64,
        not_after: i64,
    },
    /// The signer refuses, for this reason.
    Fail(String),
    Delete,
}

#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Approval {
    pub subresource: &'static str,
    pub message: &'static str,
}

const SELF_NODE: Approval = Approval {
    subresource: "selfnodeclient",
    message: "Auto approving self kubelet client certificate after SubjectAccessReview.",
};
const NODE: Approval = Approval {
    subresource: "nodeclient",
    message: "Auto approving kubelet client certificate after SubjectAccessReview.",
};

fn condition<'a>(csr: &'a CertificateSigningRequest, kind: &str) -> Option<&'a CertificateSigningRequestCondition> {
    csr.status.as_ref()?.conditions.as_ref()?.iter().find(|c| c.type_ == kind)
}

fn certificate(csr: &CertificateSigningRequest) -> Option<&[u8]> {
    csr.status.as_ref()?.certificate.as_ref().map(|c| c.0.as_slice()).filter(|c| !c.is_empty())
}

/// `now` in Unix seconds.
pub fn plan(csr: &CertificateSigningRequest, now: i64) -> Step {
    let deadline = deadline(csr);
    if deadline.is_some_and(|at| at <= now) {
        return Step::Delete;
    }
    let wait = Step::Wait(deadline);
    if certificate(csr).is_some() || condition(csr, "Denied").is_some() || condition(csr, "Failed").is_some() {
        return wait;
    }
    let usages = csr.spec.usages.as_deref().unwrap_or_default();
    let parsed = Request::parse(&csr.spec.request.0);
    if condition(csr, "Approved").is_none() {
        let Ok(request) = parsed else { return wait };
        if csr.spec.signer_name != KUBELET_CLIENT || request::kubelet_client(&request, usages).is_err() {
            return wait;
        }
        return Step::Ask(match csr.spec.username.as_deref() == Some(&request.common_name) {
            true => vec![SELF_NODE, NODE],
            false => vec![NODE],
        });
    }
    // Only what is for one of the built-in signers is judged; others have controllers of their own.
    match parsed.map(|r| request::check(&csr.spec.signer_name, &r, usages)) {
        Ok(None) => wait,
        Ok(Some(Ok(()))) => {
            let (not_before, not_after) = validity(csr.spec.expiration_seconds, now);
            Step::Sign { not_before, not_after }
        }
        Ok(Some(Err(why))) => Step::Fail(why),
        Err(why) if request::check(&csr.spec.signer_name, &Request::default(), usages).is_some() => Step::Fail(why),
        Err(_) => wait,
    }
}

/// When the object has outlived its use, in Unix seconds.
fn deadline(csr: &CertificateSigningRequest) -> Option<i64> {
    let seconds = |t: &Option<Time>| t.as_ref().map(|t| t.0.as_second());
    let conditions = csr.status.as_ref().and_then(|s| s.conditions.as_deref()).unwrap_or_default();
    let answered =
        |kind: &str| condition(csr, kind).and_then(|c| seconds(&c.last_update_time)).map(|at| at + ANSWERED_SECONDS);
    let pending = conditions
        .is_empty()
        .then(|| seconds(&csr.metadata.creation_timestamp).map(|at| at + PENDING_SECONDS))
        .flatten();
    let issued = certificate(csr).and_then(|pem| {
        let text = String::from_utf8_lossy(pem);
        let block = pem::blocks(&text).next()?;
        let (_, cert) = X509Certificate::from_der(&block.der).ok()?;
        Some(cert.validity().not_after.timestamp())
    });
    let approved = certificate(csr).and_then(|_| answered("Approved"));
    [pending, approved, answered("Denied"), answered("Failed"), issued].into_iter().flatten().min()
}

/// Start and end, in Unix seconds.
fn validity(asked_seconds: Option<i32>, now: i64) -> (i64, i64) {
    let life = asked_seconds.map_or(LIFE_SECONDS_MAX, |s| i64::from(s).clamp(LIFE_SECONDS_MIN, LIFE_SECONDS_MAX));
    let backdate = if life < SHORT_SECONDS { 0 } else { BACKDATE_SECONDS };
    (now - BACKDATE_SECONDS, now + life - backdate)
}

fn with_condition(
    csr: &CertificateSigningRequest,
    kind: &str,
    reason: &str,
    message: &str,
    now: Timestamp,
) -> CertificateSigningRequest {
    let mut new = csr.clone();
    let now = Timestamp::from_second(now.as_second()).unwrap_or(now);
    new.status.get_or_insert_default().conditions.get_or_insert_default().push(CertificateSigningRequestCondition {
        type_: kind.into(),
        status: "True".into(),
        reason: Some(reason.into()),
        message: Some(message.into()),
        last_update_time: Some(Time(now)),
        last_transition_time: Some(Time(now)),
    });
    new
}

pub async fn run(context: Context) {
    let requests = context.informers.of::<CertificateSigningRequest>();
    let queue = Queue::new();
    let q = queue.clone();
    requests.on_change(move |c| {
        if !matches!(c, Change::Deleted(_)) {
            q.add(c.object().name_any());
        }
    });
    requests.wait_synced().await;
    let client = context.client(NAME);
    let keys = context.keys.clone();
    queue
        .run("certificates", 2, context.shutdown.clone(), move |name| {
            let (client, requests, keys) = (client.clone(), requests.clone(), keys.clone());
            async move {
                let Some(csr) = requests.get(&name) else { return Ok::<_, kube::Error>(None) };
                let now = Timestamp::now();
                match step(&client, &csr, keys.as_ref(), now).await {
                    Ok(Some(written)) => {
                        requests.remember(written);
                        Ok(None)
                    }
                    Ok(None) => {
                        Ok(deadline(&csr).map(|at| Duration::from_secs((at - now.as_second()).max(1).unsigned_abs())))
                    }
                    Err(e) if ownership::gone(&e) => Ok(None),
                    Err(e) => Err(e),
                }
            }
        })
        .await;
}

/// Does what the plan says; the object as written, if it was.
async fn step(
    client: &Client,
    csr: &Arc<CertificateSigningRequest>,
    keys: &dyn crate::Keys,
    now: Timestamp,
) -> Result<Option<CertificateSigningRequest>, kube::Error> {
    let api: Api<CertificateSigningRequest> = Api::all(client.clone());
    let name = csr.name_any();
    let options = PostParams::default();
    match plan(csr, now.as_second()) {
        Step::Wait(_) => Ok(None),
        Step::Delete => {
            let preconditions = Preconditions { uid: csr.uid(), resource_version: csr.resource_version() };
            api.delete(&name, &DeleteParams::default().preconditions(preconditions)).await?;
            tracing::info!(csr = name, "removed a certificate signing request that is of no more use");
            Ok(None)
        }
        Step::Ask(ways) => {
            for way in ways {
                if may(client, csr, way.subresource).await? {
                    let new = with_condition(csr, "Approved", "AutoApproved", way.message, now);
                    return api.replace_subresource("approval", &name, &options, &new).await.map(Some);
                }
            }
            Ok(None)
        }
        Step::Fail(why) => {
            let new = with_condition(csr, "Failed", "SignerValidationFailure", &why, now);
            api.replace_status(&name, &options, &new).await.map(Some)
        }
        Step::Sign { not_before, not_after } => {
            let pem = String::from_utf8_lossy(&csr.spec.request.0);
            let usages = csr.spec.usages.as_deref().unwrap_or_default();
            match keys.sign_certificate(&pem, usages, not_before, not_after) {
                Ok(signed) => {
                    let mut new = (**csr).clone();
                    new.status.get_or_insert_default().certificate = Some(k8s_openapi::ByteString(signed.into_bytes()));
                    api.replace_status(&name, &options, &new).await.map(Some)
                }
                Err(why) => {
                    tracing::warn!(csr = name, why, "a certificate could not be signed");
                    let new = with_condition(csr, "Failed", "SignerValidationFailure", &why, now);
                    api.replace_status(&name, &options, &new).await.map(Some)
                }
            }
        }
    }
}

/// Whether the requester may `create certificatesigningrequests/<subresource>`.
async fn may(client: &Client, csr: &CertificateSigningRequest, subresource: &str) -> Result<bool, kube::Error> {
    let review = SubjectAccessReview {
        spec: SubjectAccessReviewSpec {
            user: csr.spec.username.clone(),
            uid: csr.spec.uid.clone(),
            groups: csr.spec.groups.clone(),
            extra: csr.spec.extra.clone(),
            resource_attributes: Some(ResourceAttributes {
                group: Some("certificates.k8s.io".into()),
                resource: Some("certificatesigningrequests".into()),
                subresource: Some(subresource.into()),
                verb: Some("create".into()),
                version: Some("*".into()),
                ..ResourceAttributes::default()
            }),
            ..SubjectAccessReviewSpec::default()
        },
        ..SubjectAccessReview::default()
    };
    let answer = Api::<SubjectAccessReview>::all(client.clone()).create(&PostParams::default(), &review).await?;
    Ok(answer.status.is_some_and(|s| s.allowed))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    const NOW: i64 = 1_800_000_000;

    fn csr(spec: Value, status: Value) -> CertificateSigningRequest {
        use k8s_openapi::ByteString;
        let pem = ByteString(include_bytes!("../../apiserver/src/pki/jane.csr").to_vec());
        let mut v = json!({"metadata": {"name": "c", "creationTimestamp": time(NOW - 60)},
            "spec": {"request": pem, "signerName": "kubernetes.io/kube-apiserver-client", "usages": ["client auth"]},
            "status": status});
        for (key, value) in spec.as_object().unwrap() {
            v["spec"][key] = value.clone();
        }
        serde_json::from_value(v).unwrap()
    }

    fn time(unix: i64) -> String {
        Timestamp::from_second(unix).unwrap().to_string()
    }

    fn decided(kind: &str, at: i64) -> Value {
        json!({"conditions": [{"type": kind, "status": "True", "lastUpdateTime": time(at)}]})
    }

    #[test]
    fn approved_requests_are_signed_refused_or_left_to_others() {
        let plan = |spec: Value, status: Value| plan(&csr(spec, status), NOW);
        let year = LIFE_SECONDS_MAX - BACKDATE_SECONDS;
        let approved = || decided("Approved", NOW - 5);
        let sign = |life: i64| Step::Sign { not_before: NOW - 300, not_after: NOW + life };
        assert_eq!(plan(json!({}), json!({})), Step::Wait(Some(NOW - 60 + PENDING_SECONDS)));
        assert_eq!(plan(json!({}), approved()), sign(year));
        assert_eq!(plan(json!({"expirationSeconds": 3600}), approved()), sign(3600));
        assert_eq!(plan(json!({"expirationSeconds": 36000}), approved()), sign(36000 - 300));
        assert_eq!(plan(json!({"expirationSeconds": 1}), approved()), sign(600));
        assert_eq!(plan(json!({"expirationSeconds": i32::MAX}), approved()), sign(year));
        assert_eq!(plan(json!({"signerName": "example.org/x"}), approved()), Step::Wait(None));
        assert_eq!(
            plan(json!({"usages": ["server auth"]}), approved()),
            Step::Fail("invalid usage for client certificate: server auth".into())
        );
        assert!(matches!(plan(json!({"request": "anVuaw=="}), approved()), Step::Fail(_)));
        let mut both = approved();
        both["conditions"].as_array_mut().unwrap().push(json!({"type": "Failed", "status": "True"}));
        assert_eq!(plan(json!({}), both), Step::Wait(None));
    }

    #[test]
    fn answered_requests_go_after_an_hour_and_forgotten_ones_after_a_day() {
        for (status, age, gone) in [
            (json!({}), PENDING_SECONDS - 1, false),
            (json!({}), PENDING_SECONDS, true),
            (decided("Denied", NOW - 3599), 0, false),
            (decided("Denied", NOW - 3600), 0, true),
            (decided("Failed", NOW - 3600), 0, true),
            // Approved but not yet signed: its signer may take its time.
            (decided("Approved", NOW - 7200), PENDING_SECONDS * 2, false),
        ] {
            let mut c = csr(json!({"signerName": "example.org/x"}), status.clone());
            c.metadata.creation_timestamp = Some(Time(Timestamp::from_second(NOW - age).unwrap()));
            assert_eq!(plan(&c, NOW) == Step::Delete, gone, "{status} {age}");
        }
        let mut signed = decided("Approved", NOW - 3600);
        signed["certificate"] = serde_json::to_value(k8s_openapi::ByteString(b"x".to_vec())).unwrap();
        assert_eq!(plan(&csr(json!({}), signed.clone()), NOW), Step::Delete);
        signed["conditions"][0]["lastUpdateTime"] = time(NOW - 60).into();
        assert_eq!(plan(&csr(json!({}), signed), NOW), Step::Wait(Some(NOW - 60 + 3600)));
    }

    #[test]
    fn only_kubelets_are_approved_unasked() {
        let pem = k8s_openapi::ByteString(include_bytes!("certificates/node1.csr").to_vec());
        let spec = |username: &str, usages: &[&str]| json!({"request": pem, "signerName": KUBELET_CLIENT, "username": username, "usages": usages});
        let full = ["client auth", "digital signature"];
        for (spec, expected) in [
            (spec("system:node:node1", &full), Step::Ask(vec![SELF_NODE, NODE])),
            (spec("system:bootstrap:abcdef", &full), Step::Ask(vec![NODE])),
            (spec("system:node:node1", &["client auth"]), Step::Wait(Some(NOW - 60 + PENDING_SECONDS))),
        ] {
            assert_eq!(plan(&csr(spec, json!({})), NOW), expected);
        }
    }
}
