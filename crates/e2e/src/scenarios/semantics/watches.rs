//! Lists and watches: where they begin, what they tell, how they end, and when history is gone.

use super::{Api, JSON, MERGE, named, version, with};
use crate::cluster::Cluster;
use crate::wire::Who;
use anyhow::{Context, Result, ensure};
use http_body_util::BodyExt;
use serde_json::{Value, json};
use std::time::Duration;
use tokio::time::Instant;

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
        let old = maps.replace("/api/v1/", "/api/v1/watch/");
        // Only that path watches a name: else it is read.
        ensure!(api.get(&format!("{maps}/b?watch=1")).await?["metadata"]["name"] == "b", "a name is read");
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
            (format!("{old}/b?timeoutSeconds=1&resourceVersion={start}"), &["ADDED b"]),
            (format!("{old}?timeoutSeconds=1&resourceVersion={start}"), &all),
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
            ("GET", &format!("{old}/b?fieldSelector=metadata.name%3Dc"), JSON, ""),
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
