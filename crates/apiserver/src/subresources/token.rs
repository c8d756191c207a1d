//! `serviceaccounts/token`: TokenRequest. Source: KEP-1205.

use super::{body_of, track};
use crate::admission::Operation;
use crate::jwt::Token;
use crate::reader::Reader;
use crate::registry::{Answer, Call, store_error};
use crate::tokens::{EXPIRATION_SECONDS_DEFAULT, TokenIssuer};
use axum::body::Body;
use http::Request;
use meta::status::Result;

const TYPE: &str = "api.authentication.v1.TokenRequest";

pub async fn create(
    mut call: Call<'_>,
    content_type: &str,
    request: Request<Body>,
    issuer: &TokenIssuer,
) -> Result<(Answer, Vec<String>)> {
    let mut request = body_of(&mut call, TYPE, content_type, request).await?;
    let name = call.info.name.clone();
    if request["spec"]["expirationSeconds"].is_null() {
        request["spec"]["expirationSeconds"] = EXPIRATION_SECONDS_DEFAULT.into();
    }
    track(&call, TYPE, &mut request);
    let options = call.write_options("CreateOptions");
    call.admit(Operation::Create, "token", &name, &mut request, None, &options).await?;
    call.registry.store.barrier().await.map_err(store_error)?;
    let reader = Reader::new(call.registry.store.clone());
    let (namespace, now) = (&call.info.namespace, jiff::Timestamp::now());
    let account = issuer.prepare(&reader, namespace, &name, &mut request, now)?;
    call.admit_final(Operation::Create, "token", &name, &mut request, None, &options).await?;
    let (value, warnings) = issuer.issue(&reader, namespace, account, request, now).await?;
    call.warnings.extend(warnings);
    let issued = value["status"]["token"].as_str().and_then(|t| Token::parse(t).ok());
    if let Some(id) = issued.as_ref().and_then(|t| t.payload["jti"].as_str()) {
        call.audit.annotate("authentication.kubernetes.io/issued-credential-id", format!("JTI={id}"));
    }
    Ok((Answer::Object { code: 201, value }, std::mem::take(&mut call.warnings)))
}
