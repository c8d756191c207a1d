//! Who comes in and what they may, by every way that the flags and configuration files give.

use crate::cluster::Cluster;
use crate::peer::Peer;
use crate::scenarios::certificates::kubeconfig;
use crate::wire::{Access, Who};
use anyhow::{Context, Result, ensure};
use base64::{Engine, engine::general_purpose::STANDARD, engine::general_purpose::URL_SAFE_NO_PAD as B64};
use ring::signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, KeyPair};
use serde_json::{Value, json};
use std::path::PathBuf;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

const PATIENCE: Duration = Duration::from_secs(15);
const WHOAMI: &str = "/apis/authentication.k8s.io/v1/selfsubjectreviews";

fn now() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |d| d.as_secs())
}

/// A P-256 key of a provider.
struct Signer {
    pair: EcdsaKeyPair,
    id: &'static str,
}

impl Signer {
    fn new(id: &'static str) -> Result<Signer> {
        let random = ring::rand::SystemRandom::new();
        let failed = |_| anyhow::anyhow!("no key");
        let pkcs8 = EcdsaKeyPair::generate_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, &random).map_err(failed)?;
        let pair = EcdsaKeyPair::from_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, pkcs8.as_ref(), &random)
            .map_err(|_| anyhow::anyhow!("no key"))?;
        Ok(Signer { pair, id })
    }

    fn jwk(&self) -> Value {
        let point = self.pair.public_key().as_ref();
        json!({"kty": "EC", "crv": "P-256", "use": "sig", "kid": self.id, "x": B64.encode(&point[1..33]), "y": B64.encode(&point[33..])})
    }

    fn sign(&self, header: &Value, claims: &Value) -> String {
        let signed = format!("{}.{}", B64.encode(header.to_string()), B64.encode(claims.to_string()));
        let random = ring::rand::SystemRandom::new();
        let signature = self.pair.sign(&random, signed.as_bytes()).map(|s| s.as_ref().to_vec()).unwrap_or_default();
        format!("{signed}.{}", B64.encode(signature))
    }

    fn token(&self, claims: &Value) -> String {
        self.sign(&json!({"alg": "ES256", "kid": self.id}), claims)
    }
}

/// Code, and who the server says this token's bearer is.
pub fn whoami(access: &Access, token: &str) -> Result<(u16, Value)> {
    let who = Who::Token(token.to_string());
    access.inside(async |a| {
        let r = a.http1(&who).await?.json("POST", WHOAMI, &json!({})).await?;
        Ok((r.code, r.json()["status"]["userInfo"].clone()))
    })
}

fn write(c: &Cluster, name: &str, text: &str) -> Result<PathBuf> {
    let path = c.dir().join(name);
    // Whole or not at all, as a careful administrator does it.
    let new = c.dir().join(format!("{name}.new"));
    std::fs::write(&new, text)?;
    std::fs::rename(&new, &path)?;
    Ok(path)
}

/// A provider with HTTPS discovery and keys; two issuers in one file, expressions, rotation, live reload; kubectl.
pub fn openid_connect(c: &Cluster) -> Result<()> {
    let shown: Arc<Mutex<Vec<Value>>> = Arc::default();
    let base: Arc<Mutex<String>> = Arc::default();
    let (keys, url) = (shown.clone(), base.clone());
    let peer = Peer::start(
        c.holder(),
        Arc::new(move |_: &str, path: &str, _: Value| {
            let base = url.lock().map(|u| u.clone()).unwrap_or_default();
            match path {
                "/one/.well-known/openid-configuration" => {
                    (200, json!({"issuer": format!("{base}/one"), "jwks_uri": format!("{base}/keys")}))
                }
                // Found elsewhere than at the issuer's own address.
                "/elsewhere/.well-known/openid-configuration" => {
                    (200, json!({"issuer": "https://two.example.org", "jwks_uri": format!("{base}/keys")}))
                }
                "/keys" => (200, json!({"keys": keys.lock().map(|k| k.clone()).unwrap_or_default()})),
                _ => (404, json!({})),
            }
        }),
    )?;
    if let Ok(mut b) = base.lock() {
        *b = peer.url();
    }
    let (first, second) = (Signer::new("k1")?, Signer::new("k2")?);
    let show = |keys: Vec<Value>| {
        if let Ok(mut s) = shown.lock() {
            *s = keys;
        }
    };
    show(vec![first.jwk()]);
    let ca: String = peer.ca_pem.lines().map(|l| format!("      {l}\n")).collect();
    let config = format!(
        "apiVersion: apiserver.config.k8s.io/v1\nkind: AuthenticationConfiguration\njwt:\n- issuer:\n    url: {base}/one\n    \
         audiences: [kube, kube-too]\n    audienceMatchPolicy: MatchAny\n    certificateAuthority: |\n{ca}  claimMappings:\n    \
         username: {{claim: sub, prefix: 'oidc:'}}\n    groups: {{expression: \"claims.roles.split(',').map(r, 'team:' + r)\"}}\n    \
         uid: {{claim: oid}}\n    extra: [{{key: example.org/tenant, valueExpression: claims.tenant}}]\n  claimValidationRules:\n  \
         - {{expression: 'claims.exp - claims.iat <= 86400', message: tokens live a day at most}}\n  userValidationRules:\n  \
         - {{expression: \"!user.username.startsWith('oidc:system:')\", message: reserved}}\n- issuer:\n    url: https://two.example.org\n    \
         discoveryURL: {base}/elsewhere/.well-known/openid-configuration\n    audiences: [kube]\n    certificateAuthority: |\n{ca}  \
         claimMappings:\n    username: {{expression: \"'two:' + claims.sub\"}}\n",
        base = peer.url()
    );
    let path = write(c, "authentication.yaml", &config)?;
    c.serve(&["--disable-agent", "--authentication-config", path.to_str().context("path")?])?;
    c.wait_api()?;
    let access = c.access()?;
    let claims = |changes: Value| {
        let mut all = json!({"iss": format!("{}/one", peer.url()), "aud": "kube", "sub": "jane", "oid": "u1", "iat": now(),
            "exp": now() + 3600, "roles": "dev,ops", "tenant": "acme"});
        for (k, v) in changes.as_object().into_iter().flatten() {
            all[k] = v.clone();
        }
        all
    };
    let good = first.token(&claims(json!({})));
    c.wait(PATIENCE, "the provider's keys to be known", || Ok(whoami(&access, &good)?.0 == 201))?;
    let (_, info) = whoami(&access, &good)?;
    ensure!(
        info == json!({"username": "oidc:jane", "uid": "u1", "groups": ["team:dev", "team:ops", "system:authenticated"],
                       "extra": {"example.org/tenant": ["acme"]}}),
        "{info}"
    );
    let two = first.token(&claims(json!({"iss": "https://two.example.org"})));
    c.wait(PATIENCE, "the second issuer", || Ok(whoami(&access, &two)?.1["username"] == "two:jane"))?;

    // What must not come in.
    let keyed = |header: Value| first.sign(&header, &claims(json!({})));
    let payload = B64.encode(claims(json!({})).to_string());
    let none = format!("{}.{payload}.", B64.encode(r#"{"alg":"none"}"#));
    let public = first.jwk().to_string();
    let hs256 = {
        let signed = format!("{}.{payload}", B64.encode(r#"{"alg":"HS256","kid":"k1"}"#));
        let key = ring::hmac::Key::new(ring::hmac::HMAC_SHA256, public.as_bytes());
        format!("{signed}.{}", B64.encode(ring::hmac::sign(&key, signed.as_bytes())))
    };
    let mut forged = good.clone();
    forged.truncate(good.len() - 8);
    let stranger = Signer::new("k1")?;
    for (what, token) in [
        ("no algorithm", none),
        ("an HMAC with the public key", hs256),
        ("another's key under a known id", stranger.token(&claims(json!({})))),
        (
            "a key that the token brings",
            stranger.sign(&json!({"alg": "ES256", "jwk": stranger.jwk()}), &claims(json!({}))),
        ),
        ("a key id that is a path", keyed(json!({"alg": "ES256", "kid": "../../../../dev/null"}))),
        ("another algorithm for the key", keyed(json!({"alg": "ES384", "kid": "k1"}))),
        ("a cut signature", forged),
        ("expired", first.token(&claims(json!({"exp": now() - 1, "iat": now() - 100})))),
        ("no expiry", first.token(&claims(json!({"exp": null})))),
        ("not yet", first.token(&claims(json!({"nbf": now() + 3600})))),
        ("another audience", first.token(&claims(json!({"aud": "vault"})))),
        ("lives too long", first.token(&claims(json!({"exp": now() + 100_000})))),
        ("a reserved name", first.token(&claims(json!({"sub": "system:admin"})))),
        ("a name that is no text", first.token(&claims(json!({"sub": 7})))),
        ("an unknown issuer", first.token(&claims(json!({"iss": "https://nobody"})))),
        ("no token at all", "abc".to_string()),
        ("a huge one", format!("{good}{}", "A".repeat(40_000))),
    ] {
        let (code, _) = whoami(&access, &token)?;
        ensure!(code == 401, "{what}: {code}");
    }
    let review = c.kubectl_input(
        &["create", "-o", "json", "-f", "-"],
        &json!({"apiVersion": "authentication.k8s.io/v1", "kind": "TokenReview", "metadata": {"name": "x"}, "spec": {"token": good}}).to_string(),
    )?;
    let review: Value = serde_json::from_str(&review)?;
    ensure!(review["status"]["authenticated"] == true && review["status"]["user"]["uid"] == "u1", "{review}");

    // kubectl with the token; RBAC knows the groups.
    let config_file = kubeconfig(c, "jane-oidc", &json!({"token": good}))?;
    let as_jane = |args: &[&str]| {
        let mut all = vec!["--kubeconfig", config_file.to_str().unwrap_or_default()];
        all.extend(args);
        c.kubectl_run(&all)
    };
    ensure!(as_jane(&["auth", "whoami"])?.stdout.contains("oidc:jane"));
    ensure!(as_jane(&["get", "pods"])?.stderr.contains(r#"User "oidc:jane" cannot list resource "pods""#));
    c.kubectl(&["create", "rolebinding", "dev", "--clusterrole=view", "--group=team:dev"])?;
    ensure!(as_jane(&["get", "pods"])?.ok && as_jane(&["auth", "can-i", "list", "pods"])?.stdout.trim() == "yes");

    // The provider changes its key.
    let new = second.token(&claims(json!({})));
    ensure!(whoami(&access, &new)?.0 == 401);
    show(vec![second.jwk()]);
    c.wait(PATIENCE, "the new key to be known", || Ok(whoami(&access, &new)?.0 == 201))?;
    ensure!(whoami(&access, &good)?.0 == 401, "a key that was withdrawn still counts");

    // The file changes: first into nonsense, which changes nothing, then for good.
    write(c, "authentication.yaml", &config.replace("claim: sub", "claim: sub, expression: 'x'"))?;
    c.wait(PATIENCE, "the mistake to be told", || {
        Ok(std::fs::read_to_string(c.log())?.contains("claim and expression can't both be set"))
    })?;
    ensure!(whoami(&access, &new)?.0 == 201);
    write(c, "authentication.yaml", &config.replace("'oidc:'", "'changed:'"))?;
    c.wait(PATIENCE, "the change to count", || Ok(whoami(&access, &new)?.1["username"] == "changed:jane"))?;
    let anonymous = format!("{config}anonymous:\n  enabled: true\n  conditions: [{{path: /version}}]\n");
    write(c, "authentication.yaml", &anonymous)?;
    c.wait(PATIENCE, "the anonymous rule to count", || {
        access.inside(async |a| {
            let mut nobody = a.http1(&Who::Nobody).await?;
            Ok(nobody.get("/version").await?.code == 200 && nobody.get("/livez").await?.code == 401)
        })
    })
}

/// Tokens from a file, an authentication webhook, and the older `--oidc-…` flags' neighbours: headers of a front proxy.
pub fn tokens_of_others(c: &Cluster) -> Result<()> {
    let asked = Arc::new(AtomicUsize::new(0));
    let counter = asked.clone();
    let peer = Peer::start(
        c.holder(),
        Arc::new(move |method: &str, path: &str, review: Value| {
            counter.fetch_add(1, Ordering::SeqCst);
            let status = match review["spec"]["token"].as_str() {
                Some("from-webhook") if method == "POST" && path.starts_with("/authn") => {
                    json!({"authenticated": true, "user": {"username": "hook", "uid": "h1", "groups": ["hooked"], "extra": {"example.org/k": ["v"]}}})
                }
                _ => json!({"authenticated": false}),
            };
            (200, json!({"apiVersion": review["apiVersion"], "kind": "TokenReview", "status": status}))
        }),
    )?;
    let tokens = write(c, "tokens.csv", "secret-1,file-user,f1,\"dev,ops\"\nsecret-2,plain,f2\n")?;
    let webhook = write(c, "token-webhook.yaml", &peer.kubeconfig("/authn"))?;
    let text = |p: &PathBuf| p.display().to_string();
    c.serve(&[
        "--disable-agent",
        "--token-auth-file",
        &text(&tokens),
        "--authentication-token-webhook-config-file",
        &text(&webhook),
        "--authentication-token-webhook-version=v1",
        "--anonymous-auth=false",
        "--service-account-max-token-expiration=2h",
        "--api-audiences=kube,kube-too",
        "--service-account-issuer=https://new.example.org,https://kubernetes.default.svc.cluster.local",
    ])?;
    c.wait_api()?;
    let access = c.access()?;
    let expect = |token: &str, expected: Value| -> Result<()> {
        let (code, info) = whoami(&access, token)?;
        ensure!(code == 201 && info == expected, "{token}: {code} {info}");
        Ok(())
    };
    expect(
        "secret-1",
        json!({"username": "file-user", "uid": "f1", "groups": ["dev", "ops", "system:authenticated"]}),
    )?;
    expect("secret-2", json!({"username": "plain", "uid": "f2", "groups": ["system:authenticated"]}))?;
    let hooked = json!({"username": "hook", "uid": "h1", "groups": ["hooked", "system:authenticated"], "extra": {"example.org/k": ["v"]}});
    for _ in 0..3 {
        expect("from-webhook", hooked.clone())?;
    }
    let calls = asked.load(Ordering::SeqCst);
    ensure!(calls == 1, "the webhook was asked {calls} times for one token");
    ensure!(whoami(&access, "secret-3")?.0 == 401);
    access.inside(async |a| {
        ensure!(a.http1(&Who::Nobody).await?.get("/livez").await?.code == 401, "anonymous was turned off");
        // A front proxy says who asks; nobody else may.
        let headers = [("x-remote-user", "proxied"), ("x-remote-group", "g1"), ("x-remote-uid", "p1"), ("x-remote-extra-example.org%2fx", "y"), ("content-type", "application/json")];
        let mut proxy = a.http1(&Who::Certificate("front-proxy-client")).await?;
        let r = proxy.send("POST", WHOAMI, &headers, "{}").await?;
        let info = &r.json()["status"]["userInfo"];
        ensure!(
            *info == json!({"username": "proxied", "uid": "p1", "groups": ["g1", "system:authenticated"], "extra": {"example.org/x": ["y"]}}),
            "{info}"
        );
        let r = a.http1(&Who::Certificate("scheduler")).await?.send("POST", WHOAMI, &headers, "{}").await?.json();
        ensure!(r["status"]["userInfo"]["username"] == "system:kube-scheduler", "{r}");
        Ok(())
    })?;

    // Service accounts: the first issuer, the audiences of the flag, and no life longer than it allows.
    c.kubectl(&["create", "serviceaccount", "bot"])?;
    let d = c.kubectl_run(&["create", "token", "bot", "--duration=24h"])?;
    ensure!(
        d.ok && d.stderr.contains("requested expiration of 86400 seconds shortened to 7200 seconds"),
        "{}",
        d.stderr
    );
    let claims: Value = serde_json::from_slice(&B64.decode(d.stdout.split('.').nth(1).unwrap_or_default())?)?;
    ensure!(claims["iss"] == "https://new.example.org" && claims["aud"] == json!(["kube", "kube-too"]), "{claims}");
    ensure!(claims["exp"].as_i64().unwrap_or(0) - claims["iat"].as_i64().unwrap_or(0) == 7200, "{claims}");
    ensure!(whoami(&access, d.stdout.trim())?.1["username"] == "system:serviceaccount:default:bot");
    let short = c.kubectl_fails(&["create", "token", "bot", "--duration=5m"])?;
    ensure!(short.contains("may not specify a duration less than 10 minutes"), "{short}");
    // A token for others is nobody here, and reviewed for whom it is.
    let vault = c.kubectl(&["create", "token", "bot", "--audience=vault"])?;
    ensure!(whoami(&access, vault.trim())?.0 == 401);
    let review = |token: &str, audiences: Value| -> Result<Value> {
        let review = json!({"apiVersion": "authentication.k8s.io/v1", "kind": "TokenReview", "metadata": {"name": "x"}, "spec": {"token": token.trim(), "audiences": audiences}});
        Ok(serde_json::from_str::<Value>(&c.kubectl_input(&["create", "-o", "json", "-f", "-"], &review.to_string())?)?
            ["status"]
            .clone())
    };
    let status = review(&vault, json!(["vault", "other"]))?;
    ensure!(status["authenticated"] == true && status["audiences"] == json!(["vault"]), "{status}");
    ensure!(review(&vault, json!([]))?["authenticated"] != true);
    ensure!(review("secret-1", json!(["vault"]))?["authenticated"] != true, "a fixed token is for the API server only");
    ensure!(review("secret-1", json!(["kube"]))?["audiences"] == json!(["kube"]));
    Ok(())
}

/// Tokens that are kept in Secrets: filled, good, used, revoked.
pub fn tokens_in_secrets(c: &Cluster) -> Result<()> {
    let ns = "id-legacy";
    c.kubectl(&["create", "namespace", ns])?;
    c.kubectl(&["create", "serviceaccount", "old", "-n", ns])?;
    let secret = |name: &str, account: &str| {
        json!({"apiVersion": "v1", "kind": "Secret", "type": "kubernetes.io/service-account-token",
        "metadata": {"name": name, "namespace": ns, "annotations": {"kubernetes.io/service-account.name": account}}})
    };
    c.apply(&secret("tok", "old").to_string())?;
    let field =
        |name: &str, path: &str| c.kubectl(&["get", "secret", name, "-n", ns, "-o", &format!("jsonpath={path}")]);
    c.wait(PATIENCE, "the Secret to be filled", || Ok(!field("tok", "{.data.token}")?.is_empty()))?;
    let token = String::from_utf8(STANDARD.decode(field("tok", "{.data.token}")?)?)?;
    ensure!(String::from_utf8(STANDARD.decode(field("tok", "{.data.namespace}")?)?)? == ns);
    ensure!(String::from_utf8(STANDARD.decode(field("tok", r"{.data.ca\.crt}")?)?)?.contains("BEGIN CERTIFICATE"));
    let uid = c.kubectl(&["get", "serviceaccount", "old", "-n", ns, "-o", "jsonpath={.metadata.uid}"])?;
    ensure!(field("tok", r"{.metadata.annotations.kubernetes\.io/service-account\.uid}")? == uid);
    let access = c.access()?;
    let (code, info) = whoami(&access, &token)?;
    ensure!(
        code == 201 && info["username"] == format!("system:serviceaccount:{ns}:old") && info["uid"] == uid.as_str(),
        "{info}"
    );
    c.wait(PATIENCE, "the use to be noted", || {
        Ok(field("tok", r"{.metadata.labels.kubernetes\.io/legacy-token-last-used}")?.len() == 10)
    })?;
    c.kubectl(&["label", "secret", "tok", "-n", ns, "kubernetes.io/legacy-token-invalid-since=2026-01-01"])?;
    ensure!(whoami(&access, &token)?.0 == 401);
    c.kubectl(&["label", "secret", "tok", "-n", ns, "kubernetes.io/legacy-token-invalid-since-"])?;
    ensure!(whoami(&access, &token)?.0 == 201);
    // Who lists the Secret has it from the days when every account got one.
    c.kubectl(&["patch", "serviceaccount", "old", "-n", ns, "-p", r#"{"secrets":[{"name":"tok"}]}"#])?;
    let warned = access.inside(async |a| {
        let r = a.http1(&Who::Token(token.clone())).await?.json("POST", WHOAMI, &json!({})).await?;
        Ok(r.headers.get("warning").and_then(|w| w.to_str().ok()).unwrap_or_default().to_string())
    })?;
    ensure!(warned.contains("instead of auto-generated secret-based tokens."), "{warned}");
    // An account that isn't there has no tokens.
    c.apply(&secret("orphan", "nobody").to_string())?;
    c.wait(PATIENCE, "the orphan to be removed", || Ok(!c.kubectl_run(&["get", "secret", "orphan", "-n", ns])?.ok))?;
    // Deleted and made again, the account is another one.
    c.kubectl(&["delete", "serviceaccount", "old", "-n", ns])?;
    c.kubectl(&["create", "serviceaccount", "old", "-n", ns])?;
    ensure!(whoami(&access, &token)?.0 == 401);
    c.wait(PATIENCE, "the token of the old account to go", || {
        Ok(!c.kubectl_run(&["get", "secret", "tok", "-n", ns])?.ok)
    })?;
    c.kubectl(&["delete", "namespace", ns, "--wait=false"])?;
    Ok(())
}

/// A chain of authorizers from a file: a webhook with conditions in front, Node and RBAC behind; live reload.
pub fn authorization_webhooks(c: &Cluster) -> Result<()> {
    let asked: Arc<Mutex<Vec<Value>>> = Arc::default();
    let seen = asked.clone();
    let peer = Peer::start(
        c.holder(),
        Arc::new(move |_: &str, _: &str, review: Value| {
            let spec = review["spec"].clone();
            if let Ok(mut s) = seen.lock() {
                s.push(spec.clone());
            }
            let status = match (spec["user"].as_str(), spec["resourceAttributes"]["resource"].as_str()) {
                (Some("friend"), _) => json!({"allowed": true, "reason": "a friend"}),
                (_, Some("secrets")) => json!({"allowed": false, "denied": true, "reason": "secrets are secret"}),
                _ => json!({"allowed": false}),
            };
            (200, json!({"apiVersion": "authorization.k8s.io/v1", "kind": "SubjectAccessReview", "status": status}))
        }),
    )?;
    let hook = write(c, "authz-webhook.yaml", &peer.kubeconfig("/authz"))?;
    let config = |conditions: &str, policy: &str| {
        format!(
            "apiVersion: apiserver.config.k8s.io/v1\nkind: AuthorizationConfiguration\nauthorizers:\n- type: Webhook\n  name: guard\n  \
             webhook:\n    timeout: 2s\n    authorizedTTL: 10s\n    cacheUnauthorizedRequests: false\n    subjectAccessReviewVersion: v1\n    \
             matchConditionSubjectAccessReviewVersion: v1\n    failurePolicy: {policy}\n    connectionInfo: {{type: KubeConfigFile, kubeConfigFile: {}}}\n    \
             matchConditions:\n{conditions}- {{type: Node, name: node}}\n- {{type: RBAC, name: rbac}}\n",
            hook.display()
        )
    };
    let only = "    - expression: has(request.resourceAttributes)\n    - expression: \"!('system:masters' in request.groups) && !request.user.startsWith('system:')\"\n";
    let path = write(c, "authorization.yaml", &config(only, "Deny"))?;
    c.serve(&["--disable-agent", "--authorization-config", path.to_str().context("path")?])?;
    c.wait_api()?;
    let may = |user: &str, verb: &str, resource: &str| -> Result<String> {
        let d = c.kubectl_run(&["auth", "can-i", verb, resource, &format!("--as={user}"), "-n", "default"])?;
        Ok(format!("{}{}", d.stdout.trim(), d.stderr.trim()))
    };
    ensure!(may("friend", "delete", "pods")?.starts_with("yes"));
    ensure!(may("jane", "list", "pods")?.starts_with("no"));
    c.kubectl(&["create", "clusterrolebinding", "jane", "--clusterrole=cluster-admin", "--user=jane"])?;
    ensure!(may("jane", "list", "pods")?.starts_with("yes"), "RBAC isn't asked after the webhook");
    let refused = c.kubectl_fails(&[
        "get",
        "secrets",
        "--as=jane",
        "-n",
        "default",
        "-l",
        "app in (a,b)",
        "--field-selector=type=Opaque",
    ])?;
    ensure!(refused.contains("secrets are secret"), "{refused}");
    let last = asked.lock().ok().and_then(|a| a.last().cloned()).unwrap_or_default();
    let attributes = &last["resourceAttributes"];
    ensure!(
        attributes["labelSelector"]["requirements"] == json!([{"key": "app", "operator": "In", "values": ["a", "b"]}]),
        "{last}"
    );
    ensure!(
        attributes["fieldSelector"]["requirements"] == json!([{"key": "type", "operator": "In", "values": ["Opaque"]}]),
        "{last}"
    );
    // The administrator and the cluster's own components aren't asked about, nor are paths.
    c.kubectl(&["get", "secrets", "-A"])?;
    let stray = asked
        .lock()
        .map(|a| {
            a.iter().any(|s| {
                s["resourceAttributes"].is_null() || s["user"].as_str().is_some_and(|u| u.starts_with("system:"))
            })
        })
        .unwrap_or(true);
    ensure!(!stray, "the conditions don't hold");

    // Live: conditions change; nonsense changes nothing; a webhook that is gone denies or stays out of it.
    write(c, "authorization.yaml", &config("    - expression: request.user ==\n", "Deny"))?;
    c.wait(PATIENCE, "the mistake to be told", || {
        Ok(std::fs::read_to_string(c.log())?.contains("authorizers[0].matchConditions[0].expression: Invalid value"))
    })?;
    ensure!(may("friend", "delete", "pods")?.starts_with("yes"));
    write(c, "authorization.yaml", &config("    - expression: request.user == 'joe'\n", "Deny"))?;
    c.wait(PATIENCE, "the new condition to count", || Ok(may("friend", "delete", "pods")?.starts_with("no")))?;
    ensure!(may("jane", "list", "secrets")?.starts_with("yes"));
    drop(peer);
    c.kubectl(&["create", "clusterrolebinding", "joe", "--clusterrole=cluster-admin", "--user=joe"])?;
    let refused = c.kubectl_fails(&["get", "--raw", "/api/v1/pods", "--as=joe"])?;
    ensure!(refused.contains("Internal Server Error: \\\"/api/v1/pods\\\": "), "{refused}");
    write(c, "authorization.yaml", &config("    - expression: request.user == 'joe'\n", "NoOpinion"))?;
    c.wait(PATIENCE, "the webhook's absence to be forgiven", || Ok(may("joe", "list", "pods")?.starts_with("yes")))?;
    let metrics = c.kubectl(&["get", "--raw", "/metrics"])?;
    for name in [
        "apiserver_authorization_config_controller_automatic_reloads_total{status=\"failure\"",
        "apiserver_authorization_config_controller_last_config_info{apiserver_id_hash=\"sha256:",
        "apiserver_authorization_webhook_evaluations_fail_open_total{name=\"guard\"",
        "apiserver_authorization_decisions_total{type=\"Webhook\",name=\"guard\",decision=\"denied\"}",
    ] {
        ensure!(metrics.contains(name), "no {name} in the metrics");
    }
    Ok(())
}

/// A start with a bad file ends at once, and says which flag, file and field.
pub fn bad_configurations_are_told(c: &Cluster) -> Result<()> {
    let authn =
        |rest: &str| format!("apiVersion: apiserver.config.k8s.io/v1\nkind: AuthenticationConfiguration\n{rest}");
    let authz =
        |rest: &str| format!("apiVersion: apiserver.config.k8s.io/v1\nkind: AuthorizationConfiguration\n{rest}");
    for (flag, text, expected) in [
        (
            "authentication-config",
            authn(
                "jwt:\n- issuer: {url: 'http://x', audiences: [a]}\n  claimMappings: {username: {claim: sub, prefix: ''}}\n",
            ),
            "jwt[0].issuer.url: Invalid value: \"http://x\": URL scheme must be https",
        ),
        (
            "authentication-config",
            authn("jwt:\n- issuer: {url: 'https://x', audience: [a]}\n"),
            "jwt[0].issuer.audience: unknown field",
        ),
        (
            "authentication-config",
            authn(
                "jwt:\n- issuer: {url: 'https://x', audiences: [a]}\n  claimMappings: {username: {expression: 'claims.'}}\n",
            ),
            "jwt[0].claimMappings.username.expression: Invalid value",
        ),
        ("authentication-config", authn("jwt: {\n"), "not valid YAML"),
        (
            "authentication-config",
            "kind: Pod\napiVersion: v1\n".into(),
            "no kind \"Pod\" is registered for version \"v1\"",
        ),
        (
            "authorization-config",
            authz("authorizers: []\n"),
            "authorizers: Required value: at least one authorization mode must be defined",
        ),
        (
            "authorization-config",
            authz("authorizers: [{type: Magic, name: m}]\n"),
            "authorizers[0].type: Unsupported value: \"Magic\"",
        ),
        (
            "authorization-config",
            authz("authorizers: [{type: Webhook, name: m, webhook: {timeout: 3m}}]\n"),
            "authorizers[0].timeout: Invalid value",
        ),
        ("authorization-webhook-config-file", "junk".into(), "--authorization-webhook-config-file="),
        (
            "authentication-token-webhook-config-file",
            "clusters: 5".into(),
            "--authentication-token-webhook-config-file=",
        ),
        ("token-auth-file", "a,b\n".into(), "line 1: expected at least 3 columns"),
        ("client-ca-file", "nonsense".into(), "--client-ca-file="),
        ("service-account-key-file", "nonsense".into(), "--service-account-key-file="),
        ("service-account-signing-key-file", "nonsense".into(), "--service-account-signing-key-file="),
    ] {
        let path = write(c, "bad.yaml", &text)?;
        let done = c.start_fails(&[&format!("--{flag}={}", path.display())])?;
        ensure!(
            done.contains(expected) && done.contains("bad.yaml") && done.contains(flag),
            "{flag}: wanted {expected:?}, got:\n{done}"
        );
    }
    for (flags, expected) in [
        (&["--authorization-mode=RBAC,Magic"][..], "\"Magic\" is not a valid mode"),
        (&["--authorization-mode=Webhook"], "authorization config file not passed"),
        (&["--oidc-issuer-url=https://x"], "--oidc-issuer-url and --oidc-client-id must be specified together"),
        (
            &["--oidc-issuer-url=https://x", "--oidc-client-id=a", "--oidc-signing-algs=none"],
            "signing algorithm \"none\" is unknown",
        ),
        (&["--service-account-max-token-expiration=5m"], "must be between 1 hour and 2^32 seconds"),
        (&["--authentication-config=/nowhere.yaml"], "--authentication-config=/nowhere.yaml: failed to read the file"),
    ] {
        let done = c.start_fails(flags)?;
        ensure!(done.contains(expected), "{flags:?}: wanted {expected:?}, got:\n{done}");
    }
    Ok(())
}
