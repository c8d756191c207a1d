//! Group versions that another server serves: a real extension server in a pod, and one that isn't there.

use super::namespace::Namespace;
use crate::cluster::Cluster;
use crate::extension::aggregated::GROUP;
use crate::extension::certificates::Authority;
use crate::extension::image;
use crate::wire::{Access, Who};
use anyhow::{Result, ensure};
use base64::{Engine, engine::general_purpose::STANDARD};
use serde_json::{Value, json};
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

fn available(c: &Cluster, name: &str) -> Result<(String, String, String)> {
    let object = c.json(&["get", "apiservice", name])?;
    let all = object["status"]["conditions"].as_array().cloned().unwrap_or_default();
    let found = all.into_iter().find(|c| c["type"] == "Available").unwrap_or_default();
    let text = |k: &str| found[k].as_str().unwrap_or("").to_string();
    Ok((text("status"), text("reason"), text("message")))
}

fn api_service(group: &str, namespace: &str, service: &str, port: u16, more: Value) -> Value {
    version_service(group, "v1alpha1", namespace, service, port, more)
}

fn version_service(group: &str, version: &str, namespace: &str, service: &str, port: u16, more: Value) -> Value {
    let mut spec = json!({
        "group": group, "version": version, "groupPriorityMinimum": 2000, "versionPriority": 200,
        "service": {"namespace": namespace, "name": service, "port": port},
    });
    for (k, v) in more.as_object().into_iter().flatten() {
        spec[k] = v.clone();
    }
    json!({"apiVersion": "apiregistration.k8s.io/v1", "kind": "APIService",
        "metadata": {"name": format!("{version}.{group}")}, "spec": spec})
}

pub fn own_groups(c: &Cluster) -> Result<()> {
    c.wait(Duration::from_secs(10), "the server's own APIServices", || {
        Ok(c.kubectl(&["get", "apiservices"])?.lines().filter(|l| l.contains(" Local ")).count() > 15)
    })?;
    for name in ["v1.", "v1.apps", "v2.autoscaling", "v1.rbac.authorization.k8s.io"] {
        let (status, reason, message) = available(c, name)?;
        ensure!(
            (status.as_str(), reason.as_str(), message.as_str())
                == ("True", "Local", "Local APIServices are always available"),
            "{name}: {status} {reason} {message}"
        );
    }
    // Custom resources have theirs, as long as they are there.
    let crd = json!({
        "apiVersion": "apiextensions.k8s.io/v1", "kind": "CustomResourceDefinition",
        "metadata": {"name": "buoys.aggregation.example.com"},
        "spec": {"group": "aggregation.example.com", "scope": "Namespaced",
            "names": {"plural": "buoys", "singular": "buoy", "kind": "Buoy", "listKind": "BuoyList"},
            "versions": [{"name": "v1", "served": true, "storage": true, "schema": {"openAPIV3Schema": {"type": "object"}}}]},
    });
    c.apply(&crd.to_string())?;
    let name = "v1.aggregation.example.com";
    let there = c.wait(Duration::from_secs(10), "the APIService of a custom resource", || {
        Ok(c.kubectl_run(&["get", "apiservice", name])?.ok)
    });
    c.kubectl(&["delete", "crd", "buoys.aggregation.example.com"])?;
    there?;
    c.wait(Duration::from_secs(10), "it to go with its definition", || {
        Ok(!c.kubectl_run(&["get", "apiservice", name])?.ok)
    })
}

pub fn unavailable(c: &Cluster) -> Result<()> {
    let ns = Namespace::new(c, "apiservice")?;
    let group = format!("{}.example.com", ns.name());
    let name = format!("v1alpha1.{group}");
    c.apply(&api_service(&group, ns.name(), "absent", 443, json!({"insecureSkipTLSVerify": true})).to_string())?;
    let done = (|| {
        let until = |want: &str, message: &str| {
            c.wait(Duration::from_secs(15), &format!("{want}: {message}"), || {
                let (status, reason, said) = available(c, &name)?;
                Ok(status == "False" && reason == want && said.contains(message))
            })
        };
        until("ServiceNotFound", &format!("service/absent in \"{}\" is not present", ns.name()))?;
        let d = c.kubectl_run(&["get", "--raw", &format!("/apis/{group}/v1alpha1")])?;
        ensure!(!d.ok && d.stderr.contains("unable to handle the request"), "{}{}", d.stdout, d.stderr);
        let reply = c
            .access()?
            .inside(async |a| a.http1(&Who::Admin).await?.get(&format!("/apis/{group}/v1alpha1/things")).await)?;
        ensure!(reply.code == 503 && reply.text() == "service unavailable\n", "{}: {}", reply.code, reply.text());
        // The group is still told of, as stale.
        ensure!(c.kubectl(&["get", "--raw", "/apis"])?.contains(&group), "/apis");
        let stale = c.access()?.inside(async |a| {
            let accept = "application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList";
            a.http1(&Who::Admin).await?.send("GET", "/apis", &[("accept", accept)], "").await
        })?;
        let groups = stale.json()["items"].as_array().cloned().unwrap_or_default();
        let own = groups.iter().find(|g| g["metadata"]["name"] == group.as_str());
        ensure!(own.is_some_and(|g| g["versions"][0]["freshness"] == "Stale"), "{own:?}");
        // Everything else is served as ever.
        c.kubectl(&["get", "pods"])?;
        ns.must("create service clusterip absent --tcp=80:80")?;
        until("ServicePortError", "is not listening on port 443")?;
        ns.must(r#"patch service absent --type=json -p '[{"op":"replace","path":"/spec/ports/0/port","value":443}]'"#)?;
        until("MissingEndpoints", "have no addresses with port name").or_else(|_| until("EndpointsNotFound", "absent"))
    })();
    c.kubectl(&["delete", "apiservice", &name])?;
    done?;
    ensure!(!c.kubectl(&["get", "--raw", "/apis"])?.contains(&group), "still in /apis");
    ns.delete()
}

/// Bytes sent on a connection that was upgraded, and what came back.
async fn shout(a: &Access, path: &str, who: &Who) -> Result<String> {
    let mut io = a.tls(who, "http/1.1").await?;
    let head = format!(
        "GET {path} HTTP/1.1\r\nhost: 127.0.0.1\r\nconnection: Upgrade\r\nupgrade: shout\r\ncontent-length: 0\r\n\r\n"
    );
    io.write_all(head.as_bytes()).await?;
    let mut seen = Vec::new();
    let mut buffer = [0; 1024];
    while !seen.windows(4).any(|w| w == b"\r\n\r\n") {
        let n = io.read(&mut buffer).await?;
        ensure!(n > 0, "closed: {}", String::from_utf8_lossy(&seen));
        seen.extend_from_slice(&buffer[..n]);
    }
    let head = String::from_utf8_lossy(&seen).into_owned();
    ensure!(head.starts_with("HTTP/1.1 101"), "{head}");
    io.write_all(b"ahoy").await?;
    let mut out = [0; 4];
    io.read_exact(&mut out).await?;
    Ok(String::from_utf8_lossy(&out).into_owned())
}

pub async fn upgrades(a: &Access, path: &str) -> Result<()> {
    let said = tokio::time::timeout(crate::wire::PATIENCE, shout(a, path, &Who::Admin)).await??;
    ensure!(said == "AHOY", "{path}: {said}");
    Ok(())
}

pub fn extension_server(c: &Cluster) -> Result<()> {
    image::import(c)?;
    let ns = Namespace::new(c, "wardle")?;
    let ca = Authority::new("e2e extension")?;
    let (cert, key) = ca.issue(&[&format!("hook.{}.svc", ns.name())])?;
    let (cert, key) = (ns.file("tls.crt", &cert)?, ns.file("tls.key", &key)?);
    ns.must(&format!("create secret tls certs --cert={cert} --key={key}"))?;
    // What every extension server is allowed to do.
    let account = format!("{}:default", ns.name());
    let reader = format!("{}-reader", ns.name());
    let delegator = format!("{}-delegator", ns.name());
    c.kubectl(&[
        "-n",
        "kube-system",
        "create",
        "rolebinding",
        &reader,
        "--role=extension-apiserver-authentication-reader",
        &format!("--serviceaccount={account}"),
    ])?;
    c.kubectl(&[
        "create",
        "clusterrolebinding",
        &delegator,
        "--clusterrole=system:auth-delegator",
        &format!("--serviceaccount={account}"),
    ])?;
    super::pods::apply(&ns, include_str!("../../testdata/extension.yaml"))?;
    ns.must("rollout status deployment hook --timeout=60s")?;
    let name = format!("v1alpha1.{GROUP}");
    let service = api_service(GROUP, ns.name(), "hook", 443, json!({"caBundle": STANDARD.encode(&ca.cert_pem)}));
    c.apply(&service.to_string())?;
    let old = format!("v1beta1.{GROUP}");
    let bundle = json!({"caBundle": STANDARD.encode(&ca.cert_pem), "versionPriority": 100});
    c.apply(&version_service(GROUP, "v1beta1", ns.name(), "hook", 443, bundle).to_string())?;
    let done = published_as_v2(c, &old).and_then(|()| used(c, &ns, &name));
    let _ = c.kubectl(&["delete", "apiservice", &name, &old]);
    let _ = c.kubectl(&["-n", "kube-system", "delete", "rolebinding", &reader]);
    let _ = c.kubectl(&["delete", "clusterrolebinding", &delegator]);
    done?;
    ns.delete()
}

/// A server that publishes OpenAPI v2 alone is in v3, too.
fn published_as_v2(c: &Cluster, name: &str) -> Result<()> {
    c.wait(Duration::from_secs(30), "the old version to be available", || Ok(available(c, name)?.0 == "True"))?;
    let path = format!("apis/{GROUP}/v1beta1");
    c.wait(Duration::from_secs(10), "it in OpenAPI v3", || {
        Ok(c.kubectl(&["get", "--raw", "/openapi/v3"])?.contains(&format!("/openapi/v3/{path}?hash=")))
    })?;
    let index: Value = serde_json::from_str(&c.kubectl(&["get", "--raw", "/openapi/v3"])?)?;
    let url = index["paths"][&path]["serverRelativeURL"].as_str().unwrap_or_default();
    let v3: Value = serde_json::from_str(&c.kubectl(&["get", "--raw", url])?)?;
    let get = &v3["paths"][format!("/{path}/namespaces/{{namespace}}/fleets")]["get"];
    ensure!(
        v3["openapi"] == "3.0.0"
            && get["parameters"][0]["schema"]["type"] == "integer"
            && get["responses"]["200"]["content"]["application/json"]["schema"]["$ref"]
                == "#/components/schemas/com.example.wardle.v1beta1.Fleet",
        "{v3}"
    );
    let told = c.kubectl(&["explain", "fleets", &format!("--api-version={GROUP}/v1beta1")])?;
    ensure!(told.contains("How many it has.") && told.contains("A fleet is many flunders."), "{told}");
    Ok(())
}

fn used(c: &Cluster, ns: &Namespace<'_>, name: &str) -> Result<()> {
    c.wait(Duration::from_secs(30), "the extension server to be available", || {
        let (status, reason, message) = available(c, name)?;
        ensure!(status == "True", "{status} {reason} {message}");
        Ok(reason == "Passed" && message == "all checks passed")
    })?;
    let listed = c.kubectl(&["get", "apiservice", name])?;
    ensure!(listed.contains(&format!("{}/hook", ns.name())) && listed.contains("True"), "{listed}");

    // Discovery, in all its forms, and OpenAPI.
    c.wait(Duration::from_secs(10), "flunders in discovery", || {
        Ok(c.kubectl(&["api-resources", &format!("--api-group={GROUP}")])?.contains("flunders"))
    })?;
    ensure!(c.kubectl(&["get", "--raw", &format!("/apis/{GROUP}/v1alpha1")])?.contains("\"flunders\""), "resources");
    ensure!(c.kubectl(&["get", "--raw", &format!("/apis/{GROUP}")])?.contains("v1alpha1"), "group");
    let v3 = c.kubectl(&["get", "--raw", "/openapi/v3"])?;
    ensure!(v3.contains(&format!("apis/{GROUP}/v1alpha1")) && v3.contains("apis/apps/v1"), "OpenAPI v3");
    let v2: Value = serde_json::from_str(&c.kubectl(&["get", "--raw", "/openapi/v2"])?)?;
    ensure!(
        v2["definitions"]["com.example.wardle.v1alpha1.Flunder"].is_object()
            && v2["definitions"]["io.k8s.api.core.v1.Pod"].is_object(),
        "OpenAPI v2"
    );
    let told = c.kubectl(&["explain", "flunders.spec", &format!("--api-version={GROUP}/v1alpha1")])?;
    ensure!(told.contains("Whom it refers to."), "{told}");

    // Objects, in the users' names.
    let flunder = |name: &str| {
        json!({"apiVersion": format!("{GROUP}/v1alpha1"), "kind": "Flunder", "metadata": {"name": name},
            "spec": {"reference": "me"}})
    };
    let create = |name: &str, who: &[&str]| -> Result<crate::cluster::Done> {
        let file = ns.file(&format!("{name}.json"), &flunder(name).to_string())?;
        ns.kubectl(&[&["create", "--validate=false", "-f", &file], who].concat())
    };
    let d = create("first", &[])?;
    ensure!(d.ok, "{}", d.stderr);
    let first = c.json(&["-n", ns.name(), "get", "flunder", "first"])?;
    ensure!(first["metadata"]["annotations"]["created-by"] == "kubernetes-admin", "{first}");
    let jane = ["--as=jane", "--as-group=sailors", "--as-group=system:authenticated"];
    let d = create("second", &jane)?;
    ensure!(!d.ok && d.stderr.contains("cannot create"), "{}{}", d.stdout, d.stderr);
    ns.must(&format!("create role flunders --verb=create,get --resource=flunders.{GROUP}"))?;
    ns.must("create rolebinding flunders --role=flunders --group=sailors")?;
    let d = create("second", &jane)?;
    ensure!(d.ok, "{}", d.stderr);
    let second = c.json(&["-n", ns.name(), "get", "fl", "second"])?;
    let by = &second["metadata"]["annotations"];
    ensure!(by["created-by"] == "jane" && by["groups"] == "sailors,system:authenticated", "{second}");
    ensure!(ns.must("get flunders -o name")?.lines().count() == 2, "list");
    // All that is known of a user is told.
    let path = format!("/apis/{GROUP}/v1alpha1/namespaces/{}/flunders", ns.name());
    let third = c.access()?.inside(async |a| {
        let head = [
            ("impersonate-user", "jane"),
            ("impersonate-group", "sailors"),
            ("impersonate-uid", "u-7"),
            ("impersonate-extra-example.com%2fship", "argo"),
            ("x-remote-extra-forged", "yes"),
            ("content-type", "application/json"),
        ];
        a.http1(&Who::Admin).await?.send("POST", &path, &head, flunder("third").to_string()).await
    })?;
    let by = &third.json()["metadata"]["annotations"];
    ensure!(by["uid"] == "u-7" && by["extra"] == "example.com%2fship=argo", "{}: {}", third.code, third.text());
    ns.must("delete flunder third")?;

    // Streams and upgrades pass.
    let path = format!("/apis/{GROUP}/v1alpha1/namespaces/{}/flunders", ns.name());
    c.access()?.inside(async |a| {
        use http_body_util::BodyExt;
        let mut connection = a.http2(&Who::Admin).await?;
        let head = [("x-remote-user", "forged")];
        let mut watch = connection.open("GET", &format!("{path}?watch=true"), &head, "").await?;
        let mut lines = String::new();
        while lines.lines().count() < 2 {
            let frame = tokio::time::timeout(crate::wire::PATIENCE, watch.frame()).await?;
            let Some(frame) = frame else { break };
            lines.push_str(&String::from_utf8_lossy(&frame?.into_data().unwrap_or_default()));
        }
        ensure!(lines.matches("ADDED").count() == 2, "watch: {lines}");
        upgrades(a, &format!("{path}/first/shout")).await
    })?;
    ns.must("delete flunder first")?;
    ensure!(ns.must("get flunders -o name")?.lines().count() == 1, "after a deletion");

    // Nobody but the front proxy may say who asks.
    let ip = ns.must("get pods -l app=hook -o jsonpath={.items[0].status.podIP}")?;
    let direct = c.must(&["curl", "-sk", "-H", "x-remote-user: admin", &format!("https://{ip}:8443{path}")])?;
    ensure!(direct.contains("Unauthorized"), "{direct}");

    // It goes, and is missed; it comes back, and is found.
    ns.must("scale deployment hook --replicas=0")?;
    c.wait(Duration::from_secs(20), "the loss to be noticed", || Ok(available(c, name)?.1 == "MissingEndpoints"))?;
    let d = ns.kubectl(&["get", "flunders"])?;
    ensure!(!d.ok && d.stderr.contains("unable to handle the request"), "{}", d.stderr);
    ns.must("scale deployment hook --replicas=1")?;
    c.wait(Duration::from_secs(30), "it to be back", || Ok(available(c, name)?.0 == "True"))?;
    ns.must("get flunders")?;
    // So it is with its Service.
    let service = ns.must("get service hook -o json")?;
    ns.must("delete service hook")?;
    c.wait(Duration::from_secs(10), "the Service to be missed", || Ok(available(c, name)?.1 == "ServiceNotFound"))?;
    let mut service: Value = serde_json::from_str(&service)?;
    for key in ["clusterIP", "clusterIPs"] {
        service["spec"].as_object_mut().map(|s| s.remove(key));
    }
    service["metadata"] = json!({"name": "hook", "namespace": ns.name()});
    c.apply(&service.to_string())?;
    c.wait(Duration::from_secs(30), "it to be back", || Ok(available(c, name)?.0 == "True"))?;
    ns.must("get flunders")?;
    Ok(())
}
