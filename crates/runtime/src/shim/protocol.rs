//! What the runtime and a pod's shim say to each other over the shim's Unix socket.
//!
//! A message is a 4-byte little-endian length and that much JSON; descriptors ride on its first byte. Every
//! connection carries one request. Most get one [`Reply`]; `Subscribe`, `Exec` and `Attach` get more later.

use crate::spec::{ContainerSpec, ProcessSpec};
use serde::{Deserialize, Serialize};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

/// A message may not be longer: specifications carry environments, which the kernel limits to 2 MiB.
pub const MESSAGE_BYTES_MAX: usize = 8 << 20;

#[derive(Debug, Serialize, Deserialize)]
pub enum Request {
    /// → `Running`, then an `Exited` for every container that ends.
    Subscribe,
    /// → `Started` once the program runs.
    Start(Box<ContainerSpec>),
    /// Descriptors: stdin, stdout, stderr (those that are `true`). → `Started` (with the terminal's master), then `Exited`.
    Exec { container: String, process: Box<ProcessSpec>, stdin: bool, stdout: bool, stderr: bool },
    /// Descriptors: stdout, stderr to write to. → `Attached` or `AttachedFirst` with stdin (or the terminal's master),
    /// then `Exited`.
    Attach { container: String, stdin: bool, stdout: bool, stderr: bool },
    /// → `Done`; `NotFound` when it doesn't run.
    Signal { container: String, signal: i32 },
    /// → `Done`
    ReopenLog { container: String },
    /// → `Done` with an unconnected IPv4 and IPv6 socket of the pod's network.
    Sockets,
    /// Kills everything. → `Done`, then the shim is gone.
    Shutdown,
}

#[derive(Debug, Serialize, Deserialize)]
pub enum Reply {
    Running {
        pid: i32,
        containers: Vec<Started>,
    },
    Started(Started),
    Attached,
    /// To the first client that gives input: how much text the log has, the client gets what comes after it.
    AttachedFirst {
        logged: u64,
    },
    Exited(Exit),
    Done,
    NotFound,
    Failed {
        message: String,
    },
}

/// A container's first process, or an exec'd one.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct Started {
    pub container: String,
    pub pid: i32,
    pub started_at_ns: i64,
    pub uid: u32,
    pub gid: u32,
    pub groups: Vec<u32>,
}

/// How a process ended. For a container this is also what its `exit.json` holds.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct Exit {
    pub container: String,
    pub exit_code: i32,
    /// 0 when it ended by itself.
    pub signal: i32,
    pub oom_killed: bool,
    pub started: Started,
    pub finished_at_ns: i64,
    /// Why it could not be started at all; the kubelet's reason and a text.
    #[serde(default)]
    pub failure: Option<(String, String)>,
}

/// Puts a message into bytes, length first.
pub fn encode<T: Serialize>(message: &T) -> Vec<u8> {
    let mut bytes = vec![0; 4];
    // Plain structs of strings and numbers; writing them to memory can't fail.
    if serde_json::to_writer(&mut bytes, message).is_err() {
        bytes.truncate(4);
    }
    let length = (bytes.len() - 4) as u32;
    bytes[..4].copy_from_slice(&length.to_le_bytes());
    bytes
}

/// Gathers bytes and descriptors until a message is whole.
#[derive(Default)]
pub struct Inbox {
    bytes: Vec<u8>,
    fds: Vec<OwnedFd>,
}

pub enum Received<T> {
    Message(T, Vec<OwnedFd>),
    /// Not whole yet, and nothing more to read now.
    Pending,
    End,
}

impl Inbox {
    /// Reads what a non-blocking socket has, up to one message.
    pub fn read<T: for<'de> Deserialize<'de>>(&mut self, socket: BorrowedFd<'_>) -> std::io::Result<Received<T>> {
        loop {
            if let Some(message) = self.take()? {
                return Ok(message);
            }
            let mut chunk = [0; 4096];
            match sys::passing::receive(socket, &mut chunk, &mut self.fds) {
                Ok(0) => return Ok(Received::End),
                Ok(n) => self.bytes.extend_from_slice(&chunk[..n]),
                Err(e) if e.kind() == std::io::ErrorKind::WouldBlock => {
                    return Ok(Received::Pending);
                }
                Err(e) if e.kind() == std::io::ErrorKind::Interrupted => {}
                Err(e) => return Err(e),
            }
        }
    }

    fn take<T: for<'de> Deserialize<'de>>(&mut self) -> std::io::Result<Option<Received<T>>> {
        let Some(header) = self.bytes.first_chunk::<4>() else {
            return Ok(None);
        };
        let length = u32::from_le_bytes(*header) as usize;
        if length > MESSAGE_BYTES_MAX {
            return Err(std::io::Error::other("message too long"));
        }
        let Some(body) = self.bytes.get(4..4 + length) else {
            return Ok(None);
        };
        let message = serde_json::from_slice(body).map_err(std::io::Error::other)?;
        self.bytes.drain(..4 + length);
        if self.bytes.is_empty() {
            // Specifications are large, and this buffer may live as long as a pod.
            self.bytes = Vec::new();
        }
        Ok(Some(Received::Message(message, std::mem::take(&mut self.fds))))
    }
}

/// Sends a whole message on a blocking or non-blocking socket; waits where the peer is slow.
pub fn send(socket: BorrowedFd<'_>, message: &impl Serialize, fds: &[BorrowedFd<'_>]) -> std::io::Result<()> {
    use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
    let bytes = encode(message);
    let mut sent = 0;
    while sent < bytes.len() {
        let riders = if sent == 0 { fds } else { &[] };
        match sys::passing::send(socket, &bytes[sent..], riders) {
            Ok(n) => sent += n,
            Err(e) if e.kind() == std::io::ErrorKind::WouldBlock => {
                // Only a runtime that hangs lets this wait; after a second it has lost the connection.
                let mut ready = [PollFd::new(socket, PollFlags::POLLOUT)];
                if poll(&mut ready, PollTimeout::from(1000u16))? == 0 {
                    return Err(e);
                }
            }
            Err(e) if e.kind() == std::io::ErrorKind::Interrupted => {}
            Err(e) => return Err(e),
        }
    }
    Ok(())
}

/// For callers that hold owned descriptors.
pub fn borrow(fds: &[OwnedFd]) -> Vec<BorrowedFd<'_>> {
    fds.iter().map(AsFd::as_fd).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::net::UnixStream;

    #[test]
    fn messages_survive_being_cut_to_pieces() {
        let (a, b) = UnixStream::pair().unwrap();
        b.set_nonblocking(true).unwrap();
        let mut inbox = Inbox::default();
        let mut bytes = encode(&Request::Signal { container: "c".repeat(5000), signal: 9 });
        bytes.extend(encode(&Request::Subscribe));
        let mut seen = Vec::new();
        for chunk in bytes.chunks(700) {
            std::io::Write::write_all(&mut &a, chunk).unwrap();
            while let Received::Message(message, _) = inbox.read::<Request>(b.as_fd()).unwrap() {
                seen.push(format!("{message:?}"));
            }
        }
        assert_eq!(seen.len(), 2);
        assert!(seen[0].starts_with("Signal"), "{}", seen[0]);
        drop(a);
        assert!(matches!(inbox.read::<Request>(b.as_fd()).unwrap(), Received::End));
    }

    #[test]
    fn an_absurd_length_is_refused() {
        let (a, b) = UnixStream::pair().unwrap();
        b.set_nonblocking(true).unwrap();
        std::io::Write::write_all(&mut &a, &[0xff; 8]).unwrap();
        assert!(Inbox::default().read::<Request>(b.as_fd()).is_err());
    }

    #[test]
    fn descriptors_arrive_with_their_message() {
        let (a, b) = UnixStream::pair().unwrap();
        let (read, write) = nix::unistd::pipe().unwrap();
        send(a.as_fd(), &Request::Sockets, &[write.as_fd()]).unwrap();
        drop(write);
        b.set_nonblocking(true).unwrap();
        let Received::Message(Request::Sockets, fds) = Inbox::default().read(b.as_fd()).unwrap() else { panic!() };
        nix::unistd::write(&fds[0], b"x").unwrap();
        let mut byte = [0];
        assert_eq!(nix::unistd::read(&read, &mut byte).unwrap(), 1);
    }
}
