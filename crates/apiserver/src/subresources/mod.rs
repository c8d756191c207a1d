//! Subresources that are not just another view of their object: each a file, each reached from [`dispatch`].

pub mod binding;
pub mod connect;
pub mod eviction;
pub mod scale;
pub mod token;

use crate::pipeline::{not_served, unsupported};
use crate::proxying::Proxy;
use crate::registry::patch::PatchType;
use crate::registry::{Answer, Call, create, get, managed, patch, update};
use crate::wire;
use axum::body::Body;
use http::{Request, Response, header};
use meta::status::{Result, Status};

/// What a request for a subresource ends in.
pub enum Outcome {
    Answer(Answer, Vec<String>),
    /// Streams and proxied answers are passed on as they are.
    Raw(Response<Body>),
}

/// Services that only some subresources need.
pub struct Backends<'a> {
    pub proxy: &'a Proxy,
    pub tokens: &'a crate::tokens::TokenIssuer,
}

pub async fn dispatch(call: Call<'_>, request: Request<Body>, backends: Backends<'_>) -> Result<Outcome> {
    let row = call.row.clone();
    let sub = call.info.subresource.clone();
    let Some(known) = row.subresource(&sub) else {
        return Err(match row.custom {
            Some(_) => call.not_found(&call.info.name),
            None => not_served(),
        });
    };
    if known.connect {
        return connect::connect(call, request, backends.proxy).await.map(Outcome::Raw);
    }
    let verb = call.info.verb.clone();
    if !known.verbs.iter().any(|v| *v == verb) {
        return Err(unsupported(&row, &verb));
    }
    if row.kind == "Pod" && sub == "log" {
        return connect::connect(call, request, backends.proxy).await.map(Outcome::Raw);
    }
    let content_type = content_type(&request);
    let done = |(a, w)| Outcome::Answer(a, w);
    match (row.group.as_str(), row.plural.as_str(), sub.as_str()) {
        (_, _, "scale") => scale::scale(call, &content_type, request).await.map(done),
        ("", "pods", "binding") => binding::bind(call, &content_type, request).await.map(done),
        ("", "pods", "eviction") => eviction::evict(call, &content_type, request).await.map(done),
        ("", "serviceaccounts", "token") => {
            token::create(call, &content_type, request, backends.tokens).await.map(done)
        }
        _ => match verb.as_str() {
            "get" => get::get(call).await.map(done),
            "update" => {
                let bytes = wire::read(request.into_body()).await?;
                let (mut object, warnings) =
                    wire::decode_object(&row, &content_type, &bytes, call.options.field_validation)?;
                let mut call = call;
                call.warnings.extend(warnings);
                row.strategy.defaults(&mut object);
                call.audit.request_object(&object);
                update::update(call, &sub, object).await.map(done)
            }
            "patch" => {
                let kind = PatchType::of(&row, &content_type)?;
                let body = patch_body(kind, request).await?;
                call.audit.request_object(&body.value);
                patch::patch(call, &sub, kind, body).await.map(done)
            }
            _ => Err(unsupported(&row, &verb)),
        },
    }
}

pub fn content_type(request: &Request<Body>) -> String {
    request.headers().get(header::CONTENT_TYPE).and_then(|v| v.to_str().ok()).unwrap_or("").to_string()
}

/// A patch's document: JSON, or YAML for apply.
pub async fn patch_body(kind: PatchType, request: Request<Body>) -> Result<patch::Document> {
    patch::Document::parse(kind, &wire::read(request.into_body()).await?)
}

/// Decodes a body of a kind that isn't the row's own (Binding, Eviction, TokenRequest).
/// `type_name`: `api.<group>.<version>.<kind>`.
pub async fn body_of(
    call: &mut Call<'_>,
    type_name: &str,
    content_type: &str,
    request: Request<Body>,
) -> Result<serde_json::Value> {
    let bytes = wire::read(request.into_body()).await?;
    let mut object = decode_as(call, type_name, content_type, &bytes)?;
    create::check_namespace(call.info, &object)?;
    let (api_version, kind) = names_of(type_name);
    object["apiVersion"] = api_version.into();
    object["kind"] = kind.into();
    create::metadata(&mut object).insert("namespace".into(), call.info.namespace.as_str().into());
    call.audit.request_object(&object);
    Ok(object)
}

/// Notes in a body's managed fields who sent it, as admission sees it.
pub fn track(call: &Call<'_>, type_name: &str, object: &mut serde_json::Value) {
    if let Some(ty) = api::facts::types().named(type_name) {
        managed::track_sent(call, ty, object);
    }
}

/// What objects of a type call themselves: `apiVersion` and `kind`.
fn names_of(type_name: &str) -> (String, &str) {
    let mut names = type_name.rsplit('.');
    let (kind, version, group) =
        (names.next().unwrap_or_default(), names.next().unwrap_or_default(), names.next().unwrap_or_default());
    let api_version = match group {
        "core" | "meta" => version.to_string(),
        "authentication" => format!("{group}.k8s.io/{version}"),
        _ => format!("{group}/{version}"),
    };
    (api_version, kind)
}

pub fn decode_as(call: &mut Call<'_>, type_name: &str, content_type: &str, bytes: &[u8]) -> Result<serde_json::Value> {
    let types = api::facts::types();
    let ty = types.named(type_name).ok_or_else(|| Status::internal(format!("no type {type_name}")))?;
    let (api_version, kind) = names_of(type_name);
    let validation = call.options.field_validation;
    let (value, warnings) = wire::decode(types, ty, kind, &api_version, content_type, bytes, validation)?;
    call.warnings.extend(warnings);
    Ok(value)
}
