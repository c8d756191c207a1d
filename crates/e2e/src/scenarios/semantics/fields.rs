//! Unknown and repeated fields of what is written.

use super::{JSON, with};
use crate::cluster::Cluster;
use anyhow::{Result, ensure};

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
