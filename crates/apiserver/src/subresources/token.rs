//! `serviceaccounts/token`: TokenRequest. Source: KEP-1205.

use super::body_of;
use crate::registry::{Answer, Call, store_error};
use crate::tokens::TokenIssuer;
use axum::body::Body;
use http::Request;
use meta::status::Result;

pub async fn create(
    mut call: Call<'_>,
    content_type: &str,
    request: Request<Body>,
    issuer: &TokenIssuer,
) -> Result<(Answer, Vec<String>)> {
    let request = body_of(&mut call, "api.authentication.v1.TokenRequest", content_type, request).await?;
    let name = call.info.name.clone();
    let store = call.registry.store.clone();
    store.barrier().await.map_err(store_error)?;
    let entry = store.get(&call.key(&name)).ok_or_else(|| call.not_found(&name))?;
    let account = call.decode(&entry);
    let value = issuer.request(&account, &request).await?;
    Ok((Answer::Object { code: 201, value }, call.warnings))
}
