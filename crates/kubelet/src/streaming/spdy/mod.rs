//! SPDY/3.1, as much of it as Kubernetes' clients use: streams that the client opens, data both ways, ping, reset,
//! goaway. Like the Go library that all of them use, it neither sends nor heeds flow-control windows.
//!
//! In: a byte stream (an upgraded connection, or a WebSocket tunnel). Out: [`Stream`]s.

pub mod frame;
pub mod headers;

use bytes::Bytes;
use frame::Frame;
use std::collections::HashMap;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::sync::mpsc;

/// What one stream holds unread before the connection waits for it.
const UNREAD_MAX: usize = 64;
const STREAMS_MAX: usize = 1000;

pub struct Stream {
    pub id: u32,
    /// Names in lower case.
    pub headers: HashMap<String, String>,
    /// Closed: the client has finished.
    pub input: mpsc::Receiver<Bytes>,
    pub output: Writer,
}

#[derive(Clone)]
pub struct Writer {
    id: u32,
    frames: mpsc::Sender<Frame>,
}

impl Writer {
    /// `Err` when the connection is gone.
    pub async fn send(&self, data: Bytes) -> Result<(), ()> {
        self.frames.send(Frame::Data { stream: self.id, fin: false, data }).await.map_err(drop)
    }

    pub async fn finish(&self) {
        let _ = self.frames.send(Frame::Data { stream: self.id, fin: true, data: Bytes::new() }).await;
    }

    pub async fn reset(&self) {
        let _ = self.frames.send(Frame::Reset { stream: self.id, status: frame::CANCEL }).await;
    }

    pub async fn closed(&self) {
        self.frames.closed().await;
    }
}

/// Serves the connection in two tasks until either side closes it. Streams come accepted.
pub fn serve<T>(io: T) -> mpsc::Receiver<Stream>
where
    T: AsyncRead + AsyncWrite + Send + 'static,
{
    let (mut read, mut write) = tokio::io::split(io);
    let (frames, mut outgoing) = mpsc::channel::<Frame>(64);
    let (streams_tx, streams) = mpsc::channel(16);
    let writer = tokio::spawn(async move {
        let mut packer = headers::Packer::default();
        while let Some(frame) = outgoing.recv().await {
            let Ok(bytes) = frame.encode(&mut packer) else {
                return;
            };
            if write.write_all(&bytes).await.is_err() || write.flush().await.is_err() {
                return;
            }
        }
        let _ = write.shutdown().await;
    });
    let stop = writer.abort_handle();
    tokio::spawn(async move {
        let mut unpacker = headers::Unpacker::default();
        let mut open: HashMap<u32, mpsc::Sender<Bytes>> = HashMap::new();
        let mut head = [0u8; 8];
        while read.read_exact(&mut head).await.is_ok() {
            let length = usize::from(head[5]) << 16 | usize::from(head[6]) << 8 | usize::from(head[7]);
            let mut body = vec![0; length];
            if read.read_exact(&mut body).await.is_err() {
                break;
            }
            let Ok(frame) = Frame::decode(head, body.into(), &mut unpacker) else {
                break;
            };
            match frame {
                Frame::Open { stream, fin, headers } => {
                    if open.len() >= STREAMS_MAX {
                        let _ = frames.send(Frame::Reset { stream, status: frame::REFUSED }).await;
                        continue;
                    }
                    let (tx, input) = mpsc::channel(UNREAD_MAX);
                    if !fin {
                        open.insert(stream, tx);
                    }
                    if frames.send(Frame::Reply { stream, headers: HashMap::new() }).await.is_err() {
                        break;
                    }
                    let accepted =
                        Stream { id: stream, headers, input, output: Writer { id: stream, frames: frames.clone() } };
                    if streams_tx.send(accepted).await.is_err() {
                        let _ = frames.send(Frame::Reset { stream, status: frame::REFUSED }).await;
                    }
                }
                Frame::Data { stream, fin, data } => {
                    if let Some(tx) = open.get(&stream)
                        && !data.is_empty()
                        && tx.send(data).await.is_err()
                    {
                        // Nobody reads it any more; what comes is dropped.
                        open.remove(&stream);
                    }
                    if fin {
                        open.remove(&stream);
                    }
                }
                Frame::Reset { stream, .. } => {
                    open.remove(&stream);
                }
                Frame::Ping { id } => {
                    // Ours would be even; a client's is answered with itself.
                    if id % 2 == 1 && frames.send(Frame::Ping { id }).await.is_err() {
                        break;
                    }
                }
                Frame::GoAway => break,
                Frame::Reply { .. } | Frame::Other => {}
            }
        }
        // The client has gone: whoever still writes hears of it.
        stop.abort();
    });
    streams
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn streams_echo() {
        let (client, server) = tokio::io::duplex(1 << 16);
        let mut streams = serve(server);
        tokio::spawn(async move {
            while let Some(mut s) = streams.recv().await {
                tokio::spawn(async move {
                    assert_eq!(s.headers["streamtype"], "data");
                    while let Some(data) = s.input.recv().await {
                        s.output.send(data).await.unwrap();
                    }
                    s.output.finish().await;
                });
            }
        });
        let (mut read, mut write) = tokio::io::split(client);
        let (mut packer, mut unpacker) = (headers::Packer::default(), headers::Unpacker::default());
        let mut send = async |f: Frame| write.write_all(&f.encode(&mut packer).unwrap()).await.unwrap();
        let mut next = async || {
            let mut head = [0; 8];
            read.read_exact(&mut head).await.unwrap();
            let mut body = vec![0; usize::from(head[6]) << 8 | usize::from(head[7])];
            read.read_exact(&mut body).await.unwrap();
            Frame::decode(head, body.into(), &mut unpacker).unwrap()
        };
        for id in [1, 3] {
            send(Frame::Open {
                stream: id,
                fin: false,
                headers: HashMap::from([("streamType".into(), "data".into()), ("port".into(), id.to_string())]),
            })
            .await;
            assert!(matches!(next().await, Frame::Reply { stream, .. } if stream == id));
            send(Frame::Data { stream: id, fin: false, data: "hello".into() }).await;
            assert_eq!(next().await, Frame::Data { stream: id, fin: false, data: "hello".into() });
        }
        send(Frame::Ping { id: 7 }).await;
        assert_eq!(next().await, Frame::Ping { id: 7 });
        send(Frame::Data { stream: 1, fin: true, data: Bytes::new() }).await;
        assert_eq!(next().await, Frame::Data { stream: 1, fin: true, data: Bytes::new() });
    }
}
