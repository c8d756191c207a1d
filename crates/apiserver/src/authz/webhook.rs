//! The Webhook authorizer: another server decides. It is sent a SubjectAccessReview.
//!
//! In: a target, what to ask about (match conditions), how long answers are good. Out: its decisions; when it can't be
//! asked, what the failure policy says. Source: "Webhook Mode", KEP-3221.

use super::expressions::Condition;
use super::question::{request_of, spec_of};
use super::{Attributes, Authorizer, Decision, UserRules, aggregate};
use crate::authn::User;
use crate::authn::webhook::post_with_retries;
use crate::expiring::{Expiring, Hash};
use crate::metrics::figures::{
    AUTHORIZATION_CONDITION_DURATIONS, AUTHORIZATION_CONDITION_ERRORS, AUTHORIZATION_CONDITION_EXCLUSIONS,
    AUTHORIZATION_WEBHOOK_DURATIONS, AUTHORIZATION_WEBHOOKS, AUTHORIZATION_WEBHOOKS_FAILED_OPEN,
};
use crate::outbound::{self, Target};
use async_trait::async_trait;
use serde_json::{Value, json};
use sha2::{Digest, Sha256};
use std::time::{Duration, Instant};

const REMEMBERED_MAX: usize = 8192;
/// Questions longer than this aren't remembered: a client could fill memory with them.
const REMEMBERED_BYTES_MAX: usize = 10_000;

#[derive(Clone, Copy, Debug, PartialEq)]
pub enum FailurePolicy {
    NoOpinion,
    Deny,
}

#[derive(Clone, Debug)]
pub struct Options {
    pub name: String,
    pub target: Target,
    /// `v1` or `v1beta1`, of `authorization.k8s.io`.
    pub version: String,
    pub timeout: Duration,
    /// Zero: not remembered.
    pub authorized_ttl: Duration,
    pub unauthorized_ttl: Duration,
    pub failure_policy: FailurePolicy,
    pub conditions: Vec<Condition>,
}

pub struct Webhook {
    options: Options,
    client: outbound::Client,
    remembered: Expiring<Decision>,
}

impl Webhook {
    pub fn new(options: Options, client: outbound::Client) -> Webhook {
        Webhook { options, client, remembered: Expiring::new(REMEMBERED_MAX) }
    }

    /// Whether the webhook is to be asked at all. One condition that is false settles it, whatever the others say.
    fn applies(&self, a: &Attributes) -> Result<bool, String> {
        if self.options.conditions.is_empty() {
            return Ok(true);
        }
        let (request, started) = (request_of(a), Instant::now());
        let labels = format!("type=\"Webhook\",name=\"{}\"", self.options.name);
        let mut errors = Vec::new();
        let mut excluded = false;
        for condition in &self.options.conditions {
            match condition.holds(&request) {
                Ok(true) => {}
                Ok(false) => {
                    excluded = true;
                    break;
                }
                Err(e) => errors.push(e),
            }
        }
        AUTHORIZATION_CONDITION_DURATIONS.observe(labels.clone(), started.elapsed().as_secs_f64());
        if !errors.is_empty() {
            AUTHORIZATION_CONDITION_ERRORS.add(labels.clone());
        }
        match (excluded, errors.as_slice()) {
            (true, _) => {
                AUTHORIZATION_CONDITION_EXCLUSIONS.add(labels);
                Ok(false)
            }
            (false, []) => Ok(true),
            (false, errors) => Err(aggregate(errors)),
        }
    }

    /// The error is what the failure policy is for.
    async fn ask(&self, spec: &Value) -> Result<Decision, String> {
        let review = json!({
            "apiVersion": format!("authorization.k8s.io/{}", self.options.version),
            "kind": "SubjectAccessReview", "metadata": {}, "spec": spec, "status": {"allowed": false},
        });
        let started = Instant::now();
        let answer = post_with_retries(&self.client, &self.options.target, &review, self.options.timeout).await;
        let result = match &answer {
            Ok(_) => "success",
            Err(why) if why.ends_with("context deadline exceeded") => "timeout",
            Err(_) => "error",
        };
        let labels = format!("name=\"{}\",result=\"{result}\"", self.options.name);
        AUTHORIZATION_WEBHOOKS.add(labels.clone());
        AUTHORIZATION_WEBHOOK_DURATIONS.observe(labels.clone(), started.elapsed().as_secs_f64());
        if answer.is_err() && self.options.failure_policy == FailurePolicy::NoOpinion {
            AUTHORIZATION_WEBHOOKS_FAILED_OPEN.add(labels);
        }
        let answer = answer?;
        let status = &answer["status"];
        let reason = status["reason"].as_str().unwrap_or_default().to_string();
        match (status["allowed"] == true, status["denied"] == true) {
            (true, true) => Ok(Decision::Failed {
                denied: true,
                reason,
                error: "webhook subject access review returned both allow and deny response".to_string(),
            }),
            (true, false) => Ok(Decision::Allow(reason)),
            (false, true) => Ok(Decision::Deny(reason)),
            (false, false) => Ok(Decision::NoOpinion(reason)),
        }
    }

    fn failed(&self, error: String) -> Decision {
        tracing::warn!(webhook = self.options.name, error, "an authorization webhook gave no answer");
        Decision::Failed { denied: self.options.failure_policy == FailurePolicy::Deny, reason: String::new(), error }
    }
}

#[async_trait]
impl Authorizer for Webhook {
    async fn authorize(&self, a: &Attributes) -> Decision {
        match self.applies(a) {
            Ok(true) => {}
            Ok(false) => return Decision::NoOpinion(String::new()),
            Err(why) => return self.failed(why),
        }
        let spec = spec_of(a, &self.options.version);
        let text = spec.to_string();
        let remember = text.len() <= REMEMBERED_BYTES_MAX;
        let question: Hash = Sha256::digest(text.as_bytes()).into();
        if remember && let Some(known) = self.remembered.get(&question) {
            return known;
        }
        match self.ask(&spec).await {
            Ok(decision) => {
                let ttl = if decision.allowed() { self.options.authorized_ttl } else { self.options.unauthorized_ttl };
                if remember {
                    self.remembered.put(question, decision.clone(), ttl);
                }
                decision
            }
            Err(why) => self.failed(why),
        }
    }

    fn rules_for(&self, _user: &User, _namespace: &str) -> UserRules {
        UserRules {
            incomplete: true,
            errors: vec!["webhook authorizer does not support user rule resolution".to_string()],
            ..UserRules::default()
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
    async fn a_server_decides_within_its_conditions() {
        let asked = Arc::new(AtomicUsize::new(0));
        let counter = asked.clone();
        let peer = Peer::start(&["127.0.0.1"], move |r: Request<Bytes>| {
            counter.fetch_add(1, Ordering::Relaxed);
            let review: Value = serde_json::from_slice(r.body()).unwrap();
            assert_eq!(review["kind"], "SubjectAccessReview");
            let status = match review["spec"]["user"].as_str() {
                Some("jane") => json!({"allowed": true, "reason": "friend"}),
                Some("evil") => json!({"allowed": false, "denied": true, "reason": "enemy"}),
                Some("odd") => json!({"allowed": true, "denied": true}),
                Some("broken") => Value::Null,
                _ => json!({"allowed": false, "reason": "who?"}),
            };
            let body = if status.is_null() { "no JSON".to_string() } else { json!({"status": status}).to_string() };
            async move { Response::new(Bytes::from(body)) }
        })
        .await;
        let target = |port: u16| {
            Target::new(Url::new(true, "127.0.0.1", port, "/")).trusting(Trust::Ca(peer.ca_pem.as_bytes().into()))
        };
        let client = outbound::Client::new(reader(&[]).await);
        let options = Options {
            name: "w".into(),
            target: target(peer.port),
            version: "v1".into(),
            timeout: Duration::from_secs(5),
            authorized_ttl: Duration::from_secs(60),
            unauthorized_ttl: Duration::ZERO,
            failure_policy: FailurePolicy::Deny,
            conditions: vec![
                Condition::compile("has(request.resourceAttributes)").unwrap(),
                Condition::compile("request.resourceAttributes.namespace != 'kube-system'").unwrap(),
            ],
        };
        let lenient = Options { failure_policy: FailurePolicy::NoOpinion, target: target(1), ..options.clone() };
        let lenient = Webhook::new(Options { timeout: Duration::from_millis(200), ..lenient }, client.clone());
        let webhook = Webhook::new(options.clone(), client.clone());
        let question = |user: &str, ns: &str| Attributes::resource(&User::new(user, &[]), "get", "", "pods", ns, "p");
        for _ in 0..3 {
            assert_eq!(webhook.authorize(&question("jane", "d")).await, Decision::Allow("friend".into()));
        }
        assert_eq!(asked.load(Ordering::Relaxed), 1);
        for n in 2..4 {
            assert_eq!(webhook.authorize(&question("evil", "d")).await, Decision::Deny("enemy".into()));
            assert_eq!(asked.load(Ordering::Relaxed), n);
        }
        assert_eq!(webhook.authorize(&question("joe", "d")).await, Decision::NoOpinion("who?".into()));
        for (user, expected) in [
            ("odd", "webhook subject access review returned both allow and deny response"),
            ("broken", "couldn't get version/kind; json parse error: "),
        ] {
            let decision = webhook.authorize(&question(user, "d")).await;
            assert!(decision.denied() && decision.error().starts_with(expected), "{decision:?}");
        }
        // Not asked about.
        let before = asked.load(Ordering::Relaxed);
        let none = Decision::NoOpinion(String::new());
        assert_eq!(webhook.authorize(&question("jane", "kube-system")).await, none);
        let path = Attributes { verb: "get".into(), path: "/metrics".into(), ..Attributes::default() };
        assert_eq!(webhook.authorize(&path).await, none);
        assert_eq!(asked.load(Ordering::Relaxed), before);
        let failed = lenient.authorize(&question("jane", "d")).await;
        assert!(!failed.denied() && failed.error() == "context deadline exceeded", "{failed:?}");
        let blind = Options { conditions: vec![Condition::compile("request.groups[9] == 'x'").unwrap()], ..options };
        let failed = Webhook::new(blind, client).authorize(&question("jane", "d")).await;
        let expected = "cel evaluation error: expression 'request.groups[9] == 'x'' resulted in error: ";
        assert!(failed.denied() && failed.error().starts_with(expected), "{failed:?}");
        let mut shown = String::new();
        crate::metrics::figures::render(&mut shown);
        for (name, n) in [
            (r#"webhook_evaluations_total{name="w",result="success"}"#, 5),
            (r#"webhook_evaluations_total{name="w",result="error"}"#, 1),
            (r#"webhook_evaluations_fail_open_total{name="w",result="timeout"}"#, 1),
            (r#"match_condition_exclusions_total{type="Webhook",name="w"}"#, 2),
            (r#"match_condition_evaluation_errors_total{type="Webhook",name="w"}"#, 1),
        ] {
            assert!(shown.contains(&format!("apiserver_authorization_{name} {n}\n")), "{name} {n}: {shown}");
        }
    }
}
