use super::testing::{Peer, certificate, json, now};
use super::*;
use base64::{Engine, engine::general_purpose::STANDARD};
use serde_json::json;
use std::sync::atomic::Ordering;

const SOON: Duration = Duration::from_secs(10);

async fn client(objects: &[Value]) -> Client {
    Client::new(crate::testing::reader(objects).await)
}

async fn error(target: &Target, timeout: Duration) -> String {
    client(&[]).await.post(target, "timeout=1s", &json!({}), timeout).await.unwrap_err().to_string()
}

#[tokio::test]
async fn requests_to_one_target_share_a_connection() {
    let peer = Peer::start(&["127.0.0.1"], |r| async move {
        assert_eq!(r.version(), http::Version::HTTP_2);
        json(200, &json!({"path": r.uri().path(), "query": r.uri().query(), "sent": r.body().len()}))
    })
    .await;
    let c = client(&[]).await;
    for _ in 0..5 {
        let answer = c.post(&peer.target("/a/b"), "timeout=1s", &json!({"x": 1}), SOON).await.unwrap();
        assert_eq!(answer.json().unwrap(), json!({"path": "/a/b", "query": "timeout=1s", "sent": 7}));
    }
    assert_eq!(peer.connections.load(Ordering::SeqCst), 1);
    // Another trust is another connection.
    let other = peer.target("/a/b").trusting(Trust::Anybody);
    assert!(c.post(&other, "", &json!({}), SOON).await.unwrap().is_success());
    assert_eq!(peer.connections.load(Ordering::SeqCst), 2);
}

#[tokio::test]
async fn redirects_are_answers() {
    let peer = Peer::start(&["127.0.0.1"], |_| async {
        Response::builder().status(302).header("location", "https://127.0.0.1:1/").body(Bytes::new()).unwrap()
    })
    .await;
    let answer = client(&[]).await.post(&peer.target("/"), "", &json!({}), SOON).await.unwrap();
    assert_eq!(answer.code, 302);
    assert_eq!(
        answer.json().unwrap_err(),
        "the server responded with the status code 302 but did not return more information"
    );
}

#[tokio::test]
async fn silence_ends_at_the_deadline() {
    let peer = Peer::start(&["127.0.0.1"], |_| std::future::pending()).await;
    let got = error(&peer.target("/w"), Duration::from_millis(100)).await;
    assert_eq!(got, format!("Post \"{}?timeout=1s\": context deadline exceeded", peer.url("/w")));
}

#[tokio::test]
async fn closed_ports_refuse() {
    let free = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap();
    let target = Target::parse(&format!("https://{free}/")).unwrap();
    let want = format!("Post \"https://{free}/?timeout=1s\": dial tcp {free}: connect: connection refused");
    assert_eq!(error(&target, SOON).await, want);
}

#[tokio::test]
async fn strangers_certificates_are_refused_in_gos_words() {
    let peer = Peer::start(&["localhost", "other.test"], |_| async { json(200, &json!({})) }).await;
    let (_, other_ca) = certificate(&["x"], now());
    let by_name = |name: &str| Target::parse(&format!("https://{name}:{}/", peer.port)).unwrap();
    let trusted = Trust::Ca(peer.ca_pem.as_bytes().into());
    for (target, want) in [
        (
            by_name("localhost").trusting(Trust::Ca(other_ca.as_bytes().into())),
            "tls: failed to verify certificate: x509: certificate signed by unknown authority",
        ),
        (by_name("localhost"), "tls: failed to verify certificate: x509: certificate signed by unknown authority"),
        (
            by_name("localhost").trusting(trusted.clone()).named("wrong.test"),
            "tls: failed to verify certificate: x509: certificate is valid for localhost, other.test, not wrong.test",
        ),
        (
            by_name("localhost").trusting(Trust::Ca(b"nonsense".as_slice().into())),
            "unable to load root certificates: unable to parse bytes as PEM block",
        ),
    ] {
        let got = error(&target, SOON).await;
        assert!(got.contains(&format!(": {want}")), "{got}");
    }
    let named = by_name("127.0.0.1").trusting(trusted).named("other.test");
    assert!(client(&[]).await.post(&named, "", &json!({}), SOON).await.unwrap().is_success());

    let old = now() - 400 * 24 * 3600;
    let (identity, ca) = certificate(&["127.0.0.1"], old);
    let worn = Peer::with(identity, ca, |_| async { json(200, &json!({})) }).await;
    let got = error(&worn.target("/"), SOON).await;
    assert!(got.contains("x509: certificate has expired or is not yet valid: current time "), "{got}");
}

#[tokio::test]
async fn a_self_signed_certificate_may_be_its_own_authority() {
    let key = rcgen::KeyPair::generate().unwrap();
    for ca in [true, false] {
        let mut params = rcgen::CertificateParams::new(vec!["127.0.0.1".to_string()]).unwrap();
        if ca {
            params.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
        }
        let cert_pem = params.self_signed(&key).unwrap().pem();
        let identity = crate::pki::Identity { cert_pem: cert_pem.clone(), key_pem: key.serialize_pem() };
        let peer = Peer::with(identity, cert_pem, |_| async { json(200, &json!({})) }).await;
        assert!(client(&[]).await.post(&peer.target("/"), "", &json!({}), SOON).await.unwrap().is_success());
    }
}

#[tokio::test]
async fn plain_http_is_told_from_https() {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        use tokio::io::{AsyncReadExt, AsyncWriteExt};
        while let Ok((mut tcp, _)) = listener.accept().await {
            let _ = tcp.read(&mut [0; 4096]).await;
            let _ = tcp.write_all(b"HTTP/1.1 400 Bad Request\r\ncontent-length: 0\r\n\r\n").await;
        }
    });
    let target = Target::parse(&format!("https://{address}/")).unwrap();
    let got = error(&target, SOON).await;
    assert!(got.ends_with(": http: server gave HTTP response to HTTPS client"), "{got}");
}

#[tokio::test]
async fn services_are_called_at_their_ready_endpoints() {
    let peer = Peer::start(&["hook.ns.svc"], |r| async move {
        let host = r.headers().get("host").and_then(|h| h.to_str().ok());
        json(200, &json!({"host": host, "path": r.uri().path()}))
    })
    .await;
    let service = json!({"apiVersion": "v1", "kind": "Service", "metadata": {"name": "hook", "namespace": "ns"}, "spec": {"ports": [{"name": "https", "port": 443}]}});
    let slice = |ready: bool| {
        json!({
            "apiVersion": "discovery.k8s.io/v1", "kind": "EndpointSlice",
            "metadata": {"name": "s", "namespace": "ns", "labels": {"kubernetes.io/service-name": "hook"}},
            "ports": [{"name": "other", "port": 1}, {"name": "https", "port": peer.port}],
            "endpoints": [{"addresses": ["127.0.0.1"], "conditions": {"ready": ready}}],
        })
    };
    let config = |port: u16| {
        json!({
            "service": {"namespace": "ns", "name": "hook", "path": "/validate", "port": port},
            "caBundle": STANDARD.encode(&peer.ca_pem),
        })
    };
    let target = |port| Target::from_client_config(&config(port)).unwrap();
    let with = |ready| [service.clone(), slice(ready)];

    let answer = client(&with(true)).await.post(&target(443), "", &json!({}), SOON).await.unwrap();
    assert_eq!(answer.json().unwrap(), json!({"host": "hook.ns.svc", "path": "/validate"}));
    let url = "Post \"https://hook.ns.svc:443/validate\": ";
    for (objects, port, want) in [
        (with(false).to_vec(), 443, format!("{url}no endpoints available for service \"hook\"")),
        (Vec::new(), 443, format!("{url}service \"hook\" not found")),
        (
            with(true).to_vec(),
            8443,
            "Post \"https://hook.ns.svc:8443/validate\": no service port 8443 found for service \"hook\"".into(),
        ),
    ] {
        let got = client(&objects).await.post(&target(port), "", &json!({}), SOON).await.unwrap_err();
        assert_eq!(got.to_string(), want);
    }
}

#[test]
fn refusals_are_worded_by_code() {
    for (code, body, want) in [
        (404, "", "the server could not find the requested resource"),
        (500, "boom\n", "an error on the server (\"boom\") has prevented the request from succeeding"),
        (403, "no", "no"),
        (500, r#"{"kind":"Status","apiVersion":"v1","message":"told"}"#, "told"),
    ] {
        assert_eq!(refusal(code, body.as_bytes()), want);
    }
}

#[tokio::test]
async fn kubeconfigs_say_where_and_who() {
    let peer = Peer::start(&["hook.test"], |r| async move {
        let all = |name: &str| {
            let values: Vec<_> = r.headers().get_all(name).iter().map(|v| v.to_str().unwrap()).collect();
            Some(values.join(",")).filter(|v| !v.is_empty())
        };
        let said = all("authorization");
        let code = if said.as_deref() == Some("Bearer late") { 401 } else { 200 };
        json(
            code,
            &json!({
                "authorization": said, "user": all("impersonate-user"), "uid": all("impersonate-uid"),
                "groups": all("impersonate-group"), "extra": all("impersonate-extra-a.io%2fb"),
            }),
        )
    })
    .await;
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("config");
    std::fs::write(dir.path().join("token"), "abc\n").unwrap();
    std::fs::write(dir.path().join("ca.crt"), &peer.ca_pem).unwrap();
    let file = |cluster: &str, user: &str| {
        let text = format!(
            "clusters: [{{name: c, cluster: {{server: '{}', {cluster}}}}}]\nusers: [{{name: u, user: {{{user}}}}}]\n\
             contexts: [{{name: x, context: {{cluster: c, user: u}}}}]\ncurrent-context: x\n",
            peer.url("/review")
        );
        std::fs::write(&path, text).unwrap();
        Target::from_kubeconfig(&path)
    };
    for (cluster, user, want) in [
        ("certificate-authority: ca.crt, tls-server-name: hook.test", "tokenFile: token", json!("Bearer abc")),
        ("insecure-skip-tls-verify: true", "token: t", json!("Bearer t")),
        ("insecure-skip-tls-verify: true", "username: u, password: p", json!("Basic dTpw")),
        ("insecure-skip-tls-verify: true", "", Value::Null),
    ] {
        let target = file(cluster, user).unwrap();
        let got = client(&[]).await.post(&target, "", &json!({}), SOON).await.unwrap().json().unwrap();
        assert_eq!(got["authorization"], want, "{cluster} {user}");
    }
    let anyone = "insecure-skip-tls-verify: true";
    let of = async |target: &Target| client(&[]).await.post(target, "", &json!({}), SOON).await;
    let all = "token: t, as: jane, as-uid: '7', as-groups: [a, b], as-user-extra: {a.io/b: [c]}";
    let got = of(&file(anyone, all).unwrap()).await.unwrap().json().unwrap();
    assert_eq!(got, json!({"authorization": "Bearer t", "user": "jane", "uid": "7", "groups": "a,b", "extra": "c"}));

    // A program that counts how often it ran.
    let script = |said: &str| {
        let text = format!("#!/bin/sh\necho \"$KUBERNETES_EXEC_INFO $E\" >> {}/asked\n{said}\n", dir.path().display());
        std::fs::write(dir.path().join("plugin"), text).unwrap();
        let mode = std::os::unix::fs::PermissionsExt::from_mode(0o755);
        std::fs::set_permissions(dir.path().join("plugin"), mode).unwrap();
        let _ = std::fs::remove_file(dir.path().join("asked"));
    };
    let asked = || std::fs::read_to_string(dir.path().join("asked")).unwrap_or_default();
    let exec = |more: &str| {
        format!(
            "exec: {{command: ./plugin, apiVersion: client.authentication.k8s.io/v1, interactiveMode: Never, \
             env: [{{name: E, value: '5'}}]{more}}}"
        )
    };
    let status = |status: &str| {
        script(&format!(
            "echo '{{\"kind\":\"ExecCredential\",\"apiVersion\":\"client.authentication.k8s.io/v1\"{status}}}'"
        ));
    };
    for (token, runs) in [
        (r#""token":"x""#, 1),
        (r#""token":"x","expirationTimestamp":"2001-01-01T00:00:00Z""#, 2),
        // Refused by the peer.
        (r#""token":"late""#, 2),
    ] {
        status(&format!(r#","status":{{{token}}}"#));
        let target = file(anyone, &exec("")).unwrap();
        for _ in 0..2 {
            let answer = of(&target).await.unwrap();
            let answer: Value = serde_json::from_slice(&answer.body).unwrap();
            assert!(token.contains(answer["authorization"].as_str().unwrap().trim_start_matches("Bearer ")));
        }
        let line = r#"{"apiVersion":"client.authentication.k8s.io/v1","kind":"ExecCredential","spec":{"interactive":false}} 5"#;
        assert_eq!(asked(), format!("{line}\n").repeat(runs), "{token}");
    }
    status(r#","status":{"token":"x"}"#);
    of(&file(anyone, &exec(", provideClusterInfo: true")).unwrap()).await.unwrap();
    let told: Value = serde_json::from_str(asked().trim().trim_end_matches(" 5")).unwrap();
    let cluster = json!({"server": peer.url(""), "insecure-skip-tls-verify": true});
    assert_eq!(told["spec"], json!({"interactive": false, "cluster": cluster}));
    for (said, want) in [
        ("", "getting credentials: exec plugin didn't return a status field"),
        (r#","status":{}"#, "getting credentials: exec plugin didn't return a token or cert/key pair"),
        (
            r#","status":{"clientKeyData":"x"}"#,
            "getting credentials: exec plugin returned only certificate or key, not both",
        ),
    ] {
        status(said);
        let got = of(&file(anyone, &exec("")).unwrap()).await.unwrap_err().to_string();
        assert!(got.ends_with(want), "{got}");
    }
    script("exit 3");
    let got = of(&file(anyone, &exec("")).unwrap()).await.unwrap_err().to_string();
    assert!(
        got.contains("getting credentials: exec: executable ") && got.ends_with("plugin failed with exit code 3"),
        "{got}"
    );

    for (cluster, user, want) in [
        ("", "exec: {command: x}", "apiVersion must be specified for u to use exec authentication plugin"),
        ("", "exec: {command: x, apiVersion: v1}", "exec plugin: invalid apiVersion \"v1\""),
        (
            "",
            "exec: {command: x, apiVersion: client.authentication.k8s.io/v1}",
            "interactiveMode must be specified for u to use exec authentication plugin",
        ),
        ("certificate-authority: gone", "", "failed to read"),
        ("certificate-authority-data: '%'", "", "certificate-authority-data is no base64"),
        ("proxy-url: 'http://x'", "", "proxy-url is not supported"),
        ("", "client-key: token", "client-certificate and client-key must be given together"),
        ("", "auth-provider: {name: x}", "auth provider not supported"),
    ] {
        let got = file(cluster, user).unwrap_err().to_string();
        assert!(got.contains(want), "{got}");
    }
}

#[tokio::test]
async fn a_webhook_that_is_this_server_is_called_within() {
    let client = client(&[]).await;
    client.answered_by(Box::new(|request| {
        Box::pin(async move {
            let body = json!({"path": request.uri().path_and_query().unwrap().as_str()}).to_string();
            Response::new(axum::body::Body::from(body))
        })
    }));
    for config in [
        json!({"service": {"namespace": "default", "name": "kubernetes", "path": "/apis/x"}}),
        json!({"url": "https://kubernetes.default.svc/apis/x"}),
    ] {
        let target = Target::from_client_config(&config).unwrap();
        let got = client.post(&target, "timeout=5s", &json!({}), SOON).await.unwrap().json().unwrap();
        assert_eq!(got["path"], "/apis/x?timeout=5s", "{config}");
    }
    let other = json!({"service": {"namespace": "default", "name": "kubernetes", "port": 444}});
    let other = Target::from_client_config(&other).unwrap();
    assert!(client.post(&other, "", &json!({}), SOON).await.is_err());
}

#[test]
fn urls_are_shown_as_written() {
    for (text, path, want) in [
        ("https://a.test", "/", "https://a.test/"),
        ("https://a.test:443/x", "/x", "https://a.test:443/x"),
        ("http://[::1]:80", "/y", "http://[::1]:80/y"),
    ] {
        assert_eq!(Url::parse(text).unwrap().with(path, ""), want);
    }
    for bad in ["ftp://x", "nothing", "https://", "/path"] {
        assert!(Url::parse(bad).is_err(), "{bad}");
    }
    assert_eq!(Url::parse("https://a.test/base/").unwrap().below("/apis"), "/base/apis");
}

#[test]
fn peers_elsewhere_get_one_request_at_a_time() {
    for (config, want) in [
        (json!({"url": "https://hooks.example.com/x"}), true),
        (json!({"url": "https://10.0.0.1/x"}), true),
        (json!({"service": {"namespace": "d", "name": "s"}}), true),
        (json!({"url": "https://LocalHost:8443"}), false),
        (json!({"url": "https://127.0.0.9:8443"}), false),
        (json!({"url": "https://[::1]:8443"}), false),
    ] {
        assert_eq!(Target::from_client_config(&config).unwrap().http1, want, "{config}");
    }
}
