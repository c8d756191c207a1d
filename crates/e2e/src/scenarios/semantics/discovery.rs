//! What is served is told, group by group, and in one document.

use super::Api;
use crate::cluster::Cluster;
use anyhow::{Context, Result, ensure};

/// What is served is told, group by group, and in one document.
pub fn discovery(c: &Cluster) -> Result<()> {
    c.access()?.inside(async |access| {
        let mut api = Api::new(access, "default").await?;
        let version = api.get("/version").await?;
        let number = |k: &str| version[k].as_str().is_some_and(|v| !v.is_empty() && v.bytes().all(|b| b.is_ascii_digit()));
        ensure!(number("major") && number("minor"), "{version}");
        let groups = api.get("/apis").await?;
        let groups = groups["groups"].as_array().context("no groups")?;
        let mut listed = std::collections::BTreeSet::new();
        for g in groups {
            let preferred = &g["preferredVersion"]["groupVersion"];
            let versions = g["versions"].as_array().context("no versions")?;
            ensure!(versions.iter().any(|v| v["groupVersion"] == *preferred), "{g}");
            let same = api.get(&format!("/apis/{}", g["name"].as_str().unwrap_or_default())).await?;
            ensure!(same["kind"] == "APIGroup" && same["versions"] == g["versions"], "{same}");
            for v in versions {
                let gv = v["groupVersion"].as_str().unwrap_or_default();
                let list = api.get(&format!("/apis/{gv}")).await?;
                ensure!(list["kind"] == "APIResourceList" && list["groupVersion"] == gv, "{list}");
                let resources = list["resources"].as_array().context("no resources")?;
                ensure!(!resources.is_empty(), "{gv} has no resources");
                for r in resources.iter().filter_map(|r| r["name"].as_str()).filter(|r| !r.contains('/')) {
                    listed.insert(format!("{gv} {r}"));
                }
            }
        }
        for needed in ["admissionregistration.k8s.io", "apiextensions.k8s.io", "apps", "flowcontrol.apiserver.k8s.io"] {
            ensure!(groups.iter().any(|g| g["name"] == needed), "no group {needed}");
        }
        let core = api.get("/api/v1").await?;
        for r in core["resources"].as_array().context("no resources")?.iter().filter_map(|r| r["name"].as_str()) {
            if !r.contains('/') {
                listed.insert(format!("v1 {r}"));
            }
        }
        // Both roots in one document each, which names the same resources, with its own type and a tag.
        let mut told = std::collections::BTreeSet::new();
        for root in ["/api", "/apis"] {
            let accept = "application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList,application/json;g=apidiscovery.k8s.io;v=v2beta1;as=APIGroupDiscoveryList,application/json";
            let r = api.connection.send("GET", root, &[("accept", accept)], "").await?;
            ensure!(
                r.code == 200 && r.headers["content-type"] == "application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList",
                "{:?}",
                r.headers
            );
            let tag = r.headers.get("etag").and_then(|v| v.to_str().ok()).context("no etag")?.to_string();
            for g in r.json()["items"].as_array().context("no items")? {
                for v in g["versions"].as_array().context("no versions")? {
                    let (group, version) = (g["metadata"]["name"].as_str().unwrap_or(""), v["version"].as_str().unwrap_or(""));
                    let gv = if group.is_empty() { version.to_string() } else { format!("{group}/{version}") };
                    ensure!(v["freshness"] == "Current", "{gv}: {}", v["freshness"]);
                    for r in v["resources"].as_array().context("no resources")? {
                        told.insert(format!("{gv} {}", r["resource"].as_str().unwrap_or("")));
                    }
                }
            }
            let again = api.connection.send("GET", root, &[("accept", accept), ("if-none-match", &tag)], "").await?;
            ensure!(again.code == 304, "{}", again.code);
            for (accept, kind) in [
                ("application/json;g=apidiscovery.k8s.io;v=v2beta1;as=APIGroupDiscoveryList", "APIGroupDiscoveryList"),
                ("application/json", if root == "/api" { "APIVersions" } else { "APIGroupList" }),
                ("*/*", if root == "/api" { "APIVersions" } else { "APIGroupList" }),
            ] {
                let r = api.connection.send("GET", root, &[("accept", accept)], "").await?;
                ensure!(r.code == 200 && r.json()["kind"] == kind, "{root} {accept}: {}", r.json()["kind"]);
            }
        }
        // In every format, too.
        for path in ["/api", "/api/v1", "/apis", "/apis/apps", "/apis/apps/v1"] {
            let kind = api.get(path).await?["kind"].as_str().unwrap_or_default().to_string();
            for (accept, start) in [
                ("application/yaml", ""),
                ("application/vnd.kubernetes.protobuf", "k8s\0"),
                ("application/json;pretty=1", "{\n  \""),
            ] {
                let r = api.connection.send("GET", path, &[("accept", accept)], "").await?;
                let text = r.text();
                ensure!(
                    r.code == 200
                        && accept.starts_with(r.headers["content-type"].to_str()?)
                        && text.starts_with(start)
                        && text.contains(&kind),
                    "{path} {accept}: {text}"
                );
            }
            let r = api.connection.send("GET", path, &[("accept", "text/html")], "").await?;
            ensure!(r.code == 406 && r.json()["reason"] == "NotAcceptable", "{path}: {}", r.text());
        }
        let differ: Vec<_> = told.symmetric_difference(&listed).collect();
        ensure!(differ.is_empty(), "the documents differ in {differ:?}");
        Ok(())
    })
}
