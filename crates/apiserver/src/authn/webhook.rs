//! Tokens that another server judges: it is sent a TokenReview.
//!
//! In: a kubeconfig that names the server, tokens. Out: the users that it names. Answers are remembered for a while,
//! failures to ask are not. Source: "Webhook Token Authentication".

use super::User;
use super::bearer::{TokenAuthenticator, TokenOutcome};
use crate::expiring::{Expiring, Hash};
use crate::outbound::{self, Target};
use async_trait::async_trait;
use serde_json::{Value, json};
use sha2::{Digest, Sha256};
use std::time::Duration;

const REMEMBERED_MAX: usize = 4096;
const TIMEOUT: Duration = Duration::from_secs(30);
/// Upstream's `DefaultRetryBackoff`.
const RETRY_FIRST: Duration = Duration::from_millis(500);
const RETRIES: u32 = 5;

pub struct Webhook {
    target: Target,
    client: outbound::Client,
    /// `v1` or `v1beta1`, of `authentication.k8s.io`.
    version: String,
    api_audiences: Vec<String>,
    ttl: Duration,
    remembered: Expiring<Answer>,
}

#[derive(Clone, Debug, PartialEq)]
enum Answer {
    User(User, Vec<String>),
    Nobody(String),
}

impl Webhook {
    pub fn new(
        target: Target,
        client: outbound::Client,
        version: &str,
        api_audiences: &[String],
        ttl: Duration,
    ) -> Webhook {
        Webhook {
            target,
            client,
            version: version.to_string(),
            api_audiences: api_audiences.to_vec(),
            ttl,
            remembered: Expiring::new(REMEMBERED_MAX),
        }
    }

    async fn ask(&self, token: &str, audiences: &[String]) -> Result<Answer, String> {
        let mut review = json!({
            "apiVersion": format!("authentication.k8s.io/{}", self.version), "kind": "TokenReview",
            "metadata": {}, "spec": {"token": token}, "status": {"user": {}},
        });
        if !audiences.is_empty() {
            review["spec"]["audiences"] = audiences.into();
        }
        let body = post_with_retries(&self.client, &self.target, &review, TIMEOUT).await?;
        Ok(read(&body, audiences, &self.api_audiences))
    }
}

/// POSTs until there is an answer that isn't about the server's own trouble.
pub async fn post_with_retries(
    client: &outbound::Client,
    target: &Target,
    body: &Value,
    timeout: Duration,
) -> Result<Value, String> {
    let mut wait = RETRY_FIRST;
    let attempts = async {
        for attempt in 1.. {
            let (why, transient) = match client.post(target, "", body, timeout).await {
                Ok(answer) if answer.is_success() => return answer.json(),
                Ok(answer) => {
                    let transient = matches!(answer.code, 429 | 500 | 502 | 503 | 504);
                    (answer.json().err().unwrap_or_default(), transient)
                }
                Err(e) => (e.to_string(), true),
            };
            if !transient || attempt >= RETRIES {
                return Err(why);
            }
            tokio::time::sleep(wait.mul_f64(1.0 + 0.2 * rand::random::<f64>())).await;
            wait = wait.mul_f64(1.5);
        }
        unreachable!("the loop ends by returning")
    };
    tokio::time::timeout(timeout, attempts).await.unwrap_or_else(|_| Err("context deadline exceeded".to_string()))
}

/// What the answer says, for the asked audiences.
fn read(review: &Value, asked: &[String], api_audiences: &[String]) -> Answer {
    let status = &review["status"];
    let texts = |v: &Value| -> Vec<String> {
        v.as_array().map(|a| a.iter().filter_map(|s| s.as_str().map(str::to_string)).collect()).unwrap_or_default()
    };
    let text = |v: &Value| v.as_str().unwrap_or_default().to_string();
    if status["authenticated"] != true {
        return Answer::Nobody(text(&status["error"]));
    }
    // A server that knows nothing of audiences speaks of those of the API server.
    let told = texts(&status["audiences"]);
    let good = if told.is_empty() { api_audiences.to_vec() } else { told };
    let matched: Vec<String> = asked.iter().filter(|a| good.contains(a)).cloned().collect();
    if matched.is_empty() && !asked.is_empty() {
        return Answer::Nobody(String::new());
    }
    let info = &status["user"];
    let user = User {
        name: text(&info["username"]),
        uid: text(&info["uid"]),
        groups: texts(&info["groups"]),
        extra: info["extra"]
            .as_object()
            .map(|m| m.iter().map(|(k, v)| (k.clone(), texts(v))).collect())
            .unwrap_or_default(),
    };
    Answer::User(user, matched)
}

#[async_trait]
impl TokenAuthenticator for Webhook {
    async fn authenticate_token(&self, token: &str, audiences: &[String]) -> TokenOutcome {
        let audiences = if audiences.is_empty() { &self.api_audiences } else { audiences };
        let mut hash = Sha256::new();
        for part in audiences.iter().map(String::as_str).chain([token]) {
            hash.update((part.len() as u64).to_be_bytes());
            hash.update(part);
        }
        let question: Hash = hash.finalize().into();
        let answer = match self.remembered.get(&question) {
            Some(known) => known,
            None => match self.ask(token, audiences).await {
                Ok(answer) => {
                    self.remembered.put(question, answer.clone(), self.ttl);
                    answer
                }
                Err(why) => {
                    tracing::warn!(why, "the token webhook could not be asked");
                    return TokenOutcome::Invalid(why);
                }
            },
        };
        match answer {
            Answer::User(user, audiences) => TokenOutcome::Authenticated { user, audiences },
            Answer::Nobody(why) if why.is_empty() => TokenOutcome::Skip,
            Answer::Nobody(why) => TokenOutcome::Invalid(why),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::outbound::testing::Peer;
    use crate::outbound::{Trust, Url};
    use crate::testing::reader;
    use bytes::Bytes;
    use http::{Request, Response};
    use std::sync::Arc;
    use std::sync::atomic::{AtomicUsize, Ordering};

    #[tokio::test]
    async fn a_server_is_asked_and_its_answers_are_remembered() {
        let asked = Arc::new(AtomicUsize::new(0));
        let counter = asked.clone();
        let peer = Peer::start(&["127.0.0.1"], move |r: Request<Bytes>| {
            let n = counter.fetch_add(1, Ordering::Relaxed);
            let review: Value = serde_json::from_slice(r.body()).unwrap();
            assert_eq!(review["apiVersion"], "authentication.k8s.io/v1");
            let status = match review["spec"]["token"].as_str() {
                Some("good") => {
                    json!({"authenticated": true, "user": {"username": "jane", "uid": "u", "groups": ["dev"],
                                       "extra": {"k": ["v"]}}})
                }
                Some("vault") => json!({"authenticated": true, "audiences": ["vault"], "user": {"username": "v"}}),
                Some("bad") => json!({"authenticated": false, "error": "worn out"}),
                _ => json!({"authenticated": false}),
            };
            let shaky = review["spec"]["token"] == "shaky" && n % 2 == 0;
            async move {
                let mut response = Response::new(Bytes::from(json!({"status": status}).to_string()));
                if shaky {
                    *response.status_mut() = http::StatusCode::SERVICE_UNAVAILABLE;
                }
                response
            }
        })
        .await;
        let target = Target::new(Url::new(true, "127.0.0.1", peer.port, "/authn"))
            .trusting(Trust::Ca(peer.ca_pem.as_bytes().into()));
        let client = outbound::Client::new(reader(&[]).await);
        let webhook = Webhook::new(target, client, "v1", &["https://k".to_string()], Duration::from_secs(60));
        let ask = async |token: &str, audiences: &[&str]| {
            let audiences: Vec<String> = audiences.iter().map(|a| a.to_string()).collect();
            match webhook.authenticate_token(token, &audiences).await {
                TokenOutcome::Authenticated { user, audiences } => {
                    format!("{} {:?} {:?} {audiences:?}", user.name, user.groups, user.extra)
                }
                TokenOutcome::Skip => "skip".to_string(),
                TokenOutcome::Invalid(why) => why,
            }
        };
        for _ in 0..3 {
            assert_eq!(ask("good", &[]).await, r#"jane ["dev"] {"k": ["v"]} ["https://k"]"#);
        }
        assert_eq!(asked.load(Ordering::Relaxed), 1);
        assert_eq!(ask("good", &["vault"]).await, "skip");
        assert_eq!(ask("vault", &["vault", "x"]).await, r#"v [] {} ["vault"]"#);
        assert_eq!(ask("vault", &[]).await, "skip");
        assert_eq!(ask("bad", &[]).await, "worn out");
        let before = asked.load(Ordering::Relaxed);
        assert_eq!((ask("bad", &[]).await.as_str(), asked.load(Ordering::Relaxed)), ("worn out", before));
        assert_eq!(ask("shaky", &[]).await, "skip");
    }
}
