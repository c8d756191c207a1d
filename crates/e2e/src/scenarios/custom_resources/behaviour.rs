//! What upstream's integration tests of custom resources hold to, where no other scenario does.

use super::{CRDS, Crd, JSON, MERGE, condition, names, open, spec, version, with};
use crate::cluster::Cluster;
use crate::wire::{PATIENCE, Who};
use anyhow::{Result, ensure};
use serde_json::{Value, json};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

/// A version whose objects have `status` and `scale`.
fn scaled(schema: Value) -> Value {
    let mut v = version("v1", schema);
    v["subresources"] = json!({"status": {}, "scale": {"specReplicasPath": ".spec.replicas",
        "statusReplicasPath": ".status.replicas", "labelSelectorPath": ".status.selector"}});
    v
}

/// Who changed a definition's status is told, as of any object.
pub fn definitions_say_who_wrote_them(c: &Cluster) -> Result<()> {
    with(c, "crd-managed", async |crd, _| {
        crd.define(json!([version("v1", open())])).await?;
        let now = crd.definition().await?;
        let all = now["metadata"]["managedFields"].as_array().cloned().unwrap_or_default();
        let own = all.iter().find(|m| m["subresource"] == "status");
        let Some(own) = own else { anyhow::bail!("nobody wrote the status: {}", now["metadata"]) };
        ensure!(own["manager"] == "kube-apiserver" && own["operation"] == "Update", "{own}");
        let fields = &own["fieldsV1"]["f:status"];
        ensure!(fields["f:acceptedNames"].is_object() && fields["f:conditions"].is_object(), "{own}");
        ensure!(all.iter().any(|m| m["fieldsV1"]["f:spec"].is_object()), "{all:?}");
        Ok(())
    })
}

/// A webhook that nobody could trust keeps a new definition from being served, until it can be.
pub fn broken_ca_bundles(c: &Cluster) -> Result<()> {
    let ca = std::fs::read(c.data_dir().join("pki/ca.crt"))?;
    with(c, "crd-bundle", async |crd, _| {
        use base64::Engine;
        let good = base64::engine::general_purpose::STANDARD.encode(&ca);
        let conversion = |bundle: &str| {
            json!({"strategy": "Webhook", "webhook": {"conversionReviewVersions": ["v1"],
                "clientConfig": {"url": "https://127.0.0.1:1/convert", "caBundle": bundle}}})
        };
        let mut body = crd.body(json!([version("v1", open())]));
        body["spec"]["conversion"] = conversion("Cg==");
        crd.must("POST", CRDS, JSON, body).await?;
        let now = crd.definition().await?;
        let told = condition(&now, "Established");
        ensure!(told["status"] == "False" && told["reason"] == "InvalidCABundle", "{told}");
        let objects = crd.objects("v1");
        ensure!(crd.send("GET", &objects, JSON, Value::Null).await?.code == 404, "served all the same");
        crd.redefine(json!({"spec": {"conversion": conversion(&good)}})).await?;
        ensure!(crd.get(&objects).await?["kind"] == "WidgetList", "not served after the bundle was mended");
        let path = format!("{CRDS}/{}", crd.name());
        let (code, why) =
            crd.refused("PATCH", &path, MERGE, json!({"spec": {"conversion": conversion("Cg==")}})).await?;
        ensure!(code == 422 && why.contains("unable to load root certificates"), "{code} {why}");
        Ok(())
    })
}

/// Metadata of a wrong type, YAML, patches of forms that custom resources don't take.
pub fn requests(c: &Cluster) -> Result<()> {
    with(c, "crd-requests", async |crd, _| {
        let properties = json!({"replicas": {"type": "integer"}, "num": {"type": "integer", "maximum": 10}});
        let mut schema = spec(properties);
        schema["properties"]["status"] = json!({"type": "object", "properties": {"replicas": {"type": "integer"},
            "selector": {"type": "string"}, "num": {"type": "integer", "maximum": 10, "default": 4}}});
        crd.define(json!([scaled(schema)])).await?;
        let objects = crd.objects("v1");
        let bad = crd.widget("v1", "bad", json!({"metadata": {"labels": {"foo": 42}, "generation": null}}));
        let (code, why) = crd.refused("POST", &objects, JSON, bad).await?;
        ensure!(code == 400 && why.contains("cannot be handled as a Widget"), "{code} {why}");

        // YAML both ways, subresources included; streams have none.
        let yaml = "application/yaml";
        let text = format!(
            "apiVersion: {}/v1\nkind: Widget\nmetadata: {{name: yam}}\nspec: {{replicas: 3}}\nstatus: {{replicas: 9}}\n",
            crd.group
        );
        let head = [("content-type", yaml), ("accept", yaml)];
        let r = crd.connection.send("POST", &objects, &head, text.clone()).await?;
        ensure!(
            r.code == 201 && r.text().contains("replicas: 3") && !r.text().contains("status"),
            "{} {}",
            r.code,
            r.text()
        );
        let put = text.replace("replicas: 3", "replicas: 5").replace("replicas: 9", "replicas: 3");
        let r = crd.connection.send("PUT", &format!("{objects}/yam/status"), &head, put).await?;
        ensure!(r.code == 422 || r.code == 409, "an update without resourceVersion: {} {}", r.code, r.text());
        let r = crd
            .send(
                "PATCH",
                &format!("{objects}/yam/status"),
                MERGE,
                json!({"spec": {"replicas": 5}, "status": {"replicas": 3}}),
            )
            .await?;
        ensure!(
            r.code == 200
                && r.json()["spec"]["replicas"] == 3
                && r.json()["status"] == json!({"replicas": 3, "num": 4}),
            "{}",
            r.text()
        );
        for (path, want) in [
            ("", "kind: Widget"),
            ("/yam", "kind: Widget"),
            ("/yam/status", "kind: Widget"),
            ("/yam/scale", "kind: Scale"),
        ] {
            let r = crd.connection.send("GET", &format!("{objects}{path}"), &[("accept", yaml)], "").await?;
            ensure!(r.code == 200 && r.text().contains(want), "{path}: {} {}", r.code, r.text());
        }
        let r = crd.connection.send("GET", &format!("{objects}/nope"), &[("accept", yaml)], "").await?;
        ensure!(r.code == 404 && r.text().contains("reason: NotFound"), "{} {}", r.code, r.text());
        let r = crd.connection.send("GET", &format!("{objects}?watch=true"), &[("accept", yaml)], "").await?;
        ensure!(r.code == 406 && r.text().contains("NotAcceptable"), "{} {}", r.code, r.text());
        let r = crd.connection.send("PATCH", &format!("{objects}/yam"), &head, "spec: {replicas: 4}").await?;
        ensure!(r.code == 415 && r.text().contains("reason: UnsupportedMediaType"), "{} {}", r.code, r.text());

        // Status is judged by itself, scale changes its replicas alone, and generation follows the spec.
        let r = crd
            .send("PATCH", &format!("{objects}/yam/status"), MERGE, json!({"spec": {"num": 99}, "status": {"num": 10}}))
            .await?;
        ensure!(r.code == 200, "a wrong spec doesn't matter to status: {}", r.text());
        let (code, why) =
            crd.refused("PATCH", &format!("{objects}/yam/status"), MERGE, json!({"status": {"num": 11}})).await?;
        ensure!(code == 422 && why.contains("status.num: Invalid value"), "{code} {why}");
        let generation = crd.one("v1", "yam").await?["metadata"]["generation"].clone();
        let scale = crd
            .must(
                "PATCH",
                &format!("{objects}/yam/scale?fieldManager=scaler"),
                MERGE,
                json!({"spec": {"replicas": 7}, "status": {"selector": "x"}}),
            )
            .await?;
        ensure!(scale["spec"]["replicas"] == 7 && scale["status"].get("selector").is_none(), "{scale}");
        let now = crd.one("v1", "yam").await?;
        ensure!(generation == 1 && now["metadata"]["generation"] == 2, "{generation} {}", now["metadata"]);
        let by = now["metadata"]["managedFields"]
            .as_array()
            .into_iter()
            .flatten()
            .find(|m| m["manager"] == "scaler")
            .cloned();
        let by = by.unwrap_or_default();
        ensure!(by["subresource"] == "scale" && by["fieldsV1"] == json!({"f:spec": {"f:replicas": {}}}), "{by}");
        let (code, _) =
            crd.refused("PATCH", &format!("{objects}/yam"), MERGE, json!({"spec": {"replicas": i64::MAX}})).await?;
        ensure!(code == 422, "more replicas than a Scale can say: {code}");
        Ok(())
    })
}

/// Lists with keys: duplicates are refused, unless the schema was what made them duplicates.
pub fn lists_with_keys(c: &Cluster) -> Result<()> {
    with(c, "crd-lists", async |crd, _| {
        let schema = |keys: Value| {
            json!({"type": "object", "properties": {
                "map": {"type": "array", "x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": keys,
                    "items": {"type": "object", "required": keys,
                        "properties": {"a": {"type": "integer"}, "b": {"type": "integer"}, "c": {"type": "string"}}}},
                "set": {"type": "array", "x-kubernetes-list-type": "set",
                    "items": {"type": "object", "x-kubernetes-map-type": "atomic", "additionalProperties": {"type": "integer"}}}}})
        };
        crd.define(json!([version("v1", schema(json!(["a", "b"])))])).await?;
        let objects = crd.objects("v1");
        let (map, set) = (json!([{"a": 1, "b": 1, "c": "1"}, {"a": 1, "b": 2}]), json!([{"a": 1}, {"a": 1, "b": 2}]));
        let twice = |list: &Value| {
            let mut all = list.as_array().cloned().unwrap_or_default();
            all.extend(all.first().cloned());
            Value::from(all)
        };
        for (field, list) in [("map", &map), ("set", &set)] {
            let bad = crd.widget("v1", "bad", json!({field: twice(list)}));
            let (code, why) = crd.refused("POST", &objects, JSON, bad).await?;
            ensure!(code == 422 && why.contains(&format!("{field}[2]: Duplicate value")), "{code} {why}");
        }
        crd.make("v1", "a", json!({"map": map, "set": set})).await?;
        let one = format!("{objects}/a");
        let (code, why) = crd.refused("PATCH", &one, MERGE, json!({"map": twice(&map)})).await?;
        ensure!(code == 422 && why.contains("map[2]: Duplicate value"), "{code} {why}");
        // With `a` alone for a key what is stored has duplicates: it may stay, and no more may come.
        crd.redefine(json!({"spec": {"versions": [version("v1", schema(json!(["a"])))]}})).await?;
        crd.must("PATCH", &one, MERGE, json!({"metadata": {"labels": {"touched": "yes"}}, "set": [{"a": 9}]})).await?;
        ensure!(crd.one("v1", "a").await?["map"] == map, "what was stored stays");
        Ok(())
    })
}

/// Fields that may be selected: of every type, in lists, watches and deletions; others are refused.
pub fn selectable_fields(c: &Cluster) -> Result<()> {
    with(c, "crd-select", async |crd, _| {
        let properties = json!({"color": {"type": "string"}, "count": {"type": "integer"},
            "size": {"type": "string", "enum": ["S", "M"]}, "branded": {"type": "boolean"}});
        let mut v1 = version("v1", spec(properties));
        let fields = ["color", "count", "size", "branded"];
        v1["selectableFields"] = fields.iter().map(|f| json!({"jsonPath": format!(".spec.{f}")})).collect();
        crd.define(json!([v1])).await?;
        let objects = crd.objects("v1");
        let make = async |crd: &mut Crd| -> Result<()> {
            crd.make("v1", "one", json!({"spec": {"color": "blue", "count": 2, "size": "S", "branded": true}})).await?;
            crd.make("v1", "three", json!({"spec": {"color": "green", "count": 2, "branded": false}})).await?;
            crd.make("v1", "two", json!({"spec": {"color": "blue", "count": 3, "size": "M", "branded": false}}))
                .await?;
            Ok(())
        };
        make(crd).await?;
        for (selector, want) in [
            ("spec.color%3Dblue", vec!["one", "two"]),
            ("spec.count%3D2", vec!["one", "three"]),
            ("spec.size%3DM", vec!["two"]),
            ("spec.branded%3Dfalse", vec!["three", "two"]),
            ("spec.color%3Dblue,spec.branded%3Dfalse", vec!["two"]),
            ("spec.size%21%3DS,metadata.name%3Dthree", vec!["three"]),
        ] {
            let list = crd.get(&format!("{objects}?fieldSelector={selector}")).await?;
            ensure!(names(&list) == want, "{selector}: {:?}", names(&list));
            crd.must("DELETE", &format!("{objects}?fieldSelector={selector}"), JSON, Value::Null).await?;
            let left = names(&crd.get(&objects).await?);
            ensure!(
                left.len() == 3 - want.len() && !left.iter().any(|n| want.contains(&n.as_str())),
                "{selector}: {left:?}"
            );
            crd.must("DELETE", &objects, JSON, Value::Null).await?;
            make(crd).await?;
        }
        for method in ["GET", "DELETE"] {
            let (code, why) =
                crd.refused(method, &format!("{objects}?fieldSelector=spec.nosuch%3Dx"), JSON, Value::Null).await?;
            ensure!(code == 400 && why == "field label not supported: spec.nosuch", "{code} {why}");
        }
        // Clients can find out which.
        let want: Value = fields.iter().map(|f| json!({"fieldPath": format!("spec.{f}")})).collect();
        let parts: Vec<&str> = crd.group.rsplit('.').collect();
        let name = format!("{}.v1.Widget", parts.join("."));
        let v2 = crd.get("/openapi/v2").await?;
        ensure!(v2["definitions"][&name]["x-kubernetes-selectable-fields"] == want, "v2");
        let v3 = crd.get(&format!("/openapi/v3/apis/{}/v1", crd.group)).await?;
        ensure!(v3["components"]["schemas"][&name]["x-kubernetes-selectable-fields"] == want, "v3");
        Ok(())
    })
}

/// Readers and watchers of one version while the definition changes a hundred times: no request fails, and watches
/// tell of changes of objects or end.
pub fn readers_outlive_changes(c: &Cluster) -> Result<()> {
    with(c, "crd-change", async |crd, access| {
        crd.define(json!([version("v1", open())])).await?;
        let done = AtomicBool::new(false);
        let objects = crd.objects("v1");
        for i in 0..4 {
            crd.make("v1", &format!("w{i}"), json!({})).await?;
        }
        let read = async |i: usize| -> Result<usize> {
            let mut h = access.http1(&Who::Admin).await?;
            let mut count = 0;
            while !done.load(Ordering::Relaxed) {
                let r = h.get(&format!("{objects}/w{i}")).await?;
                ensure!(r.code == 200, "{} {}", r.code, r.text());
                count += 1;
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
            Ok(count)
        };
        let watch = async || -> Result<usize> {
            let mut h = access.http1(&Who::Admin).await?;
            let mut count = 0;
            while !done.load(Ordering::Relaxed) {
                let r = h.get(&format!("{objects}?watch=true&timeoutSeconds=1")).await?;
                ensure!(r.code == 200, "{} {}", r.code, r.text());
                for line in r.text().lines() {
                    let event: Value = serde_json::from_str(line)?;
                    ensure!(matches!(event["type"].as_str(), Some("ADDED" | "MODIFIED" | "DELETED")), "{event}");
                    count += 1;
                }
            }
            Ok(count)
        };
        let change = async {
            let mut result = Ok(());
            for i in 0..100 {
                let mut versions = vec![version("v1", open())];
                if i % 2 == 0 {
                    versions.push(version("v2", open()));
                }
                if let Err(e) = crd.redefine(json!({"spec": {"versions": versions}})).await {
                    result = Err(e);
                    break;
                }
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
            done.store(true, Ordering::Relaxed);
            result
        };
        let (changed, a, b, c, d) = tokio::join!(change, read(0), read(1), watch(), watch());
        changed?;
        ensure!(a? > 20 && b? > 20 && c? >= 4 && d? >= 4, "readers read little");
        Ok(())
    })
}

/// A definition comes back with another scope: what was under the old one isn't there.
pub fn scope_changes(c: &Cluster) -> Result<()> {
    with(c, "crd-scope", async |crd, _| {
        for scope in ["Namespaced", "Cluster", "Namespaced", "Cluster"] {
            let mut body = crd.body(json!([version("v1", open())]));
            body["spec"]["scope"] = scope.into();
            crd.must("POST", CRDS, JSON, body).await?;
            let (own, other) = match scope {
                "Cluster" => (format!("/apis/{}/v1/widgets", crd.group), crd.objects("v1")),
                _ => (crd.objects("v1"), String::new()),
            };
            ensure!(names(&crd.get(&own).await?).is_empty(), "{scope}: something is left");
            let body = crd.widget("v1", "w", json!({}));
            crd.must("POST", &own, JSON, body).await?;
            if !other.is_empty() {
                let r = crd.send("GET", &other, JSON, Value::Null).await?;
                ensure!(r.code == 404, "cluster-scoped objects in a namespace: {}", r.text());
            }
            let path = format!("{CRDS}/{}", crd.name());
            let changed = if scope == "Cluster" { "Namespaced" } else { "Cluster" };
            let (code, why) = crd.refused("PATCH", &path, MERGE, json!({"spec": {"scope": changed}})).await?;
            ensure!(code == 422 && why.contains("field is immutable"), "{code} {why}");
            crd.must("DELETE", &path, JSON, Value::Null).await?;
            let end = Instant::now() + PATIENCE;
            while crd.send("GET", &path, JSON, Value::Null).await?.code != 404 {
                ensure!(Instant::now() < end, "the definition doesn't go");
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        }
        Ok(())
    })
}
