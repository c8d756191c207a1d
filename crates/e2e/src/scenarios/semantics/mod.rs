//! Reads, watches and writes to the letter of the API concepts, over plain HTTP. A file per subject.

pub mod apply;
pub mod deletion;
pub mod devices;
pub mod discovery;
pub mod fields;
pub mod patches;
pub mod requests;
pub mod watches;

use super::namespace::Namespace;
use crate::cluster::Cluster;
use crate::wire::{Access, Connection, Reply, Who};
use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};

const JSON: &str = "application/json";
const JSON_PATCH: &str = "application/json-patch+json";
const MERGE: &str = "application/merge-patch+json";
const STRATEGIC: &str = "application/strategic-merge-patch+json";
const APPLY: &str = "application/apply-patch+yaml";

struct Api {
    connection: Connection,
    /// `/api/v1/namespaces/NAME`
    core: String,
    /// `/apis/apps/v1/namespaces/NAME`
    apps: String,
}

impl Api {
    async fn new(access: &Access, namespace: &str) -> Result<Api> {
        let connection = access.http1(&Who::Admin).await?;
        Ok(Api {
            connection,
            core: format!("/api/v1/namespaces/{namespace}"),
            apps: format!("/apis/apps/v1/namespaces/{namespace}"),
        })
    }

    async fn send(&mut self, method: &str, path: &str, content_type: &str, body: &str) -> Result<Reply> {
        let headers = [("content-type", content_type), ("accept", JSON)];
        self.connection.send(method, path, &headers, body.to_string()).await
    }

    async fn get(&mut self, path: &str) -> Result<Value> {
        let r = self.connection.get(path).await?;
        ensure!(r.code == 200, "GET {path}: {} {}", r.code, r.text());
        Ok(r.json())
    }

    /// A write that must succeed.
    async fn must(&mut self, method: &str, path: &str, content_type: &str, body: &Value) -> Result<Value> {
        let r = self.send(method, path, content_type, &body.to_string()).await?;
        ensure!(r.code < 300, "{method} {path} {body}: {} {}", r.code, r.text());
        Ok(r.json())
    }

    async fn map(&mut self, name: &str, labels: Value) -> Result<Value> {
        let path = format!("{}/configmaps", self.core);
        self.must("POST", &path, JSON, &json!({"metadata": {"name": name, "labels": labels}, "data": {"k": "v"}})).await
    }

    /// A request that must be refused so.
    async fn refused(
        &mut self,
        (method, path, content_type, body): (&str, &str, &str, &str),
        (code, reason, message): (u16, &str, &str),
    ) -> Result<Value> {
        let r = self.send(method, path, content_type, body).await?;
        let s = r.json();
        let said = s["message"].as_str().unwrap_or_default();
        ensure!(
            r.code == code && s["reason"].as_str().unwrap_or("") == reason && said.contains(message),
            "{method} {path} {body}: not {code} {reason} {message:?} but {}",
            r.text()
        );
        Ok(s)
    }

    /// The frames of a watch that ends by itself.
    async fn frames(&mut self, path: &str) -> Result<Vec<Value>> {
        let r = self.connection.get(path).await?;
        ensure!(r.code == 200, "GET {path}: {} {}", r.code, r.text());
        r.text().lines().map(|l| serde_json::from_str(l).with_context(|| format!("frame {l:?}"))).collect()
    }
}

fn version(object: &Value) -> &str {
    object["metadata"]["resourceVersion"].as_str().unwrap_or_default()
}

fn named(frames: &[Value]) -> Vec<String> {
    frames
        .iter()
        .map(|f| {
            format!("{} {}", f["type"].as_str().unwrap_or("?"), f["object"]["metadata"]["name"].as_str().unwrap_or("-"))
        })
        .filter(|f| !f.ends_with("kube-root-ca.crt"))
        .collect()
}

fn with(c: &Cluster, base: &str, work: impl AsyncFnOnce(&mut Api, &Access) -> Result<()> + Send) -> Result<()> {
    let ns = Namespace::new(c, base)?;
    let name = ns.name().to_string();
    c.access()?.inside(async |access| {
        let mut api = Api::new(access, &name).await?;
        work(&mut api, access).await
    })?;
    ns.delete()
}
