//! Reads, watches and writes to the letter of the API concepts, over plain HTTP.

use super::namespace::Namespace;
use crate::cluster::Cluster;
use crate::wire::{Access, Connection, Reply, Who};
use anyhow::{Context, Result, bail, ensure};
use http_body_util::BodyExt;
use serde_json::{Value, json};
use std::time::Duration;
use tokio::time::Instant;

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

/// A chunked list whose snapshot is gone is told so, and can be finished with another token.
pub fn pages_outlive_compaction(c: &Cluster) -> Result<()> {
    c.serve(&["--disable-agent", "--etcd-compaction-interval", "3s"])?;
    c.wait_api()?;
    c.access()?.inside(async |access| {
        let mut api = Api::new(access, "default").await?;
        let path = format!("{}/podtemplates", api.core);
        const COUNT: usize = 40;
        for i in 0..COUNT {
            let template = json!({"metadata": {"name": format!("t{i:02}")}, "template": {"spec": {"containers": [{"name": "c", "image": "i"}]}}});
            api.must("POST", &path, JSON, &template).await?;
        }
        // Pages of one revision, and how many are still to come.
        let (mut token, mut seen, mut at) = (String::new(), 0, String::new());
        loop {
            let page = api.get(&format!("{path}?limit=7&continue={token}")).await?;
            seen += page["items"].as_array().map_or(0, Vec::len);
            if at.is_empty() {
                at = version(&page).to_string();
            }
            ensure!(version(&page) == at, "the revision changed between pages: {at}, {}", version(&page));
            let left = page["metadata"]["remainingItemCount"].as_u64().unwrap_or(0) as usize;
            ensure!(seen + left == COUNT, "{seen} seen, {left} to come");
            match page["metadata"]["continue"].as_str() {
                Some(t) => token = t.to_string(),
                None => break,
            }
        }
        let selected = api.get(&format!("{path}?limit=7&labelSelector=!none")).await?;
        ensure!(
            selected["metadata"]["continue"].is_string() && selected["metadata"].get("remainingItemCount").is_none(),
            "with a selector nobody knows how many remain: {}",
            selected["metadata"]
        );

        let first = api.get(&format!("{path}?limit=4")).await?;
        let token = first["metadata"]["continue"].as_str().context("no token")?.to_string();
        let old = version(&first).to_string();
        let until = Instant::now() + Duration::from_secs(40);
        let fresh = loop {
            // History is forgotten as time goes by, and only behind the latest change.
            api.must("PATCH", &format!("{path}/t39"), MERGE, &json!({"metadata": {"labels": {"n": format!("{:?}", Instant::now().elapsed().as_nanos())}}})).await?;
            let r = api.connection.get(&format!("{path}?limit=4&continue={token}")).await?;
            if r.code == 410 {
                let s = r.json();
                ensure!(
                    s["reason"] == "Expired"
                        && s["message"].as_str().is_some_and(|m| m.starts_with("The provided continue parameter is too old to display a consistent list result.")),
                    "{s}"
                );
                break s["metadata"]["continue"].as_str().context("no token to go on with")?.to_string();
            }
            ensure!(r.code == 200 && Instant::now() < until, "the token never expires: {} {}", r.code, r.text());
            tokio::time::sleep(Duration::from_millis(500)).await;
        };
        let rest = api.get(&format!("{path}?limit=10&continue={fresh}")).await?;
        ensure!(rest["items"].as_array().map_or(0, Vec::len) == 10 && rest["items"][0]["metadata"]["name"] == "t04", "{}", rest["metadata"]);
        ensure!(version(&rest) != old, "the rest is of now, not of {old}");
        let rest = api.get(&format!("{path}?continue={}", rest["metadata"]["continue"].as_str().unwrap_or_default())).await?;
        ensure!(rest["items"].as_array().map_or(0, Vec::len) == COUNT - 14, "{}", rest["metadata"]);

        api.refused(
            ("GET", &format!("{path}?resourceVersion={old}&resourceVersionMatch=Exact"), JSON, ""),
            (410, "Expired", "The resourceVersion for the provided list is too old."),
        )
        .await?;
        // A watch of what has changed since says the same, in the stream.
        let frames = api.frames(&format!("{path}?watch=1&timeoutSeconds=5&resourceVersion={old}")).await?;
        ensure!(
            frames.len() == 1
                && frames[0]["type"] == "ERROR"
                && frames[0]["object"]["code"] == 410
                && frames[0]["object"]["reason"] == "Expired"
                && frames[0]["object"]["message"].as_str().is_some_and(|m| m.starts_with(&format!("too old resource version: {old} ("))),
            "{frames:?}"
        );
        // What hasn't changed since can be watched from there.
        let frames = api.frames(&format!("/api/v1/nodes?watch=1&timeoutSeconds=1&resourceVersion={old}")).await?;
        ensure!(frames.is_empty(), "{frames:?}");
        Ok(())
    })?;
    c.stop_server(libc::SIGTERM)
}

/// Where a watch begins, what it is told of, and how it ends.
pub fn watches(c: &Cluster) -> Result<()> {
    with(c, "watching", async |api, access| {
        let maps = format!("{}/configmaps", api.core);
        let start = version(&api.get(&maps).await?).to_string();
        let a = api.map("a", json!({"watch": "A"})).await?;
        api.map("b", json!({"watch": "B"})).await?;
        let second = api.must("PATCH", &format!("{maps}/a"), MERGE, &json!({"data": {"mutation": "1"}})).await?;
        let moved = api
            .must("PATCH", &format!("{maps}/a"), MERGE, &json!({"metadata": {"labels": {"watch": "other"}}}))
            .await?;
        api.must("PATCH", &format!("{maps}/a"), MERGE, &json!({"metadata": {"labels": {"watch": "A"}}})).await?;
        let r = api.send("DELETE", &format!("{maps}/a"), JSON, "").await?;
        ensure!(r.code == 200 && r.json()["status"] == "Success" && r.json().get("code").is_none(), "{}", r.text());
        ensure!(
            r.json()["details"]["uid"] == a["metadata"]["uid"] && r.json()["details"]["kind"] == "configmaps",
            "{}",
            r.text()
        );

        let from = |v: &str, more: &str| format!("{maps}?watch=1&timeoutSeconds=1&resourceVersion={v}{more}");
        let all = ["ADDED a", "ADDED b", "MODIFIED a", "MODIFIED a", "MODIFIED a", "DELETED a"];
        let both = "&labelSelector=watch%20in%20(A,B)";
        for (path, want) in [
            (from(&start, ""), &all[..]),
            (from(version(&second), ""), &all[3..]),
            (from(&start, "&labelSelector=watch%3DA"), &["ADDED a", "MODIFIED a", "DELETED a", "ADDED a", "DELETED a"]),
            (from(&start, both), &["ADDED a", "ADDED b", "MODIFIED a", "DELETED a", "ADDED a", "DELETED a"]),
            (from(&start, "&fieldSelector=metadata.name%3Db"), &["ADDED b"]),
            (from("", ""), &["ADDED b"]),
            (from("0", ""), &["ADDED b"]),
            (from("0", "&sendInitialEvents=false&resourceVersionMatch=NotOlderThan"), &[]),
            (from(version(&moved), "&sendInitialEvents=true&resourceVersionMatch=NotOlderThan"), &["ADDED b"]),
            (format!("{maps}/b?watch=1&timeoutSeconds=1&resourceVersion={start}"), &["ADDED b"]),
            (
                format!(
                    "{}/watch/{}?timeoutSeconds=1&resourceVersion={start}",
                    "/api/v1",
                    maps.trim_start_matches("/api/v1/")
                ),
                &all,
            ),
            (from(&start, "&timeoutSeconds=1&limit=1"), &all),
        ] {
            let frames = api.frames(&path).await?;
            ensure!(named(&frames) == want, "{path}: {:?}, not {want:?}", named(&frames));
        }
        // Leaving the selector shows the object as it was known, at the revision at which it left.
        let frames = api.frames(&from(&start, "&labelSelector=watch%3DA")).await?;
        let left = &frames[2]["object"];
        ensure!(left["metadata"]["labels"]["watch"] == "A" && version(left) == version(&moved), "{left}");

        // The end of the initial state is marked, also where there is none.
        for (selector, count) in [("", 2), ("&labelSelector=watch%3Dnone", 0)] {
            let path = from(
                "",
                &format!(
                    "&sendInitialEvents=true&resourceVersionMatch=NotOlderThan&allowWatchBookmarks=true{selector}"
                ),
            );
            let frames = api.frames(&path).await?;
            let last = frames.last().context("no frames")?;
            ensure!(frames.len() == count + 1, "{frames:?}");
            ensure!(
                last["type"] == "BOOKMARK"
                    && last["object"]["kind"] == "ConfigMap"
                    && last["object"]["metadata"]["annotations"]["k8s.io/initial-events-end"] == "true"
                    && !version(&last["object"]).is_empty(),
                "{last}"
            );
        }
        // A bookmark comes before the end, so that the next watch begins there.
        let mut other = Api::new(access, "default").await?;
        let quiet = version(&api.get(&maps).await?).to_string();
        let path = format!("{maps}?watch=1&timeoutSeconds=4&allowWatchBookmarks=true&resourceVersion={quiet}");
        let (frames, made) = tokio::join!(api.frames(&path), other.map("bookmarks", json!({})));
        other.send("DELETE", "/api/v1/namespaces/default/configmaps/bookmarks", JSON, "").await?;
        let (frames, made) = (frames?, made?);
        let number = |v: &str| v.parse::<u64>().unwrap_or(0);
        ensure!(
            frames.len() == 1
                && frames[0]["type"] == "BOOKMARK"
                && number(version(&frames[0]["object"])) >= number(version(&made)),
            "{frames:?}, made at {}",
            version(&made)
        );

        // A revision that is yet to come is waited for; a list can't wait so long.
        let future = number(&quiet) + 1_000_000;
        let began = Instant::now();
        let frames = api.frames(&format!("{maps}?watch=1&timeoutSeconds=1&resourceVersion={future}")).await?;
        ensure!(frames.is_empty() && began.elapsed() < Duration::from_secs(3), "{frames:?}");
        let s = api
            .refused(
                ("GET", &format!("{maps}?resourceVersion={future}"), JSON, ""),
                (504, "Timeout", &format!("Too large resource version: {future}, current: ")),
            )
            .await?;
        ensure!(
            s["details"]["causes"][0]["reason"] == "ResourceVersionTooLarge" && s["details"]["retryAfterSeconds"] == 1,
            "{s}"
        );
        let began = Instant::now();
        api.frames(&format!("{maps}?watch=1&timeoutSeconds=-5")).await?;
        ensure!(began.elapsed() < Duration::from_millis(900), "a negative time is over at once");

        let invalid = "ListOptions.meta.k8s.io \"\" is invalid: ";
        for (query, code, why) in [
            ("watch=1&resourceVersionMatch=NotOlderThan", 422, format!("{invalid}resourceVersionMatch: Forbidden: resourceVersionMatch is forbidden for watch unless sendInitialEvents is provided")),
            ("watch=1&sendInitialEvents=true", 422, format!("{invalid}resourceVersionMatch: Forbidden: sendInitialEvents requires setting resourceVersionMatch to NotOlderThan")),
            ("sendInitialEvents=true", 422, format!("{invalid}sendInitialEvents: Forbidden: sendInitialEvents is forbidden for list")),
            ("resourceVersion=0&resourceVersionMatch=Exact", 422, format!("{invalid}resourceVersionMatch: Forbidden: resourceVersionMatch \"exact\" is forbidden for resourceVersion \"0\"")),
            ("resourceVersion=x", 400, "invalid resource version: resourceVersion: Invalid value: \"x\": strconv.ParseUint: parsing \"x\": invalid syntax".into()),
            ("watch=1&resourceVersion=-1", 400, "invalid resource version".into()),
            ("limit=1&continue=eyJ2IjoieCJ9", 400, "invalid continue token: continue key is not valid: server does not recognize this encoded version x".into()),
            ("timeoutSeconds=x", 400, "strconv.ParseInt: parsing \"x\": invalid syntax".into()),
            ("fieldSelector=spec.x%3D1", 400, "\"spec.x\" is not a known field selector: only \"metadata.name\", \"metadata.namespace\"".into()),
        ] {
            let reason = if code == 422 { "Invalid" } else { "BadRequest" };
            api.refused(("GET", &format!("{maps}?{query}"), JSON, ""), (code, reason, &why)).await?;
        }
        api.refused(
            ("GET", &format!("{maps}/b?watch=1&fieldSelector=metadata.name%3Dc"), JSON, ""),
            (400, "BadRequest", "fieldSelector metadata.name doesn't match requested name"),
        )
        .await?;
        Ok(())
    })
}

/// Watches that begin at one revision see the same changes in the same order, whatever they are in the middle of.
pub fn watches_agree(c: &Cluster) -> Result<()> {
    with(c, "agree", async |api, access| {
        let maps = format!("{}/configmaps", api.core);
        let start = version(&api.get(&maps).await?).to_string();
        const WATCHERS: usize = 10;
        let mut watchers = Vec::new();
        for _ in 0..WATCHERS {
            watchers.push(Api::new(access, "default").await?);
        }
        let write = async {
            for i in 0..60 {
                let name = format!("m{}", i % 7);
                let path = format!("{maps}/{name}");
                match i % 3 {
                    0 => drop(api.send("POST", &maps, JSON, &json!({"metadata": {"name": name}}).to_string()).await?),
                    1 => {
                        drop(api.send("PATCH", &path, MERGE, &json!({"data": {"i": i.to_string()}}).to_string()).await?)
                    }
                    _ => drop(api.send("DELETE", &path, JSON, "").await?),
                }
            }
            Ok::<_, anyhow::Error>(())
        };
        let path = format!("{maps}?watch=1&timeoutSeconds=4&resourceVersion={start}");
        let reads = watchers.iter_mut().enumerate().map(|(i, w)| {
            let path = path.clone();
            async move {
                tokio::time::sleep(Duration::from_millis(40 * i as u64)).await;
                w.frames(&path).await
            }
        });
        let (written, seen) = tokio::join!(write, futures::future::try_join_all(reads));
        written?;
        let seen = seen?;
        let told = |frames: &[Value]| -> Vec<String> {
            frames
                .iter()
                .map(|f| format!("{} {} {}", f["type"], f["object"]["metadata"]["name"], version(&f["object"])))
                .collect()
        };
        ensure!(seen[0].len() > 20, "only {} changes", seen[0].len());
        for s in &seen {
            ensure!(told(s) == told(&seen[0]), "two watches differ:\n{:?}\n{:?}", told(s), told(&seen[0]));
        }
        Ok(())
    })
}

/// A client that doesn't read costs the server nothing, and loses nothing that is still kept.
pub fn stalled_watchers_cost_nothing(c: &Cluster) -> Result<()> {
    let pid = c.server_pid().context("no server")?;
    let memory = || -> Result<u64> {
        let text = std::fs::read_to_string(format!("/proc/{pid}/status"))?;
        let line = text.lines().find(|l| l.starts_with("VmRSS")).context("no VmRSS")?;
        Ok(line.split_whitespace().nth(1).context("no number")?.parse::<u64>()? / 1024)
    };
    let before = memory()?;
    const WATCHERS: usize = 30;
    const WRITES: usize = 1_500;
    with(c, "stalled", async |api, access| {
        let maps = format!("{}/configmaps", api.core);
        api.map("m", json!({})).await?;
        let start = version(&api.get(&maps).await?).to_string();
        let mut stalled = Vec::new();
        for _ in 0..WATCHERS {
            let mut connection = access.http1(&Who::Admin).await?;
            let body =
                connection.open("GET", &format!("{maps}?watch=1&resourceVersion={start}"), &[], "").await?.into_body();
            stalled.push((connection, body));
        }
        let filler = "x".repeat(4 << 10);
        let began = Instant::now();
        let mut writers = Vec::new();
        for w in 0..6 {
            let mut connection = access.http1(&Who::Admin).await?;
            let (maps, filler) = (maps.clone(), filler.clone());
            writers.push(async move {
                for i in 0..WRITES / 6 {
                    let body = json!({"data": {format!("w{w}"): format!("{i}{filler}")}}).to_string();
                    let r = connection.send("PATCH", &format!("{maps}/m"), &[("content-type", MERGE)], body).await?;
                    ensure!(r.code == 200, "{}", r.text());
                }
                Ok(())
            });
        }
        futures::future::try_join_all(writers).await?;
        println!("     {WRITES} writes beside {WATCHERS} stalled watchers took {:?}", began.elapsed());
        // One of them reads after all.
        let (_connection, mut body) = stalled.pop().context("no watcher")?;
        let (mut text, mut lines) = (Vec::new(), 0);
        while lines < WRITES {
            let frame =
                tokio::time::timeout(Duration::from_secs(10), body.frame()).await.context("the watch stands still")?;
            let frame = frame.context("the watch ended")??;
            let data = frame.into_data().unwrap_or_default();
            lines += data.iter().filter(|b| **b == b'\n').count();
            text.extend_from_slice(&data);
        }
        let mut last = 0;
        for line in text.split(|b| *b == b'\n').filter(|l| !l.is_empty()).take(WRITES) {
            let f: Value = serde_json::from_slice(line)?;
            let v = version(&f["object"]).parse::<u64>()?;
            ensure!(f["type"] == "MODIFIED" && v > last, "{} at {v} behind {last}", f["type"]);
            last = v;
        }
        let grown = memory()?.saturating_sub(before);
        // What was written, 24 KiB each, is history once; for each of the watchers it would be a gigabyte.
        ensure!(grown < 400, "memory grew by {grown} MiB");
        println!("     and {grown} MiB");
        Ok(())
    })
}

/// Each patch language, and how it fails.
pub fn patches(c: &Cluster) -> Result<()> {
    with(c, "patching", async |api, _| {
        let deployments = format!("{}/deployments", api.apps);
        let body = json!({
            "apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "d", "finalizers": ["e2e.test/a", "e2e.test/b"]},
            "spec": {"replicas": 0, "selector": {"matchLabels": {"a": "b"}}, "template": {
                "metadata": {"labels": {"a": "b"}},
                "spec": {"containers": [{"name": "one", "image": "i", "args": ["x"]}, {"name": "two", "image": "i"}]}}},
        });
        api.must("POST", &deployments, JSON, &body).await?;
        let one = format!("{deployments}/d");
        let containers = |d: &Value| d["spec"]["template"]["spec"]["containers"].clone();
        let names = |d: &Value| -> Vec<String> {
            containers(d)
                .as_array()
                .into_iter()
                .flatten()
                .map(|c| c["name"].as_str().unwrap_or("").to_string())
                .collect()
        };
        let template = |t: Value| json!({"spec": {"template": {"spec": t}}});
        let d = api.must("PATCH", &one, STRATEGIC, &template(json!({"containers": [{"name": "one", "image": "j"}], "$setElementOrder/containers": [{"name": "two"}, {"name": "one"}]}))).await?;
        ensure!(
            names(&d) == ["two", "one"] && containers(&d)[1]["image"] == "j" && containers(&d)[1]["args"][0] == "x",
            "{}",
            containers(&d)
        );
        let d = api
            .must("PATCH", &one, STRATEGIC, &template(json!({"containers": [{"name": "two", "$patch": "delete"}]})))
            .await?;
        ensure!(names(&d) == ["one"], "{}", containers(&d));
        let d = api
            .must(
                "PATCH",
                &one,
                STRATEGIC,
                &template(json!({"containers": [{"$patch": "replace"}, {"name": "three", "image": "k"}]})),
            )
            .await?;
        ensure!(names(&d) == ["three"], "{}", containers(&d));
        let d = api
            .must(
                "PATCH",
                &one,
                STRATEGIC,
                &json!({"metadata": {"$deleteFromPrimitiveList/finalizers": ["e2e.test/a"]}}),
            )
            .await?;
        ensure!(d["metadata"]["finalizers"] == json!(["e2e.test/b"]), "{}", d["metadata"]);
        let d = api
            .must(
                "PATCH",
                &one,
                STRATEGIC,
                &json!({"spec": {"strategy": {"$retainKeys": ["type"], "type": "Recreate"}}}),
            )
            .await?;
        ensure!(d["spec"]["strategy"] == json!({"type": "Recreate"}), "{}", d["spec"]["strategy"]);
        let d =
            api.must("PATCH", &one, MERGE, &json!({"metadata": {"finalizers": null, "labels": {"x": "y"}}})).await?;
        ensure!(d["metadata"].get("finalizers").is_none() && d["metadata"]["labels"]["x"] == "y", "{}", d["metadata"]);
        let ops = json!([
            {"op": "test", "path": "/metadata/labels/x", "value": "y"}, {"op": "add", "path": "/metadata/labels/e2e~1a", "value": "1"},
            {"op": "copy", "from": "/metadata/labels/x", "path": "/metadata/labels/z"}, {"op": "move", "from": "/metadata/labels/z", "path": "/metadata/labels/w"},
            {"op": "replace", "path": "/spec/template/spec/containers/-1/image", "value": "l"}, {"op": "remove", "path": "/metadata/labels/x"},
        ]);
        let d = api.must("PATCH", &one, JSON_PATCH, &ops).await?;
        ensure!(d["metadata"]["labels"] == json!({"e2e/a": "1", "w": "y"}) && containers(&d)[0]["image"] == "l", "{d}");

        let many = format!("[{}]", vec![r#"{"op":"test","path":"/none"}"#; 10_001].join(","));
        let refused = "the server rejected our request due to an error in our request";
        for (content_type, query, patch, code, reason, why) in [
            (JSON_PATCH, "", r#"[{"op":"test","path":"/kind","value":"x"}]"#, 422, "Invalid", refused),
            (JSON_PATCH, "", r#"[{"op":"remove","path":"/nothing"}]"#, 422, "Invalid", refused),
            (
                JSON_PATCH,
                "",
                many.as_str(),
                413,
                "RequestEntityTooLarge",
                "Request entity too large: The allowed maximum operations in a JSON patch is 10000, got 10001",
            ),
            (
                JSON_PATCH,
                "",
                "{}",
                400,
                "BadRequest",
                "error decoding patch: json: cannot unmarshal object into Go value of type []handlers.jsonPatchOp",
            ),
            (
                MERGE,
                "",
                "[]",
                400,
                "BadRequest",
                "error decoding patch: json: cannot unmarshal array into Go value of type map[string]interface {}",
            ),
            (MERGE, "", "{", 400, "BadRequest", "error decoding patch: unexpected end of JSON input"),
            (STRATEGIC, "", "[", 400, "BadRequest", "unexpected end of JSON input"),
            (
                STRATEGIC,
                "",
                r#"{"spec":{"strategy":{"$retainKeys":["x"],"type":"Recreate"}}}"#,
                422,
                "Invalid",
                refused,
            ),
            (STRATEGIC, "", r#"{"spec":{"$patch":"odd"}}"#, 400, "BadRequest", "Unknown patch type found: odd"),
            (
                STRATEGIC,
                "",
                r#"{"spec":{"template":{"spec":{"containers":[{"image":"x"}]}}}}"#,
                400,
                "BadRequest",
                "map: map[image:x] does not contain declared merge key: name",
            ),
            (MERGE, "", r#"{"spec":{"replicas":"x"}}"#, 422, "Invalid", " \"\" is invalid: patch: Invalid value: \"{"),
            (
                MERGE,
                "?fieldValidation=Strict",
                r#"{"spec":{"foo":1,"paused":true,"paused":false}}"#,
                422,
                "Invalid",
                "strict decoding error: duplicate field \"spec.paused\", unknown field \"spec.foo\"",
            ),
            (
                STRATEGIC,
                "?fieldValidation=Strict",
                r#"{"spec":{"foo":1}}"#,
                422,
                "Invalid",
                "patch: Invalid value: \"map[spec:map[foo:1]]\": strict decoding error: unknown field \"spec.foo\"",
            ),
            (
                JSON_PATCH,
                "?fieldValidation=Strict",
                r#"[{"op":"add","path":"/spec/foo","value":1,"odd":2}]"#,
                422,
                "Invalid",
                "strict decoding error: json patch unknown field \"[0].odd\", unknown field \"spec.foo\"",
            ),
            (
                MERGE,
                "",
                r#"{"metadata":{"name":"other"}}"#,
                400,
                "BadRequest",
                "the name of the object (other) does not match the name on the URL (d)",
            ),
            (
                MERGE,
                "",
                r#"{"metadata":{"uid":"other"}}"#,
                409,
                "Conflict",
                "Precondition failed: UID in precondition: other, UID in object meta: ",
            ),
            (
                MERGE,
                "",
                r#"{"metadata":{"resourceVersion":"1"}}"#,
                409,
                "Conflict",
                "the object has been modified; please apply your changes to the latest version and try again",
            ),
            (
                "application/json",
                "",
                "{}",
                415,
                "UnsupportedMediaType",
                "accepted media types include: application/json-patch+json, application/merge-patch+json, application/strategic-merge-patch+json, application/apply-patch+yaml",
            ),
            (
                MERGE,
                "?force=true",
                "{}",
                422,
                "Invalid",
                "PatchOptions.meta.k8s.io \"\" is invalid: force: Forbidden: may not be specified for non-apply patch",
            ),
        ] {
            api.refused(("PATCH", &format!("{one}{query}"), content_type, patch), (code, reason, why)).await?;
        }
        // What the server owns can't be changed, and what changes nothing is no write.
        let before = api.get(&one).await?;
        let d = api.must("PATCH", &one, MERGE, &json!({"metadata": {"creationTimestamp": "2000-01-01T00:00:00Z", "generation": 77, "selfLink": "/x", "deletionTimestamp": "2000-01-01T00:00:00Z"}})).await?;
        ensure!(d == before, "{d}");
        // Warnings come with what succeeds and with what fails.
        let r =
            api.send("PATCH", &format!("{one}?dryRun=All"), MERGE, r#"{"spec":{"foo":1},"odd":{"a":1,"a":2}}"#).await?;
        let told: Vec<&str> = r.headers.get_all("warning").iter().filter_map(|v| v.to_str().ok()).collect();
        ensure!(
            r.code == 200
                && told
                    == [
                        "299 - \"duplicate field \\\"odd.a\\\"\"",
                        "299 - \"unknown field \\\"odd\\\"\"",
                        "299 - \"unknown field \\\"spec.foo\\\"\""
                    ],
            "{told:?}"
        );
        let r = api.send("PATCH", &one, MERGE, r#"{"spec":{"foo":1,"replicas":-1}}"#).await?;
        ensure!(r.code == 422 && r.headers.get_all("warning").iter().count() == 1, "{} {:?}", r.text(), r.headers);
        Ok(())
    })
}

fn managers(object: &Value) -> Vec<String> {
    let text = |e: &Value, k: &str| e[k].as_str().unwrap_or("").to_string();
    let mut all: Vec<String> = object["metadata"]["managedFields"]
        .as_array()
        .into_iter()
        .flatten()
        // The controllers write when they get to it.
        .filter(|e| e["manager"] != "kube-controller-manager")
        .map(|e| {
            format!("{} {} {}", text(e, "manager"), text(e, "operation"), text(e, "subresource")).trim_end().to_string()
        })
        .collect();
    all.sort();
    all
}

/// Server-side apply: owners, conflicts, what goes and what stays.
pub fn applies(c: &Cluster) -> Result<()> {
    with(c, "applying", async |api, _| {
        let deployments = format!("{}/deployments", api.apps);
        let one = format!("{deployments}/d");
        let config = |spec: Value| json!({"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "d"}, "spec": spec});
        let full = |replicas: Value, image: &str| {
            let mut spec = json!({"selector": {"matchLabels": {"a": "b"}}, "template": {"metadata": {"labels": {"a": "b"}},
                "spec": {"containers": [{"name": "c", "image": image, "resources": {"limits": {"cpu": "1000m"}}}]}}});
            if !replicas.is_null() {
                spec["replicas"] = replicas;
            }
            config(spec)
        };
        let by = |manager: &str| format!("{one}?fieldManager={manager}");
        let r = api.send("PATCH", &by("a"), APPLY, &full(json!(0), "i").to_string()).await?;
        ensure!(r.code == 201 && managers(&r.json()) == ["a Apply"], "{} {}", r.code, r.text());
        let first = r.json();
        let again = api.must("PATCH", &by("a"), APPLY, &full(json!(0), "i")).await?;
        ensure!(version(&again) == version(&first), "applying again made a revision: {again}");

        // Another may own the same value, but not another one.
        let b = |replicas: i64| config(json!({"replicas": replicas}));
        let shared = api.must("PATCH", &by("b"), APPLY, &b(0)).await?;
        ensure!(managers(&shared) == ["a Apply", "b Apply"], "{:?}", managers(&shared));
        let s = api
            .refused(
                ("PATCH", &by("b"), APPLY, &b(3).to_string()),
                (409, "Conflict", "Apply failed with 1 conflict: conflict with \"a\": .spec.replicas"),
            )
            .await?;
        ensure!(
            s["details"]["causes"]
                == json!([{"reason": "FieldManagerConflict", "message": "conflict with \"a\"", "field": ".spec.replicas"}]),
            "{s}"
        );
        let forced = api.must("PATCH", &format!("{}&force=true", by("b")), APPLY, &b(3)).await?;
        ensure!(forced["spec"]["replicas"] == 3, "{}", forced["spec"]);
        // Who no longer says it leaves it to who still does.
        let kept = api.must("PATCH", &by("a"), APPLY, &full(Value::Null, "i")).await?;
        ensure!(kept["spec"]["replicas"] == 3, "{}", kept["spec"]["replicas"]);
        // Updaters own, too, by subresource and version.
        api.must(
            "PUT",
            &format!("{one}/scale?fieldManager=scaler"),
            JSON,
            &json!({"metadata": {"name": "d"}, "spec": {"replicas": 2}}),
        )
        .await?;
        let status = json!({"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "d"}, "status": {"observedGeneration": 1}});
        api.must("PATCH", &format!("{one}/status?fieldManager=st&force=true"), APPLY, &status).await?;
        let now = api.get(&one).await?;
        let all = managers(&now);
        ensure!(all.contains(&"scaler Update scale".into()) && all.contains(&"st Apply status".into()), "{all:?}");
        api.refused(
            ("PATCH", &by("b"), APPLY, &b(3).to_string()),
            (409, "Conflict", "Apply failed with 1 conflict: conflict with \"scaler\" with subresource \"scale\" using apps/v1: .spec.replicas"),
        )
        .await?;
        api.must(
            "PATCH",
            &format!("{one}?fieldManager=c"),
            MERGE,
            &json!({"metadata": {"labels": {"l": "1"}}, "spec": {"minReadySeconds": 5}}),
        )
        .await?;
        let mut two = b(4);
        two["metadata"]["labels"] = json!({"l": "2"});
        two["spec"]["minReadySeconds"] = json!(6);
        let s = api.refused(("PATCH", &by("b"), APPLY, &two.to_string()), (409, "Conflict", "Apply failed with 3 conflicts: conflicts with \"c\" using apps/v1:\n- .metadata.labels.l\n- .spec.minReadySeconds\nconflicts with \"scaler\" with subresource \"scale\" using apps/v1:\n- .spec.replicas")).await?;
        ensure!(s["details"]["causes"].as_array().map_or(0, Vec::len) == 3, "{s}");

        // What doesn't fit is refused by its path; what is missing too.
        let typed = "failed to create typed patch object (";
        let odd = |v: Value| {
            let mut o = full(json!(0), "i");
            o["spec"]["odd"] = v;
            o.to_string()
        };
        let depth = format!(
            "{}{}{}",
            r#"{"apiVersion":"apps/v1","kind":"Deployment","metadata":{"name":"d"},"spec":"#,
            "{\"a\":".repeat(100_000),
            "1"
        );
        for (query, body, code, reason, why) in [
            ("fieldManager=a", odd(json!(1)), 400, "BadRequest", ".spec.odd: field not declared in schema"),
            ("fieldManager=a&fieldValidation=Strict", odd(json!(1)), 400, "BadRequest", ".spec.odd: field not declared in schema"),
            ("fieldManager=a", config(json!({"replicas": "x"})).to_string(), 400, "BadRequest", typed),
            ("fieldManager=a", config(json!({"template": {"spec": {"containers": [{"name": "c"}, {"name": "c"}]}}})).to_string(), 400, "BadRequest", "duplicate entries for key [name=\"c\"]"),
            ("", b(1).to_string(), 422, "Invalid", "PatchOptions.meta.k8s.io \"\" is invalid: fieldManager: Required value: is required for apply patch"),
            ("fieldManager=a", depth, 400, "BadRequest", "error decoding YAML: "),
            ("fieldManager=a", "a: [".to_string(), 400, "BadRequest", "error decoding YAML: "),
            ("fieldManager=a", r#"{"apiVersion":"apps/v2","kind":"Deployment","metadata":{"name":"d"}}"#.to_string(), 400, "BadRequest", "apps/v2"),
            ("fieldManager=a", r#"{"apiVersion":"apps/v1","kind":"Deployment","metadata":{"name":"d","managedFields":[{"manager":"x"}]}}"#.to_string(), 400, "BadRequest", "metadata.managedFields must be nil"),
            ("fieldManager=a", r#"{"apiVersion":"apps/v1","kind":"Deployment","metadata":{"name":"e"}}"#.to_string(), 400, "BadRequest", "the name of the object (e) does not match the name on the URL (d)"),
            ("fieldManager=a&fieldValidation=Strict", "\napiVersion: apps/v1\nkind: Deployment\nmetadata:\n  name: d\nspec:\n  replicas: 1\n  replicas: 2\n".to_string(), 400, "BadRequest", "error strict decoding YAML: error converting YAML to JSON: yaml: unmarshal errors:\n  line 8: key \"replicas\" already set in map"),
        ] {
            api.refused(("PATCH", &format!("{one}?{query}"), APPLY, &body), (code, reason, why)).await?;
        }
        // A scale can be applied, too: what it stands for is one field of the object.
        let scale = |replicas: Value| {
            json!({"apiVersion": "autoscaling/v1", "kind": "Scale", "metadata": {"name": "d"}, "spec": {"replicas": replicas}}).to_string()
        };
        let applied = format!("{one}/scale?fieldManager=autoscaler");
        api.refused(
            ("PATCH", &applied, APPLY, &scale(json!(5))),
            (409, "Conflict", "conflict with \"scaler\" with subresource \"scale\" using apps/v1: .spec.replicas"),
        )
        .await?;
        let r = api.send("PATCH", &format!("{applied}&force=true"), APPLY, &scale(json!(5))).await?;
        ensure!(r.code == 200 && r.json()["kind"] == "Scale" && r.json()["spec"]["replicas"] == 5, "{}", r.text());
        ensure!(managers(&api.get(&one).await?).contains(&"autoscaler Apply scale".into()), "nobody owns the scale");
        api.refused(
            ("PATCH", &format!("{one}/scale"), MERGE, r#"{"spec":{"replicas":"7"}}"#),
            (
                422,
                "Invalid",
                "json: cannot unmarshal string into Go struct field ScaleSpec.spec.replicas of type int32",
            ),
        )
        .await?;
        api.refused(
            ("PATCH", &format!("{one}/scale"), MERGE, r#"{"metadata":{"resourceVersion":"1"}}"#),
            (409, "Conflict", "the object has been modified"),
        )
        .await?;
        // Ownership can be given up, and is kept within bounds.
        let reset = api.must("PATCH", &one, MERGE, &json!({"metadata": {"managedFields": [{}]}})).await?;
        ensure!(managers(&reset).is_empty(), "{:?}", managers(&reset));
        let mine = api.must("PATCH", &format!("{}&force=true", by("a")), APPLY, &b(1)).await?;
        ensure!(managers(&mine) == ["a Apply", "before-first-apply Update"], "{:?}", managers(&mine));
        for i in 0..14 {
            api.must(
                "PATCH",
                &format!("{one}?fieldManager=m{i:02}"),
                MERGE,
                &json!({"metadata": {"annotations": {format!("e2e/{i}"): "x"}}}),
            )
            .await?;
        }
        let now = api.get(&one).await?;
        let updaters = managers(&now).iter().filter(|m| m.contains(" Update")).count();
        ensure!(updaters == 10 && managers(&now).contains(&"ancient-changes Update".into()), "{:?}", managers(&now));
        // Broken bookkeeping is replaced, not stored.
        let broken = json!({"metadata": {"managedFields": [{"manager": "x", "operation": "Update", "apiVersion": "apps/v1", "fieldsType": "FieldsV1", "fieldsV1": {"broken": 1}}]}});
        let r = api.send("PATCH", &one, MERGE, &broken.to_string()).await?;
        ensure!(r.code == 200 && managers(&r.json()).len() == managers(&now).len(), "{}", r.text());
        Ok(())
    })
}

/// A field that two versions call by two names is one field, whoever wrote it in which.
pub fn managers_of_two_versions(c: &Cluster) -> Result<()> {
    with(c, "versions", async |api, _| {
        let path = |version: &str, who: &str| {
            let root = api_root(&api.core, version);
            format!("{root}/horizontalpodautoscalers/h?fieldManager={who}")
        };
        let (one, two) = (path("v1", "one"), path("v2", "two"));
        let target = json!({"apiVersion": "apps/v1", "kind": "Deployment", "name": "d"});
        let v1 = |percent: i64| {
            json!({"apiVersion": "autoscaling/v1", "kind": "HorizontalPodAutoscaler", "metadata": {"name": "h"},
            "spec": {"scaleTargetRef": target, "maxReplicas": 3, "targetCPUUtilizationPercentage": percent}})
        };
        let metrics = |percent: i64| json!([{"type": "Resource", "resource": {"name": "cpu", "target": {"type": "Utilization", "averageUtilization": percent}}}]);
        let r = api.send("PATCH", &one, APPLY, &v1(50).to_string()).await?;
        ensure!(r.code == 201, "{}", r.text());
        let now = api.must("PATCH", &two, MERGE, &json!({"spec": {"metrics": metrics(60)}})).await?;
        let owned = |object: &Value, who: &str| -> String {
            let all = object["metadata"]["managedFields"].as_array().cloned().unwrap_or_default();
            all.iter()
                .find(|e| e["manager"] == who)
                .map_or(String::new(), |e| format!("{} {}", e["apiVersion"], e["fieldsV1"]))
        };
        let (first, second) = (owned(&now, "one"), owned(&now, "two"));
        ensure!(
            first.contains("autoscaling/v1") && first.contains("f:maxReplicas") && !first.contains("targetCPU"),
            "{first}"
        );
        ensure!(second.contains("autoscaling/v2") && second.contains("f:metrics"), "{second}");
        api.refused(
            ("PATCH", &one, APPLY, &v1(50).to_string()),
            (
                409,
                "Conflict",
                "Apply failed with 1 conflict: conflict with \"two\" using autoscaling/v2: .spec.metrics",
            ),
        )
        .await?;
        let agreed = api.must("PATCH", &one, APPLY, &v1(60)).await?;
        ensure!(
            agreed["spec"]["targetCPUUtilizationPercentage"] == 60 && owned(&agreed, "one").contains("targetCPU"),
            "{agreed}"
        );
        Ok(())
    })
}

fn api_root(core: &str, version: &str) -> String {
    core.replace("/api/v1/", &format!("/apis/autoscaling/{version}/"))
}

/// Unknown and repeated fields of built-in kinds.
pub fn fields_are_validated(c: &Cluster) -> Result<()> {
    with(c, "fields", async |api, _| {
        let deployments = format!("{}/deployments", api.apps);
        let rest = r#""selector":{"matchLabels":{"app":"nginx"}},"template":{"metadata":{"labels":{"app":"nginx"}},"spec":{"containers":[{"name":"nginx","image":"nginx:latest"}]}}}}"#;
        let typed = format!(
            r#"{{"apiVersion":"apps/v1","kind":"Deployment","metadata":{{"name":"my-dep","labels":{{"app":"nginx"}}}},"spec":{{"unknownField":"foo","replicas":2,"replicas":3,{rest}"#
        );
        let meta = format!(
            r#"{{"apiVersion":"apps/v1","kind":"Deployment","metadata":{{"name":"my-dep","unknownMeta":"foo","labels":{{"app":"nginx"}}}},"spec":{{{rest}"#
        );
        let strict = format!("{deployments}?fieldManager=m&fieldValidation=Strict");
        for (content_type, body, why) in [
            (
                JSON,
                typed.as_str(),
                "strict decoding error: unknown field \"spec.unknownField\", duplicate field \"spec.replicas\"",
            ),
            (JSON, meta.as_str(), "strict decoding error: unknown field \"metadata.unknownMeta\""),
            (
                "application/yaml",
                "apiVersion: apps/v1\nkind: Deployment\nmetadata: {name: d}\nspec:\n  replicas: 1\n  replicas: 2\n  foo: 1\n",
                "strict decoding error: yaml: unmarshal errors:\n  line 6: key \"replicas\" already set in map, unknown field \"spec.foo\"",
            ),
        ] {
            let message = format!("Deployment in version \"v1\" cannot be handled as a Deployment: {why}");
            api.refused(("POST", &strict, content_type, body), (400, "BadRequest", &message)).await?;
        }
        for (mode, warnings) in [("Warn", 2), ("", 2), ("Ignore", 0)] {
            let r = api.send("POST", &format!("{deployments}?dryRun=All&fieldValidation={mode}"), JSON, &typed).await?;
            let told: Vec<&str> = r.headers.get_all("warning").iter().filter_map(|v| v.to_str().ok()).collect();
            ensure!(
                r.code == 201 && told.len() == warnings && r.json()["spec"]["replicas"] == 3,
                "{mode}: {told:?} {}",
                r.text()
            );
            ensure!(warnings == 0 || told[0] == "299 - \"unknown field \\\"spec.unknownField\\\"\"", "{told:?}");
        }
        api.refused(
            ("POST", &format!("{deployments}?fieldValidation=Some"), JSON, &meta),
            (422, "Invalid", "CreateOptions.meta.k8s.io \"\" is invalid: fieldValidation: Unsupported value: \"Some\": supported values: \"\", \"Ignore\", \"Strict\", \"Warn\""),
        )
        .await?;
        Ok(())
    })
}

/// Preconditions, policies, dry runs, grace, and what is answered.
pub fn deletes(c: &Cluster) -> Result<()> {
    with(c, "deleting", async |api, _| {
        let maps = format!("{}/configmaps", api.core);
        let made = api.map("m", json!({"d": "1"})).await?;
        let one = format!("{maps}/m");
        let uid = made["metadata"]["uid"].as_str().unwrap_or_default().to_string();
        let conflict = "Operation cannot be fulfilled on ConfigMap \"m\": the ";
        let invalid = "DeleteOptions.meta.k8s.io \"\" is invalid: ";
        for (query, body, code, reason, why) in [
            ("", r#"{"preconditions":{"uid":"x"}}"#, 409, "Conflict", format!("{conflict}UID in the precondition (x) does not match the UID in record ({uid}). The object might have been deleted and then recreated")),
            ("", r#"{"preconditions":{"resourceVersion":"1"}}"#, 409, "Conflict", format!("{conflict}ResourceVersion in the precondition (1) does not match the ResourceVersion in record ({}). The object might have been modified", version(&made))),
            ("", r#"{"propagationPolicy":"Odd"}"#, 422, "Invalid", format!("{invalid}propagationPolicy: Unsupported value: \"Odd\": supported values: \"Foreground\", \"Background\", \"Orphan\", \"nil\"")),
            ("", r#"{"propagationPolicy":"Orphan","orphanDependents":true}"#, 422, "Invalid", format!("{invalid}propagationPolicy: Invalid value: \"Orphan\": orphanDependents and deletionPropagation cannot be both set")),
            ("", r#"{"dryRun":["Some"]}"#, 422, "Invalid", format!("{invalid}dryRun: Unsupported value: [\"Some\"]: supported values: \"All\"")),
            ("?propagationPolicy=Odd", "", 422, "Invalid", format!("{invalid}propagationPolicy: Unsupported value: \"Odd\"")),
            ("", r#"{"ignoreStoreReadErrorWithClusterBreakingPotential":true}"#, 422, "Invalid", "is exclusively used to delete corrupt object(s), try again by removing this option".to_string()),
            ("", "{bad", 400, "BadRequest", "the object provided is unrecognized (must be of type DeleteOptions): couldn't get version/kind; json parse error: invalid character 'b'".to_string()),
        ] {
            api.refused(("DELETE", &format!("{one}{query}"), JSON, body), (code, reason, &why)).await?;
        }
        for (query, body) in [("?dryRun=All", ""), ("", r#"{"dryRun":["All"]}"#), ("?dryRun=All", "{}")] {
            let r = api.send("DELETE", &format!("{one}{query}"), JSON, body).await?;
            ensure!(r.code == 200, "{}", r.text());
            api.get(&one).await?;
        }
        // Foreground: marked, and accepted rather than done.
        let r = api
            .send(
                "DELETE",
                &one,
                JSON,
                r#"{"kind":"DeleteOptions","apiVersion":"v1","propagationPolicy":"Foreground"}"#,
            )
            .await?;
        let marked = r.json();
        ensure!(
            r.code == 202
                && marked["metadata"]["finalizers"] == json!(["foregroundDeletion"])
                && marked["metadata"]["deletionTimestamp"].is_string(),
            "{} {marked}",
            r.code
        );
        for i in 0..6 {
            api.map(&format!("c{i}"), json!({"half": (i % 2).to_string()})).await?;
        }
        // Deletion of what a selector names: dry, a page of it, all of it.
        let count = async |api: &mut Api| -> Result<usize> {
            Ok(api.get(&format!("{maps}?labelSelector=half")).await?["items"].as_array().map_or(0, Vec::len))
        };
        for (query, left) in [
            ("labelSelector=half%3D1&dryRun=All", 6),
            ("labelSelector=half%3D1&limit=2", 4),
            ("labelSelector=half%3D1", 3),
            ("labelSelector=half&fieldSelector=metadata.name%3Dc0", 2),
        ] {
            let r = api.send("DELETE", &format!("{maps}?{query}"), JSON, "").await?;
            ensure!(r.code == 200 && r.json()["kind"] == "ConfigMapList", "{}", r.text());
            ensure!(count(api).await? == left, "{query} left {}", count(api).await?);
        }
        api.refused(
            ("DELETE", &format!("{maps}?resourceVersionMatch=Exact"), JSON, ""),
            (422, "Invalid", "ListOptions.meta.k8s.io"),
        )
        .await?;
        // Names are generated anew when they are taken; an object that is gone is not brought back by its owner's PUT.
        let made = api.must("POST", &maps, JSON, &json!({"metadata": {"generateName": "gen-"}})).await?;
        ensure!(made["metadata"]["name"].as_str().is_some_and(|n| n.len() == 9), "{made}");
        let leases = api.core.replace("/api/v1/", "/apis/coordination.k8s.io/v1/") + "/leases";
        let lease = json!({"metadata": {"name": "l", "resourceVersion": "7"}, "spec": {"holderIdentity": "x"}});
        let r = api.send("PUT", &format!("{leases}/l"), JSON, &lease.to_string()).await?;
        ensure!(r.code == 201, "a Lease is created by PUT: {} {}", r.code, r.text());
        let gone = json!({"metadata": {"name": "gone", "uid": "x"}, "spec": {}});
        api.refused(
            ("PUT", &format!("{leases}/gone"), JSON, &gone.to_string()),
            (409, "Conflict", "Precondition failed: UID in precondition: x, UID in object meta: "),
        )
        .await?;
        api.refused(
            ("PUT", &format!("{maps}/none"), JSON, r#"{"metadata":{"name":"none"}}"#),
            (404, "NotFound", "configmaps \"none\" not found"),
        )
        .await?;
        api.refused(
            ("PUT", &format!("{maps}/c2"), JSON, r#"{"metadata":{}}"#),
            (400, "BadRequest", "the name of the object (c2 based on URL) was undeterminable: name must be provided"),
        )
        .await?;
        // An owner twice is one owner.
        let owner = json!({"apiVersion": "v1", "kind": "ConfigMap", "name": "c2", "uid": api.get(&format!("{maps}/c2")).await?["metadata"]["uid"]});
        let body = json!({"metadata": {"name": "owned", "ownerReferences": [owner, owner]}}).to_string();
        let r = api.send("POST", &maps, JSON, &body).await?;
        let told = r.headers.get("warning").and_then(|v| v.to_str().ok()).unwrap_or("").to_string();
        ensure!(
            r.json()["metadata"]["ownerReferences"].as_array().map_or(0, Vec::len) == 1
                && told.contains("metadata.ownerReferences contains duplicate entries; API server dedups"),
            "{told} {}",
            r.text()
        );
        Ok(())
    })
}

const POD: &str = r#"{"terminationGracePeriodSeconds":1,"nodeSelector":{"e2e":"nowhere"},"containers":[{"name":"c","image":"example.com/none"}]}"#;

/// Cascading deletion: background, foreground, orphans, two owners, a ring.
pub fn garbage(c: &Cluster) -> Result<()> {
    with(c, "garbage", async |api, _| {
        let pods = format!("{}/pods", api.core);
        let rcs = format!("{}/replicationcontrollers", api.core);
        let deployments = format!("{}/deployments", api.apps);
        let sets = format!("{}/replicasets", api.apps);
        let spec: Value = serde_json::from_str(POD)?;
        async fn count(api: &mut Api, path: &str) -> Result<usize> {
            Ok(api.get(path).await?["items"].as_array().map_or(0, Vec::len))
        }
        async fn until(api: &mut Api, path: &str, want: usize) -> Result<()> {
            let end = Instant::now() + Duration::from_secs(30);
            loop {
                let n = count(api, path).await?;
                if n == want {
                    return Ok(());
                }
                if Instant::now() > end {
                    bail!("{path}: {n} items, not {want}");
                }
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
        }
        let template = |label: &str| json!({"metadata": {"labels": {"app": label}}, "spec": spec.clone()});
        let rc = |name: &str, replicas: usize| json!({"metadata": {"name": name}, "spec": {"replicas": replicas, "selector": {"app": name}, "template": template(name)}});
        let of = |label: &str| format!("{pods}?labelSelector=app%3D{label}");
        let options = |policy: &str| json!({"propagationPolicy": policy}).to_string();

        // All at once, so that controllers work side by side.
        for (name, n) in [("background", 3), ("orphan", 3), ("foreground", 100), ("leaver", 4), ("stayer", 0)] {
            api.must("POST", &rcs, JSON, &rc(name, n)).await?;
        }
        for name in ["d-background", "d-orphan"] {
            let d = json!({"metadata": {"name": name}, "spec": {"replicas": 2, "selector": {"matchLabels": {"app": name}}, "template": template(name)}});
            api.must("POST", &deployments, JSON, &d).await?;
        }
        for (label, n) in
            [("background", 3), ("orphan", 3), ("leaver", 4), ("d-background", 2), ("d-orphan", 2), ("foreground", 100)]
        {
            until(api, &of(label), n).await?;
        }
        // Background: the owner goes at once, the rest follows.
        let r = api.send("DELETE", &format!("{rcs}/background"), JSON, &options("Background")).await?;
        ensure!(r.code == 200, "{}", r.text());
        let r = api.send("DELETE", &format!("{deployments}/d-background"), JSON, &options("Background")).await?;
        ensure!(r.code == 200, "{}", r.text());
        // Foreground: the owner waits for its hundred pods.
        let r = api.send("DELETE", &format!("{rcs}/foreground"), JSON, &options("Foreground")).await?;
        ensure!(r.code == 202, "{} {}", r.code, r.text());
        let end = Instant::now() + Duration::from_secs(40);
        loop {
            // In this order: pods that are counted after their owner is seen gone must be gone.
            let owner = api.connection.get(&format!("{rcs}/foreground")).await?;
            let left = count(api, &of("foreground")).await?;
            if owner.code == 404 {
                ensure!(left == 0, "the owner went before {left} of its pods");
                break;
            }
            ensure!(Instant::now() < end, "{left} pods are left");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        until(api, &of("background"), 0).await?;
        until(api, &of("d-background"), 0).await?;
        until(api, &format!("{sets}?labelSelector=app%3Dd-background"), 0).await?;
        // Orphans stay, without their owner.
        api.must("DELETE", &format!("{rcs}/orphan"), JSON, &json!({"propagationPolicy": "Orphan"})).await?;
        api.must("DELETE", &format!("{deployments}/d-orphan"), JSON, &json!({"orphanDependents": true})).await?;
        for path in [format!("{rcs}/orphan"), format!("{deployments}/d-orphan")] {
            let end = Instant::now() + Duration::from_secs(20);
            while api.connection.get(&path).await?.code != 404 {
                ensure!(Instant::now() < end, "{path} never goes");
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
        }
        // A second owner that stays keeps them, though the first waits in the foreground.
        let stayer = api.get(&format!("{rcs}/stayer")).await?;
        let second = json!({"apiVersion": "v1", "kind": "ReplicationController", "name": "stayer", "uid": stayer["metadata"]["uid"]});
        let leavers = api.get(&of("leaver")).await?;
        let mut kept = 0;
        for p in leavers["items"].as_array().into_iter().flatten().take(2) {
            let path = format!("{pods}/{}", p["metadata"]["name"].as_str().unwrap_or_default());
            let ops = json!([{"op": "add", "path": "/metadata/ownerReferences/-", "value": second}]);
            api.must("PATCH", &path, JSON_PATCH, &ops).await?;
            kept += 1;
        }
        api.send("DELETE", &format!("{rcs}/leaver"), JSON, &options("Foreground")).await?;
        until(api, &of("leaver"), kept).await?;
        let end = Instant::now() + Duration::from_secs(20);
        while api.connection.get(&format!("{rcs}/leaver")).await?.code != 404 {
            ensure!(Instant::now() < end, "the owner waits for pods that aren't its own alone");
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        // A ring goes as a whole.
        let mut uids = Vec::new();
        for i in 0..3 {
            let pod =
                json!({"metadata": {"name": format!("ring{i}"), "labels": {"app": "ring"}}, "spec": spec.clone()});
            uids.push(api.must("POST", &pods, JSON, &pod).await?["metadata"]["uid"].clone());
        }
        for i in 0..3 {
            let next = (i + 1) % 3;
            let owner = json!({"apiVersion": "v1", "kind": "Pod", "name": format!("ring{next}"), "uid": uids[next], "controller": true, "blockOwnerDeletion": true});
            api.must("PATCH", &format!("{pods}/ring{i}"), MERGE, &json!({"metadata": {"ownerReferences": [owner]}}))
                .await?;
        }
        api.send("DELETE", &format!("{pods}/ring0"), JSON, &options("Foreground")).await?;
        until(api, &of("ring"), 0).await?;
        // All this while nobody has taken the orphans for garbage.
        ensure!(count(api, &of("orphan")).await? == 3 && count(api, &of("d-orphan")).await? == 2, "orphans went");
        ensure!(
            count(api, &format!("{sets}?labelSelector=app%3Dd-orphan")).await? == 1,
            "the orphaned ReplicaSet went"
        );
        Ok(())
    })
}

/// Namespaces: their finalizers, status, and their end, pods first.
pub fn namespaces(c: &Cluster) -> Result<()> {
    c.access()?.inside(async |access| {
        let mut api = Api::new(access, "e2e-lifecycle").await?;
        let all = "/api/v1/namespaces";
        let one = format!("{all}/e2e-lifecycle");
        let until_gone = async |api: &mut Api| -> Result<()> {
            let end = Instant::now() + Duration::from_secs(30);
            while api.connection.get(&one).await?.code != 404 {
                ensure!(Instant::now() < end, "the namespace never goes");
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
            Ok(())
        };
        api.send("DELETE", &one, JSON, "").await?;
        until_gone(&mut api).await?;
        let made = api.must("POST", all, JSON, &json!({"metadata": {"name": "e2e-lifecycle"}})).await?;
        ensure!(made["status"]["phase"] == "Active" && made["spec"]["finalizers"] == json!(["kubernetes"]), "{made}");
        ensure!(made["metadata"]["labels"]["kubernetes.io/metadata.name"] == "e2e-lifecycle", "{made}");
        let patched = api.must("PATCH", &one, MERGE, &json!({"metadata": {"labels": {"testLabel": "testValue"}}})).await?;
        let mut put = patched.clone();
        put["metadata"]["labels"]["e2e"] = "put".into();
        let put = api.must("PUT", &one, JSON, &put).await?;
        ensure!(put["metadata"]["labels"]["e2e"] == "put" && put["metadata"]["labels"]["testLabel"] == "testValue", "{put}");
        let condition = |t: &str| json!({"type": t, "status": "True", "reason": "E2E", "message": "said by a test", "lastTransitionTime": null});
        let s = api.must("PATCH", &format!("{one}/status"), MERGE, &json!({"status": {"conditions": [condition("StatusPatched")]}})).await?;
        ensure!(s["status"]["conditions"][0]["type"] == "StatusPatched" && s["status"]["phase"] == "Active", "{s}");
        let mut now = api.get(&format!("{one}/status")).await?;
        now["status"]["conditions"].as_array_mut().context("no conditions")?.push(condition("StatusUpdate"));
        let s = api.must("PUT", &format!("{one}/status"), JSON, &now).await?;
        ensure!(s["status"]["conditions"][1]["type"] == "StatusUpdate", "{s}");
        let mut finalized = api.get(&one).await?;
        finalized["spec"]["finalizers"] = json!(["kubernetes", "e2e.example.com/fake"]);
        let f = api.must("PUT", &format!("{one}/finalize"), JSON, &finalized).await?;
        ensure!(f["spec"]["finalizers"].as_array().map_or(0, Vec::len) == 2, "{f}");
        let mut finalized = api.get(&one).await?;
        finalized["spec"]["finalizers"] = json!(["kubernetes"]);
        let f = api.must("PUT", &format!("{one}/finalize"), JSON, &finalized).await?;
        ensure!(f["spec"]["finalizers"] == json!(["kubernetes"]), "{f}");

        // A pod that is held back holds back everything else (KEP-5080).
        let spec: Value = serde_json::from_str(POD)?;
        let pod = json!({"metadata": {"name": "p", "finalizers": ["e2e.test/hold"]}, "spec": spec});
        let (pods, maps, services) = (format!("{one}/pods"), format!("{one}/configmaps"), format!("{one}/services"));
        let end = Instant::now() + Duration::from_secs(10);
        while api.connection.get(&format!("{one}/serviceaccounts/default")).await?.code != 200 {
            ensure!(Instant::now() < end, "no service account");
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        api.must("POST", &pods, JSON, &pod).await?;
        api.must("POST", &services, JSON, &json!({"metadata": {"name": "s"}, "spec": {"ports": [{"port": 80}]}})).await?;
        api.map("m", json!({})).await?;
        let r = api.send("DELETE", &one, JSON, "").await?;
        ensure!(r.code == 200 && r.json()["status"]["phase"] == "Terminating", "{}", r.text());
        tokio::time::sleep(Duration::from_millis(1500)).await;
        ensure!(api.connection.get(&format!("{maps}/m")).await?.code == 200, "a ConfigMap went before a pod");
        let pod = api.get(&format!("{pods}/p")).await?;
        ensure!(pod["metadata"]["deletionTimestamp"].is_string(), "{pod}");
        api.refused(("POST", &maps, JSON, r#"{"metadata":{"name":"late"}}"#), (403, "Forbidden", "because it is being terminated")).await?;
        let now = api.get(&one).await?;
        let told = |kind: &str| now["status"]["conditions"].as_array().into_iter().flatten().any(|c| c["type"] == kind && c["status"] == "True");
        ensure!(told("NamespaceFinalizersRemaining") && told("NamespaceContentRemaining"), "{}", now["status"]);
        api.must("PATCH", &format!("{pods}/p"), MERGE, &json!({"metadata": {"finalizers": null}})).await?;
        until_gone(&mut api).await?;
        for path in [pods, maps, services] {
            ensure!(api.get(&path).await?["items"].as_array().is_some_and(Vec::is_empty), "{path} isn't empty");
        }
        Ok(())
    })
}

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
        let differ: Vec<_> = told.symmetric_difference(&listed).collect();
        ensure!(differ.is_empty(), "the documents differ in {differ:?}");
        Ok(())
    })
}
