//! A blocking netlink socket: one request at a time, answered by an acknowledgement or a dump.

use super::message::{self, Attributes, Message};
use super::{Error, Result};
use nix::sys::socket::{self as nixsock, AddressFamily, MsgFlags, NetlinkAddr, SockFlag, SockProtocol, SockType};
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};

/// The kernel's word for its extended error text (`NLMSGERR_ATTR_MSG`).
const NLMSGERR_ATTR_MSG: u16 = 1;

#[derive(Debug)]
pub struct Socket {
    fd: OwnedFd,
    sequence: u32,
    buffer: Vec<u8>,
}

impl Socket {
    /// A routing socket in the calling thread's network namespace.
    pub fn route() -> Result<Socket> {
        Socket::open(SockProtocol::NetlinkRoute)
    }

    /// An nftables and conntrack socket in the calling thread's network namespace.
    pub fn netfilter() -> Result<Socket> {
        Socket::open(SockProtocol::NetlinkNetFilter)
    }

    fn open(protocol: SockProtocol) -> Result<Socket> {
        let fail = |what| move |e: nix::Error| Error::Socket { what, source: e.into() };
        let fd = nixsock::socket(AddressFamily::Netlink, SockType::Raw, SockFlag::SOCK_CLOEXEC, protocol)
            .map_err(fail("open netlink socket"))?;
        nixsock::bind(fd.as_raw_fd(), &NetlinkAddr::new(0, 0)).map_err(fail("bind netlink socket"))?;
        // Extended errors say which attribute was wrong; without them there is only an errno. CAP_ACK keeps the
        // kernel from echoing a whole batch with every error.
        for option in [libc::NETLINK_EXT_ACK, libc::NETLINK_CAP_ACK] {
            let _ = set_option(fd.as_fd(), libc::SOL_NETLINK, option, 1);
        }
        Ok(Socket { fd, sequence: 1, buffer: vec![0; 64 << 10] })
    }

    /// Room for big batches; beyond the system's limit where privileges allow.
    pub fn set_buffers(&self, bytes: usize) {
        let bytes = bytes as libc::c_int;
        for (forced, plain) in [(libc::SO_SNDBUFFORCE, libc::SO_SNDBUF), (libc::SO_RCVBUFFORCE, libc::SO_RCVBUF)] {
            if set_option(self.fd.as_fd(), libc::SOL_SOCKET, forced, bytes).is_err() {
                let _ = set_option(self.fd.as_fd(), libc::SOL_SOCKET, plain, bytes);
            }
        }
    }

    pub fn next_sequence(&mut self) -> u32 {
        self.sequence = self.sequence.wrapping_add(1).max(1);
        self.sequence
    }

    /// Sends a request that wants an acknowledgement and waits for it.
    pub fn request(&mut self, what: &str, mut message: Message) -> Result<()> {
        let sequence = self.next_sequence();
        message.set_sequence(sequence);
        message.finish();
        self.send(&message.bytes)?;
        self.receive(what, sequence, |_| {})
    }

    /// Sends a request and hands every answer's payload (fixed part and attributes) to `each`, until the kernel says done.
    pub fn dump(&mut self, what: &str, mut message: Message, each: impl FnMut(&[u8])) -> Result<()> {
        let sequence = self.next_sequence();
        message.set_sequence(sequence);
        message.finish();
        self.send(&message.bytes)?;
        self.receive(what, sequence, each)
    }

    pub fn send(&self, bytes: &[u8]) -> Result<()> {
        loop {
            return match nixsock::send(self.fd.as_raw_fd(), bytes, MsgFlags::empty()) {
                Ok(_) => Ok(()),
                Err(nix::Error::EINTR) => continue,
                Err(e) => Err(Error::Socket { what: "send netlink request", source: e.into() }),
            };
        }
    }

    /// Reads until the acknowledgement or end of dump of `sequence`.
    fn receive(&mut self, what: &str, sequence: u32, mut each: impl FnMut(&[u8])) -> Result<()> {
        loop {
            let len = self.receive_datagram(true)?;
            for received in message::split(&self.buffer[..len]) {
                if received.sequence != sequence {
                    continue;
                }
                match received.kind {
                    message::NLMSG_DONE => return Ok(()),
                    message::NLMSG_ERROR => return acknowledgement(received, || what.to_string()),
                    _ => each(received.payload),
                }
            }
        }
    }

    /// Reads one datagram into the buffer. Non-blocking reads give 0 when nothing waits.
    fn receive_datagram(&mut self, block: bool) -> Result<usize> {
        let flags = if block { MsgFlags::empty() } else { MsgFlags::MSG_DONTWAIT };
        loop {
            return match nixsock::recv(self.fd.as_raw_fd(), &mut self.buffer, flags) {
                Ok(len) => Ok(len),
                Err(nix::Error::EINTR) => continue,
                Err(nix::Error::EAGAIN) if !block => Ok(0),
                Err(e) => Err(Error::Socket { what: "receive netlink answer", source: e.into() }),
            };
        }
    }

    /// Sends a batch whose last message wants an acknowledgement, and gathers the first error of any message in it.
    /// `describe` names the message with a given sequence number.
    pub fn batch(&mut self, bytes: &[u8], last: u32, describe: impl Fn(u32) -> String) -> Result<()> {
        self.send(bytes)?;
        let mut failure: Option<Error> = None;
        // The kernel answers while it works off the batch inside send(), so everything is already queued;
        // a failed batch may lack the last acknowledgement, hence no blocking once anything came back.
        let mut block = true;
        loop {
            let len = self.receive_datagram(block)?;
            if len == 0 {
                break;
            }
            for received in message::split(&self.buffer[..len]) {
                if received.kind != message::NLMSG_ERROR {
                    continue;
                }
                let done = received.sequence == last;
                match acknowledgement(received, || describe(received.sequence)) {
                    Ok(()) if done => block = false,
                    Ok(()) => {}
                    Err(e) => {
                        failure.get_or_insert(e);
                        block = false;
                    }
                }
            }
        }
        failure.map_or(Ok(()), Err)
    }
}

impl AsFd for Socket {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

/// Reads an `NLMSG_ERROR`: code 0 is success.
fn acknowledgement(received: message::Received<'_>, what: impl FnOnce() -> String) -> Result<()> {
    let code = received.payload.get(..4).and_then(|b| b.try_into().ok()).map(i32::from_ne_bytes);
    let Some(code) = code else {
        return Err(Error::Malformed { what: what() });
    };
    if code == 0 {
        return Ok(());
    }
    let mut detail = String::new();
    if received.flags & message::NLM_F_ACK_TLVS != 0 {
        // The attributes follow the copy of the request (its header alone when capped).
        let mut at = 4 + message::HEADER_LEN;
        if received.flags & message::NLM_F_CAPPED == 0 {
            let request = received.payload.get(4..8).and_then(|b| b.try_into().ok()).map_or(0, u32::from_ne_bytes);
            at = 4 + (request as usize).next_multiple_of(4);
        }
        if let Some(text) = received.payload.get(at..).and_then(|rest| Attributes::new(rest).find(NLMSGERR_ATTR_MSG)) {
            detail = text.str().to_string();
        }
    }
    Err(Error::Kernel { what: what(), source: io::Error::from_raw_os_error(code.wrapping_neg()), detail })
}

fn set_option(fd: BorrowedFd<'_>, level: libc::c_int, option: libc::c_int, value: libc::c_int) -> io::Result<()> {
    #[expect(unsafe_code, reason = "netlink and SO_*BUFFORCE options that nix has no wrapper for")]
    // SAFETY: the descriptor is borrowed and thus open; the pointer and the length describe a live c_int.
    let rc = unsafe {
        libc::setsockopt(
            fd.as_raw_fd(),
            level,
            option,
            (&raw const value).cast(),
            size_of::<libc::c_int>() as libc::socklen_t,
        )
    };
    if rc == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

/// Runs `work` on a thread of its own inside a network namespace, so that the caller's thread never changes its own.
/// Sockets opened by `work` stay in that namespace wherever they are used later; `/proc/sys/net` is that namespace's.
pub fn in_netns<T: Send>(netns: BorrowedFd<'_>, work: impl FnOnce() -> T + Send) -> io::Result<T> {
    std::thread::scope(|scope| {
        let thread = std::thread::Builder::new().name("netns".into()).spawn_scoped(scope, move || {
            nix::sched::setns(netns, nix::sched::CloneFlags::CLONE_NEWNET)?;
            Ok(work())
        })?;
        match thread.join() {
            Ok(result) => result,
            Err(panic) => std::panic::resume_unwind(panic),
        }
    })
}
