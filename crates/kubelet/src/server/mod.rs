use std::sync::Arc;
use crate::pods::context::Context;
#[derive(Debug, thiserror::Error)]
#[error("x")]
pub struct ServeError;
pub async fn bind(_: Arc<Context>) -> Result<(), ServeError> { Ok(()) }
pub async fn serve(_: (), _: Arc<Context>) {}
