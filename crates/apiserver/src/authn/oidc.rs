//! Tokens of OpenID Connect providers: verified with the provider's keys, their claims made a user.
//!
//! In: an [`Issuer`] as the configuration describes it, a token. Out: the user. The pure part is [`user_of`]; keys come
//! from [`keys`]. Source: "OpenID Connect Tokens", KEP-3331.

use super::User;
use super::bearer::{TokenAuthenticator, TokenOutcome};
use super::config::{ClaimRule, Issuer, Source};
use crate::jwt::Token;
use crate::outbound;
use async_trait::async_trait;
use serde_json::{Value, json};
use std::sync::Arc;
use std::time::Duration;

mod distributed;
pub mod keys;

use distributed::Resolver;
use keys::Provider;

/// Clocks of issuers may be this much ahead, in seconds.
const NOT_BEFORE_LEEWAY_SECONDS: i64 = 60;

pub struct Oidc {
    issuer: Issuer,
    provider: Arc<Provider>,
    /// Of groups that are elsewhere.
    resolver: Option<Resolver>,
    clock: fn() -> jiff::Timestamp,
}

impl Oidc {
    /// Begins to ask the provider for its keys. Must be called in a Tokio runtime.
    pub fn start(issuer: Issuer, client: &outbound::Client) -> Result<Oidc, String> {
        let provider = Provider::start(&issuer.config, client.clone())?;
        let resolver = Resolver::new(&issuer, client);
        Ok(Oidc { issuer, provider, resolver, clock: jiff::Timestamp::now })
    }

    pub fn url(&self) -> &str {
        &self.issuer.config.url
    }

    /// Whether the provider has answered within this time.
    pub async fn is_ready_within(&self, limit: Duration) -> bool {
        self.provider.is_ready_within(limit).await
    }

    async fn judge(&self, compact: &str) -> Option<Result<User, String>> {
        // Whatever isn't a token of this issuer is left to others.
        let token = Token::parse(compact).ok().filter(|t| t.issuer() == self.url())?;
        Some(self.verify(&token).await)
    }

    async fn verify(&self, token: &Token<'_>) -> Result<User, String> {
        self.check(token)?;
        self.provider.verify(token).await?;
        let mut claims = token.payload.clone();
        if let Some(resolver) = &self.resolver {
            let expanded = resolver.expand(&mut claims, |t| self.check(t)).await;
            expanded.map_err(|e| format!("oidc: could not expand distributed claims: {e}"))?;
        }
        user_of(&claims, &self.issuer)
    }

    /// All but the signature.
    fn check(&self, token: &Token<'_>) -> Result<(), String> {
        check_claims(&token.payload, &self.issuer, (self.clock)().as_second())?;
        let algorithm = token.algorithm().map_err(|e| format!("oidc: {e}"))?;
        match self.issuer.algorithms.contains(&algorithm) {
            true => Ok(()),
            false => Err(format!("oidc: id token signed with unsupported algorithm {:?}", algorithm.name())),
        }
    }
}

#[async_trait]
impl TokenAuthenticator for Oidc {
    async fn authenticate_token(&self, token: &str, audiences: &[String]) -> TokenOutcome {
        match self.judge(token).await {
            None => TokenOutcome::Skip,
            Some(Ok(user)) => TokenOutcome::Authenticated { user, audiences: audiences.to_vec() },
            Some(Err(why)) => TokenOutcome::Invalid(why),
        }
    }
}

/// Times and audience. `now` in Unix seconds.
fn check_claims(claims: &Value, issuer: &Issuer, now: i64) -> Result<(), String> {
    // JSON numbers may have fractions (RFC 7519, NumericDate).
    let time = |name: &str| claims[name].as_f64().map(|t| t as i64);
    match time("exp") {
        None => return Err("oidc: token has no expiry".to_string()),
        Some(at) if at <= now => return Err("oidc: token is expired".to_string()),
        _ => {}
    }
    if time("nbf").is_some_and(|at| now + NOT_BEFORE_LEEWAY_SECONDS < at) {
        return Err("oidc: current time is before the nbf (not before) time".to_string());
    }
    let audiences: Vec<&str> = match &claims["aud"] {
        Value::String(s) => vec![s],
        Value::Array(a) => a.iter().filter_map(Value::as_str).collect(),
        _ => Vec::new(),
    };
    match issuer.config.audiences.iter().any(|a| audiences.contains(&a.as_str())) {
        true => Ok(()),
        false => Err(format!("oidc: expected audience in {:?} got {audiences:?}", issuer.config.audiences)),
    }
}

/// The user that verified claims describe, when all rules hold.
fn user_of(claims: &Value, issuer: &Issuer) -> Result<User, String> {
    let mut user = User { name: username(claims, &issuer.username)?, ..User::default() };
    if user.name.is_empty() {
        return Err("oidc: the username is empty".to_string());
    }
    if let Some(source) = &issuer.groups {
        user.groups = match source {
            Source::Claim { name, prefix } => match &claims[name] {
                Value::Null => Vec::new(),
                value => {
                    let groups = strings(value).ok_or_else(|| format!("oidc: parse groups claim {name:?}"))?;
                    groups.into_iter().map(|g| format!("{prefix}{g}")).collect()
                }
            },
            Source::Expression(e) => texts(&eval("group", e.of_claims(claims))?, "group")?,
        };
    }
    if let Some(source) = &issuer.uid {
        user.uid = match source {
            Source::Claim { name, .. } => text_claim(claims, name)?,
            Source::Expression(e) => match eval("uid", e.of_claims(claims))? {
                Value::String(s) => s,
                _ => return Err("oidc: error evaluating uid claim expression: not a string".to_string()),
            },
        };
    }
    for (key, expression) in &issuer.extra {
        let values = texts(&eval("extra", expression.of_claims(claims))?, "extra")?;
        if !values.is_empty() {
            user.extra.insert(key.clone(), values);
        }
    }
    for rule in &issuer.claim_rules {
        match rule {
            ClaimRule::Required { claim, value } => match claims[claim].as_str() {
                None => return Err(format!("oidc: required claim {claim} not present in ID token")),
                Some(found) if found != value => {
                    return Err(format!(
                        "oidc: required claim {claim} value does not match. Got = {found}, want = {value}"
                    ));
                }
                _ => {}
            },
            ClaimRule::Expression { expression, message } => {
                if eval("validation", expression.of_claims(claims))? != true {
                    let text = expression.text();
                    return Err(match message.is_empty() {
                        true => format!(
                            "oidc: error evaluating claim validation expression: validation expression '{text}' failed"
                        ),
                        false => format!(
                            "oidc: error evaluating claim validation expression: validation expression '{text}' failed: {message}"
                        ),
                    });
                }
            }
        }
    }
    let info = json!({"username": user.name, "uid": user.uid, "groups": user.groups, "extra": user.extra});
    for (expression, message) in &issuer.user_rules {
        let passed =
            expression.of_user(&info).map_err(|e| format!("oidc: error evaluating user info validation rule: {e}"))?;
        if passed != true {
            return Err(format!(
                "oidc: error evaluating user info validation rule: validation expression '{}' failed: {message}",
                expression.text()
            ));
        }
    }
    Ok(user)
}

fn username(claims: &Value, source: &Source) -> Result<String, String> {
    match source {
        Source::Claim { name, prefix } => {
            let value = text_claim(claims, name)?;
            // An address that the issuer hasn't verified may be anybody's.
            if name == "email" && !claims["email_verified"].is_null() && claims["email_verified"] != true {
                return Err("oidc: email not verified".to_string());
            }
            Ok(format!("{prefix}{value}"))
        }
        Source::Expression(e) => match eval("username", e.of_claims(claims))? {
            Value::String(s) => Ok(s),
            _ => Err("oidc: error evaluating username claim expression: not a string".to_string()),
        },
    }
}

fn eval(what: &str, result: Result<Value, String>) -> Result<Value, String> {
    result.map_err(|e| format!("oidc: error evaluating {what} claim expression: {e}"))
}

fn text_claim(claims: &Value, name: &str) -> Result<String, String> {
    match &claims[name] {
        Value::String(s) => Ok(s.clone()),
        Value::Null => Err(format!("oidc: parse username claims {name:?}: claim not present")),
        _ => Err(format!("oidc: parse username claims {name:?}: not a string")),
    }
}

/// One string, or a list of them.
fn strings(value: &Value) -> Option<Vec<String>> {
    match value {
        Value::String(s) => Some(vec![s.clone()]),
        Value::Array(a) => a.iter().map(|v| v.as_str().map(str::to_string)).collect(),
        _ => None,
    }
}

/// What an expression gives for a list: null and empty strings are nothing.
fn texts(value: &Value, what: &str) -> Result<Vec<String>, String> {
    match value {
        Value::Null => Ok(Vec::new()),
        Value::String(s) if s.is_empty() => Ok(Vec::new()),
        value => strings(value).map(|all| all.into_iter().filter(|s| !s.is_empty()).collect()).ok_or_else(|| {
            format!("oidc: error evaluating {what} claim expression: neither a string nor a list of strings")
        }),
    }
}

#[cfg(test)]
mod tests;
