//! CustomResourceDefinitions and their objects, as clients and operators count on them.

pub mod behaviour;
pub mod conversion;
pub mod lifecycle;
pub mod openapi;

use super::namespace::Namespace;
use crate::cluster::Cluster;
use crate::wire::{Access, Connection, PATIENCE, Reply, Who};
use anyhow::{Context, Result, ensure};
use http_body_util::BodyExt;
use serde_json::{Value, json};
use std::time::{Duration, Instant};

const JSON: &str = "application/json";
const MERGE: &str = "application/merge-patch+json";
const CRDS: &str = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions";

/// An administrator's connection, and one definition in a group of its own.
struct Crd {
    connection: Connection,
    group: String,
    namespace: String,
}

impl Crd {
    /// `metadata.name` of the definition.
    fn name(&self) -> String {
        format!("widgets.{}", self.group)
    }

    fn body(&self, versions: Value) -> Value {
        json!({"apiVersion": "apiextensions.k8s.io/v1", "kind": "CustomResourceDefinition",
            "metadata": {"name": self.name()},
            "spec": {"group": self.group, "scope": "Namespaced",
                "names": {"plural": "widgets", "singular": "widget", "kind": "Widget", "shortNames": ["wd"]},
                "versions": versions}})
    }

    async fn define(&mut self, versions: Value) -> Result<Value> {
        let body = self.body(versions);
        self.must("POST", CRDS, JSON, body).await
    }

    async fn send(&mut self, method: &str, path: &str, content_type: &str, body: Value) -> Result<Reply> {
        let body = if body.is_null() { String::new() } else { body.to_string() };
        self.connection.send(method, path, &[("content-type", content_type), ("accept", JSON)], body).await
    }

    async fn must(&mut self, method: &str, path: &str, content_type: &str, body: Value) -> Result<Value> {
        let r = self.send(method, path, content_type, body).await?;
        ensure!(r.code < 300, "{method} {path}: {} {}", r.code, r.text());
        Ok(r.json())
    }

    async fn get(&mut self, path: &str) -> Result<Value> {
        self.must("GET", path, JSON, Value::Null).await
    }

    /// The error of a request that must be refused: code and message.
    async fn refused(&mut self, method: &str, path: &str, content_type: &str, body: Value) -> Result<(u16, String)> {
        let r = self.send(method, path, content_type, body).await?;
        ensure!(r.code >= 400, "{method} {path} was let pass: {}", r.text());
        Ok((r.code, r.json()["message"].as_str().unwrap_or_default().to_string()))
    }

    fn objects(&self, version: &str) -> String {
        format!("/apis/{}/{version}/namespaces/{}/widgets", self.group, self.namespace)
    }

    fn widget(&self, version: &str, name: &str, more: Value) -> Value {
        let mut o =
            json!({"apiVersion": format!("{}/{version}", self.group), "kind": "Widget", "metadata": {"name": name}});
        for (k, v) in more.as_object().into_iter().flatten() {
            if k == "metadata" {
                for (k, v) in v.as_object().into_iter().flatten() {
                    o["metadata"][k] = v.clone();
                }
            } else {
                o[k] = v.clone();
            }
        }
        o
    }

    async fn make(&mut self, version: &str, name: &str, more: Value) -> Result<Value> {
        let (path, body) = (self.objects(version), self.widget(version, name, more));
        self.must("POST", &path, JSON, body).await
    }

    async fn one(&mut self, version: &str, name: &str) -> Result<Value> {
        let path = format!("{}/{name}", self.objects(version));
        self.get(&path).await
    }

    async fn definition(&mut self) -> Result<Value> {
        let path = format!("{CRDS}/{}", self.name());
        self.get(&path).await
    }

    async fn redefine(&mut self, patch: Value) -> Result<Value> {
        let path = format!("{CRDS}/{}", self.name());
        self.must("PATCH", &path, MERGE, patch).await
    }

    /// Deletes the definition and waits until it is gone, and with it what it served.
    async fn end(&mut self) -> Result<()> {
        let path = format!("{CRDS}/{}", self.name());
        self.send("DELETE", &path, JSON, Value::Null).await?;
        let until = Instant::now() + PATIENCE;
        while self.send("GET", &path, JSON, Value::Null).await?.code != 404 {
            ensure!(Instant::now() < until, "the definition doesn't go: {}", self.definition().await?);
            tokio::time::sleep(Duration::from_millis(30)).await;
        }
        let objects = self.objects("v1");
        while self.send("GET", &objects, JSON, Value::Null).await?.code != 404 {
            ensure!(Instant::now() < until, "the resource is still served");
            tokio::time::sleep(Duration::from_millis(30)).await;
        }
        Ok(())
    }
}

fn with(c: &Cluster, base: &str, work: impl AsyncFnOnce(&mut Crd, &Access) -> Result<()> + Send) -> Result<()> {
    let ns = Namespace::new(c, base)?;
    let name = ns.name().to_string();
    c.access()?.inside(async |access| {
        let connection = access.http1(&Who::Admin).await?;
        let mut crd = Crd { connection, group: format!("{name}.example.com"), namespace: name.clone() };
        // A failed attempt may have left it.
        crd.end().await?;
        work(&mut crd, access).await?;
        crd.end().await
    })?;
    ns.delete()
}

fn version(name: &str, schema: Value) -> Value {
    json!({"name": name, "served": true, "storage": name == "v1", "schema": {"openAPIV3Schema": schema}})
}

fn spec(properties: Value) -> Value {
    json!({"type": "object", "properties": {"spec": {"type": "object", "properties": properties}}})
}

fn open() -> Value {
    json!({"type": "object", "x-kubernetes-preserve-unknown-fields": true})
}

fn condition<'v>(crd: &'v Value, kind: &str) -> &'v Value {
    let all = crd["status"]["conditions"].as_array().map(Vec::as_slice).unwrap_or_default();
    all.iter().find(|c| c["type"] == kind).unwrap_or(&Value::Null)
}

fn names(list: &Value) -> Vec<String> {
    let items = list["items"].as_array().into_iter().flatten();
    items.map(|i| i["metadata"]["name"].as_str().unwrap_or_default().to_string()).collect()
}

/// A definition is served when its creation is answered, in every form of discovery, and gone with it.
pub fn is_discovered(c: &Cluster) -> Result<()> {
    with(c, "crd-found", async |crd, _| {
        crd.define(json!([version("v1", spec(json!({"a": {"type": "string", "description": "The letter."}})))]))
            .await?;
        let (group, objects) = (crd.group.clone(), crd.objects("v1"));
        ensure!(crd.get(&objects).await?["kind"] == "WidgetList", "served at once");
        let now = crd.definition().await?;
        ensure!(
            condition(&now, "NamesAccepted")["reason"] == "NoConflicts"
                && condition(&now, "Established")["reason"] == "InitialNamesAccepted",
            "conditions: {}",
            now["status"]
        );
        ensure!(now["status"]["storedVersions"] == json!(["v1"]), "{}", now["status"]);
        ensure!(now["status"]["acceptedNames"]["listKind"] == "WidgetList", "{}", now["status"]);
        // The definition's own group.
        let own = crd.get("/apis/apiextensions.k8s.io/v1").await?;
        ensure!(own["resources"].to_string().contains("\"CustomResourceDefinition\""), "{own}");
        let groups = crd.get("/apis").await?;
        let found = groups["groups"].as_array().into_iter().flatten().find(|g| g["name"] == group.as_str());
        ensure!(found.is_some_and(|g| g["preferredVersion"]["version"] == "v1"), "/apis lacks {group}");
        ensure!(crd.get(&format!("/apis/{group}")).await?["kind"] == "APIGroup", "/apis/{group}");
        let resources = crd.get(&format!("/apis/{group}/v1")).await?;
        ensure!(resources["resources"][0]["shortNames"] == json!(["wd"]), "{resources}");
        for v in ["v2", "v2beta1"] {
            let accept = format!("application/json;g=apidiscovery.k8s.io;v={v};as=APIGroupDiscoveryList");
            let r = crd.connection.send("GET", "/apis", &[("accept", &accept)], "").await?;
            let kind = r.headers.get("content-type").and_then(|v| v.to_str().ok()).unwrap_or_default().to_string();
            ensure!(kind.contains("as=APIGroupDiscoveryList"), "aggregated as {kind}");
            let all = r.json();
            let item = all["items"].as_array().into_iter().flatten().find(|g| g["metadata"]["name"] == group.as_str());
            let item = item.with_context(|| format!("aggregated discovery {v} lacks {group}"))?;
            let resource = &item["versions"][0]["resources"][0];
            ensure!(
                resource["resource"] == "widgets" && resource["responseKind"]["kind"] == "Widget",
                "aggregated {v}: {resource}"
            );
        }
        let index = crd.get("/openapi/v3").await?;
        let url = index["paths"][format!("apis/{group}/v1")]["serverRelativeURL"].as_str().context("no v3 path")?;
        let document = crd.get(url).await?;
        ensure!(document["components"]["schemas"].to_string().contains("The letter."), "v3 lacks the description");
        let v2 = crd.get("/openapi/v2").await?;
        ensure!(v2["definitions"].to_string().contains("The letter."), "v2 lacks the description");
        // Protobuf isn't for custom resources.
        let protobuf = "application/vnd.kubernetes.protobuf";
        let r = crd.connection.send("GET", &objects, &[("accept", protobuf)], "").await?;
        ensure!(r.code == 406, "protobuf alone: {}", r.code);
        let r = crd.connection.send("GET", &objects, &[("accept", &format!("{protobuf},{JSON}"))], "").await?;
        ensure!(r.code == 200 && r.json()["kind"] == "WidgetList", "protobuf or JSON: {}", r.code);
        ensure!(crd.refused("POST", &objects, protobuf, json!({})).await?.0 == 415, "a protobuf body");
        crd.end().await?;
        let groups = crd.get("/apis").await?;
        ensure!(!groups.to_string().contains(&group), "the group outlives its definition");
        Ok(())
    })
}

/// Pruning, defaulting on the way in and out, validation with upstream's words, ratcheting.
pub fn schemas_hold(c: &Cluster) -> Result<()> {
    with(c, "crd-schema", async |crd, _| {
        let properties = json!({
            "color": {"type": "string", "enum": ["red", "blue"]}, "size": {"type": "integer", "minimum": 1, "default": 3},
            "at": {"type": "string", "format": "date-time"},
            "tags": {"type": "array", "items": {"type": "string"}, "x-kubernetes-list-type": "set"},
            "port": {"x-kubernetes-int-or-string": true},
            "none": {"type": "string", "nullable": true, "default": "d"},
            "pod": {"type": "object", "x-kubernetes-embedded-resource": true, "x-kubernetes-preserve-unknown-fields": true}});
        crd.define(json!([version("v1", spec(properties))])).await?;
        let made = crd
            .make(
                "v1",
                "a",
                json!({"spec": {"color": "red", "gone": 1, "none": null, "port": "http",
                "pod": {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "x"}, "spec": {"free": true}}}}),
            )
            .await?;
        ensure!(
            made["spec"]
                == json!({"color": "red", "size": 3, "none": null, "port": "http",
                    "pod": {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "x"}, "spec": {"free": true}}}),
            "pruned and defaulted: {}",
            made["spec"]
        );
        ensure!(made["metadata"]["generation"] == 1, "generation");
        let objects = crd.objects("v1");
        let bad = crd.widget(
            "v1",
            "bad",
            json!({"spec": {"color": "green", "size": "big", "at": "now", "tags": ["x", "x"], "port": true, "pod": {}}}),
        );
        let (code, message) = crd.refused("POST", &objects, JSON, bad).await?;
        ensure!(code == 422, "{code} {message}");
        for text in [
            "spec.color: Unsupported value: \"green\": supported values: \"red\", \"blue\"",
            "spec.size: Invalid value: \"string\": spec.size in body must be of type integer: \"string\"",
            "spec.at: Invalid value: \"now\": spec.at in body must be of type date-time: \"now\"",
            "spec.tags[1]: Duplicate value: \"x\"",
            "spec.port: Invalid value: \"boolean\": spec.port in body must be of type integer,string: \"boolean\"",
            "spec.pod.kind: Required value",
        ] {
            ensure!(message.contains(text), "{text:?} isn't in: {message}");
        }
        // A new default is there for what was stored without it; a default that goes stays where it was written.
        let schema = "/spec/versions/0/schema/openAPIV3Schema/properties/spec/properties";
        let path = format!("{CRDS}/{}", crd.name());
        let change = json!([
            {"op": "add", "path": format!("{schema}/late"), "value": {"type": "string", "default": "now"}},
            {"op": "remove", "path": format!("{schema}/size/default")},
            {"op": "replace", "path": format!("{schema}/color/enum"), "value": ["blue"]}]);
        crd.must("PATCH", &path, "application/json-patch+json", change).await?;
        let now = crd.one("v1", "a").await?;
        ensure!(now["spec"]["late"] == "now" && now["spec"]["size"] == 3, "read with defaults: {}", now["spec"]);
        // What it was before the schema got stricter may stay.
        let one = format!("{objects}/a");
        crd.must("PATCH", &one, MERGE, json!({"spec": {"size": 5}})).await?;
        let (code, _) = crd.refused("PATCH", &one, MERGE, json!({"spec": {"color": "green"}})).await?;
        ensure!(code == 422, "a changed value is judged: {code}");
        ensure!(crd.one("v1", "a").await?["metadata"]["generation"] == 2, "generation counts changes");
        let strategic = crd.refused("PATCH", &one, "application/strategic-merge-patch+json", json!({})).await?;
        ensure!(strategic.0 == 415, "strategic merge: {strategic:?}");
        Ok(())
    })
}

/// `fieldValidation` of custom resources: unknown, duplicate, in metadata and embedded objects, without a schema.
pub fn validates_fields(c: &Cluster) -> Result<()> {
    with(c, "crd-fields", async |crd, _| {
        let embedded = json!({"type": "object", "x-kubernetes-embedded-resource": true, "properties": {"spec": {"type": "object"}}});
        crd.define(json!([version("v1", spec(json!({"a": {"type": "string"}, "template": embedded})))])).await?;
        let objects = crd.objects("v1");
        let body = crd.widget(
            "v1",
            "a",
            json!({"metadata": {"rootMeta": 1}, "spec": {"b": 1,
                "template": {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "x", "subMeta": 1}}}}),
        );
        let (code, message) =
            crd.refused("POST", &format!("{objects}?fieldValidation=Strict"), JSON, body.clone()).await?;
        ensure!(code == 400, "{code} {message}");
        for field in ["spec.b", "spec.template.metadata.subMeta", "metadata.rootMeta"] {
            ensure!(message.contains(&format!("unknown field \"{field}\"")), "{field}: {message}");
        }
        let r = crd.send("POST", &objects, JSON, body.clone()).await?;
        let warnings = r.headers.get_all("warning").iter().count();
        ensure!(r.code == 201 && warnings == 3, "{} with {warnings} warnings", r.code);
        let r =
            crd.send("PATCH", &format!("{objects}/a?fieldValidation=Ignore"), MERGE, json!({"spec": {"c": 1}})).await?;
        ensure!(r.code == 200 && r.headers.get("warning").is_none(), "ignored: {}", r.code);
        let twice = format!(
            "{{\"apiVersion\":\"{}/v1\",\"kind\":\"Widget\",\"metadata\":{{\"name\":\"t\"}},\"spec\":{{\"a\":\"1\",\"a\":\"2\"}}}}",
            crd.group
        );
        let headers = [("content-type", JSON)];
        let strict = format!("{objects}?fieldValidation=Strict");
        let r = crd.connection.send("POST", &strict, &headers, twice).await?;
        ensure!(r.code == 400 && r.text().contains("duplicate field \\\"spec.a\\\""), "duplicates: {}", r.text());
        let apply = crd.widget("v1", "s", json!({"spec": {"zzz": 1}}));
        let path = format!("{objects}/s?fieldManager=t&fieldValidation=Strict");
        let (code, message) = crd.refused("PATCH", &path, "application/apply-patch+yaml", apply).await?;
        ensure!(code == 400 && message.contains(".spec.zzz: field not declared in schema"), "apply: {code} {message}");
        // No schema, nothing unknown.
        crd.redefine(json!({"spec": {"versions": [version("v1", open())]}})).await?;
        let r = crd.send("POST", &strict, JSON, crd.widget("v1", "free", json!({"anything": {"goes": [1]}}))).await?;
        ensure!(r.code == 201 && r.json()["anything"]["goes"] == json!([1]), "schema-less: {} {}", r.code, r.text());
        Ok(())
    })
}

/// Reads frames of a watch until one fits; the types and names on the way.
async fn frames(mut body: hyper::body::Incoming, count: usize) -> Result<Vec<Value>> {
    let (mut text, mut out) = (String::new(), Vec::new());
    let until = tokio::time::Instant::now() + PATIENCE;
    while out.len() < count {
        let frame = tokio::time::timeout_at(until, body.frame()).await.context("the watch says nothing")?;
        let frame = frame.context("the watch ended")??;
        text.push_str(&String::from_utf8_lossy(&frame.into_data().unwrap_or_default()));
        while let Some(end) = text.find('\n') {
            out.push(serde_json::from_str(&text[..end])?);
            text.drain(..=end);
        }
    }
    Ok(out)
}

fn told(frames: &[Value]) -> Vec<String> {
    let one = |f: &Value| {
        format!("{} {}", f["type"].as_str().unwrap_or(""), f["object"]["metadata"]["name"].as_str().unwrap_or(""))
    };
    frames.iter().map(one).collect()
}

/// Watches, selectors over `selectableFields` in every version, deletecollection.
pub fn lists_and_watches(c: &Cluster) -> Result<()> {
    with(c, "crd-watch", async |crd, access| {
        let schema = spec(json!({"color": {"type": "string"}, "n": {"type": "integer"}}));
        let mut v1 = version("v1", schema.clone());
        v1["selectableFields"] = json!([{"jsonPath": ".spec.color"}]);
        let mut v2 = version("v2", schema);
        v2["selectableFields"] = json!([{"jsonPath": ".spec.color"}, {"jsonPath": ".spec.n"}]);
        crd.define(json!([v1, v2])).await?;
        let (all, v2) = (crd.objects("v1"), crd.objects("v2"));
        let mut other = access.http1(&Who::Admin).await?;
        let watch = other.open("GET", &format!("{all}?watch=1&resourceVersion=0"), &[], "").await?.into_body();
        let mut third = access.http1(&Who::Admin).await?;
        let path = format!("{v2}?watch=1&fieldSelector=spec.color%3Dred");
        let reds = third.open("GET", &path, &[], "").await?.into_body();
        crd.make("v1", "a", json!({"spec": {"color": "red", "n": 1}})).await?;
        crd.make("v2", "b", json!({"spec": {"color": "blue", "n": 2}})).await?;
        crd.must("PATCH", &format!("{all}/a"), MERGE, json!({"spec": {"color": "blue"}})).await?;
        crd.must("PATCH", &format!("{v2}/b"), MERGE, json!({"spec": {"color": "red"}})).await?;
        crd.must("DELETE", &format!("{all}/b"), JSON, Value::Null).await?;
        let got = told(&frames(watch, 5).await?);
        ensure!(got == ["ADDED a", "ADDED b", "MODIFIED a", "MODIFIED b", "DELETED b"], "{got:?}");
        let red = frames(reds, 4).await?;
        ensure!(told(&red) == ["ADDED a", "DELETED a", "ADDED b", "DELETED b"], "{:?}", told(&red));
        ensure!(red[0]["object"]["apiVersion"] == format!("{}/v2", crd.group), "in the version that was asked for");
        for (path, want) in [
            (format!("{all}?fieldSelector=spec.color%3Dblue"), vec!["a"]),
            (format!("{v2}?fieldSelector=spec.color%3Dblue,spec.n%3D1"), vec!["a"]),
            (format!("{v2}?fieldSelector=spec.color!%3Dblue"), vec![]),
        ] {
            let got = names(&crd.get(&path).await?);
            ensure!(got == want, "{path}: {got:?}");
        }
        let (code, message) = crd.refused("GET", &format!("{all}?fieldSelector=spec.n%3D1"), JSON, Value::Null).await?;
        ensure!(code == 400 && message.contains("field label not supported: spec.n"), "{code} {message}");
        for (name, half) in [("x", "0"), ("y", "1"), ("z", "1")] {
            crd.make("v1", name, json!({"metadata": {"labels": {"half": half}}})).await?;
        }
        crd.must("DELETE", &format!("{all}?labelSelector=half%3D1"), JSON, Value::Null).await?;
        ensure!(names(&crd.get(&all).await?) == ["a", "x"], "deletecollection by label");
        crd.must("DELETE", &format!("{v2}?fieldSelector=spec.color%3Dblue"), JSON, Value::Null).await?;
        ensure!(names(&crd.get(&all).await?) == ["x"], "deletecollection by field");
        Ok(())
    })
}

/// The definition's own status, lists and deletecollection of definitions.
pub fn definitions_are_objects(c: &Cluster) -> Result<()> {
    with(c, "crd-crds", async |crd, _| {
        crd.define(json!([version("v1", open())])).await?;
        let status = format!("{CRDS}/{}/status", crd.name());
        let mut now = crd.get(&status).await?;
        now["status"]["conditions"]
            .as_array_mut()
            .context("no conditions")?
            .push(json!({"type": "Mine", "status": "True", "reason": "E2E", "message": "set by an update"}));
        now["spec"]["names"]["shortNames"] = json!(["no"]);
        let updated = crd.must("PUT", &status, JSON, now).await?;
        ensure!(condition(&updated, "Mine")["message"] == "set by an update", "{}", updated["status"]);
        ensure!(updated["spec"]["names"]["shortNames"] == json!(["wd"]), "a status write changes status alone");
        let conditions = updated["status"]["conditions"].as_array().cloned().unwrap_or_default();
        let mut patched = conditions;
        patched.push(json!({"type": "Patched", "status": "True", "reason": "E2E", "message": "by a patch"}));
        crd.must("PATCH", &status, MERGE, json!({"status": {"conditions": patched}})).await?;
        let read = crd.get(&status).await?;
        ensure!(condition(&read, "Patched")["status"] == "True", "{}", read["status"]);
        ensure!(condition(&read, "Established")["status"] == "True", "{}", read["status"]);
        // Ten by a label, and one without it.
        let group = crd.group.clone();
        for i in 0..10 {
            let plural = format!("things{i}");
            let body = json!({"apiVersion": "apiextensions.k8s.io/v1", "kind": "CustomResourceDefinition",
                "metadata": {"name": format!("{plural}.{group}"), "labels": {"e2e": group}},
                "spec": {"group": group, "scope": "Cluster", "names": {"plural": plural, "kind": format!("Thing{i}")},
                    "versions": [version("v1", open())]}});
            crd.must("POST", CRDS, JSON, body).await?;
        }
        let by_label = format!("{CRDS}?labelSelector=e2e%3D{group}");
        ensure!(names(&crd.get(&by_label).await?).len() == 10, "by label");
        crd.must("DELETE", &by_label, JSON, Value::Null).await?;
        let until = Instant::now() + PATIENCE;
        while !names(&crd.get(&by_label).await?).is_empty() {
            ensure!(Instant::now() < until, "definitions don't go");
            tokio::time::sleep(Duration::from_millis(30)).await;
        }
        crd.definition().await?;
        Ok(())
    })
}

/// status, scale and printed columns.
pub fn has_subresources(c: &Cluster) -> Result<()> {
    with(c, "crd-sub", async |crd, _| {
        let mut v1 = version(
            "v1",
            json!({"type": "object", "properties": {
                "spec": {"type": "object", "properties": {"replicas": {"type": "integer"}, "on": {"type": "boolean"}}},
                "status": {"type": "object", "properties": {"replicas": {"type": "integer"}, "selector": {"type": "string"},
                    "since": {"type": "string"}}}}}),
        );
        v1["subresources"] = json!({"status": {}, "scale": {"specReplicasPath": ".spec.replicas",
            "statusReplicasPath": ".status.replicas", "labelSelectorPath": ".status.selector"}});
        v1["additionalPrinterColumns"] = json!([
            {"name": "Replicas", "type": "integer", "jsonPath": ".spec.replicas"},
            {"name": "On", "type": "boolean", "jsonPath": ".spec.on"},
            {"name": "Missing", "type": "string", "jsonPath": ".spec.no.where"},
            {"name": "Wide", "type": "string", "jsonPath": ".status.selector", "priority": 1},
            {"name": "Since", "type": "date", "jsonPath": ".status.since"}]);
        crd.define(json!([v1])).await?;
        let one = format!("{}/a", crd.objects("v1"));
        let made = crd.make("v1", "a", json!({"spec": {"replicas": 2, "on": true}, "status": {"replicas": 9}})).await?;
        ensure!(made.get("status").is_none(), "status of a create is dropped: {made}");
        let status = json!({"status": {"replicas": 2, "selector": "app=x", "since": "2020-01-01T00:00:00Z"},
            "spec": {"replicas": 7}, "metadata": {"labels": {"no": "no"}}});
        let now = crd.must("PATCH", &format!("{one}/status"), MERGE, status).await?;
        ensure!(now["spec"]["replicas"] == 2 && now["metadata"].get("labels").is_none(), "status alone: {now}");
        ensure!(now["metadata"]["generation"] == 1, "status makes no generation");
        let now = crd.must("PATCH", &one, MERGE, json!({"status": {"replicas": 5}})).await?;
        ensure!(now["status"]["replicas"] == 2, "the main resource keeps status");
        let scale = crd.get(&format!("{one}/scale")).await?;
        ensure!(
            scale["kind"] == "Scale"
                && scale["spec"]["replicas"] == 2
                && scale["status"] == json!({"replicas": 2, "selector": "app=x"}),
            "{scale}"
        );
        crd.must("PATCH", &format!("{one}/scale"), MERGE, json!({"spec": {"replicas": 4}})).await?;
        let now = crd.one("v1", "a").await?;
        ensure!(now["spec"]["replicas"] == 4 && now["metadata"]["generation"] == 2, "scaled: {now}");
        let refused = crd.refused("PATCH", &format!("{one}/scale"), MERGE, json!({"spec": {"replicas": -1}})).await?;
        ensure!(refused.0 == 422, "{refused:?}");
        let accept = "application/json;as=Table;v=v1;g=meta.k8s.io";
        let table = crd.connection.send("GET", &one, &[("accept", accept)], "").await?.json();
        let heads: Vec<&str> =
            table["columnDefinitions"].as_array().into_iter().flatten().filter_map(|c| c["name"].as_str()).collect();
        ensure!(heads == ["Name", "Replicas", "On", "Missing", "Wide", "Since"], "{heads:?}");
        let cells = &table["rows"][0]["cells"];
        ensure!(
            cells[0] == "a" && cells[1] == 4 && cells[2] == true && cells[3].is_null() && cells[4] == "app=x",
            "{cells}"
        );
        ensure!(cells[5].as_str().is_some_and(|a| a.ends_with('y') || a.ends_with('d')), "an age: {cells}");
        let stale = crd.widget("v1", "a", json!({"spec": {"replicas": 1}}));
        let (code, message) = crd.refused("PUT", &one, JSON, stale).await?;
        ensure!(code == 422 && message.contains("must be specified for an update"), "{code} {message}");
        Ok(())
    })
}

/// Versions without a webhook: renamed, unserved, another storage version; objects stay readable.
pub fn versions_come_and_go(c: &Cluster) -> Result<()> {
    with(c, "crd-versions", async |crd, _| {
        let schema = spec(json!({"a": {"type": "string"}}));
        crd.define(json!([version("v1", schema.clone())])).await?;
        crd.make("v1", "old", json!({"spec": {"a": "1"}})).await?;
        let (mut v1, mut v2) = (version("v1", schema.clone()), version("v2", schema));
        (v1["storage"], v2["storage"]) = (false.into(), true.into());
        let now = crd.redefine(json!({"spec": {"versions": [v1.clone(), v2.clone()]}})).await?;
        ensure!(now["status"]["storedVersions"] == json!(["v1", "v2"]), "{}", now["status"]);
        crd.make("v1", "new", json!({"spec": {"a": "2"}})).await?;
        for v in ["v1", "v2"] {
            let path = crd.objects(v);
            let list = crd.get(&path).await?;
            let want = format!("{}/{v}", crd.group);
            ensure!(names(&list) == ["new", "old"] && list["apiVersion"] == want.as_str(), "{list}");
            ensure!(list["items"].as_array().into_iter().flatten().all(|i| i["apiVersion"] == want.as_str()), "{list}");
        }
        crd.must("PATCH", &format!("{}/old", crd.objects("v2")), MERGE, json!({"spec": {"a": "3"}})).await?;
        ensure!(crd.one("v1", "old").await?["spec"]["a"] == "3", "written as v2, read as v1");
        // A version that isn't served is gone from its path, from discovery and from OpenAPI.
        v1["served"] = false.into();
        crd.redefine(json!({"spec": {"versions": [v1, v2.clone()]}})).await?;
        let path = crd.objects("v1");
        ensure!(crd.refused("GET", &path, JSON, Value::Null).await?.0 == 404, "v1 isn't served");
        let group = crd.get(&format!("/apis/{}", crd.group)).await?;
        ensure!(group["versions"].as_array().map(Vec::len) == Some(1), "{group}");
        let v3 = crd.get("/openapi/v3").await?;
        ensure!(v3["paths"].get(format!("apis/{}/v1", crd.group)).is_none(), "v1 is still in OpenAPI");
        // Still stored in v1, says status; so it can't be dropped.
        let path = format!("{CRDS}/{}", crd.name());
        let (code, message) = crd.refused("PATCH", &path, MERGE, json!({"spec": {"versions": [v2]}})).await?;
        ensure!(code == 422 && message.contains("status.storedVersions[0]"), "{code} {message}");
        ensure!(crd.one("v2", "old").await?["spec"]["a"] == "3", "v2 goes on");
        Ok(())
    })
}

/// Names that another definition has are refused until that one goes.
pub fn names_conflict(c: &Cluster) -> Result<()> {
    with(c, "crd-names", async |crd, _| {
        crd.define(json!([version("v1", open())])).await?;
        let name = format!("others.{}", crd.group);
        let other = json!({"apiVersion": "apiextensions.k8s.io/v1", "kind": "CustomResourceDefinition",
            "metadata": {"name": name},
            "spec": {"group": crd.group, "scope": "Cluster",
                "names": {"plural": "others", "kind": "Other", "shortNames": ["wd"]}, "versions": [version("v1", open())]}});
        crd.must("POST", CRDS, JSON, other).await?;
        let path = format!("{CRDS}/{name}");
        let now = crd.get(&path).await?;
        ensure!(
            condition(&now, "NamesAccepted")["reason"] == "ShortNamesConflict"
                && condition(&now, "NamesAccepted")["message"] == "\"wd\" is already in use"
                && condition(&now, "Established")["reason"] == "NotAccepted",
            "{}",
            now["status"]
        );
        let others = format!("/apis/{}/v1/others", crd.group);
        ensure!(crd.refused("GET", &others, JSON, Value::Null).await?.0 == 404, "it isn't served");
        crd.end().await?;
        let until = Instant::now() + PATIENCE;
        while condition(&crd.get(&path).await?, "Established")["status"] != "True" {
            ensure!(Instant::now() < until, "the name is never free");
            tokio::time::sleep(Duration::from_millis(30)).await;
        }
        crd.get(&others).await?;
        crd.must("DELETE", &path, JSON, Value::Null).await?;
        Ok(())
    })
}

/// A definition goes after its instances, and waits for their finalizers.
pub fn takes_its_objects_along(c: &Cluster) -> Result<()> {
    with(c, "crd-end", async |crd, _| {
        crd.define(json!([version("v1", open())])).await?;
        crd.make("v1", "plain", json!({})).await?;
        crd.make("v1", "held", json!({"metadata": {"finalizers": ["hold.example.com"]}})).await?;
        let path = format!("{CRDS}/{}", crd.name());
        crd.must("DELETE", &path, JSON, Value::Null).await?;
        let objects = crd.objects("v1");
        let until = Instant::now() + PATIENCE;
        while names(&crd.get(&objects).await?) != ["held"] {
            ensure!(Instant::now() < until, "instances don't go");
            tokio::time::sleep(Duration::from_millis(30)).await;
        }
        let now = crd.definition().await?;
        ensure!(condition(&now, "Terminating")["reason"] == "InstanceDeletionInProgress", "{}", now["status"]);
        ensure!(
            now["metadata"]["finalizers"] == json!(["customresourcecleanup.apiextensions.k8s.io"]),
            "{}",
            now["metadata"]
        );
        let late = crd.widget("v1", "late", json!({}));
        let (code, message) = crd.refused("POST", &objects, JSON, late).await?;
        let why = "create not allowed while custom resource definition is terminating";
        let late = format!("{} \"late\" is forbidden: {why}", crd.name());
        ensure!(code == 403 && message == late, "{code} {message}");
        crd.must("PATCH", &format!("{objects}/held"), MERGE, json!({"metadata": {"finalizers": null}})).await?;
        crd.end().await
    })
}

/// Owners, namespaces, quotas and roles know custom resources.
pub fn lives_with_others(c: &Cluster) -> Result<()> {
    with(c, "crd-others", async |crd, access| {
        crd.define(json!([version("v1", open())])).await?;
        let owner = crd.make("v1", "owner", json!({})).await?;
        let reference = json!([{"apiVersion": format!("{}/v1", crd.group), "kind": "Widget", "name": "owner",
            "uid": owner["metadata"]["uid"]}]);
        let maps = format!("/api/v1/namespaces/{}/configmaps", crd.namespace);
        let map = json!({"metadata": {"name": "owned", "ownerReferences": reference}});
        crd.must("POST", &maps, JSON, map).await?;
        crd.make("v1", "child", json!({"metadata": {"ownerReferences": reference}})).await?;
        let objects = crd.objects("v1");
        // The collector hears of a new resource a moment later.
        crd.must("DELETE", &format!("{objects}/owner"), JSON, Value::Null).await?;
        let until = Instant::now() + PATIENCE;
        loop {
            let left = names(&crd.get(&objects).await?);
            let map = crd.send("GET", &format!("{maps}/owned"), JSON, Value::Null).await?.code;
            if left.is_empty() && map == 404 {
                break;
            }
            ensure!(Instant::now() < until, "what was owned stays: {left:?}, ConfigMap {map}");
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        let count = format!("count/widgets.{}", crd.group);
        let quota = json!({"metadata": {"name": "q"}, "spec": {"hard": {count.clone(): "1"}}});
        let quotas = format!("/api/v1/namespaces/{}/resourcequotas", crd.namespace);
        crd.must("POST", &quotas, JSON, quota).await?;
        while crd.get(&format!("{quotas}/q")).await?["status"]["used"][&count].is_null() {
            ensure!(Instant::now() < until, "the quota isn't counted");
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        crd.make("v1", "first", json!({})).await?;
        let (code, message) = crd.refused("POST", &objects, JSON, crd.widget("v1", "second", json!({}))).await?;
        ensure!(code == 403 && message.contains("exceeded quota: q"), "{code} {message}");
        // Roles name custom groups like any other.
        let account = format!("system:serviceaccount:{}:default", crd.namespace);
        let path = objects.clone();
        let mut as_account = access.http1(&Who::Admin).await?;
        let headers = [("impersonate-user", account.as_str()), ("accept", JSON)];
        ensure!(as_account.send("GET", &path, &headers, "").await?.code == 403, "nobody may before they are allowed");
        let roles = format!("/apis/rbac.authorization.k8s.io/v1/namespaces/{}", crd.namespace);
        let role = json!({"metadata": {"name": "r"}, "rules": [{"apiGroups": [crd.group], "resources": ["widgets"], "verbs": ["list"]}]});
        crd.must("POST", &format!("{roles}/roles"), JSON, role).await?;
        let binding = json!({"metadata": {"name": "r"}, "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "Role", "name": "r"},
            "subjects": [{"kind": "ServiceAccount", "name": "default", "namespace": crd.namespace}]});
        crd.must("POST", &format!("{roles}/rolebindings"), JSON, binding).await?;
        ensure!(as_account.send("GET", &path, &headers, "").await?.code == 200, "allowed by a role");
        // A namespace takes its custom objects along.
        let doomed = format!("{}-doomed", crd.namespace);
        crd.must("POST", "/api/v1/namespaces", JSON, json!({"metadata": {"name": doomed}})).await?;
        let theirs = format!("/apis/{}/v1/namespaces/{doomed}/widgets", crd.group);
        let body = crd.widget("v1", "w", json!({}));
        crd.must("POST", &theirs, JSON, body).await?;
        let path = format!("/api/v1/namespaces/{doomed}");
        crd.must("DELETE", &path, JSON, Value::Null).await?;
        while crd.send("GET", &path, JSON, Value::Null).await?.code != 404 {
            ensure!(Instant::now() < until, "the namespace doesn't go");
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        ensure!(names(&crd.get(&theirs).await?).is_empty(), "objects outlive their namespace");
        Ok(())
    })
}

const MANIFEST: &str = "
apiVersion: apiextensions.k8s.io/v1
kind: CustomResourceDefinition
metadata: {name: gears.GROUP}
spec:
  group: GROUP
  scope: Namespaced
  names: {plural: gears, singular: gear, kind: Gear, shortNames: [gr], categories: [all]}
  versions:
  - name: v1
    served: true
    storage: true
    additionalPrinterColumns: [{name: Teeth, type: integer, jsonPath: .spec.teeth}]
    schema:
      openAPIV3Schema:
        type: object
        description: A wheel with teeth.
        required: [spec]
        properties:
          spec:
            type: object
            description: How it is cut.
            required: [teeth]
            properties:
              teeth: {type: integer, description: Their number.}
              metal: {type: string}
---
apiVersion: GROUP/v1
kind: Gear
metadata: {name: small}
spec: {teeth: 12}
";

/// kubectl: a definition and its object in one manifest, tables, explain, validation, api-resources.
pub fn kubectl_knows_them(c: &Cluster) -> Result<()> {
    let ns = Namespace::new(c, "crd-kubectl")?;
    let group = format!("{}.example.com", ns.name());
    // One after the other, without a wait: the definition is served when kubectl has its answer.
    for (i, part) in MANIFEST.replace("GROUP", &group).split("---").enumerate() {
        let file = ns.file(&format!("gears{i}.yaml"), part)?;
        ns.must(&format!("apply -f {file}"))?;
        ns.must(&format!("apply --server-side --force-conflicts -f {file}"))?;
    }
    let table = ns.must("get gears")?;
    ensure!(table.contains("TEETH") && table.contains("12"), "{table}");
    for name in ["gr", "gear", &format!("gears.v1.{group}"), &format!("gears.{group}")] {
        ensure!(ns.must(&format!("get {name} small -o name"))?.contains("small"), "get {name}");
    }
    ensure!(ns.must("get all")?.contains("gear."), "a category");
    ensure!(ns.must(&format!("api-resources --api-group={group}"))?.contains("gr"), "api-resources");
    let text = ns.must("explain gear.spec")?;
    ensure!(text.contains("How it is cut.") && text.contains("Their number.") && text.contains("-required-"), "{text}");
    ensure!(ns.must("explain gear --recursive")?.contains("A wheel with teeth."), "explain --recursive");
    let bad = ns.file(
        "bad.yaml",
        &format!("apiVersion: {group}/v1\nkind: Gear\nmetadata: {{name: bad}}\nspec: {{metal: iron, colour: red}}\n"),
    )?;
    let refused = ns.kubectl(&["create", "-f", &bad])?;
    ensure!(!refused.ok && refused.stderr.contains("unknown field \"spec.colour\""), "{}", refused.stderr);
    let refused = ns.kubectl(&["create", "--validate=ignore", "-f", &bad])?;
    ensure!(!refused.ok && refused.stderr.contains("spec.teeth: Required value"), "{}", refused.stderr);
    ns.must("patch gear small --type=merge -p '{\"spec\":{\"teeth\":13}}'")?;
    ensure!(ns.must("get gear small -o jsonpath={.spec.teeth}")? == "13", "patched");
    ns.must("label gear small a=b")?;
    ns.must("annotate gear small a=b")?;
    ns.must("delete gear --all")?;
    ns.must(&format!("delete crd gears.{group} --timeout=20s"))?;
    ns.delete()
}

/// After a restart custom resources are there before the server says that it is ready.
pub fn outlives_a_restart(c: &Cluster) -> Result<()> {
    for part in MANIFEST.replace("GROUP", "restart.example.com").split("---") {
        c.apply(part)?;
    }
    c.stop_server(libc::SIGKILL)?;
    c.serve(&[])?;
    c.wait_api()?;
    let teeth = c.kubectl(&["get", "gears.v1.restart.example.com", "small", "-o", "jsonpath={.spec.teeth}"])?;
    ensure!(teeth == "12", "{teeth}");
    c.kubectl(&["delete", "crd", "gears.restart.example.com", "--timeout=20s"])?;
    Ok(())
}
