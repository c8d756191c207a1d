//! PodCertificateRequests: those to `kubernetes.io/kube-apiserver-client-pod` are signed, and old ones of any signer are
//! removed.
//!
//! In: PodCertificateRequests, the pods that they are for, and [`Keys`](crate::Keys), who signs. Out: certificates by which
//! pods are known to the API server as their service accounts, denials, deletions.
//! Differs from upstream: it names this signer, but nobody there has made it yet (KEP-4317).

use crate::{Context, PodSubject, ownership};
use client::{Change, Queue};
use jiff::Timestamp;
use k8s_openapi::api::certificates::v1beta1::{PodCertificateRequest, PodCertificateRequestStatus};
use k8s_openapi::api::core::v1::{Pod, ServiceAccount};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};
use kube::ResourceExt;
use kube::api::{Api, DeleteParams, PostParams, Preconditions};
use std::sync::Arc;
use std::time::Duration;
use x509_parser::prelude::{FromDer, X509Certificate, X509CertificationRequest};

pub const SIGNER: &str = "kubernetes.io/kube-apiserver-client-pod";

/// Every request has been answered by then, or never will be.
const KEPT_SECONDS: i64 = 30 * 60;
/// Certificates begin a little before they are made, for clocks that disagree; the API server takes five minutes.
const BACKDATE_SECONDS: i64 = 60;
const LIFE_SECONDS_MIN: i64 = 3600;
const LIFE_SECONDS_MAX: i64 = 86400;

#[derive(Debug, PartialEq)]
pub enum Step {
    Nothing,
    Issue {
        /// `SubjectPublicKeyInfo`
        key: Vec<u8>,
        subject: PodSubject,
        /// Unix seconds.
        not_before: i64,
        not_after: i64,
    },
    /// For ever: reason and message.
    Deny(&'static str, String),
    Fail(&'static str, String),
}

/// What the signer does about a request. `pod` and `account` are those that it names, if they are there.
pub fn plan(request: &PodCertificateRequest, pod: Option<&Pod>, account: Option<&ServiceAccount>, now: i64) -> Step {
    let spec = &request.spec;
    if spec.signer_name != SIGNER || answered(request) || request.metadata.deletion_timestamp.is_some() {
        return Step::Nothing;
    }
    if let Some(key) = spec.unverified_user_annotations.iter().flatten().map(|(k, _)| k).next() {
        return Step::Deny("InvalidUnverifiedUserAnnotations", format!("the signer knows no annotation {key:?}"));
    }
    let key = match key(request) {
        Ok(key) => key,
        Err(why) => return Step::Fail("MalformedRequest", why),
    };
    // A node may ask only for its own pods, which admission sees to; others who may create requests could ask for any.
    if let Err(why) = is_real(request, pod, account) {
        return Step::Fail("PodMismatch", why);
    }
    let asked = spec.max_expiration_seconds.map_or(LIFE_SECONDS_MAX, i64::from);
    let not_before = now - BACKDATE_SECONDS;
    let namespace = request.namespace().unwrap_or_default();
    Step::Issue {
        key,
        subject: PodSubject {
            user: format!("system:serviceaccount:{namespace}:{}", spec.service_account_name),
            groups: vec!["system:serviceaccounts".into(), format!("system:serviceaccounts:{namespace}")],
            uid: spec.service_account_uid.clone(),
        },
        not_before,
        not_after: not_before + asked.clamp(LIFE_SECONDS_MIN, LIFE_SECONDS_MAX),
    }
}

fn answered(request: &PodCertificateRequest) -> bool {
    let conditions = request.status.as_ref().and_then(|s| s.conditions.as_deref()).unwrap_or_default();
    conditions.iter().any(|c| ["Issued", "Denied", "Failed"].contains(&c.type_.as_str()))
}

/// The key that the request is for. The API server has checked that the node has its private half.
fn key(request: &PodCertificateRequest) -> Result<Vec<u8>, String> {
    let stub = &request.spec.stub_pkc_s10_request.0;
    if stub.is_empty() {
        return request.spec.pkix_public_key.as_ref().map(|k| k.0.clone()).ok_or_else(|| "it brings no key".into());
    }
    let (_, parsed) = X509CertificationRequest::from_der(stub).map_err(|e| e.to_string())?;
    Ok(parsed.certification_request_info.subject_pki.raw.to_vec())
}

fn is_real(request: &PodCertificateRequest, pod: Option<&Pod>, account: Option<&ServiceAccount>) -> Result<(), String> {
    let spec = &request.spec;
    let pod = pod.filter(|p| p.metadata.uid.as_ref() == Some(&spec.pod_uid));
    let of_pod = pod.and_then(|p| p.spec.as_ref()).ok_or("there is no such pod")?;
    if of_pod.node_name.as_ref() != Some(&spec.node_name) {
        return Err(format!("the pod doesn't run on node {:?}", spec.node_name));
    }
    if of_pod.service_account_name.as_ref() != Some(&spec.service_account_name) {
        return Err(format!("the pod doesn't run as service account {:?}", spec.service_account_name));
    }
    match account.is_some_and(|a| a.metadata.uid.as_ref() == Some(&spec.service_account_uid)) {
        true => Ok(()),
        false => Err("there is no such service account".into()),
    }
}

/// `Issued`, with the times that are in the certificate.
pub fn issued(chain: String, now: Timestamp) -> Result<PodCertificateRequestStatus, String> {
    let (_, block) = x509_parser::pem::parse_x509_pem(chain.as_bytes()).map_err(|e| e.to_string())?;
    let (_, leaf) = X509Certificate::from_der(&block.contents).map_err(|e| e.to_string())?;
    let (begin, end) = (leaf.validity().not_before.timestamp(), leaf.validity().not_after.timestamp());
    let at = |unix: i64| Timestamp::from_second(unix).map(Time).map_err(|e| e.to_string());
    Ok(PodCertificateRequestStatus {
        conditions: Some(vec![condition("Issued", "Issued", "", now)]),
        not_before: Some(at(begin)?),
        not_after: Some(at(end)?),
        // When a third of its life is left, as clients of the signing API do.
        begin_refresh_at: Some(at(end - (end - begin) / 3)?),
        certificate_chain: Some(chain),
    })
}

fn condition(kind: &str, reason: &str, message: &str, now: Timestamp) -> Condition {
    Condition {
        type_: kind.into(),
        status: "True".into(),
        reason: reason.into(),
        message: message.into(),
        last_transition_time: Time(Timestamp::from_second(now.as_second()).unwrap_or(now)),
        observed_generation: None,
    }
}

pub async fn run_signer(context: Context) {
    let requests = context.informers.of::<PodCertificateRequest>();
    let pods = context.informers.of::<Pod>();
    let accounts = context.informers.of::<ServiceAccount>();
    let queue = Queue::new();
    let q = queue.clone();
    requests.on_change(move |c| {
        if !matches!(c, Change::Deleted(_)) && c.object().spec.signer_name == SIGNER {
            q.add(client::informer::key_of(&**c.object()));
        }
    });
    requests.wait_synced().await;
    pods.wait_synced().await;
    accounts.wait_synced().await;
    let client = context.client("pod-certificate-signer");
    let keys = context.keys.clone();
    queue
        .run("pod-certificate-signer", 2, context.shutdown.clone(), move |key| {
            let (client, keys, requests) = (client.clone(), keys.clone(), requests.clone());
            let (pods, accounts) = (Arc::clone(&pods), Arc::clone(&accounts));
            async move {
                let Some(request) = requests.get(&key) else { return Ok::<_, kube::Error>(None) };
                let namespace = request.namespace().unwrap_or_default();
                let pod = pods.get(&format!("{namespace}/{}", request.spec.pod_name));
                let account = accounts.get(&format!("{namespace}/{}", request.spec.service_account_name));
                let now = Timestamp::now();
                let ended = |kind: &str, reason: &str, why: &str| PodCertificateRequestStatus {
                    conditions: Some(vec![condition(kind, reason, why, now)]),
                    ..Default::default()
                };
                let status = match plan(&request, pod.as_deref(), account.as_deref(), now.as_second()) {
                    Step::Nothing => return Ok(None),
                    // What was only just made may not have been heard of yet.
                    Step::Fail("PodMismatch", _) if age_seconds(&request, now) < 5 => {
                        return Ok(Some(Duration::from_secs(1)));
                    }
                    Step::Deny(reason, why) => ended("Denied", reason, &why),
                    Step::Fail(reason, why) => ended("Failed", reason, &why),
                    Step::Issue { key, subject, not_before, not_after } => {
                        let signed = keys.sign_pod_certificate(&key, &subject, not_before, not_after);
                        match signed.and_then(|chain| issued(chain, now)) {
                            Ok(status) => status,
                            Err(why) => ended("Failed", "SigningFailed", &why),
                        }
                    }
                };
                let new = PodCertificateRequest { status: Some(status), ..(*request).clone() };
                let api: Api<PodCertificateRequest> = Api::namespaced(client, &namespace);
                match api.replace_status(&request.name_any(), &PostParams::default(), &new).await {
                    Ok(written) => {
                        requests.remember(written);
                        Ok(None)
                    }
                    Err(e) if ownership::gone(&e) => Ok(None),
                    Err(e) => Err(e),
                }
            }
        })
        .await;
}

fn age_seconds(request: &PodCertificateRequest, now: Timestamp) -> i64 {
    request.metadata.creation_timestamp.as_ref().map_or(0, |t| now.as_second() - t.0.as_second())
}

pub async fn run_cleaner(context: Context) {
    let requests = context.informers.of::<PodCertificateRequest>();
    let queue = Queue::new();
    let q = queue.clone();
    requests.on_change(move |c| {
        if matches!(c, Change::Added(_)) {
            q.add(client::informer::key_of(&**c.object()));
        }
    });
    requests.wait_synced().await;
    let client = context.client("podcertificaterequestcleaner");
    queue
        .run("podcertificaterequestcleaner", 1, context.shutdown.clone(), move |key| {
            let (client, requests) = (client.clone(), requests.clone());
            async move {
                let Some(request) = requests.get(&key) else { return Ok::<_, kube::Error>(None) };
                let left = KEPT_SECONDS - age_seconds(&request, Timestamp::now());
                if left > 0 {
                    return Ok(Some(Duration::from_secs(left.unsigned_abs())));
                }
                let api: Api<PodCertificateRequest> = Api::namespaced(client, &request.namespace().unwrap_or_default());
                let preconditions = Preconditions { uid: request.uid(), resource_version: None };
                let options = DeleteParams::default().preconditions(preconditions);
                match api.delete(&request.name_any(), &options).await {
                    Ok(_) => Ok(None),
                    Err(e) if ownership::gone(&e) || ownership::code(&e) == Some(409) => Ok(None),
                    Err(e) => Err(e),
                }
            }
        })
        .await;
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    const NOW: i64 = 1_800_000_000;

    fn keys() -> Value {
        serde_json::from_str(include_str!("../../api/src/kinds/checks/certs/keys.json")).unwrap()
    }

    fn request(change: Value) -> PodCertificateRequest {
        let mut v = json!({"metadata": {"name": "r", "namespace": "d"}, "spec": {
            "signerName": SIGNER, "podName": "p", "podUID": "pu", "serviceAccountName": "s", "serviceAccountUID": "su",
            "nodeName": "n", "nodeUID": "nu", "maxExpirationSeconds": 7200, "stubPKCS10Request": keys()["P256"]["stub"]}});
        for (key, value) in change.as_object().unwrap() {
            v["spec"][key] = value.clone();
        }
        serde_json::from_value(v).unwrap()
    }

    fn world() -> (Pod, ServiceAccount) {
        let pod = json!({"metadata": {"name": "p", "namespace": "d", "uid": "pu"},
            "spec": {"nodeName": "n", "serviceAccountName": "s", "containers": []}});
        let account = json!({"metadata": {"name": "s", "namespace": "d", "uid": "su"}});
        (serde_json::from_value(pod).unwrap(), serde_json::from_value(account).unwrap())
    }

    #[test]
    fn pods_get_certificates_in_the_name_of_their_service_account() {
        let (pod, account) = world();
        let plan = |change: Value| plan(&request(change), Some(&pod), Some(&account), NOW);
        let Step::Issue { key, subject, not_before, not_after } = plan(json!({})) else { panic!("not issued") };
        let expected: k8s_openapi::ByteString = serde_json::from_value(keys()["P256"]["public"].clone()).unwrap();
        assert_eq!(key, expected.0);
        assert_eq!((not_before, not_after), (NOW - 60, NOW - 60 + 7200));
        assert_eq!(subject.user, "system:serviceaccount:d:s");
        assert_eq!(subject.groups, ["system:serviceaccounts", "system:serviceaccounts:d"]);
        assert_eq!(subject.uid, "su");
        let bare = json!({"stubPKCS10Request": "", "pkixPublicKey": keys()["Ed25519"]["public"]});
        assert!(matches!(plan(bare), Step::Issue { .. }));
        assert_eq!(plan(json!({"signerName": "example.com/other"})), Step::Nothing);
        assert!(matches!(
            plan(json!({"unverifiedUserAnnotations": {"a.b/c": "d"}})),
            Step::Deny("InvalidUnverifiedUserAnnotations", _)
        ));
        assert!(matches!(plan(json!({"stubPKCS10Request": keys()["P521"]["stub"]})), Step::Issue { .. }));
    }

    #[test]
    fn who_asks_for_what_is_not_real_gets_nothing() {
        let (pod, account) = world();
        for change in [
            json!({"podUID": "x"}),
            json!({"nodeName": "m"}),
            json!({"serviceAccountName": "t"}),
            json!({"serviceAccountUID": "x"}),
        ] {
            let step = plan(&request(change.clone()), Some(&pod), Some(&account), NOW);
            assert!(matches!(step, Step::Fail("PodMismatch", _)), "{change}: {step:?}");
        }
        assert!(matches!(plan(&request(json!({})), None, Some(&account), NOW), Step::Fail(..)));
        assert!(matches!(plan(&request(json!({})), Some(&pod), None, NOW), Step::Fail(..)));
        let mut done = request(json!({}));
        done.status = Some(
            issued(include_str!("../../api/src/kinds/checks/certs/leaf.pem").into(), Timestamp::UNIX_EPOCH).unwrap(),
        );
        assert_eq!(plan(&done, Some(&pod), Some(&account), NOW), Step::Nothing);
    }

    #[test]
    fn times_are_those_of_the_certificate() {
        let status =
            issued(include_str!("../../api/src/kinds/checks/certs/leaf.pem").into(), Timestamp::UNIX_EPOCH).unwrap();
        let shown = |t: &Option<Time>| t.as_ref().unwrap().0.to_string();
        assert_eq!(shown(&status.not_before), "2026-01-01T00:00:00Z");
        assert_eq!(shown(&status.begin_refresh_at), "2026-01-01T04:00:00Z");
        assert_eq!(shown(&status.not_after), "2026-01-01T06:00:00Z");
        assert!(issued("junk".into(), Timestamp::UNIX_EPOCH).is_err());
    }
}
