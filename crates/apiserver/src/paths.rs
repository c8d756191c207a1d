//! Everything that is not a resource: health, version, metrics, discovery, OpenAPI, token issuer documents.

use crate::metrics::figures::HEALTH_CHECKS;
use crate::request_info::RequestInfo;
use crate::server::Server;
use crate::{accept, discovery, openapi, respond};
use axum::body::Body;
use http::{HeaderValue, Method, Request, Response, StatusCode, header};
use meta::status::{Result, Status};
use serde_json::{Value, json};
use std::sync::Arc;

pub async fn serve(server: &Arc<Server>, info: &RequestInfo, request: Request<Body>) -> Result<Response<Body>> {
    if !matches!(*request.method(), Method::GET | Method::HEAD) {
        return Err(Status::new(
            405,
            "MethodNotAllowed",
            "the server does not allow this method on the requested resource",
        ));
    }
    let path = info.path.trim_end_matches('/');
    let header =
        |name: header::HeaderName| request.headers().get(name).and_then(|v| v.to_str().ok()).unwrap_or("").to_string();
    let wanted = header(header::ACCEPT);
    let gzip = header(header::ACCEPT_ENCODING).contains("gzip");
    let query = request.uri().query().unwrap_or("");
    let told = |value: &Value| -> Result<Response<Body>> {
        let mut a = accept::negotiate(Some(&wanted), accept::Endpoint::BARE)?;
        let asked = crate::options::Options::parse(query).ok().and_then(|o| o.pretty);
        a.pretty |= accept::is_pretty(asked, &header(header::USER_AGENT));
        Ok(respond::value_response(200, value, &a))
    };
    let segments: Vec<&str> = path.split('/').filter(|s| !s.is_empty()).collect();
    match segments.as_slice() {
        [] => Ok(indented(&json!({"paths": index(server)}))),
        ["healthz" | "livez" | "readyz", ..] => Ok(health(server, &segments, query)),
        ["version"] => Ok(indented(&server.version)),
        ["statusz" | "flagz"] => {
            let asked = crate::options::Options::parse(query).ok().and_then(|o| o.pretty);
            let pretty = accept::is_pretty(asked, &header(header::USER_AGENT));
            let asker = crate::zpages::Asker { accept: &wanted, pretty };
            if segments[0] == "flagz" {
                return crate::zpages::flagz(&server.about, &asker);
            }
            crate::zpages::statusz(&server.about, &server.version, &index(server), jiff::Timestamp::now(), &asker)
        }
        ["metrics"] => {
            let mut text = server.metrics.render(server.registry.store.as_ref(), &rows(server));
            text.push_str(&crate::metrics::build_info(&server.version));
            if let Some(fairness) = server.flow.fairness() {
                text.push_str(&crate::flow::metrics::render(fairness));
            }
            Ok(respond::bytes(200, "text/plain; version=0.0.4; charset=utf-8", text.into()))
        }
        ["metrics", "slis"] => {
            let checks = ["healthz", "livez", "readyz"].map(|kind| (kind, server.health.checks(kind)));
            Ok(respond::bytes(200, "text/plain; version=0.0.4; charset=utf-8", crate::metrics::slis(&checks).into()))
        }
        ["debug", "api_priority_and_fairness", which] => {
            let details = crate::request_info::form_pairs(query).any(|(k, v)| k == "includeRequestDetails" && v != "0");
            let fairness = server.flow.fairness().ok_or_else(missing)?;
            crate::flow::dump::dump(fairness, which, details).map(|t| text(200, &t)).ok_or_else(missing)
        }
        [".well-known", "openid-configuration"] => {
            let document = server.tokens.openid_configuration(&server.advertised);
            Ok(kept_for(server.tokens.keys_age_seconds_max(), respond::json(200, &document)))
        }
        ["openid", "v1", "jwks"] => {
            let keys = respond::bytes(200, "application/jwk-set+json", server.tokens.jwks().to_string().into());
            Ok(kept_for(server.tokens.keys_age_seconds_max(), keys))
        }
        ["api" | "apis"] if discovery::wants_aggregated(&wanted).is_some() => {
            aggregated(server, segments[0], &wanted, &request, gzip)
        }
        ["api"] => told(&discovery::api_versions(&server.advertised)),
        ["api", version] => told(&group_version(server, "", version)?),
        ["apis"] => {
            let mut list = discovery::group_list(&rows(server));
            server.aggregator.add_groups(&mut list);
            told(&list)
        }
        ["apis", group] => {
            let ours = discovery::group(&rows(server), group);
            told(&server.aggregator.add_to_group(group, ours).ok_or_else(missing)?)
        }
        ["apis", group, version] => told(&group_version(server, group, version)?),
        ["openapi", "v2"] => {
            let others = server.aggregator.v2_parts();
            openapi::v2(&server.openapi, &rows(server), &wanted, &others).map(|d| document(d, &request, gzip))
        }
        ["openapi", "v3"] => {
            let mut index = openapi::v3_index(&server.openapi, &rows(server));
            if !server.aggregator.is_empty()
                && let Ok(mut merged) = serde_json::from_slice::<Value>(&index.body)
            {
                server.aggregator.add_v3(&mut merged);
                index = openapi::Document::new(index.content_type, merged.to_string().into_bytes());
            }
            Ok(document(index, &request, gzip))
        }
        ["openapi", "v3", rest @ ..] => openapi::v3(&server.openapi, &rows(server), &rest.join("/"), &wanted)
            .or_else(|| server.aggregator.v3(&rest.join("/")))
            .map(|d| document(d, &request, gzip))
            .ok_or_else(missing),
        _ => Err(missing()),
    }
}

/// Others may remember this answer for a while.
fn kept_for(seconds: u64, mut response: Response<Body>) -> Response<Body> {
    if let Ok(value) = HeaderValue::try_from(format!("public, max-age={seconds}")) {
        response.headers_mut().insert(header::CACHE_CONTROL, value);
    }
    response
}

fn missing() -> Status {
    Status::new(404, "NotFound", "the server could not find the requested resource")
}

fn rows(server: &Server) -> Vec<Arc<api::catalogue::Resource>> {
    server.registry.catalogue.load().rows.clone()
}

/// As upstream's `WriteRawJSON`, whoever asks.
fn indented(value: &Value) -> Response<Body> {
    respond::bytes(200, "application/json", format!("{value:#}").into())
}

fn group_version(server: &Server, group: &str, version: &str) -> Result<Value> {
    discovery::resource_list(&rows(server), group, version).ok_or_else(missing)
}

fn aggregated(
    server: &Server,
    root: &str,
    accept: &str,
    request: &Request<Body>,
    gzip: bool,
) -> Result<Response<Body>> {
    let version = discovery::wants_aggregated(accept).unwrap_or("v2");
    let mut list = discovery::aggregated(&rows(server), root == "api", version);
    if root == "apis" {
        server.aggregator.add_aggregated(&mut list);
    }
    let body = list.to_string();
    let content_type = match version {
        "v2" => discovery::AGGREGATED_V2,
        _ => discovery::AGGREGATED_V2BETA1,
    };
    let etag = openapi::etag(body.as_bytes());
    let mut r = document(openapi::Document { content_type, body: body.into(), etag }, request, gzip);
    r.headers_mut().append(header::VARY, HeaderValue::from_static("Accept"));
    Ok(r)
}

/// A cacheable document: 304 when the client has it already.
fn document(d: openapi::Document, request: &Request<Body>, gzip: bool) -> Response<Body> {
    let quoted = format!("\"{}\"", d.etag);
    let known = request
        .headers()
        .get(header::IF_NONE_MATCH)
        .and_then(|v| v.to_str().ok())
        .is_some_and(|v| v.split(',').any(|t| t.trim().trim_start_matches("W/") == quoted));
    let mut r = if known {
        let mut r = Response::new(Body::empty());
        *r.status_mut() = StatusCode::NOT_MODIFIED;
        r
    } else {
        respond::finish(respond::bytes(200, d.content_type, d.body), gzip)
    };
    if let Ok(v) = HeaderValue::try_from(quoted) {
        r.headers_mut().insert(header::ETAG, v);
    }
    r
}

/// `/livez`, `/readyz`, `/healthz`, each check by name, `?verbose`, `?exclude=name`.
fn health(server: &Server, segments: &[&str], query: &str) -> Response<Body> {
    let endpoint = segments[0];
    let checks = server.health.checks(endpoint);
    for (name, result) in &checks {
        let status = if result.is_ok() { "success" } else { "error" };
        HEALTH_CHECKS.add(format!("name=\"{name}\",status=\"{status}\",type=\"{endpoint}\""));
    }
    if let [_, one] = segments {
        return match checks.iter().find(|(name, _)| name == one) {
            Some((_, Ok(()))) => text(200, "ok"),
            Some((_, Err(why))) => text(500, &format!("internal server error: {why}\n")),
            None => text(404, "404 page not found\n"),
        };
    }
    let mut excluded = Vec::new();
    let mut verbose = false;
    for (k, v) in crate::request_info::form_pairs(query) {
        match k.as_str() {
            "exclude" => excluded.push(v),
            "verbose" => verbose = true,
            _ => {}
        }
    }
    let mut lines = String::new();
    let mut healthy = true;
    for (name, result) in &checks {
        if let Some(at) = excluded.iter().position(|e| e == name) {
            excluded.remove(at);
            lines.push_str(&format!("[+]{name} excluded: ok\n"));
            continue;
        }
        match result {
            Ok(()) => lines.push_str(&format!("[+]{name} ok\n")),
            Err(_) => {
                healthy = false;
                lines.push_str(&format!("[-]{name} failed: reason withheld\n"));
            }
        }
    }
    if !excluded.is_empty() {
        excluded.sort();
        excluded.dedup();
        let quoted: Vec<String> = excluded.iter().map(|e| format!("{e:?}")).collect();
        let none = quoted.join(",");
        lines.push_str(&format!("warn: some health checks cannot be excluded: no matches for {none}\n"));
    }
    match (healthy, verbose) {
        (true, false) => text(200, "ok"),
        (true, true) => text(200, &format!("{lines}{endpoint} check passed\n")),
        (false, _) => text(500, &format!("{lines}{endpoint} check failed\n")),
    }
}

pub fn text(code: u16, body: &str) -> Response<Body> {
    let mut r = respond::bytes(code, "text/plain; charset=utf-8", body.to_string().into());
    r.headers_mut().insert("x-content-type-options", HeaderValue::from_static("nosniff"));
    r
}

fn index(server: &Server) -> Vec<Value> {
    let mut paths: Vec<String> =
        vec!["/.well-known/openid-configuration".into(), "/api".into(), "/api/v1".into(), "/apis".into()];
    for r in rows(server).iter().filter(|r| !r.group.is_empty()) {
        for p in [format!("/apis/{}", r.group), format!("/apis/{}/{}", r.group, r.version)] {
            if !paths.contains(&p) {
                paths.push(p);
            }
        }
    }
    for p in
        ["/flagz", "/metrics", "/metrics/slis", "/openapi/v2", "/openapi/v3", "/openid/v1/jwks", "/statusz", "/version"]
    {
        paths.push(p.into());
    }
    for kind in ["healthz", "livez", "readyz"] {
        paths.push(format!("/{kind}"));
        let checks = server.health.checks(kind);
        paths.extend(checks.iter().map(|(name, _)| format!("/{kind}/{name}")));
    }
    paths.sort();
    paths.into_iter().map(Value::from).collect()
}
