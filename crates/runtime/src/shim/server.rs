//! The shim's loop: waits for requests, output, and the ends of processes, and handles one at a time.

use super::child::{self, Report};
use super::log::{Log, Partial, Stream, timestamp};
use super::protocol::{Exit, Inbox, Received, Reply, Request, Started, send};
use crate::spec::{ContainerSpec, PidMode, ProcessSpec, ShimSpec};
use crate::state::{Durability, now_ns};
use nix::fcntl::{FcntlArg, OFlag, fcntl};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sched::{CloneFlags, setns};
use nix::sys::signal::{SigSet, Signal};
use nix::sys::signalfd::{SfdFlags, SignalFd};
use nix::sys::socket::{AddressFamily, SockFlag, SockType, socket, socketpair};
use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};
use nix::unistd::Pid;
use std::collections::BTreeMap;
use std::fs::File;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::PathBuf;
use std::time::{Duration, Instant};
use sys::cgroup;
use sys::process::Fork;

/// How long a reader of an ended container's output is waited for.
const FLUSH_MS: u16 = 1_000;

pub struct Server {
    cgroups: cgroup::Manager,
    signals: SignalFd,
    listener: UnixListener,
    /// Our own pid namespace, to come back to after forking into another.
    own_pid_namespace: File,
    /// First process of the pod's shared pid namespace.
    pod_init: Option<Pid>,
    containers: BTreeMap<String, Container>,
    starting: BTreeMap<i32, Starting>,
    /// By pid: the client that waits for it.
    execs: BTreeMap<i32, u64>,
    clients: BTreeMap<u64, Client>,
    next_client: u64,
}

struct Client {
    socket: UnixStream,
    inbox: Inbox,
    subscribed: bool,
    /// The container that it is attached to.
    attached: Option<String>,
}

struct Container {
    started: Started,
    cgroup: String,
    shared_pid: bool,
    exit_path: PathBuf,
    log: Option<Log>,
    outputs: Vec<Output>,
    /// Write end of the pipe.
    stdin: Option<OwnedFd>,
    stdin_once: bool,
    /// A client that gives input has been here.
    met: bool,
    master: Option<OwnedFd>,
}

struct Output {
    fd: OwnedFd,
    stream: Stream,
    partial: Partial,
    followers: Vec<Follower>,
}

/// An attached client's copy of a stream.
struct Follower {
    client: u64,
    fd: OwnedFd,
    pending: Vec<u8>,
}

/// A forked process whose program does not run yet.
struct Starting {
    client: u64,
    sync: UnixStream,
    inbox: Inbox,
    report: Option<Report>,
    master: Option<OwnedFd>,
    /// `None`: an exec.
    container: Option<Box<Container>>,
    name: String,
}

enum Token {
    Signals,
    Listener,
    Client(u64),
    Starting(i32),
    Output(String, usize),
    Follower(String, usize, u64),
}

impl Server {
    pub fn new(spec: &ShimSpec) -> io::Result<Server> {
        let mut mask = SigSet::empty();
        for signal in [Signal::SIGCHLD, Signal::SIGTERM, Signal::SIGINT, Signal::SIGHUP] {
            // Only SIGCHLD means something; the others are what a service manager sends to the whole group of a
            // Skiff that it restarts, which the pods are to survive.
            mask.add(signal);
        }
        mask.thread_block()?;
        let pod_init = if spec.shared_pid { Some(start_pod_init()?) } else { None };
        let _ = std::fs::remove_file(super::SOCKET);
        let listener = UnixListener::bind(super::SOCKET)?;
        listener.set_nonblocking(true)?;
        Ok(Server {
            cgroups: cgroup::Manager::detect("skiff").map_err(io::Error::other)?,
            signals: SignalFd::with_flags(&mask, SfdFlags::SFD_NONBLOCK | SfdFlags::SFD_CLOEXEC)?,
            listener,
            own_pid_namespace: File::open("/proc/self/ns/pid")?,
            pod_init,
            containers: BTreeMap::new(),
            starting: BTreeMap::new(),
            execs: BTreeMap::new(),
            clients: BTreeMap::new(),
            next_client: 0,
        })
    }

    /// Returns after `Shutdown`.
    pub fn serve(mut self) -> io::Result<()> {
        loop {
            let (tokens, ready) = self.wait()?;
            for (token, flags) in tokens.into_iter().zip(ready) {
                if flags.is_empty() {
                    continue;
                }
                match token {
                    Token::Signals => {
                        while let Ok(Some(_)) = self.signals.read_signal() {}
                        self.reap();
                    }
                    Token::Listener => self.accept(),
                    Token::Starting(pid) => self.hear_child(pid),
                    Token::Output(id, index) => self.pump(&id, index),
                    Token::Follower(id, index, client) => self.flush_follower(&id, index, client),
                    Token::Client(id) => {
                        if self.hear_client(id) {
                            return Ok(());
                        }
                    }
                }
            }
        }
    }

    fn wait(&self) -> io::Result<(Vec<Token>, Vec<PollFlags>)> {
        let mut tokens = vec![Token::Signals, Token::Listener];
        let mut fds = vec![
            PollFd::new(self.signals.as_fd(), PollFlags::POLLIN),
            PollFd::new(self.listener.as_fd(), PollFlags::POLLIN),
        ];
        for (id, client) in &self.clients {
            tokens.push(Token::Client(*id));
            fds.push(PollFd::new(client.socket.as_fd(), PollFlags::POLLIN));
        }
        for (pid, starting) in &self.starting {
            tokens.push(Token::Starting(*pid));
            fds.push(PollFd::new(starting.sync.as_fd(), PollFlags::POLLIN));
        }
        for (id, container) in &self.containers {
            for (index, output) in container.outputs.iter().enumerate() {
                let mut blocked = false;
                for follower in &output.followers {
                    if !follower.pending.is_empty() {
                        blocked = true;
                        tokens.push(Token::Follower(id.clone(), index, follower.client));
                        fds.push(PollFd::new(follower.fd.as_fd(), PollFlags::POLLOUT));
                    }
                }
                // A slow reader slows the container down, as it would on a terminal of its own.
                if !blocked {
                    tokens.push(Token::Output(id.clone(), index));
                    fds.push(PollFd::new(output.fd.as_fd(), PollFlags::POLLIN));
                }
            }
        }
        loop {
            match poll(&mut fds, PollTimeout::NONE) {
                Ok(_) => break,
                Err(nix::errno::Errno::EINTR) => {}
                Err(e) => return Err(e.into()),
            }
        }
        let ready = fds.iter().map(|fd| fd.revents().unwrap_or(PollFlags::empty())).collect();
        Ok((tokens, ready))
    }

    // ---- clients ----------------------------------------------------------------------------------------------

    fn accept(&mut self) {
        while let Ok((socket, _)) = self.listener.accept() {
            if socket.set_nonblocking(true).is_ok() {
                let client = Client { socket, inbox: Inbox::default(), subscribed: false, attached: None };
                self.clients.insert(self.next_client, client);
                self.next_client += 1;
            }
        }
    }

    fn reply(&mut self, client: u64, reply: &Reply, fds: &[BorrowedFd<'_>]) {
        if let Some(peer) = self.clients.get(&client)
            && send(peer.socket.as_fd(), reply, fds).is_err()
        {
            self.forget_client(client);
        }
    }

    fn forget_client(&mut self, id: u64) {
        self.clients.remove(&id);
        for (pid, client) in &self.execs {
            if *client == id {
                // The session was dropped: its command ends with it, and what it started in its session.
                let _ = sys::process::signal(-pid, libc::SIGKILL);
                let _ = sys::process::signal(*pid, libc::SIGKILL);
            }
        }
        for container in self.containers.values_mut() {
            for output in &mut container.outputs {
                output.followers.retain(|f| f.client != id);
            }
        }
    }

    /// Whether to end.
    fn hear_client(&mut self, id: u64) -> bool {
        loop {
            let Some(client) = self.clients.get_mut(&id) else {
                return false;
            };
            match client.inbox.read::<Request>(client.socket.as_fd()) {
                Ok(Received::Message(request, fds)) => {
                    if self.handle(id, request, fds) {
                        return true;
                    }
                }
                Ok(Received::Pending) => return false,
                Ok(Received::End) | Err(_) => {
                    self.forget_client(id);
                    return false;
                }
            }
        }
    }

    fn handle(&mut self, client: u64, request: Request, fds: Vec<OwnedFd>) -> bool {
        match request {
            Request::Subscribe => {
                if let Some(peer) = self.clients.get_mut(&client) {
                    peer.subscribed = true;
                }
                let containers = self.containers.values().map(|c| c.started.clone()).collect();
                self.reply(client, &Reply::Running { pid: std::process::id() as i32, containers }, &[]);
            }
            Request::Start(spec) => {
                if let Err(message) = self.start(client, &spec) {
                    self.reply(client, &Reply::Failed { message }, &[]);
                }
            }
            Request::Exec { container, process, stdin, stdout, stderr } => {
                let mut fds = fds.into_iter();
                let streams = [stdin, stdout, stderr].map(|given| if given { fds.next() } else { None });
                match self.exec(client, &container, &process, streams) {
                    Ok(true) => {}
                    Ok(false) => self.reply(client, &Reply::NotFound, &[]),
                    Err(message) => self.reply(client, &Reply::Failed { message }, &[]),
                }
            }
            Request::Attach { container, stdin, stdout, stderr } => {
                self.attach(client, &container, stdin, [stdout, stderr], fds)
            }
            Request::Signal { container, signal } => {
                let found = self.containers.get(&container).map(|c| c.started.pid);
                let reply = match found {
                    Some(pid) if sys::process::signal(pid, signal).is_ok() => Reply::Done,
                    _ => Reply::NotFound,
                };
                self.reply(client, &reply, &[]);
            }
            Request::ReopenLog { container } => {
                let reply =
                    match self.containers.get_mut(&container).map(|c| c.log.as_mut().map_or(Ok(()), Log::reopen)) {
                        Some(Ok(())) => Reply::Done,
                        Some(Err(e)) => Reply::Failed { message: format!("failed to reopen log: {e}") },
                        None => Reply::NotFound,
                    };
                self.reply(client, &reply, &[]);
            }
            Request::Sockets => {
                let open =
                    |family| socket(family, SockType::Stream, SockFlag::SOCK_NONBLOCK | SockFlag::SOCK_CLOEXEC, None);
                let sockets: Vec<OwnedFd> =
                    [AddressFamily::Inet, AddressFamily::Inet6].into_iter().filter_map(|f| open(f).ok()).collect();
                self.reply(client, &Reply::Done, &super::protocol::borrow(&sockets));
            }
            Request::Shutdown => {
                self.shut_down();
                self.reply(client, &Reply::Done, &[]);
                return true;
            }
        }
        false
    }

    fn attach(&mut self, client: u64, id: &str, stdin: bool, wanted: [bool; 2], fds: Vec<OwnedFd>) {
        let Some(container) = self.containers.get_mut(id) else {
            return self.reply(client, &Reply::NotFound, &[]);
        };
        let first = stdin && !std::mem::replace(&mut container.met, true);
        let mut fds = fds.into_iter();
        for (stream, wanted) in [Stream::Stdout, Stream::Stderr].into_iter().zip(wanted) {
            let Some(fd) = wanted.then(|| fds.next()).flatten() else {
                continue;
            };
            if set_nonblocking(&fd).is_ok()
                && let Some(output) = container.outputs.iter_mut().find(|o| o.stream == stream)
            {
                // The beginning of a line isn't in the log yet.
                let pending = if first { output.partial.bytes().to_vec() } else { Vec::new() };
                output.followers.push(Follower { client, fd, pending });
            }
        }
        let input = if let Some(master) = &container.master {
            master.try_clone().ok()
        } else if stdin && container.stdin_once {
            // Ours goes away, so that the client's end is the only one and closing it is the end of input.
            container.stdin.take()
        } else if stdin {
            container.stdin.as_ref().and_then(|fd| fd.try_clone().ok())
        } else {
            None
        };
        if let Some(peer) = self.clients.get_mut(&client) {
            peer.attached = Some(id.to_owned());
        }
        let riders: Vec<BorrowedFd<'_>> = input.iter().map(AsFd::as_fd).collect();
        let reply = match &container.log {
            Some(log) if first => Reply::AttachedFirst { logged: log.text() },
            _ => Reply::Attached,
        };
        self.reply(client, &reply, &riders);
    }

    // ---- starting ---------------------------------------------------------------------------------------------

    /// Forks with the pid namespace of `pid` (or ours) for the child.
    fn fork(&self, pid: PidMode, group: &str) -> Result<Fork, String> {
        let target = match pid {
            PidMode::Own | PidMode::Host => None,
            PidMode::Pod => Some(self.pod_init.ok_or("the pod has no shared pid namespace")?.as_raw()),
            PidMode::Of(pid) => Some(pid),
        };
        let describe = |e: io::Error| format!("fork: {e}");
        let directory = if self.cgroups.version() == cgroup::Version::V2 {
            let path = self.cgroups.directory("", group).ok_or("bad cgroup path")?;
            Some(File::open(path).map_err(|e| format!("unable to apply cgroup configuration: {e}"))?)
        } else {
            None
        };
        if let Some(pid) = target {
            let namespace =
                File::open(format!("/proc/{pid}/ns/pid")).map_err(|e| format!("open pid namespace: {e}"))?;
            setns(&namespace, CloneFlags::CLONE_NEWPID).map_err(|e| format!("enter pid namespace: {}", e.desc()))?;
        }
        let result = sys::process::fork(child::fork_flags(pid), directory.as_ref().map(AsFd::as_fd));
        if target.is_some() && matches!(result, Ok(Fork::Parent(_)) | Err(_)) {
            setns(&self.own_pid_namespace, CloneFlags::CLONE_NEWPID)
                .map_err(|e| format!("leave pid namespace: {}", e.desc()))?;
        }
        result.map_err(describe)
    }

    fn start(&mut self, client: u64, spec: &ContainerSpec) -> Result<(), String> {
        let text = |what: &'static str| move |e: io::Error| format!("{what}: {e}");
        if self.containers.contains_key(&spec.id)
            || self.starting.values().any(|s| s.container.is_some() && s.name == spec.id)
        {
            return Err("the container has been started already".to_owned());
        }
        let log = match &spec.log_path {
            Some(path) => Some(Log::open(path.clone()).map_err(text("open log"))?),
            None => None,
        };
        let filter = read_filter(&spec.process)?;
        let (ours, theirs) = UnixStream::pair().map_err(text("socketpair"))?;
        ours.set_nonblocking(true).map_err(text("socketpair"))?;
        let mut outputs = Vec::new();
        let mut streams: child::Streams = [None, None, None];
        let mut stdin = None;
        if !spec.process.tty {
            for (index, stream) in [(1, Stream::Stdout), (2, Stream::Stderr)] {
                let (read, write) = pipe()?;
                set_nonblocking(&read).map_err(text("pipe"))?;
                streams[index] = Some(write);
                outputs.push(Output { fd: read, stream, partial: Partial::default(), followers: Vec::new() });
            }
            if spec.stdin {
                let (read, write) = pipe()?;
                streams[0] = Some(read);
                stdin = Some(write);
            }
        }
        let pid = match self.fork(spec.pid, &spec.process.cgroup)? {
            Fork::Child => child::container(spec, &self.cgroups, filter.as_deref(), theirs.into(), streams),
            Fork::Parent(pid) => pid.as_raw(),
        };
        let container = Container {
            started: Started { container: spec.id.clone(), pid, ..Started::default() },
            cgroup: spec.process.cgroup.clone(),
            shared_pid: spec.pid != PidMode::Own,
            exit_path: spec.exit_path.clone(),
            log,
            outputs,
            stdin,
            stdin_once: spec.stdin_once,
            met: false,
            master: None,
        };
        let starting = Starting {
            client,
            sync: ours,
            inbox: Inbox::default(),
            report: None,
            master: None,
            container: Some(Box::new(container)),
            name: spec.id.clone(),
        };
        self.starting.insert(pid, starting);
        Ok(())
    }

    /// `false`: the container doesn't run.
    fn exec(&mut self, client: u64, id: &str, process: &ProcessSpec, streams: child::Streams) -> Result<bool, String> {
        let Some(container) = self.containers.get(id) else {
            return Ok(false);
        };
        let target = container.started.pid;
        let filter = read_filter(process)?;
        let (ours, theirs) = socketpair(AddressFamily::Unix, SockType::Stream, None, SockFlag::SOCK_CLOEXEC)
            .map_err(|e| e.to_string())?;
        let ours = UnixStream::from(ours);
        ours.set_nonblocking(true).map_err(|e| e.to_string())?;
        let mut namespaces = Vec::new();
        // The mount namespace last: after it, nothing of the host can be opened.
        for (name, kind) in [("cgroup", CloneFlags::CLONE_NEWCGROUP), ("mnt", CloneFlags::CLONE_NEWNS)] {
            let namespace =
                File::open(format!("/proc/{target}/ns/{name}")).map_err(|e| format!("open {name} namespace: {e}"))?;
            namespaces.push((namespace.into(), kind));
        }
        let pid = match self.fork(PidMode::Of(target), &process.cgroup)? {
            Fork::Child => child::exec(process, &namespaces, &self.cgroups, filter.as_deref(), theirs, streams),
            Fork::Parent(pid) => pid.as_raw(),
        };
        let starting = Starting {
            client,
            sync: ours,
            inbox: Inbox::default(),
            report: None,
            master: None,
            container: None,
            name: id.to_owned(),
        };
        self.starting.insert(pid, starting);
        Ok(true)
    }

    /// Reads what a starting child says; at the end of its stream it runs or has failed.
    fn hear_child(&mut self, pid: i32) {
        loop {
            let Some(starting) = self.starting.get_mut(&pid) else {
                return;
            };
            match starting.inbox.read::<Report>(starting.sync.as_fd()) {
                Ok(Received::Message(report, fds)) => {
                    starting.report = Some(report);
                    starting.master = fds.into_iter().next().or(starting.master.take());
                }
                Ok(Received::Pending) => return,
                Ok(Received::End) | Err(_) => break,
            }
        }
        let Some(starting) = self.starting.remove(&pid) else {
            return;
        };
        match starting.report {
            Some(Report::Ready { uid, gid, groups }) => {
                let started = Started { container: starting.name, pid, started_at_ns: now_ns(), uid, gid, groups };
                match starting.container {
                    Some(container) => self.container_runs(starting.client, *container, started, starting.master),
                    None => self.exec_runs(starting.client, started, starting.master),
                }
            }
            Some(Report::Failed(message)) => self.reply(starting.client, &Reply::Failed { message }, &[]),
            None => {
                let message = "the process died while it was being set up".to_owned();
                self.reply(starting.client, &Reply::Failed { message }, &[]);
            }
        }
    }

    fn container_runs(&mut self, client: u64, mut container: Container, started: Started, master: Option<OwnedFd>) {
        container.started = started.clone();
        if let Some(master) = master
            && set_nonblocking(&master).is_ok()
            && let Ok(reader) = master.try_clone()
        {
            container.outputs.push(Output {
                fd: reader,
                stream: Stream::Stdout,
                partial: Partial::default(),
                followers: Vec::new(),
            });
            container.master = Some(master);
        }
        self.containers.insert(started.container.clone(), container);
        // Also to subscribers: the one that asked may have died since.
        let mut listeners: Vec<u64> = self.clients.iter().filter(|(_, c)| c.subscribed).map(|(id, _)| *id).collect();
        listeners.push(client);
        let reply = Reply::Started(started);
        for listener in listeners {
            self.reply(listener, &reply, &[]);
        }
    }

    fn exec_runs(&mut self, client: u64, started: Started, master: Option<OwnedFd>) {
        let pid = started.pid;
        self.execs.insert(pid, client);
        if !self.clients.contains_key(&client) {
            return self.forget_client(client);
        }
        let riders: Vec<BorrowedFd<'_>> = master.iter().map(AsFd::as_fd).collect();
        self.reply(client, &Reply::Started(started), &riders);
    }

    // ---- output -----------------------------------------------------------------------------------------------

    /// Moves what a container has written to its log and its followers. Returns whether there may be more.
    fn pump_once(container: &mut Container, index: usize) -> Option<bool> {
        let mut buffer = [0u8; 32 * 1024];
        let output = container.outputs.get_mut(index)?;
        match nix::unistd::read(&output.fd, &mut buffer) {
            Ok(n) if n > 0 => {
                let bytes = buffer.get(..n)?;
                if let Some(log) = &mut container.log {
                    log.write(output.stream, &mut output.partial, bytes, &timestamp());
                }
                output.followers.retain_mut(|follower| {
                    follower.pending.extend_from_slice(bytes);
                    follower.flush()
                });
                Some(true)
            }
            Err(nix::errno::Errno::EAGAIN) => Some(false),
            Err(nix::errno::Errno::EINTR) => Some(true),
            // The end; a terminal says EIO when its last user has closed it.
            _ => None,
        }
    }

    fn pump(&mut self, id: &str, index: usize) {
        let Some(container) = self.containers.get_mut(id) else {
            return;
        };
        if Self::pump_once(container, index).is_none() && index < container.outputs.len() {
            let mut output = container.outputs.remove(index);
            if let Some(log) = &mut container.log {
                log.finish(output.stream, &mut output.partial, &timestamp());
            }
        }
    }

    fn flush_follower(&mut self, id: &str, index: usize, client: u64) {
        if let Some(output) = self.containers.get_mut(id).and_then(|c| c.outputs.get_mut(index)) {
            output.followers.retain_mut(|f| f.client != client || f.flush());
        }
    }

    // ---- ends -------------------------------------------------------------------------------------------------

    /// Every child that has ended, ours or adopted.
    fn reap(&mut self) {
        loop {
            let (pid, code, signal) = match waitpid(None, Some(WaitPidFlag::WNOHANG)) {
                Ok(WaitStatus::Exited(pid, code)) => (pid.as_raw(), code, 0),
                Ok(WaitStatus::Signaled(pid, signal, _)) => (pid.as_raw(), 128 + signal as i32, signal as i32),
                Ok(WaitStatus::StillAlive) => return,
                Ok(_) | Err(nix::errno::Errno::EINTR) => continue,
                // A real-time signal killed it; nix has no name for those, and the child is reaped.
                Err(nix::errno::Errno::EINVAL) => continue,
                Err(_) => return,
            };
            // It may have run its program and ended before we heard that it had begun.
            if self.starting.contains_key(&pid) {
                self.hear_child(pid);
            }
            if let Some(client) = self.execs.remove(&pid) {
                let exit = Exit { exit_code: code, signal, finished_at_ns: now_ns(), ..Exit::default() };
                self.reply(client, &Reply::Exited(exit), &[]);
                self.clients.remove(&client);
            }
            let ended = self.containers.iter().find(|(_, c)| c.started.pid == pid).map(|(id, _)| id.clone());
            if let Some(container) = ended.and_then(|id| self.containers.remove(&id)) {
                self.container_ended(container, code, signal);
            }
        }
    }

    fn container_ended(&mut self, mut container: Container, exit_code: i32, signal: i32) {
        let finished_at_ns = now_ns();
        if container.shared_pid {
            // In a namespace of its own the kernel has killed the rest; here others of this container may live on.
            let _ = self.cgroups.kill(&container.cgroup, Duration::from_secs(2));
        }
        for index in 0..container.outputs.len() {
            while let Some(true) = Self::pump_once(&mut container, index) {}
        }
        let now = timestamp();
        for output in &mut container.outputs {
            if let Some(log) = &mut container.log {
                log.finish(output.stream, &mut output.partial, &now);
            }
            for follower in &mut output.followers {
                follower.flush_until(Instant::now() + Duration::from_millis(FLUSH_MS.into()));
            }
        }
        let oom_killed = self.cgroups.stats(&container.cgroup).is_ok_and(|stats| stats.oom_kills > 0);
        let exit = Exit {
            container: container.started.container.clone(),
            exit_code,
            signal,
            oom_killed,
            started: container.started.clone(),
            finished_at_ns,
            failure: None,
        };
        // Before anyone hears of it, so that a runtime that starts a moment later reads the same.
        let _ = crate::state::write(&container.exit_path, &exit, Durability::Disk);
        let cgroup = container.cgroup.clone();
        let id = exit.container.clone();
        drop(container);
        let listeners: Vec<u64> = self
            .clients
            .iter()
            .filter(|(_, c)| c.subscribed || c.attached.as_ref() == Some(&id))
            .map(|(client, _)| *client)
            .collect();
        let reply = Reply::Exited(exit);
        for client in listeners {
            self.reply(client, &reply, &[]);
        }
        let _ = self.cgroups.remove(&cgroup);
    }

    fn shut_down(&mut self) {
        let until = Instant::now() + Duration::from_secs(10);
        loop {
            self.reap();
            let pids: Vec<i32> = self
                .containers
                .values()
                .map(|c| c.started.pid)
                .chain(self.starting.keys().copied())
                .chain(self.execs.keys().copied())
                .collect();
            if pids.is_empty() || Instant::now() > until {
                break;
            }
            for pid in pids {
                let _ = sys::process::signal(pid, libc::SIGKILL);
            }
            let mut fds = [PollFd::new(self.signals.as_fd(), PollFlags::POLLIN)];
            let _ = poll(&mut fds, PollTimeout::from(50u16));
            while let Ok(Some(_)) = self.signals.read_signal() {}
        }
        if let Some(init) = self.pod_init {
            let _ = sys::process::signal(init.as_raw(), libc::SIGKILL);
            let _ = waitpid(init, None);
        }
        let _ = std::fs::remove_file(super::SOCKET);
    }
}

impl Follower {
    /// Writes what the reader takes. `false`: it has gone.
    fn flush(&mut self) -> bool {
        while !self.pending.is_empty() {
            match nix::unistd::write(&self.fd, &self.pending) {
                Ok(n) => drop(self.pending.drain(..n)),
                Err(nix::errno::Errno::EAGAIN) => return true,
                Err(nix::errno::Errno::EINTR) => {}
                Err(_) => return false,
            }
        }
        self.pending = Vec::new();
        true
    }

    fn flush_until(&mut self, deadline: Instant) {
        while self.flush() && !self.pending.is_empty() && Instant::now() < deadline {
            let mut fds = [PollFd::new(self.fd.as_fd(), PollFlags::POLLOUT)];
            let _ = poll(&mut fds, PollTimeout::from(FLUSH_MS));
        }
    }
}

fn read_filter(process: &ProcessSpec) -> Result<Option<Vec<u8>>, String> {
    match &process.seccomp {
        Some(path) => std::fs::read(path).map(Some).map_err(|e| format!("read seccomp filter {}: {e}", path.display())),
        None => Ok(None),
    }
}

fn pipe() -> Result<(OwnedFd, OwnedFd), String> {
    nix::unistd::pipe2(OFlag::O_CLOEXEC).map_err(|e| format!("pipe: {}", e.desc()))
}

fn set_nonblocking(fd: &OwnedFd) -> io::Result<()> {
    let flags = OFlag::from_bits_retain(fcntl(fd, FcntlArg::F_GETFL)?);
    fcntl(fd, FcntlArg::F_SETFL(flags | OFlag::O_NONBLOCK))?;
    Ok(())
}

/// Process 1 of a pid namespace that the pod's containers share (upstream: `pause`): it adopts and reaps.
fn start_pod_init() -> io::Result<Pid> {
    match sys::process::fork(CloneFlags::CLONE_NEWPID, None)? {
        Fork::Parent(pid) => Ok(pid),
        Fork::Child => {
            let _ = nix::sys::prctl::set_name(c"pause");
            let _ = nix::sys::prctl::set_pdeathsig(Signal::SIGKILL);
            if let Ok(null) = File::open("/dev/null") {
                for number in 0..3 {
                    let _ = sys::terminal::become_standard(null.as_fd(), number);
                }
            }
            sys::process::close_from_in_fork(3);
            let mut child = SigSet::empty();
            child.add(Signal::SIGCHLD);
            let _ = child.thread_block();
            loop {
                while let Ok(status) = waitpid(None, Some(WaitPidFlag::WNOHANG)) {
                    if status == WaitStatus::StillAlive {
                        break;
                    }
                }
                let _ = child.wait();
            }
        }
    }
}
