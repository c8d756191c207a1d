//! Definitions that come, go and change while others count on their objects: owners, quotas, namespaces.

use super::{CRDS, Crd, JSON, MERGE, names, open, version, with};
use crate::cluster::Cluster;
use crate::wire::PATIENCE;
use anyhow::{Result, ensure};
use serde_json::{Value, json};
use std::time::{Duration, Instant};

const ROUNDS: usize = 10;
const OBJECTS: usize = 8;

/// Waits until `path` answers `code`.
async fn until(crd: &mut Crd, path: &str, code: u16) -> Result<()> {
    let end = Instant::now() + PATIENCE;
    loop {
        let r = crd.send("GET", path, JSON, Value::Null).await?;
        if r.code == code {
            return Ok(());
        }
        ensure!(Instant::now() < end, "{path}: {} rather than {code}: {}", r.code, r.text());
        tokio::time::sleep(Duration::from_millis(40)).await;
    }
}

async fn owned(crd: &mut Crd, name: &str, owner: &Value) -> Result<()> {
    let reference = json!([{"apiVersion": owner["apiVersion"], "kind": "Widget",
        "name": owner["metadata"]["name"], "uid": owner["metadata"]["uid"]}]);
    let maps = format!("/api/v1/namespaces/{}/configmaps", crd.namespace);
    crd.must("POST", &maps, JSON, json!({"metadata": {"name": name, "ownerReferences": reference}})).await?;
    Ok(())
}

/// Ten times in a row, without a pause: a definition, objects, what they own; then the definition goes.
pub fn come_and_go(c: &Cluster) -> Result<()> {
    with(c, "crd-quick", async |crd, _| {
        let count = format!("count/widgets.{}", crd.group);
        let quotas = format!("/api/v1/namespaces/{}/resourcequotas", crd.namespace);
        let quota = json!({"metadata": {"name": "q"}, "spec": {"hard": {count.clone(): OBJECTS.to_string()}}});
        crd.must("POST", &quotas, JSON, quota).await?;
        let path = format!("{CRDS}/{}", crd.name());
        let end = Instant::now() + 2 * PATIENCE;
        for round in 0..ROUNDS {
            // What was there under the same name has no part in this.
            crd.define(json!([version("v1", open())])).await?;
            for i in 0..OBJECTS {
                let made = loop {
                    let (objects, body) =
                        (crd.objects("v1"), crd.widget("v1", &format!("w{i}"), json!({"round": round})));
                    let r = crd.send("POST", &objects, JSON, body).await?;
                    // Usage of the last round may not have been recounted, or not counted at all yet.
                    let counted =
                        !r.text().contains("exceeded quota") && !r.text().contains("status unknown for quota");
                    if r.code == 403 && !counted && Instant::now() < end {
                        tokio::time::sleep(Duration::from_millis(50)).await;
                        continue;
                    }
                    ensure!(r.code == 201, "round {round}: {} {}", r.code, r.text());
                    break r.json();
                };
                if i < 2 {
                    owned(crd, &format!("owned-{round}-{i}"), &made).await?;
                }
            }
            let objects = crd.objects("v1");
            let list = crd.get(&objects).await?;
            let all = list["items"].as_array().cloned().unwrap_or_default();
            ensure!(all.len() == OBJECTS && all.iter().all(|o| o["round"] == round), "round {round}: {list}");
            if round + 1 < ROUNDS {
                crd.must("DELETE", &path, JSON, Value::Null).await?;
                until(crd, &path, 404).await?;
            }
        }
        // Nine generations of owners are gone, and what they owned follows; the tenth lives.
        let maps = format!("/api/v1/namespaces/{}/configmaps", crd.namespace);
        let end = Instant::now() + PATIENCE;
        loop {
            let mut left = names(&crd.get(&maps).await?);
            left.retain(|n| n.starts_with("owned-"));
            if left == [format!("owned-{}-0", ROUNDS - 1), format!("owned-{}-1", ROUNDS - 1)] {
                break;
            }
            ensure!(Instant::now() < end, "what gone owners owned: {left:?}");
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        let end = Instant::now() + PATIENCE;
        while crd.get(&format!("{quotas}/q")).await?["status"]["used"][&count] != OBJECTS.to_string() {
            ensure!(Instant::now() < end, "usage: {}", crd.get(&format!("{quotas}/q")).await?["status"]);
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        // A namespace with such objects goes while the definition does.
        let doomed = format!("{}-doomed", crd.namespace);
        crd.must("POST", "/api/v1/namespaces", JSON, json!({"metadata": {"name": doomed}})).await?;
        let theirs = format!("/apis/{}/v1/namespaces/{doomed}/widgets", crd.group);
        for i in 0..OBJECTS {
            let body = crd.widget("v1", &format!("w{i}"), json!({}));
            crd.must("POST", &theirs, JSON, body).await?;
        }
        crd.must("DELETE", &format!("/api/v1/namespaces/{doomed}"), JSON, Value::Null).await?;
        crd.must("DELETE", &path, JSON, Value::Null).await?;
        until(crd, &path, 404).await?;
        until(crd, &format!("/api/v1/namespaces/{doomed}"), 404).await?;
        let end = Instant::now() + PATIENCE;
        while names(&crd.get(&maps).await?).iter().any(|n| n.starts_with("owned-")) {
            ensure!(Instant::now() < end, "what the last owners owned stays");
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        Ok(())
    })
}

/// An owner that is only served in another version than its dependents name is no missing owner.
pub fn owners_change_version(c: &Cluster) -> Result<()> {
    with(c, "crd-owner-version", async |crd, _| {
        crd.define(json!([version("v1", open()), version("v2", open())])).await?;
        let owner = crd.make("v1", "owner", json!({})).await?;
        owned(crd, "first", &owner).await?;
        // The owner is heard of in its old version before that ends.
        tokio::time::sleep(Duration::from_millis(500)).await;
        let (mut v1, mut v2) = (version("v1", open()), version("v2", open()));
        (v1["served"], v1["storage"], v2["storage"]) = (false.into(), false.into(), true.into());
        crd.redefine(json!({"spec": {"versions": [v1, v2]}})).await?;
        // Right in the change, and later: the collector looks at each of these.
        let maps = format!("/api/v1/namespaces/{}/configmaps", crd.namespace);
        for i in 0..20 {
            owned(crd, &format!("more-{i}"), &owner).await?;
            crd.must("PATCH", &format!("{maps}/first"), MERGE, json!({"data": {"i": i.to_string()}})).await?;
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        let left = names(&crd.get(&maps).await?);
        ensure!(
            left.len() >= 21 && left.iter().any(|n| n == "first"),
            "an owner lives, and its dependents don't: {left:?}"
        );
        ensure!(crd.one("v2", "owner").await?["metadata"]["uid"] == owner["metadata"]["uid"], "the owner");
        let path = format!("{}/owner", crd.objects("v2"));
        crd.must("DELETE", &path, JSON, Value::Null).await?;
        let end = Instant::now() + PATIENCE;
        while names(&crd.get(&maps).await?).iter().any(|n| n == "first" || n.starts_with("more-")) {
            ensure!(Instant::now() < end, "the owner is gone, and its dependents aren't");
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        // The kind comes back under another plural.
        crd.end().await?;
        let mut body = crd.body(json!([version("v1", open())]));
        body["metadata"]["name"] = format!("wodgets.{}", crd.group).into();
        body["spec"]["names"] = json!({"plural": "wodgets", "singular": "wodget", "kind": "Widget"});
        crd.must("POST", CRDS, JSON, body).await?;
        let others = crd.objects("v1").replace("/widgets", "/wodgets");
        let body = crd.widget("v1", "owner", json!({}));
        let owner = crd.must("POST", &others, JSON, body).await?;
        owned(crd, "last", &owner).await?;
        tokio::time::sleep(Duration::from_millis(300)).await;
        ensure!(names(&crd.get(&maps).await?).iter().any(|n| n == "last"), "its owner lives");
        crd.must("DELETE", &format!("{others}/owner"), JSON, Value::Null).await?;
        let end = Instant::now() + PATIENCE;
        while names(&crd.get(&maps).await?).iter().any(|n| n == "last") {
            ensure!(Instant::now() < end, "its owner is gone");
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        crd.must("DELETE", &format!("{CRDS}/wodgets.{}", crd.group), JSON, Value::Null).await?;
        Ok(())
    })
}
