//! Groups that a token doesn't hold itself but says where to find (`_claim_names`, `_claim_sources`).
//!
//! In: the verified claims of a token. Out: the groups claim, from a token that the named endpoint gave and whose own
//! issuer signed it. Nothing but the groups claim is ever looked up, and nothing is remembered. Source: OpenID Connect
//! Core 1.0, 5.6.2; upstream's `claimResolver`.

use super::keys::Provider;
use crate::authn::config::{Issuer, IssuerConfig, Source};
use crate::jwt::Token;
use crate::outbound::{self, Credentials, Target, Trust, Url};
use http::StatusCode;
use parking_lot::Mutex;
use serde_json::Value;
use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

const FETCH_TIMEOUT: Duration = Duration::from_secs(30);
/// For an issuer that is met for the first time to tell its keys.
const READY_WITHIN: Duration = Duration::from_secs(5);
/// Issuers of such claims whose keys are kept.
const ISSUERS_MAX: usize = 32;

pub struct Resolver {
    claim: String,
    /// Whose audiences and authority hold for the issuers of the claims, too.
    config: IssuerConfig,
    client: outbound::Client,
    providers: Mutex<HashMap<String, Arc<Provider>>>,
}

/// Where a claim is.
#[derive(Debug, PartialEq)]
struct Endpoint {
    url: String,
    access_token: String,
}

impl Resolver {
    /// None where groups aren't the value of a claim.
    pub fn new(issuer: &Issuer, client: &outbound::Client) -> Option<Resolver> {
        let Some(Source::Claim { name, .. }) = &issuer.groups else { return None };
        let (config, client) = (issuer.config.clone(), client.clone());
        Some(Resolver { claim: name.clone(), config, client, providers: Mutex::default() })
    }

    /// Adds the claim where it lies elsewhere. `check` looks at times, audience and algorithm of the token with it.
    pub async fn expand(
        &self,
        claims: &mut Value,
        check: impl Fn(&Token<'_>) -> Result<(), String>,
    ) -> Result<(), String> {
        let Some(endpoint) = endpoint(claims, &self.claim)? else { return Ok(()) };
        let claim = &self.claim;
        let compact =
            self.get(&endpoint).await.map_err(|e| format!("while getting distributed claim {claim:?}: {e}"))?;
        let url = &endpoint.url;
        let token = Token::parse(&compact)
            .map_err(|e| format!("getting untrusted issuer from endpoint {url} failed for claim {claim:?}: {e}"))?;
        let provider = self.provider(token.issuer())?;
        if !provider.is_ready_within(READY_WITHIN).await {
            let issuer = token.issuer();
            return Err(format!(
                "verifying untrusted issuer {issuer} failed: verifier not initialized for issuer: {issuer:?}"
            ));
        }
        let verified = async { check(&token).and(provider.verify(&token).await) };
        verified.await.map_err(|e| format!("verify distributed claim token: {e}"))?;
        match token.payload.get(claim) {
            Some(value) => claims[claim] = value.clone(),
            None => {
                return Err(format!(
                    "jwt returned by distributed claim endpoint {url:?} did not contain claim: {claim}"
                ));
            }
        }
        Ok(())
    }

    async fn get(&self, endpoint: &Endpoint) -> Result<String, String> {
        let (url, query) = endpoint.url.split_once('?').unwrap_or((&endpoint.url, ""));
        let mut target = Target::new(Url::parse(url).map_err(|e| e.to_string())?).trusting(trust(&self.config));
        if !endpoint.access_token.is_empty() {
            target = target.with(Credentials::Token(endpoint.access_token.clone()));
        }
        let answer =
            self.client.get(&target, &target.url.path, query, FETCH_TIMEOUT).await.map_err(|e| e.to_string())?;
        if !answer.is_success() {
            let reason = StatusCode::from_u16(answer.code).ok().and_then(|c| c.canonical_reason()).unwrap_or("");
            return Err(format!("error while getting distributed claim JWT: {} {reason}", answer.code));
        }
        String::from_utf8(answer.body.to_vec()).map_err(|_| "could not decode distributed claim response".to_string())
    }

    fn provider(&self, issuer: &str) -> Result<Arc<Provider>, String> {
        let mut providers = self.providers.lock();
        if let Some(known) = providers.get(issuer) {
            return Ok(known.clone());
        }
        if providers.len() >= ISSUERS_MAX {
            return Err(format!("verifying untrusted issuer {issuer} failed: too many issuers of distributed claims"));
        }
        let config = IssuerConfig { url: issuer.to_string(), discovery_url: None, ..self.config.clone() };
        let provider = Provider::start(&config, self.client.clone())
            .map_err(|e| format!("verifying untrusted issuer {issuer} failed: {e}"))?;
        providers.insert(issuer.to_string(), provider.clone());
        Ok(provider)
    }
}

fn trust(config: &IssuerConfig) -> Trust {
    match config.certificate_authority.as_str() {
        "" => Trust::System,
        pem => Trust::Ca(pem.as_bytes().into()),
    }
}

/// Where the claim is to be asked for, if it isn't here. A source without an address holds the claim itself (an
/// aggregated claim), which isn't supported, as in upstream.
fn endpoint(claims: &Value, claim: &str) -> Result<Option<Endpoint>, String> {
    if claims.get(claim).is_some() {
        return Ok(None);
    }
    let Some(names) = claims.get("_claim_names") else { return Ok(None) };
    let names: HashMap<String, String> = serde_json::from_value(names.clone())
        .map_err(|e| format!("oidc: error parsing distributed claim names: {e}"))?;
    let Some(sources) = claims.get("_claim_sources") else {
        return Err("oidc: no claim sources".to_string());
    };
    let text = |source: &Value, key: &str| match &source[key] {
        Value::Null => Ok(String::new()),
        Value::String(s) => Ok(s.clone()),
        _ => Err(format!("oidc: could not parse claim sources: {key} is no string")),
    };
    let Some(sources) = sources.as_object() else {
        return Err("oidc: could not parse claim sources: not an object".to_string());
    };
    let Some(name) = names.get(claim) else { return Ok(None) };
    let Some(source) = sources.get(name) else {
        return Err(format!("id token _claim_names contained a source {name} missing in _claims_sources"));
    };
    let found = Endpoint { url: text(source, "endpoint")?, access_token: text(source, "access_token")? };
    Ok(Some(found).filter(|e| !e.url.is_empty()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn the_claim_is_looked_for_where_the_token_says() {
        let at = |url: &str, token: &str| Some(Endpoint { url: url.to_string(), access_token: token.to_string() });
        let names = json!({"groups": "s"});
        for (claims, expected) in [
            (json!({}), Ok(None)),
            (json!({"groups": ["a"], "_claim_names": names}), Ok(None)),
            (json!({"_claim_names": {"other": "s"}, "_claim_sources": {}}), Ok(None)),
            (
                json!({"_claim_names": names, "_claim_sources": {"s": {"endpoint": "https://x", "access_token": "t"}}}),
                Ok(at("https://x", "t")),
            ),
            (
                json!({"_claim_names": names, "_claim_sources": {"s": {"endpoint": "https://x"}}}),
                Ok(at("https://x", "")),
            ),
            (json!({"_claim_names": names, "_claim_sources": {"s": {"JWT": "a.b.c"}}}), Ok(None)),
            (json!({"_claim_names": 5}), Err("oidc: error parsing distributed claim names: ")),
            (json!({"_claim_names": {"groups": 5}}), Err("oidc: error parsing distributed claim names: ")),
            (json!({"_claim_names": names}), Err("oidc: no claim sources")),
            (json!({"_claim_names": names, "_claim_sources": 5}), Err("oidc: could not parse claim sources: ")),
            (
                json!({"_claim_names": names, "_claim_sources": {"s": {"endpoint": 5}}}),
                Err("oidc: could not parse claim sources: "),
            ),
            (
                json!({"_claim_names": names, "_claim_sources": {"x": {}}}),
                Err("id token _claim_names contained a source s missing in _claims_sources"),
            ),
        ] {
            match (endpoint(&claims, "groups"), expected) {
                (Ok(got), Ok(expected)) => assert_eq!(got, expected, "{claims}"),
                (Err(got), Err(expected)) => assert!(got.starts_with(expected), "{claims}: {got}"),
                (got, expected) => panic!("{claims}: {got:?}, not {expected:?}"),
            }
        }
    }
}
