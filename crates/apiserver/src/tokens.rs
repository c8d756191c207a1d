//! Service-account tokens: issued on TokenRequest, verified on every request that carries one.
//!
//! In: [`Options`] (keys, issuers, limits), TokenRequest objects, compact JWTs. Out: JWTs with upstream's claims,
//! verified [`Claims`], and the two OpenID Connect discovery documents by which others can verify them.
//! Whether the account and what the token is bound to still exist is for `authn::service_account` to say.
//! How tokens and keys look on the wire is `jwt`'s business.

pub mod external;

use crate::jwt::{self, Key, SigningKey, Token};
use crate::reader::Reader;
use meta::field::{Errors, Path};
use meta::status::Status;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use std::sync::Arc;

/// Shortest life that can be asked for.
const EXPIRATION_SECONDS_MIN: i64 = 600;
const EXPIRATION_SECONDS_MAX: i64 = 1 << 32;
pub const EXPIRATION_SECONDS_DEFAULT: i64 = 3600;
/// Volumes that admission adds ask for exactly this life; such tokens live a year, because old clients read the
/// file once, and carry `warnafter`. Upstream: `WarnOnlyBoundTokenExpirationSeconds`.
pub const WARN_ONLY_EXPIRATION_SECONDS: i64 = 3607;
const EXTENDED_SECONDS: i64 = 365 * 24 * 3600;
/// Upstream's `max-age` of the discovery documents.
const KEYS_AGE_SECONDS: u64 = 3600;

const GROUP: &str = "authentication.k8s.io";
const KIND: &str = "TokenRequest";

#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("service-account {0}")]
    Key(jwt::Error),
    #[error("token is malformed")]
    Malformed,
    #[error("token's signature is wrong")]
    Signature,
    /// Of an external signer, which may know by now.
    #[error("token's key {0:?} is unknown")]
    UnknownKey(String),
    #[error("{0}")]
    External(String),
    /// Another issuer's: some other authenticator may know it.
    #[error("token is from issuer {0:?}")]
    Issuer(String),
    #[error("service account token has expired")]
    Expired,
    #[error("service account token is not valid yet")]
    NotYet,
    /// The account, or what the token is bound to, is gone.
    #[error("service account token has been invalidated")]
    Invalidated,
    /// They aren't as the token says.
    #[error("{0}")]
    Binding(String),
    #[error("token audiences {} is invalid for the target audiences {}", quoted(.have), quoted(.want))]
    Audience { have: Vec<String>, want: Vec<String> },
}

/// As Go's `%q` shows a list.
fn quoted(list: &[String]) -> String {
    let all: Vec<String> = list.iter().map(|s| format!("{s:?}")).collect();
    format!("[{}]", all.join(" "))
}

/// The payload of a service-account token. Source: "Managing Service Accounts", bound tokens.
#[derive(Clone, Debug, Serialize, Deserialize, PartialEq)]
pub struct Claims {
    pub aud: Audience,
    /// Unix seconds, as the others.
    pub exp: i64,
    pub iat: i64,
    pub iss: String,
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub jti: String,
    #[serde(rename = "kubernetes.io")]
    pub kubernetes: Kubernetes,
    pub nbf: i64,
    pub sub: String,
}

impl Claims {
    /// What an auditor wants to know of a token that is good, but only because such tokens live longer than they should:
    /// its bearer doesn't read the file anew. `now` in Unix seconds. Asked of verified claims only.
    pub fn stale(&self, now: i64) -> Option<String> {
        // Whoever signs elsewhere may write any number here; as upstream, 0 is none.
        let threshold = self.kubernetes.warnafter.filter(|at| *at != 0)?;
        let after = now.checked_sub(threshold).filter(|seconds| *seconds > 0)?;
        Some(format!("subject: {}, seconds after warning threshold: {after}", self.sub))
    }
}

/// One audience may be written as a bare string.
#[derive(Clone, Debug, Serialize, Deserialize, PartialEq)]
#[serde(untagged)]
pub enum Audience {
    Many(Vec<String>),
    One(String),
}

impl Audience {
    pub fn list(&self) -> Vec<String> {
        match self {
            Audience::Many(v) => v.clone(),
            Audience::One(s) => vec![s.clone()],
        }
    }
}

#[derive(Clone, Debug, Default, Serialize, Deserialize, PartialEq)]
pub struct Kubernetes {
    pub namespace: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub node: Option<Ref>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pod: Option<Ref>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub secret: Option<Ref>,
    pub serviceaccount: Ref,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub warnafter: Option<i64>,
}

#[derive(Clone, Debug, Default, Serialize, Deserialize, PartialEq)]
pub struct Ref {
    pub name: String,
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub uid: String,
}

impl Ref {
    fn of(object: &Value) -> Ref {
        let text = |k: &str| object["metadata"][k].as_str().unwrap_or_default().to_string();
        Ref { name: text("name"), uid: text("uid") }
    }
}

/// Issuer of the tokens that are kept in Secrets; they have no audience and no end.
pub const LEGACY_ISSUER: &str = "kubernetes/serviceaccount";

/// The payload of a token that is kept in a Secret of type `kubernetes.io/service-account-token`.
#[derive(Clone, Debug, Serialize, Deserialize, PartialEq)]
pub struct LegacyClaims {
    pub iss: String,
    #[serde(rename = "kubernetes.io/serviceaccount/namespace")]
    pub namespace: String,
    #[serde(rename = "kubernetes.io/serviceaccount/secret.name")]
    pub secret: String,
    #[serde(rename = "kubernetes.io/serviceaccount/service-account.name")]
    pub account: String,
    #[serde(rename = "kubernetes.io/serviceaccount/service-account.uid")]
    pub account_uid: String,
    pub sub: String,
}

/// Upstream's `--service-account-…` and `--api-audiences` flags.
#[derive(Clone, Debug)]
pub struct Options {
    /// Private key that signs, as PEM.
    pub signing_key_pem: String,
    /// Who signs and says which keys are good, in place of the two (`--service-account-signing-endpoint`).
    pub external: Option<Arc<external::Signer>>,
    /// PEM files with more keys whose tokens are good (`--service-account-key-file`).
    pub key_pems: Vec<String>,
    /// The first is written into new tokens; all are accepted.
    pub issuers: Vec<String>,
    /// What tokens for the API server itself are for; empty: the issuers.
    pub api_audiences: Vec<String>,
    /// Longest life, in seconds, that is given out.
    pub expiration_seconds_max: Option<i64>,
    /// Whether tokens of volumes live a year, for clients that read the file once.
    pub extend_expiration: bool,
    /// Where `/openid/v1/jwks` is told to be; the API server's own address by default.
    pub jwks_uri: Option<String>,
}

impl Options {
    pub fn new(signing_key_pem: &str, issuer: &str) -> Options {
        Options {
            signing_key_pem: signing_key_pem.to_string(),
            external: None,
            key_pems: Vec::new(),
            issuers: vec![issuer.to_string()],
            api_audiences: Vec::new(),
            expiration_seconds_max: None,
            extend_expiration: true,
            jwks_uri: None,
        }
    }
}

/// Signs with one key, verifies with several.
pub struct TokenIssuer {
    keys: Keys,
    issuers: Vec<String>,
    api_audiences: Vec<String>,
    expiration_seconds_max: Option<i64>,
    extend_expiration: bool,
    jwks_uri: Option<String>,
}

enum Keys {
    Own {
        signing: SigningKey,
        /// The signing key's public half first.
        good: Vec<Key>,
    },
    External(Arc<external::Signer>),
}

impl TokenIssuer {
    pub fn new(options: Options) -> Result<TokenIssuer, Error> {
        let keys = match options.external {
            Some(signer) => Keys::External(signer),
            None => {
                let signing = SigningKey::from_pem(&options.signing_key_pem).map_err(Error::Key)?;
                let mut good = vec![signing.public()];
                for pem in &options.key_pems {
                    for key in Key::all_from_pem(pem).map_err(Error::Key)? {
                        if !good.contains(&key) {
                            good.push(key);
                        }
                    }
                }
                Keys::Own { signing, good }
            }
        };
        Ok(TokenIssuer {
            keys,
            api_audiences: match options.api_audiences.is_empty() {
                true => options.issuers.clone(),
                false => options.api_audiences,
            },
            issuers: options.issuers,
            expiration_seconds_max: options.expiration_seconds_max,
            extend_expiration: options.extend_expiration,
            jwks_uri: options.jwks_uri,
        })
    }

    /// What new tokens name as their issuer.
    pub fn issuer(&self) -> &str {
        self.issuers.first().map_or("", String::as_str)
    }

    /// All issuers whose tokens are for this server to judge.
    pub fn issuers(&self) -> &[String] {
        &self.issuers
    }

    /// The audiences of the API server itself.
    pub fn api_audiences(&self) -> &[String] {
        &self.api_audiences
    }

    pub async fn sign(&self, claims: &Claims) -> Result<String, Error> {
        let payload = serde_json::to_vec(claims).map_err(|_| Error::Malformed)?;
        match &self.keys {
            Keys::Own { signing, .. } => signing.sign(&payload).map_err(Error::Key),
            Keys::External(signer) => signer.sign(&payload).await.map_err(Error::External),
        }
    }

    /// Who signs elsewhere, where somebody does.
    pub fn external(&self) -> Option<&Arc<external::Signer>> {
        match &self.keys {
            Keys::External(signer) => Some(signer),
            Keys::Own { .. } => None,
        }
    }

    /// What others may remember the keys for, seconds.
    pub fn keys_age_seconds_max(&self) -> u64 {
        self.external().map_or(KEYS_AGE_SECONDS, |s| s.keys_seconds_left())
    }

    /// The token of a Secret: good as long as Secret and account are there.
    pub fn sign_legacy(&self, namespace: &str, account: &Ref, secret: &str) -> Result<String, Error> {
        let Keys::Own { signing, .. } = &self.keys else {
            let why =
                "the external signer of service-account tokens makes none for Secrets; use \"kubectl create token\"";
            return Err(Error::External(why.into()));
        };
        let claims = LegacyClaims {
            iss: LEGACY_ISSUER.to_string(),
            namespace: namespace.to_string(),
            secret: secret.to_string(),
            account: account.name.clone(),
            account_uid: account.uid.clone(),
            sub: format!("system:serviceaccount:{namespace}:{}", account.name),
        };
        let payload = serde_json::to_vec(&claims).map_err(|_| Error::Malformed)?;
        signing.sign(&payload).map_err(Error::Key)
    }

    /// Whether a legacy token is one that this server made, for a token controller that looks at what a Secret holds.
    pub fn verify_legacy(&self, token: &Token<'_>) -> Result<LegacyClaims, Error> {
        self.check_signature(token)?;
        let claims: LegacyClaims = serde_json::from_value(token.payload.clone()).map_err(|_| Error::Malformed)?;
        if claims.iss != LEGACY_ISSUER {
            return Err(Error::Issuer(claims.iss));
        }
        Ok(claims)
    }

    fn check_signature(&self, token: &Token<'_>) -> Result<(), Error> {
        let good = match &self.keys {
            Keys::Own { good, .. } => token.verified_by(good),
            Keys::External(signer) => {
                let keys = signer.keys();
                if let Some(id) = token.key_id.as_deref().filter(|id| !keys.knows(id)) {
                    return Err(Error::UnknownKey(id.to_string()));
                }
                token.verified_by(&keys.all)
            }
        };
        match good {
            Ok(true) => Ok(()),
            _ => Err(Error::Signature),
        }
    }

    /// What tokens are verified with at present, so that a change can be told. One's own keys don't change.
    pub fn keys_now(&self) -> Option<Arc<external::Keys>> {
        self.external().map(|s| s.keys())
    }

    /// Checks everything that a token alone can tell. `audiences`: good for any one of these; the claims come
    /// with those that matched. `now` in Unix seconds.
    pub fn verify(&self, token: &Token<'_>, audiences: &[String], now: i64) -> Result<(Claims, Vec<String>), Error> {
        // The issuer is read before the signature is checked only to tell others' tokens from bad ones.
        if !self.issuers.iter().any(|i| i == token.issuer()) {
            return Err(Error::Issuer(token.issuer().to_string()));
        }
        self.check_signature(token)?;
        let claims: Claims = serde_json::from_value(token.payload.clone()).map_err(|_| Error::Malformed)?;
        check_times(&claims, now)?;
        let have = claims.aud.list();
        let matched: Vec<String> = audiences.iter().filter(|a| have.contains(a)).cloned().collect();
        if matched.is_empty() {
            return Err(Error::Audience { have, want: audiences.to_vec() });
        }
        Ok((claims, matched))
    }

    /// Answers a TokenRequest (`POST …/serviceaccounts/<name>/token`): checks it, looks up what it is bound to, and
    /// returns it with its status, and warnings for the client.
    pub async fn token_request(
        &self,
        reader: &Reader,
        namespace: &str,
        name: &str,
        request: &Value,
        now: jiff::Timestamp,
    ) -> Result<(Value, Vec<String>), Status> {
        let mut request = request.clone();
        let account = self.prepare(reader, namespace, name, &mut request, now)?;
        self.issue(reader, namespace, account, request, now).await
    }

    /// Fills in what a TokenRequest leaves open, and checks it. Returns the account that it is for.
    pub fn prepare(
        &self,
        reader: &Reader,
        namespace: &str,
        name: &str,
        request: &mut Value,
        now: jiff::Timestamp,
    ) -> Result<Ref, Status> {
        if !request.is_object() {
            return Err(Status::bad_request("request body is not a TokenRequest"));
        }
        let invalid = |name: &str, errors: &Errors| Status::invalid(GROUP, KIND, name, errors);
        for (key, own) in [("name", name), ("namespace", namespace)] {
            let given = request["metadata"][key].as_str().unwrap_or_default();
            if !given.is_empty() && given != own {
                let mut errors = Errors::default();
                let why = format!("must match the service account {key} if specified");
                errors.invalid(Path::new("metadata").child(key), given, why);
                return Err(invalid(name, &errors));
            }
        }
        let account = reader
            .get("", "serviceaccounts", namespace, name)
            .ok_or_else(|| Status::not_found("", "serviceaccounts", name))?;
        let account = Ref::of(&account.value());
        let asked = request["metadata"]["uid"].as_str().unwrap_or_default();
        if !asked.is_empty() && asked != account.uid {
            let why = format!(
                "the UID in the token request ({asked}) does not match the UID of the service account ({})",
                account.uid
            );
            return Err(Status::conflict(GROUP, KIND, name, why));
        }
        request["metadata"]["name"] = name.into();
        request["metadata"]["namespace"] = namespace.into();
        request["metadata"]["uid"] = account.uid.clone().into();
        request["metadata"]["creationTimestamp"] = seconds_of(now)?.to_string().into();
        if request["spec"]["audiences"].as_array().is_none_or(Vec::is_empty) {
            request["spec"]["audiences"] = self.api_audiences.clone().into();
        }
        if let Some(map) = request.as_object_mut() {
            map.remove("status");
        }
        let seconds = request["spec"]["expirationSeconds"].as_i64().unwrap_or(EXPIRATION_SECONDS_DEFAULT);
        request["spec"]["expirationSeconds"] = seconds.into();
        // Upstream's type has no way to leave it out.
        if request["spec"].get("boundObjectRef").is_none() {
            request["spec"]["boundObjectRef"] = Value::Null;
        }
        let mut errors = Errors::default();
        let path = Path::new("spec").child("expirationSeconds");
        if seconds < EXPIRATION_SECONDS_MIN {
            errors.invalid(path, seconds, "may not specify a duration less than 10 minutes");
        } else if seconds > EXPIRATION_SECONDS_MAX {
            errors.invalid(path, seconds, "may not specify a duration larger than 2^32 seconds");
        }
        if errors.is_empty() { Ok(account) } else { Err(invalid("", &errors)) }
    }

    /// The token that a prepared TokenRequest asks for.
    pub async fn issue(
        &self,
        reader: &Reader,
        namespace: &str,
        account: Ref,
        mut answer: Value,
        now: jiff::Timestamp,
    ) -> Result<(Value, Vec<String>), Status> {
        let name = account.name.clone();
        let audiences: Vec<String> = answer["spec"]["audiences"]
            .as_array()
            .map(|a| a.iter().filter_map(|v| v.as_str().map(str::to_string)).collect())
            .unwrap_or_default();
        let mut seconds = answer["spec"]["expirationSeconds"].as_i64().unwrap_or(EXPIRATION_SECONDS_DEFAULT);
        let mut kubernetes =
            Kubernetes { namespace: namespace.to_string(), serviceaccount: account, ..Kubernetes::default() };
        bind(reader, namespace, &name, &answer["spec"]["boundObjectRef"], &mut kubernetes)?;

        let mut warnings = Vec::new();
        if let Some(max) = self.expiration_seconds_max
            && seconds > max
        {
            warnings.push(format!("requested expiration of {seconds} seconds shortened to {max} seconds"));
            seconds = max;
        }
        let issued = now.as_second();
        let mut exp = issued + seconds;
        if self.extend_expiration
            && seconds == WARN_ONLY_EXPIRATION_SECONDS
            && kubernetes.pod.is_some()
            && audiences.iter().all(|a| self.api_audiences.contains(a))
        {
            kubernetes.warnafter = Some(exp);
            // An external signer's own limit counts here, not the flag's.
            let most = self.external().map(|s| s.expiration_seconds_max).or(self.expiration_seconds_max);
            exp = issued + most.unwrap_or(EXTENDED_SECONDS).min(EXTENDED_SECONDS);
        }
        let claims = Claims {
            aud: Audience::Many(audiences.clone()),
            exp,
            iat: issued,
            iss: self.issuer().to_string(),
            jti: uuid::Uuid::new_v4().to_string(),
            kubernetes,
            nbf: issued,
            sub: format!("system:serviceaccount:{namespace}:{name}"),
        };
        let failed = |e: Error| Status::internal(format!("failed to generate token: {e}"));
        let token = self.sign(&claims).await.map_err(failed)?;
        let expires = jiff::Timestamp::from_second(issued + seconds).map_err(Status::internal)?;
        answer["spec"]["expirationSeconds"] = seconds.into();
        answer["status"] = json!({"token": token, "expirationTimestamp": expires.to_string()});
        Ok((answer, warnings))
    }

    /// `/.well-known/openid-configuration`. `advertised`: `host:port` of the API server.
    pub fn openid_configuration(&self, advertised: &str) -> Value {
        let mut algorithms: Vec<&str> = self.published().iter().map(|k| k.default_algorithm().name()).collect();
        algorithms.sort_unstable();
        algorithms.dedup();
        let jwks_uri = self.jwks_uri.clone().unwrap_or_else(|| format!("https://{advertised}/openid/v1/jwks"));
        json!({
            "issuer": self.issuer(),
            "jwks_uri": jwks_uri,
            "response_types_supported": ["id_token"],
            "subject_types_supported": ["public"],
            "id_token_signing_alg_values_supported": algorithms,
        })
    }

    /// `/openid/v1/jwks`, sent as `application/jwk-set+json`.
    pub fn jwks(&self) -> Value {
        json!({"keys": self.published().iter().map(Key::to_jwk).collect::<Vec<_>>()})
    }

    fn published(&self) -> Vec<Key> {
        match &self.keys {
            Keys::Own { good, .. } => good.clone(),
            Keys::External(signer) => signer.keys().published().cloned().collect(),
        }
    }
}

/// Times in objects have no fractions.
fn seconds_of(time: jiff::Timestamp) -> Result<jiff::Timestamp, Status> {
    jiff::Timestamp::from_second(time.as_second()).map_err(Status::internal)
}

/// Validity of a token's times, also asked again for tokens whose signature is already known.
pub fn check_times(claims: &Claims, now: i64) -> Result<(), Error> {
    if now >= claims.exp {
        return Err(Error::Expired);
    }
    // Clocks of servers may differ a little.
    if now + 60 < claims.nbf {
        return Err(Error::NotYet);
    }
    Ok(())
}

/// Looks up what the token shall be bound to, and checks that it fits the account.
fn bind(reader: &Reader, namespace: &str, account: &str, bound: &Value, into: &mut Kubernetes) -> Result<(), Status> {
    if bound.is_null() {
        return Ok(());
    }
    let (kind, version) =
        (bound["kind"].as_str().unwrap_or_default(), bound["apiVersion"].as_str().unwrap_or_default());
    let bound_name = bound["name"].as_str().unwrap_or_default();
    // The version doesn't matter, and need not be there.
    let (group, v) = version.split_once('/').unwrap_or(("", version));
    let (resource, scope) = match (group, kind) {
        ("", "Pod") => ("pods", namespace),
        ("", "Secret") => ("secrets", namespace),
        ("", "Node") => ("nodes", ""),
        _ => return Err(Status::bad_request(format!("cannot bind token to object of type {group}/{v}, Kind={kind}"))),
    };
    let object =
        reader.get("", resource, scope, bound_name).ok_or_else(|| Status::not_found("", resource, bound_name))?.value();
    let found = Ref::of(&object);
    let asked_uid = bound["uid"].as_str().unwrap_or_default();
    if kind == "Pod" && object["spec"]["serviceAccountName"].as_str().unwrap_or_default() != account {
        return Err(Status::bad_request(format!(
            "cannot bind token for serviceaccount {account:?} to pod running with different serviceaccount name."
        )));
    }
    if !asked_uid.is_empty() && asked_uid != found.uid {
        return Err(Status::conflict(
            "",
            kind,
            bound_name,
            format!(
                "the UID in the bound object reference ({asked_uid}) does not match the UID in record. \
                 The object might have been deleted and then recreated"
            ),
        ));
    }
    match kind {
        "Pod" => {
            if let Some(node) = object["spec"]["nodeName"].as_str().filter(|n| !n.is_empty()) {
                into.node = Some(match reader.get("", "nodes", "", node) {
                    Some(n) => Ref::of(&n.value()),
                    None => Ref { name: node.to_string(), uid: String::new() },
                });
            }
            into.pod = Some(found);
        }
        "Secret" => into.secret = Some(found),
        _ => into.node = Some(found),
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::reader;

    const ISSUER: &str = "https://kubernetes.default.svc.cluster.local";

    fn issuer() -> TokenIssuer {
        TokenIssuer::new(Options::new(&rcgen::KeyPair::generate().unwrap().serialize_pem(), ISSUER)).unwrap()
    }

    fn claims(now: i64) -> Claims {
        Claims {
            aud: Audience::Many(vec!["a".into(), "b".into()]),
            exp: now + 600,
            iat: now,
            iss: ISSUER.into(),
            jti: "j".into(),
            kubernetes: Kubernetes::default(),
            nbf: now,
            sub: "system:serviceaccount:d:s".into(),
        }
    }

    #[tokio::test]
    async fn verification_refuses_what_was_changed_worn_or_meant_for_others() {
        let i = issuer();
        let token = i.sign(&claims(1000)).await.unwrap();
        let want = |a: &str| vec![a.to_string()];
        let verify = |i: &TokenIssuer, token: &str, audience: &str, now: i64| {
            i.verify(&Token::parse(token).unwrap(), &want(audience), now)
        };
        assert_eq!(verify(&i, &token, "b", 1000).unwrap().1, want("b"));
        assert!(matches!(verify(&i, &token, "c", 1000), Err(Error::Audience { .. })));
        assert!(matches!(verify(&i, &token, "a", 1600), Err(Error::Expired)));
        assert!(matches!(verify(&i, &token, "a", 900), Err(Error::NotYet)));
        assert!(matches!(verify(&issuer(), &token, "a", 1000), Err(Error::Signature)));
        let other = i.sign(&Claims { iss: "https://other".into(), ..claims(1000) }).await.unwrap();
        assert!(matches!(verify(&i, &other, "a", 1000), Err(Error::Issuer(_))));
    }

    /// Keys and issuers are changed without a moment in which good tokens are refused.
    #[tokio::test]
    async fn old_keys_and_issuers_stay_good_while_they_are_listed() {
        let (old_key, new_key) = (rcgen::KeyPair::generate().unwrap(), include_str!("jwt/rsa.pem"));
        let old = TokenIssuer::new(Options::new(&old_key.serialize_pem(), "https://old")).unwrap();
        let new = TokenIssuer::new(Options {
            key_pems: vec![old_key.public_key_pem(), new_key.to_string()],
            issuers: vec!["https://new".into(), "https://old".into()],
            ..Options::new(new_key, "")
        })
        .unwrap();
        let claims = |issuer: &str| Claims { iss: issuer.into(), ..claims(1000) };
        let audience = ["a".to_string()];
        for (signer, issuer, good) in
            [(&old, "https://old", true), (&new, "https://new", true), (&old, "https://x", false)]
        {
            let token = signer.sign(&claims(issuer)).await.unwrap();
            assert_eq!(new.verify(&Token::parse(&token).unwrap(), &audience, 1000).is_ok(), good, "{issuer}");
        }
        assert_eq!(new.api_audiences(), ["https://new", "https://old"]);
        let document = new.openid_configuration("h:1");
        assert_eq!(document["id_token_signing_alg_values_supported"], json!(["ES256", "RS256"]));
        assert_eq!(document["jwks_uri"], "https://h:1/openid/v1/jwks");
        assert_eq!(new.jwks()["keys"].as_array().unwrap().len(), 2);
    }

    #[tokio::test]
    async fn discovery_documents_let_others_verify() {
        let i = issuer();
        let token = i.sign(&claims(1)).await.unwrap();
        let token = Token::parse(&token).unwrap();
        let keys = Key::set_from(&i.jwks());
        assert_eq!(token.verified_by(&keys), Ok(true));
        assert_eq!(token.key_id, keys[0].id);
        assert_eq!(i.openid_configuration("x")["issuer"], ISSUER);
    }

    #[tokio::test]
    async fn token_requests_are_checked_and_bound() {
        let r = reader(&[
            json!({"apiVersion":"v1","kind":"ServiceAccount","metadata":{"namespace":"d","name":"s","uid":"su"}}),
            json!({"apiVersion":"v1","kind":"Pod","metadata":{"namespace":"d","name":"p","uid":"pu"},
                   "spec":{"serviceAccountName":"s","nodeName":"n"}}),
            json!({"apiVersion":"v1","kind":"Pod","metadata":{"namespace":"d","name":"q","uid":"qu"},
                   "spec":{"serviceAccountName":"other"}}),
            json!({"apiVersion":"v1","kind":"Node","metadata":{"name":"n","uid":"nu"}}),
        ])
        .await;
        let i = issuer();
        let now: jiff::Timestamp = "2026-01-01T00:00:00Z".parse().unwrap();
        let ask = async |spec: Value| {
            i.token_request(&r, "d", "s", &json!({"spec": spec}), now).await.map(|(answer, _)| answer)
        };

        let answer = ask(json!({"audiences":["vault"],"expirationSeconds":600})).await.unwrap();
        assert_eq!(answer["status"]["expirationTimestamp"], "2026-01-01T00:10:00Z");
        let metadata = json!({"name":"s","namespace":"d","uid":"su","creationTimestamp":"2026-01-01T00:00:00Z"});
        assert_eq!(answer["metadata"], metadata);
        assert_eq!(answer["spec"].get("boundObjectRef"), Some(&Value::Null));
        let token = answer["status"]["token"].as_str().unwrap();
        let (c, _) = i.verify(&Token::parse(token).unwrap(), &["vault".to_string()], now.as_second()).unwrap();
        assert_eq!((c.sub.as_str(), c.kubernetes.serviceaccount.uid.as_str()), ("system:serviceaccount:d:s", "su"));
        assert_eq!((c.exp - c.iat, c.kubernetes.warnafter), (600, None));

        let pod = json!({"kind":"Pod","apiVersion":"v1","name":"p","uid":"pu"});
        let answer = ask(json!({"boundObjectRef":pod,"expirationSeconds":3607})).await.unwrap();
        let token = answer["status"]["token"].as_str().unwrap();
        let (c, _) = i.verify(&Token::parse(token).unwrap(), i.api_audiences(), now.as_second()).unwrap();
        assert_eq!(c.kubernetes.pod, Some(Ref { name: "p".into(), uid: "pu".into() }));
        assert_eq!(c.kubernetes.node, Some(Ref { name: "n".into(), uid: "nu".into() }));
        assert_eq!(c.kubernetes.warnafter, Some(now.as_second() + 3607));
        assert_eq!(c.stale(now.as_second() + 3607), None);
        let told = "subject: system:serviceaccount:d:s, seconds after warning threshold: 3";
        assert_eq!(c.stale(now.as_second() + 3610).as_deref(), Some(told));
        for (warnafter, is_stale) in [(i64::MIN, false), (i64::MAX, false), (0, false), (1, true)] {
            let kubernetes = Kubernetes { warnafter: Some(warnafter), ..Kubernetes::default() };
            assert_eq!(Claims { kubernetes, ..c.clone() }.stale(2).is_some(), is_stale, "{warnafter}");
        }
        assert_eq!(c.exp - c.iat, 365 * 24 * 3600);
        assert_eq!(answer["status"]["expirationTimestamp"], "2026-01-01T01:00:07Z");

        for (spec, code, text) in [
            (json!({"expirationSeconds":599}), 422, "may not specify a duration less than 10 minutes"),
            (json!({"expirationSeconds":4294967297i64}), 422, "may not specify a duration larger than 2^32 seconds"),
            (json!({"boundObjectRef":{"kind":"Pod","apiVersion":"v1","name":"p","uid":"old"}}), 409, "(old)"),
            (json!({"boundObjectRef":{"kind":"Pod","apiVersion":"v1","name":"q"}}), 400, "different serviceaccount"),
            (json!({"boundObjectRef":{"kind":"Pod","apiVersion":"v1","name":"z"}}), 404, "pods \"z\" not found"),
            (json!({"boundObjectRef":{"kind":"Job","apiVersion":"batch/v1","name":"z"}}), 400, "batch/v1, Kind=Job"),
        ] {
            let e = ask(spec).await.unwrap_err();
            assert_eq!(e.code, code, "{e}");
            assert!(e.message.contains(text), "{e}");
        }
        let with = async |metadata: Value| {
            let request = json!({"metadata": metadata, "spec": {"expirationSeconds": 1}});
            i.token_request(&r, "d", "s", &request, now).await.unwrap_err()
        };
        for (metadata, code, text) in [
            (
                json!({"name":"t"}),
                422,
                "TokenRequest.authentication.k8s.io \"s\" is invalid: metadata.name: Invalid value: \"t\": must match the \
                 service account name if specified",
            ),
            (
                json!({"name":"s","namespace":"e"}),
                422,
                "TokenRequest.authentication.k8s.io \"s\" is invalid: metadata.namespace: Invalid value: \"e\": must \
                 match the service account namespace if specified",
            ),
            (
                json!({"uid":"old"}),
                409,
                "Operation cannot be fulfilled on TokenRequest.authentication.k8s.io \"s\": the UID in the token request \
                 (old) does not match the UID of the service account (su)",
            ),
            (
                json!({"uid":"su"}),
                422,
                "TokenRequest.authentication.k8s.io \"\" is invalid: spec.expirationSeconds: Invalid value: 1: may not \
                 specify a duration less than 10 minutes",
            ),
        ] {
            let e = with(metadata).await;
            assert_eq!((e.code, e.message.as_str()), (code, text));
        }
        let unversioned = json!({"kind":"Pod","name":"p","uid":"pu"});
        assert_eq!(ask(json!({"boundObjectRef":unversioned})).await.map(|_| ()), Ok(()));
        assert_eq!(i.token_request(&r, "d", "none", &json!({"spec":{}}), now).await.unwrap_err().code, 404);

        let key = rcgen::KeyPair::generate().unwrap().serialize_pem();
        let strict = TokenIssuer::new(Options {
            expiration_seconds_max: Some(3700),
            extend_expiration: false,
            ..Options::new(&key, ISSUER)
        })
        .unwrap();
        let ask = async |seconds: i64| {
            let spec = json!({"boundObjectRef":pod,"expirationSeconds":seconds});
            strict.token_request(&r, "d", "s", &json!({"spec": spec}), now).await.unwrap()
        };
        assert_eq!(ask(86400).await.1, ["requested expiration of 86400 seconds shortened to 3700 seconds"]);
        assert_eq!(ask(86400).await.0["spec"]["expirationSeconds"], 3700);
        assert_eq!(ask(3607).await.0["status"]["expirationTimestamp"], "2026-01-01T01:00:07Z");
    }
}
