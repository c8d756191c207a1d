//! Between the versions of a custom resource.
//!
//! Strategy None changes `apiVersion` alone. Strategy Webhook sends a `ConversionReview` with all objects of a request
//! at once and believes of the answer only what a conversion may do: identity and server-owned metadata stay.
//! Source: "Versions in CustomResourceDefinitions", webhook conversion; texts are upstream's.

use super::Custom;
use crate::outbound::Target;
use api::custom::{Conversion, Definition};
use meta::status::{Result, Status};
use serde_json::{Value, json};
use std::time::Duration;

/// Upstream's limit for one call.
const TIMEOUT: Duration = Duration::from_secs(30);

/// The objects in another version, in their order. Those that have it already stay as they are.
pub async fn convert(
    custom: &Custom,
    definition: &Definition,
    mut objects: Vec<Value>,
    to: &str,
) -> Result<Vec<Value>> {
    let wanted = format!("{}/{to}", definition.group);
    let (client_config, versions) = match &definition.conversion {
        Conversion::None => {
            for o in objects.iter_mut().filter(|o| o["apiVersion"] != wanted.as_str()) {
                rewrite(definition, o, to);
            }
            return Ok(objects);
        }
        Conversion::Webhook { client_config, review_versions } => (client_config, review_versions),
    };
    let at: Vec<usize> = (0..objects.len()).filter(|i| objects[*i]["apiVersion"] != wanted.as_str()).collect();
    let Some(first) = at.first() else { return Ok(objects) };
    let sent: Vec<Value> = at.iter().map(|i| objects[*i].clone()).collect();
    let source = described(&objects[*first]);
    let review_version = versions.iter().find(|v| matches!(v.as_str(), "v1" | "v1beta1")).map_or("v1", String::as_str);
    let answer = call(custom, client_config, review_version, &wanted, &sent)
        .await
        .map_err(|why| failed(format!("conversion webhook for {source} failed: {why}")))?;
    let converted =
        check(&sent, answer, &wanted).map_err(|why| failed(format!("conversion webhook for {source} {why}")))?;
    for (i, mut object) in at.into_iter().zip(converted) {
        if let Some(version) = definition.version(to) {
            version.prune(&mut object);
        }
        objects[i] = object;
    }
    Ok(objects)
}

/// The same object as another version of equal shape; what that doesn't know goes.
pub fn rewrite(definition: &Definition, object: &mut Value, to: &str) {
    object["apiVersion"] = format!("{}/{to}", definition.group).into();
    if let Some(version) = definition.version(to) {
        version.prune(object);
    }
}

fn failed(message: String) -> Status {
    Status::new(500, "InternalError", message)
}

/// `stable.example.com/v1, Kind=CronTab`, as Go prints a kind.
fn described(object: &Value) -> String {
    format!("{}, Kind={}", object["apiVersion"].as_str().unwrap_or(""), object["kind"].as_str().unwrap_or(""))
}

async fn call(
    custom: &Custom,
    client_config: &Value,
    review_version: &str,
    wanted: &str,
    objects: &[Value],
) -> std::result::Result<Vec<Value>, String> {
    let target = Target::from_client_config(client_config).map_err(|e| e.to_string())?;
    let uid = uuid::Uuid::new_v4().to_string();
    let api_version = format!("apiextensions.k8s.io/{review_version}");
    let review = json!({
        "kind": "ConversionReview", "apiVersion": api_version,
        "request": {"uid": uid, "desiredAPIVersion": wanted, "objects": objects},
    });
    let answer = custom
        .inner
        .outbound
        .post(&target, "timeout=30s", &review, TIMEOUT)
        .await
        .map_err(|e| e.to_string())?
        .json()?;
    if answer["kind"] != "ConversionReview" || answer["apiVersion"] != api_version.as_str() {
        return Err(format!(
            "invalid conversion response: expected {api_version}, Kind=ConversionReview, got {}",
            described(&answer)
        ));
    }
    let response = &answer["response"];
    if !response.is_object() {
        return Err("no response provided".into());
    }
    // v1beta1 need not repeat it.
    if review_version == "v1" && response["uid"] != uid.as_str() {
        return Err(format!("expected response.uid={uid:?}, got {:?}", response["uid"].as_str().unwrap_or("")));
    }
    if response["result"]["status"] != "Success" {
        return Err(response["result"]["message"].as_str().unwrap_or("").to_string());
    }
    Ok(response["convertedObjects"].as_array().cloned().unwrap_or_default())
}

/// Checks the answer, and puts back what a conversion may not change.
fn check(sent: &[Value], answer: Vec<Value>, wanted: &str) -> std::result::Result<Vec<Value>, String> {
    if answer.len() != sent.len() {
        return Err(format!("returned {} objects, expected {}", answer.len(), sent.len()));
    }
    let mut out = Vec::with_capacity(answer.len());
    for (i, (before, mut after)) in sent.iter().zip(answer).enumerate() {
        let got = after["apiVersion"].as_str().unwrap_or("");
        if got != wanted {
            return Err(format!(
                "returned invalid converted object at index {i}: invalid groupVersion (expected {wanted}, received {got})"
            ));
        }
        let invalid = |why: String| format!("returned invalid converted object at index {i}: {why}");
        let text = |v: &Value| v.as_str().unwrap_or("").to_string();
        if before["kind"] != after["kind"] {
            let (a, b) = (text(&before["kind"]), text(&after["kind"]));
            return Err(format!(
                "returned invalid converted object at index {i}: invalid kind (expected {a}, received {b})"
            ));
        }
        for (field, shown) in [("name", "name"), ("namespace", "namespace"), ("uid", "UID")] {
            let (a, b) = (text(&before["metadata"][field]), text(&after["metadata"][field]));
            if a != b {
                return Err(invalid(format!("must have the same {shown}: {a} != {b}")));
            }
        }
        restore_metadata(before, &mut after)
            .map_err(|why| format!("returned invalid metadata in object at index {i}: {why}"))?;
        out.push(after);
    }
    Ok(out)
}

/// Labels and annotations may change; all other metadata is as it was.
fn restore_metadata(before: &Value, after: &mut Value) -> std::result::Result<(), String> {
    let Value::Object(given) = &after["metadata"] else {
        return Err("missing metadata".into());
    };
    let mut metadata = before["metadata"].as_object().cloned().unwrap_or_default();
    for field in ["labels", "annotations"] {
        match given.get(field) {
            None | Some(Value::Null) => {
                metadata.remove(field);
            }
            Some(v @ Value::Object(pairs)) if pairs.values().all(Value::is_string) => {
                metadata.insert(field.to_string(), v.clone());
            }
            Some(_) => return Err(format!("metadata.{field} must be a map of strings")),
        }
    }
    let checked = json!({"metadata": metadata});
    let mut errors = meta::field::Errors::default();
    let path = meta::field::Path::new("metadata");
    api::validation::labels::labels(&checked["metadata"]["labels"], &path.child("labels"), &mut errors);
    api::validation::labels::annotations(&checked["metadata"]["annotations"], &path.child("annotations"), &mut errors);
    if !errors.is_empty() {
        return Err(errors.joined());
    }
    after["metadata"] = checked["metadata"].clone();
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn object(version: &str) -> Value {
        json!({"apiVersion": format!("e.com/{version}"), "kind": "W", "metadata": {"name": "a", "namespace": "n",
            "uid": "u", "labels": {"x": "1"}, "generation": 3}, "spec": {}})
    }

    fn after(change: impl FnOnce(&mut Value)) -> std::result::Result<Vec<Value>, String> {
        let mut o = object("v2");
        change(&mut o);
        check(&[object("v1")], vec![o], "e.com/v2")
    }

    #[test]
    fn only_what_a_conversion_may_do_is_believed() {
        let got = after(|o| {
            o["spec"]["new"] = 1.into();
            o["metadata"]["generation"] = 9.into();
            o["metadata"]["labels"] = json!({"y": "2"});
        })
        .unwrap();
        assert_eq!(got[0]["metadata"]["generation"], 3);
        assert_eq!(got[0]["metadata"]["labels"], json!({"y": "2"}));
        assert_eq!(got[0]["spec"]["new"], 1);
        for (change, why) in [
            (
                json!({"apiVersion": "e.com/v1"}),
                "returned invalid converted object at index 0: invalid groupVersion (expected e.com/v2, received e.com/v1)",
            ),
            (
                json!({"kind": "X"}),
                "returned invalid converted object at index 0: invalid kind (expected W, received X)",
            ),
            (
                json!({"metadata": {"name": "b", "namespace": "n", "uid": "u"}}),
                "returned invalid converted object at index 0: must have the same name: a != b",
            ),
            (
                json!({"metadata": {"name": "a", "namespace": "n", "uid": "v"}}),
                "returned invalid converted object at index 0: must have the same UID: u != v",
            ),
            (
                json!({"metadata": {"name": "a", "namespace": "n", "uid": "u", "labels": {"x": 1}}}),
                "returned invalid metadata in object at index 0: metadata.labels must be a map of strings",
            ),
        ] {
            let got = after(|o| {
                for (k, v) in change.as_object().unwrap() {
                    o[k] = v.clone();
                }
            });
            assert_eq!(got, Err(why.to_string()));
        }
        assert_eq!(check(&[object("v1")], vec![], "e.com/v2"), Err("returned 0 objects, expected 1".to_string()));
    }
}
