//! Service-account tokens: issued on TokenRequest, verified on every request that carries one.
//!
//! In: the signing key, TokenRequest objects, compact JWTs. Out: JWTs with upstream's claims, verified [`Claims`],
//! and the two OpenID Connect discovery documents by which others can verify them.
//! Whether the account and what the token is bound to still exist is for `authn::service_account` to say.
//!
//! Only ES256 is made or taken: an algorithm is never chosen by what a token says of itself.

use crate::reader::Reader;
use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use meta::field::{Errors, Path};
use meta::status::Status;
use ring::signature::{
    ECDSA_P256_SHA256_FIXED, ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, KeyPair, UnparsedPublicKey,
};
use rustls::pki_types::{PrivatePkcs8KeyDer, pem::PemObject};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use sha2::{Digest, Sha256};

/// Shortest life that can be asked for.
const EXPIRATION_SECONDS_MIN: i64 = 600;
const EXPIRATION_SECONDS_MAX: i64 = 1 << 32;
const EXPIRATION_SECONDS_DEFAULT: i64 = 3600;
/// Volumes that admission adds ask for exactly this life; such tokens live a year, because old clients read the
/// file once, and carry `warnafter`. Upstream: `WarnOnlyBoundTokenExpirationSeconds`.
pub const WARN_ONLY_EXPIRATION_SECONDS: i64 = 3607;
const EXTENDED_SECONDS: i64 = 365 * 24 * 3600;

#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("service-account key is unusable: {0}")]
    Key(String),
    #[error("token is malformed")]
    Malformed,
    #[error("token's signature is wrong")]
    Signature,
    /// Another issuer's: some other authenticator may know it.
    #[error("token is from issuer {0:?}")]
    Issuer(String),
    #[error("token has expired")]
    Expired,
    #[error("token is not valid yet")]
    NotYet,
    #[error("token audiences {have:?} are not for {want:?}")]
    Audience { have: Vec<String>, want: Vec<String> },
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

/// Signs and verifies with one key.
pub struct TokenIssuer {
    key: EcdsaKeyPair,
    random: ring::rand::SystemRandom,
    /// Hash of the public key, by which verifiers find it.
    key_id: String,
    issuer: String,
    api_audiences: Vec<String>,
}

impl TokenIssuer {
    /// `issuer`: for example `https://kubernetes.default.svc.cluster.local`. `api_audiences`: what tokens for
    /// the API server itself are for; empty means the issuer.
    pub fn new(key_pem: &str, issuer: &str, api_audiences: &[String]) -> Result<TokenIssuer, Error> {
        let der = PrivatePkcs8KeyDer::from_pem_slice(key_pem.as_bytes()).map_err(|e| Error::Key(e.to_string()))?;
        let random = ring::rand::SystemRandom::new();
        let key = EcdsaKeyPair::from_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, der.secret_pkcs8_der(), &random)
            .map_err(|e| Error::Key(e.to_string()))?;
        let public_info = rcgen::KeyPair::from_pem(key_pem)
            .map(|k| rcgen::PublicKeyData::subject_public_key_info(&k))
            .map_err(|e| Error::Key(e.to_string()))?;
        Ok(TokenIssuer {
            key,
            random,
            key_id: URL_SAFE_NO_PAD.encode(Sha256::digest(&public_info)),
            issuer: issuer.to_string(),
            api_audiences: if api_audiences.is_empty() { vec![issuer.to_string()] } else { api_audiences.to_vec() },
        })
    }

    pub fn issuer(&self) -> &str {
        &self.issuer
    }

    /// The audiences of the API server itself.
    pub fn api_audiences(&self) -> &[String] {
        &self.api_audiences
    }

    pub fn sign(&self, claims: &Claims) -> Result<String, Error> {
        let header = json!({"alg": "ES256", "kid": self.key_id});
        let payload = serde_json::to_vec(claims).map_err(|e| Error::Key(e.to_string()))?;
        let mut token = format!("{}.{}", URL_SAFE_NO_PAD.encode(header.to_string()), URL_SAFE_NO_PAD.encode(payload));
        let signature = self.key.sign(&self.random, token.as_bytes()).map_err(|e| Error::Key(e.to_string()))?;
        token.push('.');
        token.push_str(&URL_SAFE_NO_PAD.encode(signature.as_ref()));
        Ok(token)
    }

    /// Checks everything that a token alone can tell. `audiences`: good for any one of these; the claims come
    /// with those that matched. `now` in Unix seconds.
    pub fn verify(&self, token: &str, audiences: &[String], now: i64) -> Result<(Claims, Vec<String>), Error> {
        let (signed, signature) = token.rsplit_once('.').ok_or(Error::Malformed)?;
        let (header, payload) = signed.split_once('.').ok_or(Error::Malformed)?;
        let decode = |part: &str| URL_SAFE_NO_PAD.decode(part).map_err(|_| Error::Malformed);
        let payload = decode(payload)?;
        // The issuer is read before the signature is checked only to tell others' tokens from bad ones.
        #[derive(Deserialize)]
        struct Issuer {
            #[serde(default)]
            iss: String,
        }
        let claimed: Issuer = serde_json::from_slice(&payload).map_err(|_| Error::Malformed)?;
        if claimed.iss != self.issuer {
            return Err(Error::Issuer(claimed.iss));
        }
        let header: Value = serde_json::from_slice(&decode(header)?).map_err(|_| Error::Malformed)?;
        if header["alg"] != "ES256" || !header["crit"].is_null() {
            return Err(Error::Signature);
        }
        UnparsedPublicKey::new(&ECDSA_P256_SHA256_FIXED, self.key.public_key().as_ref())
            .verify(signed.as_bytes(), &decode(signature)?)
            .map_err(|_| Error::Signature)?;
        let claims: Claims = serde_json::from_slice(&payload).map_err(|_| Error::Malformed)?;
        check_times(&claims, now)?;
        let have = claims.aud.list();
        let matched: Vec<String> = audiences.iter().filter(|a| have.contains(a)).cloned().collect();
        if matched.is_empty() {
            return Err(Error::Audience { have, want: audiences.to_vec() });
        }
        Ok((claims, matched))
    }

    /// Answers a TokenRequest (`POST …/serviceaccounts/<name>/token`): checks it, looks up what it is bound to, and
    /// returns it with its status.
    pub fn token_request(
        &self,
        reader: &Reader,
        namespace: &str,
        name: &str,
        request: &Value,
        now: jiff::Timestamp,
    ) -> Result<Value, Status> {
        let account = reader
            .get("", "serviceaccounts", namespace, name)
            .ok_or_else(|| Status::not_found("", "serviceaccounts", name))?
            .value();
        let mut answer = request.clone();
        if !answer.is_object() {
            return Err(Status::bad_request("request body is not a TokenRequest"));
        }
        for (key, own) in [("name", name), ("namespace", namespace)] {
            match request["metadata"][key].as_str().unwrap_or_default() {
                "" => answer["metadata"][key] = own.into(),
                given if given != own => {
                    return Err(Status::bad_request(format!(
                        "the {key} in the request's metadata ({given}) does not match the {key} in the URL ({own})"
                    )));
                }
                _ => {}
            }
        }
        let mut audiences: Vec<String> = request["spec"]["audiences"]
            .as_array()
            .map(|a| a.iter().filter_map(|v| v.as_str().map(str::to_string)).collect())
            .unwrap_or_default();
        if audiences.is_empty() {
            audiences = self.api_audiences.clone();
        }
        let seconds = request["spec"]["expirationSeconds"].as_i64().unwrap_or(EXPIRATION_SECONDS_DEFAULT);
        let mut errors = Errors::default();
        let path = Path::new("spec").child("expirationSeconds");
        if seconds < EXPIRATION_SECONDS_MIN {
            errors.invalid(path, seconds, "may not specify a duration less than 10 minutes");
        } else if seconds > EXPIRATION_SECONDS_MAX {
            errors.invalid(path, seconds, "may not specify a duration larger than 2^32 seconds");
        }
        if !errors.is_empty() {
            return Err(Status::invalid("authentication.k8s.io", "TokenRequest", name, &errors));
        }
        let mut kubernetes =
            Kubernetes { namespace: namespace.to_string(), serviceaccount: Ref::of(&account), ..Kubernetes::default() };
        bind(reader, namespace, name, &request["spec"]["boundObjectRef"], &mut kubernetes)?;

        let issued = now.as_second();
        let mut exp = issued + seconds;
        if seconds == WARN_ONLY_EXPIRATION_SECONDS
            && kubernetes.pod.is_some()
            && audiences.iter().all(|a| self.api_audiences.contains(a))
        {
            kubernetes.warnafter = Some(exp);
            exp = issued + EXTENDED_SECONDS;
        }
        let claims = Claims {
            aud: Audience::Many(audiences.clone()),
            exp,
            iat: issued,
            iss: self.issuer.clone(),
            jti: uuid::Uuid::new_v4().to_string(),
            kubernetes,
            nbf: issued,
            sub: format!("system:serviceaccount:{namespace}:{name}"),
        };
        let token = self.sign(&claims).map_err(Status::internal)?;
        let expires = jiff::Timestamp::from_second(issued + seconds).map_err(Status::internal)?;
        answer["spec"]["audiences"] = audiences.into();
        answer["spec"]["expirationSeconds"] = seconds.into();
        answer["status"] = json!({"token": token, "expirationTimestamp": expires.to_string()});
        Ok(answer)
    }

    /// `/.well-known/openid-configuration`. `jwks_uri`: where `/openid/v1/jwks` is reached.
    pub fn openid_configuration(&self, jwks_uri: &str) -> Value {
        json!({
            "issuer": self.issuer,
            "jwks_uri": jwks_uri,
            "response_types_supported": ["id_token"],
            "subject_types_supported": ["public"],
            "id_token_signing_alg_values_supported": ["ES256"],
        })
    }

    /// `/openid/v1/jwks`, sent as `application/jwk-set+json`.
    pub fn jwks(&self) -> Value {
        // An uncompressed point: 0x04, then both coordinates.
        let point = self.key.public_key().as_ref();
        let (x, y) = point.get(1..).unwrap_or_default().split_at(point.len() / 2);
        json!({"keys": [{
            "use": "sig", "kty": "EC", "kid": self.key_id, "crv": "P-256", "alg": "ES256",
            "x": URL_SAFE_NO_PAD.encode(x), "y": URL_SAFE_NO_PAD.encode(y),
        }]})
    }
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
    let (resource, scope) = match (version, kind) {
        ("v1", "Pod") => ("pods", namespace),
        ("v1", "Secret") => ("secrets", namespace),
        ("v1", "Node") => ("nodes", ""),
        _ => {
            let (group, v) = version.split_once('/').unwrap_or(("", version));
            return Err(Status::bad_request(format!("cannot bind token to object of type {group}/{v}, Kind={kind}")));
        }
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
        TokenIssuer::new(&rcgen::KeyPair::generate().unwrap().serialize_pem(), ISSUER, &[]).unwrap()
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

    #[test]
    fn verification_refuses_what_was_changed_worn_or_meant_for_others() {
        let i = issuer();
        let token = i.sign(&claims(1000)).unwrap();
        let want = |a: &str| vec![a.to_string()];
        assert_eq!(i.verify(&token, &want("b"), 1000).unwrap().1, want("b"));
        assert!(matches!(i.verify(&token, &want("c"), 1000), Err(Error::Audience { .. })));
        assert!(matches!(i.verify(&token, &want("a"), 1600), Err(Error::Expired)));
        assert!(matches!(i.verify(&token, &want("a"), 900), Err(Error::NotYet)));
        assert!(matches!(issuer().verify(&token, &want("a"), 1000), Err(Error::Signature)));

        let parts: Vec<&str> = token.split('.').collect();
        let mut forged = claims(1000);
        forged.sub = "system:serviceaccount:kube-system:admin".into();
        let payload = URL_SAFE_NO_PAD.encode(serde_json::to_vec(&forged).unwrap());
        assert!(matches!(
            i.verify(&format!("{}.{payload}.{}", parts[0], parts[2]), &want("a"), 1000),
            Err(Error::Signature)
        ));
        let none = URL_SAFE_NO_PAD.encode(r#"{"alg":"none"}"#);
        assert!(matches!(i.verify(&format!("{none}.{}.", parts[1]), &want("a"), 1000), Err(Error::Signature)));
        let other = i.sign(&Claims { iss: "https://other".into(), ..claims(1000) }).unwrap();
        assert!(matches!(i.verify(&other, &want("a"), 1000), Err(Error::Issuer(_))));
        for junk in ["", ".", "..", "a.b.c", "é.é.é", "abc"] {
            assert!(matches!(i.verify(junk, &want("a"), 1000), Err(Error::Malformed)), "{junk}");
        }
    }

    #[test]
    fn discovery_documents_let_others_verify() {
        let i = issuer();
        let jwk = &i.jwks()["keys"][0];
        let mut point = vec![4];
        for c in ["x", "y"] {
            let bytes = URL_SAFE_NO_PAD.decode(jwk[c].as_str().unwrap()).unwrap();
            assert_eq!(bytes.len(), 32);
            point.extend(bytes);
        }
        let token = i.sign(&claims(1)).unwrap();
        let (signed, signature) = token.rsplit_once('.').unwrap();
        UnparsedPublicKey::new(&ECDSA_P256_SHA256_FIXED, point)
            .verify(signed.as_bytes(), &URL_SAFE_NO_PAD.decode(signature).unwrap())
            .unwrap();
        let header: Value =
            serde_json::from_slice(&URL_SAFE_NO_PAD.decode(token.split('.').next().unwrap()).unwrap()).unwrap();
        assert_eq!(header["kid"], jwk["kid"]);
        assert_eq!(i.openid_configuration("https://x/openid/v1/jwks")["issuer"], ISSUER);
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
        let ask = |spec: Value| i.token_request(&r, "d", "s", &json!({"spec": spec}), now);

        let answer = ask(json!({"audiences":["vault"],"expirationSeconds":600})).unwrap();
        assert_eq!(answer["status"]["expirationTimestamp"], "2026-01-01T00:10:00Z");
        let token = answer["status"]["token"].as_str().unwrap();
        let (c, _) = i.verify(token, &["vault".to_string()], now.as_second()).unwrap();
        assert_eq!((c.sub.as_str(), c.kubernetes.serviceaccount.uid.as_str()), ("system:serviceaccount:d:s", "su"));
        assert_eq!((c.exp - c.iat, c.kubernetes.warnafter), (600, None));

        let pod = json!({"kind":"Pod","apiVersion":"v1","name":"p","uid":"pu"});
        let answer = ask(json!({"boundObjectRef":pod,"expirationSeconds":3607})).unwrap();
        let token = answer["status"]["token"].as_str().unwrap();
        let (c, _) = i.verify(token, i.api_audiences(), now.as_second()).unwrap();
        assert_eq!(c.kubernetes.pod, Some(Ref { name: "p".into(), uid: "pu".into() }));
        assert_eq!(c.kubernetes.node, Some(Ref { name: "n".into(), uid: "nu".into() }));
        assert_eq!(c.kubernetes.warnafter, Some(now.as_second() + 3607));
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
            let e = ask(spec).unwrap_err();
            assert_eq!(e.code, code, "{e}");
            assert!(e.message.contains(text), "{e}");
        }
        assert_eq!(i.token_request(&r, "d", "none", &json!({"spec":{}}), now).unwrap_err().code, 404);
    }
}
