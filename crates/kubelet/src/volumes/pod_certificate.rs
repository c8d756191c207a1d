//! `podCertificate` sources of projected volumes: a key that the node makes, and a certificate that a signer gives for it,
//! asked for with a PodCertificateRequest and asked for anew when the signer says so.
//!
//! In: the pod, what was issued before, the API. Out: keys and chains (PEM). They are kept in memory alone, so after a
//! restart of the kubelet they are made anew, as upstream does.

pub mod key;

use super::{SetUpError, VolumeError};
use futures::StreamExt;
use jiff::{SignedDuration, Timestamp};
use k8s_openapi::ByteString;
use k8s_openapi::api::certificates::v1beta1::{PodCertificateRequest, PodCertificateRequestSpec};
use k8s_openapi::api::core::v1::{Node, Pod, PodCertificateProjection, ServiceAccount};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::OwnerReference;
use kube::api::{ObjectMeta, PostParams};
use kube::runtime::{WatchStreamExt, watcher};
use kube::{Api, Client, ResourceExt};
use std::collections::BTreeMap;
use std::time::Duration;

/// How long one set-up waits for the signer; the next one goes on waiting.
const ANSWER: Duration = Duration::from_secs(10);
const RETRY: SignedDuration = SignedDuration::from_secs(30);
/// So that pods that began together don't ask together for ever.
const JITTER_SECONDS_MAX: i64 = 300;

#[derive(Clone, Debug, PartialEq)]
pub struct Issued {
    pub key_pem: String,
    pub chain_pem: String,
    pub issued_at: Timestamp,
    pub refresh_at: Timestamp,
    pub ends_at: Timestamp,
}

/// A request that hasn't been answered.
#[derive(Clone, Debug)]
struct Pending {
    name: String,
    key_pem: String,
}

/// What is known of one source.
#[derive(Clone, Debug, Default)]
pub struct Record {
    pub issued: Option<Issued>,
    pending: Option<Pending>,
    /// The signer said no. It wouldn't think otherwise the next time.
    refused: Option<String>,
}

impl Record {
    fn is_due(&self, now: Timestamp) -> bool {
        self.issued.as_ref().is_none_or(|i| super::is_due(i.issued_at, i.refresh_at, now))
    }

    /// A renewal failed: it is tried again after a while. Whether what is there can be used until then.
    fn put_off(&mut self, now: Timestamp) -> bool {
        let Some(old) = &mut self.issued else { return false };
        old.refresh_at = now.checked_add(RETRY).unwrap_or(now);
        old.ends_at > now
    }
}

/// (volume, index of the source) → its certificate.
pub type Certificates = BTreeMap<(String, usize), Record>;

pub fn wanted(pod: &Pod) -> Vec<((String, usize), &PodCertificateProjection)> {
    let volumes = pod.spec.iter().flat_map(|s| s.volumes.iter().flatten());
    volumes
        .flat_map(|v| {
            let sources = v.projected.iter().flat_map(|p| p.sources.iter().flatten()).enumerate();
            sources.filter_map(|(i, s)| Some(((v.name.clone(), i), s.pod_certificate.as_ref()?)))
        })
        .collect()
}

/// Sees to it that every source has a certificate that is good for a while; one that is due stays while it lasts. The
/// error is of the first source that has none to use; it holds up no other source.
pub async fn refresh(
    client: &Client,
    node: &str,
    pod: &Pod,
    certificates: &mut Certificates,
    now: Timestamp,
) -> Result<(), SetUpError> {
    let mut failure = None;
    for (at, source) in wanted(pod) {
        let record = certificates.entry(at.clone()).or_default();
        if !record.is_due(now) {
            continue;
        }
        let result = match &record.refused {
            Some(why) => Err(why.clone()),
            None => obtain(client, node, pod, source, record, now).await,
        };
        if let Err(why) = result {
            if record.put_off(now) {
                tracing::warn!(pod = pod.name_any(), volume = at.0, why, "a certificate could not be renewed yet");
            } else {
                failure.get_or_insert(SetUpError { volume: at.0, source: VolumeError::Certificate(why) });
            }
        }
    }
    failure.map_or(Ok(()), Err)
}

/// Asks, unless that was done before, and waits a while for the answer.
async fn obtain(
    client: &Client,
    node: &str,
    pod: &Pod,
    source: &PodCertificateProjection,
    record: &mut Record,
    now: Timestamp,
) -> Result<(), String> {
    let namespace = pod.metadata.namespace.as_deref().unwrap_or("default");
    let api: Api<PodCertificateRequest> = Api::namespaced(client.clone(), namespace);
    let pending = match &record.pending {
        Some(pending) => pending.clone(),
        None => {
            let made = ask(client, &api, node, pod, source).await?;
            record.pending = Some(made.clone());
            made
        }
    };
    match tokio::time::timeout(ANSWER, answer(&api, node, &pending.name)).await {
        Err(_) => Err("credential bundle is not issued yet".into()),
        Ok(None) => {
            record.pending = None;
            Err(format!("PodCertificateRequest \"{namespace}/{}\" appears to have been deleted", pending.name))
        }
        Ok(Some(request)) => {
            record.pending = None;
            let jitter = SignedDuration::from_secs(rand::random_range(0..JITTER_SECONDS_MAX));
            match judge(&request, pending.key_pem, jitter, now) {
                Ok(issued) => {
                    record.issued = Some(issued);
                    Ok(())
                }
                Err(why) => {
                    record.refused = Some(why.clone());
                    Err(why)
                }
            }
        }
    }
}

async fn ask(
    client: &Client,
    api: &Api<PodCertificateRequest>,
    node: &str,
    pod: &Pod,
    source: &PodCertificateProjection,
) -> Result<Pending, String> {
    let namespace = pod.metadata.namespace.as_deref().unwrap_or("default");
    let account = pod
        .spec
        .as_ref()
        .and_then(|s| s.service_account_name.clone())
        .filter(|n| !n.is_empty())
        .unwrap_or_else(|| "default".into());
    let accounts: Api<ServiceAccount> = Api::namespaced(client.clone(), namespace);
    let nodes: Api<Node> = Api::all(client.clone());
    let (live_account, live_node) = tokio::join!(accounts.get_metadata(&account), nodes.get_metadata(node));
    let live_account =
        live_account.map_err(|e| format!("while fetching service account: {}", crate::api_message(&e)))?;
    let live_node = live_node.map_err(|e| format!("while getting node object: {}", crate::api_message(&e)))?;
    // Last, because it is what costs: an RSA key takes seconds.
    let kind = source.key_type.clone();
    let made = tokio::task::spawn_blocking(move || key::generate(&kind))
        .await
        .map_err(|e| e.to_string())?
        .map_err(|e| format!("while generating keypair: {e}"))?;
    let (pod_name, pod_uid) = (pod.name_any(), pod.uid().unwrap_or_default());
    let request = PodCertificateRequest {
        metadata: ObjectMeta {
            generate_name: Some("req-".into()),
            owner_references: Some(vec![OwnerReference {
                api_version: "v1".into(),
                kind: "Pod".into(),
                name: pod_name.clone(),
                uid: pod_uid.clone(),
                ..OwnerReference::default()
            }]),
            ..ObjectMeta::default()
        },
        spec: PodCertificateRequestSpec {
            signer_name: source.signer_name.clone(),
            pod_name,
            pod_uid,
            service_account_name: account,
            service_account_uid: live_account.uid().unwrap_or_default(),
            node_name: node.to_string(),
            node_uid: live_node.uid().unwrap_or_default(),
            max_expiration_seconds: source.max_expiration_seconds,
            stub_pkc_s10_request: ByteString(made.request_der),
            unverified_user_annotations: source.user_annotations.clone(),
            ..PodCertificateRequestSpec::default()
        },
        status: None,
    };
    let created = api
        .create(&PostParams::default(), &request)
        .await
        .map_err(|e| format!("while creating on API: {}", crate::api_message(&e)))?;
    Ok(Pending { name: created.name_any(), key_pem: made.key_pem })
}

/// The request once it is answered; `None` when it is gone.
async fn answer(api: &Api<PodCertificateRequest>, node: &str, name: &str) -> Option<PodCertificateRequest> {
    // Nodes may watch requests of their own alone, and must say so.
    let config = watcher::Config::default().fields(&format!("spec.nodeName={node},metadata.name={name}"));
    let mut events = std::pin::pin!(watcher(api.clone(), config).default_backoff());
    let mut listed = None;
    while let Some(event) = events.next().await {
        let request = match event {
            Ok(watcher::Event::Init) => {
                listed = None;
                continue;
            }
            Ok(watcher::Event::InitApply(request)) => {
                listed = Some(request);
                continue;
            }
            Ok(watcher::Event::InitDone) => listed.take()?,
            Ok(watcher::Event::Apply(request)) => request,
            Ok(watcher::Event::Delete(_)) => return None,
            Err(error) => {
                tracing::debug!(%error, name, "watch of a PodCertificateRequest broke; it resumes");
                continue;
            }
        };
        if ended(&request).is_some() {
            return Some(request);
        }
    }
    None
}

/// How the request ended: `Issued`, `Denied` or `Failed`, with reason and message.
fn ended(request: &PodCertificateRequest) -> Option<(&str, &str, &str)> {
    let conditions = request.status.as_ref()?.conditions.as_deref()?;
    let c = conditions.iter().find(|c| ["Issued", "Denied", "Failed"].contains(&c.type_.as_str()))?;
    Some((&c.type_, &c.reason, &c.message))
}

/// What an answer means, in upstream's words where it is bad. The certificate is renewed by `jitter` later than the
/// signer says, but never so late that it would be over.
fn judge(
    request: &PodCertificateRequest,
    key_pem: String,
    jitter: SignedDuration,
    now: Timestamp,
) -> Result<Issued, String> {
    let status = request.status.as_ref();
    match ended(request) {
        Some(("Issued", ..)) => {
            let time = |t: Option<&k8s_openapi::apimachinery::pkg::apis::meta::v1::Time>| t.map(|t| t.0);
            let chain = status.and_then(|s| s.certificate_chain.as_deref()).unwrap_or_default();
            match (
                time(status.and_then(|s| s.begin_refresh_at.as_ref())),
                time(status.and_then(|s| s.not_after.as_ref())),
            ) {
                (Some(begin), Some(ends_at)) => {
                    let refresh_at = begin.checked_add(jitter).unwrap_or(begin).min(ends_at);
                    Ok(Issued { key_pem, chain_pem: clean(chain), issued_at: now, refresh_at, ends_at })
                }
                _ => Err("PodCertificateRequest was issued without times".into()),
            }
        }
        Some((kind, reason, message)) => {
            let how = if kind == "Denied" { "denied" } else { "failed" };
            Err(format!("PodCertificateRequest was permanently {how}: reason={reason:?} message={message:?}"))
        }
        None => Err("credential bundle is not issued yet".into()),
    }
}

/// The blocks alone: what stands between them, and their headers, are nobody's business.
pub fn clean(chain: &str) -> String {
    x509_parser::pem::Pem::iter_from_buffer(chain.as_bytes())
        .map_while(Result::ok)
        .map(|block| key::pem(&block.label, &block.contents))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn request(status: serde_json::Value) -> PodCertificateRequest {
        let stub = json!({"signerName": "", "podName": "", "podUID": "", "serviceAccountName": "", "serviceAccountUID": "",
            "nodeName": "", "nodeUID": "", "stubPKCS10Request": ""});
        serde_json::from_value(json!({"metadata": {}, "spec": stub, "status": status})).unwrap()
    }

    #[test]
    fn answers_are_certificates_or_reasons() {
        let condition = |kind: &str| json!([{"type": kind, "status": "True", "reason": "R", "message": "m", "lastTransitionTime": "2026-01-01T00:00:00Z"}]);
        let block = "-----BEGIN CERTIFICATE-----\nAAEC\n-----END CERTIFICATE-----\n";
        let issued = judge(
            &request(
                json!({"conditions": condition("Issued"), "certificateChain": format!("leaf:\n{block}root:\n{block}"),
                "beginRefreshAt": "2026-01-01T04:00:00Z", "notAfter": "2026-01-01T06:00:00Z"}),
            ),
            "KEY".into(),
            SignedDuration::ZERO,
            Timestamp::UNIX_EPOCH,
        )
        .unwrap();
        assert_eq!(issued.chain_pem, format!("{block}{block}"));
        assert_eq!((issued.key_pem.as_str(), issued.refresh_at.to_string().as_str()), ("KEY", "2026-01-01T04:00:00Z"));
        assert_eq!(
            judge(
                &request(json!({"conditions": condition("Denied")})),
                String::new(),
                SignedDuration::ZERO,
                Timestamp::UNIX_EPOCH
            )
            .unwrap_err(),
            "PodCertificateRequest was permanently denied: reason=\"R\" message=\"m\""
        );
        assert!(ended(&request(json!({}))).is_none());
    }

    #[test]
    fn renewal_begins_when_the_signer_says_and_goes_on_until_it_succeeds() {
        let t = |s: i64| Timestamp::from_second(1_000_000 + s).unwrap();
        let issued = |refresh: i64, ends: i64, jitter: i64| {
            let status = json!({"conditions": [{"type": "Issued", "status": "True", "reason": "", "message": "",
                    "lastTransitionTime": "2026-01-01T00:00:00Z"}], "certificateChain": "",
                "beginRefreshAt": t(refresh).to_string(), "notAfter": t(ends).to_string()});
            judge(&request(status), String::new(), SignedDuration::from_secs(jitter), t(0)).unwrap()
        };
        for (refresh, ends, jitter, want) in [(2_400, 3_600, 0, 2_400), (2_400, 3_600, 299, 2_699), (5, 10, 299, 10)] {
            assert_eq!(issued(refresh, ends, jitter).refresh_at, t(want), "{refresh} {ends} {jitter}");
        }

        let mut record = Record::default();
        assert!(record.is_due(t(0)) && !record.put_off(t(0)), "there is nothing to use");
        record.issued = Some(issued(2_400, 3_600, 100));
        // The last two: the clock was set back by less than a minute, and by more.
        for (now, due) in [(0, false), (2_499, false), (2_500, true), (9_999, true), (-59, false), (-61, true)] {
            assert_eq!(record.is_due(t(now)), due, "at {now}");
        }
        // (when a renewal fails, whether the old certificate is good until the next try)
        for (now, usable) in [(2_500, true), (3_599, true), (3_600, false), (4_000, false)] {
            assert_eq!(record.put_off(t(now)), usable, "at {now}");
            assert!(!record.is_due(t(now)) && record.is_due(t(now + 30)), "no try follows that at {now}");
        }
    }

    #[test]
    fn sources_are_known_by_volume_and_place() {
        let certificate = json!({"podCertificate": {"signerName": "a.b/c", "keyType": "ED25519", "keyPath": "k"}});
        let pod: Pod = serde_json::from_value(json!({"spec": {"containers": [], "volumes": [
            {"name": "a", "projected": {"sources": [{"secret": {"name": "s"}}, certificate]}},
            {"name": "b", "projected": {"sources": [certificate]}}, {"name": "c", "emptyDir": {}}]}}))
        .unwrap();
        let places: Vec<_> = wanted(&pod).into_iter().map(|(at, _)| at).collect();
        assert_eq!(places, [("a".to_string(), 1), ("b".to_string(), 0)]);
    }
}
