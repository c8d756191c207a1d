//! Tokens that are kept in Secrets of type `kubernetes.io/service-account-token`: they have no end of their own, so
//! each use asks whether the Secret still holds exactly this token.
//!
//! In: a token whose issuer says it is one, the store. Out: the user, and the Secrets' label that tells when they
//! were last used ([`record_uses`]). Source: KEP-2799.

use super::{ServiceAccountTokens, User};
use crate::authn::{Connection, MASTERS};
use crate::jwt::Token;
use crate::server::Server;
use crate::tokens::Error;
use axum::body::Body;
use base64::{Engine, engine::general_purpose::STANDARD};
use std::sync::Arc;
use stdx::Shutdown;
use tokio::sync::mpsc;

const LAST_USED: &str = "kubernetes.io/legacy-token-last-used";
const INVALID_SINCE: &str = "kubernetes.io/legacy-token-invalid-since";
/// Uses that wait to be written down; more are dropped, as the next use tells the same.
const WAITING_MAX: usize = 64;

/// A Secret whose token was used for the first time on this day.
#[derive(Debug, PartialEq)]
pub struct Use {
    namespace: String,
    secret: String,
    /// `2026-01-31`
    day: String,
}

pub type Used = mpsc::Sender<Use>;

pub fn uses() -> (Used, mpsc::Receiver<Use>) {
    mpsc::channel(WAITING_MAX)
}

impl ServiceAccountTokens {
    /// `now` in Unix seconds.
    pub(super) fn judge_legacy(&self, compact: &str, token: &Token<'_>, now: i64) -> Result<User, Error> {
        let claims = self.issuer.verify_legacy(token)?;
        let (namespace, secret) = (claims.namespace.as_str(), claims.secret.as_str());
        let user = format!("system:serviceaccount:{namespace}:{}", claims.account);
        if claims.sub != user || namespace.is_empty() || secret.is_empty() {
            return Err(Error::Malformed);
        }
        let gone = |what: &serde_json::Value| !what["metadata"]["deletionTimestamp"].is_null();
        let found = self.reader.get("", "secrets", namespace, secret).ok_or(Error::Signature)?.value();
        let kept = found["data"]["token"].as_str().and_then(|t| STANDARD.decode(t).ok());
        if gone(&found) || kept.as_deref() != Some(compact.as_bytes()) {
            return Err(Error::Signature);
        }
        let account = self.reader.get("", "serviceaccounts", namespace, &claims.account).ok_or(Error::Signature)?;
        let account = account.value();
        if gone(&account) || account["metadata"]["uid"] != claims.account_uid.as_str() {
            return Err(Error::Signature);
        }
        let labels = &found["metadata"]["labels"];
        if labels[INVALID_SINCE].as_str().is_some_and(|since| !since.is_empty()) {
            tracing::info!(namespace, secret, "a token was used that is marked invalid");
            return Err(Error::Signature);
        }
        let day = jiff::Timestamp::from_second(now).map(|t| t.strftime("%Y-%m-%d").to_string()).unwrap_or_default();
        if let Some(used) = &self.used
            && labels[LAST_USED] != day.as_str()
        {
            let _ = used.try_send(Use { namespace: namespace.into(), secret: secret.into(), day });
        }
        let groups = ["system:serviceaccounts", &format!("system:serviceaccounts:{namespace}")];
        Ok(User { uid: claims.account_uid, ..User::new(&user, &groups) })
    }
}

/// Writes the label that tells the day on which a token was last used, until shutdown.
pub async fn record_uses(server: Arc<Server>, mut uses: mpsc::Receiver<Use>, shutdown: Shutdown) {
    let identity = Arc::new(User::new("system:apiserver", &[MASTERS]));
    loop {
        let used = tokio::select! {
            _ = shutdown.cancelled() => return,
            used = uses.recv() => match used {
                Some(used) => used,
                None => return,
            },
        };
        let patch = serde_json::json!({"metadata": {"labels": {LAST_USED: used.day}}});
        let request = http::Request::patch(format!("/api/v1/namespaces/{}/secrets/{}", used.namespace, used.secret))
            .header(http::header::CONTENT_TYPE, "application/merge-patch+json")
            .extension(Connection { identity: Some(identity.clone()), ..Connection::default() })
            .body(Body::from(patch.to_string()));
        let Ok(request) = request else { continue };
        let status = server.handle(request).await.status();
        if !status.is_success() && status != http::StatusCode::NOT_FOUND {
            tracing::warn!(namespace = used.namespace, secret = used.secret, %status, "a token's last use wasn't noted");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::authn::bearer::{TokenAuthenticator, TokenOutcome};
    use crate::testing::{put, reader, remove};
    use crate::tokens::{Options, Ref, TokenIssuer};
    use serde_json::json;

    #[tokio::test]
    async fn a_token_is_good_while_its_secret_holds_it() {
        let account =
            json!({"apiVersion":"v1","kind":"ServiceAccount","metadata":{"namespace":"d","name":"s","uid":"su"}});
        let key = rcgen::KeyPair::generate().unwrap().serialize_pem();
        let issuer = Arc::new(TokenIssuer::new(Options::new(&key, "https://k")).unwrap());
        let token = issuer.sign_legacy("d", &Ref { name: "s".into(), uid: "su".into() }, "t").unwrap();
        let secret = |token: &str, labels: serde_json::Value| {
            json!({"apiVersion":"v1","kind":"Secret","metadata":{"namespace":"d","name":"t","labels":labels},
                   "type":"kubernetes.io/service-account-token","data":{"token":STANDARD.encode(token)}})
        };
        let r = reader(&[account.clone(), secret(&token, json!({}))]).await;
        let (used, mut uses) = uses();
        let a = ServiceAccountTokens::new(issuer, r.clone()).telling(used);
        let good = async |audiences: &[&str]| {
            let audiences: Vec<String> = audiences.iter().map(|a| a.to_string()).collect();
            matches!(a.authenticate_token(&token, &audiences).await, TokenOutcome::Authenticated { .. })
        };
        let TokenOutcome::Authenticated { user, .. } = a.authenticate_token(&token, &[]).await else {
            panic!("refused")
        };
        assert_eq!((user.name.as_str(), user.uid.as_str()), ("system:serviceaccount:d:s", "su"));
        assert_eq!(user.groups, ["system:serviceaccounts", "system:serviceaccounts:d"]);
        let told = uses.try_recv().unwrap();
        assert_eq!((told.secret.as_str(), told.day.len()), ("t", 10));
        // Told once a day.
        put(&r, &secret(&token, json!({LAST_USED: told.day}))).await;
        assert!(good(&["https://k", "other"]).await && uses.try_recv().is_err());
        assert!(!good(&["vault"]).await);

        put(&r, &secret(&token, json!({INVALID_SINCE: "2026-01-01"}))).await;
        assert!(!good(&[]).await);
        put(&r, &secret("another", json!({}))).await;
        assert!(!good(&[]).await);
        put(&r, &secret(&token, json!({}))).await;
        let mut reborn = account.clone();
        reborn["metadata"]["uid"] = "su2".into();
        put(&r, &reborn).await;
        assert!(!good(&[]).await);
        put(&r, &account).await;
        assert!(good(&[]).await);
        remove(&r, &secret("", json!({}))).await;
        assert!(!good(&[]).await);
    }
}
