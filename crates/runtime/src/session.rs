//! Streams into containers: exec, attach, port-forward. The descriptors go between us and the process directly;
//! the shim only hands them over.

use crate::shim::client::Connection;
use crate::shim::protocol::{Reply, Request};
use crate::spec::ProcessSpec;
use cri::{Duplex, Error, ExecOptions, ExecResult, Result, Session, TerminalSize};
use nix::fcntl::{FcntlArg, OFlag, fcntl};
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;
use tokio::io::unix::AsyncFd;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, ReadBuf};
use tokio::net::unix::pipe;
use tokio::sync::{mpsc, oneshot};

/// Output of a synchronous exec that is kept, for each stream; upstream's limit.
const EXEC_SYNC_BYTES_MAX: u64 = 16 << 20;

fn internal(e: impl std::fmt::Display) -> Error {
    Error::Internal(e.to_string())
}

fn lost(e: io::Error) -> Error {
    Error::Unavailable(format!("lost the sandbox's shim: {e}"))
}

fn pipe_pair() -> Result<(OwnedFd, OwnedFd)> {
    nix::unistd::pipe2(OFlag::O_CLOEXEC).map_err(internal)
}

/// Runs a command; the session's end is the command's.
pub async fn exec(directory: &Path, container: &str, process: ProcessSpec, options: &ExecOptions) -> Result<Session> {
    let mut connection = Connection::open(directory).map_err(lost)?;
    let mut session = Ends::default();
    let mut theirs = Vec::new();
    if !options.tty {
        if options.stdin {
            let (read, write) = pipe_pair()?;
            theirs.push(read);
            session.stdin = Some(write);
        }
        for end in [&mut session.stdout, &mut session.stderr] {
            let (read, write) = pipe_pair()?;
            theirs.push(write);
            *end = Some(read);
        }
    }
    let request = Request::Exec {
        container: container.to_owned(),
        process: Box::new(process),
        stdin: !options.tty && options.stdin,
        stdout: !options.tty,
        stderr: !options.tty,
    };
    connection.send(&request, &crate::shim::protocol::borrow(&theirs)).await.map_err(lost)?;
    drop(theirs);
    let (reply, fds) = connection.receive().await.map_err(lost)?;
    match reply {
        Reply::Started(_) => {}
        Reply::NotFound => {
            return Err(Error::NotFound(format!("container {container} is not running")));
        }
        Reply::Failed { message } => {
            return Err(Error::Start(format!(
                "failed to exec in container: exec failed: unable to start container process: {message}"
            )));
        }
        other => return Err(internal(format!("unexpected answer to exec: {other:?}"))),
    }
    session.into_session(connection, fds.into_iter().next(), options.stdin)
}

/// Joins a container's first process: what it writes from now on (for the first client that gives input, what isn't in
/// its log), and its input.
pub async fn attach(directory: &Path, container: &str, options: &ExecOptions, tty: bool) -> Result<Session> {
    let mut connection = Connection::open(directory).map_err(lost)?;
    let mut ends = Ends::default();
    let (out_read, out_write) = pipe_pair()?;
    ends.stdout = Some(out_read);
    let mut theirs = vec![out_write];
    if !tty {
        let (err_read, err_write) = pipe_pair()?;
        ends.stderr = Some(err_read);
        theirs.push(err_write);
    }
    let request = Request::Attach { container: container.to_owned(), stdin: options.stdin, stdout: true, stderr: !tty };
    connection.send(&request, &crate::shim::protocol::borrow(&theirs)).await.map_err(lost)?;
    drop(theirs);
    let (reply, fds) = connection.receive().await.map_err(lost)?;
    match reply {
        Reply::Attached => {}
        Reply::AttachedFirst { logged } => ends.logged = Some(logged),
        Reply::NotFound => {
            return Err(Error::NotFound(format!("container {container} is not running")));
        }
        other => return Err(internal(format!("unexpected answer to attach: {other:?}"))),
    }
    let handed = fds.into_iter().next();
    let (master, stdin) = if tty { (handed, None) } else { (None, handed) };
    ends.stdin = stdin;
    ends.attached_terminal = tty;
    ends.into_session(connection, master, options.stdin)
}

/// Our ends of the streams.
#[derive(Default)]
struct Ends {
    stdin: Option<OwnedFd>,
    stdout: Option<OwnedFd>,
    stderr: Option<OwnedFd>,
    /// The master only takes input; output comes through the shim, which also logs it.
    attached_terminal: bool,
    logged: Option<u64>,
}

impl Ends {
    fn into_session(self, mut connection: Connection, master: Option<OwnedFd>, wants_stdin: bool) -> Result<Session> {
        let mut session_stdin: Option<Pin<Box<dyn AsyncWrite + Send>>> = None;
        let mut session_stdout: Option<Pin<Box<dyn AsyncRead + Send>>> = None;
        let mut session_stderr: Option<Pin<Box<dyn AsyncRead + Send>>> = None;
        let mut resize = None;
        if let Some(fd) = self.stdin {
            session_stdin = Some(Box::pin(pipe::Sender::from_owned_fd(fd).map_err(internal)?));
        }
        if let Some(fd) = self.stdout {
            session_stdout = Some(Box::pin(pipe::Receiver::from_owned_fd(fd).map_err(internal)?));
        }
        if let Some(fd) = self.stderr {
            session_stderr = Some(Box::pin(pipe::Receiver::from_owned_fd(fd).map_err(internal)?));
        }
        if let Some(master) = master {
            let flags = OFlag::from_bits_retain(fcntl(&master, FcntlArg::F_GETFL).map_err(internal)?);
            fcntl(&master, FcntlArg::F_SETFL(flags | OFlag::O_NONBLOCK)).map_err(internal)?;
            let resizer = master.try_clone().map_err(internal)?;
            #[expect(
                deprecated,
                reason = "its successor is unsafe for types that may lie about their descriptor; an OwnedFd does not"
            )]
            let terminal = Arc::new(AsyncFd::new(master).map_err(internal)?);
            if wants_stdin {
                session_stdin = Some(Box::pin(Terminal(terminal.clone())));
            }
            if !self.attached_terminal {
                session_stdout = Some(Box::pin(Terminal(terminal)));
            }
            let (sender, mut sizes) = mpsc::channel::<TerminalSize>(4);
            tokio::spawn(async move {
                while let Some(size) = sizes.recv().await {
                    let _ = sys::terminal::resize(resizer.as_fd(), size.width, size.height);
                }
            });
            resize = Some(sender);
        }
        let (mut exit_sender, exit) = oneshot::channel();
        tokio::spawn(async move {
            let result = tokio::select! {
                reply = connection.receive() => match reply {
                    Ok((Reply::Exited(exit), _)) => Ok(exit.exit_code),
                    Ok((other, _)) => Err(internal(format!("unexpected message in session: {other:?}"))),
                    Err(e) => Err(lost(e)),
                },
                // Nobody waits any more: closing the connection makes the shim kill an exec'd command.
                () = exit_sender.closed() => return,
            };
            let _ = exit_sender.send(result);
        });
        Ok(Session {
            stdin: session_stdin,
            stdout: session_stdout,
            stderr: session_stderr,
            resize,
            exit,
            logged: self.logged,
        })
    }
}

/// A terminal's master. The end of its last user (EIO) is the end of the stream.
struct Terminal(Arc<AsyncFd<OwnedFd>>);

impl AsyncRead for Terminal {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        loop {
            let mut guard = ready!(self.0.poll_read_ready(cx))?;
            let unfilled = buffer.initialize_unfilled();
            match guard.try_io(|fd| nix::unistd::read(fd.get_ref(), unfilled).map_err(io::Error::from)) {
                Ok(Ok(n)) => {
                    buffer.advance(n);
                    return Poll::Ready(Ok(()));
                }
                Ok(Err(e)) if e.raw_os_error() == Some(libc::EIO) => return Poll::Ready(Ok(())),
                Ok(Err(e)) => return Poll::Ready(Err(e)),
                Err(_would_block) => {}
            }
        }
    }
}

impl AsyncWrite for Terminal {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        loop {
            let mut guard = ready!(self.0.poll_write_ready(cx))?;
            if let Ok(result) = guard.try_io(|fd| nix::unistd::write(fd.get_ref(), bytes).map_err(io::Error::from)) {
                return Poll::Ready(result);
            }
        }
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}

/// Runs a command to its end and gathers its output.
pub async fn exec_sync(
    directory: &Path,
    container: &str,
    process: ProcessSpec,
    timeout: Duration,
) -> Result<ExecResult> {
    let command = process.args.join(" ");
    let options = ExecOptions { command: process.args.clone(), stdin: false, tty: false };
    let session = exec(directory, container, process, &options).await?;
    let gather = |stream: Option<Pin<Box<dyn AsyncRead + Send>>>| {
        tokio::spawn(async move {
            let mut bytes = Vec::new();
            if let Some(mut stream) = stream {
                // What is beyond the limit is read and dropped, so that the command does not hang.
                let _ = (&mut stream).take(EXEC_SYNC_BYTES_MAX).read_to_end(&mut bytes).await;
                let _ = tokio::io::copy(&mut stream, &mut tokio::io::sink()).await;
            }
            bytes
        })
    };
    let (mut stdout, mut stderr) = (gather(session.stdout), gather(session.stderr));
    let run = async {
        let exit_code = session.exit.await.map_err(|_| internal("exec session ended"))??;
        Ok::<i32, Error>(exit_code)
    };
    let exit_code = if timeout.is_zero() {
        run.await?
    } else {
        match tokio::time::timeout(timeout, run).await {
            Ok(result) => result?,
            Err(_) => {
                // Dropping the session's exit has killed the command by now.
                stdout.abort();
                stderr.abort();
                return Err(Error::DeadlineExceeded(format!(
                    "command {command:?} timed out: timeout {timeout:?} exceeded: context deadline exceeded"
                )));
            }
        }
    };
    // Something that the command left behind may hold the pipes open; its output is not waited for.
    let drain = Duration::from_secs(5);
    let out = tokio::time::timeout(drain, &mut stdout).await.ok().and_then(std::result::Result::ok).unwrap_or_default();
    let err = tokio::time::timeout(drain, &mut stderr).await.ok().and_then(std::result::Result::ok).unwrap_or_default();
    stdout.abort();
    stderr.abort();
    Ok(ExecResult { stdout: out, stderr: err, exit_code })
}

/// Connects to a port of the pod. The sockets are made by the shim, inside the pod's network namespace.
pub async fn port_forward(directory: &Path, sandbox: &str, port: u16) -> Result<Box<dyn Duplex>> {
    let (_, sockets) = crate::shim::client::call(directory, &Request::Sockets).await.map_err(lost)?;
    let addresses = [
        std::net::SocketAddr::from(([127, 0, 0, 1], port)),
        std::net::SocketAddr::from((std::net::Ipv6Addr::LOCALHOST, port)),
    ];
    let mut errors = Vec::new();
    for (socket, address) in sockets.into_iter().zip(addresses) {
        let socket = tokio::net::TcpSocket::from_std_stream(std::net::TcpStream::from(socket));
        match socket.connect(address).await {
            Ok(stream) => {
                let _ = stream.set_nodelay(true);
                return Ok(Box::new(stream));
            }
            Err(e) => errors.push(format!("{address}: {e}")),
        }
    }
    Err(Error::Unavailable(format!(
        "failed to connect to localhost:{port} inside namespace of sandbox {sandbox:?}: {}",
        errors.join(", ")
    )))
}
