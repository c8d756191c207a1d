//! Channels over WebSocket: each message begins with a byte that says which stream it belongs to
//! (source: Kubernetes' remote command protocols `v4.channel.k8s.io` and `v5.channel.k8s.io`).

use super::session::{ClientIo, Output};
use base64::Engine;
use bytes::{Bytes, BytesMut};
use cri::TerminalSize;
use futures::{SinkExt, StreamExt};
use http::{HeaderMap, HeaderValue, Response, StatusCode, header};
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::sync::mpsc;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::handshake::derive_accept_key;
use tokio_tungstenite::tungstenite::protocol::CloseFrame;
use tokio_tungstenite::tungstenite::protocol::frame::coding::CloseCode;

const STDIN: u8 = 0;
const STDOUT: u8 = 1;
const STDERR: u8 = 2;
const ERROR: u8 = 3;
const RESIZE: u8 = 4;
/// v5 only: the next byte names the stream that the client has closed.
const CLOSE: u8 = 255;
/// Keeps connections through proxies alive.
const PING: Duration = Duration::from_secs(30);

pub const COMMAND_PROTOCOLS: [&str; 4] =
    ["v5.channel.k8s.io", "v4.channel.k8s.io", "v4.base64.channel.k8s.io", "channel.k8s.io"];
pub const FORWARD_PROTOCOLS: [&str; 3] =
    ["SPDY/3.1+portforward.k8s.io", "v4.channel.k8s.io", "v4.base64.channel.k8s.io"];

pub fn is_upgrade(headers: &HeaderMap) -> bool {
    headers.get(header::UPGRADE).and_then(|v| v.to_str().ok()).is_some_and(|v| v.eq_ignore_ascii_case("websocket"))
}

/// How a session ends well. Clients take a close without this code (1005) for a broken connection.
fn normal() -> Option<CloseFrame> {
    Some(CloseFrame { code: CloseCode::Normal, reason: "".into() })
}

/// The answer and the protocol that both sides know; ours in order of preference.
pub fn accept(
    headers: &HeaderMap,
    supported: &[&'static str],
) -> Result<(Response<axum::body::Body>, &'static str), (StatusCode, String)> {
    let bad = |m: &str| (StatusCode::BAD_REQUEST, m.to_owned());
    let key = headers.get(header::SEC_WEBSOCKET_KEY).ok_or_else(|| bad("Sec-WebSocket-Key is missing"))?;
    if headers.get(header::SEC_WEBSOCKET_VERSION).is_none_or(|v| v != "13") {
        return Err(bad("Sec-WebSocket-Version must be 13"));
    }
    let offered: Vec<&str> = headers
        .get_all(header::SEC_WEBSOCKET_PROTOCOL)
        .iter()
        .filter_map(|v| v.to_str().ok())
        .flat_map(|v| v.split(','))
        .map(str::trim)
        .collect();
    // A client that offers nothing speaks the oldest one.
    let chosen = match supported.iter().find(|s| offered.contains(s)) {
        Some(chosen) => chosen,
        None if offered.is_empty() => supported.last().ok_or_else(|| bad("no protocol"))?,
        None => {
            return Err(bad(&format!(
                "unable to negotiate a subprotocol: client offers {offered:?}, server supports {supported:?}"
            )));
        }
    };
    let mut response = Response::new(axum::body::Body::empty());
    *response.status_mut() = StatusCode::SWITCHING_PROTOCOLS;
    let h = response.headers_mut();
    h.insert(header::UPGRADE, HeaderValue::from_static("websocket"));
    h.insert(header::CONNECTION, HeaderValue::from_static("Upgrade"));
    h.insert(
        header::SEC_WEBSOCKET_ACCEPT,
        HeaderValue::from_str(&derive_accept_key(key.as_bytes())).map_err(|_| bad("Sec-WebSocket-Key is invalid"))?,
    );
    if !offered.is_empty() {
        h.insert(header::SEC_WEBSOCKET_PROTOCOL, HeaderValue::from_static(chosen));
    }
    Ok((response, chosen))
}

fn encode(protocol: &str, channel: u8, data: &[u8]) -> Message {
    if protocol.contains("base64") {
        Message::text(format!("{}{}", (b'0' + channel) as char, base64::engine::general_purpose::STANDARD.encode(data)))
    } else {
        let mut out = BytesMut::with_capacity(data.len() + 1);
        out.extend_from_slice(&[channel]);
        out.extend_from_slice(data);
        Message::Binary(out.freeze())
    }
}

fn decode(protocol: &str, message: Message) -> Option<(u8, Bytes)> {
    let mut data = match message {
        Message::Binary(data) => data,
        Message::Text(text) => Bytes::copy_from_slice(text.as_bytes()),
        _ => return None,
    };
    if data.is_empty() {
        return None;
    }
    let channel = data.split_to(1)[0];
    if protocol.contains("base64") {
        let data = base64::engine::general_purpose::STANDARD.decode(&data).ok()?;
        return Some((channel.checked_sub(b'0')?, data.into()));
    }
    Some((channel, data))
}

/// Wires a connection up: what the session is to be given, and the task that serves the wire.
pub fn command<S>(mut socket: WebSocketStream<S>, protocol: &'static str) -> (ClientIo, impl Future<Output = ()> + Send)
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let (stdin_tx, stdin) = mpsc::channel::<Bytes>(16);
    let (resize_tx, resize) = mpsc::channel(4);
    let (output, mut out_rx) = mpsc::channel::<Output>(16);
    let serve = async move {
        let mut stdin_tx = Some(stdin_tx);
        let mut ping = tokio::time::interval(PING);
        ping.tick().await;
        // Input that the process hasn't taken yet: nothing more is read meanwhile, but output goes on.
        let mut held: Option<Bytes> = None;
        loop {
            let (tx, holds) = (stdin_tx.clone(), held.is_some());
            let deliver = async move {
                match tx {
                    Some(tx) if holds => tx.reserve_owned().await.ok(),
                    None if holds => None,
                    _ => std::future::pending().await,
                }
            };
            tokio::select! {
                permit = deliver => {
                    if let (Some(permit), Some(data)) = (permit, held.take()) {
                        permit.send(data);
                    }
                }
                out = out_rx.recv() => {
                    let message = match out {
                        Some(Output::Stdout(data)) => encode(protocol, STDOUT, &data),
                        Some(Output::Stderr(data)) => encode(protocol, STDERR, &data),
                        Some(Output::End(status)) => {
                            // The first protocol knew no status, only the text of a failure.
                            let text = if protocol.starts_with("v") { status.to_string() } else if status["status"] == "Success" { String::new() } else { status["message"].as_str().unwrap_or_default().to_owned() };
                            if !text.is_empty() {
                                let _ = socket.send(encode(protocol, ERROR, text.as_bytes())).await;
                            }
                            let _ = socket.close(normal()).await;
                            // Until the client has answered the close, so that nothing is lost in a reset.
                            let _ = tokio::time::timeout(Duration::from_secs(5), async { while let Some(Ok(_)) = socket.next().await {} }).await;
                            return;
                        }
                        None => {
                            let _ = socket.close(normal()).await;
                            return;
                        }
                    };
                    if socket.send(message).await.is_err() {
                        return;
                    }
                }
                message = socket.next(), if held.is_none() => {
                    let Some(Ok(message)) = message else { return };
                    if matches!(message, Message::Close(_)) {
                        return;
                    }
                    match decode(protocol, message) {
                        Some((STDIN, data)) if !data.is_empty() => held = Some(data),
                        Some((RESIZE, data)) => {
                            if let Some(size) = parse_size(&data) {
                                let _ = resize_tx.try_send(size);
                            }
                        }
                        Some((CLOSE, data)) if data.first() == Some(&STDIN) => stdin_tx = None,
                        _ => {}
                    }
                }
                _ = ping.tick() => {
                    if socket.send(Message::Ping(Bytes::new())).await.is_err() {
                        return;
                    }
                }
            }
        }
    };
    (ClientIo { stdin, resize, output }, serve)
}

pub fn parse_size(json: &[u8]) -> Option<TerminalSize> {
    let v: serde_json::Value = serde_json::from_slice(json).ok()?;
    let side = |name: &str| v[name].as_u64().and_then(|n| u16::try_from(n).ok());
    Some(TerminalSize { width: side("Width")?, height: side("Height")? })
}

/// Legacy port-forward: two channels for each port, data and error; each begins with the port's number.
pub async fn forward<S>(
    mut socket: WebSocketStream<S>,
    protocol: &'static str,
    ports: Vec<u16>,
    connect: super::port_forward::Connect,
) where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    let (tx, mut rx) = mpsc::channel::<(u8, Bytes)>(16);
    let mut writers = Vec::new();
    for (i, port) in ports.into_iter().enumerate() {
        let data_channel = (i * 2) as u8;
        for channel in [data_channel, data_channel + 1] {
            if socket.send(encode(protocol, channel, &port.to_le_bytes())).await.is_err() {
                return;
            }
        }
        match connect(port).await {
            Ok(stream) => {
                let (mut read, write) = tokio::io::split(stream);
                writers.push(Some(write));
                let tx = tx.clone();
                tokio::spawn(async move {
                    let mut buffer = vec![0; 32 * 1024];
                    while let Ok(n) = read.read(&mut buffer).await {
                        if n == 0 || tx.send((data_channel, Bytes::copy_from_slice(&buffer[..n]))).await.is_err() {
                            return;
                        }
                    }
                });
            }
            Err(error) => {
                writers.push(None);
                let _ = socket.send(encode(protocol, data_channel + 1, error.to_string().as_bytes())).await;
            }
        }
    }
    drop(tx);
    loop {
        tokio::select! {
            out = rx.recv() => {
                let Some((channel, data)) = out else { break };
                if socket.send(encode(protocol, channel, &data)).await.is_err() {
                    return;
                }
            }
            message = socket.next() => {
                let Some(Ok(message)) = message else { return };
                if let Some((channel, data)) = decode(protocol, message)
                    && channel % 2 == 0
                    && let Some(Some(writer)) = writers.get_mut(usize::from(channel / 2))
                    && writer.write_all(&data).await.is_err()
                {
                    return;
                }
            }
        }
    }
    let _ = socket.close(normal()).await;
}

/// A WebSocket as a stream of bytes, for protocols that are tunnelled in it.
pub struct Tunnel<S> {
    socket: WebSocketStream<S>,
    unread: Bytes,
}

impl<S> Tunnel<S> {
    pub fn new(socket: WebSocketStream<S>) -> Tunnel<S> {
        Tunnel { socket, unread: Bytes::new() }
    }
}

fn broken(e: tokio_tungstenite::tungstenite::Error) -> std::io::Error {
    std::io::Error::new(std::io::ErrorKind::BrokenPipe, e.to_string())
}

impl<S: AsyncRead + AsyncWrite + Unpin> AsyncRead for Tunnel<S> {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<std::io::Result<()>> {
        loop {
            if !self.unread.is_empty() {
                let n = self.unread.len().min(buf.remaining());
                let part = self.unread.split_to(n);
                buf.put_slice(&part);
                return Poll::Ready(Ok(()));
            }
            match std::task::ready!(self.socket.poll_next_unpin(cx)) {
                Some(Ok(Message::Binary(data))) => self.unread = data,
                Some(Ok(Message::Close(_))) | None => return Poll::Ready(Ok(())),
                Some(Ok(_)) => {}
                Some(Err(e)) => return Poll::Ready(Err(broken(e))),
            }
        }
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> AsyncWrite for Tunnel<S> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, data: &[u8]) -> Poll<std::io::Result<usize>> {
        std::task::ready!(self.socket.poll_ready_unpin(cx)).map_err(broken)?;
        self.socket.start_send_unpin(Message::Binary(Bytes::copy_from_slice(data))).map_err(broken)?;
        Poll::Ready(Ok(data.len()))
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        self.socket.poll_flush_unpin(cx).map_err(broken)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        self.socket.poll_close_unpin(cx).map_err(broken)
    }
}
