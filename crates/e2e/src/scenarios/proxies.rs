//! `proxy` of pods, Services and nodes, as pages and programs behind them see it.

use super::namespace::Namespace;
use crate::cluster::Cluster;
use crate::extension::certificates::Authority;
use crate::extension::image;
use crate::wire::{Connection, Who};
use anyhow::{Result, ensure};
use std::time::Duration;

/// The echoing server in a pod behind a Service, named `hook`.
fn served(ns: &Namespace<'_>) -> Result<String> {
    image::import(ns.c)?;
    let (cert, key) = Authority::new("e2e pages")?.issue(&["hook"])?;
    let (cert, key) = (ns.file("tls.crt", &cert)?, ns.file("tls.key", &key)?);
    ns.must(&format!("create secret tls certs --cert={cert} --key={key}"))?;
    super::pods::apply(ns, include_str!("../../testdata/extension.yaml"))?;
    ns.must("rollout status deployment hook --timeout=60s")?;
    ns.must("get pods -l app=hook -o jsonpath={.items[0].metadata.name}")
}

async fn echo(a: &mut Connection, method: &str, path: &str, body: &'static str) -> Result<serde_json::Value> {
    let reply = a.send(method, path, &[("x-own", "2")], body).await?;
    ensure!(reply.code == 200, "{method} {path}: {}: {}", reply.code, reply.text());
    Ok(if method == "HEAD" { serde_json::Value::Null } else { reply.json() })
}

pub fn pods_and_services(c: &Cluster) -> Result<()> {
    let ns = Namespace::new(c, "proxy")?;
    let pod = served(&ns)?;
    let root = format!("/api/v1/namespaces/{}", ns.name());
    let ways = [
        format!("{root}/pods/http:{pod}:8444/proxy"),
        format!("{root}/pods/https:{pod}:8443/proxy"),
        format!("{root}/pods/{pod}:8444/proxy"),
        format!("{root}/pods/https:{pod}:/proxy"),
        format!("{root}/services/hook:http/proxy"),
        format!("{root}/services/hook:80/proxy"),
        format!("{root}/services/https:hook:https/proxy"),
        format!("{root}/services/https:hook:443/proxy"),
    ];
    c.access()?.inside(async |a| {
        for way in &ways {
            let mut h = a.http2(&Who::Admin).await?;
            for method in ["GET", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "HEAD"] {
                let body = if matches!(method, "POST" | "PUT" | "PATCH") { "words" } else { "" };
                for (path, want) in
                    [("/", "/"), ("/some/path/with/http", "/some/path/with/http"), ("/a%2Fb/", "/a%2Fb/")]
                {
                    let said = echo(&mut h, method, &format!("{way}{path}?method={method}&x=%20y"), body).await?;
                    if method == "HEAD" {
                        continue;
                    }
                    ensure!(
                        said["method"] == method
                            && said["path"] == want
                            && said["query"] == format!("method={method}&x=%20y")
                            && said["body"] == body,
                        "{way}: {said}"
                    );
                    ensure!(
                        said["headers"]["x-own"] == "2"
                            && said["headers"].get("authorization").is_none()
                            && said["headers"]["x-forwarded-uri"] == format!("{way}{path}"),
                        "{way}: {said}"
                    );
                }
            }
            // Without a slash at the end, pages' relative links would go astray.
            let r = h.send("GET", &format!("{way}?method=GET"), &[], "").await?;
            let to = r.headers.get("location").and_then(|l| l.to_str().ok()).unwrap_or("").to_string();
            ensure!(r.code == 301 && to == format!("{way}/?method=GET"), "{way}: {} {to}", r.code);
            // Redirects lead back through the proxy.
            for (path, want) in [
                ("/redirect", format!("{way}/landed?by=redirect")),
                ("/redirect-away", "https://elsewhere.test/x".to_string()),
            ] {
                let r = h.send("GET", &format!("{way}{path}"), &[], "").await?;
                let to = r.headers.get("location").and_then(|l| l.to_str().ok()).unwrap_or("").to_string();
                ensure!(r.code == 302 && to == want, "{way}{path}: {} {to}", r.code);
            }
            // Links in pages do, too; what looks like one in a script is text.
            for page in ["page", "page.gz"] {
                let r = h.send("GET", &format!("{way}/{page}"), &[("accept-encoding", "gzip")], "").await?;
                let want = format!(
                    "<!DOCTYPE html><link href=\"{way}/style.css\"><a href='{way}/there?x=1'>/there</a>\
                     <img src=near.png><a href=\"https://elsewhere.test/x\">away</a><script>'<a href=\"/no\">'</script>"
                );
                ensure!(r.code == 200 && r.text() == want, "{way}/{page}: {} {}", r.code, r.text());
            }
            let r = h.send("GET", &format!("{way}/teapot"), &[], "").await?;
            ensure!(r.code == 418 && r.text() == "short and stout", "{way}: {} {}", r.code, r.text());
            super::aggregation::upgrades(a, &format!("{way}/up")).await?;
        }
        // Streams come as they are made.
        use http_body_util::BodyExt;
        let mut h = a.http1(&Who::Admin).await?;
        let mut ticks = h.open("GET", &format!("{}/ticks", ways[0]), &[], "").await?;
        let first = tokio::time::timeout(Duration::from_secs(5), ticks.frame()).await?;
        let first = first.and_then(Result::ok).and_then(|f| f.into_data().ok()).unwrap_or_default();
        ensure!(first.as_ref() == b"tick 1\n", "the first tick came with others: {first:?}");
        Ok(())
    })?;
    ns.delete()
}

pub fn errors(c: &Cluster) -> Result<()> {
    let ns = Namespace::new(c, "proxy-errors")?;
    ns.must("create service clusterip nobody --tcp=80:80")?;
    super::pods::apply(&ns, include_str!("../../testdata/streams.yaml"))?;
    ns.must("wait --for=condition=Ready pod/ticker --timeout=30s")?;
    let root = format!("/api/v1/namespaces/{}", ns.name());
    c.access()?.inside(async |a| {
        let mut h = a.http1(&Who::Admin).await?;
        for (path, code, want) in [
            ("services/nobody/proxy/", 503, "no endpoints available for service \"nobody\""),
            ("services/nobody:81/proxy/", 503, "no service port 81 found for service \"nobody\""),
            ("services/none/proxy/", 404, "services \"none\" not found"),
            ("services/ftp:nobody:80/proxy/", 400, "invalid service request \"ftp:nobody:80\""),
            ("pods/none/proxy/", 404, "pods \"none\" not found"),
            ("pods/ticker:9/proxy/", 503, "error trying to reach service: dial tcp 10.42."),
            ("pods/a:b:c:d/proxy/", 400, "invalid pod request \"a:b:c:d\""),
        ] {
            let r = h.send("GET", &format!("{root}/{path}"), &[], "").await?;
            let said = r.json();
            let text = said["message"].as_str().unwrap_or("");
            ensure!(r.code == code && text.contains(want), "{path}: {}: {}", r.code, r.text());
            if path.starts_with("pods/ticker") {
                ensure!(
                    text.ends_with("connect: connection refused") && said["reason"] == "ServiceUnavailable",
                    "{text}"
                );
            }
        }
        Ok(())
    })?;
    ns.delete()
}

pub fn nodes(c: &Cluster) -> Result<()> {
    c.access()?.inside(async |a| {
        let mut h = a.http2(&Who::Admin).await?;
        for name in ["node1", "node1:10250", "https:node1:10250"] {
            let r = h.get(&format!("/api/v1/nodes/{name}/proxy/healthz")).await?;
            ensure!(r.code == 200 && r.text().trim() == "ok", "{name}: {}: {}", r.code, r.text());
        }
        let r = h.get("/api/v1/nodes/none/proxy/healthz").await?;
        ensure!(r.code == 404, "{}", r.text());
        let mut nobody = a.http2(&Who::Nobody).await?;
        let r = nobody.get("/api/v1/nodes/node1/proxy/healthz").await?;
        ensure!(matches!(r.code, 401 | 403), "{}", r.code);
        Ok(())
    })?;
    Ok(())
}
