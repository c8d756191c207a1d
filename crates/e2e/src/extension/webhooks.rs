//! Admission webhooks, one a path below `/webhook/`. What they decide is told by the path, so that a test reads like
//! its configuration.

use super::{Body, json, typed};
use base64::{Engine, engine::general_purpose::STANDARD};
use http::Response;
use serde_json::{Value, json};
use std::sync::Mutex;
use std::time::Duration;

/// How long `/webhook/slow` thinks.
const SLOW: Duration = Duration::from_secs(3);

pub async fn answer(path: &str, body: &[u8], reviews: &Mutex<Vec<Value>>) -> Response<Body> {
    let mut seen = reviews.lock().map(|r| r.clone()).unwrap_or_default();
    if path == "/reviews" {
        return json(200, &seen.into());
    }
    let review: Value = serde_json::from_slice(body).unwrap_or_default();
    let request = &review["request"];
    let mut note = request.clone();
    note["path"] = path.into();
    seen.push(note);
    if let Ok(mut r) = reviews.lock() {
        *r = seen;
    }
    let object = if request["object"].is_null() { &request["oldObject"] } else { &request["object"] };
    let add = |path: &str, value: Value| json!([{"op": "add", "path": path, "value": value}]);
    let mark = |key: &str| match object["data"].is_object() {
        true => add(&format!("/data/{key}"), "yes".into()),
        false => add("/data", json!({key: "yes"})),
    };
    let mut response = match path {
        "/webhook/allow" => json!({"allowed": true}),
        "/webhook/deny" => deny("this webhook denies all requests"),
        "/webhook/forbid" => json!({"allowed": false, "status": {
            "code": 403, "reason": "Forbidden", "message": "not today",
            "details": {"causes": [{"reason": "Weather", "message": "rain", "field": "spec"}]}}}),
        "/webhook/deny-marked" => {
            let marked = object["data"]["webhook-e2e-test"] == "webhook-disallow"
                || object["metadata"]["labels"]["webhook-e2e-test"] == "webhook-disallow";
            if marked { deny("the object contains unwanted key and value") } else { json!({"allowed": true}) }
        }
        "/webhook/mutate-one" if object["data"]["mutation-start"] == "yes" => patch(mark("mutation-stage-1")),
        "/webhook/mutate-two" if object["data"]["mutation-stage-1"] == "yes" => patch(mark("mutation-stage-2")),
        "/webhook/port" => patch(json!([{"op": "replace", "path": "/port", "value": "7"}])),
        "/webhook/mark" => patch(mark("marked")),
        "/webhook/mutate-pod" => patch(add(
            "/spec/initContainers",
            json!([{"name": "webhook-added-init-container", "image": "shop/backend:v1", "command": ["true"]}]),
        )),
        "/webhook/mutate-custom" => patch(json!([
            {"op": "add", "path": "/data/mutation-stage-1", "value": "yes"},
            {"op": "add", "path": "/data/unknown-field", "value": "pruned"},
        ])),
        "/webhook/command" => {
            patch(json!([{"op": "replace", "path": "/command", "value": ["echo", "from the webhook"]}]))
        }
        "/webhook/rename" => patch(json!([{"op": "replace", "path": "/metadata/name", "value": "renamed"}])),
        "/webhook/break-owners" => patch(json!([{"op": "remove", "path": "/metadata/managedFields/0/apiVersion"}])),
        "/webhook/warn" => json!({"allowed": true, "warnings": ["mind the gap"]}),
        "/webhook/slow" => {
            tokio::time::sleep(SLOW).await;
            json!({"allowed": true})
        }
        "/webhook/hang" => std::future::pending().await,
        "/webhook/mutate-one" | "/webhook/mutate-two" => json!({"allowed": true}),
        _ => return typed(404, "text/plain", "no such webhook"),
    };
    response["uid"] = request["uid"].clone();
    json(200, &json!({"apiVersion": review["apiVersion"], "kind": "AdmissionReview", "response": response}))
}

fn deny(why: &str) -> Value {
    json!({"allowed": false, "status": {"message": why}})
}

fn patch(operations: Value) -> Value {
    json!({"allowed": true, "patchType": "JSONPatch", "patch": STANDARD.encode(operations.to_string())})
}
