//! StorageVersionMigrations: objects that were stored in an old version are stored in the new one.

use super::namespace::Namespace;
use crate::cluster::Cluster;
use crate::wire::Who;
use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};
use std::time::Duration;

const PATIENCE: Duration = Duration::from_secs(30);
const MERGE: [(&str, &str); 1] = [("content-type", "application/merge-patch+json")];

fn migration(version: &str, name: &str, group: &str, resource: &str) -> Value {
    json!({"apiVersion": format!("storagemigration.k8s.io/{version}"), "kind": "StorageVersionMigration",
        "metadata": {"name": name, "labels": {"e2e": "migration"}}, "spec": {"resource": {"group": group, "resource": resource}}})
}

/// sig-api-machinery: "CRUD for storageversionmigrations", in v1 and in the beta.
pub fn the_api_of_migrations(c: &Cluster) -> Result<()> {
    c.access()?.inside(async |access| {
        let mut api = access.http1(&Who::Admin).await?;
        for version in ["v1", "v1beta1"] {
            let path = format!("/apis/storagemigration.k8s.io/{version}/storageversionmigrations");
            // Nobody serves it, so that nothing comes between.
            let made = api.json("POST", &path, &migration(version, "e2e-api", "example.com", "nothings")).await?;
            ensure!(made.code == 201 && made.json()["status"] == json!({}), "{}", made.text());
            let since = made.json()["metadata"]["resourceVersion"].as_str().unwrap_or_default().to_string();
            let one = format!("{path}/e2e-api");
            ensure!(api.get(&one).await?.json()["spec"]["resource"]["resource"] == "nothings");
            let list = api.get(&format!("{path}?labelSelector=e2e%3Dmigration")).await?.json();
            ensure!(list["items"].as_array().is_some_and(|a| a.len() == 1), "{list}");
            let r = api.send("PATCH", &one, &MERGE, r#"{"metadata":{"annotations":{"patched":"yes"}}}"#).await?.json();
            let mut update = r.clone();
            update["metadata"]["annotations"]["updated"] = "yes".into();
            let r = api.json("PUT", &one, &update).await?;
            ensure!(r.code == 200 && r.json()["metadata"]["annotations"]["patched"] == "yes", "{}", r.text());
            let r = api.send("PATCH", &one, &MERGE, r#"{"spec":{"resource":{"resource":"others"}}}"#).await?;
            ensure!(r.code == 422 && r.text().contains("field is immutable"), "{}", r.text());

            let status = format!("{one}/status");
            let condition = |kind: &str, status: &str| {
                json!({"type": kind, "status": status, "reason": "E2E", "message": "m",
                "lastTransitionTime": "2026-01-01T00:00:00Z"})
            };
            let body = json!({"status": {"resourceVersion": "5", "conditions": [condition("Running", "True")]}});
            let r = api.send("PATCH", &status, &MERGE, body.to_string()).await?;
            ensure!(r.code == 200 && r.json()["status"]["conditions"][0]["reason"] == "E2E", "{}", r.text());
            for (body, text) in [
                (json!({"resourceVersion": "6"}), "field is immutable"),
                (
                    json!({"conditions": [condition("Running", "True"), condition("Failed", "True")]}),
                    "Running condition cannot be true",
                ),
                (json!({"conditions": [{"type": "Running", "status": "Perhaps"}]}), "supported values"),
            ] {
                let r = api.send("PATCH", &status, &MERGE, json!({"status": body}).to_string()).await?;
                ensure!(r.code == 422 && r.text().contains(text), "{text}: {} {}", r.code, r.text());
            }
            let body = json!({"status": {"conditions": [condition("Running", "False"), condition("Failed", "True")]}});
            let mut update = api.get(&status).await?.json();
            update["status"]["conditions"] = body["status"]["conditions"].clone();
            ensure!(api.json("PUT", &status, &update).await?.code == 200);

            ensure!(api.send("DELETE", &one, &[], "").await?.code == 200 && api.get(&one).await?.code == 404);
            let watched = api.get(&format!("{path}?watch=1&resourceVersion={since}&timeoutSeconds=1")).await?.text();
            let kinds: Vec<String> = watched
                .lines()
                .filter_map(|l| serde_json::from_str::<Value>(l).ok())
                .filter_map(|e| e["type"].as_str().map(String::from))
                .collect();
            ensure!(kinds == ["MODIFIED", "MODIFIED", "MODIFIED", "MODIFIED", "DELETED"], "{kinds:?}");
            let r = api.json("POST", &path, &migration(version, "e2e-bad", "", "")).await?;
            ensure!(r.code == 422 && r.text().contains("resource is required to be set"), "{}", r.text());
            let made = api.json("POST", &path, &migration(version, "e2e-many", "example.com", "nothings")).await?;
            ensure!(made.code == 201, "{}", made.text());
            ensure!(api.send("DELETE", &format!("{path}?labelSelector=e2e%3Dmigration"), &[], "").await?.code == 200);
        }
        Ok(())
    })
}

/// Migrates all objects of a built-in resource, to the end.
pub fn migrate(c: &Cluster, name: &str, resource: &str) -> Result<()> {
    c.apply(&migration("v1", name, "", resource).to_string())?;
    c.wait(PATIENCE, "the migration's end", || {
        let failed = condition(c, name, "Failed")?;
        ensure!(failed.is_null(), "{failed}");
        Ok(condition(c, name, "Succeeded")?["status"] == "True")
    })
}

fn condition(c: &Cluster, name: &str, kind: &str) -> Result<Value> {
    let all = c.json(&["get", "storageversionmigration", name])?["status"]["conditions"].clone();
    Ok(all.as_array().into_iter().flatten().find(|c| c["type"] == kind).cloned().unwrap_or_default())
}

fn definition(group: &str, storage: &str, served: &[&str]) -> Value {
    let version = |name: &&str| {
        json!({"name": name, "served": true, "storage": *name == storage,
            "schema": {"openAPIV3Schema": {"type": "object", "properties": {"spec": {"type": "object",
                "properties": {"n": {"type": "integer"}}}}}}})
    };
    json!({"apiVersion": "apiextensions.k8s.io/v1", "kind": "CustomResourceDefinition", "metadata": {"name": format!("ships.{group}")},
        "spec": {"group": group, "scope": "Namespaced", "names": {"plural": "ships", "singular": "ship", "kind": "Ship"},
            "versions": served.iter().map(version).collect::<Vec<_>>()}})
}

/// The storage version of a custom resource changes, its objects are migrated, and the old version can go.
pub fn custom_resources_leave_their_old_version(c: &Cluster) -> Result<()> {
    let ns = Namespace::new(c, "migrate")?;
    let group = format!("{}.example.com", ns.name());
    let crd = format!("ships.{group}");
    c.apply(&definition(&group, "v1", &["v1", "v2"]).to_string())?;
    c.kubectl(&["wait", "crd", &crd, "--for=condition=Established", "--timeout=30s"])?;
    let ship = |i: usize| json!({"apiVersion": format!("{group}/v1"), "kind": "Ship", "metadata": {"name": format!("s{i}")}, "spec": {"n": i}});
    c.wait(PATIENCE, "ships to be made", || {
        Ok(c.kubectl_input(&["create", "-n", ns.name(), "-f", "-"], &ship(0).to_string()).is_ok())
    })?;
    for i in 1..4 {
        c.kubectl_input(&["create", "-n", ns.name(), "-f", "-"], &ship(i).to_string())?;
    }
    c.apply(&definition(&group, "v2", &["v1", "v2"]).to_string())?;
    // Both are stored now; v1 can't leave.
    c.wait(PATIENCE, "both versions to be stored ones", || {
        Ok(c.json(&["get", "crd", &crd])?["status"]["storedVersions"] == json!(["v1", "v2"]))
    })?;
    let early = c.kubectl_input(&["apply", "-f", "-"], &definition(&group, "v2", &["v2"]).to_string());
    let early = early.err().map(|e| e.to_string()).unwrap_or_default();
    ensure!(early.contains("was previously a storage version, and must remain in spec.versions"), "{early}");
    let ships = || -> Result<Vec<Value>> {
        let list = c.json(&["get", &format!("ships.v2.{group}"), "-n", ns.name(), "--show-managed-fields"])?;
        Ok(list["items"].as_array().cloned().unwrap_or_default())
    };
    let before = ships()?;

    let name = format!("{}-ships", ns.name());
    c.apply(&migration("v1", &name, &group, "ships").to_string())?;
    c.wait(PATIENCE, "the migration's end", || Ok(condition(c, &name, "Succeeded")?["status"] == "True"))?;
    let running = condition(c, &name, "Running")?;
    ensure!(running["status"] == "False", "{running}");
    let status = c.json(&["get", "storageversionmigration", &name])?["status"].clone();
    ensure!(status["resourceVersion"].as_str().is_some_and(|v| v.parse::<u64>().is_ok()), "{status}");
    ensure!(c.kubectl(&["get", "storageversionmigrations"])?.contains(&format!("ships.{group}")));
    let after = ships()?;
    ensure!(before.len() == 4 && after.len() == 4, "{after:?}");
    for (old, new) in before.iter().zip(&after) {
        // Written again, and nothing but that.
        let (a, b) = (&old["metadata"], &new["metadata"]);
        ensure!(a["resourceVersion"] != b["resourceVersion"], "{} wasn't written again", a["name"]);
        ensure!(
            a["uid"] == b["uid"] && old["spec"] == new["spec"] && a["managedFields"] == b["managedFields"],
            "{old} {new}"
        );
    }
    let told = c.json(&["get", "crd", &crd])?["status"].clone();
    ensure!(told["storedVersions"] == json!(["v2"]), "{told}");
    let migrating =
        told["conditions"].as_array().context("conditions")?.iter().find(|c| c["type"] == "StorageMigrating");
    ensure!(migrating.is_some_and(|c| c["status"] == "False" && c["reason"] == "MigrationSucceeded"), "{told}");

    // Now the old version may go, and no object is lost.
    c.apply(&definition(&group, "v2", &["v2"]).to_string())?;
    c.wait(PATIENCE, "ships without v1", || Ok(ships().is_ok_and(|s| s.len() == 4 && s[3]["spec"]["n"] == 3)))?;
    // A second migration finds nothing to do, and ends.
    let again = format!("{}-again", ns.name());
    c.apply(&migration("v1beta1", &again, &group, "ships").to_string())?;
    c.wait(PATIENCE, "the second migration's end", || Ok(condition(c, &again, "Succeeded")?["status"] == "True"))?;
    let last = ships()?;
    ensure!(after.iter().zip(&last).all(|(a, b)| a["metadata"]["resourceVersion"] == b["metadata"]["resourceVersion"]));
    c.kubectl(&["delete", "storageversionmigrations", &name, &again])?;
    c.kubectl(&["delete", "crd", &crd])?;
    ns.delete()
}

/// The definition is deleted while its objects are being migrated: the migration fails, and says so.
pub fn a_resource_goes_during_its_migration(c: &Cluster) -> Result<()> {
    const UNTIL_FAILED: Duration = Duration::from_secs(100);
    let ns = Namespace::new(c, "migrate-gone")?;
    let group = format!("{}.example.com", ns.name());
    let (crd, name) = (format!("ships.{group}"), format!("{}-ships", ns.name()));
    c.apply(&definition(&group, "v1", &["v1", "v2"]).to_string())?;
    c.kubectl(&["wait", "crd", &crd, "--for=condition=Established", "--timeout=30s"])?;
    let ship =
        json!({"apiVersion": format!("{group}/v1"), "kind": "Ship", "metadata": {"name": "s"}, "spec": {"n": 1}});
    c.wait(PATIENCE, "a ship to be made", || {
        Ok(c.kubectl_input(&["create", "-n", ns.name(), "-f", "-"], &ship.to_string()).is_ok())
    })?;
    // Nobody answers there, so that no ship can be written and the migration tries again and again.
    let silent = json!({"apiVersion": "admissionregistration.k8s.io/v1", "kind": "ValidatingWebhookConfiguration",
        "metadata": {"name": name}, "webhooks": [{"name": "silent.example.com", "admissionReviewVersions": ["v1"],
            "sideEffects": "None", "failurePolicy": "Fail", "clientConfig": {"url": "https://127.0.0.1:1/"},
            "rules": [{"apiGroups": [group], "apiVersions": ["*"], "resources": ["ships"], "operations": ["UPDATE"]}]}]});
    c.apply(&silent.to_string())?;
    c.apply(&definition(&group, "v2", &["v1", "v2"]).to_string())?;
    c.apply(&migration("v1", &name, &group, "ships").to_string())?;
    c.wait(PATIENCE, "the migration to run", || Ok(condition(c, &name, "Running")?["status"] == "True"))?;
    let told = c.json(&["get", "crd", &crd])?["status"]["conditions"].clone();
    let migrating = told.as_array().context("conditions")?.iter().find(|c| c["type"] == "StorageMigrating");
    ensure!(migrating.is_some_and(|c| c["status"] == "True" && c["reason"] == "MigrationRunning"), "{told}");

    c.kubectl(&["delete", "crd", &crd, "--timeout=30s"])?;
    c.wait(UNTIL_FAILED, "the migration to fail", || Ok(condition(c, &name, "Failed")?["status"] == "True"))?;
    let (failed, running) = (condition(c, &name, "Failed")?, condition(c, &name, "Running")?);
    ensure!(
        failed["reason"] == "StorageVersionMigrationFailed"
            && failed["message"].as_str().is_some_and(|m| m.starts_with("migration encountered unhandled error: "))
            && running["status"] == "False"
            && condition(c, &name, "Succeeded")?.is_null(),
        "{failed} {running}"
    );
    c.kubectl(&["delete", "validatingwebhookconfiguration", &name])?;
    c.kubectl(&["delete", "storageversionmigrations", &name])?;
    ns.delete()
}

/// What is built in migrates as well, and leaves alone what is stored as it should be; what can't be migrated says so.
pub fn built_in_resources_migrate(c: &Cluster) -> Result<()> {
    let ns = Namespace::new(c, "migrate-cm")?;
    ns.must("create configmap a --from-literal=k=v")?;
    let version = || ns.must("get configmap a -o jsonpath={.metadata.resourceVersion}");
    let before = version()?;
    let names = [format!("{}-maps", ns.name()), format!("{}-more", ns.name()), format!("{}-not", ns.name())];
    c.apply(&migration("v1", &names[0], "", "configmaps").to_string())?;
    c.apply(&migration("v1", &names[1], "", "configmaps").to_string())?;
    c.apply(&migration("v1", &names[2], "authentication.k8s.io", "tokenreviews").to_string())?;
    for name in &names[..2] {
        c.wait(PATIENCE, "the end of a migration of config maps", || {
            Ok(condition(c, name, "Succeeded")?["status"] == "True")
        })?;
    }
    ensure!(version()? == before, "an object that was stored as it should be was written");
    c.wait(
        PATIENCE,
        "the impossible migration to fail",
        || Ok(condition(c, &names[2], "Failed")?["status"] == "True"),
    )?;
    let failed = condition(c, &names[2], "Failed")?;
    ensure!(failed["reason"] == "StorageVersionMigrationFailed", "{failed}");
    let mut args = vec!["delete", "storageversionmigrations"];
    args.extend(names.iter().map(String::as_str));
    c.kubectl(&args)?;
    ns.delete()
}
