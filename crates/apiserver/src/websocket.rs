//! Watches and logs over WebSockets, for clients in browsers: what would be the body is sent in messages.
//!
//! In: a request that asks for it, and later its answer. Out: the switch of protocols, and a task that carries the body.
//! What the client sends is only listened to for its end. Source: upstream's `wsstream`, and `HandleWS` of its watches.

use crate::authn::bearer;
use crate::request_info::RequestInfo;
use axum::body::Body;
use base64::{Engine, engine::general_purpose::STANDARD};
use bytes::{Buf, Bytes, BytesMut};
use futures::{SinkExt, StreamExt};
use http::{HeaderMap, HeaderName, HeaderValue, Method, Request, Response, StatusCode, header};
use http_body_util::BodyExt;
use hyper::upgrade::OnUpgrade;
use hyper_util::rt::TokioIo;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::handshake::derive_accept_key;
use tokio_tungstenite::tungstenite::protocol::{Role, WebSocketConfig};

const BINARY: &str = "binary.k8s.io";
const BASE64: &str = "base64.binary.k8s.io";
/// Of a log, in one message.
const PIECE_BYTES: usize = 2048;
/// A client that says more at once, which nobody reads, is cut off.
const HEARD_BYTES_MAX: usize = 64 << 10;
/// Headers of the handshake alone. Messages have no encoding.
const HANDSHAKE: [HeaderName; 6] = [
    header::ACCEPT_ENCODING,
    header::UPGRADE,
    header::CONNECTION,
    header::SEC_WEBSOCKET_KEY,
    header::SEC_WEBSOCKET_VERSION,
    header::SEC_WEBSOCKET_PROTOCOL,
];

/// What messages are made of.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Content {
    /// An event each, as text.
    Lines,
    /// An event each, without the length before it.
    Prefixed,
    Bytes,
    Base64,
}

/// A connection that is to become a WebSocket.
pub struct Socket {
    upgrade: OnUpgrade,
    accept: String,
    /// What the client asks for, the token apart.
    protocols: Vec<String>,
    watch: bool,
}

fn is_carried(info: &RequestInfo) -> bool {
    info.verb == "watch" || (info.subresource == "log" && info.verb == "get")
}

/// The rest of the way the request is one without a WebSocket.
pub fn shake_off(headers: &mut HeaderMap, info: &RequestInfo) {
    if is_carried(info) && bearer::is_websocket(headers) {
        HANDSHAKE.iter().for_each(|name| drop(headers.remove(name)));
    }
}

impl Socket {
    pub fn asked(request: &mut Request<Body>, info: &RequestInfo) -> Option<Socket> {
        let headers = request.headers();
        if *request.method() != Method::GET || !is_carried(info) || !bearer::is_websocket(headers) {
            return None;
        }
        let key = headers.get(header::SEC_WEBSOCKET_KEY)?;
        if headers.get(header::SEC_WEBSOCKET_VERSION).is_none_or(|v| v != "13") {
            return None;
        }
        let accept = derive_accept_key(key.as_bytes());
        let mut others = headers.clone();
        bearer::remove_token(&mut others);
        let protocols = bearer::protocols(&others).map(str::to_string).collect();
        let watch = info.verb == "watch";
        Some(Socket { upgrade: hyper::upgrade::on(request), accept, protocols, watch })
    }

    /// Which of the protocols it is, and what that means for the answer; `None`: none that is known.
    fn content(&self, answer: &Response<Body>) -> Option<(&str, Content)> {
        let first = self.protocols.first().map_or("", String::as_str);
        if self.watch {
            let kind = answer.headers().get(header::CONTENT_TYPE).and_then(|v| v.to_str().ok()).unwrap_or_default();
            let protobuf = kind.starts_with("application/vnd.kubernetes.protobuf");
            return Some((first, if protobuf { Content::Prefixed } else { Content::Lines }));
        }
        let known = |p: &&str| ["", BINARY, BASE64].contains(p);
        let mut offered = self.protocols.iter().map(String::as_str).chain(self.protocols.is_empty().then_some(""));
        let chosen = offered.find(known)?;
        Some((chosen, if chosen == BASE64 { Content::Base64 } else { Content::Bytes }))
    }

    /// Carries the answer, if it is a good one.
    pub fn carry(self, answer: Response<Body>) -> Response<Body> {
        if answer.status() != StatusCode::OK {
            return answer;
        }
        let mut switched = Response::new(Body::empty());
        let Some((protocol, content)) = self.content(&answer) else {
            *switched.status_mut() = StatusCode::FORBIDDEN;
            return switched;
        };
        *switched.status_mut() = StatusCode::SWITCHING_PROTOCOLS;
        let headers = switched.headers_mut();
        headers.insert(header::UPGRADE, HeaderValue::from_static("websocket"));
        headers.insert(header::CONNECTION, HeaderValue::from_static("Upgrade"));
        for (name, value) in
            [(header::SEC_WEBSOCKET_ACCEPT, self.accept.as_str()), (header::SEC_WEBSOCKET_PROTOCOL, protocol)]
        {
            if let (false, Ok(value)) = (value.is_empty(), HeaderValue::try_from(value)) {
                headers.insert(name, value);
            }
        }
        tokio::spawn(send(self.upgrade, answer.into_body(), content));
        switched
    }
}

/// Until the body or the client ends.
async fn send(upgrade: OnUpgrade, mut body: Body, content: Content) {
    let Ok(io) = upgrade.await else { return };
    let limits =
        WebSocketConfig::default().max_message_size(Some(HEARD_BYTES_MAX)).max_frame_size(Some(HEARD_BYTES_MAX));
    let socket = WebSocketStream::from_raw_socket(TokioIo::new(io), Role::Server, Some(limits)).await;
    let (mut out, mut from_client) = socket.split();
    let mut waiting = BytesMut::new();
    // As upstream, which so tells that there is a log.
    let greeting = match content {
        Content::Bytes => Some(Message::Binary(Bytes::new())),
        Content::Base64 => Some(Message::Text("".into())),
        Content::Lines | Content::Prefixed => None,
    };
    if let Some(greeting) = greeting
        && out.send(greeting).await.is_err()
    {
        return;
    }
    loop {
        let piece = tokio::select! {
            piece = body.frame() => piece,
            said = from_client.next() => match said {
                Some(Ok(message)) if !message.is_close() => continue,
                _ => break,
            },
        };
        let Some(Ok(frame)) = piece else { break };
        let Ok(data) = frame.into_data() else { continue };
        waiting.extend_from_slice(&data);
        while let Some(message) = next(&mut waiting, content) {
            if out.feed(message).await.is_err() {
                return;
            }
        }
        if out.flush().await.is_err() {
            return;
        }
    }
    let _ = out.close().await;
}

/// The next whole message of what waits.
fn next(waiting: &mut BytesMut, content: Content) -> Option<Message> {
    match content {
        Content::Lines => {
            let end = waiting.iter().position(|b| *b == b'\n')?;
            let line = waiting.split_to(end + 1);
            Some(Message::Text(String::from_utf8_lossy(&line).into_owned().into()))
        }
        Content::Prefixed => {
            let length = u32::from_be_bytes(waiting.get(..4)?.try_into().ok()?) as usize;
            if waiting.len() < 4 + length {
                return None;
            }
            waiting.advance(4);
            Some(Message::Binary(waiting.split_to(length).freeze()))
        }
        Content::Bytes | Content::Base64 => {
            if waiting.is_empty() {
                return None;
            }
            let piece = waiting.split_to(waiting.len().min(PIECE_BYTES)).freeze();
            Some(match content {
                Content::Base64 => Message::Text(STANDARD.encode(&piece).into()),
                _ => Message::Binary(piece),
            })
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use hyper::service::service_fn;
    use hyper_util::rt::TokioExecutor;
    use hyper_util::server::conn::auto;
    use std::convert::Infallible;
    use tokio_tungstenite::tungstenite::client::IntoClientRequest;

    /// The client's end, and which of its protocols was chosen.
    async fn opened(
        path: &str,
        protocols: &str,
        answer: Response<Body>,
    ) -> Result<(WebSocketStream<tokio::io::DuplexStream>, String), u16> {
        let (client, server) = tokio::io::duplex(1 << 16);
        let answer = parking_lot::Mutex::new(Some(answer));
        tokio::spawn(async move {
            let service = service_fn(|request: Request<hyper::body::Incoming>| {
                let mut request = request.map(Body::new);
                let uri = request.uri().clone();
                let info = RequestInfo::parse(request.method(), uri.path(), uri.query().unwrap_or(""));
                let socket = Socket::asked(&mut request, &info).unwrap();
                shake_off(request.headers_mut(), &info);
                assert!(!bearer::is_websocket(request.headers()));
                let response = socket.carry(answer.lock().take().unwrap());
                async move { Ok::<_, Infallible>(response) }
            });
            let builder = auto::Builder::new(TokioExecutor::new());
            let _ = builder.serve_connection_with_upgrades(TokioIo::new(server), service).await;
        });
        let mut request = format!("ws://localhost{path}").into_client_request().unwrap();
        if !protocols.is_empty() {
            request.headers_mut().insert(header::SEC_WEBSOCKET_PROTOCOL, protocols.parse().unwrap());
        }
        let (socket, response) = match tokio_tungstenite::client_async(request, client).await {
            Ok(connected) => connected,
            Err(tokio_tungstenite::tungstenite::Error::Http(r)) => return Err(r.status().as_u16()),
            Err(e) => panic!("{e}"),
        };
        let chosen = response.headers().get(header::SEC_WEBSOCKET_PROTOCOL);
        Ok((socket, chosen.map_or(String::new(), |v| v.to_str().unwrap().to_string())))
    }

    /// What a client with these protocols is told, and which one was chosen.
    async fn told(path: &str, protocols: &str, answer: Response<Body>) -> Result<(String, Vec<Message>), u16> {
        let (mut socket, chosen) = opened(path, protocols, answer).await?;
        let mut messages = Vec::new();
        while let Some(Ok(message)) = socket.next().await {
            if !message.is_close() {
                messages.push(message);
            }
        }
        Ok((chosen, messages))
    }

    fn body(kind: &'static str, pieces: &[&'static [u8]]) -> Response<Body> {
        let pieces: Vec<Result<Bytes, Infallible>> = pieces.iter().map(|p| Ok(Bytes::from_static(p))).collect();
        let mut response = Response::new(Body::from_stream(futures::stream::iter(pieces)));
        response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static(kind));
        response
    }

    #[tokio::test]
    async fn events_are_messages() {
        let watch = "/api/v1/pods?watch=1";
        let token = "base64url.bearer.authorization.k8s.io.YWJj";
        let lines = || body("application/json", &[b"{\"a\"", b":1}\n{\"b\":2}\n{\"c", b"\":3}\n"]);
        let text = |t: &str| Message::Text(t.into());
        let (protocol, got) = told(watch, &format!("{BASE64}, {token}"), lines()).await.unwrap();
        assert_eq!(protocol, BASE64);
        assert_eq!(got, [text("{\"a\":1}\n"), text("{\"b\":2}\n"), text("{\"c\":3}\n")]);
        assert_eq!(told(watch, "", lines()).await.unwrap().0, "");
        let protobuf = body("application/vnd.kubernetes.protobuf;stream=watch", &[b"\0\0\0\x02ab\0\0", b"\0\x01c"]);
        let binary = |b: &'static [u8]| Message::Binary(Bytes::from_static(b));
        assert_eq!(told(watch, "", protobuf).await.unwrap().1, [binary(b"ab"), binary(b"c")]);
        // What isn't an answer stays what it is.
        let mut gone = body("application/json", &[b"{}"]);
        *gone.status_mut() = StatusCode::GONE;
        assert_eq!(told(watch, "", gone).await, Err(410));
    }

    #[tokio::test]
    async fn logs_are_pieces() {
        let log = "/api/v1/namespaces/d/pods/p/log?follow=1";
        let said = || body("text/plain", &[b"one\n", b"two\n"]);
        let binary = |b: &'static [u8]| Message::Binary(Bytes::from_static(b));
        for protocols in ["", BINARY] {
            let (protocol, got) = told(log, protocols, said()).await.unwrap();
            assert_eq!((protocol.as_str(), got), (protocols, vec![binary(b""), binary(b"one\n"), binary(b"two\n")]));
        }
        let text = |t: &str| Message::Text(t.into());
        let (protocol, got) = told(log, &format!("other, {BASE64}"), said()).await.unwrap();
        assert_eq!((protocol.as_str(), got), (BASE64, vec![text(""), text("b25lCg=="), text("dHdvCg==")]));
        assert_eq!(told(log, "other", said()).await, Err(403));
    }

    #[tokio::test]
    async fn a_client_that_floods_is_cut_off() {
        let silent = Response::new(Body::from_stream(futures::stream::pending::<Result<Bytes, Infallible>>()));
        let (mut socket, _) = opened("/api/v1/pods?watch=1", "", silent).await.unwrap();
        socket.send(Message::Binary(vec![0; 1000].into())).await.unwrap();
        // It may be cut off before all is sent.
        let _ = socket.send(Message::Binary(vec![0; 2 * HEARD_BYTES_MAX].into())).await;
        let end = tokio::time::timeout(std::time::Duration::from_secs(10), socket.next()).await;
        assert!(!matches!(end, Err(_) | Ok(Some(Ok(Message::Binary(_) | Message::Text(_))))), "{end:?}");
    }
}
