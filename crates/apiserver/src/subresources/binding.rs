//! `pods/binding` (and `bindings`): the scheduler's decision.

use super::{body_of, track};
use crate::admission::Operation;
use crate::registry::{Answer, Call, create, managed, update};
use api::catalogue::Resource;
use axum::body::Body;
use http::Request;
use meta::field::{Errors, Path};
use meta::status::{Result, Status};
use serde_json::{Value, json};
use std::sync::Arc;

const TYPE: &str = "api.core.v1.Binding";

/// `POST pods/NAME/binding`.
pub async fn bind(mut call: Call<'_>, content_type: &str, request: Request<Body>) -> Result<(Answer, Vec<String>)> {
    let mut binding = body_of(&mut call, TYPE, content_type, request).await?;
    track(&call, TYPE, &mut binding);
    let name = call.info.name.clone();
    let options = call.write_options("CreateOptions");
    call.admit(Operation::Create, "binding", &name, &mut binding, None, &options).await?;
    if create::text(&binding, "name") != name {
        return Err(Status::bad_request("name in URL does not match name in Binding object"));
    }
    check(&name, &binding)?;
    call.admit_final(Operation::Create, "binding", &name, &mut binding, None, &options).await?;
    assign(&mut call, &name, &binding).await
}

/// `POST bindings`: the same, by a resource of its own. `pods`: the row of what is bound.
pub async fn create(mut call: Call<'_>, mut binding: Value, pods: Arc<Resource>) -> Result<(Answer, Vec<String>)> {
    create::check_namespace(call.info, &binding)?;
    create::metadata(&mut binding).insert("namespace".into(), call.info.namespace.as_str().into());
    managed::track(&call, &mut binding, None, managed::By::Update, "").await;
    let name = create::text(&binding, "name");
    let options = call.write_options("CreateOptions");
    call.admit(Operation::Create, "", &name, &mut binding, None, &options).await?;
    let name = create::text(&binding, "name");
    check(&name, &binding)?;
    call.admit_final(Operation::Create, "", &name, &mut binding, None, &options).await?;
    call.row = pods;
    assign(&mut call, &name, &binding).await
}

fn check(name: &str, binding: &Value) -> Result<()> {
    let mut errors = Errors::default();
    let kind = binding["target"]["kind"].as_str().unwrap_or("");
    if !matches!(kind, "" | "Node") {
        errors.not_supported(Path::new("target.kind"), kind, &["Node", "<empty>"]);
    }
    if binding["target"]["name"].as_str().unwrap_or("").is_empty() {
        errors.required(Path::new("target.name"), "");
    }
    if errors.is_empty() { Ok(()) } else { Err(Status::invalid("", "Binding", name, &errors)) }
}

/// Sets the node of an unassigned pod. The binding was admitted; what it does to the pod isn't asked about again.
async fn assign(call: &mut Call<'_>, name: &str, binding: &Value) -> Result<(Answer, Vec<String>)> {
    let node = binding["target"]["name"].as_str().unwrap_or("");
    let (uid, version) = (create::text(binding, "uid"), create::text(binding, "resourceVersion"));
    // Annotations come from whoever binds; labels from admission, which knows the node's topology.
    let notes = ["annotations", "labels"].map(|key| (key, binding["metadata"][key].clone()));
    let transform = |call: &Call<'_>, old: &Value| {
        let conflict = |why: String| Err(Status::conflict("", "pods/binding", name, why));
        if !uid.is_empty() && uid != create::text(old, "uid") {
            return Err(update::uid_conflict(call, name, &uid, &create::text(old, "uid")));
        }
        let present = create::text(old, "resourceVersion");
        if !version.is_empty() && version != present {
            return Err(update::version_conflict(call, name, &version, &present));
        }
        if !old["metadata"]["deletionTimestamp"].is_null() {
            return conflict(format!("pod {name} is being deleted, cannot be assigned to a host"));
        }
        let present = old["spec"]["nodeName"].as_str().unwrap_or("");
        if !present.is_empty() {
            return conflict(format!("pod {name} is already assigned to node {present:?}"));
        }
        if old["spec"]["schedulingGates"].as_array().is_some_and(|g| !g.is_empty()) {
            return conflict(format!("pod {name} has non-empty .spec.schedulingGates"));
        }
        let mut new = old.clone();
        create::metadata(&mut new).insert("resourceVersion".into(), "".into());
        new["spec"]["nodeName"] = node.into();
        for (key, given) in &notes {
            for (k, v) in given.as_object().into_iter().flatten() {
                new["metadata"][key][k] = v.clone();
            }
        }
        set_condition(
            &mut new,
            &json!({
                "type": "PodScheduled", "status": "True", "lastProbeTime": null,
                "lastTransitionTime": create::now_seconds(),
                "observedGeneration": old["metadata"]["generation"],
            }),
        );
        Ok(new)
    };
    update::write(call, name, "binding", managed::By::Update, &transform).await?;
    let mut s = Status::new(201, "", "");
    s.details = None;
    Ok((Answer::Status(s), std::mem::take(&mut call.warnings)))
}

/// Sets a condition of its type, keeping the transition time when the status stays the same.
pub fn set_condition(object: &mut Value, condition: &Value) {
    if !object["status"]["conditions"].is_array() {
        object["status"]["conditions"] = json!([]);
    }
    let mut condition = condition.clone();
    if condition["observedGeneration"].is_null()
        && let Some(c) = condition.as_object_mut()
    {
        c.remove("observedGeneration");
    }
    let Some(list) = object["status"]["conditions"].as_array_mut() else { return };
    match list.iter_mut().find(|c| c["type"] == condition["type"]) {
        Some(c) => {
            if c["status"] == condition["status"] {
                condition["lastTransitionTime"] = c["lastTransitionTime"].clone();
            }
            *c = condition;
        }
        None => list.push(condition),
    }
}
