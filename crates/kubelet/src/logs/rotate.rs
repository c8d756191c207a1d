pub async fn run(_: std::sync::Arc<crate::pods::context::Context>) {}
