//! Custom resources at run time: what a CustomResourceDefinition in the store becomes, and what its objects need that
//! built-in ones don't.
//!
//! * [`controller`]: follows CRDs; says in their status which names are theirs, keeps the catalogue's rows, and deletes
//!   all instances before a CRD goes.
//! * [`conversion`]: between versions, by itself or by a webhook.
//!
//! What objects mean (schemas, defaults, validation, columns) is [`api::custom`], and they pass the same engine as any
//! other kind.

pub mod controller;
pub mod conversion;

use crate::outbound;
use api::custom::Definition;
use parking_lot::Mutex;
use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::watch;

/// A write to a CRD is answered when its resources are served, or after so long.
const SETTLE_TIMEOUT: Duration = Duration::from_secs(3);

/// Shared by the engine and the controller. Cheap to clone.
#[derive(Clone)]
pub struct Custom {
    inner: Arc<Inner>,
}

struct Inner {
    outbound: outbound::Client,
    /// Definitions that are served, by their serial, each with who waits for its end.
    live: Mutex<HashMap<u64, watch::Sender<u64>>>,
    /// The store's revision up to which CRDs have become rows; `MAX` while nobody follows them.
    settled: watch::Sender<u64>,
}

impl Custom {
    pub fn new(outbound: outbound::Client) -> Custom {
        let settled = watch::Sender::new(u64::MAX);
        Custom { inner: Arc::new(Inner { outbound, live: Mutex::default(), settled }) }
    }

    /// Becomes other than 0 when this definition is no longer what is served.
    pub fn redefined(&self, definition: &Definition) -> watch::Receiver<u64> {
        match self.inner.live.lock().get(&definition.serial) {
            Some(s) => s.subscribe(),
            None => watch::Sender::new(1).subscribe(),
        }
    }

    /// Waits until the catalogue shows every CRD as of `revision`.
    pub async fn settle(&self, revision: store::Revision) {
        let mut settled = self.inner.settled.subscribe();
        let _ = tokio::time::timeout(SETTLE_TIMEOUT, settled.wait_for(|s| *s >= revision.0)).await;
    }
}
