//! The runtime's side of a shim's socket.

use super::protocol::{Inbox, Received, Reply, Request, encode};
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::path::Path;
use tokio::io::Interest;
use tokio::net::UnixStream;

pub struct Connection {
    stream: UnixStream,
    inbox: Inbox,
}

impl Connection {
    /// Connects to the shim whose state directory this is.
    pub fn open(directory: &Path) -> io::Result<Connection> {
        // Through the directory's descriptor: a socket's path may not be longer than 107 bytes.
        let dir = std::fs::File::open(directory)?;
        let path = format!("/proc/self/fd/{}/{}", dir.as_raw_fd(), super::SOCKET);
        let stream = std::os::unix::net::UnixStream::connect(path)?;
        stream.set_nonblocking(true)?;
        Ok(Connection { stream: UnixStream::from_std(stream)?, inbox: Inbox::default() })
    }

    pub async fn send(&self, request: &Request, fds: &[BorrowedFd<'_>]) -> io::Result<()> {
        let bytes = encode(request);
        let mut sent = 0;
        while sent < bytes.len() {
            let riders = if sent == 0 { fds } else { &[] };
            let rest = bytes.get(sent..).unwrap_or_default();
            sent += self
                .stream
                .async_io(Interest::WRITABLE, || sys::passing::send(self.stream.as_fd(), rest, riders))
                .await?;
        }
        Ok(())
    }

    /// The next reply, `UnexpectedEof` when the shim is gone.
    pub async fn receive(&mut self) -> io::Result<(Reply, Vec<OwnedFd>)> {
        loop {
            self.stream.readable().await?;
            let (stream, inbox) = (&self.stream, &mut self.inbox);
            let result = stream.try_io(Interest::READABLE, || match inbox.read::<Reply>(stream.as_fd())? {
                Received::Pending => Err(io::ErrorKind::WouldBlock.into()),
                other => Ok(other),
            });
            match result {
                Ok(Received::Message(reply, fds)) => return Ok((reply, fds)),
                Ok(Received::End | Received::Pending) => {
                    return Err(io::ErrorKind::UnexpectedEof.into());
                }
                Err(e) if e.kind() == io::ErrorKind::WouldBlock => {}
                Err(e) => return Err(e),
            }
        }
    }
}

/// One request, one reply.
pub async fn call(directory: &Path, request: &Request) -> io::Result<(Reply, Vec<OwnedFd>)> {
    let mut connection = Connection::open(directory)?;
    connection.send(request, &[]).await?;
    connection.receive().await
}
