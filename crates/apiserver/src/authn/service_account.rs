//! Service-account tokens: a good signature is not enough, the account and what the token is bound to must
//! still be there, with the same UIDs.

use super::User;
use super::bearer::{TokenAuthenticator, TokenOutcome};
use crate::audit;
use crate::jwt::Token;
use crate::metrics::figures::{STALE_TOKENS, VALID_TOKENS};
use crate::reader::{Reader, key};
use crate::tokens::{Claims, Error, LEGACY_ISSUER, Ref, TokenIssuer, check_times, external};
use async_trait::async_trait;
use parking_lot::Mutex;
use std::collections::HashMap;
use std::sync::Arc;
use store::Revision;

pub mod legacy;

/// Tokens whose signature is known to be good.
const REMEMBERED_MAX: usize = 8192;
/// An object that is being deleted keeps its tokens good for this long, so that it can say goodbye.
const DELETION_GRACE_SECONDS: i64 = 60;
/// Upstream's annotation of audit events.
const STALE_TOKEN: &str = "authentication.k8s.io/stale-token";

/// What was found out about a token, and from which versions of which objects.
struct Known {
    claims: Arc<Claims>,
    audiences: Vec<String>,
    /// The answer holds while these keys are at these revisions and none of the objects is being deleted.
    seen: Vec<(String, Revision)>,
    /// And while these are the external signer's keys.
    keys: Option<Arc<external::Keys>>,
}

pub struct ServiceAccountTokens {
    issuer: Arc<TokenIssuer>,
    reader: Reader,
    clock: fn() -> jiff::Timestamp,
    /// By token; only for the API server's own audiences.
    known: Mutex<HashMap<String, Known>>,
    used: Option<legacy::Used>,
}

impl ServiceAccountTokens {
    pub fn new(issuer: Arc<TokenIssuer>, reader: Reader) -> ServiceAccountTokens {
        ServiceAccountTokens { issuer, reader, clock: jiff::Timestamp::now, known: Mutex::default(), used: None }
    }

    /// Tells of each use of a token that is kept in a Secret.
    pub fn telling(mut self, used: legacy::Used) -> ServiceAccountTokens {
        self.used = Some(used);
        self
    }

    fn judge(&self, token: &str, audiences: &[String], now: i64) -> Result<(User, Vec<String>), Error> {
        let own = audiences.is_empty();
        let audiences = if own { self.issuer.api_audiences() } else { audiences };
        if own && let Some(known) = self.known.lock().get(token) {
            check_times(&known.claims, now)?;
            let same = |keys: &Option<Arc<external::Keys>>| match (keys, self.issuer.keys_now()) {
                (Some(then), Some(now)) => Arc::ptr_eq(then, &now),
                _ => true,
            };
            let unchanged = same(&known.keys)
                && known
                    .seen
                    .iter()
                    .all(|(k, revision)| self.reader.store().get(k).is_some_and(|e| e.mod_revision == *revision));
            if unchanged {
                audit::remark(STALE_TOKEN, || known.claims.stale(now));
                return Ok((user_of(&known.claims), known.audiences.clone()));
            }
        }
        let parsed = Token::parse(token).map_err(|_| Error::Malformed)?;
        if parsed.issuer() == LEGACY_ISSUER {
            let matched: Vec<String> =
                audiences.iter().filter(|a| self.issuer.api_audiences().contains(a)).cloned().collect();
            let user = self.judge_legacy(token, &parsed, now)?;
            return match matched.is_empty() {
                true => Err(Error::Audience { have: self.issuer.api_audiences().to_vec(), want: audiences.to_vec() }),
                false => Ok((user, matched)),
            };
        }
        let keys = self.issuer.keys_now();
        let (claims, matched) = self.issuer.verify(&parsed, audiences, now)?;
        let (seen, settled) = self.check_bindings(&claims, now)?;
        audit::remark(STALE_TOKEN, || claims.stale(now));
        if claims.kubernetes.warnafter.is_some_and(|at| at != 0) {
            let counter = if claims.stale(now).is_some() { &STALE_TOKENS } else { &VALID_TOKENS };
            counter.add(String::new());
        }
        let user = user_of(&claims);
        if own && settled {
            let mut known = self.known.lock();
            if known.len() >= REMEMBERED_MAX {
                known.clear();
            }
            let remembered = Known { claims: Arc::new(claims), audiences: matched.clone(), seen, keys };
            known.insert(token.to_string(), remembered);
        }
        Ok((user, matched))
    }

    /// The objects that the claims name exist as they did. The flag says that none of them is on its way out.
    fn check_bindings(&self, claims: &Claims, now: i64) -> Result<(Vec<(String, Revision)>, bool), Error> {
        let k = &claims.kubernetes;
        let mut seen = Vec::new();
        let mut settled = true;
        let mut check = |resource: &str, namespace: &str, wanted: &Ref| -> Result<(), Error> {
            let object = self.reader.get("", resource, namespace, &wanted.name).ok_or_else(|| match resource {
                "serviceaccounts" => Error::Binding(format!("serviceaccounts {:?} not found", wanted.name)),
                _ => Error::Invalidated,
            })?;
            let value = object.value();
            let uid = value["metadata"]["uid"].as_str().unwrap_or_default();
            if uid != wanted.uid {
                let claim = wanted.uid.as_str();
                return Err(Error::Binding(match resource {
                    "serviceaccounts" => format!("service account UID ({uid}) does not match claim ({claim})"),
                    _ => {
                        let kind = resource.trim_end_matches('s');
                        format!("{kind} UID ({uid}) does not match service account {kind} ref claim ({claim})")
                    }
                }));
            }
            if let Some(at) = value["metadata"]["deletionTimestamp"].as_str() {
                settled = false;
                let at = at.parse::<jiff::Timestamp>().map_or(0, |t| t.as_second());
                if at + DELETION_GRACE_SECONDS < now {
                    return Err(Error::Invalidated);
                }
            }
            seen.push((key("", resource, namespace, &wanted.name), object.0.mod_revision));
            Ok(())
        };
        check("serviceaccounts", &k.namespace, &k.serviceaccount)?;
        if let Some(secret) = &k.secret {
            check("secrets", &k.namespace, secret)?;
        }
        match (&k.pod, &k.node) {
            // A pod's node is told, not bound: the token lives and dies with the pod.
            (Some(pod), _) => check("pods", &k.namespace, pod)?,
            (None, Some(node)) => check("nodes", "", node)?,
            (None, None) => {}
        }
        let expected = format!("system:serviceaccount:{}:{}", k.namespace, k.serviceaccount.name);
        if claims.sub != expected {
            return Err(Error::Malformed);
        }
        Ok((seen, settled))
    }
}

fn user_of(claims: &Claims) -> User {
    let k = &claims.kubernetes;
    let mut user = User::new(
        &format!("system:serviceaccount:{}:{}", k.namespace, k.serviceaccount.name),
        &["system:serviceaccounts", &format!("system:serviceaccounts:{}", k.namespace)],
    );
    user.uid = k.serviceaccount.uid.clone();
    let mut add = |key: &str, value: &str| {
        if !value.is_empty() {
            user.extra.insert(format!("authentication.kubernetes.io/{key}"), vec![value.to_string()]);
        }
    };
    if !claims.jti.is_empty() {
        add("credential-id", &format!("JTI={}", claims.jti));
    }
    if let Some(pod) = &k.pod {
        add("pod-name", &pod.name);
        add("pod-uid", &pod.uid);
    }
    if let Some(node) = &k.node {
        add("node-name", &node.name);
        add("node-uid", &node.uid);
    }
    user
}

#[async_trait]
impl TokenAuthenticator for ServiceAccountTokens {
    async fn authenticate_token(&self, token: &str, audiences: &[String]) -> TokenOutcome {
        let mut judged = self.judge(token, audiences, (self.clock)().as_second());
        if let (Err(Error::UnknownKey(_)), Some(signer)) = (&judged, self.issuer.external()) {
            signer.refresh().await;
            judged = self.judge(token, audiences, (self.clock)().as_second());
        }
        match judged {
            Ok((user, audiences)) => TokenOutcome::Authenticated { user, audiences },
            Err(Error::Malformed | Error::Issuer(_)) => TokenOutcome::Skip,
            Err(e @ Error::Audience { .. }) => TokenOutcome::Invalid(e.to_string()),
            Err(e) => TokenOutcome::Invalid(e.to_string()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{put, reader, remove};
    use serde_json::json;

    #[tokio::test]
    async fn a_token_dies_with_what_it_is_bound_to() {
        let pod = json!({"apiVersion":"v1","kind":"Pod","metadata":{"namespace":"d","name":"p","uid":"pu"},
                         "spec":{"serviceAccountName":"s","nodeName":"n"}});
        let r = reader(&[
            json!({"apiVersion":"v1","kind":"ServiceAccount","metadata":{"namespace":"d","name":"s","uid":"su"}}),
            pod.clone(),
        ])
        .await;
        let key = rcgen::KeyPair::generate().unwrap().serialize_pem();
        let issuer = Arc::new(TokenIssuer::new(crate::tokens::Options::new(&key, "https://k")).unwrap());
        let now = jiff::Timestamp::now();
        let request = json!({"spec":{"boundObjectRef":{"kind":"Pod","apiVersion":"v1","name":"p"}}});
        let answer = issuer.token_request(&r, "d", "s", &request, now).await.unwrap().0;
        let token = answer["status"]["token"].as_str().unwrap();
        let vault = issuer.token_request(&r, "d", "s", &json!({"spec":{"audiences":["vault"]}}), now).await.unwrap().0
            ["status"]["token"]
            .as_str()
            .unwrap()
            .to_string();
        let a = ServiceAccountTokens::new(issuer, r.clone());

        for _ in 0..2 {
            let TokenOutcome::Authenticated { user, audiences } = a.authenticate_token(token, &[]).await else {
                panic!("refused")
            };
            assert_eq!(user.name, "system:serviceaccount:d:s");
            assert_eq!(user.groups, ["system:serviceaccounts", "system:serviceaccounts:d"]);
            assert_eq!(user.extra["authentication.kubernetes.io/pod-uid"], ["pu"]);
            assert_eq!(user.extra["authentication.kubernetes.io/node-name"], ["n"]);
            assert!(user.extra["authentication.kubernetes.io/credential-id"][0].starts_with("JTI="));
            assert_eq!(audiences, ["https://k"]);
        }
        let invalid = async |token: &str| match a.authenticate_token(token, &[]).await {
            TokenOutcome::Invalid(why) => why,
            other => panic!("{other:?}"),
        };
        let foreign = "token audiences [\"vault\"] is invalid for the target audiences [\"https://k\"]";
        assert_eq!(invalid(&vault).await, foreign);
        let for_vault = a.authenticate_token(&vault, &["vault".to_string()]).await;
        assert!(matches!(for_vault, TokenOutcome::Authenticated { .. }));
        assert_eq!(a.authenticate_token("not.a.token", &[]).await, TokenOutcome::Skip);

        let mut dying = pod.clone();
        dying["metadata"]["deletionTimestamp"] = now.to_string().into();
        put(&r, &dying).await;
        assert!(matches!(a.authenticate_token(token, &[]).await, TokenOutcome::Authenticated { .. }));
        dying["metadata"]["deletionTimestamp"] = "2020-01-01T00:00:00Z".into();
        put(&r, &dying).await;
        assert_eq!(invalid(token).await, "service account token has been invalidated");

        let mut reborn = pod.clone();
        reborn["metadata"]["uid"] = "pu2".into();
        put(&r, &reborn).await;
        assert_eq!(invalid(token).await, "pod UID (pu2) does not match service account pod ref claim (pu)");
        put(&r, &pod).await;
        assert!(matches!(a.authenticate_token(token, &[]).await, TokenOutcome::Authenticated { .. }));
        remove(&r, &pod).await;
        assert!(matches!(a.authenticate_token(token, &[]).await, TokenOutcome::Invalid(_)));
    }
}
