//! What a request's record shall say, told before there is one: how much is recorded depends on who asks, so the record
//! begins only when that is known. Upstream's `AddAuditAnnotation` serves authenticators in the same way.

use super::Audit;
use parking_lot::Mutex;
use std::sync::Arc;

/// Annotations.
pub type Remarks = Vec<(&'static str, String)>;

tokio::task_local! {
    static HEARD: Arc<Mutex<Remarks>>;
}

impl Audit {
    /// Does the work, and keeps what it has to [`remark`].
    pub async fn hearing<F: Future>(&self, work: F) -> (F::Output, Remarks) {
        if !self.is_on() {
            return (work.await, Remarks::new());
        }
        let heard: Arc<Mutex<Remarks>> = Arc::default();
        let done = HEARD.scope(heard.clone(), work).await;
        let remarks = std::mem::take(&mut *heard.lock());
        (done, remarks)
    }
}

/// Of the request that this task works for. Nobody hears it while audit is off, nor of a token that is only reviewed.
pub fn remark(key: &'static str, value: impl FnOnce() -> Option<String>) {
    // Without a listener it isn't even put together.
    let _ = HEARD.try_with(|heard| heard.lock().extend(value().map(|v| (key, v))));
}
