//! Server-side apply: owners, conflicts, what goes and what stays.

use super::{APPLY, JSON, MERGE, version, with};
use crate::cluster::Cluster;
use anyhow::{Result, ensure};
use serde_json::{Value, json};

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
        // Controllers write as well, until they have seen it all.
        let mut quiet = false;
        for _ in 0..50 {
            let first = api.get(&one).await?;
            let again = api.must("PATCH", &by("a"), APPLY, &full(json!(0), "i")).await?;
            quiet = version(&again) == version(&first);
            if quiet {
                break;
            }
            tokio::time::sleep(std::time::Duration::from_millis(50)).await;
        }
        ensure!(quiet, "applying again makes a revision");

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
        let status = json!({"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "d"}, "status": {"conditions": [{"type": "E2E", "status": "True"}]}});
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
        let typed =
            "failed to create typed patch object (/d; apps/v1, Kind=Deployment): .spec.replicas: expected numeric";
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
