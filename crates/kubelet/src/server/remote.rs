//! exec, attach and port-forward: finds the container, negotiates the protocol, and hands over to [`crate::streaming`].

use super::logs::flag;
use crate::logs::reader::{self, LogOptions};
use crate::pods::context::Context;
use crate::pods::plan;
use crate::streaming::port_forward;
use crate::streaming::session::{self, ClientIo, Output};
use crate::streaming::spdy::{self, Stream, Writer};
use crate::streaming::websocket::{self, COMMAND_PROTOCOLS, FORWARD_PROTOCOLS};
use axum::extract::{Path, Request, State};
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use cri::{ContainerState, ExecOptions};
use http::{HeaderMap, HeaderValue, StatusCode, header};
use hyper_util::rt::TokioIo;
use k8s_openapi::api::core::v1::Pod;
use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::mpsc;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::protocol::Role;

/// For the client to open all streams that it announced.
const STREAMS_TIMEOUT: Duration = Duration::from_secs(30);
/// For a client to say how large its terminal is.
const SIZE_TIMEOUT: Duration = Duration::from_millis(200);
const SPDY_COMMAND_PROTOCOLS: [&str; 4] =
    ["v4.channel.k8s.io", "v3.channel.k8s.io", "v2.channel.k8s.io", "channel.k8s.io"];
const SPDY_FORWARD_PROTOCOLS: [&str; 1] = ["portforward.k8s.io"];

#[derive(Clone, Copy)]
enum Kind {
    Exec,
    Attach,
}

/// (namespace, pod, container), with or without a uid in between.
fn target(path: &[(String, String)]) -> (String, String, String) {
    let get = |name: &str| path.iter().find(|(k, _)| k == name).map(|(_, v)| v.clone()).unwrap_or_default();
    (get("namespace"), get("pod"), get("container"))
}

pub async fn exec(
    State(context): State<Arc<Context>>,
    Path(path): Path<Vec<(String, String)>>,
    request: Request,
) -> Response {
    command(context, target(&path), request, Kind::Exec)
        .await
        .unwrap_or_else(|(code, message)| (code, message).into_response())
}

pub async fn attach(
    State(context): State<Arc<Context>>,
    Path(path): Path<Vec<(String, String)>>,
    request: Request,
) -> Response {
    command(context, target(&path), request, Kind::Attach)
        .await
        .unwrap_or_else(|(code, message)| (code, message).into_response())
}

fn query(request: &Request) -> Vec<(String, String)> {
    let decode = |s: &str| {
        let s = s.replace('+', " ");
        let bytes = s.as_bytes();
        let mut out = Vec::with_capacity(bytes.len());
        let mut i = 0;
        while i < bytes.len() {
            let hex =
                (bytes[i] == b'%').then(|| s.get(i + 1..i + 3).and_then(|h| u8::from_str_radix(h, 16).ok())).flatten();
            out.push(hex.unwrap_or(bytes[i]));
            i += if hex.is_some() { 3 } else { 1 };
        }
        String::from_utf8_lossy(&out).into_owned()
    };
    let text = request.uri().query().unwrap_or_default();
    text.split('&')
        .filter(|p| !p.is_empty())
        .map(|p| p.split_once('=').map_or((decode(p), String::new()), |(k, v)| (decode(k), decode(v))))
        .collect()
}

async fn command(
    context: Arc<Context>,
    (namespace, pod, container): (String, String, String),
    mut request: Request,
    kind: Kind,
) -> Result<Response, (StatusCode, String)> {
    let pairs = query(&request);
    let single: HashMap<String, String> = pairs.iter().cloned().collect();
    // The API server's names and the kubelet's own.
    let wants = |a: &str, b: &str| flag(&single, a) || flag(&single, b);
    let options = ExecOptions {
        command: pairs.iter().filter(|(k, _)| k == "command").map(|(_, v)| v.clone()).collect(),
        stdin: wants("stdin", "input"),
        tty: flag(&single, "tty"),
    };
    let (stdout, stderr) = (wants("stdout", "output"), wants("stderr", "error") && !options.tty);
    if !(options.stdin || stdout || stderr) {
        return Err((StatusCode::BAD_REQUEST, "you must specify at least 1 of stdin, stdout, stderr".into()));
    }
    let view = context
        .registry
        .find(&namespace, &pod)
        .ok_or_else(|| (StatusCode::NOT_FOUND, format!("pod does not exist: {namespace}/{pod}")))?;
    let chosen = plan::latest(&view.containers, &container);
    // Whoever comes to attach to a short-lived interactive container finds it ended: its log tells the same.
    let replay = chosen
        .filter(|c| {
            c.state != ContainerState::Created
                && matches!(kind, Kind::Attach)
                && waits_for_client(&view.pod, &container)
        })
        .map(|c| PathBuf::from(&c.log_path));
    let id = chosen
        .filter(|c| c.state == ContainerState::Running || replay.is_some())
        .map(|c| c.id.clone())
        .ok_or_else(|| (StatusCode::NOT_FOUND, format!("container not found (\"{container}\")")))?;
    let uid = crate::pods::spec::uid(&view.pod).to_owned();
    let upgrade = hyper::upgrade::on(&mut request);
    let run = async move |mut client: ClientIo| {
        // Clients send their size first of all. A program that starts without it draws for 0 by 0.
        let size = match options.tty {
            true => tokio::time::timeout(SIZE_TIMEOUT, client.resize.recv()).await.ok().flatten(),
            false => None,
        };
        let opened = match kind {
            Kind::Exec => context.runtime.exec(&id, &options).await,
            Kind::Attach => context.runtime.attach(&id, &options).await,
        };
        match opened {
            Ok(mut s) => {
                if let (Some(size), Some(resize)) = (size, &s.resize) {
                    let _ = resize.send(size).await;
                }
                if !stdout {
                    s.stdout = None;
                }
                if !stderr && !options.tty {
                    s.stderr = None;
                }
                let conclude = match kind {
                    Kind::Exec => session::status,
                    Kind::Attach => session::attach_status,
                };
                session::run(s, client, conclude).await;
            }
            Err(error) => {
                if let Some(log) = replay {
                    return tell_rest(log, context.registry.told(&uid, &id), client.output).await;
                }
                let _ = client.output.send(Output::End(session::failure(&error.to_string()))).await;
            }
        }
    };
    if websocket::is_upgrade(request.headers()) {
        let (response, protocol) = websocket::accept(request.headers(), &COMMAND_PROTOCOLS)?;
        tokio::spawn(async move {
            let Ok(upgraded) = upgrade.await else { return };
            let socket = WebSocketStream::from_raw_socket(TokioIo::new(upgraded), Role::Server, None).await;
            let (client, wire) = websocket::command(socket, protocol);
            tokio::join!(run(client), wire);
        });
        return Ok(response);
    }
    let (response, protocol) = accept_spdy(request.headers(), &SPDY_COMMAND_PROTOCOLS)?;
    let mut expected = vec!["error"];
    expected.extend(
        [("stdin", flag(&single, "stdin") || flag(&single, "input")), ("stdout", stdout), ("stderr", stderr)]
            .into_iter()
            .filter(|(_, on)| *on)
            .map(|(n, _)| n),
    );
    if flag(&single, "tty") && protocol != "channel.k8s.io" && protocol != "v2.channel.k8s.io" {
        expected.push("resize");
    }
    tokio::spawn(async move {
        let Ok(upgraded) = upgrade.await else { return };
        let mut streams = spdy::serve(TokioIo::new(upgraded));
        let collect = async {
            let mut found: HashMap<String, Stream> = HashMap::new();
            while found.len() < expected.len() {
                let s = streams.recv().await?;
                found.insert(s.headers.get("streamtype").cloned().unwrap_or_default(), s);
            }
            Some(found)
        };
        let Ok(Some(found)) = tokio::time::timeout(STREAMS_TIMEOUT, collect).await else {
            return;
        };
        let (client, wire) = spdy_command(found, protocol);
        tokio::join!(run(client), wire);
        // The connection lives as long as its streams' receiver; the client closes it when it has read the end.
        let _ = tokio::time::timeout(STREAMS_TIMEOUT, streams.recv()).await;
    });
    Ok(response)
}

/// Whether a container was made for one interactive client (`kubectl run -i`, `kubectl debug -i`).
pub fn waits_for_client(pod: &Pod, container: &str) -> bool {
    let Some(spec) = &pod.spec else { return false };
    let ephemeral = spec.ephemeral_containers.iter().flatten().map(|c| (&c.name, c.stdin_once, c.stdin));
    // `kubectl debug` leaves stdinOnce alone, but nobody else writes to an ephemeral container.
    let ephemeral = ephemeral.map(|(name, once, stdin)| (name, once.or(stdin)));
    let regular = spec.containers.iter().chain(spec.init_containers.iter().flatten()).map(|c| (&c.name, c.stdin_once));
    ephemeral.chain(regular).any(|(name, once)| name == container && once == Some(true))
}

/// What a container that has ended said, as the output of a session: all of its log but the first `told` bytes. New
/// clients read the log before they attach, old ones don't; so either sees everything, once.
async fn tell_rest(log: PathBuf, told: u64, output: mpsc::Sender<Output>) {
    let (tx, mut rx) = mpsc::channel::<std::io::Result<Bytes>>(16);
    let send = async {
        let mut skip = told;
        while let Some(Ok(mut data)) = rx.recv().await {
            let known = usize::try_from(skip).unwrap_or(usize::MAX).min(data.len());
            skip -= known as u64;
            let rest = data.split_off(known);
            if !rest.is_empty() && output.send(Output::Stdout(rest)).await.is_err() {
                return;
            }
        }
    };
    tokio::join!(reader::read(log, LogOptions::default(), || true, tx), send);
    let _ = output.send(Output::End(session::status(&Ok(0)))).await;
}

/// Joins the streams of a command to what a session wants.
fn spdy_command(
    mut found: HashMap<String, Stream>,
    protocol: &'static str,
) -> (ClientIo, impl Future<Output = ()> + Send) {
    let (output, mut out) = mpsc::channel::<Output>(16);
    let (resize_tx, resize) = mpsc::channel(4);
    let stdin = match found.remove("stdin") {
        Some(s) => s.input,
        None => mpsc::channel::<Bytes>(1).1,
    };
    if let Some(mut s) = found.remove("resize") {
        tokio::spawn(async move {
            while let Some(json) = s.input.recv().await {
                for line in json.split(|b| *b == b'\n') {
                    if let Some(size) = websocket::parse_size(line) {
                        let _ = resize_tx.send(size).await;
                    }
                }
            }
        });
    }
    let writer = |name: &str| found.get(name).map(|s| s.output.clone());
    let (stdout, stderr, error) = (writer("stdout"), writer("stderr"), writer("error"));
    let wire = async move {
        async fn send(to: &Option<Writer>, data: Bytes) -> bool {
            match to {
                Some(w) => w.send(data).await.is_ok(),
                None => true,
            }
        }
        while let Some(message) = out.recv().await {
            let alive = match message {
                Output::Stdout(data) => send(&stdout, data).await,
                Output::Stderr(data) => send(&stderr, data).await,
                Output::End(status) => {
                    let text = if protocol == "v4.channel.k8s.io" {
                        status.to_string()
                    } else if status["status"] == "Success" {
                        String::new()
                    } else {
                        status["message"].as_str().unwrap_or_default().to_owned()
                    };
                    if let Some(w) = &stdout {
                        w.finish().await;
                    }
                    if let Some(w) = &stderr {
                        w.finish().await;
                    }
                    if !text.is_empty() {
                        send(&error, text.into()).await;
                    }
                    if let Some(w) = &error {
                        w.finish().await;
                    }
                    false
                }
            };
            if !alive {
                return;
            }
        }
    };
    (ClientIo { stdin, resize, output }, wire)
}

fn accept_spdy(
    headers: &HeaderMap,
    supported: &[&'static str],
) -> Result<(Response, &'static str), (StatusCode, String)> {
    if !headers.get(header::UPGRADE).and_then(|v| v.to_str().ok()).is_some_and(|v| v.eq_ignore_ascii_case("SPDY/3.1")) {
        return Err((StatusCode::BAD_REQUEST, "unable to upgrade: missing upgrade headers in request".into()));
    }
    let offered: Vec<&str> = headers
        .get_all("x-stream-protocol-version")
        .iter()
        .filter_map(|v| v.to_str().ok())
        .flat_map(|v| v.split(','))
        .map(str::trim)
        .collect();
    let chosen = match supported.iter().find(|s| offered.contains(s)) {
        Some(chosen) => *chosen,
        None if offered.is_empty() => supported.last().copied().unwrap_or_default(),
        None => {
            return Err((
                StatusCode::FORBIDDEN,
                format!("unable to negotiate protocol: client supports {offered:?}, server accepts {supported:?}"),
            ));
        }
    };
    let mut response = Response::new(axum::body::Body::empty());
    *response.status_mut() = StatusCode::SWITCHING_PROTOCOLS;
    let h = response.headers_mut();
    h.insert(header::UPGRADE, HeaderValue::from_static("SPDY/3.1"));
    h.insert(header::CONNECTION, HeaderValue::from_static("Upgrade"));
    if !offered.is_empty() {
        h.insert("x-stream-protocol-version", HeaderValue::from_static(chosen));
    }
    Ok((response, chosen))
}

pub async fn port_forward(
    State(context): State<Arc<Context>>,
    Path(path): Path<Vec<(String, String)>>,
    request: Request,
) -> Response {
    let (namespace, pod, _) = target(&path);
    forward(context, namespace, pod, request).await.unwrap_or_else(|(code, message)| (code, message).into_response())
}

async fn forward(
    context: Arc<Context>,
    namespace: String,
    pod: String,
    mut request: Request,
) -> Result<Response, (StatusCode, String)> {
    let view = context
        .registry
        .find(&namespace, &pod)
        .ok_or_else(|| (StatusCode::NOT_FOUND, format!("pod does not exist: {namespace}/{pod}")))?;
    let sandbox = view
        .sandbox
        .filter(|s| s.state == cri::SandboxState::Ready)
        .ok_or_else(|| (StatusCode::BAD_REQUEST, "unable to forward port because pod is not running".to_owned()))?
        .id;
    let runtime = context.runtime.clone();
    let connect: port_forward::Connect = Arc::new(move |port| {
        let (runtime, sandbox) = (runtime.clone(), sandbox.clone());
        Box::pin(async move { runtime.port_forward(&sandbox, port).await })
    });
    let ports: Vec<u16> = query(&request)
        .iter()
        .filter(|(k, _)| k == "port" || k == "ports")
        .flat_map(|(_, v)| v.split(',').filter_map(|p| p.parse().ok()).collect::<Vec<_>>())
        .collect();
    let upgrade = hyper::upgrade::on(&mut request);
    if websocket::is_upgrade(request.headers()) {
        let (response, protocol) = websocket::accept(request.headers(), &FORWARD_PROTOCOLS)?;
        tokio::spawn(async move {
            let Ok(upgraded) = upgrade.await else { return };
            let socket = WebSocketStream::from_raw_socket(TokioIo::new(upgraded), Role::Server, None).await;
            if protocol.starts_with("SPDY") {
                port_forward::serve(spdy::serve(websocket::Tunnel::new(socket)), connect).await;
            } else {
                websocket::forward(socket, protocol, ports, connect).await;
            }
        });
        return Ok(response);
    }
    let (response, _) = accept_spdy(request.headers(), &SPDY_FORWARD_PROTOCOLS)?;
    tokio::spawn(async move {
        let Ok(upgraded) = upgrade.await else { return };
        port_forward::serve(spdy::serve(TokioIo::new(upgraded)), connect).await;
    });
    Ok(response)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_late_client_hears_what_it_has_not_read() {
        let dir = tempfile::tempdir().unwrap();
        let log = dir.path().join("0.log");
        let line = |text: &str| format!("2026-01-01T00:00:00.000000000Z stdout F {text}\n");
        std::fs::write(&log, line("one") + &line("two")).unwrap();
        for (told, want) in [(0, "one\ntwo\n"), (4, "two\n"), (8, "")] {
            let (tx, mut rx) = mpsc::channel(16);
            tell_rest(log.clone(), told, tx).await;
            let mut text = Vec::new();
            let mut end = None;
            while let Some(out) = rx.recv().await {
                match out {
                    Output::Stdout(data) => text.extend_from_slice(&data),
                    Output::End(status) => end = Some(status["status"].clone()),
                    Output::Stderr(_) => panic!("a log has one stream"),
                }
            }
            assert_eq!((String::from_utf8(text).unwrap().as_str(), end), (want, Some("Success".into())));
        }
    }
}
