//! Mistakes that people make, and what they are told: on the command line, in a `Status`, or in an event.

use crate::cluster::Cluster;
use crate::wire::{Connection, Who};
use anyhow::{Result, bail, ensure};
use serde_json::json;
use std::time::Duration;

const DEPLOYMENT: &str = r#"{"apiVersion":"apps/v1","kind":"Deployment","metadata":{"name":"web","namespace":"bad"},"spec":{"replicas":0,"selector":{"matchLabels":{"a":"b"}},"template":{"metadata":{"labels":{"a":"b"}},"spec":{"containers":[{"name":"c","image":"skiff.local/hello"}]}}}}"#;

fn namespace(c: &Cluster) -> Result<()> {
    if !c.kubectl_run(&["get", "namespace", "bad"])?.ok {
        c.kubectl(&["create", "namespace", "bad"])?;
    }
    Ok(())
}

pub fn manifests_are_refused_as_upstream_does(c: &Cluster) -> Result<()> {
    namespace(c)?;
    c.apply(DEPLOYMENT)?;
    let long = "x".repeat(260);
    let with = |from: &str, to: &str| DEPLOYMENT.replace(from, to);
    let cases = [
        ("no YAML", "a: [".to_string(), "error parsing"),
        ("unknown field", with("\"replicas\"", "\"replicsa\""), "unknown field \"spec.replicsa\""),
        ("wrong type", with("\"replicas\":0", "\"replicas\":\"two\""), "unrecognized type: int32"),
        (
            "immutable",
            with("\"matchLabels\":{\"a\":\"b\"}", "\"matchLabels\":{\"a\":\"c\"}")
                .replace("\"labels\":{\"a\":\"b\"}", "\"labels\":{\"a\":\"c\"}"),
            "field is immutable",
        ),
        (
            "selector and labels differ",
            with("\"labels\":{\"a\":\"b\"}", "\"labels\":{\"a\":\"c\"}"),
            "`selector` does not match template `labels`",
        ),
        ("too long a name", with("\"web\"", &format!("\"{long}\"")), "must be no more than 253 characters"),
        ("bad name", with("\"web\"", "\"We_b\""), "a lowercase RFC 1123 subdomain must consist of"),
        (
            "unknown kind",
            with("\"Deployment\"", "\"Deploymnt\""),
            "no matches for kind \"Deploymnt\" in version \"apps/v1\"",
        ),
        ("unknown version", with("apps/v1", "apps/v7"), "no matches for kind \"Deployment\" in version \"apps/v7\""),
        (
            "no container",
            with("[{\"name\":\"c\",\"image\":\"skiff.local/hello\"}]", "[]"),
            "spec.template.spec.containers: Required value",
        ),
        ("negative replicas", with("\"replicas\":0", "\"replicas\":-1"), "must be greater than or equal to 0"),
        ("no such namespace", with("\"bad\"", "\"nowhere\""), "namespaces \"nowhere\" not found"),
    ];
    for (what, manifest, want) in cases {
        match c.kubectl_input(&["apply", "-f", "-"], &manifest) {
            Ok(said) => bail!("{what}: was taken: {said}"),
            Err(e) => ensure!(format!("{e:#}").contains(want), "{what}: wanted {want:?} in {e:#}"),
        }
    }
    for (args, want) in [
        (vec!["get", "nothing"], "the server doesn't have a resource type \"nothing\""),
        (vec!["get", "pod", "none", "-n", "bad"], "Error from server (NotFound): pods \"none\" not found"),
        (vec!["get", "pods", "-l", "a in (b"], "unable to parse requirement"),
        (vec!["get", "pods", "--field-selector", "spec.nope=x"], "field label not supported: spec.nope"),
        (vec!["create", "namespace", "bad"], "Error from server (AlreadyExists): namespaces \"bad\" already exists"),
        (
            vec![
                "patch",
                "deployment",
                "web",
                "-n",
                "bad",
                "--type=json",
                "-p",
                r#"[{"op":"remove","path":"/spec/nope"}]"#,
            ],
            "the server rejected our request due to an error in our request",
        ),
        (
            vec!["scale", "deployment", "web", "-n", "bad", "--replicas=1", "--resource-version=1"],
            "Expected resource version to be 1",
        ),
        (vec!["logs", "none", "-n", "bad"], "pods \"none\" not found"),
        (vec!["exec", "none", "-n", "bad", "--", "id"], "pods \"none\" not found"),
        (
            vec!["label", "deployment", "web", "-n", "bad", "a=b c"],
            "a valid label must be an empty string or consist of alphanumeric characters",
        ),
    ] {
        let said = c.kubectl_fails(&args)?;
        ensure!(said.contains(want), "{args:?}: wanted {want:?} in {said}");
    }
    Ok(())
}

pub fn requests_are_refused_with_reasons(c: &Cluster) -> Result<()> {
    namespace(c)?;
    c.access()?.inside(async |access| {
        let mut api = access.http1(&Who::Admin).await?;
        let cms = "/api/v1/namespaces/bad/configmaps";
        let cm = |name: &str| json!({"metadata": {"name": name}}).to_string();
        let big = json!({"metadata": {"name": "big"}, "data": {"a": "x".repeat(4 << 20)}}).to_string();
        let deep =
            format!("{{\"metadata\":{{\"name\":\"deep\"}},\"x\":{}1{}}}", "[".repeat(100_000), "]".repeat(100_000));
        let twice = r#"{"metadata":{"name":"twice"},"data":{"a":"1","a":"2"}}"#.to_string();
        let annotations = json!({"metadata": {"name": "a", "annotations": {"a": "x".repeat(300 << 10)}}}).to_string();
        let json = "application/json";
        let cases: Vec<(&str, String, &str, Vec<u8>, u16, &str)> = vec![
            ("POST", cms.into(), json, big.into_bytes(), 413, "RequestEntityTooLarge"),
            ("POST", cms.into(), json, b"{".to_vec(), 400, "BadRequest"),
            ("POST", cms.into(), json, b"".to_vec(), 400, "BadRequest"),
            ("POST", cms.into(), json, b"[]".to_vec(), 400, "BadRequest"),
            (
                "POST",
                format!("{cms}?fieldValidation=Strict"),
                json,
                twice.into_bytes(),
                400,
                "duplicate field \\\"data.a\\\"",
            ),
            ("POST", cms.into(), json, annotations.into_bytes(), 422, "may not be more than 262144 bytes"),
            ("POST", cms.into(), "text/plain", cm("t").into_bytes(), 415, "UnsupportedMediaType"),
            (
                "POST",
                cms.into(),
                "application/vnd.kubernetes.protobuf",
                b"k8s\0\x12\xff\xff\xff\xff\x0f".to_vec(),
                400,
                "BadRequest",
            ),
            ("POST", cms.into(), "application/vnd.kubernetes.protobuf", b"nonsense".to_vec(), 400, "BadRequest"),
            ("POST", format!("{cms}?dryRun=Some"), json, cm("d").into_bytes(), 422, "Invalid"),
            ("POST", format!("{cms}?fieldValidation=Loose"), json, cm("d").into_bytes(), 422, "Invalid"),
            ("POST", format!("{cms}/named"), json, cm("named").into_bytes(), 405, "MethodNotAllowed"),
            ("PUT", format!("{cms}/one"), json, cm("other").into_bytes(), 400, "does not match the name on the URL"),
            ("PUT", cms.into(), json, cm("x").into_bytes(), 405, "MethodNotAllowed"),
            ("PATCH", format!("{cms}/kube-root-ca.crt"), json, b"{}".to_vec(), 415, "UnsupportedMediaType"),
            (
                "PATCH",
                format!("{cms}/kube-root-ca.crt"),
                "application/merge-patch+json",
                b"[1]".to_vec(),
                400,
                "BadRequest",
            ),
            (
                "PATCH",
                format!("{cms}/x"),
                "application/apply-patch+yaml",
                b"apiVersion: v1\nkind: ConfigMap\n".to_vec(),
                422,
                "fieldManager",
            ),
            (
                "PATCH",
                format!("{cms}/x?fieldManager=m"),
                "application/apply-patch+yaml",
                b"a: [".to_vec(),
                400,
                "BadRequest",
            ),
            (
                "PATCH",
                format!("{cms}/x?force=true"),
                "application/merge-patch+json",
                b"{}".to_vec(),
                422,
                "may not be specified for non-apply patch",
            ),
            ("GET", format!("{cms}?labelSelector=a%20in%20("), json, vec![], 400, "unable to parse requirement"),
            ("GET", format!("{cms}?fieldSelector=data.a%3Db"), json, vec![], 400, "is not a known field selector"),
            ("GET", format!("{cms}?continue=nonsense"), json, vec![], 400, "continue key is not valid"),
            ("GET", format!("{cms}?resourceVersion=abc"), json, vec![], 400, "Invalid value"),
            ("GET", format!("{cms}?resourceVersion=999999999"), json, vec![], 504, "Too large resource version"),
            (
                "GET",
                format!("{cms}?resourceVersionMatch=Exact"),
                json,
                vec![],
                422,
                "resourceVersionMatch is forbidden unless resourceVersion is provided",
            ),
            ("GET", format!("{cms}?limit=abc"), json, vec![], 400, "BadRequest"),
            ("GET", format!("{cms}?watch=1&resourceVersion=1&sendInitialEvents=true"), json, vec![], 422, "Forbidden"),
            (
                "GET",
                "/api/v1/namespaces/bad/nothings".into(),
                json,
                vec![],
                404,
                "the server could not find the requested resource",
            ),
            ("GET", "/api/v2/pods".into(), json, vec![], 404, "NotFound"),
            ("DELETE", format!("{cms}/x?propagationPolicy=Sideways"), json, vec![], 422, "Unsupported value"),
            ("DELETE", format!("{cms}/x?gracePeriodSeconds=soon"), json, vec![], 400, "BadRequest"),
        ];
        for (method, path, content_type, body, code, want) in cases {
            let r = api.send(method, &path, &[("content-type", content_type)], body).await?;
            ensure!(
                r.code == code && r.text().contains(want),
                "{method} {path} ({content_type}): wanted {code} {want:?}, got {} {}",
                r.code,
                r.text()
            );
            ensure!(
                r.json()["kind"] == "Status" && r.json()["code"] == code,
                "{method} {path}: no Status: {}",
                r.text()
            );
        }
        let r = api.send("GET", cms, &[("accept", "text/html")], "").await?;
        ensure!(r.code == 406 && r.json()["reason"] == "NotAcceptable", "{} {}", r.code, r.text());
        // Dropped as an unknown field, or refused: but read without exhausting the stack.
        let r = api.send("POST", &format!("{cms}?dryRun=All"), &[("content-type", json)], deep).await?;
        ensure!(matches!(r.code, 201 | 400), "{} {}", r.code, r.text());
        doubled_by_copies(&mut api, cms).await
    })
}

/// A JSON patch that copies an object into itself grows it exponentially.
async fn doubled_by_copies(api: &mut Connection, cms: &str) -> Result<()> {
    let r = api.json("POST", cms, &json!({"metadata": {"name": "copies"}, "data": {"a": "x".repeat(1000)}})).await?;
    ensure!(matches!(r.code, 201 | 409), "{}", r.text());
    let ops: Vec<_> = (0..60).map(|i| json!({"op": "copy", "from": "/data", "path": format!("/data/k{i}")})).collect();
    let body = serde_json::Value::from(ops).to_string();
    let r =
        api.send("PATCH", &format!("{cms}/copies"), &[("content-type", "application/json-patch+json")], body).await?;
    ensure!((400..500).contains(&r.code), "a patch that doubles an object sixty times: {} {}", r.code, r.text());
    let many: Vec<_> = (0..10_001).map(|_| json!({"op": "test", "path": "/data/a", "value": ""})).collect();
    let body = serde_json::Value::from(many).to_string();
    let r =
        api.send("PATCH", &format!("{cms}/copies"), &[("content-type", "application/json-patch+json")], body).await?;
    ensure!(r.code == 413, "10,001 operations: {} {}", r.code, r.text());
    Ok(())
}

pub fn broken_pods_say_why(c: &Cluster) -> Result<()> {
    namespace(c)?;
    let pod = |name: &str, rest: &str| {
        format!(
            r#"{{"apiVersion":"v1","kind":"Pod","metadata":{{"name":"{name}","namespace":"bad"}},"spec":{{"terminationGracePeriodSeconds":0,{rest}}}}}"#
        )
    };
    let hello = r#""name":"c","image":"skiff.local/hello","imagePullPolicy":"Never""#;
    c.apply(&pod("crash", &format!(r#""containers":[{{{hello},"args":["no-such-command"]}}]"#)))?;
    c.apply(&pod("volume", &format!(r#""containers":[{{{hello},"volumeMounts":[{{"name":"v","mountPath":"/v"}}]}}],"volumes":[{{"name":"v","configMap":{{"name":"missing"}}}}]"#)))?;
    c.apply(&pod("env", &format!(r#""containers":[{{{hello},"env":[{{"name":"A","valueFrom":{{"configMapKeyRef":{{"name":"missing","key":"a"}}}}}}]}}]"#)))?;
    c.apply(&pod("name", r#""containers":[{"name":"c","image":"UPPER//case"}]"#))?;
    c.apply(&pod("absent", r#""containers":[{"name":"c","image":"127.0.0.1:1/absent:v1"}]"#))?;
    c.apply(&pod("never", r#""containers":[{"name":"c","image":"shop/absent:v9","imagePullPolicy":"Never"}]"#))?;
    c.apply(&pod("command", &format!(r#""containers":[{{{hello},"command":["/no/such/program"]}}]"#)))?;
    c.apply(&pod(
        "user",
        &format!(r#""containers":[{{{hello},"securityContext":{{"runAsNonRoot":true,"runAsUser":0}}}}]"#),
    ))?;
    c.apply(&pod("nowhere", &format!(r#""nodeSelector":{{"no":"node"}},"containers":[{{{hello}}}]"#)))?;
    let waiting = |pod: &str, reasons: &[&str]| {
        c.wait(Duration::from_secs(40), &format!("pod {pod} to wait for {reasons:?}"), || {
            let status = c.json(&["get", "pod", pod, "-n", "bad"])?["status"]["containerStatuses"][0].clone();
            let reason = status["state"]["waiting"]["reason"]
                .as_str()
                .or(status["state"]["terminated"]["reason"].as_str())
                .unwrap_or_default()
                .to_string();
            match reasons.contains(&reason.as_str()) {
                true => Ok(true),
                false => bail!("{reason}"),
            }
        })
    };
    let event = |pod: &str, reason: &str, part: &str| {
        c.wait(Duration::from_secs(40), &format!("an event {reason} of pod {pod} with {part:?}"), || {
            let events = c.json(&[
                "get",
                "events",
                "-n",
                "bad",
                "--field-selector",
                &format!("involvedObject.name={pod},reason={reason}"),
            ])?;
            let messages: Vec<&str> =
                events["items"].as_array().into_iter().flatten().filter_map(|e| e["message"].as_str()).collect();
            match messages.iter().any(|m| m.contains(part)) {
                true => Ok(true),
                false => bail!("{messages:?}"),
            }
        })
    };
    event("nowhere", "FailedScheduling", "didn't match Pod's node affinity/selector")?;
    waiting("env", &["CreateContainerConfigError"])?;
    event("env", "Failed", "configmap \"missing\" not found")?;
    event("volume", "FailedMount", "configmap \"missing\" not found")?;
    waiting("name", &["InvalidImageName"])?;
    waiting("absent", &["ErrImagePull", "ImagePullBackOff"])?;
    event("absent", "Failed", "127.0.0.1:1/absent:v1")?;
    waiting("never", &["ErrImageNeverPull"])?;
    waiting("command", &["RunContainerError", "CrashLoopBackOff", "StartError"])?;
    waiting("user", &["CreateContainerConfigError"])?;
    waiting("crash", &["CrashLoopBackOff"])?;
    event("crash", "BackOff", "Back-off restarting failed container")?;
    // What was missing appears, and the pods go on.
    c.kubectl(&["create", "configmap", "missing", "-n", "bad", "--from-literal=a=b"])?;
    c.kubectl(&["wait", "pod", "volume", "env", "-n", "bad", "--for=condition=Ready", "--timeout=100s"])?;
    c.kubectl(&["delete", "namespace", "bad", "--wait=false"])?;
    Ok(())
}
