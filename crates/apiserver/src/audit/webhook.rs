//! Audit events to a webhook, as EventLists (`--audit-webhook-*`).

use super::Sink;
use super::batch::Delivery;
use super::event::Event;
use crate::outbound::{Client, Target};
use async_trait::async_trait;
use bytes::Bytes;
use serde_json::{Value, json};
use std::time::Duration;

/// How long the webhook may take for a batch.
const TIMEOUT: Duration = Duration::from_secs(30);
/// Upstream's backoff: five tries, each half as long again as the one before.
const TRIES: u32 = 5;
const FACTOR: f64 = 1.5;

pub struct Webhook {
    client: Client,
    target: Target,
    initial_backoff: Duration,
}

impl Webhook {
    pub fn new(client: Client, target: Target, initial_backoff: Duration) -> Webhook {
        Webhook { client, target, initial_backoff }
    }

    async fn send(&self, batch: &[Bytes]) -> bool {
        let items: Vec<Value> = batch.iter().filter_map(|line| serde_json::from_slice(line).ok()).collect();
        let list = json!({"kind": "EventList", "apiVersion": "audit.k8s.io/v1", "metadata": {}, "items": items});
        let mut pause = self.initial_backoff;
        let mut why = String::new();
        for attempt in 0..TRIES {
            if attempt > 0 {
                tokio::time::sleep(pause).await;
                pause = pause.mul_f64(FACTOR);
            }
            match self.client.post(&self.target, "", &list, TIMEOUT).await {
                Ok(answer) if answer.is_success() => return true,
                Ok(answer) => {
                    why = format!("status {}", answer.code);
                    // What is refused for what it is won't be taken later.
                    if answer.code < 500 && answer.code != 429 {
                        break;
                    }
                }
                Err(e) => why = e.to_string(),
            }
        }
        tracing::error!(events = batch.len(), why, "audit events could not be sent to the webhook");
        false
    }
}

#[async_trait]
impl Delivery for Webhook {
    async fn deliver(&self, batch: Vec<Bytes>) {
        self.send(&batch).await;
    }
}

/// `--audit-webhook-mode=blocking`: each event on its own, and the request waits.
pub struct Blocking {
    pub webhook: std::sync::Arc<Webhook>,
    pub strict: bool,
}

impl Sink for Blocking {
    fn take(&self, _: &Event, line: &Bytes) -> bool {
        let (webhook, line) = (self.webhook.clone(), line.clone());
        // The request's own thread waits, as the flag says; others take over its work.
        tokio::task::block_in_place(|| {
            tokio::runtime::Handle::current().block_on(async move { webhook.send(&[line]).await })
        })
    }

    fn is_strict(&self) -> bool {
        self.strict
    }
}
