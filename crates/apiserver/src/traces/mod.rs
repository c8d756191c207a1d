//! Traces: which requests took how long where, as spans that go to an OpenTelemetry collector (`--tracing-config-file`).
//!
//! In: requests, and the W3C context that their clients send. Out: a span for each sampled request, and below it spans for
//! the work of the registry, of the store and of webhooks, whose calls carry the context on. A task's current span is the
//! task's own ([`within`]), so whoever makes one names no parent; outside of a sampled request [`start`] gives an inert
//! span, which costs a look at a thread's local variable. Source: KEP-647; names and attributes are upstream's.

pub mod config;
mod context;
mod otlp;

pub use config::Config;
pub use context::Context;
pub use otlp::{Spans, Value};

use crate::authn::{Connection, MASTERS, User};
use crate::request_info::RequestInfo;
use http::HeaderMap;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};
use stdx::Shutdown;
use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use tokio::task::futures::TaskLocalFuture;

/// Instrumentation scopes, by which collectors tell who made a span.
const HTTP: &str = "go.opentelemetry.io/contrib/instrumentation/net/http/otelhttp";
const KUBERNETES: &str = "k8s.io/component-base/tracing";
/// The other group whose word on sampling counts, beside the administrators.
const MONITORING: &str = "system:monitoring";
/// Of any text in a span. Clients choose much of it, anonymous ones too, and thousands of spans wait in memory.
const TEXT_BYTES_MAX: usize = 1024;

#[derive(Clone, Copy)]
pub enum Kind {
    Internal = 1,
    Server = 2,
    Client = 3,
}

tokio::task_local! {
    static CURRENT: Current;
}

#[derive(Clone)]
pub struct Current {
    sink: Arc<Sink>,
    context: Context,
    audit_id: Arc<str>,
}

/// Off by default.
#[derive(Clone, Default)]
pub struct Traces(Option<Arc<Sink>>);

struct Sink {
    per_million: u32,
    finished: mpsc::Sender<Finished>,
    dropped: AtomicU64,
}

/// A span whose time is over.
pub struct Finished {
    context: Context,
    parent: Option<[u8; 8]>,
    link: Option<Context>,
    scope: &'static str,
    name: String,
    kind: Kind,
    /// Nanoseconds of Unix time.
    began: u64,
    ended: u64,
    attributes: Vec<(&'static str, Value)>,
    failure: Option<String>,
}

/// Work that is going on. It ends when this is dropped.
#[must_use]
pub struct Span(Option<Box<Open>>);

struct Open {
    sink: Arc<Sink>,
    span: Finished,
    started: Instant,
    audit_id: Arc<str>,
}

/// What is known of a request when it may become a span.
pub struct Arriving<'a> {
    pub method: &'a http::Method,
    pub uri: &'a http::Uri,
    pub headers: &'a HeaderMap,
    pub version: http::Version,
    pub connection: &'a Connection,
    pub info: &'a RequestInfo,
    pub audit_id: &'a str,
    pub started: Instant,
}

impl Traces {
    /// The task that sends; it ends, with all sent, when `shutdown` is cancelled.
    pub fn open(config: Config, shutdown: Shutdown) -> (Traces, JoinHandle<()>) {
        let (traces, spans) = Traces::new(config.per_million);
        let task = tokio::spawn(otlp::run(config.collector, config.endpoint, spans, shutdown));
        (traces, task)
    }

    fn new(per_million: u32) -> (Traces, Spans) {
        let (finished, spans) = mpsc::channel(otlp::QUEUE_MAX);
        (Traces(Some(Arc::new(Sink { per_million, finished, dropped: AtomicU64::new(0) }))), spans)
    }

    /// The span of a request, if it is to have one.
    ///
    /// Administrators and monitoring may say themselves which of their requests are traced. Others' word doesn't count, or
    /// anybody could flood the collector: their traces begin here and only link to what they sent.
    pub fn request(&self, a: &Arriving<'_>, user: &User) -> Option<Span> {
        let sink = self.0.as_ref()?;
        let sent = Context::of(a.headers);
        let trusted = user.in_group(MASTERS) || user.in_group(MONITORING);
        let (parent, link) = if trusted { (sent, None) } else { (None, sent) };
        let trace_id = parent.as_ref().map_or_else(rand::random, |p| p.trace_id);
        if !parent.as_ref().map_or_else(|| is_chosen(&trace_id, sink.per_million), |p| p.sampled) {
            return None;
        }
        let context = Context {
            trace_id,
            span_id: rand::random(),
            sampled: true,
            state: parent.as_ref().and_then(|p| p.state.clone()),
        };
        let elapsed = a.started.elapsed();
        let mut span = Span::open(sink, HTTP, span_name(a), Kind::Server, context, parent.map(|p| p.span_id));
        if let Some(open) = &mut span.0 {
            open.started = a.started;
            open.audit_id = a.audit_id.into();
            open.span.began = open.span.began.saturating_sub(elapsed.as_nanos() as u64);
            open.span.link = link;
        }
        let target = a.uri.path_and_query().map_or("/", |p| p.as_str());
        span.set("http.request.method", a.method.as_str());
        span.set("http.target", target);
        span.set("url.path", a.uri.path());
        span.set("url.scheme", "https");
        span.set("network.protocol.version", protocol(a.version));
        span.set("audit-id", a.audit_id);
        let host =
            a.headers.get(http::header::HOST).and_then(|v| v.to_str().ok()).or(a.uri.authority().map(|x| x.as_str()));
        if let Some(host) = host {
            let (name, port) = host.rsplit_once(':').unwrap_or((host, ""));
            span.set("server.address", name);
            if let Ok(port) = port.parse::<u16>() {
                span.set("server.port", port);
            }
        }
        if let Some(peer) = a.connection.peer {
            span.set("network.peer.address", peer.ip().to_string());
            span.set("network.peer.port", peer.port());
            span.set("client.address", peer.ip().to_string());
        }
        if let Some(agent) = a.headers.get(http::header::USER_AGENT).and_then(|v| v.to_str().ok()) {
            span.set("user_agent.original", agent);
        }
        Some(span)
    }
}

/// OpenTelemetry's `TraceIDRatioBased`: the same traces everywhere, whoever decides.
fn is_chosen(trace_id: &[u8; 16], per_million: u32) -> bool {
    let low = trace_id.last_chunk::<8>().map_or(0, |b| u64::from_be_bytes(*b)) >> 1;
    let bound = (u128::from(per_million) << 63) / 1_000_000;
    u128::from(low) < bound
}

fn protocol(version: http::Version) -> &'static str {
    match version {
        http::Version::HTTP_2 => "2",
        http::Version::HTTP_10 => "1.0",
        _ => "1.1",
    }
}

fn span_name(a: &Arriving<'_>) -> String {
    let i = a.info;
    if !i.is_resource {
        return a.method.to_string();
    }
    let prefix = if i.group.is_empty() { "api" } else { "apis" };
    let mut name = format!("{} /{prefix}", a.method);
    let mut add = |part: &str| {
        if !part.is_empty() {
            name.push('/');
            name.push_str(part);
        }
    };
    add(&i.group);
    add(&i.version);
    add(if i.namespace.is_empty() { "" } else { "namespaces/{:namespace}" });
    add(&i.resource);
    add(if i.name.is_empty() { "" } else { "{:name}" });
    add(&i.subresource);
    name
}

impl Sink {
    fn take(&self, span: Finished) {
        if self.finished.try_send(span).is_err() {
            let n = self.dropped.fetch_add(1, Ordering::Relaxed) + 1;
            if n.is_power_of_two() {
                tracing::warn!(dropped = n, "spans were dropped: the collector is slower than they come");
            }
        }
    }
}

impl Span {
    fn open(
        sink: &Arc<Sink>,
        scope: &'static str,
        name: String,
        kind: Kind,
        context: Context,
        parent: Option<[u8; 8]>,
    ) -> Span {
        let name = cut(name);
        let span = Finished {
            context,
            parent,
            link: None,
            scope,
            name,
            kind,
            began: unix_nanos(),
            ended: 0,
            attributes: Vec::new(),
            failure: None,
        };
        Span(Some(Box::new(Open { sink: sink.clone(), span, started: Instant::now(), audit_id: "".into() })))
    }

    pub fn is_recording(&self) -> bool {
        self.0.is_some()
    }

    pub fn set(&mut self, key: &'static str, value: impl Into<Value>) {
        if let Some(open) = &mut self.0 {
            let value = match value.into() {
                Value::Text(text) => Value::Text(cut(text)),
                number => number,
            };
            open.span.attributes.push((key, value));
        }
    }

    pub fn fail(&mut self, why: impl Into<String>) {
        if let Some(open) = &mut self.0 {
            open.span.failure = Some(cut(why.into()));
        }
    }

    /// Tells whoever is called what its work is part of.
    pub fn inject(&self, headers: &mut HeaderMap) {
        if let Some(open) = &self.0 {
            open.span.context.inject(headers);
        }
    }

    /// For [`within`].
    pub fn current(&self) -> Option<Current> {
        self.0.as_ref().map(|open| Current {
            sink: open.sink.clone(),
            context: open.span.context.clone(),
            audit_id: open.audit_id.clone(),
        })
    }
}

impl Drop for Span {
    fn drop(&mut self) {
        let Some(mut open) = self.0.take() else { return };
        // By the clock that never goes back.
        open.span.ended = open.span.began + open.started.elapsed().as_nanos() as u64;
        open.sink.take(open.span);
    }
}

fn cut(mut text: String) -> String {
    if text.len() > TEXT_BYTES_MAX {
        let end = (0..=TEXT_BYTES_MAX).rev().find(|i| text.is_char_boundary(*i)).unwrap_or(0);
        text.truncate(end);
        // Else it would still hold the memory of the whole.
        text.shrink_to_fit();
    }
    text
}

fn unix_nanos() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or(Duration::ZERO).as_nanos() as u64
}

/// Awaits work within a span ([`Span::current`], or none): spans that it starts are below that one.
///
/// A macro, since a function would hold the work's future twice over, and those of requests are large: what isn't traced is
/// awaited where it stands, what is goes to the heap.
macro_rules! within {
    ($span:expr, $work:expr) => {
        match $span {
            None => $work.await,
            Some(current) => $crate::traces::boxed(current, $work).await,
        }
    };
}
pub(crate) use within;

/// For [`within`].
pub fn boxed<F: Future>(current: Current, work: F) -> Pin<Box<TaskLocalFuture<Current, F>>> {
    Box::pin(CURRENT.scope(current, work))
}

/// A span below the current one; inert where there is none.
pub fn start(name: &'static str) -> Span {
    below(KUBERNETES, Kind::Internal, || name.to_string())
}

/// As [`start`], of a call to another server.
pub fn calling(method: &http::Method) -> Span {
    below(HTTP, Kind::Client, || format!("HTTP {method}"))
}

fn below(scope: &'static str, kind: Kind, name: impl FnOnce() -> String) -> Span {
    let made = CURRENT.try_with(|c| {
        let context = Context { span_id: rand::random(), ..c.context.clone() };
        let mut span = Span::open(&c.sink, scope, name(), kind, context, Some(c.context.span_id));
        if let Some(open) = &mut span.0 {
            open.audit_id = c.audit_id.clone();
        }
        span
    });
    made.unwrap_or(Span(None))
}

/// Upstream's span of a verb's work, with what every such span tells of the request.
pub fn verb(a: &Arriving<'_>) -> Span {
    let name = match a.info.verb.as_str() {
        "create" => "Create",
        "update" => "Update",
        "patch" => "Patch",
        "delete" | "deletecollection" => "Delete",
        "get" => "Get",
        "list" => "List",
        _ => return Span(None),
    };
    let mut span = start(name);
    if !span.is_recording() {
        return span;
    }
    let i = a.info;
    let header = |name: http::header::HeaderName| a.headers.get(name).and_then(|v| v.to_str().ok()).unwrap_or_default();
    span.set("accept", header(http::header::ACCEPT));
    span.set("audit-id", a.audit_id);
    span.set("client", a.connection.peer.map(|p| p.ip().to_string()).unwrap_or_default());
    span.set("api-group", i.group.as_str());
    span.set("api-version", i.version.as_str());
    span.set("name", i.name.as_str());
    span.set("subresource", i.subresource.as_str());
    span.set("namespace", i.namespace.as_str());
    span.set("protocol", format!("{:?}", a.version));
    span.set("resource", i.resource.as_str());
    let scope = match (i.name.is_empty() && i.verb != "create", i.namespace.is_empty()) {
        (false, _) => "resource",
        (true, false) => "namespace",
        (true, true) => "cluster",
    };
    span.set("scope", scope);
    span.set("url", a.uri.path());
    span.set("user-agent", header(http::header::USER_AGENT));
    span.set("verb", a.method.as_str());
    span
}

/// A write to the store, by upstream's name for it.
pub fn storing(name: &'static str, key: &str, kind: &str, resource: &str) -> Span {
    let mut span = start(name);
    let audit_id = span.0.as_ref().map(|open| open.audit_id.to_string());
    if let Some(id) = audit_id {
        span.set("audit-id", id);
        span.set("key", key);
        span.set("type", kind);
        span.set("resource", resource);
    }
    span
}

#[cfg(test)]
mod tests {
    use super::*;

    fn arriving<'a>(
        headers: &'a HeaderMap,
        info: &'a RequestInfo,
        uri: &'a http::Uri,
        connection: &'a Connection,
    ) -> Arriving<'a> {
        Arriving {
            method: &http::Method::GET,
            uri,
            headers,
            version: http::Version::HTTP_2,
            connection,
            info,
            audit_id: "a",
            started: Instant::now(),
        }
    }

    #[tokio::test]
    async fn requests_are_sampled_and_only_the_trusted_say_which() {
        let uri: http::Uri = "/api/v1/namespaces/d/pods/p/status?x=y".parse().unwrap();
        let info = RequestInfo::parse(&http::Method::GET, uri.path(), "");
        let connection = Connection::default();
        let parent = |flags: &str| {
            let text = format!("00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-{flags}");
            HeaderMap::from_iter([(http::header::HeaderName::from_static("traceparent"), text.parse().unwrap())])
        };
        let (admin, other) = (User::new("a", &[MASTERS]), User::new("o", &["system:authenticated"]));
        for (rate, user, headers, sampled) in [
            (0, &admin, HeaderMap::new(), false),
            (0, &admin, parent("01"), true),
            (0, &other, parent("01"), false),
            (1_000_000, &admin, parent("00"), false),
            (1_000_000, &other, parent("00"), true),
            (1_000_000, &other, HeaderMap::new(), true),
        ] {
            let (traces, mut spans) = Traces::new(rate);
            drop(traces.request(&arriving(&headers, &info, &uri, &connection), user));
            let got = spans.try_recv().ok();
            assert_eq!(got.is_some(), sampled, "{rate} {} {headers:?}", user.name);
            let Some(span) = got else { continue };
            assert_eq!(span.name, "GET /api/v1/namespaces/{:namespace}/pods/{:name}/status");
            assert!(span.attributes.contains(&("http.target", "/api/v1/namespaces/d/pods/p/status?x=y".into())));
            let given = headers.contains_key("traceparent");
            assert_eq!(span.parent.is_some(), given && user == &admin, "the parent");
            assert_eq!(span.link.is_some(), given && user == &other, "the link");
        }
        assert!(Traces::default().request(&arriving(&parent("01"), &info, &uri, &connection), &admin).is_none(), "off");
    }

    #[tokio::test]
    async fn texts_are_cut_whoever_sends_them() {
        let long = "x".repeat(5000);
        let uri: http::Uri = format!("/apis/{long}/v1/namespaces/{long}/things/{long}?{long}").parse().unwrap();
        let info = RequestInfo::parse(&http::Method::GET, uri.path(), "");
        let headers: HeaderMap = HeaderMap::from_iter([
            (http::header::USER_AGENT, long.parse().unwrap()),
            (http::header::HOST, long.parse().unwrap()),
            (http::header::ACCEPT, long.parse().unwrap()),
        ]);
        let connection = Connection::default();
        let arriving = arriving(&headers, &info, &uri, &connection);
        let (traces, mut spans) = Traces::new(1_000_000);
        let mut root = traces.request(&arriving, &User::default()).unwrap();
        within!(root.current(), async {
            drop(verb(&arriving));
            drop(storing("Create etcd3", &long, &long, &long));
        });
        // Two bytes each, so that one of them lies across the limit.
        root.set("letters", format!("x{}", "ä".repeat(1000)));
        root.fail(long.as_str());
        drop(root);
        let got: Vec<Finished> = std::iter::from_fn(|| spans.try_recv().ok()).collect();
        assert_eq!(got.len(), 3);
        for span in &got {
            let texts = span.attributes.iter().filter_map(|(_, v)| match v {
                Value::Text(text) => Some(text),
                Value::Number(_) => None,
            });
            for text in texts.chain([&span.name]).chain(&span.failure) {
                assert!(text.len() <= TEXT_BYTES_MAX && text.capacity() < 2 * TEXT_BYTES_MAX, "{}", text.len());
            }
        }
        let root = &got[2];
        assert!(root.attributes.contains(&("user_agent.original", "x".repeat(1024).into())));
        assert!(root.attributes.contains(&("letters", format!("x{}", "ä".repeat(511)).into())));
    }

    /// Neither one that was never there, nor one for which an export is waiting already, nor a full queue.
    #[tokio::test(start_paused = true)]
    async fn an_absent_collector_does_not_hold_up_the_end() {
        let (headers, info, uri, connection) =
            (HeaderMap::new(), RequestInfo::default(), http::Uri::from_static("/version"), Connection::default());
        for (spans, before) in [(1, 0), (1, 7), (1800, 0), (1800, 7)] {
            let config = Config {
                collector: crate::grpc::Peer::on_socket("/nowhere/otel.sock"),
                endpoint: "unix:///nowhere/otel.sock".into(),
                per_million: 1_000_000,
            };
            let shutdown = Shutdown::new();
            let (traces, task) = Traces::open(config, shutdown.clone());
            for _ in 0..spans {
                drop(traces.request(&arriving(&headers, &info, &uri, &connection), &User::default()));
            }
            tokio::time::sleep(Duration::from_secs(before)).await;
            assert!(!task.is_finished());
            let began = tokio::time::Instant::now();
            shutdown.cancel();
            task.await.unwrap();
            assert!(began.elapsed() < Duration::from_secs(3), "{spans} {before}: {:?}", began.elapsed());
        }
    }

    #[test]
    fn so_many_of_a_million_are_chosen() {
        for rate in [0u32, 1, 250_000, 1_000_000] {
            let chosen = (0..20_000).filter(|_| is_chosen(&rand::random(), rate)).count();
            let want = 20_000.0 * f64::from(rate) / 1e6;
            assert!((chosen as f64 - want).abs() < 400.0, "{rate}: {chosen}");
        }
        assert!(is_chosen(&[0xff; 16], 1_000_000) && !is_chosen(&[0xff; 16], 999_999));
    }

    #[tokio::test]
    async fn spans_know_what_they_are_part_of() {
        assert!(!start("nothing").is_recording());
        let (traces, mut spans) = Traces::new(1_000_000);
        let (headers, info, uri, connection) =
            (HeaderMap::new(), RequestInfo::default(), http::Uri::from_static("/version"), Connection::default());
        let root = traces.request(&arriving(&headers, &info, &uri, &connection), &User::default()).unwrap();
        within!(root.current(), async {
            let mut inner = start("Create");
            within!(inner.current(), async {
                let mut call = calling(&http::Method::POST);
                call.fail("it didn't work");
                let mut headers = HeaderMap::new();
                call.inject(&mut headers);
                assert!(Context::of(&headers).unwrap().sampled);
            });
            inner.set("key", "value");
        });
        drop(root);
        let got: Vec<Finished> = std::iter::from_fn(|| spans.try_recv().ok()).collect();
        let names: Vec<&str> = got.iter().map(|s| s.name.as_str()).collect();
        assert_eq!(names, ["HTTP POST", "Create", "GET"]);
        assert_eq!(got[0].parent, Some(got[1].context.span_id));
        assert_eq!(got[1].parent, Some(got[2].context.span_id));
        assert!(got.iter().all(|s| s.context.trace_id == got[2].context.trace_id && s.ended >= s.began));
        assert_eq!(got[0].failure.as_deref(), Some("it didn't work"));
        assert!(got[2].parent.is_none());
    }
}
