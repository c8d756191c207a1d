//! An OpenTelemetry collector that keeps the spans it gets, for scenarios to look at.

use crate::grpc::{Grpc, Listen};
use anyhow::Result;
use bytes::Bytes;
use prost::Message;
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

#[derive(Clone, PartialEq, Message)]
struct ExportRequest {
    #[prost(message, repeated, tag = "1")]
    resource_spans: Vec<ResourceSpans>,
}

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
    spans: Vec<WireSpan>,
}

#[derive(Clone, PartialEq, Message)]
struct Scope {
    #[prost(string, tag = "1")]
    name: String,
}

#[derive(Clone, PartialEq, Message)]
struct WireSpan {
    #[prost(bytes = "vec", tag = "1")]
    trace_id: Vec<u8>,
    #[prost(bytes = "vec", tag = "2")]
    span_id: Vec<u8>,
    #[prost(bytes = "vec", tag = "4")]
    parent_span_id: Vec<u8>,
    #[prost(string, tag = "5")]
    name: String,
    #[prost(int32, tag = "6")]
    kind: i32,
    #[prost(fixed64, tag = "7")]
    start: u64,
    #[prost(fixed64, tag = "8")]
    end: u64,
    #[prost(message, repeated, tag = "9")]
    attributes: Vec<KeyValue>,
    #[prost(message, repeated, tag = "13")]
    links: Vec<Link>,
    #[prost(message, optional, tag = "15")]
    status: Option<Status>,
}

#[derive(Clone, PartialEq, Message)]
struct Status {
    #[prost(int32, tag = "3")]
    code: i32,
}

const STATUS_ERROR: i32 = 2;

#[derive(Clone, PartialEq, Message)]
struct Link {
    #[prost(bytes = "vec", tag = "1")]
    trace_id: Vec<u8>,
}

#[derive(Clone, PartialEq, Message)]
struct KeyValue {
    #[prost(string, tag = "1")]
    key: String,
    #[prost(message, optional, tag = "2")]
    value: Option<AnyValue>,
}

#[derive(Clone, PartialEq, Message)]
struct AnyValue {
    #[prost(string, optional, tag = "1")]
    text: Option<String>,
    #[prost(int64, optional, tag = "3")]
    number: Option<i64>,
}

#[derive(Clone, Debug)]
pub struct Span {
    /// Ids in hexadecimal, as `traceparent` has them.
    pub trace: String,
    pub id: String,
    pub parent: String,
    pub name: String,
    pub kind: i32,
    pub nanoseconds: i64,
    pub attributes: BTreeMap<String, String>,
    pub links: Vec<String>,
    pub failed: bool,
    /// Who made it.
    pub scope: String,
    pub service: String,
}

pub struct Collector {
    spans: Arc<Mutex<Vec<Span>>>,
    _serving: Grpc,
}

impl Collector {
    pub fn start(listen: Listen) -> Result<Collector> {
        let spans: Arc<Mutex<Vec<Span>>> = Arc::default();
        let kept = spans.clone();
        let answer = move |method: &str, request: Bytes| {
            if method != "/opentelemetry.proto.collector.trace.v1.TraceService/Export" {
                return Err((12, "no such method".to_string()));
            }
            let request = ExportRequest::decode(request).map_err(|e| (3, e.to_string()))?;
            kept.lock().unwrap_or_else(PoisonError::into_inner).extend(read(request));
            Ok(Vec::new())
        };
        Ok(Collector { _serving: Grpc::start(listen, Arc::new(answer))?, spans })
    }

    pub fn spans(&self) -> Vec<Span> {
        self.spans.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

fn read(request: ExportRequest) -> Vec<Span> {
    let attributes = |list: Vec<KeyValue>| -> BTreeMap<String, String> {
        let value = |v: Option<AnyValue>| {
            v.map(|v| v.text.unwrap_or_else(|| v.number.unwrap_or_default().to_string())).unwrap_or_default()
        };
        list.into_iter().map(|kv| (kv.key, value(kv.value))).collect()
    };
    let mut out = Vec::new();
    for of in request.resource_spans {
        let resource = attributes(of.resource.unwrap_or_default().attributes);
        let spans = of.scope_spans.into_iter().flat_map(|s| {
            let scope = s.scope.unwrap_or_default().name;
            s.spans.into_iter().map(move |span| (scope.clone(), span))
        });
        for (scope, s) in spans {
            out.push(Span {
                trace: hex::encode(s.trace_id),
                id: hex::encode(s.span_id),
                parent: hex::encode(s.parent_span_id),
                name: s.name,
                kind: s.kind,
                nanoseconds: s.end as i64 - s.start as i64,
                attributes: attributes(s.attributes),
                failed: s.status.is_some_and(|s| s.code == STATUS_ERROR),
                scope,
                links: s.links.into_iter().map(|l| hex::encode(l.trace_id)).collect(),
                service: resource.get("service.name").cloned().unwrap_or_default(),
            });
        }
    }
    out
}
