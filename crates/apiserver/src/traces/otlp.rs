//! Spans on their way to a collector: OTLP over gRPC, in batches.
//!
//! The messages are those of opentelemetry-proto that a sender of spans needs, written out by hand.

use super::Finished;
use crate::grpc::{Failure, Peer};
use prost::Message;
use std::time::Duration;
use stdx::Shutdown;
use tokio::sync::mpsc;

/// Finished spans that wait to be sent.
pub type Spans = mpsc::Receiver<Finished>;

/// OpenTelemetry's defaults for its batches.
pub const QUEUE_MAX: usize = 2048;
const BATCH_MAX: usize = 512;
const BATCH_WAIT: Duration = Duration::from_secs(5);
const EXPORT_TIMEOUT: Duration = Duration::from_secs(10);
/// For all that is left when the server stops, so that a collector that isn't there, or is slow, doesn't hold it up.
const LAST_TIMEOUT: Duration = Duration::from_secs(2);

#[derive(Clone, PartialEq, Message)]
struct ExportRequest {
    #[prost(message, repeated, tag = "1")]
    resource_spans: Vec<ResourceSpans>,
}

#[derive(Clone, PartialEq, Message)]
struct ExportResponse {}

#[derive(Clone, PartialEq, Message)]
struct ResourceSpans {
    #[prost(message, optional, tag = "1")]
    resource: Option<Resource>,
    #[prost(message, repeated, tag = "2")]
    scope_spans: Vec<ScopeSpans>,
}

#[derive(Clone, PartialEq, Message)]
struct Resource {
    #[prost(message, repeated, tag = "1")]
    attributes: Vec<KeyValue>,
}

#[derive(Clone, PartialEq, Message)]
struct ScopeSpans {
    #[prost(message, optional, tag = "1")]
    scope: Option<Scope>,
    #[prost(message, repeated, tag = "2")]
    spans: Vec<Span>,
}

#[derive(Clone, PartialEq, Message)]
struct Scope {
    #[prost(string, tag = "1")]
    name: String,
}

#[derive(Clone, PartialEq, Message)]
struct Span {
    #[prost(bytes = "vec", tag = "1")]
    trace_id: Vec<u8>,
    #[prost(bytes = "vec", tag = "2")]
    span_id: Vec<u8>,
    #[prost(string, tag = "3")]
    trace_state: String,
    #[prost(bytes = "vec", tag = "4")]
    parent_span_id: Vec<u8>,
    #[prost(string, tag = "5")]
    name: String,
    #[prost(int32, tag = "6")]
    kind: i32,
    #[prost(fixed64, tag = "7")]
    start_time_unix_nano: u64,
    #[prost(fixed64, tag = "8")]
    end_time_unix_nano: u64,
    #[prost(message, repeated, tag = "9")]
    attributes: Vec<KeyValue>,
    #[prost(message, repeated, tag = "13")]
    links: Vec<Link>,
    #[prost(message, optional, tag = "15")]
    status: Option<Status>,
    #[prost(fixed32, tag = "16")]
    flags: u32,
}

#[derive(Clone, PartialEq, Message)]
struct Link {
    #[prost(bytes = "vec", tag = "1")]
    trace_id: Vec<u8>,
    #[prost(bytes = "vec", tag = "2")]
    span_id: Vec<u8>,
}

#[derive(Clone, PartialEq, Message)]
struct Status {
    #[prost(string, tag = "2")]
    message: String,
    #[prost(int32, tag = "3")]
    code: i32,
}

const STATUS_ERROR: i32 = 2;

#[derive(Clone, PartialEq, Message)]
struct KeyValue {
    #[prost(string, tag = "1")]
    key: String,
    #[prost(message, optional, tag = "2")]
    value: Option<AnyValue>,
}

#[derive(Clone, PartialEq, Message)]
struct AnyValue {
    #[prost(oneof = "Value", tags = "1, 3")]
    value: Option<Value>,
}

/// An attribute's value.
#[derive(Clone, PartialEq, prost::Oneof)]
pub enum Value {
    #[prost(string, tag = "1")]
    Text(String),
    #[prost(int64, tag = "3")]
    Number(i64),
}

impl From<&str> for Value {
    fn from(text: &str) -> Value {
        Value::Text(text.to_string())
    }
}

impl From<String> for Value {
    fn from(text: String) -> Value {
        Value::Text(text)
    }
}

impl From<u16> for Value {
    fn from(n: u16) -> Value {
        Value::Number(n.into())
    }
}

fn attribute(key: &str, value: Value) -> KeyValue {
    KeyValue { key: key.to_string(), value: Some(AnyValue { value: Some(value) }) }
}

/// Sends what finishes, until shutdown, and then the rest.
pub async fn run(collector: Peer, endpoint: String, mut spans: Spans, shutdown: Shutdown) {
    let instance = format!("apiserver-{}", uuid::Uuid::new_v4());
    let resource = Resource {
        attributes: vec![
            attribute("service.instance.id", instance.into()),
            attribute("service.name", "apiserver".into()),
        ],
    };
    let mut reachable = true;
    let mut end = std::pin::pin!(async {
        shutdown.cancelled().await;
        tokio::time::sleep(LAST_TIMEOUT).await;
    });
    loop {
        tokio::select! {
            () = shutdown.cancelled() => {}
            () = tokio::time::sleep(BATCH_WAIT) => {}
            () = filled(&spans) => {}
        }
        let mut batch = Vec::new();
        while batch.len() < BATCH_MAX
            && let Ok(span) = spans.try_recv()
        {
            batch.push(span);
        }
        if !batch.is_empty() {
            let n = batch.len();
            let request = encode(resource.clone(), batch);
            const METHOD: &str = "/opentelemetry.proto.collector.trace.v1.TraceService/Export";
            let sent = tokio::select! {
                sent = collector.call_when_ready::<_, ExportResponse>(METHOD, request, EXPORT_TIMEOUT) => sent,
                // Also of an export that began long before: its own time may be longer than the server's patience.
                () = &mut end => Err(Failure::timeout()),
            };
            match sent {
                Ok(_) => reachable = true,
                Err(error) => {
                    // Once, not for each batch.
                    if std::mem::take(&mut reachable) {
                        tracing::warn!(
                            endpoint,
                            %error,
                            spans = n,
                            "traces could not be sent; they are lost until they can"
                        );
                    }
                    if shutdown.is_cancelled() {
                        return;
                    }
                }
            }
        }
        if shutdown.is_cancelled() && spans.is_empty() {
            return;
        }
    }
}

/// A batch's worth is there.
async fn filled(spans: &Spans) {
    // The queue has no event for that; it is looked at ten times a second while traces are on.
    while spans.len() < BATCH_MAX {
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}

fn encode(resource: Resource, batch: Vec<Finished>) -> ExportRequest {
    let mut scopes: Vec<ScopeSpans> = Vec::new();
    for f in batch {
        let span = Span {
            trace_id: f.context.trace_id.to_vec(),
            span_id: f.context.span_id.to_vec(),
            trace_state: f.context.state.as_deref().unwrap_or_default().to_string(),
            parent_span_id: f.parent.map(|p| p.to_vec()).unwrap_or_default(),
            name: f.name,
            kind: f.kind as i32,
            start_time_unix_nano: f.began,
            end_time_unix_nano: f.ended,
            attributes: f.attributes.into_iter().map(|(k, v)| attribute(k, v)).collect(),
            links: f
                .link
                .map(|l| Link { trace_id: l.trace_id.to_vec(), span_id: l.span_id.to_vec() })
                .into_iter()
                .collect(),
            status: f.failure.map(|message| Status { message, code: STATUS_ERROR }),
            flags: super::context::SAMPLED.into(),
        };
        match scopes.iter_mut().find(|s| s.scope.as_ref().is_some_and(|s| s.name == f.scope)) {
            Some(scope) => scope.spans.push(span),
            None => scopes.push(ScopeSpans { scope: Some(Scope { name: f.scope.into() }), spans: vec![span] }),
        }
    }
    ExportRequest { resource_spans: vec![ResourceSpans { resource: Some(resource), scope_spans: scopes }] }
}
