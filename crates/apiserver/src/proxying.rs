//! Passing a request on to a kubelet, a pod, a Service's endpoint or an extension server, upgraded connections included.

mod pages;
mod text;

use crate::authn::bearer::remove_token;
use crate::outbound::{self, Client, Target, Trust, Url};
use crate::pki::Identity;
use arc_swap::ArcSwap;
use axum::body::Body;
use futures::StreamExt;
use http::{HeaderMap, HeaderName, HeaderValue, Method, Request, Response, StatusCode, header};
use hyper_util::rt::TokioIo;
use meta::status::{Result, Status};
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);

/// Connections on behalf of clients.
pub struct Proxy {
    outbound: Client,
    /// Signs kubelets' certificates.
    ca_pem: Arc<[u8]>,
    /// Shown to kubelets.
    identity: ArcSwap<Identity>,
}

impl Proxy {
    pub fn new(outbound: Client, ca_pem: &str, kubelet_client: &Identity) -> Proxy {
        Proxy { outbound, ca_pem: ca_pem.as_bytes().into(), identity: ArcSwap::from_pointee(kubelet_client.clone()) }
    }

    /// Kubelets are shown this certificate from now on.
    pub fn replace_identity(&self, kubelet_client: &Identity) {
        self.identity.store(Arc::new(kubelet_client.clone()));
    }

    /// A node's kubelet: the cluster's own certificates are used both ways.
    pub fn kubelet(&self, host: &str, port: u16) -> Target {
        Target::new(Url::new(true, host, port, "/"))
            .trusting(Trust::Ca(self.ca_pem.clone()))
            .identified_by(self.identity.load_full())
            .connecting_within(CONNECT_TIMEOUT)
            .over_http1()
    }

    /// A pod or whatever is behind a Service. Nobody vouches for their certificates, as upstream.
    pub fn anyone(&self, tls: bool, host: &str, port: u16) -> Target {
        Target::new(Url::new(tls, host, port, "/"))
            .trusting(Trust::Anybody)
            .connecting_within(CONNECT_TIMEOUT)
            .over_http1()
    }

    /// Sends the request to `path` at the target and passes the answer back.
    pub async fn forward(
        &self,
        request: Request<Body>,
        target: &Target,
        path: &str,
        query: &str,
    ) -> Result<Response<Body>> {
        pass(&self.outbound, target, path, query, request, |_| {}).await.map_err(|e| unreachable(&e))
    }

    /// As [`Proxy::forward`], where the pages of the backend are seen below `prefix`: it is told so, and its redirects
    /// and links to itself lead back there.
    pub async fn forward_below(
        &self,
        request: Request<Body>,
        target: &Target,
        path: &str,
        query: &str,
        prefix: &str,
    ) -> Result<Response<Body>> {
        let method = request.method().clone();
        let asked_host = request.headers().get(header::HOST).and_then(|h| h.to_str().ok()).unwrap_or("").to_string();
        let uri = HeaderValue::try_from(format!("{prefix}{path}")).ok();
        let told = |headers: &mut HeaderMap| {
            if let Some(v) = uri {
                headers.insert("x-forwarded-uri", v);
            }
        };
        let done = pass(&self.outbound, target, path, query, request, told).await;
        let mut response = done.map_err(|e| unreachable(&e))?;
        let location = response.headers().get(header::LOCATION).and_then(|v| v.to_str().ok());
        let own = [target.url.authority(), asked_host];
        let rewritten = location.map(|l| rewrite(l, &own, prefix));
        if let Some(v) = rewritten.and_then(|l| HeaderValue::try_from(l).ok()) {
            response.headers_mut().insert(header::LOCATION, v);
        } else if is_page(&method, &response) {
            response = with_links(response, own, prefix.to_string());
        }
        Ok(response)
    }
}

/// An answer whose body is a page that can be read. Compressed pages in ways that aren't known stay as they are, as
/// upstream. So does what has no page: there, headers tell of the page that a GET would give; and a part of one goes by
/// the offsets in its `Content-Range`.
fn is_page(method: &Method, answer: &Response<Body>) -> bool {
    let without =
        matches!(answer.status(), StatusCode::NO_CONTENT | StatusCode::PARTIAL_CONTENT | StatusCode::NOT_MODIFIED);
    if *method == Method::HEAD || without || http_body::Body::is_end_stream(answer.body()) {
        return false;
    }
    let text = |name| answer.headers().get(name).and_then(|v| v.to_str().ok()).unwrap_or("");
    let html = text(header::CONTENT_TYPE).split(';').next().is_some_and(|t| t.trim().eq_ignore_ascii_case("text/html"));
    html && matches!(text(header::CONTENT_ENCODING), "" | "identity" | "gzip")
}

/// The page with its links rewritten, as it arrives. It is sent on uncompressed: its length isn't known before.
fn with_links(response: Response<Body>, own: [String; 2], prefix: String) -> Response<Body> {
    let (mut parts, body) = response.into_parts();
    let zipped = parts.headers.get(header::CONTENT_ENCODING).is_some_and(|v| v == "gzip");
    for name in [header::CONTENT_LENGTH, header::CONTENT_ENCODING, header::ETAG] {
        parts.headers.remove(name);
    }
    let page = pages::Page::new(move |link| rewrite(link, &own, &prefix));
    let state = (body.into_data_stream(), Some((text::Text::new(zipped), page)));
    let stream = futures::stream::try_unfold(state, |(mut body, left)| async move {
        let Some((mut text, mut page)) = left else { return Ok(None) };
        loop {
            match text.step()? {
                text::Step::Text(bytes) => {
                    let out = page.push(&bytes);
                    // A page may go on for ever; the worker has other requests, too.
                    tokio::task::yield_now().await;
                    if !out.is_empty() {
                        return Ok(Some((bytes::Bytes::from(out), (body, Some((text, page))))));
                    }
                }
                text::Step::More => match body.next().await {
                    Some(Ok(bytes)) => text.arrive(bytes),
                    Some(Err(e)) => return Err(std::io::Error::other(e)),
                    None => text.end(),
                },
                text::Step::End => {
                    let rest = page.finish();
                    return Ok((!rest.is_empty()).then(|| (bytes::Bytes::from(rest), (body, None))));
                }
            }
        }
    });
    Response::from_parts(parts, Body::from_stream(stream))
}

fn unreachable(e: &outbound::Error) -> Status {
    Status::unavailable(format!("error trying to reach service: {}", e.cause))
}

/// A link of the backend as a client of the proxy must follow it. `own`: hosts under which the backend knows itself.
/// Source: upstream's `proxy.Transport.rewriteURL`.
fn rewrite(link: &str, own: &[String], prefix: &str) -> String {
    let absolute = link.split_once("://").filter(|(scheme, _)| is_scheme(scheme));
    let after_scheme = absolute.map(|(_, r)| r).or_else(|| link.strip_prefix("//"));
    let path = match after_scheme {
        None => link,
        Some(rest) => {
            let end = rest.find(['/', '?', '#']).unwrap_or(rest.len());
            let (host, path) = rest.split_at(end);
            if !own.iter().any(|o| o == host) {
                return link.to_string();
            }
            path
        }
    };
    // Relative links are right as they are, and so are those that know of the proxy.
    if !path.starts_with('/') || path.starts_with(prefix) {
        return if after_scheme.is_some() && path.starts_with('/') { path.to_string() } else { link.to_string() };
    }
    format!("{prefix}{path}")
}

/// RFC 3986, section 3.1. A whole link may stand in the query of another, so `://` alone says nothing.
fn is_scheme(text: &str) -> bool {
    let mut bytes = text.bytes();
    bytes.next().is_some_and(|b| b.is_ascii_alphabetic())
        && bytes.all(|b| b.is_ascii_alphanumeric() || matches!(b, b'+' | b'-' | b'.'))
}

/// Sends the request to `path` at the target and passes the answer back; an upgraded connection is copied both ways
/// until either side ends it. Who asked is the API server's business: the client's credentials stop here. `more` sees
/// the headers last.
pub async fn pass(
    client: &Client,
    target: &Target,
    path: &str,
    query: &str,
    mut request: Request<Body>,
    more: impl FnOnce(&mut HeaderMap),
) -> std::result::Result<Response<Body>, outbound::Error> {
    let upgrade = request.headers().get(header::UPGRADE).cloned();
    let inbound = upgrade.is_some().then(|| hyper::upgrade::on(&mut request));
    let peer: Option<SocketAddr> = request.extensions().get::<crate::authn::Connection>().and_then(|c| c.peer);

    let (parts, body) = request.into_parts();
    let mut out = Request::new(body);
    *out.method_mut() = parts.method;
    let headers = out.headers_mut();
    *headers = end_to_end(&parts.headers);
    remove_identity(headers);
    if let Some(v) = forwarded_for(headers, peer) {
        headers.insert("x-forwarded-for", v);
    }
    if let Some(u) = &upgrade {
        headers.insert(header::CONNECTION, HeaderValue::from_static("Upgrade"));
        headers.insert(header::UPGRADE, u.clone());
    }
    more(headers);

    let mut response = client.send(target, path, query, out).await?;
    if response.status() == StatusCode::SWITCHING_PROTOCOLS
        && let Some(inbound) = inbound
    {
        let outbound = hyper::upgrade::on(&mut response);
        tokio::spawn(async move {
            if let (Ok(a), Ok(b)) = tokio::join!(inbound, outbound) {
                let _ = tokio::io::copy_bidirectional(&mut TokioIo::new(a), &mut TokioIo::new(b)).await;
            }
        });
        let mut answer = Response::new(Body::empty());
        *answer.status_mut() = StatusCode::SWITCHING_PROTOCOLS;
        *answer.headers_mut() = response.headers().clone();
        return Ok(answer);
    }
    let (parts, body) = response.into_parts();
    let mut answer = Response::new(Body::new(body));
    *answer.status_mut() = parts.status;
    *answer.headers_mut() = end_to_end(&parts.headers);
    Ok(answer)
}

/// Who somebody is and acts as is between them and this server, and nobody may say it to others in its name.
pub fn remove_identity(headers: &mut HeaderMap) {
    remove_token(headers);
    let identifying = |k: &HeaderName| {
        let k = k.as_str();
        k.starts_with("impersonate-")
            || k.starts_with("x-remote-extra-")
            || matches!(k, "x-remote-user" | "x-remote-uid" | "x-remote-group")
    };
    let names: Vec<HeaderName> = headers.keys().filter(|k| identifying(k)).cloned().collect();
    for name in names {
        headers.remove(name);
    }
}

/// Those through whom the request came, and the one it came from now.
fn forwarded_for(headers: &HeaderMap, peer: Option<SocketAddr>) -> Option<HeaderValue> {
    let mut all: Vec<String> =
        headers.get_all("x-forwarded-for").iter().filter_map(|v| v.to_str().ok().map(String::from)).collect();
    all.push(peer?.ip().to_string());
    HeaderValue::try_from(all.join(", ")).ok()
}

/// Headers that are not of this hop (RFC 9110, section 7.6.1).
fn end_to_end(headers: &HeaderMap) -> HeaderMap {
    let named: Vec<HeaderName> = headers
        .get_all(header::CONNECTION)
        .iter()
        .filter_map(|v| v.to_str().ok())
        .flat_map(|v| v.split(',').filter_map(|n| n.trim().parse().ok()).collect::<Vec<HeaderName>>())
        .collect();
    let hop = ["connection", "keep-alive", "proxy-connection", "te", "trailer", "transfer-encoding", "upgrade"];
    headers
        .iter()
        .filter(|(k, _)| !hop.contains(&k.as_str()) && !named.contains(k))
        .map(|(k, v)| (k.clone(), v.clone()))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn links_lead_back_through_the_proxy() {
        let own = ["10.0.0.1:80".to_string(), "localhost:8001".to_string()];
        let prefix = "/api/v1/namespaces/d/pods/p/proxy";
        for (link, want) in [
            ("/a?b=c", "/api/v1/namespaces/d/pods/p/proxy/a?b=c"),
            ("/a/", "/api/v1/namespaces/d/pods/p/proxy/a/"),
            ("a/b", "a/b"),
            ("http://10.0.0.1:80/x", "/api/v1/namespaces/d/pods/p/proxy/x"),
            ("http://localhost:8001/x", "/api/v1/namespaces/d/pods/p/proxy/x"),
            ("//10.0.0.1:80/x", "/api/v1/namespaces/d/pods/p/proxy/x"),
            ("HTTP://10.0.0.1:80/x?u=a://b/", "/api/v1/namespaces/d/pods/p/proxy/x?u=a://b/"),
            ("https://elsewhere.test/x", "https://elsewhere.test/x"),
            ("https://elsewhere.test/?to=http://10.0.0.1:80/x", "https://elsewhere.test/?to=http://10.0.0.1:80/x"),
            // Links inside of links.
            ("/login?next=https://x.test/", "/api/v1/namespaces/d/pods/p/proxy/login?next=https://x.test/"),
            ("/go?to=http://10.0.0.1:80/y", "/api/v1/namespaces/d/pods/p/proxy/go?to=http://10.0.0.1:80/y"),
            ("?to=http://10.0.0.1:80/y", "?to=http://10.0.0.1:80/y"),
            ("go#http://10.0.0.1:80/y", "go#http://10.0.0.1:80/y"),
            ("://10.0.0.1:80/y", "://10.0.0.1:80/y"),
            ("7p://10.0.0.1:80/y", "7p://10.0.0.1:80/y"),
            ("/api/v1/namespaces/d/pods/p/proxy/x", "/api/v1/namespaces/d/pods/p/proxy/x"),
        ] {
            assert_eq!(rewrite(link, &own, prefix), want, "{link}");
        }
    }

    #[test]
    fn only_whole_pages_are_rewritten() {
        let answer = |code: u16, content_type: &'static str, encoding: &'static str, body: &'static str| {
            let mut r = Response::new(Body::from(body));
            *r.status_mut() = StatusCode::from_u16(code).unwrap();
            r.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static(content_type));
            if !encoding.is_empty() {
                r.headers_mut().insert(header::CONTENT_ENCODING, HeaderValue::from_static(encoding));
            }
            r
        };
        for (method, code, content_type, encoding, body, want) in [
            (Method::GET, 200, "text/html; charset=utf-8", "", "<a href=/x>", true),
            (Method::POST, 404, "Text/HTML", "identity", "<a href=/x>", true),
            (Method::GET, 200, "text/html", "gzip", "zipped", true),
            (Method::GET, 200, "text/html", "br", "<a href=/x>", false),
            (Method::GET, 200, "text/plain", "", "<a href=/x>", false),
            (Method::HEAD, 200, "text/html", "gzip", "zipped", false),
            (Method::GET, 206, "text/html", "", "<a href=/x>", false),
            (Method::GET, 204, "text/html", "", "x", false),
            (Method::GET, 304, "text/html", "gzip", "x", false),
            (Method::GET, 200, "text/html", "gzip", "", false),
        ] {
            let found = is_page(&method, &answer(code, content_type, encoding, body));
            assert_eq!(found, want, "{method} {code} {content_type} {encoding} {body:?}");
        }
    }

    #[tokio::test]
    async fn a_page_that_inflates_a_thousandfold_passes_in_small_pieces() {
        use std::io::Write;
        const SIZE: usize = 8 << 20;
        let mut z = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::best());
        z.write_all(&vec![b'x'; SIZE]).unwrap();
        z.write_all(b"<a href=/x>").unwrap();
        let mut answer = Response::new(Body::from(z.finish().unwrap()));
        answer.headers_mut().insert(header::CONTENT_ENCODING, HeaderValue::from_static("gzip"));
        let answer = with_links(answer, Default::default(), "/P".to_string());
        assert!(!answer.headers().contains_key(header::CONTENT_ENCODING));
        let mut body = answer.into_body().into_data_stream();
        let (mut total, mut yields, mut last) = (0, 0, bytes::Bytes::new());
        loop {
            match futures::poll!(body.next()) {
                std::task::Poll::Pending => yields += 1,
                std::task::Poll::Ready(Some(piece)) => {
                    last = piece.unwrap();
                    assert!(last.len() <= text::TEXT_BYTES_MAX + 64, "{}", last.len());
                    total += last.len();
                }
                std::task::Poll::Ready(None) => break,
            }
        }
        assert!(last.ends_with(b"<a href=/P/x>"), "{last:?}");
        assert_eq!(total, SIZE + "<a href=/P/x>".len());
        assert!(yields >= SIZE / text::TEXT_BYTES_MAX, "others had {yields} turns");
    }

    #[test]
    fn nobody_is_named_to_those_who_are_proxied_to() {
        let mut headers = HeaderMap::new();
        for (k, v) in [
            ("authorization", "Bearer abc"),
            ("impersonate-user", "jane"),
            ("x-remote-user", "admin"),
            ("x-remote-extra-scopes", "all"),
            ("sec-websocket-protocol", "v4, base64url.bearer.authorization.k8s.io.YWJj"),
            ("accept", "*/*"),
        ] {
            headers.insert(k, HeaderValue::from_static(v));
        }
        remove_identity(&mut headers);
        let mut left: Vec<_> = headers.iter().map(|(k, v)| (k.as_str(), v.to_str().unwrap())).collect();
        left.sort();
        assert_eq!(left, [("accept", "*/*"), ("sec-websocket-protocol", "v4")]);
    }

    #[test]
    fn headers_of_one_hop_stay_there() {
        let mut headers = HeaderMap::new();
        for (k, v) in [("connection", "close, x-hop"), ("x-hop", "1"), ("te", "trailers"), ("accept", "*/*")] {
            headers.insert(k, HeaderValue::from_static(v));
        }
        let left = end_to_end(&headers);
        assert_eq!(left.keys().map(HeaderName::as_str).collect::<Vec<_>>(), ["accept"]);
    }
}
