//! What OpenAPI tells of custom resources, and what kubectl makes of it.

use super::{CRDS, JSON, with};
use crate::cluster::Cluster;
use crate::scenarios::namespace::Namespace;
use crate::wire::Connection;
use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};

/// A definition of one kind, with these versions, all of one schema.
fn definition(group: &str, plural: &str, kind: &str, versions: &[&str], schema: &Value) -> Value {
    let versions: Vec<Value> = versions
        .iter()
        .enumerate()
        .map(|(i, v)| json!({"name": v, "served": true, "storage": i == 0, "schema": {"openAPIV3Schema": schema}}))
        .collect();
    json!({"apiVersion": "apiextensions.k8s.io/v1", "kind": "CustomResourceDefinition",
        "metadata": {"name": format!("{plural}.{group}")},
        "spec": {"group": group, "scope": "Namespaced", "versions": versions,
            "names": {"plural": plural, "singular": kind.to_lowercase(), "kind": kind, "listKind": format!("{kind}List")}}})
}

/// `com.example.GROUP.v1.Kind`
fn definition_name(group: &str, version: &str, kind: &str) -> String {
    let parts: Vec<&str> = group.rsplit('.').chain([version, kind]).collect();
    parts.join(".")
}

/// An object schema with a part that is `inner`.
fn kept(description: &str, root: Value, spec: Value) -> Value {
    let mut out = json!({"type": "object", "description": description, "properties": {
        "spec": {"type": "object", "description": "What is wanted.",
            "properties": {"dummy": {"type": "object", "description": "Stands for others."}}},
        "status": {"type": "object", "properties": {"bars": {"type": "array", "items": {"type": "object"}}}}}});
    for (k, v) in root.as_object().into_iter().flatten() {
        out[k] = v.clone();
    }
    for (k, v) in spec.as_object().into_iter().flatten() {
        out["properties"]["spec"][k] = v.clone();
    }
    out
}

/// The definition of v2, without what the server adds to every kind.
fn own(document: &Value, name: &str) -> Result<Value> {
    let mut out = document["definitions"].get(name).with_context(|| format!("v2 lacks {name}"))?.clone();
    let o = out.as_object_mut().context("no object")?;
    o.remove("x-kubernetes-group-version-kind").with_context(|| format!("{name} doesn't say what it is"))?;
    if let Some(p) = o.get_mut("properties").and_then(Value::as_object_mut) {
        for field in ["apiVersion", "kind", "metadata"] {
            ensure!(p.remove(field).is_some(), "{name} lacks {field}");
        }
    }
    Ok(out)
}

async fn document(connection: &mut Connection, path: &str) -> Result<Value> {
    let r = connection.get(path).await?;
    ensure!(r.code == 200, "{path}: {}", r.code);
    Ok(r.json())
}

/// Kinds that keep unknown fields, in the root or below, and kinds without a schema: published so that kubectl lets
/// everything pass, and explained.
pub fn open_kinds(c: &Cluster) -> Result<()> {
    let ns = Namespace::new(c, "crd-open")?;
    let group = format!("{}.example.com", ns.name());
    let preserve = json!({"x-kubernetes-preserve-unknown-fields": true});
    let empty = json!({"type": "object", "x-kubernetes-preserve-unknown-fields": true});
    let at_root = kept("Keeps everything.", preserve.clone(), json!({}));
    let nested = kept("Keeps everything inside.", json!({}), preserve);
    for (plural, kind, schema, body, told) in [
        ("voids", "Void", &empty, json!({"a": {"b": [{"c": "d"}]}}), "<empty>"),
        ("roots", "Root", &at_root, json!({"a": {"b": [{"c": "d"}]}}), "Keeps everything."),
        ("nests", "Nest", &nested, json!({"spec": {"a": null, "b": [{"c": "d"}]}}), "Keeps everything inside."),
    ] {
        c.apply(&definition(&group, plural, kind, &["v1"], schema).to_string())?;
        let mut object = body.clone();
        object["apiVersion"] = format!("{group}/v1").into();
        object["kind"] = kind.into();
        object["metadata"] = json!({"name": "it"});
        let file = ns.file(&format!("{plural}.json"), &object.to_string())?;
        for verb in ["create --validate=true", "apply --validate=true", "apply --server-side --validate=true"] {
            ns.must(&format!("{verb} -f {file}"))?;
            let kept = ns.must(&format!("get {plural} it -o json"))?;
            ensure!(kept.contains("\"c\": \"d\""), "{verb}: {kept}");
            ns.must(&format!("delete {plural} it"))?;
        }
        let text = ns.must(&format!("explain {plural}"))?;
        for want in [
            &format!("KIND:       {kind}"),
            "VERSION:    v1",
            &format!("GROUP:      {group}"),
            told,
            "apiVersion\t<string>",
        ] {
            ensure!(text.contains(want), "explain {plural}: no {want:?} in\n{text}");
        }
        let text = ns.must(&format!("explain {plural}.metadata"))?;
        ensure!(text.contains("Standard object's metadata") && text.contains("creationTimestamp"), "{text}");
    }
    ensure!(ns.must("explain roots.spec")?.contains("Stands for others."), "explain roots.spec");
    let bare = json!({"type": "object"});
    let mut nested_v2 = nested.clone();
    if let Some(spec) = nested_v2["properties"]["spec"].as_object_mut() {
        // No type and no fields: kubectl would take them for all there are.
        spec.remove("type");
        spec.remove("properties");
    }
    c.access()?.inside(async |a| {
        let mut h = a.http1(&crate::wire::Who::Admin).await?;
        let v2 = document(&mut h, "/openapi/v2").await?;
        let v3 = document(&mut h, &format!("/openapi/v3/apis/{group}/v1")).await?;
        for (kind, want_v2, want_v3) in
            [("Void", &bare, &empty), ("Root", &bare, &at_root), ("Nest", &nested_v2, &nested)]
        {
            let name = definition_name(&group, "v1", kind);
            let got = own(&v2, &name)?;
            ensure!(got == *want_v2, "v2 {kind}: {got}");
            ensure!(
                v2["definitions"][&name]["x-kubernetes-group-version-kind"]
                    == json!([{"group": group, "version": "v1", "kind": kind}]),
                "{kind}"
            );
            let mut got = v3["components"]["schemas"][&name].clone();
            for field in ["apiVersion", "kind", "metadata"] {
                ensure!(got["properties"][field]["description"].is_string(), "v3 {kind} lacks {field}");
                got["properties"].as_object_mut().map(|p| p.remove(field));
            }
            if got["properties"] == json!({}) {
                got.as_object_mut().map(|o| o.remove("properties"));
            }
            got.as_object_mut().map(|o| o.remove("x-kubernetes-group-version-kind"));
            ensure!(got == *want_v3, "v3 {kind}: {got}");
        }
        Ok(())
    })?;
    c.kubectl(&["delete", "crd", &format!("voids.{group}"), &format!("roots.{group}"), &format!("nests.{group}")])?;
    ns.delete()
}

/// Several groups, kinds and versions at once: each is there, as its schema says, and goes with its definition.
pub fn groups_and_kinds(c: &Cluster) -> Result<()> {
    with(c, "crd-published", async |crd, _| {
        let (one, two) = (format!("one.{}", crd.group), format!("two.{}", crd.group));
        let foo = json!({"type": "object", "description": "A foo.", "properties": {"spec": {"type": "object", "properties": {
            "bars": {"type": "array", "description": "Its bars.", "items": {"type": "object", "required": ["name"], "properties": {
                "name": {"type": "string", "description": "Of the bar."}, "mood": {"type": "string", "enum": ["up", "down"]}}}}}}}});
        let waldo = json!({"type": "object", "description": "A waldo.", "properties": {"spec": {"type": "object",
            "properties": {"where": {"type": "string"}}}}});
        let all = [
            (&one, "foos", "Foo", vec!["v1", "v2beta1"], &foo),
            (&one, "waldos", "Waldo", vec!["v1"], &waldo),
            (&two, "waldos", "Waldo", vec!["v1beta1"], &waldo),
        ];
        for (group, plural, kind, versions, schema) in &all {
            let body = definition(group, plural, kind, versions, schema);
            crd.must("POST", CRDS, JSON, body).await?;
        }
        let check = async |crd: &mut super::Crd, gone: &str| -> Result<()> {
            let v2 = crd.get("/openapi/v2").await?;
            let index = crd.get("/openapi/v3").await?;
            for (group, plural, kind, versions, schema) in &all {
                for version in versions {
                    let name = definition_name(group, version, kind);
                    if gone == format!("{plural}.{group}") {
                        ensure!(v2["definitions"].get(&name).is_none(), "{name} outlives its definition");
                        continue;
                    }
                    let got = own(&v2, &name)?;
                    ensure!(got == **schema, "{name}: {got}");
                    let list = &v2["definitions"][format!("{name}List")];
                    ensure!(list["properties"]["items"]["items"]["$ref"] == format!("#/definitions/{name}"), "{list}");
                    let path = format!("/apis/{group}/{version}/namespaces/{{namespace}}/{plural}/{{name}}");
                    let get = &v2["paths"][&path]["get"];
                    ensure!(get["x-kubernetes-group-version-kind"]["kind"] == *kind, "{path}: {get}");
                    let url = index["paths"][format!("apis/{group}/{version}")]["serverRelativeURL"]
                        .as_str()
                        .unwrap_or_default();
                    let v3 = crd.get(url).await?;
                    ensure!(v3["components"]["schemas"][&name]["description"] == schema["description"], "{url}");
                }
            }
            Ok(())
        };
        check(crd, "").await?;
        crd.must("DELETE", &format!("{CRDS}/waldos.{two}"), JSON, Value::Null).await?;
        let until = std::time::Instant::now() + crate::wire::PATIENCE;
        while crd.send("GET", &format!("{CRDS}/waldos.{two}"), JSON, Value::Null).await?.code != 404 {
            ensure!(std::time::Instant::now() < until, "the definition doesn't go");
            tokio::time::sleep(std::time::Duration::from_millis(30)).await;
        }
        check(crd, &format!("waldos.{two}")).await?;
        for name in [format!("foos.{one}"), format!("waldos.{one}")] {
            crd.must("DELETE", &format!("{CRDS}/{name}"), JSON, Value::Null).await?;
        }
        Ok(())
    })
}
