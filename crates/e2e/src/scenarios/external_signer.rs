//! Service-account tokens whose key the server never sees.

use crate::cluster::Cluster;
use crate::scenarios::identity::whoami;
use crate::signer::{Key, Signer};
use crate::wire::{Access, Who};
use anyhow::{Context, Result, ensure};
use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD as B64};
use serde_json::Value;
use std::time::{Duration, Instant};

const PATIENCE: Duration = Duration::from_secs(20);

fn header(token: &str) -> Result<Value> {
    let part = token.split('.').next().context("no token")?;
    Ok(serde_json::from_slice(&B64.decode(part)?)?)
}

/// The ids of the published keys.
fn published(access: &Access) -> Result<Vec<String>> {
    access.inside(async |a| {
        let r = a.http1(&Who::Admin).await?.get("/openid/v1/jwks").await?;
        let kept = r.headers.get("cache-control").and_then(|v| v.to_str().ok()).unwrap_or_default().to_string();
        let seconds = kept.strip_prefix("public, max-age=").and_then(|s| s.parse::<u64>().ok());
        ensure!(seconds.is_some_and(|s| s <= 3), "kept as long as the signer says: {kept}");
        let keys = r.json()["keys"].as_array().cloned().unwrap_or_default();
        Ok(keys.iter().filter_map(|k| k["kid"].as_str().map(str::to_string)).collect())
    })
}

pub fn signs_tokens(c: &Cluster) -> Result<()> {
    let socket = c.dir().join("signer.sock");
    let mut signer = Signer::new(&socket, vec![Key::new("ext-1", false)?, Key::new("old", true)?], 7200);
    let endpoint = socket.to_str().context("path")?;
    // Together with a key file, or promising more than the signer gives.
    let key = c.dir().join("key.pem");
    std::fs::write(&key, rcgen::KeyPair::generate()?.serialize_pem())?;
    let base = ["--disable-agent", "--service-account-signing-endpoint", endpoint];
    let fails = |more: &[&str]| c.start_fails(&[&base[..], more].concat());
    let said = fails(&["--service-account-signing-key-file", key.to_str().context("path")?])?;
    ensure!(said.contains("(They are mutually exclusive)"), "{said}");
    signer.start()?;
    let said = fails(&["--service-account-max-token-expiration=3h"])?;
    ensure!(said.contains("cannot be set longer than the token expiration supported by"), "{said}");
    signer.state().seconds_max = 599;
    let said = fails(&[])?;
    ensure!(said.contains("max token life supported by external-jwt-signer (599s) is less than acceptable"), "{said}");
    signer.state().seconds_max = 7200;
    signer.stop();

    // The signer comes after the server, which waits for it.
    c.serve(&base)?;
    std::thread::sleep(Duration::from_secs(2));
    signer.start()?;
    c.wait_api()?;
    c.wait(PATIENCE, "the default account", || Ok(c.kubectl_run(&["get", "sa", "default"])?.ok))?;
    let access = c.access()?;
    let create = || Ok::<_, anyhow::Error>(c.kubectl(&["create", "token", "default"])?.trim().to_string());
    let first = create()?;
    ensure!(
        header(&first)? == serde_json::json!({"alg": "ES256", "kid": "ext-1", "typ": "JWT"}),
        "{}",
        header(&first)?
    );
    let (code, who) = whoami(&access, &first)?;
    ensure!(code == 201 && who["username"] == "system:serviceaccount:default:default", "{code} {who}");
    ensure!(published(&access)? == ["ext-1"], "excluded keys are told to nobody");
    // A key that is good for old tokens only.
    let older = signer.state().keys[1].sign_again(&first)?;
    ensure!(whoami(&access, &older)?.0 == 201, "an old key's token");
    let stranger = Key::new("ext-1", false)?.sign_again(&first)?;
    ensure!(whoami(&access, &stranger)?.0 == 401, "another's key under a known id");
    // Strangers can't have the signer asked as often as they like, nor with each of their tokens.
    let (before, began) = (signer.state().fetched, Instant::now());
    let unknown = Who::Token(Key::new("who", false)?.sign_again(&first)?);
    access.inside(async |a| {
        let asking =
            (0..40).map(async |_| Ok::<_, anyhow::Error>(a.http1(&unknown).await?.get("/version").await?.code));
        let codes = futures::future::try_join_all(asking).await?;
        ensure!(codes.iter().all(|code| *code == 401), "an unknown key: {codes:?}");
        Ok(())
    })?;
    let asked = signer.state().fetched - before;
    // One each 250 ms, and one that was due anyhow every 3 seconds.
    let most = 3 + began.elapsed().as_millis() as usize / 200;
    ensure!(
        (1..=most).contains(&asked),
        "the signer was asked {asked} times for 40 bad tokens in {:?}",
        began.elapsed()
    );
    let d = c.kubectl_run(&["create", "token", "default", "--duration=24h"])?;
    ensure!(
        d.ok && d.stderr.contains("requested expiration of 86400 seconds shortened to 7200 seconds"),
        "{}",
        d.stderr
    );

    // It signs with a new key: known as soon as a token names it. Then the first is withdrawn.
    {
        let mut state = signer.state();
        state.keys.push(Key::new("ext-2", false)?);
        state.signing = 2;
    }
    let second = create()?;
    ensure!(header(&second)?["kid"] == "ext-2" && whoami(&access, &second)?.0 == 201, "the new key");
    ensure!(published(&access)? == ["ext-1", "ext-2"], "{:?}", published(&access)?);
    ensure!(whoami(&access, &first)?.0 == 201, "the first is still good");
    {
        let mut state = signer.state();
        state.keys.remove(0);
        state.signing = 1;
    }
    c.wait(PATIENCE, "the withdrawn key to be refused", || Ok(whoami(&access, &first)?.0 == 401))?;
    ensure!(whoami(&access, &second)?.0 == 201 && published(&access)? == ["ext-2"], "the other stays");

    // What a signer may not do, and one that is away.
    for (bad, want) in [
        (r#"{"alg":"none","kid":"ext-2","typ":"JWT"}"#, "bad signing algorithm"),
        (r#"{"alg":"ES256","kid":"ext-2","typ":"JWT","jku":"https://x"}"#, "while parsing header JSON"),
        (r#"{"alg":"ES256","kid":"old","typ":"JWT"}"#, "is excluded from OIDC discovery docs"),
    ] {
        signer.state().header = Some(bad.to_string());
        let said = c.kubectl_fails(&["create", "token", "default"])?;
        ensure!(said.contains("failed to generate token: while validating header: ") && said.contains(want), "{said}");
    }
    signer.state().header = None;
    signer.stop();
    let said = c.kubectl_fails(&["create", "token", "default"])?;
    ensure!(said.contains("failed to generate token: while signing jwt: rpc error: code = "), "{said}");
    ensure!(whoami(&access, &second)?.0 == 201, "good without the signer");
    signer.start()?;
    c.wait(PATIENCE, "tokens again", || Ok(c.kubectl_run(&["create", "token", "default"])?.ok))?;
    let third = create()?;
    ensure!(whoami(&access, &third)?.0 == 201, "after the signer came back");
    c.stop_server(libc::SIGTERM)
}
