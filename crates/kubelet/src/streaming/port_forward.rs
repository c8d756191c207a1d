//! Port-forward over SPDY streams: pairs of a data and an error stream, joined by a request id.

use super::spdy::Stream;
use bytes::Bytes;
use std::collections::HashMap;
use std::sync::Arc;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::sync::mpsc;

pub type Connect =
    Arc<dyn Fn(u16) -> futures::future::BoxFuture<'static, cri::Result<Box<dyn cri::Duplex>>> + Send + Sync>;

/// Until the connection closes.
pub async fn serve(mut streams: mpsc::Receiver<Stream>, connect: Connect) {
    let mut waiting: HashMap<String, Stream> = HashMap::new();
    while let Some(stream) = streams.recv().await {
        let kind = stream.headers.get("streamtype").cloned().unwrap_or_default();
        // Old clients send no request id: an error stream is followed directly by its data stream.
        let id = stream
            .headers
            .get("requestid")
            .cloned()
            .unwrap_or_else(|| if kind == "error" { stream.id } else { stream.id.saturating_sub(2) }.to_string());
        match waiting.remove(&id) {
            None if matches!(kind.as_str(), "data" | "error") => {
                waiting.insert(id, stream);
            }
            Some(other) => {
                let (data, error) = if kind == "data" { (stream, other) } else { (other, stream) };
                tokio::spawn(forward(data, error, connect.clone()));
            }
            None => stream.output.reset().await,
        }
    }
}

async fn forward(mut data: Stream, error: Stream, connect: Connect) {
    let port = data.headers.get("port").and_then(|p| p.parse::<u16>().ok()).filter(|p| *p > 0);
    let result = match port {
        Some(port) => connect(port).await.map_err(|e| format!("error forwarding port {port} to pod: {e}")),
        None => Err("the data stream names no port".to_owned()),
    };
    match result {
        Ok(target) => {
            let (mut read, mut write) = tokio::io::split(target);
            let output = data.output.clone();
            let up = async {
                while let Some(bytes) = data.input.recv().await {
                    if write.write_all(&bytes).await.is_err() {
                        return;
                    }
                }
                let _ = write.shutdown().await;
            };
            let down = async {
                let mut buffer = vec![0; 32 * 1024];
                while let Ok(n) = read.read(&mut buffer).await {
                    if n == 0 || output.send(Bytes::copy_from_slice(&buffer[..n])).await.is_err() {
                        break;
                    }
                }
                output.finish().await;
            };
            // The pod's side ends the pair; the client's half-close only goes through.
            let mut down = std::pin::pin!(down);
            tokio::select! {
                _ = &mut down => {}
                _ = async { up.await; std::future::pending::<()>().await } => {}
                _ = output.closed() => return,
            }
        }
        Err(message) => {
            let _ = error.output.send(Bytes::from(message)).await;
            data.output.reset().await;
        }
    }
    error.output.finish().await;
}
