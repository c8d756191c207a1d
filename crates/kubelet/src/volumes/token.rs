//! Service account tokens for projected volumes: bound to the pod, asked for with TokenRequest, renewed when 80 % of
//! their life (or 24 hours) has passed.

use super::{SetUpError, VolumeError};
use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::authentication::v1::{BoundObjectReference, TokenRequest, TokenRequestSpec};
use k8s_openapi::api::core::v1::{Pod, ServiceAccount};
use kube::api::PostParams;
use kube::{Api, Client};
use std::collections::BTreeMap;

const EXPIRATION_SECONDS_DEFAULT: i64 = 3607;
const AGE_MAX: SignedDuration = SignedDuration::from_hours(24);

#[derive(Clone, Debug)]
pub struct Token {
    pub value: String,
    pub issued_at: Timestamp,
    pub refresh_at: Timestamp,
}

impl Token {
    fn is_due(&self, now: Timestamp) -> bool {
        super::is_due(self.issued_at, self.refresh_at, now)
    }
}

/// (volume, path) → token.
pub type Tokens = BTreeMap<(String, String), Token>;

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Wanted {
    pub volume: String,
    pub path: String,
    pub audience: Option<String>,
    pub expiration_seconds: i64,
}

pub fn wanted(pod: &Pod) -> Vec<Wanted> {
    let volumes = pod.spec.iter().flat_map(|s| s.volumes.iter().flatten());
    volumes
        .flat_map(|v| {
            v.projected
                .iter()
                .flat_map(|p| p.sources.iter().flatten())
                .filter_map(|s| s.service_account_token.as_ref())
                .map(|t| Wanted {
                    volume: v.name.clone(),
                    path: t.path.clone(),
                    audience: t.audience.clone().filter(|a| !a.is_empty()),
                    expiration_seconds: t.expiration_seconds.unwrap_or(EXPIRATION_SECONDS_DEFAULT),
                })
        })
        .collect()
}

pub fn refresh_at(issued: Timestamp, expires: Timestamp) -> Timestamp {
    let life = expires.duration_since(issued);
    let wait = SignedDuration::from_millis((life.as_millis() as i64).saturating_mul(8) / 10).min(AGE_MAX);
    issued.checked_add(wait).unwrap_or(issued)
}

/// Fetches what is missing or due; an old token is kept while it lasts, should the API server be away.
pub async fn refresh(client: &Client, pod: &Pod, tokens: &mut Tokens, now: Timestamp) -> Result<(), SetUpError> {
    let mut failure = None;
    for w in wanted(pod) {
        let key = (w.volume.clone(), w.path.clone());
        if tokens.get(&key).is_some_and(|t| !t.is_due(now)) {
            continue;
        }
        match request(client, pod, &w, now).await {
            Ok(token) => {
                tokens.insert(key, token);
            }
            Err(error) => match tokens.get_mut(&key) {
                Some(old) => old.refresh_at = now.checked_add(SignedDuration::from_secs(30)).unwrap_or(now),
                None => {
                    failure.get_or_insert(SetUpError { volume: w.volume, source: VolumeError::Token(error) });
                }
            },
        }
    }
    failure.map_or(Ok(()), Err)
}

async fn request(client: &Client, pod: &Pod, w: &Wanted, now: Timestamp) -> Result<Token, String> {
    let account = pod
        .spec
        .as_ref()
        .and_then(|s| s.service_account_name.as_deref())
        .filter(|n| !n.is_empty())
        .unwrap_or("default");
    let request = TokenRequest {
        spec: Some(TokenRequestSpec {
            audiences: w.audience.clone().map(|a| vec![a]),
            expiration_seconds: Some(w.expiration_seconds),
            bound_object_ref: Some(BoundObjectReference {
                api_version: Some("v1".into()),
                kind: Some("Pod".into()),
                name: pod.metadata.name.clone(),
                uid: pod.metadata.uid.clone(),
            }),
        }),
        ..Default::default()
    };
    let api = Api::<ServiceAccount>::namespaced(client.clone(), pod.metadata.namespace.as_deref().unwrap_or("default"));
    let answer = api
        .create_token_request(account, &PostParams::default(), &request)
        .await
        .map_err(|e| crate::api_message(&e))?;
    let status = answer.status.ok_or("the answer has no status")?;
    let value = status.token.filter(|t| !t.is_empty()).ok_or("the answer has no token")?;
    let expires = status.expiration_timestamp.map_or(now, |t| t.0);
    Ok(Token { refresh_at: refresh_at(now, expires), issued_at: now, value })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn renewal_is_due_at_80_percent_or_after_a_day() {
        let t = |s: i64| Timestamp::from_second(s).unwrap();
        assert_eq!(refresh_at(t(0), t(3600)), t(2880));
        assert_eq!(refresh_at(t(0), t(864_000)), t(86_400));
        let token = Token { value: String::new(), issued_at: t(10_000), refresh_at: refresh_at(t(10_000), t(13_600)) };
        for (now, due) in [(10_001, false), (9_990, false), (12_880, true), (6_400, true), (1_000_000, true)] {
            assert_eq!(token.is_due(t(now)), due, "at {now}");
        }
    }
}
