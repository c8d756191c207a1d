//! ImagePolicyWebhook: another server says whether a pod's images may run. Off by default.
//!
//! In: a pod, or containers added to debug it. Out: refused or let through, as the server answers an `ImageReview`
//! (`imagepolicy.k8s.io/v1alpha1`). Answers are remembered for a while. Configuration: `imagePolicy` with
//! `kubeConfigFile`, `allowTTL`, `denyTTL` (seconds) and `defaultAllow`. Source: "Admission Control in Kubernetes",
//! ImagePolicyWebhook.

use super::{Attributes, Operation, Plugin, forbidden};
use crate::authn::webhook::post_with_retries;
use crate::expiring::{Expiring, Hash};
use crate::outbound::{self, Target};
use async_trait::async_trait;
use meta::status::Status;
use serde_json::{Map, Value, json};
use sha2::{Digest, Sha256};
use std::path::Path;
use std::time::Duration;

const REMEMBERED_MAX: usize = 1024;
const TIMEOUT: Duration = Duration::from_secs(30);
const ALLOW_TTL_SECONDS: i64 = 300;
const DENY_TTL_SECONDS: i64 = 30;
const TTL_SECONDS_MAX: i64 = 1800;
const AUDIT: &str = "imagepolicywebhook.image-policy.k8s.io";

struct Options {
    target: Target,
    /// Zero: not remembered.
    allow_ttl: Duration,
    deny_ttl: Duration,
    default_allow: bool,
}

impl Options {
    fn read(configuration: &Value) -> Result<Options, String> {
        let c = &configuration["imagePolicy"];
        let file = c["kubeConfigFile"].as_str().filter(|f| !f.is_empty());
        let file = file.ok_or("imagePolicy.kubeConfigFile: Required value")?;
        Ok(Options {
            target: Target::from_kubeconfig(Path::new(file)).map_err(|e| e.to_string())?,
            allow_ttl: ttl(c, "allowTTL", ALLOW_TTL_SECONDS)?,
            deny_ttl: ttl(c, "denyTTL", DENY_TTL_SECONDS)?,
            default_allow: c["defaultAllow"] == true,
        })
    }
}

/// Seconds: 0 is the default, -1 is never.
fn ttl(configuration: &Value, key: &str, default: i64) -> Result<Duration, String> {
    match configuration[key].as_i64().unwrap_or(0) {
        0 => Ok(Duration::from_secs(default.unsigned_abs())),
        -1 => Ok(Duration::ZERO),
        n @ 1..=TTL_SECONDS_MAX => Ok(Duration::from_secs(n.unsigned_abs())),
        n => Err(format!("imagePolicy.{key}: Invalid value: {n}: must be between 1 and {TTL_SECONDS_MAX} seconds")),
    }
}

#[derive(Clone, Debug)]
struct Verdict {
    allowed: bool,
    reason: String,
    audit: Map<String, Value>,
}

pub struct ImagePolicyWebhook {
    options: Options,
    client: outbound::Client,
    remembered: Expiring<Verdict>,
}

impl ImagePolicyWebhook {
    pub fn new(configuration: &Value, client: outbound::Client) -> Result<ImagePolicyWebhook, String> {
        Ok(ImagePolicyWebhook {
            options: Options::read(configuration)?,
            client,
            remembered: Expiring::new(REMEMBERED_MAX),
        })
    }

    async fn verdict(&self, spec: &Value) -> Result<Verdict, String> {
        let question: Hash = Sha256::digest(spec.to_string().as_bytes()).into();
        if let Some(known) = self.remembered.get(&question) {
            return Ok(known);
        }
        let review = json!({
            "apiVersion": "imagepolicy.k8s.io/v1alpha1", "kind": "ImageReview", "metadata": {}, "spec": spec,
            "status": {"allowed": false},
        });
        let answer = post_with_retries(&self.client, &self.options.target, &review, TIMEOUT).await?;
        let status = &answer["status"];
        let verdict = Verdict {
            allowed: status["allowed"] == true,
            reason: status["reason"].as_str().unwrap_or_default().to_string(),
            audit: status["auditAnnotations"].as_object().cloned().unwrap_or_default(),
        };
        let ttl = if verdict.allowed { self.options.allow_ttl } else { self.options.deny_ttl };
        self.remembered.put(question, verdict.clone(), ttl);
        Ok(verdict)
    }
}

/// What the server is shown of a pod: images, where, and the annotations that are meant for it.
fn spec_of(a: &Attributes<'_>) -> Value {
    let lists: &[&str] = match a.subresource {
        "" => &["containers", "initContainers"],
        _ => &["ephemeralContainers"],
    };
    let containers: Vec<Value> = lists
        .iter()
        .flat_map(|list| a.object["spec"][*list].as_array().into_iter().flatten())
        .map(|c| json!({"image": c["image"]}))
        .collect();
    let annotations: Map<String, Value> = a.object["metadata"]["annotations"]
        .as_object()
        .into_iter()
        .flatten()
        .filter(|(key, _)| key.contains(".image-policy.k8s.io/"))
        .map(|(key, v)| (key.clone(), v.clone()))
        .collect();
    let mut spec = json!({"containers": containers, "namespace": a.namespace});
    if !annotations.is_empty() {
        spec["annotations"] = annotations.into();
    }
    spec
}

#[async_trait]
impl Plugin for ImagePolicyWebhook {
    fn name(&self) -> &'static str {
        "ImagePolicyWebhook"
    }

    async fn validate(&self, a: &Attributes<'_>) -> Result<(), Status> {
        let asked = a.is_main("", "pods") || a.is("", "pods", "ephemeralcontainers");
        if !asked || !matches!(a.operation, Operation::Create | Operation::Update) {
            return Ok(());
        }
        match self.verdict(&spec_of(a)).await {
            Ok(verdict) => {
                for (key, v) in &verdict.audit {
                    a.audit.annotate(format!("{AUDIT}/{key}"), v.as_str().unwrap_or_default());
                }
                match (verdict.allowed, verdict.reason.as_str()) {
                    (true, _) => Ok(()),
                    (false, "") => Err(forbidden(a, "one or more images rejected by webhook backend")),
                    (false, why) => {
                        Err(forbidden(a, format!("image policy webhook backend denied one or more images: {why}")))
                    }
                }
            }
            Err(why) if self.options.default_allow => {
                tracing::warn!(why, "the image policy webhook gave no answer; failing open");
                a.audit.annotate(format!("{AUDIT}/failed-open"), "true");
                Ok(())
            }
            Err(why) => Err(forbidden(a, why)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::admission::testing::Write;
    use crate::outbound::testing::Peer;
    use crate::outbound::{Trust, Url};
    use crate::testing::reader;
    use bytes::Bytes;
    use http::{Request, Response};
    use std::sync::Arc;
    use std::sync::atomic::{AtomicUsize, Ordering};

    fn pod(image: &str) -> Value {
        json!({"apiVersion": "v1", "kind": "Pod",
            "metadata": {"name": "p", "annotations": {"a.image-policy.k8s.io/ticket": "7", "other": "x"}},
            "spec": {"containers": [{"name": "c", "image": image}], "initContainers": [{"name": "i", "image": "init"}]}})
    }

    async fn plugin(port: u16, ca: &str, default_allow: bool) -> ImagePolicyWebhook {
        let url = Url::new(true, "127.0.0.1", port, "/");
        let target = Target::new(url).trusting(Trust::Ca(ca.as_bytes().into()));
        let options = Options { target, allow_ttl: Duration::from_secs(60), deny_ttl: Duration::ZERO, default_allow };
        let client = outbound::Client::new(reader(&[]).await);
        ImagePolicyWebhook { options, client, remembered: Expiring::new(8) }
    }

    #[tokio::test]
    async fn another_server_decides() {
        let asked = Arc::new(AtomicUsize::new(0));
        let count = asked.clone();
        let peer = Peer::start(&["127.0.0.1"], move |r: Request<Bytes>| {
            count.fetch_add(1, Ordering::Relaxed);
            let review: Value = serde_json::from_slice(r.body()).unwrap();
            assert_eq!((&review["kind"], &review["spec"]["namespace"]), (&json!("ImageReview"), &json!("d")));
            let status = match review["spec"]["containers"][0]["image"].as_str() {
                Some("good") => {
                    assert_eq!(review["spec"]["containers"], json!([{"image": "good"}, {"image": "init"}]));
                    assert_eq!(review["spec"]["annotations"], json!({"a.image-policy.k8s.io/ticket": "7"}));
                    json!({"allowed": true})
                }
                Some("debug") => json!({"allowed": true}),
                Some("bad") => json!({"allowed": false, "reason": "not signed"}),
                _ => json!({}),
            };
            let body = Bytes::from(json!({"status": status}).to_string());
            async move { Response::new(body) }
        })
        .await;
        let p = plugin(peer.port, &peer.ca_pem, false).await;
        for _ in 0..3 {
            Write::create("", "pods", "d", pod("good")).validate(&p).await.unwrap();
        }
        assert_eq!(asked.load(Ordering::Relaxed), 1, "answers are remembered");
        let denied = "image policy webhook backend denied one or more images: not signed";
        for (image, why) in [("bad", denied), ("none", "one or more images rejected by webhook backend")] {
            let e = Write::create("", "pods", "d", pod(image)).validate(&p).await.unwrap_err();
            assert_eq!((e.code, e.message), (403, format!("pods \"p\" is forbidden: {why}")));
        }
        let mut new = pod("bad");
        new["spec"]["ephemeralContainers"] = json!([{"name": "e", "image": "debug"}]);
        let debugged = Write::update("", "pods", "d", pod("bad"), new).sub("ephemeralcontainers", "p");
        debugged.validate(&p).await.unwrap();
        // Not asked about.
        Write::update("", "pods", "d", pod("bad"), pod("bad")).sub("status", "p").validate(&p).await.unwrap();
        Write::delete("", "pods", "d", pod("bad")).validate(&p).await.unwrap();
    }

    #[tokio::test]
    async fn no_answer_is_judged_by_the_configuration() {
        let peer = Peer::start(&["127.0.0.1"], |_: Request<Bytes>| async {
            Response::builder().status(403).body(Bytes::from_static(b"no")).unwrap()
        })
        .await;
        let open = plugin(peer.port, &peer.ca_pem, true).await;
        Write::create("", "pods", "d", pod("good")).validate(&open).await.unwrap();
        let closed = plugin(peer.port, &peer.ca_pem, false).await;
        let e = Write::create("", "pods", "d", pod("good")).validate(&closed).await.unwrap_err();
        assert_eq!(e.code, 403);
    }

    #[test]
    fn configurations_are_checked() {
        let read = |c: Value| Options::read(&json!({"imagePolicy": c})).err().unwrap_or_default();
        assert_eq!(read(json!({})), "imagePolicy.kubeConfigFile: Required value");
        assert!(read(json!({"kubeConfigFile": "/no/such/file"})).contains("/no/such/file"));
        let of = |n: i64| ttl(&json!({"denyTTL": n}), "denyTTL", DENY_TTL_SECONDS);
        assert_eq!(
            (of(0), of(-1), of(60)),
            (Ok(Duration::from_secs(30)), Ok(Duration::ZERO), Ok(Duration::from_secs(60)))
        );
        assert!(of(1801).is_err() && of(-2).is_err());
    }
}
