//! A gRPC server that a scenario runs for Skiff to call: a KMS plugin, a signer of tokens, a collector of traces.
//! Unary calls only, without TLS. Messages are the scenario's business.

use anyhow::{Context, Result};
use bytes::{BufMut, Bytes, BytesMut};
use futures::stream;
use http_body_util::{BodyExt, StreamBody};
use hyper::body::{Frame, Incoming};
use hyper_util::rt::{TokioExecutor, TokioIo};
use std::convert::Infallible;
use std::fs::File;
use std::path::PathBuf;
use std::sync::Arc;
use tokio::io::{AsyncRead, AsyncWrite};

/// Path of the method (`/v2.KeyManagementService/Status`) and the request's message → the answer's, or a gRPC code with
/// a text.
pub type Answer = dyn Fn(&str, Bytes) -> Result<Vec<u8>, (u32, String)> + Send + Sync;

pub enum Listen {
    /// A path that isn't there yet.
    Socket(PathBuf),
    /// A port of 127.0.0.1 in the network namespace of this process.
    Port(u32, u16),
}

/// Ends when dropped, with all of its connections.
pub struct Grpc {
    stop: Option<tokio::sync::oneshot::Sender<()>>,
    thread: Option<std::thread::JoinHandle<()>>,
    socket: Option<PathBuf>,
}

impl Drop for Grpc {
    fn drop(&mut self) {
        drop(self.stop.take());
        if let Some(t) = self.thread.take() {
            let _ = t.join();
        }
        if let Some(path) = &self.socket {
            let _ = std::fs::remove_file(path);
        }
    }
}

impl Grpc {
    pub fn start(listen: Listen, answer: Arc<Answer>) -> Result<Grpc> {
        let (stop, mut stopped) = tokio::sync::oneshot::channel::<()>();
        let (told, started) = std::sync::mpsc::channel::<std::io::Result<()>>();
        let socket = match &listen {
            Listen::Socket(path) => Some(path.clone()),
            Listen::Port(..) => None,
        };
        let net = match &listen {
            Listen::Port(holder, _) => Some(File::open(format!("/proc/{holder}/ns/net"))?),
            Listen::Socket(_) => None,
        };
        let thread = std::thread::spawn(move || {
            if let Some(net) = net
                && let Err(e) = nix::sched::setns(&net, nix::sched::CloneFlags::CLONE_NEWNET)
            {
                let _ = told.send(Err(e.into()));
                return;
            }
            let Ok(rt) = tokio::runtime::Builder::new_current_thread().enable_all().build() else { return };
            rt.block_on(async {
                let serving = async {
                    match listen {
                        Listen::Socket(path) => {
                            let listener = tokio::net::UnixListener::bind(path);
                            let listener = match listener {
                                Ok(l) => l,
                                Err(e) => return drop(told.send(Err(e))),
                            };
                            let _ = told.send(Ok(()));
                            while let Ok((io, _)) = listener.accept().await {
                                connection(io, answer.clone());
                            }
                        }
                        Listen::Port(_, port) => {
                            let listener = match tokio::net::TcpListener::bind(("127.0.0.1", port)).await {
                                Ok(l) => l,
                                Err(e) => return drop(told.send(Err(e))),
                            };
                            let _ = told.send(Ok(()));
                            while let Ok((io, _)) = listener.accept().await {
                                connection(io, answer.clone());
                            }
                        }
                    }
                };
                tokio::select! {
                    _ = &mut stopped => {}
                    () = serving => {}
                }
            });
            // With its tasks go the connections.
            rt.shutdown_background();
        });
        started.recv().context("the gRPC server didn't start")?.context("the gRPC server didn't start")?;
        Ok(Grpc { stop: Some(stop), thread: Some(thread), socket })
    }
}

fn connection(io: impl AsyncRead + AsyncWrite + Unpin + Send + 'static, answer: Arc<Answer>) {
    tokio::spawn(async move {
        let service = hyper::service::service_fn(move |r| serve(r, answer.clone()));
        let _ = hyper::server::conn::http2::Builder::new(TokioExecutor::new())
            .serve_connection(TokioIo::new(io), service)
            .await;
    });
}

type Frames = stream::Iter<std::vec::IntoIter<Result<Frame<Bytes>, Infallible>>>;

/// Length-prefixed messages; the outcome is in the trailers.
async fn serve(
    request: http::Request<Incoming>,
    answer: Arc<Answer>,
) -> Result<http::Response<StreamBody<Frames>>, Infallible> {
    const PREFIX: usize = 5;
    let path = request.uri().path().to_string();
    let body = request.into_body().collect().await.map(|b| b.to_bytes()).unwrap_or_default();
    let outcome = match body.first() {
        Some(0) if body.len() >= PREFIX => answer(&path, body.slice(PREFIX..)),
        _ => Err((13, "no message, or a compressed one".to_string())),
    };
    let mut trailers = http::HeaderMap::new();
    let mut frames = Vec::new();
    let (code, message) = match outcome {
        Ok(message) => {
            let mut data = BytesMut::with_capacity(PREFIX + message.len());
            data.put_u8(0);
            data.put_u32(message.len() as u32);
            data.put_slice(&message);
            frames.push(Ok(Frame::data(data.freeze())));
            (0, String::new())
        }
        Err(failed) => failed,
    };
    trailers.insert("grpc-status", http::HeaderValue::from(code));
    if let Ok(text) = http::HeaderValue::from_str(&message) {
        trailers.insert("grpc-message", text);
    }
    frames.push(Ok(Frame::trailers(trailers)));
    let mut response = http::Response::new(StreamBody::new(stream::iter(frames)));
    response.headers_mut().insert(http::header::CONTENT_TYPE, http::HeaderValue::from_static("application/grpc"));
    Ok(response)
}
