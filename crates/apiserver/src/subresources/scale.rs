//! `scale`: an `autoscaling/v1` Scale view of anything with replicas.

use super::decode_as;
use crate::options::Write;
use crate::pipeline::not_served;
use crate::registry::patch::{Document, PatchType, converted, is_kind};
use crate::registry::{Answer, Call, create, managed, store_error, update};
use crate::wire;
use api::codec::json::DecodeError;
use api::strategy::ScalePaths;
use axum::body::Body;
use http::Request;
use meta::apply::Structure;
use meta::field::{Errors, Path};
use meta::schema::TypeId;
use meta::status::{Result, Status};
use serde_json::{Value, json};

const TYPE: &str = "api.autoscaling.v1.Scale";
/// What a patch finds where a custom resource says nothing of replicas. It mustn't stay.
const NO_REPLICAS: i64 = i32::MIN as i64;

pub async fn scale(mut call: Call<'_>, content_type: &str, request: Request<Body>) -> Result<(Answer, Vec<String>)> {
    let row = call.row.clone();
    let Some(paths) = row.strategy.scale() else {
        return Err(not_served());
    };
    let name = call.info.name.clone();
    let store = call.registry.store.clone();
    store.barrier().await.map_err(store_error)?;
    let entry = store.get(&call.key(&name)).ok_or_else(|| call.not_found(&name))?;
    let object = call.see(&entry).await?.object();
    if call.info.verb == "get" {
        if !has_replicas(&call, &object, &paths)? {
            let text = format!("the spec replicas field \".{}\" does not exist", paths.spec_replicas);
            return Err(Status::internal(text));
        }
        return Ok((Answer::ok(of(&object, &paths)), std::mem::take(&mut call.warnings)));
    }
    let bytes = wire::read(request.into_body()).await?;
    let patch = match call.info.verb.as_str() {
        "patch" => Some(PatchType::of(&row, content_type)?),
        _ => None,
    };
    call.options.check_write(match patch {
        None => Write::Update,
        Some(PatchType::Apply) => Write::Apply,
        Some(_) => Write::Patch,
    })?;
    let body: Value = match patch {
        None => {
            let body = decode_as(&mut call, TYPE, content_type, &bytes)?;
            create::check_name(call.info, &body)?;
            body
        }
        Some(kind) => Document::parse(kind, &bytes)?.value,
    };
    if patch == Some(PatchType::Apply) {
        is_kind(&body, "autoscaling/v1", "Scale")?;
        let types = api::facts::types();
        meta::apply::check(&Structure::new(types, scale_type()?), &body)?;
    }
    let transform = |call: &Call<'_>, old: &Value| {
        let mut present = of(old, &paths);
        if !has_replicas(call, old, &paths)? {
            present["spec"]["replicas"] = NO_REPLICAS.into();
        }
        let wanted = match patch {
            None => body.clone(),
            Some(PatchType::Json) => meta::patch::json::apply(&present, &body)?,
            Some(_) => meta::patch::merge::apply(&present, &body)?,
        };
        let wanted = decoded(&wanted).map_err(|e| {
            let (shown, why) = match patch {
                Some(PatchType::Strategic) => (meta::apply::go_text(&body), converted(&e.to_string())),
                _ => (wanted.to_string(), e.to_string()),
            };
            let mut errors = Errors::default();
            errors.invalid(Path::new("patch"), shown, why);
            Status::invalid("", "", "", &errors)
        })?;
        let replicas = wanted["spec"]["replicas"].as_i64().unwrap_or(0);
        if row.custom.is_some() && replicas == NO_REPLICAS {
            let text = format!("the spec replicas field \".{}\" cannot be empty", paths.spec_replicas);
            return Err(Status::bad_request(text));
        }
        // Of a custom resource that is told as a fault of its own field.
        if row.custom.is_none() && replicas < 0 {
            let mut errors = Errors::default();
            errors.invalid(Path::new("spec.replicas"), replicas, "must be greater than or equal to 0");
            return Err(Status::invalid("autoscaling", "Scale", &create::text(old, "name"), &errors));
        }
        create::check_name(call.info, &wanted)?;
        if patch == Some(PatchType::Apply) {
            // Applied is the one field that the Scale stands for, in the object's own words.
            let mut applied = json!({
                "apiVersion": old["apiVersion"], "kind": old["kind"],
                "metadata": {"name": old["metadata"]["name"]},
            });
            if body["spec"].get("replicas").is_some() {
                put(&mut applied, &paths.spec_replicas, replicas.into());
            }
            return managed::apply(call, Some(old), &applied, "scale");
        }
        let mut new = old.clone();
        put(&mut new, &paths.spec_replicas, replicas.into());
        // A patch has the present version, unless it names one itself.
        let version = wanted["metadata"].get("resourceVersion").cloned().unwrap_or_else(|| "".into());
        create::metadata(&mut new).insert("resourceVersion".into(), version);
        let uid = create::text(&wanted, "uid");
        if !uid.is_empty() {
            create::metadata(&mut new).insert("uid".into(), uid.into());
        }
        Ok(new)
    };
    let by = if patch == Some(PatchType::Apply) { managed::By::Apply } else { managed::By::Update };
    let new = update::write(&mut call, &name, "scale", by, &transform).await?;
    Ok((Answer::ok(of(&new, &paths)), std::mem::take(&mut call.warnings)))
}

/// Whether there are replicas to speak of, and nothing else where they should be. Built-in kinds always have them.
fn has_replicas(call: &Call<'_>, object: &Value, paths: &ScalePaths) -> Result<bool> {
    match call.row.custom {
        Some(_) => api::custom::has_replicas(object, paths).map_err(|why| Status::new(500, "", why)),
        None => Ok(true),
    }
}

fn scale_type() -> Result<TypeId> {
    api::facts::types().named(TYPE).ok_or_else(|| Status::internal("no type of a Scale"))
}

/// A Scale with values of the right types.
fn decoded(scale: &Value) -> std::result::Result<Value, DecodeError> {
    let ty = scale_type().map_err(|s| DecodeError::Type(s.message))?;
    api::codec::json::decode_value(api::facts::types(), ty, scale).map(|d| d.value)
}

/// The Scale of an object.
pub fn of(object: &Value, paths: &ScalePaths) -> Value {
    let at = |path: &str| path.split('.').fold(object, |v, p| &v[p]);
    let meta = &object["metadata"];
    let mut status = json!({"replicas": at(&paths.status_replicas).as_i64().unwrap_or(0)});
    let selector = selector_text(at(&paths.selector));
    if !selector.is_empty() {
        status["selector"] = selector.into();
    }
    json!({
        "kind": "Scale", "apiVersion": "autoscaling/v1",
        "metadata": {
            "name": meta["name"], "namespace": meta["namespace"], "uid": meta["uid"],
            "resourceVersion": meta["resourceVersion"], "creationTimestamp": meta["creationTimestamp"],
        },
        "spec": {"replicas": at(&paths.spec_replicas).as_i64().unwrap_or(0)},
        "status": status,
    })
}

/// A LabelSelector, or the plain map of a ReplicationController, as text.
fn selector_text(v: &Value) -> String {
    let pairs = |m: &Value| -> Vec<String> {
        m.as_object()
            .map(|m| m.iter().map(|(k, v)| format!("{k}={}", v.as_str().unwrap_or(""))).collect())
            .unwrap_or_default()
    };
    let Some(map) = v.as_object() else { return v.as_str().unwrap_or("").to_string() };
    if !map.contains_key("matchLabels") && !map.contains_key("matchExpressions") {
        return pairs(v).join(",");
    }
    let mut out = pairs(&v["matchLabels"]);
    for e in v["matchExpressions"].as_array().into_iter().flatten() {
        let key = e["key"].as_str().unwrap_or("");
        let values: Vec<&str> = e["values"].as_array().into_iter().flatten().filter_map(Value::as_str).collect();
        out.push(match e["operator"].as_str().unwrap_or("") {
            "In" => format!("{key} in ({})", values.join(",")),
            "NotIn" => format!("{key} notin ({})", values.join(",")),
            "Exists" => key.to_string(),
            _ => format!("!{key}"),
        });
    }
    out.join(",")
}

/// Takes over what a Scale may change.
pub fn set(object: &mut Value, paths: &ScalePaths, scale: &Value) {
    put(object, &paths.spec_replicas, scale["spec"]["replicas"].as_i64().unwrap_or(0).into());
}

fn put(object: &mut Value, path: &str, value: Value) {
    let mut at = object;
    for p in path.split('.') {
        at = &mut at[p];
    }
    *at = value;
}
