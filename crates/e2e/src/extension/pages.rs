//! What is behind pods' and Services' proxies: an echo of the request, redirects, a slow stream, an upgrade.

use super::{Body, json, typed};
use bytes::Bytes;
use futures::StreamExt;
use http::{Request, Response, header};
use http_body_util::{BodyExt, StreamBody};
use hyper::body::{Frame, Incoming};
use hyper_util::rt::TokioIo;
use serde_json::{Map, Value, json};
use std::convert::Infallible;
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

pub async fn answer(mut request: Request<Incoming>) -> Response<Body> {
    let path = request.uri().path().to_string();
    if request.headers().contains_key(header::UPGRADE) {
        return upgrade(&mut request);
    }
    match path.as_str() {
        "/healthz" => typed(200, "text/plain", "ok"),
        "/redirect" => redirect("/landed?by=redirect"),
        "/redirect-away" => redirect("https://elsewhere.test/x"),
        "/ticks" => ticks(),
        "/page" => typed(200, "text/html; charset=utf-8", PAGE),
        "/page.gz" => zipped(PAGE),
        "/teapot" => typed(418, "text/plain", "short and stout"),
        _ => echo(request).await,
    }
}

const PAGE: &str = "<!DOCTYPE html><link href=\"/style.css\"><a href='/there?x=1'>/there</a>\
    <img src=near.png><a href=\"https://elsewhere.test/x\">away</a><script>'<a href=\"/no\">'</script>";

fn zipped(text: &str) -> Response<Body> {
    use std::io::Write;
    let mut z = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::default());
    let _ = z.write_all(text.as_bytes());
    let mut r = typed(200, "text/html", z.finish().unwrap_or_default());
    r.headers_mut().insert(header::CONTENT_ENCODING, header::HeaderValue::from_static("gzip"));
    r
}

fn redirect(to: &str) -> Response<Body> {
    let mut r = typed(302, "text/plain", "");
    if let Ok(v) = to.parse() {
        r.headers_mut().insert(header::LOCATION, v);
    }
    r
}

async fn echo(request: Request<Incoming>) -> Response<Body> {
    let (parts, body) = request.into_parts();
    let body = body.collect().await.map(|b| b.to_bytes()).unwrap_or_default();
    let headers: Map<String, Value> =
        parts.headers.iter().map(|(k, v)| (k.to_string(), String::from_utf8_lossy(v.as_bytes()).into())).collect();
    json(
        200,
        &json!({
            "method": parts.method.as_str(), "path": parts.uri.path(), "query": parts.uri.query(),
            "headers": headers, "body": String::from_utf8_lossy(&body),
        }),
    )
}

/// A line every 300 ms, three times, on an open answer.
fn ticks() -> Response<Body> {
    let lines = futures::stream::iter(1..=3).then(|i| async move {
        tokio::time::sleep(Duration::from_millis(300)).await;
        Ok::<_, Infallible>(Frame::data(Bytes::from(format!("tick {i}\n"))))
    });
    let mut r = Response::new(BodyExt::boxed_unsync(StreamBody::new(lines)));
    r.headers_mut().insert(header::CONTENT_TYPE, header::HeaderValue::from_static("text/plain"));
    r
}

/// Whatever it is called, what comes in goes out again in capitals.
pub fn upgrade(request: &mut Request<Incoming>) -> Response<Body> {
    let protocol = request.headers().get(header::UPGRADE).cloned();
    let on = hyper::upgrade::on(request);
    tokio::spawn(async move {
        let Ok(io) = on.await else { return };
        let mut io = TokioIo::new(io);
        let mut buffer = [0; 1024];
        while let Ok(n) = io.read(&mut buffer).await
            && n > 0
        {
            if io.write_all(&buffer[..n].to_ascii_uppercase()).await.is_err() {
                return;
            }
        }
    });
    let mut r = typed(101, "text/plain", "");
    r.headers_mut().remove(header::CONTENT_TYPE);
    r.headers_mut().insert(header::CONNECTION, header::HeaderValue::from_static("Upgrade"));
    if let Some(p) = protocol {
        r.headers_mut().insert(header::UPGRADE, p);
    }
    r
}
