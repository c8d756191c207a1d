//! exec, attach and port-forward: finds the container, negotiates the protocol, and hands over to [`crate::streaming`].

use super::logs::flag;
use crate::logs::{reader, rotated};
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
use std::ops::Range;
use std::path::{Path as FilePath, PathBuf};
use std::sync::Arc;
use std::time::Duration;
use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::sync::mpsc;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::protocol::Role;

/// For the client to open all streams that it announced.
const STREAMS_TIMEOUT: Duration = Duration::from_secs(30);
/// For a client to say how large its terminal is.
const SIZE_TIMEOUT: Duration = Duration::from_millis(200);
/// For the client that has started a container to attach: what the container said until then is told to it.
const FIRST_CLIENT: Duration = Duration::from_secs(60);
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
    let chosen = plan::latest(&view.containers, &container).filter(|c| c.state != ContainerState::Created);
    // Whoever comes to attach to a short-lived interactive container finds it ended: its log tells the same.
    let replay = matches!(kind, Kind::Attach) && waits_for_client(&view.pod, &container);
    let chosen = chosen
        .filter(|c| c.state == ContainerState::Running || replay)
        .ok_or_else(|| (StatusCode::NOT_FOUND, format!("container not found (\"{container}\")")))?;
    let (id, log) = (chosen.id.clone(), PathBuf::from(&chosen.log_path));
    let age = i128::from(chosen.started_at_ns).abs_diff(jiff::Timestamp::now().as_nanosecond());
    // A program may begin to talk before the client that has started it is attached.
    let early = takes_input(&view.pod, &container) && age < FIRST_CLIENT.as_nanos();
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
                if let Some(logged) = s.logged.filter(|_| early && rotated(&log).is_empty()) {
                    tell(&log, context.registry.told(&uid, &id)..logged, (stdout, stderr), &client.output).await;
                }
                let conclude = match kind {
                    Kind::Exec => session::status,
                    Kind::Attach => session::attach_status,
                };
                session::run(s, client, conclude).await;
            }
            Err(error) => {
                let end = if replay {
                    tell(&log, context.registry.told(&uid, &id)..u64::MAX, (stdout, stderr), &client.output).await;
                    session::status(&Ok(0))
                } else {
                    session::failure(&error.to_string())
                };
                let _ = client.output.send(Output::End(end)).await;
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

/// (stdin, stdinOnce) of a container.
fn input(pod: &Pod, container: &str) -> (bool, bool) {
    let Some(spec) = &pod.spec else { return (false, false) };
    let ephemeral = spec.ephemeral_containers.iter().flatten().map(|c| (&c.name, c.stdin, c.stdin_once.or(c.stdin)));
    let regular = spec.containers.iter().chain(spec.init_containers.iter().flatten());
    let regular = regular.map(|c| (&c.name, c.stdin, c.stdin_once));
    let found = ephemeral.chain(regular).find(|(name, ..)| *name == container);
    found.map_or((false, false), |(_, stdin, once)| (stdin == Some(true), once == Some(true)))
}

/// Whether a client may come to type into a container.
pub fn takes_input(pod: &Pod, container: &str) -> bool {
    input(pod, container).0
}

/// Whether a container was made for one interactive client (`kubectl run -i`, `kubectl debug -i`).
/// `kubectl debug` leaves stdinOnce alone, but nobody else writes to an ephemeral container.
fn waits_for_client(pod: &Pod, container: &str) -> bool {
    input(pod, container).1
}

/// What a container said before its client was there, as the output of a session: a part of the text of its log. New
/// clients read the log before they attach, old ones don't; so either sees everything, once.
async fn tell(log: &FilePath, part: Range<u64>, wanted: (bool, bool), output: &mpsc::Sender<Output>) {
    let mut at = 0_u64;
    for path in rotated(log).into_iter().chain([log.to_owned()]) {
        let Ok(file) = tokio::fs::File::open(path).await else { continue };
        let mut records = BufReader::new(file).split(b'\n');
        while at < part.end
            && let Ok(Some(record)) = records.next_segment().await
        {
            let Some(line) = reader::parse(&record) else { continue };
            let mut text = [line.text, if line.partial { b"" } else { b"\n" }].concat();
            let (skip, keep) = (part.start.saturating_sub(at), part.end - at);
            at += text.len() as u64;
            text.truncate(usize::try_from(keep).unwrap_or(usize::MAX));
            text.drain(..text.len().min(usize::try_from(skip).unwrap_or(usize::MAX)));
            let (wanted, wrap): (_, fn(Bytes) -> Output) =
                if line.stream == "stderr" { (wanted.1, Output::Stderr) } else { (wanted.0, Output::Stdout) };
            if wanted && !text.is_empty() && output.send(wrap(text.into())).await.is_err() {
                return;
            }
        }
    }
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
        let line = |text: &str| format!("2026-01-01T00:00:00.000000000Z {text}\n");
        std::fs::write(dir.path().join("0.log.20260101-000000"), line("stdout F one")).unwrap();
        std::fs::write(&log, line("stderr P tw") + &line("stderr F o") + &line("stdout F three")).unwrap();
        for (told, out, err) in [
            (0..u64::MAX, "one\nthree\n", "two\n"),
            (4..u64::MAX, "three\n", "two\n"),
            (5..8, "", "wo\n"),
            (6..10, "th", "o\n"),
            (14..u64::MAX, "", ""),
            (3..3, "", ""),
        ] {
            let (tx, mut rx) = mpsc::channel(16);
            tell(&log, told.clone(), (true, true), &tx).await;
            drop(tx);
            let mut texts = [Vec::new(), Vec::new()];
            while let Some(said) = rx.recv().await {
                match said {
                    Output::Stdout(data) => texts[0].extend_from_slice(&data),
                    Output::Stderr(data) => texts[1].extend_from_slice(&data),
                    Output::End(_) => panic!("the end is another's to tell"),
                }
            }
            let texts = texts.map(|t| String::from_utf8(t).unwrap());
            assert_eq!(texts, [out.to_owned(), err.to_owned()], "{told:?}");
        }
    }
}
