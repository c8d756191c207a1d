//! Claims and users by table; a provider on loopback that changes its keys.

use super::*;
use crate::authn::config;
use crate::jwt::SigningKey;
use crate::outbound::testing::Peer;
use crate::testing::reader;
use bytes::Bytes;
use http::{Request, Response};
use parking_lot::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

fn issuer(url: &str, ca: &str, rest: &str) -> Issuer {
    let indented: String = ca.lines().map(|l| format!("      {l}\n")).collect();
    let authority = if ca.is_empty() { String::new() } else { format!("    certificateAuthority: |\n{indented}") };
    let text = format!(
        "apiVersion: apiserver.config.k8s.io/v1\nkind: AuthenticationConfiguration\njwt:\n- issuer:\n    url: {url}\n    \
         audiences: [kube, other]\n    audienceMatchPolicy: MatchAny\n{authority}{rest}"
    );
    config::load(&text, &[]).unwrap().issuers.remove(0)
}

const MAPPINGS: &str = "
  claimMappings:
    username: {claim: sub, prefix: 'oidc:'}
    groups: {claim: groups, prefix: 'g:'}
    uid: {claim: oid}
    extra: [{key: example.org/team, valueExpression: claims.?team.orValue('')}]
  claimValidationRules:
  - {claim: hd, requiredValue: example.org}
  - {expression: 'claims.exp - claims.iat <= 3600', message: lives too long}
  userValidationRules: [{expression: \"!user.username.contains('root')\", message: reserved}]
";

fn claims(changes: Value) -> Value {
    let mut c = json!({"iss": "https://a", "aud": "kube", "sub": "jane", "oid": "u1", "hd": "example.org", "iat": 1000,
        "exp": 2000, "groups": ["dev", "ops"], "team": ["x", ""]});
    for (k, v) in changes.as_object().unwrap() {
        c[k] = v.clone();
    }
    c
}

#[test]
fn claims_become_users_when_all_rules_hold() {
    let issuer = issuer("https://a", "", MAPPINGS);
    let user = user_of(&claims(json!({})), &issuer).unwrap();
    assert_eq!((user.name.as_str(), user.uid.as_str()), ("oidc:jane", "u1"));
    assert_eq!(user.groups, ["g:dev", "g:ops"]);
    assert_eq!(user.extra["example.org/team"], ["x"]);
    let one = user_of(&claims(json!({"groups": "dev", "team": ""})), &issuer).unwrap();
    assert_eq!((one.groups, one.extra.len()), (vec!["g:dev".to_string()], 0));
    assert_eq!(user_of(&claims(json!({"groups": null})), &issuer).unwrap().groups.len(), 0);
    for (changes, expected) in [
        (json!({"sub": null}), "claim not present"),
        (json!({"sub": 5}), "not a string"),
        (json!({"sub": ["x"]}), "not a string"),
        (json!({"groups": 5}), "parse groups claim"),
        (json!({"groups": ["a", 5]}), "parse groups claim"),
        (json!({"hd": "evil.org"}), "required claim hd value does not match"),
        (json!({"hd": null}), "required claim hd not present"),
        (json!({"exp": 20000}), "failed: lives too long"),
        (json!({"exp": "soon"}), "error evaluating validation claim expression"),
        (json!({"sub": "root"}), "failed: reserved"),
        (json!({"team": {"a": 1}}), "neither a string nor a list of strings"),
    ] {
        let got = user_of(&claims(changes.clone()), &issuer).unwrap_err();
        assert!(got.contains(expected), "{changes}: {got}");
    }
}

#[test]
fn addresses_must_be_verified() {
    let issuer = issuer("https://a", "", "  claimMappings: {username: {claim: email, prefix: ''}}");
    let name = |changes: Value| user_of(&claims(changes), &issuer).map(|u| u.name);
    assert_eq!(name(json!({"email": "j@x"})).unwrap(), "j@x");
    assert_eq!(name(json!({"email": "j@x", "email_verified": true})).unwrap(), "j@x");
    for bad in [json!(false), json!("true"), json!(1)] {
        assert_eq!(name(json!({"email": "j@x", "email_verified": bad})).unwrap_err(), "oidc: email not verified");
    }
}

#[test]
fn times_and_audiences_are_checked() {
    let issuer = issuer("https://a", "", MAPPINGS);
    for (changes, now, expected) in [
        (json!({}), 1999, ""),
        (json!({}), 2000, "expired"),
        (json!({"exp": 1999.5}), 1998, ""),
        (json!({"exp": null}), 1000, "no expiry"),
        (json!({"nbf": 1060}), 1000, ""),
        (json!({"nbf": 1061}), 1000, "nbf"),
        (json!({"aud": ["x", "other"]}), 1000, ""),
        (json!({"aud": "x"}), 1000, "expected audience"),
        (json!({"aud": null}), 1000, "expected audience"),
        (json!({"aud": []}), 1000, "expected audience"),
    ] {
        let got = check_claims(&claims(changes.clone()), &issuer, now).err().unwrap_or_default();
        assert!(got.contains(expected) && got.is_empty() == expected.is_empty(), "{changes} {now}: {got}");
    }
}

/// Keys are fetched when a token names an unknown one, and junk makes no flood of fetches.
#[tokio::test]
async fn a_provider_may_change_its_keys() {
    let keys: Vec<SigningKey> =
        (0..2).map(|_| SigningKey::from_pem(&rcgen::KeyPair::generate().unwrap().serialize_pem()).unwrap()).collect();
    let shown = Arc::new(Mutex::new(json!({"keys": [keys[0].public().to_jwk()]})));
    let (url, fetches) = (Arc::new(Mutex::new(String::new())), Arc::new(AtomicUsize::new(0)));
    let (s, u, f) = (shown.clone(), url.clone(), fetches.clone());
    let peer = Peer::start(&["127.0.0.1"], move |r: Request<Bytes>| {
        let issuer = u.lock().clone();
        let body = match r.uri().path() {
            "/realm/.well-known/openid-configuration" => {
                json!({"issuer": issuer, "jwks_uri": format!("{issuer}/keys")})
            }
            "/realm/keys" => {
                f.fetch_add(1, Ordering::Relaxed);
                s.lock().clone()
            }
            _ => Value::Null,
        };
        async move { Response::new(Bytes::from(body.to_string())) }
    })
    .await;
    *url.lock() = format!("https://127.0.0.1:{}/realm", peer.port);
    let url = url.lock().clone();
    let client = outbound::Client::new(reader(&[]).await);
    let mut oidc = Oidc::start(issuer(&url, &peer.ca_pem, MAPPINGS), &client).unwrap();
    oidc.clock = || jiff::Timestamp::from_second(1000).unwrap();
    assert!(oidc.is_ready_within(Duration::from_secs(10)).await);
    let token = |key: &SigningKey, changes: Value| {
        let mut c = claims(changes);
        if c["iss"] == "https://a" {
            c["iss"] = url.clone().into();
        }
        key.sign(c.to_string().as_bytes()).unwrap()
    };
    let ask = async |t: &str| match oidc.authenticate_token(t, &[]).await {
        TokenOutcome::Authenticated { user, .. } => user.name,
        TokenOutcome::Skip => "skip".to_string(),
        TokenOutcome::Invalid(why) => why,
    };
    assert_eq!(ask(&token(&keys[0], json!({}))).await, "oidc:jane");
    assert_eq!(fetches.load(Ordering::Relaxed), 1);
    assert_eq!(ask(&token(&keys[0], json!({"iss": "https://else"}))).await, "skip");
    assert_eq!(ask("junk").await, "skip");
    // The next key: unknown yet, then shown.
    let new = token(&keys[1], json!({}));
    assert!(ask(&new).await.contains("failed to verify signature"));
    assert_eq!(fetches.load(Ordering::Relaxed), 2);
    *shown.lock() = json!({"keys": [keys[1].public().to_jwk(), {"kty": "oct", "k": "AAAA", "kid": "x"}]});
    for _ in 0..20 {
        assert!(ask(&new).await.contains("failed to verify signature"), "within the second nothing is fetched");
    }
    assert_eq!(fetches.load(Ordering::Relaxed), 2);
    tokio::time::sleep(Duration::from_millis(1050)).await;
    assert_eq!(ask(&new).await, "oidc:jane");
    assert!(ask(&token(&keys[0], json!({}))).await.contains("failed to verify signature"));
    // What a known key didn't sign needs no fetch.
    let before = fetches.load(Ordering::Relaxed);
    let mut forged = new.clone();
    forged.replace_range(new.len() - 4.., "AAAA");
    tokio::time::sleep(Duration::from_millis(1050)).await;
    assert!(ask(&forged).await.contains("failed to verify signature"));
    assert_eq!(fetches.load(Ordering::Relaxed), before);
    let pem = include_str!("../../jwt/rsa.pem");
    let rs256 = token(&SigningKey::from_pem(pem).unwrap(), json!({}));
    oidc.issuer.algorithms = vec![crate::jwt::Algorithm::Es256];
    let got = match oidc.authenticate_token(&rs256, &[]).await {
        TokenOutcome::Invalid(why) => why,
        other => panic!("{other:?}"),
    };
    assert!(got.contains("unsupported algorithm \"RS256\""), "{got}");
}

/// Groups that lie with another provider come from there, if its own keys signed them.
#[tokio::test]
async fn groups_may_be_elsewhere() {
    let keys: Vec<SigningKey> =
        (0..2).map(|_| SigningKey::from_pem(&rcgen::KeyPair::generate().unwrap().serialize_pem()).unwrap()).collect();
    let keys = Arc::new(keys);
    let port = Arc::new(Mutex::new(0));
    let asked: Arc<Mutex<Vec<String>>> = Arc::default();
    let (k, p, a) = (keys.clone(), port.clone(), asked.clone());
    let peer = Peer::start(&["127.0.0.1"], move |r: Request<Bytes>| {
        let base = format!("https://127.0.0.1:{}", *p.lock());
        let groups = |issuer: &str, key: &SigningKey, changes: Value| {
            let mut c = claims(json!({"iss": format!("{base}/{issuer}"), "groups": ["far"]}));
            for (name, value) in changes.as_object().unwrap() {
                match value {
                    Value::Null => drop(c.as_object_mut().unwrap().remove(name)),
                    value => c[name] = value.clone(),
                }
            }
            key.sign(c.to_string().as_bytes()).unwrap()
        };
        let path = r.uri().path().to_string();
        let (code, body) = match path.as_str() {
            // `realm` signs with the first key, `graph` with the second.
            "/realm/.well-known/openid-configuration" | "/graph/.well-known/openid-configuration" => {
                let issuer = format!("{base}/{}", path.split('/').nth(1).unwrap());
                (200, json!({"issuer": issuer, "jwks_uri": format!("{issuer}/keys")}).to_string())
            }
            "/realm/keys" => (200, json!({"keys": [k[0].public().to_jwk()]}).to_string()),
            "/graph/keys" => (200, json!({"keys": [k[1].public().to_jwk()]}).to_string()),
            "/groups" => {
                let authorization = r.headers().get("authorization").map(|v| v.to_str().unwrap().to_string());
                a.lock().push(format!("{} {}", r.uri().query().unwrap_or(""), authorization.unwrap_or_default()));
                (200, groups("graph", &k[1], json!({})))
            }
            "/forged" => (200, groups("graph", &k[0], json!({}))),
            "/expired" => (200, groups("graph", &k[1], json!({"exp": 900}))),
            "/audience" => (200, groups("graph", &k[1], json!({"aud": "x"}))),
            "/empty" => (200, groups("graph", &k[1], json!({"groups": null}))),
            "/unknown" => (200, groups("nowhere", &k[1], json!({}))),
            "/junk" => (200, "junk".to_string()),
            _ => (404, String::new()),
        };
        async move { Response::builder().status(code).body(Bytes::from(body)).unwrap() }
    })
    .await;
    *port.lock() = peer.port;
    let base = format!("https://127.0.0.1:{}", peer.port);
    let client = outbound::Client::new(reader(&[]).await);
    let mut oidc = Oidc::start(issuer(&format!("{base}/realm"), &peer.ca_pem, MAPPINGS), &client).unwrap();
    oidc.clock = || jiff::Timestamp::from_second(1000).unwrap();
    assert!(oidc.is_ready_within(Duration::from_secs(10)).await);
    let ask = async |changes: Value| {
        let mut c = claims(json!({"iss": format!("{base}/realm")}));
        c.as_object_mut().unwrap().remove("groups");
        for (name, value) in changes.as_object().unwrap() {
            c[name] = value.clone();
        }
        match oidc.authenticate_token(&keys[0].sign(c.to_string().as_bytes()).unwrap(), &[]).await {
            TokenOutcome::Authenticated { user, .. } => user.groups.join(","),
            TokenOutcome::Skip => "skip".to_string(),
            TokenOutcome::Invalid(why) => why,
        }
    };
    let elsewhere = |path: &str, token: Option<&str>| {
        json!({"_claim_names": {"groups": "s"},
            "_claim_sources": {"s": {"endpoint": format!("{base}{path}"), "access_token": token}}})
    };
    assert_eq!(ask(json!({})).await, "");
    assert_eq!(ask(elsewhere("/groups?user=jane", Some("secret"))).await, "g:far");
    assert_eq!(ask(elsewhere("/groups", None)).await, "g:far");
    assert_eq!(*asked.lock(), ["user=jane Bearer secret", " "]);
    // What the token holds itself isn't asked for.
    let mut both = elsewhere("/groups", None);
    both["groups"] = json!(["near"]);
    assert_eq!(ask(both).await, "g:near");
    assert_eq!(asked.lock().len(), 2);
    for (path, expected) in [
        ("/forged", "verify distributed claim token: oidc: verify token: failed to verify signature"),
        ("/expired", "verify distributed claim token: oidc: token is expired"),
        ("/audience", "verify distributed claim token: oidc: expected audience"),
        ("/empty", "did not contain claim: groups"),
        ("/unknown", "verifier not initialized for issuer: "),
        ("/junk", "getting untrusted issuer from endpoint"),
        (
            "/missing",
            "while getting distributed claim \"groups\": error while getting distributed claim JWT: 404 Not Found",
        ),
    ] {
        let got = ask(elsewhere(path, None)).await;
        assert!(
            got.starts_with("oidc: could not expand distributed claims: ") && got.contains(expected),
            "{path}: {got}"
        );
    }
}
