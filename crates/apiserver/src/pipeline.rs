//! The life of a request, top to bottom: parse → who → flow → may → decode → (engine: mutate → default/validate →
//! admit → commit) → respond.

use crate::accept::{self, Accept, Shape};
use crate::admission::Operation;
use crate::audit::{Arrival, Record};
use crate::authn::{Connection, User, impersonation};
use crate::authz::Authorizer;
use crate::options::Options;
use crate::registry::patch::PatchType;
use crate::registry::{Answer, Call, create, delete, get, list, patch, update, watch};
use crate::request_info::{RequestInfo, form_pairs};
use crate::server::Server;
use crate::subresources::{self, Backends, Outcome, content_type};
use crate::websocket::Socket;
use crate::{authz, component_status, flow, metrics, paths, respond, reviews, traces, warnings, websocket, wire};
use api::catalogue::Resource;
use axum::body::Body;
use futures::FutureExt;
use http::{HeaderMap, HeaderValue, Method, Request, Response, header};
use meta::status::{Result, Status};
use parking_lot::Mutex;
use serde_json::Value;
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

/// Answers one request. Never fails: whatever goes wrong becomes a `Status`.
pub async fn handle(server: &Arc<Server>, mut request: Request<Body>) -> Response<Body> {
    let started = Instant::now();
    let info = RequestInfo::parse(request.method(), request.uri().path(), request.uri().query().unwrap_or(""));
    let accept = error_accept(&request);
    let long_running = is_long_running(&info);
    let head = request.method() == Method::HEAD;
    let socket = Socket::asked(&mut request, &info);
    let from_outside = Connection::of(&request).identity.is_none();
    if from_outside
        && !is_health(&info)
        && let Some(refusal) = server.draining.refusal()
    {
        return refusal;
    }
    // The server's own parts don't look at it.
    let audit_id = (from_outside || server.audit.is_on()).then(|| audit_id(request.headers()));
    let deadline = match long_running {
        true => Ok(None),
        false => deadline(request.uri().query().unwrap_or(""), server.request_timeout).map(Some),
    };
    let ends = deadline.as_ref().ok().copied().flatten().map(|within| started + within);
    let notes = Notes { ends, ..Notes::default() };
    let under_way = (!long_running).then(|| server.metrics.in_flight(&info));
    let outcome = {
        // On the heap, since it is large and each layer around it would move it once more.
        let work = Box::pin(pass(server, &info, request, &notes, audit_id.as_deref().unwrap_or(""), started));
        // A panic is our own broken invariant: it is logged, and costs this request only.
        let work = std::panic::AssertUnwindSafe(work).catch_unwind().map(|r| {
            r.unwrap_or_else(|_| {
                tracing::error!(verb = info.verb, path = info.path, "panicked while serving a request");
                if let Some(record) = notes.record.get() {
                    record.panicked();
                }
                Err(Status::internal("This request caused apiserver to panic. Look in the logs for details."))
            })
        });
        match deadline {
            Err(s) => Err(s),
            Ok(None) => work.await,
            Ok(Some(deadline)) => match tokio::time::timeout(deadline, work).await {
                Ok(r) => r,
                Err(_) => Err(Status::timeout("Timeout: request did not complete within the allotted timeout", 0)),
            },
        }
    };
    let mut failure = None;
    let mut response = match outcome {
        Ok(r) => r,
        Err(s) => {
            // While the server stops, its own parts may still ask.
            if s.code >= 500 && !server.draining.is_draining() {
                tracing::warn!(
                    verb = info.verb,
                    path = info.path,
                    code = s.code,
                    message = s.message,
                    "request failed"
                );
            }
            let response = respond::status(&s, &accept);
            failure = Some(s);
            response
        }
    };
    warnings::write(response.headers_mut(), std::mem::take(&mut *notes.warnings.lock()));
    response.headers_mut().entry(header::CACHE_CONTROL).or_insert(HeaderValue::from_static("no-cache, private"));
    if response.status() == http::StatusCode::METHOD_NOT_ALLOWED
        && let Ok(methods) = HeaderValue::try_from(allowed_methods(server, &info))
    {
        response.headers_mut().entry(header::ALLOW).or_insert(methods);
    }
    if let Some(uids) = notes.uids.get() {
        uids.tell(response.headers_mut());
    }
    if let Some(id) = audit_id.and_then(|id| HeaderValue::try_from(id).ok()) {
        response.headers_mut().insert("audit-id", id);
    }
    let code = response.status().as_u16();
    let record = notes.record.get().cloned().unwrap_or_default();
    let mut span = notes.span.lock().take();
    if let Some(span) = &mut span {
        span.set("http.response.status_code", code);
        if code >= 500 {
            span.fail("");
        }
    }
    if long_running && code == 200 {
        record.started(code);
        let body = std::mem::take(response.body_mut());
        let ended = record.completion(code);
        let counted = metrics::long_running(&info, notes.row.get().map(|r| &**r));
        *response.body_mut() = match info.verb.as_str() {
            "watch" => server.draining.ending(body, (server.flow.watching(&info), ended, span, counted)),
            _ => crate::draining::holding(body, (ended, span, counted)),
        };
    } else {
        record.complete(code, failure.as_ref());
    }
    if head {
        // What GET would answer, without its body: HTTP/2 clients take a body for a broken stream.
        *response.body_mut() = Body::empty();
    }
    drop(under_way);
    // Those who were turned away before didn't come to their row.
    let find = || server.registry.catalogue.load().find(&info.group, &info.version, &info.resource);
    let row = notes.row.get().cloned().or_else(|| if info.is_resource { find() } else { None });
    let size = http_body::Body::size_hint(response.body()).exact();
    server.metrics.request(&info, row.as_deref(), code, started.elapsed(), long_running, size);
    match socket {
        Some(socket) => socket.carry(response),
        None => response,
    }
}

/// What is learned on the way and needed at the end, however it ends.
#[derive(Default)]
struct Notes {
    /// What the client is to be warned of, whether the request succeeds or not.
    warnings: Arc<Mutex<Vec<String>>>,
    record: OnceLock<Record>,
    uids: OnceLock<flow::Uids>,
    /// What it is about.
    row: OnceLock<Arc<Resource>>,
    /// Where the request is traced.
    span: Mutex<Option<traces::Span>>,
    /// When nobody waits for the answer any more.
    ends: Option<Instant>,
}

async fn pass(
    server: &Arc<Server>,
    info: &RequestInfo,
    request: Request<Body>,
    notes: &Notes,
    audit_id: &str,
    started: Instant,
) -> Result<Response<Body>> {
    // Who asks.
    let connection = Connection::of(&request);
    let arrival = Arrival { id: audit_id, uri: request.uri(), headers: request.headers(), info, connection };
    let asked = Instant::now();
    let authenticating = server.authn.authenticate(&info.path, request.headers(), connection);
    let authenticating = warnings::heard(notes.warnings.clone(), authenticating);
    let (authenticated, remarks) = server.audit.hearing(authenticating).await;
    let result = authenticated.as_ref().map_or_else(|e| e.result(), |_| "success");
    let result = format!("result=\"{result}\"");
    metrics::figures::AUTHENTICATION_DURATIONS.observe(result.clone(), asked.elapsed().as_secs_f64());
    metrics::figures::AUTHENTICATIONS.add(result);
    let user = match authenticated {
        Ok(user) => {
            let shown = metrics::shown_user(&user.name);
            metrics::figures::AUTHENTICATED_USERS.add(format!("username=\"{shown}\""));
            user
        }
        Err(_) => {
            server.audit.unauthenticated(&arrival);
            return Err(Status::unauthorized());
        }
    };
    let _ = notes.record.set(server.audit.begin(&arrival, &user, remarks)?);
    let span = server.traces.request(&traced(&request, info, connection, audit_id, started), &user);
    let current = span.as_ref().and_then(traces::Span::current);
    *notes.span.lock() = span;
    traces::within!(current, admitted(server, info, request, notes, audit_id, started, user))
}

/// The request of a user who is known.
async fn admitted(
    server: &Arc<Server>,
    info: &RequestInfo,
    mut request: Request<Body>,
    notes: &Notes,
    audit_id: &str,
    started: Instant,
    user: User,
) -> Result<Response<Body>> {
    let record = notes.record.get_or_init(Record::default);
    websocket::shake_off(request.headers_mut(), info);
    let own = authz::Attributes::of(&user, info);
    let other = impersonation::impersonate(request.headers(), &own, server.authz.as_ref(), &server.authn.modes).await?;
    if let Some(other) = &other {
        record.impersonated(other);
    }
    let user = other.map_or(user, |o| o.user);

    // Is there room.
    let query = request.uri().query().unwrap_or("");
    let (uids, seat) = server.flow.enter(info, query, &user, is_stream(info)).await;
    if let Some(uids) = uids {
        let _ = notes.uids.set(uids);
    }
    let Ok(_seat) = seat else { return Ok(flow::too_many_requests()) };

    // May they.
    let attributes = authz::Attributes::of(&user, info);
    let asked = Instant::now();
    let decision = server.authz.authorize(&attributes).await;
    let result = format!("result=\"{}\"", decision.result());
    metrics::figures::AUTHORIZATION_DURATIONS.observe(result.clone(), asked.elapsed().as_secs_f64());
    metrics::figures::AUTHORIZATIONS.add(result);
    if !decision.error().is_empty() {
        record.annotate("authorization.k8s.io/reason", "internal error");
        let uri = request.uri().path_and_query().map_or("", |p| p.as_str());
        let text = format!("Internal Server Error: {uri:?}: {}", decision.error());
        return Ok(respond::text(500, &format!("{}\n", respond::escaped(&text))));
    }
    if record.is_on() {
        let decided = if decision.allowed() { "allow" } else { "forbid" };
        record.annotate("authorization.k8s.io/decision", decided);
        record.annotate("authorization.k8s.io/reason", decision.reason());
    }
    if !decision.allowed() {
        return Err(authz::forbidden(&attributes, decision.reason()));
    }

    if let Some(remote) = server.aggregator.route(&info.path) {
        return Ok(server.aggregator.forward(&remote, &user, request).await);
    }
    if !info.is_resource {
        return paths::serve(server, info, request).await;
    }
    let catalogue = server.registry.catalogue.load_full();
    let Some(row) = catalogue.find(&info.group, &info.version, &info.resource) else {
        return nobodys(paths::has_group(&catalogue.rows, &info.group));
    };
    let _ = notes.row.set(row.clone());
    if row.namespaced && info.namespace.is_empty() && !matches!(info.verb.as_str(), "list" | "watch") {
        // All namespaces together can be read, and nothing else.
        let readable = info.name.is_empty() && row.custom.is_none() && row.has_verb("list");
        return if readable { Err(not_allowed()) } else { nobodys(row.custom.is_none()) };
    }
    if !row.namespaced && info.within_namespace {
        return nobodys(row.custom.is_none());
    }
    check_segment(&info.name)?;
    let options = Options::parse(request.uri().query().unwrap_or(""))?;
    let watch = info.verb == "watch";
    // Nothing but a read comes here by a query; the old path of watches takes any method and any depth.
    if watch && !matches!(*request.method(), Method::GET | Method::HEAD) {
        return Err(not_allowed());
    }
    if watch && !info.subresource.is_empty() {
        return Err(not_served());
    }
    let endpoint = accept::Endpoint { tables: !is_review(&row), protobuf: row.is_builtin(), watch };
    let agent = header_of(request.headers(), header::USER_AGENT).unwrap_or("").to_string();
    let mut accept = match is_stream(info) {
        true => accept::JSON,
        false => accept::negotiate(header_of(request.headers(), header::ACCEPT), endpoint)?,
    };
    accept.pretty = !watch && (accept.pretty || accept::is_pretty(options.pretty, &agent));
    if matches!(accept.shape, Shape::Table { .. }) {
        options.check_table()?;
    }
    let gzip = accept::takes_gzip(header_of(request.headers(), header::ACCEPT_ENCODING));
    let include_object = options.include_object.clone();
    let call = Call {
        registry: &server.registry,
        row: row.clone(),
        info,
        user: &user,
        options,
        accept: accept.clone(),
        user_agent: &agent,
        warnings: row.strategy.deprecation().map(String::from).into_iter().collect(),
        audit: record,
        told: notes.warnings.clone(),
        internal: false,
        ends: notes.ends,
        conversions: Default::default(),
    };
    let defines = row.group == "apiextensions.k8s.io" && !matches!(info.verb.as_str(), "get" | "list" | "watch");
    let connection = Connection::of(&request);
    let work = traces::verb(&traced(&request, info, connection, audit_id, started));
    let outcome = traces::within!(work.current(), resource(server, call, request))?;
    drop(work);
    if defines {
        // Whoever defines a resource may use it at once.
        server.registry.custom.settle(server.registry.store.revision()).await;
    }
    let (answer, warnings) = match outcome {
        Outcome::Raw(r) => return Ok(r),
        Outcome::Answer(a, w) => (a, w),
    };
    notes.warnings.lock().extend(warnings);
    if record.wants_response() {
        record.response_object(&answer.to_value(&row));
    }
    Ok(respond::answer(answer, &respond::Request { accept: &accept, row: &row, include_object: &include_object, gzip }))
}

/// One request for a resource, by verb.
async fn resource(server: &Arc<Server>, mut call: Call<'_>, request: Request<Body>) -> Result<Outcome> {
    let row = call.row.clone();
    if !call.info.subresource.is_empty() {
        let backends = Backends { proxy: &server.proxy, tokens: &server.tokens };
        return subresources::dispatch(call, request, backends).await;
    }
    let verb = call.info.verb.clone();
    // Of a custom resource that goes, discovery names fewer verbs than are served.
    if row.custom.is_none() && !row.has_verb(&verb) {
        return Err(not_allowed());
    }
    let misplaced = match verb.as_str() {
        "create" => !call.info.name.is_empty(),
        "update" | "patch" => call.info.name.is_empty(),
        _ => false,
    };
    if misplaced {
        return Err(not_allowed());
    }
    let content_type = content_type(&request);
    let (answer, warnings) = match verb.as_str() {
        "get" | "list" if row.kind == "ComponentStatus" && row.group.is_empty() => {
            component_status::answer(&server.health, call).await?
        }
        "get" => get::get(call).await?,
        "list" => list::list(call).await?,
        "watch" => watch::watch(call).await?,
        "create" => {
            let object = body(&mut call, &content_type, request).await?;
            if is_review(&row) {
                review(server, call, &object).await?
            } else if row.kind == "Binding" {
                let pods = server.registry.catalogue.load().find("", "v1", "pods").ok_or_else(not_served)?;
                subresources::binding::create(call, object, pods).await?
            } else {
                create::create(call, object).await?
            }
        }
        "update" => {
            let object = body(&mut call, &content_type, request).await?;
            update::update(call, "", object).await?
        }
        "patch" => {
            let kind = PatchType::of(&row, &content_type)?;
            let document = subresources::patch_body(kind, request).await?;
            call.audit.request_object(&document.value);
            patch::patch(call, "", kind, document).await?
        }
        "delete" | "deletecollection" => {
            let options = delete_options(&mut call, &content_type, request).await?;
            if verb == "delete" {
                delete::delete(call, &options).await?
            } else {
                delete::delete_collection(call, &options).await?
            }
        }
        other => return Err(unsupported(&row, other)),
    };
    Ok(Outcome::Answer(answer, warnings))
}

/// The request's object, decoded and defaulted.
async fn body(call: &mut Call<'_>, content_type: &str, request: Request<Body>) -> Result<Value> {
    let bytes = wire::read(request.into_body()).await?;
    let row = call.row.clone();
    let (mut object, warnings) = wire::decode_object(&row, content_type, &bytes, call.options.field_validation)?;
    create::check_body(&row, &object)?;
    object["apiVersion"] = row.api_version().into();
    object["kind"] = row.kind.as_str().into();
    call.warnings.extend(warnings);
    row.strategy.defaults(&mut object);
    call.audit.request_object(&object);
    Ok(object)
}

async fn delete_options(call: &mut Call<'_>, content_type: &str, request: Request<Body>) -> Result<Value> {
    let bytes = wire::read(request.into_body()).await?;
    if bytes.is_empty() {
        return Ok(Value::Null);
    }
    let options = subresources::decode_as(call, "apimachinery.pkg.apis.meta.v1.DeleteOptions", content_type, &bytes)?;
    if !matches!(options["kind"].as_str(), None | Some("" | "DeleteOptions")) {
        return Err(Status::bad_request("decoded object cannot be converted to DeleteOptions"));
    }
    call.audit.request_object(&options);
    Ok(options)
}

/// 400 for names that no object can have, because keys are made of them.
fn check_segment(name: &str) -> Result<()> {
    let why = match name {
        "." | ".." => format!("may not be '{name}'"),
        _ => {
            let bad: Vec<String> =
                ["/", "%"].iter().filter(|c| name.contains(**c)).map(|c| format!("may not contain '{c}'")).collect();
            bad.join(";")
        }
    };
    if why.is_empty() {
        return Ok(());
    }
    Err(Status::bad_request(format!("Name parameter invalid: {name:?}: {why}")))
}

/// What a resource doesn't take. Custom resources say so in words of their own, as in upstream.
pub(crate) fn unsupported(row: &api::catalogue::Resource, verb: &str) -> Status {
    match row.custom {
        Some(_) => Status::method_not_supported(&row.group, &row.plural, verb),
        None => not_allowed(),
    }
}

/// The methods that the path of a refused one takes, for `Allow`.
fn allowed_methods(server: &Server, info: &RequestInfo) -> String {
    const METHODS: [(&str, &[&str]); 5] = [
        ("GET", &["get", "list"]),
        ("PUT", &["update"]),
        ("POST", &["create"]),
        ("PATCH", &["patch"]),
        ("DELETE", &["delete", "deletecollection"]),
    ];
    let catalogue = server.registry.catalogue.load();
    let written = info.is_resource && info.verb != "watch";
    let Some(row) = catalogue.find(&info.group, &info.version, &info.resource).filter(|_| written) else {
        return "GET".to_string();
    };
    let sub = row.subresource(&info.subresource);
    let of_all = row.namespaced && !info.within_namespace;
    let takes = |verb: &str| {
        let one = matches!(verb, "get" | "update" | "patch" | "delete");
        match (&sub, info.subresource.is_empty()) {
            (Some(s), false) => s.verbs.iter().any(|v| *v == verb),
            _ => row.has_verb(verb) && one != info.name.is_empty() && (!of_all || verb == "list"),
        }
    };
    let methods: Vec<&str> = METHODS.iter().filter(|(_, verbs)| verbs.iter().any(|v| takes(v))).map(|m| m.0).collect();
    methods.join(", ")
}

pub(crate) fn not_allowed() -> Status {
    Status::of_router(405, "MethodNotAllowed", "the server does not allow this method on the requested resource")
}

pub(crate) fn not_served() -> Status {
    Status::of_router(404, "NotFound", "the server could not find the requested resource")
}

/// The answer for a path that leads nowhere, which is a `Status` among the server's own groups only.
fn nobodys(own: bool) -> Result<Response<Body>> {
    if own { Err(not_served()) } else { Ok(respond::nowhere()) }
}

/// Kinds that are asked, not stored.
fn is_review(row: &api::catalogue::Resource) -> bool {
    matches!(row.group.as_str(), "authentication.k8s.io" | "authorization.k8s.io")
}

/// A question: admitted like an object, answered, and not stored.
async fn review(server: &Server, mut call: Call<'_>, object: &Value) -> Result<(Answer, Vec<String>)> {
    let (kind, namespace) = (call.row.kind.clone(), call.info.namespace.clone());
    let mut object = reviews::received(&call, object).await?;
    let (name, options) = (create::text(&object, "name"), call.write_options("CreateOptions"));
    call.admit(Operation::Create, "", &name, &mut object, None, &options).await?;
    reviews::check(&kind, &namespace, &object)?;
    call.admit_final(Operation::Create, "", &name, &mut object, None, &options).await?;
    let authorizer = server.authz.as_ref();
    let value = match kind.as_str() {
        "TokenReview" => reviews::token_review(&server.authn, &object).await,
        "SelfSubjectReview" => reviews::self_subject_review(call.user, &object),
        "SubjectAccessReview" | "LocalSubjectAccessReview" => reviews::subject_access_review(authorizer, &object).await,
        "SelfSubjectAccessReview" => reviews::self_subject_access_review(authorizer, call.user, &object).await,
        "SelfSubjectRulesReview" => reviews::self_subject_rules_review(authorizer, call.user, &object),
        _ => return Err(not_served()),
    };
    Ok((Answer::Object { code: 201, value }, std::mem::take(&mut call.warnings)))
}

fn traced<'a>(
    request: &'a Request<Body>,
    info: &'a RequestInfo,
    connection: &'a Connection,
    audit_id: &'a str,
    started: Instant,
) -> traces::Arriving<'a> {
    let (method, uri, headers) = (request.method(), request.uri(), request.headers());
    traces::Arriving { method, uri, headers, version: request.version(), connection, info, audit_id, started }
}

fn is_stream(info: &RequestInfo) -> bool {
    matches!(info.subresource.as_str(), "log" | "exec" | "attach" | "portforward" | "proxy")
}

/// What the client calls this request, or a new name. Source: "Auditing", the `Audit-ID` header.
fn audit_id(headers: &HeaderMap) -> String {
    const LONGEST: usize = 64;
    match headers.get("audit-id").and_then(|v| v.to_str().ok()).filter(|v| !v.is_empty()) {
        Some(given) => given.chars().take(LONGEST).collect(),
        None => uuid::Builder::from_random_bytes(rand::random()).into_uuid().to_string(),
    }
}

fn is_health(info: &RequestInfo) -> bool {
    !info.is_resource && matches!(info.path.split('/').nth(1), Some("healthz" | "livez" | "readyz"))
}

/// How long the request may take: what the client says with `?timeout=`, but no longer than the server allows.
fn deadline(query: &str, most: Duration) -> Result<Duration> {
    let asked = form_pairs(query).find(|(k, v)| k == "timeout" && !v.is_empty());
    let Some((_, asked)) = asked else { return Ok(most) };
    match meta::duration::parse_go(&asked) {
        Ok(d) if d.is_zero() => Ok(most),
        Ok(d) => Ok(d.min(most)),
        Err(why) => Err(Status::bad_request(format!("invalid timeout specified in the request URL - {why}"))),
    }
}

fn is_long_running(info: &RequestInfo) -> bool {
    info.verb == "watch" || is_stream(info)
}

fn header_of(headers: &HeaderMap, name: header::HeaderName) -> Option<&str> {
    headers.get(name).and_then(|v| v.to_str().ok())
}

/// Errors come in the format that was asked for where it can be served, else as JSON.
fn error_accept(request: &Request<Body>) -> Accept {
    let any = accept::Endpoint { tables: true, protobuf: true, watch: false };
    let headers = request.headers();
    let accept = accept::negotiate(header_of(headers, header::ACCEPT), any).unwrap_or(accept::JSON);
    let agent = header_of(headers, header::USER_AGENT).unwrap_or("");
    let asked = request.uri().query().filter(|q| q.contains("pretty")).and_then(|q| Options::parse(q).ok()?.pretty);
    Accept { shape: Shape::Plain, pretty: accept.pretty || accept::is_pretty(asked, agent), ..accept }
}
