//! `skiff hello`: the program of the built-in image. Serves HTTP and answers what it knows of itself; on the same port
//! it speaks gRPC's health protocol, for probes.

use anyhow::{Context, Result};
use axum::Router;
use axum::body::Body;
use axum::extract::Request;
use axum::http::{HeaderMap, HeaderValue};
use axum::response::{IntoResponse, Json, Response};
use bytes::Bytes;
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::convert::Infallible;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};

#[derive(clap::Args)]
pub struct Args {
    #[arg(long, default_value = "0.0.0.0:8080")]
    listen: SocketAddr,
    /// Directories whose files are shown, if they exist (mounted configuration).
    #[arg(long, default_value = "/config")]
    config_dir: Vec<PathBuf>,
}

pub fn main(args: Args) -> Result<()> {
    let rt = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    rt.block_on(async {
        let listener = tokio::net::TcpListener::bind(args.listen)
            .await
            .with_context(|| format!("failed to listen on {}", args.listen))?;
        println!("hello listens on {}", args.listen);
        let dirs = args.config_dir;
        let app = Router::new().fallback(move |request: Request| answer(request, dirs.clone()));
        let mut term = tokio::signal::unix::signal(tokio::signal::unix::SignalKind::terminate())?;
        axum::serve(listener, app)
            .with_graceful_shutdown(async move {
                term.recv().await;
            })
            .await?;
        Ok(())
    })
}

async fn answer(request: Request, dirs: Vec<PathBuf>) -> Response {
    if request.uri().path() == "/grpc.health.v1.Health/Check" {
        return health(request).await;
    }
    println!("{} {}", request.method(), request.uri());
    let headers: BTreeMap<String, String> = request
        .headers()
        .iter()
        .map(|(k, v)| (k.to_string(), String::from_utf8_lossy(v.as_bytes()).into_owned()))
        .collect();
    let env: BTreeMap<String, String> = std::env::vars().collect();
    let var = |name: &str| env.get(name).cloned();
    let hostname = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default().trim().to_string();
    let namespace = var("POD_NAMESPACE")
        .or_else(|| std::fs::read_to_string("/var/run/secrets/kubernetes.io/serviceaccount/namespace").ok());
    Json(json!({
        "pod": var("POD_NAME").unwrap_or_else(|| hostname.clone()),
        "hostname": hostname,
        "node": var("NODE_NAME"),
        "namespace": namespace,
        "addresses": addresses(),
        "request": {"method": request.method().to_string(), "path": request.uri().to_string(), "headers": headers},
        "config": dirs.iter().filter(|d| d.is_dir()).map(|d| (d.display().to_string(), files(d))).collect::<BTreeMap<_, _>>(),
        "env": env,
    }))
    .into_response()
}

/// Source: the gRPC health checking protocol. `hello`, and the server as a whole (no name), are well; other services
/// aren't known.
async fn health(request: Request) -> Response {
    // A gRPC message: a byte for compression, four for the length, and protobuf: field 1 is the service's name.
    let message = axum::body::to_bytes(request.into_body(), 4096).await.unwrap_or_default();
    let service = match message.get(5..) {
        Some([0x0a, len, name @ ..]) => String::from_utf8_lossy(&name[..name.len().min(*len as usize)]).into_owned(),
        _ => String::new(),
    };
    println!("grpc health {service:?}");
    let known = ["", "hello"].contains(&service.as_str());
    // SERVING is 1.
    let data = known.then(|| http_body::Frame::data(Bytes::from_static(&[0, 0, 0, 0, 2, 0x08, 0x01])));
    let mut trailers = HeaderMap::new();
    // NOT_FOUND is 5.
    trailers.insert("grpc-status", HeaderValue::from_static(if known { "0" } else { "5" }));
    if !known {
        trailers.insert("grpc-message", HeaderValue::from_static("unknown service"));
    }
    let frames = data.into_iter().chain([http_body::Frame::trailers(trailers)]).map(Ok::<_, Infallible>);
    let body = Body::new(http_body_util::StreamBody::new(futures::stream::iter(frames)));
    ([("content-type", "application/grpc")], body).into_response()
}

/// This host's IPv4 addresses, from the kernel's routing table of local addresses.
fn addresses() -> Vec<String> {
    let text = std::fs::read_to_string("/proc/net/fib_trie").unwrap_or_default();
    let mut out = Vec::new();
    let mut last = "";
    for line in text.lines() {
        let line = line.trim();
        if let Some(address) = line.strip_prefix("|-- ") {
            last = address;
        } else if line.contains("/32 host LOCAL") && last != "127.0.0.1" && !out.iter().any(|a| a == last) {
            out.push(last.to_string());
        }
    }
    out
}

fn files(dir: &Path) -> BTreeMap<String, Value> {
    let entries = std::fs::read_dir(dir).into_iter().flatten().flatten();
    entries
        .filter(|e| e.path().is_file())
        .map(|e| {
            let text = std::fs::read(e.path()).map(|b| String::from_utf8_lossy(&b).into_owned());
            (e.file_name().to_string_lossy().into_owned(), text.map(Value::from).unwrap_or(Value::Null))
        })
        .collect()
}
