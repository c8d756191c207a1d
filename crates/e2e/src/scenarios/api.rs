//! What client libraries count on and kubectl doesn't show: versions, watches, representations, refusals.

use super::namespace::Namespace;
use crate::cluster::Cluster;
use crate::wire::{Access, Connection, Reply, Who};
use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};

const JSON: &str = "application/json";
const MERGE: &str = "application/merge-patch+json";
const APPLY: &str = "application/apply-patch+yaml";
const PROTOBUF: &str = "application/vnd.kubernetes.protobuf";

/// One connection of an administrator, and the ConfigMaps of the scenario's namespace.
struct Api {
    connection: Connection,
    maps: String,
}

impl Api {
    async fn new(access: &Access, namespace: &str) -> Result<Api> {
        let connection = access.http1(&Who::Admin).await?;
        Ok(Api { connection, maps: format!("/api/v1/namespaces/{namespace}/configmaps") })
    }

    async fn send(
        &mut self,
        method: &str,
        path: &str,
        content_type: &str,
        body: impl Into<bytes::Bytes>,
    ) -> Result<Reply> {
        self.connection.send(method, path, &[("content-type", content_type), ("accept", JSON)], body).await
    }

    async fn get_as(&mut self, path: &str, accept: &str) -> Result<Reply> {
        self.connection.send("GET", path, &[("accept", accept)], "").await
    }

    async fn get(&mut self, path: &str) -> Result<Value> {
        let r = self.get_as(path, JSON).await?;
        ensure!(r.code == 200, "GET {path}: {} {}", r.code, r.text());
        Ok(r.json())
    }

    /// Makes a ConfigMap.
    async fn make(&mut self, name: &str, more: Value) -> Result<Value> {
        let mut body = json!({"metadata": {"name": name}, "data": {"k": "v"}});
        merge(&mut body, more);
        let path = self.maps.clone();
        let r = self.send("POST", &path, JSON, body.to_string()).await?;
        ensure!(r.code == 201, "creating {name}: {} {}", r.code, r.text());
        Ok(r.json())
    }

    async fn patch(&mut self, name: &str, content_type: &str, body: Value) -> Result<Reply> {
        let path = format!("{}/{name}", self.maps);
        self.send("PATCH", &path, content_type, body.to_string()).await
    }

    /// The frames of a watch of ConfigMaps that lasts a second: `TYPE name`.
    async fn watch(&mut self, query: &str) -> Result<Vec<String>> {
        let path = format!("{}?watch=1&timeoutSeconds=1&{query}", self.maps);
        let r = self.get_as(&path, JSON).await?;
        ensure!(r.code == 200, "{path}: {} {}", r.code, r.text());
        let text = r.text();
        let mut frames: Vec<String> = text
            .lines()
            .map(|l| {
                let f: Value = serde_json::from_str(l).with_context(|| format!("frame {l:?}"))?;
                let name = f["object"]["metadata"]["name"].as_str().or(f["object"]["reason"].as_str()).unwrap_or("-");
                Ok(format!("{} {name}", f["type"].as_str().unwrap_or("?")))
            })
            .filter(|r| !matches!(r, Ok(s) if s.ends_with("kube-root-ca.crt")))
            .collect::<Result<_>>()?;
        // How many bookmarks come is the server's business.
        frames.dedup_by(|a, b| a == b && a.starts_with("BOOKMARK"));
        Ok(frames)
    }
}

fn merge(to: &mut Value, from: Value) {
    match (to, from) {
        (Value::Object(to), Value::Object(from)) => {
            for (k, v) in from {
                merge(to.entry(k).or_insert(Value::Null), v);
            }
        }
        (to, from) => *to = from,
    }
}

fn version(object: &Value) -> String {
    object["metadata"]["resourceVersion"].as_str().unwrap_or_default().to_string()
}

/// Runs a scenario with its namespace and connection.
fn with(c: &Cluster, base: &str, work: impl AsyncFnOnce(&mut Api, &Access) -> Result<()> + Send) -> Result<()> {
    let ns = Namespace::new(c, base)?;
    let name = ns.name().to_string();
    c.access()?.inside(async |access| {
        let mut api = Api::new(access, &name).await?;
        work(&mut api, access).await
    })?;
    ns.delete()
}

/// Chunked lists are of one revision; resourceVersion means what the API concepts say.
pub fn lists(c: &Cluster) -> Result<()> {
    with(c, "lists", async |api, _| {
        for i in 0..7 {
            api.make(&format!("m{i}"), json!({"metadata": {"labels": {"half": (i % 2).to_string()}}})).await?;
        }
        let maps = api.maps.clone();
        let first = api.get(&format!("{maps}?limit=3&labelSelector=half")).await?;
        let token = first["metadata"]["continue"].as_str().context("no continue token")?.to_string();
        // Changes between the pages don't show.
        api.send("DELETE", &format!("{maps}/m5"), JSON, "").await?;
        api.make("m50", json!({"metadata": {"labels": {"half": "0"}}})).await?;
        let mut names: Vec<String> = Vec::new();
        let mut page = first;
        let mut token = Some(token);
        loop {
            for item in page["items"].as_array().context("no items")? {
                ensure!(item.get("kind").is_none(), "items of a typed list carry no kind: {item}");
                names.push(item["metadata"]["name"].as_str().unwrap_or_default().into());
            }
            let Some(t) = token.take() else { break };
            page = api.get(&format!("{maps}?limit=3&labelSelector=half&continue={t}")).await?;
            token = page["metadata"]["continue"].as_str().filter(|t| !t.is_empty()).map(String::from);
        }
        ensure!(names == ["m0", "m1", "m2", "m3", "m4", "m5", "m6"], "pages: {names:?}");
        let whole = api.get(&format!("{maps}?limit=2")).await?;
        ensure!(whole["metadata"]["remainingItemCount"] == 6, "8 objects, 2 of them here: {}", whole["metadata"]);
        let at = version(&whole);
        api.send("DELETE", &format!("{maps}?labelSelector=half%3D1"), JSON, "").await?;
        let now = api.get(&maps).await?["items"].as_array().map_or(0, Vec::len);
        let then = api.get(&format!("{maps}?resourceVersion={at}&resourceVersionMatch=Exact")).await?;
        ensure!(
            (now, then["items"].as_array().map_or(0, Vec::len)) == (6, 8),
            "deletecollection left {now}; history had {}",
            then["items"]
        );
        for (query, code, text) in [
            ("resourceVersion=0", 200, "ConfigMapList"),
            ("resourceVersion=99999999", 504, "Too large resource version: 99999999"),
            ("resourceVersion=x", 400, "Invalid value: \\\"x\\\""),
            ("resourceVersionMatch=Exact", 422, "resourceVersionMatch is forbidden unless resourceVersion is provided"),
            ("continue=rubbish", 400, "continue key is not valid"),
            ("labelSelector=a%3D%3D%3D", 400, "unable to parse"),
            ("fieldSelector=data.k%3Dv", 400, "is not a known field selector"),
            ("limit=x", 400, "invalid syntax"),
        ] {
            let r = api.get_as(&format!("{maps}?{query}"), JSON).await?;
            ensure!(r.code == code && r.text().contains(text), "{query}: {} {}", r.code, r.text());
        }
        Ok(())
    })
}

/// A watch goes on from any revision, sees a selector's border crossed, and can bring the initial list along.
pub fn watches(c: &Cluster) -> Result<()> {
    with(c, "watches", async |api, _| {
        let start = version(&api.get(&api.maps.clone()).await?);
        api.make("a", json!({"metadata": {"labels": {"in": "yes"}}})).await?;
        api.patch("a", MERGE, json!({"data": {"k": "w"}})).await?;
        let middle = version(&api.get(&api.maps.clone()).await?);
        api.patch("a", MERGE, json!({"metadata": {"labels": {"in": "no"}}})).await?;
        api.make("b", json!({})).await?;
        let path = format!("{}/a", api.maps);
        api.send("DELETE", &path, JSON, "").await?;
        let from = |v: &str, more: &str| format!("resourceVersion={v}{more}");
        for (query, want) in [
            (from(&start, ""), &["ADDED a", "MODIFIED a", "MODIFIED a", "ADDED b", "DELETED a"][..]),
            (from(&middle, ""), &["MODIFIED a", "ADDED b", "DELETED a"]),
            (from(&start, "&labelSelector=in%3Dyes"), &["ADDED a", "MODIFIED a", "DELETED a"]),
            (from(&start, "&labelSelector=in%3Dno"), &["ADDED a", "DELETED a"]),
            (from(&start, "&fieldSelector=metadata.name%3Db"), &["ADDED b"]),
            (String::new(), &["ADDED b"]),
            ("resourceVersion=0".into(), &["ADDED b"]),
            (
                "sendInitialEvents=true&resourceVersionMatch=NotOlderThan&allowWatchBookmarks=true".into(),
                &["ADDED b", "BOOKMARK -"],
            ),
        ] {
            let got = api.watch(&query).await?;
            ensure!(got == want, "watch {query}: {got:?}, not {want:?}");
        }
        // A deletion's frame has the revision of the deletion: a client that goes on from there misses nothing.
        let r = api.get_as(&format!("{}?watch=1&timeoutSeconds=1&resourceVersion={middle}", api.maps), JSON).await?;
        let last: Value = serde_json::from_str(r.text().lines().last().unwrap_or_default())?;
        let after = version(&last["object"]);
        let got = api.watch(&format!("resourceVersion={after}")).await?;
        ensure!(got.is_empty(), "after the deletion at {after} there is nothing: {got:?}");
        // As a Table, frames carry rows.
        let path = format!("{}?watch=1&timeoutSeconds=1", api.maps);
        let r = api.get_as(&path, "application/json;as=Table;v=v1;g=meta.k8s.io").await?;
        let frame: Value = serde_json::from_str(r.text().lines().next().unwrap_or_default())?;
        ensure!(frame["object"]["kind"] == "Table" && frame["object"]["rows"][0]["cells"].is_array(), "{frame}");
        Ok(())
    })
}

/// Nobody overwrites what they haven't seen, and patches of many at once all count.
pub fn keeps_writers_apart(c: &Cluster) -> Result<()> {
    with(c, "writers", async |api, access| {
        let path = format!("{}/m", api.maps);
        let mut seen = api.make("m", json!({})).await?;
        seen["data"]["k"] = "first".into();
        let r = api.send("PUT", &path, JSON, seen.to_string()).await?;
        ensure!(r.code == 200, "{}", r.text());
        seen["data"]["k"] = "second".into();
        let r = api.send("PUT", &path, JSON, seen.to_string()).await?;
        ensure!(r.code == 409 && r.json()["reason"] == "Conflict", "{}", r.text());
        ensure!(
            r.text().contains("the object has been modified; please apply your changes to the latest version"),
            "{}",
            r.text()
        );
        let r =
            api.patch("m", MERGE, json!({"metadata": {"resourceVersion": version(&seen)}, "data": {"k": "x"}})).await?;
        ensure!(r.code == 409, "a patch with an old resourceVersion: {}", r.text());
        seen["metadata"]["resourceVersion"] = "".into();
        let r = api.send("PUT", &path, JSON, seen.to_string()).await?;
        ensure!(r.code == 200 && r.json()["data"]["k"] == "second", "an unconditional PUT: {}", r.text());
        let before = version(&r.json());
        let r = api.patch("m", MERGE, json!({"data": {"k": "second"}})).await?;
        ensure!(version(&r.json()) == before, "a write that changes nothing made a revision: {}", r.text());

        let rounds = 12;
        let mut others = Vec::new();
        for _ in 0..6 {
            others.push(access.http1(&Who::Admin).await?);
        }
        let work = others.iter_mut().enumerate().map(|(who, connection)| {
            let path = path.clone();
            async move {
                for i in 0..rounds {
                    let body = json!({"data": {format!("key-{who}-{i}"): "x"}}).to_string();
                    let r = connection.send("PATCH", &path, &[("content-type", MERGE)], body).await?;
                    ensure!(r.code == 200, "patch {i} of {who}: {}", r.text());
                }
                Ok(())
            }
        });
        futures::future::try_join_all(work).await?;
        let keys = api.get(&path).await?["data"].as_object().map_or(0, |d| d.len());
        ensure!(keys == 6 * rounds + 1, "{keys} keys of {}", 6 * rounds + 1);
        Ok(())
    })
}

/// What is wrong with a request is said with upstream's code, reason and words.
pub fn refuses(c: &Cluster) -> Result<()> {
    with(c, "refuses", async |api, _| {
        api.make("there", json!({})).await?;
        let maps = api.maps.clone();
        let one = format!("{maps}/there");
        let rows: &[(&str, &str, &str, &str, u16, &str, &str)] = &[
            ("POST", &maps, JSON, "{bad", 400, "BadRequest", "invalid character 'b' looking for"),
            ("POST", &maps, JSON, "", 400, "BadRequest", "unexpected end of JSON input"),
            (
                "POST",
                &maps,
                "text/plain",
                "x",
                415,
                "UnsupportedMediaType",
                "the body of the request was in an unknown format",
            ),
            (
                "POST",
                &maps,
                JSON,
                r#"{"kind":"Pod","apiVersion":"v1","metadata":{"name":"x"}}"#,
                400,
                "BadRequest",
                "cannot be handled as a ConfigMap",
            ),
            (
                "POST",
                &maps,
                JSON,
                r#"{"apiVersion":"v2","metadata":{"name":"x"}}"#,
                400,
                "BadRequest",
                "ConfigMap in version \"v2\" cannot be handled as a ConfigMap: no kind \"ConfigMap\" is registered for version \"v2\"",
            ),
            ("POST", &maps, JSON, r#"{"metadata":{}}"#, 422, "Invalid", "name or generateName is required"),
            ("POST", &maps, JSON, r#"{"metadata":{"name":"A"}}"#, 422, "Invalid", "a lowercase RFC 1123 subdomain"),
            (
                "POST",
                &maps,
                JSON,
                r#"{"metadata":{"name":"x","namespace":"other"}}"#,
                400,
                "BadRequest",
                "does not match the namespace sent on the request",
            ),
            (
                "POST",
                &maps,
                JSON,
                r#"{"metadata":{"name":"x","resourceVersion":"1"}}"#,
                400,
                "BadRequest",
                "resourceVersion should not be set on objects to be created",
            ),
            (
                "POST",
                &maps,
                JSON,
                r#"{"metadata":{"name":"there"}}"#,
                409,
                "AlreadyExists",
                "configmaps \"there\" already exists",
            ),
            (
                "POST",
                &maps,
                JSON,
                r#"{"metadata":{"name":"x"},"data":{"a":1}}"#,
                400,
                "BadRequest",
                "cannot unmarshal number into Go struct field ConfigMap.data of type string",
            ),
            ("POST", &maps, JSON, r#"{"metadata":{"name":"x"},"data":{"a/b":"1"}}"#, 422, "Invalid", "data[a/b]"),
            (
                "POST",
                "/api/v1/namespaces/nowhere-at-all/configmaps",
                JSON,
                r#"{"metadata":{"name":"x"}}"#,
                404,
                "NotFound",
                "namespaces \"nowhere-at-all\" not found",
            ),
            (
                "PUT",
                &one,
                JSON,
                r#"{"metadata":{"name":"else"}}"#,
                400,
                "BadRequest",
                "does not match the name on the URL (there)",
            ),
            (
                "PUT",
                &format!("{maps}/x"),
                JSON,
                r#"{"metadata":{"name":"x"}}"#,
                404,
                "NotFound",
                "configmaps \"x\" not found",
            ),
            (
                "PUT",
                &one,
                JSON,
                r#"{"metadata":{"name":"there","uid":"other"}}"#,
                409,
                "Conflict",
                "UID in precondition: other",
            ),
            ("PUT", &maps, JSON, "{}", 405, "MethodNotAllowed", "the server does not allow this method"),
            ("POST", &one, JSON, "{}", 405, "MethodNotAllowed", "the server does not allow this method"),
            ("PATCH", &one, JSON, "{}", 415, "UnsupportedMediaType", "application/merge-patch+json"),
            (
                "PATCH",
                &one,
                APPLY,
                r#"{"apiVersion":"v1","kind":"ConfigMap"}"#,
                422,
                "Invalid",
                "fieldManager: Required value",
            ),
            (
                "PATCH",
                &format!("{one}?force=true"),
                MERGE,
                "{}",
                422,
                "Invalid",
                "may not be specified for non-apply patch",
            ),
            ("POST", &format!("{maps}?dryRun=Some"), JSON, r#"{"metadata":{"name":"x"}}"#, 422, "Invalid", "dryRun"),
            (
                "DELETE",
                &one,
                JSON,
                r#"{"preconditions":{"uid":"other"}}"#,
                409,
                "Conflict",
                "the UID in the precondition",
            ),
            ("DELETE", &format!("{one}?propagationPolicy=Some"), JSON, "", 422, "Invalid", "propagationPolicy"),
            ("GET", "/api/v1/nothing", JSON, "", 404, "NotFound", "the server could not find the requested resource"),
            (
                "GET",
                &format!("{one}/status"),
                JSON,
                "",
                404,
                "NotFound",
                "the server could not find the requested resource",
            ),
        ];
        for (method, path, content_type, body, code, reason, text) in rows {
            let r = api.send(method, path, content_type, body.to_string()).await?;
            let s = r.json();
            let message = s["message"].as_str().unwrap_or_default();
            ensure!(
                r.code == *code && s["reason"] == *reason && s["code"] == *code && message.contains(text),
                "{method} {path} {body}: not {code} {reason} {text:?} but {}",
                r.text()
            );
        }
        // Strict refuses, Warn warns, Ignore is silent about fields that nobody knows or that come twice.
        let odd = r#"{"metadata":{"name":"odd"},"data":{"a":"1","a":"2"},"dat":{}}"#;
        for (mode, code, warnings) in [("Strict", 400, 0), ("Warn", 201, 2), ("", 201, 2), ("Ignore", 201, 0)] {
            let r = api.send("POST", &format!("{maps}?dryRun=All&fieldValidation={mode}"), JSON, odd).await?;
            let told: Vec<_> = r.headers.get_all("warning").iter().filter_map(|v| v.to_str().ok()).collect();
            ensure!(r.code == code && told.len() == warnings, "{mode}: {} {told:?} {}", r.code, r.text());
            if mode == "Strict" {
                ensure!(
                    r.text().contains(r#"strict decoding error: duplicate field \"data.a\", unknown field \"dat\""#),
                    "{}",
                    r.text()
                );
            }
        }
        let r = api
            .send(
                "POST",
                &maps,
                JSON,
                json!({"metadata": {"name": "big"}, "data": {"a": "x".repeat(2 << 20)}}).to_string(),
            )
            .await?;
        ensure!(r.code == 422 && r.text().contains("Too long"), "2 MiB: {}", r.code);
        let r = api.send("POST", &maps, JSON, vec![b' '; 4 << 20]).await?;
        ensure!(r.code == 413 && r.json()["reason"] == "RequestEntityTooLarge", "4 MiB: {} {}", r.code, r.text());
        Ok(())
    })
}

/// The same object as JSON, YAML, protobuf, a Table, and metadata alone; compressed where it is large.
pub fn speaks_all_formats(c: &Cluster) -> Result<()> {
    with(c, "formats", async |api, _| {
        let maps = api.maps.clone();
        let made = api.send("POST", &maps, "application/yaml", "metadata: {name: m}\ndata: {k: v}\n").await?;
        ensure!(made.code == 201, "YAML: {}", made.text());
        let one = format!("{maps}/m");
        let yaml = api.get_as(&one, "application/yaml").await?.text();
        ensure!(yaml.starts_with("apiVersion: v1\ndata:\n  k: v\n"), "{yaml}");
        // What is read as protobuf can be written back as it is, and says the same.
        let p = api.get_as(&one, PROTOBUF).await?;
        ensure!(p.body.starts_with(b"k8s\0") && p.headers["content-type"] == PROTOBUF, "{:?}", p.headers);
        let before = version(&made.json());
        let r = api.send("PUT", &one, PROTOBUF, p.body).await?;
        ensure!(r.code == 200 && r.json()["data"]["k"] == "v" && version(&r.json()) == before, "{}", r.text());
        let list = api.get_as(&maps, "application/vnd.kubernetes.protobuf,application/json").await?;
        ensure!(list.body.starts_with(b"k8s\0"), "a list should be protobuf");
        let watch = api
            .get_as(&format!("{maps}?watch=1&timeoutSeconds=1"), "application/vnd.kubernetes.protobuf;stream=watch")
            .await?;
        let length =
            watch.body.get(..4).map(|b| u32::from_be_bytes([b[0], b[1], b[2], b[3]]) as usize).unwrap_or_default();
        ensure!(
            length > 10 && watch.body.len() > length,
            "a watch frame has its length before it: {:?}",
            watch.body.get(..8)
        );

        let table = api.get_as(&maps, "application/json;as=Table;v=v1;g=meta.k8s.io").await?.json();
        let row = table["rows"].as_array().and_then(|r| r.iter().find(|r| r["cells"][0] == "m")).context("no row")?;
        ensure!(row["cells"][1] == 1 && row["object"]["kind"] == "PartialObjectMetadata", "{row}");
        ensure!(table["columnDefinitions"][0]["name"] == "Name", "{table}");
        let whole = api
            .get_as(&format!("{one}?includeObject=Object"), "application/json;as=Table;v=v1;g=meta.k8s.io")
            .await?
            .json();
        ensure!(whole["rows"][0]["object"]["data"]["k"] == "v", "{whole}");
        let part = api.get_as(&maps, "application/json;as=PartialObjectMetadataList;v=v1;g=meta.k8s.io").await?.json();
        ensure!(part["kind"] == "PartialObjectMetadataList" && part["items"][0].get("data").is_none(), "{part}");
        let r = api.get_as(&maps, "text/html").await?;
        ensure!(r.code == 406 && r.json()["reason"] == "NotAcceptable", "{}", r.text());

        let gzip = [("accept", "*/*"), ("accept-encoding", "gzip")];
        let r = api.connection.send("GET", "/openapi/v2", &gzip, "").await?;
        ensure!(
            r.headers.get("content-encoding").is_some_and(|v| v == "gzip") && r.body.starts_with(&[0x1f, 0x8b]),
            "{:?}",
            r.headers
        );
        let small = api.connection.send("GET", &one, &gzip, "").await?;
        ensure!(small.headers.get("content-encoding").is_none(), "small answers aren't worth it");
        Ok(())
    })
}

/// Finalizers, dry runs, generated names, owners of fields, aggregated discovery.
pub fn keeps_its_promises(c: &Cluster) -> Result<()> {
    with(c, "promises", async |api, _| {
        let maps = api.maps.clone();
        let at = |name: &str| format!("{maps}/{name}");
        // A finalizer holds the object back; no new one may come; the last one's end is the object's.
        api.make("held", json!({"metadata": {"finalizers": ["example.com/hold"]}})).await?;
        let r = api.send("DELETE", &at("held"), JSON, "").await?;
        ensure!(r.code == 200 && !r.json()["metadata"]["deletionTimestamp"].is_null(), "{}", r.text());
        let r = api
            .patch("held", MERGE, json!({"metadata": {"finalizers": ["example.com/hold", "example.com/more"]}}))
            .await?;
        ensure!(
            r.code == 422 && r.text().contains("no new finalizers can be added if the object is being deleted"),
            "{}",
            r.text()
        );
        let r = api.patch("held", MERGE, json!({"metadata": {"finalizers": null}})).await?;
        ensure!(r.code == 200, "{}", r.text());
        ensure!(api.get_as(&at("held"), JSON).await?.code == 404, "its last finalizer went, it should have gone too");

        // Dry runs answer as the real thing and leave nothing.
        for (method, path, body) in
            [("POST", maps.clone(), r#"{"metadata":{"name":"dry"}}"#), ("DELETE", at("kube-root-ca.crt"), "")]
        {
            let r = api.send(method, &format!("{path}?dryRun=All"), JSON, body).await?;
            ensure!(r.code < 300, "{}", r.text());
        }
        ensure!(api.get_as(&at("dry"), JSON).await?.code == 404, "a dry run made an object");
        ensure!(api.get_as(&at("kube-root-ca.crt"), JSON).await?.code == 200, "a dry run deleted an object");

        let r = api.send("POST", &maps, JSON, r#"{"metadata":{"generateName":"some-"}}"#).await?.json();
        let name = r["metadata"]["name"].as_str().unwrap_or_default();
        ensure!(name.len() == 10 && name.starts_with("some-"), "generated {name:?}");

        // Field owners: of an update, of applies, after a conflict, and when a field is given up.
        let secrets = maps.replace("configmaps", "secrets");
        let r = api
            .send(
                "POST",
                &format!("{secrets}?fieldManager=me"),
                JSON,
                r#"{"metadata":{"name":"s"},"stringData":{"p":"q"}}"#,
            )
            .await?
            .json();
        ensure!(r["data"]["p"] == "cQ==" && r.get("stringData").is_none(), "{r}");
        ensure!(r["metadata"]["managedFields"][0]["fieldsV1"]["f:data"]["f:p"].is_object(), "{r}");
        let apply = |a: &str| json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "shared"}, "data": {"a": a}});
        let r = api.patch("shared?fieldManager=one", APPLY, apply("1")).await?;
        ensure!(r.code == 201, "{}", r.text());
        let r = api.patch("shared?fieldManager=two", APPLY, apply("2")).await?;
        ensure!(
            r.code == 409 && r.json()["message"] == "Apply failed with 1 conflict: conflict with \"one\": .data.a",
            "{}",
            r.text()
        );
        ensure!(
            r.json()["details"]["causes"][0]
                == json!({"reason": "FieldManagerConflict", "message": "conflict with \"one\"", "field": ".data.a"}),
            "{}",
            r.text()
        );
        let r = api.patch("shared?fieldManager=two&force=true", APPLY, apply("2")).await?;
        let owned = r.json()["metadata"]["managedFields"].clone();
        ensure!(r.code == 200 && owned.as_array().is_some_and(|o| o.len() == 1 && o[0]["manager"] == "two"), "{owned}");
        let before = version(&r.json());
        let r = api.patch("shared?fieldManager=two", APPLY, apply("2")).await?;
        ensure!(version(&r.json()) == before, "an apply that changes nothing made a revision");
        let r = api.patch("shared?fieldManager=two", APPLY, json!({"apiVersion": "v1", "kind": "ConfigMap"})).await?;
        ensure!(r.json()["data"].get("a").is_none(), "a field that nobody owns any more is still there: {}", r.text());

        // Status is the server's: a create can't set it, and is written with an empty one.
        let deployments = maps.replace("/api/v1/", "/apis/apps/v1/").replace("configmaps", "deployments");
        let body = json!({
            "metadata": {"name": "d", "generation": 7},
            "spec": {"replicas": 0, "selector": {"matchLabels": {"a": "b"}}, "template": {
                "metadata": {"labels": {"a": "b"}}, "spec": {"containers": [{"name": "c", "image": "example.com/a:1"}]}}},
            "status": {"replicas": 5},
        });
        let r = api.send("POST", &deployments, JSON, body.to_string()).await?.json();
        ensure!(r["status"] == json!({}) && r["metadata"]["generation"] == 1, "{r}");
        let r = api
            .send("PUT", &format!("{deployments}/d/scale"), JSON, r#"{"metadata":{"name":"d"},"spec":{"replicas":1}}"#)
            .await?
            .json();
        ensure!(r["kind"] == "Scale" && r["spec"]["replicas"] == 1 && r["status"]["selector"] == "a=b", "{r}");
        let d = api.get(&format!("{deployments}/d")).await?;
        ensure!(d["metadata"]["generation"] == 2, "scaling is a change of the spec: {}", d["metadata"]);

        let r = api.get_as("/apis", "application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList").await?;
        let found = r.json();
        let apps = found["items"]
            .as_array()
            .and_then(|i| i.iter().find(|g| g["metadata"]["name"] == "apps"))
            .context("no apps")?;
        let kinds: Vec<&str> = apps["versions"][0]["resources"]
            .as_array()
            .into_iter()
            .flatten()
            .filter_map(|r| r["resource"].as_str())
            .collect();
        ensure!(found["kind"] == "APIGroupDiscoveryList" && kinds.contains(&"deployments"), "{kinds:?}");
        let etag = r.headers.get("etag").and_then(|v| v.to_str().ok()).map(String::from);
        if let Some(etag) = etag {
            let again = api
                .connection
                .send(
                    "GET",
                    "/apis",
                    &[
                        ("accept", "application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList"),
                        ("if-none-match", &etag),
                    ],
                    "",
                )
                .await?;
            ensure!(again.code == 304, "the same ETag: {}", again.code);
        }
        Ok(())
    })
}
