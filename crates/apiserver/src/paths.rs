//! Everything that is not a resource: health, version, metrics, discovery, OpenAPI, token issuer documents.

use crate::metrics::figures::HEALTH_CHECKS;
use crate::request_info::RequestInfo;
use crate::respond::{self, text};
use crate::server::Server;
use crate::{accept, discovery, openapi, pipeline};
use axum::body::Body;
use http::{HeaderValue, Method, Request, Response, StatusCode, header};
use meta::status::Result;
use serde_json::{Value, json};
use std::sync::Arc;

/// What upstream's router serves to GET alone; whatever else there is answers any method. Below these, and below its own
/// API groups, what isn't there is told as a `Status`.
const ROUTED: [&str; 4] = ["/.well-known/openid-configuration", "/api", "/openid/v1/jwks", "/version"];

pub async fn serve(server: &Arc<Server>, info: &RequestInfo, request: Request<Body>) -> Result<Response<Body>> {
    let segments: Vec<&str> = info.path.split('/').filter(|s| !s.is_empty()).collect();
    let discovers = segments.first() == Some(&"apis") && segments.len() <= 3;
    let routed = ROUTED.iter().any(|root| is_below(&info.path, root))
        || (discovers && segments.get(1).is_some_and(|group| has_group(&rows(server), group)));
    let found = match is_exact(&info.path, &segments, routed || discovers) {
        true => get(server, &segments, &request)?,
        false => None,
    };
    match found {
        Some(_) if (routed || discovers) && !matches!(*request.method(), Method::GET | Method::HEAD) => {
            Err(pipeline::not_allowed())
        }
        Some(found) => Ok(found),
        None if routed => Err(pipeline::not_served()),
        None => Ok(respond::nowhere()),
    }
}

fn is_below(path: &str, root: &str) -> bool {
    path.strip_prefix(root).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
}

/// Whether the path is spelled as its parts. Where upstream's router looks, a slash may follow.
fn is_exact(path: &str, segments: &[&str], slash: bool) -> bool {
    let path = path.strip_suffix('/').filter(|_| slash || segments.is_empty()).unwrap_or(path);
    path.strip_prefix('/').unwrap_or(path).split('/').filter(|_| !path.is_empty()).eq(segments.iter().copied())
}

/// Whether a group is the server's own. Of what isn't in these nobody knows anything.
pub fn has_group(rows: &[Arc<api::catalogue::Resource>], group: &str) -> bool {
    rows.iter().any(|r| r.is_builtin() && r.group == group)
}

/// `None`: there is no such thing.
fn get(server: &Arc<Server>, segments: &[&str], request: &Request<Body>) -> Result<Option<Response<Body>>> {
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
    let group_version = |group: &str, version: &str| {
        discovery::resource_list(&rows(server), group, version).map(|list| told(&list)).transpose()
    };
    Ok(Some(match segments {
        [] | ["index.html"] => indented(&json!({"paths": index(server)})),
        ["healthz" | "livez" | "readyz", ..] => return Ok(health(server, segments, query)),
        ["version"] => indented(&server.version),
        ["statusz" | "flagz"] => {
            let asked = crate::options::Options::parse(query).ok().and_then(|o| o.pretty);
            let pretty = accept::is_pretty(asked, &header(header::USER_AGENT));
            let asker = crate::zpages::Asker { accept: &wanted, pretty };
            if segments[0] == "flagz" {
                return crate::zpages::flagz(&server.about, &asker).map(Some);
            }
            crate::zpages::statusz(&server.about, &server.version, &index(server), jiff::Timestamp::now(), &asker)?
        }
        ["metrics"] => {
            let mut text = server.metrics.render(server.registry.store.as_ref(), &rows(server));
            text.push_str(&crate::metrics::build_info(&server.version));
            if let Some(fairness) = server.flow.fairness() {
                text.push_str(&crate::flow::metrics::render(fairness));
            }
            respond::bytes(200, "text/plain; version=0.0.4; charset=utf-8", text.into())
        }
        ["metrics", "slis"] => {
            let checks = ["healthz", "livez", "readyz"].map(|kind| (kind, server.health.checks(kind)));
            respond::bytes(200, "text/plain; version=0.0.4; charset=utf-8", crate::metrics::slis(&checks).into())
        }
        ["debug", "api_priority_and_fairness", which] => {
            let details = crate::request_info::form_pairs(query).any(|(k, v)| k == "includeRequestDetails" && v != "0");
            let Some(fairness) = server.flow.fairness() else { return Ok(None) };
            return Ok(crate::flow::dump::dump(fairness, which, details).map(|t| text(200, &t)));
        }
        [".well-known", "openid-configuration"] => {
            let document = server.tokens.openid_configuration(&server.advertised);
            kept_for(server.tokens.keys_age_seconds_max(), respond::json(200, &document))
        }
        ["openid", "v1", "jwks"] => {
            let keys = respond::bytes(200, "application/jwk-set+json", server.tokens.jwks().to_string().into());
            kept_for(server.tokens.keys_age_seconds_max(), keys)
        }
        ["api" | "apis"] if discovery::wants_aggregated(&wanted).is_some() => {
            aggregated(server, segments[0], &wanted, request, gzip)?
        }
        ["api"] => told(&discovery::api_versions(&server.advertised))?,
        ["api", version] => return group_version("", version),
        ["apis"] => {
            let mut list = discovery::group_list(&rows(server));
            server.aggregator.add_groups(&mut list);
            told(&list)?
        }
        ["apis", group] => {
            let ours = discovery::group(&rows(server), group);
            return server.aggregator.add_to_group(group, ours).map(|g| told(&g)).transpose();
        }
        ["apis", group, version] => return group_version(group, version),
        ["openapi", "v2"] => {
            let others = server.aggregator.v2_parts();
            document(openapi::v2(&server.openapi, &rows(server), &wanted, &others)?, request, gzip)
        }
        ["openapi", "v3"] => {
            let mut index = openapi::v3_index(&server.openapi, &rows(server));
            if !server.aggregator.is_empty()
                && let Ok(mut merged) = serde_json::from_slice::<Value>(&index.body)
            {
                server.aggregator.add_v3(&mut merged);
                index = openapi::Document::new(index.content_type, merged.to_string().into_bytes());
            }
            document(index, request, gzip)
        }
        ["openapi", "v3", rest @ ..] => {
            let found = openapi::v3(&server.openapi, &rows(server), &rest.join("/"), &wanted)
                .or_else(|| server.aggregator.v3(&rest.join("/")));
            match found {
                Some(found) => document(found, request, gzip),
                None => respond::empty(StatusCode::NOT_FOUND),
            }
        }
        _ => return Ok(None),
    }))
}

/// Others may remember this answer for a while.
fn kept_for(seconds: u64, mut response: Response<Body>) -> Response<Body> {
    if let Ok(value) = HeaderValue::try_from(format!("public, max-age={seconds}")) {
        response.headers_mut().insert(header::CACHE_CONTROL, value);
    }
    response
}

fn rows(server: &Server) -> Vec<Arc<api::catalogue::Resource>> {
    server.registry.catalogue.load().rows.clone()
}

/// As upstream's `WriteRawJSON`, whoever asks.
fn indented(value: &Value) -> Response<Body> {
    respond::bytes(200, "application/json", format!("{value:#}").into())
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
fn health(server: &Server, segments: &[&str], query: &str) -> Option<Response<Body>> {
    let endpoint = segments[0];
    let checks = server.health.checks(endpoint);
    for (name, result) in &checks {
        let status = if result.is_ok() { "success" } else { "error" };
        HEALTH_CHECKS.add(format!("name=\"{name}\",status=\"{status}\",type=\"{endpoint}\""));
    }
    if segments.len() > 1 {
        let one = segments[1..].join("/");
        return checks.iter().find(|(name, _)| *name == one).map(|(_, result)| match result {
            Ok(()) => text(200, "ok"),
            Err(why) => text(500, &format!("internal server error: {why}\n")),
        });
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
    Some(match (healthy, verbose) {
        (true, false) => text(200, "ok"),
        (true, true) => text(200, &format!("{lines}{endpoint} check passed\n")),
        (false, _) => text(500, &format!("{lines}{endpoint} check failed\n")),
    })
}

/// Paths that every server has, besides those of its health.
const ALWAYS: [&str; 14] = [
    "/.well-known/openid-configuration",
    "/api",
    "/api/v1",
    "/apis",
    "/apis/",
    "/flagz",
    "/metrics",
    "/metrics/slis",
    "/openapi/v2",
    "/openapi/v3",
    "/openapi/v3/",
    "/openid/v1/jwks",
    "/statusz",
    "/version",
];

fn index(server: &Server) -> Vec<Value> {
    let mut paths: Vec<String> = Vec::new();
    for r in rows(server).iter().filter(|r| !r.group.is_empty()) {
        for p in [format!("/apis/{}", r.group), format!("/apis/{}/{}", r.group, r.version)] {
            if !paths.contains(&p) {
                paths.push(p);
            }
        }
    }
    paths.extend(ALWAYS.map(String::from));
    for kind in ["healthz", "livez", "readyz"] {
        paths.push(format!("/{kind}"));
        let checks = server.health.checks(kind);
        paths.extend(checks.iter().map(|(name, _)| format!("/{kind}/{name}")));
    }
    paths.sort();
    paths.into_iter().map(Value::from).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_are_spelled_as_their_parts() {
        for (path, slash, want) in [
            ("/", false, true),
            ("", false, true),
            ("/healthz", false, true),
            ("/healthz/", false, false),
            ("//healthz", false, false),
            ("/version/", true, true),
            ("/version//", true, false),
            ("/healthz/ping", false, true),
        ] {
            let segments: Vec<&str> = path.split('/').filter(|s| !s.is_empty()).collect();
            assert_eq!(is_exact(path, &segments, slash), want, "{path}");
        }
        assert!(is_below("/api/v2", "/api") && is_below("/api", "/api") && !is_below("/apis", "/api"));
    }
}
