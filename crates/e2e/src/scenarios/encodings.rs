//! Every kind in every encoding, as the endpoints serve them; and what clients may ask for, and how they are refused.

use super::namespace::Namespace;
use crate::cluster::Cluster;
use crate::wire::{Access, Connection, Reply, Who};
use anyhow::{Context, Result, bail, ensure};
use serde_json::{Value, json};

const JSON: &str = "application/json";
const YAML: &str = "application/yaml";
const PROTOBUF: &str = "application/vnd.kubernetes.protobuf";
const TABLE: &str = "application/json;as=Table;v=v1;g=meta.k8s.io";

/// A resource that can be read and written, from discovery.
pub struct Resource {
    /// `/api/v1` or `/apis/GROUP/VERSION`.
    pub root: String,
    pub plural: String,
    pub namespaced: bool,
}

impl Resource {
    fn path(&self, object: &Value) -> String {
        let meta = &object["metadata"];
        let name = meta["name"].as_str().unwrap_or_default();
        match meta["namespace"].as_str() {
            Some(ns) if self.namespaced => format!("{}/namespaces/{ns}/{}/{name}", self.root, self.plural),
            _ => format!("{}/{}/{name}", self.root, self.plural),
        }
    }

    fn collection(&self) -> String {
        format!("{}/{}", self.root, self.plural)
    }
}

async fn get(connection: &mut Connection, path: &str, accept: &str) -> Result<Reply> {
    connection.send("GET", path, &[("accept", accept)], "").await
}

pub async fn object(connection: &mut Connection, path: &str) -> Result<Value> {
    let r = get(connection, path, JSON).await?;
    ensure!(r.code == 200, "GET {path}: {} {}", r.code, r.text());
    Ok(r.json())
}

/// Resources that take all of these verbs.
pub async fn resources(connection: &mut Connection, verbs: &[&str]) -> Result<Vec<Resource>> {
    let mut roots = vec!["/api/v1".to_string()];
    let groups = object(connection, "/apis").await?;
    for g in groups["groups"].as_array().context("no groups")? {
        for v in g["versions"].as_array().into_iter().flatten() {
            roots.push(format!("/apis/{}", v["groupVersion"].as_str().unwrap_or_default()));
        }
    }
    let mut out = Vec::new();
    for root in roots {
        let list = object(connection, &root).await?;
        for r in list["resources"].as_array().context("no resources")? {
            let plural = r["name"].as_str().unwrap_or_default();
            let can = |verb: &str| r["verbs"].as_array().is_some_and(|v| v.iter().any(|x| x == verb));
            if !plural.contains('/') && verbs.iter().all(|v| can(v)) {
                out.push(Resource {
                    root: root.clone(),
                    plural: plural.to_string(),
                    namespaced: r["namespaced"] == true,
                });
            }
        }
    }
    Ok(out)
}

/// The fields of a protobuf message: the number of each, and its content where that has a length.
pub fn fields(mut bytes: &[u8]) -> Result<Vec<(u64, &[u8])>> {
    fn varint(bytes: &mut &[u8]) -> Result<u64> {
        let mut n = 0;
        for shift in (0..64).step_by(7) {
            let (first, rest) = bytes.split_first().context("a number ends early")?;
            *bytes = rest;
            n |= u64::from(first & 0x7f) << shift;
            if first & 0x80 == 0 {
                return Ok(n);
            }
        }
        bail!("a number is too long")
    }
    let mut out = Vec::new();
    while !bytes.is_empty() {
        let key = varint(&mut bytes)?;
        match key & 7 {
            0 => {
                varint(&mut bytes)?;
                out.push((key >> 3, &bytes[..0]));
            }
            2 => {
                let length = varint(&mut bytes)? as usize;
                ensure!(length <= bytes.len(), "a field ends early");
                let (content, rest) = bytes.split_at(length);
                bytes = rest;
                out.push((key >> 3, content));
            }
            other => bail!("wire type {other}"),
        }
    }
    Ok(out)
}

/// What an envelope (`runtime.Unknown`) holds: apiVersion, kind, and the message.
fn envelope(body: &[u8]) -> Result<(String, String, &[u8])> {
    let unknown = fields(body.strip_prefix(b"k8s\0").context("no protobuf")?)?;
    let part = |n: u64, fields: &[(u64, &'_ [u8])]| -> Vec<u8> {
        fields.iter().find(|f| f.0 == n).map_or_else(Vec::new, |f| f.1.to_vec())
    };
    let type_meta = part(1, &unknown);
    let type_meta = fields(&type_meta)?;
    let raw = unknown.iter().find(|f| f.0 == 2).map_or(&[][..], |f| f.1);
    let text = |n| String::from_utf8_lossy(&part(n, &type_meta)).into_owned();
    Ok((text(1), text(2), raw))
}

fn holds(whole: &[u8], part: &[u8]) -> bool {
    !part.is_empty() && whole.windows(part.len()).any(|w| w == part)
}

/// The formats of one object, one list and one watch of a resource agree; `false` when there is no object of it.
async fn agree(connection: &mut Connection, r: &Resource) -> Result<bool> {
    let list = object(connection, &format!("{}?limit=500", r.collection())).await?;
    let Some(first) = list["items"].as_array().and_then(|i| i.last()) else { return Ok(false) };
    let path = r.path(first);
    // Controllers and the kubelet write meanwhile: what changed under us is read again.
    for _ in 0..20 {
        let before = object(connection, &path).await?;
        let version = before["metadata"]["resourceVersion"].clone();
        let p = get(connection, &path, PROTOBUF).await?;
        ensure!(p.code == 200 && p.headers["content-type"] == PROTOBUF, "{path}: {} {:?}", p.code, p.headers);
        let (api_version, kind, message) = envelope(&p.body).with_context(|| path.clone())?;
        ensure!(
            before["apiVersion"] == api_version && before["kind"] == kind,
            "{path}: {api_version} {kind}, not {} {}",
            before["apiVersion"],
            before["kind"]
        );
        let yaml = get(connection, &path, YAML).await?;
        ensure!(yaml.code == 200 && yaml.headers["content-type"] == YAML, "{path}: {} as YAML", yaml.code);
        let listed = get(connection, &r.collection(), &format!("{PROTOBUF},{JSON}")).await?;
        let watch = format!("{}?watch=1&timeoutSeconds=3&resourceVersion=0", r.collection());
        let mut watched =
            connection.open("GET", &watch, &[("accept", &format!("{PROTOBUF};stream=watch"))], "").await?.into_body();
        let mut frames: Vec<u8> = Vec::new();
        let until = tokio::time::Instant::now() + std::time::Duration::from_secs(5);
        while let Ok(Some(Ok(frame))) =
            tokio::time::timeout_at(until, http_body_util::BodyExt::frame(&mut watched)).await
        {
            frames.extend_from_slice(frame.data_ref().map_or(&[][..], |d| d));
            if holds(&frames, message) {
                break;
            }
        }
        drop(watched);
        if object(connection, &path).await?["metadata"]["resourceVersion"] != version {
            continue;
        }
        ensure!(holds(&listed.body, message), "{path}: the list has other bytes than the object");
        ensure!(holds(&frames, message), "{path}: the watch has other bytes than the object");
        // What was read is written back, in each format. It must mean the same, so nothing changes.
        let mut changed = false;
        for (content_type, body) in [(PROTOBUF, p.body.clone()), (YAML, yaml.body), (JSON, before.to_string().into())] {
            let headers = [("content-type", content_type), ("accept", JSON)];
            let w = connection.send("PUT", &path, &headers, body).await?;
            if w.code == 409 {
                changed = true;
                break;
            }
            ensure!(w.code == 200, "PUT {path} as {content_type}: {} {}", w.code, w.text());
            ensure!(
                w.json()["metadata"]["resourceVersion"] == version,
                "PUT {path} as {content_type} changed it:\n{before}\n{}",
                w.text()
            );
        }
        if changed {
            continue;
        }
        let partial =
            get(connection, &path, &format!("{PROTOBUF};as=PartialObjectMetadata;g=meta.k8s.io;v=v1")).await?;
        let (api_version, kind, metadata) = envelope(&partial.body)?;
        ensure!((api_version.as_str(), kind.as_str()) == ("meta.k8s.io/v1", "PartialObjectMetadata"), "{path}: {kind}");
        let object_meta = fields(metadata)?.iter().find(|f| f.0 == 1).map_or(&[][..], |f| f.1);
        ensure!(holds(message, object_meta), "{path}: the metadata alone has other bytes than the object's");
        return Ok(true);
    }
    bail!("{path} never stands still")
}

/// What a client reads as protobuf it can write back, and all formats say the same, for an object of every kind.
pub fn every_kind_in_every_format(c: &Cluster) -> Result<()> {
    let ns = Namespace::new(c, "encodings")?;
    let text = include_str!("../../testdata/kinds.yaml").replace("NAMESPACE", ns.name()).replace("kinds", "encodings");
    let file = ns.file("kinds.yaml", &text)?;
    let result = ns.must(&format!("apply -f {file}")).and_then(|_| {
        ns.must("create deployment d --image=example.com/none --replicas=0")?;
        ns.must("create job j --image=example.com/none")?;
        ns.must("create cronjob cj --image=example.com/none --schedule='0 0 1 1 *'")?;
        ns.must("create role r --verb=get --resource=pods")?;
        ns.must("create rolebinding rb --role=r --serviceaccount=default:default")?;
        ns.must("create secret generic s --from-literal=k=v")?;
        ns.must("create service clusterip svc --tcp=80:80")?;
        ns.must("create quota q --hard=pods=5")?;
        c.access()?.inside(async |access| {
            // Watches are left early, which costs a stream here, and would cost the connection of HTTP/1.1.
            let mut connection = access.http2(&Who::Admin).await?;
            let (mut seen, mut none) = (0, Vec::new());
            for r in resources(&mut connection, &["list", "get", "update", "watch"]).await? {
                match agree(&mut connection, &r).await.with_context(|| r.collection())? {
                    true => seen += 1,
                    false => none.push(r.collection()),
                }
            }
            ensure!(seen >= 55, "only {seen} resources have an object to look at; none: {none:?}");
            Ok(())
        })
    });
    ns.must(&format!("delete -f {file} --timeout=30s --ignore-not-found"))?;
    result?;
    ns.delete()
}

/// Runs a scenario with a connection and the path of its ConfigMaps.
fn with(
    c: &Cluster,
    base: &str,
    work: impl AsyncFnOnce(&mut Connection, &Access, &str) -> Result<()> + Send,
) -> Result<()> {
    let ns = Namespace::new(c, base)?;
    let maps = format!("/api/v1/namespaces/{}/configmaps", ns.name());
    c.access()?.inside(async |access| {
        let mut connection = access.http1(&Who::Admin).await?;
        work(&mut connection, access, &maps).await
    })?;
    ns.delete()
}

/// Ranges, weights, fallbacks, refusals; indentation and compression.
pub fn negotiates(c: &Cluster) -> Result<()> {
    with(c, "negotiates", async |connection, _, maps| {
        let body = json!({"metadata": {"name": "a"}, "data": {"k": "v"}}).to_string();
        let made = connection.send("POST", maps, &[("content-type", JSON)], body).await?;
        ensure!(made.code == 201, "{}", made.text());
        let one = format!("{maps}/a");
        for (accept, want) in [
            ("", JSON),
            ("*/*", JSON),
            ("application/*", JSON),
            ("text/html, */*;q=0.1", JSON),
            ("application/yaml", YAML),
            ("application/json;q=0.2, application/yaml;q=0.9", YAML),
            ("application/vnd.kubernetes.protobuf, application/json", PROTOBUF),
            ("application/vnd.kubernetes.protobuf;q=0.1, application/json", JSON),
            ("application/json;as=Table;v=v9;g=meta.k8s.io,application/yaml", YAML),
            ("application/vnd.kubernetes.protobuf;as=Table;v=v1;g=meta.k8s.io,application/json", JSON),
        ] {
            let r = get(connection, &one, accept).await?;
            ensure!(r.code == 200 && r.headers["content-type"] == want, "{accept:?}: {} {:?}", r.code, r.headers);
        }
        let types = "application/json, application/yaml, application/vnd.kubernetes.protobuf";
        for accept in ["text/html", "application/json;as=Table;v=v9;g=meta.k8s.io", "application/json;stream=odd"] {
            let r = get(connection, &one, accept).await?;
            let s = r.json();
            ensure!(
                r.code == 406
                    && s["reason"] == "NotAcceptable"
                    && s["message"] == format!("only the following media types are accepted: {types}"),
                "{accept}: {}",
                r.text()
            );
        }
        let r = get(connection, &format!("{maps}?watch=1&timeoutSeconds=1"), YAML).await?;
        ensure!(r.code == 406 && r.text().contains("application/json;stream=watch"), "{}", r.text());
        for (query, accept, why) in [
            ("", "application/json;as=PartialObjectMetadataList;v=v1;g=meta.k8s.io", 406),
            ("?includeObject=Some", TABLE, 400),
            ("?includeObject=None", TABLE, 200),
        ] {
            let r = get(connection, &format!("{one}{query}"), accept).await?;
            ensure!(r.code == why, "{query} {accept}: {}", r.text());
        }
        for (content_type, code) in
            [("text/plain", 415), ("application/cbor", 415), ("application/json; charset=utf-8", 409)]
        {
            let body = r#"{"metadata":{"name":"a"}}"#;
            let r = connection.send("POST", maps, &[("content-type", content_type)], body).await?;
            ensure!(r.code == code, "{content_type}: {}", r.text());
            if code == 415 {
                let want =
                    format!("the body of the request was in an unknown format - accepted media types include: {types}");
                ensure!(r.json()["message"] == want, "{}", r.text());
            }
        }
        // For people JSON is indented.
        let head = |r: &Reply| r.text().starts_with("{\n  \"");
        let plain = get(connection, &one, JSON).await?;
        let asked = get(connection, &format!("{one}?pretty=true"), JSON).await?;
        let curl = connection.send("GET", &one, &[("user-agent", "curl/8.0")], "").await?;
        let refused = connection.send("GET", &format!("{one}?pretty=0"), &[("user-agent", "curl/8.0")], "").await?;
        ensure!(!head(&plain) && head(&asked) && head(&curl) && !head(&refused), "indentation: {}", curl.text());
        let missing = connection.send("GET", &format!("{maps}/none"), &[("user-agent", "curl/8.0")], "").await?;
        ensure!(head(&missing) && missing.code == 404, "{}", missing.text());

        // What is large is compressed for who takes it.
        let large = json!({"metadata": {"name": "large"}, "data": {"k": "x".repeat(200 << 10)}}).to_string();
        let made = connection.send("POST", maps, &[("content-type", JSON)], large).await?;
        ensure!(made.code == 201 && made.body.len() > 200 << 10, "{}", made.code);
        for (path, encoding, compressed) in [
            (format!("{maps}/large"), "gzip", true),
            (format!("{maps}/large"), "br, gzip", true),
            (format!("{maps}/large"), "gzip;q=0", false),
            (format!("{maps}/large"), "identity", false),
            (one.clone(), "gzip", false),
            (maps.to_string(), "gzip", true),
        ] {
            let r = connection.send("GET", &path, &[("accept-encoding", encoding)], "").await?;
            let is = r.headers.get("content-encoding").is_some_and(|v| v == "gzip");
            ensure!(r.code == 200 && is == compressed, "{path} {encoding}: {:?}", r.headers);
            ensure!(!is || (r.body.starts_with(&[0x1f, 0x8b]) && r.body.len() < 20 << 10), "{path}: {}", r.body.len());
        }
        Ok(())
    })
}

/// Tables of one, of many, of a watch; and none where there are no rows.
pub fn tables(c: &Cluster) -> Result<()> {
    with(c, "tables", async |connection, _, maps| {
        for name in ["a", "b"] {
            let body = json!({"metadata": {"name": name, "labels": {"t": "x"}}, "data": {"k": "v"}}).to_string();
            let r = connection.send("POST", maps, &[("content-type", JSON)], body).await?;
            ensure!(r.code == 201, "{}", r.text());
        }
        let table = get(connection, &format!("{maps}?limit=1&labelSelector=t"), TABLE).await?.json();
        ensure!(
            table["kind"] == "Table"
                && table["apiVersion"] == "meta.k8s.io/v1"
                && table["columnDefinitions"][0]["name"] == "Name"
                && table["columnDefinitions"][0]["format"] == "name"
                && table["rows"][0]["cells"][0] == "a"
                && table["rows"][0]["object"]["kind"] == "PartialObjectMetadata"
                && table["metadata"]["continue"].is_string(),
            "{table}"
        );
        for (include, kind) in
            [("Object", json!("ConfigMap")), ("None", Value::Null), ("Metadata", json!("PartialObjectMetadata"))]
        {
            let t = get(connection, &format!("{maps}/a?includeObject={include}"), TABLE).await?.json();
            ensure!(t["rows"][0]["object"]["kind"] == kind, "{include}: {t}");
        }
        let watch = format!("{maps}?watch=1&timeoutSeconds=1&resourceVersion=0&labelSelector=t");
        let frames = get(connection, &format!("{watch}&includeObject=Object"), TABLE).await?.text();
        let frames: Vec<Value> = frames.lines().map(serde_json::from_str).collect::<Result<_, _>>()?;
        ensure!(
            frames.len() == 2
                && frames.iter().all(|f| f["object"]["kind"] == "Table")
                && frames.iter().all(|f| f["object"]["rows"][0]["object"]["kind"] == "ConfigMap")
                && frames[0]["object"]["columnDefinitions"].is_array()
                && frames[1]["object"]["columnDefinitions"].is_null(),
            "{frames:?}"
        );
        let partial = "application/json;as=PartialObjectMetadata;v=v1;g=meta.k8s.io";
        let frames = get(connection, &watch, partial).await?.text();
        ensure!(
            frames.lines().all(|f| f.contains("\"kind\":\"PartialObjectMetadata\"") && !f.contains("\"data\"")),
            "{frames}"
        );
        // A review has no metadata to make rows of.
        let review = json!({
            "apiVersion": "authorization.k8s.io/v1", "kind": "SelfSubjectAccessReview",
            "spec": {"resourceAttributes": {"namespace": "default", "verb": "get", "resource": "pods"}},
        });
        let path = "/apis/authorization.k8s.io/v1/selfsubjectaccessreviews";
        let headers = [("content-type", JSON), ("accept", TABLE)];
        let r = connection.send("POST", path, &headers, review.to_string()).await?;
        ensure!(r.code == 406 && r.json()["code"] == 406, "a Table of a review: {}", r.text());
        // Options of a deletion can be protobuf, too: `preconditions { uid }` of an object that never was.
        let mut options = b"k8s\0".to_vec();
        let type_meta = [&[0x0a, 2][..], b"v1", &[0x12, 13], b"DeleteOptions"].concat();
        let raw = [&[0x12, 7, 0x0a, 5][..], b"other"].concat();
        options.extend([0x0a, type_meta.len() as u8]);
        options.extend(type_meta);
        options.extend([0x12, raw.len() as u8]);
        options.extend(raw);
        let r = connection
            .send("DELETE", &format!("{maps}/a"), &[("content-type", PROTOBUF), ("accept", PROTOBUF)], options)
            .await?;
        let (_, kind, status) = envelope(&r.body)?;
        ensure!(
            r.code == 409 && kind == "Status" && holds(status, b"the UID in the precondition (other)"),
            "{}",
            r.code
        );
        Ok(())
    })
}
