//! `pods/binding` (and `bindings`): the scheduler's decision.

use super::body_of;
use crate::admission::Operation;
use crate::registry::{Answer, Call, create, managed, update};
use axum::body::Body;
use http::Request;
use meta::status::{Result, Status};
use serde_json::{Value, json};

pub async fn bind(mut call: Call<'_>, content_type: &str, request: Request<Body>) -> Result<(Answer, Vec<String>)> {
    let binding = body_of(&mut call, "api.core.v1.Binding", content_type, request).await?;
    let name = call.info.name.clone();
    assign(&mut call, &name, &binding).await
}

/// Sets the node of an unassigned pod.
pub async fn assign(call: &mut Call<'_>, name: &str, binding: &Value) -> Result<(Answer, Vec<String>)> {
    let given = create::text(binding, "name");
    if !given.is_empty() && given != name {
        return Err(Status::bad_request("name in URL does not match name in Binding object"));
    }
    let mut binding = binding.clone();
    binding["apiVersion"] = "v1".into();
    binding["kind"] = "Binding".into();
    create::metadata(&mut binding).insert("name".into(), name.into());
    let options = call.write_options("CreateOptions");
    call.admit(Operation::Create, "binding", name, &mut binding, None, &options).await?;
    call.admit_final(Operation::Create, "binding", name, &mut binding, None, &options).await?;
    let target = &binding["target"];
    let node = target["name"].as_str().unwrap_or("");
    let kind = target["kind"].as_str().unwrap_or("");
    if !matches!(kind, "" | "Node" | "Minion") || node.is_empty() {
        let mut errors = meta::field::Errors::default();
        if node.is_empty() {
            errors.required(meta::field::Path::new("target.name"), "");
        } else {
            errors.not_supported(meta::field::Path::new("target.kind"), kind, &["Node", "<empty>"]);
        }
        return Err(Status::invalid("", "Binding", name, &errors));
    }
    let uid = create::text(&binding, "uid");
    // Annotations come from whoever binds; labels from admission, which knows the node's topology.
    let notes = ["annotations", "labels"].map(|key| (key, binding["metadata"][key].clone()));
    let transform = |call: &Call<'_>, old: &Value| {
        let conflict = |why: String| Err(Status::conflict("", "pods/binding", name, why));
        if !uid.is_empty() && uid != create::text(old, "uid") {
            return Err(update::uid_conflict(&call.row, &call.key(name), name, &uid, &create::text(old, "uid")));
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
