//! Deletions: preconditions, policies, grace, garbage, and the end of namespaces.

use super::{Api, JSON, JSON_PATCH, MERGE, version, with};
use crate::cluster::Cluster;
use anyhow::{Context, Result, bail, ensure};
use serde_json::{Value, json};
use std::time::Duration;
use tokio::time::Instant;

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
        // Foreground: marked.
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
            r.code == 200
                && marked["metadata"]["finalizers"] == json!(["foregroundDeletion"])
                && marked["metadata"]["deletionTimestamp"].is_string(),
            "{} {marked}",
            r.code
        );
        // Only those who ask in the old way are told that something is still to be done.
        api.map("held", json!({})).await?;
        let held = format!("{maps}/held");
        api.must("PATCH", &held, MERGE, &json!({"metadata": {"finalizers": ["example.com/held"]}})).await?;
        for (body, code) in [("{}", 200), (r#"{"orphanDependents":false}"#, 202)] {
            let r = api.send("DELETE", &held, JSON, body).await?;
            ensure!(r.code == code, "{body}: {} {}", r.code, r.text());
        }
        api.must("PATCH", &held, MERGE, &json!({"metadata": {"finalizers": null}})).await?;
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
        ensure!(r.code == 200, "{} {}", r.code, r.text());
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
