//! Each patch language, and how it fails.

use super::{JSON, JSON_PATCH, MERGE, STRATEGIC, with};
use crate::cluster::Cluster;
use anyhow::{Result, ensure};
use serde_json::{Value, json};

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

        // What isn't there can be replaced, as upstream's library has it.
        let ops = json!([{"op": "replace", "path": "/metadata/labels/new", "value": "n"}, {"op": "test", "path": "/metadata/labels/none"}]);
        let d = api.must("PATCH", &one, JSON_PATCH, &ops).await?;
        ensure!(d["metadata"]["labels"]["new"] == "n", "{d}");
        // One map of all built-in kinds is replaced by a strategic patch, not merged.
        let budgets = api.core.replace("/api/v1/", "/apis/policy/v1/") + "/poddisruptionbudgets";
        let selector = |labels: Value| json!({"spec": {"selector": {"matchLabels": labels}}});
        let mut budget = selector(json!({"a": "b", "c": "d"}));
        budget["metadata"] = json!({"name": "budget"});
        budget["spec"]["minAvailable"] = json!(1);
        api.must("POST", &budgets, JSON, &budget).await?;
        let path = format!("{budgets}/budget");
        let got = api.must("PATCH", &path, STRATEGIC, &selector(json!({"e": "f"}))).await?;
        ensure!(got["spec"]["selector"]["matchLabels"] == json!({"e": "f"}), "{got}");

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
                400,
                "BadRequest",
                "invalid patch format of retainKeys",
            ),
            (
                STRATEGIC,
                "",
                r#"{"spec":{"$patch":"odd"}}"#,
                400,
                "BadRequest",
                "unknown patch type: odd in map: map[$patch:odd]",
            ),
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
                422,
                "Invalid",
                "metadata.uid: Invalid value: \"other\": field is immutable",
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
        let d = api
            .must(
                "PATCH",
                &one,
                MERGE,
                &json!({"metadata": {"creationTimestamp": "2000-01-01T00:00:00Z", "generation": 77, "selfLink": "/x"}}),
            )
            .await?;
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
